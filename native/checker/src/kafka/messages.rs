//! Anomalies of single messages: aborted, precommitted and phantom reads, what is at several offsets, and
//! what nobody has read.

use fuzz_dist_core::OpType;

use crate::elle::graph::NONE;
use crate::kafka::cases::{Case, Cases};
use crate::kafka::ops::Log;
use crate::kafka::versions::{Committed, Versions};

/// A poll that succeeded returned what a failed operation sent.
pub const G1A: &str = "G1a";
/// A poll of an operation that did not itself succeed returned what a failed one sent.
pub const ABORTED_READ: &str = "aborted-read";
/// An operation polled what it sent itself, before it can have committed.
pub const PRECOMMITTED_READ: &str = "precommitted-read";
/// A poll returned what nobody ever sent.
pub const PHANTOM: &str = "phantom";
/// Several messages at one offset.
pub const INCONSISTENT_OFFSETS: &str = "inconsistent-offsets";
/// One message at several offsets.
pub const DUPLICATE: &str = "duplicate";
/// Nobody read what must have been written before something that was read.
pub const LOST_WRITE: &str = "lost-write";
/// Acknowledged and not polled by the end.
pub const UNSEEN: &str = "unseen";

/// What each poll returned against who sent it.
pub fn reads(log: &Log, is_txn: bool, cases: &mut Cases) {
    // A message is told once for each operation that polled it.
    let mut told = vec![NONE; log.messages.len()];
    for txn in 0..log.txns.len() as u32 {
        for place in log.polled_by(txn) {
            let message = place.message as usize;
            if told[message] == txn {
                continue;
            }
            told[message] = txn;
            let writer = log.messages[message].writer;
            let name = match writer {
                NONE => PHANTOM,
                _ if writer == txn && is_txn => PRECOMMITTED_READ,
                // For transactions, this is a cycle with an edge in real time.
                _ if !is_txn && is_early(log, writer, txn) => PHANTOM,
                _ if writer == txn || log.outcome(writer) != OpType::Fail => continue,
                _ if log.outcome(txn) == OpType::Ok => G1A,
                _ => ABORTED_READ,
            };
            cases.add(name, 0, || Case {
                key: log.messages[message].key,
                messages: vec![place.message],
                txns: if [NONE, txn].contains(&writer) { vec![txn] } else { vec![writer, txn] },
                ..Case::default()
            });
        }
    }
}

/// Whether an operation was over before another one began.
fn is_early(log: &Log, writer: u32, reader: u32) -> bool {
    log.txns[reader as usize].complete < log.txns[writer as usize].invoke
}

/// Offsets with several messages, and messages with several offsets.
pub fn offsets(log: &Log, versions: &Versions, cases: &mut Cases) {
    let mut counts = vec![0u32; log.messages.len()];
    for entry in &versions.entries {
        counts[entry.message as usize] += 1;
    }
    for (message, count) in (0..).zip(counts).filter(|(_, count)| *count > 1) {
        let key = log.key_of(message);
        cases.add(DUPLICATE, i64::from(count), || Case {
            key,
            messages: vec![message],
            txns: tellers(log, message),
            ..Case::default()
        });
    }
    for key in 0..log.key_count() as u32 {
        for (index, entries) in versions.indices(key).filter(|(_, entries)| entries.len() > 1) {
            cases.add(INCONSISTENT_OFFSETS, entries.len() as i64, || Case {
                key,
                messages: entries.iter().map(|entry| entry.message).collect(),
                txns: entries.iter().flat_map(|entry| tellers(log, entry.message)).collect(),
                numbers: vec![entries[0].offset, i64::from(index)],
                ..Case::default()
            });
        }
    }
}

/// Who sent a message; who polled it stands in the table around it.
fn tellers(log: &Log, message: u32) -> Vec<u32> {
    Some(log.messages[message as usize].writer).filter(|txn| *txn != NONE).into_iter().collect()
}

/// For each key: whoever reads as far as an index proves that everything before it was there to be read.
/// Of a message at several offsets the last counts, and the first of the one that was read, so that
/// duplicates and contradictions make nothing lost.
pub fn lost(log: &Log, versions: &Versions, committed: &Committed, cases: &mut Cases) {
    let keys = log.key_count();
    // The highest index read of each key, and the message there.
    let mut bounds: Vec<Option<(u32, u32)>> = vec![None; keys];
    for (number, message) in (0..).zip(&log.messages).filter(|(_, message)| message.is_read) {
        if let Some(index) = versions.first(number) {
            let bound = &mut bounds[message.key as usize];
            *bound = (*bound).max(Some((index, number)));
        }
    }
    let mut lost: Vec<u32> = Vec::new();
    for (number, message) in (0..).zip(&log.messages).filter(|(_, message)| !message.is_read) {
        let must_be_read = match (bounds[message.key as usize], versions.index(number)) {
            (Some((bound, _)), Some(index)) => index <= bound,
            _ => false,
        };
        if must_be_read && message.writer != NONE && committed.holds(log, message.writer, number) {
            lost.push(number);
        }
    }
    lost.sort_by_key(|message| (log.key_of(*message), versions.index(*message)));
    let readers = readers(log, bounds.iter().flatten().map(|(_, message)| *message), &lost);
    for message in lost {
        let key = log.key_of(message);
        let Some((bound, highest)) = bounds[key as usize] else { continue };
        let (Some(index), writer) =
            (versions.first(message), log.messages[message as usize].writer)
        else {
            continue;
        };
        cases.add(LOST_WRITE, 0, || Case {
            key,
            messages: vec![message, highest],
            txns: std::iter::once(writer).chain(readers[key as usize]).collect(),
            numbers: vec![i64::from(index), i64::from(bound)],
            ..Case::default()
        });
    }
}

/// By key: the first operation that succeeded and polled one of the messages. Nothing if nothing is asked.
fn readers(log: &Log, wanted: impl Iterator<Item = u32>, asked: &[u32]) -> Vec<Option<u32>> {
    let mut readers = vec![None; log.key_count()];
    if asked.is_empty() {
        return readers;
    }
    let wanted: rustc_hash::FxHashSet<u32> = wanted.collect();
    for txn in (0..log.txns.len() as u32).filter(|txn| log.outcome(*txn) == OpType::Ok) {
        for place in log.polled_by(txn).iter().filter(|place| wanted.contains(&place.message)) {
            readers[log.key_of(place.message) as usize].get_or_insert(txn);
        }
    }
    readers
}

/// Messages whose send succeeded and that no poll that succeeded returned.
pub fn unseen(log: &Log, cases: &mut Cases) -> Vec<u32> {
    let mut unseen = Vec::new();
    for (number, message) in (0..).zip(&log.messages) {
        if !message.is_read && message.writer != NONE && log.outcome(message.writer) == OpType::Ok {
            unseen.push(number);
            cases.add(UNSEEN, 0, || Case {
                key: message.key,
                messages: vec![number],
                txns: vec![message.writer],
                ..Case::default()
            });
        }
    }
    unseen
}
