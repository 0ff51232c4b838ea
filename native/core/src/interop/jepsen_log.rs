//! Logs of Jepsen: `jepsen.log` and `history.txt`.
//!
//! A record is a line whose end is process, type, function, value and, where there is one, the error, with
//! tabs or several blanks between: `INFO  jepsen.util - 0<TAB>:invoke<TAB>:read<TAB>nil` as
//! `jepsen.util/log-op` writes it, with the date and thread of newer versions before it, or without
//! anything before it as in `history.txt` (padded with blanks). In a log all other lines are skipped and
//! counted; a file without a logger's name on its records is a `history.txt`, where they are errors.
//!
//! The error is EDN, or else text: Jepsen prints messages of exceptions as they are. Their further lines
//! belong to the record before them.
//!
//! An operation that timed out is logged with `:timed-out` in place of its value; that is its error, and its
//! value is that of its invocation.

use std::collections::HashMap;

use super::Records;
use super::draft::{Draft, Key};
use super::edn::{parse_edn_prefix, parse_edn_value};
use super::error::{LoadError, Place, ShapeError, Source};
use crate::op::{OpType, Process};
use crate::value::Value;

/// Where the parts of a record stand in its line.
pub(super) struct Fields<'a> {
    /// Whether a logger's words precede it.
    is_logged: bool,
    process: &'a str,
    op_type: OpType,
    /// Function, value and error.
    rest: &'a str,
}

/// The parts of a line, if it is a record.
pub(super) fn fields(line: &str) -> Option<Fields<'_>> {
    let mut from = 0;
    // The type is a word of its own; a value that holds such a word comes behind it.
    while let Some(at) = line[from..].find(':').map(|at| from + at) {
        from = at + 1;
        let word = &line[at + 1..];
        let end = word.find(char::is_whitespace)?;
        let Some(op_type) = OpType::parse(&word[..end]) else { continue };
        let before = line[..at].trim_end();
        if before.len() == at {
            continue;
        }
        let (head, process) = match before.rsplit_once(char::is_whitespace) {
            Some((head, process)) => (head.trim_end(), process),
            None => ("", before),
        };
        let is_process = process.parse::<i64>().is_ok()
            || process.strip_prefix(':').is_some_and(|name| !name.is_empty());
        // What precedes it is the name of a logger, ended by `-` or `:`.
        let is_logged = head.ends_with(['-', ':']);
        if is_process && (head.is_empty() || is_logged) {
            return Some(Fields { is_logged, process, op_type, rest: word[end..].trim_end() });
        }
    }
    None
}

/// Whether a text begins as a `jepsen.log` does: `2020-08-03 23:05:48,259{GMT}<TAB>INFO`. What follows
/// may be a long map before the first record.
pub(super) fn begins(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    let (date, time) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let shape = |text: &str, shape: &str| {
        text.len() >= shape.len()
            && text.bytes().zip(shape.bytes()).all(|(byte, expected)| match expected {
                b'0' => byte.is_ascii_digit(),
                expected => byte == expected,
            })
    };
    let level = words.next().unwrap_or_default();
    date.len() == 10
        && shape(date, "0000-00-00")
        && shape(time, "00:00:00,000")
        && matches!(level, "TRACE" | "DEBUG" | "INFO" | "WARN" | "ERROR" | "FATAL")
}

/// Reads every record of a log.
pub(super) fn read(source: &Source<'_>) -> Result<Records, LoadError> {
    let mut records = Records::default();
    // The value of what each process has begun.
    let mut begun: HashMap<Process, Value> = HashMap::new();
    let (mut skipped_count, mut is_log, mut offset) = (0, false, 0);
    let (mut first_skipped, mut error_is_text) = (None, false);
    for (number, line) in source.text.split_inclusive('\n').enumerate() {
        let start = offset;
        offset += line.len();
        let text = line.trim_end();
        let Some(fields) = fields(text) else {
            if error_is_text && !is_log {
                continue;
            }
            if !text.is_empty() {
                skipped_count += 1;
                first_skipped.get_or_insert(start);
            }
            continue;
        };
        is_log |= fields.is_logged;
        let place = Place { line: number + 1, column: 1 };
        let whole_line = line.ends_with('\n');
        let draft =
            draft(&fields, &mut begun, &mut error_is_text).map_err(|wrong| match wrong {
                _ if !whole_line => LoadError::Truncated {
                    path: source.name.to_owned(),
                    place: source.place(source.text.len()),
                    inside: "a record",
                    opened: place,
                    record_count: records.ops.len(),
                },
                Wrong::Shape(error) => {
                    LoadError::Shape { path: source.name.to_owned(), place, source: error }
                }
                Wrong::Syntax(message) => source.syntax(start, message),
            })?;
        records.push(draft, place).map_err(|error| LoadError::Shape {
            path: source.name.to_owned(),
            place,
            source: error,
        })?;
    }
    match first_skipped {
        Some(first) if !is_log => {
            let message = "expected a record: process, type, function and value with tabs between, as in \
                           history.txt";
            Err(source.syntax(first, message))
        }
        _ => {
            if skipped_count > 0 {
                let name = source.name;
                let notice = format!("{name}: {skipped_count} lines of the log are no records");
                records.notices.push(notice);
            }
            Ok(records)
        }
    }
}

enum Wrong {
    Shape(ShapeError),
    Syntax(String),
}

impl From<ShapeError> for Wrong {
    fn from(error: ShapeError) -> Wrong {
        Wrong::Shape(error)
    }
}

/// Function and value of a record, and the text behind them.
fn columns(rest: &str) -> Result<(Value, Value, &str), Wrong> {
    let not_edn =
        |what: &str, error| Wrong::Syntax(format!("the {what} of the record is not EDN: {error}"));
    let rest = rest.trim_start_matches(' ');
    if let Some(rest) = rest.strip_prefix('\t') {
        let mut columns = rest.splitn(3, '\t');
        let mut next = || columns.next().unwrap_or_default().trim();
        let (f, value, error) = (next(), next(), next());
        let f = parse_edn_value(f).map_err(|error| not_edn("function", error))?;
        let value = match value {
            "" => Value::Nil,
            value => parse_edn_value(value).map_err(|error| not_edn("value", error))?,
        };
        return Ok((f, value, error));
    }
    let (f, rest) = parse_edn_prefix(rest).map_err(|error| not_edn("function", error))?;
    let (value, rest) = match rest.trim() {
        "" => (Value::Nil, ""),
        _ => parse_edn_prefix(rest).map_err(|error| not_edn("value", error))?,
    };
    Ok((f, value, rest.trim()))
}

fn draft(
    fields: &Fields<'_>,
    begun: &mut HashMap<Process, Value>,
    error_is_text: &mut bool,
) -> Result<Draft, Wrong> {
    let parsed = |what: &str, text: &str| {
        parse_edn_value(text)
            .map_err(|error| Wrong::Syntax(format!("the {what} of the record is not EDN: {error}")))
    };
    let (f, mut value, error_text) = columns(fields.rest)?;
    *error_is_text = false;
    let mut error = match error_text {
        "" => Value::Nil,
        text => parse_edn_value(text).unwrap_or_else(|_| {
            *error_is_text = true;
            Value::str(text)
        }),
    };
    let process = parsed("process", fields.process)?;
    let key = match &process {
        Value::Int(number) => Process::Client(*number),
        Value::Sym(name) => Process::Named(*name),
        _ => Process::nemesis(),
    };
    let is_client = matches!(key, Process::Client(_));
    if is_client && fields.op_type == OpType::Invoke {
        begun.insert(key, value.clone());
    } else if is_client {
        let invoked = begun.remove(&key);
        if fields.op_type != OpType::Ok && value == Value::sym("timed-out") && error.is_nil() {
            error = std::mem::replace(&mut value, invoked.unwrap_or_default());
        }
    }
    let mut draft = Draft::default();
    draft.set_type(fields.op_type)?;
    draft.set(Key::Process, process)?;
    draft.set(Key::F, f)?;
    draft.set(Key::Value, value)?;
    draft.set(Key::Error, error)?;
    Ok(draft)
}
