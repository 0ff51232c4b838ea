//! `list-append` and `rw-register` against brute force, on small random histories.
//!
//! The oracle for verdicts tries every order of the transactions (any subset of those that ended with
//! info) and looks whether one explains all reads. For lists whose last version is read at the end, nothing
//! is left unknown, so both must agree exactly; for registers, what is called invalid must be. The oracle for
//! names lists every simple cycle of the dependencies as Adya defines them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_checker::elle::models::Lattice;
use fuzz_dist_core::{History, OpType, Value, Verdict};
use serde_json::json;

#[derive(Debug, Clone)]
struct Mop {
    write: bool,
    key: i64,
    /// What was written.
    value: i64,
    /// What was read: the whole list; of a register, the last element.
    list: Vec<i64>,
}

#[derive(Debug, Clone)]
struct Txn {
    process: i64,
    outcome: OpType,
    mops: Vec<Mop>,
    invoke: usize,
    complete: usize,
}

type State = BTreeMap<i64, Vec<i64>>;

/// Clients whose transactions take effect one after the other, but sometimes read an older state, or lose
/// what they did.
fn random_txns(random: &mut Random, bad_percent: usize, final_read: bool) -> Vec<Txn> {
    let count = 2 + random.below(4);
    let mut states: Vec<State> = vec![State::new()];
    let mut next_value = 1;
    let mut txns = Vec::new();
    let mut free_from = [0usize; 3];
    for n in 0..count {
        let process = random.below(3);
        let outcome = match random.below(12) {
            0 => OpType::Info,
            1 => OpType::Fail,
            _ => OpType::Ok,
        };
        let mut state = states[states.len() - 1].clone();
        let is_stale = random.chance(bad_percent);
        let mut seen = match is_stale {
            true => states[random.below(states.len())].clone(),
            false => state.clone(),
        };
        let mut mops = Vec::new();
        for _ in 0..1 + random.below(3) {
            let key = random.below(2) as i64;
            if random.chance(50) {
                let value = next_value;
                next_value += 1;
                state.entry(key).or_default().push(value);
                seen.entry(key).or_default().push(value);
                mops.push(Mop { write: true, key, value, list: Vec::new() });
            } else {
                let list = seen.get(&key).cloned().unwrap_or_default();
                mops.push(Mop { write: false, key, value: 0, list });
            }
        }
        let happened = match outcome {
            OpType::Ok => true,
            OpType::Info => random.chance(50),
            _ => random.chance(bad_percent / 2),
        };
        if happened {
            states.push(state);
        }
        // Takes effect at 100 * (n + 1); begins up to two others earlier, ends up to two later.
        let effect = 100 * (n + 1);
        let invoke = (effect - random.below(250).min(effect)).max(free_from[process] + 1);
        let invoke = if invoke > effect { free_from[process] + 1 } else { invoke };
        let complete = (effect + random.below(250)).max(invoke + 1);
        free_from[process] = complete;
        txns.push(Txn { process: process as i64 + 10 * n as i64, outcome, mops, invoke, complete });
    }
    if final_read {
        let state = &states[states.len() - 1];
        let read = |key| Mop {
            write: false,
            key,
            value: 0,
            list: state.get(&key).cloned().unwrap_or_default(),
        };
        let at = 100 * (count + 10);
        txns.push(Txn {
            process: 99,
            outcome: OpType::Ok,
            mops: vec![read(0), read(1)],
            invoke: at,
            complete: at + 1,
        });
    }
    txns
}

/// Transactions whose reads and writes happen in any order, seen at once by everyone: no isolation at all.
fn interleaved_txns(random: &mut Random) -> Vec<Txn> {
    let mut txns = random_txns(random, 0, true);
    let last = txns.len() - 1;
    let mut state = State::new();
    let mut next = vec![0; last];
    while let Some(some) =
        (0..last).filter(|n| next[*n] < txns[*n].mops.len()).min_by_key(|_| random.next())
    {
        let failed = txns[some].outcome == OpType::Fail;
        let mop = &mut txns[some].mops[next[some]];
        next[some] += 1;
        if !mop.write {
            mop.list = state.get(&mop.key).cloned().unwrap_or_default();
        } else if !failed {
            state.entry(mop.key).or_default().push(mop.value);
        }
    }
    for mop in &mut txns[last].mops {
        mop.list = state.get(&mop.key).cloned().unwrap_or_default();
    }
    txns
}

fn history(txns: &[Txn], lists: bool) -> History {
    let value = |txn: &Txn, done: bool| -> Value {
        let mops = txn.mops.iter().map(|mop| {
            let result = match (lists, done) {
                (_, false) => Value::Nil,
                (true, true) => Value::list(mop.list.iter().map(|v| int(*v)).collect::<Vec<_>>()),
                (false, true) => mop.list.last().map_or(Value::Nil, |v| int(*v)),
            };
            let (f, value) = match mop.write {
                true => (if lists { "append" } else { "w" }, int(mop.value)),
                false => ("r", result),
            };
            Value::list(vec![Value::sym(f), int(mop.key), value])
        });
        Value::list(mops.collect::<Vec<_>>())
    };
    let mut events: Vec<(usize, bool, &Txn)> = Vec::new();
    for txn in txns {
        events.push((txn.invoke, false, txn));
        events.push((txn.complete, true, txn));
    }
    events.sort_by_key(|(at, done, txn)| (*at, !*done, txn.process));
    let mut builder = Builder::default();
    for (_, done, txn) in events {
        match (done, txn.outcome) {
            (false, _) => builder.invoke(txn.process, "txn", value(txn, false)),
            (true, OpType::Ok) => builder.ok(txn.process, "txn", value(txn, true)),
            (true, OpType::Fail) => builder.fail(txn.process, "txn", value(txn, false)),
            (true, _) => builder.info(txn.process, "txn", value(txn, false)),
        };
    }
    builder.history()
}

/// Whether the transactions in this order show what they did; registers only their last version.
fn explains(order: &[&Txn], lists: bool) -> bool {
    let mut state = State::new();
    order.iter().all(|txn| {
        txn.mops.iter().all(|mop| {
            let list = state.entry(mop.key).or_default();
            if mop.write {
                list.push(mop.value);
                return true;
            }
            txn.outcome != OpType::Ok
                || if lists { *list == mop.list } else { list.last() == mop.list.last() }
        })
    })
}

/// Whether some order of the transactions, respecting real time if asked, explains everything.
fn serializable(txns: &[Txn], lists: bool, realtime: bool) -> bool {
    fn go<'a>(order: &mut Vec<&'a Txn>, left: &[&'a Txn], lists: bool, realtime: bool) -> bool {
        if !explains(order, lists) {
            return false;
        }
        if left.iter().all(|txn| txn.outcome == OpType::Info) {
            return true;
        }
        (0..left.len()).any(|i| {
            let next = left[i];
            let must_wait =
                |other: &&Txn| other.outcome == OpType::Ok && other.complete <= next.invoke;
            if realtime && left.iter().any(must_wait) {
                return false;
            }
            let mut rest = left.to_vec();
            rest.remove(i);
            order.push(next);
            let found = go(order, &rest, lists, realtime);
            order.pop();
            found
        })
    }
    let left: Vec<&Txn> = txns.iter().filter(|txn| txn.outcome != OpType::Fail).collect();
    go(&mut Vec::new(), &left, lists, realtime)
}

#[test]
fn verdicts_on_lists_are_those_of_brute_force() {
    let mut seen = BTreeMap::new();
    for seed in 0..cases(2_000) {
        let mut random = Random(seed);
        let mut complete = random.chance(70);
        let txns = match random.chance(30) {
            true => interleaved_txns(&mut random),
            false => random_txns(&mut random, 30, complete),
        };
        complete |= txns[txns.len() - 1].process == 99;
        let history = history(&txns, true);
        for (model, realtime) in [("serializable", false), ("strict-serializable", true)] {
            let result = check("list-append", json!({ "consistency-model": model }), &history);
            let holds = serializable(&txns, true, realtime);
            *seen.entry((model, complete, result.verdict, holds)).or_insert(0) += 1;
            let is_invalid = result.verdict == Verdict::Invalid;
            assert!(!(is_invalid && holds), "seed {seed} {model}: {result:#?}\n{}", show(&history));
            if complete {
                assert!(
                    is_invalid != holds,
                    "seed {seed} {model}: {result:#?}\n{}",
                    show(&history)
                );
            }
        }
    }
    println!("{seen:#?}");
    let count =
        |wanted| seen.iter().filter(|(key, _)| key.3 == wanted).map(|(_, n)| n).sum::<i32>();
    assert!(count(true) > 100 && count(false) > 100, "{seen:?}");
}

#[test]
fn what_is_invalid_on_registers_is_so() {
    let mut invalid = 0;
    for seed in 0..cases(2_000) {
        let mut random = Random(seed);
        let txns = match seed % 3 {
            0 => interleaved_txns(&mut random),
            n => random_txns(&mut random, 30, n == 1),
        };
        let history = history(&txns, false);
        let assumed =
            json!({ "sequential-keys": true, "linearizable-keys": true, "wfr-keys": true });
        let plain = json!({ "consistency-model": "serializable", "wfr-keys": true });
        for (options, realtime) in [(plain, false), (assumed, true)] {
            let result = check("rw-register", options, &history);
            if result.verdict == Verdict::Invalid {
                invalid += 1;
                let holds = serializable(&txns, false, realtime);
                assert!(!holds, "seed {seed}: {result:#?}\n{}", show(&history));
            }
        }
    }
    assert!(invalid > 200, "only {invalid}");
}

/// Kinds of dependencies between each two transactions, straight from the definitions; the versions of a
/// key are those of the last transaction, which reads everything.
fn dependencies(txns: &[Txn]) -> BTreeMap<(usize, usize), BTreeSet<&'static str>> {
    let mut all: BTreeMap<(usize, usize), BTreeSet<&'static str>> = BTreeMap::new();
    let last = &txns[txns.len() - 1];
    for key in 0..2 {
        let versions = &last.mops[key as usize].list;
        let of_key = |txn: &Txn, write: bool| -> Vec<Mop> {
            txn.mops.iter().filter(|mop| mop.key == key && mop.write == write).cloned().collect()
        };
        let place = |value: &i64| versions.iter().position(|v| v == value);
        for (a, from) in txns.iter().enumerate() {
            for (b, to) in txns.iter().enumerate() {
                if a == b || from.outcome == OpType::Fail || to.outcome == OpType::Fail {
                    continue;
                }
                let mut add = |kind| all.entry((a, b)).or_default().insert(kind);
                for write in of_key(to, true) {
                    // What nobody saw comes last.
                    let before = match place(&write.value) {
                        Some(0) => None,
                        Some(place) => Some(versions[place - 1]),
                        None => versions.last().copied(),
                    };
                    if of_key(from, true).iter().any(|mop| Some(mop.value) == before) {
                        add("ww");
                    }
                    let saw = |mop: &Mop| mop.list.last().copied() == before;
                    if from.outcome == OpType::Ok && of_key(from, false).iter().any(saw) {
                        add("rw");
                    }
                }
                if to.outcome == OpType::Ok {
                    for read in of_key(to, false) {
                        let wrote = |mop: &Mop| Some(&mop.value) == read.list.last();
                        if of_key(from, true).iter().any(wrote) {
                            add("wr");
                        }
                    }
                }
                if from.outcome == OpType::Ok && from.complete <= to.invoke {
                    add("time");
                }
            }
        }
    }
    for kinds in all.values_mut() {
        if kinds.contains("ww") || kinds.contains("wr") {
            kinds.remove("rw");
        }
    }
    all
}

/// The names of all simple cycles.
fn cycle_names(txns: &[Txn], time: bool) -> BTreeSet<&'static str> {
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
    type All = BTreeMap<(usize, usize), BTreeSet<&'static str>>;
    fn go(
        all: &All,
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
    let all = dependencies(txns);
    let mut names = BTreeSet::new();
    for start in 0..txns.len() {
        go(&all, time, &mut vec![start], &mut Vec::new(), &mut names);
    }
    names
}

#[test]
fn names_of_cycles_are_those_of_all_simple_cycles() {
    let lattice = Lattice::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..cases(4_000) {
        let mut random = Random(seed ^ 0xe11e);
        let txns = match random.chance(50) {
            true => interleaved_txns(&mut random),
            false => random_txns(&mut random, 45, true),
        };
        let history = history(&txns, true);
        for (model, time) in [("serializable", false), ("strict-serializable", true)] {
            let result = check("list-append", json!({ "consistency-model": model }), &history);
            // An order that contradicts itself has no definition to compare with.
            let told: BTreeSet<&'static str> = result.details["anomaly-types"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|name| name.as_str().and_then(|name| lattice.anomaly(name)))
                .collect();
            if told.contains("incompatible-order") || told.contains("garbage-read") {
                continue;
            }
            let truth = cycle_names(&txns, time);
            let cycles: BTreeSet<&'static str> = told
                .iter()
                .copied()
                .filter(|name| {
                    name.starts_with("G-")
                        || ["G0", "G1c", "G2"].iter().any(|g| name.starts_with(g))
                })
                .collect();
            for name in &cycles {
                *seen.entry(name).or_default() += 1;
                assert!(
                    truth.contains(name),
                    "seed {seed}: {name} of {truth:?}\n{result:#?}\n{}",
                    show(&history)
                );
            }
            let shown = lattice.shown_by(told.iter().copied());
            let impossible = lattice.impossible(told.iter().copied());
            for name in &truth {
                let is_implied = shown.contains(name);
                let rules_out = lattice.impossible([*name]);
                let is_told = is_implied || (time && rules_out.is_subset(&impossible));
                assert!(is_told, "seed {seed}: {name} is missing in {told:?}\n{}", show(&history));
            }
        }
    }
    for name in ["G0", "G1c", "G-single-item", "G2-item", "G-single-item-realtime"] {
        assert!(seen.get(name).is_some_and(|count| *count > 0), "{name} never came up: {seen:?}");
    }
}
