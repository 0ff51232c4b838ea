//! `adya`: two transactions that each had to see the other's absence both committed (G2).
//!
//! As `jepsen.tests.adya` (Adya, "Weak Consistency", 1999). For each key two transactions read two tables
//! by a predicate, and insert into one of them only if both reads were empty: `insert [k [a nil]]` and
//! `insert [k [nil b]]`. If both succeed, each missed the other's insert: an anti-dependency cycle over
//! predicates, G2, which serializability forbids and snapshot isolation allows. So at most one insert of a
//! key succeeds; an indeterminate one proves nothing. Linear.

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, Edge, History, Op, OpType, Verdict};

use crate::budget::Meter;
use crate::needs::need;
use crate::numbering::Numbering;
use crate::options::{OptionError, OptionReader};
use crate::{Checker, CheckerInfo, or_not_checked};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "adya",
    about: "Whether at most one insert of each key succeeded (insert [k [a nil]] and insert [k [nil b]], \
            each conditional on both tables being empty for k). Two successes are anomaly G2: each \
            transaction missed the other's insert by its predicate.",
    needs: &[need("succeeded-count", "no :insert succeeded")],
    options: &[],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct Adya;

/// Builds it.
pub fn build(options: &Options) -> Result<Adya, OptionError> {
    OptionReader::new(INFO.name, options, INFO.options)?;
    Ok(Adya)
}

impl Checker for Adya {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        or_not_checked(INFO.name, check_inserts(history))
    }
}

fn check_inserts(history: &History) -> Result<CheckResult, String> {
    let mut keys = Numbering::default();
    // The inserts of each key that succeeded.
    let mut succeeded: Vec<Vec<(&Op, &Op)>> = Vec::new();
    for (invoke, completion) in
        crate::budget::client_pairs(history).filter(|(op, _)| op.f == "insert")
    {
        let (key, _) = invoke.value.key_and_value().ok_or_else(|| {
            format!("record {}: {} is not [key [a-id b-id]]", invoke.index, invoke.value)
        })?;
        let number = keys.number(key) as usize;
        if number == succeeded.len() {
            succeeded.push(Vec::new());
        }
        if let Some(done) = completion.filter(|done| done.op_type == OpType::Ok) {
            succeeded[number].push((invoke, done));
        }
    }
    let illegal: Vec<usize> = (0..succeeded.len()).filter(|n| succeeded[*n].len() > 1).collect();
    let once = succeeded.iter().filter(|inserts| inserts.len() == 1).count();
    let mut result = CheckResult::new(INFO.name, Verdict::Valid, "");
    for number in illegal.iter().copied().take(ANOMALIES_MAX) {
        result.anomalies.push(anomaly(&keys.value(number as u32).to_string(), &succeeded[number]));
    }
    (result.verdict, result.reason) = match result.anomalies.first() {
        Some(first) => {
            let text = format!("{} of {} keys: {}", illegal.len(), succeeded.len(), first.text);
            (Verdict::Invalid, text)
        }
        None => {
            let text = format!("at most one insert of each of {} keys succeeded", succeeded.len());
            (Verdict::Valid, text)
        }
    };
    let counts = [
        ("key-count", succeeded.len()),
        ("legal-count", once),
        ("illegal-count", illegal.len()),
        ("succeeded-count", succeeded.iter().map(Vec::len).sum()),
    ];
    result.counts = counts.into_iter().map(|(name, n)| (name.into(), n as u64)).collect();
    Ok(result)
}

fn anomaly(key: &str, inserts: &[(&Op, &Op)]) -> Anomaly {
    let ((_, a), (_, b)) = (inserts[0], inserts[1]);
    let edge = |from: &Op, to: &Op| Edge {
        from: from.index,
        to: to.index,
        kind: "rw".into(),
        why: format!(
            "{} read that nothing of key {key} was there, without {}",
            from.value, to.value
        ),
    };
    Anomaly {
        name: "G2".into(),
        key: Some(key.to_owned()),
        text: format!(
            "{} inserts of key {key} succeeded, {} at record {} and {} at record {}, though each was to be \
             made only if the other was not there",
            inserts.len(),
            a.value,
            a.index,
            b.value,
            b.index
        ),
        ops: inserts.iter().flat_map(|(invoke, done)| [invoke.index, done.index]).take(8).collect(),
        edges: vec![edge(a, b), edge(b, a)],
        ..Anomaly::default()
    }
}
