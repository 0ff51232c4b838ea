//! `linearizable`: is there an order of the operations that respects real time and the object?
//!
//! Herlihy and Wing, "Linearizability: a correctness condition for concurrent objects" (1990). Objects
//! are registers, with or without compare-and-set; with `independent`, one for each key, checked in
//! parallel, the largest first. An algorithm is chosen for each key:
//! [`unique`] when each value that was seen was written once (O(n log n)), else [`search`] (exact;
//! exponential in the number of open calls at worst, in practice a few configurations at a time).
//!
//! Evidence: the operation that cannot be placed, a minimised sub-history that already proves it,
//! the last possible configurations, and the longest partial order.

pub mod calls;
mod evidence;
pub mod frontier;
mod minimise;
pub mod model;
pub mod search;
pub mod unique;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Value, Verdict};
use serde_json::json;

use crate::budget::{Budget, Meter};
use crate::linearizable::calls::{KeyCalls, KeyedCall, RegisterCalls, RegisterOptions};
use crate::linearizable::evidence::Context;
use crate::linearizable::minimise::problem;
use crate::linearizable::model::{Register, RegisterCall};
use crate::linearizable::search::{GaveUp, NEVER, Outcome, SearchStats, search};
use crate::linearizable::unique::{UniqueOutcome, check_unique};
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, json_value};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "linearizable",
    about: "Whether the operations can be put in one order that respects real time, in which every \
            read returns the last value written and every cas replaces the value it names. \
            Operations that ended with info may take effect at any later time or never; failed ones \
            never. Functions: read (nil, then the value), write (value), cas ([old new]). Exact; \
            past its budget unknown.",
    options: &[
        OptionInfo {
            name: "model",
            default: "cas-register",
            about: "register (read and write) or cas-register (also cas)",
        },
        OptionInfo {
            name: "independent",
            default: "false",
            about: "values are [key value] and each key is an object of its own",
        },
        OptionInfo { name: "initial", default: "nil", about: "the value at the start" },
        OptionInfo {
            name: "failed-cas",
            default: "ignore",
            about: "ignore, or observe: a failed cas proves that the value was not the old one",
        },
        OptionInfo {
            name: "stop-at-first",
            default: "false",
            about: "stop at the first key that is not linearizable",
        },
        OptionInfo {
            name: "algorithm",
            default: "auto",
            about: "auto, or search: never use the special case for values written once",
        },
    ],
};

/// A search without a memory budget of its own stops here, so that it gives an answer and not an
/// out-of-memory kill.
const MEMORY_BYTES_DEFAULT: u64 = 4 << 30;
/// How long making one counter-example small may take.
const MINIMISE_TIME: Duration = Duration::from_secs(3);
/// How many failing keys get a counter-example of their own.
const ANOMALIES_MAX: usize = 8;

/// The checker.
#[derive(Debug, Clone)]
pub struct Linearizable {
    options: RegisterOptions,
    stop_at_first: bool,
    search_only: bool,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Linearizable, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let model = reader.word("model", &["register", "cas-register"], "cas-register")?;
    Ok(Linearizable {
        options: RegisterOptions {
            cas: model == "cas-register",
            independent: reader.bool("independent", false)?,
            failed_cas_observes: reader.word("failed-cas", &["ignore", "observe"], "ignore")?
                == "observe",
            initial: reader.raw("initial").map_or(Value::Nil, json_value),
        },
        stop_at_first: reader.bool("stop-at-first", false)?,
        search_only: reader.word("algorithm", &["auto", "search"], "auto")? == "search",
    })
}

/// What was found for one key.
struct KeyResult {
    key: usize,
    verdict: Verdict,
    reason: String,
    anomaly: Option<Anomaly>,
    algorithm: &'static str,
    stats: SearchStats,
}

impl Checker for Linearizable {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn check(&self, history: &History, budget: &Budget) -> CheckResult {
        let memory_bytes = budget.memory_bytes.unwrap_or(MEMORY_BYTES_DEFAULT);
        let meter = Budget { memory_bytes: Some(memory_bytes), ..*budget }.start();
        let mut result = match calls::register_calls(history, &self.options) {
            Err(error) => {
                CheckResult::new(INFO.name, Verdict::Unknown, format!("not checked: {error}"))
            }
            Ok(read) => self.check_keys(history, &read, &meter),
        };
        result.elapsed_ms = meter.elapsed_ms();
        result
    }
}

impl Linearizable {
    fn check_keys(&self, history: &History, read: &RegisterCalls, meter: &Meter) -> CheckResult {
        let mut order: Vec<usize> = (0..read.keys.len()).collect();
        order.sort_by_key(|&key| std::cmp::Reverse(read.keys[key].calls.len()));
        let threads = crate::threads().min(order.len()).max(1);
        let shared = meter.share(threads);
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let shown = AtomicUsize::new(0);
        let found: Mutex<Vec<KeyResult>> = Mutex::new(Vec::new());
        let work = || {
            while let Some(&key) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let result = self.check_key(history, read, key, &shared, &shown);
                if result.verdict == Verdict::Invalid && self.stop_at_first {
                    stop.store(true, Ordering::Relaxed);
                }
                found.lock().unwrap_or_else(|e| e.into_inner()).push(result);
            }
        };
        if threads == 1 {
            work();
        } else {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(work);
                }
            });
        }
        let mut found = found.into_inner().unwrap_or_else(|e| e.into_inner());
        found.sort_by_key(|result| result.key);
        self.combine(read, found)
    }

    fn check_key(
        &self,
        history: &History,
        read: &RegisterCalls,
        key: usize,
        meter: &Meter,
        shown: &AtomicUsize,
    ) -> KeyResult {
        let KeyCalls { key: key_value, calls } = &read.keys[key];
        let local = Local::new(calls, &read.values);
        let context = Context {
            history,
            key: self.options.independent.then_some(key_value),
            calls: &local.calls,
            values: &local.values,
        };
        let mut result = KeyResult {
            key,
            verdict: Verdict::Valid,
            reason: String::new(),
            anomaly: None,
            algorithm: "unique-values",
            stats: SearchStats::default(),
        };
        let unique = match self.search_only {
            true => None,
            false => check_unique(&local.calls, local.values.len()),
        };
        let start = match unique {
            Some(UniqueOutcome::Linearizable) => return result,
            Some(UniqueOutcome::Conflict(culprits)) => Some(stuck_among(&local, culprits)),
            None => {
                result.algorithm = "search";
                search_key(&local, meter, &mut result)
            }
        };
        let Some((stuck, start)) = start else { return result };
        result.verdict = Verdict::Invalid;
        let described = context.describe(local.calls[stuck].call);
        result.reason = format!("{described} (record {}) fits nowhere", local.calls[stuck].invoke);
        if shown.fetch_add(1, Ordering::Relaxed) < ANOMALIES_MAX {
            // A verdict stands without its evidence, so this may overrun the budget a little.
            let small = Budget { time: Some(MINIMISE_TIME), memory_bytes: Some(256 << 20) }.start();
            result.anomaly = Some(evidence::anomaly(&context, start, stuck, &small));
        }
        result
    }

    fn combine(&self, read: &RegisterCalls, found: Vec<KeyResult>) -> CheckResult {
        let verdict = found.iter().fold(Verdict::Valid, |all, key| all.and(key.verdict));
        let operations: usize = read.keys.iter().map(|key| key.calls.len()).sum();
        let of = |verdict| found.iter().filter(move |key| key.verdict == verdict);
        let key_text = |result: &KeyResult| match self.options.independent {
            true => format!("key {}: ", read.keys[result.key].key),
            false => String::new(),
        };
        let keys = if self.options.independent {
            format!(" on {} keys", read.keys.len())
        } else {
            String::new()
        };
        let reason = match verdict {
            Verdict::Valid => format!("{operations} operations{keys} are linearizable"),
            bad => {
                let first = of(bad).next().map(|key| (key_text(key), key.reason.clone()));
                let (key, why) = first.unwrap_or_default();
                let more = match of(bad).count() {
                    0 | 1 => String::new(),
                    count => format!(" (and {} more keys)", count - 1),
                };
                let what = if bad == Verdict::Invalid { "not linearizable" } else { "undecided" };
                format!("{what}: {key}{why}{more}")
            }
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        result.counts.insert("operations".into(), operations as u64);
        if self.options.independent {
            let counts = [
                ("keys", read.keys.len()),
                ("keys-checked", found.len()),
                ("keys-invalid", of(Verdict::Invalid).count()),
                ("keys-unknown", of(Verdict::Unknown).count()),
            ];
            for (name, count) in counts {
                result.counts.insert(name.into(), count as u64);
            }
        }
        let configs_max = found.iter().map(|key| key.stats.configs_max).max().unwrap_or(0);
        let steps: u64 = found.iter().map(|key| key.stats.steps).sum();
        let searched = found.iter().filter(|key| key.algorithm == "search").count();
        result.details = json!({
            "model": if self.options.cas { "cas-register" } else { "register" },
            "keys_by_search": searched,
            "keys_by_unique_values": found.len() - searched,
            "configurations_max": configs_max,
            "steps": steps,
        });
        result.anomalies = found.into_iter().filter_map(|key| key.anomaly).collect();
        // The smallest counter-example tells most.
        result.anomalies.sort_by_key(|anomaly| anomaly.ops.len());
        result
    }
}

/// Searches; gives the stuck call with the calls up to its return if there is no order.
fn search_key(local: &Local, meter: &Meter, result: &mut KeyResult) -> Option<(usize, Vec<usize>)> {
    let chosen = relevant(&local.calls, local.values.len());
    let whole = problem(&local.calls, chosen.iter().copied());
    let mut register = Register { classes: &whole.classes, value_count: local.values.len() };
    match search(&mut register, &whole.calls, meter) {
        Outcome::Linearizable(stats) => {
            result.stats = stats;
            None
        }
        Outcome::GaveUp(gave_up) => {
            result.verdict = Verdict::Unknown;
            result.stats = gave_up.stats;
            result.reason = how_far(&gave_up, whole.calls.len());
            None
        }
        Outcome::Stuck(stuck) => {
            result.stats = stuck.stats;
            let at = chosen[stuck.call];
            let end = local.calls[at].ret;
            Some((at, chosen.into_iter().filter(|&i| local.calls[i].invoke < end).collect()))
        }
    }
}

/// Which of the calls that exclude each other gets stuck.
fn stuck_among(local: &Local, culprits: Vec<usize>) -> (usize, Vec<usize>) {
    let few = problem(&local.calls, culprits.iter().copied());
    let mut register = Register { classes: &few.classes, value_count: local.values.len() };
    let meter = Budget { time: Some(MINIMISE_TIME), memory_bytes: Some(256 << 20) }.start();
    let stuck = match search(&mut register, &few.calls, &meter) {
        Outcome::Stuck(stuck) => culprits[stuck.call],
        _ => culprits.iter().copied().max().unwrap_or(0),
    };
    (stuck, culprits)
}

fn how_far(gave_up: &GaveUp, calls: usize) -> String {
    format!(
        "{} after {} of {} operations had returned, with {} configurations possible and {} operations \
         open, {} of them for ever (info). Fewer operations at a time on one key, fewer or shorter \
         faults (each info operation stays possible for ever), unique values, or a larger budget \
         would help",
        gave_up.why,
        gave_up.returned,
        calls,
        gave_up.config_count,
        gave_up.open,
        gave_up.open_for_ever,
    )
}

/// Leaves out calls that may have happened but whose value nobody can have seen: an order with such a
/// call is an order without it, since only an overwrite can follow.
fn relevant(calls: &[KeyedCall], value_count: usize) -> Vec<usize> {
    if calls.iter().any(|call| matches!(call.call, RegisterCall::Differs(_))) {
        return (0..calls.len()).collect();
    }
    let mut chosen: Vec<usize> = (0..calls.len()).collect();
    loop {
        // When each value was last seen; a call that may still happen sees at any time.
        let mut last_seen: Vec<Option<u32>> = vec![None; value_count];
        for call in chosen.iter().map(|&i| &calls[i]) {
            if let RegisterCall::Read(value) | RegisterCall::Cas(value, _) = call.call {
                let seen = &mut last_seen[value as usize];
                *seen = (*seen).max(Some(call.ret));
            }
        }
        let before = chosen.len();
        chosen.retain(|&i| {
            let call = &calls[i];
            match call.call {
                RegisterCall::Write(value) | RegisterCall::Cas(_, value) if call.ret == NEVER => {
                    last_seen[value as usize].is_some_and(|seen| seen > call.invoke)
                }
                _ => true,
            }
        });
        if chosen.len() == before {
            return chosen;
        }
    }
}

/// The calls of one key with values numbered for themselves, the initial one 0.
struct Local<'a> {
    calls: Vec<KeyedCall>,
    values: Vec<&'a Value>,
}

impl<'a> Local<'a> {
    fn new(calls: &[KeyedCall], all: &'a [Value]) -> Local<'a> {
        let mut numbers: std::collections::HashMap<u32, u32, rustc_hash::FxBuildHasher> =
            Default::default();
        let mut values = vec![&all[0]];
        numbers.insert(0, 0);
        let mut number = |global: u32| {
            *numbers.entry(global).or_insert_with(|| {
                values.push(&all[global as usize]);
                values.len() as u32 - 1
            })
        };
        let calls = calls
            .iter()
            .map(|call| KeyedCall {
                call: match call.call {
                    RegisterCall::Read(value) => RegisterCall::Read(number(value)),
                    RegisterCall::Write(value) => RegisterCall::Write(number(value)),
                    RegisterCall::Cas(a, b) => RegisterCall::Cas(number(a), number(b)),
                    RegisterCall::Differs(value) => RegisterCall::Differs(number(value)),
                },
                ..*call
            })
            .collect();
        Local { calls, values }
    }
}
