//! `kafka` on histories of a log system that keeps its promises, in which operations crash, fail and end
//! with info, consumers are rebalanced, reassigned and sought back: valid; and the same with each anomaly
//! planted in the middle: found, by its name and no other.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Builder, Random, cases, check, int, pair, show};
use fuzz_dist_core::{CheckResult, History, OpType, Sym, Value, Verdict, interop};
use serde_json::{Value as Json, json};

/// A log for each key, with gaps where transactions end.
struct System {
    random: Random,
    logs: Vec<Vec<(i64, i64)>>,
    ends: Vec<i64>,
    next_value: i64,
    builder: Builder,
    /// By process: the keys it has, with the place of the next message of each.
    positions: BTreeMap<i64, BTreeMap<usize, usize>>,
    /// Processes whose assignment under way seeks to the beginning.
    seeking: BTreeSet<i64>,
    /// The operation of each thread: its process, and what is open.
    open: Vec<(i64, Option<(String, Value)>)>,
}

fn send(key: usize, value: Value) -> Value {
    Value::list(vec![Value::sym("send"), int(key as i64), value])
}

fn polled(read: &BTreeMap<usize, Vec<(i64, i64)>>) -> Value {
    let of_key = |places: &Vec<(i64, i64)>| {
        Value::list(places.iter().map(|(o, v)| pair(int(*o), int(*v))).collect::<Vec<_>>())
    };
    let map = Value::map(read.iter().map(|(key, places)| (int(*key as i64), of_key(places))));
    Value::list(vec![Value::sym("poll"), map])
}

impl System {
    fn new(seed: u64, keys: usize, threads: i64) -> System {
        System {
            random: Random(seed),
            logs: vec![Vec::new(); keys],
            ends: vec![0; keys],
            next_value: 0,
            builder: Builder::default(),
            positions: BTreeMap::new(),
            seeking: BTreeSet::new(),
            open: (0..threads).map(|process| (process, None)).collect(),
        }
    }

    fn keys(&mut self) -> Value {
        let count = 1 + self.random.below(self.logs.len());
        let keys: BTreeSet<i64> =
            (0..count).map(|_| self.random.below(self.logs.len()) as i64).collect();
        Value::list(keys.into_iter().map(int).collect::<Vec<_>>())
    }

    /// One thread begins or ends an operation.
    fn step(&mut self) {
        let thread = self.random.below(self.open.len());
        let process = self.open[thread].0;
        match self.open[thread].1.take() {
            None => self.invoke(thread, process),
            Some((f, value)) => self.complete(thread, process, &f, value),
        }
    }

    fn invoke(&mut self, thread: usize, process: i64) {
        let (f, value) = match self.random.below(20) {
            0 => ("assign", self.keys()),
            1 if self.random.chance(10) => ("crash", Value::Nil),
            _ => {
                let mops: Vec<Value> = (0..1 + self.random.below(3))
                    .map(|_| match self.random.chance(50) {
                        true => Value::list(vec![Value::sym("poll")]),
                        false => {
                            self.next_value += 1;
                            send(self.random.below(self.logs.len()), int(self.next_value))
                        }
                    })
                    .collect();
                let is = |name: &str| {
                    mops.iter().all(|mop| mop.items().unwrap()[0].as_text() == Some(name))
                };
                (
                    if is("poll") {
                        "poll"
                    } else if is("send") {
                        "send"
                    } else {
                        "txn"
                    },
                    Value::list(mops),
                )
            }
        };
        let seeks = f == "assign" && self.random.chance(10);
        let op = self.builder.invoke(process, f, value.clone());
        if seeks {
            let flag = (Sym::new("seek-to-beginning?"), Value::Bool(true));
            op.extra = Some(vec![flag].into());
            self.seeking.insert(process);
        }
        self.open[thread].1 = Some((f.to_owned(), value));
    }

    fn complete(&mut self, thread: usize, process: i64, f: &str, value: Value) {
        let dice = self.random.below(100);
        let outcome = match (f, dice) {
            ("crash", _) | (_, 0..4) => OpType::Info,
            (_, 4..10) => OpType::Fail,
            _ => OpType::Ok,
        };
        if outcome == OpType::Info {
            // The next one of this thread has another number.
            self.open[thread].0 += self.open.len() as i64;
        }
        let result = match f {
            "crash" => Value::Nil,
            "assign" => {
                self.assign(process, &value, outcome);
                value
            }
            _ => self.perform(process, &value, outcome),
        };
        self.builder.push(process, outcome, f, result);
    }

    fn assign(&mut self, process: i64, keys: &Value, outcome: OpType) {
        let seeks = self.seeking.remove(&process);
        if outcome != OpType::Ok {
            return;
        }
        let before = self.positions.remove(&process).filter(|_| !seeks).unwrap_or_default();
        let keys = keys.items().unwrap().iter().map(|key| key.as_int().unwrap() as usize);
        let now = keys.map(|key| (key, before.get(&key).copied().unwrap_or(0))).collect();
        self.positions.insert(process, now);
    }

    /// Everything at once: the polls see what is there, then the sends are written.
    fn perform(&mut self, process: i64, mops: &Value, outcome: OpType) -> Value {
        let mut positions = self.positions.get(&process).cloned().unwrap_or_default();
        let commits = match outcome {
            OpType::Info => self.random.chance(50),
            outcome => outcome == OpType::Ok,
        };
        let is_silent = outcome == OpType::Info && self.random.chance(50);
        let mut results = Vec::new();
        let mut written = Vec::new();
        for mop in mops.items().unwrap() {
            let parts = mop.items().unwrap();
            if parts[0].as_text() == Some("poll") {
                let mut read = BTreeMap::new();
                for (key, place) in &mut positions {
                    let end = (*place + self.random.below(4)).min(self.logs[*key].len());
                    read.insert(*key, self.logs[*key][*place..end].to_vec());
                    *place = end;
                }
                results.push(polled(&read));
                continue;
            }
            let (key, value) = (parts[1].as_int().unwrap() as usize, parts[2].as_int().unwrap());
            let offset = self.ends[key];
            if outcome != OpType::Fail {
                self.ends[key] += 1;
            }
            let told = match outcome {
                OpType::Fail => int(value),
                _ if self.random.chance(20) => pair(Value::Nil, int(value)),
                _ => pair(int(offset), int(value)),
            };
            results.push(send(key, told));
            written.push((key, offset, value));
        }
        // Only now, so that the polls of this operation do not see it; each key gets a marker.
        for (key, offset, value) in written {
            if commits {
                self.logs[key].push((offset, value));
            }
            self.ends[key] += i64::from(outcome != OpType::Fail);
        }
        if outcome == OpType::Ok {
            self.positions.insert(process, positions);
        }
        if is_silent { Value::Nil } else { Value::list(results) }
    }

    /// Every thread closes, and a fresh one of each reads everything.
    fn finish(&mut self) {
        for thread in 0..self.open.len() {
            if let (process, Some((f, value))) = self.open[thread].clone() {
                self.open[thread].1 = None;
                self.complete(thread, process, &f, value);
            }
        }
        let process = self.open.iter().map(|(process, _)| process).max().unwrap() + 1_000_000;
        let keys = Value::list((0..self.logs.len() as i64).map(int).collect::<Vec<_>>());
        self.builder.done(process, "assign", keys.clone(), keys);
        let longest = self.logs.iter().map(Vec::len).max().unwrap_or(0);
        for begin in (0..longest.max(1)).step_by(50) {
            let part = |log: &Vec<(i64, i64)>| log.iter().skip(begin).take(50).copied().collect();
            let read = self.logs.iter().map(part).enumerate().collect();
            let invoked = Value::list(vec![Value::list(vec![Value::sym("poll")])]);
            self.builder.done(process, "poll", invoked, Value::list(vec![polled(&read)]));
        }
    }
}

fn simulate(seed: u64, keys: usize, threads: i64, steps: usize) -> Builder {
    let mut system = System::new(seed, keys, threads);
    (0..steps).for_each(|_| system.step());
    system.finish();
    system.builder
}

/// A history with records planted in the middle, a millisecond apart like all others.
fn with_planted(base: &Builder, lines: &[&str]) -> History {
    let mut planted = Builder::default();
    plant(&mut planted, lines);
    let mut ops = base.ops.clone();
    let rest = ops.split_off(ops.len() / 2);
    ops.append(&mut planted.ops);
    ops.extend(rest);
    for (place, op) in (0..).zip(&mut ops) {
        op.time_ns = place * 1_000_000;
    }
    History::new(ops).unwrap()
}

/// Appends records `process type f value` of processes and keys of their own.
fn plant(builder: &mut Builder, lines: &[&str]) {
    let text: String = lines
        .iter()
        .map(|line| {
            let parts: Vec<&str> = line.splitn(4, ' ').collect();
            let (process, op_type, f, value) = (parts[0], parts[1], parts[2], parts[3]);
            format!("{{:process {process}, :type :{op_type}, :f :{f}, :value {value}}}\n")
        })
        .collect();
    if text.is_empty() {
        return;
    }
    for op in interop::load_bytes("planted.edn", text.as_bytes(), None).unwrap().history.into_ops()
    {
        let process = 500_000_000 + op.process.client().unwrap();
        builder.push(process, op.op_type, op.f.as_str(), op.value);
    }
}

fn names(result: &CheckResult) -> Vec<String> {
    serde_json::from_value(result.details["error-types"].clone()).unwrap()
}

#[test]
fn a_system_that_keeps_its_promises_is_valid() {
    for seed in 0..cases(2_000) {
        let (keys, threads) = (1 + seed as usize % 3, 1 + seed as i64 % 4);
        let history = simulate(seed, keys, threads, 60).history();
        let result = check("kafka", json!({}), &history);
        let names = names(&result);
        let allowed = names.iter().all(|name| name == "int-send-skip");
        assert!(allowed, "seed {seed}: {}\n{}", result.reason, show(&history));
        assert_ne!(result.verdict, Verdict::Invalid, "seed {seed}: {}", result.reason);
    }
}

const SENT: [&str; 2] = [
    "0 invoke send [[:send :p 1] [:send :p 2] [:send :p 3]]",
    "0 ok send [[:send :p [0 1]] [:send :p [1 2]] [:send :p [2 3]]]",
];

/// What is planted behind [`SENT`], with which options, and what has to be found.
fn anomalies() -> Vec<(Vec<&'static str>, Json, Vec<&'static str>)> {
    let poll = |result: &'static str| vec!["1 invoke poll [[:poll]]", result];
    let all = "1 ok poll [[:poll {:p [[0 1] [1 2] [2 3]]}]]";
    let with = |more: &[&'static str]| {
        let mut lines = poll(all);
        lines.extend(more);
        lines
    };
    vec![
        (poll(all), json!({}), vec![]),
        (
            vec![
                "1 invoke poll [[:poll]]",
                "1 ok poll [[:poll {:p [[0 1]]}]]",
                "2 invoke poll [[:poll]]",
                "2 ok poll [[:poll {:p [[2 3]]}]]",
            ],
            json!({}),
            vec!["lost-write", "unseen"],
        ),
        (poll("1 ok poll [[:poll {:p [[0 1] [1 2]]}]]"), json!({}), vec!["unseen"]),
        (
            with(&["2 invoke poll [[:poll]]", "2 ok poll [[:poll {:p [[3 1]]}]]"]),
            json!({}),
            vec!["duplicate", "int-nonmonotonic-poll", "int-nonmonotonic-send"],
        ),
        (
            with(&[
                "3 invoke send [[:send :p 4]]",
                "3 ok send [[:send :p [2 4]]]",
                "4 invoke poll [[:poll]]",
                "4 ok poll [[:poll {:p [[nil 4]]}]]",
            ]),
            json!({}),
            vec!["inconsistent-offsets"],
        ),
        (
            with(&[
                "3 invoke send [[:send :p 4]]",
                "3 fail send [[:send :p 4]]",
                "1 invoke poll [[:poll]]",
                "1 ok poll [[:poll {:p [[5 4]]}]]",
            ]),
            json!({}),
            vec!["G1a"],
        ),
        (
            with(&[
                "3 invoke send [[:send :p 4]]",
                "3 fail send [[:send :p 4]]",
                "1 invoke poll [[:poll]]",
                "1 fail poll [[:poll {:p [[5 4]]}]]",
            ]),
            json!({}),
            vec!["aborted-read"],
        ),
        (
            with(&[
                "3 invoke txn [[:send :p 4] [:poll]]",
                "3 ok txn [[:send :p [3 4]] [:poll {:p [[3 4]]}]]",
            ]),
            json!({}),
            vec!["precommitted-read"],
        ),
        (
            with(&["1 invoke poll [[:poll]]", "1 ok poll [[:poll {:p [[3 9]]}]]"]),
            json!({}),
            vec!["phantom"],
        ),
        (
            with(&["2 invoke poll [[:poll]]", "2 ok poll [[:poll {:p [[0 1] [2 3]]}]]"]),
            json!({}),
            vec!["int-poll-skip"],
        ),
        (
            with(&["2 invoke poll [[:poll]]", "2 ok poll [[:poll {:p [[1 2] [0 1]]}]]"]),
            json!({}),
            vec!["int-nonmonotonic-poll"],
        ),
        (
            with(&[
                "2 invoke poll [[:poll]]",
                "2 ok poll [[:poll {:p [[0 1]]}]]",
                "2 invoke poll [[:poll]]",
                "2 ok poll [[:poll {:p [[2 3]]}]]",
            ]),
            json!({}),
            vec!["poll-skip"],
        ),
        (
            with(&["1 invoke poll [[:poll]]", "1 ok poll [[:poll {:p [[1 2]]}]]"]),
            json!({}),
            vec!["nonmonotonic-poll"],
        ),
        (
            vec![
                "3 invoke send [[:send :p 5] [:send :p 4]]",
                "3 ok send [[:send :p [4 5]] [:send :p [3 4]]]",
                "1 invoke poll [[:poll]]",
                "1 ok poll [[:poll {:p [[0 1] [1 2] [2 3] [3 4] [4 5]]}]]",
            ],
            json!({}),
            vec!["int-nonmonotonic-send"],
        ),
        (
            vec![
                "3 invoke send [[:send :p 5]]",
                "3 ok send [[:send :p [4 5]]]",
                "3 invoke send [[:send :p 4]]",
                "3 ok send [[:send :p [3 4]]]",
                "1 invoke poll [[:poll]]",
                "1 ok poll [[:poll {:p [[0 1] [1 2] [2 3] [3 4] [4 5]]}]]",
            ],
            json!({}),
            vec!["nonmonotonic-send"],
        ),
        (
            vec![
                "2 invoke assign [:p]",
                "2 ok assign [:p]",
                "2 invoke poll [[:poll]]",
                "2 ok poll [[:poll]]",
                "1 invoke poll [[:poll]]",
                all,
            ],
            json!({"realtime-lag-ms-max": 1}),
            vec!["stale-consumer"],
        ),
        (
            with(&[
                "3 invoke txn [[:send :q 1] [:poll]]",
                "4 invoke txn [[:send :r 1] [:poll]]",
                "3 ok txn [[:send :q [0 1]] [:poll {:r [[0 1]]}]]",
                "4 ok txn [[:send :r [0 1]] [:poll {:q [[0 1]]}]]",
            ]),
            json!({}),
            vec!["G1c"],
        ),
        (
            with(&[
                "3 invoke poll [[:poll]]",
                "3 ok poll [[:poll {:q [[0 1]]}]]",
                "4 invoke send [[:send :q 1]]",
                "4 ok send [[:send :q [0 1]]]",
            ]),
            json!({}),
            vec!["G1c-realtime"],
        ),
    ]
}

/// Anomalies that need the order of writes, in a history where those of other operations make none.
fn written() -> Vec<(Vec<&'static str>, Json, Vec<&'static str>)> {
    let end =
        ["1 invoke poll [[:poll]]", "1 ok poll [[:poll {:q [[0 1] [1 2]], :r [[0 2] [1 1]]}]]"];
    let crossed = [
        "3 invoke send [[:send :q 1] [:send :r 1]]",
        "4 invoke send [[:send :q 2] [:send :r 2]]",
        "3 ok send [[:send :q [0 1]] [:send :r [1 1]]]",
        "4 ok send [[:send :q [1 2]] [:send :r [0 2]]]",
    ];
    let late = [
        "3 invoke send [[:send :q 2] [:send :r 2]]",
        "3 ok send [[:send :q [1 2]] [:send :r [1 2]]]",
        "4 invoke send [[:send :q 1] [:send :r 1]]",
        "4 ok send [[:send :q [0 1]] [:send :r [0 1]]]",
    ];
    let skew = [
        "3 invoke send [[:send :q 1] [:send :r 2]]",
        "3 ok send [[:send :q [0 1]] [:send :r [0 2]]]",
        "4 invoke txn [[:poll] [:send :q 2]]",
        "5 invoke txn [[:poll] [:send :r 1]]",
        "4 ok txn [[:poll {:r [[0 2]]}] [:send :q [1 2]]]",
        "5 ok txn [[:poll {:q [[0 1]]}] [:send :r [1 1]]]",
    ];
    let single = [
        "3 invoke send [[:send :q 1] [:send :r 2]]",
        "3 ok send [[:send :q [0 1]] [:send :r [0 2]]]",
        "4 invoke send [[:send :q 2] [:send :r 1]]",
        "5 invoke poll [[:poll]]",
        "4 ok send [[:send :q [1 2]] [:send :r [1 1]]]",
        "5 ok poll [[:poll {:q [[0 1]], :r [[0 2] [1 1]]}]]",
    ];
    let late_end =
        ["1 invoke poll [[:poll]]", "1 ok poll [[:poll {:q [[0 1] [1 2]], :r [[0 1] [1 2]]}]]"];
    let behind = |lines: &[&'static str]| [lines, &end].concat();
    vec![
        (behind(&crossed), json!({"ww-deps": true}), vec!["G0"]),
        ([&late[..], &late_end].concat(), json!({"ww-deps": true}), vec!["G0-realtime"]),
        (behind(&skew), json!({"rw-deps": true}), vec!["G2"]),
        (behind(&single), json!({"rw-deps": true}), vec!["G-single"]),
    ]
}

#[test]
fn each_planted_anomaly_is_found_by_its_name() {
    // As many records as steps, and what is read at the end.
    for steps in [1, 2_000] {
        let base = simulate(7, 4, 5, steps);
        for (lines, options, wanted) in anomalies() {
            let lines = [&SENT[..], &lines].concat();
            let history = with_planted(&base, &lines);
            let result = check("kafka", options, &history);
            let mut found = names(&result);
            found.retain(|name| {
                !["int-send-skip", "stale-consumer"].contains(&name.as_str())
                    || wanted.contains(&name.as_str())
            });
            let mut wanted = wanted.clone();
            wanted.sort_unstable();
            assert_eq!(found, wanted, "{lines:?} in {steps} steps: {}", result.reason);
            let is_bad = result.verdict == Verdict::Invalid;
            assert_eq!(is_bad, !wanted.is_empty(), "{lines:?} in {steps} steps: {}", result.reason);
        }
    }
}

/// The lines of a plant with keys and processes of their own.
fn apart(lines: &[&str], number: usize) -> Vec<String> {
    let keys = ["p", "q", "r"];
    let renamed = |line: &&str| {
        let (process, rest) = line.split_once(' ').unwrap();
        let process = process.parse::<usize>().unwrap() + 10 * number;
        keys.iter().fold(format!("{process} {rest}"), |line, key| {
            let (spaced, closed) = (format!(":{key}{number} "), format!(":{key}{number}]"));
            line.replace(&format!(":{key} "), &spaced).replace(&format!(":{key}]"), &closed)
        })
    };
    lines.iter().map(renamed).collect()
}

#[test]
fn all_planted_anomalies_are_found_in_a_hundred_thousand_operations() {
    let base = simulate(7, 4, 5, 200_000);
    let plants: Vec<_> = anomalies()
        .into_iter()
        .filter(|(_, options, wanted)| *options == json!({}) && !wanted.is_empty())
        .collect();
    let every = base.ops.len() / (plants.len() + 1);
    let mut builder = Builder::default();
    let mut places = Vec::new();
    let mut rest = base.ops.chunks(every);
    for (number, (lines, _, wanted)) in plants.iter().enumerate() {
        builder.ops.extend_from_slice(rest.next().unwrap());
        let from = builder.ops.len() as u64;
        let lines = apart(&[&SENT[..], lines].concat(), number);
        plant(&mut builder, &lines.iter().map(String::as_str).collect::<Vec<_>>());
        places.push((wanted, from..builder.ops.len() as u64));
    }
    rest.for_each(|ops| builder.ops.extend_from_slice(ops));
    for (place, op) in (0..).zip(&mut builder.ops) {
        op.time_ns = place * 1_000_000;
    }
    let result = check("kafka", json!({}), &builder.history());
    let found: BTreeSet<String> =
        names(&result).into_iter().filter(|name| name != "int-send-skip").collect();
    let wanted: BTreeSet<String> =
        places.iter().flat_map(|(wanted, _)| wanted.iter().map(|name| (*name).into())).collect();
    assert_eq!((result.verdict, found), (Verdict::Invalid, wanted), "{}", result.reason);
    for (wanted, range) in places {
        for name in wanted {
            let mut named = result.anomalies.iter().filter(|anomaly| anomaly.name == *name);
            let here = named.any(|anomaly| anomaly.ops.iter().any(|at| range.contains(at)));
            assert!(here, "{name} in {range:?}: {}", result.reason);
        }
    }
}

#[test]
fn each_planted_cycle_of_writes_is_found_by_its_name() {
    for steps in [1, 500] {
        for (lines, options, wanted) in written() {
            let mut builder = Builder::default();
            plant(&mut builder, &lines);
            // Many like it elsewhere, without the cycle: one consumer that reads what one producer sends.
            for value in 0..steps * 100 {
                let key = value % 7;
                let offset = value / 7;
                let sent = |value: Value| Value::list(vec![send(key as usize, value)]);
                builder.done(100, "send", sent(int(value)), sent(pair(int(offset), int(value))));
                let read = BTreeMap::from([(key as usize, vec![(offset, value)])]);
                let empty = Value::list(vec![Value::list(vec![Value::sym("poll")])]);
                builder.done(101, "poll", empty, Value::list(vec![polled(&read)]));
            }
            let result = check("kafka", options, &builder.history());
            let mut found = names(&result);
            found.retain(|name| name.starts_with('G'));
            assert_eq!(found, wanted, "{lines:?}: {}", result.reason);
        }
    }
}
