//! `queue` and `total-queue`: what comes out of a queue went in, and what went in comes out.
//!
//! Both as Jepsen's, on `enqueue v` and `dequeue`. They say nothing about order; `linearizable` with
//! the models `fifo-queue` and `unordered-queue` does.
//! - `queue`: every dequeue that succeeded took an element of which, by then, more enqueues had been
//!   invoked than dequeues had taken. An enqueue that failed did not happen.
//! - `total-queue`: needs a complete drain at the end (`dequeue` until empty, or `drain`, whose ok value
//!   is the list of what it took). Every element whose enqueue succeeded must have come out (`lost`
//!   otherwise), nothing that was never enqueued (`unexpected`). Elements that came out more often than
//!   they were put in are counted (`duplicated`), and forbidden only on request. A drain that ended
//!   with info may have taken anything, and a run that ended before its time did not drain: if something
//!   is missing then, the verdict is unknown. A single dequeue without an answer is no such excuse, as in
//!   Jepsen: a consumer that crashes with an element in its hands has lost it.

use std::collections::HashMap;

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, OpType, Value, Verdict};
use rustc_hash::FxBuildHasher;

use crate::budget::Meter;
use crate::elements::some;
use crate::independent::INDEPENDENT;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, or_not_checked, told};

/// What people read about `queue`.
pub const QUEUE: CheckerInfo = CheckerInfo {
    name: "queue",
    about: "Whether every dequeue took an element that had been enqueued and not been taken before. \
            Does not look at order, nor at what was never dequeued.",
    needs: &[need("dequeued", "no :dequeue took anything")],
    options: &[INDEPENDENT],
};

/// What people read about `total-queue`.
pub const TOTAL: CheckerInfo = CheckerInfo {
    name: "total-queue",
    about: "Whether everything that was successfully enqueued came out (lost) and nothing else \
            (unexpected), given that the queue was drained at the end. Elements that came out twice \
            are counted. What a dequeue without an answer may have taken is lost; after a drain without \
            an answer the verdict is unknown if something is missing.",
    needs: &[need("ok-count", "nothing that was enqueued came out")],
    options: &[
        OptionInfo {
            name: "duplicates",
            default: "allow",
            about: "allow, or forbid: whether elements may come out more often than they went in",
        },
        INDEPENDENT,
    ],
};

/// How many anomalies of a kind are told.
const ANOMALIES_MAX: usize = 8;

/// The checker `queue`.
#[derive(Debug, Clone, Copy)]
pub struct Queue;

/// Builds `queue`.
pub fn build_queue(options: &Options) -> Result<Queue, OptionError> {
    OptionReader::new(QUEUE.name, options, QUEUE.options)?;
    Ok(Queue)
}

impl Checker for Queue {
    fn name(&self) -> &'static str {
        QUEUE.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        check_queue(history)
    }
}

fn check_queue(history: &History) -> CheckResult {
    let mut inside: HashMap<&Value, u64, FxBuildHasher> = HashMap::default();
    let mut result = CheckResult::new(QUEUE.name, Verdict::Valid, "");
    let (mut enqueued, mut dequeued, mut unexpected) = (0u64, 0u64, 0u64);
    for (position, op) in crate::budget::ops(history).enumerate().filter(|(_, op)| op.is_client()) {
        let pair = history.pair(position);
        let failed = pair.is_some_and(|pair| history.ops()[pair].op_type == OpType::Fail);
        match (op.f.as_str(), op.op_type) {
            ("enqueue", OpType::Invoke) if !failed => {
                let element = match told::argument(op, pair.map(|pair| &history.ops()[pair])) {
                    Ok(element) => element,
                    Err(why) => return or_not_checked(QUEUE.name, Err(why)),
                };
                *inside.entry(element).or_default() += 1;
                enqueued += 1;
            }
            // Nothing was there to be taken.
            ("dequeue", OpType::Ok) if op.value.is_nil() => {}
            ("dequeue", OpType::Ok) => {
                dequeued += 1;
                let count = inside.entry(&op.value).or_default();
                if *count > 0 {
                    *count -= 1;
                    continue;
                }
                unexpected += 1;
                if result.anomalies.len() < ANOMALIES_MAX {
                    result.anomalies.push(Anomaly {
                        name: "unexpected".into(),
                        key: Some(op.value.to_string()),
                        text: format!(
                            "process {} dequeued {} at record {position}, which was not in the queue: \
                             never enqueued by then, or taken before",
                            op.process, op.value
                        ),
                        ops: pair.into_iter().chain([position]).map(|i| i as u64).collect(), ..Anomaly::default() });
                }
            }
            ("enqueue" | "dequeue", _) => {}
            (f, OpType::Invoke) if !failed => {
                let text = format!(
                    "not checked: record {position}: a queue has :enqueue and :dequeue, not :{f}"
                );
                return CheckResult::new(QUEUE.name, Verdict::Unknown, text);
            }
            _ => {}
        }
    }
    (result.verdict, result.reason) = match result.anomalies.first() {
        Some(first) => (Verdict::Invalid, first.text.clone()),
        None => {
            (Verdict::Valid, format!("each of {dequeued} dequeues took one of {enqueued} elements"))
        }
    };
    result.counts.insert("enqueued".into(), enqueued);
    result.counts.insert("dequeued".into(), dequeued);
    result.counts.insert("unexpected-count".into(), unexpected);
    result
}

/// The checker `total-queue`.
#[derive(Debug, Clone, Copy)]
pub struct TotalQueue {
    forbid_duplicates: bool,
}

/// Builds `total-queue`.
pub fn build_total(options: &Options) -> Result<TotalQueue, OptionError> {
    let reader = OptionReader::new(TOTAL.name, options, TOTAL.options)?;
    Ok(TotalQueue {
        forbid_duplicates: reader.word("duplicates", &["allow", "forbid"], "allow")? == "forbid",
    })
}

impl Checker for TotalQueue {
    fn name(&self) -> &'static str {
        TOTAL.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        self.check_one(history)
    }
}

/// How often an element went in and came out.
#[derive(Debug, Default, Clone)]
struct Flow {
    attempts: u64,
    acknowledged: u64,
    taken: u64,
    /// A record that shows each.
    put_at: Option<u64>,
    taken_at: Option<u64>,
}

impl TotalQueue {
    fn check_one(&self, history: &History) -> CheckResult {
        let (flows, open_drain) = match flows(history) {
            Ok(flows) => flows,
            Err(reason) => {
                let reason = format!("not checked: {reason}");
                return CheckResult::new(TOTAL.name, Verdict::Unknown, reason);
            }
        };
        let of = |wanted: fn(&Flow) -> u64| {
            let mut elements: Vec<(&Value, &Flow)> =
                flows.iter().filter(|(_, flow)| wanted(flow) > 0).map(|(v, f)| (*v, f)).collect();
            elements.sort_by(|a, b| a.0.cmp(b.0));
            let total: u64 = elements.iter().map(|(_, flow)| wanted(flow)).sum();
            (elements, total)
        };
        let (lost, lost_count) = of(|flow| flow.acknowledged.saturating_sub(flow.taken));
        let (unexpected, unexpected_count) = of(|f| if f.attempts == 0 { f.taken } else { 0 });
        let (duplicated, duplicated_count) =
            of(|f| if f.attempts > 0 { f.taken.saturating_sub(f.attempts) } else { 0 });
        let (_, recovered_count) =
            of(|flow| flow.taken.min(flow.attempts).saturating_sub(flow.acknowledged));
        let kinds = [
            ("lost", "was enqueued but never came out", &lost, true),
            ("unexpected", "came out but was never enqueued", &unexpected, true),
            (
                "duplicated",
                "came out more often than it went in",
                &duplicated,
                self.forbid_duplicates,
            ),
        ];
        let mut reasons = Vec::new();
        let mut result = CheckResult::new(TOTAL.name, Verdict::Valid, "");
        for (name, text, elements, counts) in kinds {
            if elements.is_empty() || !counts {
                continue;
            }
            let values: Vec<&Value> = elements.iter().map(|(value, _)| *value).collect();
            reasons.push(format!("{} {name}: {}", values.len(), some(values.into_iter())));
            let excuse = match name {
                "lost" if open_drain => {
                    Some("but a drain whose result is not known may have taken them")
                }
                "lost" if is_cut_short(history) => {
                    Some("but the run ended before its time, and the queue was not drained")
                }
                _ => None,
            };
            let verdict = excuse.map_or(Verdict::Invalid, |_| Verdict::Unknown);
            result.verdict = result.verdict.and(verdict);
            if let Some(excuse) = excuse {
                reasons.push(excuse.into());
                continue;
            }
            for (value, flow) in elements.iter().take(ANOMALIES_MAX) {
                result.anomalies.push(Anomaly {
                    name: name.into(),
                    key: Some(value.to_string()),
                    text: format!("{value} {text}"),
                    ops: [flow.put_at, flow.taken_at].into_iter().flatten().collect(),
                    ..Anomaly::default()
                });
            }
        }
        let acknowledged: u64 = flows.values().map(|flow| flow.acknowledged).sum();
        result.reason = match reasons.is_empty() {
            true => format!("all {acknowledged} elements that went in came out"),
            false => reasons.join("; "),
        };
        let counts = [
            ("attempt-count", flows.values().map(|flow| flow.attempts).sum()),
            ("acknowledged-count", acknowledged),
            ("ok-count", flows.values().map(|flow| flow.taken.min(flow.attempts)).sum()),
            ("lost-count", lost_count),
            ("unexpected-count", unexpected_count),
            ("duplicated-count", duplicated_count),
            ("recovered-count", recovered_count),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
        result
    }
}

/// Whether this is the history of a run of ours that was interrupted, or torn before its last phase. Other
/// histories tell neither.
fn is_cut_short(history: &History) -> bool {
    let (mut is_ours, mut is_whole) = (false, false);
    for op in crate::budget::ops(history).filter(|op| !op.is_client()) {
        match op.f.as_str() {
            "interrupted" => return true,
            "phase" => {
                is_ours = true;
                is_whole |= op.value.get("name").and_then(Value::as_text) == Some("teardown");
            }
            _ => {}
        }
    }
    is_ours && !is_whole
}

type Flows<'a> = HashMap<&'a Value, Flow, FxBuildHasher>;

/// What went in and came out, and whether a drain ended without saying what it took.
fn flows(history: &History) -> Result<(Flows<'_>, bool), String> {
    let mut flows: Flows = HashMap::default();
    let mut open_drain = false;
    for (invoke, completion) in crate::budget::client_pairs(history) {
        let outcome = completion.map_or(OpType::Info, |c| c.op_type);
        let ok = completion.filter(|_| outcome == OpType::Ok);
        match invoke.f.as_str() {
            "enqueue" => {
                let flow = flows.entry(told::argument(invoke, ok)?).or_default();
                // A failed enqueue counts as an attempt, as in the original.
                flow.attempts += 1;
                flow.acknowledged += u64::from(ok.is_some());
                flow.put_at.get_or_insert(invoke.index);
            }
            "dequeue" => {
                if let Some(done) = ok.filter(|done| !done.value.is_nil()) {
                    let flow = flows.entry(&done.value).or_default();
                    flow.taken += 1;
                    flow.taken_at = Some(done.index);
                }
            }
            "drain" => {
                let taken = match (ok, completion) {
                    (Some(done), _) => Some((done, done.value.items())),
                    // Some clients report what they had taken before they failed.
                    (None, Some(done)) if outcome == OpType::Info => {
                        open_drain = true;
                        Some((done, done.value.items().or(Some(&[]))))
                    }
                    (None, Some(_)) => None,
                    (None, None) => {
                        open_drain = true;
                        None
                    }
                };
                let Some((done, taken)) = taken else { continue };
                // Nil is nothing taken.
                let taken = taken.or(done.value.is_nil().then_some(&[][..])).ok_or_else(|| {
                    format!("record {}: a drain must return a list, not {}", done.index, done.value)
                })?;
                for value in taken {
                    let flow = flows.entry(value).or_default();
                    flow.taken += 1;
                    flow.taken_at = Some(done.index);
                }
            }
            _ if outcome == OpType::Fail => {}
            other => {
                return Err(format!(
                    "record {}: a queue has :enqueue, :dequeue and :drain, not :{other}",
                    invoke.index
                ));
            }
        }
    }
    Ok((flows, open_drain))
}
