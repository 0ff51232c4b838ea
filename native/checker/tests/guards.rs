//! `stats`, `unhandled-exceptions`, the vacuity guard, composition and options.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Builder, check, int, spec};
use fuzz_dist_checker::{Budget, OptionError, build, catalogue, check_all, vacuity};
use fuzz_dist_core::{History, Op, OpType, Process, Sym, Value, Verdict};
use serde_json::json;

#[test]
fn stats_count_and_want_a_success_of_each_function() {
    let mut builder = Builder::default();
    builder.done(0, "read", Value::Nil, int(1));
    builder.invoke(0, "write", int(1));
    builder.fail(0, "write", int(1));
    builder.invoke(1, "write", int(1));
    let history = builder.history();
    let result = check("stats", json!({}), &history);
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains(":write"), "{}", result.reason);
    assert_eq!(result.counts["ok-count"], 1);
    assert_eq!(result.counts["fail-count"], 1);
    assert_eq!(result.counts["info-count"], 1, "one that never completed is indeterminate");
    assert_eq!(result.details["by-f"]["write"]["count"], 2);
    builder.done(2, "write", int(1), int(1));
    assert_eq!(check("stats", json!({}), &builder.history()).verdict, Verdict::Valid);
    assert_eq!(check("stats", json!({}), &History::default()).verdict, Verdict::Unknown);
}

#[test]
fn exceptions_are_grouped_by_what_does_not_vary() {
    let mut builder = Builder::default();
    for n in 0..3 {
        builder.invoke(n, "write", int(n));
        let error = Value::tuple(vec![Value::sym("timeout"), Value::sym("call"), int(n)]);
        builder.info(n, "write", int(n)).error = error;
    }
    builder.invoke(9, "write", int(9));
    builder.info(9, "write", int(9)).error = Value::sym("noconnection");
    let result = check("unhandled-exceptions", json!({}), &builder.history());
    assert_eq!(result.verdict, Verdict::Valid);
    assert_eq!(result.counts["exceptions"], 4);
    assert_eq!(result.counts["classes"], 2);
    assert!(result.anomalies[0].text.starts_with("timeout call: 3 times"));
}

fn nemesis(f: &str, id: i64) -> Op {
    let pairs = [
        (Value::sym("id"), int(id)),
        (Value::sym("kind"), Value::str("hold")),
        (Value::sym("reason"), Value::str("the link was idle")),
    ];
    Op::new(0, Process::nemesis(), OpType::Info, Sym::new(f), Value::map(pairs))
}

#[test]
fn a_pass_without_success_or_effect_means_nothing() {
    assert_eq!(vacuity(&History::default(), false).verdict, Verdict::Unknown);

    let mut builder = Builder::default();
    builder.done(0, "read", Value::Nil, int(1));
    assert_eq!(vacuity(&builder.history(), false).verdict, Verdict::Valid);
    assert_eq!(vacuity(&builder.history(), true).verdict, Verdict::Unknown, "no fault at all");

    builder.ops.push(nemesis("fault-start", 1));
    builder.ops.push(nemesis("fault-no-effect", 1));
    let result = vacuity(&builder.history(), true);
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains("the link was idle"), "{}", result.reason);

    builder.ops.push(nemesis("fault-start", 2));
    builder.ops.push(nemesis("fault-observed", 2));
    let result = vacuity(&builder.history(), true);
    assert_eq!(result.verdict, Verdict::Valid, "{}", result.reason);
    assert!(result.reason.contains("without effect: fault 1"), "{}", result.reason);

    builder.invoke(3, "write", int(1));
    let result = vacuity(&builder.history(), true);
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains(":write"), "{}", result.reason);
}

#[test]
fn composed_the_worst_verdict_counts() {
    let mut builder = Builder::default();
    builder.done(0, "write", int(1), int(1));
    builder.done(0, "read", Value::Nil, int(2));
    let specs = [spec("stats", json!({})), spec("linearizable", json!({})), spec("set", json!({}))];
    let result = check_all(&builder.history(), &specs, &Budget::UNLIMITED);
    assert_eq!(result.verdict, Verdict::Invalid);
    let verdicts: Vec<Verdict> = result.parts.iter().map(|part| part.verdict).collect();
    assert_eq!(verdicts, [Verdict::Valid, Verdict::Invalid, Verdict::Unknown]);
    assert!(result.reason.contains("linearizable"), "{}", result.reason);
    assert!(!result.anomalies.is_empty());
}

#[test]
fn options_are_refused_by_name() {
    let refused = |name: &str, options| match build(&spec(name, options)) {
        Ok(_) => panic!("{name} took the options"),
        Err(error) => error,
    };
    let error = refused("linearizable", json!({"independant": true}));
    assert!(error.to_string().contains("did you mean \"independent\""), "{error}");
    let error = refused("linearizable", json!({"model": "cas_register"}));
    assert!(error.to_string().contains("did you mean \"cas-register\""), "{error}");
    let error = refused("set-full", json!({"linearizable": 1}));
    assert!(matches!(error, OptionError::BadValue { .. }), "{error}");
    let error = refused("registry", json!({"grace-ms": -5}));
    assert!(error.to_string().contains("not negative"), "{error}");
}

#[test]
fn every_checker_is_explained_and_can_be_built_with_its_defaults() {
    for info in catalogue() {
        assert!(info.about.len() > 40, "{}", info.name);
        let checker = build(&spec(info.name, json!({}))).expect(info.name);
        assert_eq!(checker.name(), info.name);
        // Nothing at all is never a crash and never invalid.
        let result = checker.check(&History::default(), &Budget::UNLIMITED);
        assert_ne!(result.verdict, Verdict::Invalid, "{}", info.name);
        for option in info.options {
            let known = build(&spec(info.name, json!({option.name: {"no": "such"}})));
            let unknown = matches!(known, Err(OptionError::UnknownOption { .. }));
            assert!(!unknown, "{} {}", info.name, option.name);
        }
    }
}
