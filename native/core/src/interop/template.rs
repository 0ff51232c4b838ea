//! Layouts of records: what stands between their values.
//!
//! The records of a file are nearly all written alike: `{:index `, a number, `, :time `, a number, and so
//! on. The bytes between the values of a record that was read are kept, and the next record is compared with
//! them, so that keys are neither cut out nor looked up again. Equal bytes mean the same thing, since
//! they begin and end where a token ends; a record that differs anywhere is read the long way.

use super::draft::Key;

/// How many layouts are kept: records of clients and of the nemesis, with and without an error.
const KEPT_MAX: usize = 4;
/// A part with more layouts than this is not worth the trouble.
const LEARNED_MAX: usize = 256;
/// Nothing that is usual is longer.
const BYTES_MAX: usize = 64;

/// The bytes before a value, and the key that it has.
#[derive(Debug)]
pub(super) struct Step {
    pub before: Box<[u8]>,
    pub key: Key,
}

/// One layout.
#[derive(Debug)]
pub(super) struct Template {
    pub steps: Vec<Step>,
    /// What ends the record.
    pub end: Box<[u8]>,
}

/// The layouts that were seen last.
#[derive(Debug, Default)]
pub(super) struct Templates {
    kept: Vec<Template>,
    /// The one that fitted last.
    last: usize,
    learned_count: usize,
    /// Keys and places of the values of the record that is being read.
    values: Vec<(Key, usize, usize)>,
}

impl Templates {
    /// The layouts, that which fitted last first.
    pub fn candidates(&self) -> impl Iterator<Item = usize> + use<> {
        let (count, last) = (self.kept.len(), self.last);
        (0..count).map(move |i| (last + i) % count)
    }

    pub fn get(&self, number: usize) -> &Template {
        &self.kept[number]
    }

    pub fn fits(&mut self, number: usize) {
        self.last = number;
    }

    /// A record begins that is read the long way.
    pub fn begin(&mut self) {
        self.values.clear();
    }

    /// A value was read from one byte to another.
    pub fn value(&mut self, key: Key, from: usize, to: usize) {
        self.values.push((key, from, to));
    }

    /// The record that was read is the one from `start` to `end`. `is_apart` says whether bytes begin
    /// where a value surely ends, and whether they end where one may begin.
    pub fn learn(
        &mut self,
        bytes: &[u8],
        start: usize,
        end: usize,
        is_apart: impl Fn(&[u8]) -> (bool, bool),
    ) {
        if self.values.is_empty() || self.learned_count >= LEARNED_MAX {
            return;
        }
        self.learned_count += 1;
        let mut at = start;
        let mut steps = Vec::with_capacity(self.values.len());
        for &(key, from, to) in &self.values {
            let before = &bytes[at..from];
            let (begins, ends) = is_apart(before);
            if before.len() > BYTES_MAX || !ends || (at > start && !begins) {
                return;
            }
            steps.push(Step { before: before.into(), key });
            at = to;
        }
        let rest = &bytes[at..end];
        if rest.len() > BYTES_MAX || !is_apart(rest).0 {
            return;
        }
        let template = Template { steps, end: rest.into() };
        if self.kept.len() < KEPT_MAX {
            self.last = self.kept.len();
            self.kept.push(template);
        } else {
            self.last = (self.last + 1) % KEPT_MAX;
            self.kept[self.last] = template;
        }
    }
}
