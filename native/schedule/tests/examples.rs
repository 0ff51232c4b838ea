//! Every example of `doc/generators.md` runs and does what stands below it, and every name has an example.
//!
//! `FUZZ_DIST_BLESS=1 cargo test -p fuzz_dist_schedule --test examples` writes what they do.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;

use common::{MS, Run};
use fuzz_dist_core::OpType;
use fuzz_dist_schedule::expr::{COMBINATORS, TEMPLATE_NAMES};
use serde_json::Value as Json;

const LINES_MAX: usize = 6;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../doc/generators.md")
}

/// The first lines of what an expression does.
fn lines(json: &Json) -> String {
    let run = Run {
        threads: 3,
        ops_max: LINES_MAX + 1,
        answer: |_, _| (10 * MS, OpType::Ok),
        ..Run::default()
    };
    let trace = run.of(json);
    let logs = trace.logs.iter().map(|(ns, text)| (*ns, format!("log {text}")));
    let ops = trace.ops.iter().map(|op| {
        let thread = if op.process < 0 { "nemesis".to_owned() } else { op.thread.to_string() };
        (op.time_ns, format!("{thread} {} {}", op.f, op.value))
    });
    let mut all: Vec<(u64, String)> = logs.chain(ops).collect();
    all.sort_by_key(|(ns, _)| *ns);
    let mut text = String::new();
    for (ns, line) in all.iter().take(LINES_MAX) {
        text.push_str(&format!("{:>5} {line}\n", ns / MS));
    }
    text.push_str(match trace.done_ns {
        Some(_) if all.len() <= LINES_MAX => "      done\n",
        _ => "      …\n",
    });
    text
}

/// Splits into text and examples: `(text before, json)`, and what follows the last.
fn examples(document: &str) -> (Vec<(String, String, String)>, String) {
    let mut found = Vec::new();
    let mut rest = document;
    while let Some(start) = rest.find("```json\n") {
        let (before, after) = rest.split_at(start);
        let body = &after["```json\n".len()..];
        let end = body.find("```\n").expect("an example ends");
        let (json, tail) = (&body[..end], &body[end + 4..]);
        let (shown, tail) = match tail.strip_prefix("\n```text\n") {
            None => (String::new(), tail),
            Some(text) => {
                let end = text.find("```\n").expect("an output ends");
                (text[..end].to_owned(), &text[end + 4..])
            }
        };
        found.push((before.to_owned(), json.to_owned(), shown));
        rest = tail;
    }
    (found, rest.to_owned())
}

#[test]
fn every_example_does_what_stands_below_it() {
    let document = std::fs::read_to_string(path()).unwrap();
    let (examples, rest) = examples(&document);
    assert!(examples.len() > 30);
    let bless = std::env::var_os("FUZZ_DIST_BLESS").is_some();
    let mut blessed = String::new();
    for (before, json, shown) in examples {
        let expr: Json = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
        let lines = lines(&expr);
        assert!(bless || shown == lines, "{json}shows\n{shown}but does\n{lines}");
        blessed.push_str(&format!("{before}```json\n{json}```\n\n```text\n{lines}```\n"));
    }
    if bless {
        std::fs::write(path(), blessed + &rest).unwrap();
    }
}

#[test]
fn every_name_has_an_example() {
    let document = std::fs::read_to_string(path()).unwrap();
    let (examples, _) = examples(&document);
    let all: String = examples.into_iter().map(|(_, json, _)| json).collect();
    let missing: Vec<&str> = COMBINATORS
        .into_iter()
        .chain(TEMPLATE_NAMES)
        .filter(|name| !all.contains(&format!("\"{name}\":")))
        .collect();
    assert!(missing.is_empty(), "without example: {missing:?}");
}
