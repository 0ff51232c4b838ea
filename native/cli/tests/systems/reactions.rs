//! Faults that wait for an event.

use fuzz_dist_core::{Op, Value};
use serde_json::Value as Json;

use super::stage::{Run, Stage, text};

fn spec(faults: &str) -> String {
    spec_of("Probe", "echo", faults)
}

fn spec_of(module: &str, f: &str, faults: &str) -> String {
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
module = "{module}"
options = {{ ids = "unique" }}

[workload]
generator = {{ stagger = [0.2, {{ f = "{f}", value = {{ int = [0, 999] }} }}] }}

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
    let pause = start(&run, "pause");
    let late_ms = (pause.time_ns - down_ns) / 1_000_000;
    assert!((150..1_500).contains(&late_ms), "{late_ms} ms after the nodedown");
    assert_eq!(text(&pause.value, "after"), "150 ms after nodedown of n2 seen by n1");
    assert!(
        number(&start(&run, "delay").value, "event-ms")
            > number(&start(&run, "hold").value, "start-ms")
    );
    let unmet = run.records("nemesis", "fault-unmet");
    assert_eq!(unmet.len(), 1, "{unmet:?}");
    assert_eq!(text(&unmet[0].value, "kind"), "kill");

    // Their times are data now, and what did not happen is gone.
    let schedule = run.schedule();
    assert!(of_kind(&schedule, "kill").is_empty(), "{schedule:#}");
    assert_replays(&stage, &run, &["pause", "delay"]);
}

/// The times of these faults are data now, and a replay has them and waits for nothing.
fn assert_replays(stage: &Stage, run: &Run, kinds: &[&str]) {
    let schedule = run.schedule();
    for kind in kinds {
        let stored = of_kind(&schedule, kind)[0];
        assert!(stored["after"]["seen_ns"].is_u64(), "{schedule:#}");
        let started = start(run, kind);
        assert_eq!(stored["start_ns"].as_f64().unwrap() / 1e6, number(&started.value, "start-ms"));
    }
    let id = run.folder.file_name().unwrap().to_str().unwrap().to_owned();
    let again = stage.read(stage.fuzz_dist(&["replay", &format!("reactions/{id}")]));
    assert_eq!(again.schedule(), schedule);
    let starts = |run: &Run| -> Vec<String> {
        let all = run.records("nemesis", "fault-start");
        all.iter().map(|op| op.value.to_string()).collect()
    };
    assert_eq!(starts(&again), starts(run));
    // Nobody is asked to tell what nobody waits for.
    for asked in ["telemetry", "elected"] {
        assert!(again.records("observer", asked).is_empty(), "{asked}");
    }
}

/// The first fault of a kind that was started.
fn start<'a>(run: &'a Run, kind: &str) -> &'a Op {
    let all = run.records("nemesis", "fault-start");
    let found = all.into_iter().find(|op| text(&op.value, "kind") == kind);
    found.unwrap_or_else(|| panic!("no {kind}: {:?}", run.ended))
}

#[test]
fn faults_start_after_an_election_and_after_telemetry() {
    let stage = Stage::set(&["elections/telemetry.erl", "elections/elections.ex"]);
    let faults = r#"
[nemesis]
interval_s = 60.0

# The first leader is killed; whoever comes after it has been elected.
[[nemesis.faults]]
kind = "kill-process"
process = { global = "leader" }

[[nemesis.faults]]
kind = "delay"
latency_ms = 20
targets = ["all"]
duration_ms = 500
after = { event = "elected", process = { global = "leader" }, seen_by = "n1", delay_ms = 150 }

[[nemesis.faults]]
kind = "pause"
targets = [{ named = ["n2"] }]
duration_ms = 300
after = { event = "telemetry", of = "elections.won", delay_ms = 1500 }

[[nemesis.faults]]
kind = "rst"
after = { event = "elected", process = { global = "nobody" } }
"#;
    let spec = spec_of("Elections", "leader", faults);
    // Nodes are asked to tell of elections when the main phase begins, and a busy machine takes its time.
    stage.spec(&spec.replace("warm_up_s = 0.5", "warm_up_s = 4.0"));
    let run = stage.run(None);
    let said = &run.ended.stderr;
    let killed_ns = start(&run, "kill-process").time_ns;
    let elected = run.records("observer", "elected");
    let seen = elected.iter().find(|op| op.node.is_some_and(|node| node.as_str() == "n1"));
    let seen = seen.unwrap_or_else(|| panic!("no election: {said}"));
    assert_eq!(text(&seen.value, "place"), "global leader");
    assert_ne!(text(&seen.value, "holder"), text(&seen.value, "before"));
    assert!(seen.time_ns > killed_ns, "{seen:?}");
    let won = run.records("observer", "telemetry");
    let won = won.first().unwrap_or_else(|| panic!("no telemetry: {said}"));
    assert_eq!(text(&won.value, "event"), "elections.won");
    for (kind, event_ns, delay_ms) in [("delay", seen.time_ns, 150), ("pause", won.time_ns, 1_500)]
    {
        let late_ms = (start(&run, kind).time_ns - event_ns) / 1_000_000;
        assert!((delay_ms..delay_ms + 1_500).contains(&late_ms), "{kind}: {late_ms} ms after");
    }
    let unmet = run.records("nemesis", "fault-unmet");
    assert_eq!(unmet.len(), 1, "{unmet:?}");
    assert_replays(&stage, &run, &["delay", "pause"]);
}
