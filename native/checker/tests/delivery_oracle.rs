//! `delivery` against a broker written out as a machine: whatever the machine can do must not be called
//! invalid, and much of what it cannot do must be.
//!
//! The oracle tries every moment at which each operation can take effect, whether each that ended with
//! info does, and every moment at which a message that may go back does.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::HashSet;

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{History, OpType, Value, Verdict};
use serde_json::json;

const MESSAGES: usize = 3;

/// Sets of messages are bits.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Broker {
    available: u8,
    /// Settled, or gone.
    done: u8,
    /// Who holds each message that is delivered.
    holder: [i8; MESSAGES],
    /// By message: holders from whom it may go back once, since their settlement was not certainly heard.
    loose: [u8; MESSAGES],
    /// Consumers that are lost.
    lost: u8,
    /// Operations that have begun and not taken effect.
    open: u32,
    position: usize,
}

struct Oracle<'h> {
    history: &'h History,
    promise: &'static str,
    auto_ack: bool,
    seen: HashSet<Broker>,
}

fn messages(value: &Value) -> u8 {
    match value {
        Value::Int(n) => 1 << n,
        Value::List(items) => items.iter().map(messages).fold(0, |a, b| a | b),
        _ => 0,
    }
}

impl Oracle<'_> {
    /// Whether the rest of the history is possible.
    fn search(&mut self, broker: Broker) -> bool {
        if broker.position == self.history.len() {
            return true;
        }
        if !self.seen.insert(broker.clone()) {
            return false;
        }
        if self.advance(&broker).is_some_and(|next| self.search(next)) {
            return true;
        }
        for number in (0..32).filter(|number| broker.open >> number & 1 == 1) {
            let mut nexts = self.effects(&broker, number);
            nexts.iter_mut().for_each(|next| next.open &= !(1 << number));
            if nexts.into_iter().any(|next| self.search(next)) {
                return true;
            }
        }
        self.spontaneous(&broker).into_iter().any(|next| self.search(next))
    }

    /// What happens by itself: messages go back, or get lost where that is allowed.
    fn spontaneous(&self, broker: &Broker) -> Vec<Broker> {
        let mut nexts = Vec::new();
        for message in 0..MESSAGES {
            let bit = 1 << message;
            let holder = broker.holder[message];
            let may_return = match self.promise {
                "at-most-once" => false,
                "at-least-once" => true,
                _ => holder >= 0 && (broker.loose[message] | broker.lost) >> holder & 1 == 1,
            };
            if holder >= 0 && may_return {
                let mut next = broker.clone();
                next.holder[message] = -1;
                next.loose[message] &= !(1 << holder);
                next.available |= bit;
                nexts.push(next);
            }
            if broker.available & bit != 0 && self.promise == "at-most-once" {
                let mut next = broker.clone();
                next.available &= !bit;
                nexts.push(next);
            }
        }
        nexts
    }

    /// The next record, if what it says is so.
    fn advance(&self, broker: &Broker) -> Option<Broker> {
        let op = &self.history.ops()[broker.position];
        let process = op.process.client().unwrap();
        let mut next = broker.clone();
        next.position += 1;
        let pair = self.history.pair(broker.position);
        if op.op_type == OpType::Invoke {
            let outcome = pair.map_or(OpType::Info, |pair| self.history.ops()[pair].op_type);
            if outcome != OpType::Fail {
                next.open |= 1 << broker.position;
            }
            if op.f.as_str() == "ack" && outcome != OpType::Ok {
                for (message, holders) in next.loose.iter_mut().enumerate() {
                    *holders |= (messages(&op.value) >> message & 1) << process;
                }
            }
            // Whoever does not know what became of an operation is gone.
            if op.f.as_str() == "crash" || outcome == OpType::Info {
                next.lost |= 1 << process;
            }
            return Some(next);
        }
        let is_open = broker.open >> pair? & 1 == 1;
        (op.op_type != OpType::Ok || !is_open).then_some(next)
    }

    /// What an open operation can do now.
    fn effects(&self, broker: &Broker, number: usize) -> Vec<Broker> {
        let op = &self.history.ops()[number];
        let process = op.process.client().unwrap() as i8;
        let done = self.history.pair(number).map(|pair| &self.history.ops()[pair]);
        let is_ok = done.is_some_and(|done| done.op_type == OpType::Ok);
        let take = |broker: &Broker, message: usize| {
            let mut next = broker.clone();
            next.available &= !(1 << message);
            match self.auto_ack {
                true => next.done |= 1 << message,
                false => next.holder[message] = process,
            }
            next
        };
        let of = |set: u8| (0..MESSAGES).filter(move |message| set >> message & 1 == 1);
        match op.f.as_str() {
            "publish" => {
                let mut next = broker.clone();
                next.available |= messages(&op.value);
                vec![next]
            }
            "get" if !is_ok => of(broker.available).map(|message| take(broker, message)).collect(),
            "get" => match messages(&done.unwrap().value) {
                0 if broker.available == 0 => vec![broker.clone()],
                0 => vec![],
                set => of(set & broker.available).map(|message| take(broker, message)).collect(),
            },
            "ack" | "nack" => {
                let message = of(messages(&op.value)).next().unwrap();
                if broker.holder[message] != process {
                    return vec![];
                }
                let mut next = broker.clone();
                next.holder[message] = -1;
                match op.f.as_str() {
                    "ack" => next.done |= 1 << message,
                    _ => next.available |= 1 << message,
                }
                vec![next]
            }
            "drain" => {
                let is_idle = broker.holder.iter().all(|holder| *holder < 0);
                // What others hold is given back before.
                let mut next = broker.clone();
                for message in 0..MESSAGES {
                    if broker.holder[message] >= 0 && self.promise != "at-most-once" {
                        next.available |= 1 << message;
                        next.holder[message] = -1;
                    }
                }
                let fits =
                    next.available == messages(&done.map_or(Value::Nil, |d| d.value.clone()));
                next.done |= next.available;
                next.available = 0;
                if fits && (is_idle || self.promise != "at-most-once") {
                    vec![next]
                } else {
                    vec![]
                }
            }
            _ => vec![broker.clone()],
        }
    }
}

fn possible(history: &History, promise: &'static str, auto_ack: bool) -> bool {
    let mut oracle = Oracle { history, promise, auto_ack, seen: HashSet::new() };
    oracle.search(Broker {
        available: 0,
        done: 0,
        holder: [-1; MESSAGES],
        loose: [0; MESSAGES],
        lost: 0,
        open: 0,
        position: 0,
    })
}

/// A few operations of a few processes, mostly sensible, and perhaps a drain at the end.
fn random(random: &mut Random) -> History {
    let mut builder = Builder::default();
    let mut alive: Vec<i64> = vec![0, 1, 2];
    let mut open: Vec<Option<(&str, Value)>> = vec![None; 8];
    let (mut published, mut settled) = (0, [false; MESSAGES]);
    let mut got: Vec<(i64, i64)> = Vec::new();
    for _ in 0..6 + random.below(9) {
        let place = random.below(alive.len());
        let process = alive[place];
        if let Some((f, value)) = open[process as usize].take() {
            let dice = random.below(100);
            let outcome = match dice {
                0..8 => OpType::Info,
                8..14 => OpType::Fail,
                _ => OpType::Ok,
            };
            let result = match f {
                "get" if outcome == OpType::Ok && random.chance(80) && published > 0 => {
                    let message = random.below(published as usize) as i64;
                    got.push((process, message));
                    int(message)
                }
                "get" => Value::Nil,
                _ => value,
            };
            builder.push(process, outcome, f, result);
            if outcome == OpType::Info || f == "crash" {
                alive[place] = *alive.iter().max().unwrap() + 1;
                if alive[place] > 6 {
                    break;
                }
            }
            continue;
        }
        let mine: Vec<i64> = got.iter().filter(|(p, _)| *p == process).map(|(_, m)| *m).collect();
        let (f, value) = match random.below(10) {
            0..3 if published < MESSAGES as i64 => {
                published += 1;
                ("publish", int(published - 1))
            }
            0..6 => ("get", Value::Nil),
            6..8 if !mine.is_empty() => {
                let message = mine[random.below(mine.len())];
                if std::mem::replace(&mut settled[message as usize], true) {
                    continue;
                }
                (if random.chance(75) { "ack" } else { "nack" }, int(message))
            }
            8 => ("crash", Value::Nil),
            _ => continue,
        };
        builder.invoke(process, f, value.clone());
        open[process as usize] = Some((f, value));
    }
    if random.chance(60) {
        for process in alive {
            if let Some((f, value)) = open[process as usize].take() {
                builder.push(process, OpType::Info, f, value);
            }
        }
        let rest = (0..published).filter(|_| random.chance(50)).map(int).collect::<Vec<_>>();
        builder.done(7, "drain", Value::Nil, Value::list(rest));
    }
    builder.history()
}

#[test]
fn nothing_that_a_broker_can_do_is_called_invalid() {
    let (mut possible_count, mut caught, mut missed) = (0u64, 0u64, 0u64);
    for seed in 0..cases(2_000) {
        let history = random(&mut Random(seed));
        for promise in ["at-most-once", "at-least-once", "exactly-once"] {
            for auto_ack in [false, true] {
                let options =
                    json!({"delivery": promise, "auto-ack": auto_ack, "ordering": "none"});
                let result = check("delivery", options, &history);
                let is_possible = possible(&history, promise, auto_ack);
                let is_invalid = result.verdict == Verdict::Invalid;
                assert!(
                    !(is_possible && is_invalid),
                    "seed {seed}, {promise}, auto-ack {auto_ack}: {}\n{}",
                    result.reason,
                    show(&history)
                );
                match (is_possible, is_invalid) {
                    (true, _) => possible_count += 1,
                    (false, true) => caught += 1,
                    (false, false) => missed += 1,
                }
            }
        }
    }
    println!("possible {possible_count}, caught {caught}, impossible and not caught {missed}");
    assert!(possible_count > 1_000 && caught > 500, "{possible_count} {caught} {missed}");
}
