//! Which write each read saw, and what is wrong with reads by themselves.
//!
//! Each value is written to a key once, so a read names its write. What no level allows, whatever the order
//! of transactions (the read-level axioms of Biswas and Enea, OOPSLA 2019, section 2):
//! - `thin-air-read`: nobody ever wrote the value;
//! - `G1a`: its write certainly failed;
//! - `G1b`: its transaction then wrote something else to the key, so this state was never committed;
//! - `future-read`: the transaction itself wrote it, but only later;
//! - `internal`: the transaction had written something else to the key before.
//!
//! A value that two transactions wrote to a key (or that is also the initial one) names no write. Reads of it
//! are left out: what is found without them holds, but a pass is not a proof, so it becomes `unknown`.

use std::hash::{Hash, Hasher};

use fuzz_dist_core::{Anomaly, OpType, Value};
use rustc_hash::{FxHashSet, FxHasher};

use crate::budget::{Exhausted, Meter};
use crate::causal::txns::{INITIAL, NONE, OWN, Txns, UNRESOLVED};
use crate::elle::findings::Findings;
use crate::elle::txns::shown;

/// How many transactions between two looks at the clock.
const TXNS_PER_LOOK: u32 = 1 << 14;

/// Reads whose write is not certain.
#[derive(Debug, Default)]
pub struct Ambiguity {
    /// How many.
    pub count: u64,
    /// The first one, in words.
    pub example: Option<String>,
}

/// What a read means in a kind of register.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What a key holds that nobody wrote.
    pub initial: Value,
    /// Whether a write may leave a greater value of others in place, so that a transaction need not read
    /// what it wrote.
    pub max_wins: bool,
}

/// Finds the source of every read, which transactions happened, and what no level allows.
pub fn resolve(
    txns: &mut Txns,
    rules: &Rules,
    findings: &mut Findings,
    meter: &Meter,
) -> Result<Ambiguity, Exhausted> {
    mark_last_writes(txns);
    let (written, failed) = Written::of(txns, &rules.initial);
    let mut ambiguity = Ambiguity::default();
    let mut own = vec![(NONE, 0u32); txns.key_count()];
    for number in 0..txns.count() {
        if number.is_multiple_of(TXNS_PER_LOOK) {
            meter.check_time()?;
        }
        if txns.list[number as usize].outcome != OpType::Ok {
            continue;
        }
        for at in txns.events_range(number) {
            let event = txns.events[at];
            let own = &mut own[event.key() as usize];
            if event.is_write() {
                *own = (number, at as u32);
                continue;
            }
            let own_write = (own.0 == number).then_some(own.1);
            let reader = Reader { txns, written: &written, failed: &failed, txn: number, at };
            let is_own = |write: &u32| {
                !rules.max_wins || reader.txns.values[*write as usize] == reader.txns.values[at]
            };
            let source = match own_write.filter(is_own) {
                Some(write) => reader.own(write, findings),
                None => reader.others(&rules.initial, findings, &mut ambiguity),
            };
            txns.events[at].source = source;
            if let Some(writer) = txns.events[at].read_from() {
                txns.list[writer as usize].happened = true;
            }
        }
    }
    Ok(ambiguity)
}

/// Marks writes after which their transaction wrote the key again.
fn mark_last_writes(txns: &mut Txns) {
    let mut seen = vec![NONE; txns.key_count()];
    for number in 0..txns.count() {
        for at in txns.events_range(number).rev() {
            let event = &mut txns.events[at];
            if !event.is_write() {
                continue;
            }
            let seen = &mut seen[event.key() as usize];
            event.source = if *seen == number { NONE } else { 0 };
            *seen = number;
        }
    }
}

/// One read of one transaction.
struct Reader<'a, 'h> {
    txns: &'a Txns<'h>,
    written: &'a Written,
    failed: &'a Written,
    txn: u32,
    at: usize,
}

impl Reader<'_, '_> {
    /// A read after the transaction's own write.
    fn own(&self, write: u32, findings: &mut Findings) -> u32 {
        let (expected, value) = (self.txns.values[write as usize], self.txns.values[self.at]);
        if expected == value {
            return OWN;
        }
        findings.add("internal", || {
            let text = format!(
                "record {} read {} after it had itself written {}",
                self.txns.record(self.txn),
                self.what(),
                shown(expected)
            );
            self.anomaly(&[self.txn], text)
        });
        UNRESOLVED
    }

    /// A read of what others wrote.
    fn others(&self, initial: &Value, findings: &mut Findings, ambiguity: &mut Ambiguity) -> u32 {
        let txns = self.txns;
        let Some(write) = self.written.find(txns, self.at) else {
            if txns.values[self.at] == initial {
                return INITIAL;
            }
            self.of_nothing(findings);
            return UNRESOLVED;
        };
        let writer = writer_of(txns, write);
        if self.written.ambiguous.contains(&write) {
            ambiguity.count += 1;
            ambiguity.example.get_or_insert_with(|| {
                format!(
                    "record {} read {}, which more than one transaction wrote, or which is also the \
                     initial value (one write is at record {})",
                    txns.record(self.txn),
                    self.what(),
                    txns.record(writer)
                )
            });
            return UNRESOLVED;
        }
        if writer == self.txn {
            findings.add("future-read", || {
                let text = format!(
                    "record {} read {} and only then wrote that itself",
                    txns.record(self.txn),
                    self.what()
                );
                self.anomaly(&[self.txn], text)
            });
            return UNRESOLVED;
        }
        if !txns.events[write as usize].is_last_write() {
            let what = "which then wrote something else to it: an intermediate state";
            findings.add("G1b", || self.of_writer(writer, what));
        }
        writer
    }

    fn of_nothing(&self, findings: &mut Findings) {
        if let Some(write) = self.failed.find(self.txns, self.at) {
            let writer = writer_of(self.txns, write);
            findings.add("G1a", || self.of_writer(writer, "which failed"));
            return;
        }
        findings.add("thin-air-read", || {
            let text = format!(
                "record {} read {}, which nobody ever wrote",
                self.txns.record(self.txn),
                self.what()
            );
            self.anomaly(&[self.txn], text)
        });
    }

    fn of_writer(&self, writer: u32, what: &str) -> Anomaly {
        let text = format!(
            "record {} read {}, written by record {}, {what}",
            self.txns.record(self.txn),
            self.what(),
            self.txns.record(writer)
        );
        self.anomaly(&[writer, self.txn], text)
    }

    fn what(&self) -> String {
        let key = self.txns.key(self.txns.events[self.at].key());
        let value = shown(self.txns.values[self.at]);
        if key.is_nil() { value } else { format!("{} = {value}", shown(key)) }
    }

    fn anomaly(&self, about: &[u32], text: String) -> Anomaly {
        let key = self.txns.key(self.txns.events[self.at].key());
        Anomaly {
            key: (!key.is_nil()).then(|| key.to_string()),
            text,
            ops: records(self.txns, about),
            ..Anomaly::default()
        }
    }
}

/// Positions of both records of some transactions.
pub fn records(txns: &Txns, about: &[u32]) -> Vec<u64> {
    let both = |txn: &u32| {
        let txn = &txns.list[*txn as usize];
        [txn.invoke, txn.complete]
    };
    let mut positions: Vec<u64> =
        about.iter().flat_map(both).filter(|at| *at != NONE).map(u64::from).collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}

/// The transaction of an event.
fn writer_of(txns: &Txns, event: u32) -> u32 {
    let after = |number: u32| txns.events_range(number).start > event as usize;
    let (mut low, mut high) = (0, txns.count());
    // The last transaction that begins at or before the event. One without events begins where the next
    // does, so the last is the one that has it.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if after(middle) { high = middle } else { low = middle }
    }
    low
}

/// Writes by key and value: an open hash table of event numbers, with a part of the hash beside each.
struct Written {
    slots: Vec<(u32, u32)>,
    /// Writes whose value names no single write of the key.
    ambiguous: FxHashSet<u32>,
}

impl Written {
    /// The writes that may have happened, and those that certainly did not.
    fn of(txns: &Txns, initial: &Value) -> (Written, Written) {
        let writes = |failed: bool| {
            let numbers = (0..txns.count()).filter(move |number| {
                (txns.list[*number as usize].outcome == OpType::Fail) == failed
            });
            numbers.flat_map(move |number| {
                txns.events_range(number)
                    .filter(|at| txns.events[*at].is_write())
                    .map(move |at| (number, at))
            })
        };
        let [mut happened, mut failed] =
            [false, true].map(|failed| Written::with_room(writes(failed).count()));
        let mut initial_writes = Vec::new();
        for (number, at) in writes(false) {
            happened.insert(txns, number, at as u32);
            if txns.values[at] == initial {
                initial_writes.push(at);
            }
        }
        for at in initial_writes {
            let representative = happened.find(txns, at);
            happened.ambiguous.extend(representative);
        }
        for (number, at) in writes(true) {
            failed.insert(txns, number, at as u32);
        }
        (happened, failed)
    }

    fn with_room(count: usize) -> Written {
        let slots = vec![(0, NONE); (count * 2).next_power_of_two().max(2)];
        Written { slots, ambiguous: FxHashSet::default() }
    }

    fn hash(txns: &Txns, event: usize) -> u64 {
        let mut hasher = FxHasher::default();
        txns.events[event].key().hash(&mut hasher);
        match txns.values[event] {
            Value::Int(n) => n.hash(&mut hasher),
            value => value.hash(&mut hasher),
        }
        hasher.finish()
    }

    /// The slot of the key and value of an event: taken by the same, or free.
    fn slot(&self, txns: &Txns, event: usize) -> (usize, u32) {
        let hash = Written::hash(txns, event);
        let (mask, part) = (self.slots.len() - 1, (hash >> 32) as u32);
        let mut slot = hash as usize & mask;
        loop {
            let (other_part, other) = self.slots[slot];
            let is_same = || {
                txns.events[other as usize].key() == txns.events[event].key()
                    && txns.values[other as usize] == txns.values[event]
            };
            if other == NONE || (other_part == part && is_same()) {
                return (slot, part);
            }
            slot = (slot + 1) & mask;
        }
    }

    fn insert(&mut self, txns: &Txns, number: u32, event: u32) {
        let (slot, part) = self.slot(txns, event as usize);
        let other = self.slots[slot].1;
        if other == NONE {
            self.slots[slot] = (part, event);
        } else if txns.events_range(number).contains(&(other as usize)) {
            // The same transaction again: its last write of the key is the one to be read.
            self.slots[slot] = (part, event);
            if self.ambiguous.remove(&other) {
                self.ambiguous.insert(event);
            }
        } else {
            self.ambiguous.insert(other);
        }
    }

    fn find(&self, txns: &Txns, event: usize) -> Option<u32> {
        let (slot, _) = self.slot(txns, event);
        let found = self.slots[slot].1;
        (found != NONE).then_some(found)
    }
}
