//! Members that leave and come back, on real nodes: plain distributed Erlang, and Mnesia beside a kill.

use super::stage::{Run, Stage, text};

/// Registers in Mnesia on three nodes, with a schedule.
fn registers(membership: &str, time_limit_s: u32, schedule: &str) -> Run {
    let stage = Stage::set(&["mnesia_register/mnesia_register.ex"]);
    stage.spec(&format!(
        r#"
name = "membership"
nodes = 3
concurrency = 3
rate = 30.0
time_limit_s = {time_limit_s}
warm_up_s = 0.5
recovery_s = 5.0

[cluster]
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
net_ticktime_s = 8
ready_timeout_ms = 60000

[client]
module = "MnesiaRegister"

[workload]
name = "register"

[nemesis]
membership = "{membership}"
"#
    ));
    stage.run(Some(schedule))
}

/// The node that the state machine chose, and whom the plane left out in the end.
fn chosen(run: &Run) -> (String, String) {
    let applied = run.records("nemesis", "fault-applied");
    let value = &applied.first().unwrap_or_else(|| panic!("{}", run.ended.stderr)).value;
    let last = run.records("observer", "membership");
    let missing = last.first().and_then(|op| op.value.get("missing")).unwrap().to_string();
    (text(value, "node").to_owned(), missing)
}

#[test]
fn a_node_leaves_distributed_erlang_and_connects_again() {
    let run = registers(
        "FuzzDist.Membership.Erlang",
        8,
        r#"{"version": 1, "seed": 1, "nodes": ["n1", "n2", "n3"], "faults": [
  {"id": 1, "kind": "leave", "target": "one", "start_ns": 500000000, "duration_ns": 4000000000}]}"#,
    );
    run.assert_faults_observed(1);
    let (node, missing) = chosen(&run);
    assert_eq!(missing, "[]", "{}", run.ended.stderr);
    // Nobody was cut off: it was the nodes that let go.
    let downs = run.sightings("nodedown");
    let of_node = downs.iter().filter(|op| text(&op.value, "peer") == node);
    assert!(of_node.count() >= 2, "{downs:?}");
}

#[test]
fn a_node_leaves_mnesia_and_joins_again() {
    let run = registers(
        "FuzzDist.Membership.Mnesia",
        8,
        r#"{"version": 1, "seed": 3, "nodes": ["n1", "n2", "n3"], "faults": [
  {"id": 1, "kind": "leave", "target": "one", "start_ns": 500000000, "duration_ns": 4000000000}]}"#,
    );
    run.assert_faults_observed(1);
    assert_eq!(chosen(&run).1, "[]", "{}", run.ended.stderr);
}
