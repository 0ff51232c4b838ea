//! A cluster whose distribution is TLS: the plane cannot read it, so ticks and messages cannot be told apart, and
//! every fault of whole bytes and connects works as over TCP. Its nodes start their agents themselves, since the core
//! does not speak TLS.

use std::process::Command;

use super::common::finish;
use super::stage::Stage;

const SPEC: &str = r#"
name = "tls"
nodes = 3
concurrency = 3
rate = 30.0
time_limit_s = 17
op_timeout_ms = 3000
warm_up_s = 0.5
recovery_s = 8.0

[cluster]
command = [
  "elixir", "--no-halt", "-e", ":fuzz_dist_boot.start()",
  "--erl", "-noinput -proto_dist inet_tls -ssl_dist_optfile TLS",
]
code_paths = ["code"]
net_ticktime_s = 4
prevent_overlapping_partitions = false
ready_timeout_ms = 90000

[client]
module = "GossipSet"

[workload]
name = "set"

[nemesis]
capture = true
"#;

/// Certificates of one authority for all nodes, written by OTP itself.
const CERTIFICATES: &str = r#"
    %% OTP refuses SHA-1, the default here, from 27 on.
    Key = [{key, {namedCurve, secp256r1}}, {digest, sha256}],
    Chain = #{root => Key, intermediates => [], peer => Key},
    Chains = #{server_chain => Chain, client_chain => Chain},
    #{server_config := Server} = public_key:pkix_test_data(Chains),
    #{server_config := Stranger} = public_key:pkix_test_data(Chains),
    Pem = fun(File, Entries) -> ok = file:write_file(File, public_key:pem_encode(Entries)) end,
    {KeyType, KeyDer} = proplists:get_value(key, Server),
    Pem("node.pem", [
        {'Certificate', proplists:get_value(cert, Server), not_encrypted},
        {KeyType, KeyDer, not_encrypted}
    ]),
    Pem("other.pem", [{'Certificate', Der, not_encrypted}
        || Der <- proplists:get_value(cacerts, Stranger)]),
    [Path, Other] = [filename:absname(File) || File <- ["node.pem", "other.pem"]],
    Both = [{certfile, Path}, {keyfile, Path}, VERIFICATION],
    ok = file:write_file("tls.conf", io_lib:format("~p.~n", [[{server, Both}, {client, Both}]])),
    halt().
"#;

/// One after the other on both directions between two nodes, for a second, and one that the tick decides.
fn schedule() -> String {
    let kinds = [
        r#""kind": "delay", "latency_ms": 20"#,
        r#""kind": "throttle", "bytes_per_s": 3000"#,
        r#""kind": "hold""#,
        r#""kind": "rst""#,
        r#""kind": "fin""#,
        r#""kind": "refuse-connect""#,
    ];
    let fault = |(i, kind): (usize, &&str)| {
        let (id, start_ms) = (i + 1, 500 + 1_500 * i);
        format!(
            r#"{{"id": {id}, {kind}, "target": {{"links": [["n1", "n2"], ["n2", "n1"]]}},
               "start_ns": {start_ms}000000, "duration_ns": 1000000000}}"#
        )
    };
    let mut faults: Vec<String> = kinds.iter().enumerate().map(fault).collect();
    faults.push(
        r#"{"id": 7, "kind": "hold", "start_ns": 9600000000, "duration_ns": 6500000000,
            "target": {"links": [["n1", "n3"], ["n3", "n1"]]}}"#
            .to_owned(),
    );
    format!(
        r#"{{"version": 1, "seed": 1, "nodes": ["n1", "n2", "n3"], "faults": [{}]}}"#,
        faults.join(",")
    )
}

/// A stage with a cluster of TLS whose nodes verify each other, or not, as these options have it.
fn stage(verification: &str) -> Stage {
    let stage = Stage::set(&["gossip_set/gossip_set.ex"]);
    let mut certify = Command::new("erl");
    certify
        .args(["-noinput", "-eval", &CERTIFICATES.replace("VERIFICATION", verification)])
        .current_dir(stage.scene.path("."));
    let certified = finish(&mut certify, b"");
    assert_eq!(certified.code, Some(0), "{certified:?}");
    let options = stage.scene.path("tls.conf");
    stage.spec(&SPEC.replace("TLS", options.to_str().unwrap()));
    stage
}

#[test]
fn nodes_that_do_not_trust_each_other_are_told_with_what_they_wrote() {
    // Each trusts only an authority that has signed the certificate of none.
    let stage = stage("{verify, verify_peer}, {cacertfile, Other}");
    let spec = std::fs::read_to_string(stage.scene.path("t.toml")).unwrap();
    stage.spec(&spec.replace("ready_timeout_ms = 90000", "ready_timeout_ms = 25000"));
    let ended = stage.fuzz_dist(&["run", "t.toml"]);
    assert_eq!(ended.code, Some(254), "{ended:?}");
    for part in [
        "the nodes did not connect to each other within 25000 ms",
        "n1 sees no other, n2 sees no other, n3 sees no other",
        "Likely cause: the TLS handshake between the nodes fails",
        "nodes/n1/output.log:",
        "ALERT: Fatal - ",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
}

#[test]
fn faults_of_bytes_and_connects_work_on_a_distribution_over_tls() {
    let stage = stage("{verify, verify_none}");
    let run = stage.run(Some(&schedule()));
    run.assert_verdict("valid");
    run.assert_faults_observed(7);
    let capture = std::fs::read(run.folder.join("links.pcapng")).unwrap();
    let contains = |bytes: &[u8]| capture.windows(bytes.len()).any(|part| part == bytes);
    assert!(contains(&[22, 3, 3]) || contains(&[22, 3, 1]), "a handshake of TLS crossed the links");
    assert!(!contains(b"handshake: name of"), "none of distribution could be read");
    // Longer than the tick time: each of the two missed the other.
    assert!(run.sightings("nodedown").len() >= 2, "{:?}", run.sightings("nodedown"));
}
