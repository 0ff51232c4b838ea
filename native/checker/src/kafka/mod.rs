//! `kafka`: are messages of partitioned logs lost, duplicated, reordered, skipped or made up?
//!
//! For Kafka, Redpanda, Bufstream and whatever else is a set of totally ordered logs with offsets: the
//! operations, anomalies and names of `jepsen.tests.kafka` (Kingsbury, "Redpanda 21.10.1", 2022).
//!
//! - `{:f :assign, :value [k …]}`, perhaps with `:seek-to-beginning? true`; `{:f :subscribe, :value [k …]}`.
//! - `:send`, `:poll` and `:txn` with lists of `[:send k v]`, completed as `[:send k [offset v]]` (offset nil
//!   if unknown), and `[:poll]`, completed as `[:poll {k [[offset v] …]}]`. A completion may tell
//!   `:rebalance-log [{:keys [k …]} …]`.
//! - `:crash`, `:debug-topic-partitions` and others say nothing about messages.
//!
//! Reading order: [`ops`] (the history in flat arrays), [`versions`] (the order of each key), [`messages`],
//! [`positions`] and [`lag`] (anomalies of messages, of consumers and in time), [`graph`] (cycles),
//! `evidence` (in words). Everything is linear, but for sorting the offsets.
//!
//! Beyond the original: a message that nobody sent is an anomaly of its own (`phantom`) instead of the end
//! of the check, an assignment that seeks to the beginning is not a step back, anti-dependencies may be
//! asked for (`rw-deps`), and a consumer may be held to a bound of its lag.

mod cases;
mod evidence;
pub mod graph;
pub mod lag;
pub mod messages;
pub mod ops;
pub mod positions;
mod result;
pub mod versions;

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{CheckResult, History};

use crate::budget::{Exhausted, Meter};
use crate::elle::orders::Order;
use crate::kafka::cases::{Case, Cases};
use crate::kafka::graph::Kinds;
use crate::kafka::ops::{Log, NotALog};
use crate::kafka::versions::{Committed, Versions};
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, or_unknown};

/// A consumer was further behind than allowed.
pub const STALE_CONSUMER: &str = "stale-consumer";

/// What people read about `kafka`.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "kafka",
    about: "Whether partitioned logs with offsets (Kafka, Redpanda …) keep their promises, on :send, :poll, \
            :txn, :assign and :subscribe as in Jepsen's workload: lost-write, unseen, duplicate, \
            inconsistent-offsets, G1a, aborted-read, precommitted-read, phantom, int-poll-skip, \
            int-nonmonotonic-poll, int-send-skip, int-nonmonotonic-send, poll-skip, nonmonotonic-poll, \
            nonmonotonic-send, stale-consumer, and cycles of dependencies (G0, G1c …). int-send-skip and \
            G0 are told but allowed; with subscribe also poll-skip and nonmonotonic-poll; with ww-deps \
            also G1c. Each value is sent to a key once, and every key is polled to its end at last.",
    needs: &[
        need("operations", "there is no :send, :poll or :txn"),
        need("messages-polled", "no poll returned a message"),
    ],
    options: &[
        OptionInfo {
            name: "sub-via",
            default: "as in the history",
            about: "assign or subscribe, or both with a comma: how consumers get their keys. With \
                    subscribe, rebalancing may move them between operations",
        },
        OptionInfo {
            name: "subscribe",
            default: "as in the history",
            about: "true or false: the same, as a flag",
        },
        OptionInfo {
            name: "ww-deps",
            default: "false",
            about: "follow also the order in which messages were written; G1c is then allowed",
        },
        OptionInfo {
            name: "rw-deps",
            default: "false",
            about: "follow also what was polled and not yet there; G-single, G-nonadjacent and G2 are then \
                    anomalies. With ww-deps they are found also through later writes",
        },
        OptionInfo {
            name: "order",
            default: "realtime",
            about: "realtime, process or none: which order of operations cycles may use",
        },
        OptionInfo {
            name: "txn",
            default: "true",
            about: "whether operations are transactions: with false, each of their sends stands for itself, \
                    polling one's own send is allowed, and there are no cycles",
        },
        OptionInfo {
            name: "realtime-lag-ms-max",
            default: "none",
            about: "a consumer that is longer behind the end of its key, in milliseconds, is stale",
        },
        OptionInfo {
            name: "all-errors",
            default: "false",
            about: "show every case, not the worst few of each name",
        },
    ],
};

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct Kafka {
    /// Whether consumers subscribe; `None` is as the history has it.
    subscribe: Option<bool>,
    kinds: Kinds,
    is_txn: bool,
    lag_ns_max: Option<i64>,
    all_errors: bool,
}

/// Builds `kafka`.
pub fn build(options: &Options) -> Result<Kafka, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let order = match reader.word("order", &["realtime", "process", "none"], "realtime")? {
        "process" => Order::Process,
        "none" => Order::None,
        _ => Order::Realtime,
    };
    let subscribe = match reader.raw("subscribe") {
        Some(_) => Some(reader.bool("subscribe", false)?),
        None => sub_via(&reader)?,
    };
    let lag_ns_max = match reader.raw("realtime-lag-ms-max") {
        None => None,
        Some(text) if text.as_str() == Some("none") => None,
        Some(_) => Some((reader.number("realtime-lag-ms-max", 0.0)? * 1e6) as i64),
    };
    Ok(Kafka {
        subscribe,
        kinds: Kinds {
            ww: reader.bool("ww-deps", false)?,
            rw: reader.bool("rw-deps", false)?,
            order,
        },
        is_txn: reader.bool("txn", true)?,
        lag_ns_max,
        all_errors: reader.bool("all-errors", false)?,
    })
}

/// `assign`, `subscribe`, both, or a set of them as EDN writes it.
fn sub_via(reader: &OptionReader) -> Result<Option<bool>, OptionError> {
    let Some(given) = reader.raw("sub-via") else { return Ok(None) };
    let text = match given {
        serde_json::Value::Array(items) => {
            items.iter().filter_map(|item| item.as_str()).collect::<Vec<_>>().join(" ")
        }
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.is_empty() || words.iter().any(|word| !["assign", "subscribe"].contains(word)) {
        return Err(reader.bad("sub-via", given, "assign, subscribe, or both", String::new()));
    }
    Ok(Some(words.contains(&"subscribe")))
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("not checked: {0}")]
    NotALog(#[from] NotALog),
    #[error("undecided: {0} while looking for dependencies; a larger budget would help")]
    Exhausted(#[from] Exhausted),
}

impl Kafka {
    fn infer(&self, history: &History, meter: &Meter) -> Result<CheckResult, Stop> {
        const CASES_MAX: usize = 8;
        let log = Log::new(history)?;
        meter.check_time()?;
        let committed = Committed::new(&log, self.is_txn);
        let versions = Versions::new(&log, &committed);
        meter.check_memory((versions.entries.len() as u64) * 24 + log.polled.len() as u64 * 16)?;
        let mut cases = Cases::new(if self.all_errors { usize::MAX } else { CASES_MAX });
        messages::reads(&log, self.is_txn, &mut cases);
        messages::offsets(&log, &versions, &mut cases);
        messages::lost(&log, &versions, &committed, &mut cases);
        let unseen = messages::unseen(&log, &mut cases);
        meter.check_time()?;
        let steps = log.steps();
        positions::internal(&log, &versions, &mut cases);
        positions::external(&log, &versions, &steps, &mut cases);
        meter.check_time()?;
        let mut worst: Option<lag::Lag> = None;
        lag::each(&log, &committed, &steps, |lag| {
            if worst.is_none_or(|worst| worst.lag_ns < lag.lag_ns) {
                worst = Some(lag);
            }
            if self.lag_ns_max.is_some_and(|max| lag.lag_ns > max) {
                cases.add(STALE_CONSUMER, lag.lag_ns, || Case {
                    key: lag.key,
                    txns: vec![lag.txn],
                    numbers: vec![lag.lag_ns, lag.offset],
                    ..Case::default()
                });
            }
        });
        cases.finish();
        let found = match self.is_txn {
            true => Some(graph::find(&log, &versions, self.kinds, meter)?),
            false => None,
        };
        let told = result::Told { log: &log, versions: &versions, cases, found, unseen, worst };
        Ok(told.judge(self, &steps))
    }
}

impl Checker for Kafka {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        or_unknown(INFO.name, self.infer(history, meter))
    }
}
