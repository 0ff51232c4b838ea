//! Which file below the data folder a descriptor or a path means. Nothing is allocated.

use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;

use crate::attach;

const PATH_BYTES_MAX: usize = 4096;

/// A path in a buffer.
#[derive(Debug)]
pub struct Path {
    bytes: [u8; PATH_BYTES_MAX],
    length: usize,
}

impl Path {
    fn new() -> Path {
        Path { bytes: [0; PATH_BYTES_MAX], length: 0 }
    }

    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        // One byte is left for the NUL.
        let end = self.length + bytes.len();
        let place = self.bytes[..PATH_BYTES_MAX - 1].get_mut(self.length..end)?;
        place.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }

    fn read_link(&mut self, link: &CStr) -> Option<()> {
        // SAFETY: at most so many bytes are written.
        let length = unsafe {
            libc::readlink(link.as_ptr(), self.bytes.as_mut_ptr().cast(), PATH_BYTES_MAX - 1)
        };
        self.length = usize::try_from(length).ok()?;
        Some(())
    }

    /// The whole path.
    pub fn whole(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The whole path with its NUL.
    pub fn as_ptr(&self) -> *const c_char {
        self.bytes.as_ptr().cast()
    }

    /// Below the data folder.
    pub fn inner(&self) -> Option<&[u8]> {
        self.whole().strip_prefix(attach::root())?.strip_prefix(b"/")
    }

    fn if_inner(self) -> Option<Path> {
        self.inner().is_some().then_some(self)
    }
}

/// The file behind a descriptor, also after it was renamed; `None` if it is none below the data folder.
pub fn of_descriptor(descriptor: c_int) -> Option<Path> {
    let link = link_of(descriptor)?;
    let mut path = Path::new();
    path.read_link(CStr::from_bytes_until_nul(&link).ok()?)?;
    path.if_inner()
}

/// `/proc/self/fd/N`.
pub fn link_of(descriptor: c_int) -> Option<[u8; 32]> {
    let mut number = u32::try_from(descriptor).ok()?;
    let mut link = [0u8; 32];
    let front = b"/proc/self/fd/";
    link.get_mut(..front.len())?.copy_from_slice(front);
    let mut digits = [0u8; 10];
    let mut first = digits.len();
    loop {
        first -= 1;
        *digits.get_mut(first)? = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let digits = digits.get(first..)?;
    link.get_mut(front.len()..front.len() + digits.len())?.copy_from_slice(digits);
    Some(link)
}

/// The file at a path that is given to `open` and others; `None` if it is none below the data folder, or
/// has a `..` in it. Symbolic links in it are not followed.
///
/// # Safety
/// The path must be one that libc may be given.
pub unsafe fn of_path(folder: c_int, given: *const c_char) -> Option<Path> {
    if given.is_null() {
        return None;
    }
    // SAFETY: as the caller promised.
    let given = unsafe { CStr::from_ptr(given) }.to_bytes();
    let given = given.strip_prefix(b"./").unwrap_or(given);
    let mut path = Path::new();
    if !given.starts_with(b"/") {
        if folder == libc::AT_FDCWD {
            path.read_link(c"/proc/self/cwd")?;
        } else {
            let link = link_of(folder)?;
            path.read_link(CStr::from_bytes_until_nul(&link).ok()?)?;
        }
        path.push(b"/")?;
    }
    // What leads out of the data folder again is none of its files.
    if given.split(|byte| *byte == b'/').any(|part| part == b"..") {
        return None;
    }
    path.push(given)?;
    if let Some(byte) = path.bytes.get_mut(path.length) {
        *byte = 0;
    }
    path.if_inner()
}

/// What the kernel says of a file.
pub fn stat_descriptor(descriptor: c_int) -> Option<libc::stat> {
    let mut found = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: a place for it, which is written if the call succeeds.
    unsafe { (libc::fstat(descriptor, found.as_mut_ptr()) == 0).then(|| found.assume_init()) }
}

/// What the kernel says of the file at a path.
pub fn stat_path(path: &Path) -> Option<libc::stat> {
    let mut found = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: a path that ends, and a place that is written if the call succeeds.
    unsafe { (libc::stat(path.as_ptr(), found.as_mut_ptr()) == 0).then(|| found.assume_init()) }
}

/// Whether it is a plain file.
pub fn is_file(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFREG
}
