//! What a node is told when it writes to files that a fault is about.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::text::{self, Text};
use crate::{PROBE_FILE, Page, chosen, glob};

/// What a fault does to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum DiskMode {
    /// Whatever changes or syncs a file fails with `EIO`.
    Eio = 1,
    /// Whatever needs room fails with `ENOSPC`.
    Enospc = 2,
    /// A write writes less than it was given.
    ShortWrite = 3,
    /// A sync succeeds and does nothing.
    LyingFsync = 4,
    /// It is over, and what it would have been about is counted: how the core sees the heal.
    Over = 5,
}

impl DiskMode {
    fn read(number: u32) -> Option<DiskMode> {
        use DiskMode::{Eio, Enospc, LyingFsync, Over, ShortWrite};
        [Eio, Enospc, ShortWrite, LyingFsync, Over].into_iter().find(|m| *m as u32 == number)
    }

    fn verdict(self, operation: Operation) -> Verdict {
        use Operation::{Allocate, Create, Name, Sync, Truncate, Write};
        match (self, operation) {
            (DiskMode::Eio, _) => Verdict::Fail(libc::EIO),
            (DiskMode::Enospc, Write | Allocate | Create) => Verdict::Fail(libc::ENOSPC),
            (DiskMode::ShortWrite, Write) => Verdict::Short,
            (DiskMode::LyingFsync, Sync) => Verdict::Lie,
            (DiskMode::Enospc, Sync | Truncate | Name)
            | (DiskMode::ShortWrite | DiskMode::LyingFsync | DiskMode::Over, _) => Verdict::Real,
        }
    }
}

/// What a node wants to do to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Put bytes into it.
    Write,
    /// Reserve room for it.
    Allocate,
    /// Make it durable.
    Sync,
    /// Set its length.
    Truncate,
    /// Open one that is not there.
    Create,
    /// Rename or remove it.
    Name,
}

/// What it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The truth.
    Real,
    /// This `errno`.
    Fail(i32),
    /// Half of it is done.
    Short,
    /// Success, and nothing was done.
    Lie,
}

/// A fault of the disk in the page.
#[repr(C)]
#[derive(Debug)]
pub struct DiskSlot {
    /// Odd while the rest is being written; another one for each fault.
    generation: AtomicU64,
    fault: AtomicU64,
    deadline_ns: AtomicU64,
    mode: AtomicU32,
    spare: AtomicU32,
    faked: AtomicU64,
    passed: AtomicU64,
    patterns: Text,
}

impl DiskSlot {
    fn judge(&self, path: &[u8], operation: Operation, monotonic_ns: u64) -> Verdict {
        let before = self.generation.load(Ordering::Acquire);
        let mode = DiskMode::read(self.mode.load(Ordering::Relaxed));
        let deadline_ns = self.deadline_ns.load(Ordering::Relaxed);
        let patterns = self.patterns.copy();
        fence(Ordering::Acquire);
        let torn = before % 2 == 1 || before != self.generation.load(Ordering::Relaxed);
        let Some(mode) = mode.filter(|_| !torn && monotonic_ns < deadline_ns) else {
            return Verdict::Real;
        };
        if path != PROBE_FILE.as_bytes() && !text::parts(&patterns).any(|p| glob::fits(p, path)) {
            return Verdict::Real;
        }
        let verdict = mode.verdict(operation);
        let counter = if verdict == Verdict::Real { &self.passed } else { &self.faked };
        counter.fetch_add(1, Ordering::Relaxed);
        verdict
    }

    fn of(&self, fault: u64) -> bool {
        self.fault.load(Ordering::Relaxed) == fault
    }
}

/// What was done to files that a fault is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// What was answered with something else than the truth.
    pub faked: u64,
    /// What was let pass; since it was over, if it is.
    pub passed: u64,
}

impl Page {
    /// What a node gets that does this to a file, by its path below the data folder.
    pub fn judge(&self, path: &[u8], operation: Operation, monotonic_ns: u64) -> Verdict {
        chosen(&self.disk, self.disk_active.load(Ordering::Acquire))
            .map(|(_, slot)| slot.judge(path, operation, monotonic_ns))
            // All of them count; what is worst happens.
            .fold(Verdict::Real, |worst, verdict| match (worst, verdict) {
                (Verdict::Fail(_), _) | (_, Verdict::Real) => worst,
                _ => verdict,
            })
    }

    /// Begins a fault of the disk; it ends at `deadline_ns` of `CLOCK_MONOTONIC` if it was not ended before.
    ///
    /// # Errors
    /// What there is too much of: faults or patterns.
    pub fn begin_disk(
        &self,
        fault: u64,
        mode: DiskMode,
        patterns: &[String],
        deadline_ns: u64,
    ) -> Result<(), &'static str> {
        let active = self.disk_active.load(Ordering::Relaxed);
        let over = |slot: &DiskSlot| slot.mode.load(Ordering::Relaxed) == DiskMode::Over as u32;
        let free = chosen(&self.disk, !active).next();
        let Some((number, slot)) =
            free.or_else(|| chosen(&self.disk, active).find(|(_, s)| over(s)))
        else {
            return Err("too many faults of the disk overlap on this node");
        };
        self.disk_active.fetch_and(!(1 << number), Ordering::Release);
        let generation = slot.generation.load(Ordering::Relaxed) & !1;
        slot.generation.store(generation + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let fits = slot.patterns.write(patterns.iter().map(String::as_bytes));
        slot.fault.store(fault, Ordering::Relaxed);
        slot.mode.store(mode as u32, Ordering::Relaxed);
        slot.deadline_ns.store(deadline_ns, Ordering::Relaxed);
        slot.faked.store(0, Ordering::Relaxed);
        slot.passed.store(0, Ordering::Relaxed);
        slot.generation.store(generation + 2, Ordering::Release);
        if !fits {
            return Err("the patterns of `files` are too long: 1022 bytes at most, all together");
        }
        self.disk_active.fetch_or(1 << number, Ordering::Release);
        Ok(())
    }

    /// Lets everything pass that this fault is about, and counts it until `deadline_ns`.
    pub fn end_disk(&self, fault: u64, deadline_ns: u64) {
        let active = self.disk_active.load(Ordering::Relaxed);
        for (_, slot) in chosen(&self.disk, active).filter(|(_, slot)| slot.of(fault)) {
            slot.mode.store(DiskMode::Over as u32, Ordering::Release);
            slot.passed.store(0, Ordering::Relaxed);
            slot.deadline_ns.store(deadline_ns, Ordering::Release);
        }
    }

    /// Forgets this fault, or all of them: its counts are gone too.
    pub fn forget_disk(&self, fault: Option<u64>) {
        let active = self.disk_active.load(Ordering::Relaxed);
        for (number, slot) in chosen(&self.disk, active) {
            if fault.is_none_or(|fault| slot.of(fault)) {
                self.disk_active.fetch_and(!(1 << number), Ordering::Release);
            }
        }
    }

    /// What was done to the files of a fault; `None` if it is forgotten.
    pub fn disk_counts(&self, fault: u64) -> Option<Counts> {
        let active = self.disk_active.load(Ordering::Acquire);
        let (_, slot) = chosen(&self.disk, active).find(|(_, slot)| slot.of(fault))?;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(Counts { faked: read(&slot.faked), passed: read(&slot.passed) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::map::tests::page;

    #[test]
    fn a_fault_is_about_its_files_and_operations_and_time() {
        let (_folder, page) = page();
        let patterns = ["**/*.DCD".to_owned(), "x".to_owned()];
        page.begin_disk(1, DiskMode::Enospc, &patterns, 100).unwrap();
        let judge = |path: &str, operation| page.judge(path.as_bytes(), operation, 50);
        assert_eq!(judge("M/t.DCD", Operation::Write), Verdict::Fail(libc::ENOSPC));
        assert_eq!(judge("x", Operation::Create), Verdict::Fail(libc::ENOSPC));
        assert_eq!(judge("x", Operation::Sync), Verdict::Real);
        assert_eq!(judge("y", Operation::Write), Verdict::Real);
        assert_eq!(page.judge(b"x", Operation::Write, 100), Verdict::Real);
        assert_eq!(page.disk_counts(1), Some(Counts { faked: 2, passed: 1 }));

        page.begin_disk(2, DiskMode::Eio, &["x".to_owned()], 100).unwrap();
        assert_eq!(judge("x", Operation::Sync), Verdict::Fail(libc::EIO));
        page.begin_disk(3, DiskMode::LyingFsync, &["y".to_owned()], 100).unwrap();
        assert_eq!(judge("y", Operation::Sync), Verdict::Lie);
        page.begin_disk(4, DiskMode::ShortWrite, &["y".to_owned()], 100).unwrap();
        assert_eq!(judge("y", Operation::Write), Verdict::Short);

        page.end_disk(1, 200);
        assert_eq!(judge("t.DCD", Operation::Write), Verdict::Real);
        assert_eq!(page.disk_counts(1).unwrap().passed, 1);
        page.forget_disk(Some(1));
        assert_eq!(page.disk_counts(1), None);
        assert_eq!(judge(PROBE_FILE, Operation::Write), Verdict::Fail(libc::EIO));
        page.forget_disk(None);
        assert_eq!(judge("x", Operation::Write), Verdict::Real);
    }

    #[test]
    fn there_is_room_for_so_many_and_what_is_over_makes_room() {
        let (_folder, page) = page();
        let one = ["**".to_owned()];
        for id in 0..crate::DISK_SLOTS as u64 {
            page.begin_disk(id, DiskMode::LyingFsync, &one, 10).unwrap();
        }
        assert!(page.begin_disk(99, DiskMode::Eio, &one, 10).unwrap_err().contains("too many"));
        page.end_disk(4, 10);
        page.begin_disk(99, DiskMode::Eio, &one, 10).unwrap();
        assert_eq!(page.disk_counts(4), None);
        page.forget_disk(None);
        let long = ["x".repeat(2000)];
        assert!(page.begin_disk(1, DiskMode::Eio, &long, 10).unwrap_err().contains("1022 bytes"));
        assert_eq!(page.disk_counts(1), None);
    }
}
