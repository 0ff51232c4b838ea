//! Histories in JSON: one object a line, or one array of objects.
//!
//! JSON has fewer kinds of values than a history, so: a string that begins with a colon is a name
//! (`":append"`), any other is text; keys of objects that are integers are integers (`{"0": 100}` of a
//! bank), all others names; `{"#edn": "…"}` holds in EDN whatever JSON cannot say. `type`, `f`,
//! `process` and `node` are names with or without colon. Integers beyond 64 bits that are written as
//! plain JSON numbers become floats.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::draft::{Draft, Key};
use super::edn::{Memory, ParseError, Parsed, Problem, parse_edn_value};
use super::error::{Place, ShapeError, shown};
use super::sharing::Sharing;
use super::stream::{Mode, Part, PartError, PartText};
use super::{Counted, Records};
use crate::etf::names::with_names;
use crate::value::Value;

/// The key of an object that holds EDN.
pub(super) const EDN_KEY: &str = "#edn";

/// Reads the operations of a part of a text.
pub(super) fn read_part(part: PartText<'_>, memory: Memory) -> (Memory, Result<Part, PartError>) {
    SHARING.replace(memory.sharing);
    let mut reader = Reader::new(&part);
    let read = reader.part(part.mode, part.is_last);
    let records = reader.records;
    let result = match read {
        Ok(mode) => Ok(Part { counted: Counted { records, ..Counted::default() }, mode }),
        Err(error) => Err(PartError { error, record_count: records.ops.len() }),
    };
    (Memory { sharing: SHARING.take(), ..memory }, result)
}

thread_local! {
    /// Lists of the text that this thread reads: the parser knows nothing but the value it makes.
    static SHARING: RefCell<Sharing> = RefCell::default();
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    records: Records,
    /// The place of `placed_at`, which only moves on.
    place: Place,
    placed_at: usize,
}

impl<'a> Reader<'a> {
    fn new(part: &PartText<'a>) -> Reader<'a> {
        let at = match (part.mode, part.text.strip_prefix('\u{feff}')) {
            (Mode::Start, Some(rest)) => part.text.len() - rest.len(),
            _ => 0,
        };
        let place = Place { line: part.lines_before + 1, column: 1 };
        Reader { text: part.text, at, records: Records::default(), place, placed_at: 0 }
    }

    fn skip_blank(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += rest.iter().position(|byte| !blank(byte)).unwrap_or(rest.len());
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Reads to the end of the text, and gives what the next part stands in.
    fn part(&mut self, mode: Mode, is_last: bool) -> Parsed<Mode> {
        self.skip_blank();
        match (mode, self.peek()) {
            (Mode::Start, None) if !is_last => Ok(Mode::Start),
            (Mode::Start, Some(b'[')) => {
                let opened = self.place_of(self.at);
                self.at += 1;
                self.skip_blank();
                if self.peek() == Some(b']') {
                    return self.closed();
                }
                self.elements(opened)
            }
            (Mode::Start | Mode::Lines, _) => {
                while self.at < self.text.len() {
                    self.operation()?;
                    self.skip_blank();
                }
                Ok(Mode::Lines)
            }
            (Mode::Inside { opened, .. }, _) => self.elements(opened),
            (Mode::After, None) => Ok(Mode::After),
            (Mode::After, Some(_)) => Err(self.unexpected("the end of the file behind the array")),
        }
    }

    /// Elements of an array, each behind its comma.
    fn elements(&mut self, opened: Place) -> Parsed<Mode> {
        loop {
            self.skip_blank();
            if self.peek().is_none() {
                let what = "the array of operations";
                return Ok(Mode::Inside { what, close: b']', opened });
            }
            let start = self.at;
            self.operation()?;
            self.skip_blank();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => return self.closed(),
                None => return Err(self.truncated("the array of operations", start)),
                Some(_) => return Err(self.unexpected("a comma or the end of the array")),
            }
        }
    }

    fn closed(&mut self) -> Parsed<Mode> {
        self.at += 1;
        self.part(Mode::After, true)
    }

    fn operation(&mut self) -> Parsed<()> {
        let start = self.at;
        let mut stream =
            serde_json::Deserializer::from_str(&self.text[start..]).into_iter::<Record>();
        let record = match stream.next() {
            Some(Ok(record)) => record,
            Some(Err(error)) if error.is_eof() => {
                return Err(self.truncated("an operation", start));
            }
            Some(Err(error)) => return Err(self.syntax(start, &error)),
            None => return Err(self.truncated("the file", start)),
        };
        self.at += stream.byte_offset();
        let shape = |error| parse_error(start, None, Problem::Shape(error));
        let draft = record.0.map_err(shape)?;
        let place = self.place_of(start);
        self.records.push(draft, place).map_err(shape)
    }

    /// The place of a byte that is not before the last one asked for.
    fn place_of(&mut self, offset: usize) -> Place {
        let passed = &self.text.as_bytes()[self.placed_at..offset];
        self.place = self.place.behind(passed);
        self.placed_at = offset;
        self.place
    }

    fn truncated(&self, inside: &'static str, opened: usize) -> Box<ParseError> {
        parse_error(self.text.len(), Some(opened), Problem::Truncated(inside))
    }

    fn unexpected(&self, expected: &str) -> Box<ParseError> {
        let rest = &self.text[self.at..];
        let found: String = rest.chars().take_while(|c| *c != '\n').take(30).collect();
        let message = format!("found {found:?}, expected {expected}");
        parse_error(self.at, None, Problem::Syntax(message))
    }

    /// The parser counts lines from the start of the record; people from the start of the file.
    fn syntax(&self, start: usize, error: &serde_json::Error) -> Box<ParseError> {
        let rest = &self.text[start..];
        let line = rest.split_inclusive('\n').take(error.line().saturating_sub(1));
        let line_offset: usize = line.map(str::len).sum();
        let offset = start + line_offset + error.column().saturating_sub(1);
        let text = error.to_string();
        let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
        parse_error(offset, None, Problem::Syntax(format!("not JSON: {message}")))
    }
}

fn parse_error(offset: usize, opened: Option<usize>, problem: Problem) -> Box<ParseError> {
    Box::new(ParseError { offset, opened, problem })
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
        Ok(Json(SHARING.with_borrow_mut(|sharing| sharing.list(&mut items, 0))))
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
