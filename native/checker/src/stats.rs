//! `stats` and `unhandled-exceptions`: what happened, before anything is said about whether it was right.
//!
//! `stats` counts completions by function and outcome. A function of which no operation ever succeeded
//! makes the verdict `unknown`: whatever other checkers say about it says nothing. (Jepsen documents
//! this and answers false.) `unhandled-exceptions` groups indeterminate operations by what was raised;
//! it is always valid and there for people to read.

use std::collections::BTreeMap;

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Value, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::needs::need;
use crate::options::{OptionError, OptionReader};
use crate::{Checker, CheckerInfo};

/// What people read about `stats`.
pub const STATS: CheckerInfo = CheckerInfo {
    name: "stats",
    about: "Counts operations by function and outcome. Unknown when no operation of some function ever \
            succeeded, since nothing was tested of it then.",
    needs: &[need("ok-count", "no operation succeeded")],
    options: &[],
};

/// What people read about `unhandled-exceptions`.
pub const EXCEPTIONS: CheckerInfo = CheckerInfo {
    name: "unhandled-exceptions",
    about: "Groups indeterminate (info) operations by the exception or error that made them so, most \
            frequent first, with an example of each. Always valid.",
    needs: &[],
    options: &[],
};

/// Outcomes of one function.
#[derive(Debug, Default, Clone, Copy)]
struct Outcomes {
    invoke: u64,
    ok: u64,
    fail: u64,
    info: u64,
}

/// The checker `stats`.
#[derive(Debug, Clone, Copy)]
pub struct Stats;

/// Builds `stats`.
pub fn build_stats(options: &Options) -> Result<Stats, OptionError> {
    OptionReader::new(STATS.name, options, STATS.options)?;
    Ok(Stats)
}

impl Checker for Stats {
    fn name(&self) -> &'static str {
        STATS.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        let by_f = outcomes(history);
        let total = |count: fn(&Outcomes) -> u64| by_f.values().map(count).sum::<u64>();
        let never: Vec<String> =
            by_f.iter().filter(|(_, o)| o.ok == 0).map(|(f, _)| format!(":{f}")).collect();
        let (verdict, reason) = if by_f.is_empty() {
            (Verdict::Unknown, "no client ever invoked an operation".to_owned())
        } else if never.is_empty() {
            let text =
                format!("{} of {} operations succeeded", total(|o| o.ok), total(|o| o.invoke));
            (Verdict::Valid, text)
        } else {
            (Verdict::Unknown, format!("no {} ever succeeded", never.join(" and no ")))
        };
        let mut result = CheckResult::new(STATS.name, verdict, reason);
        let counts = [
            ("count", total(|o| o.invoke)),
            ("ok-count", total(|o| o.ok)),
            ("fail-count", total(|o| o.fail)),
            ("info-count", total(|o| o.info)),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
        let rows = by_f.iter().map(|(f, o)| {
            let row = json!({
                "valid": o.ok > 0, "count": o.invoke, "ok-count": o.ok, "fail-count": o.fail, "info-count": o.info,
            });
            (f.to_string(), row)
        });
        result.details = json!({"by-f": rows.collect::<serde_json::Map<_, _>>()});
        result
    }
}

fn outcomes(history: &History) -> BTreeMap<&'static str, Outcomes> {
    let mut by_sym: BTreeMap<u32, (&'static str, Outcomes)> = BTreeMap::new();
    for (invoke, completion) in crate::budget::client_pairs(history) {
        let (_, outcomes) =
            by_sym.entry(invoke.f.id()).or_insert_with(|| (invoke.f.as_str(), Outcomes::default()));
        outcomes.invoke += 1;
        match completion.map(|c| c.op_type) {
            Some(OpType::Ok) => outcomes.ok += 1,
            Some(OpType::Fail) => outcomes.fail += 1,
            // An operation that never completed is as indeterminate as one that says so.
            _ => outcomes.info += 1,
        }
    }
    by_sym.into_values().collect()
}

/// The checker `unhandled-exceptions`.
#[derive(Debug, Clone, Copy)]
pub struct UnhandledExceptions;

/// Builds `unhandled-exceptions`.
pub fn build_exceptions(options: &Options) -> Result<UnhandledExceptions, OptionError> {
    OptionReader::new(EXCEPTIONS.name, options, EXCEPTIONS.options)?;
    Ok(UnhandledExceptions)
}

/// How many groups are shown.
const GROUPS_MAX: usize = 16;

impl Checker for UnhandledExceptions {
    fn name(&self) -> &'static str {
        EXCEPTIONS.name
    }

    fn only_reports(&self) -> bool {
        true
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        let mut groups: BTreeMap<String, (u64, &Op)> = BTreeMap::new();
        for op in history.client_ops().filter(|op| op.op_type == OpType::Info) {
            if let Some(class) = class(op) {
                groups.entry(class).or_insert((0, op)).0 += 1;
            }
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by(|(a, (m, _)), (b, (n, _))| n.cmp(m).then_with(|| a.cmp(b)));
        let total: u64 = groups.iter().map(|(_, (count, _))| count).sum();
        let reason = match groups.first() {
            None => "no indeterminate operation names an error".to_owned(),
            Some((class, (count, _))) => format!(
                "{total} indeterminate operations of {} kinds; most frequent: {class} ({count})",
                groups.len()
            ),
        };
        let mut result = CheckResult::new(EXCEPTIONS.name, Verdict::Valid, reason);
        result.counts.insert("exceptions".into(), total);
        result.counts.insert("classes".into(), groups.len() as u64);
        for (class, (count, example)) in groups.into_iter().take(GROUPS_MAX) {
            result.anomalies.push(Anomaly {
                name: "indeterminate".into(),
                key: None,
                text: format!("{class}: {count} times, for example record {example}"),
                ops: vec![example.index],
                ..Anomaly::default()
            });
        }
        result
    }
}

/// What kind of error it is: the class of a Jepsen exception, or the names at the head of a BEAM term,
/// which do not vary from one occurrence to the next as pids and texts do.
fn class(op: &Op) -> Option<String> {
    if let Some(exception) = op.extra("exception") {
        let first = exception.get("via").and_then(Value::items).and_then(<[Value]>::first);
        let class = first.and_then(|via| via.get("type")).unwrap_or(exception);
        return Some(head(class));
    }
    (!op.error.is_nil()).then(|| head(&op.error))
}

fn head(error: &Value) -> String {
    match error {
        Value::Tuple(items) | Value::List(items) => {
            let names: Vec<String> = items
                .iter()
                .map_while(|item| match item {
                    Value::Sym(name) => Some(name.to_string()),
                    Value::Tuple(_) => Some(head(item)),
                    _ => None,
                })
                .take(3)
                .collect();
            if names.is_empty() { error.to_string() } else { names.join(" ") }
        }
        Value::Sym(name) => name.to_string(),
        Value::Str(text) => text.lines().next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}
