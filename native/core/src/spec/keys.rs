//! Every key that a spec may have: its name, shape, default and meaning.
//!
//! The types of [`super::Spec`] say how a spec is held; this table says how it is written. It is what
//! unknown keys are compared with (serde cannot: a flattened enum hides them, an untagged one only says
//! that nothing matched) and what `doc/spec.md` is checked against. Tests compare it with the types.

use super::Network;
use crate::fault::{Event, FaultKind, Pattern, Plane, SELECTOR, Zone};

/// What a key's value looks like.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A string.
    Text,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// A whole number that fits into 32 bits.
    Count,
    /// A whole number that fits into 64 bits.
    Integer,
    /// A whole number that fits into 64 bits, with a sign.
    Signed,
    /// A number.
    Number,
    /// A list of strings.
    Texts,
    /// A list of strings, or one string with commas between.
    Packages,
    /// A table of strings.
    TextTable,
    /// A table of numbers, or the word `mined`, which may be a key too.
    Boundaries,
    /// A table of lists of strings.
    TextsTable,
    /// A table of anything.
    Options,
    /// Anything.
    Any,
    /// A number of nodes or a list of their names.
    Nodes,
    /// A number of processes or `"Kn"`.
    Concurrency,
    /// A list of targets.
    Targets,
    /// A list of zones.
    Zones,
    /// The name of a kind of fault.
    Kind,
    /// A table with these keys.
    Table(&'static [Key]),
    /// A table with one of these keys.
    OneOf(&'static [Key]),
    /// A list of tables with these keys.
    Tables(&'static [Key]),
    /// A list of faults: [`FAULT`] and the keys of the fault's kind.
    Faults,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// Its default as it would be written; `required`, or in words when there is no single one.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

impl Key {
    /// Whether its table is wrong without it.
    pub fn required(&self) -> bool {
        self.default == "required"
    }
}

pub(crate) const fn key(
    name: &'static str,
    shape: Shape,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { name, shape, default, meaning }
}

/// Names of targets that are written as a string.
pub const TARGETS: [&str; 8] =
    ["one", "minority", "majority", "halves", "ring", "bridge", "primaries", "all"];

/// Names of zones.
pub const ZONES: [&str; 3] =
    [Zone::CertainlyBelow.as_str(), Zone::Inside.as_str(), Zone::CertainlyAbove.as_str()];

/// Boundaries that need no definition.
pub const BOUNDARIES: [&str; 3] = ["net-tick", "net-setup", "op-timeout"];

/// The top level.
pub const SPEC: &[Key] = &[
    key(
        "name",
        Shape::Text,
        r#""test""#,
        "Names the test and its folder in the store: letters, digits, `-` and `_`.",
    ),
    key(
        "seed",
        Shape::Integer,
        "drawn, printed and stored",
        "Where every random draw comes from. The same spec and seed give the same operations and the same faults.",
    ),
    key(
        "nodes",
        Shape::Nodes,
        "3",
        "How many nodes (`n1`, `n2` …), or their short names: `[a-z0-9_]+`, at most 100.",
    ),
    key(
        "concurrency",
        Shape::Concurrency,
        r#""2n""#,
        "Logical processes that perform operations: a number, or `\"2n\"` for twice the number of nodes.",
    ),
    key(
        "time_limit_s",
        Shape::Number,
        "20.0",
        "Length of the main phase, in which operations and faults happen.",
    ),
    key(
        "op_timeout_ms",
        Shape::Integer,
        "5000",
        "An operation without an answer for this long is `info`, and its process ends.",
    ),
    key("rate", Shape::Number, "unlimited", "Operations a second, all processes together."),
    key("warm_up_s", Shape::Number, "1.0", "Time without faults at the start of the main phase."),
    key(
        "recovery_s",
        Shape::Number,
        "10.0",
        "How long the cluster may take after the last heal to come together; final operations wait all of it, so that a system that converges can.",
    ),
    key(
        "recovery_check",
        Shape::Boolean,
        "true",
        "Ask every function on every node again after the last heal, before `recovery_s` begins; one that worked and never answers again makes the run invalid, one that was asked too little unknown.",
    ),
    key(
        "placement",
        Shape::Choice(&["node", "client"]),
        r#""node""#,
        "Where operations run: inside the nodes, or in client VMs that no fault touches.",
    ),
    key(
        "store",
        Shape::Text,
        r#""store""#,
        "Where runs are stored, relative to the working directory.",
    ),
    key(
        "roles",
        Shape::TextsTable,
        "{}",
        "What nodes are for, by name: the nodes of each role. Faults can be kept to a role.",
    ),
    key("cluster", Shape::Table(CLUSTER), "see below", "How nodes are started."),
    key("client", Shape::Table(CLIENT), "required", "What performs the operations."),
    key("workload", Shape::Table(WORKLOAD), "required", "Which operations."),
    key("nemesis", Shape::Table(NEMESIS), "a mix", "Which faults."),
    key(
        "checkers",
        Shape::Tables(CHECKER),
        "those of the workload",
        "Which properties are checked.",
    ),
];

/// `[cluster]`.
pub const CLUSTER: &[Key] = &[
    key(
        "command",
        Shape::Texts,
        r#"["erl", "-noinput"]"#,
        "Program and arguments of a node; a program with a slash is relative to the folder of the spec. Replaced: `{name}` (full node name), `{short}`, `{index}`, `{cookie_file}` (a file with the cookie, for the node alone), `{data_dir}`, `{log_dir}`, `{epmd_port}`, `{host}` (the host part of its name), `{host:NODE}`, `{port:NAME}`, `{peer:NAME:NODE}`.",
    ),
    key(
        "env",
        Shape::TextTable,
        "{}",
        "Further environment of the nodes, with the same replacements, and `{cookie}`.",
    ),
    key(
        "network",
        Shape::Choice(Network::NAMES),
        r#""loopback""#,
        "How nodes reach each other: at 127.0.0.1 through the proxies of the link plane, or in network namespaces of the run's own, joined by a bridge (`namespaces`; Linux as root), for faults of the plane `net`.",
    ),
    key(
        "naming",
        Shape::Choice(&["flags", "release", "command"]),
        r#""flags""#,
        "How a node gets its name: `-name` through `ERL_AFLAGS`; `RELEASE_NODE` and `RELEASE_DISTRIBUTION`; or by the command itself, with `{name}`. The cookie is in `.erlang.cookie` in the node's own home folder; with the first two, a `-setcookie` of the command is overridden.",
    ),
    key(
        "cookie",
        Shape::Text,
        "drawn",
        "The cookie of the cluster: letters, digits, `_`, `-`, `.`.",
    ),
    key(
        "net_ticktime_s",
        Shape::Count,
        "60",
        "Kernel's `net_ticktime`: how long a silent peer is believed to be up.",
    ),
    key("net_tickintensity", Shape::Count, "4", "Kernel's `net_tickintensity`, 4 to 1000."),
    key(
        "prevent_overlapping_partitions",
        Shape::Boolean,
        "true",
        "Kernel's setting of this name: with it `global` turns one cut link into wider disconnections.",
    ),
    key(
        "time_warp",
        Shape::Choice(super::TimeWarp::NAMES),
        "that of the emulator",
        "What the VMs do when the wall clock is elsewhere (`+C`): follow it slowly, follow it at once when the system under test finalizes its time offset, or whenever they notice, once a minute.",
    ),
    key(
        "connect",
        Shape::Boolean,
        "true",
        "Whether nodes are connected to each other before the test starts.",
    ),
    key(
        "restart_crashed",
        Shape::Boolean,
        "false",
        "Whether a node that ends without being asked to is started again, later each time, and at most four times in a row; every restart is in the history.",
    ),
    key("ready_timeout_ms", Shape::Integer, "30000", "How long a node may take to become ready."),
    key(
        "ports",
        Shape::Tables(PORT),
        "[]",
        "TCP ports of the system, so that faults can name them; on the loopback they pass through the link plane.",
    ),
    key(
        "code_paths",
        Shape::Texts,
        "[]",
        "Code paths (`-pa`) of every node, relative to the folder of the spec; a `*` is any folder, as in \
         `_build/prod/lib/*/ebin`. With the default command and none given: `ebin` and \
         `_build/{dev,default}/lib/*/ebin` beside the spec, where they exist.",
    ),
    key(
        "carrier",
        Shape::Texts,
        "all nodes",
        "Nodes whose distribution the port driver carries, in runs with faults of the plane `carrier`; the others stay as they are. Of two nodes one must have it for a fault between them.",
    ),
];

/// `[[cluster.ports]]`.
pub const PORT: &[Key] = &[key(
    "name",
    Shape::Text,
    "required",
    "Names the port in faults and in `{port:NAME}` and `{peer:NAME:NODE}`: `[a-z0-9_]+`.",
)];

/// `[client]`.
pub const CLIENT: &[Key] = &[
    key(
        "module",
        Shape::Text,
        "required",
        "The module that implements the callbacks of `FuzzDist.Client`, written as in Elixir (`MyApp.RegisterTest`) or as an Erlang atom.",
    ),
    key("options", Shape::Options, "{}", "Passed to its callbacks."),
    key("count", Shape::Count, "1", "How many client VMs, for placement `client`."),
    key(
        "command",
        Shape::Texts,
        "[]",
        "Program and arguments of a client VM; one that runs the worker when empty.",
    ),
    key(
        "code_paths",
        Shape::Texts,
        "[]",
        "Code paths of client VMs, relative to the folder of the spec, with `*` as for nodes. With the default \
         command and none given: the folders of compiled code beside the spec, as for nodes.",
    ),
];

/// `[workload]`.
pub const WORKLOAD: &[Key] = &[
    key(
        "name",
        Shape::Text,
        r#""""#,
        "`register`, `set`, `or_set`, `pn_counter`, `registry`; may be absent with a `generator`.",
    ),
    key("options", Shape::Options, "{}", "Options of the workload, see `doc/generators.md`."),
    key(
        "generator",
        Shape::Any,
        "the workload's",
        "A generator expression, see `doc/generators.md`.",
    ),
    key("final_generator", Shape::Any, "the workload's", "Operations after the last heal."),
];

/// `[nemesis]`.
pub const NEMESIS: &[Key] = &[
    key("faults", Shape::Faults, "none", "The kinds of fault to draw from; `[]` chooses none."),
    key(
        "packages",
        Shape::Packages,
        "a mix, if there are no `faults`",
        "Ready sets of faults, mixed in eras: `partition`, `packet`, `kill`, `pause`, `clock`, `file-corruption`, `membership`, `vm`, or `all`; with a role behind a colon only there (`kill:storage`, `partition:api-storage`). `\"none\"` or `[]` for no faults.",
    ),
    key(
        "era_s",
        Shape::Number,
        "10.0",
        "Mean length of an era; it is longer when the first fault of each of its packages needs it.",
    ),
    key(
        "interval_s",
        Shape::Number,
        "5.0",
        "Mean time from the end of a fault to the start of the next.",
    ),
    key("overlap", Shape::Boolean, "false", "Whether faults may overlap in time."),
    key(
        "membership",
        Shape::Text,
        r#""FuzzDist.Membership.Erlang""#,
        "Faults of membership: the module that asks for members and changes them; `FuzzDist.Membership.Mnesia`, `FuzzDist.Membership.RabbitMQ`, or one with the callbacks of `FuzzDist.Membership`.",
    ),
    key(
        "boundaries",
        Shape::Boundaries,
        "{}",
        "Boundaries of the system's own, by name, in milliseconds. With `\"mined\"`, or `mined = true` among them, durations are drawn around those too that `fuzz_dist boundaries` finds in the code paths of the nodes; `mined = [\"_build/prod/lib\"]` names other folders.",
    ),
    key(
        "schedule",
        Shape::Text,
        "none",
        "A `schedule.json` to run instead of drawing one; relative to the folder of the spec.",
    ),
    key(
        "capture",
        Shape::Boolean,
        "false",
        "Whether what crosses links is written to `links.pcapng` of the run, for Wireshark and tcpdump.",
    ),
];

/// `[[nemesis.faults]]`, whatever its kind.
pub const FAULT: &[Key] = &[
    key("kind", Shape::Kind, "required", "What to do; the tables of kinds are below."),
    key(
        "plane",
        Shape::Choice(Plane::NAMES),
        "the first that has the kind",
        "Which way to do it, for a kind that several planes have.",
    ),
    key(
        "targets",
        Shape::Targets,
        r#"["one"]"#,
        "Which nodes, or how they are cut from each other; one is drawn each time. `one`, `minority`, `majority`, `halves`, `ring`, `bridge`, `primaries`, `all`, `{ named = [\"n1\"] }`, `{ links = [[\"n1\", \"n2\"]] }`.",
    ),
    key(
        "one_way",
        Shape::Boolean,
        "false",
        "Link faults only: only the direction from the first component to the second.",
    ),
    key(
        "scope",
        Shape::Text,
        "all nodes",
        "A role: targets are drawn among its nodes. Two roles, as `api-storage`, for faults of links: those between some nodes of the first and all of the second.",
    ),
    key("port", Shape::Text, "the distribution", "Link faults only: a name of `cluster.ports`."),
    key(
        "boundary",
        Shape::Text,
        "that of the kind",
        "What durations are drawn around: `net-tick`, `net-setup`, `op-timeout`, a name of `nemesis.boundaries`, or `mined` for all that were mined.",
    ),
    key(
        "zones",
        Shape::Zones,
        "all three",
        "Where against the boundary: `certainly-below`, `inside`, `certainly-above`.",
    ),
    key("duration_ms", Shape::Integer, "drawn", "A fixed duration instead of a boundary."),
    key(
        "pattern",
        Shape::Choice(Pattern::NAMES),
        "one fault",
        "Several faults at once: `flap`, the same fault two to five times, with gaps as long as the boundary; `overlap`, a second one that starts later by the boundary while the first lasts.",
    ),
    key(
        "after",
        Shape::Table(AFTER),
        "a time that is drawn",
        "An event that the fault waits for; it then happens at most `weight` times in a run.",
    ),
    key("weight", Shape::Count, "1", "How often it is drawn against the others."),
    key(
        "optional",
        Shape::Boolean,
        "false",
        "Whether a run goes on without it where `fuzz_dist doctor` says that it cannot be had.",
    ),
];

/// `after` of a fault.
pub const AFTER: &[Key] = &[
    key(
        "event",
        Shape::Choice(Event::NAMES),
        "required",
        "What is waited for: `nodedown` or `nodeup`, as a node notices it; `fault-applied`, `fault-observed` or `fault-healed` of another fault; `telemetry`, executed in a node; `elected`, when another process has taken a place.",
    ),
    key(
        "of",
        Shape::Text,
        "any",
        "The node that comes or goes; the kind of the other fault; the telemetry event, with dots between its atoms.",
    ),
    key(
        "process",
        Shape::OneOf(SELECTOR),
        "none",
        "`elected`: the place, as `process` of a fault names it: `{ global = \"leader\" }`, `{ resolver = [\"ra-leader\", \"my_server\"] }`. Who takes it first has not been elected.",
    ),
    key("seen_by", Shape::Text, "any", "The node that notices, or executes the event."),
    key("delay_ms", Shape::Integer, "0", "How long after the event the fault starts."),
];

/// Keys that belong to one kind of fault.
pub fn of_kind(kind: &str, plane: Option<Plane>) -> &'static [Key] {
    FaultKind::find(kind, plane).map_or(&[], |(_, kind)| kind.keys)
}

/// `[[checkers]]`.
pub const CHECKER: &[Key] = &[
    key("name", Shape::Text, "required", "Its name, as `fuzz_dist check --list` shows it."),
    key("options", Shape::Options, "{}", "Its options."),
];

impl Shape {
    /// In words, for messages and `doc/spec.md`.
    pub fn words(&self) -> &'static str {
        match self {
            Shape::Text => "string",
            Shape::Choice(_) => "string",
            Shape::Boolean => "boolean",
            Shape::Kind => "string",
            Shape::Count | Shape::Integer | Shape::Signed => "whole number",
            Shape::Number => "number",
            Shape::Texts => "list of strings",
            Shape::Packages => "list of strings or string",
            Shape::TextTable => "table of strings",
            Shape::Boundaries => "table of numbers or string",
            Shape::TextsTable => "table of lists",
            Shape::Options | Shape::OneOf(_) => "table",
            Shape::Any => "anything",
            Shape::Nodes => "whole number or list of strings",
            Shape::Concurrency => "whole number or string",
            Shape::Targets => "list of targets",
            Shape::Zones => "list of strings",
            Shape::Table(_) => "table",
            Shape::Tables(_) | Shape::Faults => "list of tables",
        }
    }
}
