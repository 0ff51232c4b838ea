//! Checkers: whether a recorded history has a property, with evidence when it has not.
//!
//! One property a module, named after the property. [`build`] makes a checker from a spec, [`check_all`]
//! composes several, [`vacuity`] says when a pass would mean nothing, [`catalogue`] explains all.
//! A checker answers `valid` only for what it has decided; want of evidence and used-up budgets are
//! `unknown`.

pub mod adya;
pub mod agreement;
pub mod availability;
pub mod bank;
mod budget;
pub mod causal;
pub mod causal_reverse;
mod compose;
pub mod counter;
pub mod delivery;
mod elements;
pub mod elle;
mod faults;
pub mod final_reads;
mod finals;
mod independent;
pub mod kafka;
pub mod latency;
pub mod linearizable;
pub mod lock;
pub mod log_file_pattern;
pub mod long_fork;
pub mod monotonic;
mod naming;
mod needs;
mod numbering;
mod one_object;
mod only;
mod options;
pub mod or_set;
pub mod pn_counter;
pub mod queues;
mod ranges;
pub mod recovery;
pub mod registry;
pub mod sequential;
pub mod set;
pub mod set_full;
pub mod stats;
mod told;
pub mod unique_ids;
mod vacuity;

pub use budget::{Budget, Exhausted, Meter};
pub use compose::{check_all, none_checked, sole};
pub use needs::{Need, judged};
use only::ONLY;
use options::OptionReader;
pub use options::{OptionError, OptionInfo, did_you_mean};
pub use vacuity::vacuity;

use fuzz_dist_core::spec::CheckerSpec;
use fuzz_dist_core::{CheckResult, History, Value, Verdict};

/// Decides one property.
pub trait Checker: Send + Sync {
    /// The name of the property.
    fn name(&self) -> &'static str;
    /// Whether it is valid by definition as it is built, so that nothing is decided by it alone.
    fn only_reports(&self) -> bool {
        false
    }

    /// Decides it for a history, within a budget that is being used. The result's time is filled in by
    /// [`Checker::check`].
    fn decide(&self, history: &History, meter: &Meter) -> CheckResult;

    /// Decides it for a history, within the budget, and says how long that took.
    fn check(&self, history: &History, budget: &Budget) -> CheckResult {
        let meter = budget.start();
        let decided =
            meter.check_time().and_then(|()| meter.within(|| self.decide(history, &meter)));
        let result = decided.unwrap_or_else(|why| {
            let reason = format!("not decided: {why}; a larger budget would help");
            CheckResult::new(self.name(), Verdict::Unknown, reason)
        });
        let result = naming::as_read(result, history);
        CheckResult { elapsed_ms: meter.elapsed_ms(), ..result }
    }
}

/// The answer, or that there is none and why.
pub(crate) fn or_unknown<E: std::fmt::Display>(
    name: &str,
    answer: Result<CheckResult, E>,
) -> CheckResult {
    answer.unwrap_or_else(|why| CheckResult::new(name, Verdict::Unknown, why.to_string()))
}

/// The answer, or that the history is none for this checker and why.
pub(crate) fn or_not_checked<E: std::fmt::Display>(
    name: &str,
    answer: Result<CheckResult, E>,
) -> CheckResult {
    or_unknown(name, answer.map_err(|why| format!("not checked: {why}")))
}

/// What people read about a checker.
#[derive(Debug, Clone, Copy)]
pub struct CheckerInfo {
    /// Its name.
    pub name: &'static str,
    /// What it decides, in a paragraph.
    pub about: &'static str,
    /// What a pass stands on: these counts of the result are above zero.
    pub needs: &'static [Need],
    /// Its options.
    pub options: &'static [OptionInfo],
}

type Build = fn(&fuzz_dist_core::spec::Options) -> Result<Box<dyn Checker>, OptionError>;

/// Every checker with how it is built; [`catalogue`] is the part for people.
const ALL: &[(CheckerInfo, Build)] = &[
    (linearizable::INFO, |options| Ok(Box::new(linearizable::build(options)?))),
    (set_full::INFO, |options| Ok(Box::new(set_full::build(options)?))),
    (or_set::INFO, |options| Ok(Box::new(or_set::build(options)?))),
    (pn_counter::INFO, |options| Ok(Box::new(pn_counter::build(options)?))),
    (set::INFO, |options| Ok(Box::new(set::build(options)?))),
    (counter::INFO, |options| Ok(Box::new(counter::build(options)?))),
    (queues::QUEUE, |options| Ok(Box::new(queues::build_queue(options)?))),
    (queues::TOTAL, |options| Ok(Box::new(queues::build_total(options)?))),
    (unique_ids::INFO, |options| Ok(Box::new(unique_ids::build(options)?))),
    (bank::INFO, |options| Ok(Box::new(bank::build(options)?))),
    (long_fork::INFO, |options| Ok(Box::new(long_fork::build(options)?))),
    (elle::LIST_APPEND, |options| Ok(Box::new(elle::build_list_append(options)?))),
    (elle::RW_REGISTER, |options| Ok(Box::new(elle::build_rw_register(options)?))),
    (delivery::INFO, |options| Ok(Box::new(delivery::build(options)?))),
    (kafka::INFO, |options| Ok(Box::new(kafka::build(options)?))),
    (registry::INFO, |options| Ok(Box::new(registry::build(options)?))),
    (lock::INFO, |options| Ok(Box::new(lock::build(options)?))),
    (lock::MUTEX, |options| Ok(Box::new(lock::build_mutex(options)?))),
    (adya::INFO, |options| Ok(Box::new(adya::build(options)?))),
    (causal::INFO, |options| Ok(Box::new(causal::build(options)?))),
    (causal_reverse::INFO, |options| Ok(Box::new(causal_reverse::build(options)?))),
    (causal_reverse::COMMENTS, |options| Ok(Box::new(causal_reverse::build_comments(options)?))),
    (sequential::INFO, |options| Ok(Box::new(sequential::build(options)?))),
    (final_reads::INFO, |options| Ok(Box::new(final_reads::build(options)?))),
    (agreement::INFO, |options| Ok(Box::new(agreement::build(options)?))),
    (latency::INFO, |options| Ok(Box::new(latency::build(options)?))),
    (availability::INFO, |options| Ok(Box::new(availability::build(options)?))),
    (monotonic::INFO, |options| Ok(Box::new(monotonic::build(options)?))),
    (recovery::INFO, |options| Ok(Box::new(recovery::build(options)?))),
    (log_file_pattern::INFO, |options| Ok(Box::new(log_file_pattern::build(options)?))),
    (stats::STATS, |options| Ok(Box::new(stats::build_stats(options)?))),
    (stats::EXCEPTIONS, |options| Ok(Box::new(stats::build_exceptions(options)?))),
];

/// Makes the checker of a spec.
pub fn build(spec: &CheckerSpec) -> Result<Box<dyn Checker>, OptionError> {
    match ALL.iter().find(|(info, _)| info.name == spec.name) {
        Some((info, build)) => build_one(info, *build, &spec.options),
        None => {
            let names: Vec<&str> = ALL.iter().map(|(info, _)| info.name).collect();
            Err(OptionError::UnknownChecker {
                name: spec.name.clone(),
                hint: did_you_mean(&spec.name, &names),
                known: names.join(", "),
            })
        }
    }
}

/// Options may carry the question mark of their Clojure names (`linearizable?`).
fn build_one(
    info: &CheckerInfo,
    build: Build,
    given: &fuzz_dist_core::spec::Options,
) -> Result<Box<dyn Checker>, OptionError> {
    let plain = |name: &String| name.strip_suffix('?').unwrap_or(name).to_owned();
    let mut options: fuzz_dist_core::spec::Options =
        given.iter().map(|(name, value)| (plain(name), value.clone())).collect();
    let only = OptionReader::new(info.name, &options, all_options(info))?.words(ONLY.name)?;
    options.remove(ONLY.name);
    let own_way = [linearizable::INFO.name, lock::MUTEX.name].contains(&info.name);
    let mut checker: Box<dyn Checker> = if own_way
        || !info.options.contains(&independent::INDEPENDENT)
    {
        // The map knows the field by itself.
        let by_key = options.get("model").is_some_and(|model| *model == "map")
            || options.get("independent").is_some_and(|given| *given != false && *given != "false");
        let checker = build(&options)?;
        match own_way && !by_key {
            true => Box::new(one_object::OneObject(checker)),
            false => checker,
        }
    } else {
        let reader = OptionReader::new(info.name, &options, info.options)?;
        let each = reader.bool("independent", false)?;
        options.remove("independent");
        let checker = build(&options)?;
        match each {
            true => Box::new(independent::EachKey(checker)) as Box<dyn Checker>,
            false => Box::new(one_object::OneObject(checker)),
        }
    };
    if let Some(functions) = only {
        checker = Box::new(only::Only { checker, functions: functions.into_iter().collect() });
    }
    Ok(checker)
}

/// The checker of that name, explained.
pub(crate) fn info(name: &str) -> Option<&'static CheckerInfo> {
    catalogue().iter().find(|known| known.name == name)
}

/// The options of a checker with those that all checkers have.
fn all_options(info: &CheckerInfo) -> &'static [OptionInfo] {
    self::info(info.name).map_or(&[], |known| known.options)
}

/// Every checker, explained.
pub fn catalogue() -> &'static [CheckerInfo] {
    static INFOS: std::sync::OnceLock<Vec<CheckerInfo>> = std::sync::OnceLock::new();
    INFOS.get_or_init(|| {
        let whole = |info: &CheckerInfo| {
            let options: Vec<OptionInfo> = info.options.iter().copied().chain([ONLY]).collect();
            // Once in the life of the process.
            CheckerInfo { options: options.leak(), ..*info }
        };
        ALL.iter().map(|(info, _)| whole(info)).collect()
    })
}

/// How many threads a checker uses.
pub(crate) fn threads() -> usize {
    // It reads several files to find out.
    static COUNT: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// The number that a text is in EDN, of any size; the text itself if it is none.
fn number_of_text(text: &str) -> Value {
    let value = fuzz_dist_core::interop::parse_edn_value(text).ok();
    value.filter(Value::is_number).unwrap_or_else(|| Value::str(text))
}

/// A value written in an option: numbers, words, lists. Text that reads as a number is one, since
/// `--option k=v` gives text.
pub(crate) fn json_value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => number_of_text(&n.to_string()),
        Json::String(text) => match text.as_str() {
            text if text.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit()) => {
                number_of_text(text)
            }
            "nil" => Value::Nil,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            text => match text.strip_prefix(':') {
                Some(name) => fuzz_dist_core::Sym::try_new(name).map_or(Value::Nil, Value::Sym),
                None => Value::str(text),
            },
        },
        Json::Array(items) => Value::list(items.iter().map(json_value).collect::<Vec<_>>()),
        Json::Object(map) => {
            Value::map(map.iter().map(|(k, v)| (Value::str(k.as_str()), json_value(v))))
        }
    }
}
