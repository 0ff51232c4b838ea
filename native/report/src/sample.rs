//! Which operations a page can hold: all of a small history, an honest sample of a large one.
//!
//! Always kept: those of counter-examples, and the slowest. Then, as far as half of the bound allows, those
//! whose outcome is unknown, since they are the ones that faults make; and `fail` when they are few. The
//! others get the same chance each (by a hash of the position, not every n-th: that would always meet
//! the same process), so that their proportions stay what they were. What was left out is told in numbers.
//!
//! Columns instead of objects, differences instead of times, and one table of texts keep a page small.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use fuzz_dist_core::{CheckResult, History, Op, OpType, Process, Value};
use serde::Serialize;

use crate::analyse::{Outcomes, time_ns};
use crate::evidence::{Keyed, visit};
use crate::text;

/// Operations in a sample, those always kept aside.
pub const OPERATION_COUNT_MAX: usize = 50_000;
/// Slowest `ok` operations always kept.
pub const SLOWEST_COUNT: usize = 500;
/// Bytes of texts of values; past it, values are left out of the sample.
pub const VALUE_BYTE_COUNT_MAX: usize = 1_200_000;
/// Longest text of a value.
const VALUE_CHAR_COUNT_MAX: usize = 100;
/// Distinct keys offered as a filter.
const KEY_COUNT_MAX: usize = 2_000;

/// Operations in order of invocation, as columns of the same length.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Sample {
    /// Client operations in the history.
    pub operation_count: u64,
    /// By outcome, in the history.
    pub whole: Outcomes,
    /// By outcome, in the sample.
    pub kept: Outcomes,
    /// Whether values beyond [`VALUE_BYTE_COUNT_MAX`] were left out.
    pub values_cut: bool,
    /// Names of functions.
    pub functions: Vec<String>,
    /// Names of nodes.
    pub nodes: Vec<String>,
    /// Keys as EDN.
    pub keys: Vec<String>,
    /// Texts of values.
    pub values: Vec<String>,
    /// Invocation, microseconds since the one before.
    pub start_us: Vec<u64>,
    /// Length in microseconds; -1 if it never completed.
    pub length_us: Vec<i64>,
    /// Process.
    pub process: Vec<i64>,
    /// One letter each: `o`k, `f`ail, `i`nfo, `n`o answer.
    pub outcome: String,
    /// Index in `functions`.
    pub function: Vec<u32>,
    /// Index in `nodes`, or -1.
    pub node: Vec<i32>,
    /// Index in `keys`, or -1.
    pub key: Vec<i32>,
    /// Index in `values` of the argument, or -1.
    pub argument: Vec<i32>,
    /// Index in `values` of the result or error, or -1.
    pub result: Vec<i32>,
    /// Position in the history, since the one before.
    pub position: Vec<u64>,
}

/// Takes the sample.
pub fn take(history: &History, result: &CheckResult) -> Sample {
    let mut wanted = evidence_positions(history, result);
    let whole = slowest(history, &mut wanted);
    let shares = Shares::new(&whole);
    let mut taker = Taker::new(Keyed::detect(history, result), whole);
    for (position, op) in history.ops().iter().enumerate() {
        let Process::Client(process) = op.process else { continue };
        if op.op_type != OpType::Invoke {
            continue;
        }
        let done = history.completion(position);
        if shares.of(done).takes(position as u64) || wanted.contains(&position) {
            taker.push(position, process, op, done);
        }
    }
    taker.sample
}

/// The chance of each outcome.
struct Shares {
    unknown: Share,
    fail: Share,
    ok: Share,
}

impl Shares {
    fn new(whole: &Outcomes) -> Shares {
        let bound = OPERATION_COUNT_MAX as u64;
        let unknown_count = whole.info + whole.open;
        let unknown_bound = if whole.total() <= bound { bound } else { bound / 2 };
        let left = bound - unknown_count.min(unknown_bound);
        let few_fail = whole.fail <= bound / 10;
        let common = match few_fail {
            true => Share::new(left - whole.fail.min(left), whole.ok),
            false => Share::new(left, whole.ok + whole.fail),
        };
        Shares {
            unknown: Share::new(unknown_bound, unknown_count),
            fail: if few_fail { Share::new(1, 1) } else { common },
            ok: common,
        }
    }

    fn of(&self, done: Option<&Op>) -> &Share {
        match done.map(|done| done.op_type) {
            Some(OpType::Ok) => &self.ok,
            Some(OpType::Fail) => &self.fail,
            _ => &self.unknown,
        }
    }
}

fn evidence_positions(history: &History, result: &CheckResult) -> HashSet<usize> {
    let mut wanted = HashSet::new();
    visit(result, &mut |_, part| {
        for anomaly in &part.anomalies {
            for position in anomaly.ops.iter().take(crate::evidence::OPERATION_COUNT_MAX) {
                let Ok(position) = usize::try_from(*position) else { continue };
                if wanted.len() < OPERATION_COUNT_MAX / 4 && position < history.len() {
                    let invocation = match history.ops()[position].op_type {
                        OpType::Invoke => position,
                        _ => history.pair(position).unwrap_or(position),
                    };
                    wanted.insert(invocation);
                }
            }
        }
    });
    wanted
}

/// Adds the slowest `ok` operations; returns how many there are of each outcome.
fn slowest(history: &History, wanted: &mut HashSet<usize>) -> Outcomes {
    let mut heap: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::with_capacity(SLOWEST_COUNT + 1);
    let mut whole = Outcomes::default();
    for (position, op) in history.ops().iter().enumerate() {
        if !op.is_client() || op.op_type != OpType::Invoke {
            continue;
        }
        let completion = history.completion(position);
        whole.count(completion);
        let Some(done) = completion.filter(|done| done.op_type == OpType::Ok) else { continue };
        let length_ns = time_ns(done).saturating_sub(time_ns(op));
        let least = heap.peek().map_or(0, |Reverse((least, _))| *least);
        if heap.len() < SLOWEST_COUNT || length_ns > least {
            heap.push(Reverse((length_ns, position)));
            if heap.len() > SLOWEST_COUNT {
                heap.pop();
            }
        }
    }
    wanted.extend(heap.into_iter().map(|Reverse((_, position))| position));
    whole
}

/// Takes about `part` of `whole`, each with the same chance.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    threshold: u64,
}

impl Share {
    pub(crate) fn new(part: u64, whole: u64) -> Share {
        if part >= whole {
            return Share { threshold: u64::MAX };
        }
        Share { threshold: ((u128::from(u64::MAX) * u128::from(part)) / u128::from(whole)) as u64 }
    }

    /// By the finaliser of SplitMix64 (Steele, Lea, Flood 2014), so that a report is the same each time.
    pub(crate) fn takes(&self, position: u64) -> bool {
        let mut z = position.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) <= self.threshold
    }
}

struct Taker {
    sample: Sample,
    keyed: Keyed,
    texts: HashMap<String, i32>,
    keys: HashMap<Value, i32>,
    names: HashMap<u32, u32>,
    nodes: HashMap<u32, i32>,
    value_byte_count: usize,
    last_us: u64,
    last_position: u64,
}

impl Taker {
    fn new(keyed: Keyed, whole: Outcomes) -> Taker {
        Taker {
            sample: Sample { operation_count: whole.total(), whole, ..Sample::default() },
            keyed,
            texts: HashMap::new(),
            keys: HashMap::new(),
            names: HashMap::new(),
            nodes: HashMap::new(),
            value_byte_count: 0,
            last_us: 0,
            last_position: 0,
        }
    }

    fn push(&mut self, position: usize, process: i64, op: &Op, done: Option<&Op>) {
        let start_us = time_ns(op) / 1_000;
        let outcome = match done.map(|done| done.op_type) {
            Some(OpType::Ok) => 'o',
            Some(OpType::Fail) => 'f',
            Some(OpType::Info) => 'i',
            Some(OpType::Invoke) | None => 'n',
        };
        self.sample.kept.count(done);
        let (key, argument) = self.keyed.split(&op.value);
        let key = key.map_or(-1, |key| self.key(key));
        let argument = if argument.is_nil() { -1 } else { self.text(argument) };
        let result = match done {
            Some(done) if outcome == 'o' => {
                let value = self.keyed.split(&done.value).1;
                self.text(value)
            }
            Some(done) if !done.error.is_nil() => self.text(&done.error),
            _ => -1,
        };
        let function = self.function(op);
        let node = self.node(op, done);
        let sample = &mut self.sample;
        // Times of an imported history may go back; a column of differences cannot.
        sample.start_us.push(start_us.saturating_sub(self.last_us));
        sample.length_us.push(done.map_or(-1, |done| {
            i64::try_from((time_ns(done) / 1_000).saturating_sub(start_us)).unwrap_or(i64::MAX)
        }));
        sample.process.push(process);
        sample.outcome.push(outcome);
        sample.function.push(function);
        sample.node.push(node);
        sample.key.push(key);
        sample.argument.push(argument);
        sample.result.push(result);
        sample.position.push(position as u64 - self.last_position);
        self.last_us = self.last_us.max(start_us);
        self.last_position = position as u64;
    }

    fn function(&mut self, op: &Op) -> u32 {
        let names = &mut self.sample.functions;
        *self.names.entry(op.f.id()).or_insert_with(|| {
            names.push(text::clip(&op.f.as_str(), 60));
            names.len() as u32 - 1
        })
    }

    fn node(&mut self, op: &Op, done: Option<&Op>) -> i32 {
        let Some(node) = op.node.or_else(|| done.and_then(|done| done.node)) else { return -1 };
        let nodes = &mut self.sample.nodes;
        *self.nodes.entry(node.id()).or_insert_with(|| {
            nodes.push(node.as_str().to_owned());
            nodes.len() as i32 - 1
        })
    }

    fn key(&mut self, key: &Value) -> i32 {
        if let Some(&index) = self.keys.get(key) {
            return index;
        }
        if self.sample.keys.len() >= KEY_COUNT_MAX {
            return -1;
        }
        let index = self.sample.keys.len() as i32;
        self.sample.keys.push(text::clip(key, 60));
        self.keys.insert(key.clone(), index);
        index
    }

    fn text(&mut self, value: &Value) -> i32 {
        let shown = text::clip(value, VALUE_CHAR_COUNT_MAX);
        if let Some(&index) = self.texts.get(&shown) {
            return index;
        }
        // Quotes and a comma, and up to six bytes for a character that a script must not see.
        let byte_count = 3 + shown.chars().map(embedded_byte_count).sum::<usize>();
        if self.value_byte_count + byte_count > VALUE_BYTE_COUNT_MAX {
            self.sample.values_cut = true;
            return -1;
        }
        self.value_byte_count += byte_count;
        let index = self.sample.values.len() as i32;
        self.sample.values.push(shown.clone());
        self.texts.insert(shown, index);
        index
    }
}

fn embedded_byte_count(c: char) -> usize {
    match c {
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
        '"' | '\\' => 2,
        c if c.is_control() => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_about_as_large_as_asked_and_not_periodic() {
        let share = Share::new(1_000, 10_000);
        let taken: Vec<u64> = (0..10_000).filter(|&position| share.takes(position)).collect();
        assert!((800..1_200).contains(&taken.len()), "{} of 1000", taken.len());
        let residues: HashSet<u64> = taken.iter().map(|position| position % 10).collect();
        assert_eq!(residues.len(), 10);
        assert!((0..100).all(|position| Share::new(5, 5).takes(position)));
    }
}
