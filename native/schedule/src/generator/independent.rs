//! `independent`: one generator for many keys, worked on by groups of threads at the same time.
//!
//! The threads of the scope are split into groups. Each group works on one key, through a copy of the
//! generator that sees only the group's threads, until that copy ends; then it takes the next key that
//! nobody has had. Values become tuples `{key, value}`. This is `jepsen.independent/concurrent-generator`
//! with two differences: thread counts need not be multiples (groups differ by at most one thread), and
//! more groups than keys are not an error (there are then fewer, larger groups).

use fuzz_dist_core::Value;

use super::{Answer, BoxGenerator, Context, Event, Generator};

/// The keys, in the order in which they are taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Keys {
    /// These.
    Listed(Vec<Value>),
    /// 0, 1, 2 … so many; without end when absent.
    Counted(Option<u64>),
}

impl Keys {
    /// How many, unless endless.
    pub fn count(&self) -> Option<u64> {
        match self {
            Keys::Listed(keys) => Some(keys.len() as u64),
            Keys::Counted(count) => *count,
        }
    }

    fn get(&self, at: u64) -> Option<Value> {
        match self {
            Keys::Listed(keys) => keys.get(usize::try_from(at).ok()?).cloned(),
            Keys::Counted(Some(count)) if at >= *count => None,
            Keys::Counted(_) => i64::try_from(at).ok().map(Value::Int),
        }
    }
}

/// Some threads and the key that they are at.
#[derive(Debug)]
pub struct Group {
    pub(crate) inner: BoxGenerator,
    /// `None` before the first key.
    pub(crate) key: Option<Value>,
    /// Whether this key has given anything: a key that gives nothing at all is the group's last, or
    /// endless keys would be run through within one instant.
    pub(crate) progress: bool,
    pub(crate) ended: bool,
    /// How many keys it has had: completions of a former key's operations are not the copy's business.
    pub(crate) turn: u64,
    /// The last call of `next` that asked it.
    pub(crate) asked: u64,
}

impl Group {
    pub(crate) fn new(inner: BoxGenerator) -> Group {
        Group { inner, key: None, progress: false, ended: false, turn: 0, asked: 0 }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Independent {
    pub(crate) keys: Keys,
    pub(crate) next_key: u64,
    pub(crate) groups: Vec<Group>,
    /// By thread: its group, and the turn of the group in which it began its operation.
    pub(crate) members: Vec<Option<(u32, u64)>>,
    pub(crate) all: super::ThreadSet,
    pub(crate) asks: u64,
    pub(crate) forward: bool,
}

impl Independent {
    /// `groups` are the threads of each group with its copy of the generator.
    pub(crate) fn new(
        keys: Keys,
        groups: Vec<(Vec<u32>, BoxGenerator)>,
        bound: u32,
    ) -> Independent {
        let mut members = vec![None; bound as usize];
        let mut all = super::ThreadSet::empty(bound);
        for (group, (threads, _)) in groups.iter().enumerate() {
            for &thread in threads {
                members[thread as usize] = Some((group as u32, 0));
                all.insert(thread);
            }
        }
        let groups: Vec<Group> = groups.into_iter().map(|(_, inner)| Group::new(inner)).collect();
        let forward = groups.iter().any(|group| group.inner.wants_updates());
        Independent { keys, next_key: 0, groups, members, all, asks: 0, forward }
    }

    /// Asks one group, moving it on to further keys as its copy ends.
    fn ask(&mut self, at: usize, context: &mut Context) -> Answer {
        let Some(group) = self.groups.get_mut(at) else { return Answer::Done };
        while !group.ended {
            if let Some(key) = &group.key {
                match group.inner.next(context) {
                    Answer::Op(mut draft) => {
                        group.progress = true;
                        draft.value = Value::tuple(vec![key.clone(), draft.value]);
                        if let Some(Some(member)) = self.members.get_mut(draft.thread as usize) {
                            member.1 = group.turn;
                        }
                        return Answer::Op(draft);
                    }
                    Answer::Done if !group.progress => group.ended = true,
                    Answer::Done => group.key = None,
                    Answer::Log(text) => return Answer::Log(text),
                    wait => {
                        group.progress = true;
                        return wait;
                    }
                }
                continue;
            }
            match self.keys.get(self.next_key) {
                Some(key) => {
                    self.next_key += 1;
                    if group.turn > 0 {
                        group.inner.reset();
                    }
                    group.turn += 1;
                    group.key = Some(key);
                    group.progress = false;
                }
                None => group.ended = true,
            }
        }
        Answer::Done
    }
}

impl Generator for Independent {
    fn next(&mut self, context: &mut Context) -> Answer {
        self.asks += 1;
        let mut wait = Answer::Waiting;
        let start = context.cursor;
        let (mut from, mut wrapped) = (start, false);
        // Group by group, in the order of their free threads.
        loop {
            let Some(thread) = self.all.next_common(&context.free, from) else {
                if wrapped {
                    break;
                }
                (from, wrapped) = (0, true);
                continue;
            };
            if wrapped && thread >= start {
                break;
            }
            from = thread + 1;
            let Some(Some((group, _))) = self.members.get(thread as usize) else { continue };
            let at = *group as usize;
            if self.groups[at].ended || self.groups[at].asked == self.asks {
                continue;
            }
            self.groups[at].asked = self.asks;
            match self.ask(at, context) {
                answer @ (Answer::Op(_) | Answer::Log(_)) => return answer,
                Answer::Done => {}
                other => wait = wait.sooner(other),
            }
        }
        // A group whose threads are all busy was not asked, and may have a time limit to keep; it is
        // asked when one of them is free again.
        if self.is_done() { Answer::Done } else { wait }
    }

    fn update(&mut self, event: &Event<'_>) {
        let Some(Some((group, turn))) = self.members.get(event.thread as usize) else { return };
        if let Some(group) = self.groups.get_mut(*group as usize)
            && group.turn == *turn
        {
            group.inner.update(event);
        }
    }

    fn wants_updates(&self) -> bool {
        self.forward
    }

    fn reset(&mut self) {
        self.next_key = 0;
        for group in &mut self.groups {
            group.key = None;
            group.ended = false;
            group.progress = false;
            group.inner.reset();
            // Turns go on, so that completions from before the reset are told apart.
            group.turn += 1;
        }
    }

    fn is_done(&self) -> bool {
        self.groups.iter().all(|group| group.ended)
    }
}
