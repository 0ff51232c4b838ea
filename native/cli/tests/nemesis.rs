//! `--nemesis` with packages, roles and profiles, and what `doctor` says of faults; all without a cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Scene, assert_refused, root};
use serde_json::Value as Json;

const SPEC: &str = r#"
nodes = 5
time_limit_s = 120
[roles]
storage = ["n4", "n5"]
[cluster]
net_ticktime_s = 4
[client]
module = "M"
[workload]
name = "register"
[[nemesis.faults]]
kind = "fin"
"#;

fn scene() -> Scene {
    let scene = Scene::new();
    scene.write("t.toml", SPEC);
    scene
}

fn drawn(scene: &Scene, nemesis: &str) -> Json {
    let arguments = ["schedule", "t.toml", "--seed", "1", "--faults-only", "--nemesis", nemesis];
    let ended = scene.run(&arguments);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

fn packages(schedule: &Json) -> Vec<&str> {
    let faults = schedule["faults"].as_array().unwrap().iter();
    let mut names: Vec<&str> = faults.map(|fault| fault["package"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn packages_replace_the_faults_of_the_spec_and_keep_to_their_roles() {
    let scene = scene();
    let schedule = drawn(&scene, "kill:storage, partition");
    assert_eq!(packages(&schedule), ["kill:storage", "partition"]);
    for fault in schedule["faults"].as_array().unwrap() {
        let nodes = fault["resolved"]["nodes"].as_array();
        let inside = |node: &Json| node == "n4" || node == "n5";
        if fault["package"] == "kill:storage" {
            // Primaries are known only when the fault starts.
            assert!(nodes.is_none_or(|nodes| nodes.iter().all(inside)), "{fault}");
        }
    }
    assert!(schedule["eras"].as_array().unwrap().len() > 2, "{schedule:#}");
    let all = drawn(&scene, "all");
    let names = packages(&all);
    assert!(["kill", "partition", "pause"].iter().all(|name| names.contains(name)), "{names:?}");
    assert_eq!(drawn(&scene, "none")["faults"], Json::Array(Vec::new()));
}

#[test]
fn a_spec_without_faults_gets_the_default_mix_and_is_told_how_to_choose() {
    let scene = Scene::new();
    let silent = SPEC.replace("[[nemesis.faults]]\nkind = \"fin\"\n", "");
    scene.write("t.toml", &silent);
    scene.write("none.toml", format!("{silent}[nemesis]\npackages = \"none\"\n"));
    scene.write("empty.toml", format!("{silent}[nemesis]\ninterval_s = 1.0\n"));
    let shown = |arguments: &[&str]| -> (Json, String) {
        let ended = scene
            .run(&[&["schedule", "--seed", "1", "--limit", "5", "--json"], arguments].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        (serde_json::from_str(&ended.stdout).unwrap(), ended.stderr)
    };
    for arguments in [&["t.toml"][..], &["empty.toml"], &["none.toml", "--nemesis", "default"]] {
        let (shown, said) = shown(arguments);
        let notice = shown["notes"][0].as_str().unwrap();
        assert!(notice.contains("mix of partition, packet, kill, pause, vm"), "{notice}");
        assert!(notice.contains("`none`: no faults") && said.contains(notice), "{said}");
        let found = packages(&shown["schedule"]);
        assert_eq!(found, ["kill", "packet", "partition", "pause", "vm"]);
        let eras = shown["schedule"]["eras"].as_array().unwrap();
        assert!(eras.iter().any(|era| era["packages"] == Json::Array(vec![])), "{eras:?}");
    }
    for arguments in [&["none.toml"][..], &["t.toml", "--nemesis", "none"]] {
        let (shown, said) = shown(arguments);
        assert_eq!(shown["schedule"]["faults"], Json::Array(vec![]), "{arguments:?}");
        assert!(!said.contains("by default"), "{said}");
    }
    // One node has no links, and little time no room for most faults.
    let (alone, _) = shown(&["t.toml", "--nodes", "n4,n5", "--time-limit", "1.9"]);
    assert_eq!(alone["schedule"]["eras"].as_array().unwrap().len(), 1);
    assert!(!alone["schedule"]["faults"].as_array().unwrap().is_empty());
    scene.write("one.toml", silent.replace("[roles]\nstorage = [\"n4\", \"n5\"]\n", ""));
    let (one, said) = shown(&["one.toml", "--nodes", "1"]);
    assert_eq!(packages(&one["schedule"]), ["kill", "pause", "vm"]);
    assert!(said.contains("`partition` needs more than 1 nodes"), "{said}");
}

#[test]
fn every_profile_that_is_shipped_can_be_drawn() {
    let scene = scene();
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("config/nemesis")).unwrap() {
        let path = entry.unwrap().path();
        let schedule = drawn(&scene, path.to_str().unwrap());
        assert!(!schedule["faults"].as_array().unwrap().is_empty(), "{path:?}");
        count += 1;
    }
    assert!(count >= 5);
}

#[test]
fn what_is_neither_package_nor_profile_is_told() {
    let scene = scene();
    let refused = |nemesis: &str, names: &[&str]| {
        let arguments = ["schedule", "t.toml", "--nemesis", nemesis];
        assert_refused(&scene.run(&arguments), names);
    };
    refused("kil", &["--nemesis", "`kil`", "did you mean `kill`?"]);
    refused("kill,partitoin", &["`partitoin`", "did you mean `partition`?"]);
    refused("kill:storag", &["unknown role `storag`", "did you mean `storage`?"]);
    refused("kill,kill", &["`kill` is named twice"]);
    refused("defautl", &["did you mean `default`?"]);
    refused("missing.toml", &["missing.toml", "no such file"]);
}

#[test]
fn doctor_tells_every_fault_of_every_plane() {
    let ended = Scene::new().run(&["doctor", "--json"]);
    let diagnosis: Json = serde_json::from_str(&ended.stdout).unwrap();
    let faults = diagnosis["faults"].as_array().unwrap();
    let of = |plane: &str, kind: &str| {
        let mut found = faults.iter().filter(|f| f["plane"] == plane && f["kind"] == kind);
        found.next().unwrap_or_else(|| panic!("no {kind} of {plane}")).clone()
    };
    assert_eq!(of("link", "hold")["availability"], "real");
    assert_eq!(of("process", "crash-dump")["availability"], "real");
    for fault in faults {
        let availability = fault["availability"].as_str().unwrap();
        assert!(["real", "emulated", "unavailable"].contains(&availability), "{fault}");
        let explained = fault["reason"].as_str().is_some_and(|reason| !reason.is_empty());
        assert_eq!(explained, availability != "real", "{fault}");
    }
    for plane in ["vm", "net", "clock", "disk", "membership", "carrier"] {
        assert!(faults.iter().any(|fault| fault["plane"] == plane), "{plane}");
    }
}
