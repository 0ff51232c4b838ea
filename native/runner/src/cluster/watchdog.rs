//! Starts nodes again that ended by themselves, if the spec asks for it (`cluster.restart_crashed`).
//!
//! A node that a fault ends is the fault's: it comes back when the fault is healed. One that crashes, or halts by its
//! own decision, is started again after a wait that doubles with each crash in a row, so that a node that cannot
//! live does not keep the machine busy, and after [`RESTARTS_MAX`] of them in a row it is given up. Each restart is
//! `:node-restarted` in the history, with how the node had ended; the end of patience is `:node-given-up`.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::sync::lock;
use fuzz_dist_nemesis::guard::Exit;

use super::{Cluster, Inner, LOOK_EVERY};
use crate::recorder::map;

/// How long a node stays away after its first crash; long enough to notice that the run is ending instead.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// How long at most.
const LONGEST_WAIT: Duration = Duration::from_secs(16);

/// A node that has lived so long does not crash in a row.
const LIVED: Duration = Duration::from_secs(30);

/// So many crashes in a row are answered with a restart; the next one with giving up.
pub const RESTARTS_MAX: u32 = 4;

/// What the watchdog has done about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rescue {
    /// It was started again, and its agent has come.
    Restarted {
        /// How it had ended.
        reason: String,
    },
    /// It crashes again and again, and stays down until the run starts whatever is down at its end.
    GivenUp {
        /// How it has ended.
        reason: String,
    },
}

/// Who is told of it.
type Rescued = Arc<dyn Fn(&str, &Rescue) + Send + Sync>;

/// Crashes in a row by node, and who is told of rescues.
#[derive(Default)]
pub(super) struct Watchdog {
    crashes: Mutex<HashMap<String, u32>>,
    rescued: Mutex<Option<Rescued>>,
    /// One for each node, held while it is started: not by us and by the heal of a fault at the same time. Nodes
    /// do not wait for each other.
    starting: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl Watchdog {
    /// Held by whoever starts this node.
    pub(super) fn starting(&self, node: &str) -> Arc<Mutex<()>> {
        Arc::clone(lock(&self.starting).entry(node.to_owned()).or_default())
    }
}

impl std::fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchdog").field("crashes", &self.crashes).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Has this called, in a thread of its own, with every node that the watchdog has started again or given up.
    pub fn on_rescue(&self, rescued: Rescued) {
        *lock(&self.inner.watchdog.rescued) = Some(rescued);
    }
}

/// A process of a node has exited.
pub(super) fn heed(inner: &Arc<Inner>, node: &str, pid: i32, exit: Exit) {
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
    let crash = Crash { generation: vm.generation, in_a_row: crashes, reason: exit.to_string() };
    let (inner, node) = (Arc::clone(inner), node.to_owned());
    std::thread::spawn(move || match crashes {
        0..=RESTARTS_MAX => restart(&inner, &node, crash),
        // Later ones come after somebody else has started it, at the end of the run.
        _ if crashes == RESTARTS_MAX + 1 => give_up(&inner, &node, crash),
        _ => {}
    });
}

/// A node has ended by itself.
struct Crash {
    /// Of the VM that has ended.
    generation: u32,
    in_a_row: u32,
    reason: String,
}

impl Crash {
    /// Whether the node is somebody else's by now: of a fault that kills it, of whoever has started it, of the end of
    /// the run.
    fn is_theirs(&self, inner: &Inner, node: &str) -> bool {
        inner.closing.load(Ordering::Relaxed)
            || inner.vm(node).is_none_or(|vm| vm.ending || vm.generation != self.generation)
    }
}

fn tell(inner: &Inner, node: &str, rescue: &Rescue) {
    let rescued = lock(&inner.watchdog.rescued).clone();
    if let Some(rescued) = rescued {
        rescued(node, rescue);
    }
}

fn give_up(inner: &Arc<Inner>, node: &str, crash: Crash) {
    let value = map([
        ("crashes", Value::Int(i64::from(crash.in_a_row))),
        ("reason", Value::str(crash.reason.as_str())),
    ]);
    // A history that cannot be written is reported by the interpreter, which writes to it too.
    let _ = inner.recorder.observer(inner.recorder.now_ns(), "node-given-up", Some(node), value);
    tell(inner, node, &Rescue::GivenUp { reason: crash.reason });
}

fn restart(inner: &Arc<Inner>, node: &str, crash: Crash) {
    let wait = LONGEST_WAIT.min(FIRST_WAIT * 2u32.saturating_pow(crash.in_a_row.min(16) - 1));
    let until = Instant::now() + wait;
    while Instant::now() < until {
        if crash.is_theirs(inner, node) {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let Ok(place) = inner.place(node) else { return };
    let launched = {
        let starting = inner.watchdog.starting(node);
        let _starting = lock(&starting);
        if crash.is_theirs(inner, node) {
            return;
        }
        inner.launch(place)
    };
    // The guard is gone, or refuses: then the run ends, and says so.
    let Ok(monotonic_ns) = launched else { return };
    let value = map([
        ("crashes", Value::Int(i64::from(crash.in_a_row))),
        ("waited-ms", Value::Int(wait.as_millis() as i64)),
        ("reason", Value::str(crash.reason.as_str())),
    ]);
    let time_ns = inner.recorder.clock().at_ns(monotonic_ns);
    // A history that cannot be written is reported by the interpreter, which writes to it too.
    let _ = inner.recorder.observer(time_ns, "node-restarted", Some(node), value);
    let patience = Duration::from_millis(inner.launcher.spec.cluster.ready_timeout_ms);
    let closing = || inner.closing.load(Ordering::Relaxed);
    let place = inner.dressed(place);
    if inner.arrive(&place, Instant::now() + patience, &closing).is_ok() && !closing() {
        tell(inner, node, &Rescue::Restarted { reason: crash.reason });
    }
}
