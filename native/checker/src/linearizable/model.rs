//! What the search knows of an object: states and classes of calls as small numbers.
//!
//! A *class* is a function with its argument and result: two pending calls of one class differ in
//! nothing but the time by which they must have taken effect. The search asks a [`Machine`] only for
//! transitions between numbered states, so that configurations stay a few words long.

use std::collections::HashMap;

/// What kind of effect a class of calls can have; wrong kinds make the search wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Never changes the state (a read): it may take effect as soon as the state allows it.
    Observer,
    /// Succeeds in every state and leads to one state whatever came before (a plain write): right
    /// before another call of this kind it goes unnoticed.
    Overwrite,
    /// Anything else.
    Update,
}

/// Answer of [`Machine::step`] when the state does not allow the call.
pub const IMPOSSIBLE: u32 = u32::MAX;

/// An object as the search sees it.
pub trait Machine {
    /// The state at the start.
    fn initial(&self) -> u32;
    /// The state after a call of that class, or [`IMPOSSIBLE`].
    fn step(&mut self, state: u32, class: u32) -> u32;
    /// The kind of a class.
    fn kind(&self, class: u32) -> Kind;
    /// Whether a state tells little of what came before, as that of a register does, so that many orders
    /// lead to few configurations: breadth-first comes first then.
    fn forgets(&self) -> bool {
        false
    }
    /// Whether [`Machine::can_lead`] ever says no.
    fn has_demands(&self) -> bool {
        false
    }
    /// Whether calls that are no overwrites can lead from a state to one that allows an observer.
    fn can_lead(&mut self, _state: u32, _observer: u32) -> bool {
        true
    }
    /// Bytes that the machine holds beyond its classes.
    fn bytes(&self) -> u64 {
        0
    }
    /// Whether it remembers so many states that it should forget those not in use.
    fn is_crowded(&self) -> bool {
        false
    }
    /// Forgets all states but these and the initial one, and gives them new numbers.
    fn keep_only(&mut self, _in_use: &[u32]) -> HashMap<u32, u32> {
        HashMap::new()
    }
}

/// A call on a register; the numbers are those of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegisterCall {
    /// Returned that value.
    Read(u32),
    /// Writes that value.
    Write(u32),
    /// Found the first value and replaced it by the second.
    Cas(u32, u32),
    /// A compare-and-set that failed because the value was another one.
    Differs(u32),
}

/// A register: its state is the number of its value, and the initial value is number 0.
#[derive(Debug)]
pub struct Register<'a> {
    /// What each class is.
    pub classes: &'a [RegisterCall],
}

impl Machine for Register<'_> {
    fn initial(&self) -> u32 {
        0
    }

    fn forgets(&self) -> bool {
        true
    }

    #[inline]
    fn step(&mut self, state: u32, class: u32) -> u32 {
        match self.classes[class as usize] {
            RegisterCall::Read(value) if value == state => state,
            RegisterCall::Write(value) => value,
            RegisterCall::Cas(from, to) if from == state => to,
            RegisterCall::Differs(from) if from != state => state,
            _ => IMPOSSIBLE,
        }
    }

    #[inline]
    fn kind(&self, class: u32) -> Kind {
        match self.classes[class as usize] {
            RegisterCall::Read(_) | RegisterCall::Differs(_) => Kind::Observer,
            RegisterCall::Cas(from, to) if from == to => Kind::Observer,
            RegisterCall::Write(_) => Kind::Overwrite,
            RegisterCall::Cas(..) => Kind::Update,
        }
    }
}
