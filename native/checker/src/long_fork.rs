//! `long-fork`: two reads that see two writes in opposite orders (forbidden by snapshot isolation).
//!
//! As Jepsen's. Each key is written once (`[[:w k v]]`), and reads (`[[:r k v] …]`) are of a group of
//! `group-size` keys, in any order. Two reads of a group fork if each sees a write that the other misses. A
//! key that was written twice, or of which two different values were read, or a read of another number of
//! keys makes the verdict `unknown`: nothing follows from such reads. Reads that saw the same are compared
//! once, and if those of a group can be ordered, each with its neighbours only.

use std::collections::{BTreeMap, HashMap};

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Value, Verdict};

use crate::budget::Meter;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, or_not_checked};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "long-fork",
    about: "Whether any two reads of the same group of keys disagree about the order of two writes. Each \
            key is written once ([[:w k v]]) and read with its group ([[:r k v] ...]).",
    needs: &[
        need("reads-count", "no transaction of reads alone succeeded"),
        need("writes-count", "no transaction that may have happened writes"),
    ],
    options: &[OptionInfo {
        name: "group-size",
        default: "2",
        about: "how many keys form a group",
    }],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;
/// Keys of a group are bits.
const GROUP_MAX: i64 = 64;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct LongFork {
    group_size: i64,
}

/// Builds it.
pub fn build(options: &Options) -> Result<LongFork, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let group_size = reader.int("group-size", 2)?;
    match reader.raw("group-size") {
        Some(given) if !(1..=GROUP_MAX).contains(&group_size) => {
            Err(reader.bad("group-size", given, "from 1 to 64", String::new()))
        }
        _ => Ok(LongFork { group_size }),
    }
}

/// Reads of one group of keys, with the value of each key that was seen.
#[derive(Default)]
struct Group<'a> {
    values: Vec<Option<&'a Value>>,
    /// The first record of each set of keys that was seen, as bits.
    reads: BTreeMap<u64, u64>,
}

impl Checker for LongFork {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        or_not_checked(INFO.name, self.check_reads(history, meter))
    }
}

impl LongFork {
    fn check_reads(&self, history: &History, meter: &Meter) -> Result<CheckResult, String> {
        let mut groups: BTreeMap<Vec<&Value>, Group> = BTreeMap::new();
        let mut written: HashMap<&Value, u64> = HashMap::new();
        let (mut reads, mut early, mut late) = (0u64, 0u64, 0u64);
        for (invoke, completion) in crate::budget::client_pairs(history) {
            let outcome = completion.map_or(OpType::Info, |c| c.op_type);
            let writes = micro_ops(invoke, "w")?;
            for &(key, _) in &writes {
                if outcome != OpType::Fail
                    && let Some(before) = written.insert(key, invoke.index)
                {
                    return Err(format!(
                        "key {key} is written twice (records {before} and {}), so reads of it tell no order",
                        invoke.index
                    ));
                }
            }
            let Some(done) = completion.filter(|_| outcome == OpType::Ok) else { continue };
            let seen = micro_ops(done, "r")?;
            if seen.is_empty() || !writes.is_empty() {
                continue;
            }
            reads += 1;
            let mask = self.read(done, seen, &mut groups)?;
            early += u64::from(mask == 0);
            late += u64::from(i64::from(mask.count_ones()) == self.group_size);
        }
        let mut result = CheckResult::new(INFO.name, Verdict::Valid, "");
        let mut forks = 0u64;
        for group in groups.values() {
            meter.check_time().map_err(|why| why.to_string())?;
            forks += self.forks(history, group, &mut result.anomalies);
        }
        (result.verdict, result.reason) = match result.anomalies.first() {
            Some(first) => (Verdict::Invalid, format!("{forks} forks: {}", first.text)),
            None => (Verdict::Valid, format!("{reads} reads of {} groups agree", groups.len())),
        };
        let counts = [
            ("reads-count", reads),
            ("writes-count", written.len() as u64),
            ("early-read-count", early),
            ("late-read-count", late),
            ("forks", forks),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
        Ok(result)
    }

    /// Puts a read to its group; which of its keys it saw.
    fn read<'a>(
        &self,
        op: &Op,
        mut seen: Vec<(&'a Value, &'a Value)>,
        groups: &mut BTreeMap<Vec<&'a Value>, Group<'a>>,
    ) -> Result<u64, String> {
        seen.sort_unstable();
        seen.dedup_by_key(|(key, _)| *key);
        if seen.len() as i64 != self.group_size {
            return Err(format!(
                "record {}: {} is not a read of {} keys; option group-size says how many a group has",
                op.index, op.value, self.group_size
            ));
        }
        let group = groups.entry(seen.iter().map(|(key, _)| *key).collect()).or_default();
        group.values.resize(seen.len(), None);
        let mut mask = 0;
        for (i, (key, value)) in seen.into_iter().enumerate().filter(|(_, (_, v))| !v.is_nil()) {
            mask |= 1 << i;
            let known = *group.values[i].get_or_insert(value);
            if known != value {
                return Err(format!(
                    "record {}: key {key} is {value} here and {known} elsewhere, but each key is to be \
                     written once",
                    op.index
                ));
            }
        }
        group.reads.entry(mask).or_insert(op.index);
        Ok(mask)
    }

    fn forks(&self, history: &History, group: &Group, anomalies: &mut Vec<Anomaly>) -> u64 {
        let mut forks = 0;
        let mut masks: Vec<(u64, u64)> =
            group.reads.iter().map(|(mask, index)| (*mask, *index)).collect();
        masks.sort_by_key(|(mask, _)| mask.count_ones());
        if masks.windows(2).all(|pair| pair[0].0 & !pair[1].0 == 0) {
            return 0;
        }
        for (i, (a, a_index)) in masks.iter().enumerate() {
            for (b, b_index) in &masks[i + 1..] {
                if a & !b == 0 || b & !a == 0 {
                    continue;
                }
                forks += 1;
                if anomalies.len() < ANOMALIES_MAX {
                    let value = |index: &u64| &history.ops()[*index as usize].value;
                    let text = format!(
                        "record {a_index} read {} and record {b_index} read {}: each sees a write that \
                         the other misses",
                        value(a_index),
                        value(b_index)
                    );
                    let ops = vec![*a_index, *b_index];
                    anomalies.push(Anomaly {
                        name: "long-fork".into(),
                        key: None,
                        text,
                        ops,
                        ..Anomaly::default()
                    });
                }
            }
        }
        forks
    }
}

/// Keys and values of the reads (`r`) or writes (`w`) of a transaction.
fn micro_ops<'a>(op: &'a Op, wanted: &str) -> Result<Vec<(&'a Value, &'a Value)>, String> {
    let wrong = || {
        format!(
            "record {}: {} is not a list of [:r key value] and [:w key value]",
            op.index, op.value
        )
    };
    let mut found = Vec::new();
    for micro_op in op.value.items().ok_or_else(wrong)? {
        let Some([f, key, value]) = micro_op.items() else { return Err(wrong()) };
        match f.as_text() {
            Some(f) if f == wanted => found.push((key, value)),
            Some("r" | "w") => {}
            _ => return Err(wrong()),
        }
    }
    Ok(found)
}
