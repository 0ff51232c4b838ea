//! The process plane: how nodes end, stand still, come back, and are found again by name.
//!
//! Signals go through the guard; `init:stop`, `erlang:halt` and a crash are asked of the node itself; the port
//! mapper is ours and can be wrong about a name. The effect shows in the process (the guard saw it exit, `/proc`
//! says that it is stopped), in the silence of its agent, or in the answers of the mapper. A node that came back
//! is known by its new `creation`.
//!
//! A heal looks first what the node is by then, since faults may overlap: what was killed meanwhile is not
//! continued, what was started meanwhile is not started twice.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::clock;
use fuzz_dist_core::fault::{Availability, FaultKind, Plane, ProcessFault};
use fuzz_dist_core::spec::{Naming, Spec};
use fuzz_dist_core::sync::lock;
use fuzz_dist_nemesis::plane::MapperFault;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::{Applied, AppliedFault, FaultPlane, Order, Registration, Seen, Tools};
use crate::cluster::Alias;
use crate::recorder::{map, strings};
use crate::request::RunError;

/// How long a dump may take once somebody reads it.
const DUMP_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a dump that does not come is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The plane.
pub const REGISTRATION: Registration = Registration {
    plane: Plane::Process,
    always: true,
    availability,
    prepare: None,
    open: |tools| Ok(Arc::new(ProcessPlane::new(tools))),
};

fn availability(kind: &FaultKind, spec: Option<&Spec>) -> Availability {
    let FaultKind::Process(kind) = kind else { return Availability::not_built() };
    let named_by_us = spec.is_none_or(|spec| spec.cluster.naming != Naming::Command);
    match kind {
        ProcessFault::Restart { host: None, cookie: None } => Availability::Real,
        ProcessFault::Restart { .. } if !named_by_us => Availability::Unavailable(
            "the command of the spec gives name and cookie (cluster.naming = \"command\")".into(),
        ),
        _ => Availability::Real,
    }
}

/// The creation of each life of each node, as far as it is known.
type Creations = Arc<Mutex<HashMap<(String, u32), i64>>>;

struct ProcessPlane {
    tools: Tools,
    creations: Creations,
}

impl ProcessPlane {
    fn new(tools: &Tools) -> ProcessPlane {
        let plane = ProcessPlane { tools: tools.clone(), creations: Creations::default() };
        for node in tools.cluster.names() {
            learn_creation(tools, &plane.creations, &node);
        }
        plane
    }

    fn apply_to(&self, kind: &ProcessFault, node: &str) -> Result<u64, String> {
        let cluster = &self.tools.cluster;
        let done = match kind {
            ProcessFault::Kill => cluster.kill(node),
            ProcessFault::Pause => cluster.pause(node),
            ProcessFault::Restart { host, cookie } => {
                let done = cluster.terminate(node);
                if done.is_ok() && (host.is_some() || cookie.is_some()) {
                    let alias = Alias { host: host.clone(), cookie: cookie.clone() };
                    self.start_as(node, Some(alias));
                }
                done
            }
            ProcessFault::Stop => cluster.stop_from_inside(node),
            ProcessFault::Halt { flush } => cluster.halt(node, *flush),
            ProcessFault::CrashDump => {
                let pipe = self.pipe(node)?;
                cluster.crash(node, "fuzz_dist: crash-dump", &pipe.display().to_string())
            }
            ProcessFault::EpmdUnregister => {
                self.set_mapper(node, Some(MapperFault::Forgotten))?;
                Ok(clock::monotonic_ns())
            }
            ProcessFault::EpmdLate => {
                self.set_mapper(node, Some(MapperFault::Late))?;
                cluster.kill(node).and_then(|at| cluster.start(node).map(|_| at))
            }
        };
        if done.is_err() && matches!(kind, ProcessFault::EpmdLate) {
            self.set_mapper(node, None)?;
        }
        done.map_err(|error: RunError| error.to_string())
    }

    /// From its next start on the node has another name or cookie, or its own again.
    fn start_as(&self, node: &str, alias: Option<Alias>) {
        self.tools.cluster.set_alias(node, alias);
    }

    fn set_mapper(&self, node: &str, fault: Option<MapperFault>) -> Result<(), String> {
        self.tools.plane.set_mapper_fault(node, fault).map_err(|error| error.to_string())
    }

    /// A fresh named pipe for the dump of a node, which waits there for a reader.
    fn pipe(&self, node: &str) -> Result<PathBuf, String> {
        let pipe = pipe_path(&self.tools.run_dir, node);
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", pipe.display());
        match std::fs::remove_file(&pipe) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&error)),
            _ => {}
        }
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|e| failed(&e.desc()))?;
        Ok(pipe)
    }
}

fn pipe_path(run_dir: &Path, node: &str) -> PathBuf {
    run_dir.join("nodes").join(node).join("log").join("erl_crash.pipe")
}

fn learn_creation(tools: &Tools, creations: &Creations, node: &str) -> Option<i64> {
    let generation = tools.cluster.generation(node);
    let creation = tools.cluster.creation(node)?;
    lock(creations).insert((node.to_owned(), generation), creation);
    Some(creation)
}

impl FaultPlane for ProcessPlane {
    fn apply(&self, order: &Order) -> Result<Applied, String> {
        let FaultKind::Process(kind) = &order.fault.kind else {
            return Err(format!("{} is no fault of processes", order.fault.kind.name()));
        };
        let nodes = order.resolved.nodes.clone();
        let tools = self.tools.clone();
        let generations = nodes.iter().map(|node| tools.cluster.generation(node)).collect();
        let mut struck = Vec::new();
        let mut applied = Ok(clock::monotonic_ns());
        for node in &nodes {
            match self.apply_to(kind, node) {
                Ok(monotonic_ns) => {
                    struck.push(node.clone());
                    applied = applied.map(|_| monotonic_ns);
                }
                Err(error) => applied = applied.and_then(|_| Err(format!("{node}: {error}"))),
            }
        }
        let creations = Arc::clone(&self.creations);
        let fault = AppliedToProcesses { tools, kind: kind.clone(), nodes, generations, creations };
        match applied {
            Ok(monotonic_ns) => {
                Ok(Applied { monotonic_ns, decided: Vec::new(), fault: Arc::new(fault) })
            }
            // Nothing of it may be left; what another fault did to the others stays.
            Err(reason) => match each(&struck, |node| fault.heal_one(node)) {
                Ok(_) => Err(reason),
                Err(further) => Err(format!("{reason}; and it could not be taken back: {further}")),
            },
        }
    }

    fn heal_all(&self) -> Result<Vec<String>, String> {
        let cluster = &self.tools.cluster;
        let generations = || -> Vec<(String, u32)> {
            let names = cluster.names().into_iter();
            names.map(|node| (node.clone(), cluster.generation(&node))).collect()
        };
        let before = generations();
        for (node, _) in &before {
            self.set_mapper(node, None)?;
        }
        // They come back as themselves.
        for node in cluster.aliased() {
            if cluster.is_up(&node) {
                cluster.terminate(&node).map_err(|error| error.to_string())?;
            }
            self.start_as(&node, None);
            cluster.start_if_down(&node).map_err(|error| error.to_string())?;
        }
        cluster.revive_all().map_err(|error| error.to_string())?;
        let again = generations().into_iter().filter(|one| !before.contains(one));
        Ok(again.map(|(node, _)| node).collect())
    }
}

struct AppliedToProcesses {
    tools: Tools,
    kind: ProcessFault,
    nodes: Vec<String>,
    /// How often each of them had been started when the fault came.
    generations: Vec<u32>,
    creations: Creations,
}

impl AppliedToProcesses {
    fn shows(&self, node: &str, generation: u32) -> bool {
        let cluster = &self.tools.cluster;
        let again = cluster.generation(node) != generation;
        let unknown = || matches!(self.tools.plane.registered(node), Ok(None));
        match self.kind {
            ProcessFault::Pause => cluster.is_paused(node),
            ProcessFault::CrashDump => cluster.is_up(node) && !cluster.answers(node),
            ProcessFault::EpmdUnregister => cluster.is_up(node) && unknown(),
            ProcessFault::EpmdLate => again && cluster.is_up(node) && unknown(),
            // One that is up again by now has been down in between.
            _ => again || !cluster.is_up(node),
        }
    }

    fn effect(&self) -> &'static str {
        match self.kind {
            ProcessFault::Pause => "stopped",
            ProcessFault::CrashDump => "crashed, and writes its dump",
            ProcessFault::EpmdUnregister => "up, and unknown to EPMD",
            ProcessFault::EpmdLate => "started again, and unknown to EPMD",
            _ => "gone",
        }
    }

    fn heal_one(&self, node: &str) -> Result<u64, String> {
        let cluster = &self.tools.cluster;
        let done = match self.kind {
            ProcessFault::Pause if cluster.is_paused(node) => cluster.resume(node),
            ProcessFault::Pause => Ok(clock::monotonic_ns()),
            ProcessFault::EpmdUnregister | ProcessFault::EpmdLate => {
                let right = self.tools.plane.set_mapper_fault(node, None);
                right.map_err(|error| error.to_string())?;
                cluster.start_if_down(node)
            }
            ProcessFault::CrashDump => {
                self.take_dump(node)?;
                cluster.start_if_down(node)
            }
            _ => cluster.start_if_down(node),
        };
        done.map_err(|error| error.to_string())
    }

    /// Reads the dump, which the VM waits to write, in the background; whoever starts the node waits for its end.
    fn take_dump(&self, node: &str) -> Result<(), String> {
        let pipe = pipe_path(&self.tools.run_dir, node);
        let (tools, node) = (self.tools.clone(), node.to_owned());
        let reading =
            std::thread::Builder::new().name(format!("dump of {node}")).spawn(move || {
                let dump = pipe.with_file_name("erl_crash.dump");
                let process = tools.cluster.os_pid(&node);
                let same = || tools.cluster.os_pid(&node) == process && tools.cluster.is_up(&node);
                if let Err(error) = drain(&pipe, &dump, same) {
                    // The node is killed to be started again; only its dump is incomplete, and this goes
                    // where somebody who looks for it sees it. A history that cannot be written is
                    // reported by the interpreter.
                    let text = format!("{}: {error}", dump.display());
                    let value = map([("reason", Value::str(text))]);
                    let now_ns = tools.recorder.now_ns();
                    let _ = tools.recorder.observer(now_ns, "dump-incomplete", Some(&node), value);
                }
                let _ = std::fs::remove_file(&pipe);
            });
        reading.map(drop).map_err(|error| format!("no thread to read a dump: {error}"))
    }

    /// `creation 7 after 6`, where both are known.
    fn creation_text(&self, node: &str, generation: u32) -> Option<String> {
        let before = lock(&self.creations).get(&(node.to_owned(), generation)).copied();
        if self.tools.cluster.generation(node) == generation {
            return None;
        }
        let now = learn_creation(&self.tools, &self.creations, node)?;
        Some(match before {
            Some(before) => format!("{node}: creation {now} after {before}"),
            None => format!("{node}: creation {now}"),
        })
    }
}

/// Copies what comes through a pipe, until its writer is gone.
fn drain(pipe: &Path, dump: &Path, writer_lives: impl Fn() -> bool) -> std::io::Result<()> {
    // Without waiting: a writer that died before it wrote would never come.
    let flags = OFlag::O_NONBLOCK.bits();
    let mut from = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(pipe)?;
    let mut to = std::fs::File::create(dump)?;
    let deadline = Instant::now() + DUMP_TIMEOUT;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            // Nobody has opened it yet, or nobody has it open any more.
            Ok(0) if !writer_lives() => return Ok(()),
            Ok(0) => std::thread::sleep(LOOK_EVERY),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(LOOK_EVERY),
            Err(error) => return Err(error),
        }
        if Instant::now() > deadline {
            return Err(std::io::Error::new(ErrorKind::TimedOut, "the dump took too long"));
        }
    }
}

impl AppliedFault for AppliedToProcesses {
    fn observe(&self, _now_ns: u64) -> Option<Seen> {
        let mut each = self.nodes.iter().zip(&self.generations);
        if !each.all(|(node, generation)| self.shows(node, *generation)) {
            return None;
        }
        Some(Seen {
            text: format!("process of {} {}", self.nodes.join(", "), self.effect()),
            evidence: map([("nodes", strings(&self.nodes))]),
        })
    }

    fn why_not(&self) -> String {
        match self.kind {
            ProcessFault::EpmdUnregister | ProcessFault::EpmdLate => {
                format!("{} did not stay up, or EPMD knew it", self.nodes.join(", "))
            }
            ProcessFault::CrashDump => {
                format!("{} did not crash, or its dump did not wait", self.nodes.join(", "))
            }
            _ => format!("{} went on running", self.nodes.join(", ")),
        }
    }

    fn heal(&self, _at_ns: Option<u64>) -> Result<u64, String> {
        each(&self.nodes, |node| self.heal_one(node))
    }

    fn observe_heal(&self) -> Option<Seen> {
        let cluster = &self.tools.cluster;
        let back = |node: &String| {
            let known = match self.kind {
                ProcessFault::EpmdUnregister | ProcessFault::EpmdLate => {
                    matches!(self.tools.plane.registered(node), Ok(Some(_)))
                }
                _ => true,
            };
            known && cluster.is_up(node) && cluster.answers(node)
        };
        if !self.nodes.iter().all(back) {
            return None;
        }
        let lives = self.nodes.iter().zip(&self.generations);
        let creations: Vec<String> =
            lives.filter_map(|(node, generation)| self.creation_text(node, *generation)).collect();
        let mut text = format!("{} answers again", self.nodes.join(", "));
        if !creations.is_empty() {
            text.push_str(&format!(" ({})", creations.join(", ")));
        }
        Some(Seen::new(text))
    }

    fn revived(&self) -> &[String] {
        match self.kind {
            ProcessFault::Pause | ProcessFault::EpmdUnregister => &[],
            _ => &self.nodes,
        }
    }
}

/// Acts on every node even if one refuses; gives the first refusal.
fn each(nodes: &[String], act: impl Fn(&str) -> Result<u64, String>) -> Result<u64, String> {
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
