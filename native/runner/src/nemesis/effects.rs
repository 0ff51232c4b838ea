//! Whether a fault, or its heal, was seen.
//!
//! Link faults: the plane counts what passed each link since the fault began. Process faults: the guard saw
//! the exit, or `/proc` shows the process stopped. What nodes noticed of it (`nodedown` with its reason)
//! is added as evidence when it is there by then, and stands in the history in any case.

use std::sync::{Arc, Mutex};

use fuzz_dist_core::Value;
use fuzz_dist_core::fault::{Fault, FaultKind, Plane, Resolved};
use fuzz_dist_core::sync::lock;
use fuzz_dist_nemesis::plane::{DIST_CHANNEL, LinkObservation, LinkStats, PlaneClient};

use crate::cluster::Cluster;
use crate::observer::Observations;
use crate::recorder::{map, strings};

/// Counters of the links at some moment.
#[derive(Debug, Default)]
pub struct Baseline {
    stats: Vec<LinkStats>,
    /// How often each node had been started.
    generations: Vec<(String, u32)>,
}

impl Baseline {
    /// Now.
    pub fn take(plane: &PlaneClient, cluster: &Cluster, fault: &Fault) -> Baseline {
        match fault.kind.plane() {
            Plane::Link => {
                Baseline { stats: plane.stats().unwrap_or_default(), ..Baseline::default() }
            }
            Plane::Process => {
                let names = cluster.names();
                let generation = |node: String| {
                    let generation = cluster.generation(&node);
                    (node, generation)
                };
                Baseline {
                    generations: names.into_iter().map(generation).collect(),
                    ..Baseline::default()
                }
            }
        }
    }

    fn generation(&self, node: &str) -> Option<u32> {
        self.generations.iter().find(|(name, _)| name == node).map(|(_, generation)| *generation)
    }
}

/// What the plane saw of a fault just before its heal, for the watcher's last look.
#[derive(Debug, Clone, Default)]
pub struct LastLook(Arc<Mutex<Vec<LinkObservation>>>);

impl LastLook {
    /// Looks now; nothing for process faults.
    pub fn take(&self, plane: &PlaneClient, fault: &Fault) {
        if fault.kind.plane() == Plane::Link
            && let Ok(observed) = plane.observe(fault.id)
        {
            *lock(&self.0) = observed;
        }
    }

    fn get(&self) -> Vec<LinkObservation> {
        lock(&self.0).clone()
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

/// Where to look for the effect of one fault.
#[derive(Debug)]
pub struct Look<'a> {
    pub plane: &'a PlaneClient,
    pub cluster: &'a Cluster,
    pub observations: &'a Observations,
    pub fault: &'a Fault,
    pub resolved: &'a Resolved,
    /// Before the heal, when looking for the heal.
    pub baseline: &'a Baseline,
    /// The plane forgets a fault with its heal.
    pub last: &'a LastLook,
    /// When the fault was applied, or healed.
    pub applied_ns: u64,
}

impl Look<'_> {
    /// The effect of the fault, if it can be seen by now.
    pub fn effect(&self, now_ns: u64) -> Option<Seen> {
        match self.fault.kind.plane() {
            Plane::Link => self.link_effect(now_ns),
            Plane::Process => self.process_effect(),
        }
    }

    fn link_effect(&self, now_ns: u64) -> Option<Seen> {
        let observed = self.observe();
        let seen: Vec<_> = observed.iter().filter(|link| link.seen).collect();
        let first = seen.first()?;
        // Most links of a fault show it within a tick; wait so long for the others, then say how many.
        let all = seen.len() == observed.len() && seen.iter().all(|link| self.is_telling(link));
        let late = now_ns.saturating_sub(self.applied_ns) * 2 > self.fault.duration_ns;
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

    /// What the fault does to a link, before a number of links.
    fn effect_word(&self) -> &'static str {
        match self.fault.kind {
            FaultKind::Hold => "silenced",
            FaultKind::Delay { .. } => "delayed",
            FaultKind::Throttle { .. } => "slowed",
            FaultKind::TicksOnly => "let only ticks through",
            FaultKind::NoTicks => "dropped the ticks of",
            FaultKind::RefuseConnect => "refused connections on",
            FaultKind::HalfOpen => "closed one end of",
            _ => "closed",
        }
    }

    /// Silence says little as long as nobody has tried to speak.
    fn is_telling(&self, link: &LinkObservation) -> bool {
        match self.fault.kind {
            FaultKind::Hold | FaultKind::TicksOnly => {
                link.now.bytes_held > 0 || link.now.attempts_waiting > 0
            }
            _ => true,
        }
    }

    fn observe(&self) -> Vec<LinkObservation> {
        match self.plane.observe(self.fault.id) {
            Ok(observed) if !observed.is_empty() => observed,
            _ => self.last.get(),
        }
    }

    /// `n2 saw n1 down (net_tick_timeout)` for the ends of the links.
    fn downs(&self) -> Vec<String> {
        let concerns = |node: &str, peer: &str| {
            self.resolved.links.iter().any(|link| {
                (link.from == node && link.to == peer) || (link.from == peer && link.to == node)
            })
        };
        self.observations
            .since(self.applied_ns, |s| !s.up && concerns(&s.node, &s.peer))
            .iter()
            .map(|s| format!("{} saw {} down ({})", s.node, s.peer, s.reason))
            .collect()
    }

    fn process_effect(&self) -> Option<Seen> {
        let shows = |node: &String| match self.fault.kind {
            FaultKind::Pause => self.cluster.is_paused(node),
            // One that is up again by now has been down in between.
            _ => {
                !self.cluster.is_up(node)
                    || self.baseline.generation(node) != Some(self.cluster.generation(node))
            }
        };
        if !self.resolved.nodes.iter().all(shows) {
            return None;
        }
        let what = if self.fault.kind == FaultKind::Pause { "stopped" } else { "gone" };
        Some(Seen {
            text: format!("process of {} {what}", self.resolved.nodes.join(", ")),
            evidence: map([("nodes", strings(&self.resolved.nodes))]),
        })
    }

    /// Why no effect could be seen.
    pub fn why_not(&self) -> String {
        match self.fault.kind.plane() {
            Plane::Process => format!("{} went on running", self.resolved.nodes.join(", ")),
            Plane::Link => {
                let missing: Vec<String> = self
                    .observe()
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
        }
    }

    /// What shows that the heal took effect, if it can be seen by now.
    pub fn healed(&self, _now_ns: u64) -> Option<Seen> {
        match self.fault.kind.plane() {
            Plane::Link => self.link_healed(),
            Plane::Process => self.process_healed(),
        }
    }

    /// Bytes pass again on every link; on a link without connection there is nothing to wait for.
    fn link_healed(&self) -> Option<Seen> {
        let channel = self.fault.port.as_deref().unwrap_or(DIST_CHANNEL);
        let now = self.plane.stats().ok()?;
        let mut passing = 0;
        for link in &self.resolved.links {
            let of_link = |stats: &&LinkStats| stats.link == *link && stats.channel == channel;
            let current = now.iter().find(of_link)?;
            let before = self.baseline.stats.iter().find(of_link)?;
            // Another fault on the same link hides the heal of this one.
            let silenced = !current.faults.is_empty();
            let idle = channel != DIST_CHANNEL && current.counts.open == 0;
            if current.counts.bytes_passed > before.counts.bytes_passed {
                passing += 1;
            } else if !silenced && !idle {
                return None;
            }
        }
        Some(Seen {
            text: format!("bytes pass {passing} of {} links again", self.resolved.links.len()),
            evidence: Value::Nil,
        })
    }

    fn process_healed(&self) -> Option<Seen> {
        let answers = |node: &String| self.cluster.is_up(node) && self.cluster.answers(node);
        if !self.resolved.nodes.iter().all(answers) {
            return None;
        }
        Some(Seen {
            text: format!("{} answers again", self.resolved.nodes.join(", ")),
            evidence: Value::Nil,
        })
    }
}
