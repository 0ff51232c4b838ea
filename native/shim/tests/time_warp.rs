//! What VMs make of a wall clock that jumps by an hour, by their time-warp mode: one follows at a rate that is 1 % off,
//! one when it is told that its time offset is final, one when it looks. The monotonic time of none goes back.
//!
//! A VM looks a second after its start and then once a minute: the jump comes within the first second, unless the machine
//! is too slow for that, and then it takes a minute.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_debug_implementations,
    dead_code,
    reason = "a test fails by panicking; another one uses the rest of the support"
)]

mod support;

use std::time::{Duration, Instant};

use fuzz_dist_shim_page::{ClockMode, Mapped};
use support::{Beam, Place};

const HOUR_NS: i64 = 3_600_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;

/// Between two looks of a VM at the wall clock, and some more.
const LOOKS_WITHIN: Duration = Duration::from_secs(80);

/// Erlang's monotonic and system time, less the clock of the machine; its time offset.
const TIMES: &str = "(fun(P) -> {erlang:monotonic_time(nanosecond) - P, erlang:system_time(nanosecond) - P, \
    erlang:time_offset(nanosecond)} end)(os:perf_counter(nanosecond))";

#[derive(Debug, Clone, Copy)]
struct Times {
    monotonic_ns: i64,
    system_ns: i64,
    offset_ns: i64,
}

struct Vm {
    beam: Beam,
    first: Times,
    /// `erlang:monotonic_time/1` when it was last asked.
    last_monotonic_ns: i64,
    _place: Place,
    _page: Mapped,
}

impl Vm {
    /// Starts one and lets its wall clock jump.
    fn start(mode: &str) -> Vm {
        let place = Place::new();
        let page = place.page(false);
        let mut beam = Beam::start(&place.data(), Some(&place.shim()), &["+C", mode]);
        assert_eq!(beam.ask("erlang:system_info(time_warp_mode)"), mode);
        beam.ask("M = erlang:monitor(time_offset, clock_service)");
        let first = times(&mut beam);
        let now_ns = beam.number("os:perf_counter(nanosecond)") as u64;
        assert!(page.begin_clock(1, ClockMode::Jump { offset_ns: HOUR_NS }, now_ns, u64::MAX));
        Vm { beam, first, last_monotonic_ns: i64::MIN, _place: place, _page: page }
    }

    /// How far its times have moved since the start. Its monotonic time has not gone back.
    fn moved(&mut self) -> Times {
        let monotonic_ns = self.beam.number("erlang:monotonic_time(nanosecond)");
        assert!(monotonic_ns >= self.last_monotonic_ns, "Erlang's monotonic time went back");
        self.last_monotonic_ns = monotonic_ns;
        let now = times(&mut self.beam);
        Times {
            monotonic_ns: now.monotonic_ns - self.first.monotonic_ns,
            system_ns: now.system_ns - self.first.system_ns,
            offset_ns: now.offset_ns - self.first.offset_ns,
        }
    }

    /// What it told of changes of its time offset.
    fn told(&mut self) -> String {
        self.beam
            .ask("receive {'CHANGE', M, time_offset, clock_service, Of} -> Of after 0 -> none end")
    }
}

fn times(beam: &mut Beam) -> Times {
    let answer = beam.ask(TIMES);
    let numbers: Vec<i64> = answer
        .trim_matches(['{', '}'])
        .split(',')
        .map(|number| number.trim().parse().unwrap_or_else(|_| panic!("{answer}")))
        .collect();
    Times { monotonic_ns: numbers[0], system_ns: numbers[1], offset_ns: numbers[2] }
}

fn near(is_ns: i64, wanted_ns: i64) -> bool {
    is_ns.abs_diff(wanted_ns) < SECOND_NS as u64 / 10
}

#[test]
fn each_time_warp_mode_follows_a_jump_in_its_own_way() {
    let mut none = Vm::start("no_time_warp");
    let mut single = Vm::start("single_time_warp");
    let mut multi = Vm::start("multi_time_warp");
    let began = Instant::now();
    let mut slow = Vec::new();
    loop {
        let (slewed, warped) = (none.moved(), multi.moved());
        // The offset never changes: what moves is the rate of the monotonic time, and system time with it.
        assert_eq!(slewed.offset_ns, 0, "{slewed:?}");
        assert!(slewed.system_ns.abs_diff(slewed.monotonic_ns) < 1_000_000, "{slewed:?}");
        slow.push((began.elapsed(), slewed.monotonic_ns));
        assert!(near(warped.monotonic_ns, 0), "{warped:?}");
        if slewed.monotonic_ns > SECOND_NS / 50 && warped.offset_ns != 0 {
            assert!(
                near(warped.offset_ns, HOUR_NS) && near(warped.system_ns, HOUR_NS),
                "{warped:?}"
            );
            break;
        }
        assert!(began.elapsed() < LOOKS_WITHIN, "{slewed:?} {warped:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    // At most 1 % off, and that for as long as an hour takes.
    for pair in slow.windows(2) {
        let (passed, gained_ns) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
        let most_ns = passed.as_nanos() as i64 / 100 + 2_000_000;
        assert!((-1_000_000..most_ns).contains(&gained_ns), "{gained_ns} in {passed:?}");
    }
    assert_ne!(multi.told(), "none");
    assert_eq!(none.told(), "none");

    // It waits for the word of the system under test, and then follows at once.
    let before = single.moved();
    assert!(near(before.system_ns, 0) && before.offset_ns == 0, "{before:?}");
    assert_eq!(single.beam.ask("erlang:system_flag(time_offset, finalize)"), "preliminary");
    let after = single.moved();
    assert!(near(after.offset_ns, HOUR_NS) && near(after.monotonic_ns, 0), "{after:?}");
    assert_ne!(single.told(), "none");
}
