//! What every part of fuzz_dist shares: operations, values, histories, seeds, clocks and verdicts.
//!
//! Reading order: [`sym`] (interned names), [`value`] (terms), [`op`] (one record of a history),
//! [`history`] (the records, paired), [`seed`] (where randomness comes from), [`clock`] (where time
//! comes from), [`fault_log`] (which faults a history records), [`verdict`] (what a checker answers),
//! [`sync`] (locks). Then what leaves the process: [`etf`] (terms of the
//! BEAM), [`history_file`] (the crash-safe history), [`interop`] (EDN and JSON), [`store`] (runs on disk).

pub mod clock;
pub mod etf;
pub mod fault;
pub mod fault_log;
pub mod file;
pub mod history;
pub mod history_file;
pub mod interop;
mod items;
pub mod number;
pub mod op;
pub mod random;
pub mod seed;
pub mod spec;
pub mod store;
pub mod sym;
pub mod sync;
pub mod text;
pub mod tree;
pub mod value;
pub mod verdict;

pub use fault_log::FaultLog;
pub use history::History;
pub use items::Items;
pub use op::{Op, OpType, Process};
pub use sym::Sym;
pub use text::clip;
pub use value::Value;
pub use verdict::{Anomaly, CheckResult, Edge, Verdict};
