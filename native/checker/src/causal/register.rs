//! Jepsen's own causal register (`jepsen.tests.causal`), judged as Jepsen does.
//!
//! A history is of this kind if somebody calls `:read-init`. The site that works on a key performs
//! its operations in causal order: `:read-init`, and then writes of 1, 2, … with reads between
//! them. For each key the operations that succeeded are taken in the order of their completions,
//! and each has to fit:
//! - its `:link` is `:init`, or the `:position` of the operation before it (neither, if there are
//!   none);
//! - a write has the next number;
//! - a read returns nil, or the last number written; before any write, 0.

use std::collections::BTreeMap;

use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Value, Verdict};

use crate::budget::{Exhausted, Meter};
use crate::causal::INFO;
use crate::elle::txns::shown;

/// The function that only this workload has.
const READ_INIT: &str = "read-init";
/// How many anomalies are told.
const SHOWN_MAX: usize = 24;
/// How many records between two looks at the clock.
const RECORDS_PER_LOOK: usize = 1 << 14;

/// Whether a history is of this workload.
pub fn applies(history: &History) -> bool {
    crate::budget::ops(history).any(|op| op.is_client() && op.f.as_str() == READ_INIT)
}

/// What is known of one key.
#[derive(Debug, Clone)]
struct Register {
    value: Value,
    counter: i64,
    last_position: Value,
    last_record: Option<u64>,
    is_broken: bool,
}

impl Default for Register {
    fn default() -> Register {
        let (value, last_position) = (Value::Int(0), Value::Nil);
        Register { value, counter: 0, last_position, last_record: None, is_broken: false }
    }
}

impl Register {
    /// Takes the next operation; says what does not fit.
    fn step(&mut self, op: &Op, value: &Value) -> Result<(), (&'static str, String)> {
        let extra = |name: &str| op.extra(name).cloned().unwrap_or_default();
        let (link, position) = (extra("link"), extra("position"));
        let is_init = link.as_text() == Some("init");
        if !is_init && link != self.last_position {
            let seen = shown(&self.last_position);
            return Err(("broken-link", format!("links to {}, not to {seen}", shown(&link))));
        }
        if op.f.as_str() == "write" {
            let next = Value::Int(self.counter + 1);
            if *value != next {
                return Err(("unexpected-write", format!("wrote {}, not {next}", shown(value))));
            }
            (self.value, self.counter) = (next, self.counter + 1);
        } else {
            let is_new = op.f.as_str() == READ_INIT && self.counter == 0;
            if (is_new && *value != Value::Int(0)) || !(value.is_nil() || *value == self.value) {
                let (name, held) =
                    (if is_new { "initial-read" } else { "stale-read" }, &self.value);
                return Err((name, format!("read {}, but the register held {held}", shown(value))));
            }
        }
        self.last_position = position;
        self.last_record = Some(op.index);
        Ok(())
    }
}

/// Judges it.
pub fn check(history: &History, meter: &Meter) -> Result<CheckResult, Exhausted> {
    let mut registers: BTreeMap<Value, Register> = BTreeMap::new();
    let mut anomalies: Vec<Anomaly> = Vec::new();
    let (mut reads, mut writes, mut broken) = (0u64, 0u64, 0u64);
    let is_ours = |op: &Op| ["read", READ_INIT, "write"].contains(&op.f.as_str());
    let done = |op: &&Op| op.is_client() && op.op_type == OpType::Ok && is_ours(op);
    let mut values = crate::budget::ops(history).filter(done).map(|op| &op.value);
    let has_keys = values.all(|value| value.key_and_value().is_some());
    for (at, op) in crate::budget::ops(history).enumerate().filter(|(_, op)| done(op)) {
        if at % RECORDS_PER_LOOK == 0 {
            meter.check_time()?;
        }
        let pair = op.value.key_and_value().filter(|_| has_keys);
        let (key, value) =
            pair.map_or((Value::Nil, &op.value), |(key, value)| (key.clone(), value));
        let is_write = op.f.as_str() == "write";
        (writes, reads) = (writes + u64::from(is_write), reads + u64::from(!is_write));
        let register = registers.entry(key.clone()).or_default();
        if register.is_broken {
            continue;
        }
        let Err((name, what)) = register.step(op, value) else { continue };
        register.is_broken = true;
        broken += 1;
        if anomalies.len() < SHOWN_MAX {
            let of = if has_keys { format!(" of key {}", shown(&key)) } else { String::new() };
            let after = match register.last_record {
                Some(record) => format!(", after record {record}"),
                None => String::new(),
            };
            anomalies.push(Anomaly {
                name: name.to_owned(),
                key: has_keys.then(|| key.to_string()),
                text: format!("record {}{of} {what}{after}", op.index),
                ops: register.last_record.into_iter().chain([op.index]).collect(),
                ..Anomaly::default()
            });
        }
    }
    let (verdict, reason) = match anomalies.first() {
        Some(first) => (Verdict::Invalid, format!("not in causal order: {}", first.text)),
        None if reads == 0 => (Verdict::Unknown, "nothing to judge by: no read succeeded".into()),
        None => {
            let text = format!(
                "{reads} reads and {writes} writes of {} causal registers are in causal order",
                registers.len()
            );
            (Verdict::Valid, text)
        }
    };
    let mut result = CheckResult::new(INFO.name, verdict, reason);
    let counts = [
        ("keys", registers.len() as u64),
        ("reads", reads),
        ("writes", writes),
        ("broken", broken),
    ];
    result.counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    result.anomalies = anomalies;
    Ok(result)
}
