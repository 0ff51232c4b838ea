//! Decides whether one object's calls can be put in an order that respects real time.
//!
//! There are two strategies, which [`portfolio`] lets run side by side: [`depth`]-first, and breadth-first,
//! which is this module with [`walk`].
//!
//! **Method.** Breadth-first is Lowe's just-in-time linearization ("Testing for linearizability", 2017), in the line of
//! Wing and Gong (1993): walk through invocations and returns in order, and keep every configuration
//! that is still possible. A call takes effect only when some call that returns demands it, so at a
//! return, configurations in which that call has not taken effect are continued by sequences of open
//! calls that end with it. If none is left, the history is not linearizable. Only the present
//! configurations are kept, so memory does not grow with the history.
//!
//! **What keeps configurations few**, each without losing exactness:
//! - An observer takes effect as soon as the state allows it: nothing is lost by that.
//! - Of two open calls of one class, the one that returns earlier takes effect first; if an order has
//!   them the other way round, they can be exchanged.
//! - A call that changes nothing in the present state may be inserted here, unnoticed; so may every
//!   open overwrite when another overwrite takes effect. Such a call *needs* nothing any more but stays
//!   *available*, which stands for both choices at once.
//! - A configuration that another one covers is dropped (see [`super::frontier`]).
//! - One whose state cannot lead to what must be seen next is dropped (see [`demands`]).
//! - Calls that may have happened (`info`) never return: available for ever, never needed. Many of them
//!   are the hard case, see [`forever`].
//!
//! **Beam.** At first no more than [`BEAM_FIRST`] configurations are kept. A history that can be
//! ordered that way is linearizable. If none is left after some were set aside, the search goes back to
//! the moment at which the first was set aside and continues with a wider beam; so `not linearizable`
//! is said only when nothing was set aside since the last moment at which all were there.
//!
//! **Limits.** The problem is NP-complete: within its budget the search decides, past it it says how far
//! it got. The cost is that of the number of open calls and of how many states they can lead to.

mod demands;
pub mod depth;
pub mod forever;
mod line;
pub mod portfolio;
mod walk;

use crate::budget::{Exhausted, Meter};
use crate::linearizable::model::Machine;

use forever::{Attempt, Forever};
use walk::Ended;

/// A call that never returns (`info`).
pub const NEVER: u32 = u32::MAX;

/// One call of an object: what it is and between which records it took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Its class.
    pub class: u32,
    /// Position of the invocation.
    pub invoke: u32,
    /// Position of the completion, [`NEVER`] if it may take effect at any later time or not at all.
    pub ret: u32,
}

/// Most open calls at one time that configurations have bits for.
pub const OPEN_MAX: usize = 64 * 128;

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is an order.
    Linearizable(SearchStats),
    /// There is none: the call cannot take effect before it returns.
    Stuck(Box<Stuck>),
    /// The budget is used up.
    GaveUp(Box<GaveUp>),
}

/// How much work it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SearchStats {
    /// Most configurations at one moment.
    pub configs_max: usize,
    /// Transitions tried.
    pub steps: u64,
    /// Most calls open at one moment.
    pub open_max: usize,
    /// How often the beam had to be widened.
    pub widened: u32,
}

impl SearchStats {
    /// Adds the work of another search.
    pub fn add(&mut self, other: &SearchStats) {
        self.configs_max = self.configs_max.max(other.configs_max);
        self.open_max = self.open_max.max(other.open_max);
        self.steps += other.steps;
        self.widened += other.widened;
    }
}

/// The evidence of a history that is not linearizable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Index of the call that cannot take effect.
    pub call: usize,
    /// The observer that nothing left could lead to, if that is why.
    pub unmet: Option<usize>,
    /// The last possible configurations, at most [`EVIDENCE_CONFIGS_MAX`].
    pub configs: Vec<LastConfig>,
    /// How many there were.
    pub config_count: usize,
    /// A moment from which on the calls alone cannot be linearized.
    pub cut: Option<Cut>,
    /// Work done.
    pub stats: SearchStats,
}

impl Stuck {
    /// The call to name: what was seen tells more than what had to happen before.
    pub fn blamed(&self) -> usize {
        self.unmet.unwrap_or(self.call)
    }
}

/// A moment at which everything was certainly as at the start: the object in its initial state, and no
/// open call had taken effect. What came before proves nothing about what came after.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    /// Calls that were open.
    pub open: Vec<usize>,
    /// The first call that was invoked later.
    pub next: usize,
}

/// How far a search got that gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GaveUp {
    /// Which limit.
    pub why: Exhausted,
    /// Calls that had returned.
    pub returned: usize,
    /// Configurations at that moment.
    pub config_count: usize,
    /// Calls open at that moment, those that never return included.
    pub open: usize,
    /// Of those, the ones that never return.
    pub open_for_ever: usize,
    /// Work done.
    pub stats: SearchStats,
}

/// How many configurations are shown.
pub const EVIDENCE_CONFIGS_MAX: usize = 10;

/// A configuration in terms of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastConfig {
    /// The state.
    pub state: u32,
    /// Open calls that have taken effect or need not any more.
    pub done: Vec<usize>,
    /// Open calls that must still take effect.
    pub needed: Vec<usize>,
}

/// Decides as it was asked for; `None` if that was to be quick and was not. `make` makes the machine.
pub(crate) fn search_how<M: Machine>(
    make: &(impl Fn() -> M + Sync),
    calls: &[Call],
    how: super::How,
    meter: &Meter,
) -> Option<Outcome> {
    match how.quick {
        true => portfolio::quickly(make, calls, meter),
        false => Some(portfolio::decide(make, calls, meter, how.strategy)),
    }
}

/// Decides breadth-first. `calls` are in order of invocation.
pub fn search<M: Machine>(machine: &mut M, calls: &[Call], meter: &Meter) -> Outcome {
    search_from(machine, calls, meter, walk::BEAM_FIRST)
}

/// The same with a beam of at least one configuration to begin with, which changes the work but never
/// the answer.
pub fn search_from<M: Machine>(
    machine: &mut M,
    calls: &[Call],
    meter: &Meter,
    beam: usize,
) -> Outcome {
    let mut attempts = forever::attempts(calls);
    let last = Attempt { forever: Forever::Exact, steps_max: None };
    loop {
        let attempt = attempts.next().unwrap_or(last);
        if let Some(outcome) = search_once(machine, calls, meter, attempt, beam) {
            return outcome;
        }
    }
}

/// One attempt of those that make up a search; `None` if it does not decide.
pub fn search_once<M: Machine>(
    machine: &mut M,
    calls: &[Call],
    meter: &Meter,
    attempt: Attempt,
    beam: usize,
) -> Option<Outcome> {
    let events = forever::events(calls, attempt.forever);
    match walk::walk(machine, calls, &events, meter, &attempt, beam) {
        Ended::Decided(outcome) => Some(outcome),
        Ended::Undecided => None,
    }
}
