//! One copy of a generator for each thread or each process: `each-thread`, `each-process`.

use super::{Answer, BoxGenerator, Context, Event, Generator, ThreadSet};

/// An independent copy for each thread; with `by_process`, started again for each new process of it.
///
/// `each-thread` ends when every copy has ended. `each-process` ends when every copy has ended and no
/// thread is busy, since an operation that is under way may yet crash and bring a new process.
#[derive(Debug)]
pub struct Each {
    /// The threads, ascending.
    pub(crate) threads: Vec<u32>,
    pub(crate) all: ThreadSet,
    /// By thread number; `None` outside the scope.
    pub(crate) copies: Vec<Option<Copy>>,
    pub(crate) live: ThreadSet,
    pub(crate) by_process: bool,
    pub(crate) seen_changes: u64,
    pub(crate) forward: bool,
}

/// A thread's copy and the process that it was started for.
#[derive(Debug)]
pub struct Copy {
    pub(crate) process: Option<i64>,
    pub(crate) inner: BoxGenerator,
}

impl Each {
    pub(crate) fn new(copies: Vec<(u32, BoxGenerator)>, bound: u32, by_process: bool) -> Each {
        let threads: Vec<u32> = copies.iter().map(|(thread, _)| *thread).collect();
        let all = ThreadSet::of(bound, threads.iter().copied());
        let forward = copies.iter().any(|(_, inner)| inner.wants_updates());
        let mut by_thread: Vec<Option<Copy>> = (0..bound).map(|_| None).collect();
        for (thread, inner) in copies {
            by_thread[thread as usize] = Some(Copy { process: None, inner });
        }
        Each {
            threads,
            live: all.clone(),
            all,
            copies: by_thread,
            by_process,
            seen_changes: 0,
            forward,
        }
    }

    fn restart_crashed(&mut self, context: &Context) {
        if self.seen_changes == context.process_changes {
            return;
        }
        self.seen_changes = context.process_changes;
        for &thread in &self.threads {
            let Some(copy) = self.copies[thread as usize].as_mut() else { continue };
            let process = context.process(thread);
            if copy.process.is_some_and(|before| before != process) {
                copy.process = Some(process);
                copy.inner.reset();
                self.live.insert(thread);
            }
        }
    }

    fn ask(&mut self, thread: u32, context: &mut Context) -> Answer {
        let process = context.process(thread);
        match self.copies.get_mut(thread as usize).and_then(Option::as_mut) {
            Some(copy) => {
                copy.process = Some(process);
                copy.inner.next(context)
            }
            None => Answer::Done,
        }
    }
}

impl Generator for Each {
    fn next(&mut self, context: &mut Context) -> Answer {
        if self.by_process {
            self.restart_crashed(context);
        }
        let mut wait = Answer::Waiting;
        let start = context.cursor;
        let mut from = start;
        let mut wrapped = false;
        loop {
            let Some(thread) = self.live.next_common(&context.free, from) else {
                if wrapped {
                    break;
                }
                wrapped = true;
                from = 0;
                continue;
            };
            if wrapped && thread >= start {
                break;
            }
            match self.ask(thread, context) {
                answer @ (Answer::Op(_) | Answer::Log(_)) => return answer,
                Answer::Done => self.live.remove(thread),
                other => wait = wait.sooner(other),
            }
            from = thread + 1;
        }
        let ended = self.live.is_empty() && (!self.by_process || self.all.is_subset(&context.free));
        if ended { Answer::Done } else { wait }
    }

    fn update(&mut self, event: &Event<'_>) {
        if let Some(Some(copy)) = self.copies.get_mut(event.thread as usize) {
            copy.inner.update(event);
        }
    }

    fn wants_updates(&self) -> bool {
        self.forward
    }

    fn reset(&mut self) {
        self.live = self.all.clone();
        for copy in self.copies.iter_mut().flatten() {
            copy.process = None;
            copy.inner.reset();
        }
    }

    fn is_done(&self) -> bool {
        !self.by_process && self.live.is_empty()
    }
}
