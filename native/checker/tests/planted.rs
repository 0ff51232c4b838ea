//! Every violation that `bank`, `long-fork`, `counter`, `queue`, `total-queue`, `set-full` and `delivery` know,
//! planted in the middle of a history of a hundred thousand operations that has none: found by its name and no
//! other, with the records that show it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::VecDeque;
use std::ops::Range;

use common::{Builder, Random, check, int};
use fuzz_dist_core::{OpType, Value, Verdict, interop};
use serde_json::{Value as Json, json};

const OPERATIONS: i64 = 100_000;
/// A process that does nothing else.
const STRANGER: i64 = 77;

fn ints(numbers: impl IntoIterator<Item = i64>) -> Value {
    Value::list(numbers.into_iter().map(int).collect::<Vec<_>>())
}

/// Puts records into the middle of a history of operations that do not overlap, and tells where they are.
fn amid(base: &Builder, plant: impl FnOnce(&mut Builder)) -> (Builder, Range<u64>) {
    let mut planted = Builder::default();
    plant(&mut planted);
    let middle = base.ops.len() / 4 * 2;
    let mut ops = base.ops.clone();
    let rest = ops.split_off(middle);
    let range = middle as u64..(middle + planted.ops.len()) as u64;
    ops.append(&mut planted.ops);
    ops.extend(rest);
    for (place, op) in (0..).zip(&mut ops) {
        op.time_ns = place * 1_000_000;
    }
    (Builder { ops }, range)
}

#[track_caller]
fn holds(checker: &str, options: Json, builder: &Builder) {
    let history = builder.history();
    assert!(history.len() as i64 >= 2 * OPERATIONS - 2);
    let result = check(checker, options, &history);
    assert_eq!(result.verdict, Verdict::Valid, "{checker}: {}", result.reason);
}

/// Exactly one anomaly, of this name and key, shown by a record of the plant.
#[track_caller]
fn finds(
    checker: &str,
    options: Json,
    name: &str,
    key: Option<&str>,
    (builder, planted): &(Builder, Range<u64>),
) {
    let result = check(checker, options, &builder.history());
    let found: Vec<(&str, Option<&str>)> =
        result.anomalies.iter().map(|a| (a.name.as_str(), a.key.as_deref())).collect();
    assert_eq!(found, [(name, key)], "{checker}: {}", result.reason);
    assert_eq!(result.verdict, Verdict::Invalid);
    let ops = &result.anomalies[0].ops;
    assert!(ops.iter().any(|at| planted.contains(at)), "{name}: {ops:?} is not in {planted:?}");
}

#[test]
fn a_bank_that_loses_money() {
    const ACCOUNTS: usize = 8;
    let mut random = Random(1);
    let mut balances = [10i64; ACCOUNTS];
    let mut base = Builder::default();
    let map = |balances: &[i64]| Value::map((0..).map(int).zip(balances.iter().map(|b| int(*b))));
    for n in 0..OPERATIONS {
        if n % 2 == 0 {
            base.done(n % 10, "read", Value::Nil, map(&balances));
            continue;
        }
        let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
        let amount = (random.below(4) as i64).min(balances[from]);
        balances[from] -= amount;
        balances[to] += amount;
        let transfer = [("from", from as i64), ("to", to as i64), ("amount", amount)];
        let transfer = Value::map(transfer.map(|(name, n)| (Value::sym(name), int(n))));
        base.done(n % 10, "transfer", transfer.clone(), transfer);
    }
    holds("bank", json!({}), &base);
    let read = |value: Value| amid(&base, |plant| plant.done(STRANGER, "read", Value::Nil, value));
    let even = [10; ACCOUNTS];
    let mut short = even;
    short[3] = 9;
    finds("bank", json!({}), "wrong-total", None, &read(map(&short)));
    let mut overdrawn = even;
    (overdrawn[0], overdrawn[1]) = (-1, 21);
    finds("bank", json!({}), "negative-value", None, &read(map(&overdrawn)));
    let (overdrawn, _) = read(map(&overdrawn));
    holds("bank", json!({"negative-balances": true}), &overdrawn);
    finds("bank", json!({}), "unexpected-key", None, &read(map(&[10; ACCOUNTS + 1])));
    let nil = Value::map((0..8).map(|account| (int(account), Value::Nil)));
    finds("bank", json!({}), "nil-balance", None, &read(nil));
}

#[test]
fn two_reads_of_a_group_that_disagree() {
    let mop = |f: &str, key: i64, value: Value| Value::list(vec![Value::sym(f), int(key), value]);
    let read = |builder: &mut Builder, process, group: i64, seen: [bool; 2]| {
        let keys = [2 * group, 2 * group + 1];
        let asked: Vec<Value> = keys.iter().map(|key| mop("r", *key, Value::Nil)).collect();
        let value = |seen: bool| if seen { int(1) } else { Value::Nil };
        let told: Vec<Value> =
            keys.iter().zip(seen).map(|(key, seen)| mop("r", *key, value(seen))).collect();
        builder.done(process, "read", Value::list(asked), Value::list(told));
    };
    let write = |builder: &mut Builder, process, key: i64| {
        let value = Value::list(vec![mop("w", key, int(1))]);
        builder.done(process, "write", value.clone(), value);
    };
    let mut base = Builder::default();
    for group in 0..OPERATIONS / 5 {
        read(&mut base, 1, group, [false, false]);
        write(&mut base, 2, 2 * group);
        read(&mut base, 3, group, [true, false]);
        write(&mut base, 4, 2 * group + 1);
        read(&mut base, 5, group, [true, true]);
    }
    holds("long-fork", json!({}), &base);
    // Groups of the middle: the second write is seen without the first.
    for group in [OPERATIONS / 10 - 1, OPERATIONS / 10, 0] {
        let forked = amid(&base, |plant| read(plant, STRANGER, group, [false, true]));
        finds("long-fork", json!({}), "long-fork", None, &forked);
    }
}

#[test]
fn a_counter_that_is_read_wrong() {
    let mut base = Builder::default();
    let mut sum = 0;
    for n in 0..OPERATIONS {
        if n % 2 == 0 {
            base.done(n % 10, "add", int(n % 5), int(n % 5));
            sum += n % 5;
        } else {
            base.done(n % 10, "read", Value::Nil, int(sum));
        }
    }
    holds("counter", json!({}), &base);
    let middle: i64 = (0..OPERATIONS / 2).filter(|n| n % 2 == 0).map(|n| n % 5).sum();
    let read =
        |value: i64| amid(&base, |plant| plant.done(STRANGER, "read", Value::Nil, int(value)));
    let (right, _) = read(middle);
    holds("counter", json!({}), &right);
    for value in [middle - 1, middle + 1, 0, sum] {
        finds("counter", json!({}), "out-of-bounds", None, &read(value));
    }
}

/// Elements in, and out again ten later; at the end all that are left.
fn queue(drains: bool) -> Builder {
    let mut builder = Builder::default();
    let mut inside = VecDeque::new();
    for n in 0..OPERATIONS / 2 {
        builder.done(n % 5, "enqueue", int(n), int(n));
        inside.push_back(n);
        let taken = if inside.len() > 10 { inside.pop_front() } else { None };
        builder.done(5 + n % 5, "dequeue", Value::Nil, taken.map_or(Value::Nil, int));
    }
    if drains {
        builder.done(9, "drain", Value::Nil, ints(inside));
    }
    builder
}

#[test]
fn a_queue_that_gives_what_it_does_not_hold() {
    let base = queue(false);
    holds("queue", json!({}), &base);
    let take = |element: i64| {
        amid(&base, |plant| plant.done(STRANGER, "dequeue", Value::Nil, int(element)))
    };
    // Never enqueued, taken before, and enqueued only at the end, when nobody takes it any more.
    for element in [-1, 17, OPERATIONS / 2 - 1] {
        let key = element.to_string();
        finds("queue", json!({}), "unexpected", Some(&key), &take(element));
    }
}

#[test]
fn a_queue_that_does_not_give_all_back() {
    let base = queue(true);
    holds("total-queue", json!({"duplicates": "forbid"}), &base);
    let lost = amid(&base, |plant| plant.done(STRANGER, "enqueue", int(-1), int(-1)));
    finds("total-queue", json!({}), "lost", Some("-1"), &lost);
    let take = |element: i64| {
        amid(&base, |plant| plant.done(STRANGER, "dequeue", Value::Nil, int(element)))
    };
    finds("total-queue", json!({}), "unexpected", Some("-2"), &take(-2));
    let twice = take(17);
    holds("total-queue", json!({}), &twice.0);
    let result = check("total-queue", json!({"duplicates": "forbid"}), &twice.0.history());
    assert_eq!((result.verdict, &*result.anomalies[0].name), (Verdict::Invalid, "duplicated"));
    assert_eq!(result.anomalies[0].key.as_deref(), Some("17"));
    assert_eq!((result.anomalies.len(), result.counts["duplicated-count"]), (1, 1));
}

#[test]
fn a_set_that_forgets_and_invents() {
    const READS: i64 = 4;
    let every = OPERATIONS / READS;
    let mut base = Builder::default();
    // Elements that were added before each read.
    let mut reads: Vec<i64> = Vec::new();
    for n in 0..OPERATIONS {
        if n % every == every - 1 {
            base.done(n % 10, "read", Value::Nil, ints((0..n).filter(|n| n % every < every - 1)));
            reads.push(n);
        } else {
            base.done(n % 10, "add", int(n), int(n));
        }
    }
    holds("set-full", json!({"linearizable": true}), &base);
    let last_reads = |count: usize, change: &dyn Fn(&mut Vec<i64>)| {
        let mut builder = base.clone();
        let mut planted = 0..0;
        for n in reads.iter().rev().take(count) {
            let at = 2 * *n as usize + 1;
            let items = builder.ops[at].value.items().unwrap();
            let mut elements: Vec<i64> = items.iter().map(|e| e.as_int().unwrap()).collect();
            change(&mut elements);
            builder.ops[at].value = ints(elements);
            planted = at as u64..at as u64 + 1;
        }
        (builder, planted)
    };
    let forget = |element: i64| move |all: &mut Vec<i64>| all.retain(|n| *n != element);
    let lost = last_reads(1, &forget(777));
    finds("set-full", json!({}), "lost", Some("777"), &lost);
    // Known from its own acknowledgement on, and never seen.
    let unseen = last_reads(2, &forget(OPERATIONS / 2 + 5));
    let result = check("set-full", json!({}), &unseen.0.history());
    assert_eq!(result.anomalies[0].name, "lost", "{}", result.reason);
    assert_eq!(result.anomalies[0].key.as_deref(), Some("50005"));
    let twice = last_reads(1, &|all| all.push(3));
    finds("set-full", json!({}), "duplicate", Some("3"), &twice);
    let invented = last_reads(1, &|all| all.push(-5));
    finds("set-full", json!({}), "unexpected", Some("-5"), &invented);
    let stale = amid(&base, |plant| {
        let known = (0..OPERATIONS / 2).filter(|n| n % every < every - 1 && *n != 777);
        plant.done(STRANGER, "read", Value::Nil, ints(known));
    });
    holds("set-full", json!({}), &stale.0);
    finds("set-full", json!({"linearizable": true}), "stale", Some("777"), &stale);
}

/// Messages of five producers, each taken and acknowledged; at the end the queue is found empty.
fn deliveries() -> Builder {
    let mut builder = Builder::default();
    let mut sequence = [0; 5];
    for n in 0..OPERATIONS / 3 + 1 {
        let producer = (n % 5) as usize;
        let name = Value::sym(["a", "b", "c", "d", "e"][producer]);
        let sent = Value::list(vec![int(n), name.clone(), int(sequence[producer])]);
        let got = Value::list(vec![int(n), name, int(sequence[producer]), Value::Bool(false)]);
        sequence[producer] += 1;
        builder.done(n % 5, "publish", sent.clone(), sent);
        let consumer = 10 + n % 3;
        builder.done(consumer, "get", Value::Nil, got);
        builder.done(consumer, "ack", int(n), int(n));
    }
    builder.done(20, "drain", Value::Nil, ints([]));
    builder
}

/// Adds `process f value -> result` of processes and messages of their own.
fn say(plant: &mut Builder, lines: &[&str]) {
    for line in lines {
        let parts: Vec<&str> = line.splitn(3, ' ').collect();
        let (asked, told) = parts[2].split_once(" -> ").unwrap_or((parts[2], parts[2]));
        let edn = |text: &str| interop::parse_edn_value(text).unwrap();
        let process = 100 + parts[0].parse::<i64>().unwrap();
        plant.push(process, OpType::Invoke, parts[1], edn(asked));
        plant.push(process, OpType::Ok, parts[1], edn(told));
    }
}

#[test]
fn a_queue_that_does_not_deliver_as_promised() {
    let base = deliveries();
    let strict = json!({"delivery": "exactly-once", "redelivered-flag": true});
    holds("delivery", strict, &base);
    let once = || json!({"delivery": "exactly-once"});
    let flagged = || json!({"redelivered-flag": true});
    let plants: &[(&str, Json, &[&str])] = &[
        ("lost", json!({}), &["0 publish -1"]),
        ("phantom", json!({}), &["1 get nil -> -1", "1 ack -1"]),
        ("stuck", json!({}), &["0 publish -1", "1 get nil -> -1", "1 crash nil"]),
        ("duplicated", once(), &["0 publish -1", "1 get nil -> -1", "2 get nil -> -1", "1 ack -1"]),
        (
            "reordered",
            json!({}),
            &[
                "0 publish -1",
                "0 publish -2",
                "1 get nil -> -2",
                "1 ack -2",
                "1 get nil -> -1",
                "1 ack -1",
            ],
        ),
        (
            "redelivered-after-settle",
            json!({}),
            &["0 publish -1", "1 get nil -> -1", "1 ack -1", "2 get nil -> -1", "2 ack -1"],
        ),
        (
            "redelivered-flag-wrong",
            flagged(),
            &[
                "0 publish [-1 :p 0]",
                "1 get nil -> [-1 :p 0 false]",
                "1 nack -1",
                "2 get nil -> [-1 :p 0 false]",
                "2 ack -1",
            ],
        ),
    ];
    for (name, options, lines) in plants {
        let planted = amid(&base, |plant| say(plant, lines));
        finds("delivery", options.clone(), name, Some("-1"), &planted);
    }
}

#[test]
fn subscribers_that_disagree() {
    const SUBSCRIBERS: [i64; 2] = [10, 11];
    let topic = |id: i64| {
        let pairs = [("id", int(id)), ("topic", Value::sym("t"))];
        Value::map(pairs.map(|(name, value)| (Value::sym(name), value)))
    };
    let one = |id: i64| Value::list(vec![topic(id)]);
    let topics = Value::list(vec![Value::sym("t")]);
    // In the middle two messages that overlap, which subscribers get in these orders.
    let history = |orders: [[i64; 2]; 2]| {
        let mut builder = Builder::default();
        for subscriber in SUBSCRIBERS {
            builder.done(subscriber, "subscribe", topics.clone(), topics.clone());
        }
        let mut planted = 0..0;
        for n in 0..OPERATIONS / 3 {
            if n == OPERATIONS / 6 {
                let from = builder.ops.len() as u64;
                for id in [-1, -2] {
                    builder.invoke(100 - id, "publish", topic(id));
                }
                for id in [-1, -2] {
                    builder.ok(100 - id, "publish", topic(id));
                }
                for (subscriber, order) in SUBSCRIBERS.iter().zip(orders) {
                    for id in order {
                        builder.done(*subscriber, "receive", Value::Nil, one(id));
                    }
                }
                planted = from..builder.ops.len() as u64;
            }
            builder.done(n % 5, "publish", topic(n), topic(n));
            for subscriber in SUBSCRIBERS {
                builder.done(subscriber, "receive", Value::Nil, one(n));
            }
        }
        for subscriber in SUBSCRIBERS {
            builder.done(subscriber, "drain", Value::Nil, ints([]));
        }
        (builder, planted)
    };
    let options = || json!({"mode": "pubsub", "ordering": "per-topic"});
    holds("delivery", options(), &history([[-1, -2], [-1, -2]]).0);
    holds("delivery", options(), &history([[-2, -1], [-2, -1]]).0);
    let (builder, planted) = history([[-1, -2], [-2, -1]]);
    let result = check("delivery", options(), &builder.history());
    let names: Vec<&str> = result.anomalies.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["divergent-order"], "{}", result.reason);
    assert!(
        result.anomalies[0].ops.iter().all(|at| planted.contains(at)),
        "{:?}",
        result.anomalies
    );
}
