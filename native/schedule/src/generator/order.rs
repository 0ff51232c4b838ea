//! Generators that run others one after the other or over again: `sequence`, `synchronize` (of which
//! `phases` and `then` are made), `flip-flop`, `repeat`, `cycle`.

use std::sync::Arc;

use super::{Answer, BoxGenerator, Context, Event, Generator, ThreadSet};

/// Each to its end, then the next. Completions go to the one that is running.
#[derive(Debug)]
pub struct Sequence {
    pub(crate) items: Vec<BoxGenerator>,
    pub(crate) at: usize,
    pub(crate) forward: bool,
}

impl Generator for Sequence {
    fn next(&mut self, context: &mut Context) -> Answer {
        while let Some(item) = self.items.get_mut(self.at) {
            match item.next(context) {
                Answer::Done => self.at += 1,
                other => return other,
            }
        }
        Answer::Done
    }

    fn update(&mut self, event: &Event<'_>) {
        if let Some(item) = self.items.get_mut(self.at) {
            item.update(event);
        }
    }

    fn wants_updates(&self) -> bool {
        self.forward
    }

    fn reset(&mut self) {
        self.at = 0;
        for item in &mut self.items {
            item.reset();
        }
    }

    fn is_done(&self) -> bool {
        self.items.iter().skip(self.at).all(|item| item.is_done())
    }
}

/// Waits until every thread of the scope is free, then is its generator.
#[derive(Debug)]
pub struct Synchronize {
    pub(crate) threads: Arc<ThreadSet>,
    pub(crate) begun: bool,
    pub(crate) inner: BoxGenerator,
}

impl Generator for Synchronize {
    fn next(&mut self, context: &mut Context) -> Answer {
        if !self.begun {
            if !self.threads.is_subset(&context.free) {
                return Answer::Waiting;
            }
            self.begun = true;
        }
        self.inner.next(context)
    }

    fn update(&mut self, event: &Event<'_>) {
        self.inner.update(event);
    }

    fn wants_updates(&self) -> bool {
        self.inner.wants_updates()
    }

    fn reset(&mut self) {
        self.begun = false;
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.inner.is_done()
    }
}

/// One operation of each in turn, strictly; ends when the one whose turn it is has ended.
#[derive(Debug)]
pub struct FlipFlop {
    pub(crate) items: Vec<BoxGenerator>,
    pub(crate) at: usize,
    pub(crate) ended: bool,
    pub(crate) forward: bool,
}

impl Generator for FlipFlop {
    fn next(&mut self, context: &mut Context) -> Answer {
        if self.ended {
            return Answer::Done;
        }
        let count = self.items.len();
        let Some(item) = self.items.get_mut(self.at) else { return Answer::Done };
        let answer = item.next(context);
        match answer {
            Answer::Op(_) => self.at = (self.at + 1) % count,
            Answer::Done => self.ended = true,
            _ => {}
        }
        answer
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
        self.at = 0;
        self.ended = false;
        for item in &mut self.items {
            item.reset();
        }
    }

    fn is_done(&self) -> bool {
        self.ended || self.items.get(self.at).is_none_or(|item| item.is_done())
    }
}

/// The first operation of its generator over and over, drawn anew each time.
#[derive(Debug)]
pub struct Repeat {
    /// How often; for ever when absent.
    pub(crate) count: Option<u64>,
    pub(crate) made: u64,
    pub(crate) inner: BoxGenerator,
}

impl Generator for Repeat {
    fn next(&mut self, context: &mut Context) -> Answer {
        if self.count.is_some_and(|count| self.made >= count) {
            return Answer::Done;
        }
        let answer = self.inner.next(context);
        if matches!(answer, Answer::Op(_)) {
            self.made += 1;
            self.inner.reset();
        }
        answer
    }

    fn update(&mut self, event: &Event<'_>) {
        self.inner.update(event);
    }

    fn wants_updates(&self) -> bool {
        self.inner.wants_updates()
    }

    fn reset(&mut self) {
        self.made = 0;
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.count.is_some_and(|count| self.made >= count) || self.inner.is_done()
    }
}

/// Its generator to the end, again and again.
#[derive(Debug)]
pub struct Cycle {
    /// How often; for ever when absent.
    pub(crate) count: Option<u64>,
    pub(crate) rounds: u64,
    /// Whether this round gave an operation or a wait. A round of neither would be followed by an endless
    /// number of the same within one instant, so it is the last.
    pub(crate) progress: bool,
    pub(crate) ended: bool,
    pub(crate) inner: BoxGenerator,
}

impl Generator for Cycle {
    fn next(&mut self, context: &mut Context) -> Answer {
        loop {
            if self.ended || self.count.is_some_and(|count| self.rounds >= count) {
                return Answer::Done;
            }
            match self.inner.next(context) {
                Answer::Done => {
                    self.rounds += 1;
                    self.ended = !self.progress;
                    self.progress = false;
                    self.inner.reset();
                }
                Answer::Log(text) => return Answer::Log(text),
                other => {
                    self.progress = true;
                    return other;
                }
            }
        }
    }

    fn update(&mut self, event: &Event<'_>) {
        self.inner.update(event);
    }

    fn wants_updates(&self) -> bool {
        self.inner.wants_updates()
    }

    fn reset(&mut self) {
        self.rounds = 0;
        self.progress = false;
        self.ended = false;
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.ended || self.count.is_some_and(|count| self.rounds >= count)
    }
}
