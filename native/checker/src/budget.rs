//! How much time and memory a checker may use, and how it notices that it has used it up.
//!
//! A checker that runs out answers `unknown` and says how far it got; it never guesses. Budgets are
//! looked at every few thousand steps, so they are overrun by milliseconds, not exceeded at will.

use std::time::{Duration, Instant};

/// What a checker may use. `None` is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Wall time of one checker.
    pub time: Option<Duration>,
    /// Memory of one checker's search, beyond the history itself.
    pub memory_bytes: Option<u64>,
}

impl Budget {
    /// Without limits.
    pub const UNLIMITED: Budget = Budget { time: None, memory_bytes: None };

    /// Starts to count now.
    pub fn start(&self) -> Meter {
        let now = Instant::now();
        Meter {
            started: now,
            deadline: self.time.and_then(|time| now.checked_add(time)),
            memory_bytes: self.memory_bytes.unwrap_or(u64::MAX),
            time: self.time,
        }
    }
}

/// A budget that is being used.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    started: Instant,
    deadline: Option<Instant>,
    memory_bytes: u64,
    time: Option<Duration>,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// The time is up.
    #[error("the time budget of {0:?} is used up")]
    Time(Duration),
    /// The search would need more memory.
    #[error("the memory budget of {} MiB is used up", .0 >> 20)]
    Memory(u64),
}

impl Meter {
    /// Whether there is time left.
    pub fn check_time(&self) -> Result<(), Exhausted> {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => {
                Err(Exhausted::Time(self.time.unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }

    /// Whether `bytes` are within the budget.
    pub fn check_memory(&self, bytes: u64) -> Result<(), Exhausted> {
        if bytes > self.memory_bytes {
            return Err(Exhausted::Memory(self.memory_bytes));
        }
        Ok(())
    }

    /// Milliseconds since the start.
    pub fn elapsed_ms(&self) -> f64 {
        self.started.elapsed().as_secs_f64() * 1e3
    }

    /// The same limits for one of `parts` that run at the same time: memory is shared out, the
    /// deadline is common.
    pub fn share(&self, parts: usize) -> Meter {
        let memory_bytes = match self.memory_bytes {
            u64::MAX => u64::MAX,
            bytes => bytes / parts.max(1) as u64,
        };
        Meter { memory_bytes, ..*self }
    }

    /// A meter for a side task that may take at most `time`, within this budget.
    pub fn at_most(&self, time: Duration) -> Meter {
        let own = Instant::now().checked_add(time);
        let deadline = match (self.deadline, own) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Meter { deadline, time: Some(time), ..*self }
    }
}
