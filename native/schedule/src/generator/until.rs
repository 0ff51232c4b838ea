//! `until-ok`: operations until one of its own has completed with `ok`.
//!
//! Something that is down answers at once. So it pauses after every answer that is not `ok`, unless what it repeats
//! has a pace of its own: a server that stays down would else be asked as fast as the machine can.

use super::{Answer, BoxGenerator, Context, Event, Generator, ThreadSet};

/// How long after an answer that is not `ok` the next operation waits.
pub const PAUSE_NS: u64 = 100_000_000;

/// Counts only completions of operations that came from it since its last [`Generator::reset`].
#[derive(Debug)]
pub struct UntilOk {
    pub(crate) active: ThreadSet,
    pub(crate) succeeded: bool,
    /// [`PAUSE_NS`], or 0 if the inner generator has a pace of its own.
    pub(crate) pause_ns: u64,
    pub(crate) rests_until_ns: u64,
    pub(crate) inner: BoxGenerator,
}

impl Generator for UntilOk {
    fn next(&mut self, context: &mut Context) -> Answer {
        if self.succeeded {
            return Answer::Done;
        }
        if context.now_ns() < self.rests_until_ns {
            return Answer::At(self.rests_until_ns);
        }
        let answer = self.inner.next(context);
        if let Answer::Op(draft) = &answer {
            self.active.insert(draft.thread);
        }
        answer
    }

    fn update(&mut self, event: &Event<'_>) {
        if self.active.contains(event.thread) {
            self.active.remove(event.thread);
            if event.op_type == fuzz_dist_core::OpType::Ok {
                self.succeeded = true;
            } else {
                self.rests_until_ns = event.time_ns.saturating_add(self.pause_ns);
            }
        }
        self.inner.update(event);
    }

    fn wants_updates(&self) -> bool {
        true
    }

    fn reset(&mut self) {
        self.active.clear();
        self.succeeded = false;
        self.rests_until_ns = 0;
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.succeeded || self.inner.is_done()
    }
}
