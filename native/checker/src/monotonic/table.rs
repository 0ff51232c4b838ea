//! Rows of a table: all that were added are there once, and their values grow in the order of the read.

use std::collections::{BTreeMap, HashMap};

use fuzz_dist_core::number::{Exact, Number};
use fuzz_dist_core::{History, Op, OpType, Value};
use rustc_hash::FxBuildHasher;

use crate::monotonic::Findings;

/// A row, or a value that stands for one.
struct Row<'a> {
    value: &'a Value,
    number: Number<'a>,
    stamp: Option<Exact>,
    process: Option<&'a Value>,
}

/// How adds of one value ended.
#[derive(Debug, Clone, Copy, Default)]
struct Added {
    ok: Option<u64>,
    failed: Option<u64>,
    unsure: bool,
}

pub(super) fn check(history: &History, global: bool) -> Result<Findings, String> {
    let mut found = Findings::default();
    let reads = crate::budget::client_pairs(history).filter_map(|(invoke, completion)| {
        let done = completion.filter(|done| invoke.f == "read" && done.op_type == OpType::Ok)?;
        Some((invoke, done))
    });
    let Some((invoke, done)) = reads.max_by_key(|(_, done)| done.index) else {
        found.missing = Some("the table was never read".to_owned());
        return Ok(found);
    };
    let rows = rows(done)?;
    let ends = vec![invoke.index, done.index];
    presence(history, &rows, &ends, &mut found)?;
    order(&rows, global, &ends, &mut found);
    found.checked =
        format!("the last read holds all rows, {} in all, and they only grow", rows.len());
    found.counts.insert("rows".into(), rows.len() as u64);
    Ok(found)
}

fn rows(read: &Op) -> Result<Vec<Row<'_>>, String> {
    let wrong = |row: &Value| {
        format!("record {}: {row} is neither a number nor a row with :val", read.index)
    };
    let items = match &read.value {
        Value::Nil => &[],
        value => value.items().ok_or_else(|| wrong(value))?,
    };
    items
        .iter()
        .map(|item| {
            let value = item_value(item).ok_or_else(|| wrong(item))?;
            Ok(Row {
                value,
                number: Number::new(value).ok_or_else(|| wrong(item))?,
                stamp: item.get("sts").and_then(stamp),
                process: item.get("proc").or_else(|| item.get("process")),
            })
        })
        .collect()
}

fn item_value(item: &Value) -> Option<&Value> {
    match item {
        Value::Map(_) => item.get("val"),
        value => Some(value),
    }
}

fn stamp(value: &Value) -> Option<Exact> {
    match value {
        Value::Str(text) => Exact::parse(text),
        value => Exact::of(value),
    }
}

/// Lost, revived, unexpected and duplicate rows.
fn presence(
    history: &History,
    rows: &[Row],
    ends: &[u64],
    found: &mut Findings,
) -> Result<(), String> {
    let mut added: HashMap<&Value, Added, FxBuildHasher> = HashMap::default();
    // What an add asks for names its row only if it is also what it returns.
    let mut by_argument = true;
    let adds = || crate::budget::client_pairs(history).filter(|(invoke, _)| invoke.f == "add");
    for (invoke, completion) in adds() {
        if let Some(done) = completion.filter(|done| done.op_type == OpType::Ok) {
            let value = item_value(&done.value)
                .ok_or_else(|| format!("record {}: {} has no :val", done.index, done.value))?;
            by_argument &= item_value(&invoke.value) == Some(value);
            // A client that returns the row before its own has none to return at first.
            if !value.is_nil() {
                added.entry(value).or_default().ok.get_or_insert(done.index);
            }
        }
    }
    for (invoke, completion) in adds().filter(|_| by_argument) {
        let Some(value) = item_value(&invoke.value) else { continue };
        let entry = added.entry(value).or_default();
        match completion.map_or(OpType::Info, |done| done.op_type) {
            OpType::Fail => entry.failed = completion.map(|done| done.index),
            OpType::Ok => {}
            _ => entry.unsure = true,
        }
    }
    let mut present: HashMap<&Value, u64, FxBuildHasher> = HashMap::default();
    for row in rows {
        *present.entry(row.value).or_default() += 1;
    }
    let with = |records: &[Option<u64>]| -> Vec<u64> {
        records.iter().flatten().copied().chain(ends.iter().copied()).collect()
    };
    let mut lost: Vec<(u64, &Value)> = added
        .iter()
        .filter(|(value, _)| !present.contains_key(**value))
        .filter_map(|(value, added)| Some((added.ok?, *value)))
        .collect();
    lost.sort();
    for (ok, value) in lost {
        let text = format!(
            "{value} was added (ok at record {ok}), but the last read (record {}) does not hold it",
            ends[1]
        );
        found.add("lost", Some(value.to_string()), text, with(&[Some(ok)]));
    }
    let mut recovered = 0;
    let present: BTreeMap<&Value, u64> = present.into_iter().collect();
    for (value, times) in present {
        let key = Some(value.to_string());
        if times > 1 {
            let text = format!("the last read (record {}) holds {value} {times} times", ends[1]);
            found.add("duplicate", key.clone(), text, with(&[]));
        }
        match added.get(value) {
            None if by_argument => {
                let text =
                    format!("the last read (record {}) holds {value}, which nobody added", ends[1]);
                found.add("unexpected", key, text, with(&[]));
            }
            Some(Added { ok: None, failed: Some(at), unsure: false }) => {
                let text = format!(
                    "the add of {value} failed at record {at}, but the last read (record {}) holds it",
                    ends[1]
                );
                found.add("revived", key, text, with(&[Some(*at)]));
            }
            Some(Added { ok: None, unsure: true, .. }) => recovered += 1,
            _ => {}
        }
    }
    found.counts.insert("recovered".into(), recovered);
    Ok(())
}

/// Rows of which the next is not greater.
fn order(rows: &[Row], global: bool, ends: &[u64], found: &mut Findings) {
    for pair in rows.windows(2) {
        if let (Some(a), Some(b)) = (&pair[0].stamp, &pair[1].stamp)
            && b < a
        {
            let text = format!(
                "in the last read (record {}) the row of {} with time stamp {b} follows that of {} with {a}",
                ends[1], pair[1].value, pair[0].value
            );
            found.add("order-by-error", Some(pair[1].value.to_string()), text, ends.to_vec());
        }
    }
    let nameless = rows.iter().any(|row| row.process.is_none());
    let mut last: HashMap<Option<&Value>, Number, FxBuildHasher> = HashMap::default();
    for row in rows {
        let whose = if global || nameless { None } else { row.process };
        let Some(before) = last.insert(whose, row.number).filter(|before| row.number <= *before)
        else {
            continue;
        };
        let of = whose.map(|process| format!(" of process {process}")).unwrap_or_default();
        let text = format!(
            "in the last read (record {}) {} follows {}{of}, though rows are in the order of their time",
            ends[1], row.value, before
        );
        found.add("value-reorder", Some(row.value.to_string()), text, ends.to_vec());
    }
}
