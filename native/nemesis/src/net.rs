//! Nodes in network namespaces of a run's own, joined by a bridge: what the kernel makes of lost packets.
//!
//! Each node has a namespace with an address of its own on a bridge, on which the host has one too, so that
//! agents reach the core. Packets are dropped, answered with a reset or sent through queues by rules of tables of our
//! own ([`rules`]), by directed pair of addresses and, if asked, by port; the tables are replaced in one transaction,
//! and nothing else of the firewall is touched. Queues ([`shaping`]) hang at the cables. How often a rule matched and
//! what a queue did shows the effect; packets that pass again show the heal.
//!
//! This is the reference for the link plane, which holds bytes and heals at once: here TCP sends again what was
//! lost after 200 ms, then after twice that and so on, so a cut lasts longer than was asked, by up to its own
//! length.
//!
//! Everything is named after the run ([`Names`]), so that what removes it is known before anything is there:
//! the guard gets [`Names::removal`] first and runs it at every end of the run. Queues go with their cables.
//!
//! Limits: Linux and root, with `ip`, `nft` and, for queues, `tc` ([`probe()`] tries). IPv4 only. A host whose
//! firewall forwards no bridged packets (`net.bridge.bridge-nf-call-iptables` with a policy of drop) cuts all links.

mod command;
mod leftovers;
mod probe;
mod rules;
mod shaping;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fuzz_dist_core::clock::monotonic_ns;
use fuzz_dist_core::fault::Link;
use fuzz_dist_core::random;
use fuzz_dist_core::sync::lock;

use crate::guard::Identity;

pub use command::missing;
use command::{run, words};
pub use leftovers::remove_leftovers;
pub use probe::{Probe, probe, unavailable};
pub use rules::Ports;
use rules::{Counted, End, Matched, Rule, Rules, Verdict};
use shaping::Shaper;
pub use shaping::{Emulation, Queue, Shape};

/// The most namespaces of a run: the host's own address is the last one.
pub const MEMBERS_MAX: usize = 253;

/// How old what was read of the kernel may be when it is given again: many ask at the same time.
const FRESH: Duration = Duration::from_millis(30);

/// How often a network is drawn again that another run has drawn too.
const DRAWS_MAX: usize = 100;

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
    /// The run is over.
    #[error("the network of the run has been removed: the run is over")]
    Closed,
    /// More than a network has addresses for.
    #[error("{0} nodes and client VMs: one network has addresses for {MEMBERS_MAX}")]
    TooMany(usize),
}

/// Digits of tags.
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Length of the tags of processes; names of interfaces leave no room for more.
const TAG_LEN: usize = 6;

/// Start times are told apart by their remainder: 4,194,304 ids times this fit into six digits of 36.
const START_TIMES: u64 = 500;

/// The largest process id that Linux gives.
const PID_MAX: i32 = 4_194_304;

/// How the names of namespaces and tables begin.
const PREFIX: &str = "fuzz_dist_";

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

    /// With a tag that no other run on this machine has: the id and the start of this process, so that
    /// what it leaves can be told from what a live run has.
    pub fn of_this_process(nodes: &[String]) -> Names {
        let pid = std::process::id();
        let start_time = Identity::of(pid as i32).map_or_else(random::number, |me| me.start_time);
        Names::new(&Names::tag_of(u64::from(pid), start_time), nodes)
    }

    /// What tells the run apart.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    fn tag_of(pid: u64, start_time: u64) -> String {
        let mut rest = pid * START_TIMES + start_time % START_TIMES;
        let mut tag = [0; TAG_LEN];
        for digit in tag.iter_mut().rev() {
            *digit = DIGITS[(rest % 36) as usize];
            rest /= 36;
        }
        tag.map(char::from).iter().collect()
    }

    /// The process id, and what tells its start, of a tag of [`Names::of_this_process`].
    fn process_of(tag: &str) -> Option<(i32, u64)> {
        if tag.len() != TAG_LEN || tag.bytes().any(|byte| !DIGITS.contains(&byte)) {
            return None;
        }
        let number = u64::from_str_radix(tag, 36).ok()?;
        let pid = i32::try_from(number / START_TIMES).ok().filter(|pid| *pid <= PID_MAX)?;
        Some((pid, number % START_TIMES))
    }

    fn bridge(&self) -> String {
        format!("fd{}", self.tag)
    }

    fn table(&self) -> String {
        format!("{PREFIX}{}", self.tag)
    }

    fn namespace(&self, node: &str) -> String {
        format!("{PREFIX}{}_{node}", self.tag)
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
        for family in ["bridge", "netdev"] {
            commands.push(words(&format!("nft delete table {family} {}", self.table())));
        }
        commands
    }
}

/// What is done to packets of directed links.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// They are lost.
    Drop,
    /// Those of TCP are answered with a reset.
    Reset,
    /// They wait in a queue.
    Shape(Shape),
}

/// What a fault has done to a directed link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Which link.
    pub link: Link,
    /// Packets that its rule has matched.
    pub packets: u64,
    /// What its queue has done; that of the emulator is shared by links with the same end.
    pub queue: Option<Queue>,
}

/// A fault that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healed {
    /// `CLOCK_MONOTONIC` at which the kernel was asked to forget it.
    pub monotonic_ns: u64,
    /// Its links, as they were given; none if it was not active.
    pub links: Vec<HealedLink>,
}

/// A link of a fault that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealedLink {
    /// All that was done to it.
    pub effect: Effect,
    /// Packets that had passed it by then: see [`Network::passed`].
    pub passed: u64,
}

/// The network of a run. All methods may be called from any thread.
#[derive(Debug)]
pub struct Network {
    names: Names,
    host: Ipv4Addr,
    ends: BTreeMap<String, End>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rules: Rules,
    shaper: Shaper,
    counted: Option<(Instant, Arc<Counted>)>,
    /// The run is over: nothing is made any more that somebody has just removed.
    closed: bool,
}

impl State {
    /// What the rules have counted, at most [`FRESH`] ago.
    fn counted(&mut self) -> Result<Arc<Counted>, NetError> {
        if let Some((at, counted)) = &self.counted
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(counted));
        }
        let counted = Arc::new(self.rules.read()?);
        self.counted = Some((Instant::now(), Arc::clone(&counted)));
        Ok(counted)
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<Rule>)) -> Result<u64, NetError> {
        if self.closed {
            return Err(NetError::Closed);
        }
        self.counted = None;
        self.rules.change(change)
    }
}

impl Network {
    /// Makes it. What removes it must be with the guard by then.
    ///
    /// # Errors
    /// A command that failed; what was made before is left to the guard.
    pub fn create(names: Names) -> Result<Network, NetError> {
        if names.nodes.len() > MEMBERS_MAX {
            return Err(NetError::TooMany(names.nodes.len()));
        }
        let bridge = names.bridge();
        run(&format!("ip link add {bridge} type bridge"))?;
        let prefix = take_network(&bridge)?;
        run(&format!("ip link set {bridge} up"))?;
        let mut ends = BTreeMap::new();
        for (index, node) in names.nodes.iter().enumerate() {
            let (namespace, cable) = (names.namespace(node), names.cable(index));
            let address = prefix.address(index + 1);
            run(&format!("ip netns add {namespace}"))?;
            run(&format!("ip link add {cable} type veth peer name eth0 netns {namespace}"))?;
            run(&format!("ip link set {cable} master {bridge} up"))?;
            run(&format!("ip -n {namespace} address add {address}/24 dev eth0"))?;
            run(&format!("ip -n {namespace} link set eth0 up"))?;
            run(&format!("ip -n {namespace} link set lo up"))?;
            ends.insert(node.clone(), End { address, cable });
        }
        let mut rules = Rules::new(names.table());
        rules.put_in_force()?;
        let state = State { rules, shaper: Shaper::default(), counted: None, closed: false };
        Ok(Network { names, host: prefix.host(), ends, state: Mutex::new(state) })
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
        self.end(node).map(|end| end.address)
    }

    fn end(&self, node: &str) -> Result<&End, NetError> {
        self.ends.get(node).ok_or_else(|| NetError::UnknownNode(node.to_owned()))
    }

    /// What has to stand before a command to run it where a node is.
    pub fn enter(&self, node: &str) -> Vec<String> {
        words(&format!("ip netns exec {}", self.names.namespace(node)))
    }

    /// Does something to packets of directed links from now on: all, or those of a TCP port. Returns
    /// `CLOCK_MONOTONIC` at which the kernel was asked. Of several queues for a link the latest counts.
    ///
    /// # Errors
    /// An unknown node, or what the kernel refuses; then nothing was changed.
    pub fn apply(
        &self,
        fault: u32,
        links: &[Link],
        ports: Option<Ports>,
        action: &Action,
    ) -> Result<u64, NetError> {
        let mut ends = Vec::new();
        for link in links {
            ends.push((link, self.end(&link.from)?, self.end(&link.to)?));
        }
        let mut state = lock(&self.state);
        if state.closed {
            return Err(NetError::Closed);
        }
        let verdicts: Vec<Verdict> = match action {
            Action::Drop => vec![Verdict::Drop; links.len()],
            Action::Reset => vec![Verdict::Reset; links.len()],
            Action::Shape(shape) => {
                let cables: Vec<&str> = ends.iter().map(|(.., to)| to.cable.as_str()).collect();
                queues(&mut state.shaper, fault, &cables, shape)?
            }
        };
        let added: Vec<Rule> = ends
            .into_iter()
            .zip(verdicts)
            .map(|((link, from, to), verdict)| Rule {
                fault,
                link: link.clone(),
                from: from.clone(),
                to: to.clone(),
                ports,
                verdict,
                packets_before: 0,
            })
            .collect();
        let done = state.change(|rules| rules.extend(added));
        if done.is_err() {
            state.shaper.heal(|of| of == fault)?;
            state.shaper.collect()?;
        }
        done
    }

    /// Ends a fault; nothing happens if it is not active. What waits in its queues leaves them.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn heal(&self, fault: u32) -> Result<Healed, NetError> {
        let mut state = lock(&self.state);
        if state.closed || !state.rules.has(fault) {
            return Ok(Healed { monotonic_ns: monotonic_ns(), links: Vec::new() });
        }
        let queues = if state.shaper.has(fault) { state.shaper.read()? } else { BTreeMap::new() };
        let mut going = Vec::new();
        let healed_ns = state.change(|rules| {
            going.extend(rules.extract_if(.., |rule| rule.fault == fault));
        })?;
        if state.shaper.has(fault) {
            state.shaper.heal(|of| of == fault)?;
        }
        let none = Counted::new();
        let of = |rule: &Rule| HealedLink {
            effect: effect(rule.matched(0), &queues),
            passed: state.rules.passed(&rule.link, rule.ports, &none),
        };
        Ok(Healed { monotonic_ns: healed_ns, links: going.iter().map(of).collect() })
    }

    /// Ends all faults, and removes all queues.
    ///
    /// # Errors
    /// As [`Network::heal`].
    pub fn heal_all(&self) -> Result<(), NetError> {
        let mut state = lock(&self.state);
        if state.closed {
            return Ok(());
        }
        if !state.rules.is_empty() {
            state.change(Vec::clear)?;
        }
        state.shaper.clear();
        Ok(())
    }

    /// From now on nothing is made any more, so that it stays removed when the guard has removed it.
    pub fn close(&self) {
        lock(&self.state).closed = true;
    }

    /// Removes everything, also what was made again after a guard that died.
    pub fn remove(&self) {
        self.close();
        for command in self.names.removal() {
            // It is gone already unless the guard came in between.
            let _ = run(&command.join(" "));
        }
    }

    /// What a fault has done to each of its links.
    ///
    /// # Errors
    /// What cannot be read of the kernel.
    pub fn effects(&self, fault: u32) -> Result<Vec<Effect>, NetError> {
        let mut state = lock(&self.state);
        let counted = state.counted()?;
        let queues = if state.shaper.has(fault) { state.shaper.read()? } else { BTreeMap::new() };
        let matched = state.rules.matched(fault, &counted);
        Ok(matched.into_iter().map(|matched| effect(matched, &queues)).collect())
    }

    /// How many packets have passed each of these links since a fault first touched it, and whether one still
    /// does. Removes queues that have run empty.
    ///
    /// # Errors
    /// What cannot be read of the kernel.
    pub fn passed(
        &self,
        links: &[Link],
        ports: Option<Ports>,
    ) -> Result<Vec<(u64, bool)>, NetError> {
        let mut state = lock(&self.state);
        state.shaper.collect()?;
        let counted = state.counted()?;
        let rules = &state.rules;
        let of = |link| (rules.passed(link, ports, &counted), rules.touches(link));
        Ok(links.iter().map(of).collect())
    }
}

/// What became of a link, with what the queues have done.
fn effect((link, packets, queue): Matched, queues: &BTreeMap<(String, u16), Queue>) -> Effect {
    Effect { link, packets, queue: queue.and_then(|queue| queues.get(&queue).copied()) }
}

/// Queues for packets that end at these cables: for a rate one each, for the emulator one a cable.
fn queues(
    shaper: &mut Shaper,
    fault: u32,
    cables: &[&str],
    shape: &Shape,
) -> Result<Vec<Verdict>, NetError> {
    let mut distinct = cables.to_vec();
    if matches!(shape, Shape::Emulate(_)) {
        distinct.sort_unstable();
        distinct.dedup();
    }
    let minors = shaper.add(fault, &distinct, shape)?;
    let of = |(index, cable): (usize, &&str)| match shape {
        Shape::Rate(_) => index,
        Shape::Emulate(_) => distinct.iter().position(|other| other == cable).unwrap_or_default(),
    };
    Ok(cables.iter().enumerate().map(|one| Verdict::Class(minors[of(one)])).collect())
}

/// A network of 256 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix(u8, u8);

/// How many there are to choose from: 10.200.0.0/24 to 10.249.255.0/24.
const PREFIXES: u32 = 50 * 256;

impl Prefix {
    fn numbered(number: u32) -> Prefix {
        let number = number % PREFIXES;
        Prefix(200 + (number / 256) as u8, number as u8)
    }

    fn address(self, number: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, self.0, self.1, number as u8)
    }

    fn host(self) -> Ipv4Addr {
        self.address(254)
    }

    /// As `ip` writes the beginning of its addresses.
    fn text(self) -> String {
        format!("10.{}.{}.", self.0, self.1)
    }
}

/// Gives the bridge an address in a network that is nobody else's. Of two runs that draw the same at the same moment
/// at least one sees the address of the other after it has set its own, and draws again.
fn take_network(bridge: &str) -> Result<Prefix, NetError> {
    for _ in 0..DRAWS_MAX {
        let routes = run("ip -4 route show table all")?;
        let start = random::number() as u32 % PREFIXES;
        let mut candidates = (0..PREFIXES).map(|offset| Prefix::numbered(start + offset));
        let prefix = candidates.find(|prefix| !routes.contains(&prefix.text()));
        let prefix = prefix.ok_or(NetError::NoNetwork)?;
        let address = format!("{}/24", prefix.host());
        run(&format!("ip address add {address} dev {bridge}"))?;
        let others = run("ip -4 -o address show")?;
        let sharing = others.lines().filter(|line| line.contains(&format!(" {}", prefix.text())));
        if sharing.count() == 1 {
            return Ok(prefix);
        }
        run(&format!("ip address delete {address} dev {bridge}"))?;
    }
    Err(NetError::NoNetwork)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_enough_and_of_this_process() {
        let nodes: Vec<String> = (0..MEMBERS_MAX).map(|i| format!("n{i}")).collect();
        let names = Names::of_this_process(&nodes);
        assert_eq!(names.tag.len(), TAG_LEN, "{}", names.tag);
        assert!(names.cable(MEMBERS_MAX).len() <= 15 && names.bridge().len() <= 15);
        // A namespace and a cable each, the bridge, a table in each of two families.
        assert_eq!(names.removal().len(), 2 * MEMBERS_MAX + 3);
        let largest = Names::tag_of(PID_MAX as u64, START_TIMES - 1);
        assert_eq!(Names::process_of(&largest), Some((PID_MAX, START_TIMES - 1)));
    }

    #[test]
    fn networks_are_numbered_and_wrap() {
        assert_eq!(Prefix::numbered(0).host(), Ipv4Addr::new(10, 200, 0, 254));
        assert_eq!(Prefix::numbered(PREFIXES - 1).address(1), Ipv4Addr::new(10, 249, 255, 1));
        assert_eq!(Prefix::numbered(PREFIXES), Prefix::numbered(0));
    }
}
