//! The phases that have operations: main, heal, recovery, final, teardown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::spec::Spec;

use crate::cluster::Cluster;
use crate::mesh::Mesh;
use crate::nemesis::Nemesis;
use crate::operations::Operations;
use crate::plan::Plan;
use crate::recorder::{Recorder, map};
use crate::request::{Reporter, RunError};
use crate::status::Phase;
use crate::stop::{Stop, StopReason};
use crate::telemetry::Telemetry;
use crate::workers::Workers;

/// The final operations may take so long, and six times the deadline of an operation if that is longer.
const FINAL_MIN: Duration = Duration::from_secs(30);

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

    /// Operations and faults, side by side; the processes that the threads have come to.
    pub(crate) fn main(
        &self,
        plan: &Plan,
        nemesis: &Nemesis,
        operations: &mut Operations,
    ) -> Result<Vec<i64>, RunError> {
        self.within("main", || {
            let main_start_ns = self.recorder.now_ns();
            let mut generator = plan.main_generator()?;
            std::thread::scope(|scope| {
                let faults = scope.spawn(|| nemesis.run(&plan.schedule, main_start_ns));
                let performed = operations.run(&mut generator, None, self.stop);
                nemesis.over.ask(StopReason::Interrupted("the main phase is over".into()));
                let injected = faults.join().unwrap_or_else(|_| {
                    Err(RunError::Internal("the thread of the nemesis panicked".into()))
                });
                performed?;
                injected?;
                Ok(generator.processes().to_vec())
            })
        })
    }

    /// Everything healed, every node up, every node seen by every other; then, if final operations
    /// follow, quiet for the rest of the time, so that a system that converges can.
    pub(crate) fn recover(
        &self,
        plan: &Plan,
        nemesis: &Nemesis,
        mesh: &Mesh,
        cluster: &Cluster,
        operations: &mut Operations,
    ) -> Result<(), RunError> {
        let heal = || nemesis.planes.heal_all().map_err(RunError::Internal);
        let revived = self.within("heal", heal)?;
        self.within("recovery", || {
            let began = Instant::now();
            let deadline = began + Duration::from_secs_f64(self.spec.recovery_s.max(0.0));
            let up = cluster.await_agents(deadline, self.stop);
            for node in revived.iter().filter(|_| !self.stop.is_set()) {
                if let Err(reason) = nemesis.workers.set_up_again(node) {
                    self.reporter.line(&format!("setup of {node} after its restart: {reason}"));
                }
            }
            let full = up && (!self.spec.cluster.connect || mesh.await_full(deadline, self.stop));
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
            if plan.has_final_operations() {
                operations.rejoin(deadline, self.stop)?;
                self.stop.wait_until(deadline);
            }
            Ok(())
        })
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
            operations.run(&mut generator, Some(deadline_ns), self.stop)
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
