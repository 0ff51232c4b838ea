//! The command line: sub-commands, flags and their help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fuzz_dist_core::spec::{Concurrency, Nodes};

/// Exit codes, shown below every help text.
const EXIT_CODES: &str = "Exit codes: 0 valid, 1 invalid, 2 unknown, 254 bad arguments or input, \
                          255 a fault of fuzz_dist itself.";

/// Jepsen for the BEAM: real clusters, real faults, recorded and checked.
#[derive(Debug, Parser)]
#[command(name = "fuzz_dist", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    /// No colours (also with NO_COLOR in the environment, or when standard error is no terminal).
    #[arg(long, global = true)]
    pub no_color: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a test: start the cluster, inject faults, record, check, report.
    #[command(after_help = EXIT_CODES)]
    Run(RunArgs),
    /// Print the operations and faults of a test against a perfect system, without a cluster.
    Schedule(ScheduleArgs),
    /// Check a history of any tool: Jepsen's EDN, JSON lines, our own, and others.
    #[command(after_help = EXIT_CODES)]
    Check(CheckArgs),
    /// Check a stored run again, torn or whole, and rewrite its report.
    #[command(after_help = EXIT_CODES)]
    Analyze(AnalyzeArgs),
    /// Run the spec, seed and faults of a stored run again.
    #[command(after_help = EXIT_CODES)]
    Replay(ReplayArgs),
    /// Write a history as Jepsen's EDN or as JSON lines.
    Export(ExportArgs),
    /// Write the report of a stored run again.
    Report(ReportArgs),
    /// List the time-outs, intervals and restart intensities of compiled code or of a live node.
    #[command(after_help = EXIT_CODES)]
    Boundaries(BoundariesArgs),
    /// Tell what this machine has and lacks for running tests.
    Doctor(DoctorArgs),
    /// The guard process of a run; started by `run`.
    #[command(hide = true)]
    Guard,
    /// The link plane process of a run; started by `run`.
    #[command(hide = true)]
    Plane,
}

impl Command {
    /// Whether standard output is to hold one JSON object, also when the command fails.
    pub fn wants_json(&self) -> bool {
        match self {
            Command::Run(args) => args.output.json,
            Command::Replay(args) => args.output.json,
            Command::Schedule(args) => args.json,
            Command::Check(args) => args.json,
            Command::Analyze(args) => args.json,
            Command::Doctor(args) => args.json,
            Command::Boundaries(args) => args.json,
            Command::Export(_) | Command::Report(_) | Command::Guard | Command::Plane => false,
        }
    }
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The spec of the test, a TOML file (see doc/spec.md).
    #[arg(value_name = "SPEC.toml")]
    pub spec: PathBuf,
    /// Inject the faults of this schedule.json instead of drawing them.
    #[arg(long, value_name = "FILE")]
    pub schedule: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub output: RunOutput,
}

/// Settings that replace those of the spec.
#[derive(Debug, Args)]
pub struct Overrides {
    /// Seed of everything drawn.
    #[arg(long, value_name = "N", value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Length of the main phase in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub time_limit: Option<f64>,
    /// Folder in which runs are stored.
    #[arg(long, value_name = "FOLDER")]
    pub store: Option<String>,
    /// How many nodes, or their names with commas between.
    #[arg(long, value_name = "N|NAMES", value_parser = nodes, allow_negative_numbers = true)]
    pub nodes: Option<Nodes>,
    /// Logical processes: a number, or 2n for twice the number of nodes.
    #[arg(long, value_name = "N|Kn", value_parser = concurrency, allow_negative_numbers = true)]
    pub concurrency: Option<Concurrency>,
    /// Operations a second, all processes together.
    #[arg(long, value_name = "PER_SECOND", value_parser = per_second, allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// Other faults than the spec's: a profile (see config/nemesis), or packages with commas between, mixed in
    /// eras: partition, packet, kill, pause, clock, file-corruption, membership, vm, all; with a role as in
    /// kill:storage; or none; or default, which is what a spec gets that says nothing of faults: a rotating mix of
    /// partition, packet, kill, pause and vm, as far as the cluster can have them.
    #[arg(long, value_name = "FILE|PACKAGES")]
    pub nemesis: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct RunOutput {
    /// Print one JSON object with the outcome on standard output.
    #[arg(long)]
    pub json: bool,
    /// A file descriptor whose end of input means that whoever started this command is gone.
    #[arg(long, value_name = "FD", allow_negative_numbers = true)]
    pub life_line_fd: Option<i32>,
}

#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// The spec of the test.
    #[arg(value_name = "SPEC.toml")]
    pub spec: PathBuf,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Print at most so many records.
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub limit: Option<usize>,
    /// Print the faults as a schedule.json, which can be edited and given to `run --schedule`.
    #[arg(long)]
    pub faults_only: bool,
    /// Print one JSON object with the faults and the operations.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The history, or `-` for standard input. The format is recognised.
    #[arg(value_name = "HISTORY", required_unless_present = "list")]
    pub history: Option<PathBuf>,
    /// The property; `--list` shows the names. Several are checked together: the worst verdict counts.
    #[arg(long = "checker", value_name = "NAME", required_unless_present = "list")]
    pub checkers: Vec<String>,
    /// An option of the checker, as often as needed. With several checkers it goes to those that have it,
    /// and `CHECKER.KEY=VALUE` to one.
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = key_value)]
    pub options: Vec<(String, serde_json::Value)>,
    /// The model of a linearizable system; the same as --option model=NAME.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Values are [key value]: each key is checked by itself; the same as --option independent=true.
    #[arg(long)]
    pub independent: bool,
    /// The consistency models that a transactional system has to keep, or `none`; the same as --option
    /// consistency-model=NAME.
    #[arg(long, value_name = "NAME[,NAME…]")]
    pub consistency_model: Option<String>,
    /// Anomalies that a transactional system must not show; the same as --option anomalies=NAME.
    #[arg(long, value_name = "NAME[,NAME…]")]
    pub anomalies: Option<String>,
    /// The format of the history, where it should not be recognised; `--list` shows the names.
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// Draw the first anomalies into this folder, an SVG file each.
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
    /// Answer `unknown` after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub time_limit: Option<f64>,
    /// Answer `unknown` when the program needs more than this many MiB, the history included.
    #[arg(long, value_name = "MIB", value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub memory_limit: Option<u64>,
    /// Print one JSON object with the result on standard output (priv/schemas/check.schema.json).
    #[arg(long)]
    pub json: bool,
    /// Explain the checkers with their options, models and formats; with --checker, those.
    #[arg(long)]
    pub list: bool,
}

/// A stored run.
#[derive(Debug, Args)]
pub struct RunReference {
    /// A run: its folder, `latest`, a test's name, or `TEST/latest`.
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Folder in which runs are stored; `store` by default. A replay goes into it too, or else into the
    /// one that the run is in.
    #[arg(long, value_name = "FOLDER")]
    pub store: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    #[command(flatten)]
    pub run: RunReference,
    /// Check this property instead of the run's own; as often as needed.
    #[arg(long = "checker", value_name = "NAME")]
    pub checkers: Vec<String>,
    /// Print one JSON object with the outcome on standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub run: RunReference,
    /// Print the spec of the run as TOML instead of running it.
    #[arg(long)]
    pub print_spec: bool,
    #[command(flatten)]
    pub output: RunOutput,
}

/// Formats of exported histories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One EDN map a line, as Jepsen writes.
    Edn,
    /// One JSON object a line.
    Jsonl,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A run (as for `analyze`), a history file, or `-` for standard input.
    #[arg(value_name = "RUN|HISTORY")]
    pub source: String,
    /// The format to write.
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// Where to write; standard output when absent. An existing file is replaced.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Folder in which runs are stored.
    #[arg(long, value_name = "FOLDER", default_value = "store")]
    pub store: PathBuf,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    pub run: RunReference,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BoundariesArgs {
    /// A folder of compiled code, a .beam, .app or .config file, the spec of a test (what its nodes run), or a live
    /// node of this machine as name@host.
    #[arg(value_name = "DIR|FILE|SPEC.toml|NODE")]
    pub source: String,
    /// Also places whose time is decided when the code runs.
    #[arg(long)]
    pub all: bool,
    /// How long a live node is traced.
    #[arg(long, value_name = "SECONDS", value_parser = traced, default_value = "5", allow_negative_numbers = true)]
    pub trace: f64,
    /// The cookie of a live node. Other users of the machine can read it here: rather name its file.
    #[arg(long, value_name = "COOKIE", conflicts_with = "cookie_file")]
    pub cookie: Option<String>,
    /// A file with the cookie of a live node; ~/.erlang.cookie by default.
    #[arg(long, value_name = "FILE")]
    pub cookie_file: Option<PathBuf>,
    /// The port of the EPMD that knows a live node; ERL_EPMD_PORT or 4369 by default.
    #[arg(long, value_name = "PORT", value_parser = whole::<u16>, allow_negative_numbers = true)]
    pub epmd_port: Option<u16>,
    /// Print one JSON object on standard output (priv/schemas/boundaries.schema.json).
    #[arg(long)]
    pub json: bool,
}

/// Of any width; what does not fit is as wrong as what is no number.
fn whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "must be a whole number, not negative".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = positive(text, "a number of seconds")?;
    if seconds > SECONDS_MAX {
        return Err("must be at most a year".into());
    }
    Ok(seconds)
}

/// An hour is more than anybody needs, and what it costs a node is small but not nothing.
fn traced(text: &str) -> Result<f64, String> {
    let seconds = positive(text, "a number of seconds")?;
    if seconds > 3600.0 { Err("must be at most an hour".into()) } else { Ok(seconds) }
}

fn per_second(text: &str) -> Result<f64, String> {
    positive(text, "operations a second")
}

/// Times longer than any run; what is above would not fit into a clock either.
const SECONDS_MAX: f64 = 366.0 * 86400.0;

fn positive(text: &str, what: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number > 0.0)
        .ok_or_else(|| format!("must be {what}, more than 0"))
}

fn nodes(text: &str) -> Result<Nodes, String> {
    match text.parse() {
        Ok(count) => Ok(Nodes::Count(count)),
        Err(_) if text.starts_with(['-', '+']) => {
            Err("must be a number of nodes or their names".into())
        }
        Err(_) => Ok(Nodes::Names(text.split(',').map(|name| name.trim().to_owned()).collect())),
    }
}

fn concurrency(text: &str) -> Result<Concurrency, String> {
    let concurrency = match text.parse() {
        Ok(count) => Concurrency::Count(count),
        Err(_) => Concurrency::PerNode(text.to_owned()),
    };
    match concurrency.count(1) {
        Some(1..) => Ok(concurrency),
        _ => Err("must be a number of processes (10) or a multiple of the nodes (2n)".into()),
    }
}

/// `k=v`; the value is JSON where it reads as JSON, else text.
fn key_value(text: &str) -> Result<(String, serde_json::Value), String> {
    let (key, value) =
        text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("must be KEY=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_json_where_they_can_be() {
        assert_eq!(key_value("a=1").unwrap(), ("a".into(), 1.into()));
        assert_eq!(key_value("a=true").unwrap(), ("a".into(), true.into()));
        assert_eq!(key_value("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert!(key_value("a").is_err());
        assert!(key_value("=1").is_err());
    }

    #[test]
    fn numbers_and_names_are_told_apart() {
        assert_eq!(nodes("3").unwrap(), Nodes::Count(3));
        assert_eq!(nodes("a, b").unwrap(), Nodes::Names(vec!["a".into(), "b".into()]));
        assert!(nodes("-1").is_err());
        assert_eq!(whole::<u64>("18446744073709551615"), Ok(u64::MAX));
        assert!(whole::<u64>("-1").is_err() && whole::<usize>("1.5").is_err());
        assert_eq!(concurrency("10").unwrap(), Concurrency::Count(10));
        assert_eq!(concurrency("2n").unwrap(), Concurrency::PerNode("2n".into()));
        for wrong in ["0", "0n", "n2", "", "-3", "1.5"] {
            assert!(concurrency(wrong).is_err(), "{wrong}");
        }
        assert!(
            seconds("0").is_err()
                && seconds("inf").is_err()
                && seconds("1e300").is_err()
                && seconds("1.5").is_ok()
        );
    }
}
