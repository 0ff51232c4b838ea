//! From what was found to a verdict: what is forbidden, what is ruled out, what is shown.

use std::collections::BTreeMap;

use fuzz_dist_core::{Anomaly, CheckResult, Verdict};
use serde_json::json;

use crate::Checker;
use crate::elle::cycles::Cycles;
use crate::elle::findings::{Findings, in_rounds};
use crate::elle::models::{Boundary, Names, friendly};
use crate::elle::txns::{Dialect, Txns};
use crate::elle::{Elle, explain};

/// Not an anomaly, but nothing to judge by.
const EMPTY: &str = "empty-transaction-graph";
/// How many anomalies are shown in all.
const SHOWN_MAX: usize = 24;

/// Everything found in a history.
pub struct Inferred {
    pub findings: Findings,
    pub cycles: Cycles,
    /// Models that contradict what they imply.
    pub ruled_out: Names,
    pub evidence: Evidence,
    pub edge_count: u64,
    pub txn_count: u64,
    pub ok_count: u64,
    pub key_count: u64,
    /// Reads in transactions that succeeded.
    pub read_count: u64,
}

/// Cycles that are shown, by name.
pub struct Evidence(BTreeMap<&'static str, Vec<Anomaly>>);

impl Evidence {
    /// Explains the cycles that are kept.
    pub fn new(elle: &Elle, txns: &Txns, cycles: &Cycles) -> Evidence {
        let of_class = |name: &'static str| {
            let cycles = cycles.classes[name].shown.iter();
            let told = cycles.map(|cycle| explain::anomaly(txns, elle.dialect, name, cycle));
            (name, told.collect())
        };
        Evidence(cycles.classes.keys().map(|name| of_class(name)).collect())
    }
}

impl Inferred {
    /// The verdict.
    pub fn judge(mut self, elle: &Elle) -> CheckResult {
        self.drop_doubtful(elle);
        let found: Names =
            self.findings.names().chain(self.cycles.classes.keys().copied()).collect();
        let bad: Names = found.intersection(&elle.forbidden).copied().collect();
        let is_empty = self.findings.has(EMPTY);
        let verdict = match (bad.is_empty(), is_empty) {
            (false, _) => Verdict::Invalid,
            (true, true) => Verdict::Unknown,
            (true, false) => Verdict::Valid,
        };
        let mut told = bad.clone();
        if is_empty {
            told.insert(EMPTY);
        }
        let boundary = match told.is_empty() {
            true => Boundary::default(),
            false => elle.lattice.boundary(found.iter().copied(), &self.ruled_out),
        };
        let mut result =
            CheckResult::new(elle.name(), verdict, self.reason(elle, verdict, &bad, &boundary));
        result.counts = self.counts();
        let tolerated: Vec<&str> =
            found.iter().copied().filter(|name| !bad.contains(name) && *name != EMPTY).collect();
        result.details = json!({
            "consistency-models": elle.models.iter().map(|model| friendly(model)).collect::<Names>(),
            "anomaly-types": told,
            "not": boundary.not,
            "also-not": boundary.also_not,
            "tolerated-anomaly-types": tolerated,
        });
        result.anomalies = self.anomalies(&bad);
        result
    }

    /// Some cycles could go by two names. As long as neither the verdict nor what is ruled out would be another,
    /// they go by Elle's: a cycle of data is not told again as one in time, nor a detour of a worse one, and in
    /// registers a write that was read counts as a read.
    fn drop_doubtful(&mut self, elle: &Elle) {
        let names: Vec<&'static str> = self.cycles.classes.keys().copied().collect();
        for name in names {
            let shown = &self.cycles.classes[name].shown;
            let is_timed = name.ends_with("-process") || name.ends_with("-realtime");
            let other_name = shown.first().map(|cycle| cycle.name_by_reads).filter(|other| {
                elle.dialect == Dialect::RwRegister
                    && *other != name
                    && shown.iter().all(|cycle| cycle.name_by_reads == *other)
            });
            let is_data =
                is_timed && shown.iter().all(|cycle| cycle.time_adds_nothing || cycle.is_detour);
            if other_name.is_none() && !is_data {
                continue;
            }
            let others = self.findings.names().chain(self.cycles.classes.keys().copied());
            let others: Names = others.filter(|other| *other != name).chain(other_name).collect();
            if elle.forbidden.contains(name) && others.is_disjoint(&elle.forbidden) {
                continue;
            }
            let without = elle.lattice.impossible(others);
            if !elle.lattice.impossible([name]).is_subset(&without) {
                continue;
            }
            let class = self.cycles.classes.remove(name).unwrap_or_default();
            let told = self.evidence.0.remove(name).unwrap_or_default();
            if let Some(other) = other_name.filter(|_| !is_data) {
                let renamed =
                    told.into_iter().map(|anomaly| Anomaly { name: other.to_owned(), ..anomaly });
                self.evidence.0.entry(other).or_default().extend(renamed);
                self.cycles.classes.entry(other).or_default().count += class.count;
            }
        }
    }

    fn count_of(&self, name: &str) -> u64 {
        let findings = self.findings.0.get(name).map_or(0, |finding| finding.count);
        findings + self.cycles.classes.get(name).map_or(0, |class| class.count)
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts: BTreeMap<String, u64> = [
            ("transactions", self.txn_count),
            ("transactions-ok", self.ok_count),
            ("keys", self.key_count),
            ("reads", self.read_count),
            ("dependencies", self.edge_count),
            ("components-with-cycles", self.cycles.component_count),
            ("largest-component", self.cycles.largest),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into();
        for name in self.findings.names().chain(self.cycles.classes.keys().copied()) {
            if name != EMPTY {
                counts.insert(name.to_owned(), self.count_of(name));
            }
        }
        counts
    }

    fn reason(&self, elle: &Elle, verdict: Verdict, bad: &Names, boundary: &Boundary) -> String {
        let list = |names: &Names| names.iter().copied().collect::<Vec<_>>().join(", ");
        match verdict {
            Verdict::Invalid if boundary.not.is_empty() => format!("found {}", list(bad)),
            Verdict::Invalid => {
                format!("found {}; so this is not {}", list(bad), list(&boundary.not))
            }
            Verdict::Unknown => format!(
                "nothing to judge by: no transaction of {} depends on another one",
                self.txn_count
            ),
            Verdict::Valid => {
                let count = self.txn_count;
                let dependencies = self.edge_count;
                let what = match elle.models.is_empty() {
                    true => "none of the given anomalies".to_owned(),
                    false => format!("nothing against {}", elle.models_named()),
                };
                format!("{count} transactions with {dependencies} dependencies show {what}")
            }
        }
    }

    /// Evidence: one of each name first, then more of them.
    fn anomalies(mut self, bad: &Names) -> Vec<Anomaly> {
        let mut by_name: Vec<Vec<Anomaly>> = Vec::new();
        for name in bad {
            let mut all: Vec<Anomaly> = Vec::new();
            if let Some(finding) = self.findings.0.remove(name) {
                all.extend(finding.shown);
            }
            if let Some(cycles) = self.evidence.0.remove(name) {
                all.extend(cycles);
            }
            by_name.push(all);
        }
        in_rounds(by_name, SHOWN_MAX)
    }
}
