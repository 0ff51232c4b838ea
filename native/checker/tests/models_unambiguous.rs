//! The special cases of `linearizable` for collections against the general search and against trying every
//! order, on small histories in which elements are mostly put in once.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Builder, Random, cases, check, int, pair, show};
use fuzz_dist_core::{History, OpType, Value, Verdict};
use serde_json::json;

/// What an operation did; `None` where its result is not known.
#[derive(Clone, Debug, PartialEq)]
enum Did {
    Put(i64),
    Take(Option<i64>),
    Empty,
    Contains(i64, bool),
    Remove(i64),
    Read(Vec<i64>),
}

#[derive(Clone, Debug)]
struct Call {
    did: Did,
    invoke: usize,
    /// `usize::MAX` when it may have happened.
    ret: usize,
}

/// Every state that the object can be in after that call.
fn after(model: &str, state: &[i64], did: &Did) -> Vec<Vec<i64>> {
    let without = |place: usize| {
        let mut state = state.to_vec();
        state.remove(place);
        state
    };
    match did {
        Did::Put(n) if model == "set" => {
            let mut state = state.to_vec();
            state.push(*n);
            state.sort_unstable();
            state.dedup();
            vec![state]
        }
        Did::Put(n) => vec![[state, &[*n]].concat()],
        Did::Remove(n) => vec![state.iter().copied().filter(|m| m != n).collect()],
        Did::Contains(n, answer) if state.contains(n) == *answer => vec![state.to_vec()],
        Did::Read(seen) if seen == state => vec![state.to_vec()],
        Did::Contains(..) | Did::Read(_) => Vec::new(),
        Did::Empty if state.is_empty() => vec![Vec::new()],
        Did::Empty => Vec::new(),
        Did::Take(wanted) => {
            let candidates = match (model, state.len()) {
                (_, 0) => Vec::new(),
                ("fifo-queue", _) => vec![0],
                ("stack", n) => vec![n - 1],
                ("unordered-queue", n) => (0..n).collect(),
                (order, n) => {
                    let best = if order == "least" {
                        state.iter().min().unwrap()
                    } else {
                        state.iter().max().unwrap()
                    };
                    (0..n).filter(|&i| state[i] == *best).collect()
                }
            };
            let fits = |place: &usize| wanted.is_none_or(|wanted| state[*place] == wanted);
            candidates.into_iter().filter(fits).map(without).collect()
        }
    }
}

fn oracle(model: &str, calls: &[Call], state: &[i64]) -> bool {
    if calls.iter().all(|call| call.ret == usize::MAX) {
        return true;
    }
    (0..calls.len()).any(|i| {
        if calls.iter().any(|other| other.ret < calls[i].invoke) {
            return false;
        }
        let mut rest = calls.to_vec();
        let call = rest.remove(i);
        after(model, state, &call.did).iter().any(|state| oracle(model, &rest, state))
    })
}

/// A history with the same calls.
fn history_of(model: &str, calls: &[Call], info_records: bool) -> History {
    let mut events: Vec<(usize, usize, bool)> = Vec::new();
    for (i, call) in calls.iter().enumerate() {
        events.push((call.invoke, i, true));
        if call.ret != usize::MAX {
            events.push((call.ret, i, false));
        }
    }
    events.sort_unstable();
    let (put, take) = match model {
        "stack" => ("push", "pop"),
        "set" => ("add", "remove"),
        "least" => ("insert", "delete-min"),
        "greatest" => ("enqueue", "dequeue"),
        _ => ("enqueue", "dequeue"),
    };
    let mut builder = Builder::default();
    for (_, i, invokes) in events {
        let (f, argument, result) = match &calls[i].did {
            Did::Put(n) => (put, int(*n), int(*n)),
            Did::Remove(n) => (take, int(*n), int(*n)),
            Did::Take(n) => (take, Value::Nil, n.map_or(Value::Nil, int)),
            Did::Empty => (take, Value::Nil, Value::Nil),
            Did::Contains(n, answer) if n % 2 == 0 => {
                ("contains", int(*n), pair(int(*n), Value::Bool(*answer)))
            }
            Did::Contains(n, answer) => ("contains", int(*n), Value::Bool(*answer)),
            Did::Read(seen) => ("read", Value::Nil, Value::set(seen.iter().copied().map(int))),
        };
        match (invokes, calls[i].ret) {
            (true, usize::MAX) if info_records => {
                builder.invoke(i as i64, f, argument.clone());
                builder.info(i as i64, f, argument);
            }
            (true, _) => drop(builder.invoke(i as i64, f, argument)),
            (false, _) => drop(builder.ok(i as i64, f, result)),
        }
    }
    builder.history()
}

/// Random moments for calls, so that each begins before it ends.
fn placed(random: &mut Random, dids: Vec<Did>, overlap: usize, info_percent: usize) -> Vec<Call> {
    let mut open: Vec<usize> = Vec::new();
    let mut calls: Vec<Call> = Vec::new();
    let mut moment = 0;
    let mut dids = dids.into_iter().peekable();
    while dids.peek().is_some() || !open.is_empty() {
        moment += 1;
        let begins = open.is_empty() || (open.len() < overlap && random.chance(50));
        match dids.peek() {
            Some(_) if begins => {
                let mut did = dids.next().unwrap();
                let unknown = random.chance(info_percent);
                if unknown {
                    did = match did {
                        Did::Take(_) | Did::Empty => Did::Take(None),
                        other => other,
                    };
                }
                if !unknown {
                    open.push(calls.len());
                }
                calls.push(Call { did, invoke: moment, ret: usize::MAX });
            }
            _ if open.is_empty() => {}
            _ => {
                let which = open.swap_remove(random.below(open.len()));
                calls[which].ret = moment;
            }
        }
    }
    calls
}

/// Calls of a collection in an order that a correct one allows, and then a few of them exchanged.
fn collection_calls(random: &mut Random, model: &str) -> Vec<Call> {
    let count = 2 + random.below(8);
    let unique = random.chance(85);
    let mut state: Vec<i64> = Vec::new();
    let mut elements: Vec<i64> = (0..12).collect();
    let mut dids = Vec::new();
    for _ in 0..count {
        if random.chance(55) {
            let n = match unique {
                true => elements.swap_remove(random.below(elements.len())),
                false => random.below(3) as i64,
            };
            state.push(n);
            dids.push(Did::Put(n));
        } else {
            let mut all = after(model, &state, &Did::Take(None));
            if all.is_empty() {
                dids.push(Did::Empty);
            } else {
                let next = all.swap_remove(random.below(all.len()));
                let mut taken = state.clone();
                for n in &next {
                    let place = taken.iter().position(|m| m == n).unwrap();
                    taken.remove(place);
                }
                dids.push(Did::Take(Some(taken[0])));
                state = next;
            }
        }
    }
    for _ in 0..random.below(4) {
        let (a, b) = (random.below(dids.len()), random.below(dids.len()));
        // Calls far apart in a correct order overlap seldom; neighbours often do.
        let b = if random.chance(60) { (a + 1) % dids.len() } else { b };
        dids.swap(a, b);
    }
    let info = [0, 0, 12, 30][random.below(4)];
    let overlap = 1 + random.below(5);
    placed(random, dids, overlap, info)
}

fn set_calls(random: &mut Random) -> Vec<Call> {
    let count = 2 + random.below(7);
    let reads = random.chance(50);
    let removes = !reads || random.chance(20);
    let values = if random.chance(50) { 2 } else { 8 };
    let mut state: Vec<i64> = Vec::new();
    let mut dids: Vec<Did> = Vec::new();
    for _ in 0..count {
        let n = random.below(values) as i64;
        let did = match random.below(4) {
            0 if removes => Did::Remove(n),
            1 if reads => Did::Read(state.clone()),
            2 if !reads => {
                let lies = random.chance(20);
                Did::Contains(n, state.contains(&n) != lies)
            }
            _ => Did::Put(n),
        };
        if let Some(next) = after("set", &state, &did).into_iter().next() {
            state = next;
        }
        dids.push(did);
    }
    for _ in 0..random.below(3) {
        let (a, b) = (random.below(dids.len()), random.below(dids.len()));
        dids.swap(a, b);
    }
    let info = [0, 0, 15][random.below(3)];
    let overlap = 1 + random.below(4);
    let mut calls = placed(random, dids, overlap, info);
    // What was not answered says nothing of what it would have seen.
    calls.retain(|call| {
        call.ret != usize::MAX || !matches!(call.did, Did::Read(_) | Did::Contains(..))
    });
    calls
}

fn compare(model: &str, options: serde_json::Value, draw: fn(&mut Random, &str) -> Vec<Call>) {
    let mut seen = [0u64; 2];
    let mut special = [0u64; 2];
    for case in 0..cases(1_500) {
        let mut random = Random(case);
        let calls = draw(&mut random, model);
        let history = history_of(model, &calls, random.chance(50));
        let expected = oracle(model, &calls, &[]);
        let other = ["search", "depth-first", "breadth-first"][case as usize % 3];
        for algorithm in ["auto", other] {
            let mut options = options.clone();
            options["algorithm"] = algorithm.into();
            let result = check("linearizable", options, &history);
            let verdict = if expected { Verdict::Valid } else { Verdict::Invalid };
            assert_eq!(
                result.verdict,
                verdict,
                "{model} case {case}, {algorithm}: {}\n{}",
                result.reason,
                show(&history)
            );
            if algorithm == "auto" && result.details["keys_by_search"] == 0 {
                special[usize::from(expected)] += 1;
            }
            if let Some(anomaly) = result.anomalies.first() {
                proves(model, &calls, &history, anomaly);
            }
        }
        seen[usize::from(expected)] += 1;
    }
    assert!(seen.iter().all(|n| *n > 100), "{model}: both answers were tried: {seen:?}");
    if model != "set" {
        assert!(special.iter().all(|n| *n > 50), "{model}: so was the special case: {special:?}");
    }
}

/// The operations of the counter-example, taken alone, have no order.
fn proves(model: &str, calls: &[Call], history: &History, anomaly: &fuzz_dist_core::Anomaly) {
    let kept: Vec<Call> = calls
        .iter()
        .enumerate()
        .filter(|(i, _)| {
            let is_its = |op: &&fuzz_dist_core::Op| {
                op.process.to_string() == i.to_string() && op.op_type == OpType::Invoke
            };
            let invoke = history.ops().iter().find(is_its).unwrap();
            anomaly.ops.contains(&invoke.index)
        })
        .map(|(_, call)| call.clone())
        .collect();
    assert!(!oracle(model, &kept, &[]), "{}\n{}", anomaly.text, show(history));
}

#[test]
fn fifo_queue_agrees() {
    compare("fifo-queue", json!({"model": "fifo-queue"}), collection_calls);
}

#[test]
fn stack_agrees() {
    compare("stack", json!({"model": "stack"}), collection_calls);
}

#[test]
fn least_priority_first_agrees() {
    compare("least", json!({"model": "priority-queue"}), collection_calls);
}

#[test]
fn greatest_priority_first_agrees() {
    let options = json!({"model": "priority-queue", "priority": "greatest"});
    compare("greatest", options, collection_calls);
}

#[test]
fn unordered_queue_agrees() {
    compare("unordered-queue", json!({"model": "unordered-queue"}), collection_calls);
}

#[test]
fn set_agrees() {
    compare("set", json!({"model": "set"}), |random, _| set_calls(random));
}
