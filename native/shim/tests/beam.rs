//! The library in a real BEAM: what it fakes, what it leaves alone, and what can be undone after a kill.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_debug_implementations,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use fuzz_dist_shim_page::disk::Counts;
use fuzz_dist_shim_page::rollback::{self, Lost};
use fuzz_dist_shim_page::{ClockMode, DiskMode, journal};
use support::{Beam, Place};

const SECOND_NS: i64 = 1_000_000_000;
const HOUR_NS: i64 = 3600 * SECOND_NS;
const FOREVER_NS: u64 = u64::MAX;

/// How far the wall clock is from where it would be, in ns; 0 and a little when it is right.
const WALL_LESS_MONOTONIC: &str = "os:system_time(nanosecond) - os:perf_counter(nanosecond)";

fn now_ns(beam: &mut Beam) -> u64 {
    beam.number("os:perf_counter(nanosecond)") as u64
}

#[test]
fn the_wall_clock_jumps_and_returns_and_the_monotonic_one_does_not() {
    let place = Place::new();
    let page = place.page(false);
    let mut beam = place.beam();
    assert_eq!(page.pid.load(Ordering::Relaxed), beam.child.id());
    let right = beam.number(WALL_LESS_MONOTONIC);
    let monotonic = beam.number("erlang:monotonic_time(nanosecond)");
    let now = now_ns(&mut beam);
    assert!(page.begin_clock(1, ClockMode::Jump { offset_ns: -HOUR_NS }, now, FOREVER_NS));
    let near = |is: i64, wanted: i64| (is - wanted).abs() < 2 * SECOND_NS;
    let jumped = beam.number(WALL_LESS_MONOTONIC) - right;
    assert!(near(jumped, -HOUR_NS), "{jumped}");
    // `os:timestamp()` reads the same clock, and so does the calendar of the local time.
    let stamp = beam.number("begin {M, S, _} = os:timestamp(), M * 1000000 + S end");
    let wall = beam.number("os:system_time(second)");
    assert!((stamp - wall).abs() <= 1);
    let passed = beam.number("erlang:monotonic_time(nanosecond)") - monotonic;
    assert!((0..60 * SECOND_NS).contains(&passed), "{passed}");
    assert!(page.clock_faked.load(Ordering::Relaxed) > 0);
    assert_eq!(page.end_clock(Some(1)), 1);
    assert!(near(beam.number(WALL_LESS_MONOTONIC), right));
}

#[test]
fn a_fault_of_a_core_that_died_ends_by_itself() {
    let place = Place::new();
    let page = place.page(false);
    let mut beam = place.beam();
    let right = beam.number(WALL_LESS_MONOTONIC);
    let now = now_ns(&mut beam);
    let deadline = now + 1_000_000_000;
    assert!(page.begin_clock(1, ClockMode::Jump { offset_ns: HOUR_NS }, now, deadline));
    drop(page);
    while now_ns(&mut beam) < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!((beam.number(WALL_LESS_MONOTONIC) - right).abs() < SECOND_NS);
}

#[test]
fn a_drift_is_as_large_as_asked() {
    let place = Place::new();
    let page = place.page(false);
    let mut beam = place.beam();
    let right = beam.number(WALL_LESS_MONOTONIC);
    let start = now_ns(&mut beam);
    assert!(page.begin_clock(1, ClockMode::Drift { ppm: 20_000 }, start, FOREVER_NS));
    let since = |beam: &mut Beam| now_ns(beam) - start;
    while since(&mut beam) < 500_000_000 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let before = since(&mut beam) as i64 / 50;
    let drifted = beam.number(WALL_LESS_MONOTONIC) - right;
    let after = since(&mut beam) as i64 / 50;
    let slack = 5_000_000;
    assert!((before - slack..after + slack).contains(&drifted), "{before} {drifted} {after}");
}

#[test]
fn other_programs_of_the_node_are_left_alone() {
    let place = Place::new();
    let page = place.page(false);
    let mut beam = place.beam();
    let now = now_ns(&mut beam);
    assert!(page.begin_clock(1, ClockMode::Jump { offset_ns: HOUR_NS }, now, FOREVER_NS));
    let apart =
        beam.number("os:system_time(second) - list_to_integer(string:trim(os:cmd(\"date +%s\")))");
    assert!((3595..=3605).contains(&apart), "{apart}");
}

/// Opens a file before the fault comes.
fn with_open_file(place: &Place) -> Beam {
    let mut beam = place.beam();
    beam.ask("{ok, F} = file:open(\"t.log\", [raw, write, binary])");
    assert_eq!(beam.ask("file:write(F, <<\"before\">>)"), "ok");
    beam
}

#[test]
fn a_disk_fails_is_full_and_is_well_again() {
    let place = Place::new();
    let page = place.page(false);
    let mut beam = with_open_file(&place);
    let logs = ["**/*.log".to_owned()];

    page.begin_disk(1, DiskMode::Eio, &logs, FOREVER_NS).unwrap();
    for (operation, answer) in [
        ("file:write(F, <<\"x\">>)", "{error,eio}"),
        ("file:sync(F)", "{error,eio}"),
        ("file:datasync(F)", "{error,eio}"),
        ("file:pwrite(F, 0, <<\"x\">>)", "{error,eio}"),
        ("file:truncate(F)", "{error,eio}"),
        ("file:rename(\"t.log\", \"u\")", "{error,eio}"),
        ("file:delete(\"t.log\")", "{error,eio}"),
        ("file:write_file(\"new.log\", <<\"x\">>)", "{error,eio}"),
        ("file:write_file(\"new.txt\", <<\"x\">>)", "ok"),
        ("file:read_file(\"t.log\")", "{ok,<<\"before\">>}"),
    ] {
        assert_eq!(beam.ask(operation), answer, "{operation}");
    }
    assert_eq!(page.disk_counts(1), Some(Counts { faked: 8, passed: 0 }));

    page.end_disk(1, FOREVER_NS);
    assert_eq!(beam.ask("file:write(F, <<\" after\">>)"), "ok");
    assert_eq!(page.disk_counts(1).unwrap().passed, 1);

    page.begin_disk(2, DiskMode::Enospc, &logs, FOREVER_NS).unwrap();
    assert_eq!(beam.ask("file:write(F, <<\"x\">>)"), "{error,enospc}");
    assert_eq!(beam.ask("file:allocate(F, 0, 1000)"), "{error,enospc}");
    assert_eq!(beam.ask("file:sync(F)"), "ok");
    page.forget_disk(None);
    assert_eq!(beam.ask("file:write(F, <<\"!\">>)"), "ok");
    assert_eq!(fs::read_to_string(place.data().join("t.log")).unwrap(), "before after!");
}

#[test]
fn short_writes_are_finished_by_the_vm() {
    let place = Place::new();
    let page = place.page(false);
    let mut beam = with_open_file(&place);
    page.begin_disk(1, DiskMode::ShortWrite, &["*.log".to_owned()], FOREVER_NS).unwrap();
    let parts = "[binary:copy(<<N>>, 100) || N <- lists:seq($a, $j)]";
    assert_eq!(beam.ask(&format!("file:write(F, {parts})")), "ok");
    assert_eq!(beam.ask("file:write(F, binary:copy(<<\"z\">>, 1000))"), "ok");
    assert!(page.disk_counts(1).unwrap().faked >= 2, "{:?}", page.disk_counts(1));
    let mut wanted = "before".to_owned();
    ('a'..='j').for_each(|letter| wanted.extend(std::iter::repeat_n(letter, 100)));
    wanted.push_str(&"z".repeat(1000));
    assert_eq!(fs::read_to_string(place.data().join("t.log")).unwrap(), wanted);
}

/// `disk_log` syncs one entry, and has another one that is only written.
fn logged(place: &Place) -> Beam {
    let mut beam = place.beam();
    beam.ask("{ok, L} = disk_log:open([{name, l}, {file, \"l.log\"}, {quiet, true}])");
    assert_eq!(beam.ask("ok = disk_log:log(L, synced), disk_log:sync(L)"), "ok");
    assert_eq!(beam.ask("ok = disk_log:log(L, acknowledged), disk_log:sync(L)"), "ok");
    // Out of the buffer of `disk_log`, to the kernel, and no further.
    assert_eq!(
        beam.ask("ok = disk_log:log(L, only_written), {_, _} = disk_log:chunk(L, start), ok"),
        "ok"
    );
    beam
}

/// What a node that is started again finds.
fn found(place: &Place) -> String {
    place.page(false);
    let mut beam = place.beam();
    beam.ask("{_, L} = list_to_tuple(lists:sublist(tuple_to_list(disk_log:open([{name, l}, {file, \"l.log\"}, {quiet, true}])), 2))");
    beam.ask("element(2, disk_log:chunk(l, start))")
}

fn lose(place: &Place) {
    let everything = |_: &Path| true;
    rollback::undo(&place.shim(), &place.data(), Lost::All, everything).unwrap();
}

#[test]
fn a_kill_loses_nothing_and_lost_power_only_what_was_not_synced() {
    let place = Place::new();
    let page = place.page(true);
    logged(&place).kill();
    assert_eq!(page.journal.load(Ordering::Relaxed), journal::ON);
    assert_eq!(found(&place), "[synced,acknowledged,only_written]");

    let place = Place::new();
    let _page = place.page(true);
    logged(&place).kill();
    lose(&place);
    assert_eq!(found(&place), "[synced,acknowledged]");
}

#[test]
fn a_disk_that_lies_loses_what_was_acknowledged() {
    let place = Place::new();
    let page = place.page(true);
    page.begin_disk(1, DiskMode::LyingFsync, &["**".to_owned()], FOREVER_NS).unwrap();
    logged(&place).kill();
    assert!(page.disk_counts(1).unwrap().faked >= 2);
    lose(&place);
    assert!(!place.data().join("l.log").exists());
}

#[test]
fn what_was_overwritten_truncated_renamed_and_removed_is_as_it_was() {
    let place = Place::new();
    let data = place.data();
    for name in ["over", "cut", "emptied", "moved", "target", "removed"] {
        fs::write(data.join(name), format!("{name} as it was")).unwrap();
    }
    let _page = place.page(true);
    let mut beam = place.beam();
    for step in [
        "{ok, O} = file:open(\"over\", [raw, read, write]), ok = file:pwrite(O, 2, <<\"XXXXXXXXXXXXXXXXXXXXX\">>), ok",
        "{ok, C} = file:open(\"cut\", [raw, read, write]), {ok, 3} = file:position(C, 3), file:truncate(C)",
        "file:write_file(\"emptied\", <<\"n\">>)",
        "file:rename(\"moved\", \"target\")",
        "file:delete(\"removed\")",
        "file:write_file(\"new\", <<\"n\">>)",
        "{ok, A} = file:open(\"over\", [raw, append]), ok = file:write(A, <<\"tail\">>), ok",
    ] {
        assert_eq!(beam.ask(step), "ok", "{step}");
    }
    beam.kill();
    assert_eq!(fs::read_to_string(data.join("target")).unwrap(), "moved as it was");
    lose(&place);
    for name in ["over", "cut", "emptied", "moved", "target", "removed"] {
        let left = fs::read_to_string(data.join(name)).unwrap();
        assert_eq!(left, format!("{name} as it was"), "{name}");
    }
    assert!(!data.join("new").exists());
}

/// The cost of reading the wall clock, with and without the library, in turns; the ratio of the medians.
#[test]
fn reading_the_clock_costs_about_as_much_as_before() {
    let place = Place::new();
    let _page = place.page(false);
    let mut with = place.beam();
    let mut without = Beam::start(&place.data(), None, &[]);
    let measure = |beam: &mut Beam| {
        // In a compiled loop: `lists:foreach` over a list, with a fun of the system.
        beam.number(
            "element(1, timer:tc(lists, foldl, [fun erlang:max/2, 0,
               lists:map(fun os:system_time/1, lists:duplicate(200000, nanosecond))]))
             + element(1, timer:tc(lists, map, [fun os:system_time/1, lists:duplicate(200000, nanosecond)]))",
        )
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        a.push(measure(&mut with));
        b.push(measure(&mut without));
    }
    a.sort_unstable();
    b.sort_unstable();
    let ratio = a[3] as f64 / b[3] as f64;
    println!(
        "os:system_time under the library: {:.2} times the time without ({} us / {} us)",
        ratio, a[3], b[3]
    );
    // The call itself is some tens of ns; a library that took a lock or asked the kernel would be far above.
    assert!(ratio < 2.0, "{ratio}");
}
