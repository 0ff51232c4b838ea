//! Nodes in network namespaces: every fault of packets in one run, the same partitions by the kernel and by the link
//! plane with what differs, and that nothing is left behind. Needs root, `ip`, `nft` and `tc`; without them each test
//! says so and does nothing.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use fuzz_dist_core::Op;
use fuzz_dist_nemesis::net::probe;
use nix::sys::signal::Signal;

use super::common::live::{self, CLEAN_MAX, Cast, Live, Play, client_library, wait_until};
use super::common::{assert_refused, finish, root};
use super::stage::{Run, Stage, int, text};

const SPEC: &str = include_str!("../../../../test/systems/gossip_set/namespaces.toml");

const SCHEDULE: &str = include_str!("../../../../test/systems/gossip_set/namespaces.json");

fn is_possible() -> bool {
    let probe = probe();
    let reason = [&probe.drop, &probe.reset, &probe.rate].into_iter().flatten().next();
    if let Some(reason) = reason {
        println!("skipped: {reason}");
    }
    reason.is_none()
}

fn stage(spec: &str) -> Stage {
    let stage = Stage::set(&["gossip_set/gossip_set.ex"]);
    stage.scene.write("namespaces.json", SCHEDULE);
    stage.spec(spec);
    stage
}

/// The record of this kind that a fault has.
fn of<'a>(run: &'a Run, f: &str, id: i64) -> &'a Op {
    let all = run.records("nemesis", f);
    let found = all.into_iter().find(|op| int(&op.value, "id") == id);
    found.unwrap_or_else(|| panic!("no {f} of {id}\n{}", run.ended.stderr))
}

#[test]
fn every_fault_of_packets_is_seen_and_seen_healed_and_a_gossiping_set_loses_nothing() {
    if !is_possible() {
        return;
    }
    let run = stage(SPEC).run(None);
    run.assert_verdict("valid");
    let has_netem = probe().netem.is_none();
    for fault in run.faults() {
        let expected =
            if fault["kind"] == "netem" && !has_netem { "unavailable" } else { "observed" };
        assert_eq!(fault["status"], expected, "{fault:#}\n{}", run.ended.stderr);
        let seen_healed = fault["heal_observed_ns"].is_u64();
        assert_eq!(seen_healed, expected == "observed", "{fault:#}\n{}", run.ended.stderr);
    }
    for (id, unit) in [
        (1, "dropped packets of 2 of 2 links"),
        (2, "dropped packets of 1 of 1 links"),
        (3, "waits for tokens"),
        (4, "packets answered with a reset"),
        (5, "packets dropped to TCP port 4369"),
    ] {
        let effect = text(&of(&run, "fault-observed", id).value, "effect");
        assert!(effect.contains(unit), "{id}: {effect}");
    }
    if !has_netem {
        let reason = text(&of(&run, "fault-unavailable", 6).value, "reason");
        assert!(reason.contains("the kernel has no sch_netem"), "{reason}");
    }
    // A reset is heard at once, by both ends; a short cut by nobody.
    let rejected = of(&run, "fault-applied", 4).time_ns;
    let (first, reason) =
        first_down(&run, ["n1", "n2"], rejected, rejected + 3_000_000_000).unwrap();
    assert_eq!(reason, "connection_closed");
    println!("after the rejection a node was down in {} ms", (first - rejected) / 1_000_000);
    let cut = of(&run, "fault-applied", 1).time_ns;
    assert_eq!(first_down(&run, ["n1", "n2"], cut, cut + 2_000_000_000), None);
}

/// When, in a span of time, the first end of a link saw the other down, and why.
fn first_down(run: &Run, [node, peer]: [&str; 2], from: i64, to: i64) -> Option<(i64, String)> {
    let downs = run.sightings("nodedown").into_iter();
    let mut fitting = downs.filter(|op| {
        let ends = [op.node.unwrap().as_str(), text(&op.value, "peer")];
        (ends == [node, peer] || ends == [peer, node]) && (from..to).contains(&op.time_ns)
    });
    fitting.next().map(|op| (op.time_ns, text(&op.value, "reason").to_owned()))
}

/// When one node saw the other down for the first time from then on, and why.
fn down(run: &Run, node: &str, peer: &str, from: i64) -> (i64, String) {
    let downs = run.sightings("nodedown").into_iter();
    let mut fitting = downs.filter(|op| {
        [op.node.unwrap().as_str(), text(&op.value, "peer")] == [node, peer] && op.time_ns >= from
    });
    let op = fitting.next();
    let op = op.unwrap_or_else(|| panic!("{node} never saw {peer} down\n{}", run.ended.stderr));
    (op.time_ns, text(&op.value, "reason").to_owned())
}

/// What a plane made of the same partitions.
#[derive(Debug)]
struct Made {
    /// From the heal of a cut of a second to bytes that pass both ways.
    lag_ms: i64,
    /// From a one-way cut to the deaf end's `nodedown`, and from there to that of the other end.
    deaf_ms: i64,
    other_ms: i64,
    other_reason: String,
}

/// The same for every plane: a short cut that no node notices, a long one that both ends notice by their ticks, and a
/// long one of one direction, which the end that hears nothing notices so.
fn partition(network: &str, kind: &str) -> Made {
    let spec = SPEC
        .replace("network = \"namespaces\"", &format!("network = \"{network}\""))
        .replace("schedule = \"namespaces.json\"", "")
        .replace("time_limit_s = 16", "time_limit_s = 27");
    let (both, one) = (r#"[["n1", "n2"], ["n2", "n1"]]"#, r#"[["n1", "n2"]]"#);
    let fault = |id: u32, links: &str, start_ms: u32, duration_ms: u32| {
        format!(
            r#"{{"id": {id}, "kind": "{kind}", "target": {{"links": {links}}},
                "start_ns": {start_ms}000000, "duration_ns": {duration_ms}000000}}"#
        )
    };
    let faults =
        [fault(1, both, 1_000, 1_000), fault(2, both, 4_500, 6_500), fault(3, one, 16_000, 8_000)];
    let schedule = format!(
        r#"{{"version": 1, "seed": 1, "nodes": ["n1", "n2", "n3"], "faults": [{}]}}"#,
        faults.join(",")
    );
    let run = stage(&spec).run(Some(&schedule));
    run.assert_verdict("valid");
    run.assert_faults_observed(3);

    let at = |f: &str, id| of(&run, f, id).time_ns;
    let short = (at("fault-applied", 1), at("fault-applied", 2));
    assert_eq!(first_down(&run, ["n1", "n2"], short.0, short.1), None, "a second is too short");
    // Whoever hears nothing: after T - 2T/I at the earliest, after T + T/I at the latest.
    let cut = at("fault-applied", 2);
    let mut ends = [down(&run, "n1", "n2", cut), down(&run, "n2", "n1", cut)];
    ends.sort();
    assert_eq!(ends[0].1, "net_tick_timeout", "{ends:?}");
    assert_eq!(ends[1].1, "net_tick_timeout", "no close passes a cut of both ways: {ends:?}");
    for (down, _) in &ends {
        assert!((2_000..6_500).contains(&ms(cut, *down)), "{ends:?} after {cut}");
    }
    let one_way = at("fault-applied", 3);
    let (deaf, reason) = down(&run, "n2", "n1", one_way);
    assert_eq!(reason, "net_tick_timeout");
    let (other, other_reason) = down(&run, "n1", "n2", one_way);
    let made = Made {
        lag_ms: ms(at("fault-healed", 1), at("fault-heal-observed", 1)),
        deaf_ms: ms(one_way, deaf),
        other_ms: ms(deaf, other),
        other_reason,
    };
    println!("{kind}: {made:?}");
    assert!((2_000..6_500).contains(&made.deaf_ms), "{made:?}");
    made
}

fn ms(from: i64, to: i64) -> i64 {
    (to - from) / 1_000_000
}

#[test]
fn the_same_partitions_by_the_kernel_and_by_the_link_plane_differ_where_tcp_does() {
    if !is_possible() {
        return;
    }
    let (kernel, link) = std::thread::scope(|scope| {
        let kernel = scope.spawn(|| partition("namespaces", "net-drop"));
        let link = partition("loopback", "hold");
        (kernel.join().unwrap(), link)
    });
    // TCP has backed off: of what is lost from the beginning on, it sends again after 0.2, 0.6 and 1.4 s, and the cut
    // was healed after one. The proxy sends what it has held.
    assert!(kernel.lag_ms >= 100, "{kernel:?}");
    assert!(link.lag_ms < kernel.lag_ms, "{link:?} {kernel:?}");
    // The deaf end closes its connection, and through the proxy the close passes the open direction. For a kernel no
    // direction is open by itself: what is never acknowledged is sent again and nothing after it, so that the other end
    // hears no more ticks and no close either.
    assert_eq!(link.other_reason, "connection_closed", "{link:?}");
    assert!(link.other_ms.abs() < 1_000, "{link:?}");
    assert_eq!(kernel.other_reason, "net_tick_timeout", "{kernel:?}");
}

#[test]
fn packages_draw_what_the_network_of_the_spec_can_have() {
    if !is_possible() {
        return;
    }
    let spec = SPEC.replace("schedule = \"namespaces.json\"", "").replace("= 16", "= 200");
    let stage = stage(&spec);
    let drawn = |spec: &str| -> BTreeSet<String> {
        stage.spec(spec);
        let arguments = ["schedule", "t.toml", "--faults-only", "--nemesis", "partition,packet"];
        let ended = stage.fuzz_dist(&arguments);
        let schedule: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let faults = schedule["faults"].as_array().unwrap();
        faults.iter().map(|fault| fault["kind"].as_str().unwrap().to_owned()).collect()
    };
    let kernel = drawn(&spec);
    assert!(kernel.contains("net-drop") && kernel.contains("net-reject"), "{kernel:?}");
    assert!(kernel.iter().all(|kind| kind.starts_with("net")), "{kernel:?}");
    let link = drawn(&spec.replace("network = \"namespaces\"", ""));
    assert!(link.contains("hold") && !link.iter().any(|kind| kind.starts_with("net")), "{link:?}");
}

const STAYING: &str = r#"
defmodule Staying do
  @behaviour FuzzDist.Client

  @impl true
  def open(_node, _context), do: {:ok, nil}

  @impl true
  def invoke({_f, value}, _state, _context), do: {:ok, value}

  @impl true
  def close(_state, _context), do: :ok
end
"#;

const STAYING_SPEC: &str = r#"
concurrency = 2
time_limit_s = 600
rate = 20.0
warm_up_s = 0.0
checkers = [{ name = "stats" }]

[workload]
generator = { f = "write", value = { unique = 0 } }
"#;

/// A drop, a rate and a reset that outlast any run of these tests.
const STAYING_SCHEDULE: &str = r#"{
  "version": 1, "seed": 7, "nodes": ["n1", "n2"],
  "faults": [
    {"id": 1, "kind": "net-drop", "one_way": true, "target": {"named": ["n1"]},
     "start_ns": 300000000, "duration_ns": 600000000000},
    {"id": 2, "kind": "net-rate", "bytes_per_s": 1000, "target": "all",
     "start_ns": 400000000, "duration_ns": 600000000000},
    {"id": 3, "kind": "net-reject", "tcp_port": 1, "target": "all",
     "start_ns": 500000000, "duration_ns": 600000000000}
  ]
}"#;

/// Interfaces, namespaces and tables with this in their names.
fn named(tag: &str) -> Vec<String> {
    let commands =
        [&["ip", "-o", "link"][..], &["ip", "netns", "list"], &["nft", "list", "tables"]];
    let mut found = Vec::new();
    for command in commands {
        let ended = finish(Command::new(command[0]).args(&command[1..]), b"");
        found.extend(ended.stdout.lines().filter(|l| l.contains(tag)).map(str::to_owned));
    }
    found
}

/// The namespaces that processes of a run are in: `fuzz_dist_TAG_n1`.
fn namespaces(cast: &Cast) -> BTreeSet<String> {
    let identify = |pid: i32| {
        let ended = finish(Command::new("ip").args(["netns", "identify", &pid.to_string()]), b"");
        ended.stdout.trim().to_owned()
    };
    cast.pids().map(identify).filter(|name| !name.is_empty()).collect()
}

fn start() -> Live {
    let play = Play {
        name: "staying",
        module: "Staying",
        source: STAYING,
        spec: STAYING_SPEC,
        schedule: Some(STAYING_SCHEDULE),
    };
    let stage = live::Stage::set(&play);
    let spec = std::fs::read_to_string(stage.path("spec.toml")).unwrap();
    let spec = spec.replace("[cluster]\n", "[cluster]\nnetwork = \"namespaces\"\n");
    std::fs::write(stage.path("spec.toml"), spec).unwrap();
    stage.run()
}

#[test]
fn nothing_is_left_whoever_is_killed_in_the_middle_or_interrupted() {
    if !is_possible() {
        return;
    }
    type Whom = fn(&Live, &Cast) -> i32;
    let ends: [(&str, Whom, Signal); 4] = [
        ("core", |live, _| live.core_pid(), Signal::SIGKILL),
        ("plane", |_, cast| cast.plane.pid, Signal::SIGKILL),
        ("guard", |_, cast| cast.guard.pid, Signal::SIGKILL),
        ("SIGINT", |live, _| live.core_pid(), Signal::SIGINT),
    ];
    for (way, whom, signal) in ends {
        let mut live = start();
        live.await_log(&["fault 1: net-drop", "fault 2: net-rate", "fault 3: net-reject"]);
        let cast = live.cast();
        let names = namespaces(&cast);
        assert_eq!(names.len(), 2, "{way}: {names:?}");
        let first = names.first().unwrap();
        let tag = first.strip_prefix("fuzz_dist_").unwrap().strip_suffix("_n1").unwrap();
        // Two namespaces, a bridge, two cables, a table for the bridge and one for the cables.
        assert_eq!(named(tag).len(), 7, "{way}: {:?}", named(tag));
        let began = Instant::now();
        live.kill(whom(&live, &cast), signal);
        let clean = live.until_clean(&cast, began);
        live.end();
        // A guard that is killed leaves the rest to the core, a core to the guard.
        wait_until(&format!("nothing of {tag}"), Duration::from_secs(30), || {
            named(tag).is_empty() || began.elapsed() > Duration::from_secs(20)
        });
        assert_eq!(named(tag), [""; 0], "{way}");
        println!("{way}: no process after {clean:?}, nothing after {:?}", began.elapsed());
        assert!(clean <= CLEAN_MAX, "{way}: {clean:?}");
        live.assert_nothing_left(&cast);
    }
}

/// The binary as somebody who is not root.
fn as_nobody(stage: &Stage, arguments: &[&str]) -> super::common::Ended {
    let folder = stage.scene.path(".");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fuzz_dist"));
    command.env("FUZZ_DIST_EBIN", client_library()).env("HOME", "/tmp").current_dir(folder);
    finish(command.uid(65_534).gid(65_534).args(arguments), b"")
}

#[test]
fn without_root_or_programs_it_is_said_before_anything_starts() {
    if !is_possible() {
        return;
    }
    let stage = stage(SPEC);
    let refused = as_nobody(&stage, &["run", "t.toml"]);
    assert_refused(&refused, &["cluster.network = \"namespaces\"", "needs root"]);
    let doctor = as_nobody(&stage, &["doctor", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&doctor.stdout).unwrap();
    let faults = told["faults"].as_array().unwrap();
    let net: Vec<_> = faults.iter().filter(|fault| fault["plane"] == "net").collect();
    assert_eq!(net.len(), 4);
    for fault in net {
        assert_eq!(fault["availability"], "unavailable", "{fault}");
        assert!(fault["reason"].as_str().unwrap().contains("needs root"), "{fault}");
    }

    // As root, with a PATH in which one program after the other is missing.
    let bin = stage.scene.path("bin");
    std::fs::create_dir(&bin).unwrap();
    for (missing, package, lost) in [
        ("ip", "iproute2", &["net-drop", "net-reject", "net-rate", "netem"][..]),
        ("nft", "nftables", &["net-drop", "net-reject", "net-rate", "netem"]),
        ("tc", "iproute2", &["net-rate", "netem"]),
    ] {
        for program in ["ip", "nft", "tc"] {
            let link = bin.join(program);
            let _ = std::fs::remove_file(&link);
            if program != missing {
                let found = finish(Command::new("which").arg(program), b"").stdout;
                std::os::unix::fs::symlink(found.trim(), link).unwrap();
            }
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_fuzz_dist"));
        let doctor = finish(command.env("PATH", &bin).args(["doctor", "--json"]), b"");
        let told: serde_json::Value = serde_json::from_str(&doctor.stdout).unwrap();
        for kind in ["net-drop", "net-reject", "net-rate"] {
            let mut faults = told["faults"].as_array().unwrap().iter();
            let fault = faults.find(|fault| fault["kind"] == kind).unwrap();
            let expected = if lost.contains(&kind) { "unavailable" } else { "real" };
            assert_eq!(fault["availability"], expected, "without {missing}: {fault}");
            if expected == "unavailable" {
                let reason = fault["reason"].as_str().unwrap();
                assert!(reason.contains(missing) && reason.contains(package), "{reason}");
            }
        }
    }
}

#[test]
fn a_spec_that_mixes_packets_and_proxies_is_refused() {
    let stage = stage(SPEC);
    let with = |fault: &str| {
        format!(
            "{}\n[[nemesis.faults]]\n{fault}\n",
            SPEC.replace("schedule = \"namespaces.json\"", "")
        )
    };
    let on_loopback = |fault: &str| with(fault).replace("network = \"namespaces\"", "");
    let mut cases = vec![
        (on_loopback("kind = \"net-drop\""), "set cluster.network = \"namespaces\""),
        (with("kind = \"net-drop\"\ntcp_port = 70000"), "70000: TCP ports are 1 to 65535"),
        (with("kind = \"net-drop\"\ntcp_port = -1"), "nemesis.faults[0].tcp_port"),
        (
            with("kind = \"net-drop\"\ntcp_port = 80\ndirection = \"up\""),
            "unknown direction `up`; known: both, to-port, from-port",
        ),
        (with("kind = \"net-rate\"\nbytes_per_s = -1"), "nemesis.faults[0].bytes_per_s"),
        (with("kind = \"net-drop\"\nport = \"amqp\""), "unknown port `amqp`"),
    ];
    if is_possible() {
        cases.push((with("kind = \"hold\""), "reach each other past the proxies"));
        cases.push((with("kind = \"hold\"\nplane = \"carrier\""), "abstract Unix socket"));
        cases.push((with("kind = \"epmd-late\""), "the real epmd"));
        cases.push((with("kind = \"restart\"\nhost = \"127.1\""), "its one address"));
    }
    for (spec, told) in cases {
        stage.spec(&spec);
        let ended = stage.fuzz_dist(&["run", "t.toml"]);
        assert_refused(&ended, &[told]);
        assert!(!stage.scene.path("store").exists(), "a run was begun");
    }
    assert!(root().join("test/systems/gossip_set/namespaces.toml").exists());
}
