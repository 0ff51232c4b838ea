//! Generators without others inside: an operation, a line of log, a pause.

use std::sync::Arc;

use fuzz_dist_core::Sym;
use fuzz_dist_core::seed::Stream;

use super::{Answer, Context, Draft, Extra, Generator, ThreadSet};
use crate::template::{Scene, Source};

/// Further keys of an operation: the same each time, or drawn.
#[derive(Debug)]
pub enum ExtraSource {
    /// None.
    None,
    /// The same for every operation, shared.
    Fixed(Extra),
    /// Drawn for each.
    Drawn(Vec<(Sym, Source)>),
}

impl ExtraSource {
    /// Draws them.
    pub fn draw(&self, stream: &mut Stream, scene: &Scene<'_>) -> Option<Extra> {
        match self {
            ExtraSource::None => None,
            ExtraSource::Fixed(extra) => Some(extra.clone()),
            ExtraSource::Drawn(sources) => Some(Arc::new(
                sources.iter().map(|(key, source)| (*key, source.draw(stream, scene))).collect(),
            )),
        }
    }
}

/// The same operation again and again, its value drawn each time. Never ends.
#[derive(Debug)]
pub struct Leaf {
    pub(crate) f: Sym,
    pub(crate) value: Source,
    pub(crate) extra: ExtraSource,
    pub(crate) threads: Arc<ThreadSet>,
    pub(crate) nodes: Arc<[Sym]>,
    pub(crate) stream: Stream,
}

impl Generator for Leaf {
    fn next(&mut self, context: &mut Context) -> Answer {
        // Draws are made only once a thread is there: a wait draws nothing.
        let Some(thread) = context.take(&self.threads) else { return Answer::Waiting };
        let scene = Scene {
            thread,
            process: context.process(thread),
            nodes: &self.nodes,
            f: self.f,
            value: None,
        };
        let value = self.value.draw(&mut self.stream, &scene);
        let extra = self.extra.draw(&mut self.stream, &scene);
        Answer::Op(Draft { thread, f: self.f, value, extra })
    }

    fn reset(&mut self) {}
}

/// One line of log, then the end.
#[derive(Debug)]
pub struct Log {
    pub(crate) text: Arc<str>,
    pub(crate) written: bool,
}

impl Generator for Log {
    fn next(&mut self, _context: &mut Context) -> Answer {
        if self.written {
            return Answer::Done;
        }
        self.written = true;
        Answer::Log(self.text.clone())
    }

    fn reset(&mut self) {
        self.written = false;
    }

    fn is_done(&self) -> bool {
        self.written
    }
}

/// Nothing for a while, counted from the first time it is asked; occupies no thread.
#[derive(Debug)]
pub struct Sleep {
    pub(crate) duration_ns: u64,
    pub(crate) until_ns: Option<u64>,
}

impl Generator for Sleep {
    fn next(&mut self, context: &mut Context) -> Answer {
        let until_ns =
            *self.until_ns.get_or_insert(context.now_ns().saturating_add(self.duration_ns));
        if context.now_ns() < until_ns { Answer::At(until_ns) } else { Answer::Done }
    }

    fn reset(&mut self) {
        self.until_ns = None;
    }
}
