//! Faults that wait for an event: finds the event, gives them their time, and writes it into the schedule.
//!
//! Events come from three places: what nodes noticed ([`Observations`]), what became of other faults ([`Happenings`]), and
//! what nodes are asked to tell: telemetry, for which the agents attach handlers, and who has a place ([`listen`]). Each occurrence starts at most one of the
//! faults that wait for the same; the next of them waits from the end of the one before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fuzz_dist_core::Value;
use fuzz_dist_core::fault::{After, Event, Fault, FaultSchedule, Selector};
use fuzz_dist_core::sync::lock;

use super::planes::vm::{self, wire};
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
const TELEMETRY: &str = "fuzz_dist_trace";

/// The module that looks who has a place, and the one that knows how to.
const HOLDER: &str = "fuzz_dist_holder";
const SELECTOR: &str = "fuzz_dist_selector";

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
            Event::Telemetry => {
                self.observations.named_since(from_ns, after.event, |node, event| {
                    by(node) && of.is_none_or(|wanted| wanted == event)
                })
            }
            Event::Elected => {
                let place = after.process.as_ref().map(Selector::words);
                self.observations.named_since(from_ns, after.event, |node, taken| {
                    by(node) && place.as_deref() == Some(taken)
                })
            }
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
    fuzz_dist_core::file::replace(path, |out| out.write_all(text.as_bytes()))
        .map_err(|error| internal(&error))
}

/// What nodes are to tell, since faults wait for it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Asked {
    /// Telemetry events, by name.
    telemetry: BTreeSet<String>,
    /// Places that processes take, by their words.
    places: BTreeMap<String, Selector>,
}

impl Asked {
    pub(super) fn by(schedule: &FaultSchedule) -> Asked {
        let mut asked = Asked::default();
        let waiting = schedule.faults.iter().filter(|fault| fault.is_waiting());
        for after in waiting.filter_map(|fault| fault.after.as_ref()) {
            match (after.event, &after.of, &after.process) {
                (Event::Telemetry, Some(name), _) => drop(asked.telemetry.insert(name.clone())),
                (Event::Elected, _, Some(place)) => {
                    asked.places.insert(place.words(), place.clone());
                }
                _ => {}
            }
        }
        asked
    }

    pub(super) fn is_empty(&self) -> bool {
        self.telemetry.is_empty() && self.places.is_empty()
    }
}

/// Keeps every node telling, also those that are started again, until `over`.
pub(super) fn listen(
    asked: &Asked,
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
            for (what, outcome) in [
                ("telemetry", attach(&link, &asked.telemetry)),
                ("elections", watch(&link, &asked.places)),
            ] {
                if let Err(reason) = outcome {
                    reporter.line(&format!("{what} of {node} cannot be listened to: {reason}"));
                }
            }
        }
        if over.wait(ATTACH_EVERY) {
            return;
        }
    }
}

fn load(link: &Link, module: &str) -> Result<(), String> {
    vm::load(link, module, &find_ebin().map_err(|error| error.to_string())?)
}

fn agent() -> Value {
    Value::sym(crate::cluster::bootstrap::AGENT_MODULE)
}

fn attach(link: &Link, events: &BTreeSet<String>) -> Result<(), String> {
    if events.is_empty() {
        return Ok(());
    }
    load(link, TELEMETRY)?;
    for event in events {
        let atoms: Vec<Value> = event.split('.').map(Value::sym).collect();
        let attach = vec![agent(), Value::str(event.as_str()), Value::list(atoms)];
        let answer = call(link, TELEMETRY, "attach", attach)?;
        // Attached already, by a run of the core before an agent came back.
        let fine = answer.as_text() == Some("ok") || answer.to_string().contains("already_exists");
        if !fine {
            return Err(format!("{event}: {answer}"));
        }
    }
    Ok(())
}

fn watch(link: &Link, places: &BTreeMap<String, Selector>) -> Result<(), String> {
    if places.is_empty() {
        return Ok(());
    }
    load(link, SELECTOR)?;
    load(link, HOLDER)?;
    for (words, place) in places {
        let watch = vec![agent(), Value::str(words.as_str()), wire::selector(place)];
        call(link, HOLDER, "watch", watch)?;
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
    use crate::nemesis::tests::fault;
    use fuzz_dist_core::fault::ProcessFault;

    fn waiting_fault(id: u32, after: After) -> Fault {
        Fault { after: Some(after), start_ns: 10, ..fault(id, ProcessFault::Kill, 0, 1) }
    }

    fn schedule(faults: &[Fault]) -> FaultSchedule {
        FaultSchedule {
            version: 1,
            seed: 1,
            nodes: vec!["n1".into()],
            boundaries: vec![],
            eras: vec![],
            faults: faults.to_vec(),
        }
    }

    #[test]
    fn nodes_are_asked_once_for_what_faults_still_wait_for() {
        let place = Selector::Global("leader".into());
        let after = |event, of: Option<&str>, seen_ns| After {
            event,
            of: of.map(str::to_owned),
            process: (event == Event::Elected).then(|| place.clone()),
            seen_by: None,
            delay_ms: 0,
            seen_ns,
        };
        let faults = [
            waiting_fault(1, after(Event::Telemetry, Some("a.b"), None)),
            waiting_fault(2, after(Event::Telemetry, Some("a.b"), None)),
            waiting_fault(3, after(Event::Telemetry, Some("c"), Some(5))),
            waiting_fault(4, after(Event::Elected, None, None)),
            waiting_fault(5, after(Event::Nodedown, None, None)),
        ];
        let asked = Asked::by(&schedule(&faults));
        assert_eq!(asked.telemetry.iter().collect::<Vec<_>>(), ["a.b"]);
        let places = BTreeMap::from([("global leader".to_owned(), place.clone())]);
        assert_eq!(asked.places, places);
        assert!(Asked::by(&schedule(&faults[4..])).is_empty());
    }

    #[test]
    fn one_occurrence_starts_one_fault_and_the_next_waits_for_its_end() {
        let after = |of: &str| After {
            event: Event::FaultObserved,
            of: Some(of.into()),
            process: None,
            seen_by: None,
            delay_ms: 5,
            seen_ns: None,
        };
        let faults = vec![
            waiting_fault(1, after("hold")),
            waiting_fault(2, after("hold")),
            waiting_fault(3, after("pause")),
        ];
        let schedule = schedule(&faults);
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
