//! Collections whose elements are each put in once: decided in O(n log n), no search.
//!
//! When every element has one `put` and at most one `take`, histories of queues, stacks, priority queues
//! and unordered collections can be decided in polynomial time (Bouajjani, Emmi, Enea and Hamza, "On
//! reducing linearizability to state reachability", 2015; Abdulla et al., "Efficient linearizability
//! monitoring for sets, stacks, queues and priority queues", PLDI 2025), even log-linear (Lee and Mathur,
//! "Efficient decrease-and-conquer linearizability monitoring", OOPSLA 2025). The idea common to all: an element
//! is *certainly present* from the return of its put to the invocation of its take.
//!
//! **Conditions**, checked here; `None` when they do not hold:
//! - The collection starts empty, and no element is put in twice (not even perhaps).
//! - A put that may have happened (`info`) counts if its element was taken; else leaving it out changes nothing.
//! - With takes of unknown result, two neighbours of the problem are decided: if there is an order without
//!   them, there is one; if there is none even of those elements alone that others took, there is none (an
//!   order of all, without the elements that were not taken by anybody known, is an order of these). For a
//!   queue that was never found empty, which elements they took is decided exactly ([`fifo::assign`]). Between
//!   the two it is left to the search.

mod cover;
mod fifo;
mod priority;
mod stack;

use std::cmp::Ordering;
use std::collections::HashMap;

use fuzz_dist_core::{Value, number};
use rustc_hash::FxBuildHasher;

use crate::linearizable::models::Role;
use crate::linearizable::search::NEVER;
use crate::linearizable::subject::Span;

use cover::Cover;

/// In which order elements come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discipline {
    /// First in, first out.
    Fifo,
    /// Last in, first out.
    Stack,
    /// That of the least priority first.
    LeastFirst,
    /// That of the greatest priority first.
    GreatestFirst,
    /// Any.
    Unordered,
}

/// The priority of an element: the first part of `[priority payload]`, else the element itself.
pub fn priority_of(element: &Value) -> &Value {
    element.key_and_value().map_or(element, |(priority, _)| priority)
}

/// The order of two priorities: that of numbers by size, of text and of names by their letters.
pub fn order_of_priorities(a: &Value, b: &Value) -> Ordering {
    let (a, b) = (priority_of(a), priority_of(b));
    number::compare(a, b).unwrap_or_else(|| a.cmp(b))
}

/// Whether all elements have priorities that can be compared: all numbers, all text, or all names.
pub fn have_order<'a>(elements: impl Iterator<Item = &'a Value>) -> bool {
    let kind = |element: &Value| match priority_of(element) {
        Value::Str(_) => 1,
        Value::Sym(_) => 2,
        priority if number::compare(priority, priority).is_some() => 3,
        _ => 0,
    };
    let mut kinds = elements.map(kind);
    let Some(first) = kinds.next() else { return true };
    kinds.all(|kind| kind == first) && first != 0
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There is an order.
    Linearizable,
    /// There is none; calls (by index) that alone have none.
    Conflict(Vec<usize>),
}

const NO_CALL: u32 = u32::MAX;

/// An element with its calls; moments are ranks among the events of the object.
#[derive(Debug, Clone, Copy)]
struct Element {
    put: Span,
    /// After all events if nobody took it.
    take: Span,
    put_call: u32,
    take_call: u32,
    /// The less the earlier it must come out, equal if it does not matter.
    priority: u32,
}

impl Element {
    /// First and one past the last gap between events in which it is certainly present.
    fn certain(&self) -> (u32, u32) {
        (self.put.ret, self.take.invoke.max(self.put.ret))
    }

    fn is_taken(&self) -> bool {
        self.take_call != NO_CALL
    }
}

/// The calls on one collection as elements.
#[derive(Debug, Default)]
struct Elements {
    all: Vec<Element>,
    /// Calls that found nothing.
    empties: Vec<(Span, u32)>,
    /// Moments from which on a take of unknown result was possible, in order.
    take_any: Vec<u32>,
    /// One past the rank of the last event.
    end: u32,
}

/// Calls that alone have no order: the conflict of one discipline.
type Conflict = Vec<u32>;

/// Decides if the conditions hold. `roles` and `spans` are those of the calls, in order of invocation.
pub fn decide(discipline: Discipline, roles: &[Role<'_>], spans: &[Span]) -> Option<Found> {
    let elements = match elements(discipline, roles, spans)? {
        Ok(elements) => elements,
        Err(conflict) => return Some(found(Err(conflict))),
    };
    if elements.take_any.is_empty() {
        return Some(found(check(discipline, &elements)));
    }
    if discipline == Discipline::Fifo && elements.empties.is_empty() {
        let mut assigned = elements;
        fifo::assign(&mut assigned);
        return Some(match check(discipline, &assigned) {
            Ok(()) => Found::Linearizable,
            // The takes of unknown result belong to the proof: there were not enough of them.
            Err(_) => Found::Conflict((0..roles.len()).collect()),
        });
    }
    if check(discipline, &elements).is_ok() {
        return Some(Found::Linearizable);
    }
    let mut certain = elements;
    certain.all.retain(Element::is_taken);
    match check(discipline, &certain) {
        Ok(()) => None,
        conflict => Some(found(conflict)),
    }
}

fn found(result: Result<(), Conflict>) -> Found {
    match result {
        Ok(()) => Found::Linearizable,
        Err(mut calls) => {
            calls.retain(|call| *call != NO_CALL);
            calls.sort_unstable();
            calls.dedup();
            Found::Conflict(calls.into_iter().map(|call| call as usize).collect())
        }
    }
}

/// Decides without regard to takes of unknown result.
fn check(discipline: Discipline, elements: &Elements) -> Result<(), Conflict> {
    match discipline {
        Discipline::Fifo => fifo::check(elements),
        Discipline::Stack => stack::check(elements),
        Discipline::LeastFirst | Discipline::GreatestFirst => return priority::check(elements),
        Discipline::Unordered => Ok(()),
    }?;
    found_empty(elements)
}

/// Whether each call that found nothing has a moment at which no element was certainly present. Whatever
/// the discipline, all other calls can be ordered around such moments, see [`stack`]; for queues it is
/// shown by Henzinger, Sezgin and Vafeiadis, "Aspect-oriented linearizability proofs" (2013).
fn found_empty(elements: &Elements) -> Result<(), Conflict> {
    if elements.empties.is_empty() {
        return Ok(());
    }
    let mut cover = Cover::new(elements.end);
    for element in &elements.all {
        let (from, to) = element.certain();
        cover.add(from, to);
    }
    for &(span, call) in &elements.empties {
        if cover.first_free(span.invoke) >= span.ret {
            let mut culprits = covering(elements, span);
            culprits.push(call);
            return Err(culprits);
        }
    }
    Ok(())
}

/// Calls of elements that are certainly present throughout `span`, one after the other.
fn covering(elements: &Elements, span: Span) -> Conflict {
    let mut order: Vec<&Element> = elements.all.iter().collect();
    order.sort_unstable_by_key(|element| element.put.ret);
    let mut culprits = Vec::new();
    let mut order = order.into_iter().peekable();
    let mut at = span.invoke;
    while at < span.ret {
        let mut best: Option<&Element> = None;
        while let Some(element) = order.next_if(|element| element.put.ret <= at) {
            if best.is_none_or(|best| element.take.invoke > best.take.invoke) {
                best = Some(element);
            }
        }
        let Some(best) = best.filter(|best| best.take.invoke > at) else { break };
        culprits.extend([best.put_call, best.take_call]);
        at = best.take.invoke;
    }
    culprits
}

/// Pairs puts with takes. `None` if a condition does not hold; a conflict if an element was taken that
/// was not there, or taken twice.
fn elements(
    discipline: Discipline,
    roles: &[Role<'_>],
    spans: &[Span],
) -> Option<Result<Elements, Conflict>> {
    let (ranks, end) = ranked(spans);
    let mut numbers: HashMap<&Value, u32, FxBuildHasher> = HashMap::default();
    let mut values: Vec<&Value> = Vec::new();
    let mut puts: Vec<[u32; 2]> = Vec::new();
    let mut takes: Vec<[u32; 2]> = Vec::new();
    let mut elements = Elements { end, ..Elements::default() };
    for (i, role) in roles.iter().enumerate() {
        let (Role::Put(value) | Role::Take(value)) = role else {
            match role {
                Role::Empty if spans[i].ret != NEVER => elements.empties.push((ranks[i], i as u32)),
                Role::TakeAny => elements.take_any.push(ranks[i].invoke),
                _ => {}
            }
            continue;
        };
        let number = *numbers.entry(value).or_insert(values.len() as u32) as usize;
        if number == values.len() {
            values.push(value);
            puts.push([NO_CALL; 2]);
            takes.push([NO_CALL; 2]);
        }
        let of = if matches!(role, Role::Put(_)) { &mut puts } else { &mut takes };
        match &mut of[number] {
            [first, _] if *first == NO_CALL => *first = i as u32,
            [_, second] => *second = i as u32,
        }
    }
    let priorities = priorities(discipline, &values);
    for number in 0..values.len() {
        let ([put, second_put], [take, second_take]) = (puts[number], takes[number]);
        if second_put != NO_CALL {
            return None;
        }
        if second_take != NO_CALL || put == NO_CALL {
            return Some(Err(vec![put, take, second_take]));
        }
        if take == NO_CALL && spans[put as usize].ret == NEVER {
            continue;
        }
        let mut element = Element {
            put: ranks[put as usize],
            take: Span { invoke: end, ret: end + 1 },
            put_call: put,
            take_call: take,
            priority: priorities[number],
        };
        if take != NO_CALL {
            element.take = ranks[take as usize];
            if element.take.ret < element.put.invoke {
                return Some(Err(vec![put, take]));
            }
            element.put.ret = element.put.ret.min(element.take.ret);
        }
        elements.all.push(element);
    }
    // In order of first sight, so an element that was taken before it was put in stands out of place.
    elements.all.sort_unstable_by_key(|element| element.put.invoke);
    Some(Ok(elements))
}

fn priorities(discipline: Discipline, values: &[&Value]) -> Vec<u32> {
    let mut ranks = vec![0; values.len()];
    let sign = match discipline {
        Discipline::LeastFirst => false,
        Discipline::GreatestFirst => true,
        _ => return ranks,
    };
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    let compare = |a: u32, b: u32| order_of_priorities(values[a as usize], values[b as usize]);
    order.sort_unstable_by(|a, b| {
        let order = compare(*a, *b);
        if sign { order.reverse() } else { order }
    });
    for pair in 1..order.len() {
        let (before, this) = (order[pair - 1], order[pair]);
        let step = u32::from(compare(before, this).is_ne());
        ranks[this as usize] = ranks[before as usize] + step;
    }
    ranks
}

/// Spans by rank among all events, and how many events there are. What never returns has no rank.
fn ranked(spans: &[Span]) -> (Vec<Span>, u32) {
    let mut returns: Vec<(u32, u32)> = spans
        .iter()
        .enumerate()
        .filter(|(_, span)| span.ret != NEVER)
        .map(|(i, span)| (span.ret, i as u32))
        .collect();
    returns.sort_unstable();
    let mut ranks = vec![Span { invoke: 0, ret: NEVER }; spans.len()];
    let mut rank = 0;
    let mut returns = returns.into_iter().peekable();
    for i in 0..=spans.len() {
        let until = spans.get(i).map_or(NEVER, |span| span.invoke);
        while let Some((_, returned)) = returns.next_if(|(ret, _)| *ret < until) {
            ranks[returned as usize].ret = rank;
            rank += 1;
        }
        if let Some(span) = ranks.get_mut(i) {
            span.invoke = rank;
            rank += 1;
        }
    }
    (ranks, rank)
}
