//! `kafka` on histories with known answers about consumers: what they skip, read again, are moved to, and how
//! far behind they are.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod kafka_common;

use common::check;
use fuzz_dist_core::{CheckResult, Verdict, interop};
use kafka_common::{errors, names, run, run_with};
use serde_json::{Value as Json, json};

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
