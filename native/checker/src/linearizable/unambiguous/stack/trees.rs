//! Trees over intervals: the largest value in one, and a gap in one that nothing covers.

/// Numbers by place, 0 for none; the largest between two places in O(log n).
#[derive(Debug)]
pub struct Extremes {
    /// A complete binary tree, its leaves in the second half.
    nodes: Vec<u32>,
    leaves: usize,
}

impl Extremes {
    /// A tree of these values.
    pub fn new(values: impl ExactSizeIterator<Item = u32>) -> Extremes {
        let leaves = values.len().next_power_of_two();
        let mut nodes = vec![0; 2 * leaves];
        for (i, value) in values.enumerate() {
            nodes[leaves + i] = value;
        }
        for i in (1..leaves).rev() {
            nodes[i] = nodes[2 * i].max(nodes[2 * i + 1]);
        }
        Extremes { nodes, leaves }
    }

    /// Sets one value.
    pub fn set(&mut self, place: usize, value: u32) {
        let mut node = self.leaves + place;
        self.nodes[node] = value;
        while node > 1 {
            node /= 2;
            self.nodes[node] = self.nodes[2 * node].max(self.nodes[2 * node + 1]);
        }
    }

    /// The largest value from place `from` to before `to`, and its place; `None` if there is none.
    pub fn max(&self, from: usize, to: usize) -> Option<(usize, u32)> {
        let (mut low, mut high) = (self.leaves + from, self.leaves + to);
        let mut best = 0;
        while low < high {
            for (side, bound) in [(low % 2 == 1, low), (high % 2 == 1, high.wrapping_sub(1))] {
                if side && self.nodes[bound] > self.nodes[best] {
                    best = bound;
                }
            }
            low = low.div_ceil(2);
            high /= 2;
        }
        let value = self.nodes[best];
        if value == 0 {
            return None;
        }
        while best < self.leaves {
            best = if self.nodes[2 * best] == value { 2 * best } else { 2 * best + 1 };
        }
        Some((best - self.leaves, value))
    }
}

/// How many intervals cover each gap: they are taken away one by one, and a gap that nothing covers is
/// found, each in O(log n).
#[derive(Debug)]
pub struct Coverage {
    /// The least count below a node, without what is noted above it.
    least: Vec<u32>,
    /// What was taken away from all below a node.
    taken: Vec<u32>,
    leaves: usize,
}

impl Coverage {
    /// Gaps below `end`, covered by intervals `(first, one past the last)`.
    pub fn new(end: u32, intervals: impl Iterator<Item = (u32, u32)>) -> Coverage {
        let leaves = (end as usize + 1).next_power_of_two();
        let mut change = vec![0i32; leaves + 1];
        for (from, to) in intervals {
            change[from as usize] += 1;
            change[to as usize] -= 1;
        }
        let mut least = vec![0; 2 * leaves];
        let mut count = 0i32;
        for gap in 0..leaves {
            count += change[gap];
            least[leaves + gap] = count.unsigned_abs();
        }
        for i in (1..leaves).rev() {
            least[i] = least[2 * i].min(least[2 * i + 1]);
        }
        Coverage { least, taken: vec![0; 2 * leaves], leaves }
    }

    /// Takes an interval away that was given.
    pub fn remove(&mut self, from: u32, to: u32) {
        self.lower(1, 0, self.leaves, from as usize, to as usize);
    }

    fn lower(&mut self, node: usize, low: usize, high: usize, from: usize, to: usize) {
        if to <= low || high <= from {
            return;
        }
        if from <= low && high <= to {
            self.least[node] -= 1;
            self.taken[node] += 1;
            return;
        }
        let middle = (low + high) / 2;
        self.lower(2 * node, low, middle, from, to);
        self.lower(2 * node + 1, middle, high, from, to);
        self.least[node] = self.least[2 * node].min(self.least[2 * node + 1]) - self.taken[node];
    }

    /// A gap from `from` to before `to` that nothing covers, the first one.
    pub fn first_free(&self, from: u32, to: u32) -> Option<u32> {
        let found = self.free(1, 0, self.leaves, from as usize, to as usize, 0);
        found.map(|gap| gap as u32)
    }

    fn free(
        &self,
        node: usize,
        low: usize,
        high: usize,
        from: usize,
        to: usize,
        taken: u32,
    ) -> Option<usize> {
        if to <= low || high <= from || self.least[node] > taken {
            return None;
        }
        if node >= self.leaves {
            return Some(low);
        }
        let taken = taken + self.taken[node];
        let middle = (low + high) / 2;
        self.free(2 * node, low, middle, from, to, taken)
            .or_else(|| self.free(2 * node + 1, middle, high, from, to, taken))
    }
}
