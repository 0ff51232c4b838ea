//! `fuzz_dist check`: properties of one history, from any tool, without a cluster.
//!
//! [`listing`] explains what can be checked, [`words`] is what people read of a result, [`object`] what
//! programs do (`priv/schemas/check.schema.json`).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzz_dist_checker::{self as checker, Budget};
use fuzz_dist_core::interop::{Format, Loaded};
use fuzz_dist_core::spec::{CheckerSpec, Options};
use fuzz_dist_core::{CheckResult, History};
use fuzz_dist_report::Drawing;

use crate::args::CheckArgs;
use crate::commands::runs::{self, Read};
use crate::output::{self, CliError};
use crate::terminal;

mod listing;
mod object;
mod words;

/// What was found, with what programs and people want to know beside it.
struct Checked<'a> {
    /// What was asked for, built and found to be right.
    specs: &'a [CheckerSpec],
    result: &'a CheckResult,
    history: &'a History,
    /// Name of the format that was read.
    format: &'static str,
    notices: &'a [String],
    read_ms: f64,
    /// Files with drawings.
    drawings: &'a [PathBuf],
}

/// Checks, or lists what can be checked.
pub fn run(args: &CheckArgs, no_color: bool) -> Result<u8, CliError> {
    if args.list {
        return listing::list(&args.checkers, args.json);
    }
    let Some(path) = &args.history else {
        return Err(CliError::Input("HISTORY is needed: a file, or - for standard input".into()));
    };
    let specs = specs(args)?;
    // Before the history is read: a misspelt name should not cost a minute.
    for spec in &specs {
        checker::build(spec).map_err(CliError::input)?;
    }
    let format = args.format.as_deref().map(format).transpose()?;
    if let Some(folder) = &args.svg {
        can_draw(folder)?;
    }
    let budget = Budget {
        time: args.time_limit.map(Duration::from_secs_f64),
        memory_bytes: args.memory_limit.map(|mib| mib.saturating_mul(1 << 20)),
        ..Budget::default()
    };
    let started = Instant::now();
    let read = runs::history_within(path, format, budget.memory_bytes)?;
    let read_ms = started.elapsed().as_secs_f64() * 1e3;
    let (loaded, composed) = match read {
        Read::Whole(loaded) => {
            let composed = checker::check_all(&loaded.history, &specs, &budget);
            (loaded, composed)
        }
        // Not at fault: with more memory it could be checked.
        Read::TooLarge(why) => {
            let format = format.unwrap_or(Format::Edn);
            let loaded = Loaded { history: History::default(), format, notices: Vec::new() };
            (loaded, checker::none_checked(&specs, &format!("not checked: {why}")))
        }
    };
    // Composed for its handling of panics; of one checker, the part says all.
    let result = checker::sole(composed);
    let drawings = match &args.svg {
        Some(folder) => draw(folder, &fuzz_dist_report::drawings(&loaded.history, &result))?,
        None => Vec::new(),
    };
    let checked = Checked {
        specs: &specs,
        result: &result,
        history: &loaded.history,
        format: loaded.format.as_str(),
        notices: &loaded.notices,
        read_ms,
        drawings: &drawings,
    };
    output::tell(&words::text(&checked, args, terminal::colour(no_color)));
    if args.json {
        output::json(&object::of(&checked))?;
    }
    let code = result.verdict.exit_code();
    // The process ends here, and giving back millions of records one by one would take a while.
    std::mem::forget(loaded);
    Ok(code)
}

fn format(name: &str) -> Result<Format, CliError> {
    Format::parse(name).ok_or_else(|| {
        let hint = checker::did_you_mean(name, Format::NAMES);
        CliError::Input(format!(
            "--format {name}: there is no such format{hint}; known are: {}. Without --format, the \
             content decides",
            Format::NAMES.join(", ")
        ))
    })
}

/// Refuses, before anything is read, a folder that cannot be: it is made when there is something to draw.
fn can_draw(folder: &Path) -> Result<(), CliError> {
    let is_there = folder.exists();
    std::fs::create_dir_all(folder).map_err(|error| cannot_draw(folder, &error))?;
    if !is_there {
        let _ = std::fs::remove_dir(folder);
    }
    Ok(())
}

/// Writes each drawing; the paths.
fn draw(folder: &Path, drawings: &[Drawing]) -> Result<Vec<PathBuf>, CliError> {
    if !drawings.is_empty() {
        std::fs::create_dir_all(folder).map_err(|error| cannot_draw(folder, &error))?;
    }
    drawings
        .iter()
        .map(|drawing| {
            let path = folder.join(&drawing.file_name);
            fuzz_dist_report::replace(&path, &drawing.svg).map_err(CliError::input)?;
            Ok(path)
        })
        .collect()
}

fn cannot_draw(folder: &Path, error: &std::io::Error) -> CliError {
    CliError::Input(format!(
        "--svg {}: cannot make this folder for the drawings: {error}",
        folder.display()
    ))
}

/// Each checker with its options. With several, an option goes to those that have it, and
/// `CHECKER.KEY=VALUE` to one.
fn specs(args: &CheckArgs) -> Result<Vec<CheckerSpec>, CliError> {
    let mut specs: Vec<CheckerSpec> = Vec::new();
    for name in args.checkers.iter().flat_map(|names| names.split(',')) {
        if specs.iter().any(|spec| spec.name == name) {
            return Err(CliError::Input(format!("checker {name} is given twice")));
        }
        let spec = CheckerSpec { name: name.to_owned(), options: Options::new() };
        // Only whether its name is right: it may insist on an option that it has not got yet.
        if let Err(error @ checker::OptionError::UnknownChecker { .. }) = checker::build(&spec) {
            return Err(CliError::input(error));
        }
        specs.push(spec);
    }
    for (key, value) in given(args) {
        let (only, key) = match key.split_once('.') {
            Some((name, key)) if specs.iter().any(|spec| spec.name == name) => (Some(name), key),
            _ => (None, key.as_str()),
        };
        let several = specs.len() > 1;
        let mut taken = false;
        for spec in &mut specs {
            let wanted = match only {
                Some(name) => spec.name == name,
                None => !several || has(&spec.name, key),
            };
            if wanted {
                taken = true;
                if spec.options.insert(key.to_owned(), value.clone()).is_some() {
                    return Err(CliError::Input(format!("option {key} is given twice")));
                }
            }
        }
        if !taken {
            return Err(nobody_has(key, &specs));
        }
    }
    Ok(specs)
}

fn options_of(name: &str) -> impl Iterator<Item = &'static str> {
    let info = checker::catalogue().iter().find(move |info| info.name == name);
    info.into_iter().flat_map(|info| info.options.iter().map(|option| option.name))
}

fn has(name: &str, option: &str) -> bool {
    options_of(name).any(|known| known == option)
}

fn nobody_has(key: &str, specs: &[CheckerSpec]) -> CliError {
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let known: Vec<&str> = names.iter().flat_map(|name| options_of(name)).collect();
    let hint = checker::did_you_mean(key, &known);
    CliError::Input(format!(
        "none of the checkers {} has an option {key:?}{hint}; `fuzz_dist check --list` explains them",
        names.join(", ")
    ))
}

/// The flags with names of their own are options as well.
fn given(args: &CheckArgs) -> Vec<(String, serde_json::Value)> {
    let mut given = args.options.clone();
    let words = [
        ("model", &args.model),
        ("consistency-model", &args.consistency_model),
        ("anomalies", &args.anomalies),
    ];
    for (name, value) in words {
        if let Some(value) = value {
            given.push((name.into(), value.as_str().into()));
        }
    }
    if args.independent {
        given.push(("independent".into(), true.into()));
    }
    given
}
