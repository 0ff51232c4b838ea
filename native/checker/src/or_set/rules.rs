//! What follows, for one element, from what is known of its adds and removes.

use fuzz_dist_core::History;

use crate::elements::NONE;
use crate::faults;

/// An add or a remove that may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub process: i64,
    pub invoke: u32,
    /// Position of the ok completion; [`NONE`] if it was not answered, and may still take effect.
    pub ret: u32,
    pub is_ok: bool,
}

/// How operations see each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub add_wins: bool,
    pub by_real_time: bool,
    pub read_your_writes: bool,
}

impl Rules {
    /// Whether `later` has certainly seen `earlier`.
    pub fn has_seen(self, later: &Call, earlier: &Call, calm: &Calm) -> bool {
        earlier.is_ok
            && earlier.ret < later.invoke
            && (self.read_your_writes && later.process == earlier.process
                || self.by_real_time && calm.spreads(earlier, later.invoke))
    }
}

/// When no fault was active.
#[derive(Debug, Default)]
pub(super) struct Calm {
    /// First and last position of stretches with faults, in order, and the time at which each ends.
    disturbed: Vec<(u64, u64, i64)>,
    /// Times of all records, if there are any; empty otherwise.
    times_ns: Vec<i64>,
    settle_ns: i64,
}

impl Calm {
    pub fn new(history: &History, settle_ns: i64) -> Calm {
        let spans = faults::spans(history).into_iter();
        let mut windows: Vec<(u64, u64, i64)> =
            spans.map(|span| (span.begun.0, span.ended.0, span.ended.1)).collect();
        windows.sort_unstable();
        let mut disturbed: Vec<(u64, u64, i64)> = Vec::new();
        for window in windows {
            match disturbed.last_mut() {
                Some(last) if window.0 <= last.1 => {
                    last.1 = last.1.max(window.1);
                    last.2 = last.2.max(window.2);
                }
                _ => disturbed.push(window),
            }
        }
        let has_faults = !disturbed.is_empty();
        let times_ns = history.ops().iter().map(|op| op.time_ns).take_while(|_| has_faults);
        Calm { disturbed, times_ns: times_ns.collect(), settle_ns }
    }

    /// Whether what was acknowledged had reached everybody when the record at `at` was invoked.
    fn spreads(&self, earlier: &Call, at: u32) -> bool {
        let at = u64::from(at);
        let before = self.disturbed.partition_point(|window| window.0 < at);
        let Some(&(_, ended, ended_ns)) = self.disturbed[..before].last() else { return true };
        if ended > at {
            return false;
        }
        if ended < u64::from(earlier.invoke) {
            return true;
        }
        let time = |position: usize| self.times_ns.get(position).copied().unwrap_or(-1);
        let (now, acknowledged) = (time(at as usize), time(earlier.ret as usize));
        let since = ended_ns.max(acknowledged);
        now >= 0 && since >= 0 && now.saturating_sub(since) >= self.settle_ns
    }
}

/// Why an element has to be there, or to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// This add was acknowledged, and no remove may have seen it.
    Added(Call),
    /// This add was acknowledged, and has seen the last remove.
    AddedAgain(Call, Call),
    /// The last add was acknowledged, and this remove has seen it.
    Removed(Call, Call),
    /// No add may have happened.
    NeverAdded,
}

impl Why {
    /// In words, with the records that show it.
    pub fn told(self, has_failed_add: bool) -> (String, Vec<u32>) {
        match self {
            Why::Added(add) => {
                let text = format!(
                    "it was added (acknowledged at record {}), and no remove may have come after that",
                    add.ret
                );
                (text, vec![add.invoke, add.ret])
            }
            Why::AddedAgain(add, remove) => {
                let text = format!(
                    "it was added (acknowledged at record {}) after the last remove was acknowledged \
                     (record {})",
                    add.ret, remove.ret
                );
                (text, vec![remove.invoke, remove.ret, add.invoke, add.ret])
            }
            Why::Removed(add, remove) => {
                let text = format!(
                    "it was removed (records {} to {}) after its last add was acknowledged (record {})",
                    remove.invoke, remove.ret, add.ret
                );
                (text, vec![add.invoke, add.ret, remove.invoke, remove.ret])
            }
            Why::NeverAdded if has_failed_add => {
                ("every add of it that had begun by then failed".to_owned(), Vec::new())
            }
            Why::NeverAdded => ("nobody had tried to add it by then".to_owned(), Vec::new()),
        }
    }
}

type Certain<'a> = dyn Fn(&Call) -> bool + 'a;
type Sees<'a> = dyn Fn(&Call, &Call) -> bool + 'a;

/// An add that is certain and that no remove may have seen: each had completed before it was invoked.
pub(super) fn has_to_be_there_if_add_wins(
    adds: &[Call],
    removes: &[Call],
    certain: &Certain,
) -> Option<Why> {
    // NONE, for a remove that may come at any time, is later than every add.
    let last = removes.iter().map(|remove| remove.ret).max();
    let survives = |add: &&Call| certain(add) && last.is_none_or(|last| last < add.invoke);
    adds.iter().find(survives).map(|add| Why::Added(*add))
}

/// Every add that may have happened was seen by a remove that is certain.
pub(super) fn has_to_be_gone_if_add_wins(
    adds: &[Call],
    removes: &[Call],
    certain: &Certain,
    sees: &Sees,
) -> Option<Why> {
    let mut shown = Why::NeverAdded;
    for add in adds {
        let remove = removes.iter().find(|remove| certain(remove) && sees(remove, add))?;
        shown = Why::Removed(*add, *remove);
    }
    Some(shown)
}

/// An add is certain, and each remove that may have happened was seen by one that is.
pub(super) fn has_to_be_there_if_remove_wins(
    adds: &[Call],
    removes: &[Call],
    certain: &Certain,
    sees: &Sees,
) -> Option<Why> {
    let mut shown = Why::Added(*adds.iter().find(|add| certain(add))?);
    for remove in removes {
        let add = adds.iter().find(|add| certain(add) && sees(add, remove))?;
        shown = Why::AddedAgain(*add, *remove);
    }
    Some(shown)
}

/// A remove is certain, and no add may have seen it: each had completed before it was invoked.
pub(super) fn has_to_be_gone_if_remove_wins(
    adds: &[Call],
    removes: &[Call],
    certain: &Certain,
) -> Option<Why> {
    let Some(last) = adds.iter().max_by_key(|add| add.ret) else { return Some(Why::NeverAdded) };
    if last.ret == NONE {
        return None;
    }
    let remove = removes.iter().find(|remove| certain(remove) && last.ret < remove.invoke)?;
    Some(Why::Removed(*last, *remove))
}
