//! What a node does to files: real, refused, halved or only claimed, and written down if it may have to be undone.
//!
//! Without a fault and a journal, each of these functions is libc's after two loads. With one, the path of the file
//! is asked from the kernel at each call: that costs about a microsecond, and is right also for files that were
//! opened before the fault, or renamed since.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::Ordering;

use fuzz_dist_shim_page::{Operation, Page, Verdict, journal as shared};
use libc::{iovec, mode_t, off_t, size_t, ssize_t, timespec};

use crate::path::{self, Path};
use crate::{attach, journal, real};

/// As many parts of a `writev` as are looked at; a BEAM passes at most so many.
const PARTS_MAX: usize = 1024;

/// The page, if a fault of the disk or a journal may be active.
fn active() -> Option<&'static Page> {
    attach::page().filter(|page| {
        page.disk_active.load(Ordering::Relaxed) != 0
            || page.journal.load(Ordering::Relaxed) == shared::ON
    })
}

fn judge(page: &Page, path: &Path, operation: Operation) -> Verdict {
    if page.disk_active.load(Ordering::Relaxed) == 0 {
        return Verdict::Real;
    }
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the time.
    unsafe { real::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let now_ns = (now.tv_sec * 1_000_000_000 + now.tv_nsec) as u64;
    path.inner().map_or(Verdict::Real, |inner| page.judge(inner, operation, now_ns))
}

/// What a node gets that does this to an open file; `None` if it is no file of ours.
fn judge_open(descriptor: c_int, operation: Operation) -> Option<Verdict> {
    let page = active()?;
    let path = path::of_descriptor(descriptor)?;
    Some(judge(page, &path, operation))
}

fn refuse(errno: c_int) -> c_int {
    real::set_errno(errno);
    -1
}

/// Where a `write` puts its bytes; `None` at the end.
fn position(descriptor: c_int) -> Option<u64> {
    // SAFETY: both only read the state of the descriptor.
    let (flags, at) = unsafe {
        (libc::fcntl(descriptor, libc::F_GETFL), libc::lseek(descriptor, 0, libc::SEEK_CUR))
    };
    if flags & libc::O_APPEND != 0 { None } else { u64::try_from(at).ok() }
}

/// Writes as the page says: `whole` is the real call, `half` one that writes less.
fn put(
    descriptor: c_int,
    count: usize,
    offset: Option<off_t>,
    whole: impl FnOnce() -> ssize_t,
    half: impl FnOnce() -> ssize_t,
) -> ssize_t {
    let Some(verdict) = judge_open(descriptor, Operation::Write) else { return whole() };
    if let Verdict::Fail(errno) = verdict {
        return refuse(errno) as ssize_t;
    }
    let turn = journal::turn();
    if let Some(turn) = &turn {
        let at = offset.map_or_else(|| position(descriptor), |offset| u64::try_from(offset).ok());
        turn.write(descriptor, at, count);
    }
    let written = if verdict == Verdict::Short && count > 1 { half() } else { whole() };
    if let Some(turn) = turn.filter(|_| written >= 0) {
        turn.written(descriptor);
    }
    written
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(descriptor: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: as the caller promised, also of the first half.
    let write = |count| unsafe { real::write(descriptor, bytes, count) };
    put(descriptor, count, None, || write(count), || write(count / 2))
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(
    descriptor: c_int,
    bytes: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: as the caller promised, also of the first half.
    let write = |count| unsafe { real::pwrite(descriptor, bytes, count, offset) };
    put(descriptor, count, Some(offset), || write(count), || write(count / 2))
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    descriptor: c_int,
    bytes: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: as the caller promised; an `off_t` has 64 bits here.
    unsafe { pwrite(descriptor, bytes, count, offset) }
}

/// The parts of a `writev`.
///
/// # Safety
/// As `writev` requires of its arguments.
unsafe fn parts_of<'p>(parts: *const iovec, count: c_int) -> &'p [iovec] {
    match usize::try_from(count) {
        // SAFETY: as the caller promised.
        Ok(count @ 1..=PARTS_MAX) if !parts.is_null() => unsafe {
            std::slice::from_raw_parts(parts, count)
        },
        _ => &[],
    }
}

fn bytes_of(parts: &[iovec]) -> usize {
    parts.iter().map(|part| part.iov_len).sum()
}

/// The first part that is not empty, or half of it if it is the only one.
fn first_of(parts: &[iovec]) -> iovec {
    let empty = iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let first = parts.iter().find(|part| part.iov_len > 0).copied().unwrap_or(empty);
    let only = first.iov_len == bytes_of(parts);
    let iov_len = if only { first.iov_len.div_ceil(2) } else { first.iov_len };
    iovec { iov_len, ..first }
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(descriptor: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: as the caller promised.
    let whole = || unsafe { real::writev(descriptor, parts, count) };
    if active().is_none() {
        return whole();
    }
    // SAFETY: as the caller promised.
    let given = unsafe { parts_of(parts, count) };
    let first = first_of(given);
    // SAFETY: a part of what the caller gave.
    let half = || unsafe { real::write(descriptor, first.iov_base, first.iov_len) };
    put(descriptor, bytes_of(given), None, whole, half)
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(
    descriptor: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off_t,
) -> ssize_t {
    // SAFETY: as the caller promised.
    let whole = || unsafe { real::pwritev(descriptor, parts, count, offset) };
    if active().is_none() {
        return whole();
    }
    // SAFETY: as the caller promised.
    let given = unsafe { parts_of(parts, count) };
    let first = first_of(given);
    // SAFETY: a part of what the caller gave.
    let half = || unsafe { real::pwrite(descriptor, first.iov_base, first.iov_len, offset) };
    put(descriptor, bytes_of(given), Some(offset), whole, half)
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64(
    descriptor: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off_t,
) -> ssize_t {
    // SAFETY: as the caller promised; an `off_t` has 64 bits here.
    unsafe { pwritev(descriptor, parts, count, offset) }
}

fn sync(descriptor: c_int, real: impl FnOnce() -> c_int) -> c_int {
    match judge_open(descriptor, Operation::Sync) {
        None => real(),
        Some(Verdict::Fail(errno)) => refuse(errno),
        Some(Verdict::Lie) => 0,
        Some(Verdict::Real | Verdict::Short) => {
            let turn = journal::turn();
            let status = real();
            if let Some(turn) = turn.filter(|_| status == 0) {
                turn.synced(descriptor);
            }
            status
        }
    }
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(descriptor: c_int) -> c_int {
    // SAFETY: as the caller promised.
    sync(descriptor, || unsafe { real::fsync(descriptor) })
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    // SAFETY: as the caller promised.
    sync(descriptor, || unsafe { real::fdatasync(descriptor) })
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(descriptor: c_int, length: off_t) -> c_int {
    // SAFETY: as the caller promised.
    let real = || unsafe { real::ftruncate(descriptor, length) };
    match judge_open(descriptor, Operation::Truncate) {
        None => real(),
        Some(Verdict::Fail(errno)) => refuse(errno),
        Some(_) => {
            let turn = journal::turn();
            if let (Some(turn), Ok(length)) = (&turn, u64::try_from(length)) {
                turn.truncate(descriptor, length);
            }
            real()
        }
    }
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(descriptor: c_int, length: off_t) -> c_int {
    // SAFETY: as the caller promised; an `off_t` has 64 bits here.
    unsafe { ftruncate(descriptor, length) }
}

/// Reserves room; `failed` gives the answer for an `errno`.
fn allocate(
    descriptor: c_int,
    offset: off_t,
    length: off_t,
    failed: impl FnOnce(c_int) -> c_int,
    real: impl FnOnce() -> c_int,
) -> c_int {
    match judge_open(descriptor, Operation::Allocate) {
        None => real(),
        Some(Verdict::Fail(errno)) => failed(errno),
        Some(_) => {
            let turn = journal::turn();
            if let Some(turn) = &turn {
                let count = usize::try_from(length).unwrap_or(0);
                turn.write(descriptor, u64::try_from(offset).ok(), count);
            }
            real()
        }
    }
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(
    descriptor: c_int,
    mode: c_int,
    offset: off_t,
    length: off_t,
) -> c_int {
    // SAFETY: as the caller promised.
    let real = || unsafe { real::fallocate(descriptor, mode, offset, length) };
    allocate(descriptor, offset, length, refuse, real)
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_fallocate(descriptor: c_int, offset: off_t, length: off_t) -> c_int {
    // SAFETY: as the caller promised.
    let real = || unsafe { real::posix_fallocate(descriptor, offset, length) };
    // Unlike others it answers with the error.
    allocate(descriptor, offset, length, |errno| errno, real)
}

/// Opens: whether a file may be created, and whether what it held is lost.
fn open_with(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    real: impl FnOnce() -> c_int,
) -> c_int {
    if flags & (libc::O_CREAT | libc::O_TRUNC) == 0 {
        return real();
    }
    let Some(page) = active() else { return real() };
    // SAFETY: as the caller of `open` promised.
    let Some(path) = (unsafe { path::of_path(folder, path) }) else { return real() };
    let existed = path::stat_path(&path);
    let creates = flags & libc::O_CREAT != 0 && existed.is_none();
    if creates && let Verdict::Fail(errno) = judge(page, &path, Operation::Create) {
        return refuse(errno);
    }
    let empties = flags & libc::O_TRUNC != 0
        && existed.as_ref().is_some_and(|stat| path::is_file(stat) && stat.st_size > 0);
    if empties && let Verdict::Fail(errno) = judge(page, &path, Operation::Truncate) {
        return refuse(errno);
    }
    let turn = journal::turn();
    if let Some(turn) = turn.as_ref().filter(|_| empties) {
        turn.empty(&path);
    }
    let descriptor = real();
    if let Some(turn) = turn.filter(|_| creates && descriptor >= 0) {
        turn.created(descriptor, &path);
    }
    descriptor
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as the caller promised.
    open_with(libc::AT_FDCWD, path, flags, || unsafe { real::open(path, flags, mode) })
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as the caller promised; an `off_t` has 64 bits here.
    unsafe { open(path, flags, mode) }
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: as the caller promised.
    open_with(folder, path, flags, || unsafe { real::openat(folder, path, flags, mode) })
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: as the caller promised; an `off_t` has 64 bits here.
    unsafe { openat(folder, path, flags, mode) }
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: as the caller promised.
    let real = || unsafe { real::rename(from, to) };
    let Some(page) = active() else { return real() };
    // SAFETY: as the caller promised.
    let (from, to) =
        unsafe { (path::of_path(libc::AT_FDCWD, from), path::of_path(libc::AT_FDCWD, to)) };
    for path in [&from, &to].into_iter().flatten() {
        if let Verdict::Fail(errno) = judge(page, path, Operation::Name) {
            return refuse(errno);
        }
    }
    let turn = journal::turn();
    if let (Some(turn), Some(from), Some(to)) = (&turn, &from, &to) {
        turn.rename(from, to);
    }
    real()
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: as the caller promised.
    let real = || unsafe { real::unlink(path) };
    let Some(page) = active() else { return real() };
    // SAFETY: as the caller promised.
    let Some(path) = (unsafe { path::of_path(libc::AT_FDCWD, path) }) else { return real() };
    if let Verdict::Fail(errno) = judge(page, &path, Operation::Name) {
        return refuse(errno);
    }
    let turn = journal::turn();
    if let Some(turn) = &turn {
        turn.unlink(&path);
    }
    real()
}
