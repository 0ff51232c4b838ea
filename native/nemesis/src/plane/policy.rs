//! What the faults that are active on one directed link mean together.
//!
//! Each fault has an id; a heal removes only its own. The policy is worked out again from those that
//! remain: a hold stops everything, whatever else is active; ticks-only and no-ticks together stop
//! everything too; of several delays or throttles the strongest counts; a delay and a throttle both
//! apply. FIN, RST and half-open are done to the connections that exist and leave no policy, so that new
//! connections pass; refusal
//! concerns the listener.

use fuzz_dist_core::fault::{Distribution, LinkFault, PlaneFault};

use super::protocol::FaultId;

/// What may pass one directed link now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Nothing passes; order is kept for the heal.
    pub hold: bool,
    /// Everything but ticks is held.
    pub hold_data: bool,
    /// Ticks are dropped.
    pub drop_ticks: bool,
    /// At most so many bytes in a second.
    pub bytes_per_s: Option<u64>,
    /// Bytes pass later.
    pub delay: Option<Delay>,
    /// New connections of the source are refused.
    pub refuse: bool,
}

/// Every chunk passes so much later than it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delay {
    /// At least.
    pub latency_ns: u64,
    /// Uniformly up to this much more.
    pub jitter_ns: u64,
}

impl Policy {
    /// The policy of these faults together.
    pub fn of<'a>(faults: impl IntoIterator<Item = &'a LinkFault>) -> Policy {
        let mut policy = Policy::default();
        for fault in faults {
            match *fault {
                LinkFault::Hold { .. } => policy.hold = true,
                LinkFault::TicksOnly => policy.hold_data = true,
                LinkFault::NoTicks => policy.drop_ticks = true,
                LinkFault::RefuseConnect => policy.refuse = true,
                LinkFault::Throttle { bytes_per_s } => {
                    let rate = policy.bytes_per_s.map_or(bytes_per_s, |r| r.min(bytes_per_s));
                    policy.bytes_per_s = Some(rate.max(1));
                }
                LinkFault::Delay { latency_ms, jitter_ms, .. } => {
                    let delay = Delay {
                        latency_ns: latency_ms.saturating_mul(1_000_000),
                        jitter_ns: jitter_ms.saturating_mul(1_000_000),
                    };
                    policy.delay = policy.delay.max(Some(delay));
                }
                LinkFault::Fin | LinkFault::Rst | LinkFault::HalfOpen => {}
                // Refused by `objection`.
                LinkFault::ForgedTicks
                | LinkFault::BlackholeConnect
                | LinkFault::DropMessages { .. }
                | LinkFault::DelayMessages { .. } => {}
            }
        }
        policy
    }

    /// Whether bytes pass as they come.
    pub fn passes(&self) -> bool {
        !self.hold
            && !self.hold_data
            && !self.drop_ticks
            && self.bytes_per_s.is_none()
            && self.delay.is_none()
    }
}

/// What happens once, when a fault is applied, to the connections that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Both ends see an orderly close.
    Fin,
    /// Both ends see a reset.
    Rst,
    /// The `from` end sees a close, the `to` end silence until the fault is healed.
    HalfOpen,
}

impl Action {
    /// The action of a fault, if it has one.
    pub fn of(fault: &LinkFault) -> Option<Action> {
        match fault {
            LinkFault::Fin => Some(Action::Fin),
            LinkFault::Rst => Some(Action::Rst),
            LinkFault::HalfOpen => Some(Action::HalfOpen),
            _ => None,
        }
    }
}

/// What of this kind the plane cannot do; `None` when it can do it.
pub fn not_built(kind: &LinkFault) -> Option<&'static str> {
    match kind {
        LinkFault::Hold { heal_lag: true } => Some("`heal_lag` is not built"),
        LinkFault::Delay { distribution, .. } if *distribution != Distribution::Uniform => {
            Some("jitter that is not uniform is not built")
        }
        LinkFault::ForgedTicks
        | LinkFault::BlackholeConnect
        | LinkFault::DropMessages { .. }
        | LinkFault::DelayMessages { .. } => Some("not built"),
        _ => None,
    }
}

/// Why a fault cannot be applied to a channel; `None` when it can.
pub fn objection(fault: FaultId, kind: &LinkFault, port: Option<&str>) -> Option<String> {
    let name = kind.name();
    if let Some(reason) = not_built(kind) {
        return Some(format!("fault {fault}: {name}: {reason}"));
    }
    match (kind, port) {
        (kind, Some(port)) if kind.needs_distribution() => Some(format!(
            "fault {fault}: {name} needs the ticks of the distribution, which port {port:?} does \
             not carry; use hold"
        )),
        (LinkFault::Throttle { bytes_per_s: 0 }, _) => {
            Some(format!("fault {fault}: throttle with bytes_per_s = 0 passes nothing; use hold"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_of_each_kind_counts() {
        let delay = |latency_ms| LinkFault::delay(latency_ms, 1);
        let throttle = |bytes_per_s| LinkFault::Throttle { bytes_per_s };
        let policy = Policy::of(&[delay(5), throttle(100), delay(9), throttle(10), delay(1)]);
        assert_eq!(policy.bytes_per_s, Some(10));
        assert_eq!(policy.delay, Some(Delay { latency_ns: 9_000_000, jitter_ns: 1_000_000 }));
        assert!(!policy.hold && !policy.passes());
        assert!(Policy::of(&[delay(5), LinkFault::HOLD]).hold);
    }

    #[test]
    fn faults_without_policy_leave_the_link_open() {
        let all = [LinkFault::Fin, LinkFault::Rst, LinkFault::HalfOpen];
        assert_eq!(Policy::of(&all), Policy::default());
        let refuse = Policy::of(&[LinkFault::RefuseConnect]);
        assert!(refuse.refuse && refuse.passes());
    }

    #[test]
    fn what_cannot_be_applied_is_named() {
        let forged = objection(4, &LinkFault::ForgedTicks, None).unwrap();
        assert!(forged.contains("fault 4: forged-ticks: not built"), "{forged}");
        assert!(not_built(&LinkFault::Hold { heal_lag: true }).is_some());
        assert!(objection(4, &LinkFault::NoTicks, Some("amqp")).unwrap().contains("amqp"));
        assert!(objection(4, &LinkFault::NoTicks, None).is_none());
        assert!(objection(1, &LinkFault::Throttle { bytes_per_s: 0 }, None).is_some());
    }
}
