//! A lock.

use fuzz_dist_core::Value;

use crate::linearizable::model::Kind;
use crate::linearizable::models::{Action, Misread, Model};

/// A lock: `acquire` when free, `release` when held; it does not know by whom.
#[derive(Debug)]
pub struct Mutex {
    held: bool,
}

impl Mutex {
    /// A lock that is held at the start if `initial` is true.
    pub fn new(initial: Option<Value>) -> Result<Mutex, &'static str> {
        match initial {
            None | Some(Value::Nil) => Ok(Mutex { held: false }),
            Some(Value::Bool(held)) => Ok(Mutex { held }),
            Some(_) => Err("true (held) or false"),
        }
    }
}

impl Model for Mutex {
    fn name(&self) -> &'static str {
        "mutex"
    }

    fn functions(&self) -> &'static str {
        "acquire and release"
    }

    fn initial(&self) -> Value {
        Value::Bool(self.held)
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
