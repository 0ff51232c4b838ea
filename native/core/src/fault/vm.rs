//! Faults inside a node: of its Erlang processes, schedulers, connections and code, by the node agent.
//!
//! A process is chosen by a [`Selector`], which the node resolves when the fault starts. Each fault is owned
//! by a lease process in the node, whose death heals it.

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Lasts, Objection, PlaneFault, Subject};
use crate::spec::keys::{Key, Shape, key};
use crate::spec::suggest;

/// Which Erlang process of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Selector {
    /// The one that is registered locally under this name.
    Registered(String),
    /// The one that a registry knows: its module and the name, an Erlang term as text.
    Via(Vec<String>),
    /// The one that `global` knows under this name, an Erlang term as text; on whatever node it is.
    Global(String),
    /// A child of a supervisor: the registered name of the supervisor and the child's id, a term as text.
    Child(Vec<String>),
    /// A position in a supervision tree: the name of the root, then the number of a child, from 0, on
    /// each level.
    Position(Vec<String>),
    /// Any process below the supervisor of this name, drawn when the fault starts.
    Below(String),
    /// What a resolver says: its name (one of [`RESOLVERS`], or a function of the system as `module:function`)
    /// and its argument, a term as text: `["ra-leader", "my_server"]`.
    Resolver(Vec<String>),
}

/// The resolvers that nodes have: the leader of a Ra server, and who holds a lock of `global` or a lock of a
/// table of Mnesia.
pub const RESOLVERS: [&str; 3] = ["ra-leader", "global-lock", "mnesia-lock"];

/// Of an Erlang atom.
const ATOM_CHARS_MAX: usize = 255;

/// More messages in a second than one Erlang process sends.
const MESSAGES_PER_S_MAX: u64 = 10_000_000;

/// A heap is copied when its garbage is collected: twice this must fit into memory.
const MEGABYTES_MAX: u64 = 16_384;

impl Selector {
    /// `global leader`, `resolver ra-leader my_server`: the way and what it needs.
    pub fn words(&self) -> String {
        let (way, parts) = match self {
            Selector::Registered(name) => ("registered", std::slice::from_ref(name)),
            Selector::Global(name) => ("global", std::slice::from_ref(name)),
            Selector::Below(name) => ("below", std::slice::from_ref(name)),
            Selector::Via(parts) => ("via", parts.as_slice()),
            Selector::Child(parts) => ("child", parts.as_slice()),
            Selector::Position(parts) => ("position", parts.as_slice()),
            Selector::Resolver(parts) => ("resolver", parts.as_slice()),
        };
        format!("{way} {}", parts.join(" "))
    }

    /// Its problem, if it cannot mean a process.
    pub(super) fn objection(&self) -> Option<String> {
        let pair = |what: &str, parts: &[String]| match parts {
            [first, second] if !first.is_empty() && !second.is_empty() => None,
            _ => Some(format!("must be {what}, two strings")),
        };
        match self {
            Selector::Registered(name) | Selector::Global(name) | Selector::Below(name) => {
                name.is_empty().then(|| "is empty: name a process".into())
            }
            Selector::Via(parts) => pair("the module of a registry and a name", parts),
            Selector::Child(parts) => pair("the name of a supervisor and the id of a child", parts),
            Selector::Resolver(parts) => pair("the name of a resolver and its argument", parts)
                .or_else(|| unknown_resolver(&parts[0])),
            Selector::Position(parts) => {
                let steps = parts.get(1..).unwrap_or_default();
                let numbers = steps.iter().all(|step| step.parse::<u32>().is_ok());
                (steps.is_empty() || !numbers).then(|| {
                    "must be the name of a supervisor and then numbers of children, from 0, as \
                     [\"my_sup\", \"0\", \"2\"]"
                        .into()
                })
            }
        }
    }
}

/// A function of the system names its module and itself; anything else must be known.
fn unknown_resolver(name: &str) -> Option<String> {
    let is_function =
        name.split_once(':').is_some_and(|(module, f)| !module.is_empty() && !f.is_empty());
    (!is_function && !RESOLVERS.contains(&name)).then(|| {
        let hint = suggest::hint(name, &RESOLVERS);
        format!(
            "unknown resolver `{name}`; {hint}, or a function of the system as \"module:function\""
        )
    })
}

/// What happens inside a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum VmFault {
    /// `exit(Pid, kill)`.
    KillProcess {
        /// Which one.
        process: Selector,
    },
    /// `exit(Pid, Reason)`.
    ExitProcess {
        /// Which one.
        process: Selector,
        /// `normal`, `shutdown`, `kill` or any other atom.
        reason: String,
    },
    /// `erlang:suspend_process/1`.
    Suspend {
        /// Which one.
        process: Selector,
    },
    /// `sys:suspend/1`.
    SysSuspend {
        /// Which one.
        process: Selector,
    },
    /// Messages that nobody asked for.
    Flood {
        /// Which one.
        process: Selector,
        /// How many.
        messages_per_s: u64,
    },
    /// A child is killed more often than its supervisor allows.
    ExhaustRestarts {
        /// The supervisor.
        process: Selector,
    },
    /// No scheduler runs anything.
    StallSchedulers,
    /// A process with a large heap collects garbage again and again.
    Garbage {
        /// Its heap.
        megabytes: u64,
    },
    /// The node gets another cookie: connections stay, new ones are refused.
    SetCookie {
        /// The other one.
        cookie: String,
    },
    /// `erlang:disconnect_node/1` of every peer.
    Disconnect,
    /// The node reads nothing from its connections: real back-pressure of TCP.
    Deaf,
    /// Every dirty scheduler is busy.
    DirtyBlock,
    /// Another version of a module is loaded and the first is purged: processes that still run its code are
    /// killed. At the end the same the other way round.
    LoadModule {
        /// The module.
        module: String,
        /// Its compiled second version.
        file: String,
    },
}

impl VmFault {
    /// The process that it is about, if it is about one.
    pub fn process(&self) -> Option<&Selector> {
        match self {
            VmFault::KillProcess { process }
            | VmFault::ExitProcess { process, .. }
            | VmFault::Suspend { process }
            | VmFault::SysSuspend { process }
            | VmFault::Flood { process, .. }
            | VmFault::ExhaustRestarts { process } => Some(process),
            _ => None,
        }
    }
}

/// The ways to choose a process.
pub(crate) const SELECTOR: &[Key] = &[
    key(
        "registered",
        Shape::Text,
        "none",
        "The process that is registered locally under this name.",
    ),
    key("via", Shape::Texts, "none", "Module of a registry and a name in it, a term as text."),
    key("global", Shape::Text, "none", "The process that `global` knows under this name."),
    key("child", Shape::Texts, "none", "Registered name of a supervisor and the id of its child."),
    key(
        "position",
        Shape::Texts,
        "none",
        "A supervisor and then the number of a child, from 0, on each level.",
    ),
    key(
        "below",
        Shape::Text,
        "none",
        "Any process below this supervisor, drawn when the fault starts.",
    ),
    key(
        "resolver",
        Shape::Texts,
        "none",
        "Who says so, and its argument, a term as text: `ra-leader` (a server of Ra), `global-lock` (a resource), `mnesia-lock` (a table), or a function of the system, `[\"my_module:whereis\", \"key\"]`, which gives a pid, a registered name or `{name, node}`.",
    ),
];

const PROCESS: Key = key(
    "process",
    Shape::OneOf(SELECTOR),
    "required",
    "Faults of Erlang processes: which one. `{ registered = \"name\" }`, `{ via = [\"Registry\", \"key\"] }`, `{ global = \"name\" }`, `{ child = [\"my_sup\", \"id\"] }`, `{ position = [\"my_sup\", \"0\"] }`, `{ below = \"my_sup\" }`, `{ resolver = [\"ra-leader\", \"my_server\"] }`.",
);
const REASON: Key = key(
    "reason",
    Shape::Text,
    "required",
    "`exit-process`: `normal`, `shutdown`, `kill` or any other atom.",
);
const MESSAGES: Key =
    key("messages_per_s", Shape::Integer, "required", "`flood`: how many messages.");
const MEGABYTES: Key =
    key("megabytes", Shape::Integer, "required", "`garbage`: the size of the heap.");
const COOKIE: Key = key("cookie", Shape::Text, "required", "`set-cookie`: the other cookie.");
const MODULE: Key = key("module", Shape::Text, "required", "`load-module`: the module.");
const FILE: Key = key(
    "file",
    Shape::Text,
    "required",
    "`load-module`: the compiled second version (`.beam`), relative to the working directory.",
);

const fn vm(name: &'static str, lasts: Lasts, meaning: &'static str) -> Kind {
    Kind::new(name, Subject::Nodes, lasts, meaning)
}

const TICK: Lasts = Lasts::Around("net-tick");
const CALL: Lasts = Lasts::Around("op-timeout");

impl PlaneFault for VmFault {
    const KINDS: &'static [Kind] = &[
        vm("kill-process", Lasts::Instant, "`exit(Pid, kill)`.").with(&[PROCESS]),
        vm("exit-process", Lasts::Instant, "`exit(Pid, Reason)`.").with(&[PROCESS, REASON]),
        vm("suspend", CALL, "`erlang:suspend_process`; resumed at the end.").with(&[PROCESS]),
        vm("sys-suspend", CALL, "`sys:suspend`; resumed at the end.").with(&[PROCESS]),
        vm("flood", CALL, "Messages that nobody asked for.").with(&[PROCESS, MESSAGES]),
        vm("exhaust-restarts", Lasts::Instant, "A child is killed until its supervisor gives up.")
            .with(&[PROCESS]),
        vm(
            "stall-schedulers",
            TICK,
            "No scheduler runs anything, the operating system's threads live.",
        ),
        vm("garbage", CALL, "A process with a large heap collects garbage again and again.")
            .with(&[MEGABYTES]),
        vm(
            "set-cookie",
            Lasts::Around("net-setup"),
            "The node has another cookie: connections stay, new ones are refused.",
        )
        .with(&[COOKIE]),
        vm("disconnect", Lasts::Instant, "`erlang:disconnect_node` of every peer."),
        vm("deaf", TICK, "The node reads nothing from its connections: back-pressure of TCP."),
        vm("dirty-block", CALL, "Every dirty scheduler is busy."),
        vm(
            "load-module",
            Lasts::Away,
            "A second version of a module is loaded and the first purged, at the end the first again.",
        )
        .with(&[MODULE, FILE]),
    ];

    fn name(&self) -> &'static str {
        match self {
            VmFault::KillProcess { .. } => "kill-process",
            VmFault::ExitProcess { .. } => "exit-process",
            VmFault::Suspend { .. } => "suspend",
            VmFault::SysSuspend { .. } => "sys-suspend",
            VmFault::Flood { .. } => "flood",
            VmFault::ExhaustRestarts { .. } => "exhaust-restarts",
            VmFault::StallSchedulers => "stall-schedulers",
            VmFault::Garbage { .. } => "garbage",
            VmFault::SetCookie { .. } => "set-cookie",
            VmFault::Disconnect => "disconnect",
            VmFault::Deaf => "deaf",
            VmFault::DirtyBlock => "dirty-block",
            VmFault::LoadModule { .. } => "load-module",
        }
    }

    fn samples() -> Vec<VmFault> {
        let process = Selector::Registered("server".into());
        vec![
            VmFault::KillProcess { process: process.clone() },
            VmFault::ExitProcess {
                process: Selector::Global("leader".into()),
                reason: "shutdown".into(),
            },
            VmFault::Suspend { process: Selector::Child(vec!["sup".into(), "child".into()]) },
            VmFault::SysSuspend {
                process: Selector::Position(vec!["sup".into(), "0".into(), "2".into()]),
            },
            VmFault::Flood { process: process.clone(), messages_per_s: 1 },
            VmFault::ExhaustRestarts { process },
            VmFault::StallSchedulers,
            VmFault::Garbage { megabytes: 1 },
            VmFault::SetCookie { cookie: "another".into() },
            VmFault::Disconnect,
            VmFault::Deaf,
            VmFault::DirtyBlock,
            VmFault::LoadModule { module: "m".into(), file: "v2/m.beam".into() },
        ]
    }

    fn objections(&self) -> Vec<Objection> {
        let mut wrong = Vec::new();
        if let Some(process) = self.process() {
            wrong.extend(process.objection().map(|problem| ("process", problem)));
        }
        let no_atom = |key, text: &String| match text.chars().count() {
            0 => Some((key, "is empty: give it a name".to_owned())),
            1..=ATOM_CHARS_MAX => None,
            _ => {
                Some((key, format!("is longer than an atom: at most {ATOM_CHARS_MAX} characters")))
            }
        };
        match self {
            VmFault::ExitProcess { reason, .. } => wrong.extend(no_atom("reason", reason)),
            VmFault::SetCookie { cookie } => wrong.extend(no_atom("cookie", cookie)),
            VmFault::LoadModule { module, file } => {
                wrong.extend(no_atom("module", module));
                wrong.extend(
                    file.is_empty()
                        .then(|| ("file", "is empty: name a compiled module (.beam)".to_owned())),
                );
            }
            VmFault::Flood { messages_per_s: 0, .. } => {
                wrong.push(("messages_per_s", "0 messages are no flood".into()));
            }
            VmFault::Flood { messages_per_s, .. } if *messages_per_s > MESSAGES_PER_S_MAX => {
                let text =
                    format!("more than can be sent in a second: at most {MESSAGES_PER_S_MAX}");
                wrong.push(("messages_per_s", text));
            }
            VmFault::Garbage { megabytes: 0 } => {
                wrong.push(("megabytes", "a heap of 0 MB holds no garbage".into()));
            }
            VmFault::Garbage { megabytes } if *megabytes > MEGABYTES_MAX => {
                wrong.push((
                    "megabytes",
                    format!("at most {MEGABYTES_MAX}: a heap must fit into memory twice"),
                ));
            }
            _ => {}
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objection(fault: &VmFault) -> String {
        let told: Vec<String> =
            fault.objections().iter().map(|(key, problem)| format!("{key}: {problem}")).collect();
        told.join("; ")
    }

    fn of(process: Selector) -> String {
        objection(&VmFault::KillProcess { process })
    }

    fn pair(first: &str, second: &str) -> Vec<String> {
        vec![first.into(), second.into()]
    }

    #[test]
    fn a_selector_that_can_mean_nobody_is_refused() {
        let position =
            |steps: &[&str]| Selector::Position(steps.iter().map(|s| (*s).into()).collect());
        for (selector, part) in [
            (Selector::Registered(String::new()), "process: is empty: name a process"),
            (Selector::Via(vec!["Registry".into()]), "must be the module of a registry and a name"),
            (Selector::Child(pair("sup", "")), "must be the name of a supervisor and the id"),
            (position(&["sup"]), "and then numbers of children"),
            (position(&["sup", "first"]), "and then numbers of children"),
            (Selector::Resolver(pair("ra-leadr", "x")), "did you mean `ra-leader`?"),
            (Selector::Resolver(pair(":f", "x")), "unknown resolver `:f`"),
        ] {
            let told = of(selector);
            assert!(told.contains(part), "{told}");
        }
        for resolver in RESOLVERS.iter().chain(&["my_module:whereis"]) {
            assert_eq!(of(Selector::Resolver(pair(resolver, "x"))), "");
        }
        assert_eq!(of(position(&["sup", "0", "12"])), "");
    }

    #[test]
    fn parameters_that_no_node_could_take_are_refused() {
        let process = Selector::Registered("server".into());
        let flood = |messages_per_s| VmFault::Flood { process: process.clone(), messages_per_s };
        for (fault, part) in [
            (flood(0), "messages_per_s: 0 messages are no flood"),
            (flood(u64::MAX), "messages_per_s: more than can be sent"),
            (VmFault::Garbage { megabytes: 0 }, "megabytes: a heap of 0 MB"),
            (VmFault::Garbage { megabytes: 1 << 40 }, "megabytes: at most 16384"),
            (VmFault::SetCookie { cookie: "c".repeat(256) }, "cookie: is longer than an atom"),
            (VmFault::LoadModule { module: "m".into(), file: String::new() }, "file: is empty"),
        ] {
            let told = objection(&fault);
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(objection(&flood(1)), "");
    }
}
