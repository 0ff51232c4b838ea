//! Runs a test: cluster, operations, faults, history, verdict.
//!
//! Reading order: [`request`] (what is asked and answered), [`run`](mod@run) and `session` (from start to
//! end), `phases`, [`operations`] (the interpreter), [`nemesis`] (faults in time), [`agents`] (websocket
//! to the BEAM), [`cluster`] (processes), [`recorder`] (the way into the history), [`analysis`].

pub mod agents;
pub mod analysis;
pub mod clock_offsets;
pub mod cluster;
mod core_log;
pub mod crashes;
pub mod default_nemesis;
pub mod directory;
mod epmd;
pub mod live;
pub mod live_mining;
pub mod mesh;
pub mod mined;
pub mod nemesis;
pub mod observer;
pub mod operations;
mod phases;
pub mod plan;
pub mod recorder;
pub mod request;
pub mod run;
mod session;
mod signals;
pub mod status;
pub mod stop;
pub mod surprises;
pub mod telemetry;
mod tested;
pub mod workers;

pub use analysis::{MIX, analyze};
pub use request::{Reporter, RunError, RunOutcome, RunRequest, Status};
pub use run::run;
