//! `or-set`: a set from which elements are removed again: presence, process groups, sessions, routes.
//!
//! Functions: `add e` (or `join`), `remove e` (or `leave`), `read` (or `members`; a collection), and final
//! reads: one of these with the extra key `:final? true`, or `final-read`. Values `[key element]` with
//! `independent=true` are sets of their own, such as the groups of a process registry.
//!
//! **What is known.** Operations overlap in real time or one comes before the other. A failed one did not
//! happen; one without an answer may have, or may yet. A remove *may have seen* an add that was invoked
//! before the remove completed. It *has seen* an add that was acknowledged before the remove was invoked:
//! by the same process (`read-your-writes`), and, with `sees=acknowledged`, by any, if no fault was active
//! from the invocation of the add to that of the remove, or none for `settle-ms` before the latter. An add
//! sees removes likewise.
//!
//! **What a read may show.** With `wins=add` (an observed-remove set), an element is there if some add of
//! it was seen by no remove. With `wins=remove`, if there is an add, and every remove was seen by one.
//! - A final read has everything that was acknowledged before it was invoked, and may have what was
//!   under way or never answered. So an element *has to be there* (`lost` otherwise) or *has to be gone*
//!   (`resurrected`; `unexpected` if nobody may have added it) if that follows for all the ways in which
//!   what is not known may be.
//! - Any other read may be as old as it likes, since nodes may be apart, but it has what its own
//!   process did before (`own-add-missed`, `own-remove-missed`), and nothing that nobody may have added.
//! - All final reads that were invoked after the last update was answered are equal.
//!
//! This is exact for what is known by these rules: whether a remove has seen an add is an open question for
//! each pair of them by itself. Not used is what a read showed to the process that removed afterwards.
//! Linear in the size of the reads, and for each element in its updates for each final read.

mod history;
mod rules;

use std::collections::BTreeSet;

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Sym, Value, Verdict};
use rustc_hash::FxHashSet;
use serde_json::json;

use crate::budget::Meter;
use crate::elements::{about, some};
use crate::independent::INDEPENDENT;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, or_not_checked};
use history::{Read, Updates};
use rules::{Call, Calm, Rules, Why};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "or-set",
    about: "Whether a set with removals (add or join, remove or leave, read or members) shows what it may: \
            final reads hold every element that was added and certainly not removed since, none that was \
            certainly removed or never added, and are equal on all nodes; other reads may be old, but \
            hold what their own process did. Unknown without final reads on every node.",
    needs: &[
        need("adds-ok", "no :add (or :join) succeeded"),
        need("removes-ok", "no :remove (or :leave) succeeded"),
        need("final-reads", "no final :read (or :members) succeeded"),
    ],
    options: &[
        OptionInfo {
            name: "wins",
            default: "add",
            about: "add, or remove: what becomes of an element that is added and removed at the same time",
        },
        OptionInfo {
            name: "sees",
            default: "acknowledged",
            about: "acknowledged: a remove has seen every add that was acknowledged before, by whichever \
                    process, unless a fault was active in between; or session: only those of its own \
                    process, for sets that spread in the background",
        },
        OptionInfo {
            name: "settle-ms",
            default: "10000",
            about: "after the last fault, how long until everything acknowledged is seen everywhere",
        },
        OptionInfo {
            name: "read-your-writes",
            default: "true",
            about: "a process sees what it did itself",
        },
        OptionInfo {
            name: "duplicates",
            default: "forbid",
            about: "forbid, or allow: whether a read may hold an element twice",
        },
        INDEPENDENT,
    ],
};

/// How many anomalies of a kind are told.
const ANOMALIES_MAX: usize = 8;
/// How many reads between two looks at the clock.
const READS_PER_LOOK: usize = 64;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct OrSet {
    rules: Rules,
    settle_ns: i64,
    forbid_duplicates: bool,
}

/// Builds it.
pub fn build(options: &Options) -> Result<OrSet, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let rules = Rules {
        add_wins: reader.word("wins", &["add", "remove"], "add")? == "add",
        by_real_time: reader.word("sees", &["acknowledged", "session"], "acknowledged")?
            == "acknowledged",
        read_your_writes: reader.bool("read-your-writes", true)?,
    };
    let settle_ms = reader.number("settle-ms", 10_000.0)?.min(1e12);
    let duplicates = reader.word("duplicates", &["forbid", "allow"], "forbid")?;
    Ok(OrSet {
        rules,
        settle_ns: (settle_ms * 1e6) as i64,
        forbid_duplicates: duplicates == "forbid",
    })
}

impl Checker for OrSet {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        or_not_checked(INFO.name, self.check(history, meter))
    }
}

/// What was found.
#[derive(Default)]
struct Found {
    anomalies: Vec<Anomaly>,
    count: u64,
    /// How often a final read had no choice about an element, and how often it had.
    forced_present: u64,
    forced_absent: u64,
    open: u64,
}

impl Found {
    fn add(&mut self, anomaly: Anomaly) {
        self.count += 1;
        let told = self.anomalies.iter().filter(|other| other.name == anomaly.name).count();
        if told < ANOMALIES_MAX {
            self.anomalies.push(anomaly);
        }
    }
}

impl OrSet {
    fn check(&self, history: &History, meter: &Meter) -> Result<CheckResult, String> {
        let updates = Updates::new(history)?;
        let calm = Calm::new(history, self.settle_ns);
        let mut found = Found::default();
        let finals: Vec<&Read> = updates.reads.iter().filter(|read| read.is_final).collect();
        for (i, read) in updates.reads.iter().enumerate() {
            if i % READS_PER_LOOK == 0 {
                meter.check_time().map_err(|why| format!("{why}; a larger budget would help"))?;
            }
            if self.forbid_duplicates && read.twice.is_some() {
                found.add(duplicate(&updates, read));
            }
            match read.is_final {
                true => self.judge_final(&updates, &calm, read, &mut found),
                false => self.judge_other(&updates, &calm, read, &mut found),
            }
        }
        if let Some(unequal) = compare(&updates, &finals) {
            found.add(unequal);
        }
        // What did not converge tells most.
        found.anomalies.sort_by_key(|anomaly| anomaly.name.starts_with("own-"));
        Ok(self.result(&updates, &finals, found))
    }

    /// Whether an element has to be there, or has to be gone, in a read, and which of it is so.
    fn judge_element(
        &self,
        updates: &Updates,
        calm: &Calm,
        element: u32,
        read: &Read,
    ) -> (Option<Why>, Option<Why>) {
        let certain = |call: &Call| {
            let is_own = self.rules.read_your_writes && call.process == read.process;
            call.is_ok && call.ret < read.invoke && (read.is_final || is_own)
        };
        let (adds, removes) = updates.of(element);
        let known = |calls: &[Call]| -> Vec<Call> {
            calls.iter().copied().filter(|call| call.invoke < read.ret).collect()
        };
        let (adds, removes) = (known(adds), known(removes));
        let sees = |later: &Call, earlier: &Call| self.rules.has_seen(later, earlier, calm);
        match self.rules.add_wins {
            true => (
                rules::has_to_be_there_if_add_wins(&adds, &removes, &certain),
                rules::has_to_be_gone_if_add_wins(&adds, &removes, &certain, &sees),
            ),
            false => (
                rules::has_to_be_there_if_remove_wins(&adds, &removes, &certain, &sees),
                rules::has_to_be_gone_if_remove_wins(&adds, &removes, &certain),
            ),
        }
    }

    fn judge_final(&self, updates: &Updates, calm: &Calm, read: &Read, found: &mut Found) {
        let held: FxHashSet<u32> = read.elements.iter().copied().collect();
        for element in 0..updates.count() {
            let (there, gone) = self.judge_element(updates, calm, element, read);
            let is_held = held.contains(&element);
            match (&there, &gone) {
                (Some(_), _) => found.forced_present += 1,
                // Nobody asks about what was not there and need not be.
                (_, Some(Why::NeverAdded)) if !is_held => {}
                (_, Some(_)) => found.forced_absent += 1,
                _ => found.open += 1,
            }
            match (is_held, there, gone) {
                (false, Some(why), _) => found.add(wrong("lost", updates, read, element, &why)),
                (true, _, Some(why)) => {
                    found.add(wrong(name_of_present(&why, true), updates, read, element, &why));
                }
                _ => {}
            }
        }
    }

    fn judge_other(&self, updates: &Updates, calm: &Calm, read: &Read, found: &mut Found) {
        let held: FxHashSet<u32> = read.elements.iter().copied().collect();
        for &element in &held {
            let (_, gone) = self.judge_element(updates, calm, element, read);
            if let Some(why) = gone {
                found.add(wrong(name_of_present(&why, false), updates, read, element, &why));
            }
        }
        let own = updates.own.get(&read.process).into_iter().flatten();
        for &element in own.filter(|element| !held.contains(*element)) {
            let (there, _) = self.judge_element(updates, calm, element, read);
            if let Some(why) = there {
                found.add(wrong("own-add-missed", updates, read, element, &why));
            }
        }
    }

    fn result(&self, updates: &Updates, finals: &[&Read], found: Found) -> CheckResult {
        let read_on: BTreeSet<Sym> = finals.iter().filter_map(|read| read.node).collect();
        let absent: Vec<&str> =
            updates.nodes.difference(&read_on).map(|node| node.as_str()).collect();
        let (verdict, reason) = match found.anomalies.first() {
            Some(first) => {
                let more = found.count - 1;
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                (Verdict::Invalid, format!("{}: {}{more}", first.name, first.text))
            }
            None if finals.is_empty() => {
                (Verdict::Unknown, "there is no final read that succeeded".to_owned())
            }
            None if !absent.is_empty() => {
                let text = format!("no final read succeeded on {}", absent.join(", "));
                (Verdict::Unknown, text)
            }
            None => {
                let text = format!(
                    "{} final reads agree: in all of them together {} elements that have to be there \
                     are, {} that have to be gone are, and {} may be either",
                    finals.len(),
                    found.forced_present,
                    found.forced_absent,
                    found.open
                );
                (Verdict::Valid, text)
            }
        };
        let ok = |calls: &[Vec<Call>]| calls.iter().flatten().filter(|call| call.is_ok).count();
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        let counts = [
            ("elements", u64::from(updates.count())),
            ("adds-ok", ok(&updates.adds) as u64),
            ("removes-ok", ok(&updates.removes) as u64),
            ("reads", updates.reads.len() as u64),
            ("final-reads", finals.len() as u64),
            ("anomalies", found.count),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
        result.details = json!({
            "missing-final-read": absent,
            "have-to-be-there": found.forced_present,
            "have-to-be-gone": found.forced_absent,
            "may-be-either": found.open,
        });
        result.anomalies = found.anomalies;
        result
    }
}

fn name_of_present(why: &Why, is_final: bool) -> &'static str {
    match (why, is_final) {
        (Why::NeverAdded, _) => "unexpected",
        (_, true) => "resurrected",
        (_, false) => "own-remove-missed",
    }
}

/// One element of one read.
fn wrong(name: &str, updates: &Updates, read: &Read, element: u32, why: &Why) -> Anomaly {
    let value = updates.elements.value(element);
    let what = match name {
        "lost" | "own-add-missed" => "lacks",
        _ => "holds",
    };
    let (because, records) = why.told(updates.has_failed_add(element));
    let text = format!("{} {what} {value}, but {because}", read.place());
    let ops: Vec<u32> = records.into_iter().chain([read.invoke, read.ret]).collect();
    about(name, value, text, &ops)
}

fn duplicate(updates: &Updates, read: &Read) -> Anomaly {
    let value = updates.elements.value(read.twice.unwrap_or_default());
    let text = format!("{} holds {value} twice", read.place());
    about("duplicate", value, text, &[read.invoke, read.ret])
}

/// Two final reads that differ though nothing was done any more.
fn compare(updates: &Updates, finals: &[&Read]) -> Option<Anomaly> {
    let held = |read: &Read| -> BTreeSet<u32> { read.elements.iter().copied().collect() };
    let mut quiet =
        finals.iter().filter(|read| updates.last_answer.is_none_or(|at| read.invoke > at));
    let first = quiet.next()?;
    let all = held(first);
    let other = quiet.find(|read| held(read) != all)?;
    let differs: Vec<&Value> =
        all.symmetric_difference(&held(other)).map(|n| updates.elements.value(*n)).collect();
    let text = format!(
        "{} and {} differ in {} elements: {}",
        first.place(),
        other.place(),
        differs.len(),
        some(differs.iter().copied())
    );
    let ops = [first.invoke, first.ret, other.invoke, other.ret].map(u64::from).into();
    Some(Anomaly { name: "final-reads-not-equal".into(), text, ops, ..Anomaly::default() })
}
