//! [`FaultLog`] against its definition, written out naively, on random sequences of records.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use fuzz_dist_core::fault_log::FaultEnd;
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::{FaultLog, History, Op, OpType, Process, Sym, Value};
use rand::RngExt;

const RECORDS: [&str; 10] = [
    "fault-start",
    "fault-applied",
    "fault-observed",
    "fault-no-effect",
    "fault-failed",
    "fault-unavailable",
    "fault-unmet",
    "fault-healed",
    "fault-heal-observed",
    "fault-heal-failed",
];

fn record(time_ns: i64, f: &str, id: i64) -> Op {
    let pairs = [
        (Value::sym("id"), Value::Int(id)),
        (Value::sym("kind"), Value::sym("kill")),
        (Value::sym("reason"), Value::str("no")),
    ];
    Op::new(time_ns, Process::nemesis(), OpType::Info, Sym::new(f), Value::map(pairs))
}

fn history(ops: Vec<Op>) -> History {
    History::new(ops).unwrap()
}

/// The records of one id, cut where a fault begins after another one has ended.
fn lives(ops: &[Op], id: i64) -> Vec<Vec<&Op>> {
    let mut lives: Vec<Vec<&Op>> = Vec::new();
    let ends = ["fault-failed", "fault-unavailable", "fault-unmet", "fault-healed"];
    for op in ops.iter().filter(|op| op.value.get("id") == Some(&Value::Int(id))) {
        let begins = ["fault-start", "fault-applied"].contains(&op.f.as_str());
        let has_ended = |life: &Vec<&Op>| {
            life.iter().any(|op| ends.contains(&op.f.as_str()) || op.f == "fault-heal-observed")
        };
        match lives.last_mut().filter(|life| !(begins && has_ended(life))) {
            Some(life) => life.push(op),
            None => lives.push(vec![op]),
        }
    }
    lives
}

/// Whether a life disturbs the cluster at a time.
fn disturbs(life: &[&Op], at_ns: i64) -> bool {
    let last = |names: &[&str]| {
        let of = life.iter().filter(|op| names.contains(&op.f.as_str()));
        of.map(|op| op.time_ns).max()
    };
    let healed = last(&["fault-healed", "fault-heal-observed"]);
    let failed = last(&["fault-failed", "fault-unavailable", "fault-unmet"]);
    let effective = last(&["fault-applied", "fault-observed", "fault-no-effect"]).is_some();
    let until = match (healed, failed) {
        (Some(healed), _) => healed,
        (None, Some(_)) if !effective => return false,
        (None, Some(failed)) => failed,
        (None, None) => i64::MAX,
    };
    (life[0].time_ns..=until).contains(&at_ns)
}

#[test]
fn windows_are_the_definition_on_random_records() {
    let mut random = Seed(41).stream("fault-log", 0);
    let (mut disturbed, mut quiet, mut failed) = (0u64, 0u64, 0u64);
    for case in 0..20_000 {
        let count = random.random_range(1..14);
        let ops: Vec<Op> = (0..count)
            .map(|i| {
                let f = RECORDS[random.random_range(0..RECORDS.len())];
                record(i * 10, f, random.random_range(0..3))
            })
            .collect();
        let history = history(ops);
        let log = FaultLog::of(&history);
        let all: Vec<Vec<&Op>> = (0..3).flat_map(|id| lives(history.ops(), id)).collect();
        assert_eq!(log.intervals().len(), all.len(), "case {case}: {:?}", history.ops());
        for at_ns in (-5..count * 10 + 5).step_by(5) {
            let wanted = all.iter().filter(|life| disturbs(life, at_ns)).count();
            let told = log.windows().filter(|(from, to)| (*from..=*to).contains(&at_ns)).count();
            assert_eq!(told, wanted, "case {case} at {at_ns}: {:?}", history.ops());
            disturbed += u64::from(wanted > 0);
            quiet += u64::from(wanted == 0);
        }
        let never = log.intervals().iter().filter(|fault| fault.window().is_none());
        failed += never.count() as u64;
        let open = all.iter().filter(|life| disturbs(life, i64::MAX)).count();
        assert_eq!(log.open().count(), open, "case {case}: {:?}", history.ops());
        let ends: BTreeSet<i64> = log.windows().map(|window| window.1).collect();
        let last = log.last_heal().map(|moment| moment.time_ns);
        assert_eq!(last, ends.into_iter().rfind(|end| *end < i64::MAX), "case {case}");
    }
    assert!(disturbed > 10_000 && quiet > 10_000 && failed > 1_000, "{disturbed} {quiet} {failed}");
}

#[test]
fn a_fault_that_failed_disturbs_nothing() {
    let log =
        FaultLog::of(&history(vec![record(0, "fault-start", 1), record(5, "fault-failed", 1)]));
    assert_eq!(log.windows().count(), 0);
    assert_eq!(log.intervals()[0].end, FaultEnd::Failed);
    assert_eq!(log.intervals()[0].reason.as_deref(), Some("no"));
    assert_eq!((log.open().count(), log.last_heal()), (0, None));
}

#[test]
fn a_heal_that_failed_leaves_the_fault_open() {
    let records = [(0, "fault-start"), (1, "fault-applied"), (2, "fault-heal-failed")];
    let ops = records.map(|(time_ns, f)| record(time_ns, f, 1)).to_vec();
    assert_eq!(FaultLog::of(&history(ops)).windows().collect::<Vec<_>>(), [(0, i64::MAX)]);
}

#[test]
fn what_no_heal_takes_back_is_told() {
    let with = |f: &str, id: i64, kind: &str, key: &str, nodes: &[&str]| {
        let nodes = nodes.iter().map(|node| Value::str(*node)).collect::<Vec<_>>();
        let pairs = [
            (Value::sym("id"), Value::Int(id)),
            (Value::sym("kind"), Value::sym(kind)),
            (Value::sym(key), Value::list(nodes)),
        ];
        Op::new(0, Process::nemesis(), OpType::Info, Sym::new(f), Value::map(pairs))
    };
    let mut membership = with("membership", 0, "x", "missing", &["n4"]);
    membership.process = Process::observer();
    let log = FaultLog::of(&history(vec![
        with("fault-start", 1, "file-flip", "nodes", &["n1"]),
        with("fault-healed", 1, "file-flip", "nodes", &[]),
        with("fault-start", 2, "kill", "nodes", &["n2"]),
        with("fault-healed", 2, "kill", "nodes", &[]),
        with("fault-start", 3, "file-truncate", "nodes", &["n3"]),
        with("fault-failed", 3, "file-truncate", "nodes", &[]),
        with("fault-applied", 5, "forget", "lasting", &["n5"]),
        membership,
    ]));
    assert_eq!(log.lasting().into_iter().collect::<Vec<_>>(), ["n1", "n4", "n5"]);
}

#[test]
fn a_jepsen_nemesis_is_folded_by_families() {
    let ops =
        ["kill", "kill", "start-partition", "start-partition", "start", "start", "heal", "heal"];
    let ops = ops.iter().zip(0..).map(|(f, time_ns)| {
        Op::new(time_ns, Process::nemesis(), OpType::Info, Sym::new(f), Value::Nil)
    });
    let log = FaultLog::of(&history(ops.collect()));
    assert_eq!(log.windows().collect::<Vec<_>>(), [(0, 5), (2, 7)]);
    assert!(log.intervals().iter().all(|fault| fault.is_jepsen));
    assert_eq!(log.last_heal().unwrap().index, 7);
}
