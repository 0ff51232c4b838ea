//! The versions of one register, and what orders them.
//!
//! Writes are unique, so a value names a version; the initial state comes before all others. What
//! else is known of their order comes from assumptions that the user makes: that a transaction which reads
//! a key and then writes it overwrites what it read (wfr), that each process (sequential) or everyone in
//! real time (linearizable) sees the versions of a key in order, or an order that the database itself gave.
//! A source that contradicts the ones before it is told as cyclic versions and left out for that key.

use fuzz_dist_core::{OpType, Value};
use rustc_hash::FxHashMap;

use crate::elle::graph::{Edge, Graph, NONE, Only, WW, components, kinds, tag};
use crate::elle::list_order::Lookup;
use crate::elle::txns::{NotTxns, Txns};

/// The version of the initial state.
pub const NIL: u32 = 0;

/// What may be assumed of the order of versions.
#[derive(Debug, Clone, Default)]
pub struct Assumptions {
    /// Each process sees the versions of a key in order.
    pub sequential_keys: bool,
    /// So does everyone, in real time.
    pub linearizable_keys: bool,
    /// A transaction overwrites what it read.
    pub wfr_keys: bool,
    /// What a key holds that nobody wrote.
    pub initial: Value,
    /// The order of transactions as the database gave it, by position of their completion.
    pub transaction_order: Option<FxHashMap<u64, i64>>,
}

/// Versions, and the transactions that wrote what comes next.
type Next = Vec<(u32, Vec<u32>)>;

/// One version.
#[derive(Debug, Clone)]
pub struct Version<'h> {
    /// Its value.
    pub value: &'h Value,
    /// The transaction whose last write of the key it is, if that may have happened.
    pub writer: u32,
    /// The transaction that wrote it and then something else.
    pub intermediate: u32,
    /// A failed transaction that wrote it.
    pub failed: u32,
    /// Transactions that read it first, before writing the key themselves.
    pub readers: Vec<u32>,
    /// A second write of the same value, as a number of a micro-operation.
    again: u32,
    write_mop: u32,
}

impl Version<'_> {
    /// Whether nobody wrote it, not even a transaction that failed.
    pub fn is_unwritten(&self) -> bool {
        self.writer == NONE && self.intermediate == NONE && self.failed == NONE
    }
}

/// What one transaction that may have happened did with the key, as others see it.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// The transaction.
    pub txn: u32,
    /// How it ended.
    pub outcome: OpType,
    /// The version it read before writing, or [`NONE`].
    pub read: u32,
    /// The version it left, or [`NONE`].
    pub write: u32,
}

impl Access {
    /// The first version that it met.
    fn first(&self) -> u32 {
        if self.read == NONE { self.write } else { self.read }
    }

    /// The last version that it met.
    fn last(&self) -> u32 {
        if self.write == NONE { self.read } else { self.write }
    }
}

/// The versions of a key that are in a circle, and the assumptions that put them there.
#[derive(Debug)]
pub struct Cyclic {
    /// Some versions that precede each other.
    pub versions: Vec<u32>,
    /// The sources, the last one the culprit.
    pub sources: Vec<&'static str>,
}

/// The versions of one key.
#[derive(Debug, Default)]
pub struct Versions<'h> {
    /// By number; the initial state is number [`NIL`].
    pub list: Vec<Version<'h>>,
    /// What each transaction did with the key, in order of invocation.
    pub accesses: Vec<Access>,
    /// Pairs of versions of which the first precedes the second, without those that the initial state gives.
    pub order: Vec<(u32, u32)>,
}

impl<'h> Versions<'h> {
    /// Reads the versions of a key. Afterwards `lookup` gives the version of each value.
    pub fn new(
        txns: &Txns<'h>,
        key: u32,
        initial: &'h Value,
        lookup: &mut Lookup,
    ) -> Result<Versions<'h>, NotTxns> {
        let mut versions = Versions::default();
        lookup.clear();
        versions.version(initial, lookup);
        let numbers = txns.mops_of_key(key);
        for group in
            numbers.chunk_by(|a, b| txns.mops[*a as usize].txn == txns.mops[*b as usize].txn)
        {
            versions.writes(txns, group, lookup);
        }
        let mut at = 0;
        for group in
            numbers.chunk_by(|a, b| txns.mops[*a as usize].txn == txns.mops[*b as usize].txn)
        {
            let first = &txns.mops[group[0] as usize];
            let outcome = txns.outcome(first);
            if outcome == OpType::Fail {
                continue;
            }
            if outcome == OpType::Ok && !first.is_write() {
                let version = versions.version(first.value, lookup);
                versions.list[version as usize].readers.push(first.txn);
                versions.accesses[at].read = version;
            }
            at += 1;
        }
        let ambiguous = |version: &&Version| version.again != NONE && !version.readers.is_empty();
        if let Some(version) = versions.list.iter().find(ambiguous) {
            return Err(match version.write_mop {
                NONE => txns.writes_initial(version.again),
                first => txns.written_twice(first, version.again),
            });
        }
        versions.accesses.retain(|access| access.first() != NONE);
        Ok(versions)
    }

    fn version(&mut self, value: &'h Value, lookup: &mut Lookup) -> u32 {
        if let Some(version) = lookup.get(value) {
            return version;
        }
        let number = self.fresh(value);
        lookup.set(value, number);
        number
    }

    fn fresh(&mut self, value: &'h Value) -> u32 {
        self.list.push(Version {
            value,
            writer: NONE,
            intermediate: NONE,
            failed: NONE,
            readers: Vec::new(),
            again: NONE,
            write_mop: NONE,
        });
        self.list.len() as u32 - 1
    }

    /// Takes the writes of one transaction.
    fn writes(&mut self, txns: &Txns<'h>, group: &[u32], lookup: &mut Lookup) {
        let mop = |number: u32| &txns.mops[number as usize];
        let txn = mop(group[0]).txn;
        let outcome = txns.outcome(mop(group[0]));
        let last = group.iter().rev().copied().find(|number| mop(*number).is_write());
        let mut access = Access { txn, outcome, read: NONE, write: NONE };
        for &number in group.iter().filter(|number| mop(**number).is_write()) {
            let mut version = self.version(mop(number).value, lookup);
            if outcome == OpType::Fail {
                // Whoever reads nil read the initial state.
                if version != NIL {
                    self.list[version as usize].failed = txn;
                }
                continue;
            }
            let known = &mut self.list[version as usize];
            let owner = if known.writer == NONE { known.intermediate } else { known.writer };
            if version == NIL || (owner != NONE && owner != txn) {
                // The same value again: another version, which is fine as long as nobody reads it.
                known.again = number;
                version = self.fresh(mop(number).value);
            }
            let known = &mut self.list[version as usize];
            known.write_mop = number;
            if Some(number) == last {
                known.writer = txn;
                known.intermediate = NONE;
                access.write = version;
            } else if known.writer == NONE {
                known.intermediate = txn;
            }
        }
        if outcome != OpType::Fail {
            self.accesses.push(access);
        }
    }

    /// The writers of the versions behind each version that precedes any, in order and each once.
    pub fn next_writers(&self) -> Next {
        next_writers(self.list.len(), &self.order, |version| self.list[version as usize].writer)
    }

    /// Orders the versions by the assumptions; gives the contradictions.
    pub fn arrange(&mut self, txns: &Txns, assumptions: &Assumptions) -> Vec<Cyclic> {
        let mut cyclic = Vec::new();
        let mut sources = vec!["initial-state"];
        let mut add = |name: &'static str, order: Vec<(u32, u32)>, all: &mut Vec<(u32, u32)>| {
            let before = all.len();
            all.extend(order);
            sources.push(name);
            if let Some(versions) = circle(self.list.len() as u32, all) {
                cyclic.push(Cyclic { versions, sources: sources.clone() });
                sources.pop();
                all.truncate(before);
            }
        };
        let mut order = Vec::new();
        if let Some(given) = &assumptions.transaction_order {
            add("transaction-order", by_given_order(&self.accesses, txns, given), &mut order);
        }
        if assumptions.wfr_keys {
            add("wfr-keys", by_reads_before_writes(&self.accesses), &mut order);
        }
        if assumptions.sequential_keys {
            add("sequential-keys", by_process(&self.accesses, txns), &mut order);
        }
        if assumptions.linearizable_keys {
            add("linearizable-keys", by_time(&self.accesses, self.list.len(), txns), &mut order);
        }
        order.sort_unstable();
        order.dedup();
        order.retain(|(before, _)| *before != NIL);
        self.order = order;
        cyclic
    }
}

/// By version that precedes others: the writers of those right behind it. Behind a version that nobody is
/// known to have written, it is the ones after that.
fn next_writers(version_count: usize, order: &[(u32, u32)], writer: impl Fn(u32) -> u32) -> Next {
    let mut next: Next = Next::new();
    let mut starts = vec![NONE; version_count];
    for (place, group) in (0..).zip(order.chunk_by(|a, b| a.0 == b.0)) {
        starts[group[0].0 as usize] = place;
        next.push((group[0].0, group.iter().map(|(_, after)| *after).collect()));
    }
    // Unwritten versions are replaced by what is behind them, the last ones first; the order has no circle.
    let mut is_done = vec![false; next.len()];
    let mut open: Vec<(u32, bool)> = (0..next.len() as u32).map(|place| (place, false)).collect();
    while let Some((place, is_left)) = open.pop() {
        if is_done[place as usize] {
            continue;
        }
        let behind = &next[place as usize].1;
        let unwritten: Vec<u32> = behind
            .iter()
            .filter(|version| writer(**version) == NONE)
            .map(|version| starts[*version as usize])
            .filter(|place| *place != NONE)
            .collect();
        if !is_left && unwritten.iter().any(|place| !is_done[*place as usize]) {
            open.push((place, true));
            open.extend(unwritten.iter().map(|place| (*place, false)));
            continue;
        }
        let mut writers: Vec<u32> = behind
            .iter()
            .map(|version| writer(*version))
            .filter(|writer| *writer != NONE)
            .chain(unwritten.iter().flat_map(|place| next[*place as usize].1.iter().copied()))
            .collect();
        writers.sort_unstable();
        writers.dedup();
        next[place as usize].1 = writers;
        is_done[place as usize] = true;
    }
    next
}

/// Versions that precede each other, if there are any.
fn circle(version_count: u32, order: &[(u32, u32)]) -> Option<Vec<u32>> {
    if order.is_empty() {
        return None;
    }
    let edge = |from: u32, to: u32| Edge { from, to, tag: tag(WW, 0) };
    let mut edges: Vec<Edge> = order.iter().map(|&(from, to)| edge(from, to)).collect();
    if order.iter().any(|(_, after)| *after == NIL) {
        edges.extend((1..version_count).map(|version| edge(NIL, version)));
    }
    let graph = Graph::new(version_count, &edges);
    let found = components(&Only { graph: &graph, kinds: kinds(&[WW]) });
    found.members().into_iter().next()
}

fn by_given_order(
    accesses: &[Access],
    txns: &Txns,
    given: &FxHashMap<u64, i64>,
) -> Vec<(u32, u32)> {
    let mut writes: Vec<(Option<i64>, u32)> = accesses
        .iter()
        .filter(|access| access.write != NONE)
        .map(|access| {
            let record = txns.record(access.txn);
            (given.get(&txns.history.ops()[record as usize].index).copied(), access.write)
        })
        .collect();
    // Transactions that the database gave no place say nothing.
    writes.retain(|(place, _)| place.is_some());
    writes.sort_by_key(|(place, _)| *place);
    writes.windows(2).map(|pair| (pair[0].1, pair[1].1)).collect()
}

fn by_reads_before_writes(accesses: &[Access]) -> Vec<(u32, u32)> {
    accesses
        .iter()
        .filter(|access| access.read != NONE && access.write != NONE)
        .filter(|access| access.read != NIL && access.read != access.write)
        .map(|access| (access.read, access.write))
        .collect()
}

fn by_process(accesses: &[Access], txns: &Txns) -> Vec<(u32, u32)> {
    let mut last: FxHashMap<i64, u32> = FxHashMap::default();
    let mut order = Vec::new();
    for access in accesses {
        let process = txns.list[access.txn as usize].process;
        let before = match access.outcome {
            OpType::Ok => last.insert(process, access.last()),
            _ => last.get(&process).copied(),
        };
        if let Some(before) = before.filter(|before| *before != access.first()) {
            order.push((before, access.first()));
        }
    }
    order
}

/// A version precedes another if somebody had done with it before somebody who met the other as first thing
/// began: an interval order, of which a reduction is given (at most as many edges for each version as
/// there are versions at a time).
fn by_time(accesses: &[Access], version_count: usize, txns: &Txns) -> Vec<(u32, u32)> {
    // The earliest completion of who left it last; the latest invocation of who met it first.
    let mut known = vec![NONE; version_count];
    let mut met: Vec<Option<u32>> = vec![None; version_count];
    for access in accesses {
        let txn = &txns.list[access.txn as usize];
        if access.outcome == OpType::Ok {
            let known = &mut known[access.last() as usize];
            *known = (*known).min(txn.complete);
        }
        let met = &mut met[access.first() as usize];
        *met = (*met).max(Some(txn.invoke));
    }
    let mut events: Vec<(u32, u32)> = Vec::new();
    for version in 0..version_count as u32 {
        if known[version as usize] != NONE {
            events.push((known[version as usize], version));
        }
        if let Some(met) = met[version as usize] {
            events.push((met, version));
        }
    }
    events.sort_unstable();
    let mut order = Vec::new();
    // The versions known that no other known one follows.
    let mut latest: Vec<u32> = Vec::new();
    for (time, version) in events {
        let (known_at, met_at) = (known[version as usize], met[version as usize]);
        let is_wide = met_at.is_some_and(|met_at| known_at < met_at);
        if is_wide || met_at == Some(time) {
            order.extend(latest.iter().filter(|u| **u != version).map(|u| (*u, version)));
        }
        if is_wide {
            latest.clear();
            latest.push(version);
        } else if known_at == time {
            latest.retain(|u| met_at.is_none_or(|met_at| known[*u as usize] >= met_at));
            latest.push(version);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found_also_through_the_initial_state() {
        assert!(circle(3, &[(1, 2)]).is_none());
        assert_eq!(circle(3, &[(1, 2), (2, 1)]).map(|found| found.len()), Some(2));
        assert_eq!(circle(2, &[(1, NIL)]).map(|found| found.len()), Some(2));
    }

    #[test]
    fn behind_an_unwritten_version_come_the_writers_after_it() {
        // 1 before 2 before 3 and 4, 4 before 5; nobody wrote 2 and 4.
        let order = [(1, 2), (2, 3), (2, 4), (4, 5)];
        let writer = |version: u32| if [2, 4].contains(&version) { NONE } else { version + 10 };
        let next = next_writers(6, &order, writer);
        assert_eq!(next, [(1, vec![13, 15]), (2, vec![13, 15]), (4, vec![15])]);
    }
}
