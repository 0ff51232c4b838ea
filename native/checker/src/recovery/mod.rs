//! `recovery`: after the last heal, every function that once succeeded on a node answers there again.
//!
//! The last heal is the last record that ends a fault which had been in effect
//! ([`FaultLog::last_heal`]). Judged is each function on each node on which it ever succeeded; without
//! nodes in the records, each function. An answer is an `ok`, or a `fail` with an error of the domain
//! ([`answers`]).
//!
//! - Asked often enough since the last heal and never answered: anomaly `never-recovered`. Often enough is
//!   a number of asks over a span of time (options `asks` and `span-ms`; see [`asks`] for functions
//!   that fail by nature).
//! - Answered after the heal, or in a run without faults, and then silent to the end in the same sense:
//!   anomaly `stopped-working`.
//! - A node on which nothing is answered is judged by all operations on it together.
//! - Asked less, or not at all: `unknown`, with the name of the node.
//! - With the option `within`: an ask that was still without an answer so many milliseconds after the last heal is
//!   `late-recovery`, or `never-recovered` if no answer came at all. Time in which nothing was asked is not
//!   silence: it leaves the question open.
//! - A node that was asked and never answered anything, while others did: `unknown`.
//!
//! Nodes on which the effect of a fault outlives its heal (damaged files, members that were removed) are
//! left out, by the record ([`FaultLog::lasting`]). A fault that was never healed: `unknown`.
//!
//! Linear in the records.

mod answers;
mod asks;

use std::collections::{BTreeMap, BTreeSet};

use fuzz_dist_core::fault_log::Moment;
use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, FaultLog, History, Op, OpType, Sym, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, or_unknown};
pub use answers::is_answer;
pub use asks::{ASKS_MIN, SPAN_MIN_NS};
use asks::{Ask, Asks, Bounds, End, Nature};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "recovery",
    about: "Whether every function that once succeeded on a node answers there again after the last heal, \
            and how long that took. Invalid if one was asked often enough and never answered, or \
            later than asked for; unknown if it was asked too little, or without faults. A fail with an \
            error of the domain, such as taken or mismatch, is an answer.",
    needs: &[need("recovered", "nothing answered after the last heal")],
    options: &[
        OptionInfo {
            name: "within",
            default: "no limit",
            about: "milliseconds after the last heal in which everything must have answered again",
        },
        OptionInfo {
            name: "asks",
            default: "10",
            about: "how many operations without an answer are silence",
        },
        OptionInfo {
            name: "span-ms",
            default: "10000",
            about: "in what time at least these operations must have been tried",
        },
        OptionInfo {
            name: "heal",
            default: "fault-healed, heal, stop…, resume…, reset…, restart…, start after a kill",
            about: "functions of the nemesis that end faults, as a list or with commas",
        },
        OptionInfo {
            name: "without-faults",
            default: "unknown",
            about: "unknown, or judge: what to do with a history without faults, in which something may \
                    have stopped working all the same",
        },
    ],
};

/// How many anomalies are listed.
const ANOMALIES_MAX: usize = 16;

/// The checker.
#[derive(Debug, Clone)]
pub struct Recovery {
    within_ns: Option<i64>,
    heals: Option<Vec<String>>,
    bounds: Bounds,
    judges_without_faults: bool,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Recovery, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    // A month is more than any run; the bound keeps sums in range.
    let ns = |ms: f64| (ms.min(2_592_000_000.0) * 1e6) as i64;
    let within_ns = match reader.raw("within") {
        None => None,
        Some(_) => Some(ns(reader.number("within", 0.0)?)),
    };
    Ok(Recovery {
        within_ns,
        heals: reader.words("heal")?,
        bounds: Bounds {
            asks: reader.number("asks", ASKS_MIN as f64)?.max(1.0) as u64,
            span_ns: ns(reader.number("span-ms", SPAN_MIN_NS as f64 / 1e6)?),
        },
        judges_without_faults: reader.word("without-faults", &["unknown", "judge"], "unknown")?
            == "judge",
    })
}

impl Checker for Recovery {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        let log = FaultLog::with_heals(history, self.heals.as_deref());
        let heal = self.last_heal(history, &log);
        or_unknown(INFO.name, heal.map(|heal| self.judge(history, &log, heal)))
    }
}

/// A function, and the node that it was asked on.
type Subject = (Sym, Option<Sym>);

/// Where the operation was performed.
fn node_of(invoke: &Op, completion: Option<&Op>) -> Option<Sym> {
    completion.and_then(|done| done.node).or(invoke.node)
}

/// `:read on n3`.
fn name((f, node): Subject) -> String {
    match node {
        Some(node) => format!(":{f} on {node}"),
        None => format!(":{f}"),
    }
}

/// All asks of a history.
struct Asked {
    by_subject: BTreeMap<(&'static str, &'static str), (Subject, Asks)>,
    end: Moment,
}

impl Asked {
    fn new(history: &History) -> Asked {
        let ops = history.ops();
        let end = Moment {
            index: ops.len() as u64,
            time_ns: ops.iter().map(|op| op.time_ns).max().unwrap_or(0),
        };
        let mut by_subject = BTreeMap::new();
        for (invoke, completion) in crate::budget::client_pairs(history) {
            let subject = (invoke.f, node_of(invoke, completion));
            let order = (invoke.f.as_str(), subject.1.map_or("", Sym::as_str));
            let at = |op: &Op| Moment { index: op.index, time_ns: op.time_ns };
            let (_, asks) = by_subject.entry(order).or_insert((subject, Asks::default()));
            asks.0.push(Ask {
                invoke: at(invoke),
                end: completion.map_or(end, at),
                is_answered: is_answer(completion),
                is_ok: completion.is_some_and(|done| done.op_type == OpType::Ok),
            });
        }
        Asked { by_subject, end }
    }

    fn iter(&self) -> impl Iterator<Item = (Subject, &Asks)> {
        self.by_subject.values().map(|(subject, asks)| (*subject, asks))
    }

    /// How often each function was answered while no fault was in effect and the silence that is to be
    /// judged had not begun.
    fn natures(&self, log: &FaultLog, heal: Option<Moment>) -> BTreeMap<&'static str, Nature> {
        let broken = merged(log.windows().collect());
        let mut natures: BTreeMap<&'static str, Nature> = BTreeMap::new();
        for ((f, _), asks) in self.iter() {
            let nature = natures.entry(f.as_str()).or_default();
            let silent_from = asks.silence(heal).first().map_or(u64::MAX, |ask| ask.invoke.index);
            for ask in asks.0.iter().filter(|ask| ask.invoke.index < silent_from) {
                if ask.is_answered {
                    nature.answered += 1;
                } else if !overlaps(&broken, (ask.invoke.time_ns, ask.end.time_ns)) {
                    nature.unanswered += 1;
                }
            }
        }
        natures
    }

    /// Nodes that were asked and never answered anything, while some other one did.
    fn mute(&self) -> Vec<&'static str> {
        let mut answered: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
        for ((_, node), asks) in self.iter() {
            let Some(node) = node else { continue };
            let (count, any) = answered.entry(node.as_str()).or_default();
            *count += asks.0.len() as u64;
            *any |= asks.0.iter().any(|ask| ask.is_answered);
        }
        if answered.values().all(|(_, any)| !any) {
            return Vec::new();
        }
        let mute = answered.into_iter().filter(|(_, (count, any))| !any && *count > 1);
        mute.map(|(node, _)| node).collect()
    }
}

/// Windows that overlap or touch, joined, in order.
fn merged(mut windows: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    windows.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (from, to) in windows {
        match joined.last_mut().filter(|last| last.1 >= from) {
            Some(last) => last.1 = last.1.max(to),
            None => joined.push((from, to)),
        }
    }
    joined
}

fn overlaps(joined: &[(i64, i64)], (from, to): (i64, i64)) -> bool {
    let next = joined.partition_point(|window| window.1 < from);
    joined.get(next).is_some_and(|window| window.0 <= to)
}

impl Recovery {
    /// The record after which no fault was in effect any more; `None` in a history without faults, if that
    /// is to be judged.
    fn last_heal(&self, history: &History, log: &FaultLog) -> Result<Option<Moment>, String> {
        if let Some(open) = log.open().next() {
            let index = open.begun.map_or(0, |begun| begun.index);
            return Err(format!(
                "a fault was never healed, so there is nothing to recover from: {} (record {index})",
                open.kind
            ));
        }
        let heal = log.last_heal();
        if heal.is_none() && !self.judges_without_faults {
            return Err("no fault was ever healed: nothing to recover from".to_owned());
        }
        if heal.is_some_and(|heal| heal.time_ns < 0)
            || history.ops().first().is_some_and(|op| op.time_ns < 0)
        {
            return Err("the history has no times, so recovery cannot be timed".to_owned());
        }
        Ok(heal)
    }

    fn judge(&self, history: &History, log: &FaultLog, heal: Option<Moment>) -> CheckResult {
        let asked = Asked::new(history);
        let natures = asked.natures(log, heal);
        let lasting = log.lasting();
        let is_excepted = |node: Option<Sym>| node.is_some_and(|n| lasting.contains(n.as_str()));
        let mut found = Findings::new(heal, asked.end, self.within_ns);
        let silent = match self.within_ns.and(heal) {
            None => self.silent_nodes(&asked, &natures, heal),
            // Then each function has a deadline of its own.
            Some(_) => BTreeMap::new(),
        };
        for (node, asks) in silent.iter().filter(|(node, _)| !lasting.contains(**node)) {
            found.add(node, asks, End::Silent);
        }
        for (subject, asks) in asked.iter().filter(|(_, asks)| asks.has_succeeded()) {
            let is_told = subject.1.is_some_and(|node| silent.contains_key(node.as_str()));
            if is_excepted(subject.1) || is_told {
                continue;
            }
            let nature = natures.get(subject.0.as_str()).copied().unwrap_or_default();
            found.add(&name(subject), asks, asks.end(heal, nature, self.bounds));
        }
        for node in asked.mute().into_iter().filter(|node| !lasting.contains(*node)) {
            found.open.insert(format!("{node} never answered anything"));
        }
        let mut result = found.result();
        result.details = json!({
            "last-heal": heal.map(|heal| heal.index),
            "by-f-ms": table(heal, asked.iter().map(|((f, _), asks)| (f.as_str(), asks))),
            "by-node-ms": table(
                heal,
                asked.iter().filter_map(|((_, node), asks)| Some((node?.as_str(), asks))),
            ),
            "excepted-nodes": lasting,
        });
        result
    }
}

impl Recovery {
    /// Nodes that answered and then were silent, whatever they were asked.
    fn silent_nodes(
        &self,
        asked: &Asked,
        natures: &BTreeMap<&'static str, Nature>,
        heal: Option<Moment>,
    ) -> BTreeMap<&'static str, Asks> {
        let mut nodes: BTreeMap<&'static str, Asks> = BTreeMap::new();
        for ((_, node), asks) in asked.iter() {
            let Some(node) = node else { continue };
            nodes.entry(node.as_str()).or_default().0.extend(&asks.0);
        }
        let mut nature = Nature::default();
        for one in natures.values() {
            nature.answered += one.answered;
            nature.unanswered += one.unanswered;
        }
        nodes.retain(|_, asks| {
            asks.0.sort_unstable_by_key(|ask| ask.invoke);
            asks.has_succeeded() && asks.end(heal, nature, self.bounds) == End::Silent
        });
        nodes
    }
}

/// Milliseconds from the last heal to the first answer, by name.
fn table<'a>(
    heal: Option<Moment>,
    rows: impl Iterator<Item = (&'a str, &'a Asks)>,
) -> serde_json::Map<String, serde_json::Value> {
    let mut firsts: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    for (name, asks) in rows.filter(|(_, asks)| asks.has_succeeded()) {
        let first = asks.first_answer(heal).map(|ask| ask.end.time_ns);
        let known = firsts.entry(name).or_insert(first);
        *known = [*known, first].into_iter().flatten().min();
    }
    let ms = |ns: i64| heal.map(|heal| (ns - heal.time_ns) as f64 / 1e6);
    firsts.into_iter().map(|(name, at)| (name.to_owned(), json!(at.and_then(ms)))).collect()
}

/// What was found.
struct Findings {
    heal: Option<Moment>,
    end: Moment,
    within_ns: Option<i64>,
    anomalies: Vec<Anomaly>,
    count: u64,
    /// What could not be decided.
    open: BTreeSet<String>,
    recovered: u64,
    slowest_ns: i64,
}

impl Findings {
    fn new(heal: Option<Moment>, end: Moment, within_ns: Option<i64>) -> Findings {
        Findings {
            heal,
            end,
            within_ns,
            anomalies: Vec::new(),
            count: 0,
            open: BTreeSet::new(),
            recovered: 0,
            slowest_ns: 0,
        }
    }

    /// `the last heal (record 12)`.
    fn since(&self) -> String {
        match self.heal {
            Some(heal) => format!("after the last heal (record {})", heal.index),
            None => "to the end".to_owned(),
        }
    }

    fn add(&mut self, what: &str, asks: &Asks, end: End) {
        if let (Some(within_ns), Some(heal)) = (self.within_ns, self.heal) {
            return self.add_within(what, asks, heal, within_ns);
        }
        match end {
            End::Silent => self.silent(what, asks),
            End::NotAsked => {
                self.open.insert(format!("{what} was not asked {}", self.since()));
            }
            End::Doubtful => {
                let count = asks.silence(self.heal).len();
                self.open.insert(format!(
                    "{what} did not answer {} times at the end, {}",
                    count,
                    self.since()
                ));
            }
            End::Answered => self.answered(asks),
        }
    }

    fn answered(&mut self, asks: &Asks) {
        self.recovered += 1;
        if let (Some(heal), Some(first)) = (self.heal, asks.first_answer(self.heal)) {
            let took_ns = first.end.time_ns.saturating_sub(heal.time_ns);
            self.slowest_ns = self.slowest_ns.max(took_ns);
        }
    }

    fn silent(&mut self, what: &str, asks: &Asks) {
        let silence = asks.silence(self.heal);
        let (Some(first), Some(last)) = (silence.first(), silence.last()) else { return };
        let span_ns =
            silence.iter().map(|ask| ask.end.time_ns).max().unwrap_or(0) - first.invoke.time_ns;
        let before = asks.0.iter().rev().find(|ask| ask.is_answered);
        let (name, how) = match asks.first_answer(self.heal) {
            None => ("never-recovered", format!("never answered again {}", self.since())),
            Some(_) => ("stopped-working", "stopped working while nothing was broken".to_owned()),
        };
        let text = format!("{what} {how}: {} operations in {:.1} s", silence.len(), secs(span_ns));
        let mut ops: Vec<u64> = before.iter().flat_map(|a| [a.invoke.index, a.end.index]).collect();
        ops.extend(self.heal.map(|heal| heal.index));
        ops.extend([first.invoke.index, last.invoke.index]);
        ops.sort_unstable();
        ops.dedup();
        self.tell(name, what, text, ops);
    }

    /// Judges against a deadline: only an ask that was unanswered at the deadline or later proves anything.
    fn add_within(&mut self, what: &str, asks: &Asks, heal: Moment, within_ns: i64) {
        let deadline_ns = heal.time_ns.saturating_add(within_ns);
        let since = asks.since(self.heal);
        let first = asks.first_answer(self.heal);
        let is_late = |ask: &&Ask| {
            ask.end.time_ns >= deadline_ns && first.is_none_or(|f| ask.invoke.index < f.end.index)
        };
        let mut unanswered = since.iter().filter(|ask| !ask.is_answered);
        let proof = unanswered.find(is_late);
        match (first, proof) {
            (Some(ask), _) if ask.end.time_ns <= deadline_ns => self.answered(asks),
            (Some(ask), proof) if proof.is_some() || ask.invoke.time_ns <= deadline_ns => {
                self.answered(asks);
                let took_ns = ask.end.time_ns - heal.time_ns;
                let text = format!(
                    "{what} first answered {:.1} ms after the last heal (record {}), at record {}, not \
                     within {:.1} ms",
                    millis(took_ns),
                    heal.index,
                    ask.end.index,
                    millis(within_ns)
                );
                let ops = vec![heal.index, ask.invoke.index, ask.end.index];
                self.tell("late-recovery", what, text, ops);
            }
            (None, Some(proof)) => {
                let text = format!(
                    "{what} never answered again after the last heal (record {}): {} operations until \
                     {:.1} ms after it",
                    heal.index,
                    since.len(),
                    millis(self.end.time_ns - heal.time_ns)
                );
                let ops = vec![heal.index, proof.invoke.index];
                self.tell("never-recovered", what, text, ops);
            }
            (Some(_), _) => {
                self.open.insert(format!("{what} was not asked when its time was up"));
            }
            (None, None) if since.is_empty() => {
                self.open.insert(format!("{what} was not asked {}", self.since()));
            }
            (None, None) => {
                self.open.insert(format!("{what} had not answered when the history ended"));
            }
        }
    }

    fn tell(&mut self, name: &str, what: &str, text: String, ops: Vec<u64>) {
        self.count += 1;
        if self.anomalies.len() < ANOMALIES_MAX {
            let (name, key) = (name.to_owned(), Some(what.to_owned()));
            self.anomalies.push(Anomaly { name, key, text, ops, ..Anomaly::default() });
        }
    }

    fn result(self) -> CheckResult {
        let slowest_ms = millis(self.slowest_ns);
        let (verdict, reason) = match self.anomalies.first() {
            Some(first) => {
                let more = self.count - 1;
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                (Verdict::Invalid, format!("{}: {}{more}", first.name, first.text))
            }
            None if !self.open.is_empty() => {
                const SHOWN: usize = 4;
                let more = self.open.len().saturating_sub(SHOWN);
                let more = if more > 0 { format!("; and {more} more") } else { String::new() };
                let open: Vec<String> = self.open.into_iter().take(SHOWN).collect();
                let text = format!("asked too little to tell: {}{more}", open.join("; "));
                (Verdict::Unknown, text)
            }
            None if self.recovered == 0 => {
                let text = "no operation ever succeeded on a node that is judged";
                (Verdict::Unknown, text.to_owned())
            }
            None if self.heal.is_none() => {
                (Verdict::Valid, "everything still answered at the end".to_owned())
            }
            None => {
                let text =
                    format!("everything answered again within {slowest_ms:.1} ms of the last heal");
                (Verdict::Valid, text)
            }
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        result.counts.insert("recovered".into(), self.recovered);
        result.counts.insert("not-recovered".into(), self.count);
        result.counts.insert("recovery-ms-max".into(), slowest_ms.ceil() as u64);
        result.anomalies = self.anomalies;
        result
    }
}

fn millis(ns: i64) -> f64 {
    ns as f64 / 1e6
}

fn secs(ns: i64) -> f64 {
    ns as f64 / 1e9
}
