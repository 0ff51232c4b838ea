//! Bad links: late, narrow, closed under the nodes' feet, half open, or silent to one kind of traffic.

use fuzz_dist_core::fault::{Distribution, LinkFault, Target};
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::spec::FaultSpec;

use super::{Cast, Package};
use crate::draw;

pub(super) const PACKAGE: Package = Package {
    name: "packet",
    meaning: "links that are late, narrow, closed, half open, or silent to one kind of traffic",
    final_healing: "every link passes bytes as they come again",
    patterns: true,
    links: true,
    faults,
};

fn faults(cast: &Cast, stream: &mut Stream) -> Vec<FaultSpec> {
    let least = if cast.between { 1 } else { 2 };
    let targets = cast.targets(&[(Target::One, least), (Target::Halves, 2), (Target::All, least)]);
    let latency_ms = draw::between(stream, 5, 500) as u64;
    let jitter_ms = draw::between(stream, 0, latency_ms as i64) as u64;
    let bytes_per_s = 1 << draw::between(stream, 12, 18);
    let jittery = |distribution| LinkFault::Delay { latency_ms, jitter_ms, distribution };
    [
        jittery(Distribution::Uniform),
        jittery(Distribution::Pareto),
        LinkFault::Throttle { bytes_per_s },
        LinkFault::Fin,
        LinkFault::Rst,
        LinkFault::HalfOpen,
        LinkFault::TicksOnly,
        LinkFault::NoTicks,
        LinkFault::RefuseConnect,
        LinkFault::BlackholeConnect,
    ]
    .into_iter()
    .map(|kind| FaultSpec { targets: targets.clone(), ..FaultSpec::new(kind) })
    .collect()
}
