//! Every kind of fault on real nodes: applied, seen, healed, seen healed, and nothing left behind; and the same with a
//! kill -9 in the middle of it.
//!
//! [`rows`] is the table, [`bed`] the clusters in which its rows are tried, [`left_behind`] what a run could leave,
//! [`kills`] who is killed, [`refused`] what is no fault at all. All need the compiled client library (`mix compile` in `elixir_client`).
//!
//! `FUZZ_DIST_MATRIX=hold` tries only rows with that in their names (`link hold`), `FUZZ_DIST_LONG=1` kills everybody in
//! the middle of every fault.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod bed;
mod kills;
mod left_behind;
mod refused;
mod rows;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fuzz_dist_core::fault::{FaultKind, Plane};
use fuzz_dist_core::{Op, OpType, Value};
use fuzz_dist_runner::nemesis::planes;

use bed::{Placed, Plan, Show, Turn};
use common::live::{PATIENCE, code};
use rows::{Bed, ROWS, Row, beds};

#[test]
fn every_kind_has_a_row() {
    let kinds: BTreeSet<(Plane, &str)> =
        FaultKind::samples().iter().map(|kind| (kind.plane(), kind.name())).collect();
    let rows: BTreeSet<(Plane, &str)> = ROWS.iter().map(|row| (row.plane, row.kind)).collect();
    let missing: Vec<_> = kinds.difference(&rows).collect();
    assert!(missing.is_empty(), "kinds without a row in matrix/rows.rs: {missing:?}");
    let unknown: Vec<_> = rows.difference(&kinds).collect();
    assert!(unknown.is_empty(), "rows of kinds that there are not: {unknown:?}");
    assert_eq!(rows.len(), ROWS.len(), "a kind has two rows");
}

/// The rows of a bed that can be had on this machine; of the others is said why not.
fn available(bed: Bed) -> Vec<&'static Row> {
    let wanted = std::env::var("FUZZ_DIST_MATRIX").unwrap_or_default();
    let of_bed = ROWS.iter().filter(|row| row.bed == bed && row.name().contains(&wanted));
    let had = of_bed.filter(|row| {
        let plan = Plan::held(row, 1000, 2000);
        let spec = plan.parsed();
        match planes::availability(&spec.nemesis.faults[0].kind, Some(&spec)).unavailable() {
            // Its file is compiled when a run is prepared.
            Some(reason) if row.kind != "load-module" => {
                println!("skipped: {}: {reason}", row.name());
                false
            }
            _ => true,
        }
    });
    had.collect()
}

/// Does something for each of these at the same time; panics with all that went wrong.
fn side_by_side<T: Sync>(all: &[T], name: impl Fn(&T) -> String + Sync, act: impl Fn(&T) + Sync) {
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let (name, act) = (&name, &act);
        let running: Vec<_> = all
            .iter()
            .map(|one| {
                scope.spawn(move || {
                    let _turn = Turn::take();
                    let done = catch_unwind(AssertUnwindSafe(|| act(one)));
                    done.err().map(|panic| format!("{}: {}", name(one), said(&*panic)))
                })
            })
            .collect();
        running.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {} failed:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[test]
fn every_fault_is_applied_seen_healed_and_seen_healed() {
    let beds: Vec<(Bed, Vec<&Row>)> = beds()
        .into_iter()
        .map(|bed| (bed, available(bed)))
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    side_by_side(&beds, |(bed, _)| format!("{bed:?}"), try_all);
}

/// How much longer faults last that a busy machine did not get round to show: each time, those that are left.
const PATIENT: [u64; 3] = [1, 4, 12];

/// Tries the rows of a bed until each of them has shown all that it should.
fn try_all((bed, rows): &(Bed, Vec<&'static Row>)) {
    let mut left = rows.clone();
    for times in PATIENT {
        let wrong = try_once(&Plan::of_bed(*bed, &left, times));
        if wrong.is_empty() {
            println!("{bed:?}: {} kinds of fault", rows.len());
            return;
        }
        let again: Vec<&str> = wrong.iter().map(|(_, text)| text.as_str()).collect();
        println!(
            "{bed:?}: not seen of faults {times} times as long as needed:\n{}",
            again.join("\n")
        );
        left = wrong.into_iter().map(|(row, _)| row).collect();
    }
    panic!("{bed:?}: not seen, however long they lasted: {left:#?}");
}

/// A run with these faults: which of them did not show, and what was missing. Nothing of it may be left.
fn try_once(plan: &Plan) -> Vec<(&'static Row, String)> {
    let mut show = plan.run();
    show.await_main();
    let end = Duration::from_millis(plan.time_limit_ms) + PATIENCE * 3;
    let began = Instant::now();
    // Nodes that are started again have other processes and sockets.
    while !show.live.has_ended() {
        assert!(began.elapsed() < end, "the run does not end: {}", show.live.said());
        show.marks.look(&show.live);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(show.marks.has_namespaces(), plan.bed == Bed::Bridged);
    let (status, said) = show.live.end();
    show.read();
    let answered = nothing_is_held(plan, &show, &said);
    assert!(matches!(code(status), Ok(0 | 2)), "{status:?}: {said}");
    show.marks.assert_nothing_left(&show.live);
    let problem = |placed: &Placed| {
        let silent = (!answered).then(|| "not every node answered in the end".to_owned());
        problem(&show, placed).or(silent).map(|text| (placed.row, text))
    };
    let wrong: Vec<_> = plan.faults.iter().filter_map(problem).collect();
    if wrong.is_empty() {
        assert_eq!(code(status), Ok(0), "{said}");
    }
    wrong
}

/// What the history lacks of a fault, if anything.
fn problem(show: &Show, placed: &Placed) -> Option<String> {
    let Placed { row, id, .. } = placed;
    let wrong = |text: String| Some(format!("{} (fault {id}): {text}", row.name()));
    let mut last = i64::MIN;
    for (f, wanted) in [
        ("fault-start", ""),
        ("fault-applied", ""),
        ("fault-observed", row.seen),
        ("fault-healed", ""),
        ("fault-heal-observed", row.healed),
    ] {
        let Some(op) = show.told(f, *id) else {
            return wrong(format!("no {f}; {}", all_told(show, *id)));
        };
        let effect = op.value.get("effect").and_then(Value::as_text).unwrap_or_default();
        if !effect.contains(wanted) {
            return wrong(format!("{f} says {effect:?}, not {wanted:?}"));
        }
        // An effect that shows only when it is over is told after the heal.
        let late = row.shows_late && f == "fault-observed";
        if op.time_ns < last && !late {
            return wrong(format!("{f} is told too early"));
        }
        last = if late { last } else { op.time_ns };
    }
    None
}

fn all_told(show: &Show, id: u32) -> String {
    let id = Value::Int(i64::from(id));
    let of_fault = show.ops.iter().filter(|op| op.value.get("id") == Some(&id));
    of_fault.map(Op::to_string).collect::<Vec<_>>().join("; ")
}

/// Each node was asked in the end which of its processes are at work for a fault: none. Whether all have answered.
fn nothing_is_held(plan: &Plan, show: &Show, said: &str) -> bool {
    let asked = show.ops.iter().filter(|op| op.f.as_str() == "held");
    let answers: Vec<&Op> = asked.filter(|op| op.op_type == OpType::Ok).collect();
    for answer in &answers {
        assert_eq!(answer.value.items(), Some(&[][..]), "leases are left: {answer}\n{said}");
    }
    answers.len() == plan.nodes
}
