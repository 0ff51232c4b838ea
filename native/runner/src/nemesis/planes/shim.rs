//! What the planes of clock and disk share: a library that is preloaded into nodes, and a page that tells it what to
//! fake.
//!
//! A node is started with the library in a run that may have such faults. Without one it does nothing. The page is
//! a file in the node's folder that stays over its restarts, so that a clock that is off is off for the next VM as
//! well. Every fault has a deadline a little after its end, after which the library forgets it: a core
//! that was killed leaves none behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use fuzz_dist_core::clock;
use fuzz_dist_shim_page::{FOLDER_VARIABLE, Mapped, PAGE_FILE, journal};

use super::{NodeStart, Tools};
use crate::agents::Role;
use crate::cluster::find_ebin;
use crate::request::RunError;

/// Names the library, where it is not beside the program.
pub const LIBRARY_VARIABLE: &str = "FUZZ_DIST_SHIM_LIBRARY";

const LIBRARY_FILE: &str = "libfuzz_dist_shim.so";

/// How long after its end the library forgets a fault that was not healed.
const GRACE_NS: u64 = 2_000_000_000;

/// The library, absolute: named by the environment, or beside the program or above that, or where the mix compiler
/// puts it.
pub fn find() -> Result<PathBuf, String> {
    if !cfg!(target_os = "linux") {
        return Err("needs Linux: a library is preloaded into nodes".into());
    }
    let named = std::env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty());
    let exe = std::env::current_exe().map_err(|e| format!("cannot find my own program: {e}"))?;
    find_from(named.map(PathBuf::from), &exe, find_ebin().ok().as_deref())
}

fn find_from(named: Option<PathBuf>, exe: &Path, ebin: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(path) = named {
        let path = std::path::absolute(&path).unwrap_or(path);
        let wrong = format!("{LIBRARY_VARIABLE} names {}, which is not a file", path.display());
        return path.is_file().then_some(path).ok_or(wrong);
    }
    let beside = exe.ancestors().skip(1).take(2).map(|folder| folder.join(LIBRARY_FILE));
    let installed = ebin.and_then(Path::parent).map(|app| app.join("priv").join(LIBRARY_FILE));
    beside.chain(installed).find(|path| path.is_file()).ok_or_else(|| {
        format!(
            "{LIBRARY_FILE} is neither beside {} nor in the priv folder of the client: build it with `cargo build -p fuzz_dist_shim` (`make build` does), \
             or name it in {LIBRARY_VARIABLE}",
            exe.display()
        )
    })
}

/// Has a node preload the library; `None` if there is none, and then its faults are unavailable.
pub fn prepare(start: &mut NodeStart<'_>) -> Result<Option<Mapped>, RunError> {
    let Ok(library) = find() else { return Ok(None) };
    let folder = folder_of(start.folder);
    let failed = |e: std::io::Error| RunError::Internal(format!("{}: {e}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(failed)?;
    // As the kernel will name files in it.
    let root = start.folder.join("data").canonicalize().map_err(failed)?;
    let path = folder.join(PAGE_FILE);
    let page = if path.exists() { Mapped::open(&path) } else { Mapped::create(&path, &root) };
    let page = page.map_err(|e| RunError::Internal(e.to_string()))?;
    // The VM before this one is gone.
    page.pid.store(0, Ordering::Release);
    let env = &mut start.request.env;
    let given = env.get("LD_PRELOAD").cloned().or_else(|| std::env::var("LD_PRELOAD").ok());
    let ours = library.display().to_string();
    let given =
        given.filter(|given| !given.is_empty() && !given.split([':', ' ']).any(|l| l == ours));
    let all = given.map_or(ours.clone(), |given| format!("{ours}:{given}"));
    env.insert("LD_PRELOAD".into(), all);
    let absolute = std::path::absolute(&folder).unwrap_or(folder);
    env.insert(FOLDER_VARIABLE.into(), absolute.display().to_string());
    Ok(Some(page))
}

/// `nodes/<short>/shim`.
pub fn folder_of(node_folder: &Path) -> PathBuf {
    node_folder.join("shim")
}

/// The pages of all nodes of a run.
#[derive(Debug)]
pub struct Pages(BTreeMap<String, Mapped>);

impl Pages {
    /// Of nodes that were started with the library.
    pub fn open(tools: &Tools) -> Result<Pages, RunError> {
        let mut pages = BTreeMap::new();
        for node in tools.cluster.names() {
            let folder = folder_of(&tools.run_dir.join("nodes").join(&node));
            if let Ok(page) = Mapped::open(&folder.join(PAGE_FILE)) {
                pages.insert(node, page);
            }
        }
        Ok(Pages(pages))
    }

    /// The page of a node that obeys it.
    ///
    /// # Errors
    /// When the node does not, with what is the likely cause.
    pub fn obeyed(&self, tools: &Tools, node: &str) -> Result<&Mapped, String> {
        let page = self.get(node)?;
        // One that is down, or about to come, will obey it.
        let speaks = tools.agents.get(Role::Node, node).is_some() && tools.cluster.is_up(node);
        if speaks && page.pid.load(Ordering::Acquire) == 0 {
            return Err(format!(
                "no BEAM of {node} has loaded {LIBRARY_FILE}: its command must pass LD_PRELOAD and {FOLDER_VARIABLE} \
                 on, and start a dynamically linked BEAM"
            ));
        }
        Ok(page)
    }

    /// The page of a node.
    ///
    /// # Errors
    /// When the node was started without one.
    pub fn get(&self, node: &str) -> Result<&Mapped, String> {
        self.0.get(node).ok_or_else(|| {
            format!("{node} was started without {LIBRARY_FILE}, since nothing told then that it would be needed")
        })
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Mapped> {
        self.0.values()
    }
}

/// When a fault of this length that begins now is forgotten, of `CLOCK_MONOTONIC`.
pub fn deadline_ns(duration_ns: u64) -> u64 {
    clock::monotonic_ns().saturating_add(duration_ns).saturating_add(GRACE_NS)
}

/// Why the journal of a node is of no use, if so.
pub fn journal_problem(page: &Mapped, node: &str) -> Option<String> {
    match page.journal.load(Ordering::Acquire) {
        journal::ON => None,
        journal::BROKEN => {
            let errno = page.journal_errno.load(Ordering::Relaxed) as i32;
            let error = std::io::Error::from_raw_os_error(errno);
            let bytes = page.journal_bytes.load(Ordering::Relaxed);
            Some(format!("what {node} wrote could not be kept ({error}, after {bytes} bytes)"))
        }
        _ => Some(format!(
            "what {node} wrote was not kept: the spec has other faults but no `disk-lose-unsynced`, so add one to \
             [[nemesis.faults]]"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_library_is_found_by_name_and_beside_the_program() {
        let root = tempfile::tempdir().unwrap();
        let exe = root.path().join("deps/fuzz_dist");
        let missing = find_from(None, &exe, None).unwrap_err();
        assert!(missing.contains("cargo build -p fuzz_dist_shim"), "{missing}");
        let library = root.path().join(LIBRARY_FILE);
        std::fs::write(&library, "").unwrap();
        assert_eq!(find_from(None, &exe, None).unwrap(), library);
        let wrong = find_from(Some("/nowhere.so".into()), &exe, None).unwrap_err();
        assert!(wrong.contains("FUZZ_DIST_SHIM_LIBRARY names /nowhere.so"), "{wrong}");
    }
}
