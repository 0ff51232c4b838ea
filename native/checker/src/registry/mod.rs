//! `registry`: a name has at most one live owner in a connected cluster, and exactly one after healing.
//!
//! **The contract of the workload.** Every client operation records its `:node`.
//!
//! | f | invocation | ok | fail |
//! |---|---|---|---|
//! | `register` | `{name, nil}` | `{name, owner}`: a process was started and registered under the name | somebody else owns it (error `:taken`); it was certainly not registered |
//! | `whereis` | `{name, nil}` | `{name, owner}` or `{name, nil}` | it did not happen |
//!
//! An owner is a tuple `{node, incarnation}`: the short name of the node that it runs on and a text that
//! no other registered process ever had. An owner ends with its node, or because the registry resolved a
//! conflict after a partition; the workload ends none otherwise. A `register` whose outcome is not
//! known is `info`. Keys are tuples or vectors of two.
//!
//! **What is checked.**
//! 1. In every quiet window (see [`quiet`]: no fault, nobody down, and a grace around each change), all
//!    operations that lie entirely in it see the same live owner of a name, if they see one. Anomaly
//!    `two-owners`, with how long both were seen.
//! 2. After recovery: `whereis` operations of the final phase (after the record `:phase` `final`, or with
//!    `:final? true`) must, for each name that was ever registered, agree on all live nodes
//!    (`no-agreement`), on an owner whose node lives (`dead-owner`), and not on nil
//!    (`registration-lost`) unless some owner of the name has died with its node or may have.
//!
//! Divergence while nodes are apart is allowed; how long two owners were seen is reported all the same.
//! When the cluster was not quiet in the final phase (nodes never came together again), or a final read
//! is missing, or nothing was ever registered, the verdict is `unknown`.
//!
//! **Limits.** Sound rather than complete: two owners seen only during disturbances are never held
//! against the registry. The grace (option `grace-ms`) must cover the time in which the registry resolves
//! conflicts.

pub mod quiet;

use std::collections::{BTreeMap, BTreeSet};

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Value, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::registry::quiet::Cluster;
use crate::{Checker, CheckerInfo, or_not_checked};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "registry",
    about: "Whether a name has at most one live owner while the cluster is whole, and after recovery \
            exactly one that all nodes agree on. Functions: register ({name, nil}, then {name, \
            {node, incarnation}}; fail when taken) and whereis ({name, nil}, then {name, owner or nil}). \
            Two owners while nodes are apart are allowed, and their duration is reported.",
    options: &[OptionInfo {
        name: "grace-ms",
        default: "5000",
        about: "how long before and after any fault or change of the cluster nothing is held against the \
                registry",
    }],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct Registry {
    grace_ns: i64,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Registry, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    // A day is more than any run; the bound keeps the product in range.
    let grace_ms = reader.number("grace-ms", 5_000.0)?.min(86_400_000.0);
    Ok(Registry { grace_ns: (grace_ms * 1e6) as i64 })
}

/// Somebody saw the owner of a name, or that there was none.
#[derive(Debug, Clone, Copy)]
struct Sight<'a> {
    owner: Option<&'a Value>,
    invoke: &'a Op,
    completion: &'a Op,
    is_register: bool,
    is_final: bool,
}

/// All that is known of one name.
#[derive(Debug, Default)]
struct Name<'a> {
    /// In order of invocation.
    sights: Vec<Sight<'a>>,
    /// Registrations that may have happened.
    maybe: Vec<&'a Op>,
}

/// What was found.
#[derive(Default)]
struct Findings {
    anomalies: Vec<Anomaly>,
    count: u64,
    unknown: BTreeSet<String>,
    owner_changes: u64,
    double_ns_max: i64,
}

impl Findings {
    fn add(&mut self, name: &str, key: &Value, text: String, ops: Vec<u64>) {
        self.count += 1;
        if self.anomalies.len() < ANOMALIES_MAX {
            let anomaly = Anomaly {
                name: name.into(),
                key: Some(key.to_string()),
                text,
                ops,
                ..Anomaly::default()
            };
            self.anomalies.push(anomaly);
        }
    }
}

impl Checker for Registry {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        let cluster = Cluster::new(history, self.grace_ns);
        let names = read_names(history, &cluster);
        or_not_checked(INFO.name, names.map(|names| judge(history, &cluster, &names)))
    }
}

fn judge(history: &History, cluster: &Cluster, names: &BTreeMap<&Value, Name>) -> CheckResult {
    let mut found = Findings::default();
    let nodes: BTreeSet<&str> = history
        .client_ops()
        .filter_map(|op| op.node)
        .map(|node| node.as_str())
        .filter(|node| !cluster.gone.contains(*node))
        .collect();
    for (key, name) in names {
        check_windows(cluster, key, name, &mut found);
        check_final(cluster, &nodes, key, name, &mut found);
        found.double_ns_max = found.double_ns_max.max(double_ownership_ns(name));
    }
    let registered = names.values().filter(|name| name.acknowledged().next().is_some()).count();
    let (verdict, reason) = if let Some(first) = found.anomalies.first() {
        let more = if found.count > 1 {
            format!(" (and {} more)", found.count - 1)
        } else {
            String::new()
        };
        (Verdict::Invalid, format!("{}: {}{more}", first.name, first.text))
    } else if registered == 0 {
        (Verdict::Unknown, "no name was ever registered".to_owned())
    } else if let Some(why) = found.unknown.first() {
        let more = found.unknown.len() - 1;
        let more = if more > 0 { format!(" (and {more} more reasons)") } else { String::new() };
        (Verdict::Unknown, format!("not everything could be decided: {why}{more}"))
    } else {
        (
            Verdict::Valid,
            format!(
                "{registered} name{}: one owner each whenever the cluster was whole",
                if registered == 1 { "" } else { "s" }
            ),
        )
    };
    let mut result = CheckResult::new(INFO.name, verdict, reason);
    let quiet_ns: i64 = cluster.quiet.iter().map(|window| window.1.saturating_sub(window.0)).sum();
    let counts = [
        ("names", names.len() as u64),
        ("names-registered", registered as u64),
        ("registrations", names.values().map(|n| n.acknowledged().count() as u64).sum()),
        ("owner-changes", found.owner_changes),
        ("quiet-ms", (quiet_ns / 1_000_000).max(0) as u64),
        ("double-ownership-ms-max", (found.double_ns_max / 1_000_000).max(0) as u64),
    ];
    result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
    result.details = json!({"quiet-windows": cluster.quiet.len()});
    result.anomalies = found.anomalies;
    result
}

impl<'a> Name<'a> {
    /// Registrations that succeeded.
    fn acknowledged(&self) -> impl Iterator<Item = &Sight<'a>> {
        self.sights.iter().filter(|sight| sight.is_register)
    }

    /// When each owner was first known to exist, and first and last seen.
    fn owners(&self) -> BTreeMap<&'a Value, (i64, i64)> {
        let mut owners = BTreeMap::new();
        for sight in &self.sights {
            let Some(owner) = sight.owner else { continue };
            let at = sight.completion.time_ns;
            let seen = owners.entry(owner).or_insert((at, at));
            seen.0 = seen.0.min(at);
            seen.1 = seen.1.max(at);
        }
        owners
    }
}

/// The node that an owner runs on.
fn node_of(owner: &Value) -> Option<&str> {
    owner.items().and_then(<[Value]>::first).and_then(Value::as_text)
}

fn describe(sight: &Sight) -> String {
    let node = sight.invoke.node.map(|node| format!(" on {node}")).unwrap_or_default();
    let owner = match sight.owner {
        Some(owner) => owner.to_string(),
        None => "nobody".into(),
    };
    let what = if sight.is_register { "registered" } else { "saw" };
    format!(
        "process {}{node} {what} {owner} (records {} to {}, {:.3} s)",
        sight.invoke.process,
        sight.invoke.index,
        sight.completion.index,
        sight.completion.time_ns as f64 / 1e9
    )
}

fn ops_of(sights: &[&Sight]) -> Vec<u64> {
    sights.iter().flat_map(|sight| [sight.invoke.index, sight.completion.index]).collect()
}

/// One live owner in each quiet window.
fn check_windows(cluster: &Cluster, key: &Value, name: &Name, found: &mut Findings) {
    let owners = name.owners();
    for &(from, to) in &cluster.quiet {
        let inside =
            |sight: &&Sight| sight.invoke.time_ns >= from && sight.completion.time_ns <= to;
        let is_dead = |owner: &Value| {
            let known = owners.get(owner).map_or(i64::MAX, |seen| seen.0);
            node_of(owner).is_none_or(|node| cluster.exited(node, known, from))
        };
        let mut by_owner: BTreeMap<&Value, (&Sight, &Sight)> = BTreeMap::new();
        for sight in name.sights.iter().filter(inside) {
            if let Some(owner) = sight.owner.filter(|owner| !is_dead(owner)) {
                by_owner.entry(owner).or_insert((sight, sight)).1 = sight;
            }
        }
        let mut firsts: Vec<(&Sight, &Sight)> = by_owner.into_values().collect();
        firsts.sort_by_key(|(first, _)| first.invoke.index);
        for pair in firsts.windows(2) {
            let ((a, a_last), (b, b_last)) = (pair[0], pair[1]);
            found.owner_changes += 1;
            let from = a.completion.time_ns.max(b.completion.time_ns);
            let to = a_last.invoke.time_ns.min(b_last.invoke.time_ns);
            let both = match to.saturating_sub(from) {
                ns if ns > 0 => format!("both were seen for {:.3} s", ns as f64 / 1e9),
                _ => "the first was not seen again".to_owned(),
            };
            let text = format!(
                "{key} had two live owners while the cluster was whole: {}, and {}; {both}",
                describe(a),
                describe(b)
            );
            found.add("two-owners", key, text, ops_of(&[a, b]));
        }
    }
}

/// Longest time in which two owners of the name were both seen, whatever the cluster did.
fn double_ownership_ns(name: &Name) -> i64 {
    let mut seen: Vec<(i64, i64)> = name.owners().into_values().collect();
    seen.sort_unstable();
    let mut longest = 0;
    let mut last_until: i64 = 0;
    for (from, to) in seen {
        longest = longest.max(last_until.min(to).saturating_sub(from));
        last_until = last_until.max(to);
    }
    longest.max(0)
}

/// After recovery all nodes agree on one live owner.
fn check_final(
    cluster: &Cluster,
    nodes: &BTreeSet<&str>,
    key: &Value,
    name: &Name,
    found: &mut Findings,
) {
    if name.acknowledged().next().is_none() {
        return;
    }
    let registered_until = name.acknowledged().map(|s| s.completion.index).max().unwrap_or(0);
    let finals: Vec<&Sight> = name
        .sights
        .iter()
        .filter(|s| s.is_final && !s.is_register && s.invoke.index > registered_until)
        .collect();
    // The last answer of each node; earlier ones may have been on the way.
    let by_node: BTreeMap<&str, &Sight> = finals
        .iter()
        .filter_map(|sight| Some((sight.completion.node.or(sight.invoke.node)?.as_str(), *sight)))
        .collect();
    let missing: Vec<&str> =
        nodes.iter().filter(|node| !by_node.contains_key(**node)).copied().collect();
    if by_node.is_empty() {
        found.unknown.insert("there is no final whereis of some name".into());
        return;
    }
    if !missing.is_empty() {
        found.unknown.insert(format!("no final whereis succeeded on {}", missing.join(", ")));
    }
    let answers: Vec<&Sight> = by_node.into_values().collect();
    let from = answers.iter().map(|s| s.invoke.time_ns).min().unwrap_or(0);
    let to = answers.iter().map(|s| s.completion.time_ns).max().unwrap_or(0);
    if !cluster.is_quiet(from, to) {
        let text = "the cluster was not certainly whole during the final reads: something changed less \
                    than grace-ms before them (a longer recovery_s gives it the time)";
        found.unknown.insert(text.into());
        return;
    }
    judge_answers(cluster, key, name, &answers, from, found);
}

fn judge_answers(
    cluster: &Cluster,
    key: &Value,
    name: &Name,
    answers: &[&Sight],
    from: i64,
    found: &mut Findings,
) {
    let owners = name.owners();
    let first = answers[0];
    if let Some(other) = answers.iter().find(|sight| sight.owner != first.owner) {
        // A registration that may still happen explains that one sees nobody and another somebody.
        let both = first.owner.is_some() && other.owner.is_some();
        if !both && !name.maybe.is_empty() {
            found
                .unknown
                .insert("a registration whose outcome is not known may have come late".into());
            return;
        }
        let text = format!(
            "after recovery the nodes do not agree on the owner of {key}: {}",
            answers.iter().map(|sight| describe(sight)).collect::<Vec<_>>().join("; ")
        );
        found.add("no-agreement", key, text, ops_of(&[first, other]));
        return;
    }
    let died = |owner: &Value| {
        let known = owners.get(owner).map_or(i64::MAX, |seen| seen.0);
        node_of(owner).is_none_or(|node| cluster.exited(node, known, from))
    };
    match first.owner {
        Some(owner) if died(owner) => {
            let text = format!(
                "after recovery all nodes name {owner} as the owner of {key}, but its node has exited \
                 since it was registered: {}",
                describe(first)
            );
            found.add("dead-owner", key, text, ops_of(&[first]));
        }
        Some(_) => {}
        None => {
            let may_have_died = owners.keys().any(|owner| died(owner))
                || name.maybe.iter().any(|op| {
                    op.node.is_some_and(|node| cluster.exited(node.as_str(), op.time_ns, from))
                });
            if may_have_died {
                return;
            }
            let acknowledged: Vec<&Sight> = name.acknowledged().collect();
            let text = format!(
                "after recovery nobody owns {key}, but it was registered and the nodes of all its owners \
                 live: {}",
                acknowledged.iter().map(|sight| describe(sight)).collect::<Vec<_>>().join("; ")
            );
            let mut shown = acknowledged;
            shown.truncate(4);
            shown.push(first);
            found.add("registration-lost", key, text, ops_of(&shown));
        }
    }
}

/// Reads registrations and look-ups by name.
fn read_names<'a>(
    history: &'a History,
    cluster: &Cluster,
) -> Result<BTreeMap<&'a Value, Name<'a>>, String> {
    let mut names: BTreeMap<&Value, Name> = BTreeMap::new();
    for (invoke, completion) in history.client_pairs() {
        let outcome = completion.map_or(OpType::Info, |c| c.op_type);
        let is_register = match invoke.f.as_str() {
            "register" => true,
            "whereis" => false,
            _ if outcome == OpType::Fail => continue,
            other => {
                let index = invoke.index;
                return Err(format!(
                    "record {index}: a registry has :register and :whereis, not :{other}"
                ));
            }
        };
        let (key, _) = keyed(invoke)?;
        let name = names.entry(key).or_default();
        match (outcome, completion) {
            (OpType::Ok, Some(completion)) => {
                let (_, owner) = keyed(completion)?;
                let owner = (!owner.is_nil()).then_some(owner);
                if owner.is_some_and(|owner| node_of(owner).is_none())
                    || is_register && owner.is_none()
                {
                    return Err(format!(
                        "record {}: :{} must return [name [node incarnation]], not {}",
                        completion.index, invoke.f, completion.value
                    ));
                }
                let marked = |op: &Op| op.extra("final?") == Some(&Value::Bool(true));
                let is_final = marked(invoke)
                    || marked(completion)
                    || cluster.final_from.is_some_and(|from| invoke.time_ns >= from);
                name.sights.push(Sight { owner, invoke, completion, is_register, is_final });
            }
            (OpType::Info, _) if is_register => name.maybe.push(invoke),
            _ => {}
        }
    }
    Ok(names)
}

fn keyed(op: &Op) -> Result<(&Value, &Value), String> {
    op.value.key_and_value().ok_or_else(|| {
        format!("record {}: the value {} of :{} is not [name owner]", op.index, op.value, op.f)
    })
}
