//! Wall clocks that are off and disks that fail, lie and forget, in real nodes: each fault is applied, seen, healed and
//! seen healed, and does to the nodes what it says.

use std::collections::BTreeSet;

use fuzz_dist_core::{Op, OpType, Process, Value};
use serde_json::Value as Json;

use super::stage::{Run, Stage, int, text};

/// Logs that sync before they answer, on so many nodes.
fn logs(nodes: usize, time_limit_s: f64) -> Stage {
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
    stage
}

/// They under these faults (id, kind with its parameters, node, start, duration in ms).
fn run(nodes: usize, time_limit_s: f64, faults: &[(u32, &str, &str, u64, u64)]) -> Run {
    let stage = logs(nodes, time_limit_s);
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

/// They under a package, with faults close to each other.
fn run_package(package: &str, time_limit_s: f64) -> Run {
    let stage = logs(3, time_limit_s);
    let spec = std::fs::read_to_string(stage.scene.path("t.toml")).unwrap();
    let spec = spec.replace("recovery_s = 8.0", "recovery_s = 2.0");
    stage.spec(&format!("seed = 11\n{spec}[nemesis]\ninterval_s = 0.5\nera_s = 30.0\n"));
    let ended = stage.fuzz_dist(&["run", "t.toml", "--nemesis", package]);
    let run = stage.read(ended);
    Box::leak(Box::new(stage));
    run
}

/// The clocks of the results.
fn clocks(run: &Run) -> &[Json] {
    run.results["summary"]["clocks"]["nodes"].as_array().unwrap()
}

#[test]
fn clocks_of_the_package_are_off_and_right_at_the_end() {
    let run = run_package("clock", 9.0);
    run.assert_faults_observed(2);
    assert!(run.faults().iter().all(|fault| fault["package"] == "clock"), "{:?}", run.faults());
    let offset = |ns: &Value| ns.as_int().unwrap().abs();
    let right = run.records("observer", "clocks-right");
    let Some(Value::Map(offsets)) = right[0].value.get("offset-ns") else { panic!("{right:?}") };
    assert_eq!(offsets.len(), 3, "{right:?}");
    assert!(offsets.iter().all(|(_, ns)| offset(ns) < 20_000_000), "{right:?}");
    let skewed = |clock: &&Json| clock["skew_ns_max"].as_u64().unwrap() > 3_000_000;
    assert!(clocks(&run).iter().any(|clock| skewed(&clock)), "{:?}", clocks(&run));
    for clock in clocks(&run) {
        assert!(clock["offset_ns_last"].as_i64().unwrap().abs() < 20_000_000, "{clock:#}");
    }
    assert!(run.folder.join("clock-skew.svg").is_file());
}

/// A minute and a half, since a VM looks at the wall clock once a minute: only with `FUZZ_DIST_LONG`.
#[test]
fn vms_follow_a_clock_by_their_time_warp_mode() {
    if std::env::var_os("FUZZ_DIST_LONG").is_none() {
        return println!("skipped: only with FUZZ_DIST_LONG");
    }
    for mode in ["no_time_warp", "multi_time_warp"] {
        let stage = logs(1, 80.0);
        let spec = std::fs::read_to_string(stage.scene.path("t.toml")).unwrap();
        let spec =
            spec.replace("ready_timeout_ms", &format!("time_warp = \"{mode}\"\nready_timeout_ms"));
        stage.spec(&spec);
        let run = stage.run(Some(
            r#"{"version": 1, "seed": 7, "nodes": ["n1"], "faults": [{"id": 1, "kind": "clock-jump", "offset_ms": 3600000,
                "target": {"named": ["n1"]}, "start_ns": 1000000000, "duration_ns": 75000000000}]}"#,
        ));
        Box::leak(Box::new(stage));
        run.assert_faults_observed(1);
        let clock = &clocks(&run)[0];
        assert_eq!(clock["time_warp_mode"], mode);
        let system_ms = clock["system_time_skew_ns_max"].as_i64().unwrap() / 1_000_000;
        let changes = clock["time_offset_changes"].as_array().unwrap();
        let readings = run.records("observer", "clock-offset");
        let vm = readings.iter().map(|op| int(&op.value, "monotonic-time-ns"));
        assert!(vm.is_sorted(), "Erlang's monotonic time went back");
        if mode == "no_time_warp" {
            // 1 % of what is left of the main phase when the VM looks, and the slower return.
            assert!((10..1_000).contains(&system_ms), "{clock:#}");
            assert_eq!(changes.len(), 0, "{clock:#}");
        } else {
            assert!((3_599_000..3_601_000).contains(&system_ms), "{clock:#}");
            let change_ms = changes[0]["change_ns"].as_i64().unwrap() / 1_000_000;
            assert!((3_599_000..3_601_000).contains(&change_ms), "{clock:#}");
            assert!(!run.records("observer", "time-offset").is_empty());
        }
    }
}

/// As Jepsen's, which leave a system with less than a majority of its files damaged; here the logs tell what is left.
#[test]
fn files_of_the_package_are_damaged_and_every_node_is_started() {
    let run = run_package("file-corruption", 9.0);
    let mut damaged = 0;
    for fault in run.faults() {
        assert_eq!(fault["package"], "file-corruption");
        match fault["status"].as_str().unwrap() {
            "observed" => {
                let effect = told(&run, "fault-observed", fault["id"].as_i64().unwrap());
                assert!(effect.contains("synced.log"), "{effect}");
                damaged += 1;
            }
            // A few bits of a small file are none now and then.
            status => assert_eq!((status, &fault["kind"]), ("no-effect", &"file-flip".into())),
        }
    }
    assert!(damaged > 0, "{}", run.ended.stderr);
    let starts = run.records("observer", "node-ready").len();
    assert!(starts > 3, "{starts}");
}

/// The records of the nemesis about one fault.
fn told(run: &Run, f: &str, id: i64) -> String {
    let records = run.records("nemesis", f);
    let of = records.iter().find(|op| int(&op.value, "id") == id);
    of.map(|op| text(&op.value, "effect").to_owned())
        .unwrap_or_else(|| panic!("no {f} of fault {id}: {}", run.ended.stderr))
}

fn fault_at(run: &Run, f: &str, id: i64) -> i64 {
    let records = run.records("nemesis", f);
    records.iter().find(|op| int(&op.value, "id") == id).unwrap().time_ns
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
    // What completions say of their node is what the page said: only within the fault that they were off.
    let carried = |op: &&Op| {
        let extra = op.extra.as_ref()?;
        let found = extra.iter().find(|(name, _)| name.as_str() == "clock-offset-ns")?;
        found.1.as_int()
    };
    let ok: Vec<&Op> =
        run.history.ops().iter().filter(|op| op.is_client() && op.op_type == OpType::Ok).collect();
    let with = ok.iter().filter(|op| carried(op).is_some()).count();
    assert_eq!(with, ok.len(), "completions without the offset of their node");
    let (on, off) = (fault_at(&run, "fault-applied", 1), fault_at(&run, "fault-healed", 1));
    let of_n1 = ok.iter().filter(|op| op.node.unwrap().as_str() == "n1");
    for op in of_n1.filter(|op| op.time_ns < off + 1_000_000_000) {
        // What was on its way in the moment of a change may say either.
        if [on, off].iter().all(|change| op.time_ns.abs_diff(*change) > 200_000_000) {
            let hour = (on..off).contains(&op.time_ns);
            let is = carried(op).unwrap() / 1_000_000;
            assert_eq!((3_599_000..3_601_000).contains(&is), hour, "{op:?}");
        }
    }
    // Those of the nemesis have all of them.
    let observed = run.records("nemesis", "fault-observed");
    let all = observed[0].extra.as_ref().unwrap();
    assert!(all.iter().any(|(name, _)| name.as_str() == "clock-offsets-ns"), "{:?}", observed[0]);
    // At least once a second each clock is told, and n1 was off by an hour only while it should be.
    let offsets = run.records("observer", "clock-offset");
    let of = |node: &str| {
        let of_node = offsets.iter().filter(|op| op.node.unwrap().as_str() == node);
        of_node.map(|op| int(&op.value, "offset-ns") / 1_000_000).collect::<Vec<i64>>()
    };
    let n1 = of("n1");
    assert!(n1.iter().any(|ms| (3_599_900..3_600_100).contains(ms)), "{n1:?}");
    assert!(n1.iter().any(|ms| ms.abs() < 50), "{n1:?}");
    assert!(of("n3").iter().all(|ms| (-50..100).contains(ms)), "{:?}", of("n3"));
    let skew = |i: usize| clocks(&run)[i]["skew_ns_max"].as_i64().unwrap() / 1_000_000;
    assert!((3_599_900..3_600_100).contains(&skew(0)), "{}", skew(0));
    assert!((4_900..5_100).contains(&skew(1)), "{}", skew(1));
    assert!((20..100).contains(&skew(2)), "{}", skew(2));
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
