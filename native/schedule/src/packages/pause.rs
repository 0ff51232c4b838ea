//! Nodes that stand still, around the net tick and the time-out of operations.

use fuzz_dist_core::fault::ProcessFault;
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::spec::FaultSpec;

use super::{Cast, Package};

pub(super) const PACKAGE: Package = Package {
    name: "pause",
    meaning: "nodes that stand still and go on",
    final_healing: "every node is continued",
    patterns: true,
    links: false,
    faults,
};

fn faults(cast: &Cast, _stream: &mut Stream) -> Vec<FaultSpec> {
    let pause = FaultSpec { targets: cast.nodes(), ..FaultSpec::new(ProcessFault::Pause) };
    let short = FaultSpec { boundary: Some("op-timeout".into()), ..pause.clone() };
    vec![pause, short]
}
