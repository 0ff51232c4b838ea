//! `counter`: a counter that only grows, read while it is added to.
//!
//! As Jepsen's. `add v` with v not negative; a `read` that succeeds must lie between the sum of all
//! additions that had succeeded before it was invoked and the sum of all that were invoked before it
//! completed and did not fail. Numbers of any kind are added exactly; where floats are so close to a bound
//! that rounding decides, the verdict is `unknown`. Linear. Weaker than linearizability: reads are not compared with each
//! other.

use std::cmp::Ordering;

use fuzz_dist_core::number::Sum;
use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Value, Verdict};

use crate::budget::Meter;
use crate::independent::INDEPENDENT;
use crate::needs::need;
use crate::options::{OptionError, OptionReader};
use crate::{Checker, CheckerInfo, told};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "counter",
    about: "Whether every read of a counter that only grows (add v, read) lies between the sum of the \
            additions that succeeded before it and the sum of those invoked before it completed.",
    needs: &[
        need("additions", "there is no :add that may have happened"),
        need("reads", "no :read succeeded"),
    ],
    options: &[INDEPENDENT],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct Counter;

/// Builds it.
pub fn build(options: &Options) -> Result<Counter, OptionError> {
    OptionReader::new(INFO.name, options, INFO.options)?;
    Ok(Counter)
}

impl Checker for Counter {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        check_one(history)
    }
}

fn check_one(history: &History) -> CheckResult {
    match walk(history) {
        Ok(found) => verdict(found),
        Err(reason) => {
            CheckResult::new(INFO.name, Verdict::Unknown, format!("not checked: {reason}"))
        }
    }
}

/// What reads showed.
#[derive(Default)]
struct Found {
    /// Additions that may have happened.
    additions: u64,
    reads: u64,
    /// Reads out of bounds.
    errors: Vec<Anomaly>,
    /// Floats that are at a bound up to rounding, in words, and how many.
    rounded: Option<String>,
    rounded_count: u64,
}

/// Counts the reads that succeeded and finds those out of bounds.
fn walk(history: &History) -> Result<Found, String> {
    // Sum of what certainly happened, and of what may have.
    let (mut lower, mut upper) = (Sum::default(), Sum::default());
    // The lower bound when the read of that completion was invoked.
    let mut at_invoke: std::collections::HashMap<usize, Sum, rustc_hash::FxBuildHasher> =
        Default::default();
    let mut found = Found::default();
    for (position, op) in crate::budget::ops(history).enumerate().filter(|(_, op)| op.is_client()) {
        let pair = history.pair(position);
        let partner = pair.map(|pair| &history.ops()[pair]);
        match (op.f.as_str(), op.op_type) {
            // A failed addition never counts.
            ("add", OpType::Invoke) if partner.is_none_or(|done| done.op_type != OpType::Fail) => {
                found.additions += 1;
                upper.add(&amount(op, partner)?);
            }
            ("add", OpType::Ok) => lower.add(&amount(partner.unwrap_or(op), Some(op))?),
            ("read", OpType::Invoke) => {
                if let Some(pair) = pair {
                    at_invoke.insert(pair, lower.clone());
                }
            }
            ("read", OpType::Ok) => {
                let low = at_invoke.remove(&position).unwrap_or_default();
                found.reads += 1;
                found.judge(op, pair, &low, &upper)?;
            }
            ("add" | "read", _) => {
                at_invoke.remove(&position);
            }
            (f, OpType::Invoke) if partner.is_none_or(|done| done.op_type != OpType::Fail) => {
                return Err(format!("record {position}: a counter has :add and :read, not :{f}"));
            }
            _ => {}
        }
    }
    Ok(found)
}

impl Found {
    fn judge(
        &mut self,
        op: &Op,
        invoke: Option<usize>,
        low: &Sum,
        high: &Sum,
    ) -> Result<(), String> {
        let (position, read) = (op.index, number(op, &op.value)?);
        let bounds = [read.compare(low), high.compare(&read)];
        if bounds.contains(&Some(Ordering::Less)) {
            let text = format!(
                "process {} read {} at record {position}, but only {low} to {high} is possible",
                op.process, op.value
            );
            self.errors.push(Anomaly {
                name: "out-of-bounds".into(),
                key: None,
                text,
                ops: invoke.into_iter().map(|i| i as u64).chain([position]).collect(),
                ..Anomaly::default()
            });
        } else if bounds.contains(&None) {
            self.rounded_count += 1;
            self.rounded.get_or_insert_with(|| {
                format!(
                    "the read of {} at record {position} differs from {low} to {high} by no more than \
                     floats are rounded; use integers or decimals to have it decided",
                    op.value
                )
            });
        }
        Ok(())
    }
}

fn verdict(found: Found) -> CheckResult {
    let Found { additions, reads, errors, rounded, rounded_count } = found;
    let (verdict, reason) = match (errors.first(), rounded) {
        (Some(first), _) => {
            let text = format!("{} of {reads} reads are impossible: {}", errors.len(), first.text);
            (Verdict::Invalid, text)
        }
        (None, Some(text)) => (Verdict::Unknown, text),
        (None, None) => (Verdict::Valid, format!("all {reads} reads are within their bounds")),
    };
    let mut result = CheckResult::new(INFO.name, verdict, reason);
    result.counts.insert("additions".into(), additions);
    result.counts.insert("reads".into(), reads);
    result.counts.insert("errors".into(), errors.len() as u64);
    if rounded_count > 0 {
        result.counts.insert("undecided-reads".into(), rounded_count);
    }
    result.anomalies = errors;
    result.anomalies.truncate(ANOMALIES_MAX);
    result
}

/// What an addition adds.
fn amount(invoke: &Op, done: Option<&Op>) -> Result<Sum, String> {
    let amount = number(invoke, told::argument(invoke, done)?)?;
    match amount.compare(&Sum::default()) {
        Some(Ordering::Less) => Err(format!(
            "record {}: this counter only grows, but {amount} is added; pn-counter takes both",
            invoke.index
        )),
        _ => Ok(amount),
    }
}

fn number(op: &Op, value: &Value) -> Result<Sum, String> {
    Sum::of(value)
        .ok_or_else(|| format!("record {}: :{} needs a number, not {value}", op.index, op.f))
}
