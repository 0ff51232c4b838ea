//! Which operations are final: performed once more on every node when all is over.
//!
//! Final are operations that the test marks (the extra key `:final? true`, or the function `final-read`),
//! and those invoked after the record `:phase` with the name `final` of our own runs.

use std::collections::BTreeMap;

use fuzz_dist_core::{History, Op, Process, Sym, Value};

/// The position from which on operations are final; `u64::MAX` if the history has no such phase.
pub(crate) fn final_from(history: &History) -> u64 {
    let observer = Process::observer();
    let begins = |op: &&Op| {
        op.process == observer
            && op.f == "phase"
            && op.value.get("name").and_then(Value::as_text) == Some("final")
    };
    crate::budget::ops(history).find(begins).map_or(u64::MAX, |op| op.index)
}

/// Whether an operation is final; `final_from` is that of its history.
pub(crate) fn is_final(invoke: &Op, completion: Option<&Op>, final_from: u64) -> bool {
    let marked = |op: &Op| op.extra("final?") == Some(&Value::Bool(true));
    invoke.f == "final-read"
        || marked(invoke)
        || completion.is_some_and(marked)
        || invoke.index >= final_from
}

/// Who performed an operation: its node, or its process where the history has no nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reader {
    Node(&'static str),
    Process(i64),
}

impl Reader {
    pub(crate) fn of(invoke: &Op, completion: Option<&Op>) -> Reader {
        match completion.and_then(|done| done.node).or(invoke.node) {
            Some(node) => Reader::Node(Sym::as_str(node)),
            None => Reader::Process(invoke.process.client().unwrap_or_default()),
        }
    }
}

impl Reader {
    /// Whether it is a node with that property.
    pub(crate) fn is_node_that(self, has: impl Fn(&str) -> bool) -> bool {
        match self {
            Reader::Node(node) => has(node),
            Reader::Process(_) => false,
        }
    }
}

impl std::fmt::Display for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reader::Node(node) => f.write_str(node),
            Reader::Process(process) => write!(f, "process {process}"),
        }
    }
}

/// The final reads of a history.
#[derive(Debug, Default)]
pub(crate) struct LastReads {
    /// For each reader the rank of the last of its final reads that succeeded, or `None` if none did.
    pub(crate) by_reader: BTreeMap<Reader, Option<u32>>,
}

impl LastReads {
    /// `reads` are positions of invocation and completion of the reads that succeeded, by invocation.
    pub(crate) fn new(history: &History, reads: &[(u32, u32)]) -> LastReads {
        let from = final_from(history);
        let mut last = LastReads::default();
        for (invoke, completion) in crate::budget::client_pairs(history) {
            let is_read = invoke.f == "read" || invoke.f == "final-read";
            if is_read && is_final(invoke, completion, from) {
                last.by_reader.entry(Reader::of(invoke, completion)).or_default();
            }
        }
        for (rank, (invoke, completion)) in (0..).zip(reads) {
            let (invoke, done) =
                (&history.ops()[*invoke as usize], &history.ops()[*completion as usize]);
            if is_final(invoke, Some(done), from) {
                last.by_reader.insert(Reader::of(invoke, Some(done)), Some(rank));
            }
        }
        last
    }
}
