//! What Elixir makes of a test's options is what the core takes: every key of a spec is known there, and a test that
//! uses them gives a spec that can be drawn.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::live::client_library;
use common::{Scene, finish};
use fuzz_dist_core::fault::Plane;
use fuzz_dist_core::spec::keys::{self, Key};
use serde_json::Value as Json;

/// What this Elixir prints.
fn elixir(code: &str) -> String {
    let mut command = Command::new("elixir");
    let ended = finish(command.arg("-pa").arg(client_library()).args(["-e", code]), b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout
}

#[test]
fn elixir_knows_every_key_of_the_core_and_no_other() {
    let printed = elixir(
        "for {place, keys} <- FuzzDist.Spec.known(), key <- keys, do: IO.puts(\"#{place} #{key}\")",
    );
    let known = |place: &str| -> BTreeSet<&str> {
        printed.lines().filter_map(|line| line.strip_prefix(place)?.strip_prefix(' ')).collect()
    };
    let of = |keys: &[Key]| -> BTreeSet<&str> { keys.iter().map(|key| key.name).collect() };
    for (place, keys) in [
        ("cluster", keys::CLUSTER),
        ("client", keys::CLIENT),
        ("nemesis", keys::NEMESIS),
        ("fault", keys::FAULT),
        ("after", keys::AFTER),
        ("checker", keys::CHECKER),
    ] {
        assert_eq!(known(place), of(keys), "{place}");
    }
    // Elixir has the options of a workload and its client beside them, where the core has tables.
    let mut top = known("spec");
    for own in ["client_options", "workload_options", "generator", "final_generator"] {
        assert!(top.remove(own), "{own}");
    }
    assert_eq!(top, of(keys::SPEC));
    let kinds = Plane::ALL.iter().flat_map(|plane| plane.kinds());
    let parameters: BTreeSet<&str> = kinds.flat_map(|kind| kind.keys).map(|key| key.name).collect();
    let plain: BTreeSet<&str> = parameters.difference(&of(keys::FAULT)).copied().collect();
    assert_eq!(known("parameters"), plain);
}

const OPTIONS: &str = r#"
[
  workload: :register, nodes: 5, time_limit_s: 60, roles: [api: ["n1", "n2"], storage: ["n3", "n4"]],
  cluster: [net_ticktime_s: 4, restart_crashed: true, ports: [:repl], carrier: [:n1, :n2]],
  nemesis: [
    era_s: 5.0, interval_s: 1.0, capture: false, membership: FuzzDist.Membership.Mnesia,
    boundaries: [lease: 1500], packages: [:kill, {:pause, :storage}, {:partition, {:api, :storage}}],
    faults: [
      :rst,
      [kind: :hold, scope: {:api, :storage}, pattern: :flap, boundary: :lease, zones: :inside],
      [kind: :delay, latency_ms: 5, distribution: :pareto, targets: [{:links, [n1: :n2]}], port: :repl, duration_ms: 500],
      [kind: :restart, cookie: :other, optional: true, weight: 2],
      [kind: :kill_process, process: {:child, [My.Supervisor, My.Child]}],
      [kind: :exit_process, process: [global: :leader], reason: :shutdown],
      [kind: :suspend, process: {:resolver, [:ra_leader, :queue]}, targets: {:named, [:n3]}],
      [kind: :load_module, module: My.Module, file: "second/my.beam", optional: true],
      [kind: :disk_lose_unsynced, files: "@ra-wal", lost: :rename_barrier, optional: true],
      [kind: :clock_jump, offset_ms: -5000, optional: true],
      [kind: :close, plane: :carrier, optional: true],
      [kind: :kill, after: [event: :nodedown, of: :n2, seen_by: :n1, delay_ms: 100]],
      [kind: :kill, after: [event: :fault_healed, of: :hold]],
      [kind: :kill, after: [event: :telemetry, of: [:my_app, :won]]],
      [kind: :kill, after: [event: :elected, process: {:global, :leader}]]
    ]
  ]
]
"#;

#[test]
fn the_core_takes_what_elixir_makes_of_a_test() {
    let scene = Scene::new();
    let toml = elixir(&format!(
        "IO.puts(FuzzDist.Spec.to_toml(FuzzDist.Spec.build!(MyApp.RegisterTest, {OPTIONS})))"
    ));
    scene.write("t.toml", &toml);
    let drawn = scene.run(&["schedule", "t.toml", "--seed", "1", "--faults-only"]);
    assert_eq!(drawn.code, Some(0), "{drawn:?}\n{toml}");
    let schedule: Json = serde_json::from_str(&drawn.stdout).unwrap();
    let faults = schedule["faults"].as_array().unwrap();
    let packages: BTreeSet<&str> = faults.iter().filter_map(|f| f["package"].as_str()).collect();
    assert!(packages.contains("pause:storage") && packages.contains("faults"), "{packages:?}");
    let waiting: BTreeSet<String> =
        faults.iter().filter_map(|f| f.get("after")).map(Json::to_string).collect();
    let wanted = [
        r#"{"delay_ms":100,"event":"nodedown","of":"n2","seen_by":"n1"}"#,
        r#"{"delay_ms":0,"event":"fault-healed","of":"hold"}"#,
        r#"{"delay_ms":0,"event":"telemetry","of":"my_app.won"}"#,
        r#"{"delay_ms":0,"event":"elected","process":{"global":":leader"}}"#,
    ];
    for one in wanted {
        assert!(waiting.contains(one), "{one}: {waiting:?}");
    }
    assert_eq!(waiting.len(), wanted.len());
}

/// Options that say nothing, in every place where an empty keyword list can stand.
const SAYING_NOTHING: &[&str] = &[
    "",
    "nemesis: []",
    "nemesis: [boundaries: []]",
    "nemesis: [faults: []]",
    "nemesis: [packages: []]",
    "nemesis: :none",
    "roles: []",
    "cluster: []",
    "cluster: [env: []]",
    "cluster: [env: %{}, ports: [], code_paths: []]",
    "client: []",
    "client: [options: []]",
    "client_options: []",
    "workload_options: []",
    "checkers: [[name: :linearizable, options: []]]",
];

#[test]
fn a_test_that_leaves_everything_to_the_defaults_is_a_spec() {
    let scene = Scene::new();
    for (index, options) in SAYING_NOTHING.iter().enumerate() {
        let built = format!("[workload: :register, {options}]").replace(", ]", "]");
        let toml = elixir(&format!(
            "IO.puts(FuzzDist.Spec.to_toml(FuzzDist.Spec.build!(MyApp.RegisterTest, {built})))"
        ));
        let file = format!("{index}.toml");
        scene.write(&file, &toml);
        let drawn = scene.run(&["schedule", &file, "--seed", "1", "--limit", "3"]);
        assert_eq!(drawn.code, Some(0), "{options}: {drawn:?}\n{toml}");
    }
}

#[test]
fn what_is_switched_off_is_written() {
    let toml = elixir(
        "IO.puts(FuzzDist.Spec.to_toml(FuzzDist.Spec.build!(MyApp.RegisterTest, [workload: :register, \
         cluster: [connect: false], nemesis: [capture: false, interval_s: 3], recovery_check: false])))",
    );
    for line in ["connect = false", "capture = false", "recovery_check = false"] {
        assert!(toml.contains(line), "{line}: {toml}");
    }
}

#[test]
fn options_of_checkers_may_be_written_with_underscores() {
    let toml = elixir(
        "IO.puts(FuzzDist.Spec.to_toml(FuzzDist.Spec.build!(MyApp.QueueTest, [generator: %{f: :get}, \
         checkers: [[name: :delivery, options: [auto_ack: true]]]])))",
    );
    assert!(toml.contains("auto-ack = true"), "{toml}");
}
