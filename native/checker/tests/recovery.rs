//! `recovery` against its definition written out naively, and examples.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{FaultLog, History, OpType, Sym, Value, Verdict};
use serde_json::json;

/// What has to be answered: the verdict, and names with keys of anomalies.
type Answer = (Verdict, BTreeSet<(String, String)>);

/// Bounds and deadline, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Options {
    asks: u64,
    span_ns: i64,
    within_ns: Option<i64>,
    judges_without_faults: bool,
}

/// Positions and times of an operation, and how it ended.
#[derive(Debug, Clone, Copy)]
struct Ask {
    invoke: (u64, i64),
    end: (u64, i64),
    answered: bool,
    ok: bool,
}

fn asks(history: &History) -> BTreeMap<(String, String), Vec<Ask>> {
    let ops = history.ops();
    let end = (ops.len() as u64, ops.iter().map(|op| op.time_ns).max().unwrap());
    let mut all: BTreeMap<(String, String), Vec<Ask>> = BTreeMap::new();
    for (invoke, done) in history.client_pairs() {
        let node = done.and_then(|done| done.node).or(invoke.node);
        let ok = done.is_some_and(|done| done.op_type == OpType::Ok);
        let taken = done
            .is_some_and(|done| done.op_type == OpType::Fail && done.error == Value::sym("taken"));
        let key = (invoke.f.to_string(), node.map(|node| node.to_string()).unwrap_or_default());
        all.entry(key).or_default().push(Ask {
            invoke: (invoke.index, invoke.time_ns),
            end: done.map_or(end, |done| (done.index, done.time_ns)),
            answered: ok || taken,
            ok,
        });
    }
    all
}

/// The asks after the last heal that follow the last answer.
fn tail(asks: &[Ask], heal: Option<u64>) -> Vec<Ask> {
    let since = |ask: &&Ask| heal.is_none_or(|heal| ask.invoke.0 > heal);
    let last = asks.iter().filter(since).filter(|ask| ask.answered).map(|ask| ask.end.0).max();
    let after = |ask: &&Ask| last.is_none_or(|last| ask.invoke.0 > last);
    asks.iter().filter(since).filter(after).copied().collect()
}

/// Whether so many asks of `f` without an answer cannot well be chance.
fn is_unnatural(
    all: &BTreeMap<(String, String), Vec<Ask>>,
    windows: &[(i64, i64)],
    heal: Option<u64>,
    f: &str,
    count: usize,
) -> bool {
    let (mut a, mut b) = (0.0, 0.0);
    for (_, asks) in all.iter().filter(|((name, _), _)| name == f) {
        let silent: BTreeSet<u64> = tail(asks, heal).iter().map(|ask| ask.invoke.0).collect();
        for ask in asks.iter().filter(|ask| !silent.contains(&ask.invoke.0)) {
            let broken = windows.iter().any(|w| w.0 <= ask.end.1 && ask.invoke.1 <= w.1);
            match (ask.answered, broken) {
                (true, _) => a += 1.0,
                (false, false) => b += 1.0,
                (false, true) => {}
            }
        }
    }
    let chance = |i: usize| (b + 1.0 + i as f64) / (a + b + 2.0 + i as f64);
    b == 0.0 || (0..count).map(chance).product::<f64>() <= 1e-6
}

/// Nodes that are silent whatever they are asked, with the name of the anomaly.
fn silent_nodes(
    all: &BTreeMap<(String, String), Vec<Ask>>,
    windows: &[(i64, i64)],
    heal: Option<u64>,
    options: Options,
) -> BTreeMap<String, String> {
    let mut by_node: BTreeMap<&String, Vec<Ask>> = BTreeMap::new();
    for ((_, node), asks) in all.iter().filter(|((_, node), _)| !node.is_empty()) {
        by_node.entry(node).or_default().extend(asks);
    }
    let mut silent = BTreeMap::new();
    for (node, mut asks) in by_node {
        asks.sort_by_key(|ask| ask.invoke);
        let tail = tail(&asks, heal);
        let span_ns = tail.iter().map(|ask| ask.end.1).max().unwrap_or(0)
            - tail.first().map_or(0, |ask| ask.invoke.1);
        let (mut a, mut b) = (0.0, 0.0);
        for asks in all.values() {
            let tail: BTreeSet<u64> =
                self::tail(asks, heal).iter().map(|ask| ask.invoke.0).collect();
            for ask in asks.iter().filter(|ask| !tail.contains(&ask.invoke.0)) {
                let broken = windows.iter().any(|w| w.0 <= ask.end.1 && ask.invoke.1 <= w.1);
                a += f64::from(ask.answered);
                b += f64::from(!ask.answered && !broken);
            }
        }
        let chance = |i: usize| (b + 1.0 + i as f64) / (a + b + 2.0 + i as f64);
        let rare = b == 0.0 || (0..tail.len()).map(chance).product::<f64>() <= 1e-6;
        let enough = tail.len() as u64 >= options.asks && span_ns >= options.span_ns;
        if enough && rare && asks.iter().any(|ask| ask.ok) {
            let since = |ask: &&Ask| heal.is_none_or(|heal| ask.invoke.0 > heal);
            let answered = asks.iter().filter(since).any(|ask| ask.answered);
            let name = if answered { "stopped-working" } else { "never-recovered" };
            silent.insert(node.clone(), name.to_owned());
        }
    }
    silent
}

fn judge_within(asks: &[Ask], heal: (u64, i64), deadline_ns: i64) -> (Option<&'static str>, bool) {
    let since: Vec<&Ask> = asks.iter().filter(|ask| ask.invoke.0 > heal.0).collect();
    let first = since.iter().filter(|ask| ask.answered).min_by_key(|ask| ask.end);
    let silent_at = |until: u64| {
        since.iter().any(|ask| !ask.answered && ask.end.1 >= deadline_ns && ask.invoke.0 < until)
    };
    match first {
        Some(first) if first.end.1 <= deadline_ns => (None, false),
        Some(first) if first.invoke.1 <= deadline_ns || silent_at(first.end.0) => {
            (Some("late-recovery"), false)
        }
        None if silent_at(u64::MAX) => (Some("never-recovered"), false),
        _ => (None, true),
    }
}

/// The definition: of everything that ever succeeded, whether it answered again.
fn answer(history: &History, options: Options) -> Answer {
    let log = FaultLog::of(history);
    let heal = log.last_heal().map(|heal| (heal.index, heal.time_ns));
    if log.open().count() > 0 || heal.is_none() && !options.judges_without_faults {
        return (Verdict::Unknown, BTreeSet::new());
    }
    let windows: Vec<(i64, i64)> = log.windows().collect();
    let all = asks(history);
    let heal_index = heal.map(|heal| heal.0);
    let (mut anomalies, mut open, mut recovered) = (BTreeSet::new(), false, false);
    let silent = silent_nodes(&all, &windows, heal_index, options);
    if options.within_ns.is_none() || heal.is_none() {
        anomalies.extend(silent.iter().map(|(node, name)| (name.clone(), node.clone())));
    }
    for ((f, node), asks) in all.iter().filter(|(_, asks)| asks.iter().any(|ask| ask.ok)) {
        let what = if node.is_empty() { format!(":{f}") } else { format!(":{f} on {node}") };
        if let (Some(within_ns), Some(heal)) = (options.within_ns, heal) {
            let (anomaly, is_open) = judge_within(asks, heal, heal.1 + within_ns);
            anomalies.extend(anomaly.map(|name| (name.to_owned(), what)));
            open |= is_open;
            recovered |= !is_open && anomaly != Some("never-recovered");
            continue;
        }
        if silent.contains_key(node) {
            continue;
        }
        let tail = tail(asks, heal_index);
        let since = asks.iter().filter(|ask| heal_index.is_none_or(|heal| ask.invoke.0 > heal));
        let answered = since.filter(|ask| ask.answered).count() > 0;
        let rare = is_unnatural(&all, &windows, heal_index, f, tail.len());
        let span_ns = tail.iter().map(|ask| ask.end.1).max().unwrap_or(0)
            - tail.first().map_or(0, |ask| ask.invoke.1);
        if tail.len() as u64 >= options.asks && span_ns >= options.span_ns && rare {
            let name = if answered { "stopped-working" } else { "never-recovered" };
            anomalies.insert((name.to_owned(), what));
        } else if heal.is_some() && !answered || tail.len() >= 3 && rare {
            open = true;
        } else {
            recovered = true;
        }
    }
    let mut by_node: BTreeMap<&str, Vec<Ask>> = BTreeMap::new();
    for ((_, node), asks) in all.iter().filter(|((_, node), _)| !node.is_empty()) {
        by_node.entry(node).or_default().extend(asks);
    }
    let answered = |asks: &Vec<Ask>| asks.iter().any(|ask| ask.answered);
    if by_node.values().any(answered) {
        open |= by_node.values().any(|asks| !answered(asks) && asks.len() > 1);
    }
    let verdict = match (anomalies.is_empty(), open || !recovered) {
        (false, _) => Verdict::Invalid,
        (true, true) => Verdict::Unknown,
        (true, false) => Verdict::Valid,
    };
    (verdict, anomalies)
}

/// A client on a node that answers more often than not; a dead node answers nothing.
fn client(
    random: &mut Random,
    builder: &mut Builder,
    open: &mut [Option<(&'static str, Option<Sym>)>; 3],
    dead: Option<Sym>,
) {
    let process = random.below(3);
    let number = process as i64;
    match open[process].take() {
        None => {
            let node = [None, Some(Sym::new("n1")), Some(Sym::new("n2"))][random.below(3)];
            let f = ["read", "write"][random.below(2)];
            builder.invoke(number, f, Value::Nil).node = node;
            open[process] = Some((f, node));
        }
        Some((f, node)) => {
            use OpType::{Fail, Info, Ok};
            let lively = [(Ok, ""), (Ok, ""), (Ok, ""), (Fail, "taken"), (Fail, "timeout")];
            let is_dead = dead.is_some() && dead == node;
            let (outcome, error) = match random.below(5) {
                _ if is_dead => [(Fail, "noproc"), (Info, "timeout")][random.below(2)],
                draw => lively[draw],
            };
            let done = builder.push(number, outcome, f, Value::Nil);
            done.node = node;
            done.error = if error.is_empty() { Value::Nil } else { Value::sym(error) };
        }
    }
}

fn nemesis(random: &mut Random, builder: &mut Builder, ours: bool, last: &mut &'static str) {
    const OURS: [&str; 5] =
        ["fault-start", "fault-applied", "fault-failed", "fault-healed", "fault-heal-observed"];
    const JEPSEN: [&str; 6] = ["kill", "start", "pause", "resume", "start-partition", "heal"];
    if ours {
        builder.fault(OURS[random.below(OURS.len())], random.below(2) as i64, "kill");
        return;
    }
    let f = JEPSEN[random.below(JEPSEN.len())];
    // Two of a kind in a row could not be told from one that begins and is done.
    if f != *last {
        builder.nemesis(f, Value::Nil);
        builder.nemesis(f, Value::Nil);
        *last = f;
    }
}

fn random_history(random: &mut Random, ours: bool) -> History {
    let mut builder = Builder::default();
    let mut open = [None; 3];
    let (mut last, faults) = ("", random.chance(85));
    (0..random.below(12)).for_each(|_| client(random, &mut builder, &mut open, None));
    for _ in 0..2 + random.below(10) {
        if random.chance(75) || !faults {
            client(random, &mut builder, &mut open, None);
        } else {
            nemesis(random, &mut builder, ours, &mut last);
        }
    }
    if random.chance(70) && faults {
        // So that there is something to decide.
        if ours {
            builder.fault("fault-start", 0, "kill");
            (0..2).for_each(|id| builder.fault("fault-healed", id, "kill"));
        } else if last != "heal" {
            for f in ["kill", "kill", "heal", "heal"] {
                builder.nemesis(f, Value::Nil);
            }
        }
    }
    let dead = [None, Some(Sym::new("n1")), Some(Sym::new("n2"))][random.below(3)];
    (0..random.below(50)).for_each(|_| client(random, &mut builder, &mut open, dead));
    builder.history()
}

#[test]
fn recovery_is_the_definition() {
    let mut random = Random(23);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let count = cases(8_000);
    for case in 0..count {
        let history = random_history(&mut random, case % 2 == 0);
        let within_ms = [None, None, Some(2), Some(8)][random.below(4)];
        let (asks, span_ms) = (1 + random.below(4), random.below(8));
        let judge = random.chance(50);
        let given = json!({
            "asks": asks, "span-ms": span_ms,
            "without-faults": if judge { "judge" } else { "unknown" },
        });
        let mut given = given.as_object().unwrap().clone();
        given.extend(within_ms.map(|ms| ("within".to_owned(), json!(ms))));
        let options = Options {
            asks: asks as u64,
            span_ns: span_ms as i64 * 1_000_000,
            within_ns: within_ms.map(|ms| ms * 1_000_000),
            judges_without_faults: judge,
        };
        let result = check("recovery", given.into(), &history);
        let told =
            result.anomalies.iter().map(|a| (a.name.clone(), a.key.clone().unwrap())).collect();
        let wanted = answer(&history, options);
        let context = || format!("case {case}, {options:?}: {}\n{}", result.reason, show(&history));
        assert_eq!((result.verdict, told), wanted, "{}", context());
        *seen.entry(result.verdict.to_string()).or_default() += 1;
        for (name, _) in wanted.1 {
            *seen.entry(name).or_default() += 1;
        }
    }
    let rare = seen.values().filter(|times| **times < count / 200).count();
    assert!(seen.len() == 6 && rare == 0, "{seen:?}");
}

/// An operation on a node that takes a millisecond, at a time in milliseconds.
fn ask(builder: &mut Builder, at_ms: i64, process: i64, f: &str, node: &str, end: (OpType, &str)) {
    let (outcome, error) = end;
    for (op_type, time_ms) in [(OpType::Invoke, at_ms), (outcome, at_ms + 1)] {
        let op = builder.push(process, op_type, f, Value::Nil);
        (op.time_ns, op.node) = (time_ms * 1_000_000, Some(Sym::new(node)));
        if op_type == OpType::Fail || op_type == OpType::Info {
            op.error = Value::sym(error);
        }
    }
}

fn fault_at(builder: &mut Builder, at_ms: i64, f: &str) {
    builder.fault(f, 1, "kill");
    builder.ops.last_mut().unwrap().time_ns = at_ms * 1_000_000;
}

/// Two nodes that read, a fault, and then what follows.
fn healed() -> Builder {
    let mut builder = Builder::default();
    ask(&mut builder, 0, 0, "read", "n1", (OpType::Ok, ""));
    ask(&mut builder, 2, 1, "read", "n2", (OpType::Ok, ""));
    fault_at(&mut builder, 5, "fault-start");
    fault_at(&mut builder, 6, "fault-applied");
    fault_at(&mut builder, 1_000, "fault-healed");
    ask(&mut builder, 1_010, 0, "read", "n1", (OpType::Ok, ""));
    builder
}

fn verdict(builder: &Builder) -> (Verdict, String) {
    let result = check("recovery", json!({}), &builder.history());
    (result.verdict, result.reason)
}

#[test]
fn a_node_that_never_answers_again_is_invalid_if_it_was_asked_often_enough() {
    let mut builder = healed();
    let (told, reason) = verdict(&builder);
    assert_eq!(told, Verdict::Unknown);
    assert!(reason.contains(":read on n2 was not asked"), "{reason}");
    for n in 0..9 {
        ask(&mut builder, 2_000 + n * 1_200, 10 + n, "read", "n2", (OpType::Info, "timeout"));
    }
    let (told, reason) = verdict(&builder);
    assert_eq!(told, Verdict::Unknown, "nine asks are too few");
    assert!(reason.contains(":read on n2 did not answer 9 times"), "{reason}");
    let mut silent = builder.clone();
    ask(&mut silent, 13_000, 20, "read", "n2", (OpType::Fail, "noproc"));
    let (told, reason) = verdict(&silent);
    assert_eq!(told, Verdict::Invalid);
    assert!(reason.starts_with("never-recovered: n2 "), "{reason}");
    let mut answered = builder;
    ask(&mut answered, 13_000, 20, "read", "n2", (OpType::Fail, "taken"));
    assert_eq!(verdict(&answered).0, Verdict::Valid, "an answer of the domain");
}

#[test]
fn many_asks_at_once_are_no_span_of_time() {
    let mut builder = healed();
    for n in 0..50 {
        ask(&mut builder, 2_000 + n * 100, 10 + n, "read", "n2", (OpType::Info, "timeout"));
    }
    assert_eq!(verdict(&builder).0, Verdict::Unknown);
}

#[test]
fn something_that_stops_after_it_recovered_is_invalid() {
    let mut builder = healed();
    ask(&mut builder, 1_100, 1, "read", "n2", (OpType::Ok, ""));
    assert_eq!(verdict(&builder).0, Verdict::Valid);
    for n in 0..12 {
        ask(&mut builder, 2_000 + n * 1_000, 10 + n, "read", "n2", (OpType::Info, "timeout"));
    }
    let (told, reason) = verdict(&builder);
    assert_eq!(told, Verdict::Invalid);
    assert!(reason.starts_with("stopped-working: n2 "), "{reason}");
}

#[test]
fn a_function_that_fails_by_nature_is_not_silent_by_chance() {
    // A cas whose client takes a mismatch for an unknown outcome: one in five succeeds.
    let cas = |n: i64| if n % 5 == 0 { (OpType::Ok, "") } else { (OpType::Info, "bad_return") };
    let mut builder = Builder::default();
    for n in 0..100 {
        ask(&mut builder, n * 10, 100 + n, "cas", "n1", cas(n));
    }
    fault_at(&mut builder, 1_001, "fault-applied");
    fault_at(&mut builder, 1_500, "fault-healed");
    for n in 0..20 {
        let at_ms = 2_000 + n * 1_000;
        ask(&mut builder, at_ms, 300 + n, "cas", "n1", (OpType::Info, "bad_return"));
    }
    assert_eq!(verdict(&builder).0, Verdict::Unknown, "20 failures in a row are chance");
    for n in 20..100 {
        let at_ms = 2_000 + n * 1_000;
        ask(&mut builder, at_ms, 300 + n, "cas", "n1", (OpType::Info, "bad_return"));
    }
    assert_eq!(verdict(&builder).0, Verdict::Invalid, "100 are none");
}

#[test]
fn a_node_with_damaged_files_need_not_answer() {
    let mut builder = healed();
    let nodes = Value::list(vec![Value::str("n2")]);
    let pairs = [(Value::sym("id"), int(2)), (Value::sym("kind"), Value::sym("file-flip"))];
    let value = Value::map(pairs.into_iter().chain([(Value::sym("nodes"), nodes)]));
    for f in ["fault-start", "fault-applied", "fault-healed"] {
        builder.nemesis(f, value.clone());
        builder.ops.last_mut().unwrap().time_ns = 1_000_000_000;
    }
    ask(&mut builder, 1_100, 0, "read", "n1", (OpType::Ok, ""));
    for n in 0..20 {
        ask(&mut builder, 2_000 + n * 1_000, 10 + n, "read", "n2", (OpType::Info, "timeout"));
    }
    assert_eq!(verdict(&builder).0, Verdict::Valid);
}

#[test]
fn a_node_that_never_answered_anything_is_not_passed_over() {
    let mut builder = healed();
    ask(&mut builder, 1_100, 1, "read", "n2", (OpType::Ok, ""));
    for n in 0..2 {
        ask(&mut builder, 1_200 + n, 5 + n, "read", "n3", (OpType::Fail, "noproc"));
    }
    let (told, reason) = verdict(&builder);
    assert_eq!(told, Verdict::Unknown);
    assert!(reason.contains("n3 never answered anything"), "{reason}");
}

#[test]
fn time_in_which_nothing_was_asked_is_not_silence() {
    let mut builder = healed();
    ask(&mut builder, 1_100, 5, "read", "n2", (OpType::Fail, "agent_lost"));
    ask(&mut builder, 20_000, 6, "read", "n2", (OpType::Ok, ""));
    let result = check("recovery", json!({"within": 10_000}), &builder.history());
    assert_eq!(result.verdict, Verdict::Unknown, "{}", result.reason);
    let mut asked = healed();
    ask(&mut asked, 11_500, 5, "read", "n2", (OpType::Fail, "agent_lost"));
    ask(&mut asked, 20_000, 6, "read", "n2", (OpType::Ok, ""));
    let result = check("recovery", json!({"within": 10_000}), &asked.history());
    assert_eq!((result.verdict, &*result.anomalies[0].name), (Verdict::Invalid, "late-recovery"));
}

#[test]
fn a_fault_that_failed_needs_no_recovery() {
    let mut builder = Builder::default();
    ask(&mut builder, 0, 0, "read", "n1", (OpType::Ok, ""));
    fault_at(&mut builder, 5, "fault-start");
    fault_at(&mut builder, 6, "fault-failed");
    let (told, reason) = verdict(&builder);
    assert_eq!(told, Verdict::Unknown);
    assert!(reason.contains("no fault was ever healed"), "{reason}");
    let options = json!({"without-faults": "judge"});
    assert_eq!(check("recovery", options, &builder.history()).verdict, Verdict::Valid);
}

#[test]
fn recovery_is_timed_from_the_last_heal() {
    let mut builder = Builder::default();
    builder.done(0, "read", Value::Nil, int(1));
    builder.done(0, "write", int(1), int(1));
    let options = |within: i64| json!({"within": within});
    builder.fault("fault-applied", 1, "kill");
    assert_eq!(check("recovery", json!({}), &builder.history()).verdict, Verdict::Unknown);
    builder.fault("fault-healed", 1, "kill");
    builder.done(0, "read", Value::Nil, int(1));
    let result = check("recovery", json!({}), &builder.history());
    assert!(result.reason.contains(":write was not asked"), "{}", result.reason);
    let mut never = builder.clone();
    for n in 0..10 {
        never.invoke(n, "write", int(1));
        never.fail(n, "write", int(1));
    }
    let result = check("recovery", json!({"span-ms": 10}), &never.history());
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
