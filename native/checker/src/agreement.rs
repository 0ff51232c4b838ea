//! `agreement`: all nodes tell the same at the end, whatever it is.
//!
//! Members, a leader, a list of tables, the hash of their content: after the faults have healed, every node
//! is asked once more, and all must answer alike. A question is a function with an answer: every operation
//! with the extra key `:final? true`, or `final-read`; with `final=last`, the last success of each function
//! on each node. Of a node that was asked several times, the last answer counts. Several functions are
//! several questions, and `independent=true` makes one of each key.
//!
//! With `leader=true` the answers name a leader: the same everywhere, and somebody (`no-leader` otherwise;
//! nil, `undefined`, `none` and empty text are nobody). If they are `true` and `false` (am I it?), exactly one
//! node says `true`.
//!
//! A node that took part and gave no answer leaves the question open: `unknown`; so does one node alone.
//! Nodes are those that records name; where none is named, each process stands for one. Linear.

use std::collections::{BTreeMap, BTreeSet};

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Value, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::independent::INDEPENDENT;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "agreement",
    about: "Whether all nodes answer alike at the end: every operation with :final? true (or final-read) is \
            a question, and the last answer of each node counts. With leader=true the answer has to be \
            one leader. Unknown if a node that took part gave no answer, or only one did.",
    needs: &[need("nodes-compared", "no two nodes answered a final read")],
    options: &[
        OptionInfo {
            name: "leader",
            default: "false",
            about: "answers name a leader: the same everywhere and not nobody; or true on exactly one node",
        },
        OptionInfo {
            name: "final",
            default: "marked",
            about: "marked: operations with :final? true, or final-read; or last: the last success of each \
                    function on each node",
        },
        OptionInfo {
            name: "order",
            default: "matters",
            about: "matters, or ignore: whether lists with the same elements in another order are the same",
        },
        INDEPENDENT,
    ],
};

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct Agreement {
    leader: bool,
    last: bool,
    ignore_order: bool,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Agreement, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    Ok(Agreement {
        leader: reader.bool("leader", false)?,
        last: reader.word("final", &["marked", "last"], "marked")? == "last",
        ignore_order: reader.word("order", &["matters", "ignore"], "matters")? == "ignore",
    })
}

impl Checker for Agreement {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        self.judge(&self.questions(history))
    }
}

/// The last answer of one node.
struct Answer<'a> {
    invoke: &'a Op,
    done: &'a Op,
    value: Value,
}

/// What was asked, of whom, and what was answered.
#[derive(Default)]
struct Questions<'a> {
    by_function: BTreeMap<&'static str, BTreeMap<String, Answer<'a>>>,
    /// All that took part.
    places: BTreeSet<String>,
}

impl Agreement {
    fn questions<'a>(&self, history: &'a History) -> Questions<'a> {
        let names_nodes = history.client_ops().any(|op| op.node.is_some());
        let mut questions = Questions::default();
        for (invoke, completion) in history.client_pairs() {
            let node = completion.and_then(|done| done.node).or(invoke.node);
            let place = match (node, names_nodes) {
                (Some(node), _) => node.as_str().to_owned(),
                (None, true) => continue,
                (None, false) => format!("process {}", invoke.process),
            };
            let marked = |op: &Op| op.extra("final?") == Some(&Value::Bool(true));
            let is_final = self.last
                || invoke.f == "final-read"
                || marked(invoke)
                || completion.is_some_and(marked);
            // Without nodes, only who was asked takes part: processes come and go.
            if names_nodes || is_final {
                questions.places.insert(place.clone());
            }
            let Some(done) = completion.filter(|done| is_final && done.op_type == OpType::Ok)
            else {
                continue;
            };
            let value = self.canonical(&done.value);
            let answers = questions.by_function.entry(invoke.f.as_str()).or_default();
            let newer = answers.get(&place).is_none_or(|old| old.done.index < done.index);
            if newer {
                answers.insert(place, Answer { invoke, done, value });
            }
        }
        questions
    }

    /// The value in a form that is equal where two answers are the same.
    fn canonical(&self, value: &Value) -> Value {
        match value.items().filter(|_| self.ignore_order) {
            Some(items) => {
                let mut sorted = items.to_vec();
                sorted.sort();
                Value::list(sorted)
            }
            None => value.clone(),
        }
    }

    fn judge(&self, questions: &Questions) -> CheckResult {
        let mut anomalies = Vec::new();
        let mut open: Vec<String> = Vec::new();
        let mut compared = 0;
        for (f, answers) in &questions.by_function {
            anomalies.extend(self.judge_one(f, answers));
            let absent: Vec<&str> = questions
                .places
                .iter()
                .filter(|place| !answers.contains_key(*place))
                .map(String::as_str)
                .collect();
            if !absent.is_empty() && !self.last {
                open.push(format!("no final :{f} succeeded on {}", absent.join(", ")));
            }
            if answers.len() > 1 {
                compared = compared.max(answers.len());
            }
        }
        let (verdict, reason) = match anomalies.first() {
            Some(first) => (Verdict::Invalid, format!("{}: {}", first.name, first.text)),
            None if questions.by_function.is_empty() => {
                let text = "there is no final read that succeeded: mark it with :final? true, or pass \
                            final=last";
                (Verdict::Unknown, text.to_owned())
            }
            None if !open.is_empty() => (Verdict::Unknown, open.join("; ")),
            None => {
                let what: Vec<String> =
                    questions.by_function.keys().map(|f| format!(":{f}")).collect();
                (Verdict::Valid, format!("{compared} nodes agree about {}", what.join(", ")))
            }
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        let functions = questions.by_function.len();
        let counts = [("nodes-compared", compared), ("questions", functions)];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n as u64)).collect();
        let told = questions.by_function.iter().map(|(f, answers)| {
            let each = answers
                .iter()
                .map(|(place, answer)| (place.clone(), json!(shown(&answer.done.value))));
            ((*f).to_owned(), json!(each.collect::<serde_json::Map<_, _>>()))
        });
        result.details = json!({ "answers": told.collect::<serde_json::Map<_, _>>() });
        result.anomalies = anomalies;
        result
    }

    /// What is wrong with the answers to one question.
    fn judge_one(&self, f: &str, answers: &BTreeMap<String, Answer>) -> Option<Anomaly> {
        let mut all = answers.iter();
        let (first_place, first) = all.next()?;
        let says = |place: &str, answer: &Answer| {
            format!("{place} says {} (record {})", shown(&answer.done.value), answer.done.index)
        };
        let about = |name: &str, text: String, told: &[&Answer]| Anomaly {
            name: name.into(),
            key: Some(format!(":{f}")),
            text,
            ops: told.iter().flat_map(|a| [a.invoke.index, a.done.index]).collect(),
            ..Anomaly::default()
        };
        let is_bool = |answer: &Answer| matches!(answer.value, Value::Bool(_));
        if self.leader && answers.values().all(is_bool) {
            let leaders: Vec<(&String, &Answer)> =
                answers.iter().filter(|(_, a)| a.value == Value::Bool(true)).collect();
            return match leaders.as_slice() {
                [_] => None,
                [] => {
                    let told: Vec<&Answer> = answers.values().collect();
                    Some(about("no-leader", "no node says that it is the leader".into(), &told))
                }
                several => {
                    let names: Vec<&str> =
                        several.iter().map(|(place, _)| place.as_str()).collect();
                    let text = format!("{} all say that they are the leader", names.join(" and "));
                    let told: Vec<&Answer> = several.iter().map(|(_, answer)| *answer).collect();
                    Some(about("two-leaders", text, &told))
                }
            };
        }
        let other = all.find(|(_, answer)| answer.value != first.value);
        if let Some((place, answer)) = other {
            let text =
                format!("at the end {}, and {}", says(first_place, first), says(place, answer));
            let name = if self.leader { "two-leaders" } else { "disagreement" };
            return Some(about(name, text, &[first, answer]));
        }
        (self.leader && is_nobody(&first.value)).then(|| {
            let text = format!("at the end {}: there is no leader", says(first_place, first));
            about("no-leader", text, &[first])
        })
    }
}

fn is_nobody(value: &Value) -> bool {
    value.is_nil() || matches!(value.as_text(), Some("undefined" | "none" | "nil" | "nobody" | ""))
}

/// A value of any size, short.
fn shown(value: &Value) -> String {
    fuzz_dist_core::text::line(&value.to_string(), 120)
}
