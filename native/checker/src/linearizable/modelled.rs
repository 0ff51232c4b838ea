//! Objects of the models in [`super::models`]: their calls by key, and what counter-examples may leave out.
//!
//! Observers can always be left out; of a queue, all operations on one element together (they are
//! neither before nor behind anything then). Nothing else can without risk of making the
//! counter-example up.

use std::collections::{BTreeMap, HashMap};

use fuzz_dist_core::{History, OpType, Value};

use crate::budget::Meter;
use crate::linearizable::calls::NotCalls;
use crate::linearizable::machine::ModelMachine;
use crate::linearizable::minimise::without_groups;
use crate::linearizable::models::{Action, Misread, Model};
use crate::linearizable::necessary::{self, Unfounded};
use crate::linearizable::search::{Call, NEVER, search_how};
use crate::linearizable::subject::{Proof, Span, Subject, proof_of};
use crate::linearizable::unambiguous::{self, Found};
use crate::linearizable::{Decision, How, Verdicts, snapshots};
use crate::numbering::Numbering;

/// The calls on one object, in order of invocation.
#[derive(Debug, Default)]
pub struct ModelCalls {
    /// The key, if there is one.
    pub key: Option<Value>,
    /// What each call did.
    pub actions: Vec<Action>,
    /// When.
    pub spans: Vec<Span>,
}

/// Reads the calls of a history. With `independent`, values are `[key value]`.
pub fn model_calls(
    history: &History,
    model: &dyn Model,
    independent: bool,
) -> Result<Vec<ModelCalls>, NotCalls> {
    let mut objects: Vec<ModelCalls> = Vec::new();
    let mut keys = Numbering::default();
    for (position, op) in crate::budget::ops(history).enumerate() {
        if !op.is_client() || op.op_type != OpType::Invoke {
            continue;
        }
        let pair = history.pair(position);
        let completion = pair.map(|pair| &history.ops()[pair]);
        let outcome = completion.map_or(OpType::Info, |c| c.op_type);
        if outcome == OpType::Fail {
            continue;
        }
        let result = completion.filter(|_| outcome == OpType::Ok);
        let (key, argument, result) = if independent {
            let (key, argument) = keyed(op)?;
            let result = result.map(|op| keyed(op).map(|(_, value)| value.clone())).transpose()?;
            (Some(key), argument.clone(), result)
        } else {
            (model.key(op), model.unkeyed(op), result.map(|op| model.unkeyed(op)))
        };
        let number = keys.number(key.unwrap_or(&Value::Nil)) as usize;
        if number == objects.len() {
            objects.push(ModelCalls { key: key.cloned(), ..ModelCalls::default() });
        }
        let action = match model.action(op.f.as_str(), &argument, result.as_ref()) {
            Ok(Some(action)) => action,
            Ok(None) => continue,
            Err(Misread::NoSuchFunction) => {
                let f = op.f.to_string();
                return Err(NotCalls::UnknownFunction {
                    index: op.index,
                    f,
                    known: model.functions(),
                });
            }
            Err(Misread::Differs) => {
                let done = completion.unwrap_or(op);
                return Err(NotCalls::Differs {
                    index: done.index,
                    f: op.f.to_string(),
                    invoke: op.index,
                    argument: op.value.to_string(),
                    result: done.value.to_string(),
                });
            }
            Err(Misread::Expected(expected)) => {
                return Err(NotCalls::BadValue {
                    index: result.and(completion).map_or(op.index, |c| c.index),
                    f: op.f.to_string(),
                    expected,
                    value: completion.map_or(&op.value, |c| &c.value).to_string(),
                });
            }
        };
        let ret = match outcome {
            OpType::Ok => pair.map_or(NEVER, |pair| pair as u32),
            _ => NEVER,
        };
        objects[number].actions.push(action);
        objects[number].spans.push(Span { invoke: position as u32, ret });
    }
    if let Some(why) = objects.iter().find_map(|object| model.refuses(&object.actions)) {
        return Err(NotCalls::Undecidable(why));
    }
    Ok(objects)
}

fn keyed(op: &fuzz_dist_core::Op) -> Result<(&Value, &Value), NotCalls> {
    op.value
        .key_and_value()
        .ok_or_else(|| NotCalls::NotKeyed { index: op.index, value: op.value.to_string() })
}

/// One object of a model.
pub struct ModelSubject<'a> {
    /// The history that was checked.
    pub history: &'a History,
    /// The model.
    pub model: &'a dyn Model,
    /// The calls.
    pub calls: &'a ModelCalls,
}

/// Conflicts of more calls are made smaller before one of them is said to be stuck.
const CONFLICT_CALLS_MAX: usize = 64;
/// How long that may take.
const SHRINK_TIME: std::time::Duration = std::time::Duration::from_secs(3);

impl ModelSubject<'_> {
    /// Decides, by a special case if the conditions of one hold, else by search; `None` if that was to
    /// be quick and was not.
    pub fn decide(&self, how: How, meter: &Meter) -> Option<Decision> {
        // An observer of which nothing is known says nothing.
        let chosen: Vec<usize> = (0..self.calls.actions.len())
            .filter(|&i| {
                let only_observes = self.model.only_observes(&self.calls.actions[i]);
                self.calls.spans[i].ret != NEVER || !only_observes
            })
            .collect();
        if how.special {
            match self.special(&chosen) {
                Some(Found::Linearizable) => {
                    return Some(Decision::special(Verdicts::Linearizable));
                }
                Some(Found::Conflict(calls)) => return Some(self.explained(calls, meter)),
                None => {}
            }
            if let Some(Unfounded { stuck, start }) = self.unfounded(&chosen) {
                return Some(Decision::special(Verdicts::Stuck { stuck, start }));
            }
            if let Some(parts) = self.parts(&chosen) {
                return self.by_parts(&parts, how, meter);
            }
        }
        self.search(&chosen, how, meter)
    }

    fn unfounded(&self, chosen: &[usize]) -> Option<Unfounded> {
        necessary::unfounded(self.model, &self.calls.actions, &self.calls.spans, chosen)
    }

    fn search(&self, chosen: &[usize], how: How, meter: &Meter) -> Option<Decision> {
        let (classes, calls) = self.problem(chosen);
        let make = || ModelMachine::new(self.model, &classes);
        Some(Decision::by_search(search_how(&make, &calls, how, meter)?, chosen))
    }

    /// Decides without search, if some special case can. A conflict is in terms of all calls.
    fn special(&self, chosen: &[usize]) -> Option<Found> {
        let spans: Vec<Span> = chosen.iter().map(|&i| self.calls.spans[i]).collect();
        let actions = || chosen.iter().map(|&i| &self.calls.actions[i]);
        let found = if let Some(discipline) = self.model.discipline() {
            let roles: Option<Vec<_>> = actions().map(|action| self.model.role(action)).collect();
            unambiguous::decide(discipline, &roles?, &spans)?
        } else {
            let seen: Option<Vec<_>> =
                actions().map(|action| self.model.snapshot(action)).collect();
            snapshots::decide(&seen?, &spans)?
        };
        Some(match found {
            Found::Linearizable => Found::Linearizable,
            Found::Conflict(calls) => Found::Conflict(calls.iter().map(|&i| chosen[i]).collect()),
        })
    }

    /// Names the call of a conflict that gets stuck.
    fn explained(&self, mut calls: Vec<usize>, meter: &Meter) -> Decision {
        let meter = meter.at_most(SHRINK_TIME);
        if calls.len() > CONFLICT_CALLS_MAX {
            calls = without_groups(self, calls, None, &meter);
        }
        let proof = match calls.len() {
            0..=CONFLICT_CALLS_MAX => self.proof(&calls, &meter, false),
            _ => None,
        };
        let stuck = proof.map(|proof| calls[proof.stuck.blamed()]);
        // Without a proof in time: whoever returned last can be blamed as well as any.
        let last = || calls.iter().copied().filter(|&i| self.calls.spans[i].ret != NEVER);
        let stuck = stuck.or_else(|| last().max_by_key(|&i| self.calls.spans[i].ret)).unwrap_or(0);
        Decision::special(Verdicts::Stuck { stuck, start: calls })
    }

    /// The parts of the object, if every action concerns one.
    fn parts(&self, chosen: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mut numbers = Numbering::default();
        let mut parts: Vec<Vec<usize>> = Vec::new();
        for &i in chosen {
            let part = self.model.part(&self.calls.actions[i])?;
            let number = numbers.number(&part) as usize;
            if number == parts.len() {
                parts.push(Vec::new());
            }
            parts[number].push(i);
        }
        Some(parts)
    }

    /// Checks the parts of the object apart.
    fn by_parts(&self, parts: &[Vec<usize>], how: How, meter: &Meter) -> Option<Decision> {
        let mut all = Decision::special(Verdicts::Linearizable);
        let mut are_all_decided = true;
        for part in parts {
            let Some(decision) = self.search(part, how, meter) else {
                are_all_decided = false;
                continue;
            };
            all.by_search = true;
            all.stats.add(&decision.stats);
            if !matches!(decision.verdict, Verdicts::Linearizable) {
                let invalid = matches!(decision.verdict, Verdicts::Stuck { .. });
                all.verdict = decision.verdict;
                if invalid {
                    return Some(all);
                }
            }
        }
        are_all_decided.then_some(all)
    }

    fn problem(&self, chosen: &[usize]) -> (Vec<Action>, Vec<Call>) {
        let mut numbers: HashMap<&Action, u32> = HashMap::new();
        let mut classes = Vec::new();
        let calls = chosen
            .iter()
            .map(|&i| {
                let action = &self.calls.actions[i];
                let class = *numbers.entry(action).or_insert_with(|| {
                    classes.push(action.clone());
                    classes.len() as u32 - 1
                });
                let Span { invoke, ret } = self.calls.spans[i];
                Call { class, invoke, ret }
            })
            .collect();
        (classes, calls)
    }
}

impl Subject for ModelSubject<'_> {
    fn history(&self) -> &History {
        self.history
    }

    fn key(&self) -> Option<&Value> {
        self.calls.key.as_ref()
    }

    fn spans(&self) -> &[Span] {
        &self.calls.spans
    }

    fn describe(&self, call: usize) -> String {
        self.model.describe(&self.calls.actions[call])
    }

    fn may_go(&self, call: usize, _kept: &[usize]) -> bool {
        self.model.only_observes(&self.calls.actions[call])
    }

    fn is_certain_change(&self, _call: usize) -> bool {
        false
    }

    fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<Value, Vec<usize>> = BTreeMap::new();
        for (i, action) in self.calls.actions.iter().enumerate() {
            if let Some(group) = self.model.group(action) {
                groups.entry(group).or_default().push(i);
            }
        }
        groups.into_values().collect()
    }

    fn is_refuted(&self, chosen: &[usize], meter: &Meter) -> bool {
        match self.special(chosen) {
            Some(found) => found != Found::Linearizable,
            None if self.unfounded(chosen).is_some() => true,
            None => self.proof(chosen, meter, false).is_some(),
        }
    }

    fn proof(&self, chosen: &[usize], meter: &Meter, in_words: bool) -> Option<Proof> {
        let (classes, calls) = self.problem(chosen);
        let mut machine = ModelMachine::new(self.model, &classes);
        proof_of(&mut machine, &calls, meter, in_words, |machine, state| {
            self.model.show(machine.state(state))
        })
    }
}
