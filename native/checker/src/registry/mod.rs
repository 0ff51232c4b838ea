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
//! 3. Two owners that lived at one time while nodes were apart are allowed and told in the reason, with how
//!    long; with the option `while-apart=forbid` they are `two-owners` as well. An owner lives from its
//!    registration, or the first sight of it, to the last operation that saw it, or the exit of its
//!    node.
//!
//! When the cluster was not quiet in the final phase (nodes never came together again), or a final read
//! is missing, or nothing was ever registered, the verdict is `unknown`.
//!
//! **Limits.** Sound rather than complete: two owners seen only during disturbances are never held
//! against the registry. The grace (option `grace-ms`) must cover the time in which the registry resolves
//! conflicts.

pub mod quiet;

use std::collections::{BTreeMap, BTreeSet};

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, FaultLog, History, Op, OpType, Value, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::finals::{final_from, is_final};
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::registry::quiet::Cluster;
use crate::{Checker, CheckerInfo, or_not_checked};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "registry",
    about: "Whether a name has at most one live owner while the cluster is whole, and after recovery \
            exactly one that all nodes agree on. Functions: register ({name, nil}, then {name, \
            {node, incarnation}}; fail when taken) and whereis ({name, nil}, then {name, owner or nil}). \
            Two owners while nodes are apart are allowed, and told with their duration; \
            while-apart=forbid makes them a violation.",
    needs: &[need("registrations", "no :register succeeded")],
    options: &[
        OptionInfo {
            name: "grace-ms",
            default: "5000",
            about: "how long before and after any fault or change of the cluster nothing is held against \
                    the registry",
        },
        OptionInfo {
            name: "while-apart",
            default: "allow",
            about: "allow or forbid two owners of a name at one time, while nodes are apart or at any other \
                    time",
        },
    ],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct Registry {
    grace_ns: i64,
    forbids_two: bool,
}

/// Builds it.
pub fn build(options: &Options) -> Result<Registry, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    // A day is more than any run; the bound keeps the product in range.
    let grace_ms = reader.number("grace-ms", 5_000.0)?.min(86_400_000.0);
    let forbids_two = reader.word("while-apart", &["allow", "forbid"], "allow")? == "forbid";
    Ok(Registry { grace_ns: (grace_ms * 1e6) as i64, forbids_two })
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
    doubles: Vec<Double>,
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
        let names = read_names(history);
        or_not_checked(INFO.name, names.map(|names| self.judge(history, &cluster, &names)))
    }
}

impl Registry {
    fn judge(
        &self,
        history: &History,
        cluster: &Cluster,
        names: &BTreeMap<&Value, Name>,
    ) -> CheckResult {
        let mut found = Findings::default();
        let log = FaultLog::of(history);
        for (key, name) in names {
            found.doubles.extend(two_owners(cluster, key, name));
        }
        found.doubles.sort_by_key(|double| std::cmp::Reverse(double.duration_ns()));
        if self.forbids_two {
            let doubles = std::mem::take(&mut found.doubles);
            for double in &doubles {
                found.add("two-owners", &double.key, double.text(&log), double.ops.clone());
            }
            found.doubles = doubles;
        }
        judge(history, &log, cluster, names, found)
    }
}

fn judge(
    history: &History,
    log: &FaultLog,
    cluster: &Cluster,
    names: &BTreeMap<&Value, Name>,
    mut found: Findings,
) -> CheckResult {
    let lasting = log.lasting();
    let nodes: BTreeSet<&str> = history
        .client_ops()
        .filter_map(|op| op.node)
        .map(|node| node.as_str())
        .filter(|node| !lasting.contains(*node))
        .collect();
    for (key, name) in names {
        check_windows(cluster, key, name, &mut found);
        check_final(cluster, &nodes, key, name, &mut found);
    }
    let two = told_doubles(&found.doubles, log);
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
        (Verdict::Unknown, format!("not everything could be decided: {why}{more}{two}"))
    } else {
        (
            Verdict::Valid,
            format!(
                "{registered} name{}: one owner each whenever the cluster was whole{two}",
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
        (
            "double-ownership-ms-max",
            found.doubles.first().map_or(0, |double| double.duration_ns() / 1_000_000) as u64,
        ),
        ("names-with-two-owners", two_owner_names(&found.doubles)),
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
    let at = match sight.completion.time_ns {
        // A history without times.
        ..0 => String::new(),
        ns => format!(", {:.3} s", ns as f64 / 1e9),
    };
    format!(
        "process {}{node} {what} {owner} (records {} to {}{at})",
        sight.invoke.process, sight.invoke.index, sight.completion.index,
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

/// Two owners of a name that lived at one time.
#[derive(Debug)]
struct Double {
    key: Value,
    owners: [Value; 2],
    from_ns: i64,
    to_ns: i64,
    ops: Vec<u64>,
}

impl Double {
    fn duration_ns(&self) -> i64 {
        self.to_ns.saturating_sub(self.from_ns).max(0)
    }

    /// `"a" had two owners, on n1 and n2, for 5.100 s during fault 1 (hold)`.
    fn text(&self, log: &FaultLog) -> String {
        let [a, b] = &self.owners;
        let on = match (node_of(a), node_of(b)) {
            (Some(one), Some(other)) if one != other => format!(", on {one} and {other}"),
            (Some(one), Some(_)) => format!(", both on {one}"),
            _ => String::new(),
        };
        let during = log.intervals().iter().filter(|fault| {
            let window = fault.window();
            window.is_some_and(|(from, to)| from <= self.to_ns && self.from_ns <= to)
        });
        let during: Vec<String> =
            during.take(3).map(|fault| format!("fault {} ({})", fault.id, fault.kind)).collect();
        let during = match during.is_empty() {
            true => String::new(),
            false => format!(" during {}", during.join(", ")),
        };
        let seconds = self.duration_ns() as f64 / 1e9;
        format!("{} had two owners{on}, for {seconds:.3} s{during}", self.key)
    }
}

/// Pairs of owners of a name that were both alive for some time: each from its registration, or the first
/// sight of it, to the last operation that saw it, or the exit of its node.
fn two_owners(cluster: &Cluster, key: &Value, name: &Name) -> Vec<Double> {
    let mut lives: BTreeMap<&Value, (&Sight, &Sight)> = BTreeMap::new();
    for sight in &name.sights {
        let Some(owner) = sight.owner else { continue };
        let life = lives.entry(owner).or_insert((sight, sight));
        if sight.completion.index < life.0.completion.index {
            life.0 = sight;
        }
        if sight.invoke.index > life.1.invoke.index {
            life.1 = sight;
        }
    }
    let mut lives: Vec<Life> =
        lives.into_iter().map(|(owner, sights)| Life::new(cluster, owner, sights)).collect();
    lives.sort_by_key(|life| life.from);
    let mut doubles = Vec::new();
    // The owner that is known to have lived longest so far is the one that others overlap most.
    let mut longest: Option<&Life> = None;
    for life in &lives {
        if let Some(other) = longest.filter(|other| other.until > life.from) {
            let sights = [other.sights.0, other.sights.1, life.sights.0, life.sights.1];
            doubles.push(Double {
                key: key.clone(),
                owners: [other.owner.clone(), life.owner.clone()],
                from_ns: life.from.0,
                to_ns: other.end_ns.min(life.end_ns),
                ops: ops_of(&sights),
            });
        }
        if longest.is_none_or(|other| other.until < life.until) {
            longest = Some(life);
        }
    }
    doubles
}

/// The time in which an owner certainly lived, as times with positions of records, which tell apart what has
/// one time.
struct Life<'a> {
    owner: &'a Value,
    sights: (&'a Sight<'a>, &'a Sight<'a>),
    from: (i64, u64),
    until: (i64, u64),
    /// When it was seen last.
    end_ns: i64,
}

impl<'a> Life<'a> {
    fn new(
        cluster: &Cluster,
        owner: &'a Value,
        sights: (&'a Sight<'a>, &'a Sight<'a>),
    ) -> Life<'a> {
        let (first, last) = sights;
        let from = (first.completion.time_ns, first.completion.index);
        let exits = node_of(owner).and_then(|node| cluster.exits.get(node));
        let exit = exits.and_then(|exits| exits.iter().filter(|at| **at > from.0).min());
        // One operation that saw an owner shows that it lived when that operation ended.
        let seen = (last.invoke.time_ns, last.invoke.index).max(from);
        let seen_ns = last.completion.time_ns;
        let (until, end_ns) = match exit {
            Some(exit) if *exit <= seen.0 => ((*exit, 0), *exit),
            Some(exit) => (seen, seen_ns.min(*exit)),
            None => (seen, seen_ns),
        };
        Life { owner, sights, from, until, end_ns }
    }
}

/// For the line of the verdict, when two owners are allowed: the longest, and how many names had two.
fn told_doubles(doubles: &[Double], log: &FaultLog) -> String {
    let Some(longest) = doubles.first() else { return String::new() };
    let names = two_owner_names(doubles);
    let more = if names > 1 { format!(", the longest of {names} names") } else { String::new() };
    format!("; {}{more} (allowed; while-apart=forbid makes it a violation)", longest.text(log))
}

fn two_owner_names(doubles: &[Double]) -> u64 {
    doubles.iter().map(|double| &double.key).collect::<BTreeSet<_>>().len() as u64
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
fn read_names<'a>(history: &'a History) -> Result<BTreeMap<&'a Value, Name<'a>>, String> {
    let mut names: BTreeMap<&Value, Name> = BTreeMap::new();
    let final_from = final_from(history);
    for (invoke, completion) in crate::budget::client_pairs(history) {
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
                let is_final = is_final(invoke, Some(completion), final_from);
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
