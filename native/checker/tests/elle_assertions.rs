//! What Elle's own tests assert of its checkers, asserted of ours: verdicts, types of anomalies, and the
//! models that are ruled out (Kingsbury et al., Elle, `test/elle/list_append_test.clj` and
//! `rw_register_test.clj`; the transactions are theirs).
//!
//! A transaction is written as there: `ax1ry12` appends 1 to x and reads y = [1 2]; `wx1ry_` writes x = 1
//! and reads y = nil.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Builder, check, int};
use fuzz_dist_core::{CheckResult, History, OpType, Value, Verdict};
use serde_json::{Value as Json, json};

/// The micro-operations of a transaction.
fn txn(text: &str, lists: bool) -> Value {
    let mut mops: Vec<(char, char, Vec<i64>)> = Vec::new();
    for c in text.chars() {
        match c {
            'a' | 'r' | 'w' => mops.push((c, ' ', Vec::new())),
            'x'..='z' | 't' | 'u' => mops.last_mut().unwrap().1 = c,
            '_' => {}
            digit => mops.last_mut().unwrap().2.push(i64::from(digit.to_digit(10).unwrap())),
        }
    }
    let mop = |(f, key, values): &(char, char, Vec<i64>)| {
        let name = match f {
            'a' => "append",
            'w' => "w",
            _ => "r",
        };
        let value = match (f, lists) {
            ('r', true) => Value::list(values.iter().map(|v| int(*v)).collect::<Vec<_>>()),
            _ => values.first().map_or(Value::Nil, |v| int(*v)),
        };
        Value::list(vec![Value::sym(name), Value::sym(&key.to_string()), value])
    };
    Value::list(mops.iter().map(mop).collect::<Vec<_>>())
}

/// Transactions `[fail|info] text`: all at the same time, each of its own process.
fn together(txns: &[&str], lists: bool) -> History {
    let parts = |text: &str| match text.split_once(' ') {
        Some(("fail", text)) => (OpType::Fail, txn(text, lists)),
        Some(("info", text)) => (OpType::Info, txn(text, lists)),
        _ => (OpType::Ok, txn(text, lists)),
    };
    let mut builder = Builder::default();
    for (process, text) in txns.iter().enumerate() {
        builder.invoke(process as i64, "txn", parts(text).1);
    }
    for (process, text) in txns.iter().enumerate() {
        let (outcome, value) = parts(text);
        builder.push(process as i64, outcome, "txn", value);
    }
    builder.history()
}

/// Transactions `process text`, one after the other.
fn one_by_one(txns: &[&str], lists: bool) -> History {
    let mut builder = Builder::default();
    for text in txns {
        let (process, text) = text.split_once(' ').unwrap();
        let value = txn(text, lists);
        builder.done(process.parse().unwrap(), "txn", value.clone(), value);
    }
    builder.history()
}

fn names(result: &CheckResult, key: &str) -> Vec<String> {
    let names = result.details[key].as_array().unwrap().iter();
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn is(result: &CheckResult, verdict: Verdict, types: &[&str], not: &[&str]) {
    assert_eq!(result.verdict, verdict, "{result:#?}");
    assert_eq!(names(result, "anomaly-types"), types, "{result:#?}");
    assert_eq!(names(result, "not"), not, "{result:#?}");
}

fn model(name: &str) -> Json {
    json!({ "consistency-model": name })
}

/// No model, only these anomalies.
fn only(anomalies: &str) -> Json {
    json!({ "consistency-model": "none", "anomalies": anomalies })
}

const VALID: Verdict = Verdict::Valid;
const INVALID: Verdict = Verdict::Invalid;
const UNKNOWN: Verdict = Verdict::Unknown;
const EMPTY: &str = "empty-transaction-graph";
const RU: &[&str] = &["read-uncommitted"];
const RC: &[&str] = &["read-committed"];

#[track_caller]
fn lists(options: Json, history: &History) -> CheckResult {
    check("list-append", options, history)
}

#[test]
fn cycles_of_writes_and_reads() {
    let h = together(&["ax1ay1", "ax2ay2", "rx12ry21"], true);
    is(&lists(only("G0"), &h), INVALID, &["G0"], RU);
    is(&lists(only("G1"), &h), INVALID, &["G0"], RU);
    is(&lists(only("G2"), &h), VALID, &[], &[]);

    let h = together(&["ax1ry1", "ax2ay1", "rx12ry1"], true);
    is(&lists(only("G0"), &h), VALID, &[], &[]);
    is(&lists(only("G1"), &h), INVALID, &["G1c"], RC);
    is(&lists(only("G2"), &h), VALID, &[], &[]);

    let h = together(&["ax1ay1", "ax2ry", "rx12"], true);
    let not = &["consistent-view", "repeatable-read"];
    is(&lists(only("G0"), &h), VALID, &[], &[]);
    is(&lists(only("G1"), &h), VALID, &[], &[]);
    is(&lists(only("G-single"), &h), INVALID, &["G-single-item"], not);
    is(&lists(only("G2"), &h), INVALID, &["G-single-item"], not);

    let h = together(&["ax1ry", "ay1rx"], true);
    for options in [only("G0"), only("G1"), model("read-committed")] {
        is(&lists(options, &h), VALID, &[], &[]);
    }
    for options in [only("G2"), model("serializable"), model("repeatable-read")] {
        is(&lists(options, &h), INVALID, &["G2-item"], &["repeatable-read"]);
    }
}

#[test]
fn aborted_and_intermediate_reads() {
    let h = together(&["fail ax1", "rx1"], true);
    is(&lists(model("read-uncommitted"), &h), UNKNOWN, &[EMPTY], RC);
    is(&lists(model("read-committed"), &h), INVALID, &["G1a", EMPTY], RC);
    is(&lists(only("G2"), &h), UNKNOWN, &[EMPTY], RC);
    is(&lists(model("repeatable-read"), &h), INVALID, &["G1a", EMPTY], RC);

    let h = one_by_one(&["0 ax1ax2", "0 rx1"], true);
    is(&lists(only("G0"), &h), VALID, &[], &[]);
    is(&lists(only("G1"), &h), INVALID, &["G1b"], RC);
    is(&lists(only("G2"), &h), INVALID, &["G-single-item"], RC);
    is(&lists(model("strict-serializable"), &h), INVALID, &["G-single-item", "G1b"], RC);
    // What a transaction sees of its own is no intermediate state.
    let h = together(&["ax1rx1ax2", "rx12"], true);
    is(&lists(json!({}), &h), VALID, &[], &[]);
}

#[test]
fn sessions_and_time() {
    let h = one_by_one(&["0 ax1", "1 ax2", "2 rx1", "3 rx12"], true);
    is(&lists(only("G2"), &h), VALID, &[], &[]);
    is(&lists(model("serializable"), &h), VALID, &[], &[]);
    let not = &["strong-snapshot-isolation"];
    let strict = lists(model("strict-serializable"), &h);
    is(&strict, INVALID, &["G-single-item-realtime"], not);

    let h = one_by_one(&["0 ax1", "1 ax2", "1 rx1", "2 rx12"], true);
    is(&lists(model("serializable"), &h), VALID, &[], &[]);
    let not = &["strong-session-snapshot-isolation"];
    let session = lists(model("strong-session-snapshot-isolation"), &h);
    is(&session, INVALID, &["G-single-item-process"], not);

    let h = one_by_one(&["0 rxrz1", "1 ax1", "1 rz", "2 az1"], true);
    is(&lists(model("serializable"), &h), VALID, &[], &[]);
    let session = lists(model("strong-session-snapshot-isolation"), &h);
    is(&session, INVALID, &["G-nonadjacent-item-process"], not);

    // What only a session must not see is forbidden beside what real time forbids.
    let h = one_by_one(&["0 rxay1", "1 ax1", "1 rz", "2 az1ry"], true);
    let session = lists(model("strong-session-serializable"), &h);
    is(&session, INVALID, &["G2-item-process"], &["strong-session-serializable"]);
    let both = lists(model("strong-session-serializable,strong-snapshot-isolation"), &h);
    assert_eq!(both.verdict, INVALID, "{both:#?}");
    let both =
        json!({ "consistency-model": "strong-snapshot-isolation", "anomalies": "G2-process" });
    assert_eq!(lists(both, &h).verdict, INVALID);

    let h = one_by_one(&["1 rx1ay1", "2 ry1", "2 ax1"], true);
    let session = lists(model("strong-session-snapshot-isolation"), &h);
    is(&session, INVALID, &["G1c-process"], &["strong-session-read-committed"]);
}

#[test]
fn orders_that_contradict_themselves() {
    let h = together(&["ax1ry1", "ax2", "ax3ay1", "rx13", "rx123"], true);
    is(&lists(only("G1"), &h), INVALID, &["G1c", "incompatible-order"], RC);
    let h = together(&["ax1ry1", "ax2ay1", "rx121"], true);
    is(&lists(model("read-committed"), &h), INVALID, &["G1c", "duplicate-elements"], RU);
    let h = together(&["ax1ay1", "ax2ay2", "ax3ay3", "rx12", "ry2"], true);
    is(&lists(model("serializable"), &h), INVALID, &["G-single-item", "G0"], RU);
}

#[test]
fn dirty_updates() {
    is(&lists(only("dirty-update"), &together(&["fail ax1"], true)), UNKNOWN, &[EMPTY], &[]);
    let h = together(&["fail ax1", "ax2", "rx12"], true);
    is(&lists(only("dirty-update"), &h), INVALID, &["dirty-update"], RC);
    let h = together(&["fail ax1", "info ax2", "ax3", "rx123"], true);
    is(&lists(only("dirty-update"), &h), INVALID, &["dirty-update"], RC);
}

#[test]
fn inside_one_transaction() {
    let internal = |text: &str| {
        let result = lists(only("internal"), &together(&[text], true));
        names(&result, "anomaly-types").contains(&"internal".to_owned())
    };
    for good in ["ry56ax3rx123ax4rx1234", "rx12rx12", "ax3rx123"] {
        assert!(!internal(good), "{good}");
    }
    for bad in [
        "rxrx2",
        "rx12ax3rx12",
        "rx12ax3rx023",
        "rx12ax3rx1234",
        "rx12ax3rx1",
        "ax3rx1234",
        "ax3rx",
        "ax6rx",
    ] {
        assert!(internal(bad), "{bad}");
    }
    for future in ["rx012ax1", "ax1rx01ax0ax3", "rx1ax1"] {
        let result = lists(model("read-committed"), &together(&[future], true));
        assert_eq!((result.verdict, names(&result, "not")), (INVALID, vec![RC[0].to_owned()]));
        assert!(names(&result, "anomaly-types").contains(&"future-read".to_owned()), "{future}");
    }
    // There is a G0 here too, which nobody asked for.
    let h = together(&["ax1ax2ax4", "ax3rx1234"], true);
    is(&lists(only("internal"), &h), INVALID, &["internal"], RU);
}

#[test]
fn what_is_not_known_orders_nothing() {
    // The nil that a crashed transaction was to read says nothing of what it saw.
    let h = together(&["info ax2ry", "ax1ay1", "rx12ry1"], true);
    is(&lists(json!({}), &h), VALID, &[], &[]);
    for txns in [&["ax1"][..], &["rx"], &[]] {
        is(&lists(json!({}), &together(txns, true)), UNKNOWN, &[EMPTY], &[]);
    }
    // One append orders itself; of several it is known that they came after nil.
    for txns in [&["rx", "ax1"][..], &["rx", "ax1", "ax2"]] {
        let result = lists(json!({}), &together(txns, true));
        is(&result, VALID, &[], &[]);
        assert_eq!(result.counts["dependencies"] as usize, txns.len() - 1);
    }
    let result = lists(json!({}), &together(&["ax1ry", "ay2ax1"], true));
    assert_eq!(result.verdict, UNKNOWN);
    assert!(result.reason.contains("both write 1 to :x"), "{}", result.reason);
}

#[test]
fn anti_dependencies_of_items() {
    let h = one_by_one(&["0 ax1", "0 rx1ry", "0 ay1", "0 ry1rx"], true);
    let not = &["repeatable-read", "snapshot-isolation"];
    is(&lists(json!({}), &h), INVALID, &["G-nonadjacent-item"], not);
    let h = one_by_one(&["0 rx5ay1", "0 ryaz2", "0 rzat3", "0 rt3au4", "0 ruax5"], true);
    is(&lists(model("snapshot-isolation"), &h), VALID, &[], &[]);
    let h = one_by_one(&["0 ax1at1", "0 rx1ry", "0 ay1az2", "0 rz2rt"], true);
    is(&lists(model("repeatable-read"), &h), INVALID, &["G-nonadjacent-item"], not);
    let h = one_by_one(&["0 ax1ay1", "0 rx1ry"], true);
    let not = &["consistent-view", "repeatable-read"];
    is(&lists(model("repeatable-read"), &h), INVALID, &["G-single-item"], not);

    let h = one_by_one(&["0 ax0", "0 rx0ax1", "1 rx0ax2"], true);
    let not = &["cursor-stability", "update-atomic"];
    is(&lists(model("serializable"), &h), INVALID, &["G2-item", "lost-update"], not);
    let h = one_by_one(&["0 rxax1ax2", "0 rx12"], true);
    is(&lists(json!({}), &h), VALID, &[], &[]);
}

#[track_caller]
fn registers(mut options: Json, assumption: &str, history: &History) -> CheckResult {
    if !assumption.is_empty() {
        options[assumption] = json!(true);
    }
    // Elle says nothing of values that nobody wrote, and its tests have many.
    options["garbage-reads"] = json!("allow");
    check("rw-register", options, history)
}

#[test]
fn registers_and_their_assumptions() {
    let strict = || model("strict-serializable");
    let h = one_by_one(&["0 wx1", "0 rx2"], false);
    is(&registers(strict(), "linearizable-keys", &h), VALID, &[], &[]);
    let h = one_by_one(&["0 wx1", "0 rx2", "0 rx1"], false);
    let result = registers(strict(), "linearizable-keys", &h);
    is(&result, INVALID, &["cyclic-versions"], RU);
    let h = one_by_one(&["0 wx1", "0 wx2", "0 rx1"], false);
    is(&registers(json!({}), "sequential-keys", &h), INVALID, &["cyclic-versions"], RU);

    let h = together(&["wx1wy2", "wx2wy1"], false);
    is(&registers(only("G0"), "", &h), UNKNOWN, &[EMPTY], &[]);
    let h = one_by_one(&["0 wx1wy2", "1 wx2wy1", "0 rx2", "1 ry2"], false);
    is(&registers(only("G0"), "sequential-keys", &h), INVALID, &["G0"], RU);

    let mut builder = Builder::default();
    builder.done(0, "txn", txn("rx1ry1", false), txn("rx1ry1", false));
    builder.invoke(1, "txn", txn("rx1wy2", false));
    builder.done(2, "txn", txn("ry1wx2", false), txn("ry1wx2", false));
    builder.ok(1, "txn", txn("rx1wy2", false));
    let h = builder.history();
    is(&registers(model("read-committed"), "linearizable-keys", &h), VALID, &[], &[]);
    let result = registers(only("G2"), "linearizable-keys", &h);
    is(&result, INVALID, &["G2-item"], &["repeatable-read"]);

    let h = together(&["ry1wx1wy2", "rx1ry1"], false);
    let not = &["consistent-view", "repeatable-read"];
    is(&registers(model("serializable"), "", &h), VALID, &[], &[]);
    is(&registers(model("serializable"), "wfr-keys", &h), INVALID, &["G-single-item"], not);

    let h = together(&["rx_ry1", "wy1wx2"], false);
    is(&registers(model("serializable"), "", &h), INVALID, &["G-single-item"], not);
}

#[test]
fn registers_without_cycles() {
    let h = together(&["rx1", "fail wx1"], false);
    is(&registers(only("G1"), "", &h), INVALID, &["G1a", EMPTY], RC);
    let h = together(&["rx1", "wx1wx2"], false);
    is(&registers(only("G0"), "", &h), UNKNOWN, &[EMPTY], RC);
    is(&registers(only("G1"), "", &h), INVALID, &["G1b", EMPTY], RC);
    let h = together(&["rx1rx2"], false);
    let result = registers(only("internal"), "", &h);
    is(&result, INVALID, &[EMPTY, "internal"], &["read-atomic"]);
    for (text, bad) in [("ry2wx2rx2wx1rx1", false), ("rx1wx2rx1", true), ("rx_rx2", true)] {
        let result = registers(only("internal"), "", &together(&[text], false));
        assert_eq!(result.verdict == INVALID, bad, "{text}: {result:#?}");
    }
    let h = one_by_one(&["0 rx0wx1", "1 rx0wx2"], false);
    let not = &["cursor-stability", "update-atomic"];
    is(&registers(json!({}), "", &h), INVALID, &["lost-update"], not);
    // A chain through registers, back to where it began; and write skew, whose order nobody knows.
    for txns in [["rx0wx1", "rx1wx0"], ["rx0wy1", "ry1wx0"]] {
        is(&registers(only("G1c"), "", &together(&txns, false)), INVALID, &["G1c"], RC);
    }
    let h = together(&["rx0ry0wx1", "rx0ry0wy1"], false);
    assert_ne!(registers(model("serializable"), "", &h).verdict, INVALID);
}

#[test]
fn registers_with_several_assumptions() {
    let h = one_by_one(&["0 rx1", "0 rx_", "0 rx4wx3", "0 wx4"], false);
    let options = json!({ "wfr-keys": true, "linearizable-keys": true });
    is(&registers(options, "", &h), INVALID, &["G1c-realtime", "cyclic-versions"], RU);
    let mut builder = Builder::default();
    builder.invoke(0, "txn", txn("rx_", false));
    builder.invoke(1, "txn", txn("wx4", false));
    builder.ok(0, "txn", txn("rx_", false));
    builder.ok(1, "txn", txn("wx4", false));
    builder.done(0, "txn", txn("", false), txn("", false));
    builder.done(0, "txn", txn("rx_", false), txn("rx4", false));
    let h = builder.history();
    is(&registers(model("serializable"), "linearizable-keys", &h), VALID, &[], &[]);
}
