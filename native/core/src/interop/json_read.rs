//! Histories in JSON: one object a line, or one array of objects.
//!
//! JSON has fewer kinds of values than a history, so: a string that begins with a colon is a name
//! (`":append"`), any other is text; keys of objects that are integers are integers (`{"0": 100}` of a
//! bank), all others names; `{"#edn": "…"}` holds in EDN whatever JSON cannot say. `type`, `f`,
//! `process` and `node` are names with or without colon. Integers beyond 64 bits that are written as
//! plain JSON numbers become floats.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::Records;
use super::draft::{Draft, Key};
use super::edn::parse_edn_value;
use super::error::{LoadError, ShapeError, Source, shown};
use crate::etf::names::with_names;
use crate::value::Value;

/// The key of an object that holds EDN.
pub(super) const EDN_KEY: &str = "#edn";

/// Reads every operation of the text.
pub(super) fn read(source: &Source<'_>) -> Result<Records, LoadError> {
    let mut reader = Reader { source, at: 0, records: Records::default() };
    reader.skip_blank();
    if source.text[reader.at..].starts_with('[') {
        reader.array()?;
    } else {
        while reader.at < source.text.len() {
            reader.operation()?;
            reader.skip_blank();
        }
    }
    Ok(reader.records)
}

struct Reader<'a> {
    source: &'a Source<'a>,
    at: usize,
    records: Records,
}

impl Reader<'_> {
    fn skip_blank(&mut self) {
        let rest = &self.source.text.as_bytes()[self.at..];
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += rest.iter().position(|byte| !blank(byte)).unwrap_or(rest.len());
    }

    fn peek(&self) -> Option<u8> {
        self.source.text.as_bytes().get(self.at).copied()
    }

    fn array(&mut self) -> Result<(), LoadError> {
        let start = self.at;
        self.at += 1;
        self.skip_blank();
        let mut closed = self.peek() == Some(b']');
        while !closed {
            if self.peek().is_none() {
                return Err(self.truncated("the array of operations", start));
            }
            self.operation()?;
            self.skip_blank();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.skip_blank();
                }
                Some(b']') => closed = true,
                None => return Err(self.truncated("the array of operations", start)),
                Some(_) => return Err(self.unexpected("a comma or the end of the array")),
            }
        }
        self.at += 1;
        self.skip_blank();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end of the file behind the array")),
        }
    }

    fn operation(&mut self) -> Result<(), LoadError> {
        let start = self.at;
        let mut stream =
            serde_json::Deserializer::from_str(&self.source.text[start..]).into_iter::<Record>();
        let record = match stream.next() {
            Some(Ok(record)) => record,
            Some(Err(error)) if error.is_eof() => {
                return Err(self.truncated("an operation", start));
            }
            Some(Err(error)) => return Err(self.syntax(start, &error)),
            None => return Err(self.truncated("the file", start)),
        };
        self.at += stream.byte_offset();
        let shape = |source| LoadError::Shape {
            path: self.source.name.to_owned(),
            place: self.source.place(start),
            source,
        };
        let draft = record.0.map_err(shape)?;
        self.records.push(draft, start).map_err(shape)
    }

    fn truncated(&self, inside: &'static str, opened: usize) -> LoadError {
        LoadError::Truncated {
            path: self.source.name.to_owned(),
            place: self.source.place(self.source.text.len()),
            inside,
            opened: self.source.place(opened),
            record_count: self.records.ops.len(),
        }
    }

    fn unexpected(&self, expected: &str) -> LoadError {
        let rest = &self.source.text[self.at..];
        let found: String = rest.chars().take_while(|c| *c != '\n').take(30).collect();
        LoadError::Syntax {
            path: self.source.name.to_owned(),
            place: self.source.place(self.at),
            message: format!("found {found:?}, expected {expected}"),
        }
    }

    /// The parser counts lines from the start of the record; people from the start of the file.
    fn syntax(&self, start: usize, error: &serde_json::Error) -> LoadError {
        let rest = &self.source.text[start..];
        let line = rest.split_inclusive('\n').take(error.line().saturating_sub(1));
        let line_offset: usize = line.map(str::len).sum();
        let offset = start + line_offset + error.column().saturating_sub(1);
        let text = error.to_string();
        let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
        LoadError::Syntax {
            path: self.source.name.to_owned(),
            place: self.source.place(offset),
            message: format!("not JSON: {message}"),
        }
    }
}

/// One element of a history, which may be of the wrong shape.
struct Record(Result<Draft, ShapeError>);

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Record, D::Error> {
        deserializer.deserialize_any(RecordVisitor)
    }
}

struct RecordVisitor;

fn not_a_map(value: Value) -> Record {
    Record(Err(ShapeError::NotAMap { found: shown(&value) }))
}

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an operation")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
        let mut draft = Draft::default();
        let mut wrong = None;
        while let Some(name) = map.next_key::<String>()? {
            let Json(value) = map.next_value()?;
            let name = name.strip_prefix(':').unwrap_or(&name);
            let key = match Key::known(name) {
                Some(key) => key,
                None => Key::Extra(with_names(|names| names.sym(name)).map_err(A::Error::custom)?),
            };
            if wrong.is_none() {
                wrong = draft.set(key, value).err();
            }
        }
        Ok(Record(wrong.map_or(Ok(draft), Err)))
    }

    fn visit_unit<E: Error>(self) -> Result<Record, E> {
        JsonVisitor.visit_unit().map(|json| not_a_map(json.0))
    }

    fn visit_bool<E: Error>(self, b: bool) -> Result<Record, E> {
        JsonVisitor.visit_bool(b).map(|json| not_a_map(json.0))
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<Record, E> {
        JsonVisitor.visit_i64(n).map(|json| not_a_map(json.0))
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<Record, E> {
        JsonVisitor.visit_u64(n).map(|json| not_a_map(json.0))
    }

    fn visit_f64<E: Error>(self, x: f64) -> Result<Record, E> {
        JsonVisitor.visit_f64(x).map(|json| not_a_map(json.0))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Record, E> {
        Ok(not_a_map(Value::str(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Record, A::Error> {
        JsonVisitor.visit_seq(seq).map(|json| not_a_map(json.0))
    }
}

/// A value in JSON.
struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json(Value::Nil))
    }

    fn visit_bool<E: Error>(self, b: bool) -> Result<Json, E> {
        Ok(Json(Value::Bool(b)))
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<Json, E> {
        Ok(Json(Value::Int(n)))
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<Json, E> {
        Ok(Json(match i64::try_from(n) {
            Ok(n) => Value::Int(n),
            Err(_) => Value::BigInt(Arc::new(n.to_string())),
        }))
    }

    fn visit_f64<E: Error>(self, x: f64) -> Result<Json, E> {
        Ok(Json(Value::Float(x)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        match text.strip_prefix(':') {
            Some(name) => name_value(name),
            None => Ok(Json(Value::str(text))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(Json(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json(Value::list(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut pairs = Vec::new();
        let mut edn = None;
        while let Some(key) = map.next_key::<String>()? {
            let Json(value) = map.next_value()?;
            if key == EDN_KEY {
                let text = value.as_text().ok_or_else(|| {
                    A::Error::custom(format!("{EDN_KEY} is followed by a string of EDN"))
                })?;
                edn = Some(parse_edn_value(text).map_err(A::Error::custom)?);
                continue;
            }
            let key = match canonical_integer(&key) {
                Some(n) => Value::Int(n),
                None => name_value(&key)?.0,
            };
            pairs.push((key, value));
        }
        match (edn, pairs.is_empty()) {
            (Some(value), true) => Ok(Json(value)),
            (Some(_), false) => {
                Err(A::Error::custom(format!("{EDN_KEY} must be the only key of its object")))
            }
            (None, _) => Ok(Json(Value::map(pairs))),
        }
    }
}

fn name_value<E: Error>(name: &str) -> Result<Json, E> {
    with_names(|names| names.sym(name)).map(|sym| Json(Value::Sym(sym))).map_err(E::custom)
}

/// The integer that a key is, if it is written as we would write it.
pub(super) fn canonical_integer(key: &str) -> Option<i64> {
    key.parse::<i64>().ok().filter(|n| n.to_string() == key)
}
