//! Depth-first and breadth-first side by side: whichever decides first ends the other.
//!
//! Neither is always the better one. Depth-first finds one of many orders at once, and goes through all
//! of them where there is none; breadth-first keeps configurations few where many are alike, and
//! carries thousands along where they are not. On two cores both together take as long as the better
//! one, and at most twice its work.
//!
//! With several objects, threads are better used for different ones. So each object is first given as
//! many steps as an easy one needs ([`quickly`]), by one strategy after the other; the hard ones that
//! remain come one at a time, with both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::budget::{Exhausted, Meter};
use crate::linearizable::model::Machine;
use crate::linearizable::search::forever::{Attempt, Forever};
use crate::linearizable::search::{Call, Outcome, depth, search, search_once, walk};

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Both at once.
    #[default]
    SideBySide,
    /// Only depth-first.
    DepthFirst,
    /// Only breadth-first.
    BreadthFirst,
}

/// Steps that every object gets when it is tried quickly.
const STEPS_QUICK: u64 = 10_000;
/// And for each of its calls: depth-first, and breadth-first.
const DEPTH_STEPS_PER_CALL: u64 = 2;
const BREADTH_STEPS_PER_CALL: u64 = 16;

/// Decides what is easy, with few steps; `None` for the rest. `make` makes the object's machine.
pub fn quickly<M: Machine>(
    make: &(impl Fn() -> M + Sync),
    calls: &[Call],
    meter: &Meter,
) -> Option<Outcome> {
    let count = calls.len() as u64;
    let depth_first = || {
        let steps_max = Some(STEPS_QUICK + DEPTH_STEPS_PER_CALL * count);
        depth::search(&mut make(), calls, meter, steps_max)
    };
    let breadth_first = || {
        let steps_max = Some(STEPS_QUICK + BREADTH_STEPS_PER_CALL * count);
        let attempt = Attempt { forever: Forever::Exact, steps_max };
        search_once(&mut make(), calls, meter, attempt, walk::BEAM_FIRST)
    };
    if make().forgets() {
        return breadth_first().or_else(depth_first);
    }
    match depth_first() {
        // Breadth-first says more about why there is no order.
        Some(outcome @ Outcome::Stuck(_)) => breadth_first().or(Some(outcome)),
        Some(outcome @ Outcome::Linearizable(_)) => Some(outcome),
        Some(Outcome::GaveUp(_)) | None => breadth_first(),
    }
}

/// Decides, within the budget.
pub fn decide<M: Machine>(
    make: &(impl Fn() -> M + Sync),
    calls: &[Call],
    meter: &Meter,
    strategy: Strategy,
) -> Outcome {
    match strategy {
        Strategy::BreadthFirst => search(&mut make(), calls, meter),
        Strategy::DepthFirst => depth_first(make, calls, meter),
        Strategy::SideBySide => side_by_side(make, calls, meter),
    }
}

fn depth_first<M: Machine>(
    make: &(impl Fn() -> M + Sync),
    calls: &[Call],
    meter: &Meter,
) -> Outcome {
    match depth::search(&mut make(), calls, meter, None) {
        Some(outcome) => outcome,
        // Without a limit of steps it decides or gives up.
        None => search(&mut make(), calls, meter),
    }
}

fn side_by_side<M: Machine>(
    make: &(impl Fn() -> M + Sync),
    calls: &[Call],
    meter: &Meter,
) -> Outcome {
    let found = Arc::new(AtomicBool::new(false));
    let meter = meter.share(2).ended_by(&found);
    let run = |strategy| {
        let outcome = decide(make, calls, &meter, strategy);
        if !matches!(outcome, Outcome::GaveUp(_)) {
            found.store(true, Ordering::Relaxed);
        }
        outcome
    };
    let (breadth, depth) = std::thread::scope(|scope| {
        let depth = scope.spawn(|| run(Strategy::DepthFirst));
        let breadth = run(Strategy::BreadthFirst);
        match depth.join() {
            Ok(depth) => (breadth, depth),
            // A defect of ours goes on as one.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    let is_ended_by_other = |outcome: &Outcome| matches!(outcome, Outcome::GaveUp(gave_up) if gave_up.why == Exhausted::Cancelled);
    let gave_up = |outcome: &Outcome| matches!(outcome, Outcome::GaveUp(_));
    match gave_up(&breadth) && (!gave_up(&depth) || is_ended_by_other(&breadth)) {
        true => depth,
        false => breadth,
    }
}
