//! Schedules that are given, edited, replayed and drawn again; generators and checkers of one's own.

use std::collections::BTreeMap;

use fuzz_dist_core::{History, OpType, interop};
use serde_json::{Value as Json, json};

use super::stage::{Run, Stage, int};

/// Two nodes that answer at once; 20 operations for each of four threads, then nothing until the end.
fn stage(ids: &str, checkers: &str) -> Stage {
    let stage = Stage::set(&["probe/probe.ex"]);
    stage.spec(&format!(
        r#"
name = "own"
seed = 11
nodes = 2
concurrency = 4
time_limit_s = 4
warm_up_s = 0.3
recovery_s = 1.0
{checkers}

[cluster]
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
ready_timeout_ms = 60000
net_ticktime_s = 2

[client]
module = "Probe"
options = {{ ids = "{ids}" }}

[workload]
generator = [
  {{ stagger = [0.02, {{ each-thread = {{ limit = [20, {{ mix = [
    {{ f = "generate", value = {{ int = [0, 999] }} }}, {{ f = "echo", value = {{ int = [0, 999] }} }}
  ] }}] }} }}] }},
  {{ sleep = 10 }},
]

[nemesis]
interval_s = 0.3

[[nemesis.faults]]
kind = "hold"
targets = ["one", "halves"]
duration_ms = 300

[[nemesis.faults]]
kind = "rst"
targets = ["all"]
duration_ms = 200
"#
    ));
    stage
}

/// What each logical process invoked, in order.
fn invocations(history: &History) -> BTreeMap<String, Vec<String>> {
    let mut by_process: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (invoke, _) in history.client_pairs() {
        let what = format!("{} {}", invoke.f, invoke.value);
        by_process.entry(invoke.process.to_string()).or_default().push(what);
    }
    by_process
}

/// The faults of a schedule but for the edges that live nodes add to it.
fn faults(schedule: &Json) -> Vec<Json> {
    let faults = schedule["faults"].as_array().unwrap().clone();
    assert!(!faults.is_empty(), "{schedule:#}");
    faults
}

/// What really happened of a fault: id, kind, nodes and links.
fn applied(run: &Run) -> Vec<String> {
    run.assert_faults_observed(1);
    let fields = ["id", "kind", "target", "nodes", "links", "start-ms", "duration-ms"];
    let text = |op: &&fuzz_dist_core::Op| {
        fields.map(|field| format!("{:?}", op.value.get(field))).join(" ")
    };
    run.records("nemesis", "fault-start").iter().map(text).collect()
}

#[test]
fn the_same_seed_runs_the_same_and_a_replay_too() {
    // Its processes have done all they do before the last heal, so that nothing is asked afterwards.
    let checkers = r#"recovery_check = false
checkers = [{ name = "unique-ids", options = {} }, { name = "stats" }]"#;
    let stage = stage("unique", checkers);
    let printed = stage.fuzz_dist(&["schedule", "t.toml", "--json"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let printed: Json = serde_json::from_str(&printed.stdout).unwrap();

    let run = stage.run(None);
    assert_eq!(run.results["run"]["seed"], 11);
    assert_eq!(faults(&run.schedule()), faults(&printed["schedule"]), "drawn again");

    let operations = printed["records"].as_array().unwrap();
    let lines: Vec<String> = operations.iter().map(Json::to_string).collect();
    let simulated = interop::load_bytes("printed", lines.join("\n").as_bytes(), None).unwrap();
    let expected = invocations(&simulated.history);
    assert_eq!(expected.len(), 4);
    assert!(expected.values().all(|operations| operations.len() == 20), "{expected:?}");
    assert_eq!(invocations(&run.history), expected);

    let id = run.folder.file_name().unwrap().to_str().unwrap().to_owned();
    let again = stage.fuzz_dist(&["replay", &format!("own/{id}")]);
    let again = stage.read(again);
    assert_ne!(again.folder, run.folder);
    assert_eq!(again.schedule(), run.schedule());
    assert_eq!(applied(&again), applied(&run));
    assert_eq!(invocations(&again.history), expected);
    // Ids of a node are its name and a count, so they are unique, and the checker of the spec says so.
    for run in [&run, &again] {
        assert_eq!(run.checker("unique-ids")["verdict"], "valid");
        run.assert_verdict("valid");
    }
}

#[test]
fn a_schedule_edited_by_hand_and_a_checker_that_finds_the_bug() {
    let checkers = r#"checkers = [{ name = "unique-ids" }]"#;
    let stage = stage("own-count", checkers);
    let drawn = stage.fuzz_dist(&["schedule", "t.toml", "--json"]);
    let drawn: Json = serde_json::from_str(&drawn.stdout).unwrap();
    let mut schedule = drawn["schedule"].clone();
    // One fault of the drawn ones is changed, another added, the rest dropped.
    let mut first = schedule["faults"][0].clone();
    first["kind"] = json!("pause");
    first["target"] = json!({"named": ["n2"]});
    first["start_ns"] = json!(400_000_000);
    first["duration_ns"] = json!(300_000_000);
    for gone in ["resolved", "boundary", "one_way"] {
        first.as_object_mut().unwrap().remove(gone);
    }
    let second = json!({"id": 7, "kind": "delay", "latency_ms": 20, "jitter_ms": 5,
        "target": {"links": [["n1", "n2"]]}, "start_ns": 1_000_000_000, "duration_ns": 1_500_000_000});
    schedule["faults"] = json!([first, second]);
    let run = stage.run(Some(&schedule.to_string()));
    run.assert_faults_observed(2);
    let what: Vec<(&Json, &Json, &Json)> =
        run.faults().iter().map(|f| (&f["id"], &f["kind"], &f["requested_duration_ns"])).collect();
    assert_eq!(
        what,
        [
            (&first_id(&schedule), &json!("pause"), &json!(300_000_000)),
            (&json!(7), &json!("delay"), &json!(1_500_000_000))
        ]
    );
    assert_eq!(faults(&run.schedule()), faults(&schedule));
    // Each node counts for itself: with two nodes, the same id is handed out twice.
    run.assert_verdict("invalid");
    assert_eq!(run.checker("unique-ids")["verdict"], "invalid");
    let mut ids: BTreeMap<i64, usize> = BTreeMap::new();
    for (invoke, completion) in run.history.client_pairs() {
        let ok = completion.filter(|op| op.op_type == OpType::Ok);
        if let Some(done) = ok.filter(|_| invoke.f.as_str() == "generate") {
            *ids.entry(done.value.as_int().unwrap()).or_default() += 1;
        }
    }
    assert!(ids.values().any(|count| *count > 1), "{ids:?}");
}

fn first_id(schedule: &Json) -> Json {
    schedule["faults"][0]["id"].clone()
}

/// A paused node does not answer the vm plane, which waits for it for seconds. Links are cut in time all the same.
#[test]
fn no_fault_waits_for_one_of_another_plane() {
    let run = stage("unique", "").run(Some(
        r#"{"version": 1, "seed": 1, "nodes": ["n1", "n2"], "faults": [
  {"id": 1, "kind": "pause", "target": {"named": ["n1"]}, "start_ns": 300000000, "duration_ns": 3000000000},
  {"id": 2, "kind": "suspend", "process": {"registered": "init"}, "target": {"named": ["n1"]}, "start_ns": 600000000, "duration_ns": 500000000},
  {"id": 3, "kind": "refuse-connect", "target": {"named": ["n2"]}, "start_ns": 800000000, "duration_ns": 400000000}]}"#,
    ));
    let of = |f: &str, id: i64| {
        let records = run.records("nemesis", f).into_iter();
        records.filter(|op| int(&op.value, "id") == id).map(|op| op.time_ns).next()
    };
    let said = &run.ended.stderr;
    // Whether the node answers at last or is given up.
    let done = of("fault-applied", 2).or(of("fault-failed", 2)).expect(said);
    assert!(
        done - of("fault-start", 2).expect(said) > 2_000_000_000,
        "nothing to wait for: {said}"
    );
    let late_ms =
        (of("fault-applied", 3).expect(said) - of("fault-start", 3).expect(said)) / 1_000_000;
    assert!(late_ms < 1500, "applied {late_ms} ms after its time: {said}");
    assert!(of("fault-healed", 3).expect(said) < done, "the link waited for the node: {said}");
}
