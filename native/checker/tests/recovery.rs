//! `recovery` against its definition written out naively, and examples.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{History, Op, OpType, Process, Sym, Value, Verdict};
use serde_json::json;

/// What has to be answered: the verdict, and names with keys of anomalies.
type Answer = (Verdict, BTreeSet<(String, String)>);

/// Faults that are active at the end, where one was last healed, and whether any began.
fn faults(ops: &[Op]) -> (BTreeSet<String>, Option<u64>, bool) {
    let (mut active, mut healed, mut begun) = (BTreeSet::new(), None, false);
    let records: Vec<&Op> = ops.iter().filter(|op| op.process == Process::nemesis()).collect();
    let mut at = 0;
    while at < records.len() {
        let op = records[at];
        let f = op.f.as_str();
        if let Some(id) = op.value.get("id") {
            let id = id.to_string();
            match f {
                "fault-start" | "fault-applied" => {
                    active.insert(id);
                    begun = true;
                }
                "fault-failed" => {
                    active.remove(&id);
                }
                "fault-healed" | "fault-heal-observed" => {
                    active.remove(&id);
                    healed = Some(op.index);
                }
                _ => {}
            }
            at += 1;
            continue;
        }
        // Jepsen's write when an operation of the nemesis begins, and when it is done.
        let is_done = records.get(at + 1).is_some_and(|next| next.f == op.f);
        let done = if is_done { records[at + 1] } else { op };
        at += 1 + usize::from(is_done);
        let is_killed = active.contains("kill");
        let mut end = |families: &[&str]| {
            for family in families {
                active.remove(*family);
            }
            healed = Some(done.index);
        };
        match f {
            "heal" | "stop" | "restart" => end(&["kill", "pause", "clock", "other"]),
            "resume" => end(&["pause"]),
            "reset" => end(&["clock"]),
            "stop-partition" => end(&["other"]),
            "start" if is_killed => end(&["kill"]),
            _ => {
                let family = match f {
                    "kill" => "kill",
                    "pause" => "pause",
                    "bump" => "clock",
                    "start" | "start-partition" => "other",
                    other => panic!("{other}"),
                };
                active.insert(family.to_owned());
                begun = true;
            }
        }
    }
    (active, healed, begun)
}

/// Nodes whose last exit no start follows.
fn gone(ops: &[Op]) -> BTreeSet<&'static str> {
    let mut gone = BTreeSet::new();
    for op in ops.iter().filter(|op| op.process == Process::observer()) {
        let node = op.node.unwrap().as_str();
        match op.f.as_str() {
            "node-exited" => gone.insert(node),
            _ => gone.remove(node),
        };
    }
    gone
}

/// The definition: of everything that ever succeeded, whether it did again.
fn answer(history: &History, within_ns: Option<i64>) -> Answer {
    let ops = history.ops();
    let (active, healed, begun) = faults(ops);
    let Some(heal) = healed.filter(|_| begun && active.is_empty()) else {
        return (Verdict::Unknown, BTreeSet::new());
    };
    let heal_ns = ops[heal as usize].time_ns;
    let end_ns = ops.iter().map(|op| op.time_ns).max().unwrap();
    let gone = gone(ops);
    // Times of invocation and, if it succeeded, of completion.
    let mut calls: BTreeMap<String, Vec<(u64, Option<i64>)>> = BTreeMap::new();
    for (invoke, completion) in history.client_pairs() {
        let ok = completion.filter(|done| done.op_type == OpType::Ok).map(|done| done.time_ns);
        calls.entry(format!(":{}", invoke.f)).or_default().push((invoke.index, ok));
        let node = completion.and_then(|done| done.node).or(invoke.node).map(|node| node.as_str());
        if let Some(node) = node.filter(|node| !gone.contains(node)) {
            calls.entry(format!("node {node}")).or_default().push((invoke.index, ok));
        }
    }
    let (mut anomalies, mut is_open, mut recovered) = (BTreeSet::new(), false, false);
    for (what, calls) in calls {
        if calls.iter().all(|(_, ok)| ok.is_none()) {
            continue;
        }
        let after: Vec<_> = calls.iter().filter(|(invoked, _)| *invoked > heal).collect();
        let first = after.iter().filter_map(|(_, ok)| *ok).min();
        let deadline = within_ns.map(|within| heal_ns + within);
        match first {
            Some(at) if deadline.is_some_and(|deadline| at > deadline) => {
                anomalies.insert(("late-recovery".to_owned(), what));
            }
            Some(_) => {}
            None if !after.is_empty() && deadline.is_none_or(|deadline| end_ns >= deadline) => {
                anomalies.insert(("never-recovered".to_owned(), what));
            }
            None => is_open = true,
        }
        recovered |= first.is_some();
    }
    let verdict = match (anomalies.is_empty(), is_open || !recovered) {
        (false, _) => Verdict::Invalid,
        (true, true) => Verdict::Unknown,
        (true, false) => Verdict::Valid,
    };
    (verdict, anomalies)
}

/// Clients that succeed more often than not, on two nodes that exit and start.
fn client(random: &mut Random, builder: &mut Builder, open: &mut [Option<&'static str>; 3]) {
    let process = random.below(3);
    let number = process as i64;
    let node = [None, Some(Sym::new("n1")), Some(Sym::new("n2"))][random.below(3)];
    match open[process].take() {
        None => {
            let f = ["read", "write"][random.below(2)];
            builder.invoke(number, f, Value::Nil).node = node;
            open[process] = Some(f);
        }
        Some(f) => {
            let outcome = [OpType::Ok, OpType::Ok, OpType::Fail, OpType::Info][random.below(4)];
            builder.push(number, outcome, f, Value::Nil).node = node;
        }
    }
}

fn observe(random: &mut Random, builder: &mut Builder) {
    let time = builder.ops.len() as i64 * 1_000_000;
    let f = Sym::new(["node-exited", "node-started", "node-ready"][random.below(3)]);
    let mut op = Op::new(time, Process::observer(), OpType::Info, f, Value::Nil);
    op.node = Some(Sym::new(["n1", "n2"][random.below(2)]));
    builder.ops.push(op);
}

fn random_history(random: &mut Random, ours: bool) -> History {
    const JEPSEN: [&str; 11] = [
        "kill",
        "start",
        "pause",
        "resume",
        "bump",
        "reset",
        "start-partition",
        "stop-partition",
        "heal",
        "stop",
        "restart",
    ];
    let mut builder = Builder::default();
    let mut open = [None; 3];
    let mut last = "";
    for _ in 0..4 + random.below(14) {
        if random.chance(70) {
            client(random, &mut builder, &mut open);
        } else if random.chance(10) {
            observe(random, &mut builder);
        } else if ours {
            let steps = [
                "fault-start",
                "fault-applied",
                "fault-failed",
                "fault-healed",
                "fault-heal-observed",
            ];
            let f = steps[random.below(steps.len())];
            builder.fault(f, random.below(2) as i64, "kill");
        } else {
            let f = JEPSEN[random.below(JEPSEN.len())];
            // Two of a kind in a row could not be told from one that begins and is done.
            if f != last {
                builder.nemesis(f, Value::Nil);
                for _ in 0..random.below(3) {
                    client(random, &mut builder, &mut open);
                }
                if random.chance(90) {
                    builder.nemesis(f, Value::Nil);
                }
                last = f;
            }
        }
    }
    if random.chance(60) {
        // So that there is something to decide.
        if ours {
            (0..2).for_each(|id| builder.fault("fault-healed", id, "kill"));
        } else if last != "heal" {
            builder.nemesis("heal", Value::Nil);
        }
        (0..random.below(10)).for_each(|_| client(random, &mut builder, &mut open));
    }
    builder.history()
}

#[test]
fn recovery_is_the_definition() {
    let mut random = Random(23);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let count = cases(8_000);
    for case in 0..count {
        let history = random_history(&mut random, case % 2 == 0);
        let within_ms = [None, Some(0), Some(2), Some(5)][random.below(4)];
        let options = within_ms.map_or(json!({}), |ms| json!({"within": ms}));
        let result = check("recovery", options, &history);
        let told =
            result.anomalies.iter().map(|a| (a.name.clone(), a.key.clone().unwrap())).collect();
        let wanted = answer(&history, within_ms.map(|ms| ms * 1_000_000));
        let context =
            || format!("case {case}, within {within_ms:?}: {}\n{}", result.reason, show(&history));
        assert_eq!((result.verdict, told), wanted, "{}", context());
        *seen.entry(result.verdict.to_string()).or_default() += 1;
        for (name, _) in wanted.1 {
            *seen.entry(name).or_default() += 1;
        }
    }
    let rare = seen.values().filter(|times| **times < count / 200).count();
    assert!(seen.len() == 5 && rare == 0, "{seen:?}");
}

#[test]
fn recovery_is_timed_from_the_last_heal() {
    let mut builder = Builder::default();
    builder.done(0, "read", Value::Nil, int(1));
    builder.done(0, "write", int(1), int(1));
    let options = |within: i64| json!({"within": within});
    assert_eq!(check("recovery", json!({}), &builder.history()).verdict, Verdict::Unknown);
    builder.fault("fault-applied", 1, "kill");
    assert_eq!(check("recovery", json!({}), &builder.history()).verdict, Verdict::Unknown);
    builder.fault("fault-healed", 1, "kill");
    assert_eq!(check("recovery", json!({}), &builder.history()).verdict, Verdict::Unknown);
    builder.done(0, "read", Value::Nil, int(1));
    let result = check("recovery", json!({}), &builder.history());
    assert!(result.reason.contains(":write was not tried"), "{}", result.reason);
    let mut never = builder.clone();
    for n in 0..10 {
        never.invoke(n, "write", int(1));
        never.fail(n, "write", int(1));
    }
    let result = check("recovery", json!({}), &never.history());
    assert_eq!((result.verdict, &*result.anomalies[0].name), (Verdict::Invalid, "never-recovered"));
    let result = check("recovery", options(100), &never.history());
    assert_eq!(result.verdict, Verdict::Unknown, "ended too soon: {}", result.reason);
    let mut late = never.clone();
    late.done(20, "write", int(1), int(1));
    // The heal is at 5 ms, the success of the write at 29 ms.
    assert_eq!(check("recovery", options(24), &late.history()).verdict, Verdict::Valid);
    let result = check("recovery", options(23), &late.history());
    assert_eq!((result.verdict, &*result.anomalies[0].name), (Verdict::Invalid, "late-recovery"));
    assert_eq!(result.details["by-f-ms"]["write"], json!(24.0));
}

#[test]
fn a_jepsen_nemesis_begins_and_heals_in_pairs() {
    let mut builder = Builder::default();
    builder.done(0, "read", Value::Nil, int(1));
    for f in ["start", "start", "stop", "stop", "kill", "kill", "start", "start"] {
        builder.nemesis(f, Value::Nil);
    }
    builder.done(0, "read", Value::Nil, int(1));
    let result = check("recovery", json!({}), &builder.history());
    assert_eq!(result.verdict, Verdict::Valid, "{}", result.reason);
    assert_eq!(result.details["last-heal"], 9);
}
