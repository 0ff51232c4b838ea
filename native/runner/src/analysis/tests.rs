//! Verdicts of runs that were torn, interrupted, or whose files cannot be written.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use fuzz_dist_core::clock::RunClock;
use fuzz_dist_core::history_file::Writer;
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::{ClientSpec, WorkloadSpec};
use fuzz_dist_core::{OpType, Process, Sym, Value};
use tempfile::TempDir;

use super::*;
use crate::recorder::map;
use crate::stop::StopReason;

#[test]
fn the_replay_command_can_be_pasted() {
    let command = |folder| replay_command("fuzz_dist", Path::new(folder));
    assert_eq!(command("store/t/1"), "fuzz_dist replay store/t/1");
    assert_eq!(command("my store/t/1"), "fuzz_dist replay 'my store/t/1'");
}

/// Adds a record: who, how, the function, its value, the node.
type Push<'a> = dyn FnMut(Process, OpType, &str, Value, Option<&str>) + 'a;

/// What a run of the workload `set` on two nodes records, in which n2 answers in the end or not.
fn records(n2_answers: bool) -> Vec<Op> {
    let mut ops = Vec::new();
    let mut now_ms = 0;
    let mut push = |process: Process, op_type, f: &str, value: Value, node: Option<&str>| {
        let mut op = Op::new(now_ms * 1_000_000, process, op_type, Sym::new(f), value);
        op.node = node.map(Sym::new);
        if op_type == OpType::Info && process.client().is_some() {
            op.error = Value::sym("timeout");
        }
        now_ms += 100;
        ops.push(op);
    };
    let phase = |name: &str| map([("name", Value::sym(name))]);
    let (observer, nemesis) = (Process::observer(), Process::nemesis());
    let list = |from: i64, to: i64| Value::list((from..to).map(Value::Int).collect::<Vec<_>>());
    push(observer, OpType::Info, "phase", phase("setup"), None);
    push(observer, OpType::Info, "phase", phase("main"), None);
    for n in 0..10 {
        let (process, node) = (Process::Client(n % 2), ["n1", "n2"][(n % 2) as usize]);
        push(process, OpType::Invoke, "add", Value::Int(n), Some(node));
        push(process, OpType::Ok, "add", Value::Int(n), Some(node));
        push(process, OpType::Invoke, "read", Value::Nil, Some(node));
        push(process, OpType::Ok, "read", list(0, n + 1), Some(node));
    }
    for f in ["fault-start", "fault-applied", "fault-observed", "fault-healed"] {
        let value = map([("id", Value::Int(1)), ("kind", Value::sym("hold"))]);
        push(nemesis, OpType::Info, f, value, None);
    }
    for name in ["heal", "recovery"] {
        push(observer, OpType::Info, "phase", phase(name), None);
    }
    let mut process = 2;
    let mut asks = |push: &mut Push<'_>, last: bool| {
        for node in ["n1", "n2"] {
            let answers = node == "n1" || n2_answers;
            for _ in 0..if answers { 1 } else { 60 } {
                for f in ["add", "read"].into_iter().filter(|f| !last || *f == "read") {
                    process += 1;
                    let client = Process::Client(process);
                    let value = if f == "add" { Value::Int(100) } else { Value::Nil };
                    push(client, OpType::Invoke, f, value.clone(), Some(node));
                    let full: Vec<Value> = (0..10).chain([100]).map(Value::Int).collect();
                    let result = if f == "add" { value } else { Value::list(full) };
                    let end = if answers { OpType::Ok } else { OpType::Info };
                    push(client, end, f, result, Some(node));
                }
            }
        }
    };
    asks(&mut push, false);
    push(observer, OpType::Info, "phase", phase("final"), None);
    asks(&mut push, true);
    push(observer, OpType::Info, "phase", phase("teardown"), None);
    ops
}

/// Writes a run, each record committed alone; its folder and where each record ends in the file.
fn write_run(ops: Vec<Op>) -> (TempDir, Vec<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let files = RunDir::at(folder.path());
    let client = ClientSpec { module: "Test".into(), ..ClientSpec::default() };
    let spec = Spec {
        name: "torn".into(),
        client,
        workload: WorkloadSpec { name: "set".into(), ..WorkloadSpec::default() },
        ..Spec::default()
    };
    let spec_toml = fuzz_dist_core::spec::to_toml(&spec);
    std::fs::write(files.spec(), &spec_toml).unwrap();
    let header = Header {
        run: "r".into(),
        test: spec.name,
        seed: Seed(1),
        clock: RunClock::start(),
        spec: spec_toml,
    };
    let mut writer = Writer::create(files.history(), &header).unwrap();
    let mut ends = Vec::new();
    for mut op in ops {
        writer.append(&mut op).unwrap();
        writer.commit().unwrap();
        ends.push(std::fs::metadata(files.history()).unwrap().len());
    }
    (folder, ends)
}

fn verdict_of(folder: &TempDir) -> CheckResult {
    Stored::read(folder.path()).unwrap().check(None, &Stop::default()).unwrap()
}

#[test]
fn a_run_that_was_killed_at_any_moment_is_never_valid() {
    let (folder, ends) = write_run(records(true));
    let whole = verdict_of(&folder);
    assert_eq!(whole.verdict, Verdict::Valid, "{}", whole.reason);
    let history = RunDir::at(folder.path()).history();
    let bytes = std::fs::read(&history).unwrap();
    // A prime step goes all over the file.
    let between = (0..160u64).map(|n| ends[0] + n * 7_919 % (bytes.len() as u64 - ends[0]));
    let (last, mut torn) = (ends[ends.len() - 2], 0);
    for end in ends.iter().rev().skip(1).copied().take(40).chain(between) {
        std::fs::write(&history, &bytes[..end as usize]).unwrap();
        let result = verdict_of(&folder);
        // The last record says that the teardown began.
        assert_eq!(result.verdict, Verdict::Unknown, "{end} of {}: {}", bytes.len(), result.reason);
        assert!(result.parts.iter().any(|part| part.checker == "completeness"), "at {end}");
        torn += u64::from(end < last && !ends.contains(&end));
    }
    assert!(torn > 50, "cuts within records were tried: {torn}");
    std::fs::write(&history, [&bytes[..], &[7, 7, 7]].concat()).unwrap();
    let result = verdict_of(&folder);
    assert_eq!(result.verdict, Verdict::Unknown, "a torn end: {}", result.reason);
}

#[test]
fn what_a_killed_run_proves_stays_proved() {
    let mut ops = records(true);
    // The last final read lacks what was acknowledged.
    let read = ops.iter().rposition(|op| op.f == "read" && op.op_type == OpType::Ok).unwrap();
    ops[read].value = Value::list(vec![Value::Int(1)]);
    ops.truncate(read + 1);
    let (folder, _) = write_run(ops);
    let result = verdict_of(&folder);
    assert_eq!(result.verdict, Verdict::Invalid, "{}", result.reason);
    assert!(result.reason.contains("lost"), "{}", result.reason);
}

#[test]
fn a_node_that_never_answers_again_is_invalid_in_every_run() {
    let (folder, _) = write_run(records(false));
    let result = verdict_of(&folder);
    assert_eq!(result.verdict, Verdict::Invalid, "{}", result.reason);
    assert!(result.reason.contains("n2 never answered again"), "{}", result.reason);
    let spec = RunDir::at(folder.path()).spec();
    let text = std::fs::read_to_string(&spec).unwrap();
    std::fs::write(&spec, text.replace("recovery_check = true", "recovery_check = false")).unwrap();
    let result = verdict_of(&folder);
    assert_eq!(result.verdict, Verdict::Unknown, "its final read: {}", result.reason);
    assert!(result.reason.contains("n2"), "{}", result.reason);
}

#[test]
fn a_heal_that_failed_leaves_a_verdict_that_is_no_pass() {
    let mut ops = records(true);
    let healed = ops.iter().position(|op| op.f == "fault-healed").unwrap();
    ops[healed].f = Sym::new("fault-heal-failed");
    let (folder, _) = write_run(ops);
    let result = verdict_of(&folder);
    assert_eq!(result.verdict, Verdict::Unknown, "{}", result.reason);
}

#[test]
fn files_that_cannot_be_written_cost_no_verdict() {
    let (folder, _) = write_run(records(true));
    // A folder that is not empty stands where each file would be.
    for name in ["history.edn", "results.json", "report.html", "junit.xml"] {
        std::fs::create_dir_all(folder.path().join(name).join("in the way")).unwrap();
    }
    let stored = Stored::read(folder.path()).unwrap();
    let result = stored.check(None, &Stop::default()).unwrap();
    let outcome = stored.outcome(result, Live::default(), true);
    assert_eq!(outcome.verdict, Verdict::Valid);
    assert_eq!(outcome.report, None);
    assert_eq!(outcome.warnings.len(), 4, "{:?}", outcome.warnings);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(folder.path().join("rate.svg").exists(), "others are written all the same");
}

#[test]
fn a_signal_during_the_analysis_is_unknown_and_one_before_it_is_told_by_the_history() {
    let stop = Stop::default();
    assert!(interrupted_analysis(false, &stop).is_none());
    stop.ask(StopReason::Interrupted("interrupted by SIGINT".into()));
    assert!(stop.flag().load(std::sync::atomic::Ordering::Acquire), "checkers see it");
    let guard = interrupted_analysis(false, &stop).unwrap();
    assert_eq!(guard.verdict, Verdict::Unknown);
    assert!(guard.reason.starts_with("interrupted by SIGINT"), "{}", guard.reason);
    assert!(interrupted_analysis(true, &stop).is_none());
}
