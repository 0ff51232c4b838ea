//! Faults that wait for an event.

use fuzz_dist_core::{Op, Value};
use serde_json::Value as Json;

use super::stage::{Stage, text};

fn spec(faults: &str) -> String {
    format!(
        r#"
name = "reactions"
seed = 5
nodes = 2
concurrency = 2
time_limit_s = 12
warm_up_s = 0.5
recovery_s = 5.0
checkers = [{{ name = "stats" }}]

[cluster]
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
ready_timeout_ms = 90000
net_ticktime_s = 2

[client]
module = "Probe"
options = {{ ids = "unique" }}

[workload]
generator = {{ stagger = [0.2, {{ f = "echo", value = {{ int = [0, 999] }} }}] }}

{faults}
"#
    )
}

fn number(value: &Value, key: &str) -> f64 {
    match value.get(key) {
        Some(Value::Float(number)) => *number,
        other => panic!("{key} is {other:?} in {value}"),
    }
}

/// The faults of a schedule by kind.
fn of_kind<'a>(schedule: &'a Json, kind: &str) -> Vec<&'a Json> {
    let all = schedule["faults"].as_array().unwrap().iter();
    all.filter(|fault| fault["kind"] == kind).collect()
}

#[test]
fn faults_start_after_what_they_wait_for_and_a_replay_at_the_same_time() {
    let stage = Stage::set(&["probe/probe.ex"]);
    let faults = r#"
[nemesis]
interval_s = 60.0

[[nemesis.faults]]
kind = "hold"
targets = ["all"]
duration_ms = 4500

[[nemesis.faults]]
kind = "pause"
targets = [{ named = ["n1"] }]
duration_ms = 400
after = { event = "nodedown", of = "n2", seen_by = "n1", delay_ms = 150 }

[[nemesis.faults]]
kind = "delay"
latency_ms = 20
targets = ["all"]
duration_ms = 500
after = { event = "fault-healed", of = "hold", delay_ms = 100 }

[[nemesis.faults]]
kind = "kill"
duration_ms = 500
after = { event = "fault-observed", of = "rst" }
"#;
    stage.spec(&spec(faults));
    let shown = stage.fuzz_dist(&["schedule", "t.toml", "--limit", "40"]);
    assert_eq!(shown.stdout.matches(":fault-waiting").count(), 3, "{shown:?}");
    let run = stage.run(None);
    let down = run.sightings("nodedown");
    let first = down.iter().find(|op| op.node.is_some_and(|node| node.as_str() == "n1"));
    let down_ns = first.unwrap_or_else(|| panic!("{:?}", run.ended)).time_ns;
    let start = |kind: &str| -> &Op {
        let all = run.records("nemesis", "fault-start");
        let found = all.into_iter().find(|op| text(&op.value, "kind") == kind);
        found.unwrap_or_else(|| panic!("no {kind}: {:?}", run.ended))
    };
    let pause = start("pause");
    let late_ms = (pause.time_ns - down_ns) / 1_000_000;
    assert!((150..1_500).contains(&late_ms), "{late_ms} ms after the nodedown");
    assert_eq!(text(&pause.value, "after"), "150 ms after nodedown of n2 seen by n1");
    assert!(number(&start("delay").value, "event-ms") > number(&start("hold").value, "start-ms"));
    let unmet = run.records("nemesis", "fault-unmet");
    assert_eq!(unmet.len(), 1, "{unmet:?}");
    assert_eq!(text(&unmet[0].value, "kind"), "kill");

    // Their times are data now, and what did not happen is gone.
    let schedule = run.schedule();
    assert!(of_kind(&schedule, "kill").is_empty(), "{schedule:#}");
    let stored = of_kind(&schedule, "pause")[0];
    assert!(stored["after"]["seen_ns"].is_u64(), "{schedule:#}");
    assert_eq!(stored["start_ns"].as_f64().unwrap() / 1e6, number(&pause.value, "start-ms"));
    let id = run.folder.file_name().unwrap().to_str().unwrap().to_owned();
    let again = stage.read(stage.fuzz_dist(&["replay", &format!("reactions/{id}")]));
    assert_eq!(again.schedule(), schedule);
    let starts = |run: &super::stage::Run| -> Vec<String> {
        let all = run.records("nemesis", "fault-start");
        all.iter().map(|op| op.value.to_string()).collect()
    };
    assert_eq!(starts(&again), starts(&run));
}
