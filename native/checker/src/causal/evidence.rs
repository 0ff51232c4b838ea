//! Cycles in words: why each transaction has to come before the next.

use std::collections::VecDeque;

use fuzz_dist_core::{Anomaly, Edge};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::causal::inferred::StaleInitial;
use crate::causal::reads::records;
use crate::causal::sessions::{Cause, Seen, Wanted};
use crate::causal::txns::{INITIAL, NONE, Txns};
use crate::elle::txns::shown;

/// How many edges of a cycle, and steps of the way to a read, are told in full.
const TOLD_MAX: usize = 12;

/// What made a writer visible to a read.
#[derive(Debug)]
pub enum Visibility {
    /// Nothing is visible: only session order and reads-from.
    Order,
    /// Earlier reads of the same transaction.
    Committed,
    /// Its own session and whatever else it read.
    Atomic,
    /// All that happened before.
    Causal,
    /// All that happened before; and writes of a key have their order in time, up to the final reads.
    InTime,
    /// What guarantees say, as the walk has found it.
    Session(Wanted),
}

/// One step that makes an earlier transaction known to a later one.
#[derive(Debug, Clone, Copy)]
enum Step {
    Session(u32, u32),
    Read(u32, u32),
}

/// Tells cycles of one level.
#[derive(Debug)]
pub struct Teller<'a, 'h> {
    txns: &'a Txns<'h>,
    visibility: Visibility,
    reader_start: Vec<u32>,
    readers: Vec<u32>,
}

impl<'a, 'h> Teller<'a, 'h> {
    /// Looks up who read from whom.
    pub fn new(txns: &'a Txns<'h>, visibility: Visibility) -> Teller<'a, 'h> {
        let mut start = vec![0u32; txns.list.len() + 2];
        let sources = |number| txns.events_of(number).iter().filter_map(|event| event.read_from());
        for number in 0..txns.count() {
            sources(number).for_each(|source| start[source as usize + 2] += 1);
        }
        for i in 2..start.len() {
            start[i] += start[i - 1];
        }
        let mut readers = vec![0; start[start.len() - 1] as usize];
        for number in 0..txns.count() {
            for source in sources(number) {
                let place = &mut start[source as usize + 1];
                readers[*place as usize] = number;
                *place += 1;
            }
        }
        start.pop();
        Teller { txns, visibility, reader_start: start, readers }
    }

    fn readers(&self, txn: u32) -> &[u32] {
        let range = self.reader_start[txn as usize]..self.reader_start[txn as usize + 1];
        &self.readers[range.start as usize..range.end as usize]
    }

    /// An anomaly for a cycle: each before the next, the last before the first. Helpers are taken out.
    pub fn cycle(&self, name: &str, cycle: &[u32]) -> Anomaly {
        let cycle: Vec<u32> =
            cycle.iter().copied().filter(|txn| *txn < self.txns.count()).collect();
        let mut edges = Vec::new();
        let mut involved = cycle.clone();
        let mut key = None;
        for (at, from) in cycle.iter().enumerate().take(TOLD_MAX) {
            let to = cycle[(at + 1) % cycle.len()];
            edges.push(self.edge(*from, to, &mut involved, &mut key));
        }
        let mut text =
            "each of these has to come before the next, and the last before the first:".to_owned();
        for edge in &edges {
            text.push_str(&format!("\n  {} before {}: {}", edge.from, edge.to, edge.why));
        }
        if cycle.len() > TOLD_MAX {
            text.push_str(&format!("\n  … and {} more", cycle.len() - TOLD_MAX));
        }
        self.anomaly(name, key, text, &involved, edges)
    }

    /// An anomaly for a read of the initial state that missed a visible write.
    pub fn stale(&self, name: &str, stale: &StaleInitial) -> Anomaly {
        let text = format!(
            "record {} read the initial state of {}, although the write of record {} was visible to it:",
            self.record(stale.reader),
            self.key(stale.key),
            self.record(stale.writer)
        );
        self.missed(name, text, stale)
    }

    /// An anomaly for a read that missed a visible write: `text`, and how it was visible.
    pub fn missed(&self, name: &str, mut text: String, missed: &StaleInitial) -> Anomaly {
        let StaleInitial { reader, key, writer } = *missed;
        let way = self.way(writer, INITIAL, Some((reader, key)));
        let steps = way.map(|(_, _, steps)| steps).unwrap_or_default();
        let mut involved = vec![writer, reader];
        let mut edges = Vec::new();
        for step in steps.iter().take(TOLD_MAX) {
            let (from, to) = step.ends();
            involved.extend([from, to]);
            let kind = step.kind().to_owned();
            let why = self.step(*step);
            text.push_str(&format!("\n  {why}"));
            edges.push(Edge { from: self.record(from), to: self.record(to), kind, why });
        }
        if steps.len() > TOLD_MAX {
            text.push_str(&format!("\n  … and {} more steps", steps.len() - TOLD_MAX));
        }
        self.anomaly(name, Some(key), text, &involved, edges)
    }

    fn anomaly(
        &self,
        name: &str,
        key: Option<u32>,
        text: String,
        involved: &[u32],
        edges: Vec<Edge>,
    ) -> Anomaly {
        let key = key.map(|key| self.txns.key(key)).filter(|key| !key.is_nil());
        let involved: Vec<u32> = involved.iter().copied().take(4 * TOLD_MAX).collect();
        Anomaly {
            name: name.to_owned(),
            key: key.map(|key| key.to_string()),
            text,
            ops: records(self.txns, &involved),
            edges,
            ..Anomaly::default()
        }
    }

    fn edge(&self, from: u32, to: u32, involved: &mut Vec<u32>, key: &mut Option<u32>) -> Edge {
        let edge = |kind: &str, why: String| Edge {
            from: self.record(from),
            to: self.record(to),
            kind: kind.to_owned(),
            why,
        };
        if self.reads_from(to, from).is_some() {
            return edge("wr", self.step(Step::Read(from, to)));
        }
        if self.is_in_session(from, to) {
            return edge("session", self.step(Step::Session(from, to)));
        }
        let way = self.way(from, to, None);
        if way.is_none() && matches!(self.visibility, Visibility::InTime) {
            let (earlier, later) = (self.record(from), self.record(to));
            if self.txns.list[from as usize].complete < self.txns.list[to as usize].invoke {
                let why = format!("record {earlier} had ended when that of record {later} began");
                return edge("realtime", why);
            }
            let why = format!("a final read returned what record {later} wrote to the same key");
            return edge("ww", why);
        }
        let Some((reader, read_key, steps)) = way else {
            return edge("ww", "the commit order of the level says so".to_owned());
        };
        key.get_or_insert(read_key);
        involved.push(reader);
        let mut why = format!(
            "both wrote {}, and record {} read that of record {} although that of record {} was visible to it",
            self.key(read_key),
            self.record(reader),
            self.record(to),
            self.record(from)
        );
        let told: Vec<String> = steps.iter().take(TOLD_MAX).map(|step| self.step(*step)).collect();
        if !told.is_empty() {
            why.push_str(&format!(" ({})", told.join("; ")));
        }
        involved.extend(steps.iter().flat_map(|step| [step.ends().0, step.ends().1]));
        edge("ww", why)
    }

    /// How `t2` was visible to a read of a key that it wrote, from `t1`: the reader, the key, the steps. The
    /// reader may be given.
    fn way(&self, t2: u32, t1: u32, given: Option<(u32, u32)>) -> Option<(u32, u32, Vec<Step>)> {
        if let Visibility::Session(wanted) = &self.visibility {
            let seen = wanted.get(&(t1, t2))?.as_ref()?;
            return Some((seen.reader, seen.key, self.causes(t2, seen)));
        }
        let written: FxHashSet<u32> = self.txns.keys_written(t2).collect();
        let written = &written;
        // Readers that took from t1 a key that t2 wrote, and the place of that read.
        let missed = |reader: u32| {
            let events = self.txns.events_of(reader).iter().enumerate();
            events.filter(|(_, event)| !event.is_write()).filter_map(move |(at, event)| {
                let is_meant = match given {
                    Some(given) => given == (reader, event.key()),
                    None => event.source == t1 && written.contains(&event.key()),
                };
                is_meant.then_some((at, event.key()))
            })
        };
        match self.visibility {
            Visibility::Order => None,
            Visibility::Committed | Visibility::Atomic => {
                let committed = matches!(self.visibility, Visibility::Committed);
                let given = given.map(|(reader, _)| vec![reader]);
                let readers = given.unwrap_or_else(|| self.readers(t1).to_vec());
                readers.into_iter().find_map(|reader| {
                    missed(reader).find_map(|(at, key)| {
                        let step = match self.reads_from(reader, t2) {
                            Some(read) if !committed || read < at => Step::Read(t2, reader),
                            _ if !committed && self.is_in_session(t2, reader) => {
                                Step::Session(t2, reader)
                            }
                            _ => return None,
                        };
                        Some((reader, key, vec![step]))
                    })
                })
            }
            _ => self.causal_way(t2, |reader| missed(reader).next().map(|(_, key)| key)),
        }
    }

    /// The shortest way in happens-before to a reader that is wanted.
    fn causal_way(
        &self,
        start: u32,
        wanted: impl Fn(u32) -> Option<u32>,
    ) -> Option<(u32, u32, Vec<Step>)> {
        let mut came_by: FxHashMap<u32, Step> = FxHashMap::default();
        // By chain: from which place on everything has been reached.
        let mut reached: FxHashMap<u32, u32> = FxHashMap::default();
        let mut queue = VecDeque::from([start]);
        while let Some(txn) = queue.pop_front() {
            let at = &self.txns.list[txn as usize];
            let chain = self.txns.chain(at.chain);
            let end = *reached.get(&at.chain).unwrap_or(&(chain.len() as u32));
            let later = chain.get(at.place as usize + 1..end as usize).unwrap_or_default();
            reached.insert(at.chain, end.min(at.place + 1));
            let reads = self.readers(txn).iter().map(|to| Step::Read(txn, *to));
            let session = later.iter().map(|to| Step::Session(txn, *to));
            for step in reads.chain(session) {
                let to = step.ends().1;
                if to == start || came_by.contains_key(&to) {
                    continue;
                }
                came_by.insert(to, step);
                if let Some(key) = wanted(to) {
                    let mut steps = vec![step];
                    while steps[steps.len() - 1].ends().0 != start {
                        steps.push(came_by[&steps[steps.len() - 1].ends().0]);
                    }
                    steps.reverse();
                    return Some((to, key, steps));
                }
                queue.push_back(to);
            }
        }
        None
    }

    /// The way of a guarantee.
    fn causes(&self, t2: u32, seen: &Seen) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = t2;
        for cause in &seen.causes {
            match *cause {
                Cause::Own => steps.push(Step::Session(at, seen.reader)),
                Cause::Read(reader) => {
                    steps.push(Step::Read(at, reader));
                    if reader != seen.reader {
                        steps.push(Step::Session(reader, seen.reader));
                    }
                }
                Cause::Before(next) => {
                    steps.push(Step::Session(at, next));
                    at = next;
                }
                Cause::ReadBy(reader, next) => {
                    steps.push(Step::Read(at, reader));
                    if reader != next {
                        steps.push(Step::Session(reader, next));
                    }
                    at = next;
                }
            }
        }
        steps
    }

    /// The place of the first read of a transaction from another.
    fn reads_from(&self, reader: u32, writer: u32) -> Option<usize> {
        self.txns.events_of(reader).iter().position(|event| event.read_from() == Some(writer))
    }

    fn is_in_session(&self, from: u32, to: u32) -> bool {
        let [from_txn, to_txn] = [from, to].map(|txn| &self.txns.list[txn as usize]);
        (from_txn.chain == to_txn.chain && from_txn.place < to_txn.place) || to_txn.before == from
    }

    /// The position of the record that tells most of a transaction.
    pub fn record(&self, txn: u32) -> u64 {
        self.txns.record(txn)
    }

    /// A key in words.
    pub fn key(&self, key: u32) -> String {
        let key = self.txns.key(key);
        if key.is_nil() { "the register".to_owned() } else { shown(key) }
    }

    fn step(&self, step: Step) -> String {
        match step {
            Step::Session(from, to) => format!(
                "process {} did record {} before record {}",
                self.txns.process(from),
                self.record(from),
                self.record(to)
            ),
            Step::Read(from, to) => {
                let what = self.reads_from(to, from).map(|at| {
                    let at = self.txns.events_range(to).start + at;
                    let key = self.key(self.txns.events[at].key());
                    format!("{key} = {}", shown(self.txns.values[at]))
                });
                format!(
                    "record {} read {}, written by record {}",
                    self.record(to),
                    what.unwrap_or_default(),
                    self.record(from)
                )
            }
        }
    }
}

impl Step {
    fn ends(self) -> (u32, u32) {
        match self {
            Step::Session(from, to) | Step::Read(from, to) => (from, to),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Step::Session(..) => "session",
            Step::Read(..) => "wr",
        }
    }
}

/// The pairs (t1, t2) of a cycle that are neither session order nor reads-from, helpers taken out.
pub fn inferred_pairs(txns: &Txns, cycle: &[u32]) -> Wanted {
    let cycle: Vec<u32> = cycle.iter().copied().filter(|txn| *txn < txns.count()).collect();
    let pairs = (0..cycle.len()).map(|at| (cycle[(at + 1) % cycle.len()], cycle[at]));
    pairs.filter(|(t1, t2)| *t1 != NONE && t1 != t2).map(|pair| (pair, None)).collect()
}
