//! Faults as data: what is injected, where, when, and near which boundary.
//!
//! A [`Fault`] is one line of `schedule.json`. It is drawn from the seed before the run, or written by
//! hand; the run resolves its targets when it starts (only `primaries` can differ between the two)
//! and records what was applied and what was seen.

use serde::{Deserialize, Serialize};

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// Nothing passes the links; what was sent meanwhile arrives at the heal.
    Hold,
    /// Bytes pass later.
    Delay {
        /// Added to each direction.
        latency_ms: u64,
        /// Uniformly up to this much more, per chunk, order kept.
        #[serde(default)]
        jitter_ms: u64,
    },
    /// At most so many bytes pass in a second.
    Throttle {
        /// The rate of each directed link.
        bytes_per_s: u64,
    },
    /// Both ends see an orderly close; new connections are allowed.
    Fin,
    /// Both ends see a reset; new connections are allowed.
    Rst,
    /// The `from` end of a link sees a close, the `to` end silence.
    HalfOpen,
    /// Ticks of the distribution pass, data is held: no node notices.
    TicksOnly,
    /// Data passes, ticks of the distribution do not.
    NoTicks,
    /// New connections are refused; those that exist stay.
    RefuseConnect,
    /// SIGKILL; the node is started again at the end of the fault.
    Kill,
    /// SIGSTOP; SIGCONT at the end.
    Pause,
    /// SIGTERM, an orderly stop; started again at the end.
    Restart,
}

impl FaultKind {
    /// The name in schedules, histories and reports.
    pub fn name(&self) -> &'static str {
        match self {
            FaultKind::Hold => "hold",
            FaultKind::Delay { .. } => "delay",
            FaultKind::Throttle { .. } => "throttle",
            FaultKind::Fin => "fin",
            FaultKind::Rst => "rst",
            FaultKind::HalfOpen => "half-open",
            FaultKind::TicksOnly => "ticks-only",
            FaultKind::NoTicks => "no-ticks",
            FaultKind::RefuseConnect => "refuse-connect",
            FaultKind::Kill => "kill",
            FaultKind::Pause => "pause",
            FaultKind::Restart => "restart",
        }
    }

    /// Every name, for messages that list them.
    pub const NAMES: [&'static str; 12] = [
        "hold",
        "delay",
        "throttle",
        "fin",
        "rst",
        "half-open",
        "ticks-only",
        "no-ticks",
        "refuse-connect",
        "kill",
        "pause",
        "restart",
    ];

    /// The plane that applies it.
    pub fn plane(&self) -> Plane {
        match self {
            FaultKind::Kill | FaultKind::Pause | FaultKind::Restart => Plane::Process,
            _ => Plane::Link,
        }
    }
}

/// A way to inject faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plane {
    /// Bytes between nodes.
    Link,
    /// Operating-system processes of nodes.
    Process,
}

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
    /// Only one direction of each cut link (from the first component to the second).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_way: bool,
    /// A named TCP port of the spec; absent for the distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// When it starts, since the start of the main phase.
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
    /// The faults, by start.
    pub faults: Vec<Fault>,
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
