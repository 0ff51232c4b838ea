//! Histories of registers: levels and session guarantees, from inference to verdict.

use std::collections::BTreeMap;

use fuzz_dist_core::{Anomaly, CheckResult, History, OpType, Verdict};
use serde_json::json;

use crate::budget::{Exhausted, Meter};
use crate::causal::evidence::{Teller, Visibility, inferred_pairs};
use crate::causal::graph::Graph;
use crate::causal::inferred::{Inferred, StaleInitial};
use crate::causal::reads::{self, Ambiguity, Rules};
use crate::causal::sessions::{self, Guarantees, Wanted};
use crate::causal::shapes::NotRegisters;
use crate::causal::txns::{INITIAL, Txns};
use crate::causal::{INFO, happens_before, levels};
use crate::elle::findings::Findings;

/// A level of isolation, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only what no level allows.
    None,
    /// Read Committed.
    ReadCommitted,
    /// Read Atomic.
    ReadAtomic,
    /// Causal Consistency.
    Causal,
}

impl Level {
    /// By strength.
    pub const NAMES: [&'static str; 4] = ["none", "read-committed", "read-atomic", "causal"];
    const ALL: [Level; 4] = [Level::None, Level::ReadCommitted, Level::ReadAtomic, Level::Causal];

    /// The level of a name.
    pub fn of(name: &str) -> Level {
        Level::ALL.into_iter().find(|level| level.name() == name).unwrap_or(Level::Causal)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Level::NAMES[self as usize]
    }

    /// What a history that has the next weaker level but not this one shows.
    fn anomaly(self) -> &'static str {
        match self {
            Level::None => CYCLIC,
            Level::ReadCommitted => "non-monotonic-read",
            Level::ReadAtomic => "fractured-read",
            Level::Causal => "causality-violation",
        }
    }

    fn visibility(self) -> Visibility {
        match self {
            Level::None => Visibility::Order,
            Level::ReadCommitted => Visibility::Committed,
            Level::ReadAtomic => Visibility::Atomic,
            Level::Causal => Visibility::Causal,
        }
    }
}

/// Session order and reads-from contradict each other.
const CYCLIC: &str = "cyclic-causality";
/// How many cycles are told for each name.
const CYCLES_TOLD: usize = 4;
/// How many anomalies are told in all.
const SHOWN_MAX: usize = 24;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The history is of something else.
    #[error("not checked: {0}")]
    NotRegisters(#[from] NotRegisters),
    /// The budget is used up.
    #[error("undecided: {0}; a larger budget would help")]
    Exhausted(#[from] Exhausted),
}

/// What is asked of a history of registers.
#[derive(Debug, Clone)]
pub struct Question {
    /// The level.
    pub level: Level,
    /// The guarantees.
    pub guarantees: Guarantees,
    /// How reads are meant.
    pub rules: Rules,
}

/// What was found so far.
struct Case<'m> {
    findings: Findings,
    /// The strongest level that holds, as far as it is known.
    holds: Option<Level>,
    broken: Vec<&'static str>,
    inferred_count: u64,
    meter: &'m Meter,
}

/// Cycles of a graph, and reads of the initial state that missed a write.
#[derive(Debug)]
pub struct Broken {
    cycles: Vec<Vec<u32>>,
    count: u64,
    stale: Vec<StaleInitial>,
}

/// Decides it.
pub fn check(question: &Question, history: &History, meter: &Meter) -> Result<CheckResult, Stop> {
    let mut txns = Txns::new(history)?;
    meter.check_time()?;
    let mut case = Case {
        findings: Findings::default(),
        holds: None,
        broken: Vec::new(),
        inferred_count: 0,
        meter,
    };
    let ambiguity = reads::resolve(&mut txns, &question.rules, &mut case.findings, meter)?;
    txns.arrange();
    let order = Graph::new(&txns, txns.count(), &[]).sorted();
    match order {
        Some(order) => {
            case.holds = Some(Level::None);
            case.level(question.level, &mut txns, &order)?;
            drop(order);
            let implied = case.holds == Some(Level::Causal);
            if question.guarantees != Guarantees::NONE && !implied {
                case.guarantees(question.guarantees, &txns)?;
            }
        }
        None => {
            let inferred = Inferred::default();
            let broken = broken(&txns, txns.count(), &inferred);
            case.broken.push(CYCLIC);
            let teller = Teller::new(&txns, Visibility::Order);
            tell(&mut case.findings, CYCLIC, &teller, &broken);
        }
    }
    Ok(case.judge(question, &txns, &ambiguity))
}

/// Whether what is implied has a cycle.
pub fn is_broken(txns: &Txns, vertex_count: u32, inferred: &Inferred) -> bool {
    !inferred.stale.is_empty()
        || (!inferred.edges.is_empty()
            && Graph::new(txns, vertex_count, &inferred.edges).sorted().is_none())
}

/// The cycles, and how many there are.
pub fn broken(txns: &Txns, vertex_count: u32, inferred: &Inferred) -> Broken {
    let graph = Graph::new(txns, vertex_count, &inferred.edges);
    let mut components = graph.components();
    components.sort_by_key(|component| (component.len(), component.iter().min().copied()));
    let cycles: Vec<Vec<u32>> =
        components.iter().take(CYCLES_TOLD).map(|component| graph.short_cycle(component)).collect();
    let stale = inferred.stale.iter().take(CYCLES_TOLD).copied().collect();
    Broken { cycles, count: components.len() as u64 + inferred.stale_count, stale }
}

/// Adds what is broken to the findings, in words.
pub fn tell(findings: &mut Findings, name: &'static str, teller: &Teller, broken: &Broken) {
    for stale in &broken.stale {
        findings.add(name, || teller.stale(name, stale));
    }
    for cycle in &broken.cycles {
        findings.add(name, || teller.cycle(name, cycle));
    }
    if let Some(finding) = findings.0.get_mut(name) {
        finding.count = broken.count;
    }
}

impl Case<'_> {
    fn infer(&self, level: Level, txns: &mut Txns, order: &[u32]) -> Result<Inferred, Exhausted> {
        match level {
            Level::None => Ok(Inferred::default()),
            Level::ReadCommitted => levels::read_committed(txns, self.meter),
            Level::ReadAtomic => levels::read_atomic(txns, self.meter),
            Level::Causal => happens_before::infer(txns, order, self.meter),
        }
    }

    /// Decides a level; if it does not hold, which weaker one does, and tells what is against the next.
    fn level(&mut self, asked: Level, txns: &mut Txns, order: &[u32]) -> Result<(), Exhausted> {
        let inferred = self.infer(asked, txns, order)?;
        self.inferred_count = inferred.edges.len() as u64;
        if !is_broken(txns, txns.count(), &inferred) {
            self.holds = Some(asked);
            return Ok(());
        }
        self.broken.push(asked.name());
        for level in Level::ALL.into_iter().filter(|level| (Level::None..asked).contains(level)) {
            let weaker = self.infer(level, txns, order)?;
            if is_broken(txns, txns.count(), &weaker) {
                self.tell_level(level, txns, &weaker);
                return Ok(());
            }
            self.holds = Some(level);
        }
        self.tell_level(asked, txns, &inferred);
        Ok(())
    }

    fn tell_level(&mut self, level: Level, txns: &Txns, inferred: &Inferred) {
        let broken = broken(txns, txns.count(), inferred);
        let teller = Teller::new(txns, level.visibility());
        // Two values of a key in one transaction have a name of their own.
        let has_two_values = |cycle: &Vec<u32>| {
            level == Level::ReadAtomic && cycle.len() == 2 && read_both(txns, cycle)
        };
        let Broken { cycles, count, stale } = broken;
        let (two_values, cycles): (Vec<_>, Vec<_>) = cycles.into_iter().partition(has_two_values);
        let is_all = cycles.is_empty() && stale.is_empty();
        let two_count = if is_all { count } else { two_values.len() as u64 };
        for (name, broken) in [
            ("non-repeatable-read", Broken { cycles: two_values, count: two_count, stale: vec![] }),
            (level.anomaly(), Broken { cycles, count: count - two_count, stale }),
        ] {
            if broken.count > 0 {
                tell(&mut self.findings, name, &teller, &broken);
            }
        }
    }

    /// Decides guarantees: all that are asked for together first, then which are to blame.
    fn guarantees(&mut self, asked: Guarantees, txns: &Txns) -> Result<(), Exhausted> {
        let (inferred, vertices, _) = sessions::infer(txns, asked, None, self.meter)?;
        self.inferred_count += inferred.edges.len() as u64;
        if !is_broken(txns, vertices, &inferred) {
            return Ok(());
        }
        drop(inferred);
        let mut subsets: Vec<u8> = (1..16).filter(|set| set & !asked.0 == 0).collect();
        subsets.sort_by_key(|set| set.count_ones());
        let mut to_blame: Vec<u8> = Vec::new();
        for set in subsets {
            if to_blame.iter().any(|smaller| smaller & !set == 0) {
                continue;
            }
            let set = Guarantees(set);
            let (inferred, vertices, _) = sessions::infer(txns, set, None, self.meter)?;
            if is_broken(txns, vertices, &inferred) {
                to_blame.push(set.0);
                self.broken.push(set.name());
                let broken = broken(txns, vertices, &inferred);
                drop(inferred);
                let mut wanted: Wanted =
                    broken.cycles.iter().flat_map(|cycle| inferred_pairs(txns, cycle)).collect();
                wanted.extend(broken.stale.iter().map(|stale| ((INITIAL, stale.writer), None)));
                let (_, _, seen) = sessions::infer(txns, set, Some(wanted), self.meter)?;
                let teller = Teller::new(txns, Visibility::Session(seen));
                tell(&mut self.findings, set.name(), &teller, &broken);
            }
        }
        Ok(())
    }

    fn judge(self, question: &Question, txns: &Txns, ambiguity: &Ambiguity) -> CheckResult {
        let ok = txns.list.iter().filter(|txn| txn.outcome == OpType::Ok).count();
        let read_count = txns.events.iter().filter(|event| !event.is_write()).count() as u64;
        let found: Vec<&str> = self.findings.names().collect();
        let (verdict, reason) = if !found.is_empty() {
            let strongest = self.holds.filter(|_| self.is_only_order());
            let and = match strongest {
                Some(level) if level > Level::None => format!(", though it is {}", level.name()),
                _ => String::new(),
            };
            let not = self.not(question);
            let found = found.join(", ");
            // A guarantee that is broken has the name of what was found.
            let text = match found == not {
                true => format!("{not} does not hold{and}"),
                false => format!("found {found}; so this is not {not}{and}"),
            };
            (Verdict::Invalid, text)
        } else if let Some(example) = &ambiguity.example {
            let text = format!(
                "nothing is wrong as far as it can be seen, but {} reads name no single write: {example}; \
                 each value has to be written to a key once",
                ambiguity.count
            );
            (Verdict::Unknown, text)
        } else if read_count == 0 {
            (Verdict::Unknown, "nothing to judge by: no read succeeded".to_owned())
        } else {
            let text = format!(
                "{ok} transactions with {read_count} reads in {} sessions show nothing against {}",
                txns.chain_count(),
                asked(question)
            );
            (Verdict::Valid, text)
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        let counts = [
            ("transactions", u64::from(txns.count())),
            ("transactions-ok", ok as u64),
            ("sessions", txns.chain_count() as u64),
            ("keys", txns.key_count() as u64),
            ("reads", read_count),
            ("reads-ambiguous", ambiguity.count),
            ("inferred-edges", self.inferred_count),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
        for (name, finding) in &self.findings.0 {
            result.counts.insert((*name).to_owned(), finding.count);
        }
        result.details = json!({
            "level": question.level.name(),
            "session": Guarantees::NAMES.iter().enumerate()
                .filter(|(bit, _)| question.guarantees.0 >> bit & 1 == 1)
                .map(|(_, name)| *name).collect::<Vec<_>>(),
            "strongest-level": self.holds.filter(|_| self.is_only_order()).map(Level::name),
            "not": self.broken,
            "anomaly-types": found,
        });
        result.anomalies = shown(self.findings.0);
        result
    }

    /// Whether reads by themselves are in order, so that a level can hold.
    fn is_only_order(&self) -> bool {
        const READS: [&str; 5] = ["thin-air-read", "G1a", "G1b", "future-read", "internal"];
        !READS.iter().any(|name| self.findings.has(name))
    }

    fn not(&self, question: &Question) -> String {
        match self.broken.as_slice() {
            [] | [CYCLIC] => asked(question),
            _ if !self.is_only_order() => asked(question),
            broken => broken.join(", not "),
        }
    }
}

/// What was asked for, in words.
fn asked(question: &Question) -> String {
    let guarantees = (0..4).filter(|bit| question.guarantees.0 >> bit & 1 == 1);
    let mut names: Vec<&str> = guarantees.map(|bit| Guarantees::NAMES[bit]).collect();
    if question.level != Level::None {
        names.insert(0, question.level.name());
    }
    if names.is_empty() { "reading what was written".to_owned() } else { names.join(", ") }
}

/// Whether some transaction read the same key from both.
fn read_both(txns: &Txns, pair: &[u32]) -> bool {
    let from = |events: &[crate::causal::txns::Event], writer: u32, key: u32| {
        events.iter().any(|event| event.read_from() == Some(writer) && event.key() == key)
    };
    (0..txns.count()).any(|reader| {
        let events = txns.events_of(reader);
        let mut first = events.iter().filter(|event| event.read_from() == Some(pair[0]));
        first.any(|event| from(events, pair[1], event.key()))
    })
}

/// One of each name first, then more of them.
pub fn shown(findings: BTreeMap<&'static str, crate::elle::findings::Finding>) -> Vec<Anomaly> {
    let by_name = findings.into_values().map(|finding| finding.shown).collect();
    let mut anomalies = crate::elle::findings::in_rounds(by_name, SHOWN_MAX);
    anomalies.truncate(SHOWN_MAX);
    anomalies
}
