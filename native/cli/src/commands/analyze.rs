//! `fuzz_dist analyze`: the checkers over a stored history, torn or whole, and a fresh report.

use fuzz_dist_checker as checker;
use fuzz_dist_core::spec::CheckerSpec;

use crate::args::AnalyzeArgs;
use crate::commands::{outcome, runs};
use crate::output::CliError;

/// Checks the run again, by its own checkers or by those named.
pub fn run(args: &AnalyzeArgs, no_color: bool) -> Result<u8, CliError> {
    let specs: Vec<CheckerSpec> = args
        .checkers
        .iter()
        .map(|name| CheckerSpec { name: name.clone(), ..CheckerSpec::default() })
        .collect();
    for spec in &specs {
        checker::build(spec).map_err(CliError::input)?;
    }
    let dir = runs::find(&args.run)?;
    let checkers = (!specs.is_empty()).then_some(specs);
    let result = fuzz_dist_runner::analyze(dir.path(), checkers)?;
    outcome::tell(&result, args.json, no_color)
}
