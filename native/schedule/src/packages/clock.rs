//! Wall clocks that jump, flicker and drift, by amounts as in Jepsen's clock nemesis.
//!
//! Each fault ends with its clock set right, and at the end every clock is reset and asked whether it is right; so no fault
//! is a reset alone. It needs nodes that the run starts, on Linux, whose command passes `LD_PRELOAD` on.

use fuzz_dist_core::fault::{ClockFault, DRIFT_PPM_MAX};
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::spec::FaultSpec;

use super::{Cast, Package};
use crate::draw;

pub(super) const PACKAGE: Package = Package {
    name: "clock",
    meaning: "wall clocks that jump, flicker and drift",
    final_healing: "every clock is reset",
    patterns: true,
    links: false,
    faults,
};

/// How many jumps of different size an era may draw from.
const JUMPS: usize = 4;

fn faults(cast: &Cast, stream: &mut Stream) -> Vec<FaultSpec> {
    let mut kinds = Vec::new();
    for _ in 0..JUMPS {
        // From 11 ms to 288 s, evenly by magnitude, either way.
        let size_ms = 1.5f64.powf(6.0 + 25.0 * draw::unit(stream)).round() as i64;
        let back = draw::below(stream, 2) == 0;
        kinds.push(ClockFault::ClockJump { offset_ms: if back { -size_ms } else { size_ms } });
    }
    // From 4 ms to 262 s, there and back every millisecond to every second.
    let power = |stream: &mut Stream, from: f64, span: f64| {
        2f64.powf(from + span * draw::unit(stream)).round() as i64
    };
    let offset_ms = power(stream, 2.0, 16.0);
    let period_ms = power(stream, 0.0, 10.0) as u64;
    kinds.push(ClockFault::ClockStrobe { offset_ms, period_ms });
    let ppm = draw::between(stream, 1, DRIFT_PPM_MAX);
    let slow = draw::below(stream, 2) == 0;
    kinds.push(ClockFault::ClockDrift { ppm: if slow { -ppm } else { ppm } });
    let spec = |kind| FaultSpec { targets: cast.nodes(), ..FaultSpec::new(kind) };
    kinds.into_iter().map(spec).collect()
}
