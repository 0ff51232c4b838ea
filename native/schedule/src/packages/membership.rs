//! Nodes that join, leave and are forgotten, as the state machine of the system finds possible.

use fuzz_dist_core::fault::MembershipFault;
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::spec::FaultSpec;

use super::{Cast, Package};

pub(super) const PACKAGE: Package = Package {
    name: "membership",
    meaning: "nodes that join, leave and are forgotten",
    final_healing: "every node is a member again",
    patterns: false,
    links: false,
    faults,
};

fn faults(_cast: &Cast, _stream: &mut Stream) -> Vec<FaultSpec> {
    vec![FaultSpec::new(MembershipFault::Change { allow_unsafe: false })]
}
