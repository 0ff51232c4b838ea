//! The core's end of the socket on which the driver in a node listens for faults.
//!
//! The driver heals whatever a connection has asked for when the connection ends, so that nothing outlives the core.
//! What is to be in force is kept here too: a driver that is met anew (its node was started again, or stood still too
//! long to answer) is told all of it. Protocol: `native/driver/src/control.rs`.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Mutex;
use std::time::Duration;

use fuzz_dist_core::clock;
use fuzz_dist_core::sync::lock;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

/// The driver answers from a thread of its own, in microseconds; a node that stands still does not.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// Which bytes of a connection, as the node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// What it sends.
    Out,
    /// What it receives.
    In,
}

/// A fault of one peer and direction, as the driver is asked for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its number, at most once at a time for each driver.
    pub id: u64,
    /// The full name of the other node.
    pub peer: String,
    /// Which bytes.
    pub direction: Direction,
    /// What, as the protocol has it.
    pub fault: Json,
    /// Whether it is over as soon as it is done.
    pub instant: bool,
}

/// What has happened on connections to one peer, in one direction, since the driver was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Counts {
    /// The full name of the peer.
    #[serde(default)]
    pub peer: String,
    /// Absent in counts that are all 0.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// Bytes that passed.
    pub bytes: u64,
    /// Bytes that wait in the socket.
    pub waiting_bytes: u64,
    /// Frames and ticks that had to wait for a heal.
    pub held_frames: u64,
    /// Frames that were made late.
    pub delayed_frames: u64,
    /// Frames that vanished.
    pub dropped_frames: u64,
    /// Times that bytes had to wait for the rate.
    pub throttled: u64,
    /// Ticks that passed.
    pub ticks_passed: u64,
    /// Ticks that vanished.
    pub ticks_suppressed: u64,
    /// Ticks that the driver made.
    pub ticks_forged: u64,
    /// Connections that a fault closed.
    pub closed: u64,
    /// Times that senders had to wait.
    pub busy: u64,
    /// Connects that had to wait.
    pub connects_held: u64,
    /// Connects that were refused.
    pub connects_refused: u64,
}

impl Counts {
    /// What has been added since then. A driver that was loaded since has begun anew.
    pub fn since(&self, before: &Counts) -> Counts {
        if self.bytes < before.bytes {
            return self.clone();
        }
        let added = |now: u64, before: u64| now.saturating_sub(before);
        Counts {
            peer: self.peer.clone(),
            direction: self.direction,
            bytes: added(self.bytes, before.bytes),
            waiting_bytes: self.waiting_bytes,
            held_frames: added(self.held_frames, before.held_frames),
            delayed_frames: added(self.delayed_frames, before.delayed_frames),
            dropped_frames: added(self.dropped_frames, before.dropped_frames),
            throttled: added(self.throttled, before.throttled),
            ticks_passed: added(self.ticks_passed, before.ticks_passed),
            ticks_suppressed: added(self.ticks_suppressed, before.ticks_suppressed),
            ticks_forged: added(self.ticks_forged, before.ticks_forged),
            closed: added(self.closed, before.closed),
            busy: added(self.busy, before.busy),
            connects_held: added(self.connects_held, before.connects_held),
            connects_refused: added(self.connects_refused, before.connects_refused),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    id: Option<u64>,
    #[serde(default)]
    monotonic_ns: Option<u64>,
    #[serde(default)]
    peers: Vec<Counts>,
    #[serde(default)]
    error: Option<String>,
}

/// The driver of one node. All methods may be called from any thread.
#[derive(Debug)]
pub struct Driver {
    /// The abstract name of its socket, without the `@`.
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<BufReader<UnixStream>>,
    /// What is to be in force.
    rules: Vec<Rule>,
}

impl Driver {
    /// Of a node whose driver listens at that abstract name.
    pub fn new(name: String) -> Driver {
        Driver { name, state: Mutex::default() }
    }

    /// Puts rules in force at that moment of `CLOCK_MONOTONIC`, now if there is none; returns when it was done. If
    /// not all of them can be, none is.
    pub fn apply(&self, rules: &[Rule], at_ns: Option<u64>) -> Result<u64, String> {
        let mut state = lock(&self.state);
        let applied = self.connection(&mut state).and_then(|open| tell(open, rules, at_ns));
        match applied {
            Ok(applied_ns) => {
                state.rules.extend(rules.iter().filter(|rule| !rule.instant).cloned());
                Ok(applied_ns)
            }
            Err(reason) => {
                // The driver heals what it may have understood.
                state.connection = None;
                Err(reason)
            }
        }
    }

    /// Takes rules back; when that was. A driver that does not answer loses its connection, which heals.
    pub fn heal(&self, ids: &[u64], is_paused: bool) -> u64 {
        let mut state = lock(&self.state);
        state.rules.retain(|rule| !ids.contains(&rule.id));
        let healed = match &mut state.connection {
            Some(open) if !is_paused => take_back(open, ids),
            _ => Err("the node stands still".into()),
        };
        if healed.is_err() {
            state.connection = None;
        }
        healed.unwrap_or_else(|_| clock::monotonic_ns())
    }

    /// Counts of all peers and directions.
    pub fn counts(&self) -> Result<Vec<Counts>, String> {
        let mut state = lock(&self.state);
        let asked = self.connection(&mut state).and_then(|open| {
            send(open, &json!({ "op": "stats" }))?;
            Ok(answer(open)?.peers)
        });
        if asked.is_err() {
            state.connection = None;
        }
        asked
    }

    /// Whether a rule about those bytes is in force.
    pub fn is_ruled(&self, peer: &str, direction: Direction) -> bool {
        let state = lock(&self.state);
        state.rules.iter().any(|rule| rule.peer == peer && rule.direction == direction)
    }

    /// Meets the driver again if it was lost.
    pub fn tend(&self) {
        let mut state = lock(&self.state);
        if state.connection.as_mut().is_some_and(|open| !is_open(open)) {
            state.connection = None;
        }
        // Without anything to tell there is no hurry: who wants something connects.
        if state.connection.is_none() && !state.rules.is_empty() {
            let _ = self.connection(&mut state);
        }
    }

    fn connection<'a>(
        &self,
        state: &'a mut State,
    ) -> Result<&'a mut BufReader<UnixStream>, String> {
        if state.connection.as_mut().is_some_and(|open| !is_open(open)) {
            state.connection = None;
        }
        if state.connection.is_none() {
            let mut open = self.connect().map_err(|error| {
                format!(
                    "its driver cannot be reached ({error}): the node is down, or its command does not \
                     pass ERL_ZFLAGS and FUZZ_DIST_CARRIER_SOCKET on to the VM"
                )
            })?;
            tell(&mut open, &state.rules, None)?;
            state.connection = Some(open);
        }
        state.connection.as_mut().ok_or_else(|| "its driver was lost".into())
    }

    fn connect(&self) -> std::io::Result<BufReader<UnixStream>> {
        let address = SocketAddr::from_abstract_name(&self.name)?;
        let stream = UnixStream::connect_addr(&address)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(BufReader::new(stream))
    }
}

/// Asks for rules, and waits until all are in force.
fn tell(
    open: &mut BufReader<UnixStream>,
    rules: &[Rule],
    at_ns: Option<u64>,
) -> Result<u64, String> {
    for rule in rules {
        let Rule { id, peer, direction, fault, .. } = rule;
        let mut request = json!({ "op": "apply", "id": id, "peer": peer, "direction": direction, "fault": fault });
        if let Some(at_ns) = at_ns {
            request["at_ns"] = at_ns.into();
        }
        send(open, &request)?;
    }
    all(open, rules.iter().map(|rule| rule.id).collect())
}

fn take_back(open: &mut BufReader<UnixStream>, ids: &[u64]) -> Result<u64, String> {
    for id in ids {
        send(open, &json!({ "op": "heal", "id": id }))?;
    }
    all(open, ids.to_vec())
}

/// Waits for an answer to each of these; the last moment that they tell.
fn all(open: &mut BufReader<UnixStream>, mut ids: Vec<u64>) -> Result<u64, String> {
    let mut last_ns = 0;
    while !ids.is_empty() {
        let Answer { id, monotonic_ns, .. } = answer(open)?;
        ids.retain(|one| Some(*one) != id);
        last_ns = last_ns.max(monotonic_ns.unwrap_or_default());
    }
    Ok(if last_ns == 0 { clock::monotonic_ns() } else { last_ns })
}

fn send(open: &mut BufReader<UnixStream>, request: &Json) -> Result<(), String> {
    let line = format!("{request}\n");
    open.get_mut().write_all(line.as_bytes()).map_err(|error| lost(&error))
}

fn answer(open: &mut BufReader<UnixStream>) -> Result<Answer, String> {
    let mut line = String::new();
    match open.read_line(&mut line) {
        Ok(0) => return Err("its driver is gone: the node has ended".into()),
        Ok(_) => {}
        Err(error) => return Err(lost(&error)),
    }
    let answer: Answer = serde_json::from_str(&line)
        .map_err(|error| format!("its driver answered {line:?}, which is no answer ({error})"))?;
    match answer.error {
        Some(error) => Err(format!("its driver refuses: {error}")),
        None => Ok(answer),
    }
}

fn lost(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!(
            "its driver did not answer within {} ms: the node is paused, or the machine overloaded",
            ANSWER_MAX.as_millis()
        ),
        _ => format!("its driver was lost ({error}): the node has ended"),
    }
}

/// Whether the other end is still there. Nothing is sent unasked, so that whatever can be read is its end.
fn is_open(open: &mut BufReader<UnixStream>) -> bool {
    let stream = open.get_ref();
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let waits = matches!(open.fill_buf(), Err(error) if error.kind() == ErrorKind::WouldBlock);
    waits && open.get_ref().set_nonblocking(false).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    fn rule(id: u64) -> Rule {
        let peer = "n2@127.0.0.1".to_owned();
        Rule {
            id,
            peer,
            direction: Direction::Out,
            fault: json!({ "kind": "hold" }),
            instant: false,
        }
    }

    /// Answers so many requests, then goes; the ids that were applied.
    fn serve(listener: &UnixListener, requests: usize) -> Vec<u64> {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut applied = Vec::new();
        for _ in 0..requests {
            let request: Json = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            let id = request["id"].as_u64().unwrap();
            if request["op"] == "apply" {
                applied.push(id);
            }
            writeln!(&stream, "{}", json!({ "id": id, "monotonic_ns": id })).unwrap();
        }
        applied
    }

    #[test]
    fn a_driver_that_is_met_again_is_told_what_is_in_force() {
        let name = format!("fuzz_dist-driver-test-{}", std::process::id());
        let listener =
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let serving = thread::spawn(move || {
            let first = serve(&listener, 4);
            (first, serve(&listener, 2))
        });
        let driver = Driver::new(name);
        assert_eq!(driver.apply(&[rule(1), rule(2)], None), Ok(2));
        assert_eq!(driver.apply(&[rule(3)], Some(5)), Ok(3));
        assert_eq!(driver.heal(&[2], false), 2);
        while !serving.is_finished() {
            driver.tend();
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(serving.join().unwrap(), (vec![1, 2, 3], vec![1, 3]));
        assert!(driver.is_ruled("n2@127.0.0.1", Direction::Out));
        assert!(!driver.is_ruled("n2@127.0.0.1", Direction::In));
        // Nobody is there any more; a heal is none the less one.
        assert!(driver.apply(&[rule(4)], None).unwrap_err().contains("cannot be reached"));
        assert!(driver.heal(&[1, 3], false) > 0);
        assert!(!driver.is_ruled("n2@127.0.0.1", Direction::Out));
    }

    #[test]
    fn counts_of_a_driver_that_was_loaded_anew_begin_at_nothing() {
        let counts = |bytes, held_frames| Counts { bytes, held_frames, ..Counts::default() };
        assert_eq!(counts(9, 5).since(&counts(4, 3)), counts(5, 2));
        assert_eq!(counts(3, 1).since(&counts(4, 3)), counts(3, 1));
    }
}
