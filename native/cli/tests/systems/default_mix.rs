//! A spec that says nothing of faults: it gets a rotating mix, which is data from then on; and durations that are drawn
//! around what was mined from the code of the nodes.

use std::collections::BTreeSet;

use fuzz_dist_core::spec;
use serde_json::Value as Json;

use super::stage::{Run, Stage, text};

fn stage(module: &str, nemesis: &str, time_limit_s: u32) -> Stage {
    let file = module.to_lowercase();
    let stage = Stage::set(&[&format!("{file}/{file}.ex")]);
    stage.spec(&format!(
        r#"
name = "mix"
seed = 4
nodes = 3
concurrency = 3
rate = 30.0
time_limit_s = {time_limit_s}
op_timeout_ms = 1500
warm_up_s = 0.5
recovery_s = 20.0
checkers = [{{ name = "stats" }}]

[cluster]
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
net_ticktime_s = 2
ready_timeout_ms = 60000

[client]
module = "{module}"

[workload]
generator = {{ f = "echo", value = 1 }}

{nemesis}
"#
    ));
    stage
}

/// What was done when to whom, but for what is resolved only when a fault starts.
fn starts(run: &Run) -> Vec<String> {
    let all = run.records("nemesis", "fault-start");
    let fields = ["id", "kind", "package", "target", "start-ms", "duration-ms"];
    let fault = |op: &&fuzz_dist_core::Op| {
        fields.map(|field| format!("{:?}", op.value.get(field))).join(" ")
    };
    all.iter().map(fault).collect()
}

#[test]
fn who_says_nothing_of_faults_gets_a_mix_of_packages_in_eras_that_replays() {
    let stage = stage("Probe", "[nemesis]\ninterval_s = 0.5\nera_s = 4.0\n", 10);
    let run = stage.run(None);
    let said = &run.ended.stderr;
    let notice = "faults are the default: a rotating mix of partition, packet, kill, pause, vm";
    assert!(said.contains(notice), "{said}");
    assert!(run.results["run"]["notes"].to_string().contains(notice), "{}", run.results["run"]);
    let eras = run.records("nemesis", "era");
    assert!(eras.len() >= 2, "{eras:?}");
    let observed = run.faults().iter().filter(|fault| fault["status"] == "observed");
    let packages: BTreeSet<&str> =
        observed.map(|fault| fault["package"].as_str().unwrap()).collect();
    assert!(packages.len() >= 2, "{packages:?}\n{said}");
    let started = run.records("nemesis", "fault-start");
    assert!(started.iter().all(|op| packages_of(&eras).contains(text(&op.value, "package"))));

    // What was chosen for it stands in its spec, and so there is nothing to choose when it runs again.
    let stored = spec::load(&run.folder.join("spec.toml")).unwrap().spec;
    assert_eq!(stored.nemesis.packages(), ["partition", "packet", "kill", "pause", "vm"]);
    let drawn = stage.fuzz_dist(&[
        "schedule",
        run.folder.join("spec.toml").to_str().unwrap(),
        "--faults-only",
    ]);
    let drawn: Json = serde_json::from_str(&drawn.stdout).unwrap();
    assert_eq!(drawn["faults"], run.schedule()["faults"]);
    let id = run.folder.file_name().unwrap().to_str().unwrap().to_owned();
    let again = stage.read(stage.fuzz_dist(&["replay", &format!("mix/{id}")]));
    assert_eq!(again.schedule(), run.schedule());
    assert_eq!(starts(&again), starts(&run));
    assert!(!again.ended.stderr.contains("by default"), "{}", again.ended.stderr);
}

fn packages_of(eras: &[&fuzz_dist_core::Op]) -> BTreeSet<String> {
    let lists = eras.iter().filter_map(|era| era.value.get("packages")?.items());
    lists.flatten().filter_map(|name| name.as_text().map(str::to_owned)).collect()
}

#[test]
fn durations_are_drawn_around_what_the_code_of_the_nodes_has() {
    let nemesis = r#"
[nemesis]
interval_s = 0.3
boundaries = "mined"

[[nemesis.faults]]
kind = "pause"
boundary = "mined"
"#;
    let stage = stage("Impatient", nemesis, 8);
    let run = stage.run(None);
    run.assert_faults_observed(2);
    let schedule = run.schedule();
    let edges = schedule["boundaries"].as_array().unwrap();
    let mined = edges.iter().find(|edge| edge["name"] == "mined-700").unwrap();
    assert!(mined["source"].as_str().unwrap().contains("Impatient"), "{mined}");
    let mut zones = BTreeSet::new();
    for fault in schedule["faults"].as_array().unwrap() {
        assert_eq!(fault["boundary"]["name"], "mined-700", "{fault:#}");
        let zone = fault["boundary"]["zone"].as_str().unwrap();
        let ms = fault["duration_ns"].as_f64().unwrap() / 1e6;
        let fits = match zone {
            "certainly-below" => ms <= 600.0,
            "inside" => (600.0..=800.0).contains(&ms),
            _ => (800.0..=1_600.0).contains(&ms),
        };
        assert!(fits, "{ms} ms is not {zone} of 700 ms");
        zones.insert(zone.to_owned());
    }
    assert!(zones.len() >= 2, "{zones:?}");
}
