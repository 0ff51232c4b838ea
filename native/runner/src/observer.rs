//! What the nodes report of themselves, as records of the history and for whoever waits to see an effect.
//!
//! Records of `nodeup` and `nodedown` carry the time at which the node noticed, on the run's clock;
//! the same events stay in [`Observations`], where the nemesis looks for the effects of its faults.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use fuzz_dist_core::Value;
use fuzz_dist_core::fault::{Event, Link};
use fuzz_dist_core::sync::lock;

use crate::agents::{self, NodeEvent};
use crate::recorder::{Recorder, map};

/// How many sightings are kept for those who wait; the history has them all.
const SIGHTINGS_MAX: usize = 16_384;

/// How long an agent may take to begin its watch.
const WATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// A node noticed that another came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// When it noticed, since the start of the run.
    pub time_ns: u64,
    /// Who noticed.
    pub node: String,
    /// `nodeup` rather than `nodedown`.
    pub up: bool,
    /// Who came or went.
    pub peer: String,
    /// As the node gives it: `net_tick_timeout`, `connection_closed` …; empty when it came.
    pub reason: String,
}

/// A node told of something that has a name.
#[derive(Debug)]
struct Named {
    time_ns: u64,
    node: String,
    event: Event,
    /// The telemetry event, or the place that was taken.
    name: String,
}

/// Sightings so far; shared.
#[derive(Debug, Clone, Default)]
pub struct Observations {
    inner: Arc<(Mutex<Vec<Sighting>>, Condvar)>,
    /// What faults wait for that nodes tell by name: telemetry and elections.
    named: Arc<Mutex<Vec<Named>>>,
}

impl Observations {
    fn lock(&self) -> MutexGuard<'_, Vec<Sighting>> {
        lock(&self.inner.0)
    }

    fn add(&self, sighting: Sighting) {
        let mut all = self.lock();
        if all.len() >= SIGHTINGS_MAX {
            all.drain(..SIGHTINGS_MAX / 2);
        }
        all.push(sighting);
        self.inner.1.notify_all();
    }

    /// Sightings since then that fit.
    pub fn since(&self, time_ns: u64, fits: impl Fn(&Sighting) -> bool) -> Vec<Sighting> {
        self.lock().iter().filter(|s| s.time_ns >= time_ns && fits(s)).cloned().collect()
    }

    /// `n2 saw n1 down (net_tick_timeout)`, since then, for the ends of these links.
    pub fn downs(&self, time_ns: u64, links: &[Link]) -> Vec<String> {
        let concerns = |node: &str, peer: &str| {
            links.iter().any(|link| {
                (link.from == node && link.to == peer) || (link.from == peer && link.to == node)
            })
        };
        self.since(time_ns, |s| !s.up && concerns(&s.node, &s.peer))
            .iter()
            .map(|s| format!("{} saw {} down ({})", s.node, s.peer, s.reason))
            .collect()
    }

    fn add_named(&self, named: Named) {
        let mut all = lock(&self.named);
        if all.len() >= SIGHTINGS_MAX {
            all.drain(..SIGHTINGS_MAX / 2);
        }
        all.push(named);
    }

    /// When a node first told of such an event whose node and name fit, since then.
    pub fn named_since(
        &self,
        time_ns: u64,
        event: Event,
        fits: impl Fn(&str, &str) -> bool,
    ) -> Option<u64> {
        let all = lock(&self.named);
        let late = all.iter().filter(|named| named.time_ns >= time_ns && named.event == event);
        late.filter(|named| fits(&named.node, &named.name)).map(|named| named.time_ns).min()
    }

    /// Waits for something new, at most so long.
    pub fn wait(&self, timeout: Duration) {
        let all = self.lock();
        drop(self.inner.1.wait_timeout(all, timeout));
    }
}

/// The thresholds of `system_monitor`.
pub fn watch_options() -> Value {
    map([
        ("long_gc_ms", Value::Int(200)),
        ("long_schedule_ms", Value::Int(200)),
        ("large_heap_words", Value::Int(16 << 20)),
        ("busy_dist_port", Value::Bool(true)),
    ])
}

/// The short name in `n1@127.0.0.1`.
pub fn short_name(full: &str) -> &str {
    full.split_once('@').map_or(full, |(short, _)| short)
}

/// Records what arrives until the agents' server ends. A record that cannot be written is left to the
/// interpreter to report: it writes to the same file.
pub fn observe(inbox: &Receiver<NodeEvent>, recorder: &Recorder, observations: &Observations) {
    while let Ok(event) = inbox.recv() {
        let written = match event {
            NodeEvent::Up(link) => {
                watch(&link);
                let pid = link.os_pid().map_or(Value::Nil, |pid| Value::Int(i64::from(pid)));
                let value = map([("os-pid", pid)]);
                recorder.observer(recorder.now_ns(), "agent-up", Some(link.name()), value)
            }
            NodeEvent::Down(link) => {
                recorder.observer(recorder.now_ns(), "agent-down", Some(link.name()), Value::Nil)
            }
            NodeEvent::Broken { node, reason } => {
                let value = map([("reason", Value::str(reason))]);
                recorder.observer(recorder.now_ns(), "agent-broken", Some(&node), value)
            }
            NodeEvent::Reported { node, kind, detail, monotonic_ns, wall_ns } => {
                let time_ns = recorder.clock().at_ns(monotonic_ns);
                let up = match kind.as_str() {
                    "nodeup" => Some(true),
                    "nodedown" => Some(false),
                    _ => None,
                };
                if detail.get("node").and_then(Value::as_text).is_some_and(is_visitor) {
                    continue;
                }
                let mut pairs = vec![
                    (Value::sym("mono-ns"), Value::Int(time_ns as i64)),
                    (Value::sym("wall-ns"), Value::Int(wall_ns)),
                ];
                if let Some(up) = up {
                    let sighting = sighting(time_ns, &node, up, &detail);
                    pairs.push((Value::sym("peer"), Value::str(sighting.peer.as_str())));
                    let reason = sighting.reason.as_str();
                    let reason = if reason.is_empty() { Value::Nil } else { Value::str(reason) };
                    pairs.push((Value::sym("reason"), reason));
                    observations.add(sighting);
                } else if let Value::Map(entries) = &detail {
                    if let Some((event, name)) = named(kind.as_str(), &detail) {
                        let (node, name) = (node.clone(), name.to_owned());
                        observations.add_named(Named { time_ns, node, event, name });
                    }
                    pairs.extend(entries.iter().cloned());
                }
                let name = kind.as_str().replace('_', "-");
                recorder.observer(time_ns, &name, Some(&node), Value::map(pairs))
            }
        };
        drop(written);
    }
}

/// The event that faults may wait for, and its name.
fn named<'a>(kind: &str, detail: &'a Value) -> Option<(Event, &'a str)> {
    let (event, key) = match kind {
        "telemetry" => (Event::Telemetry, "event"),
        "elected" => (Event::Elected, "place"),
        _ => return None,
    };
    Some((event, detail.get(key)?.as_text()?))
}

/// Our own hidden connection that loads the agent into a stock node.
fn is_visitor(node: &str) -> bool {
    node.starts_with(crate::cluster::bootstrap::HIDDEN_NODE_PREFIX)
}

fn sighting(time_ns: u64, node: &str, up: bool, detail: &Value) -> Sighting {
    let text = |key: &str| match detail.get(key) {
        None | Some(Value::Nil) => String::new(),
        Some(value) => value.as_text().map_or_else(|| value.to_string(), str::to_owned),
    };
    Sighting {
        time_ns,
        node: node.to_owned(),
        up,
        peer: short_name(&text("node")).to_owned(),
        reason: text("reason"),
    }
}

fn watch(link: &Arc<agents::Link>) {
    let link = Arc::clone(link);
    std::thread::spawn(move || {
        // An agent that ends meanwhile is reported as down.
        drop(link.ask("watch", [watch_options()], WATCH_TIMEOUT));
    });
}
