//! Telemetry of runs, phases and faults, executed in the VMs that have a worker.
//!
//! Events are `[:fuzz_dist, :run | :phase | :fault, :start | :stop | :exception]`; measurements and
//! metadata are listed in `FuzzDist.Telemetry`. Operations emit theirs in the worker itself.

use std::time::Duration;

use fuzz_dist_core::fault::{Fault, Resolved};
use fuzz_dist_core::{Value, clock};

use crate::agents::message::tagged;
use crate::operations::Broadcaster;
use crate::recorder::{map, strings};

/// Sends events to every worker in use.
#[derive(Debug, Clone)]
pub struct Telemetry {
    workers: Broadcaster,
    run: String,
    test: String,
}

impl Telemetry {
    /// For a run of a test.
    pub fn new(workers: Broadcaster, run: &str, test: &str) -> Telemetry {
        Telemetry { workers, run: run.to_owned(), test: test.to_owned() }
    }

    fn execute(
        &self,
        family: &str,
        event: &str,
        measurements: Value,
        metadata: Vec<(&str, Value)>,
    ) {
        let name = [Value::sym("fuzz_dist"), Value::sym(family), Value::sym(event)];
        let common = [("run", Value::str(&*self.run)), ("test", Value::str(&*self.test))];
        let metadata = common.into_iter().chain(metadata);
        let metadata = Value::map(metadata.map(|(key, value)| (Value::sym(key), value)));
        let message = tagged("telemetry", [Value::list(name), measurements, metadata]);
        self.workers.send(&message);
    }

    /// Native time units of the BEAM on Linux are nanoseconds.
    fn started() -> Value {
        map([
            ("system_time", Value::Int(clock::wall_ns())),
            ("monotonic_time", Value::Int(clock::monotonic_ns() as i64)),
        ])
    }

    fn stopped(duration: Duration) -> Value {
        map([
            ("duration", Value::Int(duration.as_nanos() as i64)),
            ("monotonic_time", Value::Int(clock::monotonic_ns() as i64)),
        ])
    }

    /// The run begins its operations.
    pub fn run_start(&self) {
        self.execute("run", "start", Telemetry::started(), vec![]);
    }

    /// The operations of the run have ended.
    pub fn run_stop(&self, duration: Duration) {
        self.execute("run", "stop", Telemetry::stopped(duration), vec![]);
    }

    /// A phase begins.
    pub fn phase_start(&self, phase: &str) {
        self.execute("phase", "start", Telemetry::started(), vec![("phase", Value::sym(phase))]);
    }

    /// A phase has ended.
    pub fn phase_stop(&self, phase: &str, duration: Duration) {
        let metadata = vec![("phase", Value::sym(phase))];
        self.execute("phase", "stop", Telemetry::stopped(duration), metadata);
    }

    fn fault_metadata(fault: &Fault) -> Vec<(&'static str, Value)> {
        vec![
            ("id", Value::Int(i64::from(fault.id))),
            ("kind", Value::sym(fault.kind.name())),
            ("one_way", Value::Bool(fault.one_way)),
            ("port", fault.port.as_deref().map_or(Value::Nil, Value::str)),
        ]
    }

    /// A fault was applied.
    pub fn fault_start(&self, fault: &Fault, resolved: &Resolved) {
        let mut metadata = Telemetry::fault_metadata(fault);
        metadata.push(("nodes", strings(&resolved.nodes)));
        self.execute("fault", "start", Telemetry::started(), metadata);
    }

    /// A fault was healed.
    pub fn fault_stop(&self, fault: &Fault, duration: Duration) {
        let metadata = Telemetry::fault_metadata(fault);
        self.execute("fault", "stop", Telemetry::stopped(duration), metadata);
    }

    /// A fault could not be applied.
    pub fn fault_exception(&self, fault: &Fault, reason: &str) {
        let mut metadata = Telemetry::fault_metadata(fault);
        metadata.push(("kind", Value::sym("error")));
        metadata.push(("fault", Value::sym(fault.kind.name())));
        metadata.push(("reason", Value::str(reason)));
        metadata.push(("stacktrace", Value::list(Vec::new())));
        self.execute("fault", "exception", Telemetry::stopped(Duration::ZERO), metadata);
    }
}
