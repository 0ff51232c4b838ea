//! A kill -9 while a fault is seen to be applied: of the core, of the plane, of the guard, of the node that the fault is
//! about.
//!
//! Without core, plane or guard a run is over: nothing may be left of it, and what was recorded can be analysed. A run
//! that loses a node goes on: the fault is healed, the node comes back, and the exit code is one that is documented.
//! A node that is down while its fault lasts is killed when it comes back.
//!
//! By default each plane has every victim once, each with another of its kinds; with `FUZZ_DIST_LONG` every kind has
//! every victim.

use std::time::{Duration, Instant};

use fuzz_dist_core::fault::Plane;
use fuzz_dist_core::{Op, OpType, Value};
use nix::sys::signal::Signal;

use super::bed::{Plan, Show, is_of};
use super::common::live::{CLEAN_MAX, PATIENCE, code, wait_until};
use super::rows::{Node, Row, beds};
use super::{all_told, available, side_by_side};

/// How often a machine that is busy with other things may have another try at being quick.
const TRIES: u32 = 3;

/// Longer than any of these runs.
const HELD_MS: u64 = 300_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Core,
    Plane,
    Guard,
    Node,
}

const VICTIMS: [Victim; 4] = [Victim::Core, Victim::Plane, Victim::Guard, Victim::Node];

/// Each kind with each victim; fewer by default.
fn cases() -> Vec<(&'static Row, Victim)> {
    let had: Vec<&Row> = beds().into_iter().flat_map(available).collect();
    let long = std::env::var_os("FUZZ_DIST_LONG").is_some_and(|value| !value.is_empty());
    let mut cases = Vec::new();
    for plane in Plane::ALL {
        let rows: Vec<&Row> = had.iter().copied().filter(|row| row.plane == *plane).collect();
        for (i, victim) in VICTIMS.into_iter().enumerate().filter(|_| !rows.is_empty()) {
            // Spread over the kinds of the plane.
            let one = rows[i * rows.len() / VICTIMS.len()];
            let of_victim = if long { &rows[..] } else { &[one][..] };
            cases.extend(of_victim.iter().map(|row| (*row, victim)));
        }
    }
    cases
}

#[test]
fn nothing_is_left_after_a_kill_in_the_middle_of_a_fault() {
    let cases = cases();
    side_by_side(
        &cases,
        |(row, victim)| format!("{} and {victim:?}", row.name()),
        |(row, victim)| match victim {
            Victim::Node => lose_node(row),
            part => lose_part(row, *part),
        },
    );
    println!("{} kills", cases.len());
}

/// Waits until the effect of the fault is in the history.
fn await_effect(show: &mut Show, row: &Row) {
    let f = if row.shows_late { "fault-applied" } else { "fault-observed" };
    let seen = show.await_record(&format!("{f} of {}", row.name()), |op| {
        is_of(op, f, 1) || is_of(op, "fault-failed", 1)
    });
    assert_eq!(seen.f.as_str(), f, "{}: {seen}", row.name());
}

/// Kills a part of ours; in the end everything is gone, and soon.
fn lose_part(row: &'static Row, victim: Victim) {
    let mut took = Vec::new();
    for _ in 0..TRIES {
        let clean = until_clean(row, victim);
        println!("{} and {victim:?}: nothing left after {:.2} s", row.name(), clean.as_secs_f64());
        if clean <= CLEAN_MAX {
            return;
        }
        took.push(clean);
    }
    panic!("nothing is left, but only after {took:?}");
}

/// Kills a part of ours; how long it takes until nothing is left.
fn until_clean(row: &'static Row, victim: Victim) -> Duration {
    let mut show = Plan::held(row, HELD_MS, HELD_MS + 10_000).run();
    await_effect(&mut show, row);
    show.marks.look(&show.live);
    let cast = show.marks.cast();
    let pid = match victim {
        Victim::Core => show.live.core_pid(),
        Victim::Plane => cast.plane.pid,
        _ => cast.guard.pid,
    };
    let began = Instant::now();
    show.live.kill(pid, Signal::SIGKILL);
    let clean = show.marks.until_clean(&mut show.live, began);
    let (status, said) = show.live.end();
    show.marks.assert_nothing_left(&show.live);
    let expected = match victim {
        Victim::Core => Err(Some(Signal::SIGKILL as i32)),
        _ => Ok(255),
    };
    assert_eq!(code(status), expected, "{said}");
    show.live.assert_analysable();
    clean
}

/// Whether this is the start of that node.
fn is_start(op: &Op, node: &str) -> bool {
    op.f.as_str() == "node-started" && op.node.is_some_and(|of| of.as_str() == node)
}

/// Kills the BEAM that the fault is about.
fn lose_node(row: &'static Row) {
    let lasts_ms = if row.node == Node::IsDown { 1000 } else { 5000 };
    let mut show = Plan::held(row, lasts_ms, 8000).run();
    await_effect(&mut show, row);
    let chosen = show.told("fault-applied", 1).and_then(|op| op.value.get("node").cloned());
    let node = chosen.as_ref().and_then(Value::as_text).unwrap_or("n1").to_owned();
    let starts = if row.node == Node::IsDown { 2 } else { 1 };
    let mut started = Vec::new();
    wait_until("the node", PATIENCE, || {
        started = show.read().iter().filter(|op| is_start(op, &node)).cloned().collect();
        started.len() >= starts
    });
    let pid = started.last().and_then(|op| op.value.get("os-pid")).and_then(Value::as_int).unwrap();
    show.marks.look(&show.live);
    show.live.kill(pid as i32, Signal::SIGKILL);
    let marks = &mut show.marks;
    let live = &mut show.live;
    wait_until("the end of the run", PATIENCE * 2, || {
        marks.look(live);
        live.has_ended()
    });
    let (status, said) = show.live.end();
    show.read();
    let told = all_told(&show, 1);
    let is_end = |op: &&Op| {
        op.f.as_str() == "node-exited" && op.value.get("os-pid") == Some(&Value::Int(pid))
    };
    let exited = show.ops.iter().find(is_end).unwrap_or_else(|| panic!("{pid} lives: {said}"));
    assert_eq!(exited.value.get("signal"), Some(&Value::Int(9)), "{exited}");
    let healed =
        show.told("fault-healed", 1).unwrap_or_else(|| panic!("not healed: {told}\n{said}"));
    assert!(healed.time_ns > 0);
    // It went on: somebody was answered afterwards, and in the end the cluster is whole.
    let recovered = show.ops.iter().find(|op| op.f.as_str() == "recovered");
    let recovered = recovered.unwrap_or_else(|| panic!("not recovered: {told}\n{said}"));
    assert_eq!(recovered.value.get("full"), Some(&Value::Bool(true)), "{told}\n{said}");
    let answered = show.ops.iter().any(|op| op.f.as_str() == "append" && op.op_type == OpType::Ok);
    assert!(answered, "{said}");
    assert!(matches!(code(status), Ok(0 | 2)), "{status:?}\n{said}");
    let heal_seen = show.told("fault-heal-observed", 1).is_some();
    println!(
        "{} and Node: {}",
        row.name(),
        if heal_seen { "seen healed" } else { "healed, not seen" }
    );
    show.marks.assert_nothing_left(&show.live);
}
