//! What a generator is: asked at an instant, it gives an operation, says what it waits for, or ends.
//!
//! Jepsen's generators return a successor state with every answer, and the interpreter throws that
//! state away whenever the answer was "pending" or lay in the future, so that random draws are made
//! again and again until one happens to be used. Here a generator is a state machine that holds what it
//! drew: an operation that it answers is taken, a wait does not change it, and it is asked again when
//! the time that it named has come or when an operation has completed.
//!
//! A generator never sees a clock, a socket or an ambient random source: only [`Context`] and its own
//! stream of the seed.

pub mod change;
pub mod choice;
pub mod each;
pub mod independent;
pub mod leaf;
pub mod limit;
pub mod order;
pub mod pace;
pub mod until;

use std::fmt::Debug;
use std::sync::Arc;

use fuzz_dist_core::{OpType, Sym, Value};

pub use crate::threads::{Context, ThreadSet};

/// Further keys of an operation, shared between operations that have the same.
pub type Extra = Arc<Vec<(Sym, Value)>>;

/// An operation to be invoked now by a thread that was free.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The thread, already marked busy in the context.
    pub thread: u32,
    /// The function.
    pub f: Sym,
    /// Its argument.
    pub value: Value,
    /// Further keys of the record.
    pub extra: Option<Extra>,
}

/// What a generator says when it is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Invoke this now.
    Op(Draft),
    /// Write this line.
    Log(Arc<str>),
    /// Nothing before this time (ns), later than now, unless an operation completes before.
    At(u64),
    /// Nothing before an operation completes.
    Waiting,
    /// Nothing ever again.
    Done,
}

impl Answer {
    /// What two generators that both have nothing now are waiting for together.
    pub(crate) fn sooner(self, other: Answer) -> Answer {
        match (self, other) {
            (Answer::At(a), Answer::At(b)) => Answer::At(a.min(b)),
            (Answer::At(a), _) | (_, Answer::At(a)) => Answer::At(a),
            _ => Answer::Waiting,
        }
    }
}

/// A completion, as generators learn of it. The thread is free again; its process is the old one.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The thread.
    pub thread: u32,
    /// The process that performed the operation.
    pub process: i64,
    /// How it ended.
    pub op_type: OpType,
    /// The function.
    pub f: Sym,
    /// The result.
    pub value: &'a Value,
    /// When (ns).
    pub time_ns: u64,
}

/// A source of operations.
pub trait Generator: Send + Debug {
    /// Asks for an operation at `context.now_ns()`. After [`Answer::Done`] it answers the same for ever,
    /// until [`Generator::reset`].
    fn next(&mut self, context: &mut Context) -> Answer;

    /// Tells of a completion. Called only when [`Generator::wants_updates`].
    fn update(&mut self, event: &Event<'_>) {
        let _ = event;
    }

    /// Whether completions matter to it.
    fn wants_updates(&self) -> bool {
        false
    }

    /// Goes back to the beginning; random streams and counters of unique values go on.
    fn reset(&mut self);

    /// Whether it is certain, without asking, that it has nothing any more. A hint that saves waits: `false`
    /// is always right.
    fn is_done(&self) -> bool {
        false
    }
}

/// A generator of any kind.
pub type BoxGenerator = Box<dyn Generator>;
