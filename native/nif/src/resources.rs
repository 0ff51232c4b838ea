//! What the VM holds references to: histories, and the checks that run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;

use fuzz_dist_core::History;
use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc};

use crate::model::Answers;

/// Histories of fewer records are freed where they die, on whatever scheduler that is.
const FREED_IN_PLACE_COUNT_MAX: usize = 2_000;

/// A history as a resource of the VM.
#[derive(Debug)]
pub struct Stored(History);

#[rustler::resource_impl]
impl Resource for Stored {}

impl Stored {
    /// A reference to it.
    pub fn new(history: History) -> ResourceArc<Stored> {
        ResourceArc::new(Stored(history))
    }

    /// The history.
    pub fn get(&self) -> &History {
        &self.0
    }
}

impl Drop for Stored {
    /// The VM collects garbage on its ordinary schedulers, and a million values take a while to free.
    fn drop(&mut self) {
        if self.0.len() > FREED_IN_PLACE_COUNT_MAX {
            let history = std::mem::take(&mut self.0);
            // Where there can be no thread, it is dropped with the closure, here.
            let _ = thread::Builder::new().spawn(move || drop(history));
        }
    }
}

/// The flag of one check, for which nobody may wait any more.
///
/// A process that is killed inside a dirty NIF stays until the NIF returns, but its monitors fire at once. So
/// each check has a resource that monitors its caller, and sets the flag that budgets look at.
#[derive(Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

#[rustler::resource_impl]
impl Resource for Cancel {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, _pid: LocalPid, _monitor: Monitor) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Cancel {
    /// Set when the calling process ends; `None` when it has ended already.
    pub fn of_caller(env: Env<'_>) -> Option<ResourceArc<Cancel>> {
        let cancel = ResourceArc::new(Cancel::default());
        env.monitor(&cancel, &env.pid()).map(|_| cancel)
    }

    /// What a budget looks at.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

/// Where the process of a model leaves its answers; closed when that process ends.
#[derive(Debug)]
pub struct ModelAnswers(Answers);

#[rustler::resource_impl]
impl Resource for ModelAnswers {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, _pid: LocalPid, _monitor: Monitor) {
        self.0.close();
    }
}

impl ModelAnswers {
    /// Those of that process, and where they are taken from; `None` when it has ended already.
    pub fn of(
        env: Env<'_>,
        pid: &LocalPid,
    ) -> Option<(ResourceArc<ModelAnswers>, Receiver<Vec<u8>>)> {
        let (answers, receiver) = Answers::new();
        let answers = ResourceArc::new(ModelAnswers(answers));
        env.monitor(&answers, pid).map(|_| (answers, receiver))
    }

    /// Leaves one.
    pub fn leave(&self, answer: Vec<u8>) {
        self.0.leave(answer);
    }
}

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Counts a check for as long as it exists.
#[derive(Debug)]
pub struct Running(());

impl Running {
    /// One more.
    pub fn start() -> Running {
        RUNNING.fetch_add(1, Ordering::Relaxed);
        Running(())
    }

    /// How many there are.
    pub fn count() -> usize {
        RUNNING.load(Ordering::Relaxed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}
