//! A history of publishers and consumers in flat arrays: what was published, delivered and settled, and
//! when a consumer was lost.

use fuzz_dist_core::{History, Op, OpType, Value};
use rustc_hash::FxHashMap;

use crate::elle::graph::NONE;
use crate::elle::txns::shown;
use crate::numbering::Numbering;

/// One message, by its id.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// The number of its topic or queue.
    pub topic: u32,
    /// The number of its producer, or [`NONE`] if it was never published.
    pub producer: u32,
    /// Its place in the sequence of its producer, if that was given.
    pub sequence: Option<i64>,
    /// How many publications of it may have taken place.
    pub attempts: u32,
    /// Whether one was tried and failed.
    pub has_failed: bool,
    /// Position of the first invocation that published it, or [`NONE`].
    pub invoke: u32,
    /// Position of the first completion that confirmed it, or [`NONE`].
    pub confirm: u32,
    /// Its place in the batch that it was published in.
    pub place: u32,
    /// Whether something that ended with info may have delivered it.
    pub is_maybe_delivered: bool,
}

/// A message that a consumer certainly got.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// The number of the message.
    pub message: u32,
    /// The number of the consumer.
    pub consumer: u32,
    /// Position of the invocation.
    pub invoke: u32,
    /// Position of the completion.
    pub complete: u32,
    /// What the broker said about an earlier delivery.
    pub redelivered: Option<bool>,
    /// Whether it is settled by being delivered (a drain).
    pub is_drained: bool,
    /// Whether what it says differs from what was published.
    pub is_altered: bool,
}

/// What a consumer did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged, or discarded: the broker must not deliver it again.
    Settled,
    /// Put back: the broker is to deliver it again.
    Returned,
}

/// A fate being told to the broker.
#[derive(Debug, Clone, Copy)]
pub struct Settle {
    /// The number of the message.
    pub message: u32,
    /// Which fate.
    pub fate: Fate,
    /// Position of the invocation.
    pub invoke: u32,
    /// Position of the completion, or [`NONE`].
    pub complete: u32,
    /// How it ended.
    pub outcome: OpType,
}

/// A moment at which a queue was seen to be empty.
#[derive(Debug, Clone, Copy)]
pub struct Empty {
    /// The topic, or [`NONE`] for all.
    pub topic: u32,
    /// The consumer that looked.
    pub consumer: u32,
    /// Position of the invocation.
    pub invoke: u32,
    /// Position of the completion.
    pub complete: u32,
    /// Whether it was a drain, before which every consumer is closed.
    pub is_drain: bool,
}

/// Something that may have taken messages nobody knows of.
#[derive(Debug, Clone, Copy)]
pub struct Unclear {
    /// The topic, or [`NONE`] if that is not known.
    pub topic: u32,
    /// The consumer.
    pub consumer: u32,
    /// Position of the invocation.
    pub invoke: u32,
    /// How many messages at most.
    pub count_max: u32,
    /// Whether it was a drain.
    pub is_drain: bool,
}

/// A time in which a consumer is to get everything of a topic.
#[derive(Debug, Clone, Copy)]
pub struct Subscription {
    /// The consumer.
    pub consumer: u32,
    /// The topic.
    pub topic: u32,
    /// Position of the completion that began it; [`NONE`] if it only may have begun.
    pub begin: u32,
    /// Position of the invocation that ends it, or [`NONE`].
    pub end: u32,
}

/// Who consumes: a process.
#[derive(Debug, Clone, Copy)]
pub struct Consumer {
    /// The process.
    pub process: i64,
    /// Since when it is gone: it disconnected, crashed, or ended with info.
    pub lost: u32,
    /// Whether it may hold messages that it has not yet told (`:consume`), so that a queue that looks
    /// empty may not be.
    pub buffers: bool,
}

/// Why a history is none of messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotMessages {
    /// A function that no queue has.
    #[error(
        "record {index}: :{f} is not known; there are :publish, :consume, :get, :receive, :drain, :ack, \
         :nack, :discard, :subscribe, :unsubscribe, :connect, :disconnect and :crash"
    )]
    UnknownF {
        /// Position of the record.
        index: u64,
        /// The function.
        f: String,
    },
    /// A value of another form.
    #[error(
        "record {index}: {value} is no message: an id, [id producer sequence], [id producer sequence \
         redelivered?], or a map with :id and perhaps :topic, :producer, :sequence, :redelivered"
    )]
    NotAMessage {
        /// Position of the record.
        index: u64,
        /// What is there.
        value: String,
    },
    /// A list was expected.
    #[error("record {index}: :{f} returns a list of messages, not {value}")]
    NotAList {
        /// Position of the record.
        index: u64,
        /// The function.
        f: String,
        /// What is there.
        value: String,
    },
}

/// A history as the checks see it.
#[derive(Debug)]
pub struct Events<'h> {
    /// The history that it is from.
    pub history: &'h History,
    /// By number.
    pub messages: Vec<Message>,
    /// In order of completion.
    pub deliveries: Vec<Delivery>,
    /// In order of invocation.
    pub settles: Vec<Settle>,
    /// In order of completion.
    pub empties: Vec<Empty>,
    /// In order of invocation.
    pub unclear: Vec<Unclear>,
    /// In order of beginning.
    pub subscriptions: Vec<Subscription>,
    /// By number.
    pub consumers: Vec<Consumer>,
    /// Whether a consumer was recorded to go, which gives back what it has not settled.
    pub gives_back: bool,
    ids: Vec<Value>,
    topics: Vec<Value>,
    producers: Vec<Value>,
}

/// What a value says of a message.
struct Parsed<'v> {
    id: &'v Value,
    topic: Option<&'v Value>,
    producer: Option<&'v Value>,
    sequence: Option<i64>,
    redelivered: Option<bool>,
}

#[derive(Default)]
struct Names {
    ids: Numbering,
    topics: Numbering,
    producers: Numbering,
    consumers: FxHashMap<i64, u32>,
}

impl<'h> Events<'h> {
    /// Reads a history.
    pub fn new(history: &'h History) -> Result<Events<'h>, NotMessages> {
        let mut events = Events {
            history,
            messages: Vec::new(),
            deliveries: Vec::new(),
            settles: Vec::new(),
            empties: Vec::new(),
            unclear: Vec::new(),
            subscriptions: Vec::new(),
            consumers: Vec::new(),
            gives_back: false,
            ids: Vec::new(),
            topics: Vec::new(),
            producers: Vec::new(),
        };
        let mut names = Names::default();
        // The topic of messages that name none.
        names.topics.number(&Value::Nil);
        for (position, op) in crate::budget::ops(history).enumerate() {
            if op.op_type == OpType::Invoke && op.is_client() {
                events.read(position, &mut names)?;
            }
        }
        events.deliveries.sort_by_key(|delivery| delivery.complete);
        events.empties.sort_by_key(|empty| empty.complete);
        events.end_subscriptions();
        events.ids = names.ids.into_values();
        events.topics = names.topics.into_values();
        events.producers = names.producers.into_values();
        Ok(events)
    }

    fn read(&mut self, position: usize, names: &mut Names) -> Result<(), NotMessages> {
        let op = &self.history.ops()[position];
        let pair = self.history.pair(position);
        let done = pair.map(|pair| &self.history.ops()[pair]);
        let outcome = done.map_or(OpType::Info, |done| done.op_type);
        let Some(process) = op.process.client() else { return Ok(()) };
        let consumer = self.consumer(process, names);
        match op.f.as_str() {
            "publish" | "enqueue" | "broadcast" => self.publish(op, done, outcome, names)?,
            "consume" | "get" | "dequeue" | "receive" | "drain" => {
                self.take(op, done, outcome, consumer, names)?;
            }
            "ack" | "settle" | "discard" => {
                self.settle(op, done, outcome, Fate::Settled, names)?;
            }
            "nack" | "reject" | "requeue" => {
                self.settle(op, done, outcome, Fate::Returned, names)?;
            }
            "subscribe" | "unsubscribe" if outcome == OpType::Fail => {}
            "subscribe" => {
                let begin = done.filter(|_| outcome == OpType::Ok).map_or(NONE, |d| d.index as u32);
                for topic in topics(op) {
                    let topic = names.topics.number(topic);
                    self.subscriptions.push(Subscription { consumer, topic, begin, end: NONE });
                }
            }
            "unsubscribe" => {
                let topics: Vec<u32> =
                    topics(op).iter().map(|topic| names.topics.number(topic)).collect();
                let of_these = self.subscriptions.iter_mut();
                for subscription in of_these.filter(|s| {
                    s.consumer == consumer && s.end == NONE && topics.contains(&s.topic)
                }) {
                    subscription.end = position as u32;
                }
            }
            "connect" => {}
            "disconnect" | "crash" => {
                self.gives_back = true;
                self.lose(consumer, position as u32, names);
            }
            _ if outcome == OpType::Fail => {}
            f => return Err(NotMessages::UnknownF { index: op.index, f: f.to_owned() }),
        }
        // A process that does not know what became of an operation does not go on.
        if outcome == OpType::Info {
            self.lose(consumer, position as u32, names);
        }
        Ok(())
    }

    fn consumer(&mut self, process: i64, names: &mut Names) -> u32 {
        let next = self.consumers.len() as u32;
        let number = *names.consumers.entry(process).or_insert(next);
        if number == next {
            self.consumers.push(Consumer { process, lost: NONE, buffers: false });
        }
        number
    }

    /// A consumer is gone; should its process act again, it does so as a new one that has nothing.
    fn lose(&mut self, consumer: u32, position: u32, names: &mut Names) {
        let gone = &mut self.consumers[consumer as usize];
        gone.lost = gone.lost.min(position);
        if names.consumers.get(&gone.process) == Some(&consumer) {
            names.consumers.remove(&gone.process);
        }
    }

    fn message(&mut self, parsed: &Parsed, op: &Op, names: &mut Names) -> u32 {
        let number = names.ids.number(parsed.id);
        if number as usize == self.messages.len() {
            let of_op = || op.extra("topic").or_else(|| op.extra("queue"));
            let topic = parsed.topic.or_else(of_op).unwrap_or(&Value::Nil);
            self.messages.push(Message {
                topic: names.topics.number(topic),
                producer: NONE,
                sequence: None,
                attempts: 0,
                has_failed: false,
                invoke: NONE,
                confirm: NONE,
                place: 0,
                is_maybe_delivered: false,
            });
        }
        number
    }

    fn publish(
        &mut self,
        op: &Op,
        done: Option<&Op>,
        outcome: OpType,
        names: &mut Names,
    ) -> Result<(), NotMessages> {
        for (place, value) in (0..).zip(messages(op, &op.value)?) {
            let parsed = parse(value).ok_or_else(|| not_a_message(op, value))?;
            let number = self.message(&parsed, op, names);
            let process = Value::Int(op.process.client().unwrap_or_default());
            let producer = names.producers.number(parsed.producer.unwrap_or(&process));
            let topic = parsed.topic.or_else(|| op.extra("topic")).or_else(|| op.extra("queue"));
            let topic = topic.map(|topic| names.topics.number(topic));
            let message = &mut self.messages[number as usize];
            message.topic = topic.unwrap_or(message.topic);
            if outcome == OpType::Fail {
                message.has_failed = true;
                continue;
            }
            message.attempts += 1;
            if message.invoke == NONE {
                message.invoke = op.index as u32;
                message.producer = producer;
                message.sequence = parsed.sequence;
                message.place = place;
            }
            if let (OpType::Ok, Some(done)) = (outcome, done) {
                message.confirm = message.confirm.min(done.index as u32);
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        op: &Op,
        done: Option<&Op>,
        outcome: OpType,
        consumer: u32,
        names: &mut Names,
    ) -> Result<(), NotMessages> {
        let is_drain = op.f.as_str() == "drain";
        self.consumers[consumer as usize].buffers |=
            ["consume", "receive"].contains(&op.f.as_str());
        let topic = match op.extra("topic").or_else(|| op.extra("queue")).or(Some(&op.value)) {
            // What is asked for may be the queue.
            Some(Value::Nil) | None => NONE,
            Some(topic) => names.topics.number(topic),
        };
        let invoke = op.index as u32;
        let Some(done) = done.filter(|_| outcome != OpType::Info) else {
            for value in done.into_iter().filter(|d| d.value != op.value) {
                // It may say what it got before it went wrong.
                for value in messages(value, &value.value)? {
                    if let Some(parsed) = parse(value) {
                        let number = self.message(&parsed, op, names);
                        self.messages[number as usize].is_maybe_delivered = true;
                    }
                }
            }
            let count_max = if ["get", "dequeue"].contains(&op.f.as_str()) { 1 } else { NONE };
            self.unclear.push(Unclear { topic, consumer, invoke, count_max, is_drain });
            return Ok(());
        };
        let complete = done.index as u32;
        if outcome == OpType::Fail {
            let is_empty =
                done.error.as_text().is_some_and(|e| ["empty", "exhausted"].contains(&e));
            if is_empty && !is_drain {
                let topic = if topic == NONE { 0 } else { topic };
                self.empties.push(Empty { topic, consumer, invoke, complete, is_drain });
            }
            return Ok(());
        }
        let values = messages(done, &done.value)?;
        if is_drain || values.is_empty() {
            // A drain that names no queue is one of all; another look is one at the queue without a name.
            let topic = if topic == NONE && !is_drain { 0 } else { topic };
            self.empties.push(Empty { topic, consumer, invoke, complete, is_drain });
        }
        for value in values {
            let parsed = parse(value).ok_or_else(|| not_a_message(done, value))?;
            let message = self.message(&parsed, done, names);
            let known = self.messages[message as usize];
            let other = |producer: &Value| {
                known.producer != NONE && names.producers.value(known.producer) != producer
            };
            let is_altered = parsed.producer.is_some_and(other)
                || (parsed.sequence.is_some()
                    && known.invoke != NONE
                    && parsed.sequence != known.sequence);
            let redelivered = parsed.redelivered;
            self.deliveries.push(Delivery {
                message,
                consumer,
                invoke,
                complete,
                redelivered,
                is_drained: is_drain,
                is_altered,
            });
        }
        Ok(())
    }

    fn settle(
        &mut self,
        op: &Op,
        done: Option<&Op>,
        outcome: OpType,
        fate: Fate,
        names: &mut Names,
    ) -> Result<(), NotMessages> {
        // Here a list is one of ids or of messages; of several operations, one may be told to settle.
        let values = match &op.value {
            Value::List(items) | Value::Tuple(items) => items.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            let parsed = parse(value).ok_or_else(|| not_a_message(op, value))?;
            let message = self.message(&parsed, op, names);
            let complete = done.map_or(NONE, |done| done.index as u32);
            self.settles.push(Settle { message, fate, invoke: op.index as u32, complete, outcome });
        }
        Ok(())
    }

    /// A consumer that is gone is subscribed to nothing.
    fn end_subscriptions(&mut self) {
        for subscription in &mut self.subscriptions {
            let lost = self.consumers[subscription.consumer as usize].lost;
            subscription.end = subscription.end.min(lost);
        }
    }

    /// The id of a message, as text.
    pub fn id(&self, message: u32) -> String {
        shown(&self.ids[message as usize])
    }

    /// A topic as text, ` of :t`; nothing for the only one.
    pub fn of_topic(&self, topic: u32) -> String {
        match self.topics.get(topic as usize) {
            None | Some(Value::Nil) => String::new(),
            Some(topic) => format!(" of {topic}"),
        }
    }

    /// A topic, as text.
    pub fn topic(&self, topic: u32) -> String {
        self.topics.get(topic as usize).map(Value::to_string).unwrap_or_default()
    }

    /// How many topics.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The producer of a message, as text.
    pub fn producer(&self, message: u32) -> String {
        let producer = self.messages[message as usize].producer;
        self.producers.get(producer as usize).map(Value::to_string).unwrap_or_default()
    }

    /// Positions of both records of an operation, from its invocation.
    pub fn records(&self, invoke: u32) -> impl Iterator<Item = u64> {
        let pair = self.history.pair(invoke as usize);
        std::iter::once(u64::from(invoke)).chain(pair.map(|pair| pair as u64))
    }

    /// Positions of the records that published a message.
    pub fn published(&self, message: u32) -> impl Iterator<Item = u64> {
        let invoke = Some(self.messages[message as usize].invoke).filter(|invoke| *invoke != NONE);
        invoke.into_iter().flat_map(|invoke| self.records(invoke))
    }

    /// `process 3 at record 17`.
    pub fn who(&self, position: u32) -> String {
        let op = &self.history.ops()[position as usize];
        format!("process {} at record {}", op.process, op.index)
    }
}

fn not_a_message(op: &Op, value: &Value) -> NotMessages {
    NotMessages::NotAMessage { index: op.index, value: shown(value) }
}

/// The topics that an operation names; none is the only one.
fn topics(op: &Op) -> &[Value] {
    op.value.items().unwrap_or(std::slice::from_ref(&op.value))
}

/// The messages of a value. A list of `:drain` and `:receive` is always one of messages; that of others is
/// one message if it begins with an id.
fn messages<'v>(op: &Op, value: &'v Value) -> Result<&'v [Value], NotMessages> {
    let is_list = matches!(op.f.as_str(), "drain" | "receive");
    match value {
        Value::Nil => Ok(&[]),
        Value::List(items) if items.is_empty() => Ok(&[]),
        Value::List(items) | Value::Tuple(items)
            if is_list || items.first().is_some_and(is_composed) =>
        {
            Ok(items)
        }
        value if is_list => {
            Err(NotMessages::NotAList { index: op.index, f: op.f.to_string(), value: shown(value) })
        }
        value => Ok(std::slice::from_ref(value)),
    }
}

fn is_composed(value: &Value) -> bool {
    matches!(value, Value::List(_) | Value::Tuple(_) | Value::Map(_))
}

fn parse(value: &Value) -> Option<Parsed<'_>> {
    let flag = |value: Option<&Value>| match value {
        Some(Value::Bool(flag)) => Some(*flag),
        _ => None,
    };
    match value {
        Value::Nil | Value::Set(_) => None,
        Value::List(parts) | Value::Tuple(parts) => match parts.as_slice() {
            [id, producer, Value::Int(sequence), rest @ ..] if rest.len() <= 1 => Some(Parsed {
                id,
                topic: None,
                producer: Some(producer),
                sequence: Some(*sequence),
                redelivered: flag(rest.first()),
            }),
            _ => None,
        },
        Value::Map(_) => Some(Parsed {
            id: value.get("id")?,
            topic: value.get("topic").or_else(|| value.get("queue")),
            producer: value.get("producer"),
            sequence: value.get("sequence").and_then(Value::as_int),
            redelivered: flag(value.get("redelivered").or_else(|| value.get("redelivered?"))),
        }),
        id => Some(Parsed { id, topic: None, producer: None, sequence: None, redelivered: None }),
    }
}
