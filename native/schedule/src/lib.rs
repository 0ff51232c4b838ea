//! What a run does, decided before it runs: operations, faults and their times.
//!
//! Everything here is pure: no clock, no I/O, no random source but the seed. Reading order: [`generator`]
//! (what a generator is), [`expr`] (generators as data), [`compile`](mod@compile), [`interpreter`] (who asks
//! generators), [`workload`] (operations and checkers that belong together), [`boundaries`], [`target`],
//! [`faults`] (fault schedules), [`packages`] (ready sets of faults, mixed), `patterns` (several from one draw), [`validate`](mod@validate) (edited ones), [`simulate`](mod@simulate).

pub mod boundaries;
pub mod compile;
mod deck;
pub mod draw;
pub mod expr;
pub mod faults;
pub mod generator;
pub mod interpreter;
pub mod packages;
mod patterns;
pub mod simulate;
mod spans;
pub mod target;
pub mod template;
pub mod threads;
pub mod validate;
pub mod workload;

pub use boundaries::{Boundaries, BoundaryError, LiveBoundaries};
pub use compile::{Env, compile};
pub use expr::{Expr, ExprError};
pub use faults::{DrawError, Stage};
pub use generator::BoxGenerator;
pub use interpreter::{Interpreter, Invocation, Next};
pub use packages::{Package, PackageError};
pub use simulate::{SimulateError, SimulateOptions, Simulation, simulate};
pub use target::{Aim, Field, TargetError, resolve};
pub use validate::{ScheduleError, validate};
pub use workload::{Plan, WorkloadError};
