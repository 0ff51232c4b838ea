//! `lww-register`: registers whose last write wins, where later means later in real time.
//!
//! Timestamps that go with happens-before and with real time (clocks as good as the time between two writes,
//! one of which ends before the other begins) give one order of all writes. So there must be an order with
//! session order, reads-from, what Causal Consistency implies, and for each key the order in time of its
//! writes. If causality alone fails, it is told by its own name (`causality-violation`, `cyclic-causality` and
//! those of single reads); if only time makes the cycle, it is `G0-realtime`, as nurturenature's checker calls a
//! last write that did not win.
//!
//! Convergence: final reads of a key agree (`divergent-final-reads`); what they return comes after every
//! write that had succeeded (else `G0-realtime`), and is not the initial state if there was one
//! (`final-read-missing-write`). O(n·k), memory linear.

use fuzz_dist_core::{Anomaly, History, OpType, Value};

use crate::budget::Meter;
use crate::causal::crdt::finals::{self, Finals};
use crate::causal::crdt::{Answer, Found, ambiguous, only_reads, txns_at};
use crate::causal::evidence::{Teller, Visibility};
use crate::causal::graph::Graph;
use crate::causal::happens_before;
use crate::causal::reads::{self, Rules, records};
use crate::causal::registers::{broken, is_broken, tell};
use crate::causal::txns::{INITIAL, NONE, Txns};
use crate::elle::findings::Findings;
use crate::elle::txns::shown;

/// Decides it.
pub fn check(history: &History, meter: &Meter) -> Answer {
    let mut txns = Txns::new(history)?;
    let mut findings = Findings::default();
    let rules = Rules { initial: Value::Nil, max_wins: false };
    let ambiguity = reads::resolve(&mut txns, &rules, &mut findings, meter)?;
    txns.arrange();
    let finals = finals::find(history, only_reads);
    let order = Graph::new(&txns, txns.count(), &[]).sorted();
    let (name, visibility, inferred, vertices) = match order {
        None => ("cyclic-causality", Visibility::Order, Default::default(), txns.count()),
        Some(order) => {
            let mut inferred = happens_before::infer(&mut txns, &order, meter)?;
            if is_broken(&txns, txns.count(), &inferred) {
                ("causality-violation", Visibility::Causal, inferred, txns.count())
            } else {
                let vertices = in_time(&txns, &mut inferred.edges);
                after_all(&txns, &finals, &mut inferred.edges);
                ("G0-realtime", Visibility::InTime, inferred, vertices)
            }
        }
    };
    if name == "cyclic-causality" || is_broken(&txns, vertices, &inferred) {
        let broken = broken(&txns, vertices, &inferred);
        tell(&mut findings, name, &Teller::new(&txns, visibility), &broken);
    }
    converge(&txns, &finals, &mut findings);
    let ok = txns.list.iter().filter(|txn| txn.outcome == OpType::Ok).count();
    Ok(Found {
        findings,
        finals,
        open: ambiguous(&ambiguity),
        what: format!("the last write wins in {ok} transactions on {} keys", txns.key_count()),
        counts: vec![("transactions-ok", ok as u64), ("keys", txns.key_count() as u64)],
    })
}

/// Adds the order in time of the writes of each key: whoever began after others ended comes after a helper
/// that they come before, and after the helper before that. Gives the number of vertices.
fn in_time(txns: &Txns, edges: &mut Vec<(u32, u32)>) -> u32 {
    // By time: (position, transaction); an invocation or the completion of one that succeeded.
    let mut moments: Vec<(u32, u32)> = Vec::new();
    for (number, txn) in (0..).zip(&txns.list).filter(|(_, txn)| txn.happened) {
        moments.push((txn.invoke, number));
        if txn.outcome == OpType::Ok {
            moments.push((txn.complete, number));
        }
    }
    moments.sort_unstable();
    let mut vertices = txns.count();
    // By key: those that ended since the last helper, and that helper.
    let mut ended: Vec<(Vec<u32>, u32)> = vec![(Vec::new(), NONE); txns.key_count()];
    for (at, number) in moments {
        let begins = txns.list[number as usize].invoke == at;
        for key in txns.keys_written(number) {
            let (since, helper) = &mut ended[key as usize];
            if !begins {
                since.push(number);
                continue;
            }
            if !since.is_empty() {
                edges.extend(since.drain(..).map(|earlier| (vertices, earlier)));
                if *helper != NONE {
                    edges.push((vertices, *helper));
                }
                *helper = vertices;
                vertices += 1;
            }
            if *helper != NONE {
                edges.push((number, *helper));
            }
        }
    }
    vertices
}

/// What a final read returned comes after every write of the key that had succeeded before.
fn after_all(txns: &Txns, finals: &Finals, edges: &mut Vec<(u32, u32)>) {
    let mut writers: Vec<Vec<u32>> = vec![Vec::new(); txns.key_count()];
    for (number, txn) in (0..).zip(&txns.list).filter(|(_, txn)| txn.outcome == OpType::Ok) {
        if finals.settled.iter().any(|read| *read > txn.complete) {
            txns.keys_written(number).for_each(|key| writers[key as usize].push(number));
        }
    }
    // Reads that agree say the same.
    let mut told = std::collections::HashSet::new();
    for reader in txns_at(txns, &finals.settled) {
        for event in txns.events_of(reader) {
            let Some(t1) = event.read_from().filter(|t1| told.insert((event.key(), *t1))) else {
                continue;
            };
            let others = writers[event.key() as usize].iter().filter(|t2| **t2 != t1);
            edges.extend(others.map(|t2| (t1, *t2)));
        }
    }
}

fn converge(txns: &Txns, finals: &Finals, findings: &mut Findings) {
    // By key: a write that succeeded; and who read it last of all, and where.
    let mut written = vec![NONE; txns.key_count()];
    for number in (0..txns.count()).filter(|n| txns.list[*n as usize].outcome == OpType::Ok) {
        txns.keys_written(number).for_each(|key| written[key as usize] = number);
    }
    let mut agreed = vec![(NONE, 0usize); txns.key_count()];
    for reader in txns_at(txns, &finals.settled) {
        for at in txns.events_range(reader).filter(|at| !txns.events[*at].is_write()) {
            let event = &txns.events[at];
            let key = shown(txns.key(event.key()));
            let anomaly = |other: u32, text: String| Anomaly {
                key: Some(key.clone()),
                text,
                ops: records(txns, &[other, reader]),
                ..Anomaly::default()
            };
            let writer = written[event.key() as usize];
            if event.source == INITIAL && writer != NONE {
                findings.add("final-read-missing-write", || {
                    let text = format!(
                        "the final read of record {} returned the initial state of {key}, but record {} had \
                         written it",
                        txns.record(reader),
                        txns.record(writer)
                    );
                    anomaly(writer, text)
                });
            }
            let (other, place) = &mut agreed[event.key() as usize];
            if *other == NONE {
                (*other, *place) = (reader, at);
            } else if txns.values[*place] != txns.values[at] {
                findings.add("divergent-final-reads", || {
                    let text = format!(
                        "final reads of {key} differ: {} at record {}, {} at record {}",
                        shown(txns.values[*place]),
                        txns.record(*other),
                        shown(txns.values[at]),
                        txns.record(reader)
                    );
                    anomaly(*other, text)
                });
            }
        }
    }
}
