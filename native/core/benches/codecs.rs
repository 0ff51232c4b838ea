//! What the codecs and the history file cost: `cargo bench -p fuzz_dist_core`.
//!
//! Each line is the best of several rounds in processor time, since a loaded machine only ever makes
//! things slower.
//! An argument that is no option selects the lines whose name contains it.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use fuzz_dist_core::clock::RunClock;
use fuzz_dist_core::etf::{self, Limits};
use fuzz_dist_core::history_file::{Header, Reader, Writer};
use fuzz_dist_core::interop;
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::{History, Op, OpType, Process, Sym, Value};
use nix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 5;
const RECORD_COUNT: usize = 2_000_000;

/// Seconds of processor time that this process has had: other work on the machine does not count.
fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}

/// Runs the work and prints the best processor time for each of `count` things, the rates, and the best
/// time on the wall.
fn measure(name: &str, count: usize, bytes: usize, mut work: impl FnMut()) {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if wanted.is_some_and(|wanted| !name.contains(&wanted)) {
        return;
    }
    let (mut best_s, mut best_wall_s) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        let (start_s, start) = (cpu_s(), Instant::now());
        work();
        best_s = best_s.min(cpu_s() - start_s);
        best_wall_s = best_wall_s.min(start.elapsed().as_secs_f64());
    }
    println!(
        "{name:<40} {:>9.1} ns each {:>7.2} M/s {:>8.1} MB/s {:>7.3} s cpu {:>7.3} s wall",
        best_s * 1e9 / count as f64,
        count as f64 / best_s / 1e6,
        bytes as f64 / best_s / 1e6,
        best_s,
        best_wall_s,
    );
}

/// Invocations and completions of 100 processes on keyed registers, as a run records them.
fn records(count: usize) -> Vec<Op> {
    let (read, write, node) = (Sym::new("read"), Sym::new("write"), Sym::new("n1"));
    let mut ops = Vec::with_capacity(count);
    for i in 0..count / 2 {
        let n = i as i64;
        let f = if i % 2 == 0 { read } else { write };
        let value = |value| Value::tuple(vec![Value::Int(n % 1000), value]);
        let argument = if i % 2 == 0 { Value::Nil } else { Value::Int(n % 5) };
        let process = Process::Client(n % 100);
        let mut invoke = Op::new(n * 7_000, process, OpType::Invoke, f, value(argument));
        invoke.node = Some(node);
        let mut done = Op::new(n * 7_000 + 3_000, process, OpType::Ok, f, value(Value::Int(n % 5)));
        done.node = Some(node);
        ops.extend([invoke, done]);
    }
    ops
}

fn bench_etf() {
    let tuples: Vec<Value> = (0..300)
        .map(|n| {
            let key_and_value = Value::tuple(vec![Value::Int(n % 10), Value::Nil]);
            Value::tuple(vec![Value::Int(n), Value::Int(n % 4), Value::sym("read"), key_and_value])
        })
        .collect();
    let message =
        Value::list(vec![Value::tuple(vec![Value::sym("ops"), Value::list(tuples.clone())])]);
    let mut bytes = Vec::new();
    etf::encode(&message, &mut bytes);
    let (repeat, limits) = (1000, Limits::default());
    let (count, byte_count) = (repeat * tuples.len(), repeat * bytes.len());
    let mut out = Vec::new();
    measure("etf encode, per operation tuple", count, byte_count, || {
        for _ in 0..repeat {
            out.clear();
            etf::encode(black_box(&message), &mut out);
        }
    });
    measure("etf decode, per operation tuple", count, byte_count, || {
        for _ in 0..repeat {
            black_box(etf::decode(black_box(&bytes), &limits).unwrap());
        }
    });
    let term = eetf::Term::decode(bytes.as_slice()).unwrap();
    measure("eetf encode, for comparison", count, byte_count, || {
        for _ in 0..repeat {
            out.clear();
            black_box(&term).encode(&mut out).unwrap();
        }
    });
    measure("eetf decode, for comparison", count, byte_count, || {
        for _ in 0..repeat {
            black_box(eetf::Term::decode(black_box(bytes.as_slice())).unwrap());
        }
    });
}

fn bench_history_file(ops: &[Op]) {
    let folder = tempfile::tempdir().unwrap();
    let header = Header {
        run: "bench".to_owned(),
        test: "bench".to_owned(),
        seed: Seed(1),
        clock: RunClock { start_monotonic_ns: 0, start_wall_ns: 0 },
        spec: String::new(),
    };
    let path = folder.path().join("history.fdh");
    for group in [1, 16, 256] {
        // One record a commit is bound by the system call: fewer of them tell as much.
        let ops = if group == 1 { &ops[..ops.len() / 10] } else { ops };
        let mut pending: Vec<Op> = ops.to_vec();
        let write = |pending: &mut Vec<Op>| {
            let _ = std::fs::remove_file(&path);
            let mut writer = Writer::create(&path, &header).unwrap();
            for batch in pending.chunks_mut(group) {
                for op in batch {
                    writer.append(op).unwrap();
                }
                writer.commit().unwrap();
            }
        };
        write(&mut pending);
        let bytes = std::fs::metadata(&path).unwrap().len() as usize;
        let name = format!("history append, commits of {group}");
        measure(&name, ops.len(), bytes, || write(&mut pending));
        println!("{:<40} {:>9.1} bytes each", "", bytes as f64 / ops.len() as f64);
        measure(&format!("history read, frames of {group}"), ops.len(), bytes, || {
            let recovered = Reader::open(&path).unwrap();
            assert_eq!((recovered.ops.len(), recovered.torn), (ops.len(), None));
        });
    }
}

fn bench_text(history: &History) {
    let count = history.len();
    let mut text = Vec::new();
    interop::write_edn(history, &mut text).unwrap();
    measure("edn write", count, text.len(), || {
        let mut out = Vec::with_capacity(text.len());
        interop::write_edn(history, &mut out).unwrap();
        black_box(out);
    });
    measure("edn load (parse and pair)", count, text.len(), || {
        let loaded = interop::load_bytes("bench", &text, None).unwrap();
        assert_eq!(loaded.history.len(), count);
    });
    let ops = history.ops().to_vec();
    measure("history pairing alone (with a clone)", count, 0, || {
        black_box(History::new(ops.clone()).unwrap());
    });
    text.clear();
    interop::write_jsonl(history, &mut text).unwrap();
    measure("jsonl load (parse and pair)", count, text.len(), || {
        let loaded = interop::load_bytes("bench", &text, None).unwrap();
        assert_eq!(loaded.history.len(), count);
    });
}

fn main() {
    // `cargo test --benches` starts us with `--test`: then there is nothing to measure.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let ops = records(RECORD_COUNT);
    bench_etf();
    bench_history_file(&ops);
    bench_text(&History::new(ops).unwrap());
}
