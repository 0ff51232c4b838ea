//! Strings and characters of EDN.

use super::edn::{Parsed, Parser};
use crate::value::Value;

impl<'a> Parser<'a> {
    pub fn string(&mut self) -> Parsed<String> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let from = self.at;
            let rest = &self.bytes[from..];
            let Some(length) = rest.iter().position(|&byte| byte == b'"' || byte == b'\\') else {
                self.at = self.bytes.len();
                return Err(self.ends(start, "a string"));
            };
            self.at += length;
            text.push_str(&self.text[from..self.at]);
            self.at += 1;
            if self.bytes[self.at - 1] == b'"' {
                return Ok(text);
            }
            text.push(self.escape(start)?);
        }
    }

    /// Moves over a string without escapes and gives its text; `None` for any other.
    pub fn plain_string(&mut self) -> Option<&'a str> {
        let start = self.at + 1;
        let rest = self.bytes.get(start..)?;
        let length = rest.iter().position(|&byte| byte == b'"' || byte == b'\\')?;
        (rest[length] == b'"').then(|| {
            self.at = start + length + 1;
            &self.text[start..start + length]
        })
    }

    /// What stands for the characters behind a backslash in a string.
    fn escape(&mut self, string: usize) -> Parsed<char> {
        let backslash = self.at - 1;
        let Some(byte) = self.peek() else {
            return Err(self.ends(string, "a string"));
        };
        self.at += 1;
        Ok(match byte {
            b't' => '\t',
            b'r' => '\r',
            b'n' => '\n',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'"' | b'\\' | b'/' => char::from(byte),
            b'u' => return self.unicode_escape(backslash),
            b'0'..=b'7' => {
                let digits = self.bytes[self.at - 1..].iter().take(3);
                let digits = digits.take_while(|byte| matches!(byte, b'0'..=b'7'));
                let (count, code) = digits.fold((0, 0u32), |(count, code), byte| {
                    (count + 1, code * 8 + u32::from(byte - b'0'))
                });
                self.at += count - 1;
                char::from_u32(code).unwrap_or('\u{fffd}')
            }
            _ => return Err(self.syntax(backslash, "an unknown escape in a string")),
        })
    }

    fn unicode_escape(&mut self, backslash: usize) -> Parsed<char> {
        let wrong = |parser: &Parser<'_>| {
            parser.syntax(backslash, "\\u in a string needs four hexadecimal digits of a character")
        };
        let unit = self.four_hex().ok_or_else(|| wrong(self))?;
        // Characters outside the first plane are written as two halves.
        if (0xd800..0xdc00).contains(&unit) && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            let low = self.four_hex().filter(|low| (0xdc00..0xe000).contains(low));
            let low = low.ok_or_else(|| wrong(self))?;
            let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            return char::from_u32(code).ok_or_else(|| wrong(self));
        }
        char::from_u32(unit).ok_or_else(|| wrong(self))
    }

    fn four_hex(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        let unit = digits
            .iter()
            .try_fold(0, |code, &byte| Some(code * 16 + char::from(byte).to_digit(16)?))?;
        self.at += 4;
        Some(unit)
    }

    pub fn character(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.at += 1;
        let Some(first) = self.text[self.at..].chars().next() else {
            return Err(self.ends(start, "a character"));
        };
        self.at += first.len_utf8();
        // A delimiter is a character too, but what follows it is not part of it.
        let mut name = first.to_string();
        name.push_str(self.token());
        let hex = |digits: &str| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
        let found = match name.as_str() {
            "newline" => Some('\n'),
            "space" => Some(' '),
            "tab" => Some('\t'),
            "return" => Some('\r'),
            "backspace" => Some('\u{8}'),
            "formfeed" => Some('\u{c}'),
            name if name.chars().count() == 1 => Some(first),
            name if name.len() == 5 && first == 'u' => hex(&name[1..]),
            _ => None,
        };
        match found {
            Some(character) => Ok(Value::str(character.to_string())),
            None => Err(self.syntax(start, &format!("\\{name} is not a character"))),
        }
    }
}
