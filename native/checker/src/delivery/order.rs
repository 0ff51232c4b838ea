//! The order in which consumers get messages.
//!
//! Each consumer for itself: it must not get a message behind one that was published later, by the same
//! producer or, with `per-queue`, by anybody. One comes before another if it was confirmed before the
//! other's publication began, if it stands before it in the same batch, or if its producer says so by a
//! sequence. Only the first delivery of a message counts: what was given back may come at any time.

use fuzz_dist_core::{Anomaly, OpType};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::budget::{Exhausted, Meter};
use crate::delivery::events::{Delivery, Events, Fate, Message};
use crate::delivery::{DIVERGENT_ORDER, Ordering, Queue, REORDERED};
use crate::elle::cycles;
use crate::elle::findings::Findings;
use crate::elle::graph::{Edges, Graph, NONE, REALTIME, WW};
use crate::elle::models::Lattice;
use crate::elle::orders::{self, Order};
use crate::elle::txns::Txn;

/// Whether one message certainly stands before another, given that they are of one order.
pub fn is_before(first: &Message, second: &Message) -> bool {
    if first.confirm == NONE || first.invoke == NONE || second.invoke == NONE {
        return false;
    }
    if first.attempts != 1 {
        return false;
    }
    if first.producer == second.producer
        && let (Some(a), Some(b)) = (first.sequence, second.sequence)
    {
        // A sequence that contradicts time is none.
        return a < b && first.invoke <= second.invoke;
    }
    first.confirm < second.invoke || (first.invoke == second.invoke && first.place < second.place)
}

/// From which position on a message may come late, since something was given back unseen.
fn disturbed(events: &Events) -> u32 {
    let lost = events.consumers.iter().map(|consumer| consumer.lost);
    let unclear = events.unclear.iter().map(|unclear| unclear.invoke);
    let returned = events
        .settles
        .iter()
        .filter(|settle| settle.fate == Fate::Returned || settle.outcome != OpType::Ok);
    lost.chain(unclear).chain(returned.map(|settle| settle.invoke)).min().unwrap_or(NONE)
}

/// What a consumer got last of an order: by time, and by sequence.
#[derive(Clone, Copy, Default)]
struct Furthest {
    /// The delivery of what was published last.
    by_time: Option<u32>,
    /// The delivery with the highest sequence.
    by_sequence: Option<u32>,
}

/// Looks at each consumer.
pub fn reordered(events: &Events, queue: &Queue, found: &mut Findings) {
    if queue.ordering == Ordering::None {
        return;
    }
    let disturbed = if queue.is_pubsub { NONE } else { disturbed(events) };
    let mut furthest: FxHashMap<(u32, bool, u32, u32), Furthest> = FxHashMap::default();
    let mut counts = vec![0u32; events.messages.len()];
    for delivery in &events.deliveries {
        counts[delivery.message as usize] += 1;
    }
    let mut seen_by: FxHashSet<(u32, u32)> = FxHashSet::default();
    for (number, delivery) in (0..).zip(&events.deliveries) {
        let message = events.messages[delivery.message as usize];
        if message.invoke == NONE {
            continue;
        }
        // To anybody, or to each subscriber.
        let reader = if queue.is_pubsub { delivery.consumer } else { NONE };
        let is_first = seen_by.insert((reader, delivery.message));
        let is_new = match delivery.redelivered {
            _ if queue.redelivery_order || queue.is_pubsub => true,
            Some(is_redelivered) => !is_redelivered,
            // What is delivered twice may have been given back before anybody said so.
            None => delivery.complete < disturbed && counts[delivery.message as usize] == 1,
        };
        let producer = match queue.ordering {
            Ordering::PerQueue => NONE,
            _ => message.producer,
        };
        // What a client holds ahead is in another order than what it asks for.
        let class = class(events, delivery);
        let furthest =
            furthest.entry((delivery.consumer, class, message.topic, producer)).or_default();
        let before =
            [furthest.by_time, furthest.by_sequence].into_iter().flatten().find(|before| {
                let other = events.deliveries[*before as usize].message;
                is_before(&message, &events.messages[other as usize])
            });
        if let Some(before) = before
            && is_first
            && is_new
        {
            found.add(REORDERED, || told(events, delivery, &events.deliveries[before as usize]));
        }
        let of = |number: u32| events.messages[events.deliveries[number as usize].message as usize];
        let time = |message: &Message| (message.invoke, message.place);
        if furthest.by_time.is_none_or(|before| time(&of(before)) < time(&message)) {
            furthest.by_time = Some(number);
        }
        if message.sequence.is_some()
            && furthest.by_sequence.is_none_or(|before| of(before).sequence < message.sequence)
        {
            furthest.by_sequence = Some(number);
        }
    }
}

/// Whether a delivery was pushed rather than asked for.
fn class(events: &Events, delivery: &Delivery) -> bool {
    let f = events.history.ops()[delivery.invoke as usize].f;
    matches!(f.as_str(), "consume" | "receive") && !delivery.is_drained
}

fn told(events: &Events, delivery: &Delivery, before: &Delivery) -> Anomaly {
    let (first, second) = (delivery.message, before.message);
    let (got, earlier) = (events.who(delivery.invoke), events.who(before.invoke));
    let (a, b) = (events.id(first), events.id(second));
    let (published, later) = (
        events.who(events.messages[first as usize].invoke),
        events.who(events.messages[second as usize].invoke),
    );
    let text = format!(
        "{got} got {a}, after {earlier} had got {b}; but {a} was published before {b}, by {published} and \
         {later}"
    );
    let ops = events.published(first).chain(events.published(second));
    let ops = ops.chain(events.records(before.invoke)).chain(events.records(delivery.invoke));
    let mut ops: Vec<u64> = ops.collect();
    ops.dedup();
    Anomaly { key: Some(a), text, ops, ..Anomaly::default() }
}

/// Whether there is one order of all messages of a topic of which each subscriber got a part in order, and
/// which agrees with the times of publication: a cycle among these is what there cannot be.
pub fn divergent(events: &Events, meter: &Meter, found: &mut Findings) -> Result<(), Exhausted> {
    // Messages in order of publication stand for operations.
    let mut order: Vec<u32> = (0..events.messages.len() as u32).collect();
    order.retain(|message| events.messages[*message as usize].invoke != NONE);
    order.sort_by_key(|message| {
        let message = events.messages[*message as usize];
        (message.topic, message.invoke, message.place)
    });
    let mut vertex = vec![NONE; events.messages.len()];
    for (number, message) in (0..).zip(&order) {
        vertex[*message as usize] = number;
    }
    let mut edges = Edges { vertex_count: order.len() as u32, list: Vec::new() };
    let mut seen: FxHashSet<(u32, u32)> = FxHashSet::default();
    let mut last: FxHashMap<(u32, u32), u32> = FxHashMap::default();
    for delivery in &events.deliveries {
        let message = delivery.message;
        let now = vertex[message as usize];
        if now == NONE || !seen.insert((delivery.consumer, message)) {
            continue;
        }
        let topic = events.messages[message as usize].topic;
        if let Some(before) = last.insert((delivery.consumer, topic), now) {
            edges.push(before, now, WW, delivery.consumer);
        }
    }
    meter.check_time()?;
    // Of each topic, those that were confirmed precede those published later.
    let txns: Vec<Txn> = order.iter().map(|message| of_message(events, *message)).collect();
    let count = txns.len();
    let mut begin = 0;
    for part in order
        .chunk_by(|a, b| events.messages[*a as usize].topic == events.messages[*b as usize].topic)
    {
        let end = begin + part.len();
        let mut own = Edges { vertex_count: part.len() as u32, list: Vec::new() };
        orders::link(&txns[begin..end], Order::Realtime, &mut own);
        let (helpers, own_count) = (edges.vertex_count, part.len() as u32);
        let moved = |v: u32| if v < own_count { v + begin as u32 } else { v - own_count + helpers };
        edges.vertex_count += own.vertex_count - own_count;
        for mut edge in own.list {
            (edge.from, edge.to) = (moved(edge.from), moved(edge.to));
            edges.list.push(edge);
        }
        begin = end;
    }
    meter.check_memory(edges.list.len() as u64 * 24)?;
    let graph = Graph::new(edges.vertex_count, &edges.list);
    let cycles = cycles::find(&graph, count as u32, Order::Realtime, &Lattice::new(), meter)?;
    for class in cycles.classes.values() {
        for cycle in &class.shown {
            found.add(DIVERGENT_ORDER, || cycle_told(events, &order, cycle));
        }
    }
    Ok(())
}

fn of_message(events: &Events, message: u32) -> Txn {
    let message = events.messages[message as usize];
    let is_confirmed = message.confirm != NONE && message.attempts == 1;
    Txn {
        invoke: message.invoke,
        complete: message.confirm,
        process: 0,
        outcome: if is_confirmed { OpType::Ok } else { OpType::Info },
        mop_start: 0,
    }
}

fn cycle_told(events: &Events, order: &[u32], cycle: &cycles::Cycle) -> Anomaly {
    let mut text = String::from("no order of the messages agrees with all who got them:\n");
    let mut edges = Vec::new();
    for step in &cycle.steps {
        let (from, to) = (order[step.from as usize], order[step.to as usize]);
        let (a, b) = (events.id(from), events.id(to));
        let why = match step.kind {
            REALTIME => format!("{a} was confirmed before {b} was published"),
            _ => {
                let process = events.consumers[step.key as usize].process;
                format!("process {process} got {a} before {b}")
            }
        };
        text.push_str(&format!("  - {why}\n"));
        edges.push(fuzz_dist_core::Edge {
            from: u64::from(events.messages[from as usize].invoke),
            to: u64::from(events.messages[to as usize].invoke),
            kind: if step.kind == REALTIME { "realtime".into() } else { "delivered".into() },
            why,
        });
    }
    let messages = cycle.steps.iter().map(|step| order[step.from as usize]);
    let ops: Vec<u64> = messages.flat_map(|message| events.published(message)).collect();
    Anomaly { text, ops, edges, ..Anomaly::default() }
}
