//! The status of a run, twice a second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fuzz_dist_core::sync::lock;

use crate::cluster::Cluster;
use crate::nemesis::Active;
use crate::operations::Tally;
use crate::recorder::Recorder;
use crate::request::{Reporter, Status};

const EVERY: Duration = Duration::from_millis(500);

/// The name of the phase; shared.
#[derive(Debug, Clone)]
pub struct Phase(Arc<Mutex<&'static str>>);

impl Default for Phase {
    fn default() -> Phase {
        Phase(Arc::new(Mutex::new("setup")))
    }
}

impl Phase {
    /// The run enters that phase.
    pub fn set(&self, name: &'static str) {
        *lock(&self.0) = name;
    }

    fn get(&self) -> &'static str {
        *lock(&self.0)
    }
}

/// What is looked at.
#[derive(Clone)]
pub struct Sources {
    /// Who is told.
    pub reporter: Arc<dyn Reporter>,
    /// The phase.
    pub phase: Phase,
    /// For the time.
    pub recorder: Recorder,
    /// Operations.
    pub tally: Arc<Tally>,
    /// Faults.
    pub active: Active,
    /// Nodes.
    pub cluster: Arc<Cluster>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("phase", &self.phase).finish_non_exhaustive()
    }
}

/// Tells the status until it is dropped.
#[derive(Debug)]
pub struct StatusThread {
    over: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

impl StatusThread {
    /// Begins.
    pub fn start(sources: Sources) -> StatusThread {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let handle = std::thread::spawn(move || {
            let mut before = (0u64, sources.recorder.now_ns());
            while !ended.load(Ordering::Acquire) {
                std::thread::park_timeout(EVERY);
                let counts = sources.tally.look();
                let now_ns = sources.recorder.now_ns();
                let total = counts.ok + counts.fail + counts.info;
                let seconds = (now_ns - before.1) as f64 / 1e9;
                let rate = (total - before.0) as f64 / seconds.max(1e-3);
                before = (total, now_ns);
                sources.reporter.status(&Status {
                    phase: sources.phase.get(),
                    elapsed_s: now_ns as f64 / 1e9,
                    ok: counts.ok,
                    fail: counts.fail,
                    info: counts.info,
                    rate,
                    p50_ms: counts.p50_ms,
                    p99_ms: counts.p99_ms,
                    faults: sources.active.names(),
                    nodes_up: sources.cluster.up_count(),
                    node_count: sources.cluster.names().len(),
                });
            }
        });
        StatusThread { over, handle: Some(handle) }
    }
}

impl Drop for StatusThread {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(handle) = self.handle.take() {
            handle.thread().unpark();
            drop(handle.join());
        }
    }
}
