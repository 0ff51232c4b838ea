//! Publish and subscribe: each subscriber gets each message of its topics once.
//!
//! A subscriber is owed what was published, and confirmed, from the completion of its subscription on and
//! before it begins to unsubscribe or is lost. That something will not come any more is certain by a
//! `:drain` of the subscriber, which waits until nothing more comes, or where order is promised by a later
//! message of the same producer. What was still under way when a subscriber left is not owed.

use fuzz_dist_core::Anomaly;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::delivery::events::{Events, Subscription};
use crate::delivery::{DUPLICATED, Delivery as Promise, LOST, Ordering, Queue, Undecided, order};
use crate::elle::findings::Findings;
use crate::elle::graph::NONE;

/// What the messages of all topics tell.
pub fn check(events: &Events, queue: &Queue, found: &mut Findings) -> Undecided {
    if queue.promise != Promise::AtLeastOnce {
        duplicated(events, found);
    }
    match queue.promise {
        Promise::AtMostOnce => Undecided::default(),
        _ => lost(events, queue, found),
    }
}

/// Subscribing twice may deliver twice.
fn duplicated(events: &Events, found: &mut Findings) {
    let mut subscribed: FxHashMap<(u32, u32), u32> = FxHashMap::default();
    for subscription in &events.subscriptions {
        *subscribed.entry((subscription.consumer, subscription.topic)).or_default() += 1;
    }
    let mut counts: FxHashMap<(u32, u32), (u32, u32)> = FxHashMap::default();
    for delivery in &events.deliveries {
        let message = events.messages[delivery.message as usize];
        if message.attempts == 0 {
            continue;
        }
        let times = subscribed.get(&(delivery.consumer, message.topic)).copied().unwrap_or(1);
        let count =
            counts.entry((delivery.consumer, delivery.message)).or_insert((0, delivery.invoke));
        count.0 += 1;
        if count.0 > message.attempts.saturating_mul(times) {
            let before = count.1;
            found.add(DUPLICATED, || {
                let (id, got) = (events.id(delivery.message), events.who(delivery.invoke));
                let by = events.who(before);
                let ops = events.published(delivery.message).chain(events.records(before));
                let mut ops: Vec<u64> = ops.chain(events.records(delivery.invoke)).collect();
                ops.dedup();
                let text = format!("{got} got {id}, which it had got before, by {by}");
                Anomaly { key: Some(id), text, ops, ..Anomaly::default() }
            });
        }
    }
}

/// What a subscriber has got, and how far it has looked.
#[derive(Default)]
struct Seen {
    messages: FxHashSet<u32>,
    /// The invocation of its last drain.
    drain: Option<u32>,
    /// By topic and producer: the delivery of what was published last.
    latest: FxHashMap<(u32, u32), u32>,
}

fn lost(events: &Events, queue: &Queue, found: &mut Findings) -> Undecided {
    let mut seen: FxHashMap<u32, Seen> = FxHashMap::default();
    for (number, delivery) in (0..).zip(&events.deliveries) {
        let message = events.messages[delivery.message as usize];
        let of_consumer = seen.entry(delivery.consumer).or_default();
        of_consumer.messages.insert(delivery.message);
        let latest = of_consumer.latest.entry((message.topic, message.producer)).or_insert(number);
        let before = events.messages[events.deliveries[*latest as usize].message as usize];
        if (before.invoke, before.place) < (message.invoke, message.place) {
            *latest = number;
        }
    }
    for empty in events.empties.iter().filter(|empty| empty.is_drain) {
        let drain = &mut seen.entry(empty.consumer).or_default().drain;
        *drain = (*drain).max(Some(empty.invoke));
    }
    // Messages of each topic by the time of their publication.
    let mut topics: Vec<Vec<u32>> = vec![Vec::new(); events.topic_count()];
    for (number, message) in (0..).zip(&events.messages).filter(|(_, m)| m.confirm != NONE) {
        topics[message.topic as usize].push(number);
    }
    for messages in &mut topics {
        messages.sort_by_key(|message| events.messages[*message as usize].invoke);
    }
    let mut undecided = Undecided::default();
    let mut owed_once: FxHashSet<(u32, u32)> = FxHashSet::default();
    let nothing = Seen::default();
    for subscription in events.subscriptions.iter().filter(|s| s.begin != NONE) {
        let seen = seen.get(&subscription.consumer).unwrap_or(&nothing);
        let messages = &topics[subscription.topic as usize];
        let begin = messages.partition_point(|message| {
            events.messages[*message as usize].invoke < subscription.begin
        });
        for message in &messages[begin..] {
            let one = events.messages[*message as usize];
            if one.invoke > subscription.end {
                break;
            }
            let is_owed = one.confirm < subscription.end && !seen.messages.contains(message);
            if !is_owed || !owed_once.insert((subscription.consumer, *message)) {
                continue;
            }
            if let Some(proof) = proof(events, queue, seen, *message, subscription) {
                found.add(LOST, || told(events, *message, subscription, proof));
            } else if subscription.end == NONE {
                undecided.not_drained += 1;
            }
        }
    }
    undecided
}

/// The operation that shows that a message does not come any more.
fn proof(
    events: &Events,
    queue: &Queue,
    seen: &Seen,
    message: u32,
    subscription: &Subscription,
) -> Option<u32> {
    let one = events.messages[message as usize];
    let drain = seen.drain.filter(|drain| one.confirm < *drain && *drain < subscription.end);
    if drain.is_some() || queue.ordering == Ordering::None {
        return drain;
    }
    let latest = *seen.latest.get(&(one.topic, one.producer))?;
    let latest = events.deliveries[latest as usize];
    let is_later = order::is_before(&one, &events.messages[latest.message as usize]);
    (is_later && latest.complete < subscription.end).then_some(latest.invoke)
}

fn told(events: &Events, message: u32, subscription: &Subscription, proof: u32) -> Anomaly {
    let id = events.id(message);
    let one = events.messages[message as usize];
    let (published, process) =
        (events.who(one.invoke), events.consumers[subscription.consumer as usize].process);
    let topic = match events.topic(subscription.topic) {
        topic if topic == "nil" => String::new(),
        topic => format!(" to {topic}"),
    };
    let text = format!(
        "process {process}, subscribed{topic} since record {}, never got {id}, which {published} published; \
         {} shows that it does not come any more",
        subscription.begin,
        events.who(proof)
    );
    let ops = [u64::from(subscription.begin)].into_iter().chain(events.published(message));
    let ops = ops.chain(events.records(proof)).collect();
    Anomaly { key: Some(id), text, ops, ..Anomaly::default() }
}
