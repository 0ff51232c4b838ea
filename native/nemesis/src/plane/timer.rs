//! Applies and heals faults at exact times.
//!
//! A thread of its own sleeps until shortly before the next time and spins the rest, since the kernel
//! wakes sleepers late, on a crowded machine by as much as the plane may be late.

use std::collections::BTreeMap;
use std::hint::spin_loop;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use fuzz_dist_core::clock::monotonic_ns;
use fuzz_dist_core::sync::lock;

use super::protocol::FaultId;

/// How long before its time the thread wakes: what a crowded machine may be late by, and short against
/// the time between faults.
const SPIN_NS: u64 = 1_000_000;
/// The niceness of the thread, where the system allows it: it does nothing most of the time.
const NICE: i32 = -15;

/// What a job is, so that it can be called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Begins this fault.
    Apply(FaultId),
    /// Ends this fault.
    Heal(FaultId),
}

/// Something to do; told whether it was called off.
type Job = Box<dyn FnOnce(Outcome) + Send>;

/// Why a job is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its time has come.
    Due,
    /// It was called off.
    CalledOff,
}

/// Jobs by time, and by order of arrival among those of the same time.
#[derive(Default)]
pub struct Timer {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Default)]
struct Jobs {
    by_time: BTreeMap<(u64, u64), (Purpose, Job)>,
    next_number: u64,
}

impl Timer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the kernel has no thread for it.
    pub fn start() -> std::io::Result<Arc<Timer>> {
        let timer = Arc::new(Timer::default());
        let shared = Arc::clone(&timer);
        std::thread::Builder::new().name("timer".into()).spawn(move || shared.run_for_ever())?;
        Ok(timer)
    }

    /// Runs `job` at a time of `CLOCK_MONOTONIC`.
    pub fn at(&self, monotonic_ns: u64, purpose: Purpose, job: Job) {
        let mut jobs = lock(&self.jobs);
        let number = jobs.next_number;
        jobs.next_number += 1;
        jobs.by_time.insert((monotonic_ns, number), (purpose, job));
        self.changed.notify_one();
    }

    /// Calls off every job that `matches`.
    pub fn call_off(&self, matches: impl Fn(Purpose) -> bool) {
        let called_off: Vec<Job> = {
            let mut jobs = lock(&self.jobs);
            let keys: Vec<(u64, u64)> = jobs
                .by_time
                .iter()
                .filter(|(_, (purpose, _))| matches(*purpose))
                .map(|(key, _)| *key)
                .collect();
            keys.iter().filter_map(|key| jobs.by_time.remove(key)).map(|(_, job)| job).collect()
        };
        for job in called_off {
            job(Outcome::CalledOff);
        }
    }

    fn run_for_ever(&self) {
        // On Linux this is about the calling thread alone. Without the right to it, precision is a little
        // less on a crowded machine.
        let _ = rustix::process::setpriority_process(None, NICE);
        let mut jobs = lock(&self.jobs);
        loop {
            let Some((&(at_ns, number), _)) = jobs.by_time.first_key_value() else {
                jobs = self.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left_ns = at_ns.saturating_sub(monotonic_ns());
            if left_ns > SPIN_NS {
                let sleep = Duration::from_nanos(left_ns - SPIN_NS);
                let woken = self.changed.wait_timeout(jobs, sleep);
                jobs = woken.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            drop(jobs);
            while monotonic_ns() < at_ns {
                spin_loop();
            }
            let due = lock(&self.jobs).by_time.remove(&(at_ns, number));
            if let Some((_, job)) = due {
                job(Outcome::Due);
            }
            jobs = lock(&self.jobs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn jobs_run_in_order_and_never_early() {
        let timer = Timer::start().unwrap();
        let (sender, receiver) = mpsc::channel();
        let start_ns = monotonic_ns();
        for offset_ms in [30u64, 10, 20, 0] {
            let at_ns = start_ns + offset_ms * 1_000_000;
            let sender = sender.clone();
            let job = Box::new(move |outcome| {
                sender.send((outcome, offset_ms, monotonic_ns() >= at_ns)).unwrap();
            });
            timer.at(at_ns, Purpose::Heal(1), job);
        }
        // The job of time 0 may have run before the others were there.
        let ran: Vec<_> = (0..4).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect();
        assert!(ran.iter().all(|(outcome, _, late)| *outcome == Outcome::Due && *late));
        let mut timed: Vec<u64> = ran.iter().map(|run| run.1).filter(|ms| *ms > 0).collect();
        assert!(timed.is_sorted(), "{timed:?}");
        timed.dedup();
        assert_eq!(timed.len(), 3);
    }

    #[test]
    fn a_job_called_off_is_told_so_and_others_stay() {
        let timer = Timer::start().unwrap();
        let (sender, receiver) = mpsc::channel();
        let far_ns = monotonic_ns() + 3_600_000_000_000;
        for fault in [1, 2] {
            let sender = sender.clone();
            let job = Box::new(move |outcome| sender.send((fault, outcome)).unwrap());
            timer.at(far_ns, Purpose::Apply(fault), job);
        }
        timer.call_off(|purpose| purpose == Purpose::Apply(1));
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), (1, Outcome::CalledOff));
        assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Empty));
    }
}
