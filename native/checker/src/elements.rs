//! What `set` and `set-full` share: which elements were added, how, and what a read holds.

use fuzz_dist_core::{Anomaly, History, Op, OpType, Value};

use crate::numbering::Numbering;
use crate::told;

/// No such record.
pub(crate) const NONE: u32 = u32::MAX;

/// How one element was added.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Added {
    /// First invocation of an add; [`NONE`] if it was never added.
    pub invoke: u32,
    /// First ok completion.
    pub ok: u32,
    /// Whether every add of it certainly failed.
    pub failed: bool,
}

impl Default for Added {
    fn default() -> Added {
        Added { invoke: NONE, ok: NONE, failed: true }
    }
}

/// Elements with their adds, and the reads that succeeded.
#[derive(Debug, Default)]
pub(crate) struct SetHistory {
    /// Elements that were added or read.
    pub elements: Numbering,
    /// By number of the element.
    pub added: Vec<Added>,
    /// Positions of invocation and completion of reads that succeeded, in order of invocation.
    pub reads: Vec<(u32, u32)>,
}

impl SetHistory {
    /// Reads adds and reads; names the record that is neither.
    pub fn new(history: &History) -> Result<SetHistory, String> {
        let [add, read, final_read] = ["add", "read", "final-read"].map(fuzz_dist_core::Sym::new);
        let mut set = SetHistory::default();
        for (position, op) in crate::budget::ops(history).enumerate() {
            if !op.is_client() || op.op_type != OpType::Invoke {
                continue;
            }
            let pair = history.pair(position);
            let outcome = pair.map_or(OpType::Info, |pair| history.ops()[pair].op_type);
            if op.f == add {
                let done = pair.map(|pair| &history.ops()[pair]);
                let element = set.element(told::argument(op, done)?) as usize;
                let added = &mut set.added[element];
                added.invoke = added.invoke.min(position as u32);
                added.failed &= outcome == OpType::Fail;
                if let (OpType::Ok, Some(pair)) = (outcome, pair) {
                    added.ok = added.ok.min(pair as u32);
                }
            } else if op.f == read || op.f == final_read {
                if let (OpType::Ok, Some(pair)) = (outcome, pair) {
                    read_elements(&history.ops()[pair])?;
                    set.reads.push((position as u32, pair as u32));
                }
            } else if outcome != OpType::Fail {
                return Err(format!(
                    "not checked: record {position}: a set has :add and :read, not :{}",
                    op.f
                ));
            }
        }
        Ok(set)
    }

    /// The number of an element.
    pub fn element(&mut self, value: &Value) -> u32 {
        let number = self.elements.number(value);
        if number as usize == self.added.len() {
            self.added.push(Added::default());
        }
        number
    }
}

/// What a read returned; nil is the empty set.
pub(crate) fn read_elements(op: &Op) -> Result<&[Value], String> {
    match &op.value {
        Value::Nil => Ok(&[]),
        value => value.items().ok_or_else(|| {
            format!("not checked: record {}: a read of a set returned {value}", op.index)
        }),
    }
}

/// An anomaly about one element.
pub(crate) fn about(name: &str, element: &Value, text: String, ops: &[u32]) -> Anomaly {
    Anomaly {
        name: name.into(),
        key: Some(element.to_string()),
        text,
        ops: ops.iter().filter(|op| **op != NONE).map(|op| u64::from(*op)).collect(),
        ..Anomaly::default()
    }
}

/// Elements as Jepsen prints them: integers in runs, `#{0..53 55}`, others after them; at most 64 parts.
pub(crate) fn intervals<'a>(elements: impl Iterator<Item = &'a Value>) -> String {
    const SHOWN: usize = 64;
    let mut sorted: Vec<&Value> = elements.collect();
    sorted.sort_unstable();
    let follows = |a: &&Value, b: &&Value| match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(1) == Some(*b),
        _ => false,
    };
    let runs: Vec<&[&Value]> = sorted.chunk_by(follows).collect();
    let mut parts: Vec<String> = runs
        .iter()
        .take(SHOWN)
        .map(|run| match run {
            [first, .., last] => format!("{first}..{last}"),
            run => run.iter().map(|value| value.to_string()).collect(),
        })
        .collect();
    if runs.len() > SHOWN {
        parts.push("...".to_owned());
    }
    format!("#{{{}}}", parts.join(" "))
}

/// Some elements as text: `1 2 3 and 4 more`.
pub(crate) fn some<'a>(elements: impl ExactSizeIterator<Item = &'a Value>) -> String {
    const SHOWN: usize = 8;
    let count = elements.len();
    let shown: Vec<String> = elements.take(SHOWN).map(Value::to_string).collect();
    match count.saturating_sub(SHOWN) {
        0 => shown.join(" "),
        more => format!("{} and {more} more", shown.join(" ")),
    }
}
