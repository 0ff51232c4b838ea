//! `clock-skew.svg`: how far the wall clock of each node was off, over time.
//!
//! Jepsen's plot of this name draws one line for each node on a linear axis. Here the axis is linear up to a millisecond and
//! logarithmic beyond, either way, so that a drift beside a jump of an hour can still be read; a strobe is a band as wide as
//! its jumps; dashes are what `erlang:system_time/0` says, which follows a wall clock slowly or all at once, depending
//! on the time-warp mode; a mark is a change of the VM's time offset.

use std::fmt::Write;

use super::{BOTTOM, FUNCTION_COUNT_MAX, Frame, HEIGHT, LINES, Scale, TOP};
use crate::analyse::{ClockWindow, NodeClock, Summary};
use crate::info::RunInfo;
use crate::text::{markup, seconds, signed_milliseconds};

/// Up to here the axis is linear.
const LINEAR_MS: f64 = 1.0;

/// Where an offset lies on the axis, in decades.
pub(super) fn bent(ms: f64) -> f64 {
    let size = ms.abs() / LINEAR_MS;
    let part = if size <= 1.0 { size } else { 1.0 + size.log10() };
    part.copysign(ms)
}

/// Zero and the powers of ten between two offsets.
pub(super) fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (0..=12).map(|exponent| LINEAR_MS * 10f64.powi(exponent));
    let all = decades.flat_map(|ms| [-ms, ms]).chain([0.0]);
    let mut within: Vec<f64> = all.filter(|ms| (low..=high).contains(ms)).collect();
    within.sort_by(f64::total_cmp);
    within
}

/// The powers of ten around all offsets, and zero.
fn range(nodes: &[NodeClock]) -> (f64, f64) {
    let ends = nodes.iter().flat_map(|node| {
        let system = node.windows.iter().filter_map(|window| window.system_time_ns);
        [node.offset_ns_min, node.offset_ns_max].into_iter().chain(system)
    });
    let (mut low, mut high) = (-LINEAR_MS, LINEAR_MS);
    for ms in ends.map(|ns| ns as f64 / 1e6) {
        // A tick is not quite reached by a jump of just so much.
        let decade = LINEAR_MS * 10f64.powf((ms.abs() / LINEAR_MS / 1.05).max(1.0).log10().ceil());
        if ms < -LINEAR_MS {
            low = low.min(-decade);
        } else if ms > LINEAR_MS {
            high = high.max(decade);
        }
    }
    (low, high)
}

/// The chart; none for a run in which no clock was looked at.
pub fn clock_skew(info: &RunInfo, summary: &Summary) -> Option<String> {
    let clocks = summary.clocks.as_ref()?;
    let drawn: Vec<&NodeClock> = clocks.nodes.iter().take(FUNCTION_COUNT_MAX).collect();
    let title = match clocks.nodes.len() - drawn.len() {
        0 => "how far wall clocks were off (dashed: erlang:system_time, ◆: time offset changed)"
            .into(),
        more => format!("how far wall clocks were off (and {more} nodes more in results.json)"),
    };
    let mut frame =
        Frame::new(info, summary, &title, range(&clocks.nodes), Scale::SymmetricLogarithmic);
    let names: Vec<(String, &str)> =
        drawn.iter().zip(LINES).map(|(node, colour)| (node.node.clone(), colour)).collect();
    frame.legend(&names);
    for (node, colour) in drawn.into_iter().zip(LINES) {
        frame.skew_of(node, clocks.window_ns, summary.end_ns, colour);
    }
    Some(frame.finish())
}

impl Frame {
    fn skew_of(&mut self, node: &NodeClock, window_ns: u64, end_ns: u64, colour: &str) {
        let spans = || {
            let ends = node.windows.iter().skip(1).map(|next| next.start_ns).chain([end_ns]);
            node.windows.iter().zip(ends)
        };
        let told = format!(
            "{}: off by at most {}, last {}",
            node.node,
            signed_milliseconds(node.skew_ns_max as i64),
            signed_milliseconds(node.offset_ns_last)
        );
        let _ = writeln!(self.out, "<g stroke=\"{colour}\"><title>{}</title>", markup(&told));
        let mut line = Path::default();
        let mut system = Path::default();
        for (window, next_ns) in spans() {
            let ClockWindow { start_ns, low_ns, high_ns, last_ns, system_time_ns } = window;
            let (from, to) = (self.time_x(*start_ns), self.time_x(next_ns));
            if high_ns.abs_diff(*low_ns) > 0 {
                let end = self.time_x((start_ns + window_ns).min(next_ns));
                let (top, bottom) = (self.offset_y(*high_ns), self.offset_y(*low_ns));
                let _ = writeln!(
                    self.out,
                    "<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\" \
                     fill-opacity=\".3\" stroke=\"none\"/>",
                    (end - from).max(0.5),
                    (bottom - top).max(0.5),
                );
            }
            line.step(from, to, self.offset_y(*last_ns));
            match system_time_ns {
                Some(ns) => system.step(from, to, self.offset_y(*ns)),
                None => system.lift(),
            }
        }
        let _ = writeln!(self.out, "<path d=\"{}\"/>", line.text);
        if !system.text.is_empty() {
            let _ = writeln!(self.out, "<path d=\"{}\" stroke-dasharray=\"5 4\"/>", system.text);
        }
        for change in &node.time_offset_changes {
            let x = self.time_x(change.time_ns);
            let y = HEIGHT - BOTTOM - 7.0;
            let told = format!(
                "{} at {} s: the time offset of the VM changed by {}",
                node.node,
                seconds(change.time_ns),
                signed_milliseconds(change.change_ns)
            );
            let _ = writeln!(
                self.out,
                "<polygon points=\"{x:.1},{:.1} {:.1},{y:.1} {x:.1},{:.1} {:.1},{y:.1}\" fill=\"{colour}\">\
                 <title>{}</title></polygon>",
                y - 5.0,
                x + 5.0,
                y + 5.0,
                x - 5.0,
                markup(&told)
            );
        }
        self.out.push_str("</g>\n");
    }

    fn time_x(&self, time_ns: u64) -> f64 {
        self.x(time_ns as f64 / 1e9)
    }

    fn offset_y(&self, offset_ns: i64) -> f64 {
        self.y(offset_ns as f64 / 1e6).clamp(TOP, HEIGHT - BOTTOM)
    }
}

/// A line of steps.
#[derive(Default)]
struct Path {
    text: String,
    pen_down: bool,
}

impl Path {
    fn step(&mut self, from: f64, to: f64, y: f64) {
        let command = if self.pen_down { 'L' } else { 'M' };
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{command}{from:.1} {y:.1}H{to:.1}");
        self.pen_down = true;
    }

    fn lift(&mut self) {
        self.pen_down = false;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::analyse::{Clocks, TimeOffsetChange};

    const SECOND: u64 = 1_000_000_000;
    const HOUR_NS: i64 = 3600 * SECOND as i64;

    fn window(start_s: u64, low_ns: i64, high_ns: i64, system_time_ns: Option<i64>) -> ClockWindow {
        let start_ns = start_s * SECOND;
        ClockWindow { start_ns, low_ns, high_ns, last_ns: high_ns, system_time_ns }
    }

    #[test]
    fn jumps_are_steps_strobes_are_bands_and_changes_are_marks() {
        let node = NodeClock {
            node: "n1 <&>".into(),
            time_warp_mode: Some("multi_time_warp".into()),
            sample_count: 3,
            skew_ns_max: HOUR_NS as u64,
            offset_ns_min: -5_000_000_000,
            offset_ns_max: HOUR_NS,
            offset_ns_last: 0,
            system_time_skew_ns_max: Some(HOUR_NS as u64),
            time_offset_change_count: 1,
            time_offset_changes: vec![TimeOffsetChange { time_ns: 2 * SECOND, change_ns: HOUR_NS }],
            windows: vec![
                window(0, 0, 0, Some(0)),
                window(2, HOUR_NS, HOUR_NS, Some(HOUR_NS)),
                window(5, -5_000_000_000, 0, None),
            ],
        };
        let clocks = Clocks { apart_ns_max: 0, window_ns: SECOND, nodes: vec![node] };
        let summary = Summary { end_ns: 10 * SECOND, clocks: Some(clocks), ..Summary::default() };
        let svg = clock_skew(&RunInfo::default(), &summary).unwrap();
        assert!(svg.contains("n1 &lt;&amp;&gt;: off by at most +3600.000 s, last 0.0 ms"), "{svg}");
        assert_eq!(svg.matches("fill-opacity=\".3\"").count(), 1, "{svg}");
        assert!(svg.contains("the time offset of the VM changed by +3600.000 s"), "{svg}");
        assert_eq!(svg.matches("stroke-dasharray").count(), 1, "{svg}");
        for tick in [">0<", ">1 ms<", ">-1 s<", ">-10 s<", ">1000 s<", ">10000 s<"] {
            assert!(svg.contains(tick), "{tick}: {svg}");
        }
        let line = svg.lines().find(|line| line.starts_with("<path")).unwrap();
        assert_eq!(line.matches('H').count(), 3, "{line}");
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn an_offset_has_its_place_and_both_ways_are_alike() {
        assert_eq!([bent(0.5), bent(1.0), bent(100.0), bent(-100.0)], [0.5, 1.0, 3.0, -3.0]);
        assert_eq!(ticks(-10.0, 1.0), [-10.0, -1.0, 0.0, 1.0]);
        assert_eq!(clock_skew(&RunInfo::default(), &Summary::default()), None);
    }
}
