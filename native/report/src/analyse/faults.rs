//! Faults: what was asked, what was applied, what was seen, when it was healed and when that was seen.
//!
//! The schedule gives what was asked; the `:nemesis` records of `doc/history.md` give the rest. A fault
//! that stands in the records but not in the schedule (a history from elsewhere) is shown as well.

use std::collections::{BTreeMap, BTreeSet};

use fuzz_dist_core::fault::{Fault, FaultKind, FaultSchedule, Plane, Target};
use fuzz_dist_core::{Op, Value};
use serde::Serialize;

use super::{field, number, time_ns};

/// Connectivity records kept for one fault.
const CONNECTIVITY_COUNT_MAX: usize = 8;

/// How far a fault came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultStatus {
    /// The run ended before it was due.
    #[default]
    NotReached,
    /// It was due, and nothing says what came of it.
    Started,
    /// The plane applied it; nobody looked for, or yet saw, an effect.
    Applied,
    /// Its effect was seen.
    Observed,
    /// It was applied, and no effect was seen before it was healed.
    NoEffect,
    /// It could not be applied.
    Failed,
    /// It cannot be had on the machine of the run, which went on without it.
    Unavailable,
}

/// Requested against effective connectivity at one moment: directed pairs that cannot talk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connectivity {
    /// When.
    pub time_ns: u64,
    /// As asked.
    pub requested: Vec<(String, String)>,
    /// `[a, b]`: a did not list b in `nodes()`.
    pub effective: Vec<(String, String)>,
}

/// One fault of a run. Times are nanoseconds since the start of the run.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct FaultWindow {
    /// Its number in the schedule.
    pub id: u32,
    /// `hold`, `kill` …
    pub kind: String,
    /// The plane that has this kind: several have a `hold`. None in a history from elsewhere.
    pub plane: Option<Plane>,
    /// What the schedule says of the target: `halves`, `one` …
    pub target: String,
    /// Who is affected, in words: `n1 | n2 n3`, `n1 → n2`, `n2`.
    pub scope: String,
    /// Parameters of the kind: `latency_ms=100`.
    pub parameters: String,
    /// The named TCP port, if it is not the distribution.
    pub port: Option<String>,
    /// The package that it was drawn for, in a mix.
    pub package: Option<String>,
    /// The boundary and zone that the duration was drawn from: `net-tick certainly-above`.
    pub boundary: Option<String>,
    /// When it was due, once the main phase had begun.
    pub requested_start_ns: Option<u64>,
    /// How long it should last.
    pub requested_duration_ns: u64,
    /// When the nemesis began it.
    pub start_ns: Option<u64>,
    /// When the plane had applied it.
    pub applied_ns: Option<u64>,
    /// Applied so long after it was due, in microseconds; negative if before.
    pub late_us: Option<i64>,
    /// When its effect was seen.
    pub observed_ns: Option<u64>,
    /// What was seen.
    pub effect: Option<String>,
    /// What shows it, as EDN, cut.
    pub evidence: Option<String>,
    /// When the plane had healed it.
    pub healed_ns: Option<u64>,
    /// When the heal was seen.
    pub heal_observed_ns: Option<u64>,
    /// What was seen of the heal.
    pub heal_effect: Option<String>,
    /// How far it came.
    pub status: FaultStatus,
    /// Why it failed or had no effect.
    pub reason: Option<String>,
    /// Requested against effective connectivity, after the fault and after its heal.
    pub connectivity: Vec<Connectivity>,
}

impl FaultWindow {
    /// From application to the moment at which the heal was seen (or was done, or the run ended);
    /// nothing if it was never applied.
    pub fn span(&self, run_end_ns: u64) -> Option<(u64, u64)> {
        let from = self.applied_ns?;
        let healed = self.heal_observed_ns.or(self.healed_ns);
        Some((from, healed.unwrap_or(run_end_ns).max(from)))
    }

    /// `#3 hold n1 | n2 n3`, for lists.
    pub fn title(&self) -> String {
        let mut title = format!("#{} {}", self.id, self.kind);
        for part in [&self.scope, &self.parameters] {
            if !part.is_empty() {
                title.push(' ');
                title.push_str(part);
            }
        }
        if let Some(port) = &self.port {
            title.push_str(&format!(" (port {port})"));
        }
        title
    }
}

#[derive(Debug)]
pub(super) struct Collector {
    nodes: Vec<String>,
    /// With the start as the schedule has it, relative to the main phase.
    faults: BTreeMap<u32, (FaultWindow, Option<u64>)>,
}

impl Collector {
    pub(super) fn new(schedule: &FaultSchedule) -> Collector {
        let faults = schedule
            .faults
            .iter()
            .map(|fault| (fault.id, (from_schedule(fault, &schedule.nodes), Some(fault.start_ns))));
        Collector { nodes: schedule.nodes.clone(), faults: faults.collect() }
    }

    pub(super) fn record(&mut self, op: &Op) {
        let value = &op.value;
        let Some(id) = number(value, "id").and_then(|id| u32::try_from(id).ok()) else { return };
        let now = Some(time_ns(op));
        let (fault, _) = self
            .faults
            .entry(id)
            .or_insert_with(|| (FaultWindow { id, ..FaultWindow::default() }, None));
        if fault.kind.is_empty() {
            fault.kind = field(value, "kind").unwrap_or_default();
        }
        match op.f.as_str() {
            "fault-start" => start(fault, value, &self.nodes, time_ns(op)),
            "fault-applied" => {
                fault.applied_ns = now;
                fault.late_us = value.get("late-us").and_then(Value::as_int);
                raise(fault, FaultStatus::Applied);
            }
            "fault-observed" => {
                fault.observed_ns = fault.observed_ns.or(now);
                fault.effect = fault.effect.take().or_else(|| field(value, "effect"));
                fault.evidence = fault.evidence.take().or_else(|| field(value, "evidence"));
                fault.status = FaultStatus::Observed;
            }
            "fault-no-effect" => {
                fault.reason = field(value, "reason");
                fault.status = FaultStatus::NoEffect;
            }
            "fault-failed" => {
                fault.reason = field(value, "reason");
                fault.status = FaultStatus::Failed;
            }
            "fault-unavailable" => {
                fault.reason = field(value, "reason");
                fault.status = FaultStatus::Unavailable;
            }
            "fault-heal-failed" => fault.reason = field(value, "reason"),
            "fault-healed" => fault.healed_ns = now,
            "fault-heal-observed" => {
                fault.heal_observed_ns = now;
                fault.heal_effect = field(value, "effect");
            }
            "connectivity" if fault.connectivity.len() < CONNECTIVITY_COUNT_MAX => {
                fault.connectivity.push(Connectivity {
                    time_ns: time_ns(op),
                    requested: pairs(value.get("requested")),
                    effective: pairs(value.get("effective")),
                });
            }
            _ => {}
        }
    }

    pub(super) fn finish(self, main_ns: Option<u64>) -> Vec<FaultWindow> {
        self.faults
            .into_values()
            .map(|(mut fault, offset_ns)| {
                fault.requested_start_ns = match (main_ns, offset_ns) {
                    (Some(main_ns), Some(offset_ns)) => Some(main_ns.saturating_add(offset_ns)),
                    _ => fault.start_ns,
                };
                fault
            })
            .collect()
    }
}

fn raise(fault: &mut FaultWindow, status: FaultStatus) {
    if matches!(fault.status, FaultStatus::NotReached | FaultStatus::Started) {
        fault.status = status;
    }
}

fn from_schedule(fault: &Fault, nodes: &[String]) -> FaultWindow {
    let resolved = fault.resolved.clone().unwrap_or_default();
    let links: Vec<(String, String)> =
        resolved.links.into_iter().map(|link| (link.from, link.to)).collect();
    FaultWindow {
        id: fault.id,
        kind: fault.kind.name().to_owned(),
        plane: Some(fault.kind.plane()),
        target: target_name(&fault.target).to_owned(),
        scope: scope(&resolved.nodes, &links, nodes),
        parameters: parameters(&fault.kind),
        port: fault.port.clone(),
        package: fault.package.clone(),
        boundary: fault
            .boundary
            .as_ref()
            .map(|boundary| format!("{} {}", boundary.name, boundary.zone.as_str())),
        requested_duration_ns: fault.duration_ns,
        ..FaultWindow::default()
    }
}

/// What the run resolved and recorded goes before what the schedule had (they differ for `primaries`).
fn start(fault: &mut FaultWindow, value: &Value, nodes: &[String], now_ns: u64) {
    fault.start_ns = Some(now_ns);
    raise(fault, FaultStatus::Started);
    if fault.plane.is_none() {
        let named = field(value, "plane").unwrap_or_default();
        fault.plane = Plane::ALL.iter().find(|plane| plane.as_str() == named).copied();
    }
    if fault.target.is_empty() {
        fault.target = field(value, "target").unwrap_or_default();
    }
    if fault.requested_duration_ns == 0 {
        // A conversion from floating point saturates, and takes what is no number for 0.
        fault.requested_duration_ns = match value.get("duration-ms") {
            Some(Value::Float(ms)) => (ms * 1e6) as u64,
            Some(Value::Int(ms)) => u64::try_from(*ms).unwrap_or(0).saturating_mul(1_000_000),
            _ => 0,
        };
    }
    if fault.boundary.is_none() {
        let parts = [field(value, "boundary"), field(value, "zone")];
        let named: Vec<String> = parts.into_iter().flatten().collect();
        fault.boundary = (!named.is_empty()).then(|| named.join(" "));
    }
    fault.port = fault.port.take().or_else(|| field(value, "port"));
    fault.package = fault.package.take().or_else(|| field(value, "package"));
    let recorded: Vec<String> = value
        .get("nodes")
        .and_then(Value::items)
        .unwrap_or_default()
        .iter()
        .filter_map(|node| node.as_text().map(str::to_owned))
        .collect();
    let scope = scope(&recorded, &pairs(value.get("links")), nodes);
    if !scope.is_empty() {
        fault.scope = scope;
    }
}

fn target_name(target: &Target) -> &'static str {
    match target {
        Target::One => "one",
        Target::Minority => "minority",
        Target::Majority => "majority",
        Target::Halves => "halves",
        Target::Ring => "ring",
        Target::Bridge => "bridge",
        Target::Primaries => "primaries",
        Target::All => "all",
        Target::Named(_) => "named",
        Target::Links(_) => "links",
    }
}

fn parameters(kind: &FaultKind) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(kind) else {
        return String::new();
    };
    let named = fields.iter().filter(|(name, _)| *name != "kind");
    named.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// Pairs `[a b]`, or maps with `:from` and `:to`.
fn pairs(value: Option<&Value>) -> Vec<(String, String)> {
    let pair = |item: &Value| match item.items() {
        Some([a, b]) => Some((a.as_text()?.to_owned(), b.as_text()?.to_owned())),
        _ => Some((field(item, "from")?, field(item, "to")?)),
    };
    value.and_then(Value::items).unwrap_or_default().iter().filter_map(pair).collect()
}

/// Who a fault is about, in words: components of a partition, else links, else nodes.
pub(crate) fn scope(nodes: &[String], links: &[(String, String)], all: &[String]) -> String {
    if links.is_empty() {
        return nodes.join(" ");
    }
    let cut: BTreeSet<(&str, &str)> =
        links.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let both = cut.iter().all(|&(from, to)| cut.contains(&(to, from)));
    if both && let Some(components) = components(&cut, all) {
        return components;
    }
    if both {
        let pairs = cut.iter().filter(|(from, to)| from < to);
        return pairs.map(|(a, b)| format!("{a} ↔ {b}")).collect::<Vec<_>>().join(", ");
    }
    // Sources with the same destinations together: `n1 n2 → n3`.
    let mut to_by_from: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for &(from, to) in &cut {
        to_by_from.entry(from).or_default().insert(to);
    }
    let mut from_by_to: BTreeMap<BTreeSet<&str>, Vec<&str>> = BTreeMap::new();
    for (from, to) in to_by_from {
        from_by_to.entry(to).or_default().push(from);
    }
    let mut parts: Vec<String> = from_by_to
        .into_iter()
        .map(|(to, from)| {
            format!("{} → {}", from.join(" "), to.into_iter().collect::<Vec<_>>().join(" "))
        })
        .collect();
    parts.sort();
    parts.join(", ")
}

/// `n1 | n2 n3` when the cut separates all nodes into parts that are whole inside.
fn components(cut: &BTreeSet<(&str, &str)>, all: &[String]) -> Option<String> {
    let mut names: Vec<&str> = all.iter().map(String::as_str).collect();
    for (from, to) in cut {
        for name in [*from, *to] {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let mut parts: Vec<Vec<&str>> = Vec::new();
    for name in names {
        let talks = |other: &&str| !cut.contains(&(name, *other));
        let friends: Vec<usize> =
            (0..parts.len()).filter(|&i| parts[i].iter().any(talks)).collect();
        match friends.as_slice() {
            [] => parts.push(vec![name]),
            // A part must be whole inside, and only one may be reached, or this is no partition.
            [only] if parts[*only].iter().all(talks) => parts[*only].push(name),
            _ => return None,
        }
    }
    if parts.len() < 2 {
        return None;
    }
    parts.sort_by_key(Vec::len);
    Some(parts.into_iter().map(|part| part.join(" ")).collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope_of(links: &[(&str, &str)]) -> String {
        let all: Vec<String> = ["n1", "n2", "n3"].map(str::to_owned).to_vec();
        let links: Vec<_> = links.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        scope(&[], &links, &all)
    }

    #[test]
    fn a_cut_is_told_as_people_would() {
        let halves = [("n1", "n2"), ("n1", "n3"), ("n2", "n1"), ("n3", "n1")];
        assert_eq!(scope_of(&halves), "n1 | n2 n3");
        assert_eq!(scope_of(&[("n1", "n2"), ("n1", "n3")]), "n1 → n2 n3");
        assert_eq!(scope_of(&[("n1", "n2"), ("n2", "n1")]), "n1 ↔ n2");
        assert_eq!(scope(&["n2".into()], &[], &[]), "n2");
    }
}
