//! Values that only the completion tells, and values of which invocation and completion tell two.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::check;
use fuzz_dist_core::Verdict;
use fuzz_dist_core::interop::load_bytes;
use serde_json::{Value as Json, json};

/// Functions whose value is an argument, with a read that shows what they did: checker, options,
/// function, how the read is written of the value 5, and of nothing.
fn argument_functions() -> Vec<(&'static str, Json, &'static str, &'static str)> {
    let model = |name: &str| json!({"model": name});
    vec![
        ("linearizable", model("register"), "write", ":read"),
        ("linearizable", model("fifo-queue"), "enqueue", ":dequeue"),
        ("linearizable", model("unordered-queue"), "enqueue", ":dequeue"),
        ("linearizable", model("stack"), "push", ":pop"),
        ("linearizable", model("priority-queue"), "insert", ":delete-min"),
        ("linearizable", model("set"), "add", "#{:read"),
        ("queue", json!({}), "enqueue", ":dequeue"),
        ("total-queue", json!({}), "enqueue", "[:drain"),
        ("set", json!({}), "add", "#{:read"),
        ("set-full", json!({}), "add", "#{:read"),
        ("counter", json!({}), "add", ":read"),
    ]
}

fn verdict(checker: &str, options: &Json, f: &str, read: &str, values: [&str; 3]) -> Verdict {
    let [asked, told, seen] = values;
    let (name, seen) = match read {
        "#{:read" => ("read", format!("#{{{seen}}}")),
        "[:drain" => ("drain", format!("[{seen}]")),
        read => (&read[1..], seen.to_owned()),
    };
    let text = format!(
        "{{:process 0 :type :invoke :f :{f} :value {asked}}}\n{{:process 0 :type :ok :f :{f} :value {told}}}\n\
         {{:process 0 :type :invoke :f :{name}}}\n{{:process 0 :type :ok :f :{name} :value {seen}}}\n"
    );
    let history = load_bytes("h", text.as_bytes(), None).unwrap().history;
    let result = check(checker, options.clone(), &history);
    if asked != "nil" && told != "nil" && asked != told {
        assert!(result.reason.contains("must be the same"), "{checker} {f}: {}", result.reason);
    }
    result.verdict
}

#[test]
fn the_completion_tells_what_the_invocation_does_not() {
    for (checker, options, f, read) in argument_functions() {
        let verdict = |values| verdict(checker, &options, f, read, values);
        let place = format!("{checker} {options} {f}");
        assert_eq!(verdict(["nil", "5", "5"]), Verdict::Valid, "{place}");
        assert_eq!(verdict(["5", "nil", "5"]), Verdict::Valid, "{place}");
        assert_eq!(verdict(["5", "5", "5"]), Verdict::Valid, "{place}");
        assert_eq!(verdict(["nil", "5", "4"]), Verdict::Invalid, "{place}");
        assert_eq!(verdict(["5", "5", "4"]), Verdict::Invalid, "{place}");
    }
}

#[test]
fn two_arguments_of_one_operation_are_not_judged() {
    for (checker, options, f, read) in argument_functions() {
        for seen in ["4", "5"] {
            let found = verdict(checker, &options, f, read, ["5", "4", seen]);
            assert_eq!(found, Verdict::Unknown, "{checker} {options} {f}");
        }
    }
}

#[test]
fn keyed_writes_may_complete_with_the_bare_value() {
    let history = |done: &str, seen: i64| {
        let text = format!(
            "{{:process 0 :type :invoke :f :write :value [:k 5]}}\n{{:process 0 :type :ok :f :write :value {done}}}\n\
             {{:process 0 :type :invoke :f :read :value [:k nil]}}\n\
             {{:process 0 :type :ok :f :read :value [:k {seen}]}}\n"
        );
        load_bytes("h", text.as_bytes(), None).unwrap().history
    };
    let options = json!({"model": "register", "independent": true});
    for (done, seen, verdict) in [
        ("[:k 5]", 5, Verdict::Valid),
        ("5", 5, Verdict::Valid),
        ("nil", 5, Verdict::Valid),
        ("[:k 5]", 4, Verdict::Invalid),
        ("[:k 4]", 4, Verdict::Unknown),
        ("[:other 5]", 5, Verdict::Unknown),
    ] {
        let found = check("linearizable", options.clone(), &history(done, seen)).verdict;
        assert_eq!(found, verdict, "{done} {seen}");
    }
}
