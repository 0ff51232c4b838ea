//! What has to come before what: session order, reads-from, and inferred commit order, in one graph.
//!
//! Vertices are transactions, then helpers of whoever needs some. Edges are walked backwards: the session
//! order and the reads-from of a transaction are in its record already, so only inferred edges are stored
//! (eight bytes each). Whether there is a cycle is decided by one walk; components and short cycles are only
//! looked for where there is one. No recursion anywhere: histories are longer than stacks.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::causal::txns::{NONE, Txns};

/// How many edges the search for short cycles may look at.
const SHORTEST_STEPS_MAX: usize = 1_000_000;

/// A graph to walk backwards.
#[derive(Debug)]
pub struct Graph<'a, 'h> {
    txns: &'a Txns<'h>,
    start: Vec<u32>,
    earlier: Vec<u32>,
}

impl<'a, 'h> Graph<'a, 'h> {
    /// Session order and reads-from, and `edges` of (later, earlier) among `vertex_count` vertices.
    pub fn new(txns: &'a Txns<'h>, vertex_count: u32, edges: &[(u32, u32)]) -> Graph<'a, 'h> {
        let mut start = vec![0u32; vertex_count as usize + 2];
        for (later, _) in edges {
            start[*later as usize + 2] += 1;
        }
        for i in 2..start.len() {
            start[i] += start[i - 1];
        }
        let mut sorted = vec![0; edges.len()];
        for (later, earlier) in edges {
            let place = &mut start[*later as usize + 1];
            sorted[*place as usize] = *earlier;
            *place += 1;
        }
        start.pop();
        Graph { txns, start, earlier: sorted }
    }

    fn vertex_count(&self) -> usize {
        self.start.len() - 1
    }

    /// The next vertex that comes right before `vertex`; `at` says how far one has looked.
    #[inline]
    fn next_before(&self, vertex: u32, at: &mut u32) -> Option<u32> {
        let mut events = 0;
        if (vertex as usize) < self.txns.list.len() {
            let txn = &self.txns.list[vertex as usize];
            if *at == 0 {
                *at = 1;
                if txn.before != NONE {
                    return Some(txn.before);
                }
            }
            let own = self.txns.events_of(vertex);
            events = own.len() as u32 + 1;
            while *at < events {
                *at += 1;
                if txn.happened
                    && let Some(source) = own[*at as usize - 2].read_from()
                {
                    return Some(source);
                }
            }
        }
        let edge = self.start[vertex as usize] + (*at - events);
        *at += 1;
        (edge < self.start[vertex as usize + 1]).then(|| self.earlier[edge as usize])
    }

    /// The vertices that come right before one, with repetitions.
    fn before(&self, vertex: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || self.next_before(vertex, &mut at))
    }

    /// All vertices, each behind those that come before it; nothing if there is a cycle.
    pub fn sorted(&self) -> Option<Vec<u32>> {
        const OPEN: u8 = 1;
        const DONE: u8 = 2;
        let mut state = vec![0u8; self.vertex_count()];
        let mut sorted = Vec::with_capacity(self.vertex_count());
        let mut stack: Vec<(u32, u32)> = Vec::new();
        for root in 0..self.vertex_count() as u32 {
            if state[root as usize] != 0 {
                continue;
            }
            state[root as usize] = OPEN;
            stack.push((root, 0));
            while let Some((vertex, at)) = stack.last_mut() {
                let vertex = *vertex;
                match self.next_before(vertex, at) {
                    Some(before) => match state[before as usize] {
                        OPEN => return None,
                        DONE => {}
                        _ => {
                            state[before as usize] = OPEN;
                            stack.push((before, 0));
                        }
                    },
                    None => {
                        state[vertex as usize] = DONE;
                        sorted.push(vertex);
                        stack.pop();
                    }
                }
            }
        }
        Some(sorted)
    }

    /// The strongly connected components of more than one vertex (Tarjan's algorithm).
    pub fn components(&self) -> Vec<Vec<u32>> {
        let count = self.vertex_count();
        let mut number = vec![NONE; count];
        let mut low = vec![0u32; count];
        let mut on_stack = vec![false; count];
        let (mut next, mut open, mut walk) = (0, Vec::new(), Vec::new());
        let mut found = Vec::new();
        for root in 0..count as u32 {
            if number[root as usize] != NONE {
                continue;
            }
            walk.push((root, 0));
            while let Some((vertex, at)) = walk.last_mut() {
                let v = *vertex as usize;
                if number[v] == NONE {
                    (number[v], low[v], on_stack[v]) = (next, next, true);
                    next += 1;
                    open.push(v as u32);
                }
                match self.next_before(v as u32, at) {
                    Some(before) if number[before as usize] == NONE => walk.push((before, 0)),
                    Some(before) if on_stack[before as usize] => {
                        low[v] = low[v].min(number[before as usize]);
                    }
                    Some(_) => {}
                    None => {
                        walk.pop();
                        if let Some((parent, _)) = walk.last() {
                            let parent = *parent as usize;
                            low[parent] = low[parent].min(low[v]);
                        }
                        if low[v] == number[v] {
                            let from = open.iter().rposition(|w| *w as usize == v).unwrap_or(0);
                            let component = open.split_off(from);
                            component.iter().for_each(|w| on_stack[*w as usize] = false);
                            if component.len() > 1 {
                                found.push(component);
                            }
                        }
                    }
                }
            }
        }
        found
    }

    /// A cycle inside a component, the shortest unless the component is so large that only some of its
    /// vertices can be tried. In the order of its edges: each before the next, the last before the first.
    pub fn short_cycle(&self, component: &[u32]) -> Vec<u32> {
        let mut best: Vec<u32> = Vec::new();
        let mut steps = 0;
        let mut members: Vec<u32> = component.to_vec();
        members.sort_unstable();
        for vertex in &members {
            let length_max = if best.is_empty() { usize::MAX } else { best.len() - 1 };
            if let Some(cycle) = self.cycle_through(*vertex, &members, length_max, &mut steps) {
                best = cycle;
            }
            if best.len() == 2 || (steps > SHORTEST_STEPS_MAX && !best.is_empty()) {
                break;
            }
        }
        best
    }

    fn cycle_through(
        &self,
        root: u32,
        members: &[u32],
        length_max: usize,
        steps: &mut usize,
    ) -> Option<Vec<u32>> {
        // By vertex: which it comes right before, and how far from the root.
        let mut later: FxHashMap<u32, (u32, usize)> = FxHashMap::default();
        let mut queue = VecDeque::from([(root, 1)]);
        while let Some((vertex, length)) = queue.pop_front() {
            if length > length_max {
                return None;
            }
            for before in self.before(vertex) {
                *steps += 1;
                if before == root {
                    let mut cycle = vec![vertex];
                    while cycle[cycle.len() - 1] != root {
                        cycle.push(later[&cycle[cycle.len() - 1]].0);
                    }
                    cycle.rotate_right(1);
                    return Some(cycle);
                }
                if !later.contains_key(&before) && members.binary_search(&before).is_ok() {
                    later.insert(before, (vertex, length));
                    queue.push_back((before, length + 1));
                }
            }
        }
        None
    }
}
