//! Conditions that every order fulfils, looked at before any is searched for: O(n log n).
//!
//! - What a call requires was there at the start, or was provided by a call that was invoked before it
//!   returned: a value that was read was written, an element that was seen was added.
//! - Of a collection, elements are used up: of each element, the k-th call to take one out returned after
//!   k of them had been invoked to be put in, those at the start included.
//!
//! A history of which this is not so is refused in an instant, whatever a search would cost.

use std::collections::HashMap;

use fuzz_dist_core::Value;
use rustc_hash::FxBuildHasher;

use crate::budget;
use crate::linearizable::models::{Action, Model, Role};
use crate::linearizable::search::NEVER;
use crate::linearizable::subject::Span;

/// A call that cannot have taken place.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfounded {
    /// It.
    pub stuck: usize,
    /// Calls, it among them, that cannot be linearized.
    pub start: Vec<usize>,
}

/// Looks at the chosen calls (indices in increasing order).
pub fn unfounded(
    model: &dyn Model,
    actions: &[Action],
    spans: &[Span],
    chosen: &[usize],
) -> Option<Unfounded> {
    let roles: Option<Vec<Role<'_>>> = chosen.iter().map(|&i| model.role(&actions[i])).collect();
    match roles {
        Some(roles) => used_up(model, &roles, spans, chosen),
        None => not_provided(model, actions, spans, chosen),
    }
}

fn not_provided(
    model: &dyn Model,
    actions: &[Action],
    spans: &[Span],
    chosen: &[usize],
) -> Option<Unfounded> {
    // When it is there at the earliest.
    let mut from: HashMap<Value, u32, FxBuildHasher> = HashMap::default();
    from.extend(model.provided_at_start().into_iter().map(|value| (value, 0)));
    for &i in chosen {
        budget::poll();
        for value in model.provides(&actions[i]) {
            // In order of invocation: the first one counts.
            from.entry(value).or_insert(spans[i].invoke);
        }
    }
    let is_there = |value: &Value, ret| from.get(value).is_some_and(|from| *from <= ret);
    let stuck = chosen.iter().copied().filter(|&i| spans[i].ret != NEVER).find(|&i| {
        budget::poll();
        let required = model.requires(&actions[i]);
        !required.iter().all(|value| is_there(value, spans[i].ret))
    })?;
    Some(Unfounded { stuck, start: vec![stuck] })
}

/// The calls on one element of a collection.
#[derive(Default)]
struct Uses {
    puts: Vec<usize>,
    takes: Vec<usize>,
}

fn used_up(
    model: &dyn Model,
    roles: &[Role<'_>],
    spans: &[Span],
    chosen: &[usize],
) -> Option<Unfounded> {
    let initial = model.initial();
    let mut at_start: HashMap<&Value, usize, FxBuildHasher> = HashMap::default();
    for element in initial.items().unwrap_or_default() {
        *at_start.entry(element).or_default() += 1;
    }
    let mut uses: HashMap<&Value, Uses, FxBuildHasher> = HashMap::default();
    for (role, &i) in roles.iter().zip(chosen) {
        budget::poll();
        match role {
            Role::Put(element) => uses.entry(element).or_default().puts.push(i),
            Role::Take(element) if spans[i].ret != NEVER => {
                uses.entry(element).or_default().takes.push(i);
            }
            _ => {}
        }
    }
    let mut found: Option<Unfounded> = None;
    for (element, Uses { puts, mut takes }) in uses {
        takes.sort_unstable_by_key(|&i| spans[i].ret);
        let at_start = at_start.get(element).copied().unwrap_or(0);
        for (count, &take) in takes.iter().enumerate() {
            budget::poll();
            // Puts are in order of invocation.
            let put = puts.partition_point(|&put| spans[put].invoke < spans[take].ret);
            if count < at_start + put {
                continue;
            }
            // The earliest of all, so that the answer does not depend on the order of the table.
            if found.as_ref().is_none_or(|found| spans[take].ret < spans[found.stuck].ret) {
                let mut start: Vec<usize> =
                    puts[..put].iter().chain(&takes[..=count]).copied().collect();
                start.sort_unstable();
                found = Some(Unfounded { stuck: take, start });
            }
            break;
        }
    }
    found
}
