//! Histories in JSON: one object a line, or one array of objects.
//!
//! `type`, `f`, `process` and `node` are names with or without colon, and so are all keys of a record;
//! values are read as [`super::json`] tells.

use super::Records;
use super::draft::{Draft, Key};
use super::edn::{Memory, ParseError, Parsed, Problem};
use super::error::{Place, ShapeError, shown};
use super::json::{self, Parser};
use super::stream::{Mode, Part, PartError, PartText};
use crate::op::{OpType, Process};

/// Reads the operations of a part of a text.
pub(super) fn read_part(part: PartText<'_>, memory: Memory) -> (Memory, Result<Part, PartError>) {
    let mut reader = Reader::new(&part, memory);
    let read = reader.part(part.mode, part.is_last);
    let Reader { parser, records, .. } = reader;
    let result = match read {
        Ok(mode) => Ok(Part { records, mode }),
        Err(error) => Err(PartError { error, record_count: records.ops.len() }),
    };
    (parser.memory, result)
}

struct Reader<'a> {
    parser: Parser<'a>,
    records: Records,
    /// The place of `placed_at`, which only moves on.
    place: Place,
    placed_at: usize,
}

impl<'a> Reader<'a> {
    fn new(part: &PartText<'a>, memory: Memory) -> Reader<'a> {
        let mut parser = Parser::new(part.text, memory);
        if part.mode == Mode::Start && part.text.starts_with('\u{feff}') {
            parser.at = '\u{feff}'.len_utf8();
        }
        let place = Place { line: part.lines_before + 1, column: 1 };
        Reader { parser, records: Records::default(), place, placed_at: 0 }
    }

    /// Reads to the end of the text, and gives what the next part stands in.
    fn part(&mut self, mode: Mode, is_last: bool) -> Parsed<Mode> {
        self.parser.skip_blank();
        match (mode, self.parser.peek()) {
            (Mode::Start, None) if !is_last => Ok(Mode::Start),
            (Mode::Start, Some(b'[')) => {
                let opened = self.place_of(self.parser.at);
                self.parser.at += 1;
                if self.parser.eat(b']') {
                    return self.part(Mode::After, true);
                }
                self.elements(opened)
            }
            (Mode::Start | Mode::Lines, _) => {
                while self.parser.at < self.parser.text.len() {
                    self.operation()?;
                    self.parser.skip_blank();
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
            self.parser.skip_blank();
            if self.parser.peek().is_none() {
                let what = "the array of operations";
                return Ok(Mode::Inside { what, close: b']', opened });
            }
            let start = self.parser.at;
            self.operation()?;
            self.parser.skip_blank();
            match self.parser.peek() {
                Some(b',') => self.parser.at += 1,
                Some(b']') => {
                    self.parser.at += 1;
                    return self.part(Mode::After, true);
                }
                None => return Err(self.truncated("the array of operations", start)),
                Some(_) => return Err(self.unexpected("a comma or the end of the array")),
            }
        }
    }

    fn operation(&mut self) -> Parsed<()> {
        let start = self.parser.at;
        if let Some(draft) = self.like_another(start) {
            let place = self.place_of(start);
            return self.records.push(draft, place).map_err(|error| shape(start, error));
        }
        let draft = self.draft().map_err(|mut error| {
            if error.is_truncated() {
                return self.truncated("an operation", start);
            }
            // What is wrong with a record is told at its beginning, as it concerns the whole.
            if matches!(error.problem, Problem::Shape(_)) {
                error.offset = start;
            }
            error
        })?;
        let templates = &mut self.parser.memory.templates;
        let bytes = self.parser.text.as_bytes();
        templates.learn(bytes, start, self.parser.at, json::is_apart);
        let place = self.place_of(start);
        self.records.push(draft, place).map_err(|error| shape(start, error))
    }

    /// Reads a record that is written as an earlier one was.
    fn like_another(&mut self, start: usize) -> Option<Draft> {
        for number in self.parser.memory.templates.candidates() {
            if let Some(draft) = self.like(number, start) {
                self.parser.memory.templates.fits(number);
                return Some(draft);
            }
            self.parser.rewind(start);
        }
        None
    }

    fn like(&mut self, number: usize, start: usize) -> Option<Draft> {
        // Taken out, since reading values changes what is beside it.
        let templates = std::mem::take(&mut self.parser.memory.templates);
        let template = templates.get(number);
        let mut read = || {
            let mut draft = Draft::default();
            self.parser.at = start;
            for step in &template.steps {
                self.skip(&step.before)?;
                match self.usual(step.key, &mut draft).ok()? {
                    Some(set) => set.ok()?,
                    None => {
                        let value = self.parser.value().ok()?;
                        draft.set(step.key, value).ok()?;
                    }
                }
            }
            self.skip(&template.end)?;
            Some(draft)
        };
        let draft = read();
        self.parser.memory.templates = templates;
        draft
    }

    #[inline]
    fn skip(&mut self, expected: &[u8]) -> Option<()> {
        self.parser.text.as_bytes()[self.parser.at..].starts_with(expected).then(|| {
            self.parser.at += expected.len();
        })
    }

    fn draft(&mut self) -> Parsed<Draft> {
        let start = self.parser.at;
        if self.parser.peek() != Some(b'{') {
            let value = self.parser.value()?;
            return Err(shape(start, ShapeError::NotAMap { found: shown(&value) }));
        }
        self.parser.at += 1;
        let mut draft = Draft::default();
        let mut wrong = None;
        let mut goes_on = !self.parser.eat(b'}');
        self.parser.memory.templates.begin();
        while goes_on {
            let name = self.parser.key()?;
            let name = name.strip_prefix(':').unwrap_or(&name);
            let key = match Key::known(name) {
                Some(key) => key,
                None => Key::Extra(self.parser.name(name)?),
            };
            self.parser.skip_blank();
            let from = self.parser.at;
            let set = match self.usual(key, &mut draft)? {
                Some(set) => set,
                None => draft.set(key, self.parser.value()?),
            };
            self.parser.memory.templates.value(key, from, self.parser.at);
            wrong = wrong.or(set.err());
            goes_on = self.parser.comma(b'}', "expected `,` or `}`")?;
        }
        wrong.map_or(Ok(draft), |error| Err(shape(start, error)))
    }

    /// Reads the value of a key as it nearly always stands there, without making a value of it; anything
    /// unusual is left to the long way.
    fn usual(&mut self, key: Key, draft: &mut Draft) -> Parsed<Option<Result<(), ShapeError>>> {
        self.parser.skip_blank();
        let start = self.parser.at;
        let set = match (key, self.parser.peek()) {
            (Key::Type, Some(b'"')) => {
                let name = self.parser.string()?;
                OpType::parse(name.strip_prefix(':').unwrap_or(&name))
                    .map(|op_type| draft.set_type(op_type))
            }
            (Key::F | Key::Node, Some(b'"')) => {
                let name = self.parser.string()?;
                let sym = self.parser.name(name.strip_prefix(':').unwrap_or(&name))?;
                Some(if key == Key::F { draft.set_f(sym) } else { draft.set_node(sym) })
            }
            (Key::Time | Key::Index | Key::Process, Some(b'0'..=b'9' | b'-')) => {
                self.parser.small_integer().map(|n| match key {
                    Key::Time => draft.set_time(n),
                    Key::Index => draft.set_index(n),
                    _ => draft.set_process(Process::Client(n)),
                })
            }
            _ => None,
        };
        if set.is_none() {
            self.parser.at = start;
        }
        Ok(set)
    }

    /// The place of a byte that is not before the last one asked for.
    fn place_of(&mut self, offset: usize) -> Place {
        let passed = &self.parser.text.as_bytes()[self.placed_at..offset];
        self.place = self.place.behind(passed);
        self.placed_at = offset;
        self.place
    }

    fn truncated(&self, inside: &'static str, opened: usize) -> Box<ParseError> {
        let problem = Problem::Truncated(inside);
        Box::new(ParseError { offset: self.parser.text.len(), opened: Some(opened), problem })
    }

    fn unexpected(&self, expected: &str) -> Box<ParseError> {
        let rest = &self.parser.text[self.parser.at..];
        let found: String = rest.chars().take_while(|c| *c != '\n').take(30).collect();
        let message = format!("found {found:?}, expected {expected}");
        Box::new(ParseError {
            offset: self.parser.at,
            opened: None,
            problem: Problem::Syntax(message),
        })
    }
}

fn shape(offset: usize, error: ShapeError) -> Box<ParseError> {
    Box::new(ParseError { offset, opened: None, problem: Problem::Shape(error) })
}
