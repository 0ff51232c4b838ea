//! `kafka` on histories with known answers about messages and transactions: the situations that the tests of
//! Jepsen's workload are about, with the evidence that they ask for, and those in which the original errs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod kafka_common;

use common::check;
use fuzz_dist_core::{CheckResult, Verdict, interop};
use kafka_common::{errors, names, run, run_with};
use serde_json::{Value as Json, json};

#[test]
fn a_log_that_is_read_to_its_end_is_valid() {
    let result = run(&[
        "0 invoke assign [:x]",
        "0 ok assign [:x]",
        "1 invoke send [[:send :x 1] [:send :x 2]]",
        "1 ok send [[:send :x [0 1]] [:send :x [4 2]]]",
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x [[0 1]]}]]",
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x [[4 2]]}]]",
    ]);
    assert_eq!(result.verdict, Verdict::Valid, "{}", result.reason);
    assert_eq!(result.counts["messages"], 2);
}

#[test]
fn nothing_sent_or_polled_is_unknown() {
    for lines in [
        &["0 invoke assign [:x]", "0 ok assign [:x]"][..],
        &["0 invoke poll [[:poll]]", "0 ok poll [[:poll {}]]"],
        &["0 invoke poll [[:poll]]", "0 info poll nil"],
    ] {
        assert_eq!(run(lines).verdict, Verdict::Unknown, "{lines:?}");
    }
}

#[test]
fn one_offset_with_two_values_is_inconsistent() {
    let result = run(&[
        "0 invoke send [[:send 11 641]]",
        "0 ok send [[:send 11 [537 641]]]",
        "1 invoke send [[:send 11 645]]",
        "1 ok send [[:send 11 [537 645]]]",
    ]);
    let wanted = [json!(["11", 0, 537, ["641", "645"]])];
    assert_eq!(
        errors(&result, "inconsistent-offsets", &["key", "index", "offset", "values"]),
        wanted
    );
    // A log with a gap; that c committed is known from the read of b.
    let result = run(&[
        "0 invoke txn [[:poll]]",
        "0 ok txn [[:poll {:x [[0 :a] [1 :b]]}]]",
        "1 invoke txn [[:send :x :c] [:send :x :b] [:send :x :d]]",
        "1 info txn [[:send :x [1 :c]] [:send :x [3 :b]] [:send :x [4 :d]]]",
    ]);
    let wanted = [json!(["1".parse::<i64>().unwrap(), 1, [":b", ":c"]])];
    assert_eq!(errors(&result, "inconsistent-offsets", &["offset", "index", "values"]), wanted);
}

#[test]
fn an_unproven_send_contradicts_nothing() {
    let mut lines = vec![
        "0 invoke send [[:send :x 1] [:send :y 1]]",
        "0 info send [[:send :x [0 1]] [:send :y 1]]",
        "1 invoke send [[:send :x 2]]",
        "1 ok send [[:send :x [0 2]]]",
    ];
    assert!(!names(&run(&lines)).contains(&"inconsistent-offsets".to_owned()));
    // What it sent to y is read, so it committed.
    lines.extend(["2 invoke poll [[:poll]]", "2 ok poll [[:poll {:y [[5 1]]}]]"]);
    let wanted = [json!([":x", 0, 0, ["1", "2"]])];
    let result = run(&lines);
    assert_eq!(
        errors(&result, "inconsistent-offsets", &["key", "index", "offset", "values"]),
        wanted
    );
    // Sends that are no transaction prove only themselves.
    let result = run_with(json!({"txn": false}), &lines);
    assert!(!names(&result).contains(&"inconsistent-offsets".to_owned()), "{}", result.reason);
}

#[test]
fn reads_of_failed_sends_are_aborted_reads() {
    let lines = |outcome: &str| {
        let poll = format!("1 {outcome} poll [[:poll {{:x [[0 2]]}}]]");
        run(&[
            "0 invoke send [[:send :x 2] [:send :y 3]]",
            "0 fail send [[:send :x 2] [:send :y 3]]",
            "1 invoke poll [[:poll]]",
            &poll,
        ])
    };
    let committed = lines("ok");
    assert_eq!(
        errors(&committed, "G1a", &["key", "value", "writer", "reader"]),
        [json!([":x", "2", 1, 3])]
    );
    assert_eq!((committed.verdict, names(&committed)), (Verdict::Invalid, vec!["G1a".to_owned()]));
    for outcome in ["info", "fail"] {
        assert_eq!(names(&lines(outcome)), ["aborted-read"]);
    }
}

#[test]
fn a_transaction_must_not_poll_what_it_sends() {
    let lines = [
        "0 invoke txn [[:send :x :a] [:poll]]",
        "0 ok txn [[:send :x [0 :a]] [:poll {:x [[0 :a]]}]]",
    ];
    let wanted = [json!([1, ":x", ":a"])];
    assert_eq!(errors(&run(&lines), "precommitted-read", &["op", "key", "value"]), wanted);
    assert_eq!(run_with(json!({"txn": false}), &lines).verdict, Verdict::Valid);
}

#[test]
fn a_message_that_nobody_sent_is_an_anomaly() {
    let result = run(&[
        "0 invoke send [[:send :x 1]]",
        "0 ok send [[:send :x [0 1]]]",
        "1 invoke poll [[:poll]]",
        "1 ok poll [[:poll {:x [[0 1] [1 2]]}]]",
    ]);
    assert_eq!((result.verdict, names(&result)), (Verdict::Invalid, vec!["phantom".to_owned()]));
    assert_eq!(errors(&result, "phantom", &["value", "op"]), [json!(["2", 3])]);
    // Polled before the send began: a cycle with real time, or a phantom where nothing is a transaction.
    let early = [
        "1 invoke poll [[:poll]]",
        "1 ok poll [[:poll {:x [[0 1]]}]]",
        "0 invoke send [[:send :x 1]]",
        "0 ok send [[:send :x [0 1]]]",
    ];
    assert_eq!(names(&run(&early)), ["G1c-realtime"]);
    assert_eq!(names(&run_with(json!({"txn": false}), &early)), ["phantom"]);
}

#[test]
fn what_is_before_something_read_and_never_read_is_lost() {
    let result = run(&[
        "0 invoke send [[:send :x :a]]",
        "0 ok send [[:send :x [0 :a]]]",
        "0 invoke send [[:send :x :b] [:send :x :d]]",
        "0 ok send [[:send :x [1 :b]] [:send :x [3 :d]]]",
        "1 invoke send [[:send :x :c]]",
        "1 info send [[:send :x :c]]",
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x [[2 :c]]}]]",
    ]);
    let fields = ["key", "value", "index", "max-read-index", "writer", "max-read"];
    let wanted = [json!([":x", ":a", 0, 2, 1, 7]), json!([":x", ":b", 1, 2, 3, 7])];
    assert_eq!(errors(&result, "lost-write", &fields), wanted);
    // b took the place of a.
    let result = run(&[
        "0 invoke send [[:send :x :a]]",
        "0 ok send [[:send :x [0 :a]]]",
        "0 invoke send [[:send :x :b] [:send :x :c]]",
        "0 ok send [[:send :x [0 :b]] [:send :x [2 :c]]]",
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x [[0 :b] [2 :c]]}]]",
    ]);
    assert_eq!(errors(&result, "lost-write", &fields), [json!([":x", ":a", 0, 1, 1, 5])]);
}

#[test]
fn a_transaction_is_lost_only_if_it_committed() {
    let unproven = [
        "0 invoke send [[:send :x :a] [:send :y :b]]",
        "0 info send [[:send :x :a] [:send :y [0 :b]]]",
        "1 invoke send [[:send :y :c]]",
        "1 info send [[:send :y :c]]",
        "3 invoke poll [[:poll]]",
        "3 ok poll [[:poll {:y [[1 :c]]}]]",
    ];
    assert_eq!(run(&unproven).verdict, Verdict::Valid);
    let mut proven = unproven.to_vec();
    proven.extend(["2 invoke poll [[:poll]]", "2 ok poll [[:poll {:x [[0 :a]]}]]"]);
    let fields = ["key", "value", "index", "max-read-index", "writer", "max-read"];
    assert_eq!(errors(&run(&proven), "lost-write", &fields), [json!([":y", ":b", 0, 1, 1, 5])]);
}

#[test]
fn a_process_must_not_send_to_before() {
    let with = |between: &[&str]| {
        let mut lines = vec![
            "0 invoke send [[:send :x :c] [:send :x :d]]",
            "0 ok send [[:send :x [3 :c]] [:send :x [4 :d]]]",
        ];
        lines.extend(between);
        lines.extend([
            "0 invoke send [[:send :x :a] [:send :x :b]]",
            "0 ok send [[:send :x [1 :a]] [:send :x [2 :b]]]",
        ]);
        errors(&run(&lines), "nonmonotonic-send", &["key", "values", "delta"])
    };
    let wanted = [json!([":x", [":d", ":a"], -3])];
    assert_eq!(with(&[]), wanted);
    for (f, outcome) in [("subscribe", "ok"), ("assign", "info")] {
        let line = |keys: &str| [format!("0 invoke {f} {keys}"), format!("0 {outcome} {f} {keys}")];
        let [a, b] = line("[:y]");
        assert!(with(&[&a, &b]).is_empty());
        let [a, b] = line("[:x :y]");
        assert_eq!(with(&[&a, &b]), wanted);
    }
}

#[test]
fn sends_of_one_operation_are_in_order() {
    let result = run(&[
        "0 invoke send [[:send :x :a] [:send :x :c]]",
        "0 ok send [[:send :x [1 :a]] [:send :x :c]]",
        "1 invoke send [[:send :x :b]]",
        "1 info send [[:send :x :b]]",
        "2 invoke poll [[:poll]]",
        "2 ok poll [[:poll {:x [[2 :b] [3 :c]]}]]",
    ]);
    let fields = ["key", "values", "skipped", "delta", "ops"];
    let wanted = [json!([":x", [":a", ":c"], [":b"], 2, [1]])];
    assert_eq!(errors(&result, "int-send-skip", &fields), wanted);
    let result = run(&[
        "0 invoke send [[:send :x :c] [:send :x :a]]",
        "0 ok send [[:send :x [3 :c]] [:send :x [1 :a]]]",
        "0 invoke send [[:send :y :d] [:send :y :b]]",
        "0 info send [[:send :y :d] [:send :y :b]]",
        "1 invoke send [[:send :y :c]]",
        "1 info send [[:send :y :c]]",
        "2 invoke poll [[:poll]]",
        "2 ok poll [[:poll {:y [[2 :b] [3 :c] [4 :d]]}]]",
    ]);
    let wanted = [json!([":x", [":c", ":a"], -1, [1]]), json!([":y", [":d", ":b"], -2, [3]])];
    assert_eq!(
        errors(&result, "int-nonmonotonic-send", &["key", "values", "delta", "ops"]),
        wanted
    );
    assert_eq!(result.verdict, Verdict::Invalid);
}

#[test]
fn one_value_at_two_offsets_is_a_duplicate() {
    let result = run(&[
        "0 invoke send [[:send :x :a]]",
        "0 ok send [[:send :x [1 :a]]]",
        "1 invoke send [[:send :x :b]]",
        "1 info send [[:send :x :b]]",
        "2 invoke poll [[:poll]]",
        "2 ok poll [[:poll {:x [[2 :b] [3 :a]]}]]",
    ]);
    let fields = ["key", "value", "count", "offsets"];
    assert_eq!(errors(&result, "duplicate", &fields), [json!([":x", ":a", 2, [1, 3]])]);
    // A failed send wrote nothing, but what a failed poll returned was there.
    let result = run(&[
        "0 invoke send [[:send :x 0]]",
        "0 ok send [[:send :x [1 0]]]",
        "0 invoke send [[:send :x 1]]",
        "0 fail send [[:send :x [2 1]]]",
        "1 invoke poll [[:poll]]",
        "1 fail poll [[:poll {:x [[11 0] [12 1]]}]]",
    ]);
    assert_eq!(errors(&result, "duplicate", &fields), [json!([":x", "0", 2, [1, 11]])]);
}

#[test]
fn many_values_at_the_same_two_offsets_are_all_duplicates() {
    let mut lines = Vec::new();
    for value in 0..10 {
        lines.push(format!("0 invoke send [[:send :x {value}]]"));
        lines.push(format!("0 ok send [[:send :x [0 {value}]]]"));
        lines.push("1 invoke poll [[:poll]]".into());
        lines.push(format!("1 ok poll [[:poll {{:x [[1 {value}]]}}]]"));
    }
    let result = run(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let all: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let wanted: Vec<Json> = all.iter().map(|value| json!([value])).collect();
    assert_eq!(errors(&result, "duplicate", &["value"]), wanted);
    let wanted = [json!([0, 0, all]), json!([1, 1, all])];
    assert_eq!(errors(&result, "inconsistent-offsets", &["offset", "index", "values"]), wanted);
}

#[test]
fn what_was_acknowledged_is_polled_by_the_end() {
    let mut lines = vec![
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {}]]",
        "0 invoke send [[:send :x :a] [:send :x :b]]",
        "0 ok send [[:send :x [0 :a]] [:send :x [1 :b]]]",
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x [[0 :a]]}]]",
    ];
    let result = run(&lines);
    assert_eq!(names(&result), ["unseen"]);
    let wanted = json!({"count": 1, "unseen": {":x": 1}, "messages": {":x": [":b"]}});
    assert_eq!(result.details["errors"]["unseen"], wanted);
    assert_eq!(result.verdict, Verdict::Invalid);
    lines.extend(["0 invoke poll [[:poll]]", "0 ok poll [[:poll {:x [[1 :b]]}]]"]);
    assert_eq!(run(&lines).verdict, Verdict::Valid);
}

/// The kinds of the edges of the first cycle of a name.
fn cycle(result: &CheckResult, name: &str) -> Vec<(u64, String, u64)> {
    let anomaly = result.anomalies.iter().find(|anomaly| anomaly.name == name);
    let of_edges = anomaly.map(|anomaly| anomaly.edges.clone()).unwrap_or_default();
    let mut edges: Vec<_> =
        of_edges.into_iter().map(|edge| (edge.from, edge.kind, edge.to)).collect();
    edges.sort();
    edges
}

#[test]
fn cycles_have_their_names_and_edges() {
    let conflicting = [
        "0 invoke send [[:send :x :a] [:send :y :a]]",
        "1 invoke send [[:send :x :b] [:send :y :b]]",
        "0 ok send [[:send :x [0 :a]] [:send :y [1 :a]]]",
        "1 ok send [[:send :x [1 :b]] [:send :y [0 :b]]]",
    ];
    assert!(names(&run_with(json!({"ww-deps": true}), &conflicting)).contains(&"G0".to_owned()));
    let mutual = [
        "0 invoke txn [[:send :x :a] [:poll]]",
        "1 invoke txn [[:send :y :b] [:poll]]",
        "0 ok txn [[:send :x [0 :a]] [:poll {:y [[0 :b]]}]]",
        "1 ok txn [[:send :y [0 :b]] [:poll {:x [[0 :a]]}]]",
    ];
    let result = run(&mutual);
    assert_eq!((result.verdict, names(&result)), (Verdict::Invalid, vec!["G1c".to_owned()]));
    assert_eq!(cycle(&result, "G1c"), [(2, "wr".into(), 3), (3, "wr".into(), 2)]);
    assert_eq!(run_with(json!({"ww-deps": true}), &mutual).verdict, Verdict::Valid, "allowed then");
    let mixed = [
        "0 invoke txn [[:send :x :a] [:send :y :c]]",
        "1 invoke txn [[:poll] [:send :y :b]]",
        "0 ok txn [[:send :x [0 :a]] [:send :y [2 :c]]]",
        "1 ok txn [[:poll {:x [[0 :a]]}] [:send :y [1 :b]]]",
    ];
    let result = run_with(json!({"ww-deps": true}), &mixed);
    let steps = &result.details["errors"]["G1c"]["errs"][0]["steps"];
    let kinds: Vec<&str> =
        steps.as_array().unwrap().iter().map(|step| step["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"wr") && kinds.contains(&"ww"), "{steps}");
}

#[test]
fn anti_dependencies_are_followed_if_asked_for() {
    // T2 polls y of T1, but of x only what was before T1.
    let lines = [
        "3 invoke send [[:send :x 0]]",
        "3 ok send [[:send :x [0 0]]]",
        "0 invoke txn [[:send :x 1] [:send :y 1]]",
        "1 invoke poll [[:poll]]",
        "0 ok txn [[:send :x [1 1]] [:send :y [0 1]]]",
        "1 ok poll [[:poll {:x [[0 0]], :y [[0 1]]}]]",
        "2 invoke poll [[:poll]]",
        "2 ok poll [[:poll {:x [[0 0] [1 1]]}]]",
    ];
    assert_eq!(run(&lines).verdict, Verdict::Valid);
    let result = run_with(json!({"rw-deps": true}), &lines);
    assert_eq!((result.verdict, names(&result)), (Verdict::Invalid, vec!["G-single".to_owned()]));
    assert_eq!(cycle(&result, "G-single"), [(4, "wr".into(), 5), (5, "rw".into(), 4)]);
    // Two polls that each miss what the other transaction sent.
    let skew = [
        "3 invoke send [[:send :x 0] [:send :y 0]]",
        "3 ok send [[:send :x [0 0]] [:send :y [0 0]]]",
        "0 invoke txn [[:poll] [:send :x 1]]",
        "1 invoke txn [[:poll] [:send :y 1]]",
        "0 ok txn [[:poll {:y [[0 0]]}] [:send :x [1 1]]]",
        "1 ok txn [[:poll {:x [[0 0]]}] [:send :y [1 1]]]",
        "2 invoke poll [[:poll]]",
        "2 ok poll [[:poll {:x [[0 0] [1 1]], :y [[0 0] [1 1]]}]]",
    ];
    assert_eq!(names(&run_with(json!({"rw-deps": true}), &skew)), ["G2"]);
    // The same process polls again without what had been sent before.
    let stale = [
        "0 invoke send [[:send :x 0]]",
        "0 ok send [[:send :x [0 0]]]",
        "0 invoke send [[:send :x 1]]",
        "0 ok send [[:send :x [1 1]]]",
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x [[0 0]]}]]",
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x [[1 1]]}]]",
    ];
    assert_eq!(names(&run_with(json!({"rw-deps": true}), &stale)), ["G-single-realtime"]);
    let process = json!({"rw-deps": true, "order": "process"});
    assert_eq!(names(&run_with(process, &stale)), ["G-single-process"]);
    assert_eq!(run_with(json!({"rw-deps": true, "order": "none"}), &stale).verdict, Verdict::Valid);
}

#[test]
fn other_forms_are_read_or_refused_with_their_place() {
    let json = br#"{"process":0,"type":"invoke","f":"send","value":[["send",1,7]]}
{"process":0,"type":"ok","f":"send","value":[["send",1,[0,7]]]}
{"process":1,"type":"invoke","f":"poll","value":[["poll"]]}
{"process":1,"type":"ok","f":"poll","value":[["poll",{"1":[[0,7]]}]]}
"#;
    let loaded = interop::load_bytes("test.jsonl", json, None).unwrap();
    let result = check("kafka", json!({}), &loaded.history);
    assert_eq!(result.verdict, Verdict::Valid, "{}", result.reason);
    let refused = run(&["0 invoke send [[:sent :x 1]]", "0 ok send [[:sent :x 1]]"]);
    assert_eq!(refused.verdict, Verdict::Unknown);
    assert!(
        refused.reason.contains("record 1") && refused.reason.contains(":sent"),
        "{}",
        refused.reason
    );
    let twice = run(&[
        "0 invoke send [[:send :x 1]]",
        "0 ok send [[:send :x [0 1]]]",
        "1 invoke send [[:send :x 1]]",
        "1 ok send [[:send :x [1 1]]]",
    ]);
    assert_eq!(twice.verdict, Verdict::Unknown, "{}", twice.reason);
    // A try that failed may be made again.
    let again = run(&[
        "0 invoke send [[:send :x 1]]",
        "0 fail send [[:send :x 1]]",
        "0 invoke send [[:send :x 1]]",
        "0 ok send [[:send :x [1 1]]]",
        "1 invoke poll [[:poll]]",
        "1 ok poll [[:poll {:x [[1 1]]}]]",
    ]);
    assert_eq!(again.verdict, Verdict::Valid, "{}", again.reason);
}

#[test]
fn a_table_shows_who_did_what_around_it() {
    let result = run(&[
        "0 invoke send [[:send :x :a] [:send :x :b]]",
        "0 ok send [[:send :x [3 :a]] [:send :x [5 :b]]]",
        "1 invoke poll [[:poll]]",
        "1 ok poll [[:poll {:x [[5 :b]]}]]",
    ]);
    let lost = result.anomalies.iter().find(|anomaly| anomaly.name == "lost-write").unwrap();
    assert_eq!(lost.ops, [0, 1, 2, 3]);
    let table = "
  around this in key :x (+ sent, else polled):
  record  who        offset:   3    5
  1       process 0  ok :send  +:a  +:b
  3       process 1  ok :poll  .    :b
";
    assert!(lost.text.ends_with(table), "{}", lost.text);
}
