//! The link plane: bytes between nodes, through the proxies of the plane process.
//!
//! The plane process counts what passed each link since the fault began, and that shows the effect. What nodes
//! noticed of it (`nodedown` with its reason) is added as evidence when it is there by then, and stands in
//! the history in any case. Faults are handed over a little ahead with their exact time.

use std::sync::{Arc, Mutex};

use fuzz_dist_core::Value;
use fuzz_dist_core::fault::{Availability, FaultKind, FaultSchedule, LinkFault, Plane};
use fuzz_dist_core::spec::Spec;
use fuzz_dist_core::sync::lock;
use fuzz_dist_nemesis::plane::{DIST_CHANNEL, LinkObservation, LinkStats, PlaneClient};

use super::{Applied, AppliedFault, FaultPlane, Order, Registration, Seen, Tools};
use crate::observer::Observations;
use crate::recorder::{Recorder, map, strings};

/// What is told of faults of single messages.
const BEYOND_TCP: &str = "outside what TCP can do: single messages vanish from a connection that lives, or change \
    places; nodes of such a run use neither atom cache nor fragments";

/// What is told of holds with `heal_lag`.
const HEAL_LAG: &str = "the waits of TCP's retransmissions are computed, 200 ms doubled each time from the first \
    byte that was held; a kernel measures the round trip";

/// The plane.
pub const REGISTRATION: Registration = Registration {
    plane: Plane::Link,
    always: true,
    availability,
    prepare: None,
    open: |tools| Ok(Arc::new(LinkPlane { tools: tools.clone() })),
};

fn availability(kind: &FaultKind, _spec: Option<&Spec>) -> Availability {
    let FaultKind::Link(kind) = kind else { return Availability::not_built() };
    if kind.needs_plain_messages() {
        return Availability::Emulated(BEYOND_TCP.into());
    }
    match kind {
        LinkFault::Hold { heal_lag: true } => Availability::Emulated(HEAL_LAG.into()),
        _ => Availability::Real,
    }
}

/// Whether a run has faults of single messages. Packages have none.
pub fn needs_plain_messages(spec: &Spec, schedule: Option<&FaultSchedule>) -> bool {
    let of_messages =
        |kind: &FaultKind| matches!(kind, FaultKind::Link(kind) if kind.needs_plain_messages());
    match schedule {
        Some(schedule) => schedule.faults.iter().any(|fault| of_messages(&fault.kind)),
        None => spec.nemesis.faults.iter().any(|fault| of_messages(&fault.kind)),
    }
}

struct LinkPlane {
    tools: Tools,
}

impl FaultPlane for LinkPlane {
    fn keeps_time(&self) -> bool {
        true
    }

    fn apply(&self, order: &Order) -> Result<Applied, String> {
        let FaultKind::Link(kind) = &order.fault.kind else {
            return Err(format!("{} is no fault of links", order.fault.kind.name()));
        };
        let tools = &self.tools;
        let at = tools.recorder.clock().start_monotonic_ns + order.at_ns;
        let (links, port) = (&order.resolved.links, order.fault.port.as_deref());
        let applied = tools
            .plane
            .apply(order.fault.id, links, port, kind, Some(at))
            .map_err(|error| error.to_string())?;
        let fault = AppliedToLinks {
            plane: Arc::clone(&tools.plane),
            observations: tools.observations.clone(),
            recorder: tools.recorder.clone(),
            kind: kind.clone(),
            applied_ns: tools.recorder.clock().at_ns(applied.monotonic_ns),
            order: order.clone(),
            last: Mutex::default(),
            before_heal: Mutex::default(),
        };
        Ok(Applied {
            monotonic_ns: applied.monotonic_ns,
            decided: Vec::new(),
            fault: Arc::new(fault),
        })
    }

    fn heal_all(&self) -> Result<Vec<String>, String> {
        let healed = self.tools.plane.heal_all();
        healed.map(|_| Vec::new()).map_err(|error| error.to_string())
    }
}

struct AppliedToLinks {
    plane: Arc<PlaneClient>,
    observations: Observations,
    recorder: Recorder,
    kind: LinkFault,
    order: Order,
    applied_ns: u64,
    /// What the plane process saw just before the heal, with which it forgets the fault.
    last: Mutex<Vec<LinkObservation>>,
    /// Counters of all links just before the heal.
    before_heal: Mutex<Vec<LinkStats>>,
}

impl AppliedFault for AppliedToLinks {
    fn observe(&self, now_ns: u64) -> Option<Seen> {
        let observed = self.look();
        let seen: Vec<_> = observed.iter().filter(|link| link.seen).collect();
        let first = seen.first()?;
        // Most links of a fault show it within a tick; wait so long for the others, then say how many.
        let all = seen.len() == observed.len() && seen.iter().all(|link| self.is_telling(link));
        let late = super::is_late(self.applied_ns, now_ns, self.order.fault.duration_ns);
        if !all && !late {
            return None;
        }
        let downs = self.downs();
        let mut text = format!(
            "{} {} of {} links ({} to {}: {})",
            self.effect_word(),
            seen.len(),
            observed.len(),
            first.link.from,
            first.link.to,
            first.effect
        );
        if !downs.is_empty() {
            text.push_str(&format!("; {}", downs.join(", ")));
        }
        let evidence = map([
            ("links-seen", Value::Int(seen.len() as i64)),
            ("links", Value::Int(observed.len() as i64)),
            ("nodedown", strings(&downs)),
        ]);
        Some(Seen { text, evidence })
    }

    fn why_not(&self) -> String {
        let missing: Vec<String> = self
            .look()
            .iter()
            .filter(|link| !link.seen)
            .map(|link| format!("{} to {}: {}", link.link.from, link.link.to, link.effect))
            .take(2)
            .collect();
        if missing.is_empty() {
            return String::from("it ended before anything tried to pass its links");
        }
        missing.join("; ")
    }

    fn heal(&self, at_ns: Option<u64>) -> Result<u64, String> {
        let id = self.order.fault.id;
        *lock(&self.before_heal) = self.plane.stats().unwrap_or_default();
        if let Ok(observed) = self.plane.observe(id) {
            *lock(&self.last) = observed;
        }
        let at = at_ns.map(|at_ns| self.recorder.clock().start_monotonic_ns + at_ns);
        let healed = self.plane.heal(id, at).map_err(|error| error.to_string())?;
        Ok(healed.monotonic_ns)
    }

    /// Bytes pass again on every link; on a link without connection there is nothing to wait for.
    fn observe_heal(&self) -> Option<Seen> {
        let channel = self.order.fault.port.as_deref().unwrap_or(DIST_CHANNEL);
        let now = self.plane.stats().ok()?;
        let before = lock(&self.before_heal);
        let mut passing = 0;
        let links = &self.order.resolved.links;
        for link in links {
            let of_link = |stats: &&LinkStats| stats.link == *link && stats.channel == channel;
            let current = now.iter().find(of_link)?;
            let before = before.iter().find(of_link)?;
            // Another fault on the same link hides the heal of this one.
            let silenced = !current.faults.is_empty();
            let idle = channel != DIST_CHANNEL && current.counts.open == 0;
            if current.counts.bytes_passed > before.counts.bytes_passed {
                passing += 1;
            } else if !silenced && !idle {
                return None;
            }
        }
        Some(Seen::new(format!("bytes pass {passing} of {} links again", links.len())))
    }
}

impl AppliedToLinks {
    /// What the fault does to a link, before a number of links.
    fn effect_word(&self) -> &'static str {
        match self.kind {
            LinkFault::Hold { .. } => "silenced",
            LinkFault::Delay { .. } => "delayed",
            LinkFault::Throttle { .. } => "slowed",
            LinkFault::TicksOnly => "let only ticks through",
            LinkFault::NoTicks => "dropped the ticks of",
            LinkFault::RefuseConnect => "refused connections on",
            LinkFault::HalfOpen => "closed one end of",
            LinkFault::ForgedTicks => "silenced behind forged ticks",
            LinkFault::BlackholeConnect => "left connections unanswered on",
            LinkFault::DropMessages { .. } => "dropped messages of",
            LinkFault::DelayMessages { .. } => "delayed messages of",
            LinkFault::Fin | LinkFault::Rst => "closed",
        }
    }

    /// Silence says little as long as nobody has tried to speak.
    fn is_telling(&self, link: &LinkObservation) -> bool {
        match self.kind {
            LinkFault::Hold { .. } | LinkFault::TicksOnly | LinkFault::ForgedTicks => {
                link.now.bytes_held > 0 || link.now.attempts_waiting > 0
            }
            _ => true,
        }
    }

    fn look(&self) -> Vec<LinkObservation> {
        match self.plane.observe(self.order.fault.id) {
            Ok(observed) if !observed.is_empty() => observed,
            _ => lock(&self.last).clone(),
        }
    }

    /// `n2 saw n1 down (net_tick_timeout)` for the ends of the links.
    fn downs(&self) -> Vec<String> {
        let concerns = |node: &str, peer: &str| {
            self.order.resolved.links.iter().any(|link| {
                (link.from == node && link.to == peer) || (link.from == peer && link.to == node)
            })
        };
        self.observations
            .since(self.applied_ns, |s| !s.up && concerns(&s.node, &s.peer))
            .iter()
            .map(|s| format!("{} saw {} down ({})", s.node, s.peer, s.reason))
            .collect()
    }
}
