//! Tells formats apart by content, and names what is not a history.

use super::Format;
use super::error::{LoadError, Source, place};
use crate::history_file::MAGIC;

/// How much of a text is looked at.
pub(super) const LOOK_BYTES: usize = 4096;
const ANY_FORMAT: &str = "a history is EDN (one map a line, or one vector of maps), JSON lines, or a \
                          history.fdh of fuzz_dist";

/// Whether a file that begins so is one of ours, of any version or damaged behind its first bytes.
pub(super) fn is_ours(start: &[u8]) -> bool {
    start.starts_with(&MAGIC[..4])
}

/// Our own format has no use outside a file.
pub(super) fn not_from_memory(name: &str) -> LoadError {
    LoadError::OtherFormat {
        path: name.to_owned(),
        found: "is a history.fdh that does not come from a file".to_owned(),
        advice: "give the path of the file",
    }
}

/// Whether what begins so may be text.
pub(super) fn refuse_binary(name: &str, start: &[u8]) -> Result<(), LoadError> {
    let Some((found, advice)) = binary(start) else { return Ok(()) };
    Err(LoadError::OtherFormat { path: name.to_owned(), found: found.to_owned(), advice })
}

/// The text of the bytes, without a byte order mark.
pub(super) fn text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, LoadError> {
    refuse_binary(name, bytes)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        let (path, byte) = (name.to_owned(), bytes.get(offset).copied().unwrap_or(0));
        LoadError::NotUtf8 { path, place: place(bytes, offset), byte }
    })
}

fn binary(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    Some(match () {
        () if is_ours(bytes) => {
            ("is a history.fdh that does not come from a file", "give the path of the file")
        }
        () if starts(b"\x1f\x8b") => ("is compressed with gzip", "unpack it with gunzip first"),
        () if starts(b"\x28\xb5\x2f\xfd") => {
            ("is compressed with zstd", "unpack it with unzstd first")
        }
        () if starts(b"PK\x03\x04") => {
            ("is a zip archive", "unpack it and give the history inside")
        }
        () if starts(b"JEPSEN") => (
            "is Jepsen's own binary store (test.jepsen)",
            "give the history.edn that lies beside it",
        ),
        () if starts(b"\xff\xfe") || starts(b"\xfe\xff") => {
            ("is text in UTF-16", "convert it to UTF-8 with iconv first")
        }
        () if bytes.iter().take(LOOK_BYTES).any(|byte| *byte == 0) => {
            ("is binary: it holds NUL bytes", ANY_FORMAT)
        }
        () => return None,
    })
}

/// The format of a text, from its first characters that are neither blank nor comment.
pub(super) fn format(source: &Source<'_>) -> Result<Format, LoadError> {
    let rest = skip_blank(source.text);
    let other = |found: String, advice| {
        Err(LoadError::OtherFormat { path: source.name.to_owned(), found, advice })
    };
    let inner = |rest: &str| skip_blank(rest.get(1..).unwrap_or("")).chars().next();
    match rest.chars().next() {
        None => Err(LoadError::Empty { path: source.name.to_owned() }),
        Some('{') => Ok(if inner(rest) == Some('"') { Format::Json } else { Format::Edn }),
        Some('[') => {
            let first = skip_blank(&rest[1..]);
            let is_json = first.starts_with('{') && inner(first) == Some('"');
            Ok(if is_json { Format::Json } else { Format::Edn })
        }
        Some('(' | '#') => Ok(Format::Edn),
        Some('<') => other("looks like HTML or XML".to_owned(), ANY_FORMAT),
        Some(_) => {
            let start: String = rest.chars().take(LOOK_BYTES).collect();
            let is_log = [":invoke", ":ok", ":info"]
                .iter()
                .any(|name| start.contains(&format!("\t{name}\t")));
            if is_log {
                return other(
                    "is a log of Jepsen (jepsen.log or history.txt)".to_owned(),
                    "give the history.edn of the same run",
                );
            }
            let line: String = start.chars().take_while(|c| *c != '\n').take(40).collect();
            other(format!("begins with {line:?}"), ANY_FORMAT)
        }
    }
}

fn skip_blank(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches(|c: char| c <= ' ' || c == ',');
        match text.strip_prefix(';') {
            Some(comment) => {
                text = comment.split_once('\n').map_or("", |(_, rest)| rest);
            }
            None => return text,
        }
    }
}
