//! What can go wrong with a history file as a whole. Damage inside is not an error but a torn tail.

use std::io;
use std::path::PathBuf;

/// Why a history file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryFileError {
    /// A history is never overwritten.
    #[error("{} exists already, and a history is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The operating system says no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `create`, `read`, `write`, `sync`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An earlier write failed and could not be undone.
    #[error(
        "{} ends in a damaged frame since a write to it failed; nothing can be appended any more",
        path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
    },
    /// A record that would not fit into a frame.
    #[error("a record of {bytes} bytes does not fit into a history (at most {bytes_max})")]
    RecordTooLarge {
        /// Its size.
        bytes: usize,
        /// The largest possible.
        bytes_max: usize,
    },
    /// The file does not begin like a history file.
    #[error("{} is not a history file of fuzz_dist: {found}", path.display())]
    NotAHistory {
        /// The file.
        path: PathBuf,
        /// What it begins with.
        found: String,
    },
    /// A later version wrote it.
    #[error(
        "{} is in version {version} of the format, this program reads version {}; use a newer fuzz_dist",
        path.display(), super::VERSION
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// The header is not complete, so nothing is known about the run.
    #[error(
        "{} has no usable header ({reason}): the run was killed before it began, or the file is damaged \
         at its start",
        path.display()
    )]
    BadHeader {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
