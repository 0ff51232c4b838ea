//! Faults inside the nodes that need to know nothing of the system: schedulers, connections, garbage.

use fuzz_dist_core::fault::VmFault;
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::spec::FaultSpec;

use super::{Cast, Package};
use crate::draw;

pub(super) const PACKAGE: Package = Package {
    name: "vm",
    meaning: "stalled schedulers, deaf and dropped connections, another cookie, garbage, busy dirty schedulers",
    final_healing: "the leases in the nodes end, and what they held with them",
    patterns: true,
    links: false,
    faults,
};

fn faults(cast: &Cast, stream: &mut Stream) -> Vec<FaultSpec> {
    let megabytes = draw::between(stream, 16, 128) as u64;
    let alone = [VmFault::StallSchedulers, VmFault::Garbage { megabytes }, VmFault::DirtyBlock];
    let with_peers = [
        VmFault::SetCookie { cookie: "fuzz_dist_other".into() },
        VmFault::Disconnect,
        VmFault::Deaf,
    ];
    // A node without peers has no connection to lose.
    let with_peers = with_peers.into_iter().filter(|_| cast.cluster > 1);
    let kinds = alone.into_iter().chain(with_peers);
    kinds.map(|kind| FaultSpec { targets: cast.nodes(), ..FaultSpec::new(kind) }).collect()
}
