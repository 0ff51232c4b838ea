//! `sequential`: what one process wrote in order is seen in that order.
//!
//! As the `sequential` test of CockroachDB, TiDB and elle-cli. A process writes the subkeys of a key one
//! after the other (`write k`, one transaction each); another reads them in the opposite order, again
//! one by one (`read k`, then `[k [last … first]]`, nil for a subkey that was not there). Whoever sees a
//! later subkey must then see all earlier ones: a nil after something that is not nil is an anomaly.
//! Linear.

use std::collections::HashMap;

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, OpType, Value, Verdict};
use rustc_hash::FxBuildHasher;

use crate::budget::Meter;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, or_not_checked};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "sequential",
    about: "Whether subkeys that one process wrote in order are seen in that order: a read is [k [last … \
            first]], the subkeys of k in the opposite order, and must have no nil after one that is not \
            nil.",
    needs: &[need("reads", "no :read succeeded")],
    options: &[OptionInfo {
        name: "key-count",
        default: "as many as were read",
        about: "how many subkeys a key has; a read of that many without nil counts in all-count",
    }],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct Sequential {
    key_count: Option<usize>,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Sequential, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let count = reader.int("key-count", 0)?;
    let key_count = match reader.raw("key-count") {
        None => None,
        Some(given) => match usize::try_from(count) {
            Ok(count) if count > 0 => Some(count),
            _ => return Err(reader.bad("key-count", given, "at least 1", String::new())),
        },
    };
    Ok(Sequential { key_count })
}

impl Checker for Sequential {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        or_not_checked(INFO.name, self.check_reads(history))
    }
}

impl Sequential {
    fn check_reads(&self, history: &History) -> Result<CheckResult, String> {
        let (mut reads, mut all, mut partial, mut none, mut bad) = (0u64, 0u64, 0u64, 0u64, 0u64);
        let mut writes: HashMap<&Value, u64, FxBuildHasher> = HashMap::default();
        let mut anomalies = Vec::new();
        for (invoke, completion) in crate::budget::client_pairs(history) {
            match invoke.f.as_str() {
                "write" => {
                    writes.entry(&invoke.value).or_insert(invoke.index);
                    continue;
                }
                "read" => {}
                _ => continue,
            }
            let Some(done) = completion.filter(|done| done.op_type == OpType::Ok) else { continue };
            let wrong = || format!("record {}: {} is not [key [value …]]", done.index, done.value);
            let (key, subkeys) = done.value.key_and_value().ok_or_else(wrong)?;
            let subkeys = subkeys.items().ok_or_else(wrong)?;
            reads += 1;
            let nils = subkeys.iter().filter(|value| value.is_nil()).count();
            let complete = self.key_count.is_none_or(|count| count == subkeys.len());
            all += u64::from(nils == 0 && complete);
            partial += u64::from(nils > 0);
            none += u64::from(nils == subkeys.len());
            let seen = subkeys.iter().position(|value| !value.is_nil());
            let Some(seen) = seen.filter(|from| subkeys[*from..].iter().any(Value::is_nil)) else {
                continue;
            };
            bad += 1;
            if anomalies.len() < ANOMALIES_MAX {
                let text = format!(
                    "process {} read {} of key {key} (records {} to {}) and then missed a subkey that was \
                     written before it: {}",
                    done.process, subkeys[seen], invoke.index, done.index, done.value
                );
                let write = writes.get(key).copied();
                let ops = write.into_iter().chain([invoke.index, done.index]).collect();
                anomalies.push(Anomaly {
                    name: "sequential".into(),
                    key: Some(key.to_string()),
                    text,
                    ops,
                    ..Anomaly::default()
                });
            }
        }
        let (verdict, reason) = match anomalies.first() {
            Some(first) => {
                (Verdict::Invalid, format!("{bad} of {reads} reads are wrong: {}", first.text))
            }
            None => {
                let text = format!(
                    "all {reads} reads see the writes of a process in order, {partial} in part"
                );
                (Verdict::Valid, text)
            }
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        // Under the original's names; there too a read that saw nothing is one that missed some.
        let counts = [
            ("reads", reads),
            ("all-count", all),
            ("some-count", partial),
            ("none-count", none),
            ("bad-count", bad),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
        result.anomalies = anomalies;
        Ok(result)
    }
}
