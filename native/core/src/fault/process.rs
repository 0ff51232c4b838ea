//! Faults of operating-system processes: how a node ends, stands still, comes back, and is found again.
//!
//! A node that ended is started again at the end of the fault. Each start gives the node a new `creation`, so
//! pids and references of its former life are dead even though the name is the same.

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Lasts, Objection, PlaneFault, Subject, is_false};
use crate::spec::keys::{Key, Shape, key};

/// What happens to a node's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ProcessFault {
    /// SIGKILL; the node is started again at the end of the fault.
    Kill,
    /// SIGSTOP; SIGCONT at the end.
    Pause,
    /// SIGTERM, an orderly stop; started again at the end.
    Restart {
        /// The host part of its name until the run heals everything; its own when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// The cookie that it is started with until the run heals everything; the cluster's when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cookie: Option<String>,
    },
    /// `init:stop/0`: applications are stopped in order; started again at the end.
    Stop,
    /// `erlang:halt`: the VM ends at once; started again at the end.
    Halt {
        /// Waits until ports have written what was given to them.
        #[serde(default, skip_serializing_if = "is_false")]
        flush: bool,
    },
    /// The VM crashes and writes its dump slowly: its process and name stay as long as the fault lasts.
    CrashDump,
    /// EPMD forgets the name of the node until the end; connections stay.
    EpmdUnregister,
    /// SIGKILL and a start at once, but EPMD knows the name again only at the end.
    EpmdLate,
}

const HOST: Key = key(
    "host",
    Shape::Text,
    "the node's own",
    "`restart`: the host part of the name that the node comes back with, as `localhost`; its own again after the main phase.",
);

const COOKIE: Key = key(
    "cookie",
    Shape::Text,
    "that of the cluster",
    "`restart`: the cookie that the node comes back with; that of the cluster again after the main phase.",
);

const FLUSH: Key = key(
    "flush",
    Shape::Boolean,
    "false",
    "`halt`: wait until ports have written what was given to them.",
);

const fn process(name: &'static str, lasts: Lasts, meaning: &'static str) -> Kind {
    Kind::new(name, Subject::Nodes, lasts, meaning)
}

impl PlaneFault for ProcessFault {
    const KINDS: &'static [Kind] = &[
        process("kill", Lasts::Away, "SIGKILL; the node is started again at the end of the fault."),
        process("pause", Lasts::Around("net-tick"), "SIGSTOP; SIGCONT at the end."),
        process("restart", Lasts::Away, "SIGTERM, an orderly stop; started again at the end.")
            .with(&[HOST, COOKIE]),
        process("stop", Lasts::Away, "`init:stop/0`, from inside; started again at the end."),
        process(
            "halt",
            Lasts::Away,
            "`erlang:halt`: the VM ends at once; started again at the end.",
        )
        .with(&[FLUSH]),
        process(
            "crash-dump",
            Lasts::Around("net-tick"),
            "The VM crashes and writes its dump until the end: it is silent, its connections and its name stay; started again at the end.",
        ),
        process(
            "epmd-unregister",
            Lasts::Around("net-setup"),
            "EPMD forgets the name of the node until the end: connections stay, nobody finds it for a new one.",
        ),
        process(
            "epmd-late",
            Lasts::Away,
            "SIGKILL and a start at once, but EPMD answers its registration only at the end.",
        ),
    ];

    fn name(&self) -> &'static str {
        match self {
            ProcessFault::Kill => "kill",
            ProcessFault::Pause => "pause",
            ProcessFault::Restart { .. } => "restart",
            ProcessFault::Stop => "stop",
            ProcessFault::Halt { .. } => "halt",
            ProcessFault::CrashDump => "crash-dump",
            ProcessFault::EpmdUnregister => "epmd-unregister",
            ProcessFault::EpmdLate => "epmd-late",
        }
    }

    fn samples() -> Vec<ProcessFault> {
        vec![
            ProcessFault::Kill,
            ProcessFault::Pause,
            ProcessFault::Restart {
                host: Some("localhost".into()),
                cookie: Some("another".into()),
            },
            ProcessFault::Stop,
            ProcessFault::Halt { flush: true },
            ProcessFault::CrashDump,
            ProcessFault::EpmdUnregister,
            ProcessFault::EpmdLate,
        ]
    }

    fn objections(&self) -> Vec<Objection> {
        let ProcessFault::Restart { host, cookie } = self else { return Vec::new() };
        let mut wrong = Vec::new();
        if let Some(host) = host
            && !matches!(host.as_str(), "localhost" | "127.0.0.1")
        {
            let problem = "nodes listen on this machine: `localhost` or `127.0.0.1`";
            wrong.push(("host", format!("{host:?}: {problem}")));
        }
        let fits = |cookie: &String| {
            (1..=255).contains(&cookie.len())
                && cookie.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        };
        if let Some(cookie) = cookie.as_ref().filter(|cookie| !fits(cookie)) {
            let problem = "must be 1 to 255 of letters, digits, `_`, `-`, `.`";
            wrong.push(("cookie", format!("{cookie:?}: {problem}")));
        }
        wrong
    }
}
