//! From what was found to a verdict: what is allowed, what is shown, what else is told.

use std::collections::{BTreeMap, BTreeSet};

use fuzz_dist_core::{Anomaly, CheckResult, OpType, Value, Verdict};
use rustc_hash::FxHashSet;
use serde_json::{Map, Value as Json, json};

use crate::elle::graph::NONE;
use crate::kafka::cases::{Case, Cases};
use crate::kafka::graph::{self, Found};
use crate::kafka::lag::Lag;
use crate::kafka::messages::UNSEEN;
use crate::kafka::ops::{Log, Step};
use crate::kafka::positions::{INT_SEND_SKIP, NONMONOTONIC_POLL, POLL_SKIP};
use crate::kafka::versions::Versions;
use crate::kafka::{INFO, Kafka, evidence};

/// How many anomalies are shown in all, unless all are asked for.
const SHOWN_MAX: usize = 24;
/// How many unseen messages of a key are listed, unless all are asked for.
const UNSEEN_MAX: usize = 32;

/// Everything that was found.
pub struct Told<'a> {
    pub log: &'a Log<'a>,
    pub versions: &'a Versions,
    pub cases: Cases,
    pub found: Option<Found>,
    /// Messages acknowledged and not polled.
    pub unseen: Vec<u32>,
    pub worst: Option<Lag>,
}

impl Told<'_> {
    /// The verdict.
    pub fn judge(self, kafka: &Kafka, steps: &[Step]) -> CheckResult {
        let subscribes = self.log.assignments.iter().any(|change| change.is_subscribe);
        let is_subscribe = kafka.subscribe.unwrap_or(subscribes);
        let counts = self.kind_counts();
        let is_allowed = |name: &str| {
            name == INT_SEND_SKIP
                || name.starts_with("G0")
                || (is_subscribe && [POLL_SKIP, NONMONOTONIC_POLL].contains(&name))
                || (kafka.kinds.ww && name.starts_with("G1c"))
        };
        let found: BTreeSet<&str> = counts.keys().map(String::as_str).collect();
        let bad: BTreeSet<&str> = found.iter().copied().filter(|name| !is_allowed(name)).collect();
        let lack = self.lack(kafka);
        let verdict = match (bad.is_empty(), lack) {
            (false, _) => Verdict::Invalid,
            (true, Some(_)) => Verdict::Unknown,
            (true, None) => Verdict::Valid,
        };
        let listed = |names: &mut dyn Iterator<Item = &str>| {
            names.map(|name| format!("{name} ({})", counts[name])).collect::<Vec<_>>().join(", ")
        };
        let tolerated = listed(&mut found.difference(&bad).copied());
        let (messages, keys) = (self.log.messages.len(), self.log.key_count());
        let mut reason = match (verdict, lack) {
            (Verdict::Invalid, _) => format!("found {}", listed(&mut bad.iter().copied())),
            (_, Some(lack)) => format!("nothing to judge by: {lack}"),
            _ => format!("{messages} messages of {keys} keys were sent and polled as promised"),
        };
        if !tolerated.is_empty() {
            reason.push_str(&format!("; allowed: {tolerated}"));
        }
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        result.details = self.details(kafka, &bad, &found, steps, is_subscribe);
        result.anomalies = self.anomalies(kafka, &bad);
        result.counts = self.counts(counts);
        result
    }

    /// How many of each name.
    fn kind_counts(&self) -> BTreeMap<String, u64> {
        let mut counts: BTreeMap<String, u64> =
            self.cases.kinds.iter().map(|(name, kind)| ((*name).to_owned(), kind.count)).collect();
        for (class, found) in self.found.iter().flat_map(|found| &found.cycles.classes) {
            *counts.entry(graph::name(class)).or_default() += found.count;
        }
        counts
    }

    /// Why a history without anomalies shows nothing.
    fn lack(&self, kafka: &Kafka) -> Option<&'static str> {
        let log = self.log;
        if log.txns.is_empty() {
            return Some("there is no :send, :poll or :txn");
        }
        if !(0..log.txns.len() as u32).any(|txn| log.outcome(txn) == OpType::Ok) {
            return Some("no operation succeeded");
        }
        if !log.messages.iter().any(|message| message.is_read) {
            return Some("no poll returned any message");
        }
        let found = self.found.as_ref();
        let is_related = found.is_none_or(|found| found.is_related);
        (kafka.is_txn && !is_related).then_some("no operation comes before another one")
    }

    fn counts(&self, kinds: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let mut counts = kinds;
        let dependencies = self.found.as_ref().map_or(0, |found| found.edge_count);
        for (name, count) in [
            ("operations", self.log.txns.len() as u64),
            ("messages", self.log.messages.len() as u64),
            ("messages-polled", self.log.polled.len() as u64),
            ("keys", self.log.key_count() as u64),
            ("dependencies", dependencies),
        ] {
            counts.insert(name.to_owned(), count);
        }
        counts
    }

    /// Evidence for what is not allowed: one of each name first, then more of them.
    fn anomalies(&self, kafka: &Kafka, bad: &BTreeSet<&str>) -> Vec<Anomaly> {
        let limit = if kafka.all_errors { usize::MAX } else { SHOWN_MAX };
        let mut cycles: BTreeMap<String, Vec<Anomaly>> = BTreeMap::new();
        for (class, found) in self.found.iter().flat_map(|found| &found.cycles.classes) {
            let name = graph::name(class);
            let told = found
                .shown
                .iter()
                .map(|cycle| graph::evidence(self.log, self.versions, &name, cycle).0);
            let told: Vec<Anomaly> = told.collect();
            cycles.entry(name).or_default().extend(told);
        }
        let mut of_case: Vec<(&str, &Case)> = Vec::new();
        let mut anomalies: Vec<Anomaly> = Vec::new();
        for round in 0.. {
            let before = of_case.len() + anomalies.len();
            for name in bad {
                let kind = self.cases.kinds.get(name);
                let case = kind.and_then(|kind| kind.kept.get(round));
                let cycle = cycles.get(*name).and_then(|cycles| cycles.get(round));
                if of_case.len() + anomalies.len() < limit {
                    of_case.extend(case.map(|case| (*name, case)));
                    anomalies.extend(cycle.cloned());
                }
            }
            if of_case.len() + anomalies.len() == before {
                break;
            }
        }
        let cases: Vec<&Case> = of_case.iter().map(|(_, case)| *case).collect();
        // A table for each of very many would tell nobody anything.
        let tables =
            evidence::tables(self.log, self.versions, &cases[..cases.len().min(SHOWN_MAX)]);
        let told = of_case.iter().enumerate().map(|(i, (name, case))| {
            let mut anomaly = evidence::anomaly(self.log, self.versions, name, case);
            anomaly.text.extend(tables.get(i).map(String::as_str));
            anomaly
        });
        told.chain(anomalies).collect()
    }

    fn details(
        &self,
        kafka: &Kafka,
        bad: &BTreeSet<&str>,
        found: &BTreeSet<&str>,
        steps: &[Step],
        is_subscribe: bool,
    ) -> Json {
        let mut errors = Map::new();
        for (name, kind) in &self.cases.kinds {
            let told = kind.kept.iter();
            let told: Vec<Json> =
                told.map(|case| evidence::data(self.log, self.versions, name, case)).collect();
            errors.insert((*name).to_owned(), json!({ "count": kind.count, "errs": told }));
        }
        for (class, cycles) in self.found.iter().flat_map(|found| &found.cycles.classes) {
            let name = graph::name(class);
            let told = cycles
                .shown
                .iter()
                .map(|cycle| graph::evidence(self.log, self.versions, &name, cycle).1);
            let told: Vec<Json> = told.collect();
            errors.insert(name, json!({ "count": cycles.count, "errs": told }));
        }
        if !self.unseen.is_empty() {
            errors.insert(UNSEEN.to_owned(), self.unseen_by_key(kafka));
        }
        let mut details = json!({
            "bad-error-types": bad,
            "error-types": found,
            "info-txn-causes": self.info_causes(),
            "worst-realtime-lag": evidence::worst_lag(self.log, self.worst),
            "errors": errors,
        });
        if is_subscribe {
            details["consume-counts"] = self.consume_counts(steps);
        }
        details
    }

    /// Numbers of unseen messages, and some of them, by key.
    fn unseen_by_key(&self, kafka: &Kafka) -> Json {
        let limit = if kafka.all_errors { usize::MAX } else { UNSEEN_MAX };
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut messages: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for message in &self.unseen {
            let key = self.log.key(self.log.key_of(*message)).to_string();
            *counts.entry(key.clone()).or_default() += 1;
            let messages = messages.entry(key).or_default();
            if messages.len() < limit {
                messages.push(self.log.value(*message));
            }
        }
        json!({ "count": self.unseen.len(), "unseen": counts, "messages": messages })
    }

    /// Why operations ended with info.
    fn info_causes(&self) -> Vec<String> {
        const CAUSES_MAX: usize = 32;
        let (mut seen, mut causes) = (FxHashSet::<&Value>::default(), Vec::new());
        let infos = self.log.txns.iter().filter(|txn| txn.outcome == OpType::Info);
        for txn in infos.filter(|txn| txn.complete != NONE) {
            let error = &self.log.history.ops()[txn.complete as usize].error;
            if causes.len() < CAUSES_MAX && seen.insert(error) {
                causes.push(error.to_string());
            }
        }
        causes
    }

    /// How often each process consumed the same message while subscribed, by operations that succeeded.
    fn consume_counts(&self, steps: &[Step]) -> Json {
        const SHOWN_MAX: usize = 32;
        let mut subscribed: FxHashSet<i64> = FxHashSet::default();
        let mut consumed: Vec<(i64, u32)> = Vec::new();
        for step in steps {
            match *step {
                Step::Assignment(number) => {
                    let change = &self.log.assignments[number as usize];
                    if change.is_subscribe && change.outcome == OpType::Ok {
                        subscribed.insert(change.process);
                    }
                }
                Step::Txn(txn) => {
                    let op = &self.log.txns[txn as usize];
                    if op.outcome == OpType::Ok && subscribed.contains(&op.process) {
                        let polled = self.log.polled_by(txn).iter();
                        consumed.extend(polled.map(|place| (op.process, place.message)));
                    }
                }
            }
        }
        consumed.sort_unstable();
        let mut distribution: BTreeMap<usize, u64> = BTreeMap::new();
        let mut duplicates: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        let mut shown = 0;
        for same in consumed.chunk_by(|a, b| a == b) {
            *distribution.entry(same.len()).or_default() += 1;
            if same.len() > 1 && shown < SHOWN_MAX {
                shown += 1;
                let key = self.log.key(self.log.key_of(same[0].1)).to_string();
                duplicates.entry(key).or_default().insert(self.log.value(same[0].1), same.len());
            }
        }
        json!({ "distribution": distribution, "dup-counts": duplicates })
    }
}
