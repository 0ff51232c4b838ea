//! The commands that need no cluster: what they print where, and their exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::process::{Command, Stdio};

use common::Scene;
use serde_json::Value as Json;

const VALID: &str = "{:process 0, :type :invoke, :f :write, :value 1}
{:process 0, :type :ok, :f :write, :value 1}
{:process 1, :type :invoke, :f :read, :value nil}
{:process 1, :type :ok, :f :read, :value 1}
";

const SPEC: &str = "name = \"t\"\nnodes = 3\ntime_limit_s = 5\nrate = 50\n[client]\nmodule = \"M\"\n\
                    [workload]\nname = \"register\"\n[[nemesis.faults]]\nkind = \"hold\"\n\
                    targets = [\"halves\"]\nduration_ms = 300\n";

fn invalid() -> String {
    VALID.replace(":ok, :f :read, :value 1", ":ok, :f :read, :value 2")
}

fn one_object(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

const CHECK: [&str; 5] = ["check", "--checker", "linearizable", "--model", "register"];

#[test]
fn the_exit_code_is_the_verdict() {
    let scene = Scene::new();
    scene.write("valid.edn", VALID);
    scene.write("invalid.edn", invalid());
    for (file, code, verdict) in [("valid.edn", 0, "valid"), ("invalid.edn", 1, "invalid")] {
        let people = scene.run(&[&CHECK[..], &[file]].concat());
        assert_eq!(people.code, Some(code), "{people:?}");
        assert_eq!(people.stdout, "");
        assert!(people.stderr.contains(&format!("linearizable: {verdict}")), "{}", people.stderr);
        assert!(!people.stderr.contains('\x1b'), "colours without a terminal");
        let machines = scene.run(&[&CHECK[..], &[file, "--json"]].concat());
        assert_eq!(machines.code, Some(code), "{machines:?}");
        let object = one_object(&machines.stdout);
        assert_eq!(object["verdict"], verdict);
        assert_eq!(object["checker"], "linearizable");
        assert_eq!(object["anomalies"].as_array().map_or(0, Vec::len), code as usize);
    }
}

#[test]
fn too_little_to_decide_is_unknown() {
    let scene = Scene::new();
    scene.write("fail.edn", VALID.replace(":ok", ":fail"));
    let ended = scene.run(&["check", "--checker", "stats", "fail.edn"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("unknown"), "{}", ended.stderr);
}

#[test]
fn a_history_may_come_from_standard_input() {
    let scene = Scene::new();
    let arguments = [&CHECK[..], &["-"]].concat();
    assert_eq!(scene.run_with_input(&arguments, VALID.as_bytes()).code, Some(0));
    assert_eq!(scene.run_with_input(&arguments, invalid().as_bytes()).code, Some(1));
    assert_eq!(scene.run_with_input(&arguments, b"").code, Some(254));
}

#[test]
fn keys_are_checked_apart_when_asked() {
    let scene = Scene::new();
    // Key 1 is written, key 2 read as never written: valid apart, and nonsense as one register.
    let keyed = VALID.replace(":write, :value 1", ":write, :value [1 1]");
    let keyed = keyed.replace(":read, :value nil", ":read, :value [2 nil]");
    let keyed = keyed.replace(":read, :value 1", ":read, :value [2 nil]");
    scene.write("keyed.edn", keyed);
    let apart = scene.run(&[&CHECK[..], &["--independent", "keyed.edn"]].concat());
    assert_eq!(apart.code, Some(0), "{apart:?}");
    let option = ["--option", "independent=true", "keyed.edn"];
    assert_eq!(scene.run(&[&CHECK[..], &option].concat()).code, Some(0));
}

#[test]
fn exports_read_back_as_the_same_history() {
    let scene = Scene::new();
    scene.write("h.edn", VALID);
    let edn = scene.run(&["export", "h.edn", "--format", "edn"]);
    assert_eq!(edn.code, Some(0), "{edn:?}");
    assert_eq!(edn.stdout.lines().count(), 4);
    let jsonl = scene.run(&["export", "h.edn", "--format", "jsonl", "-o", "h.jsonl"]);
    assert_eq!((jsonl.code, jsonl.stdout.as_str()), (Some(0), ""), "{jsonl:?}");
    let back = scene.run(&["export", "h.jsonl", "--format", "edn"]);
    assert_eq!(back.stdout, edn.stdout);
    let nowhere = scene.run(&["export", "h.edn", "--format", "edn", "-o", "no/such/folder.edn"]);
    assert_eq!(nowhere.code, Some(254));
    assert!(nowhere.stderr.contains("no/such/folder.edn"), "{}", nowhere.stderr);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let scene = Scene::new();
    // Enough lines that a pipe cannot hold them.
    let lines: String =
        (0..20_000).map(|i| VALID.replace("process ", &format!("process {i}"))).collect();
    scene.write("long.edn", lines);
    let mut child = Command::new(env!("CARGO_BIN_EXE_fuzz_dist"))
        .args(["export", "long.edn", "--format", "edn"])
        .current_dir(scene.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_full_disk_is_an_error() {
    let scene = Scene::new();
    scene.write("h.edn", VALID);
    let status = Command::new(env!("CARGO_BIN_EXE_fuzz_dist"))
        .args(["export", "h.edn", "--format", "edn"])
        .current_dir(scene.path(""))
        .stdout(std::fs::File::options().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(254));
}

#[test]
fn help_and_version_are_no_errors() {
    let scene = Scene::new();
    for arguments in [&["--help"][..], &["run", "--help"], &["help", "check"], &["--version"]] {
        let ended = scene.run(arguments);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!ended.stdout.is_empty() && ended.stderr.is_empty(), "{ended:?}");
    }
    let help = scene.run(&["--help"]).stdout;
    assert!(help.contains("254") && !help.contains("guard"), "{help}");
}

#[test]
fn the_list_names_every_checker_with_its_options() {
    let scene = Scene::new();
    let listed = scene.run(&["check", "--list"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let object = one_object(&scene.run(&["check", "--list", "--json"]).stdout);
    let checkers = object["checkers"].as_array().unwrap();
    assert!(checkers.iter().any(|checker| checker["name"] == "linearizable"), "{object}");
    for checker in checkers {
        let name = checker["name"].as_str().unwrap();
        assert!(listed.stdout.lines().any(|line| line == name), "{name}");
        for option in checker["options"].as_array().unwrap() {
            assert!(listed.stdout.contains(option["name"].as_str().unwrap()), "{option}");
        }
    }
}

#[test]
fn a_seed_gives_one_schedule() {
    let scene = Scene::new();
    scene.write("t.toml", SPEC);
    let schedule = |seed: &str| scene.run(&["schedule", "t.toml", "--seed", seed, "--json"]);
    let first = schedule("7");
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(first.stdout, schedule("7").stdout);
    assert_ne!(first.stdout, schedule("8").stdout);
    let object = one_object(&first.stdout);
    assert_eq!((&object["seed"], &object["truncated"]), (&7.into(), &false.into()));
    let records = object["records"].as_array().unwrap();
    assert!(records.len() > 300, "5 s at 50 a second are about 500 records: {}", records.len());
    assert!(!object["schedule"]["faults"].as_array().unwrap().is_empty());

    let cut = one_object(
        &scene.run(&["schedule", "t.toml", "--seed", "7", "--json", "--limit", "9"]).stdout,
    );
    assert_eq!(cut["truncated"], true);
    assert_eq!(cut["records"].as_array().unwrap()[..], records[..9]);
    let people = scene.run(&["schedule", "t.toml", "--seed", "7", "--limit", "9"]);
    assert_eq!(people.stdout.lines().count(), 9);
}

#[test]
fn printed_faults_can_be_given_back() {
    let scene = Scene::new();
    scene.write("t.toml", SPEC);
    let faults = scene.run(&["schedule", "t.toml", "--seed", "7", "--faults-only"]).stdout;
    scene.write("faults.json", &faults);
    scene.write(
        "with.toml",
        SPEC.replace("[[nemesis", "[nemesis]\nschedule = \"faults.json\"\n[[nemesis"),
    );
    let again = scene.run(&["schedule", "with.toml", "--seed", "99", "--faults-only"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(one_object(&again.stdout), one_object(&faults));
}

#[test]
fn flags_replace_what_the_spec_says() {
    let scene = Scene::new();
    scene.write("t.toml", SPEC);
    let nodes = |arguments: &[&str]| {
        let all = [&["schedule", "t.toml", "--seed", "1", "--faults-only"], arguments].concat();
        one_object(&scene.run(&all).stdout)["nodes"].clone()
    };
    assert_eq!(nodes(&[]), serde_json::json!(["n1", "n2", "n3"]));
    assert_eq!(nodes(&["--nodes", "2"]), serde_json::json!(["n1", "n2"]));
    assert_eq!(nodes(&["--nodes", "x,y"]), serde_json::json!(["x", "y"]));
}

#[test]
fn profiles_replace_the_faults_of_a_spec() {
    let scene = Scene::new();
    // With the kernel's own tick time of a minute a partition around it would fill most of the test.
    let spec = SPEC.replace("time_limit_s = 5", "time_limit_s = 600");
    scene.write("t.toml", format!("{spec}[cluster]\nnet_ticktime_s = 4\n"));
    let folder = common::root().join("config/nemesis");
    for entry in std::fs::read_dir(folder).unwrap() {
        let profile = entry.unwrap().path();
        let profile = profile.to_str().unwrap();
        let arguments =
            ["schedule", "t.toml", "--seed", "1", "--faults-only", "--nemesis", profile];
        let ended = scene.run(&arguments);
        assert_eq!(ended.code, Some(0), "{profile}: {ended:?}");
        let faults = one_object(&ended.stdout)["faults"].as_array().unwrap().len();
        assert!(faults > 10, "{profile} gives {faults} faults in ten minutes");
    }
    scene.write("p.toml", "[nemesis]\n[[nemesis.faults]]\nkind = \"hold\"\nport = \"x\"\n");
    let ended = scene.run(&["schedule", "t.toml", "--nemesis", "p.toml"]);
    common::assert_refused(&ended, &["nemesis.faults[0].port", "unknown port `x`"]);
}

#[test]
fn the_doctor_finds_the_client_library_as_runs_do() {
    let of = |value: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fuzz_dist"));
        command.args(["doctor", "--json"]);
        match value {
            Some(value) => command.env("FUZZ_DIST_EBIN", value),
            None => command.env_remove("FUZZ_DIST_EBIN"),
        };
        let object = one_object(&common::finish(&mut command, b"").stdout);
        let mut findings = object["findings"].as_array().unwrap().clone().into_iter();
        findings.find(|finding| finding["name"] == "client library").unwrap()
    };
    // A variable that is empty is not set.
    assert_eq!(of(Some("")), of(None));
    let wrong = of(Some("/nowhere"));
    assert_eq!(wrong["ok"], false);
    assert!(wrong["found"].as_str().unwrap().contains("does not contain"), "{wrong}");
}

#[test]
fn the_doctor_tries_what_it_tells() {
    let scene = Scene::new();
    let ended = scene.run(&["doctor", "--json"]);
    let object = one_object(&ended.stdout);
    let findings = object["findings"].as_array().unwrap();
    let finding = |name: &str| findings.iter().find(|finding| finding["name"] == name).unwrap();
    assert_eq!(finding("loopback")["ok"], true);
    let ready =
        findings.iter().all(|finding| finding["ok"] == true || finding["required"] == false);
    assert_eq!(object["ok"], ready);
    assert_eq!(ended.code, Some(if ready { 0 } else { 254 }));

    let mut bare = Command::new(env!("CARGO_BIN_EXE_fuzz_dist"));
    bare.args(["doctor"]).env("PATH", scene.path("")).env("FUZZ_DIST_EBIN", scene.path(""));
    let ended = common::finish(&mut bare, b"");
    assert_eq!(ended.code, Some(254), "{ended:?}");
    for part in ["no `erl` in PATH", "bin/setup", "FUZZ_DIST_EBIN", "not ready"] {
        assert!(ended.stdout.contains(part), "{part} in {}", ended.stdout);
    }
}
