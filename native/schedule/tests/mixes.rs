//! Rotating mixes: every package gets its turn, eras end healed, and the same seed gives the same.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use fuzz_dist_core::fault::{Availability, FaultKind, FaultSchedule, Pattern, Plane, Subject};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::{FaultSpec, Nodes, Spec};
use fuzz_dist_schedule::simulate::draw_from_spec;
use fuzz_dist_schedule::{SimulateOptions, packages, simulate, validate};
use proptest::prelude::*;

const MS: u64 = 1_000_000;

fn spec(words: &[&str], main_s: f64) -> Spec {
    let mut spec = Spec { nodes: Nodes::Count(5), time_limit_s: main_s, ..Spec::default() };
    spec.client.module = "M".into();
    spec.workload.name = "register".into();
    spec.cluster.net_ticktime_s = 4;
    let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let roles = [("api", of(&["n1", "n2"])), ("storage", of(&["n3", "n4", "n5"]))];
    spec.roles = roles.into_iter().map(|(role, nodes)| (role.to_owned(), nodes)).collect();
    spec.nemesis.packages = Some(of(words));
    spec
}

fn everything(_: &FaultKind) -> Availability {
    Availability::Real
}

fn drawn(words: &[&str], seed: u64, main_s: f64) -> FaultSchedule {
    draw_from_spec(&spec(words, main_s), Seed(seed), &[], &everything).unwrap()
}

#[test]
fn every_package_gets_its_turn_and_a_quarter_of_the_eras_are_rests() {
    let schedule = drawn(&["all"], 7, 3_600.0);
    let mut turns: BTreeMap<&str, usize> = BTreeMap::new();
    for package in schedule.eras.iter().flat_map(|era| &era.packages) {
        *turns.entry(package).or_default() += 1;
    }
    assert_eq!(turns.len(), packages::ALL.len(), "{turns:?}");
    let (least, most) = (turns.values().min().unwrap(), turns.values().max().unwrap());
    assert!(3 * least > *most, "{turns:?}");
    let rests = schedule.eras.iter().filter(|era| era.packages.is_empty()).count();
    let share = rests as f64 / schedule.eras.len() as f64;
    assert!((0.15..0.35).contains(&share), "{rests} of {} eras", schedule.eras.len());
    // Parameters are drawn anew, not once for the run.
    let mut jumps: BTreeSet<String> = BTreeSet::new();
    for fault in schedule.faults.iter().filter(|fault| fault.kind.name() == "clock-jump") {
        jumps.insert(format!("{:?}", fault.kind));
    }
    assert!(jumps.len() > 10, "{jumps:?}");
}

#[test]
fn a_short_run_is_not_a_rest() {
    for seed in 0..50 {
        let schedule = drawn(&["kill", "pause"], seed, 12.0);
        assert!(!schedule.faults.is_empty(), "seed {seed}");
        assert!(!schedule.eras[0].packages.is_empty(), "seed {seed}");
    }
}

#[test]
fn a_run_that_is_shorter_than_an_era_has_a_fault_of_each_package_of_it() {
    for seed in 0..200 {
        let schedule = drawn(&["packet", "kill"], seed, 1.95);
        assert_eq!(schedule.eras.len(), 1, "seed {seed}");
        let packages: BTreeSet<&String> =
            schedule.faults.iter().filter_map(|fault| fault.package.as_ref()).collect();
        assert_eq!(packages, schedule.eras[0].packages.iter().collect(), "seed {seed}");
        assert!(!packages.is_empty(), "seed {seed}");
    }
}

#[test]
fn roles_are_kept_to() {
    let schedule = drawn(&["kill:storage", "partition:api-storage"], 3, 600.0);
    let storage = |node: &String| ["n3", "n4", "n5"].contains(&node.as_str());
    let mut seen = BTreeSet::new();
    for fault in &schedule.faults {
        let Some(resolved) = &fault.resolved else { continue };
        seen.insert(fault.package.clone().unwrap());
        match fault.kind.info().subject {
            Subject::Links => {
                let across = |ends: (&String, &String)| storage(ends.0) != storage(ends.1);
                assert!(resolved.links.iter().all(|link| across((&link.from, &link.to))));
            }
            _ => assert!(resolved.nodes.iter().all(storage), "{resolved:?}"),
        }
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[test]
fn faults_of_the_spec_take_part_as_a_package_of_their_own() {
    let mut spec = spec(&["pause"], 300.0);
    let own = serde_json::json!({"kind": "fin", "targets": ["one"]});
    spec.nemesis.faults = vec![serde_json::from_value::<FaultSpec>(own).unwrap()];
    let schedule = draw_from_spec(&spec, Seed(2), &[], &everything).unwrap();
    let of = |kind: &str| schedule.faults.iter().filter(|f| f.kind.name() == kind).count();
    assert!(of("fin") > 2 && of("pause") > 2, "{} and {}", of("fin"), of("pause"));
}

#[test]
fn what_cannot_be_mixed_is_told() {
    let error = |words: &[&str], main_s: f64, tick_s: u32| {
        let mut spec = spec(words, main_s);
        spec.cluster.net_ticktime_s = tick_s;
        let links = |kind: &FaultKind| match kind.plane() {
            Plane::Link => Availability::Real,
            _ => Availability::not_built(),
        };
        draw_from_spec(&spec, Seed(1), &[], &links).unwrap_err().to_string()
    };
    let unknown = error(&["partitoin"], 20.0, 4);
    assert!(unknown.contains("nemesis.packages: unknown package `partitoin`"), "{unknown}");
    assert!(unknown.contains("did you mean `partition`?"), "{unknown}");
    let clock = error(&["clock"], 20.0, 4);
    assert!(clock.contains("`clock` has no fault that can be had here"), "{clock}");
    let long = error(&["partition"], 1.5, 600);
    assert!(long.contains("no fault of `partition` is short enough"), "{long}");
}

#[test]
fn a_simulated_run_tells_eras_before_their_faults() {
    let options = SimulateOptions { faults_only: true, ..SimulateOptions::default() };
    let records = simulate(&spec(&["kill", "partition"], 60.0), Seed(4), &options).unwrap().records;
    assert_eq!(records[0].f.as_str(), "era");
    let eras = records.iter().filter(|op| op.f.as_str() == "era").count();
    assert!(eras > 2);
    assert!(records.windows(2).all(|pair| pair[0].time_ns <= pair[1].time_ns));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn eras_follow_each_other_and_every_fault_ends_in_its_own(
        seed: u64, main_s in 14u32..600, interval_s in 0.0f64..20.0, era_s in 0.5f64..60.0,
    ) {
        let mut spec = spec(&["all"], f64::from(main_s));
        spec.nemesis.interval_s = interval_s;
        spec.nemesis.era_s = era_s;
        let schedule = draw_from_spec(&spec, Seed(seed), &[], &everything).unwrap();
        prop_assert!(validate(&schedule, &spec).is_ok());
        prop_assert_eq!(&schedule, &draw_from_spec(&spec, Seed(seed), &[], &everything).unwrap());
        let text = serde_json::to_string(&schedule).unwrap();
        prop_assert_eq!(&schedule, &serde_json::from_str::<FaultSchedule>(&text).unwrap());
        for pair in schedule.eras.windows(2) {
            prop_assert!(pair[0].start_ns + pair[0].duration_ns < pair[1].start_ns);
        }
        for (at, fault) in schedule.faults.iter().enumerate() {
            prop_assert_eq!(fault.id as usize, at + 1);
            let end_ns = fault.start_ns + fault.duration_ns;
            prop_assert!(fault.start_ns >= 1_000 * MS && end_ns < u64::from(main_s) * 1_000 * MS);
            let around = schedule.eras.iter().find(|era| {
                era.start_ns <= fault.start_ns && end_ns <= era.start_ns + era.duration_ns
            });
            let around = around.map(|era| era.packages.contains(fault.package.as_ref().unwrap()));
            prop_assert_eq!(around, Some(true), "fault {}", fault.id);
        }
        // Faults of one package do not overlap, unless that is their pattern.
        let mut last_ns: BTreeMap<&str, u64> = BTreeMap::new();
        for fault in &schedule.faults {
            let name = fault.package.as_deref().unwrap();
            let before_ns = last_ns.insert(name, fault.start_ns + fault.duration_ns);
            let part = fault.part_of.as_ref();
            let second = part.is_some_and(|p| p.pattern == Pattern::Overlap && p.first != fault.id);
            prop_assert_eq!(second, before_ns.unwrap_or(0) >= fault.start_ns);
        }
    }
}
