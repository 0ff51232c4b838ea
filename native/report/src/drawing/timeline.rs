//! Operations as bars: a row for each process, columns in the order of the records.
//!
//! The axis is the order of invocations and completions and not seconds, since order is what a
//! contradiction is made of, and since intervals differ by orders of magnitude. Columns are as wide as the
//! words of the bars need. A bar with a dashed frame may take effect at any time after its start.

use std::collections::BTreeMap;

use fuzz_dist_core::{History, OpType, Process};

use super::canvas::{Canvas, LINE_HEIGHT, MARGIN, text_width};
use crate::evidence::{Keyed, Operation, operation};
use crate::text::line;

const ROW_HEIGHT: f64 = 46.0;
const BAR_HEIGHT: f64 = 28.0;
/// Least distance of two moments.
const STEP: f64 = 26.0;
/// Distance of two points of the path.
const POINT_STEP: f64 = 20.0;
const TOP: f64 = 64.0;

/// How an operation looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// By its outcome.
    Outcome,
    /// The one that fits nowhere.
    Stuck,
    /// A read that saw the element.
    Saw,
    /// A read that should have seen it.
    Missed,
}

/// What is drawn.
#[derive(Debug)]
pub struct Timeline<'a> {
    /// Positions of invocations, in order, with their looks.
    pub ops: Vec<(usize, Look)>,
    /// Positions of invocations in an order that holds; those that are not drawn are passed over.
    pub path: &'a [u64],
    /// What the colours mean.
    pub legend: &'a [(&'static str, &'static str)],
    /// Lines below.
    pub notes: Vec<String>,
}

struct Bar {
    op: Operation,
    look: Look,
    row: usize,
    /// Index of the moment it begins, and of that at which it has certainly ended.
    start: usize,
    end: Option<usize>,
    label: String,
}

impl Bar {
    fn class(&self) -> &'static str {
        match (self.look, self.op.op_type) {
            (Look::Stuck, _) => "stuck",
            (Look::Saw, _) => "saw",
            (Look::Missed, _) => "missed",
            (Look::Outcome, Some(OpType::Ok)) => "ok",
            (Look::Outcome, Some(OpType::Fail)) => "fail",
            (Look::Outcome, Some(OpType::Info) | None) => "info",
            (Look::Outcome, Some(OpType::Invoke)) => "other",
        }
    }

    fn tip(&self, end_record: Option<usize>) -> String {
        let end = match (self.end, end_record) {
            (Some(_), Some(record)) => format!("record {} to {record}", self.op.position),
            _ => format!(
                "record {}; may take effect at any time after it, or never",
                self.op.position
            ),
        };
        let node = self.op.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        format!("{}\nprocess {}{node}\n{end}", self.op.describe(), self.op.process)
    }
}

/// Draws; `None` without operations.
pub fn draw(
    history: &History,
    keyed: Keyed,
    title: &str,
    timeline: &Timeline<'_>,
) -> Option<String> {
    if timeline.ops.is_empty() {
        return None;
    }
    let mut canvas = Canvas::default();
    canvas.text("t", MARGIN, 28.0, title);
    legend(&mut canvas, timeline.legend);
    let (mut bars, rows, moments) = bars(history, keyed, timeline);
    let left = MARGIN + rows.iter().map(|row| text_width(row)).fold(60.0, f64::max) + 16.0;
    let points = points(&bars, timeline.path);
    let x = columns(&bars, moments.len(), &points, left);
    let right = bars
        .iter()
        .filter(|bar| bar.end.is_none())
        .map(|bar| x[bar.start] + text_width(&bar.label) + 16.0)
        .fold(x.last().copied().unwrap_or(left) + STEP, f64::max);
    let bottom = TOP + rows.len() as f64 * ROW_HEIGHT;
    for (i, row) in rows.iter().enumerate() {
        let y = TOP + (i as f64 + 0.5) * ROW_HEIGHT;
        canvas.line("row", (MARGIN, y + ROW_HEIGHT / 2.0), (right, y + ROW_HEIGHT / 2.0));
        canvas.text("m", MARGIN, y + 2.0, row);
    }
    let stuck = bars.iter().find(|bar| bar.look == Look::Stuck).map(|bar| (bar.start, bar.end));
    for moment in stuck.into_iter().flat_map(|(start, end)| [Some(start), end]).flatten() {
        canvas.line("tick", (x[moment], TOP), (x[moment], bottom));
    }
    // The marked one lies on top.
    bars.sort_by_key(|bar| (bar.look == Look::Stuck, bar.op.position));
    for bar in &bars {
        put_bar(&mut canvas, bar, history, &x, right);
    }
    put_path(&mut canvas, &bars, &points, &x, right);
    let first = moments.first().copied().unwrap_or_default();
    let last = moments.last().copied().unwrap_or_default();
    canvas.text("s", left, bottom + 18.0, &format!("order of records, {first} to {last} →"));
    canvas.lines("m", MARGIN, bottom + 18.0 + 2.0 * LINE_HEIGHT, &timeline.notes);
    Some(canvas.finish(title))
}

fn legend(canvas: &mut Canvas, entries: &[(&'static str, &'static str)]) {
    let mut x = MARGIN;
    for (class, meaning) in entries {
        canvas.rect(class, (x, 40.0), (12.0, 12.0), meaning);
        canvas.text("s", x + 18.0, 50.0, meaning);
        x += text_width(meaning) + 36.0;
    }
}

/// Bars with their rows and columns; names of rows; records that are columns.
fn bars(
    history: &History,
    keyed: Keyed,
    timeline: &Timeline<'_>,
) -> (Vec<Bar>, Vec<String>, Vec<usize>) {
    let label_max = match timeline.ops.len() {
        0..=8 => 56,
        9..=16 => 36,
        _ => 22,
    };
    let ended = |position: usize| {
        let done = history.completion(position)?;
        (done.op_type != OpType::Info).then_some(done.index as usize)
    };
    let mut moments: Vec<usize> = timeline
        .ops
        .iter()
        .flat_map(|&(position, _)| [Some(position), ended(position)])
        .flatten()
        .collect();
    moments.sort_unstable();
    moments.dedup();
    let column = |record: usize| moments.partition_point(|moment| *moment < record);
    let mut rows: BTreeMap<(Option<String>, Process), usize> = BTreeMap::new();
    let mut bars: Vec<(Bar, (Option<String>, Process))> = Vec::new();
    for &(position, look) in &timeline.ops {
        let op = operation(history, position, keyed);
        let row = (op.node.clone(), history.ops()[position].process);
        rows.insert(row.clone(), 0);
        let label = line(&op.describe(), label_max);
        let (start, end) = (column(position), ended(position).map(column));
        bars.push((Bar { op, look, row: 0, start, end, label }, row));
    }
    for (i, row) in rows.values_mut().enumerate() {
        *row = i;
    }
    let names = rows.keys().map(|(node, process)| match node {
        Some(node) => line(&format!("{node} · process {process}"), 32),
        None => format!("process {process}"),
    });
    let names = names.collect();
    let bars = bars.into_iter().map(|(bar, row)| Bar { row: rows[&row], ..bar }).collect();
    (bars, names, moments)
}

/// Where each operation of the path takes effect: its bar, and the column after which.
///
/// The latest start so far comes before every end that is still to come, or the order would not respect
/// real time; so each point lies within its bar.
fn points(bars: &[Bar], path: &[u64]) -> Vec<(u64, usize)> {
    let mut slot = 0;
    path.iter()
        .filter_map(|position| bars.iter().find(|bar| bar.op.position == *position))
        .map(|bar| {
            slot = slot.max(bar.start);
            let last = bar.end.map_or(slot, |end| end.saturating_sub(1).max(bar.start));
            (bar.op.position, slot.min(last))
        })
        .collect()
}

/// The place of each column: as narrow as words and points allow.
fn columns(bars: &[Bar], count: usize, points: &[(u64, usize)], left: f64) -> Vec<f64> {
    let mut x = vec![left + 8.0; count];
    for moment in 1..count {
        let points = points.iter().filter(|(_, slot)| *slot + 1 == moment).count();
        let step = STEP.max((points as f64 + 1.0) * POINT_STEP);
        x[moment] = x[moment - 1] + step;
        for bar in bars.iter().filter(|bar| bar.end == Some(moment)) {
            x[moment] = x[moment].max(x[bar.start] + text_width(&bar.label) + 16.0);
        }
    }
    x
}

fn put_bar(canvas: &mut Canvas, bar: &Bar, history: &History, x: &[f64], right: f64) {
    let y = TOP + bar.row as f64 * ROW_HEIGHT + 4.0;
    let from = x[bar.start];
    let to = bar.end.map_or(right, |end| x[end]);
    let class = match bar.end {
        Some(_) => bar.class().to_owned(),
        None => format!("{} open", bar.class()),
    };
    let tip = bar.tip(history.pair(bar.op.position as usize));
    canvas.rect(&class, (from, y), (to - from, BAR_HEIGHT), &tip);
    let on = if matches!(bar.look, Look::Stuck | Look::Missed) { "m onx" } else { "m on" };
    canvas.label(on, from + 7.0, y + 15.0, &bar.label);
}

/// The path runs along the lower edges of the bars, so that words stay readable.
fn put_path(canvas: &mut Canvas, bars: &[Bar], points: &[(u64, usize)], x: &[f64], right: f64) {
    let mut place = Vec::new();
    let mut used: BTreeMap<usize, usize> = BTreeMap::new();
    for (position, slot) in points {
        let Some(bar) = bars.iter().find(|bar| bar.op.position == *position) else { continue };
        let in_slot = points.iter().filter(|(_, other)| other == slot).count() as f64;
        let nth = used.entry(*slot).or_default();
        *nth += 1;
        let end = x.get(slot + 1).copied().unwrap_or(right);
        let at = x[*slot] + (end - x[*slot]) * *nth as f64 / (in_slot + 1.0);
        place.push((at, TOP + bar.row as f64 * ROW_HEIGHT + 4.0 + BAR_HEIGHT));
    }
    if place.is_empty() {
        return;
    }
    let steps: Vec<String> = place.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    canvas.raw(&format!("<path class=\"path\" d=\"M{}\"/>", steps.join("L")));
    for (i, (x, y)) in place.iter().enumerate() {
        canvas.raw(&format!("<circle class=\"point\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"8\"/>"));
        canvas.label("pn", *x, y + 3.5, &(i + 1).to_string());
    }
}
