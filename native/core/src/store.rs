//! Where runs live: `store/<test>/<UTC basic time>/`, with `latest` links, as in Jepsen.
//!
//! A run's folder is named after its start (`20261120T115401.123Z`), which sorts by time. Two runs that
//! start in the same millisecond get different names because creating the folder is atomic. The links
//! `store/<test>/latest` and `store/latest` are relative, so that a store can be moved and packed, and
//! are replaced by renaming a finished link over the old one: no reader ever finds none.

mod find;
mod time;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub use find::{RunEntry, find_run, list_runs};
pub use time::{format_utc_basic, parse_utc_basic};

/// Name of the links.
pub const LATEST: &str = "latest";
/// How many runs may start in one millisecond before something is plainly wrong.
const SAME_MILLISECOND_MAX: u32 = 10_000;

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A name of a test that cannot be one folder.
    #[error(
        "test name {name:?} cannot name a folder of the store: {why}; use letters, digits, '-', '_' and '.'"
    )]
    BadTestName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The operating system says no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The link is something else, which is never replaced.
    #[error("{} is not a link of the store; move it away, it is in the way of the link to the newest run", path.display())]
    LinkInTheWay {
        /// The file or folder.
        path: PathBuf,
    },
    /// No run of that name.
    #[error("no run {reference:?} in {}{}", store.display(), hint(near))]
    NoSuchRun {
        /// What was asked for.
        reference: String,
        /// Where was looked.
        store: PathBuf,
        /// References that exist and look like it, or the newest ones.
        near: Vec<String>,
    },
}

fn hint(near: &[String]) -> String {
    match near {
        [] => "; it holds no runs at all".to_owned(),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}

/// The folder of one run and the places in it. See `doc/history.md`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// A folder that is taken for a run's; nothing is checked.
    pub fn at(path: impl Into<PathBuf>) -> RunDir {
        RunDir { path: path.into() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the folder: the start of the run, which is also its id.
    pub fn id(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The resolved spec.
    pub fn spec(&self) -> PathBuf {
        self.path.join("spec.toml")
    }

    /// The faults.
    pub fn schedule(&self) -> PathBuf {
        self.path.join("schedule.json")
    }

    /// The history, as it was appended during the run.
    pub fn history(&self) -> PathBuf {
        self.path.join("history.fdh")
    }

    /// The history for Jepsen's tools.
    pub fn history_edn(&self) -> PathBuf {
        self.path.join("history.edn")
    }

    /// Verdict, checkers, faults and their effects.
    pub fn results(&self) -> PathBuf {
        self.path.join("results.json")
    }

    /// The page for people.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The verdict for CI.
    pub fn junit(&self) -> PathBuf {
        self.path.join("junit.xml")
    }

    /// What the core did.
    pub fn core_log(&self) -> PathBuf {
        self.path.join("core.log")
    }

    /// The folder of every node and client VM.
    pub fn nodes(&self) -> PathBuf {
        self.path.join("nodes")
    }

    /// The folder of one node, by its short name.
    pub fn node(&self, name: &str) -> PathBuf {
        self.nodes().join(name)
    }

    /// What the node printed.
    pub fn node_output(&self, name: &str) -> PathBuf {
        self.node(name).join("output.log")
    }

    /// The data of the node.
    pub fn node_data(&self, name: &str) -> PathBuf {
        self.node(name).join("data")
    }

    /// The logs that the node writes itself.
    pub fn node_log(&self, name: &str) -> PathBuf {
        self.node(name).join("log")
    }
}

/// Makes runs in a store.
#[derive(Debug)]
pub struct Store;

impl Store {
    /// Creates the folder of a run that starts at `wall_ns` (nanoseconds since 1970) and points both
    /// `latest` links to it. The store itself is created when it is missing.
    pub fn create_run(
        store_root: impl AsRef<Path>,
        test_name: &str,
        wall_ns: i64,
    ) -> Result<RunDir, StoreError> {
        let store_root = store_root.as_ref();
        check_test_name(test_name)?;
        let test = store_root.join(test_name);
        private_folder(&test, true).map_err(io_error("create", &test))?;
        // Later names in the same millisecond count on: still in order, still a valid time.
        for later_ms in 0..i64::from(SAME_MILLISECOND_MAX) {
            let id = format_utc_basic(wall_ns.saturating_add(later_ms * 1_000_000));
            let path = test.join(&id);
            match private_folder(&path, false) {
                Ok(()) => {
                    point_link(&test.join(LATEST), Path::new(&id))?;
                    point_link(&store_root.join(LATEST), &Path::new(test_name).join(&id))?;
                    return Ok(RunDir { path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(StoreError::Io { action: "create", path, source }),
            }
        }
        Err(StoreError::Io {
            action: "find a free name for a run in",
            path: test,
            source: io::Error::from(io::ErrorKind::AlreadyExists),
        })
    }
}

/// A folder that only its owner may enter: what runs print, and the cookies of their nodes, are nobody
/// else's business. One that is there already stays as it is.
fn private_folder(path: &Path, recursive: bool) -> io::Result<()> {
    fs::DirBuilder::new().recursive(recursive).mode(0o700).create(path)
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

fn check_test_name(name: &str) -> Result<(), StoreError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name == LATEST {
        "it is the name of the link to the newest run"
    } else if name.starts_with('.') {
        "it begins with a dot"
    } else if name.len() > 200 {
        "it is longer than 200 bytes"
    } else if name.chars().any(|c| c == '/' || c == '\\' || c.is_control()) {
        "it contains a slash, a backslash or a control character"
    } else {
        return Ok(());
    };
    Err(StoreError::BadTestName { name: name.to_owned(), why })
}

/// Makes `link` point to `target`, which is relative to the link's folder, in one step.
fn point_link(link: &Path, target: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(link) {
        Ok(meta) if !meta.is_symlink() => {
            return Err(StoreError::LinkInTheWay { path: link.to_owned() });
        }
        _ => {}
    }
    // A name that no other process or thread uses at the same time.
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let fresh = link.with_file_name(format!(".{LATEST}.{}.{number}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    std::os::unix::fs::symlink(target, &fresh).map_err(io_error("link", &fresh))?;
    fs::rename(&fresh, link).map_err(|source| {
        let _ = fs::remove_file(&fresh);
        StoreError::Io { action: "replace the link", path: link.to_owned(), source }
    })
}

#[cfg(test)]
mod tests;
