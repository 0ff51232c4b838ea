//! Sets of configurations in which no configuration makes another one superfluous.
//!
//! A configuration is what may be the case at one moment of the history: the object's state, and for
//! each open call (a bit for each, see `search`) whether it *must still* take effect before it
//! returns (`need`) and whether it *may still* take effect (`avail`). One configuration covers
//! another if the states are equal, it needs no more, and has no less available: whatever the other
//! one can do from here on, it can do as well. Covered ones are dropped, which is exact.

/// A configuration for at most `64 * W` open calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config<const W: usize> {
    /// Number of the object's state.
    pub state: u32,
    /// Calls that must still take effect.
    pub need: [u64; W],
    /// Calls that may still take effect and change something.
    pub avail: [u64; W],
}

/// Whether bit `slot` is set.
#[inline]
pub fn has<const W: usize>(bits: &[u64; W], slot: u32) -> bool {
    bits[slot as usize / 64] >> (slot % 64) & 1 == 1
}

/// Sets bit `slot`.
#[inline]
pub fn set<const W: usize>(bits: &mut [u64; W], slot: u32) {
    bits[slot as usize / 64] |= 1 << (slot % 64);
}

/// Clears bit `slot`.
#[inline]
pub fn clear<const W: usize>(bits: &mut [u64; W], slot: u32) {
    bits[slot as usize / 64] &= !(1 << (slot % 64));
}

/// Clears the bits of `mask`.
#[inline]
pub fn clear_all<const W: usize>(bits: &mut [u64; W], mask: &[u64; W]) {
    for (word, m) in bits.iter_mut().zip(mask) {
        *word &= !m;
    }
}

#[inline]
fn subset<const W: usize>(a: &[u64; W], b: &[u64; W]) -> bool {
    a.iter().zip(b).all(|(a, b)| a & !b == 0)
}

fn count<const W: usize>(bits: &[u64; W]) -> i64 {
    bits.iter().map(|word| i64::from(word.count_ones())).sum()
}

impl<const W: usize> Config<W> {
    /// Whether whatever `other` can do, this one can do as well.
    #[inline]
    pub fn covers(&self, other: &Config<W>) -> bool {
        self.state == other.state
            && subset(&self.need, &other.need)
            && subset(&other.avail, &self.avail)
    }
}

const NONE: u32 = u32::MAX;

/// How many configurations are compared one by one before they are filed by state.
const FILED_FROM: usize = 24;

/// Configurations of which none covers another.
#[derive(Debug, Clone, Default)]
pub struct Frontier<const W: usize> {
    configs: Vec<Config<W>>,
    /// The next one with the same state.
    next: Vec<u32>,
    /// The first one of each state, once there are many.
    head: std::collections::HashMap<u32, u32, rustc_hash::FxBuildHasher>,
    /// Dropped ones are marked and left in place until the set is compacted.
    dropped: Vec<bool>,
    dropped_count: usize,
    filed: bool,
}

impl<const W: usize> Frontier<W> {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.configs.clear();
        self.next.clear();
        self.dropped.clear();
        self.dropped_count = 0;
        if self.filed {
            self.head.clear();
            self.filed = false;
        }
    }

    /// How many configurations.
    pub fn len(&self) -> usize {
        self.configs.len() - self.dropped_count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many places there are, those of dropped ones included; see [`Frontier::at`].
    pub fn places(&self) -> usize {
        self.configs.len()
    }

    /// The configuration at a place, unless it was dropped. Places stay as they are while
    /// configurations are added.
    pub fn at(&self, place: usize) -> Option<Config<W>> {
        (!self.dropped[place]).then(|| self.configs[place])
    }

    /// All configurations.
    pub fn iter(&self) -> impl Iterator<Item = &Config<W>> {
        self.configs.iter().zip(&self.dropped).filter(|(_, dropped)| !**dropped).map(|(c, _)| c)
    }

    /// Changes every configuration in place. The change must keep them from covering each other.
    pub fn for_each_mut(&mut self, change: impl FnMut(&mut Config<W>)) {
        self.configs.iter_mut().for_each(change);
    }

    /// Adds one unless it is covered, and drops those that it covers.
    #[inline]
    pub fn add(&mut self, config: Config<W>) -> bool {
        if self.filed { self.add_filed(config) } else { self.add_listed(config) }
    }

    fn add_listed(&mut self, config: Config<W>) -> bool {
        for place in 0..self.configs.len() {
            let other = &self.configs[place];
            if other.state != config.state || self.dropped[place] {
                continue;
            }
            if other.covers(&config) {
                return false;
            }
            if config.covers(other) {
                self.drop_at(place);
            }
        }
        self.push(config, NONE);
        if self.configs.len() > FILED_FROM {
            self.file();
        }
        true
    }

    fn add_filed(&mut self, config: Config<W>) -> bool {
        let first = self.head.get(&config.state).copied().unwrap_or(NONE);
        let mut place = first;
        while place != NONE {
            let i = place as usize;
            if !self.dropped[i] {
                if self.configs[i].covers(&config) {
                    return false;
                }
                if config.covers(&self.configs[i]) {
                    self.drop_at(i);
                }
            }
            place = self.next[i];
        }
        self.head.insert(config.state, self.configs.len() as u32);
        self.push(config, first);
        true
    }

    fn push(&mut self, config: Config<W>, next: u32) {
        self.configs.push(config);
        self.next.push(next);
        self.dropped.push(false);
    }

    fn drop_at(&mut self, place: usize) {
        self.dropped[place] = true;
        self.dropped_count += 1;
    }

    fn file(&mut self) {
        self.filed = true;
        for (place, config) in self.configs.iter().enumerate() {
            let before = self.head.insert(config.state, place as u32);
            self.next[place] = before.unwrap_or(NONE);
        }
    }

    /// Whether one of them covers `config`.
    pub fn covered(&self, config: &Config<W>) -> bool {
        if !self.filed {
            return self.iter().any(|other| other.covers(config));
        }
        let mut place = self.head.get(&config.state).copied().unwrap_or(NONE);
        while place != NONE {
            let i = place as usize;
            if !self.dropped[i] && self.configs[i].covers(config) {
                return true;
            }
            place = self.next[i];
        }
        false
    }

    /// Keeps the `keep` most promising ones: those that need least and have most available.
    pub fn truncate(&mut self, keep: usize) {
        let mut all: Vec<Config<W>> = self.iter().copied().collect();
        all.sort_by_key(|config| 2 * count(&config.need) - count(&config.avail));
        all.truncate(keep);
        self.clear();
        for config in all {
            self.add(config);
        }
    }

    /// Bytes that `count` configurations take.
    pub fn bytes_of(count: usize) -> u64 {
        (count * (size_of::<Config<W>>() + 16)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(state: u32, need: u64, avail: u64) -> Config<1> {
        Config { state, need: [need], avail: [avail] }
    }

    #[test]
    fn keeps_only_what_nothing_covers() {
        let mut frontier = Frontier::<1>::default();
        assert!(frontier.add(config(0, 0b11, 0b01)));
        assert!(!frontier.add(config(0, 0b11, 0b01)), "it is there already");
        assert!(!frontier.add(config(0, 0b11, 0b00)), "less available");
        assert!(frontier.add(config(1, 0b11, 0b00)), "another state");
        assert!(frontier.add(config(0, 0b01, 0b01)), "needs less, so it replaces the first");
        assert_eq!(frontier.len(), 2);
        assert!(frontier.covered(&config(0, 0b11, 0b01)));
    }

    #[test]
    fn listed_and_filed_agree() {
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        };
        let mut frontier = Frontier::<1>::default();
        let mut all = Vec::new();
        for _ in 0..2_000 {
            let new = config((random() % 5) as u32, random() % 64, random() % 64);
            frontier.add(new);
            all.push(new);
        }
        let minimal: Vec<_> = all
            .iter()
            .enumerate()
            .filter(|(i, c)| {
                !all.iter().enumerate().any(|(j, o)| o.covers(c) && (!c.covers(o) || j < *i))
            })
            .map(|(_, c)| *c)
            .collect();
        assert_eq!(frontier.len(), minimal.len());
        assert!(minimal.iter().all(|c| frontier.covered(c)));
    }
}
