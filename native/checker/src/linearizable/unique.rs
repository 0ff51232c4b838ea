//! Registers whose observed values are each written once: decided in O(n log n), no search.
//!
//! Gibbons and Korach, "Testing shared memories" (1997), extended to compare-and-set: when a value has
//! one writer, each read tells which write it saw. The write of a value with its reads is a *cluster*;
//! a cas joins the cluster of the value that it replaced and the one that it wrote, and clusters so
//! joined form a *block*, which must be contiguous in every order. Block X cannot come before block Y
//! iff some call of Y returns before some call of X is invoked: iff `first_return(Y) < last_invoke(X)`.
//! Blocks cannot be ordered iff two of them cannot precede each other: take, on a cycle of such
//! constraints, the block with the earliest first return; it must come before every block with an
//! incoming edge, among them its own predecessor. A block is *forward* if `first_return <
//! last_invoke`; then two blocks exclude each other iff both are forward and overlap, or a forward one
//! contains the other.
//!
//! **Conditions** (checked here; `None` when they do not hold): no failed cas kept as an observation;
//! every value that some call saw has at most one writer, the initial value none. Calls that may have
//! happened count only if their value was seen, for otherwise leaving them out changes nothing.

use crate::linearizable::calls::KeyedCall;
use crate::linearizable::model::RegisterCall;
use crate::linearizable::search::NEVER;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UniqueOutcome {
    /// There is an order.
    Linearizable,
    /// There is none; the calls (by index) that show it, with everything they rest on.
    Conflict(Vec<usize>),
}

const NO_CALL: u32 = u32::MAX;
const BEFORE_ALL: i64 = -1;

/// The write of a value with what saw it.
#[derive(Debug, Clone, Copy)]
struct Cluster {
    /// The writing call; [`NO_CALL`] for the initial value.
    writer: u32,
    /// The cas that replaced the value.
    replaced_by: u32,
    /// The read that returned first, and the one invoked last.
    read_first: u32,
    read_last: u32,
}

/// A chain of clusters.
#[derive(Debug, Clone, Copy)]
struct Block {
    first_return: i64,
    last_invoke: i64,
    returning: u32,
    invoked: u32,
    root: u32,
}

struct Unique<'a> {
    calls: &'a [KeyedCall],
    clusters: Vec<Cluster>,
    /// Cluster of an observed value.
    cluster_of: Vec<u32>,
}

/// Decides if the conditions hold. Values are numbered from 0 (the initial one) below `value_count`.
pub fn check_unique(calls: &[KeyedCall], value_count: usize) -> Option<UniqueOutcome> {
    let observed = observed_values(calls, value_count)?;
    let mut unique = Unique { calls, clusters: Vec::new(), cluster_of: vec![NO_CALL; value_count] };
    if observed[0] {
        unique.add_cluster(NO_CALL, 0);
    }
    for (i, call) in calls.iter().enumerate() {
        let value = match call.call {
            RegisterCall::Write(value) => value,
            RegisterCall::Cas(from, to) if from != to => to,
            _ => continue,
        };
        if observed[value as usize] {
            if unique.cluster_of[value as usize] != NO_CALL {
                return None;
            }
            unique.add_cluster(i as u32, value);
        } else if call.ret != NEVER {
            unique.clusters.push(Cluster::new(i as u32));
        }
    }
    Some(match unique.decide(&observed) {
        Ok(()) => UniqueOutcome::Linearizable,
        Err(culprits) => {
            let culprits = unique.with_demands(culprits);
            let mut culprits: Vec<usize> = culprits.into_iter().map(|i| i as usize).collect();
            culprits.sort_unstable();
            culprits.dedup();
            UniqueOutcome::Conflict(culprits)
        }
    })
}

/// Which values were certainly seen: by a call that certainly happened, or by one that must have
/// happened because its own value was seen. `None` if a condition does not hold.
fn observed_values(calls: &[KeyedCall], value_count: usize) -> Option<Vec<bool>> {
    let mut observed = vec![false; value_count];
    let mut may_have: Vec<(u32, u32)> = Vec::new();
    for call in calls {
        match call.call {
            RegisterCall::Differs(_) => return None,
            RegisterCall::Read(value) if call.ret != NEVER => observed[value as usize] = true,
            RegisterCall::Cas(from, _) if call.ret != NEVER => observed[from as usize] = true,
            RegisterCall::Cas(from, to) if from != to => may_have.push((from, to)),
            _ => {}
        }
    }
    loop {
        let before = may_have.len();
        may_have.retain(|&(from, to)| {
            observed[from as usize] |= observed[to as usize];
            !observed[to as usize]
        });
        if may_have.len() == before {
            return Some(observed);
        }
    }
}

impl Cluster {
    fn new(writer: u32) -> Cluster {
        Cluster { writer, replaced_by: NO_CALL, read_first: NO_CALL, read_last: NO_CALL }
    }
}

impl Unique<'_> {
    fn add_cluster(&mut self, writer: u32, value: u32) {
        self.cluster_of[value as usize] = self.clusters.len() as u32;
        self.clusters.push(Cluster::new(writer));
    }

    fn invoke(&self, call: u32) -> i64 {
        if call == NO_CALL { BEFORE_ALL } else { i64::from(self.calls[call as usize].invoke) }
    }

    fn ret(&self, call: u32) -> i64 {
        match call {
            NO_CALL => BEFORE_ALL,
            call => match self.calls[call as usize].ret {
                NEVER => i64::MAX,
                ret => i64::from(ret),
            },
        }
    }

    fn decide(&mut self, observed: &[bool]) -> Result<(), Vec<u32>> {
        let mut first = Ok(());
        for i in 0..self.calls.len() as u32 {
            first = first.and(self.file(i, observed));
        }
        first?;
        let blocks = self.blocks()?;
        self.order(blocks)
    }

    /// Puts an observing call into the cluster of the value that it saw.
    fn file(&mut self, i: u32, observed: &[bool]) -> Result<(), Vec<u32>> {
        let call = &self.calls[i as usize];
        let (value, replaces) = match call.call {
            RegisterCall::Read(value) if call.ret != NEVER => (value, false),
            RegisterCall::Cas(from, to) if from == to && call.ret != NEVER => (from, false),
            RegisterCall::Cas(from, to)
                if from != to && (call.ret != NEVER || observed[to as usize]) =>
            {
                (from, true)
            }
            _ => return Ok(()),
        };
        let number = self.cluster_of[value as usize];
        if number == NO_CALL {
            return Err(vec![i]);
        }
        let Cluster { read_first: first, read_last: last, replaced_by, .. } =
            self.clusters[number as usize];
        if replaces && replaced_by != NO_CALL {
            return Err(self.with_origins(vec![i, replaced_by]));
        }
        let earlier = first == NO_CALL || self.ret(i) < self.ret(first);
        let later = last == NO_CALL || self.invoke(i) > self.invoke(last);
        let cluster = &mut self.clusters[number as usize];
        if replaces {
            cluster.replaced_by = i;
            return Ok(());
        }
        if earlier {
            cluster.read_first = i;
        }
        if later {
            cluster.read_last = i;
        }
        Ok(())
    }

    /// Follows the chains of cas from every plain write and the initial value.
    fn blocks(&self) -> Result<Vec<Block>, Vec<u32>> {
        let mut cluster_of_cas = std::collections::HashMap::new();
        let is_cas = |call: u32| {
            call != NO_CALL && matches!(self.calls[call as usize].call, RegisterCall::Cas(..))
        };
        for (number, cluster) in self.clusters.iter().enumerate() {
            if is_cas(cluster.writer) {
                cluster_of_cas.insert(cluster.writer, number as u32);
            }
        }
        let mut blocks = Vec::new();
        let mut reached = 0;
        for (number, cluster) in self.clusters.iter().enumerate() {
            if is_cas(cluster.writer) {
                continue;
            }
            let mut block = Block {
                first_return: i64::MAX,
                last_invoke: i64::MIN,
                returning: cluster.writer,
                invoked: cluster.writer,
                root: number as u32,
            };
            let mut at = number as u32;
            loop {
                reached += 1;
                self.append(&mut block, at)?;
                let next = self.clusters[at as usize].replaced_by;
                if next == NO_CALL {
                    break;
                }
                match cluster_of_cas.get(&next) {
                    Some(&cluster) => at = cluster,
                    None => break,
                }
            }
            blocks.push(block);
        }
        if reached == self.clusters.len() {
            return Ok(blocks);
        }
        // Cas whose chain starts nowhere: each rests on another one of them.
        Err(cluster_of_cas.keys().copied().collect())
    }

    /// Continues a block by a cluster, which must not return before what came first was invoked.
    fn append(&self, block: &mut Block, number: u32) -> Result<(), Vec<u32>> {
        let cluster = &self.clusters[number as usize];
        let steps = [
            (cluster.writer, cluster.writer, true),
            (cluster.read_first, cluster.read_last, cluster.read_first != NO_CALL),
        ];
        for (returning, invoked, present) in steps {
            if !present {
                continue;
            }
            if self.ret(returning) < block.last_invoke {
                return Err(self.chain(block.root, vec![returning, block.invoked]));
            }
            if self.ret(returning) < block.first_return {
                block.first_return = self.ret(returning);
                block.returning = returning;
            }
            if self.invoke(invoked) > block.last_invoke {
                block.last_invoke = self.invoke(invoked);
                block.invoked = invoked;
            }
        }
        Ok(())
    }

    fn order(&self, blocks: Vec<Block>) -> Result<(), Vec<u32>> {
        let (mut forward, backward): (Vec<Block>, Vec<Block>) =
            blocks.into_iter().partition(|block| block.first_return < block.last_invoke);
        forward.sort_unstable_by_key(|block| block.first_return);
        for pair in forward.windows(2) {
            if pair[1].first_return < pair[0].last_invoke {
                return Err(self.exclude(&pair[0], &pair[1]));
            }
        }
        for block in &backward {
            let after = forward.partition_point(|f| f.first_return < block.last_invoke);
            if let Some(around) = after.checked_sub(1).map(|i| &forward[i])
                && block.first_return < around.last_invoke
            {
                return Err(self.exclude(around, block));
            }
        }
        Ok(())
    }

    fn exclude(&self, a: &Block, b: &Block) -> Vec<u32> {
        let mut culprits = self.chain(a.root, vec![a.returning, a.invoked]);
        culprits.extend(self.chain(b.root, vec![b.returning, b.invoked]));
        culprits.retain(|call| *call != NO_CALL);
        culprits
    }

    /// The calls given with every writer of the chain that starts at `root`.
    fn chain(&self, root: u32, mut calls: Vec<u32>) -> Vec<u32> {
        let mut at = root;
        loop {
            let cluster = &self.clusters[at as usize];
            calls.push(cluster.writer);
            if cluster.replaced_by == NO_CALL {
                break;
            }
            calls.push(cluster.replaced_by);
            let RegisterCall::Cas(_, to) = self.calls[cluster.replaced_by as usize].call else {
                break;
            };
            match self.cluster_of[to as usize] {
                NO_CALL => break,
                next => at = next,
            }
        }
        calls.retain(|call| *call != NO_CALL);
        calls
    }

    /// The calls given with what proves of each that may have happened that it did: somebody saw it.
    fn with_demands(&self, mut calls: Vec<u32>) -> Vec<u32> {
        let mut at = 0;
        while at < calls.len() {
            let call = &self.calls[calls[at] as usize];
            if call.ret == NEVER
                && let RegisterCall::Write(value) | RegisterCall::Cas(_, value) = call.call
                && let Some(cluster) = self.clusters.get(self.cluster_of[value as usize] as usize)
            {
                let seen_by = match cluster.read_first {
                    NO_CALL => cluster.replaced_by,
                    read => read,
                };
                if seen_by != NO_CALL && !calls.contains(&seen_by) {
                    calls.push(seen_by);
                }
            }
            at += 1;
        }
        calls
    }

    /// The calls given with the writers of the values that they saw, and theirs in turn.
    fn with_origins(&self, mut calls: Vec<u32>) -> Vec<u32> {
        let mut at = 0;
        while at < calls.len() {
            let seen = match self.calls[calls[at] as usize].call {
                RegisterCall::Read(value) | RegisterCall::Cas(value, _) => value,
                _ => u32::MAX,
            };
            if let Some(&number) = self.cluster_of.get(seen as usize)
                && number != NO_CALL
            {
                let writer = self.clusters[number as usize].writer;
                if writer != NO_CALL && !calls.contains(&writer) {
                    calls.push(writer);
                }
            }
            at += 1;
        }
        calls
    }
}
