//! `fuzz_dist check --list`: every checker with its options, the models, and the formats of histories.

use std::io::Write;

use fuzz_dist_checker::{self as checker, CheckerInfo, OptionError};
use fuzz_dist_core::interop::Format;
use fuzz_dist_core::spec::{CheckerSpec, Options};

use crate::output::{self, CliError};

/// Columns of the text.
const COLUMN_COUNT_MAX: usize = 100;

/// Explains the checkers of these names, or all.
pub fn list(names: &[String], json: bool) -> Result<u8, CliError> {
    let names: Vec<&str> = names.iter().flat_map(|names| names.split(',')).collect();
    for name in &names {
        let spec = CheckerSpec { name: (*name).to_owned(), options: Options::new() };
        if let Err(error @ OptionError::UnknownChecker { .. }) = checker::build(&spec) {
            return Err(CliError::input(error));
        }
    }
    let wanted = |info: &&CheckerInfo| names.is_empty() || names.contains(&info.name);
    let infos: Vec<&CheckerInfo> = checker::catalogue().iter().filter(wanted).collect();
    if json {
        let checkers: Vec<serde_json::Value> = infos.iter().map(|info| object(info)).collect();
        output::json(&serde_json::json!({ "checkers": checkers, "formats": Format::NAMES }))?;
        return Ok(0);
    }
    output::to_stdout(|out| {
        for info in infos {
            one(out, info)?;
        }
        if names.is_empty() {
            writeln!(out, "Formats of histories (--format)")?;
            wrapped(out, &Format::NAMES.join(", "), "  ")?;
        }
        Ok(())
    })?;
    Ok(0)
}

fn object(info: &CheckerInfo) -> serde_json::Value {
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
}

fn one(out: &mut dyn Write, info: &CheckerInfo) -> std::io::Result<()> {
    writeln!(out, "{}", info.name)?;
    wrapped(out, info.about, "  ")?;
    for option in info.options {
        writeln!(out, "    {} (default {})", option.name, option.default)?;
        wrapped(out, option.about, "      ")?;
    }
    writeln!(out)
}

/// Words in lines that fit.
fn wrapped(out: &mut dyn Write, text: &str, indent: &str) -> std::io::Result<()> {
    for line in super::words::wrap(text, COLUMN_COUNT_MAX - indent.len()) {
        writeln!(out, "{indent}{line}")?;
    }
    Ok(())
}
