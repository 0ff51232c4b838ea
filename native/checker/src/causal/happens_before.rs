//! Causal Consistency: everything that happens before a transaction is visible to it.
//!
//! Møldrup and Pavlogiannis, "AWDIT: An Optimal Weak Database Isolation Tester" (PLDI 2025): in an order that
//! respects happens-before (session order and reads-from, transitively), each transaction's past is a vector
//! clock over the k sessions, and for each read of a key, only the last visible write of each session matters.
//! Time O(n·k); the clocks of transactions that nobody will ask about again are reused, so memory is that of
//! the live ones, at most n·k words.
//!
//! Two things keep the constant small. A predecessor that is in the past already is not joined. And a write
//! of another session is only looked for if it is not in the past of the transaction that was read from, since
//! then it comes before that anyway: mostly one comparison.

use crate::budget::{Exhausted, Meter};
use crate::causal::inferred::{Inferred, StaleInitial};
use crate::causal::pool::Pool;
use crate::causal::txns::{INITIAL, NONE, Txns};

/// How many transactions between two looks at the clock.
const TXNS_PER_LOOK: usize = 1 << 10;

/// The writes of each key by chain.
#[derive(Debug)]
struct Writers {
    /// By key: its pairs of (key, chain).
    key_start: Vec<u32>,
    pair_chain: Vec<u32>,
    pair_start: Vec<u32>,
    /// By pair: places in the chain, plus one, in order.
    places: Vec<u32>,
}

impl Writers {
    /// Finds them, and notes at each write which pair it belongs to.
    fn new(txns: &mut Txns) -> Writers {
        let mut start = vec![0u32; txns.key_count() + 2];
        let mut chained: Vec<(u32, u32)> = Vec::new();
        for chain in 0..txns.chain_count() as u32 {
            for txn in txns.chain(chain) {
                for at in txns.events_range(*txn) {
                    if txns.events[at].is_last_write() {
                        start[txns.events[at].key() as usize + 2] += 1;
                        chained.push((*txn, at as u32));
                    }
                }
            }
        }
        for i in 2..start.len() {
            start[i] += start[i - 1];
        }
        let mut by_key = vec![(0, 0); chained.len()];
        for (txn, at) in chained {
            let place = &mut start[txns.events[at as usize].key() as usize + 1];
            by_key[*place as usize] = (txn, at);
            *place += 1;
        }
        start.pop();
        let mut writers = Writers {
            key_start: vec![0],
            pair_chain: Vec::new(),
            pair_start: Vec::new(),
            places: Vec::with_capacity(by_key.len()),
        };
        for key in 0..txns.key_count() {
            let mut last = NONE;
            for (txn, at) in &by_key[start[key] as usize..start[key + 1] as usize] {
                let txn = &txns.list[*txn as usize];
                if txn.chain != last {
                    last = txn.chain;
                    writers.pair_chain.push(last);
                    writers.pair_start.push(writers.places.len() as u32);
                }
                writers.places.push(txn.place + 1);
                txns.events[*at as usize].source = writers.pair_chain.len() as u32 - 1;
            }
            writers.key_start.push(writers.pair_chain.len() as u32);
        }
        writers.pair_start.push(writers.places.len() as u32);
        writers
    }

    /// The last write of a pair among the first `count` transactions of its chain: its place plus one, or 0.
    fn last_within(&self, pair: usize, count: u32) -> u32 {
        let places =
            &self.places[self.pair_start[pair] as usize..self.pair_start[pair + 1] as usize];
        match places.partition_point(|place| *place <= count) {
            0 => 0,
            found => places[found - 1],
        }
    }
}

/// What Causal Consistency implies. `order` has every transaction behind its predecessors.
pub fn infer(txns: &mut Txns, order: &[u32], meter: &Meter) -> Result<Inferred, Exhausted> {
    let writers = Writers::new(txns);
    let txns = &*txns;
    // By chain: how many of its transactions are in the past.
    let mut clocks: Pool<u32> = Pool::new(txns, txns.chain_count());
    let mut inferred = Inferred::default();
    // The last write of each pair so far: its place plus one.
    let mut last_write = vec![0u32; writers.pair_chain.len()];
    let mut past = vec![0u32; txns.chain_count()];
    let nothing = vec![0u32; txns.chain_count()];
    for (done, number) in order.iter().enumerate() {
        let txn = &txns.list[*number as usize];
        if !txn.happened {
            continue;
        }
        if done % TXNS_PER_LOOK == 0 {
            meter.check_time()?;
            meter.check_memory(clocks.bytes() + inferred.edges.len() as u64 * 8)?;
        }
        let events = txns.events_of(*number);
        match txn.before {
            NONE => past.fill(0),
            before => past.copy_from_slice(clocks.of(before)),
        }
        for source in events.iter().filter_map(|event| event.read_from()) {
            let from = &txns.list[source as usize];
            if past[from.chain as usize] <= from.place {
                let clock = clocks.of(source);
                past.iter_mut().zip(clock).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
            }
        }
        for event in events.iter().filter(|event| !event.is_write()) {
            let (t1, seen) = match (event.read_from(), event.source) {
                (Some(t1), _) => (t1, clocks.of(t1)),
                (None, INITIAL) => (INITIAL, nothing.as_slice()),
                _ => continue,
            };
            let key = event.key() as usize;
            let pairs = writers.key_start[key] as usize..writers.key_start[key + 1] as usize;
            let lasts = writers.pair_chain[pairs.clone()].iter().zip(&last_write[pairs.clone()]);
            for (pair, (chain, last)) in pairs.zip(lasts) {
                let chain = *chain as usize;
                if *last <= seen[chain] || past[chain] <= seen[chain] {
                    continue;
                }
                let place = writers.last_within(pair, past[chain]);
                if place <= seen[chain] {
                    continue;
                }
                let t2 = txns.chain(chain as u32)[place as usize - 1];
                match t1 {
                    INITIAL => {
                        let (reader, key) = (*number, key as u32);
                        inferred.stale(StaleInitial { reader, key, writer: t2 });
                    }
                    t1 => inferred.edge(txns, t1, t2),
                }
            }
        }
        clocks.release_sources(txns, *number);
        for event in events.iter().filter(|event| event.is_last_write()) {
            last_write[event.source as usize] = txn.place + 1;
        }
        past[txn.chain as usize] = txn.place + 1;
        clocks.keep(*number, &past);
    }
    inferred.finish();
    Ok(inferred)
}
