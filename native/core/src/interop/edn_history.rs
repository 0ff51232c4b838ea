//! Histories in EDN: one map a line, one vector or list of maps, or records of `jepsen.history`.

use super::Records;
use super::draft::{Draft, Key};
use super::edn::{self, Memory, ParseError, Parsed, Parser, Problem};
use super::error::{Place, ShapeError, shown};
use super::stream::{Mode, Part, PartError, PartText};
use crate::op::{OpType, Process};
use crate::value::Value;

/// Reads the operations of a part of a text.
pub(super) fn read_part(part: PartText<'_>, memory: Memory) -> (Memory, Result<Part, PartError>) {
    let mut reader = Reader::new(&part, memory);
    let read = reader.part(part.mode, part.is_last);
    let Reader { parser, records, .. } = reader;
    let Parser { memory, .. } = parser;
    let result = match read {
        Ok(mode) => Ok(Part { records, mode }),
        Err(error) => Err(PartError { error, record_count: records.ops.len() }),
    };
    (memory, result)
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
        let mut records = Records::default();
        // About 100 bytes a record: little moves while the vectors grow, little is reserved in vain.
        records.ops.reserve(part.text.len() / 128);
        records.places.reserve(part.text.len() / 128);
        let mut parser = Parser::resume(part.text, part.lines_before, memory);
        if part.mode == Mode::Start && part.text.starts_with('\u{feff}') {
            parser.at = '\u{feff}'.len_utf8();
        }
        let place = Place { line: part.lines_before + 1, column: 1 };
        Reader { parser, records, place, placed_at: 0 }
    }

    /// Reads to the end of the text, and gives what the next part stands in.
    fn part(&mut self, mode: Mode, is_last: bool) -> Parsed<Mode> {
        self.parser.skip_blank()?;
        match (mode, self.parser.peek()) {
            // Nothing but comments so far.
            (Mode::Start, None) if !is_last => Ok(Mode::Start),
            (Mode::Start, Some(b'[')) => self.collection("the vector of operations", b']'),
            (Mode::Start, Some(b'(')) => self.collection("the list of operations", b')'),
            (Mode::Start | Mode::Lines, _) => self.lines(),
            (Mode::Inside { what, close, opened }, _) => self.elements(what, close, opened),
            (Mode::After, None) => Ok(Mode::After),
            (Mode::After, Some(_)) => {
                Err(self.parser.unexpected("the end of the file behind the operations"))
            }
        }
    }

    fn lines(&mut self) -> Parsed<Mode> {
        while self.parser.peek().is_some() {
            self.operation()?;
            self.parser.skip_blank()?;
        }
        Ok(Mode::Lines)
    }

    fn collection(&mut self, what: &'static str, close: u8) -> Parsed<Mode> {
        let opened = self.place_of(self.parser.at);
        self.parser.at += 1;
        self.elements(what, close, opened)
    }

    fn elements(&mut self, what: &'static str, close: u8, opened: Place) -> Parsed<Mode> {
        loop {
            self.parser.skip_blank()?;
            if self.parser.peek().is_none() {
                return Ok(Mode::Inside { what, close, opened });
            }
            if self.parser.closes_at(opened.line, close, what)? {
                self.parser.skip_blank()?;
                return self.part(Mode::After, true);
            }
            self.operation()?;
        }
    }

    /// The place of a byte that is not before the last one asked for.
    fn place_of(&mut self, offset: usize) -> Place {
        self.place = self.place.behind(&self.parser.bytes[self.placed_at..offset]);
        self.placed_at = offset;
        self.place
    }

    fn operation(&mut self) -> Parsed<()> {
        let start = self.parser.at;
        if let Some(draft) = self.like_another(start) {
            let place = self.place_of(start);
            return self.records.push(draft, place).map_err(|error| shape(start, error));
        }
        // `#jepsen.history.Op{…}`, as Jepsen prints its records.
        let is_tagged =
            self.parser.peek() == Some(b'#') && !self.parser.text[start..].starts_with("#{");
        if is_tagged {
            self.parser.tag()?;
            self.parser.inside(start, "an operation", Parser::skip_blank)?;
        }
        if self.parser.peek() != Some(b'{') {
            let value = self.parser.inside(start, "an operation", Parser::form)?;
            return Err(shape(start, ShapeError::NotAMap { found: shown(&value) }));
        }
        let draft = self.draft()?;
        let templates = &mut self.parser.memory.templates;
        templates.learn(self.parser.bytes, start, self.parser.at, edn::is_apart);
        let place = self.place_of(start);
        self.records.push(draft, place).map_err(|error| shape(start, error))
    }

    fn draft(&mut self) -> Parsed<Draft> {
        const WHAT: &str = "an operation";
        let start = self.parser.at;
        self.parser.at += 1;
        let mut draft = Draft::default();
        self.parser.memory.templates.begin();
        while !self.parser.closes(start, b'}', WHAT)? {
            let key_at = self.parser.at;
            let key = self.key()?;
            if self.parser.closes(start, b'}', WHAT)? {
                return Err(self.parser.syntax(key_at, "a key that has no value"));
            }
            let from = self.parser.at;
            if !self.usual(key, key_at, &mut draft)? {
                let value = self.parser.inside(start, WHAT, Parser::form)?;
                draft.set(key, value).map_err(|error| shape(key_at, error))?;
            }
            self.parser.memory.templates.value(key, from, self.parser.at);
        }
        Ok(draft)
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
                self.set(step.key, &mut draft)?;
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
        self.parser.bytes[self.parser.at..].starts_with(expected).then(|| {
            self.parser.at += expected.len();
        })
    }

    /// Reads the value of a key; `None` if anything is unusual or wrong, which the long way tells.
    #[inline]
    fn set(&mut self, key: Key, draft: &mut Draft) -> Option<()> {
        let set = match (key, self.parser.peek()?) {
            (Key::Index, _) => draft.set_index(self.parser.small_integer()?),
            (Key::Time, _) => draft.set_time(self.parser.small_integer()?),
            (Key::Process, b'0'..=b'9') => {
                draft.set_process(Process::Client(self.parser.small_integer()?))
            }
            (Key::Type, b':') => {
                self.parser.at += 1;
                draft.set_type(OpType::parse(self.parser.token())?)
            }
            (Key::F, b':') => draft.set_f(self.parser.keyword().ok()?),
            (Key::Node, b'"') => {
                let name = self.parser.plain_string()?;
                draft.set_node(self.parser.memory.names.sym(name).ok()?)
            }
            (key, _) => {
                let value = self.parser.form().ok()?;
                draft.set(key, value)
            }
        };
        set.ok()
    }

    /// Reads the value of `:type` and `:node` as they nearly always stand there, without making a value
    /// of it; anything unusual is left to the long way.
    fn usual(&mut self, key: Key, key_at: usize, draft: &mut Draft) -> Parsed<bool> {
        let start = self.parser.at;
        let set = match (key, self.parser.peek()) {
            (Key::Type, Some(b':')) => {
                self.parser.at += 1;
                OpType::parse(self.parser.token()).map(|op_type| draft.set_type(op_type))
            }
            (Key::Node, Some(b'"')) => match self.parser.plain_string() {
                Some(name) => {
                    let sym = self.parser.memory.names.sym(name);
                    let node = sym.map_err(|full| self.parser.full(start, full))?;
                    Some(draft.set_node(node))
                }
                None => None,
            },
            _ => None,
        };
        match set {
            Some(set) => set.map(|()| true).map_err(|error| shape(key_at, error)),
            None => {
                self.parser.at = start;
                Ok(false)
            }
        }
    }

    fn key(&mut self) -> Parsed<Key> {
        let start = self.parser.at;
        if self.parser.peek() == Some(b':') {
            self.parser.at += 1;
            let name = self.parser.token();
            if let Some(key) = Key::known(name) {
                return Ok(key);
            }
            self.parser.at = start;
            return self.parser.keyword().map(Key::Extra);
        }
        match self.parser.form()? {
            // A symbol, or a name that had to be written as `#atom`.
            Value::Sym(sym) => Ok(Key::known(sym.as_str()).unwrap_or(Key::Extra(sym))),
            other => Err(shape(start, ShapeError::BadKey { found: shown(&other) })),
        }
    }
}

fn shape(offset: usize, error: ShapeError) -> Box<ParseError> {
    Box::new(ParseError { offset, opened: None, problem: Problem::Shape(error) })
}
