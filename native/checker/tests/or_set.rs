//! `or-set` against all ways in which what is not known may be, and against replicas that keep one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{History, Op, OpType, Sym, Value, Verdict};
use serde_json::json;

fn list(elements: impl IntoIterator<Item = i64>) -> Value {
    Value::list(elements.into_iter().map(int).collect::<Vec<_>>())
}

fn mark_final(op: &mut Op) {
    op.extra = Some(Arc::new(vec![(Sym::new("final?"), Value::Bool(true))]));
}

/// Invocation, answer if there was one, process.
type Call = (u64, Option<u64>, i64);

/// Whether an element may be there, and may not, in the read: every subset of what is not known to have
/// happened, and everything that a later operation may have seen of an earlier one.
fn worlds(history: &History, read: &(Op, Op), element: i64, add_wins: bool) -> (bool, bool) {
    let is_final = read.0.extra("final?").is_some();
    let (mut adds, mut removes): (Vec<Call>, Vec<Call>) = (Vec::new(), Vec::new());
    for (invoke, done) in history.client_pairs() {
        let of_element = invoke.value == int(element) && invoke.index < read.1.index;
        let failed = done.is_some_and(|done| done.op_type == OpType::Fail);
        if !of_element || failed || invoke.f == "read" {
            continue;
        }
        let ret = done.filter(|done| done.op_type == OpType::Ok).map(|done| done.index);
        let call = (invoke.index, ret, invoke.process.client().unwrap());
        if invoke.f == "add" { adds.push(call) } else { removes.push(call) }
    }
    let certain = |call: &Call| {
        let before = call.1.is_some_and(|ret| ret < read.0.index);
        before && (is_final || call.2 == read.0.process.client().unwrap())
    };
    let before = |a: &Call, b: &Call| a.1.is_some_and(|ret| ret < b.0);
    let bits = adds.len() + removes.len();
    let (mut may_be, mut may_not) = (false, false);
    for mask in 0..1u32 << bits {
        let has = |i: usize| mask >> i & 1 == 1;
        let all: Vec<&Call> = adds.iter().chain(&removes).collect();
        if (0..bits).any(|i| certain(all[i]) && !has(i)) {
            continue;
        }
        let in_view = |calls: &[Call], from: usize| -> Vec<Call> {
            (0..calls.len()).filter(|i| has(from + i)).map(|i| calls[i]).collect()
        };
        let (adds, removes) = (in_view(&adds, 0), in_view(&removes, adds.len()));
        // Who may be cancelled by whom.
        let (cancelled, by) = if add_wins { (&adds, &removes) } else { (&removes, &adds) };
        let pairs: Vec<(usize, usize)> =
            (0..cancelled.len()).flat_map(|c| (0..by.len()).map(move |b| (c, b))).collect();
        for seen in 0..1u32 << pairs.len() {
            let sees = |i: usize| seen >> i & 1 == 1;
            let is_right = pairs.iter().enumerate().all(|(i, (c, b))| {
                let (c, b) = (&cancelled[*c], &by[*b]);
                (!before(c, b) || sees(i)) && !(before(b, c) && sees(i))
            });
            if !is_right {
                continue;
            }
            let survives = (0..cancelled.len())
                .any(|c| !pairs.iter().enumerate().any(|(i, pair)| pair.0 == c && sees(i)));
            let present = if add_wins { survives } else { !adds.is_empty() && !survives };
            may_be |= present;
            may_not |= !present;
        }
    }
    (may_be, may_not)
}

/// Few operations on one element, at random in every respect.
fn draw(random: &mut Random) -> History {
    let mut builder = Builder::default();
    let mut open: BTreeMap<i64, &str> = BTreeMap::new();
    let mut names = [0i64, 1, 2];
    for _ in 0..4 + random.below(8) {
        let p = random.below(3);
        match open.remove(&names[p]) {
            None => {
                let f = ["add", "remove", "read"][random.below(3)];
                let argument = if f == "read" { Value::Nil } else { int(1) };
                builder.invoke(names[p], f, argument);
                open.insert(names[p], f);
            }
            Some("read") => {
                let seen = if random.chance(50) { vec![1] } else { vec![] };
                builder.ok(names[p], "read", list(seen));
            }
            Some(f) => match random.below(8) {
                0 => {
                    builder.fail(names[p], f, int(1));
                }
                1 => {
                    builder.info(names[p], f, int(1));
                    names[p] += 3;
                }
                _ => {
                    builder.ok(names[p], f, int(1));
                }
            },
        }
    }
    mark_final(builder.invoke(90, "read", Value::Nil));
    builder.ok(90, "read", if random.chance(50) { list([1]) } else { list([]) });
    builder.history()
}

#[test]
fn agrees_with_all_that_may_be() {
    let mut seen = [0u64; 3];
    for case in 0..cases(6_000) {
        let mut random = Random(case);
        let history = draw(&mut random);
        for add_wins in [true, false] {
            let reads = history.client_pairs().filter_map(|(invoke, done)| {
                let done = done.filter(|done| done.op_type == OpType::Ok)?;
                (invoke.f == "read").then(|| (invoke.clone(), done.clone()))
            });
            let valid = reads.into_iter().all(|read| {
                let (may_be, may_not) = worlds(&history, &read, 1, add_wins);
                let holds = read.1.value.items().is_some_and(|items| !items.is_empty());
                if holds { may_be } else { may_not }
            });
            let wins = if add_wins { "add" } else { "remove" };
            let result = check("or-set", json!({"wins": wins}), &history);
            let verdict = if valid { Verdict::Valid } else { Verdict::Invalid };
            let shown = show(&history);
            assert_eq!(result.verdict, verdict, "{case} {wins}: {}\n{shown}", result.reason);
            assert_eq!(result.anomalies.is_empty(), valid);
            seen[verdict as usize] += 1;
        }
    }
    assert!(seen[0] > 500 && seen[2] > 500, "{seen:?}");
}

/// A replica: adds by tag, and the tags that removes have seen (or the other way round, if removes win).
#[derive(Default, Clone)]
struct Replica {
    adds: BTreeSet<(i64, u64)>,
    removes: BTreeSet<(i64, u64)>,
    cancelled: BTreeSet<(i64, u64)>,
}

/// What one update tells the others.
#[derive(Clone)]
struct Delta {
    is_add: bool,
    tag: (i64, u64),
    cancels: BTreeSet<(i64, u64)>,
}

impl Replica {
    fn update(&self, is_add: bool, element: i64, tag: u64, add_wins: bool) -> Delta {
        let nothing = BTreeSet::new();
        let sees = if is_add != add_wins { self.opposite(add_wins) } else { &nothing }.clone();
        let cancels = sees.into_iter().filter(|(e, _)| *e == element).collect();
        Delta { is_add, tag: (element, tag), cancels }
    }

    /// What can be cancelled: adds by removes if adds win, else removes by adds.
    fn opposite(&self, add_wins: bool) -> &BTreeSet<(i64, u64)> {
        if add_wins { &self.adds } else { &self.removes }
    }

    fn apply(&mut self, delta: &Delta) {
        if delta.is_add { &mut self.adds } else { &mut self.removes }.insert(delta.tag);
        self.cancelled.extend(&delta.cancels);
    }

    fn read(&self, add_wins: bool) -> BTreeSet<i64> {
        let alive = |tag: &&(i64, u64)| !self.cancelled.contains(*tag);
        let adds: BTreeSet<i64> =
            self.adds.iter().filter(|tag| !add_wins || alive(tag)).map(|tag| tag.0).collect();
        if add_wins {
            return adds;
        }
        let removed: BTreeSet<i64> = self.removes.iter().filter(alive).map(|tag| tag.0).collect();
        adds.difference(&removed).copied().collect()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Defect {
    None,
    /// An acknowledged update reaches nobody else.
    Lost,
    /// A remove cancels nothing.
    Zombie,
}

/// A cluster in which updates reach all nodes before they are acknowledged, except while a fault lasts.
struct Cluster {
    replicas: Vec<Replica>,
    /// Updates that have not reached a node.
    queues: Vec<Vec<Delta>>,
    apart: bool,
    add_wins: bool,
}

impl Cluster {
    fn spread(&mut self, from: usize, delta: &Delta) {
        self.replicas[from].apply(delta);
        for node in (0..self.replicas.len()).filter(|node| *node != from) {
            match self.apart {
                true => self.queues[node].push(delta.clone()),
                false => self.replicas[node].apply(delta),
            }
        }
    }

    fn heal(&mut self) {
        for (replica, queue) in self.replicas.iter_mut().zip(&mut self.queues) {
            queue.drain(..).for_each(|delta| replica.apply(&delta));
        }
        self.apart = false;
    }
}

fn simulate(random: &mut Random, defect: Defect, add_wins: bool) -> History {
    let mut builder = Builder::default();
    let count = 2 + random.below(2);
    let mut cluster = Cluster {
        replicas: vec![Replica::default(); count],
        queues: vec![Vec::new(); count],
        apart: false,
        add_wins,
    };
    let mut names: Vec<i64> = (0..count as i64).collect();
    let mut open: Vec<Option<(bool, i64)>> = vec![None; count];
    let mut late: Vec<(usize, Delta)> = Vec::new();
    let (mut tag, mut fault) = (0u64, 0i64);
    for _ in 0..30 {
        if random.chance(8) {
            match cluster.apart {
                true => {
                    cluster.heal();
                    builder.fault("fault-healed", fault, "hold");
                }
                false => {
                    fault += 1;
                    builder.fault("fault-start", fault, "hold");
                    builder.fault("fault-observed", fault, "hold");
                    cluster.apart = true;
                }
            }
        }
        if random.chance(20) && !late.is_empty() {
            let (node, delta) = late.swap_remove(0);
            cluster.spread(node, &delta);
        }
        let p = random.below(count);
        let node = Some(Sym::new(&format!("n{p}")));
        let Some((is_add, element)) = open[p].take() else {
            if random.chance(30) {
                builder.invoke(names[p], "read", Value::Nil).node = node;
                builder.ok(names[p], "read", list(cluster.replicas[p].read(add_wins))).node = node;
            } else {
                let update = (random.chance(60), random.below(3) as i64);
                let f = if update.0 { "add" } else { "remove" };
                builder.invoke(names[p], f, int(update.1)).node = node;
                open[p] = Some(update);
            }
            continue;
        };
        tag += 1;
        let f = if is_add { "add" } else { "remove" };
        let mut delta = cluster.replicas[p].update(is_add, element, tag, cluster.add_wins);
        match random.below(10) {
            0 => {
                builder.fail(names[p], f, int(element)).node = node;
            }
            1 => {
                builder.info(names[p], f, int(element)).node = node;
                names[p] += count as i64;
                match random.below(3) {
                    0 => {}
                    1 => cluster.spread(p, &delta),
                    _ => late.push((p, delta)),
                }
            }
            _ => {
                let strikes = random.chance(30);
                match defect {
                    Defect::Lost if strikes && is_add => {}
                    Defect::Zombie if strikes => {
                        delta.cancels.clear();
                        cluster.spread(p, &delta);
                    }
                    _ => cluster.spread(p, &delta),
                }
                builder.ok(names[p], f, int(element)).node = node;
            }
        }
    }
    for (p, update) in open.into_iter().enumerate() {
        let Some((is_add, element)) = update else { continue };
        builder.info(names[p], if is_add { "add" } else { "remove" }, int(element));
    }
    cluster.heal();
    if fault > 0 {
        builder.fault("fault-healed", fault, "hold");
    }
    for p in 0..count {
        let node = Some(Sym::new(&format!("n{p}")));
        let invoke = builder.invoke(1_000 + p as i64, "read", Value::Nil);
        mark_final(invoke);
        invoke.node = node;
        builder.ok(1_000 + p as i64, "read", list(cluster.replicas[p].read(add_wins))).node = node;
    }
    builder.history()
}

#[test]
fn replicas_that_keep_one_are_never_accused() {
    let mut found = [0u64; 3];
    for case in 0..cases(2_000) {
        for add_wins in [true, false] {
            let wins = if add_wins { "add" } else { "remove" };
            let history = simulate(&mut Random(case), Defect::None, add_wins);
            for sees in ["acknowledged", "session"] {
                let result = check("or-set", json!({"wins": wins, "sees": sees}), &history);
                let shown = show(&history);
                assert_eq!(result.verdict, Verdict::Valid, "{case} {wins}: {result:?}\n{shown}");
            }
            for (i, defect) in [Defect::Lost, Defect::Zombie].into_iter().enumerate() {
                let history = simulate(&mut Random(case), defect, add_wins);
                let result = check("or-set", json!({"wins": wins}), &history);
                found[i] += u64::from(result.verdict == Verdict::Invalid);
            }
            // The other rule is told apart.
            let other = if add_wins { "remove" } else { "add" };
            let result = check("or-set", json!({"wins": other}), &history);
            found[2] += u64::from(result.verdict == Verdict::Invalid);
        }
    }
    assert!(found.iter().all(|count| *count > 200), "planted and found: {found:?}");
}

#[test]
fn what_is_wrong_is_named() {
    let mut builder = Builder::default();
    builder.done(0, "join", int(1), int(1));
    builder.done(0, "join", int(2), int(2));
    builder.done(1, "leave", int(2), int(2));
    let last = |elements: &[i64]| {
        let mut builder = builder.clone();
        builder.done(2, "final-read", Value::Nil, list(elements.iter().copied()));
        check("or-set", json!({}), &builder.history())
    };
    assert_eq!(last(&[1]).verdict, Verdict::Valid);
    for (elements, name) in [
        (&[][..], "lost"),
        (&[1, 2], "resurrected"),
        (&[1, 7], "unexpected"),
        (&[1, 1], "duplicate"),
    ] {
        let result = last(elements);
        assert_eq!(result.verdict, Verdict::Invalid, "{name}");
        assert_eq!(result.anomalies[0].name, name, "{result:?}");
    }
    // While a fault lasts, whoever leaves need not have heard of who joined.
    let mut apart = Builder::default();
    apart.fault("fault-start", 1, "hold");
    apart.fault("fault-applied", 1, "hold");
    apart.ops.extend(builder.ops.clone());
    apart.fault("fault-healed", 1, "hold");
    apart.done(2, "final-read", Value::Nil, list([1, 2]));
    assert_eq!(check("or-set", json!({}), &apart.history()).verdict, Verdict::Valid);
    // A fault that failed disturbs nothing.
    let mut failed = Builder::default();
    failed.fault("fault-start", 1, "hold");
    failed.fault("fault-failed", 1, "hold");
    failed.ops.extend(builder.ops.clone());
    failed.done(2, "final-read", Value::Nil, list([1, 2]));
    assert_eq!(check("or-set", json!({}), &failed.history()).verdict, Verdict::Invalid);
}
