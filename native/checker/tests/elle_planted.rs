//! Anomalies of every name, planted in the middle of a long history that has none.
//!
//! Each is small and holds nothing worse than its name; the long history is strictly serializable by
//! construction. What is found must be exactly what was planted.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Builder, Random, check, int, spec};
use fuzz_dist_checker::{Budget, build};
use fuzz_dist_core::interop::{add_invocations, read_records};
use fuzz_dist_core::{History, Op, Process, Value, Verdict};
use serde_json::{Value as Json, json};

/// How many transactions surround what is planted: `FUZZ_DIST_PLANTED_SIZE`, else a few thousand.
fn size() -> usize {
    std::env::var("FUZZ_DIST_PLANTED_SIZE").ok().and_then(|text| text.parse().ok()).unwrap_or(3_000)
}

/// Transactions of eight processes on a store that applies each at once when it completes.
fn valid(txn_count: usize, lists: bool) -> Vec<Op> {
    let mut random = Random(11);
    let mut builder = Builder::default();
    let mut state: Vec<Vec<Value>> = vec![Vec::new()];
    let mut open: Vec<Option<Vec<bool>>> = vec![None; 8];
    let (mut begun, mut done) = (0, 0);
    while done < txn_count {
        let process = random.below(8);
        if let Some(shape) = open[process].take() {
            let mut mops = Vec::new();
            for write in shape {
                let first_key = state.len().saturating_sub(5);
                let key = first_key + random.below(state.len() - first_key);
                let name = int(key as i64);
                if write {
                    let value = int(state[key].len() as i64 + 1);
                    state[key].push(value.clone());
                    let f = Value::sym(if lists { "append" } else { "w" });
                    mops.push(Value::list(vec![f, name, value]));
                } else {
                    let value = match lists {
                        true => Value::list(state[key].clone()),
                        false => state[key].last().cloned().unwrap_or_default(),
                    };
                    mops.push(Value::list(vec![Value::sym("r"), name, value]));
                }
                if state[key].len() >= 20 {
                    state.push(Vec::new());
                }
            }
            builder.ok(process as i64, "txn", Value::list(mops));
            done += 1;
        } else if begun < txn_count {
            begun += 1;
            open[process] = Some((0..1 + random.below(3)).map(|_| random.chance(50)).collect());
            builder.invoke(process as i64, "txn", Value::Nil);
        }
    }
    // An invocation says what is asked; which key that is was drawn at completion.
    builder.ops
}

/// The planted records: `process type [mops]`, one a line; processes and keys are no one else's.
fn planted(text: &str) -> Vec<Op> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let edn: Vec<String> = lines
        .map(|line| {
            let mut parts = line.splitn(3, ' ');
            let (process, op_type) = (parts.next().unwrap(), parts.next().unwrap());
            let value = parts.next().unwrap();
            format!("{{:process {process} :type :{op_type} :f :txn :value {value}}}")
        })
        .collect();
    let mut ops =
        add_invocations(read_records("planted", edn.join("\n").as_bytes(), None).unwrap());
    for op in &mut ops {
        op.process = Process::Client(op.process.client().unwrap() + 1_000);
    }
    ops
}

fn around(text: &str, lists: bool) -> History {
    let mut ops = valid(size(), lists);
    // Where the order of time is drawn, an invocation must be what it becomes: fill it in.
    let history = History::new(ops.clone()).unwrap();
    for (position, op) in ops.iter_mut().enumerate() {
        if let Some(done) = history.completion(position).filter(|done| done.index > position as u64)
        {
            op.value = done.value.clone();
        }
    }
    let middle = ops.len() / 2;
    ops.splice(middle..middle, planted(text));
    History::new(ops).unwrap()
}

fn expect(checker: &str, name: &str, mut options: Json, text: &str, not: &[&str]) {
    let lists = checker == "list-append";
    options["anomalies"] = json!(options.get("anomalies").and_then(Json::as_str).unwrap_or("none"));
    let history = around(text, lists);
    let result = check(checker, options, &history);
    assert_eq!(result.verdict, Verdict::Invalid, "{name}: {}", result.reason);
    assert_eq!(result.details["anomaly-types"], json!([name]), "{name}: {result:#?}");
    assert_eq!(result.details["not"], json!(not), "{name}");
    let anomaly = &result.anomalies[0];
    assert_eq!(anomaly.name, name);
    assert!(!anomaly.ops.is_empty() && !anomaly.text.is_empty(), "{name}: {anomaly:?}");
    for op in &anomaly.ops {
        let process = history.ops()[*op as usize].process.client().unwrap();
        assert!(process >= 1_000, "{name} is shown by records that were not planted: {anomaly:?}");
    }
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
        let ops = valid(size(), checker == "list-append");
        let mut filled = ops.clone();
        let history = History::new(ops).unwrap();
        for (position, op) in filled.iter_mut().enumerate() {
            if let Some(done) = history.completion(position).filter(|d| d.index > position as u64) {
                op.value = done.value.clone();
            }
        }
        let result = check(checker, options, &History::new(filled).unwrap());
        assert_eq!(result.verdict, Verdict::Valid, "{checker}: {}", result.reason);
        assert!(result.counts["dependencies"] > size() as u64 / 4, "{:?}", result.counts);
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

#[test]
fn every_anomaly_of_registers_is_found_by_its_name() {
    let cases: Vec<(&str, Json, &str, &[&str])> = vec![
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
    ];
    for (name, options, text, not) in cases {
        expect("rw-register", name, options, text, not);
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
