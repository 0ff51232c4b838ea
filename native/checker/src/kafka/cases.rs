//! What was found: cases by the name of their anomaly, counted, the worst of each kept.

use std::collections::BTreeMap;

/// One case in numbers; words are made of it only when it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Case {
    /// How bad it is among those of its name; the worst are shown first.
    pub weight: i64,
    /// The key.
    pub key: u32,
    /// The messages that it is about.
    pub messages: Vec<u32>,
    /// The operations that show it.
    pub txns: Vec<u32>,
    /// An offset, a distance, an index or a duration, as the anomaly has it.
    pub numbers: Vec<i64>,
}

/// All of one name.
#[derive(Debug, Default)]
pub struct Kind {
    /// How many.
    pub count: u64,
    /// Some of them, the worst first once sorted.
    pub kept: Vec<Case>,
}

/// Cases by name.
#[derive(Debug)]
pub struct Cases {
    /// What was found.
    pub kinds: BTreeMap<&'static str, Kind>,
    limit: usize,
}

impl Cases {
    /// Keeps so many of each name.
    pub fn new(limit: usize) -> Cases {
        Cases { kinds: BTreeMap::new(), limit }
    }

    /// Counts one; it is only made if there is room for it.
    pub fn add(&mut self, name: &'static str, weight: i64, case: impl FnOnce() -> Case) {
        let kind = self.kinds.entry(name).or_default();
        kind.count += 1;
        let room = self.limit.saturating_mul(2);
        if kind.kept.len() >= room {
            sort(kind);
            kind.kept.truncate(self.limit);
        }
        let is_full = kind.kept.len() >= self.limit;
        if !is_full || kind.kept.iter().take(self.limit).any(|kept| kept.weight < weight) {
            kind.kept.push(Case { weight, ..case() });
        }
    }

    /// Puts the worst first and drops what is too much.
    pub fn finish(&mut self) {
        for kind in self.kinds.values_mut() {
            sort(kind);
            kind.kept.truncate(self.limit);
        }
    }
}

fn sort(kind: &mut Kind) {
    kind.kept.sort_by_key(|case| std::cmp::Reverse(case.weight));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_are_kept_and_all_are_counted() {
        let mut cases = Cases::new(3);
        for weight in [5, 1, 9, 2, 8, 7, 3, 9, 0, 6] {
            cases.add("poll-skip", weight, Case::default);
        }
        cases.finish();
        let kind = &cases.kinds["poll-skip"];
        let weights: Vec<i64> = kind.kept.iter().map(|case| case.weight).collect();
        assert_eq!((kind.count, weights), (10, vec![9, 9, 8]));
    }
}
