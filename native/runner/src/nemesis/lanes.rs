//! Who applies and heals faults: a thread for each plane, so that no fault waits for what another plane does meanwhile.
//! A node that is asked to stop may take seconds, and a link is still cut in time.
//!
//! Within a plane faults happen in the order of the schedule, one after the other. Planes that end and start nodes share
//! a thread, since who starts a node must know whether it ends. A fault is handed over some milliseconds before its
//! time: its target is resolved and its start recorded by then, and what is left is to do it.

use std::collections::BTreeMap;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use fuzz_dist_core::fault::{Fault, Plane};

use super::{Action, Nemesis, Running};
use crate::request::RunError;
use crate::stop::StopReason;

/// How long before its time a thread is awake: sleep is only so exact.
const SPIN_NS: u64 = 100_000;

/// What is to be done with a fault, and when, on the run's clock.
pub(super) struct Task {
    pub(super) action: Action,
    pub(super) at_ns: u64,
    pub(super) fault: Fault,
}

/// The threads of a run.
pub(super) struct Lanes {
    inboxes: BTreeMap<Plane, Sender<Task>>,
    threads: Vec<JoinHandle<Result<(), RunError>>>,
    failed: Arc<AtomicBool>,
}

/// Whose thread a plane uses.
fn lane(plane: Plane) -> Plane {
    match plane {
        // Its files are those of nodes that it ends and starts again.
        Plane::Disk => Plane::Process,
        other => other,
    }
}

impl Lanes {
    /// For the planes of these faults.
    pub(super) fn begin(nemesis: &Nemesis, faults: &[Fault]) -> Result<Lanes, RunError> {
        let failed = Arc::new(AtomicBool::new(false));
        let mut lanes = Lanes { inboxes: BTreeMap::new(), threads: Vec::new(), failed };
        for fault in faults {
            let plane = lane(fault.kind.plane());
            if lanes.inboxes.contains_key(&plane) {
                continue;
            }
            let (inbox, tasks) = channel();
            let (nemesis, failed) = (nemesis.clone(), Arc::clone(&lanes.failed));
            let thread = std::thread::Builder::new()
                .name(format!("{plane} faults"))
                .spawn(move || nemesis.work(&tasks, &failed))
                .map_err(|error| RunError::Internal(format!("no thread for faults: {error}")))?;
            lanes.threads.push(thread);
            lanes.inboxes.insert(plane, inbox);
        }
        Ok(lanes)
    }

    /// Has something done at its time.
    pub(super) fn give(&self, task: Task) {
        if let Some(inbox) = self.inboxes.get(&lane(task.fault.kind.plane())) {
            // A thread that has ended has failed, which ends the run.
            let _ = inbox.send(task);
        }
    }

    /// Whether a history cannot be written, or a fault not be healed.
    pub(super) fn have_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Waits until everything that was given is done and nothing is active any more.
    pub(super) fn end(self) -> Result<(), RunError> {
        drop(self.inboxes);
        let panicked = || Err(RunError::Internal("a thread of the nemesis panicked".into()));
        let ended =
            self.threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked()));
        // All of them, whatever the first says.
        ended.collect::<Vec<_>>().into_iter().collect()
    }
}

impl Nemesis {
    /// The work of one thread, until nothing more can come; heals what is active then.
    fn work(&self, tasks: &Receiver<Task>, failed: &AtomicBool) -> Result<(), RunError> {
        let mut running: BTreeMap<u32, Running> = BTreeMap::new();
        let mut watchers = Vec::new();
        let mut outcome = Ok(());
        for task in tasks {
            let done = self.act(&task, &mut running, &mut watchers);
            // A thread that has ended keeps its stack until somebody lets go of it.
            watchers.retain(|watcher: &JoinHandle<()>| !watcher.is_finished());
            if let Err(error) = done {
                failed.store(true, Ordering::Release);
                self.stop.ask(StopReason::Broken(error.to_string()));
                outcome = Err(error);
                break;
            }
        }
        for one in running.into_values() {
            let healed = self.heal(one, None, &mut watchers);
            outcome = outcome.and(healed);
        }
        for watcher in watchers {
            drop(watcher.join());
        }
        outcome
    }

    fn act(
        &self,
        task: &Task,
        running: &mut BTreeMap<u32, Running>,
        watchers: &mut Vec<JoinHandle<()>>,
    ) -> Result<(), RunError> {
        let id = task.fault.id;
        match task.action {
            // What was handed over and is still to begin when the main phase ends does not begin.
            Action::Start if self.over.is_set() => Ok(()),
            Action::Start => {
                let started = self.start(&task.fault, task.at_ns)?;
                running.extend(started.map(|started| (id, started)));
                Ok(())
            }
            Action::Sample => running.get(&id).map_or(Ok(()), |one| self.sample(one, watchers)),
            Action::Heal => match running.remove(&id) {
                Some(one) => {
                    let on_time = self.await_time(&task.fault, task.at_ns);
                    self.heal(one, on_time.then_some(task.at_ns), watchers)
                }
                None => Ok(()),
            },
            Action::Era => Ok(()),
        }
    }

    /// Waits until it is time, unless the fault's plane does so itself; false if the main phase has ended before.
    pub(super) fn await_time(&self, fault: &Fault, at_ns: u64) -> bool {
        let plane = self.planes.get(fault.kind.plane());
        if plane.is_some_and(|plane| plane.keeps_time()) {
            return !self.over.is_set();
        }
        let left_ns = at_ns.saturating_sub(self.recorder.now_ns());
        if left_ns > SPIN_NS && self.over.wait(Duration::from_nanos(left_ns - SPIN_NS)) {
            return false;
        }
        while self.recorder.now_ns() < at_ns {
            spin_loop();
        }
        !self.over.is_set()
    }
}
