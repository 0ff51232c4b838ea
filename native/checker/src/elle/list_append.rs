//! What a history of appends and reads of lists shows: dependencies between transactions, and the
//! anomalies that need no cycle.
//!
//! Kingsbury and Alvaro, "Elle" (VLDB 2020), section 5: with the order of versions known (see
//! [`crate::elle::list_order`]), consecutive appends give ww, the last element that was read gives wr, and
//! the readers of a version precede (rw) whoever appended the next. One pass over each key, keys in
//! parallel; reads are compared, not hashed, so the whole is linear in the size of the reads.

use fuzz_dist_core::{Anomaly, OpType, Value};
use rustc_hash::FxHashMap;

use crate::elle::cycles::Step;
use crate::elle::findings::Findings;
use crate::elle::graph::{Edges, NONE, RW, WR, WW};
use crate::elle::list_order::{ListOrder, Lookup, Read};
use crate::elle::txns::{Mop, NotTxns, Txns, shown};

/// Finds the dependencies and the anomalies of one key.
pub fn infer(
    txns: &Txns,
    key: u32,
    lookup: &mut Lookup,
    edges: &mut Edges,
    findings: &mut Findings,
) -> Result<(), NotTxns> {
    let order = ListOrder::new(txns, key, lookup)?;
    link(&order, key, lookup, edges);
    let scene = Scene { txns, key, order: &order, lookup };
    scene.reads(findings);
    scene.dirty_update(findings);
    scene.within_txns(findings);
    Ok(())
}

fn link(order: &ListOrder, key: u32, lookup: &Lookup, edges: &mut Edges) {
    for read in &order.reads {
        if let Some(append) = order.last_append(read, lookup)
            && append.txn != read.txn
            && append.outcome != OpType::Fail
        {
            edges.push(append.txn, read.txn, WR, key);
        }
    }
    // Readers by the version that they saw; those of one transaction stand together.
    let mut readers: Vec<(u32, u32)> = order
        .reads
        .iter()
        .filter(|read| read.version != NONE)
        .map(|read| (read.version, read.txn))
        .collect();
    readers.sort_unstable();
    readers.dedup();
    let of_version = |version: u32| {
        let start = readers.partition_point(|(seen, _)| *seen < version);
        let end = readers.partition_point(|(seen, _)| *seen <= version);
        &readers[start..end]
    };
    let last = order.versions.len() as u32;
    for version in 1..=last {
        let Some(append) = order.append_of(version) else { continue };
        if let Some(before) = order.append_of(version - 1)
            && before.txn != append.txn
        {
            edges.push(before.txn, append.txn, WW, key);
        }
        for (_, reader) in of_version(version - 1).iter().filter(|(_, txn)| *txn != append.txn) {
            edges.push(*reader, append.txn, RW, key);
        }
    }
    // What nobody saw came after the last version that somebody saw.
    let mut unseen: Vec<u32> = order
        .appends
        .iter()
        .filter(|append| append.version == 0 && append.outcome != OpType::Fail)
        .map(|append| append.txn)
        .collect();
    unseen.dedup();
    if unseen.is_empty() {
        return;
    }
    if let Some(before) = order.append_of(last) {
        edges.link_all(&[before.txn], &unseen, WW, key);
    }
    let from: Vec<u32> = of_version(last).iter().map(|(_, reader)| *reader).collect();
    edges.link_all(&from, &unseen, RW, key);
}

/// One key with its order.
struct Scene<'a, 'h> {
    txns: &'a Txns<'h>,
    key: u32,
    order: &'a ListOrder<'h>,
    lookup: &'a Lookup,
}

impl<'h> Scene<'_, 'h> {
    fn anomaly(&self, txns: &[u32], text: String) -> Anomaly {
        Anomaly {
            key: Some(self.txns.key(self.key).to_string()),
            text,
            ops: self.txns.records(txns),
            ..Anomaly::default()
        }
    }

    fn read_text(&self, read: &Read) -> String {
        let value = self.txns.mops[read.mop as usize].value;
        let record = self.txns.record(read.txn);
        format!("record {record} read {} = {}", self.txns.key(self.key), shown(value))
    }

    /// Anomalies that one read shows.
    fn reads(&self, findings: &mut Findings) {
        let order = self.order;
        for read in &order.reads {
            if !read.compatible {
                self.incompatible(read, findings);
            } else if read.list.len()
                > order.failed_at.min(order.garbage_at).min(order.duplicate_at)
            {
                let bad = |at: usize| read.list.get(at);
                self.elements(
                    read,
                    [bad(order.failed_at), bad(order.garbage_at), bad(order.duplicate_at)],
                    findings,
                );
            }
            if let Some(append) = order.last_append(read, self.lookup)
                && append.intermediate
                && append.txn != read.txn
                && append.outcome != OpType::Fail
            {
                findings.add("G1b", || {
                    let text = format!(
                        "{}, which ends with what record {} appended before it appended again: an \
                         intermediate state",
                        self.read_text(read),
                        self.txns.record(append.txn),
                    );
                    self.anomaly(&[append.txn, read.txn], text)
                });
            }
        }
    }

    /// A read that is no prefix of the longest one: its elements are looked at one by one.
    fn incompatible(&self, read: &Read<'h>, findings: &mut Findings) {
        if let Some(longest) = self.order.longest {
            findings.add("incompatible-order", || {
                let text = format!(
                    "{}, but {}: neither list is a prefix of the other",
                    self.read_text(read),
                    self.read_text(&longest)
                );
                self.anomaly(&[read.txn, longest.txn], text)
            });
        }
        let append_of =
            |element: &Value| self.lookup.get(element).map(|i| &self.order.appends[i as usize]);
        let failed = |e: &&Value| append_of(e).is_some_and(|append| append.outcome == OpType::Fail);
        let mut seen = rustc_hash::FxHashSet::default();
        self.elements(
            read,
            [
                read.list.iter().find(failed),
                read.list.iter().find(|element| append_of(element).is_none()),
                read.list.iter().find(|element| !seen.insert(*element)),
            ],
            findings,
        );
    }

    /// Tells of an element that was aborted, one that was never appended, one that stands there twice.
    fn elements(&self, read: &Read, bad: [Option<&Value>; 3], findings: &mut Findings) {
        let [failed, garbage, duplicate] = bad;
        if let Some(element) = failed {
            findings.add("G1a", || {
                let writer = self.lookup.get(element).map(|i| self.order.appends[i as usize].txn);
                let text = format!(
                    "{}, but {element} was appended by record {}, which failed",
                    self.read_text(read),
                    writer.map_or(0, |writer| self.txns.record(writer)),
                );
                self.anomaly(&[read.txn, writer.unwrap_or(read.txn)], text)
            });
        }
        if let Some(element) = garbage {
            findings.add("garbage-read", || {
                let text = format!("{}, but nobody appended {element}", self.read_text(read));
                self.anomaly(&[read.txn], text)
            });
        }
        if let Some(element) = duplicate {
            findings.add("duplicate-elements", || {
                let text = format!(
                    "{}, in which {element} stands more than once, but it was appended once",
                    self.read_text(read)
                );
                self.anomaly(&[read.txn], text)
            });
        }
    }

    /// A version of an aborted transaction on which a committed one was built.
    fn dirty_update(&self, findings: &mut Findings) {
        let mut failed: Option<(u32, &Value)> = None;
        for (element, append) in &self.order.versions {
            let Some(append) = self.order.appends.get(*append as usize) else { continue };
            match (append.outcome, failed) {
                (OpType::Fail, None) => failed = Some((append.txn, element)),
                (OpType::Ok, Some((txn, aborted))) => {
                    findings.add("dirty-update", || {
                        let text = format!(
                            "record {} appended {aborted} to {} and failed, but record {} succeeded in \
                             appending {element} to a list that holds it",
                            self.txns.record(txn),
                            self.txns.key(self.key),
                            self.txns.record(append.txn),
                        );
                        self.anomaly(&[txn, append.txn], text)
                    });
                    failed = None;
                }
                _ => {}
            }
        }
    }

    /// Anomalies inside one transaction, and updates that were lost between two.
    fn within_txns(&self, findings: &mut Findings) {
        // By version that was read and then appended to; a list that has no version by itself.
        let mut updates: Vec<(u32, u32)> = Vec::new();
        let mut odd_updates: FxHashMap<&Value, Vec<u32>> = FxHashMap::default();
        let numbers = self.txns.mops_of_key(self.key);
        let txn_of = |number: &u32| self.txns.mops[*number as usize].txn;
        let mut reads = self.order.reads.iter().peekable();
        for group in numbers.chunk_by(|a, b| txn_of(a) == txn_of(b)) {
            let txn = txn_of(&group[0]);
            if self.txns.list[txn as usize].outcome != OpType::Ok {
                continue;
            }
            let first_read = reads.peek().copied();
            let mops = || group.iter().map(|number| &self.txns.mops[*number as usize]);
            if group.len() > 1 {
                let own: Vec<&Read> =
                    std::iter::from_fn(|| reads.next_if(|read| read.txn == txn)).collect();
                self.internal(txn, mops(), findings);
                self.future_read(txn, &own, mops(), findings);
                if let Some(read) = first_read
                    && read.mop == group[0]
                    && mops().any(|mop| mop.is_write())
                {
                    match read.compatible {
                        true => updates.push((read.list.len() as u32, txn)),
                        false => {
                            let value = self.txns.mops[read.mop as usize].value;
                            odd_updates.entry(value).or_default().push(txn);
                        }
                    }
                }
            } else {
                reads.next_if(|read| read.txn == txn);
            }
        }
        updates.sort_unstable();
        let groups = updates
            .chunk_by(|a, b| a.0 == b.0)
            .map(|group| group.iter().map(|(_, txn)| *txn).collect::<Vec<u32>>());
        for txns in groups.chain(odd_updates.into_values()).filter(|txns| txns.len() > 1) {
            findings.add("lost-update", || {
                let records: Vec<String> =
                    txns.iter().take(8).map(|txn| self.txns.record(*txn).to_string()).collect();
                let text = format!(
                    "records {} read the same version of {} and then each appended to it",
                    records.join(", "),
                    self.txns.key(self.key)
                );
                self.anomaly(&txns[..txns.len().min(8)], text)
            });
        }
    }

    /// A read that contradicts what its transaction did or saw before.
    fn internal<'m>(
        &self,
        txn: u32,
        mops: impl Iterator<Item = &'m Mop<'h>>,
        findings: &mut Findings,
    ) where
        'h: 'm,
    {
        // What the transaction knows of the list: a beginning, if it read it, and what it appended since.
        let mut beginning: Option<&[Value]> = None;
        let mut appended: Vec<&Value> = Vec::new();
        for mop in mops {
            if mop.is_write() {
                appended.push(mop.value);
                continue;
            }
            let list = mop.value.items().unwrap_or_default();
            let known = beginning.map_or(0, <[Value]>::len) + appended.len();
            let split = list.len().checked_sub(appended.len());
            let fits = split.is_some_and(|split| {
                let begins = beginning.is_none_or(|beginning| &list[..split] == beginning);
                begins && list[split..].iter().eq(appended.iter().copied())
            });
            if !fits && (known > 0 || beginning.is_some()) {
                findings.add("internal", || {
                    let values: Vec<String> = beginning
                        .unwrap_or_default()
                        .iter()
                        .chain(appended.iter().copied())
                        .map(Value::to_string)
                        .collect();
                    let text = format!(
                        "record {} read {} = {}, but by what it read and appended before, it had to be \
                         [{}{}]",
                        self.txns.record(txn),
                        self.txns.key(self.key),
                        shown(mop.value),
                        if beginning.is_none() { "... " } else { "" },
                        values.join(" "),
                    );
                    self.anomaly(&[txn], text)
                });
                return;
            }
            beginning = Some(list);
            appended.clear();
        }
    }

    /// A read of what its own transaction appends only later.
    fn future_read<'m>(
        &self,
        txn: u32,
        reads: &[&Read],
        mops: impl Iterator<Item = &'m Mop<'h>>,
        findings: &mut Findings,
    ) where
        'h: 'm,
    {
        let mut seen = 0;
        for mop in mops {
            if !mop.is_write() {
                seen += 1;
                continue;
            }
            let version =
                self.lookup.get(mop.value).map_or(0, |i| self.order.appends[i as usize].version);
            let holds = |read: &&&Read| match read.compatible {
                true if self.order.duplicate_at == usize::MAX => {
                    version != 0 && version as usize <= read.list.len()
                }
                _ => read.list.contains(mop.value),
            };
            if let Some(read) = reads[..seen.min(reads.len())].iter().find(holds) {
                findings.add("future-read", || {
                    let text = format!(
                        "{}, and only then appended {} itself",
                        self.read_text(read),
                        mop.value
                    );
                    self.anomaly(&[txn], text)
                });
                return;
            }
        }
    }
}

/// Why one transaction precedes another, by the order of the key; with `a` and `b` for their names.
pub fn explain(
    txns: &Txns,
    order: &ListOrder,
    lookup: &Lookup,
    step: &Step,
    (a, b): (&str, &str),
) -> Option<String> {
    let (from, to) = (step.from, step.to);
    let name = txns.key(step.key);
    let value = |mop: u32| txns.mops[mop as usize].value;
    let before = |version: u32| match version {
        0 => order.versions.len() as u32,
        version => version - 1,
    };
    let appends = || order.appends.iter().filter(|append| append.txn == to);
    match step.kind {
        WW => appends().find_map(|append| {
            let earlier = order.append_of(before(append.version)).filter(|earlier| earlier.txn == from)?;
            let unseen = if append.version == 0 { " (which nobody read)" } else { "" };
            Some(format!(
                "{b} appended {}{unseen} to {name} after {a} appended {}",
                value(append.mop),
                value(earlier.mop)
            ))
        }),
        WR => order.reads.iter().filter(|read| read.txn == to).find_map(|read| {
            let append = order.last_append(read, lookup).filter(|append| append.txn == from)?;
            Some(format!("{b} observed {a}'s append of {} to {name}", value(append.mop)))
        }),
        RW => appends().find_map(|append| {
            let version = before(append.version);
            order.reads.iter().find(|read| read.txn == from && read.version == version)?;
            Some(match version {
                0 => format!(
                    "{a} observed the initial (nil) state of {name}, which {b} changed by appending {}",
                    value(append.mop)
                ),
                _ => format!("{a} did not observe {b}'s append of {} to {name}", value(append.mop)),
            })
        }),
        _ => None,
    }
}
