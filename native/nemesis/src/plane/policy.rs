//! What the faults that are active on one directed link mean together.
//!
//! Each fault has an id; a heal removes only its own. The policy is worked out again from those that
//! remain: a hold stops everything, whatever else is active; ticks-only and no-ticks together stop
//! everything too; of several delays or throttles the strongest counts; a delay and a throttle both
//! apply. FIN, RST and half-open are done to the connections that exist and leave no policy, so that new
//! connections pass; refusal
//! concerns the listener.

use fuzz_dist_core::fault::FaultKind;

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
    pub fn of<'a>(faults: impl IntoIterator<Item = &'a FaultKind>) -> Policy {
        let mut policy = Policy::default();
        for fault in faults {
            match *fault {
                FaultKind::Hold => policy.hold = true,
                FaultKind::TicksOnly => policy.hold_data = true,
                FaultKind::NoTicks => policy.drop_ticks = true,
                FaultKind::RefuseConnect => policy.refuse = true,
                FaultKind::Throttle { bytes_per_s } => {
                    let rate = policy.bytes_per_s.map_or(bytes_per_s, |r| r.min(bytes_per_s));
                    policy.bytes_per_s = Some(rate.max(1));
                }
                FaultKind::Delay { latency_ms, jitter_ms } => {
                    let delay = Delay {
                        latency_ns: latency_ms.saturating_mul(1_000_000),
                        jitter_ns: jitter_ms.saturating_mul(1_000_000),
                    };
                    policy.delay = policy.delay.max(Some(delay));
                }
                FaultKind::Fin
                | FaultKind::Rst
                | FaultKind::HalfOpen
                | FaultKind::Kill
                | FaultKind::Pause
                | FaultKind::Restart => {}
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
    pub fn of(fault: &FaultKind) -> Option<Action> {
        match fault {
            FaultKind::Fin => Some(Action::Fin),
            FaultKind::Rst => Some(Action::Rst),
            FaultKind::HalfOpen => Some(Action::HalfOpen),
            _ => None,
        }
    }
}

/// Why a fault cannot be applied to a channel; `None` when it can.
pub fn objection(fault: FaultId, kind: &FaultKind, port: Option<&str>) -> Option<String> {
    match (kind, port) {
        (FaultKind::Kill | FaultKind::Pause | FaultKind::Restart, _) => Some(format!(
            "fault {fault}: {} is a fault of processes, not of links; give it to the guard",
            kind.name()
        )),
        (FaultKind::TicksOnly | FaultKind::NoTicks, Some(port)) => Some(format!(
            "fault {fault}: {} needs the ticks of the distribution, which port {port:?} does not \
             carry; use hold",
            kind.name()
        )),
        (FaultKind::Throttle { bytes_per_s: 0 }, _) => {
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
        let delay = |latency_ms| FaultKind::Delay { latency_ms, jitter_ms: 1 };
        let throttle = |bytes_per_s| FaultKind::Throttle { bytes_per_s };
        let policy = Policy::of(&[delay(5), throttle(100), delay(9), throttle(10), delay(1)]);
        assert_eq!(policy.bytes_per_s, Some(10));
        assert_eq!(policy.delay, Some(Delay { latency_ns: 9_000_000, jitter_ns: 1_000_000 }));
        assert!(!policy.hold && !policy.passes());
        assert!(Policy::of(&[delay(5), FaultKind::Hold]).hold);
    }

    #[test]
    fn faults_without_policy_leave_the_link_open() {
        let all = [FaultKind::Fin, FaultKind::Rst, FaultKind::HalfOpen];
        assert_eq!(Policy::of(&all), Policy::default());
        let refuse = Policy::of(&[FaultKind::RefuseConnect]);
        assert!(refuse.refuse && refuse.passes());
    }

    #[test]
    fn what_cannot_be_applied_is_named() {
        assert!(objection(4, &FaultKind::Kill, None).unwrap().contains("fault 4: kill"));
        assert!(objection(4, &FaultKind::NoTicks, Some("amqp")).unwrap().contains("amqp"));
        assert!(objection(4, &FaultKind::NoTicks, None).is_none());
        assert!(objection(1, &FaultKind::Throttle { bytes_per_s: 0 }, None).is_some());
    }
}
