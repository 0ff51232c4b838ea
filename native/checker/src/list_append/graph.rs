//! Dependencies between transactions, and the cycles among them.
//!
//! Every question is answered exactly by strongly connected components (Tarjan, without recursion): an
//! edge lies on a cycle iff its ends are in one component. Only then is a shortest cycle through such an
//! edge looked for, breadth-first. A valid history costs one pass.

use std::collections::VecDeque;

/// The second transaction appended right after the first.
pub const WW: u8 = 1;
/// The second read what the first appended.
pub const WR: u8 = 2;
/// The first read a state that the second appended to.
pub const RW: u8 = 4;
/// The second followed in the same process.
pub const PROCESS: u8 = 8;
/// The second was invoked after the first had completed.
pub const REALTIME: u8 = 16;

/// A graph in compressed rows: the edges of a node in one stretch.
#[derive(Debug, Default)]
pub struct Graph {
    starts: Vec<u32>,
    targets: Vec<u32>,
    kinds: Vec<u8>,
}

/// A cycle: each node with the kind of the edge that leaves it.
pub type Cycle = Vec<(u32, u8)>;

impl Graph {
    /// Builds it from edges `(from, to, kind)`; loops are left out, and edges given twice are there once.
    pub fn new(node_count: usize, edges: Vec<(u32, u32, u8)>) -> Graph {
        // Sorted by their start by counting, then each row by itself: linear for short rows.
        let mut next = vec![0u32; node_count + 1];
        for (from, _, _) in &edges {
            next[*from as usize + 1] += 1;
        }
        for node in 0..node_count {
            next[node + 1] += next[node];
        }
        let rows = next.clone();
        let mut sorted = vec![(0u32, 0u8); edges.len()];
        for (from, to, kind) in edges {
            let place = &mut next[from as usize];
            sorted[*place as usize] = (to, kind);
            *place += 1;
        }
        let mut graph = Graph { starts: vec![0], ..Graph::default() };
        for node in 0..node_count {
            let row = &mut sorted[rows[node] as usize..rows[node + 1] as usize];
            row.sort_unstable();
            let mut last = None;
            for &(to, kind) in row.iter().filter(|(to, _)| *to as usize != node) {
                if last != Some((to, kind)) {
                    graph.targets.push(to);
                    graph.kinds.push(kind);
                    last = Some((to, kind));
                }
            }
            graph.starts.push(graph.targets.len() as u32);
        }
        graph
    }

    /// How many nodes.
    pub fn node_count(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// How many edges.
    pub fn edge_count(&self) -> usize {
        self.targets.len()
    }

    /// Edges of a node: target and kind.
    pub fn edges(&self, node: u32) -> impl Iterator<Item = (u32, u8)> + '_ {
        let range = self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize;
        range.map(|i| (self.targets[i], self.kinds[i]))
    }

    /// The component of each node, in the graph of the edges of these kinds. Nodes alone in theirs get
    /// [`ALONE`].
    pub fn components(&self, kinds: u8) -> Vec<u32> {
        Tarjan::new(self, kinds).run()
    }

    /// A shortest path of edges of these kinds from one node to another, as nodes with leaving edges.
    pub fn path(&self, from: u32, to: u32, kinds: u8, within: &[u32]) -> Option<Cycle> {
        let component = within[from as usize];
        if component == ALONE || within[to as usize] != component {
            return None;
        }
        let mut before: std::collections::HashMap<u32, (u32, u8), rustc_hash::FxBuildHasher> =
            Default::default();
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            if node == to {
                let mut path = Vec::new();
                let mut at = to;
                while at != from {
                    let (previous, kind) = before[&at];
                    path.push((previous, kind));
                    at = previous;
                }
                path.reverse();
                return Some(path);
            }
            for (next, kind) in self.edges(node) {
                let fits = kind & kinds != 0 && within[next as usize] == component;
                if fits && next != from && !before.contains_key(&next) {
                    before.insert(next, (node, kind));
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// The graph in which no two anti-dependencies follow each other: node `2v` is v, reached by
    /// anything but an anti-dependency, and `2v + 1` is v, reached by one.
    pub fn without_adjacent_rw(&self) -> Graph {
        let mut edges = Vec::with_capacity(2 * self.edge_count());
        for node in 0..self.node_count() as u32 {
            for (next, kind) in self.edges(node) {
                if kind == RW {
                    edges.push((2 * node, 2 * next + 1, RW));
                } else {
                    edges.push((2 * node, 2 * next, kind));
                    edges.push((2 * node + 1, 2 * next, kind));
                }
            }
        }
        Graph::new(2 * self.node_count(), edges)
    }

    /// The graph of the nodes that lie on cycles at all, with their numbers here.
    pub fn cyclic_part(&self) -> (Graph, Vec<u32>) {
        let components = self.components(u8::MAX);
        let nodes: Vec<u32> = (0..self.node_count() as u32)
            .filter(|node| components[*node as usize] != ALONE)
            .collect();
        let mut numbers = vec![ALONE; self.node_count()];
        for (number, node) in nodes.iter().enumerate() {
            numbers[*node as usize] = number as u32;
        }
        let mut edges = Vec::new();
        for &node in &nodes {
            for (next, kind) in self.edges(node) {
                if components[next as usize] == components[node as usize] {
                    edges.push((numbers[node as usize], numbers[next as usize], kind));
                }
            }
        }
        (Graph::new(nodes.len(), edges), nodes)
    }
}

/// Component of a node on no cycle.
pub const ALONE: u32 = u32::MAX;

struct Tarjan<'a> {
    graph: &'a Graph,
    kinds: u8,
    /// Order of discovery from 1; 0 when not discovered.
    order: Vec<u32>,
    low: Vec<u32>,
    on_stack: Vec<bool>,
    stack: Vec<u32>,
    components: Vec<u32>,
    discovered: u32,
    count: u32,
}

impl<'a> Tarjan<'a> {
    fn new(graph: &'a Graph, kinds: u8) -> Tarjan<'a> {
        let n = graph.node_count();
        Tarjan {
            graph,
            kinds,
            order: vec![0; n],
            low: vec![0; n],
            on_stack: vec![false; n],
            stack: Vec::new(),
            components: vec![ALONE; n],
            discovered: 0,
            count: 0,
        }
    }

    fn run(mut self) -> Vec<u32> {
        for root in 0..self.graph.node_count() as u32 {
            if self.order[root as usize] == 0 {
                self.visit(root);
            }
        }
        self.components
    }

    fn discover(&mut self, node: u32) -> (u32, u32) {
        self.discovered += 1;
        self.order[node as usize] = self.discovered;
        self.low[node as usize] = self.discovered;
        self.stack.push(node);
        self.on_stack[node as usize] = true;
        (node, self.graph.starts[node as usize])
    }

    /// Depth-first with a stack of its own: histories are longer than call stacks are deep.
    fn visit(&mut self, root: u32) {
        let mut path = vec![self.discover(root)];
        while let Some((node, edge)) = path.last_mut() {
            let (v, i) = (*node as usize, *edge as usize);
            if i < self.graph.starts[v + 1] as usize {
                *edge += 1;
                let (next, kind) = (self.graph.targets[i], self.graph.kinds[i]);
                if kind & self.kinds == 0 {
                    continue;
                }
                if self.order[next as usize] == 0 {
                    let found = self.discover(next);
                    path.push(found);
                } else if self.on_stack[next as usize] {
                    self.low[v] = self.low[v].min(self.order[next as usize]);
                }
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                let parent = *parent as usize;
                self.low[parent] = self.low[parent].min(self.low[v]);
            }
            if self.low[v] == self.order[v] {
                self.close(v as u32);
            }
        }
    }

    fn close(&mut self, root: u32) {
        let alone = self.stack.last() == Some(&root);
        while let Some(node) = self.stack.pop() {
            self.on_stack[node as usize] = false;
            self.components[node as usize] = if alone { ALONE } else { self.count };
            if node == root {
                break;
            }
        }
        self.count += u32::from(!alone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_those_that_reach_each_other() {
        let mut state = 7u64;
        let mut random = move |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        for _ in 0..300 {
            let n = 1 + random(8) as usize;
            let edges: Vec<(u32, u32, u8)> = (0..random(16))
                .map(|_| (random(n as u64) as u32, random(n as u64) as u32, 1 << random(3)))
                .collect();
            let graph = Graph::new(n, edges.clone());
            let kinds = 1 + random(7) as u8;
            let mut reach = vec![vec![false; n]; n];
            for (a, b, kind) in &edges {
                reach[*a as usize][*b as usize] |= kind & kinds != 0;
            }
            for k in 0..n {
                for i in 0..n {
                    for j in 0..n {
                        reach[i][j] |= reach[i][k] && reach[k][j];
                    }
                }
            }
            let components = graph.components(kinds);
            for i in 0..n {
                for j in (0..n).filter(|j| *j != i) {
                    let together = components[i] != ALONE && components[i] == components[j];
                    assert_eq!(together, reach[i][j] && reach[j][i], "{edges:?} {kinds}");
                }
            }
        }
    }
}
