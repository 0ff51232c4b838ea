//! Every way in which a node's process can end, stand still, come back and be lost by EPMD; and packages in eras.

use super::stage::{Run, Stage, text};

fn stage(nemesis: &str, time_limit_s: u32) -> Stage {
    let stage = Stage::set(&["probe/probe.ex"]);
    stage.spec(&format!(
        r#"
name = "processes"
nodes = 3
concurrency = 3
rate = 30.0
time_limit_s = {time_limit_s}
op_timeout_ms = 2000
warm_up_s = 0.5
recovery_s = 20.0
checkers = [{{ name = "stats" }}]

[roles]
edge = ["n3"]

[cluster]
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
net_ticktime_s = 4
ready_timeout_ms = 60000

[client]
module = "Probe"

[workload]
generator = {{ f = "echo", value = 1 }}

{nemesis}
"#
    ));
    stage
}

/// One fault on each node in turn, seconds apart, so that a node has come back before it is struck again.
fn one_after_the_other(kinds: &[&str]) -> String {
    let fault = |(i, kind): (usize, &&str)| {
        let (id, node) = (i + 1, i % 3 + 1);
        let (start_ms, duration_ms) = (500 + 3_000 * i, 2_000);
        format!(
            r#"{{"id": {id}, {kind}, "target": {{"named": ["n{node}"]}},
               "start_ns": {start_ms}000000, "duration_ns": {duration_ms}000000}}"#
        )
    };
    let faults: Vec<String> = kinds.iter().enumerate().map(fault).collect();
    format!(
        r#"{{"version": 1, "seed": 1, "nodes": ["n1", "n2", "n3"], "faults": [{}]}}"#,
        faults.join(",")
    )
}

/// What was seen of the heal of a fault.
fn heal_effect(run: &Run, kind: &str) -> String {
    let fault = run.faults().iter().find(|fault| fault["kind"] == kind).unwrap();
    fault["heal_effect"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn every_fault_of_processes_is_seen_and_seen_healed() {
    let kinds = [
        r#""kind": "stop""#,
        r#""kind": "halt""#,
        r#""kind": "halt", "flush": true"#,
        r#""kind": "crash-dump""#,
        r#""kind": "epmd-unregister""#,
        r#""kind": "epmd-late""#,
        r#""kind": "restart", "host": "127.1""#,
        r#""kind": "kill""#,
        r#""kind": "pause""#,
    ];
    let stage = stage("", 30);
    let run = stage.run(Some(&one_after_the_other(&kinds)));
    run.assert_faults_observed(kinds.len());
    for kind in ["stop", "halt", "crash-dump", "epmd-late", "kill", "restart"] {
        let seen = heal_effect(&run, kind);
        assert!(seen.contains("creation") && seen.contains(" after "), "{kind}: {seen}");
    }
    for kind in ["pause", "epmd-unregister"] {
        let seen = heal_effect(&run, kind);
        assert!(!seen.contains("creation"), "{kind} is no new life: {seen}");
    }
    // The VM ended as its fault says, and the dump that it waited to write is whole.
    let dump = run.folder.join("nodes/n1/log/erl_crash.dump");
    let dump =
        std::fs::read_to_string(dump).unwrap_or_else(|e| panic!("{e}: {}", run.ended.stderr));
    assert!(dump.contains("fuzz_dist: crash-dump") && dump.trim_end().ends_with("=end"), "no end");
    assert!(!run.folder.join("nodes/n1/log/erl_crash.pipe").exists());
    let exits = run.records("observer", "node-exited");
    assert!(exits.len() >= 7, "{exits:?}");
    // It came back under its own name when all was healed.
    let recovered = run.records("observer", "recovered")[0];
    assert_eq!(recovered.value.get("full").unwrap().to_string(), "true", "{}", run.ended.stderr);
}

#[test]
fn a_node_with_another_cookie_stays_alone_until_the_end() {
    let kinds = [r#""kind": "restart", "cookie": "another""#];
    let run = stage("", 8).run(Some(&one_after_the_other(&kinds)));
    run.assert_faults_observed(1);
    // Between the heal of the fault and the end of the main phase it sees nobody.
    let connectivity = run.records("nemesis", "connectivity");
    let last = connectivity.last().unwrap();
    let pairs = last.value.get("effective").unwrap().to_string();
    assert!(pairs.contains("[\"n1\" \"n2\"]") && pairs.contains("[\"n3\" \"n1\"]"), "{pairs}");
    assert!(!pairs.contains("[\"n2\" \"n3\"]"), "{pairs}");
    let recovered = run.records("observer", "recovered")[0];
    assert_eq!(recovered.value.get("full").unwrap().to_string(), "true", "{}", run.ended.stderr);
}

#[test]
fn packages_are_mixed_in_eras_and_what_cannot_be_had_is_left_out() {
    let nemesis = r#"
[nemesis]
packages = ["kill:edge", "pause"]
interval_s = 1.0
era_s = 4.0

[[nemesis.faults]]
kind = "net-drop"
optional = true
duration_ms = 500
"#;
    let stage = stage(nemesis, 15);
    let ended = stage.fuzz_dist(&["run", "t.toml", "--seed", "3"]);
    let run = stage.read(ended);
    let eras = run.records("nemesis", "era");
    assert!(!eras.is_empty());
    let started = run.records("nemesis", "fault-start");
    assert!(!started.is_empty(), "{}", run.ended.stderr);
    for fault in started.iter().filter(|op| text(&op.value, "package") == "kill:edge") {
        assert_eq!(fault.value.get("nodes").unwrap().to_string(), "[\"n3\"]");
    }
    for fault in run.faults().iter().filter(|fault| fault["kind"] == "net-drop") {
        assert_eq!(fault["status"], "unavailable", "{fault:#}");
        let reason = fault["reason"].as_str().unwrap();
        assert!(reason.starts_with("the nodes are at 127.0.0.1"), "{fault:#}");
    }
}
