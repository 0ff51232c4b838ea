//! What was found: anomalies by name, counted, with evidence for the first few of each.

use std::collections::BTreeMap;

use fuzz_dist_core::Anomaly;

/// How many of a name are shown.
pub const SHOWN_MAX: usize = 4;

/// All of one name.
#[derive(Debug, Default)]
pub struct Finding {
    /// How many.
    pub count: u64,
    /// The first few.
    pub shown: Vec<Anomaly>,
}

/// Anomalies by name.
#[derive(Debug, Default)]
pub struct Findings(pub BTreeMap<&'static str, Finding>);

impl Findings {
    /// Counts one; its evidence is made only if it is going to be shown.
    pub fn add(&mut self, name: &'static str, evidence: impl FnOnce() -> Anomaly) {
        let finding = self.0.entry(name).or_default();
        finding.count += 1;
        if finding.shown.len() < SHOWN_MAX {
            finding.shown.push(Anomaly { name: name.to_owned(), ..evidence() });
        }
    }

    /// Adds those of another part of the history.
    pub fn merge(&mut self, other: Findings) {
        for (name, mut finding) in other.0 {
            let own = self.0.entry(name).or_default();
            own.count += finding.count;
            own.shown.append(&mut finding.shown);
            own.shown.truncate(SHOWN_MAX);
        }
    }

    /// Whether there is one of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.keys().copied()
    }
}

/// One anomaly of each list, the smallest evidence first since it tells most; then another of each, until there are
/// so many or a round more.
pub fn in_rounds(by_name: Vec<Vec<Anomaly>>, count_min: usize) -> Vec<Anomaly> {
    let mut by_name: Vec<_> = by_name.into_iter().map(Vec::into_iter).collect();
    by_name.sort_by_key(|all| all.as_slice().first().map_or(0, |first| first.ops.len()));
    let mut anomalies = Vec::new();
    while anomalies.len() < count_min {
        let round: Vec<Anomaly> = by_name.iter_mut().filter_map(Iterator::next).collect();
        if round.is_empty() {
            break;
        }
        anomalies.extend(round);
    }
    anomalies
}
