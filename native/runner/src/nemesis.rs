//! Runs a fault schedule: each fault is applied at its time, its effect awaited, healed at its time, and the
//! heal awaited; all of it goes into the history.
//!
//! One thread keeps the time and hands faults to the threads of their planes ([`lanes`]). What has to be waited for
//! (an effect, a node that comes back, what `nodes()` says) is done by a watcher thread of the fault. What a fault does
//! is for its plane to know ([`planes`]); this module knows only that it is applied, seen, healed and seen healed.
//! However the run ends, [`Nemesis::run`] heals whatever is active before it returns.

mod lanes;
pub mod planes;
pub mod reaction;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::fault::{
    Event, Fault, FaultKind, FaultSchedule, MembershipFault, Resolved, Subject, Target,
};
use fuzz_dist_core::fault_log::{LASTING_KEY, LASTING_KINDS};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::Spec;
use fuzz_dist_core::sync::lock;
use fuzz_dist_schedule::simulate::era_value;
use fuzz_dist_schedule::target::{self, Aim, Field};

use crate::agents::Agents;
use crate::mesh::Mesh;
use crate::observer::Observations;
use crate::recorder::{Recorder, strings};
use crate::request::{Reporter, RunError};
use crate::stop::{Stop, StopReason};
use crate::telemetry::Telemetry;
use crate::workers::Workers;
use lanes::{Lanes, Task};
use planes::{AppliedFault, Order, Planes};
use reaction::{Asked, Happenings, Sources, Waiting};
use words::{describe, era_line, short, summary};

/// How long before a heal the nodes are asked whom they see.
const SAMPLE_AHEAD_NS: u64 = 150_000_000;

/// How often it is looked for the events that faults wait for.
const EVENTS_EVERY: Duration = Duration::from_millis(2);

/// How often it is looked whether the run must end, since a fault could not be healed.
const FAILURES_EVERY: Duration = Duration::from_millis(100);

/// How long after a heal its effect may take to be seen.
const HEAL_OBSERVED_MAX: Duration = Duration::from_secs(20);

/// How often something is sent over links that were healed, until bytes pass. An idle cluster with a long net tick
/// would else be silent for a quarter of a minute.
const NUDGE_EVERY: Duration = Duration::from_millis(200);

/// How long after a heal the nodes may take to see each other before what they see is recorded.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Names the primaries of the moment.
pub type Primaries = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Everything that faults need.
#[derive(Clone)]
pub struct Nemesis {
    /// Who applies faults.
    pub planes: Planes,
    /// The test.
    pub spec: Arc<Spec>,
    /// Whom nodes see, and how they are connected again.
    pub mesh: Mesh,
    /// The history.
    pub recorder: Recorder,
    /// What nodes noticed.
    pub observations: Observations,
    /// For people.
    pub reporter: Arc<dyn Reporter>,
    /// For handlers in the nodes.
    pub telemetry: Telemetry,
    /// The wish to stop the run.
    pub stop: Stop,
    /// The end of the main phase, and with it of all faults.
    pub over: Stop,
    /// A fault that could not be healed, which ends the main phase.
    pub unhealed: Stop,
    /// For nodes that were started again.
    pub workers: Workers,
    /// For the target `primaries`.
    pub primaries: Primaries,
    /// For targets that are resolved when they start.
    pub seed: Seed,
    /// What is active now, for the status line.
    pub active: Active,
    /// What became of faults, for those that wait for it.
    pub happenings: Happenings,
    /// For telemetry that faults wait for.
    pub agents: Arc<Agents>,
    /// Where the times go that faults are given during the run.
    pub schedule_file: PathBuf,
}

impl std::fmt::Debug for Nemesis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nemesis").field("active", &self.active).finish_non_exhaustive()
    }
}

/// Names of active faults; shared.
#[derive(Debug, Clone, Default)]
pub struct Active(Arc<Mutex<Vec<(u32, String)>>>);

impl Active {
    fn lock(&self) -> MutexGuard<'_, Vec<(u32, String)>> {
        lock(&self.0)
    }

    /// For people.
    pub fn names(&self) -> Vec<String> {
        self.lock().iter().map(|(_, name)| name.clone()).collect()
    }
}

/// A fault that has been applied.
struct Running {
    fault: Fault,
    resolved: Resolved,
    /// What its plane made of it.
    applied: Arc<dyn AppliedFault>,
    /// Set when it is healed: its watcher gives up.
    over: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
    started: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    /// Of an era, before its faults.
    Era,
    /// Before `Sample` and `Heal` of other faults at the same instant: order is that of the schedule.
    Start,
    Sample,
    Heal,
}

/// What is to be done when, of which fault (or era).
type Due = (u64, Action, usize);

fn timeline(schedule: &FaultSchedule) -> Vec<Due> {
    let eras = schedule.eras.iter().enumerate();
    let mut due: Vec<Due> = eras.map(|(i, era)| (era.start_ns, Action::Era, i)).collect();
    for (i, fault) in schedule.faults.iter().enumerate().filter(|(_, fault)| !fault.is_waiting()) {
        due.extend(due_of(i, fault));
    }
    due.sort_unstable();
    due
}

fn due_of(i: usize, fault: &Fault) -> [Due; 3] {
    let end_ns = fault.start_ns + fault.duration_ns;
    let sample_ns = end_ns.saturating_sub(SAMPLE_AHEAD_NS.min(fault.duration_ns / 2));
    [(fault.start_ns, Action::Start, i), (sample_ns, Action::Sample, i), (end_ns, Action::Heal, i)]
}

impl Nemesis {
    /// Runs the schedule; its times count from `main_start_ns` of the run. Returns when every fault has been
    /// healed and none waits any more, or the run should stop and what was active has been healed.
    pub fn run(&self, schedule: &FaultSchedule, main_start_ns: u64) -> Result<(), RunError> {
        let asked = Asked::by(schedule);
        if asked.is_empty() {
            return self.run_all(schedule, main_start_ns);
        }
        let nodes = self.spec.nodes.names();
        let listening = Stop::default();
        std::thread::scope(|scope| {
            let (agents, reporter) = (&*self.agents, &*self.reporter);
            scope.spawn(|| reaction::listen(&asked, &nodes, agents, reporter, &listening));
            let outcome = self.run_all(schedule, main_start_ns);
            listening.ask(StopReason::Interrupted("no fault waits any more".into()));
            outcome
        })
    }

    fn run_all(&self, schedule: &FaultSchedule, main_start_ns: u64) -> Result<(), RunError> {
        let mut schedule = schedule.clone();
        let mut waiting = Waiting::of(&schedule, main_start_ns);
        let mut due: BTreeSet<Due> = timeline(&schedule).into_iter().collect();
        let lanes = Lanes::begin(self, &schedule.faults)?;
        let mut outcome = Ok(());
        loop {
            match self.next_due(&lanes, &mut due, &mut waiting, &mut schedule, main_start_ns) {
                Ok(Some((offset_ns, Action::Era, i))) => {
                    outcome = self.era(main_start_ns + offset_ns, i, &schedule);
                }
                Ok(Some((offset_ns, action, i))) => {
                    let (at_ns, fault) = (main_start_ns + offset_ns, schedule.faults[i].clone());
                    lanes.give(Task { action, at_ns, fault });
                }
                Ok(None) => break,
                Err(error) => outcome = Err(error),
            }
            if outcome.is_err() {
                break;
            }
        }
        outcome.and(lanes.end())?;
        self.give_up(&waiting, &mut schedule)
    }

    fn era(&self, at_ns: u64, i: usize, schedule: &FaultSchedule) -> Result<(), RunError> {
        let era = &schedule.eras[i];
        self.reporter.line(&era_line(&era.packages));
        self.recorder.nemesis(at_ns, "era", era_value(i, era))
    }

    /// Sleeps until something is to be done, and gives it; none when nothing is left, or the run should stop.
    fn next_due(
        &self,
        lanes: &Lanes,
        due: &mut BTreeSet<Due>,
        waiting: &mut Waiting,
        schedule: &mut FaultSchedule,
        main_start_ns: u64,
    ) -> Result<Option<Due>, RunError> {
        loop {
            self.find_events(due, waiting, schedule, main_start_ns)?;
            let wait = match due.first() {
                None if waiting.is_empty() => return Ok(None),
                None => EVENTS_EVERY,
                Some((offset_ns, ..)) => {
                    let ahead_ns = planes::AHEAD.as_nanos() as u64;
                    let at_ns = (main_start_ns + offset_ns).saturating_sub(ahead_ns);
                    Duration::from_nanos(at_ns.saturating_sub(self.recorder.now_ns()))
                }
            };
            let slice = wait.min(if waiting.is_empty() { FAILURES_EVERY } else { EVENTS_EVERY });
            if self.over.wait(slice) {
                return Ok(None);
            }
            if slice == wait && !due.is_empty() {
                return Ok(due.pop_first());
            }
            if lanes.have_failed() {
                return Ok(None);
            }
        }
    }

    /// Gives every fault its time whose event has been seen.
    fn find_events(
        &self,
        due: &mut BTreeSet<Due>,
        waiting: &mut Waiting,
        schedule: &mut FaultSchedule,
        main_start_ns: u64,
    ) -> Result<(), RunError> {
        let sources = Sources { observations: &self.observations, happenings: &self.happenings };
        while let Some((i, seen_ns)) = waiting.take_due(&schedule.faults, &sources) {
            let fault = &mut schedule.faults[i];
            let Some(after) = &mut fault.after else { continue };
            let asked_ns = seen_ns.saturating_add(after.delay_ms.saturating_mul(1_000_000));
            let start_ns = asked_ns.max(self.recorder.now_ns()).saturating_sub(main_start_ns);
            let end_ns = start_ns.saturating_add(fault.duration_ns);
            if end_ns as f64 > self.spec.time_limit_s * 1e9 {
                let reason = format!("{} would end after the main phase", after.words());
                self.unmet(fault, &reason)?;
                continue;
            }
            after.seen_ns = Some(seen_ns.saturating_sub(main_start_ns));
            fault.start_ns = start_ns;
            let after = after.clone();
            due.extend(due_of(i, fault));
            waiting.rearm(&schedule.faults, &after, main_start_ns + end_ns);
            reaction::write(&self.schedule_file, schedule)?;
        }
        Ok(())
    }

    /// What still waits at the end never happens: it is told, and a replay knows nothing of it.
    fn give_up(&self, waiting: &Waiting, schedule: &mut FaultSchedule) -> Result<(), RunError> {
        let before = schedule.faults.len();
        for i in waiting.rest() {
            let fault = &schedule.faults[i];
            let words = fault.after.as_ref().map_or(String::new(), |after| after.words());
            self.unmet(fault, &format!("{words}: the event was not seen"))?;
        }
        schedule.faults.retain(|fault| !fault.is_waiting());
        if schedule.faults.len() == before || self.stop.is_set() {
            return Ok(());
        }
        reaction::write(&self.schedule_file, schedule)
    }

    fn unmet(&self, fault: &Fault, reason: &str) -> Result<(), RunError> {
        self.reporter.line(&format!("fault {} did not happen: {reason}", fault.id));
        let value = self.identify(fault, [("reason", Value::str(reason))]);
        self.recorder.nemesis(self.recorder.now_ns(), "fault-unmet", value)
    }

    fn resolve(&self, fault: &Fault) -> Result<Resolved, String> {
        if let Some(resolved) = &fault.resolved {
            return Ok(resolved.clone());
        }
        let primaries =
            if fault.target == Target::Primaries { Some((self.primaries)()) } else { None };
        let mut stream = self.seed.stream("late-target", u64::from(fault.id));
        let field = Field::of(&self.spec);
        let mut aim = Aim::of(fault);
        if fault.package.is_some() && primaries.as_ref().is_some_and(Vec::is_empty) {
            // Packages cannot know whether the test names any, and one node is what it mostly comes to.
            aim.target = &Target::One;
        }
        target::resolve(&aim, &field, primaries.as_deref(), &mut stream)
            .map_err(|error| error.to_string())
    }

    /// Applies it; `None` if it cannot be, which the history says.
    fn start(&self, fault: &Fault, at_ns: u64) -> Result<Option<Running>, RunError> {
        let availability = planes::availability(&fault.kind, Some(&self.spec));
        if let Some(reason) = availability.unavailable() {
            self.left_out(fault, reason)?;
            return Ok(None);
        }
        let resolved = match self.resolve(fault) {
            Ok(resolved) => resolved,
            Err(reason) => {
                self.failed(fault, &reason)?;
                return Ok(None);
            }
        };
        self.recorder.nemesis(at_ns, "fault-start", describe(fault, &resolved))?;
        let order = Order { fault: fault.clone(), resolved: resolved.clone(), at_ns };
        if !self.await_time(fault, at_ns) {
            self.failed(fault, "the main phase ended before its time")?;
            return Ok(None);
        }
        let applied = match self.planes.get(fault.kind.plane()) {
            Some(plane) => plane.apply(&order),
            None => Err(format!("the {} plane is not open", fault.kind.plane())),
        };
        let applied = match applied {
            Ok(applied) => applied,
            Err(reason) => {
                self.failed(fault, &reason)?;
                return Ok(None);
            }
        };
        let applied_ns = self.recorder.clock().at_ns(applied.monotonic_ns);
        let late_us = applied_ns as i64 / 1000 - at_ns as i64 / 1000;
        let late = [("late-us", Value::Int(late_us))];
        let lasting = self.lasting(fault, &resolved).map(|nodes| (LASTING_KEY, strings(nodes)));
        let decided = late.into_iter().chain(lasting).chain(applied.decided);
        let value = self.identify(fault, decided);
        self.recorder.nemesis(applied_ns, "fault-applied", value)?;
        self.happenings.tell(applied_ns, Event::FaultApplied, fault.kind.name());
        let text = summary(fault, &resolved);
        self.reporter.line(&format!("fault {}: {text}", fault.id));
        self.active.lock().push((fault.id, short(fault, &resolved)));
        self.telemetry.fault_start(fault, &resolved);
        let over = Arc::new(AtomicBool::new(false));
        let watcher = self.watch_effect(fault, Arc::clone(&applied.fault), Arc::clone(&over));
        Ok(Some(Running {
            fault: fault.clone(),
            resolved,
            applied: applied.fault,
            over,
            watcher: Some(watcher),
            started: Instant::now(),
        }))
    }

    /// The nodes that the fault changes in a way that its heal does not take back, if there are any. A
    /// change of membership that leaves no majority may stop all of them.
    fn lasting(&self, fault: &Fault, resolved: &Resolved) -> Option<Vec<String>> {
        match &fault.kind {
            FaultKind::Membership(
                MembershipFault::Change { allow_unsafe: true }
                | MembershipFault::Leave { allow_unsafe: true }
                | MembershipFault::Forget { allow_unsafe: true },
            ) => Some(self.spec.nodes.names()),
            kind if LASTING_KINDS.contains(&kind.name()) => Some(resolved.nodes.clone()),
            _ => None,
        }
    }

    /// A fault that the run does without, since it cannot be had here.
    fn left_out(&self, fault: &Fault, reason: &str) -> Result<(), RunError> {
        let text = format!("fault {} ({}) is left out: {reason}", fault.id, fault.kind.name());
        self.reporter.line(&text);
        let plane = Value::sym(fault.kind.plane().as_str());
        let value = self.identify(fault, [("plane", plane), ("reason", Value::str(reason))]);
        self.recorder.nemesis(self.recorder.now_ns(), "fault-unavailable", value)
    }

    fn failed(&self, fault: &Fault, reason: &str) -> Result<(), RunError> {
        self.reporter.line(&format!("fault {} could not be applied: {reason}", fault.id));
        self.telemetry.fault_exception(fault, reason);
        let value = self.identify(fault, [("reason", Value::str(reason))]);
        self.recorder.nemesis(self.recorder.now_ns(), "fault-failed", value)
    }

    fn identify<'a>(
        &self,
        fault: &Fault,
        more: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Value {
        let id = [
            (Value::sym("id"), Value::Int(i64::from(fault.id))),
            (Value::sym("kind"), Value::sym(fault.kind.name())),
        ];
        Value::map(id.into_iter().chain(more.into_iter().map(|(k, v)| (Value::sym(k), v))))
    }

    /// Looks for the effect until it is seen or the fault is over, and records which.
    fn watch_effect(
        &self,
        fault: &Fault,
        applied: Arc<dyn AppliedFault>,
        over: Arc<AtomicBool>,
    ) -> JoinHandle<()> {
        let (nemesis, fault) = (self.clone(), fault.clone());
        std::thread::spawn(move || {
            let written = loop {
                let last = over.load(Ordering::Acquire);
                if let Some(seen) = applied.observe(nemesis.recorder.now_ns()) {
                    let value = nemesis.identify(
                        &fault,
                        [("effect", Value::str(seen.text)), ("evidence", seen.evidence)],
                    );
                    let now_ns = nemesis.recorder.now_ns();
                    nemesis.happenings.tell(now_ns, Event::FaultObserved, fault.kind.name());
                    break nemesis.recorder.nemesis(now_ns, "fault-observed", value);
                }
                if last {
                    let reason = applied.why_not();
                    let text = format!("fault {} had no effect: {reason}", fault.id);
                    nemesis.reporter.line(&text);
                    let value = nemesis.identify(&fault, [("reason", Value::str(reason))]);
                    let now_ns = nemesis.recorder.now_ns();
                    break nemesis.recorder.nemesis(now_ns, "fault-no-effect", value);
                }
                nemesis.observations.wait(Duration::from_millis(10));
            };
            nemesis.heed(written);
        })
    }

    /// Asks every node whom it sees, and records requested against effective connectivity.
    fn sample(
        &self,
        running: &Running,
        watchers: &mut Vec<JoinHandle<()>>,
    ) -> Result<(), RunError> {
        if self.stop.is_set() {
            return Ok(());
        }
        let (nemesis, id) = (self.clone(), running.fault.id);
        let links = match running.fault.port {
            Some(_) => return Ok(()),
            None => running.resolved.links.clone(),
        };
        watchers.push(std::thread::spawn(move || {
            nemesis.heed(nemesis.mesh.record_connectivity(&nemesis.recorder, id, &links));
        }));
        Ok(())
    }

    fn heal(
        &self,
        mut running: Running,
        at_ns: Option<u64>,
        watchers: &mut Vec<JoinHandle<()>>,
    ) -> Result<(), RunError> {
        let fault = running.fault.clone();
        let healed = running.applied.heal(at_ns);
        running.over.store(true, Ordering::Release);
        self.active.lock().retain(|(id, _)| *id != fault.id);
        if let Some(watcher) = running.watcher.take() {
            watchers.push(watcher);
        }
        let healed_ns = match healed {
            Ok(monotonic_ns) => self.recorder.clock().at_ns(monotonic_ns),
            // What was recorded until now keeps its verdict.
            Err(reason) => {
                let text = format!("fault {} could not be healed: {reason}", fault.id);
                self.reporter.line(&text);
                let value = self.identify(&fault, [("reason", Value::str(reason))]);
                self.recorder.nemesis(self.recorder.now_ns(), "fault-heal-failed", value)?;
                self.unhealed.ask(StopReason::Interrupted(text));
                return Ok(());
            }
        };
        self.recorder.nemesis(healed_ns, "fault-healed", self.identify(&fault, []))?;
        self.happenings.tell(healed_ns, Event::FaultHealed, fault.kind.name());
        self.reporter.line(&format!("fault {} healed", fault.id));
        self.telemetry.fault_stop(&fault, running.started.elapsed());
        watchers.push(self.watch_heal(running));
        Ok(())
    }

    /// Connects the nodes again as a cluster library would, and records that the heal was seen.
    fn watch_heal(&self, running: Running) -> JoinHandle<()> {
        let nemesis = self.clone();
        std::thread::spawn(move || {
            let fault = &running.fault;
            nemesis.mesh.hope_again();
            let mut deadline = Instant::now() + HEAL_OBSERVED_MAX;
            // A node that comes up is waited for: it is set up below. For links that stay silent nothing waits
            // when the main phase is over: the recovery looks at them too.
            let mut patient = fault.kind.info().subject == Subject::Links;
            let mut written = Ok(());
            let mut nudged: Option<Instant> = None;
            while Instant::now() < deadline && !nemesis.stop.is_set() {
                if patient && nemesis.over.is_set() {
                    patient = false;
                    deadline = deadline.min(Instant::now() + SETTLE_MAX);
                }
                nemesis.mesh.connect();
                if fault.port.is_none() && nudged.is_none_or(|at| at.elapsed() > NUDGE_EVERY) {
                    nemesis.mesh.nudge(&running.resolved.links);
                    nudged = Some(Instant::now());
                }
                if let Some(seen) = running.applied.observe_heal() {
                    let value = nemesis.identify(fault, [("effect", Value::str(seen.text))]);
                    let now_ns = nemesis.recorder.now_ns();
                    written = nemesis.recorder.nemesis(now_ns, "fault-heal-observed", value);
                    break;
                }
                nemesis.observations.wait(Duration::from_millis(20));
            }
            nemesis.heed(written);
            for node in running.applied.revived() {
                if let Err(reason) = nemesis.workers.set_up_again(node) {
                    nemesis.reporter.line(&format!("setup of {node} after its restart: {reason}"));
                }
            }
            if fault.port.is_none() && !nemesis.stop.is_set() {
                nemesis.settle();
                nemesis.heed(nemesis.mesh.record_connectivity(&nemesis.recorder, fault.id, &[]));
            }
        })
    }

    /// A cluster needs a moment to come together; the next fault, or the end, cuts the wait short.
    fn settle(&self) {
        let deadline = Instant::now() + SETTLE_MAX;
        while Instant::now() < deadline
            && self.active.lock().is_empty()
            && !self.mesh.is_settled()
            && !self.over.wait(Duration::from_millis(100))
        {
            self.mesh.connect();
        }
    }

    /// A watcher that cannot write stops the run: a history with holes is worth nothing.
    fn heed(&self, written: Result<(), RunError>) {
        if let Err(error) = written {
            self.stop.ask(StopReason::Broken(error.to_string()));
        }
    }
}
