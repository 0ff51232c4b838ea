//! Operations that cannot be put in order: which one fits nowhere, and how far an order came.

use fuzz_dist_core::{Anomaly, History};

use super::canvas::wrap;
use super::timeline::{self, Look, Timeline};
use crate::evidence::Keyed;

/// Operations drawn: the first, which the checker names first, and the latest of the others.
const OPERATION_COUNT_MAX: usize = 40;
/// Lines of the checker's words below.
const NOTE_COUNT_MAX: usize = 24;
/// How wide these lines are, in characters.
const NOTE_COLUMNS: usize = 130;

/// The name that `linearizable` gives to its anomaly: its first operation is the one that fits nowhere.
const NONLINEARIZABLE: &str = "nonlinearizable";

/// The drawing; `None` if no operation of the anomaly is in the history.
pub fn draw(history: &History, anomaly: &Anomaly, keyed: Keyed, title: &str) -> Option<String> {
    let mut ops = super::invocations(history, &anomaly.ops);
    let stuck = match anomaly.name.as_str() {
        NONLINEARIZABLE => ops.first().copied(),
        _ => None,
    };
    let mut notes = Vec::new();
    let first = ops.first().copied()?;
    ops.sort_unstable();
    if ops.len() > OPERATION_COUNT_MAX {
        let omitted = ops.len() - OPERATION_COUNT_MAX;
        let mut kept = ops.split_off(omitted);
        if !kept.contains(&first) {
            kept[0] = first;
        }
        ops = kept;
        notes.push(format!("{omitted} further operations of this anomaly are not drawn."));
    }
    let legend: &[(&str, &str)] = match stuck {
        Some(_) if anomaly.longest_order.is_empty() => &[
            ("stuck", "fits nowhere"),
            ("ok", "ok"),
            ("info", "info: at any later time, or never"),
        ],
        Some(_) => &[
            ("stuck", "fits nowhere"),
            ("ok", "ok"),
            ("info", "info: at any later time, or never"),
            ("point", "longest order that holds"),
        ],
        None => &[("ok", "ok"), ("info", "info"), ("fail", "fail")],
    };
    let words = anomaly.text.lines().filter(|line| !is_drawing(line));
    notes.extend(words.flat_map(indented).take(NOTE_COUNT_MAX));
    let look = |op| if Some(op) == stuck { Look::Stuck } else { Look::Outcome };
    let timeline = Timeline {
        ops: ops.into_iter().map(|op| (op, look(op))).collect(),
        path: &anomaly.longest_order,
        legend,
        notes,
    };
    timeline::draw(history, keyed, title, &timeline)
}

/// Intervals drawn with characters, which stand above in a better form.
fn is_drawing(line: &str) -> bool {
    line.contains("|--") || line.contains("taken alone, are already not")
}

/// A line broken where it is too long, its indentation kept.
fn indented(line: &str) -> Vec<String> {
    let indent = " ".repeat(line.len() - line.trim_start().len());
    wrap(line, NOTE_COLUMNS - indent.len().min(40), 4)
        .into_iter()
        .map(|part| format!("{indent}{part}"))
        .collect()
}
