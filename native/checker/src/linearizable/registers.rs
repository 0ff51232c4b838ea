//! One register: which algorithm decides it, and what its counter-examples may leave out.
//!
//! A call on a register can be left out of a counter-example
//! - if it is an observer: always;
//! - if it writes v and no call that stays can have seen v *from it*: every observer of v that stays
//!   returned before it was invoked, or has another write that stays entirely between the two. And of
//!   each value that is seen, one write stays if there was one, so that people see both.

use fuzz_dist_core::{History, Value};

use crate::budget::Meter;
use crate::linearizable::calls::KeyedCall;
use crate::linearizable::model::{Register, RegisterCall};
use crate::linearizable::search::{Call, Cut, NEVER, Outcome, search_how};
use crate::linearizable::subject::{Proof, Span, Subject, proof_of};
use crate::linearizable::unique::{UniqueOutcome, check_unique};
use crate::linearizable::{Decision, How, Verdicts};

/// The calls of one key with values numbered for themselves, the initial one 0.
pub struct RegisterSubject<'a> {
    history: &'a History,
    key: Option<&'a Value>,
    calls: Vec<KeyedCall>,
    spans: Vec<Span>,
    values: Vec<&'a Value>,
}

impl<'a> RegisterSubject<'a> {
    /// Renumbers the values of `calls`, which are numbered over `all`.
    pub fn new(
        history: &'a History,
        key: Option<&'a Value>,
        calls: &[KeyedCall],
        all: &'a [Value],
    ) -> RegisterSubject<'a> {
        let mut numbers: std::collections::HashMap<u32, u32, rustc_hash::FxBuildHasher> =
            Default::default();
        let mut values = vec![&all[0]];
        numbers.insert(0, 0);
        let mut number = |global: u32| {
            *numbers.entry(global).or_insert_with(|| {
                values.push(&all[global as usize]);
                values.len() as u32 - 1
            })
        };
        let calls: Vec<KeyedCall> = calls
            .iter()
            .map(|call| KeyedCall {
                call: match call.call {
                    RegisterCall::Read(value) => RegisterCall::Read(number(value)),
                    RegisterCall::Write(value) => RegisterCall::Write(number(value)),
                    RegisterCall::Cas(a, b) => RegisterCall::Cas(number(a), number(b)),
                    RegisterCall::Differs(value) => RegisterCall::Differs(number(value)),
                },
                ..*call
            })
            .collect();
        RegisterSubject { history, key, calls, spans: Vec::new(), values }
    }

    /// Decides by the special case if its conditions hold, else by search; `None` if that was to be
    /// quick and was not.
    pub fn decide(&self, how: How, meter: &Meter) -> Option<Decision> {
        let unique = how.special.then(|| check_unique(&self.calls, self.values.len())).flatten();
        let decision = match unique {
            Some(UniqueOutcome::Linearizable) => Decision::special(Verdicts::Linearizable),
            Some(UniqueOutcome::Conflict(culprits)) => {
                let stuck = self
                    .proof(&culprits, meter, false)
                    .map(|proof| culprits[proof.stuck.blamed()])
                    .or(culprits.iter().copied().max())
                    .unwrap_or(0);
                Decision::special(Verdicts::Stuck { stuck, start: culprits })
            }
            None => match how.special.then(|| self.never_written()).flatten() {
                Some(stuck) => Decision::special(Verdicts::Stuck { stuck, start: vec![stuck] }),
                None => return self.search(how, meter),
            },
        };
        Some(decision)
    }

    fn search(&self, how: How, meter: &Meter) -> Option<Decision> {
        let chosen = self.relevant();
        let (classes, calls) = self.problem(&chosen);
        let outcome = search_how(&|| Register { classes: &classes }, &calls, how, meter)?;
        Some(Decision::by_search(outcome, &chosen))
    }

    /// A call that saw a value which nothing can have written before it returned.
    fn never_written(&self) -> Option<usize> {
        let mut written_from: Vec<u32> = vec![NEVER; self.values.len()];
        written_from[0] = 0;
        for call in self.calls.iter().rev() {
            if let Some(value) = written(call) {
                written_from[value as usize] = written_from[value as usize].min(call.invoke);
            }
        }
        self.calls.iter().position(|call| match call.call {
            RegisterCall::Read(value) | RegisterCall::Cas(value, _) if call.ret != NEVER => {
                written_from[value as usize] > call.ret
            }
            _ => false,
        })
    }

    /// Leaves out calls that may have happened but whose value nobody can have seen: an order with such
    /// a call is an order without it, since only an overwrite can follow.
    fn relevant(&self) -> Vec<usize> {
        let calls = &self.calls;
        let mut chosen: Vec<usize> = (0..calls.len()).collect();
        if calls.iter().any(|call| matches!(call.call, RegisterCall::Differs(_))) {
            return chosen;
        }
        loop {
            // When each value was last seen; a call that may still happen sees at any time.
            let mut last_seen: Vec<Option<u32>> = vec![None; self.values.len()];
            for call in chosen.iter().map(|&i| &calls[i]) {
                if let RegisterCall::Read(value) | RegisterCall::Cas(value, _) = call.call {
                    let seen = &mut last_seen[value as usize];
                    *seen = (*seen).max(Some(call.ret));
                }
            }
            let before = chosen.len();
            chosen.retain(|&i| {
                let call = &calls[i];
                match call.call {
                    RegisterCall::Write(value) | RegisterCall::Cas(_, value)
                        if call.ret == NEVER =>
                    {
                        last_seen[value as usize].is_some_and(|seen| seen > call.invoke)
                    }
                    _ => true,
                }
            });
            if chosen.len() == before {
                return chosen;
            }
        }
    }

    /// Classes and calls of the chosen ones (indices in increasing order).
    fn problem(&self, chosen: &[usize]) -> (Vec<RegisterCall>, Vec<Call>) {
        let mut numbers: std::collections::HashMap<RegisterCall, u32, rustc_hash::FxBuildHasher> =
            Default::default();
        let mut classes = Vec::new();
        let calls = chosen
            .iter()
            .map(|&i| {
                let call = &self.calls[i];
                let class = *numbers.entry(call.call).or_insert_with(|| {
                    classes.push(call.call);
                    classes.len() as u32 - 1
                });
                Call { class, invoke: call.invoke, ret: call.ret }
            })
            .collect();
        (classes, calls)
    }

    /// Gets ready to explain.
    pub fn with_spans(mut self) -> Self {
        let span = |call: &KeyedCall| Span { invoke: call.invoke, ret: call.ret };
        self.spans = self.calls.iter().map(span).collect();
        self
    }

    /// Whether some call of `kept` may have seen what `left_out` wrote.
    fn may_be_seen(&self, left_out: usize, kept: &[usize]) -> bool {
        let call = &self.calls[left_out];
        let Some(value) = written(call) else { return false };
        // A call that changes the value for certain, entirely after this one.
        let changes = |other: &&KeyedCall| {
            call.ret != NEVER
                && other.invoke > call.ret
                && other.ret != NEVER
                && written(other).is_some()
        };
        let next_change = kept
            .iter()
            .map(|&i| &self.calls[i])
            .filter(changes)
            .map(|other| other.ret)
            .min()
            .unwrap_or(NEVER);
        kept.iter().any(|&i| {
            let other = &self.calls[i];
            i != left_out
                && other.ret > call.invoke
                && other.invoke < next_change
                && sees(other, value)
        })
    }
}

/// What the call writes, if it changes the value.
fn written(call: &KeyedCall) -> Option<u32> {
    match call.call {
        RegisterCall::Write(value) => Some(value),
        RegisterCall::Cas(from, to) if from != to => Some(to),
        _ => None,
    }
}

/// Whether the call can have happened because the value was this one.
fn sees(call: &KeyedCall, value: u32) -> bool {
    match call.call {
        RegisterCall::Read(seen) | RegisterCall::Cas(seen, _) => seen == value,
        RegisterCall::Differs(other) => other != value,
        RegisterCall::Write(_) => false,
    }
}

fn sees_exactly(call: &KeyedCall, value: u32) -> bool {
    matches!(call.call, RegisterCall::Read(seen) | RegisterCall::Cas(seen, _) if seen == value)
}

impl Subject for RegisterSubject<'_> {
    fn history(&self) -> &History {
        self.history
    }

    fn key(&self) -> Option<&Value> {
        self.key
    }

    fn spans(&self) -> &[Span] {
        &self.spans
    }

    fn describe(&self, call: usize) -> String {
        let value = |number: u32| self.values[number as usize];
        match self.calls[call].call {
            RegisterCall::Read(v) => format!("read {}", value(v)),
            RegisterCall::Write(v) => format!("write {}", value(v)),
            RegisterCall::Cas(a, b) => format!("cas {} -> {}", value(a), value(b)),
            RegisterCall::Differs(a) => format!("cas from {} failed", value(a)),
        }
    }

    fn may_go(&self, call: usize, kept: &[usize]) -> bool {
        let Some(value) = written(&self.calls[call]) else { return true };
        let is_seen = kept.iter().any(|&i| sees_exactly(&self.calls[i], value));
        let has_write = kept.iter().any(|&i| written(&self.calls[i]) == Some(value));
        (has_write || !is_seen) && !self.may_be_seen(call, kept)
    }

    fn is_certain_change(&self, call: usize) -> bool {
        written(&self.calls[call]).is_some() && self.calls[call].ret != NEVER
    }

    fn proof(&self, chosen: &[usize], meter: &Meter, in_words: bool) -> Option<Proof> {
        let (classes, calls) = self.problem(chosen);
        let mut register = Register { classes: &classes };
        proof_of(&mut register, &calls, meter, in_words, |_, state| {
            self.values[state as usize].to_string()
        })
    }
}

/// What a search outcome means for the whole.
impl Decision {
    /// Decided by a special case.
    pub fn special(verdict: Verdicts) -> Decision {
        Decision { verdict, by_search: false, stats: Default::default() }
    }

    /// Decided by search of the chosen calls.
    pub fn by_search(outcome: Outcome, chosen: &[usize]) -> Decision {
        let (verdict, stats) = match outcome {
            Outcome::Linearizable(stats) => (Verdicts::Linearizable, stats),
            Outcome::GaveUp(gave_up) => {
                let stats = gave_up.stats;
                (Verdicts::GaveUp { gave_up, call_count: chosen.len() }, stats)
            }
            Outcome::Stuck(found) => {
                let stuck = chosen[found.blamed()];
                // What came before the last moment at which all was as at the start proves nothing.
                let Cut { open, next } = found.cut.unwrap_or_default();
                let start = open.into_iter().chain(next..chosen.len()).map(|i| chosen[i]).collect();
                (Verdicts::Stuck { stuck, start }, found.stats)
            }
        };
        Decision { verdict, by_search: true, stats }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_a_read_may_have_seen_stays() {
        let values = [Value::Nil, Value::Int(1), Value::Int(2)];
        let call = |call, invoke, ret| KeyedCall { call, invoke, ret };
        let calls = [
            call(RegisterCall::Write(1), 0, 1),
            call(RegisterCall::Write(2), 2, 3),
            call(RegisterCall::Read(1), 4, 5),
        ];
        let history = History::default();
        let subject = RegisterSubject::new(&history, None, &calls, &values);
        assert!(subject.may_be_seen(0, &[2]), "nothing lies between");
        assert!(!subject.may_be_seen(0, &[1, 2]), "write 2 lies between");
        assert!(!subject.may_be_seen(1, &[0, 2]), "nobody saw 2");
        assert!(!subject.may_go(0, &[1, 2]), "but the read would lose its only write");
    }
}
