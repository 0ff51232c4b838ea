//! Drives a generator: hands out invocations, takes completions, keeps threads and processes.
//!
//! A pure state machine: whoever runs it brings the time. Thread = process modulo the number of client
//! threads. After an `info` completion (or one that ends its process) the thread goes on with the process
//! `process + client_threads`, since a process that may still be doing something must never act again.

use fuzz_dist_core::{OpType, Sym, Value};

use crate::generator::{Answer, BoxGenerator, Context, Event, Extra};

/// The process of operations of the nemesis thread.
pub const NEMESIS_PROCESS: i64 = -1;

/// How many lines of log a generator may write without anything between.
const LOGS_MAX: u32 = 1_000;

/// An operation to send now.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The thread: below the number of client threads, or that number for the nemesis.
    pub thread: u32,
    /// The logical process; [`NEMESIS_PROCESS`] for the nemesis.
    pub process: i64,
    /// The time given to [`Interpreter::next`] (ns).
    pub time_ns: u64,
    /// The function.
    pub f: Sym,
    /// Its argument.
    pub value: Value,
    /// Further keys of the record, such as `final?`.
    pub extra: Option<Extra>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Send this, and ask again.
    Invoke(Invocation),
    /// Write this line, and ask again.
    Log(String),
    /// Ask again at this time (ns), or when an operation has completed.
    WaitUntil(u64),
    /// Ask again when an operation has completed.
    WaitForCompletion,
    /// Nothing is left to do, and nothing is under way.
    Done,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Interpreter {
    generator: BoxGenerator,
    context: Context,
    client_threads: u32,
    outstanding: u32,
    wants_updates: bool,
    logs: u32,
    done: bool,
}

impl Interpreter {
    /// Begins with all threads free; thread t runs process t.
    pub fn new(generator: BoxGenerator, client_threads: u32) -> Interpreter {
        let wants_updates = generator.wants_updates();
        Interpreter {
            generator,
            context: Context::new(client_threads),
            client_threads,
            outstanding: 0,
            wants_updates,
            logs: 0,
            done: false,
        }
    }

    /// Begins where another left off, with the processes that its threads have come to: the final
    /// operations of a run must not use processes that have crashed.
    pub fn with_processes(
        generator: BoxGenerator,
        client_threads: u32,
        processes: &[i64],
    ) -> Interpreter {
        let mut interpreter = Interpreter::new(generator, client_threads);
        let slots = interpreter.context.processes.iter_mut().take(client_threads as usize);
        slots.zip(processes).for_each(|(slot, process)| *slot = *process);
        interpreter
    }

    /// The process of each client thread.
    pub fn processes(&self) -> &[i64] {
        &self.context.processes[..self.client_threads as usize]
    }

    /// How many operations are under way.
    pub fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Asks what to do at `now_ns`, which must not go back. May be called again and again at one instant
    /// until it waits or is done.
    pub fn next(&mut self, now_ns: u64) -> Next {
        self.context.now_ns = now_ns.max(self.context.now_ns);
        if self.done {
            return self.when_done();
        }
        match self.generator.next(&mut self.context) {
            Answer::Op(draft) => {
                self.outstanding += 1;
                self.logs = 0;
                Next::Invoke(Invocation {
                    thread: draft.thread,
                    process: self.context.process(draft.thread),
                    time_ns: self.context.now_ns,
                    f: draft.f,
                    value: draft.value,
                    extra: draft.extra,
                })
            }
            Answer::Log(text) => {
                self.logs += 1;
                if self.logs > LOGS_MAX {
                    self.done = true;
                    return Next::Log(format!(
                        "the generator wrote {LOGS_MAX} lines without an operation or a wait, and \
                         ends here"
                    ));
                }
                Next::Log(text.to_string())
            }
            Answer::At(time_ns) => {
                self.logs = 0;
                Next::WaitUntil(time_ns.max(self.context.now_ns + 1))
            }
            Answer::Waiting if self.outstanding > 0 => Next::WaitForCompletion,
            // Would wait for ever: that is a defect of a generator, told rather than suffered.
            Answer::Waiting => {
                self.done = true;
                Next::Log(
                    "the generator waits for a completion, but nothing is under way; it ends here"
                        .into(),
                )
            }
            Answer::Done => {
                self.done = true;
                self.when_done()
            }
        }
    }

    fn when_done(&self) -> Next {
        if self.outstanding > 0 { Next::WaitForCompletion } else { Next::Done }
    }

    /// Takes the completion of the operation that `thread` has under way; of a thread that has none it is
    /// ignored. `end_process` gives the thread a new process even though the completion is not `info`.
    pub fn complete(
        &mut self,
        thread: u32,
        op_type: OpType,
        f: Sym,
        value: &Value,
        time_ns: u64,
        end_process: bool,
    ) {
        if thread > self.client_threads || self.context.free.contains(thread) {
            return;
        }
        self.context.now_ns = time_ns.max(self.context.now_ns);
        self.context.free.insert(thread);
        self.outstanding -= 1;
        if self.wants_updates && !self.done {
            let process = self.context.process(thread);
            self.generator.update(&Event { thread, process, op_type, f, value, time_ns });
        }
        if thread < self.client_threads && (end_process || op_type == OpType::Info) {
            self.context.processes[thread as usize] += i64::from(self.client_threads);
            self.context.process_changes += 1;
        }
    }
}
