//! Objects that are independent of each other: one check for each key of `[key value]` operations.
//!
//! Each key gets a history of its own, with the keys taken off the values and with every record that is
//! not a client's. It is made when the key's turn comes and dropped after it, since there may be
//! thousands of keys and of such records: what is kept of a key are positions. Evidence is translated back to positions of the whole history. Any checker that lists
//! [`INDEPENDENT`] among its options is wrapped in [`EachKey`] when it is asked for; `linearizable` has
//! a leaner way of its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuzz_dist_core::sync::lock;
use fuzz_dist_core::{CheckResult, History, Op, OpType, Value, Verdict, clip};

use crate::Checker;
use crate::budget::{self, Meter};
use crate::numbering::Numbering;
use crate::options::OptionInfo;

/// The option to check every key for itself.
pub(crate) const INDEPENDENT: OptionInfo = OptionInfo {
    name: "independent",
    default: "false",
    about: "values are [key value] and each key is an object of its own",
};

/// How many keys that are not valid are told in full.
const PARTS_MAX: usize = 16;
/// How much of a value a message shows.
const VALUE_CHAR_COUNT_MAX: usize = 100;
/// How many anomalies are passed on.
const ANOMALIES_MAX: usize = 16;

/// A checker of one object, asked about each key.
pub(crate) struct EachKey(pub Box<dyn Checker>);

impl Checker for EachKey {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn only_reports(&self) -> bool {
        self.0.only_reports()
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        check_keys(self.name(), history, meter, &|part| self.0.check(part, &meter.rest()))
    }
}

/// The history of one key with the positions of its records in the whole.
struct Part {
    history: History,
    positions: Vec<u32>,
}

/// Where the records of each key are.
struct Split<'a> {
    history: &'a History,
    /// Those of no key, which every key gets.
    common: Vec<u32>,
    keys: Vec<(Value, Vec<u32>)>,
}

/// Checks every key with `check` and puts the verdicts together.
pub(crate) fn check_keys(
    name: &str,
    history: &History,
    meter: &Meter,
    check: &(dyn Fn(&History) -> CheckResult + Sync),
) -> CheckResult {
    let mut split = match Split::new(history) {
        Ok(split) => split,
        Err(reason) => return CheckResult::new(name, Verdict::Unknown, reason),
    };
    split.keys.sort_by_key(|(_, positions)| std::cmp::Reverse(positions.len()));
    let unknown = |why: String| CheckResult::new(name, Verdict::Unknown, why);
    let check_one = |i: usize| match split.part(i) {
        Ok(part) => translate(check(&part.history), &split.keys[i].0, &part),
        Err(reason) => unknown(reason),
    };
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, CheckResult)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..crate::threads().min(split.keys.len()).max(1) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= split.keys.len() {
                        break;
                    }
                    let result = meter.check_time().and_then(|()| meter.within(|| check_one(i)));
                    let result = result.unwrap_or_else(|why| {
                        unknown(format!("not checked: {why}; a larger budget would help"))
                    });
                    lock(&done).push((i, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    done.sort_by_key(|(i, _)| *i);
    combine(name, done.into_iter().map(|(i, result)| (&split.keys[i].0, result)).collect())
}

impl<'a> Split<'a> {
    fn new(history: &'a History) -> Result<Split<'a>, String> {
        let mut numbers = Numbering::default();
        let mut own: Vec<Vec<u32>> = Vec::new();
        let mut common: Vec<u32> = Vec::new();
        for (position, op) in crate::budget::ops(history).enumerate() {
            budget::poll();
            if !op.is_client() {
                common.push(position as u32);
                continue;
            }
            let invocation = match op.op_type {
                OpType::Invoke => op,
                _ => match history.pair(position) {
                    Some(pair) => &history.ops()[pair],
                    None => continue,
                },
            };
            let Some((key, _)) = invocation.value.key_and_value() else {
                return Err(format!(
                    "not checked: record {}: the value {} is not [key value], as independent keys need it",
                    invocation.index,
                    clip(&invocation.value, VALUE_CHAR_COUNT_MAX)
                ));
            };
            let number = numbers.number(key) as usize;
            if number == own.len() {
                own.push(Vec::new());
            }
            own[number].push(position as u32);
        }
        let keys = numbers.into_values().into_iter().zip(own).collect();
        Ok(Split { history, common, keys })
    }

    /// The history of one key.
    fn part(&self, key: usize) -> Result<Part, String> {
        let (key, own) = &self.keys[key];
        let count = own.len() + self.common.len();
        let (mut ops, mut positions) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut common = self.common.iter().copied().peekable();
        let mut push = |position: u32, op: Op| {
            budget::poll();
            ops.push(op);
            positions.push(position);
        };
        for &place in own {
            while let Some(before) = common.next_if(|position| *position < place) {
                push(before, self.history.ops()[before as usize].clone());
            }
            let mut op = self.history.ops()[place as usize].clone();
            if let Some((_, value)) = op.value.key_and_value() {
                op.value = value.clone();
            }
            push(place, op);
        }
        for after in common {
            push(after, self.history.ops()[after as usize].clone());
        }
        let part = History::new(ops).map_err(|e| format!("not checked: key {key}: {e}"))?;
        let is_timed = self.history.has_real_time();
        let history = if is_timed { part } else { part.without_real_time() };
        Ok(Part { history, positions })
    }
}

fn translate(mut result: CheckResult, key: &Value, part: &Part) -> CheckResult {
    for anomaly in &mut result.anomalies {
        anomaly.key = Some(match anomaly.key.take() {
            Some(inner) => format!("{key} {inner}"),
            None => key.to_string(),
        });
        let whole = |position: &mut u64| *position = u64::from(part.positions[*position as usize]);
        anomaly.ops.iter_mut().for_each(whole);
        anomaly.longest_order.iter_mut().for_each(whole);
        anomaly.edges.iter_mut().for_each(|edge| {
            whole(&mut edge.from);
            whole(&mut edge.to);
        });
    }
    result
}

fn combine(name: &str, done: Vec<(&Value, CheckResult)>) -> CheckResult {
    let verdict = done.iter().fold(Verdict::Valid, |all, (_, part)| all.and(part.verdict));
    let of = |wanted| done.iter().filter(move |(_, part)| part.verdict == wanted);
    let reason = match of(verdict).next() {
        None => "there are no operations".to_owned(),
        Some((_, part)) if verdict == Verdict::Valid => {
            format!("each of {} keys: {}", done.len(), part.reason)
        }
        Some((key, part)) => {
            let more = of(verdict).count() - 1;
            let more = if more > 0 { format!(" (and {more} more keys)") } else { String::new() };
            format!("key {key}: {}{more}", part.reason)
        }
    };
    let verdict = if done.is_empty() { Verdict::Unknown } else { verdict };
    let mut result = CheckResult::new(name, verdict, reason);
    for (_, part) in &done {
        for (counted, count) in &part.counts {
            *result.counts.entry(counted.clone()).or_default() += count;
        }
    }
    result.counts.insert("keys".into(), done.len() as u64);
    result.counts.insert("keys-invalid".into(), of(Verdict::Invalid).count() as u64);
    result.counts.insert("keys-unknown".into(), of(Verdict::Unknown).count() as u64);
    for (key, mut part) in done {
        // Told once, above, where every reader looks; a part says which key and why.
        let room = ANOMALIES_MAX.saturating_sub(result.anomalies.len());
        result.anomalies.extend(part.anomalies.drain(..).take(room));
        if part.verdict != Verdict::Valid && result.parts.len() < PARTS_MAX {
            part.checker = format!("{name} of key {key}");
            result.parts.push(part);
        }
    }
    result
}
