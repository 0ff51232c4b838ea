//! `counter`: a counter that only grows, read while it is added to.
//!
//! As Jepsen's. `add v` with v not negative; a `read` that succeeds must lie between the sum of all
//! additions that had succeeded before it was invoked and the sum of all that were invoked before it
//! completed and did not fail. Linear. Weaker than linearizability: reads are not compared with each
//! other.

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Value, Verdict};

use crate::budget::Meter;
use crate::independent::INDEPENDENT;
use crate::options::{OptionError, OptionReader};
use crate::{Checker, CheckerInfo};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "counter",
    about: "Whether every read of a counter that only grows (add v, read) lies between the sum of the \
            additions that succeeded before it and the sum of those invoked before it completed.",
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
        Ok((reads, errors)) => verdict(reads, errors),
        Err(reason) => {
            CheckResult::new(INFO.name, Verdict::Unknown, format!("not checked: {reason}"))
        }
    }
}

/// Counts the reads that succeeded and finds those out of bounds.
fn walk(history: &History) -> Result<(u64, Vec<Anomaly>), String> {
    // Sum of what certainly happened, and of what may have.
    let (mut lower, mut upper) = (0i128, 0i128);
    // The lower bound when the read of that completion was invoked.
    let mut at_invoke: std::collections::HashMap<usize, i128, rustc_hash::FxBuildHasher> =
        Default::default();
    let (mut reads, mut errors) = (0, Vec::new());
    for (position, op) in history.ops().iter().enumerate().filter(|(_, op)| op.is_client()) {
        let pair = history.pair(position);
        let partner = pair.map(|pair| &history.ops()[pair]);
        match (op.f.as_str(), op.op_type) {
            ("add", OpType::Invoke) => {
                let amount = amount(op)?;
                // A failed addition never counts.
                if partner.is_none_or(|done| done.op_type != OpType::Fail) {
                    upper += amount;
                }
            }
            ("add", OpType::Ok) => lower += amount(partner.unwrap_or(op))?,
            ("read", OpType::Invoke) => {
                if let Some(pair) = pair {
                    at_invoke.insert(pair, lower);
                }
            }
            ("read", OpType::Ok) => {
                reads += 1;
                let low = at_invoke.remove(&position).unwrap_or(0);
                let value = integer(op, &op.value)?;
                if value < low || value > upper {
                    errors.push(Anomaly {
                        name: "out-of-bounds".into(),
                        key: None,
                        text: format!(
                            "process {} read {value} at record {position}, but only {low} to {upper} is \
                             possible",
                            op.process
                        ),
                        ops: pair.into_iter().chain([position]).map(|i| i as u64).collect(), ..Anomaly::default() });
                }
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
    Ok((reads, errors))
}

fn verdict(reads: u64, errors: Vec<Anomaly>) -> CheckResult {
    let (verdict, reason) = match errors.first() {
        Some(first) => {
            let text = format!("{} of {reads} reads are impossible: {}", errors.len(), first.text);
            (Verdict::Invalid, text)
        }
        None => (Verdict::Valid, format!("all {reads} reads are within their bounds")),
    };
    let mut result = CheckResult::new(INFO.name, verdict, reason);
    result.counts.insert("reads".into(), reads);
    result.counts.insert("errors".into(), errors.len() as u64);
    result.anomalies = errors;
    result.anomalies.truncate(ANOMALIES_MAX);
    result
}

fn amount(op: &Op) -> Result<i128, String> {
    match integer(op, &op.value)? {
        amount if amount >= 0 => Ok(amount),
        amount => Err(format!(
            "record {}: this counter only grows, but {amount} is added; pn-counter takes both",
            op.index
        )),
    }
}

fn integer(op: &Op, value: &Value) -> Result<i128, String> {
    match value {
        Value::Int(n) => Ok(i128::from(*n)),
        _ => Err(format!("record {}: :{} needs an integer, not {value}", op.index, op.f)),
    }
}
