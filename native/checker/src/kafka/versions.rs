//! The order of the messages of each key, from the offsets that sends and polls tell.
//!
//! A send counts if it must have committed: it succeeded, or something that its transaction sent was read.
//! A poll counts whatever became of its transaction. Offsets have gaps (transactions write markers of
//! their own), so neighbours are told by *index*: the place among the offsets that are known.

use fuzz_dist_core::OpType;

use crate::elle::graph::NONE;
use crate::kafka::ops::{Log, UNKNOWN};

/// A message at an offset of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The key.
    pub key: u32,
    /// The offset.
    pub offset: i64,
    /// The message.
    pub message: u32,
}

/// The orders of all keys.
#[derive(Debug)]
pub struct Versions {
    /// By key, offset and message.
    pub entries: Vec<Entry>,
    /// The first entry of each index, of all keys one behind the other; one more at the end.
    starts: Vec<u32>,
    /// The first of `starts` of each key; one more at the end.
    keys: Vec<u32>,
    /// The first index of each message in its key, or [`NONE`].
    first: Vec<u32>,
    /// The last one.
    last: Vec<u32>,
}

/// Which sends took place.
#[derive(Debug)]
pub struct Committed {
    /// Whether the operations are transactions, all of whose sends take place or none.
    is_txn: bool,
    proven: Vec<bool>,
}

impl Committed {
    /// Looks for the operations that ended with info and of which something was read.
    pub fn new(log: &Log, is_txn: bool) -> Committed {
        let proven = (0..log.txns.len() as u32).map(|txn| match log.outcome(txn) {
            OpType::Ok => true,
            OpType::Info if is_txn => {
                log.sent_by(txn).iter().any(|sent| log.messages[sent.message as usize].is_read)
            }
            _ => false,
        });
        Committed { is_txn, proven: proven.collect() }
    }

    /// Whether a message that this operation sent must have been written.
    pub fn holds(&self, log: &Log, txn: u32, message: u32) -> bool {
        self.proven[txn as usize]
            || (!self.is_txn
                && log.outcome(txn) == OpType::Info
                && log.messages[message as usize].is_read)
    }
}

impl Versions {
    /// Sorts what is known of offsets.
    pub fn new(log: &Log, committed: &Committed) -> Versions {
        let mut entries: Vec<Entry> = Vec::with_capacity(log.polled.len());
        let mut add = |message: u32, offset: i64| {
            if offset != UNKNOWN {
                entries.push(Entry { key: log.key_of(message), offset, message });
            }
        };
        for txn in 0..log.txns.len() as u32 {
            for sent in log.sent_by(txn) {
                if committed.holds(log, txn, sent.message) {
                    add(sent.message, sent.offset);
                }
            }
            log.polled_by(txn).iter().for_each(|place| add(place.message, place.offset));
        }
        entries.sort_unstable();
        entries.dedup();
        entries.shrink_to_fit();
        let mut versions = Versions {
            starts: Vec::with_capacity(entries.len() + 1),
            keys: Vec::with_capacity(log.key_count() + 1),
            first: vec![NONE; log.messages.len()],
            last: vec![NONE; log.messages.len()],
            entries,
        };
        let mut before: Option<Entry> = None;
        for (place, entry) in (0..).zip(&versions.entries) {
            while versions.keys.len() <= entry.key as usize {
                versions.keys.push(versions.starts.len() as u32);
            }
            if before.is_none_or(|b| (b.key, b.offset) != (entry.key, entry.offset)) {
                versions.starts.push(place);
            }
            before = Some(*entry);
            let index = versions.starts.len() as u32 - 1 - versions.keys[entry.key as usize];
            let message = entry.message as usize;
            versions.first[message] = versions.first[message].min(index);
            versions.last[message] = index;
        }
        while versions.keys.len() <= log.key_count() {
            versions.keys.push(versions.starts.len() as u32);
        }
        versions.starts.push(versions.entries.len() as u32);
        versions
    }

    /// How many indices a key has.
    pub fn index_count(&self, key: u32) -> u32 {
        self.keys[key as usize + 1] - self.keys[key as usize]
    }

    /// What is at an index of a key: one message, or several that contradict each other.
    pub fn at(&self, key: u32, index: u32) -> &[Entry] {
        let place = (self.keys[key as usize] + index) as usize;
        &self.entries[self.starts[place] as usize..self.starts[place + 1] as usize]
    }

    /// Every offset of a key, as one of its indices, with what is there.
    pub fn indices(&self, key: u32) -> impl Iterator<Item = (u32, &[Entry])> {
        (0..self.index_count(key)).map(move |index| (index, self.at(key, index)))
    }

    /// The first index of a message.
    pub fn first(&self, message: u32) -> Option<u32> {
        Some(self.first[message as usize]).filter(|index| *index != NONE)
    }

    /// The index of a message: its last one, should it have several.
    pub fn index(&self, message: u32) -> Option<u32> {
        Some(self.last[message as usize]).filter(|index| *index != NONE)
    }

    /// How far it is from one message to the next in the order of their key; 1 if nobody knows.
    pub fn delta(&self, before: u32, after: u32) -> i64 {
        match (self.index(before), self.index(after)) {
            (Some(before), Some(after)) => i64::from(after) - i64::from(before),
            _ => 1,
        }
    }
}
