//! Time and memory of checkers that need no search, by size: `cargo bench -p fuzz_dist_checker`.
//!
//! Histories come from a seed and are correct. Times are those of the check alone. Arguments choose
//! checkers by name; sizes above `FUZZ_DIST_BENCH_MAX` operations (default a million) are left out.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Instant;

use fuzz_dist_checker::{Budget, build};
use fuzz_dist_core::spec::CheckerSpec;
use fuzz_dist_core::{History, Op, OpType, Process, Sym, Value};

/// SplitMix64.
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

#[derive(Default)]
struct Recorder {
    ops: Vec<Op>,
}

impl Recorder {
    fn push(&mut self, process: i64, op_type: OpType, f: Sym, value: Value) {
        let time = self.ops.len() as i64 * 1_000;
        self.ops.push(Op::new(time, Process::Client(process), op_type, f, value));
    }

    fn done(&mut self, process: i64, f: Sym, argument: Value, result: Value) {
        self.push(process, OpType::Invoke, f, argument);
        self.push(process, OpType::Ok, f, result);
    }
}

/// Adds by ten clients, and twenty reads of all elements so far.
fn set_full(operations: usize) -> History {
    let (add, read) = (Sym::new("add"), Sym::new("read"));
    let mut recorder = Recorder::default();
    let every = (operations / 20).max(1);
    let mut elements: Vec<Value> = Vec::new();
    for n in 0..operations as i64 {
        if n as usize % every == every - 1 {
            recorder.done(n % 10, read, Value::Nil, Value::list(elements.clone()));
        } else {
            recorder.done(n % 10, add, Value::Int(n), Value::Int(n));
            elements.push(Value::Int(n));
        }
    }
    History::new(recorder.ops).expect("well-formed")
}

fn counter(operations: usize) -> History {
    let (add, read) = (Sym::new("add"), Sym::new("read"));
    let mut recorder = Recorder::default();
    let mut value = 0;
    for n in 0..operations as i64 {
        if n % 2 == 0 {
            value += n % 5;
            recorder.done(n % 10, add, Value::Int(n % 5), Value::Int(n % 5));
        } else {
            recorder.done(n % 10, read, Value::Nil, Value::Int(value));
        }
    }
    History::new(recorder.ops).expect("well-formed")
}

/// Ten overlapping clients; one to four appends and reads each, keys that retire after 64 appends.
fn list_append(operations: usize) -> History {
    let txn = Sym::new("txn");
    let (append, r) = (Value::sym("append"), Value::sym("r"));
    let mut random = Random(42);
    let mut recorder = Recorder::default();
    let mut lists: Vec<Vec<Value>> = vec![Vec::new(); 10];
    let mut names: Vec<i64> = (0..10).collect();
    let mut next_key = 10;
    let mut open: Vec<Option<Vec<(bool, usize)>>> = vec![None; 10];
    let mut left = operations;
    while left > 0 || open.iter().any(Option::is_some) {
        let p = random.below(10) as usize;
        match open[p].take() {
            None if left > 0 => {
                left -= 1;
                let parts: Vec<(bool, usize)> = (0..1 + random.below(4))
                    .map(|_| (random.below(2) == 0, random.below(10) as usize))
                    .collect();
                recorder.push(p as i64, OpType::Invoke, txn, Value::Nil);
                open[p] = Some(parts);
            }
            None => {}
            Some(parts) => {
                let mut done = Vec::new();
                for (is_append, slot) in parts {
                    let key = Value::Int(names[slot]);
                    if is_append {
                        let element = Value::Int(lists[slot].len() as i64);
                        lists[slot].push(element.clone());
                        done.push(Value::list(vec![append.clone(), key, element]));
                    } else {
                        done.push(Value::list(vec![
                            r.clone(),
                            key,
                            Value::list(lists[slot].clone()),
                        ]));
                    }
                }
                recorder.push(p as i64, OpType::Ok, txn, Value::list(done));
                for slot in 0..10 {
                    if lists[slot].len() >= 64 {
                        lists[slot].clear();
                        names[slot] = next_key;
                        next_key += 1;
                    }
                }
            }
        }
    }
    History::new(recorder.ops).expect("well-formed")
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) >> 10
}

type Make = fn(usize) -> History;

fn main() {
    let max: usize =
        std::env::var("FUZZ_DIST_BENCH_MAX").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    println!(
        "{:<12} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "checker", "ops", "ms", "before", "peak MiB", "verdict"
    );
    let shapes: [(&str, Make); 3] =
        [("set-full", set_full), ("counter", counter), ("list-append", list_append)];
    for (name, make) in shapes {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
            continue;
        }
        for size in [10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= max) {
            let history = make(size);
            let spec = CheckerSpec { name: name.into(), ..CheckerSpec::default() };
            let checker = build(&spec).expect("a checker");
            let _ = std::fs::write("/proc/self/clear_refs", "5");
            let before = peak_mib();
            let start = Instant::now();
            let result = checker.check(&history, &Budget::UNLIMITED);
            let ms = start.elapsed().as_secs_f64() * 1e3;
            let peak = peak_mib();
            println!("{name:<12} {size:>9} {ms:>9.1} {before:>9} {peak:>9} {:>8}", result.verdict);
        }
    }
}
