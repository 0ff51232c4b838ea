//! What one function was asked on one node, and when silence is long enough to be a finding.
//!
//! **Bounds.** Silence needs both a number of asks and a span of time in which they were made
//! ([`ASKS_MIN`], [`SPAN_MIN_NS`]). Time in which nothing was asked counts for nothing.
//!
//! **Functions that fail by nature.** Some functions give no definite answer even in a healthy cluster
//! (a cas whose client returns an unknown error on a mismatch). For them a row of asks without an answer may be
//! chance. Of `a` asks with an answer and `b` without one while nothing was broken, on any node, the
//! chance of `m` further asks without an answer is (Laplace's rule of succession, applied m times)
//!
//! ```text
//! Π (b + 1 + i) / (a + b + 2 + i)   for i in 0..m
//! ```
//!
//! and must be at most [`CHANCE_MAX`]. Without any such `b` the function has never failed by nature, and
//! the bounds alone decide.

use fuzz_dist_core::fault_log::Moment;

/// How many asks without an answer are silence, unless the option `asks` says otherwise.
pub const ASKS_MIN: u64 = 10;

/// In which span they must have been made, unless the option `span-ms` says otherwise.
pub const SPAN_MIN_NS: i64 = 10_000_000_000;

/// How many asks without an answer, at the end, leave it open whether something still works.
const DOUBT_MIN: u64 = 3;

/// The greatest chance that silence may have of being natural.
const CHANCE_MAX: f64 = 1e-6;

/// One operation, asked and perhaps answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub invoke: Moment,
    /// The completion; the end of the history for an operation that has none.
    pub end: Moment,
    pub is_answered: bool,
    pub is_ok: bool,
}

/// How often a function was answered while nothing was broken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nature {
    pub answered: u64,
    pub unanswered: u64,
}

impl Nature {
    /// The chance that the next `count` asks of a healthy system get no answer.
    fn chance_of_silence(self, count: u64) -> f64 {
        if self.unanswered == 0 {
            return 0.0;
        }
        let (a, b) = (self.answered as f64, self.unanswered as f64);
        let mut chance = 1.0;
        for i in 0..count {
            chance *= (b + 1.0 + i as f64) / (a + b + 2.0 + i as f64);
            if chance <= CHANCE_MAX {
                break;
            }
        }
        chance
    }
}

/// What has to be reached before silence is a finding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub asks: u64,
    pub span_ns: i64,
}

/// How a function on a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It answered, and nothing says that it stopped.
    Answered,
    /// It was asked often enough, and never answered again.
    Silent,
    /// It was asked too little to tell.
    Doubtful,
    /// It was not asked at all since the last heal.
    NotAsked,
}

/// The asks of one function on one node, in order of invocation.
#[derive(Debug, Clone, Default)]
pub(super) struct Asks(pub Vec<Ask>);

impl Asks {
    /// Those invoked after the last heal, or all of a history without faults.
    pub(super) fn since(&self, heal: Option<Moment>) -> &[Ask] {
        let after = |ask: &Ask| heal.is_none_or(|heal| ask.invoke.index > heal.index);
        let from = self.0.iter().position(after).unwrap_or(self.0.len());
        &self.0[from..]
    }

    /// The first answer after the last heal, by completion.
    pub(super) fn first_answer(&self, heal: Option<Moment>) -> Option<&Ask> {
        let answered = self.since(heal).iter().filter(|ask| ask.is_answered);
        answered.min_by_key(|ask| ask.end)
    }

    /// The asks at the end that nothing answered: since the last heal, and invoked after whatever was the last
    /// answer.
    pub(super) fn silence(&self, heal: Option<Moment>) -> Vec<&Ask> {
        let since = self.since(heal);
        let last = since.iter().filter(|ask| ask.is_answered).map(|ask| ask.end.index).max();
        since.iter().filter(|ask| last.is_none_or(|last| ask.invoke.index > last)).collect()
    }

    pub(super) fn has_succeeded(&self) -> bool {
        self.0.iter().any(|ask| ask.is_ok)
    }

    /// Judges how it ended.
    pub(super) fn end(&self, heal: Option<Moment>, nature: Nature, bounds: Bounds) -> End {
        let silence = self.silence(heal);
        let count = silence.len() as u64;
        let from = silence.first().map_or(0, |ask| ask.invoke.time_ns);
        let to = silence.iter().map(|ask| ask.end.time_ns).max().unwrap_or(0);
        let is_unnatural = nature.chance_of_silence(count) <= CHANCE_MAX;
        if count >= bounds.asks && to.saturating_sub(from) >= bounds.span_ns && is_unnatural {
            return End::Silent;
        }
        let answered = self.first_answer(heal).is_some();
        match (heal, answered) {
            (Some(_), false) if count == 0 => End::NotAsked,
            (Some(_), false) => End::Doubtful,
            _ if count >= DOUBT_MIN && is_unnatural => End::Doubtful,
            _ => End::Answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_failures_make_silence_likely() {
        let nature = |answered, unanswered| Nature { answered, unanswered };
        assert_eq!(nature(100, 0).chance_of_silence(10), 0.0);
        // Of a function that answers every fifth time, ten asks in a row say little.
        assert!(nature(20, 80).chance_of_silence(10) > 0.05);
        assert!(nature(20, 80).chance_of_silence(200) <= CHANCE_MAX);
        // One that never answered is expected to go on like that.
        assert!(nature(0, 50).chance_of_silence(10) > 0.8);
        assert!(nature(1000, 1).chance_of_silence(10) <= CHANCE_MAX);
    }
}
