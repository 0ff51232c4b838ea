//! Time of `causal` by level, sessions and size: `cargo bench -p fuzz_dist_checker --bench causal`.
//!
//! Histories come from a seed: sessions run transactions of one to eight reads and writes against replicas that
//! lag behind one log, which is causally consistent. Keys are drawn so that a fifth of them gets four fifths
//! of the operations, as in AWDIT's benchmarks. Times are those of the check alone. Arguments choose shapes by
//! a part of their name; sizes above `FUZZ_DIST_BENCH_MAX` transactions (default a million) are left out;
//! `FUZZ_DIST_BENCH_EDN` names a folder into which the histories are written, as EDN and in Plume's text,
//! for measuring whole programs.

use std::io::Write;
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

/// (session, [(is a write, key, value)]); value 0 is the initial state.
type Txn = (usize, Vec<(bool, u64, u64)>);

fn txns(size: usize, sessions: u64) -> Vec<Txn> {
    const KEYS: u64 = 1_000;
    /// How many transactions a replica is behind, at most, for each session.
    const LAG: u64 = 4;
    let mut random = Random(42);
    let mut log: Vec<Vec<(u64, u64)>> = vec![Vec::new(); KEYS as usize];
    let mut seen = vec![0u64; sessions as usize];
    let mut all = Vec::with_capacity(size);
    for n in 1..=size as u64 {
        let session = random.below(sessions) as usize;
        seen[session] = seen[session].max(n.saturating_sub(1 + random.below(LAG * sessions)));
        let (mut mops, mut written) = (Vec::new(), Vec::new());
        for _ in 0..1 + random.below(8) {
            let hot = random.below(5) > 0;
            let key = random.below(if hot { KEYS / 5 } else { KEYS });
            if written.contains(&key) {
                continue;
            }
            if random.below(2) == 0 {
                written.push(key);
                mops.push((true, key, n));
            } else {
                let versions = &log[key as usize];
                let at = versions.partition_point(|(at, _)| *at <= seen[session]);
                mops.push((false, key, at.checked_sub(1).map_or(0, |at| versions[at].1)));
            }
        }
        for key in &written {
            log[*key as usize].push((n, n));
        }
        if !written.is_empty() {
            seen[session] = n;
        }
        all.push((session, mops));
    }
    all
}

fn history(txns: &[Txn]) -> History {
    let (f, w, r) = (Sym::new("txn"), Value::sym("w"), Value::sym("r"));
    let mut ops = Vec::with_capacity(txns.len() * 2);
    for (session, mops) in txns {
        for done in [false, true] {
            let mop = |(write, key, value): &(bool, u64, u64)| {
                let known = *value > 0 && (*write || done);
                let value = if known { Value::Int(*value as i64) } else { Value::Nil };
                let f = if *write { &w } else { &r };
                Value::list(vec![f.clone(), Value::Int(*key as i64), value])
            };
            let value = Value::list(mops.iter().map(mop).collect::<Vec<_>>());
            let op_type = if done { OpType::Ok } else { OpType::Invoke };
            let process = Process::Client(*session as i64);
            ops.push(Op::new(ops.len() as i64 * 1_000, process, op_type, f, value));
        }
    }
    match History::new(ops) {
        Ok(history) => history,
        Err(error) => panic!("{error}"),
    }
}

/// Both forms of a history.
fn write(folder: &str, name: &str, txns: &[Txn], history: &History) -> std::io::Result<()> {
    let path = std::path::Path::new(folder);
    let mut edn = std::fs::File::create(path.join(format!("{name}.edn")))?;
    interop::write_edn(history, &mut edn)?;
    let plume = std::fs::File::create(path.join(format!("{name}.plume")))?;
    let mut plume = std::io::BufWriter::new(plume);
    for (n, (session, mops)) in txns.iter().enumerate() {
        for (write, key, value) in mops {
            writeln!(plume, "{}({key},{value},{session},{n})", if *write { 'w' } else { 'r' })?;
        }
    }
    plume.flush()
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) >> 10
}

fn main() {
    let max: usize =
        std::env::var("FUZZ_DIST_BENCH_MAX").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    println!("{:<36} {:>9} {:>9} {:>9} {:>8}", "shape", "txns", "ms", "peak MiB", "verdict");
    for sessions in [10, 50] {
        for size in [10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= max) {
            let mut made = None;
            for asked in
                ["level=causal", "level=read-atomic", "level=read-committed", "session=all"]
            {
                let name = format!("{sessions} sessions, {asked}");
                if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
                    continue;
                }
                let history = made.get_or_insert_with(|| {
                    let txns = txns(size, sessions);
                    let history = history(&txns);
                    if let Ok(folder) = std::env::var("FUZZ_DIST_BENCH_EDN")
                        && let Err(error) =
                            write(&folder, &format!("causal-{sessions}-{size}"), &txns, &history)
                    {
                        eprintln!("{folder}: {error}");
                    }
                    history
                });
                let (option, value) = asked.split_once('=').unwrap_or((asked, ""));
                let options = Options::from([(option.to_owned(), json!(value))]);
                let spec = CheckerSpec { name: "causal".into(), options };
                let checker = match build(&spec) {
                    Ok(checker) => checker,
                    Err(error) => panic!("{error}"),
                };
                let _ = std::fs::write("/proc/self/clear_refs", "5");
                let start = Instant::now();
                let result = checker.check(history, &Budget::UNLIMITED);
                let ms = start.elapsed().as_secs_f64() * 1e3;
                println!("{name:<36} {size:>9} {ms:>9.1} {:>9} {:>8}", peak_mib(), result.verdict);
            }
        }
    }
}
