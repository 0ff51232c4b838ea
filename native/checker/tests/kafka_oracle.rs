//! `kafka` against its definitions written out over lists: the same names, and the same number of cases of
//! each, on small random histories in which offsets, values and outcomes are anything.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Builder, Random, cases, check, int, pair, show};
use fuzz_dist_core::{History, OpType, Value};
use serde_json::json;

/// An operation with what its completion says.
#[derive(Clone, Debug)]
struct Op {
    process: i64,
    outcome: OpType,
    begin: usize,
    end: usize,
    /// Key, offset, value.
    sent: Vec<(i64, Option<i64>, i64)>,
    polled: Vec<(i64, Option<i64>, i64)>,
    /// The keys of an assignment.
    assigned: Option<Vec<i64>>,
}

fn value_of(op: &Op, is_done: bool) -> Value {
    let mut mops: Vec<Value> = op
        .sent
        .iter()
        .map(|(key, offset, value)| {
            let told = match is_done {
                true => pair(offset.map_or(Value::Nil, int), int(*value)),
                false => int(*value),
            };
            Value::list(vec![Value::sym("send"), int(*key), told])
        })
        .collect();
    // A map for each message keeps their order.
    for (key, offset, value) in op.polled.iter().filter(|_| is_done) {
        let place = Value::list(vec![pair(offset.map_or(Value::Nil, int), int(*value))]);
        mops.push(Value::list(vec![Value::sym("poll"), Value::map([(int(*key), place)])]));
    }
    Value::list(mops)
}

fn random_ops(random: &mut Random) -> (Vec<Op>, History) {
    let mut builder = Builder::default();
    let mut ops: Vec<Op> = Vec::new();
    let mut open: Vec<Option<usize>> = vec![None; 3];
    let mut next: i64 = 0;
    let finish = |ops: &mut Vec<Op>, builder: &mut Builder, number: usize| {
        ops[number].end = builder.ops.len();
        let op = ops[number].clone();
        let (f, value) = match &op.assigned {
            Some(keys) => {
                ("assign", Value::list(keys.iter().copied().map(int).collect::<Vec<_>>()))
            }
            None => ("txn", value_of(&op, true)),
        };
        builder.push(op.process, op.outcome, f, value);
    };
    for _ in 0..4 + random.below(10) {
        let process = random.below(3);
        if let Some(number) = open[process].take() {
            finish(&mut ops, &mut builder, number);
            continue;
        }
        let outcome =
            [OpType::Ok, OpType::Ok, OpType::Ok, OpType::Info, OpType::Fail][random.below(5)];
        let mut op = Op {
            process: process as i64,
            outcome,
            begin: builder.ops.len(),
            end: usize::MAX,
            sent: Vec::new(),
            polled: Vec::new(),
            assigned: None,
        };
        if random.chance(10) {
            op.assigned = Some((0..random.below(3) as i64).collect());
        } else {
            for _ in 0..random.below(3) {
                let (key, place) = (next / 2 % 2, next);
                // Mostly as it should be, with the offset that the value suggests.
                let offset = if random.chance(90) { place } else { random.below(6) as i64 };
                op.sent.push((key, random.chance(80).then_some(offset), place));
                next += 1;
            }
            for _ in 0..random.below(4) {
                // Perhaps one that is only sent later, or never.
                let ahead = if random.chance(10) { 3 } else { 0 };
                let value = random.below(next as usize + ahead + 1) as i64;
                let key = value / 2 % 2;
                let offset = if random.chance(90) { value } else { random.below(6) as i64 };
                op.polled.push((key, random.chance(90).then_some(offset), value));
            }
        }
        let (f, value) = match &op.assigned {
            Some(keys) => {
                ("assign", Value::list(keys.iter().copied().map(int).collect::<Vec<_>>()))
            }
            None => ("txn", value_of(&op, false)),
        };
        builder.invoke(op.process, f, value);
        open[process] = Some(ops.len());
        ops.push(op);
    }
    for number in open.into_iter().flatten() {
        finish(&mut ops, &mut builder, number);
    }
    (ops, builder.history())
}

/// The definitions.
struct Definitions<'a> {
    ops: &'a [Op],
    counts: BTreeMap<String, u64>,
    /// By key: what is at each offset.
    logs: BTreeMap<i64, BTreeMap<i64, BTreeSet<i64>>>,
}

impl Definitions<'_> {
    fn count(&mut self, name: &str, times: usize) {
        if times > 0 {
            *self.counts.entry(name.to_owned()).or_default() += times as u64;
        }
    }

    fn txns(&self) -> impl Iterator<Item = (usize, &Op)> {
        self.ops.iter().enumerate().filter(|(_, op)| op.assigned.is_none())
    }

    fn is_read(&self, key: i64, value: i64) -> bool {
        self.txns().any(|(_, op)| {
            op.outcome == OpType::Ok && op.polled.iter().any(|(k, _, v)| (*k, *v) == (key, value))
        })
    }

    fn committed(&self, op: &Op) -> bool {
        let is_seen = |&(key, _, value): &(i64, Option<i64>, i64)| self.is_read(key, value);
        op.outcome == OpType::Ok || (op.outcome == OpType::Info && op.sent.iter().any(is_seen))
    }

    fn writer(&self, key: i64, value: i64) -> Option<usize> {
        self.txns()
            .find(|(_, op)| op.sent.iter().any(|(k, _, v)| (*k, *v) == (key, value)))
            .map(|(number, _)| number)
    }

    /// The places of a value among the known offsets of its key.
    fn places(&self, key: i64, value: i64) -> Vec<i64> {
        let log = self.logs.get(&key).into_iter().flatten();
        (0..).zip(log).filter(|(_, (_, values))| values.contains(&value)).map(|(i, _)| i).collect()
    }

    fn delta(&self, key: i64, before: i64, after: i64) -> i64 {
        match (self.places(key, before).last(), self.places(key, after).last()) {
            (Some(before), Some(after)) => after - before,
            _ => 1,
        }
    }

    fn build_logs(&mut self) {
        let mut known = Vec::new();
        for (_, op) in self.txns() {
            known.extend(op.polled.iter().copied());
            if self.committed(op) {
                known.extend(op.sent.iter().copied());
            }
        }
        for (key, offset, value) in known {
            if let Some(offset) = offset {
                self.logs.entry(key).or_default().entry(offset).or_default().insert(value);
            }
        }
    }

    fn of_messages(&mut self) {
        for (number, op) in self.txns().map(|(n, op)| (n, op.clone())).collect::<Vec<_>>() {
            let once: BTreeSet<(i64, i64)> = op.polled.iter().map(|(k, _, v)| (*k, *v)).collect();
            for (key, value) in once {
                let name = match self.writer(key, value) {
                    None => "phantom",
                    Some(writer) if writer == number => "precommitted-read",
                    Some(writer) if self.ops[writer].outcome != OpType::Fail => continue,
                    _ if op.outcome == OpType::Ok => "G1a",
                    _ => "aborted-read",
                };
                self.count(name, 1);
            }
        }
        let logs = self.logs.clone();
        for (key, log) in &logs {
            self.count("inconsistent-offsets", log.values().filter(|v| v.len() > 1).count());
            let values: BTreeSet<i64> = log.values().flatten().copied().collect();
            let again = values.iter().filter(|value| self.places(*key, **value).len() > 1).count();
            self.count("duplicate", again);
            let read = values.iter().filter(|value| self.is_read(*key, **value));
            let bound = read.map(|value| self.places(*key, *value)[0]).max().unwrap_or(-1);
            let lost = values.iter().filter(|value| {
                !self.is_read(*key, **value)
                    && *self.places(*key, **value).last().unwrap() <= bound
                    && self.writer(*key, **value).is_some_and(|w| self.committed(&self.ops[w]))
            });
            let lost = lost.count();
            self.count("lost-write", lost);
        }
        let ok = self.txns().filter(|(_, op)| op.outcome == OpType::Ok);
        let sent: Vec<_> = ok.flat_map(|(_, op)| op.sent.clone()).collect();
        let unseen = sent.iter().filter(|(key, _, value)| !self.is_read(*key, *value)).count();
        self.count("unseen", unseen);
    }

    fn within(&mut self) {
        for (_, op) in self.txns().map(|(n, op)| (n, op.clone())).collect::<Vec<_>>() {
            for (what, all) in [("poll", &op.polled), ("send", &op.sent)] {
                for key in 0..2 {
                    let values: Vec<i64> =
                        all.iter().filter(|(k, ..)| *k == key).map(|(.., v)| *v).collect();
                    for two in values.windows(2) {
                        let delta = self.delta(key, two[0], two[1]);
                        self.count(&format!("int-{what}-skip"), usize::from(delta > 1));
                        self.count(&format!("int-nonmonotonic-{what}"), usize::from(delta < 1));
                    }
                }
            }
        }
    }

    fn between(&mut self) {
        for process in 0..3 {
            let mut own: Vec<Op> =
                self.ops.iter().filter(|op| op.process == process).cloned().collect();
            own.sort_by_key(|op| op.end);
            let mut last: BTreeMap<(&str, i64), i64> = BTreeMap::new();
            for op in own {
                if let Some(keys) = &op.assigned {
                    if op.outcome != OpType::Fail {
                        last.retain(|(_, key), _| keys.contains(key));
                    }
                    continue;
                }
                for (what, all) in [("poll", &op.polled), ("send", &op.sent)] {
                    for key in 0..2 {
                        let mut values = all.iter().filter(|(k, ..)| *k == key).map(|(.., v)| *v);
                        let Some(first) = values.next() else { continue };
                        if let Some(before) = last.get(&(what, key)) {
                            let delta = self.delta(key, *before, first);
                            if what == "poll" {
                                self.count("poll-skip", usize::from(delta > 1));
                                self.count("nonmonotonic-poll", usize::from(delta < 1));
                            } else if op.outcome != OpType::Fail {
                                self.count("nonmonotonic-send", usize::from(delta < 1));
                            }
                        }
                        if op.outcome == OpType::Ok {
                            last.insert((what, key), values.next_back().unwrap_or(first));
                        }
                    }
                }
            }
        }
    }

    /// What each operation leads to: by data, and also by time.
    fn leads_to(&self, with_time: bool) -> Vec<BTreeSet<usize>> {
        let mut edges = vec![BTreeSet::new(); self.ops.len()];
        for (reader, op) in self.txns() {
            for (key, _, value) in &op.polled {
                if let Some(writer) = self.writer(*key, *value).filter(|writer| *writer != reader) {
                    edges[writer].insert(reader);
                }
            }
        }
        for (first, a) in self.txns().filter(|_| with_time) {
            for (second, b) in self.txns() {
                if a.outcome == OpType::Ok && b.outcome != OpType::Fail && a.end < b.begin {
                    edges[first].insert(second);
                }
            }
        }
        edges
    }
}

fn has_cycle(edges: &[BTreeSet<usize>]) -> bool {
    (0..edges.len()).any(|start| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(vertex) = open.pop() {
            for next in &edges[vertex] {
                if *next == start {
                    return true;
                }
                if seen.insert(*next) {
                    open.push(*next);
                }
            }
        }
        false
    })
}

#[test]
fn names_and_numbers_are_those_of_the_definitions() {
    let mut found = BTreeSet::new();
    for seed in 0..cases(3_000) {
        let (ops, history) = random_ops(&mut Random(seed));
        let mut wanted = Definitions { ops: &ops, counts: BTreeMap::new(), logs: BTreeMap::new() };
        wanted.build_logs();
        wanted.of_messages();
        wanted.within();
        wanted.between();
        let result = check("kafka", json!({}), &history);
        let names: Vec<String> =
            serde_json::from_value(result.details["error-types"].clone()).unwrap_or_default();
        let told = names.iter().filter(|name| !name.starts_with("G1c"));
        let told: BTreeMap<String, u64> =
            told.map(|name| (name.clone(), result.counts[name])).collect();
        assert_eq!(told, wanted.counts, "seed {seed}: {}\n{}", result.reason, show(&history));
        let by_data = has_cycle(&wanted.leads_to(false));
        let cyclic = by_data || has_cycle(&wanted.leads_to(true));
        let is_told = |name: &str| names.iter().any(|told| told == name);
        assert_eq!(is_told("G1c"), by_data, "seed {seed}\n{}", show(&history));
        let any = is_told("G1c") || is_told("G1c-realtime");
        assert_eq!(any, cyclic, "seed {seed}\n{}", show(&history));
        found.extend(names);
    }
    assert_eq!(found.len(), 17, "not all were met: {found:?}");
}
