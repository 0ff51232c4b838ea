//! Records that Jepsen's tools accept although they do not pair by themselves.
//!
//! - **Completions only.** The tests of Elle, and hand-written examples, often leave out every invocation.
//!   Each completion gets one, as early as it can have been. Where some have invocations and others do not,
//!   `jepsen.history` refuses to pair, and so do we.
//! - **No `:process` at all**, as in examples of Elle. A completion belongs to the one open invocation of the
//!   same function whose value it fits; if there are several, nobody can tell, and it is refused.
//! - **A process that invokes while it has something open.** `jepsen.history` refuses to pair that; Elle
//!   only looks at completions where no order in time is asked for, and its own tests do it. So transactions,
//!   whose completions repeat what was invoked, are each taken for a process of their own if every
//!   completion fits exactly one; anything else is refused.
//!
//! Each is told by a notice.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::error::{LoadError, ShapeError};
use super::input::Input;
use super::{Format, Records};
use crate::op::{Op, OpType, Process};
use crate::value::Value;

/// The records of a text in EDN or JSON, in order, indexed by position, not paired.
pub fn read_records(
    name: &str,
    bytes: &[u8],
    format: Option<Format>,
) -> Result<Vec<Op>, LoadError> {
    let (records, _) = super::records(Input::open(name.to_owned(), bytes)?, format)?;
    let mut ops = records.ops;
    number(&mut ops);
    Ok(ops)
}

fn number(ops: &mut [Op]) {
    for (index, op) in ops.iter_mut().enumerate() {
        op.index = index as u64;
    }
}

/// Gives processes to records of which none names one; a text that only forgot some is refused.
pub(super) fn name_processes(name: &str, records: &mut Records) -> Result<(), LoadError> {
    if records.without_process_count == 0 {
        return Ok(());
    }
    let unnamed = super::draft::no_process();
    let refuse = |position: usize| LoadError::Shape {
        path: name.to_owned(),
        place: records.place(position).unwrap_or_default(),
        source: ShapeError::NoProcess {
            field: records.ops.get(position).and_then(super::look::client_field),
        },
    };
    if records.without_process_count < records.ops.len() {
        let first = records.ops.iter().position(|op| op.process == unnamed);
        return Err(refuse(first.unwrap_or_default()));
    }
    let mut processes = Vec::with_capacity(records.ops.len());
    let has_invocations = records.ops.iter().any(|op| op.op_type == OpType::Invoke);
    let mut free: BTreeSet<i64> = BTreeSet::new();
    let mut next = 0..;
    // Position and process of what is open.
    let mut open: Vec<(usize, i64)> = Vec::new();
    for (position, op) in records.ops.iter().enumerate() {
        if op.op_type == OpType::Invoke || !has_invocations {
            let process = free.pop_first().or_else(|| next.next()).unwrap_or(i64::MAX);
            if has_invocations {
                open.push((position, process));
            }
            processes.push(Process::Client(process));
            continue;
        }
        let ops = &records.ops;
        let mut fitting = (0..open.len()).filter(|&at| completes(&ops[open[at].0], op));
        match (fitting.next(), fitting.next()) {
            (Some(at), None) => {
                let (_, process) = open.remove(at);
                // Whoever does not know how its operation ended never acts again.
                if op.op_type != OpType::Info {
                    free.insert(process);
                }
                processes.push(Process::Client(process));
            }
            (None, _) if op.op_type == OpType::Info => processes.push(Process::nemesis()),
            _ => return Err(refuse(position)),
        }
    }
    for (op, process) in records.ops.iter_mut().zip(processes) {
        op.process = process;
    }
    records.notices.push(format!(
        "{name}: no record has a :process; completions were given to the invocations that they fit"
    ));
    Ok(())
}

/// Makes a history of records that do not pair; `false` if that cannot be done.
pub(super) fn mend(name: &str, records: &mut Records) -> bool {
    let mut clients = records.ops.iter().filter(|op| op.is_client());
    if clients.all(|op| op.op_type != OpType::Invoke) {
        let (ops, sources) = with_invocations(std::mem::take(&mut records.ops));
        records.ops = ops;
        records.has_added_invocations = true;
        let places = &records.places;
        records.places = sources.iter().filter_map(|&at| places.get(at).copied()).collect();
        records.notices.push(format!(
            "{name}: there are only completions; each was given an invocation, as early as its process \
             can have begun it"
        ));
        return true;
    }
    match split(&mut records.ops) {
        Some(process) => {
            records.notices.push(format!(
                "{name}: process {process} begins transactions while others of its own are open; each \
                 of these is taken for a process of its own, and the order within the process is lost"
            ));
            true
        }
        None => false,
    }
}

/// Gives transactions that overlap others of their process a process of their own, and says the first such
/// process; `None` if it is not certain what belongs together.
fn split(ops: &mut [Op]) -> Option<Process> {
    let highest = ops.iter().filter_map(|op| op.process.client()).max()?;
    let mut fresh = highest.checked_add(1)?..;
    let mut first = None;
    let mut processes = Vec::with_capacity(ops.len());
    // Positions of what is open, by the process that the record names, with the one that it gets.
    let mut open: HashMap<Process, Vec<(usize, Process)>> = HashMap::new();
    for (position, op) in ops.iter().enumerate() {
        if !op.is_client() {
            processes.push(op.process);
            continue;
        }
        let of_process = open.entry(op.process).or_default();
        if op.op_type == OpType::Invoke {
            let mut process = op.process;
            if !of_process.is_empty() {
                first.get_or_insert(op.process);
                process = Process::Client(fresh.next()?);
            }
            if !is_txn(&op.value) {
                return None;
            }
            of_process.push((position, process));
            processes.push(process);
            continue;
        }
        let mut fitting = (0..of_process.len()).filter(|&at| completes(&ops[of_process[at].0], op));
        let (Some(at), None) = (fitting.next(), fitting.next()) else { return None };
        let (_, process) = of_process.remove(at);
        processes.push(process);
    }
    for (op, process) in ops.iter_mut().zip(processes) {
        op.process = process;
    }
    first
}

/// Whether the value is a list of operations on keys: `[[:r :x nil] [:append :y 1]]`.
fn is_txn(value: &Value) -> bool {
    let is_mop = |mop: &Value| {
        mop.items().is_some_and(|items| items.len() == 3 && items[0].as_text().is_some())
    };
    value.items().is_some_and(|mops| mops.iter().all(is_mop))
}

fn completes(invoke: &Op, done: &Op) -> bool {
    invoke.f == done.f && fits(&invoke.value, &done.value)
}

/// Whether one value is the other with nothing but `nil` filled in.
fn fits(asked: &Value, given: &Value) -> bool {
    match (asked, given) {
        (Value::Nil, _) => true,
        (Value::List(asked), Value::List(given)) => {
            asked.len() == given.len() && asked.iter().zip(given.iter()).all(|(a, b)| fits(a, b))
        }
        _ => asked == given,
    }
}

/// Gives every completion of a client that has no invocation one, as early as it can have been: right
/// behind the process's last completion, or at the start. So no order in time is made up that a checker
/// could hold against the system, except that of the process itself. The invocation has the value of
/// its completion.
pub fn add_invocations(ops: Vec<Op>) -> Vec<Op> {
    with_invocations(ops).0
}

/// As [`add_invocations`], and for each record the position of that which it came from.
fn with_invocations(ops: Vec<Op>) -> (Vec<Op>, Vec<usize>) {
    let mut open: HashSet<Process> = HashSet::new();
    // Where the next operation of a process can begin at the earliest.
    let mut free_from: HashMap<Process, usize> = HashMap::new();
    // Position before which each added invocation stands, and that of its completion.
    let mut added: Vec<(usize, usize, Op)> = Vec::new();
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
            added.push((before, position, invoke));
        }
        free_from.insert(op.process, position + 1);
    }
    added.sort_by_key(|(before, ..)| *before);
    let mut merged = Vec::with_capacity(ops.len() + added.len());
    let mut sources = Vec::with_capacity(ops.len() + added.len());
    let mut added = added.into_iter().peekable();
    for (position, op) in ops.into_iter().enumerate() {
        while let Some((_, source, invoke)) = added.next_if(|(before, ..)| *before <= position) {
            merged.push(invoke);
            sources.push(source);
        }
        merged.push(op);
        sources.push(position);
    }
    number(&mut merged);
    (merged, sources)
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
