//! Which gaps between events are covered, when covered gaps never become free again: a disjoint-set forest
//! in which every covered gap points to a later one (Tarjan, 1975).

/// Gaps `0..end` and one after them, which is always free. Gap `g` follows event `g`.
#[derive(Debug)]
pub struct Cover {
    /// The gap itself if it is free.
    next: Vec<u32>,
}

impl Cover {
    /// All free.
    pub fn new(end: u32) -> Cover {
        Cover { next: (0..=end).collect() }
    }

    /// The first free gap from `gap` on.
    pub fn first_free(&mut self, gap: u32) -> u32 {
        let mut at = gap.min(self.next.len() as u32 - 1);
        while self.next[at as usize] != at {
            // Halving the path keeps it short.
            let next = self.next[at as usize];
            self.next[at as usize] = self.next[next as usize];
            at = next;
        }
        at
    }

    /// Covers the gaps from `from` to before `to`.
    pub fn add(&mut self, from: u32, to: u32) {
        let to = to.min(self.next.len() as u32 - 1);
        let mut at = self.first_free(from);
        while at < to {
            self.next[at as usize] = at + 1;
            at = self.first_free(at);
        }
    }
}
