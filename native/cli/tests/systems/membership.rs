//! Members that leave and come back, on real nodes, also beside kills and restarts: plain distributed Erlang and Mnesia.
//! RabbitMQ's are in `test/e2e/long_rabbitmq_membership.sh`.

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

/// One leaves; while it is away another is killed, and when it is to come back a third is restarted. Which of them are
/// the same node is for the seed to say, and changes nothing: in the end everybody belongs to the cluster.
const BESIDE_KILLS: &str = r#"{"version": 1, "seed": 5, "nodes": ["n1", "n2", "n3"], "faults": [
  {"id": 1, "kind": "leave", "target": "one", "start_ns": 500000000, "duration_ns": 4500000000},
  {"id": 2, "kind": "kill", "target": {"named": ["n1"]}, "start_ns": 3000000000, "duration_ns": 1500000000},
  {"id": 3, "kind": "restart", "target": {"named": ["n2"]}, "start_ns": 5200000000, "duration_ns": 500000000}]}"#;

fn assert_all_come_back(run: &Run) {
    // Not when it is seen: the one that is killed may be the last to agree.
    let (_, missing) = chosen(run);
    assert_eq!(missing, "[]", "{}", run.ended.stderr);
    for fault in run.faults().iter().filter(|fault| fault["kind"] != "leave") {
        assert_eq!(fault["status"], "observed", "{fault:#}\n{}", run.ended.stderr);
    }
    assert_eq!(run.faults().len(), 3, "{}", run.ended.stderr);
}

#[test]
fn distributed_erlang_is_whole_again_after_kills_and_restarts_beside_a_change() {
    assert_all_come_back(&registers("FuzzDist.Membership.Erlang", 9, BESIDE_KILLS));
}

#[test]
fn mnesia_is_whole_again_after_kills_and_restarts_beside_a_change() {
    assert_all_come_back(&registers("FuzzDist.Membership.Mnesia", 9, BESIDE_KILLS));
}

/// Only who is down can be forgotten, and only that leaves a majority up: the state machine has no choice.
#[test]
fn mnesia_forgets_a_node_that_was_killed_and_takes_it_back_when_it_runs() {
    let run = registers(
        "FuzzDist.Membership.Mnesia",
        9,
        r#"{"version": 1, "seed": 7, "nodes": ["n1", "n2", "n3"], "faults": [
  {"id": 1, "kind": "kill", "target": {"named": ["n3"]}, "start_ns": 500000000, "duration_ns": 5500000000},
  {"id": 2, "kind": "forget", "target": "one", "start_ns": 2500000000, "duration_ns": 3000000000}]}"#,
    );
    run.assert_faults_observed(2);
    let applied = run.records("nemesis", "fault-applied");
    let forgotten = applied.iter().find(|op| text(&op.value, "kind") == "forget");
    assert_eq!(text(&forgotten.unwrap().value, "node"), "n3");
    let last = run.records("observer", "membership");
    assert_eq!(last[0].value.get("missing").unwrap().to_string(), "[]", "{}", run.ended.stderr);
}
