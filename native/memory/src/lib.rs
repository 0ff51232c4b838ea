//! How many bytes the program holds, so that a limit of memory counts everything: histories, tables of
//! checkers, texts.
//!
//! A program that installs [`Counting`] as its global allocator knows the bytes that it has allocated and
//! not freed. Each thread counts for itself and adds what it counted to the common sum every
//! [`BATCH_BYTES`], so that counting costs a nanosecond and threads do not wait for each other. Where
//! the allocator is not installed (tests, benchmarks), [`held_bytes`] is the resident memory of the
//! process, which the kernel counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};

/// How much a thread counts for itself before it tells: the sum is wrong by at most so much for each
/// thread.
const BATCH_BYTES: isize = 64 << 10;

/// Bytes allocated and not freed; 0 as long as nothing is counted.
static HELD: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    /// What this thread has not told yet. Without a destructor, so that it can be used at any time.
    static UNTOLD: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, which counts. Install it with `#[global_allocator]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

#[inline]
fn count(bytes: isize) {
    let untold = UNTOLD.get() + bytes;
    if untold.abs() < BATCH_BYTES {
        UNTOLD.set(untold);
    } else {
        UNTOLD.set(0);
        HELD.fetch_add(untold, Ordering::Relaxed);
    }
}

#[allow(unsafe_code)]
// SAFETY: every method passes its arguments on to `System` as they are and returns what that returns.
// Counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps to the contract of `GlobalAlloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above; `pointer` came from `System`, since all of this allocator's do.
        unsafe { System.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// What the program may hold, see [`set_limit`].
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// The program holds more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// What it may hold.
    pub limit_bytes: u64,
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the memory limit of {} MiB is used up", self.limit_bytes >> 20)
    }
}

impl std::error::Error for Exceeded {}

impl From<Exceeded> for std::io::Error {
    fn from(exceeded: Exceeded) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::OutOfMemory, exceeded)
    }
}

/// Limits what readers of histories may bring in: [`check_limit`] fails from then on when the program
/// holds more.
pub fn set_limit(limit_bytes: u64) {
    LIMIT.store(limit_bytes, Ordering::Relaxed);
}

/// Whether the program keeps to the limit that was set.
pub fn check_limit() -> Result<(), Exceeded> {
    let limit_bytes = LIMIT.load(Ordering::Relaxed);
    if limit_bytes != u64::MAX && held_bytes() > limit_bytes {
        return Err(Exceeded { limit_bytes });
    }
    Ok(())
}

/// Whether [`Counting`] is the program's allocator and has counted anything, so that [`held_bytes`] is exact and cheap.
pub fn is_counted() -> bool {
    HELD.load(Ordering::Relaxed) != 0
}

/// How many bytes the program holds now.
pub fn held_bytes() -> u64 {
    match HELD.load(Ordering::Relaxed) {
        0 => resident_bytes(),
        held => u64::try_from(held).unwrap_or(0),
    }
}

/// The resident memory of the process; 0 where the kernel does not tell.
fn resident_bytes() -> u64 {
    /// Linux on every machine that we build for.
    const PAGE_BYTES: u64 = 4096;
    static STATM: OnceLock<Option<File>> = OnceLock::new();
    let Some(file) = STATM.get_or_init(|| File::open("/proc/self/statm").ok()) else { return 0 };
    let mut text = [0; 128];
    let Ok(length) = file.read_at(&mut text, 0) else { return 0 };
    let text = std::str::from_utf8(&text[..length]).unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}
