//! The calls that have not taken effect, as a list of their invocations and returns in order of time.
//!
//! Linked in both directions, so that a call leaves and comes back in constant time, the last to leave
//! first. Calls that never return are not in it.

use crate::linearizable::search::{Call, NEVER};

/// The invocation or the return of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry(u32);

impl Entry {
    /// Index of the call.
    pub fn call(self) -> u32 {
        self.0 >> 1
    }

    /// Whether it is the return.
    pub fn is_return(self) -> bool {
        self.0 & 1 == 1
    }
}

/// See the module.
#[derive(Debug)]
pub struct Line {
    /// By entry; the last place is before the first and behind the last entry.
    next: Vec<u32>,
    previous: Vec<u32>,
}

impl Line {
    /// All of `calls`, which are in order of invocation.
    pub fn new(calls: &[Call]) -> Line {
        let ends = 2 * calls.len() as u32;
        let mut line =
            Line { next: vec![ends; ends as usize + 1], previous: vec![ends; ends as usize + 1] };
        let returning = |(_, call): &(u32, &Call)| call.ret != NEVER;
        let mut returns: Vec<(u32, u32)> =
            (0..).zip(calls).filter(returning).map(|(i, call)| (call.ret, i)).collect();
        returns.sort_unstable();
        let mut returns = returns.into_iter().peekable();
        let mut last = ends;
        for (i, call) in (0..).zip(calls).filter(returning) {
            while let Some((_, returned)) = returns.next_if(|(ret, _)| *ret < call.invoke) {
                line.append(&mut last, 2 * returned + 1);
            }
            line.append(&mut last, 2 * i);
        }
        for (_, returned) in returns {
            line.append(&mut last, 2 * returned + 1);
        }
        line
    }

    fn append(&mut self, last: &mut u32, entry: u32) {
        let ends = self.next.len() as u32 - 1;
        self.next[*last as usize] = entry;
        self.previous[entry as usize] = *last;
        self.next[entry as usize] = ends;
        self.previous[ends as usize] = entry;
        *last = entry;
    }

    fn entry(&self, place: u32) -> Option<Entry> {
        (place as usize != self.next.len() - 1).then_some(Entry(place))
    }

    /// The first moment.
    pub fn first(&self) -> Option<Entry> {
        self.entry(self.next[self.next.len() - 1])
    }

    /// The moment after that one.
    pub fn after(&self, entry: Entry) -> Option<Entry> {
        self.entry(self.next[entry.0 as usize])
    }

    /// A call takes effect.
    pub fn take(&mut self, call: u32) {
        for entry in [2 * call, 2 * call + 1] {
            let (before, behind) = (self.previous[entry as usize], self.next[entry as usize]);
            self.next[before as usize] = behind;
            self.previous[behind as usize] = before;
        }
    }

    /// The call that took effect last did not.
    pub fn put_back(&mut self, call: u32) {
        for entry in [2 * call + 1, 2 * call] {
            let (before, behind) = (self.previous[entry as usize], self.next[entry as usize]);
            self.next[before as usize] = entry;
            self.previous[behind as usize] = entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(line: &Line) -> Vec<(u32, bool)> {
        let mut moments = Vec::new();
        let mut at = line.first();
        while let Some(entry) = at {
            moments.push((entry.call(), entry.is_return()));
            at = line.after(entry);
        }
        moments
    }

    #[test]
    fn calls_leave_and_come_back_in_order() {
        let call = |invoke, ret| Call { class: 0, invoke, ret };
        let calls = [call(0, 3), call(1, 2), call(4, NEVER), call(5, 6)];
        let mut line = Line::new(&calls);
        let all = vec![(0, false), (1, false), (1, true), (0, true), (3, false), (3, true)];
        assert_eq!(moments(&line), all);
        line.take(1);
        line.take(0);
        assert_eq!(moments(&line), vec![(3, false), (3, true)]);
        line.take(3);
        assert!(line.first().is_none());
        [3, 0, 1].into_iter().for_each(|call| line.put_back(call));
        assert_eq!(moments(&line), all);
    }
}
