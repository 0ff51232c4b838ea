//! Violations of each level, guarantee and name, planted in large histories that are otherwise consistent.
//!
//! Each plant satisfies everything weaker, and must be found under its name, with evidence that is about it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Builder, Random, check, int};
use fuzz_dist_core::{History, OpType, Value, Verdict};
use serde_json::json;

/// Values are keys of the plant: no other transaction touches them.
const X: i64 = -1;
const Y: i64 = -2;
const Z: i64 = -3;

fn w(key: i64, value: i64) -> Value {
    Value::list(vec![Value::sym("w"), int(key), int(value)])
}

fn r(key: i64, value: i64) -> Value {
    let value = if value == 0 { Value::Nil } else { int(value) };
    Value::list(vec![Value::sym("r"), int(key), value])
}

/// Sessions of replicas that lag behind one log, and `plants` (process, outcome, operations) spread among them.
fn history(size: usize, seed: u64, plants: &[(i64, OpType, Vec<Value>)]) -> History {
    let mut random = Random(seed);
    let mut builder = Builder::default();
    let keys = 100;
    let mut log: Vec<Vec<(usize, i64)>> = vec![Vec::new(); keys];
    let mut seen = [0; 20];
    let mut plants = plants.iter().peekable();
    let every = size / (plants.len() + 1);
    for n in 1..=size {
        let session = random.below(20);
        seen[session] = seen[session].max(n.saturating_sub(random.below(200)));
        let (mut mops, mut writes) = (Vec::new(), Vec::new());
        for _ in 0..1 + random.below(4) {
            let key = random.below(keys);
            if writes.contains(&key) {
                continue;
            }
            if random.chance(50) {
                mops.push(w(key as i64, n as i64));
                writes.push(key);
            } else {
                let at = log[key].partition_point(|(at, _)| *at <= seen[session]);
                mops.push(r(key as i64, at.checked_sub(1).map_or(0, |at| log[key][at].1)));
            }
        }
        for key in &writes {
            log[*key].push((n, n as i64));
        }
        if !writes.is_empty() {
            // It has to see its own writes, and so the log up to them.
            seen[session] = n;
        }
        builder.done(session as i64, "txn", Value::Nil, Value::list(mops));
        if n % every == 0
            && let Some((process, outcome, mops)) = plants.next()
        {
            let value = Value::list(mops.clone());
            builder.invoke(*process, "txn", value.clone());
            builder.push(*process, *outcome, "txn", value);
        }
    }
    assert!(plants.next().is_none());
    builder.history()
}

struct Plant {
    name: &'static str,
    /// What holds, and what does not.
    holds: &'static [&'static str],
    broken: &'static [&'static str],
    txns: Vec<(i64, OpType, Vec<Value>)>,
}

const LEVELS: &[&str] = &["read-committed", "read-atomic", "causal"];

fn plants() -> Vec<Plant> {
    let ok = |process: i64, mops: &[Value]| (100 + process, OpType::Ok, mops.to_vec());
    let fail = |process: i64, mops: &[Value]| (100 + process, OpType::Fail, mops.to_vec());
    let plant = |name, holds, broken, txns| Plant { name, holds, broken, txns };
    vec![
        plant("thin-air-read", &[], LEVELS, vec![ok(0, &[r(X, 7)])]),
        plant("G1a", &[], LEVELS, vec![fail(0, &[w(X, 1)]), ok(1, &[r(X, 1)])]),
        plant("G1b", &[], LEVELS, vec![ok(0, &[w(X, 1), w(X, 2)]), ok(1, &[r(X, 1)])]),
        plant("future-read", &[], LEVELS, vec![ok(0, &[r(X, 1), w(X, 1)])]),
        plant("internal", &[], LEVELS, vec![ok(0, &[w(X, 1)]), ok(1, &[w(X, 2), r(X, 1)])]),
        plant(
            "cyclic-causality",
            &[],
            LEVELS,
            vec![ok(0, &[r(Y, 1), w(X, 1)]), ok(1, &[r(X, 1), w(Y, 1)])],
        ),
        plant(
            "non-monotonic-read",
            &["none"],
            LEVELS,
            vec![ok(0, &[w(X, 1)]), ok(0, &[w(X, 2), w(Y, 2)]), ok(1, &[r(Y, 2), r(X, 1)])],
        ),
        plant(
            "fractured-read",
            &["read-committed"],
            &["read-atomic", "causal"],
            vec![ok(0, &[w(X, 1)]), ok(0, &[w(X, 2), w(Y, 2)]), ok(1, &[r(X, 1), r(Y, 2)])],
        ),
        plant(
            "non-repeatable-read",
            &["read-committed"],
            &["read-atomic", "causal"],
            vec![ok(0, &[w(X, 1)]), ok(1, &[w(X, 2)]), ok(2, &[r(X, 1), r(X, 2)])],
        ),
        plant(
            "causality-violation",
            &["read-committed", "read-atomic"],
            &["causal"],
            vec![
                ok(0, &[w(X, 1)]),
                ok(1, &[r(X, 1), w(X, 2)]),
                ok(2, &[r(X, 2), w(Z, 1)]),
                ok(3, &[r(Z, 1), r(X, 1)]),
            ],
        ),
        plant(
            "causality-violation",
            &["read-committed", "read-atomic"],
            &["causal"],
            vec![
                ok(0, &[w(X, 1)]),
                ok(1, &[r(X, 1), w(Y, 1)]),
                ok(2, &[r(Y, 1), w(Z, 1)]),
                ok(3, &[r(Z, 1)]),
                ok(3, &[r(X, 0)]),
            ],
        ),
        plant(
            "read-your-writes",
            &["monotonic-reads", "monotonic-writes", "writes-follow-reads"],
            &["read-your-writes", "all"],
            vec![ok(0, &[w(X, 1)]), ok(0, &[r(X, 0)])],
        ),
        plant(
            "monotonic-reads",
            &["read-your-writes", "monotonic-writes", "writes-follow-reads"],
            &["monotonic-reads", "all"],
            vec![ok(0, &[w(X, 1)]), ok(0, &[w(X, 2)]), ok(1, &[r(X, 2)]), ok(1, &[r(X, 1)])],
        ),
        plant(
            "monotonic-writes",
            &["read-your-writes", "monotonic-reads", "writes-follow-reads"],
            &["monotonic-writes", "all"],
            vec![ok(0, &[w(X, 1)]), ok(0, &[w(Y, 1)]), ok(1, &[r(Y, 1)]), ok(1, &[r(X, 0)])],
        ),
        plant(
            "writes-follow-reads",
            &["read-your-writes", "monotonic-reads", "monotonic-writes"],
            &["writes-follow-reads", "all"],
            vec![
                ok(0, &[w(X, 1)]),
                ok(1, &[r(X, 1)]),
                ok(1, &[w(Y, 1)]),
                ok(2, &[r(Y, 1)]),
                ok(2, &[r(X, 0)]),
            ],
        ),
    ]
}

fn options(property: &str) -> serde_json::Value {
    let is_level = property == "none" || LEVELS.contains(&property);
    if is_level { json!({"level": property}) } else { json!({"session": property}) }
}

fn plant_and_find(size: usize) {
    for (seed, plant) in (1..).zip(plants()) {
        let history = history(size, seed, &plant.txns);
        for property in plant.holds {
            let result = check("causal", options(property), &history);
            assert_eq!(
                result.verdict,
                Verdict::Valid,
                "{} {property}: {}",
                plant.name,
                result.reason
            );
        }
        for property in plant.broken {
            let result = check("causal", options(property), &history);
            assert_eq!(result.verdict, Verdict::Invalid, "{} {property}", plant.name);
            let names: Vec<&str> = result.anomalies.iter().map(|a| a.name.as_str()).collect();
            assert_eq!(names, [plant.name], "{property}: {}", result.reason);
            let anomaly = &result.anomalies[0];
            let planted = |at: &u64| {
                history.ops()[*at as usize].process.client().is_some_and(|process| process >= 100)
            };
            assert!(anomaly.ops.iter().all(planted), "{property}: {}", anomaly.text);
            assert!(anomaly.text.lines().count() <= 24, "{}", anomaly.text);
            let is_order =
                !["thin-air-read", "G1a", "G1b", "future-read", "internal"].contains(&plant.name);
            assert_eq!(is_order, !anomaly.edges.is_empty(), "{}: {}", plant.name, anomaly.text);
        }
    }
}

#[test]
fn plants_are_found_by_name() {
    plant_and_find(300);
    plant_and_find(3_000);
}

#[test]
fn plants_are_found_in_a_hundred_thousand_transactions() {
    if std::env::var_os("FUZZ_DIST_LONG").is_none() {
        return;
    }
    plant_and_find(100_000);
}

/// The transactions of a plant with keys and processes of their own.
fn apart(plant: &Plant, number: i64) -> Vec<(i64, OpType, Vec<Value>)> {
    let moved = |mop: &Value| {
        let parts = mop.items().unwrap();
        let key = int(parts[1].as_int().unwrap() - 10 * number);
        Value::list(vec![parts[0].clone(), key, parts[2].clone()])
    };
    let txns = plant.txns.iter();
    txns.map(|(process, outcome, mops)| {
        (process + 10 * number, *outcome, mops.iter().map(moved).collect())
    })
    .collect()
}

/// One history for all that break the same property and no weaker one: what is asked, what still holds, and the
/// names.
const TOGETHER: &[(&str, Option<&str>, &[&str])] = &[
    (
        "read-committed",
        None,
        &["G1a", "G1b", "future-read", "internal", "non-monotonic-read", "thin-air-read"],
    ),
    ("none", None, &["cyclic-causality"]),
    ("read-atomic", Some("read-committed"), &["fractured-read", "non-repeatable-read"]),
    ("causal", Some("read-atomic"), &["causality-violation"]),
    (
        "all",
        Some("read-committed"),
        &["monotonic-reads", "monotonic-writes", "read-your-writes", "writes-follow-reads"],
    ),
];

#[test]
fn every_name_is_found_in_a_hundred_thousand_transactions() {
    let all = plants();
    let told: usize = TOGETHER.iter().map(|(.., names)| names.len()).sum();
    let known: std::collections::BTreeSet<&str> = all.iter().map(|plant| plant.name).collect();
    assert_eq!(told, known.len(), "every name is in one group");
    for (seed, (property, holds, names)) in (1..).zip(TOGETHER) {
        let planted: Vec<&Plant> = all.iter().filter(|plant| names.contains(&plant.name)).collect();
        let txns = (0..).zip(&planted).flat_map(|(number, plant)| apart(plant, number));
        let history = history(100_000, seed, &txns.collect::<Vec<_>>());
        if let Some(weaker) = holds {
            let result = check("causal", options(weaker), &history);
            assert_eq!(result.verdict, Verdict::Valid, "{weaker}: {}", result.reason);
        }
        let result = check("causal", options(property), &history);
        let mut found: Vec<&str> = result.anomalies.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(found.len(), planted.len(), "{property}: {}", result.reason);
        found.sort_unstable();
        found.dedup();
        assert_eq!((result.verdict, &found[..]), (Verdict::Invalid, *names), "{property}");
        for at in result.anomalies.iter().flat_map(|anomaly| &anomaly.ops) {
            let process = history.ops()[*at as usize].process.client();
            assert!(process.is_some_and(|process| process >= 100), "{property}: record {at}");
        }
    }
}

#[test]
fn a_history_without_plants_is_causal() {
    let history = history(20_000, 5, &[]);
    for property in ["causal", "read-atomic", "read-committed", "all"] {
        let result = check("causal", options(property), &history);
        assert_eq!(result.verdict, Verdict::Valid, "{property}: {}", result.reason);
    }
}

/// Sessions, reads and cycles longer than any stack.
#[test]
fn long_chains_need_no_stack() {
    let mut builder = Builder::default();
    let count = 30_000;
    for n in 1..=count {
        let read = if n == 1 { r(X, count) } else { r(X, n - 1) };
        builder.done(n % 7, "txn", Value::Nil, Value::list(vec![read, w(X, n)]));
    }
    let cyclic = check("causal", json!({}), &builder.history());
    assert_eq!(cyclic.verdict, Verdict::Invalid);
    assert_eq!(cyclic.anomalies[0].name, "cyclic-causality");
    assert!(cyclic.anomalies[0].text.lines().count() <= 24);
}
