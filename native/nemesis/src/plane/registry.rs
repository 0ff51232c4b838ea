//! What the plane knows: nodes, registered names, directed links with their faults, and connections.
//!
//! One lock guards all of it. Whoever holds it may lock gates; a pump that holds a gate never takes it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use fuzz_dist_core::clock::monotonic_ns;
use fuzz_dist_core::fault::{Link, LinkFault, PlaneFault};
use fuzz_dist_core::sync::lock;

use super::DIST_CHANNEL;
use super::capture::Capture;
use super::connection::{BothCounters, Connection, Direction, Tapping, serve};
use super::counters::Counters;
use super::epmd::{Names, Registration, check_short};
use super::listeners::{Endpoint, Listener, Listeners, Viewer};
use super::observation;
use super::peer::Family;
use super::policy::{Access, Action, Policy, objection};
use super::protocol::{
    Applied, FaultId, Line, LinkCounts, LinkObservation, LinkStats, MapperFault, Options,
    PlaneEvent, PlaneEventKind,
};

/// One channel of one directed link.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelKey {
    pub from: String,
    pub to: String,
    /// `dist` or the name of a port.
    pub channel: String,
}

impl ChannelKey {
    fn new(from: &str, to: &str, channel: &str) -> ChannelKey {
        ChannelKey { from: from.into(), to: to.into(), channel: channel.into() }
    }

    /// Without the channel.
    pub fn link(&self) -> Link {
        Link { from: self.from.clone(), to: self.to.clone() }
    }
}

impl fmt::Display for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} ({})", self.from, self.to, self.channel)
    }
}

struct Channel {
    policy: Policy,
    faults: Vec<(FaultId, LinkFault)>,
    counters: Arc<Counters>,
    /// Where the source reaches the target.
    proxy: Listener,
    /// Connections that carry bytes in this direction, whoever opened them.
    flows: BTreeMap<u64, (Arc<Connection>, Direction)>,
}

struct ActiveFault {
    kind: LinkFault,
    applied_ns: u64,
    channels: Vec<(ChannelKey, LinkCounts)>,
}

#[derive(Default)]
struct State {
    /// Nodes under test, with their EPMD ports.
    nodes: BTreeMap<String, u16>,
    names: Names,
    tapping: Tapping,
    /// Real ports of named ports, by (target, name).
    ports: BTreeMap<(String, String), u16>,
    channels: BTreeMap<ChannelKey, Channel>,
    faults: HashMap<FaultId, ActiveFault>,
}

/// The plane. Errors are sentences for the core.
pub struct Plane {
    state: Mutex<State>,
    listeners: Listeners,
    next_connection: AtomicU64,
    lines: mpsc::Sender<Line>,
    family: Family,
}

impl fmt::Debug for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plane")
    }
}

impl Plane {
    /// A plane without nodes that tells its events to `lines`.
    ///
    /// # Errors
    /// When the kernel refuses an epoll instance.
    pub fn new(lines: mpsc::Sender<Line>) -> io::Result<Plane> {
        Ok(Plane {
            state: Mutex::new(State::default()),
            listeners: Listeners::new()?,
            next_connection: AtomicU64::new(1),
            lines,
            family: Family::of_parent(),
        })
    }

    /// The processes of the run.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The listeners.
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Sends one line to the core.
    pub fn tell(&self, line: Line) {
        // Fails only when the writer is gone, and then the process ends.
        let _ = self.lines.send(line);
    }

    fn tell_event(&self, kind: PlaneEventKind) {
        self.tell(Line::Event(PlaneEvent { monotonic_ns: monotonic_ns(), kind }));
    }

    /// Puts options in force that all connections have in common.
    pub fn configure(&self, options: Options) -> Result<(), String> {
        let mut state = lock(&self.state);
        if !state.nodes.is_empty() {
            return Err("options must come before nodes".into());
        }
        let capture = match options.capture {
            None => None,
            Some(path) => Some(Capture::create(&path).map(Arc::new).map_err(|error| {
                format!("cannot write a capture to {}: {error}", path.display())
            })?),
        };
        state.tapping = Tapping { plain_messages: options.plain_messages, capture };
        Ok(())
    }

    /// Adds a node with links to and from every other.
    pub fn add_node(&self, short: &str) -> Result<u16, String> {
        check_short(short)?;
        let mut state = lock(&self.state);
        if state.nodes.contains_key(short) {
            return Err(format!("node {short:?} exists already"));
        }
        let epmd = self
            .listeners
            .add(Endpoint::Epmd(Viewer::Node(short.to_owned())))
            .map_err(|error| format!("no EPMD listener for {short:?}: {error}"))?;
        let others: Vec<String> = state.nodes.keys().cloned().collect();
        for other in &others {
            self.add_channel(&mut state, ChannelKey::new(short, other, DIST_CHANNEL))?;
            self.add_channel(&mut state, ChannelKey::new(other, short, DIST_CHANNEL))?;
        }
        state.nodes.insert(short.to_owned(), epmd.port());
        Ok(epmd.port())
    }

    fn add_channel(&self, state: &mut State, key: ChannelKey) -> Result<u16, String> {
        if let Some(channel) = state.channels.get(&key) {
            return Ok(channel.proxy.port());
        }
        let proxy = self
            .listeners
            .add(Endpoint::Proxy(key.clone()))
            .map_err(|error| format!("no listener for {key}: {error}"))?;
        let port = proxy.port();
        state.channels.insert(
            key,
            Channel {
                policy: Policy::default(),
                faults: Vec::new(),
                counters: Arc::default(),
                proxy,
                flows: BTreeMap::new(),
            },
        );
        Ok(port)
    }

    /// Adds an EPMD listener that answers with real ports.
    pub fn add_tool(&self) -> Result<u16, String> {
        self.listeners
            .add(Endpoint::Epmd(Viewer::Tool))
            .map(|epmd| epmd.port())
            .map_err(|error| format!("no EPMD listener for a tool: {error}"))
    }

    /// Puts a named port of `target` behind a listener for each other node. The target itself gets the
    /// real port. Repeating it changes the real port and adds what is missing.
    pub fn add_port(
        &self,
        target: &str,
        name: &str,
        real_port: u16,
    ) -> Result<BTreeMap<String, u16>, String> {
        if name == DIST_CHANNEL || name.is_empty() {
            return Err(format!("a port cannot be named {name:?}"));
        }
        let mut state = lock(&self.state);
        if !state.nodes.contains_key(target) {
            return Err(state.unknown_node(target));
        }
        state.ports.insert((target.to_owned(), name.to_owned()), real_port);
        let sources: Vec<String> = state.nodes.keys().cloned().collect();
        let mut ports = BTreeMap::new();
        for source in sources {
            let port = if source == target {
                real_port
            } else {
                // Both directions: bytes that answer obey the policy of the way back.
                self.add_channel(&mut state, ChannelKey::new(target, &source, name))?;
                self.add_channel(&mut state, ChannelKey::new(&source, target, name))?
            };
            ports.insert(source, port);
        }
        Ok(ports)
    }

    /// The real distribution port of a name.
    pub fn registered(&self, short: &str) -> Option<u16> {
        lock(&self.state).names.told(short).map(|registration| registration.port)
    }

    /// Makes the port mapper wrong about a name, or right again.
    pub fn set_mapper_fault(&self, short: &str, fault: Option<MapperFault>) {
        lock(&self.state).names.set_fault(short, fault);
    }

    /// Whether a registration of this name is not answered yet.
    pub fn is_late(&self, short: &str) -> bool {
        lock(&self.state).names.is(short, MapperFault::Late)
    }

    /// Where a node really listens.
    pub fn real_port(&self, target: &str, channel: &str) -> Option<u16> {
        let state = lock(&self.state);
        if channel == DIST_CHANNEL {
            state.names.get(target).map(|registration| registration.port)
        } else {
            state.ports.get(&(target.to_owned(), channel.to_owned())).copied()
        }
    }

    /// What `viewer` is told about a name: its registration with the port by which it is to be reached.
    pub fn look_up(&self, viewer: &Viewer, name: &str) -> Option<Registration> {
        let state = lock(&self.state);
        let registration = state.names.told(name)?;
        let port = state.port_for(viewer, registration);
        if let Viewer::Node(source) = viewer
            && let Some(channel) = state.channels.get(&ChannelKey::new(source, name, DIST_CHANNEL))
            && channel.policy.access == Access::Refused
        {
            channel.counters.lookups_refused.add(1);
        }
        Some(Registration { port, ..registration.clone() })
    }

    /// Every name with the port by which `viewer` reaches it.
    pub fn names(&self, viewer: &Viewer) -> Vec<(String, u16)> {
        let state = lock(&self.state);
        let told = state.names.iter().filter(|name| state.names.told(&name.name).is_some());
        told.map(|name| (name.name.clone(), state.port_for(viewer, name))).collect()
    }

    /// Registers a name; `None` if it is taken.
    pub fn register(&self, registration: Registration) -> Option<(u64, u32)> {
        let (name, port) = (registration.name.clone(), registration.port);
        let (id, creation) = lock(&self.state).names.register(registration)?;
        self.tell_event(PlaneEventKind::Registered { name, port, creation });
        Some((id, creation))
    }

    /// Ends a registration.
    pub fn unregister(&self, id: u64) {
        let removed = lock(&self.state).names.unregister(id);
        if let Some(name) = removed {
            self.tell_event(PlaneEventKind::Unregistered { name });
        }
    }

    /// Takes a connection that arrived at the listener of `key`.
    pub fn accepted(self: &Arc<Self>, key: &ChannelKey, opener: TcpStream) {
        let back = ChannelKey::new(&key.to, &key.from, &key.channel);
        let mut state = lock(&self.state);
        let policies = (state.policy(key), state.policy(&back));
        let id = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let name = (key.from.as_str(), key.to.as_str(), key.channel.as_str());
        let connection = match Connection::new(id, name, opener, policies, &state.tapping) {
            Ok(connection) => Arc::new(connection),
            Err(error) => return eprintln!("fuzz_dist plane: connection {key}: {error}"),
        };
        let Some(forward) = state.add_flow(key, &connection, Direction::Forward) else { return };
        let Some(backward) = state.add_flow(&back, &connection, Direction::Backward) else {
            return;
        };
        forward.opened.add(1);
        drop(state);
        serve(self, connection, BothCounters { forward, backward });
    }

    /// Notes that a connection reached its target.
    pub fn connected(&self, connection: &Connection, counters: &BothCounters) {
        counters.forward.open.add(1);
        counters.backward.open.add(1);
        self.tell_event(PlaneEventKind::Opened {
            connection: connection.id,
            source: connection.source.clone(),
            target: connection.target.clone(),
            channel: connection.channel.clone(),
        });
    }

    /// Notes that a connection that had reached its target is over.
    pub fn disconnected(&self, connection: &Connection, counters: &BothCounters) {
        counters.forward.open.take(1);
        counters.backward.open.take(1);
        count_closed(connection, &counters.backward);
        self.attempt_ended(connection, counters);
    }

    /// Notes that a connection is over.
    pub fn attempt_ended(&self, connection: &Connection, counters: &BothCounters) {
        count_closed(connection, &counters.forward);
        self.forget(connection.id);
        let (first, cause) = connection.first();
        self.tell_event(PlaneEventKind::Closed {
            connection: connection.id,
            source: connection.source.clone(),
            target: connection.target.clone(),
            channel: connection.channel.clone(),
            first,
            cause,
        });
    }

    /// Lets go of a connection.
    pub fn forget(&self, id: u64) {
        let mut gone = Vec::new();
        for channel in lock(&self.state).channels.values_mut() {
            gone.extend(channel.flows.remove(&id));
        }
        // Dropped only now: closing a socket takes a while, and the lock is needed elsewhere.
        drop(gone);
    }

    /// Checks that a fault could be applied now.
    pub fn check(
        &self,
        fault: FaultId,
        links: &[Link],
        port: Option<&str>,
        kind: &LinkFault,
    ) -> Result<(), String> {
        lock(&self.state).keys(fault, links, port, kind).map(|_| ())
    }

    /// Begins a fault.
    pub fn apply(
        &self,
        fault: FaultId,
        links: &[Link],
        port: Option<&str>,
        kind: &LinkFault,
    ) -> Result<Applied, String> {
        let mut state = lock(&self.state);
        let keys = state.keys(fault, links, port, kind)?;
        // Known from here on, so that what fails half-way is healed like any other.
        let active = ActiveFault { kind: kind.clone(), applied_ns: 0, channels: Vec::new() };
        state.faults.insert(fault, active);
        for key in &keys {
            if let Err(error) = state.begin(fault, key, kind, &self.listeners) {
                // What heals here is the listener that failed, and its error is the one to tell.
                let _ = state.heal(fault, &self.listeners);
                return Err(format!("fault {fault}: {key}: {error}"));
            }
        }
        for key in &keys {
            state.act(fault, key, kind);
        }
        let applied_ns = monotonic_ns();
        if let Some(active) = state.faults.get_mut(&fault) {
            active.applied_ns = applied_ns;
        }
        Ok(Applied { monotonic_ns: applied_ns, changed: true })
    }

    /// Ends a fault.
    pub fn heal(&self, fault: FaultId) -> Result<Applied, String> {
        let mut state = lock(&self.state);
        let changed = state.heal(fault, &self.listeners)?;
        Ok(Applied { monotonic_ns: monotonic_ns(), changed })
    }

    /// Ends every fault.
    pub fn heal_all(&self) -> Result<Applied, String> {
        let mut state = lock(&self.state);
        let faults: Vec<FaultId> = state.faults.keys().copied().collect();
        let mut errors = Vec::new();
        for &fault in &faults {
            errors.extend(state.heal(fault, &self.listeners).err());
        }
        match errors.is_empty() {
            true => Ok(Applied { monotonic_ns: monotonic_ns(), changed: !faults.is_empty() }),
            false => Err(errors.join("; ")),
        }
    }

    /// Counters of every channel.
    pub fn stats(&self) -> Vec<LinkStats> {
        let state = lock(&self.state);
        let stats = state.channels.iter().map(|(key, channel)| LinkStats {
            link: key.link(),
            channel: key.channel.clone(),
            faults: channel.faults.iter().map(|(id, kind)| (*id, kind.name().into())).collect(),
            counts: channel.counters.read(),
        });
        stats.collect()
    }

    /// Whether the effect of an active fault is found out by connecting and waiting.
    pub fn is_probed(&self, fault: FaultId) -> bool {
        let state = lock(&self.state);
        let active = state.faults.get(&fault);
        active.is_some_and(|active| matches!(active.kind, LinkFault::BlackholeConnect))
    }

    /// What an active fault has done so far, link by link.
    pub fn observe(&self, fault: FaultId) -> Result<Vec<LinkObservation>, String> {
        let (kind, applied_ns, channels) = {
            let state = lock(&self.state);
            let active = state.faults.get(&fault);
            let active = active.ok_or_else(|| format!("fault {fault} is not active"))?;
            let looks = active.channels.iter().filter_map(|(key, before)| {
                let channel = state.channels.get(key)?;
                Some((key.clone(), *before, channel.counters.read(), channel.proxy.port()))
            });
            (active.kind.clone(), active.applied_ns, looks.collect::<Vec<_>>())
        };
        // Without the lock: a probe connects.
        Ok(observation::observe(&kind, applied_ns, channels))
    }
}

impl Channel {
    /// Puts the policy of the active faults in force.
    fn enforce(&mut self, listeners: &Listeners) -> io::Result<()> {
        let policy = Policy::of(self.faults.iter().map(|(_, kind)| kind));
        if policy == self.policy {
            return Ok(());
        }
        let (was, access) = (self.policy.access, policy.access);
        self.policy = policy;
        for (connection, direction) in self.flows.values() {
            connection.gate(*direction).change(|orders| orders.policy = policy);
        }
        if was == access { Ok(()) } else { listeners.change(&self.proxy, was, access) }
    }
}

impl State {
    fn policy(&self, key: &ChannelKey) -> Policy {
        self.channels.get(key).map(|channel| channel.policy).unwrap_or_default()
    }

    fn add_flow(
        &mut self,
        key: &ChannelKey,
        connection: &Arc<Connection>,
        direction: Direction,
    ) -> Option<Arc<Counters>> {
        let channel = self.channels.get_mut(key)?;
        channel.flows.insert(connection.id, (Arc::clone(connection), direction));
        Some(Arc::clone(&channel.counters))
    }

    fn port_for(&self, viewer: &Viewer, registration: &Registration) -> u16 {
        let proxy = match viewer {
            Viewer::Node(source) => {
                self.channels.get(&ChannelKey::new(source, &registration.name, DIST_CHANNEL))
            }
            Viewer::Tool => None,
        };
        proxy.map_or(registration.port, |channel| channel.proxy.port())
    }

    fn unknown_node(&self, short: &str) -> String {
        let known: Vec<&str> = self.nodes.keys().map(String::as_str).collect();
        format!("no node is named {short:?}; known: {}", known.join(", "))
    }

    /// The channels that a fault is about, each once, or what is wrong with the fault.
    fn keys(
        &self,
        fault: FaultId,
        links: &[Link],
        port: Option<&str>,
        kind: &LinkFault,
    ) -> Result<Vec<ChannelKey>, String> {
        if let Some(objection) = objection(fault, kind, port) {
            return Err(objection);
        }
        if self.faults.contains_key(&fault) {
            return Err(format!("fault {fault} is active already"));
        }
        if links.is_empty() {
            return Err(format!("fault {fault} names no link"));
        }
        let channel = port.unwrap_or(DIST_CHANNEL);
        let mut keys = Vec::with_capacity(links.len());
        for link in links {
            for end in [&link.from, &link.to] {
                if !self.nodes.contains_key(end) {
                    return Err(format!("fault {fault}: {}", self.unknown_node(end)));
                }
            }
            let key = ChannelKey::new(&link.from, &link.to, channel);
            if !self.channels.contains_key(&key) {
                return Err(self.no_channel(fault, &key));
            }
            keys.push(key);
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    fn no_channel(&self, fault: FaultId, key: &ChannelKey) -> String {
        if key.from == key.to {
            return format!("fault {fault}: a link from {} to itself does not exist", key.from);
        }
        let mut known: Vec<&str> = self.ports.keys().map(|(_, name)| name.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        format!(
            "fault {fault}: between {} and {} no port is named {:?}; known: {}",
            key.from,
            key.to,
            key.channel,
            if known.is_empty() { "none".into() } else { known.join(", ") }
        )
    }

    /// Puts the policy of a fault in force on one channel.
    fn begin(
        &mut self,
        fault: FaultId,
        key: &ChannelKey,
        kind: &LinkFault,
        listeners: &Listeners,
    ) -> io::Result<()> {
        let Some(channel) = self.channels.get_mut(key) else { return Ok(()) };
        channel.faults.push((fault, kind.clone()));
        let enforced = channel.enforce(listeners);
        // After the policy is in force, so that what passed just before does not count as having passed
        // in spite of it; before connections are closed on any channel, so that those count: closing
        // one direction of a connection ends the other.
        let before = channel.counters.read();
        if let Some(active) = self.faults.get_mut(&fault) {
            active.channels.push((key.clone(), before));
        }
        enforced
    }

    /// Does to the connections of one channel what the fault does once.
    fn act(&self, fault: FaultId, key: &ChannelKey, kind: &LinkFault) {
        let Some(channel) = self.channels.get(key) else { return };
        for (connection, _) in channel.flows.values() {
            match Action::of(kind) {
                Some(Action::Fin) => connection.close(fault),
                Some(Action::Rst) => connection.abort(fault),
                Some(Action::HalfOpen) => {
                    let done = connection.half_open(fault, &key.from);
                    channel.counters.half_opened.add(u64::from(done));
                }
                None => {}
            }
        }
    }

    fn heal(&mut self, fault: FaultId, listeners: &Listeners) -> Result<bool, String> {
        let Some(active) = self.faults.remove(&fault) else { return Ok(false) };
        let mut errors = Vec::new();
        for (key, _) in active.channels {
            let Some(channel) = self.channels.get_mut(&key) else { continue };
            channel.faults.retain(|(id, _)| *id != fault);
            // The others are healed whatever happens to this one.
            errors.extend(channel.enforce(listeners).err().map(|error| format!("{key}: {error}")));
            for (connection, _) in channel.flows.values() {
                connection.heal_half_open(fault);
            }
        }
        if errors.is_empty() { Ok(true) } else { Err(errors.join("; ")) }
    }
}

fn count_closed(connection: &Connection, counters: &Counters) {
    counters.closed.add(1);
    if connection.closed_by_fault() {
        counters.closed_by_fault.add(1);
    }
}
