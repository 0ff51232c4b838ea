//! Takes from the files of a killed node what it had not synced, by its [journal](crate::journal).
//!
//! A kill alone loses nothing: what was written is in the memory of the kernel. A machine that loses its power
//! loses what no sync has made durable, and how much of that depends on the file system: hence [`Lost`].
//!
//! Limits: what was there when the node was started counts as durable. A sync makes durable the file that it is about,
//! its creation and its renames, not the folder. Not known are writes through `mmap`, `copy_file_range` and by other
//! processes, folders, links and attributes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::journal::{self, Kind, Record};
use crate::{JOURNAL_FILE, SAVED_FOLDER};

/// What is lost of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// What was appended to files.
    Tail,
    /// Everything: contents, lengths, new files, renames, removals.
    All,
    /// Contents and lengths since the last sync or rename of a file. Names are as they were given.
    SinceRename,
}

/// What became of a file, by its path.
pub type Changes = BTreeMap<PathBuf, String>;

/// Undoes it in the files below `root` that are wanted, by the journal in `folder`.
///
/// # Errors
/// When a file cannot be read or written; some of it may be undone by then.
pub fn undo(
    folder: &Path,
    root: &Path,
    lost: Lost,
    wanted: impl Fn(&Path) -> bool,
) -> io::Result<Changes> {
    let bytes = match fs::read(folder.join(JOURNAL_FILE)) {
        Ok(bytes) => bytes,
        // It was never started with one, so it has written nothing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Changes::new()),
        Err(error) => return Err(error),
    };
    let mut undoing = Undoing {
        root: root.to_owned(),
        saved: folder.join(SAVED_FOLDER),
        lost,
        wanted,
        paths: HashMap::new(),
        durable: HashSet::new(),
        tails: HashMap::new(),
        sizes: HashMap::new(),
        changes: Changes::new(),
    };
    let mut links = HashMap::new();
    undoing.find(root, &mut links)?;
    undoing.leave_shared(&links);
    for record in journal::read(&bytes).iter().rev() {
        undoing.step(record)?;
    }
    undoing.cut()?;
    Ok(undoing.changes)
}

struct Undoing<W> {
    root: PathBuf,
    saved: PathBuf,
    lost: Lost,
    wanted: W,
    /// Where each file is at the moment that was gone back to.
    paths: HashMap<u64, PathBuf>,
    /// Files that were synced after that moment.
    durable: HashSet<u64>,
    /// How long files were when they were last synced.
    tails: HashMap<u64, u64>,
    /// How long the node had left files.
    sizes: HashMap<u64, u64>,
    changes: Changes,
}

impl<W: Fn(&Path) -> bool> Undoing<W> {
    /// Plain files below a folder, and for each inode how many names it has, and how many of them here.
    fn find(&mut self, folder: &Path, links: &mut HashMap<u64, (u64, u64)>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let (path, kind) = {
                let entry = entry?;
                (entry.path(), entry.file_type()?)
            };
            if kind.is_dir() {
                self.find(&path, links)?;
            } else if kind.is_file() {
                let found = fs::symlink_metadata(&path)?;
                links.entry(found.ino()).or_insert((found.nlink(), 0)).1 += 1;
                self.paths.insert(found.ino(), path);
            }
        }
        Ok(())
    }

    /// A file that has a further name elsewhere is not of the node alone, so it stays as it is.
    fn leave_shared(&mut self, links: &HashMap<u64, (u64, u64)>) {
        self.paths.retain(|inode, _| links.get(inode).is_some_and(|(all, here)| all <= here));
    }

    /// A path of the journal that leads to a place below the root without a link or `..` on the way.
    fn is_own(&self, path: &Path) -> bool {
        let parent = path.parent().and_then(|parent| Some((parent, parent.canonicalize().ok()?)));
        path.file_name().is_some()
            && parent.is_some_and(|(parent, real)| parent == real && real.starts_with(&self.root))
    }

    fn step(&mut self, record: &Record<'_>) -> io::Result<()> {
        let inode = record.header.inode;
        let durable = self.durable.contains(&inode);
        match (record.header.kind, self.lost) {
            (Kind::Sync, _) => {
                self.durable.insert(inode);
            }
            (Kind::Rename, Lost::SinceRename) => {
                self.durable.insert(inode);
            }
            (Kind::Write | Kind::Truncate, _) if durable => {}
            (Kind::Write | Kind::Truncate, Lost::Tail) => {
                let header = &record.header;
                let truncated = header.kind == Kind::Truncate;
                let size =
                    if truncated { header.old_size.min(header.new_size) } else { header.old_size };
                self.tails.entry(inode).and_modify(|tail| *tail = size.min(*tail)).or_insert(size);
            }
            (Kind::Write | Kind::Truncate, _) => self.put_back(record)?,
            (Kind::Create, Lost::All) if !durable => self.uncreate(record)?,
            (Kind::Rename, Lost::All) if !durable => self.rename_back(record)?,
            (Kind::Unlink, Lost::All) => self.bring_back(record)?,
            (Kind::Create | Kind::Rename | Kind::Unlink, _) => {}
        }
        Ok(())
    }

    /// Where the file of a record is, if it is one that is wanted.
    fn target(&self, inode: u64) -> Option<PathBuf> {
        self.paths.get(&inode).filter(|path| (self.wanted)(path)).cloned()
    }

    fn put_back(&mut self, record: &Record<'_>) -> io::Result<()> {
        let Some(path) = self.target(record.header.inode) else { return Ok(()) };
        let file = writable(&path, record.header.inode)?;
        let before = file.metadata()?.len();
        if !record.carried.is_empty() {
            file.write_all_at(record.carried, record.header.offset)?;
        }
        file.set_len(record.header.old_size)?;
        // The first step back found it as the node had left it.
        let before = *self.sizes.entry(record.header.inode).or_insert(before);
        let told = format!("{before} bytes, {} when it was last synced", record.header.old_size);
        self.note(&path, told);
        Ok(())
    }

    fn uncreate(&mut self, record: &Record<'_>) -> io::Result<()> {
        let Some(path) = self.target(record.header.inode) else { return Ok(()) };
        fs::remove_file(&path)?;
        self.paths.remove(&record.header.inode);
        self.note(&path, "gone: it was created and never synced".into());
        Ok(())
    }

    fn rename_back(&mut self, record: &Record<'_>) -> io::Result<()> {
        let Some(path) = self.target(record.header.inode) else { return Ok(()) };
        let mut texts = record.texts().map(path_of);
        let (Some(from), Some(to), saved) = (texts.next(), texts.next(), texts.next()) else {
            return Ok(());
        };
        // Something that is durable may have taken its place.
        if path != to || from.exists() || !self.is_own(&from) || !self.is_own(&to) {
            return Ok(());
        }
        fs::rename(&to, &from)?;
        self.paths.insert(record.header.inode, from.clone());
        self.note(&from, format!("no longer renamed to {}", to.display()));
        if let Some(saved) = saved.filter(|saved| !saved.as_os_str().is_empty()) {
            self.link_back(&saved, &to)?;
        }
        Ok(())
    }

    fn bring_back(&mut self, record: &Record<'_>) -> io::Result<()> {
        let mut texts = record.texts().map(path_of);
        let (Some(path), Some(saved)) = (texts.next(), texts.next()) else { return Ok(()) };
        let is_named = !saved.as_os_str().is_empty();
        if (self.wanted)(&path) && self.is_own(&path) && !path.exists() && is_named {
            self.link_back(&saved, &path)?;
        }
        Ok(())
    }

    fn link_back(&mut self, saved: &Path, path: &Path) -> io::Result<()> {
        // The journal names files of its own folder.
        let Some(name) = saved.file_name().filter(|name| Path::new(name) == saved) else {
            return Ok(());
        };
        let saved = self.saved.join(name);
        // Moved, not linked: with a further name it would no longer be the node's alone.
        fs::rename(&saved, path)?;
        self.paths.insert(fs::metadata(path)?.ino(), path.to_owned());
        self.note(path, "there again: its removal was not synced".into());
        Ok(())
    }

    /// Takes off what was appended.
    fn cut(&mut self) -> io::Result<()> {
        for (inode, size) in std::mem::take(&mut self.tails) {
            let Some(path) = self.target(inode) else { continue };
            let file = writable(&path, inode)?;
            let before = file.metadata()?.len();
            if before > size {
                file.set_len(size)?;
                self.note(&path, format!("{before} bytes, {size} when it was last synced"));
            }
        }
        Ok(())
    }

    /// What is told last of a file stays.
    fn note(&mut self, path: &Path, what: String) {
        self.changes.insert(path.to_owned(), what);
    }
}

/// Opens the file itself: not what a link leads to that took its place, nor a FIFO.
fn writable(path: &Path, inode: u64) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.ino() != inode {
        return Err(io::Error::other(format!("{} was replaced meanwhile", path.display())));
    }
    Ok(file)
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::journal::Header;

    /// A node's folders, and a journal as the library would write it.
    struct Node {
        folder: tempfile::TempDir,
        journal: Vec<u8>,
    }

    impl Node {
        fn new() -> Node {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("data")).unwrap();
            fs::create_dir(folder.path().join(SAVED_FOLDER)).unwrap();
            Node { folder, journal: Vec::new() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join("data").join(name)
        }

        fn inode(&self, name: &str) -> u64 {
            fs::metadata(self.path(name)).unwrap().ino()
        }

        fn record(&mut self, header: Header, carried: &[u8]) {
            let header = Header { carried: carried.len() as u64, ..header };
            self.journal.extend(header.encode());
            self.journal.extend(carried);
        }

        fn create(&mut self, name: &str) {
            fs::write(self.path(name), "").unwrap();
            let path = self.path(name).into_os_string();
            self.record(Header::new(Kind::Create, self.inode(name)), path.as_bytes());
        }

        fn write(&mut self, name: &str, offset: u64, bytes: &str) {
            let before = fs::read(self.path(name)).unwrap();
            let end = before.len().min(offset as usize + bytes.len());
            let image = before.get(offset as usize..end).unwrap_or_default().to_vec();
            let old_size = before.len() as u64;
            let header = Header { offset, old_size, ..Header::new(Kind::Write, self.inode(name)) };
            self.record(header, &image);
            let file = writable(&self.path(name), self.inode(name)).unwrap();
            file.write_all_at(bytes.as_bytes(), offset).unwrap();
        }

        fn sync(&mut self, name: &str) {
            self.record(Header::new(Kind::Sync, self.inode(name)), b"");
        }

        fn rename(&mut self, from: &str, to: &str) {
            let saved = if self.path(to).exists() { to } else { "" };
            if !saved.is_empty() {
                let kept = self.folder.path().join(SAVED_FOLDER).join(saved);
                fs::hard_link(self.path(to), kept).unwrap();
            }
            let (a, b) = (self.path(from), self.path(to));
            let carried = format!("{}\0{}\0{saved}", a.display(), b.display());
            self.record(Header::new(Kind::Rename, self.inode(from)), carried.as_bytes());
            fs::rename(a, b).unwrap();
        }

        fn unlink(&mut self, name: &str) {
            fs::hard_link(self.path(name), self.folder.path().join(SAVED_FOLDER).join(name))
                .unwrap();
            let carried = format!("{}\0{name}", self.path(name).display());
            self.record(Header::new(Kind::Unlink, self.inode(name)), carried.as_bytes());
            fs::remove_file(self.path(name)).unwrap();
        }

        /// What is left in the files, by name.
        fn undo(&self, lost: Lost) -> Vec<(String, String)> {
            fs::write(self.folder.path().join(JOURNAL_FILE), &self.journal).unwrap();
            undo(self.folder.path(), &self.path(""), lost, |_| true).unwrap();
            let mut left: Vec<_> = fs::read_dir(self.path(""))
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|entry| {
                    let text = fs::read_to_string(entry.path()).unwrap();
                    (entry.file_name().into_string().unwrap(), text)
                })
                .collect();
            left.sort();
            left
        }
    }

    fn files(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    /// Appended, synced, overwritten and appended again; one that was never synced.
    fn log() -> Node {
        let mut node = Node::new();
        node.create("log");
        node.write("log", 0, "synced");
        node.sync("log");
        node.write("log", 0, "S");
        node.write("log", 6, " tail");
        node.create("new");
        node.write("new", 0, "never");
        node
    }

    #[test]
    fn only_what_was_appended_since_the_last_sync() {
        assert_eq!(log().undo(Lost::Tail), files(&[("log", "Synced"), ("new", "")]));
    }

    #[test]
    fn everything_since_the_last_sync() {
        assert_eq!(log().undo(Lost::All), files(&[("log", "synced")]));
        assert_eq!(log().undo(Lost::SinceRename), files(&[("log", "synced"), ("new", "")]));
    }

    /// As Mnesia replaces a table: write aside, rename over the old one.
    fn replaced(sync: bool) -> Node {
        let mut node = Node::new();
        fs::write(node.path("t.DCD"), "old").unwrap();
        node.create("t.TMP");
        node.write("t.TMP", 0, "new");
        if sync {
            node.sync("t.TMP");
        }
        node.rename("t.TMP", "t.DCD");
        node.write("t.DCD", 3, "+");
        node
    }

    #[test]
    fn a_rename_is_undone_or_a_barrier() {
        assert_eq!(replaced(false).undo(Lost::All), files(&[("t.DCD", "old")]));
        assert_eq!(replaced(false).undo(Lost::SinceRename), files(&[("t.DCD", "new")]));
        assert_eq!(replaced(true).undo(Lost::SinceRename), files(&[("t.DCD", "new")]));
        // The rename came after the sync, so it is not durable; the file is.
        let all = replaced(true).undo(Lost::All);
        assert_eq!(all, files(&[("t.DCD", "old"), ("t.TMP", "new")]));
    }

    #[test]
    fn what_was_removed_is_there_again() {
        let mut node = Node::new();
        fs::write(node.path("a"), "1").unwrap();
        node.write("a", 1, "2");
        node.unlink("a");
        assert_eq!(node.undo(Lost::Tail), []);
        assert_eq!(node.undo(Lost::All), files(&[("a", "1")]));
    }

    #[test]
    fn only_files_that_are_wanted() {
        let node = log();
        fs::write(node.folder.path().join(JOURNAL_FILE), &node.journal).unwrap();
        let wanted = |path: &Path| path.ends_with("new");
        let changes = undo(node.folder.path(), &node.path(""), Lost::All, wanted).unwrap();
        assert_eq!(changes.keys().collect::<Vec<_>>(), [&node.path("new")]);
        assert_eq!(fs::read_to_string(node.path("log")).unwrap(), "Synced tail");
    }

    #[test]
    fn a_file_with_a_name_elsewhere_stays_as_it_is() {
        let mut node = Node::new();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("victim"), "0123456789").unwrap();
        fs::hard_link(elsewhere.path().join("victim"), node.path("shared")).unwrap();
        node.write("shared", 2, "##");
        fs::write(elsewhere.path().join("victim"), "0123456789").unwrap();
        assert_eq!(node.undo(Lost::All), files(&[("shared", "0123456789")]));
        assert_eq!(node.undo(Lost::Tail), files(&[("shared", "0123456789")]));
        assert_eq!(fs::read(elsewhere.path().join("victim")).unwrap(), b"0123456789");
    }
}
