//! The wish to stop: Ctrl-C, SIGTERM, the end of the life line, a lost plane or guard.
//!
//! The first wish wins and is kept with its reason; every loop of the run looks at it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use fuzz_dist_core::sync::lock;

/// Why the run should end early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// A person or a supervisor asked for it; what was recorded is analysed.
    Interrupted(String),
    /// A part of ours died; the run cannot go on.
    Broken(String),
}

impl StopReason {
    /// In words.
    pub fn text(&self) -> &str {
        match self {
            StopReason::Interrupted(text) | StopReason::Broken(text) => text,
        }
    }
}

/// Shared by all threads of a run.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    inner: Arc<(Mutex<Option<StopReason>>, Condvar)>,
    flag: Arc<AtomicBool>,
}

impl Stop {
    /// Asks the run to end; only the first reason is kept.
    pub fn ask(&self, reason: StopReason) {
        let mut slot = lock(&self.inner.0);
        if slot.is_none() {
            *slot = Some(reason);
        }
        self.flag.store(true, Ordering::Release);
        self.inner.1.notify_all();
    }

    /// A flag that is set together with the reason, for code that knows nothing of runs.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// Asks the run to end for a reason that explains whatever else was noticed before.
    pub fn insist(&self, reason: StopReason) {
        *lock(&self.inner.0) = Some(reason);
        self.flag.store(true, Ordering::Release);
        self.inner.1.notify_all();
    }

    /// The reason, if the run should end.
    pub fn reason(&self) -> Option<StopReason> {
        lock(&self.inner.0).clone()
    }

    /// Whether the run should end.
    pub fn is_set(&self) -> bool {
        self.reason().is_some()
    }

    /// Sleeps until then, or less if the run should end; true if it should.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        let mut slot = lock(&self.inner.0);
        loop {
            if slot.is_some() {
                return true;
            }
            let now = Instant::now();
            if now >= deadline {
                return false;
            }
            slot = match self.inner.1.wait_timeout(slot, deadline - now) {
                Ok((slot, _)) => slot,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Sleeps so long, or less if the run should end; true if it should.
    pub fn wait(&self, duration: Duration) -> bool {
        self.wait_until(Instant::now() + duration)
    }
}
