//! Nodes that end by themselves, with and without the watchdog (`cluster.restart_crashed`).

use fuzz_dist_core::{Op, OpType};

use super::stage::{Run, Stage, int, text};

const COMMAND: &str =
    "test -e doomed && exit 7; exec elixir --no-halt --erl -noinput -e ':fuzz_dist_boot.start()'";

fn stage(restart_crashed: bool, time_limit_s: u32, operations: &str) -> Stage {
    let stage = Stage::set(&["crashing/crashing.ex"]);
    stage.spec(&format!(
        r#"
name = "crashes"
nodes = 3
concurrency = 3
time_limit_s = {time_limit_s}
op_timeout_ms = 1000
warm_up_s = 0.5
recovery_s = 2.0
checkers = [{{ name = "stats" }}]

[cluster]
command = ["sh", "-c", "{COMMAND}"]
code_paths = ["code"]
restart_crashed = {restart_crashed}
net_ticktime_s = 4
ready_timeout_ms = 60000

[client]
module = "Crashing"

[workload]
generator = [
{operations}
  {{ stagger = [0.1, {{ f = "echo", value = 1 }}] }},
]

[nemesis]
packages = "none"
"#
    ));
    stage
}

fn of<'a>(run: &'a Run, f: &str, node: &str) -> Vec<&'a Op> {
    let all = run.records("observer", f).into_iter();
    all.filter(|op| op.node.is_some_and(|of| of.as_str() == node)).collect()
}

/// What the results say of the run beside the verdict.
fn notes(run: &Run) -> String {
    run.results["run"]["notes"].to_string()
}

#[test]
fn the_watchdog_starts_what_crashed_leaves_what_a_fault_holds_down_and_gives_up_in_the_end() {
    let operations =
        r#"  { once = { f = "halt", value = "n2" } }, { once = { f = "doom", value = "n3" } },"#;
    let stage = stage(true, 16, operations);
    let run = stage.run(Some(
        r#"{"version": 1, "seed": 1, "nodes": ["n1", "n2", "n3"], "faults": [{"id": 1, "kind": "kill",
            "target": {"named": ["n1"]}, "start_ns": 1000000000, "duration_ns": 4000000000}]}"#,
    ));
    let said = &run.ended.stderr;

    // It ended by itself, and is there again, also for operations.
    let [restarted] = of(&run, "node-restarted", "n2")[..] else { panic!("{said}") };
    let exited = of(&run, "node-exited", "n2")[0];
    assert_eq!((int(&exited.value, "status"), int(&restarted.value, "crashes")), (3, 1));
    assert_eq!(text(&restarted.value, "reason"), "exit status 3");
    let waited_ms = (restarted.time_ns - exited.time_ns) / 1_000_000;
    assert!(waited_ms >= 500 && int(&restarted.value, "waited-ms") == 500, "{waited_ms} ms");
    let mut later = run.history.client_pairs().filter(|(invoke, completion)| {
        invoke.time_ns > restarted.time_ns
            && invoke.node.is_some_and(|node| node.as_str() == "n2")
            && completion.is_some_and(|op| op.op_type == OpType::Ok)
    });
    assert!(later.next().is_some(), "{said}");

    // The fault has it: nobody starts it before the heal.
    assert!(of(&run, "node-restarted", "n1").is_empty(), "{said}");
    let healed_ns = run.records("nemesis", "fault-healed")[0].time_ns;
    let killed_ns = run.records("nemesis", "fault-applied")[0].time_ns;
    let starts = of(&run, "node-started", "n1");
    let while_killed = |op: &&&Op| (killed_ns + 1..healed_ns - 100_000_000).contains(&op.time_ns);
    assert_eq!(starts.iter().filter(while_killed).count(), 0, "{starts:?}");
    assert_eq!(starts.len(), 2, "{starts:?}");

    // It cannot live: each restart waits longer, and there is an end of them.
    let restarts = of(&run, "node-restarted", "n3");
    let waited: Vec<i64> = restarts.iter().map(|op| int(&op.value, "waited-ms")).collect();
    assert_eq!(waited, [500, 1_000, 2_000, 4_000], "{said}");
    let [given_up] = of(&run, "node-given-up", "n3")[..] else { panic!("{said}") };
    assert_eq!(
        (int(&given_up.value, "crashes"), text(&given_up.value, "reason")),
        (5, "exit status 7")
    );
    assert!(said.contains("n3 ends by itself again and again (exit status 7)"), "{said}");
    let told = notes(&run);
    assert!(told.contains("n2 ended by itself at"), "{told}");
    assert!(told.contains("given up after 4 restarts in a row"), "{told}");
    assert!(!told.contains("n1 ended by itself"), "{told}");
    // A node that is down for good has stopped working, whatever it had acknowledged.
    run.assert_verdict("invalid");
}

#[test]
fn without_the_watchdog_a_crash_is_reported_and_the_node_stays_down() {
    let run = stage(false, 5, r#"  { once = { f = "halt", value = "n2" } },"#).run(None);
    assert!(run.records("observer", "node-restarted").is_empty());
    let exited = of(&run, "node-exited", "n2")[0];
    let heal_ns = run.phase_ns("heal");
    let starts = of(&run, "node-started", "n2");
    let between = |op: &&&Op| (exited.time_ns..heal_ns).contains(&op.time_ns);
    assert_eq!(starts.iter().filter(between).count(), 0, "{starts:?}");
    let told = notes(&run);
    let crash =
        "(exit status 3); with cluster.restart_crashed = true it would have been started again";
    assert!(told.contains("n2 ended by itself at") && told.contains(crash), "{told}");
    assert!(run.ended.stderr.contains("n2 ended by itself"), "{}", run.ended.stderr);
}
