//! Writes down what the node does to files, before it is done, so that it can be undone.
//!
//! One lock is held over the record and what it tells. This is the slow path: it is taken only while a journal is
//! asked for, and only for plain files below the data folder.

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use fuzz_dist_shim_page::journal::{BROKEN, BYTES_MAX, HEADER_BYTES, Header, Kind, ON};
use fuzz_dist_shim_page::{JOURNAL_FILE, Page, SAVED_FOLDER};
use libc::iovec;

use crate::path::{self, Path};
use crate::{attach, real};

/// Above those that a BEAM takes by itself, so that traces and `lsof` stay readable.
const DESCRIPTOR_MIN: c_int = 900;

/// Bytes of a file in one record.
const IMAGE_BYTES_MAX: u64 = 4 << 20;

static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);
static SAVED: OnceLock<Vec<u8>> = OnceLock::new();
static SAVED_COUNT: AtomicU64 = AtomicU64::new(0);
static LOCK: Mutex<()> = Mutex::new(());

/// Opens the journal in the folder, if one is asked for.
pub fn open(page: &Page, folder: &OsStr) {
    if page.journal.load(Ordering::Acquire) != ON {
        return;
    }
    let join = |name: &str| [folder.as_bytes(), b"/", name.as_bytes(), b"\0"].concat();
    let (file, saved) = (join(JOURNAL_FILE), join(SAVED_FOLDER));
    SAVED.get_or_init(|| saved);
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
    // SAFETY: a path that ends; the descriptor is moved and the first one closed.
    let moved = unsafe {
        let opened = real::open(file.as_ptr().cast(), flags, 0o600);
        if opened < 0 {
            // With the reason in errno, which the calls below would replace.
            break_off(page);
            return;
        }
        let moved = libc::fcntl(opened, libc::F_DUPFD_CLOEXEC, DESCRIPTOR_MIN);
        let kept = if moved < 0 { opened } else { moved };
        if kept == moved {
            real::close(opened);
        }
        kept
    };
    if moved < 0 {
        break_off(page);
    }
    DESCRIPTOR.store(moved, Ordering::Release);
}

/// A place in the order of what is done. While it lives, nothing else is done to files.
#[derive(Debug)]
pub struct Turn {
    page: &'static Page,
    _guard: MutexGuard<'static, ()>,
}

/// A turn, if a journal is written.
pub fn turn() -> Option<Turn> {
    let page = attach::page().filter(|page| page.journal.load(Ordering::Relaxed) == ON)?;
    Some(Turn { page, _guard: LOCK.lock().unwrap_or_else(PoisonError::into_inner) })
}

impl Turn {
    /// Before `count` bytes are put at an offset, or at the end where `None`.
    pub fn write(&self, descriptor: c_int, offset: Option<u64>, count: usize) {
        let Some(stat) = path::stat_descriptor(descriptor).filter(path::is_file) else { return };
        let old_size = stat.st_size as u64;
        let offset = offset.unwrap_or(old_size).min(old_size);
        let header = Header { offset, old_size, ..Header::new(Kind::Write, stat.st_ino) };
        self.with_image(descriptor, header, (old_size - offset).min(count as u64));
    }

    /// After bytes were put into it: durable already if it was opened so.
    pub fn written(&self, descriptor: c_int) {
        // SAFETY: it only reads flags.
        let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFL) };
        if flags >= 0 && flags & libc::O_DSYNC != 0 {
            self.synced(descriptor);
        }
    }

    /// Before a file gets this length.
    pub fn truncate(&self, descriptor: c_int, new_size: u64) {
        let Some(stat) = path::stat_descriptor(descriptor).filter(path::is_file) else { return };
        let old_size = stat.st_size as u64;
        let offset = new_size.min(old_size);
        let header =
            Header { offset, old_size, new_size, ..Header::new(Kind::Truncate, stat.st_ino) };
        self.with_image(descriptor, header, old_size - offset);
    }

    /// Before a file is emptied by the `open` that is about to happen.
    pub fn empty(&self, path: &Path) {
        // SAFETY: a path that ends.
        let descriptor = unsafe { real::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0) };
        if descriptor >= 0 {
            self.truncate(descriptor, 0);
            // SAFETY: it was opened here.
            unsafe { real::close(descriptor) };
        }
    }

    /// After it was synced.
    pub fn synced(&self, descriptor: c_int) {
        if let Some(stat) = path::stat_descriptor(descriptor).filter(path::is_file) {
            self.append(Header::new(Kind::Sync, stat.st_ino), &[]);
        }
    }

    /// After it was created.
    pub fn created(&self, descriptor: c_int, path: &Path) {
        if let Some(stat) = path::stat_descriptor(descriptor).filter(path::is_file) {
            self.append(Header::new(Kind::Create, stat.st_ino), &[path.whole()]);
        }
    }

    /// Before it is renamed.
    pub fn rename(&self, from: &Path, to: &Path) {
        let Some(stat) = path::stat_path(from).filter(path::is_file) else { return };
        let mut name = [0; 24];
        let saved = self.save(to, &mut name);
        let carried: [&[u8]; 5] = [from.whole(), b"\0", to.whole(), b"\0", saved];
        self.append(Header::new(Kind::Rename, stat.st_ino), &carried);
    }

    /// Before it is removed.
    pub fn unlink(&self, path: &Path) {
        let Some(stat) = path::stat_path(path).filter(path::is_file) else { return };
        let mut name = [0; 24];
        let saved = self.save(path, &mut name);
        self.append(Header::new(Kind::Unlink, stat.st_ino), &[path.whole(), b"\0", saved]);
    }

    /// Keeps a file that is about to lose its name; under which, or nothing if there is none.
    fn save<'n>(&self, file: &Path, name: &'n mut [u8; 24]) -> &'n [u8] {
        let (Some(stat), Some(folder)) = (path::stat_path(file).filter(path::is_file), SAVED.get())
        else {
            return &[];
        };
        let number = SAVED_COUNT.fetch_add(1, Ordering::Relaxed);
        let mut kept = folder.strip_suffix(b"\0").unwrap_or(folder).to_vec();
        let text = number.to_string();
        kept.extend([b"/", text.as_bytes(), b"\0"].concat());
        // SAFETY: two paths that end.
        if unsafe { libc::link(file.as_ptr(), kept.as_ptr().cast()) } != 0 {
            break_off(self.page);
            return &[];
        }
        self.grown(stat.st_size as u64);
        let length = text.len().min(name.len());
        let (place, bytes) = (name.get_mut(..length), text.as_bytes().get(..length));
        if let (Some(place), Some(bytes)) = (place, bytes) {
            place.copy_from_slice(bytes);
        }
        name.get(..length).unwrap_or_default()
    }

    /// Appends records with bytes of the file: several for many bytes, so that the node needs no memory
    /// for all of them at once.
    fn with_image(&self, descriptor: c_int, header: Header, count: u64) {
        if count == 0 {
            return self.append(header, &[]);
        }
        if count > BYTES_MAX {
            return break_off(self.page);
        }
        let Some(link) = path::link_of(descriptor) else { return };
        let Ok(link) = CStr::from_bytes_until_nul(&link) else { return };
        // It may have been opened for writing only.
        // SAFETY: a path that ends.
        let reader = unsafe { real::open(link.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0) };
        let mut image = vec![0u8; count.min(IMAGE_BYTES_MAX) as usize];
        let mut done = 0;
        while done < count {
            let length = (count - done).min(IMAGE_BYTES_MAX) as usize;
            let Some(part) = image.get_mut(..length) else { break };
            let offset = header.offset + done;
            // SAFETY: at most so many bytes are written to a place of that length.
            let read = unsafe {
                let place: *mut c_void = part.as_mut_ptr().cast();
                libc::pread(reader, place, length, offset as libc::off_t)
            };
            if usize::try_from(read) != Ok(length) {
                break_off(self.page);
                break;
            }
            self.append(Header { offset, ..header }, &[part]);
            done += length as u64;
        }
        if reader >= 0 {
            // SAFETY: it was opened here.
            unsafe { real::close(reader) };
        }
    }

    fn append(&self, header: Header, carried: &[&[u8]]) {
        let count: usize = carried.iter().map(|part| part.len()).sum();
        let head = Header { carried: count as u64, ..header }.encode();
        let part = |bytes: &[u8]| iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut parts = [part(&[]); 8];
        let all = std::iter::once(head.as_slice()).chain(carried.iter().copied());
        for (place, bytes) in parts.iter_mut().zip(all) {
            *place = part(bytes);
        }
        let descriptor = DESCRIPTOR.load(Ordering::Acquire);
        // SAFETY: parts that live until the call returns.
        let written = unsafe { real::writev(descriptor, parts.as_ptr(), parts.len() as c_int) };
        if written as usize == HEADER_BYTES + count {
            self.grown(written as u64);
        } else {
            break_off(self.page);
        }
    }

    fn grown(&self, bytes: u64) {
        if self.page.journal_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > BYTES_MAX {
            real::set_errno(libc::EFBIG);
            break_off(self.page);
        }
    }
}

/// No journal is better than one with holes.
fn break_off(page: &Page) {
    page.journal_errno.store(real::errno() as u32, Ordering::Relaxed);
    page.journal.store(BROKEN, Ordering::Release);
}
