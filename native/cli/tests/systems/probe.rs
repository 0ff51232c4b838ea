//! What a run promises to the code of a test: faults on the primaries that it names, telemetry in its VMs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use super::stage::{Run, Stage, text};

/// One run for all tests of this file.
static RUN: LazyLock<Run> = LazyLock::new(|| {
    let stage = Stage::set(&["probe/probe.ex"]);
    stage.spec(
        r#"
name = "probe"
nodes = 2
concurrency = 4
rate = 50.0
time_limit_s = 4
op_timeout_ms = 4000
warm_up_s = 0.5
recovery_s = 1.0
checkers = [{ name = "stats" }]

[cluster]
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
ready_timeout_ms = 60000

[client]
module = "Probe"

[workload]
generator = { mix = [{ f = "echo", value = { unique = 0 } }, { f = "raise" }, { f = "refuse" }] }
final_generator = { each-thread = { once = { f = "echo", value = ":last" } } }

[nemesis]
interval_s = 0.4

[[nemesis.faults]]
kind = "pause"
targets = ["primaries"]
duration_ms = 400

[[nemesis.faults]]
kind = "hold"
targets = ["primaries"]
duration_ms = 400
"#,
    );
    let run = stage.run(None);
    // The store goes with the stage, but what its tests read must stay.
    Box::leak(Box::new(stage));
    run
});

#[test]
fn faults_hit_the_primaries_that_the_test_names() {
    let run = &*RUN;
    run.assert_faults_observed(2);
    // Nothing but the stats were asked for, and two functions cannot succeed: no pass, and said so.
    run.assert_verdict("unknown");
    for op in run.records("nemesis", "fault-start") {
        assert_eq!(text(&op.value, "target"), "primaries");
        assert_eq!(op.value.get("nodes").unwrap().to_string(), "[\"n1\"]", "{op}");
    }
    // The schedule cannot know them before they are asked.
    for fault in run.schedule()["faults"].as_array().unwrap() {
        assert_eq!(fault["target"], "primaries");
        assert!(fault["resolved"].is_null(), "{fault:#}");
    }
}

/// One event, as the probe wrote it.
#[derive(Debug)]
struct Event {
    measurements: BTreeMap<String, i128>,
    metadata: BTreeSet<String>,
    told: BTreeMap<String, String>,
    /// `System.monotonic_time()` when it was handled.
    handled: i128,
}

/// Events of one node by family and moment (`op start`).
fn events(run: &Run, node: &str) -> BTreeMap<String, Vec<Event>> {
    let log = run.folder.join("nodes").join(node).join("data/telemetry.log");
    let mut events: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    let pairs = |text: &str| -> Vec<(String, String)> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let [family, moment, numbers, keys, told, handled] =
            line.split(' ').collect::<Vec<_>>()[..]
        else {
            panic!("{line}")
        };
        events.entry(format!("{family} {moment}")).or_default().push(Event {
            measurements: pairs(numbers)
                .into_iter()
                .map(|(k, v)| (k, v.parse().unwrap()))
                .collect(),
            metadata: keys.split(',').map(str::to_owned).collect(),
            told: pairs(told).into_iter().collect(),
            handled: handled.parse().unwrap(),
        });
    }
    events
}

/// Measurements and metadata of each event, as `FuzzDist.Telemetry` documents them.
const CONTRACT: &[(&str, &str, &str)] = &[
    ("run start", "monotonic_time system_time", "run test"),
    ("run stop", "duration monotonic_time", "run test"),
    ("phase start", "monotonic_time system_time", "phase run test"),
    ("phase stop", "duration monotonic_time", "phase run test"),
    ("fault start", "monotonic_time system_time", "id kind nodes one_way port run test"),
    ("fault stop", "duration monotonic_time", "id kind one_way port run test"),
    ("op start", "monotonic_time system_time", "f node process telemetry_span_context test value"),
    (
        "op stop",
        "duration monotonic_time",
        "error f node process result telemetry_span_context test type value",
    ),
    (
        "op exception",
        "duration monotonic_time",
        "f kind node process reason stacktrace telemetry_span_context test type value",
    ),
];

#[test]
fn every_family_of_telemetry_is_executed_in_every_node() {
    let run = &*RUN;
    for node in ["n1", "n2"] {
        let events = events(run, node);
        for (name, measurements, metadata) in CONTRACT {
            let all = events.get(*name).unwrap_or_else(|| panic!("{node}: no {name}"));
            for event in all {
                let keys: Vec<&str> = event.measurements.keys().map(String::as_str).collect();
                assert_eq!(keys.join(" "), *measurements, "{node} {name}: {event:?}");
                let keys: Vec<&str> = event.metadata.iter().map(String::as_str).collect();
                assert_eq!(keys.join(" "), *metadata, "{node} {name}: {event:?}");
                // On the clock of the VM that handles it, however long the event was under way.
                let age_ns = event.handled - event.measurements["monotonic_time"];
                assert!((0..60_000_000_000).contains(&age_ns), "{node} {name}: {age_ns} ns");
            }
        }
        assert_eq!(events.keys().len(), CONTRACT.len(), "{:?}", events.keys());
        assert_runs_and_phases(&events);
        assert_operations(run, node, &events);
    }
}

fn assert_runs_and_phases(events: &BTreeMap<String, Vec<Event>>) {
    assert_eq!(events["run start"].len(), 1);
    assert_eq!(events["run stop"].len(), 1);
    let phases = |name: &str| -> Vec<&str> {
        events[name].iter().map(|event| event.told["phase"].as_str()).collect()
    };
    let all = ["main", "heal", "recovery", "final", "teardown"];
    assert_eq!(phases("phase start"), all);
    assert_eq!(phases("phase stop"), all);
    let main = &events["phase stop"][0];
    assert!(main.measurements["duration"] >= 4_000_000_000, "{main:?}");
}

/// What the node's handler heard is what the history tells of the node.
fn assert_operations(run: &Run, node: &str, events: &BTreeMap<String, Vec<Event>>) {
    let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
    for event in events["op stop"].iter().chain(&events["op exception"]) {
        *told.entry((event.told["f"].clone(), event.told["type"].clone())).or_default() += 1;
    }
    let mut recorded: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (invoke, completion) in run.history.client_pairs() {
        if invoke.node.unwrap().as_str() == node {
            let outcome = completion.map_or("open", |op| op.op_type.as_str());
            *recorded.entry((invoke.f.to_string(), outcome.to_owned())).or_default() += 1;
        }
    }
    assert_eq!(told, recorded, "{node}");
    let ids = |name: &str| -> Vec<&str> {
        events[name].iter().map(|event| event.told["id"].as_str()).collect()
    };
    let faults: Vec<String> = run.faults().iter().map(|fault| fault["id"].to_string()).collect();
    assert_eq!(ids("fault start"), faults, "{node}");
    assert_eq!(ids("fault stop"), faults, "{node}");
}
