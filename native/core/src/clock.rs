//! Where time comes from: `CLOCK_MONOTONIC`, shared by every process of a run on one host.
//!
//! The core, the plane, the guard and the nodes (`os:perf_counter(nanosecond)`) all read the same
//! kernel clock, so their stamps compare without synchronisation. The wall clock appears once, in
//! the header of a history.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`; 0 only if the kernel has no such clock, which Linux always has.
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC) as u64
}

/// Nanoseconds since 1970 of the wall clock.
pub fn wall_ns() -> i64 {
    read(ClockId::CLOCK_REALTIME)
}

fn read(clock: ClockId) -> i64 {
    clock_gettime(clock).map(|t| t.tv_sec() * 1_000_000_000 + t.tv_nsec()).unwrap_or(0)
}

/// The start of a run, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunClock {
    /// `CLOCK_MONOTONIC` at the start.
    pub start_monotonic_ns: u64,
    /// Wall clock at the start.
    pub start_wall_ns: i64,
}

impl RunClock {
    /// Starts now.
    pub fn start() -> RunClock {
        RunClock { start_monotonic_ns: monotonic_ns(), start_wall_ns: wall_ns() }
    }

    /// Nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        self.at_ns(monotonic_ns())
    }

    /// When a stamp of the monotonic clock was, in nanoseconds since the start (0 if before).
    pub fn at_ns(&self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_sub(self.start_monotonic_ns)
    }
}
