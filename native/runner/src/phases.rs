//! The phases that have operations: main, heal, recovery, final, teardown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::spec::Spec;
use fuzz_dist_schedule::Interpreter;

use crate::cluster::Cluster;
use crate::mesh::Mesh;
use crate::nemesis::Nemesis;
use crate::operations::{Operations, Until};
use crate::plan::Plan;
use crate::recorder::{Recorder, map};
use crate::request::{Reporter, RunError};
use crate::status::Phase;
use crate::stop::{Stop, StopReason};
use crate::telemetry::Telemetry;
use crate::workers::Workers;

/// The final operations may take so long, and six times the deadline of an operation if that is longer.
const FINAL_MIN: Duration = Duration::from_secs(30);

/// How long everything that worked is asked again when something does not answer. With time-outs of
/// some seconds and few processes for each node it takes so long to ask often enough.
const ASK_AGAIN_MAX: Duration = Duration::from_secs(30);

/// At least so long is between operations that ask again.
const ASK_AGAIN_GAP: Duration = Duration::from_millis(10);

/// A cluster in which everything was healed.
pub(crate) struct Healed<'a> {
    pub nemesis: &'a Nemesis,
    pub mesh: &'a Mesh,
    pub cluster: &'a Cluster,
    /// Nodes that the heal started again.
    pub revived: Vec<String>,
    /// When the main phase ended, on the run's clock.
    pub main_end_ns: u64,
}

/// What every phase needs.
pub(crate) struct Phases<'a> {
    pub spec: &'a Spec,
    pub recorder: &'a Recorder,
    pub reporter: &'a Arc<dyn Reporter>,
    pub stop: &'a Stop,
    pub telemetry: &'a Telemetry,
    pub phase: &'a Phase,
}

impl Phases<'_> {
    /// Enters a phase, does it, leaves it.
    fn within<T>(
        &self,
        name: &'static str,
        act: impl FnOnce() -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let began = Instant::now();
        self.recorder.phase(name)?;
        self.phase.set(name);
        self.telemetry.phase_start(name);
        let outcome = act();
        self.telemetry.phase_stop(name, began.elapsed());
        outcome
    }

    /// Operations and faults, side by side; the generator, where it was when the phase ended.
    pub(crate) fn main(
        &self,
        plan: &Plan,
        nemesis: &Nemesis,
        operations: &mut Operations,
    ) -> Result<Interpreter, RunError> {
        self.within("main", || {
            let main_start_ns = self.recorder.now_ns();
            let mut generator = plan.main_generator()?;
            let length_ns = (self.spec.time_limit_s * 1e9) as u64;
            let until = Until {
                begin_ns: Some(main_start_ns.saturating_add(length_ns)),
                over: Some(nemesis.unhealed.clone()),
                ..Until::default()
            };
            std::thread::scope(|scope| {
                let faults = scope.spawn(|| nemesis.run(&plan.schedule, main_start_ns));
                let performed = operations.run(&mut generator, &until, self.stop);
                nemesis.over.ask(StopReason::Interrupted("the main phase is over".into()));
                let injected = faults.join().unwrap_or_else(|_| {
                    Err(RunError::Internal("the thread of the nemesis panicked".into()))
                });
                performed?;
                injected?;
                Ok(generator)
            })
        })
    }

    /// Heals everything that may be left, and names the nodes that it started again. `None` if a fault could
    /// not be healed: then nothing can be said about a whole cluster, and the run goes on to its end
    /// without recovery and final operations.
    pub(crate) fn heal(&self, nemesis: &Nemesis) -> Result<Option<Vec<String>>, RunError> {
        let healed = self.within("heal", || Ok(nemesis.planes.heal_all()))?;
        let reason = match (healed, nemesis.unhealed.reason()) {
            (Ok(revived), None) => return Ok(Some(revived)),
            // The nodes were killed while it healed.
            (Err(_), _) if self.stop.is_set() => return Ok(None),
            (Err(reason), _) => reason,
            (Ok(_), Some(unhealed)) => unhealed.text().to_owned(),
        };
        self.reporter.line(&format!("not everything could be healed: {reason}"));
        let value = map([("reason", Value::str(reason))]);
        self.recorder.observer(self.recorder.now_ns(), "heal-failed", None, value)?;
        Ok(None)
    }

    /// Every node up and seen by every other, and everything that worked asked again; then, if final
    /// operations follow, quiet for a while, so that a system that converges can.
    pub(crate) fn recover(
        &self,
        plan: &Plan,
        healed: &Healed<'_>,
        operations: &mut Operations,
        generator: &mut Interpreter,
    ) -> Result<(), RunError> {
        self.within("recovery", || {
            let recovery = Duration::from_secs_f64(self.spec.recovery_s.max(0.0));
            let mut deadline = Instant::now() + recovery;
            self.await_cluster(healed, deadline)?;
            if self.spec.recovery_check && !self.stop.is_set() {
                self.ask_again(plan, operations, generator, healed.main_end_ns)?;
                // What was written meanwhile has as long to converge.
                deadline = Instant::now() + recovery;
            }
            if plan.has_final_operations() {
                operations.rejoin(deadline, self.stop)?;
                self.stop.wait_until(deadline);
            }
            Ok(())
        })
    }

    /// Waits until every node is up and sees every other, at most until then.
    fn await_cluster(&self, healed: &Healed<'_>, deadline: Instant) -> Result<(), RunError> {
        let began = Instant::now();
        let up = healed.cluster.await_agents(deadline, self.stop);
        for node in healed.revived.iter().filter(|_| !self.stop.is_set()) {
            if let Err(reason) = healed.nemesis.workers.set_up_again(node) {
                self.reporter.line(&format!("setup of {node} after its restart: {reason}"));
            }
        }
        let full =
            up && (!self.spec.cluster.connect || healed.mesh.await_full(deadline, self.stop));
        let took_ms = began.elapsed().as_secs_f64() * 1e3;
        let value = map([("full", Value::Bool(full)), ("took-ms", Value::Float(took_ms))]);
        self.recorder.observer(self.recorder.now_ns(), "recovered", None, value)?;
        if !full && !self.stop.is_set() {
            self.reporter.line(&format!(
                "the nodes did not all see each other again within {} s after the last heal \
                 (recovery_s)",
                self.spec.recovery_s
            ));
        }
        Ok(())
    }

    /// Asks every function on every node again, until each has answered, or was asked often enough.
    fn ask_again(
        &self,
        plan: &Plan,
        operations: &mut Operations,
        generator: &mut Interpreter,
        main_end_ns: u64,
    ) -> Result<(), RunError> {
        operations.ask_again();
        let now_ns = self.recorder.now_ns();
        let until = Until {
            begin_ns: Some(now_ns.saturating_add(ASK_AGAIN_MAX.as_nanos() as u64)),
            answered: true,
            gap_ns: ASK_AGAIN_GAP.as_nanos() as u64,
            ..Until::default()
        };
        match plan.recovery_generator(generator.processes())? {
            Some(mut again) => {
                operations.run(&mut again, &until, self.stop)?;
                *generator = again;
            }
            // A generator of one's own goes on, so that what it has put out once stays unique.
            None => operations.resume(generator, main_end_ns, &until, self.stop)?,
        }
        let silent = operations.unanswered();
        if !silent.is_empty() && !self.stop.is_set() {
            self.reporter.line(&format!(
                "did not answer again after the last heal: {}",
                silent.iter().take(4).cloned().collect::<Vec<_>>().join(", ")
            ));
        }
        Ok(())
    }
    /// Final operations, if the test has any.
    pub(crate) fn finish(
        &self,
        plan: &Plan,
        operations: &mut Operations,
        processes: &[i64],
    ) -> Result<(), RunError> {
        let Some(mut generator) = plan.final_generator(processes)? else { return Ok(()) };
        self.within("final", || {
            let op_timeout = Duration::from_millis(self.spec.op_timeout_ms);
            let longest = FINAL_MIN.max(op_timeout * 6);
            let deadline_ns = self.recorder.now_ns() + longest.as_nanos() as u64;
            let until = Until { deadline_ns: Some(deadline_ns), ..Until::default() };
            operations.run(&mut generator, &until, self.stop)
        })
    }

    /// Lets the test clean up.
    pub(crate) fn tear_down(
        &self,
        workers: &Workers,
        operations: &mut Operations,
    ) -> Result<(), RunError> {
        self.within("teardown", || {
            operations.close();
            for failed in workers.tear_down_all() {
                self.reporter.line(&failed);
            }
            Ok(())
        })
    }
}
