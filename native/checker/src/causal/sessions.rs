//! Session guarantees: what a session may count on, each decided exactly.
//!
//! Terry et al., "Session Guarantees for Weakly Consistent Replicated Data" (PDIS 1994), and Brzeziński,
//! Sobaniec and Wawrzyniak, "From Session Causality to Causal Consistency" (PDP 2004), put into the frame of
//! [`crate::causal::inferred`]: there is a commit order with session order and reads-from in it, and a read
//! never returns a value that is older in it than a write of the key that is *visible* to the read. A session
//! has *observed* the transactions that its earlier operations read from (also earlier in the same
//! transaction), and all that is visible to it. Visible is then, by guarantee, the least set such that
//! - `read-your-writes`: the session's own earlier transactions that wrote are visible;
//! - `monotonic-reads`: what its earlier operations read from is visible;
//! - `monotonic-writes`: with an observed transaction, those before it in *its* session are visible;
//! - `writes-follow-reads`: with an observed transaction, what it and those before it in its session read
//!   from is visible.
//!
//! So `x = 2` then `x = 1`, written in the opposite order by one session, is not monotonic reading, and to read
//! `y = 1` and then miss the `x = 1` that its session wrote before is against monotonic writes. Several
//! guarantees together are more than each: their rules feed each other. All four are implied by Causal
//! Consistency, and equal to it if no transaction reads twice.
//!
//! **Cost**: O(n) for read-your-writes and monotonic-reads, O(n·k) with the other two, memory linear.

use rustc_hash::FxHashMap;

use crate::budget::{Exhausted, Meter};
use crate::causal::inferred::{Inferred, StaleInitial};
use crate::causal::txns::{INITIAL, NONE, Txns};

/// Some of the guarantees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarantees(pub u8);

impl Guarantees {
    /// None of them.
    pub const NONE: Guarantees = Guarantees(0);
    /// By bit, their names.
    pub const NAMES: [&'static str; 4] =
        ["read-your-writes", "monotonic-reads", "monotonic-writes", "writes-follow-reads"];
    /// All of them.
    pub const ALL: Guarantees = Guarantees(15);

    fn read_your_writes(self) -> bool {
        self.0 & 1 != 0
    }

    fn monotonic_reads(self) -> bool {
        self.0 & 2 != 0
    }

    fn monotonic_writes(self) -> bool {
        self.0 & 4 != 0
    }

    fn writes_follow_reads(self) -> bool {
        self.0 & 8 != 0
    }

    /// Their names, joined by plus signs.
    pub fn name(self) -> &'static str {
        const ALL: [&str; 16] = [
            "none",
            "read-your-writes",
            "monotonic-reads",
            "read-your-writes+monotonic-reads",
            "monotonic-writes",
            "read-your-writes+monotonic-writes",
            "monotonic-reads+monotonic-writes",
            "read-your-writes+monotonic-reads+monotonic-writes",
            "writes-follow-reads",
            "read-your-writes+writes-follow-reads",
            "monotonic-reads+writes-follow-reads",
            "read-your-writes+monotonic-reads+writes-follow-reads",
            "monotonic-writes+writes-follow-reads",
            "read-your-writes+monotonic-writes+writes-follow-reads",
            "monotonic-reads+monotonic-writes+writes-follow-reads",
            "read-your-writes+monotonic-reads+monotonic-writes+writes-follow-reads",
        ];
        ALL[usize::from(self.0 & 15)]
    }
}

/// Why a transaction became visible to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It is the session's own.
    Own,
    /// The session read from it, in this transaction.
    Read(u32),
    /// It stands before this observed transaction in its session.
    Before(u32),
    /// The first transaction read from it, and is or stands before the second, an observed one.
    ReadBy(u32, u32),
}

/// Why one transaction comes before another: a read and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who read.
    pub reader: u32,
    /// The key.
    pub key: u32,
    /// From the visible writer on.
    pub causes: Vec<Cause>,
}

/// What is asked of a walk for evidence: (t1, t2), and the answers.
pub type Wanted = FxHashMap<(u32, u32), Option<Seen>>;

/// How often the clock is looked at.
const STEPS_PER_LOOK: usize = 1 << 14;

/// The visible writers of one key, for one session.
#[derive(Debug, Clone, Copy)]
struct Members {
    session: u32,
    /// The newest of a list.
    head: u32,
    /// Those from here on are before the helper.
    folded: u32,
    helper: u32,
}

/// One session after the other.
struct Walk<'a, 'h> {
    txns: &'a Txns<'h>,
    set: Guarantees,
    session: u32,
    /// By transaction: the last session that it became visible to, or was observed by.
    visible: Vec<u32>,
    observed: Vec<u32>,
    /// By chain: the session, and how long a part of the chain is visible, and has had its reads followed.
    prefix: Vec<(u32, u32, u32)>,
    members: Vec<Members>,
    /// (transaction, the next older item)
    items: Vec<(u32, u32)>,
    queue: Vec<u32>,
    vertex_count: u32,
    inferred: Inferred,
    steps: usize,
    /// For evidence: causes of visibility and of observation in this session.
    wanted: Option<Wanted>,
    causes: FxHashMap<u32, Cause>,
    seen_in: FxHashMap<u32, u32>,
}

/// What some guarantees together imply, and the number of vertices with helpers. With `wanted`, reasons for
/// those edges are looked for as well.
pub fn infer(
    txns: &Txns,
    set: Guarantees,
    wanted: Option<Wanted>,
    meter: &Meter,
) -> Result<(Inferred, u32, Wanted), Exhausted> {
    let nothing = Members { session: NONE, head: NONE, folded: NONE, helper: NONE };
    let mut walk = Walk {
        txns,
        set,
        session: NONE,
        visible: vec![NONE; txns.list.len()],
        observed: vec![NONE; txns.list.len()],
        prefix: vec![(NONE, 0, 0); txns.chain_count()],
        members: vec![nothing; txns.key_count()],
        items: Vec::new(),
        queue: Vec::new(),
        vertex_count: txns.count(),
        inferred: Inferred::default(),
        steps: 0,
        wanted,
        causes: FxHashMap::default(),
        seen_in: FxHashMap::default(),
    };
    for chain in 0..txns.chain_count() as u32 {
        meter.check_time()?;
        walk.session = chain;
        walk.items.clear();
        walk.causes.clear();
        walk.seen_in.clear();
        for reader in txns.chain(chain) {
            walk.transaction(*reader);
            if walk.steps > STEPS_PER_LOOK {
                walk.steps = 0;
                meter.check_time()?;
                meter
                    .check_memory((walk.inferred.edges.len() * 8 + walk.items.len() * 8) as u64)?;
            }
        }
    }
    walk.inferred.finish();
    Ok((walk.inferred, walk.vertex_count, walk.wanted.unwrap_or_default()))
}

impl Walk<'_, '_> {
    fn transaction(&mut self, reader: u32) {
        let txns = self.txns;
        for event in txns.events_of(reader).iter().filter(|event| !event.is_write()) {
            match event.read_from() {
                Some(t1) => {
                    self.explain(reader, event.key(), t1);
                    self.relate(event.key(), t1);
                    self.observe(t1, Some(reader));
                    if self.set.monotonic_reads() {
                        self.enter(t1, Cause::Read(reader));
                    }
                    self.follow();
                }
                None if event.source == INITIAL => self.initial(reader, event.key()),
                None => {}
            }
        }
        if self.set.read_your_writes() && txns.keys_written(reader).next().is_some() {
            self.enter(reader, Cause::Own);
            self.follow();
        }
    }

    /// The members of a key for this session.
    fn members(&mut self, key: u32) -> &mut Members {
        let members = &mut self.members[key as usize];
        if members.session != self.session {
            let session = self.session;
            *members = Members { session, head: NONE, folded: NONE, helper: NONE };
        }
        members
    }

    /// A key was read from t1: every visible writer of it comes before t1.
    fn relate(&mut self, key: u32, t1: u32) {
        let Members { head, folded, helper, .. } = *self.members(key);
        if head == NONE {
            return;
        }
        let is_visible = self.visible[t1 as usize] == self.session;
        if is_visible || self.set.monotonic_reads() || self.items[head as usize].1 == NONE {
            // From now on t1 stands for all of them, if it is visible, or will be at once.
            let mut item = head;
            while item != NONE {
                let (t2, next) = self.items[item as usize];
                if t2 != t1 {
                    self.inferred.edge(self.txns, t1, t2);
                }
                item = next;
            }
            if is_visible || self.set.monotonic_reads() {
                *self.members(key) =
                    Members { session: self.session, head: NONE, folded: NONE, helper: NONE };
                if is_visible {
                    self.add_member(key, t1);
                }
            }
            return;
        }
        // It stands for nothing, so a helper is put between the members and it, and used again.
        if head != folded || helper == NONE {
            let new = self.vertex_count;
            self.vertex_count += 1;
            let mut item = head;
            while item != folded {
                let (t2, next) = self.items[item as usize];
                self.inferred.edges.push((new, t2));
                item = next;
            }
            if helper != NONE {
                self.inferred.edges.push((new, helper));
            }
            let members = self.members(key);
            (members.folded, members.helper) = (head, new);
        }
        let helper = self.members(key).helper;
        self.inferred.edges.push((t1, helper));
    }

    /// The initial state of a key was read: nothing that wrote it may be visible.
    fn initial(&mut self, reader: u32, key: u32) {
        let head = self.members(key).head;
        if head != NONE {
            let writer = self.items[head as usize].0;
            self.inferred.stale(StaleInitial { reader, key, writer });
            self.want(reader, key, INITIAL, writer);
        }
    }

    fn add_member(&mut self, key: u32, txn: u32) {
        let Members { head, folded, .. } = *self.members(key);
        let chain = |txn: u32| self.txns.list[txn as usize].chain;
        if head != NONE && head != folded {
            let last = self.items[head as usize].0;
            let places = [last, txn].map(|txn| self.txns.list[txn as usize].place);
            if chain(last) == chain(txn) && places[0] < places[1] && last != txn {
                // Session order says the rest. But a later read of the replaced one must know it.
                self.items[head as usize].0 = txn;
                return;
            }
        }
        self.items.push((txn, head));
        self.members(key).head = self.items.len() as u32 - 1;
    }

    fn enter(&mut self, txn: u32, cause: Cause) {
        if self.visible[txn as usize] == self.session {
            return;
        }
        self.visible[txn as usize] = self.session;
        if self.wanted.is_some() {
            self.causes.insert(txn, cause);
        }
        let txns = self.txns;
        for key in txns.keys_written(txn) {
            self.steps += 1;
            self.add_member(key, txn);
        }
        self.observe(txn, None);
    }

    fn observe(&mut self, txn: u32, reader: Option<u32>) {
        if self.observed[txn as usize] != self.session {
            self.observed[txn as usize] = self.session;
            if let (true, Some(reader)) = (self.wanted.is_some(), reader) {
                self.seen_in.insert(txn, reader);
            }
            self.queue.push(txn);
        }
    }

    /// Draws the conclusions of what was observed.
    fn follow(&mut self) {
        if !self.set.monotonic_writes() && !self.set.writes_follow_reads() {
            self.queue.clear();
            return;
        }
        while let Some(txn) = self.queue.pop() {
            let observed = self.txns.list[txn as usize];
            if self.set.writes_follow_reads() {
                self.follow_reads(txn, observed.chain, observed.place + 1);
            }
            if observed.before != NONE {
                let before = self.txns.list[observed.before as usize];
                if self.set.writes_follow_reads() && before.chain != observed.chain {
                    self.follow_reads(txn, before.chain, before.place + 1);
                }
                if self.set.monotonic_writes() {
                    self.follow_writes(txn, before.chain, before.place + 1);
                }
            }
        }
    }

    fn prefix(&mut self, chain: u32) -> &mut (u32, u32, u32) {
        let prefix = &mut self.prefix[chain as usize];
        if prefix.0 != self.session {
            *prefix = (self.session, 0, 0);
        }
        prefix
    }

    fn follow_writes(&mut self, observed: u32, chain: u32, count: u32) {
        let done = self.prefix(chain).1;
        if done < count {
            self.prefix(chain).1 = count;
            let txns = self.txns;
            for txn in &txns.chain(chain)[done as usize..count as usize] {
                self.steps += 1;
                self.enter(*txn, Cause::Before(observed));
            }
        }
    }

    fn follow_reads(&mut self, observed: u32, chain: u32, count: u32) {
        let done = self.prefix(chain).2;
        if done < count {
            self.prefix(chain).2 = count;
            let txns = self.txns;
            for txn in &txns.chain(chain)[done as usize..count as usize] {
                for source in txns.events_of(*txn).iter().filter_map(|event| event.read_from()) {
                    self.steps += 1;
                    self.enter(source, Cause::ReadBy(*txn, observed));
                }
            }
        }
    }

    /// Answers what is wanted about this read.
    fn explain(&mut self, reader: u32, key: u32, t1: u32) {
        let Some(wanted) = &self.wanted else { return };
        let visible = |t2: &u32| {
            self.visible[*t2 as usize] == self.session
                && self.txns.keys_written(*t2).any(|written| written == key)
        };
        let open: Vec<u32> = wanted
            .iter()
            .filter(|((to, from), seen)| {
                *to == t1 && *from != t1 && seen.is_none() && visible(from)
            })
            .map(|((_, from), _)| *from)
            .collect();
        for t2 in open {
            self.want(reader, key, t1, t2);
        }
    }

    fn want(&mut self, reader: u32, key: u32, t1: u32, t2: u32) {
        let Some(None) = self.wanted.as_ref().and_then(|wanted| wanted.get(&(t1, t2))) else {
            return;
        };
        let mut causes = Vec::new();
        let mut txn = t2;
        loop {
            let cause = match (self.causes.get(&txn), self.seen_in.get(&txn)) {
                // What was observed by reading needs no further cause, unless it is the start.
                (_, Some(reader)) if !causes.is_empty() => Cause::Read(*reader),
                (Some(cause), _) => *cause,
                (None, _) => break,
            };
            causes.push(cause);
            match cause {
                Cause::Before(next) | Cause::ReadBy(_, next) => txn = next,
                Cause::Own | Cause::Read(_) => break,
            }
        }
        if let Some(wanted) = &mut self.wanted {
            wanted.insert((t1, t2), Some(Seen { reader, key, causes }));
        }
    }
}
