//! Numbers for values, dense from 0 in order of first sight, so that checkers count and compare words
//! instead of terms.

use std::collections::HashMap;

use fuzz_dist_core::Value;
use rustc_hash::FxBuildHasher;

use crate::budget;

/// Integers below this are looked up in a table, which costs four bytes each up to the largest seen.
const SMALL_MAX: i64 = 1 << 22;

/// A table of values and their numbers.
#[derive(Debug, Default)]
pub(crate) struct Numbering {
    values: Vec<Value>,
    small: Vec<u32>,
    other: HashMap<Value, u32, FxBuildHasher>,
}

impl Numbering {
    /// The number of a value, a new one if it was not seen before.
    #[inline]
    pub fn number(&mut self, value: &Value) -> u32 {
        budget::poll();
        let next = self.values.len() as u32;
        if let Value::Int(n @ 0..SMALL_MAX) = *value {
            let n = n as usize;
            if n >= self.small.len() {
                self.small.resize((n + 1).next_power_of_two(), u32::MAX);
            }
            if self.small[n] == u32::MAX {
                self.small[n] = next;
                self.values.push(value.clone());
            }
            return self.small[n];
        }
        if let Some(number) = self.other.get(value) {
            return *number;
        }
        self.other.insert(value.clone(), next);
        self.values.push(value.clone());
        next
    }

    /// The number of a value that was seen before.
    #[inline]
    pub fn get(&self, value: &Value) -> Option<u32> {
        match *value {
            Value::Int(n @ 0..SMALL_MAX) => {
                self.small.get(n as usize).copied().filter(|number| *number != u32::MAX)
            }
            _ => self.other.get(value).copied(),
        }
    }

    /// The value of a number that was given out.
    pub fn value(&self, number: u32) -> &Value {
        &self.values[number as usize]
    }

    /// The values by number.
    pub fn into_values(self) -> Vec<Value> {
        self.values
    }
}
