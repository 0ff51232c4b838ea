//! `final-reads`: a grow-only set has converged, and holds everything, when all is over.
//!
//! As fuzz_dist's original. Elements are added (`add v`); after the faults have healed and the adds have
//! ended, every node is read once more (`read` with the extra key `:final? true` or in the final phase of
//! a run, or `final-read`). Every
//! final read must hold every element whose add had succeeded before the read was invoked (`missing`
//! otherwise) and none that nobody tried to add, tried only later, or whose every add certainly failed
//! (`unexpected`; option `failed-adds`), and all final reads that were invoked
//! after the last successful add must be equal (`final-reads-not-equal`; in the original this comparison
//! can never fail). A node that took part and has no final read leaves the question open: `unknown`.
//!
//! Says nothing of the reads before; `set-full` does. Linear in the records and the size of the final
//! reads.

use std::collections::BTreeSet;

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, FaultLog, History, Op, OpType, Sym, Value, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::elements::{NONE, about, read_elements, some};
use crate::finals::{final_from, is_final};
use crate::independent::INDEPENDENT;
use crate::needs::need;
use crate::numbering::Numbering;
use crate::options::{OptionError, OptionReader};
use crate::set::FAILED_ADDS;
use crate::{Checker, CheckerInfo, or_unknown, told};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "final-reads",
    about: "Whether the final reads of a grow-only set (add v; read with :final? true, or final-read) \
            hold every element whose add succeeded, nothing that nobody added or whose adds all \
            failed, and are equal on all nodes. Unknown if a node that took part has no final read.",
    needs: &[
        need("acknowledged-count", "no :add succeeded"),
        need("final-reads", "no final :read succeeded"),
    ],
    options: &[FAILED_ADDS, INDEPENDENT],
};

/// How many anomalies of a kind are told.
const ANOMALIES_MAX: usize = 8;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct FinalReads {
    forbid_failed: bool,
}

/// Builds it.
pub fn build(options: &Options) -> Result<FinalReads, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let failed = reader.word("failed-adds", &["forbid", "allow"], "forbid")?;
    Ok(FinalReads { forbid_failed: failed == "forbid" })
}

impl Checker for FinalReads {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        let finals = Finals::new(history, self.forbid_failed);
        or_unknown(INFO.name, finals.map(|mut finals| finals.judge()))
    }
}

/// A final read.
struct Final<'a> {
    invoke: &'a Op,
    done: &'a Op,
    elements: &'a [Value],
}

impl Final<'_> {
    fn place(&self) -> String {
        let node = self.done.node.or(self.invoke.node);
        let on = node.map(|node| format!(" on {node}")).unwrap_or_default();
        format!("the final read{on} (records {} to {})", self.invoke.index, self.done.index)
    }
}

/// Adds and final reads.
#[derive(Default)]
struct Finals<'a> {
    elements: Numbering,
    /// First success of an add of each element; [`NONE`] if none.
    ok: Vec<u32>,
    /// First invocation of an add that did not certainly fail (or, if those are allowed, of any add);
    /// [`NONE`] if none.
    tried: Vec<u32>,
    /// Whether some add of it certainly failed.
    failed: Vec<bool>,
    /// Position of the last success of any add.
    last_ok: Option<u64>,
    reads: Vec<Final<'a>>,
    /// Nodes that took part and have to answer.
    nodes: BTreeSet<Sym>,
}

impl<'a> Finals<'a> {
    fn new(history: &'a History, forbid_failed: bool) -> Result<Finals<'a>, String> {
        let mut finals = Finals::default();
        let from = final_from(history);
        for (invoke, completion) in crate::budget::client_pairs(history) {
            finals.nodes.extend(completion.and_then(|done| done.node).or(invoke.node));
            let done = completion.filter(|done| done.op_type == OpType::Ok);
            match (invoke.f.as_str(), done) {
                ("add", done) => {
                    let number = finals.number(told::argument(invoke, done)?) as usize;
                    let failed = completion.is_some_and(|done| done.op_type == OpType::Fail);
                    finals.failed[number] |= failed;
                    if !failed || !forbid_failed {
                        let tried = &mut finals.tried[number];
                        *tried = (*tried).min(invoke.index as u32);
                    }
                    if let Some(done) = done {
                        finals.ok[number] = finals.ok[number].min(done.index as u32);
                        finals.last_ok = finals.last_ok.max(Some(done.index));
                    }
                }
                ("read" | "final-read", Some(done)) if is_final(invoke, Some(done), from) => {
                    let elements = read_elements(done)?;
                    finals.reads.push(Final { invoke, done, elements });
                }
                _ => {}
            }
        }
        let read_on = finals.read_on();
        // Faults are looked at only where they matter: a history may be one of many keys.
        if !finals.nodes.is_subset(&read_on) {
            let lasting = FaultLog::of(history).lasting();
            finals.nodes.retain(|node| !lasting.contains(node.as_str()));
        }
        Ok(finals)
    }

    /// Nodes with a final read.
    fn read_on(&self) -> BTreeSet<Sym> {
        self.reads.iter().filter_map(|read| read.done.node.or(read.invoke.node)).collect()
    }

    fn number(&mut self, value: &Value) -> u32 {
        let number = self.elements.number(value);
        if number as usize == self.ok.len() {
            self.ok.push(NONE);
            self.tried.push(NONE);
            self.failed.push(false);
        }
        number
    }

    fn judge(&mut self) -> CheckResult {
        let absent: Vec<&str> =
            self.nodes.difference(&self.read_on()).map(|node| node.as_str()).collect();
        let reads = std::mem::take(&mut self.reads);
        let held: Vec<BTreeSet<u32>> = reads
            .iter()
            .map(|read| read.elements.iter().map(|element| self.number(element)).collect())
            .collect();
        let mut missing: BTreeSet<u32> = BTreeSet::new();
        let mut unexpected: BTreeSet<u32> = BTreeSet::new();
        let mut anomalies = Vec::new();
        for (read, held) in reads.iter().zip(&held) {
            self.judge_one(read, held, &mut missing, &mut unexpected, &mut anomalies);
        }
        let unequal = self.compare(&reads, &held);
        let unequal_count = u64::from(unequal.is_some());
        anomalies.extend(unequal);
        let acknowledged = self.ok.iter().filter(|ok| **ok != NONE).count();
        let first = reads.iter().map(|read| read.invoke.index).min().unwrap_or(0);
        let before = self.ok.iter().filter(|ok| u64::from(**ok) < first).count();
        let (verdict, reason) = match anomalies.first() {
            Some(first) => {
                let more = missing.len() as u64 + unexpected.len() as u64 + unequal_count - 1;
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                (Verdict::Invalid, format!("{}: {}{more}", first.name, first.text))
            }
            None if reads.is_empty() => {
                (Verdict::Unknown, "there is no final read that succeeded".to_owned())
            }
            None if !absent.is_empty() => {
                let text = format!("no final read succeeded on {}", absent.join(", "));
                (Verdict::Unknown, text)
            }
            None => {
                let text = format!(
                    "{} final reads are equal and hold all {before} elements acknowledged before them{}",
                    reads.len(),
                    match acknowledged - before {
                        0 => String::new(),
                        later => format!("; {later} were acknowledged later"),
                    }
                );
                (Verdict::Valid, text)
            }
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        let counts = [
            ("acknowledged-count", acknowledged as u64),
            ("final-reads", reads.len() as u64),
            ("missing-count", missing.len() as u64),
            ("unexpected-count", unexpected.len() as u64),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
        result.details = json!({"missing-final-read": absent});
        result.anomalies = anomalies;
        result
    }

    /// What one final read lacks, and what it holds that nobody added.
    fn judge_one(
        &self,
        read: &Final,
        held: &BTreeSet<u32>,
        missing: &mut BTreeSet<u32>,
        unexpected: &mut BTreeSet<u32>,
        anomalies: &mut Vec<Anomaly>,
    ) {
        let before = |n: &u32| u64::from(self.ok[*n as usize]) < read.invoke.index;
        let lacks: Vec<u32> =
            (0..self.ok.len() as u32).filter(|n| before(n) && !held.contains(n)).collect();
        let is_tried = |n: &u32| u64::from(self.tried[*n as usize]) < read.done.index;
        let strange: Vec<u32> = held.iter().copied().filter(|n| !is_tried(n)).collect();
        let place = read.place();
        let ends = [read.invoke.index as u32, read.done.index as u32];
        let kinds = [("missing", &lacks, missing), ("unexpected", &strange, unexpected)];
        for (name, numbers, all) in kinds {
            let Some(&first) = numbers.first() else { continue };
            all.extend(numbers);
            if anomalies.iter().filter(|a: &&Anomaly| a.name == name).count() == ANOMALIES_MAX {
                continue;
            }
            let values: Vec<&Value> = numbers.iter().map(|n| self.elements.value(*n)).collect();
            let listed = some(values.iter().copied());
            let text = match name {
                "missing" => format!("{place} misses {} elements: {listed}", numbers.len()),
                _ if self.failed[first as usize] => {
                    format!("{place} holds elements whose adds certainly failed: {listed}")
                }
                _ => format!("{place} holds what nobody had added: {listed}"),
            };
            let ops = [self.ok[first as usize], ends[0], ends[1]];
            anomalies.push(about(name, values[0], text, &ops));
        }
    }

    /// Two final reads that differ though nothing was added any more.
    fn compare(&self, reads: &[Final], held: &[BTreeSet<u32>]) -> Option<Anomaly> {
        let quiet: Vec<usize> =
            (0..reads.len()).filter(|i| Some(reads[*i].invoke.index) > self.last_ok).collect();
        let first = *quiet.first()?;
        let other = quiet.into_iter().find(|i| held[*i] != held[first])?;
        let differs: Vec<&Value> = held[first]
            .symmetric_difference(&held[other])
            .map(|n| self.elements.value(*n))
            .collect();
        let (a, b) = (&reads[first], &reads[other]);
        let text = format!(
            "{} and {} differ in {} elements: {}",
            a.place(),
            b.place(),
            differs.len(),
            some(differs.iter().copied())
        );
        let ops = vec![a.invoke.index, a.done.index, b.invoke.index, b.done.index];
        Some(Anomaly { name: "final-reads-not-equal".into(), text, ops, ..Anomaly::default() })
    }
}
