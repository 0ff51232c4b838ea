//! Priority queues.
//!
//! An element can be taken at a moment at which none that must come out earlier is present. In order of
//! priority, each element is put in as late and taken as early as it can be: as soon as no earlier one is
//! present, which depends on earlier ones only. In every order it is present at least as long, so nothing
//! could help the later ones more; if a take has no such moment, there is no order. Elements of the same
//! priority do not hinder each other. A call that found nothing is one that all elements hinder.

use super::cover::Cover;
use super::{Conflict, Element, Elements};

/// Decides everything, empty takes too.
pub(super) fn check(elements: &Elements) -> Result<(), Conflict> {
    let mut order: Vec<&Element> = elements.all.iter().collect();
    order.sort_by_key(|element| element.priority);
    let mut cover = Cover::new(elements.end + 1);
    let mut present: Vec<(u32, u32)> = Vec::with_capacity(order.len());
    for same in order.chunk_by(|a, b| a.priority == b.priority) {
        for element in same {
            let from = element.take.invoke.max(element.put.invoke);
            let taken = match element.is_taken() {
                true => cover.first_free(from),
                false => elements.end,
            };
            if element.is_taken() && taken >= element.take.ret {
                let mut culprits = hindering(&order, &present, from, taken);
                culprits.extend([element.put_call, element.take_call]);
                return Err(culprits);
            }
            present.push((element.put.ret, taken.max(element.put.ret)));
        }
        for &(from, to) in &present[present.len() - same.len()..] {
            cover.add(from, to);
        }
    }
    for &(span, call) in &elements.empties {
        let free = cover.first_free(span.invoke);
        if free >= span.ret {
            let mut culprits = hindering(&order, &present, span.invoke, free);
            culprits.push(call);
            return Err(culprits);
        }
    }
    Ok(())
}

/// Calls of the elements that are present between two gaps, of those that make these stay so long, and
/// so on: each is held up by elements of earlier priority only.
fn hindering(order: &[&Element], present: &[(u32, u32)], from: u32, to: u32) -> Conflict {
    let (mut from, mut to) = (from, to);
    let mut culprits = Vec::new();
    for (element, &(present_from, present_to)) in order.iter().zip(present).rev() {
        if present_from < to && from < present_to {
            culprits.extend([element.put_call, element.take_call]);
            from = from.min(element.take.invoke.max(element.put.invoke));
            to = to.max(present_to);
        }
    }
    culprits
}
