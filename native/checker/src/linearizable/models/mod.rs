//! Objects other than single registers, through a small trait.
//!
//! A [`Model`] says what an operation did ([`Model::action`]) and what that makes of a state
//! ([`Model::step`]); states are plain values. A model of one's own is as much as that: see the
//! example at [`Model`], and [`super::Linearizable::of_model`].

mod counter;
mod multi_register;
mod mutex;
mod queues;
mod set;
mod string_map;
mod versioned_register;

use fuzz_dist_core::{Op, Value};

use crate::linearizable::model::Kind;
use crate::linearizable::snapshots::Snapshot;
use crate::linearizable::unambiguous::Discipline;

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
    /// The argument at the invocation and at the completion are two.
    Differs,
}

/// What an action does to a collection of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'a> {
    /// Puts that element in.
    Put(&'a Value),
    /// Takes that element out.
    Take(&'a Value),
    /// Takes some element out, if it takes place; which one is not known.
    TakeAny,
    /// Finds that there is no element.
    Empty,
}

/// An object.
///
/// Four methods are enough. A counter that is read and increased:
///
/// ```
/// use fuzz_dist_checker::linearizable::models::{Action, Misread, Model};
/// use fuzz_dist_core::Value;
///
/// struct Counter;
///
/// impl Model for Counter {
///     fn name(&self) -> &'static str {
///         "counter"
///     }
///     fn functions(&self) -> &'static str {
///         "increase and read"
///     }
///     fn initial(&self) -> Value {
///         Value::Int(0)
///     }
///     fn action(
///         &self,
///         f: &str,
///         _argument: &Value,
///         result: Option<&Value>,
///     ) -> Result<Option<Action>, Misread> {
///         match (f, result) {
///             ("increase", _) => Ok(Some(Action { f: "increase", value: Value::Nil })),
///             ("read", Some(seen)) => Ok(Some(Action { f: "read", value: seen.clone() })),
///             // What a read without an answer saw is not known.
///             ("read", None) => Ok(None),
///             _ => Err(Misread::NoSuchFunction),
///         }
///     }
///     fn step(&self, state: &Value, action: &Action) -> Option<Value> {
///         match action.f {
///             "increase" => Some(Value::Int(state.as_int()? + 1)),
///             _ => (*state == action.value).then(|| state.clone()),
///         }
///     }
/// }
///
/// use fuzz_dist_checker::{Budget, Checker, linearizable::Linearizable};
/// use fuzz_dist_core::{Verdict, interop};
///
/// let text = "{:process 0 :type :invoke :f :increase} {:process 0 :type :ok :f :increase}
///             {:process 1 :type :invoke :f :read}     {:process 1 :type :ok :f :read :value 0}";
/// let history = interop::load_bytes("history", text.as_bytes(), None).unwrap().history;
/// let checker = Linearizable::of_model(Box::new(Counter));
/// let result = checker.check(&history, &Budget::UNLIMITED);
/// assert_eq!(result.verdict, Verdict::Invalid);
/// assert!(result.reason.contains("read 0"));
/// ```
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
    fn kind(&self, _action: &Action) -> Kind {
        Kind::Update
    }
    /// Whether a state, once there, stays part of all that follow it until an overwrite, whichever of
    /// these actions take effect. [`Model::can_grow_into`] is asked only then.
    fn only_grows(&self, _actions: &[Action]) -> bool {
        false
    }
    /// Whether the state can be part of one that allows that observer.
    fn can_grow_into(&self, _state: &Value, _observer: &Action) -> bool {
        true
    }
    /// Whether it can be left out of a counter-example whatever else is in it.
    fn only_observes(&self, action: &Action) -> bool {
        self.kind(action) == Kind::Observer
    }
    /// Operations that can be left out of a counter-example, if all that have the same group are.
    fn group(&self, _action: &Action) -> Option<Value> {
        None
    }
    /// The part of the object that it concerns, if that part is an object of its own, with the same
    /// steps. If every action of a history has one, the parts are checked apart: linearizability is a
    /// local property.
    fn part(&self, _action: &Action) -> Option<Value> {
        None
    }
    /// Why a history of these actions cannot be decided, if it cannot: a [`Model::step`] has one outcome.
    fn refuses(&self, _actions: &[Action]) -> Option<&'static str> {
        None
    }
    /// In which order elements come out, if the object is a collection that starts empty and all of its
    /// actions have a [`Role`].
    fn discipline(&self) -> Option<Discipline> {
        None
    }
    /// What an action does to the elements of such a collection.
    fn role<'a>(&self, _action: &'a Action) -> Option<Role<'a>> {
        None
    }
    /// What an action is to a set that starts empty and of which only adding and reading whole is known.
    fn snapshot<'a>(&self, _action: &'a Action) -> Option<Snapshot<'a>> {
        None
    }
    /// What must have been there for the action to take place: the state at the start has it, or an action
    /// that [`Model::provides`] it was invoked before. None of it is used up.
    fn requires(&self, _action: &Action) -> Vec<Value> {
        Vec::new()
    }
    /// What the action brings in, of that which others require; all that can, not only what must.
    fn provides(&self, _action: &Action) -> Vec<Value> {
        Vec::new()
    }
    /// What of that is there at the start.
    fn provided_at_start(&self) -> Vec<Value> {
        Vec::new()
    }
    /// An action in words.
    fn describe(&self, action: &Action) -> String {
        match &action.value {
            Value::Nil => action.f.to_owned(),
            value => format!("{} {value}", action.f),
        }
    }
    /// A state in words.
    fn show(&self, state: &Value) -> String {
        state.to_string()
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

/// The names of the models here.
pub const NAMES: [&str; 10] = [
    "multi-register",
    "mutex",
    "fifo-queue",
    "unordered-queue",
    "stack",
    "priority-queue",
    "set",
    "map",
    "versioned-register",
    "counter",
];

/// The model of that name; `None` if there is none. `initial` is what it holds at the start, an error
/// says what fits. `greatest_first` is the order of a priority queue whose functions do not say it.
pub fn model(
    name: &str,
    initial: Option<Value>,
    greatest_first: bool,
) -> Option<Result<Box<dyn Model>, &'static str>> {
    Some(match name {
        "mutex" => mutex::Mutex::new(initial).map(boxed),
        "set" => set::SetModel::new(initial).map(boxed),
        "fifo-queue" => queues::FifoQueue::new(initial).map(boxed),
        "unordered-queue" => queues::UnorderedQueue::new(initial).map(boxed),
        "stack" => queues::Stack::new(initial).map(boxed),
        "priority-queue" => queues::PriorityQueue::new(initial, greatest_first).map(boxed),
        "multi-register" => multi_register::MultiRegister::new(initial).map(boxed),
        "map" => string_map::StringMap::new(initial).map(boxed),
        "counter" => counter::Counter::new(initial).map(boxed),
        "versioned-register" => versioned_register::VersionedRegister::new(initial).map(boxed),
        _ => return None,
    })
}

fn boxed(model: impl Model + 'static) -> Box<dyn Model> {
    Box::new(model)
}

/// The argument of an operation, as invocation and completion tell it.
fn told<'a>(argument: &'a Value, result: Option<&'a Value>) -> Result<&'a Value, Misread> {
    crate::told::value(argument, result).map_err(|_| Misread::Differs)
}

/// The elements that a collection holds at the start.
fn elements(initial: Option<Value>) -> Result<Vec<Value>, &'static str> {
    match initial {
        None | Some(Value::Nil) => Ok(Vec::new()),
        Some(value) => match value.items() {
            Some(items) => Ok(items.to_vec()),
            None => Err("a list of elements"),
        },
    }
}
