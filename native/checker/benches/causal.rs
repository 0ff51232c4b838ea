//! Time of `causal` by level, sessions and size: `cargo bench -p fuzz_dist_checker --bench causal`.
//!
//! Histories come from a seed: sessions run transactions of one to eight reads and writes against replicas that
//! lag behind one log, which is causally consistent. Keys are drawn so that a fifth of them gets four fifths
//! of the operations, as in AWDIT's benchmarks. Times are those of the check alone. Arguments choose shapes by
//! a part of their name; sizes above `FUZZ_DIST_BENCH_MAX` transactions (default a million) are left out;
//! `FUZZ_DIST_BENCH_EDN` names a folder into which the histories are written, as EDN and in Plume's text,
//! for measuring whole programs.

mod shapes;

use std::io::Write;
use std::time::Instant;

use fuzz_dist_checker::{Budget, build};
use fuzz_dist_core::spec::{CheckerSpec, Options};
use fuzz_dist_core::{History, OpType, interop};
use serde_json::json;
use shapes::memory::{forget_peak, peak_mib};
use shapes::sessions;

/// Both forms of a history.
fn write(folder: &str, name: &str, history: &History) -> std::io::Result<()> {
    let path = std::path::Path::new(folder);
    let mut edn = std::fs::File::create(path.join(format!("{name}.edn")))?;
    interop::write_edn(history, &mut edn)?;
    let plume = std::fs::File::create(path.join(format!("{name}.plume")))?;
    let mut plume = std::io::BufWriter::new(plume);
    let done = history.client_ops().filter(|op| op.op_type == OpType::Ok);
    for (n, op) in done.enumerate() {
        for mop in op.value.items().unwrap_or_default() {
            let Some([f, key, value]) = mop.items() else { continue };
            // Zero is the initial state.
            let (f, value) = (f.as_text().unwrap_or_default(), value.as_int().unwrap_or(0));
            writeln!(plume, "{f}({key},{value},{},{n})", op.process)?;
        }
    }
    plume.flush()
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
                    let history = sessions::history(sessions, size);
                    if let Ok(folder) = std::env::var("FUZZ_DIST_BENCH_EDN")
                        && let Err(error) =
                            write(&folder, &format!("causal-{sessions}-{size}"), &history)
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
                forget_peak();
                let start = Instant::now();
                let result = checker.check(history, &Budget::UNLIMITED);
                let ms = start.elapsed().as_secs_f64() * 1e3;
                println!("{name:<36} {size:>9} {ms:>9.1} {:>9} {:>8}", peak_mib(), result.verdict);
            }
        }
    }
}
