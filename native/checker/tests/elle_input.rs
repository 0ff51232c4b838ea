//! What odd histories and options do to `list-append` and `rw-register`: each has the meaning that Elle gives
//! it, or is refused with its place and the reason.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod elle_common;

use std::time::Instant;

use common::{check, spec};
use elle_common::planted;
use fuzz_dist_checker::build;
use fuzz_dist_checker::elle::models::Lattice;
use fuzz_dist_core::{CheckResult, History, Verdict};
use serde_json::{Value as Json, json};

fn verdict(checker: &str, options: Json, text: &str) -> CheckResult {
    check(checker, options, &History::new(planted(text)).unwrap())
}

#[track_caller]
fn expect(checker: &str, options: Json, text: &str, wanted: Verdict, types: &[&str]) {
    let result = verdict(checker, options, text);
    assert_eq!(result.verdict, wanted, "{text}: {result:#?}");
    assert_eq!(result.details["anomaly-types"], json!(types), "{text}: {result:#?}");
}

#[test]
fn keys_and_values_may_be_anything() {
    for (key, a, b) in [
        (":x", ":a", ":b"),
        ("\"x\"", "\"1\"", "\"2\""),
        ("[1 :x]", "[1]", "[1 2]"),
        ("1.5", "18446744073709551616", "-3"),
        ("nil", "{:n 1}", "#{1}"),
        ("true", "nil", "false"),
    ] {
        let skew = format!(
            "0 ok [[:append {key} {a}] [:append :other 1]]
             1 ok [[:append {key} {b}]]
             2 ok [[:r {key} [{a} {b}]] [:r :other []]]"
        );
        expect("list-append", json!({}), &skew, Verdict::Invalid, &["G-single-item"]);
    }
    // An integer, a float and a text that look alike are different values.
    let alike = "0 ok [[:append :x 1]]\n1 ok [[:append :x \"1\"]]\n2 ok [[:r :x [1 \"1\"]]]";
    expect("list-append", json!({}), alike, Verdict::Valid, &[]);
    let registers = "0 ok [[:w \"k\" \"a\"] [:r [2] :b]]\n1 ok [[:w [2] :b] [:r \"k\" \"a\"]]";
    expect("rw-register", json!({}), registers, Verdict::Invalid, &["G1c"]);
}

#[test]
fn nil_in_a_register_is_its_initial_state() {
    let sequential = || json!({"sequential-keys": true, "consistency-model": "serializable"});
    // Nobody reads nil, so the write of it is a version like any other.
    let unread = "0 ok [[:w :x 1]]\n0 ok [[:w :x nil]]\n1 ok [[:r :x 1]]";
    expect("rw-register", sequential(), unread, Verdict::Valid, &[]);
    let failed = "0 fail [[:w :x nil]]\n1 ok [[:r :x nil]]\n2 ok [[:w :x 1]]";
    expect("rw-register", sequential(), failed, Verdict::Valid, &[]);
    let read = "0 ok [[:w :x 1]]\n0 ok [[:w :x nil]]\n1 ok [[:r :x nil]]";
    let result = verdict("rw-register", sequential(), read);
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains("writes nil to :x"), "{}", result.reason);
}

#[test]
fn outcomes_that_are_not_known_are_not_held_against_anyone() {
    // What an unfinished or crashed transaction says it read is not believed.
    for text in [
        "0 info [[:append :x 1] [:r :y [7 8]]]\n1 ok [[:r :x []]]",
        "0 invoke [[:append :x 1] [:r :y nil]]\n1 ok [[:r :x []]]",
        "0 info nil\n1 ok [[:append :x 1]]\n2 ok [[:r :x [1]]]",
    ] {
        expect("list-append", json!({}), text, Verdict::Valid, &[]);
    }
    // Its append may take effect at any time, also after everything, or never.
    let late =
        "0 info [[:append :x 1]]\n1 ok [[:r :x []]]\n1 ok [[:r :x [1]]]\n2 ok [[:append :x 2]]";
    expect("list-append", json!({}), late, Verdict::Valid, &[]);
    // Once it was seen it happened.
    let torn = "0 info [[:append :x 1] [:append :y 1]]\n1 ok [[:r :x [1]] [:r :y []]]";
    expect("list-append", json!({}), torn, Verdict::Invalid, &["G-single-item"]);
    // A failed one did not, and its value may be used again.
    let again = "0 fail [[:append :x 1]]\n1 ok [[:append :x 1]]\n2 ok [[:r :x [1]]]";
    expect("list-append", json!({}), again, Verdict::Valid, &[]);
    // An ok completion without a value says nothing.
    let silent = "0 ok nil\n1 ok [[:append :x 1]]\n2 ok [[:r :x [1]] [:r :y]]";
    expect("list-append", json!({}), silent, Verdict::Valid, &[]);
}

#[test]
fn what_is_no_transaction_is_refused() {
    for (checker, text, wanted) in [
        (
            "list-append",
            "0 ok [[:append :x 1]]\n1 ok [[:append :x 1]]",
            "records 2 and 3 both write 1 to :x",
        ),
        ("list-append", "0 ok [[:append :x 1] [:append :x 1]]", "both write 1 to :x"),
        (
            "list-append",
            "0 ok [[:cas :x [1 2]]]",
            "[:cas :x [1 2]] is not [:r key value] or [:append",
        ),
        ("list-append", "0 ok [[:w :x 1]]", "the checker for such histories is rw-register"),
        ("rw-register", "0 ok [[:append :x 1]]", "the checker for such histories is list-append"),
        ("rw-register", "0 ok [:w :x 1]", "is not [:r key value] or [:w key value]"),
        ("rw-register", "0 ok {:a 1}", "is no transaction"),
        (
            "rw-register",
            "0 ok [[:w :x 1]]\n1 ok [[:w :x 1]]\n2 ok [[:r :x 1]]",
            "both write 1 to :x",
        ),
    ] {
        let result = verdict(checker, json!({}), text);
        assert_eq!(result.verdict, Verdict::Unknown, "{text}: {result:#?}");
        assert!(result.reason.contains(wanted), "{text}: {}", result.reason);
    }
}

#[test]
fn transactions_may_be_huge() {
    let count = 20_000;
    let appends: Vec<String> = (0..count).map(|n| format!("[:append :x {n}]")).collect();
    let list: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    let text = format!(
        "0 ok [{} [:r :x [{}]]]\n1 ok [[:append :y 1] [:r :x []]]\n2 ok [[:r :x [{}]] [:r :y []]]",
        appends.join(" "),
        list.join(" "),
        list.join(" ")
    );
    let start = Instant::now();
    let result = verdict("list-append", json!({"consistency-model": "serializable"}), &text);
    assert_eq!(result.verdict, Verdict::Invalid, "{}", result.reason);
    assert!(result.anomalies[0].text.len() < 2_000, "{}", result.anomalies[0].text);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// A ring of a thousand writes closed by one read, in a sea of cycles with two: Elle gives up on this one.
#[test]
fn one_cycle_is_found_among_many_others() {
    let count = 400;
    let mut lines = Vec::new();
    for n in 0..count {
        let other = match n {
            0 => "[:append :anti 0]".to_owned(),
            _ if n == count - 1 => "[:r :anti []]".to_owned(),
            _ => format!("[:append {n} 0]"),
        };
        lines.push(format!("{n} ok [[:append :ring {n}] {other}]"));
    }
    let ring: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    lines.push(format!("{count} ok [[:r :ring [{}]]]", ring.join(" ")));
    // From each of the ring a chain leads off, and by two anti-dependencies back to the start.
    for n in 1..count - 1 {
        let p = count + 3 * n;
        lines.push(format!("{p} ok [[:r {n} [0]] [:r :back-{n} []]]"));
        lines.push(format!("{} ok [[:append :back-{n} 1] [:r :start-{n} []]]", p + 1));
        lines.push(format!("{} ok [[:append :start-{n} 1] [:r :ring []]]", p + 2));
    }
    let start = Instant::now();
    let result =
        verdict("list-append", json!({"consistency-model": "serializable"}), &lines.join("\n"));
    assert_eq!(result.verdict, Verdict::Invalid);
    let types = result.details["anomaly-types"].as_array().unwrap();
    assert!(types.contains(&json!("G-single-item")), "{types:?}");
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    let long = result.anomalies.iter().find(|anomaly| anomaly.name == "G-single-item").unwrap();
    assert!(long.text.lines().count() <= 24, "{}", long.text);
    for (edge, next) in long.edges.iter().zip(long.edges.iter().cycle().skip(1)) {
        assert_eq!(edge.to, next.from);
    }
}

#[test]
fn every_name_of_elle_is_an_option() {
    let skew = "0 ok [[:append :x 1] [:r :y []]]\n1 ok [[:append :y 1] [:r :x []]]";
    let lattice = Lattice::new();
    for name in lattice.anomaly_names() {
        let options = json!({"consistency-model": "none", "anomalies": name});
        let result = verdict("list-append", options, skew);
        // The only anomaly there is, G2-item, shows these and nothing else.
        let wanted = match name {
            "G2-item" | "G2" | "G2-item-process" | "G2-item-realtime" | "G2-process"
            | "G2-realtime" => Verdict::Invalid,
            _ => Verdict::Valid,
        };
        assert_eq!(result.verdict, wanted, "{name}: {}", result.reason);
    }
    for name in lattice.model_names() {
        let result = verdict("list-append", json!({"consistency-model": name}), skew);
        let is_stronger = result.verdict == Verdict::Invalid;
        let models = [
            "repeatable-read",
            "PL-2.99",
            "serializable",
            "conflict-serializable",
            "PL-3",
            "strict-serializable",
            "strong-serializable",
            "PL-SS",
            "strong-session-serializable",
        ];
        assert_eq!(is_stronger, models.contains(&name), "{name}: {}", result.reason);
    }
    for needed in
        ["G0", "G1", "G1a", "G1b", "G1c", "G-single", "G-nonadjacent", "G2", "lost-update"]
    {
        assert_eq!(lattice.anomaly(needed), Some(needed));
    }
    let lists = [
        json!({"consistency-model": ["none"], "anomalies": ["G1a", ":G2"]}),
        json!({"consistency-models": "none", "anomalies": "G1a, G2"}),
        json!({"consistency-model": "read-committed,repeatable-read"}),
        json!({"anomalies": "G1a"}),
    ];
    for options in lists {
        assert_eq!(verdict("list-append", options, skew).verdict, Verdict::Invalid);
    }
    for (options, wanted) in [
        (json!({"anomalies": "G-singel"}), "did you mean \"G-single\""),
        (json!({"anomalies": "lost-updates"}), "did you mean \"lost-update\""),
        (json!({"consistency-model": "snapshot"}), "snapshot-isolation"),
        (json!({"anomalies": 7}), "names, separated by commas"),
    ] {
        let error = build(&spec("list-append", options)).err().unwrap().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

/// Formats of sessions have records in some order, which is nobody's.
#[test]
fn without_real_time_only_sessions_count() {
    // In real time the read comes after the append that it misses.
    let stale = "0 invoke [[:append :x 1]]
        0 ok [[:append :x 1]]
        1 invoke [[:append :x 2]]
        1 ok [[:append :x 2]]
        1 invoke [[:r :x nil]]
        1 ok [[:r :x [1 2]]]
        2 invoke [[:r :x nil]]
        2 ok [[:r :x [1]]]";
    let timed = History::new(planted(stale)).unwrap();
    let in_sessions = || History::new(planted(stale)).unwrap().without_real_time();
    assert_eq!(check("list-append", json!({}), &timed).verdict, Verdict::Invalid);
    let strict = check("list-append", json!({}), &in_sessions());
    assert_eq!(strict.verdict, Verdict::Unknown, "{strict:#?}");
    assert!(strict.reason.contains("strong-session-serializable"), "{}", strict.reason);
    let sessions = json!({"consistency-model": "strong-session-serializable"});
    assert_eq!(check("list-append", sessions, &in_sessions()).verdict, Verdict::Valid);
    // What contradicts a session contradicts real time as well.
    let backwards = "0 ok [[:append :x 1]]\n1 ok [[:r :x [1]]]\n1 ok [[:r :x []]]";
    let backwards = History::new(planted(backwards)).unwrap().without_real_time();
    assert_eq!(check("list-append", json!({}), &backwards).verdict, Verdict::Invalid);
}
