//! Templates of values: data with draws in it.
//!
//! A [`Template`] is parsed once from JSON; binding it to a seed gives a [`Source`] that draws values.
//! Counters of unique values belong to the place in the expression (or to a name) and are shared by all
//! copies of it, so that `unique` means unique in the whole run. See `doc/generators.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::{Sym, Value};

use crate::draw;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// Always the same.
    Fixed(Value),
    /// Uniform, both ends included.
    Int(i64, i64),
    /// Uniform from the first (included) to the second.
    Float(f64, f64),
    /// One of these, uniformly.
    Choose(Vec<Template>),
    /// One of these, by cumulative weight.
    Weighted(Vec<u64>, Vec<Template>),
    /// Ranks from 0 by Zipf's law: how many, skew.
    Zipf(usize, f64),
    /// Failures before a success of this probability.
    Geometric(f64),
    /// `from`, `from + step` …, each once.
    Unique {
        /// The counter's name.
        counter: String,
        /// The first value.
        from: i64,
        /// From one to the next.
        step: i64,
    },
    /// Each integer of `(size, 2 size]` once in an order that looks random, then `(2 size, 3 size]` ….
    Sparse {
        /// The counter's name.
        counter: String,
        /// How many values a band has.
        size: i64,
    },
    /// A list.
    List(Vec<Template>),
    /// A tuple.
    Tuple(Vec<Template>),
    /// A map.
    Map(Vec<(Value, Template)>),
    /// Something of the operation itself.
    The(Part),
}

/// Something of the operation that a template can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The thread's number.
    Thread,
    /// The process' number.
    Process,
    /// The node that the thread talks to.
    Node,
    /// The value so far (in `map`).
    Value,
    /// The function so far, as a name.
    F,
}

/// What a draw may look at.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The thread.
    pub thread: u32,
    /// Its process.
    pub process: i64,
    /// The nodes; thread t talks to node t modulo their number.
    pub nodes: &'a [Sym],
    /// The function.
    pub f: Sym,
    /// The value so far.
    pub value: Option<&'a Value>,
}

/// A counter shared by copies. Generators are asked by one thread at a time, so that its order is fixed;
/// it is atomic only because copies may move between threads together.
#[derive(Debug, Clone)]
pub struct Counter {
    next: Arc<AtomicU64>,
    /// Keys of the permutation of `sparse`, drawn once.
    keys: (u64, u64),
}

impl Counter {
    /// Starts at 0.
    pub fn new(keys: (u64, u64)) -> Counter {
        Counter { next: Arc::new(AtomicU64::new(0)), keys }
    }

    fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// A template bound to its counters and tables.
#[derive(Debug, Clone)]
pub enum Source {
    /// Always the same.
    Fixed(Value),
    /// Uniform, both ends included.
    Int(i64, i64),
    /// Uniform, the upper end excluded.
    Float(f64, f64),
    /// One of these.
    Choose(Vec<Source>),
    /// One of these, by cumulative weight.
    Weighted(Vec<u64>, Vec<Source>),
    /// Ranks by the table.
    Zipf(Arc<Vec<f64>>),
    /// Failures before a success.
    Geometric(f64),
    /// Counter, first, step.
    Unique(Counter, i64, i64),
    /// Counter, size of a band.
    Sparse(Counter, i64),
    /// A list.
    List(Vec<Source>),
    /// A tuple.
    Tuple(Vec<Source>),
    /// A map.
    Map(Vec<(Value, Source)>),
    /// Something of the operation.
    The(Part),
}

impl Source {
    /// Draws a value.
    pub fn draw(&self, stream: &mut Stream, scene: &Scene<'_>) -> Value {
        match self {
            Source::Fixed(value) => value.clone(),
            Source::Int(low, high) => Value::Int(draw::between(stream, *low, *high)),
            Source::Float(low, high) => Value::Float(low + draw::unit(stream) * (high - low)),
            Source::Choose(sources) => {
                let at = draw::index(stream, sources.len());
                sources[at].draw(stream, scene)
            }
            Source::Weighted(cumulative, sources) => {
                let at = draw::weighted(stream, cumulative);
                sources[at].draw(stream, scene)
            }
            Source::Zipf(table) => Value::Int(draw::zipf(stream, table) as i64),
            Source::Geometric(p) => Value::Int(draw::geometric(stream, *p)),
            Source::Unique(counter, from, step) => {
                Value::Int(from.wrapping_add(step.wrapping_mul(counter.take() as i64)))
            }
            Source::Sparse(counter, size) => Value::Int(sparse(counter, *size)),
            Source::List(sources) => Value::list(draw_all(sources, stream, scene)),
            Source::Tuple(sources) => Value::tuple(draw_all(sources, stream, scene)),
            Source::Map(pairs) => Value::map(
                pairs.iter().map(|(key, source)| (key.clone(), source.draw(stream, scene))),
            ),
            Source::The(part) => part.of(scene),
        }
    }

    /// The value, when there is nothing to draw.
    pub fn fixed(&self) -> Option<&Value> {
        match self {
            Source::Fixed(value) => Some(value),
            _ => None,
        }
    }
}

fn draw_all(sources: &[Source], stream: &mut Stream, scene: &Scene<'_>) -> Vec<Value> {
    sources.iter().map(|source| source.draw(stream, scene)).collect()
}

/// The next number of a keyed permutation of each band. Values in arithmetic progression would not do: the
/// sum of two of them is the sum of many others.
fn sparse(counter: &Counter, size: i64) -> i64 {
    let size = size.max(1) as u64;
    let count = counter.take();
    let (band, within) = (count / size, count % size);
    let place = permute(within, size, (counter.keys.0 ^ band, counter.keys.1));
    let value = (u128::from(band) + 1) * u128::from(size) + 1 + u128::from(place);
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A Feistel network of four rounds over the next even number of bits, walked until the result is below
/// `size` (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002): at most four steps on average.
fn permute(mut place: u64, size: u64, keys: (u64, u64)) -> u64 {
    let half_bits = (64 - (size - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1u64 << half_bits) - 1;
    loop {
        let (mut left, mut right) = (place >> half_bits, place & mask);
        for round in 0..4u64 {
            let mixed = scramble(right ^ keys.0.rotate_left(round as u32 * 16) ^ keys.1) & mask;
            (left, right) = (right, left ^ mixed);
        }
        place = left << half_bits | right;
        if place < size {
            return place;
        }
    }
}

/// The finalizer of SplitMix64.
fn scramble(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Part {
    /// The names in templates.
    pub const NAMES: [&'static str; 5] = ["thread", "process", "node", "value", "f"];

    /// The part of that name.
    pub fn parse(name: &str) -> Option<Part> {
        Some(match name {
            "thread" => Part::Thread,
            "process" => Part::Process,
            "node" => Part::Node,
            "value" => Part::Value,
            "f" => Part::F,
            _ => return None,
        })
    }

    fn of(self, scene: &Scene<'_>) -> Value {
        match self {
            Part::Thread => Value::Int(i64::from(scene.thread)),
            Part::Process => Value::Int(scene.process),
            Part::Node if scene.nodes.is_empty() => Value::Nil,
            Part::Node => {
                let node = scene.nodes[scene.thread as usize % scene.nodes.len()];
                Value::str(node.as_str())
            }
            Part::Value => scene.value.cloned().unwrap_or_default(),
            Part::F => Value::Sym(scene.f),
        }
    }
}
