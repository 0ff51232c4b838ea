//! The history on disk: `history.fdh`, appended during a run, readable after any crash.
//!
//! Whatever [`Writer::commit`] has returned for is recovered by [`Reader::open`] after the process was
//! killed at any moment, because it is in the kernel's hands by then; after [`Writer::sync`] it also
//! survives the machine. A record that was being written is a torn tail: it is dropped, and told.
//! This is the discipline of a database's write-ahead log, and the frames are those of LevelDB's
//! without the blocks.
//!
//! # Format, version 1
//!
//! Integers are little-endian; `varint` is LEB128, `zigzag` a signed varint.
//!
//! ```text
//! file    = magic frame*
//! magic   = 0x89 "fdh" CR LF 0x1a 0x01          the last byte is the version
//! frame   = length:u32 crc:u32 payload          length counts the payload, at least 1;
//!                                               crc is CRC-32 (IEEE) of the length field and the payload
//! payload = 0x01 header                         the first frame, and only that
//!         | 0x02 record+                        every other frame
//! header  = JSON object: run, test, seed, clock {start_monotonic_ns, start_wall_ns}, spec
//! record  = flags:u8 time process f value? error? node? extra?
//! flags   = bits 0-1 type (invoke ok fail info), then: 2 named process, 3 value present (else nil),
//!           4 error present (else nil), 5 node present, 6 extra present; 7 is zero
//! time    = zigzag of the nanoseconds since the record before (the first: since 0)
//! process = zigzag number | name
//! f, node = name
//! value, error = one ETF term without its leading 131
//! extra   = count:varint (name term)*
//! name    = id:varint; an id equal to the number of names so far is new, and
//!           length:varint and UTF-8 bytes follow
//! ```
//!
//! The index of a record is its position. Times and names run on from frame to frame, so reading stops
//! at the first damaged frame, whatever follows. A zeroed tail, as some file systems leave behind, fails
//! its CRC. Flags and header keys that a later version adds make it a later version.
//!
//! Limits: a frame has at most 4 GiB; a value is one ETF term with the limits of [`RECORD_LIMITS`].

mod error;
mod reader;
mod record;
mod writer;

pub use error::HistoryFileError;
pub use reader::{Reader, Recovered, TornTail};
pub use writer::Writer;

use serde::{Deserialize, Serialize};

use crate::clock::RunClock;
use crate::etf::Limits;
use crate::seed::Seed;

/// The first bytes of a file: as with PNG, they show a transfer that changes line ends or strips a bit.
pub(crate) const MAGIC: [u8; 8] = [0x89, b'f', b'd', b'h', b'\r', b'\n', 0x1a, VERSION];
/// Version of the format.
const VERSION: u8 = 1;
/// Bytes of a frame before its payload.
const FRAME_HEADER_BYTES: usize = 8;
const KIND_HEADER: u8 = 1;
const KIND_RECORDS: u8 = 2;

/// What one value of a record may cost when it is read: twice as deep as what the network may bring,
/// since the core wraps values.
pub const RECORD_LIMITS: Limits = Limits { bytes_max: u32::MAX as usize, depth_max: 256 };

/// What a file says about its run before the first record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The id of the run, which every process of it carries.
    pub run: String,
    /// Name of the test.
    pub test: String,
    /// The seed.
    pub seed: Seed,
    /// The start on both clocks; times of records count from it.
    pub clock: RunClock,
    /// The resolved spec, as the text of `spec.toml`.
    pub spec: String,
}

#[cfg(test)]
mod tests;
