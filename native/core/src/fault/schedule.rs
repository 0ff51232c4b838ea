//! A schedule of faults: each with its target, its time, and near which boundary it lasts.

use serde::{Deserialize, Serialize};

use super::kind::{FaultKind, is_false};
use super::reaction::{After, PartOf};

/// Which nodes, or for link faults, how the nodes are cut from each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// One node drawn at random, cut from all others.
    One,
    /// Fewer than half of the nodes.
    Minority,
    /// More than half.
    Majority,
    /// Two halves, the smaller first.
    Halves,
    /// Every node sees a majority, no two the same one.
    Ring,
    /// Two halves with one node that sees both.
    Bridge,
    /// The nodes that the test names as primaries when the fault starts.
    Primaries,
    /// Every node, every link.
    All,
    /// These nodes; link faults cut them from all others.
    Named(Vec<String>),
    /// Exactly these directed links, `[from, to]`.
    Links(Vec<(String, String)>),
}

/// Where a duration lies against a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zone {
    /// So short that the BEAM certainly does not change its mind.
    CertainlyBelow,
    /// The zone in which the two sides may disagree.
    Inside,
    /// So long that it certainly does.
    CertainlyAbove,
}

impl Zone {
    /// The name in schedules and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Zone::CertainlyBelow => "certainly-below",
            Zone::Inside => "inside",
            Zone::CertainlyAbove => "certainly-above",
        }
    }
}

/// The boundary that a duration was drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundaryRef {
    /// Its name: `net-tick`, `net-setup`, `op-timeout`, or one of the user's.
    pub name: String,
    /// Where the duration lies.
    pub zone: Zone,
}

/// One directed link.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    /// The node whose bytes are meant.
    pub from: String,
    /// The node that would receive them.
    pub to: String,
}

/// Targets as they were resolved: nodes for process faults, directed links for link faults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resolved {
    /// The nodes that the fault is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// The directed links that it touches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

/// One fault of a schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Its number in the schedule, from 1.
    pub id: u32,
    /// What to do.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// Where.
    pub target: Target,
    /// Among the nodes of a role (`storage`), or links between those of two (`api-storage`); all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Only one direction of each cut link (from the first component to the second).
    #[serde(default, skip_serializing_if = "is_false")]
    pub one_way: bool,
    /// A named TCP port of the spec; absent for the distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The package that it was drawn for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Whether a run goes on without it where it cannot be had.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
    /// The event that it waits for, or waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// The pattern that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<PartOf>,
    /// When it starts, since the start of the main phase; while it waits for an event, from when on it waits.
    pub start_ns: u64,
    /// How long it lasts.
    pub duration_ns: u64,
    /// The boundary that the duration was drawn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary: Option<BoundaryRef>,
    /// The targets as drawn, so that a replay is the same; absent for `primaries` until it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
}

impl Fault {
    /// Whether it waits for an event that has not been seen.
    pub fn is_waiting(&self) -> bool {
        self.after.as_ref().is_some_and(|after| after.seen_ns.is_none())
    }
}

/// `schedule.json`: every fault of a run with what is needed to repeat it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSchedule {
    /// Version of this format: 1.
    pub version: u32,
    /// The seed that it was drawn from.
    pub seed: u64,
    /// The nodes it was drawn for.
    pub nodes: Vec<String>,
    /// The boundaries that durations were drawn against, in milliseconds, by name: lower and upper edge.
    #[serde(default)]
    pub boundaries: Vec<BoundaryEdges>,
    /// The eras of a rotating mix, by start; none when faults are not mixed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eras: Vec<Era>,
    /// The faults, by start.
    pub faults: Vec<Fault>,
}

/// Packages and the colour of each in plots (after Jepsen's where it has them).
const PACKAGE_COLOURS: [(&str, &str); 8] = [
    ("partition", "#E9DCA0"),
    ("packet", "#D1E8A0"),
    ("kill", "#E9A4A0"),
    ("pause", "#A0B1E9"),
    ("clock", "#A0E9E3"),
    ("file-corruption", "#99F2E2"),
    ("membership", "#C8A0E9"),
    ("vm", "#E9C0A0"),
];

/// The colour of a package in plots, by its name with or without the role behind a colon; `None` for faults that
/// are of no package.
pub fn package_colour(name: &str) -> Option<&'static str> {
    let name = name.split(':').next().unwrap_or_default();
    PACKAGE_COLOURS.iter().find(|(package, _)| *package == name).map(|(_, colour)| *colour)
}

/// A time in which the faults of some packages happen, all of them healed at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Era {
    /// Since the start of the main phase.
    pub start_ns: u64,
    /// How long it lasts.
    pub duration_ns: u64,
    /// Whose faults happen; none in an era of rest.
    pub packages: Vec<String>,
}

/// Certainly not below the one, certainly above the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundaryEdges {
    /// Its name.
    pub name: String,
    /// Anything shorter is certainly below.
    pub certainly_below_ms: f64,
    /// Anything longer is certainly above.
    pub certainly_above_ms: f64,
    /// Where it comes from: `live node n1`, `spec`, `default of OTP`.
    pub source: String,
}
