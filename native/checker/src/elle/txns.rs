//! Transactions of a history in flat arrays: what each read and wrote, by transaction and by key.
//!
//! An operation's value is a list of `[f key value]`. Those of an ok completion are taken from it; a
//! transaction that ended with info, or never ended, may have happened, and what it says it read is not
//! believed; a failed one did not happen, and is kept only to recognise its writes. Values are not copied.

use fuzz_dist_core::{History, OpType, Value};

use crate::elle::graph::NONE;
use crate::numbering::Numbering;

/// One transaction. Its number is its place in the order of invocations.
#[derive(Debug, Clone, Copy)]
pub struct Txn {
    /// Position of the invocation.
    pub invoke: u32,
    /// Position of the completion, or [`NONE`].
    pub complete: u32,
    /// The number of its client process.
    pub process: i64,
    /// How it ended: ok, fail, or info (also when it did not end).
    pub outcome: OpType,
    pub(crate) mop_start: u32,
}

impl Txn {
    /// The position of the record that tells most of it: its completion, if it has one.
    pub fn record(&self) -> u64 {
        u64::from(if self.complete == NONE { self.invoke } else { self.complete })
    }
}

/// Positions of both records of some of these transactions, given by number.
pub fn records(list: &[Txn], txns: &[u32]) -> Vec<u64> {
    let both = txns.iter().map(|txn| &list[*txn as usize]);
    let mut positions: Vec<u64> = both
        .flat_map(|txn| [txn.invoke, txn.complete])
        .filter(|position| *position != NONE)
        .map(u64::from)
        .collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}

/// One read or write inside a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Mop<'h> {
    /// The transaction.
    pub txn: u32,
    key_and_write: u32,
    /// What was read or written.
    pub value: &'h Value,
}

impl Mop<'_> {
    /// The number of the key.
    pub fn key(&self) -> u32 {
        self.key_and_write >> 1
    }

    /// Whether it writes (or appends).
    pub fn is_write(&self) -> bool {
        self.key_and_write & 1 == 1
    }
}

/// All transactions of a history.
#[derive(Debug)]
pub struct Txns<'h> {
    /// The history that they are from.
    pub history: &'h History,
    /// What they call their writes.
    pub dialect: Dialect,
    /// By number.
    pub list: Vec<Txn>,
    /// By transaction, in the order in which they were performed.
    pub mops: Vec<Mop<'h>>,
    /// Keys by number.
    keys: Vec<Value>,
    key_offsets: Vec<u32>,
    key_mops: Vec<u32>,
}

/// What a kind of history calls its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `[:append k v]` and `[:r k [v …]]`.
    ListAppend,
    /// `[:w k v]` and `[:r k v]`.
    RwRegister,
}

impl Dialect {
    /// The function that writes.
    pub fn write(self) -> &'static str {
        match self {
            Dialect::ListAppend => "append",
            Dialect::RwRegister => "w",
        }
    }

    fn other(self) -> (Dialect, &'static str) {
        match self {
            Dialect::ListAppend => (Dialect::RwRegister, "rw-register"),
            Dialect::RwRegister => (Dialect::ListAppend, "list-append"),
        }
    }
}

/// Why a history is not one of such transactions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTxns {
    /// The value of an operation is no list.
    #[error(
        "record {index}: the value {value} of :{f} is no transaction, which is a list of [f key value]"
    )]
    NotATxn {
        /// Position of the record.
        index: u64,
        /// Its function.
        f: String,
        /// Its value.
        value: String,
    },
    /// An element of the list is not a known micro-operation.
    #[error("record {index}: {mop} is not [:r key value] or [:{write} key value]{hint}")]
    UnknownMop {
        /// Position of the record.
        index: u64,
        /// What is there.
        mop: String,
        /// The function that writes.
        write: &'static str,
        /// Which checker knows it, or nothing.
        hint: String,
    },
    /// What was read is no list.
    #[error("record {index}: the read of {key} returned {value}, which is no list")]
    NotAList {
        /// Position of the record.
        index: u64,
        /// The key.
        key: String,
        /// What it returned.
        value: String,
    },
    /// The same value is written to a key by two operations, so nobody can say whose was read.
    #[error(
        "records {first} and {second} both write {value} to {key}; versions can only be told apart if \
         each value is written to a key once"
    )]
    WrittenTwice {
        /// Position of one record.
        first: u64,
        /// Position of the other.
        second: u64,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// The initial value is written to a register, and read from it.
    #[error(
        "record {record} writes {value} to {key}, and {value} is read from it, which is also what it holds \
         before any write; write another value"
    )]
    WritesInitial {
        /// Position of the record.
        record: u64,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// More than the compact form has numbers for.
    #[error("a history may have at most {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        max: u32,
    },
}

/// Keys are numbered in the upper bits of a tag.
const KEYS_MAX: u32 = 1 << 28;
/// Two states for each vertex, and as many helpers again, have to be numbered.
const MOPS_MAX: u32 = 1 << 29;

impl<'h> Txns<'h> {
    /// Reads the transactions of a history.
    pub fn new(history: &'h History, dialect: Dialect) -> Result<Txns<'h>, NotTxns> {
        let mut list = Vec::with_capacity(history.len() / 2 + 1);
        let mut mops = Vec::with_capacity(history.len());
        let mut keys = Numbering::default();
        for (position, invocation) in crate::budget::ops(history).enumerate() {
            let Some(process) = invocation.process.client() else { continue };
            if invocation.op_type != OpType::Invoke {
                continue;
            }
            let pair = history.pair(position);
            let outcome = pair.map_or(OpType::Info, |pair| history.ops()[pair].op_type);
            let completed = pair.map(|pair| &history.ops()[pair]);
            // A completion without a value (a time-out, say) says nothing; the invocation then does.
            let op = match completed {
                Some(done) if outcome == OpType::Ok || done.value.items().is_some() => done,
                _ => invocation,
            };
            let txn = list.len() as u32;
            list.push(Txn {
                invoke: position as u32,
                complete: pair.map_or(NONE, |pair| pair as u32),
                process,
                outcome,
                mop_start: mops.len() as u32,
            });
            let items = match (&op.value, outcome) {
                // Nothing was asked, or nothing is said of it.
                (Value::Nil, _) => continue,
                (Value::List(items) | Value::Tuple(items), _) => items,
                _ => {
                    return Err(NotTxns::NotATxn {
                        index: op.index,
                        f: op.f.to_string(),
                        value: shown(&op.value),
                    });
                }
            };
            for item in items.iter() {
                let (is_write, key, value) = mop(item, dialect, op.index)?;
                let key_and_write = keys.number(key) << 1 | u32::from(is_write);
                mops.push(Mop { txn, key_and_write, value });
            }
        }
        let keys = keys.into_values();
        for (what, count, max) in
            [("keys", keys.len(), KEYS_MAX), ("reads and writes", mops.len(), MOPS_MAX)]
        {
            if count >= max as usize {
                return Err(NotTxns::TooMany { what, max });
            }
        }
        let (key_offsets, key_mops) = by_key(keys.len(), &mops);
        Ok(Txns { history, dialect, list, mops, keys, key_offsets, key_mops })
    }

    /// How many keys.
    pub fn key_count(&self) -> u32 {
        self.keys.len() as u32
    }

    /// The key of a number.
    pub fn key(&self, key: u32) -> &Value {
        &self.keys[key as usize]
    }

    /// What a transaction read and wrote, in order.
    pub fn mops_of(&self, txn: u32) -> &[Mop<'h>] {
        let start = self.list[txn as usize].mop_start as usize;
        let end =
            self.list.get(txn as usize + 1).map_or(self.mops.len(), |next| next.mop_start as usize);
        &self.mops[start..end]
    }

    /// The numbers of the reads and writes of a key, by transaction and in order.
    pub fn mops_of_key(&self, key: u32) -> &[u32] {
        let range = self.key_offsets[key as usize]..self.key_offsets[key as usize + 1];
        &self.key_mops[range.start as usize..range.end as usize]
    }

    /// How the transaction of a read or write ended.
    pub fn outcome(&self, mop: &Mop) -> OpType {
        self.list[mop.txn as usize].outcome
    }

    /// The position of the record that tells most of a transaction: its completion, if it has one.
    pub fn record(&self, txn: u32) -> u64 {
        self.list[txn as usize].record()
    }

    /// Positions of both records of some transactions.
    pub fn records(&self, txns: &[u32]) -> Vec<u64> {
        records(&self.list, txns)
    }

    /// An error about a value that two transactions wrote.
    pub fn written_twice(&self, a: u32, b: u32) -> NotTxns {
        let (a, b) = (&self.mops[a as usize], &self.mops[b as usize]);
        NotTxns::WrittenTwice {
            first: self.record(a.txn),
            second: self.record(b.txn),
            key: self.key(a.key()).to_string(),
            value: shown(a.value),
        }
    }

    /// An error about a write of the initial value.
    pub fn writes_initial(&self, mop: u32) -> NotTxns {
        let mop = &self.mops[mop as usize];
        NotTxns::WritesInitial {
            record: self.record(mop.txn),
            key: self.key(mop.key()).to_string(),
            value: shown(mop.value),
        }
    }

    /// An error about a read that returned no list.
    pub fn not_a_list(&self, mop: &Mop) -> NotTxns {
        NotTxns::NotAList {
            index: self.record(mop.txn),
            key: self.key(mop.key()).to_string(),
            value: shown(mop.value),
        }
    }
}

fn mop(item: &Value, dialect: Dialect, index: u64) -> Result<(bool, &Value, &Value), NotTxns> {
    static NIL: Value = Value::Nil;
    let parts = match item {
        Value::List(parts) | Value::Tuple(parts) => parts.as_slice(),
        _ => &[],
    };
    // A read of nothing may be written `[:r k]`.
    let (f, key, value) = match parts {
        [f, key, value] => (f, key, value),
        [f, key] => (f, key, &NIL),
        _ => return Err(unknown(item, None, dialect, index)),
    };
    match f.as_text() {
        Some("r") => Ok((false, key, value)),
        Some(name) if name == dialect.write() && parts.len() == 3 => Ok((true, key, value)),
        name => Err(unknown(item, name, dialect, index)),
    }
}

fn unknown(item: &Value, name: Option<&str>, dialect: Dialect, index: u64) -> NotTxns {
    let (other, checker) = dialect.other();
    let hint = match name {
        Some(name) if name == other.write() => {
            format!("; the checker for such histories is {checker}")
        }
        _ => String::new(),
    };
    NotTxns::UnknownMop { index, mop: shown(item), write: dialect.write(), hint }
}

/// A value as text, cut where it gets long.
pub fn shown(value: &Value) -> String {
    const CHARS_MAX: usize = 240;
    let text = value.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        None => text,
        Some((cut, _)) => format!("{} …", &text[..cut]),
    }
}

fn by_key(key_count: usize, mops: &[Mop]) -> (Vec<u32>, Vec<u32>) {
    let mut offsets = vec![0u32; key_count + 2];
    for mop in mops {
        offsets[mop.key() as usize + 2] += 1;
    }
    for i in 2..offsets.len() {
        offsets[i] += offsets[i - 1];
    }
    let mut sorted = vec![0; mops.len()];
    for (number, mop) in (0..).zip(mops) {
        let place = &mut offsets[mop.key() as usize + 1];
        sorted[*place as usize] = number;
        *place += 1;
    }
    offsets.pop();
    (offsets, sorted)
}
