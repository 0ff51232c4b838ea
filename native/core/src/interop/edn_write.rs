//! Values and histories as EDN, as Jepsen prints them.
//!
//! `{:index 0, :time 12, :type :invoke, :process 0, :f :read, :value nil}`, then `:error`, `:node` and
//! whatever else the record has, one map a line. Atoms that are no keyword of Clojure (`'a b'`, `''`)
//! are written `#atom "a b"`, binaries `#bytes "…"` and terms of the BEAM `#etf "…"` in hexadecimal
//! digits; the reader of this crate takes them back. Tuples become vectors.

use std::io::{self, Write};

use super::draft::NO_F;
use crate::etf::names::{NameCache, with_names};
use crate::history::History;
use crate::op::{Op, Process};
use crate::sym::Sym;
use crate::value::Value;

/// Written at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// Writes every record, one map a line.
pub fn write_edn(history: &History, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES + 1024);
    for op in history.ops() {
        write_edn_op(op, &mut buffer);
        buffer.push(b'\n');
        if buffer.len() >= BUFFER_BYTES {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)?;
    out.flush()
}

/// Appends one record as a map, without a line end.
pub fn write_edn_op(op: &Op, out: &mut Vec<u8>) {
    with_names(|names| {
        out.extend_from_slice(b"{:index ");
        integer(op.index, out);
        out.extend_from_slice(b", :time ");
        integer(op.time_ns, out);
        out.extend_from_slice(b", :type :");
        out.extend_from_slice(op.op_type.as_str().as_bytes());
        out.extend_from_slice(b", :process ");
        match op.process {
            Process::Client(number) => integer(number, out),
            Process::Named(name) => keyword(name, names, out),
        }
        out.extend_from_slice(b", :f ");
        if names.text(op.f) == NO_F {
            out.extend_from_slice(b"nil");
        } else {
            keyword(op.f, names, out);
        }
        out.extend_from_slice(b", :value ");
        value(&op.value, names, out);
        if !op.error.is_nil() {
            out.extend_from_slice(b", :error ");
            value(&op.error, names, out);
        }
        if let Some(node) = op.node {
            out.extend_from_slice(b", :node ");
            string(names.text(node), out);
        }
        for (name, extra) in op.extra.iter().flat_map(|extra| extra.iter()) {
            out.extend_from_slice(b", ");
            keyword(*name, names, out);
            out.push(b' ');
            value(extra, names, out);
        }
        out.push(b'}');
    });
}

/// One value as text that [`super::parse_edn_value`] reads back (tuples as vectors).
pub fn edn_of_value(of: &Value) -> String {
    let mut out = Vec::new();
    with_names(|names| value(of, names, &mut out));
    // Only UTF-8 is ever appended.
    String::from_utf8_lossy(&out).into_owned()
}

fn integer(n: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

fn value(of: &Value, names: &mut NameCache, out: &mut Vec<u8>) {
    match of {
        Value::Nil => out.extend_from_slice(b"nil"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(n) => integer(*n, out),
        Value::BigInt(digits) => {
            out.extend_from_slice(digits.as_bytes());
            out.push(b'N');
        }
        // The notation of floats is that of `Value`'s own text, `##Inf` included.
        Value::Float(_) | Value::Decimal(_) | Value::Ratio(_) => {
            out.extend_from_slice(of.to_string().as_bytes())
        }
        Value::Sym(sym) => keyword(*sym, names, out),
        Value::Str(text) => string(text, out),
        Value::Bytes(bytes) => hexadecimal("bytes", bytes, out),
        Value::Etf(bytes) => hexadecimal("etf", bytes, out),
        Value::Tagged(tagged) => {
            out.push(b'#');
            out.extend_from_slice(names.text(tagged.0).as_bytes());
            out.push(b' ');
            value(&tagged.1, names, out);
        }
        Value::List(items) | Value::Tuple(items) => sequence(b"[", items, b']', names, out),
        Value::Set(items) => sequence(b"#{", items, b'}', names, out),
        Value::Map(pairs) => {
            out.push(b'{');
            for (i, (key, mapped)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                value(key, names, out);
                out.push(b' ');
                value(mapped, names, out);
            }
            out.push(b'}');
        }
    }
}

fn sequence(open: &[u8], items: &[Value], close: u8, names: &mut NameCache, out: &mut Vec<u8>) {
    out.extend_from_slice(open);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        value(item, names, out);
    }
    out.push(close);
}

fn keyword(sym: Sym, names: &mut NameCache, out: &mut Vec<u8>) {
    let name = names.text(sym);
    if is_keyword_name(name) {
        out.push(b':');
        out.extend_from_slice(name.as_bytes());
    } else {
        out.extend_from_slice(b"#atom ");
        string(name, out);
    }
}

/// Whether Clojure reads `:name` back as that keyword: no delimiters, slashes and colons only where a
/// name may have them.
fn is_keyword_name(name: &str) -> bool {
    let letters = name.chars().all(|c| {
        c.is_alphanumeric()
            || matches!(c, '.' | '*' | '+' | '!' | '-' | '_' | '?' | '$' | '%' | '&')
            || matches!(c, '=' | '<' | '>' | '\'' | '#' | '/' | ':' | '@' | '|' | '~')
    });
    letters
        && !name.is_empty()
        && !name.starts_with([':', '/'])
        && !name.ends_with([':', '/'])
        && !name.contains("::")
        && !name.contains("//")
        && !name.contains(":/")
}

fn hexadecimal(tag: &str, bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'#');
    out.extend_from_slice(tag.as_bytes());
    out.extend_from_slice(b" \"");
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
    out.push(b'"');
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\r' => out.extend_from_slice(b"\\r"),
            c if c < ' ' || c == '\u{7f}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
