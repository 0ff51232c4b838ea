//! `rw-register` against its definition, on small random histories: nothing that can be inferred is missed.
//!
//! With the order of versions given by the database, everything is known, so the verdict must be that of
//! trying every serial order. With assumptions only part of the order is known: the oracle takes each pair
//! of versions that the assumption orders by its definition, all that follows from them, every dependency
//! between each two transactions, and lists every simple cycle. The circles of versions and the names of
//! the cycles must be those.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_checker::elle::models::Lattice;
use fuzz_dist_core::{History, OpType, Value, Verdict};
use serde_json::{Value as Json, json};

const KEYS: i64 = 2;

#[derive(Debug, Clone, PartialEq)]
enum Mop {
    /// Key and value; 0 is the initial state.
    Read(i64, i64),
    Write(i64, i64),
}

#[derive(Debug, Clone)]
struct Txn {
    process: i64,
    outcome: OpType,
    mops: Vec<Mop>,
    invoke: usize,
    complete: usize,
    /// Its place in the order in which the store performed them.
    place: usize,
}

impl Txn {
    /// What it read of a key before writing it.
    fn first_read(&self, key: i64) -> Option<i64> {
        match self
            .mops
            .iter()
            .find(|mop| matches!(mop, Mop::Read(k, _) | Mop::Write(k, _) if *k == key))
        {
            Some(Mop::Read(_, value)) if self.outcome == OpType::Ok => Some(*value),
            _ => None,
        }
    }

    /// What it left in a key.
    fn last_write(&self, key: i64) -> Option<i64> {
        self.mops.iter().rev().find_map(|mop| match mop {
            Mop::Write(k, value) if *k == key => Some(*value),
            _ => None,
        })
    }

    /// The version that it met first, and the one that it left or saw last.
    fn met(&self, key: i64) -> Option<(i64, i64)> {
        let (read, write) = (self.first_read(key), self.last_write(key));
        Some((read.or(write)?, write.or(read)?))
    }
}

/// Transactions that take effect one after the other, some of which read an old state, some of another's
/// writes, some of what nobody wrote.
fn random_txns(random: &mut Random) -> Vec<Txn> {
    let count = 2 + random.below(4);
    let bad = [0, 20, 50][random.below(3)];
    let mut states: Vec<BTreeMap<i64, i64>> = vec![BTreeMap::new()];
    let mut next_value = 1;
    let mut free_from = [0usize; 3];
    let mut names = [0i64, 1, 2];
    let mut txns = Vec::new();
    for place in 0..count {
        let process = random.below(3);
        let outcome = match random.below(12) {
            0 => OpType::Info,
            1 => OpType::Fail,
            _ => OpType::Ok,
        };
        let mut state = states[states.len() - 1].clone();
        let mut seen = match random.chance(bad) {
            true => states[random.below(states.len())].clone(),
            false => state.clone(),
        };
        let mops = (0..1 + random.below(3))
            .map(|_| {
                let key = random.below(KEYS as usize) as i64;
                if random.chance(50) {
                    next_value += 1;
                    state.insert(key, next_value);
                    seen.insert(key, next_value);
                    return Mop::Write(key, next_value);
                }
                let value = match random.chance(bad / 8) {
                    true => [1, 1 + random.below(next_value as usize) as i64][random.below(2)],
                    false => seen.get(&key).copied().unwrap_or(0),
                };
                Mop::Read(key, value)
            })
            .collect();
        if outcome == OpType::Ok || random.chance(40) {
            states.push(state);
        }
        let effect = 100 * (place + 1);
        let invoke = (effect - random.below(250).min(effect)).max(free_from[process] + 1);
        let invoke = if invoke > effect { free_from[process] + 1 } else { invoke };
        let complete = (effect + random.below(250)).max(invoke + 1);
        free_from[process] = complete;
        txns.push(Txn { process: names[process], outcome, mops, invoke, complete, place });
        if outcome == OpType::Info {
            names[process] += 3;
        }
    }
    txns
}

/// Lets the reads and writes happen in any order, seen at once by everyone: no isolation at all.
fn interleave(random: &mut Random, txns: &mut [Txn]) {
    let mut state: BTreeMap<i64, i64> = BTreeMap::new();
    let mut next = vec![0; txns.len()];
    while let Some(some) =
        (0..txns.len()).filter(|n| next[*n] < txns[*n].mops.len()).min_by_key(|_| random.next())
    {
        let is_failed = txns[some].outcome == OpType::Fail;
        match &mut txns[some].mops[next[some]] {
            Mop::Read(key, value) => *value = state.get(key).copied().unwrap_or(0),
            Mop::Write(key, value) if !is_failed => {
                state.insert(*key, *value);
            }
            Mop::Write(..) => {}
        }
        next[some] += 1;
    }
}

/// The history, and for each transaction the index of its completion.
fn history(txns: &[Txn]) -> (History, Vec<u64>) {
    let value = |txn: &Txn, done: bool| {
        let mop = |mop: &Mop| match mop {
            Mop::Write(key, value) => Value::list(vec![Value::sym("w"), int(*key), int(*value)]),
            Mop::Read(key, value) => {
                let seen = if done && *value != 0 { int(*value) } else { Value::Nil };
                Value::list(vec![Value::sym("r"), int(*key), seen])
            }
        };
        Value::list(txn.mops.iter().map(mop).collect::<Vec<_>>())
    };
    let mut events: Vec<(usize, bool, usize)> = Vec::new();
    for (number, txn) in txns.iter().enumerate() {
        events.push((txn.invoke, false, number));
        events.push((txn.complete, true, number));
    }
    events.sort_by_key(|(at, done, number)| (*at, !*done, *number));
    let mut builder = Builder::default();
    let mut completions = vec![0; txns.len()];
    for (_, done, number) in events {
        let txn = &txns[number];
        match (done, txn.outcome) {
            (false, _) => builder.invoke(txn.process, "txn", value(txn, false)),
            (true, OpType::Ok) => builder.ok(txn.process, "txn", value(txn, true)),
            (true, OpType::Fail) => builder.fail(txn.process, "txn", value(txn, false)),
            (true, _) => builder.info(txn.process, "txn", value(txn, false)),
        };
        if done {
            completions[number] = builder.ops.len() as u64 - 1;
        }
    }
    (builder.history(), completions)
}

/// Whether some order of the transactions that happened explains every read and writes each key in the
/// order of their places.
fn serializable(txns: &[&Txn], realtime: bool) -> bool {
    fn go(state: &BTreeMap<i64, i64>, left: &[&Txn], realtime: bool) -> bool {
        left.is_empty()
            || (0..left.len()).any(|i| {
                let next = left[i];
                let must_wait = |other: &&Txn| {
                    let in_time =
                        realtime && other.outcome == OpType::Ok && other.complete <= next.invoke;
                    let in_order =
                        |key| next.last_write(key).is_some() && other.last_write(key).is_some();
                    in_time || (other.place < next.place && (0..KEYS).any(in_order))
                };
                if left.iter().any(must_wait) {
                    return false;
                }
                let mut state = state.clone();
                for mop in &next.mops {
                    match mop {
                        Mop::Write(key, value) => drop(state.insert(*key, *value)),
                        Mop::Read(key, value) => {
                            let now = state.get(key).copied().unwrap_or(0);
                            if next.outcome == OpType::Ok && now != *value {
                                return false;
                            }
                        }
                    }
                }
                let mut rest = left.to_vec();
                rest.remove(i);
                go(&state, &rest, realtime)
            })
    }
    go(&BTreeMap::new(), txns, realtime)
}

#[test]
fn with_the_order_of_the_database_verdicts_are_those_of_brute_force() {
    let mut seen: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    for seed in 0..cases(2_000) {
        let mut random = Random(seed ^ 0x0dde);
        let txns = random_txns(&mut random);
        let was_read = |txn: &Txn| {
            txn.mops.iter().any(|mop| match mop {
                Mop::Write(key, value) => {
                    let read = Mop::Read(*key, *value);
                    txns.iter().any(|other| {
                        other.outcome == OpType::Ok
                            && other.place != txn.place
                            && other.mops.contains(&read)
                    })
                }
                Mop::Read(..) => false,
            })
        };
        let happened: Vec<&Txn> = txns
            .iter()
            .filter(|txn| match txn.outcome {
                OpType::Ok => true,
                OpType::Info => was_read(txn),
                _ => false,
            })
            .collect();
        // What nobody wrote may have been there before, which no option can say.
        let written: Vec<&Mop> = txns.iter().flat_map(|txn| &txn.mops).collect();
        let is_stranger = |mop: &Mop| match mop {
            Mop::Read(key, value) => *value != 0 && !written.contains(&&Mop::Write(*key, *value)),
            Mop::Write(..) => false,
        };
        if happened.iter().any(|txn| txn.outcome == OpType::Ok && txn.mops.iter().any(is_stranger))
        {
            continue;
        }
        let (history, completions) = history(&txns);
        let order: serde_json::Map<String, Json> = happened
            .iter()
            .map(|txn| (completions[txn.place].to_string(), txn.place.into()))
            .collect();
        for (model, realtime) in [("serializable", false), ("strict-serializable", true)] {
            let options = json!({ "consistency-model": model, "transaction-order": order });
            let result = check("rw-register", options, &history);
            let holds = serializable(&happened, realtime);
            *seen.entry((model, holds)).or_default() += 1;
            assert_eq!(
                result.verdict == Verdict::Invalid,
                !holds,
                "seed {seed} {model}: {result:#?}\n{order:?}\n{}",
                show(&history)
            );
        }
    }
    assert!(seen.len() == 4 && seen.values().all(|count| *count > 50), "{seen:?}");
}

/// The pairs of versions of a key that the assumptions order, and all that follows from them.
fn version_order(txns: &[Txn], key: i64, assumed: [bool; 3]) -> BTreeSet<(i64, i64)> {
    let [sequential, linearizable, wfr] = assumed;
    let mut order: BTreeSet<(i64, i64)> = BTreeSet::new();
    let mut versions: BTreeSet<i64> = BTreeSet::new();
    for txn in txns {
        for mop in &txn.mops {
            match mop {
                Mop::Write(k, value) if *k == key => drop(versions.insert(*value)),
                Mop::Read(k, value) if *k == key && txn.first_read(key) == Some(*value) => {
                    versions.insert(*value);
                }
                _ => {}
            }
        }
    }
    order.extend(versions.iter().filter(|version| **version != 0).map(|version| (0, *version)));
    for a in txns.iter().filter(|txn| txn.outcome == OpType::Ok) {
        if wfr && let (Some(read), Some(write)) = (a.first_read(key), a.last_write(key)) {
            order.insert((read, write));
        }
        for b in txns.iter().filter(|txn| txn.outcome != OpType::Fail) {
            let is_before = (linearizable && a.complete <= b.invoke)
                || (sequential && a.process == b.process && a.complete <= b.invoke);
            if is_before && let (Some((_, last)), Some((first, _))) = (a.met(key), b.met(key)) {
                order.insert((last, first));
            }
        }
    }
    order.retain(|(a, b)| a != b);
    loop {
        let more: Vec<(i64, i64)> = order
            .iter()
            .flat_map(|(a, b)| {
                order.range((*b, i64::MIN)..(*b + 1, i64::MIN)).map(|(_, c)| (*a, *c))
            })
            .filter(|pair| !order.contains(pair))
            .collect();
        if more.is_empty() {
            return order;
        }
        order.extend(more);
    }
}

type Dependencies = BTreeMap<(usize, usize), BTreeSet<&'static str>>;

fn dependencies(txns: &[Txn], orders: &[BTreeSet<(i64, i64)>]) -> Dependencies {
    let mut all = Dependencies::new();
    for (a, from) in txns.iter().enumerate() {
        for (b, to) in txns.iter().enumerate() {
            if a == b || from.outcome == OpType::Fail || to.outcome == OpType::Fail {
                continue;
            }
            let mut add = |kind| {
                all.entry((a, b)).or_default().insert(kind);
            };
            for key in 0..KEYS {
                let order = &orders[key as usize];
                let (wrote, writes) = (from.last_write(key), to.last_write(key));
                if wrote.is_some() && to.first_read(key) == wrote {
                    add("wr");
                }
                if let (Some(v), Some(w)) = (wrote, writes)
                    && order.contains(&(v, w))
                {
                    add("ww");
                }
                if let (Some(v), Some(w)) = (from.first_read(key), writes)
                    && order.contains(&(v, w))
                {
                    add("rw");
                }
            }
            if from.outcome == OpType::Ok && from.complete <= to.invoke {
                add("time");
            }
        }
    }
    all
}

fn name(kinds: &[&'static str]) -> &'static str {
    let count = |kind| kinds.iter().filter(|k| **k == kind).count();
    let n = kinds.len();
    let adjacent = (0..n).any(|i| kinds[i] == "rw" && kinds[(i + 1) % n] == "rw");
    let row = match (count("rw"), count("wr")) {
        (0, 0) => ["G0", "G0-realtime"],
        (0, _) => ["G1c", "G1c-realtime"],
        (1, _) => ["G-single-item", "G-single-item-realtime"],
        _ if adjacent => ["G2-item", "G2-item-realtime"],
        _ => ["G-nonadjacent-item", "G-nonadjacent-item-realtime"],
    };
    row[usize::from(count("time") > 0)]
}

/// The names of all simple cycles.
fn cycle_names(all: &Dependencies, count: usize, time: bool) -> BTreeSet<&'static str> {
    fn go(
        all: &Dependencies,
        time: bool,
        path: &mut Vec<usize>,
        kinds: &mut Vec<&'static str>,
        names: &mut BTreeSet<&'static str>,
    ) {
        let at = path[path.len() - 1];
        for ((_, to), between) in all.range((at, 0)..(at + 1, 0)) {
            for kind in between.iter().filter(|kind| time || **kind != "time") {
                kinds.push(kind);
                if *to == path[0] {
                    names.insert(name(kinds));
                } else if *to > path[0] && !path.contains(to) {
                    path.push(*to);
                    go(all, time, path, kinds, names);
                    path.pop();
                }
                kinds.pop();
            }
        }
    }
    let mut names = BTreeSet::new();
    for start in 0..count {
        go(all, time, &mut vec![start], &mut Vec::new(), &mut names);
    }
    names
}

#[test]
fn what_follows_from_assumptions_is_found() {
    let lattice = Lattice::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..cases(2_500) {
        let mut random = Random(seed ^ 0xa55e);
        let mut txns = random_txns(&mut random);
        if random.chance(40) {
            interleave(&mut random, &mut txns);
        }
        let (history, _) = history(&txns);
        let assumed = [seed & 1 != 0, seed & 2 != 0, seed & 4 != 0];
        let orders: Vec<_> = (0..KEYS).map(|key| version_order(&txns, key, assumed)).collect();
        let has_circle = orders.iter().flatten().any(|(a, b)| a == b);
        let all = dependencies(&txns, &orders);
        for (model, time) in [("serializable", false), ("strict-serializable", true)] {
            let options = json!({
                "consistency-model": model,
                "sequential-keys": assumed[0],
                "linearizable-keys": assumed[1],
                "wfr-keys": assumed[2],
            });
            let result = check("rw-register", options, &history);
            let told: BTreeSet<&'static str> = ["anomaly-types", "tolerated-anomaly-types"]
                .iter()
                .flat_map(|list| result.details[list].as_array().into_iter().flatten())
                .filter_map(|name| name.as_str().and_then(|name| lattice.anomaly(name)))
                .filter(|name| *name != "garbage-read")
                .collect();
            let context =
                || format!("seed {seed} {model} {assumed:?} {result:#?}\n{}", show(&history));
            assert_eq!(told.contains("cyclic-versions"), has_circle, "{}", context());
            if has_circle {
                // An order that contradicts itself has no dependencies to compare with.
                *seen.entry("cyclic-versions").or_default() += 1;
                continue;
            }
            let truth = cycle_names(&all, txns.len(), time);
            let is_cycle = |name: &&&'static str| {
                name.starts_with("G-") || ["G0", "G1c", "G2"].iter().any(|g| name.starts_with(g))
            };
            for name in told.iter().filter(is_cycle) {
                *seen.entry(name).or_default() += 1;
                assert!(truth.contains(name), "{name} of {truth:?}: {}", context());
            }
            let shown = lattice.shown_by(told.iter().copied());
            let impossible = lattice.impossible(told.iter().copied());
            for name in &truth {
                let is_told =
                    shown.contains(name) || lattice.impossible([*name]).is_subset(&impossible);
                assert!(is_told, "{name} is missing in {told:?}: {}", context());
            }
        }
    }
    for name in [
        "cyclic-versions",
        "G0-realtime",
        "G1c",
        "G-single-item",
        "G2-item",
        "G-single-item-realtime",
    ] {
        assert!(seen.get(name).is_some_and(|count| *count > 0), "{name} never came up: {seen:?}");
    }
}
