//! Queues, first in first out.
//!
//! Henzinger, Sezgin and Vafeiadis, "Aspect-oriented linearizability proofs" (2013): elements apart from
//! empty takes can be ordered iff no two elements contradict each other: `a` was certainly put in before `b`,
//! and `b` certainly taken before `a`.

use super::{Conflict, Element, Elements};
use crate::linearizable::subject::Span;

/// Decides the order of elements.
pub(super) fn check(elements: &Elements) -> Result<(), Conflict> {
    let mut put: Vec<&Element> = elements.all.iter().collect();
    put.sort_unstable_by_key(|element| element.put.ret);
    let mut put = put.into_iter().peekable();
    // Of those that were certainly put in earlier, the one taken latest.
    let mut latest: Option<&Element> = None;
    for element in &elements.all {
        while let Some(earlier) = put.next_if(|other| other.put.ret < element.put.invoke) {
            if latest.is_none_or(|latest| earlier.take.invoke > latest.take.invoke) {
                latest = Some(earlier);
            }
        }
        if let Some(latest) = latest.filter(|latest| element.take.ret < latest.take.invoke) {
            return Err(vec![
                latest.put_call,
                latest.take_call,
                element.put_call,
                element.take_call,
            ]);
        }
    }
    Ok(())
}

/// Gives takes of unknown result the elements that they must have taken: those that were certainly put in
/// before an element that was taken. Such a take must have been invoked before the first of these takes
/// returned, its deadline. Whoever has the earliest deadline gets the earliest take: deadlines are all
/// that matters of an element and invocations all that matters of a take, so if this gives some element
/// none, nothing does.
pub(super) fn assign(elements: &mut Elements) {
    // The earliest return of a take among elements certainly put in later.
    let mut by_invoke: Vec<(u32, u32)> =
        elements.all.iter().map(|element| (element.put.invoke, element.take.ret)).collect();
    by_invoke.sort_unstable();
    let mut earliest = vec![u32::MAX; by_invoke.len() + 1];
    for i in (0..by_invoke.len()).rev() {
        earliest[i] = earliest[i + 1].min(by_invoke[i].1);
    }
    let deadline = |element: &Element| {
        let later = by_invoke.partition_point(|(invoke, _)| *invoke <= element.put.ret);
        earliest[later]
    };
    let end = elements.end;
    let mut in_need: Vec<(u32, usize)> = elements
        .all
        .iter()
        .enumerate()
        .filter(|(_, element)| !element.is_taken())
        .map(|(i, element)| (deadline(element), i))
        .filter(|(deadline, _)| *deadline < end)
        .collect();
    in_need.sort_unstable();
    let mut takes = elements.take_any.iter();
    for (_, i) in in_need {
        let Some(&invoke) = takes.next() else { break };
        elements.all[i].take = Span { invoke, ret: end + 1 };
    }
}
