//! Wrong arguments, specs, histories and schedules: the message names the thing, the exit code is 254,
//! and nothing is started or written.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{Scene, assert_refused};

const SPEC: &str = "[client]\nmodule = \"M\"\n[workload]\nname = \"register\"\n";

#[test]
fn unknown_flags_and_commands() {
    let scene = Scene::new();
    assert_refused(&scene.run(&["run", "--sede", "1", "a.toml"]), &["--sede", "--seed"]);
    assert_refused(&scene.run(&["schedul"]), &["schedul", "'schedule'"]);
    assert_refused(&scene.run(&[]), &["Usage"]);
    assert_refused(&scene.run(&["run"]), &["<SPEC.toml>"]);
    assert_refused(&scene.run(&["run", "a.toml", "--seed", "-1"]), &["-1"]);
    assert_refused(
        &scene.run(&["run", "a.toml", "--time-limit", "0"]),
        &["--time-limit", "more than 0"],
    );
    assert_refused(&scene.run(&["run", "a.toml", "--concurrency", "n3"]), &["--concurrency", "2n"]);
    assert_refused(&scene.run(&["export", "x", "--format", "xml"]), &["xml", "edn", "jsonl"]);
}

#[test]
fn specs_that_cannot_be_run() {
    let scene = Scene::new();
    let refused = |text: &[u8], names: &[&str]| {
        scene.write("t.toml", text);
        assert_refused(&scene.run(&["run", "t.toml"]), names);
        assert_refused(&scene.run(&["schedule", "t.toml"]), names);
    };
    refused(format!("nodse = 3\n{SPEC}").as_bytes(), &["t.toml:1:1", "nodse", "`nodes`"]);
    refused(format!("nodes = 0\n{SPEC}").as_bytes(), &["t.toml:1:9", "nodes", "1 to 100"]);
    let checkers = |text: &str| format!("{SPEC}[[checkers]]\n{text}\n");
    refused(
        checkers("name = \"linearisable\"").as_bytes(),
        &["t.toml:6:8", "checkers[0].name", "did you mean \"linearizable\""],
    );
    refused(
        checkers("name = \"set-full\"\n[checkers.options]\nlinearisable = true").as_bytes(),
        &["t.toml:8:", "checkers[0].options.linearisable", "did you mean \"linearizable\""],
    );
    refused(
        checkers("name = \"linearizable\"\n[checkers.options]\nmodel = \"stak\"").as_bytes(),
        &["t.toml:8:", "checkers[0].options.model", "did you mean \"stack\""],
    );
    refused(b"", &["t.toml", "client.module"]);
    refused(b"name = \"\xff\"", &["t.toml:1:9", "not UTF-8"]);
    refused(b"{", &["t.toml:1:1"]);
    assert_refused(&scene.run(&["run", "u.toml"]), &["u.toml", "no such file", "t.toml"]);
    assert_refused(&scene.run(&["run", "."]), &["is a directory"]);
    assert!(!scene.path("store").exists());
}

#[test]
fn flags_are_validated_with_the_spec() {
    let scene = Scene::new();
    scene.write("t.toml", SPEC);
    assert_refused(&scene.run(&["run", "t.toml", "--nodes", "0"]), &["nodes", "0 nodes"]);
    assert_refused(&scene.run(&["run", "t.toml", "--nodes", "a,A"]), &["nodes[1]", "\"A\""]);
    assert_refused(&scene.run(&["run", "t.toml", "--life-line-fd", "77"]), &["--life-line-fd 77"]);
}

#[test]
fn schedules_that_cannot_be_run() {
    let scene = Scene::new();
    scene.write("t.toml", SPEC);
    let refused = |text: &str, names: &[&str]| {
        scene.write("s.json", text);
        assert_refused(&scene.run(&["run", "t.toml", "--schedule", "s.json"]), names);
    };
    let fault = |kind: &str, target: &str| {
        format!(
            r#"{{"version": 1, "seed": 1, "nodes": ["n1", "n2", "n3"], "faults": [
              {{"id": 1, "kind": "{kind}", "target": {target}, "start_ns": 0, "duration_ns": 1000000}}]}}"#
        )
    };
    refused(&fault("hold", r#"{"named": ["n9"]}"#), &["s.json", "n9"]);
    refused(&fault("hodl", r#""one""#), &["s.json", "hodl", "`hold`"]);
    refused("", &["s.json", "is empty"]);
    refused("{", &["s.json", "not JSON"]);
    let missing = scene.run(&["run", "t.toml", "--schedule", "none.json"]);
    assert_refused(&missing, &["none.json", "no such file"]);
    assert!(!scene.path("store").exists());
}

#[test]
fn histories_that_are_none() {
    let scene = Scene::new();
    let refused = |name: &str, bytes: &[u8], names: &[&str]| {
        scene.write(name, bytes);
        let ended =
            scene.run(&["check", "--checker", "linearizable", "--model", "cas-register", name]);
        assert_refused(&ended, names);
    };
    refused("empty.edn", b"", &["empty.edn", "empty"]);
    refused("text.edn", b"this is no history\n", &["text.edn"]);
    refused("latin.edn", b"{:type :invoke, :f :r\xe4d, :process 0}\n", &["latin.edn", "UTF-8"]);
    refused("cut.edn", b"{:type :invoke, :f :read, :process 0, :va", &["cut.edn"]);
    refused(
        "type.edn",
        b"{:type :invok, :f :read, :process 0, :value nil}\n",
        &["type.edn", "invok"],
    );
    // Completions alone are a history; one that lost its invocation among others is not.
    let orphan = b"{:type :invoke, :f :read, :process 0, :value nil}
{:type :ok, :f :read, :process 0, :value nil}
{:type :ok, :f :read, :process 1, :value nil}\n";
    refused("orphan.edn", orphan, &["orphan.edn:3:1", "no open invocation"]);
    let missing = scene.run(&["check", "--checker", "set-full", "none.edn"]);
    assert_refused(&missing, &["none.edn"]);
    assert_refused(&scene.run(&["check", "--checker", "set-full", "."]), &["directory"]);
}

#[test]
fn unknown_checkers_and_options() {
    let scene = Scene::new();
    scene.write("h.edn", "{:type :invoke, :f :read, :process 0, :value nil}\n");
    let check = |arguments: &[&str]| scene.run(&[&["check", "h.edn"], arguments].concat());
    assert_refused(&check(&["--checker", "linearizible"]), &["linearizible", "linearizable"]);
    assert_refused(
        &check(&["--checker", "linearizable", "--option", "modle=register"]),
        &["modle", "model"],
    );
    assert_refused(&check(&["--checker", "linearizable", "--option", "model"]), &["KEY=VALUE"]);
    assert_refused(
        &check(&["--checker", "linearizable", "--model", "registre"]),
        &["registre", "register"],
    );
    assert_refused(
        &check(&["--checker", "linearizable", "--model", "register", "--option", "model=register"]),
        &["model is given twice"],
    );
    assert_refused(&check(&[]), &["--checker"]);
}

#[test]
fn runs_that_are_not_there() {
    let scene = Scene::new();
    for command in ["analyze", "replay", "report"] {
        assert_refused(&scene.run(&[command, "latest"]), &["latest", "store"]);
        assert_refused(&scene.run(&[command, "x", "--store", "none"]), &["x", "none"]);
    }
    assert_refused(&scene.run(&["export", "latest", "--format", "edn"]), &["latest"]);
    assert_refused(&scene.run(&["analyze", "x", "--checker", "statz"]), &["statz", "stats"]);
}

#[test]
fn who_asks_for_json_gets_one_object_also_then() {
    let scene = Scene::new();
    for arguments in [
        &["run", "none.toml", "--json"][..],
        &["run", "--json"],
        &["check", "--json", "--checker", "nope", "h.edn"],
        &["analyze", "latest", "--json"],
    ] {
        let ended = scene.run(arguments);
        assert_eq!(ended.code, Some(254), "{ended:?}");
        let object: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(object["exit_code"], 254);
        assert!(object["error"].as_str().is_some_and(|error| !error.is_empty()), "{object}");
    }
}
