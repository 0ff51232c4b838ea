//! The plain files below one folder, reached without following any link.
//!
//! Faults change files in folders that the system under test may rearrange at any time. Each step from the
//! root to a file is opened relative to the folder before it and refuses a link, so no change reaches a
//! file elsewhere, also if a folder is replaced between a look and the change. A file with a further name
//! (a hard link) that is not below the root is not one of the tree's own: see [`Files::shared`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// How deep folders may nest.
const DEPTH_MAX: usize = 100;

/// A folder that is held open.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

/// What stands below a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Plain files, by their paths below it, sorted.
    pub own: Vec<PathBuf>,
    /// Plain files that have a further name elsewhere.
    pub shared: Vec<PathBuf>,
}

impl Tree {
    /// The folder `below` under `base`. Links in `base` are followed, in `below` they are refused.
    pub fn open(base: &Path, below: &Path) -> io::Result<Tree> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let base = openat(AT_FDCWD, base, flags, Mode::empty())?;
        Tree { root: base }.folder(below).map(|root| Tree { root })
    }

    /// All plain files for which `wanted` holds. What vanishes meanwhile is left out.
    pub fn files(&self, wanted: &dyn Fn(&Path) -> bool) -> io::Result<Files> {
        let mut found: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
        let mut names: BTreeMap<u64, u64> = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(inner) = folders.pop() {
            let Some(folder) = gone(self.folder(&inner))? else { continue };
            for name in names_in(&folder)? {
                let path = inner.join(&name);
                let Some(kind) = gone(look(&folder, &name))? else { continue };
                if kind.is_dir() && path.components().count() <= DEPTH_MAX {
                    folders.push(path);
                } else if kind.is_file() {
                    *names.entry(kind.ino()).or_default() += 1;
                    found.insert(path, (kind.ino(), kind.nlink()));
                }
            }
        }
        let mut files = Files::default();
        for (path, (inode, links)) in found.into_iter().filter(|(path, _)| wanted(path)) {
            let is_own = links <= names.get(&inode).copied().unwrap_or_default();
            if is_own { files.own.push(path) } else { files.shared.push(path) }
        }
        Ok(files)
    }

    /// Opens a plain file to read it.
    pub fn read(&self, path: &Path) -> io::Result<File> {
        self.open_file(path, OFlag::O_RDONLY)
    }

    /// Opens a plain file to read and change it.
    pub fn change(&self, path: &Path) -> io::Result<File> {
        self.open_file(path, OFlag::O_RDWR)
    }

    /// Creates a file that is not there, with the folders to it.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        let folder = path.parent().unwrap_or(Path::new(""));
        self.create_folder(folder)?;
        self.open_file(path, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL)
    }

    /// Creates a folder, with those to it; it may be there.
    pub fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut inner = PathBuf::new();
        for name in names_of(path)? {
            let parent = self.folder(&inner)?;
            match mkdirat(&parent, name.as_os_str(), Mode::S_IRWXU) {
                Err(error) if error != nix::errno::Errno::EEXIST => return Err(error.into()),
                _ => inner.push(name),
            }
        }
        self.folder(&inner).map(drop)
    }

    /// Removes a file. What it is a further name of stays.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.place(path)?;
        Ok(unlinkat(&folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?)
    }

    fn open_file(&self, path: &Path, flags: OFlag) -> io::Result<File> {
        let (folder, name) = self.place(path)?;
        let flags =
            flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = File::from(openat(&folder, name.as_os_str(), flags, mode)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a plain file"));
        }
        Ok(file)
    }

    fn place(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let mut names = names_of(path)?;
        let name = names.pop().ok_or_else(|| outside(path))?;
        Ok((self.folder(&names.iter().collect::<PathBuf>())?, name))
    }

    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut folder = self.root.try_clone()?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        for name in names_of(path)? {
            folder =
                openat(&folder, name.as_os_str(), flags, Mode::empty()).map_err(
                    |error| match error {
                        nix::errno::Errno::ELOOP | nix::errno::Errno::ENOTDIR => io::Error::new(
                            io::ErrorKind::NotADirectory,
                            format!("{} is a link or a file, not a folder", path.display()),
                        ),
                        error => error.into(),
                    },
                )?;
        }
        Ok(folder)
    }
}

/// The names on the way; a path that leaves the tree is refused.
fn names_of(path: &Path) -> io::Result<Vec<OsString>> {
    path.components()
        .map(|part| match part {
            Component::Normal(name) => Ok(name.to_owned()),
            _ => Err(outside(path)),
        })
        .collect()
}

fn outside(path: &Path) -> io::Error {
    let text = format!("{} does not name a file below the folder", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn names_in(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let entries = std::fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))?;
    entries.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

/// What a name stands for, itself and not what a link leads to.
fn look(folder: &OwnedFd, name: &OsString) -> io::Result<std::fs::Metadata> {
    let place = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    std::fs::symlink_metadata(place)
}

fn gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_lead_nowhere_and_shared_files_are_told_apart() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        fs::create_dir_all(path("data/M")).unwrap();
        fs::create_dir(path("elsewhere")).unwrap();
        for file in ["data/a", "data/M/b", "data/template", "elsewhere/victim"] {
            fs::write(path(file), file).unwrap();
        }
        symlink(path("elsewhere"), path("data/folder_link")).unwrap();
        symlink(path("elsewhere/victim"), path("data/file_link")).unwrap();
        fs::hard_link(path("elsewhere/victim"), path("data/M/shared")).unwrap();
        fs::hard_link(path("data/a"), path("data/M/twice")).unwrap();
        nix::unistd::mkfifo(&path("data/fifo"), Mode::S_IRWXU).unwrap();

        let tree = Tree::open(scratch.path(), Path::new("data")).unwrap();
        let files = tree.files(&|_| true).unwrap();
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(files.own, paths(&["M/b", "M/twice", "a", "template"]));
        assert_eq!(files.shared, paths(&["M/shared"]));
        for refused in ["folder_link/victim", "file_link", "../elsewhere/victim", "fifo", "M", ""] {
            assert!(tree.change(Path::new(refused)).is_err(), "{refused}");
            assert!(tree.create(Path::new(refused)).is_err(), "{refused}");
        }
        assert!(tree.remove(Path::new("folder_link/victim")).is_err());
        assert!(path("elsewhere/victim").exists());
        let mut text = String::new();
        tree.read(Path::new("M/b")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "data/M/b");
        tree.create(Path::new("new/file")).unwrap();
        tree.remove(Path::new("M/b")).unwrap();
        assert!(path("data/new/file").exists() && !path("data/M/b").exists());
    }

    #[test]
    fn a_folder_that_was_replaced_by_a_link_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("elsewhere")).unwrap();
        symlink("elsewhere", scratch.path().join("data")).unwrap();
        let error = Tree::open(scratch.path(), Path::new("data")).unwrap_err();
        assert!(error.to_string().contains("is a link"), "{error}");
        // One that is replaced later is still the one that was opened.
        fs::create_dir(scratch.path().join("node")).unwrap();
        fs::write(scratch.path().join("node/f"), "").unwrap();
        let tree = Tree::open(scratch.path(), Path::new("node")).unwrap();
        fs::rename(scratch.path().join("node"), scratch.path().join("moved")).unwrap();
        symlink("elsewhere", scratch.path().join("node")).unwrap();
        assert_eq!(tree.files(&|_| true).unwrap().own, [PathBuf::from("f")]);
    }
}
