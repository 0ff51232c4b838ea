//! Workloads, their options and final operations; whole runs simulated.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Run, SECOND, Trace};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::{Concurrency, FaultSpec, Nodes, Spec, WorkloadSpec};
use fuzz_dist_core::{OpType, Process, Value};
use fuzz_dist_schedule::workload::{self, NAMES, Setting};
use fuzz_dist_schedule::{Env, Interpreter, Plan, SimulateOptions, compile, simulate};
use serde_json::{Value as Json, json};

fn spec_of(name: &str, options: Json) -> WorkloadSpec {
    let Json::Object(options) = options else { panic!("options are an object") };
    let options = options.into_iter().collect();
    WorkloadSpec { name: name.into(), options, ..WorkloadSpec::default() }
}

fn setting(threads: u32, nodes: usize) -> Setting {
    let nodes = (1..=nodes).map(|i| format!("n{i}")).collect();
    Setting { threads, nodes, time_limit_s: 20.0, rate: None }
}

fn build(name: &str, options: Json, setting: &Setting) -> Plan {
    workload::build(&spec_of(name, options), setting).unwrap_or_else(|e| panic!("{e}"))
}

fn play(expr: &fuzz_dist_schedule::Expr, setting: &Setting, ops_max: usize) -> Trace {
    let env = Env::new(setting.threads, &setting.nodes, Seed(3));
    let generator = compile(expr, &env).unwrap();
    Run { threads: setting.threads, ops_max, ..Run::default() }
        .drive(Interpreter::new(generator, setting.threads))
}

#[test]
fn every_workload_lasts_for_the_main_phase_and_no_longer() {
    for name in NAMES {
        let setting = setting(6, 3);
        let trace = play(&build(name, json!({}), &setting).generator, &setting, usize::MAX);
        let done_ns = trace.done_ns.expect("ends");
        assert!((20 * SECOND..21 * SECOND).contains(&done_ns), "{name} ends at {done_ns} ns");
        let last_ns = trace.ops.last().unwrap().time_ns;
        assert!(last_ns > 19 * SECOND, "{name}: nothing after {last_ns} ns");
        let threads: BTreeSet<u32> = trace.ops.iter().map(|op| op.thread).collect();
        assert_eq!(threads.len(), 6, "{name}: all threads are used");
    }
}

#[test]
fn every_workload_keeps_to_a_given_rate() {
    for name in NAMES {
        let setting = Setting { rate: Some(100.0), ..setting(6, 3) };
        // `registry` may use up the operations of its names.
        let options = if name == "registry" { json!({"ops_per_name": 100_000}) } else { json!({}) };
        let trace = play(&build(name, options, &setting).generator, &setting, usize::MAX);
        assert!(
            (1_700..2_300).contains(&trace.ops.len()),
            "{name}: {} operations",
            trace.ops.len()
        );
    }
}

#[test]
fn final_operations_reach_every_node_and_carry_their_mark() {
    for (threads, nodes) in [(3, 3), (6, 3), (10, 5), (7, 4)] {
        for name in ["set", "or_set", "pn_counter", "registry"] {
            let setting = setting(threads, nodes);
            let plan = build(name, json!({}), &setting);
            let trace = play(&plan.final_generator.expect("has one"), &setting, usize::MAX);
            assert!(trace.done_ns.is_some());
            let mut by_node: BTreeMap<u32, BTreeSet<Value>> = BTreeMap::new();
            for op in &trace.ops {
                let marked = op.extra.as_ref().is_some_and(|extra| {
                    extra.iter().any(|(k, v)| *k == "final?" && *v == Value::Bool(true))
                });
                assert!(marked, "{name}: {op:?}");
                let key = op.value.key_and_value().map(|(key, _)| key.clone()).unwrap_or_default();
                by_node.entry(op.thread % nodes as u32).or_default().insert(key);
            }
            assert_eq!(by_node.len(), nodes, "{name}: {threads} threads, {nodes} nodes");
            let keys: BTreeSet<&BTreeSet<Value>> = by_node.values().collect();
            assert_eq!(keys.len(), 1, "{name}: every node is asked for the same keys");
        }
    }
}

#[test]
fn a_final_read_is_tried_until_it_is_ok_or_its_time_is_up() {
    let setting = setting(3, 3);
    let plan = build("set", json!({}), &setting);
    let generator =
        compile(&plan.final_generator.unwrap(), &Env::new(3, &setting.nodes, Seed(3))).unwrap();
    let dead = Run {
        threads: 3,
        ops_max: usize::MAX,
        answer: |at, op| {
            let ok = op.thread == 0 || (op.thread == 1 && at > 20);
            (1_000_000, if ok { OpType::Ok } else { OpType::Fail })
        },
        ..Run::default()
    };
    let trace = dead.drive(Interpreter::new(generator, 3));
    let of = |thread: u32| trace.ops.iter().filter(|op| op.thread == thread).count();
    assert_eq!(of(0), 1);
    assert!((2..20).contains(&of(1)), "{} tries", of(1));
    assert!((95..=101).contains(&of(2)), "{} tries in 10 s, 0.1 s apart", of(2));
    assert!(trace.done_ns.unwrap() <= 11 * SECOND);
}

#[test]
fn final_operations_of_the_registry_name_what_the_main_phase_used() {
    let setting = setting(6, 3);
    let plan = build("registry", json!({}), &setting);
    let keys = |trace: &Trace| -> BTreeSet<Value> {
        trace.ops.iter().map(|op| op.value.key_and_value().unwrap().0.clone()).collect()
    };
    let used = keys(&play(&plan.generator, &setting, usize::MAX));
    let asked = keys(&play(&plan.final_generator.unwrap(), &setting, usize::MAX));
    assert_eq!(used.len(), 20, "two groups of three threads, a name each 2 s");
    assert_eq!(used, asked);
}

#[test]
fn a_given_number_of_register_keys_shares_the_main_phase() {
    let setting = setting(6, 3);
    let trace =
        play(&build("register", json!({"keys": 5}), &setting).generator, &setting, usize::MAX);
    let mut spans: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for op in &trace.ops {
        let key = op.value.key_and_value().unwrap().0.as_int().unwrap();
        let span = spans.entry(key).or_insert((op.time_ns, op.time_ns));
        span.1 = op.time_ns;
    }
    assert_eq!(spans.len(), 5);
    assert!(spans.values().all(|(from, to)| to - from > 6 * SECOND), "{spans:?}");
}

#[test]
fn unique_writes_are_unique_and_without_cas() {
    let setting = setting(4, 2);
    let plan = build("register", json!({"unique_writes": true}), &setting);
    let trace = play(&plan.generator, &setting, 10_000);
    let written: Vec<&Value> = trace
        .ops
        .iter()
        .filter(|op| op.f == "write")
        .map(|op| op.value.key_and_value().unwrap().1)
        .collect();
    assert_eq!(written.iter().collect::<BTreeSet<_>>().len(), written.len());
    assert_eq!(trace.count("cas"), 0);
    assert_eq!(plan.checkers[0].options["model"], "register");
}

#[test]
fn amounts_of_counters_are_unique_and_growing_ones_never_fall() {
    let setting = setting(6, 3);
    let plan = build("pn_counter", json!({}), &setting);
    let trace = play(&plan.generator, &setting, usize::MAX);
    let mut amounts: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for op in trace.ops.iter().filter(|op| op.f != "read") {
        let (key, amount) = op.value.key_and_value().unwrap();
        amounts.entry(key.as_int().unwrap()).or_default().push(amount.as_int().unwrap());
        assert!(op.f == "increment" || key.as_int() != Some(0), "counter 0 grows");
    }
    assert_eq!(amounts.len(), 3);
    for (key, amounts) in amounts.iter().filter(|(key, _)| **key == 0) {
        assert_eq!(amounts.iter().collect::<BTreeSet<_>>().len(), amounts.len(), "counter {key}");
        assert!(amounts.iter().all(|amount| *amount > 10_000));
    }
}

#[test]
fn bad_options_name_themselves() {
    let setting = setting(4, 2);
    let error = |name: &str, options: Json| {
        workload::build(&spec_of(name, options), &setting).unwrap_err().to_string()
    };
    assert!(error("regster", json!({})).contains("did you mean `register`"));
    assert!(error("register", json!({"kyes": 3})).contains("did you mean `keys`"));
    assert!(error("register", json!({"keys": 0})).contains("workload.options.keys"));
    assert!(error("register", json!({"threads_per_key": 5})).contains("from 1 to 4"));
    assert!(error("register", json!({"unique_writes": true, "cas": true})).contains("cas"));
    assert!(error("pn_counter", json!({"strategy": "swng"})).contains("did you mean `swing`"));
    assert!(error("set", json!({"read_interval_s": "x"})).contains("expected seconds"));
    assert!(error("", json!({})).contains("no `workload.generator`"));
    let own = WorkloadSpec { generator: Some(json!({"mixx": []})), ..WorkloadSpec::default() };
    let error = workload::build(&own, &setting).unwrap_err().to_string();
    assert!(
        error.contains("workload.generator") && error.contains("did you mean `mix`"),
        "{error}"
    );
}

#[test]
fn nodes_without_operations_are_noted() {
    let plan = build("register", json!({}), &setting(2, 5));
    assert!(plan.notes[0].contains("n3, n4, n5"), "{:?}", plan.notes);
    assert!(build("register", json!({}), &setting(5, 5)).notes.is_empty());
}

fn spec(toml_faults: Json) -> Spec {
    let mut spec = Spec {
        nodes: Nodes::Count(3),
        workload: spec_of("register", json!({})),
        ..Spec::default()
    };
    spec.cluster.net_ticktime_s = 4;
    spec.nemesis.faults = serde_json::from_value::<Vec<FaultSpec>>(toml_faults).unwrap();
    spec
}

#[test]
fn a_simulation_is_a_history_in_order_and_the_same_for_the_same_seed() {
    let spec = spec(json!([{"kind": "hold", "targets": ["halves", "one"]}, {"kind": "kill"}]));
    let options = SimulateOptions::default();
    let first = simulate(&spec, Seed(7), &options).unwrap();
    let times: Vec<i64> = first.records.iter().map(|op| op.time_ns).collect();
    assert!(times.is_sorted());
    let faults = first.records.iter().filter(|op| op.process == Process::nemesis()).count();
    assert_eq!(faults, 2 * first.schedule.faults.len());
    assert!(faults >= 2);
    let history = fuzz_dist_core::History::new(first.records.clone()).unwrap();
    assert!(history.client_pairs().all(|(_, completion)| completion.is_some()));
    let again = simulate(&spec, Seed(7), &options).unwrap();
    assert!(first.records == again.records && first.schedule == again.schedule);
    let other = simulate(&spec, Seed(8), &options).unwrap();
    assert!(first.records != other.records && first.schedule != other.schedule);
}

#[test]
fn a_simulation_is_bounded() {
    let spec = spec(json!([]));
    let options = SimulateOptions { records_max: Some(100), ..SimulateOptions::default() };
    let simulation = simulate(&spec, Seed(7), &options).unwrap();
    assert!(simulation.truncated && simulation.records.len() == 100);
    let options = SimulateOptions { faults_only: true, ..SimulateOptions::default() };
    assert!(simulate(&spec, Seed(7), &options).unwrap().records.is_empty());
}

#[test]
fn the_final_phase_is_simulated_after_recovery() {
    let mut spec = spec(json!([]));
    spec.workload = spec_of("set", json!({"elements": 100}));
    spec.concurrency = Concurrency::Count(3);
    let simulation = simulate(&spec, Seed(7), &SimulateOptions::default()).unwrap();
    let finals: Vec<_> =
        simulation.records.iter().filter(|op| op.extra("final?").is_some()).collect();
    assert_eq!(finals.len(), 6, "three invocations, three completions");
    assert!(finals.iter().all(|op| op.time_ns as u64 >= 30 * SECOND));
    let adds: BTreeSet<&Value> =
        simulation.records.iter().filter(|op| op.f == "add").map(|op| &op.value).collect();
    assert_eq!(adds.len(), 100);
}
