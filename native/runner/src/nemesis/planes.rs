//! Fault planes: ways to do something to nodes and links, and to see that it was done.
//!
//! A plane has a file here with a [`Registration`], which says what of the plane can be had on this machine, and
//! a [`FaultPlane`], which applies faults. What it applied is an [`AppliedFault`] that knows how its effect
//! shows and how it is taken back: applied → observed → healed → seen healed. The nemesis keeps the time and
//! writes the history; a plane does neither. How to add one: `doc/architecture.md`, "Adding a fault plane".

pub mod carrier;
pub mod clock;
pub mod disk;
pub mod link;
pub mod membership;
pub mod net;
pub mod process;
pub mod shim;
pub mod vm;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fuzz_dist_core::Value;
use fuzz_dist_core::fault::{Availability, Fault, FaultKind, FaultSchedule, Plane, Resolved};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::Spec;
use fuzz_dist_nemesis::guard::{Guard, SpawnRequest};
use fuzz_dist_nemesis::plane::PlaneClient;
use fuzz_dist_schedule::packages;
use serde::Serialize;

use crate::agents::Agents;
use crate::cluster::Cluster;
use crate::mesh::Mesh;
use crate::observer::Observations;
use crate::recorder::Recorder;
use crate::request::RunError;
use crate::stop::Stop;

/// The planes that are built: one line each.
pub const REGISTERED: &[&Registration] = &[
    &link::REGISTRATION,
    &process::REGISTRATION,
    &vm::REGISTRATION,
    &carrier::REGISTRATION,
    &clock::REGISTRATION,
    &disk::REGISTRATION,
    &membership::REGISTRATION,
    &net::REGISTRATION,
];

/// How long before its time a fault is prepared, and handed over to a plane that keeps the time itself.
pub const AHEAD: Duration = Duration::from_millis(10);

/// What a plane is to everybody else.
#[derive(Debug)]
pub struct Registration {
    /// Which.
    pub plane: Plane,
    /// Whether it is opened in every run: others are in a run that has faults of theirs.
    pub always: bool,
    /// Whether a fault can be had on this machine and, if it is known, with this spec. It may look at the
    /// machine, but must be quick and change nothing.
    pub availability: fn(&FaultKind, Option<&Spec>) -> Availability,
    /// Changes how nodes are started in a run that has faults of this plane: further environment, flags, or
    /// a command around the command.
    pub prepare: Option<Prepare>,
    /// Opens it for a run, when the nodes are up.
    pub open: fn(&Tools) -> Result<Arc<dyn FaultPlane>, RunError>,
}

/// Changes how a node is started.
pub type Prepare = fn(&mut NodeStart<'_>) -> Result<(), RunError>;

/// A node that is about to be started, for the first time or again.
#[derive(Debug)]
pub struct NodeStart<'a> {
    /// The test.
    pub spec: &'a Spec,
    /// The faults, if they are given and not drawn from the spec.
    pub schedule: Option<&'a FaultSchedule>,
    /// The node's short name.
    pub node: &'a str,
    /// `nodes/<short>` of the run: what a plane keeps about a node goes there.
    pub folder: &'a Path,
    /// How it will be started.
    pub request: &'a mut SpawnRequest,
}

impl NodeStart<'_> {
    /// Whether the run may have a fault of this kind.
    pub fn may_have(&self, is_one: impl Fn(&FaultKind) -> bool) -> bool {
        may_have(self.spec, self.schedule, is_one)
    }
}

/// Whether a run may have a fault of this kind: the schedule has one, or, when the faults are not drawn yet, the spec
/// names one or has packages, which may draw it.
pub fn may_have(
    spec: &Spec,
    schedule: Option<&FaultSchedule>,
    is_one: impl Fn(&FaultKind) -> bool,
) -> bool {
    match schedule {
        Some(schedule) => schedule.faults.iter().any(|fault| is_one(&fault.kind)),
        None => spec.nemesis.faults.iter().any(|fault| is_one(&fault.kind)),
    }
}

/// What planes work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The test.
    pub spec: Arc<Spec>,
    /// Every fault of the run.
    pub schedule: Arc<FaultSchedule>,
    /// Where draws come from that can be made only when a fault starts: `seed.stream("late-NAME", id)`.
    pub seed: Seed,
    /// The folder of the run, absolute.
    pub run_dir: PathBuf,
    /// The plane process: links and EPMD.
    pub plane: Arc<PlaneClient>,
    /// Processes of nodes.
    pub cluster: Arc<Cluster>,
    /// Agents in nodes.
    pub agents: Arc<Agents>,
    /// Parent of all processes of the run; it ends those that a plane starts with it, whatever happens.
    pub guard: Arc<Guard>,
    /// Whom nodes see.
    pub mesh: Mesh,
    /// What nodes noticed.
    pub observations: Observations,
    /// The clock of the run, and the history for what a plane sees beside its faults.
    pub recorder: Recorder,
    /// The wish to stop the run: whatever waits for a heal gives up, since the nodes are about to be killed.
    pub stop: Stop,
}

/// A way to inject faults. Shared between threads.
///
/// `apply` and [`AppliedFault::heal`] are called by the thread of the plane, for one fault after the other: they return
/// when it is done, within a few hundred milliseconds, and leave waiting for effects to the observations. Errors are
/// texts for people: what failed, on whom, and the likely cause.
pub trait FaultPlane: Send + Sync {
    /// Whether it acts at an exact time by itself: then faults come up to [`AHEAD`] before theirs, and else at it.
    fn keeps_time(&self) -> bool {
        false
    }

    /// Applies a fault.
    ///
    /// # Errors
    /// When it could not be applied to all that it is about; then nothing may be left of it.
    fn apply(&self, order: &Order) -> Result<Applied, String>;

    /// Takes back whatever of this plane is applied, and what became of nodes meanwhile. Called once when
    /// the main phase is over, after every fault was healed by itself; must do no harm when nothing is left,
    /// and wait no longer once the run should stop.
    /// Gives the nodes that it started again: the test's `setup` runs in them once they are up.
    ///
    /// # Errors
    /// When something could not be taken back.
    fn heal_all(&self) -> Result<Vec<String>, String>;
}

/// A fault to apply.
#[derive(Debug, Clone)]
pub struct Order {
    /// As the schedule has it.
    pub fault: Fault,
    /// Whom it is about.
    pub resolved: Resolved,
    /// When it is due, on the run's clock.
    pub at_ns: u64,
}

/// What was done.
pub struct Applied {
    /// When, by `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// What was decided only now, for the history: the pid that a selector meant, the node that joins.
    pub decided: Vec<(&'static str, Value)>,
    /// How it shows and how it is taken back.
    pub fault: Arc<dyn AppliedFault>,
}

impl std::fmt::Debug for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applied").field("decided", &self.decided).finish_non_exhaustive()
    }
}

/// A fault that was applied. Its methods are called from several threads, `observe` again and again.
pub trait AppliedFault: Send + Sync {
    /// The effect of the fault, if it can be seen by now.
    fn observe(&self, now_ns: u64) -> Option<Seen>;

    /// Why no effect could be seen; asked after the heal.
    fn why_not(&self) -> String;

    /// Takes the fault back, at `at_ns` of the run's clock for planes that keep the time, else now.
    /// When that was, by `CLOCK_MONOTONIC`. Must do no harm when it was healed before, or when another fault
    /// has changed what it is about.
    ///
    /// # Errors
    /// When it cannot be taken back. That ends the run.
    fn heal(&self, at_ns: Option<u64>) -> Result<u64, String>;

    /// What shows that the heal took effect, if it can be seen by now. Asked only after the heal.
    fn observe_heal(&self) -> Option<Seen>;

    /// Nodes that were started again by the heal: the test's `setup` runs in them once they are up.
    fn revived(&self) -> &[String] {
        &[]
    }
}

/// An effect, in words and as data.
#[derive(Debug)]
pub struct Seen {
    /// For people.
    pub text: String,
    /// A map.
    pub evidence: Value,
}

impl Seen {
    /// In words only.
    pub fn new(text: impl Into<String>) -> Seen {
        Seen { text: text.into(), evidence: Value::Nil }
    }
}

/// How long at most the other places of a fault are waited for.
const OTHERS_MAX_NS: u64 = 10_000_000_000;

/// Whether a fault that shows in some of its places has had time enough to show in all of them: half of its own, and
/// ten seconds at most. Times are of the run's clock.
pub fn is_late(began_ns: u64, now_ns: u64, duration_ns: u64) -> bool {
    now_ns.saturating_sub(began_ns) > OTHERS_MAX_NS.min(duration_ns / 2)
}

/// The registration of a plane that is built.
pub fn registered(plane: Plane) -> Option<&'static Registration> {
    REGISTERED.iter().find(|registration| registration.plane == plane).copied()
}

/// Whether a fault can be had on this machine and, if it is known, with this spec.
pub fn availability(kind: &FaultKind, spec: Option<&Spec>) -> Availability {
    if let Some(objection) = spec.and_then(|spec| spec.cluster.network.objection(kind)) {
        return Availability::Unavailable(objection.into());
    }
    match registered(kind.plane()) {
        Some(registration) => (registration.availability)(kind, spec),
        None => Availability::not_built(),
    }
}

/// A line of what `fuzz_dist doctor` tells.
#[derive(Debug, Clone, Serialize)]
pub struct Offer {
    /// The plane.
    pub plane: Plane,
    /// The kind of fault.
    pub kind: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Whether it can be had here.
    #[serde(flatten)]
    pub availability: Availability,
}

/// Every fault of every plane, with whether it can be had on this machine.
pub fn catalogue() -> Vec<Offer> {
    let offer = |kind: FaultKind| Offer {
        plane: kind.plane(),
        kind: kind.name(),
        meaning: kind.info().meaning,
        availability: availability(&kind, None),
    };
    FaultKind::samples().iter().map(FaultKind::plainest).map(offer).collect()
}

/// The planes that a run with this spec and schedule may use.
pub fn used(spec: &Spec, schedule: Option<&FaultSchedule>) -> Vec<Plane> {
    let drawn = spec.nemesis.faults.iter().map(|fault| fault.kind.plane());
    let given = schedule.iter().flat_map(|schedule| &schedule.faults);
    let wanted: Vec<Plane> = drawn.chain(given.map(|fault| fault.kind.plane())).collect();
    // Which faults packages draw is known when they have drawn, and nodes are started before.
    let of_packages = match schedule {
        None => packages::planes(spec.nemesis.packages()),
        Some(_) => BTreeSet::new(),
    };
    let registered = REGISTERED.iter().map(|registration| registration.plane);
    registered.filter(|plane| of_packages.contains(plane) || wanted.contains(plane)).collect()
}

/// The planes of a run.
#[derive(Clone)]
pub struct Planes(Arc<Vec<(Plane, Arc<dyn FaultPlane>)>>);

impl std::fmt::Debug for Planes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(plane, _)| plane)).finish()
    }
}

impl Planes {
    /// Opens those that the schedule uses, and those that every run has.
    pub fn open(tools: &Tools, schedule: &FaultSchedule) -> Result<Planes, RunError> {
        let wanted = |registration: &Registration| {
            let mut faults = schedule.faults.iter();
            registration.always
                || faults.any(|fault| {
                    fault.kind.plane() == registration.plane
                        && availability(&fault.kind, Some(&tools.spec)).unavailable().is_none()
                })
        };
        let mut open = Vec::new();
        for registration in REGISTERED.iter().filter(|registration| wanted(registration)) {
            open.push((registration.plane, (registration.open)(tools)?));
        }
        Ok(Planes(Arc::new(open)))
    }

    /// The plane that applies a fault.
    pub fn get(&self, plane: Plane) -> Option<&Arc<dyn FaultPlane>> {
        self.0.iter().find(|(name, _)| *name == plane).map(|(_, plane)| plane)
    }

    /// Takes back whatever is applied, of every plane even if one fails: the nodes that were started again, or
    /// the first failure.
    pub fn heal_all(&self) -> Result<Vec<String>, String> {
        let mut revived = Vec::new();
        let mut outcome = Ok(());
        for (name, plane) in self.0.iter() {
            match plane.heal_all() {
                Ok(nodes) => revived.extend(nodes),
                Err(reason) => outcome = outcome.and(Err(format!("the {name} plane: {reason}"))),
            }
        }
        outcome.map(|()| revived)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_catalogue_has_every_fault_and_says_of_each_whether_it_can_be_had() {
        let offers = catalogue();
        assert_eq!(offers.len(), FaultKind::samples().len());
        let of = |plane: Plane, kind: &str| {
            let mut found = offers.iter().filter(|o| o.plane == plane && o.kind == kind);
            found.next().unwrap().availability.clone()
        };
        assert_eq!(of(Plane::Link, "hold"), Availability::Real);
        assert_eq!(of(Plane::Process, "kill"), Availability::Real);
        for offer in offers.iter().filter(|offer| registered(offer.plane).is_none()) {
            assert_eq!(offer.availability, Availability::not_built());
        }
    }

    #[test]
    fn the_other_places_of_a_long_fault_are_not_waited_for_so_long() {
        const SECOND: u64 = 1_000_000_000;
        assert!(!is_late(SECOND, 2 * SECOND, 3 * SECOND));
        assert!(is_late(SECOND, 3 * SECOND, 3 * SECOND));
        assert!(!is_late(SECOND, 11 * SECOND, 600 * SECOND));
        assert!(is_late(SECOND, 12 * SECOND, 600 * SECOND));
    }

    #[test]
    fn a_given_schedule_says_which_faults_a_run_may_have_and_not_the_spec() {
        use fuzz_dist_core::fault::DiskFault;
        let text = "nodes = 1\n[client]\nmodule = \"m\"\n[workload]\nname = \"register\"\n\
                    [nemesis]\nfaults = [{ kind = \"kill\", duration_ms = 10 }]\n";
        let spec = fuzz_dist_core::spec::parse(text, "t.toml").unwrap();
        let text = r#"{"version": 1, "seed": 1, "nodes": ["n1"], "faults": [{"id": 1, "kind": "disk-lose-unsynced",
            "files": ["**"], "target": {"named": ["n1"]}, "start_ns": 0, "duration_ns": 1}]}"#;
        let schedule: FaultSchedule = serde_json::from_str(text).unwrap();
        let loses =
            |kind: &FaultKind| matches!(kind, FaultKind::Disk(DiskFault::DiskLoseUnsynced { .. }));
        let kills = |kind: &FaultKind| kind.name() == "kill";
        assert!(may_have(&spec, Some(&schedule), loses) && !may_have(&spec, None, loses));
        assert!(!may_have(&spec, Some(&schedule), kills) && may_have(&spec, None, kills));
    }

    #[test]
    fn planes_are_registered_once() {
        for registration in REGISTERED {
            let same = REGISTERED.iter().filter(|other| other.plane == registration.plane);
            assert_eq!(same.count(), 1, "{}", registration.plane);
        }
    }
}
