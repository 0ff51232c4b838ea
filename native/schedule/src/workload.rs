//! Workloads: operations that belong together, the last reads that tell what is left, and the checkers that
//! know what both mean.
//!
//! A workload writes a generator expression, the same language that users have (`doc/generators.md`).
//! Thread t talks to node t modulo the number of nodes. Final operations carry the extra `final? true` and
//! run on one thread of each node, each repeated until it is ok or its time is up.
//!
//! Between them, after the last heal, a run asks every function on every node again. A workload has operations
//! for that which its checkers understand: ordinary ones, with values that the main phase does not
//! use. A generator of one's own goes on where it was.

mod options;
mod or_set;
mod pn_counter;
mod register;
mod registry;
mod set;

use fuzz_dist_core::spec::{CheckerSpec, Spec, WorkloadSpec, suggest};
use serde_json::{Value as Json, json};

use crate::compile::THREADS_MAX;
use crate::expr::{Expr, ExprError};

/// The names of all workloads.
pub const NAMES: [&str; 5] = ["or_set", "pn_counter", "register", "registry", "set"];

/// How long a thread tries to get one final operation through (s).
const FINAL_OP_S: f64 = 10.0;
/// How long all final operations may take (s).
const FINAL_S: f64 = 60.0;
/// Mean time between operations that ask everything again (s).
const RECOVERY_GAP_S: f64 = 0.02;
/// Values from here on are of operations that ask everything again, not of the main phase.
const RECOVERY_UNIQUE: u64 = 1_000_000_000;

/// What a workload is built for.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Client threads.
    pub threads: u32,
    /// Short names of the nodes.
    pub nodes: Vec<String>,
    /// Length of the main phase (s).
    pub time_limit_s: f64,
    /// Operations a second in total; as fast as clients answer when absent.
    pub rate: Option<f64>,
}

/// What a run does and what it is checked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Operations of the main phase; ends with it.
    pub generator: Expr,
    /// The same without the end.
    pub endless: Expr,
    /// Operations that ask everything again after the last heal; without it `endless` goes on.
    pub recovery_generator: Option<Expr>,
    /// Operations after recovery.
    pub final_generator: Option<Expr>,
    /// Properties to check.
    pub checkers: Vec<CheckerSpec>,
    /// What people should know of it: nodes that get no operations, for example.
    pub notes: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WorkloadError {
    /// No such workload.
    #[error("unknown workload `{name}`{hint}")]
    Unknown {
        /// The name.
        name: String,
        /// What would be right.
        hint: String,
    },
    /// Neither a workload nor a generator.
    #[error("`workload.name` is empty and there is no `workload.generator`; workloads: {}", NAMES.join(", "))]
    Nothing,
    /// No such option.
    #[error("workload `{workload}` has no option `{option}`{hint}")]
    UnknownOption {
        /// The workload.
        workload: String,
        /// The option.
        option: String,
        /// What would be right.
        hint: String,
    },
    /// An option's value.
    #[error("workload.options.{option}: {problem}")]
    BadOption {
        /// The option.
        option: String,
        /// What is wrong.
        problem: String,
    },
    /// Something of the spec itself.
    #[error("{key}: {problem}")]
    Spec {
        /// The key.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A generator expression of the user.
    #[error("workload.{key}: {error}")]
    Generator {
        /// `generator` or `final_generator`.
        key: &'static str,
        /// What is wrong.
        error: ExprError,
    },
}

/// What a workload itself brings, before rate and time limit.
struct Parts {
    generator: Json,
    recovery_generator: Option<Json>,
    final_generator: Option<Json>,
    checkers: Vec<CheckerSpec>,
}

/// The plan of a whole spec: workload, the user's own generators, the user's own checkers.
pub fn plan(spec: &Spec) -> Result<Plan, WorkloadError> {
    let nodes = spec.nodes.names();
    let threads = spec.concurrency.count(nodes.len()).ok_or_else(|| WorkloadError::Spec {
        key: "concurrency",
        problem: format!("{:?} is neither a number nor a text like \"2n\"", spec.concurrency),
    })?;
    let setting = Setting { threads, nodes, time_limit_s: spec.time_limit_s, rate: spec.rate };
    let mut plan = build(&spec.workload, &setting)?;
    if let Some(checkers) = &spec.checkers {
        plan.checkers = checkers.clone();
    }
    Ok(plan)
}

/// Builds the generators and names the checkers.
pub fn build(spec: &WorkloadSpec, setting: &Setting) -> Result<Plan, WorkloadError> {
    check(setting)?;
    let parts = parts(spec, setting)?;
    let generator = match &spec.generator {
        None => parts.generator,
        Some(own) => {
            parse("generator", own)?;
            own.clone()
        }
    };
    let final_generator = match &spec.final_generator {
        None => parts.final_generator,
        Some(own) => {
            parse("final_generator", own)?;
            Some(own.clone())
        }
    };
    let paced = match setting.rate {
        None => generator,
        Some(rate) => json!({"stagger": [1.0 / rate, generator]}),
    };
    let endless = json!({"clients": paced});
    let limited = json!({"time-limit": [setting.time_limit_s, endless]});
    // What a generator of one's own asks is for its author to say.
    let recovery_generator = parts.recovery_generator.filter(|_| spec.generator.is_none());
    let mut checkers = parts.checkers;
    checkers.push(checker("stats", json!({})));
    checkers.push(checker("unhandled-exceptions", json!({})));
    Ok(Plan {
        generator: parse("generator", &limited)?,
        endless: parse("generator", &endless)?,
        recovery_generator: recovery_generator
            .map(|own| parse("generator", &json!({"clients": asked_again(own, setting)})))
            .transpose()?,
        final_generator: final_generator
            .map(|own| parse("final_generator", &json!({"clients": own})))
            .transpose()?,
        checkers,
        notes: notes(setting),
    })
}

fn parts(spec: &WorkloadSpec, setting: &Setting) -> Result<Parts, WorkloadError> {
    let mut options = options::Reader::new(&spec.name, &spec.options);
    let parts = match spec.name.replace('-', "_").as_str() {
        "register" => register::parts(&mut options, setting)?,
        "set" => set::parts(&mut options, setting)?,
        "or_set" => or_set::parts(&mut options, setting)?,
        "pn_counter" => pn_counter::parts(&mut options, setting)?,
        "registry" => registry::parts(&mut options, setting)?,
        "" if spec.generator.is_some() => Parts {
            generator: Json::Null,
            recovery_generator: None,
            final_generator: None,
            checkers: Vec::new(),
        },
        "" => return Err(WorkloadError::Nothing),
        _ => {
            return Err(WorkloadError::Unknown {
                name: spec.name.clone(),
                hint: suggest::clause(&spec.name, NAMES),
            });
        }
    };
    options.finish()?;
    Ok(parts)
}

fn check(setting: &Setting) -> Result<(), WorkloadError> {
    let error = |key, problem: String| Err(WorkloadError::Spec { key, problem });
    if setting.nodes.is_empty() {
        return error("nodes", "there must be at least one".into());
    }
    if setting.threads == 0 || setting.threads > THREADS_MAX {
        return error(
            "concurrency",
            format!("{} logical processes; from 1 to {THREADS_MAX}", setting.threads),
        );
    }
    if !(setting.time_limit_s > 0.0 && setting.time_limit_s <= 31_536_000.0) {
        return error("time_limit_s", format!("{} s; from 0 to a year", setting.time_limit_s));
    }
    match setting.rate {
        Some(rate) if !(rate > 0.0 && rate <= 1e9) => {
            error("rate", format!("{rate} operations a second; more than 0, at most 10^9"))
        }
        _ => Ok(()),
    }
}

fn parse(key: &'static str, json: &Json) -> Result<Expr, WorkloadError> {
    Expr::parse(json).map_err(|error| WorkloadError::Generator { key, error })
}

fn notes(setting: &Setting) -> Vec<String> {
    let reached = setting.threads as usize;
    if reached >= setting.nodes.len() {
        return Vec::new();
    }
    vec![format!(
        "concurrency {reached} is less than the number of nodes: {} get no operations",
        setting.nodes[reached..].join(", ")
    )]
}

fn checker(name: &str, options: Json) -> CheckerSpec {
    let options = match options {
        Json::Object(object) => object.into_iter().collect(),
        _ => Default::default(),
    };
    CheckerSpec { name: name.to_owned(), options }
}

/// `operation` once on every node, repeated there until it is ok.
fn final_on_each_node(operation: Json) -> Json {
    json!({"time-limit": [FINAL_S, {"on-threads": ["one-per-node", {"each-thread": persistent(operation)}]}]})
}

/// `operation` for each of the keys once on every node, repeated there until it is ok.
fn final_of_each_key(keys: u64, operation: Json) -> Json {
    let each = json!({"independent":
        {"keys": keys, "threads-per-key": 1, "generator": persistent(operation)}});
    json!({"time-limit": [FINAL_S, {"on-threads": ["one-per-node", {"each-thread": each}]}]})
}

fn persistent(operation: Json) -> Json {
    json!({"until-ok": {"time-limit": [FINAL_OP_S, {"delay": [0.1, operation]}]}})
}

/// Operations on one thread of each node, at the pace at which a run asks everything again.
fn asked_again(operations: Json, setting: &Setting) -> Json {
    let gap_s =
        setting.rate.map_or(0.0, |rate| 1.0 / rate).clamp(RECOVERY_GAP_S, 5.0 * RECOVERY_GAP_S);
    json!({"stagger": [gap_s, operations]})
}

/// How many groups `independent` makes of the threads.
fn group_count(threads: u32, threads_per_key: u32, keys: Option<u64>) -> u64 {
    let groups = u64::from((threads / threads_per_key.max(1)).max(1));
    keys.map_or(groups, |keys| groups.min(keys)).max(1)
}

/// One thread for each node if there are so many: both sides of a partition work on the same key.
fn threads_per_key_default(setting: &Setting) -> u32 {
    let nodes = u32::try_from(setting.nodes.len()).unwrap_or(u32::MAX);
    setting.threads.min(nodes).max(1)
}
