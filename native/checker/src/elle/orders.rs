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
    /// Both, told apart: something is forbidden for a process that is not in real time.
    ProcessAndRealtime,
}

impl Order {
    /// The kinds of its edges.
    pub fn kinds(self) -> &'static [u32] {
        match self {
            Order::None => &[],
            Order::Process => &[PROCESS],
            Order::Realtime => &[REALTIME],
            Order::ProcessAndRealtime => &[PROCESS, REALTIME],
        }
    }
}

/// Adds the edges of an order; whether it relates any transactions.
pub fn link(txns: &[Txn], order: Order, edges: &mut Edges) -> bool {
    match order {
        Order::None => false,
        Order::Process => process(txns, edges),
        Order::Realtime => realtime(txns, edges),
        Order::ProcessAndRealtime => {
            let is_related = process(txns, edges);
            realtime(txns, edges) || is_related
        }
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
        // What has no answer comes after what its process did before, and before nothing.
        let earlier = match txn.outcome {
            OpType::Ok => last.insert(txn.process, number),
            OpType::Fail => None,
            _ => last.get(&txn.process).copied(),
        };
        if let Some(earlier) = earlier {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elle::graph::{RW, WR};
    use crate::elle::txns::Txns;
    use fuzz_dist_core::{History, Op, Process, Sym, Value};

    #[test]
    fn one_step_in_time_is_enough() {
        // Four transactions, one after the other.
        let op = |n: i64, op_type| {
            Op::new(n, Process::Client(n), op_type, Sym::new("txn"), Value::list(Vec::new()))
        };
        let ops = (0..4).flat_map(|n| [op(n, OpType::Invoke), op(n, OpType::Ok)]).collect();
        let history = History::new(ops).unwrap();
        let txns = Txns::new(&history, crate::elle::txns::Dialect::ListAppend).unwrap();
        let step = |from, to, kind| Step { from, to, kind, key: 0 };
        let detour = [step(0, 1, REALTIME), step(1, 2, RW), step(2, 3, REALTIME), step(3, 0, WR)];
        let short = [step(0, 3, REALTIME), step(3, 0, WR)];
        assert_eq!(shortcut(&txns.list, &detour), Some(short.to_vec()));
        assert_eq!(shortcut(&txns.list, &short), None);
        // Sessions of different processes do not lead past each other.
        let sessions = detour.map(|step| match step.kind {
            REALTIME => Step { kind: PROCESS, ..step },
            _ => step,
        });
        assert_eq!(shortcut(&txns.list, &sessions), None);
    }
}
