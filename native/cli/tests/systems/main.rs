//! Runs of real systems on real clusters, from the spec to the verdict: what a user sees of a run (exit code, results,
//! history, schedule) is compared with what the system under test certainly does.
//!
//! Each run is short (a main phase of a few seconds, a small net tick) and takes a cluster of BEAMs, of which
//! only two exist at a time. They need the compiled client library (`mix compile` in `elixir_client`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod carrier;
mod clock_and_disk;
mod crashes;
mod default_mix;
mod erlang;
mod links;
mod membership;
mod mnesia;
mod net;
mod observation;
mod private;
mod probe;
mod processes;
mod reactions;
mod schedules;
mod smallest;
mod stage;
mod tls;
mod vm;
mod workloads;
