//! The whole program, from reading EDN to the verdict: `make bench-checkers`, or
//! `cargo bench -p fuzz_dist_checker --bench whole -- ARGUMENTS` with `FUZZ_DIST_BIN` naming a release build.
//!
//! Each row is a shape of history at growing sizes. It is written as EDN into a temporary folder and given to
//! `fuzz_dist check --json` in a process of its own; the time is that of the process, the memory its largest
//! resident size. Arguments choose rows by a part of their name and sizes by number (`100k`, `1M`, `5000`).
//! The targets are what the best other checker, or a person's patience, asks for on two cores.

#![allow(clippy::expect_used, reason = "a benchmark fails by panicking")]

mod shapes;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use fuzz_dist_core::{History, interop};
use shapes::registers::{CAS, Registers};
use shapes::transactions::{LISTS, Store, Transactions};
use shapes::{collections, registers, sessions, transactions};

/// After this a checker gives up.
const TIME_LIMIT_S: &str = "120";

const SIZES: &[usize] = &[10_000, 100_000, 1_000_000];
const HARD_SIZES: &[usize] = &[1_000, 10_000];

enum Shape {
    Registers(Registers),
    Transactions(Transactions),
    /// So many sessions.
    Sessions(u64),
    Set,
    Counter,
}

impl Shape {
    fn history(&self, size: usize) -> History {
        match self {
            Shape::Registers(shape) => registers::history(*shape, size),
            Shape::Transactions(shape) => transactions::history(*shape, size),
            Shape::Sessions(count) => sessions::history(*count, size),
            Shape::Set => collections::set(size),
            Shape::Counter => collections::counter(size),
        }
    }
}

struct Row {
    name: &'static str,
    /// Arguments of `fuzz_dist check`.
    arguments: &'static str,
    shape: Shape,
    sizes: &'static [usize],
    /// Size, seconds, megabytes; 0 megabytes where only time counts.
    targets: &'static [(usize, f64, u64)],
}

const ROWS: &[Row] = &[
    Row {
        name: "cas-register, 2,000 keys, 10 clients",
        arguments: "linearizable --model cas-register --independent",
        shape: Shape::Registers(Registers { keys: 2_000, ..CAS }),
        sizes: SIZES,
        targets: &[(1_000_000, 1.2, 400)],
    },
    Row {
        name: "cas-register, one key, 10 clients",
        arguments: "linearizable --model cas-register",
        shape: Shape::Registers(CAS),
        sizes: SIZES,
        targets: &[(100_000, 1.0, 300)],
    },
    Row {
        name: "cas-register, one key, 5 clients",
        arguments: "linearizable --model cas-register",
        shape: Shape::Registers(Registers { clients: 5, ..CAS }),
        sizes: SIZES,
        targets: &[(1_000_000, 3.0, 800)],
    },
    Row {
        name: "cas-register, one key, 30 clients, valid",
        arguments: "linearizable --model cas-register",
        shape: Shape::Registers(Registers { clients: 30, ..CAS }),
        sizes: HARD_SIZES,
        targets: &[(1_000, 10.0, 0), (10_000, 10.0, 0)],
    },
    Row {
        name: "cas-register, one key, 30 clients, invalid",
        arguments: "linearizable --model cas-register",
        shape: Shape::Registers(Registers { clients: 30, invalid: true, ..CAS }),
        sizes: HARD_SIZES,
        targets: &[(1_000, 10.0, 0), (10_000, 10.0, 0)],
    },
    Row {
        name: "register, unique writes, 30 clients",
        arguments: "linearizable --model register",
        shape: Shape::Registers(Registers { clients: 30, unique: true, ..CAS }),
        sizes: SIZES,
        targets: &[(1_000_000, 1.2, 0)],
    },
    Row {
        name: "list-append, strict-serializable",
        arguments: "list-append --consistency-model strict-serializable",
        shape: Shape::Transactions(LISTS),
        sizes: SIZES,
        targets: &[(100_000, 0.6, 250), (1_000_000, 5.0, 2_000)],
    },
    Row {
        name: "rw-register, serializable, sequential keys",
        arguments: "rw-register --consistency-model serializable --option sequential-keys=true",
        shape: Shape::Transactions(Transactions { store: Store::Registers, ..LISTS }),
        sizes: SIZES,
        targets: &[(100_000, 2.0, 0)],
    },
    Row {
        name: "causal, 50 sessions",
        arguments: "causal --option level=causal",
        shape: Shape::Sessions(50),
        sizes: SIZES,
        targets: &[(1_000_000, 6.0, 1_500)],
    },
    Row {
        name: "causal, 10 sessions",
        arguments: "causal --option level=causal",
        shape: Shape::Sessions(10),
        sizes: SIZES,
        targets: &[(1_000_000, 2.5, 800)],
    },
    Row {
        name: "set-full",
        arguments: "set-full",
        shape: Shape::Set,
        sizes: SIZES,
        targets: &[(1_000_000, 1.2, 0)],
    },
    Row {
        name: "counter",
        arguments: "counter",
        shape: Shape::Counter,
        sizes: SIZES,
        targets: &[(1_000_000, 1.0, 0)],
    },
];

/// `100k`, `1M`, `5000`.
fn size(text: &str) -> Option<usize> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    digits.parse::<usize>().ok().map(|number| number * unit)
}

/// Seconds, megabytes and verdict of one check.
fn measure(program: &str, arguments: &str, path: &Path) -> (f64, u64, String) {
    let started = Instant::now();
    let output = Command::new(program)
        .args(["check", "--json", "--time-limit", TIME_LIMIT_S, "--checker"])
        .args(arguments.split(' '))
        .arg(path)
        .stderr(Stdio::null())
        .output()
        .expect("FUZZ_DIST_BIN can be run");
    let wall_s = started.elapsed().as_secs_f64();
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let verdict = object["verdict"].as_str().unwrap_or("error").to_owned();
    if verdict == "error" || verdict == "unknown" {
        let why = object["error"].as_str().or(object["reason"].as_str());
        eprintln!("{arguments}: {}: {}", output.status, why.unwrap_or("no object was printed"));
    }
    (wall_s, object["peak_bytes"].as_u64().unwrap_or(0) / 1_000_000, verdict)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let (sizes, names): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|argument| size(argument).is_some());
    let sizes: Vec<usize> = sizes.into_iter().filter_map(|text| size(text)).collect();
    let Ok(program) = std::env::var("FUZZ_DIST_BIN") else {
        eprintln!(
            "whole: FUZZ_DIST_BIN must name a release build of fuzz_dist; bin/bench-checkers makes one"
        );
        return;
    };
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| names.is_empty() || names.iter().any(|name| row.name.contains(*name)))
        .collect();
    if rows.is_empty() {
        eprintln!("whole: no row is called like that; there are:");
        ROWS.iter().for_each(|row| eprintln!("  {}", row.name));
        return;
    }
    let folder = std::env::temp_dir().join(format!("fuzz_dist-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the histories");
    println!("| history | n | wall s | peak MB | verdict | target | met |");
    println!("|---|---:|---:|---:|---|---|---|");
    for row in rows {
        let wanted = if sizes.is_empty() { row.sizes } else { &sizes[..] };
        for &n in wanted {
            let path = folder.join("history.edn");
            let file = std::fs::File::create(&path).expect("a file for the history");
            interop::write_edn(&row.shape.history(n), &mut std::io::BufWriter::new(file))
                .expect("room for the history");
            let (wall_s, peak_mb, verdict) = measure(&program, row.arguments, &path);
            let target = row.targets.iter().find(|(size, ..)| *size == n);
            let (target, met) = target.map_or((String::new(), ""), |&(_, seconds, mb)| {
                let text =
                    if mb == 0 { format!("{seconds} s") } else { format!("{seconds} s / {mb} MB") };
                let decided = verdict == "valid" || verdict == "invalid";
                let met = decided && wall_s <= seconds && (mb == 0 || peak_mb <= mb);
                (text, if met { "yes" } else { "NO" })
            });
            println!(
                "| {} | {n} | {wall_s:.2} | {peak_mb} | {verdict} | {target} | {met} |",
                row.name
            );
        }
    }
    std::fs::remove_dir_all(&folder).expect("the folder of the histories can be removed");
}
