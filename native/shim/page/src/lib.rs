//! What the core and the library that is preloaded into a node share.
//!
//! - [`Page`]: a file that both have mapped. The core writes faults into its slots, the library reads them at each
//!   call that it interposes, and counts there what it faked, which is how the core sees the effect. A slot has a
//!   deadline after which it counts for nothing, so a core that dies leaves no fault behind.
//! - [`journal`]: what a node wrote and had not synced, so that it can be taken from its files after a kill.
//! - [`glob`]: which files a fault is about.
//!
//! Limits: both ends must be on one host, have the same [`VERSION`], and only one process of the core writes.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod clock;
pub mod disk;
pub mod glob;
pub mod journal;
mod map;
pub mod rollback;
pub mod text;

use std::sync::atomic::{AtomicU32, AtomicU64};

pub use clock::{ClockMode, ClockSlot};
pub use disk::{DiskMode, DiskSlot, Operation, Verdict};
pub use map::{Mapped, PageError, attach};
pub use text::Text;

/// Names the folder of a node's page and journal, to the library.
pub const FOLDER_VARIABLE: &str = "FUZZ_DIST_SHIM_FOLDER";

/// The page in that folder.
pub const PAGE_FILE: &str = "control";

/// The journal in that folder.
pub const JOURNAL_FILE: &str = "journal";

/// Links to files that were removed or replaced, in that folder, so that they can be put back.
pub const SAVED_FOLDER: &str = "saved";

/// The name of the file that the core has a node write to see whether a fault is over. Every disk fault is about it.
pub const PROBE_FILE: &str = ".fuzz_dist_probe";

/// `FUZZSHIM`, in a page that is complete.
pub const MAGIC: u64 = u64::from_be_bytes(*b"FUZZSHIM");

/// Of the layout.
pub const VERSION: u32 = 1;

/// How many faults of the clock of one node may overlap.
pub const CLOCK_SLOTS: usize = 8;

/// How many faults of the disk of one node may overlap.
pub const DISK_SLOTS: usize = 16;

/// The shared page. All of it is zero at first, which means: no fault.
#[repr(C)]
#[derive(Debug)]
pub struct Page {
    /// [`MAGIC`] once the rest is there.
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU32,
    /// Process id of the BEAM that obeys it; 0 before there is one.
    pub pid: AtomicU32,
    /// Which slots of `clock` count, as bits.
    pub clock_active: AtomicU32,
    /// Which slots of `disk` count, as bits.
    pub disk_active: AtomicU32,
    /// [`journal::OFF`], [`journal::ON`] or [`journal::BROKEN`].
    pub journal: AtomicU32,
    /// Why the journal is broken, as an `errno`.
    pub journal_errno: AtomicU32,
    /// How long the journal and all that it keeps is.
    pub journal_bytes: AtomicU64,
    /// Answers of the wall clock that were not the truth.
    pub clock_faked: AtomicU64,
    /// The data folder of the node, absolute and without symbolic links.
    pub root: Text,
    /// Faults of the clock.
    pub clock: [ClockSlot; CLOCK_SLOTS],
    /// Faults of the disk.
    pub disk: [DiskSlot; DISK_SLOTS],
}

/// The slots whose bits are set, with their numbers.
pub(crate) fn chosen<S>(slots: &[S], bits: u32) -> impl Iterator<Item = (u32, &S)> {
    (0u32..).zip(slots).filter(move |(number, _)| bits & (1 << number) != 0)
}
