//! Appends records to a history file, many to one system call.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::record::Encoder;
use super::{FRAME_HEADER_BYTES, Header, HistoryFileError, KIND_HEADER, KIND_RECORDS, MAGIC};
use crate::op::Op;

/// A frame is closed when its payload reaches this size, so that damage costs little and a reader
/// needs little memory at a time.
const FRAME_BYTES_AIM: usize = 256 << 10;
/// What the length field of a frame can say.
const FRAME_BYTES_MAX: usize = u32::MAX as usize;

/// Appends to one history file. Not shared: whoever needs it from several threads locks it.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
    encoder: Encoder,
    /// Whole frames, and then the open one if `frame_start` says so.
    buffer: Vec<u8>,
    frame_start: Option<usize>,
    next_index: u64,
    committed_bytes: u64,
    broken: bool,
}

impl Writer {
    /// Creates the file with its header, and refuses to overwrite anything.
    pub fn create(path: impl AsRef<Path>, header: &Header) -> Result<Writer, HistoryFileError> {
        let path = path.as_ref().to_owned();
        let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                return Err(HistoryFileError::Exists { path });
            }
            Err(source) => return Err(HistoryFileError::Io { action: "create", path, source }),
        };
        let json = serde_json::to_vec(header).map_err(|error| HistoryFileError::Io {
            action: "write the header of",
            path: path.clone(),
            source: io::Error::other(error),
        })?;
        let mut writer = Writer {
            file,
            path,
            encoder: Encoder::default(),
            buffer: MAGIC.to_vec(),
            frame_start: None,
            next_index: 0,
            committed_bytes: 0,
            broken: false,
        };
        writer.open_frame(KIND_HEADER);
        writer.buffer.extend_from_slice(&json);
        writer.commit()?;
        writer.sync()?;
        // The entry in the folder must survive the machine as well; where that cannot be asked for
        // (some network file systems), the file is as safe as it can be.
        if let Some(folder) = writer.path.parent().and_then(|folder| File::open(folder).ok()) {
            let _ = folder.sync_all();
        }
        Ok(writer)
    }

    /// Gives the record its index and encodes it into the buffer. Nothing is safe before
    /// [`Writer::commit`].
    pub fn append(&mut self, op: &mut Op) -> Result<(), HistoryFileError> {
        op.index = self.next_index;
        let frame_start = match self.frame_start {
            Some(start) => start,
            None => self.open_frame(KIND_RECORDS),
        };
        let record_start = self.buffer.len();
        self.encoder.encode(op, &mut self.buffer);
        let payload_bytes = self.buffer.len() - frame_start - FRAME_HEADER_BYTES;
        if payload_bytes > FRAME_BYTES_MAX {
            // The encoder has moved on, so what follows could not be read: this history ends here.
            let bytes = self.buffer.len() - record_start;
            self.buffer.truncate(record_start);
            self.broken = true;
            return Err(HistoryFileError::RecordTooLarge { bytes, bytes_max: FRAME_BYTES_MAX });
        }
        self.next_index += 1;
        if payload_bytes >= FRAME_BYTES_AIM {
            self.close_frame();
        }
        Ok(())
    }

    /// Hands everything buffered to the kernel with one write. When this returns, a crash of this
    /// process loses none of it. After an error (a full disk) the file ends where it ended before, and
    /// a later commit tries again.
    pub fn commit(&mut self) -> Result<(), HistoryFileError> {
        if self.broken {
            return Err(HistoryFileError::Broken { path: self.path.clone() });
        }
        self.close_frame();
        if self.buffer.is_empty() {
            return Ok(());
        }
        match self.file.write_all(&self.buffer) {
            Ok(()) => {
                self.committed_bytes += self.buffer.len() as u64;
                self.buffer.clear();
                Ok(())
            }
            Err(source) => {
                self.undo();
                Err(HistoryFileError::Io { action: "write", path: self.path.clone(), source })
            }
        }
    }

    /// Cuts off what a failed write has left, so that the next frame follows a whole one.
    fn undo(&mut self) {
        use std::io::{Seek, SeekFrom};
        let restored = self
            .file
            .set_len(self.committed_bytes)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.committed_bytes)));
        self.broken = restored.is_err();
    }

    /// Makes everything committed survive the death of the machine (`fdatasync`).
    pub fn sync(&mut self) -> Result<(), HistoryFileError> {
        self.file.sync_data().map_err(|source| HistoryFileError::Io {
            action: "sync",
            path: self.path.clone(),
            source,
        })
    }

    /// How many records were appended.
    pub fn record_count(&self) -> u64 {
        self.next_index
    }

    /// How many bytes of the file are committed.
    pub fn committed_bytes(&self) -> u64 {
        self.committed_bytes
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_frame(&mut self, kind: u8) -> usize {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        self.buffer.push(kind);
        self.frame_start = Some(start);
        start
    }

    fn close_frame(&mut self) {
        let Some(start) = self.frame_start.take() else { return };
        let payload_start = start + FRAME_HEADER_BYTES;
        let length = ((self.buffer.len() - payload_start) as u32).to_le_bytes();
        let mut crc = crc32fast::Hasher::new();
        crc.update(&length);
        crc.update(&self.buffer[payload_start..]);
        self.buffer[start..start + 4].copy_from_slice(&length);
        self.buffer[start + 4..payload_start].copy_from_slice(&crc.finalize().to_le_bytes());
    }
}

/// What is buffered is still written when a run ends early; errors have nowhere to go by then.
impl Drop for Writer {
    fn drop(&mut self) {
        if !self.broken {
            let _ = self.commit();
        }
    }
}
