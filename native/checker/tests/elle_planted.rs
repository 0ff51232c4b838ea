//! Anomalies of every name, planted in a long history that has none.
//!
//! Each is small and holds nothing worse than its name; the long history is strictly serializable by
//! construction. What is found must be exactly what was planted, the models that it rules out must be ruled
//! out, and those right below them must hold. Rings of dependencies of any length are in `elle_rings.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod elle_common;

use common::{Random, check, spec};
use elle_common::{PLANTED, background, planted, size, spread};
use fuzz_dist_checker::{Budget, build};
use fuzz_dist_core::{History, Verdict};
use serde_json::{Value as Json, json};

const SIZE: usize = 1_000;

/// The strongest models that an anomaly still allows, as far as they are below those that it rules out.
fn holds(name: &str) -> &'static [&'static str] {
    match name {
        "G0" | "duplicate-elements" | "cyclic-versions" => &["none"],
        "G1a" | "G1b" | "G1c" | "dirty-update" | "incompatible-order" | "future-read"
        | "garbage-read" => &["read-uncommitted"],
        "internal" => &["read-committed", "cursor-stability", "repeatable-read"],
        "lost-update" => &["read-committed", "read-atomic", "monotonic-atomic-view"],
        "G-single-item" => &["read-committed", "cursor-stability", "monotonic-view", "read-atomic"],
        "G-nonadjacent-item" => &["consistent-view", "forward-consistent-view", "update-atomic"],
        "G2-item" => &["snapshot-isolation", "strong-snapshot-isolation"],
        "G0-process" => &["serializable", "repeatable-read"],
        "G1c-process" => &["serializable", "strong-session-read-uncommitted"],
        "G-single-item-process" | "G-nonadjacent-item-process" => {
            &["serializable", "strong-session-read-committed"]
        }
        "G2-item-process" => &["serializable", "strong-session-snapshot-isolation"],
        "G0-realtime" => &["strong-session-serializable"],
        "G1c-realtime" => &["strong-session-serializable", "strong-read-uncommitted"],
        "G-single-item-realtime" | "G-nonadjacent-item-realtime" => {
            &["strong-session-serializable", "strong-read-committed"]
        }
        "G2-item-realtime" => &["strong-session-serializable", "strong-snapshot-isolation"],
        other => panic!("{other} has no levels"),
    }
}

fn expect(checker: &str, name: &str, options: Json, text: &str, not: &[&str]) {
    let lists = checker == "list-append";
    let mut random = Random(text.len() as u64);
    let (history, _) = spread(&mut random, &background(size(SIZE), lists), &planted(text));
    let result = check(checker, options.clone(), &history);
    assert_eq!(result.verdict, Verdict::Invalid, "{name}: {}", result.reason);
    assert_eq!(result.details["anomaly-types"], json!([name]), "{name}: {result:#?}");
    assert_eq!(result.details["not"], json!(not), "{name}");
    let anomaly = &result.anomalies[0];
    assert_eq!(anomaly.name, name);
    assert!(!anomaly.ops.is_empty() && !anomaly.text.is_empty(), "{name}: {anomaly:?}");
    assert!(anomaly.text.lines().count() <= 24, "more than a screen: {}", anomaly.text);
    for op in &anomaly.ops {
        let process = history.ops()[*op as usize].process.client().unwrap();
        assert!(
            process >= PLANTED,
            "{name} is shown by records that were not planted: {anomaly:?}"
        );
    }
    let verdict = |model: &str| {
        let mut options = options.clone();
        options["consistency-model"] = json!(model);
        options["anomalies"] = json!("none");
        check(checker, options, &history).verdict
    };
    for model in not {
        assert_eq!(verdict(model), Verdict::Invalid, "{name} and {model}");
    }
    for model in holds(name) {
        // Of registers, the levels are those of the checker causal; Adya's own goes by its other name.
        let model = match (*model, checker) {
            ("read-committed", "rw-register") => "PL-2",
            // It read one write of a transaction and missed another.
            ("read-atomic", "rw-register") if name == "G-single-item" => continue,
            (model, _) => model,
        };
        assert_eq!(verdict(model), Verdict::Valid, "{name} and {model}");
    }
    let mut by_name = options.clone();
    by_name["consistency-model"] = json!("none");
    by_name["anomalies"] = json!([name]);
    let result = check(checker, by_name, &history);
    assert_eq!(result.verdict, Verdict::Invalid, "{name} by its name: {}", result.reason);
}

#[test]
fn what_surrounds_is_valid() {
    for (checker, options) in [
        ("list-append", json!({})),
        ("rw-register", json!({})),
        (
            "rw-register",
            json!({"sequential-keys": true, "linearizable-keys": true, "wfr-keys": true}),
        ),
    ] {
        let history = History::new(background(size(SIZE), checker == "list-append")).unwrap();
        let result = check(checker, options, &history);
        assert_eq!(result.verdict, Verdict::Valid, "{checker}: {}", result.reason);
        assert!(result.counts["dependencies"] > size(SIZE) as u64 / 4, "{:?}", result.counts);
    }
}

#[test]
fn every_anomaly_of_lists_is_found_by_its_name() {
    let serializable = || json!({"consistency-model": "serializable"});
    let session = || json!({"consistency-model": "strong-session-serializable"});
    let strict = || json!({});
    let cases: Vec<(&str, Json, &str, &[&str])> = vec![
        (
            "G0",
            serializable(),
            "0 ok [[:append :x 1] [:append :y 1]]
             1 ok [[:append :x 2] [:append :y 2]]
             2 ok [[:r :x [1 2]]]
             3 ok [[:r :y [2 1]]]",
            &["read-uncommitted"],
        ),
        (
            "G1a",
            serializable(),
            "0 fail [[:append :x 1]]
             1 ok [[:r :x [1]]]",
            &["read-committed"],
        ),
        (
            "G1b",
            json!({"consistency-model": "read-committed"}),
            "0 ok [[:append :x 1] [:append :x 2]]
             1 ok [[:r :x [1]]]",
            &["read-committed"],
        ),
        (
            "G1c",
            serializable(),
            "0 ok [[:append :x 1] [:r :y [1]]]
             1 ok [[:append :y 1] [:r :x [1]]]",
            &["read-committed"],
        ),
        (
            "G-single-item",
            serializable(),
            "0 ok [[:append :x 1] [:append :y 1]]
             1 ok [[:r :x [1]] [:r :y []]]",
            &["consistent-view", "repeatable-read"],
        ),
        (
            "G-nonadjacent-item",
            serializable(),
            "0 ok [[:append :x 1]]
             1 ok [[:append :y 1]]
             2 ok [[:r :x [1]] [:r :y []]]
             3 ok [[:r :x []] [:r :y [1]]]",
            &["repeatable-read", "snapshot-isolation"],
        ),
        (
            "G2-item",
            serializable(),
            "0 ok [[:append :x 1] [:r :y []]]
             1 ok [[:append :y 1] [:r :x []]]",
            &["repeatable-read"],
        ),
        (
            "G0-process",
            json!({"consistency-model": "strong-session-serializable"}),
            "0 ok [[:append :x 1]]
             0 ok [[:append :x 2]]
             1 ok [[:r :x [2 1]]]",
            &["strong-session-read-uncommitted"],
        ),
        (
            "G1c-process",
            session(),
            "0 ok [[:append :x 1] [:r :y [1]]]
             1 ok [[:r :x [1]]]
             1 ok [[:append :y 1]]",
            &["strong-session-read-committed"],
        ),
        (
            "G-single-item-process",
            session(),
            "0 ok [[:append :x 1]]
             0 ok [[:r :x []]]",
            &["strong-session-snapshot-isolation"],
        ),
        (
            "G-nonadjacent-item-process",
            session(),
            "0 ok [[:r :x nil] [:r :z [1]]]
             1 ok [[:append :x 1]]
             1 ok [[:r :z nil]]
             2 ok [[:append :z 1]]",
            &["strong-session-snapshot-isolation"],
        ),
        (
            "G2-item-process",
            session(),
            "0 ok [[:r :x []] [:append :y 1]]
             1 ok [[:append :x 1]]
             1 ok [[:r :z []]]
             2 ok [[:append :z 1] [:r :y []]]",
            &["strong-session-serializable"],
        ),
        (
            "G0-realtime",
            strict(),
            "0 ok [[:append :x 1]]
             1 invoke [[:append :x 2]]
             1 ok [[:append :x 2]]
             2 invoke [[:r :x nil]]
             2 ok [[:r :x [2 1]]]",
            &["strong-read-uncommitted"],
        ),
        (
            "G1c-realtime",
            strict(),
            "0 invoke [[:r :x nil]]
             0 ok [[:r :x [1]]]
             1 invoke [[:append :x 1]]
             1 ok [[:append :x 1]]",
            &["strong-read-committed"],
        ),
        (
            "G-single-item-realtime",
            strict(),
            "0 ok [[:append :x 1]]
             1 invoke [[:r :x nil]]
             1 ok [[:r :x []]]",
            &["strong-snapshot-isolation"],
        ),
        (
            "G-nonadjacent-item-realtime",
            strict(),
            "0 invoke [[:r :x nil] [:r :z nil]]
             2 invoke [[:append :z 1]]
             1 invoke [[:append :x 1]]
             1 ok [[:append :x 1]]
             3 invoke [[:r :z nil]]
             3 ok [[:r :z []]]
             2 ok [[:append :z 1]]
             0 ok [[:r :x []] [:r :z [1]]]",
            &["strong-snapshot-isolation"],
        ),
        (
            "G2-item-realtime",
            strict(),
            "0 invoke [[:r :x nil] [:append :y 1]]
             1 invoke [[:r :y nil] [:append :z 1]]
             3 invoke [[:append :x 1]]
             3 ok [[:append :x 1]]
             2 invoke [[:r :z nil]]
             2 ok [[:r :z []]]
             1 ok [[:r :y []] [:append :z 1]]
             0 ok [[:r :x []] [:append :y 1]]",
            &["strong-serializable"],
        ),
        (
            "lost-update",
            json!({"consistency-model": "cursor-stability"}),
            "0 ok [[:r :x []] [:append :x 1]]
             1 ok [[:r :x []] [:append :x 2]]
             2 ok [[:r :x [1 2]]]",
            &["cursor-stability", "update-atomic"],
        ),
        (
            "internal",
            json!({"consistency-model": "snapshot-isolation"}),
            "0 ok [[:append :x 1] [:r :x []]]
             1 ok [[:r :x [1]]]",
            &["read-atomic"],
        ),
        (
            "incompatible-order",
            serializable(),
            "0 ok [[:append :x 1]]
             1 ok [[:append :x 2]]
             2 ok [[:r :x [1]]]
             3 ok [[:r :x [2]]]",
            &["read-committed"],
        ),
        (
            "duplicate-elements",
            serializable(),
            "0 ok [[:append :x 1]]
             1 ok [[:r :x [1 1]]]",
            &["read-uncommitted"],
        ),
        (
            "dirty-update",
            json!({"consistency-model": "none", "anomalies": "dirty-update"}),
            "0 fail [[:append :x 1]]
             1 ok [[:append :x 2]]
             2 ok [[:r :x [1 2]]]",
            &["read-committed"],
        ),
        (
            "future-read",
            serializable(),
            "0 ok [[:r :x [1]] [:append :x 1]]
             1 ok [[:r :x [1]]]",
            &["read-committed"],
        ),
        (
            "garbage-read",
            serializable(),
            "0 ok [[:append :x 1]]
             1 ok [[:r :x [1 7]]]",
            &["read-committed"],
        ),
    ];
    for (name, options, text, not) in cases {
        expect("list-append", name, options, text, not);
    }
}

/// Name, options, transactions, and the models that are ruled out.
type Case = (&'static str, Json, &'static str, &'static [&'static str]);

fn registers() -> Vec<Case> {
    vec![
        (
            "G0",
            json!({"consistency-model": "serializable", "sequential-keys": true}),
            "0 ok [[:w :x 1] [:w :y 2]]
             1 ok [[:w :x 2] [:w :y 1]]
             0 ok [[:r :x 2]]
             1 ok [[:r :y 2]]",
            &["read-uncommitted"],
        ),
        ("G1a", json!({}), "0 fail [[:w :x 1]]\n1 ok [[:r :x 1]]", &["read-committed"]),
        (
            "G1b",
            json!({"consistency-model": "serializable"}),
            "0 ok [[:w :x 1] [:w :x 2]]\n1 ok [[:r :x 1]]",
            &["read-committed"],
        ),
        (
            "G1c",
            json!({"consistency-model": "serializable"}),
            "0 ok [[:w :x 1] [:r :y 1]]\n1 ok [[:w :y 1] [:r :x 1]]",
            &["read-committed"],
        ),
        (
            "G-single-item",
            json!({"consistency-model": "serializable"}),
            "0 ok [[:w :x 1] [:w :y 1]]\n1 ok [[:r :x 1] [:r :y nil]]",
            &["consistent-view", "repeatable-read"],
        ),
        (
            "G-nonadjacent-item",
            json!({"consistency-model": "serializable"}),
            "0 ok [[:w :x 1]]
             1 ok [[:w :y 1]]
             2 ok [[:r :x 1] [:r :y nil]]
             3 ok [[:r :x nil] [:r :y 1]]",
            &["repeatable-read", "snapshot-isolation"],
        ),
        (
            "G2-item",
            json!({"consistency-model": "serializable"}),
            "0 ok [[:w :x 1] [:r :y nil]]\n1 ok [[:w :y 1] [:r :x nil]]",
            &["repeatable-read"],
        ),
        (
            "G-single-item-realtime",
            json!({}),
            "0 ok [[:w :x 1]]\n1 invoke [[:r :x nil]]\n1 ok [[:r :x nil]]",
            &["strong-snapshot-isolation"],
        ),
        (
            "G1c-process",
            json!({"consistency-model": "strong-session-serializable"}),
            "0 ok [[:r :x 1]]\n0 ok [[:w :x 1]]",
            &["strong-session-read-committed"],
        ),
        (
            "lost-update",
            json!({"consistency-model": "serializable"}),
            "0 ok [[:w :x 5]]\n1 ok [[:r :x 5] [:w :x 1]]\n2 ok [[:r :x 5] [:w :x 2]]",
            &["cursor-stability", "update-atomic"],
        ),
        (
            "internal",
            json!({"consistency-model": "serializable"}),
            "0 ok [[:w :x 1] [:r :x 2]]\n1 ok [[:w :x 2]]",
            &["read-atomic"],
        ),
        (
            "future-read",
            json!({"consistency-model": "serializable"}),
            "0 ok [[:r :x 1] [:w :x 1]]",
            &["read-committed"],
        ),
        (
            "cyclic-versions",
            json!({"consistency-model": "serializable", "sequential-keys": true}),
            "0 ok [[:w :x 1]]\n0 ok [[:w :x 2]]\n0 ok [[:r :x 1]]",
            &["read-uncommitted"],
        ),
        (
            "cyclic-versions",
            json!({"consistency-model": "serializable", "linearizable-keys": true}),
            "0 invoke [[:w :x 1]]
             0 ok [[:w :x 1]]
             1 invoke [[:w :x 2]]
             1 ok [[:w :x 2]]
             2 invoke [[:r :x nil]]
             2 ok [[:r :x 1]]",
            &["read-uncommitted"],
        ),
    ]
}

#[test]
fn every_anomaly_of_registers_is_found_by_its_name() {
    for (name, options, text, not) in registers() {
        expect("rw-register", name, options, text, not);
    }
}

/// The transactions of a plant with keys and processes of their own.
fn apart(text: &str, number: usize) -> String {
    let line = |line: &str| {
        let (process, rest) = line.trim().split_once(' ').unwrap();
        let process = process.parse::<usize>().unwrap() + 10 * number;
        let rest = rest.replace(":x ", &format!(":x{number} "));
        format!("{process} {}\n", rest.replace(":y ", &format!(":y{number} ")))
    };
    text.lines().map(line).collect()
}

/// All that are found under the same options, in one history for each options.
#[test]
fn every_anomaly_of_registers_is_found_in_a_hundred_thousand_transactions() {
    let around = background(100_000, false);
    let mut groups: Vec<(Json, Vec<Case>)> = Vec::new();
    for case in registers() {
        match groups.iter_mut().find(|(options, _)| *options == case.1) {
            Some((_, cases)) => cases.push(case),
            None => groups.push((case.1.clone(), vec![case])),
        }
    }
    for (options, cases) in groups {
        let text: String = (0..).zip(&cases).map(|(number, case)| apart(case.2, number)).collect();
        let (history, _) = spread(&mut Random(5), &around, &planted(&text));
        let result = check("rw-register", options.clone(), &history);
        let mut names: Vec<&str> = cases.iter().map(|case| case.0).collect();
        names.sort_unstable();
        assert_eq!(result.verdict, Verdict::Invalid, "{options}: {}", result.reason);
        let told = result.details["anomaly-types"].as_array().unwrap();
        let mut told: Vec<&str> = told.iter().map(|name| name.as_str().unwrap()).collect();
        told.sort_unstable();
        assert_eq!(told, names, "{options}");
        for at in result.anomalies.iter().flat_map(|anomaly| &anomaly.ops) {
            let process = history.ops()[*at as usize].process.client().unwrap();
            assert!(process >= PLANTED, "{options}: record {at} was not planted");
        }
    }
}

/// Elle leaves writes of transactions that ended with info out and so misses this one.
#[test]
fn writes_that_ended_with_info_count_once_they_were_read() {
    let text = "0 info [[:w :x 1] [:w :y 1]]\n1 ok [[:r :x 1] [:r :y nil]]";
    let not = &["consistent-view", "repeatable-read"];
    expect("rw-register", "G-single-item", json!({"consistency-model": "serializable"}), text, not);
}

#[test]
fn bad_input_is_named() {
    let problems = [
        ("0 ok [[:w :x 1]]", "the checker for such histories is rw-register"),
        ("0 ok [[:append :x]]", "is not [:r key value] or [:append key value]"),
        ("0 ok [[:append :x 1]]\n1 ok [[:append :x 1]]", "both write 1 to :x"),
        ("0 ok [[:r :x 3]]", "the read of :x returned 3, which is no list"),
        ("0 ok 17", "is no transaction"),
    ];
    for (text, wanted) in problems {
        let history = History::new(planted(text)).unwrap();
        let result = check("list-append", json!({}), &history);
        assert_eq!(result.verdict, Verdict::Unknown, "{text}");
        assert!(result.reason.contains(wanted), "{}", result.reason);
    }
    let options = [
        (json!({"consistency-model": "serialisable"}), "did you mean \"serializable\""),
        (json!({"anomalies": "G1d"}), "did you mean \"G1"),
        (json!({"sequential-keys": true}), "has no option"),
    ];
    for (options, wanted) in options {
        let error = build(&spec("list-append", options)).err().map(|error| error.to_string());
        assert!(error.as_deref().is_some_and(|error| error.contains(wanted)), "{error:?}");
    }
    let budget = Budget { time: Some(std::time::Duration::ZERO), ..Budget::UNLIMITED };
    let history = History::new(planted("0 ok [[:append :x 1]]")).unwrap();
    let result = build(&spec("list-append", json!({}))).unwrap().check(&history, &budget);
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains("budget"), "{}", result.reason);
}
