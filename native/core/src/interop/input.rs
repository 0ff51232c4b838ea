//! Where the bytes of a history come from: a file, standard input or memory, packed or not.
//!
//! gzip (also of several members) and zstd are recognised by their first bytes and unpacked while being
//! read, so that only the window of the method is held. What is cut off or fails its checksum is an
//! error, never a shorter history.

use std::io::{self, Cursor, Read};

use super::error::LoadError;

/// How much of a history is looked at to tell what it is.
pub(super) const LOOK_BYTES: usize = 4096;
/// How far that is extended while there is nothing but comments and blanks.
const LOOK_BYTES_MAX: usize = 1 << 20;
/// The most that a format which is read as a whole, or one record of the others, may have.
pub(super) const TEXT_BYTES_MAX: usize = 4 << 30;

/// How bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    fn of(start: &[u8]) -> Option<Packing> {
        match start {
            [0x1f, 0x8b, ..] => Some(Packing::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zstd),
            // A frame that readers skip, as `pzstd` and the seekable format put first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Packing::Zstd),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        }
    }
}

/// Bytes of a history, unpacked.
pub(super) struct Input<'a> {
    pub name: String,
    /// What the history begins with.
    pub beginning: Vec<u8>,
    /// What follows that.
    rest: Box<dyn Read + Send + 'a>,
    pub is_packed: bool,
}

impl<'a> Input<'a> {
    /// Looks at the first bytes. Nothing is sought back to, since it may be a pipe, and no more is read, since
    /// it may be a device without end.
    pub fn open(name: String, read: impl Read + Send + 'a) -> Result<Input<'a>, LoadError> {
        let rest = Box::new(Limited(read));
        let mut input = Input { name, beginning: Vec::new(), rest, is_packed: false };
        input.look(LOOK_BYTES)?;
        if let Some(packing) = Packing::of(&input.beginning) {
            input.unpack(packing)?;
            input.look(LOOK_BYTES)?;
            if Packing::of(&input.beginning).is_some() {
                return Err(LoadError::OtherFormat {
                    path: input.name,
                    found: "is packed twice".to_owned(),
                    advice: "unpack it once".to_owned(),
                });
            }
        }
        while input.beginning.iter().all(|byte| *byte <= b' ')
            && input.beginning.len() < LOOK_BYTES_MAX
            && input.look(input.beginning.len())?
        {}
        Ok(input)
    }

    fn unpack(&mut self, packing: Packing) -> Result<(), LoadError> {
        let packed = Cursor::new(std::mem::take(&mut self.beginning))
            .chain(std::mem::replace(&mut self.rest, Box::new(io::empty())));
        let unpacked: Box<dyn Read + Send + 'a> = match packing {
            Packing::Gzip => {
                Box::new(flate2::bufread::MultiGzDecoder::new(io::BufReader::new(packed)))
            }
            Packing::Zstd => {
                let decoder = zstd::stream::read::Decoder::new(packed);
                Box::new(decoder.map_err(|error| self.error(error))?)
            }
        };
        self.is_packed = true;
        self.rest = Box::new(Unpacking { packing, unpacked, count: 0 });
        Ok(())
    }

    /// Reads so many bytes more to look at; whether there were any.
    fn look(&mut self, count: usize) -> Result<bool, LoadError> {
        let before = self.beginning.len();
        let read = self.rest.by_ref().take(count as u64).read_to_end(&mut self.beginning);
        read.map_err(|error| self.error(error))?;
        Ok(self.beginning.len() > before)
    }

    /// An error of reading, with what it happened to.
    pub fn error(&self, error: io::Error) -> LoadError {
        input_error(&self.name, error)
    }

    /// All bytes from the start on.
    pub fn into_reader(self) -> impl Read + Send + 'a {
        Cursor::new(self.beginning).chain(self.rest)
    }

    /// All bytes, for a format that is read as a whole.
    pub fn into_bytes(self) -> Result<Vec<u8>, LoadError> {
        let Input { name, beginning: mut bytes, rest, .. } = self;
        let left = (TEXT_BYTES_MAX - bytes.len()) as u64;
        rest.take(left).read_to_end(&mut bytes).map_err(|error| input_error(&name, error))?;
        if bytes.len() == TEXT_BYTES_MAX {
            return Err(LoadError::TooLarge { path: name, bytes_max: TEXT_BYTES_MAX });
        }
        Ok(bytes)
    }
}

/// Reads as long as the program keeps to its limit of memory.
struct Limited<R>(R);

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        fuzz_dist_memory::check_limit()?;
        self.0.read(buffer)
    }
}

/// An error of reading the history of that name.
pub(super) fn input_error(name: &str, error: io::Error) -> LoadError {
    let path = name.to_owned();
    match error.downcast::<UnpackError>() {
        Ok(error) => LoadError::Unpack {
            path,
            method: error.packing.as_str(),
            unpacked_bytes: error.unpacked_bytes,
            source: error.source,
        },
        Err(source) => LoadError::Io { path, source },
    }
}

/// What went wrong with packed bytes; it travels inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
struct UnpackError {
    packing: Packing,
    unpacked_bytes: u64,
    source: io::Error,
}

/// Counts what was unpacked, and marks its errors.
struct Unpacking<R> {
    packing: Packing,
    unpacked: R,
    count: u64,
}

impl<R: Read> Read for Unpacking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.unpacked.read(buffer) {
            Ok(count) => {
                self.count += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(source) => {
                let (packing, unpacked_bytes) = (self.packing, self.count);
                Err(io::Error::other(UnpackError { packing, unpacked_bytes, source }))
            }
        }
    }
}
