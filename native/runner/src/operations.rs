//! Performs operations: takes invocations from the generator, records them, sends them to workers,
//! and takes their completions.
//!
//! One thread, no locks but the recorder's. In each turn: completions that have arrived, deadlines that
//! have passed, then as many invocations as the generator has for this instant; all of it goes into the
//! history with one write, and only then to the workers. So an invocation is on disk before it is
//! sent, and a completion before it is counted.
//!
//! Silence becomes `info` at the operation's deadline, and its process ends. An operation that could
//! not be sent, or whose client could not be opened, certainly did not happen: it fails, and its thread
//! rests a while (10 ms, doubling to a second), so that a dead node does not flood the history.

mod answers;
mod slots;
mod tally;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use fuzz_dist_core::{Op, OpType, Process, Sym, Value};
use fuzz_dist_schedule::interpreter::{Interpreter, Invocation, Next};

use crate::agents::message::{WireDone, WireOp, tagged};
use crate::agents::{Link, WorkerEvent};
use crate::recorder::Recorder;
use crate::request::{Check, Reporter, RunError};
use crate::stop::Stop;
use crate::surprises::Surprises;
use answers::Answers;
pub use slots::{Broadcaster, Placing};
use slots::{Slot, Slots};
pub use tally::Tally;

/// Most invocations of one turn.
const TURN_MAX: usize = 4096;

/// How long a thread rests after its client could not be opened.
const REST_NS_MIN: u64 = 10_000_000;
const REST_NS_MAX: u64 = 1_000_000_000;

/// An operation that was sent.
#[derive(Debug)]
struct Flight {
    id: u64,
    process: i64,
    f: Sym,
    value: Value,
    invoked_ns: u64,
    extra: Option<Arc<Vec<(Sym, Value)>>>,
}

/// What a thread of the generator is doing.
#[derive(Debug, Default)]
struct Thread {
    flight: Option<Flight>,
    /// The process that the worker has open for this thread, and over which connection.
    opened: Option<(i64, usize)>,
    rest_ns: u64,
    sent: u64,
    answers: Answers,
}

/// When operations end.
#[derive(Debug, Clone, Default)]
pub struct Until {
    /// No operation begins later, on the run's clock.
    pub begin_ns: Option<u64>,
    /// Operations that are open then stay open, on the run's clock.
    pub deadline_ns: Option<u64>,
    /// No operation begins once this is set.
    pub over: Option<Stop>,
    /// No operation begins once everything that worked has answered again, or was asked often enough
    /// to tell that it does not.
    pub answered: bool,
    /// At most one operation begins in so long.
    pub gap_ns: u64,
}

/// A completion that the generator hears of later.
#[derive(Debug)]
struct Resting {
    until_ns: u64,
    thread: u32,
    value: Value,
    f: Sym,
}

/// Performs the operations of a run.
pub struct Operations {
    recorder: Recorder,
    inbox: Receiver<WorkerEvent>,
    slots: Slots,
    threads: Vec<Thread>,
    deadlines: VecDeque<(u64, u64)>,
    resting: Vec<Resting>,
    records: Vec<Op>,
    tally: Arc<Tally>,
    surprises: Surprises,
    reporter: Arc<dyn Reporter>,
    op_timeout_ns: u64,
    /// The generator counts its time from here.
    base_ns: u64,
    /// No operation begins before.
    next_ns: u64,
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operations").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Operations {
    /// For `thread_count` threads, placed on workers by `placing`.
    pub fn new(
        recorder: Recorder,
        inbox: Receiver<WorkerEvent>,
        placing: Placing,
        thread_count: u32,
        op_timeout: Duration,
        tally: Arc<Tally>,
        reporter: Arc<dyn Reporter>,
    ) -> Operations {
        Operations {
            recorder,
            inbox,
            slots: Slots::new(placing),
            threads: (0..thread_count).map(|_| Thread::default()).collect(),
            deadlines: VecDeque::new(),
            resting: Vec::new(),
            records: Vec::new(),
            tally,
            surprises: Surprises::default(),
            reporter,
            op_timeout_ns: op_timeout.as_nanos() as u64,
            base_ns: 0,
            next_ns: 0,
        }
    }

    /// Waits until every worker is initialised; names those that are not at the deadline, or the
    /// first that refuses. `check` is asked in between whether there is still hope.
    pub fn await_workers(
        &mut self,
        deadline: std::time::Instant,
        check: Check<'_>,
        stop: &Stop,
    ) -> Result<(), RunError> {
        loop {
            check()?;
            let missing = self.slots.missing();
            if missing.is_empty() || stop.is_set() {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Err(RunError::Input(format!(
                    "no worker has connected from {}: see nodes/<name>/output.log in the run's folder. \
                     The VM is still busy starting (cluster.ready_timeout_ms), or its command starts the \
                     worker itself, with `fuzz_dist_boot`, and does not come to it; in a node whose command \
                     does not name `fuzz_dist_boot` the core starts the worker",
                    missing.join(", ")
                )));
            }
            match self.inbox.recv_timeout(left.min(Duration::from_millis(100))) {
                Ok(WorkerEvent::Up(link)) => self.slots.initialise(&link),
                Ok(WorkerEvent::Down(link)) => drop(self.slots.down(&link)),
                Ok(WorkerEvent::Done(..) | WorkerEvent::Echo(..))
                | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(agents_gone()),
            }
            for (name, ready) in self.slots.take_ready() {
                if let Err(reason) = ready {
                    return Err(RunError::Input(format!("the worker in {name}: {reason}")));
                }
            }
        }
    }

    /// Takes workers into use that came back while no operation was performed, in nodes that were started again: until
    /// every worker is there or has refused, or the deadline has passed.
    pub fn rejoin(&mut self, deadline: std::time::Instant, stop: &Stop) -> Result<(), RunError> {
        let mut refused: Vec<String> = Vec::new();
        loop {
            while let Ok(event) = self.inbox.try_recv() {
                match event {
                    WorkerEvent::Up(link) => {
                        if let Some(old) = self.slots.replaced_by(&link)
                            && self.slots.down(&old)
                        {
                            self.close_processes(link.name());
                        }
                        self.slots.initialise(&link);
                    }
                    WorkerEvent::Down(link) => {
                        if self.slots.down(&link) {
                            self.close_processes(link.name());
                        }
                    }
                    WorkerEvent::Done(..) | WorkerEvent::Echo(..) => {}
                }
            }
            refused.extend(self.take_ready()?);
            let hoped_for = self.slots.missing().iter().any(|name| !refused.contains(name));
            let late = std::time::Instant::now() >= deadline;
            if !hoped_for || late || stop.is_set() {
                return Ok(());
            }
            stop.wait(Duration::from_millis(20));
        }
    }

    /// Runs a generator from its beginning, until it is done and every operation has completed, or as `until`
    /// says, or until the run should stop; operations that are open then stay open.
    pub fn run(
        &mut self,
        generator: &mut Interpreter,
        until: &Until,
        stop: &Stop,
    ) -> Result<(), RunError> {
        self.base_ns = self.recorder.now_ns();
        self.perform(generator, until, stop)
    }

    /// Goes on with a generator that was run before, as if no time had passed since `paused_ns`.
    pub fn resume(
        &mut self,
        generator: &mut Interpreter,
        paused_ns: u64,
        until: &Until,
        stop: &Stop,
    ) -> Result<(), RunError> {
        self.base_ns += self.recorder.now_ns().saturating_sub(paused_ns);
        self.perform(generator, until, stop)
    }

    /// From now on it counts what answers again.
    pub fn ask_again(&mut self) {
        let now_ns = self.recorder.now_ns();
        self.threads.iter_mut().for_each(|thread| thread.answers.ask_again(now_ns));
    }

    /// What worked before [`Operations::ask_again`] and has not answered since: `read on n3`.
    pub fn unanswered(&self) -> Vec<String> {
        let threads = self.threads.iter().enumerate();
        let all =
            threads.map(|(thread, state)| (self.slots.node_of(thread as u32), &state.answers));
        answers::unanswered(all)
    }

    /// Whether nothing is left to be asked.
    fn is_answered(&self) -> bool {
        let threads = self.threads.iter().enumerate();
        let all =
            threads.map(|(thread, state)| (self.slots.node_of(thread as u32), &state.answers));
        answers::is_enough(all, self.recorder.now_ns())
    }

    /// Whether no operation is to begin any more.
    fn is_over(&self, until: &Until) -> bool {
        until.begin_ns.is_some_and(|begin_ns| self.recorder.now_ns() >= begin_ns)
            || until.over.as_ref().is_some_and(Stop::is_set)
            || until.answered && self.is_answered()
    }

    fn perform(
        &mut self,
        generator: &mut Interpreter,
        until: &Until,
        stop: &Stop,
    ) -> Result<(), RunError> {
        loop {
            let now_ns = self.recorder.now_ns();
            let late = until.deadline_ns.is_some_and(|deadline_ns| now_ns > deadline_ns);
            if late || stop.is_set() {
                return self.recorder.record_all(&mut self.records);
            }
            self.take_events(generator)?;
            let now_ns = self.recorder.now_ns();
            self.expire(generator, now_ns);
            let over = self.is_over(until);
            // Threads need no rest before nothing.
            self.wake(generator, if over { u64::MAX } else { now_ns });
            let next = if over { Turn::Done } else { self.invoke(generator, until)? };
            self.recorder.record_all(&mut self.records)?;
            self.tally.publish();
            self.slots.flush();
            let wake_ns = match next {
                Turn::Again => continue,
                Turn::Done if self.in_flight() == 0 && self.resting.is_empty() => return Ok(()),
                Turn::Done | Turn::Completion => {
                    until.begin_ns.filter(|_| !over).unwrap_or(u64::MAX)
                }
                Turn::At(time_ns) => time_ns.min(until.begin_ns.unwrap_or(u64::MAX)),
            };
            self.sleep(generator, wake_ns)?;
        }
    }

    fn in_flight(&self) -> usize {
        self.threads.iter().filter(|thread| thread.flight.is_some()).count()
    }

    /// Waits for an event, at most until the next thing that is due.
    fn sleep(&mut self, generator: &mut Interpreter, wake_ns: u64) -> Result<(), RunError> {
        let due_ns = self
            .resting
            .iter()
            .map(|resting| resting.until_ns)
            .chain(self.deadlines.front().map(|(deadline_ns, _)| *deadline_ns))
            .fold(wake_ns, u64::min);
        let now_ns = self.recorder.now_ns();
        // Never longer than this, so that a wish to stop is heard.
        let wait =
            Duration::from_nanos(due_ns.saturating_sub(now_ns)).min(Duration::from_millis(50));
        if wait.is_zero() {
            return Ok(());
        }
        match self.inbox.recv_timeout(wait) {
            Ok(event) => {
                self.take(generator, event);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(agents_gone()),
        }
    }

    fn take_events(&mut self, generator: &mut Interpreter) -> Result<(), RunError> {
        while let Ok(event) = self.inbox.try_recv() {
            self.take(generator, event);
        }
        self.take_ready().map(drop)
    }

    /// Takes initialised workers into use; the names of those that refuse.
    fn take_ready(&mut self) -> Result<Vec<String>, RunError> {
        let mut refused = Vec::new();
        for (name, ready) in self.slots.take_ready() {
            if let Err(reason) = ready {
                // After a restart: the node stays without worker, and its operations fail.
                let value = Value::str(reason);
                let value = crate::recorder::map([("reason", value)]);
                let now_ns = self.recorder.now_ns();
                self.recorder.observer(now_ns, "worker-refused", Some(&name), value)?;
                refused.push(name);
            }
        }
        Ok(refused)
    }

    /// What the processes of a worker had open is gone with it.
    fn close_processes(&mut self, worker: &str) {
        for thread in self.slots.threads_of(worker, self.threads.len()) {
            self.threads[thread as usize].opened = None;
        }
    }

    fn take(&mut self, generator: &mut Interpreter, event: WorkerEvent) {
        match event {
            WorkerEvent::Done(link, batch) => {
                let now_ns = self.recorder.now_ns();
                let offsets = self.recorder.clock_offsets();
                if let Some(stamp) = batch.stamp.filter(|_| offsets.are_wanted())
                    && let Some(node) = self.slots.node_named(link.name())
                {
                    offsets.learn(node, stamp);
                }
                for done in batch.all {
                    let thread = (done.id % self.threads.len() as u64) as u32;
                    // Only the worker that was asked may answer.
                    if self.slots.is_of(thread, &link) {
                        self.completed(generator, done, now_ns);
                    }
                }
            }
            WorkerEvent::Up(link) => {
                if let Some(old) = self.slots.replaced_by(&link)
                    && self.slots.down(&old)
                {
                    self.lost(generator, &old);
                }
                self.slots.initialise(&link);
            }
            WorkerEvent::Echo(..) => {}
            WorkerEvent::Down(link) => {
                if self.slots.down(&link) {
                    self.lost(generator, &link);
                }
            }
        }
    }

    fn completed(&mut self, generator: &mut Interpreter, done: WireDone, now_ns: u64) {
        let thread = (done.id % self.threads.len() as u64) as u32;
        let slot = &mut self.threads[thread as usize].flight;
        if slot.as_ref().is_none_or(|flight| flight.id != done.id) {
            // Its deadline passed before: it is `info` in the history and stays so.
            return;
        }
        let Some(flight) = slot.take() else { return };
        let never_opened = done.op_type == OpType::Fail && is_no_client(&done.error);
        if never_opened {
            self.threads[thread as usize].opened = None;
            self.finish(generator, thread, flight, done, now_ns, true);
        } else {
            self.threads[thread as usize].rest_ns = 0;
            self.finish(generator, thread, flight, done, now_ns, false);
        }
    }

    /// Records the completion and tells the generator, after a rest if asked.
    fn finish(
        &mut self,
        generator: &mut Interpreter,
        thread: u32,
        flight: Flight,
        done: WireDone,
        now_ns: u64,
        rest: bool,
    ) {
        let mut op = Op::new(
            now_ns as i64,
            Process::Client(flight.process),
            done.op_type,
            flight.f,
            done.value,
        );
        op.error = done.error;
        op.node = Some(self.slots.node_of(thread));
        op.extra = flight.extra;
        self.threads[thread as usize].answers.completed(&op);
        if let Some(line) = self.surprises.of(&op) {
            self.reporter.line(&line);
        }
        self.recorder.clock_offsets().stamp(&mut op);
        self.tally.completed(done.op_type, now_ns.saturating_sub(flight.invoked_ns));
        if rest {
            let state = &mut self.threads[thread as usize];
            state.rest_ns = (state.rest_ns * 2).clamp(REST_NS_MIN, REST_NS_MAX);
            self.resting.push(Resting {
                until_ns: now_ns + state.rest_ns,
                thread,
                value: op.value.clone(),
                f: flight.f,
            });
        } else {
            let time_ns = now_ns - self.base_ns;
            generator.complete(thread, op.op_type, op.f, &op.value, time_ns, false);
        }
        self.records.push(op);
    }

    /// Every operation that a lost worker has not answered may have happened.
    fn lost(&mut self, generator: &mut Interpreter, link: &Link) {
        let now_ns = self.recorder.now_ns();
        self.close_processes(link.name());
        for thread in self.slots.threads_of(link.name(), self.threads.len()) {
            if let Some(flight) = self.threads[thread as usize].flight.take() {
                let done = WireDone {
                    id: flight.id,
                    op_type: OpType::Info,
                    value: flight.value.clone(),
                    error: agent_lost(link.name()),
                };
                self.finish(generator, thread, flight, done, now_ns, false);
            }
        }
    }

    /// Deadlines that have passed.
    fn expire(&mut self, generator: &mut Interpreter, now_ns: u64) {
        while let Some(&(deadline_ns, id)) = self.deadlines.front() {
            let thread = (id % self.threads.len() as u64) as u32;
            let slot = &mut self.threads[thread as usize];
            let open = slot.flight.as_ref().is_some_and(|flight| flight.id == id);
            if open && deadline_ns > now_ns {
                return;
            }
            self.deadlines.pop_front();
            if !open {
                continue;
            }
            let Some(flight) = slot.flight.take() else { continue };
            slot.opened = None;
            self.slots.of_thread(thread).control(tagged("kill", [Value::Int(flight.process)]));
            let done = WireDone {
                id,
                op_type: OpType::Info,
                value: flight.value.clone(),
                error: Value::sym("timeout"),
            };
            self.finish(generator, thread, flight, done, now_ns, false);
        }
    }

    /// Threads that have rested.
    fn wake(&mut self, generator: &mut Interpreter, now_ns: u64) {
        let mut i = 0;
        while i < self.resting.len() {
            if self.resting[i].until_ns > now_ns {
                i += 1;
                continue;
            }
            let rested = self.resting.swap_remove(i);
            let (f, value) = (rested.f, &rested.value);
            let time_ns = self.recorder.now_ns() - self.base_ns;
            generator.complete(rested.thread, OpType::Fail, f, value, time_ns, false);
        }
    }

    fn invoke(&mut self, generator: &mut Interpreter, until: &Until) -> Result<Turn, RunError> {
        for _ in 0..TURN_MAX {
            let now_ns = self.recorder.now_ns();
            if until.gap_ns > 0 && now_ns < self.next_ns {
                return Ok(Turn::At(self.next_ns));
            }
            match generator.next(now_ns - self.base_ns) {
                Next::Invoke(invocation) => {
                    self.next_ns = now_ns + until.gap_ns;
                    self.send(generator, invocation, now_ns);
                }
                Next::Log(text) => {
                    let value = crate::recorder::map([("text", Value::str(text))]);
                    self.recorder.observer(now_ns, "log", None, value)?;
                }
                Next::WaitUntil(time_ns) => {
                    return Ok(Turn::At(time_ns.saturating_add(self.base_ns)));
                }
                Next::WaitForCompletion => return Ok(Turn::Completion),
                Next::Done => return Ok(Turn::Done),
            }
        }
        Ok(Turn::Again)
    }

    fn send(&mut self, generator: &mut Interpreter, invocation: Invocation, now_ns: u64) {
        let Invocation { thread, process, f, value, extra, .. } = invocation;
        let node = self.slots.node_of(thread);
        let mut op =
            Op::new(now_ns as i64, Process::Client(process), OpType::Invoke, f, value.clone());
        op.node = Some(node);
        op.extra.clone_from(&extra);
        self.records.push(op);

        let thread_count = self.threads.len() as u64;
        let state = &mut self.threads[thread as usize];
        state.sent += 1;
        state.answers.asked(f);
        let id = state.sent * thread_count + u64::from(thread);
        let flight = Flight { id, process, f, value, invoked_ns: now_ns, extra };
        let slot = self.slots.of_thread(thread);
        let Some(connection) = slot.connection() else {
            let done = WireDone {
                id,
                op_type: OpType::Fail,
                value: flight.value.clone(),
                error: agent_lost(slot.name()),
            };
            self.finish(generator, thread, flight, done, now_ns, true);
            return;
        };
        if state.opened != Some((process, connection)) {
            state.opened = Some((process, connection));
            slot.control(tagged("open", [Value::Int(process), Value::str(node.as_str())]));
        }
        slot.operation(WireOp { id, process, f, value: flight.value.clone() });
        state.flight = Some(flight);
        self.deadlines.push_back((now_ns + self.op_timeout_ns, id));
    }

    /// Closes every process in an orderly way.
    pub fn close(&mut self) {
        for thread in 0..self.threads.len() {
            if let Some((process, _)) = self.threads[thread].opened.take() {
                let slot: &mut Slot = self.slots.of_thread(thread as u32);
                slot.control(tagged("close", [Value::Int(process)]));
            }
        }
        self.slots.flush();
    }

    /// Sends a message to every worker, such as telemetry.
    pub fn broadcaster(&self) -> Broadcaster {
        self.slots.broadcaster()
    }
}

enum Turn {
    /// There is more for this instant.
    Again,
    /// Nothing before then.
    At(u64),
    /// Nothing before a completion.
    Completion,
    /// Nothing any more.
    Done,
}

fn agent_lost(name: &str) -> Value {
    Value::tuple(vec![Value::sym("agent_lost"), Value::str(name)])
}

fn is_no_client(error: &Value) -> bool {
    error.items().and_then(|items| items.first()).and_then(Value::as_text) == Some("no_client")
}

fn agents_gone() -> RunError {
    RunError::Internal("the server for agents ended".into())
}
