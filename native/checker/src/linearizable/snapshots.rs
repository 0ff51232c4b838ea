//! Sets that elements are only added to, each once, and that are read whole: decided in O(n log n) without
//! search, n being the size of the history with what its reads saw.
//!
//! What was read must grow: reads are ordered by inclusion, or there is no order. Then an element was added
//! after every read that lacks it and before every read that has it, so each call has a place in one chain:
//! the adds of what the first read saw, the first reads, the adds of what the next larger read saw in addition,
//! and so on; last the adds of what nobody saw. Calls of one place do not notice their order. So there is an
//! order iff no call returned before one of an earlier place was invoked.
//!
//! **Conditions** (`None` when they do not hold): the set starts empty, no element is added twice, and
//! nothing else was done. An add that may have happened counts if its element was seen.

use std::collections::HashMap;

use fuzz_dist_core::Value;
use rustc_hash::FxBuildHasher;

use crate::linearizable::search::NEVER;
use crate::linearizable::subject::Span;
use crate::linearizable::unambiguous::Found;

/// What a call did.
#[derive(Debug, Clone, Copy)]
pub enum Snapshot<'a> {
    /// Added that element.
    Add(&'a Value),
    /// Saw these elements, sorted.
    Read(&'a [Value]),
}

struct Adds<'a> {
    /// The call that adds an element.
    call: HashMap<&'a Value, usize, FxBuildHasher>,
}

/// Decides if the conditions hold; calls are in order of invocation.
pub fn decide(calls: &[Snapshot<'_>], spans: &[Span]) -> Option<Found> {
    let mut adds = Adds { call: HashMap::default() };
    let mut reads: Vec<(usize, &[Value])> = Vec::new();
    for (i, call) in calls.iter().enumerate() {
        match call {
            Snapshot::Add(element) => {
                if adds.call.insert(element, i).is_some() {
                    return None;
                }
            }
            Snapshot::Read(seen) => reads.push((i, seen)),
        }
    }
    reads.sort_by_key(|(_, seen)| seen.len());
    Some(match places(calls, spans, &adds, &reads) {
        Ok(places) => backwards(&places, spans).map_or(Found::Linearizable, |(before, after)| {
            Found::Conflict(adds.context(calls, &reads, &places, &[before, after]))
        }),
        Err(conflict) => Found::Conflict(conflict),
    })
}

/// The place of each call in the chain: reads at odd places, adds at even ones. `u32::MAX` for those that
/// may have happened and that nobody saw.
fn places(
    calls: &[Snapshot<'_>],
    spans: &[Span],
    adds: &Adds<'_>,
    reads: &[(usize, &[Value])],
) -> Result<Vec<u32>, Vec<usize>> {
    const UNSEEN: u32 = u32::MAX;
    let mut places = vec![UNSEEN; calls.len()];
    let mut place = 1;
    let mut before: Option<(usize, &[Value])> = None;
    for &(i, seen) in reads {
        if let Some((previous, less)) = before.filter(|(_, less)| *less != seen) {
            if !includes(seen, less) {
                let mut conflict = adds.of(less);
                conflict.extend(adds.of(seen));
                conflict.extend([previous, i]);
                return Err(sorted(conflict));
            }
            place += 2;
        }
        if before.is_none_or(|(_, less)| *less != *seen) {
            for element in seen {
                match adds.call.get(element) {
                    Some(&add) => places[add] = places[add].min(place - 1),
                    None => return Err(vec![i]),
                }
            }
        }
        places[i] = place;
        before = Some((i, seen));
    }
    for (i, call) in calls.iter().enumerate() {
        if matches!(call, Snapshot::Add(_)) && places[i] == UNSEEN && spans[i].ret != NEVER {
            places[i] = place + 1;
        }
    }
    Ok(places)
}

fn includes(large: &[Value], small: &[Value]) -> bool {
    let mut rest = large.iter();
    small.iter().all(|element| rest.any(|other| other == element))
}

/// A call that returned before one of an earlier place was invoked, and that one.
fn backwards(places: &[u32], spans: &[Span]) -> Option<(usize, usize)> {
    let is_placed = |i: &usize| places[*i] != u32::MAX;
    let mut returns: Vec<usize> =
        (0..spans.len()).filter(is_placed).filter(|&i| spans[i].ret != NEVER).collect();
    returns.sort_unstable_by_key(|&i| spans[i].ret);
    let mut returns = returns.into_iter().peekable();
    let mut latest: Option<usize> = None;
    for i in (0..spans.len()).filter(is_placed) {
        while let Some(returned) = returns.next_if(|&other| spans[other].ret < spans[i].invoke) {
            if latest.is_none_or(|latest| places[returned] > places[latest]) {
                latest = Some(returned);
            }
        }
        if let Some(latest) = latest.filter(|&latest| places[latest] > places[i]) {
            return Some((latest, i));
        }
    }
    None
}

impl Adds<'_> {
    fn of(&self, elements: &[Value]) -> Vec<usize> {
        elements.iter().filter_map(|element| self.call.get(element)).copied().collect()
    }

    /// The calls given with the reads that give them their places, and the adds of all that these saw.
    fn context(
        &self,
        calls: &[Snapshot<'_>],
        reads: &[(usize, &[Value])],
        places: &[u32],
        conflict: &[usize],
    ) -> Vec<usize> {
        let mut all = conflict.to_vec();
        for &i in conflict {
            // The reads next to an add's place.
            for place in [places[i].wrapping_sub(1), places[i] + 1] {
                let at = reads.partition_point(|(read, _)| places[*read] < place);
                let read = reads.get(at).filter(|(read, _)| places[*read] == place);
                all.extend(read.map(|(read, _)| *read));
            }
        }
        for i in all.clone() {
            if let Snapshot::Read(seen) = calls[i] {
                all.extend(self.of(seen));
            }
        }
        sorted(all)
    }
}

fn sorted(mut calls: Vec<usize>) -> Vec<usize> {
    calls.sort_unstable();
    calls.dedup();
    calls
}
