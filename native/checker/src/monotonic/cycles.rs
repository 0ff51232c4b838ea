//! Keys that disagree about the order of operations.
//!
//! If every key only grows, an operation that saw less of a key comes before one that saw more of it; and
//! the operations of a process come in their order (with `global`, so do those that follow each other in
//! real time). These orders must fit together: nobody may see one key grow and another one shrink. A cycle is
//! a component of the graph of these orders, which has one helper for each value of a key, so that it is
//! linear in what was seen. Elle's `monotonic-key-graph` with its process graph.

use std::collections::{BTreeMap, HashMap, VecDeque};

use fuzz_dist_core::number::Number;
use fuzz_dist_core::{Anomaly, Edge, Value};

use crate::budget::Meter;
use crate::elle::graph::{
    Components, Edges, Graph, NONE, Only, PASS, PROCESS, REALTIME, WW, components, key_of, kind_of,
    kinds,
};
use crate::monotonic::{Findings, Observation};

/// How many cycles are told.
const CYCLES_MAX: usize = 8;
/// From how many operations of a component a short cycle is sought.
const STARTS_MAX: usize = 64;

/// One step of a cycle: from an observation to another, why, and by which key.
#[derive(Debug, Clone, Copy)]
struct Step {
    from: u32,
    to: u32,
    kind: u32,
    key: u32,
}

/// Finds cycles among more than one key; those of one key are told as what went back.
pub(super) fn find(
    observations: &[Observation],
    global: bool,
    meter: &Meter,
    found: &mut Findings,
) -> Result<(), String> {
    let mut edges = Edges { list: Vec::new(), vertex_count: observations.len() as u32 };
    let keys = link_keys(observations, &mut edges);
    link_processes(observations, &mut edges);
    if global {
        link_real_time(observations, &mut edges);
    }
    meter.check_time().map_err(|why| format!("{why}; a larger budget would help"))?;
    let graph = Graph::new(edges.vertex_count, &edges.list);
    let view = Only { graph: &graph, kinds: kinds(&[WW, PROCESS, REALTIME]) };
    let parts = components(&view);
    for members in parts.members() {
        meter.check_time().map_err(|why| format!("{why}; a larger budget would help"))?;
        let steps = shortest(&graph, &parts, &members, observations.len() as u32);
        let by_key: std::collections::BTreeSet<u32> =
            steps.iter().filter(|step| step.kind == WW).map(|step| step.key).collect();
        // Of one key, the last read went back.
        if by_key.len() > 1 {
            tell(observations, &keys, &steps, found);
        }
    }
    Ok(())
}

/// Who saw less precedes who saw more; the keys by number.
fn link_keys<'a>(observations: &[Observation<'a>], edges: &mut Edges) -> Vec<Option<&'a Value>> {
    let mut by_key: BTreeMap<Option<&'a Value>, Vec<(Number<'a>, u32)>> = BTreeMap::new();
    for (i, observation) in (0..).zip(observations) {
        for &(key, value) in &observation.seen {
            by_key.entry(key).or_default().push((value, i));
        }
    }
    let mut keys = Vec::new();
    for (number, (key, mut seen)) in (0..).zip(by_key) {
        keys.push(key);
        seen.sort_unstable();
        let mut before = NONE;
        for level in seen.chunk_by(|a, b| a.0 == b.0) {
            let after = edges.helper();
            for &(_, i) in level {
                if before != NONE {
                    edges.push(before, i, PASS, number);
                }
                edges.push(i, after, WW, number);
            }
            before = after;
        }
    }
    keys
}

fn link_processes(observations: &[Observation], edges: &mut Edges) {
    let mut last: HashMap<i64, u32> = HashMap::new();
    for (i, observation) in (0..).zip(observations) {
        let process = observation.done.process.client().unwrap_or_default();
        if let Some(before) = last.insert(process, i) {
            edges.push(before, i, PROCESS, 0);
        }
    }
}

/// A chain of helpers, one for each completion. `observations` are in order of completion.
fn link_real_time(observations: &[Observation], edges: &mut Edges) {
    let mut by_invoke: Vec<u32> = (0..observations.len() as u32).collect();
    by_invoke.sort_by_key(|i| observations[*i as usize].invoke.index);
    let (mut done, mut last) = (0, NONE);
    for i in by_invoke {
        let at = observations[i as usize].invoke.index;
        while observations.get(done).is_some_and(|before| before.done.index < at) {
            let helper = edges.helper();
            if last != NONE {
                edges.push(last, helper, PASS, 0);
            }
            edges.push(done as u32, helper, REALTIME, 0);
            last = helper;
            done += 1;
        }
        if last != NONE {
            edges.push(last, i, PASS, 0);
        }
    }
}

/// The shortest of the cycles through some of the operations of a component.
fn shortest(graph: &Graph, parts: &Components, members: &[u32], operations: u32) -> Vec<Step> {
    let starts = members.iter().copied().filter(|vertex| *vertex < operations).take(STARTS_MAX);
    let cycles = starts.filter_map(|start| cycle_through(graph, parts, start, operations));
    cycles.min_by_key(Vec::len).unwrap_or_default()
}

fn cycle_through(
    graph: &Graph,
    parts: &Components,
    start: u32,
    operations: u32,
) -> Option<Vec<Step>> {
    // Where each vertex was entered from, and the tag of that edge.
    let mut entered: HashMap<u32, (u32, u32)> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    'search: while let Some(vertex) = queue.pop_front() {
        for (target, tag) in graph.out(vertex) {
            if !parts.together(vertex, target) || entered.contains_key(&target) {
                continue;
            }
            entered.insert(target, (vertex, tag));
            if target == start {
                break 'search;
            }
            queue.push_back(target);
        }
    }
    let mut steps = Vec::new();
    let mut to = start;
    loop {
        // Back to the operation before: the edge that left it says why.
        let (mut from, mut tag) = *entered.get(&to)?;
        while from >= operations {
            (from, tag) = *entered.get(&from)?;
        }
        steps.push(Step { from, to, kind: kind_of(tag), key: key_of(tag) });
        to = from;
        if to == start {
            steps.reverse();
            return Some(steps);
        }
    }
}

fn tell(
    observations: &[Observation],
    keys: &[Option<&Value>],
    steps: &[Step],
    found: &mut Findings,
) {
    let at = |i: u32| &observations[i as usize];
    let edges: Vec<Edge> = steps
        .iter()
        .map(|step| {
            let (from, to) = (at(step.from), at(step.to));
            let (kind, why) = match step.kind {
                PROCESS => {
                    ("process", format!("process {} did one after the other", to.done.process))
                }
                REALTIME => {
                    ("realtime", "one had completed before the other was invoked".to_owned())
                }
                _ => {
                    let key = keys[step.key as usize];
                    let value = |observation: &Observation| {
                        let seen = observation.seen.iter().find(|(k, _)| *k == key);
                        seen.map_or_else(String::new, |(_, value)| value.to_string())
                    };
                    let name = key.map(|key| format!(" of key {key}")).unwrap_or_default();
                    ("monotonic-key", format!("{}{name} is less than {}", value(from), value(to)))
                }
            };
            Edge { from: from.done.index, to: to.done.index, kind: kind.to_owned(), why }
        })
        .collect();
    let lines: Vec<String> = edges
        .iter()
        .map(|edge| format!("record {} comes before record {}: {}", edge.from, edge.to, edge.why))
        .collect();
    let count = found.kinds.entry("cycle").or_default();
    *count += 1;
    if *count <= CYCLES_MAX as u64 {
        found.anomalies.push(Anomaly {
            name: "cycle".into(),
            text: format!("keys disagree about the order of operations:\n{}", lines.join("\n")),
            ops: edges.iter().map(|edge| edge.from).collect(),
            edges,
            ..Anomaly::default()
        });
    }
}
