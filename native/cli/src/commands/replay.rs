//! `fuzz_dist replay`: the stored spec, seed and faults of a run, run again as a new run.

use std::path::{Path, PathBuf};

use fuzz_dist_core::spec;
use fuzz_dist_core::store::RunDir;

use crate::args::ReplayArgs;
use crate::commands::{run, runs, schedule_file};
use crate::output::CliError;

/// Runs it again; the new run goes into the store that the old one is in.
pub fn run(args: &ReplayArgs, no_color: bool) -> Result<u8, CliError> {
    let dir = runs::find(&args.run)?;
    let mut spec = spec::load(&dir.spec()).map_err(CliError::input)?.spec;
    // The faults of the run stand in its own schedule, whatever file they came from.
    spec.nemesis.schedule = None;
    if let Some(store) = store_of(&dir, &spec.name, &args.run.store).to_str() {
        spec.store = store.to_owned();
    }
    let schedule = schedule_file::load(&dir.schedule(), &spec)?;
    run::execute(spec, Some(schedule), &args.output, no_color)
}

/// The store that the run is in, as it was given where that is the same folder; for a run that was moved out of
/// its store, the one given.
fn store_of(run: &RunDir, test: &str, given: &Path) -> PathBuf {
    let of_test = run.path().parent().filter(|folder| folder.ends_with(test));
    let Some(store) = of_test.and_then(Path::parent) else { return given.to_owned() };
    let same =
        given.canonicalize().is_ok_and(|given| store.canonicalize().is_ok_and(|s| s == given));
    if same { given.to_owned() } else { store.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_replay_goes_where_its_run_is() {
        let scratch = tempfile::tempdir().unwrap();
        let store = scratch.path().join("my store");
        let run = RunDir::at(store.join("t/1"));
        std::fs::create_dir_all(run.path()).unwrap();
        assert_eq!(store_of(&run, "t", Path::new("store")), store);
        let roundabout = store.join("../my store");
        assert_eq!(store_of(&run, "t", &roundabout), roundabout);
        assert_eq!(store_of(&run, "other", Path::new("store")), Path::new("store"));
    }
}
