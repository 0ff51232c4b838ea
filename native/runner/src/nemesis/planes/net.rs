//! The net plane: packets between nodes in namespaces of the run's own, in the kernel's firewall and queues.
//!
//! For runs with `cluster.network = "namespaces"`. Counters of the firewall show that packets were dropped or answered
//! with a reset, statistics of the queues that they had to wait or were lost; what nodes noticed is added as evidence.
//! A heal is seen when packets pass again. Since TCP backs off while nothing passes, that is later than the heal by up
//! to the length of the cut; the link plane, which holds bytes instead, has no such lag.
//!
//! Nothing of it outlives the run: what removes namespaces, bridge, cables with their queues and rules was given to
//! the guard before they were made.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::fault::{Availability, Direction, FaultKind, NetFault, Plane};
use fuzz_dist_core::spec::Spec;
use fuzz_dist_core::sync::lock;
use fuzz_dist_nemesis::net::{self, Action, Effect, Emulation, Network, Ports, Shape};

use super::{Applied, AppliedFault, FaultPlane, Order, Registration, Seen, Tools};
use crate::cluster::namespaces::port_number;
use crate::recorder::{map, strings};
use crate::request::RunError;

/// How long packets of a port are waited for after a heal: nothing may want to pass.
const IDLE_PATIENCE: Duration = Duration::from_secs(3);

/// The plane.
pub const REGISTRATION: Registration = Registration {
    plane: Plane::Net,
    always: false,
    availability,
    prepare: None,
    open: |tools| Ok(Arc::new(NetPlane::new(tools)?)),
};

fn availability(kind: &FaultKind, _spec: Option<&Spec>) -> Availability {
    let FaultKind::Net(kind) = kind else { return Availability::not_built() };
    let probe = net::probe();
    let reason = match kind {
        NetFault::NetDrop { .. } => &probe.drop,
        NetFault::NetReject { .. } => &probe.reset,
        NetFault::NetRate { .. } => &probe.rate,
        NetFault::Netem { .. } => &probe.netem,
    };
    reason.clone().map_or(Availability::Real, Availability::Unavailable)
}

struct NetPlane {
    tools: Tools,
    network: Arc<Network>,
}

impl NetPlane {
    fn new(tools: &Tools) -> Result<NetPlane, RunError> {
        let network = tools.cluster.network().ok_or_else(|| {
            RunError::Internal("the net plane was opened for nodes on the loopback".into())
        })?;
        Ok(NetPlane { tools: tools.clone(), network: Arc::clone(network) })
    }

    /// The TCP port that a fault is about, by its number or by its name.
    fn ports(&self, order: &Order, kind: &NetFault) -> Result<Option<Ports>, String> {
        let (number, direction) = kind.tcp_port();
        let port = match (&order.fault.port, number) {
            (Some(name), _) => {
                let port = port_number(&self.tools.spec, name);
                Some(port.ok_or_else(|| format!("cluster.ports has no {name}"))?)
            }
            (None, Some(number)) => {
                Some(u16::try_from(number).map_err(|_| format!("there is no TCP port {number}"))?)
            }
            (None, None) => None,
        };
        Ok(port.map(|port| Ports { port, direction }))
    }
}

/// What the kernel is asked for.
fn action(kind: &NetFault) -> Action {
    match *kind {
        NetFault::NetDrop { .. } => Action::Drop,
        NetFault::NetReject { .. } => Action::Reset,
        NetFault::NetRate { bytes_per_s } => Action::Shape(Shape::Rate(bytes_per_s)),
        NetFault::Netem {
            latency_ms,
            jitter_ms,
            distribution,
            loss_percent,
            duplicate_percent,
            reorder_percent,
            corrupt_percent,
        } => Action::Shape(Shape::Emulate(Emulation {
            latency_ms,
            jitter_ms,
            distribution,
            loss_percent,
            duplicate_percent,
            reorder_percent,
            corrupt_percent,
        })),
    }
}

impl FaultPlane for NetPlane {
    fn apply(&self, order: &Order) -> Result<Applied, String> {
        let FaultKind::Net(kind) = &order.fault.kind else {
            return Err(format!("{} is no fault of packets", order.fault.kind.name()));
        };
        let ports = self.ports(order, kind)?;
        let links = &order.resolved.links;
        let monotonic_ns = self
            .network
            .apply(order.fault.id, links, ports, &action(kind))
            .map_err(|error| error.to_string())?;
        let fault = AppliedToPackets {
            tools: self.tools.clone(),
            network: Arc::clone(&self.network),
            kind: kind.clone(),
            ports,
            applied_ns: self.tools.recorder.clock().at_ns(monotonic_ns),
            order: order.clone(),
            last: Mutex::default(),
            at_heal: Mutex::default(),
        };
        Ok(Applied { monotonic_ns, decided: Vec::new(), fault: Arc::new(fault) })
    }

    fn heal_all(&self) -> Result<Vec<String>, String> {
        self.network.heal_all().map(|()| Vec::new()).map_err(|error| error.to_string())
    }
}

struct AppliedToPackets {
    tools: Tools,
    network: Arc<Network>,
    kind: NetFault,
    ports: Option<Ports>,
    order: Order,
    applied_ns: u64,
    /// What was seen just before the heal, with which the rules go.
    last: Mutex<Vec<Effect>>,
    /// When it was healed, and what had passed each link by then.
    at_heal: Mutex<Option<(Instant, Vec<u64>)>>,
}

impl AppliedToPackets {
    /// How many packets of a link show the fault.
    fn shown(&self, effect: &Effect) -> u64 {
        let queue = effect.queue.unwrap_or_default();
        match &self.kind {
            NetFault::NetDrop { .. } | NetFault::NetReject { .. } => effect.packets,
            // A packet that found tokens enough was not slowed.
            NetFault::NetRate { .. } if effect.packets > 0 => {
                queue.overlimits + queue.drops + queue.waiting
            }
            NetFault::Netem { latency_ms: 0, jitter_ms: 0, loss_percent, .. }
                if *loss_percent > 0.0 && effect.packets > 0 =>
            {
                queue.drops
            }
            // Of the rest the emulator keeps no count but that of what it has handled.
            NetFault::Netem { .. } => effect.packets,
            NetFault::NetRate { .. } => 0,
        }
    }

    /// What [`AppliedToPackets::shown`] counts.
    fn unit(&self) -> &'static str {
        match &self.kind {
            NetFault::NetDrop { .. } => "packets dropped",
            NetFault::NetReject { .. } => "packets answered with a reset",
            NetFault::NetRate { .. } => "waits for tokens and packets lost in the queue",
            NetFault::Netem { latency_ms: 0, jitter_ms: 0, loss_percent, .. }
                if *loss_percent > 0.0 =>
            {
                "packets lost"
            }
            NetFault::Netem { .. } => "packets through the emulator",
        }
    }

    /// What the fault does to a link, before a number of links.
    fn effect_word(&self) -> &'static str {
        match &self.kind {
            NetFault::NetDrop { .. } => "dropped packets of",
            NetFault::NetReject { .. } => "rejected packets of",
            NetFault::NetRate { .. } => "slowed",
            NetFault::Netem { .. } => "emulated a bad network on",
        }
    }

    fn look(&self) -> Vec<Effect> {
        match self.network.effects(self.order.fault.id) {
            Ok(effects) if !effects.is_empty() => effects,
            _ => lock(&self.last).clone(),
        }
    }

    fn place(&self) -> String {
        match self.ports {
            None => String::new(),
            Some(Ports { port, direction: Direction::Both }) => format!(" of TCP port {port}"),
            Some(Ports { port, direction: Direction::ToPort }) => format!(" to TCP port {port}"),
            Some(Ports { port, direction: Direction::FromPort }) => {
                format!(" from TCP port {port}")
            }
        }
    }
}

impl AppliedFault for AppliedToPackets {
    fn observe(&self, now_ns: u64) -> Option<Seen> {
        let effects = self.look();
        let seen: Vec<(&Effect, u64)> = effects
            .iter()
            .map(|effect| (effect, self.shown(effect)))
            .filter(|(_, shown)| *shown > 0)
            .collect();
        let (first, _) = seen.first()?;
        // Most links of a fault show it within a tick; wait so long for the others, then say how many.
        let late = super::is_late(self.applied_ns, now_ns, self.order.fault.duration_ns);
        if seen.len() < effects.len() && !late {
            return None;
        }
        let total: u64 = seen.iter().map(|(_, shown)| shown).sum();
        let lost: u64 = effects.iter().filter_map(|e| e.queue).map(|queue| queue.drops).sum();
        let downs = self.tools.observations.downs(self.applied_ns, &self.order.resolved.links);
        let mut text = format!(
            "{} {} of {} links ({} to {} …: {total} {}{})",
            self.effect_word(),
            seen.len(),
            effects.len(),
            first.link.from,
            first.link.to,
            self.unit(),
            self.place(),
        );
        if !downs.is_empty() {
            text.push_str(&format!("; {}", downs.join(", ")));
        }
        let evidence = map([
            ("links-seen", Value::Int(seen.len() as i64)),
            ("links", Value::Int(effects.len() as i64)),
            ("count", Value::Int(total as i64)),
            ("lost-in-queues", Value::Int(lost as i64)),
            ("nodedown", strings(&downs)),
        ]);
        Some(Seen { text, evidence })
    }

    fn why_not(&self) -> String {
        let effects = self.look();
        let missing = effects.iter().filter(|effect| self.shown(effect) == 0).take(2);
        let links: Vec<String> = missing
            .map(|e| format!("{} to {}: {} packets", e.link.from, e.link.to, e.packets))
            .collect();
        format!("the kernel counted no {}{} ({})", self.unit(), self.place(), links.join(", "))
    }

    fn heal(&self, _at_ns: Option<u64>) -> Result<u64, String> {
        let healed = self.network.heal(self.order.fault.id).map_err(|error| error.to_string())?;
        // Nothing the second time.
        if !healed.links.is_empty() {
            let passed = healed.links.iter().map(|link| link.passed).collect();
            *lock(&self.at_heal) = Some((Instant::now(), passed));
            *lock(&self.last) = healed.links.into_iter().map(|link| link.effect).collect();
        }
        Ok(healed.monotonic_ns)
    }

    /// Packets pass again on every link; at a port of which nobody sends anything there is nothing to wait for.
    fn observe_heal(&self) -> Option<Seen> {
        let links = &self.order.resolved.links;
        let now = self.network.passed(links, self.ports).ok()?;
        let (healed, before) = lock(&self.at_heal).clone()?;
        let idle = self.ports.is_some() && healed.elapsed() > IDLE_PATIENCE;
        let mut passing = 0;
        for ((packets, touched), before) in now.into_iter().zip(before) {
            if packets > before {
                passing += 1;
            } else if !touched && !idle {
                // Another fault of the same link hides the heal of this one.
                return None;
            }
        }
        Some(Seen::new(format!("packets pass {passing} of {} links again", links.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_asks_the_kernel_for_what_it_says() {
        assert_eq!(action(&NetFault::DROP), Action::Drop);
        assert_eq!(action(&NetFault::REJECT), Action::Reset);
        let rate = action(&NetFault::NetRate { bytes_per_s: 5_000 });
        assert_eq!(rate, Action::Shape(Shape::Rate(5_000)));
        let netem = serde_json::from_str::<NetFault>(
            r#"{"kind": "netem", "latency_ms": 40, "jitter_ms": 10, "distribution": "normal", "loss_percent": 2.5}"#,
        );
        let Action::Shape(shape) = action(&netem.unwrap()) else { panic!("no shape") };
        assert_eq!(
            shape.arguments(),
            "netem limit 10000 delay 40ms 10ms distribution normal loss 2.5%"
        );
    }
}
