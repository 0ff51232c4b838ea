//! Time of `list-append` and `rw-register` by shape and size: `cargo bench -p fuzz_dist_checker --bench elle`.
//!
//! Histories come from a seed: clients run transactions against a store that is strictly serializable, or
//! one whose transactions read each key at another moment (read committed, dense with anomalies). Times are
//! those of the check alone. Arguments choose shapes by a part of their name; sizes above
//! `FUZZ_DIST_BENCH_MAX` transactions (default a million) are left out; `FUZZ_DIST_BENCH_EDN` names a folder
//! into which the histories are written, for measuring the whole program.

use std::time::Instant;

use fuzz_dist_checker::{Budget, build};
use fuzz_dist_core::spec::{CheckerSpec, Options};
use fuzz_dist_core::{History, Op, OpType, Process, Sym, Value, interop};
use serde_json::json;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    lists: bool,
    /// Reads see each key at a moment of its own.
    read_committed: bool,
    options: &'static str,
}

const SHAPES: &[Shape] = &[
    Shape {
        name: "list-append, strict-serializable",
        lists: true,
        read_committed: false,
        options: "{}",
    },
    Shape { name: "list-append, read committed", lists: true, read_committed: true, options: "{}" },
    Shape {
        name: "rw-register, sequential keys",
        lists: false,
        read_committed: false,
        options: r#"{"consistency-model": "serializable", "sequential-keys": true}"#,
    },
    Shape {
        name: "rw-register, linearizable keys",
        lists: false,
        read_committed: false,
        options: r#"{"linearizable-keys": true, "wfr-keys": true}"#,
    },
];

const PROCESSES: usize = 20;
const ACTIVE_KEYS: u64 = 10;
const WRITES_PER_KEY: usize = 100;

/// What a store holds of one key: every version, shared between reads.
#[derive(Default, Clone)]
struct Cell {
    written: Vec<Value>,
}

struct Store {
    cells: Vec<Cell>,
    active: Vec<usize>,
}

impl Store {
    fn write(&mut self, slot: usize) -> (usize, Value) {
        let mut key = self.active[slot];
        if self.cells[key].written.len() >= WRITES_PER_KEY {
            key = self.cells.len();
            self.cells.push(Cell::default());
            self.active[slot] = key;
        }
        let value = Value::Int(self.cells[key].written.len() as i64 + 1);
        self.cells[key].written.push(value.clone());
        (key, value)
    }

    fn read(&self, key: usize, version: usize, lists: bool) -> Value {
        let written = &self.cells[key].written[..version];
        match lists {
            true => Value::list(written),
            false => written.last().cloned().unwrap_or(Value::Nil),
        }
    }
}

fn history(shape: Shape, txn_count: usize) -> History {
    let mut random = Random(7);
    let mut store = Store {
        cells: vec![Cell::default(); ACTIVE_KEYS as usize],
        active: (0..ACTIVE_KEYS as usize).collect(),
    };
    let (f, read, write) =
        (Sym::new("txn"), Value::sym("r"), Value::sym(if shape.lists { "append" } else { "w" }));
    let mut ops: Vec<Op> = Vec::with_capacity(txn_count * 2);
    let mut open: Vec<Option<Value>> = vec![None; PROCESSES];
    let (mut begun, mut ended) = (0, 0);
    while ended < txn_count {
        let process = random.below(PROCESSES as u64) as usize;
        let op = |op_type, value, at: usize| {
            Op::new(at as i64 * 10_000, Process::Client(process as i64), op_type, f, value)
        };
        if let Some(done) = open[process].take() {
            let at = ops.len();
            ops.push(op(OpType::Ok, done, at));
            ended += 1;
        } else if begun < txn_count {
            begun += 1;
            let mut asked = Vec::new();
            let mut done = Vec::new();
            for _ in 0..1 + random.below(4) {
                // Exponential: each key twice as likely as the one before.
                let slot =
                    (63 - (random.below((1 << ACTIVE_KEYS) - 1) + 1).leading_zeros()) as usize;
                if random.below(2) == 0 {
                    let (key, value) = store.write(slot);
                    let mop = Value::list(vec![write.clone(), Value::Int(key as i64), value]);
                    asked.push(mop.clone());
                    done.push(mop);
                } else {
                    let key = store.active[slot];
                    let newest = store.cells[key].written.len();
                    // Not what the transaction itself wrote before: that would be internal.
                    let own = done.iter().any(|mop: &Value| {
                        mop.items().is_some_and(|mop| mop[1] == Value::Int(key as i64))
                    });
                    let back =
                        if shape.read_committed && !own { random.below(4) as usize } else { 0 };
                    let result = store.read(key, newest.saturating_sub(back), shape.lists);
                    asked.push(Value::list(vec![read.clone(), Value::Int(key as i64), Value::Nil]));
                    done.push(Value::list(vec![read.clone(), Value::Int(key as i64), result]));
                }
            }
            let at = ops.len();
            ops.push(op(OpType::Invoke, Value::list(asked), at));
            open[process] = Some(Value::list(done));
        }
    }
    History::new(ops).unwrap_or_default()
}

fn main() {
    let max = std::env::var("FUZZ_DIST_BENCH_MAX").ok().and_then(|text| text.parse().ok());
    let max: usize = max.unwrap_or(1_000_000);
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!("| history | transactions | verdict | ms |\n|---|---|---|---|");
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
            let start = Instant::now();
            let result = checker.check(&history, &Budget::UNLIMITED);
            println!(
                "| {} | {size} | {} | {:.0} |",
                shape.name,
                result.verdict,
                start.elapsed().as_secs_f64() * 1e3
            );
            eprintln!("{}", result.reason);
        }
    }
}
