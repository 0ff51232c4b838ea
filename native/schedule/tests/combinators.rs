//! What each combinator promises, in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{MS, Run, SECOND, Trace};
use fuzz_dist_core::{OpType, Value};
use serde_json::{Value as Json, json};

fn run(json: Json) -> Trace {
    Run::default().of(&json)
}

fn reads() -> Json {
    json!({"f": "read"})
}

fn writes() -> Json {
    json!({"f": "write", "value": {"unique": 0}})
}

#[test]
fn limit_and_once_are_exact() {
    for count in [0, 1, 7, 100] {
        assert_eq!(run(json!({"limit": [count, reads()]})).ops.len(), count);
    }
    assert_eq!(run(json!({"once": reads()})).ops.len(), 1);
    // An inner end comes first.
    assert_eq!(run(json!({"limit": [10, {"limit": [3, reads()]}]})).ops.len(), 3);
}

#[test]
fn time_limit_counts_from_the_first_ask_and_ends_on_time() {
    let trace = run(json!([{"sleep": 1}, {"time-limit": [2, {"delay": [0.5, reads()]}]}]));
    let times: Vec<u64> = trace.ops.iter().map(|op| op.time_ns / MS).collect();
    assert_eq!(times, [1_000, 1_500, 2_000, 2_500]);
    assert_eq!(trace.done_ns, Some(3 * SECOND));
}

#[test]
fn time_limit_ends_even_while_everything_waits_for_completions() {
    let slow = Run { answer: |_, _| (10 * SECOND, OpType::Ok), ..Run::default() };
    let trace = slow.of(&json!([{"time-limit": [1, reads()]}, {"log": "over"}]));
    assert_eq!(trace.ops.len(), 4);
    assert_eq!(trace.logs, [(SECOND, "over".to_owned())]);
    assert_eq!(trace.done_ns, Some(10 * SECOND), "what is under way is not interrupted");
}

#[test]
fn stagger_keeps_its_total_rate_and_delay_its_gap() {
    let staggered = Run { ops_max: 10_000, ..Run::default() }
        .of(&json!({"time-limit": [10, {"stagger": [0.01, reads()]}]}));
    assert!((900..1_100).contains(&staggered.ops.len()), "{} operations", staggered.ops.len());
    let gaps: Vec<u64> = staggered.ops.windows(2).map(|w| w[1].time_ns - w[0].time_ns).collect();
    assert!(gaps.iter().all(|gap| *gap <= 20 * MS) && gaps.iter().any(|gap| *gap < 5 * MS));
    let delayed = run(json!({"limit": [5, {"delay": [0.01, reads()]}]}));
    let times: Vec<u64> = delayed.ops.iter().map(|op| op.time_ns / MS).collect();
    assert_eq!(times, [0, 10, 20, 30, 40]);
}

#[test]
fn stagger_does_not_make_up_for_a_stall_and_delay_does() {
    let stalled = Run {
        threads: 1,
        answer: |at, _| (if at == 0 { 2 * SECOND } else { MS / 10 }, OpType::Ok),
        ..Run::default()
    };
    let within = |trace: &Trace| {
        trace
            .ops
            .iter()
            .filter(|op| (2 * SECOND..2 * SECOND + 50 * MS).contains(&op.time_ns))
            .count()
    };
    let staggered = stalled.of(&json!({"time-limit": [3, {"stagger": [0.02, reads()]}]}));
    assert!(within(&staggered) <= 10, "a burst of {}", within(&staggered));
    let delayed = stalled.of(&json!({"time-limit": [3, {"delay": [0.02, reads()]}]}));
    assert!(within(&delayed) >= 100, "only {} to catch up", within(&delayed));
}

#[test]
fn a_spent_generator_does_not_wait_for_its_next_turn() {
    for pace in ["stagger", "delay"] {
        let trace = run(json!({pace: [100, {"once": reads()}]}));
        assert_eq!(trace.done_ns, Some(MS), "{pace}");
    }
}

#[test]
fn mix_follows_its_weights_and_outlives_members_that_end() {
    let trace = run(json!({"mix": [reads(), writes()], "weights": [3, 1]}));
    assert!((700..800).contains(&trace.count("read")), "{} reads", trace.count("read"));
    let trace = run(json!({"limit": [50, {"mix": [{"limit": [3, reads()]}, writes()]}]}));
    assert_eq!((trace.count("read"), trace.count("write")), (3, 47));
    let never = run(json!({"mix": [reads(), writes()], "weights": [0, 1]}));
    assert_eq!(never.count("read"), 0);
}

#[test]
fn a_member_that_waits_does_not_hold_up_the_mix() {
    let slow = json!({"delay": [1, reads()]});
    let trace = Run { until_ns: 10 * SECOND, ops_max: 100_000, ..Run::default() }
        .of(&json!({"time-limit": [5, {"mix": [slow, {"delay": [0.001, writes()]}]}]}));
    assert_eq!(trace.count("read"), 5);
    assert!(trace.count("write") > 4_000, "{} writes", trace.count("write"));
}

#[test]
fn phases_are_in_order_and_wait_for_all_threads() {
    let varied = Run { answer: |at, _| ((1 + at as u64 % 7) * MS, OpType::Ok), ..Run::default() };
    for phased in [
        json!({"phases": [{"limit": [10, reads()]}, {"limit": [10, writes()]}]}),
        json!({"then": [{"limit": [10, reads()]}, {"limit": [10, writes()]}]}),
        json!([{"limit": [10, reads()]}, {"synchronize": {"limit": [10, writes()]}}]),
    ] {
        let trace = varied.of(&phased);
        assert_eq!((trace.count("read"), trace.count("write")), (10, 10));
        let last_read = (0..10).map(|at| trace.completion_ns(at)).max().unwrap();
        assert!(trace.ops[10..].iter().all(|op| op.f == "write" && op.time_ns >= last_read));
    }
    // A bare sequence does not wait.
    let trace = varied.of(&json!([{"limit": [10, reads()]}, {"limit": [10, writes()]}]));
    let last_read = (0..10).map(|at| trace.completion_ns(at)).max().unwrap();
    assert!(trace.ops[10].time_ns < last_read);
}

#[test]
fn flip_flop_alternates_until_one_ends() {
    let trace = run(json!({"flip-flop": [reads(), {"limit": [3, writes()]}]}));
    assert_eq!(trace.fs(), ["read", "write", "read", "write", "read", "write", "read"]);
}

#[test]
fn repeat_takes_the_first_and_cycle_the_whole() {
    let two = json!([{"once": reads()}, {"once": writes()}]);
    assert_eq!(run(json!({"repeat": [3, two]})).fs(), ["read"; 3]);
    assert_eq!(run(json!({"cycle": [2, two]})).fs(), ["read", "write", "read", "write"]);
    assert_eq!(run(json!({"cycle": two})).ops.len(), 1_000, "for ever");
    assert_eq!(run(json!({"repeat": two})).count("read"), 1_000);
    // Unique values stay unique from round to round.
    assert_eq!(run(json!({"cycle": [3, {"limit": [2, writes()]}]})).ints(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn cycles_of_nothing_end() {
    for nothing in
        [json!([]), json!({"sleep": 0}), json!({"limit": [0, reads()]}), json!({"log": "x"})]
    {
        assert_eq!(run(json!({ "cycle": nothing })).done_ns, Some(0), "{nothing}");
        assert_eq!(run(json!({"independent": {"generator": nothing}})).done_ns, Some(0));
    }
    let logs = run(json!({"repeat": {"log": "x"}}));
    assert_eq!(logs.logs.len(), 1);
}

#[test]
fn each_thread_has_its_own_copy() {
    let trace = run(json!({"each-thread": {"limit": [3, reads()]}}));
    let mut by_thread = BTreeMap::new();
    trace.ops.iter().for_each(|op| *by_thread.entry(op.thread).or_insert(0) += 1);
    assert_eq!(by_thread, BTreeMap::from([(0, 3), (1, 3), (2, 3), (3, 3)]));
    // Draws differ from copy to copy, unique values are unique among all.
    let drawn = run(json!({"each-thread": {"once": {"f": "w", "value": {"int": [0, 1_000_000]}}}}));
    assert_eq!(drawn.ints().iter().collect::<BTreeSet<_>>().len(), 4);
    let unique = run(json!({"each-thread": {"limit": [5, writes()]}}));
    assert_eq!(unique.ints().into_iter().collect::<BTreeSet<_>>().len(), 20);
}

#[test]
fn each_process_begins_again_after_a_crash() {
    let crashing = Run {
        answer: |at, _| (MS, if at < 4 { OpType::Info } else { OpType::Ok }),
        ..Run::default()
    };
    let trace = crashing.of(&json!({"each-process": {"limit": [2, reads()]}}));
    let mut by_process = BTreeMap::new();
    trace.ops.iter().for_each(|op| *by_process.entry(op.process).or_insert(0) += 1);
    let old = (0..4).map(|process| (process, 1));
    let new = (4..8).map(|process| (process, 2));
    assert_eq!(by_process, old.chain(new).collect());
    assert!(trace.done_ns.is_some());
}

#[test]
fn a_crashed_thread_goes_on_with_a_new_process() {
    let crashing = Run { answer: |_, _| (MS, OpType::Info), ..Run::default() };
    let trace = crashing.of(&json!({"limit": [20, reads()]}));
    let processes: BTreeSet<i64> = trace.ops.iter().map(|op| op.process).collect();
    assert_eq!(processes.len(), 20, "no process acts after info");
    assert!(trace.ops.iter().all(|op| op.process % 4 == i64::from(op.thread)));
    let failing = Run { answer: |_, _| (MS, OpType::Fail), ..Run::default() };
    let trace = failing.of(&json!({"limit": [20, reads()]}));
    assert!(trace.ops.iter().all(|op| op.process < 4));
}

#[test]
fn reserve_keeps_ranges_apart_and_nests() {
    let named = |f: &str| json!({"f": f});
    let inner = json!({"reserve": [1, named("b"), named("c")]});
    let trace = run(json!({"reserve": [2, named("a"), inner]}));
    for op in &trace.ops {
        let expected = ["a", "a", "b", "c"][op.thread as usize];
        assert_eq!(op.f.as_str(), expected, "thread {}", op.thread);
    }
    assert_eq!(trace.ops.iter().map(|op| op.thread).collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn on_threads_clients_and_nemesis_restrict() {
    let threads = |json: Json| -> BTreeSet<u32> {
        run(json!({"limit": [40, json]})).ops.iter().map(|op| op.thread).collect()
    };
    assert_eq!(threads(json!({"on-threads": [[1, 3], reads()]})), BTreeSet::from([1, 3]));
    assert_eq!(threads(json!({"on-threads": ["even", reads()]})), BTreeSet::from([0, 2]));
    assert_eq!(threads(json!({"on": [{"range": [1, 3]}, reads()]})), BTreeSet::from([1, 2]));
    assert_eq!(threads(json!({"on-threads": [{"node": "n2"}, reads()]})), BTreeSet::from([1, 3]));
    assert_eq!(threads(json!({"on-threads": [{"not": 0}, reads()]})), BTreeSet::from([1, 2, 3]));
    assert_eq!(threads(json!({"on-threads": ["one-per-node", reads()]})), BTreeSet::from([0, 1]));
    assert_eq!(threads(json!({"clients": reads()})), BTreeSet::from([0, 1, 2, 3]));
    assert_eq!(threads(reads()), BTreeSet::from([0, 1, 2, 3]));
    let trace = run(json!({"limit": [3, {"nemesis": reads()}]}));
    assert!(trace.ops.iter().all(|op| op.thread == 4 && op.process == -1));
}

#[test]
fn any_takes_whichever_is_ready_and_starves_nobody() {
    let slow = json!({"delay": [1, reads()]});
    let trace = Run { ops_max: 100_000, ..Run::default() }
        .of(&json!({"time-limit": [10, {"any": [slow, {"delay": [0.1, writes()]}]}]}));
    assert_eq!((trace.count("read"), trace.count("write")), (10, 100));
    let trace = run(json!({"any": [reads(), writes()]}));
    assert!(trace.count("read") > 400 && trace.count("write") > 400);
    let all = run(json!({"any": [{"limit": [2, reads()]}, {"limit": [30, writes()]}]}));
    assert_eq!(all.ops.len(), 32);
    let short = run(json!({"shortest-any": [{"limit": [2, reads()]}, {"limit": [30, writes()]}]}));
    assert!(short.ops.len() < 32 && short.count("read") == 2);
}

#[test]
fn until_ok_ends_with_its_own_success_only() {
    let third = Run {
        threads: 1,
        answer: |at, _| (MS, if at == 2 { OpType::Ok } else { OpType::Fail }),
        ..Run::default()
    };
    assert_eq!(third.of(&json!({"until-ok": reads()})).ops.len(), 3);
    // What is down is not asked as fast as it answers, unless the test says how fast.
    let down = Run {
        threads: 2,
        ops_max: 100_000,
        until_ns: 10 * SECOND,
        answer: |_, _| (MS, OpType::Fail),
        ..Run::default()
    };
    let tries = |generator| down.of(&json!({"each-thread": {"until-ok": generator}})).ops.len();
    assert!((190..=202).contains(&tries(reads())), "{} tries", tries(reads()));
    let own_pace = json!({"delay": [0.01, reads()]});
    assert!((1_900..=2_002).contains(&tries(own_pace.clone())), "{} tries", tries(own_pace));
    // A success of the neighbour is none of its business.
    let mine_fails = Run {
        answer: |_, op| (MS, if op.f == "write" { OpType::Ok } else { OpType::Fail }),
        ..Run::default()
    };
    let trace = mine_fails.of(&json!({"any": [{"until-ok": reads()}, {"limit": [5, writes()]}]}));
    assert!(trace.count("read") > 900);
    // Operations that were under way when a round ended do not end the next.
    let crossing =
        Run { answer: |at, _| ((10 - at as u64 % 10) * MS, OpType::Ok), ..Run::default() };
    let trace = crossing.of(&json!({"cycle": [2, {"until-ok": reads()}]}));
    assert!(trace.ops.len() > 4, "{} operations", trace.ops.len());
}

#[test]
fn process_limit_ends_before_more_processes_are_possible() {
    let crashing = Run { answer: |_, _| (MS, OpType::Info), ..Run::default() };
    let trace = crashing.of(&json!({"process-limit": [10, reads()]}));
    let processes: BTreeSet<i64> = trace.ops.iter().map(|op| op.process).collect();
    assert!(processes.len() <= 10 && processes.len() > 6, "{processes:?}");
    assert!(trace.done_ns.is_some());
    assert_eq!(run(json!({"process-limit": [4, reads()]})).ops.len(), 1_000, "no crash, no end");
}

#[test]
fn concurrency_limit_holds() {
    let trace = run(json!({"limit": [50, {"concurrency-limit": [2, reads()]}]}));
    for op in &trace.ops {
        let busy = trace.ops.iter().enumerate().filter(|(at, other)| {
            other.time_ns <= op.time_ns && trace.completion_ns(*at) > op.time_ns
        });
        assert!(busy.count() <= 2);
    }
    assert_eq!(trace.ops.len(), 50);
}

#[test]
fn cycle_times_gives_each_its_window() {
    let trace = Run { ops_max: 100_000, ..Run::default() }.of(&json!({"time-limit": [6,
        {"cycle-times": [1, {"delay": [0.1, reads()]}, 2, {"delay": [0.1, writes()]}]}]}));
    for op in &trace.ops {
        let expected = if op.time_ns % (3 * SECOND) < SECOND { "read" } else { "write" };
        assert_eq!(op.f.as_str(), expected, "at {} ms", op.time_ns / MS);
    }
    assert!(trace.count("read") >= 20 && trace.count("write") >= 40);
}

#[test]
fn map_f_map_and_filter_change_and_select() {
    let trace = run(json!({"limit": [3, {"map": [
        {"value": {"tuple": ["k", {"the": "value"}]}, "extra": {"final?": true}}, writes()]}]}));
    let key = |n| Value::tuple(vec![Value::str("k"), Value::Int(n)]);
    let values: Vec<Value> = trace.ops.iter().map(|op| op.value.clone()).collect();
    assert_eq!(values, [key(0), key(1), key(2)]);
    let extra = trace.ops[0].extra.as_ref().unwrap();
    assert_eq!((extra[0].0.as_str(), &extra[0].1), ("final?", &Value::Bool(true)));
    let renamed = run(json!({"f-map": [{"read": "get"}, {"limit": [2, reads()]}]}));
    assert_eq!(renamed.fs(), ["get", "get"]);
    let mixed = json!({"limit": [100, {"mix": [reads(), writes()]}]});
    let passed = run(json!({"filter": [{"f": "read"}, mixed]}));
    assert!(passed.ops.len() < 100 && passed.ops.len() == passed.count("read"));
    let threads = run(json!({"limit": [9, {"filter": [{"threads": 3}, reads()]}]}));
    assert!(threads.ops.len() == 9 && threads.ops.iter().all(|op| op.thread == 3));
}

#[test]
fn a_filter_that_nothing_passes_says_so_and_ends() {
    let trace = run(json!({"filter": [{"f": "nothing"}, reads()]}));
    assert!(trace.ops.is_empty() && trace.done_ns == Some(0));
    assert!(trace.logs[0].1.contains("refused 10000 operations in a row"));
}

#[test]
fn sleep_and_log_take_no_thread() {
    let trace = run(json!([{"log": "a"}, {"sleep": 2}, {"log": "b"}, {"once": reads()}]));
    assert_eq!(trace.logs, [(0, "a".to_owned()), (2 * SECOND, "b".to_owned())]);
    assert_eq!(trace.ops[0].time_ns, 2 * SECOND);
}

#[test]
fn independent_gives_each_key_to_one_group() {
    let trace = Run { threads: 7, ..Run::default() }.of(&json!({"independent": {
        "keys": 10, "threads-per-key": 2, "ops-per-key": 20, "generator": writes()}}));
    let mut by_key: BTreeMap<i64, (usize, BTreeSet<u32>)> = BTreeMap::new();
    for op in &trace.ops {
        let (key, value) = op.value.key_and_value().unwrap();
        assert!(matches!(op.value, Value::Tuple(_)) && value.as_int().is_some());
        let entry = by_key.entry(key.as_int().unwrap()).or_default();
        entry.0 += 1;
        entry.1.insert(op.thread);
    }
    assert_eq!(by_key.len(), 10);
    for (key, (ops, threads)) in by_key {
        assert_eq!(ops, 20, "key {key}");
        // 7 threads in 3 groups: 3, 2 and 2.
        assert!(threads.len() <= 3, "key {key} on threads {threads:?}");
    }
}

#[test]
fn independent_takes_listed_keys_and_fewer_keys_than_groups() {
    let trace =
        run(json!({"independent": {"keys": ["a", ":b"], "ops-per-key": 8, "generator": reads()}}));
    let keys: BTreeSet<Value> =
        trace.ops.iter().map(|op| op.value.key_and_value().unwrap().0.clone()).collect();
    assert_eq!(keys, BTreeSet::from([Value::str("a"), Value::sym("b")]));
    assert_eq!(trace.ops.len(), 16);
    assert_eq!(trace.ops.iter().map(|op| op.thread).collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn independent_key_time_moves_on() {
    let trace = Run { ops_max: 100_000, ..Run::default() }
        .of(&json!({"time-limit": [5, {"independent":
        {"threads-per-key": 4, "key-time": 1, "generator": {"delay": [0.1, reads()]}}}]}));
    let keys: BTreeSet<Value> =
        trace.ops.iter().map(|op| op.value.key_and_value().unwrap().0.clone()).collect();
    assert_eq!(keys.len(), 5);
}

#[test]
fn templates_draw_what_they_say() {
    let values = |template: Json| -> Vec<Value> {
        let trace = run(json!({"limit": [500, {"f": "f", "value": template}]}));
        trace.ops.into_iter().map(|op| op.value).collect()
    };
    let ints = |template: Json| -> Vec<i64> {
        values(template).iter().map(|value| value.as_int().unwrap()).collect()
    };
    assert_eq!(
        ints(json!({"int": [-1, 1]})).into_iter().collect::<BTreeSet<_>>(),
        (-1..=1).collect()
    );
    assert_eq!(ints(json!({"unique": {"from": 10, "step": -2}}))[..3], [10, 8, 6]);
    let sparse = ints(json!({"sparse": 100}));
    let first: BTreeSet<i64> = sparse[..100].iter().copied().collect();
    assert_eq!(first, (101..=200).collect());
    let steps: BTreeSet<i64> = sparse[..100].windows(2).map(|w| w[1] - w[0]).collect();
    assert!(steps.len() > 30, "a sum of two would be that of many others: {steps:?}");
    assert_eq!(sparse[100..200].iter().copied().collect::<BTreeSet<_>>(), (201..=300).collect());
    let heavy = values(json!({"weighted": [[9, ":a"], [1, ":b"], [0, ":c"]]}));
    assert!(heavy.iter().filter(|v| **v == Value::sym("a")).count() > 400);
    assert!(!heavy.contains(&Value::sym("c")));
    assert!(ints(json!({"zipf": [10, 1.0]})).iter().all(|n| (0..10).contains(n)));
    assert!(ints(json!({"geometric": 0.5})).contains(&0));
    assert!(
        values(json!({"float": [0, 1]}))
            .iter()
            .all(|v| matches!(v, Value::Float(x) if (0.0..1.0).contains(x)))
    );
    assert_eq!(
        values(json!([":x", "::y", ":nil", null, true, 1.5]))[0].to_string(),
        "[:x \":y\" nil nil true 1.5]"
    );
    assert_eq!(values(json!({"map": {"k": {"int": [1, 1]}}}))[0].to_string(), "{:k 1}");
    assert_eq!(values(json!({"literal": {"int": [":a"]}}))[0].to_string(), "{\"int\" [\":a\"]}");
    let node = run(json!({"limit": [4, {"f": "f", "value": {"the": "node"}}]}));
    assert_eq!(
        node.ops.iter().map(|op| op.value.to_string()).collect::<Vec<_>>(),
        ["\"n1\"", "\"n2\"", "\"n1\"", "\"n2\""]
    );
}
