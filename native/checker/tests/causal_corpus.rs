//! Histories of other tools with their verdicts: `FUZZ_DIST_HISTORIES` names a folder with a `MANIFEST.tsv`.
//!
//! AWDIT's text format (`r key value`, transactions between lines of dashes, sessions between lines of equals
//! signs) and dbcop's (`[x:=1 y==2]`), each read here as the rules of its tool say.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Builder, check, int};
use fuzz_dist_core::{History, Value, Verdict};
use serde_json::json;

type Sessions = Vec<Vec<Vec<Value>>>;

fn mop(f: &str, key: Value, value: i64) -> Value {
    Value::list(vec![Value::sym(f), key, int(value)])
}

fn awdit(text: &str) -> Sessions {
    let session = |text: &str| {
        let txns = text.split('-').filter(|txn| !txn.trim().is_empty());
        txns.map(|txn| {
            let lines = txn.lines().filter(|line| !line.trim().is_empty());
            lines
                .map(|line| {
                    let parts: Vec<&str> = line.split_whitespace().collect();
                    mop(parts[0], int(parts[1].parse().unwrap()), parts[2].parse().unwrap())
                })
                .collect()
        })
        .collect()
    };
    text.split('=').filter(|text| !text.trim().is_empty()).map(session).collect()
}

fn dbcop(text: &str) -> Sessions {
    let txn = |line: &str| {
        let inner = line.trim().trim_start_matches('[').trim_end_matches(']');
        inner
            .split_whitespace()
            .map(|event| {
                let (f, at) = match event.find(":=") {
                    Some(at) => ("w", at),
                    None => ("r", event.find("==").unwrap_or_else(|| panic!("{event}"))),
                };
                let value = event[at + 2..].trim_end_matches('?');
                mop(f, Value::str(&event[..at]), value.parse().unwrap_or(0))
            })
            .collect()
    };
    let session =
        |text: &str| text.lines().filter(|l| l.trim().starts_with('[')).map(txn).collect();
    text.split("---").map(session).collect()
}

/// As a history; 0 is the initial state of a key to which nobody writes it.
fn history(sessions: &Sessions) -> History {
    let mut builder = Builder::default();
    let all: Vec<&Value> = sessions.iter().flatten().flatten().collect();
    let is_initial = |mop: &Value| {
        let parts = mop.items().unwrap();
        let write = Value::list(vec![Value::sym("w"), parts[1].clone(), int(0)]);
        parts[0] == Value::sym("r") && parts[2] == int(0) && !all.contains(&&write)
    };
    for (process, session) in (0..).zip(sessions) {
        for txn in session {
            let mops = txn.iter().map(|mop| match is_initial(mop) {
                true => Value::list(mop.items().unwrap()[..2].to_vec()),
                false => mop.clone(),
            });
            let value = Value::list(mops.collect::<Vec<_>>());
            builder.done(process, "txn", value.clone(), value);
        }
    }
    builder.history()
}

#[test]
fn histories_of_others_have_their_levels() {
    let Ok(folder) = std::env::var("FUZZ_DIST_HISTORIES") else { return };
    let folder = std::path::PathBuf::from(folder);
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in manifest.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (file, expected) = (columns[0], columns[2]);
        let parse = match file.split('/').next() {
            Some("awdit") => awdit as fn(&str) -> Sessions,
            Some("dbcop") => dbcop,
            _ => continue,
        };
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let history = history(&parse(&text));
        for (theirs, level) in [
            ("committed-read", "read-committed"),
            ("read-committed", "read-committed"),
            ("atomic-read", "read-atomic"),
            ("read-atomic", "read-atomic"),
            ("causal", "causal"),
        ] {
            // `a, b violated, c holds`: what follows a name, up to the next verdict.
            let Some(at) = expected.find(theirs) else { continue };
            let rest = &expected[at..];
            let verdict = match (rest.find("violated"), rest.find("hold")) {
                (Some(bad), Some(good)) if bad < good => Verdict::Invalid,
                (Some(_), None) => Verdict::Invalid,
                _ => Verdict::Valid,
            };
            let result = check("causal", json!({"level": level}), &history);
            count += 1;
            println!("{file} {level}: {} {}", result.verdict, result.reason);
            if result.verdict != verdict {
                wrong.push(format!(
                    "{file} {level}: {} not {verdict}: {}\n{text}\n{line}",
                    result.verdict, result.reason
                ));
            }
        }
    }
    assert!(count > 0, "no history of AWDIT or dbcop was found");
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
