//! Rounds of conclusions, until nothing is new.
//!
//! A path counts if together with one more dependency it could make a cycle that the model forbids.
//! Let T0 and T1 write the same key.
//! - **Paths between writers.** T0 reaches T1: T0's version is before T1's, or T1 before T0 would
//!   close it.
//! - **Paths to readers.** T0 reaches a transaction that read T1's version: T0's version is before
//!   T1's, or T1 before T0 would make an anti-dependency from the reader to T0, which closes it.
//!
//! From "before" follow a write dependency of T1 on T0, and anti-dependencies of T1 on all who read
//! T0's version. A read of the initial state precedes all writers of the key, which is among the
//! dependencies that it begins with.
//!
//! A round sorts the states of a walk backwards (with [`Paths::Nonadjacent`] and
//! [`Paths::AtMostOne`], whether there was an anti-dependency is part of the state) and gives each,
//! for every chain, how much of it precedes: O(n·k) for n dependencies and k chains. Only the last
//! writer of each chain matters, and none whose version is before one that is known to precede.

use rustc_hash::FxHashMap;

use crate::budget::{Exhausted, Meter};
use crate::elle::graph::{Edge, Edges, Graph, NONE, Only, PASS, RW, View, WW, kind_of, tag};
use crate::elle::implied::Paths;
use crate::elle::implied::chains::Chains;
use crate::elle::implied::facts::Facts;
use crate::elle::txns::Txns;

/// How many states between two looks at the clock.
const STATES_PER_LOOK: usize = 1 << 12;
/// How many chains are followed at a time, so that rows stay small.
const BLOCK_MAX: u32 = 1 << 10;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing more follows, and nothing contradicts.
    Consistent,
    /// The dependencies contradict the model.
    Contradiction(Place),
}

/// Where a contradiction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In some component of the walk.
    Component,
    /// On a path from this transaction to itself.
    Through(u32),
}

/// Dependencies, and what follows from them.
#[derive(Debug)]
pub struct Closure<'a, 'h> {
    txns: &'a Txns<'h>,
    facts: &'a Facts,
    chains: &'a Chains,
    paths: Paths,
    /// Backwards: from what follows to what precedes.
    edges: Edges,
    writers: Writers,
    /// By pair of versions, the first before the second: the reader that shows it, or [`NONE`].
    why: FxHashMap<(u32, u32), u32>,
    /// By version: some versions known to be behind it.
    behind: Vec<[u32; 2]>,
    fresh: Vec<Edge>,
}

/// The edges of a closure, and why versions are in order.
#[derive(Debug)]
pub struct Implied {
    /// Backwards, and how many vertices.
    pub edges: Edges,
    /// By pair of versions: the reader that shows their order, or [`NONE`].
    pub why: FxHashMap<(u32, u32), u32>,
}

/// The versions of each key by chain.
#[derive(Debug)]
struct Writers {
    /// By key: its pairs of key and chain.
    key_start: Vec<u32>,
    pair_chain: Vec<u32>,
    pair_start: Vec<u32>,
    /// By pair: place in the chain plus one, and version.
    entries: Vec<(u32, u32)>,
}

impl Writers {
    fn new(key_count: usize, facts: &Facts, chains: &Chains) -> Writers {
        let mut start = vec![0u32; key_count + 2];
        for (key, _) in &facts.versions {
            start[*key as usize + 2] += 1;
        }
        for i in 2..start.len() {
            start[i] += start[i - 1];
        }
        let mut by_key = vec![0u32; facts.versions.len()];
        for version in chains.members.iter().flatten().flat_map(|txn| facts.written(*txn)) {
            let place = &mut start[facts.versions[version as usize].0 as usize + 1];
            by_key[*place as usize] = version;
            *place += 1;
        }
        start.pop();
        let mut writers = Writers {
            key_start: vec![0],
            pair_chain: Vec::new(),
            pair_start: Vec::new(),
            entries: Vec::with_capacity(by_key.len()),
        };
        for key in 0..key_count {
            let mut last = NONE;
            for version in &by_key[start[key] as usize..start[key + 1] as usize] {
                let (chain, place) = chains.place[facts.versions[*version as usize].1 as usize];
                if chain != last {
                    last = chain;
                    writers.pair_chain.push(chain);
                    writers.pair_start.push(writers.entries.len() as u32);
                }
                writers.entries.push((place + 1, *version));
            }
            writers.key_start.push(writers.pair_chain.len() as u32);
        }
        writers.pair_start.push(writers.entries.len() as u32);
        writers
    }

    /// The pairs of a key.
    fn pairs(&self, key: u32) -> std::ops::Range<usize> {
        self.key_start[key as usize] as usize..self.key_start[key as usize + 1] as usize
    }

    /// The last version of a pair among the first `count` transactions of its chain.
    fn last_within(&self, pair: usize, count: u32) -> Option<u32> {
        let range = self.pair_start[pair] as usize..self.pair_start[pair + 1] as usize;
        let entries = &self.entries[range];
        let found = match entries.last() {
            Some((place, _)) if *place <= count => entries.len(),
            _ => entries.partition_point(|(place, _)| *place <= count),
        };
        Some(entries[found.checked_sub(1)?].1)
    }
}

/// Rows of words for states, as long as somebody will ask for them.
struct Rows {
    width: usize,
    items: Vec<u32>,
    free: Vec<u32>,
    row: Vec<u32>,
    uses: Vec<u32>,
}

impl Rows {
    fn of(&self, state: u32) -> &[u32] {
        let start = self.row[state as usize] as usize * self.width;
        &self.items[start..start + self.width]
    }

    fn keep(&mut self, state: u32, row: &[u32]) {
        if self.uses[state as usize] == 0 {
            return;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            let place = (self.items.len() / self.width) as u32;
            self.items.resize(self.items.len() + self.width, 0);
            place
        });
        let start = place as usize * self.width;
        self.items[start..start + self.width].copy_from_slice(row);
        self.row[state as usize] = place;
    }

    fn release(&mut self, state: u32) {
        let uses = &mut self.uses[state as usize];
        *uses -= 1;
        if *uses == 0 {
            self.free.push(self.row[state as usize]);
        }
    }
}

/// What precedes a state, chain by chain, of some chains.
struct Past {
    /// The chains from here on.
    first: u32,
    width: usize,
    /// By chain: how much of it reaches the state; then, how much of it does on a path that may
    /// follow an anti-dependency, if that is not the same.
    counts: Vec<u32>,
}

impl Past {
    fn index(&self, chain: u32) -> Option<usize> {
        let index = chain.checked_sub(self.first)? as usize;
        (index < self.width).then_some(index)
    }

    fn count(&self, chain: u32) -> u32 {
        self.index(chain).map_or(0, |index| self.counts[index])
    }
}

impl<'a, 'h> Closure<'a, 'h> {
    /// Begins with some dependencies, backwards.
    pub fn new(
        txns: &'a Txns<'h>,
        facts: &'a Facts,
        chains: &'a Chains,
        paths: Paths,
        edges: Edges,
    ) -> Closure<'a, 'h> {
        Closure {
            txns,
            facts,
            chains,
            paths,
            edges,
            writers: Writers::new(txns.key_count() as usize, facts, chains),
            why: FxHashMap::default(),
            behind: vec![[NONE; 2]; facts.versions.len()],
            fresh: Vec::new(),
        }
    }

    /// Draws conclusions until nothing is new, or one contradicts.
    pub fn run(&mut self, meter: &Meter) -> Result<Outcome, Exhausted> {
        loop {
            let graph = Graph::new(self.edges.vertex_count, &self.edges.list);
            let graph = Only { graph: &graph, kinds: u32::MAX };
            meter.check_time()?;
            let Some((sorted, uses)) = self.sorted(&graph) else {
                return Ok(Outcome::Contradiction(Place::Component));
            };
            let chain_count = self.chains.members.len() as u32;
            for first in (0..chain_count).step_by(BLOCK_MAX as usize) {
                let width = BLOCK_MAX.min(chain_count - first) as usize;
                if let Some(place) = self.block(&graph, &sorted, &uses, (first, width), meter)? {
                    return Ok(Outcome::Contradiction(place));
                }
            }
            if self.fresh.is_empty() {
                return Ok(Outcome::Consistent);
            }
            self.edges.list.append(&mut self.fresh);
        }
    }

    /// What there is in the end.
    pub fn into_edges(mut self) -> Implied {
        self.edges.list.append(&mut self.fresh);
        Implied { edges: self.edges, why: self.why }
    }

    /// How many states a vertex has.
    fn states(&self) -> u32 {
        if self.paths == Paths::All { 1 } else { 2 }
    }

    /// The vertex of a state, and whether an anti-dependency led to it (that is, just before, or at
    /// all).
    fn parts(&self, state: u32) -> (u32, bool) {
        match self.paths {
            Paths::All => (state, false),
            _ => (state / 2, state % 2 == 1),
        }
    }

    /// The states before one: those by an edge, `step` counting edges and the states that they come
    /// from.
    #[inline]
    fn before(&self, graph: &Only, state: u32, step: u32) -> Before {
        let (vertex, after_rw) = self.parts(state);
        let range = graph.edges(vertex);
        let edge = range.start + step / self.states();
        if edge >= range.end {
            return Before::End;
        }
        let Some((from, tag)) = graph.follow(vertex, edge) else { return Before::Nothing };
        let kind = kind_of(tag);
        let second = self.states() == 2 && step % 2 == 1;
        let flag = match (self.paths, after_rw) {
            (Paths::All, _) => return Before::State(from, kind),
            (Paths::Nonadjacent, false) if kind == RW => None,
            (Paths::Nonadjacent, false) if kind == PASS => Some(false).filter(|_| !second),
            (Paths::Nonadjacent, false) => Some(second),
            (Paths::AtMostOne, false) if kind == RW => None,
            (Paths::AtMostOne, false) => Some(false).filter(|_| !second),
            (_, true) if second => None,
            (_, true) if kind == RW => Some(false),
            (_, true) if kind == PASS => Some(true),
            (Paths::Nonadjacent, true) => None,
            (Paths::AtMostOne, true) => Some(true),
        };
        flag.map_or(Before::Nothing, |flag| Before::State(from * 2 + u32::from(flag), kind))
    }

    /// All states, each behind those before it, and how many are behind each; nothing if there is a
    /// cycle.
    fn sorted(&self, graph: &Only) -> Option<(Vec<u32>, Vec<u32>)> {
        const OPEN: u8 = 1;
        const DONE: u8 = 2;
        let count = self.edges.vertex_count * self.states();
        let mut seen = vec![0u8; count as usize];
        let mut uses = vec![0u32; count as usize];
        let mut sorted = Vec::with_capacity(count as usize);
        let mut walk: Vec<(u32, u32)> = Vec::new();
        for root in 0..count {
            if seen[root as usize] != 0 {
                continue;
            }
            seen[root as usize] = OPEN;
            walk.push((root, 0));
            while let Some((state, step)) = walk.last_mut() {
                let state = *state;
                let next = self.before(graph, state, *step);
                *step += 1;
                match next {
                    Before::State(before, _) => {
                        uses[before as usize] += 1;
                        match seen[before as usize] {
                            OPEN => return None,
                            DONE => {}
                            _ => {
                                seen[before as usize] = OPEN;
                                walk.push((before, 0));
                            }
                        }
                    }
                    Before::Nothing => {}
                    Before::End => {
                        seen[state as usize] = DONE;
                        sorted.push(state);
                        walk.pop();
                    }
                }
            }
        }
        Some((sorted, uses))
    }

    /// One round for some chains; the place of a contradiction, if one is seen.
    fn block(
        &mut self,
        graph: &Only,
        sorted: &[u32],
        uses: &[u32],
        (first, width): (u32, usize),
        meter: &Meter,
    ) -> Result<Option<Place>, Exhausted> {
        let row = if self.paths == Paths::Nonadjacent { 2 * width } else { width };
        let mut rows = Rows {
            width: row,
            items: Vec::new(),
            free: Vec::new(),
            row: vec![NONE; uses.len()],
            uses: uses.to_vec(),
        };
        let mut past = Past { first, width, counts: vec![0; row] };
        for (done, state) in sorted.iter().enumerate() {
            if done % STATES_PER_LOOK == 0 {
                meter.check_time()?;
                let edges = self.edges.list.len() + self.fresh.len();
                let bytes = rows.items.len() * 4 + edges * 12 + self.why.len() * 16;
                meter.check_memory(bytes as u64)?;
            }
            self.gather(graph, *state, &rows, &mut past);
            let (vertex, after_rw) = self.parts(*state);
            if self.facts.happened.get(vertex as usize) == Some(&true) {
                let (chain, place) = self.chains.place[vertex as usize];
                if self.paths == Paths::AtMostOne && after_rw && past.count(chain) > place {
                    return Ok(Some(Place::Through(vertex)));
                }
                self.conclude(vertex, after_rw, &past, &rows);
            }
            rows.keep(*state, &past.counts);
            let mut step = 0;
            loop {
                match self.before(graph, *state, step) {
                    Before::State(before, _) => rows.release(before),
                    Before::Nothing => {}
                    Before::End => break,
                }
                step += 1;
            }
        }
        Ok(None)
    }

    /// What precedes a state.
    fn gather(&self, graph: &Only, state: u32, rows: &Rows, past: &mut Past) {
        past.counts.fill(0);
        let mut step = 0;
        loop {
            let (before, kind) = match self.before(graph, state, step) {
                Before::State(before, kind) => (before, kind),
                Before::Nothing => {
                    step += 1;
                    continue;
                }
                Before::End => return,
            };
            step += 1;
            let (vertex, _) = self.parts(before);
            let (chain, place) =
                self.chains.place.get(vertex as usize).copied().unwrap_or((NONE, 0));
            let index = past.index(chain);
            // All that precedes what precedes is there already.
            if self.paths == Paths::All && index.is_some_and(|index| past.counts[index] > place) {
                continue;
            }
            let row = rows.of(before);
            past.counts.iter_mut().zip(row).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
            let Some(index) = index else { continue };
            past.counts[index] = past.counts[index].max(place + 1);
            if self.paths == Paths::Nonadjacent && kind != RW {
                let index = index + past.width;
                past.counts[index] = past.counts[index].max(place + 1);
            }
        }
    }

    /// Orders versions by what precedes a transaction.
    fn conclude(&mut self, txn: u32, after_rw: bool, past: &Past, rows: &Rows) {
        let facts = self.facts;
        let (own_chain, own_place) = self.chains.place[txn as usize];
        for version in facts.written(txn) {
            let key = facts.versions[version as usize].0;
            for pair in self.writers.pairs(key) {
                let chain = self.writers.pair_chain[pair];
                let count = match past.count(chain) {
                    count if chain == own_chain => count.min(own_place),
                    count => count,
                };
                if let Some(earlier) = self.writers.last_within(pair, count)
                    && !self.is_between(earlier, version, |txn| self.is_in(past, txn))
                {
                    self.order(earlier, version, NONE);
                }
            }
        }
        if after_rw {
            return;
        }
        let visible = past.counts.len() - past.width;
        for read in facts.reads(txn) {
            let (key, writer) = facts.versions[*read as usize];
            let known = rows.of(writer * self.states());
            for pair in self.writers.pairs(key) {
                let Some(index) = past.index(self.writers.pair_chain[pair]) else { continue };
                let count = past.counts[visible + index];
                let Some(earlier) = self.writers.last_within(pair, count) else { continue };
                let other = facts.versions[earlier as usize].1;
                if earlier == *read || known[index] > self.chains.place[other as usize].1 {
                    continue;
                }
                let is_known = |txn: u32| {
                    let (chain, place) = self.chains.place[txn as usize];
                    past.index(chain).is_some_and(|index| known[index] > place)
                };
                if !self.is_between(earlier, *read, is_known) {
                    self.order(earlier, *read, txn);
                }
            }
        }
    }

    fn is_in(&self, past: &Past, txn: u32) -> bool {
        let (chain, place) = self.chains.place[txn as usize];
        past.count(chain) > place
    }

    /// Whether a version is known to be behind one and before another, or that they are in order
    /// is.
    fn is_between(&self, a: u32, b: u32, is_before_b: impl Fn(u32) -> bool) -> bool {
        let behind = self.behind[a as usize];
        behind.iter().any(|middle| {
            *middle == b
                || (*middle != NONE && is_before_b(self.facts.versions[*middle as usize].1))
        })
    }

    /// One version is before another, as a reader shows, or a path between their writers.
    fn order(&mut self, earlier: u32, later: u32, reader: u32) {
        use std::collections::hash_map::Entry;
        let (key, from) = self.facts.versions[earlier as usize];
        let to = self.facts.versions[later as usize].1;
        if from == to {
            return;
        }
        match self.why.entry((earlier, later)) {
            Entry::Occupied(_) => return,
            Entry::Vacant(entry) => entry.insert(reader),
        };
        let behind = &mut self.behind[earlier as usize];
        *behind = [later, behind[0]];
        // Where every path counts, one between the writers says as much as a dependency.
        if reader != NONE || self.paths != Paths::All {
            self.fresh.push(Edge { from: to, to: from, tag: tag(WW, key) });
        }
        let readers = self.facts.readers(earlier).iter().filter(|reader| **reader != to);
        self.fresh.extend(readers.map(|reader| Edge { from: to, to: *reader, tag: tag(RW, key) }));
        debug_assert!((to as usize) < self.txns.list.len());
    }
}

/// A step back.
enum Before {
    /// To a state, by an edge of a kind.
    State(u32, u32),
    /// Nowhere.
    Nothing,
    /// There are no more.
    End,
}
