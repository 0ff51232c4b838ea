//! Causal+ consistency of replicated data types: causal order of what is read, and convergence in the end.
//!
//! Lloyd et al., "Don't Settle for Eventual" (SOSP 2011), for the types that fuzz_dist's and nurturenature's
//! suites test: [`grow_set`] (`g-set`), [`max_write_wins`], [`last_write_wins`] (`lww-register`), and
//! `pn-counter`, which is the checker [`crate::pn_counter`]. [`finals`] says which reads convergence is judged by.

pub mod finals;
pub mod grow_set;
pub mod last_write_wins;
pub mod max_write_wins;

use fuzz_dist_core::spec::{CheckerSpec, Options};
use fuzz_dist_core::{CheckResult, History, OpType, Verdict};
use serde_json::json;

use crate::budget::{Budget, Meter};
use crate::causal::crdt::finals::Finals;
use crate::causal::registers::{Stop, shown};
use crate::causal::txns::Txns;
use crate::causal::{INFO, reads::Ambiguity};
use crate::elle::findings::Findings;
use crate::pn_counter;

/// Names of the types, and none.
pub const NAMES: [&str; 5] = ["none", "g-set", "pn-counter", "max-write-wins", "lww-register"];

/// A replicated data type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crdt {
    /// A set that only grows.
    GrowSet,
    /// A counter.
    PnCounter,
    /// Registers whose greatest value wins.
    MaxWriteWins,
    /// Registers whose last write wins.
    LastWriteWins,
}

/// What a type's checker found.
#[derive(Debug)]
pub struct Found {
    /// Anomalies.
    pub findings: Findings,
    /// Which reads were final.
    pub finals: Finals,
    /// Why a pass would be no proof, if it would not.
    pub open: Option<String>,
    /// What was looked at, for a pass: `12 reads …`.
    pub what: String,
    /// What was counted.
    pub counts: Vec<(&'static str, u64)>,
}

impl Crdt {
    /// The type of a name; nothing for none.
    pub fn of(name: &str) -> Option<Crdt> {
        let all = [Crdt::GrowSet, Crdt::PnCounter, Crdt::MaxWriteWins, Crdt::LastWriteWins];
        all.into_iter().find(|crdt| crdt.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Crdt::GrowSet => "g-set",
            Crdt::PnCounter => "pn-counter",
            Crdt::MaxWriteWins => "max-write-wins",
            Crdt::LastWriteWins => "lww-register",
        }
    }

    /// Decides it.
    pub fn check(self, history: &History, meter: &Meter) -> CheckResult {
        let found = match self {
            Crdt::PnCounter => return counter(history, &meter.rest()),
            Crdt::GrowSet => grow_set::check(history, meter),
            Crdt::MaxWriteWins => max_write_wins::check(history, meter),
            Crdt::LastWriteWins => last_write_wins::check(history, meter),
        };
        match found {
            Ok(found) => self.judge(found),
            Err(stop) => CheckResult::new(INFO.name, Verdict::Unknown, stop.to_string()),
        }
    }

    fn judge(self, found: Found) -> CheckResult {
        let names: Vec<&str> = found.findings.names().collect();
        let (verdict, reason) = match found.open.or_else(|| found.finals.open()) {
            _ if !names.is_empty() => {
                let text = format!("found {}; so this is no {}", names.join(", "), self.name());
                (Verdict::Invalid, text)
            }
            Some(open) => (Verdict::Unknown, format!("{}; but {open}", found.what)),
            None => {
                let text =
                    format!("{}, and {} final reads agree", found.what, found.finals.settled.len());
                (Verdict::Valid, text)
            }
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        result.counts =
            found.counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        result.counts.insert("final-reads".into(), found.finals.reads.len() as u64);
        for (name, finding) in &found.findings.0 {
            result.counts.insert((*name).to_owned(), finding.count);
        }
        result.details = json!({
            "crdt": self.name(),
            "final-reads": found.finals.how,
            "anomaly-types": names,
        });
        result.anomalies = shown(found.findings.0);
        result
    }
}

/// The checker for counters, for one counter or for one of each key.
fn counter(history: &History, budget: &Budget) -> CheckResult {
    let keyed = |op: &fuzz_dist_core::Op| op.value.key_and_value().is_some();
    let mut done = history.client_ops().filter(|op| op.op_type == OpType::Ok).peekable();
    let independent = done.peek().is_some() && done.all(keyed);
    let mut options = Options::new();
    options.insert("independent".into(), independent.into());
    let spec = CheckerSpec { name: pn_counter::INFO.name.into(), options };
    let mut result = match crate::build(&spec) {
        Ok(checker) => checker.check(history, budget),
        Err(error) => CheckResult::new(INFO.name, Verdict::Unknown, error.to_string()),
    };
    result.checker = INFO.name.to_owned();
    result
}

/// Whether an operation on registers only reads.
fn only_reads(op: &fuzz_dist_core::Op) -> bool {
    match op.f.as_str() {
        "read" | "r" | "final-read" => true,
        "write" | "w" => false,
        _ => op.value.items().is_some_and(|mops| {
            let mut fs = mops.iter().map(|mop| mop.items().and_then(|mop| mop[..1].first()));
            fs.all(|f| matches!(f.and_then(fuzz_dist_core::Value::as_text), Some("r" | "read")))
        }),
    }
}

/// The transactions of final reads, from the positions of their invocations.
fn txns_at(txns: &Txns, invocations: &[u32]) -> Vec<u32> {
    let number = |at: &u32| txns.list.binary_search_by_key(at, |txn| txn.invoke).ok();
    invocations.iter().filter_map(|at| number(at).map(|n| n as u32)).collect()
}

/// Why reads that name no write leave the question open.
fn ambiguous(ambiguity: &Ambiguity) -> Option<String> {
    let example = ambiguity.example.as_ref()?;
    Some(format!("{} reads name no single write: {example}", ambiguity.count))
}

/// What every part answers.
pub type Answer = Result<Found, Stop>;
