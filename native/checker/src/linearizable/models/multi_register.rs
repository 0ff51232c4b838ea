//! Several registers that are read and written together.

use fuzz_dist_core::Value;

use crate::linearizable::model::Kind;
use crate::linearizable::models::{Action, Misread, Model, told};

/// Several registers that are read and written together: `txn` of `[:read k v]` and `[:write k v]`
/// (also `:r` and `:w`), in order, at one moment. Reading nil says nothing.
///
/// Histories do not tell what the registers held at the start. Unless told, any value will do: the first
/// call that reads a register which nobody wrote settles it.
#[derive(Debug)]
pub struct MultiRegister {
    /// A map; `None` when not known.
    initial: Option<Value>,
}

impl MultiRegister {
    /// Registers that hold `initial`, a map; whatever will do if not told.
    pub fn new(initial: Option<Value>) -> Result<MultiRegister, &'static str> {
        let initial = initial.filter(|initial| !initial.is_nil());
        // Keys of options are text; those of histories are mostly names.
        let named = |key: &Value| match key.as_text().map(fuzz_dist_core::Sym::try_new) {
            Some(Ok(name)) => Value::Sym(name),
            _ => key.clone(),
        };
        let initial = match &initial {
            None => None,
            Some(Value::Map(pairs)) => {
                Some(Value::map(pairs.iter().map(|(k, v)| (named(k), v.clone()))))
            }
            Some(_) => return Err("a map from names to values"),
        };
        Ok(MultiRegister { initial })
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
        if let (Some(done), Some(asked)) = (result, argument.items())
            && f == "txn"
        {
            same_writes(asked, done.items().unwrap_or_default())?;
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

    /// Of each register that is read before the action itself writes it, the value. Nothing if what the
    /// registers held at the start is not known.
    fn requires(&self, action: &Action) -> Vec<Value> {
        let mut written: Vec<&Value> = Vec::new();
        let mut required = Vec::new();
        for micro_op in action.value.items().unwrap_or_default() {
            let Some([_, key, value]) = micro_op.items() else { continue };
            if is_write(micro_op) {
                written.push(key);
            } else if self.initial.is_some() && !written.contains(&key) {
                required.push(Value::tuple(vec![key.clone(), value.clone()]));
            }
        }
        required
    }

    fn provides(&self, action: &Action) -> Vec<Value> {
        let micro_ops = action.value.items().unwrap_or_default();
        let held = |micro_op: &Value| match micro_op.items() {
            Some([_, key, value]) if is_write(micro_op) => {
                Some(Value::tuple(vec![key.clone(), value.clone()]))
            }
            _ => None,
        };
        micro_ops.iter().filter_map(held).collect()
    }

    fn provided_at_start(&self) -> Vec<Value> {
        match &self.initial {
            Some(Value::Map(pairs)) => {
                pairs.iter().map(|(k, v)| Value::tuple(vec![k.clone(), v.clone()])).collect()
            }
            _ => Vec::new(),
        }
    }

    fn only_observes(&self, action: &Action) -> bool {
        !action.value.items().unwrap_or_default().iter().any(is_write)
    }
}

fn is_write(micro_op: &Value) -> bool {
    micro_op.items().and_then(<[Value]>::first).and_then(Value::as_text) == Some("write")
}

/// A transaction that completes writes what it was invoked to write, where the invocation says it.
fn same_writes(asked: &[Value], done: &[Value]) -> Result<(), Misread> {
    for (asked, done) in asked.iter().zip(done) {
        let (asked, done) = (normal(asked)?, normal(done)?);
        let (Some([_, _, value]), Some([_, _, again])) = (asked.items(), done.items()) else {
            continue;
        };
        if is_write(&asked) {
            told(value, Some(again))?;
        }
    }
    Ok(())
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
