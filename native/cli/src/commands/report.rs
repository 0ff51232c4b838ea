//! `fuzz_dist report`: the report of a stored run again, from its history and stored results.
//!
//! Nothing is checked again (`fuzz_dist analyze` does that): the verdict is the stored one, the pages are
//! those of this version.

use fuzz_dist_core::CheckResult;
use fuzz_dist_core::fault::FaultSchedule;
use fuzz_dist_core::file;
use fuzz_dist_report::RunInfo;
use serde::Deserialize;

use crate::args::ReportArgs;
use crate::commands::{outcome, runs};
use crate::output::{self, CliError};

/// The longest files that are read: what is longer does not come from a run.
const RESULTS_BYTES_MAX: u64 = 1 << 30;
const SCHEDULE_BYTES_MAX: u64 = 64 << 20;

/// The parts of `results.json` that a report is made from.
#[derive(Deserialize)]
struct Stored {
    run: RunInfo,
    result: CheckResult,
}

/// Writes the report; the exit code is that of the stored verdict.
pub fn run(args: &ReportArgs, no_color: bool) -> Result<u8, CliError> {
    let dir = runs::find(&args.run)?;
    let results = dir.results();
    let text = file::read(&results, RESULTS_BYTES_MAX).map_err(|error| {
        CliError::Input(format!(
            "{}: {error}; the run has no verdict yet: `{} analyze {}` gives one",
            results.display(),
            super::run::program(),
            dir.path().display()
        ))
    })?;
    let stored: Stored = serde_json::from_slice(&text)
        .map_err(|error| CliError::Input(format!("{}: {error}", results.display())))?;
    let path = dir.schedule();
    let schedule: FaultSchedule = file::read(&path, SCHEDULE_BYTES_MAX)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()))
        .map_err(|error| CliError::Input(format!("{}: {error}", path.display())))?;
    let history = runs::history(&runs::history_of(&dir)?)?.history;
    let Stored { run, result } = stored;
    let written = fuzz_dist_report::write(dir.path(), &run, &history, &schedule, &result)
        .map_err(CliError::input)?;
    if let Some(failed) = written.failed.first() {
        return Err(CliError::Internal(failed.clone()));
    }
    let verdict = outcome::painted(result.verdict, crate::terminal::colour(no_color));
    output::tell(&format!("verdict  {verdict}\nreport   {}", written.report.display()));
    Ok(result.verdict.exit_code())
}
