//! What people read of a check: the verdict and why, in a screen of 24 lines.
//!
//! The first anomaly is shown as far as there is room, the others are named; what was cut says where the
//! whole is.

use fuzz_dist_core::Anomaly;
use fuzz_dist_core::text::harmless;

use super::Checked;
use crate::args::CheckArgs;
use crate::commands::outcome;

/// Lines of a terminal, one of them for the prompt.
const LINE_COUNT_MAX: usize = 23;
const COLUMN_COUNT_MAX: usize = 100;
/// Lines of the reason, of the counts, and of the names of drawings.
const REASON_LINE_COUNT_MAX: usize = 3;
const COUNTS_LINE_COUNT_MAX: usize = 2;
const DRAWING_COUNT_MAX: usize = 2;
/// Longest key of an anomaly.
const KEY_CHAR_COUNT_MAX: usize = 60;

/// The text, without a line end at the end.
pub fn text(checked: &Checked<'_>, args: &CheckArgs, colour: bool) -> String {
    let result = checked.result;
    let mut head = vec![format!(
        "{}: {} ({:.0} ms)",
        result.checker,
        outcome::painted(result.verdict, colour),
        result.elapsed_ms
    )];
    head.extend(cut(wrap(&harmless(&result.reason), COLUMN_COUNT_MAX), REASON_LINE_COUNT_MAX));
    let mut foot = foot(checked, args);
    // Two empty lines, and the line with the anomaly's name.
    let room = LINE_COUNT_MAX.saturating_sub(head.len() + foot.len() + 3);
    let mut whole = true;
    if let Some(first) = result.anomalies.first() {
        head.push(String::new());
        head.push(name(first));
        let others = others(&result.anomalies[1..]);
        let lines = words(&first.text);
        let room = room.saturating_sub(others.len() + usize::from(!args.json));
        whole = lines.len() <= room && others.is_empty();
        head.extend(middle_out(lines, room).into_iter().map(|line| format!("  {line}")));
        head.extend(others);
    }
    if let Some(hint) = hint(args, whole) {
        foot.push(hint);
    }
    if !foot.is_empty() {
        head.push(String::new());
        head.extend(foot);
    }
    head.join("\n")
}

fn name(anomaly: &Anomaly) -> String {
    let key = anomaly.key.as_ref().map(|key| format!(" of {}", clip(key, KEY_CHAR_COUNT_MAX)));
    harmless(&format!("{}{}", anomaly.name, key.unwrap_or_default()))
}

/// How many further anomalies there are of each name.
fn others(anomalies: &[Anomaly]) -> Vec<String> {
    let mut names: Vec<(&str, usize)> = Vec::new();
    for anomaly in anomalies {
        match names.iter_mut().find(|(name, _)| *name == anomaly.name) {
            Some((_, count)) => *count += 1,
            None => names.push((&anomaly.name, 1)),
        }
    }
    if names.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = names.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let text = harmless(&format!("and further anomalies told: {}", names.join(", ")));
    cut(wrap(&text, COLUMN_COUNT_MAX), 2)
}

/// Counts, and where drawings are.
fn foot(checked: &Checked<'_>, args: &CheckArgs) -> Vec<String> {
    let counts = &checked.result.counts;
    let counts: Vec<String> =
        counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let text = harmless(&counts.join(", "));
    let mut lines = cut(wrap(&text, COLUMN_COUNT_MAX), COUNTS_LINE_COUNT_MAX);
    for path in checked.drawings.iter().take(DRAWING_COUNT_MAX) {
        lines.push(format!("drawing  {}", path.display()));
    }
    if checked.drawings.len() > DRAWING_COUNT_MAX {
        let more = checked.drawings.len() - DRAWING_COUNT_MAX;
        lines.push(format!("         and {more} more in the same folder"));
    }
    if args.svg.is_some() && checked.drawings.is_empty() {
        lines.push("no drawing: there is no anomaly that names operations".to_owned());
    }
    lines
}

/// Where the rest is.
fn hint(args: &CheckArgs, whole: bool) -> Option<String> {
    match (whole, args.json, args.svg.is_some()) {
        (true, ..) | (_, true, _) => None,
        (false, false, false) => Some("the rest: --json prints it, --svg FOLDER draws it".into()),
        (false, false, true) => Some("the rest: --json prints it".into()),
    }
}

/// The lines of an anomaly's text, each as wide as the screen: intervals drawn with characters are cut,
/// everything else is broken.
fn words(text: &str) -> Vec<String> {
    let width = COLUMN_COUNT_MAX - 2;
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = harmless(line);
        if line.chars().count() <= width {
            lines.push(line);
        } else if line.contains("|--") {
            lines.push(clip(&line, width));
        } else {
            let indent = line.len() - line.trim_start().len();
            let indent = " ".repeat(indent.min(12));
            // Room for the deeper indent, and for the mark of what is cut.
            let parts = cut(wrap(&line, width - indent.len() - 4), 4);
            lines.extend(parts.into_iter().enumerate().map(|(i, part)| {
                let deeper = if i == 0 { "" } else { "  " };
                format!("{indent}{deeper}{part}")
            }));
        }
    }
    lines
}

/// As many lines as there is room for, a third from the beginning: what it is about stands first, and
/// what it comes to stands last.
fn middle_out(mut lines: Vec<String>, room: usize) -> Vec<String> {
    if lines.len() <= room {
        return lines;
    }
    let kept = room.saturating_sub(1);
    let first = kept / 3;
    let omitted = lines.len() - kept;
    let last = lines.split_off(lines.len() - (kept - first));
    lines.truncate(first);
    lines.push(format!("… {omitted} lines left out"));
    lines.extend(last);
    lines
}

/// Cut to a number of lines, the last of which says so.
fn cut(mut lines: Vec<String>, count_max: usize) -> Vec<String> {
    if lines.len() > count_max {
        lines.truncate(count_max);
        if let Some(last) = lines.last_mut() {
            last.push_str(" …");
        }
    }
    lines
}

/// Words in lines of at most `width` characters; a longer word is cut.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let word = clip(word, width);
        let word_length = word.chars().count();
        if length > 0 && length + 1 + word_length > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(&word);
        length += word_length;
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

fn clip(text: &str, width: usize) -> String {
    if text.chars().nth(width).is_none() {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_evidence_keeps_its_beginning_and_its_end() {
        let lines: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        let shown = middle_out(lines.clone(), 10);
        assert_eq!(shown.len(), 10);
        assert_eq!((shown[0].as_str(), shown[9].as_str()), ("0", "99"));
        assert_eq!(shown[3], "… 91 lines left out");
        assert_eq!(middle_out(lines.clone(), 100), lines);
        assert_eq!(middle_out(lines, 1), ["… 100 lines left out"]);
    }

    #[test]
    fn lines_fit_and_cannot_steer_the_terminal() {
        let text = format!("    - {}\nx\u{1b}[2Jy", "word ".repeat(60));
        let lines = words(&text);
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMN_COUNT_MAX), "{lines:?}");
        assert!(lines[0].starts_with("    - word") && lines[1].starts_with("      word"));
        assert_eq!(lines.last().unwrap(), "x·[2Jy");
        assert_eq!(wrap(&"a".repeat(30), 10), ["aaaaaaaaa…"]);
    }
}
