//! Who wrote which version of which key, and who read it.
//!
//! Only transactions that happened count: those that succeeded, and those without an answer of
//! which a write was read. A version here is the last write of a key in a transaction.

use fuzz_dist_core::OpType;

use crate::elle::graph::{Edge, NONE, WR, key_of, kind_of};
use crate::elle::txns::Txns;

/// Versions in flat arrays.
#[derive(Debug)]
pub struct Facts {
    /// By version: its key and its writer.
    pub versions: Vec<(u32, u32)>,
    /// By transaction: where its versions begin.
    version_start: Vec<u32>,
    reader_start: Vec<u32>,
    readers: Vec<u32>,
    read_start: Vec<u32>,
    reads: Vec<u32>,
    /// By transaction: whether it happened.
    pub happened: Vec<bool>,
}

impl Facts {
    /// Takes them from the transactions, and who read from whom from the dependencies.
    pub fn new(txns: &Txns, edges: &[Edge]) -> Facts {
        let read_edges = || edges.iter().filter(|edge| kind_of(edge.tag) == WR);
        let mut happened: Vec<bool> =
            txns.list.iter().map(|txn| txn.outcome == OpType::Ok).collect();
        for edge in read_edges() {
            happened[edge.from as usize] = true;
        }
        let (versions, version_start) = versions(txns, &happened);
        let mut facts = Facts {
            versions,
            version_start,
            reader_start: Vec::new(),
            readers: Vec::new(),
            read_start: Vec::new(),
            reads: Vec::new(),
            happened,
        };
        // (version, reader)
        let pairs: Vec<(u32, u32)> = read_edges()
            .filter_map(|edge| Some((facts.version_of(edge.from, key_of(edge.tag))?, edge.to)))
            .collect();
        (facts.reader_start, facts.readers) = grouped(facts.versions.len(), &pairs);
        let swapped: Vec<(u32, u32)> = pairs.iter().map(|(a, b)| (*b, *a)).collect();
        (facts.read_start, facts.reads) = grouped(txns.list.len(), &swapped);
        facts
    }

    /// The versions that a transaction wrote.
    pub fn written(&self, txn: u32) -> std::ops::Range<u32> {
        self.version_start[txn as usize]..self.version_start[txn as usize + 1]
    }

    /// The version of a key that a transaction wrote.
    pub fn version_of(&self, txn: u32, key: u32) -> Option<u32> {
        self.written(txn).find(|version| self.versions[*version as usize].0 == key)
    }

    /// Who read a version that another transaction wrote.
    pub fn readers(&self, version: u32) -> &[u32] {
        slice(&self.reader_start, &self.readers, version)
    }

    /// The versions of others that a transaction read.
    pub fn reads(&self, txn: u32) -> &[u32] {
        slice(&self.read_start, &self.reads, txn)
    }
}

fn slice<'a>(start: &[u32], items: &'a [u32], at: u32) -> &'a [u32] {
    &items[start[at as usize] as usize..start[at as usize + 1] as usize]
}

/// The versions by transaction, and where those of each begin.
fn versions(txns: &Txns, happened: &[bool]) -> (Vec<(u32, u32)>, Vec<u32>) {
    let mut versions: Vec<(u32, u32)> = Vec::new();
    let mut start = Vec::with_capacity(happened.len() + 1);
    let mut last_writer = vec![NONE; txns.key_count() as usize];
    for (number, happened) in (0..).zip(happened) {
        start.push(versions.len() as u32);
        if !happened {
            continue;
        }
        for mop in txns.mops_of(number).iter().filter(|mop| mop.is_write()) {
            let last = &mut last_writer[mop.key() as usize];
            if std::mem::replace(last, number) != number {
                versions.push((mop.key(), number));
            }
        }
    }
    start.push(versions.len() as u32);
    (versions, start)
}

/// The second of each pair, by the first.
fn grouped(count: usize, pairs: &[(u32, u32)]) -> (Vec<u32>, Vec<u32>) {
    let mut start = vec![0u32; count + 2];
    for (group, _) in pairs {
        start[*group as usize + 2] += 1;
    }
    for i in 2..start.len() {
        start[i] += start[i - 1];
    }
    let mut items = vec![0; pairs.len()];
    for (group, item) in pairs {
        let place = &mut start[*group as usize + 1];
        items[*place as usize] = *item;
        *place += 1;
    }
    start.pop();
    (start, items)
}
