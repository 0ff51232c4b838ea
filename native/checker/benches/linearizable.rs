//! Time and memory of `linearizable` by shape and size: `cargo bench -p fuzz_dist_checker`.
//!
//! Histories come from a seed: clients run against a register that takes effect at a random moment of
//! each operation, or against a collection whose elements are put in once. Times are those of the check alone,
//! without reading a file. Arguments choose shapes by a part of their name; sizes above `FUZZ_DIST_BENCH_MAX` operations (default a million) are left out.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod shapes;

use std::time::Instant;

use fuzz_dist_checker::{Budget, build};
use fuzz_dist_core::spec::{CheckerSpec, Options};
use fuzz_dist_core::{History, Op, OpType, Process, Sym, Value};
use serde_json::json;
use shapes::Random;
use shapes::memory::{forget_peak, peak_mib};
use shapes::registers::{self, CAS, Registers};

const LARGE: &[usize] = &[10_000, 100_000, 1_000_000];
const HARD: &[usize] = &[1_000, 10_000, 100_000];

/// Name, clients, and how many operations.
const SHAPES: &[(&str, Registers, &[usize])] = &[
    ("cas, 2000 keys, 10 clients", Registers { keys: 2_000, ..CAS }, LARGE),
    ("cas, one key, 10 clients", CAS, LARGE),
    ("cas, one key, 5 clients", Registers { clients: 5, ..CAS }, LARGE),
    ("cas, one key, 30 clients, valid", Registers { clients: 30, ..CAS }, HARD),
    ("cas, one key, 30 clients, invalid", Registers { clients: 30, invalid: true, ..CAS }, HARD),
    ("cas, one key, 10 clients, 1 % info", Registers { info_per_10k: 100, ..CAS }, HARD),
    ("unique writes, one key, 30 clients", Registers { clients: 30, unique: true, ..CAS }, LARGE),
    (
        "unique writes, invalid",
        Registers { clients: 30, unique: true, invalid: true, ..CAS },
        LARGE,
    ),
];

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

fn main() {
    let max: usize =
        std::env::var("FUZZ_DIST_BENCH_MAX").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    println!(
        "{:<38} {:>9} {:>10} {:>9} {:>9} {:>8} {:>8}",
        "shape", "ops", "ms", "before", "peak MiB", "configs", "verdict"
    );
    for &(name, shape, sizes) in SHAPES {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        for &size in sizes.iter().filter(|size| **size <= max) {
            let history = registers::history(shape, size);
            measure(name, &history, json!({"independent": shape.keys > 1}), size);
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
    let before = forget_peak();
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
