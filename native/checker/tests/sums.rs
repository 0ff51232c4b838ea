//! `counter`, `queue`, `total-queue`, `unique-ids`, `bank` and `long-fork` against their definitions
//! written out naively, and planted anomalies.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{History, Op, OpType, Value, Verdict};
use serde_json::json;

fn ok<'a>(completion: &Option<&'a Op>) -> Option<&'a Op> {
    completion.filter(|c| c.op_type == OpType::Ok)
}

fn failed(completion: &Option<&Op>) -> bool {
    completion.is_some_and(|c| c.op_type == OpType::Fail)
}

/// Concurrent processes with operations that `draw` gives; ends each as `end` says.
fn run(
    random: &mut Random,
    operations: usize,
    draw: &mut dyn FnMut(&mut Random) -> (&'static str, Value),
    end: &mut dyn FnMut(&mut Random, &str, &Value) -> Value,
) -> History {
    let mut builder = Builder::default();
    let processes = 1 + random.below(4);
    let mut names: Vec<i64> = (0..processes as i64).collect();
    let mut open: Vec<Option<(&'static str, Value)>> = vec![None; processes];
    let mut left = operations;
    while left > 0 || open.iter().any(Option::is_some) {
        let p = random.below(processes);
        match open[p].take() {
            None if left > 0 => {
                left -= 1;
                let op = draw(random);
                builder.invoke(names[p], op.0, op.1.clone());
                open[p] = Some(op);
            }
            None => {}
            Some((f, argument)) => match random.below(10) {
                0 => {
                    builder.fail(names[p], f, argument);
                }
                1 => {
                    builder.info(names[p], f, argument);
                    names[p] += processes as i64;
                }
                _ => {
                    let result = end(random, f, &argument);
                    builder.ok(names[p], f, result);
                }
            },
        }
    }
    builder.history()
}

fn assert_verdict(name: &str, history: &History, expected: Verdict, case: u64) {
    let result = check(name, json!({}), history);
    assert_eq!(result.verdict, expected, "{name} {case}: {}\n{}", result.reason, show(history));
    assert_eq!(result.anomalies.is_empty(), expected != Verdict::Invalid, "{name} {case}");
}

fn both_tried(name: &str, seen: [u64; 3]) {
    assert!(seen[0] > 100 && seen[2] > 100, "{name}: both verdicts were tried: {seen:?}");
}

#[test]
fn counter_is_the_definition() {
    let mut seen = [0; 3];
    for case in 0..cases(5_000) {
        let mut random = Random(case);
        let operations = random.below(10);
        let history = run(
            &mut random,
            operations,
            &mut |random| match random.below(2) {
                0 => ("add", int(random.below(4) as i64)),
                _ => ("read", Value::Nil),
            },
            &mut |random, f, argument| match f {
                "add" => argument.clone(),
                _ => int(random.below(5) as i64),
            },
        );
        let pairs: Vec<_> = history.client_pairs().collect();
        let valid = pairs.iter().filter(|(i, _)| i.f == "read").all(|(read, c)| {
            let Some(done) = ok(c) else { return true };
            let adds = || pairs.iter().filter(|(i, _)| i.f == "add");
            let lower: i64 = adds()
                .filter(|(_, c)| ok(c).is_some_and(|c| c.index < read.index))
                .map(|(i, _)| i.value.as_int().unwrap())
                .sum();
            let upper: i64 = adds()
                .filter(|(i, c)| i.index < done.index && !failed(c))
                .map(|(i, _)| i.value.as_int().unwrap())
                .sum();
            (lower..=upper).contains(&done.value.as_int().unwrap())
        });
        let expected = if valid { Verdict::Valid } else { Verdict::Invalid };
        assert_verdict("counter", &history, expected, case);
        seen[expected as usize] += 1;
    }
    both_tried("counter", seen);
}

#[test]
fn queues_are_their_definitions() {
    let (mut seen_queue, mut seen_total) = ([0; 3], [0; 3]);
    for case in 0..cases(5_000) {
        let mut random = Random(case);
        let operations = random.below(10);
        let mut next = 0;
        let wild = random.chance(40);
        let mut inside: Vec<i64> = Vec::new();
        let history = run(
            &mut random,
            operations,
            &mut |random| match random.below(2) {
                0 => {
                    next += 1;
                    ("enqueue", int(next / 2))
                }
                _ => ("dequeue", Value::Nil),
            },
            &mut |random, f, argument| {
                if f == "enqueue" {
                    inside.push(argument.as_int().unwrap());
                    return argument.clone();
                }
                if wild && random.chance(30) {
                    return int(random.below(6) as i64);
                }
                if inside.is_empty() { Value::Nil } else { int(inside.remove(0)) }
            },
        );
        let pairs: Vec<_> = history.client_pairs().collect();
        let took = |c: &Option<&Op>| ok(c).map(|c| c.value.clone()).filter(|v| !v.is_nil());
        let taken: Vec<(u64, Value)> = pairs
            .iter()
            .filter(|(i, _)| i.f == "dequeue")
            .filter_map(|(_, c)| Some((ok(c)?.index, took(c)?)))
            .collect();
        let put = |value: &Value, before: u64, failures: bool| {
            pairs
                .iter()
                .filter(|(i, _)| i.f == "enqueue" && i.value == *value && i.index < before)
                .filter(|(_, c)| failures || !failed(c))
                .count()
        };
        let queue_valid = taken.iter().all(|(at, value)| {
            taken.iter().filter(|(t, v)| t <= at && v == value).count() <= put(value, *at, false)
        });
        let expected = if queue_valid { Verdict::Valid } else { Verdict::Invalid };
        assert_verdict("queue", &history, expected, case);
        seen_queue[expected as usize] += 1;

        let elements: BTreeSet<Value> = pairs
            .iter()
            .filter(|(i, _)| i.f == "enqueue")
            .map(|(i, _)| i.value.clone())
            .chain(taken.iter().map(|(_, v)| v.clone()))
            .collect();
        let total_valid = elements.iter().all(|element| {
            let out = taken.iter().filter(|(_, v)| v == element).count();
            let acknowledged = pairs
                .iter()
                .filter(|(i, c)| i.f == "enqueue" && i.value == *element && ok(c).is_some())
                .count();
            out >= acknowledged && (out == 0 || put(element, u64::MAX, true) > 0)
        });
        let expected = if total_valid { Verdict::Valid } else { Verdict::Invalid };
        assert_verdict("total-queue", &history, expected, case);
        seen_total[expected as usize] += 1;
    }
    both_tried("queue", seen_queue);
    both_tried("total-queue", seen_total);
}

#[test]
fn a_drain_takes_and_an_indeterminate_one_excuses() {
    let mut builder = Builder::default();
    for n in 0..4 {
        builder.done(0, "enqueue", int(n), int(n));
    }
    let mut drained = builder.clone();
    drained.done(1, "drain", Value::Nil, Value::list((0..4).map(int).collect::<Vec<_>>()));
    assert_verdict("total-queue", &drained.history(), Verdict::Valid, 0);
    builder.invoke(1, "drain", Value::Nil);
    builder.info(1, "drain", Value::Nil);
    assert_verdict("total-queue", &builder.history(), Verdict::Unknown, 0);
    let mut twice = drained.clone();
    twice.done(2, "dequeue", Value::Nil, int(3));
    assert_verdict("total-queue", &twice.history(), Verdict::Valid, 0);
    let result = check("total-queue", json!({"duplicates": "forbid"}), &twice.history());
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies[0].name, "duplicated");
}

#[test]
fn identifiers_are_unique_or_told() {
    let mut seen = [0; 3];
    for case in 0..cases(3_000) {
        let mut random = Random(case);
        let (operations, range) = (1 + random.below(8), 1 + random.below(60));
        let history =
            run(&mut random, operations, &mut |_| ("generate", Value::Nil), &mut |random, _, _| {
                int(random.below(range) as i64)
            });
        let ids: Vec<&Value> = history
            .client_ops()
            .filter(|op| op.op_type == OpType::Ok)
            .map(|op| &op.value)
            .collect();
        let distinct: BTreeSet<&Value> = ids.iter().copied().collect();
        let unique = distinct.len() == ids.len();
        let expected = if unique { Verdict::Valid } else { Verdict::Invalid };
        assert_verdict("unique-ids", &history, expected, case);
        seen[expected as usize] += 1;
    }
    both_tried("unique-ids", seen);
}

#[test]
fn a_bank_keeps_its_total() {
    let balances = |amounts: &[i64]| {
        Value::map(amounts.iter().enumerate().map(|(i, n)| (int(i as i64), int(*n))))
    };
    let mut builder = Builder::default();
    builder.done(0, "read", Value::Nil, balances(&[10, 0, 5]));
    builder.done(0, "read", Value::Nil, balances(&[3, 7, 5]));
    assert_verdict("bank", &builder.history(), Verdict::Valid, 0);
    assert_verdict("bank", &History::default(), Verdict::Valid, 0);
    for (name, value) in [
        ("wrong-total", balances(&[3, 7, 6])),
        ("negative-value", balances(&[16, -1, 0])),
        ("nil-balance", Value::map([(int(0), int(15)), (int(1), Value::Nil)])),
    ] {
        let mut broken = builder.clone();
        broken.done(1, "read", Value::Nil, value);
        let result = check("bank", json!({}), &broken.history());
        assert_eq!(result.verdict, Verdict::Invalid, "{name}");
        assert_eq!(result.anomalies[0].name, name);
        assert_eq!(result.anomalies[0].ops, [4, 5]);
        let allowed = check("bank", json!({"negative-balances": true}), &broken.history());
        let expected = if name == "negative-value" { Verdict::Valid } else { Verdict::Invalid };
        assert_eq!(allowed.verdict, expected, "{name}");
    }
    // An account that is missing, even if it had nothing.
    let mut missing = builder.clone();
    missing.done(1, "read", Value::Nil, Value::map([(int(0), int(10)), (int(2), int(5))]));
    let result = check("bank", json!({}), &missing.history());
    assert_eq!(result.anomalies[0].name, "missing-account", "{}", result.reason);
    let options = json!({"total-amount": 16, "accounts": [0, 1, 2]});
    assert_eq!(check("bank", options, &builder.history()).verdict, Verdict::Invalid);
    let options = json!({"accounts": [0, 1]});
    let result = check("bank", options, &builder.history());
    assert_eq!(result.anomalies[0].name, "unexpected-key");
}

#[test]
fn forks_are_pairs_of_reads_that_each_miss_something() {
    let mut seen = [0; 3];
    for case in 0..cases(3_000) {
        let mut random = Random(case);
        let size = 2 + random.below(2) as i64;
        let mut builder = Builder::default();
        for key in 0..size {
            let write = Value::list(vec![Value::list(vec![Value::sym("w"), int(key), int(1)])]);
            builder.done(0, "write", write.clone(), write);
        }
        for _ in 0..1 + random.below(4) {
            let read = |random: Option<&mut Random>| {
                let mut random = random;
                let items = (0..size).map(|key| {
                    let sees = random.as_mut().is_some_and(|random| random.chance(60));
                    let value = if sees { int(1) } else { Value::Nil };
                    Value::list(vec![Value::sym("r"), int(key), value])
                });
                Value::list(items.collect::<Vec<_>>())
            };
            let result = read(Some(&mut random));
            builder.done(1, "read", read(None), result);
        }
        let history = builder.history();
        let reads: Vec<BTreeMap<i64, bool>> = history
            .client_ops()
            .filter(|op| op.f == "read" && op.op_type == OpType::Ok)
            .map(|op| {
                let items = op.value.items().unwrap().iter().map(|m| m.items().unwrap());
                items.map(|m| (m[1].as_int().unwrap(), !m[2].is_nil())).collect()
            })
            .collect();
        let misses = |a: &BTreeMap<i64, bool>, b: &BTreeMap<i64, bool>| {
            a.iter().any(|(key, seen)| *seen && !b[key])
        };
        let fork = reads.iter().any(|a| reads.iter().any(|b| misses(a, b) && misses(b, a)));
        let expected = if fork { Verdict::Invalid } else { Verdict::Valid };
        let result = check("long-fork", json!({"group-size": size}), &history);
        assert_eq!(result.verdict, expected, "case {case}: {}\n{}", result.reason, show(&history));
        seen[expected as usize] += 1;
    }
    both_tried("long-fork", seen);
}

#[test]
fn reads_that_tell_nothing_are_unknown() {
    let write = |key: i64| Value::list(vec![Value::list(vec![Value::sym("w"), int(key), int(1)])]);
    let mut builder = Builder::default();
    builder.done(0, "write", write(0), write(0));
    builder.done(0, "write", write(0), write(0));
    let result = check("long-fork", json!({}), &builder.history());
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains("written twice"), "{}", result.reason);
}
