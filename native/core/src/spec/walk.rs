//! Compares a parsed TOML document with the table of keys: unknown keys and wrong shapes, with places.
//!
//! Runs before the types are filled. It finds every problem of this sort at once, and remembers where
//! each key stands, so that what [`super::validate`] finds later can be given a line as well.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key, Shape};
use super::{MINED, suggest};
use crate::fault::{FaultKind, Plane};

/// A problem at a place in the text.
#[derive(Debug)]
pub(super) struct Found {
    pub span: Range<usize>,
    pub key: String,
    pub message: String,
}

/// What a walk collects.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub found: Vec<Found>,
    /// Where the value of each key stands.
    pub spans: HashMap<String, Range<usize>>,
}

type Item<'i> = Spanned<DeValue<'i>>;

/// Walks a document.
pub(super) fn walk(document: &Spanned<DeTable<'_>>) -> Walk {
    let mut walk = Walk::default();
    walk.table(document.get_ref(), keys::SPEC, "", &(0..0));
    walk
}

impl Walk {
    fn problem(&mut self, span: Range<usize>, key: &str, message: impl Into<String>) {
        self.found.push(Found { span, key: key.to_owned(), message: message.into() });
    }

    fn table(&mut self, table: &DeTable<'_>, known: &[Key], path: &str, span: &Range<usize>) {
        self.table_of(table, &[known], path, span);
    }

    fn table_of(&mut self, table: &DeTable<'_>, known: &[&[Key]], path: &str, span: &Range<usize>) {
        let find = |name: &str| known.iter().flat_map(|keys| keys.iter()).find(|k| k.name == name);
        for (name, value) in table {
            let here = join(path, name.get_ref());
            match find(name.get_ref()) {
                Some(key) => {
                    self.spans.insert(here.clone(), value.span());
                    self.value(value, key, &here);
                }
                None => {
                    let names: Vec<&str> =
                        known.iter().flat_map(|keys| keys.iter()).map(|k| k.name).collect();
                    let message = unknown_key(name.get_ref(), &names, path);
                    self.problem(name.span(), &here, message);
                }
            }
        }
        // The top level's required tables are checked by `validate`, which knows what they lack.
        if !path.is_empty() {
            for key in known.iter().flat_map(|keys| keys.iter()).filter(|key| key.required()) {
                if !table.keys().any(|name| name.get_ref() == key.name) {
                    let message = format!("is missing ({})", key.shape.words());
                    self.problem(span.clone(), &join(path, key.name), message);
                }
            }
        }
    }

    fn value(&mut self, value: &Item<'_>, key: &Key, path: &str) {
        match key.shape {
            Shape::Text => {
                self.text(value, path);
            }
            Shape::Choice(choices) => {
                if let Some(text) = self.text(value, path)
                    && !choices.contains(&text.as_str())
                {
                    let what = key.name;
                    let message =
                        format!("unknown {what} `{text}`; {}", suggest::hint(&text, choices));
                    self.problem(value.span(), path, message);
                }
            }
            Shape::Boolean => {
                if !matches!(value.get_ref(), DeValue::Boolean(_)) {
                    self.wrong_shape(value, path, "must be true or false");
                }
            }
            Shape::Count => {
                self.integer(value, path, u64::from(u32::MAX));
            }
            Shape::Integer => {
                self.integer(value, path, u64::MAX);
            }
            Shape::Signed => self.signed(value, path),
            Shape::Number => self.number(value, path),
            Shape::Texts => self.texts(value, path),
            Shape::Packages => match value.get_ref() {
                DeValue::String(_) => {}
                DeValue::Array(_) => self.texts(value, path),
                _ => self.wrong_shape(
                    value,
                    path,
                    "must be a list of packages, [\"kill\", \"partition\"], or \"none\"",
                ),
            },
            Shape::TextTable => self.each(value, path, |walk, item, path| {
                walk.text(item, path);
            }),
            Shape::Boundaries => self.boundaries(value, path),
            Shape::TextsTable => self.each(value, path, Walk::texts),
            Shape::Options => self.each(value, path, Walk::any),
            Shape::Any => self.any(value, path),
            Shape::Nodes if matches!(value.get_ref(), DeValue::Array(_)) => self.texts(value, path),
            Shape::Nodes => {
                let words = "must be a number of nodes (3) or a list of names ([\"a\", \"b\"])";
                self.count_or(value, path, words);
            }
            Shape::Concurrency if matches!(value.get_ref(), DeValue::String(_)) => {}
            Shape::Concurrency => {
                let words =
                    "must be a number of processes (10) or a multiple of the nodes (\"2n\")";
                self.count_or(value, path, words);
            }
            Shape::Targets => self.list(value, path, Walk::target),
            Shape::Zones => self.list(value, path, |walk, item, path| {
                if let Some(text) = walk.text(item, path)
                    && !keys::ZONES.contains(&text.as_str())
                {
                    let hint = suggest::hint(&text, &keys::ZONES);
                    walk.problem(item.span(), path, format!("unknown zone `{text}`; {hint}"));
                }
            }),
            // What it is depends on the plane: `fault` looks at both.
            Shape::Kind => {
                self.text(value, path);
            }
            Shape::OneOf(known) => self.one_of(value, known, path),
            Shape::Table(known) => match value.get_ref() {
                DeValue::Table(table) => self.table(table, known, path, &value.span()),
                _ => self.wrong_shape(value, path, &format!("must be a table: [{path}]")),
            },
            Shape::Tables(known) => {
                self.list(value, path, |walk, item, path| match item.get_ref() {
                    DeValue::Table(table) => walk.table(table, known, path, &item.span()),
                    _ => walk.wrong_shape(item, path, "must be a table"),
                })
            }
            Shape::Faults => self.list(value, path, Walk::fault),
        }
    }

    /// A number where something else would be right as well, as `words` say.
    fn count_or(&mut self, value: &Item<'_>, path: &str, words: &str) {
        match value.get_ref() {
            DeValue::Integer(_) => {
                self.integer(value, path, u64::from(u32::MAX));
            }
            _ => self.wrong_shape(value, path, words),
        }
    }

    /// A fault may have the keys of every fault and those of its kind.
    fn fault(&mut self, item: &Item<'_>, path: &str) {
        let DeValue::Table(table) = item.get_ref() else {
            return self.wrong_shape(item, path, "must be a table: { kind = \"hold\", … }");
        };
        let text = |wanted: &str| {
            let mut entries = table.iter();
            let (_, value) = entries.find(|(name, _)| name.get_ref() == wanted)?;
            Some((value.get_ref().as_str()?, value.span()))
        };
        // A plane that there is not is told by its own key.
        let plane = text("plane").and_then(|(name, _)| Plane::named(name));
        let mut of_kind: &[Key] = &[];
        if let Some((name, span)) = text("kind") {
            match FaultKind::find(name, plane) {
                Ok((_, kind)) => of_kind = kind.keys,
                Err(error) => self.problem(span, &join(path, "kind"), error.to_string()),
            }
        }
        self.table_of(table, &[keys::FAULT, of_kind], path, &item.span());
    }

    /// A table that says one thing in one of several ways.
    fn one_of(&mut self, value: &Item<'_>, known: &[Key], path: &str) {
        let ways = || known.iter().map(|key| key.name).collect::<Vec<_>>().join(", ");
        let DeValue::Table(table) = value.get_ref() else {
            let wanted = format!("must be a table with one of {}", ways());
            return self.wrong_shape(value, path, &wanted);
        };
        self.table(table, known, path, &value.span());
        if table.len() != 1 {
            let message = format!("must have exactly one of {}, not {}", ways(), table.len());
            self.problem(value.span(), path, message);
        }
    }

    fn target(&mut self, item: &Item<'_>, path: &str) {
        match item.get_ref() {
            DeValue::String(name) if keys::TARGETS.contains(&name.as_ref()) => {}
            DeValue::String(name) => {
                let message = match name.as_ref() {
                    "named" => "a named target says which nodes: { named = [\"n1\"] }".to_owned(),
                    "links" => {
                        "links are given from and to: { links = [[\"n1\", \"n2\"]] }".to_owned()
                    }
                    other => format!(
                        "unknown target `{other}`; {}",
                        suggest::hint(other, &keys::TARGETS)
                    ),
                };
                self.problem(item.span(), path, message);
            }
            DeValue::Table(table) if table.len() == 1 => {
                for (name, value) in table {
                    let here = join(path, name.get_ref());
                    self.spans.insert(here.clone(), value.span());
                    match name.get_ref().as_ref() {
                        "named" => self.texts(value, &here),
                        "links" => self.list(value, &here, |walk, pair, path| {
                            match pair.get_ref() {
                                DeValue::Array(ends) if ends.len() == 2 => walk.texts(pair, path),
                                _ => walk.wrong_shape(
                                    pair,
                                    path,
                                    "a link is two nodes, from and to: [\"n1\", \"n2\"]",
                                ),
                            }
                        }),
                        other => {
                            let hint = suggest::hint(other, &["named", "links"]);
                            self.problem(
                                name.span(),
                                path,
                                format!("unknown target `{other}`; {hint}"),
                            );
                        }
                    }
                }
            }
            _ => self.wrong_shape(
                item,
                path,
                "a target is a name (\"halves\"), { named = [\"n1\"] } or { links = [[\"n1\", \"n2\"]] }",
            ),
        }
    }

    /// Numbers by name, or the word for those that are mined, which is a key among them too.
    fn boundaries(&mut self, value: &Item<'_>, path: &str) {
        let wanted = "must be a table of milliseconds by name, or \"mined\"";
        match value.get_ref() {
            DeValue::String(word) if word == MINED => {}
            DeValue::Table(_) => self.each(value, path, |walk, item, path| {
                match (path.ends_with(".mined"), item.get_ref()) {
                    (true, DeValue::Boolean(_)) => {}
                    (true, DeValue::Array(_)) => walk.texts(item, path),
                    (true, _) => walk.wrong_shape(
                        item,
                        path,
                        "must be true, or a list of folders: it is no name of a boundary",
                    ),
                    (false, _) => walk.number(item, path),
                }
            }),
            _ => self.wrong_shape(value, path, wanted),
        }
    }

    fn text(&mut self, value: &Item<'_>, path: &str) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => {
                self.wrong_shape(value, path, "must be a string");
                None
            }
        }
    }

    fn texts(&mut self, value: &Item<'_>, path: &str) {
        self.list(value, path, |walk, item, path| {
            walk.text(item, path);
        });
    }

    fn integer(&mut self, value: &Item<'_>, path: &str, max: u64) {
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong_shape(value, path, "must be a whole number");
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if number <= max => {}
            _ => self.problem(
                value.span(),
                path,
                format!("{number} is out of range: a whole number from 0 to {max}"),
            ),
        }
    }

    fn signed(&mut self, value: &Item<'_>, path: &str) {
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong_shape(value, path, "must be a whole number");
        };
        if i64::from_str_radix(number.as_str(), number.radix()).is_err() {
            let message = format!("{number} is out of range: a whole number of 64 bits");
            self.problem(value.span(), path, message);
        }
    }

    fn number(&mut self, value: &Item<'_>, path: &str) {
        let finite = match value.get_ref() {
            DeValue::Integer(_) => true,
            DeValue::Float(number) => {
                number.as_str().parse::<f64>().is_ok_and(|number| number.is_finite())
            }
            _ => return self.wrong_shape(value, path, "must be a number"),
        };
        if !finite {
            self.problem(value.span(), path, "must be a finite number");
        }
    }

    /// Free-form values are kept as JSON, which has no dates and no infinities.
    fn any(&mut self, value: &Item<'_>, path: &str) {
        match value.get_ref() {
            DeValue::Datetime(_) => {
                self.problem(value.span(), path, "is a date: write it as a string");
            }
            DeValue::Float(_) => self.number(value, path),
            DeValue::Integer(number) => {
                let (text, radix) = (number.as_str(), number.radix());
                if i64::from_str_radix(text, radix).is_err()
                    && u64::from_str_radix(text, radix).is_err()
                {
                    self.problem(value.span(), path, format!("{number} has more than 64 bits"));
                }
            }
            DeValue::Array(_) => self.list(value, path, Walk::any),
            DeValue::Table(_) => self.each(value, path, Walk::any),
            _ => {}
        }
    }

    fn list(
        &mut self,
        value: &Item<'_>,
        path: &str,
        mut each: impl FnMut(&mut Walk, &Item<'_>, &str),
    ) {
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong_shape(value, path, "must be a list: [ … ]");
        };
        for (i, item) in items.iter().enumerate() {
            let here = format!("{path}[{i}]");
            self.spans.insert(here.clone(), item.span());
            each(self, item, &here);
        }
    }

    fn each(
        &mut self,
        value: &Item<'_>,
        path: &str,
        mut each: impl FnMut(&mut Walk, &Item<'_>, &str),
    ) {
        let DeValue::Table(table) = value.get_ref() else {
            return self.wrong_shape(value, path, "must be a table");
        };
        for (name, item) in table {
            let here = join(path, name.get_ref());
            self.spans.insert(here.clone(), item.span());
            each(self, item, &here);
        }
    }

    fn wrong_shape(&mut self, value: &Item<'_>, path: &str, wanted: &str) {
        let got = match value.get_ref() {
            DeValue::String(text) => format!("the string {text:?}"),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the number {number}"),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.problem(value.span(), path, format!("{wanted}, not {got}"));
    }
}

/// A near name here, the table where the name would be right, or what there is.
fn unknown_key(name: &str, known: &[&str], path: &str) -> String {
    if let Some(near) = suggest::nearest(name, known.iter().copied()) {
        return format!("unknown key; did you mean `{near}`?");
    }
    let elsewhere = [
        ("", keys::SPEC),
        ("cluster", keys::CLUSTER),
        ("client", keys::CLIENT),
        ("workload", keys::WORKLOAD),
        ("nemesis", keys::NEMESIS),
    ]
    .into_iter()
    .find(|(table, keys)| *table != path && keys.iter().any(|key| key.name == name));
    match elsewhere {
        Some(("", _)) => {
            "unknown key here; it belongs to the top level, before the first table".to_owned()
        }
        Some((table, _)) => format!("unknown key here; it belongs into [{table}]"),
        None => format!("unknown key; known: {}", known.join(", ")),
    }
}

fn join(path: &str, name: &str) -> String {
    // A key that is not bare is shown as it has to be written.
    let bare =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}
