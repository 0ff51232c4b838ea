//! `delivery`: do the messages of a queue, or of publishers and subscribers, arrive as promised?
//!
//! For RabbitMQ, Oban and Broadway, for Phoenix.PubSub, `:pg` and watches of Mnesia or Khepri: what
//! `total-queue` does not say, which is order, redelivery, settlement, and who was to get what. Anomalies:
//! `lost`, `duplicated`, `reordered`, `redelivered-after-settle`, `redelivered-flag-wrong`, `stuck`,
//! `phantom`, and for subscribers `divergent-order`: there is no one order of the messages of a topic of
//! which each of them got a part. `doc/delivery.md` tells how to record a system.
//!
//! Reading order: [`events`] (the history in flat arrays), [`queue`] and [`pubsub`] (who was to get what),
//! [`order`]. Everything is linear, but for sorting. An anomaly is told only if every way in which the
//! operations that ended with info may have gone has one.

pub mod events;
pub mod order;
pub mod pubsub;
pub mod queue;

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Verdict};

use crate::budget::{Exhausted, Meter};
use crate::delivery::events::{Events, NotMessages};
use crate::elle::findings::Findings;
use crate::elle::graph::NONE;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, or_unknown};

/// Confirmed, and it never comes.
pub const LOST: &str = "lost";
/// Delivered more often than allowed.
pub const DUPLICATED: &str = "duplicated";
/// Delivered behind something that was published later.
pub const REORDERED: &str = "reordered";
/// Delivered though it had been settled.
pub const REDELIVERED_AFTER_SETTLE: &str = "redelivered-after-settle";
/// Delivered as if for the first time.
pub const REDELIVERED_FLAG: &str = "redelivered-flag-wrong";
/// Neither delivered nor settled, and not to be had.
pub const STUCK: &str = "stuck";
/// Delivered though nobody published it, or not yet, or in vain.
pub const PHANTOM: &str = "phantom";
/// Subscribers saw contradicting orders.
pub const DIVERGENT_ORDER: &str = "divergent-order";

/// What people read about `delivery`.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "delivery",
    about: "Whether messages arrive as promised, on :publish, :consume, :get, :receive, :drain, :ack, :nack, \
            :discard, :subscribe, :unsubscribe, :disconnect and :crash, whose values are an id, [id producer \
            sequence redelivered?] or a map of these (doc/delivery.md): lost, duplicated, reordered, \
            redelivered-after-settle, redelivered-flag-wrong, stuck, phantom, divergent-order. A queue \
            that is never drained leaves what was not delivered unknown.",
    needs: &[
        need("published", "no message was published"),
        need("delivered", "no message was delivered"),
    ],
    options: &[
        OptionInfo {
            name: "mode",
            default: "queue",
            about: "queue (each message goes to one consumer) or pubsub (to every subscriber)",
        },
        OptionInfo {
            name: "delivery",
            default: "at-least-once; for pubsub exactly-once",
            about: "at-most-once (nothing twice), at-least-once (nothing lost) or exactly-once (neither, \
                    but for what was or may have been given back)",
        },
        OptionInfo {
            name: "ordering",
            default: "per-producer",
            about: "none, per-producer, or per-queue (per-topic is the same)",
        },
        OptionInfo {
            name: "auto-ack",
            default: "false",
            about: "whether a message is settled by being delivered (without it, a history in which nothing \
                    is ever settled is unknown)",
        },
        OptionInfo {
            name: "client-ack",
            default: "false",
            about: "whether an operation that is ok has acknowledged what it got, with no answer from the \
                    broker: done with, and it may come again",
        },
        OptionInfo {
            name: "redelivered-flag",
            default: "false",
            about: "whether a delivery must say that it is not the first",
        },
        OptionInfo {
            name: "redelivery-order",
            default: "false",
            about: "whether order also holds for what was given back",
        },
    ],
};

/// How often a message may arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Once or never.
    AtMostOnce,
    /// Once or more.
    AtLeastOnce,
    /// Once.
    ExactlyOnce,
}

/// What order is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// None.
    None,
    /// Of the messages of one producer.
    PerProducer,
    /// Of all messages of a queue or topic.
    PerQueue,
}

/// The checker: what the system promises.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// Whether every subscriber gets each message.
    pub is_pubsub: bool,
    /// How often.
    pub promise: Delivery,
    /// In which order.
    pub ordering: Ordering,
    /// Whether delivering settles.
    pub auto_ack: bool,
    /// Whether the client acknowledges what it got within the same operation, heard or not.
    pub client_ack: bool,
    /// Whether a redelivery must be marked.
    pub redelivered_flag: bool,
    /// Whether a redelivery keeps the order.
    pub redelivery_order: bool,
}

/// What could not be decided.
#[derive(Debug, Default, Clone, Copy)]
pub struct Undecided {
    /// Messages that may still be in a queue that nobody drained.
    pub not_drained: u64,
    /// Messages that operations with an unknown result may have got.
    pub hidden: u64,
    /// Messages that were delivered and not settled, be that as it should or not.
    pub unsettled: u64,
    /// Messages that were delivered in a history in which nothing was ever settled.
    pub never_settled: u64,
}

/// Builds `delivery`.
pub fn build(options: &Options) -> Result<Queue, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let is_pubsub = reader.word("mode", &["queue", "pubsub"], "queue")? == "pubsub";
    let usual = if is_pubsub { "exactly-once" } else { "at-least-once" };
    let promises = ["at-most-once", "at-least-once", "exactly-once"];
    let orders = ["none", "per-producer", "per-queue", "per-topic"];
    Ok(Queue {
        is_pubsub,
        promise: match reader.word("delivery", &promises, usual)? {
            "at-most-once" => Delivery::AtMostOnce,
            "at-least-once" => Delivery::AtLeastOnce,
            _ => Delivery::ExactlyOnce,
        },
        ordering: match reader.word("ordering", &orders, "per-producer")? {
            "none" => Ordering::None,
            "per-producer" => Ordering::PerProducer,
            _ => Ordering::PerQueue,
        },
        auto_ack: reader.bool("auto-ack", false)?,
        client_ack: reader.bool("client-ack", false)?,
        redelivered_flag: reader.bool("redelivered-flag", false)?,
        redelivery_order: reader.bool("redelivery-order", false)?,
    })
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("not checked: {0}")]
    NotMessages(#[from] NotMessages),
    #[error("undecided: {0} while looking for an order; a larger budget would help")]
    Exhausted(#[from] Exhausted),
}

impl Queue {
    /// Whether the delivery of another message proves that one should have come before it.
    fn is_ordered(&self, events: &Events, message: u32, delivery: u32) -> bool {
        let other = events.deliveries[delivery as usize].message;
        let (one, other) = (events.messages[message as usize], events.messages[other as usize]);
        match self.ordering {
            Ordering::None => false,
            Ordering::PerProducer => one.producer == other.producer,
            Ordering::PerQueue => true,
        }
    }

    fn infer(&self, history: &History, meter: &Meter) -> Result<CheckResult, Stop> {
        let events = Events::new(history)?;
        meter.check_time()?;
        let mut found = Findings::default();
        phantoms(&events, &mut found);
        let undecided = match self.is_pubsub {
            true => pubsub::check(&events, self, &mut found),
            false => queue::check(&events, self, &mut found),
        };
        meter.check_time()?;
        order::reordered(&events, self, &mut found);
        if self.is_pubsub && self.ordering == Ordering::PerQueue {
            order::divergent(&events, meter, &mut found)?;
        }
        Ok(self.judge(&events, found, undecided))
    }

    fn judge(&self, events: &Events, found: Findings, undecided: Undecided) -> CheckResult {
        let published = events.messages.iter().filter(|message| message.attempts > 0).count();
        let confirmed = events.messages.iter().filter(|message| message.confirm != NONE).count();
        let Undecided { not_drained, hidden, unsettled, never_settled } = undecided;
        let (verdict, reason) = if !found.0.is_empty() {
            let kinds = found.0.iter().map(|(name, finding)| format!("{name} ({})", finding.count));
            (Verdict::Invalid, format!("found {}", kinds.collect::<Vec<_>>().join(", ")))
        } else if events.deliveries.is_empty() || published == 0 {
            let what = if published == 0 { "published" } else { "delivered" };
            (Verdict::Unknown, format!("nothing to judge by: no message was {what}"))
        } else if never_settled > 0 {
            let text = format!(
                "nothing was ever settled (no :ack, :nack or :discard), so whether {never_settled} messages \
                 that were delivered may be gone is not known: set auto-ack=true if a delivery settles a \
                 message"
            );
            (Verdict::Unknown, text)
        } else if not_drained > 0 {
            let text = format!(
                "{not_drained} confirmed messages were not delivered, or not settled, but may still come: \
                 end with a :drain, when every consumer is closed"
            );
            (Verdict::Unknown, text)
        } else if hidden > 0 {
            let text = format!(
                "{hidden} confirmed messages never came, but operations whose result is unknown may have \
                 got them"
            );
            (Verdict::Unknown, text)
        } else {
            let count = events.deliveries.len();
            (Verdict::Valid, format!("{count} deliveries of {published} messages are as promised"))
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        let redelivered = {
            let mut seen = vec![false; events.messages.len()];
            let again =
                |d: &&events::Delivery| std::mem::replace(&mut seen[d.message as usize], true);
            events.deliveries.iter().filter(again).count()
        };
        for (name, count) in [
            ("published", published),
            ("confirmed", confirmed),
            ("delivered", events.deliveries.len()),
            ("delivered-again", redelivered),
            ("unsettled", unsettled as usize),
            ("not-drained", not_drained as usize),
            ("maybe-delivered", hidden as usize),
        ] {
            result.counts.insert(name.to_owned(), count as u64);
        }
        for (name, finding) in found.0 {
            result.counts.insert(name.to_owned(), finding.count);
            result.anomalies.extend(finding.shown);
        }
        result
    }
}

/// Deliveries of what nobody published, or not by then, or what was not what was published.
fn phantoms(events: &Events, found: &mut Findings) {
    for delivery in &events.deliveries {
        let message = events.messages[delivery.message as usize];
        let why = if message.attempts == 0 && message.has_failed {
            "the publication of which had failed"
        } else if message.attempts == 0 {
            "which nobody published"
        } else if delivery.complete < message.invoke {
            "which was only published later"
        } else if delivery.is_altered {
            "which was published with another producer or sequence"
        } else {
            continue;
        };
        found.add(PHANTOM, || {
            let (id, got) = (events.id(delivery.message), events.who(delivery.invoke));
            let ops = events.published(delivery.message).chain(events.records(delivery.invoke));
            let text = format!("{got} got {id}, {why}");
            Anomaly { key: Some(id), text, ops: ops.collect(), ..Anomaly::default() }
        });
    }
}

impl Checker for Queue {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        or_unknown(INFO.name, self.infer(history, meter))
    }
}
