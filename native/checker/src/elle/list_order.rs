//! The order of the versions of one list, as its reads show it.
//!
//! Every read of an append-only list shows all versions before it. So the longest read gives the order of
//! the appends that anyone saw, every other read must be a prefix of it, and an append that nobody saw came
//! later.

use fuzz_dist_core::{OpType, Value};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::elle::graph::NONE;
use crate::elle::txns::{Mop, NotTxns, Txns};

/// Integers below this are looked up in a table.
const SMALL_MAX: i64 = 1 << 20;

/// Finds the append of a value. Kept from key to key, so that its memory is.
#[derive(Debug, Default)]
pub struct Lookup {
    small: Vec<(u32, u32)>,
    stamp: u32,
    other: FxHashMap<Value, u32>,
}

impl Lookup {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.stamp += 1;
        self.other.clear();
    }

    /// Sets the number of a value.
    pub fn set(&mut self, value: &Value, number: u32) {
        if let Value::Int(n @ 0..SMALL_MAX) = *value {
            let n = n as usize;
            if n >= self.small.len() {
                self.small.resize((n + 1).next_power_of_two(), (0, 0));
            }
            self.small[n] = (self.stamp, number);
        } else {
            self.other.insert(value.clone(), number);
        }
    }

    /// The number of a value, if it has one.
    #[inline]
    pub fn get(&self, value: &Value) -> Option<u32> {
        if let Value::Int(n @ 0..SMALL_MAX) = *value {
            let (stamp, number) = *self.small.get(n as usize)?;
            return (stamp == self.stamp).then_some(number);
        }
        self.other.get(value).copied()
    }
}

/// An append of the key.
#[derive(Debug, Clone, Copy)]
pub struct Append {
    /// The number of its micro-operation.
    pub mop: u32,
    /// Its transaction.
    pub txn: u32,
    /// How that ended.
    pub outcome: OpType,
    /// Whether its transaction appends to the key again.
    pub intermediate: bool,
    /// Its place in the order, from 1; 0 if nobody saw it.
    pub version: u32,
}

/// A read that succeeded.
#[derive(Debug, Clone, Copy)]
pub struct Read<'h> {
    /// The number of its micro-operation.
    pub mop: u32,
    /// Its transaction.
    pub txn: u32,
    /// What it returned.
    pub list: &'h [Value],
    /// Whether it agrees with the longest read.
    pub compatible: bool,
    /// The version that it saw: the place of its last element, 0 for the empty list, or [`NONE`] if that
    /// element has no place.
    pub version: u32,
}

/// The versions of one key.
#[derive(Debug, Default)]
pub struct ListOrder<'h> {
    /// All appends, also those that failed, by transaction and in order.
    pub appends: Vec<Append>,
    /// The reads, likewise.
    pub reads: Vec<Read<'h>>,
    /// The longest read.
    pub longest: Option<Read<'h>>,
    /// By place minus 1: the element, and its append (an index of `appends`), or [`NONE`] if there is none.
    pub versions: Vec<(&'h Value, u32)>,
    /// The first position in the longest read whose element stands there for the second time.
    pub duplicate_at: usize,
    /// The first position in the longest read whose element was appended by a failed transaction only.
    pub failed_at: usize,
    /// The first position in the longest read whose element nobody appended.
    pub garbage_at: usize,
}

/// What a read returned; nil is the empty list.
fn list_of<'h>(txns: &Txns<'h>, mop: &Mop<'h>) -> Result<&'h [Value], NotTxns> {
    match mop.value {
        Value::Nil => Ok(&[]),
        Value::List(items) | Value::Tuple(items) => Ok(items.as_slice()),
        _ => Err(txns.not_a_list(mop)),
    }
}

impl<'h> ListOrder<'h> {
    /// Reads the order of a key. Afterwards `lookup` gives the index in `appends` of each value.
    pub fn new(txns: &Txns<'h>, key: u32, lookup: &mut Lookup) -> Result<ListOrder<'h>, NotTxns> {
        let mut order = ListOrder::default();
        lookup.clear();
        for &number in txns.mops_of_key(key) {
            let mop = &txns.mops[number as usize];
            let outcome = txns.outcome(mop);
            if mop.is_write() {
                order.append(txns, number, outcome, lookup)?;
            } else if outcome == OpType::Ok {
                let list = list_of(txns, mop)?;
                let read = Read { mop: number, txn: mop.txn, list, compatible: true, version: 0 };
                order.reads.push(read);
                if order.longest.is_none_or(|longest| longest.list.len() < list.len()) {
                    order.longest = Some(read);
                }
            }
        }
        order.place(lookup);
        order.compare(lookup);
        Ok(order)
    }

    fn append(
        &mut self,
        txns: &Txns<'h>,
        number: u32,
        outcome: OpType,
        lookup: &mut Lookup,
    ) -> Result<(), NotTxns> {
        let mop = &txns.mops[number as usize];
        if let Some(last) = self.appends.last_mut().filter(|last| last.txn == mop.txn) {
            last.intermediate = true;
        }
        let own = self.appends.len() as u32;
        let known = lookup.get(mop.value);
        let append = Append { mop: number, txn: mop.txn, outcome, intermediate: false, version: 0 };
        self.appends.push(append);
        match known.map(|known| self.appends[known as usize]) {
            // What failed did not happen: the value is that of the other one.
            Some(_) if outcome == OpType::Fail => {}
            Some(other) if other.outcome != OpType::Fail => {
                return Err(txns.written_twice(other.mop, number));
            }
            _ => lookup.set(mop.value, own),
        }
        Ok(())
    }

    /// Gives the elements of the longest read their places.
    fn place(&mut self, lookup: &Lookup) {
        let list = self.longest.map_or(&[][..], |read| read.list);
        (self.duplicate_at, self.failed_at, self.garbage_at) = (usize::MAX, usize::MAX, usize::MAX);
        self.versions.reserve(list.len());
        let mut strangers: FxHashSet<&Value> = FxHashSet::default();
        for (position, element) in list.iter().enumerate() {
            let append = lookup.get(element);
            let again = match append {
                Some(append) => self.appends[append as usize].version != 0,
                None => !strangers.insert(element),
            };
            if again {
                self.duplicate_at = self.duplicate_at.min(position);
                continue;
            }
            self.versions.push((element, append.unwrap_or(NONE)));
            match append {
                None => self.garbage_at = self.garbage_at.min(position),
                Some(append) => {
                    let append = &mut self.appends[append as usize];
                    append.version = self.versions.len() as u32;
                    if append.outcome == OpType::Fail {
                        self.failed_at = self.failed_at.min(position);
                    }
                }
            }
        }
    }

    /// Compares every read with the longest one.
    fn compare(&mut self, lookup: &Lookup) {
        let Some(longest) = self.longest else { return };
        for read in &mut self.reads {
            let prefix = &longest.list[..read.list.len()];
            read.compatible = std::ptr::eq(read.list, prefix) || read.list == prefix;
            read.version = if read.compatible && read.list.len() <= self.duplicate_at {
                read.list.len() as u32
            } else {
                version_of(read.list, &self.appends, &self.versions, lookup)
            };
        }
    }

    /// The append of the last element of a read.
    pub fn last_append(&self, read: &Read, lookup: &Lookup) -> Option<&Append> {
        let index = match read.version {
            0 => return None,
            NONE => lookup.get(read.list.last()?)?,
            version => self.versions[version as usize - 1].1,
        };
        self.appends.get(index as usize)
    }

    /// The append of a version, if any transaction that may have happened made it.
    pub fn append_of(&self, version: u32) -> Option<&Append> {
        let (_, append) = self.versions.get((version as usize).checked_sub(1)?)?;
        self.appends.get(*append as usize).filter(|append| append.outcome != OpType::Fail)
    }
}

fn version_of(
    list: &[Value],
    appends: &[Append],
    versions: &[(&Value, u32)],
    lookup: &Lookup,
) -> u32 {
    let Some(last) = list.last() else { return 0 };
    match lookup.get(last) {
        Some(append) => match appends[append as usize].version {
            0 => NONE,
            version => version,
        },
        None => {
            let place = versions.iter().position(|(element, _)| *element == last);
            place.map_or(NONE, |place| place as u32 + 1)
        }
    }
}
