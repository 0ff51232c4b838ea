//! Generators that choose among others: `mix` by chance, `any` whichever is ready, `reserve` by thread.

use fuzz_dist_core::seed::Stream;

use super::{Answer, BoxGenerator, Context, Event, Generator};
use crate::draw;

/// A random one for each operation, by weight; those that have ended drop out.
///
/// The draw is kept until its generator has given an operation. While that one waits for a time or a
/// completion of its own, the others go on in turn, so that one slow branch does not hold up the rest.
#[derive(Debug)]
pub struct Mix {
    pub(crate) items: Vec<BoxGenerator>,
    pub(crate) weights: Vec<u64>,
    /// Positions that have not ended, and their cumulative weights.
    pub(crate) alive: Vec<usize>,
    pub(crate) cumulative: Vec<u64>,
    /// Index into `alive`.
    pub(crate) chosen: Option<usize>,
    pub(crate) stream: Stream,
    pub(crate) forward: bool,
}

impl Mix {
    pub(crate) fn new(items: Vec<BoxGenerator>, weights: Vec<u64>, stream: Stream) -> Mix {
        let forward = items.iter().any(|item| item.wants_updates());
        let mut mix = Mix {
            items,
            weights,
            alive: Vec::new(),
            cumulative: Vec::new(),
            chosen: None,
            stream,
            forward,
        };
        mix.revive();
        mix
    }

    fn revive(&mut self) {
        self.alive = (0..self.items.len()).filter(|&at| self.weights[at] > 0).collect();
        self.weigh();
    }

    fn weigh(&mut self) {
        let mut sum = 0u64;
        self.cumulative.clear();
        for &at in &self.alive {
            sum = sum.saturating_add(self.weights[at]);
            self.cumulative.push(sum);
        }
        self.chosen = None;
    }

    fn drop_out(&mut self, place: usize) {
        self.alive.remove(place);
        self.weigh();
    }

    /// The others in turn, while the chosen one waits; its draw is kept.
    fn ask_others(&mut self, chosen: usize, mut wait: Answer, context: &mut Context) -> Answer {
        let count = self.alive.len();
        for step in 1..count {
            let place = (chosen + step) % count;
            match self.items[self.alive[place]].next(context) {
                answer @ (Answer::Op(_) | Answer::Log(_)) => return answer,
                // It drops out when it is drawn, lest the place of the chosen one shift.
                Answer::Done => {}
                other => wait = wait.sooner(other),
            }
        }
        wait
    }
}

impl Generator for Mix {
    fn next(&mut self, context: &mut Context) -> Answer {
        while !self.alive.is_empty() {
            let chosen = match self.chosen {
                Some(chosen) => chosen,
                None => draw::weighted(&mut self.stream, &self.cumulative),
            };
            self.chosen = Some(chosen);
            match self.items[self.alive[chosen]].next(context) {
                answer @ Answer::Op(_) => {
                    self.chosen = None;
                    return answer;
                }
                answer @ Answer::Log(_) => return answer,
                Answer::Done => self.drop_out(chosen),
                wait => return self.ask_others(chosen, wait, context),
            }
        }
        Answer::Done
    }

    fn update(&mut self, event: &Event<'_>) {
        for item in &mut self.items {
            item.update(event);
        }
    }

    fn wants_updates(&self) -> bool {
        self.forward
    }

    fn reset(&mut self) {
        for item in &mut self.items {
            item.reset();
        }
        self.revive();
    }

    fn is_done(&self) -> bool {
        self.alive.iter().all(|&at| self.items[at].is_done())
    }
}

/// How [`Any`] decides whom it asks first.
#[derive(Debug)]
pub enum First {
    /// By chance, drawn anew after each operation.
    Drawn(Box<Stream>),
    /// Each in turn.
    Turn,
}

/// Whichever is ready; ends when all have ended, or with the first that ends when `shortest`.
#[derive(Debug)]
pub struct Any {
    pub(crate) items: Vec<BoxGenerator>,
    pub(crate) ended: Vec<bool>,
    pub(crate) first: First,
    pub(crate) at: usize,
    pub(crate) shortest: bool,
    pub(crate) forward: bool,
}

impl Any {
    pub(crate) fn new(items: Vec<BoxGenerator>, first: First, shortest: bool) -> Any {
        let forward = items.iter().any(|item| item.wants_updates());
        let ended = vec![false; items.len()];
        let mut any = Any { items, ended, first, at: 0, shortest, forward };
        if let First::Drawn(_) = any.first {
            any.advance();
        }
        any
    }

    fn advance(&mut self) {
        let count = self.items.len();
        self.at = match &mut self.first {
            First::Drawn(stream) => draw::index(stream, count),
            First::Turn => (self.at + 1) % count.max(1),
        };
    }
}

impl Generator for Any {
    fn next(&mut self, context: &mut Context) -> Answer {
        let count = self.items.len();
        let mut wait = None;
        for step in 0..count {
            let at = (self.at + step) % count;
            if self.ended[at] {
                continue;
            }
            match self.items[at].next(context) {
                answer @ Answer::Op(_) => {
                    self.advance();
                    return answer;
                }
                answer @ Answer::Log(_) => return answer,
                Answer::Done => {
                    self.ended[at] = true;
                    if self.shortest {
                        self.ended.fill(true);
                        return Answer::Done;
                    }
                }
                other => {
                    wait = Some(match wait {
                        Some(before) => other.sooner(before),
                        None => other,
                    });
                }
            }
        }
        wait.unwrap_or(Answer::Done)
    }

    fn update(&mut self, event: &Event<'_>) {
        for item in &mut self.items {
            item.update(event);
        }
    }

    fn wants_updates(&self) -> bool {
        self.forward
    }

    fn reset(&mut self) {
        self.ended.fill(false);
        for item in &mut self.items {
            item.reset();
        }
    }

    fn is_done(&self) -> bool {
        let mut done =
            self.items.iter().zip(&self.ended).map(|(item, ended)| *ended || item.is_done());
        if self.shortest { done.any(|done| done) } else { done.all(|done| done) }
    }
}
