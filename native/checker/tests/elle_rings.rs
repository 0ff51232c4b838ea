//! Rings of dependencies of every class, planted far apart in a long history that has none.
//!
//! A ring of transactions, each depending on the one before by a key of its own, is the only cycle there is,
//! so its name follows from the definition: by how many anti-dependencies it has, whether two are adjacent,
//! and whether one step is in the order of a process or of time. It must be found by that name; the models
//! right below what it rules out must hold.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod elle_common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Random, check};
use elle_common::{PLANTED, background, planted, size, spread};
use fuzz_dist_core::{History, Op, OpType, Verdict};
use serde_json::{Value as Json, json};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Ww,
    Wr,
    Rw,
    Process,
    Realtime,
}
use Kind::{Process, Realtime, Rw, Wr, Ww};

/// A name, the models that the anomaly rules out first, and strongest ones below those.
type Level = (&'static str, &'static [&'static str], &'static [&'static str]);

/// By class and by the step in time: none, of a process, of real time.
const LEVELS: [[Level; 3]; 5] = [
    [
        ("G0", &["read-uncommitted"], &["none"]),
        ("G0-process", &["strong-session-read-uncommitted"], &["serializable"]),
        ("G0-realtime", &["strong-read-uncommitted"], &["strong-session-serializable"]),
    ],
    [
        ("G1c", &["read-committed"], &["read-uncommitted"]),
        (
            "G1c-process",
            &["strong-session-read-committed"],
            &["serializable", "strong-session-read-uncommitted"],
        ),
        (
            "G1c-realtime",
            &["strong-read-committed"],
            &["strong-session-serializable", "strong-read-uncommitted"],
        ),
    ],
    [
        (
            "G-single-item",
            &["consistent-view", "repeatable-read"],
            &["cursor-stability", "monotonic-view", "read-atomic"],
        ),
        (
            "G-single-item-process",
            &["strong-session-snapshot-isolation"],
            &["serializable", "strong-session-read-committed"],
        ),
        (
            "G-single-item-realtime",
            &["strong-snapshot-isolation"],
            &["strong-session-serializable", "strong-read-committed"],
        ),
    ],
    [
        (
            "G-nonadjacent-item",
            &["repeatable-read", "snapshot-isolation"],
            &["forward-consistent-view", "cursor-stability"],
        ),
        (
            "G-nonadjacent-item-process",
            &["strong-session-snapshot-isolation"],
            &["serializable", "strong-session-read-committed"],
        ),
        (
            "G-nonadjacent-item-realtime",
            &["strong-snapshot-isolation"],
            &["strong-session-serializable", "strong-read-committed"],
        ),
    ],
    [
        ("G2-item", &["repeatable-read"], &["snapshot-isolation", "strong-snapshot-isolation"]),
        (
            "G2-item-process",
            &["strong-session-serializable"],
            &["serializable", "strong-session-snapshot-isolation"],
        ),
        (
            "G2-item-realtime",
            &["strong-serializable"],
            &["strong-session-serializable", "strong-snapshot-isolation"],
        ),
    ],
];

/// What is expected of a ring.
fn level(ring: &[Kind]) -> Level {
    let count = |wanted| ring.iter().filter(|kind| **kind == wanted).count();
    let is_adjacent = (0..ring.len()).any(|i| ring[i] == Rw && ring[(i + 1) % ring.len()] == Rw);
    let class = match (count(Rw), count(Wr)) {
        (0, 0) => 0,
        (0, _) => 1,
        (1, _) => 2,
        _ if is_adjacent => 4,
        _ => 3,
    };
    LEVELS[class][if count(Process) > 0 { 1 } else { 2 * count(Realtime) }]
}

/// A random ring of a class; the step in time, if there is one, is the last.
fn random_ring(random: &mut Random, class: usize, variant: usize, length: usize) -> Vec<Kind> {
    let time = [None, Some(Process), Some(Realtime)][variant];
    loop {
        let steps = length - usize::from(time.is_some());
        let mut ring: Vec<Kind> = (0..steps)
            .map(|_| match class {
                0 => Ww,
                1 | 2 => [Ww, Wr][random.below(2)],
                _ => [Ww, Wr, Rw][random.below(3)],
            })
            .collect();
        if class == 2 {
            ring[random.below(steps)] = Rw;
        }
        ring.extend(time);
        if level(&ring) == LEVELS[class][variant] {
            return ring;
        }
    }
}

/// The shortest ring of a class that there is.
fn least_length(class: usize, variant: usize) -> usize {
    match (class, variant) {
        (3, _) => 4,
        (4, 1 | 2) => 3,
        _ => 2,
    }
}

/// The records of a ring. Nobody else uses its keys; all its transactions overlap but for the step in time,
/// and those that only show the order of versions come last.
fn records(random: &mut Random, ring: &[Kind], lists: bool) -> Vec<Op> {
    let count = ring.len();
    let mut txns: Vec<Vec<String>> = vec![Vec::new(); count];
    let mut observers: Vec<String> = Vec::new();
    let write = if lists { "append" } else { "w" };
    for (i, kind) in ring.iter().enumerate() {
        let next = (i + 1) % count;
        let writes = |value: i64| format!("[:{write} :k{i} {value}]");
        let reads =
            |value: &str, list: &str| format!("[:r :k{i} {}]", if lists { list } else { value });
        let (from, to) = match kind {
            Ww => (writes(1), writes(2)),
            Wr => (writes(1), reads("1", "[1]")),
            Rw => (reads("nil", "[]"), writes(1)),
            Process | Realtime => continue,
        };
        txns[i].push(from);
        txns[next].push(to);
        if *kind == Ww && lists {
            observers.push(reads("", "[1 2]"));
        }
    }
    let time = ring.iter().find(|kind| [Process, Realtime].contains(kind));
    let process = |i: usize| match (i, time) {
        (0, Some(Process)) => count - 1,
        _ => i,
    };
    let line =
        |i: usize, op_type: &str| format!("{} {op_type} [{}]", process(i), txns[i].join(" "));
    let mut order: Vec<usize> = (0..count).collect();
    let mut shuffle = |order: &mut Vec<usize>| {
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i + 1));
        }
    };
    shuffle(&mut order);
    let is_late = |i: &usize| time.is_some() && *i == 0;
    let is_early = |i: &usize| time.is_some() && *i == count - 1;
    let mut lines: Vec<String> =
        order.iter().filter(|i| !is_late(i)).map(|i| line(*i, "invoke")).collect();
    lines.extend(order.iter().filter(|i| is_early(i)).map(|i| line(*i, "ok")));
    lines.extend(order.iter().filter(|i| is_late(i)).map(|i| line(*i, "invoke")));
    shuffle(&mut order);
    lines.extend(order.iter().filter(|i| !is_early(i)).map(|i| line(*i, "ok")));
    for (i, read) in observers.iter().enumerate() {
        lines.push(format!("{} invoke [{read}]", count + i));
        lines.push(format!("{} ok [{read}]", count + i));
    }
    planted(&lines.join("\n"))
}

/// The order of the writes over writes of a ring, as the database could have given it.
fn transaction_order(history: &History, ring: &[Kind], positions: &[usize]) -> Json {
    let start = ring.iter().position(|kind| *kind != Ww).unwrap();
    let (count, mut seen) = (ring.len(), BTreeSet::new());
    let mut order = serde_json::Map::new();
    for position in positions {
        let op = &history.ops()[*position];
        if op.op_type != OpType::Ok {
            continue;
        }
        // By process; the second one of a process closes the ring.
        let number = (op.process.client().unwrap() - PLANTED) as usize;
        let place = if seen.insert(number) { number } else { 0 };
        let place = (place + count - start - 1) % count;
        order.insert(op.index.to_string(), place.into());
    }
    order.into()
}

/// Plants a ring and looks whether it is found.
fn expect(random: &mut Random, ring: &[Kind], around: &[Op], lists: bool) -> &'static str {
    let (name, not, holds) = level(ring);
    let ops = records(random, ring, lists);
    let (history, positions) = spread(random, around, &ops);
    let checker = if lists { "list-append" } else { "rw-register" };
    let mut options = json!({});
    if !lists && ring.contains(&Ww) {
        options["transaction-order"] = transaction_order(&history, ring, &positions);
    }
    let mut run = |model: &str, anomalies: &str| {
        options["consistency-model"] = json!(model);
        options["anomalies"] = json!(anomalies);
        check(checker, options.clone(), &history)
    };
    let result = run(not[0], "none");
    let context = format!("{checker} {ring:?}: {result:#?}");
    assert_eq!(result.verdict, Verdict::Invalid, "{context}");
    assert_eq!(result.details["anomaly-types"], json!([name]), "{context}");
    assert_eq!(result.details["not"], json!(not), "{context}");
    let anomaly = &result.anomalies[0];
    assert_eq!(anomaly.edges.len(), ring.len(), "{context}");
    for (i, edge) in anomaly.edges.iter().enumerate() {
        let next = &anomaly.edges[(i + 1) % anomaly.edges.len()];
        assert_eq!(edge.to, next.from, "{context}");
        assert!(anomaly.ops.contains(&edge.from) && edge.why.len() > 10, "{context}");
        let process = history.ops()[edge.from as usize].process.client().unwrap();
        assert!(process >= PLANTED, "{context}");
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in ring {
        let name = match kind {
            Ww => "ww",
            Wr => "wr",
            Rw => "rw",
            Process => "process",
            Realtime => "realtime",
        };
        *kinds.entry(name).or_default() += 1;
    }
    for edge in &anomaly.edges {
        *kinds.get_mut(edge.kind.as_str()).unwrap_or_else(|| panic!("{context}")) -= 1;
    }
    assert!(anomaly.text.lines().count() <= 24, "{}", anomaly.text);
    for model in holds {
        assert_eq!(run(model, "none").verdict, Verdict::Valid, "{model}: {context}");
    }
    assert_eq!(run("none", name).verdict, Verdict::Invalid, "by its name: {context}");
    assert_eq!(run("none", "G1a,internal").verdict, Verdict::Valid, "{context}");
    name
}

#[test]
fn rings_of_every_class_are_found_by_their_names() {
    let mut seen: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    for lists in [true, false] {
        let around = background(size(300), lists);
        for round in 0..8 {
            for class in 0..5 {
                for variant in 0..3 {
                    // Of registers no option gives a whole order of versions that contradicts itself.
                    if !lists && (class, variant) == (0, 0) {
                        continue;
                    }
                    let mut random = Random(round * 100 + class as u64 * 10 + variant as u64);
                    let longer = [0, 1, 2, 3, 5, 8, 20, 60][round as usize];
                    let length = least_length(class, variant) + longer;
                    let ring = random_ring(&mut random, class, variant, length);
                    let name = expect(&mut random, &ring, &around, lists);
                    *seen.entry((lists, name)).or_default() += 1;
                }
            }
        }
    }
    assert_eq!(seen.len(), 29, "{seen:?}");
}

/// With `FUZZ_DIST_LONG` a hundred thousand transactions are around it.
#[test]
fn a_ring_is_found_in_a_large_history() {
    let is_long = std::env::var_os("FUZZ_DIST_LONG").is_some();
    for lists in [true, false] {
        let around = background(size(if is_long { 100_000 } else { 5_000 }), lists);
        for class in 1..5 {
            let mut random = Random(class as u64);
            let variant = class % 3;
            let length = least_length(class, variant) + random.below(3);
            let ring = random_ring(&mut random, class, variant, length);
            expect(&mut random, &ring, &around, lists);
        }
    }
}
