//! Templates bound to what copies share: counters of unique values and tables of Zipf's law.

use std::sync::Arc;

use rand::Rng;

use super::Compiler;
use crate::draw;
use crate::template::{Counter, Source, Template};

impl Compiler<'_> {
    /// The counter of that name. `sparse` numbers are mixed by keys from a stream of the branch where the
    /// counter is first met, so that wrappers around it do not matter.
    fn counter(&mut self, name: &str, sparse: bool) -> Counter {
        if let Some(counter) = self.counters.get(name) {
            return counter.clone();
        }
        let keys = if sparse {
            let number = self.sparse_count.entry(self.branch.clone()).or_insert(0);
            let purpose = format!("{}{}:sparse.{number}", self.env.purpose, self.branch);
            *number += 1;
            let mut stream = self.env.seed.stream(&purpose, 0);
            (stream.next_u64(), stream.next_u64())
        } else {
            (0, 0)
        };
        let counter = Counter::new(keys);
        self.counters.insert(name.to_owned(), counter.clone());
        counter
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
                Source::Unique(self.counter(counter, false), *from, *step)
            }
            Template::Sparse { counter, size } => {
                Source::Sparse(self.counter(counter, true), *size)
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
