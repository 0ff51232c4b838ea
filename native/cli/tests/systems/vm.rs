//! Faults inside stock nodes, each of them applied, seen, healed and seen healed, and seen by operations too.

use std::sync::LazyLock;

use fuzz_dist_core::{Op, OpType, Value};
use serde_json::Value as Json;

use super::stage::{Run, Stage, text};

/// Kind, node, start and duration in milliseconds, and parameters of each fault, by id from 1. Two nodes suffer at
/// the same time, mostly from different things.
const FAULTS: &[(&str, &str, u64, u64, &str)] = &[
    ("suspend", "n1", 500, 1200, r#""process": {"registered": "steady"}"#),
    ("sys-suspend", "n2", 500, 1200, r#""process": {"child": ["supervised_sup", "steady"]}"#),
    // On n2 it is asked for, on n1 it is.
    ("kill-process", "n2", 2000, 400, r#""process": {"global": "leader"}"#),
    (
        "exit-process",
        "n2",
        2000,
        400,
        r#""process": {"registered": "trapper"}, "reason": "normal""#,
    ),
    ("load-module", "n1", 2600, 1200, r#""module": "versioned", "file": "second/versioned.beam""#),
    (
        "flood",
        "n2",
        2600,
        800,
        r#""process": {"position": ["supervised_sup", "3", "0"]}, "messages_per_s": 5000"#,
    ),
    ("set-cookie", "n1", 4000, 700, r#""cookie": "another""#),
    ("exhaust-restarts", "n2", 4000, 700, r#""process": {"registered": "inner_sup"}"#),
    ("stall-schedulers", "n1", 5000, 700, ""),
    ("garbage", "n1", 6000, 1500, r#""megabytes": 24"#),
    ("deaf", "n2", 6000, 1500, ""),
    ("dirty-block", "n1", 7800, 1500, ""),
    ("disconnect", "n2", 7800, 500, ""),
    (
        "kill-process",
        "n2",
        9600,
        300,
        r#""process": {"resolver": ["supervised:leader_node", "any"]}"#,
    ),
    ("suspend", "n1", 10300, 500, r#""process": {"resolver": ["global-lock", "resource"]}"#),
    ("kill-process", "n2", 10300, 500, r#""process": {"below": "supervised_sup"}"#),
    // These cannot work.
    ("suspend", "n1", 400, 100, r#""process": {"registered": "stedy"}"#),
    ("kill-process", "n2", 400, 100, r#""process": {"child": ["supervised_sup", "nobody"]}"#),
    (
        "exit-process",
        "n2",
        400,
        100,
        r#""process": {"child": ["supervised_sup", "clinger"]}, "reason": "normal""#,
    ),
];

/// How many of them can.
const POSSIBLE: usize = 16;

fn schedule() -> String {
    let fault = |(i, (kind, node, start_ms, duration_ms, more)): (
        usize,
        &(_, _, u64, u64, &str),
    )| {
        let comma = if more.is_empty() { "" } else { ", " };
        format!(
            r#"{{"id": {}, "kind": "{kind}", "target": {{"named": ["{node}"]}}, "start_ns": {}, "duration_ns": {}{comma}{more}}}"#,
            i + 1,
            start_ms * 1_000_000,
            duration_ms * 1_000_000
        )
    };
    let faults: Vec<String> = FAULTS.iter().enumerate().map(fault).collect();
    format!(
        r#"{{"version": 1, "seed": 1, "nodes": ["n1", "n2"], "faults": [{}]}}"#,
        faults.join(",\n")
    )
}

/// One run for all tests of this file.
static RUN: LazyLock<Run> = LazyLock::new(|| {
    let stage = Stage::set(&["supervised/supervised.erl", "supervised/versioned.erl"]);
    stage.compile(&["supervised/supervised_client.erl"], "client");
    stage.compile(&["supervised/second/versioned.erl"], "second");
    stage.spec(
        r#"
name = "vm"
nodes = 2
concurrency = 4
rate = 60.0
time_limit_s = 12
op_timeout_ms = 4000
warm_up_s = 0.3
recovery_s = 2.0
placement = "client"
checkers = [{ name = "stats" }]

[cluster]
command = ["erl", "-noinput", "-s", "supervised"]
code_paths = ["code"]
ready_timeout_ms = 60000

[client]
module = "supervised_client"
code_paths = ["client"]

[workload]
generator = { f = "look" }
"#,
    );
    let run = stage.run(Some(&schedule()));
    // The store goes with the stage, but what its tests read must stay.
    Box::leak(Box::new(stage));
    run
});

fn fault(id: usize) -> &'static Json {
    let found = RUN.faults().iter().find(|fault| fault["id"] == id);
    found.unwrap_or_else(|| panic!("no fault {id}: {:?}\n{}", RUN.faults(), RUN.ended.stderr))
}

fn record(f: &str, id: usize) -> &'static Op {
    let all = RUN.records("nemesis", f);
    let of_fault = |op: &&Op| op.value.get("id") == Some(&Value::Int(id as i64));
    all.into_iter().find(of_fault).unwrap_or_else(|| panic!("no {f} of {id}: {}", RUN.ended.stderr))
}

#[test]
fn every_fault_is_seen_and_its_heal_too() {
    assert_eq!(RUN.faults().len(), FAULTS.len(), "{}", RUN.ended.stderr);
    for id in 1..=POSSIBLE {
        let fault = fault(id);
        assert_eq!(fault["status"], "observed", "{fault:#}\n{}", RUN.ended.stderr);
        assert!(fault["heal_observed_ns"].is_u64(), "{fault:#}\n{}", RUN.ended.stderr);
        let effect = text(&record("fault-observed", id).value, "effect");
        println!("{:<17} {effect}", FAULTS[id - 1].0);
    }
    assert_eq!(
        RUN.records("observer", "node-exited")
            .iter()
            .filter(|op| op.time_ns < RUN.phase_ns("teardown"))
            .count(),
        0
    );
}

#[test]
fn what_was_found_is_told() {
    // Of a process by whatever selector: its pid, and the name if it has one.
    for (id, node, name) in [
        (1, "n1", ":steady"),
        (2, "n2", ":steady"),
        (3, "n1", ":steady"),
        (6, "n2", ":fragile"),
        (8, "n2", ":inner_sup"),
        (14, "n1", ":steady"),
        (15, "n1", ":steady"),
    ] {
        let applied = record("fault-applied", id);
        let found = applied.value.get("found").and_then(|found| found.get(node));
        let found = found.unwrap_or_else(|| panic!("not on {node}: {applied}"));
        assert!(text(found, "pid").starts_with("<0."), "{applied}");
        assert_eq!(found.get("registered").unwrap().to_string(), name, "{applied}");
    }
    let exhausted = record("fault-observed", 8).value.get("evidence").unwrap().to_string();
    for part in [":kills 2", ":intensity 1", ":period_s 10", "shutdown"] {
        assert!(exhausted.contains(part), "{part}: {exhausted}");
    }
    let loaded = record("fault-observed", 5).value.get("evidence").unwrap().to_string();
    assert!(loaded.contains(":processes_in_old_code 1"), "{loaded}");
}

#[test]
fn what_cannot_be_is_told_with_what_there_is() {
    let told = |id: usize| fault(id)["reason"].as_str().unwrap_or_default().to_owned();
    for id in [17, 18] {
        assert_eq!(fault(id)["status"], "failed", "{:#}", fault(id));
    }
    let (unknown, childless) = (told(17), told(18));
    assert!(unknown.contains("no process is registered as stedy on n1"), "{unknown}");
    assert!(unknown.contains("registered are: ") && unknown.contains("steady"), "{unknown}");
    assert!(childless.contains("supervised_sup on n2 has no child nobody"), "{childless}");
    assert!(childless.contains("steady, trapper, clinger, inner_sup"), "{childless}");
    assert_eq!(fault(19)["status"], "no-effect", "{:#}", fault(19));
    assert!(told(19).contains("does not trap exits"), "{}", told(19));
}

/// What operations on the node saw that began within the fault, or after its heal: version, pid.
fn looks(id: usize, node: &str, after: bool) -> Vec<(i64, String)> {
    let (from, to) = (record("fault-applied", id).time_ns, record("fault-healed", id).time_ns);
    let pairs = RUN.history.client_pairs().filter_map(|(invoke, completion)| {
        let completion = completion.filter(|op| op.op_type == OpType::Ok)?;
        let during = invoke.time_ns > from && completion.time_ns < to;
        let fits = if after { invoke.time_ns > to } else { during };
        let here = invoke.node.is_some_and(|name| name.as_str() == node);
        let seen = completion.value.items()?;
        (fits && here).then(|| (seen[0].as_int().unwrap(), seen[1].as_text().unwrap().to_owned()))
    });
    pairs.collect()
}

#[test]
fn operations_feel_it() {
    for (id, node) in [(1, "n1"), (2, "n2"), (9, "n1")] {
        // What was on its way when it began may still arrive.
        let during = looks(id, node, false);
        assert!(during.len() <= 2, "fault {id} did not stop {node}: {during:?}");
        assert!(looks(id, node, true).len() > 20, "{node} did not go on after fault {id}");
    }
    let (second, first) = (looks(5, "n1", false), looks(5, "n1", true));
    assert!(second.iter().any(|(version, _)| *version == 2), "{second:?}");
    // One that asked before the heal may have been asked after it.
    assert!(first.iter().all(|(version, _)| *version == 1), "{first:?}");
    let (before, killed) = (looks(1, "n1", true), looks(3, "n1", true));
    let pids = |looks: &[(i64, String)]| {
        looks.iter().map(|(_, pid)| pid.clone()).collect::<std::collections::BTreeSet<_>>()
    };
    assert!(pids(&before).len() > 1, "nobody took the place of the leader: {before:?}");
    assert!(!killed.is_empty());
}
