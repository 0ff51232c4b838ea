//! Finds where a term ends without understanding it: for terms that are kept verbatim.
//!
//! Everything that such a term announces is checked to be there, and nesting counts, so that a verbatim
//! term is as safe to pass on as any other.

use super::decode::Decoder;
use super::{EtfError, tag};

impl Decoder<'_> {
    /// Moves past one term of any kind.
    pub(super) fn skip(&mut self, depth: usize) -> Result<(), EtfError> {
        let start = self.at;
        let found = self.byte()?;
        match found {
            tag::SMALL_INTEGER => self.pass(1),
            tag::INTEGER => self.pass(4),
            tag::NEW_FLOAT => self.pass(8),
            tag::FLOAT => self.pass(31),
            tag::NIL => Ok(()),
            tag::SMALL_ATOM | tag::SMALL_ATOM_UTF8 => {
                let length = usize::from(self.byte()?);
                self.pass(length)
            }
            tag::ATOM | tag::ATOM_UTF8 | tag::STRING => {
                let length = self.short()?;
                self.pass(length)
            }
            tag::BINARY => {
                let length = self.long()?;
                self.pass(length)
            }
            tag::BIT_BINARY => self.skip_bits(),
            tag::SMALL_BIG => {
                let length = usize::from(self.byte()?);
                self.pass(1 + length)
            }
            tag::LARGE_BIG => {
                let length = self.long()?;
                self.pass(length.saturating_add(1))
            }
            tag::SMALL_TUPLE => {
                let arity = usize::from(self.byte()?);
                self.skip_all(arity, depth)
            }
            tag::LARGE_TUPLE => {
                let arity = self.count(1)?;
                self.skip_all(arity, depth)
            }
            tag::LIST => {
                let count = self.count(1)?;
                self.skip_all(count + 1, depth)
            }
            tag::MAP => {
                let count = self.count(2)?;
                self.skip_all(count * 2, depth)
            }
            // Node, then fixed fields.
            tag::PID => self.skip_named(9),
            tag::NEW_PID => self.skip_named(12),
            tag::PORT | tag::REFERENCE => self.skip_named(5),
            tag::NEW_PORT => self.skip_named(8),
            tag::V4_PORT => self.skip_named(12),
            tag::NEW_REFERENCE => self.skip_reference(1),
            tag::NEWER_REFERENCE => self.skip_reference(4),
            tag::EXPORT => {
                self.skip_atom()?;
                self.skip_atom()?;
                self.skip_integer()
            }
            tag::NEW_FUN => self.skip_fun(start, depth),
            tag::FUN => {
                let free_count = self.count(1)?;
                // Creator, module, index, uniq, then the free variables.
                self.skip_all(free_count + 4, depth)
            }
            tag => Err(EtfError::UnknownTag { tag, offset: start }),
        }
    }

    fn pass(&mut self, count: usize) -> Result<(), EtfError> {
        self.take(count).map(|_| ())
    }

    fn skip_all(&mut self, count: usize, depth: usize) -> Result<(), EtfError> {
        self.enter(depth)?;
        for _ in 0..count {
            self.skip(depth + 1)?;
        }
        Ok(())
    }

    fn skip_bits(&mut self) -> Result<(), EtfError> {
        let length = self.long()?;
        let bits = self.byte()?;
        if !(1..=8).contains(&bits) {
            let offset = self.at - 1;
            return Err(EtfError::Malformed {
                offset,
                what: "the last byte of a bit string has 1 to 8 bits",
            });
        }
        self.pass(length)
    }

    fn skip_atom(&mut self) -> Result<(), EtfError> {
        match self.bytes.get(self.at) {
            Some(&(tag::ATOM | tag::SMALL_ATOM | tag::ATOM_UTF8 | tag::SMALL_ATOM_UTF8)) => {
                self.skip(0)
            }
            Some(_) => {
                Err(EtfError::Malformed { offset: self.at, what: "an atom should stand here" })
            }
            None => Err(EtfError::Truncated { offset: self.at, missing: 1 }),
        }
    }

    fn skip_integer(&mut self) -> Result<(), EtfError> {
        match self.bytes.get(self.at) {
            Some(&(tag::SMALL_INTEGER | tag::INTEGER)) => self.skip(0),
            Some(_) => {
                Err(EtfError::Malformed { offset: self.at, what: "an integer should stand here" })
            }
            None => Err(EtfError::Truncated { offset: self.at, missing: 1 }),
        }
    }

    fn skip_named(&mut self, fixed_bytes: usize) -> Result<(), EtfError> {
        self.skip_atom()?;
        self.pass(fixed_bytes)
    }

    fn skip_reference(&mut self, creation_bytes: usize) -> Result<(), EtfError> {
        let words = self.short()?;
        self.skip_atom()?;
        self.pass(creation_bytes + 4 * words)
    }

    /// A fun says how long it is; the walk through its parts must agree.
    fn skip_fun(&mut self, start: usize, depth: usize) -> Result<(), EtfError> {
        let size_at = self.at;
        let size = self.long()?;
        // Arity, unique hash, index.
        self.pass(1 + 16 + 4)?;
        let free_count = self.count(1)?;
        self.skip_atom()?;
        self.skip_integer()?;
        self.skip_integer()?;
        self.skip_all(free_count + 1, depth)?;
        if self.at - size_at == size {
            Ok(())
        } else {
            Err(EtfError::Malformed {
                offset: start,
                what: "a fun of another size than it announces",
            })
        }
    }
}
