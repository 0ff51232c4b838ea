//! Faults as data: what is injected, where, when, and near which boundary.
//!
//! A [`Fault`] is one line of `schedule.json`. It is drawn from the seed before the run, or written by
//! hand; the run resolves its targets when it starts (only `primaries` and what a state machine chooses can
//! differ between the two) and records what was applied and what was seen.
//!
//! Reading order: [`kind`](FaultKind) (planes and kinds), a file for the kinds of each plane, schedules.

mod carrier;
mod clock;
mod disk;
mod kind;
mod link;
mod membership;
mod net;
mod process;
mod reaction;
mod schedule;
mod vm;

pub use carrier::CarrierFault;
pub use clock::{ClockFault, DRIFT_PPM_MAX};
pub use disk::{DiskFault, FILE_ROLES, Unsynced, patterns};
pub use kind::{
    Availability, FaultKind, Kind, Lasts, Objection, Plane, PlaneFault, Subject, UnknownKind,
};
pub use link::{Distribution, LinkFault, OPERATIONS};
pub use membership::MembershipFault;
pub use net::{Direction, NetFault};
pub use process::ProcessFault;
pub use reaction::{After, Event, PartOf, Pattern};
pub use schedule::{
    BoundaryEdges, BoundaryRef, Era, Fault, FaultSchedule, Link, Resolved, Target, Zone,
    package_colour,
};
pub(crate) use vm::SELECTOR;
pub use vm::{RESOLVERS, Selector, VmFault};

/// Why a number is refused that should be a probability.
fn not_a_probability(number: f64) -> String {
    format!("{number} is no probability: must be more than 0, and at most 1")
}
