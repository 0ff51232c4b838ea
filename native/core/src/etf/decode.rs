//! External term format to values.

use std::io::Read;
use std::sync::{Arc, LazyLock};

use super::names::{NameCache, with_names};
use super::{BIG_BYTES_MAX, DECIMAL_STRUCT, EtfError, Limits, VERSION, tag};
use crate::number::Decimal;
use crate::sym::Sym;
use crate::value::Value;

/// No length field makes us reserve room for more elements than this before they are seen.
const RESERVED_MAX: usize = 4096;

/// One byte on the wire; all of them share their memory.
static EMPTY_LIST: LazyLock<Value> = LazyLock::new(|| Value::list(Vec::new()));

/// Reads one term that fills `bytes`, with its leading 131.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Value, EtfError> {
    if bytes.len() > limits.bytes_max {
        return Err(EtfError::TooLarge { bytes: bytes.len(), bytes_max: limits.bytes_max });
    }
    if let [VERSION, tag::COMPRESSED, packed @ ..] = bytes {
        return decode_compressed(packed, limits);
    }
    let (value, used) = decode_prefix(bytes, limits)?;
    no_more(bytes, used)?;
    Ok(value)
}

/// Reads the term with which `bytes` begin, and says how many bytes it takes. Compressed terms do not
/// say where they end, so they are refused here.
pub fn decode_prefix(bytes: &[u8], limits: &Limits) -> Result<(Value, usize), EtfError> {
    match bytes.first() {
        None => Err(EtfError::Truncated { offset: 0, missing: 1 }),
        Some(&VERSION) => {
            let mut decoder = Decoder { bytes, at: 1, limits };
            let value = with_names(|names| decoder.term(0, names))?;
            Ok((value, decoder.at))
        }
        Some(&found) => Err(EtfError::NotATerm { found }),
    }
}

/// The same for a term without its leading 131.
pub fn decode_bare_prefix(bytes: &[u8], limits: &Limits) -> Result<(Value, usize), EtfError> {
    let mut decoder = Decoder { bytes, at: 0, limits };
    let value = with_names(|names| decoder.term(0, names))?;
    Ok((value, decoder.at))
}

fn no_more(bytes: &[u8], used: usize) -> Result<(), EtfError> {
    match bytes.len() - used {
        0 => Ok(()),
        more => Err(EtfError::Trailing { offset: used, bytes: more }),
    }
}

fn decode_compressed(packed: &[u8], limits: &Limits) -> Result<Value, EtfError> {
    const OFFSET: usize = 2;
    let Some((size, mut packed)) = packed.split_first_chunk::<4>() else {
        return Err(EtfError::Truncated {
            offset: OFFSET + packed.len(),
            missing: 4 - packed.len(),
        });
    };
    let size = u32::from_be_bytes(*size) as usize;
    if size > limits.bytes_max {
        return Err(EtfError::TooLarge { bytes: size, bytes_max: limits.bytes_max });
    }
    let malformed = |what| EtfError::Malformed { offset: OFFSET + 4, what };
    let unpack = libflate::zlib::Decoder::new(&mut packed)
        .map_err(|_| malformed("a compressed term that is not in the format of zlib"))?;
    // One byte more than announced, so that a longer one shows; never reserved before it is there.
    let mut bytes = Vec::new();
    unpack
        .take(size as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|_| malformed("a compressed term that is damaged or cut off"))?;
    if bytes.len() != size {
        return Err(malformed("a compressed term of another size than it announces"));
    }
    let (value, used) = decode_bare_prefix(&bytes, limits)?;
    no_more(&bytes, used)?;
    Ok(value)
}

/// A position in bytes that are being read.
pub(super) struct Decoder<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) limits: &'a Limits,
}

impl<'a> Decoder<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], EtfError> {
        let left = self.bytes.len() - self.at;
        if count > left {
            return Err(EtfError::Truncated { offset: self.bytes.len(), missing: count - left });
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EtfError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn byte(&mut self) -> Result<u8, EtfError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(super) fn short(&mut self) -> Result<usize, EtfError> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    pub(super) fn long(&mut self) -> Result<usize, EtfError> {
        Ok(u32::from_be_bytes(self.array()?) as usize)
    }

    /// A number of elements, each of at least `element_bytes`, which must all be there.
    pub(super) fn count(&mut self, element_bytes: usize) -> Result<usize, EtfError> {
        let count = self.long()?;
        let least = count.saturating_mul(element_bytes);
        let left = self.bytes.len() - self.at;
        if least > left {
            return Err(EtfError::Truncated { offset: self.bytes.len(), missing: least - left });
        }
        Ok(count)
    }

    pub(super) fn enter(&self, depth: usize) -> Result<(), EtfError> {
        if depth < self.limits.depth_max {
            Ok(())
        } else {
            let depth_max = self.limits.depth_max;
            Err(EtfError::TooDeep { offset: self.at.saturating_sub(1), depth_max })
        }
    }

    fn term(&mut self, depth: usize, names: &mut NameCache) -> Result<Value, EtfError> {
        let start = self.at;
        match self.byte()? {
            tag::SMALL_INTEGER => Ok(Value::Int(i64::from(self.byte()?))),
            tag::INTEGER => Ok(Value::Int(i64::from(i32::from_be_bytes(self.array()?)))),
            tag::SMALL_ATOM_UTF8 => {
                let length = usize::from(self.byte()?);
                self.atom(length, names)
            }
            tag::ATOM_UTF8 => {
                let length = self.short()?;
                self.atom(length, names)
            }
            tag::SMALL_ATOM => {
                let length = usize::from(self.byte()?);
                self.latin1_atom(length, names)
            }
            tag::ATOM => {
                let length = self.short()?;
                self.latin1_atom(length, names)
            }
            tag::SMALL_TUPLE => {
                let arity = usize::from(self.byte()?);
                Ok(Value::tuple(self.terms(arity, depth, names)?))
            }
            tag::LARGE_TUPLE => {
                let arity = self.count(1)?;
                Ok(Value::tuple(self.terms(arity, depth, names)?))
            }
            tag::NIL => Ok(EMPTY_LIST.clone()),
            tag::STRING => {
                let length = self.short()?;
                let bytes = self.take(length)?;
                Ok(Value::list(bytes.iter().map(|&b| Value::Int(i64::from(b))).collect::<Vec<_>>()))
            }
            tag::LIST => self.list(start, depth, names),
            tag::BINARY => {
                let length = self.long()?;
                Ok(text_or_bytes(self.take(length)?))
            }
            tag::MAP => self.map(depth, names),
            tag::NEW_FLOAT => Ok(Value::Float(f64::from_bits(u64::from_be_bytes(self.array()?)))),
            tag::FLOAT => self.text_float(start),
            tag::SMALL_BIG => {
                let length = usize::from(self.byte()?);
                self.big(start, length)
            }
            tag::LARGE_BIG => {
                let length = self.long()?;
                self.big(start, length)
            }
            _ => {
                self.at = start;
                self.skip(depth)?;
                Ok(self.verbatim(start))
            }
        }
    }

    /// The bytes since `start` as a term of their own.
    fn verbatim(&self, start: usize) -> Value {
        let mut bytes = Vec::with_capacity(1 + self.at - start);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.bytes[start..self.at]);
        Value::Etf(Arc::new(bytes))
    }

    fn terms(
        &mut self,
        count: usize,
        depth: usize,
        names: &mut NameCache,
    ) -> Result<Vec<Value>, EtfError> {
        self.enter(depth)?;
        let mut items = Vec::with_capacity(count.min(RESERVED_MAX));
        for _ in 0..count {
            items.push(self.term(depth + 1, names)?);
        }
        Ok(items)
    }

    fn atom(&mut self, length: usize, names: &mut NameCache) -> Result<Value, EtfError> {
        let offset = self.at;
        match self.take(length)? {
            b"nil" => Ok(Value::Nil),
            b"true" => Ok(Value::Bool(true)),
            b"false" => Ok(Value::Bool(false)),
            name => match names.sym_of_bytes(name) {
                Some(sym) => Ok(Value::Sym(sym?)),
                None => Err(EtfError::Malformed { offset, what: "an atom that is not UTF-8" }),
            },
        }
    }

    /// The old encoding of atoms, in which each byte is one character.
    fn latin1_atom(&mut self, length: usize, names: &mut NameCache) -> Result<Value, EtfError> {
        let bytes = self.take(length)?;
        if bytes.is_ascii() {
            self.at -= length;
            return self.atom(length, names);
        }
        let name: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        Ok(Value::Sym(names.sym(&name)?))
    }

    fn list(
        &mut self,
        start: usize,
        depth: usize,
        names: &mut NameCache,
    ) -> Result<Value, EtfError> {
        let count = self.count(1)?;
        let mut items = self.terms(count, depth, names)?;
        if self.bytes.get(self.at) == Some(&tag::NIL) {
            self.at += 1;
            return Ok(Value::list(items));
        }
        // No BEAM writes a list whose tail is a list of its own, but other encoders may.
        match self.term(depth + 1, names)? {
            tail if count == 0 => Ok(tail),
            Value::List(tail) => {
                items.extend(tail.iter().cloned());
                Ok(Value::list(items))
            }
            _ => Ok(self.verbatim(start)),
        }
    }

    fn map(&mut self, depth: usize, names: &mut NameCache) -> Result<Value, EtfError> {
        let count = self.count(2)?;
        self.enter(depth)?;
        let mut pairs: Vec<(Value, Value)> = Vec::with_capacity(count.min(RESERVED_MAX));
        let mut sorted = true;
        for _ in 0..count {
            let key = self.term(depth + 1, names)?;
            let value = self.term(depth + 1, names)?;
            sorted &= pairs.last().is_none_or(|(last, _)| *last < key);
            pairs.push((key, value));
        }
        if let Some(decimal) = decimal(&pairs) {
            return Ok(Value::Decimal(Arc::new(decimal)));
        }
        Ok(if sorted { Value::Map(Arc::new(pairs)) } else { Value::map(pairs) })
    }

    fn text_float(&mut self, start: usize) -> Result<Value, EtfError> {
        let bytes = self.take(31)?;
        let digits = bytes.split(|&byte| byte == 0).next().unwrap_or(bytes);
        std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse::<f64>().ok())
            .map(Value::Float)
            .ok_or(EtfError::Malformed { offset: start, what: "a float that is not a number" })
    }

    fn big(&mut self, start: usize, length: usize) -> Result<Value, EtfError> {
        let negative = match self.byte()? {
            0 => false,
            1 => true,
            _ => {
                return Err(EtfError::Malformed {
                    offset: self.at - 1,
                    what: "the sign of an integer is 0 or 1",
                });
            }
        };
        let bytes = self.take(length)?;
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let magnitude = &bytes[..used];
        if used <= 8 {
            let mut word = [0u8; 8];
            word[..used].copy_from_slice(magnitude);
            let wide = i128::from(u64::from_le_bytes(word)) * if negative { -1 } else { 1 };
            if let Ok(n) = i64::try_from(wide) {
                return Ok(Value::Int(n));
            }
        } else if used > BIG_BYTES_MAX {
            return Ok(self.verbatim(start));
        }
        let sign = if negative { num_bigint::Sign::Minus } else { num_bigint::Sign::Plus };
        let number = num_bigint::BigInt::from_bytes_le(sign, magnitude);
        Ok(Value::BigInt(Arc::new(number.to_string())))
    }
}

/// The number that a map is, if it is Elixir's `Decimal` struct: a number like any other. Its NaN, its
/// infinities and its negative zero stay what they are.
fn decimal(pairs: &[(Value, Value)]) -> Option<Decimal> {
    static NAMES: LazyLock<[Sym; 5]> =
        LazyLock::new(|| ["__struct__", "coef", "exp", "sign", DECIMAL_STRUCT].map(Sym::new));
    let [(_, _), (_, _), (_, _), (_, _)] = pairs else { return None };
    let value = |key: usize| {
        pairs.iter().find(|(k, _)| k.as_sym() == Some(NAMES[key])).map(|(_, value)| value)
    };
    if value(0)?.as_sym() != Some(NAMES[4]) {
        return None;
    }
    let coefficient = match value(1)? {
        Value::Int(n @ 0..) => n.to_string(),
        Value::BigInt(digits) => digits.to_string(),
        _ => return None,
    };
    let negative = match value(3)?.as_int()? {
        1 => false,
        -1 if coefficient != "0" => true,
        _ => return None,
    };
    Decimal::new(negative, &coefficient, value(2)?.as_int()?)
}

fn text_or_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::Str(Arc::new(text.to_owned())),
        Err(_) => Value::Bytes(Arc::new(bytes.to_vec())),
    }
}
