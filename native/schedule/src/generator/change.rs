//! Generators that change or select the operations of another: `map`, `f-map`, `filter`.

use std::sync::Arc;

use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::{Sym, Value};

use super::leaf::ExtraSource;
use super::{Answer, BoxGenerator, Context, Draft, Event, Generator, ThreadSet};
use crate::template::{Scene, Source};

/// How many operations in a row a filter may refuse before it gives up with a line of log.
const REFUSED_MAX: u32 = 10_000;

/// Sets function, value or extras of each operation; templates may use `{"the": "value"}`.
#[derive(Debug)]
pub struct Map {
    pub(crate) f: Option<Sym>,
    pub(crate) value: Option<Source>,
    pub(crate) extra: Option<ExtraSource>,
    pub(crate) nodes: Arc<[Sym]>,
    pub(crate) stream: Stream,
    pub(crate) inner: BoxGenerator,
}

impl Map {
    fn change(&mut self, draft: Draft, context: &Context) -> Draft {
        let scene = Scene {
            thread: draft.thread,
            process: context.process(draft.thread),
            nodes: &self.nodes,
            f: draft.f,
            value: Some(&draft.value),
        };
        let value = self.value.as_ref().map(|source| source.draw(&mut self.stream, &scene));
        let extra = self.extra.as_ref().map(|source| source.draw(&mut self.stream, &scene));
        Draft {
            thread: draft.thread,
            f: self.f.unwrap_or(draft.f),
            value: value.unwrap_or(draft.value),
            extra: extra.unwrap_or(draft.extra),
        }
    }
}

impl Generator for Map {
    fn next(&mut self, context: &mut Context) -> Answer {
        match self.inner.next(context) {
            Answer::Op(draft) => Answer::Op(self.change(draft, context)),
            other => other,
        }
    }

    fn update(&mut self, event: &Event<'_>) {
        self.inner.update(event);
    }

    fn wants_updates(&self) -> bool {
        self.inner.wants_updates()
    }

    fn reset(&mut self) {
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.inner.is_done()
    }
}

/// Renames functions; those that are not named stay.
#[derive(Debug)]
pub struct FMap {
    pub(crate) names: Vec<(Sym, Sym)>,
    pub(crate) inner: BoxGenerator,
}

impl Generator for FMap {
    fn next(&mut self, context: &mut Context) -> Answer {
        let mut answer = self.inner.next(context);
        if let Answer::Op(draft) = &mut answer
            && let Some((_, to)) = self.names.iter().find(|(from, _)| *from == draft.f)
        {
            draft.f = *to;
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
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.inner.is_done()
    }
}

/// Which operations a filter lets pass.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// The function is one of these.
    F(Vec<Sym>),
    /// The value is one of these.
    Value(Vec<Value>),
    /// The thread is one of these.
    Thread(ThreadSet),
    /// All hold.
    All(Vec<Test>),
    /// At least one holds.
    Some(Vec<Test>),
    /// It does not hold.
    Not(Box<Test>),
}

impl Test {
    /// Whether the operation passes.
    pub fn holds(&self, draft: &Draft) -> bool {
        match self {
            Test::F(names) => names.contains(&draft.f),
            Test::Value(values) => values.contains(&draft.value),
            Test::Thread(threads) => threads.contains(draft.thread),
            Test::All(tests) => tests.iter().all(|test| test.holds(draft)),
            Test::Some(tests) => tests.iter().any(|test| test.holds(draft)),
            Test::Not(test) => !test.holds(draft),
        }
    }

    fn looks_at_threads(&self) -> bool {
        match self {
            Test::F(_) | Test::Value(_) => false,
            Test::Thread(_) => true,
            Test::All(tests) | Test::Some(tests) => tests.iter().any(Test::looks_at_threads),
            Test::Not(test) => test.looks_at_threads(),
        }
    }
}

/// Only operations that pass a test. Ends, saying so, when 10,000 in a row do not.
#[derive(Debug)]
pub struct Filter {
    pub(crate) test: Test,
    pub(crate) path: Arc<str>,
    pub(crate) gave_up: bool,
    pub(crate) inner: BoxGenerator,
}

impl Generator for Filter {
    fn next(&mut self, context: &mut Context) -> Answer {
        if self.gave_up {
            return Answer::Done;
        }
        // Threads of refused operations stay taken until the search is over: otherwise a test on
        // threads would be shown the same thread for ever.
        let mut refused: Vec<u32> = Vec::new();
        let mut tries = 0;
        let answer = loop {
            match self.inner.next(context) {
                Answer::Op(draft) if !self.test.holds(&draft) => {
                    refused.push(draft.thread);
                    tries += 1;
                    if tries >= REFUSED_MAX {
                        self.gave_up = true;
                        break Answer::Log(
                            format!(
                                "generator at {}: filter refused {REFUSED_MAX} operations in a row \
                                 and ends here",
                                self.path
                            )
                            .into(),
                        );
                    }
                }
                // The thread that would pass may be one of those that are busy: wait for it.
                Answer::Waiting
                    if self.test.looks_at_threads()
                        && context.free.len() as usize + refused.len()
                            < context.processes.len() =>
                {
                    break Answer::Waiting;
                }
                // Every thread is in our own hands: begin again with all of them.
                Answer::Waiting | Answer::At(_) if !refused.is_empty() => {
                    refused.drain(..).for_each(|thread| context.release(thread));
                }
                other => break other,
            }
        };
        let cursor = context.cursor;
        refused.into_iter().for_each(|thread| context.release(thread));
        context.cursor = cursor;
        answer
    }

    fn update(&mut self, event: &Event<'_>) {
        self.inner.update(event);
    }

    fn wants_updates(&self) -> bool {
        self.inner.wants_updates()
    }

    fn reset(&mut self) {
        self.gave_up = false;
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.gave_up || self.inner.is_done()
    }
}
