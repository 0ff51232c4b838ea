//! Histories in EDN: one map a line, one vector or list of maps, or records of `jepsen.history`.

use std::collections::BTreeMap;

use super::Records;
use super::draft::{Draft, Key};
use super::edn::{ParseError, Parsed, Parser, Problem};
use super::error::{LoadError, ShapeError, Source, shown};
use crate::op::OpType;
use crate::value::Value;

/// A text is read in parts, at the same time, from this size on.
const PART_BYTES_MIN: usize = 1 << 20;
/// More parts than this gain nothing: memory is what they wait for.
const PARTS_MAX: usize = 4;

/// Reads every operation of the text.
pub(super) fn read(source: &Source<'_>) -> Result<Records, LoadError> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let part_count = (source.text.len() / PART_BYTES_MIN).min(threads).min(PARTS_MAX);
    if let Some(counted) = read_parts(source.text, part_count) {
        return Ok(counted.tell(source.name));
    }
    let mut reader = Reader::new(source.text);
    match reader.all() {
        Ok(()) => Ok(reader.done().tell(source.name)),
        Err(error) => Err(source.error(*error, reader.records.ops.len())),
    }
}

/// Reads the parts of a text that has one map a line, if it can be cut between maps. A cut may also hit
/// the inside of a string or a map of several lines; then the part before it ends too early, which is
/// an error, and the text is read as a whole.
pub(super) fn read_parts(text: &str, part_count: usize) -> Option<Counted> {
    if part_count < 2 || text.trim_start().starts_with(['[', '(']) {
        return None;
    }
    let mut cuts = vec![0];
    for part in 1..part_count {
        let bytes = text.as_bytes();
        let from = (text.len() / part_count * part).max(*cuts.last()?);
        let next = bytes[from..].windows(2).position(|pair| pair == b"\n{" || pair == b"\n#")?;
        cuts.push(from + next + 1);
    }
    let ends = cuts.iter().skip(1).copied().chain([text.len()]);
    let parts: Vec<(usize, &str)> =
        cuts.iter().copied().zip(ends).map(|(start, end)| (start, &text[start..end])).collect();
    let read_part = |part: &str| {
        let mut reader = Reader::new(part);
        reader.lines().ok().map(|()| reader.done())
    };
    let counted: Vec<Option<Counted>> = std::thread::scope(|scope| {
        let others: Vec<_> =
            parts[1..].iter().map(|(_, part)| scope.spawn(move || read_part(part))).collect();
        let first = read_part(parts[0].1);
        let others = others.into_iter().map(|thread| thread.join().ok().flatten());
        std::iter::once(first).chain(others).collect()
    });
    let mut whole: Option<Counted> = None;
    for (counted, (start, _)) in counted.into_iter().zip(&parts) {
        let counted = counted?;
        match &mut whole {
            None => whole = Some(counted),
            Some(whole) => whole.join(counted, *start),
        }
    }
    whole
}

/// Records, and what else was seen while reading them.
pub(super) struct Counted {
    records: Records,
    dropped_tags: BTreeMap<String, usize>,
    ratio_count: usize,
}

impl Counted {
    /// Adds the records of the part that begins at `start`.
    fn join(&mut self, mut next: Counted, start: usize) {
        let records = &mut self.records;
        records.numbering.join(next.records.numbering, records.ops.len());
        records.without_f_count += next.records.without_f_count;
        records.ops.append(&mut next.records.ops);
        records.offsets.extend(next.records.offsets.iter().map(|offset| offset + start));
        for (tag, count) in next.dropped_tags {
            *self.dropped_tags.entry(tag).or_default() += count;
        }
        self.ratio_count += next.ratio_count;
    }

    /// The records, with a notice of everything that was changed.
    pub(super) fn tell(self, name: &str) -> Records {
        let mut records = self.records;
        for (tag, count) in self.dropped_tags {
            records
                .notices
                .push(format!("{name}: {count} values were read without their tag #{tag}"));
        }
        if self.ratio_count > 0 {
            let count = self.ratio_count;
            records.notices.push(format!("{name}: {count} ratios were read as floats"));
        }
        records
    }
}

struct Reader<'a> {
    parser: Parser<'a>,
    records: Records,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Reader<'a> {
        let mut records = Records::default();
        // About 100 bytes a record: little moves while the vectors grow, little is reserved in vain.
        records.ops.reserve(text.len() / 128);
        records.offsets.reserve(text.len() / 128);
        Reader { parser: Parser::new(text), records }
    }

    fn done(self) -> Counted {
        let Reader { parser, records } = self;
        let (dropped_tags, ratio_count) = (parser.dropped_tags, parser.ratio_count);
        Counted { records, dropped_tags, ratio_count }
    }

    fn all(&mut self) -> Parsed<()> {
        self.parser.skip_blank()?;
        match self.parser.peek() {
            Some(b'[') => self.collection(b']', "the vector of operations"),
            Some(b'(') => self.collection(b')', "the list of operations"),
            _ => self.lines(),
        }
    }

    fn lines(&mut self) -> Parsed<()> {
        self.parser.skip_blank()?;
        while self.parser.peek().is_some() {
            self.operation()?;
            self.parser.skip_blank()?;
        }
        Ok(())
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
