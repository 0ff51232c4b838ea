//! Targets: which nodes a fault is about, and which directed links it cuts.
//!
//! A grudge of two components cuts every link between them, in both directions unless one-way (then
//! only what the first component sends to the second). Rings are Jepsen's `majorities-ring`: exact for at
//! most five nodes, a stochastic construction above (Kingsbury's note: exact rings exist for 4, 5, 6 and
//! 8 nodes, but not for 7). For three nodes one link is cut: each end sees itself and the third, the third
//! sees all, and no two majorities are the same.

use std::collections::BTreeSet;

use fuzz_dist_core::fault::{FaultKind, Link, Plane, Resolved, Target};
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::spec::suggest;

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

/// Resolves a target: nodes for process faults, directed links (and the first component's nodes) for
/// link faults. `primaries` is what the test names when the fault starts. `half-open` is one-way by
/// nature: both ends of a link cannot each be the only one to see a close.
pub fn resolve(
    target: &Target,
    one_way: bool,
    kind: &FaultKind,
    nodes: &[String],
    primaries: Option<&[String]>,
    stream: &mut Stream,
) -> Result<Resolved, TargetError> {
    let one_way = one_way || matches!(kind, FaultKind::HalfOpen);
    match kind.plane() {
        Plane::Process => resolve_nodes(target, kind, nodes, primaries, stream),
        Plane::Link => resolve_links(target, one_way, kind, nodes, primaries, stream),
    }
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
    use fuzz_dist_core::seed::Seed;

    fn nodes(count: usize) -> Vec<String> {
        (1..=count).map(|i| format!("n{i}")).collect()
    }

    fn cut(target: Target, count: usize, one_way: bool, index: u64) -> Resolved {
        let mut stream = Seed(5).stream("fault-target", index);
        resolve(&target, one_way, &FaultKind::Hold, &nodes(count), None, &mut stream).unwrap()
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
        let resolved = resolve(
            &Target::Primaries,
            false,
            &FaultKind::Hold,
            &nodes(3),
            Some(&primaries),
            &mut stream,
        );
        assert_eq!(resolved.unwrap().links.len(), 4);
        let unknown =
            resolve(&Target::Primaries, false, &FaultKind::Kill, &nodes(3), None, &mut stream);
        assert_eq!(unknown, Err(TargetError::PrimariesUnknown));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut stream = Seed(5).stream("fault-target", 0);
        let mut of = |target: Target, kind: FaultKind, count: usize| {
            resolve(&target, false, &kind, &nodes(count), None, &mut stream)
                .unwrap_err()
                .to_string()
        };
        let named = Target::Named(vec!["n11".into()]);
        assert!(of(named, FaultKind::Hold, 3).contains("unknown node `n11`; did you mean `n1`?"));
        assert!(of(Target::Minority, FaultKind::Hold, 2).contains("at least 3 nodes"));
        assert!(of(Target::Ring, FaultKind::Kill, 3).contains("is about links"));
        let loop_link = Target::Links(vec![("n1".into(), "n1".into())]);
        assert!(of(loop_link, FaultKind::Hold, 3).contains("to itself"));
        assert!(of(Target::Named(nodes(3)), FaultKind::Hold, 3).contains("no link to cut"));
    }

    #[test]
    fn half_open_has_one_direction() {
        let mut stream = Seed(5).stream("fault-target", 0);
        let kind = FaultKind::HalfOpen;
        let resolved = resolve(&Target::One, false, &kind, &nodes(3), None, &mut stream).unwrap();
        assert_eq!(resolved.links.len(), 2);
    }
}
