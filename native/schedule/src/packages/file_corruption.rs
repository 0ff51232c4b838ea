//! Files of stopped nodes that have flipped bits or end too early. It cannot be healed.
//!
//! Only ever fewer than half of the nodes at a time, but over a long run more of them may be struck: keep it to a
//! role, or to `named` nodes with faults of your own, for a system that bears no more. It needs nodes that the run starts and
//! that keep their files below the folder they work in (`{data_dir}`): of one that writes none, nothing changes, and the
//! fault is reported as without effect.

use fuzz_dist_core::fault::{DiskFault, Target};
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::spec::FaultSpec;

use super::{Cast, Package};
use crate::draw;

pub(super) const PACKAGE: Package = Package {
    name: "file-corruption",
    meaning: "nodes that come back to flipped bits and truncated files",
    final_healing: "none: what is lost is lost; every node is started",
    patterns: false,
    links: false,
    faults,
};

fn faults(cast: &Cast, stream: &mut Stream) -> Vec<FaultSpec> {
    let targets = cast.targets(&[(Target::One, 1), (Target::Minority, 3)]);
    // Every file: what a file is for is known to profiles of a system.
    let files = vec!["**".to_owned()];
    let probability = 10f64.powf(-2.0 - 3.0 * draw::unit(stream));
    let drop_bytes = 1 + draw::geometric(stream, 1e-3) as u64;
    [
        DiskFault::FileFlip { files: files.clone(), probability },
        DiskFault::FileTruncate { files, drop_bytes },
    ]
    .into_iter()
    .map(|kind| FaultSpec { targets: targets.clone(), ..FaultSpec::new(kind) })
    .collect()
}
