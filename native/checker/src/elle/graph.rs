//! Dependency graphs in flat arrays: vertices are transactions and helpers, edges say why one precedes
//! another.
//!
//! A helper is a vertex that stands for no transaction: it lets many precede many with few edges. The
//! edge into a chain of helpers has the kind of the dependency, the edges inside and out of it are
//! [`PASS`]. Components are Tarjan's ("Depth-first search and linear graph algorithms", 1972), without
//! recursion.

/// Kinds of edges; the order is that of preference when two transactions depend in several ways.
pub const WW: u32 = 0;
/// A read of what was written.
pub const WR: u32 = 1;
/// What was read is overwritten.
pub const RW: u32 = 2;
/// The order of one process.
pub const PROCESS: u32 = 3;
/// One completed before the other was invoked.
pub const REALTIME: u32 = 4;
/// Continues the edge by which a helper was entered.
pub const PASS: u32 = 5;

const KIND_BITS: u32 = 3;
/// No vertex, no component, no edge.
pub const NONE: u32 = u32::MAX;

/// A set of kinds.
pub const fn kinds(kinds: &[u32]) -> u32 {
    let mut set = 1 << PASS;
    let mut i = 0;
    while i < kinds.len() {
        set |= 1 << kinds[i];
        i += 1;
    }
    set
}

/// The kind of a tag.
pub fn kind_of(tag: u32) -> u32 {
    tag & ((1 << KIND_BITS) - 1)
}

/// The key of a tag.
pub fn key_of(tag: u32) -> u32 {
    tag >> KIND_BITS
}

/// A tag of a kind and a key.
pub fn tag(kind: u32, key: u32) -> u32 {
    key << KIND_BITS | kind
}

/// One edge before it is put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// What precedes.
    pub from: u32,
    /// What follows.
    pub to: u32,
    /// Kind and key.
    pub tag: u32,
}

/// Edges being collected, and how many vertices there are so far.
#[derive(Debug, Default)]
pub struct Edges {
    /// The edges.
    pub list: Vec<Edge>,
    /// Vertices: transactions first, then helpers.
    pub vertex_count: u32,
}

/// How many direct edges are preferred to helpers.
const DIRECT_MAX: usize = 64;

impl Edges {
    /// Adds an edge.
    pub fn push(&mut self, from: u32, to: u32, kind: u32, key: u32) {
        self.list.push(Edge { from, to, tag: tag(kind, key) });
    }

    /// A new helper.
    pub fn helper(&mut self) -> u32 {
        let helper = self.vertex_count;
        self.vertex_count += 1;
        helper
    }

    /// Adds the edges of a part that was collected for itself, whose helpers get other numbers.
    pub fn append(&mut self, part: Edges, txn_count: u32) {
        let shift = self.vertex_count - txn_count;
        let moved = |vertex: u32| if vertex < txn_count { vertex } else { vertex + shift };
        self.list.extend(part.list.iter().map(|e| Edge {
            from: moved(e.from),
            to: moved(e.to),
            tag: e.tag,
        }));
        self.vertex_count += part.vertex_count - txn_count;
    }

    /// Lets each of `from` precede each of `to`, but none itself. Linear in their number: past a few, by two
    /// chains of helpers, one from which the targets before some position are reached and one for those
    /// behind it. `to` has no duplicates.
    pub fn link_all(&mut self, from: &[u32], to: &[u32], kind: u32, key: u32) {
        if from.is_empty() || to.is_empty() {
            return;
        }
        let few = DIRECT_MAX.max(4 * (from.len() + to.len()));
        if from.len().saturating_mul(to.len()) <= few {
            for &a in from {
                for &b in to.iter().filter(|b| **b != a) {
                    self.push(a, b, kind, key);
                }
            }
            return;
        }
        let mut sorted = to.to_vec();
        sorted.sort_unstable();
        let count = sorted.len() as u32;
        // Helper `before + i` leads to the targets up to `i`, helper `behind + i` to those from `i` on.
        let before = self.vertex_count;
        let behind = before + count;
        self.vertex_count += 2 * count;
        for (i, &target) in (0..count).zip(&sorted) {
            self.push(before + i, target, PASS, key);
            self.push(behind + i, target, PASS, key);
            if i > 0 {
                self.push(before + i, before + i - 1, PASS, key);
                self.push(behind + i - 1, behind + i, PASS, key);
            }
        }
        for &a in from {
            let place = sorted.partition_point(|target| *target < a) as u32;
            let own = sorted.get(place as usize) == Some(&a);
            if !own {
                self.push(a, behind, kind, key);
                continue;
            }
            if place > 0 {
                self.push(a, before + place - 1, kind, key);
            }
            if place + 1 < count {
                self.push(a, behind + place + 1, kind, key);
            }
        }
    }
}

/// Edges by the vertex that they leave.
#[derive(Debug, Default)]
pub struct Graph {
    offsets: Vec<u32>,
    targets: Vec<u32>,
    tags: Vec<u32>,
}

impl Graph {
    /// Sorts the edges by source, keeping their order.
    pub fn new(vertex_count: u32, edges: &[Edge]) -> Graph {
        let mut offsets = vec![0u32; vertex_count as usize + 2];
        for edge in edges {
            offsets[edge.from as usize + 2] += 1;
        }
        for i in 2..offsets.len() {
            offsets[i] += offsets[i - 1];
        }
        let mut targets = vec![0; edges.len()];
        let mut tags = vec![0; edges.len()];
        for edge in edges {
            let place = &mut offsets[edge.from as usize + 1];
            targets[*place as usize] = edge.to;
            tags[*place as usize] = edge.tag;
            *place += 1;
        }
        offsets.pop();
        Graph { offsets, targets, tags }
    }

    /// How many vertices.
    pub fn vertex_count(&self) -> u32 {
        self.offsets.len() as u32 - 1
    }

    /// How many edges.
    pub fn edge_count(&self) -> usize {
        self.targets.len()
    }

    /// Targets and tags of the edges that leave a vertex.
    pub fn out(&self, vertex: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let range = self.range(vertex);
        let range = range.start as usize..range.end as usize;
        self.targets[range.clone()].iter().copied().zip(self.tags[range].iter().copied())
    }

    fn range(&self, vertex: u32) -> std::ops::Range<u32> {
        self.offsets[vertex as usize]..self.offsets[vertex as usize + 1]
    }
}

/// A graph as a search sees it: some kinds of edges, perhaps with memory.
pub trait View {
    /// How many states: vertices, or vertices with memory.
    fn state_count(&self) -> u32;
    /// The numbers of the edges that leave a state.
    fn edges(&self, state: u32) -> std::ops::Range<u32>;
    /// Where an edge leads from a state, and its tag.
    fn follow(&self, state: u32, edge: u32) -> Option<(u32, u32)>;
}

/// Only some kinds of edges.
#[derive(Debug, Clone, Copy)]
pub struct Only<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// A set of kinds.
    pub kinds: u32,
}

impl View for Only<'_> {
    fn state_count(&self) -> u32 {
        self.graph.vertex_count()
    }

    #[inline]
    fn edges(&self, state: u32) -> std::ops::Range<u32> {
        self.graph.range(state)
    }

    #[inline]
    fn follow(&self, _: u32, edge: u32) -> Option<(u32, u32)> {
        let tag = self.graph.tags[edge as usize];
        (self.kinds >> kind_of(tag) & 1 == 1).then(|| (self.graph.targets[edge as usize], tag))
    }
}

/// Paths on which no two anti-dependencies follow each other: a state is twice the vertex, and one more if
/// it was entered by one.
#[derive(Debug, Clone, Copy)]
pub struct Nonadjacent<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The kinds that may stand between anti-dependencies.
    pub base: u32,
    /// Components between which anti-dependencies count; within one, they do not. Empty: all count.
    pub apart: &'a [u32],
}

impl View for Nonadjacent<'_> {
    fn state_count(&self) -> u32 {
        self.graph.vertex_count() * 2
    }

    #[inline]
    fn edges(&self, state: u32) -> std::ops::Range<u32> {
        self.graph.range(state / 2)
    }

    #[inline]
    fn follow(&self, state: u32, edge: u32) -> Option<(u32, u32)> {
        let tag = self.graph.tags[edge as usize];
        let target = self.graph.targets[edge as usize];
        match kind_of(tag) {
            PASS => Some((target * 2 + state % 2, tag)),
            RW if state.is_multiple_of(2) => {
                let apart = self.apart.is_empty()
                    || self.apart[state as usize / 2] != self.apart[target as usize];
                apart.then_some((target * 2 + 1, tag))
            }
            kind if self.base >> kind & 1 == 1 => Some((target * 2, tag)),
            _ => None,
        }
    }
}

/// The strongly connected components of a view.
#[derive(Debug, Default, Clone)]
pub struct Components {
    /// The component of each state. What is reached from a component has a smaller number.
    pub of: Vec<u32>,
    /// How many there are.
    pub count: u32,
    /// The components with more than one state, in order of their numbers.
    pub nontrivial: Vec<u32>,
}

impl Components {
    /// Whether two states are in one component.
    pub fn together(&self, a: u32, b: u32) -> bool {
        self.of[a as usize] == self.of[b as usize]
    }

    /// The states of each nontrivial component, the smallest component first.
    pub fn members(&self) -> Vec<Vec<u32>> {
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); self.nontrivial.len()];
        if members.is_empty() {
            return members;
        }
        let mut slots = vec![NONE; self.count as usize];
        for (slot, component) in (0..).zip(&self.nontrivial) {
            slots[*component as usize] = slot;
        }
        for (state, component) in (0..).zip(&self.of) {
            let slot = slots[*component as usize];
            if slot != NONE {
                members[slot as usize].push(state);
            }
        }
        members.sort_by_key(Vec::len);
        members
    }
}

/// Finds the components. The last states are begun from first: transactions are numbered in order of time
/// and mostly depend on earlier ones, so the depth-first search stays shallow, and the numbers of
/// components follow time.
pub fn components(view: &impl View) -> Components {
    let count = view.state_count() as usize;
    const DONE: u32 = 1 << 31;
    // The order of discovery, from 1; 0 is unseen; DONE and the component once that is known.
    let mut low = vec![0u32; count];
    let mut found = Components::default();
    let mut next_order = 1u32;
    let mut open: Vec<u32> = Vec::new();
    // State, next edge, end of edges, order of discovery.
    let mut path: Vec<(u32, u32, u32, u32)> = Vec::new();
    for root in (0..count as u32).rev() {
        if low[root as usize] != 0 {
            continue;
        }
        let mut enter = Some(root);
        loop {
            if let Some(state) = enter.take() {
                low[state as usize] = next_order;
                open.push(state);
                let edges = view.edges(state);
                path.push((state, edges.start, edges.end, next_order));
                next_order += 1;
            }
            let Some((state, edge, end, order)) = path.last_mut() else { break };
            let state = *state;
            if *edge < *end {
                let this = *edge;
                *edge += 1;
                if let Some((target, _)) = view.follow(state, this) {
                    let seen = low[target as usize];
                    if seen == 0 {
                        enter = Some(target);
                    } else if seen < DONE && seen < low[state as usize] {
                        low[state as usize] = seen;
                    }
                }
                continue;
            }
            let own = low[state as usize];
            if own == *order {
                close(&mut found, &mut open, &mut low, state);
            }
            path.pop();
            if let Some((parent, ..)) = path.last()
                && low[state as usize] < low[*parent as usize]
            {
                low[*parent as usize] = low[state as usize];
            }
        }
    }
    for component in &mut low {
        *component &= !DONE;
    }
    found.of = low;
    found
}

/// Takes the component of `root` off the stack.
fn close(found: &mut Components, open: &mut Vec<u32>, low: &mut [u32], root: u32) {
    let mut size = 0;
    while let Some(member) = open.pop() {
        low[member as usize] = found.count | 1 << 31;
        size += 1;
        if member == root {
            break;
        }
    }
    if size > 1 {
        found.nontrivial.push(found.count);
    }
    found.count += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(vertex_count: u32, edges: &[(u32, u32, u32)]) -> Graph {
        let edges: Vec<Edge> =
            edges.iter().map(|&(from, to, kind)| Edge { from, to, tag: tag(kind, 0) }).collect();
        Graph::new(vertex_count, &edges)
    }

    #[test]
    fn components_are_numbered_behind_what_they_reach() {
        let graph =
            graph(5, &[(0, 1, WW), (1, 0, WR), (1, 2, WW), (2, 3, WW), (3, 4, RW), (4, 2, WW)]);
        let all = components(&Only { graph: &graph, kinds: kinds(&[WW, WR, RW]) });
        assert!(all.together(0, 1) && all.together(2, 4) && !all.together(1, 2));
        assert_eq!(all.nontrivial.len(), 2);
        assert!(all.of[2] < all.of[1], "what is reached has a smaller number");
        let without = components(&Only { graph: &graph, kinds: kinds(&[WW, WR]) });
        assert_eq!(without.members(), vec![vec![0, 1]]);
    }

    #[test]
    fn adjacent_anti_dependencies_are_no_cycle_of_the_nonadjacent_view() {
        let base = kinds(&[WW, WR]);
        let skew = graph(2, &[(0, 1, RW), (1, 0, RW)]);
        let view = Nonadjacent { graph: &skew, base, apart: &[] };
        assert!(components(&view).nontrivial.is_empty());
        let long_fork = graph(4, &[(0, 1, WR), (1, 2, RW), (2, 3, WR), (3, 0, RW)]);
        let view = Nonadjacent { graph: &long_fork, base, apart: &[] };
        assert_eq!(components(&view).nontrivial.len(), 1);
    }

    #[test]
    fn helpers_link_everything_but_itself() {
        let (from, to): (Vec<u32>, Vec<u32>) = ((0..30).collect(), (10..50).collect());
        let mut edges = Edges { vertex_count: 50, ..Edges::default() };
        edges.link_all(&from, &to, RW, 7);
        assert!(edges.list.len() < 300, "{} edges", edges.list.len());
        let graph = Graph::new(edges.vertex_count, &edges.list);
        for &start in &from {
            let mut seen = vec![false; edges.vertex_count as usize];
            let mut open = vec![start];
            while let Some(vertex) = open.pop() {
                for (target, tag) in graph.out(vertex) {
                    // Onwards through helpers only.
                    let inside = vertex == start || vertex >= 50;
                    if inside && (kind_of(tag) == PASS || vertex == start) && !seen[target as usize]
                    {
                        seen[target as usize] = true;
                        open.push(target);
                    }
                }
                open.retain(|vertex| *vertex >= 50);
            }
            let reached: Vec<u32> = (0..50).filter(|v| seen[*v as usize]).collect();
            let wanted: Vec<u32> = to.iter().copied().filter(|v| *v != start).collect();
            assert_eq!(reached, wanted, "from {start}");
        }
    }

    #[test]
    fn a_path_of_a_million_does_not_recurse() {
        let edges: Vec<Edge> =
            (0..1_000_000).map(|from| Edge { from, to: from + 1, tag: tag(WW, 0) }).collect();
        let graph = Graph::new(1_000_001, &edges);
        let found = components(&Only { graph: &graph, kinds: kinds(&[WW]) });
        assert_eq!((found.count, found.nontrivial.len()), (1_000_001, 0));
    }
}
