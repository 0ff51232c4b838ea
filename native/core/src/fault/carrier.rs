//! Faults of the port driver that carries the distribution inside the nodes (`-proto_dist fuzz`).
//!
//! The same as link faults where the names are the same, without a proxy on the way and under control also while
//! every scheduler stands still; `busy-port` is what only it can do. Chosen by `plane = "carrier"`.

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
    /// The driver closes its connections; new ones are allowed.
    Close,
    /// The port is busy: senders are suspended as by a full buffer, or get `nosuspend`.
    BusyPort,
}

fn always() -> f64 {
    1.0
}

const LATENCY: Key =
    key("latency_ms", Shape::Integer, "required", "`delay`: added to each direction.");
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
        carrier("delay", TICK, "Frames pass later.").with(&[LATENCY]),
        carrier("throttle", TICK, "At most so many bytes pass in a second.").with(&[RATE]),
        carrier("drop", TICK, "Whole frames vanish: more than TCP can do.").with(&[PROBABILITY]),
        carrier("ticks-only", TICK, "Ticks pass, data is held: no node notices."),
        carrier("no-ticks", TICK, "Data passes, ticks do not."),
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
            CarrierFault::Close => "close",
            CarrierFault::BusyPort => "busy-port",
        }
    }

    fn samples() -> Vec<CarrierFault> {
        vec![
            CarrierFault::Hold,
            CarrierFault::Delay { latency_ms: 1 },
            CarrierFault::Throttle { bytes_per_s: 1 },
            CarrierFault::Drop { probability: 0.5 },
            CarrierFault::TicksOnly,
            CarrierFault::NoTicks,
            CarrierFault::Close,
            CarrierFault::BusyPort,
        ]
    }

    fn objections(&self) -> Vec<Objection> {
        match self {
            CarrierFault::Delay { latency_ms: 0 } => {
                vec![("latency_ms", "a delay of 0 ms is none".into())]
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
