//! One pass over a history: what was done, how fast, which faults were seen, which node saw whom go.
//!
//! Memory is bounded whatever the history holds: histograms for at most [`functions::FUNCTION_COUNT_MAX`]
//! functions, [`functions::WINDOW_COUNT_MAX`] windows, [`nodes::EVENT_COUNT_MAX`] node events; what did not
//! fit is counted.

use fuzz_dist_core::fault::FaultSchedule;
use fuzz_dist_core::{History, Op, Process, Value};
use serde::Serialize;

pub mod clocks;
pub mod faults;
pub mod functions;
pub mod nodes;
pub mod planes;

pub use clocks::{ClockWindow, Clocks, NodeClock, TimeOffsetChange};
pub use faults::{Connectivity, FaultStatus, FaultWindow};
pub use functions::{ErrorCount, FunctionSummary, Latency, Outcomes, Series, Window};
pub use nodes::{NodeEvent, NodeObservations};
pub use planes::{Lateness, PlaneSummary};

use crate::text;

/// What a history says, counted. All times are nanoseconds since the start of the run.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Summary {
    /// Records of every kind.
    pub record_count: u64,
    /// Client operations, by outcome.
    pub outcomes: Outcomes,
    /// The same by function, most frequent first.
    pub functions: Vec<FunctionSummary>,
    /// Distinct errors of `fail` and `info`, most frequent first, bounded.
    pub errors: Vec<ErrorCount>,
    /// The last time in the history.
    pub end_ns: u64,
    /// Length of a window of `series`.
    pub window_ns: u64,
    /// Rate and latency over time: of all functions together, then of each.
    pub series: Vec<Series>,
    /// Every fault of the schedule and every further one recorded, by id.
    pub faults: Vec<FaultWindow>,
    /// How exact the faults of each plane were.
    pub planes: Vec<PlaneSummary>,
    /// Who saw whom go up or down, when and why, and life-cycle events; bounded.
    pub node_events: Vec<NodeEvent>,
    /// Node events beyond the bound.
    pub node_events_omitted: u64,
    /// Other observations (`busy-dist-port`, `long-gc` …) by node.
    pub observations: Vec<NodeObservations>,
    /// What the clocks of nodes did, in a run with faults of clocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clocks: Option<Clocks>,
    /// Phases with their times.
    pub phases: Vec<PhaseSpan>,
    /// Eras of a rotating mix of faults; none when they were not mixed.
    pub eras: Vec<EraSpan>,
}

/// An era of a rotating mix of faults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EraSpan {
    /// Whose faults happened; none in an era of rest.
    pub packages: Vec<String>,
    /// Its start.
    pub start_ns: u64,
    /// Its end as it was planned, or the end of the history.
    pub end_ns: u64,
}

impl EraSpan {
    /// `kill, partition` or `rest`.
    pub fn title(&self) -> String {
        if self.packages.is_empty() { "rest".into() } else { self.packages.join(", ") }
    }
}

/// The era that a record tells.
fn era(op: &Op, end_ns: u64) -> EraSpan {
    let packages = op.value.get("packages").and_then(Value::items).unwrap_or_default();
    let start_ns = time_ns(op);
    // A conversion from floating point saturates, and takes what is no number for 0.
    let length_ns = match op.value.get("duration-ms") {
        Some(Value::Float(ms)) => (ms * 1e6) as u64,
        _ => 0,
    };
    let text =
        |package: &Value| package.as_text().map(|text| text::clip(&text, FIELD_CHAR_COUNT_MAX));
    EraSpan {
        packages: packages.iter().filter_map(text).collect(),
        start_ns,
        end_ns: start_ns.saturating_add(length_ns).min(end_ns),
    }
}

/// A phase of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PhaseSpan {
    /// `setup`, `main`, `heal`, `recovery`, `final`, `teardown`.
    pub name: String,
    /// Its start.
    pub start_ns: u64,
    /// The start of the next, or the end of the history.
    pub end_ns: u64,
}

impl Summary {
    /// Faults whose effect was seen.
    pub fn observed_fault_count(&self) -> usize {
        self.faults.iter().filter(|fault| fault.status == FaultStatus::Observed).count()
    }

    /// Faults that were due and of which no effect was seen.
    pub fn faults_without_effect(&self) -> impl Iterator<Item = &FaultWindow> {
        self.faults
            .iter()
            .filter(|fault| matches!(fault.status, FaultStatus::NoEffect | FaultStatus::Failed))
    }

    /// Faults that were active (or whose heal was not yet seen) at some moment of a span.
    pub fn faults_in(&self, start_ns: u64, end_ns: u64) -> impl Iterator<Item = &FaultWindow> {
        let run_end = self.end_ns;
        self.faults.iter().filter(move |fault| {
            fault.span(run_end).is_some_and(|(from, to)| from <= end_ns && to >= start_ns)
        })
    }
}

/// Counts operations, latencies, faults and node events of a history.
pub fn analyse(history: &History, schedule: &FaultSchedule) -> Summary {
    let end_ns = history.ops().iter().map(time_ns).max().unwrap_or(0);
    let mut functions = functions::Counter::new(history, end_ns);
    let mut faults = faults::Collector::new(schedule);
    let mut nodes = nodes::Collector::default();
    let mut clocks = clocks::Collector::new(end_ns);
    let mut phases: Vec<PhaseSpan> = Vec::new();
    let mut eras: Vec<EraSpan> = Vec::new();
    for (position, op) in history.ops().iter().enumerate() {
        match op.process {
            Process::Client(_) => {
                clocks.completion(op);
                functions.record(history, position, op);
            }
            Process::Named(name) => match name.as_str() {
                "nemesis" if op.f.as_str() == "era" && eras.len() < ERA_COUNT_MAX => {
                    eras.push(era(op, end_ns));
                }
                "nemesis" => faults.record(op),
                "observer" if op.f.as_str() == "phase" => {
                    if let Some(last) = phases.last_mut() {
                        last.end_ns = time_ns(op);
                    }
                    let name = field(&op.value, "name").unwrap_or_default();
                    phases.push(PhaseSpan { name, start_ns: time_ns(op), end_ns });
                }
                "observer" => {
                    clocks.observation(op);
                    nodes.record(op);
                }
                _ => {}
            },
        }
    }
    let main = phases.iter().find(|phase| phase.name == "main");
    let faults = faults.finish(main.map(|phase| phase.start_ns));
    let planes = planes::summarise(&faults, main.map(|phase| phase.end_ns));
    let counted = functions.finish();
    let (node_events, node_events_omitted, observations) = nodes.finish();
    Summary {
        record_count: history.len() as u64,
        outcomes: counted.outcomes,
        functions: counted.functions,
        errors: counted.errors,
        end_ns,
        window_ns: counted.window_ns,
        series: counted.series,
        faults,
        planes,
        node_events,
        node_events_omitted,
        observations,
        clocks: clocks.finish(),
        phases,
        eras,
    }
}

/// The time of a record; an imported history without times has all of them at 0.
pub(crate) fn time_ns(op: &Op) -> u64 {
    u64::try_from(op.time_ns).unwrap_or(0)
}

/// Eras that are kept: more would be too narrow to be seen.
const ERA_COUNT_MAX: usize = 1_000;

/// Longest text taken from a value of an observation.
const FIELD_CHAR_COUNT_MAX: usize = 400;

/// A field of a record's map as text: names and strings as they are, anything else as EDN, cut.
pub(crate) fn field(value: &Value, key: &str) -> Option<String> {
    let found = value.get(key)?;
    if found.is_nil() {
        return None;
    }
    Some(match found.as_text() {
        Some(plain) => text::clip(&plain, FIELD_CHAR_COUNT_MAX),
        None => text::clip(found, FIELD_CHAR_COUNT_MAX),
    })
}

/// A field that is a non-negative integer.
pub(crate) fn number(value: &Value, key: &str) -> Option<u64> {
    u64::try_from(value.get(key)?.as_int()?).ok()
}
