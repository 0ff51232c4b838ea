//! Nodes that end, in every way in which a BEAM ends, and come back.

use fuzz_dist_core::fault::ProcessFault;
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::spec::FaultSpec;

use super::{Cast, Package};

pub(super) const PACKAGE: Package = Package {
    name: "kill",
    meaning: "nodes that are killed, stop, halt or crash, and come back",
    final_healing: "every node is started",
    patterns: true,
    links: false,
    faults,
};

fn faults(cast: &Cast, _stream: &mut Stream) -> Vec<FaultSpec> {
    let restart = ProcessFault::Restart { host: None, cookie: None };
    [
        (ProcessFault::Kill, 4),
        (restart, 1),
        (ProcessFault::Stop, 1),
        (ProcessFault::Halt { flush: false }, 1),
        (ProcessFault::Halt { flush: true }, 1),
        (ProcessFault::CrashDump, 1),
    ]
    .into_iter()
    .map(|(kind, weight)| FaultSpec { targets: cast.nodes(), weight, ..FaultSpec::new(kind) })
    .collect()
}
