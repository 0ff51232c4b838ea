//! Faults of the kernel's network: nodes in namespaces of the run's own, firewall rules and queues between.
//!
//! Linux and root only. The fidelity reference for the link plane: what TCP makes of lost packets, not what
//! a proxy makes of held bytes.

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Lasts, Objection, PlaneFault, Subject};
use super::link::Distribution;
use crate::spec::keys::{Key, Shape, key};

/// What happens to packets of a directed link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NetFault {
    /// Packets are dropped by the firewall.
    NetDrop,
    /// A token bucket limits the rate.
    NetRate {
        /// The rate of each directed link.
        bytes_per_s: u64,
    },
    /// The kernel's network emulator.
    Netem {
        /// Added to each direction.
        #[serde(default)]
        latency_ms: u64,
        /// How far a packet may be from that.
        #[serde(default)]
        jitter_ms: u64,
        /// How it is drawn.
        #[serde(default)]
        distribution: Distribution,
        /// How many packets are lost.
        #[serde(default)]
        loss_percent: f64,
        /// How many come twice.
        #[serde(default)]
        duplicate_percent: f64,
        /// How many overtake those before them.
        #[serde(default)]
        reorder_percent: f64,
        /// How many have a flipped bit.
        #[serde(default)]
        corrupt_percent: f64,
    },
}

const RATE: &[Key] = &[key(
    "bytes_per_s",
    Shape::Integer,
    "required",
    "`net-rate`: the rate of each directed link.",
)];

const NETEM: &[Key] = &[
    key("latency_ms", Shape::Integer, "0", "`netem`: added to each direction."),
    key("jitter_ms", Shape::Integer, "0", "`netem`: how far a packet may be from that."),
    key(
        "distribution",
        Shape::Choice(Distribution::NAMES),
        r#""uniform""#,
        "`netem`: how jitter is drawn.",
    ),
    key("loss_percent", Shape::Number, "0.0", "`netem`: how many packets are lost."),
    key("duplicate_percent", Shape::Number, "0.0", "`netem`: how many packets come twice."),
    key(
        "reorder_percent",
        Shape::Number,
        "0.0",
        "`netem`: how many packets overtake those before them; needs a latency.",
    ),
    key("corrupt_percent", Shape::Number, "0.0", "`netem`: how many packets have a flipped bit."),
];

const TICK: Lasts = Lasts::Around("net-tick");

const fn net(name: &'static str, meaning: &'static str) -> Kind {
    Kind::new(name, Subject::Links, TICK, meaning)
}

impl PlaneFault for NetFault {
    const KINDS: &'static [Kind] = &[
        net(
            "net-drop",
            "The firewall of the kernel drops packets; TCP sends them again until the heal.",
        )
        .on_ports(),
        net("net-rate", "A token bucket of the kernel limits the rate.").with(RATE),
        net("netem", "The kernel delays, loses, doubles, reorders or corrupts packets.")
            .with(NETEM),
    ];

    fn name(&self) -> &'static str {
        match self {
            NetFault::NetDrop => "net-drop",
            NetFault::NetRate { .. } => "net-rate",
            NetFault::Netem { .. } => "netem",
        }
    }

    fn samples() -> Vec<NetFault> {
        vec![
            NetFault::NetDrop,
            NetFault::NetRate { bytes_per_s: 1 },
            NetFault::Netem {
                latency_ms: 1,
                jitter_ms: 1,
                distribution: Distribution::Normal,
                loss_percent: 1.0,
                duplicate_percent: 1.0,
                reorder_percent: 1.0,
                corrupt_percent: 1.0,
            },
        ]
    }

    fn objections(&self) -> Vec<Objection> {
        match *self {
            NetFault::NetRate { bytes_per_s: 0 } => {
                vec![("bytes_per_s", "0 bytes a second: use the kind `net-drop`".into())]
            }
            NetFault::Netem {
                latency_ms,
                jitter_ms,
                loss_percent,
                duplicate_percent,
                reorder_percent,
                corrupt_percent,
                ..
            } => {
                let mut wrong: Vec<Objection> = [
                    ("loss_percent", loss_percent),
                    ("duplicate_percent", duplicate_percent),
                    ("reorder_percent", reorder_percent),
                    ("corrupt_percent", corrupt_percent),
                ]
                .into_iter()
                .filter(|(_, percent)| !(0.0..=100.0).contains(percent))
                .map(|(key, percent)| (key, format!("{percent}: must be from 0 to 100")))
                .collect();
                if reorder_percent > 0.0 && latency_ms == 0 {
                    let problem = "packets can overtake only those that wait: give a latency_ms";
                    wrong.push(("reorder_percent", problem.into()));
                }
                let all = loss_percent + duplicate_percent + reorder_percent + corrupt_percent;
                if wrong.is_empty() && latency_ms == 0 && jitter_ms == 0 && all == 0.0 {
                    wrong.push(("latency_ms", "a netem that does nothing is no fault".into()));
                }
                wrong
            }
            _ => Vec::new(),
        }
    }
}
