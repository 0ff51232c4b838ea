//! How far the wall clocks of nodes are off, for every completion of a run that plays with clocks.
//!
//! A VM tells its two clocks together. Only the wall clock is faked, and every process of a host shares the monotonic
//! one: the difference of the two, less the same difference in the core, is how far the VM's wall clock is off,
//! whatever time the message took, and also if somebody sets the clock of the host meanwhile.
//!
//! As in Jepsen, where completions of the clock nemesis carry the offsets of all nodes; here those of clients carry that of
//! their node too: as it was when the node sent them, or, where the node did not say (operations of client VMs, and
//! those that were given up), what it was when it was last asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use fuzz_dist_core::sync::lock;
use fuzz_dist_core::{Op, OpType, Process, Sym, Value, clock};

/// How far apart two readings of the monotonic clock may be for what was read between them to belong to both.
const TOGETHER_NS_MAX: u64 = 50_000;

/// How often two clocks are read until they were read together.
const READ_COUNT_MAX: u32 = 5;

/// For how long it is known how far a clock is off; that of a node that is down or paused is not.
const KNOWN_NS: i64 = 1_000_000_000;

/// What a VM read from its two clocks at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStamp {
    /// `CLOCK_MONOTONIC`.
    pub monotonic_ns: i64,
    /// Since 1970.
    pub wall_ns: i64,
}

impl ClockStamp {
    /// How far its wall clock is off.
    pub fn offset_ns(self) -> i64 {
        self.wall_ns.wrapping_sub(self.monotonic_ns).wrapping_sub(wall_less_monotonic_ns())
    }
}

/// The wall clock of the core less its monotonic one. A thread that loses its processor between the two would make a
/// difference of its own, so they are read again then.
pub fn wall_less_monotonic_ns() -> i64 {
    let mut difference_ns = 0;
    for _ in 0..READ_COUNT_MAX {
        let before_ns = clock::monotonic_ns();
        let wall_ns = clock::wall_ns();
        let apart_ns = clock::monotonic_ns().saturating_sub(before_ns);
        difference_ns = wall_ns - (before_ns + apart_ns / 2) as i64;
        if apart_ns <= TOGETHER_NS_MAX {
            break;
        }
    }
    difference_ns
}

/// The last known offset of each node; shared. Nothing is known, and nothing recorded, in runs without such faults.
#[derive(Debug, Clone, Default)]
pub struct ClockOffsets(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wanted: AtomicBool,
    /// With the time of `CLOCK_MONOTONIC` at which it was so.
    known: Mutex<BTreeMap<Sym, (i64, i64)>>,
}

impl ClockOffsets {
    /// From now on completions carry them.
    pub fn want(&self) {
        self.0.wanted.store(true, Ordering::Release);
    }

    /// Whether anybody wants them.
    pub fn are_wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Acquire)
    }

    /// What a node read from its clocks; by how much that is off. What is known from later stays.
    pub fn learn(&self, node: Sym, stamp: ClockStamp) -> i64 {
        let offset_ns = stamp.offset_ns();
        let mut known = lock(&self.0.known);
        let last = known.entry(node).or_insert((stamp.monotonic_ns, offset_ns));
        if last.0 < stamp.monotonic_ns {
            *last = (stamp.monotonic_ns, offset_ns);
        }
        offset_ns
    }

    /// Puts into a completion by how much the clock of its node is off, or for the nemesis those of all nodes.
    pub fn stamp(&self, op: &mut Op) {
        if !self.are_wanted() {
            return;
        }
        let known = lock(&self.0.known);
        let since_ns = clock::monotonic_ns() as i64 - KNOWN_NS;
        let fresh = |(at_ns, offset_ns): &(i64, i64)| {
            (*at_ns >= since_ns).then_some(Value::Int(*offset_ns))
        };
        let found = match op.process {
            Process::Client(_) if op.op_type != OpType::Invoke => {
                let offset = op.node.and_then(|node| known.get(&node)).and_then(fresh);
                offset.map(|offset| ("clock-offset-ns", offset))
            }
            process if process == Process::nemesis() && !known.is_empty() => {
                let all = known
                    .iter()
                    .filter_map(|(node, last)| Some((Value::str(node.as_str()), fresh(last)?)));
                Some(("clock-offsets-ns", Value::map(all)))
            }
            _ => None,
        };
        drop(known);
        if let Some((name, value)) = found {
            let mut extra = op.extra.as_deref().cloned().unwrap_or_default();
            extra.push((Sym::new(name), value));
            op.extra = Some(Arc::new(extra));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn op(process: Process, op_type: OpType) -> Op {
        let mut op = Op::new(5, process, op_type, Sym::new("read"), Value::Nil);
        op.node = Some(Sym::new("n1"));
        op
    }

    fn extra_of(op: &Op) -> String {
        let pairs = op.extra.iter().flat_map(|extra| extra.iter());
        pairs.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn completions_carry_what_is_known_and_only_if_it_is_wanted() {
        let offsets = ClockOffsets::default();
        let now_ns = clock::monotonic_ns() as i64;
        let know = |node: &str, at_ns: i64, offset_ns: i64| {
            lock(&offsets.0.known).insert(Sym::new(node), (at_ns, offset_ns));
        };
        let soon_ns = now_ns + 60_000_000_000;
        know("n1", soon_ns, -7);
        know("n3", now_ns - 2 * KNOWN_NS, 8);
        let mut before = op(Process::Client(1), OpType::Ok);
        offsets.stamp(&mut before);
        assert_eq!(before.extra, None);

        offsets.want();
        for (process, op_type, wanted) in [
            (Process::Client(1), OpType::Ok, "clock-offset-ns -7"),
            (Process::Client(1), OpType::Info, "clock-offset-ns -7"),
            (Process::Client(1), OpType::Invoke, ""),
            (Process::nemesis(), OpType::Info, "clock-offsets-ns {\"n1\" -7}"),
            (Process::observer(), OpType::Info, ""),
        ] {
            let mut op = op(process, op_type);
            offsets.stamp(&mut op);
            assert_eq!(extra_of(&op), wanted, "{process} {op_type:?}");
        }
        let mut elsewhere = op(Process::Client(1), OpType::Ok);
        elsewhere.node = Some(Sym::new("n2"));
        elsewhere.extra = Some(Arc::new(vec![(Sym::new("final?"), Value::Bool(true))]));
        offsets.stamp(&mut elsewhere);
        assert_eq!(extra_of(&elsewhere), "final? true");
        know("n2", soon_ns, 9);
        offsets.stamp(&mut elsewhere);
        assert_eq!(extra_of(&elsewhere), "final? true, clock-offset-ns 9");
    }

    #[test]
    fn the_offset_of_a_clock_does_not_depend_on_the_time_of_the_message() {
        let monotonic_ns = clock::monotonic_ns() as i64 - 5_000_000_000;
        let wall_ns = monotonic_ns + wall_less_monotonic_ns() + 3_600_000_000_000;
        let offsets = ClockOffsets::default();
        let stamp = ClockStamp { monotonic_ns, wall_ns };
        let offset_ns = offsets.learn(Sym::new("n1"), stamp);
        assert!(offset_ns.abs_diff(3_600_000_000_000) < 1_000_000, "{offset_ns}");
        // One that was on its way for longer.
        offsets.learn(Sym::new("n1"), ClockStamp { monotonic_ns: monotonic_ns - 1, wall_ns: 0 });
        assert_eq!(lock(&offsets.0.known)[&Sym::new("n1")], (monotonic_ns, offset_ns));
    }
}
