//! Wall clocks that are off and disks that fail, lie and forget, in real nodes: each fault is applied, seen, healed and
//! seen healed, and does to the nodes what it says.

use std::collections::BTreeSet;

use fuzz_dist_core::{OpType, Process, Value};

use super::stage::{Run, Stage, int, text};

/// Logs that sync before they answer, on so many nodes, under these faults (id, kind with its parameters, node, start,
/// duration in ms).
fn run(nodes: usize, time_limit_s: f64, faults: &[(u32, &str, &str, u64, u64)]) -> Run {
    let stage = Stage::set(&["synced_log/synced_log.ex"]);
    stage.spec(&format!(
        r#"
name = "synced-log"
nodes = {nodes}
concurrency = "2n"
rate = 60.0
time_limit_s = {time_limit_s}
op_timeout_ms = 4000
warm_up_s = 0.3
recovery_s = 8.0
checkers = [{{ name = "stats" }}]

[cluster]
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
ready_timeout_ms = 60000

[client]
module = "SyncedLog"

[workload]
generator = {{ f = "append", value = {{ unique = 0 }} }}
final_generator = {{ each-thread = {{ once = {{ f = "contents" }} }} }}
"#
    ));
    let names: Vec<String> = (1..=nodes).map(|n| format!("\"n{n}\"")).collect();
    let faults = faults.iter().map(|(id, kind, node, start_ms, duration_ms)| {
        format!(
            r#"{{"id": {id}, "kind": {kind}, "target": {{"named": ["{node}"]}}, "start_ns": {start_ms}000000, "duration_ns": {duration_ms}000000}}"#
        )
    });
    let faults: Vec<String> = faults.collect();
    let run = stage.run(Some(&format!(
        r#"{{"version": 1, "seed": 7, "nodes": [{}], "faults": [{}]}}"#,
        names.join(", "),
        faults.join(",\n")
    )));
    // Whoever looks at a failure wants the run.
    Box::leak(Box::new(stage));
    run
}

/// The records of the nemesis about one fault.
fn told(run: &Run, f: &str, id: i64) -> String {
    let records = run.records("nemesis", f);
    let of = records.iter().find(|op| int(&op.value, "id") == id);
    of.map(|op| text(&op.value, "effect").to_owned())
        .unwrap_or_else(|| panic!("no {f} of fault {id}: {}", run.ended.stderr))
}

#[test]
fn wall_clocks_jump_flicker_and_drift_and_return() {
    let run = run(
        3,
        7.0,
        &[
            (1, r#""clock-jump", "offset_ms": 3600000"#, "n1", 1000, 2500),
            (2, r#""clock-strobe", "offset_ms": -5000, "period_ms": 200"#, "n2", 1000, 2500),
            (3, r#""clock-drift", "ppm": 20000"#, "n3", 1000, 2500),
            (4, r#""clock-jump", "offset_ms": -60000"#, "n1", 4000, 2000),
            (5, r#""clock-reset""#, "n1", 5000, 500),
        ],
    );
    run.assert_faults_observed(5);
    assert!(told(&run, "fault-observed", 1).contains("n1 is off by 3600000 ms"));
    assert!(told(&run, "fault-observed", 2).contains("jumps there and back"));
    // Once a second each clock is told, and n1 was off by an hour only while it should be.
    let offsets = run.records("observer", "clock-offset");
    let of = |node: &str| {
        let of_node = offsets.iter().filter(|op| op.node.unwrap().as_str() == node);
        of_node.map(|op| int(&op.value, "offset-ns") / 1_000_000).collect::<Vec<i64>>()
    };
    let n1 = of("n1");
    assert!(n1.iter().any(|ms| (3_599_900..3_600_100).contains(ms)), "{n1:?}");
    assert!(n1.iter().any(|ms| ms.abs() < 50), "{n1:?}");
    assert!(of("n3").iter().all(|ms| (-50..100).contains(ms)), "{:?}", of("n3"));
    // Nobody lost anybody: the monotonic clocks, by which nodes tick, stayed as they were.
    assert_eq!(run.sightings("nodedown").len(), 0, "{}", run.ended.stderr);
}

#[test]
fn disks_fail_are_full_write_less_and_lie_and_are_well_again() {
    let files = r#""files": ["**/*.log"]"#;
    let run = run(
        2,
        7.0,
        &[
            (1, &format!(r#""disk-short-write", {files}"#), "n1", 500, 1500),
            (2, &format!(r#""disk-lying-fsync", {files}"#), "n2", 500, 1500),
            (3, &format!(r#""disk-eio", {files}"#), "n1", 3000, 1500),
            (4, &format!(r#""disk-enospc", {files}"#), "n2", 3000, 1500),
        ],
    );
    run.assert_faults_observed(4);
    for (id, wanted) in [(1, "wrote less"), (2, "synced nothing"), (3, "EIO"), (4, "ENOSPC")] {
        let effect = told(&run, "fault-observed", id);
        assert!(effect.contains(wanted), "{effect}");
        assert!(told(&run, "fault-heal-observed", id).contains("let pass again"));
    }
    let told_by_disk_log = |errno: &str| {
        let done = run.history.client_pairs().filter_map(|(_, completion)| completion);
        done.filter(|op| op.op_type == OpType::Info).any(|op| op.error.to_string().contains(errno))
    };
    assert!(told_by_disk_log("eio") && told_by_disk_log("enospc"));
}

/// Values that were acknowledged on a node and are not in its log at the end.
fn lost(run: &Run, node: &str) -> usize {
    let of_node = run.history.client_pairs().filter(|(invoke, completion)| {
        invoke.node.unwrap().as_str() == node
            && completion.is_some_and(|op| op.op_type == OpType::Ok)
            && invoke.process != Process::nemesis()
    });
    let (mut acknowledged, mut found) = (BTreeSet::new(), None);
    for (invoke, completion) in of_node {
        let value = &completion.unwrap().value;
        match invoke.f.as_str() {
            "append" => drop(acknowledged.insert(value.as_int().unwrap())),
            _ => {
                let values = value.items().unwrap().iter().filter_map(Value::as_int);
                found = Some(values.collect::<BTreeSet<i64>>());
            }
        }
    }
    let found = found.unwrap_or_else(|| panic!("nobody read the log of {node}"));
    assert!(acknowledged.len() > 20, "{node}: {}", acknowledged.len());
    acknowledged.difference(&found).count()
}

/// Three nodes that acknowledge what they have synced: a kill loses nothing, a power failure nothing that was
/// synced, a power failure of a disk that lies about syncs what it lied about.
#[test]
fn only_a_disk_that_lies_loses_what_was_acknowledged() {
    let lose = r#""disk-lose-unsynced", "files": ["**"], "lost": "all""#;
    let run = run(
        3,
        6.0,
        &[
            (1, r#""disk-lying-fsync", "files": ["**/*.log"]"#, "n1", 1000, 2500),
            (2, lose, "n1", 3000, 1000),
            (3, lose, "n2", 3000, 1000),
            (4, r#""kill""#, "n3", 3000, 1000),
        ],
    );
    let status = |id: u64| {
        let fault = run.faults().iter().find(|fault| fault["id"] == id).unwrap();
        fault["status"].as_str().unwrap().to_owned()
    };
    assert_eq!([status(1), status(2), status(4)], ["observed", "observed", "observed"]);
    assert!(told(&run, "fault-observed", 2).contains("synced.log"), "{}", run.ended.stderr);
    assert!(lost(&run, "n1") > 0, "{}", run.ended.stderr);
    assert_eq!((lost(&run, "n2"), lost(&run, "n3")), (0, 0), "{}", run.ended.stderr);
}

#[test]
fn files_of_a_stopped_node_are_cut_flipped_and_older() {
    let files = r#""files": ["synced.log"]"#;
    let run = run(
        3,
        6.0,
        &[
            (1, &format!(r#""file-truncate", {files}, "drop_bytes": 60"#), "n1", 2500, 1000),
            (2, &format!(r#""file-flip", {files}, "probability": 0.001"#), "n2", 2500, 1000),
            (3, &format!(r#""file-restore", {files}"#), "n3", 2500, 1000),
        ],
    );
    run.assert_faults_observed(3);
    for (id, wanted) in [(1, "bytes left"), (2, "bits flipped"), (3, "as earlier")] {
        let effect = told(&run, "fault-observed", id);
        assert!(effect.contains(wanted), "{effect}");
    }
    assert!(lost(&run, "n1") > 0 && lost(&run, "n3") > 0, "{}", run.ended.stderr);
}
