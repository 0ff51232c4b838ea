//! Histories of known shape from a seed, as large as wanted: what clients record of systems that keep their
//! promise (or break it once), for measuring.

#![allow(clippy::expect_used, reason = "a benchmark fails by panicking")]
#![allow(dead_code, reason = "no benchmark needs every shape")]

pub mod collections;
pub mod memory;
pub mod registers;
pub mod sessions;
pub mod transactions;

use fuzz_dist_core::{History, Op, OpType, Process, Sym, Value};

/// SplitMix64: the same histories everywhere.
pub struct Random(pub u64);

impl Random {
    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Records in order, a microsecond apart.
#[derive(Default)]
pub struct Recorder {
    ops: Vec<Op>,
}

impl Recorder {
    pub fn with_capacity(operations: usize) -> Recorder {
        Recorder { ops: Vec::with_capacity(2 * operations) }
    }

    pub fn push(&mut self, process: usize, op_type: OpType, f: Sym, value: Value) {
        let time_ns = self.ops.len() as i64 * 1_000;
        self.ops.push(Op::new(time_ns, Process::Client(process as i64), op_type, f, value));
    }

    /// Invokes and completes at once.
    pub fn done(&mut self, process: usize, f: Sym, argument: Value, result: Value) {
        self.push(process, OpType::Invoke, f, argument);
        self.push(process, OpType::Ok, f, result);
    }

    pub fn history(self) -> History {
        History::new(self.ops).expect("clients do one thing at a time")
    }
}
