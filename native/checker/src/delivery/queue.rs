//! A work queue: each message goes to one consumer, who settles it.
//!
//! What is not known is never held against the broker:
//! - a publication that ended with info may be there or not;
//! - a settlement that ended with info may have been heard or not: the message may come again or not;
//! - a consumer that is lost gives back what it had not settled, and an operation of a consumer that
//!   ended with info may have got anything;
//! - a queue proves to be empty only by a `:drain`, which is performed when every consumer is closed, or by
//!   an empty `:get` where nobody consumes ahead.

use fuzz_dist_core::{Anomaly, OpType};

use crate::delivery::events::{Delivery, Events, Fate, Message, Settle};
use crate::delivery::{
    DUPLICATED, Delivery as Promise, LOST, Queue, REDELIVERED_AFTER_SETTLE, REDELIVERED_FLAG,
    STUCK, Undecided,
};
use crate::elle::findings::Findings;
use crate::elle::graph::NONE;

/// Deliveries and settlements by message, as ranges of sorted numbers.
struct ByMessage {
    starts: Vec<u32>,
    numbers: Vec<u32>,
}

impl ByMessage {
    /// Keeps the order within each message.
    fn new(count: usize, messages: impl Iterator<Item = u32> + Clone) -> ByMessage {
        let mut starts = vec![0u32; count + 2];
        for message in messages.clone() {
            starts[message as usize + 2] += 1;
        }
        for i in 2..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut numbers = vec![0; *starts.last().unwrap_or(&0) as usize];
        for (number, message) in (0..).zip(messages) {
            let place = &mut starts[message as usize + 1];
            numbers[*place as usize] = number;
            *place += 1;
        }
        ByMessage { starts, numbers }
    }

    fn of(&self, message: u32) -> impl Iterator<Item = usize> {
        let range = self.starts[message as usize]..self.starts[message as usize + 1];
        self.numbers[range.start as usize..range.end as usize].iter().map(|n| *n as usize)
    }
}

/// What the messages of a queue tell.
pub fn check(events: &Events, queue: &Queue, found: &mut Findings) -> Undecided {
    let count = events.messages.len();
    let deliveries = ByMessage::new(count, events.deliveries.iter().map(|d| d.message));
    let settles = ByMessage::new(count, events.settles.iter().map(|s| s.message));
    let mut undecided = Undecided::default();
    let ends = Ends::new(events, queue);
    let mut lost: Vec<(u32, u32)> = Vec::new();
    for message in 0..count as u32 {
        let of_message: Vec<Delivery> =
            deliveries.of(message).map(|number| events.deliveries[number]).collect();
        let settled: Vec<Settle> =
            settles.of(message).map(|number| events.settles[number]).collect();
        let one = One { events, queue, message, deliveries: &of_message, settles: &settled };
        one.again(found);
        one.flags(found);
        if of_message.is_empty() {
            match ends.never_delivered(events, queue, message) {
                Some(End::Empty(seen)) => lost.push((message, seen)),
                Some(End::Overtaken(by)) => stuck_in_queue(events, message, by, found),
                Some(End::Unknown) => undecided.not_drained += 1,
                None => {}
            }
        } else {
            one.settled_at_last(&ends, found, &mut undecided);
        }
    }
    // Whoever does not know what he got may have got what is missing.
    if lost.len() as u64 > ends.hidden {
        for (message, seen) in lost {
            found.add(LOST, || lost_one(events, message, seen));
        }
    } else {
        undecided.hidden = lost.len() as u64;
    }
    undecided
}

fn about(events: &Events, message: u32, text: String, positions: &[u32]) -> Anomaly {
    let mut ops: Vec<u64> = events.published(message).collect();
    ops.extend(positions.iter().flat_map(|position| events.records(*position)));
    ops.dedup();
    Anomaly { key: Some(events.id(message)), text, ops, ..Anomaly::default() }
}

fn lost_one(events: &Events, message: u32, seen: u32) -> Anomaly {
    let (id, topic) =
        (events.id(message), events.of_topic(events.messages[message as usize].topic));
    let (published, empty) =
        (events.who(events.messages[message as usize].invoke), events.who(seen));
    let text = format!(
        "{id}{topic} was published by {published}, which was confirmed, and never delivered; {empty} \
         found the queue empty"
    );
    about(events, message, text, &[seen])
}

fn stuck_in_queue(events: &Events, message: u32, by: u32, found: &mut Findings) {
    found.add(STUCK, || {
        let delivery = events.deliveries[by as usize];
        let (id, other) = (events.id(message), events.id(delivery.message));
        let (published, got) =
            (events.who(events.messages[message as usize].invoke), events.who(delivery.invoke));
        let text = format!(
            "{id} was published by {published}, which was confirmed, and never delivered, though {got} \
             got {other}, which was published later"
        );
        about(events, message, text, &[delivery.invoke])
    });
}

/// One message with everything that happened to it.
struct One<'a> {
    events: &'a Events<'a>,
    queue: &'a Queue,
    message: u32,
    deliveries: &'a [Delivery],
    settles: &'a [Settle],
}

impl One<'_> {
    /// Deliveries beyond what was published, or after it was settled.
    fn again(&self, found: &mut Findings) {
        let attempts = self.events.messages[self.message as usize].attempts as usize;
        if attempts == 0 {
            return;
        }
        // When each settlement that was certainly heard was done.
        let mut done: Vec<(u32, u32)> = self
            .settles
            .iter()
            .filter(|settle| settle.fate == Fate::Settled && settle.outcome == OpType::Ok)
            .map(|settle| (settle.complete, settle.invoke))
            .collect();
        let drained = self.deliveries.iter().filter(|d| d.is_drained || self.queue.auto_ack);
        done.extend(drained.map(|delivery| (delivery.complete, delivery.invoke)));
        done.sort_unstable();
        let excuses = self.excuses();
        for (number, delivery) in self.deliveries.iter().enumerate() {
            let heard = done.partition_point(|(complete, _)| *complete < delivery.invoke);
            if heard >= attempts && self.queue.promise != Promise::AtMostOnce {
                let (_, settled) = done[attempts - 1];
                found.add(REDELIVERED_AFTER_SETTLE, || {
                    let (id, got) = (self.id(), self.events.who(delivery.invoke));
                    let by = self.events.who(settled);
                    let text = format!("{got} got {id} again, which {by} had settled");
                    about(self.events, self.message, text, &[settled, delivery.invoke])
                });
                continue;
            }
            let allowed = match self.queue.promise {
                Promise::AtLeastOnce => usize::MAX,
                Promise::AtMostOnce => attempts + self.returned_before(delivery.complete),
                // Before a drain, every consumer is closed and gives back what it has.
                Promise::ExactlyOnce if delivery.is_drained && !self.queue.auto_ack => usize::MAX,
                Promise::ExactlyOnce => {
                    attempts + excuses.partition_point(|excuse| *excuse < delivery.complete)
                }
            };
            if number >= allowed {
                found.add(DUPLICATED, || {
                    let (id, got) = (self.id(), self.events.who(delivery.invoke));
                    let before = self.deliveries[0].invoke;
                    let by = self.events.who(before);
                    let text = format!(
                        "{got} got {id}, which {by} had got before and nobody had given back"
                    );
                    about(self.events, self.message, text, &[before, delivery.invoke])
                });
            }
        }
    }

    /// How often it may have been put back on purpose.
    fn returned_before(&self, position: u32) -> usize {
        let returned = self.settles.iter().filter(|settle| {
            settle.fate == Fate::Returned
                && settle.outcome != OpType::Fail
                && settle.invoke < position
        });
        returned.count()
    }

    /// Positions from which on a further delivery may be: the message was, or may have been, given back.
    fn excuses(&self) -> Vec<u32> {
        let mut excuses: Vec<u32> = Vec::new();
        for settle in self.settles {
            match (settle.fate, settle.outcome) {
                (Fate::Returned, OpType::Fail) | (Fate::Settled, OpType::Ok) => {}
                _ => excuses.push(settle.invoke),
            }
        }
        for delivery in self.deliveries {
            let lost = self.events.consumers[delivery.consumer as usize].lost;
            if lost != NONE && !delivery.is_drained {
                excuses.push(lost);
            }
        }
        excuses.sort_unstable();
        excuses
    }

    /// A delivery that claims to be the first one.
    fn flags(&self, found: &mut Findings) {
        let Some(first) = self.deliveries.first() else { return };
        if !self.queue.redelivered_flag || self.events.messages[self.message as usize].attempts != 1
        {
            return;
        }
        let wrong = self.deliveries.iter().find(|delivery| {
            delivery.redelivered == Some(false) && first.complete < delivery.invoke
        });
        if let Some(delivery) = wrong {
            found.add(REDELIVERED_FLAG, || {
                let (id, got) = (self.id(), self.events.who(delivery.invoke));
                let by = self.events.who(first.invoke);
                let text =
                    format!("{got} got {id} as not redelivered, though {by} had got it before");
                about(self.events, self.message, text, &[first.invoke, delivery.invoke])
            });
        }
    }

    /// Whether a message that was delivered is done with, or came out of the queue in the end.
    fn settled_at_last(&self, ends: &Ends, found: &mut Findings, undecided: &mut Undecided) {
        let is_settled = self.queue.auto_ack
            || self.queue.client_ack
            || self.deliveries.iter().any(|delivery| delivery.is_drained)
            || self
                .settles
                .iter()
                .any(|settle| settle.fate == Fate::Settled && settle.outcome != OpType::Fail);
        let message = self.events.messages[self.message as usize];
        let Some(last) = self.deliveries.last() else { return };
        if is_settled || message.is_maybe_delivered || message.attempts == 0 {
            return;
        }
        undecided.unsettled += 1;
        let drain = ends.drains[message.topic as usize];
        if self.queue.promise == Promise::AtMostOnce || ends.hidden > 0 {
            return;
        }
        if self.events.settles.is_empty() && !self.events.gives_back {
            // Nothing in the whole history was settled or given back: that a delivery settles is more likely.
            undecided.never_settled += 1;
            return;
        }
        if let Some(drain) = drain.filter(|drain| last.complete < *drain) {
            found.add(STUCK, || {
                let (id, got) = (self.id(), self.events.who(last.invoke));
                let by = self.events.who(drain);
                let text = format!(
                    "{got} got {id} and did not settle it, but it was not in the queue any more when \
                     {by} drained that"
                );
                about(self.events, self.message, text, &[last.invoke, drain])
            });
        } else if self.events.consumers[last.consumer as usize].lost != NONE {
            undecided.not_drained += 1;
        }
    }

    fn id(&self) -> String {
        self.events.id(self.message)
    }
}

/// What became of a message that nobody got.
enum End {
    /// This operation found the queue empty.
    Empty(u32),
    /// This delivery is of a later one.
    Overtaken(u32),
    /// Nobody looked.
    Unknown,
}

/// What is known of each queue at the end.
struct Ends {
    /// The invocation of the last operation that proved it empty.
    empty: Vec<Option<u32>>,
    /// The invocation of the last drain.
    drains: Vec<Option<u32>>,
    /// The delivery of what was published last.
    latest: Vec<Option<u32>>,
    /// How many messages may have been taken by operations that do not know.
    hidden: u64,
}

impl Ends {
    fn new(events: &Events, queue: &Queue) -> Ends {
        let topics = events.topic_count();
        let mut ends = Ends {
            empty: vec![None; topics],
            drains: vec![None; topics],
            latest: vec![None; topics],
            hidden: 0,
        };
        // Who consumes ahead may hold what nobody has seen.
        let is_exact = !events.consumers.iter().any(|consumer| consumer.buffers);
        for empty in &events.empties {
            let all = 0..topics as u32;
            for topic in all.filter(|topic| [*topic, NONE].contains(&empty.topic)) {
                let topic = topic as usize;
                if empty.is_drain {
                    ends.drains[topic] = ends.drains[topic].max(Some(empty.invoke));
                }
                if empty.is_drain || is_exact {
                    ends.empty[topic] = ends.empty[topic].max(Some(empty.invoke));
                }
            }
        }
        for (number, delivery) in (0..).zip(&events.deliveries) {
            let message = events.messages[delivery.message as usize];
            let latest = &mut ends.latest[message.topic as usize];
            let of = |number: u32| {
                events.messages[events.deliveries[number as usize].message as usize].invoke
            };
            if message.invoke != NONE && latest.is_none_or(|latest| of(latest) < message.invoke) {
                *latest = Some(number);
            }
        }
        // What a consumer got without knowing and did not settle is back before the drain.
        let drained = |message: &Message| ends.drains[message.topic as usize].is_some();
        let is_drained = events.messages.iter().all(drained);
        let hides = |is_drain: bool| is_drain || queue.auto_ack || !is_drained;
        let unclear = events.unclear.iter().filter(|unclear| hides(unclear.is_drain));
        ends.hidden = unclear.map(|unclear| u64::from(unclear.count_max)).sum();
        ends
    }

    /// What became of a message that nobody got; nothing if that is as it may be.
    fn never_delivered(&self, events: &Events, queue: &Queue, message: u32) -> Option<End> {
        let one = events.messages[message as usize];
        let is_promised =
            one.confirm != NONE && !one.is_maybe_delivered && queue.promise != Promise::AtMostOnce;
        if !is_promised {
            return None;
        }
        let topic = one.topic as usize;
        if let Some(seen) = self.empty[topic].filter(|seen| one.confirm < *seen) {
            return Some(End::Empty(seen));
        }
        let overtaken = self.latest[topic].filter(|number| {
            let delivery = events.deliveries[*number as usize];
            one.confirm < events.messages[delivery.message as usize].invoke
        });
        match overtaken {
            Some(by) if queue.is_ordered(events, message, by) && self.hidden == 0 => {
                Some(End::Overtaken(by))
            }
            _ => Some(End::Unknown),
        }
    }
}
