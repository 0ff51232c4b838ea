//! The elements of a list, tuple or set: one word, one shared allocation.
//!
//! A history of a million transactions holds several million short lists. An `Arc<Vec<Value>>` has two
//! allocations for each, and two cache lines to look at before the first element; here count, length and
//! elements lie together. Elements never change.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use triomphe::ThinArc;

use crate::value::Value;

/// Elements, shared by everything that was cloned from them.
#[derive(Clone)]
pub struct Items(ThinArc<(), Value>);

impl Items {
    /// The elements.
    pub fn as_slice(&self) -> &[Value] {
        &self.0.slice
    }

    /// Takes the elements from `start` on off a stack.
    pub fn drain(stack: &mut Vec<Value>, start: usize) -> Items {
        Items(ThinArc::from_header_and_iter((), stack.drain(start..)))
    }

    /// Where they lie: the same for clones, and for nothing else that lives.
    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }
}

impl From<Vec<Value>> for Items {
    fn from(items: Vec<Value>) -> Items {
        Items(ThinArc::from_header_and_iter((), items.into_iter()))
    }
}

impl FromIterator<Value> for Items {
    fn from_iter<I: IntoIterator<Item = Value>>(items: I) -> Items {
        items.into_iter().collect::<Vec<Value>>().into()
    }
}

impl Deref for Items {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        self.as_slice()
    }
}

impl PartialEq for Items {
    fn eq(&self, other: &Items) -> bool {
        self.address() == other.address() || self.as_slice() == other.as_slice()
    }
}

impl Eq for Items {}

impl PartialOrd for Items {
    fn partial_cmp(&self, other: &Items) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Items {
    fn cmp(&self, other: &Items) -> Ordering {
        match self.address() == other.address() {
            true => Ordering::Equal,
            false => self.as_slice().cmp(other.as_slice()),
        }
    }
}

impl Hash for Items {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl std::fmt::Debug for Items {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_and_equal_lists_are_equal() {
        let mut stack = vec![Value::Nil, Value::Int(1), Value::str("a")];
        let items = Items::drain(&mut stack, 1);
        assert_eq!(stack, [Value::Nil]);
        assert_eq!(items.as_slice(), [Value::Int(1), Value::str("a")]);
        let same = Items::from(vec![Value::Int(1), Value::str("a")]);
        assert_ne!(items.address(), same.address());
        assert_eq!(items, same);
        assert_eq!(items.address(), items.clone().address());
        assert!(Items::from(vec![Value::Int(0)]) < same);
        assert!(Items::from(Vec::new()).is_empty());
    }

    #[test]
    fn one_word() {
        assert_eq!(size_of::<Items>(), size_of::<usize>());
    }
}
