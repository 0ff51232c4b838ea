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
//! In a history without nodes, faults and marks, as others record them, the last read of each process is
//! wrong as well if it was invoked after all additions had ended and lacks one that succeeded. It is no proof
//! of convergence, so without marks there is no pass.
//!
//! **Method.** The possible sums as a set of ranges (see [`crate::ranges`]), grown addition by addition
//! for each process that reads, while they are few. Past that each read is decided by itself
//! ([`sums`]): exact, or undecided, and then the verdict is `unknown` unless another read is wrong.
//! [`missing`] explains what a final read lacks.
//!
//! Without a final read, or without one on a node that took part, convergence was not tested:
//! `unknown`.

mod missing;
mod sums;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fuzz_dist_core::number::Exact;
use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Sym, Value, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::faults;
use crate::independent::INDEPENDENT;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::pn_counter::sums::{Sum, Sums};
use crate::ranges::Ranges;
use crate::{Checker, CheckerInfo, told};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "pn-counter",
    about: "Whether every read of a convergent counter (increment, decrement, read) is a possible sum: \
            the process's own completed additions and any subset of others' that were invoked; and \
            whether all final reads (read with :final? true, or final-read) are equal and hold every \
            addition that succeeded. Unknown without final reads on every node.",
    needs: &[
        need("additions", "there is no :increment and no :decrement that may have happened"),
        need("final-reads", "no final :read succeeded"),
    ],
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
/// How many ranges of sums are kept for every read.
const RANGES_MAX: usize = 256;

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
    node: Option<Sym>,
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
    /// Whether nothing is marked as final, and what is was found by its place.
    is_inferred: bool,
}

/// What a process can have seen so far, without its own additions.
struct View {
    /// What the additions of others can add up to, while that is few ranges.
    ranges: Option<Ranges>,
    /// The additions of others.
    others: Sums,
    /// How many of the additions, in order of invocation, have been taken in.
    taken: usize,
    /// Sum of its own completed additions.
    own: i128,
    last: Option<(i128, u64)>,
}

impl View {
    fn new() -> View {
        View {
            ranges: Some(Ranges::only(0)),
            others: Sums::default(),
            taken: 0,
            own: 0,
            last: None,
        }
    }

    fn push(&mut self, add: &Add) {
        let delta = add.delta;
        self.others.push(delta, add.ok.is_some());
        let fits = |ranges: &mut Ranges| ranges.grow(delta) && ranges.count() <= RANGES_MAX;
        if !self.ranges.as_mut().is_some_and(fits) {
            self.ranges = None;
        }
    }

    /// Whether some of the additions of others add up to this.
    fn decide(&self, target: i128, meter: &Meter) -> Sum {
        match &self.ranges {
            Some(ranges) if ranges.contains(target) => Sum::Possible,
            Some(_) => Sum::Impossible,
            None => self.others.decide(target, meter),
        }
    }

    /// What is possible, with `offset` added, in a few words.
    fn possible(&self, offset: i128) -> String {
        let (low, high) = self.others.bounds();
        let few = self.ranges.as_ref().and_then(|ranges| ranges.text(offset));
        few.unwrap_or_else(|| {
            format!("some of the values from {} to {}", low + offset, high + offset)
        })
    }
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    anomalies: Vec<Anomaly>,
    anomaly_count: u64,
    undecided: u64,
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
        check_finals(history, &counter, &finals, meter, &mut found);
        found.in_order();
        let (verdict, reason) = verdict(&counter, &finals, &found);
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        let indeterminate = counter.adds.iter().filter(|add| add.ok.is_none()).count();
        let counts = [
            ("additions", counter.adds.len() as u64),
            ("indeterminate-additions", indeterminate as u64),
            ("reads", counter.reads.len() as u64),
            ("final-reads", if counter.is_inferred { 0 } else { finals.len() as u64 }),
            ("impossible-reads", found.anomaly_count),
            ("undecided-reads", found.undecided),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
        result.details = json!({
            "final-reads": finals.iter().map(|read| json!({
                "node": read.node.map(Sym::as_str), "value": read.value.to_string(),
            })).collect::<Vec<_>>(),
        });
        result.anomalies = found.anomalies;
        result
    }

    fn check_reads(&self, counter: &Counter, meter: &Meter, found: &mut Findings) {
        let mut views: HashMap<i64, View> = HashMap::new();
        for read in &counter.reads {
            let view = views.entry(read.process).or_insert_with(View::new);
            if self.monotonic {
                check_monotonic(read, view, found);
            }
            view.last = Some((read.value, read.completion));
            self.take_in(counter, read, view);
            let own = view.own;
            match view.decide(read.value - own, meter) {
                Sum::Possible => {}
                Sum::Open => found.undecided += 1,
                Sum::Impossible => {
                    let text = format!(
                        "process {}{} read {} at record {}, but with its own additions ({own}) and any of \
                         the others' only {} is possible",
                        read.process,
                        on(read.node),
                        read.value,
                        read.completion,
                        view.possible(own),
                    );
                    found.add("value-not-possible", text, vec![read.invoke, read.completion]);
                }
            }
        }
    }

    fn is_own(&self, add: &Add, read: &Read) -> bool {
        self.read_your_writes && add.process == read.process && add.ok.is_some()
    }

    /// Lets the view grow by what was invoked before the read completed.
    fn take_in(&self, counter: &Counter, read: &Read, view: &mut View) {
        while let Some(add) = counter.adds.get(view.taken).filter(|a| a.invoke < read.completion) {
            view.taken += 1;
            match self.is_own(add, read) {
                true => view.own += add.delta,
                false => view.push(add),
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
fn check_finals(
    history: &History,
    counter: &Counter,
    finals: &[&Read],
    meter: &Meter,
    found: &mut Findings,
) {
    // Final reads with the same certain and optional additions share their sums.
    let mut shared: BTreeMap<(i128, usize, usize), View> = BTreeMap::new();
    for read in finals {
        let certain = |add: &&Add| add.ok.is_some_and(|ok| ok < read.invoke);
        let before = || counter.adds.iter().take_while(|add| add.invoke < read.completion);
        let sum: i128 = before().filter(certain).map(|add| add.delta).sum();
        let optional = || before().filter(|add| !certain(add));
        let key = (sum, before().count(), optional().count());
        let view = shared.entry(key).or_insert_with(|| {
            let mut view = View::new();
            optional().for_each(|add| view.push(add));
            view
        });
        match view.decide(read.value - sum, meter) {
            Sum::Possible => {}
            Sum::Open => found.undecided += 1,
            Sum::Impossible => {
                let mut acknowledged: Vec<&Add> = before().filter(certain).collect();
                acknowledged.sort_by_key(|add| add.ok);
                let (text, ops) = not_possible(history, counter, read, &acknowledged, view);
                found.add("final-value-not-possible", text, ops);
            }
        }
    }
    if let Some((first, other)) = finals
        .first()
        .and_then(|first| Some((first, finals.iter().find(|r| r.value != first.value)?)))
    {
        const SHOWN: usize = 8;
        let values: Vec<String> = finals
            .iter()
            .take(SHOWN)
            .map(|read| format!("{}{}", read.value, on(read.node)))
            .collect();
        let more = match finals.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let text = format!("final reads differ: {}{more}", values.join(", "));
        let ops = vec![first.invoke, first.completion, other.invoke, other.completion];
        found.add("final-reads-not-equal", text, ops);
    }
}

/// A final read that lacks what it has to hold, or holds more: what is missing, the first read that went
/// back, and the fault before it.
fn not_possible(
    history: &History,
    counter: &Counter,
    read: &Read,
    acknowledged: &[&Add],
    view: &View,
) -> (String, Vec<u64>) {
    const SHOWN: usize = 8;
    let sum: i128 = acknowledged.iter().map(|add| add.delta).sum();
    let place = match read.node {
        Some(node) => format!("{node}"),
        None => format!("process {}", read.process),
    };
    let with = match view.others.len() {
        0 => format!("{sum}"),
        count => format!("{} with {count} that may have happened", view.possible(sum)),
    };
    let (low, high) = view.others.bounds();
    let off = match read.value - sum {
        less if less < low => format!(": {} too little", low - less),
        more if more > high => format!(": {} too much", more - high),
        _ => String::new(),
    };
    let mut text = format!(
        "the final read of {place} is {} (record {}), but all acknowledged additions give {with}{off}",
        read.value, read.completion
    );
    let mut ops = vec![read.invoke, read.completion];
    let missing = missing::explain(history, acknowledged, read.value);
    let mut since = None;
    if let Some(missing) = &missing {
        text.push_str(&format!("; {}", missing.text));
        since = missing.adds.iter().map(|add| add.invoke).min();
        ops.extend(missing.adds.iter().take(SHOWN).flat_map(|add| std::iter::once(add.invoke)));
    }
    let back = missing::first_that_went_back(&counter.adds, &counter.reads);
    if let Some((before, after)) = back {
        let who = match after.node {
            Some(node) => format!("{node}"),
            None => format!("process {}", after.process),
        };
        text.push_str(&format!(
            "; {who} read {} (record {}) and then {} (record {}): the first read that went back",
            before.value, before.completion, after.value, after.completion
        ));
        ops.extend([before.completion, after.invoke, after.completion]);
    }
    let until = back.map_or(read.invoke, |(_, after)| after.invoke);
    let spans = faults::spans(history);
    let relevant = spans
        .iter()
        .rfind(|span| span.begun.0 < until && since.is_none_or(|since| span.ended.0 >= since));
    if let Some(fault) = relevant {
        let at = match fault.begun.1 {
            ..0 => format!("record {}", fault.begun.0),
            ns => format!("{:.3} s", ns as f64 / 1e9),
        };
        text.push_str(&format!("; the last fault before it is {}, from {at}", fault.name));
    }
    (text, ops)
}

impl Findings {
    fn add(&mut self, name: &str, text: String, ops: Vec<u64>) {
        self.anomaly_count += 1;
        let told = self.anomalies.iter().filter(|anomaly| anomaly.name == name).count();
        if told < ANOMALIES_MAX {
            let anomaly = Anomaly { name: name.into(), key: None, text, ops, ..Anomaly::default() };
            self.anomalies.push(anomaly);
        }
    }

    /// What did not converge tells most, and then the first read that went back.
    fn in_order(&mut self) {
        self.anomalies.sort_by_key(|anomaly| match anomaly.name.as_str() {
            "final-value-not-possible" => 0,
            "final-reads-not-equal" => 1,
            "value-not-monotonic" => 2,
            _ => 3,
        });
        self.anomalies.truncate(ANOMALIES_MAX);
    }
}

fn verdict(counter: &Counter, finals: &[&Read], found: &Findings) -> (Verdict, String) {
    if let Some(first) = found.anomalies.first() {
        let more = found.anomaly_count - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        return (Verdict::Invalid, format!("{}: {}{more}", first.name, first.text));
    }
    if found.undecided > 0 {
        let text = format!(
            "{} of {} reads are undecided: whether some of so many additions add up to them was not \
             found. Smaller amounts, fewer indeterminate additions or more frequent reads would help",
            found.undecided,
            counter.reads.len()
        );
        return (Verdict::Unknown, text);
    }
    if finals.is_empty() || counter.is_inferred {
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
                let node = completion.and_then(|c| c.node).or(invoke.node);
                counter.adds.push(Add { delta, process, invoke: invoke.index, ok, node });
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
    mark_last(history, &mut counter);
    Ok(counter)
}

/// Where nothing is marked and no node is named, the last read of each process is final if everything had
/// ended before it.
fn mark_last(history: &History, counter: &mut Counter) {
    let is_marked = counter.reads.iter().any(|read| read.is_final);
    if !counter.nodes.is_empty() || is_marked || !faults::spans(history).is_empty() {
        return;
    }
    counter.is_inferred = true;
    let answer = |add: &Add| history.pair(add.invoke as usize).map_or(u64::MAX, |at| at as u64);
    let Some(ended) = counter.adds.iter().map(answer).max() else { return };
    let mut last: BTreeMap<i64, usize> = BTreeMap::new();
    for (i, read) in counter.reads.iter().enumerate().filter(|(_, read)| read.invoke > ended) {
        last.insert(read.process, i);
    }
    for i in last.into_values() {
        counter.reads[i].is_final = true;
    }
}

fn integer(op: &Op, value: &Value) -> Result<i128, String> {
    // A hundred million additions of such a size still fit into 128 bits.
    let number = Exact::of(value).and_then(|number| number.as_i128());
    let number = number.filter(|n| n.unsigned_abs() < 1 << 96);
    number.ok_or_else(|| format!("record {}: :{} needs an integer, not {value}", op.index, op.f))
}
