//! Depth-first: one order after the other, and no configuration twice.
//!
//! **Method.** Wing and Gong, "Testing and verifying concurrent objects" (1993), with Lowe's memory of
//! configurations ("Testing for linearizability", 2017), as Porcupine does it: take any open call that the state
//! allows, go on, and come back when a call returns that has not taken effect. A configuration, that is
//! the calls that took effect and the state, is remembered, and not entered again.
//!
//! What keeps orders few, each without losing exactness:
//! - An observer takes effect as soon as the state allows it.
//! - Of two open calls of one class, the one that returns earlier goes first; calls that never return go
//!   last, and only if they change the state.
//! - A state that cannot lead to what must be seen next is left at once (see [`super::demands`]).
//!
//! **Memory.** A configuration is remembered by a fingerprint of 128 bits, 16 bytes whatever the length of the
//! history; the keys of fingerprints are drawn for each process. Two of 10^9 configurations share one with
//! a probability below 10^-20. When the share of memory is used up, what is remembered is forgotten,
//! except the present order: that costs time, never the answer.
//!
//! It finds an order at once where there are many, as breadth-first does not, and pays for every order
//! where there is none: see [`super::portfolio`].

use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use crate::budget::{Exhausted, Meter};
use crate::linearizable::model::{IMPOSSIBLE, Kind, Machine};
use crate::linearizable::search::demands::Demands;
use crate::linearizable::search::line::Line;
use crate::linearizable::search::{Call, GaveUp, NEVER, Outcome, SearchStats, Stuck};

/// How many steps between two looks at the budget.
const STEPS_PER_LOOK: u64 = 1 << 10;
/// What a remembered configuration takes in the table, on average.
const REMEMBERED_BYTES: u64 = 28;
/// No call.
const NO_CALL: u32 = u32::MAX;

/// Searches; `None` if it takes more than `steps_max` steps.
pub fn search<M: Machine>(
    machine: &mut M,
    calls: &[Call],
    meter: &Meter,
    steps_max: Option<u64>,
) -> Option<Outcome> {
    match Depth::new(machine, calls, meter, steps_max).run() {
        Ok(None) => None,
        Ok(Some(outcome)) => Some(outcome),
        Err(gave_up) => Some(Outcome::GaveUp(gave_up)),
    }
}

/// Fingerprints are random already.
#[derive(Debug, Default, Clone, Copy)]
struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }
}

/// Calls that may have happened, of one class, in order of invocation.
struct Maybes {
    class: u32,
    calls: Vec<u32>,
    /// How many of them took effect: the first ones, since they are alike.
    used: usize,
}

/// One step of the present order.
struct Frame {
    /// The state after it.
    state: u32,
    /// The call that took effect; [`NO_CALL`] at the start.
    call: u32,
    /// Where its candidates begin, and which is next.
    from: usize,
    next: usize,
    /// Where the observers begin that took effect with it.
    absorbed_from: usize,
}

/// What a configuration turned out to be.
enum Entered {
    Linearizable,
    Dead,
    Open,
}

struct Depth<'a, M> {
    machine: &'a mut M,
    calls: &'a [Call],
    meter: &'a Meter,
    steps_max: u64,
    line: Line,
    maybes: Vec<Maybes>,
    maybe_of_class: Vec<u32>,
    demands: Option<Demands>,
    /// Calls that took effect.
    done: Vec<bool>,
    fingerprint: u128,
    seed: [u64; 2],
    seen: std::collections::HashSet<u128, BuildHasherDefault<Plain>>,
    frames: Vec<Frame>,
    /// What can be tried in each frame: call and state after it.
    candidates: Vec<(u32, u32)>,
    absorbed: Vec<u32>,
    /// Best candidate of each class, and in which visit it was set.
    best_of_class: Vec<(u64, u32)>,
    visit: u64,
    stats: SearchStats,
    /// The return that no order got past, its call, and the observer that made the last state useless.
    reach: (u32, u32, Option<u32>),
}

impl<'a, M: Machine> Depth<'a, M> {
    fn new(
        machine: &'a mut M,
        calls: &'a [Call],
        meter: &'a Meter,
        steps_max: Option<u64>,
    ) -> Depth<'a, M> {
        let class_count = calls.iter().map(|call| call.class as usize + 1).max().unwrap_or(0);
        let mut maybes: Vec<Maybes> = Vec::new();
        let mut maybe_of_class = vec![NO_CALL; class_count];
        for (i, call) in (0u32..).zip(calls).filter(|(_, call)| call.ret == NEVER) {
            let place = &mut maybe_of_class[call.class as usize];
            if *place == NO_CALL {
                *place = maybes.len() as u32;
                maybes.push(Maybes { class: call.class, calls: Vec::new(), used: 0 });
            }
            maybes[*place as usize].calls.push(i);
        }
        let random = RandomState::new();
        Depth {
            demands: machine.has_demands().then(|| Demands::new(machine, calls)),
            machine,
            calls,
            meter,
            steps_max: steps_max.unwrap_or(u64::MAX),
            line: Line::new(calls),
            maybes,
            maybe_of_class,
            done: vec![false; calls.len()],
            fingerprint: 0,
            seed: [random.hash_one(1), random.hash_one(2)],
            seen: Default::default(),
            frames: Vec::new(),
            candidates: Vec::new(),
            absorbed: Vec::new(),
            best_of_class: vec![(0, 0); class_count],
            visit: 0,
            stats: SearchStats::default(),
            reach: (0, NO_CALL, None),
        }
    }

    fn run(mut self) -> Result<Option<Outcome>, Box<GaveUp>> {
        let initial = self.machine.initial();
        let mut entered = self.enter(initial, NO_CALL);
        while !matches!(entered, Entered::Linearizable) {
            self.stats.steps += 1;
            if self.stats.steps.is_multiple_of(STEPS_PER_LOOK) {
                if self.stats.steps > self.steps_max {
                    return Ok(None);
                }
                if let Err(why) = self.look() {
                    return Err(Box::new(self.gave_up(why)));
                }
            }
            let Some(frame) = self.frames.last_mut() else { return Ok(Some(self.stuck())) };
            if frame.next == self.candidates.len() {
                self.leave();
                continue;
            }
            let (call, state) = self.candidates[frame.next];
            frame.next += 1;
            self.take(call);
            entered = self.enter(state, call);
        }
        Ok(Some(Outcome::Linearizable(self.stats)))
    }

    /// The configuration that `call` led to. If it is dead, the call is taken back.
    fn enter(&mut self, state: u32, call: u32) -> Entered {
        let absorbed_from = self.absorbed.len();
        let Some(first_return) = self.absorb(state) else { return Entered::Linearizable };
        let hopeless = match &mut self.demands {
            None => None,
            Some(demands) => demands.unmet(self.machine, self.calls, state, &self.done),
        };
        let ret = self.calls[first_return as usize].ret;
        if ret > self.reach.0 || (ret == self.reach.0 && hopeless.is_none()) {
            self.reach = (ret, first_return, hopeless);
        }
        let mixed = mix(u64::from(state) ^ self.seed[0]);
        let fingerprint = self.fingerprint ^ (u128::from(mixed) << 64 | u128::from(mix(mixed)));
        let is_new = hopeless.is_none() && self.seen.insert(fingerprint);
        self.stats.configs_max = self.stats.configs_max.max(self.seen.len());
        if !is_new {
            self.put_back_absorbed(absorbed_from);
            self.put_back(call);
            return Entered::Dead;
        }
        let from = self.candidates.len();
        self.collect(state, ret);
        self.frames.push(Frame { state, call, from, next: from, absorbed_from });
        Entered::Open
    }

    /// Lets observers take effect; the call that returns first of those left, if any must still.
    fn absorb(&mut self, state: u32) -> Option<u32> {
        let mut at = self.line.first();
        while let Some(entry) = at {
            at = self.line.after(entry);
            let call = entry.call();
            if entry.is_return() {
                return Some(call);
            }
            let class = self.calls[call as usize].class;
            if self.machine.kind(class) == Kind::Observer
                && self.machine.step(state, class) == state
            {
                // Its own return may be what follows.
                if at.is_some_and(|next| next.call() == call) {
                    at = at.and_then(|next| self.line.after(next));
                }
                self.take(call);
                self.absorbed.push(call);
            }
        }
        None
    }

    /// What can take effect before that return: of each class the call that returns first, in order of
    /// invocation, since that is how most objects took them; then those that may have happened.
    fn collect(&mut self, state: u32, first_return: u32) {
        self.visit += 1;
        let mut at = self.line.first();
        while let Some(entry) = at.filter(|entry| !entry.is_return()) {
            at = self.line.after(entry);
            let call = entry.call();
            let Call { class, ret, .. } = self.calls[call as usize];
            if self.machine.kind(class) == Kind::Observer {
                continue;
            }
            let best = &mut self.best_of_class[class as usize];
            if best.0 == self.visit {
                let place = best.1 as usize;
                if let Some(other) = self.candidates.get_mut(place)
                    && self.calls[other.0 as usize].ret > ret
                {
                    other.0 = call;
                }
                continue;
            }
            // Where it stands, or nowhere if the state does not allow it.
            *best = (self.visit, u32::MAX);
            let next = self.machine.step(state, class);
            if next != IMPOSSIBLE {
                self.best_of_class[class as usize].1 = self.candidates.len() as u32;
                self.candidates.push((call, next));
            }
        }
        for maybes in &self.maybes {
            let Some(&call) = maybes.calls.get(maybes.used) else { continue };
            let is_open = self.calls[call as usize].invoke < first_return;
            if !is_open || self.best_of_class[maybes.class as usize].0 == self.visit {
                continue;
            }
            let next = self.machine.step(state, maybes.class);
            if next != IMPOSSIBLE && next != state {
                self.candidates.push((call, next));
            }
        }
    }

    /// Takes back the last step.
    fn leave(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        self.candidates.truncate(frame.from);
        self.put_back_absorbed(frame.absorbed_from);
        self.put_back(frame.call);
    }

    fn put_back_absorbed(&mut self, from: usize) {
        while self.absorbed.len() > from {
            if let Some(call) = self.absorbed.pop() {
                self.put_back(call);
            }
        }
    }

    fn take(&mut self, call: u32) {
        let key = self.key(call);
        self.fingerprint = self.fingerprint.wrapping_add(key);
        self.done[call as usize] = true;
        match self.calls[call as usize] {
            Call { ret: NEVER, class, .. } => self.maybes_of(class).used += 1,
            _ => self.line.take(call),
        }
    }

    fn put_back(&mut self, call: u32) {
        if call == NO_CALL {
            return;
        }
        let key = self.key(call);
        self.fingerprint = self.fingerprint.wrapping_sub(key);
        self.done[call as usize] = false;
        if let Some(demands) = &mut self.demands {
            demands.put_back(call);
        }
        match self.calls[call as usize] {
            Call { ret: NEVER, class, .. } => self.maybes_of(class).used -= 1,
            _ => self.line.put_back(call),
        }
    }

    fn maybes_of(&mut self, class: u32) -> &mut Maybes {
        &mut self.maybes[self.maybe_of_class[class as usize] as usize]
    }

    fn key(&self, call: u32) -> u128 {
        let low = mix(self.seed[0].wrapping_add(u64::from(call)));
        let high = mix(self.seed[1].wrapping_add(u64::from(call)));
        u128::from(high) << 64 | u128::from(low)
    }

    fn look(&mut self) -> Result<(), Exhausted> {
        self.meter.check_time()?;
        if self.meter.check_memory(self.bytes()).is_ok() {
            return Ok(());
        }
        self.seen = Default::default();
        let in_use: Vec<u32> = (self.frames.iter().map(|frame| frame.state))
            .chain(self.candidates.iter().map(|(_, state)| *state))
            .collect();
        let numbers = self.machine.keep_only(&in_use);
        if !numbers.is_empty() {
            let renumber = |state: &mut u32| *state = numbers.get(state).copied().unwrap_or(*state);
            self.frames.iter_mut().for_each(|frame| renumber(&mut frame.state));
            self.candidates.iter_mut().for_each(|(_, state)| renumber(state));
        }
        self.meter.check_memory(self.bytes())
    }

    fn bytes(&self) -> u64 {
        let order = self.frames.len() * size_of::<Frame>() + self.candidates.len() * 8;
        order as u64 + self.seen.len() as u64 * REMEMBERED_BYTES + self.machine.bytes()
    }

    fn stuck(&self) -> Outcome {
        let (_, call, unmet) = self.reach;
        Outcome::Stuck(Box::new(Stuck {
            call: call as usize,
            unmet: unmet.map(|call| call as usize),
            configs: Vec::new(),
            config_count: 0,
            cut: None,
            stats: self.stats,
        }))
    }

    fn gave_up(&self, why: Exhausted) -> GaveUp {
        let is_left = |(i, call): &(usize, &Call)| {
            !self.done[*i] && call.invoke < self.reach.0 && call.ret >= self.reach.0
        };
        let open = || self.calls.iter().enumerate().filter(is_left);
        GaveUp {
            why,
            returned: self.calls.iter().filter(|call| call.ret < self.reach.0).count(),
            config_count: self.seen.len(),
            open: open().count(),
            open_for_ever: open().filter(|(_, call)| call.ret == NEVER).count(),
            stats: self.stats,
        }
    }
}

/// Finalizer of SplitMix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
