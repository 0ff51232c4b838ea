//! Counters of one channel of one directed link, written by its pumps and read by `stats`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::protocol::LinkCounts;

/// See [`LinkCounts`] for the meaning of each.
#[derive(Debug, Default)]
pub struct Counters {
    pub open: Count,
    pub attempts_waiting: Count,
    pub opened: Count,
    pub closed: Count,
    pub closed_by_fault: Count,
    pub half_opened: Count,
    pub connect_failed: Count,
    pub lookups_refused: Count,
    pub bytes_in: Count,
    pub bytes_passed: Count,
    pub frames_passed: Count,
    pub ticks_passed: Count,
    pub ticks_dropped: Count,
    pub ticks_forged: Count,
    pub messages_dropped: Count,
    pub messages_delayed: Count,
    pub bytes_held: Count,
    pub bytes_discarded: Count,
    pub postponed: Count,
    pub last_data_monotonic_ns: Count,
    pub last_tick_monotonic_ns: Count,
}

/// One counter. Relaxed: the lock of the gate orders what must be ordered.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn take(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// All of them now.
    pub fn read(&self) -> LinkCounts {
        LinkCounts {
            open: self.open.get(),
            attempts_waiting: self.attempts_waiting.get(),
            opened: self.opened.get(),
            closed: self.closed.get(),
            closed_by_fault: self.closed_by_fault.get(),
            half_opened: self.half_opened.get(),
            connect_failed: self.connect_failed.get(),
            lookups_refused: self.lookups_refused.get(),
            bytes_in: self.bytes_in.get(),
            bytes_passed: self.bytes_passed.get(),
            frames_passed: self.frames_passed.get(),
            ticks_passed: self.ticks_passed.get(),
            ticks_dropped: self.ticks_dropped.get(),
            ticks_forged: self.ticks_forged.get(),
            messages_dropped: self.messages_dropped.get(),
            messages_delayed: self.messages_delayed.get(),
            bytes_held: self.bytes_held.get(),
            bytes_discarded: self.bytes_discarded.get(),
            postponed: self.postponed.get(),
            last_data_monotonic_ns: self.last_data_monotonic_ns.get(),
            last_tick_monotonic_ns: self.last_tick_monotonic_ns.get(),
        }
    }
}
