//! Cycles and chains: operations as boxes one below the other, each dependency as an arrow with its reason.
//!
//! An edge to the next box is an arrow between the two. Any other, as the one that closes a cycle, runs along
//! the left side, and its reason stands below the last box.

use fuzz_dist_core::{Anomaly, Edge, History, Op, OpType, Value};

use super::canvas::{Canvas, LINE_HEIGHT, MARGIN, colour, text_width, wrap};
use crate::text::{clip, line};

/// Boxes drawn, and edges.
const BOX_COUNT_MAX: usize = 24;
const EDGE_COUNT_MAX: usize = 60;
/// Micro-operations shown of one transaction.
const MOP_COUNT_MAX: usize = 24;
/// Longest text of one.
const MOP_CHAR_COUNT_MAX: usize = 70;
const BOX_WIDTH: f64 = 900.0;
/// Distance of the lines of edges that run along the side.
const LANE: f64 = 14.0;
const LANE_COUNT_MAX: usize = 8;
/// Width of a reason, in characters.
const REASON_COLUMNS: usize = 120;

/// Where the box of an operation lies.
struct Node {
    top: f64,
    bottom: f64,
}

/// The drawing; `None` if the edges are not of this history.
pub fn draw(history: &History, anomaly: &Anomaly, title: &str) -> Option<String> {
    let positions: Vec<u64> = anomaly.edges.iter().flat_map(|edge| [edge.from, edge.to]).collect();
    let found = super::invocations(history, &positions);
    let of = |position: u64| {
        let first = super::invocations(history, &[position]);
        found.iter().take(BOX_COUNT_MAX).position(|node| first.first() == Some(node))
    };
    let edges: Vec<(usize, usize, &Edge)> = anomaly
        .edges
        .iter()
        .filter_map(|edge| Some((of(edge.from)?, of(edge.to)?, edge)))
        .take(EDGE_COUNT_MAX)
        .collect();
    if edges.is_empty() {
        return None;
    }
    let aside = edges.iter().filter(|(from, to, _)| from + 1 != *to).count().min(LANE_COUNT_MAX);
    let left = MARGIN + 12.0 + aside as f64 * LANE;
    let mut canvas = Canvas::default();
    canvas.text("t", MARGIN, 28.0, title);
    let mut y = 48.0;
    let mut nodes: Vec<Node> = Vec::new();
    for (i, &position) in found.iter().take(BOX_COUNT_MAX).enumerate() {
        let node = put_box(&mut canvas, history, i, position, left, y);
        y = node.bottom;
        nodes.push(node);
        y = put_edges_down(&mut canvas, &edges, i, left, y);
    }
    y = put_edges_aside(&mut canvas, &edges, &nodes, left, y + 10.0);
    let omitted = anomaly.edges.len() - edges.len();
    if omitted > 0 {
        canvas.text("s", left, y + 12.0, &format!("{omitted} further dependencies are not drawn."));
    }
    Some(canvas.finish(title))
}

fn put_box(
    canvas: &mut Canvas,
    history: &History,
    number: usize,
    position: usize,
    left: f64,
    top: f64,
) -> Node {
    let op = &history.ops()[position];
    let done = history.completion(position);
    let words = mops(op, done);
    let places = places(&words, left + 14.0, top + 32.0);
    let bottom = places.last().map_or(top + 30.0, |(_, y)| y + 34.0);
    let head = heading(op, done, number);
    canvas.rect("box", (left, top), (BOX_WIDTH, bottom - top), &head);
    canvas.text("m", left + 14.0, top + 20.0, &head);
    for ((class, text), (x, y)) in words.iter().zip(places) {
        let shown = line(text, MOP_CHAR_COUNT_MAX);
        canvas.rect(class, (x, y), (text_width(&shown) + 16.0, 22.0), text);
        canvas.label("m on", x + 8.0, y + 15.0, &shown);
    }
    Node { top, bottom }
}

fn heading(op: &Op, done: Option<&Op>, number: usize) -> String {
    let node = op.node.or_else(|| done.and_then(|done| done.node));
    let node = node.map(|node| format!(" on {node}")).unwrap_or_default();
    let end = match done {
        Some(done) => format!("records {} to {}, {}", op.index, done.index, done.op_type.as_str()),
        None if op.op_type == OpType::Invoke => format!("record {}, never completed", op.index),
        None => format!("record {}, {}", op.index, op.op_type.as_str()),
    };
    line(&format!("T{}   process {}{node}   {end}", number + 1, op.process), 118)
}

/// What the operation did: a class of colour and a text for each part.
fn mops(op: &Op, done: Option<&Op>) -> Vec<(&'static str, String)> {
    let value = match done {
        Some(done) if done.op_type == OpType::Ok || !done.value.is_nil() => &done.value,
        _ => &op.value,
    };
    let is_mop = |item: &Value| {
        item.items().is_some_and(|parts| matches!(parts.first(), Some(Value::Sym(_))))
    };
    let items = value.items().filter(|items| !items.is_empty() && items.iter().all(is_mop));
    let Some(items) = items else {
        let class = class(op.f.as_str());
        return vec![(class, clip(&format!("{} {value}", op.f), 400))];
    };
    let mut words: Vec<(&str, String)> = items
        .iter()
        .take(MOP_COUNT_MAX)
        .map(|mop| {
            let parts = mop.items().unwrap_or_default();
            let name = parts.first().and_then(Value::as_sym).map_or("", |sym| sym.as_str());
            let rest: Vec<String> = parts.iter().skip(1).map(|part| clip(part, 400)).collect();
            (class(name), format!("{name} {}", rest.join(" ")))
        })
        .collect();
    if items.len() > MOP_COUNT_MAX {
        words.push(("o", format!("… {} more", items.len() - MOP_COUNT_MAX)));
    }
    words
}

fn class(name: &str) -> &'static str {
    match name {
        "r" | "read" | "poll" | "get" => "r",
        "w" | "write" | "append" | "send" | "add" | "put" | "insert" => "w",
        _ => "o",
    }
}

/// The upper left corner of each part, in rows as wide as the box.
fn places(words: &[(&str, String)], left: f64, top: f64) -> Vec<(f64, f64)> {
    let (mut x, mut y) = (left, top);
    words
        .iter()
        .map(|(_, text)| {
            let width = text_width(&line(text, MOP_CHAR_COUNT_MAX)) + 16.0;
            if x > left && x + width > left + BOX_WIDTH - 28.0 {
                (x, y) = (left, y + 28.0);
            }
            let place = (x, y);
            x += width + 8.0;
            place
        })
        .collect()
}

/// Arrows from box `i` to the next; where the next begins.
fn put_edges_down(
    canvas: &mut Canvas,
    edges: &[(usize, usize, &Edge)],
    i: usize,
    left: f64,
    top: f64,
) -> f64 {
    let mut y = top + 8.0;
    let down = edges.iter().filter(|(from, to, _)| *from == i && *to == i + 1);
    let x = left + 30.0;
    let mut last = None;
    for (_, _, edge) in down {
        y = put_reason(canvas, edge, &edge.why, x + 16.0, y);
        last = Some(edge);
    }
    match last {
        Some(edge) => {
            let end = y + 8.0;
            canvas.raw(&arrow(&format!("M{x:.1} {top:.1}V{end:.1}"), (x, end), Way::Down, edge));
            end
        }
        None => y + 8.0,
    }
}

/// The kind and the reason of an edge; where the next line begins.
fn put_reason(canvas: &mut Canvas, edge: &Edge, words: &str, x: f64, y: f64) -> f64 {
    let width = canvas.pill(&edge.kind, x, y, words);
    let lines = wrap(words, REASON_COLUMNS, 4);
    canvas.lines("", x + width + 10.0, y + 13.0, &lines);
    y + LINE_HEIGHT * lines.len().max(1) as f64 + 6.0
}

/// Edges that do not lead to the next box.
fn put_edges_aside(
    canvas: &mut Canvas,
    edges: &[(usize, usize, &Edge)],
    nodes: &[Node],
    left: f64,
    mut y: f64,
) -> f64 {
    let aside = edges.iter().filter(|(from, to, _)| from + 1 != *to);
    for (lane, (from, to, edge)) in aside.enumerate() {
        let (source, target) = (&nodes[*from], &nodes[*to]);
        if lane < LANE_COUNT_MAX {
            let x = left - 12.0 - (lane as f64 + 1.0) * LANE + LANE / 2.0;
            let start = source.bottom - 10.0;
            let end = target.top + 15.0;
            let path = format!("M{left:.1} {start:.1}H{x:.1}V{end:.1}H{left:.1}");
            canvas.raw(&arrow(&path, (left, end), Way::Right, edge));
        }
        let words = format!("T{} → T{}: {}", from + 1, to + 1, edge.why);
        y = put_reason(canvas, edge, &words, left, y);
    }
    y
}

#[derive(Clone, Copy)]
enum Way {
    Down,
    Right,
}

/// A line with a head at its end.
fn arrow(path: &str, (x, y): (f64, f64), way: Way, edge: &Edge) -> String {
    let head = match way {
        Way::Down => {
            format!("M{:.1} {:.1}L{x:.1} {y:.1}L{:.1} {:.1}", x - 5.0, y - 8.0, x + 5.0, y - 8.0)
        }
        Way::Right => {
            format!("M{:.1} {:.1}L{x:.1} {y:.1}L{:.1} {:.1}", x - 8.0, y - 5.0, x - 8.0, y + 5.0)
        }
    };
    format!(
        "<path d=\"{path}{head}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
        colour(&edge.kind)
    )
}
