//! States that cannot lead to what must be seen next.
//!
//! Where states only grow, as texts that are appended to and sets that are added to, the observer that
//! returns first of those that have not taken effect tells what the state must be part of. A state
//! that is not can only be saved by an overwrite from which the observer's state can follow, and only by
//! one that can take effect before the observer returns. If none is left, no order follows.

use crate::linearizable::model::{IMPOSSIBLE, Kind, Machine};
use crate::linearizable::search::{Call, NEVER};

/// What is to be seen.
#[derive(Debug)]
pub struct Demands {
    /// Observers that return, by return.
    observers: Vec<u32>,
    overwrites: Vec<u32>,
    /// By place among `observers`: overwrites that can save a state from it.
    saving: Vec<Option<Box<[u32]>>>,
    /// By call: its place among `observers`.
    places: Vec<u32>,
    /// All observers before this place have taken effect.
    first: usize,
}

impl Demands {
    /// Of all calls.
    pub fn new<M: Machine>(machine: &M, calls: &[Call]) -> Demands {
        let of_kind = |kind| {
            let calls = (0u32..).zip(calls);
            calls.filter(move |(_, call)| machine.kind(call.class) == kind).map(|(i, _)| i)
        };
        let mut observers: Vec<u32> =
            of_kind(Kind::Observer).filter(|i| calls[*i as usize].ret != NEVER).collect();
        observers.sort_unstable_by_key(|i| calls[*i as usize].ret);
        let mut places = vec![u32::MAX; calls.len()];
        for (place, call) in (0..).zip(&observers) {
            places[*call as usize] = place;
        }
        let overwrites = of_kind(Kind::Overwrite).collect();
        Demands { saving: vec![None; observers.len()], observers, overwrites, places, first: 0 }
    }

    /// The call did not take effect after all.
    pub fn put_back(&mut self, call: u32) {
        self.first = self.first.min(self.places[call as usize] as usize);
    }

    /// The observer that cannot follow from `state` when the calls of `done` have taken effect.
    pub fn unmet<M: Machine>(
        &mut self,
        machine: &mut M,
        calls: &[Call],
        state: u32,
        done: &[bool],
    ) -> Option<u32> {
        while self.observers.get(self.first).is_some_and(|i| done[*i as usize]) {
            self.first += 1;
        }
        let observer = *self.observers.get(self.first)?;
        let is_left = |call: u32| !done[call as usize];
        self.is_unmet(machine, calls, state, self.first, is_left).then_some(observer)
    }

    /// The observers by return.
    pub fn observers(&self) -> &[u32] {
        &self.observers
    }

    /// Whether the observer at `place` cannot follow from `state`; `is_left` tells which overwrites may
    /// still take effect.
    pub fn is_unmet<M: Machine>(
        &mut self,
        machine: &mut M,
        calls: &[Call],
        state: u32,
        place: usize,
        is_left: impl Fn(u32) -> bool,
    ) -> bool {
        let Call { class, ret, .. } = calls[self.observers[place] as usize];
        if machine.can_lead(state, class) {
            return false;
        }
        let overwrites = &self.overwrites;
        let saving = self.saving[place].get_or_insert_with(|| {
            let saves = |call: &&u32| {
                let Call { class: overwrite, invoke, .. } = calls[**call as usize];
                let after = machine.step(state, overwrite);
                invoke < ret && after != IMPOSSIBLE && machine.can_lead(after, class)
            };
            overwrites.iter().filter(saves).copied().collect()
        });
        !saving.iter().any(|call| is_left(*call))
    }
}
