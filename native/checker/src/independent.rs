//! Objects that are independent of each other: one check for each key of `[key value]` operations.
//!
//! Each key gets a history of its own, with the keys taken off the values and with every record that is
//! not a client's; evidence is translated back to positions of the whole history. Any checker that lists
//! [`INDEPENDENT`] among its options is wrapped in [`EachKey`] when it is asked for; `linearizable` has
//! a leaner way of its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuzz_dist_core::sync::lock;
use fuzz_dist_core::{CheckResult, History, Op, OpType, Value, Verdict};

use crate::Checker;
use crate::budget::Meter;
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
/// How many anomalies are passed on.
const ANOMALIES_MAX: usize = 16;

/// A checker of one object, asked about each key.
pub(crate) struct EachKey(pub Box<dyn Checker>);

impl Checker for EachKey {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        check_keys(self.name(), history, &|part| match meter.check_time() {
            Ok(()) => self.0.check(part, &meter.rest()),
            Err(why) => CheckResult::new(
                self.name(),
                Verdict::Unknown,
                format!("not checked: {why}; a larger budget would help"),
            ),
        })
    }
}

/// The records of one key with their positions in the whole history.
struct Part {
    key: Value,
    history: History,
    positions: Vec<u32>,
}

/// Checks every key with `check` and puts the verdicts together.
pub(crate) fn check_keys(
    name: &str,
    history: &History,
    check: &(dyn Fn(&History) -> CheckResult + Sync),
) -> CheckResult {
    let mut parts = match split(history) {
        Ok(parts) => parts,
        Err(reason) => return CheckResult::new(name, Verdict::Unknown, reason),
    };
    parts.sort_by_key(|part| std::cmp::Reverse(part.positions.len()));
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, CheckResult)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..crate::threads().min(parts.len()).max(1) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(part) = parts.get(i) else { break };
                    let result = translate(check(&part.history), part);
                    lock(&done).push((i, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    done.sort_by_key(|(i, _)| *i);
    combine(name, done.into_iter().map(|(i, result)| (&parts[i].key, result)).collect())
}

fn split(history: &History) -> Result<Vec<Part>, String> {
    let mut numbers = Numbering::default();
    let mut parts: Vec<(Vec<Op>, Vec<u32>)> = Vec::new();
    let mut common: Vec<u32> = Vec::new();
    for (position, op) in history.ops().iter().enumerate() {
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
                invocation.index, invocation.value
            ));
        };
        let number = numbers.number(key) as usize;
        if number == parts.len() {
            parts.push(Default::default());
        }
        let mut own = op.clone();
        if let Some((_, value)) = op.value.key_and_value() {
            own.value = value.clone();
        }
        parts[number].0.push(own);
        parts[number].1.push(position as u32);
    }
    let keys = numbers.into_values();
    let is_timed = history.has_real_time();
    keys.into_iter()
        .zip(parts)
        .map(|(key, (ops, positions))| {
            let (ops, positions) = merge(history, &common, ops, positions);
            let part = History::new(ops).map_err(|e| format!("not checked: key {key}: {e}"))?;
            let history = if is_timed { part } else { part.without_real_time() };
            Ok(Part { key, history, positions })
        })
        .collect()
}

/// Puts the records that belong to no key in their places.
fn merge(history: &History, common: &[u32], own: Vec<Op>, places: Vec<u32>) -> (Vec<Op>, Vec<u32>) {
    let mut ops = Vec::with_capacity(own.len() + common.len());
    let mut positions = Vec::with_capacity(own.len() + common.len());
    let mut common = common.iter().copied().peekable();
    for (op, place) in own.into_iter().zip(places) {
        while let Some(before) = common.next_if(|position| *position < place) {
            ops.push(history.ops()[before as usize].clone());
            positions.push(before);
        }
        ops.push(op);
        positions.push(place);
    }
    for after in common {
        ops.push(history.ops()[after as usize].clone());
        positions.push(after);
    }
    (ops, positions)
}

fn translate(mut result: CheckResult, part: &Part) -> CheckResult {
    for anomaly in &mut result.anomalies {
        anomaly.key = Some(match anomaly.key.take() {
            Some(inner) => format!("{} {inner}", part.key),
            None => part.key.to_string(),
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
