//! Cases in words and as data: what happened, and a table of who sent and polled what around it.

use std::collections::BTreeMap;

use fuzz_dist_core::{Anomaly, clip};
use rustc_hash::FxHashMap;
use serde_json::{Map, Value as Json, json};

use crate::kafka::cases::Case;
use crate::kafka::lag;
use crate::kafka::messages::{
    ABORTED_READ, DUPLICATE, G1A, INCONSISTENT_OFFSETS, LOST_WRITE, PHANTOM, PRECOMMITTED_READ,
    UNSEEN,
};
use crate::kafka::ops::{Log, Place};
use crate::kafka::versions::Versions;
use crate::kafka::{STALE_CONSUMER, positions};

/// How many indices on either side of a message a table shows; Jepsen's `around-key-value` shows as many.
const AROUND: u32 = 3;
/// How many operations a table shows.
const ROWS_MAX: usize = 12;
/// How much of a value or a name a cell of the table shows.
const CELL_CHAR_COUNT_MAX: usize = 40;
/// How many values are listed in words.
const VALUES_MAX: usize = 8;

/// A case of an anomaly, for people, without its table.
pub fn anomaly(log: &Log, versions: &Versions, name: &str, case: &Case) -> Anomaly {
    Anomaly {
        name: name.to_owned(),
        key: Some(log.key(case.key).to_string()),
        text: words(log, versions, name, case),
        ops: log.records(&case.txns),
        ..Anomaly::default()
    }
}

fn op(log: &Log, txn: u32) -> String {
    let op = &log.history.ops()[log.record(txn) as usize];
    format!("process {} at record {} ({})", op.process, op.index, op.op_type.as_str())
}

fn list(values: impl ExactSizeIterator<Item = String>) -> String {
    let count = values.len();
    let shown = values.take(VALUES_MAX).collect::<Vec<_>>().join(" ");
    match count.saturating_sub(VALUES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The offsets at which a message is.
fn offsets(log: &Log, versions: &Versions, message: u32) -> Vec<i64> {
    let all = versions.indices(log.key_of(message)).flat_map(|(_, entries)| entries);
    all.filter(|entry| entry.message == message).map(|entry| entry.offset).collect()
}

/// The messages between two of a key, as text, and how many they are.
fn skipped(log: &Log, versions: &Versions, messages: &[u32]) -> (Vec<String>, usize) {
    let [before, after] = messages else { return Default::default() };
    let (Some(before), Some(after)) = (versions.index(*before), versions.index(*after)) else {
        return Default::default();
    };
    let key = log.key_of(messages[0]);
    let values = (before + 1..after).take(4 * VALUES_MAX);
    let values = values.map(|index| log.value(versions.at(key, index)[0].message));
    (values.collect(), after.saturating_sub(before + 1) as usize)
}

fn words(log: &Log, versions: &Versions, name: &str, case: &Case) -> String {
    let key = log.key(case.key);
    let value = |i: usize| case.messages.get(i).map(|m| log.value(*m)).unwrap_or_default();
    let who = |i: usize| case.txns.get(i).map(|txn| op(log, *txn)).unwrap_or_default();
    let number = |i: usize| case.numbers.get(i).copied().unwrap_or_default();
    let (v1, v2, op1, op2) = (value(0), value(1), who(0), who(1));
    match name {
        G1A | ABORTED_READ => {
            format!("{op2} polled {v1} of key {key}, whose send by {op1} had failed")
        }
        PRECOMMITTED_READ => format!(
            "{op1} polled {v1} of key {key}, which it sent itself and cannot have committed by then"
        ),
        PHANTOM if case.txns.len() == 2 => {
            format!("{op2} polled {v1} of key {key} before {op1} began to send it")
        }
        PHANTOM => format!("{op1} polled {v1} of key {key}, which nobody ever sent"),
        INCONSISTENT_OFFSETS => {
            let values = list(case.messages.iter().map(|m| log.value(*m)));
            let (offset, count) = (number(0), case.messages.len());
            format!("offset {offset} of key {key} holds {count} different messages: {values}")
        }
        DUPLICATE => {
            let offsets = offsets(log, versions, case.messages[0]);
            let (count, told) = (offsets.len(), list(offsets.iter().map(i64::to_string)));
            format!("{v1} is in key {key} {count} times, at offsets {told}")
        }
        LOST_WRITE => {
            let (index, bound) = (number(0), number(1));
            format!(
                "{op1} sent {v1} to key {key} at index {index}; {op2} polled {v2} at index {bound}, but \
                 nobody ever polled {v1}"
            )
        }
        UNSEEN => {
            format!("{op1} sent {v1} to key {key}, and no poll that succeeded ever returned it")
        }
        STALE_CONSUMER => {
            let (seconds, offset) = (number(0) as f64 / 1e9, number(1));
            format!(
                "{op1} was {seconds:.3} s behind the end of key {key} when it polled: it had got no \
                 further than offset {offset}"
            )
        }
        _ => moved(log, versions, name, case, [&v1, &v2], [&op1, &op2]),
    }
}

/// A skip or a step back from one message to another, in words.
fn moved(
    log: &Log,
    versions: &Versions,
    name: &str,
    case: &Case,
    [v1, v2]: [&str; 2],
    [op1, op2]: [&str; 2],
) -> String {
    let key = log.key(case.key);
    let verb =
        if name.ends_with("send") || name == positions::INT_SEND_SKIP { "sent" } else { "polled" };
    let back = -case.numbers.first().copied().unwrap_or_default();
    let (skipped, count) = skipped(log, versions, &case.messages);
    let skipped = list(skipped.into_iter());
    match name {
        positions::INT_POLL_SKIP | positions::INT_SEND_SKIP => format!(
            "{op1} {verb} {v1} and then {v2} of key {key}, with {count} between them: {skipped}"
        ),
        positions::POLL_SKIP => format!(
            "{op1} polled key {key} as far as {v1}, and {op2} went on with {v2}, skipping {count}: {skipped}"
        ),
        _ if back == 0 && v1 == v2 => match case.txns.len() {
            1 => format!("{op1} {verb} {v1} of key {key} twice"),
            _ => format!("{op1} {verb} {v1} of key {key} last, and {op2} then began with it again"),
        },
        positions::INT_NONMONOTONIC_POLL | positions::INT_NONMONOTONIC_SEND => format!(
            "{op1} {verb} {v1} and then {v2} of key {key}, which is {back} places before it"
        ),
        _ => format!(
            "{op1} {verb} {v1} of key {key} last, and {op2} then began with {v2}, {back} places before it"
        ),
    }
}

/// A case as data, with the names that Jepsen gives the parts.
pub fn data(log: &Log, versions: &Versions, name: &str, case: &Case) -> Json {
    let mut data = Map::new();
    data.insert("key".into(), log.key(case.key).to_string().into());
    let values: Vec<String> = case.messages.iter().map(|m| log.value(*m)).collect();
    let records: Vec<u64> = case.txns.iter().map(|txn| log.record(*txn)).collect();
    let number = |i: usize| case.numbers.get(i).copied().unwrap_or_default();
    let mut put = |name: &str, value: Json| {
        data.insert(name.to_owned(), value);
    };
    match name {
        INCONSISTENT_OFFSETS => {
            put("offset", number(0).into());
            put("index", number(1).into());
            put("values", values.into());
        }
        DUPLICATE => {
            let offsets = offsets(log, versions, case.messages[0]);
            put("value", values[0].clone().into());
            put("count", offsets.len().into());
            put("offsets", offsets.into());
        }
        LOST_WRITE => {
            put("value", values[0].clone().into());
            put("index", number(0).into());
            put("max-read-index", number(1).into());
            put("writer", json!(records.first()));
            put("max-read", json!(records.get(1)));
        }
        G1A | ABORTED_READ => {
            put("value", values[0].clone().into());
            put("writer", json!(records.first()));
            put("reader", json!(records.get(1)));
        }
        STALE_CONSUMER => {
            put("lag", json!(number(0) as f64 / 1e9));
            put("offset", number(1).into());
            put("op", json!(records.first()));
        }
        PRECOMMITTED_READ | PHANTOM | UNSEEN => {
            put("value", values[0].clone().into());
            put("op", json!(records.last()));
        }
        _ => {
            put("values", values.into());
            put("delta", number(0).into());
            let (skipped, count) = skipped(log, versions, &case.messages);
            if count > 0 {
                put("skipped", skipped.into());
                put("skipped-count", count.into());
            }
            put("ops", records.into());
        }
    }
    Json::Object(data)
}

/// The messages near those of a case, by the index of each: what its table shows.
fn window(log: &Log, versions: &Versions, case: &Case) -> BTreeMap<u32, Vec<u32>> {
    let mut columns = BTreeMap::new();
    let Some(centre) = case.messages.iter().find_map(|message| versions.index(*message)) else {
        return columns;
    };
    let end = (centre + AROUND + 1).min(versions.index_count(case.key));
    for index in centre.saturating_sub(AROUND)..end {
        let entries = versions.at(case.key, index).iter();
        columns.insert(index, entries.map(|entry| entry.message).collect());
    }
    for message in &case.messages {
        if let Some(index) = versions.index(*message) {
            let column: &mut Vec<u32> = columns.entry(index).or_default();
            if log.key_of(*message) == case.key && !column.contains(message) {
                column.push(*message);
            }
        }
    }
    columns
}

/// The tables of some cases, in their order; empty where no offset is known.
pub fn tables(log: &Log, versions: &Versions, cases: &[&Case]) -> Vec<String> {
    let windows: Vec<_> = cases.iter().map(|case| window(log, versions, case)).collect();
    let mut wanted: FxHashMap<u32, Vec<usize>> = FxHashMap::default();
    for (case, columns) in windows.iter().enumerate() {
        for message in columns.values().flatten() {
            let of_message = wanted.entry(*message).or_default();
            if of_message.last() != Some(&case) {
                of_message.push(case);
            }
        }
    }
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); cases.len()];
    for txn in 0..log.txns.len() as u32 {
        for place in log.sent_by(txn).iter().chain(log.polled_by(txn)) {
            for case in wanted.get(&place.message).into_iter().flatten() {
                if rows[*case].last() != Some(&txn) {
                    rows[*case].push(txn);
                }
            }
        }
    }
    let tables = cases.iter().zip(&windows).zip(&rows);
    tables.map(|((case, columns), rows)| table(log, versions, case, columns, rows)).collect()
}

fn table(
    log: &Log,
    versions: &Versions,
    case: &Case,
    columns: &BTreeMap<u32, Vec<u32>>,
    rows: &[u32],
) -> String {
    if columns.is_empty() {
        return String::new();
    }
    let key = log.key(case.key);
    let mut lines: Vec<Vec<String>> = vec![vec!["record".into(), "who".into(), "offset:".into()]];
    for index in columns.keys() {
        lines[0].push(versions.at(case.key, *index)[0].offset.to_string());
    }
    // Those that show the case come first, then who else was near.
    let near = rows.iter().filter(|txn| !case.txns.contains(txn));
    let shown: Vec<u32> = case.txns.iter().chain(near).copied().take(ROWS_MAX).collect();
    for &txn in &shown {
        let op = &log.history.ops()[log.record(txn) as usize];
        let what = format!("{} :{}", op.op_type.as_str(), op.f);
        let mut line = vec![op.index.to_string(), format!("process {}", op.process), what];
        for (index, messages) in columns {
            let cell = |places: &[Place], sign: &str| {
                let hit = places.iter().find(|place| {
                    messages.contains(&place.message)
                        && versions.index(place.message) == Some(*index)
                });
                hit.map(|place| format!("{sign}{}", log.value(place.message)))
            };
            let cell = cell(log.sent_by(txn), "+").or_else(|| cell(log.polled_by(txn), ""));
            line.push(cell.unwrap_or_else(|| ".".into()));
        }
        lines.push(line);
    }
    // Values are as long as a system under test likes, and a width of formats is at most 65,535.
    lines.iter_mut().flatten().for_each(|cell| *cell = clip(cell, CELL_CHAR_COUNT_MAX));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..lines[0].len()).map(|c| width(c).unwrap_or(0)).collect();
    let mut text = format!("\n  around this in key {key} (+ sent, else polled):\n");
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let row = cells.collect::<Vec<_>>().join("  ");
        text.push_str(&format!("  {}\n", row.trim_end()));
    }
    let others = rows.iter().filter(|txn| !shown.contains(txn)).count();
    if others > 0 {
        text.push_str(&format!("  … and {others} more operations\n"));
    }
    text
}

/// A lag as data, in seconds.
pub fn worst_lag(log: &Log, worst: Option<lag::Lag>) -> Json {
    match worst {
        None => json!({ "time": 0.0, "lag": 0.0 }),
        Some(worst) => json!({
            "time": worst.time_ns as f64 / 1e9,
            "process": worst.process,
            "key": log.key(worst.key).to_string(),
            "lag": worst.lag_ns as f64 / 1e9,
        }),
    }
}
