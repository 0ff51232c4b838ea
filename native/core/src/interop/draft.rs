//! An operation while its keys are being read, in whatever order they come.

use std::sync::Arc;

use super::error::{ShapeError, shown};
use crate::op::{Op, OpType, Process};
use crate::sym::{Sym, SymTableFull};
use crate::value::Value;

/// A key of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Type,
    Process,
    F,
    Value,
    Time,
    Index,
    Error,
    Node,
    Extra(Sym),
}

impl Key {
    /// The key of that name, without the colon; `None` for those that only this history knows.
    pub fn known(name: &str) -> Option<Key> {
        Some(match name {
            "type" => Key::Type,
            "process" => Key::Process,
            "f" => Key::F,
            "value" => Key::Value,
            "time" => Key::Time,
            "index" => Key::Index,
            "error" => Key::Error,
            "node" => Key::Node,
            _ => return None,
        })
    }

    fn bit(self) -> u8 {
        match self {
            Key::Type => 1,
            Key::Process => 2,
            Key::F => 4,
            Key::Value => 8,
            Key::Time => 16,
            Key::Index => 32,
            Key::Error => 64,
            Key::Node => 128,
            Key::Extra(_) => 0,
        }
    }
}

/// What has been read of an operation.
#[derive(Debug, Default)]
pub(super) struct Draft {
    seen: u8,
    op_type: Option<OpType>,
    pub process: Option<Process>,
    pub f: Option<Sym>,
    value: Value,
    time_ns: Option<i64>,
    pub index: Option<i64>,
    error: Value,
    node: Option<Sym>,
    extra: Vec<(Sym, Value)>,
}

impl Draft {
    fn see(&mut self, key: Key) -> Result<(), ShapeError> {
        if self.seen & key.bit() != 0 {
            return Err(ShapeError::DuplicateKey { key: key_name(key).to_owned() });
        }
        self.seen |= key.bit();
        Ok(())
    }

    /// Takes the type, known already.
    pub fn set_type(&mut self, op_type: OpType) -> Result<(), ShapeError> {
        self.op_type = Some(op_type);
        self.see(Key::Type)
    }

    /// Takes the node, known already.
    pub fn set_node(&mut self, node: Sym) -> Result<(), ShapeError> {
        self.node = Some(node);
        self.see(Key::Node)
    }

    /// Takes the function, known already.
    pub fn set_f(&mut self, f: Sym) -> Result<(), ShapeError> {
        self.f = Some(f);
        self.see(Key::F)
    }

    /// Takes the time, known already.
    pub fn set_time(&mut self, time_ns: i64) -> Result<(), ShapeError> {
        self.time_ns = Some(time_ns);
        self.see(Key::Time)
    }

    /// Takes the index, known already.
    pub fn set_index(&mut self, index: i64) -> Result<(), ShapeError> {
        self.index = Some(index);
        self.see(Key::Index)
    }

    /// Takes the process, known already.
    pub fn set_process(&mut self, process: Process) -> Result<(), ShapeError> {
        self.process = Some(process);
        self.see(Key::Process)
    }

    /// Takes one key with its value.
    pub fn set(&mut self, key: Key, value: Value) -> Result<(), ShapeError> {
        self.see(key)?;
        match key {
            Key::Type => match op_type(&value) {
                Some(op_type) => self.op_type = Some(op_type),
                None if value.is_nil() => {}
                None => return Err(ShapeError::unknown_type(&value)),
            },
            Key::Process => self.process = process(&value)?,
            Key::F => self.f = name(&value)?,
            Key::Value => self.value = value,
            Key::Time => self.time_ns = integer(":time", " of nanoseconds", &value)?,
            Key::Index => self.index = integer(":index", "", &value)?,
            Key::Error => self.error = value,
            Key::Node => match &value {
                Value::Nil => {}
                Value::Sym(_) | Value::Str(_) => self.node = name(&value)?,
                // Some suites keep something else there: it is not lost.
                _ => self.extra.push((Sym::new("node"), value)),
            },
            Key::Extra(sym) => {
                if self.extra.iter().any(|(known, _)| *known == sym) {
                    return Err(ShapeError::DuplicateKey { key: format!(":{sym}") });
                }
                self.extra.push((sym, value));
            }
        }
        Ok(())
    }

    /// The operation, if it is one. Its index is given by the history.
    pub fn finish(self) -> Result<Op, ShapeError> {
        match (self.process, self.is_operation()) {
            (None, true) if self.op_type.is_some() => {
                let mut fields = self.extra.iter().map(|(field, _)| *field);
                let field = fields.find(super::look::is_client_field);
                Err(ShapeError::NoProcess { field })
            }
            _ => self.finish_unnamed(),
        }
    }

    fn is_operation(&self) -> bool {
        self.seen & (Key::Type.bit() | Key::Process.bit() | Key::F.bit()) != 0
    }

    /// As [`Draft::finish`], of [`no_process`] if it has none.
    pub fn finish_unnamed(self) -> Result<Op, ShapeError> {
        if !self.is_operation() {
            return Err(ShapeError::NotAnOperation { keys: self.keys() });
        }
        let op_type = self.op_type.ok_or(ShapeError::NoType)?;
        if let Some(Process::Named(name)) = self.process
            && op_type != OpType::Info
            && name != "nemesis"
        {
            return Err(ShapeError::NamedClient { name, op_type });
        }
        Ok(Op {
            index: 0,
            time_ns: self.time_ns.unwrap_or(-1),
            op_type,
            process: self.process.unwrap_or_else(no_process),
            f: match self.f {
                Some(f) => f,
                None => Sym::new(NO_F),
            },
            value: self.value,
            error: self.error,
            node: self.node,
            extra: (!self.extra.is_empty()).then(|| Arc::new(self.extra)),
        })
    }

    fn keys(&self) -> String {
        const SHOWN_MAX: usize = 6;
        let known = [Key::Value, Key::Time, Key::Index, Key::Error, Key::Node];
        let known = known.iter().filter(|key| self.seen & key.bit() != 0);
        let mut keys: Vec<String> = known.map(|&key| key_name(key).to_owned()).collect();
        keys.extend(self.extra.iter().map(|(sym, _)| format!(":{sym}")));
        if keys.is_empty() {
            return "none".to_owned();
        }
        let more = if keys.len() > SHOWN_MAX { " …" } else { "" };
        keys.truncate(SHOWN_MAX);
        keys.join(" ") + more
    }
}

/// What stands for a missing `:f`; written back as `nil`.
pub(super) const NO_F: &str = "nil";

/// What stands for a missing `:process` until one is found for the record.
pub(super) fn no_process() -> Process {
    Process::Named(Sym::new("nil"))
}

fn key_name(key: Key) -> &'static str {
    match key {
        Key::Type => ":type",
        Key::Process => ":process",
        Key::F => ":f",
        Key::Value => ":value",
        Key::Time => ":time",
        Key::Index => ":index",
        Key::Error => ":error",
        Key::Node => ":node",
        Key::Extra(_) => "another key",
    }
}

fn op_type(value: &Value) -> Option<OpType> {
    value.as_text().and_then(OpType::parse)
}

fn process(value: &Value) -> Result<Option<Process>, ShapeError> {
    match value {
        Value::Int(number) => Ok(Some(Process::Client(*number))),
        Value::Nil => Ok(None),
        Value::Sym(sym) => Ok(Some(Process::Named(*sym))),
        Value::Str(text) => match super::json::canonical_integer(text) {
            Some(number) => Ok(Some(Process::Client(number))),
            None => Ok(Some(Process::Named(Sym::try_new(text)?))),
        },
        other => Err(ShapeError::BadProcess { found: shown(other) }),
    }
}

/// A function or node. A composed nemesis in Jepsen may name its functions by data: that is its text.
fn name(value: &Value) -> Result<Option<Sym>, SymTableFull> {
    match value {
        Value::Nil => Ok(None),
        Value::Sym(sym) => Ok(Some(*sym)),
        Value::Str(text) => Sym::try_new(text).map(Some),
        other => Sym::try_new(&super::edn_of_value(other)).map(Some),
    }
}

fn integer(
    key: &'static str,
    unit: &'static str,
    value: &Value,
) -> Result<Option<i64>, ShapeError> {
    match value {
        Value::Int(n) => Ok(Some(*n)),
        Value::Nil => Ok(None),
        other => Err(ShapeError::NotAnInteger { key, unit, found: shown(other) }),
    }
}
