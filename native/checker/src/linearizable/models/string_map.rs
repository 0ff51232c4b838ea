//! A map of text.

use fuzz_dist_core::{Op, Value};

use crate::linearizable::model::Kind;
use crate::linearizable::models::{Action, Misread, Model, told};

/// A map of text: `get` (`[k v]`), `put` (`[k v]`), `append` (`[k v]`); keys are apart by nature. The key
/// may also stand under `:key`. What was never put is nil or the empty text.
#[derive(Debug)]
pub struct StringMap {
    initial: Value,
}

impl StringMap {
    /// A map in which every key holds the text `initial` at the start.
    pub fn new(initial: Option<Value>) -> Result<StringMap, &'static str> {
        match initial {
            None | Some(Value::Nil) => Ok(StringMap { initial: Value::str("") }),
            Some(text @ Value::Str(_)) => Ok(StringMap { initial: text }),
            Some(_) => Err("the text of every key at the start"),
        }
    }
}

impl Model for StringMap {
    fn name(&self) -> &'static str {
        "map"
    }

    fn functions(&self) -> &'static str {
        "get, put and append"
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
        let empty_for_nil = |value: &Value| match value {
            Value::Nil => Value::str(""),
            other => other.clone(),
        };
        Ok(match (f, result) {
            ("get", None) => None,
            ("get", Some(seen)) => Some(Action { f: "get", value: empty_for_nil(seen) }),
            ("put", _) => Some(Action { f: "put", value: empty_for_nil(told(argument, result)?) }),
            ("append", _) => match told(argument, result)? {
                text @ Value::Str(_) => Some(Action { f: "append", value: text.clone() }),
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

    fn only_grows(&self, _: &[Action]) -> bool {
        true
    }

    fn can_grow_into(&self, state: &Value, observer: &Action) -> bool {
        match (state, &observer.value) {
            (Value::Str(text), Value::Str(seen)) => seen.starts_with(text.as_str()),
            (state, seen) => state == seen,
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
