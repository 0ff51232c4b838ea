//! The orders that come from outside the data: of each process, and of real time.
//!
//! Real time relates every transaction that succeeded to every one invoked later: a quadratic number of
//! edges, and still one for each open process and transaction when reduced. Here a chain of helpers stands
//! for the flow of time: a completion leads to the next moment, a moment to the invocations before the next
//! completion. So the graph stays linear, and a path through the chain is one real-time edge.

use fuzz_dist_core::OpType;
use rustc_hash::FxHashMap;

use crate::elle::cycles::Step;
use crate::elle::graph::{Edges, NONE, PASS, PROCESS, REALTIME};
use crate::elle::txns::Txn;

/// Which order a consistency model asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Data dependencies only.
    None,
    /// Each process sees its own transactions in order.
    Process,
    /// What completed before another began precedes it (and so for each process).
    Realtime,
}

impl Order {
    /// The kind of its edges, if it has any.
    pub fn kind(self) -> Option<u32> {
        match self {
            Order::None => None,
            Order::Process => Some(PROCESS),
            Order::Realtime => Some(REALTIME),
        }
    }
}

/// Adds the edges of an order; whether it relates any transactions.
pub fn link(txns: &[Txn], order: Order, edges: &mut Edges) -> bool {
    match order {
        Order::None => false,
        Order::Process => process(txns, edges),
        Order::Realtime => realtime(txns, edges),
    }
}

/// A cycle with fewer steps in time than this one, by going from the first transaction of one of them to the
/// second of another, if that is a step in time as well.
pub fn shortcut(txns: &[Txn], steps: &[Step]) -> Option<Vec<Step>> {
    let count = steps.len();
    let precedes = |a: u32, b: u32, kind: u32| {
        let (a, b) = (&txns[a as usize], &txns[b as usize]);
        let is_ok = a.outcome == OpType::Ok && a.complete != NONE && a.complete < b.invoke;
        is_ok && (kind == REALTIME || (a.process == b.process && b.outcome == OpType::Ok))
    };
    let timed: Vec<usize> = (0..count).filter(|place| steps[*place].kind >= PROCESS).collect();
    let pairs = timed.iter().flat_map(|a| timed.iter().map(move |b| (*a, *b)));
    let is_short = |(a, b): &(usize, usize)| {
        let (from, to) = (steps[*a].from, steps[*b].to);
        a != b && from != to && precedes(from, to, steps[*a].kind)
    };
    let (first, second) = pairs.into_iter().find(is_short)?;
    // On from where the second ends, round to where the first begins.
    let mut kept = vec![Step { to: steps[second].to, ..steps[first] }];
    let mut place = (second + 1) % count;
    while place != first {
        kept.push(steps[place]);
        place = (place + 1) % count;
    }
    (kept.len() > 1).then_some(kept)
}

fn process(txns: &[Txn], edges: &mut Edges) -> bool {
    let before = edges.list.len();
    let mut last: FxHashMap<i64, u32> = FxHashMap::default();
    for (number, txn) in (0..).zip(txns) {
        if txn.outcome == OpType::Ok
            && let Some(earlier) = last.insert(txn.process, number)
        {
            edges.push(earlier, number, PROCESS, 0);
        }
    }
    edges.list.len() > before
}

fn realtime(txns: &[Txn], edges: &mut Edges) -> bool {
    let mut completions: Vec<(u32, u32)> = (0..)
        .zip(txns)
        .filter(|(_, txn)| txn.outcome == OpType::Ok)
        .map(|(number, txn)| (txn.complete, number))
        .collect();
    completions.sort_unstable();
    let mut completions = completions.into_iter().peekable();
    let mut moment = NONE;
    for (number, txn) in (0..).zip(txns) {
        if txn.outcome == OpType::Fail {
            continue;
        }
        let mut next = NONE;
        while let Some((_, done)) = completions.next_if(|(complete, _)| *complete < txn.invoke) {
            if next == NONE {
                next = edges.helper();
                if moment != NONE {
                    edges.push(moment, next, PASS, 0);
                }
            }
            edges.push(done, next, REALTIME, 0);
        }
        if next != NONE {
            moment = next;
        }
        if moment != NONE {
            edges.push(moment, number, PASS, 0);
        }
    }
    moment != NONE
}
