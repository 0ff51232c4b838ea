//! `list-append` against trying every serial order, and planted anomalies by name.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{History, OpType, Value, Verdict};
use serde_json::json;

fn append(key: i64, element: i64) -> Value {
    Value::list(vec![Value::sym("append"), int(key), int(element)])
}

fn read(key: i64, list: Option<&[i64]>) -> Value {
    let list =
        list.map_or(Value::Nil, |l| Value::list(l.iter().copied().map(int).collect::<Vec<_>>()));
    Value::list(vec![Value::sym("r"), int(key), list])
}

fn txn(micro_ops: &[Value]) -> Value {
    Value::list(micro_ops.to_vec())
}

#[derive(Clone)]
struct OracleTxn {
    value: Value,
    certain: bool,
    invoke: u64,
    ret: u64,
}

type Lists = BTreeMap<i64, Vec<Value>>;

/// Applies a transaction; `None` if its reads do not fit. Reads of nil fit always.
fn apply(value: &Value, lists: &Lists) -> Option<Lists> {
    let mut lists = lists.clone();
    for micro_op in value.items()? {
        let parts = micro_op.items()?;
        let list = lists.entry(parts[1].as_int()?).or_default();
        if parts[0].as_text() == Some("append") {
            list.push(parts[2].clone());
        } else if parts[2].items().is_some_and(|seen| seen != list.as_slice()) {
            return None;
        }
    }
    Some(lists)
}

/// Whether some serial order fits, respecting real time if `strict`.
fn serializable(txns: &[OracleTxn], lists: &Lists, strict: bool) -> bool {
    if txns.iter().all(|txn| !txn.certain) {
        return true;
    }
    (0..txns.len()).any(|i| {
        if strict && txns.iter().any(|other| other.ret < txns[i].invoke) {
            return false;
        }
        let Some(after) = apply(&txns[i].value, lists) else { return false };
        let mut rest = txns.to_vec();
        rest.remove(i);
        serializable(&rest, &after, strict)
    })
}

fn oracle_txns(history: &History) -> Vec<OracleTxn> {
    history
        .client_pairs()
        .filter(|(_, c)| c.is_none_or(|c| c.op_type != OpType::Fail))
        .map(|(i, c)| {
            let ok = c.filter(|c| c.op_type == OpType::Ok);
            OracleTxn {
                value: ok.map_or(i.value.clone(), |c| c.value.clone()),
                certain: ok.is_some(),
                invoke: i.index,
                ret: ok.map_or(u64::MAX, |c| c.index),
            }
        })
        .collect()
}

/// Transactions on a store in which each works on a snapshot that may be old, and commits without
/// looking, with a probability; otherwise serially.
fn run(random: &mut Random, operations: usize, sloppy: usize, info: usize) -> History {
    let mut builder = Builder::default();
    let processes = 1 + random.below(3);
    let mut names: Vec<i64> = (0..processes as i64).collect();
    let mut lists: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut snapshots: Vec<BTreeMap<i64, Vec<i64>>> = vec![lists.clone(); processes];
    let mut open: Vec<Option<Vec<(bool, i64, i64)>>> = vec![None; processes];
    let (mut element, mut left) = (0, operations);
    while left > 0 || open.iter().any(Option::is_some) {
        let p = random.below(processes);
        match open[p].take() {
            None if left > 0 => {
                left -= 1;
                let parts: Vec<(bool, i64, i64)> = (0..1 + random.below(3))
                    .map(|_| {
                        element += 1;
                        (random.chance(50), random.below(2) as i64, element)
                    })
                    .collect();
                let value: Vec<Value> = parts
                    .iter()
                    .map(
                        |(is_append, k, e)| {
                            if *is_append { append(*k, *e) } else { read(*k, None) }
                        },
                    )
                    .collect();
                builder.invoke(names[p], "txn", txn(&value));
                snapshots[p] = lists.clone();
                open[p] = Some(parts);
            }
            None => {}
            Some(parts) => {
                let mut view =
                    if random.chance(sloppy) { snapshots[p].clone() } else { lists.clone() };
                let fails = random.chance(8);
                let mut done = Vec::new();
                for (is_append, key, e) in parts {
                    if is_append {
                        view.entry(key).or_default().push(e);
                        if !fails || random.chance(sloppy / 2) {
                            lists.entry(key).or_default().push(e);
                        }
                        done.push(append(key, e));
                    } else {
                        let seen = view.get(&key).cloned().unwrap_or_default();
                        done.push(read(key, Some(&seen)));
                    }
                }
                if random.chance(info) {
                    builder.info(names[p], "txn", Value::Nil);
                    names[p] += processes as i64;
                } else if fails {
                    builder.fail(names[p], "txn", txn(&done));
                } else {
                    builder.ok(names[p], "txn", txn(&done));
                }
            }
        }
    }
    // Reads that show the whole version order of every key.
    let finals: Vec<Value> =
        (0..2).map(|k| read(k, Some(lists.get(&k).map_or(&[][..], Vec::as_slice)))).collect();
    builder.done(99, "txn", txn(&[read(0, None), read(1, None)]), txn(&finals));
    builder.history()
}

#[test]
fn agrees_with_trying_every_serial_order() {
    let mut seen = BTreeMap::new();
    for case in 0..cases(6_000) {
        let mut random = Random(case);
        let operations = 1 + random.below(5);
        let sloppy = [0, 40][random.below(2)];
        let info = [0, 0, 20][random.below(3)];
        let history = run(&mut random, operations, sloppy, info);
        let txns = oracle_txns(&history);
        for (model, strict) in [("serializable", false), ("strict-serializable", true)] {
            let expected = serializable(&txns, &Lists::new(), strict);
            let result = check("list-append", json!({"consistency-model": model}), &history);
            let context = || format!("case {case} {model}: {}\n{}", result.reason, show(&history));
            match result.verdict {
                Verdict::Invalid => assert!(!expected, "sound: {}", context()),
                // With every version order shown and nothing indeterminate, nothing is missed.
                Verdict::Valid if info == 0 => assert!(expected, "complete: {}", context()),
                _ => {}
            }
            *seen.entry((model, result.verdict)).or_insert(0) += 1;
        }
    }
    for model in ["serializable", "strict-serializable"] {
        for verdict in [Verdict::Valid, Verdict::Invalid] {
            assert!(seen.get(&(model, verdict)).is_some_and(|n| *n > 100), "{seen:?}");
        }
    }
}

fn types(builder: &Builder, model: &str) -> Vec<String> {
    let result = check("list-append", json!({"consistency-model": model}), &builder.history());
    let names = result.details["anomaly-types"].as_array().cloned().unwrap_or_default();
    names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// All transactions overlap, so that no order of real time or sessions is in play.
fn concurrent(txns: &[Vec<Value>]) -> Builder {
    let mut builder = Builder::default();
    for (p, parts) in txns.iter().enumerate() {
        builder.invoke(p as i64, "txn", txn(parts));
    }
    for (p, parts) in txns.iter().enumerate() {
        builder.ok(p as i64, "txn", txn(parts));
    }
    builder
}

#[test]
fn anomalies_are_named_as_in_the_literature() {
    let all = "strict-serializable";
    let g0 = concurrent(&[
        vec![append(1, 1), append(2, 1)],
        vec![append(1, 2), append(2, 2)],
        vec![read(1, Some(&[1, 2])), read(2, Some(&[2, 1]))],
    ]);
    assert!(types(&g0, all).contains(&"G0".to_owned()));
    let g1c = concurrent(&[
        vec![append(1, 1), read(2, Some(&[1]))],
        vec![append(2, 1), read(1, Some(&[1]))],
    ]);
    assert_eq!(types(&g1c, all), ["G1c"]);
    let read_skew = concurrent(&[
        vec![append(1, 1), append(2, 1)],
        vec![read(1, Some(&[1])), read(2, Some(&[]))],
        vec![read(1, Some(&[1])), read(2, Some(&[1]))],
    ]);
    assert_eq!(types(&read_skew, all), ["G-single-item"]);
    assert!(types(&read_skew, "read-committed").is_empty());
    let write_skew = concurrent(&[
        vec![read(1, Some(&[])), append(2, 1)],
        vec![read(2, Some(&[])), append(1, 1)],
        vec![read(1, Some(&[1])), read(2, Some(&[1]))],
    ]);
    assert_eq!(types(&write_skew, all), ["G2-item"]);
    assert!(types(&write_skew, "snapshot-isolation").is_empty());
    let mut stale = Builder::default();
    stale.done(0, "txn", txn(&[append(1, 1)]), txn(&[append(1, 1)]));
    stale.done(1, "txn", txn(&[read(1, None)]), txn(&[read(1, Some(&[]))]));
    stale.done(2, "txn", txn(&[read(1, None)]), txn(&[read(1, Some(&[1]))]));
    assert_eq!(types(&stale, all), ["G-single-item-realtime"]);
    assert!(types(&stale, "serializable").is_empty());
    let lost = concurrent(&[
        vec![read(1, Some(&[])), append(1, 1)],
        vec![read(1, Some(&[])), append(1, 2)],
        vec![read(1, Some(&[1, 2]))],
    ]);
    assert!(types(&lost, "snapshot-isolation").contains(&"lost-update".to_owned()));
    for (name, list) in [("duplicate-elements", &[1, 1][..]), ("garbage-read", &[1, 7])] {
        let bad = concurrent(&[vec![append(1, 1)], vec![read(1, Some(list))]]);
        assert!(types(&bad, all).contains(&name.to_owned()), "{name}");
    }
    let orders = concurrent(&[
        vec![append(1, 1)],
        vec![append(1, 2)],
        vec![read(1, Some(&[1, 2]))],
        vec![read(1, Some(&[2, 1]))],
    ]);
    assert!(types(&orders, all).contains(&"incompatible-order".to_owned()));
    let intermediate = concurrent(&[vec![append(1, 1), append(1, 2)], vec![read(1, Some(&[1]))]]);
    assert!(types(&intermediate, all).contains(&"G1b".to_owned()));
    let internal = concurrent(&[vec![append(1, 1), read(1, Some(&[]))], vec![append(1, 2)]]);
    assert!(types(&internal, all).contains(&"internal".to_owned()));
    let mut aborted = Builder::default();
    aborted.invoke(0, "txn", txn(&[append(1, 1)]));
    aborted.fail(0, "txn", txn(&[append(1, 1)]));
    aborted.done(1, "txn", txn(&[read(1, None)]), txn(&[read(1, Some(&[1]))]));
    assert!(types(&aborted, "read-committed").contains(&"G1a".to_owned()));
}

#[test]
fn nothing_to_infer_from_is_unknown() {
    let builder = concurrent(&[vec![append(1, 1)]]);
    let result = check("list-append", json!({}), &builder.history());
    assert_eq!(result.verdict, Verdict::Unknown);
    let twice = concurrent(&[vec![append(1, 1)], vec![append(1, 1)]]);
    let result = check("list-append", json!({}), &twice.history());
    assert_eq!(result.verdict, Verdict::Unknown, "{}", result.reason);
    let model = common::spec("list-append", json!({"consistency-model": "serialisable"}));
    let error = fuzz_dist_checker::build(&model).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("did you mean \"serializable\""), "{error}");
}
