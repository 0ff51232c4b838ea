//! The checkers and histories of fuzz_dist as a library that the BEAM loads, for `FuzzDist.check/3`.
//!
//! Terms cross as binaries in the external term format, which both sides speak already, so nothing here
//! knows more of the BEAM than a binary, a reference and a process. What can go wrong comes back as
//! `{:error, sentence}`, a panic included. Nothing runs on an ordinary scheduler for longer than a moment:
//! calls are dirty, and what they do happens on a thread with a stack of its own ([`task`]). A check ends
//! when the process that asked for it does.
//!
//! Servers, telemetry and fault planes never go in here: this is loaded into VMs of people.

mod checking;
mod model;
// What needs a VM cannot even be linked into the tests of the rest, which have none.
#[cfg(not(test))]
mod nifs;
mod records;
#[cfg(not(test))]
mod resources;
mod task;
mod writing;

/// Limits of memory count all that the library holds in this VM: the history as well as the search.
#[global_allocator]
static ALLOCATOR: fuzz_dist_memory::Counting = fuzz_dist_memory::Counting;

use fuzz_dist_core::Value;
use fuzz_dist_core::etf::{self, Limits};

/// What every function answers: `{:ok, _}` or `{:error, sentence}`.
type Answer<T> = Result<T, String>;

/// Reads a term of this VM: as large as it likes, since it is in memory already.
fn decode(bytes: &[u8]) -> Answer<Value> {
    let limits = Limits { bytes_max: usize::MAX, ..Limits::default() };
    etf::decode(bytes, &limits).map_err(|error| error.to_string())
}
