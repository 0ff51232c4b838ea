//! Sets of threads as bits, and the state that generators see: time, free threads, processes.
//!
//! Threads are numbered `0..client_threads`; one more, `client_threads` itself, belongs to the nemesis.

/// A set of thread numbers below a fixed bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadSet {
    words: Box<[u64]>,
}

impl ThreadSet {
    /// The empty set with room for threads `0..bound`.
    pub fn empty(bound: u32) -> ThreadSet {
        ThreadSet { words: vec![0; (bound as usize).div_ceil(64).max(1)].into_boxed_slice() }
    }

    /// The set of the given threads, with room for `0..bound`; threads out of bounds are left out.
    pub fn of(bound: u32, threads: impl IntoIterator<Item = u32>) -> ThreadSet {
        let mut set = ThreadSet::empty(bound);
        for thread in threads {
            if thread < bound {
                set.insert(thread);
            }
        }
        set
    }

    /// Adds a thread below the bound.
    pub fn insert(&mut self, thread: u32) {
        if let Some(word) = self.words.get_mut(thread as usize / 64) {
            *word |= 1 << (thread % 64);
        }
    }

    /// Takes a thread out.
    pub fn remove(&mut self, thread: u32) {
        if let Some(word) = self.words.get_mut(thread as usize / 64) {
            *word &= !(1 << (thread % 64));
        }
    }

    /// Whether the thread is in the set.
    pub fn contains(&self, thread: u32) -> bool {
        self.words.get(thread as usize / 64).is_some_and(|word| word & (1 << (thread % 64)) != 0)
    }

    /// How many threads.
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// How many threads are in both.
    pub fn common(&self, other: &ThreadSet) -> u32 {
        self.words.iter().zip(other.words.iter()).map(|(a, b)| (a & b).count_ones()).sum()
    }

    /// Whether all threads of this set are in the other.
    pub fn is_subset(&self, other: &ThreadSet) -> bool {
        self.words.iter().zip(other.words.iter()).all(|(a, b)| a & !b == 0)
    }

    /// The first thread in both sets at or after `from`, without wrapping.
    pub fn next_common(&self, other: &ThreadSet, from: u32) -> Option<u32> {
        let first = from as usize / 64;
        for (at, (a, b)) in self.words.iter().zip(other.words.iter()).enumerate().skip(first) {
            let mut both = a & b;
            if at == first {
                both &= u64::MAX << (from % 64);
            }
            if both != 0 {
                return Some(at as u32 * 64 + both.trailing_zeros());
            }
        }
        None
    }

    /// The threads, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let next = self.next_common(self, from)?;
            from = next + 1;
            Some(next)
        })
    }
}

/// What a generator sees when it is asked: the time, which threads are free, which process each runs.
#[derive(Debug)]
pub struct Context {
    pub(crate) now_ns: u64,
    pub(crate) free: ThreadSet,
    pub(crate) processes: Vec<i64>,
    /// Where the search for a free thread begins, so that every thread gets its turn.
    pub(crate) cursor: u32,
    /// How often a thread has got a new process: lets generators that count processes do so rarely.
    pub(crate) process_changes: u64,
}

impl Context {
    /// All threads free, each running the process of its own number; the nemesis runs `-1`.
    pub fn new(client_threads: u32) -> Context {
        let bound = client_threads + 1;
        let mut processes: Vec<i64> = (0..i64::from(client_threads)).collect();
        processes.push(crate::interpreter::NEMESIS_PROCESS);
        Context {
            now_ns: 0,
            free: ThreadSet::of(bound, 0..bound),
            processes,
            cursor: 0,
            process_changes: 0,
        }
    }

    /// Nanoseconds since the start of the phase.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The process that a thread runs.
    pub fn process(&self, thread: u32) -> i64 {
        self.processes.get(thread as usize).copied().unwrap_or(crate::interpreter::NEMESIS_PROCESS)
    }

    /// The next free thread of `mask`, from the cursor on and around.
    pub fn peek(&self, mask: &ThreadSet) -> Option<u32> {
        mask.next_common(&self.free, self.cursor).or_else(|| mask.next_common(&self.free, 0))
    }

    /// Takes the next free thread of `mask`: it is busy from now on.
    pub fn take(&mut self, mask: &ThreadSet) -> Option<u32> {
        let thread = self.peek(mask)?;
        self.free.remove(thread);
        self.cursor = thread + 1;
        Some(thread)
    }

    /// Gives back a thread whose operation was dropped.
    pub fn release(&mut self, thread: u32) {
        self.free.insert(thread);
        self.cursor = thread;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_cross_word_borders() {
        let set = ThreadSet::of(130, [0, 63, 64, 129]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert_eq!(set.next_common(&set, 65), Some(129));
        assert_eq!(set.next_common(&set, 130), None);
        assert_eq!(set.len(), 4);
    }

    #[test]
    fn every_free_thread_gets_its_turn() {
        let mut context = Context::new(3);
        let mask = ThreadSet::of(4, 0..3);
        let mut turns = Vec::new();
        for _ in 0..6 {
            let thread = context.take(&mask).unwrap();
            turns.push(thread);
            context.free.insert(thread);
        }
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    }
}
