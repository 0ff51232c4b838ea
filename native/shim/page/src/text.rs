//! A text in shared memory.

use std::sync::atomic::{AtomicU64, Ordering};

const WORDS: usize = 128;

/// The longest text.
pub const BYTES_MAX: usize = WORDS * 8;

/// Bytes up to the first double NUL; one NUL separates parts. Whoever reads while it is written must find out by
/// other means.
#[repr(C)]
#[derive(Debug)]
pub struct Text([AtomicU64; WORDS]);

/// A copy.
pub type Copied = [u8; BYTES_MAX];

impl Text {
    /// Writes the parts; false if they are too long, and then nothing is written.
    pub fn write<'p>(&self, parts: impl IntoIterator<Item = &'p [u8]>) -> bool {
        let mut bytes = [0u8; BYTES_MAX];
        let mut at = 0;
        for part in parts {
            // Two NULs must be left.
            let Some(place) = bytes[..BYTES_MAX - 2].get_mut(at..at + part.len()) else {
                return false;
            };
            place.copy_from_slice(part);
            at += part.len() + 1;
        }
        for (word, bytes) in self.0.iter().zip(bytes.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(eight), Ordering::Relaxed);
        }
        true
    }

    /// Copies all of it.
    pub fn copy(&self) -> Copied {
        let mut bytes = [0u8; BYTES_MAX];
        for (word, bytes) in self.0.iter().zip(bytes.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        bytes
    }
}

/// The parts of a copy.
pub fn parts(copied: &Copied) -> impl Iterator<Item = &[u8]> {
    copied.split(|byte| *byte == 0).take_while(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_too_long_is_refused() {
        let text = Text([const { AtomicU64::new(0) }; WORDS]);
        assert_eq!(parts(&text.copy()).count(), 0);
        let long = [b'x'; BYTES_MAX - 4];
        assert!(text.write([&long[..], b"y"]));
        assert_eq!(parts(&text.copy()).collect::<Vec<_>>(), [&long[..], b"y"]);
        assert!(!text.write([&long[..], b"yz"]));
        assert!(text.write([&b"**/*.DCD"[..], b"b"]));
        assert_eq!(parts(&text.copy()).collect::<Vec<_>>(), [&b"**/*.DCD"[..], b"b"]);
    }
}
