//! `set`: what the last read of a set must hold.
//!
//! Elements are added (`add`), and the last read that succeeded (`read`) must hold every element whose
//! add succeeded (`lost`) and none that was never added (`unexpected`). As in Jepsen's checker of that
//! name, with its counts, and one difference: an element whose every add certainly failed must not be
//! there (`revived`; option `failed-adds`). There it passes for recovered, and is counted as that here too.
//! Linear in the records and the size of the last read.

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Value, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::elements::{Added, NONE, SetHistory, about, intervals, read_elements, some};
use crate::independent::INDEPENDENT;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo};

/// The option that both set checkers have.
pub(crate) const FAILED_ADDS: OptionInfo = OptionInfo {
    name: "failed-adds",
    default: "forbid",
    about: "forbid, or allow: whether an element may be read whose every add failed",
};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "set",
    about: "Whether the last successful read holds every element whose add succeeded (lost otherwise) \
            and none that was never added (unexpected). Unknown if the set was never read.",
    needs: &[need("acknowledged-count", "no :add succeeded")],
    options: &[FAILED_ADDS, INDEPENDENT],
};

/// How many anomalies of a kind are told.
const ANOMALIES_MAX: usize = 8;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct Set {
    forbid_failed: bool,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Set, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    Ok(Set {
        forbid_failed: reader.word("failed-adds", &["forbid", "allow"], "forbid")? == "forbid",
    })
}

impl Checker for Set {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        self.check_one(history)
    }
}

impl Set {
    fn check_one(&self, history: &History) -> CheckResult {
        let mut set = match SetHistory::new(history) {
            Ok(set) => set,
            Err(reason) => return CheckResult::new(INFO.name, Verdict::Unknown, reason),
        };
        // The last to complete, as Jepsen has it.
        let Some(&(invoke, read)) = set.reads.iter().max_by_key(|(_, completion)| *completion)
        else {
            return CheckResult::new(INFO.name, Verdict::Unknown, "the set was never read");
        };
        let elements = match read_elements(&history.ops()[read as usize]) {
            Ok(elements) => elements,
            Err(reason) => return CheckResult::new(INFO.name, Verdict::Unknown, reason),
        };
        let numbers: Vec<u32> = elements.iter().map(|element| set.element(element)).collect();
        let mut present = vec![false; set.added.len()];
        for number in numbers {
            present[number as usize] = true;
        }
        let all = || (0..set.added.len() as u32).map(|n| (n, set.added[n as usize]));
        let is_present = |n: u32| present[n as usize];
        let lost: Vec<u32> =
            all().filter(|(n, a)| a.ok != NONE && !is_present(*n)).map(|(n, _)| n).collect();
        let unexpected: Vec<u32> =
            all().filter(|(n, a)| is_present(*n) && a.invoke == NONE).map(|(n, _)| n).collect();
        let revived: Vec<u32> = all()
            .filter(|(n, a)| is_present(*n) && a.invoke != NONE && a.failed && self.forbid_failed)
            .map(|(n, _)| n)
            .collect();
        let tried = |(n, a): &(u32, Added)| is_present(*n) && a.invoke != NONE;
        let ok: Vec<u32> = all().filter(tried).map(|(n, _)| n).collect();
        let recovered: Vec<u32> =
            all().filter(|(n, a)| tried(&(*n, *a)) && a.ok == NONE).map(|(n, _)| n).collect();
        let counts = [
            ("attempt-count", all().filter(|(_, a)| a.invoke != NONE).count()),
            ("acknowledged-count", all().filter(|(_, a)| a.ok != NONE).count()),
            ("ok-count", ok.len()),
            ("lost-count", lost.len()),
            ("unexpected-count", unexpected.len()),
            ("revived-count", revived.len()),
            ("recovered-count", recovered.len()),
        ];
        let values = |numbers: &[u32]| -> String {
            let values: Vec<&Value> = numbers.iter().map(|n| set.elements.value(*n)).collect();
            some(values.into_iter())
        };
        let mut reasons = Vec::new();
        if !lost.is_empty() {
            reasons.push(format!("{} elements lost: {}", lost.len(), values(&lost)));
        }
        if !unexpected.is_empty() {
            let text = format!("{} unexpected: {}", unexpected.len(), values(&unexpected));
            reasons.push(text);
        }
        if !revived.is_empty() {
            reasons.push(format!("{} revived: {}", revived.len(), values(&revived)));
        }
        let mut result = if reasons.is_empty() {
            let text = format!("the last read holds all {} elements added", counts[1].1);
            CheckResult::new(INFO.name, Verdict::Valid, text)
        } else {
            CheckResult::new(INFO.name, Verdict::Invalid, reasons.join("; "))
        };
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n as u64)).collect();
        let listed = |numbers: &[u32]| intervals(numbers.iter().map(|n| set.elements.value(*n)));
        result.details = json!({
            "ok": listed(&ok), "lost": listed(&lost), "unexpected": listed(&unexpected),
            "revived": listed(&revived), "recovered": listed(&recovered),
        });
        result.anomalies = anomalies(&set, (invoke, read), &lost, &unexpected, &revived);
        result
    }
}

/// Each element that is wrong, with the records that show it; `(invoke, read)` are those of the last read.
fn anomalies(
    set: &SetHistory,
    (invoke, read): (u32, u32),
    lost: &[u32],
    unexpected: &[u32],
    revived: &[u32],
) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for n in lost.iter().copied().take(ANOMALIES_MAX) {
        let added = set.added[n as usize];
        let text = format!(
            "{} was added (ok at record {}), but the last read (records {invoke} to {read}) does \
             not hold it",
            set.elements.value(n),
            added.ok
        );
        let ops = [added.invoke, added.ok, invoke, read];
        anomalies.push(about("lost", set.elements.value(n), text, &ops));
    }
    let kinds = [
        ("unexpected", unexpected, "was never added"),
        ("revived", revived, "certainly failed to be added"),
    ];
    for (name, numbers, why) in kinds {
        for n in numbers.iter().copied().take(ANOMALIES_MAX) {
            let text = format!(
                "{} {why}, but the last read (records {invoke} to {read}) holds it",
                set.elements.value(n)
            );
            let ops = [invoke, read, set.added[n as usize].invoke];
            anomalies.push(about(name, set.elements.value(n), text, &ops));
        }
    }
    anomalies
}
