//! What the faults that are active on one directed link mean together.
//!
//! Each fault has an id; a heal removes only its own. The policy is worked out again from those that
//! remain: a hold stops everything, whatever else is active, but the ticks that a forging fault makes up;
//! ticks-only and no-ticks together stop everything too; of several delays or throttles the strongest counts,
//! of messages for each operation; a delay and a throttle both apply. FIN, RST and half-open are done to the
//! connections that exist and leave no policy, so that new connections pass; refusal and silence towards new
//! connections concern the listener, and refusal counts if both are active.

use fuzz_dist_core::fault::{Distribution, LinkFault, OPERATIONS, PlaneFault};
use rand::Rng;

use super::protocol::FaultId;

/// What may pass one directed link now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Nothing passes; order is kept for the heal.
    pub hold: bool,
    /// What a hold kept waits on after it, as TCP's retransmissions would have.
    pub heal_lag: bool,
    /// While nothing passes, ticks are sent in the name of the source.
    pub forge_ticks: bool,
    /// Everything but ticks is held.
    pub hold_data: bool,
    /// Ticks are dropped.
    pub drop_ticks: bool,
    /// At most so many bytes in a second.
    pub bytes_per_s: Option<u64>,
    /// Bytes pass later.
    pub delay: Option<Delay>,
    /// What happens to single messages.
    pub messages: Option<Messages>,
    /// What happens to new connections of the source.
    pub access: Access,
}

/// What happens to who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Access {
    /// It is let in.
    #[default]
    Open,
    /// It hears nothing.
    Silent,
    /// It is refused.
    Refused,
}

/// Every chunk passes so much later than it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// At least.
    pub latency_ns: u64,
    /// How much more.
    pub jitter_ns: u64,
    /// How that is drawn.
    pub distribution: Distribution,
}

/// The shape of the Pareto distribution of jitter: its mean is half the scale, and one chunk in a thousand is
/// later than nine times the scale. As the table that netem comes with, near enough.
const PARETO_SHAPE: f64 = 3.0;

/// Where the tail of a distribution is cut off, in units of the jitter.
const JITTER_MAX: f64 = 100.0;

/// Draws from which the jitter of one chunk is made, whatever policy it meets later.
#[derive(Debug, Clone, Copy)]
pub struct Draw(f64, f64);

impl Draw {
    /// The next of a stream.
    pub fn next(random: &mut impl Rng) -> Draw {
        use rand::RngExt;
        Draw(random.random(), random.random())
    }

    /// Whether it falls under a probability in millionths.
    pub fn is_under_ppm(self, ppm: u32) -> bool {
        self.1 * 1e6 < f64::from(ppm)
    }
}

impl Delay {
    /// How long a chunk waits on average.
    fn mean_ns(&self) -> f64 {
        let factor = match self.distribution {
            Distribution::Uniform => 0.5,
            // Of the half of the bell curve that counts.
            Distribution::Normal => 1.0 / std::f64::consts::TAU.sqrt(),
            Distribution::Pareto => 1.0 / (PARETO_SHAPE - 1.0),
        };
        self.latency_ns as f64 + self.jitter_ns as f64 * factor
    }

    /// The one that makes chunks wait longer on average.
    fn stronger(self, other: Delay) -> Delay {
        if other.mean_ns() > self.mean_ns() { other } else { self }
    }

    /// How long a chunk with this draw waits.
    pub fn total_ns(&self, draw: Draw) -> u64 {
        let factor = match self.distribution {
            Distribution::Uniform => draw.0,
            // Box and Muller; who would be early is on time.
            Distribution::Normal => {
                let radius = (-2.0 * (1.0 - draw.0).ln()).sqrt();
                (radius * (std::f64::consts::TAU * draw.1).cos()).max(0.0)
            }
            // Pareto's second kind (Lomax): it begins at nothing.
            Distribution::Pareto => (1.0 - draw.0).powf(-1.0 / PARETO_SHAPE) - 1.0,
        };
        let jitter_ns = (self.jitter_ns as f64 * factor.min(JITTER_MAX)) as u64;
        self.latency_ns.saturating_add(jitter_ns)
    }
}

/// Numbers of operations are less than this.
const OPERATIONS_MAX: usize = 64;

/// What happens to messages, by the number of their operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Messages {
    /// How many of a million vanish.
    drop_ppm: [u32; OPERATIONS_MAX],
    /// How much later they come.
    delay_ms: [u32; OPERATIONS_MAX],
}

impl Messages {
    const NONE: Messages =
        Messages { drop_ppm: [0; OPERATIONS_MAX], delay_ms: [0; OPERATIONS_MAX] };

    /// How many of a million messages of this operation vanish.
    pub fn drop_ppm(&self, operation: u8) -> u32 {
        self.drop_ppm.get(usize::from(operation)).copied().unwrap_or(0)
    }

    /// How much later a message of this operation comes.
    pub fn delay_ns(&self, operation: u8) -> u64 {
        let delay_ms = self.delay_ms.get(usize::from(operation)).copied().unwrap_or(0);
        u64::from(delay_ms) * 1_000_000
    }

    fn raise(of: &mut [u32; OPERATIONS_MAX], operations: &[String], value: u32) {
        for (number, name) in OPERATIONS {
            if operations.iter().any(|wanted| wanted == name)
                && let Some(slot) = of.get_mut(usize::from(*number))
            {
                *slot = value.max(*slot);
            }
        }
    }
}

impl Policy {
    /// The policy of these faults together.
    pub fn of<'a>(faults: impl IntoIterator<Item = &'a LinkFault>) -> Policy {
        let mut policy = Policy::default();
        for fault in faults {
            match *fault {
                LinkFault::Hold { heal_lag } => {
                    policy.hold = true;
                    policy.heal_lag |= heal_lag;
                }
                LinkFault::ForgedTicks => {
                    policy.hold = true;
                    policy.forge_ticks = true;
                }
                LinkFault::TicksOnly => policy.hold_data = true,
                LinkFault::NoTicks => policy.drop_ticks = true,
                LinkFault::RefuseConnect => policy.access = Access::Refused,
                LinkFault::BlackholeConnect => policy.access = policy.access.max(Access::Silent),
                LinkFault::Throttle { bytes_per_s } => {
                    let rate = policy.bytes_per_s.map_or(bytes_per_s, |r| r.min(bytes_per_s));
                    policy.bytes_per_s = Some(rate.max(1));
                }
                LinkFault::Delay { latency_ms, jitter_ms, distribution } => {
                    let delay = Delay {
                        latency_ns: latency_ms.saturating_mul(1_000_000),
                        jitter_ns: jitter_ms.saturating_mul(1_000_000),
                        distribution,
                    };
                    policy.delay = Some(policy.delay.map_or(delay, |other| other.stronger(delay)));
                }
                LinkFault::DropMessages { ref operations, probability } => {
                    let messages = policy.messages.get_or_insert(Messages::NONE);
                    let ppm = (probability * 1e6).ceil() as u32;
                    Messages::raise(&mut messages.drop_ppm, operations, ppm);
                }
                LinkFault::DelayMessages { ref operations, latency_ms } => {
                    let messages = policy.messages.get_or_insert(Messages::NONE);
                    let delay_ms = u32::try_from(latency_ms).unwrap_or(u32::MAX);
                    Messages::raise(&mut messages.delay_ms, operations, delay_ms);
                }
                LinkFault::Fin | LinkFault::Rst | LinkFault::HalfOpen => {}
            }
        }
        policy
    }

    /// Whether bytes pass as they come.
    pub fn passes(&self) -> bool {
        !self.hold
            && !self.hold_data
            && !self.drop_ticks
            && self.bytes_per_s.is_none()
            && self.delay.is_none()
            && self.messages.is_none()
    }
}

/// What happens once, when a fault is applied, to the connections that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Both ends see an orderly close.
    Fin,
    /// Both ends see a reset.
    Rst,
    /// The `from` end sees a close, the `to` end silence until the fault is healed.
    HalfOpen,
}

impl Action {
    /// The action of a fault, if it has one.
    pub fn of(fault: &LinkFault) -> Option<Action> {
        match fault {
            LinkFault::Fin => Some(Action::Fin),
            LinkFault::Rst => Some(Action::Rst),
            LinkFault::HalfOpen => Some(Action::HalfOpen),
            _ => None,
        }
    }
}

/// Why a fault cannot be applied to a channel; `None` when it can.
pub fn objection(fault: FaultId, kind: &LinkFault, port: Option<&str>) -> Option<String> {
    let name = kind.name();
    match (kind, port) {
        (kind, Some(port)) if kind.needs_distribution() => Some(format!(
            "fault {fault}: {name} needs the frames of the distribution, which port {port:?} does \
             not carry; use hold"
        )),
        (LinkFault::Throttle { bytes_per_s: 0 }, _) => {
            Some(format!("fault {fault}: throttle with bytes_per_s = 0 passes nothing; use hold"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_of_each_kind_counts() {
        let delay = |latency_ms| LinkFault::delay(latency_ms, 1);
        let throttle = |bytes_per_s| LinkFault::Throttle { bytes_per_s };
        let policy = Policy::of(&[delay(5), throttle(100), delay(9), throttle(10), delay(1)]);
        assert_eq!(policy.bytes_per_s, Some(10));
        let distribution = Distribution::Uniform;
        let strongest = Delay { latency_ns: 9_000_000, jitter_ns: 1_000_000, distribution };
        assert_eq!(policy.delay, Some(strongest));
        assert!(!policy.hold && !policy.passes());
        assert!(Policy::of(&[delay(5), LinkFault::HOLD]).hold);
    }

    #[test]
    fn the_strongest_delay_is_the_longest_on_average() {
        // A little less latency and much more jitter is more.
        let (small, large) = (LinkFault::delay(10, 0), LinkFault::delay(9, 500));
        for both in [[small.clone(), large.clone()], [large, small]] {
            let strongest = Policy::of(&both).delay.unwrap();
            assert_eq!((strongest.latency_ns, strongest.jitter_ns), (9_000_000, 500_000_000));
        }
        // The average is that of what is drawn.
        let mut random = fuzz_dist_core::seed::Seed(6).stream("jitter", 0);
        for distribution in [Distribution::Uniform, Distribution::Normal, Distribution::Pareto] {
            let delay = Delay { latency_ns: 1_000_000, jitter_ns: 2_000_000, distribution };
            let total: u64 = (0..200_000).map(|_| delay.total_ns(Draw::next(&mut random))).sum();
            let mean_ns = total as f64 / 200_000.0;
            assert!((mean_ns / delay.mean_ns() - 1.0).abs() < 0.03, "{distribution:?}: {mean_ns}");
        }
    }

    #[test]
    fn faults_without_policy_leave_the_link_open() {
        let all = [LinkFault::Fin, LinkFault::Rst, LinkFault::HalfOpen];
        assert_eq!(Policy::of(&all), Policy::default());
        let refuse = Policy::of(&[LinkFault::RefuseConnect]);
        assert!(refuse.access == Access::Refused && refuse.passes());
        let both = [LinkFault::RefuseConnect, LinkFault::BlackholeConnect];
        assert_eq!(Policy::of(&both), refuse);
    }

    #[test]
    fn what_cannot_be_applied_is_named() {
        assert!(objection(4, &LinkFault::NoTicks, Some("amqp")).unwrap().contains("amqp"));
        assert!(objection(4, &LinkFault::NoTicks, None).is_none());
        assert!(objection(1, &LinkFault::Throttle { bytes_per_s: 0 }, None).is_some());
    }

    #[test]
    fn messages_are_told_apart_by_operation() {
        let drop = |names: &[&str], probability| LinkFault::DropMessages {
            operations: names.iter().map(|name| (*name).to_owned()).collect(),
            probability,
        };
        let late = LinkFault::DelayMessages { operations: vec!["LINK".to_owned()], latency_ms: 7 };
        let policy = Policy::of(&[drop(&["SEND", "LINK"], 0.5), drop(&["LINK"], 1.0), late]);
        let messages = policy.messages.unwrap();
        let of = |operation| (messages.drop_ppm(operation), messages.delay_ns(operation));
        assert_eq!((of(2), of(1)), ((500_000, 0), (1_000_000, 7_000_000)));
        assert_eq!((of(6), of(255)), ((0, 0), (0, 0)), "REG_SEND, and what does not exist");
        assert!(!policy.passes());
    }

    #[test]
    fn jitter_is_distributed_as_its_name_says() {
        let mut random = fuzz_dist_core::seed::Seed(6).stream("jitter", 0);
        let mut draws = |distribution| {
            let delay = Delay { latency_ns: 1_000_000, jitter_ns: 1_000_000, distribution };
            let mut late: Vec<f64> = (0..20_000)
                .map(|_| delay.total_ns(Draw::next(&mut random)) as f64 / 1e6 - 1.0)
                .collect();
            late.sort_by(f64::total_cmp);
            move |quantile: f64| late[(quantile * 19_999.0) as usize]
        };
        let near = |found: f64, wanted: f64| {
            assert!((found - wanted).abs() < 0.08 * wanted.max(0.5), "{found}, not {wanted}");
        };
        let uniform = draws(Distribution::Uniform);
        near(uniform(0.1), 0.1);
        near(uniform(0.5), 0.5);
        assert!(uniform(0.0) >= 0.0 && uniform(1.0) <= 1.0);
        // Half of a normal distribution is early, and so on time.
        let normal = draws(Distribution::Normal);
        near(normal(0.45), 0.0);
        near(normal(0.841_345), 1.0);
        near(normal(0.977_250), 2.0);
        let pareto = draws(Distribution::Pareto);
        near(pareto(0.5), 0.259_9);
        near(pareto(0.9), 1.154_4);
        near(pareto(0.99), 3.641_6);
    }
}
