//! Bad links: late, narrow, closed under the nodes' feet, half open, or silent to one kind of traffic.

use fuzz_dist_core::fault::{Distribution, FaultKind, LinkFault, NetFault, Target};
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
    .map(FaultKind::from)
    .into_iter()
    .chain(in_kernel(stream, latency_ms, jitter_ms, bytes_per_s))
    .map(|kind| FaultSpec { targets: targets.clone(), ..FaultSpec::new(kind) })
    .collect()
}

/// What a kernel makes of bad links, for nodes in namespaces; of the two only those that can be had are drawn.
fn in_kernel(
    stream: &mut Stream,
    latency_ms: u64,
    jitter_ms: u64,
    bytes_per_s: u64,
) -> Vec<FaultKind> {
    let percent = |stream: &mut Stream, most: i64| draw::between(stream, 1, most) as f64;
    let calm = NetFault::Netem {
        latency_ms,
        jitter_ms,
        distribution: Distribution::Normal,
        loss_percent: 0.0,
        duplicate_percent: 0.0,
        reorder_percent: 0.0,
        corrupt_percent: 0.0,
    };
    let rough = NetFault::Netem {
        latency_ms,
        jitter_ms: 0,
        distribution: Distribution::Uniform,
        loss_percent: percent(stream, 30),
        duplicate_percent: percent(stream, 10),
        reorder_percent: percent(stream, 50),
        corrupt_percent: percent(stream, 5),
    };
    [NetFault::REJECT, NetFault::NetRate { bytes_per_s }, calm, rough].map(FaultKind::from).to_vec()
}
