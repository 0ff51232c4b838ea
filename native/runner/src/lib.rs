//! Runs a test: cluster, operations, faults, history, verdict.

pub mod request;

pub use request::{Reporter, RunError, RunOutcome, RunRequest, Status};
