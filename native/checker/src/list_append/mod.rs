//! `list-append`: consistency of transactions that append to lists and read them.
//!
//! Kingsbury and Alvaro, "Elle: inferring isolation anomalies from experimental observations" (VLDB
//! 2020). Since every element is appended once, reads tell the version order of each key ([`txns`]); from
//! it follow dependencies between transactions, and a cycle of them is an anomaly by what its edges are
//! ([`graph`]). Which anomalies count is decided by consistency models ([`levels`]).
//!
//! Cycles are found exactly through strongly connected components, never by a search that may time out:
//! G0 (only ww), G1c (also wr), G-single-item (one rw), G-nonadjacent-item (several rw, no two in a row),
//! G2-item (others), and each with `-process` or `-realtime` when it needs such an edge. Of each name one
//! short cycle is told. Where an anomaly is found, its variants with more kinds of edges may go unnamed:
//! they are forbidden wherever it is.
//!
//! Linear but for the shortest cycles, which are looked for only among transactions that lie on some.
//!
//! A difference from Elle: an element that nobody appended is an anomaly (`garbage-read`).

pub mod graph;
pub mod levels;
pub mod txns;

use std::collections::{BTreeMap, HashMap};

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Process, Value, Verdict};
use serde_json::{Value as Json, json};

use crate::budget::{Budget, Meter};
use crate::list_append::graph::{ALONE, Cycle, Graph, PROCESS, REALTIME, RW, WR, WW};
use crate::list_append::levels::Names;
use crate::list_append::txns::{ABORTED, MicroOp, Txns, external_reads, show};
use crate::options::{OptionError, OptionInfo, OptionReader, did_you_mean};
use crate::{Checker, CheckerInfo};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "list-append",
    about: "Whether transactions of [:append key element] and [:r key list] are consistent by the given \
            consistency models (Elle): aborted, intermediate and garbage reads, duplicates, \
            incompatible orders, lost updates, and cycles of dependencies (G0, G1c, G-single, \
            G-nonadjacent, G2), with session and real-time orders where the models have them.",
    options: &[
        OptionInfo {
            name: "consistency-model",
            default: "strict-serializable",
            about: "one or several names, separated by commas, or none",
        },
        OptionInfo {
            name: "consistency-models",
            default: "strict-serializable",
            about: "the same, under the name that Elle has for it",
        },
        OptionInfo {
            name: "anomalies",
            default: "none",
            about: "further anomalies to forbid, separated by commas (G0, G1, G1a, G2, internal ...)",
        },
    ],
};

/// How many anomalies of one name are told.
const SAME_NAME_MAX: usize = 4;

/// The checker.
#[derive(Debug, Clone)]
pub struct ListAppend {
    forbidden: Names,
}

/// Builds it.
pub fn build(options: &Options) -> Result<ListAppend, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let option = match reader.raw("consistency-model") {
        Some(_) => "consistency-model",
        None => "consistency-models",
    };
    let mut forbidden = Names::new();
    match reader.raw(option) {
        None if reader.raw("anomalies").is_none() => {
            forbidden.extend(levels::forbidden_by("strict-serializable").unwrap_or_default());
        }
        None => {}
        Some(given) => {
            for name in names(given) {
                forbidden.extend(levels::forbidden_by(&name).ok_or_else(|| {
                    let known = levels::known();
                    let known: Vec<&str> = known.iter().map(String::as_str).collect();
                    let expected = format!("a consistency model: {}", known.join(", "));
                    reader.bad(option, given, &expected, did_you_mean(&name, &known))
                })?);
            }
        }
    }
    for name in reader.raw("anomalies").map(names).unwrap_or_default() {
        forbidden.extend(levels::implied_by(&name));
    }
    Ok(ListAppend { forbidden })
}

/// Names in an option: text with commas, or a list; without leading colons.
fn names(given: &Json) -> Vec<String> {
    let clean = |name: &str| name.trim().trim_start_matches(':').to_owned();
    let names: Vec<String> = match given {
        Json::Array(items) => items.iter().filter_map(Json::as_str).map(clean).collect(),
        other => other.as_str().unwrap_or_default().split(',').map(clean).collect(),
    };
    names.into_iter().filter(|name| !name.is_empty() && name != "none").collect()
}

impl Checker for ListAppend {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn check(&self, history: &History, budget: &Budget) -> CheckResult {
        let meter = budget.start();
        let mut result = match Txns::new(history) {
            Ok(txns) => self.judge(&txns, &meter),
            Err(reason) => {
                CheckResult::new(INFO.name, Verdict::Unknown, format!("not checked: {reason}"))
            }
        };
        result.elapsed_ms = meter.elapsed_ms();
        result
    }
}

impl ListAppend {
    fn forbids(&self, suffix: &str) -> bool {
        self.forbidden.iter().any(|name| name.ends_with(suffix))
    }

    fn judge(&self, txns: &Txns, meter: &Meter) -> CheckResult {
        let mut found = txns.anomalies();
        let realtime = self.forbids("-realtime");
        let process = self.forbids("-process");
        let graph = dependencies(txns, process, realtime);
        let (edges, is_complete) = (graph.edge_count(), cycles(txns, &graph, meter, &mut found));
        let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
        for anomaly in &found {
            *by_name.entry(anomaly.name.clone()).or_default() += 1;
        }
        let mut all: Names = by_name.keys().cloned().collect();
        without_implied(&mut all, &self.forbidden);
        by_name.retain(|name, _| all.contains(name));
        found.retain(|anomaly| all.contains(&anomaly.name));
        let bad: Vec<&String> = all.intersection(&self.forbidden).collect();
        let (verdict, reason) = if let Some(first) = bad.first() {
            let first = found.iter().find(|anomaly| anomaly.name == **first);
            let text = first.and_then(|anomaly| anomaly.text.lines().next()).unwrap_or_default();
            let list: Vec<&str> = bad.iter().map(|name| name.as_str()).collect();
            (Verdict::Invalid, format!("{}: {text}", list.join(", ")))
        } else if edges == 0 {
            let text = "no transaction depends on another one, so nothing was tested";
            (Verdict::Unknown, text.to_owned())
        } else if !is_complete {
            let text =
                "the time budget was used up while cycles were told apart; a larger one would help";
            (Verdict::Unknown, text.to_owned())
        } else {
            let count = txns.txns.len();
            (Verdict::Valid, format!("{count} transactions show none of the forbidden anomalies"))
        };
        let (not, also_not) = levels::ruled_out(&all);
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        result.counts.insert("transactions".into(), txns.txns.len() as u64);
        result.counts.insert("dependencies".into(), edges as u64);
        result.details = json!({
            "anomaly-types": bad, "all-anomaly-types": by_name, "not": not, "also-not": also_not,
        });
        let mut told: BTreeMap<String, usize> = BTreeMap::new();
        found.retain(|anomaly| {
            let count = told.entry(anomaly.name.clone()).or_default();
            *count += 1;
            self.forbidden.contains(&anomaly.name) && *count <= SAME_NAME_MAX
        });
        found.sort_by_key(|anomaly| anomaly.ops.len());
        result.anomalies = found;
        result
    }
}

/// Drops cycles that need an order of sessions or of real time when a forbidden one needs less: they say
/// nothing more.
fn without_implied(all: &mut Names, forbidden: &Names) {
    let needs = |name: &String| match name {
        name if !name.starts_with('G') || name.starts_with("G1a") || name.starts_with("G1b") => {
            None
        }
        name if name.ends_with("-realtime") => Some(2),
        name if name.ends_with("-process") => Some(1),
        _ => Some(0),
    };
    let least = all.intersection(forbidden).filter_map(needs).min();
    if let Some(least) = least {
        all.retain(|name| needs(name).is_none_or(|order| order <= least));
    }
}

/// All dependencies between transactions.
fn dependencies(txns: &Txns, process: bool, realtime: bool) -> Graph {
    let mut edges: Vec<(u32, u32, u8)> = Vec::new();
    let txn_of = |number: u32| {
        txns.writers.get(number as usize).map(|writer| writer.txn).filter(|txn| *txn != ABORTED)
    };
    // A list with duplicates is no version order.
    for (order, _) in txns.orders.iter().zip(&txns.has_duplicates).filter(|(_, twice)| !**twice) {
        for pair in order.windows(2) {
            if let (Some(a), Some(b)) = (txn_of(pair[0]), txn_of(pair[1])) {
                edges.push((a, b, WW));
            }
        }
    }
    let unread = unread_appends(txns);
    for (key, writers) in unread.iter().enumerate() {
        if let Some(last) = txns.orders[key].last().and_then(|last| txn_of(*last)) {
            edges.extend(writers.iter().map(|w| (last, *w, WW)));
        }
    }
    for (t, txn) in txns.txns.iter().enumerate().filter(|(_, txn)| txn.ok.is_some()) {
        let t = t as u32;
        for (key, list) in external_reads(txn) {
            let is_prefix = txns.is_prefix(key, list);
            if let Some(last) = list.len().checked_sub(1)
                && let Some(writer) = txns.writer(key, list, last, is_prefix)
                && writer.txn != ABORTED
            {
                edges.push((writer.txn, t, WR));
            }
            if !is_prefix {
                continue;
            }
            match txns.orders[key as usize].get(list.len()) {
                Some(next) => edges.extend(txn_of(*next).map(|next| (t, next, RW))),
                None => edges.extend(unread[key as usize].iter().map(|w| (t, *w, RW))),
            }
        }
    }
    if process {
        process_edges(txns, &mut edges);
    }
    if realtime {
        realtime_edges(txns, &mut edges);
    }
    Graph::new(txns.txns.len(), edges)
}

/// Transactions whose appends to a key are in no read, by key: the first append of each that succeeded.
/// Without any read of the key, appends have no order, so only a single one says something.
fn unread_appends(txns: &Txns) -> Vec<Vec<u32>> {
    let mut unread: Vec<Vec<u32>> = vec![Vec::new(); txns.keys.len()];
    for (number, writer) in txns.writers.iter().enumerate() {
        let is_ok = writer.txn != ABORTED && txns.txns[writer.txn as usize].ok.is_some();
        let list = &mut unread[writer.key as usize];
        if is_ok && !txns.is_shown[number] && list.last() != Some(&writer.txn) {
            list.push(writer.txn);
        }
    }
    unread
}

/// Consecutive transactions of each process.
fn process_edges(txns: &Txns, edges: &mut Vec<(u32, u32, u8)>) {
    let mut last: HashMap<Process, u32> = HashMap::new();
    for (t, txn) in txns.txns.iter().enumerate() {
        if let Some(before) = last.insert(txn.op.process, t as u32) {
            edges.push((before, t as u32, PROCESS));
        }
    }
}

/// From each transaction that had completed to those invoked afterwards, without edges that follow from
/// others: a completed one leaves the set of predecessors when one that follows it completes.
fn realtime_edges(txns: &Txns, edges: &mut Vec<(u32, u32, u8)>) {
    let mut events: Vec<(u64, u32, bool)> = Vec::with_capacity(2 * txns.txns.len());
    for (t, txn) in txns.txns.iter().enumerate() {
        events.push((txn.invoke, t as u32, false));
        if let Some(ok) = txn.ok {
            events.push((ok, t as u32, true));
        }
    }
    events.sort_unstable();
    let mut completed: Vec<u32> = Vec::new();
    // Where among the edges those to each transaction are.
    let mut incoming: Vec<(usize, usize)> = vec![(0, 0); txns.txns.len()];
    for (_, t, completes) in events {
        if completes {
            let (from, to) = incoming[t as usize];
            let before = &edges[from..to];
            completed.retain(|c| !before.iter().any(|(earlier, _, _)| earlier == c));
            completed.push(t);
        } else {
            let from = edges.len();
            edges.extend(completed.iter().map(|c| (*c, t, REALTIME)));
            incoming[t as usize] = (from, edges.len());
        }
    }
}

/// Names a cycle by its edges.
fn classify(cycle: &Cycle) -> String {
    let count = |kind: u8| cycle.iter().filter(|(_, k)| *k == kind).count();
    let rw = count(RW);
    let adjacent = rw > 1
        && (0..cycle.len()).any(|i| cycle[i].1 == RW && cycle[(i + 1) % cycle.len()].1 == RW);
    let base = match (rw, adjacent) {
        (0, _) if count(WR) == 0 => "G0",
        (0, _) => "G1c",
        (1, _) => "G-single-item",
        (_, false) => "G-nonadjacent-item",
        (_, true) => "G2-item",
    };
    let suffix = match (count(REALTIME), count(PROCESS)) {
        (0, 0) => "",
        (0, _) => "-process",
        _ => "-realtime",
    };
    format!("{base}{suffix}")
}

/// Finds one cycle of each name there is. `false` if time ran out.
fn cycles(txns: &Txns, whole: &Graph, meter: &Meter, found: &mut Vec<Anomaly>) -> bool {
    let (graph, nodes) = whole.cyclic_part();
    if graph.node_count() == 0 {
        return true;
    }
    let mut cycles: BTreeMap<String, Cycle> = BTreeMap::new();
    let is_complete = search(&graph, meter, &mut cycles).is_ok();
    for (name, cycle) in cycles {
        let cycle: Cycle = cycle.into_iter().map(|(n, kind)| (nodes[n as usize], kind)).collect();
        let ops: Vec<u64> = cycle.iter().map(|(t, _)| txns.txns[*t as usize].op.index).collect();
        found.push(Anomaly { name, key: None, text: explain(txns, &cycle), ops });
    }
    is_complete
}

fn search(
    graph: &Graph,
    meter: &Meter,
    cycles: &mut BTreeMap<String, Cycle>,
) -> Result<(), crate::budget::Exhausted> {
    let orders = [(0, 0), (PROCESS, PROCESS), (PROCESS | REALTIME, REALTIME)];
    for (base, required) in [(WW, WW), (WW | WR, WR)] {
        for (order, needs) in orders {
            let needs = if needs == 0 { required } else { needs };
            through(graph, base | order, needs, meter, cycles)?;
        }
    }
    for (order, _) in orders {
        // Exactly one anti-dependency: its end leads back to its start without another one.
        single(graph, WW | WR | order, meter, cycles)?;
    }
    let product = graph.without_adjacent_rw();
    for (order, needs) in orders {
        let mut doubled = BTreeMap::new();
        let needs = if needs == 0 { RW } else { needs };
        through(&product, WW | WR | RW | order, needs, meter, &mut doubled)?;
        for cycle in doubled.into_values() {
            let cycle: Cycle = cycle.into_iter().map(|(node, kind)| (node / 2, kind)).collect();
            cycles.entry(classify(&cycle)).or_insert(cycle);
        }
    }
    for (order, needs) in orders {
        let needs = if needs == 0 { RW } else { needs };
        through(graph, WW | WR | RW | order, needs, meter, cycles)?;
    }
    Ok(())
}

/// Shortest cycles of edges of these kinds through an edge of the required kind, one for each component.
fn through(
    graph: &Graph,
    kinds: u8,
    required: u8,
    meter: &Meter,
    cycles: &mut BTreeMap<String, Cycle>,
) -> Result<(), crate::budget::Exhausted> {
    let components = graph.components(kinds);
    let mut done = std::collections::HashSet::new();
    for node in 0..graph.node_count() as u32 {
        let component = components[node as usize];
        if component == ALONE || done.contains(&component) {
            continue;
        }
        for (next, kind) in graph.edges(node) {
            if kind != required || components[next as usize] != component {
                continue;
            }
            meter.check_time()?;
            if let Some(mut cycle) = graph.path(next, node, kinds, &components) {
                cycle.push((node, kind));
                cycles.entry(classify(&cycle)).or_insert(cycle);
                done.insert(component);
                break;
            }
        }
    }
    Ok(())
}

/// Cycles with exactly one anti-dependency. One of each name is enough.
fn single(
    graph: &Graph,
    others: u8,
    meter: &Meter,
    cycles: &mut BTreeMap<String, Cycle>,
) -> Result<(), crate::budget::Exhausted> {
    let components = graph.components(others | RW);
    for node in 0..graph.node_count() as u32 {
        for (next, kind) in graph.edges(node).filter(|(_, kind)| *kind == RW) {
            meter.check_time()?;
            if let Some(mut cycle) = graph.path(next, node, others, &components) {
                cycle.push((node, kind));
                cycles.entry(classify(&cycle)).or_insert(cycle);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A cycle in words, one line for each edge.
fn explain(txns: &Txns, cycle: &Cycle) -> String {
    let record = |t: u32| txns.txns[t as usize].op.index;
    let mut text = format!("a cycle of {} transactions:\n", cycle.len());
    for (i, (t, kind)) in cycle.iter().enumerate() {
        let next = cycle[(i + 1) % cycle.len()].0;
        let why = reason(txns, *t, next, *kind);
        text.push_str(&format!(
            "  record {} comes before record {}: {why}\n",
            record(*t),
            record(next)
        ));
    }
    for (t, _) in cycle {
        let op = txns.txns[*t as usize].op;
        text.push_str(&format!("  record {}: process {} {}\n", op.index, op.process, op.value));
    }
    text
}

/// Why one transaction comes before the other.
fn reason(txns: &Txns, a: u32, b: u32, kind: u8) -> String {
    let key = |key: u32| &txns.keys[key as usize];
    let appends = |t: u32| {
        txns.txns[t as usize].micro_ops.iter().filter_map(|m| match m {
            MicroOp::Append { key, element } => Some((*key, *element)),
            MicroOp::Read { .. } => None,
        })
    };
    let place =
        |k: u32, element: &Value| txns.longest[k as usize].iter().position(|e| e == element);
    match kind {
        PROCESS => "it is the next of the same process".to_owned(),
        REALTIME => "it had completed before the other was invoked".to_owned(),
        WW => {
            for (k, y) in appends(b) {
                let at = place(k, y).unwrap_or(txns.longest[k as usize].len());
                let before = at.checked_sub(1).and_then(|i| txns.longest[k as usize].get(i));
                if let Some((_, x)) = appends(a).find(|(ka, x)| *ka == k && before == Some(*x)) {
                    return format!(
                        "it appended {x} to key {}, right before the other's {y}",
                        key(k)
                    );
                }
            }
            "it appended to a key right before the other".to_owned()
        }
        WR => {
            for (k, list) in external_reads(&txns.txns[b as usize]) {
                if let Some((_, x)) = appends(a).find(|(ka, x)| *ka == k && list.last() == Some(*x))
                {
                    return format!("the other read its append of {x} to key {}", key(k));
                }
            }
            "the other read what it appended".to_owned()
        }
        _ => {
            for (k, list) in external_reads(&txns.txns[a as usize]) {
                for (_, y) in appends(b).filter(|(kb, _)| *kb == k) {
                    let at = place(k, y);
                    if at.is_none() || at == Some(list.len()) {
                        let seen = show(list);
                        return format!(
                            "it read key {} as {seen}, before the other appended {y}",
                            key(k)
                        );
                    }
                }
            }
            "it read a state that the other appended to".to_owned()
        }
    }
}
