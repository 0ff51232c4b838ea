//! Starts nodes again that ended by themselves, if the spec asks for it (`cluster.restart_crashed`).
//!
//! A node that a fault ends is the fault's: it comes back when the fault is healed. One that crashes, or halts by its
//! own decision, is started again after a wait that doubles with each crash in a row, so that a node that cannot
//! live does not keep the machine busy. Each restart is `:node-restarted` in the history.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::sync::lock;

use super::{Cluster, Inner, LOOK_EVERY};
use crate::recorder::map;

/// How long a node stays away after its first crash; long enough to notice that the run is ending instead.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// How long at most.
const LONGEST_WAIT: Duration = Duration::from_secs(16);

/// A node that has lived so long does not crash in a row.
const LIVED: Duration = Duration::from_secs(30);

/// Who is told of a node that has come back.
type Restarted = Arc<dyn Fn(&str) + Send + Sync>;

/// Crashes in a row by node, and who is told of restarts.
#[derive(Default)]
pub(super) struct Watchdog {
    crashes: Mutex<HashMap<String, u32>>,
    restarted: Mutex<Option<Restarted>>,
}

impl std::fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchdog").field("crashes", &self.crashes).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Has this called, in a thread of its own, with every node that the watchdog has started again, once its agent
    /// has come.
    pub fn on_restart(&self, restarted: Restarted) {
        *lock(&self.inner.watchdog.restarted) = Some(restarted);
    }
}

/// A process of a node has exited.
pub(super) fn heed(inner: &Arc<Inner>, node: &str, pid: i32) {
    let Some(vm) = inner.vm(node) else { return };
    if !inner.launcher.spec.cluster.restart_crashed || vm.ending || vm.process.pid != pid {
        return;
    }
    let crashes = {
        let mut all = lock(&inner.watchdog.crashes);
        let crashes = all.entry(node.to_owned()).or_default();
        *crashes = if vm.started.elapsed() > LIVED { 1 } else { *crashes + 1 };
        *crashes
    };
    let wait = LONGEST_WAIT.min(FIRST_WAIT * 2u32.saturating_pow(crashes.min(16) - 1));
    let (inner, node) = (Arc::clone(inner), node.to_owned());
    std::thread::spawn(move || restart(&inner, &node, vm.generation, crashes, wait));
}

fn restart(inner: &Arc<Inner>, node: &str, generation: u32, crashes: u32, wait: Duration) {
    let until = Instant::now() + wait;
    while Instant::now() < until {
        // A fault that kills it meanwhile has it now, and whoever has started it has done our work.
        let theirs = inner.vm(node).is_none_or(|vm| vm.ending || vm.generation != generation);
        if inner.closing.load(Ordering::Relaxed) || theirs {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let Ok(place) = inner.place(node) else { return };
    let Ok(monotonic_ns) = inner.launch(place) else {
        // The guard is gone, or refuses: then the run ends, and says so.
        return;
    };
    let value = map([
        ("crashes", Value::Int(i64::from(crashes))),
        ("waited-ms", Value::Int(wait.as_millis() as i64)),
    ]);
    let time_ns = inner.recorder.clock().at_ns(monotonic_ns);
    // A history that cannot be written is reported by the interpreter, which writes to it too.
    let _ = inner.recorder.observer(time_ns, "node-restarted", Some(node), value);
    let patience = Duration::from_millis(inner.launcher.spec.cluster.ready_timeout_ms);
    let closing = || inner.closing.load(Ordering::Relaxed);
    let place = inner.dressed(place);
    if inner.arrive(&place, Instant::now() + patience, &closing).is_ok() && !closing() {
        let restarted = lock(&inner.watchdog.restarted).clone();
        if let Some(restarted) = restarted {
            restarted(node);
        }
    }
}
