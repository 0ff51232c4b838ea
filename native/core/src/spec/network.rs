//! Where the nodes of a cluster are, as the network sees it, and which faults that leaves.
//!
//! On the loopback every link is a proxy of the plane process. In namespaces packets go from kernel to kernel, past
//! any proxy. A fault of links is therefore had in one of the two and refused in the other, so that none is drawn
//! that could do nothing.

use serde::{Deserialize, Serialize};

use crate::fault::{FaultKind, Plane, ProcessFault};

/// How nodes reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// At 127.0.0.1, through the proxies of the link plane.
    #[default]
    Loopback,
    /// In network namespaces of the run's own, joined by a bridge.
    Namespaces,
}

impl Network {
    /// As they are written.
    pub const NAMES: &'static [&'static str] = &["loopback", "namespaces"];

    /// Why a fault cannot be had in such a cluster, and what helps; `None` if it can.
    pub fn objection(self, kind: &FaultKind) -> Option<&'static str> {
        match (self, kind) {
            (Network::Loopback, FaultKind::Net(_)) => Some(
                "the nodes are at 127.0.0.1, where packets have no link of their own: set cluster.network = \
                 \"namespaces\", or use a fault of the link plane",
            ),
            (Network::Loopback, _) => None,
            (Network::Namespaces, kind) => match (kind.plane(), kind) {
                (Plane::Link, _) => Some(
                    "nodes in namespaces (cluster.network) reach each other past the proxies of this plane: use \
                     `net-drop`, `net-reject`, `net-rate` or `netem`, or leave cluster.network out",
                ),
                (Plane::Carrier, _) => Some(
                    "the driver listens at an abstract Unix socket, which is out of reach in another network \
                     namespace: use faults of the net plane, or leave cluster.network out",
                ),
                (_, FaultKind::Process(ProcessFault::EpmdUnregister | ProcessFault::EpmdLate)) => {
                    Some(
                        "in namespaces (cluster.network) the port mapper is the real epmd, which forgets nothing",
                    )
                }
                (_, FaultKind::Process(ProcessFault::Restart { host: Some(_), .. })) => Some(
                    "in namespaces (cluster.network) the host part of a node is its one address",
                ),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_links_is_had_in_one_network_and_refused_in_the_other() {
        for kind in FaultKind::samples() {
            let here = [Network::Loopback, Network::Namespaces].map(|n| n.objection(&kind));
            match kind.plane() {
                Plane::Link | Plane::Carrier => assert!(here[0].is_none() && here[1].is_some()),
                Plane::Net => assert!(here[0].is_some() && here[1].is_none()),
                Plane::Process => assert!(here[0].is_none(), "{kind:?}"),
                _ => assert_eq!(here, [None, None], "{kind:?}"),
            }
        }
    }
}
