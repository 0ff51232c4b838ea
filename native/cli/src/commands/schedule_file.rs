//! Reads a `schedule.json`, perhaps edited by hand, and refuses what the run could not do.
//!
//! The types cannot refuse an unknown key of a fault (its kind is flattened into it), so the keys are
//! compared here, with the types' own output as the list of what may be there.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use fuzz_dist_core::fault::{
    After, BoundaryRef, Event, Fault, FaultKind, FaultSchedule, LinkFault, PartOf, Pattern, Plane,
    Resolved, Target, Zone,
};
use fuzz_dist_core::spec::{Spec, suggest};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::output::CliError;

/// More than any schedule needs.
const BYTES_MAX: u64 = 64 << 20;

/// Reads and validates a schedule for the nodes and ports of `spec`.
pub fn load(file: &Path, spec: &Spec) -> Result<FaultSchedule, CliError> {
    let refused = |what: String| CliError::Input(format!("{}: {what}", file.display()));
    let mut bytes = Vec::new();
    // Not by the length that the file system tells: a device has none, and no end either.
    std::fs::File::open(file)
        .and_then(|open| open.take(BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| refused(words(&error)))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(refused(format!("is longer than {} MiB: no schedule", BYTES_MAX >> 20)));
    }
    let schedule = parse(&bytes).map_err(refused)?;
    fuzz_dist_schedule::validate(&schedule, spec).map_err(|error| refused(error.to_string()))?;
    Ok(schedule)
}

fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".into(),
        std::io::ErrorKind::IsADirectory => "is a directory, not a schedule".into(),
        _ => format!("cannot be read: {error}"),
    }
}

fn parse(bytes: &[u8]) -> Result<FaultSchedule, String> {
    let json: Json = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof if bytes.is_empty() => "is empty".to_owned(),
        _ => format!("is not JSON: {error}"),
    })?;
    if !json.is_object() {
        return Err("is no schedule: it must be an object with version, seed, nodes, faults".into());
    }
    if let Some(faults) = json.get("faults").and_then(Json::as_array) {
        for (i, fault) in faults.iter().enumerate() {
            check_keys(fault).map_err(|what| format!("faults[{i}]{what}"))?;
            // Each by itself first: the message then names the fault and not only a column.
            if let Err(error) = Fault::deserialize(fault) {
                return Err(format!("faults[{i}]: {error}"));
            }
        }
    }
    // From the text, since only so an error has line and column.
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn check_keys(fault: &Json) -> Result<(), String> {
    let Some(fault) = fault.as_object() else { return Err(": must be an object".into()) };
    let kind = fault.get("kind").and_then(Json::as_str).unwrap_or_default();
    let plane = fault.get("plane").and_then(Json::as_str).and_then(Plane::named);
    let (_, kind) = FaultKind::find(kind, plane).map_err(|error| format!(".kind: {error}"))?;
    let mut known = known_keys();
    known.extend(kind.keys.iter().map(|key| key.name.to_owned()));
    for name in fault.keys() {
        if !known.contains(name) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            return Err(format!(".{name}: unknown key; {}", suggest::hint(name, &known)));
        }
    }
    Ok(())
}

/// The keys that a fault of any kind may have: those that one with everything set is written with.
fn known_keys() -> BTreeSet<String> {
    let text = || Some(String::new());
    let full = Fault {
        id: 1,
        kind: LinkFault::HOLD.into(),
        target: Target::One,
        scope: text(),
        one_way: true,
        port: text(),
        package: text(),
        optional: true,
        after: Some(After {
            event: Event::Nodedown,
            of: None,
            process: None,
            seen_by: None,
            delay_ms: 0,
            seen_ns: None,
        }),
        part_of: Some(PartOf { pattern: Pattern::Flap, first: 1, gap_ns: None }),
        start_ns: 0,
        duration_ns: 1,
        boundary: Some(BoundaryRef { name: String::new(), zone: Zone::Inside }),
        resolved: Some(Resolved::default()),
    };
    let mut known: BTreeSet<String> = match serde_json::to_value(full) {
        Ok(Json::Object(object)) => object.keys().cloned().collect(),
        _ => BTreeSet::new(),
    };
    known.insert("plane".into());
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(fault: &str) -> String {
        format!(r#"{{"version": 1, "seed": 7, "nodes": ["n1"], "faults": [{fault}]}}"#)
    }

    #[test]
    fn every_mistake_is_named() {
        let fault = |rest: &str| {
            schedule(&format!(
                r#"{{"id": 1, "target": "one", "start_ns": 1, "duration_ns": 5, {rest}}}"#
            ))
        };
        let cases = [
            (String::new(), "is empty"),
            ("{".into(), "is not JSON: EOF"),
            ("[]".into(), "must be an object"),
            (schedule("3"), "faults[0]: must be an object"),
            (
                fault(r#""kind": "hodl""#),
                "faults[0].kind: unknown kind `hodl`; did you mean `hold`?",
            ),
            (
                fault(r#""kind": "hold", "one_wey": true"#),
                "faults[0].one_wey: unknown key; did you mean `one_way`?",
            ),
            (fault(r#""kind": "hold", "latency_ms": 1"#), "faults[0].latency_ms: unknown key"),
            (fault(r#""kind": "delay""#), "faults[0]: missing field `latency_ms`"),
            (
                schedule(
                    r#"{"id": 1, "kind": "hold", "target": "halfs", "start_ns": 1, "duration_ns": 1}"#,
                ),
                "unknown variant `halfs`",
            ),
            (
                schedule(
                    r#"{"id": 1, "kind": "hold", "target": "one", "start_ns": -1, "duration_ns": 1}"#,
                ),
                "faults[0]: invalid value",
            ),
            (fault(r#""kind": "hold""#).replace("\"seed\"", "\"sead\""), "unknown field `sead`"),
        ];
        for (text, wanted) in cases {
            let message = parse(text.as_bytes()).unwrap_err();
            assert!(message.contains(wanted), "wanted {wanted:?}, got {message:?} for {text}");
        }
        assert!(parse(fault(r#""kind": "hold", "one_way": true"#).as_bytes()).is_ok());
        assert!(parse(fault(r#""kind": "delay", "latency_ms": 3"#).as_bytes()).is_ok());
        assert!(parse(b"\xff\xfe").unwrap_err().contains("is not JSON"));
    }
}
