//! The nodes and client VMs of a run as OS processes: starts, faults, watches and revives them.
//!
//! Every VM is a child of the guard and has its own name (`<short>@127.0.0.1`), data and log folder
//! (`nodes/<short>/{data,log}` in the run), output (`nodes/<short>/output.log`) and EPMD port, which the
//! plane serves; no EPMD of the machine is used. In namespaces of the run's own ([`namespaces`]) each has an address and
//! an EPMD of its own instead. Client VMs (`c1` …) are hidden nodes that reach
//! all others past the plane, so no fault touches them.
//!
//! A node is up when its process lives, and has arrived when its agent has dialled the core. An agent
//! that does not dial by itself is loaded or started over a hidden connection ([`bootstrap`]).
//!
//! Limits: a command that leaves the foreground (a daemon) counts as a node that exited.

mod apart;
mod arrival;
pub mod bootstrap;
pub(crate) mod code_path;
mod diagnosis;
mod home;
mod launch;
mod lives;
pub mod namespaces;
mod placeholders;
mod watchdog;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::clock;
use fuzz_dist_core::fault::{FaultSchedule, Plane};
use fuzz_dist_core::random;
use fuzz_dist_core::spec::{Placement, Spec};
use fuzz_dist_core::sync::lock;
use fuzz_dist_nemesis::guard::{
    Exit, Guard, GuardError, GuardEvent, Identity, ProcessState, Signal, state,
};
use fuzz_dist_nemesis::net::Network;
use fuzz_dist_nemesis::plane::{PlaneClient, PlaneError};

use crate::agents::{Agents, Link, Role};
use crate::directory::NodeDirectory;
use crate::recorder::{Recorder, map};
use crate::request::RunError;
use crate::stop::Stop;
pub use code_path::{EBIN_VARIABLE, find_ebin};
pub(crate) use launch::quote;
use launch::{HOST, Launcher, Place, free_ports};
pub use lives::Alias;
use watchdog::Watchdog;
pub use watchdog::{RESTARTS_MAX, Rescue};

/// How long a node may take to answer a ping before it counts as not answering.
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a node that was asked to end may take before it is killed to be started again; an idle BEAM
/// takes one second for an orderly stop.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// How long a VM whose agent is gone may take to end; it may write a crash dump for two seconds.
const DYING_PATIENCE: Duration = Duration::from_secs(3);

/// How often conditions that nobody announces are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a cluster is made of.
#[derive(Debug)]
pub struct Parts {
    /// The test.
    pub spec: Spec,
    /// Planes that may have a say in how nodes are started.
    pub planes: Vec<Plane>,
    /// The faults, if they are given and not drawn from the spec.
    pub schedule: Option<FaultSchedule>,
    /// Parent of all its processes.
    pub guard: Arc<Guard>,
    /// Serves the EPMD ports and carries every link.
    pub plane: Arc<PlaneClient>,
    /// The namespaces that VMs live in; on the loopback when absent.
    pub network: Option<Arc<Network>>,
    /// Where agents dial to.
    pub agents: Arc<Agents>,
    /// Takes `:node-started`, `:node-ready` and `:node-exited`.
    pub recorder: Recorder,
    /// The id of the run.
    pub run: String,
    /// The folder of the run.
    pub run_dir: PathBuf,
    /// The token of the run.
    pub token: String,
}

/// The nodes and client VMs of a run. All methods may be called from any thread; nodes are named by
/// their short names.
#[derive(Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    launcher: Launcher,
    agent_beam: Vec<u8>,
    nodes: Vec<Place>,
    clients: Vec<Place>,
    guard: Arc<Guard>,
    plane: Arc<PlaneClient>,
    network: Option<Arc<Network>>,
    agents: Arc<Agents>,
    recorder: Recorder,
    vms: Mutex<HashMap<String, Vm>>,
    exits: Mutex<HashMap<i32, Exit>>,
    /// Nobody tells of exits any more: the guard is lost, or the cluster is ending.
    exits_are_over: AtomicBool,
    /// Nodes that are started under another name or cookie than their own.
    aliases: Mutex<HashMap<String, Alias>>,
    /// The names of the nodes, aliases included.
    directory: NodeDirectory,
    /// Why workers could not be started, by node.
    worker_problems: Mutex<BTreeMap<String, String>>,
    /// Nodes that ended by themselves, how often in a row, and who is told.
    watchdog: Watchdog,
    closing: AtomicBool,
}

/// The latest process of a node or client VM.
#[derive(Debug, Clone, Copy)]
struct Vm {
    /// 1 for the first start.
    generation: u32,
    /// What was started.
    process: Identity,
    /// The VM itself, as its agent says: another process if the command is a script that stays.
    beam: Option<Identity>,
    started: Instant,
    /// Length of its output before it was started.
    output_start: u64,
    /// Whether it was killed or asked to end.
    ending: bool,
}

fn internal(error: &dyn std::fmt::Display) -> RunError {
    RunError::Internal(error.to_string())
}

impl Cluster {
    /// Allocates EPMD ports and named ports and creates the folders; starts nothing.
    pub fn new(parts: Parts) -> Result<Cluster, RunError> {
        Cluster::with_ebin(parts, find_ebin()?)
    }

    /// As [`Cluster::new`], with our own compiled code in this folder.
    pub fn with_ebin(mut parts: Parts, ebin: PathBuf) -> Result<Cluster, RunError> {
        // Nodes work in folders of their own, where a relative path means something else.
        parts.run_dir = std::path::absolute(&parts.run_dir).map_err(|e| internal(&e))?;
        let agent_beam = code_path::read_agent(&ebin)?;
        let (nodes, clients) = match &parts.network {
            Some(network) => namespaces::places(&parts, network)?,
            None => places(&parts)?,
        };
        let all: Vec<&Place> = nodes.iter().chain(&clients).collect();
        all.iter().try_for_each(|place| place.create_folders())?;
        if parts.network.is_some() {
            namespaces::start_mappers(&parts.guard, &all)?;
        }
        // Not from the seed, which is no secret: the cookie gives power over the nodes.
        let cookie = match &parts.spec.cluster.cookie {
            Some(cookie) => cookie.clone(),
            None => random::secret().map_err(|e| internal(&e))?,
        };
        let launcher = Launcher {
            cookie,
            decoy: random::secret().map_err(|e| internal(&e))?,
            core: parts.agents.address(),
            token: parts.token,
            run: parts.run,
            ebin,
            spec: parts.spec,
            planes: parts.planes,
            schedule: parts.schedule,
        };
        let names = nodes.iter().map(|place| (place.short.clone(), place.full_name()));
        let directory = NodeDirectory::new(names.collect());
        let inner = Arc::new(Inner {
            directory,
            launcher,
            agent_beam,
            nodes,
            clients,
            guard: parts.guard,
            plane: parts.plane,
            network: parts.network,
            agents: parts.agents,
            recorder: parts.recorder,
            vms: Mutex::default(),
            exits: Mutex::default(),
            exits_are_over: AtomicBool::new(false),
            aliases: Mutex::default(),
            worker_problems: Mutex::default(),
            watchdog: Watchdog::default(),
            closing: AtomicBool::new(false),
        });
        let (events, watching) = (inner.guard.events(), Arc::downgrade(&inner));
        std::thread::Builder::new()
            .name("cluster".into())
            .spawn(move || watch_exits(&events, &watching))
            .map_err(|e| internal(&e))?;
        Ok(Cluster { inner })
    }

    /// Short names of the nodes.
    pub fn names(&self) -> Vec<String> {
        self.inner.nodes.iter().map(|place| place.short.clone()).collect()
    }

    /// The names of the nodes, as they are at any time.
    pub fn directory(&self) -> &NodeDirectory {
        &self.inner.directory
    }

    /// The network that its VMs have to themselves, if they live in namespaces.
    pub fn network(&self) -> Option<&Arc<Network>> {
        self.inner.network.as_ref()
    }

    /// The cookie of the cluster.
    pub fn cookie(&self) -> &str {
        &self.inner.launcher.cookie
    }

    /// Starts every node; returns before they are ready.
    pub fn start_all(&self) -> Result<(), RunError> {
        self.inner.nodes.iter().try_for_each(|place| self.inner.launch(place).map(drop))
    }

    /// Waits until every node has registered its name and its agent has dialled. Returns early,
    /// without error, when the run should stop. Otherwise the error names the node, how long was waited,
    /// the likely cause and the end of its output.
    pub fn await_nodes(&self, deadline: Instant, stop: &Stop) -> Result<(), RunError> {
        let inner = &self.inner;
        let failed = AtomicBool::new(false);
        let over = || stop.is_set() || failed.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let arriving: Vec<_> = inner
                .nodes
                .iter()
                .map(|place| {
                    let (failed, over) = (&failed, &over);
                    scope.spawn(move || {
                        let arrived = inner.arrive(place, deadline, over);
                        failed.fetch_or(arrived.is_err(), Ordering::Relaxed);
                        arrived
                    })
                })
                .collect();
            arriving.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err(internal(&"a thread of the cluster panicked")))
            })
        })
    }

    /// Starts the client VMs, if operations run in client VMs; returns before they are ready.
    pub fn start_clients(&self) -> Result<(), RunError> {
        self.inner.clients.iter().try_for_each(|place| self.inner.launch(place).map(drop))
    }

    /// An error with its own last words if a node or client VM that was started has ended.
    pub fn check_alive(&self) -> Result<(), RunError> {
        let inner = &self.inner;
        inner.nodes.iter().chain(&inner.clients).try_for_each(|place| inner.check_alive(place))
    }

    /// As [`Cluster::check_alive`], for when something failed that a VM may have died of: one whose agent is
    /// gone gets a moment to end, as its crash dump takes longer than its connections.
    pub fn check_dying(&self) -> Result<(), RunError> {
        let deadline = Instant::now() + DYING_PATIENCE;
        loop {
            self.check_alive()?;
            let gone =
                self.inner.nodes.iter().any(|place| self.inner.agent(&place.short).is_none());
            if !gone || Instant::now() >= deadline {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Starts a node again that is down; `CLOCK_MONOTONIC` of the start. One that was asked to end is
    /// waited for, and killed if it takes more than five seconds. Its agent is helped in the background if
    /// it does not dial by itself. One that runs already, since the watchdog was quicker, stays as it is.
    pub fn start(&self, node: &str) -> Result<u64, RunError> {
        let place = self.inner.place(node)?;
        self.inner.await_end(place)?;
        let starting = self.inner.watchdog.starting(node);
        let held = lock(&starting);
        if self.inner.vm(node).is_some_and(|vm| !vm.ending && vm.process.is_alive()) {
            return Ok(clock::monotonic_ns());
        }
        let monotonic_ns = self.inner.launch(place)?;
        drop(held);
        let (inner, place) = (Arc::clone(&self.inner), self.inner.dressed(place));
        let patience = Duration::from_millis(inner.launcher.spec.cluster.ready_timeout_ms);
        std::thread::Builder::new()
            .name(format!("start {node}"))
            .spawn(move || {
                let deadline = Instant::now() + patience;
                // Whether it arrives is what the nemesis watches; the history says when.
                let _ = inner.arrive(&place, deadline, &|| false);
            })
            .map_err(|e| internal(&e))?;
        Ok(monotonic_ns)
    }

    /// SIGKILL; `CLOCK_MONOTONIC` right after it was sent.
    pub fn kill(&self, node: &str) -> Result<u64, RunError> {
        self.inner.end(node, Signal::Kill)
    }

    /// SIGSTOP; `CLOCK_MONOTONIC` right after it was sent.
    pub fn pause(&self, node: &str) -> Result<u64, RunError> {
        self.inner.signal(node, Signal::Stop)
    }

    /// SIGCONT; `CLOCK_MONOTONIC` right after it was sent.
    pub fn resume(&self, node: &str) -> Result<u64, RunError> {
        self.inner.signal(node, Signal::Cont)
    }

    /// SIGTERM, upon which a BEAM stops in order; `CLOCK_MONOTONIC` right after it was sent.
    pub fn terminate(&self, node: &str) -> Result<u64, RunError> {
        self.inner.end(node, Signal::Term)
    }

    /// Whether its processes live, stopped or not.
    pub fn is_up(&self, node: &str) -> bool {
        let states = self.inner.states(node);
        !states.is_empty()
            && states.iter().all(|s| matches!(s, ProcessState::Running | ProcessState::Stopped))
    }

    /// Whether its processes are stopped.
    pub fn is_paused(&self, node: &str) -> bool {
        let states = self.inner.states(node);
        !states.is_empty() && states.iter().all(|s| *s == ProcessState::Stopped)
    }

    /// Whether its agent answers a ping, at most after half a second.
    pub fn answers(&self, node: &str) -> bool {
        let agent = self.inner.agent(node);
        agent.is_some_and(|link| link.request("ping", [], PING_TIMEOUT).is_ok())
    }

    /// How many nodes are up.
    pub fn up_count(&self) -> usize {
        self.inner.nodes.iter().filter(|place| self.is_up(&place.short)).count()
    }

    /// The process id of its latest process.
    pub fn os_pid(&self, node: &str) -> Option<i32> {
        self.inner.vm(node).map(|vm| vm.process.pid)
    }

    /// How often it was started.
    pub fn generation(&self, node: &str) -> u32 {
        self.inner.vm(node).map_or(0, |vm| vm.generation)
    }

    /// Continues what is stopped and starts what is down.
    pub fn revive_all(&self) -> Result<(), RunError> {
        for node in self.names() {
            if self.inner.states(&node).contains(&ProcessState::Stopped) {
                self.resume(&node)?;
            }
            if !self.is_up(&node) {
                self.start(&node)?;
            }
        }
        Ok(())
    }

    /// Waits until every node's agent answers; false at the deadline or when the run should stop.
    pub fn await_agents(&self, deadline: Instant, stop: &Stop) -> bool {
        loop {
            let all = std::thread::scope(|scope| {
                let asked: Vec<_> = self
                    .inner
                    .nodes
                    .iter()
                    .map(|place| scope.spawn(|| self.answers(&place.short)))
                    .collect();
                asked.into_iter().all(|thread| thread.join().unwrap_or(false))
            });
            if all {
                return true;
            }
            if Instant::now() >= deadline || stop.wait(LOOK_EVERY) {
                return false;
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.inner.closing.store(true, Ordering::Relaxed);
    }
}

impl Inner {
    fn place(&self, node: &str) -> Result<&Place, RunError> {
        let all = || self.nodes.iter().chain(&self.clients);
        all().find(|place| place.short == node).ok_or_else(|| {
            let known: Vec<&str> = all().map(|place| place.short.as_str()).collect();
            RunError::Input(format!("there is no node {node}; there are {}", known.join(", ")))
        })
    }

    fn vm(&self, node: &str) -> Option<Vm> {
        lock(&self.vms).get(node).copied()
    }

    /// Starts the process of a VM that is down; `CLOCK_MONOTONIC` of the start.
    fn launch(&self, place: &Place) -> Result<u64, RunError> {
        let dressed = self.dressed(place);
        let request = self.launcher.request(&dressed)?;
        home::write_cookie(&dressed, self.launcher.cookie_of(&dressed))?;
        if let Some(before) = self.vm(&place.short).filter(|vm| !vm.process.is_alive()) {
            // A process of many threads is gone some time before its parent can reap it.
            self.exit_of(before.process);
            lock(&self.exits).remove(&before.process.pid);
        }
        let output_start = place.output().metadata().map_or(0, |data| data.len());
        let spawned = self.guard.spawn(request).map_err(|error| match error {
            GuardError::Refused(reason) => {
                RunError::Input(format!("{} could not be started: {reason}", place.short))
            }
            other => internal(&other),
        })?;
        let process = Identity { pid: spawned.pid, start_time: spawned.start_time };
        let started = Instant::now();
        let mut vms = lock(&self.vms);
        let generation = vms.get(&place.short).map_or(1, |vm| vm.generation + 1);
        let vm = Vm { generation, process, beam: None, started, output_start, ending: false };
        vms.insert(place.short.clone(), vm);
        drop(vms);
        if !place.is_client {
            let time_ns = self.recorder.clock().at_ns(spawned.monotonic_ns);
            let pid = ("os-pid", Value::Int(i64::from(spawned.pid)));
            self.recorder.observer(time_ns, "node-started", Some(&place.short), map([pid]))?;
        }
        Ok(spawned.monotonic_ns)
    }

    fn signal(&self, node: &str, signal: Signal) -> Result<u64, RunError> {
        let place = self.place(node)?;
        let signalled = self.guard.signal(&place.short, signal).map_err(|e| internal(&e))?;
        Ok(signalled.monotonic_ns)
    }

    fn end(&self, node: &str, signal: Signal) -> Result<u64, RunError> {
        // Before the signal: the end may be noticed at once.
        self.set_ending(node, true);
        let signalled = self.signal(node, signal);
        if signalled.is_err() {
            self.set_ending(node, false);
        }
        signalled
    }

    fn set_ending(&self, node: &str, ending: bool) {
        if let Some(vm) = lock(&self.vms).get_mut(node) {
            vm.ending = ending;
        }
    }

    /// Waits for the end of a node that was asked to end, and brings it about if that takes long.
    fn await_end(&self, place: &Place) -> Result<(), RunError> {
        let Some(vm) = self.vm(&place.short).filter(|vm| vm.ending) else { return Ok(()) };
        let deadline = Instant::now() + END_PATIENCE;
        let mut killed = false;
        while vm.process.is_alive() {
            if !killed && Instant::now() >= deadline {
                killed = true;
                if let Err(error) = self.signal(&place.short, Signal::Kill) {
                    // It may have ended in this moment.
                    if vm.process.is_alive() {
                        return Err(error);
                    }
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Of what was started and, if that is another process, of the VM.
    fn states(&self, node: &str) -> Vec<ProcessState> {
        let Some(vm) = self.vm(node) else { return Vec::new() };
        let processes = [Some(vm.process), vm.beam.filter(|beam| *beam != vm.process)];
        processes
            .into_iter()
            .flatten()
            .map(|process| match Identity::of(process.pid) {
                Some(found) if found == process => state(process.pid),
                _ => ProcessState::Gone,
            })
            .collect()
    }

    /// The connection of the agent in the latest VM of the node, not in one before.
    fn agent(&self, node: &str) -> Option<Arc<Link>> {
        let vm = self.vm(node)?;
        self.agents.get(Role::Node, node).filter(|link| is_of(link, vm))
    }
}

/// Whether the agent at the other end runs in a VM that is not older than this start.
fn is_of(link: &Link, vm: Vm) -> bool {
    link.is_alive() && beam_of(link).is_some_and(|beam| beam.start_time >= vm.process.start_time)
}

fn beam_of(link: &Link) -> Option<Identity> {
    Identity::of(i32::try_from(link.os_pid()?).ok()?)
}

/// Keeps how processes ended, and records it of nodes, until the guard is lost or the cluster ends.
fn watch_exits(events: &Receiver<GuardEvent>, cluster: &Weak<Inner>) {
    while let Ok(GuardEvent::Exited { key, pid, exit, monotonic_ns }) = events.recv() {
        let Some(inner) = cluster.upgrade() else { return };
        if inner.closing.load(Ordering::Relaxed) {
            break;
        }
        lock(&inner.exits).insert(pid, exit);
        if inner.nodes.iter().any(|place| place.short == key) {
            // By a fault, or by whoever ends the run.
            let asked = inner.vm(&key).is_some_and(|vm| vm.ending && vm.process.pid == pid);
            let number = |n: Option<i32>| n.map_or(Value::Nil, |n| Value::Int(i64::from(n)));
            let value = map([
                ("os-pid", Value::Int(i64::from(pid))),
                ("status", number(exit.status)),
                ("signal", number(exit.signal)),
                ("asked", Value::Bool(asked)),
            ]);
            let time_ns = inner.recorder.clock().at_ns(monotonic_ns);
            // A history that cannot be written is reported by the interpreter, which writes to it too.
            let _ = inner.recorder.observer(time_ns, "node-exited", Some(&key), value);
            watchdog::heed(&inner, &key, pid, exit);
        }
    }
    if let Some(inner) = cluster.upgrade() {
        inner.exits_are_over.store(true, Ordering::Relaxed);
    }
}

/// The nodes and client VMs of the spec, with their ports.
fn places(parts: &Parts) -> Result<(Vec<Place>, Vec<Place>), RunError> {
    let spec = &parts.spec;
    let plane_error = |error: PlaneError| internal(&error);
    let place = |short: String, index: usize, is_client: bool, epmd_port: u16| Place {
        folder: parts.run_dir.join("nodes").join(&short),
        short,
        index,
        is_client,
        host: HOST.into(),
        address: Ipv4Addr::LOCALHOST,
        around: Vec::new(),
        hosts: spec.nodes.names().into_iter().map(|node| (node, HOST.to_owned())).collect(),
        cookie: None,
        epmd_port,
        ports: BTreeMap::new(),
        peers: BTreeMap::new(),
    };
    let mut nodes = Vec::new();
    for (i, short) in spec.nodes.names().into_iter().enumerate() {
        let epmd_port = parts.plane.add_node(&short).map_err(plane_error)?;
        nodes.push(place(short, i + 1, false, epmd_port));
    }
    let mut clients = Vec::new();
    if spec.placement == Placement::Client {
        for i in 1..=spec.client.count.max(1) as usize {
            let epmd_port = parts.plane.add_tool().map_err(plane_error)?;
            clients.push(place(format!("c{i}"), i, true, epmd_port));
        }
    }
    let mut free = free_ports(nodes.len() * spec.cluster.ports.len())?.into_iter();
    for port in &spec.cluster.ports {
        for target in 0..nodes.len() {
            let Some(real_port) = free.next() else { break };
            let short = nodes[target].short.clone();
            nodes[target].ports.insert(port.name.clone(), real_port);
            let through =
                parts.plane.add_port(&short, &port.name, real_port).map_err(plane_error)?;
            let key = (port.name.clone(), short);
            for source in &mut nodes {
                let port = through.get(&source.short).copied().unwrap_or(real_port);
                source.peers.insert(key.clone(), port);
            }
            for client in &mut clients {
                client.peers.insert(key.clone(), real_port);
            }
        }
    }
    Ok((nodes, clients))
}
