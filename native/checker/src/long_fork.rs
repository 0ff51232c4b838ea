//! `long-fork`: two reads that see two writes in opposite orders (forbidden by snapshot isolation).
//!
//! As Jepsen's. Keys are integers in groups of `group-size` neighbours; each key is written once, and
//! reads (`[[:r k v] …]`) are of a whole group. Two reads of a group fork if each sees a write that the
//! other misses. A key that was written twice, or a read of other keys than one group, makes the
//! verdict `unknown`: nothing follows from such reads. Reads that saw the same are compared once, so
//! the cost is that of the reads, not of their pairs.

use std::collections::{BTreeMap, HashMap};

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Value, Verdict};

use crate::budget::{Budget, Meter};
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "long-fork",
    about: "Whether any two reads of the same group of keys disagree about the order of two writes. Keys \
            are integers in groups, each written once ([[:w k v]]), and read by group ([[:r k v] ...]).",
    options: &[OptionInfo {
        name: "group-size",
        default: "2",
        about: "how many neighbouring keys form a group",
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

/// Reads of one group by which of its keys they saw, with the first record of each.
type Group = BTreeMap<u64, u64>;

impl Checker for LongFork {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn check(&self, history: &History, budget: &Budget) -> CheckResult {
        let meter = budget.start();
        let mut result = self.check_reads(history, &meter).unwrap_or_else(|reason| {
            CheckResult::new(INFO.name, Verdict::Unknown, format!("not checked: {reason}"))
        });
        result.elapsed_ms = meter.elapsed_ms();
        result
    }
}

impl LongFork {
    fn check_reads(&self, history: &History, meter: &Meter) -> Result<CheckResult, String> {
        let mut groups: BTreeMap<i64, Group> = BTreeMap::new();
        let mut written: HashMap<i64, u64> = HashMap::new();
        let (mut reads, mut early, mut late) = (0u64, 0u64, 0u64);
        for (invoke, completion) in history.client_pairs() {
            let outcome = completion.map_or(OpType::Info, |c| c.op_type);
            for (key, _) in micro_ops(invoke, "w")? {
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
            if seen.is_empty() || !micro_ops(invoke, "w")?.is_empty() {
                continue;
            }
            reads += 1;
            let (group, mask) = self.mask(done, &seen)?;
            early += u64::from(mask == 0);
            late += u64::from(mask.count_ones() as i64 == self.group_size);
            groups.entry(group).or_default().entry(mask).or_insert(done.index);
        }
        let mut result = CheckResult::new(INFO.name, Verdict::Valid, "");
        let mut forks = 0u64;
        for group in groups.values() {
            meter.check_time().map_err(|why| why.to_string())?;
            forks += self.forks(history, group, &mut result.anomalies);
        }
        (result.verdict, result.reason) = match result.anomalies.first() {
            _ if reads == 0 => (Verdict::Unknown, "no group of keys was ever read".to_owned()),
            Some(first) => (Verdict::Invalid, format!("{forks} forks: {}", first.text)),
            None => (Verdict::Valid, format!("{reads} reads of {} groups agree", groups.len())),
        };
        let counts = [
            ("reads-count", reads),
            ("early-read-count", early),
            ("late-read-count", late),
            ("forks", forks),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
        Ok(result)
    }

    /// The group of a read, and which of its keys it saw.
    fn mask(&self, op: &Op, seen: &[(i64, &Value)]) -> Result<(i64, u64), String> {
        let group = seen[0].0.div_euclid(self.group_size);
        let (mut mask, mut keys) = (0u64, 0u64);
        for (key, value) in seen {
            if key.div_euclid(self.group_size) != group {
                keys = 0;
                break;
            }
            let bit = 1 << key.rem_euclid(self.group_size);
            keys |= bit;
            mask |= if value.is_nil() { 0 } else { bit };
        }
        if i64::from(keys.count_ones()) != self.group_size {
            return Err(format!(
                "record {}: {} is not a read of one group of {} keys",
                op.index, op.value, self.group_size
            ));
        }
        Ok((group, mask))
    }

    fn forks(&self, history: &History, group: &Group, anomalies: &mut Vec<Anomaly>) -> u64 {
        let mut forks = 0;
        let masks: Vec<(u64, u64)> = group.iter().map(|(mask, index)| (*mask, *index)).collect();
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
fn micro_ops<'a>(op: &'a Op, wanted: &str) -> Result<Vec<(i64, &'a Value)>, String> {
    let wrong = || {
        format!(
            "record {}: {} is not a list of [:r key value] and [:w key value]",
            op.index, op.value
        )
    };
    let mut found = Vec::new();
    for micro_op in op.value.items().ok_or_else(wrong)? {
        let Some([f, key, value]) = micro_op.items() else { return Err(wrong()) };
        let key = key.as_int().ok_or_else(wrong)?;
        match f.as_text() {
            Some(f) if f == wanted => found.push((key, value)),
            Some("r" | "w") => {}
            _ => return Err(wrong()),
        }
    }
    Ok(found)
}
