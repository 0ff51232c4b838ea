//! Faults of the port driver that carries the distribution inside the nodes (`-proto_dist fuzz`).
//!
//! The same as link faults where the names are the same, without a proxy on the way and under control also while
//! every scheduler stands still; `drop`, `busy-port` and ticks in the place of a node that stands still are what only
//! it can do. Chosen by `plane = "carrier"`.

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Lasts, Objection, PlaneFault, Subject};
use crate::spec::keys::{Key, Shape, key};

/// What the driver does to a directed link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CarrierFault {
    /// Frames wait until the heal.
    Hold,
    /// Frames pass later.
    Delay {
        /// Added to each direction.
        latency_ms: u64,
        /// How much later than that a frame may be, uniformly, order kept.
        #[serde(default)]
        jitter_ms: u64,
    },
    /// At most so many bytes pass in a second.
    Throttle {
        /// The rate of each directed link.
        bytes_per_s: u64,
    },
    /// Whole frames vanish.
    Drop {
        /// Of how many of them, from 0 to 1.
        #[serde(default = "always")]
        probability: f64,
    },
    /// Ticks pass, data is held.
    TicksOnly,
    /// Data passes, ticks do not.
    NoTicks,
    /// The driver sends ticks by itself, also while every scheduler of the `from` end stands still; data passes.
    ForgedTicks {
        /// How often.
        #[serde(default = "half_a_second")]
        every_ms: u64,
    },
    /// New connections that the `from` end makes are refused; those that exist stay.
    RefuseConnect,
    /// The driver closes its connections; new ones are allowed.
    Close,
    /// The port is busy: senders are suspended as by a full buffer, or get `nosuspend`.
    BusyPort,
}

fn always() -> f64 {
    1.0
}

fn half_a_second() -> u64 {
    500
}

const LATENCY: Key =
    key("latency_ms", Shape::Integer, "required", "`delay`: added to each direction.");
const JITTER: Key = key(
    "jitter_ms",
    Shape::Integer,
    "0",
    "`delay`: how much later than that a frame may be, order kept.",
);
const EVERY: Key =
    key("every_ms", Shape::Integer, "500", "`forged-ticks`: how often the driver sends one.");
const RATE: Key =
    key("bytes_per_s", Shape::Integer, "required", "`throttle`: the rate of each directed link.");
const PROBABILITY: Key =
    key("probability", Shape::Number, "1.0", "`drop`: how many frames vanish, from 0 to 1.");

const TICK: Lasts = Lasts::Around("net-tick");

const fn carrier(name: &'static str, lasts: Lasts, meaning: &'static str) -> Kind {
    Kind::new(name, Subject::Links, lasts, meaning)
}

impl PlaneFault for CarrierFault {
    const KINDS: &'static [Kind] = &[
        carrier(
            "hold",
            TICK,
            "Nothing leaves the driver. What was sent meanwhile goes out at the heal.",
        ),
        carrier("delay", TICK, "Frames pass later.").with(&[LATENCY, JITTER]),
        carrier("throttle", TICK, "At most so many bytes pass in a second.").with(&[RATE]),
        carrier("drop", TICK, "Whole frames vanish, which TCP cannot do. Nodes of such a run use neither atom caches nor fragments.").with(&[PROBABILITY]),
        carrier("ticks-only", TICK, "Ticks pass, data is held: no node notices."),
        carrier("no-ticks", TICK, "Data passes, ticks do not."),
        carrier(
            "forged-ticks",
            TICK,
            "The driver sends ticks by itself: a node whose schedulers stand still is not missed.",
        )
        .with(&[EVERY]),
        carrier(
            "refuse-connect",
            TICK,
            "New connections that the `from` end makes are refused; those that exist stay.",
        ),
        carrier(
            "close",
            Lasts::Instant,
            "The driver closes its connections; new ones are allowed.",
        ),
        carrier(
            "busy-port",
            TICK,
            "Senders are suspended as by a full buffer of the distribution.",
        ),
    ];

    fn name(&self) -> &'static str {
        match self {
            CarrierFault::Hold => "hold",
            CarrierFault::Delay { .. } => "delay",
            CarrierFault::Throttle { .. } => "throttle",
            CarrierFault::Drop { .. } => "drop",
            CarrierFault::TicksOnly => "ticks-only",
            CarrierFault::NoTicks => "no-ticks",
            CarrierFault::ForgedTicks { .. } => "forged-ticks",
            CarrierFault::RefuseConnect => "refuse-connect",
            CarrierFault::Close => "close",
            CarrierFault::BusyPort => "busy-port",
        }
    }

    fn samples() -> Vec<CarrierFault> {
        vec![
            CarrierFault::Hold,
            CarrierFault::Delay { latency_ms: 1, jitter_ms: 1 },
            CarrierFault::Throttle { bytes_per_s: 1 },
            CarrierFault::Drop { probability: 0.5 },
            CarrierFault::TicksOnly,
            CarrierFault::NoTicks,
            CarrierFault::ForgedTicks { every_ms: 1 },
            CarrierFault::RefuseConnect,
            CarrierFault::Close,
            CarrierFault::BusyPort,
        ]
    }

    fn objections(&self) -> Vec<Objection> {
        match self {
            CarrierFault::Delay { latency_ms: 0, jitter_ms: 0 } => {
                vec![("latency_ms", "a delay of 0 ms without jitter is none".into())]
            }
            CarrierFault::ForgedTicks { every_ms: 0 } => {
                vec![("every_ms", "has to be at least 1".into())]
            }
            CarrierFault::Throttle { bytes_per_s: 0 } => vec![(
                "bytes_per_s",
                "0 bytes a second: use the kind `hold` to let nothing pass".into(),
            )],
            CarrierFault::Drop { probability } if !(*probability > 0.0 && *probability <= 1.0) => {
                vec![("probability", super::not_a_probability(*probability))]
            }
            _ => Vec::new(),
        }
    }
}
