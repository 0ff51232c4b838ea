//! Sessions at replicas that lag behind one log, which is causally consistent and no more than that.
//!
//! A fifth of the keys gets four fifths of the operations, as in AWDIT's benchmarks.

use fuzz_dist_core::{History, OpType, Sym, Value};

use super::{Random, Recorder};

const KEYS: u64 = 1_000;
/// How many transactions a replica is behind, at most, for each session.
const LAG: u64 = 4;
/// Reads and writes of a transaction: 1 to this.
const LENGTH_MAX: u64 = 8;

/// A key and what is written, or read of it.
struct Mop {
    writes: bool,
    key: u64,
    value: Value,
}

/// A history of so many transactions.
pub fn history(sessions: u64, transactions: usize) -> History {
    let f = Sym::new("txn");
    let mut random = Random(42);
    let mut recorder = Recorder::with_capacity(transactions);
    // For each key, the transactions that wrote it; each writes its own number.
    let mut log: Vec<Vec<u64>> = vec![Vec::new(); KEYS as usize];
    let mut seen = vec![0; sessions as usize];
    for n in 1..=transactions as u64 {
        let session = random.below(sessions) as usize;
        seen[session] = n.saturating_sub(1 + random.below(LAG * sessions)).max(seen[session]);
        let mops = draw(&mut random, &log, seen[session], n);
        for mop in mops.iter().filter(|mop| mop.writes) {
            log[mop.key as usize].push(n);
            // A session sees its own writes, and so all before them.
            seen[session] = n;
        }
        recorder.push(session, OpType::Invoke, f, value(&mops, false));
        recorder.push(session, OpType::Ok, f, value(&mops, true));
    }
    recorder.history()
}

fn draw(random: &mut Random, log: &[Vec<u64>], seen: u64, n: u64) -> Vec<Mop> {
    let mut mops: Vec<Mop> = Vec::new();
    for _ in 0..1 + random.below(LENGTH_MAX) {
        let hot = random.below(5) > 0;
        let key = random.below(if hot { KEYS / 5 } else { KEYS });
        let writes = random.below(2) == 0;
        // One write of a key, and no read after it, which would have to return it.
        if mops.iter().any(|mop| mop.writes && mop.key == key) {
            continue;
        }
        let versions = &log[key as usize];
        let visible = versions.partition_point(|writer| *writer <= seen);
        let read = visible.checked_sub(1).map_or(Value::Nil, |at| Value::Int(versions[at] as i64));
        mops.push(Mop { writes, key, value: if writes { Value::Int(n as i64) } else { read } });
    }
    mops
}

fn value(mops: &[Mop], done: bool) -> Value {
    let mop = |mop: &Mop| {
        let value = if mop.writes || done { mop.value.clone() } else { Value::Nil };
        let name = if mop.writes { "w" } else { "r" };
        Value::list(vec![Value::sym(name), Value::Int(mop.key as i64), value])
    };
    Value::list(mops.iter().map(mop).collect::<Vec<_>>())
}
