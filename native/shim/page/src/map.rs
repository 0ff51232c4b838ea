//! The page as a file that is mapped.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::{MAGIC, Page, VERSION};

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{0} is no control page of this version of fuzz_dist")]
    Foreign(PathBuf),
    /// The data folder cannot be written into it.
    #[error("the path of the data folder is too long: {0}")]
    LongRoot(PathBuf),
}

/// A mapped page.
#[derive(Debug)]
pub struct Mapped(NonNull<Page>);

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Mapped {}
// SAFETY: a page consists of atomics.
unsafe impl Sync for Mapped {}

impl Deref for Mapped {
    type Target = Page;

    fn deref(&self) -> &Page {
        // SAFETY: mapped for as long as this value lives, as long as a page, and every bit pattern is a page.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: what `map` mapped, and nobody refers to it any longer.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Page>()) };
    }
}

impl Mapped {
    /// Creates the file, without faults, for a node whose data folder is `root`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &Path, root: &Path) -> Result<Mapped, PageError> {
        let failed = |source| PageError::File { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path);
        let file = file.map_err(failed)?;
        // Real blocks: a full disk is an error here, and not SIGBUS at the first touch of a hole.
        // SAFETY: a call on an open descriptor.
        let refused =
            unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, size_of::<Page>() as libc::off_t) };
        if refused != 0 {
            return Err(failed(io::Error::from_raw_os_error(refused)));
        }
        let page = map(&file).map_err(failed)?;
        if !page.root.write([root.as_os_str().as_bytes()]) {
            return Err(PageError::LongRoot(root.to_owned()));
        }
        page.version.store(VERSION, Ordering::Relaxed);
        page.magic.store(MAGIC, Ordering::Release);
        Ok(page)
    }

    /// Maps a page that is there.
    ///
    /// # Errors
    /// When it cannot be read, or is another file.
    pub fn open(path: &Path) -> Result<Mapped, PageError> {
        let failed = |source| PageError::File { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() != size_of::<Page>() as u64 {
            return Err(PageError::Foreign(path.to_owned()));
        }
        let page = map(&file).map_err(failed)?;
        if !page.is_ours() {
            return Err(PageError::Foreign(path.to_owned()));
        }
        Ok(page)
    }
}

impl Page {
    fn is_ours(&self) -> bool {
        self.magic.load(Ordering::Acquire) == MAGIC
            && self.version.load(Ordering::Relaxed) == VERSION
    }
}

fn map(file: &File) -> io::Result<Mapped> {
    map_descriptor(file.as_raw_fd()).ok_or_else(io::Error::last_os_error)
}

fn map_descriptor(descriptor: i32) -> Option<Mapped> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let address = unsafe {
        libc::mmap(std::ptr::null_mut(), size_of::<Page>(), access, libc::MAP_SHARED, descriptor, 0)
    };
    if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast()).map(Mapped) }
}

/// Maps the page for the rest of the life of the process, with the `open` and `close` that are given: in the library that defines
/// functions of these names for everybody else. `None` if there is none.
///
/// # Safety
/// The two must be as those of libc.
pub unsafe fn attach(
    path: &CString,
    open: impl FnOnce(*const libc::c_char, libc::c_int) -> libc::c_int,
    close: impl FnOnce(libc::c_int),
) -> Option<&'static Page> {
    let descriptor = open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
    if descriptor < 0 {
        return None;
    }
    // SAFETY: a `stat` is plain numbers, and the descriptor is open.
    let long_enough = unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        libc::fstat(descriptor, &raw mut found) == 0
            && found.st_size as u64 == size_of::<Page>() as u64
    };
    let page = if long_enough { map_descriptor(descriptor) } else { None };
    close(descriptor);
    let page: &'static Mapped = Box::leak(Box::new(page?));
    page.is_ours().then_some(&**page)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// A page in a folder of its own.
    pub fn page() -> (tempfile::TempDir, Mapped) {
        let folder = tempfile::tempdir().unwrap();
        let page = Mapped::create(&folder.path().join("control"), Path::new("/data")).unwrap();
        (folder, page)
    }

    #[test]
    fn both_see_the_same_page_and_other_files_are_refused() {
        let (folder, page) = page();
        let path = folder.path().join("control");
        let other = Mapped::open(&path).unwrap();
        page.pid.store(77, Ordering::Relaxed);
        assert_eq!(other.pid.load(Ordering::Relaxed), 77);
        assert_eq!(crate::text::parts(&other.root.copy()).next(), Some(&b"/data"[..]));

        other.version.store(VERSION + 1, Ordering::Relaxed);
        let foreign = Mapped::open(&path).unwrap_err().to_string();
        assert!(foreign.contains("is no control page"), "{foreign}");
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(Mapped::open(&path), Err(PageError::Foreign(_))));
        assert!(matches!(Mapped::open(&folder.path().join("none")), Err(PageError::File { .. })));
        let long = PathBuf::from("x".repeat(3000));
        assert!(matches!(Mapped::create(&path, &long), Err(PageError::LongRoot(_))));
    }
}
