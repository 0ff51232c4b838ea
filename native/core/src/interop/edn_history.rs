//! Histories in EDN: one map a line, one vector or list of maps, or records of `jepsen.history`.

use super::Records;
use super::draft::{Draft, Key};
use super::edn::{ParseError, Parsed, Parser, Problem};
use super::error::{LoadError, ShapeError, Source, shown};
use crate::op::OpType;
use crate::value::Value;

/// Reads every operation of the text.
pub(super) fn read(source: &Source<'_>) -> Result<Records, LoadError> {
    let mut reader = Reader { parser: Parser::new(source.text), records: Records::default() };
    // About 75 bytes a record: little is copied while the vectors grow, and little is reserved in vain.
    reader.records.ops.reserve(source.text.len() / 128);
    reader.records.offsets.reserve(source.text.len() / 128);
    if let Err(error) = reader.all() {
        return Err(source.error(*error, reader.records.ops.len()));
    }
    let Reader { parser, mut records, .. } = reader;
    for (tag, count) in parser.dropped_tags {
        records
            .notices
            .push(format!("{}: {count} values were read without their tag #{tag}", source.name));
    }
    if parser.ratio_count > 0 {
        let count = parser.ratio_count;
        records.notices.push(format!("{}: {count} ratios were read as floats", source.name));
    }
    Ok(records)
}

struct Reader<'a> {
    parser: Parser<'a>,
    records: Records,
}

impl Reader<'_> {
    fn all(&mut self) -> Parsed<()> {
        self.parser.skip_blank()?;
        match self.parser.peek() {
            Some(b'[') => self.collection(b']', "the vector of operations"),
            Some(b'(') => self.collection(b')', "the list of operations"),
            _ => {
                while self.parser.peek().is_some() {
                    self.operation()?;
                    self.parser.skip_blank()?;
                }
                Ok(())
            }
        }
    }

    fn collection(&mut self, close: u8, what: &'static str) -> Parsed<()> {
        let start = self.parser.at;
        self.parser.at += 1;
        while !self.parser.closes(start, close, what)? {
            self.operation()?;
        }
        self.parser.skip_blank()?;
        match self.parser.peek() {
            None => Ok(()),
            Some(_) => Err(self.parser.unexpected("the end of the file behind the operations")),
        }
    }

    fn operation(&mut self) -> Parsed<()> {
        let start = self.parser.at;
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
        self.records.push(draft, start).map_err(|error| shape(start, error))
    }

    fn draft(&mut self) -> Parsed<Draft> {
        const WHAT: &str = "an operation";
        let start = self.parser.at;
        self.parser.at += 1;
        let mut draft = Draft::default();
        while !self.parser.closes(start, b'}', WHAT)? {
            let key_at = self.parser.at;
            let key = self.key()?;
            if self.parser.closes(start, b'}', WHAT)? {
                return Err(self.parser.syntax(key_at, "a key that has no value"));
            }
            if self.usual(key, key_at, &mut draft)? {
                continue;
            }
            let value = self.parser.inside(start, WHAT, Parser::form)?;
            draft.set(key, value).map_err(|error| shape(key_at, error))?;
        }
        Ok(draft)
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
                    let sym = self.parser.names.sym(name);
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
            Value::Sym(sym) => Ok(Key::Extra(sym)),
            other => Err(shape(start, ShapeError::BadKey { found: shown(&other) })),
        }
    }
}

fn shape(offset: usize, error: ShapeError) -> Box<ParseError> {
    Box::new(ParseError { offset, opened: None, problem: Problem::Shape(error) })
}
