//! The link plane: every directed link between nodes passes through it, in user space and without root.
//!
//! Each node gets an EPMD port of its own (`ERL_EPMD_PORT`), served here. The listener on which a
//! `PORT_PLEASE2` arrives tells who asks, so each directed pair (source, target) is answered with a
//! proxy listener of its own, and even the set-up of a connection obeys the policy of its link. A
//! connection has two pumps, one for each direction; each obeys the policy of the direction in which
//! its bytes travel, whoever opened the connection.
//!
//! The plane is an OS process (its death is a total partition), a child of the guard, and speaks JSON
//! lines ([`protocol`]) with the core, which holds a [`PlaneClient`]. When that connection ends, the
//! process ends, and every proxied connection with it.
//!
//! Reading order: [`policy`] (what faults mean together), [`framing`] (where frames begin),
//! `gate` (the lock that makes a change of policy exact), `queue` and `pump` (one direction of a
//! connection), `connection`, `registry` (nodes, links, faults), `listeners`, `epmd`, `timer`,
//! `server`, [`client`]; `capture` writes what crosses links to a file.
//!
//! Limits. The real listen port of a node stays open on the host: who is told of it directly bypasses
//! the plane. A distribution over TLS is proxied as plain bytes: hold, delay, throttle, FIN, RST,
//! half-open and refusal work, ticks cannot be told apart. The kernel of the plane acknowledges at once,
//! so a cut is exact and heals at once, where a cut in a real network lasts longer by TCP's back-off; a hold with
//! `heal_lag` imitates that.

mod capture;
pub mod client;
mod connection;
mod counters;
mod epmd;
pub mod framing;
mod gate;
mod listeners;
mod observation;
mod peer;
pub mod policy;
pub mod protocol;
mod pump;
mod queue;
mod reception;
mod registry;
mod server;
mod timer;

pub use client::{PlaneClient, PlaneError};
pub use protocol::{
    Applied, LinkObservation, LinkStats, MapperFault, Options, PlaneEvent, PlaneEventKind,
};
pub use server::main;

/// Environment variable: `127.0.0.1:PORT` of the core's control listener.
pub const CONTROL_VARIABLE: &str = "FUZZ_DIST_CONTROL";
/// Environment variable: the token of the run.
pub const TOKEN_VARIABLE: &str = "FUZZ_DIST_TOKEN";
/// The channel of the Erlang distribution; every other channel is a named TCP port.
pub const DIST_CHANNEL: &str = "dist";
