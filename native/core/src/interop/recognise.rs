//! Tells formats apart by content, and names what is not a history.

use super::error::{LoadError, place};
use super::{Format, jepsen_log, sessions};
use crate::history_file::MAGIC;

/// Whether a file that begins so is one of ours, of any version or damaged behind its first bytes.
pub(super) fn is_ours(start: &[u8]) -> bool {
    start.starts_with(&MAGIC[..4])
}

fn other<T>(
    path: &str,
    found: impl Into<String>,
    advice: impl Into<String>,
) -> Result<T, LoadError> {
    Err(LoadError::OtherFormat {
        path: path.to_owned(),
        found: found.into(),
        advice: advice.into(),
    })
}

/// What a person is told who gives something else.
fn any_format() -> String {
    format!(
        "a history is EDN of Jepsen (one map a line, or one vector of maps), JSON lines or an array of JSON, \
         a log of Jepsen, the text of Plume, AWDIT or dbcop, or a history.fdh of fuzz_dist, each also \
         packed with gzip or zstd; `--format NAME` names it ({})",
        Format::NAMES.join(", ")
    )
}

/// Our own format is no text.
pub(super) fn not_text(name: &str) -> LoadError {
    let found = "is a history.fdh, which has no text".to_owned();
    LoadError::OtherFormat { path: name.to_owned(), found, advice: any_format() }
}

/// The text of the bytes, without a byte order mark.
pub(super) fn text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, LoadError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        let (path, byte) = (name.to_owned(), bytes.get(offset).copied().unwrap_or(0));
        LoadError::NotUtf8 { path, place: place(bytes, offset), byte }
    })
}

/// Whether what begins so may be text.
pub(super) fn refuse_binary(name: &str, start: &[u8]) -> Result<(), LoadError> {
    let starts = |magic: &[u8]| start.starts_with(magic);
    if starts(b"PK\x03\x04") {
        return other(name, "is a zip archive", "unpack it and give the history inside");
    }
    if starts(b"JEPSEN") {
        let advice = "give the history.edn that lies beside it";
        return other(name, "is Jepsen's own binary store (test.jepsen)", advice);
    }
    if starts(b"\xff\xfe") || starts(b"\xfe\xff") {
        return other(name, "is text in UTF-16", "convert it to UTF-8 with iconv first");
    }
    if name.ends_with(".bincode") {
        return refuse_bincode(name);
    }
    for (magic, what) in [(&b"BZh"[..], "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x04\x22\x4d\x18", "lz4")]
    {
        if starts(magic) {
            let advice = "unpack it first, or pack it with gzip or zstd";
            return other(name, format!("is packed with {what}"), advice);
        }
    }
    if start.contains(&0) {
        return other(name, "is binary: it holds NUL bytes", any_format());
    }
    Ok(())
}

/// The binary form of dbcop does not say what it is: it depends on the version of the program.
pub(super) fn refuse_bincode<T>(name: &str) -> Result<T, LoadError> {
    let advice = "give its JSON or text, or convert it with `awdit convert -f dbcop -t plume`";
    other(name, "is a history of dbcop in bincode, whose layout only that program knows", advice)
}

/// The format of a text, from how it begins.
pub(super) fn format(name: &str, beginning: &[u8]) -> Result<Format, LoadError> {
    let text = match std::str::from_utf8(beginning) {
        Ok(text) => text,
        // The last character may be cut; what is wrong before is told when it is read.
        Err(error) => std::str::from_utf8(&beginning[..error.valid_up_to()]).unwrap_or_default(),
    };
    let rest = skip_blank(text.trim_start_matches('\u{feff}'));
    let second = |rest: &str| skip_blank(rest.get(1..).unwrap_or("")).chars().next();
    match rest.chars().next() {
        None if beginning.iter().all(|byte| byte.is_ascii()) => {
            Err(LoadError::Empty { path: name.to_owned() })
        }
        Some('{') => Ok(match second(rest) {
            Some('"') if sessions::is_dbcop_json(rest) => Format::Dbcop,
            Some('"') => Format::Json,
            _ => Format::Edn,
        }),
        Some('[') => {
            let first = skip_blank(&rest[1..]);
            Ok(match first.chars().next() {
                Some('[') => Format::Dbcop,
                Some('{') if second(first) == Some('"') => Format::Json,
                _ if sessions::is_dbcop_text(rest) => Format::Dbcop,
                _ => Format::Edn,
            })
        }
        Some('(' | '#') => Ok(Format::Edn),
        Some('<') => other(name, "looks like HTML or XML", any_format()),
        _ if sessions::is_dbcop_text(rest) => Ok(Format::Dbcop),
        _ if sessions::is_plume(rest) => Ok(Format::Plume),
        _ if sessions::is_awdit(rest) => Ok(Format::Awdit),
        _ if jepsen_log::begins(rest)
            || rest.lines().any(|line| jepsen_log::fields(line).is_some()) =>
        {
            Ok(Format::JepsenLog)
        }
        _ => {
            let line: String = rest.chars().take_while(|c| *c != '\n').take(40).collect();
            other(name, format!("begins with {line:?}"), any_format())
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
