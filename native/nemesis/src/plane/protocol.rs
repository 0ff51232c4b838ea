//! What core and plane say to each other: JSON lines over loopback TCP, one object a line.
//!
//! The plane dials and sends [`Hello`]. Then the core sends [`Request`]s, each with an id of its own, and
//! the plane answers each with one [`Line::Reply`], in any order; in between it pushes
//! [`Line::Event`]s. All times are nanoseconds of `CLOCK_MONOTONIC`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fuzz_dist_core::fault::{Link, LinkFault};
use serde::{Deserialize, Serialize};

/// Version of this protocol.
pub const PROTOCOL: u32 = 1;

/// Identifies a fault for as long as it is active: `Fault::id` of the schedule.
pub type FaultId = u32;

/// The first line, from the plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Always `plane`.
    pub role: String,
    /// Version of the protocol.
    pub protocol: u32,
    /// The token of the run, from the environment.
    pub token: String,
    /// The plane's own process id.
    pub os_pid: u32,
}

/// One request of the core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Repeated in the reply.
    pub id: u64,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

/// What a run wants of all its connections.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Nodes are kept from using atom cache and fragments, so that single messages can be told apart.
    pub plain_messages: bool,
    /// What crosses links is written to this file, as pcapng.
    pub capture: Option<PathBuf>,
}

/// How the port mapper can be wrong about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MapperFault {
    /// Nobody is told about it, although it is registered.
    Forgotten,
    /// Whoever registers it waits for an answer, and nobody is told about it meanwhile.
    Late,
}

/// What the core may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Command {
    /// To be asked before there are nodes; answered with [`Answer::Configured`].
    Configure(Options),
    /// A node under test; answered with [`Answer::EpmdPort`].
    AddNode {
        /// Its short name.
        short: String,
    },
    /// An EPMD listener that answers with the nodes' real ports; answered with [`Answer::EpmdPort`].
    AddTool,
    /// Is this name registered now? Answered with [`Answer::Registered`].
    Registered {
        /// The short name.
        short: String,
    },
    /// Make the port mapper wrong about a node's name, or right again; answered with
    /// [`Answer::Registered`].
    Mapper {
        /// The short name.
        short: String,
        /// In which way; right when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<MapperFault>,
    },
    /// Put a TCP port of a node behind the plane; answered with [`Answer::Ports`].
    AddPort {
        /// The node that listens on it.
        target: String,
        /// Its name in faults.
        name: String,
        /// The port on 127.0.0.1 that the node itself listens on.
        real_port: u16,
    },
    /// Begin a fault; answered with [`Answer::Applied`].
    Apply {
        /// Its id, not in use.
        fault: FaultId,
        /// The directed links.
        links: Vec<Link>,
        /// A named port; the distribution when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<String>,
        /// What to do with them.
        what: LinkFault,
        /// When; at once if absent or past.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_monotonic_ns: Option<u64>,
    },
    /// End a fault (nothing happens if it is not active); answered with [`Answer::Applied`].
    Heal {
        /// Its id.
        fault: FaultId,
        /// When; at once if absent or past.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_monotonic_ns: Option<u64>,
    },
    /// End every fault and forget those not yet begun; answered with [`Answer::Applied`].
    HealAll,
    /// Counters of every directed link and channel; answered with [`Answer::Stats`].
    Stats,
    /// What an active fault has done so far; answered with [`Answer::Observed`].
    Observe {
        /// Its id.
        fault: FaultId,
    },
}

/// One line of the plane, after the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// The answer to a request.
    Reply {
        /// The id of the request.
        id: u64,
        /// What came of it; the error says what was wrong with the request.
        result: Result<Answer, String>,
    },
    /// Something happened.
    Event(PlaneEvent),
}

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The options are in force.
    Configured,
    /// The port of an EPMD listener.
    EpmdPort(u16),
    /// The real distribution port of a registered name.
    Registered(Option<u16>),
    /// For each source node the port at which it reaches the named port.
    Ports(BTreeMap<String, u16>),
    /// A fault began or ended.
    Applied(Applied),
    /// Counters.
    Stats(Vec<LinkStats>),
    /// What was seen of a fault.
    Observed(Vec<LinkObservation>),
}

/// When a change of policy was in force: from then on no byte passed that it forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// Whether it changed anything; false for the heal of a fault that was not active.
    pub changed: bool,
}

/// Counters of one channel of one directed link, since the plane started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkStats {
    /// The directed link.
    pub link: Link,
    /// `dist` or the name of a port.
    pub channel: String,
    /// Names of the faults that are active on it, by id.
    pub faults: Vec<(FaultId, String)>,
    /// The counters.
    pub counts: LinkCounts,
}

/// What is counted of one direction of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkCounts {
    /// Connections that carry bytes in this direction now, whoever opened them.
    pub open: u64,
    /// Connections that the source opened and that wait for the link to pass before they reach the target.
    pub attempts_waiting: u64,
    /// Connections that the source opened, ever.
    pub opened: u64,
    /// Connections of this direction that ended, ever, for whatever reason.
    pub closed: u64,
    /// Of these, those that a fault closed.
    pub closed_by_fault: u64,
    /// Connections of which a fault closed only the source's end, ever.
    pub half_opened: u64,
    /// Connections of the source that the target did not accept (nothing listened there).
    pub connect_failed: u64,
    /// Questions of the source for the target's port that came while connections were refused.
    pub lookups_refused: u64,
    /// Bytes read from the source.
    pub bytes_in: u64,
    /// Bytes passed to the target.
    pub bytes_passed: u64,
    /// Distribution frames other than ticks passed completely.
    pub frames_passed: u64,
    /// Ticks passed.
    pub ticks_passed: u64,
    /// Ticks that a fault dropped.
    pub ticks_dropped: u64,
    /// Ticks that a fault made up; they count as passed too.
    pub ticks_forged: u64,
    /// Messages that a fault dropped.
    pub messages_dropped: u64,
    /// Messages that a fault took aside to pass later.
    pub messages_delayed: u64,
    /// Bytes in the plane now, read and not yet passed.
    pub bytes_held: u64,
    /// Bytes that were discarded since their connection was closed or half open.
    pub bytes_discarded: u64,
    /// Times that a delay or a throttle made bytes wait.
    pub postponed: u64,
    /// When a byte other than a tick was last passed; 0 for never.
    pub last_data_monotonic_ns: u64,
    /// When a tick was last passed; 0 for never.
    pub last_tick_monotonic_ns: u64,
}

/// What was seen of a fault on one directed link, from its application until now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkObservation {
    /// The directed link.
    pub link: Link,
    /// `dist` or the name of a port.
    pub channel: String,
    /// Whether the fault had its effect on this link.
    pub seen: bool,
    /// What was seen, or what is missing, in words.
    pub effect: String,
    /// When it was applied.
    pub applied_monotonic_ns: u64,
    /// The counters at that time.
    pub before: LinkCounts,
    /// The counters now.
    pub now: LinkCounts,
}

/// Something that happened in the plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaneEvent {
    /// When.
    pub monotonic_ns: u64,
    /// What.
    #[serde(flatten)]
    pub kind: PlaneEventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum PlaneEventKind {
    /// A connection reached its target.
    Opened {
        /// Its number, from 1.
        connection: u64,
        /// Who opened it.
        source: String,
        /// To whom.
        target: String,
        /// `dist` or the name of a port.
        channel: String,
    },
    /// A connection ended, or an attempt was given up before it reached its target.
    Closed {
        /// Its number.
        connection: u64,
        /// Who had opened it.
        source: String,
        /// To whom.
        target: String,
        /// `dist` or the name of a port.
        channel: String,
        /// Who closed first: a short name, or `plane`.
        first: String,
        /// How: `fin`, `rst`, `connect-failed: …`, `fault 7 (rst)` …
        cause: String,
    },
    /// A name was registered at EPMD.
    Registered {
        /// The short name.
        name: String,
        /// Its real port.
        port: u16,
        /// The creation it was given.
        creation: u32,
    },
    /// The EPMD connection of a name ended: its VM is gone or stopped its distribution.
    Unregistered {
        /// The short name.
        name: String,
    },
}

/// Reads one JSON object from one line; `who` wrote it.
///
/// # Errors
/// What is wrong with it, with the beginning of the line.
pub fn parse_line<T: serde::de::DeserializeOwned>(who: &str, line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| {
        let start: String = line.trim_end().chars().take(120).collect();
        format!("cannot read a line of the {who}: {error}; it begins with {start:?}")
    })
}

/// One line, newline included.
pub fn to_line<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string(value).map(|mut text| {
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_lines_survive_the_wire() {
        let request = Request {
            id: 3,
            command: Command::Apply {
                fault: 9,
                links: vec![Link { from: "n1".into(), to: "n2".into() }],
                port: Some("amqp".into()),
                what: LinkFault::delay(5, 2),
                at_monotonic_ns: Some(u64::MAX - 1),
            },
        };
        let line = to_line(&request).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(parse_line::<Request>("core", &line).unwrap(), request);

        for line in [
            Line::Reply { id: 1, result: Err("no such node".into()) },
            Line::Reply { id: 2, result: Ok(Answer::Registered(None)) },
            Line::Event(PlaneEvent {
                monotonic_ns: 7,
                kind: PlaneEventKind::Unregistered { name: "n1".into() },
            }),
        ] {
            assert_eq!(parse_line::<Line>("plane", &to_line(&line).unwrap()).unwrap(), line);
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let error = parse_line::<Request>("core", "{\"id\":1,\"do\":\"dance\"}\n").unwrap_err();
        assert!(error.contains("line of the core") && error.contains("dance"), "{error}");
    }
}
