//! One walk through the events of an object, see [`super`].

use crate::budget::{Exhausted, Meter};
use crate::linearizable::frontier::{Config, Frontier, clear, clear_all, has, set};
use crate::linearizable::model::{IMPOSSIBLE, Kind, Machine};
use crate::linearizable::search::demands::Demands;
use crate::linearizable::search::forever::{self, Attempt, Event, Forever, Moment};
use crate::linearizable::search::{
    Call, Cut, EVIDENCE_CONFIGS_MAX, GaveUp, LastConfig, NEVER, OPEN_MAX, Outcome, SearchStats,
    Stuck,
};

/// Width of the beam at first.
pub const BEAM_FIRST: usize = 64;
/// Its width at first where only an order that is found counts.
const BEAM_HASTY: usize = 8;
/// After how many events such a search no longer goes back further.
const HASTY_EVENTS: usize = 256;
/// How much wider it becomes each time.
const BEAM_FACTOR: usize = 8;
/// A class without open calls.
const NO_GROUP: u32 = u32::MAX;
/// How many steps between two looks at the clock.
const STEPS_PER_LOOK: u64 = 1 << 12;

/// How a walk ended.
pub enum Ended {
    /// With an answer, or past the budget.
    Decided(Outcome),
    /// Past the steps of this attempt, or with an answer that says nothing of the true problem.
    Undecided,
}

/// What ends a walk early.
enum Halt {
    Budget(Exhausted),
    Steps,
}

impl From<Exhausted> for Halt {
    fn from(why: Exhausted) -> Halt {
        Halt::Budget(why)
    }
}

/// Walks through the events.
pub fn walk<M: Machine>(
    machine: &mut M,
    calls: &[Call],
    events: &[Event],
    meter: &Meter,
    attempt: &Attempt,
    beam: usize,
) -> Ended {
    let open_max = forever::open_max(events);
    macro_rules! of_width {
        ($w:literal) => {
            Search::<M, $w>::new(machine, calls, meter, attempt, open_max, beam).run(events)
        };
    }
    match open_max.div_ceil(64) {
        0 | 1 => of_width!(1),
        2 => of_width!(2),
        3..=4 => of_width!(4),
        5..=8 => of_width!(8),
        9..=16 => of_width!(16),
        17..=32 => of_width!(32),
        33..=128 => of_width!(128),
        _ if attempt.steps_max.is_some() => Ended::Undecided,
        _ => Ended::Decided(Outcome::GaveUp(Box::new(GaveUp {
            why: Exhausted::Memory((OPEN_MAX / 4) as u64),
            returned: 0,
            config_count: 1,
            open: open_max,
            open_for_ever: calls.iter().filter(|call| call.ret == NEVER).count(),
            stats: SearchStats { open_max, ..SearchStats::default() },
        }))),
    }
}

/// Open calls of one class, in order of their return.
#[derive(Debug, Clone)]
struct Group<const W: usize> {
    class: u32,
    kind: Kind,
    /// Return position and slot.
    members: Vec<(u32, u32)>,
    mask: [u64; W],
}

/// Everything that changes while the history is walked through.
#[derive(Debug, Clone)]
struct Walk<const W: usize> {
    frontier: Frontier<W>,
    groups: Vec<Group<W>>,
    /// Open overwrites.
    overwrites: [u64; W],
    /// Open calls that may take effect any number of times.
    unlimited: [u64; W],
    free_slots: Vec<u32>,
    /// Call of each slot.
    slot_call: Vec<u32>,
    /// How many calls have returned, and been invoked.
    returned: usize,
    invoked: usize,
}

struct Search<'a, M: Machine, const W: usize> {
    machine: &'a mut M,
    calls: &'a [Call],
    meter: &'a Meter,
    attempt: &'a Attempt,
    walk: Walk<W>,
    /// Slot of each open call.
    call_slot: Vec<u32>,
    /// Group of each class with open calls, [`NO_GROUP`] of others.
    class_group: Vec<u32>,
    spare_members: Vec<Vec<(u32, u32)>>,
    next: Frontier<W>,
    explored: Frontier<W>,
    beam_first: usize,
    beam: usize,
    stats: SearchStats,
    steps_at_look: u64,
    cut: Option<Cut>,
    demands: Option<Demands>,
    /// All observers of `demands` before this place have returned.
    demands_from: usize,
    /// The observer for which a configuration was dropped since the last return.
    unmet: Option<usize>,
}

/// Where to go back to when a narrowed search finds nothing.
struct Checkpoint<const W: usize> {
    walk: Walk<W>,
    /// Index of the event to do next.
    event: usize,
}

impl<'a, M: Machine, const W: usize> Search<'a, M, W> {
    fn new(
        machine: &'a mut M,
        calls: &'a [Call],
        meter: &'a Meter,
        attempt: &'a Attempt,
        open_max: usize,
        beam: usize,
    ) -> Self {
        let beam = match attempt.forever {
            Forever::Expiring(_) => beam.min(BEAM_HASTY),
            _ => beam,
        };
        let beam = beam.max(1);
        let mut frontier = Frontier::default();
        frontier.add(Config { state: machine.initial(), need: [0; W], avail: [0; W] });
        let slots = open_max as u32;
        let demands = machine.has_demands().then(|| Demands::new(machine, calls));
        let class_count = calls.iter().map(|call| call.class as usize + 1).max().unwrap_or(0);
        Search {
            machine,
            calls,
            meter,
            attempt,
            walk: Walk {
                frontier,
                groups: Vec::new(),
                overwrites: [0; W],
                unlimited: [0; W],
                free_slots: (0..slots).rev().collect(),
                slot_call: vec![0; open_max],
                returned: 0,
                invoked: 0,
            },
            call_slot: vec![0; calls.len()],
            class_group: vec![NO_GROUP; class_count],
            spare_members: Vec::new(),
            next: Frontier::default(),
            explored: Frontier::default(),
            beam_first: beam,
            beam,
            stats: SearchStats { open_max, ..SearchStats::default() },
            steps_at_look: 0,
            cut: None,
            demands,
            demands_from: 0,
            unmet: None,
        }
    }

    fn run(mut self, events: &[Event]) -> Ended {
        let mut checkpoint: Option<Checkpoint<W>> = None;
        // Where stuck means nothing, going back a little is enough; how far it was is forgotten.
        let mut before: Option<Checkpoint<W>> = None;
        // Past the event at which the narrow beam got stuck, it becomes narrow again.
        let mut wide_until = 0;
        let mut at = 0;
        while at < events.len() {
            let call = events[at].call();
            match events[at].moment() {
                Moment::Return => {}
                other => {
                    self.do_without_search(call, other);
                    at += 1;
                    continue;
                }
            }
            if at > wide_until {
                self.beam = self.beam_first;
            }
            let narrowed = match self.ret(call) {
                Ok(narrowed) => narrowed,
                Err(Halt::Steps) => return Ended::Undecided,
                Err(Halt::Budget(Exhausted::Memory(_))) if self.attempt.steps_max.is_some() => {
                    return Ended::Undecided;
                }
                Err(Halt::Budget(why)) => return Ended::Decided(self.gave_up(why)),
            };
            if self.next.is_empty() {
                wide_until = wide_until.max(at);
                let latest = checkpoint.take();
                match before.take().or(latest) {
                    None if !narrowed => return self.stuck(call),
                    // Stuck in the very step that was narrowed: nothing has been committed yet.
                    None => {}
                    Some(back) => {
                        at = back.event;
                        self.restore(back.walk);
                    }
                }
                self.beam = self.beam.saturating_mul(BEAM_FACTOR);
                self.stats.widened += 1;
                continue;
            }
            if narrowed && checkpoint.is_none() {
                checkpoint = Some(Checkpoint { walk: self.walk.clone(), event: at });
            } else if self.is_hasty()
                && checkpoint.as_ref().is_some_and(|c| c.event + HASTY_EVENTS < at)
            {
                before = checkpoint.take();
            }
            self.commit(call);
            self.walk.returned += 1;
            at += 1;
            // With a checkpoint, some configurations are set aside, and its states are in use as well.
            if checkpoint.is_none() {
                self.note_cut();
                if self.machine.is_crowded() {
                    self.forget_states();
                }
            }
        }
        match self.attempt.forever {
            Forever::Unlimited(_) => Ended::Undecided,
            _ => Ended::Decided(Outcome::Linearizable(self.stats)),
        }
    }

    /// Whether only an order that is found counts, so that the search may be as narrow as it likes.
    fn is_hasty(&self) -> bool {
        matches!(self.attempt.forever, Forever::Expiring(_))
    }

    /// What changes every configuration by itself.
    fn do_without_search(&mut self, call: usize, moment: Moment) {
        if moment != Moment::Expire {
            self.invoke(call);
            if moment == Moment::InvokeUnlimited {
                set(&mut self.walk.unlimited, self.call_slot[call]);
            }
            return;
        }
        let slot = self.call_slot[call];
        self.next.clear();
        for config in self.walk.frontier.iter() {
            let mut after = *config;
            clear(&mut after.avail, slot);
            self.next.add(after);
        }
        self.commit(call);
    }

    fn restore(&mut self, walk: Walk<W>) {
        for group in &self.walk.groups {
            self.class_group[group.class as usize] = NO_GROUP;
        }
        self.walk = walk;
        self.demands_from = 0;
        for (i, group) in self.walk.groups.iter().enumerate() {
            self.class_group[group.class as usize] = i as u32;
            for &(_, slot) in &group.members {
                self.call_slot[self.walk.slot_call[slot as usize] as usize] = slot;
            }
        }
    }

    /// A call opens.
    fn invoke(&mut self, index: usize) {
        let call = self.calls[index];
        self.walk.invoked = index + 1;
        let kind = self.machine.kind(call.class);
        // There is a slot for each of the most calls that are ever open.
        let Some(slot) = self.walk.free_slots.pop() else { return };
        self.walk.slot_call[slot as usize] = index as u32;
        self.call_slot[index] = slot;
        let group = self.group_of(call.class, kind);
        let place = group.members.partition_point(|(ret, _)| *ret <= call.ret);
        group.members.insert(place, (call.ret, slot));
        set(&mut group.mask, slot);
        if kind == Kind::Overwrite {
            set(&mut self.walk.overwrites, slot);
        }
        let machine = &mut *self.machine;
        self.walk.frontier.for_each_mut(|config| {
            // Observers are never available: they act by themselves when the state allows it.
            if kind != Kind::Observer {
                set(&mut config.avail, slot);
            }
            if call.ret != NEVER && machine.step(config.state, call.class) != config.state {
                set(&mut config.need, slot);
            }
        });
    }

    fn group_of(&mut self, class: u32, kind: Kind) -> &mut Group<W> {
        let groups = &mut self.walk.groups;
        let spare = &mut self.spare_members;
        let index = &mut self.class_group[class as usize];
        if *index == NO_GROUP {
            let members = spare.pop().unwrap_or_default();
            *index = groups.len() as u32;
            groups.push(Group { class, kind, members, mask: [0; W] });
        }
        &mut groups[*index as usize]
    }

    /// A call returns: fills `next` with the configurations after that. Tells whether some were set
    /// aside.
    fn ret(&mut self, index: usize) -> Result<bool, Halt> {
        let slot = self.call_slot[index];
        self.next.clear();
        self.explored.clear();
        self.unmet = None;
        if let Some(demands) = &self.demands {
            let now = self.calls[index].ret;
            let returned = |call: &u32| self.calls[*call as usize].ret < now;
            let left = &demands.observers()[self.demands_from..];
            self.demands_from += left.iter().take_while(|call| returned(call)).count();
        }
        for config in self.walk.frontier.iter() {
            let needed = has(&config.need, slot);
            let available = has(&config.avail, slot);
            if needed || available {
                self.explored.add(*config);
            }
            if !needed {
                let mut after = *config;
                clear(&mut after.avail, slot);
                self.next.add(after);
            }
        }
        let mut narrowed = false;
        let mut place = 0;
        while place < self.explored.places() {
            if let Some(config) = self.explored.at(place) {
                self.extend(&config, slot);
                if self.stats.steps - self.steps_at_look > STEPS_PER_LOOK {
                    self.look()?;
                }
                let is_enough = self.is_hasty() && self.next.len() >= self.beam;
                if is_enough || self.explored.len() > self.beam.saturating_mul(16) {
                    narrowed = true;
                    break;
                }
            }
            place += 1;
        }
        self.stats.configs_max = self.stats.configs_max.max(self.next.len());
        if self.next.len() > self.beam {
            self.next.truncate(self.beam);
            narrowed = true;
        }
        Ok(narrowed)
    }

    fn look(&mut self) -> Result<(), Halt> {
        self.steps_at_look = self.stats.steps;
        self.meter.check_time()?;
        if self.attempt.steps_max.is_some_and(|max| self.stats.steps > max) {
            return Err(Halt::Steps);
        }
        let configs = self.explored.places() + self.next.places() + 2 * self.walk.frontier.places();
        let bytes = Frontier::<W>::bytes_of(configs) + self.machine.bytes();
        Ok(self.meter.check_memory(bytes)?)
    }

    /// Lets one open call after the other take effect in `config`; `slot` is the call that returns.
    fn extend(&mut self, config: &Config<W>, slot: u32) {
        for g in 0..self.walk.groups.len() {
            let group = &self.walk.groups[g];
            if group.kind == Kind::Observer {
                continue;
            }
            // Of one class, the call that returns first acts first.
            let available = |(_, member): &&(u32, u32)| has(&config.avail, *member);
            let Some(&(_, first)) = group.members.iter().find(available) else { continue };
            let (class, kind) = (group.class, group.kind);
            // One that need not act and one that must are not alike, unless acting satisfies both.
            let needed = if kind == Kind::Overwrite || has(&config.need, first) {
                None
            } else {
                let must = |(_, member): &&(u32, u32)| has(&config.need, *member);
                group.members.iter().filter(available).find(must).map(|(_, member)| *member)
            };
            self.stats.steps += 1;
            let state = self.machine.step(config.state, class);
            // One that changes nothing has been accounted for when the state was reached; but before an
            // overwrite, even one by the same value, others go unnoticed.
            let unnoticed = state == config.state && kind != Kind::Overwrite;
            if state == IMPOSSIBLE || unnoticed {
                continue;
            }
            self.act(config, state, first, kind, slot);
            if let Some(needed) = needed {
                self.act(config, state, needed, kind, slot);
            }
        }
    }

    /// Lets the call in `acting` take effect, which leads to `state`.
    fn act(&mut self, config: &Config<W>, state: u32, acting: u32, kind: Kind, slot: u32) {
        let mut after = *config;
        after.state = state;
        clear(&mut after.need, acting);
        if !has(&self.walk.unlimited, acting) {
            clear(&mut after.avail, acting);
        }
        if kind == Kind::Overwrite {
            clear_all(&mut after.need, &self.walk.overwrites);
        }
        self.arrive(&mut after);
        if self.demands.is_some() && self.is_unmet(&after) {
            return;
        }
        if acting == slot {
            self.next.add(after);
            return;
        }
        if has(&config.need, slot) && !has(&after.need, slot) {
            let mut satisfied = after;
            clear(&mut satisfied.avail, slot);
            self.next.add(satisfied);
        }
        let goal_left = has(&after.need, slot) || has(&after.avail, slot);
        if goal_left && self.is_useful(config, &after) {
            self.explored.add(after);
        }
    }

    /// Whether the configuration cannot lead to what must be seen next.
    fn is_unmet(&mut self, config: &Config<W>) -> bool {
        let Some(demands) = &mut self.demands else { return false };
        let Walk { invoked, .. } = self.walk;
        let (calls, call_slot) = (self.calls, &self.call_slot);
        let must =
            |call: u32| call as usize >= invoked || has(&config.need, call_slot[call as usize]);
        let Some(place) =
            (self.demands_from..demands.observers().len()).find(|i| must(demands.observers()[*i]))
        else {
            return false;
        };
        let is_left =
            |call: u32| call as usize >= invoked || has(&config.avail, call_slot[call as usize]);
        let observer = demands.observers()[place] as usize;
        let unmet = demands.is_unmet(self.machine, calls, config.state, place, is_left);
        if unmet {
            self.unmet = Some(observer);
        }
        unmet
    }

    /// Lets act what the state allows without changing it.
    #[inline]
    fn arrive(&mut self, config: &mut Config<W>) {
        for group in &self.walk.groups {
            if self.machine.step(config.state, group.class) == config.state {
                clear_all(&mut config.need, &group.mask);
            }
        }
    }

    /// Whether it can be worth while to act before the call that returns does. If nothing that is not
    /// an overwrite was satisfied and nothing but overwrites can follow, the overwrite that follows
    /// leads to the same configuration without this step, and with more available.
    fn is_useful(&mut self, before: &Config<W>, after: &Config<W>) -> bool {
        for w in 0..W {
            if (before.need[w] & !after.need[w]) & !self.walk.overwrites[w] != 0 {
                return true;
            }
        }
        for group in &self.walk.groups {
            if group.kind == Kind::Update
                && group.members.iter().any(|(_, member)| has(&after.avail, *member))
            {
                let state = self.machine.step(after.state, group.class);
                if state != IMPOSSIBLE && state != after.state {
                    return true;
                }
            }
        }
        false
    }

    /// `index` is no longer open: `next` is the frontier, its slot is free.
    fn commit(&mut self, index: usize) {
        std::mem::swap(&mut self.walk.frontier, &mut self.next);
        let call = self.calls[index];
        let slot = self.call_slot[index];
        let g = self.class_group[call.class as usize];
        let group = &mut self.walk.groups[g as usize];
        group.members.retain(|(_, member)| *member != slot);
        clear(&mut group.mask, slot);
        if group.members.is_empty() {
            let emptied = self.walk.groups.swap_remove(g as usize);
            self.spare_members.push(emptied.members);
            self.class_group[call.class as usize] = NO_GROUP;
            if let Some(moved) = self.walk.groups.get(g as usize) {
                self.class_group[moved.class as usize] = g;
            }
        }
        clear(&mut self.walk.overwrites, slot);
        self.walk.free_slots.push(slot);
    }

    /// Remembers this moment if the calls from here on can be taken for a history of their own: only
    /// what is so at the start of that history is possible now, neither more nor less.
    fn note_cut(&mut self) {
        if self.attempt.forever != Forever::Exact {
            return;
        }
        let initial = self.machine.initial();
        let mut all = self.walk.frontier.iter();
        let (Some(&only), None) = (all.next(), all.next()) else { return };
        if only.state != initial {
            return;
        }
        let mut start = Config { state: initial, need: [0; W], avail: [0; W] };
        let mut open = Vec::new();
        for group in &self.walk.groups {
            let unchanged = self.machine.step(initial, group.class) == initial;
            for &(ret, slot) in &group.members {
                open.push(self.walk.slot_call[slot as usize] as usize);
                if group.kind != Kind::Observer {
                    set(&mut start.avail, slot);
                }
                if ret != NEVER && !unchanged {
                    set(&mut start.need, slot);
                }
            }
        }
        if start == only {
            open.sort_unstable();
            self.cut = Some(Cut { open, next: self.walk.invoked });
        }
    }

    fn forget_states(&mut self) {
        let in_use: Vec<u32> = self.walk.frontier.iter().map(|config| config.state).collect();
        let numbers = self.machine.keep_only(&in_use);
        let renumbered: Vec<Config<W>> = self
            .walk
            .frontier
            .iter()
            .map(|config| Config {
                state: numbers.get(&config.state).copied().unwrap_or(0),
                ..*config
            })
            .collect();
        self.walk.frontier.clear();
        for config in renumbered {
            self.walk.frontier.add(config);
        }
    }

    fn stuck(self, call: usize) -> Ended {
        if self.is_hasty() {
            return Ended::Undecided;
        }
        let configs = self
            .walk
            .frontier
            .iter()
            .take(EVIDENCE_CONFIGS_MAX)
            .map(|config| self.in_calls(config))
            .collect();
        Ended::Decided(Outcome::Stuck(Box::new(Stuck {
            call,
            unmet: self.unmet,
            configs,
            config_count: self.walk.frontier.len(),
            cut: self.cut,
            stats: self.stats,
        })))
    }

    fn in_calls(&self, config: &Config<W>) -> LastConfig {
        let mut last = LastConfig { state: config.state, done: Vec::new(), needed: Vec::new() };
        for &(ret, slot) in self.walk.groups.iter().flat_map(|group| &group.members) {
            let index = self.walk.slot_call[slot as usize] as usize;
            if has(&config.need, slot) {
                last.needed.push(index);
            } else if ret != NEVER || !has(&config.avail, slot) {
                last.done.push(index);
            }
        }
        last.done.sort_unstable();
        last.needed.sort_unstable();
        last
    }

    fn gave_up(self, why: Exhausted) -> Outcome {
        let open = || self.walk.groups.iter().flat_map(|group| &group.members);
        Outcome::GaveUp(Box::new(GaveUp {
            why,
            returned: self.walk.returned,
            config_count: self.walk.frontier.len().max(self.next.len()).max(self.explored.len()),
            open: open().count(),
            open_for_ever: open().filter(|(ret, _)| *ret == NEVER).count(),
            stats: self.stats,
        }))
    }
}
