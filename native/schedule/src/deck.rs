//! A shuffled deck of numbers that is dealt to its end before any of them comes again.

use fuzz_dist_core::seed::Stream;

use crate::draw;

/// Deals evenly what independent draws would deal by chance.
#[derive(Debug, Clone)]
pub(crate) struct Deck {
    cards: Vec<usize>,
    all: Vec<usize>,
}

impl Deck {
    /// With these cards, to be shuffled whenever they are dealt out.
    pub fn new(all: Vec<usize>) -> Deck {
        Deck { cards: Vec::new(), all }
    }

    /// The next card that passes; those before it stay on top.
    pub fn deal(&mut self, stream: &mut Stream, fits: impl Fn(usize) -> bool) -> Option<usize> {
        for _ in 0..2 {
            if let Some(at) = self.cards.iter().rposition(|card| fits(*card)) {
                return Some(self.cards.remove(at));
            }
            if !self.all.iter().any(|card| fits(*card)) {
                return None;
            }
            let mut fresh = self.all.clone();
            draw::shuffle(stream, &mut fresh);
            // What is left over of the old deck comes first.
            fresh.append(&mut self.cards);
            self.cards = fresh;
        }
        None
    }
}
