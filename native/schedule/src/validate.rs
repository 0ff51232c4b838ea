//! Whether a schedule that somebody edited can run against these nodes.

use std::collections::BTreeSet;

use fuzz_dist_core::fault::{Fault, FaultSchedule, Resolved, Subject};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::{Spec, suggest};

use crate::faults::SCHEDULE_VERSION;
use crate::target::{self, Aim, Field, TargetError};

/// Ten years: more is a slip of units.
const TIME_NS_MAX: u64 = 315_360_000_000_000_000;

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Written for another release.
    #[error("schedule version {0} is not one that this release reads ({SCHEDULE_VERSION})")]
    Version(u32),
    /// One fault.
    #[error("schedule, fault {id} ({kind}): {problem}")]
    Fault {
        /// Its id.
        id: u32,
        /// Its kind.
        kind: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// Checks version, ids, times, parameters, nodes, links and ports against the spec that the schedule is to run
/// with.
pub fn validate(schedule: &FaultSchedule, spec: &Spec) -> Result<(), ScheduleError> {
    let field = Field::of(spec);
    if schedule.version != SCHEDULE_VERSION {
        return Err(ScheduleError::Version(schedule.version));
    }
    let mut ids = BTreeSet::new();
    for fault in &schedule.faults {
        let error =
            |problem| ScheduleError::Fault { id: fault.id, kind: fault.kind.name(), problem };
        if !ids.insert(fault.id) {
            return Err(error("another fault has the same `id`".into()));
        }
        check_times(fault).map_err(error)?;
        if let Some((key, problem)) = fault.kind.objections().into_iter().next() {
            return Err(error(format!("`{key}`: {problem}")));
        }
        check_port(fault, spec).map_err(error)?;
        if let Some((key, problem)) = fault.after.as_ref().and_then(|a| a.objection(&field.nodes)) {
            return Err(error(format!("`after.{key}`: {problem}")));
        }
        check_target(fault, &field).map_err(|e| error(e.to_string()))?;
        if let Some(resolved) = &fault.resolved {
            check_resolved(fault, resolved, &field.nodes).map_err(error)?;
        }
    }
    Ok(())
}

fn check_times(fault: &Fault) -> Result<(), String> {
    if fault.duration_ns == 0 {
        return Err("`duration_ns` is 0; a fault must last".into());
    }
    match fault.start_ns.checked_add(fault.duration_ns) {
        Some(end_ns) if end_ns <= TIME_NS_MAX => Ok(()),
        _ => Err("it ends more than ten years from now; times are nanoseconds".into()),
    }
}

fn check_port(fault: &Fault, spec: &Spec) -> Result<(), String> {
    let Some(port) = &fault.port else { return Ok(()) };
    let kind = fault.kind.info();
    if kind.subject != Subject::Links {
        return Err("`port` is for faults of links".into());
    }
    if !kind.port {
        return Err("`port`: this is about the distribution only".into());
    }
    let mut known = spec.cluster.ports.iter().map(|port| port.name.as_str());
    if known.clone().any(|name| name == port) {
        return Ok(());
    }
    let hint = suggest::clause(port, &mut known);
    Err(format!("unknown port `{port}`{hint}"))
}

fn check_target(fault: &Fault, field: &Field) -> Result<(), TargetError> {
    let aim = Aim::of(fault);
    if aim.is_late() {
        return Ok(());
    }
    // Whether it fits does not depend on the draw.
    let mut stream = Seed(0).stream("fault-check", 0);
    target::resolve(&aim, field, None, &mut stream).map(drop)
}

fn check_resolved(fault: &Fault, resolved: &Resolved, nodes: &[String]) -> Result<(), String> {
    let ends = resolved.links.iter().flat_map(|link| [&link.from, &link.to]);
    if let Some(unknown) = resolved.nodes.iter().chain(ends).find(|node| !nodes.contains(node)) {
        return Err(target::unknown_node(unknown, nodes).to_string());
    }
    if let Some(link) = resolved.links.iter().find(|link| link.from == link.to) {
        return Err(TargetError::SelfLink(link.from.clone()).to_string());
    }
    match fault.kind.info().subject {
        Subject::Links if resolved.links.is_empty() => {
            Err("`resolved` names no links; leave it out to have the target drawn".into())
        }
        Subject::Nodes if resolved.nodes.is_empty() => {
            Err("`resolved` names no nodes; leave it out to have the target drawn".into())
        }
        Subject::Nodes if !resolved.links.is_empty() => {
            Err("`resolved` names links, but this happens to nodes".into())
        }
        _ => Ok(()),
    }
}
