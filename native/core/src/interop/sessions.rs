//! Transactions of sessions: the texts of Plume and AWDIT, and those of dbcop, as operations.
//!
//! Each transaction becomes an invocation and its completion: `:f :txn`, value `[[:w k v] [:r k v] …]`,
//! process the session, `:ok` if it committed and `:fail` if it was aborted. These formats record the order
//! within a session and nothing between sessions. Records have to stand in some order: the first
//! transactions of all sessions are invoked, then completed, then the second ones, and so on. So as much as
//! possible is concurrent, and the history says of itself that it [has no real time].
//!
//! [has no real time]: crate::history::History::has_real_time

use std::collections::{HashMap, HashSet};

use super::Records;
use super::error::Place;
use super::sharing::Sharing;
use crate::op::{Op, OpType, Process};
use crate::sym::Sym;
use crate::value::Value;

/// A read or a write.
#[derive(Debug, Clone)]
pub(super) struct Mop {
    pub is_write: bool,
    pub key: Value,
    pub value: Value,
}

/// A transaction.
#[derive(Debug, Clone)]
pub(super) struct Txn {
    pub mops: Vec<Mop>,
    pub has_committed: bool,
    /// Where it begins.
    pub place: Place,
}

/// Sessions in the order in which the text names them, with their numbers.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: Vec<(i64, Vec<Txn>)>,
    positions: HashMap<i64, usize>,
}

impl Sessions {
    /// The transactions of a session, in its order.
    pub fn of(&mut self, session: i64) -> &mut Vec<Txn> {
        let position = *self.positions.entry(session).or_insert_with(|| {
            self.sessions.push((session, Vec::new()));
            self.sessions.len() - 1
        });
        &mut self.sessions[position].1
    }

    /// A read of 0 of a key to which nobody wrote 0 is one of the initial state, which is nil here.
    pub fn initial_zero_is_nil(&mut self) {
        let zero = Value::Int(0);
        let written: HashSet<Value> = self
            .mops()
            .filter(|mop| mop.is_write && mop.value == zero)
            .map(|mop| mop.key.clone())
            .collect();
        for (_, txns) in &mut self.sessions {
            for mop in txns.iter_mut().flat_map(|txn| &mut txn.mops) {
                if !mop.is_write && mop.value == zero && !written.contains(&mop.key) {
                    mop.value = Value::Nil;
                }
            }
        }
    }

    fn mops(&self) -> impl Iterator<Item = &Mop> {
        self.sessions.iter().flat_map(|(_, txns)| txns).flat_map(|txn| &txn.mops)
    }

    /// The records, the nth transactions of all sessions at the same time.
    pub fn into_records(self, name: &str) -> Records {
        let mut records = Records { without_real_time: true, ..Records::default() };
        records.notices.push(format!(
            "{name}: the format knows sessions but no times: the order of transactions of different \
             sessions means nothing"
        ));
        let count: usize = self.sessions.iter().map(|(_, txns)| txns.len()).sum();
        records.ops.reserve(2 * count);
        records.places.reserve(2 * count);
        let mut writer = Writer { names: Names::default(), sharing: Sharing::new() };
        let mut sessions: Vec<_> =
            self.sessions.into_iter().map(|(number, txns)| (number, txns.into_iter())).collect();
        loop {
            let first = records.ops.len();
            let mut ends = Vec::with_capacity(sessions.len());
            for (number, txns) in &mut sessions {
                let Some(txn) = txns.next() else { continue };
                records.add(writer.op(*number, OpType::Invoke, &txn.mops, false), txn.place);
                ends.push((*number, txn));
            }
            for (number, txn) in ends {
                let op_type = if txn.has_committed { OpType::Ok } else { OpType::Fail };
                records.add(writer.op(number, op_type, &txn.mops, true), txn.place);
            }
            if records.ops.len() == first {
                return records;
            }
        }
    }
}

struct Names {
    txn: Sym,
    read: Value,
    write: Value,
}

impl Default for Names {
    fn default() -> Names {
        Names { txn: Sym::new("txn"), read: Value::sym("r"), write: Value::sym("w") }
    }
}

/// Makes the value of a transaction, sharing what is equal.
struct Writer {
    names: Names,
    sharing: Sharing,
}

impl Writer {
    fn op(&mut self, session: i64, op_type: OpType, mops: &[Mop], with_reads: bool) -> Op {
        let (mut mop_stack, mut stack) = (Vec::new(), Vec::with_capacity(mops.len()));
        for mop in mops {
            let name = if mop.is_write { &self.names.write } else { &self.names.read };
            let value = match mop.is_write || with_reads {
                true => mop.value.clone(),
                false => Value::Nil,
            };
            mop_stack.extend([name.clone(), mop.key.clone(), value]);
            stack.push(self.sharing.list(&mut mop_stack, 0));
        }
        let value = self.sharing.list(&mut stack, 0);
        Op::new(-1, Process::Client(session), op_type, self.names.txn, value)
    }
}

/// Whether a text begins as the one of Plume: `r(key,value,session,transaction)`.
pub(super) fn is_plume(text: &str) -> bool {
    text.starts_with("r(") || text.starts_with("w(")
}

/// Whether a text begins as the one of AWDIT's tests: `w key value` in lines, or the end of an empty session.
pub(super) fn is_awdit(text: &str) -> bool {
    let text = text.trim_start_matches(['-', '=', '\r', '\n', ' ', '\t']);
    let first = text.lines().next().unwrap_or("");
    let mut words = first.split_whitespace();
    let is_number = |word: Option<&str>| word.is_some_and(|word| word.parse::<u64>().is_ok());
    matches!(words.next(), Some("r" | "w")) && is_number(words.next()) && is_number(words.next())
}

/// Whether a text begins as the one of dbcop: `[x:=1 y==2]`, perhaps behind comments and separators.
pub(super) fn is_dbcop_text(mut text: &str) -> bool {
    loop {
        text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '-');
        match text.strip_prefix("//") {
            Some(comment) => text = comment.split_once('\n').map_or("", |(_, rest)| rest),
            None => break,
        }
    }
    let Some(events) = text.strip_prefix('[') else { return false };
    let events = events.trim_start_matches([' ', '\t']);
    let name = events.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let named = name.len() < events.len() && !events.starts_with(|c: char| c.is_ascii_digit());
    named && (name.starts_with(":=") || name.starts_with("=="))
}

/// Whether an object of JSON begins as the history of dbcop.
pub(super) fn is_dbcop_json(text: &str) -> bool {
    let keys = text.trim_start_matches(['{', ' ', '\t', '\r', '\n']);
    ["\"params\"", "\"info\"", "\"data\""].iter().any(|key| keys.starts_with(key))
}
