//! Models that the checker `causal` decides exactly, asked of `rw-register`.
//!
//! Elle's classes of cycles say little about them, since the order of writes is not known. So
//! `read-committed`, `read-atomic` and `causal-cerone` mean the levels of Biswas and Enea as
//! `causal` has them, with sessions and internal reads, and the session guarantees are its
//! guarantees: two checkers of one tool give one answer. Adya's own Read Committed, which is
//! weaker, goes by its name `PL-2`.

use fuzz_dist_core::{CheckResult, History, Value, Verdict};

use crate::budget::Meter;
use crate::causal::reads::Rules;
use crate::causal::registers::{self, Level, Question};
use crate::causal::sessions::Guarantees;
use crate::elle::models::Names;

/// What `causal` calls a read of what nobody wrote.
const THIN_AIR: &str = "thin-air-read";

/// What is asked of `causal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weak {
    level: Level,
    guarantees: Guarantees,
}

impl Weak {
    /// What the names of some models ask for, if anything.
    pub fn of(names: &[String]) -> Option<Weak> {
        let mut weak = Weak { level: Level::None, guarantees: Guarantees::NONE };
        for name in names {
            let name = name.trim_start_matches(':');
            let level = match name {
                "read-committed" => Level::ReadCommitted,
                "read-atomic" => Level::ReadAtomic,
                "causal-cerone" | "causal" => Level::Causal,
                _ => Level::None,
            };
            weak.level = weak.level.max(level);
            let guarantees: &[&str] = match name {
                "PRAM" => &["read-your-writes", "monotonic-reads", "monotonic-writes"],
                _ => std::slice::from_ref(&name),
            };
            for (bit, known) in Guarantees::NAMES.iter().enumerate() {
                weak.guarantees.0 |= u8::from(guarantees.contains(known)) << bit;
            }
        }
        (weak.level != Level::None || weak.guarantees != Guarantees::NONE).then_some(weak)
    }

    /// Asks, and adds the answer to the result: what is not forbidden is left out.
    pub fn add(
        &self,
        result: &mut CheckResult,
        initial: &Value,
        forbidden: &Names,
        history: &History,
        meter: &Meter,
    ) {
        if result.verdict == Verdict::Invalid {
            return;
        }
        let rules = Rules { initial: initial.clone(), max_wins: false };
        let question = Question { level: self.level, guarantees: self.guarantees, rules };
        let answer = match registers::check(&question, history, meter) {
            Ok(answer) => answer,
            Err(why) => {
                result.verdict = Verdict::Unknown;
                result.reason = why.to_string();
                return;
            }
        };
        if answer.verdict == Verdict::Valid {
            return;
        }
        let allows_garbage = !forbidden.contains(super::GARBAGE);
        let is_bad = |name: &str| !(allows_garbage && name == THIN_AIR);
        let found: Vec<String> = answer.details["anomaly-types"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().filter(|name| is_bad(name)).map(str::to_owned))
            .collect();
        if answer.verdict == Verdict::Invalid && found.is_empty() {
            return;
        }
        result.verdict = answer.verdict;
        result.reason = answer.reason;
        result.anomalies =
            answer.anomalies.into_iter().filter(|anomaly| is_bad(&anomaly.name)).collect();
        for name in &found {
            let count = answer.counts.get(name.as_str()).copied().unwrap_or_default();
            result.counts.insert(name.clone(), count);
        }
        result.details["anomaly-types"] = found.into();
        result.details["not"] = answer.details["not"].clone();
    }
}

/// Why nothing can be said about models that forbid nothing that is looked for.
pub fn unseen(checker: &str, models: &[&str]) -> String {
    let near = |model: &&str| match *model {
        "linearizable" => Some("strict-serializable"),
        "sequential" | "session-serializable" => Some("strong-session-serializable"),
        "1SR" | "view-serializable" => Some("serializable"),
        _ => None,
    };
    let mut hints: Vec<&str> = models.iter().filter_map(near).collect();
    hints.dedup();
    let hint = match hints.is_empty() {
        true => "rw-register and causal know session guarantees".to_owned(),
        false => format!("of transactions, ask for {}", hints.join(", ")),
    };
    format!("{checker} looks for nothing that {} forbids ({hint})", models.join(", "))
}
