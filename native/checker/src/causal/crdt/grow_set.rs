//! `g-set`: a set that only grows, replicated: elements are added (`add v`) and all are read (`read`).
//!
//! Each element is added once, so a read names the adds that it saw. What a read must hold, from the past of
//! its process: its own adds that succeeded (`read-your-writes`), what it had read (`monotonic-reads`), and for
//! each add that it ever saw, what the adder had added (`monotonic-writes`) and read (`writes-follow-reads`)
//! before that, and so on. The past is a vector clock over the k adding processes, taken at each add, so a
//! read is judged by counting: O(size of the reads + n·k). Elements that nobody tried to add before the read
//! ended are `unexpected`; those of failed adds `G1a`.
//!
//! Convergence: final reads hold every add that succeeded before they began (`final-read-missing-add`) and
//! are equal (`divergent-final-reads`). Adds that ended with info may be seen or not, but if their process goes
//! on, nothing is said about their order among its others. With elements that were added twice, only what
//! is wrong whoever added them is found, and a pass is `unknown`.

use fuzz_dist_core::{Anomaly, Edge, History, Op, OpType};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::budget::{Exhausted, Meter};
use crate::causal::crdt::finals::{self, Finals};
use crate::causal::crdt::{Answer, Found};
use crate::causal::shapes::NotRegisters;
use crate::causal::txns::NONE;
use crate::elements::read_elements;
use crate::elle::findings::{Findings, SHOWN_MAX};
use crate::elle::txns::shown;
use crate::numbering::Numbering;

/// How many records between two looks at the clock.
const OPS_PER_LOOK: usize = 1 << 10;

/// An add that may have happened.
#[derive(Debug, Clone, Copy)]
struct Add {
    element: u32,
    invoke: u32,
    chain: u32,
    /// Its place in the chain, from 0.
    place: u32,
    /// The past of its process when it began: a row of the pasts.
    past: u32,
    /// The next add of the same element.
    twin: u32,
}

/// What is known of an element.
#[derive(Debug, Clone, Copy)]
struct Element {
    /// Its last add so far.
    add: u32,
    /// The last read that held it, and the last one in which that was counted.
    read_in: u32,
    counted_in: u32,
}

/// A process: its chain of adds, and its past.
#[derive(Debug, Clone, Copy)]
struct Session {
    chain: u32,
    past: u32,
    /// Whether a row was taken by an add, so that the next change needs a new one.
    is_shared: bool,
}

struct Walk<'h> {
    history: &'h History,
    elements: Numbering,
    known: Vec<Element>,
    failed: FxHashSet<u32>,
    adds: Vec<Add>,
    chains: Vec<Vec<u32>>,
    sessions: FxHashMap<i64, Session>,
    /// Rows of the pasts, each with a count for each chain.
    width: usize,
    pasts: Vec<u32>,
    twice: u64,
    reads: u32,
    findings: Findings,
}

/// Decides it.
pub fn check(history: &History, meter: &Meter) -> Answer {
    // A process that goes on after an info has a chain of its own for that add.
    let mut last: FxHashMap<i64, u32> = FxHashMap::default();
    for op in history.client_ops().filter(|op| op.op_type == OpType::Invoke) {
        last.insert(op.process.client().unwrap_or_default(), op.index as u32);
    }
    let goes_on = |op: &Op| last[&op.process.client().unwrap_or_default()] > op.index as u32;
    let alone = crate::budget::client_pairs(history)
        .filter(|(invoke, done)| is_info(*done) && invoke.f == "add" && goes_on(invoke))
        .count();
    let mut walk = Walk {
        history,
        elements: Numbering::default(),
        known: Vec::new(),
        failed: FxHashSet::default(),
        adds: Vec::new(),
        chains: Vec::new(),
        sessions: FxHashMap::default(),
        width: last.len() + alone,
        pasts: Vec::new(),
        twice: 0,
        reads: 0,
        findings: Findings::default(),
    };
    for (position, op) in crate::budget::ops(history).enumerate() {
        if position % OPS_PER_LOOK == 0 {
            meter.check_time()?;
            meter.check_memory(walk.pasts.len() as u64 * 4)?;
        }
        if op.is_client() {
            walk.record(op, position, &goes_on)?;
        }
    }
    let finals = finals::find(history, |op| op.f == "read" || op.f == "final-read");
    walk.converge(&finals)?;
    let twice = walk.twice;
    Ok(Found {
        findings: walk.findings,
        finals,
        open: (twice > 0).then(|| {
            format!("{twice} adds are of elements that had been added before: whose was read, nobody knows")
        }),
        what: format!("{} reads of {} added elements are in causal order", walk.reads, walk.adds.len()),
        counts: vec![("adds", walk.adds.len() as u64), ("reads", u64::from(walk.reads))],
    })
}

fn is_info(done: Option<&Op>) -> bool {
    done.is_none_or(|done| done.op_type == OpType::Info)
}

fn not_a_set(op: &Op) -> NotRegisters {
    let hint = "; a g-set has :add of an element, and :read of all";
    let (f, value) = (op.f.to_string(), shown(&op.value));
    NotRegisters::UnknownShape { index: op.index, f, value, hint }
}

impl Walk<'_> {
    fn record(
        &mut self,
        op: &Op,
        position: usize,
        goes_on: &dyn Fn(&Op) -> bool,
    ) -> Result<(), NotRegisters> {
        let is_read = op.f == "read" || op.f == "final-read";
        match (op.op_type, is_read) {
            (OpType::Invoke, false) if op.f == "add" => {
                let done = self.history.completion(position);
                self.add(op, done, goes_on(op));
                Ok(())
            }
            (OpType::Ok, false) if op.f == "add" => {
                let element = self.number(&op.value) as usize;
                let mut add = self.known[element].add;
                while add != NONE
                    && Some(self.adds[add as usize].invoke as usize) != self.history.pair(position)
                {
                    add = self.adds[add as usize].twin;
                }
                if add != NONE {
                    let Add { chain, place, .. } = self.adds[add as usize];
                    let row = self.own_row(op);
                    let count = &mut self.pasts[row * self.width + chain as usize];
                    *count = (*count).max(place + 1);
                }
                Ok(())
            }
            (OpType::Ok, true) => self.read(op),
            (OpType::Fail | OpType::Info, _) | (OpType::Invoke, true) => Ok(()),
            _ => Err(not_a_set(op)),
        }
    }

    fn number(&mut self, value: &fuzz_dist_core::Value) -> u32 {
        let number = self.elements.number(value);
        if number as usize == self.known.len() {
            self.known.push(Element { add: NONE, read_in: 0, counted_in: 0 });
        }
        number
    }

    fn session(&mut self, op: &Op) -> &mut Session {
        let (chains, pasts, width) = (&mut self.chains, &mut self.pasts, self.width);
        self.sessions.entry(op.process.client().unwrap_or_default()).or_insert_with(|| {
            chains.push(Vec::new());
            pasts.resize(pasts.len() + width, 0);
            let past = (pasts.len() / width) as u32 - 1;
            Session { chain: chains.len() as u32 - 1, past, is_shared: false }
        })
    }

    /// The row of the past of a process, which may be changed.
    fn own_row(&mut self, op: &Op) -> usize {
        let Session { past, is_shared, .. } = *self.session(op);
        if !is_shared {
            return past as usize;
        }
        let start = past as usize * self.width;
        self.pasts.extend_from_within(start..start + self.width);
        let row = self.pasts.len() / self.width - 1;
        let session = self.session(op);
        (session.past, session.is_shared) = (row as u32, false);
        row
    }

    fn add(&mut self, op: &Op, done: Option<&Op>, goes_on: bool) {
        let element = self.number(&op.value);
        if done.is_some_and(|done| done.op_type == OpType::Fail) {
            self.failed.insert(element);
            return;
        }
        let session = self.session(op);
        session.is_shared = true;
        let Session { mut chain, past, .. } = *session;
        if goes_on && is_info(done) {
            self.chains.push(Vec::new());
            chain = self.chains.len() as u32 - 1;
        }
        let number = self.adds.len() as u32;
        let place = self.chains[chain as usize].len() as u32;
        self.chains[chain as usize].push(number);
        let twin = std::mem::replace(&mut self.known[element as usize].add, number);
        self.twice += u64::from(twin != NONE);
        self.adds.push(Add { element, invoke: op.index as u32, chain, place, past, twin });
    }

    fn read(&mut self, op: &Op) -> Result<(), NotRegisters> {
        let elements = read_elements(op).map_err(|_| not_a_set(op))?;
        self.reads += 1;
        let read = self.reads;
        let row = self.own_row(op) * self.width;
        for value in elements {
            let element = self.number(value);
            let Element { add, read_in, .. } = self.known[element as usize];
            self.known[element as usize].read_in = read;
            if add == NONE && read_in != read {
                self.nobody_added(op, element);
            } else if add != NONE && self.adds[add as usize].twin == NONE {
                self.see(row, add);
            }
        }
        // Each add in the past has its element in the read, or something is missing.
        let mut held = 0u64;
        for value in elements {
            let element = self.elements.number(value) as usize;
            if std::mem::replace(&mut self.known[element].counted_in, read) == read {
                continue;
            }
            let mut add = self.known[element].add;
            while add != NONE {
                let Add { chain, place, twin, .. } = self.adds[add as usize];
                held += u64::from(place < self.pasts[row + chain as usize]);
                add = twin;
            }
        }
        let past = &self.pasts[row..row + self.width];
        if held < past.iter().map(|count| u64::from(*count)).sum() {
            self.missing(op, row);
        }
        Ok(())
    }

    /// Takes an add, and what its process knew when it began, into a past.
    fn see(&mut self, row: usize, add: u32) {
        let Add { chain, place, past, .. } = self.adds[add as usize];
        if place < self.pasts[row + chain as usize] {
            return;
        }
        self.pasts[row + chain as usize] = place + 1;
        let theirs = past as usize * self.width;
        for chain in 0..self.width {
            self.pasts[row + chain] = self.pasts[row + chain].max(self.pasts[theirs + chain]);
        }
    }

    fn nobody_added(&mut self, op: &Op, element: u32) {
        let value = self.value(element);
        let (name, what) = match self.failed.contains(&element) {
            true => ("G1a", "whose add failed"),
            false => ("unexpected", "which nobody had tried to add"),
        };
        self.findings.add(name, || {
            let text = format!("record {} read {value}, {what}", op.index);
            Anomaly { key: Some(value), text, ops: vec![op.index], ..Anomaly::default() }
        });
    }

    fn value(&self, element: u32) -> String {
        shown(self.elements.value(element))
    }

    /// Tells which adds of the past of a read it does not hold.
    fn missing(&mut self, op: &Op, row: usize) {
        for chain in 0..self.chains.len() {
            for place in 0..self.pasts[row + chain] as usize {
                let add = self.chains[chain][place];
                let element = self.adds[add as usize].element;
                if self.known[element as usize].read_in != self.reads {
                    let (name, why) = self.why(op, add);
                    let finding = self.findings.0.get(name);
                    if finding.is_some_and(|finding| finding.shown.len() >= SHOWN_MAX) {
                        // Counted for each read, not for each element: the rest is the same.
                        self.findings.add(name, Anomaly::default);
                        return;
                    }
                    let anomaly = self.missed(op, add, why);
                    self.findings.add(name, || anomaly);
                }
            }
        }
    }

    fn missed(&self, op: &Op, add: u32, why: Vec<Edge>) -> Anomaly {
        let value = self.value(self.adds[add as usize].element);
        let mut text = format!("record {} read the set without {value}:", op.index);
        for edge in &why {
            text.push_str(&format!("\n  {}", edge.why));
        }
        let mut ops: Vec<u64> = why.iter().flat_map(|edge| [edge.from, edge.to]).collect();
        ops.push(op.index);
        ops.sort_unstable();
        ops.dedup();
        Anomaly { key: Some(value), text, ops, edges: why, ..Anomaly::default() }
    }

    /// Why a read had to see an add: the rule, and the steps.
    fn why(&self, op: &Op, add: u32) -> (&'static str, Vec<Edge>) {
        let edge = |from: u64, to: u64, kind: &str, why: String| Edge {
            from,
            to,
            kind: kind.to_owned(),
            why,
        };
        let missed = self.adds[add as usize];
        let value = self.value(missed.element);
        let at = u64::from(missed.invoke);
        let added = &self.history.ops()[missed.invoke as usize];
        if added.process == op.process {
            let why = format!("process {} had itself added {value} at record {at}", op.process);
            return ("read-your-writes", vec![edge(at, op.index, "session", why)]);
        }
        let holds = |read: &&Op, element: u32| {
            let elements = read_elements(read).unwrap_or_default();
            elements.contains(self.elements.value(element))
        };
        let is_read =
            |read: &&Op| read.op_type == OpType::Ok && (read.f == "read" || read.f == "final-read");
        let earlier: Vec<&Op> = self.history.ops()[..op.index as usize]
            .iter()
            .filter(|read| read.process == op.process && is_read(read))
            .collect();
        if let Some(read) = earlier.iter().find(|read| holds(read, missed.element)) {
            let saw = format!("process {} read {value} at record {}", op.process, read.index);
            let then = format!("it did that before record {}", op.index);
            let steps =
                vec![edge(at, read.index, "wr", saw), edge(read.index, op.index, "session", then)];
            return ("monotonic-reads", steps);
        }
        // Some add that this process saw brought it: of the same process, or of one that knew it.
        let knows = |other: &&Add| {
            let past = &self.pasts[other.past as usize * self.width..][..self.width];
            (other.twin == NONE && missed.place < past[missed.chain as usize])
                || (other.chain == missed.chain && other.place > missed.place)
        };
        let reads: Vec<&Op> = [op].into_iter().chain(earlier).collect();
        for other in self.adds.iter().filter(knows) {
            let Some(read) = reads.iter().find(|read| holds(read, other.element)) else { continue };
            let bringer = &self.history.ops()[other.invoke as usize];
            let same = bringer.process == added.process;
            let name = if same { "monotonic-writes" } else { "writes-follow-reads" };
            let first = format!(
                "process {} {} {value} (added at record {at}) before it added {} at record {}",
                bringer.process,
                if same { "added" } else { "had read, or read from who knew," },
                self.value(other.element),
                bringer.index
            );
            let then = format!("record {} read {}", read.index, self.value(other.element));
            let mut steps = vec![
                edge(at, bringer.index, if same { "session" } else { "causal" }, first),
                edge(bringer.index, read.index, "wr", then),
            ];
            if read.index != op.index {
                let why = format!("process {} did that before record {}", op.process, op.index);
                steps.push(edge(read.index, op.index, "session", why));
            }
            return (name, steps);
        }
        ("writes-follow-reads", Vec::new())
    }

    /// Final reads hold what was added, and are equal.
    fn converge(&mut self, finals: &Finals) -> Result<(), Exhausted> {
        let mut first: Option<(&Op, FxHashSet<u32>)> = None;
        for read in &finals.reads {
            let Some(op) = self.history.completion(*read as usize) else { continue };
            let held: FxHashSet<u32> = read_elements(op)
                .unwrap_or_default()
                .iter()
                .map(|value| self.elements.number(value))
                .collect();
            let missing: Vec<Add> = self
                .adds
                .iter()
                .filter(|add| {
                    let done = self.history.pair(add.invoke as usize);
                    let ok = done.filter(|at| self.history.ops()[*at].op_type == OpType::Ok);
                    ok.is_some_and(|ok| ok < *read as usize) && !held.contains(&add.element)
                })
                .copied()
                .collect();
            if let Some(add) = missing.first() {
                let value = self.value(add.element);
                self.findings.add("final-read-missing-add", || {
                    let text = format!(
                        "the final read of record {} (process {}) misses {} elements whose adds had \
                         succeeded, the first {value}, added at record {}",
                        op.index,
                        op.process,
                        missing.len(),
                        add.invoke
                    );
                    let ops = vec![u64::from(add.invoke), op.index];
                    Anomaly { key: Some(value), text, ops, ..Anomaly::default() }
                });
            }
            if !finals.settled.contains(read) {
                continue;
            }
            match &first {
                None => first = Some((op, held)),
                Some((other, agreed)) if *agreed != held => {
                    let element = agreed.symmetric_difference(&held).min().copied().unwrap_or(0);
                    let (value, in_first) = (self.value(element), agreed.contains(&element));
                    let (has, misses) = if in_first { (*other, op) } else { (op, *other) };
                    self.findings.add("divergent-final-reads", || {
                        let text = format!(
                            "final reads differ: record {} (process {}) has {value}, record {} (process \
                             {}) has not",
                            has.index, has.process, misses.index, misses.process
                        );
                        let ops = vec![has.index, misses.index];
                        Anomaly { key: Some(value), text, ops, ..Anomaly::default() }
                    });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
