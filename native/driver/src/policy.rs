//! What is to happen to the bytes of a connection: faults as they are asked for, and the policy that all of them
//! together make for one peer and direction.

use serde::{Deserialize, Serialize};

/// Which bytes of a connection a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// What this node sends.
    Out,
    /// What this node receives.
    In,
    /// Both.
    #[default]
    Both,
}

impl Direction {
    /// Whether a fault of this direction is about that one of the two.
    pub fn has(self, one: Direction) -> bool {
        self == Direction::Both || self == one
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// Nothing passes; what was sent arrives at the heal. New connections wait.
    Hold {},
    /// Frames pass later.
    Delay {
        /// Added to each.
        latency_ms: u64,
        /// Uniformly up to this much more; the order is kept.
        #[serde(default)]
        jitter_ms: u64,
        /// Decides the jitter.
        #[serde(default)]
        seed: u64,
    },
    /// At most so many bytes pass in a second.
    Throttle {
        /// The rate.
        bytes_per_s: u64,
    },
    /// Frames that carry data vanish, which TCP cannot do.
    Drop {
        /// Of a thousand.
        #[serde(default = "all")]
        per_mille: u32,
        /// Decides which.
        #[serde(default)]
        seed: u64,
    },
    /// Ticks pass, data is held.
    TicksOnly {},
    /// Data passes, ticks do not.
    NoTicks {},
    /// Ticks are sent by the driver's own thread, also while every scheduler stands still.
    ForgedTicks {
        /// How often.
        every_ms: u64,
    },
    /// Connections are closed once; new ones are allowed.
    Close {},
    /// New connections are refused, `out` those that this node makes; those that exist stay.
    RefuseConnect {},
    /// The port is busy: who sends has to wait as soon as the buffer of the VM is full.
    Busy {},
}

fn all() -> u32 {
    1000
}

impl Kind {
    /// What makes no sense, in words.
    pub fn problem(&self) -> Option<&'static str> {
        match self {
            Kind::Throttle { bytes_per_s: 0 } => Some("bytes_per_s is 0; hold stops everything"),
            Kind::ForgedTicks { every_ms: 0 } => Some("every_ms is 0; it has to be at least 1"),
            Kind::Drop { per_mille, .. } if !(1..=1000).contains(per_mille) => {
                Some("per_mille has to be from 1 to 1000")
            }
            _ => None,
        }
    }
}

/// A fault that is active.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Its number, given by who asked for it.
    pub id: u64,
    /// The name of the peer; absent for every peer.
    pub peer: Option<String>,
    /// Which bytes.
    pub direction: Direction,
    /// What.
    pub kind: Kind,
    /// Which controller asked: its end heals.
    pub owner: u64,
    /// When it heals by itself, if it does.
    pub until_ns: Option<u64>,
}

/// Everything that applies to one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Data waits.
    pub hold: bool,
    /// Ticks pass though data waits.
    pub ticks_pass: bool,
    /// Ticks vanish.
    pub no_ticks: bool,
    /// Added to each frame.
    pub latency_ns: u64,
    /// Up to this much more.
    pub jitter_ns: u64,
    /// At most this rate; 0 if there is none.
    pub bytes_per_s: u64,
    /// How many of a thousand frames vanish.
    pub drop_per_mille: u32,
    /// How often a tick is forged; 0 if none is.
    pub forged_tick_ns: u64,
    /// The port is busy.
    pub busy: bool,
    /// New connections are refused.
    pub refuse: bool,
    /// What jitter and drops are drawn from.
    pub seed: u64,
}

impl Policy {
    /// Nothing happens to bytes.
    pub fn is_clear(&self) -> bool {
        *self == Policy::default()
    }

    /// Nothing at all passes, not even ticks.
    pub fn is_silent(&self) -> bool {
        self.hold && !self.ticks_pass
    }

    /// What these faults make for one direction of the connection to a peer.
    pub fn of<'a>(
        faults: impl Iterator<Item = &'a Fault>,
        peer: &str,
        direction: Direction,
    ) -> Policy {
        let mut policy = Policy::default();
        let (mut holds, mut ticks_only) = (false, false);
        for fault in faults {
            if fault.peer.as_deref().is_some_and(|name| name != peer) {
                continue;
            }
            if !fault.direction.has(direction) {
                continue;
            }
            match fault.kind {
                Kind::Hold {} => holds = true,
                Kind::TicksOnly {} => ticks_only = true,
                Kind::NoTicks {} => policy.no_ticks = true,
                Kind::Delay { latency_ms, jitter_ms, seed } => {
                    policy.seed = policy.seed.wrapping_add(seed);
                    policy.latency_ns = policy.latency_ns.saturating_add(nanoseconds(latency_ms));
                    policy.jitter_ns = policy.jitter_ns.saturating_add(nanoseconds(jitter_ms));
                }
                Kind::Throttle { bytes_per_s } => {
                    policy.bytes_per_s = match policy.bytes_per_s {
                        0 => bytes_per_s,
                        rate => rate.min(bytes_per_s),
                    };
                }
                Kind::Drop { per_mille, seed } => {
                    policy.seed = policy.seed.wrapping_add(seed);
                    policy.drop_per_mille = policy.drop_per_mille.max(per_mille);
                }
                Kind::ForgedTicks { every_ms } => {
                    let every_ns = nanoseconds(every_ms);
                    policy.forged_tick_ns = match policy.forged_tick_ns {
                        0 => every_ns,
                        other => other.min(every_ns),
                    };
                }
                Kind::RefuseConnect {} => policy.refuse = true,
                // What is received keeps no sender waiting.
                Kind::Busy {} => policy.busy = direction == Direction::Out,
                Kind::Close {} => {}
            }
        }
        policy.hold = holds || ticks_only;
        policy.ticks_pass = ticks_only && !holds;
        policy
    }
}

fn nanoseconds(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

/// Chance for jitter and drops: SplitMix64 (Steele, Lea and Flood, 2014), small enough to have one a connection.
#[derive(Debug, Clone, Copy)]
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below a bound; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        match bound {
            0 => 0,
            bound => ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64,
        }
    }
}
