//! Evidence as drawings: one SVG file for each of the first anomalies.
//!
//! Three kinds, chosen by what the checker left in the anomaly:
//!
//! * edges: the operations as boxes, each dependency as an arrow with its reason ([`cycle`]);
//! * an element of a set or a queue: its life line, from being added to the reads that missed it ([`life`]);
//! * anything else that names operations: processes over time, the operation that fits nowhere marked, and
//!   the longest order that holds as a numbered path ([`order`]).
//!
//! The same anomaly always gives the same bytes. Everything is bounded: drawings, operations of one, and
//! texts; what was left out is said in the drawing. Colours follow the light or dark of whoever shows it.

use fuzz_dist_core::{Anomaly, CheckResult, History, OpType, Value, Verdict, interop};

use crate::evidence::{self, Keyed};
use crate::text::clip;

mod canvas;
mod cycle;
mod life;
mod order;
mod timeline;

/// Anomalies drawn of one result.
pub const DRAWING_COUNT_MAX: usize = 16;
/// Bytes of all drawings in one page.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Longest part of a file name that comes from a name or a key.
const SLUG_CHAR_COUNT_MAX: usize = 40;
/// Longest title.
const TITLE_CHAR_COUNT_MAX: usize = 110;

/// One drawing.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// A name for its file that is safe on every system: `01-linearizable-nonlinearizable-key-3.svg`.
    pub file_name: String,
    /// What it shows, in a line.
    pub title: String,
    /// The SVG document.
    pub svg: String,
}

/// Drawings of the first anomalies of everything that is invalid, smallest first; an anomaly that names no
/// operations has none.
pub fn drawings(history: &History, result: &CheckResult) -> Vec<Drawing> {
    if result.verdict != Verdict::Invalid {
        return Vec::new();
    }
    let keyed = Keyed::detect(history, result);
    evidence::anomalies(result)
        .into_iter()
        .filter_map(|(checker, anomaly)| {
            let title = title(&checker, anomaly);
            let svg = draw(history, &checker, anomaly, keyed, &title)?;
            Some((checker, anomaly, title, svg))
        })
        .take(DRAWING_COUNT_MAX)
        .enumerate()
        .map(|(i, (checker, anomaly, title, svg))| Drawing {
            file_name: file_name(i + 1, &checker, anomaly),
            title,
            svg,
        })
        .collect()
}

/// Drawings for a page that already shows operations over time: of the first anomalies that have more to
/// show (edges, an order, a life line), in the order of [`evidence::counter_examples`].
pub(crate) fn for_page(
    history: &History,
    result: &CheckResult,
    count_max: usize,
) -> Vec<Option<String>> {
    let keyed = Keyed::detect(history, result);
    let mut bytes = 0;
    let mut fits = |svg: &String| {
        bytes += svg.len();
        bytes <= PAGE_BYTES_MAX
    };
    evidence::anomalies(result)
        .into_iter()
        .take(count_max)
        .map(|(checker, anomaly)| {
            let title = title(&checker, anomaly);
            let svg = match anomaly.edges.is_empty() && anomaly.longest_order.is_empty() {
                true => life::draw(history, &checker, anomaly, keyed, &title),
                false => draw(history, &checker, anomaly, keyed, &title),
            };
            svg.filter(&mut fits)
        })
        .collect()
}

/// The drawing of one anomaly, if it names operations of this history.
fn draw(
    history: &History,
    checker: &str,
    anomaly: &Anomaly,
    keyed: Keyed,
    title: &str,
) -> Option<String> {
    if !anomaly.edges.is_empty() {
        return cycle::draw(history, anomaly, title);
    }
    life::draw(history, checker, anomaly, keyed, title)
        .or_else(|| order::draw(history, anomaly, keyed, title))
}

/// What a drawing of this anomaly shows, in a line.
fn title(checker: &str, anomaly: &Anomaly) -> String {
    let key = anomaly.key.as_ref().map(|key| format!(" of {key}")).unwrap_or_default();
    clip(&format!("{checker}: {}{key}", anomaly.name), TITLE_CHAR_COUNT_MAX)
}

fn file_name(number: usize, checker: &str, anomaly: &Anomaly) -> String {
    let mut name = format!("{number:02}");
    let key = anomaly.key.as_deref().unwrap_or_default();
    for part in [checker, anomaly.name.as_str(), key].into_iter().map(slug) {
        if !part.is_empty() {
            name.push('-');
            name.push_str(&part);
        }
    }
    name + ".svg"
}

/// Letters, digits and single dashes: nothing that a shell, a URL or a file system could take for its own.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if slug.len() >= SLUG_CHAR_COUNT_MAX {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// Positions of the invocations that these positions (of invocations or completions) belong to, in the
/// given order and each once; what is outside the history is left out.
fn invocations(history: &History, positions: &[u64]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for &position in positions {
        let Ok(position) = usize::try_from(position) else { continue };
        let Some(op) = history.ops().get(position) else { continue };
        let first = match op.op_type {
            OpType::Invoke => position,
            _ => history.pair(position).unwrap_or(position),
        };
        if seen.insert(first) {
            found.push(first);
        }
    }
    found
}

/// The key and the element that an anomaly's `key` names: `3`, or `1 3` when keys are independent.
fn key_and_element(key: &str) -> Option<(Option<Value>, Value)> {
    let parsed = interop::parse_edn_value(&format!("[{key}]")).ok()?;
    match parsed.items()? {
        [element] => Some((None, element.clone())),
        [key, element] => Some((Some(key.clone()), element.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_safe() {
        let anomaly = Anomaly {
            name: "G-single".into(),
            key: Some("../../etc/pass wd\0 \"é$(x)".into()),
            ..Anomaly::default()
        };
        assert_eq!(
            file_name(3, "list-append", &anomaly),
            "03-list-append-G-single-etc-pass-wd-x.svg"
        );
        assert_eq!(slug("日本語"), "");
        assert_eq!(slug(&"a".repeat(500)).len(), SLUG_CHAR_COUNT_MAX);
    }

    #[test]
    fn an_element_may_stand_behind_its_independent_key() {
        assert_eq!(key_and_element("3"), Some((None, Value::Int(3))));
        assert_eq!(key_and_element(":a [1 2]").unwrap().0, Some(Value::sym("a")));
        assert_eq!(key_and_element("[1 2"), None);
        assert_eq!(key_and_element("1 2 3"), None);
    }
}
