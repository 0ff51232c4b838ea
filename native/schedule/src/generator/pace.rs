//! Generators that decide when: `stagger`, `delay`, `cycle-times`.
//!
//! Rates are totals, not per thread. Neither `stagger` nor `delay` looks at how long operations take.

use fuzz_dist_core::seed::Stream;

use super::{Answer, BoxGenerator, Context, Event, Generator};
use crate::draw;

/// How far a staggered schedule may lag behind before it starts again from now: long enough to absorb a
/// scheduler's hiccup at thousands of operations a second, too short for a burst worth the name.
const LAG_MAX_NS: u64 = 10_000_000;

/// Gaps drawn uniformly from 0 to twice the mean; the first operation comes at once.
///
/// While operations leave on time (within the larger of 10 ms and the mean) each gap counts from the time
/// that was planned, so that the rate is kept; when every thread was busy for longer, the lost time is not
/// made up for.
#[derive(Debug)]
pub struct Stagger {
    pub(crate) mean_ns: u64,
    pub(crate) next_ns: Option<u64>,
    pub(crate) stream: Stream,
    pub(crate) inner: BoxGenerator,
}

impl Generator for Stagger {
    fn next(&mut self, context: &mut Context) -> Answer {
        if self.inner.is_done() {
            return Answer::Done;
        }
        let now_ns = context.now_ns();
        let next_ns = *self.next_ns.get_or_insert(now_ns);
        if now_ns < next_ns {
            return Answer::At(next_ns);
        }
        let answer = self.inner.next(context);
        if matches!(answer, Answer::Op(_)) {
            let late = now_ns - next_ns > self.mean_ns.max(LAG_MAX_NS);
            let from_ns = if late { now_ns } else { next_ns };
            let gap_ns = draw::below(&mut self.stream, self.mean_ns.saturating_mul(2));
            self.next_ns = Some(from_ns.saturating_add(gap_ns));
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
        self.next_ns = None;
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.inner.is_done()
    }
}

/// Exactly so long from one planned time to the next; catches up when late.
#[derive(Debug)]
pub struct Delay {
    pub(crate) gap_ns: u64,
    pub(crate) next_ns: Option<u64>,
    pub(crate) inner: BoxGenerator,
}

impl Generator for Delay {
    fn next(&mut self, context: &mut Context) -> Answer {
        if self.inner.is_done() {
            return Answer::Done;
        }
        let now_ns = context.now_ns();
        let next_ns = *self.next_ns.get_or_insert(now_ns);
        if now_ns < next_ns {
            return Answer::At(next_ns);
        }
        let answer = self.inner.next(context);
        if matches!(answer, Answer::Op(_)) {
            self.next_ns = Some(next_ns.saturating_add(self.gap_ns));
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
        self.next_ns = None;
        self.inner.reset();
    }

    fn is_done(&self) -> bool {
        self.inner.is_done()
    }
}

/// Windows of time in turn, each with its own generator, whose state lasts from one turn to the next. Ends
/// when the one whose turn it is has ended.
#[derive(Debug)]
pub struct CycleTimes {
    /// End of each window within a turn (ns), ascending, and its generator.
    pub(crate) windows: Vec<(u64, BoxGenerator)>,
    pub(crate) start_ns: Option<u64>,
    pub(crate) ended: bool,
    pub(crate) forward: bool,
}

impl Generator for CycleTimes {
    fn next(&mut self, context: &mut Context) -> Answer {
        let turn_ns = self.windows.last().map_or(0, |(end_ns, _)| *end_ns);
        if self.ended || turn_ns == 0 {
            return Answer::Done;
        }
        let now_ns = context.now_ns();
        let start_ns = *self.start_ns.get_or_insert(now_ns);
        let within_ns = now_ns.saturating_sub(start_ns) % turn_ns;
        let at = self.windows.partition_point(|(end_ns, _)| *end_ns <= within_ns);
        let Some((end_ns, inner)) = self.windows.get_mut(at) else { return Answer::Done };
        let window_end_ns = now_ns.saturating_add(*end_ns - within_ns);
        match inner.next(context) {
            Answer::At(time_ns) => Answer::At(time_ns.min(window_end_ns)),
            Answer::Waiting => Answer::At(window_end_ns),
            Answer::Done => {
                self.ended = true;
                Answer::Done
            }
            other => other,
        }
    }

    fn update(&mut self, event: &Event<'_>) {
        for (_, inner) in &mut self.windows {
            inner.update(event);
        }
    }

    fn wants_updates(&self) -> bool {
        self.forward
    }

    fn reset(&mut self) {
        self.start_ns = None;
        self.ended = false;
        for (_, inner) in &mut self.windows {
            inner.reset();
        }
    }

    fn is_done(&self) -> bool {
        self.ended
    }
}
