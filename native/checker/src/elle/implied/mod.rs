//! The order of writes that a model implies: what follows if the model holds, until it contradicts
//! itself.
//!
//! The history of a register does not tell the order of its versions. Elle takes it from
//! assumptions of the user; but the model that is asked for says much about it already. If the
//! history had the model, there would be an order of the versions of each key such that the
//! dependencies have no cycle of the kinds that the model forbids. So whatever would close such a
//! cycle is impossible, and its opposite holds ([`closure`] has the rules, [`Paths`] the kinds of
//! cycles). Dependencies, with all that follows from them, are repeated until nothing is new; a
//! cycle among them proves that the model does not hold.
//!
//! This is the saturation of Biswas and Enea ("On the Complexity of Checking Transactional
//! Consistency", OOPSLA 2019) and of Cobra (OSDI 2020), as the checker `causal` has it for weaker
//! levels. Serializability is NP-hard, so it is not complete: `tests/elle_register_implied.rs`
//! counts what is missed.
//!
//! Parts: [`facts`] (versions, their writers and readers), [`chains`] (so that everything that
//! precedes a transaction is one number for each chain), [`closure`] (the rounds), [`cycle`] (a
//! contradiction in words).

pub mod chains;
pub mod closure;
pub mod cycle;
pub mod facts;

use fuzz_dist_core::Anomaly;

use crate::budget::{Exhausted, Meter};
use crate::elle::graph::{Edge, Edges};
use crate::elle::implied::chains::Chains;
use crate::elle::implied::closure::{Closure, Outcome};
use crate::elle::implied::facts::Facts;
use crate::elle::orders::{self, Order};
use crate::elle::txns::Txns;

/// The name of a contradiction.
pub const NAME: &str = "implied-cycle";

/// The cycles of dependencies that a model forbids, by their anti-dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Paths {
    /// Those with at most one: PL-2+ and parallel snapshot isolation.
    AtMostOne,
    /// Those in which no two are adjacent: snapshot isolation.
    Nonadjacent,
    /// All: repeatable reads of items, serializability.
    All,
}

/// What one model asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// The model, canonical.
    pub model: &'static str,
    /// The cycles that it forbids.
    pub paths: Paths,
    /// The order outside the data that it contains.
    pub order: Order,
}

impl Requirement {
    /// What a model (canonical name) asks for, if it implies any order of writes.
    pub fn of(model: &'static str) -> Option<Requirement> {
        let (paths, order) = match model {
            "PL-SS" => (Paths::All, Order::Realtime),
            "strong-session-serializable" => (Paths::All, Order::Process),
            "PL-3" | "PL-2.99" => (Paths::All, Order::None),
            "strong-snapshot-isolation" => (Paths::Nonadjacent, Order::Realtime),
            "strong-session-snapshot-isolation" => (Paths::Nonadjacent, Order::Process),
            "PL-SI" => (Paths::Nonadjacent, Order::None),
            "PL-2+" | "PL-FCV" | "PL-3U" | "parallel-snapshot-isolation" => {
                (Paths::AtMostOne, Order::None)
            }
            _ => return None,
        };
        Some(Requirement { model, paths, order })
    }

    /// The same where records are in no real time.
    pub fn in_sessions(self) -> Requirement {
        let order = if self.order == Order::Realtime { Order::Process } else { self.order };
        Requirement { order, ..self }
    }
}

/// Above so many transactions, what holds with a stronger order too is decided first: there are fewer
/// chains, and no contradiction there means none without it.
const STRONGER_FIRST_MIN: usize = 512;

/// A contradiction to what a model implies, if there is one. `data` are the dependencies through
/// data.
pub fn contradiction(
    txns: &Txns,
    data: &Edges,
    requirement: Requirement,
    meter: &Meter,
) -> Result<Option<Anomaly>, Exhausted> {
    let facts = Facts::new(txns, &data.list);
    let stronger: &[Order] = match requirement.order {
        Order::None => &[Order::Realtime, Order::Process],
        Order::Process => &[Order::Realtime],
        _ => &[],
    };
    for order in stronger.iter().filter(|_| txns.list.len() >= STRONGER_FIRST_MIN) {
        if *order == Order::Realtime && !txns.history.has_real_time() {
            continue;
        }
        let stronger = Requirement { order: *order, ..requirement };
        if saturate(txns, &facts, data, stronger, meter)? == Saturated::Consistent {
            return Ok(None);
        }
    }
    match saturate(txns, &facts, data, requirement, meter)? {
        Saturated::Contradiction(anomaly) => Ok(anomaly.map(|anomaly| *anomaly)),
        Saturated::Consistent | Saturated::Circular => Ok(None),
    }
}

/// What came of one order.
#[derive(Debug, PartialEq)]
enum Saturated {
    Consistent,
    /// Dependencies go in a circle already, which is an anomaly of its own.
    Circular,
    Contradiction(Option<Box<Anomaly>>),
}

fn saturate(
    txns: &Txns,
    facts: &Facts,
    data: &Edges,
    requirement: Requirement,
    meter: &Meter,
) -> Result<Saturated, Exhausted> {
    let mut edges = Edges { vertex_count: data.vertex_count, list: data.list.clone() };
    orders::link(&txns.list, requirement.order, &mut edges);
    let Some(chains) = Chains::new(txns, facts, &edges, requirement.order, meter)? else {
        return Ok(Saturated::Circular);
    };
    // The closure walks backwards.
    for edge in &mut edges.list {
        *edge = Edge { from: edge.to, to: edge.from, tag: edge.tag };
    }
    let mut closure = Closure::new(txns, facts, &chains, requirement.paths, edges);
    match closure.run(meter)? {
        Outcome::Consistent => Ok(Saturated::Consistent),
        Outcome::Contradiction(at) => {
            let edges = closure.into_edges();
            let anomaly = cycle::anomaly(txns, facts, &edges, requirement, at);
            Ok(Saturated::Contradiction(anomaly.map(Box::new)))
        }
    }
}
