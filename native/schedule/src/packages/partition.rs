//! Partitions: links that carry nothing, in every shape, around the net tick and the time-out of operations.

use fuzz_dist_core::fault::{LinkFault, NetFault, Target};
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::spec::FaultSpec;

use super::{Cast, Package};

pub(super) const PACKAGE: Package = Package {
    name: "partition",
    meaning: "links that carry nothing, both ways or one way, in every shape",
    final_healing: "every link passes bytes again",
    patterns: true,
    links: true,
    faults,
};

fn faults(cast: &Cast, _stream: &mut Stream) -> Vec<FaultSpec> {
    let least = if cast.between { 1 } else { 2 };
    let targets = cast.targets(&[
        (Target::One, least),
        (Target::Halves, 2),
        (Target::Majority, 3),
        (Target::Ring, 3),
        (Target::Bridge, 3),
        (Target::Primaries, least),
    ]);
    let cut = FaultSpec { targets, weight: 4, ..FaultSpec::new(LinkFault::HOLD) };
    let one_way = FaultSpec {
        targets: cast.targets(&[(Target::One, least), (Target::Halves, 2)]),
        one_way: true,
        ..FaultSpec::new(LinkFault::HOLD)
    };
    let short = FaultSpec { boundary: Some("op-timeout".into()), weight: 2, ..cut.clone() };
    let mut faults = vec![cut, short, one_way];
    // The same in the kernel, for nodes in namespaces; of the two only those that can be had are drawn.
    let in_kernel: Vec<FaultSpec> = faults
        .iter()
        .map(|fault| FaultSpec { kind: NetFault::DROP.into(), ..fault.clone() })
        .collect();
    faults.extend(in_kernel);
    faults
}
