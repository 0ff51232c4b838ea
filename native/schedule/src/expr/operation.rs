//! From JSON to operations and templates of values.
//!
//! In templates a number, boolean or null is itself, text is a string, text that begins with a colon is
//! a name (`":taken"`; `":nil"` is nil, since TOML has no null; `"::x"` is the string `":x"`), an array is
//! a list, and an object with one key is a draw.

use std::collections::BTreeMap;

use fuzz_dist_core::spec::suggest;
use fuzz_dist_core::{Sym, Value};
use serde_json::{Map, Value as Json};

use super::parse::count;
use super::{ExprError, Operation};
use crate::template::{Part, Template};

/// The names of draws and constructors in templates.
pub const TEMPLATE_NAMES: [&str; 13] = [
    "choose",
    "float",
    "geometric",
    "int",
    "list",
    "literal",
    "map",
    "sparse",
    "the",
    "tuple",
    "unique",
    "weighted",
    "zipf",
];

/// Past this a table of Zipf's law would take more memory than the draw is worth.
const ZIPF_COUNT_MAX: u64 = 1_000_000;
const DEPTH_MAX: usize = 50;

type Result<T> = std::result::Result<T, ExprError>;

pub(super) fn describe(json: &Json) -> String {
    match json {
        Json::Null => "nothing (null)".into(),
        Json::Bool(b) => format!("`{b}`"),
        Json::Number(n) => format!("the number {n}"),
        Json::String(text) => format!("the text {text:?}"),
        Json::Array(items) => format!("an array of {}", items.len()),
        Json::Object(object) => {
            let keys: Vec<&str> = object.keys().take(5).map(String::as_str).collect();
            format!("an object with the keys {}", keys.join(", "))
        }
    }
}

/// Refuses keys that are not known.
pub(super) fn only_keys(object: &Map<String, Json>, known: &[&str], path: &str) -> Result<()> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let hint = suggest::clause(key, known.iter().copied());
            Err(ExprError::new(path, format!("unknown key `{key}`{hint}")))
        }
    }
}

/// The fields with `_` read as `-`; refuses those that are not known.
pub(super) fn normalised<'a>(
    object: &'a Map<String, Json>,
    known: &[&str],
    path: &str,
) -> Result<BTreeMap<String, &'a Json>> {
    let mut fields = BTreeMap::new();
    for (key, json) in object {
        let name = key.replace('_', "-");
        if !known.contains(&name.as_str()) {
            let hint = suggest::clause(&name, known.iter().copied());
            return Err(ExprError::new(path, format!("unknown key `{key}`{hint}")));
        }
        fields.insert(name, json);
    }
    Ok(fields)
}

/// The only entry of an object.
pub(super) fn single<'a>(object: &'a Map<String, Json>, path: &str) -> Result<(&'a str, &'a Json)> {
    match (object.len(), object.iter().next()) {
        (1, Some((key, json))) => Ok((key, json)),
        (count, _) => Err(ExprError::new(path, format!("expected one key, found {count}"))),
    }
}

/// A text or an array of texts.
pub(super) fn names(json: &Json, path: &str) -> Result<Vec<String>> {
    let one = |json: &Json| match json {
        Json::String(text) => Ok(text.trim_start_matches(':').to_owned()),
        other => Err(ExprError::new(path, format!("expected a name, found {}", describe(other)))),
    };
    match json {
        Json::Array(items) => items.iter().map(one).collect(),
        other => Ok(vec![one(other)?]),
    }
}

/// The name of a function, with or without a leading colon.
pub(super) fn f_name(json: &Json, path: &str) -> Result<String> {
    match json {
        Json::String(text) if !text.trim_start_matches(':').is_empty() => {
            Ok(text.trim_start_matches(':').to_owned())
        }
        other => Err(ExprError::new(
            path,
            format!("expected the name of a function, found {}", describe(other)),
        )),
    }
}

pub(super) fn operation(object: &Map<String, Json>, path: &str) -> Result<Operation> {
    only_keys(object, &["f", "value", "extra"], path)?;
    let f = f_name(object.get("f").unwrap_or(&Json::Null), &format!("{path}/f"))?;
    let value = match object.get("value") {
        None => Template::Fixed(Value::Nil),
        Some(value) => template(value, &format!("{path}/value"), false)?,
    };
    let extra = match object.get("extra") {
        None => Vec::new(),
        Some(json) => extra(json, path, false)?,
    };
    Ok(Operation { f, value, extra })
}

pub(super) fn extra(json: &Json, path: &str, in_map: bool) -> Result<Vec<(String, Template)>> {
    let path = format!("{path}/extra");
    let Json::Object(object) = json else {
        return Err(ExprError::new(&path, format!("expected an object, found {}", describe(json))));
    };
    object
        .iter()
        .map(|(key, json)| Ok((key.clone(), template(json, &format!("{path}/{key}"), in_map)?)))
        .collect()
}

/// A template that draws nothing.
pub(super) fn fixed(json: &Json, path: &str) -> Result<Value> {
    match template(json, path, false)? {
        Template::Fixed(value) => Ok(value),
        _ => Err(ExprError::new(path, "expected a fixed value, found a draw")),
    }
}

/// A template; `in_map` allows `{"the": "value"}`.
pub(super) fn template(json: &Json, path: &str, in_map: bool) -> Result<Template> {
    Templates { in_map }.parse(json, path, 0)
}

struct Templates {
    in_map: bool,
}

impl Templates {
    fn parse(&self, json: &Json, path: &str, depth: usize) -> Result<Template> {
        if depth > DEPTH_MAX {
            return Err(ExprError::new(path, format!("nested deeper than {DEPTH_MAX}")));
        }
        match json {
            Json::Array(items) => {
                Ok(gather(self.all(items, path, depth)?, Value::list, Template::List))
            }
            Json::Object(object) => {
                let (given, argument) = single(object, path)?;
                let here = format!("{path}/{given}");
                self.draw(given, argument, path, &here, depth)
            }
            scalar => Ok(Template::Fixed(self::scalar(scalar, path)?)),
        }
    }

    fn all(&self, items: &[Json], path: &str, depth: usize) -> Result<Vec<Template>> {
        items
            .iter()
            .enumerate()
            .map(|(i, item)| self.parse(item, &format!("{path}/{i}"), depth + 1))
            .collect()
    }

    fn draw(
        &self,
        given: &str,
        argument: &Json,
        parent: &str,
        path: &str,
        depth: usize,
    ) -> Result<Template> {
        match given {
            "int" => int(argument, path),
            "float" => {
                let [low, high] = floats(argument, path)?;
                Ok(Template::Float(low, high))
            }
            "choose" => Ok(Template::Choose(self.some(argument, path, depth)?)),
            "weighted" => self.weighted(argument, path, depth),
            "zipf" => zipf(argument, path),
            "geometric" => match argument.as_f64() {
                Some(p) if p > 0.0 && p <= 1.0 => Ok(Template::Geometric(p)),
                _ => Err(ExprError::new(path, "expected a probability, more than 0 and at most 1")),
            },
            "unique" => unique(argument, path),
            "sparse" => sparse(argument, path),
            "list" => Ok(gather(self.array(argument, path, depth)?, Value::list, Template::List)),
            "tuple" => {
                Ok(gather(self.array(argument, path, depth)?, Value::tuple, Template::Tuple))
            }
            "map" => self.map(argument, path, depth),
            "literal" => literal(argument, path, 0).map(Template::Fixed),
            "the" => self.the(argument, path),
            unknown => {
                let hint = suggest::clause(unknown, TEMPLATE_NAMES);
                Err(ExprError::new(parent, format!("unknown draw `{unknown}`{hint}")))
            }
        }
    }

    fn array(&self, json: &Json, path: &str, depth: usize) -> Result<Vec<Template>> {
        match json {
            Json::Array(items) => self.all(items, path, depth),
            other => {
                Err(ExprError::new(path, format!("expected an array, found {}", describe(other))))
            }
        }
    }

    fn some(&self, json: &Json, path: &str, depth: usize) -> Result<Vec<Template>> {
        let items = self.array(json, path, depth)?;
        if items.is_empty() {
            return Err(ExprError::new(path, "there is nothing to choose from"));
        }
        Ok(items)
    }

    fn weighted(&self, json: &Json, path: &str, depth: usize) -> Result<Template> {
        let shape = "expected [[weight, value], …] with whole weights that are not all 0";
        let Json::Array(pairs) = json else { return Err(ExprError::new(path, shape)) };
        let (mut sum, mut cumulative, mut items) = (0u64, Vec::new(), Vec::new());
        for (i, pair) in pairs.iter().enumerate() {
            let here = format!("{path}/{i}");
            let Json::Array(pair) = pair else { return Err(ExprError::new(&here, shape)) };
            let [weight, value] = pair.as_slice() else {
                return Err(ExprError::new(&here, shape));
            };
            let weight = count(weight, &format!("{here}/0"))?;
            sum = sum
                .checked_add(weight)
                .ok_or_else(|| ExprError::new(&here, "the weights are too large"))?;
            cumulative.push(sum);
            items.push(self.parse(value, &format!("{here}/1"), depth + 1)?);
        }
        if sum == 0 {
            return Err(ExprError::new(path, shape));
        }
        Ok(Template::Weighted(cumulative, items))
    }

    fn map(&self, json: &Json, path: &str, depth: usize) -> Result<Template> {
        let Json::Object(object) = json else {
            return Err(ExprError::new(
                path,
                format!("expected an object, found {}", describe(json)),
            ));
        };
        let mut pairs = Vec::new();
        for (key, json) in object {
            let value = self.parse(json, &format!("{path}/{key}"), depth + 1)?;
            pairs.push((name(key.trim_start_matches(':'), path)?, value));
        }
        let all_fixed = pairs.iter().all(|(_, value)| matches!(value, Template::Fixed(_)));
        if !all_fixed {
            return Ok(Template::Map(pairs));
        }
        let fixed = pairs.into_iter().filter_map(|(key, value)| match value {
            Template::Fixed(value) => Some((key, value)),
            _ => None,
        });
        Ok(Template::Fixed(Value::map(fixed)))
    }

    fn the(&self, json: &Json, path: &str) -> Result<Template> {
        let name = json.as_str().unwrap_or_default();
        match Part::parse(name) {
            Some(Part::Value | Part::F) if !self.in_map => Err(ExprError::new(
                path,
                format!("`{name}` is known only within `map`, where there is an operation already"),
            )),
            Some(part) => Ok(Template::The(part)),
            None => {
                let hint = suggest::clause(name, Part::NAMES);
                Err(ExprError::new(path, format!("unknown part of an operation `{name}`{hint}")))
            }
        }
    }
}

/// A collection of fixed elements is itself fixed.
fn gather(
    items: Vec<Template>,
    fixed: fn(Vec<Value>) -> Value,
    drawn: fn(Vec<Template>) -> Template,
) -> Template {
    let values: Option<Vec<Value>> = items
        .iter()
        .map(|item| match item {
            Template::Fixed(value) => Some(value.clone()),
            _ => None,
        })
        .collect();
    values.map(fixed).map_or_else(|| drawn(items), Template::Fixed)
}

fn name(text: &str, path: &str) -> Result<Value> {
    Sym::try_new(text).map(Value::Sym).map_err(|full| ExprError::new(path, full.to_string()))
}

fn scalar(json: &Json, path: &str) -> Result<Value> {
    Ok(match json {
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => Value::Int(n),
            (None, _) if n.is_u64() => Value::BigInt(std::sync::Arc::new(n.to_string())),
            (None, Some(x)) => Value::Float(x),
            (None, None) => {
                return Err(ExprError::new(path, format!("{n} is not a number we know")));
            }
        },
        Json::String(text) => match text.strip_prefix(':') {
            None => Value::str(text.as_str()),
            Some("nil") => Value::Nil,
            Some("true") => Value::Bool(true),
            Some("false") => Value::Bool(false),
            Some(rest) if rest.starts_with(':') => Value::str(rest),
            Some("") => Value::str(":"),
            Some(rest) => name(rest, path)?,
        },
        _ => Value::Nil,
    })
}

/// JSON as it stands: objects are maps with text keys, texts are strings.
fn literal(json: &Json, path: &str, depth: usize) -> Result<Value> {
    if depth > DEPTH_MAX {
        return Err(ExprError::new(path, format!("nested deeper than {DEPTH_MAX}")));
    }
    Ok(match json {
        Json::String(text) => Value::str(text.as_str()),
        Json::Array(items) => {
            let items: Result<Vec<Value>> =
                items.iter().map(|item| literal(item, path, depth + 1)).collect();
            Value::list(items?)
        }
        Json::Object(object) => {
            let mut pairs = Vec::new();
            for (key, json) in object {
                pairs.push((Value::str(key.as_str()), literal(json, path, depth + 1)?));
            }
            Value::map(pairs)
        }
        other => scalar(other, path)?,
    })
}

fn int(json: &Json, path: &str) -> Result<Template> {
    let ends = match json {
        Json::Array(ends) if ends.len() == 2 => (ends[0].as_i64(), ends[1].as_i64()),
        _ => (None, None),
    };
    match ends {
        (Some(low), Some(high)) if low <= high => Ok(Template::Int(low, high)),
        (Some(low), Some(high)) => {
            Err(ExprError::new(path, format!("the range [{low}, {high}] is empty")))
        }
        _ => Err(ExprError::new(path, "expected [lowest, highest], both whole and included")),
    }
}

fn floats(json: &Json, path: &str) -> Result<[f64; 2]> {
    let ends = match json {
        Json::Array(ends) if ends.len() == 2 => (ends[0].as_f64(), ends[1].as_f64()),
        _ => (None, None),
    };
    match ends {
        (Some(low), Some(high)) if low < high => Ok([low, high]),
        _ => Err(ExprError::new(path, "expected [lowest, end] with lowest < end")),
    }
}

fn zipf(json: &Json, path: &str) -> Result<Template> {
    let (number, skew) = match json {
        Json::Array(parts) if parts.len() == 2 => (&parts[0], parts[1].as_f64()),
        number => (number, Some(1.0)),
    };
    let ranks = count(number, path)?;
    match skew {
        Some(skew) if (1..=ZIPF_COUNT_MAX).contains(&ranks) && (0.0..=10.0).contains(&skew) => {
            Ok(Template::Zipf(ranks as usize, skew))
        }
        _ => Err(ExprError::new(
            path,
            format!("expected [count, skew] with 1 <= count <= {ZIPF_COUNT_MAX}, 0 <= skew <= 10"),
        )),
    }
}

/// `first`, or `{name, from, step}`. Without a name the counter is that of this place.
fn unique(json: &Json, path: &str) -> Result<Template> {
    let own = || path.to_owned();
    match json {
        Json::Null => Ok(Template::Unique { counter: own(), from: 0, step: 1 }),
        Json::Number(n) if n.is_i64() => {
            Ok(Template::Unique { counter: own(), from: n.as_i64().unwrap_or(0), step: 1 })
        }
        Json::Object(object) => {
            only_keys(object, &["name", "from", "step"], path)?;
            let whole = |key: &str, default: i64| match object.get(key) {
                None => Ok(default),
                Some(json) => json
                    .as_i64()
                    .ok_or_else(|| ExprError::new(path, format!("`{key}` must be a whole number"))),
            };
            let counter = match object.get("name") {
                None => own(),
                Some(Json::String(name)) => format!("name:{name}"),
                Some(other) => {
                    let problem = format!("`name` must be text, found {}", describe(other));
                    return Err(ExprError::new(path, problem));
                }
            };
            let step = whole("step", 1)?;
            if step == 0 {
                return Err(ExprError::new(path, "a `step` of 0 repeats the same value"));
            }
            Ok(Template::Unique { counter, from: whole("from", 0)?, step })
        }
        _ => Err(ExprError::new(path, "expected the first number, or {name, from, step}")),
    }
}

fn sparse(json: &Json, path: &str) -> Result<Template> {
    match json.as_i64() {
        Some(size) if (1..=1 << 40).contains(&size) => {
            Ok(Template::Sparse { counter: path.to_owned(), size })
        }
        _ => Err(ExprError::new(path, "expected how many values a band has, from 1 to 2^40")),
    }
}
