//! `recovery`: after the last heal, operations of every function and on every node succeed again.
//!
//! The last heal is the last record of the nemesis that ends a fault: `fault-healed` and
//! `fault-heal-observed` of our runs; in Jepsen's histories `heal`, `stop`, `resume`, `reset`, `restart` and
//! names that begin with these (`stop-partition`), and `start` after a `kill` (option `heal` names
//! others). Recovery of a function or node takes from there to the first ok completion of an operation
//! that was invoked after it. Counted are functions and nodes of which any operation ever succeeded, and
//! nodes that are not gone for good at the end.
//!
//! - Tried after the heal and never ok: anomaly `never-recovered`, unless the option `within` is given and
//!   the history ends before that time.
//! - Later than `within` milliseconds: anomaly `late-recovery`.
//! - No fault, a fault that was never healed, or nothing tried after the heal: `unknown`.
//!
//! Linear. A function that fails for reasons of its own (a cas on a value that is not there) recovers
//! when it first succeeds.

use std::collections::{BTreeMap, BTreeSet};

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Process, Value, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::registry::quiet::Cluster;
use crate::{Checker, CheckerInfo, or_unknown};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "recovery",
    about: "How long after the last heal operations of each function, and on each node, succeeded again. \
            Invalid if any was tried and never did, or later than asked for; unknown without faults, or \
            if the history ends too soon to tell.",
    options: &[
        OptionInfo {
            name: "within",
            default: "no limit",
            about: "milliseconds after the last heal in which everything must have succeeded again",
        },
        OptionInfo {
            name: "heal",
            default: "fault-healed, heal, stop…, resume…, reset…, restart…, start after a kill",
            about: "functions of the nemesis that end faults, as a list or with commas",
        },
    ],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;

/// The checker.
#[derive(Debug, Clone)]
pub struct Recovery {
    within_ns: Option<i64>,
    heals: Option<Vec<String>>,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Recovery, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let within_ns = match reader.raw("within") {
        None => None,
        // A month is more than any run; the bound keeps the sum in range.
        Some(_) => Some((reader.number("within", 0.0)?.min(2_592_000_000.0) * 1e6) as i64),
    };
    Ok(Recovery { within_ns, heals: reader.words("heal")? })
}

impl Checker for Recovery {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        or_unknown(INFO.name, self.last_heal(history).map(|heal| self.judge(history, heal)))
    }
}

/// What happened of one function or node since the last heal.
#[derive(Debug, Default)]
struct Since<'a> {
    /// Whether any operation of it ever succeeded.
    ever: bool,
    /// First invocation after the heal, and how many.
    tried: Option<&'a Op>,
    tries: u64,
    /// The first success: invocation and completion.
    ok: Option<(&'a Op, &'a Op)>,
}

impl<'a> Since<'a> {
    fn add(&mut self, heal: &Op, invoke: &'a Op, completion: Option<&'a Op>) {
        let ok = completion.filter(|done| done.op_type == OpType::Ok);
        self.ever |= ok.is_some();
        if invoke.index < heal.index {
            return;
        }
        self.tries += 1;
        self.tried.get_or_insert(invoke);
        if let Some(done) = ok
            && self.ok.is_none_or(|(_, first)| done.index < first.index)
        {
            self.ok = Some((invoke, done));
        }
    }
}

impl Recovery {
    /// The record after which no fault was active any more.
    fn last_heal<'a>(&self, history: &'a History) -> Result<&'a Op, String> {
        let nemesis = Process::nemesis();
        let mut active: BTreeMap<String, &Op> = BTreeMap::new();
        let mut heal: Option<&Op> = None;
        let mut begun = false;
        // A Jepsen nemesis records each of its operations twice, when it begins and when it is done.
        let mut undone: Option<(&str, bool)> = None;
        for op in history.ops().iter().filter(|op| op.process == nemesis) {
            let f = op.f.as_str();
            let id = op.value.get("id").map(Value::to_string);
            match (f, id) {
                ("fault-start" | "fault-applied", Some(id)) => {
                    active.entry(id).or_insert(op);
                    begun = true;
                }
                ("fault-failed", Some(id)) => {
                    active.remove(&id);
                }
                ("fault-healed" | "fault-heal-observed", Some(id)) => {
                    active.remove(&id);
                    heal = Some(op);
                }
                _ if f.starts_with("fault-") || f == "connectivity" => {}
                _ if undone.is_some_and(|(before, _)| before == f) => {
                    if undone.take().is_some_and(|(_, healed)| healed) {
                        heal = Some(op);
                    }
                }
                _ => {
                    let healed = self.heal_of(f, active.contains_key("kill"));
                    undone = Some((f, healed.is_some()));
                    if let Some(families) = healed {
                        active.retain(|key, _| !families.contains(&key.as_str()));
                        heal = Some(op);
                    } else if let Some(family) = family(f) {
                        active.entry(family.to_owned()).or_insert(op);
                        begun = true;
                    }
                }
            }
        }
        if let Some(op) = active.values().next() {
            return Err(format!(
                "a fault that began at record {} ({} {}) was never healed, so there is nothing to recover \
                 from",
                op.index, op.f, op.value
            ));
        }
        let heal =
            heal.filter(|_| begun).ok_or("no fault was ever healed: nothing to recover from")?;
        match heal.time_ns < 0 {
            true => Err("the history has no times, so recovery cannot be timed".to_owned()),
            false => Ok(heal),
        }
    }

    /// Which families of faults of a Jepsen nemesis end with `f`, if it is a heal.
    fn heal_of(&self, f: &str, killed: bool) -> Option<&'static [&'static str]> {
        match &self.heals {
            Some(names) => names.iter().any(|name| name == f).then_some(&FAMILIES),
            None if f == "start" && killed => Some(&["kill"]),
            None if is_kind(f, "resume") => Some(&["pause"]),
            None if is_kind(f, "reset") => Some(&["clock"]),
            None if f.starts_with("stop-") => Some(&["other"]),
            None if ["heal", "stop", "restart"].iter().any(|word| is_kind(f, word)) => {
                Some(&FAMILIES)
            }
            None => None,
        }
    }

    fn judge(&self, history: &History, heal: &Op) -> CheckResult {
        let mut by_f: BTreeMap<&str, Since> = BTreeMap::new();
        let mut by_node: BTreeMap<&str, Since> = BTreeMap::new();
        let gone = Cluster::new(history, 0).gone;
        for (invoke, completion) in history.client_pairs() {
            by_f.entry(invoke.f.as_str()).or_default().add(heal, invoke, completion);
            let node = completion.and_then(|done| done.node).or(invoke.node);
            if let Some(node) = node.filter(|node| !gone.contains(node.as_str())) {
                by_node.entry(node.as_str()).or_default().add(heal, invoke, completion);
            }
        }
        let end_ns = history.ops().iter().map(|op| op.time_ns).max().unwrap_or(0);
        let mut found = Findings { heal, end_ns, within_ns: self.within_ns, ..Findings::new(heal) };
        for (f, since) in by_f.iter().filter(|(_, since)| since.ever) {
            found.add(&format!(":{f}"), since);
        }
        for (node, since) in by_node.iter().filter(|(_, since)| since.ever) {
            found.add(&format!("node {node}"), since);
        }
        let ms =
            |since: &Since| since.ok.map(|(_, done)| (done.time_ns - heal.time_ns) as f64 / 1e6);
        let table = |table: &BTreeMap<&str, Since>| {
            let rows = table.iter().map(|(name, since)| ((*name).to_owned(), json!(ms(since))));
            rows.collect::<serde_json::Map<_, _>>()
        };
        let mut result = found.result();
        result.details = json!({
            "last-heal": heal.index,
            "by-f-ms": table(&by_f),
            "by-node-ms": table(&by_node),
        });
        result
    }
}

/// Whether the name is the word, or begins with it and a dash.
fn is_kind(f: &str, word: &str) -> bool {
    f.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Faults of a Jepsen nemesis that end by different functions.
const FAMILIES: [&str; 4] = ["kill", "pause", "clock", "other"];

/// The family of the fault that a Jepsen nemesis begins with `f`.
fn family(f: &str) -> Option<&'static str> {
    const WORDS: [(&str, &str); 11] = [
        ("kill", "kill"),
        ("crash", "kill"),
        ("pause", "pause"),
        ("bump", "clock"),
        ("strobe", "clock"),
        ("scramble", "clock"),
        ("start", "other"),
        ("partition", "other"),
        ("cut", "other"),
        ("slow", "other"),
        ("flaky", "other"),
    ];
    WORDS.iter().find(|(word, _)| is_kind(f, word)).map(|(_, family)| *family)
}

/// What was found.
struct Findings<'a> {
    heal: &'a Op,
    end_ns: i64,
    within_ns: Option<i64>,
    anomalies: Vec<Anomaly>,
    count: u64,
    open: BTreeSet<String>,
    recovered: u64,
    slowest_ns: i64,
}

impl<'a> Findings<'a> {
    fn new(heal: &'a Op) -> Findings<'a> {
        Findings {
            heal,
            end_ns: 0,
            within_ns: None,
            anomalies: Vec::new(),
            count: 0,
            open: BTreeSet::new(),
            recovered: 0,
            slowest_ns: 0,
        }
    }

    /// Judges one function or node.
    fn add(&mut self, what: &str, since: &Since) {
        let after = |op: &Op| (op.time_ns - self.heal.time_ns).max(0);
        let deadline = self.within_ns.map(|within| self.heal.time_ns.saturating_add(within));
        let ended = deadline.is_none_or(|deadline| self.end_ns >= deadline);
        match (since.ok, since.tried) {
            (Some((invoke, done)), _) => {
                self.recovered += 1;
                let took = after(done);
                self.slowest_ns = self.slowest_ns.max(took);
                if let Some(within) = self.within_ns.filter(|within| took > *within) {
                    let text = format!(
                        "{what} first succeeded {:.1} ms after the last heal (record {}), at record {}, \
                         not within {:.1} ms",
                        took as f64 / 1e6,
                        self.heal.index,
                        done.index,
                        within as f64 / 1e6
                    );
                    let ops = vec![self.heal.index, invoke.index, done.index];
                    self.tell("late-recovery", what, text, ops);
                }
            }
            (None, Some(tried)) if ended => {
                let text = format!(
                    "{what} never succeeded again after the last heal (record {}), in {} operations and \
                     {:.1} ms",
                    self.heal.index,
                    since.tries,
                    (self.end_ns - self.heal.time_ns) as f64 / 1e6
                );
                let ops = vec![self.heal.index, tried.index];
                self.tell("never-recovered", what, text, ops);
            }
            (None, Some(_)) => {
                self.open.insert(format!("{what} had not succeeded when the history ended"));
            }
            (None, None) => {
                self.open.insert(format!("{what} was not tried after the last heal"));
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
        let slowest_ms = self.slowest_ns as f64 / 1e6;
        let (verdict, reason) = match self.anomalies.first() {
            Some(first) => {
                let more = self.count - 1;
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                (Verdict::Invalid, format!("{}: {}{more}", first.name, first.text))
            }
            None if !self.open.is_empty() => {
                let open: Vec<String> = self.open.iter().take(4).cloned().collect();
                let text = format!("too little after the last heal to tell: {}", open.join("; "));
                (Verdict::Unknown, text)
            }
            None if self.recovered == 0 => {
                (Verdict::Unknown, "no operation ever succeeded".to_owned())
            }
            None => {
                let text = format!(
                    "everything succeeded again within {slowest_ms:.1} ms of the last heal"
                );
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
