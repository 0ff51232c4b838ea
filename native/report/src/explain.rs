//! The last words of a run on a terminal: at most a screen, so the smallest useful truth.
//!
//! Verdict and reason; for `invalid` the smallest counter-example, the faults that overlap it and who saw
//! `nodedown` when and why; for every verdict, faults without effect and whatever makes a pass weaker
//! than it looks. Paths and the replay command are the caller's, who knows them.

use fuzz_dist_core::{CheckResult, History, Verdict};

use crate::analyse::{FaultStatus, FaultWindow, NodeEvent, PlaneSummary, Summary};
use crate::evidence::{CounterExample, counter_examples};
use crate::info::{RunInfo, Tested};
use crate::text::{line, milliseconds, seconds, thousands};

/// Width of a line.
pub const COLUMN_COUNT_MAX: usize = 100;
/// Lines in all.
pub const LINE_COUNT_MAX: usize = 36;

const OPERATION_LINE_COUNT_MAX: usize = 12;
const TEXT_LINE_COUNT_MAX: usize = 4;
const FAULT_LINE_COUNT_MAX: usize = 3;
const NODE_LINE_COUNT_MAX: usize = 5;
const NO_EFFECT_LINE_COUNT_MAX: usize = 3;
const PROBLEM_LINE_COUNT_MAX: usize = 4;

/// Lines with the colours of a terminal, if wanted.
struct Screen {
    colour: bool,
    lines: Vec<String>,
}

#[derive(Clone, Copy)]
enum Ink {
    Plain,
    Dim,
    Bold,
    Verdict(Verdict),
}

impl Screen {
    /// One line; text of histories and systems is made harmless before our own colour is added.
    fn put(&mut self, ink: Ink, text: &str) {
        let text = line(text.trim_end(), COLUMN_COUNT_MAX);
        let code = match ink {
            Ink::Plain => "",
            Ink::Dim => "2",
            Ink::Bold => "1",
            Ink::Verdict(Verdict::Valid) => "1;32",
            Ink::Verdict(Verdict::Unknown) => "1;33",
            Ink::Verdict(Verdict::Invalid) => "1;31",
        };
        self.lines.push(match self.colour && !code.is_empty() {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text,
        });
    }

    /// A list under a heading, cut with a line that says so.
    fn list(&mut self, heading: &str, items: &[String], count_max: usize) {
        if items.is_empty() {
            return;
        }
        self.put(Ink::Bold, heading);
        for item in items.iter().take(count_max) {
            for (i, part) in wrap(item, COLUMN_COUNT_MAX - 4).iter().take(2).enumerate() {
                let indent = if i == 0 { "  " } else { "    " };
                self.put(Ink::Plain, &format!("{indent}{part}"));
            }
        }
        if items.len() > count_max {
            self.put(Ink::Dim, &format!("  … {} more in the report", items.len() - count_max));
        }
    }
}

/// The text, without a line end at the end; with the colours of a terminal if `colour`.
pub fn explain(
    info: &RunInfo,
    summary: &Summary,
    history: &History,
    result: &CheckResult,
    colour: bool,
) -> String {
    let mut screen = Screen { colour, lines: Vec::new() };
    let head = format!("{}: {}", result.verdict.as_str().to_uppercase(), result.reason);
    let mut head_lines = wrap(&head, COLUMN_COUNT_MAX).into_iter();
    if let Some(first) = head_lines.next() {
        screen.put(Ink::Verdict(result.verdict), &first);
    }
    head_lines.take(2).for_each(|more| screen.put(Ink::Plain, &more));
    screen.put(Ink::Dim, &counts(info, summary));
    let late = lateness(summary);
    late.iter().take(2).for_each(|part| screen.put(Ink::Dim, part));
    for (name, text) in [("interrupted", &info.interrupted), ("torn history", &info.torn)] {
        if let Some(text) = text {
            screen.put(Ink::Plain, &format!("{name}: {text}"));
        }
    }
    if let Some(tested) = info.tested.as_ref().map(Tested::describe).filter(|text| !text.is_empty())
    {
        screen.put(Ink::Dim, &format!("tested: {tested}"));
    }
    for note in info.notes.iter().flat_map(|note| wrap(note, COLUMN_COUNT_MAX)) {
        screen.put(Ink::Plain, &note);
    }
    let example = counter_examples(history, result, summary, 1).pop();
    match &example {
        Some(example) => put_example(&mut screen, summary, example),
        None => put_problems(&mut screen, result),
    }
    let without: Vec<String> = summary.faults_without_effect().map(no_effect).collect();
    screen.list("Faults without effect", &without, NO_EFFECT_LINE_COUNT_MAX);
    screen.lines.truncate(LINE_COUNT_MAX);
    screen.lines.join("\n")
}

fn counts(info: &RunInfo, summary: &Summary) -> String {
    let outcomes = summary.outcomes;
    let mut parts = vec![format!(
        "{} operation{} ({} ok, {} fail, {} info)",
        thousands(outcomes.total()),
        if outcomes.total() == 1 { "" } else { "s" },
        thousands(outcomes.ok),
        thousands(outcomes.fail),
        thousands(outcomes.info + outcomes.open),
    )];
    if !info.nodes.is_empty() {
        let plural = if info.nodes.len() == 1 { "" } else { "s" };
        parts.push(format!("{} node{plural}", info.nodes.len()));
    }
    if summary.faults.is_empty() {
        parts.push("no faults".to_owned());
    } else {
        let (seen, all) = (summary.observed_fault_count(), summary.faults.len());
        let is_late = |fault: &&FaultWindow| fault.status == FaultStatus::NotReached;
        let late = summary.faults.iter().filter(is_late).count();
        parts.push(format!("{seen} of {} faults took effect", all - late));
        if late > 0 {
            parts.push(format!("{late} not reached before the end"));
        }
    }
    parts.push(format!("{:.1} s", info.duration_ns.max(summary.end_ns) as f64 / 1e9));
    parts.join(", ")
}

/// `faults applied after their time by, p50/p99 ms: link 0.0/0.1, process 0.4/2.3`.
fn lateness(summary: &Summary) -> Vec<String> {
    let of_plane = |plane: &PlaneSummary| {
        let late = plane.applied_late_ms?;
        Some(format!("{} {:.1}/{:.1}", plane.plane, late.p50, late.p99))
    };
    let planes: Vec<String> = summary.planes.iter().filter_map(of_plane).collect();
    if planes.is_empty() {
        return Vec::new();
    }
    let text = format!("faults applied after their time by, p50/p99 ms: {}", planes.join(", "));
    wrap(&text, COLUMN_COUNT_MAX)
}

fn put_example(screen: &mut Screen, summary: &Summary, example: &CounterExample) {
    let about = if example.keyed { "key" } else { "element" };
    let key = example.key.as_ref().map(|key| format!(", {about} {key}")).unwrap_or_default();
    let size = match example.ops.len() + example.ops_omitted {
        0 => String::new(),
        1 => ", 1 operation".to_owned(),
        count => format!(", {count} operations"),
    };
    screen.put(
        Ink::Bold,
        &format!("Smallest counter-example: {}{key}{size} ({})", example.name, example.checker),
    );
    if !example.ops.is_empty() {
        put_operations(screen, example);
    }
    // With the operations in a table above, the first paragraph says it; drawings are for the report.
    let paragraphs = if example.ops.is_empty() { usize::MAX } else { 1 };
    let text_lines =
        if example.ops.is_empty() { OPERATION_LINE_COUNT_MAX } else { TEXT_LINE_COUNT_MAX };
    let mut words: Vec<String> = example
        .text
        .lines()
        .filter(|text| !text.trim().is_empty())
        .take(paragraphs)
        .flat_map(|text| wrap(text, COLUMN_COUNT_MAX - 2))
        .collect();
    let cut = words.len() > text_lines;
    words.truncate(text_lines);
    words.iter().for_each(|text| screen.put(Ink::Plain, &format!("  {text}")));
    if cut {
        screen.put(Ink::Dim, "  … the rest is in the report");
    }
    let faults: Vec<String> = summary
        .faults
        .iter()
        .filter(|fault| example.faults.contains(&fault.id))
        .map(|fault| active(fault, summary.end_ns))
        .collect();
    screen.list("Faults at that time", &faults, FAULT_LINE_COUNT_MAX);
    let saw: Vec<String> = example
        .node_events
        .iter()
        .filter_map(|&position| summary.node_events.get(position))
        .filter(|event| event.event == "nodedown" || event.event == "node-exited")
        .map(node_event)
        .collect();
    screen.list("Nodes that went down", &saw, NODE_LINE_COUNT_MAX);
}

/// A table: the last operations when there are too many, since an anomaly shows at its end.
fn put_operations(screen: &mut Screen, example: &CounterExample) {
    let shown = example.ops.len().min(OPERATION_LINE_COUNT_MAX);
    let first = example.ops.len() - shown;
    let node_width = example
        .ops
        .iter()
        .map(|op| op.node.as_ref().map_or(1, |node| node.chars().count()))
        .fold(4, usize::max)
        .min(16);
    let process_width = example.ops.iter().map(|op| op.process.len()).fold(7, usize::max).min(12);
    screen.put(
        Ink::Dim,
        &format!(
            "  {:>10}  {:>10}  {:>process_width$}  {:<node_width$}  operation",
            "from s", "to s", "process", "node"
        ),
    );
    if first + example.ops_omitted > 0 {
        screen.put(Ink::Dim, &format!("  … {} earlier", first + example.ops_omitted));
    }
    for op in &example.ops[first..] {
        let end = op.end_ns.map_or_else(|| "…".to_owned(), precise);
        screen.put(
            Ink::Plain,
            &format!(
                "  {:>10}  {end:>10}  {:>process_width$}  {:<node_width$}  {}",
                precise(op.start_ns),
                op.process,
                line(op.node.as_deref().unwrap_or("-"), node_width),
                op.describe()
            ),
        );
    }
}

/// Why there is no pass, checker by checker, when there is no counter-example to show.
fn put_problems(screen: &mut Screen, result: &CheckResult) {
    let mut problems = Vec::new();
    crate::evidence::visit(result, &mut |path, part| {
        let top = std::ptr::eq(part, result);
        if !top && part.verdict != Verdict::Valid && !path.contains(" / ") {
            problems.push(format!("{path}: {} ({})", part.reason, part.verdict));
        }
    });
    screen.list("Checkers that do not pass", &problems, PROBLEM_LINE_COUNT_MAX);
}

/// Seconds to 100 µs: operations are often shorter than a millisecond.
fn precise(ns: u64) -> String {
    let units = ns.saturating_add(50_000) / 100_000;
    format!("{}.{:04}", units / 10_000, units % 10_000)
}

fn active(fault: &FaultWindow, run_end_ns: u64) -> String {
    let (from, to) = fault.span(run_end_ns).unwrap_or_default();
    let mut text = format!("{}, {}–{} s", fault.title(), seconds(from), seconds(to));
    if let Some(boundary) = &fault.boundary {
        text.push_str(&format!(" ({boundary})"));
    }
    match (fault.status, &fault.effect) {
        (FaultStatus::Observed, Some(effect)) => text.push_str(&format!("; seen: {effect}")),
        (FaultStatus::NoEffect, _) => text.push_str("; no effect was seen"),
        _ => {}
    }
    text
}

fn node_event(event: &NodeEvent) -> String {
    let reason = event.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let Some(peer) = &event.peer else {
        return format!("{} ended at {} s{reason}", event.node, seconds(event.time_ns));
    };
    let back = match event.until_ns {
        Some(until_ns) => {
            let down_ms = until_ns.saturating_sub(event.time_ns) as f64 / 1e6;
            format!(", up again after {}", milliseconds(down_ms))
        }
        None => ", not seen up again".to_owned(),
    };
    format!("{} saw {peer} go down at {} s{reason}{back}", event.node, seconds(event.time_ns))
}

fn no_effect(fault: &FaultWindow) -> String {
    let what = if fault.status == FaultStatus::Failed { "failed" } else { "no effect" };
    match &fault.reason {
        Some(reason) => format!("{} {what}: {reason}", fault.title()),
        None => format!("{} {what}", fault.title()),
    }
}

/// Breaks a line at spaces; a word longer than the width stays whole (and is cut later).
fn wrap(text: &str, width: usize) -> Vec<String> {
    if text.chars().count() <= width {
        // Drawings of checkers keep their spaces.
        return text.lines().map(str::to_owned).collect();
    }
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let length = lines[last].chars().count();
        if length > 0 && length + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if length > 0 {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}
