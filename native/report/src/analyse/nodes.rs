//! What nodes saw of each other: up, down, why, and for how long; and the life cycle of each.

use std::collections::{BTreeMap, HashMap};

use fuzz_dist_core::Op;
use serde::Serialize;

use super::{field, number, time_ns};

/// Node events kept; the rest is counted.
pub const EVENT_COUNT_MAX: usize = 2_000;

/// A node saw a peer go up or down, or started, became ready or ended itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct NodeEvent {
    /// When, by the record.
    pub time_ns: u64,
    /// Who saw it.
    pub node: String,
    /// `nodeup`, `nodedown`, `node-started`, `node-ready`, `node-exited`.
    pub event: String,
    /// Whom it saw, for the first two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Why, as the VM said; status for `node-exited`, process id for `node-started`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For `nodedown`: when the same node saw the same peer again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ns: Option<u64>,
}

/// Counts of what a node reported of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeObservations {
    /// Which.
    pub node: String,
    /// `busy-dist-port`, `long-gc` … with how often.
    pub counts: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
pub(super) struct Collector {
    events: Vec<NodeEvent>,
    omitted: u64,
    /// Position of the last nodedown of (node, peer) that has no nodeup yet.
    down: HashMap<(String, String), usize>,
    observations: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What a node's `system_monitor` tells.
const SYSTEM_MONITOR_KINDS: [&str; 4] =
    ["busy-dist-port", "long-gc", "long-schedule", "large-heap"];

impl Collector {
    pub(super) fn record(&mut self, op: &Op) {
        let node = op.node.map_or_else(|| "?".to_owned(), |node| node.as_str().to_owned());
        let event = op.f.as_str();
        match event {
            "nodeup" | "nodedown" => {
                let Some(peer) = field(&op.value, "peer") else { return };
                let key = (node.clone(), peer.clone());
                if event == "nodeup" {
                    if let Some(position) = self.down.remove(&key) {
                        self.events[position].until_ns = Some(time_ns(op));
                    }
                } else if self.events.len() < EVENT_COUNT_MAX {
                    self.down.insert(key, self.events.len());
                }
                self.push(NodeEvent {
                    time_ns: time_ns(op),
                    node,
                    event: event.to_owned(),
                    peer: Some(peer),
                    reason: field(&op.value, "reason")
                        // What a VM that knows no reason says.
                        .filter(|reason| !matches!(reason.as_str(), "" | "nil" | "undefined")),
                    until_ns: None,
                });
            }
            "node-started" | "node-ready" | "node-exited" => {
                let told = |name: &str| field(&op.value, name).map(|what| format!("{name} {what}"));
                let reason = told("signal")
                    .or_else(|| told("status"))
                    .or_else(|| number(&op.value, "os-pid").map(|pid| format!("pid {pid}")));
                self.push(NodeEvent {
                    time_ns: time_ns(op),
                    node,
                    event: event.to_owned(),
                    reason,
                    ..NodeEvent::default()
                });
            }
            other if SYSTEM_MONITOR_KINDS.contains(&other) => {
                *self.observations.entry(node).or_default().entry(other.to_owned()).or_default() +=
                    1;
            }
            _ => {}
        }
    }

    fn push(&mut self, event: NodeEvent) {
        if self.events.len() < EVENT_COUNT_MAX {
            self.events.push(event);
        } else {
            self.omitted += 1;
        }
    }

    pub(super) fn finish(self) -> (Vec<NodeEvent>, u64, Vec<NodeObservations>) {
        let observations = self
            .observations
            .into_iter()
            .map(|(node, counts)| NodeObservations { node, counts })
            .collect();
        (self.events, self.omitted, observations)
    }
}
