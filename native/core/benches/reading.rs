//! Time and memory of reading a history, each in a process of its own: `cargo bench -p fuzz_dist_core --bench
//! reading [FILE …]`.
//!
//! Without files, histories are written from a seed into a temporary folder: registers of many keys and
//! lists that are appended to and read, in EDN one map a line, as one vector and packed, and in JSON. An
//! argument that is no file selects those whose name contains it.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use fuzz_dist_core::interop::{self, load};
use fuzz_dist_core::{History, Op, OpType, Process, Sym, Value};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Says to the process that it is to read one file.
const READ: &str = "--read";
const RECORD_COUNTS: [usize; 3] = [10_000, 100_000, 1_000_000];

/// Reads a file and prints a row.
fn read(path: &Path) {
    let start = Instant::now();
    let loaded = load(path, None).unwrap();
    let wall_s = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    let peak_mb = peak.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0;
    let cpu = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
    let cpu_s = cpu.tv_sec() as f64 + cpu.tv_nsec() as f64 / 1e9;
    println!(
        "| {} | {} | {:.1} | {wall_s:.3} | {cpu_s:.3} | {peak_mb:.0} |",
        path.file_name().unwrap_or_default().display(),
        loaded.history.len(),
        std::fs::metadata(path).unwrap().len() as f64 / 1e6,
    );
}

fn main() {
    // `cargo test --benches` starts us with `--test`: then there is nothing to measure.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    if let [first, path] = arguments.as_slice()
        && first == READ
    {
        return read(Path::new(path));
    }
    println!("| history | records | MB | wall s | CPU s | peak MB |\n|---|---|---|---|---|---|");
    let (files, names): (Vec<String>, Vec<String>) =
        arguments.into_iter().partition(|argument| Path::new(argument).is_file());
    let run = |path: &Path| {
        let program = std::env::current_exe().unwrap();
        let status = Command::new(program).arg(READ).arg(path).status().unwrap();
        assert!(status.success(), "{}: {status}", path.display());
    };
    files.iter().for_each(|file| run(Path::new(file)));
    if !files.is_empty() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for count in RECORD_COUNTS {
        for (name, history) in [("registers", registers(count)), ("lists", lists(count))] {
            for path in write(folder.path(), &format!("{name}-{count}"), &history) {
                let shown = path.display().to_string();
                if names.is_empty() || names.iter().any(|name| shown.contains(name.as_str())) {
                    run(&path);
                }
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}

/// Writes a history in every notation.
fn write(folder: &Path, name: &str, history: &History) -> Vec<PathBuf> {
    let (mut edn, mut jsonl) = (Vec::new(), Vec::new());
    interop::write_edn(history, &mut edn).unwrap();
    interop::write_jsonl(history, &mut jsonl).unwrap();
    let vector = [b"[", edn.as_slice(), b"]"].concat();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&edn).unwrap();
    [
        ("edn", edn.clone()),
        ("vector.edn", vector),
        ("edn.gz", gzip.finish().unwrap()),
        ("edn.zst", zstd::encode_all(edn.as_slice(), 1).unwrap()),
        ("jsonl", jsonl),
    ]
    .map(|(ending, bytes)| {
        let path = folder.join(format!("{name}.{ending}"));
        std::fs::write(&path, bytes).unwrap();
        path
    })
    .to_vec()
}

/// Writes of ten clients to registers, by key.
fn registers(count: usize) -> History {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let write = Sym::new("write");
    let mut ops = Vec::with_capacity(count);
    for n in 0..count as i64 / 2 {
        let (key, value) = (random.random_range(0..2000), random.random_range(0..5));
        let value = Value::list(vec![Value::Int(key), Value::Int(value)]);
        let process = Process::Client(n % 10);
        ops.push(Op::new(n * 2000, process, OpType::Invoke, write, value.clone()));
        ops.push(Op::new(n * 2000 + 900, process, OpType::Ok, write, value));
    }
    History::new(ops).unwrap()
}

/// Transactions that append to and read lists of up to a hundred elements.
fn lists(count: usize) -> History {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let (txn, append, read) = (Sym::new("txn"), Value::sym("append"), Value::sym("r"));
    let mut lists: Vec<(i64, Vec<Value>)> = (0..10).map(|key| (key, Vec::new())).collect();
    let mut next_key = 10;
    let mut ops = Vec::with_capacity(count);
    for n in 0..count as i64 / 2 {
        let (mut asked, mut given) = (Vec::new(), Vec::new());
        for _ in 0..random.random_range(1..5) {
            let (key, elements) = &mut lists[random.random_range(0..10)];
            let mop =
                |name: &Value, value| Value::list(vec![name.clone(), Value::Int(*key), value]);
            if random.random_bool(0.5) {
                let element = Value::Int(elements.len() as i64 + 1);
                let written = mop(&append, element.clone());
                elements.push(element);
                asked.push(written.clone());
                given.push(written);
            } else {
                asked.push(mop(&read, Value::Nil));
                given.push(mop(&read, Value::list(elements.clone())));
            }
            if elements.len() == 100 {
                (*key, *elements) = (next_key, Vec::new());
                next_key += 1;
            }
        }
        let process = Process::Client(n % 20);
        ops.push(Op::new(n * 2000, process, OpType::Invoke, txn, Value::list(asked)));
        ops.push(Op::new(n * 2000 + 900, process, OpType::Ok, txn, Value::list(given)));
    }
    History::new(ops).unwrap()
}
