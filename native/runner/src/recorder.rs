//! The one way into the history: every record of a run goes through here.
//!
//! Records are appended to the file in the order in which they are given; a batch is committed with
//! one write before the call returns, so whoever sends an invocation or counts a completion after it
//! can be killed at any moment without the history losing it. Once a second the file is also synced,
//! for the case that the machine dies.

use std::sync::{Arc, Mutex, MutexGuard};

use fuzz_dist_core::clock::RunClock;
use fuzz_dist_core::history_file::Writer;
use fuzz_dist_core::sync::lock;
use fuzz_dist_core::{Op, OpType, Process, Sym, Value};

use crate::clock_offsets::ClockOffsets;
use crate::request::RunError;

/// Appends to the history of a run; shared by all its threads.
#[derive(Debug, Clone)]
pub struct Recorder {
    clock: RunClock,
    writer: Arc<Mutex<Writer>>,
    clock_offsets: ClockOffsets,
}

impl Recorder {
    /// Records into `writer`, with times of `clock`.
    pub fn new(writer: Writer, clock: RunClock) -> Recorder {
        Recorder {
            clock,
            writer: Arc::new(Mutex::new(writer)),
            clock_offsets: ClockOffsets::default(),
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        lock(&self.writer)
    }

    /// The clock of the run.
    pub fn clock(&self) -> &RunClock {
        &self.clock
    }

    /// How far the clocks of nodes are off, which completions carry.
    pub fn clock_offsets(&self) -> &ClockOffsets {
        &self.clock_offsets
    }

    /// Nanoseconds since the start of the run.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Appends the records in order and commits them; empties the vector.
    pub fn record_all(&self, ops: &mut Vec<Op>) -> Result<(), RunError> {
        if ops.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer();
        for mut op in ops.drain(..) {
            writer.append(&mut op).map_err(|e| write_error(&e))?;
        }
        writer.commit().map_err(|e| write_error(&e))
    }

    fn record(&self, op: Op) -> Result<(), RunError> {
        self.record_all(&mut vec![op])
    }

    /// Records something of the nemesis at that time.
    pub fn nemesis(&self, time_ns: u64, f: &str, value: Value) -> Result<(), RunError> {
        let f = Sym::new(f);
        let mut op = Op::new(time_ns as i64, Process::nemesis(), OpType::Info, f, value);
        self.clock_offsets.stamp(&mut op);
        self.record(op)
    }

    /// Records what a node, or the run itself, reported at that time.
    pub fn observer(
        &self,
        time_ns: u64,
        f: &str,
        node: Option<&str>,
        value: Value,
    ) -> Result<(), RunError> {
        let f = Sym::new(f);
        let mut op = Op::new(time_ns as i64, Process::observer(), OpType::Info, f, value);
        op.node = node.map(Sym::new);
        self.record(op)
    }

    /// Records that the run enters a phase.
    pub fn phase(&self, name: &str) -> Result<(), RunError> {
        self.observer(self.now_ns(), "phase", None, map([("name", Value::sym(name))]))
    }

    /// Makes what was committed survive the machine's death.
    pub fn sync(&self) -> Result<(), RunError> {
        self.writer().sync().map_err(|e| write_error(&e))
    }
}

fn write_error(error: &dyn std::fmt::Display) -> RunError {
    RunError::Internal(format!(
        "the history could not be written ({error}); is the disk of the store full? What was written \
         before stays readable with `fuzz_dist analyze`"
    ))
}

/// A map with names as keys.
pub fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::map(pairs.into_iter().map(|(key, value)| (Value::sym(key), value)))
}

/// A list of strings.
pub fn strings<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> Value {
    Value::list(items.into_iter().map(|item| Value::str(item.as_ref())).collect::<Vec<_>>())
}
