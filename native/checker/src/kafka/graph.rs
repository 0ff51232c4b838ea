//! Dependencies between the operations on logs, and their cycles, found as for `list-append`.
//!
//! - wr: one sent what another polled; every poll counts, also of an operation that did not succeed.
//! - ww, if asked for: one sent the message that is next to another's in the order of a key. Writes of
//!   transactions interleave in a log, so these make cycles of a system that does as it promises.
//! - rw, if asked for: one polled a key only up to a message, and another sent the next one.
//! - the order of real time, or only that of each process.

use fuzz_dist_core::{Anomaly, Edge, OpType};
use serde_json::{Value as Json, json};

use crate::budget::{Exhausted, Meter};
use crate::elle::cycles::{self, Cycle, Cycles, Step};
use crate::elle::explain::kind_name;
use crate::elle::graph::{Edges, Graph, NONE, PROCESS, REALTIME, RW, WR, WW};
use crate::elle::models::Lattice;
use crate::elle::orders::{self, Order};
use crate::elle::txns::shown;
use crate::kafka::ops::Log;
use crate::kafka::versions::{Entry, Versions};

/// Which dependencies are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Kinds {
    /// Writes behind writes.
    pub ww: bool,
    /// Writes behind reads.
    pub rw: bool,
    /// Order from outside the data.
    pub order: Order,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The cycles.
    pub cycles: Cycles,
    /// How many dependencies through data.
    pub edge_count: u64,
    /// Whether anything depends on anything.
    pub is_related: bool,
}

/// Builds the graph and finds its cycles.
pub fn find(
    log: &Log,
    versions: &Versions,
    kinds: Kinds,
    meter: &Meter,
) -> Result<Found, Exhausted> {
    let txn_count = log.txns.len() as u32;
    let mut edges = Edges { vertex_count: txn_count, list: Vec::new() };
    read_edges(log, &mut edges);
    if kinds.ww {
        for key in 0..log.key_count() as u32 {
            successive(log, versions, key, |before, after| {
                edges.push(before.1, after.1, WW, key);
                false
            });
        }
    }
    if kinds.rw {
        anti_edges(log, versions, &mut edges);
    }
    let edge_count = edges.list.len() as u64;
    meter.check_time()?;
    let is_related = orders::link(&log.txns, kinds.order, &mut edges) || edge_count > 0;
    meter.check_memory(edges.list.len() as u64 * 24 + u64::from(edges.vertex_count) * 24)?;
    let graph = Graph::new(edges.vertex_count, &edges.list);
    drop(edges);
    meter.check_time()?;
    let cycles = cycles::find(&graph, txn_count, kinds.order, &Lattice::new(), meter)?;
    Ok(Found { cycles, edge_count, is_related })
}

fn read_edges(log: &Log, edges: &mut Edges) {
    for txn in 0..log.txns.len() as u32 {
        let mut before = (NONE, NONE);
        for place in log.polled_by(txn) {
            let message = log.messages[place.message as usize];
            let edge = (message.writer, message.key);
            if message.writer != NONE && message.writer != txn && edge != before {
                edges.push(message.writer, txn, WR, message.key);
                before = edge;
            }
        }
    }
}

/// The first message at an index that somebody sent, and who.
fn written(log: &Log, entries: &[Entry]) -> Option<(u32, u32)> {
    let mut writers = entries.iter().map(|e| (e.message, log.messages[e.message as usize].writer));
    writers.find(|(_, writer)| *writer != NONE)
}

/// Walks along a key: each message with the next one that another operation sent. Stops if told so.
fn successive(
    log: &Log,
    versions: &Versions,
    key: u32,
    mut visit: impl FnMut((u32, u32), (u32, u32)) -> bool,
) {
    let mut before: Option<(u32, u32)> = None;
    for (_, entries) in versions.indices(key) {
        let Some(now) = written(log, entries) else { continue };
        if let Some(before) = before
            && before.1 != now.1
            && visit(before, now)
        {
            return;
        }
        before = Some(now);
    }
}

/// The highest message that an operation polled of a key, with its index.
fn highest(log: &Log, versions: &Versions, txn: u32, key: u32) -> Option<(u32, u32)> {
    let places = log.polled_by(txn).iter().map(|place| place.message);
    let of_key = places.filter(|message| log.key_of(*message) == key);
    of_key.filter_map(|message| Some((versions.index(message)?, message))).max()
}

/// What is behind an index and was sent by somebody.
fn next_written(log: &Log, versions: &Versions, key: u32, index: u32) -> Option<(u32, u32)> {
    (index + 1..versions.index_count(key)).find_map(|next| written(log, versions.at(key, next)))
}

fn anti_edges(log: &Log, versions: &Versions, edges: &mut Edges) {
    let mut highest: rustc_hash::FxHashMap<u32, u32> = Default::default();
    for txn in (0..log.txns.len() as u32).filter(|txn| log.outcome(*txn) != OpType::Fail) {
        highest.clear();
        for place in log.polled_by(txn) {
            if let Some(index) = versions.index(place.message) {
                let highest = highest.entry(log.key_of(place.message)).or_default();
                *highest = index.max(*highest);
            }
        }
        for (key, index) in &highest {
            if let Some((_, writer)) = next_written(log, versions, *key, *index)
                && writer != txn
            {
                edges.push(txn, writer, RW, *key);
            }
        }
    }
}

/// The name of a cycle: Jepsen's for logs does not tell items from predicates.
pub fn name(class: &str) -> String {
    class.replace("-item", "")
}

/// Why one operation of a cycle precedes the next.
fn why(log: &Log, versions: &Versions, step: &Step, (a, b): (&str, &str)) -> String {
    let ops = log.history.ops();
    let told = match step.kind {
        PROCESS => {
            let process = ops[log.record(step.from) as usize].process;
            Some(format!("process {process} performed {a} before {b}"))
        }
        REALTIME => {
            let (done, begun) = (log.record(step.from), log.txns[step.to as usize].invoke);
            Some(format!(
                "{a} completed at record {done}, before the invocation of {b} at record {begun}"
            ))
        }
        WR => {
            let mut places = log.polled_by(step.to).iter().map(|place| place.message);
            let message = places.find(|message| {
                let told = log.messages[*message as usize];
                told.key == step.key && told.writer == step.from
            });
            message.map(|m| {
                format!("{a} sent {} to {}, which {b} polled", log.value(m), log.key(step.key))
            })
        }
        WW => {
            let mut told = None;
            successive(log, versions, step.key, |before, after| {
                let found = (before.1, after.1) == (step.from, step.to);
                if found {
                    let (v1, v2) = (log.value(before.0), log.value(after.0));
                    let key = log.key(step.key);
                    told = Some(format!("{a} sent {v1} to {key} before {b} sent {v2}"));
                }
                found
            });
            told
        }
        _ => highest(log, versions, step.from, step.key).and_then(|(index, read)| {
            let (next, _) = next_written(log, versions, step.key, index)?;
            let (read, next, key) = (log.value(read), log.value(next), log.key(step.key));
            Some(format!("{a} polled {key} up to {read}, and {b} sent {next} behind that"))
        }),
    };
    told.unwrap_or_else(|| format!("of the order of {}", log.key(step.key)))
}

/// A cycle as evidence, and as data.
pub fn evidence(log: &Log, versions: &Versions, name: &str, cycle: &Cycle) -> (Anomaly, Json) {
    const STEPS_SHOWN: usize = 24;
    let steps = &cycle.steps;
    let names: Vec<String> = (1..=steps.len()).map(|n| format!("T{n}")).collect();
    let after = |i: usize| names[(i + 1) % names.len()].as_str();
    let edges: Vec<Edge> = steps
        .iter()
        .enumerate()
        .map(|(i, step)| Edge {
            from: log.record(step.from),
            to: log.record(step.to),
            kind: kind_name(step.kind).to_owned(),
            why: why(log, versions, step, (&names[i], after(i))),
        })
        .collect();
    let mut text = names.first().cloned().unwrap_or_default();
    for (i, edge) in edges.iter().enumerate().take(STEPS_SHOWN) {
        text.push_str(&format!(" -{}→ {}", edge.kind, after(i)));
    }
    text.push('\n');
    for (step, name) in steps.iter().zip(&names).take(STEPS_SHOWN) {
        let op = &log.history.ops()[log.record(step.from) as usize];
        let (index, process, op_type) = (op.index, op.process, op.op_type.as_str());
        let value = shown(&op.value);
        text.push_str(&format!(
            "  {name} = record {index}, process {process}, {op_type}: {value}\n"
        ));
    }
    for (i, edge) in edges.iter().enumerate().take(STEPS_SHOWN) {
        let is_last = i + 1 == edges.len();
        let (begin, end) = if is_last { ("However, ", ": a contradiction!") } else { ("", ".") };
        let (name, why) = (&names[i], &edge.why);
        text.push_str(&format!("  - {begin}{name} < {}, because {why}{end}\n", after(i)));
    }
    if steps.len() > STEPS_SHOWN {
        text.push_str(&format!("  … and {} more steps\n", steps.len() - STEPS_SHOWN));
    }
    let data = json!({ "name": name, "length": steps.len(), "steps": edges });
    let txns: Vec<u32> = steps.iter().map(|step| step.from).collect();
    let ops = log.records(&txns);
    (Anomaly { name: name.to_owned(), text, ops, edges, ..Anomaly::default() }, data)
}
