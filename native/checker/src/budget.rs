//! How much time and memory a checker may use, and how it notices that it has used it up.
//!
//! A checker that runs out answers `unknown` and says how far it got; it never guesses. There are two
//! ways to look, for the same limits:
//! - A search that can tell how far it got asks its [`Meter`] every few thousand steps.
//! - Every loop over something that grows with the history calls [`poll`], which costs a nanosecond
//!   and looks at the meter of the thread now and then. When nothing is left it unwinds, as rustc and
//!   salsa do to cancel, up to [`Meter::within`], where the check began: no function between
//!   needs to pass a meter or an error on, and even a sort ends in the middle.
//!
//! Memory is what the whole program holds, the history included (see `fuzz_dist_memory`).

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fuzz_dist_core::{History, Op};

/// What a checker may use. `None` is without limit.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    /// Wall time of one checker.
    pub time: Option<Duration>,
    /// Memory of the whole program, the history and everything else included.
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
            own_bytes: self.memory_bytes.unwrap_or(u64::MAX),
            time: self.time,
            cancel: self.cancel.clone(),
            ended_by: None,
        }
    }
}

/// A budget that is being used.
#[derive(Debug, Clone)]
pub struct Meter {
    started: Instant,
    deadline: Option<Instant>,
    /// What the whole program may hold.
    memory_bytes: u64,
    /// What the work that this meter was made for may hold by its own account.
    own_bytes: u64,
    time: Option<Duration>,
    cancel: Option<Arc<AtomicBool>>,
    /// Set when other work has found the answer.
    ended_by: Option<Arc<AtomicBool>>,
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

/// How many polls pass between two looks at the meter.
const POLLS_PER_LOOK: u32 = 256;
/// How long the resident memory that was read last is good enough, in microseconds. Where memory is
/// counted it is always read.
const RESIDENT_US: u64 = 2_000;

thread_local! {
    static CURRENT: RefCell<Option<Meter>> = const { RefCell::new(None) };
    static POLLS_LEFT: Cell<u32> = const { Cell::new(POLLS_PER_LOOK) };
}

/// Ends the check of this thread if its budget is used up; to be called in every loop whose length
/// depends on the history. Outside of [`Meter::within`] it does nothing.
#[inline]
pub(crate) fn poll() {
    let left = POLLS_LEFT.get();
    if left == 0 {
        look();
    } else {
        POLLS_LEFT.set(left - 1);
    }
}

/// The records, polling at each.
pub(crate) fn ops(
    history: &History,
) -> impl ExactSizeIterator<Item = &Op> + DoubleEndedIterator + Clone {
    history.ops().iter().inspect(|_| poll())
}

/// The records of clients, polling at each.
pub(crate) fn client_ops(history: &History) -> impl Iterator<Item = &Op> {
    history.client_ops().inspect(|_| poll())
}

/// The operations of clients with their completions, polling at each.
pub(crate) fn client_pairs(history: &History) -> impl Iterator<Item = (&Op, Option<&Op>)> {
    history.client_pairs().inspect(|_| poll())
}

#[cold]
fn look() {
    POLLS_LEFT.set(POLLS_PER_LOOK);
    let looked = CURRENT.with_borrow(|meter| meter.as_ref().map_or(Ok(()), Meter::check_time));
    if let Err(why) = looked {
        // Not `panic_any`: nothing failed, so no hook has anything to tell.
        resume_unwind(Box::new(why));
    }
}

/// Puts the meter of the thread back, however the check ends.
struct Restore(Option<Meter>);

impl Drop for Restore {
    fn drop(&mut self) {
        let before = self.0.take();
        CURRENT.with_borrow_mut(|current| *current = before);
    }
}

impl Meter {
    /// Does `work`, in which [`poll`] looks at this meter, until it is done or the budget is used up.
    /// Every thread that works on a check needs one of its own.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> Result<T, Exhausted> {
        let before = CURRENT.with_borrow_mut(|current| current.replace(self.clone()));
        let _restore = Restore(before);
        POLLS_LEFT.set(POLLS_PER_LOOK);
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(done) => Ok(done),
            Err(panic) => match panic.downcast::<Exhausted>() {
                Ok(why) => Err(*why),
                Err(panic) => resume_unwind(panic),
            },
        }
    }

    /// Whether there is time and memory left, and still somebody who wants the answer.
    pub fn check_time(&self) -> Result<(), Exhausted> {
        let is_set = |flag: &Option<Arc<AtomicBool>>| {
            flag.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
        };
        if is_set(&self.cancel) || is_set(&self.ended_by) {
            return Err(Exhausted::Cancelled);
        }
        if self.memory_bytes != u64::MAX && held_bytes() > self.memory_bytes {
            return Err(Exhausted::Memory(self.memory_bytes));
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => {
                Err(Exhausted::Time(self.time.unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }

    /// Whether `bytes`, which the work of this meter holds by its own account, are within its share.
    pub fn check_memory(&self, bytes: u64) -> Result<(), Exhausted> {
        if bytes > self.own_bytes {
            return Err(Exhausted::Memory(self.memory_bytes.min(self.own_bytes)));
        }
        Ok(())
    }

    /// The same with a limit of memory, where there is none: so much more than the program holds now.
    pub fn with_memory_if_unlimited(&self, more_bytes: u64) -> Meter {
        match self.memory_bytes {
            u64::MAX => {
                let memory_bytes = fuzz_dist_memory::held_bytes().saturating_add(more_bytes);
                Meter { memory_bytes, own_bytes: more_bytes, ..self.clone() }
            }
            _ => self.clone(),
        }
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

    /// How many bytes the program may still take.
    pub fn free_bytes(&self) -> u64 {
        match self.memory_bytes {
            u64::MAX => u64::MAX,
            bytes => bytes.saturating_sub(fuzz_dist_memory::held_bytes()),
        }
    }

    /// The same limits for one of `parts` that run at the same time: what is free is shared out, the
    /// deadline and the limit of the whole are common.
    pub fn share(&self, parts: usize) -> Meter {
        let own_bytes = match self.own_bytes {
            u64::MAX => u64::MAX,
            own_bytes => own_bytes.min(self.free_bytes()) / parts.max(1) as u64,
        };
        Meter { own_bytes, ..self.clone() }
    }

    /// The same, ended when `flag` is set: by whoever finds the answer first.
    pub fn ended_by(&self, flag: &Arc<AtomicBool>) -> Meter {
        Meter { ended_by: Some(flag.clone()), ..self.clone() }
    }

    /// A meter for a side task with limits of its own, which ends when this one is cancelled.
    pub fn aside(&self, time: Duration, memory_bytes: u64) -> Meter {
        let cancel = self.cancel.clone();
        let meter = Budget { time: Some(time), memory_bytes: None, cancel }.start();
        meter.with_memory_if_unlimited(memory_bytes)
    }

    /// A meter for what follows an answer: within this budget, but for `at_least` even past it.
    pub fn beyond(&self, at_least: Duration, at_most: Duration, memory_bytes: u64) -> Meter {
        let left = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let time = left.map_or(at_most, |left| left.max(at_least).min(at_most));
        self.aside(time, memory_bytes)
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

/// What the program holds; read from the kernel not more often than is worth it.
fn held_bytes() -> u64 {
    static READ: AtomicU64 = AtomicU64::new(0);
    static READ_AT_US: AtomicU64 = AtomicU64::new(0);
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    if fuzz_dist_memory::is_counted() {
        return fuzz_dist_memory::held_bytes();
    }
    let now_us = EPOCH.get_or_init(Instant::now).elapsed().as_micros() as u64;
    let read_at_us = READ_AT_US.load(Ordering::Relaxed);
    if READ.load(Ordering::Relaxed) == 0 || now_us.saturating_sub(read_at_us) > RESIDENT_US {
        READ.store(fuzz_dist_memory::held_bytes(), Ordering::Relaxed);
        READ_AT_US.store(now_us, Ordering::Relaxed);
    }
    READ.load(Ordering::Relaxed)
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
            meter.aside(Duration::from_secs(3600), 1 << 40),
            meter,
        ];
        assert!(meters.iter().all(|meter| meter.check_time().is_ok()));
        cancel.store(true, Ordering::Relaxed);
        assert!(meters.iter().all(|meter| meter.check_time() == Err(Exhausted::Cancelled)));
    }

    #[test]
    fn a_loop_that_polls_ends_with_the_limit_that_it_reached() {
        let endless = || -> u32 {
            loop {
                poll();
            }
        };
        let short = Duration::from_millis(5);
        let time = Budget { time: Some(short), ..Budget::UNLIMITED }.start();
        assert_eq!(time.within(endless), Err(Exhausted::Time(short)));
        let memory = Budget { memory_bytes: Some(1), ..Budget::UNLIMITED }.start();
        assert_eq!(memory.within(endless), Err(Exhausted::Memory(1)));
        assert_eq!(time.within(|| 7), Ok(7), "what does not poll is not ended");
    }

    #[test]
    fn an_inner_budget_ends_alone_and_the_outer_one_is_looked_at_again() {
        let polls = |count: u32| (0..count).for_each(|_| poll());
        let outer = Budget::UNLIMITED.start();
        let inner = Budget { time: Some(Duration::ZERO), ..Budget::UNLIMITED }.start();
        let ended = outer.within(|| {
            let ended = inner.within(|| polls(100_000));
            polls(100_000);
            ended
        });
        assert!(matches!(ended, Ok(Err(Exhausted::Time(_)))));
        polls(100_000);
    }

    #[test]
    fn a_panic_is_passed_on() {
        let meter = Budget::UNLIMITED.start();
        let result = catch_unwind(AssertUnwindSafe(|| meter.within(|| resume_unwind(Box::new(3)))));
        assert!(result.is_err_and(|panic| panic.downcast_ref() == Some(&3)));
    }
}
