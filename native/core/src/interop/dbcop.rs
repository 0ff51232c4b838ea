//! Histories of dbcop: its compact text (`.hist`) and its JSON, of today and of the versions before.
//!
//! Text: `[x:=1 y==2 z==?]` is a transaction that writes 1 to x and reads 2 of y and nothing of z, `!` behind
//! it marks one that did not commit, lines of dashes part sessions, `//` begins a comment.
//!
//! JSON: an array of sessions, each an array of `{"events": […], "committed": true}`, perhaps as `"data"` of an
//! object with `"params"` and times. An event is `{"Write": {"variable": 0, "version": 1}}`, `["w", 0, 1]`, or
//! of older versions `{"write": true, "variable": 0, "value": 1, "success": true}` in a transaction with
//! `"success"`; an event without success did not happen.
//!
//! Version 0 is the initial state unless somebody writes it.

use serde::Deserialize;
use serde_json::Value as Json;

use super::Records;
use super::error::{LoadError, Place, Source};
use super::sessions::{Mop, Sessions, Txn};
use crate::sym::Sym;
use crate::value::Value;

/// Reads either form.
pub(super) fn read(source: &Source<'_>) -> Result<Records, LoadError> {
    let text = source.text.trim_start();
    let is_json = text.starts_with('{')
        || text.strip_prefix('[').is_some_and(|rest| {
            let rest = rest.trim_start();
            rest.starts_with(['[', '{']) || rest.starts_with(']')
        });
    let mut sessions = match is_json {
        true => read_json(source)?,
        false => {
            Reader { source, at: 0, place: Place { line: 1, column: 1 }, placed_at: 0 }.read()?
        }
    };
    sessions.initial_zero_is_nil();
    Ok(sessions.into_records(source.name))
}

struct Reader<'a> {
    source: &'a Source<'a>,
    at: usize,
    place: Place,
    placed_at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.source.text[self.at..]
    }

    fn skip(&mut self, blank: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(blank).len();
    }

    fn read(mut self) -> Result<Sessions, LoadError> {
        let mut sessions = Sessions::default();
        let mut session = 0;
        loop {
            self.skip(char::is_whitespace);
            let rest = self.rest();
            if rest.is_empty() {
                return Ok(sessions);
            } else if rest.starts_with("//") {
                self.skip(|c| c != '\n');
            } else if rest.starts_with('-') {
                self.skip(|c| c == '-');
                session += 1;
            } else if rest.starts_with('[') {
                let txn = self.transaction()?;
                sessions.of(session).push(txn);
            } else {
                return Err(
                    self.unexpected("a transaction such as [x:=1 y==2], a comment or dashes")
                );
            }
        }
    }

    fn transaction(&mut self) -> Result<Txn, LoadError> {
        let start = self.at;
        let passed = &self.source.text.as_bytes()[self.placed_at..start];
        self.place = self.place.behind(passed);
        self.placed_at = start;
        let mut txn = Txn { mops: Vec::new(), has_committed: true, place: self.place };
        self.at += 1;
        loop {
            self.skip(|c| matches!(c, ' ' | '\t'));
            if self.rest().starts_with(']') {
                self.at += 1;
                if self.rest().starts_with('!') {
                    self.at += 1;
                    txn.has_committed = false;
                }
                return Ok(txn);
            }
            if self.rest().is_empty() {
                return Err(LoadError::Truncated {
                    path: self.source.name.to_owned(),
                    place: self.source.place(self.at),
                    inside: "a transaction",
                    opened: txn.place,
                    record_count: 0,
                });
            }
            txn.mops.push(self.event()?);
        }
    }

    fn event(&mut self) -> Result<Mop, LoadError> {
        const EXPECTED: &str = "an event such as x:=1, x==1 or x==?";
        let start = self.at;
        let name = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            self.at = start;
            return Err(self.unexpected(EXPECTED));
        }
        self.skip(|c| matches!(c, ' ' | '\t'));
        let is_write = self.rest().starts_with(":=");
        if !is_write && !self.rest().starts_with("==") {
            return Err(self.unexpected(":= or == behind the name of a variable"));
        }
        self.at += 2;
        self.skip(|c| matches!(c, ' ' | '\t'));
        let version_at = self.at;
        let value = if !is_write && self.rest().starts_with('?') {
            self.at += 1;
            Value::Nil
        } else {
            let digits = self.word(|c| c.is_ascii_digit());
            match digits.parse() {
                Ok(version) => Value::Int(version),
                Err(_) => {
                    self.at = version_at;
                    return Err(self.unexpected("a version: an integer that is not negative"));
                }
            }
        };
        let key = Sym::try_new(name).map(Value::Sym).map_err(|full| LoadError::Names {
            path: self.source.name.to_owned(),
            place: self.source.place(start),
            source: full,
        })?;
        Ok(Mop { is_write, key, value })
    }

    fn word(&mut self, part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let start = self.at;
        self.skip(part);
        &rest[..self.at - start]
    }

    fn unexpected(&self, expected: &str) -> LoadError {
        let found: String = self.rest().chars().take_while(|c| *c != '\n').take(30).collect();
        self.source.syntax(self.at, format!("found {found:?}, expected {expected}"))
    }
}

#[derive(Deserialize)]
struct JsonHistory {
    data: Vec<Vec<JsonTxn>>,
}

#[derive(Deserialize)]
struct JsonTxn {
    events: Vec<JsonEvent>,
    #[serde(alias = "success")]
    committed: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum JsonEvent {
    Tagged(JsonTagged),
    Compact(JsonKind, Json, Option<i64>),
    Old { write: bool, variable: Json, value: Option<i64>, success: bool },
}

#[derive(Deserialize)]
enum JsonTagged {
    Read { variable: Json, version: Option<i64> },
    Write { variable: Json, version: i64 },
}

#[derive(Deserialize)]
enum JsonKind {
    #[serde(rename = "r")]
    Read,
    #[serde(rename = "w")]
    Write,
}

fn read_json(source: &Source<'_>) -> Result<Sessions, LoadError> {
    let text = source.text;
    let parsed = match text.trim_start().starts_with('{') {
        true => serde_json::from_str::<JsonHistory>(text).map(|history| history.data),
        false => serde_json::from_str::<Vec<Vec<JsonTxn>>>(text),
    };
    let data = parsed.map_err(|error| {
        let place = Place { line: error.line().max(1), column: error.column().max(1) };
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |parts| parts.0);
        let message = format!("not a history of dbcop in JSON (an array of sessions): {message}");
        LoadError::Syntax { path: source.name.to_owned(), place, message }
    })?;
    let place = Place { line: 1, column: 1 };
    let mut sessions = Sessions::default();
    for (number, txns) in data.into_iter().enumerate() {
        for (position, txn) in txns.into_iter().enumerate() {
            let mut mops = Vec::with_capacity(txn.events.len());
            for event in txn.events {
                let mop = mop(event).map_err(|variable| LoadError::Syntax {
                    path: source.name.to_owned(),
                    place,
                    message: format!(
                        "session {number}, transaction {position}: a variable is an integer or a string, \
                         found {variable}"
                    ),
                })?;
                mops.extend(mop);
            }
            let txn = Txn { mops, has_committed: txn.committed, place };
            sessions.of(number as i64).push(txn);
        }
    }
    Ok(sessions)
}

/// The read or write, `None` if it did not happen; or the variable that is none.
fn mop(event: JsonEvent) -> Result<Option<Mop>, Json> {
    let (is_write, variable, version) = match event {
        JsonEvent::Tagged(JsonTagged::Read { variable, version }) => (false, variable, version),
        JsonEvent::Tagged(JsonTagged::Write { variable, version }) => {
            (true, variable, Some(version))
        }
        JsonEvent::Compact(kind, variable, version) => {
            (matches!(kind, JsonKind::Write), variable, version)
        }
        JsonEvent::Old { success: false, .. } => return Ok(None),
        JsonEvent::Old { write, variable, value, .. } => (write, variable, value),
    };
    let key = match &variable {
        Json::Number(number) => number.as_i64().map(Value::Int),
        Json::String(text) => Some(Value::str(text.as_str())),
        _ => None,
    };
    let value = version.map_or(Value::Nil, Value::Int);
    Ok(Some(Mop { is_write, key: key.ok_or(variable)?, value }))
}
