//! What nodes report of themselves, and what the cluster makes of one cut link.

use std::collections::BTreeSet;

use fuzz_dist_core::{Op, Value};

use super::stage::{Run, Stage, int, text};

/// How far the clocks of a record may be from each other: scheduling, not drift.
const CLOCKS_APART_NS_MAX: i64 = 2_000_000_000;

/// Three nodes; the one link between n1 and n2 is cut for longer than the net tick, and meanwhile n1 sends more
/// into it than it takes and n3 builds a large heap.
fn one_link_cut(prevent_overlapping_partitions: bool) -> Run {
    let stage = Stage::set(&["probe/probe.ex"]);
    stage.spec(&format!(
        r#"
name = "link"
nodes = 3
concurrency = 3
rate = 30.0
time_limit_s = 6
op_timeout_ms = 20000
warm_up_s = 0.5
recovery_s = 2.0
checkers = [{{ name = "stats" }}]

[cluster]
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
net_ticktime_s = 2
prevent_overlapping_partitions = {prevent_overlapping_partitions}
ready_timeout_ms = 60000

[client]
module = "Probe"

[workload.generator]
any = [
  {{ on-threads = [0, [{{ sleep = 0.8 }}, {{ once = {{ f = "flood", value = "n2" }} }}]] }},
  {{ on-threads = [1, {{ f = "echo", value = 1 }}] }},
  {{ on-threads = [2, [{{ sleep = 0.3 }}, {{ once = {{ f = "heap" }} }}]] }},
]
"#
    ));
    stage.run(Some(
        r#"{"version": 1, "seed": 1, "nodes": ["n1", "n2", "n3"], "faults": [
  {"id": 1, "kind": "hold", "target": {"links": [["n1", "n2"], ["n2", "n1"]]},
   "start_ns": 500000000, "duration_ns": 4500000000}]}"#,
    ))
}

type Pair = (String, String);

/// The pairs that do not see each other, just before the heal.
fn effective(run: &Run) -> BTreeSet<Pair> {
    let connectivity = run.records("nemesis", "connectivity");
    let before_heal = connectivity[0];
    let healed = run.records("nemesis", "fault-healed")[0];
    assert!(before_heal.time_ns < healed.time_ns);
    assert_eq!(pairs(before_heal, "requested"), cut());
    pairs(before_heal, "effective")
}

fn pairs(op: &Op, field: &str) -> BTreeSet<Pair> {
    let pair = |pair: &Value| {
        let ends: Vec<String> =
            pair.items().unwrap().iter().map(|end| end.as_text().unwrap().to_owned()).collect();
        (ends[0].clone(), ends[1].clone())
    };
    op.value.get(field).unwrap().items().unwrap().iter().map(pair).collect()
}

fn cut() -> BTreeSet<Pair> {
    [("n1", "n2"), ("n2", "n1")].map(|(a, b)| (a.to_owned(), b.to_owned())).into()
}

/// `observer` sees `peer` go down, and why, during the fault.
fn downs(run: &Run) -> Vec<(String, String, String)> {
    let healed_ns = run.records("nemesis", "fault-healed")[0].time_ns;
    let sightings = run.sightings("nodedown");
    let before = sightings.iter().filter(|op| op.time_ns < healed_ns);
    before
        .map(|op| {
            let (peer, reason) = (text(&op.value, "peer"), text(&op.value, "reason"));
            (op.node.unwrap().to_string(), peer.to_owned(), reason.to_owned())
        })
        .collect()
}

/// Both clocks of every record: the run's own, and the wall clock of the same moment.
fn assert_clocks(run: &Run, records: &[&Op]) {
    let started_wall_ns = run.results["run"]["started_wall_ns"].as_i64().unwrap();
    for op in records {
        assert_eq!(int(&op.value, "mono-ns"), op.time_ns, "{op}");
        let apart_ns = int(&op.value, "wall-ns") - started_wall_ns - op.time_ns;
        assert!(apart_ns.abs() < CLOCKS_APART_NS_MAX, "{op}: {apart_ns} ns");
    }
}

#[test]
fn one_cut_link_becomes_more_with_prevention_of_overlapping_partitions() {
    let run = one_link_cut(true);
    run.assert_faults_observed(1);
    assert_eq!(run.results["run"]["prevent_overlapping_partitions"], true);
    let (effective, downs) = (effective(&run), downs(&run));
    assert!(effective.is_superset(&cut()), "{effective:?}");
    assert!(effective.iter().any(|(a, b)| a == "n3" || b == "n3"), "{effective:?}, {downs:?}");
    let ticks = downs.iter().filter(|(.., reason)| reason == "net_tick_timeout");
    assert!(ticks.clone().all(|(a, b, _)| a != "n3" && b != "n3"), "{downs:?}");
    assert!(ticks.count() > 0, "{downs:?}");
    // The third node was let go by `global` of an end of the cut link, not by silence.
    assert!(downs.iter().any(|(a, b, why)| (a == "n3" || b == "n3") && why != "net_tick_timeout"));
    assert_observed(&run);
}

/// The events of `system_monitor` that the test provoked, each by the node that it happened in.
fn assert_observed(run: &Run) {
    assert_clocks(run, &run.sightings("nodedown"));
    let ups = run.records("observer", "nodeup");
    assert!(ups.len() >= 6, "{ups:?}");
    assert_clocks(run, &ups);
    assert!(ups.iter().all(|op| op.value.get("reason") == Some(&Value::Nil)), "{ups:?}");
    let of = |f: &str, node: &str| -> Vec<&Op> {
        let all = run.records("observer", f);
        all.into_iter().filter(|op| op.node.unwrap().as_str() == node).collect()
    };
    let large = of("large-heap", "n3");
    assert!(!large.is_empty(), "no large heap: {}", run.results["summary"]["observations"]);
    assert!(int(&large[0].value, "heap_words") > 16 << 20, "{}", large[0]);
    assert!(text(&large[0].value, "pid").starts_with("<0."), "{}", large[0]);
    let busy = of("busy-dist-port", "n1");
    assert!(!busy.is_empty(), "no busy port: {}", run.results["summary"]["observations"]);
    assert_clocks(run, &large);
    assert_clocks(run, &busy);
    let counts = run.results["summary"]["observations"].as_array().unwrap();
    let n1 = counts.iter().find(|of| of["node"] == "n1").unwrap();
    assert_eq!(n1["counts"]["busy-dist-port"], busy.len(), "{n1}");
}

#[test]
fn one_cut_link_stays_one_without_it() {
    let run = one_link_cut(false);
    run.assert_faults_observed(1);
    assert_eq!(run.results["run"]["prevent_overlapping_partitions"], false);
    assert_eq!(effective(&run), cut());
    let downs = downs(&run);
    assert!(!downs.is_empty());
    assert!(downs.iter().all(|(a, b, _)| a != "n3" && b != "n3"), "{downs:?}");
}
