//! The shapes in which histories write operations on registers, read as transactions.
//!
//! - a transaction: any function, a list of `[:r key value]` and `[:w key value]`;
//! - one read or write: `:read`, `:write` (or `:r`, `:w`, `:read-init` as in Jepsen's causal register) with
//!   `[key value]`, a tuple or vector of two, or with a plain value when there is a single register.
//!   Plain values and `[key value]` do not mix in a history, since one could be taken for the other.

use fuzz_dist_core::{Op, OpType, Sym, Value};

use crate::elle::txns::shown;

/// Why a history is not one of registers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRegisters {
    /// Neither a transaction nor a read or write.
    #[error(
        "record {index}: :{f} {value} is neither a transaction, [[:r key value] [:w key value] …], nor a \
         :read or :write of [key value] or of a plain value{hint}"
    )]
    UnknownShape {
        /// Position of the record.
        index: u64,
        /// Its function.
        f: String,
        /// Its value.
        value: String,
        /// What may be meant, or nothing.
        hint: &'static str,
    },
    /// Plain values next to `[key value]`.
    #[error(
        "record {index}: :{f} {value} has {what}, unlike the operations before; one history has either one \
         register with plain values or keys, [key value]"
    )]
    Mixed {
        /// Position of the record.
        index: u64,
        /// Its function.
        f: String,
        /// Its value.
        value: String,
        /// What it has.
        what: &'static str,
    },
    /// More than the compact form has numbers for.
    #[error("a history may have at most {max} reads and writes")]
    TooMany {
        /// How many.
        max: usize,
    },
}

/// Reads operations, and remembers whether those without transactions have keys.
#[derive(Debug)]
pub struct Shapes {
    names: [(Sym, bool); 5],
    keyed: Option<bool>,
}

impl Default for Shapes {
    fn default() -> Shapes {
        let names = [("r", false), ("w", true), ("read", false), ("write", true)];
        let [r, w, read, write] = names.map(|(name, is_write)| (Sym::new(name), is_write));
        Shapes { names: [r, w, read, write, (Sym::new("read-init"), false)], keyed: None }
    }
}

static NIL: Value = Value::Nil;

/// Takes an event: whether it writes, the key, the value.
pub type Sink<'a, 'h> = &'a mut dyn FnMut(bool, &'h Value, &'h Value);

impl Shapes {
    /// Hands the reads and writes of an operation to `sink`, in order. An operation that did not
    /// succeed may lack its value.
    pub fn read<'h>(
        &mut self,
        op: &'h Op,
        outcome: OpType,
        sink: Sink<'_, 'h>,
    ) -> Result<(), NotRegisters> {
        let items = match &op.value {
            Value::List(items) | Value::Tuple(items) => Some(items.as_slice()),
            _ => None,
        };
        if let Some(items) = items {
            let is_txn = items.iter().all(|item| self.mop(item).is_some());
            if is_txn && (!items.is_empty() || self.single(op.f).is_none()) {
                for (is_write, key, value) in items.iter().filter_map(|item| self.mop(item)) {
                    sink(is_write, key, value);
                }
                return Ok(());
            }
        }
        match self.single(op.f) {
            Some(is_write) => self.read_single(op, outcome, is_write, sink),
            None if outcome != OpType::Ok && op.value.is_nil() => Ok(()),
            None => Err(self.unknown(op, items)),
        }
    }

    fn read_single<'h>(
        &mut self,
        op: &'h Op,
        outcome: OpType,
        is_write: bool,
        sink: Sink<'_, 'h>,
    ) -> Result<(), NotRegisters> {
        // What did not succeed and has no value tells nothing, not even its shape.
        if outcome != OpType::Ok && (op.value.is_nil() || !is_write) {
            return Ok(());
        }
        let keyed = op.value.key_and_value();
        // A read of a register with plain values may return nil, which has no shape of its own.
        if *self.keyed.get_or_insert(keyed.is_some()) != keyed.is_some() {
            return Err(NotRegisters::Mixed {
                index: op.index,
                f: op.f.to_string(),
                value: shown(&op.value),
                what: if keyed.is_some() { "a key" } else { "no key" },
            });
        }
        let (key, value) = keyed.unwrap_or((&NIL, &op.value));
        sink(is_write, key, value);
        Ok(())
    }

    fn single(&self, f: Sym) -> Option<bool> {
        self.names.iter().find(|(name, _)| *name == f).map(|(_, is_write)| *is_write)
    }

    /// The read or write inside a transaction; a read of nothing may be written `[:r k]`.
    #[inline]
    fn mop<'h>(&self, item: &'h Value) -> Option<(bool, &'h Value, &'h Value)> {
        let (Value::List(parts) | Value::Tuple(parts)) = item else { return None };
        let is_write = match parts.first()? {
            Value::Sym(f) => self.names[..4].iter().find(|(name, _)| name == f)?.1,
            Value::Str(f) => matches!(f.as_str(), "w" | "write"),
            _ => return None,
        };
        if let Value::Str(f) = &parts[0]
            && !matches!(f.as_str(), "r" | "read" | "w" | "write")
        {
            return None;
        }
        match parts.as_slice() {
            [_, key, value] => Some((is_write, key, value)),
            [_, key] if !is_write => Some((false, key, &NIL)),
            _ => None,
        }
    }

    fn unknown(&self, op: &Op, items: Option<&[Value]>) -> NotRegisters {
        let has = |f: &str| {
            let mut mops = items.unwrap_or_default().iter().filter_map(Value::items);
            mops.any(|mop| mop.first().and_then(Value::as_text) == Some(f))
        };
        let hint = match op.f.as_str() {
            _ if has("append") => "; the checker for lists is list-append",
            "cas" => "; compare-and-set is checked by linearizable",
            "add" => "; for sets, give the option crdt=g-set",
            "increment" | "decrement" => "; for counters, give the option crdt=pn-counter",
            _ => "",
        };
        let (f, value) = (op.f.to_string(), shown(&op.value));
        NotRegisters::UnknownShape { index: op.index, f, value, hint }
    }
}
