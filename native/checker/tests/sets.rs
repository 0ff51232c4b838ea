//! `set` and `set-full` against the definition written out naively, and planted anomalies.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{History, OpType, Sym, Value, Verdict};
use serde_json::json;

/// Jepsen's definition, element by element and read by read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    stable: u64,
    lost: u64,
    never_read: u64,
    stale: u64,
    duplicated: u64,
    unexpected: u64,
}

struct Read {
    invoke: usize,
    completion: usize,
    elements: Vec<Value>,
}

fn oracle(history: &History) -> Counts {
    let mut counts = Counts::default();
    let pairs: Vec<_> = history.client_pairs().collect();
    let ok = |c: &Option<&fuzz_dist_core::Op>| c.is_some_and(|c| c.op_type == OpType::Ok);
    let reads: Vec<Read> = pairs
        .iter()
        .filter(|(i, c)| i.f == "read" && ok(c))
        .map(|(i, c)| Read {
            invoke: i.index as usize,
            completion: c.unwrap().index as usize,
            elements: c.unwrap().value.items().unwrap_or_default().to_vec(),
        })
        .collect();
    let mut elements: BTreeSet<Value> = reads.iter().flat_map(|r| r.elements.clone()).collect();
    elements.extend(pairs.iter().filter(|(i, _)| i.f == "add").map(|(i, _)| i.value.clone()));
    for element in elements {
        let adds: Vec<_> =
            pairs.iter().filter(|(i, _)| i.f == "add" && i.value == element).collect();
        let sees = |read: &&Read| read.elements.contains(&element);
        counts.duplicated += u64::from(
            reads.iter().any(|r| r.elements.iter().filter(|e| **e == element).count() > 1),
        );
        let invoked = adds.iter().map(|(i, _)| i.index as usize).min();
        let failed = adds.iter().all(|(_, c)| c.is_some_and(|c| c.op_type == OpType::Fail));
        let seen_early = |at: usize| reads.iter().filter(sees).any(|read| read.completion < at);
        let unexpected = match invoked {
            None => true,
            Some(at) => seen_early(at) || failed && reads.iter().any(|r| sees(&r)),
        };
        counts.unexpected += u64::from(unexpected);
        let Some(invoked) = invoked else { continue };
        let acknowledged =
            adds.iter().filter(|(_, c)| ok(c)).map(|(_, c)| c.unwrap().index as usize).min();
        let first_seen = reads.iter().filter(sees).map(|r| r.completion).min();
        let known = [acknowledged, first_seen].into_iter().flatten().min();
        let present = reads.iter().filter(sees).map(|r| r.invoke).max();
        let absent =
            reads.iter().filter(|r| !sees(r) && r.completion > invoked).map(|r| r.invoke).max();
        let after_known = matches!((known, absent), (Some(k), Some(a)) if k < a);
        if lacks_at_the_end(history, &element, acknowledged) {
            counts.lost += 1;
        } else if present.is_some() && absent < present {
            counts.stable += 1;
            counts.stale += u64::from(after_known);
        } else if after_known && present < absent {
            counts.lost += 1;
        } else {
            counts.never_read += 1;
        }
    }
    counts
}

/// The last final read of each node.
fn last_finals(history: &History) -> BTreeMap<Sym, (u64, Vec<Value>)> {
    let mut last = BTreeMap::new();
    for (invoke, done) in history.client_pairs() {
        let is_final = invoke.extra("final?") == Some(&Value::Bool(true));
        if let (true, Some(done)) = (is_final, done.filter(|done| done.op_type == OpType::Ok)) {
            let elements = done.value.items().unwrap().to_vec();
            last.insert(invoke.node.unwrap(), (invoke.index, elements));
        }
    }
    last
}

fn lacks_at_the_end(history: &History, element: &Value, acknowledged: Option<usize>) -> bool {
    let acknowledged = acknowledged.map(|at| at as u64);
    last_finals(history).values().any(|(invoke, elements)| {
        acknowledged.is_some_and(|at| at < *invoke) && !elements.contains(element)
    })
}

/// Final reads on some nodes, which lack something, fail, or are repeated.
fn with_finals(random: &mut Random, history: History) -> History {
    let acknowledged: BTreeSet<Value> = history
        .ops()
        .iter()
        .filter(|op| op.op_type == OpType::Ok && op.f == "add")
        .map(|op| op.value.clone())
        .collect();
    let mut builder = Builder { ops: history.into_ops() };
    let mut process = 1_000;
    for node in ["n1", "n2", "n3"].into_iter().take(1 + random.below(3)) {
        for _ in 0..1 + random.below(2) {
            process += 1;
            let extra = Some(Arc::new(vec![(Sym::new("final?"), Value::Bool(true))]));
            let op = builder.invoke(process, "read", Value::Nil);
            (op.node, op.extra) = (Some(Sym::new(node)), extra.clone());
            let mut elements: Vec<Value> = acknowledged.iter().cloned().collect();
            if random.chance(15) && !elements.is_empty() {
                elements.remove(random.below(elements.len()));
            }
            let op = if random.chance(15) {
                builder.fail(process, "read", Value::Nil)
            } else {
                builder.ok(process, "read", Value::list(elements))
            };
            (op.node, op.extra) = (Some(Sym::new(node)), extra);
        }
    }
    builder.history()
}

#[test]
fn the_last_final_read_of_each_node_decides() {
    let (mut seen, mut stuck) = ([0u64; 3], 0u64);
    for case in 0..cases(10_000) {
        let mut random = Random(case);
        let operations = 1 + random.below(10);
        let forget = [0, 10][random.below(2)];
        let history = run(&mut random, operations, forget, 0);
        let history = with_finals(&mut random, history);
        let expected = oracle(&history);
        let result = check("set-full", json!({}), &history);
        let context = || format!("case {case}: {}\n{}", result.reason, show(&history));
        assert_eq!(result.counts["lost-count"], expected.lost, "{}", context());
        let asked: BTreeSet<Sym> = history.client_ops().filter_map(|op| op.node).collect();
        let answered = last_finals(&history);
        let silent = asked.iter().any(|node| !answered.contains_key(node));
        let bad = expected.lost + expected.duplicated + expected.unexpected > 0;
        let verdict = match bad {
            true => Verdict::Invalid,
            false if expected.stable == 0 || silent => Verdict::Unknown,
            false => Verdict::Valid,
        };
        assert_eq!(result.verdict, verdict, "{}", context());
        stuck += u64::from(result.details["missing-at-the-end"] != json!({}));
        seen[verdict as usize] += 1;
    }
    assert!(seen.iter().all(|n| *n > 100) && stuck > 100, "all was tried: {seen:?} {stuck}");
}

/// A set on a few replicas that forget, repeat and invent with the given percentages.
fn run(random: &mut Random, operations: usize, forget: usize, wild: usize) -> History {
    let mut builder = Builder::default();
    let processes = 1 + random.below(4);
    let mut open: Vec<Option<(&str, Value)>> = vec![None; processes];
    let mut names: Vec<i64> = (0..processes as i64).collect();
    let mut present: Vec<i64> = Vec::new();
    let (mut next, mut left) = (0, operations);
    while left > 0 || open.iter().any(Option::is_some) {
        let p = random.below(processes);
        match open[p].take() {
            None if left > 0 => {
                left -= 1;
                let op = if random.chance(50) {
                    next += 1;
                    let again = random.chance(10) && next > 1;
                    ("add", int(if again { next - 1 } else { next }))
                } else {
                    ("read", Value::Nil)
                };
                builder.invoke(names[p], op.0, op.1.clone());
                open[p] = Some(op);
            }
            None => {}
            Some(("add", value)) => {
                let element = value.as_int().unwrap();
                match random.below(10) {
                    0 => {
                        builder.fail(names[p], "add", value);
                        if random.chance(wild) {
                            present.push(element);
                        }
                    }
                    1 => {
                        builder.info(names[p], "add", value);
                        names[p] += processes as i64;
                        if random.chance(50) {
                            present.push(element);
                        }
                    }
                    _ => {
                        builder.ok(names[p], "add", value);
                        if !random.chance(forget) {
                            present.push(element);
                        }
                    }
                }
            }
            Some((f, _)) => {
                if random.chance(10) {
                    builder.info(names[p], f, Value::Nil);
                    names[p] += processes as i64;
                    continue;
                }
                let mut unique: BTreeSet<i64> = present.iter().copied().collect();
                if random.chance(forget) && !unique.is_empty() {
                    let gone = *unique.iter().nth(random.below(unique.len())).unwrap();
                    unique.remove(&gone);
                }
                let mut elements: Vec<Value> = unique.into_iter().map(int).collect();
                if random.chance(wild) {
                    elements.push(int(random.below(next as usize + 3) as i64));
                }
                builder.ok(names[p], f, Value::list(elements));
            }
        }
    }
    builder.history()
}

#[test]
fn set_full_is_the_definition() {
    let mut seen = [0u64; 3];
    for case in 0..cases(10_000) {
        let mut random = Random(case);
        let operations = 1 + random.below(14);
        let (forget, wild) = ([0, 10, 30][random.below(3)], [0, 5][random.below(2)]);
        let history = run(&mut random, operations, forget, wild);
        let linearizable = random.chance(50);
        let expected = oracle(&history);
        let result = check("set-full", json!({"linearizable": linearizable}), &history);
        let got = Counts {
            stable: result.counts["stable-count"],
            lost: result.counts["lost-count"],
            never_read: result.counts["never-read-count"],
            stale: result.counts["stale-count"],
            duplicated: result.counts["duplicated-count"],
            unexpected: result.counts["unexpected-count"],
        };
        assert_eq!(got, expected, "case {case}\n{}", show(&history));
        let bad = expected.lost + expected.duplicated + expected.unexpected > 0
            || linearizable && expected.stale > 0;
        let verdict = match (bad, expected.stable) {
            (true, _) => Verdict::Invalid,
            (false, 0) => Verdict::Unknown,
            _ => Verdict::Valid,
        };
        assert_eq!(result.verdict, verdict, "case {case}: {}\n{}", result.reason, show(&history));
        assert_eq!(result.anomalies.is_empty(), verdict != Verdict::Invalid, "evidence if invalid");
        seen[verdict as usize] += 1;
    }
    assert!(seen.iter().all(|n| *n > 100), "every verdict was tried: {seen:?}");
}

#[test]
fn set_is_the_definition() {
    let mut seen = [0u64; 3];
    for case in 0..cases(10_000) {
        let mut random = Random(case);
        let operations = 1 + random.below(12);
        let (forget, wild) = ([0, 10][random.below(2)], [0, 5][random.below(2)]);
        let history = run(&mut random, operations, forget, wild);
        let pairs: Vec<_> = history.client_pairs().collect();
        let with = |f: &str, op_type| -> BTreeSet<Value> {
            pairs
                .iter()
                .filter(|(i, c)| i.f == f && c.is_some_and(|c| c.op_type == op_type))
                .map(|(i, _)| i.value.clone())
                .collect()
        };
        let tried: BTreeSet<Value> =
            pairs.iter().filter(|(i, _)| i.f == "add").map(|(i, _)| i.value.clone()).collect();
        let acknowledged = with("add", OpType::Ok);
        let possible: BTreeSet<Value> =
            acknowledged.union(&with("add", OpType::Info)).cloned().collect();
        let last = history
            .client_ops()
            .filter(|op| op.f == "read" && op.op_type == OpType::Ok)
            .last()
            .map(|op| op.value.items().unwrap().iter().cloned().collect::<BTreeSet<Value>>());
        for (option, allowed) in [("forbid", &possible), ("allow", &tried)] {
            let expected = match &last {
                None => Verdict::Unknown,
                Some(read) if !acknowledged.is_subset(read) || !read.is_subset(allowed) => {
                    Verdict::Invalid
                }
                Some(_) => Verdict::Valid,
            };
            let result = check("set", json!({"failed-adds": option}), &history);
            assert_eq!(result.verdict, expected, "case {case} {option}\n{}", show(&history));
            seen[expected as usize] += 1;
        }
    }
    assert!(seen.iter().all(|n| *n > 100), "every verdict was tried: {seen:?}");
}

/// Adds and reads of one process, all correct.
fn correct(elements: i64) -> Builder {
    let mut builder = Builder::default();
    for n in 0..elements {
        builder.done(0, "add", int(n), int(n));
        if n % 100 == 99 {
            let all: Vec<Value> = (0..=n).map(int).collect();
            builder.done(1, "read", Value::Nil, Value::list(all));
        }
    }
    builder
}

#[test]
fn planted_anomalies_are_found_and_named() {
    let valid = correct(1_000);
    for name in ["set", "set-full"] {
        assert_eq!(check(name, json!({}), &valid.history()).verdict, Verdict::Valid, "{name}");
    }
    let with_last = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut builder = valid.clone();
        let mut all: Vec<Value> = (0..1_000).map(int).collect();
        change(&mut all);
        builder.done(1, "read", Value::Nil, Value::list(all));
        builder.history()
    };
    let lost = with_last(&|all| {
        all.remove(500);
    });
    let twice = with_last(&|all| all.push(int(3)));
    let unexpected = with_last(&|all| all.push(int(7_777)));
    for (name, history, anomaly, key) in [
        ("set", &lost, "lost", "500"),
        ("set-full", &lost, "lost", "500"),
        ("set-full", &twice, "duplicate", "3"),
        ("set", &unexpected, "unexpected", "7777"),
        ("set-full", &unexpected, "unexpected", "7777"),
    ] {
        let result = check(name, json!({}), history);
        assert_eq!(result.verdict, Verdict::Invalid, "{name} {anomaly}");
        assert_eq!(result.anomalies[0].name, anomaly);
        assert_eq!(result.anomalies[0].key.as_deref(), Some(key));
        assert!(result.anomalies[0].ops.contains(&(history.len() as u64 - 1)), "the last read");
    }
}

#[test]
fn a_stale_read_matters_only_when_asked_for() {
    let mut builder = Builder::default();
    builder.done(0, "add", int(1), int(1));
    builder.done(1, "read", Value::Nil, Value::list(vec![]));
    builder.done(1, "read", Value::Nil, Value::list(vec![int(1)]));
    let history = builder.history();
    assert_eq!(check("set-full", json!({}), &history).verdict, Verdict::Valid);
    let result = check("set-full", json!({"linearizable": true}), &history);
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies[0].name, "stale");
}

#[test]
fn independent_sets_are_apart() {
    let mut builder = Builder::default();
    let keyed = |key: i64, value: Value| Value::tuple(vec![int(key), value]);
    for key in 0..5 {
        builder.done(0, "add", keyed(key, int(1)), keyed(key, int(1)));
        let all = if key == 3 { vec![] } else { vec![int(1)] };
        builder.done(1, "read", keyed(key, Value::Nil), keyed(key, Value::list(all)));
    }
    let history = builder.history();
    let result = check("set-full", json!({"independent": true}), &history);
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.counts["keys-invalid"], 1);
    assert_eq!(result.anomalies[0].key.as_deref(), Some("3 1"));
    let read = history.ops()[result.anomalies[0].ops[3] as usize].clone();
    assert_eq!(read.value, keyed(3, Value::list(vec![])), "positions are of the whole history");
}
