//! Faults of links: bytes between two nodes, or of a named TCP port, in the proxies of the plane process.
//!
//! All but the last two keep to what TCP can do: bytes come late or not at all, never out of order and never
//! with a gap. `drop-messages` and `delay-messages` pick single messages of the distribution out of the
//! stream, which no network does to Erlang; they show what code does whose messages are lost
//! all the same, in a mailbox that is flooded or a process that died.

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Lasts, Objection, PlaneFault, Subject, is_false};
use crate::spec::keys::{Key, Shape, key};

/// What happens to a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LinkFault {
    /// Nothing passes the links; what was sent meanwhile arrives at the heal.
    Hold {
        /// After the heal bytes wait as long as TCP's retransmissions would have backed off.
        #[serde(default, skip_serializing_if = "is_false")]
        heal_lag: bool,
    },
    /// Bytes pass later.
    Delay {
        /// Added to each direction.
        latency_ms: u64,
        /// How far a chunk may be later than that, order kept.
        #[serde(default)]
        jitter_ms: u64,
        /// How it is drawn.
        #[serde(default, skip_serializing_if = "Distribution::is_uniform")]
        distribution: Distribution,
    },
    /// At most so many bytes pass in a second.
    Throttle {
        /// The rate of each directed link.
        bytes_per_s: u64,
    },
    /// Both ends see an orderly close; new connections are allowed.
    Fin,
    /// Both ends see a reset; new connections are allowed.
    Rst,
    /// The `from` end of a link sees a close, the `to` end silence.
    HalfOpen,
    /// Ticks of the distribution pass, data is held: no node notices.
    TicksOnly,
    /// Data passes, ticks of the distribution do not.
    NoTicks,
    /// New connections are refused; those that exist stay.
    RefuseConnect,
    /// Nothing passes, and the plane sends ticks in the name of the silent peer.
    ForgedTicks,
    /// New connections are neither accepted nor refused; those that exist stay.
    BlackholeConnect,
    /// Messages of some distribution operations vanish.
    DropMessages {
        /// Names of the operations, as `SEND` or `MONITOR_P_EXIT`.
        operations: Vec<String>,
        /// Of how many of them, from 0 to 1.
        #[serde(default = "always")]
        probability: f64,
    },
    /// Messages of some distribution operations come later, behind others that were sent after them.
    DelayMessages {
        /// Names of the operations, as `SEND` or `MONITOR_P_EXIT`.
        operations: Vec<String>,
        /// How much later.
        latency_ms: u64,
    },
}

fn always() -> f64 {
    1.0
}

/// How jitter is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Anything from nothing to the jitter, all alike.
    #[default]
    Uniform,
    /// The jitter is the standard deviation; what would be early is on time.
    Normal,
    /// The jitter is the scale: most are hardly late, a few very much.
    Pareto,
}

impl Distribution {
    /// Their names.
    pub const NAMES: &'static [&'static str] = &["uniform", "normal", "pareto"];

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
    fn is_uniform(&self) -> bool {
        *self == Distribution::Uniform
    }
}

/// The operations of the distribution protocol that can be told apart on the wire, by number.
pub const OPERATIONS: &[(u8, &str)] = &[
    (1, "LINK"),
    (2, "SEND"),
    (3, "EXIT"),
    (6, "REG_SEND"),
    (7, "GROUP_LEADER"),
    (8, "EXIT2"),
    (12, "SEND_TT"),
    (13, "EXIT_TT"),
    (16, "REG_SEND_TT"),
    (18, "EXIT2_TT"),
    (19, "MONITOR_P"),
    (20, "DEMONITOR_P"),
    (21, "MONITOR_P_EXIT"),
    (22, "SEND_SENDER"),
    (23, "SEND_SENDER_TT"),
    (24, "PAYLOAD_EXIT"),
    (25, "PAYLOAD_EXIT_TT"),
    (26, "PAYLOAD_EXIT2"),
    (27, "PAYLOAD_EXIT2_TT"),
    (28, "PAYLOAD_MONITOR_P_EXIT"),
    (29, "SPAWN_REQUEST"),
    (30, "SPAWN_REQUEST_TT"),
    (31, "SPAWN_REPLY"),
    (32, "SPAWN_REPLY_TT"),
    (33, "ALIAS_SEND"),
    (34, "ALIAS_SEND_TT"),
    (35, "UNLINK_ID"),
    (36, "UNLINK_ID_ACK"),
];

impl LinkFault {
    /// A hold whose heal is exact.
    pub const HOLD: LinkFault = LinkFault::Hold { heal_lag: false };

    /// A delay with uniform jitter.
    pub const fn delay(latency_ms: u64, jitter_ms: u64) -> LinkFault {
        LinkFault::Delay { latency_ms, jitter_ms, distribution: Distribution::Uniform }
    }

    /// Whether it picks single messages out of the stream, which nodes write so that they can be told apart only
    /// if they are kept from using atom cache and fragments.
    pub fn needs_plain_messages(&self) -> bool {
        matches!(self, LinkFault::DropMessages { .. } | LinkFault::DelayMessages { .. })
    }

    /// Whether it is about ticks or messages, which only the distribution has.
    pub fn needs_distribution(&self) -> bool {
        matches!(
            self,
            LinkFault::TicksOnly
                | LinkFault::NoTicks
                | LinkFault::ForgedTicks
                | LinkFault::DropMessages { .. }
                | LinkFault::DelayMessages { .. }
        )
    }
}

const TICK: Lasts = Lasts::Around("net-tick");

const HEAL_LAG: &[Key] = &[key(
    "heal_lag",
    Shape::Boolean,
    "false",
    "`hold`: after the heal bytes wait as long as TCP's retransmissions would have backed off (200 ms, doubled each time).",
)];

const DELAY: &[Key] = &[
    key("latency_ms", Shape::Integer, "required", "`delay`: added to each direction."),
    key(
        "jitter_ms",
        Shape::Integer,
        "0",
        "`delay`: how much later than that a chunk may be, order kept.",
    ),
    key(
        "distribution",
        Shape::Choice(Distribution::NAMES),
        r#""uniform""#,
        "`delay`: how jitter is drawn: uniformly up to `jitter_ms`, or with it as standard deviation or as scale.",
    ),
];

const THROTTLE: &[Key] = &[key(
    "bytes_per_s",
    Shape::Integer,
    "required",
    "`throttle`: the rate of each directed link.",
)];

const OPERATION_NAMES: Key = key(
    "operations",
    Shape::Texts,
    "required",
    "`drop-messages`, `delay-messages`: operations of the distribution protocol, as `SEND`, `REG_SEND` or `MONITOR_P_EXIT`.",
);

const DROP_MESSAGES: &[Key] = &[
    OPERATION_NAMES,
    key(
        "probability",
        Shape::Number,
        "1.0",
        "`drop-messages`: how many of them vanish, from 0 to 1.",
    ),
];

const DELAY_MESSAGES: &[Key] = &[
    OPERATION_NAMES,
    key("latency_ms", Shape::Integer, "required", "`delay-messages`: how much later they come."),
];

const fn link(name: &'static str, lasts: Lasts, meaning: &'static str) -> Kind {
    Kind::new(name, Subject::Links, lasts, meaning)
}

impl PlaneFault for LinkFault {
    const KINDS: &'static [Kind] = &[
        link(
            "hold",
            TICK,
            "Nothing passes the links. What was sent meanwhile arrives at the heal.",
        )
        .on_ports()
        .with(HEAL_LAG),
        link("delay", TICK, "Bytes pass later.").on_ports().with(DELAY),
        link("throttle", TICK, "At most so many bytes pass in a second.").on_ports().with(THROTTLE),
        link("fin", Lasts::Instant, "Both ends see an orderly close; new connections are allowed.")
            .on_ports(),
        link("rst", Lasts::Instant, "Both ends see a reset; new connections are allowed.")
            .on_ports(),
        link("half-open", TICK, "The `from` end of a link sees a close, the `to` end silence.")
            .on_ports(),
        link("ticks-only", TICK, "Ticks of the distribution pass, data is held: no node notices."),
        link("no-ticks", TICK, "Data passes, ticks of the distribution do not."),
        link("refuse-connect", TICK, "New connections are refused; those that exist stay.")
            .on_ports(),
        link(
            "forged-ticks",
            TICK,
            "Nothing passes, and ticks are sent in the name of the silent peer: no node notices.",
        ),
        link(
            "blackhole-connect",
            Lasts::Around("net-setup"),
            "New connections are neither accepted nor refused; those that exist stay.",
        )
        .on_ports(),
        link(
            "drop-messages",
            TICK,
            "Messages of some operations vanish, the connection lives: more than TCP can do.",
        )
        .with(DROP_MESSAGES),
        link(
            "delay-messages",
            TICK,
            "Messages of some operations are overtaken by later ones: more than TCP can do.",
        )
        .with(DELAY_MESSAGES),
    ];

    fn name(&self) -> &'static str {
        match self {
            LinkFault::Hold { .. } => "hold",
            LinkFault::Delay { .. } => "delay",
            LinkFault::Throttle { .. } => "throttle",
            LinkFault::Fin => "fin",
            LinkFault::Rst => "rst",
            LinkFault::HalfOpen => "half-open",
            LinkFault::TicksOnly => "ticks-only",
            LinkFault::NoTicks => "no-ticks",
            LinkFault::RefuseConnect => "refuse-connect",
            LinkFault::ForgedTicks => "forged-ticks",
            LinkFault::BlackholeConnect => "blackhole-connect",
            LinkFault::DropMessages { .. } => "drop-messages",
            LinkFault::DelayMessages { .. } => "delay-messages",
        }
    }

    fn samples() -> Vec<LinkFault> {
        let operations = vec!["SEND".to_owned()];
        vec![
            LinkFault::Hold { heal_lag: true },
            LinkFault::Delay { latency_ms: 1, jitter_ms: 1, distribution: Distribution::Pareto },
            LinkFault::Throttle { bytes_per_s: 1 },
            LinkFault::Fin,
            LinkFault::Rst,
            LinkFault::HalfOpen,
            LinkFault::TicksOnly,
            LinkFault::NoTicks,
            LinkFault::RefuseConnect,
            LinkFault::ForgedTicks,
            LinkFault::BlackholeConnect,
            LinkFault::DropMessages { operations: operations.clone(), probability: 0.5 },
            LinkFault::DelayMessages { operations, latency_ms: 1 },
        ]
    }

    fn objections(&self) -> Vec<Objection> {
        match self {
            LinkFault::Throttle { bytes_per_s: 0 } => vec![(
                "bytes_per_s",
                "0 bytes a second: use the kind `hold` to let nothing pass".into(),
            )],
            LinkFault::Delay { latency_ms: 0, jitter_ms: 0, .. } => {
                vec![("latency_ms", "a delay of 0 ms without jitter is none".into())]
            }
            LinkFault::DropMessages { operations, probability } => {
                let mut wrong = unknown_operations(operations);
                if !(*probability > 0.0 && *probability <= 1.0) {
                    wrong.push(("probability", super::not_a_probability(*probability)));
                }
                wrong
            }
            LinkFault::DelayMessages { operations, latency_ms } => {
                let mut wrong = unknown_operations(operations);
                if *latency_ms == 0 {
                    wrong.push(("latency_ms", "a delay of 0 ms is none".into()));
                }
                wrong
            }
            _ => Vec::new(),
        }
    }
}

fn unknown_operations(operations: &[String]) -> Vec<Objection> {
    let known: Vec<&str> = OPERATIONS.iter().map(|(_, name)| *name).collect();
    if operations.is_empty() {
        return vec![("operations", "is empty: name at least one, as \"SEND\"".into())];
    }
    operations
        .iter()
        .filter(|name| !known.contains(&name.as_str()))
        .map(|name| {
            let hint = crate::spec::suggest::hint(name, &known);
            ("operations", format!("unknown operation `{name}`; {hint}"))
        })
        .collect()
}
