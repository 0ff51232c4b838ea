//! What programs read of a check, as `priv/schemas/check.schema.json` describes it.
//!
//! The records that show the first anomaly stand in it, so that a reader needs not the history.

use std::collections::BTreeSet;

use fuzz_dist_checker as checker;
use fuzz_dist_core::spec::CheckerSpec;
use fuzz_dist_core::{CheckResult, History, Verdict, interop};
use serde_json::{Map, Value as Json, json};

use super::Checked;

/// Records of the first anomaly, and their bytes as JSON.
const RECORD_COUNT_MAX: usize = 400;
const RECORD_BYTES_MAX: usize = 64 << 10;
const EVIDENCE_BYTES_MAX: usize = 1 << 20;
/// What stands for a value that is longer: its beginning, as EDN.
const CUT_CHAR_COUNT: usize = 2_000;

/// Options that name what a history is compared with, by the checkers that have one.
const MODEL_OPTIONS: [&str; 4] = ["model", "consistency-model", "consistency-models", "level"];

/// The object.
pub fn of(checked: &Checked<'_>) -> Json {
    let result = checked.result;
    let positions: &[u64] = result.anomalies.first().map_or(&[], |anomaly| &anomaly.ops);
    let (mut evidence, omitted) = evidence(checked.history, positions);
    let numbers = checked.history.read_numbers();
    if numbers.is_some() {
        evidence.retain(|record| record["type"] != "invoke");
    }
    let mut object = match &numbers {
        Some(numbers) => {
            evidence.iter_mut().for_each(|record| as_read(record, numbers));
            of_result(&result_as_read(result.clone(), numbers))
        }
        None => of_result(result),
    };
    let models = models(checked.specs);
    let drawings: Vec<String> =
        checked.drawings.iter().map(|path| path.display().to_string()).collect();
    let further = json!({
        "version": 1,
        "exit_code": result.verdict.exit_code(),
        "model": models,
        "options": options(checked.specs),
        "evidence": evidence,
        "evidence_omitted": omitted,
        "read_ms": checked.read_ms,
        "peak_bytes": peak_bytes(),
        "history": {
            "format": checked.format,
            "ops": checked.history.len(),
            "notices": checked.notices,
        },
        "drawings": drawings,
    });
    if let Json::Object(further) = further {
        object.extend(further);
    }
    Json::Object(object)
}

/// Gives a record the number that it was read by.
fn as_read(record: &mut Json, numbers: &[u64]) {
    let position = record["index"].as_u64().and_then(|at| usize::try_from(at).ok());
    if let Some(number) = position.and_then(|position| numbers.get(position)) {
        record["index"] = json!(number);
    }
}

/// Names records by the numbers that they were read by: an added invocation by that of its completion.
fn result_as_read(mut result: CheckResult, numbers: &[u64]) -> CheckResult {
    let read = |at: &mut u64| {
        let number = usize::try_from(*at).ok().and_then(|position| numbers.get(position));
        *at = number.copied().unwrap_or(*at);
    };
    for anomaly in &mut result.anomalies {
        for positions in [&mut anomaly.ops, &mut anomaly.longest_order] {
            positions.iter_mut().for_each(read);
            let mut seen = BTreeSet::new();
            positions.retain(|number| seen.insert(*number));
        }
        for edge in &mut anomaly.edges {
            read(&mut edge.from);
            read(&mut edge.to);
        }
    }
    let parts = std::mem::take(&mut result.parts).into_iter();
    result.parts = parts.map(|part| result_as_read(part, numbers)).collect();
    result
}

/// A result or a part of one; what may be absent in files always stands here.
fn of_result(result: &CheckResult) -> Map<String, Json> {
    let valid = match result.verdict {
        Verdict::Valid => json!(true),
        Verdict::Invalid => json!(false),
        Verdict::Unknown => json!("unknown"),
    };
    let parts: Vec<Json> = result.parts.iter().map(|part| Json::Object(of_result(part))).collect();
    let object = json!({
        "valid": valid,
        "verdict": result.verdict,
        "checker": result.checker,
        "reason": result.reason,
        "anomalies": result.anomalies,
        "counts": result.counts,
        "details": result.details,
        "elapsed_ms": result.elapsed_ms,
        "parts": parts,
    });
    match object {
        Json::Object(object) => object,
        _ => Map::new(),
    }
}

/// The model of one checker, or `null` where it has none; of several, a map by their names.
fn models(specs: &[CheckerSpec]) -> Json {
    match specs {
        [spec] => model(spec),
        specs => specs.iter().map(|spec| (spec.name.clone(), model(spec))).collect(),
    }
}

fn model(spec: &CheckerSpec) -> Json {
    let given = MODEL_OPTIONS.iter().find_map(|name| spec.options.get(*name));
    let text = |value: &Json| match value {
        Json::Array(names) => {
            let names: Vec<&str> = names.iter().filter_map(Json::as_str).collect();
            json!(names.join(","))
        }
        other => other.clone(),
    };
    given.map(text).unwrap_or_else(|| {
        let info = checker::catalogue().iter().find(|info| info.name == spec.name);
        let options = info.map_or(&[][..], |info| info.options);
        let option = options.iter().find(|option| MODEL_OPTIONS.contains(&option.name));
        option.map_or(Json::Null, |option| json!(option.default))
    })
}

fn options(specs: &[CheckerSpec]) -> Json {
    match specs {
        [spec] => json!(spec.options),
        specs => specs.iter().map(|spec| (spec.name.clone(), json!(spec.options))).collect(),
    }
}

/// The records at these positions with their partners, in order, and how many did not fit.
fn evidence(history: &History, positions: &[u64]) -> (Vec<Json>, usize) {
    let mut records = BTreeSet::new();
    for position in positions.iter().filter_map(|&position| usize::try_from(position).ok()) {
        if position < history.len() {
            records.insert(position);
            records.extend(history.pair(position));
        }
    }
    let mut shown = Vec::new();
    let mut bytes = 0;
    for &position in records.iter().take(RECORD_COUNT_MAX) {
        let (record, length) = record(history, position);
        bytes += length;
        if bytes > EVIDENCE_BYTES_MAX {
            break;
        }
        shown.push(record);
    }
    let omitted = records.len() - shown.len();
    (shown, omitted)
}

/// One record as JSON lines have it, and its length. A value without measure is cut.
fn record(history: &History, position: usize) -> (Json, usize) {
    let op = &history.ops()[position];
    let mut text = Vec::new();
    interop::write_jsonl_op(op, &mut text);
    if text.len() > RECORD_BYTES_MAX {
        let mut cut = op.clone();
        let beginning: String =
            interop::edn_of_value(&op.value).chars().take(CUT_CHAR_COUNT).collect();
        cut.value = fuzz_dist_core::Value::str(format!("{beginning}…"));
        text.clear();
        interop::write_jsonl_op(&cut, &mut text);
    }
    // What we wrote ourselves can be read.
    (serde_json::from_slice(&text).unwrap_or_default(), text.len())
}

/// The most memory that this process had at a time; 0 where the system does not tell.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = kib.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
