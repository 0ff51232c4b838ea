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
    NetDrop {
        /// Only those of this TCP port, of whichever end listens there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tcp_port: Option<u64>,
        /// Which of those.
        #[serde(default, skip_serializing_if = "Direction::is_both")]
        direction: Direction,
    },
    /// Packets of TCP are answered with a reset to whoever sent them, and dropped.
    NetReject {
        /// Only those of this TCP port, of whichever end listens there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tcp_port: Option<u64>,
        /// Which of those.
        #[serde(default, skip_serializing_if = "Direction::is_both")]
        direction: Direction,
    },
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

/// Which packets of a TCP port: a link is directed already, so this says who of its two ends listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Whoever listens.
    #[default]
    Both,
    /// To the port: what clients send.
    ToPort,
    /// From the port: what listeners answer.
    FromPort,
}

impl Direction {
    /// As they are written.
    pub const NAMES: &'static [&'static str] = &["both", "to-port", "from-port"];

    fn is_both(&self) -> bool {
        *self == Direction::Both
    }
}

impl NetFault {
    /// Every packet of the links is dropped.
    pub const DROP: NetFault = NetFault::NetDrop { tcp_port: None, direction: Direction::Both };

    /// Every packet of TCP is answered with a reset.
    pub const REJECT: NetFault = NetFault::NetReject { tcp_port: None, direction: Direction::Both };

    /// The TCP port that it is about, and which of its packets.
    pub fn tcp_port(&self) -> (Option<u64>, Direction) {
        match *self {
            NetFault::NetDrop { tcp_port, direction }
            | NetFault::NetReject { tcp_port, direction } => (tcp_port, direction),
            NetFault::NetRate { .. } | NetFault::Netem { .. } => (None, Direction::Both),
        }
    }
}

/// The slowest rate that a token bucket keeps: it lets a whole packet pass at once.
const BYTES_PER_S_MIN: u64 = 100;

/// The fastest: beyond it a virtual cable is no faster.
const BYTES_PER_S_MAX: u64 = 10_000_000_000;

/// The longest wait that the kernel's emulator takes, with its spread: the packets wait in memory.
const LATENCY_MS_MAX: u64 = 600_000;

const DROP: &[Key] = &[
    key(
        "tcp_port",
        Shape::Integer,
        "every packet",
        "`net-drop`, `net-reject`: only packets of this TCP port, whichever end of the link listens there; 1 to 65535.",
    ),
    key(
        "direction",
        Shape::Choice(Direction::NAMES),
        r#""both""#,
        "`net-drop`, `net-reject` of a port: only what goes to it (what clients send), or comes from it (what is answered).",
    ),
];

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
    Kind::new(name, Subject::Links, TICK, meaning).on_ports()
}

impl PlaneFault for NetFault {
    const KINDS: &'static [Kind] = &[
        net(
            "net-drop",
            "The firewall of the kernel drops packets; TCP sends them again until the heal.",
        )
        .with(DROP),
        net(
            "net-reject",
            "The firewall of the kernel answers packets of TCP with a reset: whoever sends loses its connection at once.",
        )
        .with(DROP),
        net("net-rate", "A token bucket of the kernel limits the rate.").with(RATE),
        net("netem", "The kernel delays, loses, doubles, reorders or corrupts packets.")
            .with(NETEM),
    ];

    fn name(&self) -> &'static str {
        match self {
            NetFault::NetDrop { .. } => "net-drop",
            NetFault::NetReject { .. } => "net-reject",
            NetFault::NetRate { .. } => "net-rate",
            NetFault::Netem { .. } => "netem",
        }
    }

    fn samples() -> Vec<NetFault> {
        vec![
            NetFault::NetDrop { tcp_port: Some(4_369), direction: Direction::ToPort },
            NetFault::NetReject { tcp_port: Some(4_369), direction: Direction::FromPort },
            NetFault::NetRate { bytes_per_s: 1_000 },
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
            NetFault::NetDrop { tcp_port, direction }
            | NetFault::NetReject { tcp_port, direction } => match tcp_port {
                Some(port) if !(1..=65_535).contains(&port) => {
                    vec![("tcp_port", format!("{port}: TCP ports are 1 to 65535"))]
                }
                _ if direction != Direction::Both && tcp_port.is_none() => {
                    let problem = "says who of the two ends listens at a `tcp_port`, of which there is none; \
                                   for one direction of a link set `one_way`, or name its ends in `links`";
                    vec![("direction", problem.into())]
                }
                _ => Vec::new(),
            },
            NetFault::NetRate { bytes_per_s: 0 } => {
                vec![("bytes_per_s", "0 bytes a second: use the kind `net-drop`".into())]
            }
            NetFault::NetRate { bytes_per_s }
                if !(BYTES_PER_S_MIN..=BYTES_PER_S_MAX).contains(&bytes_per_s) =>
            {
                let range = format!("{BYTES_PER_S_MIN} to {BYTES_PER_S_MAX}");
                vec![("bytes_per_s", format!("{bytes_per_s} bytes a second: must be {range}"))]
            }
            NetFault::NetRate { .. } => Vec::new(),
            NetFault::Netem { .. } => self.netem_objections(),
        }
    }
}

impl NetFault {
    fn netem_objections(&self) -> Vec<Objection> {
        let NetFault::Netem {
            latency_ms,
            jitter_ms,
            loss_percent,
            duplicate_percent,
            reorder_percent,
            corrupt_percent,
            ..
        } = *self
        else {
            return Vec::new();
        };
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
        for (key, ms) in [("latency_ms", latency_ms), ("jitter_ms", jitter_ms)] {
            if ms > LATENCY_MS_MAX {
                wrong.push((key, format!("{ms} ms: must be at most {LATENCY_MS_MAX}")));
            }
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_told_with_its_key() {
        let drop = |tcp_port, direction| NetFault::NetDrop { tcp_port, direction };
        let netem = |latency_ms, reorder_percent, loss_percent| NetFault::Netem {
            latency_ms,
            jitter_ms: 0,
            distribution: Distribution::default(),
            loss_percent,
            duplicate_percent: 0.0,
            reorder_percent,
            corrupt_percent: 0.0,
        };
        for (fault, key) in [
            (drop(Some(0), Direction::Both), "tcp_port"),
            (drop(Some(65_536), Direction::Both), "tcp_port"),
            (drop(None, Direction::ToPort), "direction"),
            (NetFault::NetRate { bytes_per_s: 0 }, "bytes_per_s"),
            (NetFault::NetRate { bytes_per_s: 1 }, "bytes_per_s"),
            (NetFault::NetRate { bytes_per_s: u64::MAX }, "bytes_per_s"),
            (netem(0, 5.0, 0.0), "reorder_percent"),
            (netem(0, 0.0, f64::NAN), "loss_percent"),
            (netem(u64::MAX, 0.0, 0.0), "latency_ms"),
            (netem(0, 0.0, 0.0), "latency_ms"),
        ] {
            let found: Vec<&str> = fault.objections().iter().map(|(key, _)| *key).collect();
            assert_eq!(found, [key], "{fault:?}");
        }
        for fault in [NetFault::DROP, NetFault::REJECT, drop(Some(65_535), Direction::FromPort)] {
            assert_eq!(fault.objections(), [], "{fault:?}");
        }
    }
}
