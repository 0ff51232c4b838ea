//! One record of a history: an invocation, a completion, or something that the run observed.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::sym::Sym;
use crate::value::Value;

/// What a record says about its operation. The names are Jepsen's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum OpType {
    /// The operation begins.
    Invoke = 0,
    /// It took place.
    Ok = 1,
    /// It certainly did not take place, and never will.
    Fail = 2,
    /// It may have taken place, or may at any later time; also every record of the nemesis and observers.
    Info = 3,
}

impl OpType {
    /// The name as it stands in histories.
    pub fn as_str(self) -> &'static str {
        match self {
            OpType::Invoke => "invoke",
            OpType::Ok => "ok",
            OpType::Fail => "fail",
            OpType::Info => "info",
        }
    }

    /// The type of that name.
    pub fn parse(name: &str) -> Option<OpType> {
        Some(match name {
            "invoke" => OpType::Invoke,
            "ok" => OpType::Ok,
            "fail" => OpType::Fail,
            "info" => OpType::Info,
            _ => return None,
        })
    }
}

/// Who performed the operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Process {
    /// A logical, single-threaded client process.
    Client(i64),
    /// A named one: `:nemesis` for faults, `:observer` for what nodes reported.
    Named(Sym),
}

impl Process {
    /// The process of faults.
    pub fn nemesis() -> Process {
        Process::Named(Sym::new("nemesis"))
    }

    /// The process of what nodes reported of themselves.
    pub fn observer() -> Process {
        Process::Named(Sym::new("observer"))
    }

    /// The number of a client process.
    pub fn client(self) -> Option<i64> {
        match self {
            Process::Client(n) => Some(n),
            Process::Named(_) => None,
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Process::Client(n) => write!(f, "{n}"),
            Process::Named(name) => write!(f, ":{name}"),
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One record. `index` is its place in the history, dense from 0, given by the recorder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Place in the history.
    pub index: u64,
    /// Monotonic nanoseconds since the start of the run; -1 when an imported history has no times.
    pub time_ns: i64,
    /// Who.
    pub process: Process,
    /// Which moment of the operation.
    pub op_type: OpType,
    /// Which function.
    pub f: Sym,
    /// Its argument (invocation) or result (completion).
    pub value: Value,
    /// Why it failed or is indeterminate; [`Value::Nil`] otherwise.
    pub error: Value,
    /// The node that it was sent to.
    pub node: Option<Sym>,
    /// Further keys of an imported record (`:final?`, `:clock-offsets` …).
    pub extra: Option<Arc<Vec<(Sym, Value)>>>,
}

impl Op {
    /// A record without error, node and extras; the recorder gives the index.
    pub fn new(time_ns: i64, process: Process, op_type: OpType, f: Sym, value: Value) -> Op {
        Op {
            index: 0,
            time_ns,
            process,
            op_type,
            f,
            value,
            error: Value::Nil,
            node: None,
            extra: None,
        }
    }

    /// Whether a client performed it.
    pub fn is_client(&self) -> bool {
        matches!(self.process, Process::Client(_))
    }

    /// The extra of that name.
    pub fn extra(&self, name: &str) -> Option<&Value> {
        self.extra.as_ref()?.iter().find(|(k, _)| k.as_str() == name).map(|(_, v)| v)
    }
}

/// One line for people: index, process, type, function, value, error.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\t{}\t{}\t:{}\t{}",
            self.index,
            self.process,
            self.op_type.as_str(),
            self.f,
            self.value
        )?;
        if !self.error.is_nil() {
            write!(f, "\t{}", self.error)?;
        }
        Ok(())
    }
}
