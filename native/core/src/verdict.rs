//! What a checker answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Three-valued: `invalid` beats `unknown` beats `valid`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The property holds in this history.
    #[default]
    Valid,
    /// It could not be decided, or there was too little to decide from.
    Unknown,
    /// The property is violated, and the evidence shows how.
    Invalid,
}

impl Verdict {
    /// The verdict of two together.
    pub fn and(self, other: Verdict) -> Verdict {
        self.max(other)
    }

    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::Unknown => "unknown",
            Verdict::Invalid => "invalid",
        }
    }

    /// The exit code of a command that ends with this verdict.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Valid => 0,
            Verdict::Invalid => 1,
            Verdict::Unknown => 2,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One violation, with the records that show it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Anomaly {
    /// The field's name for it: `nonlinearizable`, `lost`, `G1c` …
    pub name: String,
    /// The key or element it is about, as EDN, when there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// What happened, in words; may span lines.
    pub text: String,
    /// Positions in the checked history of the records that show it, smallest useful set first.
    pub ops: Vec<u64>,
    /// For a cycle or a chain: its edges in order, each from one of `ops` to another.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub edges: Vec<Edge>,
    /// Where an order was sought: the longest one that still holds, as positions of invocations.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub longest_order: Vec<u64>,
}

/// Why one operation comes before another.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Edge {
    /// Position of the earlier operation's record.
    pub from: u64,
    /// Position of the later one's.
    pub to: u64,
    /// The kind of dependency: `ww`, `wr`, `rw`, `process`, `realtime`, `session`, `reads-from` …
    pub kind: String,
    /// The reason, in words.
    pub why: String,
}

/// The answer of one checker, or of several composed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CheckResult {
    /// Name of the checker.
    pub checker: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in one line.
    pub reason: String,
    /// Violations found, the most telling first, bounded in number; `counts` has the totals.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub anomalies: Vec<Anomaly>,
    /// What was counted, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub counts: BTreeMap<String, u64>,
    /// Whatever else this checker tells (quantiles, algorithm chosen, how far it got).
    #[serde(skip_serializing_if = "serde_json::Value::is_null", default)]
    pub details: serde_json::Value,
    /// How long it took.
    pub elapsed_ms: f64,
    /// Results of the parts, when composed or split by key.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub parts: Vec<CheckResult>,
}

impl CheckResult {
    /// A result without evidence.
    pub fn new(checker: &str, verdict: Verdict, reason: impl Into<String>) -> CheckResult {
        CheckResult {
            checker: checker.to_owned(),
            verdict,
            reason: reason.into(),
            ..CheckResult::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_beats_unknown_beats_valid() {
        use Verdict::{Invalid, Unknown, Valid};
        for (a, b, both) in [
            (Valid, Valid, Valid),
            (Valid, Unknown, Unknown),
            (Unknown, Invalid, Invalid),
            (Valid, Invalid, Invalid),
        ] {
            assert_eq!(a.and(b), both);
            assert_eq!(b.and(a), both);
        }
    }
}
