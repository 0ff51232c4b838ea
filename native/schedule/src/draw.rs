//! Numbers drawn from a stream, by fixed algorithms of our own.
//!
//! A seed must mean the same in every release of fuzz_dist, and libraries change how they turn random
//! bits into ranges; these few functions do not. Unbiased bounded integers are Lemire's method
//! ("Fast Random Integer Generation in an Interval", 2019).

use fuzz_dist_core::seed::Stream;
use rand::Rng;

/// An integer in `0..bound`; 0 when `bound` is 0.
pub fn below(stream: &mut Stream, bound: u64) -> u64 {
    if bound == 0 {
        return 0;
    }
    let mut product = u128::from(stream.next_u64()) * u128::from(bound);
    if (product as u64) < bound {
        let threshold = bound.wrapping_neg() % bound;
        while (product as u64) < threshold {
            product = u128::from(stream.next_u64()) * u128::from(bound);
        }
    }
    (product >> 64) as u64
}

/// An index of a collection of `len` elements.
pub fn index(stream: &mut Stream, len: usize) -> usize {
    below(stream, len as u64) as usize
}

/// An integer from `low` to `high`, both included; `low` when the range is empty.
pub fn between(stream: &mut Stream, low: i64, high: i64) -> i64 {
    if high <= low {
        return low;
    }
    match high.abs_diff(low).checked_add(1) {
        Some(span) => low.wrapping_add(below(stream, span) as i64),
        None => stream.next_u64() as i64,
    }
}

/// A float in `0.0..1.0`, one of 2^53 evenly spaced ones.
pub fn unit(stream: &mut Stream) -> f64 {
    (stream.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// An integer from `low_ns` to `high_ns`, both included; `low_ns` when the range is empty.
pub fn between_ns(stream: &mut Stream, low_ns: u64, high_ns: u64) -> u64 {
    if high_ns <= low_ns {
        return low_ns;
    }
    low_ns + below(stream, (high_ns - low_ns).saturating_add(1))
}

/// The position in `cumulative` (ascending, the last is the total) that a weight falls on.
pub fn weighted(stream: &mut Stream, cumulative: &[u64]) -> usize {
    let total = cumulative.last().copied().unwrap_or(0);
    let at = below(stream, total);
    cumulative.partition_point(|&sum| sum <= at).min(cumulative.len().saturating_sub(1))
}

/// Shuffles in place (Fisher and Yates).
pub fn shuffle<T>(stream: &mut Stream, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, index(stream, last + 1));
    }
}

/// Cumulative weights of Zipf's law for ranks `0..count`: rank r has weight (r + 1)^-skew.
pub fn zipf_table(count: usize, skew: f64) -> Vec<f64> {
    let mut sum = 0.0;
    (0..count)
        .map(|rank| {
            sum += (rank as f64 + 1.0).powf(-skew);
            sum
        })
        .collect()
}

/// A rank by Zipf's law from a table of [`zipf_table`].
pub fn zipf(stream: &mut Stream, table: &[f64]) -> usize {
    let total = table.last().copied().unwrap_or(0.0);
    let at = unit(stream) * total;
    table.partition_point(|&sum| sum <= at).min(table.len().saturating_sub(1))
}

/// How many failures come before the first success of probability `p` in `(0, 1]`.
pub fn geometric(stream: &mut Stream, p: f64) -> i64 {
    if p >= 1.0 {
        return 0;
    }
    let failures = (1.0 - unit(stream)).ln() / (1.0 - p).ln();
    failures.min(i64::MAX as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz_dist_core::seed::Seed;

    #[test]
    fn bounded_draws_stay_in_bounds_and_reach_them() {
        let mut stream = Seed(7).stream("draw", 0);
        let mut seen = [false; 5];
        for _ in 0..200 {
            let n = between(&mut stream, -2, 2);
            assert!((-2..=2).contains(&n));
            seen[(n + 2) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(between(&mut stream, 3, 3), 3);
        let _ = between(&mut stream, i64::MIN, i64::MAX);
        assert_eq!(below(&mut stream, 0), 0);
    }

    #[test]
    fn weights_of_zero_are_never_drawn() {
        let mut stream = Seed(7).stream("draw", 1);
        for _ in 0..200 {
            assert_eq!(weighted(&mut stream, &[0, 3, 3]), 1);
        }
    }

    #[test]
    fn zipf_prefers_low_ranks() {
        let mut stream = Seed(7).stream("draw", 2);
        let table = zipf_table(100, 1.0);
        let mut counts = [0u32; 100];
        for _ in 0..10_000 {
            counts[zipf(&mut stream, &table)] += 1;
        }
        assert!(counts[0] > counts[9] && counts[9] > counts[99], "{counts:?}");
    }

    #[test]
    fn geometric_has_its_mean() {
        let mut stream = Seed(7).stream("draw", 3);
        let sum: i64 = (0..10_000).map(|_| geometric(&mut stream, 0.25)).sum();
        let mean = sum as f64 / 10_000.0;
        assert!((2.8..3.2).contains(&mean), "mean {mean}, expected 3");
    }
}
