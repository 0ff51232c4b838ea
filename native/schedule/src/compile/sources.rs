//! Templates bound to what copies share: counters of unique values and tables of Zipf's law.

use std::sync::Arc;

use super::Compiler;
use crate::draw;
use crate::template::{Counter, Source, Template};

impl Compiler<'_> {
    fn counter(&mut self, name: &str, size: Option<i64>) -> Counter {
        if let Some(counter) = self.counters.get(name) {
            return counter.clone();
        }
        let mix = size.map_or((1, 0), |size| self.permutation(name, size.max(1) as u64));
        let counter = Counter::new(mix);
        self.counters.insert(name.to_owned(), counter.clone());
        counter
    }

    /// Multiplier (coprime to `size`) and offset.
    fn permutation(&self, name: &str, size: u64) -> (u64, u64) {
        let mut stream = self.env.seed.stream(&format!("{}-sparse{name}", self.env.purpose), 0);
        let mut multiplier = 1 + draw::below(&mut stream, size);
        while greatest_common_divisor(multiplier, size) != 1 {
            multiplier = 1 + multiplier % size;
        }
        (multiplier, draw::below(&mut stream, size))
    }

    pub(super) fn source(&mut self, template: &Template) -> Source {
        let all = |this: &mut Self, items: &[Template]| -> Vec<Source> {
            items.iter().map(|item| this.source(item)).collect()
        };
        match template {
            Template::Fixed(value) => Source::Fixed(value.clone()),
            Template::Int(low, high) => Source::Int(*low, *high),
            Template::Float(low, high) => Source::Float(*low, *high),
            Template::Choose(items) => Source::Choose(all(self, items)),
            Template::Weighted(weights, items) => {
                Source::Weighted(weights.clone(), all(self, items))
            }
            Template::Zipf(count, skew) => {
                let table = self.tables.entry((*count, skew.to_bits()));
                Source::Zipf(
                    table.or_insert_with(|| Arc::new(draw::zipf_table(*count, *skew))).clone(),
                )
            }
            Template::Geometric(p) => Source::Geometric(*p),
            Template::Unique { counter, from, step } => {
                Source::Unique(self.counter(counter, None), *from, *step)
            }
            Template::Sparse { counter, size } => {
                Source::Sparse(self.counter(counter, Some(*size)), *size)
            }
            Template::List(items) => Source::List(all(self, items)),
            Template::Tuple(items) => Source::Tuple(all(self, items)),
            Template::Map(pairs) => Source::Map(
                pairs.iter().map(|(key, item)| (key.clone(), self.source(item))).collect(),
            ),
            Template::The(part) => Source::The(*part),
        }
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
