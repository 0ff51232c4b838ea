//! The process plane: kill, pause and restart nodes.

use fuzz_dist_core::clock;
use fuzz_dist_core::fault::FaultKind;

use crate::cluster::Cluster;

/// Applies a process fault to the nodes; the time of the last signal, or what went wrong.
pub fn apply(cluster: &Cluster, kind: &FaultKind, nodes: &[String]) -> Result<u64, String> {
    each(nodes, |node| match kind {
        FaultKind::Kill => cluster.kill(node),
        FaultKind::Pause => cluster.pause(node),
        _ => cluster.terminate(node),
    })
}

/// Takes it back: continues what is paused, starts what is gone.
pub fn heal(cluster: &Cluster, kind: &FaultKind, nodes: &[String]) -> Result<u64, String> {
    each(nodes, |node| match kind {
        FaultKind::Pause => cluster.resume(node),
        _ => cluster.start(node),
    })
}

/// Acts on every node even if one refuses; gives the first refusal.
fn each<E: std::fmt::Display>(
    nodes: &[String],
    act: impl Fn(&str) -> Result<u64, E>,
) -> Result<u64, String> {
    let mut outcome = Ok(clock::monotonic_ns());
    for node in nodes {
        match act(node) {
            Ok(monotonic_ns) => {
                if let Ok(last) = &mut outcome {
                    *last = monotonic_ns;
                }
            }
            Err(error) if outcome.is_ok() => outcome = Err(format!("{node}: {error}")),
            Err(_) => {}
        }
    }
    outcome
}
