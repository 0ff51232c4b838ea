//! `availability`: how many of the operations that were invoked succeeded.
//!
//! As Maelstrom's: the fraction of invocations with an ok completion must reach what the option
//! `availability` asks, a fraction or `total` (all of them, which an always available service must reach
//! even while it is partitioned). Without the option it is only reported. Nothing invoked is a fraction
//! of 1, as there. Linear.

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, OpType, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::independent::INDEPENDENT;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "availability",
    about: "Whether the fraction of operations that succeeded is at least what was asked for; reported, \
            and always valid, if nothing was.",
    needs: &[need("count", "no operation was invoked")],
    options: &[
        OptionInfo {
            name: "availability",
            default: "none",
            about: "the least fraction (0 to 1) of operations that must succeed, or total for all",
        },
        INDEPENDENT,
    ],
};

/// How many operations that did not succeed are named.
const OPS_MAX: usize = 16;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct Availability {
    least: Option<f64>,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Availability, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let least = match reader.raw("availability") {
        None => None,
        Some(given) if given.is_null() || matches!(given.as_str(), Some("none" | "nil")) => None,
        Some(given) if matches!(given.as_str(), Some("total" | ":total")) => Some(1.0),
        Some(given) => {
            let number = match given.as_str() {
                Some(text) => text.parse().ok(),
                None => given.as_f64(),
            };
            let fits = number.filter(|least: &f64| (0.0..=1.0).contains(least));
            let expected = "a fraction from 0 to 1, or total";
            Some(fits.ok_or_else(|| reader.bad("availability", given, expected, String::new()))?)
        }
    };
    Ok(Availability { least })
}

impl Checker for Availability {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn only_reports(&self) -> bool {
        self.least.is_none()
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        let (mut invoked, mut ok) = (0u64, 0u64);
        let mut without = Vec::new();
        for (invoke, completion) in crate::budget::client_pairs(history) {
            invoked += 1;
            if completion.is_some_and(|done| done.op_type == OpType::Ok) {
                ok += 1;
            } else if without.len() < OPS_MAX {
                without.push(invoke.index);
            }
        }
        let fraction = if invoked == 0 { 1.0 } else { ok as f64 / invoked as f64 };
        let reason = format!("{ok} of {invoked} operations succeeded ({:.2} %)", fraction * 100.0);
        let mut result = match self.least.filter(|least| fraction < *least) {
            Some(least) => {
                let text = format!("{reason}, but {:.2} % were asked for", least * 100.0);
                let mut result = CheckResult::new(INFO.name, Verdict::Invalid, &text);
                result.anomalies.push(Anomaly {
                    name: "unavailable".into(),
                    text,
                    ops: without,
                    ..Anomaly::default()
                });
                result
            }
            None => CheckResult::new(INFO.name, Verdict::Valid, reason),
        };
        result.counts.insert("count".into(), invoked);
        result.counts.insert("ok-count".into(), ok);
        result.details = json!({"ok-fraction": fraction});
        result
    }
}
