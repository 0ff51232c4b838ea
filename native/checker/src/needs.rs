//! What a pass stands on: no checker says `valid` about something that it did not see.
//!
//! Each checker names the counts of its result that have to be above zero before a pass means anything
//! ([`CheckerInfo::needs`](crate::CheckerInfo)): the reads it judged, the identifiers it compared. This is
//! the one place that looks at them. A pass without them becomes `unknown`, with the functions that the
//! history does have, since the usual cause is the wrong checker or a function of another name.
//! [`crate::check_all`] asks here for each checker. Those that are valid by definition say so
//! ([`crate::Checker::only_reports`]), and make no pass alone.

use std::collections::BTreeMap;

use fuzz_dist_core::{CheckResult, History, OpType, Verdict};

/// A count that has to be above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Its name among the counts of the result.
    pub count: &'static str,
    /// What it means that the count is zero, as in `no :read succeeded`.
    pub without: &'static str,
}

/// As short as tables of them want it.
pub(crate) const fn need(count: &'static str, without: &'static str) -> Need {
    Need { count, without }
}

/// The result, `unknown` if it is a pass about nothing.
pub fn judged(mut result: CheckResult, needs: &[Need], history: &History) -> CheckResult {
    let count = |need: &&Need| result.counts.get(need.count).copied();
    match result.verdict {
        Verdict::Invalid => {}
        Verdict::Valid => {
            let Some(lack) = needs.iter().find(|need| count(need).unwrap_or(0) == 0) else {
                return result;
            };
            result.verdict = Verdict::Unknown;
            result.reason =
                format!("nothing to judge by: {}; {}", lack.without, functions(history));
        }
        Verdict::Unknown => {
            // A used-up budget has nothing to do with functions.
            let is_over = result.reason.contains("larger budget");
            if !is_over && needs.iter().any(|need| count(&need).unwrap_or(0) == 0) {
                result.reason.push_str("; ");
                result.reason.push_str(&functions(history));
            }
        }
    }
    result
}

/// `the history has :read (3 of 4 succeeded) and :write (0 of 2 succeeded)`.
pub(crate) fn functions(history: &History) -> String {
    const SHOWN: usize = 8;
    // In the order of their first invocation.
    let mut numbers: BTreeMap<u32, usize> = BTreeMap::new();
    let mut functions: Vec<(&'static str, u64, u64)> = Vec::new();
    for (invoke, completion) in history.client_pairs() {
        let number = *numbers.entry(invoke.f.id()).or_insert_with(|| {
            functions.push((invoke.f.as_str(), 0, 0));
            functions.len() - 1
        });
        let (_, ok, tried) = &mut functions[number];
        *tried += 1;
        *ok += u64::from(completion.is_some_and(|done| done.op_type == OpType::Ok));
    }
    let shown: Vec<String> = functions
        .iter()
        .take(SHOWN)
        .map(|(f, ok, tried)| format!(":{f} ({ok} of {tried} succeeded)"))
        .collect();
    match (shown.as_slice(), functions.len().saturating_sub(SHOWN)) {
        ([], _) => "the history has no operation of a client".to_owned(),
        ([one], _) => format!("the history has {one}"),
        ([first @ .., last], 0) => format!("the history has {} and {last}", first.join(", ")),
        (_, more) => format!("the history has {} and {more} more", shown.join(", ")),
    }
}
