//! `rw-register` without assumptions, against all orders, on small random histories.
//!
//! For each family of models the oracle tries everything that the model allows: all serial orders,
//! all snapshots and commits, all orders of versions. Nothing may be accused that some choice
//! explains. What is missed is counted and printed, by the family and by what the violation is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod register_worlds;

use std::collections::BTreeMap;

use common::{Random, cases, check, show, spec};
use fuzz_dist_checker::{Budget, Checker};
use fuzz_dist_core::Verdict;
use register_worlds::{Order, World};
use serde_json::json;

/// Histories of each family: fewer where nothing is optimised; `bin/test-long` has a million.
const CASES: u64 = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
/// How many in a hundred violations may be missed.
const MISSED_MAX_PERCENT: usize = 2;

/// A family of models: its name, its order, and its oracle.
struct Family {
    model: &'static str,
    order: Order,
    holds: fn(&World, Order) -> bool,
}

/// What came of a family.
#[derive(Default)]
struct Tally {
    holds: usize,
    found: BTreeMap<String, usize>,
    missed: BTreeMap<String, usize>,
}

fn checker(model: &str) -> Box<dyn Checker> {
    fuzz_dist_checker::build(&spec("rw-register", json!({ "consistency-model": model }))).unwrap()
}

/// What a violation is, in the words of the oracle: the strongest family that it breaks as well.
fn class(world: &World) -> &'static str {
    if !world.reads_committed_writes() {
        return "reads";
    }
    if !world.holds_by_versions(Order::None) {
        return "parallel snapshots";
    }
    if !world.holds_by_snapshots(Order::None) {
        return "snapshots";
    }
    if !world.holds_serially(Order::None) {
        return "serial order";
    }
    "order of sessions or time"
}

fn compare(family: &Family, seed: u64) {
    let checker = checker(family.model);
    let mut tally = Tally::default();
    let count = cases(CASES);
    for number in 0..count {
        let mut random = Random(number ^ seed << 32);
        let world = World::random(&mut random);
        let history = world.history();
        let result = checker.check(&history, &Budget::UNLIMITED);
        let holds = (family.holds)(&world, family.order);
        if holds {
            tally.holds += 1;
            assert_ne!(
                result.verdict,
                Verdict::Invalid,
                "case {number} of {}: {result:#?}\n{}",
                family.model,
                show(&history)
            );
        } else if result.verdict == Verdict::Invalid {
            for name in result.details["anomaly-types"].as_array().unwrap() {
                *tally.found.entry(name.as_str().unwrap().to_owned()).or_default() += 1;
            }
        } else {
            let missed = tally.missed.entry(class(&world).to_owned()).or_default();
            *missed += 1;
            if *missed == 1 {
                println!("missed by {}:\n{}", family.model, show(&history));
            }
        }
    }
    let missed: usize = tally.missed.values().sum();
    let violations = count as usize - tally.holds;
    println!(
        "{}: {count} histories, {} hold, {violations} do not, {missed} of them missed {:?}; found {:?}",
        family.model, tally.holds, tally.missed, tally.found
    );
    assert!(tally.holds > 0 && violations > 0);
    assert!(tally.found.contains_key("implied-cycle"), "nothing follows from the model");
    assert!(missed * 100 <= violations * MISSED_MAX_PERCENT, "{missed} of {violations} are missed");
}

#[test]
fn strict_serializability() {
    let holds = World::holds_serially;
    compare(&Family { model: "strict-serializable", order: Order::Time, holds }, 0x0051);
}

#[test]
fn serializability_of_sessions() {
    let holds = World::holds_serially;
    let family = Family { model: "strong-session-serializable", order: Order::Sessions, holds };
    compare(&family, 0x0052);
}

#[test]
fn serializability() {
    let holds = World::holds_serially;
    compare(&Family { model: "serializable", order: Order::None, holds }, 0x0053);
}

#[test]
fn strong_snapshot_isolation() {
    let holds = World::holds_by_snapshots;
    compare(&Family { model: "strong-snapshot-isolation", order: Order::Time, holds }, 0x0054);
}

#[test]
fn snapshot_isolation_of_sessions() {
    let holds = World::holds_by_snapshots;
    let model = "strong-session-snapshot-isolation";
    compare(&Family { model, order: Order::Sessions, holds }, 0x0055);
}

#[test]
fn snapshot_isolation() {
    let holds = World::holds_by_snapshots;
    compare(&Family { model: "snapshot-isolation", order: Order::None, holds }, 0x0056);
}

#[test]
fn parallel_snapshot_isolation() {
    let holds = World::holds_by_versions;
    compare(&Family { model: "parallel-snapshot-isolation", order: Order::None, holds }, 0x0057);
}

/// Two checkers of one tool never contradict each other about one history.
#[test]
fn causal_and_rw_register_agree() {
    let is_against = |a: Verdict, b: Verdict| {
        [(Verdict::Valid, Verdict::Invalid), (Verdict::Invalid, Verdict::Valid)].contains(&(a, b))
    };
    let causal =
        |level: &str| fuzz_dist_checker::build(&spec("causal", json!({ "level": level }))).unwrap();
    let levels = [
        ("read-committed", "read-committed"),
        ("read-atomic", "read-atomic"),
        ("causal", "causal-cerone"),
    ];
    let same: Vec<_> =
        levels.iter().map(|(level, model)| (*level, causal(level), checker(model))).collect();
    let stronger = [
        "strict-serializable",
        "strong-session-serializable",
        "strong-snapshot-isolation",
        "strong-session-snapshot-isolation",
    ];
    let stronger: Vec<_> = stronger.iter().map(|model| (*model, checker(model))).collect();
    let alone = ["serializable", "snapshot-isolation", "parallel-snapshot-isolation"];
    let alone: Vec<_> = alone.iter().map(|model| (*model, checker(model))).collect();
    let mut disputes = 0;
    for number in 0..cases(CASES / 4) {
        let mut world = World::random(&mut Random(number ^ 0x00ca));
        let history = world.history();
        let mut causal_is_broken = false;
        for (level, causal, register) in &same {
            let causal = causal.check(&history, &Budget::UNLIMITED);
            let register = register.check(&history, &Budget::UNLIMITED);
            assert!(
                !is_against(causal.verdict, register.verdict),
                "case {number} at {level}: {}; {}\n{}",
                causal.reason,
                register.reason,
                show(&history)
            );
            causal_is_broken |= causal.verdict == Verdict::Invalid;
        }
        for (model, register) in stronger.iter().filter(|_| causal_is_broken) {
            let register = register.check(&history, &Budget::UNLIMITED);
            disputes += 1;
            assert_eq!(register.verdict, Verdict::Invalid, "{number} {model}\n{}", show(&history));
        }
        // Without sessions, for models that have none.
        world.separate_sessions();
        let history = world.history();
        let causal = &same[2].1;
        if causal.check(&history, &Budget::UNLIMITED).verdict == Verdict::Invalid {
            for (model, register) in &alone {
                let register = register.check(&history, &Budget::UNLIMITED);
                let context = || format!("{number} {model}\n{}", show(&history));
                assert_eq!(register.verdict, Verdict::Invalid, "{}", context());
            }
        }
    }
    assert!(disputes > 100);
}

/// Histories that were called valid although their model forbids them.
#[test]
fn orders_of_writes_that_the_model_implies() {
    let of = |text: &str| {
        let ops = fuzz_dist_core::interop::read_records("case", text.as_bytes(), None).unwrap();
        let ops = fuzz_dist_core::interop::add_invocations(ops);
        fuzz_dist_core::History::new(ops).unwrap()
    };
    let done = |process: i64, txn: &str| {
        format!("{{:process {process} :type :invoke :f :txn :value nil}}\n")
            + &format!("{{:process {process} :type :ok :f :txn :value [{txn}]}}\n")
    };
    let stale = of(&(done(0, "[:w 1 1]") + &done(1, "[:w 1 2]") + &done(2, "[:r 1 1]")));
    let garbage = of(&(done(0, "[:w 1 1]") + &done(1, "[:r 1 9]")));
    let fractured = of(&(done(0, "[:w 1 1] [:w 2 1]")
        + &done(1, "[:r 1 1] [:w 1 2] [:w 2 2]")
        + &done(2, "[:r 1 2] [:r 2 1]")));
    for (history, model, expected) in [
        (&stale, "strict-serializable", Verdict::Invalid),
        (&stale, "strong-session-serializable", Verdict::Valid),
        (&fractured, "serializable", Verdict::Invalid),
        (&fractured, "snapshot-isolation", Verdict::Invalid),
        (&fractured, "read-atomic", Verdict::Invalid),
        (&fractured, "PL-2", Verdict::Valid),
        (&garbage, "read-uncommitted", Verdict::Invalid),
        (&garbage, "none", Verdict::Invalid),
        (&stale, "linearizable", Verdict::Unknown),
    ] {
        let result = check("rw-register", json!({ "consistency-model": model }), history);
        assert_eq!(result.verdict, expected, "{model}: {result:#?}");
    }
    let result = check("rw-register", json!({ "garbage-reads": "allow" }), &garbage);
    assert_ne!(result.verdict, Verdict::Invalid, "{result:#?}");
    let result = check("rw-register", json!({ "initial": 9 }), &garbage);
    assert_eq!(result.verdict, Verdict::Invalid, "9 is older than 1: {result:#?}");
    let options = json!({ "initial": 9, "consistency-model": "serializable" });
    assert_eq!(check("rw-register", options, &garbage).verdict, Verdict::Valid);
    // The model that was asked for is ruled out, and stronger ones, but no weaker one.
    let result = check("rw-register", json!({}), &stale);
    assert_eq!(result.details["not"], json!(["strong-serializable"]), "{result:#?}");
    assert!(
        result.anomalies[0].text.contains("record 5 comes after record 3 and still read 1"),
        "{result:#?}"
    );
}

/// Long histories are judged with stronger orders first; a circle there says nothing of the model.
#[test]
fn a_circle_of_sessions_hides_nothing_from_models_without_sessions() {
    let done = |process: usize, txn: &str| {
        format!("{{:process {process} :type :invoke :f :txn :value nil}}\n")
            + &format!("{{:process {process} :type :ok :f :txn :value [{txn}]}}\n")
    };
    // Process 0 reads what it writes only later.
    let circle = done(0, "[:r :a 1]") + &done(0, "[:w :a 1]");
    let fractured = done(1, "[:w :x 1] [:w :y 1]")
        + &done(2, "[:r :x 1] [:w :x 2] [:w :y 2]")
        + &done(3, "[:r :x 2] [:r :y 1]");
    let padding: String =
        (0..600).map(|n| done(4 + n % 8, &format!("[:w :p{n} 1] [:r :p{n} 1]"))).collect();
    for (text, expected) in [
        (circle.clone() + &padding, Verdict::Valid),
        (circle + &fractured + &padding, Verdict::Invalid),
    ] {
        let ops = fuzz_dist_core::interop::read_records("case", text.as_bytes(), None).unwrap();
        let history = fuzz_dist_core::History::new(ops).unwrap();
        for model in ["serializable", "snapshot-isolation", "parallel-snapshot-isolation"] {
            let result = check("rw-register", json!({ "consistency-model": model }), &history);
            assert_eq!(result.verdict, expected, "{model}: {result:#?}");
        }
    }
}
