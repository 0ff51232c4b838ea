//! What the evidence needs to know of one object's calls, whatever the object.

use fuzz_dist_core::{History, Value};

use crate::budget::Meter;
use crate::linearizable::model::Machine;
use crate::linearizable::search::{Call, NEVER, Outcome, Stuck, search};

/// When a call was invoked and returned, as positions; [`NEVER`] if it may take effect at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Position of the invocation.
    pub invoke: u32,
    /// Position of the completion.
    pub ret: u32,
}

/// A search of some of the calls that got stuck, with the states in words and the longest order found.
#[derive(Debug)]
pub struct Proof {
    /// Where and with what it got stuck; calls are indices into the chosen ones.
    pub stuck: Stuck,
    /// The state of each of its configurations.
    pub states: Vec<String>,
    /// The longest order, as indices into the chosen ones.
    pub longest: Vec<usize>,
}

/// The calls on one object.
pub trait Subject {
    /// The history that they come from.
    fn history(&self) -> &History;
    /// The key, when keys are independent.
    fn key(&self) -> Option<&Value>;
    /// When each call was, in order of invocation.
    fn spans(&self) -> &[Span];
    /// What a call did, in words.
    fn describe(&self, call: usize) -> String;
    /// Whether leaving the call out keeps every linearizable set of calls, of which `kept` are left,
    /// linearizable, and leaves nothing behind that people could not understand.
    fn may_go(&self, call: usize, kept: &[usize]) -> bool;
    /// Whether the call certainly changed the state.
    fn is_certain_change(&self, call: usize) -> bool;
    /// Calls that can only go together.
    fn groups(&self) -> Vec<Vec<usize>> {
        Vec::new()
    }
    /// Searches the chosen calls (indices in increasing order); `None` unless they certainly cannot be
    /// linearized. The longest order is looked for only if `in_words`.
    fn proof(&self, chosen: &[usize], meter: &Meter, in_words: bool) -> Option<Proof>;
    /// Whether the chosen calls certainly cannot be linearized, by whatever means is fastest.
    fn is_refuted(&self, chosen: &[usize], meter: &Meter) -> bool {
        self.proof(chosen, meter, false).is_some()
    }
}

/// Searches calls on a machine; `state` says what a state is.
pub fn proof_of<M: Machine>(
    machine: &mut M,
    calls: &[Call],
    meter: &Meter,
    in_words: bool,
    state: impl Fn(&M, u32) -> String,
) -> Option<Proof> {
    let Outcome::Stuck(stuck) = search(machine, calls, meter) else { return None };
    let mut proof = Proof { stuck: *stuck, states: Vec::new(), longest: Vec::new() };
    if in_words {
        proof.states =
            proof.stuck.configs.iter().map(|config| state(machine, config.state)).collect();
        proof.longest = longest_order(machine, calls, meter);
    }
    Some(proof)
}

/// How many steps the search for the longest order may take.
const LONGEST_STEPS_MAX: u32 = 200_000;
/// Among how many calls it is looked for; recursion goes as deep.
const LONGEST_CALLS_MAX: usize = 200;

struct Walk<'a, M> {
    machine: &'a mut M,
    calls: &'a [Call],
    meter: &'a Meter,
    done: Vec<bool>,
    order: Vec<usize>,
    best: Vec<usize>,
    seen: std::collections::HashSet<(u32, Vec<bool>)>,
    steps: u32,
}

/// The longest order of some of the calls that respects real time and the object: depth-first, as far
/// as the bound on steps allows.
fn longest_order<M: Machine>(machine: &mut M, calls: &[Call], meter: &Meter) -> Vec<usize> {
    if calls.len() > LONGEST_CALLS_MAX {
        return Vec::new();
    }
    let initial = machine.initial();
    let mut walk = Walk {
        machine,
        calls,
        meter,
        done: vec![false; calls.len()],
        order: Vec::new(),
        best: Vec::new(),
        seen: Default::default(),
        steps: 0,
    };
    deepen(&mut walk, initial);
    walk.best
}

fn deepen<M: Machine>(walk: &mut Walk<M>, state: u32) {
    if walk.order.len() > walk.best.len() {
        walk.best.clone_from(&walk.order);
    }
    if walk.steps.is_multiple_of(1 << 10) && walk.meter.check_time().is_err() {
        walk.steps = LONGEST_STEPS_MAX;
    }
    if walk.steps >= LONGEST_STEPS_MAX || !walk.seen.insert((state, walk.done.clone())) {
        return;
    }
    let left = |walk: &Walk<M>, i: usize| !walk.done[i];
    let returns = (0..walk.calls.len()).filter(|i| left(walk, *i)).map(|i| walk.calls[i].ret);
    let first_return = returns.min().unwrap_or(NEVER);
    for i in 0..walk.calls.len() {
        if walk.done[i] || walk.calls[i].invoke > first_return {
            continue;
        }
        walk.steps += 1;
        let next = walk.machine.step(state, walk.calls[i].class);
        if next == crate::linearizable::model::IMPOSSIBLE {
            continue;
        }
        walk.done[i] = true;
        walk.order.push(i);
        deepen(walk, next);
        walk.order.pop();
        walk.done[i] = false;
    }
}
