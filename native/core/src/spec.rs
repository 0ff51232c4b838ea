//! The spec of a test: what `fuzz_dist run SPEC.toml` reads and `mix fuzz_dist.run` writes.
//!
//! Every key is optional but `client.module`; unknown keys are refused. After loading, [`Spec`] holds
//! the resolved values (defaults filled in), and the run stores it as `spec.toml`, which runs again.
//!
//! [`load()`] and [`parse()`] read one and place every problem in the file, [`validate()`] checks one
//! that was changed or made in code, [`to_toml()`] writes one. `doc/spec.md` explains the keys.

mod boundaries;
mod emit;
mod error;
pub mod keys;
mod load;
mod network;
mod packages;
pub mod suggest;
mod validate;
mod walk;

#[cfg(test)]
mod tests;

pub use boundaries::{MINED, MINED_PREFIX, UserBoundaries};
pub use emit::to_toml;
pub use error::{Problem, SpecError};
pub use load::{LoadedSpec, load, load_profile, parse, parse_unvalidated, place};
pub use network::Network;
pub use packages::{NO_FAULTS, words as package_words};
pub use validate::{CONCURRENCY_MAX, NODES_MAX, validate};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::{After, FaultKind, Pattern, Target, Zone};

/// The nodes of each role, by its name.
pub type Roles = BTreeMap<String, Vec<String>>;

/// A table of free-form options, passed on as they are.
pub type Options = BTreeMap<String, serde_json::Value>;

/// A test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// Names the test and its folder in the store: letters, digits, `-`, `_`.
    pub name: String,
    /// Seed of everything drawn; drawn and printed when absent.
    pub seed: Option<u64>,
    /// How many nodes (`n1` …), or their names.
    pub nodes: Nodes,
    /// Logical processes: a number, or `"2n"` for twice the number of nodes.
    pub concurrency: Concurrency,
    /// Length of the main phase.
    pub time_limit_s: f64,
    /// After this long without answer an operation is `info` and its process ends.
    pub op_timeout_ms: u64,
    /// Operations a second in total; unlimited when absent.
    pub rate: Option<f64>,
    /// Fault-free time at the start of the main phase.
    pub warm_up_s: f64,
    /// How long the cluster may take after the last heal to come together; final operations wait all of
    /// it, so that a system that converges can.
    pub recovery_s: f64,
    /// Whether everything that worked is asked again after the last heal, and must answer.
    pub recovery_check: bool,
    /// Where operations run.
    pub placement: Placement,
    /// What nodes are for: the nodes of each role.
    pub roles: Roles,
    /// How nodes are started.
    pub cluster: ClusterSpec,
    /// What performs the operations.
    pub client: ClientSpec,
    /// Which operations.
    pub workload: WorkloadSpec,
    /// Which faults.
    pub nemesis: NemesisSpec,
    /// Which properties, instead of the workload's own.
    pub checkers: Option<Vec<CheckerSpec>>,
    /// Where runs are stored; relative to the working directory.
    pub store: String,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            name: "test".into(),
            seed: None,
            nodes: Nodes::Count(3),
            concurrency: Concurrency::PerNode("2n".into()),
            time_limit_s: 20.0,
            op_timeout_ms: 5_000,
            rate: None,
            warm_up_s: 1.0,
            recovery_s: 10.0,
            recovery_check: true,
            placement: Placement::Node,
            roles: Roles::new(),
            cluster: ClusterSpec::default(),
            client: ClientSpec::default(),
            workload: WorkloadSpec::default(),
            nemesis: NemesisSpec::default(),
            checkers: None,
            store: "store".into(),
        }
    }
}

/// `nodes = 3` or `nodes = ["a", "b"]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Nodes {
    /// So many, named `n1`, `n2` …
    Count(u32),
    /// These short names.
    Names(Vec<String>),
}

impl Nodes {
    /// The short names.
    pub fn names(&self) -> Vec<String> {
        match self {
            Nodes::Count(count) => (1..=*count).map(|i| format!("n{i}")).collect(),
            Nodes::Names(names) => names.clone(),
        }
    }
}

/// `concurrency = 10` or `concurrency = "2n"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Concurrency {
    /// So many logical processes.
    Count(u32),
    /// `"Kn"`: K for each node.
    PerNode(String),
}

impl Concurrency {
    /// The number of logical processes for `node_count` nodes; `None` if the text is not `Kn`.
    pub fn count(&self, node_count: usize) -> Option<u32> {
        match self {
            Concurrency::Count(count) => Some(*count),
            Concurrency::PerNode(text) => {
                let factor = text.strip_suffix('n')?;
                let factor: u32 = if factor.is_empty() { 1 } else { factor.parse().ok()? };
                factor.checked_mul(u32::try_from(node_count).ok()?)
            }
        }
    }
}

/// Where operations run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// In the nodes of the system under test, each process in its node.
    Node,
    /// In client VMs that no fault touches.
    Client,
}

/// How nodes are started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSpec {
    /// Program and arguments; `{name}` (full node name), `{short}`, `{index}`, `{cookie_file}`,
    /// `{data_dir}`, `{log_dir}`, `{epmd_port}` and `{port:NAME}` are replaced.
    pub command: Vec<String>,
    /// Further environment; the same replacements, and `{cookie}`.
    pub env: BTreeMap<String, String>,
    /// How nodes reach each other.
    pub network: Network,
    /// How the node gets its name and cookie.
    pub naming: Naming,
    /// The cookie; drawn when absent.
    pub cookie: Option<String>,
    /// `net_ticktime` in seconds.
    pub net_ticktime_s: u32,
    /// `net_tickintensity`.
    pub net_tickintensity: u32,
    /// Kernel's `prevent_overlapping_partitions`.
    pub prevent_overlapping_partitions: bool,
    /// What the VMs do when the wall clock is elsewhere (`+C`); as the emulator has it when absent.
    pub time_warp: Option<TimeWarp>,
    /// Whether nodes connect to each other before the test starts.
    pub connect: bool,
    /// Whether nodes that end by themselves are started again.
    pub restart_crashed: bool,
    /// How long a node may take to become ready.
    pub ready_timeout_ms: u64,
    /// TCP ports of the system that pass through the link plane.
    pub ports: Vec<PortSpec>,
    /// Code paths (`-pa`) for every node, through `ERL_ZFLAGS`.
    pub code_paths: Vec<String>,
    /// Nodes whose distribution the port driver carries, in runs with faults of the carrier plane; all when absent.
    pub carrier: Option<Vec<String>>,
}

impl Default for ClusterSpec {
    fn default() -> ClusterSpec {
        ClusterSpec {
            command: vec!["erl".into(), "-noinput".into()],
            env: BTreeMap::new(),
            network: Network::Loopback,
            naming: Naming::Flags,
            cookie: None,
            net_ticktime_s: 60,
            net_tickintensity: 4,
            prevent_overlapping_partitions: true,
            time_warp: None,
            connect: true,
            restart_crashed: false,
            ready_timeout_ms: 30_000,
            ports: Vec::new(),
            code_paths: Vec::new(),
            carrier: None,
        }
    }
}

/// A time-warp mode of the emulator, by its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeWarp {
    /// Erlang's time follows the wall clock at a rate that is at most 1 % off.
    NoTimeWarp,
    /// It is set once, when the system under test finalizes its time offset.
    SingleTimeWarp,
    /// It is set whenever the VM looks and the wall clock is elsewhere.
    MultiTimeWarp,
}

impl TimeWarp {
    /// Their names.
    pub const NAMES: &'static [&'static str] =
        &["no_time_warp", "single_time_warp", "multi_time_warp"];

    /// As `+C` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            TimeWarp::NoTimeWarp => "no_time_warp",
            TimeWarp::SingleTimeWarp => "single_time_warp",
            TimeWarp::MultiTimeWarp => "multi_time_warp",
        }
    }
}

/// How a node gets its name and cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Naming {
    /// `-name` through `ERL_AFLAGS`.
    Flags,
    /// `RELEASE_NODE` and `RELEASE_DISTRIBUTION`.
    Release,
    /// The command itself does, with `{name}`.
    Command,
}

/// A TCP port of the system, the same logical port on each node.
///
/// `listen` is the port that the node itself listens on (`{port:NAME}` in command and environment);
/// nodes reach each other at the addresses of the plane, `{peer:NAME:NODE}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// Its name in faults and placeholders.
    pub name: String,
}

/// What performs the operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientSpec {
    /// The module that implements the callbacks of `FuzzDist.Client`; Elixir names as written in Elixir.
    pub module: String,
    /// Passed to its callbacks.
    pub options: Options,
    /// How many client VMs (placement `client`).
    pub count: u32,
    /// Program and arguments of a client VM; a default that runs the worker when empty.
    pub command: Vec<String>,
    /// Code paths of client VMs.
    pub code_paths: Vec<String>,
}

impl Default for ClientSpec {
    fn default() -> ClientSpec {
        ClientSpec {
            module: String::new(),
            options: Options::new(),
            count: 1,
            command: Vec::new(),
            code_paths: Vec::new(),
        }
    }
}

/// Which operations.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkloadSpec {
    /// `register`, `set`, `or_set`, `pn_counter`, `registry`, or empty with a generator of one's own.
    pub name: String,
    /// Options of the workload.
    pub options: Options,
    /// A generator expression instead of the workload's (see `doc/generators.md`).
    pub generator: Option<serde_json::Value>,
    /// Operations after the last heal, instead of the workload's.
    pub final_generator: Option<serde_json::Value>,
}

/// Which faults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NemesisSpec {
    /// The faults to draw from; none when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultSpec>,
    /// Ready sets of faults, mixed in eras: `kill`, `partition:storage`, `all`; none when empty. Absent where nobody
    /// has said: a run that has no other faults then mixes those that need nothing.
    #[serde(deserialize_with = "packages::deserialize")]
    pub packages: Option<Vec<String>>,
    /// Mean length of an era.
    pub era_s: f64,
    /// Mean time between the end of a fault and the start of the next.
    pub interval_s: f64,
    /// Whether faults may overlap in time.
    pub overlap: bool,
    /// Boundaries of the user's own, and whether more are mined from compiled code.
    pub boundaries: UserBoundaries,
    /// How the system under test is asked for its members and told to change them.
    pub membership: String,
    /// A `schedule.json` to run instead of drawing one.
    pub schedule: Option<String>,
    /// Whether what crosses links is written to `links.pcapng` of the run.
    pub capture: bool,
}

impl NemesisSpec {
    /// The packages that are named.
    pub fn packages(&self) -> &[String] {
        self.packages.as_deref().unwrap_or_default()
    }

    /// Whether it names no fault and no package.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty() && self.packages().is_empty()
    }

    /// Whether somebody has said which faults, be it none.
    pub fn is_chosen(&self) -> bool {
        self.packages.is_some() || !self.faults.is_empty() || self.schedule.is_some()
    }
}

impl Default for NemesisSpec {
    fn default() -> NemesisSpec {
        NemesisSpec {
            faults: Vec::new(),
            packages: None,
            era_s: 10.0,
            interval_s: 5.0,
            overlap: false,
            boundaries: UserBoundaries::default(),
            membership: "FuzzDist.Membership.Erlang".into(),
            schedule: None,
            capture: false,
        }
    }
}

/// A kind of fault to draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultSpec {
    /// What to do, with its parameters.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// Targets to draw from.
    #[serde(default = "FaultSpec::default_targets")]
    pub targets: Vec<Target>,
    /// A role, or two for the links between them.
    #[serde(default)]
    pub scope: Option<String>,
    /// Only one direction.
    #[serde(default)]
    pub one_way: bool,
    /// A named TCP port instead of the distribution.
    #[serde(default)]
    pub port: Option<String>,
    /// The boundary to draw durations around; that of the kind when absent.
    #[serde(default)]
    pub boundary: Option<String>,
    /// Zones to draw durations from; all three when empty.
    #[serde(default)]
    pub zones: Vec<Zone>,
    /// A fixed duration instead of a boundary.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// Several faults at once, timed by the boundary.
    #[serde(default)]
    pub pattern: Option<Pattern>,
    /// An event to wait for, instead of a time that is drawn.
    #[serde(default)]
    pub after: Option<After>,
    /// How often it is drawn against the others.
    #[serde(default = "FaultSpec::default_weight")]
    pub weight: u32,
    /// Whether a run goes on without it where it cannot be had.
    #[serde(default)]
    pub optional: bool,
}

impl FaultSpec {
    /// A fault of this kind, with everything else as it is when a spec says nothing.
    pub fn new(kind: impl Into<FaultKind>) -> FaultSpec {
        FaultSpec {
            kind: kind.into(),
            targets: FaultSpec::default_targets(),
            scope: None,
            one_way: false,
            port: None,
            boundary: None,
            zones: Vec::new(),
            duration_ms: None,
            pattern: None,
            after: None,
            weight: FaultSpec::default_weight(),
            optional: false,
        }
    }

    fn default_targets() -> Vec<Target> {
        vec![Target::One]
    }

    fn default_weight() -> u32 {
        1
    }
}

/// A checker with its options.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckerSpec {
    /// Its name, as in `fuzz_dist check --checker`.
    pub name: String,
    /// Its options.
    pub options: Options,
}
