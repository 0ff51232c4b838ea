//! How far the wall clocks of nodes were off, over time, and what their VMs made of it.
//!
//! Offsets come from the `clock-offset` records of the clock plane and from completions that carry that of their node.
//! They are against the monotonic clock that all processes of a host share, so no time of a message is in them.
//! A window keeps the lowest, the highest and the last: a strobe shows as wide as it was, however short its period.
//!
//! Limits: the windows of a node in which nothing changed are left out, the last one before them holds.

use std::collections::BTreeMap;

use fuzz_dist_core::{Op, OpType, Sym};
use serde::Serialize;

use super::{field, time_ns};

/// Windows of a run: more would not be told apart.
pub const WINDOW_COUNT_MAX: u64 = 600;

/// Changes of a VM's time offset that are kept of a node; the rest is in the history.
pub const CHANGE_COUNT_MAX: usize = 200;

/// What must have changed for a window to be kept.
const CHANGE_NS_MIN: u64 = 200_000;

/// What the clocks of the nodes did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Clocks {
    /// How far two clocks of the cluster were apart at most, within a window.
    pub apart_ns_max: u64,
    /// Length of a window.
    pub window_ns: u64,
    /// By name.
    pub nodes: Vec<NodeClock>,
}

/// The clock of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeClock {
    /// Which.
    pub node: String,
    /// `no_time_warp`, `single_time_warp`, `multi_time_warp`, if the VM told.
    pub time_warp_mode: Option<String>,
    /// Offsets that are known.
    pub sample_count: u64,
    /// How far the wall clock was off at most, either way.
    pub skew_ns_max: u64,
    /// The lowest offset, negative when it was behind.
    pub offset_ns_min: i64,
    /// The highest.
    pub offset_ns_max: i64,
    /// The last.
    pub offset_ns_last: i64,
    /// How far `erlang:system_time/0` was off at most, either way.
    pub system_time_skew_ns_max: Option<u64>,
    /// How often the VM changed its time offset.
    pub time_offset_change_count: u64,
    /// The first of these changes.
    pub time_offset_changes: Vec<TimeOffsetChange>,
    /// Offsets over time.
    pub windows: Vec<ClockWindow>,
}

/// A VM set its `erlang:system_time/0` anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimeOffsetChange {
    /// When.
    pub time_ns: u64,
    /// By so much.
    pub change_ns: i64,
}

/// Offsets within a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClockWindow {
    /// Its start.
    pub start_ns: u64,
    /// The lowest offset.
    pub low_ns: i64,
    /// The highest.
    pub high_ns: i64,
    /// The last.
    pub last_ns: i64,
    /// How far `erlang:system_time/0` was off, last.
    pub system_time_ns: Option<i64>,
}

#[derive(Debug)]
struct Gathered {
    window: ClockWindow,
    /// When the last offset was taken, and the last of the VM.
    last_at_ns: u64,
    system_at_ns: u64,
}

#[derive(Debug, Default)]
struct OneClock {
    mode: Option<String>,
    sample_count: u64,
    windows: BTreeMap<u64, Gathered>,
    system_time_skew_ns_max: Option<u64>,
    /// What the VM's time offset was, and was before.
    time_offsets: (Option<i64>, Option<i64>),
    change_count: u64,
    changes: Vec<TimeOffsetChange>,
}

#[derive(Debug)]
pub(super) struct Collector {
    window_ns: u64,
    nodes: BTreeMap<Sym, OneClock>,
}

impl Collector {
    pub(super) fn new(end_ns: u64) -> Collector {
        Collector { window_ns: (end_ns / WINDOW_COUNT_MAX + 1).max(1), nodes: BTreeMap::new() }
    }

    /// A completion of a client: one that was not answered says nothing new.
    pub(super) fn completion(&mut self, op: &Op) {
        let (OpType::Ok, Some(node), Some(extra)) = (op.op_type, op.node, &op.extra) else {
            return;
        };
        let carried = extra.iter().find(|(name, _)| name.as_str() == "clock-offset-ns");
        if let Some(offset_ns) = carried.and_then(|(_, value)| value.as_int()) {
            self.sample(node, time_ns(op), offset_ns, None);
        }
    }

    /// A record of the observer.
    pub(super) fn observation(&mut self, op: &Op) {
        let Some(node) = op.node else { return };
        let int = |key: &str| op.value.get(key).and_then(|value| value.as_int());
        match op.f.as_str() {
            "clock-offset" => {
                let Some(offset_ns) = int("offset-ns") else { return };
                self.sample(node, time_ns(op), offset_ns, int("system-time-offset-ns"));
                if let Some(time_offset_ns) = int("time-offset-ns") {
                    self.clock(node).sees(time_offset_ns);
                }
            }
            "clock-service" => {
                let clock = self.clock(node);
                clock.mode = field(&op.value, "time-warp-mode");
                // Another VM counts from elsewhere.
                clock.time_offsets = (None, None);
            }
            "time-offset" => {
                if let (Some(to_ns), Some(clock)) = (int("offset_ns"), self.nodes.get_mut(&node)) {
                    clock.changes_to(time_ns(op), to_ns);
                }
            }
            _ => {}
        }
    }

    fn clock(&mut self, node: Sym) -> &mut OneClock {
        self.nodes.entry(node).or_default()
    }

    fn sample(&mut self, node: Sym, at_ns: u64, offset_ns: i64, system_ns: Option<i64>) {
        let number = at_ns / self.window_ns;
        let start_ns = number * self.window_ns;
        let clock = self.clock(node);
        clock.sample_count += 1;
        let gathered = clock.windows.entry(number).or_insert_with(|| Gathered {
            window: ClockWindow {
                start_ns,
                low_ns: offset_ns,
                high_ns: offset_ns,
                last_ns: offset_ns,
                system_time_ns: None,
            },
            last_at_ns: at_ns,
            system_at_ns: 0,
        });
        let window = &mut gathered.window;
        window.low_ns = window.low_ns.min(offset_ns);
        window.high_ns = window.high_ns.max(offset_ns);
        if at_ns >= gathered.last_at_ns {
            (gathered.last_at_ns, window.last_ns) = (at_ns, offset_ns);
        }
        let Some(system_ns) = system_ns else { return };
        let most = clock.system_time_skew_ns_max.get_or_insert(0);
        *most = (*most).max(system_ns.unsigned_abs());
        if at_ns >= gathered.system_at_ns {
            (gathered.system_at_ns, window.system_time_ns) = (at_ns, Some(system_ns));
        }
    }

    /// None when no clock was looked at.
    pub(super) fn finish(self) -> Option<Clocks> {
        let apart_ns_max = apart_ns_max(&self.nodes)?;
        let nodes = self.nodes.into_iter().filter(|(_, clock)| !clock.windows.is_empty());
        let nodes = nodes.map(|(node, clock)| clock.finish(node)).collect();
        Some(Clocks { apart_ns_max, window_ns: self.window_ns, nodes })
    }
}

impl OneClock {
    fn sees(&mut self, time_offset_ns: i64) {
        if self.time_offsets.0 != Some(time_offset_ns) {
            self.time_offsets = (Some(time_offset_ns), self.time_offsets.0);
        }
    }

    /// The VM told that its time offset changed; that may have been sampled just before.
    fn changes_to(&mut self, time_ns: u64, to_ns: i64) {
        self.sees(to_ns);
        let Some(before_ns) = self.time_offsets.1 else { return };
        self.change_count += 1;
        if self.changes.len() < CHANGE_COUNT_MAX {
            let change_ns = to_ns.saturating_sub(before_ns);
            self.changes.push(TimeOffsetChange { time_ns, change_ns });
        }
    }

    fn finish(self, node: Sym) -> NodeClock {
        let all = || self.windows.values().map(|gathered| &gathered.window);
        let (low, high) = (all().map(|w| w.low_ns).min(), all().map(|w| w.high_ns).max());
        let (offset_ns_min, offset_ns_max) = (low.unwrap_or(0), high.unwrap_or(0));
        NodeClock {
            node: node.as_str().to_owned(),
            time_warp_mode: self.mode,
            sample_count: self.sample_count,
            skew_ns_max: offset_ns_min.unsigned_abs().max(offset_ns_max.unsigned_abs()),
            offset_ns_min,
            offset_ns_max,
            offset_ns_last: all().next_back().map_or(0, |window| window.last_ns),
            system_time_skew_ns_max: self.system_time_skew_ns_max,
            time_offset_change_count: self.change_count,
            time_offset_changes: self.changes,
            windows: changing(self.windows.into_values().map(|gathered| gathered.window)),
        }
    }
}

/// Those in which something changed, the first and the last.
fn changing(windows: impl Iterator<Item = ClockWindow>) -> Vec<ClockWindow> {
    let mut kept: Vec<ClockWindow> = Vec::new();
    let mut skipped = None;
    for mut window in windows {
        let Some(last) = kept.last() else {
            kept.push(window);
            continue;
        };
        // Not every sample tells of the VM.
        window.system_time_ns = window.system_time_ns.or(last.system_time_ns);
        let near = |a: i64, b: i64| a.abs_diff(b) < CHANGE_NS_MIN;
        let quiet = near(window.low_ns, last.last_ns)
            && near(window.high_ns, last.last_ns)
            && match (window.system_time_ns, last.system_time_ns) {
                (Some(now), Some(before)) => near(now, before),
                (now, before) => now == before,
            };
        if quiet {
            skipped = Some(window);
        } else {
            // A change begins where the last quiet window ends, not where the quiet began.
            kept.extend(skipped.take());
            kept.push(window);
        }
    }
    kept.extend(skipped);
    kept
}

/// The greatest distance of two clocks, each being as it was last where it was not looked at. None without clocks.
fn apart_ns_max(nodes: &BTreeMap<Sym, OneClock>) -> Option<u64> {
    let all: Vec<&OneClock> = nodes.values().filter(|clock| !clock.windows.is_empty()).collect();
    let last = all.iter().filter_map(|clock| clock.windows.keys().last()).max()?;
    let mut held: Vec<Option<(i64, i64)>> = vec![None; all.len()];
    let mut most = 0;
    for number in 0..=*last {
        for (clock, held) in all.iter().zip(&mut held) {
            match (clock.windows.get(&number), &held) {
                (Some(Gathered { window, .. }), _) => *held = Some((window.low_ns, window.high_ns)),
                (None, Some(_)) => {
                    let before = number.checked_sub(1).and_then(|n| clock.windows.get(&n));
                    if let Some(Gathered { window, .. }) = before {
                        *held = Some((window.last_ns, window.last_ns));
                    }
                }
                (None, None) => {}
            }
        }
        for (i, one) in held.iter().enumerate() {
            for other in held.iter().skip(i + 1) {
                if let (Some(a), Some(b)) = (one, other) {
                    most = most.max(a.1.abs_diff(b.0)).max(b.1.abs_diff(a.0));
                }
            }
        }
    }
    Some(most)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use fuzz_dist_core::{Process, Value};
    use std::sync::Arc;

    const SECOND: u64 = 1_000_000_000;
    const HOUR_NS: i64 = 3600 * SECOND as i64;

    fn map(pairs: &[(&str, i64)]) -> Value {
        Value::map(pairs.iter().map(|(name, ns)| (Value::sym(name), Value::Int(*ns))))
    }

    fn told(clocks: &mut Collector, at_s: f64, node: &str, f: &str, pairs: &[(&str, i64)]) {
        let at_ns = (at_s * SECOND as f64) as i64;
        let mut op = Op::new(at_ns, Process::observer(), OpType::Info, Sym::new(f), map(pairs));
        op.node = Some(Sym::new(node));
        clocks.observation(&op);
    }

    fn offset(clocks: &mut Collector, at_s: f64, node: &str, offset_ns: i64) {
        told(clocks, at_s, node, "clock-offset", &[("offset-ns", offset_ns)]);
    }

    #[test]
    fn the_greatest_skew_of_each_node_and_between_two() {
        let mut clocks = Collector::new(60 * SECOND);
        for second in 0..60 {
            let n1 = if (10..20).contains(&second) { HOUR_NS } else { 0 };
            offset(&mut clocks, f64::from(second), "n1", n1);
            // Only at first: what is known last holds.
            if second < 5 {
                offset(&mut clocks, f64::from(second), "n2", -1_000_000_000);
            }
        }
        let clocks = clocks.finish().unwrap();
        assert_eq!(clocks.apart_ns_max, HOUR_NS as u64 + SECOND);
        let [n1, n2] = clocks.nodes.as_slice() else { panic!("{clocks:?}") };
        assert_eq!((n1.skew_ns_max, n1.offset_ns_min, n1.offset_ns_last), (HOUR_NS as u64, 0, 0));
        assert_eq!(
            (n2.skew_ns_max, n2.offset_ns_max, n2.sample_count),
            (SECOND, -1_000_000_000, 5)
        );
        // The ends of what was quiet, and nothing else.
        let seconds: Vec<u64> =
            n1.windows.iter().map(|w| (w.start_ns + SECOND / 2) / SECOND).collect();
        assert_eq!(seconds, [0, 9, 10, 19, 20, 59]);
    }

    #[test]
    fn a_strobe_within_a_window_is_as_wide_as_it_was_and_completions_count() {
        let mut clocks = Collector::new(600 * SECOND);
        for i in 0..50 {
            let mut op = Op::new(
                i * 10_000_000,
                Process::Client(1),
                OpType::Ok,
                Sym::new("read"),
                Value::Nil,
            );
            op.node = Some(Sym::new("n1"));
            let offset_ns = Value::Int(if i % 2 == 0 { -5_000_000_000 } else { 0 });
            op.extra = Some(Arc::new(vec![(Sym::new("clock-offset-ns"), offset_ns)]));
            clocks.completion(&op);
            // Nobody answered: it is what was known before.
            op.op_type = OpType::Info;
            clocks.completion(&op);
        }
        let node = clocks.finish().unwrap().nodes.remove(0);
        assert_eq!(node.sample_count, 50);
        assert_eq!(node.windows.len(), 1);
        let window = &node.windows[0];
        assert_eq!((window.low_ns, window.high_ns, window.last_ns), (-5_000_000_000, 0, 0));
    }

    #[test]
    fn changes_of_the_time_offset_are_by_how_much() {
        let mut clocks = Collector::new(10 * SECOND);
        let sample = |clocks: &mut Collector, at_s: f64, time_offset_ns: i64| {
            let pairs = [
                ("offset-ns", HOUR_NS),
                ("system-time-offset-ns", time_offset_ns),
                ("time-offset-ns", time_offset_ns),
            ];
            told(clocks, at_s, "n1", "clock-offset", &pairs);
        };
        sample(&mut clocks, 1.0, 5);
        told(&mut clocks, 2.0, "n1", "time-offset", &[("offset_ns", HOUR_NS + 5)]);
        sample(&mut clocks, 2.1, HOUR_NS + 5);
        // Sampled before it was told.
        sample(&mut clocks, 3.0, 5);
        told(&mut clocks, 3.0, "n1", "time-offset", &[("offset_ns", 5)]);
        // Another VM has another offset, which is no change.
        told(&mut clocks, 4.0, "n1", "clock-service", &[]);
        sample(&mut clocks, 4.1, 900);
        let node = clocks.finish().unwrap().nodes.remove(0);
        let changes: Vec<i64> = node.time_offset_changes.iter().map(|c| c.change_ns).collect();
        assert_eq!(changes, [HOUR_NS, -HOUR_NS]);
        assert_eq!(node.time_offset_change_count, 2);
        assert_eq!(node.system_time_skew_ns_max, Some(HOUR_NS as u64 + 5));
    }

    #[test]
    fn without_clocks_there_is_nothing() {
        assert_eq!(Collector::new(SECOND).finish(), None);
    }
}
