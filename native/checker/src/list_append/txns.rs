//! Transactions of appends and reads, and what can be inferred of them without looking for cycles.
//!
//! An element is appended to a key at most once, so a read of a list tells which appends preceded it and
//! in which order. The version order of a key is its longest read; an append that succeeded and is in
//! no read comes after it.

use std::collections::HashMap;

use fuzz_dist_core::{Anomaly, History, Op, OpType, Value};
use rustc_hash::FxBuildHasher;

use crate::numbering::Numbering;

/// A part of a transaction.
#[derive(Debug, Clone, Copy)]
pub enum MicroOp<'a> {
    /// Appends an element to a key.
    Append {
        /// Number of the key.
        key: u32,
        /// The element.
        element: &'a Value,
    },
    /// Reads the list of a key; `None` when what it read is not known.
    Read {
        /// Number of the key.
        key: u32,
        /// The list.
        list: Option<&'a [Value]>,
    },
}

/// A transaction that did not certainly fail.
#[derive(Debug)]
pub struct Txn<'a> {
    /// Its record: the completion, or the invocation if there is none.
    pub op: &'a Op,
    /// Position of the invocation.
    pub invoke: u64,
    /// Position of the completion if it succeeded.
    pub ok: Option<u64>,
    /// Its parts.
    pub micro_ops: Vec<MicroOp<'a>>,
}

/// Who appended an element.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    /// Index of the transaction; [`ABORTED`] if it certainly failed.
    pub txn: u32,
    /// Number of the key.
    pub key: u32,
    /// Whether the same transaction appended to the key again.
    pub intermediate: bool,
    /// Record of the transaction.
    pub record: u64,
}

/// The transaction of an element whose append failed.
pub const ABORTED: u32 = u32::MAX;
/// The writer of an element that nobody appended.
pub const NOBODY: u32 = u32::MAX;

type ElementMap<'a, T> = HashMap<(u32, &'a Value), T, FxBuildHasher>;

/// All transactions of a history.
#[derive(Debug, Default)]
pub struct Txns<'a> {
    /// Those that did not fail.
    pub txns: Vec<Txn<'a>>,
    /// Who appended each element.
    pub writers: Vec<Writer>,
    /// Number of the writer of an element of a key.
    numbers: ElementMap<'a, u32>,
    /// The longest read of each key.
    pub longest: Vec<&'a [Value]>,
    /// The numbers of the writers of its elements, [`NOBODY`] for those that nobody appended.
    pub orders: Vec<Vec<u32>>,
    /// Whether an element is in it twice.
    pub has_duplicates: Vec<bool>,
    /// By number of the writer, whether its element is in a longest read.
    pub is_shown: Vec<bool>,
    /// Index of the transaction of the longest read.
    pub longest_by: Vec<u32>,
    /// The keys.
    pub keys: Vec<Value>,
}

const SHAPE: &str = "a list of [:append key element] and [:r key list]";

impl<'a> Txns<'a> {
    /// Reads the transactions; says which record is none.
    pub fn new(history: &'a History) -> Result<Txns<'a>, String> {
        let mut all = Txns::default();
        let mut keys = Numbering::default();
        for (invoke, completion) in history.client_pairs() {
            let outcome = completion.map_or(OpType::Info, |c| c.op_type);
            let known = completion.filter(|c| outcome == OpType::Ok || c.value.items().is_some());
            let op = known.unwrap_or(invoke);
            let micro_ops = micro_ops(op, outcome == OpType::Ok, &mut keys)?;
            let txn = if outcome == OpType::Fail { ABORTED } else { all.txns.len() as u32 };
            let record = completion.unwrap_or(invoke).index;
            all.add_writers(&micro_ops, txn, record)?;
            if txn != ABORTED {
                let ok = completion.filter(|_| outcome == OpType::Ok).map(|c| c.index);
                let op = completion.unwrap_or(invoke);
                all.txns.push(Txn { op, invoke: invoke.index, ok, micro_ops });
            }
        }
        all.keys = keys.into_values();
        all.find_longest();
        all.find_orders();
        Ok(all)
    }

    fn add_writers(
        &mut self,
        micro_ops: &[MicroOp<'a>],
        txn: u32,
        record: u64,
    ) -> Result<(), String> {
        for (place, micro_op) in micro_ops.iter().enumerate() {
            let MicroOp::Append { key, element } = *micro_op else { continue };
            let again =
                |other: &MicroOp| matches!(other, MicroOp::Append { key: k, .. } if *k == key);
            let intermediate = micro_ops[place + 1..].iter().any(again);
            let number = self.writers.len() as u32;
            self.writers.push(Writer { txn, key, intermediate, record });
            if let Some(before) = self.numbers.insert((key, element), number) {
                let before = self.writers[before as usize];
                return Err(format!(
                    "record {record}: {element} is appended to the same key at record {} too; without \
                     unique elements nothing can be inferred",
                    before.record
                ));
            }
        }
        Ok(())
    }

    fn find_longest(&mut self) {
        self.longest = vec![&[]; self.keys.len()];
        self.longest_by = vec![ABORTED; self.keys.len()];
        for (t, txn) in self.txns.iter().enumerate().filter(|(_, txn)| txn.ok.is_some()) {
            for micro_op in &txn.micro_ops {
                let MicroOp::Read { key, list: Some(list) } = *micro_op else { continue };
                if list.len() > self.longest[key as usize].len() {
                    self.longest[key as usize] = list;
                    self.longest_by[key as usize] = t as u32;
                }
            }
        }
    }

    /// Looks up the writers of the longest reads, once.
    fn find_orders(&mut self) {
        self.is_shown = vec![false; self.writers.len()];
        self.has_duplicates = vec![false; self.keys.len()];
        for (key, longest) in self.longest.iter().enumerate() {
            let mut order = Vec::with_capacity(longest.len());
            for (place, element) in longest.iter().enumerate() {
                let number = self.numbers.get(&(key as u32, element)).copied().unwrap_or(NOBODY);
                order.push(number);
                let again = match self.is_shown.get_mut(number as usize) {
                    Some(shown) => std::mem::replace(shown, true),
                    None => longest[..place].contains(element),
                };
                self.has_duplicates[key] |= again;
            }
            self.orders.push(order);
        }
    }

    /// Whether the list is a beginning of the longest read of the key.
    pub fn is_prefix(&self, key: u32, list: &[Value]) -> bool {
        self.longest[key as usize].starts_with(list)
    }

    /// Who appended the element at a place of a list; `is_prefix` says that the list is one.
    pub fn writer(
        &self,
        key: u32,
        list: &[Value],
        place: usize,
        is_prefix: bool,
    ) -> Option<&Writer> {
        let number = match is_prefix {
            true => self.orders[key as usize][place],
            false => *self.numbers.get(&(key, list.get(place)?))?,
        };
        self.writers.get(number as usize)
    }

    /// Anomalies that single reads and transactions show.
    pub fn anomalies(&self) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for (t, txn) in self.txns.iter().enumerate().filter(|(_, txn)| txn.ok.is_some()) {
            self.internal(txn, &mut found);
            for micro_op in &txn.micro_ops {
                if let MicroOp::Read { key, list: Some(list) } = *micro_op {
                    self.read(t as u32, txn, key, list, &mut found);
                }
            }
        }
        self.dirty_updates(&mut found);
        self.lost_updates(&mut found);
        found
    }

    fn key(&self, key: u32) -> &Value {
        &self.keys[key as usize]
    }

    fn anomaly(&self, name: &str, key: u32, text: String, ops: Vec<u64>) -> Anomaly {
        Anomaly { name: name.into(), key: Some(self.key(key).to_string()), text, ops }
    }

    /// One read against what is known of its elements.
    fn read(&self, t: u32, txn: &Txn, key: u32, list: &[Value], found: &mut Vec<Anomaly>) {
        let record = txn.op.index;
        let longest = self.longest[key as usize];
        // Reads that are a part of the longest one repeat what it shows.
        let is_prefix = self.is_prefix(key, list);
        let by = self.longest_by[key as usize];
        if !is_prefix && by != ABORTED && by != t {
            let other = self.txns[by as usize].op.index;
            let text = format!(
                "record {record} read key {} as {}, record {other} as {}: neither is the beginning of \
                 the other",
                self.key(key),
                show(list),
                show(longest)
            );
            found.push(self.anomaly("incompatible-order", key, text, vec![record, other]));
        }
        if !is_prefix || by == t {
            self.elements(txn, key, list, is_prefix, found);
        }
        if let Some(last) = list.last()
            && let Some(writer) = self.writer(key, list, list.len() - 1, is_prefix)
            && writer.intermediate
            && writer.txn != t
            && writer.txn != ABORTED
        {
            let text = format!(
                "record {record} read key {} up to {last}, which record {} appended before it appended \
                 more to the same key: an intermediate state",
                self.key(key),
                writer.record
            );
            found.push(self.anomaly("G1b", key, text, vec![record, writer.record]));
        }
    }

    fn elements(
        &self,
        txn: &Txn,
        key: u32,
        list: &[Value],
        is_prefix: bool,
        found: &mut Vec<Anomaly>,
    ) {
        let record = txn.op.index;
        let mut seen: std::collections::HashSet<&Value, FxBuildHasher> = Default::default();
        let may_repeat = !is_prefix || self.has_duplicates[key as usize];
        for element in list.iter().filter(|_| may_repeat) {
            if !seen.insert(element) {
                let text = format!(
                    "record {record} read key {} as {}: {element} is there twice",
                    self.key(key),
                    show(list)
                );
                found.push(self.anomaly("duplicate-elements", key, text, vec![record]));
                break;
            }
        }
        for (place, element) in list.iter().enumerate() {
            match self.writer(key, list, place, is_prefix) {
                Some(writer) if writer.txn == ABORTED => {
                    let text = format!(
                        "record {record} read {element} in key {}, whose append (record {}) failed",
                        self.key(key),
                        writer.record
                    );
                    found.push(self.anomaly("G1a", key, text, vec![record, writer.record]));
                }
                Some(_) => {}
                None => {
                    let text = format!(
                        "record {record} read {element} in key {}, which nobody ever appended",
                        self.key(key)
                    );
                    found.push(self.anomaly("garbage-read", key, text, vec![record]));
                }
            }
        }
    }

    /// A transaction against itself: what it reads must be what it read before and appended since.
    fn internal(&self, txn: &Txn, found: &mut Vec<Anomaly>) {
        if txn.micro_ops.len() < 2 {
            return;
        }
        let record = txn.op.index;
        let key_of = |m: &MicroOp| match m {
            MicroOp::Append { key, .. } | MicroOp::Read { key, .. } => *key,
        };
        for (place, micro_op) in txn.micro_ops.iter().enumerate() {
            let MicroOp::Read { key, list: Some(list) } = *micro_op else { continue };
            let earlier = || txn.micro_ops[..place].iter().filter(|m| key_of(m) == key);
            let mut known: Option<Vec<Value>> = None;
            let mut own: Vec<Value> = Vec::new();
            for m in earlier() {
                match *m {
                    MicroOp::Read { list: Some(list), .. } => {
                        known = Some(list.to_vec());
                        own.clear();
                    }
                    MicroOp::Append { element, .. } => own.push(element.clone()),
                    MicroOp::Read { .. } => {}
                }
            }
            let fits = match &known {
                Some(before) => {
                    list.len() == before.len() + own.len()
                        && list.starts_with(before)
                        && list.ends_with(&own)
                }
                None => list.ends_with(&own),
            };
            if !fits {
                let text = format!(
                    "record {record} read key {} as {}, which is not what it had read and appended itself",
                    self.key(key),
                    show(list)
                );
                found.push(self.anomaly("internal", key, text, vec![record]));
            }
            let future = txn.micro_ops[place + 1..].iter().find_map(|m| match m {
                MicroOp::Append { key: k, element } if *k == key && list.contains(element) => {
                    Some(*element)
                }
                _ => None,
            });
            if let Some(element) = future {
                let text = format!(
                    "record {record} read {element} in key {} before it appended it itself",
                    self.key(key)
                );
                found.push(self.anomaly("future-read", key, text, vec![record]));
            }
        }
    }

    /// Committed appends on top of failed ones.
    fn dirty_updates(&self, found: &mut Vec<Anomaly>) {
        for (key, longest) in self.longest.iter().enumerate() {
            let key = key as u32;
            let mut aborted: Option<(&Value, Writer)> = None;
            for (place, element) in longest.iter().enumerate() {
                let Some(writer) = self.writer(key, longest, place, true) else { continue };
                if writer.txn == ABORTED {
                    aborted.get_or_insert((element, *writer));
                } else if let Some((failed, by)) = aborted
                    && self.txns[writer.txn as usize].ok.is_some()
                {
                    let text = format!(
                        "record {} appended {element} to key {} on top of {failed}, whose append (record \
                         {}) failed",
                        writer.record,
                        self.key(key),
                        by.record
                    );
                    let ops = vec![writer.record, by.record];
                    found.push(self.anomaly("dirty-update", key, text, ops));
                    break;
                }
            }
        }
    }

    /// Transactions that read the same state of a key and both appended to it.
    fn lost_updates(&self, found: &mut Vec<Anomaly>) {
        let mut updates: HashMap<(u32, usize), u32, FxBuildHasher> = HashMap::default();
        for (t, txn) in self.txns.iter().enumerate().filter(|(_, txn)| txn.ok.is_some()) {
            for (key, list) in external_reads(txn) {
                let appends =
                    |m: &MicroOp| matches!(m, MicroOp::Append { key: k, .. } if *k == key);
                if !txn.micro_ops.iter().any(appends) {
                    continue;
                }
                if !self.is_prefix(key, list) {
                    continue;
                }
                let before = updates.entry((key, list.len())).or_insert(t as u32);
                if *before != t as u32 {
                    let (a, b) = (self.txns[*before as usize].op.index, txn.op.index);
                    let text = format!(
                        "records {a} and {b} both read key {} as {} and appended to it: one update is lost",
                        self.key(key),
                        show(list)
                    );
                    found.push(self.anomaly("lost-update", key, text, vec![a, b]));
                }
            }
        }
    }
}

/// Reads of what other transactions left: the first of each key, if before the transaction's own
/// appends to it.
pub fn external_reads<'t, 'a>(
    txn: &'t Txn<'a>,
) -> impl Iterator<Item = (u32, &'a [Value])> + use<'t, 'a> {
    txn.micro_ops.iter().enumerate().filter_map(|(place, micro_op)| {
        let MicroOp::Read { key, list: Some(list) } = *micro_op else { return None };
        let touches = |m: &MicroOp| match m {
            MicroOp::Append { key: k, .. } => *k == key,
            MicroOp::Read { key: k, list } => *k == key && list.is_some(),
        };
        (!txn.micro_ops[..place].iter().any(touches)).then_some((key, list))
    })
}

/// A list as text, its beginning cut off when long.
pub fn show(list: &[Value]) -> String {
    const SHOWN: usize = 8;
    let tail = &list[list.len().saturating_sub(SHOWN)..];
    let text: Vec<String> = tail.iter().map(Value::to_string).collect();
    match list.len() > SHOWN {
        true => format!("[... {}]", text.join(" ")),
        false => format!("[{}]", text.join(" ")),
    }
}

fn micro_ops<'a>(
    op: &'a Op,
    is_ok: bool,
    keys: &mut Numbering,
) -> Result<Vec<MicroOp<'a>>, String> {
    let wrong = || format!("record {}: {} is not {SHAPE}", op.index, op.value);
    let mut found = Vec::new();
    let items = match &op.value {
        Value::Nil if !is_ok => return Ok(found),
        value => value.items().ok_or_else(wrong)?,
    };
    for item in items {
        let parts = item.items().ok_or_else(wrong)?;
        let (f, key, value) = match parts {
            [f, key] => (f, key, &Value::Nil),
            [f, key, value] => (f, key, value),
            _ => return Err(wrong()),
        };
        let key = keys.number(key);
        found.push(match (f.as_text(), value) {
            (Some("append"), element) => MicroOp::Append { key, element },
            (Some("r"), _) if !is_ok => MicroOp::Read { key, list: None },
            (Some("r"), Value::Nil) => MicroOp::Read { key, list: Some(&[]) },
            (Some("r"), list) => MicroOp::Read { key, list: Some(list.items().ok_or_else(wrong)?) },
            _ => return Err(wrong()),
        });
    }
    Ok(found)
}
