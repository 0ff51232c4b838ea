//! `pn-counter` against every subset of additions, and planted anomalies.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{History, OpType, Sym, Value, Verdict};
use serde_json::json;

/// Whether some subset of `optional` added to `certain` gives `value`.
fn possible(certain: i64, optional: &[i64], value: i64) -> bool {
    (0..1u32 << optional.len()).any(|mask| {
        let chosen = (0..optional.len()).filter(|i| mask >> i & 1 == 1);
        certain + chosen.map(|i| optional[i]).sum::<i64>() == value
    })
}

/// `None` where convergence was not tested.
fn oracle(history: &History, monotonic: bool) -> Option<bool> {
    let pairs: Vec<_> = history.client_pairs().collect();
    let outcome = |c: &Option<&fuzz_dist_core::Op>| c.map_or(OpType::Info, |c| c.op_type);
    let delta = |op: &fuzz_dist_core::Op| {
        let n = op.value.as_int().unwrap_or(1);
        if op.f == "decrement" { -n } else { n }
    };
    let mut valid = true;
    let mut finals: Vec<i64> = Vec::new();
    for (read, done) in pairs.iter().filter(|(i, c)| i.f == "read" && outcome(c) == OpType::Ok) {
        let done = done.unwrap();
        let value = done.value.as_int().unwrap();
        let is_final = read.extra("final?").is_some();
        let (mut own, mut others) = (0, Vec::new());
        let (mut certain, mut open) = (0, Vec::new());
        for (add, completion) in pairs.iter().filter(|(i, _)| i.f != "read") {
            let outcome = outcome(completion);
            if outcome == OpType::Fail || add.index > done.index {
                continue;
            }
            let before = outcome == OpType::Ok && completion.unwrap().index < read.index;
            if add.process == read.process && before {
                own += delta(add);
            } else {
                others.push(delta(add));
            }
            if before {
                certain += delta(add);
            } else {
                open.push(delta(add));
            }
        }
        valid &= possible(own, &others, value);
        if is_final {
            valid &= possible(certain, &open, value);
            finals.push(value);
        }
        if monotonic {
            let mut earlier = pairs.iter().filter(|(i, c)| {
                i.f == "read"
                    && i.process == read.process
                    && outcome(c) == OpType::Ok
                    && c.unwrap().index < done.index
            });
            let last = earlier.next_back().map(|(_, c)| c.unwrap().value.as_int().unwrap());
            valid &= last.is_none_or(|last| value.abs() >= last.abs());
        }
    }
    valid &= finals.windows(2).all(|pair| pair[0] == pair[1]);
    if valid && finals.is_empty() { None } else { Some(valid) }
}

/// A counter on replicas: each process reads its own replica, which gets the others' additions late.
fn run(random: &mut Random, operations: usize, defect: usize) -> History {
    let mut builder = Builder::default();
    let processes = 1 + random.below(3);
    let mut names: Vec<i64> = (0..processes as i64).collect();
    let mut replicas = vec![0i64; processes];
    let mut queues: Vec<Vec<i64>> = vec![Vec::new(); processes];
    let node = |p: usize| Some(Sym::new(&format!("n{p}")));
    for _ in 0..operations {
        let p = random.below(processes);
        if random.chance(50) && !queues[p].is_empty() {
            let place = random.below(queues[p].len());
            let delta = queues[p].remove(place);
            replicas[p] += delta;
        }
        if random.chance(40) {
            builder.invoke(names[p], "read", Value::Nil).node = node(p);
            let lie = if random.chance(defect) { 1 } else { 0 };
            builder.ok(names[p], "read", int(replicas[p] + lie)).node = node(p);
            continue;
        }
        let (f, amount) = (["increment", "decrement"][random.below(2)], random.below(6) as i64);
        let delta = if f == "decrement" { -amount } else { amount };
        builder.invoke(names[p], f, int(amount)).node = node(p);
        let applied = match random.below(8) {
            0 => {
                builder.fail(names[p], f, int(amount)).node = node(p);
                false
            }
            1 => {
                builder.info(names[p], f, int(amount)).node = node(p);
                names[p] += processes as i64;
                random.chance(50)
            }
            _ => {
                builder.ok(names[p], f, int(amount)).node = node(p);
                true
            }
        };
        if applied {
            replicas[p] += delta;
            for (q, queue) in queues.iter_mut().enumerate() {
                if q != p && !random.chance(defect) {
                    queue.push(delta);
                }
            }
        }
    }
    if random.chance(90) {
        for p in 0..processes {
            replicas[p] += queues[p].iter().sum::<i64>();
            let extra = std::sync::Arc::new(vec![(Sym::new("final?"), Value::Bool(true))]);
            builder.invoke(names[p], "read", Value::Nil).extra = Some(extra);
            builder.ok(names[p], "read", int(replicas[p])).node = node(p);
        }
    }
    builder.history()
}

#[test]
fn agrees_with_trying_every_subset() {
    let mut seen = [0u64; 3];
    for case in 0..cases(10_000) {
        let mut random = Random(case);
        let operations = random.below(12);
        let defect = [0, 0, 15][random.below(3)];
        let history = run(&mut random, operations, defect);
        let monotonic = random.chance(20);
        let expected = match oracle(&history, monotonic) {
            None => Verdict::Unknown,
            Some(true) => Verdict::Valid,
            Some(false) => Verdict::Invalid,
        };
        let result = check("pn-counter", json!({"monotonic": monotonic}), &history);
        assert_eq!(result.verdict, expected, "case {case}: {}\n{}", result.reason, show(&history));
        assert_eq!(result.anomalies.is_empty(), expected != Verdict::Invalid);
        seen[expected as usize] += 1;
    }
    assert!(seen.iter().all(|n| *n > 100), "every verdict was tried: {seen:?}");
}

fn final_read(builder: &mut Builder, process: i64, node: &str, value: i64) {
    builder.invoke(process, "final-read", Value::Nil).node = Some(Sym::new(node));
    builder.ok(process, "final-read", int(value)).node = Some(Sym::new(node));
}

#[test]
fn a_lost_addition_is_suspected_by_its_size() {
    let mut builder = Builder::default();
    for n in [1_001, 2_002, 4_004] {
        builder.done(0, "increment", int(n), int(n));
    }
    final_read(&mut builder, 0, "n1", 1_001 + 4_004);
    final_read(&mut builder, 1, "n2", 1_001 + 4_004);
    let result = check("pn-counter", json!({}), &builder.history());
    assert_eq!(result.verdict, Verdict::Invalid);
    let first = &result.anomalies[0];
    assert_eq!(first.name, "final-value-not-possible");
    assert!(first.text.contains("2002") && first.text.contains("lost"), "{}", first.text);
    assert!(first.ops.contains(&2), "the suspected addition");
}

#[test]
fn final_reads_must_agree_and_be_there_on_every_node() {
    let mut builder = Builder::default();
    builder.invoke(0, "increment", int(5)).node = Some(Sym::new("n1"));
    builder.info(0, "increment", int(5)).node = Some(Sym::new("n1"));
    builder.invoke(1, "increment", int(1)).node = Some(Sym::new("n2"));
    builder.ok(1, "increment", int(1)).node = Some(Sym::new("n2"));
    let mut missing = builder.clone();
    final_read(&mut missing, 2, "n1", 1);
    let result = check("pn-counter", json!({}), &missing.history());
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains("n2"), "{}", result.reason);

    let mut differ = missing.clone();
    // Each alone is possible: the indeterminate addition may have happened. Together they are not.
    final_read(&mut differ, 3, "n2", 6);
    let result = check("pn-counter", json!({}), &differ.history());
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies[0].name, "final-reads-not-equal");
}

#[test]
fn many_sparse_indeterminate_additions_are_decided() {
    let mut builder = Builder::default();
    for n in 0..40 {
        builder.invoke(n, "increment", int(3i64.pow(n as u32 % 38)));
        builder.info(n, "increment", int(3i64.pow(n as u32 % 38)));
    }
    let last = |value: i64| {
        let mut builder = builder.clone();
        final_read(&mut builder, 100, "n1", value);
        check("pn-counter", json!({}), &builder.history())
    };
    // The first two powers of three are there twice.
    assert_eq!(last(8).verdict, Verdict::Valid);
    let result = last(26);
    assert_eq!(result.verdict, Verdict::Invalid, "{}", result.reason);
    assert!(result.reason.len() < 600, "{}", result.reason);
}

/// Three replicas to which additions of great, different amounts spread; one throws away what was
/// acknowledged for a while before it is killed.
fn thrown_away(operations: usize) -> (History, Vec<i64>) {
    let mut random = Random(4);
    let mut builder = Builder::default();
    let mut sum = 0i64;
    let mut lost = Vec::new();
    let node = |p: usize| Some(Sym::new(&format!("n{}", p % 3 + 1)));
    for i in 0..operations {
        let p = random.below(9);
        if random.chance(30) {
            builder.invoke(p as i64, "read", Value::Nil).node = node(p);
            builder.ok(p as i64, "read", int(sum)).node = node(p);
            continue;
        }
        let amount = 10_000 + random.below(1_000_000) as i64;
        builder.invoke(p as i64, "increment", int(amount)).node = node(p);
        if random.chance(2) {
            builder.info(p as i64, "increment", int(amount)).node = node(p);
            continue;
        }
        builder.ok(p as i64, "increment", int(amount)).node = node(p);
        sum += amount;
        if i + 60 > operations {
            lost.push(amount);
        }
    }
    let kept = sum - lost.iter().sum::<i64>();
    builder.fault("fault-start", 3, "halt");
    builder.fault("fault-observed", 3, "halt");
    builder.fault("fault-healed", 3, "halt");
    builder.invoke(50, "read", Value::Nil).node = node(0);
    builder.ok(50, "read", int(kept)).node = node(0);
    for (process, name) in [(51, "n1"), (52, "n2"), (53, "n3")] {
        final_read(&mut builder, process, name, kept);
    }
    (builder.history(), lost)
}

#[test]
fn what_a_final_read_lacks_is_explained_at_once() {
    let (history, lost) = thrown_away(3_000);
    let started = std::time::Instant::now();
    let result = check("pn-counter", json!({}), &history);
    let elapsed = started.elapsed();
    assert_eq!(result.verdict, Verdict::Invalid, "{}", result.reason);
    let first = &result.anomalies[0];
    assert_eq!(first.name, "final-value-not-possible");
    let wanted = format!("{} additions, acknowledged after it, are missing", lost.len());
    assert!(first.text.contains(&wanted), "{}", first.text);
    assert!(first.text.contains("the first read that went back"), "{}", first.text);
    assert!(first.text.contains("#3 halt"), "{}", first.text);
    assert!(!first.text.contains("ranges") && first.text.len() < 900, "{}", first.text);
    // As a ratio, since machines differ: a third of the history takes at least a thirtieth of the time.
    let (short, _) = thrown_away(1_000);
    let started = std::time::Instant::now();
    check("pn-counter", json!({}), &short);
    let short = started.elapsed();
    assert!(elapsed < 30 * short, "{elapsed:?} against {short:?}");
}

#[test]
fn shapes_of_loss_are_told_apart() {
    let amounts = [101, 1_003, 10_007, 100_003, 1_000_003];
    let of = |value: i64| {
        let mut builder = Builder::default();
        for amount in amounts {
            builder.done(0, "increment", int(amount), int(amount));
        }
        final_read(&mut builder, 1, "n1", value);
        let result = check("pn-counter", json!({}), &builder.history());
        assert_eq!(result.verdict, Verdict::Invalid, "{value}");
        result.anomalies[0].text.clone()
    };
    assert!(of(1_104).contains("everything acknowledged until"), "{}", of(1_104));
    assert!(of(1_110_013).contains("everything acknowledged from"), "{}", of(1_110_013));
    assert!(of(0).contains("nothing that was acknowledged is in it"), "{}", of(0));
    let sum: i64 = amounts.iter().sum();
    assert!(of(sum - 10_007).contains("the addition of 10007 (record 4) was lost"));
    assert!(of(sum + 1_003).contains("the addition of 1003 (record 2) was applied twice"));
    let two = of(sum - 1_003 - 100_003);
    assert!(two.contains("the additions of 1003, 100003"), "{two}");
    assert!(of(sum - 1).contains("1 too little"), "{}", of(sum - 1));
}

#[test]
fn what_is_no_counter_is_unknown() {
    let mut builder = Builder::default();
    builder.done(0, "increment", Value::str("much"), Value::Nil);
    let result = check("pn-counter", json!({}), &builder.history());
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains("record 0"), "{}", result.reason);
}
