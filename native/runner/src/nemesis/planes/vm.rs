//! The vm plane: faults of Erlang processes, schedulers, connections and code, inside a node.
//!
//! The node agent applies them (`elixir_client/src/fuzz_dist_vm.erl`), measures their effect in the node, and heals
//! them when it is asked, when their time is long over, and when its connection to the core ends: whatever
//! becomes of the core, nothing stays. What the node needs for it is sent over the agent's connection if it is not
//! in its code path.
//!
//! A selector may mean a process of another node (of `global`, of a resolver): the fault then goes there. A node
//! that cannot answer (stalled, paused, dead) is not waited for: its heal is on its way, and its lease has a
//! deadline.
//!
//! Limits: a node that such a fault takes down with it (the last restart of a permanent application) is down as
//! after any crash: it is started again after the main phase, or by what the spec says of crashed nodes.

pub mod wire;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fuzz_dist_core::clock;
use fuzz_dist_core::fault::{Availability, FaultKind, Plane, VmFault};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::Spec;
use fuzz_dist_core::sync::lock;
use fuzz_dist_core::{Sym, Value};
use fuzz_dist_nemesis::guard::Identity;
use fuzz_dist_schedule::draw;

use super::{Applied, AppliedFault, FaultPlane, Order, Registration, Seen, Tools};
use crate::agents::message::tagged;
use crate::agents::{Agents, Link, RequestError, Role};
use crate::cluster::code_path;
use crate::directory::NodeDirectory;
use crate::observer::short_name;
use crate::recorder::map;
use crate::request::RunError;
use crate::stop::Stop;
use wire::{Answer, Look};

/// What the node needs to have, in the order in which it is loaded.
const MODULES: [&str; 3] = ["fuzz_dist_selector", "fuzz_dist_vm_faults", "fuzz_dist_vm"];

/// How long a node may take to load a module, and to apply a fault.
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);
const APPLY_TIMEOUT: Duration = Duration::from_secs(4);

/// How long is waited for what a node saw, and for it to say that it is healed.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
const HEAL_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the nodes may take to heal everything at the end.
const HEAL_ALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long after the heal an effect may still be told: that of a stall is known when it is over.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// The plane.
pub const REGISTRATION: Registration = Registration {
    plane: Plane::Vm,
    always: false,
    availability,
    prepare: None,
    open: |tools| Ok(Arc::new(VmPlane::open(tools)?)),
};

fn availability(kind: &FaultKind, spec: Option<&Spec>) -> Availability {
    match kind {
        FaultKind::Vm(VmFault::LoadModule { file, .. }) if spec.is_some() => {
            match std::fs::metadata(file) {
                Ok(found) if found.is_file() => Availability::Real,
                Ok(_) => Availability::Unavailable(format!("{file} is no file")),
                Err(error) => Availability::Unavailable(format!(
                    "{file} cannot be read ({error}); compile the second version of the module there"
                )),
            }
        }
        FaultKind::Vm(_) => Availability::Real,
        _ => Availability::not_built(),
    }
}

/// The plane. A test may have one without a cluster.
#[derive(Debug)]
pub struct VmPlane {
    agents: Arc<Agents>,
    nodes: NodeDirectory,
    /// Where the compiled modules are.
    ebin: PathBuf,
    seed: Seed,
    /// Whether the run keeps nodes connected.
    reconnects: bool,
    stop: Stop,
    /// Connections over which something was applied.
    used: Mutex<Vec<Arc<Link>>>,
}

/// A fault in one node.
#[derive(Debug, Clone)]
struct Held {
    node: String,
    link: Arc<Link>,
    /// The process of the VM, if it is on this machine.
    process: Option<Identity>,
    /// What was decided only there.
    decided: Value,
    applied_ns: u64,
}

/// Why a node did not apply a fault.
enum Refusal {
    /// The process is on the node of this full name.
    Elsewhere(String),
    /// For people.
    Reason(String),
}

impl VmPlane {
    fn open(tools: &Tools) -> Result<VmPlane, RunError> {
        let agents = Arc::clone(&tools.agents);
        let nodes = tools.cluster.directory().clone();
        let ebin = code_path::find_ebin()?;
        let stop = tools.stop.clone();
        let plane = VmPlane::new(agents, nodes, ebin, tools.seed, tools.spec.cluster.connect);
        let plane = VmPlane { stop, ..plane };
        plane.load_everywhere();
        Ok(plane)
    }

    /// The first fault of a node would else be late by what loading takes. A node that cannot is told of by its faults.
    fn load_everywhere(&self) {
        std::thread::scope(|scope| {
            for node in self.nodes.shorts() {
                scope.spawn(move || self.link(&node).map(drop));
            }
        });
    }

    /// For nodes whose agents dial `agents`, with the folder of our compiled modules.
    pub fn new(
        agents: Arc<Agents>,
        nodes: NodeDirectory,
        ebin: PathBuf,
        seed: Seed,
        reconnects: bool,
    ) -> VmPlane {
        let (stop, used) = (Stop::default(), Mutex::default());
        VmPlane { agents, nodes, ebin, seed, reconnects, stop, used }
    }

    /// The connection of the node's agent, with everything loaded that faults need.
    fn link(&self, node: &str) -> Result<Arc<Link>, String> {
        let link = self.agents.get(Role::Node, node).filter(|link| link.is_alive());
        let link = link.ok_or_else(|| {
            format!("{node} has no agent that is connected; is the node down, by another fault?")
        })?;
        if lock(&self.used).iter().any(|known| Arc::ptr_eq(known, &link)) {
            return Ok(link);
        }
        for module in MODULES {
            load(&link, module, &self.ebin)
                .map_err(|reason| format!("{node} has not loaded {module}: {reason}"))?;
        }
        let mut used = lock(&self.used);
        used.retain(|link| link.is_alive());
        used.push(Arc::clone(&link));
        Ok(link)
    }

    fn apply_to(&self, node: &str, order: &Order, request: &Value) -> Result<Held, Refusal> {
        let link = self.link(node).map_err(Refusal::Reason)?;
        let process = link.os_pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Identity::of);
        let id = Value::Int(i64::from(order.fault.id));
        let what = tagged("apply", [id, request.clone()]);
        match wire::ask(&link, what, APPLY_TIMEOUT) {
            Ok(Answer::Ok(decided)) => {
                let applied_ns = decided.get("mono_ns").and_then(Value::as_int);
                Ok(Held {
                    node: node.to_owned(),
                    link,
                    process,
                    applied_ns: applied_ns.map_or_else(clock::monotonic_ns, |ns| ns.max(0) as u64),
                    decided: without(&decided, "mono_ns"),
                })
            }
            Ok(Answer::Elsewhere(full_name)) => Err(Refusal::Elsewhere(full_name)),
            Ok(Answer::Refused(reason)) => Err(Refusal::Reason(format!("{node}: {reason}"))),
            Err(error) => {
                // Should it still be under way there, it ends where it begins.
                wire::tell(&link, heal_request(order.fault.id));
                let hint = match error {
                    RequestError::Timeout { .. } => ": is it stalled or paused by another fault?",
                    _ => "",
                };
                Err(Refusal::Reason(format!("{node}: {error}{hint}")))
            }
        }
    }

    /// Applies it to all at the same time, and then on the nodes that selectors pointed to.
    fn apply_to_all(
        &self,
        order: &Order,
        request: &Value,
        held: &mut Vec<Held>,
    ) -> Result<(), String> {
        let nodes = &order.resolved.nodes;
        let outcomes: Vec<Result<Held, Refusal>> = std::thread::scope(|scope| {
            let applying: Vec<_> = nodes
                .iter()
                .map(|node| scope.spawn(move || self.apply_to(node, order, request)))
                .collect();
            let panicked = || Err(Refusal::Reason("the vm plane panicked".into()));
            applying.into_iter().map(|one| one.join().unwrap_or_else(|_| panicked())).collect()
        });
        let (mut elsewhere, mut refused) = (Vec::new(), None);
        for (node, outcome) in nodes.iter().zip(outcomes) {
            match outcome {
                Ok(one) => held.push(one),
                Err(Refusal::Elsewhere(full_name)) => elsewhere.push((node, full_name)),
                Err(Refusal::Reason(reason)) => refused = refused.or(Some(reason)),
            }
        }
        if let Some(reason) = refused {
            return Err(reason);
        }
        for (node, full_name) in elsewhere {
            let Some(there) = self.nodes.short(&full_name) else {
                return Err(format!("{node}: the process is on {full_name}, no node of the run"));
            };
            if held.iter().any(|one| one.node == there) {
                continue;
            }
            held.push(self.apply_to(&there, order, request).map_err(|refusal| match refusal {
                Refusal::Reason(reason) => reason,
                Refusal::Elsewhere(next) => format!(
                    "{node} said that the process is on {there}, which said that it is on {}: it moves",
                    short_name(&next)
                ),
            })?);
        }
        Ok(())
    }
}

impl FaultPlane for VmPlane {
    fn apply(&self, order: &Order) -> Result<Applied, String> {
        let FaultKind::Vm(kind) = &order.fault.kind else {
            return Err(format!("{} is no fault inside nodes", order.fault.kind.name()));
        };
        let mut stream = self.seed.stream("late-process", u64::from(order.fault.id));
        let draw = draw::below(&mut stream, 1 << 32);
        let until_ns = clock::monotonic_ns() + order.fault.duration_ns;
        let request = wire::fault(kind, draw, until_ns, self.reconnects)?;
        let mut held = Vec::new();
        if let Err(reason) = self.apply_to_all(order, &request, &mut held) {
            heal(&held, order.fault.id);
            return Err(reason);
        }
        if *kind == VmFault::StallSchedulers {
            let go = tagged("go", [Value::Int(i64::from(order.fault.id))]);
            held.iter().for_each(|one| wire::tell(&one.link, go.clone()));
        }
        let found = held.iter().map(|one| (Value::sym(&one.node), one.decided.clone()));
        let decided = vec![("found", Value::map(found))];
        let monotonic_ns = held.iter().map(|one| one.applied_ns).max();
        let seen = Mutex::new(held.iter().map(|_| None).collect());
        let fault = AppliedToVms {
            agents: Arc::clone(&self.agents),
            id: order.fault.id,
            held,
            seen,
            why_not: Mutex::default(),
            healed: Mutex::default(),
        };
        Ok(Applied {
            monotonic_ns: monotonic_ns.unwrap_or_else(clock::monotonic_ns),
            decided,
            fault: Arc::new(fault),
        })
    }

    fn heal_all(&self) -> Result<Vec<String>, String> {
        let used: Vec<Arc<Link>> = lock(&self.used).clone();
        let deadline = Instant::now() + HEAL_ALL_TIMEOUT;
        for link in used {
            loop {
                let left = match wire::ask(&link, Value::sym("heal_all"), LOOK_TIMEOUT) {
                    Ok(Answer::Ok(answer)) => answer.get("left").cloned().unwrap_or_default(),
                    Ok(_) | Err(RequestError::Gone(_)) => break,
                    Err(error) => Value::str(error.to_string()),
                };
                if left.items().is_some_and(<[Value]>::is_empty) {
                    break;
                }
                if Instant::now() >= deadline {
                    return Err(format!("{} still heals its faults: {left}", link.name()));
                }
                if self.stop.wait(Duration::from_millis(20)) {
                    return Ok(Vec::new());
                }
            }
        }
        Ok(Vec::new())
    }
}

/// Loads a module into the node unless it is there.
pub fn load(link: &Link, module: &str, ebin: &Path) -> Result<(), String> {
    let call = |function: &str, arguments: Vec<Value>| {
        let timeout_ms = Value::Int(LOAD_TIMEOUT.as_millis() as i64);
        let call = [Value::sym("code"), Value::sym(function), Value::list(arguments), timeout_ms];
        link.ask("call", call, LOAD_TIMEOUT * 2).map_err(|error| error.to_string())
    };
    let is_there = |answer: &Value| {
        let tag = answer.items().and_then(|items| items.first()).and_then(Value::as_sym);
        tag == Some(Sym::new("module"))
    };
    if is_there(&call("ensure_loaded", vec![Value::sym(module)])?) {
        return Ok(());
    }
    let file = format!("{module}.beam");
    let beam = std::fs::read(ebin.join(&file))
        .map_err(|error| format!("{}: {error}", ebin.join(&file).display()))?;
    let name = Value::list(file.bytes().map(|byte| Value::Int(byte.into())).collect::<Vec<_>>());
    let answer = call("load_binary", vec![Value::sym(module), name, Value::Bytes(Arc::new(beam))])?;
    if is_there(&answer) { Ok(()) } else { Err(format!("code:load_binary gave {answer}")) }
}

fn without(value: &Value, key: &str) -> Value {
    match value {
        Value::Map(pairs) => {
            Value::map(pairs.iter().filter(|(name, _)| name.as_text() != Some(key)).cloned())
        }
        other => other.clone(),
    }
}

fn heal_request(id: u32) -> Value {
    tagged("heal", [Value::Int(i64::from(id))])
}

/// Heals it everywhere at the same time; when the last node that answered had done so.
fn heal(held: &[Held], id: u32) -> u64 {
    std::thread::scope(|scope| {
        let healing: Vec<_> = held
            .iter()
            .map(|one| scope.spawn(move || wire::ask(&one.link, heal_request(id), HEAL_TIMEOUT)))
            .collect();
        let answers = healing.into_iter().filter_map(|one| one.join().ok());
        let times = answers.filter_map(|answer| match answer {
            Ok(Answer::Ok(answer)) => answer.get("mono_ns")?.as_int(),
            // Its heal is on its way, and there is its deadline.
            _ => None,
        });
        times.max().map_or_else(clock::monotonic_ns, |ns| ns.max(0) as u64)
    })
}

struct AppliedToVms {
    agents: Arc<Agents>,
    id: u32,
    held: Vec<Held>,
    /// Text and evidence, by node.
    seen: Mutex<Vec<Option<(String, Value)>>>,
    why_not: Mutex<String>,
    healed: Mutex<Option<Instant>>,
}

impl AppliedToVms {
    fn look(&self, one: &Held) -> Option<Look> {
        let what = tagged("look", [Value::Int(i64::from(self.id))]);
        match wire::ask(&one.link, what, LOOK_TIMEOUT) {
            Ok(Answer::Ok(answer)) => Look::read(&answer),
            _ => None,
        }
    }

    /// The effect in one node.
    fn effect(&self, one: &Held) -> Option<(String, Value)> {
        if one.is_gone() {
            return Some(("the whole node went down".into(), Value::Nil));
        }
        let Some(look) = self.look(one) else {
            *lock(&self.why_not) = format!("{}: no answer", one.node);
            return None;
        };
        if look.seen.is_none() {
            *lock(&self.why_not) = format!("{}: {}", one.node, look.why_not);
        }
        look.seen
    }

    /// What shows that nothing is left in one node.
    fn heal_effect(&self, one: &Held) -> Option<String> {
        if one.is_gone() {
            let again = self.agents.get(Role::Node, &one.node)?;
            return again.is_alive().then(|| "the node runs anew".into());
        }
        if !one.link.is_alive() {
            return Some("its lease ended with the connection of the agent".into());
        }
        self.look(one)?.heal_seen
    }

    fn is_healed(&self) -> bool {
        lock(&self.healed).is_some()
    }
}

impl Held {
    /// Whether the VM itself has ended.
    fn is_gone(&self) -> bool {
        !self.link.is_alive() && self.process.is_none_or(|process| !process.is_alive())
    }
}

impl AppliedFault for AppliedToVms {
    fn observe(&self, _now_ns: u64) -> Option<Seen> {
        let last = self.is_healed().then(|| Instant::now() + LAST_LOOK);
        loop {
            for (i, one) in self.held.iter().enumerate() {
                if lock(&self.seen)[i].is_none() {
                    let effect = self.effect(one);
                    lock(&self.seen)[i] = effect;
                }
            }
            let count = lock(&self.seen).iter().flatten().count();
            let late = last.is_none_or(|last| Instant::now() >= last);
            if count == self.held.len() || late && last.is_some() && count > 0 {
                return Some(self.summary(count));
            }
            if late {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn why_not(&self) -> String {
        lock(&self.why_not).clone()
    }

    fn heal(&self, _at_ns: Option<u64>) -> Result<u64, String> {
        let monotonic_ns = heal(&self.held, self.id);
        *lock(&self.healed) = Some(Instant::now());
        Ok(monotonic_ns)
    }

    fn observe_heal(&self) -> Option<Seen> {
        let texts: Option<Vec<String>> = self
            .held
            .iter()
            .map(|one| self.heal_effect(one).map(|text| format!("{}: {text}", one.node)))
            .collect();
        texts.map(|texts| Seen::new(texts.join("; ")))
    }
}

impl AppliedToVms {
    /// `n1: <0.99.0> is suspended`, of every node in which it shows.
    fn summary(&self, count: usize) -> Seen {
        let seen = lock(&self.seen);
        let shown = || self.held.iter().zip(seen.iter());
        let texts: Vec<String> = shown()
            .filter_map(|(one, seen)| {
                seen.as_ref().map(|(text, _)| format!("{}: {text}", one.node))
            })
            .collect();
        let mut text = texts.join("; ");
        if count < self.held.len() {
            text = format!("in {count} of {} nodes: {text}", self.held.len());
        }
        let evidence = shown().filter_map(|(one, seen)| {
            seen.as_ref().map(|(_, evidence)| (Value::sym(&one.node), evidence.clone()))
        });
        Seen { text, evidence: map([("nodes", Value::map(evidence))]) }
    }
}
