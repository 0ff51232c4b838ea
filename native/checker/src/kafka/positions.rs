//! Skips and steps back: what one operation, or one process from operation to operation, polls or sends of
//! a key, against the order of the key.
//!
//! Within an operation all its polls of a key count as one sequence. From operation to operation, the
//! position of a process is behind what its last poll that succeeded returned: a transaction that was
//! aborted, or may have been, is to be rewound. A key that the process no longer has after an assignment
//! is forgotten, and so is every key if the assignment seeks to the beginning.

use fuzz_dist_core::OpType;
use rustc_hash::FxHashMap;

use crate::elle::graph::NONE;
use crate::kafka::cases::{Case, Cases};
use crate::kafka::ops::{Assignment, Log, Place, Step};
use crate::kafka::versions::Versions;

/// An operation polls two messages with others between them.
pub const INT_POLL_SKIP: &str = "int-poll-skip";
/// An operation polls a message and then one that is not behind it.
pub const INT_NONMONOTONIC_POLL: &str = "int-nonmonotonic-poll";
/// What an operation sends is not contiguous.
pub const INT_SEND_SKIP: &str = "int-send-skip";
/// What an operation sends stands in another order.
pub const INT_NONMONOTONIC_SEND: &str = "int-nonmonotonic-send";
/// A process skips messages from one operation to the next.
pub const POLL_SKIP: &str = "poll-skip";
/// A process polls again what it has polled, or goes further back.
pub const NONMONOTONIC_POLL: &str = "nonmonotonic-poll";
/// A process sends, and then sends to before that.
pub const NONMONOTONIC_SEND: &str = "nonmonotonic-send";

/// Within each operation.
pub fn internal(log: &Log, versions: &Versions, cases: &mut Cases) {
    let mut polls = Sequence::new(log.key_count(), [INT_POLL_SKIP, INT_NONMONOTONIC_POLL]);
    let mut sends = Sequence::new(log.key_count(), [INT_SEND_SKIP, INT_NONMONOTONIC_SEND]);
    for txn in 0..log.txns.len() as u32 {
        let rebalanced = log.rebalanced.get(&txn).map_or(&[][..], Vec::as_slice);
        polls.follow(log, versions, txn, log.polled_by(txn), rebalanced, cases);
        sends.follow(log, versions, txn, log.sent_by(txn), &[], cases);
    }
}

/// The last message of each key, for one operation at a time.
struct Sequence {
    names: [&'static str; 2],
    last: Vec<(u32, u32)>,
}

impl Sequence {
    fn new(keys: usize, names: [&'static str; 2]) -> Sequence {
        Sequence { names, last: vec![(NONE, NONE); keys] }
    }

    fn follow(
        &mut self,
        log: &Log,
        versions: &Versions,
        txn: u32,
        places: &[Place],
        excused: &[u32],
        cases: &mut Cases,
    ) {
        for place in places {
            let key = log.key_of(place.message);
            let (seen_by, before) = self.last[key as usize];
            self.last[key as usize] = (txn, place.message);
            if seen_by != txn || excused.contains(&key) {
                continue;
            }
            let delta = versions.delta(before, place.message);
            let case = || between(key, [before, place.message], vec![txn], delta);
            match delta {
                1 => {}
                2.. => cases.add(self.names[0], delta, case),
                _ => cases.add(self.names[1], -delta, case),
            }
        }
    }
}

fn between(key: u32, messages: [u32; 2], txns: Vec<u32>, delta: i64) -> Case {
    Case { key, messages: messages.into(), txns, numbers: vec![delta], ..Case::default() }
}

/// The last operation of a process on a key, with the last message of the key in it.
type Positions = FxHashMap<u32, (u32, u32)>;

/// From operation to operation of each process.
pub fn external(log: &Log, versions: &Versions, steps: &[Step], cases: &mut Cases) {
    let mut polls: FxHashMap<i64, Positions> = FxHashMap::default();
    let mut sends: FxHashMap<i64, Positions> = FxHashMap::default();
    let mut ends = Ends { first: vec![(NONE, NONE); log.key_count()], keys: Vec::new() };
    for step in steps {
        match *step {
            Step::Assignment(number) => {
                let change = &log.assignments[number as usize];
                forget(polls.get_mut(&change.process), change, true);
                forget(sends.get_mut(&change.process), change, false);
            }
            Step::Txn(txn) => {
                let process = log.txns[txn as usize].process;
                let outcome = log.outcome(txn);
                let positions = polls.entry(process).or_default();
                for &(key, first, last) in ends.of(log, txn, log.polled_by(txn)) {
                    if let Some((before, message)) = positions.get(&key) {
                        let delta = versions.delta(*message, first);
                        let case = || between(key, [*message, first], vec![*before, txn], delta);
                        match delta {
                            1 => {}
                            2.. => cases.add(POLL_SKIP, delta, case),
                            _ => cases.add(NONMONOTONIC_POLL, -delta, case),
                        }
                    }
                    if outcome == OpType::Ok {
                        positions.insert(key, (txn, last));
                    }
                }
                if outcome == OpType::Fail {
                    continue;
                }
                let positions = sends.entry(process).or_default();
                for &(key, first, last) in ends.of(log, txn, log.sent_by(txn)) {
                    if let Some((before, message)) = positions.get(&key) {
                        let delta = versions.delta(*message, first);
                        if delta < 1 {
                            cases.add(NONMONOTONIC_SEND, -delta, || {
                                between(key, [*message, first], vec![*before, txn], delta)
                            });
                        }
                    }
                    // What may still be under way is before nothing.
                    if outcome == OpType::Ok {
                        positions.insert(key, (txn, last));
                    }
                }
            }
        }
    }
}

fn forget(positions: Option<&mut Positions>, change: &Assignment, is_polls: bool) {
    let Some(positions) = positions else { return };
    if change.seeks && is_polls {
        positions.clear();
    }
    if !positions.is_empty() {
        positions.retain(|key, _| change.keys.contains(key));
    }
}

/// The first and last message of each key in one operation.
struct Ends {
    /// By key: the operation, and the place in `keys`.
    first: Vec<(u32, u32)>,
    keys: Vec<(u32, u32, u32)>,
}

impl Ends {
    fn of(&mut self, log: &Log, txn: u32, places: &[Place]) -> &[(u32, u32, u32)] {
        self.keys.clear();
        for place in places {
            let key = log.key_of(place.message);
            let (seen_by, slot) = self.first[key as usize];
            if seen_by == txn && self.keys.get(slot as usize).is_some_and(|(k, ..)| *k == key) {
                self.keys[slot as usize].2 = place.message;
            } else {
                self.first[key as usize] = (txn, self.keys.len() as u32);
                self.keys.push((key, place.message, place.message));
            }
        }
        &self.keys
    }
}
