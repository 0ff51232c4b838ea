//! What a history of reads and writes of registers shows: dependencies between transactions, and the
//! anomalies that need no cycle.
//!
//! Kingsbury and Alvaro, "Elle" (VLDB 2020), section 6. Each value is written to a key once, so a read names
//! the write that it saw (wr). Which write came before which is known only as far as
//! [`crate::elle::versions`] knows; from it come ww and rw. Unlike Elle, writes of transactions that ended
//! with info are looked at too, and an order that contradicts itself is left out for its key only.

use fuzz_dist_core::{Anomaly, OpType, Value};
use rustc_hash::FxHashMap;

use crate::elle::cycles::Step;
use crate::elle::findings::Findings;
use crate::elle::graph::{Edges, NONE, RW, WR, WW};
use crate::elle::list_order::Lookup;
use crate::elle::txns::{NotTxns, Txns, shown};
use crate::elle::versions::{Assumptions, NIL, Versions};

/// Finds the dependencies and the anomalies of one key.
pub fn infer(
    txns: &Txns,
    key: u32,
    assumptions: &Assumptions,
    lookup: &mut Lookup,
    edges: &mut Edges,
    findings: &mut Findings,
) -> Result<(), NotTxns> {
    let mut versions = Versions::new(txns, key, &assumptions.initial, lookup)?;
    let scene = Scene { txns, key };
    for cyclic in versions.arrange(txns, assumptions) {
        findings.add("cyclic-versions", || {
            let values: Vec<String> = cyclic
                .versions
                .iter()
                .take(8)
                .map(|version| shown(versions.list[*version as usize].value))
                .collect();
            let text = format!(
                "the versions {} of {} each come before the other by {}",
                values.join(", "),
                txns.key(key),
                cyclic.sources.join(" and ")
            );
            let about = cyclic.versions.iter().take(8).flat_map(|version| {
                let version = &versions.list[*version as usize];
                version.readers.iter().take(2).chain([&version.writer]).copied()
            });
            let about: Vec<u32> = about.filter(|txn| *txn != NONE).collect();
            scene.anomaly(&about, text)
        });
    }
    link(&versions, key, edges);
    scene.reads(&versions, lookup, findings);
    scene.lost_updates(&versions, findings);
    Ok(())
}

fn link(versions: &Versions, key: u32, edges: &mut Edges) {
    for version in &versions.list[1..] {
        if version.writer == NONE {
            continue;
        }
        for reader in version.readers.iter().filter(|reader| **reader != version.writer) {
            edges.push(version.writer, *reader, WR, key);
        }
    }
    let mut writers: Vec<u32> = versions.list[1..]
        .iter()
        .map(|version| version.writer)
        .filter(|txn| *txn != NONE)
        .collect();
    writers.sort_unstable();
    edges.link_all(&versions.list[NIL as usize].readers, &writers, RW, key);
    for (version, next) in versions.next_writers() {
        let before = &versions.list[version as usize];
        if before.writer != NONE {
            edges.link_all(&[before.writer], &next, WW, key);
        }
        edges.link_all(&before.readers, &next, RW, key);
    }
}

struct Scene<'a, 'h> {
    txns: &'a Txns<'h>,
    key: u32,
}

impl Scene<'_, '_> {
    fn anomaly(&self, txns: &[u32], text: String) -> Anomaly {
        Anomaly {
            key: Some(self.txns.key(self.key).to_string()),
            text,
            ops: self.txns.records(txns),
            ..Anomaly::default()
        }
    }

    /// Anomalies that reads show, each by itself.
    fn reads(&self, versions: &Versions, lookup: &Lookup, findings: &mut Findings) {
        let txns = self.txns;
        let numbers = txns.mops_of_key(self.key);
        let mop = |number: &u32| &txns.mops[*number as usize];
        for group in numbers.chunk_by(|a, b| mop(a).txn == mop(b).txn) {
            let txn = mop(&group[0]).txn;
            if txns.list[txn as usize].outcome != OpType::Ok {
                continue;
            }
            // What the transaction wrote or read last.
            let mut state: Option<&Value> = None;
            for (place, number) in group.iter().enumerate() {
                let mop = mop(number);
                if mop.is_write() {
                    state = Some(mop.value);
                    continue;
                }
                self.read(txn, mop.value, versions, lookup, findings);
                let later = &group[place + 1..];
                let is_own_future = || {
                    let same = |n: &&u32| txns.mops[**n as usize].value == mop.value;
                    later.iter().filter(|n| txns.mops[**n as usize].is_write()).any(|n| same(&n))
                };
                if state.is_none() && is_own_future() {
                    findings.add("future-read", || {
                        let text = format!(
                            "record {} read {} = {} and only then wrote that itself",
                            txns.record(txn),
                            txns.key(self.key),
                            shown(mop.value)
                        );
                        self.anomaly(&[txn], text)
                    });
                }
                if let Some(expected) = state.filter(|expected| *expected != mop.value) {
                    findings.add("internal", || {
                        let text = format!(
                            "record {} read {} = {}, but by what it read and wrote before, it had to be {}",
                            txns.record(txn),
                            txns.key(self.key),
                            shown(mop.value),
                            shown(expected)
                        );
                        self.anomaly(&[txn], text)
                    });
                    break;
                }
                state = Some(mop.value);
            }
        }
    }

    fn read(
        &self,
        txn: u32,
        value: &Value,
        versions: &Versions,
        lookup: &Lookup,
        findings: &mut Findings,
    ) {
        let number = lookup.get(value);
        let version = number.map(|version| &versions.list[version as usize]);
        let is_initial = number == Some(NIL);
        let written = version.filter(|version| is_initial || !version.is_unwritten());
        let Some(version) = written else {
            findings.add("garbage-read", || {
                let text = format!(
                    "record {} read {} = {}, which nobody ever wrote",
                    self.txns.record(txn),
                    self.txns.key(self.key),
                    shown(value)
                );
                self.anomaly(&[txn], text)
            });
            return;
        };
        let happened = version.writer != NONE || version.intermediate != NONE;
        let (name, writer, what) = if version.failed != NONE && !happened {
            ("G1a", version.failed, "which failed")
        } else if version.intermediate != NONE && version.intermediate != txn {
            ("G1b", version.intermediate, "which then wrote something else: an intermediate state")
        } else {
            return;
        };
        findings.add(name, || {
            let text = format!(
                "record {} read {} = {}, written by record {}, {what}",
                self.txns.record(txn),
                self.txns.key(self.key),
                shown(value),
                self.txns.record(writer)
            );
            self.anomaly(&[writer, txn], text)
        });
    }

    fn lost_updates(&self, versions: &Versions, findings: &mut Findings) {
        let mut updates: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
        for access in &versions.accesses {
            if access.outcome == OpType::Ok && access.read != NONE && access.write != NONE {
                updates.entry(access.read).or_default().push(access.txn);
            }
        }
        let mut lost: Vec<(u32, Vec<u32>)> =
            updates.into_iter().filter(|(_, txns)| txns.len() > 1).collect();
        lost.sort_unstable();
        for (version, txns) in lost {
            findings.add("lost-update", || {
                let few = &txns[..txns.len().min(8)];
                let records: Vec<String> =
                    few.iter().map(|txn| self.txns.record(*txn).to_string()).collect();
                let text = format!(
                    "records {} read {} = {} and then each wrote it",
                    records.join(", "),
                    self.txns.key(self.key),
                    shown(versions.list[version as usize].value)
                );
                self.anomaly(few, text)
            });
        }
    }
}

/// Why one transaction precedes another, with `a` and `b` for their names.
pub fn explain(txns: &Txns, step: &Step, (a, b): (&str, &str)) -> Option<String> {
    let name = txns.key(step.key);
    let mops = |txn: u32| txns.mops_of(txn).iter().filter(|mop| mop.key() == step.key);
    let written = |txn: u32| mops(txn).rfind(|mop| mop.is_write()).map(|mop| shown(mop.value));
    let read = mops(step.from).find(|mop| !mop.is_write());
    Some(match step.kind {
        WW => format!(
            "{a} set {name} to {}, and {b} set it to {}, which came later in the version order",
            written(step.from)?,
            written(step.to)?
        ),
        WR => format!("{a} wrote {name} = {}, which was read by {b}", written(step.from)?),
        RW if *read?.value == Value::Nil => format!(
            "{a} observed the initial (nil) state of {name}, which {b} changed by writing {}",
            written(step.to)?
        ),
        RW => format!(
            "{a} read {name} = {}, and {b} set it to {}, which came later in the version order",
            shown(read?.value),
            written(step.to)?
        ),
        _ => return None,
    })
}
