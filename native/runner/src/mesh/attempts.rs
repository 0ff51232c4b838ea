//! Which node is asked when to connect to which: at most one attempt for each ordered pair, and pauses that grow
//! with every failure.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fuzz_dist_core::sync::lock;

/// How soon the nodes may be asked again whom they see.
const ROUND_EVERY: Duration = Duration::from_millis(50);

/// How long after a first failure a pair rests; doubles with each further one.
const REST_MIN: Duration = Duration::from_millis(100);

/// How long a pair rests at most.
const REST_MAX: Duration = Duration::from_secs(2);

/// Attempts of all pairs.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    pairs: Mutex<HashMap<(String, String), Pair>>,
    round: Mutex<Round>,
}

#[derive(Debug, Default)]
struct Pair {
    under_way: bool,
    failures: u32,
    rests_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Round {
    under_way: bool,
    ended: Option<Instant>,
}

impl Attempts {
    /// Whether the caller is the one who asks all nodes now; it then calls [`Attempts::end_round`].
    pub(super) fn begin_round(&self, now: Instant) -> bool {
        let mut round = lock(&self.round);
        let soon =
            round.ended.is_some_and(|ended| now.saturating_duration_since(ended) < ROUND_EVERY);
        if round.under_way || soon {
            return false;
        }
        round.under_way = true;
        true
    }

    /// All nodes have been asked.
    pub(super) fn end_round(&self, now: Instant) {
        *lock(&self.round) = Round { under_way: false, ended: Some(now) };
    }

    /// Whether an attempt may be made; it is then under way until [`Attempts::ended`].
    pub(super) fn begin(&self, from: &str, to: &str, now: Instant) -> bool {
        let mut pairs = lock(&self.pairs);
        let pair = pairs.entry((from.to_owned(), to.to_owned())).or_default();
        if pair.under_way || pair.rests_until.is_some_and(|until| now < until) {
            return false;
        }
        pair.under_way = true;
        true
    }

    /// An attempt has ended. It counts as failed until the two are seen connected.
    pub(super) fn ended(&self, from: &str, to: &str, now: Instant) {
        if let Some(pair) = lock(&self.pairs).get_mut(&(from.to_owned(), to.to_owned())) {
            pair.under_way = false;
            let rest = REST_MIN.saturating_mul(1 << pair.failures.min(16)).min(REST_MAX);
            pair.failures += 1;
            pair.rests_until = Some(now + rest);
        }
    }

    /// The two are connected.
    pub(super) fn succeeded(&self, from: &str, to: &str) {
        let key = (from.to_owned(), to.to_owned());
        let mut pairs = lock(&self.pairs);
        if let Some(pair) = pairs.get_mut(&key) {
            (pair.failures, pair.rests_until) = (0, None);
        }
    }

    /// No pair rests any more.
    pub(super) fn forget_failures(&self) {
        for pair in lock(&self.pairs).values_mut() {
            (pair.failures, pair.rests_until) = (0, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_attempt_at_a_time_and_rests_longer_after_each_failure() {
        let (attempts, mut now) = (Attempts::default(), Instant::now());
        assert!(attempts.begin("n1", "n2", now));
        for rest_ms in [100, 200, 400, 800, 1600, 2000, 2000] {
            assert!(!attempts.begin("n1", "n2", now + Duration::from_secs(60)), "one is under way");
            attempts.ended("n1", "n2", now);
            let rest = Duration::from_millis(rest_ms);
            assert!(
                !attempts.begin("n1", "n2", now + rest - Duration::from_millis(1)),
                "{rest_ms}"
            );
            now += rest;
            assert!(attempts.begin("n1", "n2", now), "{rest_ms}");
        }
    }

    #[test]
    fn the_other_direction_and_a_pair_that_was_connected_do_not_rest() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        assert!(attempts.begin("n1", "n2", now) && attempts.begin("n2", "n1", now));
        attempts.ended("n1", "n2", now);
        attempts.ended("n2", "n1", now);
        assert!(!attempts.begin("n1", "n2", now) && !attempts.begin("n2", "n1", now));
        attempts.succeeded("n1", "n2");
        assert!(attempts.begin("n1", "n2", now) && !attempts.begin("n2", "n1", now));
        attempts.forget_failures();
        assert!(attempts.begin("n2", "n1", now));
        assert!(!attempts.begin("n1", "n2", now), "what is under way stays so");
    }

    #[test]
    fn however_many_watch_one_asks() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        assert!(attempts.begin_round(now));
        assert!(!attempts.begin_round(now + Duration::from_secs(60)), "it is under way");
        attempts.end_round(now);
        assert!(!attempts.begin_round(now + Duration::from_millis(49)));
        assert!(attempts.begin_round(now + ROUND_EVERY));
    }
}
