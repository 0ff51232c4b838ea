//! Which acknowledged additions a final read lacks.
//!
//! "670972 too little" is a proof and no explanation. What a system loses has a shape: everything after a
//! moment (a state that was stored late), everything before one (a state that was thrown away), what one
//! process did for a while, or a few additions. These are tried in this order, with bounded work, and the
//! first that adds up is told. With amounts that are all different it is nearly always what happened; it is
//! an explanation, and the verdict does not depend on it.

use std::collections::{BTreeMap, HashMap};

use fuzz_dist_core::History;
use rustc_hash::FxBuildHasher;

use crate::pn_counter::{Add, Read, on};

/// How many additions are named one by one.
const NAMED_MAX: usize = 6;
/// How many of neighbouring additions are tried in all combinations.
const WINDOW: usize = 22;
/// How many such windows.
const WINDOWS_MAX: usize = 2_000;

/// An explanation, with the additions that it is about.
pub(super) struct Missing<'a> {
    pub text: String,
    pub adds: Vec<&'a Add>,
}

/// Explains a value that all acknowledged additions do not give. `acknowledged` are those that the read has
/// to hold, in the order of their acknowledgement.
pub(super) fn explain<'a>(
    history: &History,
    acknowledged: &[&'a Add],
    value: i128,
) -> Option<Missing<'a>> {
    let sum: i128 = acknowledged.iter().map(|add| add.delta).sum();
    let lacks = sum - value;
    cut(history, acknowledged, value)
        .or_else(|| one(acknowledged, lacks))
        .or_else(|| of_a_process(acknowledged, lacks))
        .or_else(|| stretch(acknowledged, lacks))
        .or_else(|| pair(acknowledged, lacks))
        .or_else(|| some_of_a_window(acknowledged, lacks))
}

/// `41.670 s (record 812)`, without the time where there is none.
fn moment(history: &History, record: u64) -> String {
    let time_ns = history.ops().get(record as usize).map_or(-1, |op| op.time_ns);
    match time_ns {
        ..0 => format!("record {record}"),
        ns => format!("{:.3} s (record {record})", ns as f64 / 1e9),
    }
}

fn acknowledged_at(add: &Add) -> u64 {
    add.ok.unwrap_or(add.invoke)
}

/// `the additions of 3, 4 and 5 (records 1, 5, 9)`, or how many they are.
fn named(adds: &[&Add]) -> String {
    let amounts: Vec<String> = adds.iter().map(|add| add.delta.to_string()).collect();
    let records: Vec<String> = adds.iter().map(|add| add.invoke.to_string()).collect();
    match adds {
        [one] => format!("the addition of {} (record {})", one.delta, one.invoke),
        few if few.len() <= NAMED_MAX => {
            format!("the additions of {} (records {})", amounts.join(", "), records.join(", "))
        }
        many => format!("{} additions", many.len()),
    }
}

/// Everything until a moment, or everything after one, in the order of acknowledgement.
fn cut<'a>(history: &History, acknowledged: &[&'a Add], value: i128) -> Option<Missing<'a>> {
    let whole: i128 = acknowledged.iter().map(|add| add.delta).sum();
    // The longest first, so that as little as possible is missing.
    let mut prefix = whole;
    for count in (0..acknowledged.len()).rev() {
        prefix -= acknowledged[count].delta;
        if prefix != value {
            continue;
        }
        let (kept, lost) = acknowledged.split_at(count);
        let text = match kept.last() {
            Some(last) => format!(
                "{value} is the sum of everything acknowledged until {}: {}, acknowledged after it, \
                 {} missing",
                moment(history, acknowledged_at(last)),
                named(lost),
                is_are(lost)
            ),
            None => format!("nothing that was acknowledged is in it: {} additions", lost.len()),
        };
        return Some(Missing { text, adds: lost.to_vec() });
    }
    let mut suffix = whole;
    for count in 1..acknowledged.len() {
        suffix -= acknowledged[count - 1].delta;
        if suffix == value {
            let (lost, kept) = acknowledged.split_at(count);
            let text = format!(
                "{value} is the sum of everything acknowledged from {} on: {}, acknowledged before it, \
                 {} missing",
                moment(history, acknowledged_at(kept[0])),
                named(lost),
                is_are(lost)
            );
            return Some(Missing { text, adds: lost.to_vec() });
        }
    }
    None
}

fn is_are(adds: &[&Add]) -> &'static str {
    if adds.len() == 1 { "is" } else { "are" }
}

fn one<'a>(acknowledged: &[&'a Add], lacks: i128) -> Option<Missing<'a>> {
    let with = |delta: i128| -> Vec<&'a Add> {
        acknowledged.iter().filter(|add| add.delta == delta).copied().collect()
    };
    let missing = |adds: Vec<&'a Add>, what: &str| {
        let first = *adds.first()?;
        let others = match adds.len() {
            1 => String::new(),
            count => format!(" (or one of {} others of the same amount)", count - 1),
        };
        let text = format!("{} {what}{others}", named(&[first]));
        Some(Missing { text, adds: vec![first] })
    };
    missing(with(lacks), "was lost").or_else(|| missing(with(-lacks), "was applied twice"))
}

/// What one process did for a while, to its end if that fits.
fn of_a_process<'a>(acknowledged: &[&'a Add], lacks: i128) -> Option<Missing<'a>> {
    let mut by_process: BTreeMap<i64, Vec<&Add>> = BTreeMap::new();
    for add in acknowledged {
        by_process.entry(add.process).or_default().push(add);
    }
    let found = by_process.iter().filter_map(|(process, adds)| {
        let (from, to) = shortest_stretch(adds, lacks)?;
        Some((*process, adds[from..to].to_vec()))
    });
    // The fewest additions explain best.
    let (process, adds) = found.min_by_key(|(_, adds)| adds.len())?;
    let text = format!(
        "{} of process {process}{}, one after the other, {} missing",
        named(&adds),
        on(adds[0].node),
        is_are(&adds)
    );
    Some(Missing { text, adds })
}

/// What was acknowledged between two moments.
fn stretch<'a>(acknowledged: &[&'a Add], lacks: i128) -> Option<Missing<'a>> {
    let (from, to) = shortest_stretch(acknowledged, lacks)?;
    let adds = acknowledged[from..to].to_vec();
    let text = format!(
        "{}, acknowledged one after the other from record {} to record {}, {} missing",
        named(&adds),
        acknowledged_at(adds[0]),
        acknowledged_at(adds[adds.len() - 1]),
        is_are(&adds)
    );
    Some(Missing { text, adds })
}

/// The shortest run of neighbours that add up to `wanted`.
fn shortest_stretch(adds: &[&Add], wanted: i128) -> Option<(usize, usize)> {
    // The last place at which each sum from the start was reached.
    let mut reached: HashMap<i128, usize, FxBuildHasher> = HashMap::default();
    let (mut sum, mut best) = (0, None::<(usize, usize)>);
    reached.insert(0, 0);
    for (i, add) in adds.iter().enumerate() {
        sum += add.delta;
        if let Some(&from) = reached.get(&(sum - wanted))
            && best.is_none_or(|(a, b)| i + 1 - from < b - a)
        {
            best = Some((from, i + 1));
        }
        reached.insert(sum, i + 1);
    }
    best
}

fn pair<'a>(acknowledged: &[&'a Add], lacks: i128) -> Option<Missing<'a>> {
    let mut seen: HashMap<i128, &Add, FxBuildHasher> = HashMap::default();
    for add in acknowledged {
        if let Some(other) = seen.get(&(lacks - add.delta)) {
            let adds = vec![*other, *add];
            return Some(Missing { text: format!("{} may be missing", named(&adds)), adds });
        }
        seen.insert(add.delta, add);
    }
    None
}

/// Some of additions that were acknowledged close to each other, the newest first.
fn some_of_a_window<'a>(acknowledged: &[&'a Add], lacks: i128) -> Option<Missing<'a>> {
    let mut end = acknowledged.len();
    for _ in 0..WINDOWS_MAX {
        let start = end.saturating_sub(WINDOW);
        if let Some(adds) = subset(&acknowledged[start..end], lacks) {
            return Some(Missing { text: format!("{} may be missing", named(&adds)), adds });
        }
        end = end.checked_sub(WINDOW / 2).filter(|end| *end > 0 && start > 0)?;
    }
    None
}

/// A subset with that sum, by the sums of two halves.
fn subset<'a>(adds: &[&'a Add], wanted: i128) -> Option<Vec<&'a Add>> {
    let (left, right) = adds.split_at(adds.len() / 2);
    let sums = |adds: &[&Add]| -> Vec<(i128, u32)> {
        let mut sums = vec![(0, 0u32)];
        for (i, add) in adds.iter().enumerate() {
            let more: Vec<(i128, u32)> =
                sums.iter().map(|(sum, mask)| (sum + add.delta, mask | 1 << i)).collect();
            sums.extend(more);
        }
        sums.sort_unstable();
        sums
    };
    let (from_left, from_right) = (sums(left), sums(right));
    let mut b = from_right.len();
    for (sum, mask) in &from_left {
        while b > 0 && sum + from_right[b - 1].0 > wanted {
            b -= 1;
        }
        if b > 0 && sum + from_right[b - 1].0 == wanted {
            let of = |adds: &[&'a Add], mask: u32| -> Vec<&'a Add> {
                (0..adds.len()).filter(|i| mask >> i & 1 == 1).map(|i| adds[i]).collect()
            };
            let mut found = of(left, *mask);
            found.extend(of(right, from_right[b - 1].1));
            return (!found.is_empty()).then_some(found);
        }
    }
    None
}

/// A read that went back, on a counter that only grows or only shrinks: what its node had shown before.
pub(super) fn first_that_went_back<'r>(
    adds: &[Add],
    reads: &'r [Read],
) -> Option<(&'r Read, &'r Read)> {
    let grows = adds.iter().all(|add| add.delta >= 0);
    let shrinks = adds.iter().all(|add| add.delta <= 0);
    if !grows && !shrinks {
        return None;
    }
    // By place: a node, or a process where nodes are not recorded.
    let mut furthest: HashMap<(Option<u32>, i64), &Read, FxBuildHasher> = HashMap::default();
    for read in reads {
        let node = read.node.map(|node| node.id());
        let place = (node, if node.is_some() { 0 } else { read.process });
        match furthest.get(&place) {
            Some(before) if before.completion < read.invoke => {
                if read.value.abs() < before.value.abs() {
                    return Some((before, read));
                }
                furthest.insert(place, read);
            }
            // Of two at the same time neither comes first.
            Some(_) => {}
            None => {
                furthest.insert(place, read);
            }
        }
    }
    None
}
