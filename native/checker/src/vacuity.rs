//! The guard against passes that mean nothing.
//!
//! A history in which nothing succeeded, or in which no fault had any effect, satisfies every property.
//! [`vacuity`] says so: `unknown`, with what was missing. It is never `invalid`, and composing it with
//! other results by the lattice of verdicts never makes an `invalid` less than that.

use std::collections::BTreeMap;

use fuzz_dist_core::fault_log::{FaultEnd, FaultInterval};
use fuzz_dist_core::{CheckResult, FaultLog, History, OpType, Verdict};

const NAME: &str = "vacuity";

/// Whether a pass of this history would mean something. With `expect_faults`, faults were to be
/// injected, and at least one must have had an effect that was observed.
pub fn vacuity(history: &History, expect_faults: bool) -> CheckResult {
    let mut missing: Vec<String> = Vec::new();
    let mut succeeded: BTreeMap<&'static str, bool> = BTreeMap::new();
    for (invoke, completion) in crate::budget::client_pairs(history) {
        let ok = completion.is_some_and(|c| c.op_type == OpType::Ok);
        *succeeded.entry(invoke.f.as_str()).or_default() |= ok;
    }
    if succeeded.is_empty() {
        missing.push("no client ever invoked an operation".into());
    }
    let never: Vec<String> =
        succeeded.iter().filter(|(_, ok)| !**ok).map(|(f, _)| format!(":{f}")).collect();
    if !never.is_empty() {
        missing.push(format!("no {} ever succeeded", never.join(" and no ")));
    }
    let log = FaultLog::of(history);
    let faults = faults(&log);
    let observed = faults.iter().filter(|fault| fault.observed.is_some()).count();
    let without: Vec<String> = faults
        .iter()
        .filter(|fault| fault.observed.is_none())
        .map(|fault| format!("fault {} ({}): {}", fault.id, fault.kind, why_not(fault)))
        .collect();
    if faults.is_empty() && expect_faults {
        missing.push("faults were to be injected, but none was".into());
    } else if !faults.is_empty() && observed == 0 {
        missing.push(format!(
            "none of {} faults had an effect that was observed ({})",
            faults.len(),
            shorten(&without)
        ));
    }
    let mut reason = if missing.is_empty() {
        let operations = match succeeded.len() {
            1 => "operations succeeded".to_owned(),
            count => format!("operations of all {count} functions succeeded"),
        };
        match faults.len() {
            0 => operations,
            count => format!("{operations}, and {observed} of {count} faults had an effect"),
        }
    } else {
        format!("a pass would mean nothing: {}", missing.join("; "))
    };
    if observed > 0 && !without.is_empty() {
        reason.push_str(&format!("; without effect: {}", shorten(&without)));
    }
    let verdict = if missing.is_empty() { Verdict::Valid } else { Verdict::Unknown };
    let mut result = CheckResult::new(NAME, verdict, reason);
    result.counts.insert("faults".into(), faults.len() as u64);
    result.counts.insert("faults-observed".into(), observed as u64);
    result.counts.insert("faults-without-effect".into(), without.len() as u64);
    result
}

fn shorten(items: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = items[..items.len().min(SHOWN)].join("; ");
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// The faults that our nemesis began.
fn faults(log: &FaultLog) -> Vec<&FaultInterval> {
    let begun = |fault: &&FaultInterval| {
        !fault.is_jepsen && !matches!(fault.end, FaultEnd::Unavailable | FaultEnd::Unmet)
    };
    log.intervals().iter().filter(begun).collect()
}

/// Why a fault had no effect.
fn why_not(fault: &FaultInterval) -> String {
    let what = match (fault.end, &fault.reason) {
        (_, None) => return "no effect was recorded".to_owned(),
        (FaultEnd::Failed, _) => "could not be applied",
        _ => "no effect",
    };
    format!("{what}: {}", fault.reason.as_deref().unwrap_or_default())
}
