//! `unique-ids`: no identifier is given out twice.
//!
//! Functions: `generate` (its ok value is the identifier). Linear. Indeterminate operations gave out
//! nothing that anybody knows. Where nothing was generated, nothing was given out twice: valid, as in the
//! original; `stats` says that nothing was tested.

use std::collections::HashMap;

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, OpType, Value, Verdict};
use rustc_hash::FxBuildHasher;
use serde_json::json;

use crate::budget::Meter;
use crate::independent::INDEPENDENT;
use crate::needs::need;
use crate::options::{OptionError, OptionReader};
use crate::{Checker, CheckerInfo};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "unique-ids",
    about: "Whether all identifiers that generate returned are different.",
    needs: &[need("acknowledged-count", "no :generate succeeded")],
    options: &[INDEPENDENT],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 48;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct UniqueIds;

/// Builds it.
pub fn build(options: &Options) -> Result<UniqueIds, OptionError> {
    OptionReader::new(INFO.name, options, INFO.options)?;
    Ok(UniqueIds)
}

impl Checker for UniqueIds {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        let mut first: HashMap<&Value, (u64, u64), FxBuildHasher> = HashMap::default();
        let (mut attempts, mut acknowledged) = (0u64, 0u64);
        let mut result = CheckResult::new(INFO.name, Verdict::Valid, "");
        let mut again: HashMap<&Value, Vec<u64>, FxBuildHasher> = HashMap::default();
        for op in crate::budget::client_ops(history).filter(|op| op.f == "generate") {
            match op.op_type {
                OpType::Invoke => attempts += 1,
                OpType::Ok => {
                    acknowledged += 1;
                    let seen = first.entry(&op.value).or_insert((op.index, 0));
                    seen.1 += 1;
                    if seen.1 > 1 {
                        again.entry(&op.value).or_insert_with(|| vec![seen.0]).push(op.index);
                    }
                }
                _ => {}
            }
        }
        let mut duplicated: Vec<(&Value, Vec<u64>)> = again.into_iter().collect();
        duplicated.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.0.cmp(b.0)));
        (result.verdict, result.reason) = match duplicated.first() {
            Some((value, times)) => {
                let text = format!(
                    "{} identifiers were given out more than once, {value} {} times",
                    duplicated.len(),
                    times.len()
                );
                (Verdict::Invalid, text)
            }
            None => (Verdict::Valid, format!("all {acknowledged} identifiers are different")),
        };
        result.counts.insert("attempted-count".into(), attempts);
        result.counts.insert("acknowledged-count".into(), acknowledged);
        result.counts.insert("duplicated-count".into(), duplicated.len() as u64);
        let range = [first.keys().min(), first.keys().max()].map(|id| id.map(|id| id.to_string()));
        let times = duplicated
            .iter()
            .take(ANOMALIES_MAX)
            .map(|(id, times)| (id.to_string(), times.len().into()));
        result.details = json!({
            "range": range,
            "duplicated": times.collect::<serde_json::Map<_, _>>(),
        });
        for (value, ops) in duplicated.into_iter().take(ANOMALIES_MAX) {
            result.anomalies.push(Anomaly {
                name: "duplicated".into(),
                key: Some(value.to_string()),
                text: format!("{value} was given out {} times", ops.len()),
                ops,
                ..Anomaly::default()
            });
        }
        result
    }
}
