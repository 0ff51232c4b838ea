//! What a run is asked for, what it tells while it runs, and how it ends.

use std::path::PathBuf;

use fuzz_dist_core::fault::FaultSchedule;
use fuzz_dist_core::spec::Spec;
use fuzz_dist_core::{CheckResult, Verdict};

/// What to run.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The test, defaults filled in and validated.
    pub spec: Spec,
    /// Faults to run instead of those drawn from the seed.
    pub schedule: Option<FaultSchedule>,
    /// A descriptor whose end of input means that whoever asked for the run is gone.
    pub life_line_fd: Option<i32>,
    /// The command that would repeat this run, without `replay RUN`; for the last lines and reports.
    pub command: Vec<String>,
}

/// One look at a run in progress.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// The phase: `setup`, `main`, `heal`, `recovery`, `final`, `teardown`, `analysis`.
    pub phase: &'static str,
    /// Since the start of the run.
    pub elapsed_s: f64,
    /// Completed operations by outcome.
    pub ok: u64,
    /// Operations that certainly did not happen.
    pub fail: u64,
    /// Operations that may have happened.
    pub info: u64,
    /// Completions a second since the last status.
    pub rate: f64,
    /// Median latency of ok operations since the last status.
    pub p50_ms: f64,
    /// 99th percentile of the same.
    pub p99_ms: f64,
    /// Active faults, as `hold halves` or `kill n2`.
    pub faults: Vec<String>,
    /// Nodes up, of all nodes.
    pub nodes_up: usize,
    /// All nodes.
    pub node_count: usize,
}

/// Receives what a run tells people while it runs. Calls come from the run's own threads.
pub trait Reporter: Send + Sync {
    /// About twice a second.
    fn status(&self, status: &Status);
    /// Something worth a line: a fault and its effect, a node that died, a phase.
    fn line(&self, text: &str);
}

/// How a run ended that gave a verdict.
#[derive(Debug, Clone)]
pub struct RunOutcome {
    /// The folder of the run.
    pub run_dir: PathBuf,
    /// Of all checkers and the vacuity guard.
    pub verdict: Verdict,
    /// The composed result; its parts are the checkers.
    pub result: CheckResult,
    /// Text of the smallest counter-example and the faults around it, for the terminal.
    pub explanation: String,
    /// The report, if it was written.
    pub report: Option<PathBuf>,
    /// What could not be written, and other things that cost no verdict.
    pub warnings: Vec<String>,
    /// The command that runs this schedule again.
    pub replay_command: String,
    /// Seed of the run.
    pub seed: u64,
}

/// Why a run gave no verdict.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The request, the spec or the system under test is at fault: exit code 254.
    #[error("{0}")]
    Input(String),
    /// We are: exit code 255.
    #[error("{0}")]
    Internal(String),
}

impl RunError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Input(_) => 254,
            RunError::Internal(_) => 255,
        }
    }
}

/// Asked in every wait: an error as soon as the wait is in vain.
pub type Check<'a> = &'a (dyn Fn() -> Result<(), RunError> + Sync);
