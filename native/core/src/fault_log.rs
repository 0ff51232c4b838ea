//! Which faults a history records: when each began, was applied, was healed, or failed.
//!
//! This is the only fold over the records of the nemesis. Checkers ask it for windows, so they cannot
//! disagree about which faults were active.
//!
//! The records of one id (`:fault-start`, `:fault-applied` …, see `doc/history.md`) are one fault, until it
//! has ended and begins again. A fault that failed before it was applied disturbs nothing; neither does
//! one that was unavailable, or whose event never came. One that failed after it was applied was
//! active until it failed. A fault without an end is active until the end of the history.
//!
//! The operations of a Jepsen nemesis (`:kill`, `:start-partition`, `:heal` …) are folded as well, by the
//! families of faults that they begin and end ([`jepsen`]).

mod jepsen;

use std::collections::{BTreeMap, BTreeSet};

use crate::history::History;
use crate::op::{Op, Process};
use crate::value::Value;

/// Kinds of faults whose effect outlives their heal: files stay as damaged as they are.
pub const LASTING_KINDS: [&str; 3] = ["file-flip", "file-truncate", "file-restore"];

/// The key of a record that lists nodes on which the effect of a fault outlives its heal.
pub const LASTING_KEY: &str = "lasting";

/// A record of the history: its position and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Position in the history.
    pub index: u64,
    /// Nanoseconds since the start of the run; negative in a history without times.
    pub time_ns: i64,
}

impl Moment {
    fn of(op: &Op) -> Moment {
        Moment { index: op.index, time_ns: op.time_ns }
    }
}

/// How a fault ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FaultEnd {
    /// Not before the end of the history.
    #[default]
    Open,
    /// It was healed.
    Healed,
    /// It could not be applied.
    Failed,
    /// The machine cannot do it; the run went on without it.
    Unavailable,
    /// The event that it waited for never came.
    Unmet,
}

/// One fault of a history.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FaultInterval {
    /// Its id in our own histories, the family of the fault in those of Jepsen.
    pub id: Value,
    /// `hold`, `kill` …
    pub kind: String,
    /// Nodes that the records name as its targets.
    pub nodes: BTreeSet<String>,
    /// Nodes on which its effect outlives its heal.
    pub lasting: BTreeSet<String>,
    /// Its first record.
    pub begun: Option<Moment>,
    /// When it was certainly in effect: applied, observed, or healed.
    pub applied: Option<Moment>,
    /// When its effect was seen.
    pub observed: Option<Moment>,
    /// Its last record that ends it: the failure, the heal, or the moment at which the heal was seen.
    pub ended: Option<Moment>,
    /// How it ended.
    pub end: FaultEnd,
    /// Why it failed, or had no effect.
    pub reason: Option<String>,
    /// Whether it was recorded by a Jepsen nemesis, which says nothing about effects.
    pub is_jepsen: bool,
}

impl FaultInterval {
    /// The stretch of time in which it was, or may have been, in effect, both ends included; the end is
    /// `i64::MAX` while it is open. `None` if it never disturbed anything.
    pub fn window(&self) -> Option<(i64, i64)> {
        let begun = self.begun?;
        match (self.ended, self.applied) {
            (None, _) => Some((begun.time_ns, i64::MAX)),
            (Some(ended), Some(_)) => Some((begun.time_ns, ended.time_ns)),
            (Some(_), None) => None,
        }
    }

    /// Whether it is, or may be, still in effect when the history ends.
    pub fn is_open(&self) -> bool {
        self.end == FaultEnd::Open
    }
}

/// All faults of a history, in the order in which they began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FaultLog {
    intervals: Vec<FaultInterval>,
    /// The newest interval of each id.
    newest: BTreeMap<Value, usize>,
    jepsen: jepsen::State,
    /// Members that were removed and had not joined again when the run looked last.
    missing_members: BTreeSet<String>,
}

impl FaultLog {
    /// Folds the records of a history.
    pub fn of(history: &History) -> FaultLog {
        FaultLog::with_heals(history, None)
    }

    /// The same, where the functions of a Jepsen nemesis that end all faults are the given ones.
    pub fn with_heals(history: &History, heals: Option<&[String]>) -> FaultLog {
        let mut log = FaultLog::default();
        log.jepsen.heals = heals.map(<[String]>::to_vec);
        let (nemesis, observer) = (Process::nemesis(), Process::observer());
        for op in history.ops() {
            if op.process == nemesis {
                log.feed(op);
            } else if op.process == observer && op.f == "membership" {
                log.missing_members = texts(op.value.get("missing")).collect();
            }
        }
        log
    }

    /// Takes the next record of the nemesis.
    fn feed(&mut self, op: &Op) {
        match (op.f.as_str(), op.value.get("id")) {
            ("connectivity", _) => {}
            (f, Some(id)) if f.starts_with("fault-") => self.feed_own(f, id, op),
            (f, None) if f.starts_with("fault-") => {}
            (f, _) => self.feed_jepsen(f, op),
        }
    }

    /// The interval that a record belongs to: the newest of its id, unless it begins another one.
    fn interval(&mut self, id: &Value, begins: bool) -> &mut FaultInterval {
        let newest = self.newest.get(id).copied();
        let position = match newest.filter(|i| !begins || self.intervals[*i].is_open()) {
            Some(position) => position,
            None => {
                self.intervals.push(FaultInterval { id: id.clone(), ..FaultInterval::default() });
                let position = self.intervals.len() - 1;
                self.newest.insert(id.clone(), position);
                position
            }
        };
        &mut self.intervals[position]
    }

    fn feed_own(&mut self, f: &str, id: &Value, op: &Op) {
        let begins = matches!(f, "fault-start" | "fault-applied");
        let fault = self.interval(id, begins);
        let now = Moment::of(op);
        fault.begun.get_or_insert(now);
        let text = |key: &str| op.value.get(key).and_then(Value::as_text).map(str::to_owned);
        if let Some(kind) = text("kind") {
            fault.kind = kind;
        }
        fault.nodes.extend(texts(op.value.get("nodes")).chain(text("node")));
        fault.lasting.extend(texts(op.value.get(LASTING_KEY)));
        match f {
            "fault-applied" => drop(fault.applied.get_or_insert(now)),
            "fault-observed" => {
                fault.applied.get_or_insert(now);
                fault.observed.get_or_insert(now);
            }
            // An effect was looked for, so it was applied.
            "fault-no-effect" => {
                fault.applied.get_or_insert(now);
                fault.reason = text("reason");
            }
            "fault-healed" | "fault-heal-observed" => {
                fault.applied.get_or_insert(now);
                (fault.end, fault.ended) = (FaultEnd::Healed, Some(now));
            }
            "fault-failed" => fault.close(FaultEnd::Failed, now, text("reason")),
            "fault-unavailable" => fault.close(FaultEnd::Unavailable, now, text("reason")),
            "fault-unmet" => fault.close(FaultEnd::Unmet, now, text("reason")),
            "fault-heal-failed" => fault.reason = text("reason"),
            _ => {}
        }
    }

    /// All faults.
    pub fn intervals(&self) -> &[FaultInterval] {
        &self.intervals
    }

    /// Stretches of time in which a fault was, or may have been, in effect, in the order of their starts in
    /// the history; they may overlap.
    pub fn windows(&self) -> impl Iterator<Item = (i64, i64)> {
        self.intervals.iter().filter_map(FaultInterval::window)
    }

    /// Faults that are in effect when the history ends.
    pub fn open(&self) -> impl Iterator<Item = &FaultInterval> {
        self.intervals.iter().filter(|fault| fault.is_open())
    }

    /// The last record that ended a fault which had been in effect.
    pub fn last_heal(&self) -> Option<Moment> {
        let disturbing = self.intervals.iter().filter(|fault| fault.window().is_some());
        disturbing.filter_map(|fault| fault.ended).max()
    }

    /// Members that were removed and had not joined again when the run looked last.
    pub fn removed_members(&self) -> &BTreeSet<String> {
        &self.missing_members
    }

    /// Nodes that a fault has changed in a way that no heal takes back: damaged files, members that were
    /// removed and did not join again, and whatever the records say lasts.
    pub fn lasting(&self) -> BTreeSet<String> {
        let mut nodes = self.missing_members.clone();
        for fault in self.intervals.iter().filter(|fault| fault.window().is_some()) {
            nodes.extend(fault.lasting.iter().cloned());
            if LASTING_KINDS.contains(&fault.kind.as_str()) {
                nodes.extend(fault.nodes.iter().cloned());
            }
        }
        nodes
    }
}

impl FaultInterval {
    /// What has been healed stays healed, whatever is recorded later.
    fn close(&mut self, end: FaultEnd, now: Moment, reason: Option<String>) {
        self.reason = reason;
        if self.end != FaultEnd::Healed {
            (self.end, self.ended) = (end, Some(now));
        }
    }
}

fn texts(value: Option<&Value>) -> impl Iterator<Item = String> + '_ {
    let items = value.and_then(Value::items).unwrap_or_default();
    items.iter().filter_map(Value::as_text).map(str::to_owned)
}
