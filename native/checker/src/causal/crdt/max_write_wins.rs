//! `max-write-wins`: registers of numbers in which the greatest value written wins.
//!
//! Numbers of all kinds are compared by their size, and replaced by their rank among all of the history.
//! After nurturenature's checker of the same name. No order has to be searched: the greatest value that a
//! transaction must have seen of each key is known from its past, so it carries a row of them, joined from the
//! session's last transaction and from every one it read from. A read below the row is wrong, and the row
//! knows why: `monotonic-reads` (the session read more), `read-your-writes-monotonic-writes` (it wrote more),
//! `writes-follow-reads` (somebody it read from knew more). O(n·keys). A transaction reads from one snapshot.
//!
//! Convergence: final reads agree on every key that they share (`divergent-final-reads`), and none is below the
//! greatest value that had been written or read for sure before it began (`final-below-max`). Values that
//! nobody wrote are `read-unwritten-write`, those of failed transactions `G1a`.

use fuzz_dist_core::number::Number;
use fuzz_dist_core::{Anomaly, History, OpType, Value};

use crate::budget::Meter;
use crate::causal::crdt::finals::{self, Finals};
use crate::causal::crdt::{Answer, Found, ambiguous, only_reads, txns_at};
use crate::causal::evidence::{Teller, Visibility};
use crate::causal::graph::Graph;
use crate::causal::inferred::StaleInitial;
use crate::causal::pool::Pool;
use crate::causal::reads::{self, Rules, records};
use crate::causal::shapes::NotRegisters;
use crate::causal::txns::{INITIAL, NONE, Txns, UNRESOLVED};
use crate::elle::findings::Findings;
use crate::elle::txns::shown;

/// The rank of the initial state.
const NOTHING: u32 = 0;
/// Why a value is expected.
const NAMES: [&str; 3] =
    ["monotonic-reads", "read-your-writes-monotonic-writes", "writes-follow-reads"];
const READ: u8 = 0;
const WROTE: u8 = 1;
const FOLLOWED: u8 = 2;
/// How many transactions between two looks at the clock.
const TXNS_PER_LOOK: usize = 1 << 10;

/// The greatest value known of a key.
#[derive(Debug, Clone, Copy)]
struct Known {
    value: u32,
    writer: u32,
    why: u8,
}

impl Default for Known {
    fn default() -> Known {
        Known { value: NOTHING, writer: NONE, why: READ }
    }
}

/// Decides it.
pub fn check(history: &History, meter: &Meter) -> Answer {
    let mut txns = Txns::new(history)?;
    let mut findings = Findings::default();
    let rules = Rules { initial: Value::Nil, max_wins: true };
    let ambiguity = reads::resolve(&mut txns, &rules, &mut findings, meter)?;
    // With several writes of a key, the greatest stays, whichever was the last.
    findings.0.remove("G1b");
    if let Some(unwritten) = findings.0.remove("thin-air-read") {
        let mut unwritten = unwritten;
        for anomaly in &mut unwritten.shown {
            anomaly.name = "read-unwritten-write".into();
        }
        findings.0.insert("read-unwritten-write", unwritten);
    }
    txns.arrange();
    let values = Ranks::new(&txns)?;
    match Graph::new(&txns, txns.count(), &[]).sorted() {
        Some(order) => walk(&txns, &values, &order, &mut findings, meter)?,
        None => findings.add("cyclic-causality", || Anomaly {
            text: "session order and reads-from form a cycle".into(),
            ops: cycle(&txns),
            ..Anomaly::default()
        }),
    }
    let finals = finals::find(history, only_reads);
    converge(&txns, &values, &finals, &mut findings);
    let ok = txns.list.iter().filter(|txn| txn.outcome == OpType::Ok).count();
    Ok(Found {
        findings,
        finals,
        open: ambiguous(&ambiguity),
        what: format!("{ok} transactions on {} keys are in causal order", txns.key_count()),
        counts: vec![("transactions-ok", ok as u64), ("keys", txns.key_count() as u64)],
    })
}

fn cycle(txns: &Txns) -> Vec<u64> {
    let graph = Graph::new(txns, txns.count(), &[]);
    let component = graph.components().into_iter().min_by_key(Vec::len).unwrap_or_default();
    records(txns, &graph.short_cycle(&component))
}

/// The numbers of a history by rank; the initial state, nil, is less than all.
struct Ranks<'a> {
    /// By event.
    ranks: Vec<u32>,
    /// By rank.
    numbers: Vec<Number<'a>>,
}

impl<'a> Ranks<'a> {
    fn new(txns: &Txns<'a>) -> Result<Ranks<'a>, NotRegisters> {
        let by_event = numbers(txns)?;
        let mut numbers: Vec<Number> = Number::or_nil(&Value::Nil).into_iter().collect();
        numbers.extend(&by_event);
        numbers.sort_unstable();
        numbers.dedup();
        let rank = |number: &Number| numbers.partition_point(|other| other < number) as u32;
        Ok(Ranks { ranks: by_event.iter().map(rank).collect(), numbers })
    }

    fn shown(&self, rank: u32) -> Number<'a> {
        self.numbers[rank as usize]
    }
}

fn numbers<'a>(txns: &Txns<'a>) -> Result<Vec<Number<'a>>, NotRegisters> {
    let number = |(at, value): (usize, &&'a Value)| {
        Number::or_nil(value).ok_or_else(|| {
            let txn = (0..txns.count()).find(|txn| txns.events_range(*txn).contains(&at));
            let index = txn.map_or(0, |txn| txns.record(txn));
            let f = txns.history.ops()[index as usize].f.to_string();
            let hint = "; max-write-wins is for numbers";
            NotRegisters::UnknownShape { index, f, value: shown(value), hint }
        })
    };
    txns.values.iter().enumerate().map(number).collect()
}

fn walk(
    txns: &Txns,
    values: &Ranks,
    order: &[u32],
    findings: &mut Findings,
    meter: &Meter,
) -> Result<(), crate::budget::Exhausted> {
    let mut rows: Pool<Known> = Pool::new(txns, txns.key_count());
    let mut row = vec![Known::default(); txns.key_count()];
    let mut missed = Vec::new();
    for (done, number) in order.iter().enumerate() {
        let txn = &txns.list[*number as usize];
        if !txn.happened {
            continue;
        }
        if done % TXNS_PER_LOOK == 0 {
            meter.check_time()?;
            meter.check_memory(rows.bytes())?;
        }
        match txn.before {
            NONE => row.fill(Known::default()),
            before => row.copy_from_slice(rows.of(before)),
        }
        for source in txns.events_of(*number).iter().filter_map(|event| event.read_from()) {
            for (mine, theirs) in row.iter_mut().zip(rows.of(source)) {
                if theirs.value > mine.value {
                    *mine = Known { why: FOLLOWED, ..*theirs };
                }
            }
        }
        for at in txns.events_range(*number) {
            let event = txns.events[at];
            let known = &mut row[event.key() as usize];
            let value = values.ranks[at];
            if event.is_write() {
                if value > known.value {
                    *known = Known { value, writer: *number, why: WROTE };
                }
            } else if event.source != UNRESOLVED {
                if value < known.value {
                    missed.push((*number, event.key(), value, *known));
                } else if let Some(writer) = event.read_from() {
                    *known = Known { value, writer, why: READ };
                }
            }
        }
        rows.release_sources(txns, *number);
        rows.keep(*number, &row);
    }
    drop(rows);
    tell(txns, values, &missed, findings);
    Ok(())
}

fn tell(txns: &Txns, values: &Ranks, missed: &[(u32, u32, u32, Known)], findings: &mut Findings) {
    if missed.is_empty() {
        return;
    }
    let teller = Teller::new(txns, Visibility::Causal);
    for (reader, key, value, known) in missed {
        let name = NAMES[usize::from(known.why)];
        findings.add(name, || {
            let text = format!(
                "record {} read {} = {}, but had to read {} or more, written by record {}:",
                teller.record(*reader),
                teller.key(*key),
                values.shown(*value),
                values.shown(known.value),
                teller.record(known.writer)
            );
            let missed = StaleInitial { reader: *reader, key: *key, writer: known.writer };
            teller.missed(name, text, &missed)
        });
    }
}

fn converge(txns: &Txns, values: &Ranks, finals: &Finals, findings: &mut Findings) {
    let final_txns = txns_at(txns, &finals.reads);
    let settled = txns_at(txns, &finals.settled);
    let Some(first_final) = final_txns.iter().map(|txn| txns.list[*txn as usize].invoke).min()
    else {
        return;
    };
    // By key: the greatest value that was certain before any final read began, and who showed it.
    let mut greatest = vec![(NOTHING, NONE); txns.key_count()];
    for number in 0..txns.count() {
        let txn = &txns.list[number as usize];
        if txn.outcome == OpType::Ok && txn.complete < first_final {
            for at in txns.events_range(number) {
                let event = &txns.events[at];
                let greatest = &mut greatest[event.key() as usize];
                let counts = event.is_write() || !matches!(event.source, UNRESOLVED | INITIAL);
                if counts && values.ranks[at] > greatest.0 {
                    *greatest = (values.ranks[at], number);
                }
            }
        }
    }
    let mut agreed = vec![(0, NONE); txns.key_count()];
    for reader in &final_txns {
        for at in txns.events_range(*reader).filter(|at| !txns.events[*at].is_write()) {
            let key = txns.events[at].key();
            let about = |name: &'static str, text: String, other: u32| Anomaly {
                name: name.into(),
                key: Some(txns.key(key).to_string()),
                text,
                ops: records(txns, &[other, *reader]),
                ..Anomaly::default()
            };
            let read = |txn: u32, value: u32| {
                let process = txns.process(txn);
                let value = values.shown(value);
                format!("record {} (process {process}) read {value}", txns.record(txn))
            };
            let (max, shower) = greatest[key as usize];
            if values.ranks[at] < max {
                findings.add("final-below-max", || {
                    let text = format!(
                        "the final {} of {}, but record {} shows that {} had been written",
                        read(*reader, values.ranks[at]),
                        shown(txns.key(key)),
                        txns.record(shower),
                        values.shown(max)
                    );
                    about("final-below-max", text, shower)
                });
            }
            if !settled.contains(reader) {
                continue;
            }
            let (value, other) = &mut agreed[key as usize];
            if *other == NONE {
                (*value, *other) = (values.ranks[at], *reader);
            } else if *value != values.ranks[at] {
                findings.add("divergent-final-reads", || {
                    let text = format!(
                        "final reads of {} differ: {}, {}",
                        shown(txns.key(key)),
                        read(*other, *value),
                        read(*reader, values.ranks[at])
                    );
                    about("divergent-final-reads", text, *other)
                });
            }
        }
    }
}
