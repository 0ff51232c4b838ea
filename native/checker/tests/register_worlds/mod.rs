//! Small random histories of transactions on registers, and what explains them, by trying
//! everything.

#![allow(dead_code)]

use std::collections::BTreeMap;

use fuzz_dist_core::{History, OpType, Value};

use super::common::{Builder, Random, int};

const KEYS: usize = 3;
/// By key; 0 is the initial state.
type State = [i64; KEYS];

/// One read or write: whether it writes, the key, the value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mop(pub bool, pub usize, pub i64);

/// One transaction, from its invocation to its completion.
#[derive(Debug, Clone)]
pub struct Txn {
    pub process: i64,
    pub outcome: OpType,
    pub mops: Vec<Mop>,
    pub invoke: usize,
    pub complete: usize,
}

impl Txn {
    fn left(&self, key: usize) -> Option<i64> {
        self.mops.iter().rev().find(|mop| mop.0 && mop.1 == key).map(|mop| mop.2)
    }

    /// Runs on a state; nothing if it did not read that.
    fn run(&self, state: &State) -> Option<State> {
        let mut state = *state;
        for Mop(is_write, key, value) in &self.mops {
            if *is_write {
                state[*key] = *value;
            } else if self.outcome == OpType::Ok && state[*key] != *value {
                return None;
            }
        }
        Some(state)
    }
}

/// An order beside that of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    None,
    Sessions,
    Time,
}

/// A history.
#[derive(Debug, Clone)]
pub struct World {
    pub txns: Vec<Txn>,
}

impl World {
    /// Processes that take snapshots, some of them old, and some reads of anything.
    pub fn random(random: &mut Random) -> World {
        let txn_count = 2 + random.below(5);
        let processes = 1 + random.below(4);
        let keys = 1 + random.below(KEYS);
        let (old, odd) = ([0, 20, 60][random.below(3)], [0, 10, 40, 70][random.below(4)]);
        let mut states: Vec<State> = vec![[0; KEYS]];
        let mut last_value = [0i64; KEYS];
        let mut names: Vec<i64> = (0..processes as i64).collect();
        let mut open: Vec<Option<Txn>> = vec![None; processes];
        let (mut txns, mut begun, mut now) = (Vec::new(), 0, 0);
        while txns.len() < txn_count {
            now += 1;
            let process = random.below(processes);
            if let Some(mut txn) = open[process].take() {
                if txn.outcome == OpType::Ok || (txn.outcome == OpType::Info && random.chance(50)) {
                    let mut state = states[states.len() - 1];
                    (0..KEYS).for_each(|key| state[key] = txn.left(key).unwrap_or(state[key]));
                    states.push(state);
                }
                if txn.outcome == OpType::Info {
                    names[process] += processes as i64;
                }
                txn.complete = now;
                txns.push(txn);
            } else if begun < txn_count {
                begun += 1;
                let at = match random.chance(old) {
                    true => random.below(states.len()),
                    false => states.len() - 1,
                };
                let outcome = match random.below(12) {
                    0 => OpType::Info,
                    1 => OpType::Fail,
                    _ => OpType::Ok,
                };
                let mut seen = states[at];
                let mut is_known = [false; KEYS];
                let mops = (0..1 + random.below(3)).map(|_| {
                    let key = random.below(keys);
                    if random.chance(50) {
                        last_value[key] += 1;
                        seen[key] = last_value[key];
                        is_known[key] = true;
                        return Mop(true, key, last_value[key]);
                    }
                    // What a transaction knows it seldom reads otherwise.
                    if random.chance(odd) && (!is_known[key] || random.chance(5)) {
                        let any = random.below(last_value[key] as usize + 1) as i64;
                        let some = states[random.below(states.len())][key];
                        let value = [some, some, some, any, any + 1][random.below(5)];
                        seen[key] = if random.chance(95) { value } else { seen[key] };
                        return Mop(false, key, value);
                    }
                    is_known[key] = true;
                    Mop(false, key, seen[key])
                });
                let mops = mops.collect();
                let txn = Txn { process: names[process], outcome, mops, invoke: now, complete: 0 };
                open[process] = Some(txn);
            }
        }
        txns.sort_by_key(|txn: &Txn| txn.invoke);
        World { txns }
    }

    /// Gives each transaction a session of its own.
    pub fn separate_sessions(&mut self) {
        (0..).zip(&mut self.txns).for_each(|(number, txn)| txn.process = number);
    }

    /// The records.
    pub fn history(&self) -> History {
        let value = |txn: &Txn, is_done: bool| {
            let mops = txn.mops.iter().map(|Mop(is_write, key, value)| {
                let is_told = *value != 0 && (*is_write || is_done);
                let value = if is_told { int(*value) } else { Value::Nil };
                let f = if *is_write { "w" } else { "r" };
                Value::list(vec![Value::sym(f), int(*key as i64), value])
            });
            Value::list(mops.collect::<Vec<_>>())
        };
        let mut events: Vec<(usize, bool, usize)> = Vec::new();
        for (number, txn) in self.txns.iter().enumerate() {
            events.push((txn.invoke, false, number));
            events.push((txn.complete, true, number));
        }
        events.sort_unstable();
        let mut builder = Builder::default();
        for (_, is_done, number) in events {
            let txn = &self.txns[number];
            let told = value(txn, is_done && txn.outcome == OpType::Ok);
            match is_done {
                false => builder.invoke(txn.process, "txn", told),
                true => builder.push(txn.process, txn.outcome, "txn", told),
            };
        }
        builder.history()
    }

    fn precedes(&self, a: usize, b: usize, order: Order) -> bool {
        let (a, b) = (&self.txns[a], &self.txns[b]);
        a.outcome == OpType::Ok
            && a.complete < b.invoke
            && match order {
                Order::None => false,
                Order::Sessions => a.process == b.process,
                Order::Time => true,
            }
    }

    /// Those that are not known to have failed.
    fn candidates(&self) -> Vec<usize> {
        let all = 0..self.txns.len();
        all.filter(|txn| self.txns[*txn].outcome != OpType::Fail).collect()
    }

    /// Whether every read is of a last write of others that may have happened, or of what the
    /// reader wrote or read before.
    pub fn reads_committed_writes(&self) -> bool {
        let may_happen = self.candidates();
        let is_left = |reader: usize, key: usize, value: i64| {
            let mut others = may_happen.iter().filter(|other| **other != reader);
            value == 0 || others.any(|other| self.txns[*other].left(key) == Some(value))
        };
        let is_ok = |txn: &&usize| self.txns[**txn].outcome == OpType::Ok;
        may_happen.iter().filter(is_ok).all(|txn| {
            let mut known: BTreeMap<usize, i64> = BTreeMap::new();
            self.txns[*txn].mops.iter().all(|Mop(is_write, key, value)| {
                match known.insert(*key, *value) {
                    _ if *is_write => true,
                    Some(before) => before == *value,
                    None => is_left(*txn, *key, *value),
                }
            })
        })
    }

    /// Whether some order of the transactions explains every read.
    pub fn holds_serially(&self, order: Order) -> bool {
        fn go(world: &World, state: &State, done: u32, order: Order, left: &[usize]) -> bool {
            let is_done = |txn: &usize| done >> txn & 1 == 1;
            let is_ok = |txn: &&usize| world.txns[**txn].outcome == OpType::Ok;
            if left.iter().filter(is_ok).all(is_done) {
                return true;
            }
            left.iter().any(|next| {
                let waits = |other: &usize| !is_done(other) && world.precedes(*other, *next, order);
                !is_done(next)
                    && !left.iter().any(waits)
                    && world.txns[*next]
                        .run(state)
                        .is_some_and(|state| go(world, &state, done | 1 << next, order, left))
            })
        }
        go(self, &[0; KEYS], 0, order, &self.candidates())
    }

    /// Whether snapshots and commits in some order explain every read, no two transactions that
    /// write the same key being open at a time.
    pub fn holds_by_snapshots(&self, order: Order) -> bool {
        Snapshots { world: self, order, all: self.candidates() }.go(&[0; KEYS], 0, 0)
    }

    /// Whether with some order of the versions of each key no cycle of dependencies has at most one
    /// anti-dependency.
    pub fn holds_by_versions(&self, order: Order) -> bool {
        if !self.reads_committed_writes() {
            return false;
        }
        // What was read happened; who else has no answer did not.
        let was_read = |txn: &usize| {
            let left = |key: usize| self.txns[*txn].left(key);
            let reads = |other: &Txn| {
                other.outcome == OpType::Ok
                    && other.mops.iter().any(|mop| !mop.0 && left(mop.1) == Some(mop.2))
            };
            self.txns[*txn].outcome == OpType::Ok || self.txns.iter().any(reads)
        };
        let all: Vec<usize> = self.candidates().into_iter().filter(was_read).collect();
        Versions { world: self, order, all }.go(&mut Vec::new())
    }
}

struct Snapshots<'a> {
    world: &'a World,
    order: Order,
    all: Vec<usize>,
}

impl Snapshots<'_> {
    fn go(&self, state: &State, begun: u32, done: u32) -> bool {
        let world = self.world;
        let is = |set: u32, txn: &usize| set >> txn & 1 == 1;
        let is_ok = |txn: &&usize| world.txns[**txn].outcome == OpType::Ok;
        if self.all.iter().filter(is_ok).all(|txn| is(done, txn)) {
            return true;
        }
        self.all.iter().filter(|txn| !is(done, txn)).any(|next| {
            let txn = &world.txns[*next];
            if is(begun, next) {
                let mut state = *state;
                (0..KEYS).for_each(|key| state[key] = txn.left(key).unwrap_or(state[key]));
                return self.go(&state, begun, done | 1 << next);
            }
            let waits =
                |other: &usize| !is(done, other) && world.precedes(*other, *next, self.order);
            let clashes = |other: &usize| {
                let both = |key| txn.left(key).is_some() && world.txns[*other].left(key).is_some();
                is(begun, other) && !is(done, other) && (0..KEYS).any(both)
            };
            !self.all.iter().any(|other| waits(other) || clashes(other))
                && txn.run(state).is_some()
                && self.go(state, begun | 1 << next, done)
        })
    }
}

struct Versions<'a> {
    world: &'a World,
    order: Order,
    all: Vec<usize>,
}

impl Versions<'_> {
    /// Tries every order of the writers of each key.
    fn go(&self, orders: &mut Vec<Vec<usize>>) -> bool {
        let key = orders.len();
        if key == KEYS {
            return self.holds(orders);
        }
        let writes = |txn: &&usize| self.world.txns[**txn].left(key).is_some();
        let writers: Vec<usize> = self.all.iter().filter(writes).copied().collect();
        self.permute(&writers, &mut Vec::new(), orders)
    }

    fn permute(
        &self,
        writers: &[usize],
        order: &mut Vec<usize>,
        orders: &mut Vec<Vec<usize>>,
    ) -> bool {
        if order.len() == writers.len() {
            orders.push(order.clone());
            let found = self.go(orders);
            orders.pop();
            return found;
        }
        for writer in writers {
            if order.contains(writer) {
                continue;
            }
            order.push(*writer);
            let found = self.permute(writers, order, orders);
            order.pop();
            if found {
                return true;
            }
        }
        false
    }

    fn holds(&self, orders: &[Vec<usize>]) -> bool {
        let n = self.world.txns.len();
        // Reachability without and with one anti-dependency.
        let mut plain = vec![0u32; n];
        let mut anti = vec![0u32; n];
        for a in &self.all {
            for b in self.all.iter().filter(|b| *b != a && self.world.precedes(*a, **b, self.order))
            {
                plain[*a] |= 1 << b;
            }
        }
        for (key, order) in orders.iter().enumerate() {
            for (place, writer) in order.iter().enumerate() {
                order[place + 1..].iter().for_each(|later| plain[*writer] |= 1 << later);
            }
            for reader in &self.all {
                let txn = &self.world.txns[*reader];
                let first = txn.mops.iter().find(|mop| mop.1 == key);
                let Some(Mop(false, _, value)) = first.filter(|_| txn.outcome == OpType::Ok) else {
                    continue;
                };
                let is_source = |w: &usize| self.world.txns[*w].left(key) == Some(*value);
                let source = order.iter().position(is_source);
                if let Some(source) = source {
                    plain[order[source]] |= 1 << reader;
                }
                let behind = source.map_or(0, |source| source + 1);
                let later = order[behind..].iter().filter(|later| *later != reader);
                later.for_each(|later| anti[*reader] |= 1 << later);
            }
        }
        for via in 0..n {
            for from in 0..n {
                if plain[from] >> via & 1 == 1 {
                    plain[from] |= plain[via];
                }
            }
        }
        (0..n).all(|txn| {
            let back = |to: usize| plain[to] >> txn & 1 == 1;
            !back(txn) && !(0..n).any(|to| anti[txn] >> to & 1 == 1 && back(to))
        })
    }
}
