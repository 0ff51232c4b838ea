//! How exact the faults of every registered plane are, in real runs: from the moment in the schedule until the fault was
//! applied, until its effect was seen, and the same of its heal; and how many faults of all planes together five nodes
//! take in a minute.
//!
//! Each row is a `fuzz_dist run` of a schedule on three nodes, and its figures are those of the run's `results.json`
//! (`summary.planes`), so that everybody who runs faults finds the same about theirs. Kinds that take long to heal (a
//! node that starts again) are rows of their own. `bin/bench planes`; PLANES_BENCH_ONLY keeps to rows whose name contains
//! it, PLANES_BENCH_FAULTS (1.0) changes how many faults a row has, PLANES_BENCH_KEEP names a folder for the runs.
//!
//! What it needs is as for the bench `pipeline`, with the libraries of the driver and the shim beside the program.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use fuzz_dist_runner::nemesis::planes::{REGISTERED, availability};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A run of one plane.
struct Row {
    name: &'static str,
    plane: &'static str,
    /// Kinds with their parameters, as a schedule has them, one after the other.
    faults: &'static [&'static str],
    count: usize,
    /// From the start of one fault to that of the next, and how long each lasts.
    every_ms: u64,
    lasts_ms: u64,
}

const ROWS: &[Row] = &[
    Row {
        name: "link",
        plane: "link",
        faults: &[
            r#"{"kind": "hold"}"#,
            r#"{"kind": "delay", "latency_ms": 20}"#,
            r#"{"kind": "ticks-only"}"#,
            r#"{"kind": "rst"}"#,
        ],
        count: 200,
        every_ms: 200,
        lasts_ms: 120,
    },
    Row {
        name: "carrier",
        plane: "carrier",
        faults: &[
            r#"{"kind": "hold"}"#,
            r#"{"kind": "delay", "latency_ms": 20}"#,
            r#"{"kind": "ticks-only"}"#,
            r#"{"kind": "close"}"#,
        ],
        count: 200,
        every_ms: 200,
        lasts_ms: 120,
    },
    Row {
        name: "net",
        plane: "net",
        faults: &[r#"{"kind": "net-drop"}"#, r#"{"kind": "net-reject"}"#],
        count: 120,
        every_ms: 300,
        lasts_ms: 200,
    },
    Row {
        name: "process, pause",
        plane: "process",
        faults: &[r#"{"kind": "pause"}"#],
        count: 120,
        every_ms: 250,
        lasts_ms: 120,
    },
    Row {
        name: "process, kill",
        plane: "process",
        faults: &[r#"{"kind": "kill"}"#],
        count: 20,
        every_ms: 3000,
        lasts_ms: 500,
    },
    Row {
        name: "vm",
        plane: "vm",
        faults: &[
            r#"{"kind": "suspend", "process": {"registered": "Elixir.PlanesLoad"}}"#,
            r#"{"kind": "kill-process", "process": {"registered": "Elixir.PlanesLoad"}}"#,
            r#"{"kind": "flood", "process": {"registered": "Elixir.PlanesLoad"}, "messages_per_s": 2000}"#,
            r#"{"kind": "disconnect"}"#,
            r#"{"kind": "stall-schedulers"}"#,
        ],
        count: 120,
        every_ms: 300,
        lasts_ms: 120,
    },
    Row {
        name: "clock",
        plane: "clock",
        faults: &[
            r#"{"kind": "clock-jump", "offset_ms": 60000}"#,
            r#"{"kind": "clock-jump", "offset_ms": -60000}"#,
            r#"{"kind": "clock-strobe", "offset_ms": 5000, "period_ms": 20}"#,
        ],
        count: 120,
        every_ms: 250,
        lasts_ms: 150,
    },
    Row {
        name: "disk",
        plane: "disk",
        faults: &[
            r#"{"kind": "disk-eio", "files": ["**/*.log"]}"#,
            r#"{"kind": "disk-enospc", "files": ["**/*.log"]}"#,
            r#"{"kind": "disk-short-write", "files": ["**/*.log"]}"#,
            r#"{"kind": "disk-lying-fsync", "files": ["**/*.log"]}"#,
        ],
        count: 120,
        every_ms: 250,
        lasts_ms: 150,
    },
    Row {
        name: "membership",
        plane: "membership",
        faults: &[r#"{"kind": "leave"}"#],
        count: 12,
        every_ms: 3000,
        lasts_ms: 1000,
    },
];

/// Its nodes are in namespaces, where there are no proxies: it is not mixed with the others.
const NET: &str = "net";

/// Faults a minute of all planes together that five nodes are given, and how late one in a hundred may be.
const RATES_PER_MINUTE: [usize; 4] = [60, 120, 240, 480];
const MIXED_MS: u64 = 30_000;
const LATE_MS_MAX: f64 = 100.0;

fn main() -> Outcome<()> {
    // `cargo test --benches` builds and runs this too: only `cargo bench` measures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let stage = Stage::set()?;
    let only = std::env::var("PLANES_BENCH_ONLY").unwrap_or_default();
    for registration in REGISTERED {
        if !ROWS.iter().any(|row| row.plane == registration.plane.as_str()) {
            println!("{}: no faults of this plane are measured yet", registration.plane);
        }
    }
    println!(
        "{:<16}{:>7}{:>9}{:>6}   {:<34}   {:<26}   {:<26}   heal seen after, ms",
        "", "faults", "applied", "seen", "applied late, ms", "seen after, ms", "healed late, ms"
    );
    for row in ROWS.iter().filter(|row| row.name.contains(&only)) {
        let faults: Vec<Value> =
            (0..scaled(row.count)).map(|i| row.fault(i, i as u64 * row.every_ms, 3)).collect();
        let network = if row.plane == NET { "namespaces" } else { "loopback" };
        let Some(results) = stage.run(row.name, 3, network, faults)? else {
            println!("{:<16}cannot be had here; `fuzz_dist doctor` says why", row.name);
            continue;
        };
        for plane in planes(&results) {
            println!("{}", line(row.name, plane));
        }
        without_effect(&results);
    }
    if "mixed".contains(&only) {
        mixed(&stage)?;
    }
    Ok(())
}

impl Row {
    /// Its fault of that number, on one node after the other.
    fn fault(&self, i: usize, start_ms: u64, nodes: usize) -> Value {
        let mut fault: Value =
            serde_json::from_str(self.faults[i % self.faults.len()]).unwrap_or_default();
        let node = format!("n{}", (i / self.faults.len() + i) % nodes + 1);
        fault["id"] = json!(i + 1);
        fault["plane"] = json!(self.plane);
        fault["target"] = match self.plane {
            "membership" => json!("one"),
            _ => json!({ "named": [node] }),
        };
        fault["start_ns"] = json!((500 + start_ms) * 1_000_000);
        fault["duration_ns"] = json!(self.lasts_ms * 1_000_000);
        fault
    }
}

fn scaled(count: usize) -> usize {
    let factor = std::env::var("PLANES_BENCH_FAULTS").ok().and_then(|text| text.parse().ok());
    ((count as f64 * factor.unwrap_or(1.0)) as usize).max(1)
}

/// Five nodes under the faults of all planes but [`NET`] in turn, at one rate after the other, until one is too much. Kinds that need
/// seconds to heal come more rarely, as they could not be had at these rates by anybody.
fn mixed(stage: &Stage) -> Outcome<()> {
    println!("\nevery plane mixed, five nodes, {} s each:", MIXED_MS / 1000);
    for rate in RATES_PER_MINUTE {
        let count = rate * MIXED_MS as usize / 60_000;
        let every_ms = 60_000 / rate as u64;
        let faults: Vec<Value> = (0..count)
            .map(|i| {
                let loopback = ROWS.iter().filter(|row| row.plane != NET);
                let (quick, rare): (Vec<&Row>, Vec<&Row>) =
                    loopback.partition(|row| row.every_ms < 1000);
                let due_ms = i as u64 * every_ms;
                // About one in five seconds.
                let is_rare = due_ms / 5000 != (due_ms + every_ms) / 5000;
                let (rows, turn) = match is_rare {
                    true => (&rare, (due_ms / 5000) as usize),
                    false => (&quick, i),
                };
                let mut fault = rows[turn % rows.len()].fault(turn / rows.len(), due_ms, 5);
                fault["id"] = json!(i + 1);
                fault
            })
            .collect();
        let name = format!("mixed-{rate}");
        let results = stage.run(&name, 5, "loopback", faults)?.ok_or("no fault can be had here")?;
        let mut worst: f64 = 0.0;
        let mut lines = Vec::new();
        for plane in planes(&results) {
            worst = worst.max(plane["applied_late_ms"]["p99"].as_f64().unwrap_or(0.0));
            lines.push(line(&format!("  {}", plane["plane"].as_str().unwrap_or("?")), plane));
        }
        let verdict = if worst <= LATE_MS_MAX { "sustained" } else { "TOO LATE" };
        println!("{rate} faults a minute: {verdict}, p99 of the latest plane {worst:.1} ms");
        lines.iter().for_each(|line| println!("{line}"));
        without_effect(&results);
    }
    Ok(())
}

fn planes(results: &Value) -> &[Value] {
    results["summary"]["planes"].as_array().map_or(&[], Vec::as_slice)
}

fn line(name: &str, plane: &Value) -> String {
    let figures = |key: &str, which: &[&str]| -> String {
        let figure = |quantile: &&str| match plane[key][*quantile].as_f64() {
            Some(ms) => format!("{quantile} {ms:.*}", if ms < 10.0 { 2 } else { 0 }),
            None => format!("{quantile} -"),
        };
        which.iter().map(figure).collect::<Vec<_>>().join(" ")
    };
    let count = |key: &str| plane[key].to_string();
    format!(
        "{name:<16}{:>7}{:>9}{:>6}   {:<34}   {:<26}   {:<26}   {}",
        count("due"),
        count("applied"),
        count("observed"),
        figures("applied_late_ms", &["p50", "p99", "max"]),
        figures("observed_after_ms", &["p50", "p99"]),
        figures("healed_late_ms", &["p50", "p99"]),
        figures("heal_observed_after_ms", &["p50", "p99"]),
    )
}

/// No fault is without effect in silence.
fn without_effect(results: &Value) {
    let faults = results["summary"]["faults"].as_array().into_iter().flatten();
    let silent = faults.filter(|fault| fault["status"] != "observed");
    for fault in silent.clone().take(3) {
        println!("    {} {}: {}", fault["kind"], fault["status"], fault["reason"]);
    }
    let more = silent.count().saturating_sub(3);
    if more > 0 {
        println!("    and {more} more without effect");
    }
}

/// Where runs are made.
struct Stage {
    exe: PathBuf,
    ebin: PathBuf,
    scratch: PathBuf,
    /// Removes it at the end.
    _folder: Option<tempfile::TempDir>,
}

impl Stage {
    fn set() -> Outcome<Stage> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let from_env =
            |name: &str, default: PathBuf| std::env::var_os(name).map_or(default, PathBuf::from);
        let (folder, scratch) = match std::env::var_os("PLANES_BENCH_KEEP") {
            Some(path) => (None, PathBuf::from(path)),
            None => {
                let folder = tempfile::tempdir()?;
                let path = folder.path().to_owned();
                (Some(folder), path)
            }
        };
        let stage = Stage {
            exe: from_env("FUZZ_DIST_BIN", root.join("target/release/fuzz_dist")),
            ebin: from_env(
                "FUZZ_DIST_EBIN",
                root.join("elixir_client/_build/prod/lib/fuzz_dist/ebin"),
            ),
            scratch,
            _folder: folder,
        };
        std::fs::create_dir_all(stage.scratch.join("code"))?;
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/planes_load/planes_load.ex");
        let compiled = Command::new("elixirc")
            .arg("-pa")
            .arg(&stage.ebin)
            .arg("-o")
            .arg(stage.scratch.join("code"))
            .arg(source)
            .status()?;
        if !compiled.success() {
            return Err("elixirc failed: see above".into());
        }
        Ok(stage)
    }

    /// A run with these faults, and its results; none if no such fault can be had here.
    fn run(
        &self,
        name: &str,
        nodes: usize,
        network: &str,
        mut faults: Vec<Value>,
    ) -> Outcome<Option<Value>> {
        let end_ns = |fault: &Value| {
            fault["start_ns"].as_u64().unwrap_or(0) + fault["duration_ns"].as_u64().unwrap_or(0)
        };
        let last_ns = faults.iter().map(end_ns).max().unwrap_or(0);
        let name = name.replace(", ", "-");
        let names: Vec<String> = (1..=nodes).map(|n| format!("n{n}")).collect();
        faults.retain(is_available);
        if faults.is_empty() {
            return Ok(None);
        }
        let schedule = json!({"version": 1, "seed": 1, "nodes": names, "faults": faults});
        let (spec, given) = (format!("{name}.toml"), format!("{name}.json"));
        std::fs::write(self.scratch.join(&given), schedule.to_string())?;
        std::fs::write(
            self.scratch.join(&spec),
            SPEC.replace("NAME", &name)
                .replace("NODES", &nodes.to_string())
                .replace("NETWORK", network)
                .replace("LIMIT", &format!("{:.1}", last_ns as f64 / 1e9 + 2.0)),
        )?;
        let ended = Command::new(&self.exe)
            .args(["run", &spec, "--schedule", &given])
            .current_dir(&self.scratch)
            .env("FUZZ_DIST_EBIN", &self.ebin)
            .output()?;
        let results = self.scratch.join("store/latest/results.json");
        let text = std::fs::read_to_string(&results).map_err(|error| {
            let said = String::from_utf8_lossy(&ended.stderr);
            format!("{}: {error}; the run said: {said}", results.display())
        })?;
        let results: Value = serde_json::from_str(&text)?;
        if results["run"]["name"] != name.as_str() && results["name"] != name.as_str() {
            let said = String::from_utf8_lossy(&ended.stderr);
            return Err(format!("{name} left no results; the run said: {said}").into());
        }
        Ok(Some(results))
    }
}

/// Whether the fault can be had on this machine: what cannot is told by the runs of others.
fn is_available(fault: &Value) -> bool {
    let kind = serde_json::from_value::<fuzz_dist_core::fault::Fault>(fault.clone());
    kind.is_ok_and(|fault| availability(&fault.kind, None).unavailable().is_none())
}

const SPEC: &str = r#"
name = "NAME"
nodes = NODES
concurrency = "1n"
rate = 20.0
time_limit_s = LIMIT
op_timeout_ms = 2000
warm_up_s = 0.5
recovery_s = 10.0
checkers = [{ name = "stats" }]

[cluster]
network = "NETWORK"
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
net_ticktime_s = 4
prevent_overlapping_partitions = false
ready_timeout_ms = 60000

[client]
module = "PlanesLoad"

[workload]
generator = { f = "look" }

[nemesis]
membership = "FuzzDist.Membership.Erlang"
"#;
