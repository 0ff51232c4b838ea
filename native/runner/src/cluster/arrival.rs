//! From a started process to a node whose agent has dialled, or to an error that says why not.
//!
//! Steps: the node registers its name at its EPMD port (the plane tells); its agent dials. If the node
//! does not contain the agent, it is loaded at once; if it does but does not dial soon, it is started.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_nemesis::guard::Identity;

use super::bootstrap::{AgentArguments, BootstrapError, Visit};
use super::diagnosis::Output;
use super::launch::Place;
use super::{Inner, LOOK_EVERY, beam_of, internal, is_of, lock, namespaces, worker};
use crate::agents::Role;
use crate::recorder::map;
use crate::request::RunError;

/// How long an agent that the node contains may take to dial by itself.
const OWN_PATIENCE: Duration = Duration::from_secs(1);

/// How long one visit may take, and how long is waited after one that failed: a node that has just
/// registered may not serve calls yet.
const VISIT_TIMEOUT: Duration = Duration::from_secs(2);
const VISIT_AGAIN: Duration = Duration::from_millis(100);

/// A gap between two looks, which are milliseconds apart, that means that this process stood still.
const STALL_MIN: Duration = Duration::from_secs(8);

/// How long the guard may take to tell how a process that is gone has ended.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a node on its way.
#[derive(Debug, Default)]
struct Progress {
    registered: Option<Instant>,
    contains_agent: Option<bool>,
    helped: bool,
    next_visit: Option<Instant>,
    problem: Option<BootstrapError>,
    /// How long this process itself stood still, if it did.
    stalled: Option<Duration>,
}

impl Inner {
    /// Waits until the agent of the node has dialled. Ok also when it is `over`, or when the node was
    /// started once more by someone else meanwhile.
    pub(super) fn arrive(
        self: &Arc<Self>,
        place: &Place,
        deadline: Instant,
        over: &dyn Fn() -> bool,
    ) -> Result<(), RunError> {
        let Some(vm) = self.vm(&place.short) else {
            return Err(internal(&format!("{} was not started", place.short)));
        };
        let mut progress = Progress::default();
        let mut looked = Instant::now();
        loop {
            let since = looked.elapsed();
            looked = Instant::now();
            if since > STALL_MIN {
                progress.stalled = Some(since);
            }
            let current = self.vm(&place.short).map(|vm| vm.generation);
            if over() || self.is_closing() || current != Some(vm.generation) {
                return Ok(());
            }
            if self.has_arrived(place)? {
                worker::start(self, &place.short);
                return Ok(());
            }
            self.check_lives(place, progress.stalled)?;
            if Instant::now() >= deadline {
                return Err(self.late(place, &progress));
            }
            self.help(place, deadline, &mut progress)?;
            let look = deadline.min(Instant::now() + LOOK_EVERY);
            self.agents.wait_for(Role::Node, &place.short, look, |link| is_of(link, vm));
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn has_arrived(&self, place: &Place) -> Result<bool, RunError> {
        let Some(link) = self.agent(&place.short) else { return Ok(false) };
        let beam = beam_of(&link);
        if let Some(vm) = lock(&self.vms).get_mut(&place.short) {
            vm.beam = beam;
        }
        let pid = ("os-pid", beam.map_or(Value::Nil, |beam| Value::Int(i64::from(beam.pid))));
        let now_ns = self.recorder.now_ns();
        self.recorder.observer(now_ns, "node-ready", Some(&place.short), map([pid]))?;
        Ok(true)
    }

    /// Loads or starts the agent once the node can be visited.
    fn help(
        &self,
        place: &Place,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<(), RunError> {
        let registered = match &self.network {
            Some(_) => namespaces::registered(place),
            None => self.plane.registered(&place.short).map_err(|e| internal(&e))?,
        };
        let Some(port) = registered else {
            progress.registered = None;
            return Ok(());
        };
        let now = Instant::now();
        let since = now - *progress.registered.get_or_insert(now);
        let dials_itself = progress.contains_agent == Some(true) && since < OWN_PATIENCE;
        if progress.helped || dials_itself || progress.next_visit.is_some_and(|next| now < next) {
            return Ok(());
        }
        match self.visit(place, port, deadline, progress) {
            Ok(helped) => progress.helped = helped,
            Err(problem) => {
                progress.problem = Some(problem);
                progress.next_visit = Some(Instant::now() + VISIT_AGAIN);
            }
        }
        Ok(())
    }

    /// Whether the agent was started.
    fn visit(
        &self,
        place: &Place,
        port: u16,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<bool, BootstrapError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = left.clamp(LOOK_EVERY, VISIT_TIMEOUT);
        let launcher = &self.launcher;
        let (address, cookie) = ((place.address, port).into(), launcher.cookie_of(place));
        let mut visit = Visit::open_at(address, &place.full_name(), cookie, timeout)?;
        if progress.contains_agent.is_none() {
            let contains = visit.contains_agent()?;
            progress.contains_agent = Some(contains);
            if contains {
                return Ok(false);
            }
        }
        if progress.contains_agent == Some(false) || !visit.has_loaded_agent()? {
            visit.load_agent(&self.agent_beam)?;
        }
        visit.start_agent(&AgentArguments {
            core: launcher.core.to_string(),
            token: launcher.token.clone(),
            node: place.short.clone(),
            run: launcher.run.clone(),
            lifeline: true,
        })?;
        Ok(true)
    }

    /// An error if the process of the VM has ended.
    pub(super) fn check_alive(&self, place: &Place) -> Result<(), RunError> {
        self.check_lives(place, None)
    }

    fn check_lives(&self, place: &Place, stalled: Option<Duration>) -> Result<(), RunError> {
        let Some(vm) = self.vm(&place.short) else { return Ok(()) };
        if vm.process.is_alive() {
            return Ok(());
        }
        let lived_s = vm.started.elapsed().as_secs_f64();
        let how = self.exit_of(vm.process);
        let output = Output::read(&place.output(), vm.output_start);
        let stood_still = stalled.map(|stalled| {
            format!(
                "fuzz_dist itself stood still for {:.0} s (stopped, or on a machine that slept), and nodes \
                 end when it does not answer",
                stalled.as_secs_f64()
            )
        });
        let otherwise = match &stood_still {
            Some(text) => text.as_str(),
            None if how == "exit status 0" => {
                "the command does not stay in the foreground, or ends by itself"
            }
            None => "see its output",
        };
        Err(RunError::Input(format!(
            "{} ended {lived_s:.1} s after its start ({how}), before it was ready.{}",
            place.short,
            output.quote(&place.output(), otherwise)
        )))
    }

    /// How a process that is gone has ended, in words; waits until the guard has reaped it.
    pub(super) fn exit_of(&self, process: Identity) -> String {
        let deadline = Instant::now() + EXIT_PATIENCE;
        loop {
            if let Some(exit) = lock(&self.exits).get(&process.pid) {
                return exit.to_string();
            }
            if Instant::now() >= deadline || self.exits_are_over.load(Ordering::Relaxed) {
                return "its status is not known".into();
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn late(&self, place: &Place, progress: &Progress) -> RunError {
        let started = self.vm(&place.short).map(|vm| (vm.started.elapsed(), vm.output_start));
        let (waited, output_start) = started.unwrap_or_default();
        let name = place.full_name();
        let (stage, otherwise) = match (progress.registered, &progress.problem) {
            (None, _) => (
                format!(
                    "it has not registered the name {name} at its EPMD port {}",
                    place.epmd_port
                ),
                "its command does not start distribution under that name (see cluster.naming), or does \
                 not pass ERL_AFLAGS, ERL_ZFLAGS and ERL_EPMD_PORT on to the VM",
            ),
            (Some(_), Some(problem)) => (
                format!(
                    "it has registered its name, but its agent could not be started: {problem}"
                ),
                match problem {
                    BootstrapError::Tls(_) => {
                        "`-proto_dist inet_tls` in its command or environment"
                    }
                    BootstrapError::Call { .. } | BootstrapError::Load { .. } => {
                        "a node in embedded mode, or without the applications kernel and stdlib of a whole \
                         OTP; start it with `-mode interactive` (a mix release: RELEASE_MODE=interactive in \
                         cluster.env)"
                    }
                    _ => "the node is still booting, or has another cookie",
                },
            ),
            (Some(_), None) => (
                "it has registered its name, but its agent has not dialled back".to_owned(),
                "the node is too busy, or the agent stopped (see its output)",
            ),
        };
        let output = Output::read(&place.output(), output_start);
        RunError::Input(format!(
            "{} was not ready {:.1} s after its start (cluster.ready_timeout_ms = {}): {stage}.{}",
            place.short,
            waited.as_secs_f64(),
            self.launcher.spec.cluster.ready_timeout_ms,
            output.quote(&place.output(), otherwise)
        ))
    }
}
