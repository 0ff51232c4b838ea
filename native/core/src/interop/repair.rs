//! Records that are not a history yet: histories that only have completions.
//!
//! The tests of Elle, and hand-written examples, often give completions without invocations. [`load`]
//! refuses them, since what it gives is taken for measured; whoever knows that a text is such an example
//! reads its records with [`read_records`] and adds the invocations with [`add_invocations`].
//!
//! [`load`]: super::load

use std::collections::{HashMap, HashSet};

use super::error::{LoadError, Source};
use super::{Format, edn_history, json_read, recognise};
use crate::op::{Op, OpType, Process};

/// The records of a text in EDN or JSON, in order, indexed by position, not paired.
pub fn read_records(
    name: &str,
    bytes: &[u8],
    format: Option<Format>,
) -> Result<Vec<Op>, LoadError> {
    let source = Source { name, text: recognise::text(name, bytes)? };
    let format = match format {
        Some(format) => format,
        None => recognise::format(&source)?,
    };
    let mut ops = match format {
        Format::Edn => edn_history::read(&source)?.ops,
        Format::Json => json_read::read(&source)?.ops,
        Format::Fdh => return Err(recognise::not_from_memory(name)),
    };
    for (index, op) in ops.iter_mut().enumerate() {
        op.index = index as u64;
    }
    Ok(ops)
}

/// Gives every completion of a client that has no invocation one, as early as it can have been: right
/// behind the process's last completion, or at the start. So no order in time is made up that a checker
/// could hold against the system, except that of the process itself. The invocation has the value of
/// its completion.
pub fn add_invocations(ops: Vec<Op>) -> Vec<Op> {
    let mut open: HashSet<Process> = HashSet::new();
    // Where the next operation of a process can begin at the earliest.
    let mut free_from: HashMap<Process, usize> = HashMap::new();
    // Position before which each added invocation stands.
    let mut added: Vec<(usize, Op)> = Vec::new();
    for (position, op) in ops.iter().enumerate() {
        if !op.is_client() {
            continue;
        }
        if op.op_type == OpType::Invoke {
            open.insert(op.process);
            continue;
        }
        if !open.remove(&op.process) {
            let before = free_from.get(&op.process).copied().unwrap_or(0);
            let time_ns = ops[before.saturating_sub(1)].time_ns;
            let mut invoke = Op::new(time_ns, op.process, OpType::Invoke, op.f, op.value.clone());
            invoke.node = op.node;
            added.push((before, invoke));
        }
        free_from.insert(op.process, position + 1);
    }
    added.sort_by_key(|(before, _)| *before);
    let mut merged = Vec::with_capacity(ops.len() + added.len());
    let mut added = added.into_iter().peekable();
    for (position, op) in ops.into_iter().enumerate() {
        while let Some((_, invoke)) = added.next_if(|(before, _)| *before <= position) {
            merged.push(invoke);
        }
        merged.push(op);
    }
    for (index, op) in merged.iter_mut().enumerate() {
        op.index = index as u64;
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::History;

    #[test]
    fn completions_get_invocations_as_early_as_possible() {
        let text = "{:process 0 :type :ok :f :a :time 1}
                    {:process 1 :type :ok :f :b :time 2}
                    {:process 0 :type :info :f :c :time 3}
                    {:process 1 :type :invoke :f :d :time 4}
                    {:process 1 :type :ok :f :d :time 5}
                    {:process :nemesis :type :info :f :start :time 6}";
        let ops = add_invocations(read_records("h", text.as_bytes(), None).unwrap());
        let shown: Vec<String> =
            ops.iter().map(|op| format!("{}{}", op.op_type.as_str(), op.f)).collect();
        assert_eq!(shown.join(" "), "invokea invokeb oka invokec okb infoc invoked okd infostart");
        let history = History::new(ops).unwrap();
        assert_eq!(history.client_pairs().filter(|(_, done)| done.is_some()).count(), 4);
        assert_eq!(history.ops()[3].time_ns, 1, "the time of the record before");
    }
}
