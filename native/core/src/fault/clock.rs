//! Faults of the clock: what a node reads from it, by a preloaded library.
//!
//! Only the wall clock is touched: a BEAM that sees the monotonic clock go back aborts, and its timers go by that.

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Lasts, Objection, PlaneFault, Subject};
use crate::spec::keys::{Key, Shape, key};

/// The largest drift: more than any real oscillator makes of it.
pub const DRIFT_PPM_MAX: i64 = 20_000;

/// What happens to the clock of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClockFault {
    /// The wall clock is off.
    ClockJump {
        /// By so much; negative is back.
        offset_ms: i64,
    },
    /// The wall clock jumps there and back.
    ClockStrobe {
        /// By so much.
        offset_ms: i64,
        /// So often.
        period_ms: u64,
    },
    /// The wall clock runs faster or slower.
    ClockDrift {
        /// By so many millionths; negative is slower.
        ppm: i64,
    },
    /// Every offset is taken back.
    ClockReset,
}

const OFFSET: Key = key(
    "offset_ms",
    Shape::Signed,
    "required",
    "`clock-jump`, `clock-strobe`: how far the wall clock is off; negative is back.",
);
const PERIOD: Key = key(
    "period_ms",
    Shape::Integer,
    "required",
    "`clock-strobe`: how long it stays on either side.",
);
const PPM: Key = key(
    "ppm",
    Shape::Signed,
    "required",
    "`clock-drift`: millionths by which the wall clock is fast, or slow when negative; at most 20000.",
);

const fn clock(name: &'static str, lasts: Lasts, meaning: &'static str) -> Kind {
    Kind::new(name, Subject::Nodes, lasts, meaning)
}

impl PlaneFault for ClockFault {
    const KINDS: &'static [Kind] = &[
        clock("clock-jump", Lasts::Away, "The wall clock is off, and right again at the end.")
            .with(&[OFFSET]),
        clock("clock-strobe", Lasts::Away, "The wall clock jumps there and back.")
            .with(&[OFFSET, PERIOD]),
        clock("clock-drift", Lasts::Away, "The wall clock runs faster or slower.").with(&[PPM]),
        clock("clock-reset", Lasts::Instant, "Every offset of the wall clock is taken back."),
    ];

    fn name(&self) -> &'static str {
        match self {
            ClockFault::ClockJump { .. } => "clock-jump",
            ClockFault::ClockStrobe { .. } => "clock-strobe",
            ClockFault::ClockDrift { .. } => "clock-drift",
            ClockFault::ClockReset => "clock-reset",
        }
    }

    fn samples() -> Vec<ClockFault> {
        vec![
            ClockFault::ClockJump { offset_ms: -1 },
            ClockFault::ClockStrobe { offset_ms: 1, period_ms: 1 },
            ClockFault::ClockDrift { ppm: -1 },
            ClockFault::ClockReset,
        ]
    }

    fn objections(&self) -> Vec<Objection> {
        match *self {
            ClockFault::ClockJump { offset_ms: 0 }
            | ClockFault::ClockStrobe { offset_ms: 0, .. } => {
                vec![("offset_ms", "a jump of 0 ms is none".into())]
            }
            ClockFault::ClockStrobe { period_ms: 0, .. } => {
                vec![("period_ms", "a period of 0 ms is none".into())]
            }
            ClockFault::ClockDrift { ppm } if ppm == 0 || ppm.abs() > DRIFT_PPM_MAX => vec![(
                "ppm",
                format!("{ppm}: must be from -{DRIFT_PPM_MAX} to {DRIFT_PPM_MAX}, and not 0"),
            )],
            _ => Vec::new(),
        }
    }
}
