//! Finding a stored run, or a history that is not of a run, from what a person typed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fuzz_dist_core::file;
use fuzz_dist_core::interop::{self, Format, LoadError, Loaded};
use fuzz_dist_core::store::{LATEST, RunDir, find_run, list_runs};

use crate::args::RunReference;
use crate::output::{self, CliError};

/// Where runs are stored when nothing else is said.
pub const STORE: &str = "store";

/// The run that was meant.
pub fn find(reference: &RunReference) -> Result<RunDir, CliError> {
    let store = reference.store.as_deref().unwrap_or(Path::new(STORE));
    find_run(store, &reference.run).map_err(CliError::input)
}

/// The run that was meant, and that can be run again. `latest` and the name of a test mean the newest of which that is
/// true: one that ended before its nodes were up has no faults to run again.
pub fn find_replayable(reference: &RunReference) -> Result<RunDir, CliError> {
    let found = find(reference)?;
    if found.schedule().is_file() {
        return Ok(found);
    }
    let why = format!(
        "{} never came to its operations, so there is nothing to replay (it has no schedule.json)",
        found.path().display()
    );
    let store = reference.store.as_deref().unwrap_or(Path::new(STORE));
    let name = reference.run.trim_end_matches('/');
    let test = match name {
        LATEST => None,
        name => Some(name.strip_suffix("/latest").unwrap_or(name)),
    };
    let runs = list_runs(store).map_err(CliError::input)?;
    let mut of_test = runs.into_iter().filter(|run| test.is_none_or(|test| run.test == test));
    match of_test.find(|run| run.dir.schedule().is_file()) {
        Some(run) => {
            output::tell(&format!("note: {why}; replaying {}", run.dir.path().display()));
            Ok(run.dir)
        }
        None => Err(CliError::Input(format!(
            "{why}; see its core.log for why, and run the test again: fuzz_dist run {}",
            found.spec().display()
        ))),
    }
}

/// A history in a file or on standard input (`-`), its format recognised; notices go to people.
pub fn history(path: &Path) -> Result<Loaded, CliError> {
    told(interop::load(path, None))
}

fn told(loaded: Result<Loaded, LoadError>) -> Result<Loaded, CliError> {
    let loaded = loaded.map_err(CliError::input)?;
    for notice in &loaded.notices {
        output::tell(&format!("note: {notice}"));
    }
    Ok(loaded)
}

/// A history that was read with a limit of memory.
#[derive(Debug)]
pub enum Read {
    /// All of it.
    Whole(Loaded),
    /// It needs more memory than it may; the sentence says so.
    TooLarge(String),
}

/// The history of a format, if it is named, in at most so many bytes of memory.
pub fn history_within(
    path: &Path,
    format: Option<Format>,
    memory_bytes: Option<u64>,
) -> Result<Read, CliError> {
    if let Some(bytes) = memory_bytes {
        fuzz_dist_memory::set_limit(bytes);
    }
    match interop::load(path, format) {
        Err(error) if error.is_over_memory() => Ok(Read::TooLarge(error.to_string())),
        loaded => told(loaded).map(Read::Whole),
    }
}

/// The history file that `source` means: a file, `-`, or a run.
pub fn history_path(store: &Path, source: &str) -> Result<PathBuf, CliError> {
    let path = Path::new(source);
    if source == "-" || path.is_file() {
        return Ok(path.to_owned());
    }
    let run = find_run(store, source).map_err(|error| {
        CliError::Input(format!("{source} is neither a history file nor a run: {error}"))
    })?;
    history_of(&run)
}

/// The history of a run. Somebody else may have made its folder: a link or a FIFO in it is no history.
pub fn history_of(run: &RunDir) -> Result<PathBuf, CliError> {
    let path = run.history();
    match file::open(&path) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            Err(CliError::Input(format!("{}: {error}", path.display())))
        }
        _ => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// A store with runs of two tests; those with `true` came to their operations.
    fn store(runs: &[(&str, bool)]) -> tempfile::TempDir {
        let store = tempfile::tempdir().unwrap();
        for (run, began) in runs {
            let run = RunDir::at(store.path().join(run));
            std::fs::create_dir_all(run.path()).unwrap();
            std::fs::write(run.spec(), "").unwrap();
            if *began {
                std::fs::write(run.schedule(), "{}").unwrap();
            }
        }
        store
    }

    #[test]
    fn a_run_that_never_began_is_skipped_by_names_and_refused_by_its_own() {
        let (old, new, other) =
            ("t/20261201T000000.000Z", "t/20261201T000001.000Z", "u/20261201T000002.000Z");
        let store = store(&[(old, true), (new, false), (other, false)]);
        let found = |run: &str| {
            let (run, store) = (run.to_owned(), Some(store.path().to_owned()));
            find_replayable(&RunReference { run, store })
        };
        for name in ["latest", "t", "t/latest", "t/", old] {
            assert_eq!(found(name).unwrap().path(), store.path().join(old), "{name}");
        }
        for name in [new, "u", "u/latest"] {
            let CliError::Input(text) = found(name).unwrap_err() else { panic!("{name}") };
            assert!(text.contains("nothing to replay"), "{text}");
        }
    }
}
