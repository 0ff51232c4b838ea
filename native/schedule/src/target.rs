//! Targets: which nodes a fault is about, and which directed links it cuts.
//!
//! A grudge of two components cuts every link between them, in both directions unless one-way (then
//! only what the first component sends to the second). Rings are Jepsen's `majorities-ring`: exact for at
//! most five nodes, a stochastic construction above (Kingsbury's note: exact rings exist for 4, 5, 6 and
//! 8 nodes, but not for 7). For three nodes one link is cut: each end sees itself and the third, the third
//! sees all, and no two majorities are the same.
//!
//! A scope keeps a target to the nodes of a role. A scope of two roles, `api-storage`, is about the links between
//! them: the target chooses nodes of the first, and they are cut from all of the second.

use std::collections::BTreeSet;

use fuzz_dist_core::fault::{Fault, FaultKind, Link, LinkFault, Resolved, Subject, Target};
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::spec::{FaultSpec, Roles, Spec, suggest};

use crate::draw;

/// Why a target does not fit the nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// A node that there is not.
    #[error("unknown node `{node}`{hint}")]
    UnknownNode {
        /// The node.
        node: String,
        /// What would be right.
        hint: String,
    },
    /// Too few nodes for it.
    #[error("target `{target}` needs at least {needed} nodes for a `{kind}`, there are {have}")]
    TooFewNodes {
        /// The target.
        target: &'static str,
        /// The kind of fault.
        kind: &'static str,
        /// How many it needs.
        needed: usize,
        /// How many there are.
        have: usize,
    },
    /// A target of links for a fault of nodes.
    #[error(
        "target `{target}` is about links, but `{kind}` happens to nodes; use `one`, `minority`, \
         `majority`, `halves`, `primaries`, `all` or `named`"
    )]
    NotNodes {
        /// The target.
        target: &'static str,
        /// The kind of fault.
        kind: &'static str,
    },
    /// Primaries are known only while the test runs.
    #[error("the primaries are known only when the fault starts")]
    PrimariesUnknown,
    /// The test names nobody as primary.
    #[error("the test named no node as primary")]
    NoPrimaries,
    /// Nothing named, or everything, so that nothing is left to cut from.
    #[error("target `named` lists {listed} of {have} nodes: there is no link to cut")]
    NothingToCut {
        /// How many are listed.
        listed: usize,
        /// How many there are.
        have: usize,
    },
    /// An empty list.
    #[error("target `{0}` lists nothing")]
    Empty(&'static str),
    /// A scope names a role that there is not.
    #[error("unknown role `{role}`{hint}")]
    UnknownRole {
        /// The role.
        role: String,
        /// What would be right.
        hint: String,
    },
    /// A scope of two roles for something else than links between two groups.
    #[error("scope `{scope}`: {problem}")]
    Scope {
        /// As it was written.
        scope: String,
        /// Why it does not fit.
        problem: String,
    },
    /// A link from a node to itself.
    #[error("link from `{0}` to itself")]
    SelfLink(String),
}

/// The name of a target in schedules and reports.
pub fn name(target: &Target) -> &'static str {
    match target {
        Target::One => "one",
        Target::Minority => "minority",
        Target::Majority => "majority",
        Target::Halves => "halves",
        Target::Ring => "ring",
        Target::Bridge => "bridge",
        Target::Primaries => "primaries",
        Target::All => "all",
        Target::Named(_) => "named",
        Target::Links(_) => "links",
    }
}

/// The nodes of a test and what they are for.
#[derive(Debug, Clone, Default)]
pub struct Field {
    /// All of them, in order.
    pub nodes: Vec<String>,
    /// The nodes of each role.
    pub roles: Roles,
}

impl Field {
    /// Those of a spec.
    pub fn of(spec: &Spec) -> Field {
        Field { nodes: spec.nodes.names(), roles: spec.roles.clone() }
    }

    /// The nodes of a role, in the order of all nodes.
    pub fn of_role(&self, role: &str) -> Result<Vec<String>, TargetError> {
        match self.roles.get(role) {
            Some(members) => Ok(in_order(&self.nodes, members)),
            None => {
                let hint = match self.roles.is_empty() {
                    true => ": [roles] defines none".to_owned(),
                    false => suggest::clause(role, self.roles.keys().map(String::as_str)),
                };
                Err(TargetError::UnknownRole { role: role.to_owned(), hint })
            }
        }
    }
}

/// What a fault aims at, before it is known whom it meets.
#[derive(Debug, Clone, Copy)]
pub struct Aim<'a> {
    /// The target.
    pub target: &'a Target,
    /// The role or roles that it is kept to.
    pub scope: Option<&'a str>,
    /// Only one direction of each link.
    pub one_way: bool,
    /// The kind of fault.
    pub kind: &'a FaultKind,
}

impl<'a> Aim<'a> {
    /// That of a fault of a schedule.
    pub fn of(fault: &'a Fault) -> Aim<'a> {
        let Fault { target, scope, one_way, kind, .. } = fault;
        Aim { target, scope: scope.as_deref(), one_way: *one_way, kind }
    }

    /// That of a fault of a spec with one of its targets.
    pub fn of_spec(spec: &'a FaultSpec, target: &'a Target) -> Aim<'a> {
        let FaultSpec { scope, one_way, kind, .. } = spec;
        Aim { target, scope: scope.as_deref(), one_way: *one_way, kind }
    }

    /// Whether it is known only when the fault starts whom it meets.
    pub fn is_late(&self) -> bool {
        *self.target == Target::Primaries || self.kind.info().subject == Subject::Cluster
    }
}

/// Resolves a target: nodes for faults of nodes, directed links (and the first component's nodes) for
/// faults of links, nothing for those of the cluster. `primaries` is what the test names when the fault
/// starts. `half-open` is one-way by nature: both ends of a link cannot each be the only one to see a
/// close.
pub fn resolve(
    aim: &Aim<'_>,
    field: &Field,
    primaries: Option<&[String]>,
    stream: &mut Stream,
) -> Result<Resolved, TargetError> {
    let Aim { target, kind, .. } = *aim;
    let one_way = aim.one_way || *kind == FaultKind::Link(LinkFault::HalfOpen);
    let subject = kind.info().subject;
    let Some(scope) = aim.scope else {
        let nodes = &field.nodes;
        return match subject {
            Subject::Nodes => resolve_nodes(target, kind, nodes, primaries, stream),
            Subject::Links => resolve_links(target, one_way, kind, nodes, primaries, stream),
            Subject::Cluster => Ok(Resolved::default()),
        };
    };
    let mut groups = Vec::new();
    for role in scope.split('-') {
        groups.push(field.of_role(role)?);
    }
    // Whoever is primary of another role is none of this one.
    let within: Option<Vec<String>> = primaries.map(|all| in_order(&groups[0], all));
    let within = within.as_deref();
    match (groups.as_slice(), subject) {
        ([nodes], Subject::Nodes) => resolve_nodes(target, kind, nodes, within, stream),
        ([nodes], Subject::Links) => resolve_links(target, one_way, kind, nodes, within, stream),
        ([_], Subject::Cluster) => Ok(Resolved::default()),
        ([from, to], Subject::Links) => {
            let chosen =
                resolve_nodes(target, kind, from, within, stream).map_err(|error| match error {
                    TargetError::NotNodes { target, .. } => {
                        between_roles(scope, &format!("target `{target}` is about one group"))
                    }
                    error => error,
                })?;
            let others: Vec<String> =
                to.iter().filter(|node| !chosen.nodes.contains(node)).cloned().collect();
            if others.is_empty() {
                return Err(between_roles(scope, "nobody is left on the other side"));
            }
            Ok(Resolved { links: between(&chosen.nodes, &others, one_way), ..chosen })
        }
        (_, Subject::Links) => Err(between_roles(scope, "links are between two roles")),
        _ => {
            let problem = format!("`{}` happens to nodes: name one role", kind.name());
            Err(between_roles(scope, &problem))
        }
    }
}

fn between_roles(scope: &str, problem: &str) -> TargetError {
    TargetError::Scope { scope: scope.to_owned(), problem: problem.to_owned() }
}

fn resolve_nodes(
    target: &Target,
    kind: &FaultKind,
    nodes: &[String],
    primaries: Option<&[String]>,
    stream: &mut Stream,
) -> Result<Resolved, TargetError> {
    let count = nodes.len();
    let need = |needed| enough(target, kind, needed, count);
    let some = |size: usize, stream: &mut Stream| {
        let mut shuffled = nodes.to_vec();
        draw::shuffle(stream, &mut shuffled);
        shuffled.truncate(size);
        shuffled
    };
    let chosen = match target {
        Target::One => {
            need(1)?;
            some(1, stream)
        }
        Target::Minority => {
            need(3)?;
            let size = 1 + draw::index(stream, minority_max(count));
            some(size, stream)
        }
        Target::Majority => {
            need(1)?;
            let least = count / 2 + 1;
            let size = least + draw::index(stream, count - least + 1);
            some(size, stream)
        }
        Target::Halves => {
            need(2)?;
            some(count / 2, stream)
        }
        Target::All => {
            need(1)?;
            nodes.to_vec()
        }
        Target::Primaries => known_primaries(primaries, nodes)?,
        Target::Named(names) => {
            known(names, nodes)?;
            names.clone()
        }
        Target::Ring | Target::Bridge | Target::Links(_) => {
            return Err(TargetError::NotNodes { target: name(target), kind: kind.name() });
        }
    };
    Ok(Resolved { nodes: in_order(nodes, &chosen), links: Vec::new() })
}

fn resolve_links(
    target: &Target,
    one_way: bool,
    kind: &FaultKind,
    nodes: &[String],
    primaries: Option<&[String]>,
    stream: &mut Stream,
) -> Result<Resolved, TargetError> {
    let count = nodes.len();
    let need = |needed| enough(target, kind, needed, count);
    let mut shuffled = nodes.to_vec();
    draw::shuffle(stream, &mut shuffled);
    let first = match target {
        Target::One => {
            need(2)?;
            1
        }
        Target::Minority => {
            need(3)?;
            1 + draw::index(stream, minority_max(count))
        }
        Target::Majority => {
            need(3)?;
            let least = count / 2 + 1;
            least + draw::index(stream, count - least)
        }
        Target::Halves => {
            need(2)?;
            count / 2
        }
        Target::Ring => {
            need(3)?;
            return Ok(ring(nodes, &shuffled, one_way, stream));
        }
        Target::Bridge => {
            need(3)?;
            return Ok(bridge(nodes, &shuffled, one_way));
        }
        Target::All => {
            need(2)?;
            return Ok(each_from_all(nodes, nodes, one_way));
        }
        Target::Primaries => {
            need(2)?;
            return Ok(each_from_all(&known_primaries(primaries, nodes)?, nodes, one_way));
        }
        Target::Named(names) => {
            known(names, nodes)?;
            let chosen: BTreeSet<&String> = names.iter().collect();
            if chosen.len() == count {
                return Err(TargetError::NothingToCut { listed: chosen.len(), have: count });
            }
            shuffled.sort_by_key(|node| !chosen.contains(node));
            chosen.len()
        }
        Target::Links(links) => return exact(links, nodes),
    };
    let (a, b) = shuffled.split_at(first);
    Ok(Resolved { nodes: in_order(nodes, a), links: between(a, b, one_way) })
}

fn enough(
    target: &Target,
    kind: &FaultKind,
    needed: usize,
    have: usize,
) -> Result<(), TargetError> {
    if have >= needed {
        return Ok(());
    }
    Err(TargetError::TooFewNodes { target: name(target), kind: kind.name(), needed, have })
}

/// The largest number that is less than half.
fn minority_max(count: usize) -> usize {
    count.div_ceil(2).saturating_sub(1)
}

fn known(names: &[String], nodes: &[String]) -> Result<(), TargetError> {
    if names.is_empty() {
        return Err(TargetError::Empty("named"));
    }
    match names.iter().find(|name| !nodes.contains(name)) {
        None => Ok(()),
        Some(unknown) => Err(unknown_node(unknown, nodes)),
    }
}

pub(crate) fn unknown_node(node: &str, nodes: &[String]) -> TargetError {
    let hint = suggest::clause(node, nodes.iter().map(String::as_str));
    TargetError::UnknownNode { node: node.to_owned(), hint }
}

fn known_primaries(
    primaries: Option<&[String]>,
    nodes: &[String],
) -> Result<Vec<String>, TargetError> {
    let primaries = primaries.ok_or(TargetError::PrimariesUnknown)?;
    if primaries.is_empty() {
        return Err(TargetError::NoPrimaries);
    }
    known(primaries, nodes)?;
    Ok(primaries.to_vec())
}

/// The chosen nodes, each once, in the order of all nodes.
fn in_order(nodes: &[String], chosen: &[String]) -> Vec<String> {
    nodes.iter().filter(|node| chosen.contains(node)).cloned().collect()
}

fn link(from: &str, to: &str) -> Link {
    Link { from: from.to_owned(), to: to.to_owned() }
}

fn sorted(links: impl IntoIterator<Item = Link>) -> Vec<Link> {
    links.into_iter().collect::<BTreeSet<Link>>().into_iter().collect()
}

fn between(a: &[String], b: &[String], one_way: bool) -> Vec<Link> {
    let pairs = a.iter().flat_map(|from| b.iter().map(move |to| (from, to)));
    sorted(pairs.flat_map(|(from, to)| {
        let back = (!one_way).then(|| link(to, from));
        std::iter::once(link(from, to)).chain(back)
    }))
}

/// Each of the chosen is cut from every other node, the chosen among themselves included.
fn each_from_all(chosen: &[String], nodes: &[String], one_way: bool) -> Resolved {
    let links = chosen.iter().flat_map(|node| {
        let others: Vec<String> = nodes.iter().filter(|other| *other != node).cloned().collect();
        between(std::slice::from_ref(node), &others, one_way)
    });
    Resolved { nodes: in_order(nodes, chosen), links: sorted(links) }
}

fn bridge(nodes: &[String], shuffled: &[String], one_way: bool) -> Resolved {
    let middle = shuffled.len() / 2;
    let (a, b) = (&shuffled[..middle], &shuffled[middle + 1..]);
    Resolved { nodes: in_order(nodes, a), links: between(a, b, one_way) }
}

fn exact(links: &[(String, String)], nodes: &[String]) -> Result<Resolved, TargetError> {
    if links.is_empty() {
        return Err(TargetError::Empty("links"));
    }
    for (from, to) in links {
        for node in [from, to] {
            if !nodes.contains(node) {
                return Err(unknown_node(node, nodes));
            }
        }
        if from == to {
            return Err(TargetError::SelfLink(from.clone()));
        }
    }
    let from: Vec<String> = links.iter().map(|(from, _)| from.clone()).collect();
    let links = sorted(links.iter().map(|(from, to)| link(from, to)));
    Ok(Resolved { nodes: in_order(nodes, &from), links })
}

/// Cuts the links that the ring does not need. One-way: only from the node that comes first in the
/// shuffled order.
fn ring(nodes: &[String], shuffled: &[String], one_way: bool, stream: &mut Stream) -> Resolved {
    let count = shuffled.len();
    let seen = match count {
        3 => vec![vec![true, true, false], vec![true; 3], vec![false, true, true]],
        4 | 5 => neighbours(count),
        _ => grown(count, stream),
    };
    let mut links = Vec::new();
    for a in 0..count {
        for b in a + 1..count {
            if !seen[a][b] {
                links.extend(between(&shuffled[a..=a], &shuffled[b..=b], one_way));
            }
        }
    }
    Resolved { nodes: nodes.to_vec(), links: sorted(links) }
}

/// Each sees itself and its two neighbours: a majority of four or five.
fn neighbours(count: usize) -> Vec<Vec<bool>> {
    let near = |a: usize, b: usize| a == b || (a + 1) % count == b || (b + 1) % count == a;
    (0..count).map(|a| (0..count).map(|b| near(a, b)).collect()).collect()
}

/// Grows symmetric links, always from a node that sees fewest to one of those that it does not see yet
/// and that sees fewest, until every node sees a majority.
fn grown(count: usize, stream: &mut Stream) -> Vec<Vec<bool>> {
    let majority = count / 2 + 1;
    let mut seen: Vec<Vec<bool>> =
        (0..count).map(|a| (0..count).map(|b| a == b).collect()).collect();
    let degree = |seen: &[Vec<bool>], node: usize| seen[node].iter().filter(|s| **s).count();
    loop {
        let fewest = |seen: &[Vec<bool>], from: Vec<usize>, stream: &mut Stream| {
            let least = from.iter().map(|node| degree(seen, *node)).min()?;
            let from: Vec<usize> =
                from.into_iter().filter(|node| degree(seen, *node) == least).collect();
            Some(from[draw::index(stream, from.len())])
        };
        let Some(a) = fewest(&seen, (0..count).collect(), stream) else { return seen };
        if degree(&seen, a) >= majority {
            return seen;
        }
        let unseen: Vec<usize> = (0..count).filter(|b| !seen[a][*b]).collect();
        let Some(b) = fewest(&seen, unseen, stream) else { return seen };
        seen[a][b] = true;
        seen[b][a] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz_dist_core::fault::{MembershipFault, ProcessFault};
    use fuzz_dist_core::seed::Seed;

    fn nodes(count: usize) -> Vec<String> {
        (1..=count).map(|i| format!("n{i}")).collect()
    }

    fn cut(target: Target, count: usize, one_way: bool, index: u64) -> Resolved {
        let mut stream = Seed(5).stream("fault-target", index);
        let kind = LinkFault::HOLD.into();
        aimed(&target, one_way, &kind, count, None, &mut stream).unwrap()
    }

    fn aimed(
        target: &Target,
        one_way: bool,
        kind: &FaultKind,
        count: usize,
        primaries: Option<&[String]>,
        stream: &mut Stream,
    ) -> Result<Resolved, TargetError> {
        let field = Field { nodes: nodes(count), roles: Roles::new() };
        resolve(&Aim { target, scope: None, one_way, kind }, &field, primaries, stream)
    }

    fn roles() -> Field {
        let of = |from: usize, to: usize| nodes(to).split_off(from - 1);
        let roles = [("api".to_owned(), of(1, 2)), ("storage".to_owned(), of(3, 5))];
        Field { nodes: nodes(6), roles: Roles::from(roles) }
    }

    fn scoped(target: &Target, scope: &str, kind: &FaultKind) -> Result<Resolved, TargetError> {
        let mut stream = Seed(5).stream("fault-target", 0);
        let aim = Aim { target, scope: Some(scope), one_way: false, kind };
        resolve(&aim, &roles(), Some(&["n1".into(), "n4".into()]), &mut stream)
    }

    #[test]
    fn a_scope_keeps_a_fault_to_the_nodes_of_a_role() {
        let (kill, hold) = (ProcessFault::Kill.into(), LinkFault::HOLD.into());
        assert_eq!(scoped(&Target::All, "storage", &kill).unwrap().nodes, ["n3", "n4", "n5"]);
        assert_eq!(scoped(&Target::Primaries, "storage", &kill).unwrap().nodes, ["n4"]);
        let inside = scoped(&Target::One, "storage", &hold).unwrap();
        assert_eq!(inside.links.len(), 4);
        let storage = |node: &String| ["n3", "n4", "n5"].contains(&node.as_str());
        assert!(inside.links.iter().all(|link| storage(&link.from) && storage(&link.to)));
        let across = scoped(&Target::All, "api-storage", &hold).unwrap();
        assert_eq!(across.links.len(), 2 * 3 * 2);
        assert!(across.links.iter().all(|link| storage(&link.from) != storage(&link.to)));
        for (target, scope, kind, wanted) in [
            (Target::One, "storag", &kill, "unknown role `storag`; did you mean `storage`?"),
            (Target::One, "api-storage", &kill, "`kill` happens to nodes: name one role"),
            (Target::Ring, "api-storage", &hold, "target `ring` is about one group"),
            (Target::Ring, "api", &hold, "needs at least 3 nodes"),
            (Target::All, "api-api", &hold, "nobody is left on the other side"),
        ] {
            let error = scoped(&target, scope, kind).unwrap_err().to_string();
            assert!(error.contains(wanted), "{scope}: {error}");
        }
    }

    #[test]
    fn a_change_of_membership_aims_at_nobody_yet() {
        let change = MembershipFault::Change { allow_unsafe: false }.into();
        let aim = Aim { target: &Target::One, scope: None, one_way: false, kind: &change };
        assert!(aim.is_late());
        let mut stream = Seed(5).stream("fault-target", 0);
        assert_eq!(resolve(&aim, &roles(), None, &mut stream), Ok(Resolved::default()));
    }

    /// Whom a node can hear, itself included.
    fn hears(resolved: &Resolved, node: &str, count: usize) -> BTreeSet<String> {
        let deaf_to = |from: &str| resolved.links.iter().any(|l| l.from == from && l.to == node);
        nodes(count).into_iter().filter(|from| !deaf_to(from)).collect()
    }

    #[test]
    fn in_a_ring_everyone_sees_a_majority_and_up_to_five_no_two_the_same() {
        for count in 3..=12 {
            for index in 0..20 {
                let resolved = cut(Target::Ring, count, false, index);
                let views: Vec<_> =
                    nodes(count).iter().map(|node| hears(&resolved, node, count)).collect();
                assert!(views.iter().all(|view| view.len() > count / 2), "{count}: {views:?}");
                assert!(!resolved.links.is_empty(), "{count} nodes: nothing is cut");
                if count <= 5 {
                    assert_eq!(views.iter().collect::<BTreeSet<_>>().len(), count, "{views:?}");
                }
            }
        }
    }

    #[test]
    fn a_minority_is_less_than_half_and_a_majority_more() {
        for count in 3..=9 {
            for index in 0..30 {
                let minority = cut(Target::Minority, count, false, index).nodes.len();
                assert!(minority >= 1 && 2 * minority < count);
                let majority = cut(Target::Majority, count, false, index).nodes.len();
                assert!(2 * majority > count && majority < count);
            }
        }
    }

    #[test]
    fn two_components_are_cut_in_both_directions_or_in_one() {
        let both = cut(Target::Halves, 5, false, 0);
        assert_eq!((both.nodes.len(), both.links.len()), (2, 12));
        let one = cut(Target::Halves, 5, true, 0);
        assert_eq!(one.links.len(), 6);
        assert!(one.links.iter().all(|link| one.nodes.contains(&link.from)));
        assert_eq!(one.nodes, both.nodes, "direction must not shift the draw of nodes");
    }

    #[test]
    fn a_bridge_sees_all() {
        for index in 0..10 {
            let resolved = cut(Target::Bridge, 5, false, index);
            let full = nodes(5).iter().filter(|n| hears(&resolved, n, 5).len() == 5).count();
            assert_eq!((full, resolved.links.len()), (1, 8));
        }
    }

    #[test]
    fn primaries_are_cut_from_everyone() {
        let mut stream = Seed(5).stream("fault-target", 0);
        let primaries = ["n2".to_owned()];
        let hold = LinkFault::HOLD.into();
        let resolved = aimed(&Target::Primaries, false, &hold, 3, Some(&primaries), &mut stream);
        assert_eq!(resolved.unwrap().links.len(), 4);
        let kill = ProcessFault::Kill.into();
        let unknown = aimed(&Target::Primaries, false, &kill, 3, None, &mut stream);
        assert_eq!(unknown, Err(TargetError::PrimariesUnknown));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut stream = Seed(5).stream("fault-target", 0);
        let mut of = |target: Target, kind: FaultKind, count: usize| {
            aimed(&target, false, &kind, count, None, &mut stream).unwrap_err().to_string()
        };
        let named = Target::Named(vec!["n11".into()]);
        assert!(
            of(named, LinkFault::HOLD.into(), 3).contains("unknown node `n11`; did you mean `n1`?")
        );
        assert!(of(Target::Minority, LinkFault::HOLD.into(), 2).contains("at least 3 nodes"));
        assert!(of(Target::Ring, ProcessFault::Kill.into(), 3).contains("is about links"));
        let loop_link = Target::Links(vec![("n1".into(), "n1".into())]);
        assert!(of(loop_link, LinkFault::HOLD.into(), 3).contains("to itself"));
        assert!(of(Target::Named(nodes(3)), LinkFault::HOLD.into(), 3).contains("no link to cut"));
    }

    #[test]
    fn half_open_has_one_direction() {
        let mut stream = Seed(5).stream("fault-target", 0);
        let kind = LinkFault::HalfOpen.into();
        let resolved = aimed(&Target::One, false, &kind, 3, None, &mut stream).unwrap();
        assert_eq!(resolved.links.len(), 2);
    }
}
