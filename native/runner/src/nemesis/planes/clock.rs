//! The clock plane: what a node reads from the wall clock, by a preloaded library.
//!
//! The effect is asked from the node: its agent tells its wall and its monotonic clock, read together. Only the first is
//! faked and all processes of a host share the second, so their difference, less the same difference in the core, is
//! how far the node's wall clock is off, whatever time the answer took. What was found goes into the history
//! ([`record`]), and every completion carries it. What the VM makes of a clock that is off depends on its
//! time-warp mode (`cluster.time_warp`); that is recorded too.
//!
//! Limits: an offset of less than a tenth of a millisecond cannot be told from how long it takes to read two clocks. A
//! node that is down or paused does not answer, and shows the fault when it does.

mod record;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fuzz_dist_core::fault::{Availability, ClockFault, FaultKind, Plane};
use fuzz_dist_core::spec::Spec;
use fuzz_dist_core::sync::lock;
use fuzz_dist_core::{Sym, Value, clock};
use fuzz_dist_shim_page::ClockMode;

use super::shim::{self, Pages};
use super::{Applied, AppliedFault, FaultPlane, Order, Registration, Seen, Tools};
use crate::agents::Role;
use crate::clock_offsets::ClockStamp;
use crate::recorder::map;
use crate::request::RunError;

/// How long a node may take to tell its clocks.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

/// How often a node is asked while an effect is looked for.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// How long clocks may take to be right when every fault was taken back: a busy machine reads two of them apart now
/// and then.
const RIGHT_MAX: Duration = Duration::from_secs(5);

/// What an offset may be away from what it should be.
const TOLERANCE_NS_MAX: u64 = 20_000_000;

/// The smallest offset that can be told from none.
const OFFSET_NS_MIN: u64 = 100_000;

const MS_NS: i64 = 1_000_000;

/// The plane.
pub const REGISTRATION: Registration = Registration {
    plane: Plane::Clock,
    always: false,
    availability,
    prepare: Some(|start| shim::prepare(start).map(drop)),
    open: |tools| Ok(Arc::new(ClockPlane::open(tools)?)),
};

fn availability(kind: &FaultKind, _spec: Option<&Spec>) -> Availability {
    match (kind, shim::find()) {
        (FaultKind::Clock(_), Ok(_)) => Availability::Real,
        (FaultKind::Clock(_), Err(reason)) => Availability::Unavailable(reason),
        _ => Availability::not_built(),
    }
}

struct ClockPlane {
    shared: Arc<Shared>,
}

struct Shared {
    tools: Tools,
    pages: Pages,
}

/// What a node said of its clocks.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// When, of `CLOCK_MONOTONIC`.
    monotonic_ns: u64,
    /// How far its wall clock is off.
    offset_ns: i64,
    vm: VmTime,
}

/// What the VM makes of its clocks.
#[derive(Debug, Clone, Copy)]
struct VmTime {
    /// `erlang:monotonic_time/1`.
    monotonic_ns: i64,
    /// `erlang:time_offset/1`: with the other it is `erlang:system_time/1`.
    time_offset_ns: i64,
    /// How far that is off.
    system_offset_ns: i64,
}

impl Shared {
    fn read(&self, node: &str) -> Option<Reading> {
        let link = self.tools.agents.get(Role::Node, node)?;
        let answer = link.request("clocks", [], ASK_TIMEOUT).ok()?;
        let numbers: Vec<i64> = answer.iter().map_while(Value::as_int).collect();
        let [monotonic_ns, wall_ns, vm_ns, time_offset_ns] = numbers[..] else { return None };
        let offsets = self.tools.recorder.clock_offsets();
        let offset_ns = offsets.learn(Sym::new(node), ClockStamp { monotonic_ns, wall_ns });
        let system = ClockStamp { monotonic_ns, wall_ns: vm_ns.saturating_add(time_offset_ns) };
        Some(Reading {
            monotonic_ns: monotonic_ns.max(0) as u64,
            offset_ns,
            vm: VmTime {
                monotonic_ns: vm_ns,
                time_offset_ns,
                system_offset_ns: system.offset_ns(),
            },
        })
    }
}

impl Shared {
    /// Waits until every clock that can be read is right; `clocks-right` of the history has by how little they are off.
    fn confirm_right(&self) -> Result<(), String> {
        let deadline = Instant::now() + RIGHT_MAX;
        loop {
            let all = self.tools.cluster.names().into_iter();
            let read: Vec<(String, Reading)> =
                all.filter_map(|node| self.read(&node).map(|reading| (node, reading))).collect();
            let off = read.iter().find(|(_, r)| r.offset_ns.unsigned_abs() > TOLERANCE_NS_MAX);
            let Some((node, reading)) = off else {
                let offsets = read.iter().map(|(node, reading)| {
                    (Value::str(node.as_str()), Value::Int(reading.offset_ns))
                });
                let value = map([("offset-ns", Value::map(offsets))]);
                let recorder = &self.tools.recorder;
                let written = recorder.observer(recorder.now_ns(), "clocks-right", None, value);
                return written.map_err(|error| error.to_string());
            };
            if self.tools.stop.wait(ASK_EVERY) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let by = milliseconds(reading.offset_ns);
                return Err(format!("the wall clock of {node} is still off by {by}"));
            }
        }
    }
}

impl ClockPlane {
    fn open(tools: &Tools) -> Result<ClockPlane, RunError> {
        let shared = Arc::new(Shared { tools: tools.clone(), pages: Pages::open(tools)? });
        tools.recorder.clock_offsets().want();
        record::begin(&shared).map_err(|e| RunError::Internal(e.to_string()))?;
        Ok(ClockPlane { shared })
    }
}

fn mode(kind: &ClockFault) -> Option<ClockMode> {
    match *kind {
        ClockFault::ClockJump { offset_ms } => {
            Some(ClockMode::Jump { offset_ns: offset_ms.saturating_mul(MS_NS) })
        }
        ClockFault::ClockStrobe { offset_ms, period_ms } => Some(ClockMode::Strobe {
            offset_ns: offset_ms.saturating_mul(MS_NS),
            period_ns: period_ms.saturating_mul(MS_NS as u64),
        }),
        ClockFault::ClockDrift { ppm } => Some(ClockMode::Drift { ppm }),
        ClockFault::ClockReset => None,
    }
}

impl FaultPlane for ClockPlane {
    fn apply(&self, order: &Order) -> Result<Applied, String> {
        let FaultKind::Clock(kind) = &order.fault.kind else {
            return Err(format!("{} is no fault of clocks", order.fault.kind.name()));
        };
        let nodes = &order.resolved.nodes;
        let pages = &self.shared.pages;
        // All of them must be there before anything is changed.
        let each: Vec<_> = nodes
            .iter()
            .map(|node| pages.obeyed(&self.shared.tools, node))
            .collect::<Result<_, _>>()?;
        let (id, now_ns) = (u64::from(order.fault.id), clock::monotonic_ns());
        let mut taken_back = 0;
        if let Some(mode) = mode(kind) {
            let deadline_ns = shim::deadline_ns(order.fault.duration_ns);
            if !each.iter().all(|page| page.begin_clock(id, mode, now_ns, deadline_ns)) {
                each.iter().for_each(|page| _ = page.end_clock(Some(id)));
                return Err("too many faults of one clock overlap: 8 at most".into());
            }
        } else {
            taken_back = each.iter().map(|page| page.end_clock(None)).sum();
        }
        let fault = AppliedToClocks {
            shared: Arc::clone(&self.shared),
            order: order.clone(),
            kind: kind.clone(),
            applied_ns: now_ns,
            nodes: nodes.iter().map(|node| Watched::new(node)).collect(),
        };
        let decided = match kind {
            ClockFault::ClockReset => vec![("taken-back", Value::Int(taken_back as i64))],
            _ => Vec::new(),
        };
        Ok(Applied { monotonic_ns: now_ns, decided, fault: Arc::new(fault) })
    }

    /// Every clock is right afterwards, which the nodes that answer have to confirm.
    fn heal_all(&self) -> Result<Vec<String>, String> {
        self.shared.pages.all().for_each(|page| _ = page.end_clock(None));
        self.shared.confirm_right()?;
        Ok(Vec::new())
    }
}

/// What was seen of a node so far.
struct Watched {
    node: String,
    /// [`OFF`] and [`RIGHT`].
    seen: AtomicU8,
    last: Mutex<(Option<Instant>, Option<Reading>)>,
}

/// The clock was off as it should be.
const OFF: u8 = 1;
/// It was right, as it should be every other period.
const RIGHT: u8 = 2;

impl Watched {
    fn new(node: &str) -> Watched {
        Watched { node: node.to_owned(), seen: AtomicU8::new(0), last: Mutex::default() }
    }
}

struct AppliedToClocks {
    shared: Arc<Shared>,
    order: Order,
    kind: ClockFault,
    applied_ns: u64,
    nodes: Vec<Watched>,
}

impl AppliedToClocks {
    fn id(&self) -> u64 {
        u64::from(self.order.fault.id)
    }

    /// Asks a node if it was not asked just now.
    fn ask(&self, watched: &Watched) -> Option<Reading> {
        let mut last = lock(&watched.last);
        if last.0.is_some_and(|at| at.elapsed() < ASK_EVERY) {
            return None;
        }
        let reading = self.shared.read(&watched.node);
        *last = (Some(Instant::now()), reading.or(last.1));
        reading
    }

    /// Looks at a node once more; what has been seen of it by now.
    fn look(&self, watched: &Watched) -> u8 {
        let seen = self.ask(watched).and_then(|reading| {
            let page = self.shared.pages.get(&watched.node).ok()?;
            let ours_ns = page.clock_offset_of_ns(self.id(), reading.monotonic_ns);
            let all_ns = page.clock_offset_ns(reading.monotonic_ns);
            let away_ns = reading.offset_ns.abs_diff(all_ns);
            if matches!(self.kind, ClockFault::ClockReset) {
                return (away_ns <= TOLERANCE_NS_MAX).then_some(OFF);
            }
            let size_ns = match self.kind {
                ClockFault::ClockStrobe { offset_ms, .. } => {
                    offset_ms.unsigned_abs() * MS_NS as u64
                }
                _ => ours_ns.unsigned_abs(),
            };
            if size_ns < OFFSET_NS_MIN || away_ns > (size_ns / 3).min(TOLERANCE_NS_MAX) {
                return None;
            }
            Some(if ours_ns == 0 { RIGHT } else { OFF })
        });
        watched.seen.fetch_or(seen.unwrap_or(0), Ordering::Relaxed) | seen.unwrap_or(0)
    }

    fn offsets(&self) -> String {
        let told = self.nodes.iter().map(|watched| {
            let last = lock(&watched.last).1;
            last.map_or_else(
                || format!("{} did not answer", watched.node),
                |reading| format!("{} is off by {}", watched.node, milliseconds(reading.offset_ns)),
            )
        });
        told.collect::<Vec<_>>().join(", ")
    }
}

/// `-3600000 ms`, and of little ones also what is behind the point.
fn milliseconds(ns: i64) -> String {
    if ns.unsigned_abs() < 100 * MS_NS as u64 {
        format!("{:.1} ms", ns as f64 / 1e6)
    } else {
        format!("{:.0} ms", ns as f64 / 1e6)
    }
}

impl AppliedFault for AppliedToClocks {
    fn observe(&self, now_ns: u64) -> Option<Seen> {
        let applied_ns = self.shared.tools.recorder.clock().at_ns(self.applied_ns);
        let late = now_ns.saturating_sub(applied_ns) * 2 > self.order.fault.duration_ns;
        // One period may be longer than the fault.
        let wanted = match self.kind {
            ClockFault::ClockStrobe { .. } if !late => OFF | RIGHT,
            _ => OFF,
        };
        let seen: Vec<u8> = self.nodes.iter().map(|watched| self.look(watched)).collect();
        if !seen.iter().all(|seen| seen & wanted == wanted) {
            return None;
        }
        let offsets = self.nodes.iter().filter_map(|watched| {
            let reading = lock(&watched.last).1?;
            Some((Value::str(watched.node.as_str()), Value::Int(reading.offset_ns)))
        });
        let evidence = map([("offset-ns", Value::map(offsets))]);
        let text = match self.kind {
            ClockFault::ClockStrobe { .. } => {
                format!("clock jumps there and back: {}", self.offsets())
            }
            _ => self.offsets(),
        };
        Some(Seen { text, evidence })
    }

    fn why_not(&self) -> String {
        format!("the wall clock was not where it should be: {}", self.offsets())
    }

    fn heal(&self, _at_ns: Option<u64>) -> Result<u64, String> {
        for watched in &self.nodes {
            self.shared.pages.get(&watched.node)?.end_clock(Some(self.id()));
            *lock(&watched.last) = (None, None);
        }
        Ok(clock::monotonic_ns())
    }

    /// The clock is off by no more than what other faults make of it.
    fn observe_heal(&self) -> Option<Seen> {
        for watched in &self.nodes {
            let reading = self.ask(watched).or_else(|| lock(&watched.last).1)?;
            let page = self.shared.pages.get(&watched.node).ok()?;
            let all_ns = page.clock_offset_ns(reading.monotonic_ns);
            if reading.offset_ns.abs_diff(all_ns) > TOLERANCE_NS_MAX {
                return None;
            }
        }
        Some(Seen::new(self.offsets()))
    }
}
