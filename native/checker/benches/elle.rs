//! Time of `list-append` and `rw-register` by shape and size: `cargo bench -p fuzz_dist_checker --bench elle`.
//!
//! Histories come from a seed: clients run transactions against a store that is strictly serializable, or
//! one with stale reads or with snapshots (dense with anomalies). Times are
//! those of the check alone, and so is the memory: the most that it holds beyond the history (on Linux).
//! Arguments choose shapes by a part of their name; sizes above
//! `FUZZ_DIST_BENCH_MAX` transactions (default a million) are left out; `FUZZ_DIST_BENCH_EDN` names a folder
//! into which the histories are written, for measuring the whole program.

mod shapes;

use std::time::Instant;

use fuzz_dist_checker::{Budget, build};
use fuzz_dist_core::spec::{CheckerSpec, Options};
use fuzz_dist_core::{History, Op, OpType, Process, Sym, Value, interop};
use serde_json::json;
use shapes::Random;
use shapes::memory::{forget_peak, peak_mib};

/// How a store treats transactions.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Each takes effect at once.
    Serial,
    /// Each read may see an older state of its key.
    Stale,
    /// Reads see the state at the beginning; of two that write the same key, one fails.
    Snapshot,
}

#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    lists: bool,
    store: Kind,
    options: &'static str,
}

const SHAPES: &[Shape] = &[
    Shape {
        name: "list-append, strict-serializable",
        lists: true,
        store: Kind::Serial,
        options: "{}",
    },
    Shape { name: "list-append, stale reads", lists: true, store: Kind::Stale, options: "{}" },
    Shape { name: "list-append, write skew", lists: true, store: Kind::Snapshot, options: "{}" },
    Shape {
        name: "list-append, snapshot isolation",
        lists: true,
        store: Kind::Snapshot,
        options: r#"{"consistency-model": "strong-snapshot-isolation"}"#,
    },
    Shape {
        name: "rw-register, sequential keys",
        lists: false,
        store: Kind::Serial,
        options: r#"{"consistency-model": "serializable", "sequential-keys": true}"#,
    },
    Shape {
        name: "rw-register, linearizable keys",
        lists: false,
        store: Kind::Serial,
        options: r#"{"linearizable-keys": true, "wfr-keys": true}"#,
    },
];

const PROCESSES: usize = 20;
const ACTIVE_KEYS: u64 = 10;
const WRITES_PER_KEY: i64 = 100;

/// Every version of every key, and the keys in use.
struct Store {
    written: Vec<Vec<Value>>,
    active: Vec<usize>,
    next_value: Vec<i64>,
}

impl Store {
    fn key(&mut self, slot: usize) -> usize {
        let key = self.active[slot];
        if self.next_value[key] < WRITES_PER_KEY {
            return key;
        }
        self.active[slot] = self.written.len();
        self.written.push(Vec::new());
        self.next_value.push(0);
        self.active[slot]
    }
}

/// A transaction in progress: its result, its writes, and the versions that it began with.
struct Open {
    mops: Vec<(bool, usize, Value)>,
    seen: Vec<(usize, usize)>,
}

fn history(shape: Shape, txn_count: usize) -> History {
    let mut random = Random(7);
    let keys = ACTIVE_KEYS as usize;
    let mut store = Store {
        written: vec![Vec::new(); keys],
        active: (0..keys).collect(),
        next_value: vec![0; keys],
    };
    let f = Sym::new("txn");
    let names = (Value::sym("r"), Value::sym(if shape.lists { "append" } else { "w" }));
    let value = |mops: &[(bool, usize, Value)]| {
        let mop = |(write, key, value): &(bool, usize, Value)| {
            let name = if *write { &names.1 } else { &names.0 };
            Value::list(vec![name.clone(), Value::Int(*key as i64), value.clone()])
        };
        Value::list(mops.iter().map(mop).collect::<Vec<_>>())
    };
    let mut ops: Vec<Op> = Vec::with_capacity(txn_count * 2);
    let mut open: Vec<Option<Open>> = (0..PROCESSES).map(|_| None).collect();
    let (mut begun, mut ended) = (0, 0);
    while ended < txn_count {
        let process = random.below(PROCESSES as u64) as usize;
        let at = ops.len() as i64 * 10_000;
        let op = |op_type, value| Op::new(at, Process::Client(process as i64), op_type, f, value);
        if let Some(mut txn) = open[process].take() {
            ended += 1;
            let done = perform(shape, &mut store, &mut random, &mut txn);
            let op_type = if done { OpType::Ok } else { OpType::Fail };
            ops.push(op(op_type, value(&txn.mops)));
        } else if begun < txn_count {
            begun += 1;
            let mut txn = Open { mops: Vec::new(), seen: Vec::new() };
            for _ in 0..1 + random.below(4) {
                // Exponential: each key twice as likely as the one before.
                let slot = (random.below((1 << ACTIVE_KEYS) - 1) + 1).ilog2() as usize;
                let key = store.key(slot);
                if random.below(2) == 0 {
                    store.next_value[key] += 1;
                    txn.mops.push((true, key, Value::Int(store.next_value[key])));
                } else {
                    txn.mops.push((false, key, Value::Nil));
                }
                txn.seen.push((key, store.written[key].len()));
            }
            ops.push(op(OpType::Invoke, value(&txn.mops)));
            open[process] = Some(txn);
        }
    }
    History::new(ops).unwrap_or_default()
}

/// Fills in what was read and takes over what was written; whether the transaction succeeded.
fn perform(shape: Shape, store: &mut Store, random: &mut Random, txn: &mut Open) -> bool {
    let mut view: Vec<(usize, Vec<Value>)> = Vec::new();
    for (key, begun_with) in &txn.seen {
        let now = store.written[*key].len();
        let writes = txn.mops.iter().any(|(write, k, _)| *write && k == key);
        let length = match shape.store {
            Kind::Serial => now,
            // A stale update would be lost; this is about reads.
            Kind::Stale if writes => now,
            Kind::Stale => now.saturating_sub(random.below(3) as usize),
            Kind::Snapshot if writes && *begun_with != now => return false,
            Kind::Snapshot => *begun_with,
        };
        if !view.iter().any(|(k, _)| k == key) {
            view.push((*key, store.written[*key][..length].to_vec()));
        }
    }
    for (write, key, value) in &mut txn.mops {
        let Some((_, seen)) = view.iter_mut().find(|(k, _)| k == key) else { continue };
        if *write {
            seen.push(value.clone());
            store.written[*key].push(value.clone());
        } else {
            *value = match shape.lists {
                true => Value::list(seen.clone()),
                false => seen.last().cloned().unwrap_or(Value::Nil),
            };
        }
    }
    true
}

fn main() {
    let max = std::env::var("FUZZ_DIST_BENCH_MAX").ok().and_then(|text| text.parse().ok());
    let max: usize = max.unwrap_or(1_000_000);
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!("| history | transactions | verdict | ms | MB |\n|---|---|---|---|---|");
    for shape in SHAPES {
        if !wanted.is_empty() && !wanted.iter().any(|part| shape.name.contains(part.as_str())) {
            continue;
        }
        for size in [10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= max) {
            let history = history(*shape, size);
            if let Ok(folder) = std::env::var("FUZZ_DIST_BENCH_EDN") {
                let path = format!("{folder}/{}-{size}.edn", shape.name.replace([',', ' '], "-"));
                let written = std::fs::File::create(&path).and_then(|file| {
                    interop::write_edn(&history, &mut std::io::BufWriter::new(file))
                });
                if let Err(error) = written {
                    eprintln!("{path}: {error}");
                }
            }
            let options: Options = serde_json::from_value(
                serde_json::from_str(shape.options).unwrap_or_else(|_| json!({})),
            )
            .unwrap_or_default();
            let name = if shape.lists { "list-append" } else { "rw-register" };
            let spec = CheckerSpec { name: name.into(), options };
            let Ok(checker) = build(&spec) else { continue };
            let before = forget_peak();
            let start = Instant::now();
            let result = checker.check(&history, &Budget::UNLIMITED);
            println!(
                "| {} | {size} | {} | {:.0} | {} |",
                shape.name,
                result.verdict,
                start.elapsed().as_secs_f64() * 1e3,
                peak_mib().saturating_sub(before)
            );
            eprintln!("{}", result.reason);
        }
    }
}
