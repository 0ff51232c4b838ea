//! What core and guard say to each other: one JSON object a line.
//!
//! The core sends [`Request`]s with an id; the guard answers each with a [`Reply`] of that id and
//! reports [`Report::Exited`] whenever a process that it started ends.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// Names the process in later requests, as `n1`; free again once that process has ended.
    pub key: String,
    /// Program (looked up in `PATH` unless it contains a slash) and arguments.
    pub argv: Vec<String>,
    /// Set in addition to the environment of the core.
    pub env: BTreeMap<String, String>,
    /// Removed from it first.
    pub env_remove: Vec<String>,
    /// Working directory; the core's own when absent.
    pub cwd: Option<PathBuf>,
    /// Standard output and standard error are appended to this file.
    pub output: PathBuf,
    /// It ends by itself when the core is gone, and does not die with the guard.
    #[serde(default)]
    pub outlives_guard: bool,
}

/// The signals that the core may ask for. They go to the process and its process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// Stops it, as a long pause does.
    Stop,
    /// Continues it.
    Cont,
    /// Asks it to end.
    Term,
    /// As Ctrl-C.
    Int,
    /// Kills it.
    Kill,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Stop => "SIGSTOP",
            Signal::Cont => "SIGCONT",
            Signal::Term => "SIGTERM",
            Signal::Int => "SIGINT",
            Signal::Kill => "SIGKILL",
        })
    }
}

/// How a process ended: exactly one of the two is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit status.
    pub status: Option<i32>,
    /// The number of the signal that killed it.
    pub signal: Option<i32>,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, self.signal) {
            (Some(status), _) => write!(f, "exit status {status}"),
            (None, Some(9)) => f.write_str("killed by SIGKILL"),
            (None, Some(15)) => f.write_str("killed by SIGTERM"),
            (None, Some(signal)) => write!(f, "killed by signal {signal}"),
            (None, None) => f.write_str("ended"),
        }
    }
}

/// A process, as people want to see it named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its id.
    pub pid: i32,
    /// The beginning of its command line.
    pub command: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub id: u64,
    #[serde(flatten)]
    pub action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Action {
    Spawn(SpawnRequest),
    Signal { key: String, signal: Signal },
    Status,
    AtEnd { commands: Vec<Vec<String>> },
    Shutdown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub id: u64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Outcome {
    Spawned { pid: i32, start_time: u64, monotonic_ns: u64 },
    Signalled { monotonic_ns: u64 },
    Status { processes: Vec<KeyStatus> },
    Noted,
    Swept { killed: Vec<ProcessInfo>, remaining: Vec<ProcessInfo> },
    Refused { reason: String },
}

/// A process that the guard started, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// The key it was started with.
    pub key: String,
    /// Its id.
    pub pid: i32,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Report {
    /// The guard is ready for requests.
    Ready,
    Exited {
        key: String,
        pid: i32,
        #[serde(flatten)]
        exit: Exit,
        monotonic_ns: u64,
    },
}

/// A line from the guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Line {
    Reply(Reply),
    Report(Report),
}
