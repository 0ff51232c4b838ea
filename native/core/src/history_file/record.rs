//! One record to bytes and back. Both sides keep the same state: the last time and the names so far.

use std::sync::Arc;

use crate::etf::names::NameCache;
use crate::etf::{self, EtfError};
use crate::op::{Op, OpType, Process};
use crate::sym::Sym;
use crate::value::Value;

use super::RECORD_LIMITS;

const TYPE_MASK: u8 = 0b11;
const NAMED_PROCESS: u8 = 1 << 2;
const HAS_VALUE: u8 = 1 << 3;
const HAS_ERROR: u8 = 1 << 4;
const HAS_NODE: u8 = 1 << 5;
const HAS_EXTRA: u8 = 1 << 6;
const RESERVED: u8 = 1 << 7;

/// Stands in the table of names for a symbol that the file does not have yet.
const UNNAMED: u32 = u32::MAX;

/// What the writer remembers from record to record.
#[derive(Debug, Default, Clone)]
pub(super) struct Encoder {
    last_time_ns: i64,
    name_count: u32,
    /// Name ids of the file by symbol id; symbols are dense, and those of a test are few.
    names: Vec<u32>,
}

impl Encoder {
    /// Appends one record.
    pub fn encode(&mut self, op: &Op, out: &mut Vec<u8>) {
        let mut flags = op.op_type as u8;
        let flag = |flags: &mut u8, bit: u8, on: bool| *flags |= if on { bit } else { 0 };
        flag(&mut flags, NAMED_PROCESS, matches!(op.process, Process::Named(_)));
        flag(&mut flags, HAS_VALUE, !op.value.is_nil());
        flag(&mut flags, HAS_ERROR, !op.error.is_nil());
        flag(&mut flags, HAS_NODE, op.node.is_some());
        flag(&mut flags, HAS_EXTRA, op.extra.is_some());
        out.push(flags);
        put_zigzag(op.time_ns.wrapping_sub(self.last_time_ns), out);
        self.last_time_ns = op.time_ns;
        match op.process {
            Process::Client(number) => put_zigzag(number, out),
            Process::Named(name) => self.put_name(name, out),
        }
        self.put_name(op.f, out);
        if !op.value.is_nil() {
            etf::encode_bare(&op.value, out);
        }
        if !op.error.is_nil() {
            etf::encode_bare(&op.error, out);
        }
        if let Some(node) = op.node {
            self.put_name(node, out);
        }
        if let Some(extra) = &op.extra {
            put_varint(extra.len() as u64, out);
            for (name, value) in extra.iter() {
                self.put_name(*name, out);
                etf::encode_bare(value, out);
            }
        }
    }

    fn put_name(&mut self, sym: Sym, out: &mut Vec<u8>) {
        let slot = sym.id() as usize;
        if slot >= self.names.len() {
            self.names.resize(slot + 1, UNNAMED);
        }
        let known = self.names[slot];
        if known != UNNAMED {
            return put_varint(u64::from(known), out);
        }
        self.names[slot] = self.name_count;
        put_varint(u64::from(self.name_count), out);
        self.name_count += 1;
        let text = sym.as_str();
        put_varint(text.len() as u64, out);
        out.extend_from_slice(text.as_bytes());
    }
}

/// Why a record cannot be read, although its frame is intact: written by something else.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("a record is cut off inside its frame")]
    Short,
    #[error("a number of a record does not fit into 64 bits")]
    Number,
    #[error("unknown flags {0:#010b} of a record")]
    Flags(u8),
    #[error("name {id} is used, but only {known} are known")]
    UnknownName { id: u64, known: usize },
    #[error("a name is not UTF-8")]
    NotUtf8,
    #[error("a value cannot be read: {0}")]
    Etf(#[from] EtfError),
}

impl From<crate::sym::SymTableFull> for RecordError {
    fn from(full: crate::sym::SymTableFull) -> RecordError {
        RecordError::Etf(EtfError::Names(full))
    }
}

/// What the reader remembers from record to record.
#[derive(Debug)]
pub(super) struct Decoder {
    last_time_ns: i64,
    next_index: u64,
    names: Vec<Sym>,
    cache: NameCache,
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder { last_time_ns: 0, next_index: 0, names: Vec::new(), cache: NameCache::new() }
    }

    /// Reads every record of a frame's payload into `ops`.
    pub fn decode_all(&mut self, payload: &[u8], ops: &mut Vec<Op>) -> Result<(), RecordError> {
        let mut input = Input { bytes: payload };
        while !input.bytes.is_empty() {
            let op = self.decode(&mut input)?;
            ops.push(op);
        }
        Ok(())
    }

    fn decode(&mut self, input: &mut Input<'_>) -> Result<Op, RecordError> {
        let flags = input.byte()?;
        if flags & RESERVED != 0 {
            return Err(RecordError::Flags(flags));
        }
        let op_type = match flags & TYPE_MASK {
            0 => OpType::Invoke,
            1 => OpType::Ok,
            2 => OpType::Fail,
            _ => OpType::Info,
        };
        let time_ns = self.last_time_ns.wrapping_add(input.zigzag()?);
        self.last_time_ns = time_ns;
        let process = if flags & NAMED_PROCESS == 0 {
            Process::Client(input.zigzag()?)
        } else {
            Process::Named(self.name(input)?)
        };
        let f = self.name(input)?;
        let value = if flags & HAS_VALUE == 0 { Value::Nil } else { input.value()? };
        let error = if flags & HAS_ERROR == 0 { Value::Nil } else { input.value()? };
        let node = if flags & HAS_NODE == 0 { None } else { Some(self.name(input)?) };
        let extra = if flags & HAS_EXTRA == 0 {
            None
        } else {
            let count = input.varint()?;
            let mut pairs = Vec::new();
            for _ in 0..count {
                pairs.push((self.name(input)?, input.value()?));
            }
            Some(Arc::new(pairs))
        };
        let index = self.next_index;
        self.next_index += 1;
        Ok(Op { index, time_ns, process, op_type, f, value, error, node, extra })
    }

    fn name(&mut self, input: &mut Input<'_>) -> Result<Sym, RecordError> {
        let id = input.varint()?;
        let known = self.names.len();
        if let Some(&sym) = usize::try_from(id).ok().and_then(|id| self.names.get(id)) {
            return Ok(sym);
        }
        if id != known as u64 {
            return Err(RecordError::UnknownName { id, known });
        }
        let length = input.varint()?;
        let bytes = input.take(usize::try_from(length).map_err(|_| RecordError::Short)?)?;
        let sym = self.cache.sym_of_bytes(bytes).ok_or(RecordError::NotUtf8)??;
        self.names.push(sym);
        Ok(sym)
    }
}

fn put_varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_zigzag(n: i64, out: &mut Vec<u8>) {
    put_varint(((n << 1) ^ (n >> 63)) as u64, out);
}

struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(RecordError::Short)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, RecordError> {
        let (&byte, rest) = self.bytes.split_first().ok_or(RecordError::Short)?;
        self.bytes = rest;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, RecordError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(RecordError::Number);
            }
            n |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(RecordError::Number)
    }

    fn zigzag(&mut self) -> Result<i64, RecordError> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    fn value(&mut self) -> Result<Value, RecordError> {
        let (value, used) = etf::decode_bare_prefix(self.bytes, &RECORD_LIMITS)?;
        self.take(used)?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_size_survive() {
        for n in [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN, 1 << 40] {
            let mut out = Vec::new();
            put_zigzag(n, &mut out);
            let mut input = Input { bytes: &out };
            assert_eq!(input.zigzag().unwrap(), n);
            assert!(input.bytes.is_empty());
        }
    }

    #[test]
    fn an_endless_number_is_refused() {
        assert!(matches!(Input { bytes: &[0xff; 20] }.varint(), Err(RecordError::Number)));
        assert!(matches!(Input { bytes: &[0xff; 3] }.varint(), Err(RecordError::Short)));
    }
}
