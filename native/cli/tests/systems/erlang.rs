//! Systems of plain Erlang that know nothing of fuzz_dist: stock nodes, a client written in Erlang, and a TCP port
//! of the system's own.

use std::collections::HashMap;

use fuzz_dist_core::{OpType, Value};

use super::stage::{Run, Stage, text};

/// Registers behind stock `erl` nodes; clients are outside of what faults touch.
fn stock(time_limit_s: u32, schedule: Option<&str>) -> Run {
    let stage = Stage::set(&["stock_erlang/stock_register.erl"]);
    stage.compile(&["stock_erlang/stock_client.erl"], "client");
    stage.spec(&format!(
        r#"
name = "stock"
nodes = 2
concurrency = 4
rate = 100.0
time_limit_s = {time_limit_s}
op_timeout_ms = 4000
warm_up_s = 0.3
recovery_s = 3.0
placement = "client"

[cluster]
command = ["erl", "-noinput", "-s", "stock_register"]
code_paths = ["code"]
ready_timeout_ms = 60000

[client]
module = "stock_client"
code_paths = ["client"]

[workload]
name = "register"

[nemesis]
packages = "none"
"#
    ));
    stage.run(schedule)
}

/// What is said of the outcome of operations must be possible: the register is linearizable, whatever happens.
#[test]
fn stock_nodes_without_faults() {
    let run = stock(3, None);
    run.assert_verdict("valid");
    assert_eq!(run.results["run"]["placement"], "client");
    let outcomes = &run.results["summary"]["outcomes"];
    assert!(outcomes["ok"].as_u64().unwrap() >= 100, "{outcomes}");
    assert_eq!(outcomes["info"], 0, "{outcomes}");
    for node in ["n1", "n2"] {
        let up = run.records("observer", "agent-up");
        assert_eq!(up.iter().filter(|op| op.node.unwrap().as_str() == node).count(), 1);
        let done = run.history.client_pairs().filter(|(invoke, completion)| {
            invoke.node.unwrap().as_str() == node
                && completion.is_some_and(|op| op.op_type == OpType::Ok)
        });
        assert!(done.count() > 20, "{node}");
    }
}

#[test]
fn stock_nodes_paused_and_killed() {
    let run = stock(
        6,
        Some(
            r#"{"version": 1, "seed": 1, "nodes": ["n1", "n2"], "faults": [
  {"id": 1, "kind": "pause", "target": {"named": ["n1"]}, "start_ns": 500000000, "duration_ns": 1000000000},
  {"id": 2, "kind": "kill", "target": {"named": ["n1"]}, "start_ns": 2500000000, "duration_ns": 500000000},
  {"id": 3, "kind": "kill", "target": {"named": ["n2"]}, "start_ns": 3100000000, "duration_ns": 500000000}]}"#,
        ),
    );
    run.assert_verdict("valid");
    run.assert_faults_observed(3);
    let exited: Vec<&str> = run
        .records("observer", "node-exited")
        .iter()
        .filter(|op| op.time_ns < run.phase_ns("teardown"))
        .map(|op| op.node.unwrap().as_str())
        .collect();
    assert_eq!(exited, ["n1", "n2"]);
    // The agent was loaded anew into the nodes that were started again.
    let up = run.records("observer", "agent-up");
    for node in ["n1", "n2"] {
        assert_eq!(up.iter().filter(|op| op.node.unwrap().as_str() == node).count(), 2, "{node}");
    }
    // Nobody was answered by a node that stood still, and everybody is again.
    let (from, to) = window(&run, 1);
    let answered = |from: i64, to: i64| {
        let ok = run.history.client_ops().filter(|op| op.op_type == OpType::Ok);
        ok.filter(|op| (from..to).contains(&op.time_ns)).count()
    };
    // What was answered before the signal may still have to be recorded.
    assert_eq!(answered(from + 300_000_000, to), 0);
    let main_end = run.phase_ns("heal");
    assert!(answered(main_end - 1_000_000_000, main_end) > 0, "{}", run.ended.stderr);
}

/// From the application of a fault to its heal.
fn window(run: &Run, id: i64) -> (i64, i64) {
    let at = |f: &str| {
        let all = run.records("nemesis", f);
        let of_fault = |op: &&&fuzz_dist_core::Op| op.value.get("id") == Some(&Value::Int(id));
        all.iter().find(of_fault).unwrap_or_else(|| panic!("no {f} of {id}")).time_ns
    };
    (at("fault-applied"), at("fault-healed"))
}

#[test]
fn a_fault_on_a_port_of_the_system() {
    let stage = Stage::set(&["tcp_set/tcp_set.erl"]);
    stage.compile(&["tcp_set/tcp_set_client.erl"], "client");
    stage.spec(
        r#"
name = "tcp"
nodes = 2
concurrency = 4
rate = 100.0
time_limit_s = 5
warm_up_s = 0.5
recovery_s = 2.0
placement = "client"

[cluster]
command = ["erl", "-noinput", "-s", "tcp_set"]
env = { FUZZ_DIST_OWN_PORT = "{port:repl}" }
code_paths = ["code"]
ports = [{ name = "repl" }]
net_ticktime_s = 2
ready_timeout_ms = 60000

[client]
module = "tcp_set_client"
code_paths = ["client"]

[workload]
name = "set"
options = { read_interval_s = 0.1 }

[nemesis]
interval_s = 0.1

[[nemesis.faults]]
kind = "hold"
port = "repl"
targets = ["all"]
duration_ms = 3000
"#,
    );
    let run = stage.run(None);
    run.assert_verdict("valid");
    run.assert_faults_observed(1);
    assert_eq!(run.faults()[0]["port"], "repl");
    // Longer than the net tick and a quarter of it: with the distribution cut, nodes would have noticed.
    assert_eq!(run.sightings("nodedown"), Vec::<&fuzz_dist_core::Op>::new());
    assert_eq!(text(&run.records("nemesis", "fault-start")[0].value, "port"), "repl");
    assert_replication_stood_still(&run);
}

/// What was added on one node during the hold was not read on the other before its heal; afterwards it was.
fn assert_replication_stood_still(run: &Run) {
    let (from, to) = window(run, 1);
    let mut added: HashMap<i64, &str> = HashMap::new();
    for (invoke, completion) in run.history.client_pairs() {
        let during = invoke.time_ns > from && completion.is_some_and(|op| op.time_ns < to);
        if invoke.f.as_str() == "add" && during {
            added.insert(invoke.value.as_int().unwrap(), invoke.node.unwrap().as_str());
        }
    }
    assert!(added.len() > 20, "{} adds during the hold", added.len());
    let (mut before, mut after) = (0, 0);
    for (invoke, completion) in run.history.client_pairs() {
        let Some(completion) = completion.filter(|op| op.op_type == OpType::Ok) else { continue };
        if invoke.f.as_str() != "read" {
            continue;
        }
        let node = invoke.node.unwrap().as_str();
        let seen = completion.value.items().unwrap().iter().filter_map(Value::as_int);
        let foreign =
            seen.filter(|element| added.get(element).is_some_and(|on| *on != node)).count();
        if completion.time_ns < to {
            assert_eq!(foreign, 0, "{completion} on {node} passed the hold");
            before += usize::from(invoke.time_ns > from);
        } else {
            after += foreign;
        }
    }
    assert!(before > 0, "no read during the hold");
    assert!(after > 0, "nothing arrived after the hold");
}
