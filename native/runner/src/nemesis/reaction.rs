//! Faults that wait for an event: finds the event, gives them their time, and writes it into the schedule.
//!
//! Events come from three places: what nodes noticed ([`Observations`]), what became of other faults ([`Happenings`]), and
//! telemetry, for which the agents in the nodes attach handlers ([`listen`]). Each occurrence starts at most one of the
//! faults that wait for the same; the next of them waits from the end of the one before.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fuzz_dist_core::Value;
use fuzz_dist_core::fault::{After, Event, Fault, FaultSchedule};
use fuzz_dist_core::sync::lock;

use crate::agents::{Agents, Link, Role};
use crate::cluster::find_ebin;
use crate::observer::Observations;
use crate::request::{Reporter, RunError};
use crate::stop::Stop;

/// How often nodes are looked at whose agents have no handlers: they were started again.
const ATTACH_EVERY: Duration = Duration::from_millis(300);

/// How long loading a module may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The module that has the handlers.
const MODULE: &str = "fuzz_dist_trace";

/// What became of a fault of a kind, and when.
#[derive(Debug)]
struct Happening {
    time_ns: u64,
    event: Event,
    kind: &'static str,
}

/// What became of faults; shared.
#[derive(Debug, Clone, Default)]
pub struct Happenings(Arc<Mutex<Vec<Happening>>>);

impl Happenings {
    /// This became of a fault of this kind, now.
    pub fn tell(&self, time_ns: u64, event: Event, kind: &'static str) {
        lock(&self.0).push(Happening { time_ns, event, kind });
    }

    fn first(&self, from_ns: u64, event: Event, of: Option<&str>) -> Option<u64> {
        let all = lock(&self.0);
        let fits = |one: &&Happening| {
            one.time_ns >= from_ns && one.event == event && of.is_none_or(|of| of == one.kind)
        };
        all.iter().filter(fits).map(|one| one.time_ns).min()
    }
}

/// The faults of a schedule that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Position in the schedule, and from when on (since the start of the run) its event counts.
    faults: Vec<(usize, u64)>,
}

/// Where events are found.
pub(super) struct Sources<'a> {
    pub observations: &'a Observations,
    pub happenings: &'a Happenings,
}

impl Waiting {
    pub(super) fn of(schedule: &FaultSchedule, main_start_ns: u64) -> Waiting {
        let all = schedule.faults.iter().enumerate().filter(|(_, fault)| fault.is_waiting());
        Waiting { faults: all.map(|(i, fault)| (i, main_start_ns + fault.start_ns)).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Those that still wait.
    pub(super) fn rest(&self) -> impl Iterator<Item = usize> {
        self.faults.iter().map(|(i, _)| *i)
    }

    /// The first of them whose event has been seen, and when.
    pub(super) fn take_due(
        &mut self,
        faults: &[Fault],
        sources: &Sources<'_>,
    ) -> Option<(usize, u64)> {
        let seen = |(i, from_ns): &(usize, u64)| {
            faults[*i].after.as_ref().and_then(|after| sources.first(after, *from_ns))
        };
        let at = self.faults.iter().position(|one| seen(one).is_some())?;
        let seen_ns = seen(&self.faults[at])?;
        Some((self.faults.remove(at).0, seen_ns))
    }

    /// The others that wait for the same wait on from then.
    pub(super) fn rearm(&mut self, faults: &[Fault], after: &After, from_ns: u64) {
        for (i, armed_ns) in &mut self.faults {
            if faults[*i].after.as_ref().is_some_and(|other| other.is_like(after)) {
                *armed_ns = (*armed_ns).max(from_ns);
            }
        }
    }
}

impl Sources<'_> {
    /// When the event first happened, from then on.
    fn first(&self, after: &After, from_ns: u64) -> Option<u64> {
        let of = after.of.as_deref();
        let by = |node: &str| after.seen_by.as_deref().is_none_or(|wanted| wanted == node);
        match after.event {
            Event::Nodedown | Event::Nodeup => {
                let up = after.event == Event::Nodeup;
                let fits = |peer: &str| of.is_none_or(|wanted| wanted == peer);
                let seen = self
                    .observations
                    .since(from_ns, |s| s.up == up && by(&s.node) && fits(&s.peer));
                seen.iter().map(|sighting| sighting.time_ns).min()
            }
            Event::Telemetry => self.observations.executed_since(from_ns, |node, event| {
                by(node) && of.is_none_or(|wanted| wanted == event)
            }),
            Event::FaultApplied | Event::FaultObserved | Event::FaultHealed => {
                self.happenings.first(from_ns, after.event, of)
            }
        }
    }
}

/// Writes the schedule in place of the one before; whoever reads it sees one of the two.
pub(super) fn write(path: &Path, schedule: &FaultSchedule) -> Result<(), RunError> {
    let internal = |error: &dyn std::fmt::Display| {
        RunError::Internal(format!("cannot write {}: {error}", path.display()))
    };
    let text = serde_json::to_string_pretty(schedule).map_err(|error| internal(&error))?;
    let fresh = path.with_extension("json.new");
    std::fs::write(&fresh, text).map_err(|error| internal(&error))?;
    std::fs::rename(&fresh, path).map_err(|error| internal(&error))
}

/// The telemetry events that faults wait for.
pub(super) fn telemetry_events(schedule: &FaultSchedule) -> Vec<String> {
    let after = schedule.faults.iter().filter(|fault| fault.is_waiting());
    let names = after.filter_map(|fault| fault.after.as_ref());
    let names = names.filter(|after| after.event == Event::Telemetry);
    let mut names: Vec<String> = names.filter_map(|after| after.of.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// Keeps handlers of these events attached in every node, also in those that are started again, until `over`.
pub(super) fn listen(
    events: &[String],
    nodes: &[String],
    agents: &Agents,
    reporter: &dyn Reporter,
    over: &Stop,
) {
    let mut attached: HashMap<&str, Option<u32>> = HashMap::new();
    loop {
        for node in nodes {
            let Some(link) = agents.get(Role::Node, node) else { continue };
            if attached.get(node.as_str()) == Some(&link.os_pid()) {
                continue;
            }
            attached.insert(node, link.os_pid());
            if let Err(reason) = attach(&link, events) {
                reporter.line(&format!("telemetry of {node} cannot be listened to: {reason}"));
            }
        }
        if over.wait(ATTACH_EVERY) {
            return;
        }
    }
}

fn attach(link: &Link, events: &[String]) -> Result<(), String> {
    let file = find_ebin().map_err(|error| error.to_string())?.join(format!("{MODULE}.beam"));
    let code = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let name: Vec<Value> = format!("{MODULE}.beam").bytes().map(|b| Value::Int(b.into())).collect();
    let load = vec![Value::sym(MODULE), Value::list(name), Value::Bytes(Arc::new(code))];
    call(link, "code", "load_binary", load)?;
    for event in events {
        let atoms: Vec<Value> = event.split('.').map(Value::sym).collect();
        let agent = Value::sym(crate::cluster::bootstrap::AGENT_MODULE);
        let attach = vec![agent, Value::str(event.as_str()), Value::list(atoms)];
        let answer = call(link, MODULE, "attach", attach)?;
        // Attached already, by a run of the core before an agent came back.
        let fine = answer.as_text() == Some("ok") || answer.to_string().contains("already_exists");
        if !fine {
            return Err(format!("{event}: {answer}"));
        }
    }
    Ok(())
}

fn call(link: &Link, module: &str, function: &str, arguments: Vec<Value>) -> Result<Value, String> {
    let timeout_ms = Value::Int(LOAD_TIMEOUT.as_millis() as i64);
    let call = [Value::sym(module), Value::sym(function), Value::list(arguments), timeout_ms];
    link.ask("call", call, LOAD_TIMEOUT).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use fuzz_dist_core::fault::{ProcessFault, Target};

    fn waiting_fault(id: u32, after: After) -> Fault {
        Fault {
            id,
            kind: ProcessFault::Kill.into(),
            target: Target::One,
            scope: None,
            one_way: false,
            port: None,
            package: None,
            optional: false,
            after: Some(after),
            part_of: None,
            start_ns: 10,
            duration_ns: 100,
            boundary: None,
            resolved: None,
        }
    }

    #[test]
    fn one_occurrence_starts_one_fault_and_the_next_waits_for_its_end() {
        let after = |of: &str| After {
            event: Event::FaultObserved,
            of: Some(of.into()),
            seen_by: None,
            delay_ms: 5,
            seen_ns: None,
        };
        let faults = vec![
            waiting_fault(1, after("hold")),
            waiting_fault(2, after("hold")),
            waiting_fault(3, after("pause")),
        ];
        let schedule = FaultSchedule {
            version: 1,
            seed: 1,
            nodes: vec!["n1".into()],
            boundaries: vec![],
            eras: vec![],
            faults: faults.clone(),
        };
        let mut waiting = Waiting::of(&schedule, 1_000);
        let (observations, happenings) = (Observations::default(), Happenings::default());
        let sources = Sources { observations: &observations, happenings: &happenings };
        // Before they wait, and of another event.
        happenings.tell(1_009, Event::FaultObserved, "hold");
        happenings.tell(1_020, Event::FaultHealed, "hold");
        assert_eq!(waiting.take_due(&faults, &sources), None);
        happenings.tell(1_030, Event::FaultObserved, "hold");
        assert_eq!(waiting.take_due(&faults, &sources), Some((0, 1_030)));
        waiting.rearm(&faults, faults[0].after.as_ref().unwrap(), 1_100);
        assert_eq!(waiting.take_due(&faults, &sources), None);
        happenings.tell(1_099, Event::FaultObserved, "hold");
        happenings.tell(1_101, Event::FaultObserved, "hold");
        assert_eq!(waiting.take_due(&faults, &sources), Some((1, 1_101)));
        assert_eq!(waiting.rest().collect::<Vec<_>>(), [2]);
    }
}
