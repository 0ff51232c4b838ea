//! What the caller tells of a run and no history contains.

use std::collections::BTreeMap;

use fuzz_dist_core::fault::BoundaryEdges;
use serde::{Deserialize, Serialize};

/// A run, as it stands in reports. Every field has an empty default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunInfo {
    /// Name of the test.
    pub name: String,
    /// Id of the run: the name of its folder.
    pub run_id: String,
    /// Seed of everything drawn.
    pub seed: u64,
    /// Name of the workload; empty with a generator of one's own.
    pub workload: String,
    /// Where operations ran: `node` or `client`.
    pub placement: String,
    /// Short names.
    pub nodes: Vec<String>,
    /// Logical processes at a time; 0 if not known. Process p runs on thread p mod concurrency.
    pub concurrency: u32,
    /// Wall clock at the start, nanoseconds since 1970.
    pub started_wall_ns: i64,
    /// Length of the run.
    pub duration_ns: u64,
    /// The resolved spec, as stored.
    pub spec_toml: String,
    /// The command that runs this schedule again.
    pub replay_command: String,
    /// What the run could do on this machine, one line each.
    pub capabilities: Vec<String>,
    /// What a reader must know, one line each.
    pub notes: Vec<String>,
    /// Versions by name: `fuzz_dist`, `otp`, `elixir` …
    pub versions: BTreeMap<String, String>,
    /// Kernel's `prevent_overlapping_partitions` in the nodes.
    pub prevent_overlapping_partitions: bool,
    /// The boundaries that fault durations were drawn against.
    pub boundaries: Vec<BoundaryEdges>,
    /// Why the run ended before its time, if it did.
    pub interrupted: Option<String>,
    /// What is missing at the end of the history, if it is torn.
    pub torn: Option<String>,
}
