//! Makes a counter-example small without making it up.
//!
//! Leaving a call out of a history that can be linearized may give one that cannot: a read without its
//! write, say. Such a "counter-example" would prove nothing. A call on a register is left out only if
//! that keeps every linearizable history linearizable:
//! - an observer always;
//! - a call that writes v, if no call that stays can have seen v *from it*: every observer of v that
//!   stays returned before it was invoked, or has another write that stays entirely between the two.
//!
//! And of each value that is seen, one write stays if there was one, so that people see both.
//!
//! So what remains, being not linearizable, proves that the whole is not. First a window before the
//! call that got stuck is tried, widened until it is enough, then delta debugging (Zeller and
//! Hildebrandt, 2002) removes chunks and single calls.

use crate::budget::Meter;
use crate::linearizable::model::{Register, RegisterCall};
use crate::linearizable::search::{Call, NEVER, Outcome, search};

use super::calls::KeyedCall;

/// A register's calls as the search wants them.
#[derive(Debug)]
pub struct Problem {
    /// The calls, in order of invocation.
    pub calls: Vec<Call>,
    /// What each class is.
    pub classes: Vec<RegisterCall>,
}

/// Numbers classes of the chosen calls (indices in increasing order).
pub fn problem(calls: &[KeyedCall], chosen: impl Iterator<Item = usize>) -> Problem {
    let mut numbers: std::collections::HashMap<RegisterCall, u32, rustc_hash::FxBuildHasher> =
        Default::default();
    let mut classes = Vec::new();
    let calls = chosen
        .map(|i| {
            let call = &calls[i];
            let class = *numbers.entry(call.call).or_insert_with(|| {
                classes.push(call.call);
                classes.len() as u32 - 1
            });
            Call { class, invoke: call.invoke, ret: call.ret }
        })
        .collect();
    Problem { calls, classes }
}

/// Whether the chosen calls certainly cannot be linearized.
fn is_stuck(calls: &[KeyedCall], chosen: &[usize], value_count: usize, meter: &Meter) -> bool {
    let problem = problem(calls, chosen.iter().copied());
    let mut register = Register { classes: &problem.classes, value_count };
    matches!(search(&mut register, &problem.calls, meter), Outcome::Stuck(_))
}

/// Whether the call can change the value, and to what.
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

/// Whether some call of `kept` may have seen what `left_out` wrote.
fn may_be_seen(calls: &[KeyedCall], left_out: usize, kept: &[usize]) -> bool {
    let call = &calls[left_out];
    let Some(value) = written(call) else { return false };
    // A call that changes the value for certain, entirely after this one.
    let next_change = kept
        .iter()
        .map(|&i| &calls[i])
        .filter(|other| {
            call.ret != NEVER
                && other.invoke > call.ret
                && other.ret != NEVER
                && written(other).is_some()
        })
        .map(|other| other.ret)
        .min()
        .unwrap_or(NEVER);
    kept.iter().any(|&i| {
        let other = &calls[i];
        i != left_out && other.ret > call.invoke && other.invoke < next_change && sees(other, value)
    })
}

/// Whether leaving the call out is sound and leaves every value that is seen with a write.
fn may_go(calls: &[KeyedCall], left_out: usize, kept: &[usize]) -> bool {
    let Some(value) = written(&calls[left_out]) else { return true };
    let is_seen = kept.iter().any(|&i| sees_exactly(&calls[i], value));
    let has_write = kept.iter().any(|&i| written(&calls[i]) == Some(value));
    (has_write || !is_seen) && !may_be_seen(calls, left_out, kept)
}

fn sees_exactly(call: &KeyedCall, value: u32) -> bool {
    matches!(call.call, RegisterCall::Read(seen) | RegisterCall::Cas(seen, _) if seen == value)
}

/// Indices of calls that cannot be linearized, as few as the budget allows, in order of invocation.
/// `start` cannot be linearized and contains `stuck`, which stays.
pub fn minimise(
    calls: &[KeyedCall],
    start: Vec<usize>,
    stuck: usize,
    value_count: usize,
    meter: &Meter,
) -> Vec<usize> {
    let still = |chosen: &[usize]| is_stuck(calls, chosen, value_count, meter);
    let mut kept = windowed(calls, start, stuck, &still);
    let mut chunk = kept.len().div_ceil(2);
    while chunk >= 1 && meter.check_time().is_ok() {
        let mut removed_any = false;
        let mut from = 0;
        while from < kept.len() && meter.check_time().is_ok() {
            let to = (from + chunk).min(kept.len());
            let rest: Vec<usize> = kept
                .iter()
                .enumerate()
                .filter(|(place, i)| !(from..to).contains(place) || **i == stuck)
                .map(|(_, i)| *i)
                .collect();
            let sound = rest.len() < kept.len()
                && kept[from..to].iter().all(|&i| i == stuck || may_go(calls, i, &rest));
            if sound && still(&rest) {
                kept = rest;
                removed_any = true;
            } else {
                from = to;
            }
        }
        if chunk == 1 && !removed_any {
            break;
        }
        chunk = if chunk == 1 { 1 } else { chunk / 2 };
    }
    kept
}

/// The last calls before the stuck one, with those earlier ones that they may rest on.
fn windowed(
    calls: &[KeyedCall],
    start: Vec<usize>,
    stuck: usize,
    still: &dyn Fn(&[usize]) -> bool,
) -> Vec<usize> {
    let before: Vec<usize> =
        start.iter().copied().filter(|&i| calls[i].invoke < calls[stuck].ret).collect();
    let mut width = 32;
    while width < before.len() {
        let (earlier, window) = before.split_at(before.len() - width);
        let mut kept = window.to_vec();
        if !kept.contains(&stuck) {
            kept.insert(0, stuck);
        }
        support(calls, earlier, &mut kept);
        if kept.len() < before.len() && still(&kept) {
            return kept;
        }
        width *= 4;
    }
    if still(&before) { before } else { start }
}

/// Adds those of `earlier` that `kept` may have seen, until there are none left.
fn support(calls: &[KeyedCall], earlier: &[usize], kept: &mut Vec<usize>) {
    let first_look = kept.iter().map(|&i| calls[i].invoke).min().unwrap_or(0);
    let certain = |i: &&usize| {
        written(&calls[**i]).is_some() && calls[**i].ret != NEVER && calls[**i].ret < first_look
    };
    // One certain write before the window separates what is older from all in it.
    if let Some(&anchor) = earlier.iter().rev().find(certain)
        && !kept.contains(&anchor)
    {
        kept.push(anchor);
    }
    loop {
        let before = kept.len();
        for &i in earlier.iter().rev() {
            if !kept.contains(&i) && !may_go(calls, i, kept) {
                kept.push(i);
            }
            // Too many to be worth it; a wider window needs fewer of them.
            if kept.len() > 4 * before + 256 {
                break;
            }
        }
        if kept.len() == before {
            break;
        }
        if kept.len() > 4_096 {
            break;
        }
    }
    kept.sort_unstable();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(call: RegisterCall, invoke: u32, ret: u32) -> KeyedCall {
        KeyedCall { call, invoke, ret }
    }

    #[test]
    fn a_write_that_a_read_may_have_seen_stays() {
        let calls = [
            call(RegisterCall::Write(1), 0, 1),
            call(RegisterCall::Write(2), 2, 3),
            call(RegisterCall::Read(1), 4, 5),
        ];
        assert!(may_be_seen(&calls, 0, &[2]), "nothing lies between");
        assert!(!may_be_seen(&calls, 0, &[1, 2]), "write 2 lies between");
        assert!(!may_be_seen(&calls, 1, &[0, 2]), "nobody saw 2");
    }
}
