//! The guard: a small process of its own, parent of every other process of a run.
//!
//! It exists so that nothing outlives a run, whatever dies first. Its standard input is a pipe from
//! the core; when that ends, for whatever reason, the guard kills every process that it started and
//! everything these left behind, stopped or not, and exits. It is a subreaper, so whatever a node
//! leaves behind (port programs, daemons that left their session) becomes its child and is found in
//! `/proc`. It has a session of its own and ignores the signals by which terminals and supervisors end
//! programs: it ends when the core does. What it starts dies with it (`launch`), also when both are killed
//! in one instant; where there are writable cgroups v2, everything of a run is in a group of its own. What outlives processes (network namespaces, rules) is undone by
//! commands that it was given before; the handle runs them if the guard was killed.
//!
//! Core and guard speak JSON lines (`protocol`). [`Guard`] is the core's end; when the guard
//! itself is killed, the handle kills what it remembers and what carries the run's id in its
//! environment, and reports [`GuardEvent::Lost`].
//!
//! Limits: Linux; a process in uninterruptible sleep cannot be killed and is reported as a leftover;
//! after the death of the guard a process that both escaped its ancestors and cleared its
//! environment is found only where there are cgroups v2 (see [`crate::leftovers`]).

pub(crate) mod cgroup;
mod client;
mod launch;
pub(crate) mod owner;
mod process_table;
mod protocol;
mod server;

pub use client::{Guard, GuardError, GuardEvent, Leftovers, Signalled, Spawned};
pub use process_table::{Identity, ProcessState, ProcessTable, state};
pub use protocol::{Exit, KeyStatus, ProcessInfo, Signal, SpawnRequest};
pub use server::main;

/// The variable that every process of a run carries; its value is the id of the run.
pub const RUN_VARIABLE: &str = "FUZZ_DIST_RUN";
