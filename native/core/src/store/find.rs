//! Finds runs: by path, by `latest`, by test, by the name of the folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{LATEST, RunDir, StoreError, parse_utc_basic};

/// How many references a message offers.
const NEAR_MAX: usize = 3;
/// How alike two references must be to be offered (0 to 1, Jaro-Winkler).
const NEAR_MIN: f64 = 0.8;

/// One run of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEntry {
    /// Name of the test.
    pub test: String,
    /// Name of the folder: the start of the run.
    pub id: String,
    /// Start, in nanoseconds since 1970.
    pub start_wall_ns: i64,
    /// The folder.
    pub dir: RunDir,
}

impl RunEntry {
    /// What [`find_run`] finds it by.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.test, self.id)
    }
}

/// Every run of the store, the newest first. A store that does not exist has none; folders that are not
/// named like a run are not runs.
pub fn list_runs(store_root: impl AsRef<Path>) -> Result<Vec<RunEntry>, StoreError> {
    let store_root = store_root.as_ref();
    let mut runs = Vec::new();
    for (test, test_path) in folders(store_root)? {
        for (id, path) in folders(&test_path)? {
            if let Some(start_wall_ns) = parse_utc_basic(&id) {
                let (test, dir) = (test.clone(), RunDir::at(path));
                runs.push(RunEntry { test, id, start_wall_ns, dir });
            }
        }
    }
    runs.sort_by(|a, b| b.start_wall_ns.cmp(&a.start_wall_ns).then_with(|| a.test.cmp(&b.test)));
    Ok(runs)
}

/// The run that `reference` means: the path of a run's folder or of a file in it, `latest`,
/// `<test>/latest`, `<test>` (its newest), `<test>/<id>`, or an id that only one run has. A reference
/// inside the store comes before a path of the same name.
pub fn find_run(store_root: impl AsRef<Path>, reference: &str) -> Result<RunDir, StoreError> {
    let store_root = store_root.as_ref();
    let runs = list_runs(store_root)?;
    let trimmed = reference.trim_end_matches('/');
    if let Some(run) = in_store(store_root, &runs, trimmed) {
        return Ok(run);
    }
    if let Some(run) = at_path(Path::new(reference)) {
        return Ok(run);
    }
    Err(StoreError::NoSuchRun {
        reference: reference.to_owned(),
        store: store_root.to_owned(),
        near: near(&runs, trimmed),
    })
}

fn in_store(store_root: &Path, runs: &[RunEntry], reference: &str) -> Option<RunDir> {
    let newest = |test: Option<&str>| {
        // The link is what a person sees; where it is missing or dangles, time decides.
        let link = match test {
            Some(test) => store_root.join(test).join(LATEST),
            None => store_root.join(LATEST),
        };
        let linked = fs::canonicalize(link).ok();
        let mut of_test = runs.iter().filter(|run| test.is_none_or(|test| run.test == test));
        let by_link = linked.and_then(|linked| {
            of_test.clone().find(|run| fs::canonicalize(run.dir.path()).is_ok_and(|p| p == linked))
        });
        by_link.or_else(|| of_test.next()).map(|run| run.dir.clone())
    };
    if reference == LATEST {
        return newest(None);
    }
    if let Some(test) = reference.strip_suffix("/latest") {
        return newest(Some(test));
    }
    if runs.iter().any(|run| run.test == reference) {
        return newest(Some(reference));
    }
    let mut named = runs.iter().filter(|run| run.id == reference || run.reference() == reference);
    let found = named.next()?;
    named.next().is_none().then(|| found.dir.clone())
}

/// A run's folder holds a spec or a history; a file in such a folder means the folder.
fn at_path(path: &Path) -> Option<RunDir> {
    let is_run = |folder: &Path| {
        let run = RunDir::at(folder);
        run.history().is_file() || run.spec().is_file()
    };
    let resolved = fs::canonicalize(path).ok()?;
    let folder = if resolved.is_dir() { resolved.as_path() } else { resolved.parent()? };
    is_run(folder).then(|| RunDir::at(folder))
}

/// References that look like the one that was not found; failing that, the newest runs.
fn near(runs: &[RunEntry], reference: &str) -> Vec<String> {
    let mut candidates: Vec<String> = Vec::new();
    for run in runs {
        for candidate in [run.test.clone(), run.reference()] {
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
    }
    // An id without its test, given to several tests, is as near as can be.
    let likeness = |candidate: &str| {
        if candidate.ends_with(&format!("/{reference}")) {
            1.0
        } else {
            strsim::jaro_winkler(candidate, reference)
        }
    };
    let mut alike: Vec<(f64, &String)> = candidates
        .iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= NEAR_MIN)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut near: Vec<String> =
        alike.into_iter().take(NEAR_MAX).map(|(_, name)| name.clone()).collect();
    if near.is_empty() {
        near = runs.iter().take(NEAR_MAX).map(RunEntry::reference).collect();
    }
    near
}

/// Real folders (not links) of a folder, by name; none when it does not exist.
fn folders(path: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let io_error = |source| StoreError::Io { action: "list", path: path.to_owned(), source };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io_error(source)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error)?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && let Ok(name) = entry.file_name().into_string() {
            folders.push((name, entry.path()));
        }
    }
    folders.sort();
    Ok(folders)
}
