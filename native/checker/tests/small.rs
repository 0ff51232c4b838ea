//! The checkers that need no search against their definitions written out naively, and planted anomalies.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;

use common::{Builder, Random, cases, check, int, pair, show};
use fuzz_dist_core::{History, Op, OpType, Sym, Value, Verdict};
use serde_json::json;

fn list(items: impl IntoIterator<Item = i64>) -> Value {
    Value::list(items.into_iter().map(int).collect::<Vec<_>>())
}

fn numbers(value: &Value) -> BTreeSet<i64> {
    value.items().unwrap().iter().map(|item| item.as_int().unwrap()).collect()
}

fn verdict(valid: bool) -> Verdict {
    if valid { Verdict::Valid } else { Verdict::Invalid }
}

fn oks<'a>(history: &'a History, f: &str) -> Vec<(&'a Op, &'a Op)> {
    let ok = |(i, c): (&'a Op, Option<&'a Op>)| Some((i, c.filter(|c| c.op_type == OpType::Ok)?));
    history.client_pairs().filter(|(i, _)| i.f == f).filter_map(ok).collect()
}

/// Overlapping writes of 1, 2, 3 … and reads of some of them.
fn writes_and_reads(random: &mut Random) -> History {
    let mut builder = Builder::default();
    let mut open: Vec<Option<i64>> = vec![None; 3];
    let mut next = 0;
    for _ in 0..2 + random.below(16) {
        let p = random.below(3);
        match open[p].take() {
            None if random.chance(60) => {
                next += 1;
                builder.invoke(p as i64, "write", int(next));
                open[p] = Some(next);
            }
            None => {
                let from = random.below(3) as i64;
                let mut keep = |n: &i64| (*n > from || random.chance(50)) && random.chance(85);
                let seen: Vec<i64> = (1..=next).filter(|n| keep(n)).collect();
                builder.done(p as i64, "read", Value::Nil, list(seen));
            }
            Some(n) if random.chance(20) => drop(builder.fail(p as i64, "write", int(n))),
            Some(n) => drop(builder.ok(p as i64, "write", int(n))),
        }
    }
    builder.history()
}

#[test]
fn causal_reverse_is_the_definition() {
    let mut tried = [0; 3];
    for case in 0..cases(4_000) {
        let history = writes_and_reads(&mut Random(case));
        let writes = oks(&history, "write");
        let invoked = |n: i64| {
            let mut all = history.client_pairs().filter(|(i, _)| i.f == "write");
            all.find(|(i, _)| i.value == int(n)).map(|(i, _)| i.index)
        };
        let valid = oks(&history, "read").iter().all(|(_, read)| {
            let seen = numbers(&read.value);
            seen.iter().all(|n| {
                let before = writes.iter().filter(|(_, done)| Some(done.index) < invoked(*n));
                before.into_iter().all(|(w, _)| seen.contains(&w.value.as_int().unwrap()))
            })
        });
        for name in ["causal-reverse", "comments"] {
            let result = check(name, json!({}), &history);
            assert_eq!(
                result.verdict,
                verdict(valid),
                "{case}: {}\n{}",
                result.reason,
                show(&history)
            );
            assert_eq!(result.anomalies.is_empty(), valid);
        }
        tried[verdict(valid) as usize] += 1;
    }
    assert!(tried[0] > 300 && tried[2] > 300, "{tried:?}");
}

/// `jepsen.tests.causal-reverse-test`.
#[test]
fn causal_reverse_answers_as_the_original() {
    let with = |read: &[i64]| {
        let mut builder = Builder::default();
        builder.done(0, "write", int(1), int(1));
        builder.done(0, "write", int(2), int(2));
        builder.done(0, "read", Value::Nil, list(read.iter().copied()));
        check("causal-reverse", json!({}), &builder.history())
    };
    assert_eq!(with(&[1, 2]).verdict, Verdict::Valid);
    assert_eq!(with(&[1]).verdict, Verdict::Valid);
    let result = with(&[2]);
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies[0].ops, [0, 1, 2, 4, 5]);
    assert_eq!(with(&[2, 1]).verdict, Verdict::Valid);
}

#[test]
fn sequential_is_the_definition() {
    for case in 0..cases(2_000) {
        let mut random = Random(case);
        let mut builder = Builder::default();
        let mut bad = 0;
        for key in 0..random.below(5) as i64 {
            let seen: Vec<bool> = (0..1 + random.below(4)).map(|_| random.chance(50)).collect();
            bad += u64::from((0..seen.len()).any(|i| (0..i).any(|j| seen[j] && !seen[i])));
            let subkeys = seen.iter().map(|seen| if *seen { Value::str("k") } else { Value::Nil });
            let read = pair(int(key), Value::list(subkeys.collect::<Vec<_>>()));
            builder.done(0, "read", int(key), read);
        }
        let result = check("sequential", json!({}), &builder.history());
        assert_eq!(result.verdict, verdict(bad == 0), "{case}: {}", result.reason);
        assert_eq!(result.counts["bad-count"], bad);
    }
}

#[test]
fn adya_counts_inserts() {
    for case in 0..cases(2_000) {
        let mut random = Random(case);
        let mut builder = Builder::default();
        let mut succeeded = [0u64; 4];
        for n in 0..random.below(9) as i64 {
            let key = random.below(4);
            let ids = [pair(int(n), Value::Nil), pair(Value::Nil, int(n))][random.below(2)].clone();
            let value = pair(int(key as i64), ids);
            builder.invoke(n, "insert", value.clone());
            match random.below(4) {
                0 => drop(builder.fail(n, "insert", value)),
                1 => drop(builder.info(n, "insert", value)),
                _ => {
                    succeeded[key] += 1;
                    builder.ok(n, "insert", value);
                }
            }
        }
        let illegal = succeeded.iter().filter(|count| **count > 1).count() as u64;
        let result = check("adya", json!({}), &builder.history());
        assert_eq!(result.verdict, verdict(illegal == 0), "{case}");
        assert_eq!(result.counts["illegal-count"], illegal);
        let legal = succeeded.iter().filter(|count| **count == 1).count() as u64;
        assert_eq!(result.counts["legal-count"], legal);
        assert!(result.anomalies.iter().all(|anomaly| anomaly.name == "G2"));
    }
}

#[test]
fn availability_is_a_fraction() {
    let mut builder = Builder::default();
    builder.done(0, "read", Value::Nil, int(1));
    builder.invoke(0, "read", Value::Nil);
    builder.fail(0, "read", Value::Nil);
    let history = builder.history();
    for (option, expected) in
        [(json!(0.5), true), (json!("0.51"), false), (json!("total"), false), (json!(null), true)]
    {
        let result = check("availability", json!({"availability": option}), &history);
        assert_eq!(result.verdict, verdict(expected), "{option}");
    }
}

#[test]
fn final_reads_hold_all_and_agree() {
    let mut tried = [0; 3];
    for case in 0..cases(3_000) {
        let mut random = Random(case);
        let mut builder = Builder::default();
        let mut ok = BTreeSet::new();
        for n in 0..random.below(4) as i64 {
            builder.invoke(n, "add", int(n)).node = Some(Sym::new("n1"));
            match random.below(10) {
                0 | 1 => drop(builder.info(n, "add", int(n))),
                2 => drop(builder.fail(n, "add", int(n))),
                _ => {
                    builder.ok(n, "add", int(n));
                    ok.insert(n);
                }
            }
        }
        let nodes = 1 + random.below(2);
        let mut held = Vec::new();
        for node in 0..nodes {
            let keep = [100, 80][random.below(2)];
            let more = [0, 15][random.below(2)];
            let read: BTreeSet<i64> = (0..5)
                .filter(|n| ok.contains(n) && random.chance(keep) || random.chance(more))
                .collect();
            let node = Sym::new(["n1", "n2"][node]);
            builder.invoke(10, "read", Value::Nil).node = Some(node);
            let done = builder.ok(10, "read", list(read.iter().copied()));
            done.extra = Some(std::sync::Arc::new(vec![(Sym::new("final?"), Value::Bool(true))]));
            held.push(read);
        }
        let history = builder.history();
        let tried_values: BTreeSet<i64> = history
            .client_pairs()
            .filter(|(i, done)| i.f == "add" && done.is_none_or(|d| d.op_type != OpType::Fail))
            .map(|(i, _)| i.value.as_int().unwrap())
            .collect();
        let right = |read: &BTreeSet<i64>| ok.is_subset(read) && read.is_subset(&tried_values);
        let valid = held.iter().all(right) && held.iter().all(|read| *read == held[0]);
        let result = check("final-reads", json!({}), &history);
        assert_eq!(result.verdict, verdict(valid), "{case}: {}\n{}", result.reason, show(&history));
        tried[result.verdict as usize] += 1;
    }
    assert!(tried[0] > 200 && tried[2] > 200, "{tried:?}");
}

#[test]
fn monotonic_values_fit_one_order() {
    let mut tried = [0; 3];
    for case in 0..cases(4_000) {
        let mut random = Random(case);
        let mut builder = Builder::default();
        let keys = 1 + random.below(2) as i64;
        for _ in 0..1 + random.below(5) {
            let seen = (0..keys).map(|key| (int(key), int(random.below(3) as i64)));
            let seen = Value::map(seen.collect::<Vec<_>>());
            builder.done(random.below(3) as i64, "read", Value::Nil, seen);
        }
        let history = builder.history();
        let reads = oks(&history, "read");
        let value = |i: usize, key: i64| match &reads[i].1.value {
            Value::Map(pairs) => pairs.iter().find(|(k, _)| *k == int(key)).unwrap().1.as_int(),
            _ => None,
        };
        // The closure of all orders has no operation before itself.
        let n = reads.len();
        for global in [false, true] {
            let mut before = vec![vec![false; n]; n];
            for i in 0..n {
                for j in 0..n {
                    let same = reads[i].1.process == reads[j].1.process;
                    before[i][j] = (same || global) && i < j
                        || (0..keys).any(|key| value(i, key) < value(j, key));
                }
            }
            for k in 0..n {
                for i in 0..n {
                    for j in 0..n {
                        before[i][j] |= before[i][k] && before[k][j];
                    }
                }
            }
            let valid = (0..n).all(|i| !before[i][i]);
            let result = check("monotonic", json!({"global": global}), &history);
            let shown = show(&history);
            assert_eq!(
                result.verdict,
                verdict(valid),
                "{case} {global}: {}\n{shown}",
                result.reason
            );
            tried[result.verdict as usize] += 1;
        }
    }
    assert!(tried[0] > 300 && tried[2] > 300, "{tried:?}");
}

#[test]
fn rows_of_a_table_are_complete_and_in_order() {
    let row = |val: i64, sts: i64, process: i64| {
        let pairs = [("val", val), ("sts", sts), ("proc", process)];
        Value::map(pairs.map(|(name, n)| (Value::sym(name), int(n))))
    };
    let verdict_of = |rows: &[Value], options: serde_json::Value| {
        let mut builder = Builder::default();
        for n in 1..4 {
            builder.done(n % 2, "add", int(100), row(n, n * 10, n % 2));
        }
        builder.done(0, "read", Value::Nil, Value::list(rows.to_vec()));
        let result = check("monotonic", options, &builder.history());
        (result.verdict, result.anomalies.first().map(|a| a.name.clone()).unwrap_or_default())
    };
    let (a, b, c) = (row(1, 10, 1), row(2, 20, 0), row(3, 30, 1));
    let bad = |name: &str| (Verdict::Invalid, name.to_owned());
    let good = (Verdict::Valid, String::new());
    assert_eq!(verdict_of(&[a.clone(), b.clone(), c.clone()], json!({})), good);
    assert_eq!(verdict_of(&[a.clone(), c.clone()], json!({})), bad("lost"));
    assert_eq!(
        verdict_of(&[a.clone(), b.clone(), c.clone(), c.clone()], json!({})),
        bad("duplicate")
    );
    assert_eq!(verdict_of(&[a.clone(), c.clone(), b.clone()], json!({})), bad("order-by-error"));
    // Another process's row comes late: only an order of all forbids it.
    let late = row(2, 35, 0);
    assert_eq!(verdict_of(&[a.clone(), c.clone(), late.clone()], json!({})), good);
    assert_eq!(
        verdict_of(&[a.clone(), c.clone(), late], json!({"global": true})),
        bad("value-reorder")
    );
    let swapped = [row(3, 10, 1), b, row(1, 30, 1)];
    assert_eq!(verdict_of(&swapped, json!({})), bad("value-reorder"));
}

#[test]
fn planted_anomalies_are_found_in_long_histories() {
    let n = 50_000;
    let mut builder = Builder::default();
    for i in 0..n {
        builder.done(i % 10, "write", int(i), int(i));
        if i % 5_000 == 4_999 {
            builder.done(11, "read", Value::Nil, list(0..=i));
        }
    }
    assert_eq!(check("causal-reverse", json!({}), &builder.history()).verdict, Verdict::Valid);
    builder.done(11, "read", Value::Nil, list((0..n).filter(|i| *i != 777)));
    let result = check("causal-reverse", json!({}), &builder.history());
    assert_eq!(result.anomalies[0].key.as_deref(), Some("777"));
    let map = |x: i64, y: i64| Value::map([(int(0), int(x)), (int(1), int(y))]);
    let mut builder = Builder::default();
    for i in 0..n {
        builder.done(i % 10, "read", Value::Nil, map(i / 3, i / 2));
    }
    assert_eq!(check("monotonic", json!({}), &builder.history()).verdict, Verdict::Valid);
    builder.done(50, "read", Value::Nil, map(20_001, 1));
    let result = check("monotonic", json!({}), &builder.history());
    assert_eq!((result.verdict, &*result.anomalies[0].name), (Verdict::Invalid, "cycle"));
    assert_eq!(result.anomalies[0].edges.len(), result.anomalies[0].ops.len());
    builder.done(3, "read", Value::Nil, map(5, n));
    let result = check("monotonic", json!({}), &builder.history());
    assert_eq!(&*result.anomalies[0].name, "nonmonotonic");
}
