//! Stacks, last in first out.
//!
//! Decrease and conquer, after Lee and Mathur (OOPSLA 2025) and Abdulla et al. (PLDI 2025). Three facts:
//! - *Trivial.* An element whose put and take overlap can be put in and taken at one moment, which no other
//!   element notices; it is left out. Every other one is certainly present for a while.
//! - *Cut.* If at some moment no element is certainly present, there is an order iff there is one of what
//!   was taken before it and one of what was put in after it. Given any order, let A be what it has on the stack
//!   at that moment and could be taken before, and B what else it has there, which then could be put in
//!   after. Move the takes of A to just before the moment and the puts of B to just after it: A and B come
//!   off and go on in the order in which they lie, and what comes before and after is as it was without
//!   them. So a call that found nothing needs such a moment and nothing else.
//! - *Bottom.* If there is none, the stack was never empty in between, so in every order some element was put
//!   in first and taken last. Any element will do that no other call precedes or follows: pulled to the
//!   bottom, it leaves the order of all others a proper one.
//!
//! Elements are kept in order of the returns of their puts; parts after cuts are intervals of that order,
//! so that trees over it answer what a part asks: O(n log n) together.

use super::cover::Cover;
use super::{Conflict, Element, Elements};

mod trees;

use trees::{Coverage, Extremes};

/// Decides the order of elements.
pub(super) fn check(elements: &Elements) -> Result<(), Conflict> {
    let mut stack: Vec<Element> =
        elements.all.iter().filter(|e| e.put.ret < e.take.invoke).copied().collect();
    stack.sort_unstable_by_key(|element| element.put.ret);
    let mut parts = Parts::new(&stack, elements.end);
    let mut open = vec![(0, stack.len())];
    while let Some((from, to)) = open.pop() {
        let first = parts.removed.first_free(from as u32) as usize;
        if first >= to {
            continue;
        }
        let until = parts.latest_take(first, to);
        let gap = parts.coverage.first_free(stack[first].put.ret, until);
        if let Some(gap) = gap {
            let cut = stack.partition_point(|element| element.put.ret <= gap);
            open.extend([(first, cut), (cut, to)]);
            continue;
        }
        match parts.bottom(first, to, until) {
            Some(bottom) => {
                parts.remove(bottom);
                open.push((first, to));
            }
            None => return Err(parts.calls(first, to)),
        }
    }
    Ok(())
}

/// The elements that are left, with what is asked of intervals of them.
struct Parts<'a> {
    stack: &'a [Element],
    /// Places of elements that are not left any more.
    removed: Cover,
    /// The latest invocation of a take.
    takes: Extremes,
    /// The earliest invocation of a put among those that were never early enough to be the bottom.
    waiting: Extremes,
    /// The latest return of a take among the others.
    ready: Extremes,
    coverage: Coverage,
}

impl<'a> Parts<'a> {
    fn new(stack: &'a [Element], end: u32) -> Parts<'a> {
        let values = |value: fn(&Element) -> u32| Extremes::new(stack.iter().map(value));
        Parts {
            stack,
            removed: Cover::new(stack.len() as u32),
            takes: values(|element| element.take.invoke + 1),
            // Trees answer with the largest.
            waiting: values(|element| u32::MAX - element.put.invoke),
            ready: Extremes::new(stack.iter().map(|_| 0)),
            coverage: Coverage::new(end, stack.iter().map(Element::certain)),
        }
    }

    fn latest_take(&self, from: usize, to: usize) -> u32 {
        self.takes.max(from, to).map_or(0, |(_, invoke)| invoke - 1)
    }

    /// An element of the part that no other call of the part precedes or follows. `first` has the earliest
    /// return of a put, `until` is the latest invocation of a take.
    fn bottom(&mut self, first: usize, to: usize, until: u32) -> Option<usize> {
        // The earliest return only becomes later, so what was early enough once remains so.
        while let Some((i, early)) = self.waiting.max(first, to)
            && u32::MAX - early < self.stack[first].put.ret
        {
            self.waiting.set(i, 0);
            self.ready.set(i, self.stack[i].take.ret);
        }
        let (i, ret) = self.ready.max(first, to)?;
        (ret > until).then_some(i)
    }

    fn remove(&mut self, i: usize) {
        for tree in [&mut self.takes, &mut self.waiting, &mut self.ready] {
            tree.set(i, 0);
        }
        self.removed.add(i as u32, i as u32 + 1);
        let (from, to) = self.stack[i].certain();
        self.coverage.remove(from, to);
    }

    fn calls(&self, from: usize, to: usize) -> Conflict {
        (from..to)
            .filter(|&i| self.takes.max(i, i + 1).is_some())
            .flat_map(|i| [self.stack[i].put_call, self.stack[i].take_call])
            .collect()
    }
}
