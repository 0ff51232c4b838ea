//! Values to external term format.

use super::names::{NameCache, with_names};
use super::{DECIMAL_STRUCT, VERSION, tag};
use crate::number::{self, Decimal};
use crate::sym::Sym;
use crate::value::Value;

/// Appends `value` as a term with its leading 131, as `binary_to_term` wants it.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    out.push(VERSION);
    encode_bare(value, out);
}

/// Appends `value` without the leading 131: a part of a larger term.
pub fn encode_bare(value: &Value, out: &mut Vec<u8>) {
    with_names(|names| term(value, names, out));
}

fn term(value: &Value, names: &mut NameCache, out: &mut Vec<u8>) {
    match value {
        Value::Nil => atom("nil", out),
        Value::Bool(true) => atom("true", out),
        Value::Bool(false) => atom("false", out),
        Value::Int(n) => integer(*n, out),
        Value::BigInt(digits) => big(digits, out),
        Value::Float(x) => {
            out.push(tag::NEW_FLOAT);
            out.extend_from_slice(&x.to_bits().to_be_bytes());
        }
        Value::Sym(sym) => symbol(*sym, names, out),
        Value::Str(text) => binary(text.as_bytes(), out),
        Value::Bytes(bytes) => binary(bytes, out),
        Value::List(items) | Value::Set(items) => list(items, names, out),
        Value::Tuple(items) => {
            match u8::try_from(items.len()) {
                Ok(arity) => out.extend_from_slice(&[tag::SMALL_TUPLE, arity]),
                Err(_) => header(tag::LARGE_TUPLE, items.len(), out),
            }
            for item in items.iter() {
                term(item, names, out);
            }
        }
        Value::Map(pairs) => {
            header(tag::MAP, pairs.len(), out);
            for (key, value) in pairs.iter() {
                term(key, names, out);
                term(value, names, out);
            }
        }
        Value::Decimal(decimal) => self::decimal(decimal, out),
        // The BEAM has no such values; what names them is the next best.
        Value::Ratio(ratio) => {
            let (numerator, denominator) = ratio.parts();
            out.extend_from_slice(&[tag::SMALL_TUPLE, 3]);
            atom("ratio", out);
            term(&number::integer_of(&numerator), names, out);
            term(&number::integer_of(&denominator), names, out);
        }
        Value::Tagged(tagged) => {
            out.extend_from_slice(&[tag::SMALL_TUPLE, 3]);
            atom("tagged", out);
            symbol(tagged.0, names, out);
            term(&tagged.1, names, out);
        }
        Value::Etf(bytes) => match bytes.as_slice() {
            [VERSION, verbatim @ ..] if !verbatim.is_empty() => out.extend_from_slice(verbatim),
            // Not a term at all, which no decoder makes: keep the bytes rather than break the message.
            other => binary(other, out),
        },
    }
}

/// As Elixir's `Decimal` struct.
fn decimal(decimal: &Decimal, out: &mut Vec<u8>) {
    header(tag::MAP, 4, out);
    atom("__struct__", out);
    atom(DECIMAL_STRUCT, out);
    atom("coef", out);
    big(&decimal.coefficient(), out);
    atom("exp", out);
    integer(decimal.exponent(), out);
    atom("sign", out);
    integer(if decimal.is_negative() { -1 } else { 1 }, out);
}

fn header(tag: u8, count: usize, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&(count as u32).to_be_bytes());
}

fn binary(bytes: &[u8], out: &mut Vec<u8>) {
    header(tag::BINARY, bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn symbol(sym: Sym, names: &mut NameCache, out: &mut Vec<u8>) {
    atom(names.text(sym), out);
}

/// The format has room for 65,535 bytes of name; a longer one, which can only come from a foreign
/// history, becomes a binary.
fn atom(name: &str, out: &mut Vec<u8>) {
    if let Ok(length) = u8::try_from(name.len()) {
        out.extend_from_slice(&[tag::SMALL_ATOM_UTF8, length]);
    } else if let Ok(length) = u16::try_from(name.len()) {
        out.push(tag::ATOM_UTF8);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        return binary(name.as_bytes(), out);
    }
    out.extend_from_slice(name.as_bytes());
}

fn integer(n: i64, out: &mut Vec<u8>) {
    if let Ok(small) = u8::try_from(n) {
        out.extend_from_slice(&[tag::SMALL_INTEGER, small]);
    } else if let Ok(word) = i32::try_from(n) {
        out.push(tag::INTEGER);
        out.extend_from_slice(&word.to_be_bytes());
    } else {
        let magnitude = n.unsigned_abs().to_le_bytes();
        let length = magnitude.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        out.extend_from_slice(&[tag::SMALL_BIG, length as u8, u8::from(n < 0)]);
        out.extend_from_slice(&magnitude[..length]);
    }
}

fn big(digits: &str, out: &mut Vec<u8>) {
    if let Ok(n) = digits.parse() {
        return integer(n, out);
    }
    let Ok(number) = digits.parse::<num_bigint::BigInt>() else {
        // Not digits, which no parser makes: keep the text.
        return binary(digits.as_bytes(), out);
    };
    let (sign, magnitude) = number.to_bytes_le();
    match u8::try_from(magnitude.len()) {
        Ok(length) => out.extend_from_slice(&[tag::SMALL_BIG, length]),
        Err(_) => header(tag::LARGE_BIG, magnitude.len(), out),
    }
    out.push(u8::from(sign == num_bigint::Sign::Minus));
    out.extend_from_slice(&magnitude);
}

fn list(items: &[Value], names: &mut NameCache, out: &mut Vec<u8>) {
    if items.is_empty() {
        return out.push(tag::NIL);
    }
    let byte = |item: &Value| item.as_int().and_then(|n| u8::try_from(n).ok());
    if let Ok(length) = u16::try_from(items.len())
        && items.iter().all(|item| byte(item).is_some())
    {
        out.push(tag::STRING);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend(items.iter().filter_map(byte));
        return;
    }
    header(tag::LIST, items.len(), out);
    for item in items {
        term(item, names, out);
    }
    out.push(tag::NIL);
}
