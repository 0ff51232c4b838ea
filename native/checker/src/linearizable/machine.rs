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
        }
    }

    /// The state of a number.
    pub fn state(&self, number: u32) -> &Value {
        &self.states[number as usize]
    }
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
        // A state is shared between the two tables; its elements are counted by the first one's size.
        let each = self.states.last().and_then(Value::items).map_or(0, <[Value]>::len) * 16 + 96;
        (self.states.len() * each + self.steps.len() * 16) as u64
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
        self.states = states;
        self.steps.clear();
        renumbered
    }
}
