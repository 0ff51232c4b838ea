//! Generators that end another: after so many operations, so long, so many processes; or that hold it
//! back while too much is going on.

use std::sync::Arc;

use super::{Answer, BoxGenerator, Context, Event, Generator, ThreadSet};

/// At most so many operations (`limit`, `once`).
#[derive(Debug)]
pub struct Limit {
    pub(crate) count: u64,
    pub(crate) left: u64,
    pub(crate) inner: BoxGenerator,
}

impl Generator for Limit {
    fn next(&mut self, context: &mut Context) -> Answer {
        if self.left == 0 {
            return Answer::Done;
        }
        let answer = self.inner.next(context);
        if matches!(answer, Answer::Op(_)) {
            self.left -= 1;
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
        self.left = self.count;
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.left == 0 || self.inner.is_done()
    }
}

/// Operations only within so long of the first time it is asked (`time-limit`). What has been invoked is
/// not interrupted.
#[derive(Debug)]
pub struct TimeLimit {
    pub(crate) duration_ns: u64,
    pub(crate) end_ns: Option<u64>,
    pub(crate) inner: BoxGenerator,
}

impl Generator for TimeLimit {
    fn next(&mut self, context: &mut Context) -> Answer {
        let end_ns = *self.end_ns.get_or_insert(context.now_ns().saturating_add(self.duration_ns));
        if context.now_ns() >= end_ns {
            return Answer::Done;
        }
        match self.inner.next(context) {
            Answer::At(time_ns) => Answer::At(time_ns.min(end_ns)),
            // Whoever waits for us learns of the end in time, even if nothing completes.
            Answer::Waiting => Answer::At(end_ns),
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
        self.end_ns = None;
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.inner.is_done()
    }
}

/// Ends before more than so many different processes could have been used (`process-limit`).
///
/// It counts the processes that its threads run, used or not: with every crash one more. Ending at once
/// rather than with the last usable process avoids a long trickle on few threads.
#[derive(Debug)]
pub struct ProcessLimit {
    pub(crate) count: u64,
    pub(crate) threads: Arc<ThreadSet>,
    pub(crate) seen: Vec<Option<i64>>,
    pub(crate) used: u64,
    pub(crate) seen_changes: Option<u64>,
    pub(crate) inner: BoxGenerator,
}

impl ProcessLimit {
    fn count_processes(&mut self, context: &Context) {
        if self.seen_changes == Some(context.process_changes) {
            return;
        }
        self.seen_changes = Some(context.process_changes);
        for (slot, thread) in self.seen.iter_mut().zip(self.threads.iter()) {
            let process = context.process(thread);
            if *slot != Some(process) {
                *slot = Some(process);
                self.used += 1;
            }
        }
    }
}

impl Generator for ProcessLimit {
    fn next(&mut self, context: &mut Context) -> Answer {
        self.count_processes(context);
        if self.used > self.count {
            return Answer::Done;
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
        self.seen.fill(None);
        self.used = 0;
        self.seen_changes = None;
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.used > self.count || self.inner.is_done()
    }
}

/// Waits while so many of its threads are busy (`concurrency-limit`).
#[derive(Debug)]
pub struct ConcurrencyLimit {
    pub(crate) count: u32,
    pub(crate) threads: Arc<ThreadSet>,
    pub(crate) inner: BoxGenerator,
}

impl Generator for ConcurrencyLimit {
    fn next(&mut self, context: &mut Context) -> Answer {
        let busy = self.threads.len() - self.threads.common(&context.free);
        if busy >= self.count {
            return if self.inner.is_done() { Answer::Done } else { Answer::Waiting };
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
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.inner.is_done()
    }
}
