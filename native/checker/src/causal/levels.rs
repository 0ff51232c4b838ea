//! Read Committed and Read Atomic: what they imply about the commit order.
//!
//! - Read Committed: visible to a read is what the transaction read from *earlier in itself*.
//! - Read Atomic: visible is what it read from anywhere, and everything before it in its session.
//!
//! After AWDIT (Møldrup and Pavlogiannis, PLDI 2025). For Read Committed a transaction is walked backwards,
//! with the two earliest writers of each key read later on: the rest follows by transitivity. For both, keys
//! read and keys written are intersected by walking the smaller of the two, which gives O(n^3/2), times the
//! logarithm of a write set where a larger one is searched. Tables over all keys are kept between
//! transactions and marked with the transaction's number, so that nothing is cleared.

use crate::budget::{Exhausted, Meter};
use crate::causal::inferred::{Inferred, StaleInitial};
use crate::causal::txns::{Event, INITIAL, NONE, Txns};

/// How many transactions between two looks at the clock.
const TXNS_PER_LOOK: u32 = 1 << 12;

/// Sorted write sets of transactions that wrote more keys than a few.
struct WriteSets {
    start: Vec<u32>,
    keys: Vec<u32>,
}

impl WriteSets {
    fn new(txns: &Txns) -> WriteSets {
        let (mut start, mut keys) = (vec![0], Vec::new());
        for txn in 0..txns.count() {
            let from = keys.len();
            keys.extend(txns.keys_written(txn));
            keys[from..].sort_unstable();
            start.push(keys.len() as u32);
        }
        WriteSets { start, keys }
    }

    fn of(&self, txn: u32) -> &[u32] {
        &self.keys[self.start[txn as usize] as usize..self.start[txn as usize + 1] as usize]
    }

    /// Every key that the transaction wrote and that may be among `keys`, by the shorter of both ways: the callback has
    /// to know those apart that are not.
    fn of_both(&self, txn: u32, keys: &[u32], mut each: impl FnMut(u32)) {
        let written = self.of(txn);
        if written.len() <= keys.len() {
            written.iter().for_each(|key| each(*key));
        } else {
            let both = keys.iter().filter(|key| written.binary_search(key).is_ok());
            both.for_each(|key| each(*key));
        }
    }
}

/// Adds that `t2`, which was visible to `reader` and wrote the key, comes before `t1`, which was read from.
fn imply(txns: &Txns, inferred: &mut Inferred, reader: u32, key: u32, t1: u32, t2: u32) {
    match t1 {
        INITIAL => inferred.stale(StaleInitial { reader, key, writer: t2 }),
        t1 => inferred.edge(txns, t1, t2),
    }
}

/// The transaction that a read took from, or [`INITIAL`]; nothing for others and writes.
fn source(event: &Event) -> Option<u32> {
    event.read_from().or_else(|| (!event.is_write() && event.source == INITIAL).then_some(INITIAL))
}

/// What Read Committed implies.
pub fn read_committed(txns: &Txns, meter: &Meter) -> Result<Inferred, Exhausted> {
    let write_sets = WriteSets::new(txns);
    let mut inferred = Inferred::default();
    // By key: the transaction that this is about, and the two earliest writers read later on.
    let mut later = vec![(NONE, NONE, NONE); txns.key_count()];
    let mut first_read = vec![(NONE, NONE); txns.list.len()];
    let mut keys: Vec<u32> = Vec::new();
    for reader in 0..txns.count() {
        if reader.is_multiple_of(TXNS_PER_LOOK) {
            meter.check_time()?;
        }
        let events = txns.events_of(reader);
        for (at, event) in events.iter().enumerate() {
            if let Some(t2) = event.read_from()
                && first_read[t2 as usize].0 != reader
            {
                first_read[t2 as usize] = (reader, at as u32);
            }
        }
        keys.clear();
        for (at, event) in events.iter().enumerate().rev() {
            let Some(t2) = source(event) else { continue };
            if t2 != INITIAL && first_read[t2 as usize] == (reader, at as u32) {
                write_sets.of_both(t2, &keys, |key| {
                    let (of, first, second) = later[key as usize];
                    let t1 = if first == t2 { second } else { first };
                    if of == reader && t1 != NONE {
                        imply(txns, &mut inferred, reader, key, t1, t2);
                    }
                });
            }
            let later = &mut later[event.key() as usize];
            if later.0 != reader {
                *later = (reader, t2, NONE);
                keys.push(event.key());
            } else if later.1 != t2 {
                *later = (reader, t2, later.1);
            }
        }
    }
    inferred.finish();
    Ok(inferred)
}

/// What Read Atomic implies.
pub fn read_atomic(txns: &Txns, meter: &Meter) -> Result<Inferred, Exhausted> {
    let write_sets = WriteSets::new(txns);
    let mut inferred = Inferred::default();
    // By key: the chain, and its last writer of the key so far.
    let mut last_writer = vec![(NONE, NONE); txns.key_count()];
    for chain in 0..txns.chain_count() as u32 {
        meter.check_time()?;
        // A transaction that its process did not wait for has a chain of its own, but comes after others.
        let members = txns.chain(chain);
        for member in members {
            for event in txns.events_of(*member) {
                let (of, t2) = last_writer[event.key() as usize];
                if let Some(t1) = source(event).filter(|t1| of == chain && *t1 != t2) {
                    imply(txns, &mut inferred, *member, event.key(), t1, t2);
                }
            }
            for key in txns.keys_written(*member) {
                last_writer[key as usize] = (chain, *member);
            }
        }
    }
    // By key: the reader, and what it read the key from.
    let mut read = vec![(NONE, NONE); txns.key_count()];
    let mut visited = vec![NONE; txns.list.len()];
    let mut keys: Vec<u32> = Vec::new();
    for reader in 0..txns.count() {
        if reader.is_multiple_of(TXNS_PER_LOOK) {
            meter.check_time()?;
        }
        let events = txns.events_of(reader);
        keys.clear();
        for event in events {
            let Some(t1) = source(event) else { continue };
            let (of, other) = read[event.key() as usize];
            if of != reader {
                read[event.key() as usize] = (reader, t1);
                keys.push(event.key());
            } else if other != t1 {
                // Both are visible, both wrote the key, and both were read: each before the other.
                for (t1, t2) in [(t1, other), (other, t1)].into_iter().filter(|p| p.1 != INITIAL) {
                    imply(txns, &mut inferred, reader, event.key(), t1, t2);
                }
            }
        }
        for t2 in events.iter().filter_map(|event| event.read_from()) {
            if std::mem::replace(&mut visited[t2 as usize], reader) == reader {
                continue;
            }
            write_sets.of_both(t2, &keys, |key| {
                let (of, t1) = read[key as usize];
                if of == reader && t1 != t2 {
                    imply(txns, &mut inferred, reader, key, t1, t2);
                }
            });
        }
    }
    inferred.finish();
    Ok(inferred)
}
