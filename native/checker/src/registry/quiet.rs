//! When a cluster was certainly whole: no fault active, nobody down, nothing changed a while ago.
//!
//! Conservative on purpose: any fault, any nodeup, nodedown, start or exit of a node disturbs the whole
//! cluster, and a *grace* before and after it, since nodes learn of it late and registries resolve
//! conflicts after it. What a checker then calls wrong in a quiet window cannot be excused by a
//! partition.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fuzz_dist_core::{FaultLog, History, Op, Process, Value};

/// A stretch of time in nanoseconds since the start of the run, ends included.
pub type Window = (i64, i64);

/// What the records tell about the cluster.
#[derive(Debug, Default)]
pub struct Cluster {
    /// Stretches in which the cluster was certainly whole, in order.
    pub quiet: Vec<Window>,
    /// When each node exited.
    pub exits: HashMap<String, Vec<i64>>,
}

impl Cluster {
    /// Reads faults and observations; `grace_ns` is kept from every disturbance.
    pub fn new(history: &History, grace_ns: i64) -> Cluster {
        let mut cluster = Cluster::default();
        let mut disturbed = disturbances(history, &mut cluster);
        for window in &mut disturbed {
            window.0 = window.0.saturating_sub(grace_ns);
            window.1 = window.1.saturating_add(grace_ns);
        }
        let times = crate::budget::ops(history).map(|op| op.time_ns);
        let (first, last) = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
        // Without times, nothing can be said about what was whole when.
        let timeless = first < 0 && !disturbed.is_empty();
        if !timeless {
            cluster.quiet = complement(disturbed, (first, last));
        }
        cluster
    }

    /// Whether all of the stretch was quiet.
    pub fn is_quiet(&self, from: i64, to: i64) -> bool {
        self.quiet.iter().any(|window| window.0 <= from && to <= window.1)
    }

    /// Whether the node exited after `since`, at or before `until`.
    pub fn exited(&self, node: &str, since: i64, until: i64) -> bool {
        self.exits.get(node).is_some_and(|exits| exits.iter().any(|at| *at > since && *at <= until))
    }
}

/// Stretches in which something was, or may have been, broken.
fn disturbances(history: &History, cluster: &mut Cluster) -> Vec<Window> {
    let observer = Process::observer();
    let members = members(history);
    let mut disturbed: Vec<Window> = FaultLog::of(history).windows().collect();
    // Since when a node does not see another one.
    let mut apart: BTreeMap<(String, String), i64> = BTreeMap::new();
    for op in history.ops() {
        if is_teardown(op) {
            // Nodes that are stopped at the end disturb nothing before it.
            break;
        }
        if op.process == observer {
            observation(op, &members, &mut apart, &mut disturbed, cluster);
        }
    }
    disturbed.extend(apart.into_values().map(|since| (since, i64::MAX)));
    disturbed
}

fn is_teardown(op: &Op) -> bool {
    op.f == "phase" && op.value.get("name").and_then(Value::as_text) == Some("teardown")
}

/// Nodes that reported something or had operations; connections to others do not matter.
fn members(history: &History) -> BTreeSet<String> {
    crate::budget::ops(history)
        .filter_map(|op| op.node)
        .map(|node| node.as_str().to_owned())
        .collect()
}

fn observation(
    op: &Op,
    members: &BTreeSet<String>,
    apart: &mut BTreeMap<(String, String), i64>,
    disturbed: &mut Vec<Window>,
    cluster: &mut Cluster,
) {
    let node = op.node.map(|node| node.as_str().to_owned()).unwrap_or_default();
    let peer = || op.value.get("peer").and_then(Value::as_text).map(short);
    let pair = |peer: String| (node.clone(), peer);
    match op.f.as_str() {
        "nodedown" => {
            disturbed.push((op.time_ns, op.time_ns));
            if let Some(peer) = peer().filter(|peer| members.contains(peer)) {
                apart.entry(pair(peer)).or_insert(op.time_ns);
            }
        }
        "nodeup" => {
            let since = peer().and_then(|peer| apart.remove(&pair(peer)));
            disturbed.push((since.unwrap_or(op.time_ns), op.time_ns));
        }
        "nodes" => nodes_listed(op, &node, members, apart, disturbed),
        "node-exited" => {
            disturbed.push((op.time_ns, op.time_ns));
            // What it saw has gone with it; what others see of it they report themselves.
            let own: Vec<_> = apart.keys().filter(|(from, _)| *from == node).cloned().collect();
            for key in own {
                if let Some(since) = apart.remove(&key) {
                    disturbed.push((since, op.time_ns));
                }
            }
            cluster.exits.entry(node).or_default().push(op.time_ns);
        }
        "node-started" | "node-ready" => {
            disturbed.push((op.time_ns, op.time_ns));
        }
        _ => {}
    }
}

/// A node's own list of the nodes it sees, which may correct what was missed.
fn nodes_listed(
    op: &Op,
    node: &str,
    members: &BTreeSet<String>,
    apart: &mut BTreeMap<(String, String), i64>,
    disturbed: &mut Vec<Window>,
) {
    let Some(visible) = op.value.get("visible").and_then(Value::items) else { return };
    let visible: BTreeSet<String> = visible.iter().filter_map(Value::as_text).map(short).collect();
    for member in members.iter().filter(|member| *member != node) {
        let key = (node.to_owned(), member.clone());
        if visible.contains(member) {
            if let Some(since) = apart.remove(&key) {
                disturbed.push((since, op.time_ns));
            }
        } else {
            apart.entry(key).or_insert(op.time_ns);
        }
    }
}

/// `n1` of `n1@127.0.0.1`.
fn short(name: &str) -> String {
    name.split('@').next().unwrap_or(name).to_owned()
}

/// The parts of `whole` that no window touches.
fn complement(mut windows: Vec<Window>, whole: Window) -> Vec<Window> {
    windows.sort_unstable();
    let mut quiet = Vec::new();
    let mut from = whole.0;
    for (start, end) in windows {
        if start > from {
            quiet.push((from, (start - 1).min(whole.1)));
        }
        from = from.max(end.saturating_add(1));
        if from > whole.1 {
            return quiet;
        }
    }
    quiet.push((from, whole.1));
    quiet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_quiet() {
        assert_eq!(complement(vec![(5, 7), (2, 3), (6, 10)], (0, 20)), [(0, 1), (4, 4), (11, 20)]);
        assert_eq!(complement(vec![(-5, 100)], (0, 20)), []);
        assert_eq!(complement(vec![], (0, 20)), [(0, 20)]);
    }
}
