//! Time and memory of `linearizable` by shape and size: `cargo bench -p fuzz_dist_checker`.
//!
//! Histories come from a seed: clients run against a register that takes effect at a random moment of
//! each operation, or against a collection whose elements are put in once. Times are those of the check alone, without reading a file. Arguments choose shapes
//! by a part of their name; sizes above `FUZZ_DIST_BENCH_MAX` operations (default a million) are left out.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Instant;

use fuzz_dist_checker::{Budget, build};
use fuzz_dist_core::spec::{CheckerSpec, Options};
use fuzz_dist_core::{History, Op, OpType, Process, Sym, Value};
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
    keys: u64,
    clients: usize,
    unique: bool,
    cas: bool,
    invalid: bool,
    info_per_10k: u64,
    sizes: &'static [usize],
}

const SHAPES: &[Shape] = &[
    Shape {
        name: "cas, 2000 keys, 10 clients",
        keys: 2_000,
        clients: 10,
        unique: false,
        cas: true,
        invalid: false,
        info_per_10k: 0,
        sizes: &[10_000, 100_000, 1_000_000],
    },
    Shape {
        name: "cas, one key, 10 clients",
        keys: 1,
        clients: 10,
        unique: false,
        cas: true,
        invalid: false,
        info_per_10k: 0,
        sizes: &[10_000, 100_000, 1_000_000],
    },
    Shape {
        name: "cas, one key, 5 clients",
        keys: 1,
        clients: 5,
        unique: false,
        cas: true,
        invalid: false,
        info_per_10k: 0,
        sizes: &[10_000, 100_000, 1_000_000],
    },
    Shape {
        name: "cas, one key, 30 clients, valid",
        keys: 1,
        clients: 30,
        unique: false,
        cas: true,
        invalid: false,
        info_per_10k: 0,
        sizes: &[1_000, 10_000, 100_000],
    },
    Shape {
        name: "cas, one key, 30 clients, invalid",
        keys: 1,
        clients: 30,
        unique: false,
        cas: true,
        invalid: true,
        info_per_10k: 0,
        sizes: &[1_000, 10_000, 100_000],
    },
    Shape {
        name: "cas, one key, 10 clients, 1 % info",
        keys: 1,
        clients: 10,
        unique: false,
        cas: true,
        invalid: false,
        info_per_10k: 100,
        sizes: &[1_000, 10_000, 100_000],
    },
    Shape {
        name: "unique writes, one key, 30 clients",
        keys: 1,
        clients: 30,
        unique: true,
        cas: false,
        invalid: false,
        info_per_10k: 0,
        sizes: &[10_000, 100_000, 1_000_000],
    },
    Shape {
        name: "unique writes, invalid",
        keys: 1,
        clients: 30,
        unique: true,
        cas: false,
        invalid: true,
        info_per_10k: 0,
        sizes: &[10_000, 100_000, 1_000_000],
    },
];

#[derive(Clone)]
struct Open {
    f: usize,
    key: usize,
    argument: (i64, i64),
    outcome: Option<(OpType, i64)>,
}

/// Runs clients one random step at a time: invoke, take effect, return.
fn history(shape: &Shape, operations: usize) -> History {
    let mut random = Random(42);
    let functions = [Sym::new("read"), Sym::new("write"), Sym::new("cas")];
    let mut values = vec![-1i64; shape.keys as usize];
    let mut open: Vec<Option<Open>> = vec![None; shape.clients];
    let mut names: Vec<i64> = (0..shape.clients as i64).collect();
    let mut ops: Vec<Op> = Vec::with_capacity(2 * operations);
    let (mut written, mut left) = (0i64, operations);
    let keyed = shape.keys > 1;
    let int = |n: i64| if n < 0 { Value::Nil } else { Value::Int(n) };
    let wrap = |key: usize, value: Value| match keyed {
        true => Value::tuple(vec![Value::Int(key as i64), value]),
        false => value,
    };
    let value_of = |op: &Open, read: Option<i64>| match op.f {
        0 => wrap(op.key, read.map_or(Value::Nil, int)),
        1 => wrap(op.key, int(op.argument.0)),
        _ => wrap(op.key, Value::list(vec![int(op.argument.0), int(op.argument.1)])),
    };
    let push = |ops: &mut Vec<Op>, process: i64, op_type, op: &Open, read| {
        let time = ops.len() as i64 * 1_000;
        let value = value_of(op, read);
        ops.push(Op::new(time, Process::Client(process), op_type, functions[op.f], value));
    };
    while left > 0 || open.iter().any(Option::is_some) {
        let p = random.below(shape.clients as u64) as usize;
        match open[p].take() {
            None if left > 0 => {
                left -= 1;
                let f = random.below(if shape.cas { 3 } else { 2 }) as usize;
                // Keys come one after the other, as in Jepsen's independent generators.
                let key = (operations - left - 1) * shape.keys as usize / operations;
                let fresh = |random: &mut Random| random.below(5) as i64;
                let argument = match f {
                    1 if shape.unique => {
                        written += 1;
                        (written, 0)
                    }
                    _ => (fresh(&mut random), fresh(&mut random)),
                };
                let op = Open { f, key, argument, outcome: None };
                push(&mut ops, names[p], OpType::Invoke, &op, None);
                open[p] = Some(op);
            }
            None => {}
            Some(mut op) if op.outcome.is_none() => {
                let value = &mut values[op.key];
                let outcome = match op.f {
                    0 => (OpType::Ok, *value),
                    1 => {
                        *value = op.argument.0;
                        (OpType::Ok, 0)
                    }
                    _ if *value == op.argument.0 => {
                        *value = op.argument.1;
                        (OpType::Ok, 0)
                    }
                    _ => (OpType::Fail, 0),
                };
                if random.below(10_000) < shape.info_per_10k {
                    push(&mut ops, names[p], OpType::Info, &op, None);
                    names[p] += shape.clients as i64;
                } else {
                    op.outcome = Some(outcome);
                    open[p] = Some(op);
                }
            }
            Some(op) => {
                let (op_type, read) = op.outcome.expect("it took effect");
                push(&mut ops, names[p], op_type, &op, Some(read));
            }
        }
    }
    if shape.invalid {
        spoil(&mut ops, &values);
    }
    History::new(ops).expect("clients do one thing at a time")
}

/// A stale read at nine tenths: of a value that was overwritten, with nothing open.
fn spoil(ops: &mut Vec<Op>, values: &[i64]) {
    let stale = |value: i64| Value::Int((value + 1) % 5);
    let at = ops.len() * 9 / 10;
    let reads = (at..ops.len()).find(|i| ops[*i].op_type == OpType::Ok && ops[*i].f == "read");
    let at = reads.expect("there is a read");
    // A value that no writer writes would be too easy; one from long ago is not.
    let old = ops[..at / 2].iter().rev().find(|op| op.f == "write" && op.op_type == OpType::Ok);
    let unique = values.len() == 1 && old.is_some_and(|op| op.value.as_int() > Some(5));
    if unique {
        ops[at].value = old.map_or(Value::Nil, |op| op.value.clone());
        return;
    }
    // With five values an old one may have come back: add a tail in which it cannot have.
    let process = Process::Client(1_000_000);
    let now = values[0].max(0);
    let written = Value::Int((now + 2) % 5);
    for (f, argument, result) in
        [("write", written.clone(), written), ("read", Value::Nil, stale(now))]
    {
        let time = ops.len() as i64 * 1_000;
        ops.push(Op::new(time, process, OpType::Invoke, Sym::new(f), argument));
        ops.push(Op::new(time, process, OpType::Ok, Sym::new(f), result));
    }
}

/// Models with the functions that put in and take out, and whether a stale answer is planted.
const COLLECTIONS: &[(&str, &str, &str, bool)] = &[
    ("fifo-queue", "enqueue", "dequeue", false),
    ("fifo-queue", "enqueue", "dequeue", true),
    ("stack", "push", "pop", false),
    ("stack", "push", "pop", true),
    ("priority-queue", "insert", "delete-min", false),
    ("priority-queue", "insert", "delete-min", true),
    ("unordered-queue", "enqueue", "dequeue", false),
];

/// Ten clients on a collection of distinct elements; what finds it empty says so.
fn collection(model: &str, put: &str, take: &str, invalid: bool, operations: usize) -> History {
    const CLIENTS: u64 = 10;
    let mut random = Random(7);
    let mut held: Vec<i64> = Vec::new();
    let mut open: Vec<Option<(bool, Value, bool)>> = vec![None; CLIENTS as usize];
    let mut ops: Vec<Op> = Vec::with_capacity(2 * operations);
    let (put, take) = (Sym::new(put), Sym::new(take));
    let (mut left, mut element) = (operations, 0i64);
    while left > 0 || open.iter().any(Option::is_some) {
        let p = random.below(CLIENTS) as usize;
        let time = ops.len() as i64 * 1_000;
        let op = |op_type, puts, value| {
            let f = if puts { put } else { take };
            Op::new(time, Process::Client(p as i64), op_type, f, value)
        };
        match open[p].take() {
            None if left > 0 => {
                left -= 1;
                let puts = random.below(2) == 0;
                // Distinct, in an order that has nothing to do with that in time.
                element += 1;
                let value = if puts { Value::Int(element * 7_919 % 1_000_003) } else { Value::Nil };
                ops.push(op(OpType::Invoke, puts, value.clone()));
                open[p] = Some((puts, value, false));
            }
            None => {}
            Some((puts, value, false)) => {
                let value = match value.as_int().filter(|_| puts) {
                    Some(element) => {
                        held.push(element);
                        value
                    }
                    None => taken(model, &mut held).map_or(Value::Nil, Value::Int),
                };
                open[p] = Some((puts, value, true));
            }
            Some((puts, value, true)) => ops.push(op(OpType::Ok, puts, value)),
        }
    }
    if invalid {
        // Two takes far apart exchange their elements.
        let took = |i: &usize| ops[*i].op_type == OpType::Ok && ops[*i].f == take;
        let is_element = |i: &usize| took(i) && !ops[*i].value.is_nil();
        let a = (ops.len() / 2..ops.len()).find(is_element).expect("somebody takes");
        let b = (ops.len() * 9 / 10..ops.len()).find(is_element).expect("somebody takes");
        let value = std::mem::take(&mut ops[a].value);
        ops[a].value = std::mem::replace(&mut ops[b].value, value);
    }
    History::new(ops).expect("clients do one thing at a time")
}

fn taken(model: &str, held: &mut Vec<i64>) -> Option<i64> {
    let place = match model {
        "stack" => held.len().checked_sub(1)?,
        "priority-queue" => (0..held.len()).min_by_key(|&i| held[i])?,
        _ => 0,
    };
    (place < held.len()).then(|| held.remove(place))
}

/// Peak resident memory in MiB since the last reset, from the kernel.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

fn reset_peak() {
    // Writing 5 resets the peak; where that is not allowed, the peak is that of the process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn main() {
    let max: usize =
        std::env::var("FUZZ_DIST_BENCH_MAX").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    println!(
        "{:<38} {:>9} {:>10} {:>9} {:>9} {:>8} {:>8}",
        "shape", "ops", "ms", "before", "peak MiB", "configs", "verdict"
    );
    for shape in SHAPES {
        if !wanted.is_empty() && !wanted.iter().any(|part| shape.name.contains(part.as_str())) {
            continue;
        }
        for &size in shape.sizes.iter().filter(|size| **size <= max) {
            measure(
                shape.name,
                &history(shape, size),
                json!({"independent": shape.keys > 1}),
                size,
            );
        }
    }
    for &(model, put, take, invalid) in COLLECTIONS {
        let name = format!("{model}, {}", if invalid { "invalid" } else { "valid" });
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        for size in [10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= max) {
            let history = collection(model, put, take, invalid, size);
            measure(&name, &history, json!({"model": model}), size);
        }
    }
}

fn measure(name: &str, history: &History, options: serde_json::Value, size: usize) {
    let options: Options = serde_json::from_value(options).expect("a map");
    let checker = build(&CheckerSpec { name: "linearizable".into(), options }).expect("a checker");
    let budget = Budget {
        time: Some(std::time::Duration::from_secs(60)),
        memory_bytes: Some(2 << 30),
        ..Budget::default()
    };
    reset_peak();
    let before = peak_mib();
    let start = Instant::now();
    let result = checker.check(history, &budget);
    let ms = start.elapsed().as_secs_f64() * 1e3;
    println!(
        "{:<38} {:>9} {:>10.1} {:>9} {:>9} {:>8} {:>8}",
        name,
        size,
        ms,
        before,
        peak_mib(),
        result.details["configurations_max"],
        result.verdict
    );
    if result.verdict == fuzz_dist_core::Verdict::Unknown {
        println!("    {}", result.reason);
    }
}
