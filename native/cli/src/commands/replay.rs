//! `fuzz_dist replay`: the stored spec, seed and faults of a run, run again as a new run.

use fuzz_dist_core::spec;

use crate::args::ReplayArgs;
use crate::commands::{run, runs, schedule_file};
use crate::output::CliError;

/// Runs it again; the new run goes into the store that the old one is in.
pub fn run(args: &ReplayArgs, no_color: bool) -> Result<u8, CliError> {
    let dir = runs::find(&args.run)?;
    let mut spec = spec::load(&dir.spec()).map_err(CliError::input)?.spec;
    // The faults of the run stand in its own schedule, whatever file they came from.
    spec.nemesis.schedule = None;
    if let Some(store) = args.run.store.to_str() {
        spec.store = store.to_owned();
    }
    let schedule = schedule_file::load(&dir.schedule(), &spec)?;
    run::execute(spec, Some(schedule), &args.output, no_color)
}
