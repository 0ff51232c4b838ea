//! Mnesia under faults that only it shows: disks that lie about syncs, files that are damaged by what they are for, and whoever
//! holds a lock.

use std::path::Path;
use std::sync::LazyLock;

use fuzz_dist_core::{Op, OpType};

use super::common::root;
use super::stage::{Run, Stage, int, text};

/// The set on disc of `test/systems/mnesia_disc`, with its spec as it stands there but for what is changed here.
fn on_disc(schedule: &str, change: impl FnOnce(String) -> String) -> Run {
    let stage = Stage::set(&["mnesia_disc/mnesia_disc.ex"]);
    let spec = std::fs::read_to_string(system("mnesia_disc.toml")).unwrap();
    let given = "../../../target/demo/ebin";
    assert!(spec.contains(given), "{spec}");
    stage.spec(&change(spec.replace(given, "code")));
    let run = stage.run(Some(schedule));
    // Whoever looks at a failure wants the run.
    Box::leak(Box::new(stage));
    run
}

fn system(file: &str) -> std::path::PathBuf {
    root().join("test/systems/mnesia_disc").join(file)
}

fn schedule(file: &str) -> String {
    std::fs::read_to_string(system(file)).unwrap()
}

/// Elements that were acknowledged and are gone in the end.
fn lost(run: &Run) -> u64 {
    run.checker("set-full")["counts"]["lost-count"].as_u64().unwrap()
}

fn told(run: &Run, f: &str, id: i64) -> String {
    let records = run.records("nemesis", f);
    let of = records.iter().find(|op| int(&op.value, "id") == id);
    of.map(|op| text(&op.value, "effect").to_owned())
        .unwrap_or_else(|| panic!("no {f} of fault {id}: {}", run.ended.stderr))
}

#[test]
fn a_power_failure_loses_nothing_that_was_synced() {
    let run = on_disc(&schedule("power_failure.json"), |spec| spec);
    run.assert_verdict("valid");
    run.assert_faults_observed(1);
    assert_eq!(lost(&run), 0);
}

#[test]
fn a_disk_that_lies_makes_mnesia_lose_what_it_has_acknowledged() {
    let run = on_disc(&schedule("lying_disk.json"), |spec| spec);
    run.assert_faults_observed(2);
    let cut = told(&run, "fault-observed", 2);
    assert!(cut.contains("LATEST.LOG") && cut.contains("when it was last synced"), "{cut}");
    run.assert_verdict("invalid");
    assert!(lost(&run) > 10, "{}", run.ended.stderr);
}

/// Whether there is time for what takes longer.
fn is_long() -> bool {
    let long = std::env::var_os("FUZZ_DIST_LONG").is_some_and(|value| !value.is_empty());
    if !long {
        println!("skipped: only with FUZZ_DIST_LONG");
    }
    long
}

/// With `FUZZ_DIST_LONG`: that `sync_transaction` alone syncs nothing is a property of Mnesia, not of ours.
#[test]
fn sync_transaction_does_not_sync() {
    if !is_long() {
        return;
    }
    let run = on_disc(&schedule("power_failure.json"), |spec| {
        spec.replace("durable = \"sync_log\"", "durable = \"sync_transaction\"")
    });
    run.assert_verdict("invalid");
    assert!(lost(&run) > 10, "{}", run.ended.stderr);
}

/// Node, kind with parameters, start in ms; each lasts half a second.
const DAMAGE: [(&str, &str, u64); 4] = [
    ("n1", r#""file-truncate", "files": ["@mnesia-log"], "drop_bytes": 3"#, 1500),
    ("n3", r#""file-flip", "files": ["@mnesia-table"], "probability": 0.5"#, 1500),
    (
        "n4",
        r#""file-restore", "files": ["@mnesia-log", "@mnesia-table", "@mnesia-table-log"]"#,
        1500,
    ),
    ("n2", r#""file-flip", "files": ["@mnesia-schema"], "probability": 0.5"#, 6000),
];

/// With `FUZZ_DIST_LONG`. Whether the others find each other without n2 depends on whether they were back before it went:
/// that is for Mnesia.
#[test]
fn damaged_files_are_repaired_thrown_away_or_end_mnesia() {
    if !is_long() {
        return;
    }
    let faults = DAMAGE.iter().enumerate().map(|(i, (node, kind, start_ms))| {
        format!(
            r#"{{"id": {}, "kind": {kind}, "target": {{"named": ["{node}"]}}, "start_ns": {start_ms}000000, "duration_ns": 500000000}}"#,
            i + 1
        )
    });
    let faults = faults.collect::<Vec<_>>().join(",\n");
    let schedule = format!(
        r#"{{"version": 1, "seed": 1, "nodes": ["n1", "n2", "n3", "n4"], "faults": [{faults}]}}"#
    );
    let run = on_disc(&schedule, |spec| {
        // Without faults of its own, so that earlier files are kept.
        let spec = spec.split_once("# Without a schedule").unwrap().0.to_owned();
        spec.replace("nodes = 2", "nodes = 4")
            .replace("time_limit_s = 6.0", "time_limit_s = 8.0")
            .replace("recovery_s = 6.0", "recovery_s = 12.0")
    });
    run.assert_faults_observed(DAMAGE.len());
    for (id, file, what) in [
        (1, "LATEST.LOG", "bytes left"),
        (2, "fuzz_dist_set.DCD", "bits flipped"),
        (3, "LATEST.LOG", "as earlier"),
        (4, "schema.DAT", "bits flipped"),
    ] {
        let effect = told(&run, "fault-observed", id);
        assert!(effect.contains(file) && effect.contains(what), "{effect}");
    }
    // Without its schema Mnesia refuses to start, which the history says.
    let refused = run.records("observer", "worker-refused");
    let who: Vec<&str> = refused.iter().map(|op| op.node.unwrap().as_str()).collect();
    assert!(who.contains(&"n2"), "{refused:?}");
    // What it says itself is among the logs of the run. Of a table that it fetches from another replica it says nothing.
    for (node, words) in [("n2", "Cannot read schema"), ("n1", "repaired, lost")] {
        let said = output(&run, node);
        assert!(said.contains(words), "{node}: {said}");
    }
}

fn output(run: &Run, node: &str) -> String {
    let path: &Path = &run.folder.join("nodes").join(node).join("output.log");
    std::fs::read_to_string(path).unwrap()
}

/// A holder of the lock is suspended, then killed, both asked for on the node where it is not.
static LOCKS: LazyLock<Run> = LazyLock::new(|| {
    let stage = Stage::set(&["mnesia_lock/mnesia_lock.ex"]);
    stage.spec(
        r#"
name = "mnesia-lock"
nodes = 2
concurrency = "2n"
rate = 40.0
time_limit_s = 6.0
op_timeout_ms = 4000
warm_up_s = 0.3
recovery_s = 2.0
checkers = [{ name = "stats" }]

[cluster]
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
ready_timeout_ms = 60000

[client]
module = "MnesiaLock"

[workload]
generator = { f = "look" }
"#,
    );
    let holder = r#""process": {"resolver": ["mnesia-lock", "fuzz_dist_counter"]}"#;
    let run = stage.run(Some(&format!(
        r#"{{"version": 1, "seed": 1, "nodes": ["n1", "n2"], "faults": [
            {{"id": 1, "kind": "suspend", {holder}, "target": {{"named": ["n2"]}}, "start_ns": 1000000000, "duration_ns": 1500000000}},
            {{"id": 2, "kind": "kill-process", {holder}, "target": {{"named": ["n1"]}}, "start_ns": 4000000000, "duration_ns": 500000000}}
        ]}}"#
    )));
    Box::leak(Box::new(stage));
    run
});

fn record(f: &str, id: i64) -> &'static Op {
    let all = LOCKS.records("nemesis", f);
    let found = all.into_iter().find(|op| int(&op.value, "id") == id);
    found.unwrap_or_else(|| panic!("no {f} of {id}: {}", LOCKS.ended.stderr))
}

/// What `look` saw between two moments of the run, in the order of completion.
fn looks(from_ns: i64, to_ns: i64) -> Vec<i64> {
    let done = LOCKS.history.client_pairs().filter_map(|(invoke, completion)| {
        let done = completion.filter(|op| op.op_type == OpType::Ok)?;
        (invoke.time_ns > from_ns && done.time_ns < to_ns)
            .then(|| (done.time_ns, done.value.as_int()))
    });
    let mut all: Vec<(i64, Option<i64>)> = done.collect();
    all.sort_unstable();
    all.into_iter().filter_map(|(_, count)| count).collect()
}

#[test]
fn the_holder_of_a_lock_of_mnesia_is_found_suspended_and_killed() {
    LOCKS.assert_faults_observed(2);
    for id in [1, 2] {
        let applied = record("fault-applied", id);
        // The one that holds it is on n1, whoever was asked.
        let found = applied.value.get("found").and_then(|found| found.get("n1"));
        let found = found.unwrap_or_else(|| panic!("not on n1: {applied}"));
        assert!(text(found, "pid").starts_with('<'), "{applied}");
    }
    let (from, to) = (record("fault-applied", 1).time_ns, record("fault-healed", 1).time_ns);
    // Everybody waits for a holder that is suspended, and gets the lock when it is resumed.
    let during = looks(from, to);
    assert!(during.is_empty(), "a lock that nobody gives back was given: {during:?}");
    let before = looks(0, from);
    let after = looks(to, record("fault-applied", 2).time_ns);
    assert!(before.len() > 3 && after.len() > 3, "{before:?} {after:?}");
    // One that is killed loses the lock, and its transaction does not count.
    let killed = record("fault-applied", 2).time_ns;
    let next = looks(killed, i64::MAX);
    assert!(next.len() > 3, "nobody got the lock of the one that was killed: {next:?}");
    assert!(next.last() > after.last(), "nobody took its place: {after:?} {next:?}");
}
