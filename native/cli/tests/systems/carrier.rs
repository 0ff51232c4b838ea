//! Stock nodes whose distribution the port driver carries: every fault of the carrier plane is applied, seen, healed
//! and seen healed, in nodes that know nothing of fuzz_dist but this driver.

use fuzz_dist_core::Op;

use super::common::root;
use super::stage::{Run, Stage, int, text};

const SPEC: &str = include_str!("../../../../test/systems/stock_erlang/carrier.toml");

/// With stock nodes, and what the spec names.
fn stage(spec: &str) -> Stage {
    let stage = Stage::set(&["stock_erlang/stock_register.erl"]);
    stage.compile(&["stock_erlang/stock_client.erl"], "client");
    let schedule = root().join("test/systems/stock_erlang/carrier.json");
    stage.scene.write("carrier.json", std::fs::read(schedule).unwrap());
    stage.spec(spec);
    stage
}

/// Records of one fault.
fn of_fault<'a>(run: &'a Run, f: &str, id: i64) -> Vec<&'a Op> {
    let records = run.records("nemesis", f).into_iter();
    records.filter(|op| int(&op.value, "id") == id).collect()
}

fn the<'a>(run: &'a Run, f: &str, id: i64) -> &'a Op {
    let all = of_fault(run, f, id);
    assert_eq!(all.len(), 1, "{f} of {id}: {all:?}\n{}", run.ended.stderr);
    all[0]
}

/// What links of a run show when they come and go: `n1 n2` and when.
fn between(run: &Run, f: &str, ends: [&str; 2], from_ns: i64, to_ns: i64) -> usize {
    let sightings = run.sightings(f).into_iter();
    let concerned = sightings.filter(|op| {
        let (node, peer) = (op.node.unwrap(), text(&op.value, "peer"));
        let pair = [node.as_str(), peer];
        (pair == ends || pair == [ends[1], ends[0]]) && (from_ns..to_ns).contains(&op.time_ns)
    });
    concerned.count()
}

#[test]
fn every_fault_of_the_carrier_is_seen_and_healed() {
    let stage = stage(SPEC);
    let run = stage.run(None);
    run.assert_verdict("valid");
    run.assert_faults_observed(13);
    let effects: Vec<(i64, &str)> = run
        .records("nemesis", "fault-observed")
        .iter()
        .map(|op| (int(&op.value, "id"), text(&op.value, "effect")))
        .collect();
    for (id, unit) in [
        (1, "late frames"),
        (2, "waits for the rate"),
        (3, "lost frames"),
        (4, "frames and connects that wait"),
        (5, "suppressed ticks"),
        (6, "forged ticks"),
        (7, "times that senders had to wait"),
        (8, "refused connects"),
        (9, "closed connections"),
        (10, "frames and connects that wait"),
    ] {
        assert!(effects.iter().any(|(of, text)| *of == id && text.contains(unit)), "{effects:?}");
    }
    // Handed over ahead of its time, a fault is hardly late.
    let mut late_us: Vec<i64> = run
        .records("nemesis", "fault-applied")
        .iter()
        .filter(|op| int(&op.value, "id") <= 12)
        .map(|op| int(&op.value, "late-us"))
        .collect();
    late_us.sort_unstable();
    assert!(late_us[0] >= 0 && late_us[late_us.len() / 2] < 20_000, "{late_us:?}");
    println!("applied after their time, in µs: {late_us:?}");

    // n2 was killed and started again under a hold that still held when it was back.
    let (hold, healed) = (the(&run, "fault-applied", 12), the(&run, "fault-healed", 12));
    let ready = run.records("observer", "node-ready");
    let back = ready.iter().find(|op| {
        op.node.unwrap().as_str() == "n2" && (hold.time_ns..healed.time_ns).contains(&op.time_ns)
    });
    let back = back.unwrap_or_else(|| panic!("n2 came back too late\n{}", run.ended.stderr));
    assert_eq!(between(&run, "nodeup", ["n1", "n2"], back.time_ns, healed.time_ns), 0);
    assert!(between(&run, "nodeup", ["n1", "n2"], healed.time_ns, i64::MAX) > 0);
    // Whoever closed it, both ends of the connection noticed.
    let closed = the(&run, "fault-applied", 9).time_ns;
    assert!(between(&run, "nodedown", ["n1", "n2"], closed, closed + 1_000_000_000) > 0);
    // Nothing of ours but the module of the carrier is in the nodes.
    for node in ["n1", "n2", "n3"] {
        let folder = run.folder.join("nodes").join(node).join("carrier");
        let names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["fuzz_dist.beam"]);
    }
}

#[test]
fn in_a_mixed_cluster_one_end_of_a_link_is_enough() {
    let spec = SPEC
        .replace("schedule = \"carrier.json\"\n", "")
        .replace("time_limit_s = 23", "time_limit_s = 5")
        .replace("[cluster]\n", "[cluster]\ncarrier = [\"n1\"]\n");
    let fault = |id: u32, kind: &str, links: &str, start_ms: u64| {
        format!(
            r#"{{"id": {id}, "kind": "{kind}", "plane": "carrier", "target": {{"links": {links}}},
                "start_ns": {start_ms}000000, "duration_ns": 1200000000}}"#
        )
    };
    let faults = [
        fault(1, "hold", r#"[["n2", "n1"]]"#, 500),
        fault(2, "hold", r#"[["n1", "n3"], ["n3", "n1"]]"#, 2000),
        fault(3, "hold", r#"[["n1", "n2"], ["n2", "n3"]]"#, 3500),
        fault(4, "busy-port", r#"[["n2", "n1"]]"#, 3600),
    ];
    let schedule = format!(
        r#"{{"version": 1, "seed": 1, "nodes": ["n1", "n2", "n3"], "faults": [{}]}}"#,
        faults.join(",")
    );
    let stage = stage(&spec);
    let run = stage.run(Some(&schedule));
    assert!(run.folder.join("nodes/n1/carrier").exists());
    assert!(!run.folder.join("nodes/n2/carrier").exists());
    for id in [1, 2] {
        the(&run, "fault-observed", id);
        the(&run, "fault-heal-observed", id);
    }
    let reason = |id| text(&the(&run, "fault-failed", id).value, "reason");
    assert!(
        reason(3).starts_with(
            "the link from n2 to n3: neither node has the carrier (cluster.carrier has n1)"
        ),
        "{}",
        reason(3)
    );
    assert!(reason(4).contains("n2 does not have the carrier"), "{}", reason(4));
    // Nothing is left of what was refused: calls from n2 to n1 were answered all the time afterwards.
    assert_eq!(of_fault(&run, "fault-applied", 3).len(), 0);
    let failed_ns = the(&run, "fault-failed", 3).time_ns;
    let answered = run.history.client_pairs().filter(|(invoke, completion)| {
        invoke.node.unwrap().as_str() == "n2"
            && invoke.time_ns > failed_ns
            && completion.is_some_and(|op| op.op_type == fuzz_dist_core::OpType::Ok)
    });
    assert!(answered.count() > 5, "{}", run.ended.stderr);
}

#[test]
fn without_its_library_a_run_stops_before_it_starts() {
    let stage = stage(SPEC);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fuzz_dist"));
    command
        .env("FUZZ_DIST_EBIN", super::common::live::client_library())
        .env("FUZZ_DIST_CARRIER_LIBRARY", "/nowhere/libfuzz_dist_driver.so")
        .current_dir(stage.scene.path("."));
    let ended = super::common::finish(command.args(["run", "t.toml"]), b"");
    super::common::assert_refused(
        &ended,
        &[
            "`delay` of the carrier plane is not available",
            "FUZZ_DIST_CARRIER_LIBRARY names /nowhere/libfuzz_dist_driver.so, which is not a file",
        ],
    );
    assert!(!stage.scene.path("store").exists());
}
