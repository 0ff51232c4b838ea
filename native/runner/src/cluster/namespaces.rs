//! VMs in network namespaces of their own (`cluster.network = "namespaces"`).
//!
//! Every node and client VM has a namespace with one address, which is the host part of its name, and an EPMD of its
//! own, started before it and ended with the run. Each finds the others by their addresses, as on machines of their
//! own; the core reaches them over the bridge, which no fault touches. The plane process has no part in it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuzz_dist_core::spec::{self, Placement, Spec};
use fuzz_dist_nemesis::guard::{Guard, SpawnRequest};
use fuzz_dist_nemesis::net::{self, Names, Network};

use super::launch::{PORTS, Place};
use super::{LOOK_EVERY, Parts, internal};
use crate::epmd;
use crate::request::RunError;

/// Where EPMD listens in every namespace: nobody else is there.
pub(super) const EPMD_PORT: u16 = 4_369;

/// The port mapper of Erlang.
const EPMD: &str = "epmd";

/// How long an EPMD may take to answer.
const EPMD_PATIENCE: Duration = Duration::from_secs(20);

/// Why such a cluster cannot be had here, if the spec asks for one.
pub fn objection(spec: &Spec) -> Option<String> {
    let asked_for = spec.cluster.network == spec::Network::Namespaces;
    let reason = asked_for.then(|| net::unavailable().or_else(|| net::missing(EPMD))).flatten()?;
    Some(format!(
        "cluster.network = \"namespaces\" cannot be had here: {reason}; run as root on Linux, or leave the key \
         out for nodes on the loopback"
    ))
}

/// Makes the network that the spec asks for, after the guard knows what removes it.
pub fn create(spec: &Spec, guard: &Guard) -> Result<Option<Arc<Network>>, RunError> {
    if spec.cluster.network == spec::Network::Loopback {
        return Ok(None);
    }
    let names = Names::of_this_process(&members(spec));
    guard.at_end(names.removal()).map_err(|error| internal(&error))?;
    let network = Network::create(names)
        .map_err(|error| RunError::Input(format!("cluster.network = \"namespaces\": {error}")))?;
    Ok(Some(Arc::new(network)))
}

/// Nodes, then client VMs.
fn members(spec: &Spec) -> Vec<String> {
    let mut members = spec.nodes.names();
    if spec.placement == Placement::Client {
        members.extend((1..=spec.client.count.max(1)).map(|i| format!("c{i}")));
    }
    members
}

/// The nodes and client VMs of a run in namespaces.
pub(super) fn places(
    parts: &Parts,
    network: &Network,
) -> Result<(Vec<Place>, Vec<Place>), RunError> {
    let spec = &parts.spec;
    let nodes = spec.nodes.names();
    let address = |short: &str| network.address(short).map_err(|error| internal(&error));
    let mut hosts = BTreeMap::new();
    for node in &nodes {
        hosts.insert(node.clone(), address(node)?.to_string());
    }
    // The same number everywhere, as on machines of their own.
    let numbers = || spec.cluster.ports.iter().map(|port| &port.name).zip(PORTS);
    let listening: BTreeMap<String, u16> =
        numbers().map(|(name, number)| (name.clone(), number)).collect();
    let peers: BTreeMap<(String, String), u16> = numbers()
        .flat_map(|(name, number)| nodes.iter().map(move |n| ((name.clone(), n.clone()), number)))
        .collect();
    let mut places = (Vec::new(), Vec::new());
    for (index, short) in members(spec).into_iter().enumerate() {
        let is_client = index >= nodes.len();
        let address = address(&short)?;
        let place = Place {
            folder: parts.run_dir.join("nodes").join(&short),
            index: if is_client { index - nodes.len() } else { index } + 1,
            is_client,
            host: address.to_string(),
            address,
            around: network.enter(&short),
            hosts: hosts.clone(),
            cookie: None,
            epmd_port: EPMD_PORT,
            ports: if is_client { BTreeMap::new() } else { listening.clone() },
            peers: peers.clone(),
            short,
        };
        if is_client { places.1.push(place) } else { places.0.push(place) }
    }
    Ok(places)
}

/// The number of a named port, the same in all namespaces.
pub fn port_number(spec: &Spec, name: &str) -> Option<u16> {
    let index = spec.cluster.ports.iter().position(|port| port.name == name)?;
    PORTS.clone().nth(index)
}

fn mapper(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((address, EPMD_PORT))
}

/// Where a node listens, as its EPMD says; `None` if it has not registered.
pub(super) fn registered(place: &Place) -> Option<u16> {
    // One that does not answer while its node starts is asked again.
    epmd::dist_port(mapper(place.address), &place.short).ok().flatten()
}

/// Starts the EPMD of every VM and waits until all answer.
pub(super) fn start_mappers(guard: &Guard, places: &[&Place]) -> Result<(), RunError> {
    for place in places {
        let command = [EPMD, "-port"].map(str::to_owned);
        let argv = [place.around.clone(), command.to_vec(), vec![EPMD_PORT.to_string()]].concat();
        let request = SpawnRequest {
            key: format!("{EPMD}-{}", place.short),
            argv,
            env_remove: vec!["ERL_EPMD_ADDRESS".into(), "ERL_EPMD_RELAXED_COMMAND_CHECK".into()],
            output: place.folder.join("epmd.log"),
            ..SpawnRequest::default()
        };
        guard.spawn(request).map_err(|error| internal(&error))?;
    }
    let deadline = Instant::now() + EPMD_PATIENCE;
    for place in places {
        while let Err(error) = epmd::dist_port(mapper(place.address), &place.short) {
            if Instant::now() >= deadline {
                let log = place.folder.join("epmd.log");
                return Err(RunError::Input(format!(
                    "the EPMD in the network namespace of {} does not answer at {}: {error}; the host's \
                     firewall may drop what comes over bridges (see {})",
                    place.short,
                    mapper(place.address),
                    log.display()
                )));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz_dist_core::spec::PortSpec;

    #[test]
    fn client_vms_have_namespaces_too_and_ports_are_the_same_everywhere() {
        let mut spec = Spec::default();
        assert_eq!(members(&spec), ["n1", "n2", "n3"]);
        assert_eq!(objection(&spec), None);
        spec.placement = Placement::Client;
        spec.client.count = 2;
        assert_eq!(members(&spec), ["n1", "n2", "n3", "c1", "c2"]);
        spec.cluster.ports = ["amqp", "http"].map(|name| PortSpec { name: name.into() }).to_vec();
        assert_eq!(port_number(&spec, "http"), Some(PORTS.start + 1));
        assert_eq!(port_number(&spec, "x"), None);
    }
}
