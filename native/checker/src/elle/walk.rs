//! Walks through a graph: short cycles, and which of many edges close one.
//!
//! Entering a helper costs nothing, so a path is as long as it has transactions.

use std::collections::VecDeque;

use crate::elle::graph::{Components, Graph, NONE, Only, View};

/// An edge as a search sees it: where from, where to, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// State that it leaves.
    pub from: u32,
    /// State that it enters.
    pub to: u32,
    /// Its tag.
    pub tag: u32,
}

/// Memory of searches, kept from one to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Round of the last visit, cost, and the hop that led there.
    seen: Vec<(u32, u32, Hop)>,
    round: u32,
    queue: VecDeque<u32>,
    /// How many states were visited in all.
    pub visited: usize,
}

/// The hops of a path with the fewest transactions between two different states.
pub fn shortest(
    view: &impl View,
    from: u32,
    to: u32,
    is_helper: impl Fn(u32) -> bool,
    scratch: &mut Scratch,
) -> Option<Vec<Hop>> {
    let blank = Hop { from: NONE, to: NONE, tag: 0 };
    if scratch.seen.len() < view.state_count() as usize {
        scratch.seen.resize(view.state_count() as usize, (0, 0, blank));
    }
    scratch.round += 1;
    let round = scratch.round;
    scratch.queue.clear();
    scratch.seen[from as usize] = (round, 0, blank);
    scratch.queue.push_back(from);
    while let Some(state) = scratch.queue.pop_front() {
        scratch.visited += 1;
        if state == to {
            return Some(trace(from, to, &scratch.seen));
        }
        let cost = scratch.seen[state as usize].1;
        for edge in view.edges(state) {
            let Some((target, tag)) = view.follow(state, edge) else { continue };
            let is_free = is_helper(target);
            let next = cost + u32::from(!is_free);
            let (seen_round, seen_cost, _) = scratch.seen[target as usize];
            if seen_round == round && seen_cost <= next {
                continue;
            }
            scratch.seen[target as usize] = (round, next, Hop { from: state, to: target, tag });
            if is_free {
                scratch.queue.push_front(target);
            } else {
                scratch.queue.push_back(target);
            }
        }
    }
    None
}

fn trace(from: u32, to: u32, seen: &[(u32, u32, Hop)]) -> Vec<Hop> {
    let mut hops = Vec::new();
    let mut at = to;
    while at != from {
        let hop = seen[at as usize].2;
        hops.push(hop);
        at = hop.from;
    }
    hops.reverse();
    hops
}

/// How many edges one sweep decides.
const BATCH: usize = 64;

/// Those edges whose target reaches their source by the kinds of `base`, which has the components
/// `parts`; at least one if there is any, not necessarily all. Exact: edges are decided 64 at a time in a
/// sweep over the components between them, which are near each other when dependencies are near in time.
pub fn closing(graph: &Graph, base: u32, parts: &Components, mut edges: Vec<Hop>) -> Vec<Hop> {
    let part = |vertex: u32| parts.of[vertex as usize];
    edges.retain(|hop| part(hop.to) >= part(hop.from));
    let inside: Vec<Hop> =
        edges.iter().copied().filter(|hop| part(hop.to) == part(hop.from)).collect();
    if !inside.is_empty() || edges.is_empty() {
        return inside;
    }
    edges.sort_by_key(|hop| (std::cmp::Reverse(part(hop.to)), hop.from));
    let view = Only { graph, kinds: base };
    let (offsets, sorted) = by_component(parts);
    let mut masks = vec![0u64; parts.count as usize];
    for batch in edges.chunks(BATCH) {
        let high = part(batch[0].to);
        let low = batch.iter().map(|hop| part(hop.from)).min().unwrap_or(high);
        for (bit, hop) in batch.iter().enumerate() {
            masks[part(hop.to) as usize] |= 1 << bit;
        }
        for component in (low + 1..=high).rev() {
            let mask = masks[component as usize];
            if mask == 0 {
                continue;
            }
            let range = offsets[component as usize]..offsets[component as usize + 1];
            for &vertex in &sorted[range.start as usize..range.end as usize] {
                for edge in view.edges(vertex) {
                    if let Some((target, _)) = view.follow(vertex, edge)
                        && part(target) >= low
                    {
                        masks[part(target) as usize] |= mask;
                    }
                }
            }
        }
        let hits = batch
            .iter()
            .enumerate()
            .filter(|(bit, hop)| masks[part(hop.from) as usize] >> bit & 1 == 1);
        let hits: Vec<Hop> = hits.map(|(_, hop)| *hop).collect();
        if !hits.is_empty() {
            return hits;
        }
        masks[low as usize..=high as usize].fill(0);
    }
    Vec::new()
}

fn by_component(parts: &Components) -> (Vec<u32>, Vec<u32>) {
    let mut offsets = vec![0u32; parts.count as usize + 2];
    for component in &parts.of {
        offsets[*component as usize + 2] += 1;
    }
    for i in 2..offsets.len() {
        offsets[i] += offsets[i - 1];
    }
    let mut sorted = vec![0u32; parts.of.len()];
    for (vertex, component) in (0..).zip(&parts.of) {
        let place = &mut offsets[*component as usize + 1];
        sorted[*place as usize] = vertex;
        *place += 1;
    }
    offsets.pop();
    (offsets, sorted)
}
