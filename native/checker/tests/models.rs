//! The models of `linearizable` against trying every order with objects written out plainly.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{CheckResult, History, OpType, Value, Verdict};
use serde_json::json;

/// An object as one would write it, with the answer to each operation.
#[derive(Clone, Debug, PartialEq)]
enum Object {
    Mutex(bool),
    Set(BTreeSet<i64>),
    Fifo(VecDeque<i64>),
    Bag(Vec<i64>),
    Registers(BTreeMap<i64, i64>),
    Text(String),
    Counter(i64),
    Versioned(i64, i64),
}

impl Object {
    /// Performs an operation; `None` if it cannot be performed now.
    fn perform(&mut self, f: &str, argument: &Value) -> Option<Value> {
        match (self, f) {
            (Object::Mutex(held), "acquire") => {
                (!std::mem::replace(held, true)).then_some(Value::Nil)
            }
            (Object::Mutex(held), _) => std::mem::replace(held, false).then_some(Value::Nil),
            (Object::Set(set), "add") => {
                set.insert(argument.as_int()?);
                Some(argument.clone())
            }
            (Object::Set(set), "remove") => {
                set.remove(&argument.as_int()?);
                Some(argument.clone())
            }
            (Object::Set(set), _) => Some(Value::set(set.iter().copied().map(int))),
            (Object::Fifo(queue), "enqueue") => {
                queue.push_back(argument.as_int()?);
                Some(argument.clone())
            }
            (Object::Fifo(queue), _) => Some(queue.pop_front().map_or(Value::Nil, int)),
            (Object::Bag(bag), "enqueue") => {
                bag.push(argument.as_int()?);
                bag.sort_unstable();
                Some(argument.clone())
            }
            (Object::Bag(bag), _) => bag.pop().map(int),
            (Object::Registers(registers), _) => {
                let done = argument.items()?.iter().map(|micro_op| {
                    let [f, key, value] = micro_op.items()? else { return None };
                    let key_int = key.as_int()?;
                    if f.as_text() == Some("write") {
                        registers.insert(key_int, value.as_int()?);
                        return Some(micro_op.clone());
                    }
                    let read = int(registers.get(&key_int).copied().unwrap_or(0));
                    Some(Value::list(vec![f.clone(), key.clone(), read]))
                });
                Some(Value::list(done.collect::<Option<Vec<_>>>()?))
            }
            (Object::Counter(n), "read") => Some(int(*n)),
            (Object::Counter(n), f) => {
                let amount = argument.as_int().unwrap_or(1);
                *n += if f == "decrement" { -amount } else { amount };
                Some(argument.clone())
            }
            (Object::Versioned(version, value), "read") => {
                Some(Value::list(vec![int(*version), int(*value)]))
            }
            (Object::Versioned(version, value), f) => {
                let (_, told) = argument.key_and_value()?;
                let new = match (f, told.key_and_value()) {
                    ("cas", Some((old, new))) if old.as_int()? == *value => new,
                    ("cas", _) => return None,
                    _ => told,
                };
                (*version, *value) = (*version + 1, new.as_int()?);
                Some(Value::list(vec![int(*version), told.clone()]))
            }
            (Object::Text(text), "get") => Some(Value::str(text.clone())),
            (Object::Text(text), "put") => {
                *text = argument.as_text()?.to_owned();
                Some(argument.clone())
            }
            (Object::Text(text), _) => {
                text.push_str(argument.as_text()?);
                Some(argument.clone())
            }
        }
    }

    /// Whether it can have answered that now; leaves it as it is afterwards.
    fn answers(&self, f: &str, argument: &Value, result: Option<&Value>) -> Option<Object> {
        let mut after = self.clone();
        if let (Object::Bag(bag), "dequeue", Some(Value::Int(n))) = (&mut after, f, result) {
            // It may take any element.
            let place = bag.iter().position(|element| element == n)?;
            bag.remove(place);
            return Some(after);
        }
        let answer = after.perform(f, argument)?;
        (result.is_none_or(|result| *result == answer)).then_some(after)
    }
}

#[derive(Clone)]
struct OracleOp {
    f: String,
    argument: Value,
    result: Option<Value>,
    invoke: usize,
    ret: usize,
}

fn oracle_ops(history: &History) -> Vec<OracleOp> {
    history
        .client_pairs()
        .filter(|(_, c)| c.is_none_or(|c| c.op_type != OpType::Fail))
        .map(|(i, c)| {
            let ok = c.filter(|c| c.op_type == OpType::Ok);
            OracleOp {
                f: i.f.to_string(),
                argument: i.value.clone(),
                result: ok.map(|c| c.value.clone()),
                invoke: i.index as usize,
                ret: ok.map_or(usize::MAX, |c| c.index as usize),
            }
        })
        .collect()
}

fn oracle(ops: &[OracleOp], object: &Object) -> bool {
    if ops.iter().all(|op| op.result.is_none()) {
        return true;
    }
    (0..ops.len()).any(|i| {
        let op = &ops[i];
        if ops.iter().any(|other| other.ret < op.invoke) {
            return false;
        }
        let mut rest = ops.to_vec();
        rest.remove(i);
        if let (Object::Bag(bag), "dequeue", None) = (object, op.f.as_str(), &op.result) {
            return (0..bag.len()).any(|place| {
                let mut bag = bag.clone();
                bag.remove(place);
                oracle(&rest, &Object::Bag(bag))
            });
        }
        let after = object.answers(&op.f, &op.argument, op.result.as_ref());
        after.is_some_and(|after| oracle(&rest, &after))
    })
}

fn draw(random: &mut Random, object: &Object) -> (&'static str, Value) {
    let n = int(random.below(3) as i64);
    match object {
        Object::Mutex(_) => (["acquire", "release"][random.below(2)], Value::Nil),
        Object::Set(_) => match random.below(4) {
            0 => ("remove", n),
            1 => ("read", Value::Nil),
            _ => ("add", n),
        },
        Object::Fifo(_) | Object::Bag(_) => match random.below(2) {
            0 => ("enqueue", n),
            _ => ("dequeue", Value::Nil),
        },
        Object::Registers(_) => {
            let micro_op = |random: &mut Random| {
                let key = int(random.below(2) as i64);
                match random.below(2) {
                    0 => Value::list(vec![Value::sym("read"), key, Value::Nil]),
                    _ => {
                        let value = int(random.below(3) as i64);
                        Value::list(vec![Value::sym("write"), key, value])
                    }
                }
            };
            let count = 1 + random.below(2);
            ("txn", Value::list((0..count).map(|_| micro_op(random)).collect::<Vec<_>>()))
        }
        Object::Counter(_) => match random.below(5) {
            0 | 1 => ("read", Value::Nil),
            2 => ("increment", [Value::Nil, int(2)][random.below(2)].clone()),
            3 => ("decrement", int(1 + random.below(2) as i64)),
            _ => ("add", int(random.below(5) as i64 - 2)),
        },
        Object::Versioned(..) => {
            let of = |value| Value::list(vec![Value::Nil, value]);
            match random.below(3) {
                0 => ("read", of(Value::Nil)),
                1 => ("write", of(n)),
                _ => ("cas", of(Value::list(vec![n, int(random.below(3) as i64)]))),
            }
        }
        Object::Text(_) => match random.below(3) {
            0 => ("get", Value::Nil),
            1 => ("put", Value::str(["a", "b"][random.below(2)])),
            _ => ("append", Value::str(["x", "y"][random.below(2)])),
        },
    }
}

/// Processes on one object that acts at a random moment; some answers are swapped for others.
fn run(random: &mut Random, initial: &Object, operations: usize, lies: usize) -> History {
    let mut object = initial.clone();
    let mut builder = Builder::default();
    let processes = 1 + random.below(4);
    let mut names: Vec<i64> = (0..processes as i64).collect();
    type Open = (&'static str, Value, Option<Option<Value>>);
    let mut open: Vec<Option<Open>> = vec![None; processes];
    let mut answers: Vec<(&'static str, Value)> = Vec::new();
    let mut left = operations;
    while left > 0 || open.iter().any(Option::is_some) {
        let p = random.below(processes);
        match open[p].take() {
            None if left > 0 => {
                left -= 1;
                let (f, argument) = draw(random, &object);
                builder.invoke(names[p], f, argument.clone());
                open[p] = Some((f, argument, None));
            }
            None => {}
            Some((f, argument, None)) => {
                let mut after = object.clone();
                let answer = after.perform(f, &argument);
                if answer.is_some() {
                    object = after;
                }
                if random.chance(15) && answer.is_some() {
                    builder.info(names[p], f, argument);
                    names[p] += processes as i64;
                    continue;
                }
                let mut answer = answer;
                let others: Vec<&Value> =
                    answers.iter().filter(|(g, _)| *g == f).map(|(_, v)| v).collect();
                let observes = matches!(f, "read" | "dequeue" | "get");
                if random.chance(lies) && !others.is_empty() && observes {
                    answer = Some(others[random.below(others.len())].clone());
                }
                open[p] = Some((f, argument, Some(answer)));
            }
            Some((f, argument, Some(answer))) => match answer {
                Some(answer) => {
                    answers.push((f, answer.clone()));
                    builder.ok(names[p], f, answer);
                }
                None => {
                    builder.fail(names[p], f, argument);
                }
            },
        }
    }
    builder.history()
}

/// Checks as usual, and with one of the algorithms by turns; the usual result.
fn decided(
    mut options: serde_json::Value,
    history: &History,
    expected: bool,
    what: &str,
) -> CheckResult {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let algorithms = ["depth-first", "breadth-first", "search"];
    let turn = TURN.fetch_add(1, Ordering::Relaxed) % algorithms.len();
    let verdict = if expected { Verdict::Valid } else { Verdict::Invalid };
    let [result, _] = ["auto", algorithms[turn]].map(|algorithm| {
        options["algorithm"] = algorithm.into();
        let result = check("linearizable", options.clone(), history);
        let reason = &result.reason;
        assert_eq!(result.verdict, verdict, "{what}, {algorithm}: {reason}\n{}", show(history));
        assert_eq!(result.anomalies.is_empty(), expected, "{what}, {algorithm}: {reason}");
        result
    });
    result
}

fn compare(model: &str, options: serde_json::Value, initial: Object, both: bool) {
    let mut seen = [0u64; 2];
    for case in 0..cases(4_000) {
        let mut random = Random(case);
        let operations = 1 + random.below(8);
        let lies = [0, 70][random.below(2)];
        let history = run(&mut random, &initial, operations, lies);
        let expected = oracle(&oracle_ops(&history), &initial);
        let result = decided(options.clone(), &history, expected, &format!("{model} case {case}"));
        if !expected {
            let kept: Vec<OracleOp> = oracle_ops(&history)
                .into_iter()
                .filter(|op| result.anomalies[0].ops.contains(&(op.invoke as u64)))
                .collect();
            assert!(!oracle(&kept, &initial), "{}\n{}", result.anomalies[0].text, show(&history));
        }
        seen[usize::from(expected)] += 1;
    }
    assert!(seen[1] > 100 && (seen[0] > 50 || !both), "{model}: both answers were tried: {seen:?}");
}

#[test]
fn mutex_agrees() {
    // An acquire has no result to lie about, so answers are exchanged between failure and success.
    let mut seen = [0u64; 2];
    for case in 0..cases(4_000) {
        let mut random = Random(case);
        let operations = 1 + random.below(8);
        let history = run(&mut random, &Object::Mutex(false), operations, 0);
        let mut ops = history.into_ops();
        for op in &mut ops {
            if op.op_type == OpType::Fail && random.chance(30) {
                op.op_type = OpType::Ok;
                op.value = Value::Nil;
            }
        }
        let history = History::new(ops).unwrap();
        let expected = oracle(&oracle_ops(&history), &Object::Mutex(false));
        decided(json!({"model": "mutex"}), &history, expected, &format!("case {case}"));
        seen[usize::from(expected)] += 1;
    }
    assert!(seen.iter().all(|n| *n > 100), "{seen:?}");
}

#[test]
fn set_agrees() {
    compare("set", json!({"model": "set"}), Object::Set(BTreeSet::new()), true);
}

#[test]
fn fifo_queue_agrees() {
    compare("fifo-queue", json!({"model": "fifo-queue"}), Object::Fifo(VecDeque::new()), true);
}

#[test]
fn unordered_queue_agrees() {
    compare("unordered-queue", json!({"model": "unordered-queue"}), Object::Bag(Vec::new()), true);
}

#[test]
fn multi_register_agrees() {
    let options = json!({"model": "multi-register", "initial": {}});
    // With an initial state of no registers, a read of what nobody wrote cannot be; so all are written.
    let mut seen = [0u64; 2];
    for case in 0..cases(4_000) {
        let mut random = Random(case);
        let initial = Object::Registers([(0, 0), (1, 0)].into());
        let operations = 1 + random.below(7);
        let mut builder = Builder::default();
        let first = Value::list(
            [0, 1].map(|k| Value::list(vec![Value::sym("write"), int(k), int(0)])).to_vec(),
        );
        builder.done(99, "txn", first.clone(), first);
        builder.ops.extend(run(&mut random, &initial, operations, 0).into_ops());
        if random.chance(50) {
            let place = random.below(builder.ops.len());
            if let Some(items) = builder.ops[place].value.items().map(<[Value]>::to_vec) {
                let spoiled = items.into_iter().map(|micro_op| {
                    let parts = micro_op.items().unwrap().to_vec();
                    let is_read = parts[0].as_text() == Some("read") && !parts[2].is_nil();
                    let value = if is_read { int(2) } else { parts[2].clone() };
                    Value::list(vec![parts[0].clone(), parts[1].clone(), value])
                });
                builder.ops[place].value = Value::list(spoiled.collect::<Vec<_>>());
            }
        }
        let history = builder.history();
        let expected = oracle(&oracle_ops(&history), &initial);
        for options in [&options, &json!({"model": "multi-register"})] {
            decided(options.clone(), &history, expected, &format!("case {case}"));
        }
        seen[usize::from(expected)] += 1;
    }
    assert!(seen.iter().all(|n| *n > 100), "{seen:?}");
}

#[test]
fn map_agrees() {
    let keyed = |value: &Value| Value::list(vec![int(1), value.clone()]);
    let mut seen = [0u64; 2];
    for case in 0..cases(4_000) {
        let mut random = Random(case);
        let initial = Object::Text(String::new());
        let operations = 1 + random.below(7);
        let lies = [0, 70][random.below(2)];
        let plain = run(&mut random, &initial, operations, lies);
        let expected = oracle(&oracle_ops(&plain), &initial);
        let mut ops = plain.clone().into_ops();
        for op in &mut ops {
            op.value = keyed(&op.value);
        }
        let history = History::new(ops).unwrap();
        let result =
            decided(json!({"model": "map"}), &history, expected, &format!("map case {case}"));
        if !expected {
            let is_kept = |op: &OracleOp| result.anomalies[0].ops.contains(&(op.invoke as u64));
            let kept: Vec<OracleOp> = oracle_ops(&plain).into_iter().filter(is_kept).collect();
            assert!(!oracle(&kept, &initial), "{}\n{}", result.anomalies[0].text, show(&plain));
        }
        seen[usize::from(expected)] += 1;
    }
    assert!(seen.iter().all(|n| *n > 100), "{seen:?}");
}

#[test]
fn counter_agrees() {
    let options = json!({"model": "counter", "initial": -3});
    compare("counter", options, Object::Counter(-3), true);
}

#[test]
fn versioned_register_agrees() {
    let options = json!({"model": "versioned-register", "initial": [0, 0]});
    compare("versioned-register", options, Object::Versioned(0, 0), true);
}

/// Appends and gets of several clients on one text, as Porcupine's key-value tests have them: without a
/// put, states that cannot be part of what is seen are left at once.
#[test]
fn texts_that_only_grow_agree() {
    let mut seen = [0u64; 2];
    for case in 0..cases(2_000) {
        let mut random = Random(case);
        let initial = Object::Text(String::new());
        let operations = 2 + random.below(6);
        let lies = [0, 60][random.below(2)];
        let mut ops = run(&mut random, &initial, operations, lies).into_ops();
        // A put that does nothing but append would be another object.
        ops.retain(|op| op.f.as_str() != "put");
        let plain = History::new(ops).unwrap();
        let expected = oracle(&oracle_ops(&plain), &initial);
        let mut ops = plain.into_ops();
        for op in &mut ops {
            op.value = Value::list(vec![int(1), op.value.clone()]);
        }
        let history = History::new(ops).unwrap();
        decided(json!({"model": "map"}), &history, expected, &format!("text case {case}"));
        seen[usize::from(expected)] += 1;
    }
    assert!(seen.iter().all(|n| *n > 100), "{seen:?}");
}
