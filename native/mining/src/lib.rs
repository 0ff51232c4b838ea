//! Finds the durations at which a program changes its mind: in compiled modules and in application environments.
//!
//! Tests are worth most around time-outs, intervals and restart intensities, and a system has more of them than its
//! authors remember. [`mine`] reads `.beam` files without running them: it follows constants through the code
//! ([`flow`]) to the functions that take a time ([`calls`]), and recognises supervisor flags, child specifications
//! and state machine time-outs ([`sites`]). What is decided only when the code runs is told as `variable`.
//!
//! It finds what the code says, not what is ever executed, and no time that comes from an argument, a state or a
//! function of the same module.
//!
//! Reading order: [`beam`], [`term`], [`flow`], [`calls`], [`sites`], [`config`], [`mine`](mod@mine).

pub mod beam;
pub mod calls;
pub mod config;
pub mod flow;
pub mod mine;
mod opcodes;
pub mod sites;
pub mod term;

pub use calls::Kind;
pub use mine::{Count, MineError, Mined, MinedBoundary, mine};
pub use sites::{Site, Wait};
