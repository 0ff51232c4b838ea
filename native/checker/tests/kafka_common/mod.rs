//! Histories of logs as lines of text, and what the checker tells of them.

#![allow(dead_code)]

use fuzz_dist_core::{CheckResult, History, interop};
use serde_json::{Value as Json, json};

use super::common::check;

/// `process type f value` in each line; time and index are the number of the line.
pub fn history(lines: &[&str]) -> History {
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

pub fn run_with(options: Json, lines: &[&str]) -> CheckResult {
    check("kafka", options, &history(lines))
}

pub fn run(lines: &[&str]) -> CheckResult {
    run_with(json!({"all-errors": true}), lines)
}

/// The cases of a name, only with the given fields.
pub fn errors(result: &CheckResult, name: &str, fields: &[&str]) -> Vec<Json> {
    let all = result.details["errors"][name]["errs"].as_array().cloned().unwrap_or_default();
    let pick = |case: &Json| fields.iter().map(|field| case[*field].clone()).collect();
    let mut picked: Vec<Json> = all.iter().map(pick).collect();
    picked.sort_by_key(Json::to_string);
    picked
}

pub fn names(result: &CheckResult) -> Vec<String> {
    serde_json::from_value(result.details["error-types"].clone()).unwrap()
}
