//! The life line of an element of a set or a queue: its add, and the reads that saw or missed it.
//!
//! The checker names the operations that prove the anomaly; the others on the same element are added, those
//! nearest to the proof first, so that one sees since when it was known and for how long it was gone.

use fuzz_dist_core::{Anomaly, History, OpType, Value};

use super::canvas::wrap;
use super::key_and_element;
use super::timeline::{self, Look, Timeline};
use crate::evidence::Keyed;

/// Checkers whose anomalies are about an element.
const CHECKERS: [&str; 7] =
    ["set", "set-full", "final-reads", "or-set", "queue", "total-queue", "delivery"];
/// Those from which an element is taken: whoever else comes later finds it gone, as it should be.
const QUEUES: [&str; 3] = ["queue", "total-queue", "delivery"];
/// Anomalies of an element that should be there; in all others it is there, and should not.
const ABSENCES: [&str; 5] = ["lost", "missing", "stale", "stuck", "own-add-missed"];
/// Operations drawn.
const OPERATION_COUNT_MAX: usize = 24;

/// What an operation has to do with the element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It is the argument: added, enqueued, published.
    Argument,
    /// It came back.
    Saw,
    /// Everything was read, and it was not among it.
    Missed,
}

/// The drawing; `None` when the anomaly is not about an element, or nothing in the history is.
pub fn draw(
    history: &History,
    checker: &str,
    anomaly: &Anomaly,
    keyed: Keyed,
    title: &str,
) -> Option<String> {
    let name = checker.rsplit(" / ").next().unwrap_or(checker);
    let name = name.split(' ').next().unwrap_or(name);
    if !CHECKERS.contains(&name) {
        return None;
    }
    let (key, element) = key_and_element(anomaly.key.as_deref()?)?;
    let mut found: Vec<(usize, Role)> = Vec::new();
    for (invocation, completion) in history.client_pairs() {
        let (own_key, argument) = keyed.split(&invocation.value);
        if key.is_some() && own_key != key.as_ref() {
            continue;
        }
        let result = completion
            .filter(|done| done.op_type == OpType::Ok)
            .map(|done| keyed.split(&done.value).1);
        if let Some(role) = role(&element, argument, result) {
            found.push((invocation.index as usize, role));
        }
    }
    if found.is_empty() {
        return None;
    }
    let proof = super::invocations(history, &anomaly.ops);
    let total = found.len();
    let kept = nearest(found, &proof);
    let mut notes: Vec<String> = Vec::new();
    if kept.len() < total {
        notes.push(format!(
            "{} further operations on this element are not drawn.",
            total - kept.len()
        ));
    }
    notes.extend(anomaly.text.lines().flat_map(|line| wrap(line, 130, 3)).take(12));
    let (is_queue, is_absence) = (QUEUES.contains(&name), ABSENCES.contains(&&*anomaly.name));
    // A read before the add cannot have missed anything.
    let known = kept.iter().find(|(_, role)| *role != Role::Missed).map(|(op, _)| *op);
    let first_taken = kept.iter().find(|(_, role)| *role == Role::Saw).map(|(op, _)| *op);
    let is_again = |op: usize| anomaly.name.starts_with("duplicate") && first_taken == Some(op);
    let look = |op: usize, role| match role {
        Role::Argument => Look::Outcome,
        Role::Saw if is_absence => Look::Saw,
        // The first time it was taken is as it should be.
        Role::Saw if is_queue && is_again(op) => Look::Saw,
        Role::Saw => Look::Missed,
        Role::Missed if is_absence && known.is_some_and(|known| op > known) => Look::Missed,
        Role::Missed => Look::Outcome,
    };
    let legend: &[(&str, &str)] = match (is_absence, is_queue) {
        (true, false) => &[
            ("ok", "added, or read before it was"),
            ("saw", "saw it"),
            ("missed", "missed it"),
            ("info", "info"),
        ],
        (true, true) => &[
            ("ok", "put in, or came before it was"),
            ("saw", "took it"),
            ("missed", "came without it"),
            ("info", "info"),
        ],
        (false, true) => &[
            ("ok", "put in, or came without it"),
            ("saw", "took it"),
            ("missed", "took it, and should not"),
            ("info", "info"),
        ],
        (false, false) => &[
            ("ok", "added or removed, or read without it"),
            ("missed", "saw it, and should not"),
            ("info", "info"),
        ],
    };
    let timeline = Timeline {
        ops: kept.into_iter().map(|(op, role)| (op, look(op, role))).collect(),
        path: &[],
        legend,
        notes,
    };
    timeline::draw(history, keyed, title, &timeline)
}

fn role(element: &Value, argument: &Value, result: Option<&Value>) -> Option<Role> {
    if argument == element {
        return Some(Role::Argument);
    }
    match result? {
        result if result == element => Some(Role::Saw),
        result => match result.items() {
            Some(items) if items.contains(element) => Some(Role::Saw),
            // Only what reads everything can miss something.
            Some(_) if argument.is_nil() => Some(Role::Missed),
            _ => None,
        },
    }
}

/// The proof, what added the element, and the others by their distance from the proof; in order.
fn nearest(found: Vec<(usize, Role)>, proof: &[usize]) -> Vec<(usize, Role)> {
    let rank = |&(op, role): &(usize, Role)| {
        let distance = proof.iter().map(|p| op.abs_diff(*p)).min().unwrap_or(op);
        (!proof.contains(&op), role != Role::Argument, distance, op)
    };
    let mut kept = found;
    kept.sort_by_key(rank);
    kept.truncate(OPERATION_COUNT_MAX);
    kept.sort_unstable_by_key(|(op, _)| *op);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        let (three, list) = (Value::Int(3), Value::list(vec![Value::Int(1), Value::Int(3)]));
        assert_eq!(role(&three, &three, Some(&three)), Some(Role::Argument));
        assert_eq!(role(&three, &Value::Nil, Some(&list)), Some(Role::Saw));
        assert_eq!(role(&three, &Value::Nil, Some(&three)), Some(Role::Saw));
        assert_eq!(role(&Value::Int(2), &Value::Nil, Some(&list)), Some(Role::Missed));
        assert_eq!(role(&Value::Int(2), &Value::Nil, Some(&three)), None);
        assert_eq!(role(&three, &Value::Nil, None), None);
    }

    #[test]
    fn the_proof_is_kept() {
        let many = (0..100).map(|op| (op, Role::Saw)).collect();
        let kept = nearest(many, &[0, 70]);
        assert_eq!(kept.len(), OPERATION_COUNT_MAX);
        assert!(kept.contains(&(0, Role::Saw)) && kept.contains(&(70, Role::Saw)));
        assert!(kept.is_sorted_by_key(|(op, _)| *op));
    }
}
