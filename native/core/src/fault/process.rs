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
    /// The VM crashes and writes its dump as long as the fault lasts. Before it writes, a BEAM closes its
    /// files and connections, so its peers and EPMD notice at once (measured with OTP 25); whoever waits for
    /// the process to end waits on.
    CrashDump,
    /// EPMD forgets the name of the node until the end; connections stay.
    EpmdUnregister,
    /// SIGKILL and a start at once, but EPMD knows the name again only at the end.
    EpmdLate,
}

/// Host parts of long names that mean this machine, as `inet` reads them.
pub const HOSTS: [&str; 3] = ["127.0.0.1", "127.0.1", "127.1"];

const HOST: Key = key(
    "host",
    Shape::Text,
    "the node's own",
    "`restart`: the host part of the name that the node comes back with, as `127.1`; its own again after the main phase.",
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
            Lasts::Away,
            "The VM crashes and writes its dump until the end: its connections close, its process stays; started again at the end.",
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
            ProcessFault::Restart { host: Some("127.1".into()), cookie: Some("another".into()) },
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
            && !HOSTS.contains(&host.as_str())
        {
            let hosts = HOSTS.map(|host| format!("`{host}`")).join(", ");
            let problem = "nodes are reached at 127.0.0.1, and a long name has a dot; one of";
            wrong.push(("host", format!("{host:?}: {problem} {hosts}")));
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
