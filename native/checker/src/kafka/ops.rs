//! A history of a log system in flat arrays: who sent and polled which message at which offset.
//!
//! A message is a key (a partition) with a value, and is sent once. Completions tell what happened; an
//! operation that ended with info or fail may still tell offsets and, since a poller is only ever given
//! safe data, what it polled. What the invocation wanted to send and the completion does not mention was
//! attempted all the same.

use fuzz_dist_core::{History, Op, OpType, Value};
use rustc_hash::FxHashMap;

use crate::elle::graph::NONE;
use crate::elle::txns::{Txn, records, shown};
use crate::numbering::Numbering;

/// An offset that nobody knows.
pub const UNKNOWN: i64 = i64::MIN;

/// A value of a key.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// The number of the key.
    pub key: u32,
    /// The number of the value.
    pub value: u32,
    /// The operation that sent it, or [`NONE`] for a phantom.
    pub writer: u32,
    /// Whether a poll that succeeded returned it.
    pub is_read: bool,
}

/// A message with its offset, as one operation tells it.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The number of the message.
    pub message: u32,
    /// Its offset, or [`UNKNOWN`].
    pub offset: i64,
}

/// What moves the position of a consumer, beside its polls.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The client process.
    pub process: i64,
    /// The keys that it has from then on.
    pub keys: Vec<u32>,
    /// Whether the system chooses partitions (`:subscribe`), not the client (`:assign`).
    pub is_subscribe: bool,
    /// Whether it begins again at the beginning of each.
    pub seeks: bool,
    /// How it ended: ok or info; a failed one changed nothing.
    pub outcome: OpType,
    complete: u32,
}

/// Completions in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An operation that sends or polls.
    Txn(u32),
    /// A change of assignment.
    Assignment(u32),
}

/// Why a history is not one of a log system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotALog {
    /// The value of an operation is no list of micro-operations.
    #[error(
        "record {index}: the value {value} of :{f} is no list of [:send key value] and [:poll {{key \
         [[offset value] …]}}]"
    )]
    NotMops {
        /// Position of the record.
        index: u64,
        /// Its function.
        f: String,
        /// Its value.
        value: String,
    },
    /// A micro-operation is of another form.
    #[error(
        "record {index}: {mop} is neither [:send key value], [:send key [offset value]], [:poll] nor \
         [:poll {{key [[offset value] …]}}]"
    )]
    UnknownMop {
        /// Position of the record.
        index: u64,
        /// What is there.
        mop: String,
    },
    /// Two operations send the same value.
    #[error(
        "records {first} and {second} both send {value} to {key}; a message can only be followed if each \
         value is sent to a key once"
    )]
    SentTwice {
        /// Position of one record.
        first: u64,
        /// Position of the other.
        second: u64,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// Keys are numbered in 29 bits of a tag.
    #[error("a history may have at most {max} keys")]
    TooManyKeys {
        /// How many.
        max: u32,
    },
}

/// A history as the checks see it.
#[derive(Debug)]
pub struct Log<'h> {
    /// The history that it is from.
    pub history: &'h History,
    /// Operations that send or poll, in order of invocation; `mop_start` counts in `sent`.
    pub txns: Vec<Txn>,
    /// What was sent, by operation.
    pub sent: Vec<Place>,
    /// What was polled, by operation, in order.
    pub polled: Vec<Place>,
    poll_starts: Vec<u32>,
    /// By number.
    pub messages: Vec<Message>,
    /// Changes of assignment.
    pub assignments: Vec<Assignment>,
    /// Keys whose assignment changed while an operation polled.
    pub rebalanced: FxHashMap<u32, Vec<u32>>,
    keys: Vec<Value>,
    values: Vec<Value>,
}

/// Numbers being given out.
#[derive(Default)]
struct Names {
    keys: Numbering,
    values: Numbering,
    by_key_and_value: FxHashMap<u64, u32>,
    messages: Vec<Message>,
}

impl Names {
    fn key(&mut self, key: &Value) -> u32 {
        // JSON has only text for the keys of a map.
        match key {
            Value::Str(text) => match text.parse() {
                Ok(n) => self.keys.number(&Value::Int(n)),
                Err(_) => self.keys.number(key),
            },
            _ => self.keys.number(key),
        }
    }

    fn message(&mut self, key: u32, value: &Value) -> u32 {
        let value = self.values.number(value);
        let next = self.messages.len() as u32;
        let id = u64::from(key) << 32 | u64::from(value);
        let number = *self.by_key_and_value.entry(id).or_insert(next);
        if number == next {
            self.messages.push(Message { key, value, writer: NONE, is_read: false });
        }
        number
    }
}

impl<'h> Log<'h> {
    /// Reads a history. Operations with other functions (`:crash`, `:debug-topic-partitions` …) say
    /// nothing about messages.
    pub fn new(history: &'h History) -> Result<Log<'h>, NotALog> {
        const KEYS_MAX: u32 = 1 << 28;
        let mut log = Log {
            history,
            txns: Vec::with_capacity(history.len() / 2),
            sent: Vec::new(),
            polled: Vec::new(),
            poll_starts: Vec::new(),
            messages: Vec::new(),
            assignments: Vec::new(),
            rebalanced: FxHashMap::default(),
            keys: Vec::new(),
            values: Vec::new(),
        };
        let mut names = Names::default();
        for (position, op) in crate::budget::ops(history).enumerate() {
            if op.op_type == OpType::Invoke && op.is_client() {
                match op.f.as_str() {
                    "send" | "poll" | "txn" => log.read_txn(position, &mut names)?,
                    "assign" | "subscribe" => log.read_assignment(position, &mut names)?,
                    _ => {}
                }
            }
        }
        log.messages = names.messages;
        log.keys = names.keys.into_values();
        log.values = names.values.into_values();
        if log.keys.len() >= KEYS_MAX as usize {
            return Err(NotALog::TooManyKeys { max: KEYS_MAX });
        }
        log.find_writers()?;
        Ok(log)
    }

    fn read_txn(&mut self, position: usize, names: &mut Names) -> Result<(), NotALog> {
        let invocation = &self.history.ops()[position];
        let Some(process) = invocation.process.client() else { return Ok(()) };
        let pair = self.history.pair(position);
        let outcome = pair.map_or(OpType::Info, |pair| self.history.ops()[pair].op_type);
        let number = self.txns.len() as u32;
        let sent_before = self.sent.len();
        self.txns.push(Txn {
            invoke: position as u32,
            complete: pair.map_or(NONE, |pair| pair as u32),
            process,
            outcome,
            mop_start: sent_before as u32,
        });
        self.poll_starts.push(self.polled.len() as u32);
        if let Some(pair) = pair {
            let done = &self.history.ops()[pair];
            // A completion without a value (a time-out, say) tells nothing; the invocation then does.
            if outcome == OpType::Ok || done.value.items().is_some() {
                self.read_mops(done, names)?;
            }
            if let Some(rebalances) = done.extra("rebalance-log").and_then(Value::items) {
                let lists = rebalances.iter().filter_map(|event| event.get("keys")?.items());
                let keys: Vec<u32> = lists.flatten().map(|key| names.key(key)).collect();
                if !keys.is_empty() {
                    self.rebalanced.insert(number, keys);
                }
            }
        }
        if outcome != OpType::Ok {
            let told: Vec<u32> =
                self.sent[sent_before..].iter().map(|place| place.message).collect();
            let (begin, polled) = (self.sent.len(), self.polled.len());
            self.read_mops(invocation, names)?;
            self.polled.truncate(polled);
            let wanted = self.sent.split_off(begin);
            self.sent.extend(wanted.into_iter().filter(|place| !told.contains(&place.message)));
        }
        Ok(())
    }

    /// The micro-operations of a record.
    fn read_mops(&mut self, op: &Op, names: &mut Names) -> Result<(), NotALog> {
        let items = match (&op.value, op.op_type) {
            (Value::List(items) | Value::Tuple(items), _) => items.as_slice(),
            (Value::Nil, OpType::Info | OpType::Fail) => return Ok(()),
            _ => {
                return Err(NotALog::NotMops {
                    index: op.index,
                    f: op.f.to_string(),
                    value: shown(&op.value),
                });
            }
        };
        // A single micro-operation may stand without its list.
        if items.first().is_some_and(|first| first.as_text().is_some()) {
            return self.read_mop(op, &op.value, names);
        }
        items.iter().try_for_each(|item| self.read_mop(op, item, names))
    }

    fn read_mop(&mut self, op: &Op, mop: &Value, names: &mut Names) -> Result<(), NotALog> {
        let unknown = || NotALog::UnknownMop { index: op.index, mop: shown(mop) };
        let parts = match mop {
            Value::List(parts) | Value::Tuple(parts) => parts.as_slice(),
            _ => return Err(unknown()),
        };
        match (parts.first().and_then(Value::as_text), parts) {
            (Some("send"), [_, key, value]) => {
                let key = names.key(key);
                let (offset, value) = match value {
                    Value::List(_) | Value::Tuple(_) => place(value).ok_or_else(unknown)?,
                    value => (UNKNOWN, value),
                };
                let message = names.message(key, value);
                self.sent.push(Place { message, offset });
                Ok(())
            }
            (Some("poll"), [_] | [_, Value::Nil]) => Ok(()),
            (Some("poll"), [_, Value::Map(keys)]) => {
                for (key, places) in keys.iter() {
                    let key = names.key(key);
                    for pair in places.items().ok_or_else(unknown)? {
                        let (offset, value) = place(pair).ok_or_else(unknown)?;
                        let message = names.message(key, value);
                        names.messages[message as usize].is_read |= op.op_type == OpType::Ok;
                        self.polled.push(Place { message, offset });
                    }
                }
                Ok(())
            }
            _ => Err(unknown()),
        }
    }

    fn read_assignment(&mut self, position: usize, names: &mut Names) -> Result<(), NotALog> {
        let Some(pair) = self.history.pair(position) else { return Ok(()) };
        let (invocation, done) = (&self.history.ops()[position], &self.history.ops()[pair]);
        let Some(process) = done.process.client() else { return Ok(()) };
        if done.op_type == OpType::Fail {
            return Ok(());
        }
        let value = if done.value.is_nil() { &invocation.value } else { &done.value };
        let Some(keys) = value.items() else {
            return Err(NotALog::NotMops {
                index: done.index,
                f: done.f.to_string(),
                value: shown(value),
            });
        };
        let seeks = |op: &Op| {
            let names = ["seek-to-beginning?", "seek-to-beginning"];
            names.iter().any(|name| op.extra(name) == Some(&Value::Bool(true)))
        };
        self.assignments.push(Assignment {
            process,
            keys: keys.iter().map(|key| names.key(key)).collect(),
            is_subscribe: done.f.as_str() == "subscribe",
            seeks: seeks(invocation) || seeks(done),
            outcome: done.op_type,
            complete: pair as u32,
        });
        Ok(())
    }

    /// Notes who sent each message. A send that failed gives way to one that may have happened: a client
    /// may try again.
    fn find_writers(&mut self) -> Result<(), NotALog> {
        for txn in 0..self.txns.len() as u32 {
            for i in self.sent_range(txn) {
                let number = self.sent[i].message as usize;
                let before = self.messages[number].writer;
                let is_failed = |txn: u32| self.txns[txn as usize].outcome == OpType::Fail;
                if before == NONE || is_failed(before) {
                    self.messages[number].writer = txn;
                } else if !is_failed(txn) {
                    let message = self.messages[number];
                    return Err(NotALog::SentTwice {
                        first: self.record(before),
                        second: self.record(txn),
                        key: self.key(message.key).to_string(),
                        value: shown(&self.values[message.value as usize]),
                    });
                }
            }
        }
        Ok(())
    }

    /// Completions of operations and of changes of assignment, in order.
    pub fn steps(&self) -> Vec<Step> {
        // Numbers were given in the order of invocations; completions are in another one.
        let txns = (0..).zip(&self.txns).map(|(i, txn)| (txn.complete, Step::Txn(i)));
        let assignments = (0..).zip(&self.assignments);
        let assignments = assignments.map(|(i, change)| (change.complete, Step::Assignment(i)));
        let mut steps: Vec<(u32, Step)> =
            txns.filter(|(complete, _)| *complete != NONE).chain(assignments).collect();
        steps.sort_unstable_by_key(|(complete, _)| *complete);
        steps.into_iter().map(|(_, step)| step).collect()
    }

    fn sent_range(&self, txn: u32) -> std::ops::Range<usize> {
        let next = self.txns.get(txn as usize + 1);
        let end = next.map_or(self.sent.len(), |next| next.mop_start as usize);
        self.txns[txn as usize].mop_start as usize..end
    }

    /// What an operation sent.
    pub fn sent_by(&self, txn: u32) -> &[Place] {
        &self.sent[self.sent_range(txn)]
    }

    /// What an operation polled.
    pub fn polled_by(&self, txn: u32) -> &[Place] {
        let end = self.poll_starts.get(txn as usize + 1).map_or(self.polled.len(), |n| *n as usize);
        &self.polled[self.poll_starts[txn as usize] as usize..end]
    }

    /// How many keys.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The key of a number.
    pub fn key(&self, key: u32) -> &Value {
        &self.keys[key as usize]
    }

    /// The key of a message.
    pub fn key_of(&self, message: u32) -> u32 {
        self.messages[message as usize].key
    }

    /// The value of a message, as text.
    pub fn value(&self, message: u32) -> String {
        shown(&self.values[self.messages[message as usize].value as usize])
    }

    /// How an operation ended.
    pub fn outcome(&self, txn: u32) -> OpType {
        self.txns[txn as usize].outcome
    }

    /// The position of the record that tells most of an operation: its completion, if it has one.
    pub fn record(&self, txn: u32) -> u64 {
        self.txns[txn as usize].record()
    }

    /// Positions of both records of some operations.
    pub fn records(&self, txns: &[u32]) -> Vec<u64> {
        records(&self.txns, txns)
    }
}

/// `[offset value]`; the offset may be nil.
fn place(pair: &Value) -> Option<(i64, &Value)> {
    match pair {
        Value::List(parts) | Value::Tuple(parts) => match parts.as_slice() {
            [Value::Int(offset), value] if *offset >= 0 => Some((*offset, value)),
            [Value::Nil, value] => Some((UNKNOWN, value)),
            _ => None,
        },
        _ => None,
    }
}
