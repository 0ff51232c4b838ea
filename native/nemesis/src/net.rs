//! Nodes in network namespaces of a run's own, joined by a bridge: what the kernel makes of lost packets.
//!
//! Each node has a namespace with an address of its own on a bridge, on which the host has one too, so that
//! agents reach the core. Packets are dropped by rules of one table of our own in the `bridge` family, by
//! directed pair of addresses and, if asked, by port; the whole table is replaced in one transaction, and
//! nothing else of the firewall is touched. How often a rule matched shows its effect.
//!
//! This is the reference for the link plane, which holds bytes and heals at once: here TCP sends again what was
//! lost after 200 ms, then after twice that and so on, so a cut lasts longer than was asked, by up to its own
//! length.
//!
//! Everything is named after the run ([`Names`]), so that what removes it is known before anything is there:
//! the guard gets [`Names::removal`] first and runs it at every end of the run.
//!
//! Limits: Linux and root, with `ip` and `nft`. A host whose firewall forwards no bridged packets
//! (`net.bridge.bridge-nf-call-iptables` with a policy of drop) cuts all links.

mod rules;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use fuzz_dist_core::clock::monotonic_ns;
use fuzz_dist_core::fault::Link;
use fuzz_dist_core::sync::lock;

use rules::{Rule, Rules};

/// Why the kernel's network could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A command failed.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// With its arguments.
        command: String,
        /// What it said.
        reason: String,
    },
    /// All networks that we would take are in use.
    #[error("every network from 10.200.0.0/24 to 10.249.255.0/24 is in use on this machine")]
    NoNetwork,
    /// A node that has no namespace.
    #[error("{0} has no network namespace")]
    UnknownNode(String),
}

/// Why nothing of this can be had here; `None` when it can. Changes nothing.
pub fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root: network namespaces are made with `ip netns`".into());
    }
    let missing = [("ip", "iproute2"), ("nft", "nftables")].into_iter().find(|(program, _)| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        !std::env::split_paths(&path).any(|folder| folder.join(program).exists())
    });
    if let Some((program, package)) = missing {
        return Some(format!("`{program}` is not in PATH; the Debian package {package} has it"));
    }
    let namespaces = Path::new("/proc/self/ns/net").exists();
    (!namespaces).then(|| "this kernel has no network namespaces".into())
}

/// What everything of a run is called.
#[derive(Debug, Clone)]
pub struct Names {
    tag: String,
    nodes: Vec<String>,
}

impl Names {
    /// For the nodes of a run; `tag` tells runs apart: at most six letters or digits.
    pub fn new(tag: &str, nodes: &[String]) -> Names {
        Names { tag: tag.chars().take(6).collect(), nodes: nodes.to_vec() }
    }

    fn bridge(&self) -> String {
        format!("fd{}", self.tag)
    }

    fn table(&self) -> String {
        format!("fuzz_dist_{}", self.tag)
    }

    fn namespace(&self, node: &str) -> String {
        format!("fuzz_dist_{}_{node}", self.tag)
    }

    /// The end of a node's cable at the bridge; names of interfaces have at most 15 characters.
    fn cable(&self, index: usize) -> String {
        format!("fd{}v{index}", self.tag)
    }

    /// Commands that remove everything, whether or not it is there.
    pub fn removal(&self) -> Vec<Vec<String>> {
        let mut commands = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            // The cable goes with its other end; by itself if it has not been moved into the namespace.
            commands.push(words(&format!("ip netns delete {}", self.namespace(node))));
            commands.push(words(&format!("ip link delete {}", self.cable(index))));
        }
        commands.push(words(&format!("ip link delete {}", self.bridge())));
        commands.push(words(&format!("nft delete table bridge {}", self.table())));
        commands
    }
}

fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

/// The network of a run.
#[derive(Debug)]
pub struct Network {
    names: Names,
    host: Ipv4Addr,
    addresses: BTreeMap<String, Ipv4Addr>,
    rules: Mutex<Rules>,
}

impl Network {
    /// Makes it. What removes it must be with the guard by then.
    ///
    /// # Errors
    /// A command that failed; what was made before is left to the guard.
    pub fn create(names: Names) -> Result<Network, NetError> {
        let prefix = free_network()?;
        let [a, b, c, _] = prefix.octets();
        let at = |number: usize| Ipv4Addr::new(a, b, c, number as u8);
        let (bridge, host) = (names.bridge(), at(254));
        run(&format!("ip link add {bridge} type bridge"))?;
        run(&format!("ip address add {host}/24 dev {bridge}"))?;
        run(&format!("ip link set {bridge} up"))?;
        let mut addresses = BTreeMap::new();
        for (index, node) in names.nodes.iter().enumerate() {
            let (namespace, cable) = (names.namespace(node), names.cable(index));
            let address = at(index + 1);
            run(&format!("ip netns add {namespace}"))?;
            run(&format!("ip link add {cable} type veth peer name eth0 netns {namespace}"))?;
            run(&format!("ip link set {cable} master {bridge} up"))?;
            run(&format!("ip -n {namespace} address add {address}/24 dev eth0"))?;
            run(&format!("ip -n {namespace} link set eth0 up"))?;
            run(&format!("ip -n {namespace} link set lo up"))?;
            addresses.insert(node.clone(), address);
        }
        let rules = Mutex::new(Rules::new(names.table()));
        let network = Network { names, host, addresses, rules };
        lock(&network.rules).put_in_force()?;
        Ok(network)
    }

    /// The host's address, where nodes reach the core.
    pub fn host(&self) -> Ipv4Addr {
        self.host
    }

    /// The address of a node.
    ///
    /// # Errors
    /// An unknown node.
    pub fn address(&self, node: &str) -> Result<Ipv4Addr, NetError> {
        self.addresses.get(node).copied().ok_or_else(|| NetError::UnknownNode(node.to_owned()))
    }

    /// What has to stand before a command to run it where a node is.
    pub fn enter(&self, node: &str) -> Vec<String> {
        words(&format!("ip netns exec {}", self.names.namespace(node)))
    }

    /// Drops packets of directed links from now on: all, or those of a TCP port of either end. Returns
    /// `CLOCK_MONOTONIC` at which the rules were in force.
    ///
    /// # Errors
    /// An unknown node, or rules that the kernel refuses; then nothing was changed.
    pub fn drop_packets(
        &self,
        fault: u32,
        links: &[Link],
        port: Option<u16>,
    ) -> Result<u64, NetError> {
        let mut added = Vec::new();
        for link in links {
            let (from, to) = (self.address(&link.from)?, self.address(&link.to)?);
            added.push(Rule { fault, link: link.clone(), from, to, port, packets_before: 0 });
        }
        lock(&self.rules).change(|rules| rules.extend(added))?;
        Ok(monotonic_ns())
    }

    /// Ends a fault; nothing happens if it is not active.
    ///
    /// # Errors
    /// Rules that the kernel refuses.
    pub fn heal(&self, fault: u32) -> Result<u64, NetError> {
        lock(&self.rules).change(|rules| rules.retain(|rule| rule.fault != fault))?;
        Ok(monotonic_ns())
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// As [`Network::heal`].
    pub fn heal_all(&self) -> Result<u64, NetError> {
        lock(&self.rules).change(Vec::clear)?;
        Ok(monotonic_ns())
    }

    /// How many packets a fault has dropped on each of its links.
    ///
    /// # Errors
    /// A table that cannot be read.
    pub fn dropped(&self, fault: u32) -> Result<Vec<(Link, u64)>, NetError> {
        lock(&self.rules).dropped(fault)
    }
}

/// The first network of our range that the machine knows no route to.
fn free_network() -> Result<Ipv4Addr, NetError> {
    let routes = run("ip -4 route show table all")?;
    let start = std::process::id() % (50 * 256);
    let candidates = (0..50 * 256).map(|offset| (start + offset) % (50 * 256));
    let network = |number: u32| Ipv4Addr::new(10, 200 + (number / 256) as u8, number as u8, 0);
    candidates
        .map(network)
        .find(|network| {
            let [a, b, c, _] = network.octets();
            !routes.contains(&format!("{a}.{b}.{c}."))
        })
        .ok_or(NetError::NoNetwork)
}

/// Runs a command; what it wrote.
fn run(command: &str) -> Result<String, NetError> {
    run_with(command, "")
}

/// Runs a command that reads `input`; what it wrote.
fn run_with(command: &str, input: &str) -> Result<String, NetError> {
    let failed = |reason: String| NetError::Command { command: command.to_owned(), reason };
    let argv = words(command);
    let Some((program, arguments)) = argv.split_first() else { return Ok(String::new()) };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A command that does not read says why by its status.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(format!("{} ({})", said.trim(), output.status)))
    }
}
