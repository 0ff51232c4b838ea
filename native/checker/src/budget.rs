//! How much time and memory a checker may use, and how it notices that it has used it up.
//!
//! A checker that runs out answers `unknown` and says how far it got; it never guesses. Budgets are
//! looked at every few thousand steps, so they are overrun by milliseconds, not exceeded at will.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a checker may use. `None` is without limit.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    /// Wall time of one checker.
    pub time: Option<Duration>,
    /// Memory of one checker's search, beyond the history itself.
    pub memory_bytes: Option<u64>,
    /// Set by whoever no longer wants the answer; looked at as often as the time.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Budget {
    /// Without limits.
    pub const UNLIMITED: Budget = Budget { time: None, memory_bytes: None, cancel: None };

    /// Starts to count now.
    pub fn start(&self) -> Meter {
        let now = Instant::now();
        Meter {
            started: now,
            deadline: self.time.and_then(|time| now.checked_add(time)),
            memory_bytes: self.memory_bytes.unwrap_or(u64::MAX),
            time: self.time,
            cancel: self.cancel.clone(),
        }
    }
}

/// A budget that is being used.
#[derive(Debug, Clone)]
pub struct Meter {
    started: Instant,
    deadline: Option<Instant>,
    memory_bytes: u64,
    time: Option<Duration>,
    cancel: Option<Arc<AtomicBool>>,
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
    /// Nobody waits for the answer any more.
    #[error("the check was cancelled")]
    Cancelled,
}

impl Meter {
    /// Whether there is time left, and still somebody who wants the answer.
    pub fn check_time(&self) -> Result<(), Exhausted> {
        if self.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(Exhausted::Cancelled);
        }
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

    /// The same with a limit of memory, where there is none.
    pub fn with_memory_if_unlimited(&self, memory_bytes: u64) -> Meter {
        let is_unlimited = self.memory_bytes == u64::MAX;
        let memory_bytes = if is_unlimited { memory_bytes } else { self.memory_bytes };
        Meter { memory_bytes, ..self.clone() }
    }

    /// Milliseconds since the start.
    pub fn elapsed_ms(&self) -> f64 {
        self.started.elapsed().as_secs_f64() * 1e3
    }

    /// What is left, as the budget of a part of the work.
    pub fn rest(&self) -> Budget {
        Budget {
            time: self.deadline.map(|at| at.saturating_duration_since(Instant::now())),
            memory_bytes: Some(self.memory_bytes).filter(|bytes| *bytes != u64::MAX),
            cancel: self.cancel.clone(),
        }
    }

    /// The same limits for one of `parts` that run at the same time: memory is shared out, the
    /// deadline is common.
    pub fn share(&self, parts: usize) -> Meter {
        let memory_bytes = match self.memory_bytes {
            u64::MAX => u64::MAX,
            bytes => bytes / parts.max(1) as u64,
        };
        Meter { memory_bytes, ..self.clone() }
    }

    /// A meter for a side task with limits of its own, which ends when this one is cancelled.
    pub fn aside(&self, time: Duration, memory_bytes: u64) -> Meter {
        let cancel = self.cancel.clone();
        Budget { time: Some(time), memory_bytes: Some(memory_bytes), cancel }.start()
    }

    /// A meter for a side task that may take at most `time`, within this budget.
    pub fn at_most(&self, time: Duration) -> Meter {
        let own = Instant::now().checked_add(time);
        let deadline = match (self.deadline, own) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Meter { deadline, time: Some(time), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelling_reaches_every_meter_made_of_the_budget() {
        let cancel = Arc::new(AtomicBool::new(false));
        let meter = Budget { cancel: Some(cancel.clone()), ..Budget::UNLIMITED }.start();
        let meters = [
            meter.share(2),
            meter.at_most(Duration::from_secs(3600)),
            meter.aside(Duration::from_secs(3600), 1),
            meter,
        ];
        assert!(meters.iter().all(|meter| meter.check_time().is_ok()));
        cancel.store(true, Ordering::Relaxed);
        assert!(meters.iter().all(|meter| meter.check_time() == Err(Exhausted::Cancelled)));
    }
}
