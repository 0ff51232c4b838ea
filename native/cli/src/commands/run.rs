//! `fuzz_dist run`: the spec of a file with the flags over it, run once.

use std::path::Path;
use std::sync::Arc;

use fuzz_dist_checker::OptionError;
use fuzz_dist_core::fault::FaultSchedule;
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::{self, NO_FAULTS, NemesisSpec, Spec, suggest};
use fuzz_dist_runner::{Reporter, RunRequest};
use fuzz_dist_schedule::packages;

use crate::args::{Overrides, RunArgs, RunOutput};
use crate::commands::{outcome, schedule_file};
use crate::output::{self, CliError};
use crate::terminal::Terminal;

/// Runs the test of a spec file.
pub fn run(args: &RunArgs, no_color: bool) -> Result<u8, CliError> {
    let mut spec = load(&args.spec, &args.overrides)?;
    let from_spec = spec.nemesis.schedule.take();
    let file = args.schedule.as_deref().or(from_spec.as_deref().map(Path::new));
    let schedule = file.map(|file| schedule_file::load(file, &spec)).transpose()?;
    execute(spec, schedule, &args.output, no_color).map_err(|error| placed(error, args))
}

/// What is refused by a key of the spec only when it is to be run (a fault that cannot be had here), with where that
/// stands.
fn placed(error: CliError, args: &RunArgs) -> CliError {
    let CliError::Input(text) = &error else { return error };
    let key = text.split_once(": ").map_or("", |(key, _)| key);
    // With `--nemesis` the file says something else.
    let replaced = args.overrides.nemesis.is_some() && key.starts_with("nemesis");
    let written = std::fs::read_to_string(&args.spec).ok().filter(|_| !replaced);
    match written.and_then(|written| spec::place(&written, key)) {
        Some((line, column)) => {
            CliError::Input(format!("{}:{line}:{column}: {text}", args.spec.display()))
        }
        None => error,
    }
}

/// The spec of a file with the flags over it, validated as a whole.
pub fn load(file: &Path, overrides: &Overrides) -> Result<Spec, CliError> {
    let mut spec = spec::load(file).map_err(CliError::input)?.spec;
    if apply(&mut spec, overrides)? {
        spec::validate(&spec).map_err(|error| {
            let problems: Vec<String> = error
                .problems()
                .iter()
                .map(|problem| format!("{}: {}", problem.key, problem.message))
                .collect();
            let problems = problems.join("\n");
            CliError::Input(format!("{} with the flags given: {problems}", file.display()))
        })?;
    }
    check_checkers(file, &spec)?;
    // Drawn here, so that whatever is said about this test from now on names its seed.
    spec.seed.get_or_insert_with(|| Seed::from_entropy().0);
    Ok(spec)
}

/// Refuses checkers and options that do not exist, with their place in the file.
fn check_checkers(file: &Path, spec: &Spec) -> Result<(), CliError> {
    for (i, checker) in spec.checkers.iter().flatten().enumerate() {
        let Err(error) = fuzz_dist_checker::build(checker) else { continue };
        let key = match &error {
            OptionError::UnknownChecker { .. } => format!("checkers[{i}].name"),
            OptionError::UnknownOption { option, .. } | OptionError::BadValue { option, .. } => {
                format!("checkers[{i}].options.{option}")
            }
        };
        // A file that was read a moment ago; without it the key alone says where.
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let place = match spec::place(&text, &key) {
            Some((line, column)) => format!("{}:{line}:{column}", file.display()),
            None => file.display().to_string(),
        };
        return Err(CliError::Input(format!("{place}: {key}: {error}")));
    }
    Ok(())
}

/// Whether anything was replaced.
fn apply(spec: &mut Spec, overrides: &Overrides) -> Result<bool, CliError> {
    let before = spec.clone();
    if let Some(seed) = overrides.seed {
        spec.seed = Some(seed);
    }
    if let Some(seconds) = overrides.time_limit {
        spec.time_limit_s = seconds;
    }
    if let Some(store) = &overrides.store {
        spec.store.clone_from(store);
    }
    if let Some(nodes) = &overrides.nodes {
        spec.nodes = nodes.clone();
    }
    if let Some(concurrency) = &overrides.concurrency {
        spec.concurrency = concurrency.clone();
    }
    if let Some(rate) = overrides.rate {
        spec.rate = Some(rate);
    }
    if let Some(given) = &overrides.nemesis {
        replace_faults(&mut spec.nemesis, given)?;
    }
    Ok(before != *spec)
}

/// Takes the faults of a profile or of packages. With packages what else the spec says of the nemesis (its
/// interval, its boundaries) stays.
fn replace_faults(nemesis: &mut NemesisSpec, given: &Path) -> Result<(), CliError> {
    let words: Vec<&str> = given.to_str().unwrap_or_default().split(',').map(str::trim).collect();
    let packages = match words.as_slice() {
        [NO_FAULTS] => Some(Vec::new()),
        // As if the spec said nothing.
        [packages::DEFAULT] => None,
        words if words.iter().all(|word| packages::is_known(word)) => {
            Some(words.iter().map(|word| (*word).to_owned()).collect())
        }
        // A list, or a word without a dot and a slash, is not meant as a file.
        words if !given.exists() && (words.len() > 1 || !words[0].contains(['.', '/'])) => {
            let unknown = words.iter().find(|word| !packages::is_known(word)).unwrap_or(&"");
            let name = unknown.split(':').next().unwrap_or_default();
            let mut known: Vec<&str> = packages::ALL.iter().map(|package| package.name).collect();
            known.extend([packages::EVERY, NO_FAULTS, packages::DEFAULT]);
            let hint = suggest::hint(name, &known);
            return Err(CliError::Input(format!(
                "--nemesis: neither a profile nor a package: `{name}`; {hint}"
            )));
        }
        _ => {
            *nemesis = spec::load_profile(given).map_err(CliError::input)?;
            return Ok(());
        }
    };
    (nemesis.faults, nemesis.schedule, nemesis.packages) = (Vec::new(), None, packages);
    Ok(())
}

/// Runs a resolved test and tells how it ended.
pub fn execute(
    spec: Spec,
    schedule: Option<FaultSchedule>,
    output: &RunOutput,
    no_color: bool,
) -> Result<u8, CliError> {
    if let Some(fd) = output.life_line_fd
        && !Path::new(&format!("/proc/self/fd/{fd}")).exists()
    {
        return Err(CliError::Input(format!("--life-line-fd {fd}: no such descriptor is open")));
    }
    let seed = spec.seed.map(|seed| seed.to_string()).unwrap_or_default();
    output::tell(&format!("test {}, seed {seed}", spec.name));
    let request =
        RunRequest { spec, schedule, life_line_fd: output.life_line_fd, command: vec![program()] };
    let terminal = Arc::new(Terminal::new());
    let reporter: Arc<dyn Reporter> = terminal.clone();
    let result = fuzz_dist_runner::run(request, reporter);
    terminal.clear();
    outcome::tell(&result?, output.json, no_color)
}

/// Set by the mix tasks of `elixir_client`, whose commands people then copy.
const CALLED_BY: &str = "FUZZ_DIST_CALLED_BY";

/// This program as it was called, for commands that people copy.
pub fn program() -> String {
    if std::env::var_os(CALLED_BY).is_some_and(|caller| caller == "mix") {
        return fuzz_dist_runner::MIX.into();
    }
    std::env::args_os()
        .next()
        .and_then(|program| program.into_string().ok())
        .filter(|program| !program.is_empty())
        .unwrap_or_else(|| "fuzz_dist".into())
}
