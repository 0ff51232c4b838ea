//! Histories as JSON lines, for `jq`, pandas and their like.
//!
//! `{"index":0,"time":12,"type":"invoke","process":0,"f":"read","value":null}`, then `error`, `node` and
//! whatever else the record has. What JSON has no notation for is written as `{"#edn": "…"}`; the notes
//! in [`super::json`] tell how it is read back. Tuples become arrays.

use std::io::{self, Write};

use super::draft::NO_F;
use super::edn_of_value;
use super::json::{EDN_KEY, canonical_integer};
use crate::history::History;
use crate::op::{Op, Process};
use crate::value::Value;

/// Written at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// Writes every record, one object a line.
pub fn write_jsonl(history: &History, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES + 1024);
    for op in history.ops() {
        write_jsonl_op(op, &mut buffer);
        buffer.push(b'\n');
        if buffer.len() >= BUFFER_BYTES {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)?;
    out.flush()
}

/// Appends one record as an object, without a line end.
pub fn write_jsonl_op(op: &Op, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"index\":");
    integer(op.index, out);
    out.extend_from_slice(b",\"time\":");
    integer(op.time_ns, out);
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(op.op_type.as_str().as_bytes());
    out.extend_from_slice(b"\",\"process\":");
    match op.process {
        Process::Client(number) => integer(number, out),
        Process::Named(name) => bare_name(name.as_str(), out),
    }
    out.extend_from_slice(b",\"f\":");
    if op.f == NO_F {
        out.extend_from_slice(b"null");
    } else {
        bare_name(op.f.as_str(), out);
    }
    out.extend_from_slice(b",\"value\":");
    value(&op.value, out);
    if !op.error.is_nil() {
        out.extend_from_slice(b",\"error\":");
        value(&op.error, out);
    }
    if let Some(node) = op.node {
        out.extend_from_slice(b",\"node\":");
        bare_name(node.as_str(), out);
    }
    for (name, extra) in op.extra.iter().flat_map(|extra| extra.iter()) {
        out.push(b',');
        string(name.as_str(), out);
        out.push(b':');
        value(extra, out);
    }
    out.push(b'}');
}

fn integer(n: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Text in quotes. Writing into memory cannot fail.
fn string(text: &str, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, text);
}

/// A name where only names stand, so that it needs no colon.
fn bare_name(name: &str, out: &mut Vec<u8>) {
    if name.starts_with(':') {
        edn(&Value::sym(name), out);
    } else {
        string(name, out);
    }
}

fn edn(of: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(EDN_KEY.as_bytes());
    out.extend_from_slice(b"\":");
    string(&edn_of_value(of), out);
    out.push(b'}');
}

fn value(of: &Value, out: &mut Vec<u8>) {
    match of {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(n) => integer(*n, out),
        Value::Float(x) if x.is_finite() => {
            let _ = serde_json::to_writer(out, x);
        }
        Value::BigInt(digits) => out.extend_from_slice(digits.as_bytes()),
        Value::Sym(sym) => string(&format!(":{sym}"), out),
        Value::Str(text) if !text.starts_with(':') => string(text, out),
        Value::List(items) | Value::Tuple(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                value(item, out);
            }
            out.push(b']');
        }
        Value::Map(pairs) if pairs.iter().all(|(key, _)| is_plain_key(key)) => {
            out.push(b'{');
            for (i, (key, mapped)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                match key {
                    Value::Int(n) => string(&n.to_string(), out),
                    key => string(key.as_text().unwrap_or_default(), out),
                }
                out.push(b':');
                value(mapped, out);
            }
            out.push(b'}');
        }
        // Sets, maps with other keys, decimals, ratios, tags, binaries, terms of the BEAM, NaN, odd strings.
        other => edn(other, out),
    }
}

/// A key that the reader takes back as what it is.
fn is_plain_key(key: &Value) -> bool {
    match key {
        Value::Int(_) => true,
        Value::Sym(sym) => {
            let name = sym.as_str();
            canonical_integer(name).is_none() && name != EDN_KEY
        }
        _ => false,
    }
}
