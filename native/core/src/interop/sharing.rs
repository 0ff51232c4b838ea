//! Equal lists kept once: what keeps a history of long reads small.
//!
//! A transaction is written twice, by its invocation and its completion, and a list is read many times
//! between two appends. The lists that were built last stay in a direct-mapped table, by a hash of
//! their elements; a list that is there already is taken from it. The table is bounded, so sharing is not
//! complete, and looking costs one pass over the elements at most.

use std::hash::Hasher;
use std::sync::Arc;

use rustc_hash::FxHasher;

use crate::items::Items;
use crate::value::Value;

/// As many as lie in a core's own cache together with their lists.
const SLOT_COUNT: usize = 1 << 12;
/// Longer texts are rarely equal, and comparing them costs more than keeping them.
const TEXT_BYTES_MAX: usize = 128;

/// A list that was built, and the whole hash of its elements: another list is nearly always told from it
/// without looking at it.
#[derive(Debug, Clone, Default)]
struct Slot {
    hash: u32,
    list: Option<Items>,
}

/// Lists that were built last. Without a table nothing is shared.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    slots: Vec<Slot>,
    texts: Vec<Option<Arc<String>>>,
}

impl Sharing {
    /// With a table.
    pub fn new() -> Sharing {
        Sharing { slots: vec![Slot::default(); SLOT_COUNT], texts: vec![None; SLOT_COUNT] }
    }

    /// The list of the elements from `start` on, which are taken from the stack. It has no room to grow.
    pub fn list(&mut self, stack: &mut Vec<Value>, start: usize) -> Value {
        let items = &stack[start..];
        let (slot, hash) = match (self.slots.is_empty(), hash(items)) {
            (false, Some(hash)) => (&mut self.slots[hash as usize % SLOT_COUNT], hash),
            _ => return Value::List(Items::drain(stack, start)),
        };
        if let Some(known) = &slot.list
            && slot.hash == hash
            && known.len() == items.len()
            && known.iter().zip(items).all(|(a, b)| is_same(a, b))
        {
            let known = known.clone();
            stack.truncate(start);
            return Value::List(known);
        }
        let list = Items::drain(stack, start);
        *slot = Slot { hash, list: Some(list.clone()) };
        Value::List(list)
    }
}

impl Sharing {
    /// The value of a text.
    pub fn text(&mut self, text: &str) -> Value {
        if self.texts.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Value::str(text);
        }
        let mut hasher = FxHasher::default();
        hasher.write(text.as_bytes());
        let slot = &mut self.texts[(hasher.finish() >> 48) as usize % SLOT_COUNT];
        if let Some(known) = slot
            && known.as_str() == text
        {
            return Value::Str(known.clone());
        }
        let new = Arc::new(text.to_owned());
        *slot = Some(new.clone());
        Value::Str(new)
    }
}

/// A hash of elements that can be compared at once; `None` if there is another one.
fn hash(items: &[Value]) -> Option<u32> {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = items.len() as u64;
    for item in items {
        let (kind, word) = match item {
            Value::Nil => (0, 0),
            Value::Bool(b) => (1, u64::from(*b)),
            Value::Int(n) => (2, *n as u64),
            Value::Sym(sym) => (3, u64::from(sym.id())),
            // Lists and texts inside are shared themselves.
            Value::List(list) => (4, list.address() as u64),
            Value::Str(text) => (5, Arc::as_ptr(text) as u64),
            Value::Float(x) => (6, x.to_bits()),
            _ => return None,
        };
        hash = (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR).wrapping_add(kind);
    }
    Some(((hash ^ (hash >> 32)).wrapping_mul(FACTOR) >> 32) as u32)
}

/// Whether two elements are the same without looking into them.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Nil, Value::Nil) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Sym(a), Value::Sym(b)) => a == b,
        (Value::List(a), Value::List(b)) => a.address() == b.address(),
        (Value::Str(a), Value::Str(b)) => Arc::ptr_eq(a, b),
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(sharing: &mut Sharing, numbers: &[i64]) -> Value {
        let mut stack = vec![Value::Nil];
        stack.extend(numbers.iter().map(|&n| Value::Int(n)));
        let list = sharing.list(&mut stack, 1);
        assert_eq!(stack, [Value::Nil]);
        list
    }

    fn pointer(value: &Value) -> usize {
        match value {
            Value::List(items) => items.address(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn equal_lists_are_one_and_others_stay_apart() {
        let mut sharing = Sharing::new();
        let first = ints(&mut sharing, &[1, 2, 3]);
        let again = ints(&mut sharing, &[1, 2, 3]);
        assert_eq!(pointer(&first), pointer(&again));
        let other = ints(&mut sharing, &[1, 2, 4]);
        assert_ne!(first, other);
        let outer = |sharing: &mut Sharing, inner: &Value| {
            sharing.list(&mut vec![Value::sym("r"), inner.clone()], 0)
        };
        let (a, b) = (outer(&mut sharing, &first), outer(&mut sharing, &again));
        assert_eq!(pointer(&a), pointer(&b));
        assert_ne!(a, outer(&mut sharing, &other));
        // 1 and true have the same word.
        let truth = sharing.list(&mut vec![Value::Bool(true)], 0);
        assert_ne!(truth, ints(&mut sharing, &[1]));
    }

    #[test]
    fn what_is_not_compared_at_once_is_kept_as_it_is() {
        let mut sharing = Sharing::new();
        let mut list = || sharing.list(&mut vec![Value::str("a"), Value::Float(0.5)], 0);
        let (a, b) = (list(), list());
        assert_eq!(a, b);
        assert_ne!(pointer(&a), pointer(&b));
    }

    #[test]
    fn lists_of_one_slot_take_turns() {
        let mut sharing = Sharing::new();
        for round in 0..3 {
            for n in 0..100_000 {
                let list = ints(&mut sharing, &[n, round % 2]);
                assert_eq!(list, Value::list(vec![Value::Int(n), Value::Int(round % 2)]));
            }
        }
    }
}
