//! Sets of integers as sorted, disjoint, non-adjacent ranges: the possible values of a counter.
//!
//! The sums of subsets of n numbers can be 2^n different ones, but they fill up quickly: ranges that
//! touch are merged, so small or many numbers give few ranges. Past [`Ranges::COUNT_MAX`] ranges the
//! set is given up, never approximated.

/// A set of integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// Inclusive, ascending, with a gap of at least one between two.
    ranges: Vec<(i128, i128)>,
}

impl Ranges {
    /// How many ranges a set may have.
    pub const COUNT_MAX: usize = 1 << 17;

    /// Only this integer.
    pub fn only(value: i128) -> Ranges {
        Ranges { ranges: vec![(value, value)] }
    }

    /// Adds `delta` to some of the elements or none: the union of the set with its shift. `false` when
    /// that has too many ranges; the set is then to be thrown away.
    pub fn grow(&mut self, delta: i128) -> bool {
        self.grow_up_to(delta, i128::MAX)
    }

    /// The same for a `delta` that is not negative, of the elements up to `most` alone.
    pub fn grow_up_to(&mut self, delta: i128, most: i128) -> bool {
        let (mut low, mut high) = (self.ranges.iter().copied(), self.ranges.iter().copied());
        let shift = |range: (i128, i128)| (range.0 + delta, range.1 + delta);
        let (mut a, mut b) = (low.next(), high.next().map(shift));
        let mut merged: Vec<(i128, i128)> = Vec::with_capacity(self.ranges.len() + 8);
        loop {
            let next = match (a, b) {
                (Some(x), Some(y)) if x.0 <= y.0 => {
                    a = low.next();
                    x
                }
                (_, Some(y)) => {
                    b = high.next().map(shift);
                    y
                }
                (Some(x), None) => {
                    a = low.next();
                    x
                }
                (None, None) => break,
            };
            // In order of their starts: all that follow are greater as well.
            if next.0 > most {
                break;
            }
            match merged.last_mut() {
                Some(last) if next.0 <= last.1 + 1 => last.1 = last.1.max(next.1),
                _ => merged.push(next),
            }
        }
        self.ranges = merged;
        self.ranges.len() <= Ranges::COUNT_MAX
    }

    /// Whether the integer is in the set.
    pub fn contains(&self, value: i128) -> bool {
        let after = self.ranges.partition_point(|range| range.0 <= value);
        after > 0 && value <= self.ranges[after - 1].1
    }

    /// How many ranges.
    pub fn count(&self) -> usize {
        self.ranges.len()
    }

    /// As text, each bound moved by `shift`: `0..5, 9`; `None` if it is more than a reader takes in.
    pub fn text(&self, shift: i128) -> Option<String> {
        const SHOWN_MAX: usize = 6;
        let shown = self.ranges.iter().map(|(low, high)| match low == high {
            true => format!("{}", low + shift),
            false => format!("{}..{}", low + shift, high + shift),
        });
        (self.ranges.len() <= SHOWN_MAX).then(|| shown.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_exactly_the_sums_of_subsets() {
        let deltas: [i128; 7] = [3, -1, 10, 10, 7, -20, 1];
        let mut ranges = Ranges::only(0);
        for delta in deltas {
            assert!(ranges.grow(delta));
        }
        let mut sums = std::collections::BTreeSet::new();
        for mask in 0..1u32 << deltas.len() {
            let chosen = (0..deltas.len()).filter(|i| mask >> i & 1 == 1);
            sums.insert(chosen.map(|i| deltas[i]).sum::<i128>());
        }
        for value in -40..60 {
            assert_eq!(ranges.contains(value), sums.contains(&value), "{value}");
        }
        assert!(ranges.ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
    }

    #[test]
    fn up_to_a_bound_nothing_is_missing() {
        let (mut all, mut low) = (Ranges::only(0), Ranges::only(0));
        for delta in [3, 5, 5, 11, 20] {
            assert!(all.grow(delta) && low.grow_up_to(delta, 17));
        }
        for value in 0..=17 {
            assert_eq!(low.contains(value), all.contains(value), "{value}");
        }
        assert_eq!(low.text(10), None);
        let mut few = Ranges::only(0);
        assert!(few.grow(3) && few.grow(1));
        assert_eq!(few.text(10).as_deref(), Some("10..11, 13..14"));
    }
}
