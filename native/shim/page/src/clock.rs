//! How far the wall clock of a node is off: a sum over the faults that are active.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering, fence};

use crate::{Page, chosen};

/// What a fault does to the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockMode {
    /// It is off by so much.
    Jump {
        /// Nanoseconds; negative is back.
        offset_ns: i64,
    },
    /// It is off by so much for one period, and right for the next.
    Strobe {
        /// Nanoseconds; negative is back.
        offset_ns: i64,
        /// Nanoseconds that it stays on either side.
        period_ns: u64,
    },
    /// It is right at first, and runs at another rate.
    Drift {
        /// Millionths; negative is slower.
        ppm: i64,
    },
}

impl ClockMode {
    /// How far the clock is off so long after the fault began.
    pub fn offset_ns(self, since_ns: u64) -> i64 {
        match self {
            ClockMode::Jump { offset_ns } => offset_ns,
            ClockMode::Strobe { offset_ns, period_ns } => {
                if (since_ns / period_ns.max(1)).is_multiple_of(2) { offset_ns } else { 0 }
            }
            // An `i64` holds what 2 % make of fourteen years.
            ClockMode::Drift { ppm } => (i128::from(since_ns) * i128::from(ppm) / 1_000_000) as i64,
        }
    }
}

/// A fault of the clock in the page.
#[repr(C)]
#[derive(Debug)]
pub struct ClockSlot {
    /// Odd while the rest is being written; another one for each fault.
    generation: AtomicU64,
    fault: AtomicU64,
    mode: AtomicU32,
    spare: AtomicU32,
    offset_ns: AtomicI64,
    period_ns: AtomicU64,
    ppm: AtomicI64,
    start_ns: AtomicU64,
    deadline_ns: AtomicU64,
}

const JUMP: u32 = 1;
const STROBE: u32 = 2;
const DRIFT: u32 = 3;

impl ClockSlot {
    /// The offset at this time of `CLOCK_MONOTONIC`; 0 outside of the time of the fault, or while it is written.
    fn offset_ns(&self, monotonic_ns: u64) -> i64 {
        let before = self.generation.load(Ordering::Acquire);
        let mode = self.read_mode();
        let start_ns = self.start_ns.load(Ordering::Relaxed);
        let deadline_ns = self.deadline_ns.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let torn = before % 2 == 1 || before != self.generation.load(Ordering::Relaxed);
        let Some(mode) = mode.filter(|_| !torn) else { return 0 };
        if (start_ns..deadline_ns).contains(&monotonic_ns) {
            mode.offset_ns(monotonic_ns - start_ns)
        } else {
            0
        }
    }

    fn read_mode(&self) -> Option<ClockMode> {
        let offset_ns = self.offset_ns.load(Ordering::Relaxed);
        match self.mode.load(Ordering::Relaxed) {
            JUMP => Some(ClockMode::Jump { offset_ns }),
            STROBE => {
                let period_ns = self.period_ns.load(Ordering::Relaxed);
                Some(ClockMode::Strobe { offset_ns, period_ns })
            }
            DRIFT => Some(ClockMode::Drift { ppm: self.ppm.load(Ordering::Relaxed) }),
            _ => None,
        }
    }

    fn write(&self, fault: u64, mode: ClockMode, start_ns: u64, deadline_ns: u64) {
        let generation = self.generation.load(Ordering::Relaxed) & !1;
        self.generation.store(generation + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let (kind, offset_ns, period_ns, ppm) = match mode {
            ClockMode::Jump { offset_ns } => (JUMP, offset_ns, 0, 0),
            ClockMode::Strobe { offset_ns, period_ns } => (STROBE, offset_ns, period_ns, 0),
            ClockMode::Drift { ppm } => (DRIFT, 0, 0, ppm),
        };
        self.fault.store(fault, Ordering::Relaxed);
        self.mode.store(kind, Ordering::Relaxed);
        self.offset_ns.store(offset_ns, Ordering::Relaxed);
        self.period_ns.store(period_ns, Ordering::Relaxed);
        self.ppm.store(ppm, Ordering::Relaxed);
        self.start_ns.store(start_ns, Ordering::Relaxed);
        self.deadline_ns.store(deadline_ns, Ordering::Relaxed);
        self.generation.store(generation + 2, Ordering::Release);
    }
}

impl Page {
    /// How far the wall clock is off at this time of `CLOCK_MONOTONIC`, by all faults together.
    pub fn clock_offset_ns(&self, monotonic_ns: u64) -> i64 {
        chosen(&self.clock, self.clock_active.load(Ordering::Acquire))
            .fold(0i64, |sum, (_, slot)| sum.saturating_add(slot.offset_ns(monotonic_ns)))
    }

    /// How far a fault alone makes it be off.
    pub fn clock_offset_of_ns(&self, fault: u64, monotonic_ns: u64) -> i64 {
        chosen(&self.clock, self.clock_active.load(Ordering::Acquire))
            .filter(|(_, slot)| slot.fault.load(Ordering::Relaxed) == fault)
            .fold(0i64, |sum, (_, slot)| sum.saturating_add(slot.offset_ns(monotonic_ns)))
    }

    /// Begins a fault of the clock, at `start_ns` of `CLOCK_MONOTONIC`; it ends at `deadline_ns` if it was not ended
    /// before. False if too many overlap.
    pub fn begin_clock(
        &self,
        fault: u64,
        mode: ClockMode,
        start_ns: u64,
        deadline_ns: u64,
    ) -> bool {
        let active = self.clock_active.load(Ordering::Relaxed);
        let Some((number, slot)) = chosen(&self.clock, !active).next() else { return false };
        slot.write(fault, mode, start_ns, deadline_ns);
        self.clock_active.fetch_or(1 << number, Ordering::Release);
        true
    }

    /// Ends those faults of the clock, or all of them; how many there were.
    pub fn end_clock(&self, fault: Option<u64>) -> usize {
        let active = self.clock_active.load(Ordering::Relaxed);
        let ended = chosen(&self.clock, active)
            .filter(|(_, slot)| fault.is_none_or(|id| slot.fault.load(Ordering::Relaxed) == id))
            .map(|(number, _)| self.clock_active.fetch_and(!(1 << number), Ordering::Release));
        ended.count()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::map::tests::page;

    #[test]
    fn offsets_add_up_end_by_themselves_and_are_taken_back() {
        let (_folder, page) = page();
        assert_eq!(page.clock_offset_ns(5), 0);
        assert!(page.begin_clock(1, ClockMode::Jump { offset_ns: -1_000 }, 100, 200));
        let strobe = ClockMode::Strobe { offset_ns: 7, period_ns: 10 };
        assert!(page.begin_clock(2, strobe, 100, 150));
        let at = |ns| page.clock_offset_ns(ns);
        assert_eq!([at(99), at(100), at(109), at(110), at(120)], [0, -993, -993, -1000, -993]);
        assert_eq!([at(150), at(199), at(200)], [-1000, -1000, 0]);
        assert_eq!(page.clock_offset_of_ns(2, 100), 7);
        assert_eq!(page.end_clock(Some(1)), 1);
        assert_eq!(page.end_clock(Some(1)), 0);
        assert_eq!(at(100), 7);
        assert!(page.begin_clock(3, ClockMode::Drift { ppm: -20_000 }, 0, u64::MAX));
        assert_eq!(at(1_000_000_000), -20_000_000);
        assert_eq!(page.end_clock(None), 2);
        assert_eq!(at(120), 0);
    }

    #[test]
    fn there_is_room_for_so_many_and_for_others_when_they_end() {
        let (_folder, page) = page();
        let jump = ClockMode::Jump { offset_ns: 1 };
        for id in 0..crate::CLOCK_SLOTS as u64 {
            assert!(page.begin_clock(id, jump, 0, 10));
        }
        assert!(!page.begin_clock(99, jump, 0, 10));
        assert_eq!(page.clock_offset_ns(1), crate::CLOCK_SLOTS as i64);
        page.end_clock(Some(3));
        assert!(page.begin_clock(99, jump, 0, 10));
    }

    #[test]
    fn a_reader_never_sees_half_of_a_fault() {
        let (_folder, page) = page();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = [0u64; 3];
                while !over.load(Ordering::Relaxed) {
                    match page.clock_offset_ns(1_000_000_000) {
                        0 => seen[0] += 1,
                        5_000_000_000 => seen[1] += 1,
                        -20_000_000 => seen[2] += 1,
                        other => panic!("half of a fault: {other}"),
                    }
                }
                seen
            });
            for _ in 0..200_000 {
                page.begin_clock(1, ClockMode::Jump { offset_ns: 5_000_000_000 }, 0, u64::MAX);
                page.end_clock(Some(1));
                page.begin_clock(2, ClockMode::Drift { ppm: -20_000 }, 0, u64::MAX);
                page.end_clock(Some(2));
            }
            over.store(true, Ordering::Relaxed);
            assert!(reader.join().unwrap().iter().sum::<u64>() > 0);
        });
    }
}
