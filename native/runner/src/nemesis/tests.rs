//! The order in which a schedule is done, and the fault that tests of this module share.

use super::*;
use fuzz_dist_core::fault::{Era, FaultKind, LinkFault, ProcessFault};

/// A fault of one node, with nothing but its times.
pub(super) fn fault(id: u32, kind: impl Into<FaultKind>, start_ms: u64, duration_ms: u64) -> Fault {
    Fault {
        id,
        kind: kind.into(),
        target: Target::One,
        scope: None,
        one_way: false,
        port: None,
        package: None,
        optional: false,
        after: None,
        part_of: None,
        start_ns: start_ms * 1_000_000,
        duration_ns: duration_ms * 1_000_000,
        boundary: None,
        resolved: None,
    }
}

#[test]
fn the_timeline_is_sorted_and_samples_before_the_heal() {
    let schedule = FaultSchedule {
        version: 1,
        seed: 1,
        nodes: vec!["n1".into()],
        boundaries: vec![],
        eras: vec![Era { start_ns: 1_000_000_000, duration_ns: 1, packages: vec![] }],
        faults: vec![
            fault(1, LinkFault::HOLD, 1000, 2000),
            fault(2, ProcessFault::Kill, 500, 1000),
        ],
    };
    let due: Vec<(u64, Action, usize)> = timeline(&schedule);
    let ms = |ns: u64| ns / 1_000_000;
    let short: Vec<(u64, Action, usize)> =
        due.into_iter().map(|(ns, action, i)| (ms(ns), action, i)).collect();
    assert_eq!(
        short,
        vec![
            (500, Action::Start, 1),
            (1000, Action::Era, 0),
            (1000, Action::Start, 0),
            (1350, Action::Sample, 1),
            (1500, Action::Heal, 1),
            (2850, Action::Sample, 0),
            (3000, Action::Heal, 0),
        ]
    );
}
