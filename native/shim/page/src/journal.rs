//! What a node did to its files since it was started, each step with what is needed to undo it.
//!
//! The library appends a record before it lets the node do a thing (a sync is recorded when it is done), with one
//! `writev` each, and holds a lock meanwhile: the order of the records is that of what they tell. What was removed or
//! replaced by a rename stays as a hard link in [`SAVED_FOLDER`](crate::SAVED_FOLDER). A record that was
//! torn by the kill is the last one, and what it tells has not happened.
//!
//! A record is [`HEADER_BYTES`] of seven `u64` in the order of the machine (magic and kind, inode, three numbers,
//! spare, length of what follows) and then that.

/// No journal is written.
pub const OFF: u32 = 0;
/// It is written.
pub const ON: u32 = 1;
/// It could not be written, or grew beyond [`BYTES_MAX`]: it is of no use.
pub const BROKEN: u32 = 2;

/// How long the journal of a node may get, with all that it keeps.
pub const BYTES_MAX: u64 = 1 << 30;

/// Before what a record carries.
pub const HEADER_BYTES: usize = 7 * 8;

const MAGIC: u64 = 0x4644_4a31 << 32;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    /// Bytes were put at an offset, or room reserved; with those that were there before.
    Write = 1,
    /// The length was set; with what was cut off.
    Truncate = 2,
    /// Everything before is durable.
    Sync = 3,
    /// A file was created; with its path.
    Create = 4,
    /// It was renamed; with both paths, and the name of what is kept of the file that was replaced.
    Rename = 5,
    /// It was removed; with its path, and the name of what is kept of it.
    Unlink = 6,
}

impl Kind {
    fn read(number: u64) -> Option<Kind> {
        use Kind::{Create, Rename, Sync, Truncate, Unlink, Write};
        [Write, Truncate, Sync, Create, Rename, Unlink].into_iter().find(|k| *k as u64 == number)
    }
}

/// The numbers of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What happened.
    pub kind: Kind,
    /// To which file.
    pub inode: u64,
    /// Where the bytes that are carried belong.
    pub offset: u64,
    /// How long the file was before.
    pub old_size: u64,
    /// How long it was made, by [`Kind::Truncate`].
    pub new_size: u64,
    /// How many bytes are carried.
    pub carried: u64,
}

impl Header {
    /// A record about a file that carries nothing.
    pub fn new(kind: Kind, inode: u64) -> Header {
        Header { kind, inode, offset: 0, old_size: 0, new_size: 0, carried: 0 }
    }

    /// As it is written.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let numbers = [
            MAGIC | self.kind as u64,
            self.inode,
            self.offset,
            self.old_size,
            self.new_size,
            0,
            self.carried,
        ];
        let mut bytes = [0; HEADER_BYTES];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Header> {
        let mut numbers = bytes.chunks_exact(8).map(|eight| {
            let mut number = [0; 8];
            number.copy_from_slice(eight);
            u64::from_ne_bytes(number)
        });
        let mut next = || numbers.next();
        let first = next()?;
        let kind = Kind::read(first ^ MAGIC)?;
        let (inode, offset, old_size, new_size) = (next()?, next()?, next()?, next()?);
        next()?;
        Some(Header { kind, inode, offset, old_size, new_size, carried: next()? })
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'j> {
    /// Its numbers.
    pub header: Header,
    /// What it carries: bytes, or texts with a NUL between them.
    pub carried: &'j [u8],
}

impl<'j> Record<'j> {
    /// The texts that it carries.
    pub fn texts(&self) -> impl Iterator<Item = &'j [u8]> {
        self.carried.split(|byte| *byte == 0)
    }
}

/// The records of a journal, up to the first that is torn.
pub fn read(mut journal: &[u8]) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    while let Some(header) = journal.get(..HEADER_BYTES).and_then(Header::decode) {
        let carried = usize::try_from(header.carried).unwrap_or(usize::MAX);
        let end = HEADER_BYTES.saturating_add(carried);
        let Some(carried) = journal.get(HEADER_BYTES..end) else { break };
        records.push(Record { header, carried });
        journal = &journal[end..];
    }
    records
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_are_read_as_they_were_written_and_a_torn_one_is_dropped() {
        let header = Header { offset: 3, old_size: 9, carried: 4, ..Header::new(Kind::Write, 77) };
        let mut journal = header.encode().to_vec();
        journal.extend(b"abcd");
        journal.extend(Header::new(Kind::Sync, 77).encode());
        let whole = [
            Record { header, carried: b"abcd" },
            Record { header: Header::new(Kind::Sync, 77), carried: b"" },
        ];
        assert_eq!(read(&journal), whole);
        for length in 0..journal.len() {
            let count = usize::from(length >= HEADER_BYTES + 4);
            assert_eq!(read(&journal[..length]), whole[..count]);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, magic: bool, kind in 0u64..8) {
            let mut bytes = bytes;
            if magic && bytes.len() >= 8 {
                bytes[..8].copy_from_slice(&(MAGIC | kind).to_ne_bytes());
            }
            read(&bytes);
        }
    }
}
