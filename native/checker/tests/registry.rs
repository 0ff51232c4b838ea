//! `registry` against its rules written out moment by moment, and histories with known answers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Builder, Random, cases, check, show};
use fuzz_dist_core::{History, Op, OpType, Process, Sym, Value, Verdict};
use serde_json::json;

const SECOND: i64 = 1_000_000_000;

/// Records with times in seconds.
#[derive(Default, Clone)]
struct Run {
    builder: Builder,
    now_s: i64,
}

impl Run {
    fn stamp(&mut self) -> &mut Op {
        let last = self.builder.ops.len() - 1;
        self.builder.ops[last].time_ns = self.now_s * SECOND;
        &mut self.builder.ops[last]
    }

    fn client(&mut self, process: i64, node: &str, op_type: OpType, f: &str, owner: Value) {
        self.builder.push(process, op_type, f, Value::tuple(vec![Value::sym("name"), owner]));
        self.stamp().node = Some(Sym::new(node));
    }

    /// Invokes now and completes a second later.
    fn done(&mut self, process: i64, node: &str, f: &str, result: Value) {
        self.client(process, node, OpType::Invoke, f, Value::Nil);
        self.now_s += 1;
        self.client(process, node, OpType::Ok, f, result);
    }

    fn observe(&mut self, node: &str, f: &str, pairs: &[(&str, Value)]) {
        self.named(Process::observer(), f, pairs);
        self.stamp().node = (!node.is_empty()).then(|| Sym::new(node));
    }

    fn named(&mut self, process: Process, f: &str, pairs: &[(&str, Value)]) {
        let value = Value::map(pairs.iter().map(|(k, v)| (Value::sym(k), v.clone())));
        self.builder.ops.push(Op::new(0, process, OpType::Info, Sym::new(f), value));
        self.stamp();
    }

    fn phase(&mut self, name: &str) {
        self.observe("", "phase", &[("name", Value::str(name))]);
    }

    fn fault(&mut self, f: &str, id: i64) {
        self.named(Process::nemesis(), f, &[("id", Value::Int(id)), ("kind", Value::str("hold"))]);
    }

    fn check(&self) -> fuzz_dist_core::CheckResult {
        check("registry", json!({"grace-ms": 2000}), &self.builder.history())
    }
}

fn owner(node: &str, incarnation: &str) -> Value {
    Value::tuple(vec![Value::str(node), Value::str(incarnation)])
}

fn finals(run: &mut Run, answers: &[(&str, Value)]) {
    run.now_s += 10;
    run.phase("final");
    for (process, (node, answer)) in answers.iter().enumerate() {
        run.done(100 + process as i64, node, "whereis", answer.clone());
    }
}

#[test]
fn one_owner_everywhere_is_valid() {
    let mut run = Run::default();
    run.done(0, "n1", "register", owner("n1", "a"));
    run.done(1, "n2", "whereis", owner("n1", "a"));
    finals(&mut run, &[("n1", owner("n1", "a")), ("n2", owner("n1", "a"))]);
    let result = run.check();
    assert_eq!(result.verdict, Verdict::Valid, "{}", result.reason);
}

#[test]
fn two_owners_in_a_whole_cluster_are_found() {
    let mut run = Run::default();
    run.done(0, "n1", "register", owner("n1", "a"));
    run.done(1, "n2", "register", owner("n2", "b"));
    run.done(0, "n1", "whereis", owner("n1", "a"));
    let result = run.check();
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies[0].name, "two-owners");
    assert_eq!(result.anomalies[0].ops, [0, 1, 2, 3]);
}

#[test]
fn two_owners_during_a_partition_are_allowed_and_timed() {
    let mut run = Run::default();
    run.done(0, "n1", "register", owner("n1", "a"));
    run.now_s += 10;
    run.fault("fault-start", 1);
    run.now_s += 1;
    run.done(1, "n2", "register", owner("n2", "b"));
    run.done(0, "n1", "whereis", owner("n1", "a"));
    run.done(1, "n2", "whereis", owner("n2", "b"));
    run.fault("fault-healed", 1);
    run.now_s += 1;
    run.done(1, "n2", "whereis", owner("n2", "b"));
    finals(&mut run, &[("n1", owner("n2", "b")), ("n2", owner("n2", "b"))]);
    let result = run.check();
    assert_eq!(result.verdict, Verdict::Valid, "{}", result.reason);
    assert!(result.counts["double-ownership-ms-max"] >= 1_000);
    let told = "two owners, on n1 and n2, for ";
    assert!(result.reason.contains(told), "{}", result.reason);
    assert!(result.reason.contains("while-apart=forbid"), "{}", result.reason);
    let forbid = json!({"grace-ms": 2000, "while-apart": "forbid"});
    let result = check("registry", forbid, &run.builder.history());
    assert_eq!(result.verdict, Verdict::Invalid);
    assert!(result.reason.starts_with("two-owners: "), "{}", result.reason);
    assert!(result.reason.contains("during fault 1"), "{}", result.reason);

    // The same two owners with the partition over and done with are not allowed.
    let mut late = Run::default();
    late.fault("fault-start", 1);
    late.fault("fault-healed", 1);
    late.now_s += 10;
    late.done(0, "n1", "register", owner("n1", "a"));
    late.done(1, "n2", "register", owner("n2", "b"));
    assert_eq!(late.check().verdict, Verdict::Invalid);
}

#[test]
fn a_connection_that_is_down_excuses_until_it_is_up() {
    let run_with = |up: bool| {
        let mut run = Run::default();
        run.observe("n1", "nodedown", &[("peer", Value::str("n2"))]);
        run.observe("n2", "nodedown", &[("peer", Value::str("n1"))]);
        run.now_s += 10;
        if up {
            run.observe("n1", "nodeup", &[("peer", Value::str("n2"))]);
            run.observe("n2", "nodes", &[("visible", Value::list(vec![Value::str("n1")]))]);
            run.now_s += 10;
        }
        run.done(0, "n1", "register", owner("n1", "a"));
        run.done(1, "n2", "register", owner("n2", "b"));
        run.check().verdict
    };
    assert_eq!(run_with(false), Verdict::Unknown, "nothing can be said, and no final read");
    assert_eq!(run_with(true), Verdict::Invalid);
}

#[test]
fn an_owner_that_died_with_its_node_may_be_replaced() {
    let mut run = Run::default();
    run.done(0, "n1", "register", owner("n1", "a"));
    run.now_s += 10;
    run.observe("n1", "node-exited", &[]);
    run.now_s += 10;
    run.done(1, "n2", "register", owner("n2", "b"));
    run.done(1, "n2", "whereis", owner("n2", "b"));
    let mut dead = run.clone();
    finals(&mut dead, &[("n2", owner("n2", "b"))]);
    let result = dead.check();
    assert_eq!(result.verdict, Verdict::Unknown, "a node that is dead at the end");
    assert!(result.reason.contains("no final whereis succeeded on n1"), "{}", result.reason);
    run.observe("n1", "node-ready", &[]);
    finals(&mut run, &[("n1", owner("n2", "b")), ("n2", owner("n2", "b"))]);
    let result = run.check();
    assert_eq!(result.verdict, Verdict::Valid, "{}", result.reason);

    let mut stale = Run::default();
    stale.done(0, "n1", "register", owner("n1", "a"));
    stale.now_s += 10;
    stale.observe("n1", "node-exited", &[]);
    stale.observe("n2", "node-ready", &[]);
    finals(&mut stale, &[("n2", owner("n1", "a"))]);
    let result = stale.check();
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies[0].name, "dead-owner");
}

#[test]
fn after_recovery_all_must_agree_and_nothing_be_lost() {
    let with = |answers: &[(&str, Value)]| {
        let mut run = Run::default();
        run.done(0, "n1", "register", owner("n1", "a"));
        finals(&mut run, answers);
        run.now_s += 10;
        run.phase("teardown");
        run.observe("n1", "node-exited", &[]);
        run.check()
    };
    let agreed = with(&[("n1", owner("n1", "a")), ("n2", owner("n1", "a"))]);
    assert_eq!(agreed.verdict, Verdict::Valid, "{}", agreed.reason);
    let disagreed = with(&[("n1", owner("n1", "a")), ("n2", Value::Nil)]);
    assert_eq!(disagreed.verdict, Verdict::Invalid);
    assert_eq!(disagreed.anomalies[0].name, "no-agreement");
    let lost = with(&[("n1", Value::Nil), ("n2", Value::Nil)]);
    assert_eq!(lost.verdict, Verdict::Invalid);
    assert_eq!(lost.anomalies[0].name, "registration-lost");
    let unread = with(&[]);
    assert_eq!(unread.verdict, Verdict::Unknown, "{}", unread.reason);
}

#[test]
fn nothing_registered_and_bad_shapes_are_unknown() {
    let mut run = Run::default();
    run.done(0, "n1", "whereis", Value::Nil);
    assert_eq!(run.check().verdict, Verdict::Unknown);
    run.done(0, "n1", "whereis", Value::Int(5));
    let result = run.check();
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains("record 3"), "{}", result.reason);
}

/// The rules, moment by moment: which seconds are disturbed, then every pair of sights.
fn oracle(history: &History, grace_s: i64) -> Verdict {
    let ops = history.ops();
    let second = |op: &Op| op.time_ns / SECOND;
    let end = ops.iter().map(second).max().unwrap_or(0);
    let mut bad = vec![false; end as usize + 1];
    let mut mark = |from: i64, to: i64| {
        for t in (from - grace_s).max(0)..=(to + grace_s).min(end) {
            bad[t as usize] = true;
        }
    };
    let mut down: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut fault: Option<i64> = None;
    let mut exits: Vec<(String, i64)> = Vec::new();
    for op in ops {
        let t = second(op);
        let node = op.node.map(|n| n.to_string()).unwrap_or_default();
        let peer = op.value.get("peer").and_then(Value::as_text).unwrap_or_default().to_owned();
        match op.f.as_str() {
            "fault-start" => fault = Some(t),
            "fault-healed" => mark(fault.take().unwrap_or(t), t),
            // It disturbed nothing.
            "fault-failed" => fault = None,
            "nodedown" => {
                mark(t, t);
                // Nodes that have no records of their own are no members.
                if ops.iter().any(|o| o.node.is_some_and(|n| n == peer.as_str())) {
                    down.entry((node, peer)).or_insert(t);
                }
            }
            "nodeup" => {
                let from = down.remove(&(node, peer)).unwrap_or(t);
                mark(from, t);
            }
            "node-exited" => {
                mark(t, t);
                exits.push((node.clone(), t));
                down.retain(|(from, _), since| {
                    if *from == node {
                        mark(*since, t);
                    }
                    *from != node
                });
            }
            _ => {}
        }
    }
    for since in down.values().chain(fault.iter()) {
        mark(*since, end);
    }
    let sights: Vec<(&Op, &Op)> = history
        .client_pairs()
        .filter_map(|(i, c)| Some((i, c.filter(|c| c.op_type == OpType::Ok)?)))
        .collect();
    let owner_of = |op: &Op| Some(op.value.items()?[1].clone()).filter(|owner| !owner.is_nil());
    let first_seen = |owner: &Value| {
        sights
            .iter()
            .filter(|(_, c)| owner_of(c).as_ref() == Some(owner))
            .map(|(_, c)| second(c))
            .min()
            .unwrap_or(i64::MAX)
    };
    let died = |owner: &Value, until: i64| {
        let node = owner.items().unwrap()[0].as_text().unwrap().to_owned();
        exits.iter().any(|(n, t)| *n == node && *t > first_seen(owner) && *t <= until)
    };
    let quiet = |from: i64, to: i64| (from..=to).all(|t| !bad[t as usize]);
    for (i1, c1) in &sights {
        for (i2, c2) in &sights {
            let (Some(a), Some(b)) = (owner_of(c1), owner_of(c2)) else { continue };
            let from = second(i1).min(second(i2));
            let whole = quiet(from, second(c1).max(second(c2)));
            if a != b && whole && !died(&a, from) && !died(&b, from) {
                return Verdict::Invalid;
            }
        }
    }
    oracle_final(history, &sights, &quiet, &died)
}

fn oracle_final(
    history: &History,
    sights: &[(&Op, &Op)],
    quiet: &dyn Fn(i64, i64) -> bool,
    died: &dyn Fn(&Value, i64) -> bool,
) -> Verdict {
    let second = |op: &Op| op.time_ns / SECOND;
    let owner_of = |op: &Op| Some(op.value.items()?[1].clone()).filter(|owner| !owner.is_nil());
    let phase = history.ops().iter().find(|op| op.f == "phase").map(second);
    let registered: Vec<_> = sights.iter().filter(|(i, _)| i.f == "register").collect();
    let Some(last) = registered.iter().map(|(_, c)| c.index).max() else {
        return Verdict::Unknown;
    };
    let mut answers: BTreeMap<Sym, (&Op, &Op)> = BTreeMap::new();
    for (i, c) in sights {
        let is_final = phase.is_some_and(|from| second(i) >= from);
        if i.f == "whereis" && is_final && i.index > last {
            answers.insert(i.node.unwrap(), (i, c));
        }
    }
    let Some(from) = answers.values().map(|(i, _)| second(i)).min() else {
        return Verdict::Unknown;
    };
    let to = answers.values().map(|(_, c)| second(c)).max().unwrap();
    let nodes: BTreeSet<Sym> = history.client_ops().filter_map(|op| op.node).collect();
    let missing = nodes.iter().any(|node| !answers.contains_key(node));
    let incomplete = if missing { Verdict::Unknown } else { Verdict::Valid };
    if !quiet(from, to) {
        return Verdict::Unknown;
    }
    let owners: BTreeSet<Option<Value>> = answers.values().map(|(_, c)| owner_of(c)).collect();
    let maybe = history
        .client_pairs()
        .any(|(i, c)| i.f == "register" && c.is_none_or(|c| c.op_type == OpType::Info));
    if owners.len() > 1 {
        let excused = maybe && owners.contains(&None) && owners.len() == 2;
        return if excused { Verdict::Unknown } else { Verdict::Invalid };
    }
    let wrong = match owners.into_iter().next().unwrap() {
        Some(owner) => died(&owner, from),
        None => {
            let known = sights.iter().filter_map(|(_, c)| owner_of(c));
            let maybe_died = history.client_pairs().any(|(i, c)| {
                i.f == "register"
                    && c.is_none_or(|c| c.op_type == OpType::Info)
                    && history.ops().iter().any(|o| {
                        let t = second(o);
                        o.f == "node-exited" && o.node == i.node && t > second(i) && t <= from
                    })
            });
            !known.into_iter().any(|owner| died(&owner, from)) && !maybe_died
        }
    };
    if wrong { Verdict::Invalid } else { incomplete }
}

fn random_run(random: &mut Random) -> History {
    let nodes = ["n1", "n2", "n3"];
    let mut run = Run::default();
    let mut incarnation = 0;
    let mut owners = vec![Value::Nil];
    let mut process = 0;
    let mut in_fault = false;
    for _ in 0..2 + random.below(7) {
        run.now_s += random.below(3) as i64;
        let (node, peer) = (nodes[random.below(3)], nodes[random.below(3)]);
        process += 1;
        match random.below(10) {
            0 if node != peer => run.observe(node, "nodedown", &[("peer", Value::str(peer))]),
            1 if node != peer => run.observe(node, "nodeup", &[("peer", Value::str(peer))]),
            2 if random.chance(50) => {
                let end = ["fault-healed", "fault-failed"][random.below(2)];
                run.fault(if in_fault { end } else { "fault-start" }, 1);
                in_fault = !in_fault;
            }
            3 if random.chance(50) => run.observe(node, "node-exited", &[]),
            4 | 5 => {
                incarnation += 1;
                let new = owner(node, &incarnation.to_string());
                if random.chance(80) {
                    owners.push(new.clone());
                    run.done(process, node, "register", new);
                } else {
                    run.client(process, node, OpType::Invoke, "register", Value::Nil);
                    run.client(process, node, OpType::Info, "register", Value::Nil);
                }
            }
            _ => {
                let place = owners.len().saturating_sub(1 + random.below(2));
                run.done(process, node, "whereis", owners[place].clone());
            }
        }
    }
    if random.chance(80) {
        run.now_s += random.below(5) as i64;
        run.phase("final");
        for node in nodes.iter().take(1 + random.below(3)) {
            process += 1;
            let place = owners.len().saturating_sub(1 + random.below(5) / 4);
            run.done(process, node, "whereis", owners[place].clone());
        }
    }
    run.builder.history()
}

/// Whether two owners certainly lived at one moment: one was there before the other appeared and was seen
/// later, and its node had not exited by then.
fn has_two_owners(history: &History) -> bool {
    let mut sights: BTreeMap<Value, Vec<(&Op, &Op)>> = BTreeMap::new();
    for (invoke, done) in history.client_pairs() {
        let Some(done) = done.filter(|done| done.op_type == OpType::Ok) else { continue };
        let owner = &done.value.items().unwrap()[1];
        if !owner.is_nil() {
            sights.entry(owner.clone()).or_default().push((invoke, done));
        }
    }
    let at = |op: &Op| (op.time_ns, op.index);
    let born = |owner: &Value| sights[owner].iter().map(|(_, done)| at(done)).min().unwrap();
    let outlives = |owner: &Value, other: &Value| {
        let node = owner.items().unwrap()[0].as_text().unwrap();
        let died = history.ops().iter().any(|op| {
            op.f == "node-exited"
                && op.node.is_some_and(|name| name == node)
                && op.time_ns > born(owner).0
                && op.time_ns <= born(other).0
        });
        !died
            && born(owner) < born(other)
            && sights[owner].iter().any(|(invoke, _)| at(invoke) > born(other))
    };
    sights.keys().any(|owner| sights.keys().any(|other| owner != other && outlives(owner, other)))
}

#[test]
fn agrees_with_the_rules_moment_by_moment() {
    let (mut seen, mut forbidden) = ([0u64; 3], 0u64);
    for case in 0..cases(20_000) {
        let mut random = Random(case);
        let history = random_run(&mut random);
        let grace_s = random.below(3) as i64;
        let expected = oracle(&history, grace_s);
        let result = check("registry", json!({"grace-ms": grace_s * 1_000}), &history);
        assert_eq!(
            result.verdict,
            expected,
            "case {case}, grace {grace_s} s: {}\n{}",
            result.reason,
            history
                .ops()
                .iter()
                .map(|op| format!("{} s {:?} {op}\n", op.time_ns / SECOND, op.node))
                .collect::<String>()
        );
        let forbid = json!({"grace-ms": grace_s * 1_000, "while-apart": "forbid"});
        let strict = check("registry", forbid, &history);
        let two = has_two_owners(&history);
        let wanted = if two { Verdict::Invalid } else { expected };
        assert_eq!(strict.verdict, wanted, "case {case}: {}\n{}", strict.reason, show(&history));
        assert_eq!(strict.counts["names-with-two-owners"], u64::from(two), "case {case}");
        forbidden += u64::from(two && expected != Verdict::Invalid);
        seen[expected as usize] += 1;
    }
    assert!(forbidden > 100, "two owners while apart were tried: {forbidden}");
    assert!(
        seen.iter().all(|n| *n > 100),
        "every verdict was tried: {seen:?} {}",
        show(&History::default())
    );
}
