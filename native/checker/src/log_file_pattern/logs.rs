//! The log files of the nodes, and their lines.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use fuzz_dist_core::file;

use crate::budget::Meter;
use crate::log_file_pattern::stamp;

/// Longest part of a line that is looked at.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Longest part of a line that is told.
const LINE_CHARS_MAX: usize = 500;
/// How many lines, or parts of a long one, are read between two looks at the clock.
const LINES_PER_LOOK: u64 = 1 << 12;
/// How deep below a node's folder logs are looked for.
const DEPTH_MAX: usize = 4;

/// One file of a node.
#[derive(Debug)]
pub(super) struct LogFile {
    node: String,
    /// Within the node's folder.
    name: String,
    path: PathBuf,
}

/// A line with its place.
#[derive(Debug)]
pub(super) struct Line {
    pub node: String,
    pub file: String,
    pub number: u64,
    pub bytes: Vec<u8>,
    /// Of the last time stamp at or before it, in nanoseconds since 1970.
    pub wall_ns: Option<i64>,
}

impl Line {
    /// Where it stands.
    pub fn place(&self) -> String {
        format!("{} {}:{}", self.node, self.file, self.number)
    }

    /// For people: printable, and not too long.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let shown: String = text
            .chars()
            .take(LINE_CHARS_MAX)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        shown.trim_end().to_owned()
    }
}

impl LogFile {
    /// Calls `each` for every line.
    pub fn lines(&self, meter: &Meter, each: &mut dyn FnMut(Line)) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.path.display());
        let file = match file::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(failed)?,
        };
        let mut reader = BufReader::new(file);
        let (mut number, mut wall_ns) = (0, None);
        loop {
            let mut bytes = Vec::new();
            let read =
                (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).map_err(failed)?;
            if read == 0 {
                return Ok(());
            }
            if bytes.pop_if(|last| *last == b'\n').is_none() {
                skip_line(&mut reader, meter).map_err(failed)?;
            }
            number += 1;
            if number % LINES_PER_LOOK == 0 {
                meter.check_time().map_err(|why| failed(std::io::Error::other(why)))?;
            }
            wall_ns = stamp::wall_ns(&bytes).or(wall_ns);
            each(Line { node: self.node.clone(), file: self.name.clone(), number, bytes, wall_ns });
        }
    }
}

/// Drops the rest of a line.
fn skip_line(reader: &mut impl BufRead, meter: &Meter) -> std::io::Result<()> {
    for part in 0_u64.. {
        if part % LINES_PER_LOOK == 0 {
            meter.check_time().map_err(std::io::Error::other)?;
        }
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

/// The log files of each node below `path`, which is a run or a folder of nodes.
pub(super) fn files(path: &Path, names: Option<&[String]>) -> Result<Vec<LogFile>, String> {
    let nodes = path.join("nodes");
    let root = if is_folder(&nodes) { nodes } else { path.to_owned() };
    let mut files = Vec::new();
    for folder in entries(&root)?.into_iter().filter(|entry| is_folder(entry)) {
        let node = file_name(&folder);
        let mut add = |path: PathBuf| {
            let name = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
            files.push(LogFile { node: node.clone(), name, path });
        };
        match names {
            None => all(&folder, 0, false, &mut add)?,
            Some(names) => {
                let mut found = Vec::new();
                all(&folder, 0, true, &mut |path| found.push(path))?;
                let wanted = |path: &PathBuf| {
                    let within = path.strip_prefix(&folder).unwrap_or(path);
                    names.iter().any(|name| within == Path::new(name) || file_name(path) == *name)
                };
                found.into_iter().filter(wanted).for_each(add);
            }
        }
    }
    Ok(files)
}

/// Files below a folder: `*.log`, and everything in a folder `log`; or any.
fn all(folder: &Path, depth: usize, any: bool, add: &mut dyn FnMut(PathBuf)) -> Result<(), String> {
    let in_log = folder.file_name().is_some_and(|name| name == "log");
    for entry in entries(folder)? {
        if is_folder(&entry) {
            if depth < DEPTH_MAX {
                all(&entry, depth + 1, any, add)?;
            }
        } else if !entry.symlink_metadata().is_ok_and(|found| found.is_file()) {
            // What a link leads to is not of this node, or is found by its own name.
        } else if any || in_log || entry.extension().is_some_and(|ending| ending == "log") {
            add(entry);
        }
    }
    Ok(())
}

/// What a link leads to does not count.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
