//! The core's end of the guard: blocking, shared by all threads of a run.
//!
//! One thread reads what the guard says. Requests carry ids, so several threads may ask at once.
//! If the guard dies, that thread first kills whatever is left of the run and then tells everybody.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuzz_dist_core::sync::lock;

use super::RUN_VARIABLE;
use super::cgroup::Group;
use super::owner::Owner;
use super::process_table::{Identity, ProcessState, ProcessTable, state};
use super::protocol::{
    Action, Exit, KeyStatus, Line, Outcome, ProcessInfo, Reply, Report, Request, Signal,
    SpawnRequest,
};
use super::server::undo;

/// How long the guard may take to answer; it does nothing that blocks, but the machine may be busy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the core tries to kill what a dead guard left.
const EMERGENCY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Why the guard could not do it.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The guard could not be started.
    #[error("the guard could not be started as `{program} guard`: {reason}")]
    Start {
        /// What was executed.
        program: String,
        /// Why not.
        reason: String,
    },
    /// The guard refused; the text names the program, file or key.
    #[error("{0}")]
    Refused(String),
    /// The guard has died, and with it every process of the run.
    #[error("the guard process has ended; the processes of the run were killed")]
    Lost,
    /// It did not answer in time.
    #[error("the guard did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// It answered something else.
    #[error("the guard answered what was not asked: {0}")]
    Confused(String),
}

/// A process that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spawned {
    /// Its id, which is also that of its process group.
    pub pid: i32,
    /// Clock ticks between boot and its start.
    pub start_time: u64,
    /// `CLOCK_MONOTONIC` when it had been started.
    pub monotonic_ns: u64,
}

/// A signal that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signalled {
    /// `CLOCK_MONOTONIC` right after it was sent.
    pub monotonic_ns: u64,
}

/// What was running when everything was killed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Were alive and are no more.
    pub killed: Vec<ProcessInfo>,
    /// Could not be killed.
    pub remaining: Vec<ProcessInfo>,
}

/// What the guard reports of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardEvent {
    /// A process that was started has ended.
    Exited {
        /// Its key.
        key: String,
        /// Its id.
        pid: i32,
        /// How.
        exit: Exit,
        /// `CLOCK_MONOTONIC` when the guard noticed.
        monotonic_ns: u64,
    },
    /// The guard died unasked; every process of the run has been killed but those in `remaining`.
    Lost(Leftovers),
}

/// The guard of a run. Dropping it kills every process of the run.
#[derive(Debug)]
pub struct Guard {
    shared: Arc<Shared>,
    child: Mutex<Option<Child>>,
    input: Mutex<Option<ChildStdin>>,
    reader: Mutex<Option<JoinHandle<()>>>,
    pid: i32,
}

#[derive(Debug)]
struct Shared {
    run_id: String,
    owner: Option<Owner>,
    state: Mutex<State>,
    remembered: Mutex<HashMap<String, Identity>>,
    at_end: Mutex<Vec<Vec<String>>>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    waiting: HashMap<u64, Sender<Outcome>>,
    subscribers: Vec<Sender<GuardEvent>>,
    /// It has said that it killed everything; until then its end is a death, even one that was asked for.
    swept: bool,
    lost: Option<Leftovers>,
    ended: bool,
}

impl Guard {
    /// Starts `exe guard` and waits until it is ready.
    pub fn start(exe: &Path, run_id: &str) -> Result<Guard, GuardError> {
        let failed =
            |reason: String| GuardError::Start { program: exe.display().to_string(), reason };
        let mut child = Command::new(exe)
            .arg("guard")
            .env(RUN_VARIABLE, run_id)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("it has no pipes".into()));
        };
        let shared = Arc::new(Shared {
            run_id: run_id.to_owned(),
            owner: Identity::of(child.id() as i32).and_then(Owner::of_guard),
            state: Mutex::default(),
            remembered: Mutex::default(),
            at_end: Mutex::default(),
        });
        let (ready_sender, ready) = mpsc::channel();
        let reading = Arc::clone(&shared);
        let reader = std::thread::Builder::new()
            .name("guard".into())
            .spawn(move || reading.read(output, &ready_sender))
            .map_err(|e| failed(e.to_string()))?;
        let guard = Guard {
            shared,
            pid: child.id() as i32,
            child: Mutex::new(Some(child)),
            input: Mutex::new(Some(input)),
            reader: Mutex::new(Some(reader)),
        };
        match ready.recv_timeout(ANSWER_TIMEOUT) {
            Ok(()) => Ok(guard),
            // Dropping the handle ends whatever it is.
            Err(RecvTimeoutError::Timeout) => Err(failed("it did not become ready".into())),
            Err(RecvTimeoutError::Disconnected) => {
                Err(failed("it ended at once; its message is above".into()))
            }
        }
    }

    /// The guard's own process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Starts a process.
    pub fn spawn(&self, request: SpawnRequest) -> Result<Spawned, GuardError> {
        let key = request.key.clone();
        match self.ask(Action::Spawn(request))? {
            Outcome::Spawned { pid, start_time, monotonic_ns } => {
                lock(&self.shared.remembered).insert(key, Identity { pid, start_time });
                Ok(Spawned { pid, start_time, monotonic_ns })
            }
            other => Err(GuardError::Confused(format!("{other:?}"))),
        }
    }

    /// Has commands run at the end of the run, whatever that is, when no process of it is left: they undo
    /// what outlives processes. To be said before it is done; failures of theirs are of no account.
    pub fn at_end(&self, commands: Vec<Vec<String>>) -> Result<(), GuardError> {
        lock(&self.shared.at_end).extend(commands.clone());
        match self.ask(Action::AtEnd { commands })? {
            Outcome::Noted => Ok(()),
            other => Err(GuardError::Confused(format!("{other:?}"))),
        }
    }

    /// Sends a signal to a process and its group. The effect follows: see [`Guard::state`].
    pub fn signal(&self, key: &str, signal: Signal) -> Result<Signalled, GuardError> {
        match self.ask(Action::Signal { key: key.to_owned(), signal })? {
            Outcome::Signalled { monotonic_ns } => Ok(Signalled { monotonic_ns }),
            other => Err(GuardError::Confused(format!("{other:?}"))),
        }
    }

    /// Every key that was started, with how its latest process stands.
    pub fn status(&self) -> Result<Vec<KeyStatus>, GuardError> {
        match self.ask(Action::Status)? {
            Outcome::Status { processes } => Ok(processes),
            other => Err(GuardError::Confused(format!("{other:?}"))),
        }
    }

    /// What the process is doing now, from `/proc`.
    pub fn state(&self, pid: i32) -> ProcessState {
        state(pid)
    }

    /// Events from now on; each receiver gets all of them. [`GuardEvent::Lost`] comes even if it
    /// happened before.
    pub fn events(&self) -> Receiver<GuardEvent> {
        let (sender, receiver) = mpsc::channel();
        let mut state = lock(&self.shared.state);
        match &state.lost {
            Some(left) => drop(sender.send(GuardEvent::Lost(left.clone()))),
            None if state.ended => {}
            None => state.subscribers.push(sender),
        }
        receiver
    }

    /// Kills, without the guard, every process that it started, their descendants, and whatever
    /// carries the id of this run in its environment. Runs by itself when the guard dies.
    pub fn emergency_kill(&self) -> Leftovers {
        self.shared.emergency_kill()
    }

    fn ask(&self, action: Action) -> Result<Outcome, GuardError> {
        let (sender, receiver) = mpsc::channel();
        let id = {
            let mut state = lock(&self.shared.state);
            if state.ended {
                return Err(GuardError::Lost);
            }
            state.last_id += 1;
            let id = state.last_id;
            state.waiting.insert(id, sender);
            id
        };
        self.send(&Request { id, action });
        let answer = receiver.recv_timeout(ANSWER_TIMEOUT);
        lock(&self.shared.state).waiting.remove(&id);
        match answer {
            Ok(Outcome::Refused { reason }) => Err(GuardError::Refused(reason)),
            Ok(outcome) => Ok(outcome),
            Err(RecvTimeoutError::Disconnected) => Err(GuardError::Lost),
            Err(RecvTimeoutError::Timeout) => Err(GuardError::Silent),
        }
    }

    /// A guard that cannot be written to has died; the reader notices and answers for it.
    fn send(&self, request: &Request) {
        if let (Ok(mut line), Some(input)) =
            (serde_json::to_string(request), lock(&self.input).as_mut())
        {
            line.push('\n');
            let _ = input.write_all(line.as_bytes()).and_then(|()| input.flush());
        }
    }

    /// Kills every process of the run and ends the guard. Later calls find nothing left to do.
    pub fn end(&self) -> Result<Leftovers, GuardError> {
        let Some(mut child) = lock(&self.child).take() else {
            return Ok(Leftovers::default());
        };
        let answer = self.ask(Action::Shutdown);
        lock(&self.input).take();
        if matches!(answer, Err(GuardError::Silent)) {
            // It can do no more for us; the reader then kills what it left.
            let _ = child.kill();
        }
        let _ = child.wait();
        if let Some(reader) = lock(&self.reader).take() {
            let _ = reader.join();
        }
        match answer? {
            Outcome::Swept { killed, remaining } => Ok(Leftovers { killed, remaining }),
            other => Err(GuardError::Confused(format!("{other:?}"))),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Whoever wants to know uses `end`; a lost guard was already reported as an event.
        let _ = self.end();
    }
}

impl Shared {
    fn read(&self, output: ChildStdout, ready: &Sender<()>) {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            match serde_json::from_str(&line) {
                Ok(Line::Report(Report::Ready)) => drop(ready.send(())),
                Ok(Line::Report(Report::Exited { key, pid, exit, monotonic_ns })) => {
                    self.tell(&GuardEvent::Exited { key, pid, exit, monotonic_ns });
                }
                Ok(Line::Reply(Reply { id, outcome })) => {
                    let mut state = lock(&self.state);
                    state.swept |= matches!(outcome, Outcome::Swept { .. });
                    if let Some(waiting) = state.waiting.remove(&id) {
                        drop(waiting.send(outcome));
                    }
                }
                // Not our guard any more: what it left is killed below.
                Err(_) => break,
            }
        }
        if !lock(&self.state).swept {
            let left = self.emergency_kill();
            undo(&lock(&self.at_end));
            lock(&self.state).lost = Some(left.clone());
            self.tell(&GuardEvent::Lost(left));
        }
        let mut state = lock(&self.state);
        state.ended = true;
        state.waiting.clear();
        state.subscribers.clear();
    }

    fn tell(&self, event: &GuardEvent) {
        let mut state = lock(&self.state);
        state.subscribers.retain(|subscriber| subscriber.send(event.clone()).is_ok());
    }

    /// The control group of the run, if there is one.
    fn group(&self) -> Option<Group> {
        let own = self.owner?.text();
        Group::all().into_iter().find(|(name, _)| *name == own).map(|(_, group)| group)
    }

    fn emergency_kill(&self) -> Leftovers {
        let remembered: Vec<Identity> = lock(&self.remembered).values().copied().collect();
        let me = std::process::id() as i32;
        let deadline = Instant::now() + EMERGENCY_TIMEOUT;
        let mut killed: HashMap<i32, ProcessInfo> = HashMap::new();
        let mut victims: Vec<Identity> = Vec::new();
        loop {
            if let Ok(table) = ProcessTable::read() {
                let spared = table.ancestry(me);
                victims.extend(table.with_environment(RUN_VARIABLE, &self.run_id));
                victims.extend(self.group().iter().flat_map(Group::members));
                victims.extend(remembered.iter().filter(|process| process.is_alive()));
                let roots: Vec<i32> = victims.iter().map(|process| process.pid).collect();
                victims.extend(table.descendants(&roots));
                victims.retain(|process| !spared.contains(&process.pid) && process.is_alive());
                victims.sort_unstable_by_key(|process| process.pid);
                victims.dedup();
            }
            if victims.is_empty() {
                if let Some(group) = self.group() {
                    group.remove();
                }
                return Leftovers { killed: killed.into_values().collect(), remaining: Vec::new() };
            }
            for process in &victims {
                killed.entry(process.pid).or_insert_with(|| process.info());
                process.kill();
            }
            if Instant::now() >= deadline {
                victims.retain(Identity::is_alive);
                let remaining = victims.iter().map(Identity::info).collect();
                return Leftovers { killed: killed.into_values().collect(), remaining };
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}
