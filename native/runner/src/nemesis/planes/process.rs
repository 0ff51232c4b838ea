//! The process plane: kills, pauses and restarts nodes.
//!
//! The effect shows in the process itself: the guard saw it exit, or `/proc` says that it is stopped. A heal
//! looks first what the node is by then, since faults may overlap: what was killed meanwhile is not continued,
//! what was started meanwhile is not started twice.

use std::sync::Arc;

use fuzz_dist_core::clock;
use fuzz_dist_core::fault::{Availability, FaultKind, Plane, ProcessFault};
use fuzz_dist_core::spec::Spec;

use super::{Applied, AppliedFault, FaultPlane, Order, Registration, Seen};
use crate::cluster::Cluster;
use crate::recorder::{map, strings};
use crate::request::RunError;

/// The plane.
pub const REGISTRATION: Registration = Registration {
    plane: Plane::Process,
    always: true,
    availability,
    prepare: None,
    open: |tools| Ok(Arc::new(ProcessPlane { cluster: Arc::clone(&tools.cluster) })),
};

fn availability(kind: &FaultKind, _spec: Option<&Spec>) -> Availability {
    match kind {
        FaultKind::Process(
            ProcessFault::Kill
            | ProcessFault::Pause
            | ProcessFault::Restart { host: None, cookie: None },
        ) => Availability::Real,
        _ => Availability::not_built(),
    }
}

#[derive(Debug)]
struct ProcessPlane {
    cluster: Arc<Cluster>,
}

impl FaultPlane for ProcessPlane {
    fn apply(&self, order: &Order) -> Result<Applied, String> {
        let FaultKind::Process(kind) = &order.fault.kind else {
            return Err(format!("{} is no fault of processes", order.fault.kind.name()));
        };
        let nodes = order.resolved.nodes.clone();
        let cluster = &self.cluster;
        let generations = nodes.iter().map(|node| cluster.generation(node)).collect();
        let monotonic_ns = each(&nodes, |node| match kind {
            ProcessFault::Kill => cluster.kill(node),
            ProcessFault::Pause => cluster.pause(node),
            _ => cluster.terminate(node),
        })?;
        let cluster = Arc::clone(cluster);
        let fault = AppliedToProcesses { cluster, kind: kind.clone(), nodes, generations };
        Ok(Applied { monotonic_ns, decided: Vec::new(), fault: Arc::new(fault) })
    }

    fn heal_all(&self) -> Result<(), String> {
        self.cluster.revive_all().map_err(|error| error.to_string())
    }
}

struct AppliedToProcesses {
    cluster: Arc<Cluster>,
    kind: ProcessFault,
    nodes: Vec<String>,
    /// How often each of them had been started when the fault came.
    generations: Vec<u32>,
}

impl AppliedToProcesses {
    fn shows(&self, node: &str, generation: u32) -> bool {
        match self.kind {
            ProcessFault::Pause => self.cluster.is_paused(node),
            // One that is up again by now has been down in between.
            _ => !self.cluster.is_up(node) || self.cluster.generation(node) != generation,
        }
    }
}

impl AppliedFault for AppliedToProcesses {
    fn observe(&self, _now_ns: u64) -> Option<Seen> {
        let mut each = self.nodes.iter().zip(&self.generations);
        if !each.all(|(node, generation)| self.shows(node, *generation)) {
            return None;
        }
        let what = if self.kind == ProcessFault::Pause { "stopped" } else { "gone" };
        Some(Seen {
            text: format!("process of {} {what}", self.nodes.join(", ")),
            evidence: map([("nodes", strings(&self.nodes))]),
        })
    }

    fn why_not(&self) -> String {
        format!("{} went on running", self.nodes.join(", "))
    }

    fn heal(&self, _at_ns: Option<u64>) -> Result<u64, String> {
        let cluster = &self.cluster;
        each(&self.nodes, |node| match self.kind {
            ProcessFault::Pause if cluster.is_paused(node) => cluster.resume(node),
            ProcessFault::Pause => Ok(clock::monotonic_ns()),
            _ => cluster.start_if_down(node),
        })
    }

    fn observe_heal(&self) -> Option<Seen> {
        let answers = |node: &String| self.cluster.is_up(node) && self.cluster.answers(node);
        let all = self.nodes.iter().all(answers);
        all.then(|| Seen::new(format!("{} answers again", self.nodes.join(", "))))
    }

    fn revived(&self) -> &[String] {
        if self.kind == ProcessFault::Pause { &[] } else { &self.nodes }
    }
}

/// Acts on every node even if one refuses; gives the first refusal.
fn each(nodes: &[String], act: impl Fn(&str) -> Result<u64, RunError>) -> Result<u64, String> {
    let mut outcome = Ok(clock::monotonic_ns());
    for node in nodes {
        match act(node) {
            Ok(monotonic_ns) => {
                if let Ok(last) = &mut outcome {
                    *last = monotonic_ns;
                }
            }
            Err(error) if outcome.is_ok() => outcome = Err(format!("{node}: {error}")),
            Err(_) => {}
        }
    }
    outcome
}
