//! `causal` with `crdt`: replicas simulated correctly pass; each broken rule is found under its name; and small
//! histories agree with the definitions, tried out in full.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{CheckResult, History, Op, OpType, Sym, Value, Verdict};
use serde_json::json;

fn list(items: impl IntoIterator<Item = i64>) -> Value {
    Value::list(items.into_iter().map(int).collect::<Vec<_>>())
}

fn mop(f: &str, key: i64, value: Option<i64>) -> Value {
    Value::list(vec![Value::sym(f), int(key), value.map_or(Value::Nil, int)])
}

fn txn(builder: &mut Builder, process: i64, mops: Vec<Value>) {
    builder.done(process, "txn", Value::list(mops.clone()), Value::list(mops));
}

fn finally(op: &mut Op) {
    op.extra = Some(std::sync::Arc::new(vec![(Sym::new("final?"), Value::Bool(true))]));
}

fn judged(crdt: &str, history: &History) -> CheckResult {
    check("causal", json!({"crdt": crdt}), history)
}

#[track_caller]
fn finds(crdt: &str, builder: &Builder, name: &str) {
    let history = builder.history();
    let result = judged(crdt, &history);
    assert_eq!(result.verdict, Verdict::Invalid, "{}\n{}", result.reason, show(&history));
    let names: Vec<&str> = result.anomalies.iter().map(|a| a.name.as_str()).collect();
    assert!(names.contains(&name), "{names:?} without {name}\n{}", show(&history));
}

#[test]
fn sets_break_each_rule_by_name() {
    let set = |steps: &[(i64, &str, &[i64])]| {
        let mut builder = Builder::default();
        for (process, f, values) in steps {
            match *f {
                "add" => builder.done(*process, "add", int(values[0]), int(values[0])),
                "fail" => {
                    builder.invoke(*process, "add", int(values[0]));
                    builder.fail(*process, "add", int(values[0]));
                }
                _ => {
                    builder.invoke(*process, "read", Value::Nil);
                    let op = builder.ok(*process, "read", list(values.iter().copied()));
                    if *f == "final" {
                        finally(op);
                    }
                }
            }
        }
        builder
    };
    finds("g-set", &set(&[(0, "add", &[1]), (0, "read", &[])]), "read-your-writes");
    let reads: &[(i64, &str, &[i64])] = &[(0, "add", &[1]), (1, "read", &[1]), (1, "read", &[])];
    finds("g-set", &set(reads), "monotonic-reads");
    let writes: &[(i64, &str, &[i64])] = &[(0, "add", &[1]), (0, "add", &[2]), (1, "read", &[2])];
    finds("g-set", &set(writes), "monotonic-writes");
    let follow: &[(i64, &str, &[i64])] =
        &[(0, "add", &[1]), (1, "read", &[1]), (1, "add", &[2]), (2, "read", &[2, 2, 2])];
    finds("g-set", &set(follow), "writes-follow-reads");
    finds("g-set", &set(&[(0, "read", &[5]), (1, "add", &[5])]), "unexpected");
    finds("g-set", &set(&[(0, "fail", &[5]), (1, "read", &[5])]), "G1a");
    let lost: &[(i64, &str, &[i64])] = &[(0, "add", &[1]), (1, "final", &[]), (2, "final", &[])];
    finds("g-set", &set(lost), "final-read-missing-add");
    let apart: &[(i64, &str, &[i64])] = &[(0, "add", &[1]), (1, "final", &[1]), (2, "final", &[])];
    finds("g-set", &set(apart), "divergent-final-reads");
    let good: &[(i64, &str, &[i64])] = &[
        (0, "add", &[1]),
        (1, "add", &[2]),
        (1, "read", &[2]),
        (0, "final", &[1, 2]),
        (1, "final", &[2, 1]),
    ];
    assert_eq!(judged("g-set", &set(good).history()).verdict, Verdict::Valid);
    assert_eq!(judged("g-set", &set(&good[..3]).history()).verdict, Verdict::Unknown);
    let twice: &[(i64, &str, &[i64])] = &[(0, "add", &[1]), (1, "add", &[1]), (0, "final", &[1])];
    assert_eq!(judged("g-set", &set(twice).history()).verdict, Verdict::Unknown);
}

#[test]
fn greatest_values_break_each_rule_by_name() {
    let (w, r) = (|k, v| mop("w", k, Some(v)), |k, v: i64| mop("r", k, (v > 0).then_some(v)));
    let run = |steps: &[(i64, Vec<Value>)]| {
        let mut builder = Builder::default();
        steps.iter().for_each(|(process, mops)| txn(&mut builder, *process, mops.clone()));
        builder
    };
    let own = [(0, vec![w(0, 5)]), (0, vec![r(0, 0)])];
    finds("max-write-wins", &run(&own), "read-your-writes-monotonic-writes");
    let back = [(0, vec![w(0, 5)]), (2, vec![w(0, 4)]), (1, vec![r(0, 5)]), (1, vec![r(0, 4)])];
    finds("max-write-wins", &run(&back), "monotonic-reads");
    let follow =
        [(0, vec![w(0, 5)]), (1, vec![r(0, 5), w(1, 6)]), (2, vec![r(1, 6)]), (2, vec![r(0, 0)])];
    finds("max-write-wins", &run(&follow), "writes-follow-reads");
    finds("max-write-wins", &run(&[(0, vec![r(0, 9)])]), "read-unwritten-write");
    let mut builder = run(&[(0, vec![w(0, 5)]), (1, vec![w(0, 4)]), (1, vec![r(0, 5)])]);
    assert_eq!(judged("max-write-wins", &builder.history()).verdict, Verdict::Unknown);
    txn(&mut builder, 0, vec![r(0, 5)]);
    assert_eq!(judged("max-write-wins", &builder.history()).verdict, Verdict::Valid);
    let last = builder.ops.len() - 1;
    finally(&mut builder.ops[last]);
    txn(&mut builder, 3, vec![r(0, 4)]);
    let last = builder.ops.len() - 1;
    finally(&mut builder.ops[last]);
    finds("max-write-wins", &builder, "final-below-max");
    finds("max-write-wins", &builder, "divergent-final-reads");
    // A smaller write of one's own does not hide a greater one.
    let under =
        [(0, vec![w(0, 5)]), (1, vec![w(0, 4), r(0, 5)]), (0, vec![r(0, 5)]), (1, vec![r(0, 5)])];
    assert_eq!(judged("max-write-wins", &run(&under).history()).verdict, Verdict::Valid);
}

#[test]
fn last_writes_break_each_rule_by_name() {
    let run = |steps: &[(i64, &str, i64)]| {
        let mut builder = Builder::default();
        for (process, f, value) in steps {
            let value =
                Value::list(vec![int(0), if *value == 0 { Value::Nil } else { int(*value) }]);
            let name = if *f == "write" { "write" } else { "read" };
            builder.invoke(*process, name, value.clone());
            let op = builder.ok(*process, name, value);
            if *f == "final" {
                finally(op);
            }
        }
        builder
    };
    let late = [(0, "write", 1), (1, "write", 2), (2, "final", 1), (3, "final", 1)];
    finds("lww-register", &run(&late), "G0-realtime");
    let back = [(0, "write", 1), (1, "write", 2), (2, "read", 2), (2, "read", 1)];
    finds("lww-register", &run(&back), "G0-realtime");
    let own = [(0, "write", 1), (0, "read", 0)];
    finds("lww-register", &run(&own), "causality-violation");
    let apart = [(0, "write", 1), (1, "write", 2), (2, "final", 2), (3, "final", 1)];
    finds("lww-register", &run(&apart), "divergent-final-reads");
    let lost = [(0, "write", 1), (2, "final", 0), (3, "final", 0)];
    finds("lww-register", &run(&lost), "final-read-missing-write");
    let stale =
        [(0, "write", 1), (1, "write", 2), (2, "read", 1), (2, "final", 2), (3, "final", 2)];
    assert_eq!(judged("lww-register", &run(&stale).history()).verdict, Verdict::Valid);
}

#[test]
fn counters_are_judged_with_and_without_keys() {
    for keyed in [false, true] {
        let value = |n: Option<i64>| {
            let n = n.map_or(Value::Nil, int);
            if keyed { Value::tuple(vec![int(1), n]) } else { n }
        };
        let mut builder = Builder::default();
        builder.done(0, "increment", value(Some(2)), value(Some(2)));
        for (process, sum) in [(0, 2), (1, 2)] {
            builder.invoke(process, "read", value(None));
            finally(builder.ok(process, "read", value(Some(sum))));
        }
        assert_eq!(judged("pn-counter", &builder.history()).verdict, Verdict::Valid);
        let last = builder.ops.len() - 1;
        builder.ops[last].value = value(Some(3));
        assert_eq!(judged("pn-counter", &builder.history()).verdict, Verdict::Invalid);
    }
}

/// Random adds and reads of a few processes; the oracle closes what each read must hold under the rules.
#[test]
fn sets_agree_with_the_definition() {
    let mut random = Random(3);
    let mut verdicts = [0; 2];
    for _ in 0..cases(3_000) {
        let mut builder = Builder::default();
        // By process: what it must see. By element: what its adder had to see, with itself.
        let mut must: Vec<BTreeSet<i64>> = vec![BTreeSet::new(); 3];
        let mut known: Vec<BTreeSet<i64>> = Vec::new();
        let (mut bad, mut ok_adds) = (false, BTreeSet::new());
        for _ in 0..2 + random.below(8) {
            let process = random.below(3);
            if random.chance(50) {
                let element = known.len() as i64;
                let mut past = must[process].clone();
                past.insert(element);
                known.push(past.clone());
                let outcome = if random.chance(85) { OpType::Ok } else { OpType::Info };
                builder.invoke(process as i64, "add", int(element));
                builder.push(process as i64, outcome, "add", int(element));
                if outcome == OpType::Ok {
                    must[process] = past;
                    ok_adds.insert(element);
                }
            } else {
                let mut read: BTreeSet<i64> =
                    (0..known.len() as i64).filter(|_| random.chance(50)).collect();
                if random.chance(80) {
                    read.extend(&must[process]);
                    let more: Vec<i64> = read.iter().copied().collect();
                    more.iter().for_each(|element| read.extend(&known[*element as usize]));
                }
                // The past of an add has only what succeeded before it, and what was read.
                for element in &read {
                    must[process].extend(&known[*element as usize]);
                }
                bad |= !must[process].is_subset(&read);
                builder.done(process as i64, "read", Value::Nil, list(read));
            }
        }
        for process in 0..2 {
            let all: BTreeSet<i64> = must.iter().flatten().copied().collect::<BTreeSet<_>>();
            builder.invoke(process, "read", Value::Nil);
            finally(builder.ok(process, "read", list(all.union(&ok_adds).copied())));
        }
        let history = builder.history();
        let result = judged("g-set", &history);
        let expected = if bad { Verdict::Invalid } else { Verdict::Valid };
        assert_eq!(result.verdict, expected, "{}\n{}", result.reason, show(&history));
        verdicts[usize::from(bad)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 50), "{verdicts:?}");
}

/// A transaction: its process, its writes (key, value), and its past with itself.
type Past = (usize, Vec<(i64, i64)>, BTreeSet<usize>);

/// Random transactions on registers in which the greatest value wins. The oracle: a read must be at least the
/// greatest write of the key in its past by happens-before.
#[test]
fn greatest_values_agree_with_the_definition() {
    let mut random = Random(5);
    let mut verdicts = [0; 2];
    for _ in 0..cases(3_000) {
        let mut builder = Builder::default();
        let mut txns: Vec<Past> = Vec::new();
        let mut unused: Vec<i64> = (1..40).collect();
        let mut bad = false;
        for n in 0..2 + random.below(6) {
            let process = random.below(3);
            let mut past: BTreeSet<usize> = BTreeSet::from([n]);
            for (other, _, theirs) in &txns {
                if *other == process {
                    past.extend(theirs);
                }
            }
            let (mut mops, mut writes, mut reads) = (Vec::new(), Vec::new(), Vec::new());
            for key in 0..2i64 {
                match random.below(3) {
                    0 => {
                        let value = unused.swap_remove(random.below(unused.len()));
                        writes.push((key, value));
                        mops.push(mop("w", key, Some(value)));
                    }
                    1 => {
                        let all: Vec<(usize, i64)> = txns
                            .iter()
                            .enumerate()
                            .flat_map(|(t, txn)| {
                                txn.1.iter().filter(|w| w.0 == key).map(move |w| (t, w.1))
                            })
                            .collect();
                        let best = random.chance(70);
                        let from = match all.is_empty() {
                            true => None,
                            false if best => all.iter().max_by_key(|w| w.1).copied(),
                            false => Some(all[random.below(all.len())]),
                        };
                        if let Some((writer, _)) = from {
                            past.extend(txns[writer].2.clone());
                        }
                        reads.push((key, from.map_or(0, |w| w.1)));
                        mops.push(mop("r", key, from.map(|w| w.1)));
                    }
                    _ => {}
                }
            }
            for (key, value) in reads {
                let known = past.iter().filter(|t| **t != n).flat_map(|t| &txns[*t].1);
                let greatest = known.filter(|w| w.0 == key).map(|w| w.1).max().unwrap_or(0);
                bad |= value < greatest;
            }
            txn(&mut builder, process as i64, mops);
            txns.push((process, writes, past));
        }
        for process in 0..2 {
            let greatest = |key| {
                let writes = txns.iter().flat_map(|txn| &txn.1);
                writes.filter(|w| w.0 == key).map(|w| w.1).max()
            };
            txn(&mut builder, process, vec![mop("r", 0, greatest(0)), mop("r", 1, greatest(1))]);
            let last = builder.ops.len() - 1;
            finally(&mut builder.ops[last]);
        }
        let history = builder.history();
        let result = judged("max-write-wins", &history);
        let expected = if bad { Verdict::Invalid } else { Verdict::Valid };
        assert_eq!(result.verdict, expected, "{}\n{}", result.reason, show(&history));
        verdicts[usize::from(bad)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 50), "{verdicts:?}");
}
