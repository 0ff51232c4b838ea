//! Time and memory of checkers that need no search, by size: `cargo bench -p fuzz_dist_checker`.
//!
//! Histories come from a seed and are correct. Times are those of the check alone. Arguments choose
//! checkers by name; sizes above `FUZZ_DIST_BENCH_MAX` operations (default a million) are left out.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod shapes;

use std::time::Instant;

use fuzz_dist_checker::{Budget, build};
use fuzz_dist_core::History;
use fuzz_dist_core::spec::CheckerSpec;
use shapes::memory::{forget_peak, peak_mib};
use shapes::transactions::LISTS;
use shapes::{collections, transactions};

type Make = fn(usize) -> History;

fn main() {
    let max: usize =
        std::env::var("FUZZ_DIST_BENCH_MAX").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    println!(
        "{:<12} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "checker", "ops", "ms", "before", "peak MiB", "verdict"
    );
    let shapes: [(&str, Make); 3] = [
        ("set-full", collections::set),
        ("counter", collections::counter),
        ("list-append", |size| transactions::history(LISTS, size)),
    ];
    for (name, make) in shapes {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
            continue;
        }
        for size in [10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= max) {
            let history = make(size);
            let spec = CheckerSpec { name: name.into(), ..CheckerSpec::default() };
            let checker = build(&spec).expect("a checker");
            let before = forget_peak();
            let start = Instant::now();
            let result = checker.check(&history, &Budget::UNLIMITED);
            let ms = start.elapsed().as_secs_f64() * 1e3;
            let peak = peak_mib();
            println!("{name:<12} {size:>9} {ms:>9.1} {before:>9} {peak:>9} {:>8}", result.verdict);
        }
    }
}
