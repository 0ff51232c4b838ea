//! Faults of a Jepsen nemesis, whose functions begin and end families of faults: `kill` until `start`,
//! `pause` until `resume`, clocks until `reset`, and everything until `heal`, `stop` or `restart`.

use super::{FaultEnd, FaultInterval, FaultLog, Moment};
use crate::op::Op;
use crate::value::Value;

/// Families of faults that end by different functions.
const FAMILIES: [&str; 4] = ["kill", "pause", "clock", "other"];

/// What has to be remembered between records.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    /// Functions that end all faults; `None` for the usual ones.
    pub(super) heals: Option<Vec<String>>,
    /// A Jepsen nemesis records each operation twice, when it begins and when it is done: the function
    /// that has begun, and the intervals that it ended.
    begun: Option<(String, Vec<usize>)>,
}

impl FaultLog {
    pub(super) fn feed_jepsen(&mut self, f: &str, op: &Op) {
        if self.jepsen.begun.as_ref().is_some_and(|(begun, _)| begun == f) {
            let (_, ended) = self.jepsen.begun.take().unwrap_or_default();
            for position in ended {
                self.intervals[position].ended = Some(Moment::of(op));
            }
            return;
        }
        let active = |log: &FaultLog, family: &str| {
            let newest = log.newest.get(&Value::str(family)).copied();
            newest.filter(|position| log.intervals[*position].is_open())
        };
        let killed = active(self, "kill").is_some();
        let mut ended = Vec::new();
        if let Some(families) = self.families_healed(f, killed) {
            for family in families {
                let Some(position) = active(self, family) else { continue };
                let fault = &mut self.intervals[position];
                (fault.end, fault.ended) = (FaultEnd::Healed, Some(Moment::of(op)));
                ended.push(position);
            }
        } else if let Some(family) = family(f) {
            let fault = self.interval(&Value::str(family), true);
            if fault.begun.is_none() {
                begin(fault, f, op);
            }
        }
        self.jepsen.begun = Some((f.to_owned(), ended));
    }

    /// Which families of faults end with `f`, if it is a heal.
    fn families_healed(&self, f: &str, killed: bool) -> Option<&'static [&'static str]> {
        match &self.jepsen.heals {
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
}

fn begin(fault: &mut FaultInterval, f: &str, op: &Op) {
    f.clone_into(&mut fault.kind);
    (fault.begun, fault.applied) = (Some(Moment::of(op)), Some(Moment::of(op)));
    fault.is_jepsen = true;
}

/// Whether the name is the word, or begins with it and a dash.
fn is_kind(f: &str, word: &str) -> bool {
    f.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The family of the fault that begins with `f`.
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
