//! Reads a history file: all of it after a run, or what has been added while it grows.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::record::Decoder;
use super::{FRAME_HEADER_BYTES, Header, HistoryFileError, KIND_HEADER, KIND_RECORDS, MAGIC};
use crate::op::Op;

/// How much of a file is read at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// A file read to its end, or to where it is damaged.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// What the file says about its run.
    pub header: Header,
    /// Every record before the damage, indexed by position.
    pub ops: Vec<Op>,
    /// What could not be read, if the file does not end with a whole frame.
    pub torn: Option<TornTail>,
}

/// The part of a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// Where the last whole frame ends.
    pub offset: u64,
    /// How many bytes follow it.
    pub bytes: u64,
    /// Why they were not read.
    pub reason: String,
}

impl std::fmt::Display for TornTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TornTail { offset, bytes, reason } = self;
        write!(f, "the last {bytes} bytes (from byte {offset}) were dropped: {reason}")
    }
}

/// Reads whole frames of one file, in order.
#[derive(Debug)]
pub struct Reader {
    store: Store,
    path: PathBuf,
    header: Header,
    decoder: Decoder,
    /// Where the next frame begins.
    offset: u64,
    /// Bytes of the file from `window_offset` on; small frames are read many at a time.
    window: Vec<u8>,
    window_offset: u64,
    /// How long the file was when last asked.
    length: u64,
}

/// Where the bytes are.
#[derive(Debug)]
enum Store {
    File(File),
    /// What came from a pipe, or was packed.
    Memory(Vec<u8>),
}

impl Store {
    fn length(&self) -> io::Result<u64> {
        match self {
            Store::File(file) => file.metadata().map(|meta| meta.len()),
            Store::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Store::File(file) => file.read_exact_at(buffer, offset),
            Store::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(buffer.len());
                let part = bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
                buffer.copy_from_slice(part);
                Ok(())
            }
        }
    }
}

/// What stands at the place of the next frame.
enum Next {
    Frame {
        kind: u8,
        end: u64,
    },
    End,
    /// Not whole; with whether more bytes could make it so.
    Damaged {
        reason: String,
        may_grow: bool,
    },
}

impl Reader {
    /// Reads the file to its end. Damage after the header is not an error: what precedes it is
    /// returned, and [`Recovered::torn`] tells.
    pub fn open(path: impl AsRef<Path>) -> Result<Recovered, HistoryFileError> {
        Reader::follow(path)?.read_all()
    }

    /// As [`Reader::open`], of bytes that `name` stands for.
    pub fn open_bytes(name: &str, bytes: Vec<u8>) -> Result<Recovered, HistoryFileError> {
        let start = bytes.get(..MAGIC.len()).unwrap_or(&bytes);
        check_magic(start, Path::new(name))?;
        Reader::begin(Store::Memory(bytes), PathBuf::from(name))?.read_all()
    }

    fn read_all(mut self) -> Result<Recovered, HistoryFileError> {
        let reader = &mut self;
        let mut ops = Vec::new();
        let damage = reader.read_frames(&mut ops)?;
        let torn = damage.map(|(reason, _)| reader.torn(reason));
        Ok(Recovered { header: self.header, ops, torn })
    }

    /// Opens a file that may still grow, and reads its header only.
    pub fn follow(path: impl AsRef<Path>) -> Result<Reader, HistoryFileError> {
        let path = path.as_ref().to_owned();
        let open_error =
            |source| HistoryFileError::Io { action: "open", path: path.clone(), source };
        // A link that a person names is followed; those in a folder of a run are refused before.
        let real = path.canonicalize().map_err(open_error)?;
        let mut file = crate::file::open(&real).map_err(open_error)?;
        let mut magic = Vec::new();
        file.by_ref()
            .take(MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .map_err(|source| read_error(&path, source))?;
        check_magic(&magic, &path)?;
        Reader::begin(Store::File(file), path)
    }

    /// Reads the header.
    fn begin(store: Store, path: PathBuf) -> Result<Reader, HistoryFileError> {
        let mut reader = Reader {
            store,
            header: Header {
                run: String::new(),
                test: String::new(),
                seed: crate::seed::Seed(0),
                clock: crate::clock::RunClock { start_monotonic_ns: 0, start_wall_ns: 0 },
                spec: String::new(),
            },
            path,
            decoder: Decoder::new(),
            offset: MAGIC.len() as u64,
            window: Vec::new(),
            window_offset: 0,
            length: 0,
        };
        reader.ask_length()?;
        let bad = |path: &Path, reason: String| {
            Err(HistoryFileError::BadHeader { path: path.to_owned(), reason })
        };
        match reader.next_frame()? {
            Next::Frame { kind: KIND_HEADER, end } => {
                match serde_json::from_slice(reader.payload(end)) {
                    Ok(header) => reader.header = header,
                    Err(error) => return bad(&reader.path, error.to_string()),
                }
                reader.offset = end;
                Ok(reader)
            }
            Next::Frame { kind, .. } => {
                bad(&reader.path, format!("the first frame is of kind {kind}"))
            }
            Next::End => bad(&reader.path, "the file ends before it".to_owned()),
            Next::Damaged { reason, .. } => bad(&reader.path, reason),
        }
    }

    /// What the file says about its run.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Appends the records that were committed since the last call. A frame that is being written is
    /// left for the next call; damage that no further byte can repair is told.
    pub fn poll(&mut self, ops: &mut Vec<Op>) -> Result<Option<TornTail>, HistoryFileError> {
        match self.read_frames(ops)? {
            Some((reason, false)) => Ok(Some(self.torn(reason))),
            _ => Ok(None),
        }
    }

    fn torn(&self, reason: String) -> TornTail {
        TornTail { offset: self.offset, bytes: self.length - self.offset, reason }
    }

    /// Reads frames until the end or damage; the flag says whether growth could repair it.
    fn read_frames(
        &mut self,
        ops: &mut Vec<Op>,
    ) -> Result<Option<(String, bool)>, HistoryFileError> {
        self.ask_length()?;
        loop {
            if let Err(exceeded) = fuzz_dist_memory::check_limit() {
                return Err(read_error(&self.path, exceeded.into()));
            }
            match self.next_frame()? {
                Next::End => return Ok(None),
                Next::Damaged { reason, may_grow } => return Ok(Some((reason, may_grow))),
                Next::Frame { kind: KIND_RECORDS, end } => {
                    let whole = ops.len();
                    let payload = payload(&self.window, self.window_offset, self.offset, end);
                    if let Err(error) = self.decoder.decode_all(payload, ops) {
                        // All of a frame or nothing: its records were committed together.
                        ops.truncate(whole);
                        return Ok(Some((error.to_string(), false)));
                    }
                    self.offset = end;
                }
                Next::Frame { kind, .. } => {
                    return Ok(Some((format!("a frame of unexpected kind {kind}"), false)));
                }
            }
        }
    }

    fn next_frame(&mut self) -> Result<Next, HistoryFileError> {
        let left = self.length - self.offset;
        if left == 0 {
            return Ok(Next::End);
        }
        let damaged = |reason: String, may_grow| Ok(Next::Damaged { reason, may_grow });
        if left < FRAME_HEADER_BYTES as u64 {
            return damaged(format!("a frame is cut off after {left} bytes"), true);
        }
        let mut head = [0u8; FRAME_HEADER_BYTES];
        head.copy_from_slice(self.bytes(FRAME_HEADER_BYTES)?);
        let [l0, l1, l2, l3, c0, c1, c2, c3] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let expected = u32::from_le_bytes([c0, c1, c2, c3]);
        let there = left - FRAME_HEADER_BYTES as u64;
        // Never reserve what the file does not have: the length may be damaged.
        if u64::from(length) > there {
            let reason = format!("a frame of {length} bytes is cut off after {there}");
            return damaged(reason, true);
        }
        if length == 0 {
            return damaged("a frame is empty, as in a zeroed tail".to_owned(), false);
        }
        let frame = self.bytes(FRAME_HEADER_BYTES + length as usize)?;
        let (payload, kind) = (&frame[FRAME_HEADER_BYTES..], frame[FRAME_HEADER_BYTES]);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head[..4]);
        crc.update(payload);
        if crc.finalize() != expected {
            let place = if u64::from(length) == there { "the last frame" } else { "a frame" };
            return damaged(format!("the checksum of {place} is wrong"), false);
        }
        Ok(Next::Frame { kind, end: self.offset + FRAME_HEADER_BYTES as u64 + u64::from(length) })
    }

    /// So many bytes from the start of the next frame, which the file is known to have.
    fn bytes(&mut self, count: usize) -> Result<&[u8], HistoryFileError> {
        let from = (self.offset - self.window_offset) as usize;
        if from + count > self.window.len() {
            let left = self.length - self.offset;
            let wanted = left.min(count.max(WINDOW_BYTES) as u64) as usize;
            self.window.resize(wanted, 0);
            self.window_offset = self.offset;
            if let Err(source) = self.store.read_exact_at(&mut self.window, self.offset) {
                self.window.clear();
                return Err(read_error(&self.path, source));
            }
            return Ok(&self.window[..count]);
        }
        Ok(&self.window[from..from + count])
    }

    fn payload(&self, end: u64) -> &[u8] {
        payload(&self.window, self.window_offset, self.offset, end)
    }

    fn ask_length(&mut self) -> Result<(), HistoryFileError> {
        let length = self.store.length().map_err(|source| read_error(&self.path, source))?;
        // A writer only takes back what no reader has taken for whole.
        self.length = length.max(self.offset);
        Ok(())
    }
}

/// The payload of the frame at `offset`, behind its kind, in a window of the file.
fn payload(window: &[u8], window_offset: u64, offset: u64, end: u64) -> &[u8] {
    let start = (offset - window_offset) as usize + FRAME_HEADER_BYTES + 1;
    &window[start..(end - window_offset) as usize]
}

fn read_error(path: &Path, source: io::Error) -> HistoryFileError {
    HistoryFileError::Io { action: "read", path: path.to_owned(), source }
}

fn check_magic(magic: &[u8], path: &Path) -> Result<(), HistoryFileError> {
    if magic == MAGIC {
        return Ok(());
    }
    let path = path.to_owned();
    if magic.len() == MAGIC.len() && magic[..MAGIC.len() - 1] == MAGIC[..MAGIC.len() - 1] {
        return Err(HistoryFileError::OtherVersion { path, version: magic[MAGIC.len() - 1] });
    }
    if MAGIC.starts_with(magic) {
        let reason = format!("the file has {} bytes", magic.len());
        return Err(HistoryFileError::BadHeader { path, reason });
    }
    let found = format!("it begins with {:?}", String::from_utf8_lossy(magic));
    Err(HistoryFileError::NotAHistory { path, found })
}
