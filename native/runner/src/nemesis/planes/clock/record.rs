//! What the history tells of the clocks of nodes in a run that plays with them.
//!
//! Each node is asked forty times a second, by a thread of its own so that one that does not answer holds up no other. A
//! `clock-offset` is recorded when the clock is elsewhere than it was told last, and once a second anyway: jumps
//! and the flicker of a strobe are all there, and a quiet clock costs next to nothing. When a VM begins to answer,
//! `clock-service` tells its time-warp mode.
//!
//! Limits: a strobe of a shorter period than the time between two questions is seen in samples. Completions carry further
//! ones.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;

use super::{ASK_TIMEOUT, MS_NS, Reading, Shared};
use crate::agents::Role;
use crate::recorder::map;

/// How often a node is asked.
const ASK_EVERY: Duration = Duration::from_millis(25);

/// How often it is recorded what did not change.
const RECORD_EVERY: Duration = Duration::from_secs(1);

/// What it must have changed by to be recorded sooner.
const CHANGE_NS_MIN: u64 = MS_NS as u64;

/// And of what it was: a clock that drifts is told less often the farther it is.
const CHANGE_PART: u64 = 20;

/// Records the clocks of all nodes for as long as the plane lives.
pub fn begin(shared: &Arc<Shared>) -> std::io::Result<()> {
    for node in shared.tools.cluster.names() {
        let watched = Arc::downgrade(shared);
        std::thread::Builder::new()
            .name(format!("clock {node}"))
            .spawn(move || keep_record(&watched, &node))?;
    }
    Ok(())
}

fn keep_record(shared: &Weak<Shared>, node: &str) {
    let mut last: Option<(Instant, Reading)> = None;
    let mut told_of: Option<usize> = None;
    while let Some(shared) = shared.upgrade() {
        shared.tell_mode(node, &mut told_of);
        if let Some(reading) = shared.read(node)
            && last.is_none_or(|(at, last)| at.elapsed() >= RECORD_EVERY || moved(last, reading))
        {
            shared.record(node, reading);
            last = Some((Instant::now(), reading));
        }
        drop(shared);
        std::thread::sleep(ASK_EVERY);
    }
}

/// Whether a clock is elsewhere than it was, or the VM has changed its mind about it.
fn moved(before: Reading, now: Reading) -> bool {
    let least_ns = CHANGE_NS_MIN.max(before.offset_ns.unsigned_abs() / CHANGE_PART);
    before.offset_ns.abs_diff(now.offset_ns) >= least_ns
        || before.vm.time_offset_ns != now.vm.time_offset_ns
}

impl Shared {
    fn record(&self, node: &str, reading: Reading) {
        let recorder = &self.tools.recorder;
        let value = map([
            ("offset-ns", Value::Int(reading.offset_ns)),
            ("system-time-offset-ns", Value::Int(reading.vm.system_offset_ns)),
            ("monotonic-time-ns", Value::Int(reading.vm.monotonic_ns)),
            ("time-offset-ns", Value::Int(reading.vm.time_offset_ns)),
        ]);
        let time_ns = recorder.clock().at_ns(reading.monotonic_ns);
        // A history that cannot be written is reported by others, who write to it too.
        let _ = recorder.observer(time_ns, "clock-offset", Some(node), value);
    }

    /// Once for each VM of a node.
    fn tell_mode(&self, node: &str, told_of: &mut Option<usize>) {
        let Some(link) = self.tools.agents.get(Role::Node, node) else { return };
        let connection = Arc::as_ptr(&link) as usize;
        if *told_of == Some(connection) {
            return;
        }
        let ask = |item: &str| {
            let arguments = Value::list(vec![Value::sym(item)]);
            let timeout_ms = Value::Int(ASK_TIMEOUT.as_millis() as i64);
            let call = [Value::sym("erlang"), Value::sym("system_info"), arguments, timeout_ms];
            link.ask("call", call, ASK_TIMEOUT * 2).ok()
        };
        let (Some(mode), Some(correction)) = (ask("time_warp_mode"), ask("time_correction")) else {
            return;
        };
        *told_of = Some(connection);
        let value = map([("time-warp-mode", mode), ("time-correction", correction)]);
        let recorder = &self.tools.recorder;
        let _ = recorder.observer(recorder.now_ns(), "clock-service", Some(node), value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::VmTime;
    use super::*;

    fn reading(offset_ms: i64, time_offset_ns: i64) -> Reading {
        let vm = VmTime { monotonic_ns: 0, time_offset_ns, system_offset_ns: 0 };
        Reading { monotonic_ns: 0, offset_ns: offset_ms * MS_NS, vm }
    }

    #[test]
    fn jumps_are_recorded_at_once_and_a_drift_less_often_the_farther_it_is() {
        let still = |from: i64, to: i64| !moved(reading(from, 7), reading(to, 7));
        assert!(still(0, 0) && still(3_600_000, 3_600_900) && still(-400, -390));
        assert!(!still(0, 1) && !still(3_600_000, 0) && !still(-5000, 0) && !still(-400, -380));
        assert!(moved(reading(0, 7), reading(0, 8)));
    }
}
