//! Options of checkers: read with types, refused by name with a suggestion when unknown.
//!
//! Values come from a spec (TOML, so typed) or from `--option k=v` (text), and both are accepted.

use fuzz_dist_core::spec::{Options, suggest};
use serde_json::Value as Json;

/// One option of a checker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionInfo {
    /// Its name.
    pub name: &'static str,
    /// Its default, as text.
    pub default: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
}

/// A checker or an option that does not exist, or a value that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No checker of that name.
    #[error("there is no checker {name:?}{hint}; known are: {known}")]
    UnknownChecker {
        /// What was asked for.
        name: String,
        /// A suggestion, with its leading text, or nothing.
        hint: String,
        /// All names.
        known: String,
    },
    /// The checker has no such option.
    #[error("checker {checker:?} has no option {option:?}{hint}; it has: {known}")]
    UnknownOption {
        /// The checker.
        checker: String,
        /// What was given.
        option: String,
        /// A suggestion, with its leading text, or nothing.
        hint: String,
        /// All options.
        known: String,
    },
    /// The value does not fit.
    #[error("option {option:?} of checker {checker:?} is {value}, but must be {expected}{hint}")]
    BadValue {
        /// The checker.
        checker: String,
        /// The option.
        option: String,
        /// What was given.
        value: String,
        /// What fits.
        expected: String,
        /// A suggestion, with its leading text, or nothing.
        hint: String,
    },
}

/// Reads the options of one checker.
#[derive(Debug)]
pub struct OptionReader<'a> {
    checker: &'static str,
    options: &'a Options,
}

impl<'a> OptionReader<'a> {
    /// Refuses options that are not among `known`.
    pub fn new(
        checker: &'static str,
        options: &'a Options,
        known: &[OptionInfo],
    ) -> Result<OptionReader<'a>, OptionError> {
        for name in options.keys() {
            if !known.iter().any(|info| info.name == name) {
                let names: Vec<&str> = known.iter().map(|info| info.name).collect();
                return Err(OptionError::UnknownOption {
                    checker: checker.into(),
                    option: name.clone(),
                    hint: did_you_mean(name, &names),
                    known: if names.is_empty() { "none".into() } else { names.join(", ") },
                });
            }
        }
        Ok(OptionReader { checker, options })
    }

    /// A truth value.
    pub fn bool(&self, name: &str, default: bool) -> Result<bool, OptionError> {
        match self.options.get(name) {
            None => Ok(default),
            Some(Json::Bool(value)) => Ok(*value),
            Some(Json::String(text)) if text == "true" => Ok(true),
            Some(Json::String(text)) if text == "false" => Ok(false),
            Some(other) => Err(self.bad(name, other, "true or false", String::new())),
        }
    }

    /// A whole number.
    pub fn int(&self, name: &str, default: i64) -> Result<i64, OptionError> {
        let Some(given) = self.options.get(name) else { return Ok(default) };
        let number = match given {
            Json::String(text) => text.parse().ok(),
            other => other.as_i64(),
        };
        number.ok_or_else(|| self.bad(name, given, "a whole number", String::new()))
    }

    /// A non-negative number of milliseconds or the like, fractions allowed.
    pub fn number(&self, name: &str, default: f64) -> Result<f64, OptionError> {
        let Some(given) = self.options.get(name) else { return Ok(default) };
        let number = match given {
            Json::String(text) => text.parse().ok(),
            other => other.as_f64(),
        };
        number
            .filter(|n: &f64| n.is_finite() && *n >= 0.0)
            .ok_or_else(|| self.bad(name, given, "a number, not negative", String::new()))
    }

    /// One of some words.
    pub fn word(
        &self,
        name: &str,
        allowed: &[&'static str],
        default: &'static str,
    ) -> Result<&'static str, OptionError> {
        let Some(given) = self.options.get(name) else { return Ok(default) };
        let text = given.as_str().unwrap_or_default();
        // Atoms and keywords are as good as text.
        let text = text.strip_prefix(':').unwrap_or(text);
        allowed.iter().find(|word| **word == text).copied().ok_or_else(|| {
            let expected = format!("one of {}", allowed.join(", "));
            self.bad(name, given, &expected, did_you_mean(text, allowed))
        })
    }

    /// Some words, as a list or in one text with commas.
    pub fn words(&self, name: &str) -> Result<Option<Vec<String>>, OptionError> {
        let Some(given) = self.options.get(name) else { return Ok(None) };
        let plain = |word: &str| word.trim().trim_start_matches(':').to_owned();
        let words: Option<Vec<String>> = match given {
            Json::String(text) => Some(text.split(',').map(plain).collect()),
            Json::Array(items) => items.iter().map(|item| item.as_str().map(plain)).collect(),
            _ => None,
        };
        match words.filter(|words| words.iter().all(|word| !word.is_empty())) {
            Some(words) => Ok(Some(words)),
            None => Err(self.bad(name, given, "words, as a list or with commas", String::new())),
        }
    }

    /// The value as it was given.
    pub fn raw(&self, name: &str) -> Option<&'a Json> {
        self.options.get(name)
    }

    /// An error about the value of an option.
    pub fn bad(&self, name: &str, given: &Json, expected: &str, hint: String) -> OptionError {
        OptionError::BadValue {
            checker: self.checker.into(),
            option: name.into(),
            value: given.to_string(),
            expected: expected.into(),
            hint,
        }
    }
}

/// `; did you mean "x"?` when a known name is close, else nothing.
pub fn did_you_mean(given: &str, known: &[&str]) -> String {
    suggest::nearest(given, known.iter().copied())
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_close_and_nothing_else() {
        assert_eq!(
            did_you_mean("linearisable", &["linearizable", "set"]),
            "; did you mean \"linearizable\"?"
        );
        assert_eq!(did_you_mean("set_full", &["set-full", "set"]), "; did you mean \"set-full\"?");
        assert_eq!(did_you_mean("kangaroo", &["set", "bank"]), "");
    }
}
