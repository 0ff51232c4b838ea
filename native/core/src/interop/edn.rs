//! A reader of EDN: bytes straight to values, without tokens in between.
//!
//! Reads what Clojure's `clojure.edn/read` reads, and a little more that histories contain. Keywords and
//! symbols become [`Value::Sym`], characters strings of one character, vectors and lists
//! [`Value::List`]; numbers are never rounded. Of tags, `#atom`, `#bytes` and `#etf` are our own; what has
//! any other tag is another value than the same without one.
//!
//! The format: <https://github.com/edn-format/edn>.

use std::sync::Arc;

use super::DEPTH_MAX;
use super::error::ShapeError;
use super::sharing::Sharing;
use super::template::Templates;
use crate::etf::names::NameCache;
use crate::etf::{self, Limits};
use crate::sym::SymTableFull;
use crate::value::Value;

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// What was found and what was expected.
    Syntax(String),
    /// The text ends inside this.
    Truncated(&'static str),
    /// Good data, but not an operation.
    Shape(ShapeError),
    /// Too many names.
    Names(SymTableFull),
    /// Not text.
    NotUtf8 {
        /// The first wrong byte.
        byte: u8,
    },
}

/// Why a text cannot be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The byte at which it shows.
    pub offset: usize,
    /// The byte at which the incomplete thing begins, when the text ends too early.
    pub(super) opened: Option<usize>,
    pub(super) problem: Problem,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.problem {
            Problem::Syntax(message) => write!(f, "byte {}: {message}", self.offset),
            Problem::Truncated(inside) => write!(f, "the text ends inside {inside}"),
            Problem::Shape(error) => write!(f, "byte {}: {error}", self.offset),
            Problem::Names(error) => write!(f, "byte {}: {error}", self.offset),
            Problem::NotUtf8 { byte } => {
                write!(f, "byte {}: not UTF-8 text (byte {byte:#04x})", self.offset)
            }
        }
    }
}

impl ParseError {
    /// Whether more text could make it right.
    pub(super) fn is_truncated(&self) -> bool {
        matches!(self.problem, Problem::Truncated(_))
    }
}

impl std::error::Error for ParseError {}

/// Boxed, so that the good case stays small.
pub(super) type Parsed<T> = Result<T, Box<ParseError>>;

/// Reads one value that fills the text: an option of a command, a value in a test.
pub fn parse_edn_value(text: &str) -> Result<Value, ParseError> {
    let mut parser = Parser::new(text);
    let value = parser.form().map_err(|error| *error)?;
    parser.skip_blank().map_err(|error| *error)?;
    if parser.at < text.len() {
        return Err(*parser.unexpected("the end of the value"));
    }
    Ok(value)
}

/// Reads the value with which a text begins, and gives what follows it.
pub(super) fn parse_edn_prefix(text: &str) -> Result<(Value, &str), ParseError> {
    let mut parser = Parser::new(text);
    let value = parser.form().map_err(|error| *error)?;
    Ok((value, &text[parser.at..]))
}

/// What a byte means between tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Token,
    Blank,
    Delimiter,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Token; 256];
    let mut byte = 0;
    while byte <= 0x20 {
        classes[byte] = Class::Blank;
        byte += 1;
    }
    classes[b',' as usize] = Class::Blank;
    let delimiters = b"\"();[]^{}\\";
    let mut i = 0;
    while i < delimiters.len() {
        classes[delimiters[i] as usize] = Class::Delimiter;
        i += 1;
    }
    classes
};

/// Whether bytes begin with what ends a token, and end with what precedes one.
pub(super) fn is_apart(bytes: &[u8]) -> (bool, bool) {
    let class = |byte: Option<&u8>| byte.map(|byte| CLASSES[usize::from(*byte)]);
    let begins = class(bytes.first()).is_some_and(|class| class != Class::Token);
    (begins, class(bytes.last()) == Some(Class::Blank))
}

/// What parsers of one text after another keep.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub names: NameCache,
    pub sharing: Sharing,
    pub templates: Templates,
    /// Elements of the lists that are open.
    pub stack: Vec<Value>,
}

impl Memory {
    /// For a text whose equal lists are worth keeping once.
    pub fn with_sharing() -> Memory {
        Memory { sharing: Sharing::new(), ..Memory::default() }
    }
}

/// A position in a text.
pub(super) struct Parser<'a> {
    pub text: &'a str,
    pub bytes: &'a [u8],
    pub at: usize,
    pub memory: Memory,
    /// How many lines of the file precede the text.
    lines_before: usize,
    /// How many collections, tags and discards are open.
    depth: usize,
}

impl<'a> Parser<'a> {
    pub fn new(text: &'a str) -> Parser<'a> {
        Parser::resume(text, 0, Memory::default())
    }

    /// For the part of a text that so many lines precede, with what reading other parts has built.
    pub fn resume(text: &'a str, lines_before: usize, mut memory: Memory) -> Parser<'a> {
        memory.stack.clear();
        Parser { text, bytes: text.as_bytes(), at: 0, memory, lines_before, depth: 0 }
    }

    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Goes back to where a record begins, as if nothing had been read of it.
    pub fn rewind(&mut self, at: usize) {
        self.at = at;
        self.depth = 0;
        self.memory.stack.clear();
    }

    /// Reads a small integer that is a token of its own.
    #[inline]
    pub fn small_integer(&mut self) -> Option<i64> {
        let negative = self.peek() == Some(b'-');
        let first = self.at + usize::from(negative);
        let mut at = first;
        let mut n: i64 = 0;
        // Eighteen digits cannot overflow; anything longer or stranger goes the long way.
        while let Some(&byte) = self.bytes.get(at)
            && byte.is_ascii_digit()
            && at - first < 18
        {
            n = n * 10 + i64::from(byte - b'0');
            at += 1;
        }
        let ends =
            self.bytes.get(at).is_none_or(|&byte| CLASSES[usize::from(byte)] != Class::Token);
        if at == first || !ends || (self.bytes[first] == b'0' && at != first + 1) {
            return None;
        }
        self.at = at;
        Some(if negative { -n } else { n })
    }

    /// Moves over blanks, commas, comments and discarded forms.
    pub fn skip_blank(&mut self) -> Parsed<()> {
        loop {
            match self.peek() {
                Some(byte) if CLASSES[usize::from(byte)] == Class::Blank => self.at += 1,
                Some(b';') => self.skip_line(),
                Some(b'#') if self.bytes.get(self.at + 1) == Some(&b'_') => {
                    let start = self.at;
                    self.at += 2;
                    self.enter(start)?;
                    self.inside(start, "a discarded form", Parser::form)?;
                    self.depth -= 1;
                }
                // A script's first line.
                Some(b'#') if self.bytes.get(self.at + 1) == Some(&b'!') => self.skip_line(),
                _ => return Ok(()),
            }
        }
    }

    fn skip_line(&mut self) {
        let rest = &self.bytes[self.at..];
        self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }

    /// Moves over a keyword, symbol or number and gives its text.
    pub fn token(&mut self) -> &'a str {
        let start = self.at;
        while let Some(byte) = self.peek()
            && CLASSES[usize::from(byte)] == Class::Token
        {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    /// Reads one value.
    pub fn form(&mut self) -> Parsed<Value> {
        self.skip_blank()?;
        let start = self.at;
        let Some(byte) = self.peek() else {
            return Err(self.ends(start, "a value"));
        };
        match byte {
            b'0'..=b'9' => self.number(),
            b'+' | b'-' if self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_digit) => {
                self.number()
            }
            b':' => self.keyword().map(Value::Sym),
            b'"' => self.text(),
            b'[' => self.list(b']', "a vector"),
            b'(' => self.list(b')', "a list"),
            b'{' => {
                let pairs = self.map()?;
                self.unique(start, "a map has the key", Value::unique_map(pairs))
            }
            b'#' => self.dispatch(),
            b'\\' => self.character(),
            b'^' => {
                self.at += 1;
                self.enter(start)?;
                self.inside(start, "metadata", Parser::form)?;
                let value = self.inside(start, "a value with metadata", Parser::form)?;
                self.depth -= 1;
                Ok(value)
            }
            b']' | b')' | b'}' => Err(self.unexpected("a value")),
            _ => self.symbol(),
        }
    }

    fn text(&mut self) -> Parsed<Value> {
        match self.plain_string() {
            Some(text) => Ok(self.memory.sharing.text(text)),
            None => self.string().map(Value::str),
        }
    }

    pub fn keyword(&mut self) -> Parsed<crate::sym::Sym> {
        let start = self.at;
        self.at += 1;
        let name = self.token();
        if name.is_empty() {
            self.at = start;
            return Err(
                self.syntax(start, "a keyword without a name (a colon and nothing behind it)")
            );
        }
        self.memory.names.sym(name).map_err(|full| self.full(start, full))
    }

    fn symbol(&mut self) -> Parsed<Value> {
        let start = self.at;
        match self.token() {
            "nil" => Ok(Value::Nil),
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            name => {
                let sym = self.memory.names.sym(name).map_err(|full| self.full(start, full))?;
                Ok(Value::Sym(sym))
            }
        }
    }

    fn number(&mut self) -> Parsed<Value> {
        if let Some(n) = self.small_integer() {
            return Ok(Value::Int(n));
        }
        let start = self.at;
        let token = self.token();
        super::edn_number::parse(token).ok_or_else(|| {
            let shown: String = token.chars().take(40).collect();
            let more = if token.len() > shown.len() { "…" } else { "" };
            self.syntax(start, &format!("{shown}{more} is not a number"))
        })
    }

    /// Counts one level more; whoever enters leaves by `depth -= 1`, unless reading ends by an error.
    fn enter(&mut self, start: usize) -> Parsed<()> {
        if self.depth < DEPTH_MAX {
            self.depth += 1;
            return Ok(());
        }
        Err(self
            .syntax(start, &format!("data nests deeper than {DEPTH_MAX} levels: not a history")))
    }

    /// Puts the elements of a collection on the stack and gives the place of the first.
    fn elements(&mut self, close: u8, what: &'static str) -> Parsed<usize> {
        let start = self.at;
        self.enter(start)?;
        self.at += 1;
        let first = self.memory.stack.len();
        loop {
            // What is usual, without a detour.
            match self.peek() {
                Some(b' ') => {
                    self.at += 1;
                    continue;
                }
                Some(byte) if byte == close => {
                    self.at += 1;
                    break;
                }
                Some(b'0'..=b'9') => {
                    if let Some(n) = self.small_integer() {
                        self.memory.stack.push(Value::Int(n));
                        continue;
                    }
                }
                _ => {}
            }
            if self.closes(start, close, what)? {
                break;
            }
            let element = self.inside(start, what, Parser::form)?;
            self.memory.stack.push(element);
        }
        self.depth -= 1;
        Ok(first)
    }

    fn list(&mut self, close: u8, what: &'static str) -> Parsed<Value> {
        let first = self.elements(close, what)?;
        Ok(self.memory.sharing.list(&mut self.memory.stack, first))
    }

    fn set(&mut self) -> Parsed<Value> {
        let start = self.at;
        let first = self.elements(b'}', "a set")?;
        let items = self.memory.stack.split_off(first);
        self.unique(start, "a set has the element", Value::unique_set(items))
    }

    fn unique(&self, start: usize, what: &str, value: Result<Value, Value>) -> Parsed<Value> {
        value.map_err(|twice| {
            self.syntax(start, &format!("{what} {} twice", super::error::shown(&twice)))
        })
    }

    /// Moves over blanks and, when it stands there, the closing delimiter.
    pub fn closes(&mut self, start: usize, close: u8, what: &'static str) -> Parsed<bool> {
        self.inside(start, what, Parser::skip_blank)?;
        match self.peek() {
            None => Err(self.ends(start, what)),
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(true)
            }
            Some(b']' | b')' | b'}') => {
                let lines = self.bytes[..start].iter().filter(|&&byte| byte == b'\n').count();
                self.closes_at(1 + self.lines_before + lines, close, what)
            }
            Some(_) => Ok(false),
        }
    }

    /// As [`Parser::closes`], at something that is no blank, for what began in a line that is known.
    pub fn closes_at(&mut self, line: usize, close: u8, what: &'static str) -> Parsed<bool> {
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(true)
            }
            Some(byte @ (b']' | b')' | b'}')) => {
                let (found, close) = (char::from(byte), char::from(close));
                let message = format!(
                    "found {found}, expected {close} to close {what} that begins in line {line}"
                );
                Err(self.syntax(self.at, &message))
            }
            _ => Ok(false),
        }
    }

    fn map(&mut self) -> Parsed<Vec<(Value, Value)>> {
        const WHAT: &str = "a map";
        let start = self.at;
        self.enter(start)?;
        self.at += 1;
        let mut pairs = Vec::new();
        while !self.closes(start, b'}', WHAT)? {
            let key = self.inside(start, WHAT, Parser::form)?;
            if self.closes(start, b'}', WHAT)? {
                let message = "a map with a key that has no value";
                return Err(self.syntax(self.at - 1, message));
            }
            let value = self.inside(start, WHAT, Parser::form)?;
            pairs.push((key, value));
        }
        self.depth -= 1;
        Ok(pairs)
    }

    /// Something that begins with `#`.
    fn dispatch(&mut self) -> Parsed<Value> {
        let start = self.at;
        match self.bytes.get(self.at + 1) {
            Some(b'{') => {
                self.at += 1;
                self.set()
            }
            Some(b'"') => {
                self.at += 1;
                self.string().map(Value::str)
            }
            Some(b'#') => {
                self.at += 2;
                match self.token() {
                    "Inf" => Ok(Value::Float(f64::INFINITY)),
                    "-Inf" => Ok(Value::Float(f64::NEG_INFINITY)),
                    "NaN" => Ok(Value::Float(f64::NAN)),
                    _ => Err(self.syntax(start, "## is followed by Inf, -Inf or NaN")),
                }
            }
            Some(b':') => self.namespaced_map(),
            Some(b'^') => {
                self.at += 1;
                self.form()
            }
            _ => self.tagged(),
        }
    }

    /// `#:a{:b 1}` is `{:a/b 1}`.
    fn namespaced_map(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.at += 2;
        let namespace = self.token();
        self.skip_blank()?;
        if self.peek().is_none() {
            return Err(self.ends(start, "a map with a namespace"));
        }
        if namespace.is_empty() || self.peek() != Some(b'{') {
            return Err(self.syntax(start, "#: is followed by a namespace and a map"));
        }
        let mut pairs = self.map()?;
        for (key, _) in &mut pairs {
            let Value::Sym(sym) = key else { continue };
            let name = sym.as_str();
            let qualified = match name.strip_prefix("_/") {
                Some(bare) => bare.to_owned(),
                None if name.contains('/') => continue,
                None => format!("{namespace}/{name}"),
            };
            *sym = self.memory.names.sym(&qualified).map_err(|full| self.full(start, full))?;
        }
        self.unique(start, "a map has the key", Value::unique_map(pairs))
    }

    /// The name of a tag; what it tags follows.
    pub fn tag(&mut self) -> Parsed<&'a str> {
        let start = self.at;
        self.at += 1;
        let tag = self.token();
        if tag.is_empty() {
            self.at = start;
            return Err(self.unexpected("a tag, a set or a value"));
        }
        Ok(tag)
    }

    fn tagged(&mut self) -> Parsed<Value> {
        let start = self.at;
        let tag = self.tag()?;
        self.enter(start)?;
        let value = self.inside(start, "a tagged value", Parser::form)?;
        self.depth -= 1;
        match (tag, value) {
            ("atom", Value::Str(name)) => match name.as_str() {
                "nil" => Ok(Value::Nil),
                name => {
                    let sym = self.memory.names.sym(name).map_err(|full| self.full(start, full))?;
                    Ok(Value::Sym(sym))
                }
            },
            ("bytes", Value::Str(hex)) => match unhex(&hex) {
                Some(bytes) => Ok(Value::Bytes(Arc::new(bytes))),
                None => {
                    Err(self.syntax(start, "#bytes is followed by hexadecimal digits in quotes"))
                }
            },
            ("etf", Value::Str(hex)) => self.etf(start, &hex),
            (tag, value) => {
                let tag = self.memory.names.sym(tag).map_err(|full| self.full(start, full))?;
                Ok(Value::Tagged(Arc::new((tag, value))))
            }
        }
    }

    /// A term that only the BEAM understands. It is read as from the network, so that nothing
    /// malformed reaches a node.
    fn etf(&self, start: usize, hex: &str) -> Parsed<Value> {
        let bytes = unhex(hex).ok_or_else(|| {
            self.syntax(start, "#etf is followed by hexadecimal digits in quotes")
        })?;
        etf::decode(&bytes, &Limits::default())
            .map_err(|error| self.syntax(start, &format!("#etf does not hold a term: {error}")))
    }

    /// Runs `work`; if the text ends in it before anything of its own was opened, that is the end of
    /// what is named here.
    pub fn inside<T>(
        &mut self,
        start: usize,
        what: &'static str,
        work: impl FnOnce(&mut Parser<'a>) -> Parsed<T>,
    ) -> Parsed<T> {
        work(self).map_err(|mut error| {
            if error.problem == Problem::Truncated("a value") {
                error.problem = Problem::Truncated(what);
                error.opened = Some(start);
            }
            error
        })
    }

    pub fn syntax(&self, offset: usize, message: &str) -> Box<ParseError> {
        Box::new(ParseError { offset, opened: None, problem: Problem::Syntax(message.to_owned()) })
    }

    pub fn full(&self, offset: usize, full: SymTableFull) -> Box<ParseError> {
        Box::new(ParseError { offset, opened: None, problem: Problem::Names(full) })
    }

    pub fn ends(&self, opened: usize, inside: &'static str) -> Box<ParseError> {
        Box::new(ParseError {
            offset: self.bytes.len(),
            opened: Some(opened),
            problem: Problem::Truncated(inside),
        })
    }

    /// An error about what stands here.
    pub fn unexpected(&self, expected: &str) -> Box<ParseError> {
        let rest = &self.text[self.at..];
        let found: String = rest.chars().take_while(|c| *c != '\n').take(30).collect();
        self.syntax(self.at, &format!("found {found:?}, expected {expected}"))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        })
        .collect()
}
