//! Makes a counter-example small without making it up.
//!
//! Leaving a call out of a history that can be linearized may give one that cannot: a read without its
//! write, say. Such a "counter-example" would prove nothing. So a call is left out only if its object
//! says that this keeps every linearizable history linearizable ([`Subject::may_go`]); what remains,
//! being not linearizable, proves that the whole is not.
//!
//! First a window before the call that got stuck is tried, with what it may rest on, widened until it is
//! enough; then delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing
//! input", 2002) removes groups, chunks and single calls.

use crate::budget::Meter;
use crate::linearizable::search::NEVER;
use crate::linearizable::subject::Subject;

/// Indices of calls that cannot be linearized, as few as the budget allows, in order of invocation.
/// `start` cannot be linearized and contains `stuck`, which stays.
pub fn minimise(
    subject: &dyn Subject,
    start: Vec<usize>,
    stuck: usize,
    meter: &Meter,
) -> Vec<usize> {
    let still = |chosen: &[usize]| subject.is_refuted(chosen, meter);
    let kept = windowed(subject, start, stuck, &still);
    let mut kept = without_groups(subject, kept, Some(stuck), meter);
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
                && kept[from..to].iter().all(|&i| i == stuck || subject.may_go(i, &rest));
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

/// Leaves out groups as long as what remains cannot be linearized. The group of `stuck` stays.
pub fn without_groups(
    subject: &dyn Subject,
    mut kept: Vec<usize>,
    stuck: Option<usize>,
    meter: &Meter,
) -> Vec<usize> {
    let still = |chosen: &[usize]| subject.is_refuted(chosen, meter);
    let there: std::collections::HashSet<usize> = kept.iter().copied().collect();
    let mut groups = subject.groups();
    groups.retain(|group| {
        group.iter().any(|i| there.contains(i)) && stuck.is_none_or(|stuck| !group.contains(&stuck))
    });
    let mut chunk = groups.len().div_ceil(2);
    while chunk >= 1 && !groups.is_empty() && meter.check_time().is_ok() {
        let mut from = 0;
        while from < groups.len() && meter.check_time().is_ok() {
            let to = (from + chunk).min(groups.len());
            let going: std::collections::HashSet<usize> =
                groups[from..to].iter().flatten().copied().collect();
            let rest: Vec<usize> = kept.iter().copied().filter(|i| !going.contains(i)).collect();
            if rest.len() == kept.len() || still(&rest) {
                kept = rest;
                groups.drain(from..to);
            } else {
                from = to;
            }
        }
        if chunk == 1 {
            break;
        }
        chunk /= 2;
    }
    kept
}

/// The last calls before the stuck one, with those earlier ones that they may rest on.
fn windowed(
    subject: &dyn Subject,
    start: Vec<usize>,
    stuck: usize,
    still: &dyn Fn(&[usize]) -> bool,
) -> Vec<usize> {
    let spans = subject.spans();
    let before: Vec<usize> =
        start.iter().copied().filter(|&i| spans[i].invoke < spans[stuck].ret).collect();
    let mut width = 32;
    while width < before.len() {
        let (earlier, window) = before.split_at(before.len() - width);
        let mut kept = window.to_vec();
        if !kept.contains(&stuck) {
            kept.insert(0, stuck);
        }
        if support(subject, earlier, &mut kept) && kept.len() < before.len() && still(&kept) {
            return kept;
        }
        width *= 4;
    }
    if still(&before) { before } else { start }
}

/// Adds those of `earlier` that `kept` may rest on. `false` if there are too many to be worth it.
fn support(subject: &dyn Subject, earlier: &[usize], kept: &mut Vec<usize>) -> bool {
    let spans = subject.spans();
    let first_look = kept.iter().map(|&i| spans[i].invoke).min().unwrap_or(0);
    let certain = |i: &&usize| {
        let ret = spans[**i].ret;
        ret != NEVER && ret < first_look && subject.is_certain_change(**i)
    };
    // One certain change before the window separates what is older from all in it.
    if let Some(&anchor) = earlier.iter().rev().find(certain)
        && !kept.contains(&anchor)
    {
        kept.push(anchor);
    }
    let room = 4 * kept.len() + 256;
    loop {
        let before = kept.len();
        for &i in earlier.iter().rev() {
            if !kept.contains(&i) && !subject.may_go(i, kept) {
                kept.push(i);
            }
            if kept.len() > room {
                return false;
            }
        }
        if kept.len() == before {
            kept.sort_unstable();
            return true;
        }
    }
}
