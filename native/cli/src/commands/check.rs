//! `fuzz_dist check`: one property of one history, from any tool, without a cluster.

use std::io::Write;
use std::time::Duration;

use fuzz_dist_checker::{self as checker, Budget};
use fuzz_dist_core::CheckResult;
use fuzz_dist_core::spec::CheckerSpec;

use crate::args::CheckArgs;
use crate::commands::{outcome, runs};
use crate::output::{self, CliError};
use crate::terminal;

/// Anomalies shown in full; the others are counted.
const ANOMALIES_SHOWN: usize = 3;

/// Lines shown of one anomaly.
const ANOMALY_LINES: usize = 40;

/// Checks, or lists what can be checked.
pub fn run(args: &CheckArgs, no_color: bool) -> Result<u8, CliError> {
    if args.list {
        return list(args.json);
    }
    let (Some(name), Some(path)) = (&args.checker, &args.history) else {
        return Err(CliError::Input("--checker NAME and HISTORY are needed".into()));
    };
    let spec = CheckerSpec { name: name.clone(), options: options(args)? };
    // Before the history is read: a misspelt name should not cost a minute.
    checker::build(&spec).map_err(CliError::input)?;
    let history = runs::history(path)?.history;
    let budget = Budget {
        time: args.time_limit.map(Duration::from_secs_f64),
        memory_bytes: args.memory_limit.map(|mib| mib << 20),
        ..Budget::default()
    };
    let composed = checker::check_all(&history, std::slice::from_ref(&spec), &budget);
    // Composed for its handling of panics; of one checker, the part says all.
    let result = match composed.parts.len() {
        1 => composed.parts.into_iter().next().unwrap_or_default(),
        _ => composed,
    };
    output::tell(&text(&result, terminal::colour(no_color)));
    if args.json {
        output::json(&result)?;
    }
    Ok(result.verdict.exit_code())
}

/// The flags with names of their own are options as well; giving both ways is a contradiction in waiting.
fn options(args: &CheckArgs) -> Result<fuzz_dist_core::spec::Options, CliError> {
    let mut given = args.options.clone();
    if let Some(model) = &args.model {
        given.push(("model".into(), model.as_str().into()));
    }
    if args.independent {
        given.push(("independent".into(), true.into()));
    }
    if let Some(model) = &args.consistency_model {
        given.push(("consistency-model".into(), model.as_str().into()));
    }
    let mut options = fuzz_dist_core::spec::Options::new();
    for (key, value) in given {
        if options.insert(key.clone(), value).is_some() {
            return Err(CliError::Input(format!("option {key} is given twice")));
        }
    }
    Ok(options)
}

fn text(result: &CheckResult, colour: bool) -> String {
    let mut lines = vec![format!(
        "{}: {} ({:.0} ms)",
        result.checker,
        outcome::painted(result.verdict, colour),
        result.elapsed_ms
    )];
    lines.push(result.reason.clone());
    for anomaly in result.anomalies.iter().take(ANOMALIES_SHOWN) {
        let key = anomaly.key.as_ref().map(|key| format!(" of {key}")).unwrap_or_default();
        lines.push(format!("\n{}{key}", anomaly.name));
        let all: Vec<&str> = anomaly.text.lines().collect();
        lines.extend(all.iter().take(ANOMALY_LINES).map(|line| format!("  {line}")));
        if all.len() > ANOMALY_LINES {
            lines.push(format!("  … {} more lines in --json", all.len() - ANOMALY_LINES));
        }
    }
    if result.anomalies.len() > ANOMALIES_SHOWN {
        let more = result.anomalies.len() - ANOMALIES_SHOWN;
        lines.push(format!("\n… {more} more anomalies in --json"));
    }
    if !result.counts.is_empty() {
        let counts: Vec<String> =
            result.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        lines.push(format!("\n{}", counts.join(", ")));
    }
    lines.join("\n")
}

fn list(json: bool) -> Result<u8, CliError> {
    let catalogue = checker::catalogue();
    if json {
        let checkers: Vec<serde_json::Value> = catalogue
            .iter()
            .map(|info| {
                let options: Vec<serde_json::Value> = info
                    .options
                    .iter()
                    .map(|option| {
                        serde_json::json!({
                            "name": option.name, "default": option.default, "about": option.about
                        })
                    })
                    .collect();
                serde_json::json!({ "name": info.name, "about": info.about, "options": options })
            })
            .collect();
        output::json(&serde_json::json!({ "checkers": checkers }))?;
        return Ok(0);
    }
    output::to_stdout(|out| {
        for info in catalogue {
            writeln!(out, "{}", info.name)?;
            wrapped(out, info.about, "  ")?;
            for option in info.options {
                writeln!(out, "    {} (default {})", option.name, option.default)?;
                wrapped(out, option.about, "      ")?;
            }
            writeln!(out)?;
        }
        Ok(())
    })?;
    Ok(0)
}

/// Words in lines of at most 100 characters.
fn wrapped(out: &mut dyn Write, text: &str, indent: &str) -> std::io::Result<()> {
    let mut line = String::new();
    for word in text.split_whitespace() {
        let length = indent.len() + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > 100 {
            writeln!(out, "{indent}{line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    writeln!(out, "{indent}{line}")
}
