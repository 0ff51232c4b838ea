//! Whether a number is the sum of some of many numbers.
//!
//! Subset sum is hard in general and easy nearly always. A read of a counter is nearly always the sum of all
//! additions but the newest few and those that were never answered, or it lies where the sums are so dense
//! that some pair of small subsets hits it. Both are tried first and give a subset, so `Possible` is a proof; bounds and the greatest common
//! divisor prove the contrary at once. What is left is decided exactly: by the sums of two halves where
//! there are few numbers, by ranges where they touch, and otherwise left open, never guessed.

use crate::budget::Meter;
use crate::ranges::Ranges;

/// What is known of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    Possible,
    Impossible,
    /// Neither was found with the work that was allowed.
    Open,
}

/// The newest and the oldest numbers that are tried first.
const NEWEST: usize = 16;
/// How many of those that may not have happened are tried together with the newest.
const UNSURE: usize = 8;
/// Of how many numbers sums of four are tried.
const OF_FOUR: usize = 200;
/// So many numbers are decided by the sums of two halves.
const HALVES_MAX: usize = 32;
/// Numbers of a pool, in two halves, and how many rests are tried with it.
const POOL: usize = 24;
const RESTS_MAX: usize = 24;
/// First numbers of a sum of three.
const FIRST_OF_THREE: usize = 64;
/// How many steps the exact way may take for one sum.
const STEPS_MAX: usize = 40_000_000;

/// Numbers, of which some may be taken.
#[derive(Debug, Default, Clone)]
pub(super) struct Sums {
    /// Those that happened, as they came; zeros are left out.
    deltas: Vec<i128>,
    /// Those that may not have happened.
    unsure: Vec<i128>,
    unsure_sum: i128,
    /// Their magnitudes in order.
    sorted: Vec<i128>,
    low: i128,
    high: i128,
    divisor: i128,
}

impl Sums {
    pub fn push(&mut self, delta: i128, is_sure: bool) {
        if delta == 0 {
            return;
        }
        match is_sure {
            true => self.deltas.push(delta),
            false => {
                self.unsure.push(delta);
                self.unsure_sum += delta;
            }
        }
        let size = delta.abs();
        let place = self.sorted.partition_point(|other| *other < size);
        self.sorted.insert(place, size);
        self.low += delta.min(0);
        self.high += delta.max(0);
        self.divisor = gcd(self.divisor, size);
    }

    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    pub fn bounds(&self) -> (i128, i128) {
        (self.low, self.high)
    }

    /// Whether some of the numbers, or none, add up to `target`.
    pub fn decide(&self, target: i128, meter: &Meter) -> Sum {
        if target < self.low || target > self.high {
            return Sum::Impossible;
        }
        // Taking a positive number or leaving out a negative one: sums of magnitudes, from below or above.
        let from_below = target - self.low;
        let distance = from_below.min(self.high - target);
        if distance == 0 {
            return Sum::Possible;
        }
        if self.divisor > 1 && distance % self.divisor != 0 {
            return Sum::Impossible;
        }
        let all = self.low + self.high;
        let newest = &self.deltas[self.deltas.len().saturating_sub(NEWEST)..];
        let oldest = &self.deltas[..self.deltas.len().min(NEWEST)];
        if of_halves(newest, all - target)
            || of_halves(oldest, target)
            || self.but_unsure(newest, all - target)
        {
            return Sum::Possible;
        }
        let few = &self.sorted[..self.sorted.partition_point(|size| *size <= distance)];
        if few.len() <= HALVES_MAX {
            return match of_halves(few, distance) {
                true => Sum::Possible,
                false => Sum::Impossible,
            };
        }
        // Three of them reach no further than this; a pool is denser the further it is.
        let reach = 3 * few.last().copied().unwrap_or(0);
        if of_two(few, distance)
            || of_pool(few, distance)
            || distance <= reach && of_three(few, distance)
            || distance <= 2 * reach && of_four(few, distance)
        {
            return Sum::Possible;
        }
        exactly(few, distance, meter)
    }

    /// Whether some of the newest and some that may not have happened are what is missing: few of the latter,
    /// or all of them but few.
    fn but_unsure(&self, newest: &[i128], missing: i128) -> bool {
        if self.unsure.is_empty() {
            return false;
        }
        let newest = newest.iter().rev().take(NEWEST - UNSURE / 2).copied();
        let last = || self.unsure.iter().rev().take(UNSURE);
        let few: Vec<i128> = newest.clone().chain(last().copied()).collect();
        let but_few: Vec<i128> = newest.chain(last().map(|delta| -delta)).collect();
        of_halves(&few, missing) || of_halves(&but_few, missing - self.unsure_sum)
    }
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// All sums of subsets, in order.
fn sums_of(numbers: &[i128]) -> Vec<i128> {
    let mut sums = vec![0];
    for number in numbers {
        let mut merged = Vec::with_capacity(2 * sums.len());
        let (mut a, mut b) = (0, 0);
        while a < sums.len() || b < sums.len() {
            let take_a = b >= sums.len() || a < sums.len() && sums[a] <= sums[b] + number;
            if take_a {
                merged.push(sums[a]);
                a += 1;
            } else {
                merged.push(sums[b] + number);
                b += 1;
            }
        }
        sums = merged;
    }
    sums
}

/// Whether a subset adds up to `target`: the sums of both halves, one from below and one from above.
fn of_halves(numbers: &[i128], target: i128) -> bool {
    let (left, right) = numbers.split_at(numbers.len() / 2);
    meets(&sums_of(left), &sums_of(right), target)
}

/// Whether one of each of two sorted lists add up to `target`.
fn meets(left: &[i128], right: &[i128], target: i128) -> bool {
    let (mut a, mut b) = (0, right.len());
    while a < left.len() && b > 0 {
        match (left[a] + right[b - 1]).cmp(&target) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => a += 1,
            std::cmp::Ordering::Greater => b -= 1,
        }
    }
    false
}

/// Whether some three of the sorted numbers add up to `target`.
fn of_three(sorted: &[i128], target: i128) -> bool {
    (0..sorted.len().min(FIRST_OF_THREE)).any(|i| of_two(&sorted[i + 1..], target - sorted[i]))
}

/// Whether some four of them do, of the first and the last.
fn of_four(sorted: &[i128], target: i128) -> bool {
    let places: Vec<usize> = match sorted.len() {
        count if count <= OF_FOUR => (0..count).collect(),
        count => (0..OF_FOUR / 2).chain(count - OF_FOUR / 2..count).collect(),
    };
    let mut pairs: Vec<(i128, usize, usize)> = Vec::with_capacity(places.len() * places.len() / 2);
    for (i, a) in places.iter().enumerate() {
        pairs.extend(places[i + 1..].iter().map(|b| (sorted[*a] + sorted[*b], *a, *b)));
    }
    pairs.sort_unstable();
    let (mut low, mut high) = (0, pairs.len());
    while low < high {
        let (one, other) = (pairs[low], pairs[high - 1]);
        match (one.0 + other.0).cmp(&target) {
            std::cmp::Ordering::Less => low += 1,
            std::cmp::Ordering::Greater => high -= 1,
            std::cmp::Ordering::Equal => {
                let shares = one.1 == other.1 || one.1 == other.2 || one.2 == other.1;
                if !shares && one.2 != other.2 {
                    return true;
                }
                // Another pair of the same sum may do; with amounts that differ there is none.
                high -= 1;
            }
        }
    }
    false
}

/// Whether one or two of them do.
fn of_two(sorted: &[i128], target: i128) -> bool {
    if sorted.binary_search(&target).is_ok() {
        return true;
    }
    let (mut a, mut b) = (0, sorted.len());
    while a + 1 < b {
        match (sorted[a] + sorted[b - 1]).cmp(&target) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => a += 1,
            std::cmp::Ordering::Greater => b -= 1,
        }
    }
    false
}

/// Some numbers for the rough part, and a pool for what is missing then.
fn of_pool(sorted: &[i128], target: i128) -> bool {
    let every = sorted.len() / POOL;
    let is_pool = |i: usize| i.is_multiple_of(every) && i / every < POOL;
    let of = |wanted: bool| -> Vec<i128> {
        let places = (0..sorted.len()).filter(|i| is_pool(*i) == wanted);
        places.map(|i| sorted[i]).collect()
    };
    let (pool, rest) = (of(true), of(false));
    // Small and great ones in both halves.
    let half = |odd: usize| -> Vec<i128> {
        pool.iter().copied().enumerate().filter(|(i, _)| i % 2 == odd).map(|(_, n)| n).collect()
    };
    let (left, right) = (sums_of(&half(0)), sums_of(&half(1)));
    // Sums lie densest in the middle of what the pool can reach, so rests are tried from there.
    let middle: i128 = pool.iter().sum::<i128>() / 2;
    let mut rough = 0;
    let rests: Vec<i128> = std::iter::once(&0)
        .chain(&rest)
        .map(|number| {
            rough += number;
            target - rough
        })
        .take_while(|rest| *rest >= 0)
        .collect();
    let place = rests.partition_point(|rest| *rest > middle);
    let near = place.saturating_sub(RESTS_MAX / 2)..rests.len().min(place + RESTS_MAX / 2);
    let mut near: Vec<i128> = rests[near].to_vec();
    near.sort_unstable_by_key(|rest| (rest - middle).abs());
    near.into_iter().any(|rest| meets(&left, &right, rest))
}

/// The sums as ranges, up to the one that is asked for.
fn exactly(sorted: &[i128], target: i128, meter: &Meter) -> Sum {
    let mut sums = Ranges::only(0);
    let mut steps = 0;
    for number in sorted {
        steps += sums.count();
        if !sums.grow_up_to(*number, target) || steps > STEPS_MAX || meter.check_time().is_err() {
            return Sum::Open;
        }
    }
    if sums.contains(target) { Sum::Possible } else { Sum::Impossible }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Budget;

    fn by_force(deltas: &[i128], target: i128) -> bool {
        (0..1u64 << deltas.len()).any(|mask| {
            let chosen = (0..deltas.len()).filter(|i| mask >> i & 1 == 1);
            chosen.map(|i| deltas[i]).sum::<i128>() == target
        })
    }

    /// Small enough for the tests, the same everywhere.
    fn draw(seed: &mut u64, below: i128) -> i128 {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i128::from(*seed >> 33) % below
    }

    #[test]
    fn agrees_with_every_subset() {
        let meter = Budget::UNLIMITED.start();
        let mut seed = 1;
        for case in 0..400 {
            let (mut sums, mut deltas) = (Sums::default(), Vec::new());
            let scale = [3, 50, 1_000_000][case % 3];
            for _ in 0..draw(&mut seed, 12) {
                let delta = draw(&mut seed, 2 * scale) - scale / 2;
                deltas.push(delta);
                sums.push(delta, deltas.len() % 3 > 0);
            }
            let (low, high) = sums.bounds();
            for _ in 0..20 {
                let target = low - 2 + draw(&mut seed, high - low + 5);
                let wanted =
                    if by_force(&deltas, target) { Sum::Possible } else { Sum::Impossible };
                assert_eq!(sums.decide(target, &meter), wanted, "{deltas:?} {target}");
            }
        }
    }

    #[test]
    fn each_way_agrees_with_ranges() {
        let meter = Budget::UNLIMITED.start();
        let mut seed = 9;
        for _ in 0..40 {
            let count = 40 + draw(&mut seed, 60);
            let numbers: Vec<i128> = (0..count).map(|_| 3 + 2 * draw(&mut seed, 40)).collect();
            let mut sums = Sums::default();
            numbers.iter().for_each(|number| sums.push(*number, true));
            let mut sorted = numbers.clone();
            sorted.sort_unstable();
            for _ in 0..30 {
                let target = draw(&mut seed, sums.bounds().1);
                let exact = exactly(&sorted, target, &meter);
                assert_eq!(sums.decide(target, &meter), exact, "{target}");
                for found in [of_three, of_pool, of_four].map(|of| of(&sorted, target)) {
                    assert!(!found || exact == Sum::Possible, "{target}");
                }
            }
        }
    }

    #[test]
    fn great_numbers_are_decided() {
        let meter = Budget::UNLIMITED.start();
        let mut seed = 5;
        let mut sums = Sums::default();
        let numbers: Vec<i128> = (0..5_000).map(|_| 10_000 + draw(&mut seed, 1_000_000)).collect();
        numbers.iter().for_each(|number| sums.push(*number, true));
        let some: i128 = numbers.iter().step_by(3).sum();
        assert_eq!(sums.decide(some, &meter), Sum::Possible);
        let but_three = sums.bounds().1 - numbers[7] - numbers[900] - numbers[4_000];
        assert_eq!(sums.decide(but_three, &meter), Sum::Possible);
        assert_eq!(sums.decide(5_000, &meter), Sum::Impossible);
        assert_eq!(sums.decide(sums.bounds().1 - 9_999, &meter), Sum::Impossible);
    }
}
