//! Values of operations: Erlang terms and EDN data in one compact form.
//!
//! 16 bytes each; small integers, booleans and names are inline, everything else is behind one
//! shared pointer, so that a history of millions of operations is cheap to hold and to clone.
//!
//! Erlang and EDN differ in a few places, and the mapping is lossless both ways:
//! an Erlang atom is an EDN keyword ([`Value::Sym`]); `nil`, `true` and `false` are the same in both;
//! an Erlang tuple is [`Value::Tuple`], which EDN writes as a vector; Erlang lists and EDN vectors and
//! lists are [`Value::List`]; binaries that are UTF-8 are [`Value::Str`]; pids, ports, references,
//! funs, improper lists and bit strings are kept as their ETF bytes ([`Value::Etf`]). Numbers are kept
//! without rounding ([`crate::number`]).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::items::Items;
use crate::number::{self, Decimal, Ratio};
use crate::sym::Sym;

/// A term. `Eq` and `Hash` are structural, and `Ord` agrees with them. Numbers of different kinds are
/// different values (`1`, `1.0`), but ordered by their size; NaN equals itself and is above all numbers.
#[derive(Clone, Default)]
pub enum Value {
    /// Erlang's `nil` atom, EDN's `nil`.
    #[default]
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that fits into 64 bits.
    Int(i64),
    /// A larger integer: decimal digits with an optional leading minus.
    BigInt(Arc<String>),
    /// A floating point number.
    Float(f64),
    /// A decimal number: EDN's `1.50M`, a number in JSON that no float holds, an Elixir `Decimal`.
    Decimal(Arc<Decimal>),
    /// A fraction that is no integer: EDN's `1/3`.
    Ratio(Arc<Ratio>),
    /// An Erlang atom or an EDN keyword or symbol.
    Sym(Sym),
    /// UTF-8 text: an EDN string, an Erlang binary that is valid UTF-8.
    Str(Arc<String>),
    /// An Erlang binary that is not UTF-8.
    Bytes(Arc<Vec<u8>>),
    /// An Erlang list; an EDN vector or list.
    List(Items),
    /// An Erlang tuple. `{k, v}` is also the key of an independent operation.
    Tuple(Items),
    /// A map, sorted by key, keys unique.
    Map(Arc<Vec<(Value, Value)>>),
    /// A set, sorted, elements unique.
    Set(Items),
    /// A term that only the BEAM understands, as ETF with its leading 131.
    Etf(Arc<Vec<u8>>),
    /// EDN with a tag that means nothing to us (`#inst "…"`): another value than one without.
    Tagged(Arc<(Sym, Value)>),
}

impl Value {
    /// Text.
    pub fn str(text: impl Into<String>) -> Value {
        Value::Str(Arc::new(text.into()))
    }

    /// An interned name.
    pub fn sym(name: &str) -> Value {
        Value::Sym(Sym::new(name))
    }

    /// A list of the given elements.
    pub fn list(items: impl Into<Vec<Value>>) -> Value {
        Value::List(items.into().into())
    }

    /// A tuple of the given elements.
    pub fn tuple(items: impl Into<Vec<Value>>) -> Value {
        Value::Tuple(items.into().into())
    }

    /// A map; a key given twice keeps its last value.
    pub fn map(pairs: impl IntoIterator<Item = (Value, Value)>) -> Value {
        let sorted: std::collections::BTreeMap<Value, Value> = pairs.into_iter().collect();
        Value::Map(Arc::new(sorted.into_iter().collect()))
    }

    /// A map of keys that must all be different; the key that is there twice otherwise.
    pub fn unique_map(mut pairs: Vec<(Value, Value)>) -> Result<Value, Value> {
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        match pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(pair[0].0.clone()),
            None => Ok(Value::Map(Arc::new(pairs))),
        }
    }

    /// A set of elements that must all be different; the one that is there twice otherwise.
    pub fn unique_set(mut items: Vec<Value>) -> Result<Value, Value> {
        items.sort();
        match items.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(pair[0].clone()),
            None => Ok(Value::Set(items.into())),
        }
    }

    /// A set of the given elements.
    pub fn set(items: impl IntoIterator<Item = Value>) -> Value {
        let sorted: std::collections::BTreeSet<Value> = items.into_iter().collect();
        Value::Set(sorted.into_iter().collect())
    }

    /// Whether this is nil.
    pub fn is_nil(&self) -> bool {
        matches!(self, Value::Nil)
    }

    /// Whether this is a number of any kind, NaN and the infinities included.
    pub fn is_number(&self) -> bool {
        matches!(
            self,
            Value::Int(_)
                | Value::BigInt(_)
                | Value::Float(_)
                | Value::Decimal(_)
                | Value::Ratio(_)
        )
    }

    /// The value without its tags.
    pub fn untagged(&self) -> &Value {
        match self {
            Value::Tagged(tagged) => tagged.1.untagged(),
            value => value,
        }
    }

    /// The integer, when it is one that fits.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The name, when it is an atom or keyword.
    pub fn as_sym(&self) -> Option<Sym> {
        match self {
            Value::Sym(sym) => Some(*sym),
            _ => None,
        }
    }

    /// The text of a string or of a name.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text.as_str()),
            Value::Sym(sym) => Some(sym.as_str()),
            _ => None,
        }
    }

    /// The elements of a list, tuple or set, tagged or not.
    pub fn items(&self) -> Option<&[Value]> {
        match self.untagged() {
            Value::List(items) | Value::Tuple(items) | Value::Set(items) => Some(items.as_slice()),
            _ => None,
        }
    }

    /// The value at a map's key that is a name (or the text of it).
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self.untagged() {
            Value::Map(pairs) => {
                pairs.iter().find(|(k, _)| k.as_text() == Some(key)).map(|(_, v)| v)
            }
            _ => None,
        }
    }

    /// Key and value of an independent operation: a tuple or vector of two elements.
    pub fn key_and_value(&self) -> Option<(&Value, &Value)> {
        match self.untagged() {
            Value::Tuple(items) | Value::List(items) if items.len() == 2 => {
                Some((&items[0], &items[1]))
            }
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Nil => 0,
            Value::Bool(_) => 1,
            Value::Int(_) => 2,
            Value::BigInt(_) => 3,
            Value::Float(_) => 4,
            Value::Decimal(_) => 5,
            Value::Ratio(_) => 6,
            Value::Sym(_) => 7,
            Value::Str(_) => 8,
            Value::Bytes(_) => 9,
            Value::List(_) => 10,
            Value::Tuple(_) => 11,
            Value::Map(_) => 12,
            Value::Set(_) => 13,
            Value::Etf(_) => 14,
            Value::Tagged(_) => 15,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Nil, Value::Nil) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::BigInt(a), Value::BigInt(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Value::Decimal(a), Value::Decimal(b)) => a == b,
            (Value::Ratio(a), Value::Ratio(b)) => a == b,
            (Value::Tagged(a), Value::Tagged(b)) => a == b,
            (Value::Sym(a), Value::Sym(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) | (Value::Etf(a), Value::Etf(b)) => a == b,
            (Value::List(a), Value::List(b))
            | (Value::Tuple(a), Value::Tuple(b))
            | (Value::Set(a), Value::Set(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Value) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::BigInt(a), Value::BigInt(b)) => cmp_big(a, b),
            (Value::Tagged(a), Value::Tagged(b)) => a.cmp(b),
            (Value::Sym(a), Value::Sym(b)) => a.cmp(b),
            (Value::Str(a), Value::Str(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) | (Value::Etf(a), Value::Etf(b)) => a.cmp(b),
            (Value::List(a), Value::List(b))
            | (Value::Tuple(a), Value::Tuple(b))
            | (Value::Set(a), Value::Set(b)) => a.cmp(b),
            (Value::Map(a), Value::Map(b)) => a.cmp(b),
            (a, b) if a.is_number() && b.is_number() => cmp_numbers(a, b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// Orders numbers by size, equal ones by kind, NaN above all.
fn cmp_numbers(a: &Value, b: &Value) -> Ordering {
    let is_nan = |value: &Value| matches!(value, Value::Float(x) if x.is_nan());
    match number::compare(a, b) {
        Some(order) => order.then_with(|| a.rank().cmp(&b.rank())),
        None => is_nan(a).cmp(&is_nan(b)),
    }
}

/// Orders two decimal integers in canonical form (no leading zeros).
fn cmp_big(a: &str, b: &str) -> Ordering {
    match (a.strip_prefix('-'), b.strip_prefix('-')) {
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(a), Some(b)) => b.len().cmp(&a.len()).then_with(|| b.cmp(a)),
        (None, None) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.rank());
        match self {
            Value::Nil => {}
            Value::Bool(b) => b.hash(state),
            Value::Int(n) => n.hash(state),
            Value::BigInt(text) | Value::Str(text) => text.hash(state),
            // What is equal has one hash: 0.0 and -0.0, and every NaN.
            Value::Float(x) if x.is_nan() => f64::NAN.to_bits().hash(state),
            Value::Float(x) => (x + 0.0).to_bits().hash(state),
            Value::Decimal(decimal) => decimal.hash(state),
            Value::Ratio(ratio) => ratio.hash(state),
            Value::Tagged(tagged) => tagged.hash(state),
            Value::Sym(sym) => sym.hash(state),
            Value::Bytes(bytes) | Value::Etf(bytes) => bytes.hash(state),
            Value::List(items) | Value::Tuple(items) | Value::Set(items) => items.hash(state),
            Value::Map(pairs) => pairs.hash(state),
        }
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Value {
        Value::Int(n)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Value {
        Value::Bool(b)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::str(text)
    }
}

impl From<Sym> for Value {
    fn from(sym: Sym) -> Value {
        Value::Sym(sym)
    }
}

/// Written as EDN, which is what people read in reports and `history.edn`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn seq(
            f: &mut fmt::Formatter<'_>,
            open: &str,
            items: &[Value],
            close: &str,
        ) -> fmt::Result {
            f.write_str(open)?;
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    f.write_str(" ")?;
                }
                write!(f, "{item}")?;
            }
            f.write_str(close)
        }
        fn hex(f: &mut fmt::Formatter<'_>, tag: &str, bytes: &[u8]) -> fmt::Result {
            write!(f, "#{tag} \"")?;
            for byte in bytes {
                write!(f, "{byte:02x}")?;
            }
            f.write_str("\"")
        }
        match self {
            Value::Nil => f.write_str("nil"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(n) => write!(f, "{n}"),
            Value::BigInt(digits) => write!(f, "{digits}N"),
            Value::Float(x) if x.is_nan() => f.write_str("##NaN"),
            Value::Float(x) if x.is_infinite() => {
                f.write_str(if *x > 0.0 { "##Inf" } else { "##-Inf" })
            }
            Value::Float(x) => write!(f, "{x:?}"),
            Value::Decimal(decimal) => write!(f, "{decimal}M"),
            Value::Ratio(ratio) => write!(f, "{ratio}"),
            Value::Tagged(tagged) => write!(f, "#{} {}", tagged.0, tagged.1),
            Value::Sym(sym) => write!(f, ":{sym}"),
            Value::Str(text) => write_edn_string(f, text),
            Value::Bytes(bytes) => hex(f, "bytes", bytes),
            Value::List(items) | Value::Tuple(items) => seq(f, "[", items, "]"),
            Value::Set(items) => seq(f, "#{", items, "}"),
            Value::Map(pairs) => {
                f.write_str("{")?;
                for (i, (k, v)) in pairs.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{k} {v}")?;
                }
                f.write_str("}")
            }
            Value::Etf(bytes) => hex(f, "etf", bytes),
        }
    }
}

fn write_edn_string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if (c as u32) < 0x20 => write!(f, "\\u{:04x}", c as u32)?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Tuple(items) => f.debug_list().entries(items.iter()).finish(),
            other => write!(f, "{other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_sixteen_bytes() {
        assert_eq!(std::mem::size_of::<Value>(), 16);
    }

    #[test]
    fn display_is_edn() {
        let value = Value::map([
            (Value::sym("k"), Value::list(vec![Value::Int(1), Value::Nil])),
            (Value::sym("s"), Value::str("a\"b\n")),
        ]);
        assert_eq!(value.to_string(), r#"{:k [1 nil], :s "a\"b\n"}"#);
        assert_eq!(Value::set([Value::Int(2), Value::Int(1)]).to_string(), "#{1 2}");
    }

    #[test]
    fn big_integers_order_by_size() {
        let big = |s: &str| Value::BigInt(Arc::new(s.into()));
        assert!(big("-10") < big("-9"));
        assert!(big("9") < big("10"));
        assert!(big("-1") < big("1"));
    }

    #[test]
    fn a_keyed_value_splits() {
        let keyed = Value::tuple(vec![Value::Int(3), Value::Nil]);
        assert_eq!(keyed.key_and_value(), Some((&Value::Int(3), &Value::Nil)));
        assert_eq!(Value::Int(3).key_and_value(), None);
    }
}
