//! A register whose every change raises a version by one, as etcd's keys have it.
//!
//! Values are `[version value]`: `read` answers with both, `write` and `cas` (`[version [old new]]`) with the
//! version that they made. A version that is nil is not known. It starts with version 0 and no value.

use fuzz_dist_core::Value;

use crate::linearizable::model::Kind;
use crate::linearizable::models::{Action, Misread, Model};

/// See the module.
#[derive(Debug)]
pub struct VersionedRegister {
    initial: Value,
}

const SHAPE: &str = "[version value], for cas [version [old new]]";

impl VersionedRegister {
    /// A register that holds `initial`, a `[version value]`.
    pub fn new(initial: Option<Value>) -> Result<VersionedRegister, &'static str> {
        let initial = match initial {
            None | Some(Value::Nil) => state(0, &Value::Nil),
            Some(value) => match value.key_and_value() {
                Some((Value::Int(version), held)) => state(*version, held),
                _ => return Err("[version value]"),
            },
        };
        Ok(VersionedRegister { initial })
    }
}

fn state(version: i64, value: &Value) -> Value {
    Value::list(vec![Value::Int(version), value.clone()])
}

impl Model for VersionedRegister {
    fn name(&self) -> &'static str {
        "versioned-register"
    }

    fn functions(&self) -> &'static str {
        "read, write and cas"
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
        let f = match f {
            "read" => "read",
            "write" => "write",
            "cas" => "cas",
            _ => return Err(Misread::NoSuchFunction),
        };
        if f == "read" && result.is_none() {
            return Ok(None);
        }
        let told = result.unwrap_or(argument);
        let (version, value) = told.key_and_value().ok_or(Misread::Expected(SHAPE))?;
        let is_pair = value.items().is_some_and(|items| items.len() == 2);
        if !matches!(version, Value::Nil | Value::Int(_)) || (f == "cas" && !is_pair) {
            return Err(Misread::Expected(SHAPE));
        }
        // The version in an argument is what the client expected to make, not what it made.
        let version = if result.is_some() { version.clone() } else { Value::Nil };
        Ok(Some(Action { f, value: Value::list(vec![version, value.clone()]) }))
    }

    fn step(&self, at: &Value, action: &Action) -> Option<Value> {
        let (now, held) = at.key_and_value()?;
        let (told, value) = action.value.key_and_value()?;
        let now = now.as_int()?;
        if action.f == "read" {
            let seen = (told.is_nil() || told.as_int() == Some(now)) && value == held;
            return seen.then(|| at.clone());
        }
        let next = now + 1;
        if !told.is_nil() && told.as_int() != Some(next) {
            return None;
        }
        match (action.f, value.key_and_value()) {
            ("cas", Some((old, new))) => (old == held).then(|| state(next, new)),
            _ => Some(state(next, value)),
        }
    }

    fn requires(&self, action: &Action) -> Vec<Value> {
        let Some((_, value)) = action.value.key_and_value() else { return Vec::new() };
        match (action.f, value.key_and_value()) {
            ("read", _) => vec![value.clone()],
            ("cas", Some((old, _))) => vec![old.clone()],
            _ => Vec::new(),
        }
    }

    fn provides(&self, action: &Action) -> Vec<Value> {
        let Some((_, value)) = action.value.key_and_value() else { return Vec::new() };
        match (action.f, value.key_and_value()) {
            ("write", _) => vec![value.clone()],
            ("cas", Some((_, new))) => vec![new.clone()],
            _ => Vec::new(),
        }
    }

    fn provided_at_start(&self) -> Vec<Value> {
        self.initial.key_and_value().map(|(_, held)| held.clone()).into_iter().collect()
    }

    fn kind(&self, action: &Action) -> Kind {
        if action.f == "read" { Kind::Observer } else { Kind::Update }
    }
}
