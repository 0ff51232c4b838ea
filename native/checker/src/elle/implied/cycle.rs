//! A contradiction in words: a cycle of dependencies, some of which follow from the model.

use fuzz_dist_core::Anomaly;

use crate::elle::cycles::{Cycle, Step, simple};
use crate::elle::explain;
use crate::elle::graph::{
    Edge, Graph, NONE, Nonadjacent, Only, PASS, PROCESS, REALTIME, RW, View, WR, WW, components,
    key_of, kind_of, kinds,
};
use crate::elle::implied::closure::{Implied, Place};
use crate::elle::implied::facts::Facts;
use crate::elle::implied::{NAME, Paths, Requirement};
use crate::elle::models::friendly;
use crate::elle::txns::{Dialect, Txns, shown};
use crate::elle::walk::{Hop, Scratch, shortest};

/// How many hops are closed to find a short cycle.
const TRIES_MAX: usize = 64;
/// How many states may be visited for that, beyond those of the first.
const VISITS_MAX: usize = 4_000_000;

/// What is no anti-dependency.
const BASE: u32 = kinds(&[WW, WR, PROCESS, REALTIME]);

/// Paths with at most one anti-dependency: a state is twice the vertex, and one more behind it.
struct AtMostOne<'a> {
    graph: &'a Graph,
}

impl View for AtMostOne<'_> {
    fn state_count(&self) -> u32 {
        self.graph.vertex_count() * 2
    }

    fn edges(&self, state: u32) -> std::ops::Range<u32> {
        Only { graph: self.graph, kinds: u32::MAX }.edges(state / 2)
    }

    fn follow(&self, state: u32, edge: u32) -> Option<(u32, u32)> {
        let (target, tag) = Only { graph: self.graph, kinds: u32::MAX }.follow(state / 2, edge)?;
        match kind_of(tag) {
            RW => state.is_multiple_of(2).then_some((target * 2 + 1, tag)),
            _ => Some((target * 2 + state % 2, tag)),
        }
    }
}

/// The evidence of a contradiction.
pub fn anomaly(
    txns: &Txns,
    facts: &Facts,
    implied: &Implied,
    requirement: Requirement,
    place: Place,
) -> Option<Anomaly> {
    let forward: Vec<Edge> = implied
        .edges
        .list
        .iter()
        .map(|edge| Edge { from: edge.to, to: edge.from, tag: edge.tag })
        .collect();
    let graph = Graph::new(implied.edges.vertex_count, &forward);
    let txn_count = txns.list.len() as u32;
    let single = |state: u32| state;
    let double = |state: u32| state / 2;
    let hops = match (requirement.paths, place) {
        (_, Place::Through(txn)) => {
            let is_helper = |state: u32| state / 2 >= txn_count;
            let view = AtMostOne { graph: &graph };
            let scratch = &mut Scratch::default();
            let path = shortest(&view, txn * 2, txn * 2 + 1, is_helper, scratch)?;
            path.iter().map(|hop| Hop { from: hop.from / 2, to: hop.to / 2, ..*hop }).collect()
        }
        (Paths::All, _) => around(&Only { graph: &graph, kinds: u32::MAX }, txn_count, single)?,
        (Paths::AtMostOne, _) => around(&Only { graph: &graph, kinds: BASE }, txn_count, single)?,
        (Paths::Nonadjacent, _) => {
            let view = Nonadjacent { graph: &graph, base: BASE, apart: &[] };
            simple(around(&view, txn_count, double)?)
        }
    };
    let steps = steps(&hops, txn_count)?;
    let cycle = Cycle { steps, time_adds_nothing: false, is_detour: false, name_by_reads: NAME };
    let tell = Teller { txns, facts, implied };
    let why = |step: &Step, names: (&str, &str)| tell.why(step, names);
    let mut anomaly = explain::anomaly_with(txns, Dialect::RwRegister, NAME, &cycle, &why);
    let model = friendly(requirement.model);
    anomaly.text =
        format!("If this were {model}, then its transactions were in a circle.\n{}", anomaly.text);
    let mut about: Vec<u32> = cycle.steps.iter().map(|step| step.from).collect();
    about.extend(cycle.steps.iter().filter_map(|step| tell.witness(step)));
    anomaly.ops = txns.records(&about);
    Some(anomaly)
}

/// A short closed walk in the smallest component of a view, with vertices for states unless a state
/// has memory.
fn around(view: &impl View, txn_count: u32, vertex: impl Fn(u32) -> u32) -> Option<Vec<Hop>> {
    let parts = components(view);
    let members = parts.members().into_iter().next()?;
    let mut scratch = Scratch::default();
    let mut best: Option<Vec<Hop>> = None;
    let is_helper = |state: u32| vertex(state) >= txn_count;
    let hops = members.iter().flat_map(|state| {
        let edges = view.edges(*state);
        edges.filter_map(|edge| {
            let (to, tag) = view.follow(*state, edge)?;
            parts.together(*state, to).then_some(Hop { from: *state, to, tag })
        })
    });
    for hop in hops.filter(|hop| kind_of(hop.tag) != PASS).take(TRIES_MAX) {
        let Some(path) = shortest(view, hop.to, hop.from, is_helper, &mut scratch) else {
            continue;
        };
        let cycle: Vec<Hop> = std::iter::once(hop).chain(path).collect();
        if best.as_ref().is_none_or(|best| cycle.len() < best.len()) {
            best = Some(cycle);
        }
        if scratch.visited > VISITS_MAX {
            break;
        }
    }
    best
}

/// The steps between transactions, helpers left out.
fn steps(hops: &[Hop], txn_count: u32) -> Option<Vec<Step>> {
    let begin = hops.iter().position(|hop| kind_of(hop.tag) != PASS)?;
    let mut steps = Vec::new();
    let mut from = hops[begin];
    for hop in hops[begin..].iter().chain(&hops[..begin]) {
        if kind_of(hop.tag) != PASS {
            from = *hop;
        }
        if hop.to < txn_count {
            let (kind, key) = (kind_of(from.tag), key_of(from.tag));
            steps.push(Step { from: from.from, to: hop.to, kind, key });
        }
    }
    Some(steps)
}

struct Teller<'a, 'h> {
    txns: &'a Txns<'h>,
    facts: &'a Facts,
    implied: &'a Implied,
}

impl Teller<'_, '_> {
    /// The versions that a step orders: that of who precedes or what it read, and that of who
    /// follows.
    fn versions(&self, step: &Step) -> Option<(u32, u32)> {
        let later = self.facts.version_of(step.to, step.key)?;
        let is_key = |version: &&u32| self.facts.versions[**version as usize].0 == step.key;
        let earlier = match step.kind {
            WW => self.facts.version_of(step.from, step.key)?,
            RW => *self.facts.reads(step.from).iter().find(is_key)?,
            _ => return None,
        };
        Some((earlier, later))
    }

    /// The transaction whose read shows the order of a step, if a read does.
    fn witness(&self, step: &Step) -> Option<u32> {
        let reader = *self.implied.why.get(&self.versions(step)?)?;
        (reader != NONE).then_some(reader)
    }

    fn value(&self, version: u32) -> String {
        let (key, writer) = self.facts.versions[version as usize];
        let mops = self.txns.mops_of(writer).iter();
        let last = mops.rev().find(|mop| mop.is_write() && mop.key() == key);
        last.map_or_else(String::new, |mop| shown(mop.value))
    }

    /// Why a step is one, if it follows from the model.
    fn why(&self, step: &Step, (a, b): (&str, &str)) -> Option<String> {
        let versions = self.versions(step)?;
        let reader = *self.implied.why.get(&versions)?;
        let (earlier, later) = versions;
        let key = self.txns.key(step.key);
        let (old, new) = (self.value(earlier), self.value(later));
        let writer = self.facts.versions[earlier as usize].1;
        let what = match step.kind {
            WW => format!("{a} wrote {key} = {old} before {b} wrote {key} = {new}"),
            _ => format!("{a} read {key} = {old}, which was written before {b} wrote {new}"),
        };
        let of = |txn: u32| format!("record {}", self.txns.record(txn));
        Some(match reader {
            NONE => format!("{what}: {} comes before {}", of(writer), of(step.to)),
            reader => {
                format!("{what}: {} comes after {} and still read {new}", of(reader), of(writer))
            }
        })
    }
}
