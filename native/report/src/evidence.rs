//! A counter-example with what surrounds it: its operations, others on the same key, faults, node events.
//!
//! Checkers name positions in the history; here they become operations that people can read. Anomalies
//! are ordered by size, since the smallest is the one to look at first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Value, Verdict};
use serde::Serialize;

use crate::analyse::{Summary, time_ns};
use crate::text;

/// Counter-examples drawn in a page.
pub const COUNTER_EXAMPLE_COUNT_MAX: usize = 12;
/// Operations of one counter-example.
pub const OPERATION_COUNT_MAX: usize = 200;
/// Further operations shown around it.
pub const CONTEXT_COUNT_MAX: usize = 240;
/// Node events shown around it.
const NODE_EVENT_COUNT_MAX: usize = 80;
/// Longest text of a value.
const VALUE_CHAR_COUNT_MAX: usize = 160;
/// Longest text of an anomaly.
const TEXT_CHAR_COUNT_MAX: usize = 6_000;

/// An anomaly, readable.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CounterExample {
    /// The checker that found it; parts joined with ` / `.
    pub checker: String,
    /// The field's name for it.
    pub name: String,
    /// Key or element, as EDN.
    pub key: Option<String>,
    /// Whether it is the key of operations `{key, value}`, which stand here without it.
    pub keyed: bool,
    /// The checker's words.
    pub text: String,
    /// The operations that show it, by invocation.
    pub ops: Vec<Operation>,
    /// Operations that show it but did not fit.
    pub ops_omitted: usize,
    /// Others on the same key (or at the same time, where there are no keys), by invocation.
    pub context: Vec<Operation>,
    /// Others that did not fit: the oldest.
    pub context_omitted: usize,
    /// From the first invocation that shows it.
    pub start_ns: u64,
    /// To the last completion that does.
    pub end_ns: u64,
    /// Ids of the faults whose windows overlap it.
    pub faults: Vec<u32>,
    /// Positions in [`Summary::node_events`] of what nodes saw from those faults' start to its end.
    pub node_events: Vec<usize>,
}

/// An invocation with its completion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Operation {
    /// Position of the invocation in the history.
    pub position: u64,
    /// Who.
    pub process: String,
    /// Where.
    pub node: Option<String>,
    /// What.
    pub f: String,
    /// How it ended; `None` when the history ends before.
    #[serde(rename = "type")]
    pub op_type: Option<OpType>,
    /// When it was invoked.
    pub start_ns: u64,
    /// When it completed.
    pub end_ns: Option<u64>,
    /// Argument, without the key.
    pub argument: String,
    /// Result of an `ok`, without the key.
    pub result: Option<String>,
    /// Error of a `fail` or `info`.
    pub error: Option<String>,
}

impl Operation {
    fn reads(&self) -> bool {
        matches!(self.f.as_str(), "read" | "get" | "peek" | "dequeue" | "contains")
    }

    /// `write 3 → ok`, `read → nil`, `cas [1 2] → fail :mismatch`, in one line.
    pub fn describe(&self) -> String {
        let mut words = self.f.clone();
        if self.argument != "nil" {
            words.push(' ');
            words.push_str(&self.argument);
        }
        match (self.op_type, &self.result) {
            // That a read gave nothing is what it is about; that a release gave nothing is not.
            (Some(OpType::Ok), Some(result)) if *result != self.argument || self.reads() => {
                words.push_str(" → ");
                words.push_str(result);
            }
            (Some(OpType::Ok), _) => words.push_str(" → ok"),
            (Some(op_type), _) => {
                words.push_str(" → ");
                words.push_str(op_type.as_str());
                if let Some(error) = &self.error {
                    words.push(' ');
                    words.push_str(error);
                }
            }
            (None, _) => words.push_str(" → no answer"),
        }
        words
    }
}

/// Whether values of operations are `{key, value}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyed(pub bool);

impl Keyed {
    /// Looks at the first invocations: an Erlang tuple of two is a key with a value; a list of two (which
    /// a stored EDN has for both) only when a checker named keys as well.
    pub fn detect(history: &History, result: &CheckResult) -> Keyed {
        let mut named = false;
        visit(result, &mut |_, part| {
            named |= part.anomalies.iter().any(|anomaly| anomaly.key.is_some());
        });
        let mut any = false;
        for (invocation, _) in history.client_pairs().take(1_000) {
            match &invocation.value {
                Value::Tuple(items) if items.len() == 2 => any = true,
                Value::List(items) if items.len() == 2 && named => any = true,
                _ => return Keyed(false),
            }
        }
        Keyed(any)
    }

    /// Key and value of a record.
    pub fn split<'a>(&self, value: &'a Value) -> (Option<&'a Value>, &'a Value) {
        match value.key_and_value() {
            Some((key, inner)) if self.0 => (Some(key), inner),
            _ => (None, value),
        }
    }
}

/// Counter-examples of every checker that says `invalid`, smallest first, at most `count_max`.
pub fn counter_examples(
    history: &History,
    result: &CheckResult,
    summary: &Summary,
    count_max: usize,
) -> Vec<CounterExample> {
    let keyed = Keyed::detect(history, result);
    let mut found: Vec<(CounterExample, Option<Value>)> = anomalies(result)
        .into_iter()
        .take(count_max)
        .map(|(checker, anomaly)| read(history, &checker, anomaly, keyed))
        .collect();
    add_context(history, keyed, &mut found);
    found
        .into_iter()
        .map(|(mut example, _)| {
            add_surroundings(&mut example, summary);
            example
        })
        .collect()
}

/// Anomalies of what says `invalid`, with the name of their checker. A composed result repeats those of its
/// parts: the innermost checker is the one that found an anomaly, and says whether it counts.
pub(crate) fn anomalies(result: &CheckResult) -> Vec<(String, &Anomaly)> {
    let mut found: Vec<(String, &Anomaly, Verdict)> = Vec::new();
    let mut seen = BTreeMap::new();
    visit(result, &mut |path, part| {
        for anomaly in &part.anomalies {
            let identity = (&anomaly.name, &anomaly.key, &anomaly.ops, &anomaly.text);
            match seen.get(&identity) {
                Some(&at) => found[at] = (path.to_owned(), anomaly, part.verdict),
                None => {
                    seen.insert(identity, found.len());
                    found.push((path.to_owned(), anomaly, part.verdict));
                }
            }
        }
    });
    found.retain(|(_, _, verdict)| *verdict == Verdict::Invalid);
    // A stable sort: at the same size the checker's own order stays. No operations at all say least.
    found.sort_by_key(|(_, anomaly, _)| match anomaly.ops.len() {
        0 => usize::MAX,
        count => count,
    });
    found.into_iter().map(|(path, anomaly, _)| (path, anomaly)).collect()
}

/// Calls `f` for a result and all its parts, with the names of the checkers that lead there. The name of
/// the composition at the top says nothing and is left out.
pub(crate) fn visit<'a>(result: &'a CheckResult, f: &mut impl FnMut(&str, &'a CheckResult)) {
    fn walk<'a>(path: &str, result: &'a CheckResult, f: &mut impl FnMut(&str, &'a CheckResult)) {
        f(if path.is_empty() { &result.checker } else { path }, result);
        for part in &result.parts {
            match path {
                "" => walk(&part.checker, part, f),
                path => walk(&format!("{path} / {}", part.checker), part, f),
            }
        }
    }
    walk("", result, f);
}

fn read(
    history: &History,
    checker: &str,
    anomaly: &Anomaly,
    keyed: Keyed,
) -> (CounterExample, Option<Value>) {
    // Positions may be of invocations or completions, and may be of another history if that was edited.
    let invocations: BTreeSet<usize> = anomaly
        .ops
        .iter()
        .filter_map(|&position| usize::try_from(position).ok())
        .filter(|&position| position < history.len())
        .map(|position| match history.ops()[position].op_type {
            OpType::Invoke => position,
            _ => history.pair(position).unwrap_or(position),
        })
        .collect();
    let ops: Vec<Operation> = invocations
        .iter()
        .take(OPERATION_COUNT_MAX)
        .map(|&position| operation(history, position, keyed))
        .collect();
    let start_ns = ops.iter().map(|op| op.start_ns).min().unwrap_or(0);
    let definite = |op: &Operation| match op.op_type {
        Some(OpType::Ok | OpType::Fail) => op.end_ns.unwrap_or(op.start_ns),
        _ => op.start_ns,
    };
    let key = invocations
        .first()
        .and_then(|&position| keyed.split(&history.ops()[position].value).0.cloned());
    let example = CounterExample {
        checker: checker.to_owned(),
        name: anomaly.name.clone(),
        key: anomaly.key.as_ref().map(|key| text::clip(key, VALUE_CHAR_COUNT_MAX)),
        keyed: key.is_some(),
        text: text::clip(&anomaly.text, TEXT_CHAR_COUNT_MAX),
        ops_omitted: invocations.len() - ops.len(),
        start_ns,
        end_ns: ops.iter().map(definite).max().unwrap_or(start_ns),
        ops,
        context: Vec::new(),
        context_omitted: 0,
        faults: Vec::new(),
        node_events: Vec::new(),
    };
    (example, key)
}

pub(crate) fn operation(history: &History, position: usize, keyed: Keyed) -> Operation {
    let op = &history.ops()[position];
    let done = history.completion(position);
    let show = |value: &Value| text::clip(keyed.split(value).1, VALUE_CHAR_COUNT_MAX);
    Operation {
        position: position as u64,
        process: op.process.to_string(),
        node: node_of(op, done),
        f: op.f.as_str().to_owned(),
        // An unpaired record that is no invocation is its own completion: an observation.
        op_type: done.map(|done| done.op_type).or(match op.op_type {
            OpType::Invoke => None,
            own => Some(own),
        }),
        start_ns: time_ns(op),
        end_ns: done.map(time_ns),
        argument: show(&op.value),
        result: done.filter(|done| done.op_type == OpType::Ok).map(|done| {
            match looks_up(op.f.as_str()) && found_nobody(keyed.split(&done.value).1) {
                true => "nobody".to_owned(),
                false => show(&done.value),
            }
        }),
        error: done
            .filter(|done| !done.error.is_nil())
            .map(|done| text::clip(&done.error, VALUE_CHAR_COUNT_MAX)),
    }
}

/// Whether a function asks who has a name.
fn looks_up(f: &str) -> bool {
    matches!(f, "whereis" | "whereis-name" | "whereis_name" | "lookup" | "leader")
}

/// Whether the answer is nobody: nothing, or the name with nothing.
fn found_nobody(answer: &Value) -> bool {
    let who = answer.key_and_value().map_or(answer, |(_, who)| who);
    who.is_nil() || who.as_text() == Some("undefined")
}

fn node_of(op: &Op, done: Option<&Op>) -> Option<String> {
    op.node.or_else(|| done.and_then(|done| done.node)).map(|node| node.as_str().to_owned())
}

/// One pass over the history for all counter-examples together.
fn add_context(history: &History, keyed: Keyed, found: &mut [(CounterExample, Option<Value>)]) {
    let mut around: Vec<VecDeque<usize>> = vec![VecDeque::new(); found.len()];
    for (position, op) in history.ops().iter().enumerate() {
        if !op.is_client() || op.op_type != OpType::Invoke {
            continue;
        }
        for ((example, key), positions) in found.iter_mut().zip(&mut around) {
            if example.ops.is_empty() || time_ns(op) > example.end_ns {
                continue;
            }
            if key.is_some() && keyed.split(&op.value).0 != key.as_ref() {
                continue;
            }
            let ended_before = history
                .completion(position)
                .is_some_and(|d| d.op_type != OpType::Info && time_ns(d) < example.start_ns);
            let shown = example.ops.binary_search_by_key(&(position as u64), |o| o.position);
            if ended_before || shown.is_ok() {
                continue;
            }
            positions.push_back(position);
            if positions.len() > CONTEXT_COUNT_MAX {
                positions.pop_front();
                example.context_omitted += 1;
            }
        }
    }
    for ((example, _), positions) in found.iter_mut().zip(around) {
        example.context =
            positions.into_iter().map(|position| operation(history, position, keyed)).collect();
    }
}

fn add_surroundings(example: &mut CounterExample, summary: &Summary) {
    if example.ops.is_empty() {
        return;
    }
    let mut from_ns = example.start_ns;
    for fault in summary.faults_in(example.start_ns, example.end_ns) {
        example.faults.push(fault.id);
        from_ns = from_ns.min(fault.applied_ns.unwrap_or(from_ns));
    }
    example.node_events = summary
        .node_events
        .iter()
        .enumerate()
        .filter(|(_, event)| (from_ns..=example.end_ns).contains(&event.time_ns))
        .map(|(position, _)| position)
        .take(NODE_EVENT_COUNT_MAX)
        .collect();
}
