//! Faults that wait for an event: so many milliseconds after a node was seen to go down, after an election was
//! announced, after another fault took effect.
//!
//! Such a fault has no time until the event is seen. Then its time is written into the schedule ([`After::seen_ns`]),
//! and from then on it is a fault like every other: a replay starts it at that time, whatever it sees.

use serde::{Deserialize, Serialize};

use super::Selector;

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A node noticed that another went.
    Nodedown,
    /// A node noticed that another came.
    Nodeup,
    /// Another fault was applied.
    FaultApplied,
    /// The effect of another fault was seen.
    FaultObserved,
    /// Another fault was healed.
    FaultHealed,
    /// A node executed a telemetry event.
    Telemetry,
    /// Another process has taken a place.
    Elected,
}

impl Event {
    /// As in specs and schedules.
    pub const NAMES: &'static [&'static str] = &[
        "nodedown",
        "nodeup",
        "fault-applied",
        "fault-observed",
        "fault-healed",
        "telemetry",
        "elected",
    ];

    /// As in specs and schedules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Event::Nodedown => "nodedown",
            Event::Nodeup => "nodeup",
            Event::FaultApplied => "fault-applied",
            Event::FaultObserved => "fault-observed",
            Event::FaultHealed => "fault-healed",
            Event::Telemetry => "telemetry",
            Event::Elected => "elected",
        }
    }

    /// Whether a node notices it.
    const fn is_seen_by_nodes(self) -> bool {
        matches!(self, Event::Nodedown | Event::Nodeup | Event::Telemetry | Event::Elected)
    }

    /// Whether it is about nodes that come and go.
    pub const fn is_of_nodes(self) -> bool {
        matches!(self, Event::Nodedown | Event::Nodeup)
    }
}

/// The event that a fault waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// What is waited for.
    pub event: Event,
    /// The node that comes or goes, the kind of the other fault, the name of the telemetry event with dots
    /// (`my_app.election.won`); any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// The place that another process takes: the name of a leader, what a resolver says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Selector>,
    /// The node that notices; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_by: Option<String>,
    /// How long after the event the fault starts.
    #[serde(default)]
    pub delay_ms: u64,
    /// In a schedule of a run: when the event was seen, since the start of the main phase. The start of the fault is
    /// then a time like that of every other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_ns: Option<u64>,
}

impl After {
    /// `100 ms after nodedown of n2`.
    pub fn words(&self) -> String {
        let mut text = format!("{} ms after {}", self.delay_ms, self.event.as_str());
        if let Some(of) = &self.of {
            text.push_str(&format!(" of {of}"));
        }
        if let Some(process) = &self.process {
            text.push_str(&format!(" as {}", process.words()));
        }
        if let Some(node) = &self.seen_by {
            text.push_str(&format!(" seen by {node}"));
        }
        text
    }

    /// Whether this is the same event, seen or not.
    pub fn is_like(&self, other: &After) -> bool {
        After { seen_ns: None, ..self.clone() } == After { seen_ns: None, ..other.clone() }
    }

    /// Key and problem of what is wrong with it among these nodes.
    pub fn objection(&self, nodes: &[String]) -> Option<(&'static str, String)> {
        let unknown = |node: &String| {
            let known: Vec<&str> = nodes.iter().map(String::as_str).collect();
            (!known.is_empty() && !nodes.contains(node)).then(|| {
                format!("unknown node `{node}`; {}", crate::spec::suggest::hint(node, &known))
            })
        };
        let seen_by = self.seen_by.as_ref().and_then(unknown);
        if let Some(problem) = seen_by {
            return Some(("seen_by", problem));
        }
        if let Some(objection) = self.objection_to_place() {
            return Some(objection);
        }
        match (self.event, &self.of) {
            (event, _) if !event.is_seen_by_nodes() && self.seen_by.is_some() => Some((
                "seen_by",
                format!("`{}` is not seen by a node: leave it out", event.as_str()),
            )),
            (Event::Nodedown | Event::Nodeup, Some(node)) => unknown(node).map(|text| ("of", text)),
            (Event::Telemetry, None) => Some((
                "of",
                "is missing: the name of a telemetry event, `my_app.election.won`".into(),
            )),
            (Event::Telemetry, Some(name)) => {
                let fits = name.split('.').all(|part| !part.is_empty() && part.len() < 256);
                (!fits).then(|| {
                    ("of", format!("{name:?} is no telemetry event: atoms with dots between"))
                })
            }
            (Event::Elected, Some(_)) => {
                Some(("of", "belongs to other events: `process` says which place is taken".into()))
            }
            (_, Some(kind)) => {
                super::FaultKind::find(kind, None).err().map(|error| ("of", error.to_string()))
            }
            (_, None) => None,
        }
    }

    /// Elections are of a place, and nothing else is.
    fn objection_to_place(&self) -> Option<(&'static str, String)> {
        let problem = match (self.event, &self.process) {
            (Event::Elected, None) => Some(
                "is missing: the place that another process takes, { global = \"leader\" }".into(),
            ),
            (Event::Elected, Some(process)) => process.objection(),
            (_, None) => None,
            (event, Some(_)) => {
                Some(format!("belongs to `elected`, not to `{}`: leave it out", event.as_str()))
            }
        };
        problem.map(|problem| ("process", problem))
    }
}

/// How one draw becomes several faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// The same fault again and again, both the faults and the gaps between them as long as the boundary.
    Flap,
    /// A second fault starts while the first lasts, later by as much as the boundary.
    Overlap,
}

impl Pattern {
    /// As in specs and schedules.
    pub const NAMES: &'static [&'static str] = &["flap", "overlap"];

    /// As in specs and schedules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Pattern::Flap => "flap",
            Pattern::Overlap => "overlap",
        }
    }
}

/// The pattern that a fault of a schedule belongs to. It tells where its time comes from; the time is what counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartOf {
    /// Which.
    pub pattern: Pattern,
    /// The id of its first fault.
    pub first: u32,
    /// From the end (flap) or the start (overlap) of the fault before to the start of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_ns: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objection(event: Event, of: Option<&str>, process: Option<Selector>) -> String {
        let of = of.map(str::to_owned);
        let after = After { event, of, process, seen_by: None, delay_ms: 0, seen_ns: None };
        after
            .objection(&["n1".into()])
            .map_or(String::new(), |(key, text)| format!("{key}: {text}"))
    }

    #[test]
    fn an_election_is_of_a_place_and_nothing_else_is() {
        let leader = || Some(Selector::Global("leader".into()));
        assert_eq!(objection(Event::Elected, None, leader()), "");
        assert!(
            objection(Event::Elected, None, None).starts_with("process: is missing: the place")
        );
        assert!(objection(Event::Elected, Some("leader"), leader()).starts_with("of: belongs to"));
        assert!(
            objection(Event::Nodedown, None, leader())
                .starts_with("process: belongs to `elected`, not to `nodedown`")
        );
        let unknown = Selector::Resolver(vec!["ra-leadr".into(), "q".into()]);
        assert!(
            objection(Event::Elected, None, Some(unknown)).contains("did you mean `ra-leader`?")
        );
        assert_eq!(
            Selector::Resolver(vec!["ra-leader".into(), "q".into()]).words(),
            "resolver ra-leader q"
        );
    }
}
