//! A reader of JSON values: bytes straight to values, without tokens in between.
//!
//! JSON has fewer kinds of values than a history, so: a string that begins with a colon is a name
//! (`":append"`), any other is text; keys of objects that are integers are integers (`{"0": 100}` of a
//! bank), all others names; `{"#edn": "…"}` holds in EDN whatever JSON cannot say. Integers have any
//! size; a number with a point or an exponent is a float if that is what a float is written as, else a
//! decimal, so that nothing is rounded.
//!
//! The format: RFC 8259. A key that stands twice in an object is refused.

use std::borrow::Cow;

use super::DEPTH_MAX;
use super::edn::{Memory, ParseError, Parsed, Problem, parse_edn_value};
use crate::number;
use crate::sym::Sym;
use crate::value::Value;

/// The key of an object that holds EDN.
pub(super) const EDN_KEY: &str = "#edn";

/// Bytes that end the plain part of a string: a quote, an escape, and what must be escaped.
const ENDS_PLAIN: [bool; 256] = {
    let mut ends = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        ends[byte] = true;
        byte += 1;
    }
    ends[b'"' as usize] = true;
    ends[b'\\' as usize] = true;
    ends
};

/// A position in a text.
pub(super) struct Parser<'a> {
    pub text: &'a str,
    bytes: &'a [u8],
    pub at: usize,
    pub memory: Memory,
    depth: usize,
}

impl<'a> Parser<'a> {
    pub fn new(text: &'a str, mut memory: Memory) -> Parser<'a> {
        memory.stack.clear();
        Parser { text, bytes: text.as_bytes(), at: 0, memory, depth: 0 }
    }

    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub fn skip_blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Goes back to where a record begins, as if nothing had been read of it.
    pub fn rewind(&mut self, at: usize) {
        self.at = at;
        self.depth = 0;
        self.memory.stack.clear();
    }

    /// Moves over blanks and this byte, if it follows.
    pub fn eat(&mut self, byte: u8) -> bool {
        self.skip_blank();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Reads one value.
    pub fn value(&mut self) -> Parsed<Value> {
        self.skip_blank();
        match self.peek() {
            Some(b'"') => match self.string()? {
                text if text.starts_with(':') => self.name(&text[1..]).map(Value::Sym),
                text => Ok(self.memory.sharing.text(&text)),
            },
            Some(b'0'..=b'9' | b'-') => self.number(),
            Some(b'[') => self.array(),
            Some(b'{') => self.object(),
            Some(b'n') => self.word("null", Value::Nil),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            None => Err(self.ends()),
            Some(_) => Err(self.wrong("expected value")),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Parsed<Value> {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        if word.as_bytes().starts_with(rest) {
            return Err(self.ends());
        }
        Err(self.wrong(&format!("expected {word}")))
    }

    pub fn name(&mut self, name: &str) -> Parsed<Sym> {
        let at = self.at;
        self.memory.names.sym(name).map_err(|full| parse_error(at, Problem::Names(full)))
    }

    /// Reads the digits of a number as they stand, if they are an integer that surely fits.
    #[inline]
    pub fn small_integer(&mut self) -> Option<i64> {
        let negative = self.peek() == Some(b'-');
        let first = self.at + usize::from(negative);
        let mut at = first;
        let mut n: i64 = 0;
        while let Some(&byte) = self.bytes.get(at)
            && byte.is_ascii_digit()
            && at - first < 18
        {
            n = n * 10 + i64::from(byte - b'0');
            at += 1;
        }
        let goes_on = matches!(self.bytes.get(at), Some(b'0'..=b'9' | b'.' | b'e' | b'E'));
        let has_zero = self.bytes.get(first) == Some(&b'0') && at != first + 1;
        if at == first || goes_on || has_zero {
            return None;
        }
        self.at = at;
        Some(if negative { -n } else { n })
    }

    fn number(&mut self) -> Parsed<Value> {
        if let Some(n) = self.small_integer() {
            return Ok(Value::Int(n));
        }
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let first = self.at;
        let whole = self.digits()?;
        if whole > 1 && self.bytes[first] == b'0' {
            self.at = first + 1;
            return Err(self.wrong("invalid number: it begins with a zero"));
        }
        let mut is_integer = true;
        if self.peek() == Some(b'.') {
            is_integer = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            is_integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        if is_integer {
            return Ok(number::integer(negative, &self.text[first..self.at]));
        }
        let text = &self.text[start..self.at];
        number::float_or_decimal(text).ok_or_else(|| {
            let (limit, problem) = (number::EXPONENT_MAX, "number out of range");
            let message = format!("not JSON that is read: {problem}: exponents go up to {limit}");
            parse_error(start, Problem::Syntax(message))
        })
    }

    /// Moves over at least one digit and gives their count.
    fn digits(&mut self) -> Parsed<usize> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        match (self.at - start, self.peek()) {
            (0, None) => Err(self.ends()),
            (0, Some(_)) => Err(self.wrong("invalid number")),
            (count, _) => Ok(count),
        }
    }

    /// Reads a string; borrowed unless it has escapes.
    #[inline]
    pub fn string(&mut self) -> Parsed<Cow<'a, str>> {
        let start = self.at + 1;
        let mut at = start;
        while let Some(&byte) = self.bytes.get(at)
            && !ENDS_PLAIN[usize::from(byte)]
        {
            at += 1;
        }
        if self.bytes.get(at) == Some(&b'"') {
            self.at = at + 1;
            return Ok(Cow::Borrowed(&self.text[start..at]));
        }
        self.at = at;
        self.escaped(self.text[start..at].to_owned()).map(Cow::Owned)
    }

    /// The rest of a string, from the first escape on.
    fn escaped(&mut self, mut text: String) -> Parsed<String> {
        loop {
            let start = self.at;
            while self.peek().is_some_and(|byte| !ENDS_PLAIN[usize::from(byte)]) {
                self.at += 1;
            }
            text.push_str(&self.text[start..self.at]);
            match self.peek() {
                None => return Err(self.ends()),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => {
                    return Err(self.wrong("a control character in a string must be escaped"));
                }
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        let Some(&byte) = self.bytes.get(self.at + 1) else {
            self.at += 1;
            return Err(self.ends());
        };
        let plain = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(self.wrong("invalid escape")),
        };
        self.at += 2;
        Ok(plain)
    }

    fn unicode_escape(&mut self) -> Parsed<char> {
        let start = self.at;
        let unit = self.unit()?;
        // Characters outside the first plane are written as two halves.
        let code = match unit {
            0xd800..0xdc00 if self.bytes[self.at..].starts_with(b"\\u") => match self.unit()? {
                low @ 0xdc00..0xe000 => Some(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)),
                _ => None,
            },
            0xd800..0xdc00 if b"\\u".starts_with(&self.bytes[self.at..]) => {
                return Err(self.ends());
            }
            unit => Some(unit),
        };
        code.and_then(char::from_u32).ok_or_else(|| {
            let message = "not JSON: half of a character (a lone surrogate in \\u)".to_owned();
            parse_error(start, Problem::Syntax(message))
        })
    }

    /// The four digits behind `\u`.
    fn unit(&mut self) -> Parsed<u32> {
        let Some(digits) = self.bytes.get(self.at + 2..self.at + 6) else {
            self.at = self.bytes.len();
            return Err(self.ends());
        };
        let unit = digits
            .iter()
            .try_fold(0, |code, &byte| Some(code * 16 + char::from(byte).to_digit(16)?));
        let unit = unit.ok_or_else(|| self.wrong("invalid escape"))?;
        self.at += 6;
        Ok(unit)
    }

    fn enter(&mut self) -> Parsed<()> {
        if self.depth == DEPTH_MAX {
            let message = format!("data nests deeper than {DEPTH_MAX} levels: not a history");
            return Err(parse_error(self.at, Problem::Syntax(message)));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn array(&mut self) -> Parsed<Value> {
        self.enter()?;
        let first = self.memory.stack.len();
        if !self.eat(b']') {
            loop {
                let item = self.value()?;
                self.memory.stack.push(item);
                if !self.comma(b']', "expected `,` or `]`")? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(self.memory.sharing.list(&mut self.memory.stack, first))
    }

    /// Moves over the comma before the next element; false at the end of the collection.
    pub fn comma(&mut self, close: u8, expected: &str) -> Parsed<bool> {
        self.skip_blank();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.skip_blank();
                match self.peek() == Some(close) {
                    true => Err(self.wrong("trailing comma")),
                    false => Ok(true),
                }
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) => Err(self.wrong(expected)),
            None => Err(self.ends()),
        }
    }

    /// Reads a key and the colon behind it.
    #[inline]
    pub fn key(&mut self) -> Parsed<Cow<'a, str>> {
        self.skip_blank();
        match self.peek() {
            Some(b'"') => {}
            None => return Err(self.ends()),
            Some(_) => return Err(self.wrong("key must be a string")),
        }
        let key = self.string()?;
        if !self.eat(b':') {
            return Err(if self.peek().is_none() {
                self.ends()
            } else {
                self.wrong("expected `:`")
            });
        }
        Ok(key)
    }

    fn object(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.enter()?;
        let mut pairs = Vec::new();
        let mut edn = None;
        let mut goes_on = !self.eat(b'}');
        while goes_on {
            let key = self.key()?;
            if key == EDN_KEY {
                edn = Some(self.edn()?);
            } else {
                let key = match canonical_integer(&key) {
                    Some(n) => Value::Int(n),
                    None => Value::Sym(self.name(&key)?),
                };
                let value = self.value()?;
                pairs.push((key, value));
            }
            goes_on = self.comma(b'}', "expected `,` or `}`")?;
        }
        self.depth -= 1;
        let problem = match (edn, pairs.is_empty()) {
            (Some(value), true) => return Ok(value),
            (Some(_), false) => format!("{EDN_KEY} must be the only key of its object"),
            (None, _) => match Value::unique_map(pairs) {
                Ok(map) => return Ok(map),
                Err(key) => format!("an object with the key {key} twice"),
            },
        };
        Err(parse_error(start, Problem::Syntax(format!("not JSON: {problem}"))))
    }

    fn edn(&mut self) -> Parsed<Value> {
        self.skip_blank();
        let start = self.at;
        let wrong = |message: String| parse_error(start, Problem::Syntax(message));
        match self.peek() {
            Some(b'"') => {}
            None => return Err(self.ends()),
            Some(_) => return Err(wrong(format!("{EDN_KEY} is followed by a string of EDN"))),
        }
        let text = self.string()?;
        parse_edn_value(&text).map_err(|error| wrong(format!("{EDN_KEY} holds no EDN: {error}")))
    }

    /// The text ends where more of a value was expected.
    pub fn ends(&self) -> Box<ParseError> {
        parse_error(self.bytes.len(), Problem::Truncated("a value"))
    }

    /// An error about what stands here.
    pub fn wrong(&self, message: &str) -> Box<ParseError> {
        parse_error(self.at, Problem::Syntax(format!("not JSON: {message}")))
    }
}

fn parse_error(offset: usize, problem: Problem) -> Box<ParseError> {
    Box::new(ParseError { offset, opened: None, problem })
}

/// Whether bytes begin with what follows a value, and end with what precedes one.
pub(super) fn is_apart(bytes: &[u8]) -> (bool, bool) {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let begins = bytes.first().is_some_and(|byte| is_blank(byte) || matches!(byte, b',' | b'}'));
    (begins, bytes.last().is_some_and(|byte| is_blank(byte) || *byte == b':'))
}

/// The integer that a key is, if it is written as we would write it.
pub(super) fn canonical_integer(key: &str) -> Option<i64> {
    let first = *key.as_bytes().first()?;
    let is_candidate = first.is_ascii_digit() || first == b'-';
    is_candidate.then(|| key.parse::<i64>().ok().filter(|n| n.to_string() == key)).flatten()
}
