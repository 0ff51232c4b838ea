//! `list-append` and `rw-register` against the verdicts that Elle itself recorded.
//!
//! With `FUZZ_DIST_HISTORIES` naming a folder with a `MANIFEST.tsv` (file, model with options, verdict with
//! anomalies), every history there for these checkers is checked. Without it nothing is: the corpus is not
//! ours to keep.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use common::check;
use fuzz_dist_core::interop::{add_invocations, parse_edn_value, read_records};
use fuzz_dist_core::{History, Op, OpType, Process, Value, Verdict};
use serde_json::{Value as Json, json};

/// Processes that do several things at a time are split, oldest first, so that they are a history.
fn split_processes(mut ops: Vec<Op>) -> Vec<Op> {
    let mut open: HashMap<Process, VecDeque<Process>> = HashMap::new();
    let mut fresh = 1_000_000;
    for op in &mut ops {
        if !op.is_client() {
            continue;
        }
        let queue = open.entry(op.process).or_default();
        if op.op_type == OpType::Invoke {
            let own = if queue.is_empty() { op.process } else { Process::Client(fresh) };
            fresh += 1;
            queue.push_back(own);
            op.process = own;
        } else if let Some(own) = queue.pop_front() {
            op.process = own;
        }
    }
    ops
}

fn load(path: &Path) -> History {
    let text = std::fs::read_to_string(path).unwrap();
    let text = match text.contains("process") {
        true => text,
        false => text.replace("{:index", "{:process 0, :index"),
    };
    let ops = read_records(&path.display().to_string(), text.as_bytes(), None).unwrap();
    History::new(add_invocations(split_processes(ops))).unwrap()
}

/// Elle's options as ours.
fn options(edn: &str, history: &History) -> Json {
    let Value::Map(pairs) = parse_edn_value(edn).unwrap() else { panic!("{edn}") };
    let mut options = serde_json::Map::new();
    for (name, value) in pairs.iter() {
        let name = name.as_text().unwrap();
        let words = |value: &Value| -> Json {
            let items = value.items().unwrap_or_default().iter();
            items.map(|item| item.as_text().unwrap().into()).collect::<Vec<Json>>().into()
        };
        match name {
            "consistency-models" => options.insert("consistency-model".into(), words(value)),
            "anomalies" => options.insert("anomalies".into(), words(value)),
            "transaction-order" => {
                let Value::Map(places) = value else { panic!("{value}") };
                // Of histories without invocations: the nth completion.
                let done: Vec<u64> = history
                    .ops()
                    .iter()
                    .filter(|op| op.op_type != OpType::Invoke)
                    .map(|op| op.index)
                    .collect();
                let order: serde_json::Map<String, Json> = places
                    .iter()
                    .map(|(index, place)| {
                        let index = done[index.as_int().unwrap() as usize];
                        (index.to_string(), place.as_int().unwrap().into())
                    })
                    .collect();
                options.insert("transaction-order".into(), order.into())
            }
            flag => {
                let flag = flag.trim_end_matches('?');
                options.insert(flag.into(), (*value == Value::Bool(true)).into())
            }
        };
    }
    options.into()
}

fn part<'a>(text: &'a str, from: &str) -> &'a str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("{from} in {text}")).1;
    rest.split_once(']').unwrap().0
}

fn names(list: &str) -> Vec<String> {
    let mut names: Vec<String> =
        list.split_whitespace().map(|name| name.trim_start_matches(':').to_owned()).collect();
    names.sort();
    names
}

fn told(result: &fuzz_dist_core::CheckResult, key: &str) -> Vec<String> {
    let names = result.details[key].as_array().unwrap();
    let mut names: Vec<String> = names.iter().map(|n| n.as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn recorded_verdicts_of_elle_are_ours() {
    let Ok(folder) = std::env::var("FUZZ_DIST_HISTORIES") else { return };
    let folder = PathBuf::from(folder);
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in manifest.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (file, model, expected) = (columns[0], columns[1], columns[2]);
        let checker = model.split(' ').next().unwrap();
        if !["list-append", "rw-register"].contains(&checker) || !file.starts_with("elle") {
            continue;
        }
        let history = load(&folder.join(file));
        count += 1;
        let given = match (model.split_once("opts="), file) {
            (Some((_, edn)), _) => options(edn, &history),
            (None, "elle/si-without-g-single.edn") => {
                json!({"consistency-model": "snapshot-isolation,repeatable-read"})
            }
            _ if model.contains("serializable") => json!({"consistency-model": "serializable"}),
            _ => json!({}),
        };
        let mut given = given;
        if checker == "rw-register" {
            // Elle says nothing of values that nobody wrote.
            given["garbage-reads"] = json!("allow");
        }
        let start = std::time::Instant::now();
        let result = check(checker, given, &history);
        println!("{} {:?} {file} {}", result.verdict, start.elapsed(), result.reason);
        let verdict = match expected.split([';', ' ']).next().unwrap() {
            "valid" | "valid?=true" => Verdict::Valid,
            "invalid" | "valid?=false" | "under" => Verdict::Invalid,
            "valid?=:unknown" => Verdict::Unknown,
            other => panic!("{other}"),
        };
        if result.verdict != verdict {
            wrong.push(format!("{file}: {} not {verdict}: {}", result.verdict, result.reason));
            continue;
        }
        if expected.contains("anomalies=[") {
            let (anomalies, not) = (told(&result, "anomaly-types"), told(&result, "not"));
            let wanted = names(part(expected, "anomalies=["));
            if anomalies != wanted {
                wrong.push(format!("{file}: {anomalies:?} instead of {wanted:?}"));
            }
            let wanted = names(part(expected, "not=["));
            if not != wanted {
                wrong.push(format!("{file}: not {not:?} instead of {wanted:?}"));
            }
        }
        if file == "elle/si-without-g-single.edn" {
            assert_eq!(told(&result, "anomaly-types"), ["G2-item"]);
            assert_eq!(told(&result, "not"), ["repeatable-read"]);
        }
        if file == "elle/huge-scc.edn" {
            assert_eq!(told(&result, "not"), ["strong-snapshot-isolation"], "{}", result.reason);
        }
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 80, "only {count} histories");
}
