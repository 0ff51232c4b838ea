//! Rows of words for transactions, kept only as long as a later transaction will ask for them.
//!
//! A transaction's row is asked for by the next one of its session and by each read from it. Memory is that of
//! the rows that are still needed, not of all.

use crate::causal::txns::{NONE, Txns};

/// Rows of one width.
#[derive(Debug)]
pub struct Pool<T> {
    width: usize,
    items: Vec<T>,
    free: Vec<u32>,
    /// By transaction: its row, and how many will still ask for it.
    row: Vec<u32>,
    uses: Vec<u32>,
}

impl<T: Copy + Default> Pool<T> {
    /// For all transactions that happened.
    pub fn new(txns: &Txns, width: usize) -> Pool<T> {
        let mut uses = vec![0; txns.list.len()];
        for (number, txn) in (0..).zip(&txns.list).filter(|(_, txn)| txn.happened) {
            if txn.before != NONE {
                uses[txn.before as usize] += 1;
            }
            for source in txns.events_of(number).iter().filter_map(|event| event.read_from()) {
                uses[source as usize] += 1;
            }
        }
        let row = vec![NONE; txns.list.len()];
        Pool { width, items: Vec::new(), free: Vec::new(), row, uses }
    }

    /// The row of a transaction that was kept and not released.
    #[inline]
    pub fn of(&self, txn: u32) -> &[T] {
        let start = self.row[txn as usize] as usize * self.width;
        &self.items[start..start + self.width]
    }

    /// Keeps a row, if anybody will ask for it.
    pub fn keep(&mut self, txn: u32, row: &[T]) {
        if self.uses[txn as usize] == 0 || self.width == 0 {
            return;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            let place = (self.items.len() / self.width) as u32;
            self.items.resize(self.items.len() + self.width, T::default());
            place
        });
        let start = place as usize * self.width;
        self.items[start..start + self.width].copy_from_slice(row);
        self.row[txn as usize] = place;
    }

    /// A transaction is done: whom it asked for is asked for once less.
    pub fn release_sources(&mut self, txns: &Txns, txn: u32) {
        let before = txns.list[txn as usize].before;
        let sources = txns.events_of(txn).iter().filter_map(|event| event.read_from());
        for source in sources.chain((before != NONE).then_some(before)) {
            let uses = &mut self.uses[source as usize];
            *uses -= 1;
            if *uses == 0 {
                self.free.push(self.row[source as usize]);
            }
        }
    }

    /// How much memory the rows take.
    pub fn bytes(&self) -> u64 {
        (self.items.len() * std::mem::size_of::<T>()) as u64
    }
}
