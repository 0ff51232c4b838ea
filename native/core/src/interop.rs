//! Histories from and to files: Jepsen's EDN and logs, JSON, our own `history.fdh`, and the texts of the
//! checkers of transactions (Plume, AWDIT, dbcop), each also packed with gzip or zstd.
//!
//! [`load`] recognises the format by content and gives a paired [`History`], or an error that names the
//! file, the line and the column, what stands there, and what to do. What could be read but is worth
//! knowing (a torn tail, records renumbered) comes as notices.
//!
//! Definitions, as in Jepsen: a missing `:index` is the position and a missing `:time` is -1; an
//! invocation without completion stays open; a missing `:f` is `nil`. Records are numbered by position,
//! whatever their `:index` says. What Jepsen accepts of records that are not paired is in [`repair`]; the
//! rest is refused, since no checker could mean anything by it.

mod dbcop;
mod draft;
mod edn;
mod edn_history;
mod edn_number;
mod edn_text;
mod edn_write;
mod error;
mod input;
mod jepsen_log;
mod json;
mod json_read;
mod json_write;
mod look;
mod recognise;
mod repair;
mod sessions;
mod sessions_text;
mod sharing;
mod stream;
mod template;
mod terms;

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
use input::Input;
use stream::Cutting;

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
    /// `jepsen.log` or `history.txt`.
    JepsenLog,
    /// The text of Plume and PolySI.
    Plume,
    /// The text of AWDIT's tests.
    Awdit,
    /// The text or the JSON of dbcop.
    Dbcop,
}

impl Format {
    /// The names of all formats.
    pub const NAMES: &[&str] =
        &["edn", "json", "jsonl", "fdh", "jepsen-log", "plume", "awdit", "dbcop"];

    /// The format of that name: one of [`Format::NAMES`], or another that it goes by.
    pub fn parse(name: &str) -> Option<Format> {
        Some(match name {
            "edn" => Format::Edn,
            "json" | "jsonl" => Format::Json,
            "fdh" => Format::Fdh,
            "jepsen-log" | "log" | "history.txt" => Format::JepsenLog,
            "plume" | "polysi" => Format::Plume,
            "awdit" => Format::Awdit,
            "dbcop" | "hist" => Format::Dbcop,
            _ => return None,
        })
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Edn => "edn",
            Format::Json => "jsonl",
            Format::Fdh => "fdh",
            Format::JepsenLog => "jepsen-log",
            Format::Plume => "plume",
            Format::Awdit => "awdit",
            Format::Dbcop => "dbcop",
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
        return load_input(Input::open("standard input".to_owned(), std::io::stdin())?, format);
    }
    if path.join("history.bincode").is_file() {
        return recognise::refuse_bincode(&path.display().to_string());
    }
    let given = path;
    let path = in_folder(given);
    let name = path.display().to_string();
    let io_error = |source| LoadError::Io { path: name.clone(), source };
    if path != given {
        // Somebody else may have made the folder: a link or a FIFO in it is no history.
        crate::file::open(&path).map_err(io_error)?;
    }
    let file = std::fs::File::open(&path).map_err(io_error)?;
    let input = Input::open(name.clone(), file)?;
    let is_ours = recognise::is_ours(&input.beginning) || format == Some(Format::Fdh);
    // A file of ours is read where it lies, a window at a time.
    if is_ours && !input.is_packed && path.is_file() {
        return load_history_file(&name, Reader::open(&path)?);
    }
    load_input(input, format)
}

/// Reads a history from memory; `name` stands for it in messages.
pub fn load_bytes(name: &str, bytes: &[u8], format: Option<Format>) -> Result<Loaded, LoadError> {
    load_input(Input::open(name.to_owned(), bytes)?, format)
}

fn load_input(input: Input<'_>, format: Option<Format>) -> Result<Loaded, LoadError> {
    let name = input.name.clone();
    if recognise::is_ours(&input.beginning) || format == Some(Format::Fdh) {
        let bytes = input.into_bytes()?;
        return load_history_file(&name, Reader::open_bytes(&name, bytes)?);
    }
    let (records, format) = records(input, format)?;
    finish(&name, records, format)
}

/// The records of a text, as it gives them.
fn records(input: Input<'_>, format: Option<Format>) -> Result<(Records, Format), LoadError> {
    let name = input.name.clone();
    recognise::refuse_binary(&name, &input.beginning)?;
    let format = match format {
        Some(format) => format,
        None => recognise::format(&name, &input.beginning)?,
    };
    let read_whole: fn(&Source<'_>) -> Result<Records, LoadError> = match format {
        Format::Edn => {
            let records = stream::read(input, edn_history::read_part, Cutting::usual())?;
            return Ok((records, format));
        }
        Format::Json => {
            let records = stream::read(input, json_read::read_part, Cutting::usual())?;
            return Ok((records, format));
        }
        Format::Fdh => return Err(recognise::not_text(&name)),
        Format::JepsenLog => jepsen_log::read,
        Format::Plume => sessions_text::read_plume,
        Format::Awdit => sessions_text::read_awdit,
        Format::Dbcop => dbcop::read,
    };
    let bytes = input.into_bytes()?;
    let text = recognise::text(&name, &bytes)?;
    Ok((read_whole(&Source { name: &name, text })?, format))
}

/// The history inside a run's folder, or the path itself.
fn in_folder(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    ["history.fdh", "history.edn", "history.jsonl"]
        .iter()
        .map(|name| path.join(name))
        .find(|candidate| candidate.symlink_metadata().is_ok())
        .unwrap_or_else(|| path.to_owned())
}

fn load_history_file(
    name: &str,
    recovered: crate::history_file::Recovered,
) -> Result<Loaded, LoadError> {
    let mut notices = Vec::new();
    if let Some(torn) = &recovered.torn {
        notices.push(format!("{name}: {torn}"));
    }
    let history = History::new(recovered.ops).map_err(|source| LoadError::History {
        path: name.to_owned(),
        place: None,
        source,
    })?;
    Ok(Loaded { history, format: Format::Fdh, notices })
}

/// Records as a text gave them.
#[derive(Debug, Default)]
struct Records {
    ops: Vec<Op>,
    /// Line and column at which each begins.
    places: Vec<(u32, u32)>,
    notices: Vec<String>,
    numbering: Numbering,
    without_f_count: usize,
    without_process_count: usize,
    /// Whether the order of different processes means nothing.
    without_real_time: bool,
    /// Whether every invocation of a client was added.
    has_added_invocations: bool,
}

impl Records {
    fn push(&mut self, draft: draft::Draft, place: Place) -> Result<(), ShapeError> {
        let position = self.ops.len();
        if let Some(index) = draft.index.filter(|&index| index >= 0) {
            self.numbering.see(position, index);
        }
        self.without_f_count += usize::from(draft.f.is_none());
        self.without_process_count += usize::from(draft.process.is_none());
        self.add(draft.finish_unnamed()?, place);
        Ok(())
    }

    fn add(&mut self, op: Op, place: Place) {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.ops.push(op);
        self.places.push((number(place.line), number(place.column)));
    }

    /// Adds the records of the next part.
    fn join(&mut self, mut next: Records) {
        self.numbering.join(next.numbering, self.ops.len());
        self.without_f_count += next.without_f_count;
        self.without_process_count += next.without_process_count;
        self.ops.append(&mut next.ops);
        self.places.append(&mut next.places);
    }

    fn place(&self, position: usize) -> Option<Place> {
        let &(line, column) = self.places.get(position)?;
        Some(Place { line: line as usize, column: column as usize })
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

fn finish(name: &str, mut records: Records, format: Format) -> Result<Loaded, LoadError> {
    if records.ops.is_empty() {
        return Err(LoadError::Empty { path: name.to_owned() });
    }
    if let Some((position, index)) = records.numbering.renumbered()
        && let Some(place) = records.place(position)
    {
        records.notices.push(format!(
            "{name}: records are numbered by position from 0; the first whose :index differs is record \
             {position} at line {} (:index {index})",
            place.line
        ));
    }
    look::tell(name, &mut records);
    if records.without_f_count > 0 {
        records.notices.push(format!("{name}: {} records have no :f", records.without_f_count));
    }
    repair::name_processes(name, &mut records)?;
    let history = match History::try_new(std::mem::take(&mut records.ops)) {
        Ok(history) => history,
        Err((error, ops)) => {
            records.ops = ops;
            let place = error::position_of(&error).and_then(|position| records.place(position));
            if !repair::mend(name, &mut records) {
                return Err(LoadError::History { path: name.to_owned(), place, source: error });
            }
            History::new(records.ops).map_err(|source| LoadError::History {
                path: name.to_owned(),
                place,
                source,
            })?
        }
    };
    let history = if records.without_real_time { history.without_real_time() } else { history };
    let history = match records.has_added_invocations {
        true => history.with_added_invocations(),
        false => history,
    };
    Ok(Loaded { history, format, notices: records.notices })
}

#[cfg(test)]
mod tests;
