//! The states and transitions of a [`Model`] as numbers, each step asked of the model only once.

use std::collections::HashMap;

use fuzz_dist_core::Value;
use rustc_hash::FxBuildHasher;

use crate::linearizable::model::{IMPOSSIBLE, Kind, Machine};
use crate::linearizable::models::{Action, Model};

/// A model with its states and transitions numbered.
pub struct ModelMachine<'a> {
    model: &'a dyn Model,
    /// What each class is.
    classes: &'a [Action],
    states: Vec<Value>,
    numbers: HashMap<Value, u32, FxBuildHasher>,
    steps: HashMap<(u32, u32), u32, FxBuildHasher>,
    kinds: Vec<Kind>,
    /// Whether states only grow but for overwrites.
    grows: bool,
    /// What the states take.
    state_bytes: u64,
}

/// How many states or transitions are remembered before those that are not in use are forgotten.
const REMEMBERED_MAX: usize = 1 << 18;

impl std::fmt::Debug for ModelMachine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModelMachine({}, {} states)", self.model.name(), self.states.len())
    }
}

impl<'a> ModelMachine<'a> {
    /// The model at its start.
    pub fn new(model: &'a dyn Model, classes: &'a [Action]) -> ModelMachine<'a> {
        let initial = model.initial();
        ModelMachine {
            model,
            classes,
            states: vec![initial.clone()],
            numbers: [(initial, 0)].into_iter().collect(),
            steps: HashMap::default(),
            kinds: classes.iter().map(|action| model.kind(action)).collect(),
            grows: model.only_grows(classes),
            state_bytes: 0,
        }
    }

    /// The state of a number.
    pub fn state(&self, number: u32) -> &Value {
        &self.states[number as usize]
    }
}

/// What a state takes: in two tables, but its text or elements are there once. Elements are shared with
/// other states or small.
fn bytes_of(state: &Value) -> u64 {
    const EACH: usize = 96;
    let own = match state {
        Value::Str(text) => text.len(),
        Value::Map(pairs) => pairs.len() * 32,
        state => state.items().map_or(0, <[Value]>::len) * 16,
    };
    (own + EACH) as u64
}

impl Machine for ModelMachine<'_> {
    fn initial(&self) -> u32 {
        0
    }

    fn step(&mut self, state: u32, class: u32) -> u32 {
        if let Some(&next) = self.steps.get(&(state, class)) {
            return next;
        }
        let after = self.model.step(&self.states[state as usize], &self.classes[class as usize]);
        let next = match after {
            None => IMPOSSIBLE,
            Some(after) => *self.numbers.entry(after).or_insert_with_key(|after| {
                self.state_bytes += bytes_of(after);
                self.states.push(after.clone());
                self.states.len() as u32 - 1
            }),
        };
        self.steps.insert((state, class), next);
        next
    }

    fn kind(&self, class: u32) -> Kind {
        self.kinds[class as usize]
    }

    fn bytes(&self) -> u64 {
        self.state_bytes + self.steps.len() as u64 * 16
    }

    fn has_demands(&self) -> bool {
        self.grows
    }

    fn can_lead(&mut self, state: u32, observer: u32) -> bool {
        let observer = &self.classes[observer as usize];
        self.model.can_grow_into(&self.states[state as usize], observer)
    }

    fn is_crowded(&self) -> bool {
        self.states.len() > REMEMBERED_MAX || self.steps.len() > 8 * REMEMBERED_MAX
    }

    fn keep_only(&mut self, in_use: &[u32]) -> HashMap<u32, u32> {
        let mut renumbered = HashMap::new();
        let mut states = vec![self.states[0].clone()];
        renumbered.insert(0, 0);
        for &state in in_use {
            renumbered.entry(state).or_insert_with(|| {
                states.push(self.states[state as usize].clone());
                states.len() as u32 - 1
            });
        }
        self.numbers =
            states.iter().enumerate().map(|(i, state)| (state.clone(), i as u32)).collect();
        self.state_bytes = states.iter().map(bytes_of).sum();
        self.states = states;
        self.steps = HashMap::default();
        renumbered
    }
}
