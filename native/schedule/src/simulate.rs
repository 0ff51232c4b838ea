//! A run without a cluster: the operations and faults that a spec and a seed give, in virtual time.
//!
//! Every operation succeeds after a fixed time. What a real run invokes differs only where generators look
//! at completions; its faults are the same, but for boundaries that live nodes report otherwise.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use fuzz_dist_core::fault::{Availability, BoundaryEdges, Era, Fault, FaultKind, FaultSchedule};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::Spec;
use fuzz_dist_core::{Op, OpType, Process, Sym, Value};

use crate::boundaries::{Boundaries, BoundaryError};
use crate::compile::{Env, compile};
use crate::expr::ExprError;
use crate::faults::{self, DrawError, Stage};
use crate::interpreter::{Interpreter, Next};
use crate::target::{self, Field};
use crate::validate::{ScheduleError, validate};
use crate::workload::{self, Plan, WorkloadError};

/// How a simulated run goes.
#[derive(Debug, Clone)]
pub struct SimulateOptions {
    /// How long every operation takes (ns).
    pub latency_ns: u64,
    /// At most so many records; all when absent.
    pub records_max: Option<usize>,
    /// Faults to show instead of those drawn from the seed.
    pub schedule: Option<FaultSchedule>,
    /// Only faults, no operations.
    pub faults_only: bool,
    /// Boundaries that were mined.
    pub mined: Vec<BoundaryEdges>,
    /// What can be had here; everything unless told.
    pub available: fn(&FaultKind) -> Availability,
}

impl Default for SimulateOptions {
    fn default() -> SimulateOptions {
        SimulateOptions {
            latency_ns: 1_000_000,
            records_max: None,
            schedule: None,
            faults_only: false,
            mined: Vec::new(),
            available: |_| Availability::Real,
        }
    }
}

/// What a run would do.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// Operations and faults by time, numbered; faults as `doc/history.md` has them.
    pub records: Vec<Op>,
    /// The faults.
    pub schedule: FaultSchedule,
    /// Generators, checkers and notes.
    pub plan: Plan,
    /// Whether there would have been more records.
    pub truncated: bool,
}

/// Why a spec cannot be simulated: it could not run either.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// Its workload.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// Its generator, for these threads and nodes.
    #[error(transparent)]
    Generator(#[from] ExprError),
    /// A boundary.
    #[error("nemesis.boundaries: {0}")]
    Boundary(#[from] BoundaryError),
    /// Its faults.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// The given schedule.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

/// Draws the fault schedule of a spec from its own boundaries, as a run does from those of live nodes.
pub fn draw_from_spec(
    spec: &Spec,
    seed: Seed,
    mined: &[BoundaryEdges],
    available: &dyn Fn(&FaultKind) -> Availability,
) -> Result<FaultSchedule, SimulateError> {
    let boundaries = Boundaries::from_spec(spec, mined)?;
    let field = Field::of(spec);
    let fitting = |kind: &FaultKind| match spec.cluster.network.objection(kind) {
        Some(objection) => Availability::Unavailable(objection.into()),
        None => available(kind),
    };
    let stage = Stage::of_spec(spec, &boundaries, &field, seed, &fitting);
    Ok(faults::draw(&spec.nemesis, &stage)?)
}

/// Simulates a run and keeps its records.
pub fn simulate(
    spec: &Spec,
    seed: Seed,
    options: &SimulateOptions,
) -> Result<Simulation, SimulateError> {
    let mut records = Vec::new();
    let mut truncated = false;
    let max = options.records_max.unwrap_or(usize::MAX);
    let (plan, schedule) = simulate_into(spec, seed, options, &mut |op| {
        if records.len() >= max {
            truncated = true;
            return ControlFlow::Break(());
        }
        records.push(op);
        ControlFlow::Continue(())
    })?;
    Ok(Simulation { records, schedule, plan, truncated })
}

/// Simulates a run and hands out its records one by one, until `sink` breaks off.
pub fn simulate_into(
    spec: &Spec,
    seed: Seed,
    options: &SimulateOptions,
    sink: &mut dyn FnMut(Op) -> ControlFlow<()>,
) -> Result<(Plan, FaultSchedule), SimulateError> {
    let plan = workload::plan(spec)?;
    let nodes = spec.nodes.names();
    let schedule = match &options.schedule {
        None => draw_from_spec(spec, seed, &options.mined, &options.available)?,
        Some(schedule) => {
            validate(schedule, spec)?;
            schedule.clone()
        }
    };
    // `plan` has checked the concurrency.
    let threads = spec.concurrency.count(nodes.len()).unwrap_or(1);
    let main = compile(&plan.generator, &Env::new(threads, &nodes, seed))?;
    let last = plan
        .final_generator
        .as_ref()
        .map(|expr| compile(expr, &Env::for_final(threads, &nodes, seed)))
        .transpose()?;
    let mut player = Player {
        faults: fault_records(&schedule),
        nodes: nodes.iter().map(|node| Sym::new(node)).collect(),
        latency_ns: options.latency_ns.max(1),
        now_ns: 0,
        index: 0,
        sink,
    };
    let main_ns = to_ns(spec.time_limit_s);
    let _ =
        player.play_all(main, last, threads, main_ns, to_ns(spec.recovery_s), options.faults_only);
    Ok((plan, schedule))
}

fn to_ns(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e9).round() as u64
}

/// Plays interpreters against the perfect client, with faults in between.
struct Player<'a> {
    faults: VecDeque<Op>,
    nodes: Vec<Sym>,
    latency_ns: u64,
    now_ns: u64,
    index: u64,
    sink: &'a mut dyn FnMut(Op) -> ControlFlow<()>,
}

/// An operation under way.
struct Flight {
    until_ns: u64,
    thread: u32,
    process: Process,
    f: Sym,
    value: Value,
    extra: Option<crate::generator::Extra>,
}

impl Player<'_> {
    fn play_all(
        &mut self,
        main: crate::BoxGenerator,
        last: Option<crate::BoxGenerator>,
        threads: u32,
        main_ns: u64,
        recovery_ns: u64,
        faults_only: bool,
    ) -> ControlFlow<()> {
        if faults_only {
            return self.faults_until(u64::MAX);
        }
        self.phase("main")?;
        self.play(Interpreter::new(main, threads), 0)?;
        self.faults_until(u64::MAX)?;
        let Some(last) = last else { return ControlFlow::Continue(()) };
        self.now_ns = self.now_ns.max(main_ns);
        self.phase("recovery")?;
        self.now_ns = self.now_ns.saturating_add(recovery_ns);
        self.phase("final")?;
        let start_ns = self.now_ns;
        self.play(Interpreter::new(last, threads), start_ns)
    }

    fn emit(&mut self, mut op: Op) -> ControlFlow<()> {
        op.index = self.index;
        self.index += 1;
        (self.sink)(op)
    }

    fn phase(&mut self, name: &str) -> ControlFlow<()> {
        let value = Value::map([(Value::sym("name"), Value::sym(name))]);
        let observer = Process::observer();
        self.emit(Op::new(self.now_ns as i64, observer, OpType::Info, Sym::new("phase"), value))
    }

    fn faults_until(&mut self, time_ns: u64) -> ControlFlow<()> {
        while let Some(op) = pop_if(&mut self.faults, |op| op.time_ns as u64 <= time_ns) {
            self.now_ns = self.now_ns.max(op.time_ns as u64);
            self.emit(op)?;
        }
        ControlFlow::Continue(())
    }

    /// To the end of the interpreter; its time 0 is `start_ns`.
    fn play(&mut self, mut interpreter: Interpreter, start_ns: u64) -> ControlFlow<()> {
        let mut flights: VecDeque<Flight> = VecDeque::new();
        loop {
            let now_ns = self.now_ns - start_ns;
            let until_ns = match interpreter.next(now_ns) {
                Next::Invoke(invocation) => {
                    let process = match invocation.process {
                        crate::interpreter::NEMESIS_PROCESS => Process::nemesis(),
                        process => Process::Client(process),
                    };
                    let flight = Flight {
                        until_ns: self.now_ns.saturating_add(self.latency_ns),
                        thread: invocation.thread,
                        process,
                        f: invocation.f,
                        value: invocation.value,
                        extra: invocation.extra,
                    };
                    self.record(&flight, OpType::Invoke)?;
                    flights.push_back(flight);
                    continue;
                }
                Next::Log(text) => {
                    let process = Process::observer();
                    let (f, value) = (Sym::new("log"), Value::str(text));
                    self.emit(Op::new(self.now_ns as i64, process, OpType::Info, f, value))?;
                    continue;
                }
                Next::WaitUntil(time_ns) => start_ns.saturating_add(time_ns),
                Next::WaitForCompletion => u64::MAX,
                Next::Done => return ControlFlow::Continue(()),
            };
            let landing_ns = flights.front().map_or(u64::MAX, |flight| flight.until_ns);
            let next_ns = until_ns.min(landing_ns);
            if next_ns == u64::MAX {
                return ControlFlow::Continue(());
            }
            self.faults_until(next_ns)?;
            self.now_ns = next_ns;
            while let Some(flight) = pop_if(&mut flights, |flight| flight.until_ns <= next_ns) {
                self.record(&flight, OpType::Ok)?;
                let (f, value) = (flight.f, &flight.value);
                let time_ns = next_ns - start_ns;
                interpreter.complete(flight.thread, OpType::Ok, f, value, time_ns, false);
            }
        }
    }

    fn record(&mut self, flight: &Flight, op_type: OpType) -> ControlFlow<()> {
        let (process, f) = (flight.process, flight.f);
        let mut op = Op::new(self.now_ns as i64, process, op_type, f, flight.value.clone());
        if flight.process.client().is_some() && !self.nodes.is_empty() {
            op.node = Some(self.nodes[flight.thread as usize % self.nodes.len()]);
        }
        op.extra = flight.extra.clone();
        self.emit(op)
    }
}

/// The front of a queue, if it passes.
fn pop_if<T>(queue: &mut VecDeque<T>, passes: impl Fn(&T) -> bool) -> Option<T> {
    if passes(queue.front()?) { queue.pop_front() } else { None }
}

/// Eras, and starts and heals of all faults, by time; of those that wait for an event, from when on they wait.
fn fault_records(schedule: &FaultSchedule) -> VecDeque<Op> {
    let op = |time_ns: u64, f: &str, value: Value| {
        let (process, f) = (Process::nemesis(), Sym::new(f));
        let time_ns = i64::try_from(time_ns).unwrap_or(i64::MAX);
        Op::new(time_ns, process, OpType::Info, f, value)
    };
    let eras = schedule.eras.iter().enumerate();
    let mut records: Vec<Op> =
        eras.map(|(i, era)| op(era.start_ns, "era", era_value(i, era))).collect();
    for fault in &schedule.faults {
        if fault.is_waiting() {
            records.push(op(fault.start_ns, "fault-waiting", start_value(fault)));
            continue;
        }
        let end_ns = fault.start_ns.saturating_add(fault.duration_ns);
        records.push(op(fault.start_ns, "fault-start", start_value(fault)));
        records.push(op(end_ns, "fault-healed", Value::map(id_and_kind(fault))));
    }
    records.sort_by_key(|op| op.time_ns);
    records.into()
}

/// The value of an `:era` record (`doc/history.md`).
pub fn era_value(index: usize, era: &Era) -> Value {
    let packages = era.packages.iter().map(|name| Value::str(name.as_str()));
    Value::map([
        (Value::sym("number"), Value::Int(index as i64 + 1)),
        (Value::sym("packages"), Value::list(packages.collect::<Vec<_>>())),
        (Value::sym("duration-ms"), Value::Float(era.duration_ns as f64 / 1e6)),
    ])
}

fn id_and_kind(fault: &Fault) -> Vec<(Value, Value)> {
    vec![
        (Value::sym("id"), Value::Int(i64::from(fault.id))),
        (Value::sym("kind"), Value::sym(fault.kind.name())),
    ]
}

/// The value of a `:fault-start` record (`doc/history.md`). Absent things are left out.
pub fn start_value(fault: &Fault) -> Value {
    let mut pairs = id_and_kind(fault);
    let mut put = |key: &str, value: Value| pairs.push((Value::sym(key), value));
    put("plane", Value::sym(fault.kind.plane().as_str()));
    put("target", Value::sym(target::name(&fault.target)));
    put("start-ms", Value::Float(fault.start_ns as f64 / 1e6));
    put("duration-ms", Value::Float(fault.duration_ns as f64 / 1e6));
    if let Some(resolved) = &fault.resolved {
        let text = |text: &String| Value::str(text.as_str());
        put("nodes", Value::list(resolved.nodes.iter().map(text).collect::<Vec<_>>()));
        if !resolved.links.is_empty() {
            let links = resolved.links.iter();
            let pairs = links.map(|link| Value::list(vec![text(&link.from), text(&link.to)]));
            put("links", Value::list(pairs.collect::<Vec<_>>()));
        }
    }
    for (key, text) in [("scope", &fault.scope), ("package", &fault.package)] {
        if let Some(text) = text {
            put(key, Value::str(text.as_str()));
        }
    }
    if let Some(port) = &fault.port {
        put("port", Value::str(port.as_str()));
    }
    if let Some(after) = &fault.after {
        put("after", Value::str(after.words()));
        if let Some(seen_ns) = after.seen_ns {
            put("event-ms", Value::Float(seen_ns as f64 / 1e6));
        }
    }
    if let Some(part) = &fault.part_of {
        put("pattern", Value::sym(part.pattern.as_str()));
        put("pattern-first", Value::Int(i64::from(part.first)));
    }
    if fault.one_way {
        put("one-way", Value::Bool(true));
    }
    if let Some(boundary) = &fault.boundary {
        put("boundary", Value::str(boundary.name.as_str()));
        put("zone", Value::sym(boundary.zone.as_str()));
    }
    Value::map(pairs)
}
