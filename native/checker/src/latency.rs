//! `latency`: no call outlives its time-out.
//!
//! A call that takes longer than its caller was told to wait is a bug of its own: an `rpc` whose time-out is
//! not kept, a `call` that hangs. The bound is the option `within-ms` (one for all functions, or one for
//! each), or the extra key `:timeout-ms` of an invocation, which goes before it. Every answer counts, also
//! `fail` and `info`: what matters is when the caller had its process back. A call without an answer is late
//! when the history goes on for longer than its bound. Without any bound the verdict is `unknown`; quantiles
//! are reported always. Times are those of the records. Linear, but for sorting.

use std::collections::BTreeMap;

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, Value, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "latency",
    about: "Whether every call was answered within its time-out: within-ms, for all functions or for \
            each, or the extra key :timeout-ms of the invocation. Any answer counts, also fail and info. \
            Unknown without a bound.",
    needs: &[need("bounded-calls", "no call has both a time and a bound (option within-ms)")],
    options: &[
        OptionInfo {
            name: "within-ms",
            default: "none",
            about: "the bound: a number of milliseconds, or a table of them by function, also as text: \
                    read=100,write=5000",
        },
        OptionInfo {
            name: "tolerance-ms",
            default: "0",
            about: "how much later an answer may be: a time-out fires a little late on a busy machine",
        },
    ],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;

/// The checker.
#[derive(Debug, Clone)]
pub struct Latency {
    all_ms: Option<f64>,
    by_function_ms: BTreeMap<String, f64>,
    tolerance_ms: f64,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Latency, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let tolerance_ms = reader.number("tolerance-ms", 0.0)?;
    let mut latency = Latency { all_ms: None, by_function_ms: BTreeMap::new(), tolerance_ms };
    let Some(given) = reader.raw("within-ms") else { return Ok(latency) };
    let bad = || {
        let expected = "milliseconds above 0, or a table of them by function (read=100,write=5000)";
        reader.bad("within-ms", given, expected, String::new())
    };
    let bound = |ms: Option<f64>| ms.filter(|ms| ms.is_finite() && *ms > 0.0).ok_or_else(bad);
    let plain = |f: &str| f.trim().trim_start_matches(':').to_owned();
    match given {
        serde_json::Value::Object(table) => {
            for (f, ms) in table {
                latency.by_function_ms.insert(plain(f), bound(ms.as_f64())?);
            }
        }
        serde_json::Value::String(text) if text.contains('=') => {
            for part in text.split(',') {
                let (f, ms) = part.split_once('=').ok_or_else(bad)?;
                latency.by_function_ms.insert(plain(f), bound(ms.trim().parse().ok())?);
            }
        }
        serde_json::Value::String(text) => latency.all_ms = Some(bound(text.parse().ok())?),
        other => latency.all_ms = Some(bound(other.as_f64())?),
    }
    Ok(latency)
}

impl Checker for Latency {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        if history.ops().iter().any(|op| op.time_ns < 0) {
            let reason = "not checked: latencies need times, and records of this history have none";
            return CheckResult::new(INFO.name, Verdict::Unknown, reason);
        }
        self.judge(history)
    }
}

/// What was seen of one function.
#[derive(Default)]
struct Seen {
    answered_ns: Vec<i64>,
    late: u64,
    unanswered: u64,
}

impl Latency {
    fn bound_ms(&self, invoke: &Op) -> Option<f64> {
        let own = match invoke.extra("timeout-ms") {
            Some(Value::Int(ms)) => Some(*ms as f64),
            Some(Value::Float(ms)) => Some(*ms),
            _ => None,
        };
        own.or_else(|| self.by_function_ms.get(invoke.f.as_str()).copied()).or(self.all_ms)
    }

    fn judge(&self, history: &History) -> CheckResult {
        let end_ns = history.ops().iter().map(|op| op.time_ns).max().unwrap_or(0);
        let mut functions: BTreeMap<&'static str, Seen> = BTreeMap::new();
        let (mut bounded, mut late, mut open) = (0u64, 0u64, 0u64);
        let mut slowest: Vec<(f64, Anomaly)> = Vec::new();
        for (invoke, completion) in history.client_pairs() {
            let seen = functions.entry(invoke.f.as_str()).or_default();
            let until_ns = completion.map_or(end_ns, |done| done.time_ns);
            let took_ns = until_ns.saturating_sub(invoke.time_ns).max(0);
            match completion {
                Some(_) => seen.answered_ns.push(took_ns),
                None => seen.unanswered += 1,
            }
            let Some(bound_ms) = self.bound_ms(invoke) else { continue };
            let over_ms = took_ns as f64 / 1e6 - bound_ms - self.tolerance_ms;
            if over_ms <= 0.0 {
                // One that the end of the history cut off shows nothing.
                *(if completion.is_some() { &mut bounded } else { &mut open }) += 1;
                continue;
            }
            bounded += 1;
            late += 1;
            seen.late += 1;
            slowest.push((over_ms, anomaly(invoke, completion, took_ns, bound_ms)));
            if slowest.len() >= 2 * ANOMALIES_MAX {
                keep_slowest(&mut slowest);
            }
        }
        keep_slowest(&mut slowest);
        let anomalies: Vec<Anomaly> = slowest.into_iter().map(|(_, anomaly)| anomaly).collect();
        let has_bound = self.all_ms.is_some() || !self.by_function_ms.is_empty() || bounded > 0;
        let (verdict, reason) = match anomalies.first() {
            Some(first) => {
                (Verdict::Invalid, format!("{late} of {bounded} calls were late: {}", first.text))
            }
            None if has_bound => {
                (Verdict::Valid, format!("all {bounded} calls were answered within their bounds"))
            }
            None => (Verdict::Unknown, "no bound was given: option within-ms".to_owned()),
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        let counts = [("bounded-calls", bounded), ("late", late), ("cut-off", open)];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
        let rows = functions.into_iter().map(|(f, seen)| (f.to_owned(), row(seen)));
        result.details = json!({ "by-f": rows.collect::<serde_json::Map<_, _>>() });
        result.anomalies = anomalies;
        result
    }
}

/// The latest first.
fn keep_slowest(slowest: &mut Vec<(f64, Anomaly)>) {
    slowest.sort_by(|a, b| b.0.total_cmp(&a.0));
    slowest.truncate(ANOMALIES_MAX);
}

fn anomaly(invoke: &Op, completion: Option<&Op>, took_ns: i64, bound_ms: f64) -> Anomaly {
    let node = completion.and_then(|done| done.node).or(invoke.node);
    let on = node.map(|node| format!(" on {node}")).unwrap_or_default();
    let took_ms = took_ns as f64 / 1e6;
    let text = match completion {
        Some(done) => format!(
            "{}{on} called :{} and was answered after {took_ms:.1} ms (records {} to {}); its time-out \
             is {bound_ms} ms",
            who(invoke),
            invoke.f,
            invoke.index,
            done.index
        ),
        None => format!(
            "{}{on} called :{} and had no answer after {took_ms:.1} ms, when the history ended (record \
             {}); its time-out is {bound_ms} ms",
            who(invoke),
            invoke.f,
            invoke.index
        ),
    };
    let ops = std::iter::once(invoke).chain(completion).map(|op| op.index).collect();
    Anomaly {
        name: "late".into(),
        key: Some(format!(":{}", invoke.f)),
        text,
        ops,
        ..Anomaly::default()
    }
}

fn who(invoke: &Op) -> String {
    format!("process {}", invoke.process)
}

fn row(seen: Seen) -> serde_json::Value {
    let mut sorted = seen.answered_ns;
    sorted.sort_unstable();
    let at = |q: f64| {
        let place = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(place).map(|ns| *ns as f64 / 1e6)
    };
    json!({
        "answered": sorted.len(), "unanswered": seen.unanswered, "late": seen.late,
        "ms": {"0.5": at(0.5), "0.95": at(0.95), "0.99": at(0.99), "1": at(1.0)},
    })
}
