//! `list-append` and `rw-register`: which isolation does a history of transactions show?
//!
//! Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations" (VLDB 2020),
//! with the semantics, names and options of the original. Reading order: [`txns`] (the history in flat
//! arrays), [`list_order`] and [`versions`] (what came after what on one key), [`list_append`] and
//! [`rw_register`] (dependencies, and anomalies without a cycle), [`orders`] (of processes and time),
//! [`graph`], [`cycles`] (which classes of cycles there are: exact), [`models`] (what that rules out),
//! [`implied`] (the order of writes that follows if the model holds), [`levels`] (models that the checker
//! `causal` knows exactly), [`explain`] (in words).
//!
//! A pass is no proof: an anomaly that left no trace in what was read cannot be found. A fail is one: each
//! anomaly comes with the transactions that show it.

pub mod cycles;
pub(crate) mod explain;
pub(crate) mod findings;
pub mod graph;
pub mod implied;
mod levels;
mod list_append;
pub mod list_order;
pub mod models;
pub mod orders;
mod result;
mod rw_register;
pub mod txns;
pub mod versions;
mod walk;

use std::sync::atomic::{AtomicUsize, Ordering};

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{CheckResult, History, OpType, Value, Verdict, interop};
use rustc_hash::FxHashMap;

use crate::budget::{Exhausted, Meter};
use crate::elle::findings::Findings;
use crate::elle::graph::{Edges, Graph};
use crate::elle::implied::Requirement;
use crate::elle::levels::Weak;
use crate::elle::list_order::Lookup;
use crate::elle::models::{Lattice, Names};
use crate::elle::orders::Order;
use crate::elle::txns::{Dialect, NotTxns, Txns};
use crate::elle::versions::Assumptions;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, or_unknown};

const CONSISTENCY_MODEL: OptionInfo = OptionInfo {
    name: "consistency-model",
    default: "strict-serializable",
    about: "the models that have to hold, separated by commas, or none: strict-serializable, serializable, \
            snapshot-isolation, repeatable-read, read-committed, read-uncommitted, and every other of \
            Elle's, also with strong-session- and strong-",
};
const CONSISTENCY_MODELS: OptionInfo = OptionInfo {
    name: "consistency-models",
    default: "strict-serializable",
    about: "the same, under the name that Elle has for it",
};
const ANOMALIES: OptionInfo = OptionInfo {
    name: "anomalies",
    default: "none",
    about: "anomalies that must not be there, whatever the models allow, separated by commas: G0, G1a, \
            G1c, G-single, lost-update …",
};

/// What people read about `list-append`.
pub const LIST_APPEND: CheckerInfo = CheckerInfo {
    name: "list-append",
    about: "Isolation of transactions that append to lists and read them, [[:append k v] [:r k [v …]]], as \
            Elle finds it: the order of appends is in every read, dependencies follow from it, and \
            cycles of dependencies are anomalies (G0, G1c, G-single, G-nonadjacent, G2-item, with -process \
            and -realtime), beside G1a, G1b, lost-update, internal, incompatible-order, \
            duplicate-elements, dirty-update, future-read and garbage-read. Each value is appended to a \
            key once. Exact and linear; nothing to relate is unknown.",
    needs: &[need("reads", "no transaction that reads succeeded")],
    options: &[CONSISTENCY_MODEL, CONSISTENCY_MODELS, ANOMALIES],
};

/// What people read about `rw-register`.
pub const RW_REGISTER: CheckerInfo = CheckerInfo {
    name: "rw-register",
    about: "Isolation of transactions that write and read registers, [[:w k v] [:r k v]], as Elle finds it. \
            Each value is written to a key once, so a read names its write. The order of writes follows from \
            the initial value, from what the options assume, and from the model itself: what would break it \
            is impossible, so its opposite holds (implied-cycle where that contradicts itself). Finds what \
            list-append finds as far as the order is known, garbage-read (a value that nobody wrote), and \
            cyclic-versions where assumptions contradict the history. read-committed, read-atomic and \
            causal-cerone mean the levels of the checker causal, with sessions.",
    needs: &[need("reads", "no transaction that reads succeeded")],
    options: &[
        CONSISTENCY_MODEL,
        CONSISTENCY_MODELS,
        ANOMALIES,
        OptionInfo {
            name: "sequential-keys",
            default: "false",
            about: "assume that each process sees the versions of a key in order",
        },
        OptionInfo {
            name: "linearizable-keys",
            default: "false",
            about: "assume that the versions of a key follow real time",
        },
        OptionInfo {
            name: "wfr-keys",
            default: "false",
            about: "assume that a transaction that reads a key and then writes it overwrites what it read",
        },
        OptionInfo {
            name: "garbage-reads",
            default: "forbid",
            about: "forbid, or allow as Elle does: reads of values that nobody wrote",
        },
        OptionInfo { name: "initial", default: "nil", about: "what a key holds that nobody wrote" },
        OptionInfo {
            name: "transaction-order",
            default: "none",
            about: "the order of transactions as the database gave it: a map from the index of a completion \
                    to a number, as an EDN map",
        },
    ],
};

/// Either checker.
#[derive(Debug, Clone)]
pub struct Elle {
    dialect: Dialect,
    lattice: Lattice,
    /// What makes the history invalid.
    forbidden: Names,
    /// The models as they were asked for.
    models: Vec<&'static str>,
    order: Order,
    assumptions: Assumptions,
    /// What the models imply of the order of writes.
    requirements: Vec<Requirement>,
    /// What the checker `causal` knows exactly.
    weak: Option<Weak>,
    /// Models that forbid nothing that is looked for.
    unseen: Vec<&'static str>,
}

/// Builds `list-append`.
pub fn build_list_append(options: &Options) -> Result<Elle, OptionError> {
    let reader = OptionReader::new(LIST_APPEND.name, options, LIST_APPEND.options)?;
    Elle::new(Dialect::ListAppend, &reader, Assumptions::default())
}

/// Builds `rw-register`.
pub fn build_rw_register(options: &Options) -> Result<Elle, OptionError> {
    let reader = OptionReader::new(RW_REGISTER.name, options, RW_REGISTER.options)?;
    let assumptions = Assumptions {
        sequential_keys: reader.bool("sequential-keys", false)?,
        linearizable_keys: reader.bool("linearizable-keys", false)?,
        wfr_keys: reader.bool("wfr-keys", false)?,
        initial: reader.raw("initial").map_or(Value::Nil, crate::json_value),
        transaction_order: transaction_order(&reader)?,
    };
    let mut elle = Elle::new(Dialect::RwRegister, &reader, assumptions)?;
    if reader.word("garbage-reads", &["forbid", "allow"], "forbid")? == "forbid" {
        elle.forbidden.insert(GARBAGE);
    } else {
        elle.forbidden.remove(GARBAGE);
    }
    elle.forbidden.insert(implied::NAME);
    Ok(elle)
}

/// A read of what nobody wrote.
const GARBAGE: &str = "garbage-read";

/// The words of an option: a list, or text with commas. `none` is no word.
fn words(reader: &OptionReader, name: &str) -> Result<Option<Vec<String>>, OptionError> {
    use serde_json::Value as Json;
    let Some(given) = reader.raw(name) else { return Ok(None) };
    let bad = || reader.bad(name, given, "names, separated by commas", String::new());
    let texts: Vec<&str> = match given {
        Json::Null => Vec::new(),
        Json::String(text) => text.split([',', ' ']).collect(),
        Json::Array(items) => {
            items.iter().map(|item| item.as_str().ok_or_else(bad)).collect::<Result<_, _>>()?
        }
        _ => return Err(bad()),
    };
    let texts = texts.into_iter().map(str::trim).filter(|text| !text.is_empty() && *text != "none");
    Ok(Some(texts.map(str::to_owned).collect()))
}

/// An EDN map in text, or a table.
fn transaction_order(reader: &OptionReader) -> Result<Option<FxHashMap<u64, i64>>, OptionError> {
    const NAME: &str = "transaction-order";
    use serde_json::Value as Json;
    let Some(given) = reader.raw(NAME) else { return Ok(None) };
    let bad = || reader.bad(NAME, given, "a map of indices to numbers, {0 2, 1 1}", String::new());
    let mut order = FxHashMap::default();
    match given {
        Json::Object(map) => {
            for (index, place) in map {
                let index = index.parse().map_err(|_| bad())?;
                order.insert(index, place.as_i64().ok_or_else(bad)?);
            }
        }
        Json::String(text) if text == "none" => return Ok(None),
        Json::String(text) => match interop::parse_edn_value(text) {
            Ok(Value::Map(pairs)) => {
                for (index, place) in pairs.iter() {
                    let (Some(index), Some(place)) = (index.as_int(), place.as_int()) else {
                        return Err(bad());
                    };
                    order.insert(u64::try_from(index).map_err(|_| bad())?, place);
                }
            }
            _ => return Err(bad()),
        },
        _ => return Err(bad()),
    }
    Ok(Some(order))
}

impl Elle {
    fn new(
        dialect: Dialect,
        reader: &OptionReader,
        assumptions: Assumptions,
    ) -> Result<Elle, OptionError> {
        let lattice = Lattice::new();
        let unknown = |option: &str, what: &str, name: &str, known: Names| {
            let known: Vec<&str> = known.into_iter().collect();
            reader.bad(option, &name.into(), what, models::nearest(name, &known))
        };
        let option = match reader.raw(CONSISTENCY_MODEL.name) {
            Some(_) => CONSISTENCY_MODEL.name,
            None => CONSISTENCY_MODELS.name,
        };
        let names = words(reader, option)?;
        let names = names.unwrap_or_else(|| vec!["strict-serializable".to_owned()]);
        let mut models = Vec::new();
        for name in &names {
            let model = lattice.model(name).ok_or_else(|| {
                unknown(option, "the name of a consistency model", name, lattice.model_names())
            })?;
            models.push(model);
        }
        let mut anomalies = Vec::new();
        for name in &words(reader, "anomalies")?.unwrap_or_default() {
            let anomaly = lattice.anomaly(name).ok_or_else(|| {
                unknown("anomalies", "the name of an anomaly", name, lattice.anomaly_names())
            })?;
            anomalies.push(anomaly);
        }
        let mut forbidden = lattice.forbidden(models.iter().copied());
        forbidden.extend(lattice.showing(anomalies));
        // The orders whose edges can make something forbidden; real time contains that of processes.
        let asks =
            |ending: &str| forbidden.iter().any(|name| is_cycle(name) && name.ends_with(ending));
        let only_process = |name: &&str| {
            let in_time = name.strip_suffix("-process").map(|class| format!("{class}-realtime"));
            is_cycle(name) && in_time.is_some_and(|in_time| !forbidden.contains(in_time.as_str()))
        };
        let order = match (asks("-realtime"), asks("-process")) {
            (true, true) if forbidden.iter().any(only_process) => Order::ProcessAndRealtime,
            (true, _) => Order::Realtime,
            (false, true) => Order::Process,
            (false, false) => Order::None,
        };
        let is_register = dialect == Dialect::RwRegister;
        let weak = if is_register { Weak::of(&names) } else { None };
        let unseen = models.iter().copied().filter(|model| {
            let is_weak = is_register && Weak::of(&[models::friendly(model).to_owned()]).is_some();
            lattice.forbidden([*model]).is_empty() && !is_weak
        });
        let unseen = unseen.collect();
        let requirements = models.iter().filter_map(|model| Requirement::of(model));
        let requirements = if is_register { requirements.collect() } else { Vec::new() };
        Ok(Elle {
            dialect,
            lattice,
            forbidden,
            models,
            order,
            assumptions,
            requirements,
            weak,
            unseen,
        })
    }

    /// What can be judged of a history whose records are in no real time: the same with the order of sessions only.
    /// Nothing if this asks for no more.
    fn in_sessions_only(&self) -> Option<Elle> {
        let order = match self.order {
            Order::Realtime | Order::ProcessAndRealtime => Order::Process,
            order => order,
        };
        if order == self.order && !self.assumptions.linearizable_keys {
            return None;
        }
        let assumptions = Assumptions { linearizable_keys: false, ..self.assumptions.clone() };
        let requirements = self.requirements.iter().map(|asked| asked.in_sessions()).collect();
        Some(Elle { order, assumptions, requirements, ..self.clone() })
    }

    /// The models as people know them.
    fn models_named(&self) -> String {
        self.models.iter().map(|model| models::friendly(model)).collect::<Vec<_>>().join(", ")
    }

    fn infer(&self, history: &History, meter: &Meter) -> Result<result::Inferred, Stop> {
        let txns = Txns::new(history, self.dialect)?;
        meter.check_time()?;
        let (mut edges, mut findings) = self.dependencies(&txns, meter)?;
        if self.dialect == Dialect::RwRegister && !self.forbidden.contains(GARBAGE) {
            // Whoever allows it knows more of these values than the history.
            findings.0.remove(GARBAGE);
        }
        meter.check_time()?;
        let edge_count = edges.list.len() as u64;
        let data_vertex_count = edges.vertex_count;
        let is_related = orders::link(&txns.list, self.order, &mut edges);
        // The graph in both forms, and two numberings of its components.
        let bytes = edges.list.len() as u64 * 24 + u64::from(edges.vertex_count) * 24;
        meter.check_memory(bytes)?;
        let txn_count = txns.list.len() as u32;
        let graph = Graph::new(edges.vertex_count, &edges.list);
        edges.vertex_count = data_vertex_count;
        edges.list.truncate(if self.requirements.is_empty() { 0 } else { edge_count as usize });
        edges.list.shrink_to_fit();
        meter.check_time()?;
        let mut found = cycles::find(&graph, txn_count, self.order, &self.lattice, meter)?;
        drop(graph);
        found.shorten(&txns.list);
        let ruled_out = self.contradictions(&txns, &edges, &mut findings, &found, meter)?;
        drop(edges);
        if edge_count == 0 && !is_related {
            findings.add("empty-transaction-graph", || fuzz_dist_core::Anomaly {
                text: "no transaction depends on another one, so there is nothing to be judged"
                    .into(),
                ..Default::default()
            });
        }
        let evidence = result::Evidence::new(self, &txns, &found);
        Ok(result::Inferred {
            findings,
            cycles: found,
            ruled_out,
            evidence,
            edge_count,
            txn_count: u64::from(txn_count),
            ok_count: txns.list.iter().filter(|txn| txn.outcome == OpType::Ok).count() as u64,
            key_count: u64::from(txns.key_count()),
            read_count: {
                let is_seen = |mop: &&txns::Mop| !mop.is_write() && txns.outcome(mop) == OpType::Ok;
                txns.mops.iter().filter(is_seen).count() as u64
            },
        })
    }

    /// Adds where a model contradicts what it implies, unless it is broken anyway; gives those models.
    fn contradictions(
        &self,
        txns: &Txns,
        data: &Edges,
        findings: &mut Findings,
        found: &cycles::Cycles,
        meter: &Meter,
    ) -> Result<Names, Exhausted> {
        let is_bad = |name: &'static str| self.forbidden.contains(name);
        if findings.names().any(is_bad) || found.classes.keys().copied().any(is_bad) {
            return Ok(Names::new());
        }
        let mut ruled_out = Names::new();
        for requirement in &self.requirements {
            if let Some(anomaly) = implied::contradiction(txns, data, *requirement, meter)? {
                findings.add(implied::NAME, || anomaly);
                ruled_out.insert(requirement.model);
            }
        }
        Ok(ruled_out)
    }

    /// Dependencies and anomalies of every key; parts of the keys at the same time.
    fn dependencies(&self, txns: &Txns, meter: &Meter) -> Result<(Edges, Findings), Stop> {
        const KEYS_AT_ONCE: usize = 16;
        let txn_count = txns.list.len() as u32;
        let key_count = txns.key_count() as usize;
        let next = AtomicUsize::new(0);
        let work = || -> Result<(Edges, Findings), Stop> {
            let mut edges = Edges { vertex_count: txn_count, list: Vec::new() };
            let mut findings = Findings::default();
            let mut lookup = Lookup::default();
            loop {
                meter.check_time()?;
                let begin = next.fetch_add(KEYS_AT_ONCE, Ordering::Relaxed);
                if begin >= key_count {
                    return Ok((edges, findings));
                }
                for key in begin..key_count.min(begin + KEYS_AT_ONCE) {
                    let key = key as u32;
                    match self.dialect {
                        Dialect::ListAppend => {
                            list_append::infer(txns, key, &mut lookup, &mut edges, &mut findings)
                        }
                        Dialect::RwRegister => rw_register::infer(
                            txns,
                            key,
                            &self.assumptions,
                            &mut lookup,
                            &mut edges,
                            &mut findings,
                        ),
                    }?;
                }
            }
        };
        let threads = crate::threads().min(key_count / KEYS_AT_ONCE).max(1);
        let mut parts = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut parts = vec![work()];
            for other in others {
                match other.join() {
                    Ok(part) => parts.push(part),
                    // A defect of ours goes on as one, and is told by whoever guards checkers.
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            parts.into_iter().collect::<Result<Vec<_>, Stop>>()
        })?;
        // Which thread took which key is chance; the order of evidence should not be.
        let (mut edges, mut findings) = parts.pop().unwrap_or_default();
        edges.vertex_count = edges.vertex_count.max(txn_count);
        for (part, found) in parts {
            edges.append(part, txn_count);
            findings.merge(found);
        }
        Ok((edges, findings))
    }
}

/// Whether an anomaly is a cycle.
fn is_cycle(name: &str) -> bool {
    ["G0", "G1c", "G-single", "G-nonadjacent", "G2"].iter().any(|class| {
        name.strip_prefix(class).is_some_and(|rest| {
            ["", "-item", "-process", "-realtime", "-item-process", "-item-realtime"]
                .contains(&rest)
        })
    })
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("not checked: {0}")]
    NotTxns(#[from] NotTxns),
    #[error("undecided: {0} while looking for dependencies; a larger budget would help")]
    Exhausted(#[from] Exhausted),
}

impl Checker for Elle {
    fn name(&self) -> &'static str {
        match self.dialect {
            Dialect::ListAppend => LIST_APPEND.name,
            Dialect::RwRegister => RW_REGISTER.name,
        }
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        let weaker = if history.has_real_time() { None } else { self.in_sessions_only() };
        let judge = weaker.as_ref().unwrap_or(self);
        let inferred = judge.infer(history, meter).map(|inferred| inferred.judge(judge));
        let mut result = or_unknown(self.name(), inferred);
        if let Some(weak) = &self.weak {
            weak.add(&mut result, &self.assumptions.initial, &self.forbidden, history, meter);
        }
        if result.verdict == Verdict::Valid && !self.unseen.is_empty() {
            result.verdict = Verdict::Unknown;
            result.reason = levels::unseen(self.name(), &self.unseen);
        }
        if weaker.is_some() && result.verdict == Verdict::Valid {
            result.verdict = Verdict::Unknown;
            result.reason = format!(
                "{}, as far as it goes without real time, which this history has not: what can be \
                 decided is --consistency-model strong-session-serializable and weaker",
                result.reason
            );
        }
        result
    }
}
