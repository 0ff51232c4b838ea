//! A history in memory: records in order, invocations paired with their completions.
//!
//! A client process is single-threaded: between an invocation and its completion it begins nothing
//! else, and after an `info` completion it never acts again. [`History::new`] refuses what breaks
//! the first rule and a completion without invocation, since every checker rests on both.

use std::collections::HashMap;

use crate::op::{Op, OpType, Process};
use crate::sym::Sym;

/// Marks a record that has no partner.
const NO_PAIR: u32 = u32::MAX;

/// Why records are not a history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// A process began an operation while another of its own was open.
    #[error(
        "record {index}: process {process} invokes :{f} while its invocation at record {open} is still \
         open; a process does one thing at a time, so two clients share this process number"
    )]
    DoubleInvoke {
        /// Position of the second invocation.
        index: u64,
        /// Who.
        process: Process,
        /// What it invoked.
        f: Sym,
        /// Position of the invocation that is still open.
        open: u64,
    },
    /// A completion came for a process that had nothing open.
    #[error(
        "record {index}: process {process} completes :{f} ({op_type}) but has no open invocation",
        op_type = .op_type.as_str()
    )]
    OrphanCompletion {
        /// Position of the completion.
        index: u64,
        /// Who.
        process: Process,
        /// What it completed.
        f: Sym,
        /// How.
        op_type: OpType,
    },
    /// A completion is of another function than its invocation.
    #[error(
        "record {index}: process {process} completes :{f}, but what it has open (record {open}) is \
         :{open_f}"
    )]
    Mismatched {
        /// Position of the completion.
        index: u64,
        /// Who.
        process: Process,
        /// What it completed.
        f: Sym,
        /// Position of the invocation.
        open: u64,
        /// What it had invoked.
        open_f: Sym,
    },
    /// More records than a history may have.
    #[error("a history holds at most {} records", NO_PAIR - 1)]
    TooLong,
}

/// Records in order with the partner of each. Positions are dense: `history.ops()[i].index == i`.
#[derive(Debug, Clone, Default)]
pub struct History {
    ops: Vec<Op>,
    pairs: Vec<u32>,
    without_real_time: bool,
    has_added_invocations: bool,
}

impl History {
    /// Numbers and pairs the records. An `info` record of a process without an open invocation is an
    /// observation and stays unpaired; nemesis and observer records are never paired.
    pub fn new(ops: Vec<Op>) -> Result<History, HistoryError> {
        History::try_new(ops).map_err(|(error, _)| error)
    }

    /// As [`History::new`], giving back what is not a history.
    pub(crate) fn try_new(mut ops: Vec<Op>) -> Result<History, (HistoryError, Vec<Op>)> {
        let pairs = match pairs_of(&ops) {
            Ok(pairs) => pairs,
            Err(error) => return Err((error, ops)),
        };
        for (position, op) in ops.iter_mut().enumerate() {
            op.index = position as u64;
        }
        Ok(History { ops, pairs, without_real_time: false, has_added_invocations: false })
    }

    /// The same history, of which only the order within each process was recorded: that one operation
    /// ended before another process began one means nothing.
    pub fn without_real_time(self) -> History {
        History { without_real_time: true, ..self }
    }

    /// Whether the order of records of different processes is that of real time. It is not in formats that
    /// only know sessions.
    pub fn has_real_time(&self) -> bool {
        !self.without_real_time
    }

    /// The same history, of which only the completions of clients were recorded: every invocation was added.
    pub fn with_added_invocations(self) -> History {
        History { has_added_invocations: true, ..self }
    }

    /// Whether the invocations of clients are not among the records that were read.
    pub fn has_added_invocations(&self) -> bool {
        self.has_added_invocations
    }

    /// By position, the number of the record as it was read: of an added invocation, that of its completion.
    /// Nothing if all records were read.
    pub fn read_numbers(&self) -> Option<Vec<u64>> {
        let is_added = |op: &Op| op.is_client() && op.op_type == OpType::Invoke;
        self.has_added_invocations.then(|| {
            let mut next = 0..;
            let read = |op: &Op| if is_added(op) { None } else { next.next() };
            let own: Vec<Option<u64>> = self.ops.iter().map(read).collect();
            let of = |position: usize| own[position].or_else(|| own[self.pair(position)?]);
            (0..own.len()).map(|position| of(position).unwrap_or_default()).collect()
        })
    }

    /// All records, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The position of the completion of an invocation, or of the invocation of a completion.
    pub fn pair(&self, position: usize) -> Option<usize> {
        match self.pairs.get(position) {
            Some(&NO_PAIR) | None => None,
            Some(&pair) => Some(pair as usize),
        }
    }

    /// The completion of the invocation at `position`.
    pub fn completion(&self, position: usize) -> Option<&Op> {
        self.pair(position).map(|pair| &self.ops[pair])
    }

    /// Client invocations with their completions, in order of invocation.
    pub fn client_pairs(&self) -> impl Iterator<Item = (&Op, Option<&Op>)> {
        self.ops
            .iter()
            .enumerate()
            .filter(|(_, op)| op.is_client() && op.op_type == OpType::Invoke)
            .map(|(i, op)| (op, self.completion(i)))
    }

    /// Records of clients only.
    pub fn client_ops(&self) -> impl Iterator<Item = &Op> {
        self.ops.iter().filter(|op| op.is_client())
    }

    /// Gives the records back.
    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }
}

/// The partner of each record, [`NO_PAIR`] where there is none.
fn pairs_of(ops: &[Op]) -> Result<Vec<u32>, HistoryError> {
    if ops.len() >= NO_PAIR as usize {
        return Err(HistoryError::TooLong);
    }
    let mut pairs = vec![NO_PAIR; ops.len()];
    let mut open = Open::default();
    for (i, op) in ops.iter().enumerate() {
        let Process::Client(process) = op.process else { continue };
        let before = open.slot(process);
        if op.op_type == OpType::Invoke {
            let before = std::mem::replace(before, i as u32);
            if before != NO_PAIR {
                let (process, f, open) = (op.process, op.f, u64::from(before));
                return Err(HistoryError::DoubleInvoke { index: i as u64, process, f, open });
            }
            continue;
        }
        let before = std::mem::replace(before, NO_PAIR);
        if before != NO_PAIR {
            let open_f = ops[before as usize].f;
            if open_f != op.f {
                return Err(HistoryError::Mismatched {
                    index: i as u64,
                    process: op.process,
                    f: op.f,
                    open: u64::from(before),
                    open_f,
                });
            }
            pairs[i] = before;
            pairs[before as usize] = i as u32;
        } else if op.op_type != OpType::Info {
            return Err(HistoryError::OrphanCompletion {
                index: i as u64,
                process: op.process,
                f: op.f,
                op_type: op.op_type,
            });
        }
    }
    Ok(pairs)
}

/// The open invocation of each process. Processes are nearly always small numbers, since a client that
/// crashed comes back as its number plus the count of clients.
#[derive(Default)]
struct Open {
    small: Vec<u32>,
    others: HashMap<i64, u32>,
}

impl Open {
    /// As many as a few bytes each allow to be kept by number.
    const SMALL_MAX: usize = 1 << 20;

    fn slot(&mut self, process: i64) -> &mut u32 {
        match usize::try_from(process) {
            Ok(process) if process < Self::SMALL_MAX => {
                if process >= self.small.len() {
                    self.small.resize((process + 1).next_power_of_two(), NO_PAIR);
                }
                &mut self.small[process]
            }
            _ => self.others.entry(process).or_insert(NO_PAIR),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn op(process: i64, op_type: OpType, f: &str) -> Op {
        Op::new(0, Process::Client(process), op_type, Sym::new(f), Value::Nil)
    }

    #[test]
    fn pairs_interleaved_processes() {
        let history = History::new(vec![
            op(0, OpType::Invoke, "read"),
            op(1, OpType::Invoke, "write"),
            op(0, OpType::Ok, "read"),
            op(1, OpType::Info, "write"),
        ])
        .unwrap();
        assert_eq!(history.pair(0), Some(2));
        assert_eq!(history.pair(3), Some(1));
        assert_eq!(history.client_pairs().count(), 2);
    }

    #[test]
    fn refuses_what_is_not_a_history() {
        let double =
            History::new(vec![op(0, OpType::Invoke, "read"), op(0, OpType::Invoke, "read")]);
        assert!(matches!(double, Err(HistoryError::DoubleInvoke { index: 1, open: 0, .. })));
        let orphan = History::new(vec![op(0, OpType::Ok, "read")]);
        assert!(matches!(orphan, Err(HistoryError::OrphanCompletion { index: 0, .. })));
        let other = History::new(vec![op(0, OpType::Invoke, "read"), op(0, OpType::Ok, "write")]);
        assert!(matches!(other, Err(HistoryError::Mismatched { index: 1, .. })));
    }

    #[test]
    fn an_open_invocation_has_no_pair() {
        let history = History::new(vec![op(0, OpType::Invoke, "read")]).unwrap();
        assert_eq!(history.pair(0), None);
    }
}
