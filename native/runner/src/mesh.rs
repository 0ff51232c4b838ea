//! Who sees whom: asks every node for its `nodes()`, connects nodes to each other, waits for a full mesh.
//!
//! A partition asks that certain directed pairs cannot talk. What the cluster makes of it is another
//! matter: with `prevent_overlapping_partitions` one cut link disconnects further nodes. Both are
//! recorded, as `:requested` and `:effective`.

mod attempts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::fault::Link;

use crate::agents::{Agents, Role};
use crate::directory::NodeDirectory;
use crate::observer::short_name;
use crate::recorder::{Recorder, map, strings};
use crate::request::{Check, RunError};
use crate::stop::Stop;
use attempts::Attempts;

/// How long a node may take to say whom it sees; a paused one never does.
const ASK_TIMEOUT: Duration = Duration::from_millis(1000);

/// How long an attempt to connect may be under way before another one is made; longer than set-up may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A name that no process is registered under.
const NOBODY: &str = "fuzz_dist_nobody";

/// The nodes of a run and the agents in them.
#[derive(Debug, Clone)]
pub struct Mesh {
    agents: Arc<Agents>,
    nodes: NodeDirectory,
    attempts: Arc<Attempts>,
    /// Whether the run keeps the nodes connected.
    keep_connected: bool,
}

impl Mesh {
    /// For the nodes of a run.
    pub fn new(agents: Arc<Agents>, nodes: NodeDirectory, keep_connected: bool) -> Mesh {
        Mesh { agents, nodes, attempts: Arc::default(), keep_connected }
    }

    fn nodes(&self) -> Vec<(String, String)> {
        self.nodes.all()
    }

    /// Whom each node that answers sees, by short names.
    pub fn ask(&self) -> BTreeMap<String, Vec<String>> {
        let nodes = self.nodes();
        std::thread::scope(|scope| {
            let asked: Vec<_> = nodes
                .iter()
                .map(|(short, _)| (short, scope.spawn(move || self.ask_one(short))))
                .collect();
            asked
                .into_iter()
                .filter_map(|(short, handle)| {
                    handle.join().ok().flatten().map(|seen| (short.clone(), seen))
                })
                .collect()
        })
    }

    fn ask_one(&self, short: &str) -> Option<Vec<String>> {
        let link = self.agents.get(Role::Node, short)?;
        let answer = link.request("nodes", [], ASK_TIMEOUT).ok()?;
        let visible = answer.first()?.items().unwrap_or_default();
        let nodes = self.nodes();
        let mine = |name: &&str| nodes.iter().any(|(short, _)| short == name);
        Some(
            visible
                .iter()
                .filter_map(Value::as_text)
                .map(short_name)
                .filter(mine)
                .map(str::to_owned)
                .collect(),
        )
    }

    /// Whether every node sees every other.
    fn is_full(&self, seen: &BTreeMap<String, Vec<String>>) -> bool {
        let nodes = self.nodes();
        nodes
            .iter()
            .all(|(short, _)| seen.get(short).is_some_and(|peers| peers.len() == nodes.len() - 1))
    }

    /// Whether nothing is left to wait for: every node sees every other, or the run does not connect them.
    pub fn is_settled(&self) -> bool {
        !self.keep_connected || self.is_full(&self.ask())
    }

    /// Asks each node to connect to those that it does not see, if the run keeps them connected. May be called by
    /// any number of threads as often as they like: one of them asks, and of each ordered pair at most one attempt
    /// is under way, the next after a pause ([`attempts`]). Else the harness would load `net_kernel`, whose
    /// recovery it measures.
    pub fn connect(&self) {
        if self.keep_connected && self.attempts.begin_round(Instant::now()) {
            self.connect_missing(&self.ask());
            self.attempts.end_round(Instant::now());
        }
    }

    /// A link was healed: what failed before it says nothing about what comes, and is tried at once.
    pub fn hope_again(&self) {
        self.attempts.forget_failures();
    }

    fn connect_missing(&self, seen: &BTreeMap<String, Vec<String>>) {
        let nodes = self.nodes();
        for (short, peers) in seen {
            let others = nodes.iter().filter(|(other, _)| other != short);
            let (there, missing): (Vec<_>, Vec<_>) =
                others.partition(|(other, _)| peers.contains(other));
            there.iter().for_each(|(other, _)| self.attempts.succeeded(short, other));
            let Some(link) = self.agents.get(Role::Node, short) else { continue };
            let now = Instant::now();
            let due =
                missing.into_iter().filter(|(other, _)| self.attempts.begin(short, other, now));
            let (others, full): (Vec<String>, Vec<Value>) =
                due.map(|(other, full)| (other.clone(), Value::sym(full))).unzip();
            if others.is_empty() {
                continue;
            }
            let (attempts, from) = (Arc::clone(&self.attempts), short.clone());
            std::thread::spawn(move || {
                // The answer comes when set-up ends, which takes seconds into a silent link. Whether it
                // succeeded is seen by the next round.
                drop(link.ask("connect", [Value::list(full)], CONNECT_TIMEOUT));
                others.iter().for_each(|other| attempts.ended(&from, other, Instant::now()));
            });
        }
    }

    /// Sends one small message over each of these links that is connected, to nobody: so that bytes pass a link
    /// that works, also when nothing else uses it and its next tick is far. It connects nothing.
    pub fn nudge(&self, links: &[Link]) {
        let nodes = self.nodes();
        for link in links {
            let to = nodes.iter().find(|(short, _)| *short == link.to);
            if let (Some((_, full)), Some(from)) = (to, self.agents.get(Role::Node, &link.from)) {
                let nobody = Value::tuple(vec![Value::sym(NOBODY), Value::sym(full)]);
                let options = Value::list(vec![Value::sym("noconnect"), Value::sym("nosuspend")]);
                from.send(crate::agents::message::tagged(
                    "call",
                    [
                        Value::Int(0),
                        Value::sym("erlang"),
                        Value::sym("send"),
                        Value::list(vec![nobody, Value::Nil, options]),
                        Value::Int(ASK_TIMEOUT.as_millis() as i64),
                    ],
                ));
            }
        }
    }

    /// Connects and waits for a full mesh; false if it was not full at the deadline.
    pub fn await_full(&self, deadline: Instant, stop: &Stop) -> bool {
        self.await_full_while(deadline, stop, &|| Ok(())).unwrap_or(false)
    }

    /// As [`Mesh::await_full`]; ends with the error of `check` as soon as it has one.
    pub fn await_full_while(
        &self,
        deadline: Instant,
        stop: &Stop,
        check: Check<'_>,
    ) -> Result<bool, RunError> {
        loop {
            check()?;
            let seen = self.ask();
            if self.is_full(&seen) {
                return Ok(true);
            }
            if Instant::now() >= deadline || stop.wait(Duration::from_millis(100)) {
                return Ok(false);
            }
            if self.keep_connected {
                self.connect_missing(&seen);
            }
        }
    }

    /// Records what each node sees, and requested against effective connectivity.
    pub fn record_connectivity(
        &self,
        recorder: &Recorder,
        fault_id: u32,
        requested: &[Link],
    ) -> Result<(), RunError> {
        let seen = self.ask();
        let id = Value::Int(i64::from(fault_id));
        let now_ns = recorder.now_ns();
        for (short, peers) in &seen {
            let value = map([("visible", strings(peers)), ("id", id.clone())]);
            recorder.observer(now_ns, "nodes", Some(short), value)?;
        }
        let nodes = self.nodes();
        let mut effective = Vec::new();
        for (short, peers) in &seen {
            for (other, _) in &nodes {
                if other != short && !peers.contains(other) {
                    effective.push(pair(short, other));
                }
            }
        }
        let requested: Vec<Value> =
            requested.iter().map(|link| pair(&link.from, &link.to)).collect();
        let value = map([
            ("id", id),
            ("requested", Value::list(requested)),
            ("effective", Value::list(effective)),
        ]);
        recorder.nemesis(now_ns, "connectivity", value)
    }
}

fn pair(from: &str, to: &str) -> Value {
    Value::list(vec![Value::str(from), Value::str(to)])
}
