//! The membership plane: nodes join, leave and are forgotten.
//!
//! What is possible and safe at a moment is for the state machine to say ([`machine`]); how a system is asked and
//! told, for the test's module with the callbacks of `FuzzDist.Membership` ([`callbacks`]). Here are the threads:
//! one for each node that asks it for its view, one for each change that is under way, since a change may take
//! long and nothing waits for it. No lock is held meanwhile.
//!
//! A node that left or was forgotten goes on running with its data. The heal makes it join again, as often as
//! needed: it may be killed on the way, and so may whoever lets it in. A join is not taken back.

mod callbacks;
mod machine;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::clock;
use fuzz_dist_core::fault::{Availability, FaultKind, MembershipFault, Plane};
use fuzz_dist_core::spec::Spec;
use fuzz_dist_core::sync::lock;

use super::{Applied, AppliedFault, FaultPlane, Order, Registration, Seen, Tools};
use crate::cluster::Cluster;
use crate::recorder::{map, strings};
use crate::request::RunError;
use callbacks::Callbacks;
use machine::{Change, Machine, Members, Operation, Outcome, Resolution};

/// How often nodes are asked for their views.
const VIEW_EVERY: Duration = Duration::from_millis(500);

/// How long after a join that led to nothing the next one is asked for.
const JOIN_EVERY: Duration = Duration::from_secs(1);

/// How long after the main phase nodes may take to join again.
const REJOIN_MAX: Duration = Duration::from_secs(90);

/// The plane.
pub const REGISTRATION: Registration =
    Registration { plane: Plane::Membership, always: false, availability, prepare: None, open };

fn availability(kind: &FaultKind, _spec: Option<&Spec>) -> Availability {
    match kind {
        FaultKind::Membership(_) => Availability::Real,
        _ => Availability::not_built(),
    }
}

fn open(tools: &Tools) -> Result<Arc<dyn FaultPlane>, RunError> {
    let system = Callbacks::open(tools)?;
    let shared = Arc::new(Shared {
        machine: Mutex::new(Machine::new(tools.cluster.names())),
        changed: Condvar::new(),
        closing: AtomicBool::new(false),
        cluster: Arc::clone(&tools.cluster),
        system: Box::new(system),
    });
    shared.watch()?;
    Ok(Arc::new(MembershipPlane { shared, tools: tools.clone() }))
}

/// A system that has members, as the state machine sees it. Its methods may take long.
trait System: Send + Sync {
    /// What it can do.
    fn changes(&self) -> &[Change];

    /// Whom a node takes for members, if it can say.
    fn members(&self, node: &str) -> Option<Members>;

    /// Makes a change.
    fn change(&self, operation: &Operation) -> Outcome;
}

/// What the threads of a run share.
struct Shared {
    machine: Mutex<Machine>,
    changed: Condvar,
    closing: AtomicBool,
    cluster: Arc<Cluster>,
    system: Box<dyn System>,
}

impl Shared {
    /// Asks each node again and again, in a thread of its own.
    fn watch(self: &Arc<Shared>) -> Result<(), RunError> {
        for node in self.cluster.names() {
            let shared = Arc::clone(self);
            std::thread::Builder::new()
                .name(format!("view of {node}"))
                .spawn(move || {
                    while !shared.is_closing() {
                        let view = shared.runs(&node).then(|| shared.system.members(&node));
                        lock(&shared.machine).observe(&node, view.flatten());
                        shared.changed.notify_all();
                        std::thread::sleep(VIEW_EVERY);
                    }
                })
                .map_err(|e| RunError::Internal(format!("cannot watch the members: {e}")))?;
        }
        Ok(())
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn runs(&self, node: &str) -> bool {
        self.cluster.is_up(node) && !self.cluster.is_paused(node)
    }

    fn up(&self) -> Members {
        self.cluster.names().into_iter().filter(|node| self.runs(node)).collect()
    }

    /// Makes a change that the machine has begun, and tells it what came of it.
    fn perform(&self, id: u64, operation: &Operation) {
        let outcome = self.system.change(operation);
        lock(&self.machine).answered(id, outcome);
        self.changed.notify_all();
    }

    /// Whether it belongs to the cluster and nothing about it is under way.
    fn is_settled_in(&self, node: &str) -> bool {
        let machine = lock(&self.machine);
        machine.members().contains(node)
            && machine.agrees()
            && !machine.pending().iter().any(|pending| pending.operation.node == node)
    }

    /// Makes a node join until it belongs to the cluster.
    fn rejoin(&self, node: &str) {
        while !self.is_closing() && !self.is_settled_in(node) {
            let up = self.up();
            let begun = {
                let mut machine = lock(&self.machine);
                let mut possible = machine.possible(&[Change::Join], &up, false);
                possible.retain(|operation| operation.node == node);
                let operation = possible.into_iter().next();
                operation.map(|operation| (machine.begin(operation.clone()), operation))
            };
            if let Some((id, operation)) = begun {
                self.perform(id, &operation);
                // One that was refused at once would be asked for again at once.
                std::thread::sleep(JOIN_EVERY);
            }
            let machine = lock(&self.machine);
            drop(self.changed.wait_timeout(machine, VIEW_EVERY));
        }
    }
}

struct MembershipPlane {
    shared: Arc<Shared>,
    tools: Tools,
}

impl Drop for MembershipPlane {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.changed.notify_all();
    }
}

impl MembershipPlane {
    /// What a fault may do, and whether it may be unsafe.
    fn wanted(&self, fault: &MembershipFault) -> (Vec<Change>, bool) {
        let (changes, allow_unsafe) = match fault {
            MembershipFault::Change { allow_unsafe } => {
                (vec![Change::Join, Change::Leave, Change::Forget], *allow_unsafe)
            }
            MembershipFault::Join => (vec![Change::Join], false),
            MembershipFault::Leave { allow_unsafe } => (vec![Change::Leave], *allow_unsafe),
            MembershipFault::Forget { allow_unsafe } => (vec![Change::Forget], *allow_unsafe),
        };
        let known = self.shared.system.changes();
        (changes.into_iter().filter(|change| known.contains(change)).collect(), allow_unsafe)
    }

    /// Why there is nothing to do.
    fn nothing(&self, machine: &Machine, up: &Members) -> String {
        let names = |members: &Members| members.iter().cloned().collect::<Vec<_>>().join(" ");
        let pending: BTreeSet<String> =
            machine.pending().iter().map(|p| told(&p.operation)).collect();
        let pending: Vec<String> = pending.into_iter().collect();
        format!(
            "no such change is possible now, or safe: members {}; up {}; under way: {}",
            names(machine.members()),
            names(up),
            if pending.is_empty() { "nothing".to_owned() } else { pending.join(", ") }
        )
    }
}

/// `forget n2 by n1`.
fn told(operation: &Operation) -> String {
    format!("{} {} by {}", operation.change.name(), operation.node, operation.via)
}

impl FaultPlane for MembershipPlane {
    fn apply(&self, order: &Order) -> Result<Applied, String> {
        let FaultKind::Membership(fault) = &order.fault.kind else {
            return Err(format!("{} is no fault of membership", order.fault.kind.name()));
        };
        let (changes, allow_unsafe) = self.wanted(fault);
        if changes.is_empty() {
            let module = &self.tools.spec.nemesis.membership;
            return Err(format!("{module} has no callback for {}", order.fault.kind.name()));
        }
        let role = order.fault.scope.as_ref().and_then(|role| self.tools.spec.roles.get(role));
        let up = self.shared.up();
        let mut stream = self.tools.seed.stream("late-membership", u64::from(order.fault.id));
        let (id, operation, before) = {
            let mut machine = lock(&self.shared.machine);
            let mut possible = machine.possible(&changes, &up, allow_unsafe);
            possible.retain(|operation| role.is_none_or(|role| role.contains(&operation.node)));
            let operation = Machine::choose(&possible, &mut stream)
                .ok_or_else(|| self.nothing(&machine, &up))?;
            let before = machine.members().clone();
            (machine.begin(operation.clone()), operation, before)
        };
        let (shared, asked) = (Arc::clone(&self.shared), operation.clone());
        std::thread::spawn(move || shared.perform(id, &asked));
        let decided = vec![
            ("change", Value::sym(operation.change.name())),
            ("node", Value::str(operation.node.as_str())),
            ("via", Value::str(operation.via.as_str())),
            ("members", strings(&before)),
        ];
        let fault = AppliedChange { shared: Arc::clone(&self.shared), id, operation };
        Ok(Applied { monotonic_ns: clock::monotonic_ns(), decided, fault: Arc::new(fault) })
    }

    /// Every node is to be a member again. A system that does not take a node back is no fault of the run: the
    /// history says who is missing.
    fn heal_all(&self) -> Result<Vec<String>, String> {
        let deadline = Instant::now() + REJOIN_MAX;
        let nodes = self.shared.cluster.names();
        for node in nodes.iter().filter(|node| !self.shared.is_settled_in(node)) {
            let (shared, node) = (Arc::clone(&self.shared), node.clone());
            std::thread::spawn(move || shared.rejoin(&node));
        }
        let missing = loop {
            let mut missing = nodes.clone();
            missing.retain(|node| !self.shared.is_settled_in(node));
            let stops = self.tools.stop.is_set();
            if missing.is_empty() || stops || Instant::now() >= deadline {
                break missing;
            }
            let machine = lock(&self.shared.machine);
            drop(self.shared.changed.wait_timeout(machine, VIEW_EVERY));
        };
        let members = lock(&self.shared.machine).members().clone();
        let value = map([("members", strings(&members)), ("missing", strings(&missing))]);
        let recorder = &self.tools.recorder;
        recorder
            .observer(recorder.now_ns(), "membership", None, value)
            .map_err(|e| e.to_string())?;
        Ok(Vec::new())
    }
}

/// A change that was asked for.
struct AppliedChange {
    shared: Arc<Shared>,
    id: u64,
    operation: Operation,
}

impl AppliedFault for AppliedChange {
    fn observe(&self, _now_ns: u64) -> Option<Seen> {
        let machine = lock(&self.shared.machine);
        if machine.resolution(self.id) != Some(&Resolution::TookPlace) {
            return None;
        }
        let members: Vec<&String> = machine.members().iter().collect();
        let names = members.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
        Some(Seen {
            text: format!("{}: members are {names}", told(&self.operation)),
            evidence: map([("members", strings(members))]),
        })
    }

    fn why_not(&self) -> String {
        let what = told(&self.operation);
        match lock(&self.shared.machine).resolution(self.id) {
            Some(Resolution::DidNot(reason)) => format!("{what}: {reason}"),
            Some(Resolution::TookPlace) => format!("{what} took place too late to be seen"),
            None => format!("{what} was still under way: no agreement among the members by then"),
        }
    }

    fn heal(&self, _at_ns: Option<u64>) -> Result<u64, String> {
        if self.operation.change != Change::Join {
            let (shared, node) = (Arc::clone(&self.shared), self.operation.node.clone());
            // It waits for what is still under way about the node, which may take it out yet.
            std::thread::spawn(move || shared.rejoin(&node));
        }
        Ok(clock::monotonic_ns())
    }

    fn observe_heal(&self) -> Option<Seen> {
        let node = &self.operation.node;
        if self.operation.change == Change::Join {
            return Some(Seen::new(format!("{node} stays a member")));
        }
        self.shared.is_settled_in(node).then(|| Seen::new(format!("{node} is a member again")))
    }
}
