//! `kafka` on histories with known answers: the situations that the tests of Jepsen's workload are about,
//! with the evidence that they ask for, and those in which the original errs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::check;
use fuzz_dist_core::{CheckResult, History, Verdict, interop};
use serde_json::{Value as Json, json};

/// `process type f value` in each line; time and index are the number of the line.
fn history(lines: &[&str]) -> History {
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        let parts: Vec<&str> = line.splitn(4, ' ').collect();
        let (process, op_type, f, value) = (parts[0], parts[1], parts[2], parts[3]);
        text += &format!(
            "{{:index {n}, :time {n}, :process {process}, :type :{op_type}, :f :{f}, :value {value}}}\n"
        );
    }
    interop::load_bytes("test.edn", text.as_bytes(), None)
        .unwrap_or_else(|e| panic!("{e}\n{text}"))
        .history
}

fn run_with(options: Json, lines: &[&str]) -> CheckResult {
    check("kafka", options, &history(lines))
}

fn run(lines: &[&str]) -> CheckResult {
    run_with(json!({"all-errors": true}), lines)
}

/// The cases of a name, only with the given fields.
fn errors(result: &CheckResult, name: &str, fields: &[&str]) -> Vec<Json> {
    let all = result.details["errors"][name]["errs"].as_array().cloned().unwrap_or_default();
    let pick = |case: &Json| fields.iter().map(|field| case[*field].clone()).collect();
    let mut picked: Vec<Json> = all.iter().map(pick).collect();
    picked.sort_by_key(Json::to_string);
    picked
}

fn names(result: &CheckResult) -> Vec<String> {
    serde_json::from_value(result.details["error-types"].clone()).unwrap()
}

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

/// Process 0 reads 1 2, then 4, then 7, while 3 and 6 exist; with something in between.
fn skips(first: &[&str], second: &[&str]) -> CheckResult {
    let mut lines = vec![
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x [[1 :a] [2 :b]]}]]",
        "1 invoke poll [[:poll]]",
        "1 ok poll [[:poll {:x [[3 :c]]}]]",
    ];
    lines.extend(first);
    lines.extend(["0 invoke poll [[:poll]]", "0 ok poll [[:poll {:x [[4 :d]]}]]"]);
    lines.extend(second);
    lines.extend([
        "2 invoke send [[:send :x :f]]",
        "2 ok send [[:send :x [6 :f]]]",
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x [[7 :g]]}]]",
        "3 invoke send [[:send :x :a] [:send :x :b] [:send :x :c] [:send :x :d] [:send :x :g]]",
        "3 info send nil",
    ]);
    run_with(json!({"sub-via": "assign"}), &lines)
}

#[test]
fn a_process_must_not_skip_messages() {
    let wanted = [json!([":x", 2, [":c"]]), json!([":x", 2, [":f"]])];
    let fields = ["key", "delta", "skipped"];
    assert_eq!(errors(&skips(&[], &[]), "poll-skip", &fields), wanted);
    let both = |f: &str, keys: &str, outcome: &str| {
        [format!("0 invoke {f} {keys}"), format!("0 {outcome} {f} {keys}")]
    };
    let with = |first: [String; 2], second: [String; 2]| {
        let [a, b] = &first;
        let [c, d] = &second;
        errors(&skips(&[a, b], &[c, d]), "poll-skip", &fields)
    };
    let none: [Json; 0] = [];
    assert_eq!(with(both("subscribe", "[:y]", "ok"), both("assign", "[:y]", "info")), none);
    assert_eq!(with(both("subscribe", "[:x :y]", "ok"), both("assign", "[:x :y]", "ok")), wanted);
    // A failed assignment changes nothing.
    assert_eq!(with(both("subscribe", "[:y]", "fail"), both("assign", "[:y]", "fail")), wanted);
}

#[test]
fn transactions_that_abort_are_rewound() {
    let sends = |n: i64| -> [String; 2] {
        let list = |f: &dyn Fn(i64) -> String| (0..n).map(f).collect::<Vec<_>>().join(" ");
        [
            format!("0 invoke send [{}]", list(&|i| format!("[:send :x {i}]"))),
            format!("0 ok send [{}]", list(&|i| format!("[:send :x [{i} {i}]]"))),
        ]
    };
    let polls = |n: i64, polls: &[(&str, &str)]| {
        let mut lines: Vec<String> = sends(n).into();
        for (outcome, places) in polls {
            lines.push("1 invoke txn [[:poll]]".into());
            lines.push(format!("1 {outcome} txn [[:poll {{:x [{places}]}}]]"));
        }
        run(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let again = "[1 1] [2 2]";
    let good = polls(3, &[("ok", "[0 0]"), ("fail", again), ("info", again), ("ok", again)]);
    assert_eq!((good.verdict, names(&good)), (Verdict::Valid, vec![]), "{}", good.reason);
    let fields = ["delta", "skipped", "ops"];
    let first = json!([3, ["1", "2"], [3, 7]]);
    let bad = [("ok", "[0 0]"), ("fail", again), ("fail", "[3 3] [4 4]"), ("ok", "[5 5]")];
    let wanted = [first.clone(), json!([5, ["1", "2", "3", "4"], [3, 9]])];
    assert_eq!(errors(&polls(6, &bad), "poll-skip", &fields), wanted);
    let bad = [("ok", "[0 0]"), ("fail", again), ("info", "[3 3] [4 4]")];
    assert_eq!(errors(&polls(6, &bad), "poll-skip", &fields), [first]);
}

#[test]
fn a_process_must_not_step_back() {
    let with = |between: &[&str]| {
        let mut lines = vec![
            "0 invoke send [[:send :x :a] [:send :x :b] [:send :x :c] [:send :x :d]]",
            "0 ok send [[:send :x :a] [:send :x :b] [:send :x :c] [:send :x :d]]",
            "0 invoke poll [[:poll]]",
            "0 ok poll [[:poll {:x [[1 :a] [2 :b] [3 :c]]}]]",
        ];
        lines.extend(between);
        lines
            .extend(["0 invoke poll [[:poll]]", "0 ok poll [[:poll {:x [[2 :b] [3 :c] [4 :d]]}]]"]);
        run(&lines)
    };
    let fields = ["key", "values", "delta"];
    let wanted = [json!([":x", [":c", ":b"], -1])];
    assert_eq!(errors(&with(&[]), "nonmonotonic-poll", &fields), wanted);
    assert_eq!(with(&[]).verdict, Verdict::Invalid);
    for f in ["subscribe", "assign"] {
        let line = |keys: &str| [format!("0 invoke {f} {keys}"), format!("0 ok {f} {keys}")];
        let [a, b] = line("[:y]");
        assert!(errors(&with(&[&a, &b]), "nonmonotonic-poll", &fields).is_empty());
        let [a, b] = line("[:x :y]");
        let kept = with(&[&a, &b]);
        assert_eq!(errors(&kept, "nonmonotonic-poll", &fields), wanted);
        // Rebalancing may move a subscriber.
        let allowed = if f == "subscribe" { Verdict::Valid } else { Verdict::Invalid };
        assert_eq!(kept.verdict, allowed, "{}", kept.reason);
    }
}

#[test]
fn an_assignment_that_seeks_to_the_beginning_is_no_step_back() {
    let text = "
        {:process 0, :type :invoke, :f :assign, :value [:x], :seek-to-beginning? true}
        {:process 0, :type :ok, :f :assign, :value [:x], :seek-to-beginning? true}";
    let poll = "
        {:process 0, :type :invoke, :f :poll, :value [[:poll]]}
        {:process 0, :type :ok, :f :poll, :value [[:poll {:x [[0 1]]}]]}";
    let send = "
        {:process 1, :type :invoke, :f :send, :value [[:send :x 1]]}
        {:process 1, :type :ok, :f :send, :value [[:send :x [0 1]]]}";
    let verdict = |between: &str| {
        let text = format!("{send}{text}{poll}{between}{poll}");
        let loaded = interop::load_bytes("test.edn", text.as_bytes(), None).unwrap();
        check("kafka", json!({}), &loaded.history).verdict
    };
    assert_eq!(verdict(text), Verdict::Valid);
    assert_eq!(verdict(&text.replace(", :seek-to-beginning? true", "")), Verdict::Invalid);
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
fn polls_of_one_operation_are_contiguous() {
    let result = run(&[
        "1 invoke send [[:send :x :a] [:send :x :b] [:send :x :d]]",
        "1 info send [[:send :x :a] [:send :x :b] [:send :x :d]]",
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x [[1 :a] [4 :d]]}]]",
        "0 invoke poll [[:poll] [:poll]]",
        "0 ok poll [[:poll {:x [[1 :a]]}] [:poll {:x [[4 :d]]}]]",
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x [[2 :b]]}]]",
    ]);
    let wanted =
        [json!([":x", [":a", ":d"], [":b"], 2, [3]]), json!([":x", [":a", ":d"], [":b"], 2, [5]])];
    let fields = ["key", "values", "skipped", "delta", "ops"];
    assert_eq!(errors(&result, "int-poll-skip", &fields), wanted);
    let result = run(&[
        "0 invoke send [[:send :x :a] [:send :x :b] [:send :x :c]]",
        "0 info send [[:send :x :a] [:send :x :b] [:send :x :c]]",
        "1 invoke poll [[:poll]]",
        "1 ok poll [[:poll {:x [[3 :c] [1 :a]]}]]",
        "1 invoke poll [[:poll]]",
        "1 ok poll [[:poll {:x [[2 :b] [3 :c]]}] [:poll {:x [[3 :c]]}]]",
    ]);
    let wanted = [json!([":x", [":c", ":a"], -2, [3]]), json!([":x", [":c", ":c"], 0, [5]])];
    assert_eq!(
        errors(&result, "int-nonmonotonic-poll", &["key", "values", "delta", "ops"]),
        wanted
    );
}

#[test]
fn a_rebalance_excuses_its_keys() {
    let verdict = |keys: &str| {
        let text = format!(
            "{{:process 1, :type :invoke, :f :send, :value [[:send :x 1] [:send :x 2]]}}
             {{:process 1, :type :ok, :f :send, :value [[:send :x [0 1]] [:send :x [1 2]]]}}
             {{:process 0, :type :invoke, :f :poll, :value [[:poll]]}}
             {{:process 0, :type :ok, :f :poll, :value [[:poll {{:x [[0 1] [1 2] [0 1]]}}]], \
               :rebalance-log [{{:keys []}} {{:keys {keys}}}]}}"
        );
        let loaded = interop::load_bytes("test.edn", text.as_bytes(), None).unwrap();
        check("kafka", json!({}), &loaded.history).verdict
    };
    assert_eq!(verdict("[:y :x]"), Verdict::Valid);
    assert_eq!(verdict("[:y]"), Verdict::Invalid);
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

#[test]
fn a_consumer_may_be_held_to_a_bound_of_its_lag() {
    let lines = [
        "0 invoke assign [:x]",
        "0 ok assign [:x]",
        "1 invoke send [[:send :x 1]]",
        "1 ok send [[:send :x [0 1]]]",
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x []}]]",
        "0 invoke poll [[:poll]]",
        "0 ok poll [[:poll {:x [[0 1]]}]]",
    ];
    let result = run(&lines);
    assert_eq!(result.verdict, Verdict::Valid);
    let worst = json!({"time": 4e-9, "process": 0, "key": ":x", "lag": 1e-9});
    assert_eq!(result.details["worst-realtime-lag"], worst);
    let bound = |ms: f64| names(&run_with(json!({"realtime-lag-ms-max": ms}), &lines));
    assert_eq!(bound(0.0), ["stale-consumer"]);
    assert!(bound(1.0).is_empty());
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
