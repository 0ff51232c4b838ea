//! `monotonic`: values only grow, for each process and key, or for all.
//!
//! Two kinds of histories, told apart by whether there is an `add`:
//!
//! **Tables**, as in CockroachDB's `monotonic` tests. `add` inserts a row and returns it (a map with `:val`,
//! and `:sts`, the database's time stamp, `:proc`, `:node`, `:tb`), or just adds a value; the last `read` that
//! succeeded returns all rows in the order of their time stamps. Anomalies: `lost` (added, not there),
//! `duplicate`, `revived` (its add failed), `unexpected` (nobody added it), `order-by-error` (a time stamp
//! smaller than the one before), `value-reorder` (a value not greater than the one before: among the rows of
//! one process, and with the option `global`, or if rows do not name a process, among all rows).
//!
//! **Observations**, as in TiDB's `monotonic` test, and reads of a counter that only grows. The ok value of
//! an operation (`read`, `inc`, `increment`) is a number, or a map of keys to numbers. A number that is smaller
//! than one that the same process saw before is `nonmonotonic`; with `global`, than one seen by anybody in an
//! operation that had completed before this one was invoked: `nonmonotonic-realtime`. And no two keys may
//! disagree about the order of operations: see [`cycles`], anomaly `cycle`.
//!
//! nil and what is missing is less than every number. Log-linear.

mod cycles;
mod table;

use std::collections::{BTreeMap, HashMap};

use fuzz_dist_core::number::Number;
use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Value, Verdict};

use crate::budget::Meter;
use crate::independent::INDEPENDENT;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, or_not_checked};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "monotonic",
    about: "Whether values only grow: rows that were added (add, then a last read of all rows in the order \
            of their time stamps), or numbers that a process reads (read, inc: a number, or a map of keys \
            to numbers) for each key; and whether keys agree about the order of operations.",
    needs: &[],
    options: &[
        OptionInfo {
            name: "global",
            default: "false",
            about: "over all processes, not only within each: rows in their order, reads by real time",
        },
        INDEPENDENT,
    ],
};

/// How many anomalies of a kind are told.
const ANOMALIES_MAX: usize = 8;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct Monotonic {
    global: bool,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Monotonic, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    Ok(Monotonic { global: reader.bool("global", false)? })
}

impl Checker for Monotonic {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        let is_table = crate::budget::client_ops(history).any(|op| op.f == "add");
        let found = match is_table {
            true => table::check(history, self.global),
            false => observed(history, self.global, meter),
        };
        or_not_checked(INFO.name, found.map(Findings::result))
    }
}

/// What was found, by kind.
#[derive(Default)]
struct Findings {
    anomalies: Vec<Anomaly>,
    kinds: BTreeMap<&'static str, u64>,
    counts: BTreeMap<String, u64>,
    /// What was looked at, in words, if nothing is wrong.
    checked: String,
    /// Why nothing was decided.
    missing: Option<String>,
}

impl Findings {
    fn add(&mut self, name: &'static str, key: Option<String>, text: String, ops: Vec<u64>) {
        let count = self.kinds.entry(name).or_default();
        *count += 1;
        if *count <= ANOMALIES_MAX as u64 {
            self.anomalies.push(Anomaly {
                name: name.into(),
                key,
                text,
                ops,
                ..Anomaly::default()
            });
        }
    }

    fn result(mut self) -> CheckResult {
        let (verdict, reason) = match (self.anomalies.first(), self.missing.take()) {
            (Some(first), _) => {
                let kinds: Vec<String> =
                    self.kinds.iter().map(|(name, count)| format!("{count} {name}")).collect();
                (Verdict::Invalid, format!("{}: {}", kinds.join(", "), first.text))
            }
            (None, Some(why)) => (Verdict::Unknown, why),
            (None, None) => (Verdict::Valid, std::mem::take(&mut self.checked)),
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        result.counts = self.counts;
        result.counts.extend(self.kinds.iter().map(|(name, count)| ((*name).to_owned(), *count)));
        result.anomalies = self.anomalies;
        result
    }
}

/// Numbers that one operation saw, by key; `None` is the only key of numbers without one.
struct Observation<'a> {
    invoke: &'a Op,
    done: &'a Op,
    seen: Vec<(Option<&'a Value>, Number<'a>)>,
}

fn observations(history: &History) -> Result<Vec<Observation<'_>>, String> {
    let mut observations = Vec::new();
    for (invoke, completion) in crate::budget::client_pairs(history) {
        let is_one = matches!(invoke.f.as_str(), "read" | "inc" | "increment");
        let Some(done) = completion.filter(|done| is_one && done.op_type == OpType::Ok) else {
            continue;
        };
        let number = |value| {
            Number::or_nil(value).ok_or_else(|| {
                format!(
                    "record {}: {} is neither a number nor a map of keys to numbers",
                    done.index, done.value
                )
            })
        };
        // What an increment only repeats is its argument, and nothing that was seen.
        let repeated = invoke.f != "read" && done.value == invoke.value;
        let seen = match &done.value {
            Value::Nil if invoke.f != "read" => Vec::new(),
            _ if repeated => Vec::new(),
            Value::Map(pairs) => pairs
                .iter()
                .map(|(key, value)| Ok((Some(key), number(value)?)))
                .collect::<Result<_, String>>()?,
            value => vec![(None, number(value)?)],
        };
        observations.push(Observation { invoke, done, seen });
    }
    observations.sort_by_key(|observation| observation.done.index);
    Ok(observations)
}

fn observed(history: &History, global: bool, meter: &Meter) -> Result<Findings, String> {
    let observations = observations(history)?;
    let mut found = Findings::default();
    let values = observations.iter().map(|observation| observation.seen.len()).sum::<usize>();
    found.checked = format!("{values} values in {} operations only grow", observations.len());
    found.counts.insert("observations".into(), observations.len() as u64);
    within_processes(&observations, &mut found);
    if global {
        by_real_time(&observations, &mut found);
    }
    cycles::find(&observations, global, meter, &mut found)?;
    if values == 0 {
        found.missing = Some("no number was ever read".to_owned());
    }
    Ok(found)
}

fn named(key: Option<&Value>) -> String {
    key.map(|key| format!(" of key {key}")).unwrap_or_default()
}

/// A process never sees less than it saw.
fn within_processes(observations: &[Observation], found: &mut Findings) {
    let mut last: HashMap<(i64, Option<&Value>), (Number, usize)> = HashMap::new();
    for (i, observation) in observations.iter().enumerate() {
        let process = observation.done.process.client().unwrap_or_default();
        for &(key, value) in &observation.seen {
            let before = last.insert((process, key), (value, i));
            let Some((was, at)) = before.filter(|(was, _)| value < *was) else { continue };
            let earlier = observations[at].done;
            let text = format!(
                "process {process} saw {}{} at record {} and then {} at record {}: it went back",
                was,
                named(key),
                earlier.index,
                value,
                observation.done.index
            );
            let ops = vec![earlier.index, observation.invoke.index, observation.done.index];
            found.add("nonmonotonic", key.map(Value::to_string), text, ops);
        }
    }
}

/// Nobody sees less than anybody had seen before he asked.
fn by_real_time(observations: &[Observation], found: &mut Findings) {
    let mut by_invoke: Vec<&Observation> = observations.iter().collect();
    by_invoke.sort_by_key(|observation| observation.invoke.index);
    let mut greatest: HashMap<Option<&Value>, (Number, &Op)> = HashMap::new();
    let mut completed = observations.iter().peekable();
    for observation in by_invoke {
        while let Some(before) =
            completed.next_if(|before| before.done.index < observation.invoke.index)
        {
            for &(key, value) in &before.seen {
                let entry = greatest.entry(key).or_insert((value, before.done));
                if value > entry.0 {
                    *entry = (value, before.done);
                }
            }
        }
        for &(key, value) in &observation.seen {
            let Some((was, earlier)) = greatest.get(&key).filter(|(was, _)| value < *was) else {
                continue;
            };
            // Within a process it is told already.
            if earlier.process == observation.done.process {
                continue;
            }
            let text = format!(
                "process {} saw {}{} at record {}, and process {} saw {} at records {} to {}, later",
                earlier.process,
                was,
                named(key),
                earlier.index,
                observation.done.process,
                value,
                observation.invoke.index,
                observation.done.index
            );
            let ops = vec![earlier.index, observation.invoke.index, observation.done.index];
            found.add("nonmonotonic-realtime", key.map(Value::to_string), text, ops);
        }
    }
}
