//! `agreement` and `latency` against their definitions written out, and planted violations.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{OpType, Sym, Value, Verdict};
use serde_json::json;

fn answer(builder: &mut Builder, node: &str, f: &str, value: Value) {
    let process = 100 + builder.ops.len() as i64;
    let invoke = builder.invoke(process, f, Value::Nil);
    invoke.node = Some(Sym::new(node));
    invoke.extra = Some(Arc::new(vec![(Sym::new("final?"), Value::Bool(true))]));
    builder.ok(process, f, value).node = Some(Sym::new(node));
}

#[test]
fn agreement_is_one_last_answer_of_all_nodes() {
    let mut seen = [0u64; 3];
    for case in 0..cases(3_000) {
        let mut random = Random(case);
        let mut builder = Builder::default();
        let nodes = ["n1", "n2", "n3"];
        for _ in 0..random.below(4) {
            let node = nodes[random.below(3)];
            builder.invoke(1, "read", Value::Nil).node = Some(Sym::new(node));
            builder.ok(1, "read", int(random.below(9) as i64)).node = Some(Sym::new(node));
        }
        let took_part: BTreeSet<&str> =
            builder.ops.iter().filter_map(|op| op.node).map(|node| node.as_str()).collect();
        let mut last: std::collections::BTreeMap<&str, i64> = Default::default();
        for _ in 0..random.below(6) {
            let (node, value) = (nodes[random.below(3)], random.below(2) as i64);
            answer(&mut builder, node, "read", int(value));
            last.insert(node, value);
        }
        let values: BTreeSet<i64> = last.values().copied().collect();
        let all_answered = took_part.iter().all(|node| last.contains_key(node));
        let expected = match (values.len(), all_answered) {
            (0, _) => Verdict::Unknown,
            (1, true) => Verdict::Valid,
            (1, false) => Verdict::Unknown,
            _ => Verdict::Invalid,
        };
        let history = builder.history();
        let result = check("agreement", json!({}), &history);
        assert_eq!(result.verdict, expected, "{case}: {}\n{}", result.reason, show(&history));
        seen[expected as usize] += 1;
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

#[test]
fn one_leader_is_somebody_and_the_same_everywhere() {
    let of = |values: &[Value]| {
        let mut builder = Builder::default();
        for (value, node) in values.iter().zip(["n1", "n2", "n3"]) {
            answer(&mut builder, node, "leader", value.clone());
        }
        let result = check("agreement", json!({"leader": true}), &builder.history());
        (result.verdict, result.anomalies.first().map(|anomaly| anomaly.name.clone()))
    };
    let (yes, no) = (Value::Bool(true), Value::Bool(false));
    let invalid = |name: &str| (Verdict::Invalid, Some(name.to_owned()));
    assert_eq!(of(&[Value::sym("n1"), Value::sym("n1")]), (Verdict::Valid, None));
    assert_eq!(of(&[Value::sym("n1"), Value::sym("n2")]), invalid("two-leaders"));
    assert_eq!(of(&[Value::Nil, Value::Nil]), invalid("no-leader"));
    assert_eq!(of(&[Value::sym("undefined"), Value::sym("undefined")]), invalid("no-leader"));
    assert_eq!(of(&[no.clone(), yes.clone(), no.clone()]), (Verdict::Valid, None));
    assert_eq!(of(&[yes.clone(), yes, no.clone()]), invalid("two-leaders"));
    assert_eq!(of(&[no.clone(), no]), invalid("no-leader"));
}

#[test]
fn lists_may_be_compared_without_their_order() {
    let mut builder = Builder::default();
    answer(&mut builder, "n1", "members", Value::list(vec![int(1), int(2)]));
    answer(&mut builder, "n2", "members", Value::list(vec![int(2), int(1)]));
    let history = builder.history();
    assert_eq!(check("agreement", json!({}), &history).verdict, Verdict::Invalid);
    let ignored = check("agreement", json!({"order": "ignore"}), &history);
    assert_eq!(ignored.verdict, Verdict::Valid, "{}", ignored.reason);
}

#[test]
fn no_call_outlives_its_bound() {
    let mut seen = [0u64; 3];
    for case in 0..cases(3_000) {
        let mut random = Random(case);
        let mut builder = Builder::default();
        let mut late = 0;
        // Each process calls once; times are drawn, and put in order.
        let mut events: Vec<(i64, usize, bool)> = Vec::new();
        let calls: Vec<(i64, Option<i64>, bool)> = (0..1 + random.below(5))
            .map(|_| {
                let (from, took) = (random.below(50) as i64, random.below(40) as i64);
                (from, random.chance(85).then_some(from + took), random.chance(50))
            })
            .collect();
        for (i, (from, to, _)) in calls.iter().enumerate() {
            events.push((*from, i, true));
            events.extend(to.map(|to| (to, i, false)));
        }
        events.sort_by_key(|(at, i, is_invoke)| (*at, *i, !is_invoke));
        let end = events.iter().map(|event| event.0).max().unwrap();
        for (at, i, is_invoke) in events {
            let f = if calls[i].2 { "read" } else { "write" };
            let outcome = [OpType::Ok, OpType::Fail, OpType::Info][random.below(3)];
            let op_type = if is_invoke { OpType::Invoke } else { outcome };
            builder.push(i as i64, op_type, f, Value::Nil).time_ns = at * 1_000_000;
        }
        let bound = |is_read: bool| if is_read { 10 } else { 25 };
        let mut judged = 0;
        for (from, to, is_read) in &calls {
            let took = to.unwrap_or(end) - from;
            late += u64::from(took > bound(*is_read));
            judged += u64::from(to.is_some() || took > bound(*is_read));
        }
        let history = builder.history();
        let options = json!({"within-ms": {"read": 10, "write": 25}});
        let result = check("latency", options, &history);
        let expected = if late > 0 { Verdict::Invalid } else { Verdict::Valid };
        assert_eq!(result.verdict, expected, "{case}: {}\n{}", result.reason, show(&history));
        assert_eq!((result.counts["late"], result.counts["bounded-calls"]), (late, judged));
        let same = check("latency", json!({"within-ms": "read=10,write=25"}), &history);
        assert_eq!(same.counts, result.counts);
        seen[expected as usize] += 1;
    }
    assert!(seen[0] > 100 && seen[2] > 100, "{seen:?}");
}

#[test]
fn a_call_may_have_a_time_out_of_its_own() {
    let mut builder = Builder::default();
    let own = Some(Arc::new(vec![(Sym::new("timeout-ms"), int(5))]));
    builder.invoke(0, "call", Value::Nil).extra = own;
    builder.info(0, "call", Value::Nil).time_ns = 9_000_000;
    let history = builder.history();
    let result = check("latency", json!({}), &history);
    assert_eq!(result.verdict, Verdict::Invalid, "{}", result.reason);
    let tolerated = check("latency", json!({"tolerance-ms": 10}), &history);
    assert_eq!(tolerated.verdict, Verdict::Valid, "{}", tolerated.reason);
    let refused = |given: serde_json::Value| {
        let spec = common::spec("latency", json!({"within-ms": given}));
        fuzz_dist_checker::build(&spec).err().map(|error| error.to_string())
    };
    for given in [json!(-1), json!("fast"), json!({"read": "x"}), json!("read=x"), json!(0)] {
        assert!(refused(given.clone()).is_some_and(|e| e.contains("milliseconds")), "{given}");
    }
}
