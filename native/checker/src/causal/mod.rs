//! `causal`: weak isolation of transactions on registers, session guarantees, and causal convergence of CRDTs.
//!
//! **Levels** (`level=causal|read-atomic|read-committed`): axioms of Biswas and Enea ("On the Complexity of
//! Checking Transactional Consistency", OOPSLA 2019), decided within the bounds of AWDIT (Møldrup and
//! Pavlogiannis, PLDI 2025): O(n·k) for Causal Consistency, O(n^3/2) for the others. They need each value to be
//! written to a key once; where one is not, and it was read, a pass is `unknown`. nil is the initial state,
//! and comes before every transaction. Causal Consistency is the convergent kind, with one order of all writes:
//! two sessions that see two writes of a key in opposite orders break it, writes of different keys do not.
//!
//! **Anomalies.** By reads alone: `thin-air-read`, `G1a`, `G1b`, `future-read`, `internal` ([`reads`]).
//! `cyclic-causality`: session order and reads-from form a cycle. Else each is named after the weakest level
//! that does not hold: `non-monotonic-read` (Read Committed), `fractured-read` and `non-repeatable-read` (Read
//! Atomic), `causality-violation` (Causal).
//!
//! **Session guarantees** (`session=…`): [`sessions`] defines them; an anomaly has the name of the guarantee, or
//! of those that only together are broken. **CRDTs** (`crdt=…`): [`crdt`].
//!
//! Parts: [`shapes`] and [`txns`] (what the history says), [`reads`] (which write each read saw),
//! [`happens_before`] and [`levels`] and [`sessions`] (what is implied: [`inferred`]), [`graph`] (cycles),
//! [`evidence`] (in words), [`registers`] (from all that to a verdict). A history with `:read-init` is of
//! Jepsen's causal register, and judged as Jepsen does ([`register`]) unless a level or guarantees are given.

pub mod crdt;
pub mod evidence;
pub mod graph;
pub mod happens_before;
pub mod inferred;
pub mod levels;
pub mod pool;
pub mod reads;
pub mod register;
pub mod registers;
pub mod sessions;
pub mod shapes;
pub mod txns;

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{CheckResult, History, Value};
use serde_json::Value as Json;

use crate::budget::Meter;
use crate::causal::crdt::Crdt;
use crate::causal::reads::Rules;
use crate::causal::registers::{Level, Question};
use crate::causal::sessions::Guarantees;
use crate::independent::INDEPENDENT;
use crate::options::{OptionError, OptionInfo, OptionReader, did_you_mean};
use crate::{Checker, CheckerInfo, or_unknown};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "causal",
    about: "Weak isolation of transactions on registers, [[:w k v] [:r k v]], or single reads and writes of \
            [key value]: Causal Consistency, Read Atomic or Read Committed, and session guarantees, exactly, \
            with the shortest chain of operations against them. Each value is written to a key once. With \
            the option crdt, causal order and convergence of a replicated data type instead. A history \
            with :read-init is of Jepsen's causal register: without a level or guarantees, each operation \
            has to follow the one before it on its key, by :link and by value.",
    needs: &[],
    options: &[
        OptionInfo {
            name: "level",
            default: "causal",
            about: "causal, read-atomic, read-committed, or none; none is the default if session is given, \
                    and the default of a history with :read-init is Jepsen's causal register",
        },
        OptionInfo {
            name: "session",
            default: "none",
            about: "session guarantees that have to hold, separated by commas: read-your-writes, \
                    monotonic-reads, monotonic-writes, writes-follow-reads, or all",
        },
        OptionInfo {
            name: "initial",
            default: "nil",
            about: "what a key holds that nobody wrote; 0 in a history with :read-init",
        },
        OptionInfo {
            name: "crdt",
            default: "none",
            about: "check a replicated data type instead: g-set, pn-counter, max-write-wins, lww-register",
        },
        INDEPENDENT,
    ],
};

/// The checker.
#[derive(Debug)]
pub enum Causal {
    /// Of registers; and what was left to the kind of history.
    Registers(Question, Open),
    /// Of a replicated data type.
    Crdt(Crdt),
}

/// What was not asked for.
#[derive(Debug, Clone, Copy)]
pub struct Open {
    /// Neither a level nor guarantees.
    property: bool,
    /// No initial value.
    initial: bool,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Causal, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let guarantees = guarantees(&reader)?;
    let default = if guarantees == Guarantees::NONE { "causal" } else { "none" };
    let level = Level::of(reader.word("level", &Level::NAMES, default)?);
    let initial = reader.raw("initial").map_or(Value::Nil, crate::json_value);
    if let Some(crdt) = Crdt::of(reader.word("crdt", &crdt::NAMES, "none")?) {
        for other in ["level", "session", "initial"] {
            if let Some(given) = reader.raw(other) {
                let expected = "left out with the option crdt, which says itself what has to hold";
                return Err(reader.bad(other, given, expected, String::new()));
            }
        }
        return Ok(Causal::Crdt(crdt));
    }
    let question = Question { level, guarantees, rules: Rules { initial, max_wins: false } };
    let property = reader.raw("level").is_none() && guarantees == Guarantees::NONE;
    let open = Open { property, initial: reader.raw("initial").is_none() };
    Ok(Causal::Registers(question, open))
}

fn guarantees(reader: &OptionReader) -> Result<Guarantees, OptionError> {
    const NAME: &str = "session";
    let Some(given) = reader.raw(NAME) else { return Ok(Guarantees::NONE) };
    let expected = format!("one or more of {}, or all, or none", Guarantees::NAMES.join(", "));
    let bad = |hint: String| reader.bad(NAME, given, &expected, hint);
    let texts: Vec<&str> = match given {
        Json::Null => Vec::new(),
        Json::String(text) => text.split([',', ' ']).collect(),
        Json::Array(items) => items
            .iter()
            .map(|item| item.as_str().ok_or_else(|| bad(String::new())))
            .collect::<Result<_, _>>()?,
        _ => return Err(bad(String::new())),
    };
    let mut set = Guarantees::NONE;
    for text in texts {
        // EDN's brackets and colons are as good as none.
        let word = text.trim_matches(|c: char| c.is_whitespace() || "[]:\"'".contains(c));
        match (word, Guarantees::NAMES.iter().position(|name| *name == word)) {
            ("all", _) => set = Guarantees::ALL,
            ("" | "none", _) => {}
            (_, Some(bit)) => set.0 |= 1 << bit,
            (word, None) => return Err(bad(did_you_mean(word, &Guarantees::NAMES))),
        }
    }
    Ok(set)
}

impl Checker for Causal {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        match self {
            Causal::Registers(_, open) if open.property && register::applies(history) => {
                or_unknown(INFO.name, register::check(history, meter))
            }
            Causal::Registers(question, open) if open.initial && register::applies(history) => {
                let rules = Rules { initial: Value::Int(0), ..question.rules.clone() };
                let question = Question { rules, ..question.clone() };
                or_unknown(INFO.name, registers::check(&question, history, meter))
            }
            Causal::Registers(question, _) => {
                or_unknown(INFO.name, registers::check(question, history, meter))
            }
            Causal::Crdt(crdt) => crdt.check(history, meter),
        }
    }
}
