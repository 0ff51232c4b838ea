//! Erlang's external term format: what agents speak and what the history file holds.
//!
//! A direct codec between bytes and [`Value`], without a tree of terms in between: this is on the path
//! of every operation. Small and large integers, floats, atoms, binaries, lists, tuples and maps become
//! values; pids, ports, references, funs, bit strings and improper lists are kept verbatim as
//! [`Value::Etf`] and written back byte for byte, so that every term of the BEAM survives the trip.
//!
//! Where the two worlds differ:
//! - a binary that is valid UTF-8 is [`Value::Str`], any other [`Value::Bytes`];
//! - the atoms `nil`, `true` and `false` are [`Value::Nil`] and [`Value::Bool`];
//! - Erlang has no set in its term format: a [`Value::Set`] is written as a sorted list and read as one;
//! - a map that names a key twice, which the BEAM never writes, keeps the last value;
//! - an integer of more than [`BIG_BYTES_MAX`] bytes stays [`Value::Etf`], since turning it into decimal
//!   digits takes quadratic time;
//! - the struct `Decimal` of Elixir is [`Value::Decimal`], both ways; the ratios and tags of EDN, which
//!   the BEAM does not have, are written as `{ratio, 1, 3}` and `{tagged, inst, …}`;
//! - NaN and the infinities have no term; they are written as the bits they are, which this decoder reads
//!   and the BEAM refuses.
//!
//! Bytes come from a network, so size and depth are limited before anything is allocated or recursed
//! into: a length field is believed only as far as bytes follow it. A compressed term is unpacked only
//! within the limits. Why not the `eetf` crate: it recurses and allocates as the input says, panics on
//! several inputs, and writes the list `[-1]` as `[255]`; the tests compare with it where it is right.
//!
//! The format: <https://www.erlang.org/doc/apps/erts/erl_ext_dist.html>.

mod decode;
mod encode;
pub(crate) mod names;
mod opaque;

pub use decode::{decode, decode_bare_prefix, decode_prefix};
pub use encode::{encode, encode_bare};

use crate::sym::SymTableFull;

/// The version byte that begins every term.
pub(crate) const VERSION: u8 = 131;

/// The name of the struct in which Elixir's library of that name keeps decimal numbers.
pub(crate) const DECIMAL_STRUCT: &str = "Elixir.Decimal";

/// Integers of more bytes than this are not turned into digits.
pub const BIG_BYTES_MAX: usize = 1024;

/// What a term from outside may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one term, also after unpacking a compressed one.
    pub bytes_max: usize,
    /// How deep lists, tuples and maps may nest.
    pub depth_max: usize,
}

impl Default for Limits {
    /// 64 MiB and a depth of 128: far above any operation of a test, and safe on a 2 MiB stack.
    fn default() -> Limits {
        Limits { bytes_max: 64 << 20, depth_max: 128 }
    }
}

/// Why bytes are not a term. Offsets count from the first byte given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtfError {
    /// The first byte is not 131.
    #[error("a term begins with the byte 131, this begins with {found}")]
    NotATerm {
        /// The first byte.
        found: u8,
    },
    /// The bytes end in the middle of a term.
    #[error("the term is cut off: {missing} more bytes were announced at byte {offset}")]
    Truncated {
        /// Where the missing bytes would begin.
        offset: usize,
        /// At least how many are missing.
        missing: usize,
    },
    /// A tag that no term begins with, or that only has a meaning inside distribution messages.
    #[error("unknown tag {tag} at byte {offset}")]
    UnknownTag {
        /// The tag.
        tag: u8,
        /// Where it stands.
        offset: usize,
    },
    /// Too many bytes.
    #[error("the term has {bytes} bytes, more than the {bytes_max} allowed")]
    TooLarge {
        /// How many it has or announces.
        bytes: usize,
        /// How many it may have.
        bytes_max: usize,
    },
    /// Lists, tuples or maps nest too deep.
    #[error("the term nests deeper than the {depth_max} levels allowed, at byte {offset}")]
    TooDeep {
        /// Where the first level too many begins.
        offset: usize,
        /// How many there may be.
        depth_max: usize,
    },
    /// Bytes that contradict the format.
    #[error("malformed term at byte {offset}: {what}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A complete term, and then more.
    #[error("{bytes} bytes follow the term, which ends at byte {offset}")]
    Trailing {
        /// Where the term ends.
        offset: usize,
        /// How many bytes follow.
        bytes: usize,
    },
    /// Too many different atoms.
    #[error(transparent)]
    Names(#[from] SymTableFull),
}

/// Tags of the format.
pub(crate) mod tag {
    pub const NEW_FLOAT: u8 = 70;
    pub const BIT_BINARY: u8 = 77;
    pub const COMPRESSED: u8 = 80;
    pub const NEW_PID: u8 = 88;
    pub const NEW_PORT: u8 = 89;
    pub const NEWER_REFERENCE: u8 = 90;
    pub const SMALL_INTEGER: u8 = 97;
    pub const INTEGER: u8 = 98;
    pub const FLOAT: u8 = 99;
    pub const ATOM: u8 = 100;
    pub const REFERENCE: u8 = 101;
    pub const PORT: u8 = 102;
    pub const PID: u8 = 103;
    pub const SMALL_TUPLE: u8 = 104;
    pub const LARGE_TUPLE: u8 = 105;
    pub const NIL: u8 = 106;
    pub const STRING: u8 = 107;
    pub const LIST: u8 = 108;
    pub const BINARY: u8 = 109;
    pub const SMALL_BIG: u8 = 110;
    pub const LARGE_BIG: u8 = 111;
    pub const NEW_FUN: u8 = 112;
    pub const EXPORT: u8 = 113;
    pub const NEW_REFERENCE: u8 = 114;
    pub const SMALL_ATOM: u8 = 115;
    pub const MAP: u8 = 116;
    pub const FUN: u8 = 117;
    pub const ATOM_UTF8: u8 = 118;
    pub const SMALL_ATOM_UTF8: u8 = 119;
    pub const V4_PORT: u8 = 120;
}
