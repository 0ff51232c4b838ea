//! Fault planes: how faults reach links and processes, and how they are taken back on every way out.

pub mod guard;
pub mod leftovers;
pub mod net;
pub mod plane;
