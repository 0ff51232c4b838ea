//! Transactions on registers in flat arrays: who wrote what, which write each read saw, and sessions.
//!
//! A client process is a session. A transaction that succeeded happened; one that ended with info (or
//! never ended) happened if something that succeeded read one of its writes, and is left out otherwise:
//! its presence could only add conditions; what it says it read is not believed. A failed one never
//! happened, and is kept to recognise its writes. If a process went on after an info, that transaction
//! takes effect at any later time, so it comes after what the process did before, but before nothing.
//!
//! Memory is linear: twelve bytes and a pointer for each read or write, and no map but the one from values
//! to their writes, which is dropped when the reads are resolved ([`crate::causal::reads`]).

use fuzz_dist_core::{History, OpType, Value};
use rustc_hash::FxHashMap;

use crate::causal::shapes::{NotRegisters, Shapes};
use crate::numbering::Numbering;

/// No such transaction, record or pair.
pub const NONE: u32 = u32::MAX;
/// The source of a read of the initial state.
pub const INITIAL: u32 = u32::MAX - 1;
/// The source of a read of the transaction's own write.
pub const OWN: u32 = u32::MAX - 2;
/// The source of a read that could be one of several writes, or none.
pub const UNRESOLVED: u32 = u32::MAX - 3;
/// Numbers from here on are no transactions.
pub const TXNS_MAX: u32 = u32::MAX - 3;

/// One transaction. Its number is its place in the order of invocations.
#[derive(Debug, Clone, Copy)]
pub struct Txn {
    /// Position of the invocation.
    pub invoke: u32,
    /// Position of the completion, or [`NONE`].
    pub complete: u32,
    /// How it ended: ok, fail, or info (also when it did not end).
    pub outcome: OpType,
    /// Its chain: transactions each before the next in session order.
    pub chain: u32,
    /// Its place in the chain, from 0.
    pub place: u32,
    /// The last transaction before it in its session, or [`NONE`].
    pub before: u32,
    /// Whether it happened, as far as anybody could see.
    pub happened: bool,
    event_start: u32,
}

/// One read or write.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    tag: u32,
    /// Of a read: the transaction it read from, or [`INITIAL`], [`OWN`], [`UNRESOLVED`]. Of a write that is
    /// the last of its key in the transaction: free for whoever checks; of another write [`NONE`].
    pub source: u32,
}

impl Event {
    /// The number of the key.
    pub fn key(&self) -> u32 {
        self.tag >> 1
    }

    /// Whether it writes.
    pub fn is_write(&self) -> bool {
        self.tag & 1 == 1
    }

    /// Whether it is the write of its transaction that others may read.
    pub fn is_last_write(&self) -> bool {
        self.is_write() && self.source != NONE
    }

    /// The transaction that a read took from another one.
    pub fn read_from(&self) -> Option<u32> {
        (!self.is_write() && self.source < TXNS_MAX).then_some(self.source)
    }
}

/// All transactions of a history.
#[derive(Debug)]
pub struct Txns<'h> {
    /// The history that they are from.
    pub history: &'h History,
    /// By number.
    pub list: Vec<Txn>,
    /// By transaction, in the order in which they were performed.
    pub events: Vec<Event>,
    /// By event: what was read or written.
    pub values: Vec<&'h Value>,
    keys: Vec<Value>,
    chain_start: Vec<u32>,
    chain_txns: Vec<u32>,
}

impl<'h> Txns<'h> {
    /// Reads the transactions of a history; sources and chains are not known yet.
    pub fn new(history: &'h History) -> Result<Txns<'h>, NotRegisters> {
        let mut list = Vec::with_capacity(history.len() / 2 + 1);
        let (mut events, mut values) = (Vec::new(), Vec::new());
        let mut keys = Numbering::default();
        let mut shapes = Shapes::default();
        for (position, invocation) in crate::budget::ops(history).enumerate() {
            if !invocation.is_client() || invocation.op_type != OpType::Invoke {
                continue;
            }
            let pair = history.pair(position);
            let outcome = pair.map_or(OpType::Info, |pair| history.ops()[pair].op_type);
            list.push(Txn {
                invoke: position as u32,
                complete: pair.map_or(NONE, |pair| pair as u32),
                outcome,
                chain: NONE,
                place: 0,
                before: NONE,
                happened: outcome == OpType::Ok,
                event_start: events.len() as u32,
            });
            // A completion without a value (a time-out, say) says nothing; the invocation then does.
            let op = match pair.map(|pair| &history.ops()[pair]) {
                Some(done) if outcome == OpType::Ok => done,
                Some(done) if done.value.items().is_some() => done,
                _ => invocation,
            };
            shapes.read(op, outcome, &mut |is_write, key, value| {
                if is_write || outcome == OpType::Ok {
                    let tag = keys.number(key) << 1 | u32::from(is_write);
                    events.push(Event { tag, source: if is_write { 0 } else { UNRESOLVED } });
                    values.push(value);
                }
            })?;
        }
        // Tags have one bit less for keys, and numbers of events are doubled by nobody.
        const EVENTS_MAX: usize = 1 << 31;
        if events.len() >= EVENTS_MAX {
            return Err(NotRegisters::TooMany { max: EVENTS_MAX });
        }
        let keys = keys.into_values();
        let (chain_start, chain_txns) = (Vec::new(), Vec::new());
        Ok(Txns { history, list, events, values, keys, chain_start, chain_txns })
    }

    /// How many transactions, whether they happened or not.
    pub fn count(&self) -> u32 {
        self.list.len() as u32
    }

    /// How many keys.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The key of a number.
    pub fn key(&self, key: u32) -> &Value {
        &self.keys[key as usize]
    }

    /// The numbers of the events of a transaction.
    pub fn events_range(&self, txn: u32) -> std::ops::Range<usize> {
        let next = self.list.get(txn as usize + 1);
        let end = next.map_or(self.events.len(), |next| next.event_start as usize);
        self.list[txn as usize].event_start as usize..end
    }

    /// What a transaction read and wrote, in order.
    pub fn events_of(&self, txn: u32) -> &[Event] {
        &self.events[self.events_range(txn)]
    }

    /// The keys of the writes of a transaction that others may read.
    pub fn keys_written(&self, txn: u32) -> impl Iterator<Item = u32> + '_ {
        self.events_of(txn).iter().filter(|event| event.is_last_write()).map(Event::key)
    }

    /// How many chains.
    pub fn chain_count(&self) -> usize {
        self.chain_start.len().saturating_sub(1)
    }

    /// The transactions of a chain, in order.
    pub fn chain(&self, chain: u32) -> &[u32] {
        let range = self.chain_start[chain as usize]..self.chain_start[chain as usize + 1];
        &self.chain_txns[range.start as usize..range.end as usize]
    }

    /// The position of the record that tells most of a transaction: its completion, if it has one.
    pub fn record(&self, txn: u32) -> u64 {
        let txn = &self.list[txn as usize];
        u64::from(if txn.complete == NONE { txn.invoke } else { txn.complete })
    }

    /// The process of a transaction, as text.
    pub fn process(&self, txn: u32) -> String {
        self.history.ops()[self.list[txn as usize].invoke as usize].process.to_string()
    }

    /// Gives every transaction that happened its chain. Sources must be known.
    pub fn arrange(&mut self) {
        let process = |txn: &Txn| {
            self.history.ops()[txn.invoke as usize].process.client().unwrap_or_default()
        };
        // By process: its chain, its last transaction so far that succeeded, and its very last one. Nothing
        // comes after one without an answer, not even another such one.
        let mut sessions: FxHashMap<i64, (u32, u32, u32)> = FxHashMap::default();
        for (number, txn) in (0..).zip(&self.list) {
            if txn.happened {
                sessions.entry(process(txn)).or_insert((NONE, NONE, number)).2 = number;
            }
        }
        let mut lengths: Vec<u32> = Vec::new();
        for number in 0..self.count() {
            let txn = &self.list[number as usize];
            if !txn.happened {
                continue;
            }
            let session = sessions.entry(process(txn)).or_insert((NONE, NONE, number));
            let goes_on = txn.outcome != OpType::Ok && session.2 > number;
            let before = session.1;
            let mut chain = session.0;
            if goes_on || chain == NONE {
                chain = lengths.len() as u32;
                lengths.push(0);
            }
            if !goes_on {
                (session.0, session.1) = (chain, number);
            }
            let txn = &mut self.list[number as usize];
            (txn.chain, txn.before, txn.place) = (chain, before, lengths[chain as usize]);
            lengths[chain as usize] += 1;
        }
        let mut start = Vec::with_capacity(lengths.len() + 1);
        start.push(0);
        for length in &lengths {
            start.push(start[start.len() - 1] + length);
        }
        let mut members = vec![0; start[start.len() - 1] as usize];
        for (number, txn) in (0..).zip(&self.list) {
            if txn.happened {
                members[(start[txn.chain as usize] + txn.place) as usize] = number;
            }
        }
        (self.chain_start, self.chain_txns) = (start, members);
    }
}
