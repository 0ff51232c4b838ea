//! Faults of the files of a stopped node: it is killed, its files are changed, and it is started at the end.
//!
//! A thread of the fault waits for the end of the process and changes the files; the heal waits for that thread.
//! A node that is down already has its files changed too, and is started at the end.
//!
//! Limits: a node that another fault starts in between may find its files half changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuzz_dist_core::fault::{DiskFault, Unsynced, patterns};
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::sync::lock;
use fuzz_dist_core::tree::Tree;
use fuzz_dist_core::{Value, clock};
use fuzz_dist_schedule::draw;
use fuzz_dist_shim_page::rollback::{self, Lost};
use fuzz_dist_shim_page::{PROBE_FILE, glob};

use super::shim::{self, Pages};
use super::{Applied, AppliedFault, Order, Seen, Tools};
use crate::cluster::Cluster;
use crate::recorder::map;
use crate::request::RunError;

/// How long a killed process may take to be gone.
const GONE_MAX: Duration = Duration::from_secs(5);

/// How much of a node is copied for a later restore.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;

/// Where the copy is, in the folder of the node.
const EARLIER: &str = "earlier";

/// How many files an effect names.
const TOLD_MAX: usize = 4;

/// What became of files, by their paths below the data folder.
type Changes = BTreeMap<String, String>;

/// Copies of the files of nodes, as they were when the main phase began. A node that writes meanwhile
/// is copied as a backup of files would.
#[derive(Debug, Default)]
pub struct Snapshots(BTreeMap<String, PathBuf>);

impl Snapshots {
    /// Copies the data folders of all nodes.
    pub fn take(tools: &Tools) -> Result<Snapshots, RunError> {
        let mut all = BTreeMap::new();
        for node in tools.cluster.names() {
            let copied = keep(&tools.run_dir, &node);
            copied
                .map_err(|e| RunError::Internal(format!("a copy of the files of {node}: {e}")))?;
            all.insert(node.clone(), PathBuf::from("nodes").join(node).join(EARLIER));
        }
        Ok(Snapshots(all))
    }
}

/// A node's data folder, below the folder of the run.
fn data_of(node: &str) -> PathBuf {
    Path::new("nodes").join(node).join("data")
}

fn keep(run_dir: &Path, node: &str) -> io::Result<()> {
    let folder = Tree::open(run_dir, &Path::new("nodes").join(node))?;
    folder.create_folder(Path::new(EARLIER))?;
    let earlier = Tree::open(run_dir, &Path::new("nodes").join(node).join(EARLIER))?;
    copy_tree(&Tree::open(run_dir, &data_of(node))?, &earlier)
}

fn copy_tree(from: &Tree, to: &Tree) -> io::Result<()> {
    let mut bytes = 0;
    let files = from.files(&|_| true)?;
    for path in files.own.iter().chain(&files.shared) {
        let mut source = match from.read(path) {
            // The node has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        bytes += io::copy(&mut (&mut source).take(SNAPSHOT_BYTES_MAX + 1), &mut to.create(path)?)?;
        if bytes > SNAPSHOT_BYTES_MAX {
            let limit = "more than 256 MiB, which is too much to be kept for `file-restore`";
            return Err(io::Error::other(limit));
        }
    }
    Ok(())
}

/// Kills the nodes and begins to change their files.
pub fn apply(
    tools: &Tools,
    pages: &Arc<Pages>,
    snapshots: &Arc<Snapshots>,
    order: &Order,
    kind: &DiskFault,
) -> Result<Applied, String> {
    let nodes = &order.resolved.nodes;
    if matches!(kind, DiskFault::DiskLoseUnsynced { .. }) {
        for node in nodes {
            if let Some(problem) = shim::journal_problem(pages.obeyed(tools, node)?, node) {
                return Err(problem);
            }
        }
    }
    if matches!(kind, DiskFault::FileRestore { .. }) && snapshots.0.is_empty() {
        return Err(
            "no earlier files were kept: the spec has other faults but no `file-restore`, so add \
                    one to [[nemesis.faults]]"
                .into(),
        );
    }
    let mut monotonic_ns = clock::monotonic_ns();
    for node in nodes {
        if tools.cluster.is_up(node) {
            monotonic_ns = tools.cluster.kill(node).map_err(|error| format!("{node}: {error}"))?;
        }
    }
    let work = Work {
        tools: tools.clone(),
        snapshots: Arc::clone(snapshots),
        kind: kind.clone(),
        nodes: nodes.clone(),
        stream: tools.seed.stream("late-files", u64::from(order.fault.id)),
        left: Arc::default(),
    };
    let done: Arc<Mutex<Outcome>> = Arc::default();
    let left = Arc::clone(&work.left);
    let outcome = Arc::clone(&done);
    let thread = std::thread::Builder::new()
        .name("files".into())
        .spawn(move || {
            let result = work.run();
            *lock(&outcome) = Some(result);
        })
        .map_err(|error| error.to_string())?;
    let fault = AppliedToFiles {
        cluster: Arc::clone(&tools.cluster),
        nodes: nodes.clone(),
        files: kind.files().to_vec(),
        done,
        left,
        thread: Mutex::new(Some(thread)),
    };
    Ok(Applied { monotonic_ns, decided: Vec::new(), fault: Arc::new(fault) })
}

/// What became of the files of each node, once that is known.
type Outcome = Option<Result<Vec<(String, Changes)>, String>>;

struct Work {
    tools: Tools,
    snapshots: Arc<Snapshots>,
    kind: DiskFault,
    nodes: Vec<String>,
    stream: Stream,
    /// Which files were left alone, and why.
    left: Arc<Mutex<Vec<String>>>,
}

impl Work {
    fn run(mut self) -> Result<Vec<(String, Changes)>, String> {
        let mut all = Vec::new();
        for node in self.nodes.clone() {
            self.await_end(&node)?;
            let changes =
                self.change(&node).map_err(|error| format!("files of {node}: {error}"))?;
            all.push((node, changes));
        }
        Ok(all)
    }

    fn await_end(&self, node: &str) -> Result<(), String> {
        let deadline = Instant::now() + GONE_MAX;
        while self.tools.cluster.is_up(node) {
            if Instant::now() > deadline {
                return Err(format!("{node} was killed and is still there after {GONE_MAX:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn change(&mut self, node: &str) -> io::Result<Changes> {
        let run_dir = &self.tools.run_dir;
        // Refuses a data folder that the node has replaced by a link: what is behind it is not of the run.
        let tree = Tree::open(run_dir, &data_of(node))?;
        let patterns = patterns(self.kind.files());
        let wanted = |inner: &Path| {
            let inner = inner.as_os_str().as_encoded_bytes();
            inner != PROBE_FILE.as_bytes()
                && patterns.iter().any(|pattern| glob::fits(pattern.as_bytes(), inner))
        };
        match &self.kind {
            DiskFault::DiskLoseUnsynced { lost, .. } => {
                let folder = run_dir.join("nodes").join(node);
                let root = folder.join("data").canonicalize()?;
                let inner = |path: &Path| path.strip_prefix(&root).map(Path::to_owned).ok();
                let undone =
                    rollback::undo(&shim::folder_of(&folder), &root, how(*lost), |path| {
                        inner(path).is_some_and(|inner| wanted(&inner))
                    })?;
                let told = |path: PathBuf| inner(&path).unwrap_or(path).display().to_string();
                Ok(undone.into_iter().map(|(path, what)| (told(path), what)).collect())
            }
            DiskFault::FileFlip { probability, .. } => {
                let (probability, files) = (*probability, tree.files(&wanted)?);
                self.leave(node, &files.shared);
                flip(&tree, &files.own, probability, &mut self.stream)
            }
            DiskFault::FileTruncate { drop_bytes, .. } => {
                let (drop_bytes, files) = (*drop_bytes, tree.files(&wanted)?);
                self.leave(node, &files.shared);
                truncate(&tree, &files.own, drop_bytes)
            }
            DiskFault::FileRestore { .. } => {
                let Some(earlier) = self.snapshots.0.get(node) else { return Ok(Changes::new()) };
                let earlier = Tree::open(run_dir, earlier)?;
                let kept = earlier.files(&wanted)?.own;
                let files = tree.files(&wanted)?;
                let files: Vec<PathBuf> = files.own.into_iter().chain(files.shared).collect();
                restore(&tree, &files, &earlier, &kept)
            }
            // They act in a running node.
            _ => Ok(Changes::new()),
        }
    }

    /// Files with a further name elsewhere are not of the run alone, so they stay as they are.
    fn leave(&mut self, node: &str, shared: &[PathBuf]) {
        if let Some(first) = shared.first() {
            let more = shared.len() - 1;
            let text = format!(
                "{node}: {} {}has another name (a hard link) outside of the data folder",
                first.display(),
                if more > 0 { format!("and {more} more: each ") } else { String::new() },
            );
            lock(&self.left).push(text);
        }
    }
}

fn how(lost: Unsynced) -> Lost {
    match lost {
        Unsynced::Tail => Lost::Tail,
        Unsynced::All => Lost::All,
        Unsynced::RenameBarrier => Lost::SinceRename,
    }
}

/// Flips each bit with a probability.
fn flip(
    tree: &Tree,
    files: &[PathBuf],
    probability: f64,
    stream: &mut Stream,
) -> io::Result<Changes> {
    let mut changes = Changes::new();
    for path in files {
        let mut file = tree.change(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (mut bit, mut count) = (draw::geometric(stream, probability) as u64, 0u64);
        while let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| bytes.get_mut(at)) {
            *byte ^= 1 << (bit % 8);
            count += 1;
            bit = bit.saturating_add(1 + draw::geometric(stream, probability) as u64);
        }
        if count > 0 {
            file.write_all_at(&bytes, 0)?;
            changes.insert(path.display().to_string(), format!("{count} bits flipped"));
        }
    }
    Ok(changes)
}

fn truncate(tree: &Tree, files: &[PathBuf], drop_bytes: u64) -> io::Result<Changes> {
    let mut changes = Changes::new();
    for path in files {
        let file = tree.change(path)?;
        let length = file.metadata()?.len();
        if length > 0 {
            let left = length.saturating_sub(drop_bytes);
            file.set_len(left)?;
            changes.insert(path.display().to_string(), format!("{left} of {length} bytes left"));
        }
    }
    Ok(changes)
}

/// Gives files their earlier contents, and removes those that were not there. Each is a new file: one that
/// has a further name elsewhere keeps its content there.
fn restore(
    tree: &Tree,
    files: &[PathBuf],
    earlier: &Tree,
    kept: &[PathBuf],
) -> io::Result<Changes> {
    let mut changes = Changes::new();
    for path in files.iter().filter(|path| !kept.contains(path)) {
        tree.remove(path)?;
        changes.insert(path.display().to_string(), "gone: it was not there earlier".into());
    }
    for path in kept {
        let old = content(earlier.read(path)?)?;
        let new = tree.read(path).and_then(content).ok();
        if new.as_ref() == Some(&old) {
            continue;
        }
        match tree.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => tree.create(path)?.write_all_at(&old, 0)?,
        }
        let before = new.map_or("gone".into(), |new| format!("{} bytes", new.len()));
        let text = format!("{} bytes as earlier, in place of {before}", old.len());
        changes.insert(path.display().to_string(), text);
    }
    Ok(changes)
}

fn content(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

struct AppliedToFiles {
    cluster: Arc<Cluster>,
    nodes: Vec<String>,
    /// As the fault has them.
    files: Vec<String>,
    done: Arc<Mutex<Outcome>>,
    left: Arc<Mutex<Vec<String>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl AppliedFault for AppliedToFiles {
    fn observe(&self, _now_ns: u64) -> Option<Seen> {
        let done = lock(&self.done);
        let Some(Ok(all)) = &*done else { return None };
        if all.iter().any(|(_, changes)| changes.is_empty()) {
            return None;
        }
        let told = all.iter().map(|(node, changes)| {
            let mut files: Vec<String> = changes
                .iter()
                .take(TOLD_MAX)
                .map(|(file, what)| format!("{file} {what}"))
                .collect();
            if changes.len() > TOLD_MAX {
                files.push(format!("{} more files", changes.len() - TOLD_MAX));
            }
            format!("{node}: {}", files.join(", "))
        });
        let mut text = told.collect::<Vec<_>>().join("; ");
        for left in lock(&self.left).iter() {
            text.push_str(&format!("; left alone: {left}"));
        }
        let files = all.iter().map(|(node, changes)| {
            let files = changes
                .iter()
                .map(|(file, what)| (Value::str(file.as_str()), Value::str(what.as_str())));
            (Value::str(node.as_str()), Value::map(files.collect::<Vec<_>>()))
        });
        let evidence = map([("files", Value::map(files.collect::<Vec<_>>()))]);
        Some(Seen { text, evidence })
    }

    fn why_not(&self) -> String {
        match &*lock(&self.done) {
            None => "the files were not changed yet".into(),
            Some(Err(reason)) => reason.clone(),
            Some(Ok(_)) if !lock(&self.left).is_empty() => {
                format!("files were left alone, since {}", lock(&self.left).join("; "))
            }
            Some(Ok(all)) => {
                let unchanged = all.iter().filter(|(_, changes)| changes.is_empty());
                let nodes: Vec<&str> = unchanged.map(|(node, _)| node.as_str()).collect();
                format!(
                    "nothing changed in the files of {} that it is about ({}); they must be below the folder that the \
                     node works in, which commands and environment know as {{data_dir}}",
                    nodes.join(", "),
                    self.files.join(", ")
                )
            }
        }
    }

    fn heal(&self, _at_ns: Option<u64>) -> Result<u64, String> {
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
        let mut monotonic_ns = clock::monotonic_ns();
        for node in &self.nodes {
            let started = self.cluster.start_if_down(node);
            monotonic_ns = started.map_err(|error| format!("{node}: {error}"))?;
        }
        Ok(monotonic_ns)
    }

    fn observe_heal(&self) -> Option<Seen> {
        let answers = |node: &String| self.cluster.is_up(node) && self.cluster.answers(node);
        let all = self.nodes.iter().all(answers);
        all.then(|| Seen::new(format!("{} answers again", self.nodes.join(", "))))
    }

    fn revived(&self) -> &[String] {
        &self.nodes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use fuzz_dist_core::seed::Seed;
    use std::fs;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn tree(root: &Path) -> Tree {
        Tree::open(root, Path::new("")).unwrap()
    }

    fn all(root: &Path) -> Vec<PathBuf> {
        tree(root).files(&|_| true).unwrap().own
    }

    #[test]
    fn bits_are_flipped_with_the_probability_that_was_asked() {
        let (size, probability) = (200_000, 0.01);
        let root = folder(&[("M/t.DCD", &vec![0; size]), ("empty", b"")]);
        let mut stream = Seed(7).stream("test", 1);
        let changes =
            flip(&tree(root.path()), &all(root.path()), probability, &mut stream).unwrap();
        assert_eq!(changes.keys().collect::<Vec<_>>(), ["M/t.DCD"]);
        let bytes = fs::read(root.path().join("M/t.DCD")).unwrap();
        let flipped: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        let wanted = size as f64 * 8.0 * probability;
        assert!((f64::from(flipped) - wanted).abs() < wanted * 0.1, "{flipped} of {wanted}");
        flip(&tree(root.path()), &all(root.path()), 1.0, &mut stream).unwrap();
        let again = fs::read(root.path().join("M/t.DCD")).unwrap();
        assert!(bytes.iter().zip(&again).all(|(a, b)| *a == !*b));
    }

    #[test]
    fn files_are_cut_and_never_below_nothing() {
        let root = folder(&[("long", b"0123456789"), ("short", b"012"), ("empty", b"")]);
        let changes = truncate(&tree(root.path()), &all(root.path()), 4).unwrap();
        assert_eq!(changes.keys().collect::<Vec<_>>(), ["long", "short"]);
        assert_eq!(fs::read(root.path().join("long")).unwrap(), b"012345");
        assert_eq!(fs::read(root.path().join("short")).unwrap(), b"");
    }

    #[test]
    fn files_are_as_they_were_earlier() {
        let root = folder(&[("M/a", b"1"), ("same", b"s")]);
        let earlier = tempfile::tempdir().unwrap();
        copy_tree(&tree(root.path()), &tree(earlier.path())).unwrap();
        fs::write(root.path().join("M/a"), "22").unwrap();
        fs::write(root.path().join("new"), "n").unwrap();
        let kept = all(earlier.path());
        let changes =
            restore(&tree(root.path()), &all(root.path()), &tree(earlier.path()), &kept).unwrap();
        assert_eq!(changes.keys().collect::<Vec<_>>(), ["M/a", "new"]);
        assert_eq!(fs::read(root.path().join("M/a")).unwrap(), b"1");
        assert!(!root.path().join("new").exists());
    }

    #[test]
    fn what_has_a_name_elsewhere_is_never_changed() {
        let elsewhere = folder(&[("template", b"0123456789")]);
        let root = folder(&[("own", b"0123456789")]);
        let earlier = folder(&[("own", b"own"), ("linked", b"earlier")]);
        let victim = elsewhere.path().join("template");
        fs::hard_link(&victim, root.path().join("linked")).unwrap();
        std::os::unix::fs::symlink(&victim, root.path().join("symlink")).unwrap();
        let mut stream = Seed(7).stream("test", 1);
        flip(&tree(root.path()), &all(root.path()), 1.0, &mut stream).unwrap();
        truncate(&tree(root.path()), &all(root.path()), 4).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"0123456789");
        assert_eq!(fs::read(root.path().join("own")).unwrap().len(), 6);
        let (kept, found) = (all(earlier.path()), tree(root.path()).files(&|_| true).unwrap());
        let files = [found.own, found.shared].concat();
        restore(&tree(root.path()), &files, &tree(earlier.path()), &kept).unwrap();
        assert_eq!(fs::read(root.path().join("linked")).unwrap(), b"earlier");
        assert_eq!(fs::read(&victim).unwrap(), b"0123456789");
    }
}
