//! `bank`: money moves between accounts and is neither made nor lost.
//!
//! As Jepsen's. `transfer` moves an amount; `read` returns a map of all accounts to balances at one
//! moment. Each read that succeeded must have exactly the known accounts (`unexpected-key` and
//! `missing-account` otherwise; Jepsen only knows the first), no
//! nil balance (`nil-balance`), the right total (`wrong-total`) and, unless allowed, no negative balance
//! (`negative-value`); of one read the first of these is told. Total and accounts are options, and those of
//! the first read when not given, as in elle-cli.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use fuzz_dist_core::number::Sum;
use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Value, Verdict};

use crate::budget::Meter;
use crate::independent::INDEPENDENT;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, json_value, or_not_checked};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "bank",
    about: "Whether every read of all accounts shows the same total, no unknown account, no nil and no \
            negative balance, while transfers move money between them (snapshot isolation).",
    needs: &[need("read-count", "no :read of the accounts succeeded")],
    options: &[
        OptionInfo {
            name: "total-amount",
            default: "that of the first read",
            about: "what all balances add up to",
        },
        OptionInfo {
            name: "accounts",
            default: "those of the first read",
            about: "a list of the accounts; a read with another one, or without one, is an anomaly",
        },
        OptionInfo {
            name: "negative-balances",
            default: "false",
            about: "whether balances may be negative",
        },
        OptionInfo {
            name: "max-transfer",
            default: "any",
            about: "taken for the original's sake: it limits what is tried, and says nothing of what is right",
        },
        INDEPENDENT,
    ],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;

/// The checker.
#[derive(Debug, Clone)]
pub struct Bank {
    total: Option<Sum>,
    accounts: Option<BTreeSet<Value>>,
    negative: bool,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Bank, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let total = match reader.raw("total-amount") {
        None => None,
        Some(given) => Some(
            Sum::of(&json_value(given))
                .ok_or_else(|| reader.bad("total-amount", given, "a number", String::new()))?,
        ),
    };
    let accounts = match reader.raw("accounts") {
        None => None,
        Some(given) => match json_value(given) {
            Value::List(items) => Some(items.iter().cloned().collect()),
            _ => return Err(reader.bad("accounts", given, "a list", String::new())),
        },
    };
    reader.number("max-transfer", 0.0)?;
    Ok(Bank { total, accounts, negative: reader.bool("negative-balances", false)? })
}

impl Checker for Bank {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        or_not_checked(INFO.name, self.check_reads(history))
    }
}

impl Bank {
    fn check_reads(&self, history: &History) -> Result<CheckResult, String> {
        let mut total = self.total.clone();
        let mut accounts = self.accounts.clone();
        let mut reads = 0u64;
        let mut anomalies = Vec::new();
        let mut kinds: BTreeMap<&'static str, u64> = BTreeMap::new();
        for op in crate::budget::client_ops(history)
            .filter(|op| op.f == "read" && op.op_type == OpType::Ok)
        {
            reads += 1;
            if let Some((kind, text)) = self.judge(op, &mut accounts, &mut total)? {
                *kinds.entry(kind).or_default() += 1;
                if anomalies.len() < ANOMALIES_MAX {
                    let place = op.index as usize;
                    let text =
                        format!("process {} at record {place}: {text}: {}", op.process, op.value);
                    let invoke = history.pair(place);
                    let ops = invoke.into_iter().chain([place]).map(|i| i as u64).collect();
                    anomalies.push(Anomaly {
                        name: kind.into(),
                        key: None,
                        text,
                        ops,
                        ..Anomaly::default()
                    });
                }
            }
        }
        let errors: u64 = kinds.values().sum();
        let (verdict, reason) = match anomalies.first() {
            Some(first) => {
                let text =
                    format!("{errors} of {reads} reads are wrong: {}: {}", first.name, first.text);
                (Verdict::Invalid, text)
            }
            None => {
                let text = match total {
                    Some(total) if reads > 0 => format!("all {reads} reads add up to {total}"),
                    _ => "no read is wrong: the accounts were never read".to_owned(),
                };
                (Verdict::Valid, text)
            }
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        result.counts = kinds.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect();
        result.counts.insert("read-count".into(), reads);
        result.counts.insert("error-count".into(), errors);
        result.anomalies = anomalies;
        Ok(result)
    }

    /// What is wrong with one read, if anything.
    fn judge(
        &self,
        op: &Op,
        accounts: &mut Option<BTreeSet<Value>>,
        total: &mut Option<Sum>,
    ) -> Result<Option<(&'static str, String)>, String> {
        let pairs = balances(op)?;
        let accounts =
            accounts.get_or_insert_with(|| pairs.iter().map(|(key, _)| key.clone()).collect());
        if let Some((key, _)) = pairs.iter().find(|(key, _)| !accounts.contains(key)) {
            return Ok(Some(("unexpected-key", format!("there is no account {key}"))));
        }
        if let Some((key, _)) = pairs.iter().find(|(_, balance)| balance.is_nil()) {
            return Ok(Some(("nil-balance", format!("account {key} has no balance"))));
        }
        let missing = accounts.iter().find(|key| !pairs.iter().any(|(known, _)| known == *key));
        if let Some(key) = missing {
            return Ok(Some(("missing-account", format!("account {key} is missing"))));
        }
        let mut sum = Sum::default();
        let mut negative = None;
        for (key, balance) in &pairs {
            let amount = Sum::of(balance)
                .ok_or_else(|| format!("record {}: balance {balance} is no number", op.index))?;
            if amount.exact() < Sum::default().exact() {
                negative.get_or_insert((key.clone(), amount.clone()));
            }
            sum.add(&amount);
        }
        let expected = total.get_or_insert_with(|| sum.clone());
        match sum.compare(expected) {
            Some(Ordering::Equal) => {}
            Some(_) => {
                return Ok(Some(("wrong-total", format!("the total is {sum}, not {expected}"))));
            }
            None => {
                return Err(format!(
                    "record {}: the total is {sum}, not {expected}, which may be the rounding of floats; \
                     use integers or decimals to have it decided",
                    op.index
                ));
            }
        }
        Ok(match negative {
            Some((key, amount)) if !self.negative => {
                Some(("negative-value", format!("account {key} has {amount}")))
            }
            _ => None,
        })
    }
}

/// Accounts with balances: a map, or a list of pairs.
fn balances(op: &Op) -> Result<Vec<(Value, Value)>, String> {
    let wrong = || format!("record {}: a read must return a map, not {}", op.index, op.value);
    match &op.value {
        Value::Map(pairs) => Ok(pairs.to_vec()),
        value => value
            .items()
            .ok_or_else(wrong)?
            .iter()
            .map(|pair| {
                let (key, balance) = pair.key_and_value().ok_or_else(wrong)?;
                Ok((key.clone(), balance.clone()))
            })
            .collect(),
    }
}
