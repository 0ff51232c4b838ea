//! `pn-counter`: a convergent counter (a CRDT) with increments, decrements and reads.
//!
//! Functions: `increment v`, `decrement v` (v an integer, 1 when nil), `read`, and final reads: `read`
//! with the extra key `:final? true`, or `final-read`. What must hold, as in fuzz_dist's original:
//! - A read returns the sum of a *possible* subset of additions: all that its own process had
//!   completed (read your writes; option), and any of those of others that were invoked before the read
//!   completed and did not fail. Indeterminate additions may be in it or not.
//! - A final read has every addition that succeeded before it was invoked; only indeterminate and
//!   concurrent ones are optional.
//! - All final reads return the same value.
//! - With `monotonic` (a counter that only grows, or only shrinks), the reads of a process never go
//!   back.
//!
//! **Method.** The possible sums as a set of ranges (see [`crate::ranges`]), grown addition by addition
//! for each process that reads: exact. Too many ranges (very many sparse indeterminate additions) or
//! the end of the budget make reads undecided, and the verdict `unknown` unless another read is wrong.
//!
//! Without a final read, or without one on a node that took part, convergence was not tested:
//! `unknown`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fuzz_dist_core::number::Exact;
use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Sym, Value, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::independent::INDEPENDENT;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::ranges::Ranges;
use crate::{Checker, CheckerInfo, told};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "pn-counter",
    about: "Whether every read of a convergent counter (increment, decrement, read) is a possible sum: \
            the process's own completed additions and any subset of others' that were invoked; and \
            whether all final reads (read with :final? true, or final-read) are equal and hold every \
            addition that succeeded. Unknown without final reads on every node.",
    options: &[
        OptionInfo {
            name: "monotonic",
            default: "false",
            about: "the reads of one process never go back (a counter that only grows or only shrinks)",
        },
        OptionInfo {
            name: "read-your-writes",
            default: "true",
            about: "a process's reads hold its own completed additions",
        },
        INDEPENDENT,
    ],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct PnCounter {
    monotonic: bool,
    read_your_writes: bool,
}

/// Builds it.
pub fn build(options: &Options) -> Result<PnCounter, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    Ok(PnCounter {
        monotonic: reader.bool("monotonic", false)?,
        read_your_writes: reader.bool("read-your-writes", true)?,
    })
}

impl Checker for PnCounter {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        self.check_one(history, meter)
    }
}

/// An addition that did not certainly fail.
#[derive(Debug, Clone, Copy)]
struct Add {
    delta: i128,
    process: i64,
    invoke: u64,
    /// Completion if it succeeded.
    ok: Option<u64>,
}

/// A read that succeeded.
#[derive(Debug, Clone, Copy)]
struct Read {
    value: i128,
    process: i64,
    invoke: u64,
    completion: u64,
    node: Option<Sym>,
    is_final: bool,
}

/// The operations on one counter.
#[derive(Debug, Default)]
struct Counter {
    /// In order of invocation.
    adds: Vec<Add>,
    /// In order of completion.
    reads: Vec<Read>,
    /// Nodes that took part.
    nodes: BTreeSet<Sym>,
}

/// What a process can have seen so far, without its own additions.
struct View {
    sums: Option<Ranges>,
    /// How many of the additions, in order of invocation, have been taken in.
    taken: usize,
    /// Sum of its own completed additions, and the least and most that the others can add to it.
    own: i128,
    low: i128,
    high: i128,
    last: Option<(i128, u64)>,
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    anomalies: Vec<Anomaly>,
    anomaly_count: u64,
    undecided: u64,
    undecided_why: Option<String>,
    ranges_max: usize,
}

impl PnCounter {
    fn check_one(&self, history: &History, meter: &Meter) -> CheckResult {
        let counter = match read_counter(history) {
            Ok(counter) => counter,
            Err(reason) => {
                let reason = format!("not checked: {reason}");
                return CheckResult::new(INFO.name, Verdict::Unknown, reason);
            }
        };
        let mut found = Findings::default();
        self.check_reads(&counter, meter, &mut found);
        let finals: Vec<&Read> = counter.reads.iter().filter(|read| read.is_final).collect();
        check_finals(&counter, &finals, meter, &mut found);
        let (verdict, reason) = verdict(&counter, &finals, &found);
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        let indeterminate = counter.adds.iter().filter(|add| add.ok.is_none()).count();
        let counts = [
            ("additions", counter.adds.len() as u64),
            ("indeterminate-additions", indeterminate as u64),
            ("reads", counter.reads.len() as u64),
            ("final-reads", finals.len() as u64),
            ("impossible-reads", found.anomaly_count),
            ("undecided-reads", found.undecided),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
        result.details = json!({
            "final-reads": finals.iter().map(|read| json!({
                "node": read.node.map(Sym::as_str), "value": read.value.to_string(),
            })).collect::<Vec<_>>(),
            "ranges-max": found.ranges_max,
        });
        result.anomalies = found.anomalies;
        result
    }

    fn check_reads(&self, counter: &Counter, meter: &Meter, found: &mut Findings) {
        let mut views: HashMap<i64, View> = HashMap::new();
        for read in &counter.reads {
            let view = views.entry(read.process).or_insert_with(|| View {
                sums: Some(Ranges::only(0)),
                taken: 0,
                own: 0,
                low: 0,
                high: 0,
                last: None,
            });
            if self.monotonic {
                check_monotonic(read, view, found);
            }
            view.last = Some((read.value, read.completion));
            self.take_in(counter, read, view, meter, found);
            let own = view.own;
            match &view.sums {
                Some(sums) if sums.contains(read.value - own) => {}
                Some(sums) => {
                    let possible = sums.text(own);
                    let text = format!(
                        "process {}{} read {} at record {}, but with its own additions ({own}) and any of \
                         the others' only these are possible: {possible}",
                        read.process,
                        on(read.node),
                        read.value,
                        read.completion,
                    );
                    found.add("value-not-possible", text, vec![read.invoke, read.completion]);
                }
                // Outside what all additions together allow is impossible without knowing the sums.
                None if !(view.low..=view.high).contains(&(read.value - own)) => {
                    let text = format!(
                        "process {}{} read {} at record {}, which is more or less than all additions \
                         together allow",
                        read.process,
                        on(read.node),
                        read.value,
                        read.completion
                    );
                    found.add("value-out-of-bounds", text, vec![read.invoke, read.completion]);
                }
                None => found.undecided += 1,
            }
        }
    }

    fn is_own(&self, add: &Add, read: &Read) -> bool {
        self.read_your_writes && add.process == read.process && add.ok.is_some()
    }

    /// Lets the view grow by what was invoked before the read completed.
    fn take_in(
        &self,
        counter: &Counter,
        read: &Read,
        view: &mut View,
        meter: &Meter,
        found: &mut Findings,
    ) {
        while let Some(add) = counter.adds.get(view.taken).filter(|a| a.invoke < read.completion) {
            view.taken += 1;
            if self.is_own(add, read) {
                view.own += add.delta;
                continue;
            }
            view.low += add.delta.min(0);
            view.high += add.delta.max(0);
            let Some(sums) = &mut view.sums else { continue };
            let why = if !sums.grow(add.delta) {
                Some(format!("more than {} ranges of possible values", Ranges::COUNT_MAX))
            } else {
                meter.check_time().err().map(|why| why.to_string())
            };
            found.ranges_max = found.ranges_max.max(sums.count());
            if why.is_some() {
                found.undecided_why = why;
                view.sums = None;
            }
        }
    }
}

fn on(node: Option<Sym>) -> String {
    node.map(|node| format!(" on {node}")).unwrap_or_default()
}

fn check_monotonic(read: &Read, view: &View, found: &mut Findings) {
    let Some((before, at)) = view.last else { return };
    if read.value.abs() < before.abs() {
        let text = format!(
            "process {}{} read {before} at record {at} and then {} at record {}: it went back",
            read.process,
            on(read.node),
            read.value,
            read.completion
        );
        found.add("value-not-monotonic", text, vec![at, read.invoke, read.completion]);
    }
}

/// Final reads hold everything that succeeded, and agree.
fn check_finals(counter: &Counter, finals: &[&Read], meter: &Meter, found: &mut Findings) {
    // Final reads with the same certain and optional additions share their sums.
    let mut shared: BTreeMap<(i128, usize, usize), Option<Ranges>> = BTreeMap::new();
    for read in finals {
        let certain = |add: &&Add| add.ok.is_some_and(|ok| ok < read.invoke);
        let before = || counter.adds.iter().take_while(|add| add.invoke < read.completion);
        let sum: i128 = before().filter(certain).map(|add| add.delta).sum();
        let optional: Vec<&Add> = before().filter(|add| !certain(add)).collect();
        let key = (sum, before().count(), optional.len());
        let sums = shared.entry(key).or_insert_with(|| {
            let mut sums = Ranges::only(sum);
            let fits =
                optional.iter().all(|add| sums.grow(add.delta) && meter.check_time().is_ok());
            fits.then_some(sums)
        });
        let Some(sums) = sums else {
            found.undecided += 1;
            found.undecided_why.get_or_insert_with(|| {
                format!("too many indeterminate additions ({}) before a final read", optional.len())
            });
            continue;
        };
        found.ranges_max = found.ranges_max.max(sums.count());
        if !sums.contains(read.value) {
            let offset = sums.offset(read.value);
            let mut ops = vec![read.invoke, read.completion];
            let suspects = suspects(counter, offset);
            ops.extend(suspects.iter().map(|add| add.invoke));
            let mut text = format!(
                "the final read of process {}{} returned {} (record {}), but all additions that \
                 succeeded give {}: {} {}",
                read.process,
                on(read.node),
                read.value,
                read.completion,
                sums.text(0),
                offset.abs(),
                if offset > 0 { "too much" } else { "too little" },
            );
            for add in &suspects {
                text.push_str(&format!(
                    "; the addition of {} at record {} may be the one that was {}",
                    add.delta,
                    add.invoke,
                    if (offset > 0) == (add.delta > 0) { "applied twice" } else { "lost" }
                ));
            }
            found.add("final-value-not-possible", text, ops);
        }
    }
    if let Some((first, other)) = finals
        .first()
        .and_then(|first| Some((first, finals.iter().find(|r| r.value != first.value)?)))
    {
        let values: Vec<String> =
            finals.iter().map(|read| format!("{}{}", read.value, on(read.node))).collect();
        let text = format!("final reads differ: {}", values.join(", "));
        let ops = vec![first.invoke, first.completion, other.invoke, other.completion];
        found.add("final-reads-not-equal", text, ops);
    }
}

/// Additions whose loss or repetition alone would explain the offset.
fn suspects(counter: &Counter, offset: i128) -> Vec<&Add> {
    const SHOWN: usize = 4;
    counter.adds.iter().filter(|add| add.delta.abs() == offset.abs()).take(SHOWN).collect()
}

impl Findings {
    fn add(&mut self, name: &str, text: String, ops: Vec<u64>) {
        self.anomaly_count += 1;
        let anomaly = Anomaly { name: name.into(), key: None, text, ops, ..Anomaly::default() };
        if name.starts_with("final") {
            // What did not converge tells most.
            self.anomalies.insert(0, anomaly);
            self.anomalies.truncate(ANOMALIES_MAX);
        } else if self.anomalies.len() < ANOMALIES_MAX {
            self.anomalies.push(anomaly);
        }
    }
}

fn verdict(counter: &Counter, finals: &[&Read], found: &Findings) -> (Verdict, String) {
    if let Some(first) = found.anomalies.first() {
        let more = found.anomaly_count - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        return (Verdict::Invalid, format!("{}: {}{more}", first.name, first.text));
    }
    if found.undecided > 0 {
        let why = found.undecided_why.as_deref().unwrap_or("no room");
        let text = format!(
            "{} of {} reads are undecided: {why}. Fewer indeterminate additions, smaller amounts or more \
             frequent reads would help",
            found.undecided,
            counter.reads.len()
        );
        return (Verdict::Unknown, text);
    }
    if finals.is_empty() {
        let text = format!(
            "all {} reads are possible, but there is no final read, so convergence was not tested",
            counter.reads.len()
        );
        return (Verdict::Unknown, text);
    }
    let read_on: BTreeSet<Sym> = finals.iter().filter_map(|read| read.node).collect();
    let missing: Vec<&str> = counter.nodes.difference(&read_on).map(|node| node.as_str()).collect();
    if !missing.is_empty() {
        return (Verdict::Unknown, format!("no final read succeeded on {}", missing.join(", ")));
    }
    let text = format!(
        "all {} reads are possible, and {} final reads agree on {}",
        counter.reads.len(),
        finals.len(),
        finals[0].value
    );
    (Verdict::Valid, text)
}

fn read_counter(history: &History) -> Result<Counter, String> {
    let mut counter = Counter::default();
    for (invoke, completion) in crate::budget::client_pairs(history) {
        let outcome = completion.map_or(OpType::Info, |c| c.op_type);
        let process = invoke.process.client().unwrap_or_default();
        let ok = completion.filter(|_| outcome == OpType::Ok);
        counter.nodes.extend(completion.and_then(|c| c.node).or(invoke.node));
        match invoke.f.as_str() {
            "increment" | "decrement" if outcome != OpType::Fail => {
                let amount = match told::argument(invoke, ok)? {
                    Value::Nil => 1,
                    value => integer(invoke, value)?,
                };
                let delta = if invoke.f == "decrement" { -amount } else { amount };
                let ok = ok.map(|c| c.index);
                counter.adds.push(Add { delta, process, invoke: invoke.index, ok });
            }
            "read" | "final-read" => {
                let Some(done) = ok else { continue };
                let marked = |op: &Op| op.extra("final?") == Some(&Value::Bool(true));
                counter.reads.push(Read {
                    value: integer(done, &done.value)?,
                    process,
                    invoke: invoke.index,
                    completion: done.index,
                    node: done.node.or(invoke.node),
                    is_final: invoke.f == "final-read" || marked(invoke) || marked(done),
                });
            }
            _ if outcome == OpType::Fail => {}
            other => {
                return Err(format!(
                    "record {}: a counter has :increment, :decrement, :read and :final-read, not \
                     :{other}",
                    invoke.index
                ));
            }
        }
    }
    counter.reads.sort_by_key(|read| read.completion);
    Ok(counter)
}

fn integer(op: &Op, value: &Value) -> Result<i128, String> {
    // A hundred million additions of such a size still fit into 128 bits.
    let number = Exact::of(value).and_then(|number| number.as_i128());
    let number = number.filter(|n| n.unsigned_abs() < 1 << 96);
    number.ok_or_else(|| format!("record {}: :{} needs an integer, not {value}", op.index, op.f))
}
