//! How exact faults were, plane by plane: how long after the moment in the schedule each was applied, was seen, was
//! healed and was seen healed.
//!
//! Of what was applied only: a fault that failed has no lateness, and is counted. A negative lateness is none: planes
//! that act at an exact time may stamp it some microseconds before. When an effect is *seen* depends on what the nodes
//! do as well: a cut is seen once somebody sends, a kill at once.

use std::collections::BTreeMap;

use fuzz_dist_core::fault::Plane;
use serde::Serialize;

use super::faults::{FaultStatus, FaultWindow};

/// Faults of one plane.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlaneSummary {
    /// `link`, `process` …
    pub plane: Plane,
    /// How many were due.
    pub due: u64,
    /// How many were applied.
    pub applied: u64,
    /// How many were seen to have their effect.
    pub observed: u64,
    /// How many had none that could be seen, or could not be applied.
    pub without_effect: u64,
    /// From the moment in the schedule until the plane had applied it.
    pub applied_late_ms: Option<Lateness>,
    /// From the moment in the schedule until its effect was seen.
    pub observed_after_ms: Option<Lateness>,
    /// From the end in the schedule until the plane had healed it; without those that ended with the run.
    pub healed_late_ms: Option<Lateness>,
    /// From the end in the schedule until the heal was seen.
    pub heal_observed_after_ms: Option<Lateness>,
}

/// The same, of all of a plane's faults, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Lateness {
    /// Of how many faults.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Lateness {
    fn of(mut late_us: Vec<u64>) -> Option<Lateness> {
        late_us.sort_unstable();
        let last = late_us.len().checked_sub(1)?;
        // The nearest rank: a figure that was measured, never one between two.
        let rank = |per_cent: usize| (late_us.len() * per_cent).div_ceil(100).max(1) - 1;
        let ms = |at: usize| late_us[at] as f64 / 1e3;
        Some(Lateness {
            count: late_us.len() as u64,
            p50: ms(rank(50)),
            p99: ms(rank(99)),
            max: ms(last),
        })
    }
}

/// Microseconds from one moment to another, none if that is before.
fn us(from_ns: u64, to_ns: u64) -> u64 {
    to_ns.saturating_sub(from_ns) / 1_000
}

/// Every plane of which a fault was due, in the order of the planes.
pub(super) fn summarise(faults: &[FaultWindow], over_ns: Option<u64>) -> Vec<PlaneSummary> {
    let mut by_plane: BTreeMap<Plane, Vec<&FaultWindow>> = BTreeMap::new();
    for fault in faults.iter().filter(|fault| is_due(fault)) {
        if let Some(plane) = fault.plane {
            by_plane.entry(plane).or_default().push(fault);
        }
    }
    by_plane.into_iter().map(|(plane, faults)| of_plane(plane, &faults, over_ns)).collect()
}

fn is_due(fault: &FaultWindow) -> bool {
    !matches!(fault.status, FaultStatus::NotReached | FaultStatus::Unavailable)
}

fn of_plane(plane: Plane, faults: &[&FaultWindow], over_ns: Option<u64>) -> PlaneSummary {
    let count = |has: &dyn Fn(&FaultWindow) -> bool| {
        faults.iter().filter(|fault| has(fault)).count() as u64
    };
    let lateness = |of: &dyn Fn(&FaultWindow) -> Option<u64>| {
        Lateness::of(faults.iter().filter_map(|fault| of(fault)).collect())
    };
    // What the end of the main phase healed was not due then.
    let end_ns = |fault: &FaultWindow| {
        let end_ns = fault.requested_start_ns?.checked_add(fault.requested_duration_ns)?;
        (fault.healed_ns? >= end_ns && over_ns.is_none_or(|over_ns| end_ns < over_ns))
            .then_some(end_ns)
    };
    PlaneSummary {
        plane,
        due: faults.len() as u64,
        applied: count(&|fault| fault.applied_ns.is_some()),
        observed: count(&|fault| fault.status == FaultStatus::Observed),
        without_effect: count(&|fault| {
            matches!(fault.status, FaultStatus::NoEffect | FaultStatus::Failed)
        }),
        applied_late_ms: lateness(&|fault| Some(fault.late_us?.max(0) as u64)),
        observed_after_ms: lateness(&|fault| {
            Some(us(fault.requested_start_ns?, fault.observed_ns?))
        }),
        healed_late_ms: lateness(&|fault| Some(us(end_ns(fault)?, fault.healed_ns?))),
        heal_observed_after_ms: lateness(&|fault| {
            Some(us(end_ns(fault)?, fault.heal_observed_ns?))
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Due at 1 s for 2 s.
    fn fault(plane: Plane, status: FaultStatus, late_us: i64, healed_late_us: u64) -> FaultWindow {
        FaultWindow {
            plane: Some(plane),
            status,
            requested_start_ns: Some(1_000_000_000),
            requested_duration_ns: 2_000_000_000,
            applied_ns: Some(1_000_000_000 + late_us.max(0) as u64 * 1_000),
            late_us: Some(late_us),
            observed_ns: Some(1_000_000_000 + late_us.max(0) as u64 * 1_000 + 5_000_000),
            healed_ns: Some(3_000_000_000 + healed_late_us * 1_000),
            heal_observed_ns: Some(3_000_000_000 + healed_late_us * 1_000 + 7_000_000),
            ..FaultWindow::default()
        }
    }

    #[test]
    fn planes_are_told_apart_and_ranks_are_of_what_was_measured() {
        let mut faults: Vec<FaultWindow> =
            (1..=200).map(|i| fault(Plane::Link, FaultStatus::Observed, i * 10, 3)).collect();
        faults.push(fault(Plane::Process, FaultStatus::NoEffect, -4, 250_000));
        faults.push(FaultWindow {
            late_us: None,
            applied_ns: None,
            observed_ns: None,
            healed_ns: None,
            ..fault(Plane::Process, FaultStatus::Failed, 0, 0)
        });
        faults.push(fault(Plane::Process, FaultStatus::NotReached, 900, 900));
        let observed = fault(Plane::Link, FaultStatus::Observed, 900, 900);
        faults.push(FaultWindow { plane: None, ..observed });
        let planes = summarise(&faults, None);
        let [link, process] = &planes[..] else { panic!("{planes:?}") };
        assert_eq!((link.plane, process.plane), (Plane::Link, Plane::Process));
        assert_eq!(
            (link.due, link.applied, link.observed, link.without_effect),
            (200, 200, 200, 0)
        );
        let late = Lateness { count: 200, p50: 1.0, p99: 1.98, max: 2.0 };
        assert_eq!(link.applied_late_ms, Some(late));
        assert_eq!(link.observed_after_ms.unwrap().p50, 6.0);
        assert_eq!(link.healed_late_ms.unwrap().max, 0.003);
        assert_eq!(link.heal_observed_after_ms.unwrap().max, 7.003);
        let counts = (process.due, process.applied, process.observed, process.without_effect);
        assert_eq!(counts, (2, 1, 0, 2));
        assert_eq!(process.applied_late_ms.unwrap().max, 0.0, "before its time is not late");
        assert_eq!(process.healed_late_ms.unwrap().max, 250.0);
    }

    #[test]
    fn what_the_end_of_the_run_heals_was_not_due_then() {
        let faults = [fault(Plane::Link, FaultStatus::Observed, 1, 1)];
        assert_eq!(summarise(&faults, Some(2_500_000_000))[0].healed_late_ms, None);
        assert_eq!(summarise(&faults, Some(3_500_000_000))[0].healed_late_ms.unwrap().count, 1);
    }
}
