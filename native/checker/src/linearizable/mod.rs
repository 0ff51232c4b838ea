//! `linearizable`: is there an order of the operations that respects real time and the object?
//!
//! Herlihy and Wing, "Linearizability: a correctness condition for concurrent objects" (1990). Objects
//! are registers, with or without compare-and-set, and those of [`models`]; with `independent`, one for each
//! key, checked in parallel, the largest first. An algorithm is chosen for each key, by what it holds:
//! - [`unique`]: registers of which each value that was seen was written once, O(n log n);
//! - [`unambiguous`]: queues, stacks, priority queues and unordered queues whose elements are each put in
//!   once, O(n log n);
//! - [`snapshots`]: sets that only grow, each element added once, and are read whole, O(n log n);
//! - sets of which no operation concerns more than one element: each element apart;
//! - else [`search`], after conditions that every order fulfils ([`necessary`]): exact; exponential in the
//!   number of open calls at worst, in practice a few configurations at a time.
//!
//! Of several keys, all are decided that few steps decide. If one of them is not linearizable, those
//! that need a long search are left undecided, unless `all-keys` asks for them.
//!
//! Evidence: the operation that cannot be placed, a minimised sub-history that already proves it,
//! the last possible configurations, and the longest partial order. As data:
//! - `Anomaly::ops`: positions of the records of that sub-history, those of the stuck operation first;
//! - `Anomaly::longest_order`: positions of the invocations of the longest order of some of its operations that
//!   respects real time and the object, in that order (empty for more than 200 operations);
//! - `details.evidence`, one for each anomaly in the same order: `{key, op, operation, operations,
//!   configuration_count, configurations: [{state, in_effect, not_in_effect}]}`. `op` is the position of the stuck
//!   invocation, `operations` are those of all invocations of the sub-history, `state` is the value of the
//!   object as text, just before the stuck operation returned, and the two lists are the positions of
//!   invocations that were open then and had taken effect (or would go unnoticed), or had still to.

pub mod calls;
mod evidence;
pub mod frontier;
pub mod machine;
mod minimise;
pub mod model;
mod modelled;
pub mod models;
mod necessary;
mod registers;
pub mod search;
pub mod snapshots;
mod subject;
pub mod unambiguous;
pub mod unique;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::sync::lock;
use fuzz_dist_core::{CheckResult, History, OpType, Value, Verdict};
use serde_json::json;

use crate::budget::{Budget, Meter};
use crate::linearizable::calls::RegisterOptions;
use crate::linearizable::evidence::Evidence;
use crate::linearizable::modelled::ModelSubject;
use crate::linearizable::models::Model;
use crate::linearizable::registers::RegisterSubject;
use crate::linearizable::search::portfolio::Strategy;
use crate::linearizable::search::{GaveUp, SearchStats};
use crate::linearizable::subject::Subject;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, json_value, or_not_checked};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "linearizable",
    about: "Whether the operations can be put in one order that respects real time, in which every \
            read returns the last value written and every cas replaces the value it names. \
            Operations that ended with info may take effect at any later time or never; failed ones \
            never. Functions: read (nil, then the value), write (value), cas ([old new]). Exact; \
            past its budget unknown.",
    needs: &[need("operations-ok", "no operation succeeded")],
    options: &[
        OptionInfo {
            name: "model",
            default: "cas-register",
            about: "register (read and write), cas-register (also cas), multi-register (txn of [:read k v] \
                    and [:write k v]), mutex (acquire, release), fifo-queue and unordered-queue (enqueue, \
                    dequeue), stack (push, pop), priority-queue (insert, delete-min or delete-max), set \
                    (add, remove, contains, read), map (get, put and append of text, by key), \
                    versioned-register (read, write and cas of [version value]), counter (increment, \
                    decrement and add of an integer, negative ones too; read is exact)",
        },
        OptionInfo {
            name: "independent",
            default: "false",
            about: "values are [key value] and each key is an object of its own",
        },
        OptionInfo {
            name: "initial",
            default: "nil",
            about: "the value at the start: of a register any, of queues, stacks and sets a list, of a mutex \
                    whether it is held, of a counter an integer (0), of a multi-register a map, of a map the text of each key, of a \
                    versioned-register [version value]; lists and maps as JSON",
        },
        OptionInfo {
            name: "priority",
            default: "least",
            about: "what comes out of a priority-queue first, least or greatest; of elements [priority payload] \
                    the first part counts",
        },
        OptionInfo {
            name: "failed-cas",
            default: "ignore",
            about: "ignore, or observe: a failed cas proves that the value was not the old one",
        },
        OptionInfo {
            name: "nil-read",
            default: "value",
            about: "of registers: value, a read of nil says that the register holds nil; or unknown, it says \
                    nothing, as Knossos takes it",
        },
        OptionInfo {
            name: "stop-at-first",
            default: "false",
            about: "stop at the first key that is not linearizable",
        },
        OptionInfo {
            name: "all-keys",
            default: "false",
            about: "once a key is not linearizable, still decide the other keys that need a long search",
        },
        OptionInfo {
            name: "algorithm",
            default: "auto",
            about: "auto; search: use no special case, such as that for values written once; depth-first or \
                    breadth-first: search with one strategy only",
        },
    ],
};

/// A search without a memory budget of its own stops here, so that it gives an answer and not an
/// out-of-memory kill.
const MEMORY_BYTES_DEFAULT: u64 = 4 << 30;
/// How long making counter-examples small may take, all of them together.
const MINIMISE_TIME: Duration = Duration::from_secs(3);
/// How long it may take for each, even past the budget.
const EXPLAIN_TIME_MIN: Duration = Duration::from_millis(50);
/// A single object of more calls is searched by both strategies at once: trying it quickly first would
/// cost more than it saves.
const QUICK_CALLS_MAX_OF_ONE: usize = 10_000;
/// And how much memory.
const MINIMISE_BYTES: u64 = 256 << 20;
/// How many failing keys get a counter-example of their own.
const ANOMALIES_MAX: usize = 8;

/// The models that are registers; [`models::NAMES`] are the others.
const REGISTERS: [&str; 2] = ["register", "cas-register"];

/// The checker.
pub struct Linearizable {
    object: Object,
    independent: bool,
    stop_at_first: bool,
    all_keys: bool,
    special: bool,
    strategy: Strategy,
}

impl std::fmt::Debug for Linearizable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Linearizable({})", self.model_name())
    }
}

/// What kind of object.
enum Object {
    Register(RegisterOptions),
    Modelled(Box<dyn Model>),
}

/// Builds it.
pub fn build(options: &Options) -> Result<Linearizable, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let names: Vec<&str> = REGISTERS.into_iter().chain(models::NAMES).collect();
    let name = reader.word("model", &names, "cas-register")?;
    let independent = reader.bool("independent", false)?;
    let observe = reader.word("failed-cas", &["ignore", "observe"], "ignore")? == "observe";
    let nil_reads_are_unknown =
        reader.word("nil-read", &["value", "unknown"], "value")? == "unknown";
    let initial = reader.raw("initial").map(initial_value);
    let greatest_first = reader.word("priority", &["least", "greatest"], "least")? == "greatest";
    let object = match models::model(name, initial.clone(), greatest_first) {
        Some(Ok(model)) => Object::Modelled(model),
        Some(Err(expected)) => {
            let given = reader.raw("initial").cloned().unwrap_or_default();
            return Err(reader.bad("initial", &given, expected, String::new()));
        }
        None => Object::Register(RegisterOptions {
            cas: name == "cas-register",
            independent,
            failed_cas_observes: observe,
            nil_reads_are_unknown,
            initial: initial.unwrap_or_default(),
        }),
    };
    let algorithms = ["auto", "search", "depth-first", "breadth-first"];
    let algorithm = reader.word("algorithm", &algorithms, "auto")?;
    Ok(Linearizable {
        object,
        independent,
        stop_at_first: reader.bool("stop-at-first", false)?,
        all_keys: reader.bool("all-keys", false)?,
        special: algorithm == "auto",
        strategy: match algorithm {
            "depth-first" => Strategy::DepthFirst,
            "breadth-first" => Strategy::BreadthFirst,
            _ => Strategy::SideBySide,
        },
    })
}

/// A value at the start. Lists and maps may be given as text, since `--option k=v` gives text.
fn initial_value(given: &serde_json::Value) -> Value {
    let parsed = given
        .as_str()
        .filter(|text| text.starts_with(['[', '{', '"']))
        .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    match parsed {
        // Quoted text is text, even if it reads as a number.
        Some(serde_json::Value::String(text)) => Value::str(text),
        Some(json) => json_value(&json),
        None => json_value(given),
    }
}

/// How one object is to be decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// Whether special cases and cheap conditions come before the search.
    pub special: bool,
    pub strategy: Strategy,
    /// Only what few steps decide.
    pub quick: bool,
}

/// What was decided of one object.
pub(crate) struct Decision {
    verdict: Verdicts,
    by_search: bool,
    stats: SearchStats,
}

/// The answer for one object.
pub(crate) enum Verdicts {
    Linearizable,
    /// Calls (by index) that cannot be linearized, and the one that gets stuck.
    Stuck {
        stuck: usize,
        start: Vec<usize>,
    },
    GaveUp {
        gave_up: Box<GaveUp>,
        call_count: usize,
    },
}

/// What was found for one key.
struct KeyResult {
    key: usize,
    verdict: Verdict,
    reason: String,
    evidence: Option<Evidence>,
    by_search: bool,
    stats: SearchStats,
}

/// The objects of a history, whatever they are.
trait Objects: Sync {
    fn count(&self) -> usize;
    fn key(&self, object: usize) -> Option<&Value>;
    fn call_count(&self, object: usize) -> usize;
    /// Decides one object and, if it is not linearizable, passes it on to be explained. `None` if it
    /// was to be quick and was not.
    fn decide(
        &self,
        object: usize,
        how: How,
        meter: &Meter,
        explain: &mut dyn FnMut(&dyn Subject, &Decision),
    ) -> Option<Decision>;
}

struct Registers<'a> {
    history: &'a History,
    read: calls::RegisterCalls,
    independent: bool,
}

impl Objects for Registers<'_> {
    fn count(&self) -> usize {
        self.read.keys.len()
    }

    fn key(&self, object: usize) -> Option<&Value> {
        self.independent.then(|| &self.read.keys[object].key)
    }

    fn call_count(&self, object: usize) -> usize {
        self.read.keys[object].calls.len()
    }

    fn decide(
        &self,
        object: usize,
        how: How,
        meter: &Meter,
        explain: &mut dyn FnMut(&dyn Subject, &Decision),
    ) -> Option<Decision> {
        let calls = &self.read.keys[object].calls;
        let subject =
            RegisterSubject::new(self.history, self.key(object), calls, &self.read.values);
        let decision = subject.decide(how, meter)?;
        if matches!(decision.verdict, Verdicts::Stuck { .. }) {
            explain(&subject.with_spans(), &decision);
        }
        Some(decision)
    }
}

struct Modelled<'a> {
    history: &'a History,
    model: &'a dyn Model,
    objects: Vec<modelled::ModelCalls>,
}

impl Objects for Modelled<'_> {
    fn count(&self) -> usize {
        self.objects.len()
    }

    fn key(&self, object: usize) -> Option<&Value> {
        self.objects[object].key.as_ref()
    }

    fn call_count(&self, object: usize) -> usize {
        self.objects[object].actions.len()
    }

    fn decide(
        &self,
        object: usize,
        how: How,
        meter: &Meter,
        explain: &mut dyn FnMut(&dyn Subject, &Decision),
    ) -> Option<Decision> {
        let calls = &self.objects[object];
        let subject = ModelSubject { history: self.history, model: self.model, calls };
        let decision = subject.decide(how, meter)?;
        if matches!(decision.verdict, Verdicts::Stuck { .. }) {
            explain(&subject, &decision);
        }
        Some(decision)
    }
}

impl Checker for Linearizable {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        if !history.has_real_time() {
            let reason = "not checked: the history tells only the order within each session, and whether \
                          operations are linearizable is a question of real time";
            return CheckResult::new(INFO.name, Verdict::Unknown, reason);
        }
        let meter = &meter.with_memory_if_unlimited(MEMORY_BYTES_DEFAULT);
        let checked = match &self.object {
            Object::Register(options) => calls::register_calls(history, options).map(|read| {
                let independent = self.independent;
                self.check_objects(&Registers { history, read, independent }, meter)
            }),
            Object::Modelled(model) => {
                let model = model.as_ref();
                modelled::model_calls(history, model, self.independent)
                    .map(|objects| self.check_objects(&Modelled { history, model, objects }, meter))
            }
        };
        let mut result = or_not_checked(INFO.name, checked);
        if result.counts.contains_key("operations") {
            let ok = history.client_ops().filter(|op| op.op_type == OpType::Ok).count();
            result.counts.insert("operations-ok".into(), ok as u64);
        }
        result
    }
}

impl Linearizable {
    /// A checker of a model of one's own.
    pub fn of_model(model: Box<dyn Model>) -> Linearizable {
        Linearizable {
            object: Object::Modelled(model),
            independent: false,
            stop_at_first: false,
            all_keys: false,
            special: true,
            strategy: Strategy::SideBySide,
        }
    }

    /// The same for values that are `[key value]`, where each key is an object of its own.
    pub fn independent(self, independent: bool) -> Linearizable {
        Linearizable { independent, ..self }
    }

    fn model_name(&self) -> &'static str {
        match &self.object {
            Object::Register(options) if options.cas => "cas-register",
            Object::Register(_) => "register",
            Object::Modelled(model) => model.name(),
        }
    }

    fn check_objects(&self, objects: &dyn Objects, meter: &Meter) -> CheckResult {
        let mut order: Vec<usize> = (0..objects.count()).collect();
        order.sort_by_key(|&object| std::cmp::Reverse(objects.call_count(object)));
        let how = How { special: self.special, strategy: self.strategy, quick: false };
        let work = Work { objects, meter, explaining: Explaining::default() };
        let side_by_side = self.strategy == Strategy::SideBySide;
        let is_one_large =
            order.len() == 1 && objects.call_count(order[0]) > QUICK_CALLS_MAX_OF_ONE;
        if !side_by_side || is_one_large {
            let (found, _) = work.each(&order, how, self.stop_at_first);
            return self.combine(objects, found);
        }
        let (mut found, mut hard) =
            work.each(&order, How { quick: true, ..how }, self.stop_at_first);
        // The smallest are likely to be decided first.
        hard.sort_by_key(|&object| (objects.call_count(object), object));
        let is_invalid = |key: &KeyResult| key.verdict == Verdict::Invalid;
        for object in hard {
            if !self.all_keys && found.iter().any(is_invalid) {
                break;
            }
            found.extend(work.one(object, how, meter));
        }
        found.sort_by_key(|result| result.key);
        self.combine(objects, found)
    }

    fn combine(&self, objects: &dyn Objects, found: Vec<KeyResult>) -> CheckResult {
        let verdict = found.iter().fold(Verdict::Valid, |all, key| all.and(key.verdict));
        let operations: usize = (0..objects.count()).map(|object| objects.call_count(object)).sum();
        let of = |verdict| found.iter().filter(move |key| key.verdict == verdict);
        let is_keyed = (0..objects.count()).any(|object| objects.key(object).is_some());
        let keys = match is_keyed {
            true => format!(" on {} keys", objects.count()),
            false => String::new(),
        };
        let reason = match verdict {
            Verdict::Valid => format!("{operations} operations{keys} are linearizable"),
            bad => {
                let what = if bad == Verdict::Invalid { "not linearizable" } else { "undecided" };
                let more = match of(bad).count() {
                    0 | 1 => String::new(),
                    count => format!(" (and {} more keys)", count - 1),
                };
                let first = of(bad).next().map(|result| {
                    let key = objects.key(result.key).map(|key| format!("key {key}: "));
                    format!("{}{}", key.unwrap_or_default(), result.reason)
                });
                format!("{what}: {}{more}", first.unwrap_or_default())
            }
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        result.counts.insert("operations".into(), operations as u64);
        if is_keyed {
            let counts = [
                ("keys", objects.count()),
                ("keys-checked", found.len()),
                ("keys-invalid", of(Verdict::Invalid).count()),
                ("keys-unknown", of(Verdict::Unknown).count()),
            ];
            for (name, count) in counts {
                result.counts.insert(name.into(), count as u64);
            }
        }
        let mut shown: Vec<serde_json::Value> = Vec::new();
        let searched = found.iter().filter(|key| key.by_search).count();
        result.details = json!({
            "model": self.model_name(),
            "keys_by_search": searched,
            "keys_by_special_case": found.len() - searched,
            "configurations_max": found.iter().map(|key| key.stats.configs_max).max().unwrap_or(0),
            "steps": found.iter().map(|key| key.stats.steps).sum::<u64>(),
        });
        let mut evidence: Vec<Evidence> =
            found.into_iter().filter_map(|key| key.evidence).collect();
        // The smallest counter-example tells most.
        evidence.sort_by_key(|evidence| evidence.anomaly.ops.len());
        for Evidence { anomaly, details } in evidence {
            result.anomalies.push(anomaly);
            shown.push(details);
        }
        if !shown.is_empty() {
            result.details["evidence"] = shown.into();
        }
        result
    }
}

/// Decides objects, and explains those that are not linearizable.
struct Work<'a> {
    objects: &'a dyn Objects,
    meter: &'a Meter,
    explaining: Explaining,
}

/// How many counter-examples there are, and how long making them small may take: together so long as one.
#[derive(Default)]
struct Explaining {
    shown: AtomicUsize,
    until: OnceLock<Instant>,
}

impl Explaining {
    /// The meter to make one more small, if it is to be shown.
    fn next(&self, meter: &Meter) -> Option<Meter> {
        let until = *self.until.get_or_init(|| Instant::now() + MINIMISE_TIME);
        let left = until.saturating_duration_since(Instant::now());
        let is_shown = self.shown.fetch_add(1, Ordering::Relaxed) < ANOMALIES_MAX;
        is_shown.then(|| meter.beyond(EXPLAIN_TIME_MIN, left.max(EXPLAIN_TIME_MIN), MINIMISE_BYTES))
    }
}

impl Work<'_> {
    /// Decides objects on all cores; also those that were to be decided quickly and were not.
    fn each(&self, order: &[usize], how: How, stop_at_first: bool) -> (Vec<KeyResult>, Vec<usize>) {
        let threads = crate::threads().min(order.len()).max(1);
        let shared = self.meter.share(threads);
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let done: Mutex<(Vec<KeyResult>, Vec<usize>)> = Mutex::default();
        let work = || {
            while let Some(&object) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                match self.one(object, how, &shared) {
                    None => lock(&done).1.push(object),
                    Some(result) => {
                        if result.verdict == Verdict::Invalid && stop_at_first {
                            stop.store(true, Ordering::Relaxed);
                        }
                        lock(&done).0.push(result);
                    }
                }
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
        let (mut found, hard) = done.into_inner().unwrap_or_else(|e| e.into_inner());
        found.sort_by_key(|result| result.key);
        (found, hard)
    }

    /// Decides one object; `None` if it was to be quick and was not.
    fn one(&self, object: usize, how: How, meter: &Meter) -> Option<KeyResult> {
        let decided = meter.within(|| self.decide(object, how, meter));
        decided.unwrap_or_else(|why| {
            let reason = format!("{why} before the search began; a larger budget would help");
            let stats = SearchStats::default();
            let verdict = Verdict::Unknown;
            let evidence = None;
            Some(KeyResult { key: object, verdict, reason, evidence, by_search: false, stats })
        })
    }

    fn decide(&self, object: usize, how: How, meter: &Meter) -> Option<KeyResult> {
        let (mut evidence, mut invalid_reason) = (None, String::new());
        let decision = self.objects.decide(object, how, meter, &mut |subject, decision| {
            let Verdicts::Stuck { stuck, start } = &decision.verdict else { return };
            let record = subject.spans()[*stuck].invoke;
            invalid_reason =
                format!("{} (record {record}) fits nowhere", evidence::name(subject, *stuck));
            // A verdict stands without its evidence, so this may overrun the budget a little.
            if let Some(small) = self.explaining.next(meter) {
                let words = meter.aside(EXPLAIN_TIME_MIN, MINIMISE_BYTES);
                // What polls the budget of the check must not end here: the answer is known.
                let start = start.clone();
                let explained = Budget::UNLIMITED
                    .start()
                    .within(|| evidence::evidence(subject, start, *stuck, &small, &words));
                evidence = explained.ok();
            }
        })?;
        let (verdict, reason) = match &decision.verdict {
            Verdicts::Linearizable => (Verdict::Valid, String::new()),
            Verdicts::Stuck { .. } => (Verdict::Invalid, invalid_reason),
            Verdicts::GaveUp { gave_up, call_count } => {
                (Verdict::Unknown, how_far(gave_up, *call_count))
            }
        };
        let Decision { by_search, stats, .. } = decision;
        Some(KeyResult { key: object, verdict, reason, evidence, by_search, stats })
    }
}

fn how_far(gave_up: &GaveUp, calls: usize) -> String {
    format!(
        "{} after {} of {calls} operations had returned, with {} configurations possible and {} \
         operations open, {} of them for ever (info). Fewer operations at a time on one key, fewer or \
         shorter faults (each info operation stays possible for ever), unique values, or a larger budget \
         would help",
        gave_up.why, gave_up.returned, gave_up.config_count, gave_up.open, gave_up.open_for_ever,
    )
}
