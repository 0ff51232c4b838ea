//! Fault schedules: drawn within bounds, the same for the same seed, refused when they cannot be.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use fuzz_dist_core::fault::{Availability, Fault, FaultSchedule, Target, Zone};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::{FaultSpec, NemesisSpec, Nodes, PortSpec, Roles, Spec};
use fuzz_dist_schedule::{Boundaries, DrawError, Field, LiveBoundaries, Stage, faults, validate};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const SECOND: u64 = 1_000_000_000;

fn nodes(count: usize) -> Vec<String> {
    (1..=count).map(|i| format!("n{i}")).collect()
}

fn boundaries(ticktime_s: f64, intensity: u32) -> Boundaries {
    let live = LiveBoundaries {
        net_ticktime_s: ticktime_s,
        net_tickintensity: intensity,
        net_setuptime_ms: 7_000.0,
    };
    Boundaries::new(live, "live node n1", 5_000, &BTreeMap::new()).unwrap()
}

fn nemesis(list: Json, interval_s: f64, overlap: bool) -> NemesisSpec {
    let faults = serde_json::from_value::<Vec<FaultSpec>>(list).unwrap();
    NemesisSpec { faults, interval_s, overlap, ..NemesisSpec::default() }
}

fn every_kind() -> Json {
    json!([
        {"kind": "hold", "targets": ["halves", "one", "ring", "bridge", "minority", "majority"]},
        {"kind": "delay", "latency_ms": 100, "targets": ["all"]},
        {"kind": "fin"}, {"kind": "rst"}, {"kind": "half-open"}, {"kind": "ticks-only"},
        {"kind": "no-ticks", "one_way": true}, {"kind": "refuse-connect"},
        {"kind": "kill"}, {"kind": "pause", "targets": ["minority"]}, {"kind": "restart", "weight": 2},
        {"kind": "hold", "boundary": "op-timeout", "targets": ["primaries"]},
    ])
}

fn drawn(nemesis: &NemesisSpec, seed: u64, main_s: u64) -> FaultSchedule {
    draw(nemesis, &boundaries(4.0, 4), seed, 5, main_s).unwrap()
}

fn draw(
    nemesis: &NemesisSpec,
    boundaries: &Boundaries,
    seed: u64,
    count: usize,
    main_s: u64,
) -> Result<FaultSchedule, DrawError> {
    let stage = Stage {
        boundaries,
        seed: Seed(seed),
        field: &Field { nodes: nodes(count), roles: Roles::new() },
        main_phase_ns: main_s * SECOND,
        warm_up_ns: SECOND,
        available: &|_| Availability::Real,
    };
    faults::draw(nemesis, &stage)
}

/// A spec with so many nodes and a port.
fn spec(count: usize) -> Spec {
    let mut spec = Spec { nodes: Nodes::Names(nodes(count)), ..Spec::default() };
    spec.cluster.ports = vec![PortSpec { name: "amqp".into() }];
    spec
}

fn end_ns(fault: &Fault) -> u64 {
    fault.start_ns + fault.duration_ns
}

#[test]
fn every_kind_is_dealt_and_every_zone() {
    let schedule = drawn(&nemesis(every_kind(), 1.0, false), 1, 600);
    let kinds: BTreeSet<&str> = schedule.faults.iter().map(|fault| fault.kind.name()).collect();
    assert_eq!(kinds.len(), 11, "{kinds:?}");
    let zones: BTreeSet<&str> = schedule
        .faults
        .iter()
        .filter_map(|f| f.boundary.as_ref())
        .map(|b| b.zone.as_str())
        .collect();
    assert_eq!(zones.len(), 3);
    // Dealt evenly: 12 kinds of which one has two cards.
    let restarts = schedule.faults.iter().filter(|f| f.kind.name() == "restart").count();
    let kills = schedule.faults.iter().filter(|f| f.kind.name() == "kill").count();
    assert!(restarts.abs_diff(2 * kills) <= 2, "{restarts} restarts, {kills} kills");
}

#[test]
fn most_durations_are_near_an_edge() {
    let only = |zone: &str| nemesis(json!([{"kind": "hold", "zones": [zone]}]), 0.1, false);
    let ms = |zone: &str| -> Vec<f64> {
        let schedule = drawn(&only(zone), 1, 3_600);
        schedule.faults.iter().map(|fault| fault.duration_ns as f64 / 1e6).collect()
    };
    let share = |all: &[f64], range: std::ops::RangeInclusive<f64>| {
        all.iter().filter(|ms| range.contains(ms)).count() as f64 / all.len() as f64
    };
    let below = ms("certainly-below");
    assert!(below.iter().all(|ms| *ms <= 1_900.0) && share(&below, 1_600.0..=1_900.0) > 0.6);
    let inside = ms("inside");
    assert!(inside.iter().all(|ms| (1_900.0..=5_100.0).contains(ms)));
    let above = ms("certainly-above");
    assert!(above.iter().all(|ms| *ms >= 5_100.0) && share(&above, 5_100.0..=6_000.0) > 0.6);
}

#[test]
fn a_schedule_survives_json_and_is_valid() {
    let schedule = drawn(&nemesis(every_kind(), 2.0, false), 4, 120);
    validate(&schedule, &spec(5)).unwrap();
    let text = serde_json::to_string(&schedule).unwrap();
    let back: FaultSchedule = serde_json::from_str(&text).unwrap();
    assert_eq!(schedule, back);
}

#[test]
fn targets_of_a_fault_depend_on_nothing_but_its_number() {
    let with_kill =
        drawn(&nemesis(json!([{"kind": "hold"}, {"kind": "kill"}]), 2.0, false), 9, 120);
    let longer = drawn(&nemesis(json!([{"kind": "hold"}, {"kind": "kill"}]), 2.0, false), 9, 240);
    // The same faults, then more of them; only the last may have been cut to what fitted.
    let common = with_kill.faults.len() - 2;
    assert_eq!(with_kill.faults[..common], longer.faults[..common]);
    assert!(longer.faults.len() > with_kill.faults.len());
}

#[test]
fn what_cannot_be_drawn_is_told() {
    let error = |list: Json, ticktime_s: f64, intensity: u32, count: usize| {
        let nemesis = nemesis(list, 5.0, false);
        let edges = boundaries(ticktime_s, intensity);
        draw(&nemesis, &edges, 1, count, 20).unwrap_err().to_string()
    };
    let long = error(json!([{"kind": "fin"}, {"kind": "hold"}]), 60.0, 4, 3);
    assert!(long.contains("faults[1] (hold)") && long.contains("inside of net-tick"), "{long}");
    assert!(long.contains("net_ticktime_s"), "{long}");
    let empty = error(json!([{"kind": "hold"}]), 4.0, 2, 3);
    assert!(empty.contains("nothing is certainly below `net-tick`"), "{empty}");
    let unknown = error(json!([{"kind": "hold", "boundary": "net-tik"}]), 4.0, 4, 3);
    assert!(unknown.contains("did you mean `net-tick`"), "{unknown}");
    assert!(
        error(json!([{"kind": "hold", "targets": []}]), 4.0, 4, 3).contains("`targets` is empty")
    );
    assert!(
        error(json!([{"kind": "hold", "targets": ["minority"]}]), 4.0, 4, 2).contains("at least 3")
    );
    let named = error(json!([{"kind": "kill", "targets": [{"named": ["n9"]}]}]), 4.0, 4, 3);
    assert!(named.contains("unknown node `n9`"), "{named}");
    assert!(error(json!([{"kind": "kill", "one_way": true}]), 4.0, 4, 3).contains("one_way"));
    assert!(error(json!([{"kind": "kill", "zones": ["inside"]}]), 4.0, 4, 3).contains("boundary"));
    assert!(error(json!([{"kind": "kill", "weight": 0}]), 4.0, 4, 3).contains("weight"));
    let both = json!([{"kind": "hold", "duration_ms": 5, "zones": ["inside"]}]);
    assert!(error(both, 4.0, 4, 3).contains("exclude each other"));
}

#[test]
fn an_edited_schedule_that_cannot_run_is_refused() {
    let good = drawn(&nemesis(json!([{"kind": "hold", "targets": ["one"]}]), 2.0, false), 1, 60);
    let error = |edit: &dyn Fn(&mut FaultSchedule)| {
        let mut schedule = good.clone();
        edit(&mut schedule);
        validate(&schedule, &spec(5)).unwrap_err().to_string()
    };
    assert!(error(&|s| s.version = 2).contains("version 2"));
    assert!(error(&|s| s.faults[0].duration_ns = 0).contains("`duration_ns` is 0"));
    assert!(error(&|s| s.faults[0].start_ns = u64::MAX).contains("ten years"));
    assert!(error(&|s| s.faults[1].id = 1).contains("same `id`"));
    assert!(
        error(&|s| s.faults[0].target = Target::Named(vec!["n55".into()]))
            .contains("did you mean `n5`")
    );
    assert!(error(&|s| s.faults[0].port = Some("ampq".into())).contains("did you mean `amqp`"));
    let resolved = |s: &mut FaultSchedule, edit: &dyn Fn(&mut fuzz_dist_core::fault::Resolved)| {
        edit(s.faults[0].resolved.as_mut().unwrap());
    };
    assert!(
        error(&|s| resolved(s, &|r| r.links[0].to = "m1".into())).contains("unknown node `m1`")
    );
    assert!(
        error(&|s| resolved(s, &|r| r.links[0].to = r.links[0].from.clone())).contains("to itself")
    );
    assert!(error(&|s| resolved(s, &|r| r.links.clear())).contains("no links"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn faults_start_after_the_warm_up_and_are_healed_before_the_end(
        seed: u64, main_s in 14u64..300, interval_s in 0.0f64..20.0, overlap: bool,
    ) {
        let nemesis = nemesis(every_kind(), interval_s, overlap);
        let schedule = drawn(&nemesis, seed, main_s);
        prop_assert!(!schedule.faults.is_empty());
        for (at, fault) in schedule.faults.iter().enumerate() {
            prop_assert_eq!(fault.id as usize, at + 1);
            prop_assert!(fault.start_ns >= SECOND && end_ns(fault) < main_s * SECOND);
            prop_assert!(fault.duration_ns > 0);
            prop_assert_eq!(fault.resolved.is_none(), fault.target == Target::Primaries);
            if let Some(boundary) = &fault.boundary {
                let ms = fault.duration_ns as f64 / 1e6;
                let zone = boundaries(4.0, 4).zone(&boundary.name, ms).unwrap();
                let at_edge = boundary.zone == Zone::Inside && ms <= 1_900.001;
                prop_assert!(zone == boundary.zone || at_edge, "{} ms: {:?}", ms, boundary);
            }
        }
        for pair in schedule.faults.windows(2) {
            prop_assert!(overlap || end_ns(&pair[0]) < pair[1].start_ns);
            prop_assert!(pair[0].start_ns < pair[1].start_ns);
        }
        prop_assert!(validate(&schedule, &spec(5)).is_ok());
        prop_assert_eq!(schedule, drawn(&nemesis, seed, main_s));
    }
}
