//! `causal` against brute force, on small random histories.
//!
//! The oracle follows the definitions: a history has a level or some session guarantees if transactions without
//! an answer can be said to have happened or not, and each read can be given a write, such that some total
//! order of the transactions contains session order and reads-from, and no read returns a value older in it
//! than a visible write. It tries all of them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{History, OpType, Value, Verdict};
use serde_json::json;

/// (is a write, key, value); 0 is the initial state.
type Mop = (bool, i64, i64);

#[derive(Debug, Clone)]
struct Txn {
    process: i64,
    outcome: OpType,
    mops: Vec<Mop>,
}

const INITIAL: usize = usize::MAX;
const GUARANTEES: [&str; 4] =
    ["read-your-writes", "monotonic-reads", "monotonic-writes", "writes-follow-reads"];

#[derive(Debug, Clone, Copy)]
enum Property {
    Reads,
    ReadCommitted,
    ReadAtomic,
    Causal,
    Session(usize),
}

/// Transactions in order of invocation. Reads return what some write wrote, or the initial state.
fn random_txns(random: &mut Random, duplicates: bool) -> Vec<Txn> {
    let count = 2 + random.below(5);
    let sessions = 1 + random.below(3);
    let keys = 1 + random.below(3);
    let length = if random.chance(40) { 1 } else { 3 };
    let mut values = vec![0; keys];
    let mut txns: Vec<Txn> = (0..count)
        .map(|_| {
            let outcome = match random.below(14) {
                0 => OpType::Fail,
                1 | 2 => OpType::Info,
                _ => OpType::Ok,
            };
            let mops = (0..1 + random.below(length)).map(|_| {
                let key = random.below(keys);
                let write = random.chance(50);
                if write {
                    values[key] += 1;
                }
                let repeat = duplicates && write && random.chance(20);
                let value = if repeat { 1 + random.below(2) as i64 } else { values[key] };
                (write, key as i64, value)
            });
            let mops = mops.collect();
            Txn { process: random.below(sessions) as i64, outcome, mops }
        })
        .collect();
    let recent = random.chance(50);
    for at in 0..count {
        for mop in 0..txns[at].mops.len() {
            let (write, key, _) = txns[at].mops[mop];
            if write {
                continue;
            }
            let own = txns[at].mops[..mop].iter().rfind(|m| m.0 && m.1 == key).map(|m| m.2);
            let last = values[key as usize];
            let before = txns[..at].iter().flat_map(|txn| &txn.mops).filter(|m| m.0 && m.1 == key);
            let newest = before.map(|m| m.2).max().unwrap_or(0);
            let value = match own {
                Some(own) if !random.chance(3) => own,
                _ if random.chance(1) => last + 1,
                _ if recent && random.chance(70) => newest,
                _ => random.below(last as usize + 1) as i64,
            };
            txns[at].mops[mop].2 = value;
        }
    }
    txns
}

fn history(txns: &[Txn], random: &mut Random) -> History {
    let mut builder = Builder::default();
    let singles = txns.iter().all(|txn| txn.mops.len() == 1) && random.chance(50);
    for txn in txns {
        let value = |(_, _, value): &Mop| if *value == 0 { Value::Nil } else { int(*value) };
        let mop = |m: &Mop| {
            Value::list(vec![Value::sym(if m.0 { "w" } else { "r" }), int(m.1), value(m)])
        };
        let (f, operation) = match singles {
            true => {
                let m = &txn.mops[0];
                let f = if m.0 { "write" } else { "read" };
                (f, Value::list(vec![int(m.1), value(m)]))
            }
            false => ("txn", Value::list(txn.mops.iter().map(mop).collect::<Vec<_>>())),
        };
        builder.invoke(txn.process, f, operation.clone());
        builder.push(txn.process, txn.outcome, f, operation);
    }
    builder.history()
}

/// A choice of what happened and of what each read saw.
struct World<'a> {
    txns: &'a [Txn],
    happened: Vec<bool>,
    /// By transaction: external reads in order, as (key, writer).
    reads: Vec<Vec<(i64, usize)>>,
}

fn last_write(txn: &Txn, key: i64) -> Option<i64> {
    txn.mops.iter().rfind(|m| m.0 && m.1 == key).map(|m| m.2)
}

impl World<'_> {
    /// a before b in session order: a was answered before b began.
    fn session(&self, a: usize, b: usize) -> bool {
        a < b && self.txns[a].process == self.txns[b].process && self.txns[a].outcome == OpType::Ok
    }

    fn reads_from(&self, reader: usize, writer: usize) -> bool {
        self.reads[reader].iter().any(|read| read.1 == writer)
    }

    fn step(&self, a: usize, b: usize) -> bool {
        self.session(a, b) || self.reads_from(b, a)
    }

    fn happens_before(&self) -> Vec<Vec<bool>> {
        let n = self.txns.len();
        let mut before: Vec<Vec<bool>> =
            (0..n).map(|a| (0..n).map(|b| self.step(a, b)).collect()).collect();
        for via in 0..n {
            for a in 0..n {
                for b in 0..n {
                    before[a][b] |= before[a][via] && before[via][b];
                }
            }
        }
        before
    }

    /// What guarantees make visible to a read, by repeating their rules until nothing is new.
    fn visible(&self, set: usize, reader: usize, at: usize) -> BTreeSet<usize> {
        let happened = |t: &usize| self.happened[*t];
        let all: Vec<usize> = (0..self.txns.len()).filter(happened).collect();
        let earlier: Vec<usize> =
            all.iter().copied().filter(|t| self.session(*t, reader)).collect();
        let mut read: BTreeSet<usize> =
            self.reads[reader][..at].iter().map(|r| r.1).filter(|w| *w != INITIAL).collect();
        for t in &earlier {
            read.extend(self.reads[*t].iter().map(|r| r.1).filter(|w| *w != INITIAL));
        }
        let mut visible: BTreeSet<usize> = BTreeSet::new();
        if set & 1 != 0 {
            let wrote = |t: &&usize| self.txns[**t].mops.iter().any(|m| m.0);
            visible.extend(earlier.iter().filter(wrote));
        }
        if set & 2 != 0 {
            visible.extend(&read);
        }
        loop {
            let observed: BTreeSet<usize> = visible.union(&read).copied().collect();
            let mut more = visible.clone();
            for t in &observed {
                let before = all.iter().filter(|b| self.session(**b, *t));
                if set & 4 != 0 {
                    more.extend(before.clone());
                }
                if set & 8 != 0 {
                    for b in before.chain([t]) {
                        more.extend(self.reads[*b].iter().map(|r| r.1).filter(|w| *w != INITIAL));
                    }
                }
            }
            if more == visible {
                return visible;
            }
            visible = more;
        }
    }

    /// Pairs that the property demands of the commit order; nothing if the initial state was read in vain.
    fn demands(&self, property: Property) -> Option<Vec<(usize, usize)>> {
        let before = self.happens_before();
        let mut demands = Vec::new();
        for (t3, reads) in self.reads.iter().enumerate() {
            for (at, (key, t1)) in reads.iter().enumerate() {
                let visible = |t2: usize| match property {
                    Property::Reads => false,
                    Property::ReadCommitted => self.reads[t3][..at].iter().any(|read| read.1 == t2),
                    Property::ReadAtomic => self.step(t2, t3),
                    Property::Causal => before[t2][t3],
                    Property::Session(set) => self.visible(set, t3, at).contains(&t2),
                };
                for t2 in (0..self.txns.len()).filter(|t2| self.happened[*t2] && t2 != t1) {
                    if last_write(&self.txns[t2], *key).is_some() && visible(t2) {
                        if *t1 == INITIAL {
                            return None;
                        }
                        demands.push((t2, *t1));
                    }
                }
            }
        }
        Some(demands)
    }

    fn holds(&self, property: Property) -> bool {
        let Some(demands) = self.demands(property) else { return false };
        let left: BTreeSet<usize> = (0..self.txns.len()).filter(|t| self.happened[*t]).collect();
        self.order(&mut Vec::new(), left, &demands)
    }

    /// Whether what is left can be put behind what is there: every order is tried.
    fn order(
        &self,
        order: &mut Vec<usize>,
        left: BTreeSet<usize>,
        demands: &[(usize, usize)],
    ) -> bool {
        if left.is_empty() {
            return true;
        }
        left.iter().any(|next| {
            let fits = left
                .iter()
                .all(|other| !self.step(*other, *next) && !demands.contains(&(*other, *next)));
            let mut rest = left.clone();
            rest.remove(next);
            order.push(*next);
            let found = fits && self.order(order, rest, demands);
            order.pop();
            found
        })
    }
}

/// All ways to give reads their writes; none if some read has none.
fn worlds<'a>(txns: &'a [Txn], happened: &[bool]) -> Vec<World<'a>> {
    let mut reads: Vec<Vec<Vec<(i64, usize)>>> = vec![vec![Vec::new(); txns.len()]];
    for (t, txn) in txns.iter().enumerate() {
        if !happened[t] || txn.outcome != OpType::Ok {
            continue;
        }
        for (at, (write, key, value)) in txn.mops.iter().enumerate() {
            if *write {
                continue;
            }
            if let Some(own) = txn.mops[..at].iter().rfind(|m| m.0 && m.1 == *key) {
                if own.2 != *value {
                    return Vec::new();
                }
                continue;
            }
            let mut writers: Vec<usize> = (0..txns.len())
                .filter(|w| *w != t && happened[*w] && last_write(&txns[*w], *key) == Some(*value))
                .collect();
            if *value == 0 {
                writers.push(INITIAL);
            }
            let mut more = Vec::new();
            for choice in &reads {
                for writer in &writers {
                    let mut choice = choice.clone();
                    choice[t].push((*key, *writer));
                    more.push(choice);
                }
            }
            reads = more;
        }
    }
    reads.into_iter().map(|reads| World { txns, happened: happened.to_vec(), reads }).collect()
}

fn oracle(txns: &[Txn], property: Property) -> bool {
    let open: Vec<usize> = (0..txns.len()).filter(|t| txns[*t].outcome == OpType::Info).collect();
    (0..1usize << open.len()).any(|chosen| {
        let mut happened: Vec<bool> = txns.iter().map(|t| t.outcome == OpType::Ok).collect();
        for (bit, t) in open.iter().enumerate() {
            happened[*t] = chosen >> bit & 1 == 1;
        }
        worlds(txns, &happened).iter().any(|world| world.holds(property))
    })
}

fn options(property: Property) -> serde_json::Value {
    match property {
        Property::Reads => json!({"level": "none"}),
        Property::ReadCommitted => json!({"level": "read-committed"}),
        Property::ReadAtomic => json!({"level": "read-atomic"}),
        Property::Causal => json!({"level": "causal"}),
        Property::Session(set) => {
            let names: Vec<&str> =
                (0..4).filter(|bit| set >> bit & 1 == 1).map(|bit| GUARANTEES[bit]).collect();
            json!({"session": names.join(",")})
        }
    }
}

fn properties(random: &mut Random) -> Vec<Property> {
    let mut all =
        vec![Property::Reads, Property::ReadCommitted, Property::ReadAtomic, Property::Causal];
    all.extend([1, 2, 4, 8, 15].map(Property::Session));
    all.push(Property::Session(1 + random.below(15)));
    all
}

#[test]
fn levels_and_guarantees_are_those_of_the_definitions() {
    let mut random = Random(7);
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..cases(1_500) {
        let txns = random_txns(&mut random, false);
        let history = history(&txns, &mut random);
        let has_read =
            txns.iter().any(|txn| txn.outcome == OpType::Ok && txn.mops.iter().any(|m| !m.0));
        for property in properties(&mut random) {
            let result = check("causal", options(property), &history);
            let expected = oracle(&txns, property);
            let expected = match (expected, has_read) {
                (true, true) => Verdict::Valid,
                (true, false) => Verdict::Unknown,
                (false, _) => Verdict::Invalid,
            };
            assert_eq!(
                result.verdict,
                expected,
                "{property:?} {}\n{}",
                result.reason,
                show(&history)
            );
            assert_eq!(result.verdict == Verdict::Invalid, !result.anomalies.is_empty());
            for anomaly in &result.anomalies {
                *counts.entry(anomaly.name.clone()).or_insert(0) += 1;
                assert!(
                    !anomaly.text.contains("the commit order of the level says so"),
                    "{property:?} {}\n{}",
                    anomaly.text,
                    show(&history)
                );
                let inside = |at: &u64| (*at as usize) < history.len();
                assert!(!anomaly.ops.is_empty() && anomaly.ops.iter().all(inside));
            }
        }
    }
    for name in [
        "thin-air-read",
        "G1a",
        "G1b",
        "future-read",
        "internal",
        "cyclic-causality",
        "non-monotonic-read",
        "fractured-read",
        "non-repeatable-read",
        "causality-violation",
        "read-your-writes",
        "monotonic-reads",
        "monotonic-writes",
        "writes-follow-reads",
    ] {
        assert!(counts.contains_key(name), "{name} never came up: {counts:?}");
    }
}

#[test]
fn ambiguous_values_never_make_a_wrong_verdict() {
    let mut random = Random(11);
    let mut unknown = 0;
    for _ in 0..cases(1_000) {
        let txns = random_txns(&mut random, true);
        let history = history(&txns, &mut random);
        for property in properties(&mut random) {
            let result = check("causal", options(property), &history);
            let expected = oracle(&txns, property);
            match result.verdict {
                Verdict::Valid => assert!(expected, "{property:?}\n{}", show(&history)),
                Verdict::Invalid => {
                    assert!(!expected, "{property:?} {}\n{}", result.reason, show(&history));
                }
                Verdict::Unknown => unknown += 1,
            }
        }
    }
    assert!(unknown > 0);
}

#[test]
fn all_guarantees_are_causal_consistency_where_each_transaction_is_one_operation() {
    let mut random = Random(13);
    for _ in 0..cases(1_500) {
        let mut txns = random_txns(&mut random, false);
        txns.iter_mut().for_each(|txn| txn.mops.truncate(1));
        let history = history(&txns, &mut random);
        let causal = check("causal", json!({"level": "causal"}), &history);
        let all = check("causal", json!({"session": "all"}), &history);
        assert_eq!(causal.verdict, all.verdict, "{}", show(&history));
    }
}
