//! Times in the environment of applications: `.app` files, and `.config` files as releases have them.
//!
//! Both are Erlang terms, each ended by a dot. An entry is taken for a time by its name (`*_timeout`, `*_interval`
//! …) and by being a whole number. Its unit is milliseconds unless the name says seconds, which is how most of OTP
//! and its libraries have it, but no more than a custom.

use crate::calls::Kind;
use crate::sites::{Site, Wait};
use crate::term::Term;

/// What the names of times have in them.
const NAMES: [&str; 12] = [
    "timeout",
    "interval",
    "delay",
    "period",
    "ttl",
    "heartbeat",
    "tick",
    "expir",
    "wait",
    "_time",
    "retry_after",
    "setuptime",
];

/// What names have at their end or in them whose times are seconds.
const SECONDS: [&str; 5] = ["_s", "_sec", "_secs", "_seconds", "ticktime"];

/// Times in seconds whose names do not say so.
const IN_SECONDS: [(&str, &str); 2] = [("kernel", "net_setuptime"), ("rabbit", "heartbeat")];

/// Nesting that no file of people has.
const DEPTH_MAX: u32 = 64;

/// What is wrong with a file, and in which line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ConfigError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// The times in an `.app` file or in a `.config` file.
pub fn sites_of(text: &str) -> Result<Vec<Site>, ConfigError> {
    let mut sites = Vec::new();
    for term in terms(text)? {
        match &term {
            Term::Tuple(parts) => {
                if let [Term::Atom(head), Term::Atom(name), properties] = parts.as_slice()
                    && **head == *"application"
                    && let Some(env) = properties.get("env")
                {
                    entries(name, "", &env, &mut sites);
                }
            }
            Term::List(applications) => {
                for application in applications.iter() {
                    if let Term::Tuple(pair) = application
                        && let [Term::Atom(name), env] = pair.as_slice()
                    {
                        entries(name, "", env, &mut sites);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(sites)
}

/// Times among the entries of a list of pairs or of a map, also below them.
fn entries(application: &str, path: &str, term: &Term, sites: &mut Vec<Site>) {
    let mut entry = |key: &Term, value: &Term| {
        let Term::Atom(key) = key else { return };
        let name = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        match value {
            Term::Int(number) => sites.extend(env(application, &name, *number)),
            nested => entries(application, &name, nested, sites),
        }
    };
    match term {
        Term::List(items) => {
            for item in items.iter() {
                if let Term::Tuple(pair) = item
                    && let [key, value] = pair.as_slice()
                {
                    entry(key, value);
                }
            }
        }
        Term::Map { pairs, .. } => pairs.iter().for_each(|(key, value)| entry(key, value)),
        _ => {}
    }
}

/// The time that an entry is, if its name says that it is one.
pub fn env(application: &str, name: &str, number: i64) -> Option<Site> {
    let number = u64::try_from(number).ok()?;
    let key = name.rsplit('.').next().unwrap_or(name);
    if key.contains("intensity") || !NAMES.iter().any(|part| key.contains(part)) {
        return None;
    }
    let seconds =
        SECONDS.iter().any(|end| key.ends_with(end)) || IN_SECONDS.contains(&(application, key));
    let wait = Wait::Ms(if seconds { number.saturating_mul(1000) } else { number });
    Some(Site {
        kind: Kind::Env,
        module: application.to_owned(),
        function: name.to_owned(),
        arity: None,
        line: None,
        what: if seconds { "environment, in seconds".into() } else { "environment".into() },
        wait,
        value_ms: wait.ms(),
        intensity: None,
        seen: None,
    })
}

/// Every term of a file.
fn terms(text: &str) -> Result<Vec<Term>, ConfigError> {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    let mut terms = Vec::new();
    loop {
        reader.blanks();
        if reader.at >= reader.text.len() {
            return Ok(terms);
        }
        terms.push(reader.term(DEPTH_MAX)?);
        reader.expect(b'.', "a term must end with a dot")?;
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn error(&self, what: &'static str) -> ConfigError {
        let before = &self.text[..self.at.min(self.text.len())];
        ConfigError { line: 1 + before.iter().filter(|byte| **byte == b'\n').count(), what }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'%' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                }
                // Also the marks that begin a file of another encoding.
                0..=b' ' | 0xef | 0xbb | 0xbf => self.at += 1,
                _ => return,
            }
        }
    }

    fn accept(&mut self, text: &[u8]) -> bool {
        self.blanks();
        let there = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(text));
        if there {
            self.at += text.len();
        }
        there
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), ConfigError> {
        if self.accept(&[byte]) { Ok(()) } else { Err(self.error(what)) }
    }

    fn term(&mut self, depth: u32) -> Result<Term, ConfigError> {
        if depth == 0 {
            return Err(self.error("terms nest too deep"));
        }
        self.blanks();
        match self.peek() {
            Some(b'{') => Ok(Term::tuple(self.sequence(b"{", b"}", depth)?)),
            Some(b'[') => Ok(Term::List(self.sequence(b"[", b"]", depth)?.into())),
            Some(b'#') => self.map(depth),
            Some(b'<') => self.binary(),
            Some(b'"') => {
                // What stands side by side is one string.
                while self.accept(b"\"") {
                    self.quoted(b'"')?;
                }
                Ok(Term::Other)
            }
            Some(b'\'') => {
                self.at += 1;
                self.quoted(b'\'').map(|name| Term::atom(&name))
            }
            Some(b'$') => {
                self.at += if self.text.get(self.at + 1) == Some(&b'\\') { 3 } else { 2 };
                Ok(Term::Other)
            }
            Some(b'0'..=b'9' | b'-' | b'+') => self.number(),
            Some(b'a'..=b'z') => {
                let start = self.at;
                while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b"_@".contains(&b)) {
                    self.at += 1;
                }
                Ok(Term::atom(&String::from_utf8_lossy(&self.text[start..self.at])))
            }
            None => Err(self.error("the file ends in the middle of a term")),
            Some(_) => Err(self.error("no Erlang term begins like this")),
        }
    }

    fn sequence(
        &mut self,
        open: &[u8],
        close: &[u8],
        depth: u32,
    ) -> Result<Vec<Term>, ConfigError> {
        self.accept(open);
        let mut items = Vec::new();
        if self.accept(close) {
            return Ok(items);
        }
        loop {
            items.push(self.term(depth - 1)?);
            if self.accept(close) {
                return Ok(items);
            }
            if !self.accept(b",") && !self.accept(b"|") {
                return Err(self.error("a comma or the end of a list, tuple or map is missing"));
            }
        }
    }

    fn map(&mut self, depth: u32) -> Result<Term, ConfigError> {
        self.at += 1;
        self.expect(b'{', "a map begins with #{")?;
        let mut pairs = Vec::new();
        if self.accept(b"}") {
            return Ok(Term::map(pairs));
        }
        loop {
            let key = self.term(depth - 1)?;
            if !self.accept(b"=>") {
                return Err(self.error("=> is missing in a map"));
            }
            pairs.push((key, self.term(depth - 1)?));
            if self.accept(b"}") {
                return Ok(Term::map(pairs));
            }
            self.expect(b',', "a comma or the end of a list, tuple or map is missing")?;
        }
    }

    /// Whatever stands in a binary is no time.
    fn binary(&mut self) -> Result<Term, ConfigError> {
        if !self.accept(b"<<") {
            return Err(self.error("no Erlang term begins like this"));
        }
        while !self.accept(b">>") {
            match self.peek() {
                None => return Err(self.error("the file ends in the middle of a term")),
                Some(b'"') => {
                    self.at += 1;
                    self.quoted(b'"')?;
                }
                Some(_) => self.at += 1,
            }
        }
        Ok(Term::Other)
    }

    /// To the closing quote; the opening one has been read.
    fn quoted(&mut self, quote: u8) -> Result<String, ConfigError> {
        let start = self.at;
        while let Some(byte) = self.peek() {
            self.at += 1;
            if byte == quote {
                return Ok(String::from_utf8_lossy(&self.text[start..self.at - 1]).into_owned());
            }
            if byte == b'\\' {
                self.at += 1;
            }
        }
        Err(self.error("a quote is not closed"))
    }

    fn number(&mut self) -> Result<Term, ConfigError> {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek() {
            let fraction =
                byte == b'.' && self.text.get(self.at + 1).is_some_and(u8::is_ascii_digit);
            let exponent = b"+-".contains(&byte) && matches!(self.text[self.at - 1], b'e' | b'E');
            if !(byte.is_ascii_alphanumeric() || b"_#".contains(&byte) || fraction || exponent) {
                break;
            }
            self.at += 1;
        }
        let text = String::from_utf8_lossy(&self.text[start..self.at]).replace('_', "");
        let number = match text.split_once('#') {
            Some((base, digits)) => base
                .parse()
                .ok()
                .filter(|base| (2..=36).contains(base))
                .and_then(|base| i64::from_str_radix(digits, base).ok()),
            None => text.parse().ok(),
        };
        Ok(number.map_or(Term::Other, Term::Int))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn found(text: &str) -> Vec<(String, u64)> {
        let sites = sites_of(text).unwrap();
        sites.iter().map(|site| (site.place(), site.value_ms.unwrap())).collect()
    }

    #[test]
    fn times_of_an_app_file_are_found_by_their_names() {
        let text = r#"%% A comment with 'quotes" and {timeout, 3}.
            {application, 'my-app', [{description, "A \"b\" "  "c"}, {vsn, "1.0"},
             {env, [{call_timeout, 16#1388}, {port, 5672}, {net_ticktime, 60}, {lease_s, 3},
                    {backoff, [{retry_interval, 1_000}, {factor, 1.5e3}]}, {dir, <<"x>>", 3>>},
                    {m, #{heartbeat_interval => 30000, c => $\n}}, {sync_timeout, infinity}]}]}."#;
        let wanted = [
            ("my-app.call_timeout", 5_000),
            ("my-app.net_ticktime", 60_000),
            ("my-app.backoff.retry_interval", 1_000),
            ("my-app.m.heartbeat_interval", 30_000),
        ];
        assert_eq!(found(text), wanted.map(|(name, ms)| (name.to_owned(), ms)));
        let text = "[{kernel, [{net_setuptime, 7}]}, \"other.config\", {ra, [{segment_max, 5}]},
                     {rabbit, [{heartbeat, 60}]}, {other, [{heartbeat, 60}]}].";
        let wanted = [
            ("kernel.net_setuptime", 7_000),
            ("rabbit.heartbeat", 60_000),
            ("other.heartbeat", 60),
        ];
        assert_eq!(found(text), wanted.map(|(name, ms)| (name.to_owned(), ms)));
    }

    #[test]
    fn what_is_no_term_is_told_with_its_line() {
        let error = |text: &str| sites_of(text).unwrap_err().to_string();
        assert_eq!(
            error("{a,\n b"),
            "line 2: a comma or the end of a list, tuple or map is missing"
        );
        assert_eq!(error("{a}"), "line 1: a term must end with a dot");
        assert_eq!(error("\n\n{a, \"b}."), "line 3: a quote is not closed");
        assert_eq!(error("X."), "line 1: no Erlang term begins like this");
        assert_eq!(error(&"[".repeat(100_000)), "line 1: terms nest too deep");
        assert_eq!(error("$"), "line 1: a term must end with a dot");
        assert_eq!(error("\"\\"), "line 1: a quote is not closed");
    }
}
