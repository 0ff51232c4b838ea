//! A counter that is read exactly, with decrements.
//!
//! `increment` and `decrement` by their argument, 1 if it is nil; `add` of an argument that may be negative; `read`.
//! An argument that was not known at the invocation may come with the completion.
//!
//! The order of additions between two reads does not matter: the state is their sum, so that different
//! orders lead to one configuration, and equal amounts are one class.

use fuzz_dist_core::Value;

use crate::linearizable::model::Kind;
use crate::linearizable::models::{Action, Misread, Model};

/// See the module.
#[derive(Debug)]
pub struct Counter {
    initial: Value,
}

const INTEGER: &str = "an integer of at most 38 digits";

impl Counter {
    /// A counter that stands at `initial` at the start, 0 if not told.
    pub fn new(initial: Option<Value>) -> Result<Counter, &'static str> {
        match initial {
            None | Some(Value::Nil) => Ok(Counter { initial: Value::Int(0) }),
            Some(value) => {
                let number = integer(&value).ok_or("an integer")?;
                Ok(Counter { initial: value_of(number) })
            }
        }
    }
}

/// The integer of a value, as far as sums of them cannot overflow.
fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int(n) => Some(i128::from(*n)),
        Value::BigInt(digits) => digits.parse().ok().filter(|n: &i128| n.abs() < i128::MAX / 4),
        _ => None,
    }
}

fn value_of(n: i128) -> Value {
    match i64::try_from(n) {
        Ok(n) => Value::Int(n),
        Err(_) => Value::BigInt(std::sync::Arc::new(n.to_string())),
    }
}

impl Model for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn functions(&self) -> &'static str {
        "increment, decrement, add and read"
    }

    fn initial(&self) -> Value {
        self.initial.clone()
    }

    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        let amount = |value: &Value| match value {
            Value::Nil if f != "add" => Ok(1),
            value => integer(value).ok_or(Misread::Expected(INTEGER)),
        };
        // The argument says by how much; what an addition answers may be the sum.
        let told = match (argument, result) {
            (Value::Nil, Some(result)) if f == "add" => result,
            (argument, _) => argument,
        };
        let delta = match (f, result) {
            ("read", None) => return Ok(None),
            ("read", Some(seen)) => {
                let seen = integer(seen).ok_or(Misread::Expected(INTEGER))?;
                return Ok(Some(Action { f: "read", value: value_of(seen) }));
            }
            ("increment" | "add", _) => amount(told)?,
            ("decrement", _) => -amount(told)?,
            _ => return Err(Misread::NoSuchFunction),
        };
        Ok((delta != 0).then(|| Action { f: "add", value: value_of(delta) }))
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        if action.f == "read" {
            return (*state == action.value).then(|| state.clone());
        }
        integer(state)?.checked_add(integer(&action.value)?).map(value_of)
    }

    fn kind(&self, action: &Action) -> Kind {
        if action.f == "read" { Kind::Observer } else { Kind::Update }
    }
}
