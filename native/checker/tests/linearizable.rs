//! `linearizable` against a brute-force oracle, planted anomalies, and histories with known answers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Builder, Random, cases, check, int, pair, show};
use fuzz_dist_checker::Budget;
use fuzz_dist_checker::linearizable::calls::{RegisterOptions, register_calls};
use fuzz_dist_checker::linearizable::model::{Register, RegisterCall};
use fuzz_dist_checker::linearizable::search::forever::{Attempt, Forever};
use fuzz_dist_checker::linearizable::search::portfolio::{self, Strategy};
use fuzz_dist_checker::linearizable::search::{Call, Outcome, search_from, search_once};
use fuzz_dist_core::{History, OpType, Value, Verdict};
use serde_json::json;

/// An operation for the oracle.
#[derive(Clone, Debug)]
struct OracleOp {
    f: String,
    argument: Value,
    result: Value,
    certain: bool,
    invoke: usize,
    ret: usize,
}

fn oracle_ops(history: &History, observe_failed: bool) -> Vec<OracleOp> {
    let mut ops = Vec::new();
    for (invoke, completion) in history.client_pairs() {
        let outcome = completion.map_or(OpType::Info, |c| c.op_type);
        let f = invoke.f.to_string();
        let failed_cas = outcome == OpType::Fail && f == "cas" && observe_failed;
        if outcome == OpType::Fail && !failed_cas {
            continue;
        }
        ops.push(OracleOp {
            f: if failed_cas { "differs".into() } else { f },
            argument: invoke.value.clone(),
            result: completion.map_or(Value::Nil, |c| c.value.clone()),
            certain: outcome != OpType::Info,
            invoke: invoke.index as usize,
            ret: match outcome {
                OpType::Info => usize::MAX,
                _ => completion.map_or(usize::MAX, |c| c.index as usize),
            },
        });
    }
    ops
}

/// Tries every order: an operation may come next if no other one that is left returned before it was
/// invoked; those that may have happened can be left out.
fn oracle(ops: &[OracleOp], value: &Value) -> bool {
    if ops.iter().all(|op| !op.certain) {
        return true;
    }
    (0..ops.len()).any(|i| {
        let op = &ops[i];
        if ops.iter().any(|other| other.ret < op.invoke) {
            return false;
        }
        let after = match op.f.as_str() {
            "read" if !op.certain => return false,
            "read" if op.result == *value => value.clone(),
            "write" => op.argument.clone(),
            "cas" if op.argument.items().unwrap()[0] == *value => {
                op.argument.items().unwrap()[1].clone()
            }
            "differs" if op.argument.items().unwrap()[0] != *value => value.clone(),
            _ => return false,
        };
        let mut rest = ops.to_vec();
        rest.remove(i);
        oracle(&rest, &after)
    })
}

struct Shape {
    processes: usize,
    operations: usize,
    values: usize,
    cas: bool,
    unique: bool,
    info_percent: usize,
    lie_percent: usize,
}

/// Runs processes against one register that acts at a random moment between invocation and return.
/// With `lie_percent`, reads sometimes return any value.
fn register_run(random: &mut Random, shape: &Shape) -> History {
    #[derive(Clone)]
    struct Open {
        f: &'static str,
        argument: Value,
        outcome: Option<(OpType, Value)>,
    }
    let mut builder = Builder::default();
    let mut value = Value::Nil;
    let mut open: Vec<Option<Open>> = vec![None; shape.processes];
    let mut names: Vec<i64> = (0..shape.processes as i64).collect();
    let mut written = 0;
    let mut left = shape.operations;
    while left > 0 || open.iter().any(Option::is_some) {
        let p = random.below(shape.processes);
        let fresh = |random: &mut Random, written: &mut i64| {
            if shape.unique {
                *written += 1;
                int(*written)
            } else {
                int(random.below(shape.values) as i64)
            }
        };
        match open[p].take() {
            None if left > 0 => {
                left -= 1;
                let (f, argument) = match random.below(if shape.cas { 3 } else { 2 }) {
                    0 => ("read", Value::Nil),
                    1 => ("write", fresh(random, &mut written)),
                    _ => {
                        let from = if random.chance(70) {
                            value.clone()
                        } else {
                            int(random.below(shape.values) as i64)
                        };
                        ("cas", pair(from, fresh(random, &mut written)))
                    }
                };
                builder.invoke(names[p], f, argument.clone());
                open[p] = Some(Open { f, argument, outcome: None });
            }
            None => {}
            Some(mut op) if op.outcome.is_none() => {
                let outcome = match op.f {
                    "read" if random.chance(shape.lie_percent) => {
                        let n = if shape.unique { written as usize + 1 } else { shape.values };
                        (OpType::Ok, int(random.below(n.max(1)) as i64))
                    }
                    "read" => (OpType::Ok, value.clone()),
                    "write" => {
                        value = op.argument.clone();
                        (OpType::Ok, op.argument.clone())
                    }
                    _ => {
                        let items = op.argument.items().unwrap().to_vec();
                        if items[0] == value {
                            value = items[1].clone();
                            (OpType::Ok, op.argument.clone())
                        } else {
                            (OpType::Fail, op.argument.clone())
                        }
                    }
                };
                if random.chance(shape.info_percent) {
                    // Whether it acts before it is given up on is open.
                    builder.info(names[p], op.f, op.argument.clone());
                    names[p] += shape.processes as i64;
                } else {
                    op.outcome = Some(outcome);
                    open[p] = Some(op);
                }
            }
            Some(op) => {
                let (op_type, result) = op.outcome.expect("it acted");
                builder.push(names[p], op_type, op.f, result);
            }
        }
    }
    builder.history()
}

fn random_shape(random: &mut Random) -> Shape {
    Shape {
        processes: 1 + random.below(5),
        operations: 1 + random.below(8),
        values: 1 + random.below(3),
        cas: random.chance(60),
        unique: random.chance(40),
        info_percent: [0, 15, 40][random.below(3)],
        lie_percent: [0, 20, 60][random.below(3)],
    }
}

#[test]
fn agrees_with_trying_every_order() {
    let mut seen = [0u64; 3];
    let mut unique_seen = [0u64; 2];
    let mut simpler_seen = [0u64; 2];
    for case in 0..cases(8_000) {
        let mut random = Random(case);
        let shape = random_shape(&mut random);
        let history = register_run(&mut random, &shape);
        let observe = random.chance(20);
        let expected = oracle(&oracle_ops(&history, observe), &Value::Nil);
        let failed_cas = if observe { "observe" } else { "ignore" };
        let other = ["search", "depth-first", "breadth-first"][case as usize % 3];
        for algorithm in ["auto", other] {
            let options = json!({"failed-cas": failed_cas, "algorithm": algorithm});
            let result = check("linearizable", options, &history);
            let verdict = if expected { Verdict::Valid } else { Verdict::Invalid };
            assert_eq!(
                result.verdict,
                verdict,
                "case {case}, {algorithm}, failed cas {failed_cas}: {}\n{}",
                result.reason,
                show(&history)
            );
            if algorithm == "auto" && result.details["keys_by_special_case"] == 1 {
                unique_seen[usize::from(expected)] += 1;
            }
            if !expected {
                evidence_is_a_proof(&history, &result, observe);
            }
        }
        assert_eq!(narrow_search(&history, observe), expected, "case {case}\n{}", show(&history));
        if case % 4 == 1 {
            let both = side_by_side(&history, observe);
            assert_eq!(both, expected, "case {case}\n{}", show(&history));
        }
        let tried = if case % 4 == 0 { attempts(&history, observe) } else { Vec::new() };
        for (forever, decided) in tried {
            assert_eq!(decided, expected, "case {case}, {forever:?}\n{}", show(&history));
            simpler_seen[usize::from(decided)] += 1;
        }
        seen[usize::from(expected)] += 1;
    }
    assert!(simpler_seen.iter().all(|n| *n > 500), "simpler problems: {simpler_seen:?}");
    assert!(seen[0] * 10 > seen[1] && seen[1] * 10 > seen[0], "both answers were tried: {seen:?}");
    assert!(unique_seen[0] > 50 && unique_seen[1] > 50, "so was the special case: {unique_seen:?}");
}

/// The calls of a register and its classes.
fn calls_of(history: &History, observe: bool) -> (Vec<RegisterCall>, Vec<Call>) {
    let options = RegisterOptions {
        cas: true,
        independent: false,
        failed_cas_observes: observe,
        nil_reads_are_unknown: false,
        initial: Value::Nil,
    };
    let read = register_calls(history, &options).unwrap();
    let keyed = &read.keys[0].calls;
    let classes: Vec<_> = keyed.iter().map(|call| call.call).collect();
    let class = |call| classes.iter().position(|c| *c == call).unwrap() as u32;
    let calls = keyed
        .iter()
        .map(|call| Call { class: class(call.call), invoke: call.invoke, ret: call.ret })
        .collect();
    (classes, calls)
}

/// The search with a beam of one configuration, which has to go back and widen it all the time.
fn narrow_search(history: &History, observe: bool) -> bool {
    let (classes, calls) = calls_of(history, observe);
    let mut register = Register { classes: &classes };
    match search_from(&mut register, &calls, &Budget::UNLIMITED.start(), 1) {
        Outcome::Linearizable(_) => true,
        Outcome::Stuck(_) => false,
        Outcome::GaveUp(why) => panic!("no budget was set, but it gave up: {why:?}"),
    }
}

/// Both strategies at once, which histories as small as these need not.
fn side_by_side(history: &History, observe: bool) -> bool {
    let (classes, calls) = calls_of(history, observe);
    let meter = Budget::UNLIMITED.start();
    let make = || Register { classes: &classes };
    match portfolio::decide(&make, &calls, &meter, Strategy::SideBySide) {
        Outcome::Linearizable(_) => true,
        Outcome::Stuck(_) => false,
        Outcome::GaveUp(why) => panic!("no budget was set, but it gave up: {why:?}"),
    }
}

/// Each of the simpler problems with other rules for calls that never return, where it decides.
fn attempts(history: &History, observe: bool) -> Vec<(Forever, bool)> {
    let (classes, calls) = calls_of(history, observe);
    let simpler =
        [0, 1, 2].into_iter().flat_map(|n| [Forever::Expiring(n + 1), Forever::Unlimited(n)]);
    simpler
        .filter_map(|forever| {
            let attempt = Attempt { forever, steps_max: Some(1_000_000) };
            let mut register = Register { classes: &classes };
            let meter = Budget::UNLIMITED.start();
            let outcome = search_once(&mut register, &calls, &meter, attempt, 4)?;
            Some((forever, matches!(outcome, Outcome::Linearizable(_))))
        })
        .collect()
}

/// The operations of the counter-example, taken alone, must not be linearizable.
fn evidence_is_a_proof(history: &History, result: &fuzz_dist_core::CheckResult, observe: bool) {
    let anomaly = &result.anomalies[0];
    let ops: Vec<OracleOp> = oracle_ops(history, observe)
        .into_iter()
        .filter(|op| anomaly.ops.contains(&(op.invoke as u64)))
        .collect();
    assert!(!oracle(&ops, &Value::Nil), "{}\n{}", anomaly.text, show(history));
    let invoked: Vec<u64> = ops.iter().map(|op| op.invoke as u64).collect();
    assert!(anomaly.longest_order.len() < ops.len(), "an order of all would be no anomaly");
    assert!(anomaly.longest_order.iter().all(|position| invoked.contains(position)));
    let details = &result.details["evidence"][0];
    assert_eq!(details["op"], anomaly.ops[0]);
    assert_eq!(details["operations"].as_array().unwrap().len(), ops.len());
    let configs = details["configurations"].as_array().unwrap();
    assert!(!configs.is_empty() && configs.iter().all(|config| config["state"].is_string()));
    assert!(!anomaly.text.is_empty());
}

#[test]
fn a_correct_register_is_linearizable_and_a_lie_is_found() {
    for case in 0..60 {
        let mut random = Random(case + 1_000_000);
        let shape = Shape {
            processes: 2 + random.below(12),
            operations: 2_000,
            values: 2 + random.below(6),
            cas: random.chance(60),
            unique: case % 3 == 0,
            info_percent: [0, 1][random.below(2)],
            lie_percent: 0,
        };
        let history = register_run(&mut random, &shape);
        let result = check("linearizable", json!({}), &history);
        assert_eq!(result.verdict, Verdict::Valid, "case {case}: {}", result.reason);
        // A read that returns a value nobody ever wrote, somewhere in the second half.
        let mut ops = history.into_ops();
        let half = ops.len() / 2;
        let place = (half..ops.len())
            .find(|&i| ops[i].op_type == OpType::Ok && ops[i].f == "read")
            .expect("there is a read");
        ops[place].value = int(1_000_000);
        let broken = History::new(ops).unwrap();
        let result = check("linearizable", json!({}), &broken);
        assert_eq!(result.verdict, Verdict::Invalid, "case {case}");
        assert!(result.anomalies[0].ops.contains(&(place as u64)));
    }
}

/// A sequential tail with a stale read: the value was overwritten before the read was invoked.
#[test]
fn a_stale_read_after_a_long_history_is_found_and_made_small() {
    for unique in [true, false] {
        let mut random = Random(7);
        let shape = Shape {
            processes: 10,
            operations: 5_000,
            values: 5,
            cas: false,
            unique,
            info_percent: 0,
            lie_percent: 0,
        };
        let mut builder = Builder { ops: register_run(&mut random, &shape).into_ops() };
        for op in [("write", 4_000_001), ("write", 4_000_002)] {
            builder.done(0, op.0, int(op.1), int(op.1));
        }
        builder.done(1, "read", Value::Nil, int(4_000_001));
        let result = check("linearizable", json!({}), &builder.history());
        assert_eq!(result.verdict, Verdict::Invalid);
        let anomaly = &result.anomalies[0];
        assert_eq!(anomaly.ops.len(), 6, "two writes and a read: {}", anomaly.text);
        assert!(anomaly.text.contains("read 4000001"), "{}", anomaly.text);
    }
}

#[test]
fn keys_are_apart_and_named() {
    let mut builder = Builder::default();
    for key in 0..20 {
        builder.done(0, "write", pair(int(key), int(1)), pair(int(key), int(1)));
        let seen = if key == 13 { 2 } else { 1 };
        builder.done(1, "read", pair(int(key), Value::Nil), pair(int(key), int(seen)));
    }
    let result = check("linearizable", json!({"independent": true}), &builder.history());
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies.len(), 1);
    assert_eq!(result.anomalies[0].key.as_deref(), Some("13"));
    assert_eq!(result.counts["keys-invalid"], 1);
    assert_eq!(result.counts["keys"], 20);
}

#[test]
fn what_is_not_a_register_is_unknown_and_named() {
    let mut builder = Builder::default();
    builder.done(0, "enqueue", int(1), int(1));
    let result = check("linearizable", json!({}), &builder.history());
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains(":enqueue"), "{}", result.reason);

    let mut builder = Builder::default();
    builder.done(0, "cas", pair(int(1), int(2)), pair(int(1), int(2)));
    let result = check("linearizable", json!({"model": "register"}), &builder.history());
    assert_eq!(result.verdict, Verdict::Unknown);

    let mut builder = Builder::default();
    builder.done(0, "write", int(1), int(1));
    let result = check("linearizable", json!({"independent": "true"}), &builder.history());
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains("record 0"), "{}", result.reason);
}

#[test]
fn the_initial_value_is_an_option() {
    let mut builder = Builder::default();
    builder.done(0, "read", Value::Nil, int(0));
    assert_eq!(check("linearizable", json!({}), &builder.history()).verdict, Verdict::Invalid);
    let options = json!({"initial": 0});
    assert_eq!(check("linearizable", options, &builder.history()).verdict, Verdict::Valid);
    let options = json!({"initial": "0"});
    assert_eq!(check("linearizable", options, &builder.history()).verdict, Verdict::Valid);
}

#[test]
fn a_used_up_budget_is_unknown_and_says_how_far() {
    // Sums of even numbers are even, but no search finds that out before it has tried all of them.
    let mut random = Random(3);
    let mut builder = Builder::default();
    for process in 0..60 {
        let amount = 2 * random.below(1 << 40) as i64;
        builder.invoke(process, "add", int(amount));
    }
    builder.done(99, "read", Value::Nil, int(1));
    let history = builder.history();
    let options = json!({"model": "counter"});
    let checker = fuzz_dist_checker::build(&common::spec("linearizable", options)).unwrap();
    let time = std::time::Duration::from_millis(500);
    let budget = Budget { time: Some(time), ..Budget::default() };
    let result = checker.check(&history, &budget);
    assert_eq!(result.verdict, Verdict::Unknown, "{}", result.reason);
    assert!(result.reason.contains("time budget"), "{}", result.reason);
    assert!(result.reason.contains("operations had returned"), "{}", result.reason);
}

#[test]
fn a_read_of_nil_means_what_is_asked_for() {
    let text = "{:process 0 :type :invoke :f :write :value 1}
        {:process 0 :type :ok :f :write :value 1}
        {:process 0 :type :invoke :f :read :value nil}
        {:process 0 :type :ok :f :read :value nil}";
    let history =
        fuzz_dist_core::interop::load_bytes("text", text.as_bytes(), None).unwrap().history;
    for (options, verdict) in [
        (serde_json::json!({}), Verdict::Invalid),
        (serde_json::json!({"nil-read": "value"}), Verdict::Invalid),
        (serde_json::json!({"nil-read": "unknown"}), Verdict::Valid),
    ] {
        assert_eq!(common::check("linearizable", options, &history).verdict, verdict);
    }
}
