//! Every fault of the link plane that a set which gossips can show: nothing of it may be lost, whatever becomes of
//! bytes, ticks, connects and single messages; and what crossed the links is in the capture.

use super::stage::Stage;

const SPEC: &str = r#"
name = "links"
nodes = 3
concurrency = 3
rate = 30.0
time_limit_s = 26
op_timeout_ms = 3000
warm_up_s = 0.5
recovery_s = 6.0

[cluster]
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
net_ticktime_s = 4
prevent_overlapping_partitions = false
ready_timeout_ms = 60000

[client]
module = "GossipSet"

[workload]
name = "set"

[nemesis]
capture = true
"#;

/// One after the other, each on both directions between two nodes, for a second.
fn one_after_the_other(kinds: &[&str]) -> String {
    let fault = |(i, kind): (usize, &&str)| {
        let (id, start_ms) = (i + 1, 500 + 1_900 * i);
        format!(
            r#"{{"id": {id}, {kind}, "target": {{"links": [["n1", "n2"], ["n2", "n1"]]}},
               "start_ns": {start_ms}000000, "duration_ns": 1000000000}}"#
        )
    };
    let faults: Vec<String> = kinds.iter().enumerate().map(fault).collect();
    format!(
        r#"{{"version": 1, "seed": 1, "nodes": ["n1", "n2", "n3"], "faults": [{}]}}"#,
        faults.join(",")
    )
}

#[test]
fn every_fault_of_links_is_seen_and_seen_healed_and_a_gossiping_set_loses_nothing() {
    let kinds = [
        r#""kind": "hold""#,
        r#""kind": "hold", "heal_lag": true"#,
        r#""kind": "delay", "latency_ms": 20, "jitter_ms": 10, "distribution": "normal""#,
        r#""kind": "delay", "latency_ms": 20, "jitter_ms": 10, "distribution": "pareto""#,
        r#""kind": "throttle", "bytes_per_s": 2000"#,
        r#""kind": "ticks-only""#,
        r#""kind": "forged-ticks""#,
        r#""kind": "drop-messages", "operations": ["REG_SEND"], "probability": 0.9"#,
        r#""kind": "delay-messages", "operations": ["REG_SEND"], "latency_ms": 300"#,
        r#""kind": "refuse-connect""#,
        r#""kind": "blackhole-connect""#,
        r#""kind": "half-open""#,
        r#""kind": "rst""#,
    ];
    let stage = Stage::set(&["gossip_set/gossip_set.ex"]);
    stage.spec(SPEC);
    let run = stage.run(Some(&one_after_the_other(&kinds)));
    run.assert_verdict("valid");
    run.assert_faults_observed(kinds.len());

    let capture = std::fs::read(run.folder.join("links.pcapng")).unwrap();
    assert_eq!(capture[..4], [0x0a, 0x0d, 0x0d, 0x0a], "pcapng begins with a section");
    let contains = |text: &str| capture.windows(text.len()).any(|part| part == text.as_bytes());
    for text in ["n1 -> n2 (dist)", "handshake: name of n", "REG_SEND, ", "tick"] {
        assert!(contains(text), "{text} is not in the capture");
    }
    assert!(!contains("fragment of"), "nodes of a run with faults of messages use none");
}

#[test]
fn what_is_wrong_with_a_fault_of_messages_is_told_before_anything_starts() {
    let stage = Stage::set(&["gossip_set/gossip_set.ex"]);
    stage.spec(SPEC);
    for (fault, told) in [
        (r#""kind": "drop-messages", "operations": ["SENT"]"#, "did you mean `SEND`?"),
        (r#""kind": "drop-messages", "operations": []"#, "is empty"),
        (r#""kind": "delay-messages", "operations": ["SEND"], "latency_ms": 0"#, "a delay of 0 ms"),
        (r#""kind": "delay", "latency_ms": 1, "distribution": "poisson""#, "poisson"),
    ] {
        stage.scene.write("given.json", one_after_the_other(&[fault]));
        let ended = stage.fuzz_dist(&["run", "t.toml", "--schedule", "given.json"]);
        assert_eq!(ended.code, Some(254), "{ended:?}");
        assert!(ended.stderr.contains(told), "{fault}: {}", ended.stderr);
        assert!(!stage.scene.path("store").exists(), "a run was begun");
    }
}
