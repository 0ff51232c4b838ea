//! Cycles of dependencies, by the name of the anomaly that each is.
//!
//! Adya's classes, "Weak Consistency" (1999): only writes (G0), also reads (G1c), one anti-dependency
//! (G-single), several that are never adjacent (G-nonadjacent, which snapshot isolation forbids) or that
//! are (G2-item); each also with edges of a process's order or of real time. Whether a class is there is
//! decided exactly, by components of views of the graph and by reachability, not by a search with a
//! time-out; only then one short cycle is looked for. Within a component, a class that another one found
//! there already implies is not looked for, as in Elle.

use std::collections::BTreeMap;

use crate::budget::{Exhausted, Meter};
use crate::elle::findings::SHOWN_MAX;
use crate::elle::graph::{
    Components, Edge, Graph, NONE, Nonadjacent, Only, PASS, PROCESS, REALTIME, RW, WR, WW,
    components, key_of, kind_of, kinds,
};
use crate::elle::models::{Lattice, Names};
use crate::elle::orders::{self, Order};
use crate::elle::txns::Txn;
use crate::elle::walk::{Hop, Scratch, closing, shortest};

/// One step of a cycle: a transaction precedes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The number of the transaction that precedes.
    pub from: u32,
    /// The number of the one that follows.
    pub to: u32,
    /// The kind of the dependency.
    pub kind: u32,
    /// The key that it is about.
    pub key: u32,
}

/// A cycle of transactions.
#[derive(Debug, Clone)]
pub struct Cycle {
    /// Its steps; the last ends where the first begins.
    pub steps: Vec<Step>,
    /// Whether its transactions are also in a cycle without the steps in time.
    pub time_adds_nothing: bool,
    /// Whether a step in time leads past a part of it, to a cycle of a worse name.
    pub is_detour: bool,
    /// Its name if a write that was read counts as a read rather than as a write over a write.
    pub name_by_reads: &'static str,
}

/// Cycles of one name.
#[derive(Debug, Default)]
pub struct Class {
    /// In how many components of the graph there is one.
    pub count: u64,
    /// A few, the shortest first.
    pub shown: Vec<Cycle>,
}

/// Everything found.
#[derive(Debug, Default)]
pub struct Cycles {
    /// By name.
    pub classes: BTreeMap<&'static str, Class>,
    /// How many components have cycles.
    pub component_count: u64,
    /// How many transactions the largest of them has.
    pub largest: u64,
}

impl Cycles {
    /// Takes out of cycles with several steps in time what one such step leads past. Of two steps of real
    /// time, the first transaction of one always precedes the second of the other, so one of them is enough;
    /// where that leaves another name, the cycle was a detour.
    pub fn shorten(&mut self, txns: &[Txn]) {
        for (class, found) in &mut self.classes {
            for cycle in &mut found.shown {
                while let Some(steps) = orders::shortcut(txns, &cycle.steps) {
                    if name(&steps) != *class {
                        cycle.is_detour = true;
                        break;
                    }
                    cycle.steps = steps;
                }
            }
            found.shown.sort_by_key(|cycle| (cycle.is_detour, cycle.steps.len()));
        }
    }
}

/// How many cycles are compared to find a short one.
const TRIES_MAX: usize = 24;
/// How many states may be visited for that, beyond those of the first.
const VISITS_MAX: usize = 4_000_000;

const NAMES: [[&str; 3]; 5] = [
    ["G0", "G0-process", "G0-realtime"],
    ["G1c", "G1c-process", "G1c-realtime"],
    ["G-single-item", "G-single-item-process", "G-single-item-realtime"],
    ["G-nonadjacent-item", "G-nonadjacent-item-process", "G-nonadjacent-item-realtime"],
    ["G2-item", "G2-item-process", "G2-item-realtime"],
];
const G0: usize = 0;
const G1C: usize = 1;
const SINGLE: usize = 2;
const NONADJACENT: usize = 3;
const G2: usize = 4;

/// Finds all classes of cycles of a graph whose first `txn_count` vertices are transactions.
pub fn find(
    graph: &Graph,
    txn_count: u32,
    order: Order,
    lattice: &Lattice,
    meter: &Meter,
) -> Result<Cycles, Exhausted> {
    let all = components(&Only { graph, kinds: u32::MAX });
    meter.check_time()?;
    let mut cycles = Cycles::default();
    let mut places = vec![NONE; if all.nontrivial.is_empty() { 0 } else { all.of.len() }];
    for members in all.members() {
        let mut search = Search {
            local: local(graph, &members, &mut places),
            members: &members,
            txn_count,
            lattice,
            implied: Names::new(),
            data_parts: Components::default(),
            found: Vec::new(),
            scratch: Scratch::default(),
        };
        search.run(order, meter)?;
        cycles.component_count += 1;
        let size = members.iter().filter(|vertex| **vertex < txn_count).count() as u64;
        cycles.largest = cycles.largest.max(size);
        for (name, cycle) in search.found {
            let class = cycles.classes.entry(name).or_default();
            class.count += 1;
            class.shown.push(cycle);
            class.shown.sort_by_key(|cycle| cycle.steps.len());
            class.shown.truncate(SHOWN_MAX);
        }
    }
    Ok(cycles)
}

/// The part of the graph among some vertices. Between two transactions, a dependency through data that was
/// written hides weaker reasons.
fn local(graph: &Graph, members: &[u32], places: &mut [u32]) -> Graph {
    for (place, member) in (0..).zip(members) {
        places[*member as usize] = place;
    }
    let mut edges: Vec<Edge> = Vec::new();
    for (from, member) in (0..).zip(members) {
        let begin = edges.len();
        for (target, tag) in graph.out(*member) {
            let to = places[target as usize];
            if to != NONE {
                edges.push(Edge { from, to, tag });
            }
        }
        edges[begin..].sort_unstable_by_key(|edge| (edge.to, kind_of(edge.tag), key_of(edge.tag)));
        let mut kept = begin;
        for i in begin..edges.len() {
            let edge = edges[i];
            let before =
                (kept > begin).then(|| edges[kept - 1]).filter(|before| before.to == edge.to);
            let is_hidden = before.is_some_and(|before| {
                kind_of(before.tag) == kind_of(edge.tag) || kind_of(before.tag) <= WR
            });
            // A read of a write next to a write over a write is kept: both kinds have classes of their own.
            let is_read_of =
                before.is_some_and(|b| kind_of(b.tag) == WW) && kind_of(edge.tag) == WR;
            if !is_hidden || is_read_of {
                edges[kept] = edge;
                kept += 1;
            }
        }
        edges.truncate(kept);
    }
    for member in members {
        places[*member as usize] = NONE;
    }
    Graph::new(members.len() as u32, &edges)
}

/// The search in one component.
struct Search<'a> {
    local: Graph,
    members: &'a [u32],
    txn_count: u32,
    lattice: &'a Lattice,
    /// Names found, and those that they imply.
    implied: Names,
    found: Vec<(&'static str, Cycle)>,
    /// The components by data alone.
    data_parts: Components,
    scratch: Scratch,
}

impl Search<'_> {
    fn run(&mut self, order: Order, meter: &Meter) -> Result<(), Exhausted> {
        self.variant(0, &[], meter)?;
        for kind in order.kinds() {
            self.variant(if *kind == PROCESS { 1 } else { 2 }, &[*kind], meter)?;
        }
        Ok(())
    }

    fn wants(&self, class: usize, variant: usize) -> bool {
        !self.implied.contains(NAMES[class][variant])
    }

    /// Looks for the classes in order of severity, with the edges of one more order.
    fn variant(&mut self, variant: usize, extra: &[u32], meter: &Meter) -> Result<(), Exhausted> {
        let with = |own: &[u32]| kinds(&[own, extra].concat());
        let (writes, base, all) = (with(&[WW]), with(&[WW, WR]), with(&[WW, WR, RW]));
        meter.check_time()?;
        let everything = components(&Only { graph: &self.local, kinds: all });
        if variant == 0 {
            self.data_parts = everything.clone();
        }
        if everything.nontrivial.is_empty() {
            return Ok(());
        }
        let parts = components(&Only { graph: &self.local, kinds: base });
        meter.check_time()?;
        if !parts.nontrivial.is_empty() {
            if self.wants(G0, variant) {
                let parts = components(&Only { graph: &self.local, kinds: writes });
                self.through(writes, &parts, WW);
            }
            if self.wants(G1C, variant) {
                self.through(base, &parts, WR);
            }
        }
        meter.check_time()?;
        if self.wants(SINGLE, variant) || self.wants(NONADJACENT, variant) {
            self.nonadjacent(variant, base, &parts);
        }
        meter.check_time()?;
        if self.wants(G2, variant) {
            // Within a part without anti-dependencies, one would have made G-single.
            let hops = self.edges(RW, |hop| {
                everything.together(hop.from, hop.to) && !parts.together(hop.from, hop.to)
            });
            self.shortest_through(&hops, all);
        }
        Ok(())
    }

    /// The edges of a kind that satisfy a condition.
    fn edges(&self, kind: u32, condition: impl Fn(&Hop) -> bool) -> Vec<Hop> {
        let mut hops = Vec::new();
        for from in 0..self.local.vertex_count() {
            for (to, tag) in self.local.out(from) {
                let hop = Hop { from, to, tag };
                if kind_of(tag) == kind && condition(&hop) {
                    hops.push(hop);
                }
            }
        }
        hops
    }

    /// A short cycle of some kinds through an edge of one kind, if the components have one.
    fn through(&mut self, kinds: u32, parts: &Components, kind: u32) {
        if parts.nontrivial.is_empty() {
            return;
        }
        let mut sizes = vec![0u32; parts.count as usize];
        for part in &parts.of {
            sizes[*part as usize] += 1;
        }
        let mut hops = self.edges(kind, |hop| parts.together(hop.from, hop.to));
        // Small components have short cycles.
        hops.sort_by_key(|hop| sizes[parts.of[hop.from as usize] as usize]);
        self.shortest_through(&hops, kinds);
    }

    /// Closes some of the edges by the shortest path back and keeps the shortest cycle.
    fn shortest_through(&mut self, hops: &[Hop], kinds: u32) {
        let mut best: Option<Vec<Hop>> = None;
        let limit = self.scratch.visited + VISITS_MAX;
        for hop in hops.iter().take(TRIES_MAX) {
            let (members, txn_count) = (self.members, self.txn_count);
            let is_helper = |vertex: u32| members[vertex as usize] >= txn_count;
            let view = Only { graph: &self.local, kinds };
            if let Some(path) = shortest(&view, hop.to, hop.from, is_helper, &mut self.scratch) {
                let cycle: Vec<Hop> = std::iter::once(*hop).chain(path).collect();
                if best.as_ref().is_none_or(|best| cycle.len() < best.len()) {
                    best = Some(cycle);
                }
            }
            if best.as_ref().is_some_and(|best| best.len() == 2) || self.scratch.visited > limit {
                break;
            }
        }
        if let Some(cycle) = best {
            self.keep(&cycle);
        }
    }

    /// Cycles with one anti-dependency, or with several that are not adjacent.
    fn nonadjacent(&mut self, variant: usize, base: u32, parts: &Components) {
        // An anti-dependency between two of one part closes a cycle without another one.
        let apart: &[u32] = if parts.nontrivial.is_empty() { &[] } else { &parts.of };
        let inside = if apart.is_empty() {
            Vec::new()
        } else {
            self.edges(RW, |hop| parts.together(hop.from, hop.to))
        };
        if !inside.is_empty() && self.wants(SINGLE, variant) {
            self.shortest_through(&inside, base);
            if !self.wants(NONADJACENT, variant) {
                return;
            }
        }
        let states = {
            let view = Nonadjacent { graph: &self.local, base, apart };
            components(&view)
        };
        if states.nontrivial.is_empty() {
            return;
        }
        let crossing = self.edges(RW, |hop| {
            states.together(hop.from * 2, hop.to * 2 + 1) && !parts.together(hop.from, hop.to)
        });
        if self.wants(SINGLE, variant) {
            let closed = closing(&self.local, base, parts, crossing.clone());
            self.shortest_through(&closed, base);
        }
        if self.wants(NONADJACENT, variant) {
            self.shortest_nonadjacent(&crossing, base, apart);
        }
    }

    fn shortest_nonadjacent(&mut self, hops: &[Hop], base: u32, apart: &[u32]) {
        let mut best: Option<Vec<Hop>> = None;
        let limit = self.scratch.visited + VISITS_MAX;
        for hop in hops.iter().take(TRIES_MAX) {
            let (members, txn_count) = (self.members, self.txn_count);
            let is_helper = |state: u32| members[state as usize / 2] >= txn_count;
            let view = Nonadjacent { graph: &self.local, base, apart };
            let path = shortest(&view, hop.to * 2 + 1, hop.from * 2, is_helper, &mut self.scratch);
            if let Some(path) = path {
                let first = Hop { from: hop.from * 2, to: hop.to * 2 + 1, tag: hop.tag };
                let cycle = simple(std::iter::once(first).chain(path).collect());
                if best.as_ref().is_none_or(|best| cycle.len() < best.len()) {
                    best = Some(cycle);
                }
            }
            if self.scratch.visited > limit {
                break;
            }
        }
        if let Some(cycle) = best {
            self.keep(&cycle);
        }
    }

    /// Names a cycle and keeps it, unless something that implies its name was found before.
    fn keep(&mut self, hops: &[Hop]) {
        let Some(cycle) = self.cycle(hops) else { return };
        let name = name(&cycle.steps);
        if self.implied.contains(name) {
            return;
        }
        self.implied.extend(self.lattice.shown_by([name]));
        self.found.push((name, cycle));
    }

    /// The steps between transactions of a closed walk, helpers left out.
    fn cycle(&self, hops: &[Hop]) -> Option<Cycle> {
        let begin = hops.iter().position(|hop| kind_of(hop.tag) != PASS)?;
        let mut steps: Vec<Step> = Vec::new();
        let mut by_reads: Vec<Step> = Vec::new();
        // A read in the place of time would make a lesser anomaly of it.
        let only_writes = !hops.iter().any(|hop| [WR, RW].contains(&kind_of(hop.tag)));
        let mut time_adds_nothing = true;
        let mut from = hops[begin];
        for hop in hops[begin..].iter().chain(&hops[..begin]) {
            if kind_of(hop.tag) != PASS {
                from = *hop;
            }
            if self.members[hop.to as usize] >= self.txn_count {
                continue;
            }
            let direct = |kind: u32| {
                let mut edges = self.local.out(from.from);
                edges.find(|(to, tag)| *to == hop.to && kind_of(*tag) == kind).map(|(_, tag)| tag)
            };
            let mut tag = from.tag;
            if kind_of(tag) > WR
                && let Some(stronger) = direct(WW).or_else(|| direct(WR).filter(|_| !only_writes))
            {
                tag = stronger;
            }
            time_adds_nothing &= self.data_parts.together(from.from, hop.to);
            let step = Step {
                from: self.members[from.from as usize],
                to: self.members[hop.to as usize],
                kind: kind_of(tag),
                key: key_of(tag),
            };
            steps.push(step);
            let is_read_too = step.kind == WW && direct(WR).is_some();
            by_reads.push(Step { kind: if is_read_too { WR } else { step.kind }, ..step });
        }
        let name_by_reads = name(&by_reads);
        Some(Cycle { steps, time_adds_nothing, is_detour: false, name_by_reads })
    }
}

/// A closed walk of states with memory as one of vertices that meets none of them twice, with no two
/// anti-dependencies adjacent. Where a vertex is met a second time, the walk in between, which begins
/// behind an anti-dependency and ends without one, is itself closed and of the kind.
pub(crate) fn simple(mut hops: Vec<Hop>) -> Vec<Hop> {
    loop {
        let mut places: rustc_hash::FxHashMap<u32, usize> = Default::default();
        let again = hops.iter().enumerate().find_map(|(place, hop)| {
            places.insert(hop.from / 2, place).map(|first| (first, place))
        });
        let Some((first, second)) = again else { break };
        hops = if hops[first].from % 2 == 1 {
            hops[first..second].to_vec()
        } else {
            // The other way round: the part from the second meeting on to the first one.
            [&hops[second..], &hops[..first]].concat()
        };
    }
    for hop in &mut hops {
        *hop = Hop { from: hop.from / 2, to: hop.to / 2, tag: hop.tag };
    }
    hops
}

/// The name of a cycle, by the kinds of its edges.
fn name(steps: &[Step]) -> &'static str {
    let kind = |i: usize| steps[i % steps.len()].kind;
    let count = |wanted: u32| steps.iter().filter(|step| step.kind == wanted).count();
    let is_adjacent = (0..steps.len()).any(|i| kind(i) == RW && kind(i + 1) == RW);
    let class = match (count(RW), count(WR)) {
        (0, 0) => G0,
        (0, _) => G1C,
        (1, _) => SINGLE,
        _ if is_adjacent => G2,
        _ => NONADJACENT,
    };
    let variant = match (count(REALTIME), count(PROCESS)) {
        (0, 0) => 0,
        (0, _) => 1,
        _ => 2,
    };
    NAMES[class][variant]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::elle::graph::tag;

    fn names(txn_count: u32, order: Order, edges: &[(u32, u32, u32)]) -> Vec<&'static str> {
        let edges: Vec<Edge> =
            edges.iter().map(|&(from, to, kind)| Edge { from, to, tag: tag(kind, 0) }).collect();
        let graph = Graph::new(txn_count, &edges);
        let meter = Budget::UNLIMITED.start();
        let cycles = find(&graph, txn_count, order, &Lattice::new(), &meter).unwrap();
        cycles.classes.into_keys().collect()
    }

    #[test]
    fn each_class_has_its_name() {
        assert_eq!(names(2, Order::None, &[(0, 1, WW), (1, 0, WW)]), ["G0"]);
        assert_eq!(names(2, Order::None, &[(0, 1, WW), (1, 0, WR)]), ["G1c"]);
        assert_eq!(names(2, Order::None, &[(0, 1, WR), (1, 0, RW)]), ["G-single-item"]);
        let fork = [(0, 1, WR), (1, 2, RW), (2, 3, WR), (3, 0, RW)];
        assert_eq!(names(4, Order::None, &fork), ["G-nonadjacent-item"]);
        assert_eq!(names(2, Order::None, &[(0, 1, RW), (1, 0, RW)]), ["G2-item"]);
        let process = [(0, 1, PROCESS), (1, 0, RW)];
        assert_eq!(names(2, Order::Process, &process), ["G-single-item-process"]);
    }

    #[test]
    fn a_class_hides_only_what_it_implies() {
        // G0 and, through the same transactions, G-single.
        let edges = [(0, 1, WW), (1, 0, WW), (1, 2, WR), (2, 0, RW)];
        assert_eq!(names(3, Order::None, &edges), ["G-single-item", "G0"]);
        // G-single implies G2.
        let edges = [(0, 1, WR), (1, 0, RW), (1, 2, RW), (2, 1, RW)];
        assert_eq!(names(3, Order::None, &edges), ["G-single-item"]);
    }

    #[test]
    fn a_walk_that_meets_a_vertex_twice_is_cut() {
        // 0 -rw-> 1 -wr-> 2 -rw-> 3 -wr-> 1 -wr-> 0, in which 1 is met twice.
        let wr = tag(WR, 0);
        let rw = tag(RW, 0);
        let walk = [(0, 3, rw), (3, 4, wr), (4, 7, rw), (7, 2, wr), (2, 0, wr)];
        let walk: Vec<Hop> = walk.iter().map(|&(from, to, tag)| Hop { from, to, tag }).collect();
        let cut: Vec<(u32, u32)> = simple(walk).iter().map(|hop| (hop.from, hop.to)).collect();
        assert_eq!(cut, [(1, 2), (2, 3), (3, 1)]);
    }
}
