//! Commit order that a level implies: which transaction must come before which, beyond session order and
//! reads-from.
//!
//! Every level here has one axiom (Biswas and Enea, OOPSLA 2019): if a transaction reads a key from t1, and
//! another writer t2 of the key is *visible* to the read, then t2 comes before t1 in the commit order. Levels
//! differ in what is visible. The history has a level if and only if session order, reads-from and all edges
//! so implied have no cycle.

use crate::causal::txns::Txns;

/// What a level implies.
#[derive(Debug, Default)]
pub struct Inferred {
    /// Of (t1, t2): t2 comes before t1.
    pub edges: Vec<(u32, u32)>,
    /// Reads of the initial state although a write of the key was visible: a cycle by itself, since
    /// everything comes after the initial state.
    pub stale: Vec<StaleInitial>,
    /// How many of those.
    pub stale_count: u64,
    recent: Vec<(u32, u32)>,
    compact_at: usize,
}

/// A read of the initial state that missed a visible write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleInitial {
    /// Who read.
    pub reader: u32,
    /// The key.
    pub key: u32,
    /// Who had written it.
    pub writer: u32,
}

/// How many stale reads of the initial state are kept.
const STALE_MAX: usize = 16;
/// Edges that were added lately are not added again; a power of two.
const RECENT: usize = 1 << 14;
/// Below so many, edges are not worth compacting.
const COMPACT_MIN: usize = 1 << 22;

impl Inferred {
    /// t2 comes before t1.
    #[inline]
    pub fn edge(&mut self, txns: &Txns, t1: u32, t2: u32) {
        if self.recent.is_empty() {
            self.recent = vec![(0, 0); RECENT];
            self.compact_at = COMPACT_MIN;
        }
        let hash = t1.wrapping_mul(0x9e37_79b1) ^ t2.wrapping_mul(0x85eb_ca77);
        let recent = &mut self.recent[hash as usize >> 8 & (RECENT - 1)];
        if *recent == (t1, t2) {
            return;
        }
        *recent = (t1, t2);
        self.edges.push((t1, t2));
        if self.edges.len() >= self.compact_at {
            self.compact(txns);
        }
    }

    /// A read of the initial state missed a write.
    pub fn stale(&mut self, stale: StaleInitial) {
        self.stale_count += 1;
        if self.stale.len() < STALE_MAX {
            self.stale.push(stale);
        }
    }

    /// Of several edges from one chain to a transaction, the last implies the others. So there never are
    /// more than transactions times chains.
    fn compact(&mut self, txns: &Txns) {
        let place = |txn: u32| {
            let txn = &txns.list[txn as usize];
            (txn.chain, std::cmp::Reverse(txn.place))
        };
        self.edges.sort_unstable_by_key(|(t1, t2)| (*t1, place(*t2)));
        self.edges.dedup_by_key(|(t1, t2)| (*t1, txns.list[*t2 as usize].chain));
        self.compact_at = COMPACT_MIN.max(self.edges.len() * 2);
    }

    /// What is only needed while edges come in is dropped.
    pub fn finish(&mut self) {
        self.recent = Vec::new();
    }
}
