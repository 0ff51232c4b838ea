//! `until-ok`: operations until one of its own has completed with `ok`.

use super::{Answer, BoxGenerator, Context, Event, Generator, ThreadSet};

/// Counts only completions of operations that came from it since its last [`Generator::reset`].
#[derive(Debug)]
pub struct UntilOk {
    pub(crate) active: ThreadSet,
    pub(crate) succeeded: bool,
    pub(crate) inner: BoxGenerator,
}

impl Generator for UntilOk {
    fn next(&mut self, context: &mut Context) -> Answer {
        if self.succeeded {
            return Answer::Done;
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
            self.succeeded |= event.op_type == fuzz_dist_core::OpType::Ok;
        }
        self.inner.update(event);
    }

    fn wants_updates(&self) -> bool {
        true
    }

    fn reset(&mut self) {
        self.active.clear();
        self.succeeded = false;
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.succeeded || self.inner.is_done()
    }
}
