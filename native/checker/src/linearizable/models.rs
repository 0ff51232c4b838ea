//! Objects other than single registers, through a small trait.
//!
//! A [`Model`] says what an operation did ([`Model::action`]) and what that makes of a state
//! ([`Model::step`]); states are plain values. [`ModelMachine`] numbers states and remembers
//! transitions, so that the search pays for each pair of state and class once.

use std::collections::HashMap;

use fuzz_dist_core::{Op, Value};
use rustc_hash::FxBuildHasher;

use crate::linearizable::model::{IMPOSSIBLE, Kind, Machine};

/// What an operation did: its function and all that is known of argument and result.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Action {
    /// The function, as the model calls it.
    pub f: &'static str,
    /// Argument and result, in whatever shape the model wants.
    pub value: Value,
}

/// Why an operation cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misread {
    /// The model has no such function.
    NoSuchFunction,
    /// The value has another shape than this.
    Expected(&'static str),
}

/// An object.
pub trait Model: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Its functions, for messages.
    fn functions(&self) -> &'static str;
    /// What an operation did. `result` is the value of an ok completion; without it, the operation may
    /// have happened. `None`: it says nothing and can be left out.
    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread>;
    /// The state at the start.
    fn initial(&self) -> Value {
        Value::Nil
    }
    /// The state afterwards, or `None` if the state does not allow it.
    fn step(&self, state: &Value, action: &Action) -> Option<Value>;
    /// Which kind of effect it has. Wrong answers make the search wrong; [`Kind::Update`] never is.
    fn kind(&self, action: &Action) -> Kind;
    /// Whether it can be left out of a counter-example whatever else is in it.
    fn only_observes(&self, action: &Action) -> bool {
        self.kind(action) == Kind::Observer
    }
    /// Operations that can be left out of a counter-example, if all that have the same group are.
    fn group(&self, _action: &Action) -> Option<Value> {
        None
    }
    /// The part of an operation's value that names the object, when objects are keyed by themselves.
    fn key<'a>(&self, _op: &'a Op) -> Option<&'a Value> {
        None
    }
    /// The operation's value without that key.
    fn unkeyed(&self, op: &Op) -> Value {
        op.value.clone()
    }
}

/// The model of that name. `initial` is the value at the start, for models that can start with any.
pub fn model(name: &str, initial: Option<Value>) -> Option<Box<dyn Model>> {
    Some(match name {
        "mutex" => Box::new(Mutex),
        "set" => Box::new(SetModel),
        "fifo-queue" => Box::new(FifoQueue),
        "unordered-queue" => Box::new(UnorderedQueue),
        "multi-register" => Box::new(MultiRegister::new(initial)),
        "map" => Box::new(StringMap),
        _ => return None,
    })
}

/// A lock: `acquire` when free, `release` when held; it does not know by whom.
#[derive(Debug)]
struct Mutex;

impl Model for Mutex {
    fn name(&self) -> &'static str {
        "mutex"
    }

    fn functions(&self) -> &'static str {
        "acquire and release"
    }

    fn initial(&self) -> Value {
        Value::Bool(false)
    }

    fn action(&self, f: &str, _: &Value, _: Option<&Value>) -> Result<Option<Action>, Misread> {
        let f = match f {
            "acquire" => "acquire",
            "release" => "release",
            _ => return Err(Misread::NoSuchFunction),
        };
        Ok(Some(Action { f, value: Value::Nil }))
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        let acquires = action.f == "acquire";
        (*state == Value::Bool(!acquires)).then_some(Value::Bool(acquires))
    }

    fn kind(&self, _: &Action) -> Kind {
        Kind::Update
    }
}

/// A set: `add v`, `remove v`, `read` of all elements.
#[derive(Debug)]
struct SetModel;

impl Model for SetModel {
    fn name(&self) -> &'static str {
        "set"
    }

    fn functions(&self) -> &'static str {
        "add, remove and read"
    }

    fn initial(&self) -> Value {
        Value::set([])
    }

    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        Ok(match (f, result) {
            ("add", _) => Some(Action { f: "add", value: argument.clone() }),
            ("remove", _) => Some(Action { f: "remove", value: argument.clone() }),
            ("read", None) => None,
            ("read", Some(Value::Nil)) => Some(Action { f: "read", value: Value::set([]) }),
            ("read", Some(read)) => {
                let items = read.items().ok_or(Misread::Expected("a set or list"))?;
                Some(Action { f: "read", value: Value::set(items.iter().cloned()) })
            }
            _ => return Err(Misread::NoSuchFunction),
        })
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        let items = state.items().unwrap_or_default();
        match (action.f, items.binary_search(&action.value)) {
            ("read", _) => (*state == action.value).then(|| state.clone()),
            ("add", Ok(_)) | ("remove", Err(_)) => Some(state.clone()),
            ("add", Err(place)) => {
                let mut items = items.to_vec();
                items.insert(place, action.value.clone());
                Some(Value::Set(items.into()))
            }
            (_, Ok(place)) => {
                let mut items = items.to_vec();
                items.remove(place);
                Some(Value::Set(items.into()))
            }
            _ => None,
        }
    }

    fn kind(&self, action: &Action) -> Kind {
        if action.f == "read" { Kind::Observer } else { Kind::Update }
    }
}

/// Reads an operation on a queue: `enqueue v`, `dequeue` (its element; nil when it was empty).
fn queue_action(
    f: &str,
    argument: &Value,
    result: Option<&Value>,
) -> Result<Option<Action>, Misread> {
    Ok(Some(match (f, result) {
        ("enqueue", _) => Action { f: "enqueue", value: argument.clone() },
        ("dequeue", None) => Action { f: "dequeue-any", value: Value::Nil },
        ("dequeue", Some(Value::Nil)) => Action { f: "dequeue-empty", value: Value::Nil },
        ("dequeue", Some(element)) => Action { f: "dequeue", value: element.clone() },
        _ => return Err(Misread::NoSuchFunction),
    }))
}

fn queue_kind(action: &Action) -> Kind {
    if action.f == "dequeue-empty" { Kind::Observer } else { Kind::Update }
}

/// All operations on an element can be left out together; what takes or sees any element cannot.
fn queue_group(action: &Action) -> Option<Value> {
    matches!(action.f, "enqueue" | "dequeue").then(|| action.value.clone())
}

/// A queue that is first in, first out. A dequeue whose result is not known took the first element, if
/// it took place.
#[derive(Debug)]
struct FifoQueue;

impl Model for FifoQueue {
    fn name(&self) -> &'static str {
        "fifo-queue"
    }

    fn functions(&self) -> &'static str {
        "enqueue and dequeue"
    }

    fn initial(&self) -> Value {
        Value::list(Vec::new())
    }

    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        queue_action(f, argument, result)
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        let items = state.items().unwrap_or_default();
        match action.f {
            "enqueue" => {
                let mut items = items.to_vec();
                items.push(action.value.clone());
                Some(Value::list(items))
            }
            "dequeue-empty" => items.is_empty().then(|| state.clone()),
            "dequeue" if items.first() != Some(&action.value) => None,
            _ => Some(Value::list(items.get(1..)?.to_vec())),
        }
    }

    fn kind(&self, action: &Action) -> Kind {
        queue_kind(action)
    }

    fn group(&self, action: &Action) -> Option<Value> {
        queue_group(action)
    }
}

/// A queue without order: a dequeue takes any element that is there.
#[derive(Debug)]
struct UnorderedQueue;

impl Model for UnorderedQueue {
    fn name(&self) -> &'static str {
        "unordered-queue"
    }

    fn functions(&self) -> &'static str {
        "enqueue and dequeue"
    }

    fn initial(&self) -> Value {
        Value::list(Vec::new())
    }

    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        let action = queue_action(f, argument, result)?;
        // It may have taken any element. Taking one away only helps a dequeue that found nothing, and
        // those are not part of this model, so it can be left out.
        if f == "dequeue" && result.is_some_and(Value::is_nil) {
            return Err(Misread::Expected("an element (fail when there is none)"));
        }
        Ok(action.filter(|action| action.f != "dequeue-any"))
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        let mut items = state.items().unwrap_or_default().to_vec();
        // Kept in order, so that equal contents are equal states.
        let place = items.binary_search(&action.value);
        match (action.f, place) {
            ("enqueue", Ok(place) | Err(place)) => items.insert(place, action.value.clone()),
            (_, Ok(place)) => {
                items.remove(place);
            }
            (_, Err(_)) => return None,
        }
        Some(Value::list(items))
    }

    fn kind(&self, _: &Action) -> Kind {
        Kind::Update
    }

    fn group(&self, action: &Action) -> Option<Value> {
        queue_group(action)
    }
}

/// Several registers that are read and written together: `txn` of `[:read k v]` and `[:write k v]`
/// (also `:r` and `:w`), in order, at one moment. Reading nil says nothing.
///
/// Histories do not tell what the registers held at the start. Unless told, any value will do: the first
/// call that reads a register which nobody wrote settles it.
#[derive(Debug)]
struct MultiRegister {
    /// A map; `None` when not known.
    initial: Option<Value>,
}

impl MultiRegister {
    fn new(initial: Option<Value>) -> MultiRegister {
        // Keys of options are text; those of histories are mostly names.
        let named = |key: &Value| match key.as_text().map(fuzz_dist_core::Sym::try_new) {
            Some(Ok(name)) => Value::Sym(name),
            _ => key.clone(),
        };
        MultiRegister {
            initial: initial.map(|initial| match &initial {
                Value::Map(pairs) => Value::map(pairs.iter().map(|(k, v)| (named(k), v.clone()))),
                _ => Value::map([]),
            }),
        }
    }
}

const MICRO_OPS: &str = "a list of [:read key value] and [:write key value]";

impl Model for MultiRegister {
    fn name(&self) -> &'static str {
        "multi-register"
    }

    fn functions(&self) -> &'static str {
        "txn, read and write"
    }

    fn initial(&self) -> Value {
        self.initial.clone().unwrap_or_else(|| Value::map([]))
    }

    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        if !matches!(f, "txn" | "read" | "write") {
            return Err(Misread::NoSuchFunction);
        }
        // Jepsen's multi-key tests have {key value} for a function that is read or write.
        let value = result.unwrap_or(argument);
        let mut micro_ops = Vec::new();
        if let (Value::Map(pairs), "read" | "write") = (value, f) {
            for (key, value) in pairs.iter() {
                micro_ops.push(Value::list(vec![Value::sym(f), key.clone(), value.clone()]));
            }
        } else {
            for micro_op in value.items().ok_or(Misread::Expected(MICRO_OPS))? {
                micro_ops.push(normal(micro_op)?);
            }
        }
        if result.is_none() {
            // What an operation read of which no result is known is not known either.
            micro_ops.retain(is_write);
        }
        micro_ops.retain(|op| is_write(op) || !op.items().is_some_and(|items| items[2].is_nil()));
        Ok((!micro_ops.is_empty()).then(|| Action { f: "txn", value: Value::list(micro_ops) }))
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        let Value::Map(registers) = state else { return None };
        let mut registers = std::borrow::Cow::Borrowed(registers.as_ref());
        for micro_op in action.value.items()? {
            let [_, key, value] = micro_op.items()? else { return None };
            let place = registers.binary_search_by(|(k, _)| k.cmp(key));
            match (is_write(micro_op), place) {
                (true, Ok(place)) => registers.to_mut()[place].1 = value.clone(),
                // Written for the first time, or settled by being read.
                (is_write, Err(place)) if is_write || self.initial.is_none() => {
                    registers.to_mut().insert(place, (key.clone(), value.clone()));
                }
                (false, Ok(place)) if registers[place].1 == *value => {}
                _ => return None,
            }
        }
        Some(match registers {
            std::borrow::Cow::Borrowed(_) => state.clone(),
            std::borrow::Cow::Owned(registers) => Value::Map(registers.into()),
        })
    }

    fn kind(&self, action: &Action) -> Kind {
        let writes = action.value.items().unwrap_or_default().iter().any(is_write);
        if writes || self.initial.is_none() { Kind::Update } else { Kind::Observer }
    }

    fn only_observes(&self, action: &Action) -> bool {
        !action.value.items().unwrap_or_default().iter().any(is_write)
    }
}

fn is_write(micro_op: &Value) -> bool {
    micro_op.items().and_then(<[Value]>::first).and_then(Value::as_text) == Some("write")
}

fn normal(micro_op: &Value) -> Result<Value, Misread> {
    let [f, key, value] = micro_op.items().unwrap_or_default() else {
        return Err(Misread::Expected(MICRO_OPS));
    };
    let f = match f.as_text() {
        Some("read" | "r") => "read",
        Some("write" | "w") => "write",
        _ => return Err(Misread::Expected(MICRO_OPS)),
    };
    Ok(Value::list(vec![Value::sym(f), key.clone(), value.clone()]))
}

/// A map of text: `get` (`[k v]`), `put` (`[k v]`), `append` (`[k v]`); keys are apart by nature. The key
/// may also stand under `:key`. What was never put is nil or the empty text.
#[derive(Debug)]
struct StringMap;

impl Model for StringMap {
    fn name(&self) -> &'static str {
        "map"
    }

    fn functions(&self) -> &'static str {
        "get, put and append"
    }

    fn initial(&self) -> Value {
        Value::str("")
    }

    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        let empty_for_nil = |value: &Value| match value {
            Value::Nil => Value::str(""),
            other => other.clone(),
        };
        Ok(match (f, result) {
            ("get", None) => None,
            ("get", Some(seen)) => Some(Action { f: "get", value: empty_for_nil(seen) }),
            ("put", _) => Some(Action { f: "put", value: empty_for_nil(argument) }),
            ("append", _) => match argument {
                Value::Str(_) => Some(Action { f: "append", value: argument.clone() }),
                _ => return Err(Misread::Expected("text to append")),
            },
            _ => return Err(Misread::NoSuchFunction),
        })
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        match (action.f, state, &action.value) {
            ("get", state, seen) => (state == seen).then(|| state.clone()),
            ("put", _, value) => Some(value.clone()),
            (_, Value::Str(text), Value::Str(more)) => Some(Value::str(format!("{text}{more}"))),
            _ => None,
        }
    }

    fn kind(&self, action: &Action) -> Kind {
        match action.f {
            "get" => Kind::Observer,
            "put" => Kind::Overwrite,
            _ => Kind::Update,
        }
    }

    fn key<'a>(&self, op: &'a Op) -> Option<&'a Value> {
        op.extra("key").or_else(|| op.value.key_and_value().map(|(key, _)| key))
    }

    fn unkeyed(&self, op: &Op) -> Value {
        match (op.extra("key"), op.value.key_and_value()) {
            (None, Some((_, value))) => value.clone(),
            _ => op.value.clone(),
        }
    }
}

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
