//! Transactions in chains, each before the next by something other than an anti-dependency.
//!
//! Whatever precedes a transaction is then, for each chain, a beginning of it: one number. The
//! fewer chains, the less work. In real time there are as many as transactions at a time, with
//! sessions as many as processes; where only data gives an order, a chain goes on as long as
//! somebody reads from its end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fuzz_dist_core::OpType;

use crate::budget::{Exhausted, Meter};
use crate::elle::graph::{
    Edges, Graph, NONE, Only, PROCESS, REALTIME, WR, WW, components, kind_of, kinds,
};
use crate::elle::implied::facts::Facts;
use crate::elle::orders::Order;
use crate::elle::txns::Txns;

/// The chains.
#[derive(Debug)]
pub struct Chains {
    /// By transaction: its chain, or [`NONE`], and its place there.
    pub place: Vec<(u32, u32)>,
    /// By chain: its transactions in order.
    pub members: Vec<Vec<u32>>,
}

impl Chains {
    /// Puts every transaction that happened into a chain; nothing if what is known goes in a
    /// circle.
    pub fn new(
        txns: &Txns,
        facts: &Facts,
        edges: &Edges,
        order: Order,
        meter: &Meter,
    ) -> Result<Option<Chains>, Exhausted> {
        let graph = Graph::new(edges.vertex_count, &edges.list);
        let parts = components(&Only { graph: &graph, kinds: kinds(&[WW, WR, PROCESS, REALTIME]) });
        meter.check_time()?;
        if !parts.nontrivial.is_empty() {
            return Ok(None);
        }
        // What is reached has a smaller number.
        let mut sorted: Vec<u32> = vec![0; parts.of.len()];
        for (vertex, part) in (0..).zip(&parts.of) {
            sorted[parts.of.len() - 1 - *part as usize] = vertex;
        }
        let mut building = Building {
            txns,
            facts,
            place: vec![(NONE, 0); txns.list.len()],
            members: Vec::new(),
            after: vec![NONE; txns.list.len()],
            free: BinaryHeap::new(),
        };
        for vertex in sorted.into_iter().filter(|vertex| (*vertex as usize) < txns.list.len()) {
            if !facts.happened[vertex as usize] {
                continue;
            }
            building.put(vertex, order);
            for (target, tag) in graph.out(vertex) {
                let is_direct = (target as usize) < txns.list.len();
                let kind = kind_of(tag);
                if is_direct && [WW, WR, PROCESS].contains(&kind) {
                    // The own process goes on before others do.
                    let after = building.after[target as usize];
                    if kind == PROCESS || after == NONE || !building.is_own(after, target) {
                        building.after[target as usize] = vertex;
                    }
                }
            }
        }
        Ok(Some(Chains { place: building.place, members: building.members }))
    }
}

struct Building<'a, 'h> {
    txns: &'a Txns<'h>,
    facts: &'a Facts,
    place: Vec<(u32, u32)>,
    members: Vec<Vec<u32>>,
    /// By transaction: one that precedes it.
    after: Vec<u32>,
    /// In real time: completion and number of ends of chains.
    free: BinaryHeap<Reverse<(u32, u32)>>,
}

impl Building<'_, '_> {
    fn is_own(&self, a: u32, b: u32) -> bool {
        self.txns.list[a as usize].process == self.txns.list[b as usize].process
    }

    fn is_end(&self, txn: u32) -> bool {
        let (chain, place) = self.place[txn as usize];
        chain != NONE && self.members[chain as usize].len() as u32 == place + 1
    }

    fn put(&mut self, txn: u32, order: Order) {
        let mut before =
            Some(self.after[txn as usize]).filter(|before| *before != NONE && self.is_end(*before));
        if order == Order::Realtime {
            let invoke = self.txns.list[txn as usize].invoke;
            while before.is_none() {
                let Some(Reverse((complete, end))) = self.free.peek().copied() else { break };
                if !self.is_end(end) {
                    self.free.pop();
                } else if complete < invoke {
                    before = Some(end);
                } else {
                    break;
                }
            }
        }
        let chain = match before {
            Some(before) => self.place[before as usize].0,
            None => {
                self.members.push(Vec::new());
                self.members.len() as u32 - 1
            }
        };
        let members = &mut self.members[chain as usize];
        self.place[txn as usize] = (chain, members.len() as u32);
        members.push(txn);
        if order == Order::Realtime
            && let Some(complete) = self.known_by(txn)
        {
            self.free.push(Reverse((complete, txn)));
        }
    }

    /// From when on everything comes after a transaction: its completion or, if it has no answer, the first
    /// one of a transaction that read from it.
    fn known_by(&self, txn: u32) -> Option<u32> {
        let known = &self.txns.list[txn as usize];
        if known.outcome == OpType::Ok {
            return Some(known.complete);
        }
        let readers = self.facts.written(txn).flat_map(|version| self.facts.readers(version));
        readers.map(|reader| self.txns.list[*reader as usize].complete).min()
    }
}
