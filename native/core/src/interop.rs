//! Histories from and to files: Jepsen's EDN, JSON lines, and our own `history.fdh`.
//!
//! [`load`] recognises the format by content and gives a paired [`History`], or an error that names the
//! file, the line and the column, what stands there, and what to do. What could be read but is worth
//! knowing (a torn tail, records renumbered, tags dropped) comes as notices.
//!
//! Definitions, as in Jepsen: a missing `:index` is the position and a missing `:time` is -1; an
//! invocation without completion stays open; a missing `:f` is `nil`; a completion without invocation
//! and a process that does two things at once are refused, since no checker could mean anything by them.
//! Records are numbered by position, whatever their `:index` says.

mod draft;
mod edn;
mod edn_history;
mod edn_number;
mod edn_write;
mod error;
mod json_read;
mod json_write;
mod recognise;
mod repair;
mod terms;

use std::io::Read;
use std::path::{Path, PathBuf};

pub use edn::{ParseError, parse_edn_value};
pub use edn_write::{edn_of_value, write_edn, write_edn_op};
pub use error::{LoadError, Place, ShapeError};
pub use json_write::{write_jsonl, write_jsonl_op};
pub use repair::{add_invocations, read_records};
pub use terms::{history_of_terms, term_of_op};

use crate::history::History;
use crate::history_file::Reader;
use crate::op::Op;
use error::Source;

/// The most that lists, maps and sets of a text may nest.
pub const DEPTH_MAX: usize = 128;

/// A format that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Jepsen's: one map a line, or one vector of maps.
    Edn,
    /// One object a line, or one array of objects.
    Json,
    /// Our own file.
    Fdh,
}

impl Format {
    /// The names that [`Format::parse`] knows.
    pub const NAMES: &[&str] = &["edn", "json", "jsonl", "fdh"];

    /// The format of that name (`edn`, `json` or `jsonl`, `fdh`).
    pub fn parse(name: &str) -> Option<Format> {
        Some(match name {
            "edn" => Format::Edn,
            "json" | "jsonl" => Format::Json,
            "fdh" => Format::Fdh,
            _ => return None,
        })
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Edn => "edn",
            Format::Json => "jsonl",
            Format::Fdh => "fdh",
        }
    }
}

/// A history that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The records, paired.
    pub history: History,
    /// What the file was.
    pub format: Format,
    /// What a person should know about how it was read, a sentence each.
    pub notices: Vec<String>,
}

/// Reads the history at `path`: a file, the folder of a run, or `-` for standard input. Without a
/// format, the content decides.
pub fn load(path: impl AsRef<Path>, format: Option<Format>) -> Result<Loaded, LoadError> {
    let path = path.as_ref();
    if path == Path::new("-") {
        let name = "standard input";
        let io_error = |source| LoadError::Io { path: name.to_owned(), source };
        let mut input = std::io::stdin().lock();
        let mut bytes = beginning(&mut input).map_err(io_error)?;
        recognise::refuse_binary(name, &bytes)?;
        input.read_to_end(&mut bytes).map_err(io_error)?;
        return load_bytes(name, &bytes, format);
    }
    let path = in_folder(path);
    let name = path.display().to_string();
    let io_error = |source| LoadError::Io { path: name.clone(), source };
    let mut file = std::fs::File::open(&path).map_err(io_error)?;
    let mut bytes = beginning(&mut file).map_err(io_error)?;
    if recognise::is_ours(&bytes) || format == Some(Format::Fdh) {
        return load_history_file(&path);
    }
    recognise::refuse_binary(&name, &bytes)?;
    let left = file.metadata().map_or(0, |meta| meta.len() as usize);
    bytes.try_reserve(left).map_err(|error| io_error(error.into()))?;
    file.read_to_end(&mut bytes).map_err(io_error)?;
    load_bytes(&name, &bytes, format)
}

/// As much as tells what it is: what is no history, and may be a device without end, is then not read further.
/// Nothing is sought back to, since it may be a pipe.
fn beginning(input: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(recognise::LOOK_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a history from memory; `name` stands for it in messages.
pub fn load_bytes(name: &str, bytes: &[u8], format: Option<Format>) -> Result<Loaded, LoadError> {
    let text = recognise::text(name, bytes)?;
    let source = Source { name, text };
    let format = match format {
        Some(format) => format,
        None => recognise::format(&source)?,
    };
    let records = match format {
        Format::Edn => edn_history::read(&source)?,
        Format::Json => json_read::read(&source)?,
        Format::Fdh => return Err(recognise::not_from_memory(name)),
    };
    finish(&source, records, format)
}

/// The history inside a run's folder, or the path itself.
fn in_folder(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    ["history.fdh", "history.edn", "history.jsonl"]
        .iter()
        .map(|name| path.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| path.to_owned())
}

fn load_history_file(path: &Path) -> Result<Loaded, LoadError> {
    let recovered = Reader::open(path)?;
    let mut notices = Vec::new();
    if let Some(torn) = &recovered.torn {
        notices.push(format!("{}: {torn}", path.display()));
    }
    let history = History::new(recovered.ops).map_err(|source| LoadError::History {
        path: path.display().to_string(),
        place: None,
        source,
    })?;
    Ok(Loaded { history, format: Format::Fdh, notices })
}

/// Records as a text gave them.
#[derive(Debug, Default)]
struct Records {
    ops: Vec<Op>,
    /// Where each begins, in bytes.
    offsets: Vec<usize>,
    notices: Vec<String>,
    numbering: Numbering,
    without_f_count: usize,
}

impl Records {
    fn push(&mut self, draft: draft::Draft, offset: usize) -> Result<(), ShapeError> {
        let position = self.ops.len();
        if let Some(index) = draft.index.filter(|&index| index >= 0) {
            self.numbering.see(position, index);
        }
        self.without_f_count += usize::from(draft.f.is_none());
        self.ops.push(draft.finish()?);
        self.offsets.push(offset);
        Ok(())
    }
}

/// Whether the indices of the file are the positions of the records: kept so that parts of a file can be
/// read before it is known how many records precede them.
#[derive(Debug, Default, Clone, Copy)]
struct Numbering {
    /// Position and `:index` of the first record that has one.
    first: Option<(usize, i64)>,
    /// The first that is at another distance from its position than the first one.
    odd: Option<(usize, i64)>,
}

impl Numbering {
    fn see(&mut self, position: usize, index: i64) {
        match self.first {
            None => self.first = Some((position, index)),
            Some((first, first_index)) => {
                let expected = first_index.checked_add((position - first) as i64);
                if self.odd.is_none() && expected != Some(index) {
                    self.odd = Some((position, index));
                }
            }
        }
    }

    /// Position and `:index` of the first record whose index is another than its position.
    fn renumbered(&self) -> Option<(usize, i64)> {
        self.first.filter(|&(position, index)| index != position as i64).or(self.odd)
    }

    /// What is known when the records of `next` follow `count` records of these.
    fn join(&mut self, next: Numbering, count: usize) {
        for (position, index) in [next.first, next.odd].into_iter().flatten() {
            self.see(position + count, index);
        }
    }
}

fn finish(source: &Source<'_>, records: Records, format: Format) -> Result<Loaded, LoadError> {
    let Records { ops, offsets, mut notices, numbering, without_f_count } = records;
    if ops.is_empty() {
        return Err(LoadError::Empty { path: source.name.to_owned() });
    }
    if let Some((position, index)) = numbering.renumbered() {
        notices.push(format!(
            "{}: records are numbered by position from 0; the first whose :index differs is record \
             {position} at line {} (:index {index})",
            source.name,
            source.place(offsets[position]).line
        ));
    }
    if without_f_count > 0 {
        notices.push(format!("{}: {without_f_count} records have no :f", source.name));
    }
    let history = History::new(ops).map_err(|error| {
        let position = error::position_of(&error);
        let place = position.and_then(|p| offsets.get(p)).map(|&offset| source.place(offset));
        LoadError::History { path: source.name.to_owned(), place, source: error }
    })?;
    Ok(Loaded { history, format, notices })
}

#[cfg(test)]
mod tests;
