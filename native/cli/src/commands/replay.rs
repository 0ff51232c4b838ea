//! `fuzz_dist replay`: the stored spec, seed and faults of a run, run again as a new run.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fuzz_dist_core::file;
use fuzz_dist_core::spec;
use fuzz_dist_core::store::RunDir;
use fuzz_dist_runner::MIX;

use crate::args::ReplayArgs;
use crate::commands::{run, runs, schedule_file};
use crate::output::{self, CliError};

/// In the environment of nodes that a mix task started: which applications they run.
const MIX_APP: &str = "FUZZ_DIST_APP";

/// Runs it again; the new run goes into the store that was given, or that the old one is in.
pub fn run(args: &ReplayArgs, no_color: bool) -> Result<u8, CliError> {
    let dir = runs::find_replayable(&args.run)?;
    for path in [dir.spec(), dir.schedule()] {
        // Somebody else may have made the folder. What is missing is told by whoever reads it.
        if let Err(error) = file::open(&path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(CliError::Input(format!("{}: {error}", path.display())));
        }
    }
    let mut spec = spec::load(&dir.spec()).map_err(CliError::input)?.spec;
    // The faults of the run stand in its own schedule, whatever file they came from.
    spec.nemesis.schedule = None;
    if let Some(store) = store_of(&dir, &spec.name, args.run.store.as_deref()).to_str() {
        spec.store = store.to_owned();
    }
    if args.print_spec {
        return output::to_stdout(|out| out.write_all(spec::to_toml(&spec).as_bytes())).map(|()| 0);
    }
    if run::program() != MIX && spec.cluster.env.contains_key(MIX_APP) {
        let run = &args.run.run;
        output::tell(&format!(
            "note: the project is not compiled again (`{MIX}.replay {run}` compiles it first)"
        ));
    }
    let schedule = schedule_file::load(&dir.schedule(), &spec)?;
    run::execute(spec, Some(schedule), &args.output, no_color)
}

/// The store that was given; else that of the run; else, for a run that was moved out of its store, the
/// default.
fn store_of(run: &RunDir, test: &str, given: Option<&Path>) -> PathBuf {
    if let Some(given) = given {
        return given.to_owned();
    }
    let of_test = run.path().parent().filter(|folder| folder.ends_with(test));
    let default = Path::new(runs::STORE);
    let Some(store) = of_test.and_then(Path::parent) else { return default.to_owned() };
    let same = default
        .canonicalize()
        .is_ok_and(|default| store.canonicalize().is_ok_and(|s| s == default));
    if same { default.to_owned() } else { store.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_replay_goes_where_it_is_told_or_where_its_run_is() {
        let scratch = tempfile::tempdir().unwrap();
        let store = scratch.path().join("my store");
        let run = RunDir::at(store.join("t/1"));
        std::fs::create_dir_all(run.path()).unwrap();
        assert_eq!(store_of(&run, "t", None), store);
        let other = Path::new("elsewhere");
        assert_eq!(store_of(&run, "t", Some(other)), other);
        assert_eq!(store_of(&run, "other", None), Path::new("store"));
    }
}
