//! Calls that never return, when there are many.
//!
//! Each call that may have happened stays possible for ever, and with hundreds of them configurations
//! differ in which were used up long after that has ceased to matter. So two simpler problems are tried
//! first, in turns and with few steps each, between which the true one lies:
//! - *Expiring:* of each class only the latest few can still take effect; older ones never do. An order found so
//!   is an order. If there is none, that says nothing.
//! - *Unlimited:* of each class, the first few can take effect once each and one more any number of times. If
//!   even so there is no order, there is none. If there is one, that says nothing.
//!
//! A history decided by neither in the steps allowed is searched as it is, with more steps each time, at
//! last without a limit but the budget.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::linearizable::search::{Call, NEVER};

/// What calls that never return can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forever {
    /// What they could.
    Exact,
    /// Of each class only so many can take effect, the latest.
    Expiring(u32),
    /// Of each class the first so many can take effect once, one more any number of times.
    Unlimited(u32),
}

/// One try.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// What calls that never return can do.
    pub forever: Forever,
    /// After how many steps it ends; `None` when only the budget ends it.
    pub steps_max: Option<u64>,
}

/// With at most so many calls that never return, the problem is searched as it is.
const FEW: usize = 12;
/// How often the simpler problems are tried.
const ROUNDS: u32 = 4;
/// Steps of the first try, beyond some for each call.
const STEPS_FIRST: u64 = 100_000;
/// Steps of the first try for each call.
const STEPS_PER_CALL: u64 = 100;
/// How many times more steps each round has.
const STEPS_FACTOR: u64 = 6;

/// What to try, in order, before the problem itself is searched without a limit of steps.
pub fn attempts(calls: &[Call]) -> impl Iterator<Item = Attempt> + use<> {
    let is_many = calls.iter().filter(|call| call.ret == NEVER).count() > FEW;
    let steps = STEPS_FIRST + STEPS_PER_CALL * calls.len() as u64;
    let rounds = if is_many { ROUNDS } else { 0 };
    (0..rounds).flat_map(move |round| {
        let steps_max = Some(steps.saturating_mul(STEPS_FACTOR.pow(round)));
        [Forever::Expiring(1 << round), Forever::Unlimited((1 << round) - 1), Forever::Exact]
            .map(|forever| Attempt { forever, steps_max })
    })
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It opens.
    Invoke = 0,
    /// It opens, and may take effect any number of times.
    InvokeUnlimited = 1,
    /// It returns: it must have taken effect.
    Return = 2,
    /// It can take effect no more, whether it did or not.
    Expire = 3,
}

/// A moment of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event(u32);

impl Event {
    fn new(call: usize, moment: Moment) -> Event {
        Event((call as u32) << 2 | moment as u32)
    }

    /// Index of the call.
    pub fn call(self) -> usize {
        (self.0 >> 2) as usize
    }

    /// Which moment.
    pub fn moment(self) -> Moment {
        match self.0 & 3 {
            0 => Moment::Invoke,
            1 => Moment::InvokeUnlimited,
            2 => Moment::Return,
            _ => Moment::Expire,
        }
    }
}

/// The moments of all calls, in order.
pub fn events(calls: &[Call], forever: Forever) -> Vec<Event> {
    let mut returns: Vec<(u32, u32)> = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| call.ret != NEVER)
        .map(|(i, call)| (call.ret, i as u32))
        .collect();
    returns.sort_unstable();
    let mut events = Vec::with_capacity(calls.len() + returns.len());
    let mut returns = returns.into_iter().peekable();
    // The calls of each class that never return, so far.
    let mut so_far: HashMap<u32, Vec<usize>, FxBuildHasher> = HashMap::default();
    for (i, call) in calls.iter().enumerate() {
        while let Some((_, returned)) = returns.next_if(|(ret, _)| *ret < call.invoke) {
            events.push(Event::new(returned as usize, Moment::Return));
        }
        if call.ret != NEVER || forever == Forever::Exact {
            events.push(Event::new(i, Moment::Invoke));
            continue;
        }
        let earlier = so_far.entry(call.class).or_default();
        match forever {
            Forever::Expiring(count) => {
                if let Some(before) = earlier.len().checked_sub(count as usize) {
                    events.push(Event::new(earlier[before], Moment::Expire));
                }
                events.push(Event::new(i, Moment::Invoke));
            }
            Forever::Unlimited(count) if earlier.len() < count as usize => {
                events.push(Event::new(i, Moment::Invoke));
            }
            _ if earlier.len() == count_of(forever) => {
                events.push(Event::new(i, Moment::InvokeUnlimited));
            }
            _ => {}
        }
        earlier.push(i);
    }
    events.extend(returns.map(|(_, returned)| Event::new(returned as usize, Moment::Return)));
    events
}

fn count_of(forever: Forever) -> usize {
    match forever {
        Forever::Unlimited(count) | Forever::Expiring(count) => count as usize,
        Forever::Exact => usize::MAX,
    }
}

/// The most calls that are open at one moment.
pub fn open_max(events: &[Event]) -> usize {
    let (mut open, mut max) = (0usize, 0);
    for event in events {
        match event.moment() {
            Moment::Invoke | Moment::InvokeUnlimited => {
                open += 1;
                max = max.max(open);
            }
            Moment::Return | Moment::Expire => open -= 1,
        }
    }
    max
}
