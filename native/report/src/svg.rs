//! Charts as SVG files, for places where a page cannot go: `latency-raw`, `latency-quantiles`, `rate`, and `clock-skew`
//! of runs with faults of clocks.
//!
//! They look as Jepsen's do (size, colours by outcome, logarithmic latency) with the faults as bands, and follow
//! the light or dark of whoever shows them. A quantile chart shows `ok` operations only.

mod clock_skew;

use std::fmt::Write;

pub use clock_skew::clock_skew;
use fuzz_dist_core::fault::package_colour;

use crate::analyse::{Series, Summary};
use crate::info::RunInfo;
use crate::sample::{Sample, Share};
use crate::text::{markup, seconds, thousands};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 44.0;
/// Of the strip of eras, in the margin above the faults.
const ERA_HEIGHT: f64 = 6.0;
/// An era of rest.
const REST: &str = "#C8CCD4";
/// Faults that are of no package.
const OTHER: &str = "#D9534F";
/// Points of the scatter chart that are `ok`, and as many that are not: more would not be told apart, and
/// make the file heavy.
const POINT_COUNT_MAX: usize = 8_000;
/// Functions drawn apart.
const FUNCTION_COUNT_MAX: usize = 6;

const OK: &str = "#81BFFC";
const INFO: &str = "#FFA400";
const FAIL: &str = "#FF1E90";
/// Lines of functions, told apart by people with any colour vision (after Okabe and Ito).
const LINES: [&str; FUNCTION_COUNT_MAX] =
    ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C6BB1", "#B58900"];

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#444}.t{font-size:14px;font-weight:600;\
fill:#222}.g{stroke:#e4e4ea}.b{fill:#d9534f;fill-opacity:.13}.b:hover{fill-opacity:.25}\
.bg{fill:#fff}path{fill:none;stroke-width:1.6}\
@media(prefers-color-scheme:dark){text{fill:#b9bdc7}.t{fill:#eceef2}.g{stroke:#30343d}.bg{fill:#16181d}}";

/// How values lie on their axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// Of operations a second.
    Linear,
    /// Of milliseconds.
    Logarithmic,
    /// Of milliseconds that may be negative.
    SymmetricLogarithmic,
}

/// Where time and value lie on the paper.
struct Frame {
    out: String,
    end_s: f64,
    low: f64,
    high: f64,
    scale: Scale,
}

impl Frame {
    fn new(
        info: &RunInfo,
        summary: &Summary,
        title: &str,
        range: (f64, f64),
        scale: Scale,
    ) -> Frame {
        let (low, high) = range;
        let end_s = (summary.end_ns as f64 / 1e9).max(0.001);
        let mut frame = Frame { out: String::new(), end_s, low, high, scale };
        let out = &mut frame.out;
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\">\n<title>{0}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"bg\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
             <text class=\"t\" x=\"{LEFT}\" y=\"20\">{0}</text>\n",
            markup(&format!("{} — {title}", info.name))
        );
        frame.eras(summary);
        frame.bands(summary);
        frame.axes();
        frame
    }

    fn x(&self, time_s: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (time_s / self.end_s).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = (self.low, self.high);
        let part = match self.scale {
            Scale::Linear => (value - low) / (high - low),
            Scale::Logarithmic => (value.max(low).ln() - low.ln()) / (high.ln() - low.ln()),
            Scale::SymmetricLogarithmic => {
                let low = clock_skew::bent(low);
                (clock_skew::bent(value) - low) / (clock_skew::bent(high) - low)
            }
        };
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part.clamp(0.0, 1.0)
    }

    /// Eras of a mix, as a strip above the faults, each in the colours of its packages; a rest is grey.
    fn eras(&mut self, summary: &Summary) {
        for era in summary.eras.iter().filter(|era| era.end_ns > era.start_ns) {
            let (from, to) = (self.x(era.start_ns as f64 / 1e9), self.x(era.end_ns as f64 / 1e9));
            let span = format!("{}–{} s", seconds(era.start_ns), seconds(era.end_ns));
            let told = markup(&format!("era of {}, {span}", era.title())).to_string();
            let colours: Vec<&str> = match era.packages.as_slice() {
                [] => vec![REST],
                packages => {
                    packages.iter().map(|name| package_colour(name).unwrap_or(OTHER)).collect()
                }
            };
            let width = (to - from - 1.0).max(1.0) / colours.len() as f64;
            for (i, colour) in colours.into_iter().enumerate() {
                let _ = writeln!(
                    self.out,
                    "<rect x=\"{:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"{ERA_HEIGHT}\" \
                     fill=\"{colour}\"><title>{told}</title></rect>",
                    from + width * i as f64,
                    TOP - ERA_HEIGHT - 1.0,
                );
            }
        }
    }

    fn bands(&mut self, summary: &Summary) {
        for fault in &summary.faults {
            let Some((from, to)) = fault.span(summary.end_ns) else { continue };
            let (x, right) = (self.x(from as f64 / 1e9), self.x(to as f64 / 1e9));
            let told = format!("{}, {}–{} s", fault.title(), seconds(from), seconds(to));
            // The colours of packages are pale: they need to be laid on thicker.
            let colour = fault.package.as_deref().and_then(package_colour);
            let style = colour
                .map(|colour| format!(" style=\"fill:{colour};fill-opacity:.45\""))
                .unwrap_or_default();
            let _ = writeln!(
                self.out,
                "<rect class=\"b\"{style} x=\"{x:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\">\
                 <title>{}</title></rect>",
                (right - x).max(1.0),
                HEIGHT - TOP - BOTTOM,
                markup(&told)
            );
        }
    }

    fn axes(&mut self) {
        let bottom = HEIGHT - BOTTOM;
        for tick in linear_ticks(0.0, self.end_s, 10) {
            let x = self.x(tick);
            let _ = writeln!(
                self.out,
                "<line class=\"g\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                plain(tick)
            );
        }
        let ticks = match self.scale {
            Scale::Linear => linear_ticks(self.low, self.high, 5),
            Scale::Logarithmic => decades(self.low, self.high),
            Scale::SymmetricLogarithmic => clock_skew::ticks(self.low, self.high),
        };
        for tick in ticks {
            let y = self.y(tick);
            let _ = writeln!(
                self.out,
                "<line class=\"g\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                match self.scale {
                    Scale::SymmetricLogarithmic => tick_of_offset(tick),
                    _ => plain(tick),
                }
            );
        }
        let unit = match self.scale {
            Scale::Linear => "operations/s",
            Scale::Logarithmic => "ms",
            Scale::SymmetricLogarithmic => "",
        };
        let _ = writeln!(
            self.out,
            "<text x=\"8\" y=\"{}\">{unit}</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\">seconds</text>",
            TOP - 8.0,
            WIDTH - RIGHT,
            HEIGHT - 8.0
        );
    }

    fn legend(&mut self, entries: &[(String, &str)]) {
        let mut x = WIDTH - RIGHT;
        for (name, colour) in entries.iter().rev() {
            x -= 7.0 * name.chars().count() as f64 + 22.0;
            let _ = writeln!(
                self.out,
                "<rect x=\"{x:.1}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{}</text>",
                TOP - 18.0,
                x + 14.0,
                TOP - 9.0,
                markup(name)
            );
        }
    }

    /// A line that breaks where there is no value.
    fn line(&mut self, points: &[(f64, Option<f64>)], colour: &str, dash: &str) {
        let mut path = String::new();
        let mut pen_down = false;
        for &(time_s, value) in points {
            let Some(value) = value else {
                pen_down = false;
                continue;
            };
            let command = if pen_down { 'L' } else { 'M' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.x(time_s), self.y(value));
            if !pen_down {
                // A lone point would be invisible without a length.
                path.push_str("h.1");
            }
            pen_down = true;
        }
        if !path.is_empty() {
            let _ = writeln!(
                self.out,
                "<path d=\"{path}\" stroke=\"{colour}\" stroke-dasharray=\"{dash}\"/>"
            );
        }
    }

    fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

/// Every operation of the sample (or a part of it) by time of invocation and latency.
pub fn latency_raw(info: &RunInfo, summary: &Summary, sample: &Sample) -> String {
    let lengths = || sample.length_us.iter().filter(|&&us| us >= 0).map(|&us| us as f64 / 1e3);
    let range = decade_range(lengths());
    let most = POINT_COUNT_MAX as u64;
    let not_ok_kept = sample.kept.total() - sample.kept.ok;
    let ok_share = Share::new(most, sample.kept.ok);
    let not_ok_share = Share::new(most, not_ok_kept);
    let all_drawn = sample.process.len() as u64 == sample.operation_count
        && sample.kept.ok.max(not_ok_kept) <= most;
    let title = if all_drawn {
        "latency of every operation".to_owned()
    } else {
        format!("latency, a sample of {} operations", thousands(sample.operation_count))
    };
    let mut frame = Frame::new(info, summary, &title, range, Scale::Logarithmic);
    frame.legend(&[("ok".into(), OK), ("info".into(), INFO), ("fail".into(), FAIL)]);
    let _ = writeln!(frame.out, "<g fill-opacity=\".75\">");
    let mut start_us = 0;
    for (i, outcome) in sample.outcome.bytes().enumerate() {
        start_us += sample.start_us[i];
        let colour = match outcome {
            b'o' => OK,
            b'f' => FAIL,
            _ => INFO,
        };
        let share = if outcome == b'o' { &ok_share } else { &not_ok_share };
        if sample.length_us[i] < 0 || !share.takes(i as u64) {
            continue;
        }
        let (x, y) = (frame.x(start_us as f64 / 1e6), frame.y(sample.length_us[i] as f64 / 1e3));
        let _ = match sample.function[i] % 3 {
            0 => writeln!(
                frame.out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.6\" fill=\"{colour}\"/>"
            ),
            1 => writeln!(
                frame.out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"3\" height=\"3\" fill=\"{colour}\"/>",
                x - 1.5,
                y - 1.5
            ),
            _ => writeln!(
                frame.out,
                "<polygon points=\"{:.1},{:.1} {:.1},{:.1} {:.1},{:.1}\" fill=\"{colour}\"/>",
                x - 2.0,
                y + 1.6,
                x + 2.0,
                y + 1.6,
                x,
                y - 2.0
            ),
        };
    }
    frame.out.push_str("</g>\n");
    frame.finish()
}

/// Median, 95th, 99th percentile and maximum of each function over time.
pub fn latency_quantiles(info: &RunInfo, summary: &Summary) -> String {
    let drawn: Vec<&Series> = summary
        .series
        .iter()
        .filter(|series| series.f.is_some())
        .take(FUNCTION_COUNT_MAX)
        .collect();
    let values = drawn
        .iter()
        .flat_map(|series| series.windows.iter().filter_map(|window| window.latency_ms).flatten());
    let mut frame = Frame::new(
        info,
        summary,
        "latency quantiles of ok operations (p50 solid, p95 dashed, p99 dotted, max faint)",
        decade_range(values),
        Scale::Logarithmic,
    );
    let names: Vec<(String, &str)> = drawn
        .iter()
        .zip(LINES)
        .map(|(series, colour)| (series.f.clone().unwrap_or_default(), colour))
        .collect();
    frame.legend(&names);
    for (series, colour) in drawn.iter().zip(LINES) {
        for (quantile, dash) in ["", "6 3", "2 3", "1 6"].into_iter().enumerate() {
            let points = points(summary, series, |window| {
                window.latency_ms.map(|latency_ms| latency_ms[quantile])
            });
            frame.line(&points, colour, dash);
        }
    }
    frame.finish()
}

/// Operations a second, by function and outcome.
pub fn rate(info: &RunInfo, summary: &Summary) -> String {
    let window_s = summary.window_ns as f64 / 1e9;
    let drawn: Vec<&Series> = summary
        .series
        .iter()
        .filter(|series| series.f.is_some())
        .take(FUNCTION_COUNT_MAX)
        .collect();
    let counts = drawn.iter().flat_map(|series| series.windows.iter());
    let most = counts.map(|w| w.outcomes.ok.max(w.outcomes.fail).max(w.outcomes.info)).max();
    let high = nice_ceiling(most.unwrap_or(1).max(1) as f64 / window_s);
    let mut frame = Frame::new(
        info,
        summary,
        "operations invoked a second (ok solid, info dashed, fail dotted)",
        (0.0, high),
        Scale::Linear,
    );
    let names: Vec<(String, &str)> = drawn
        .iter()
        .zip(LINES)
        .map(|(series, colour)| (series.f.clone().unwrap_or_default(), colour))
        .collect();
    frame.legend(&names);
    for (series, colour) in drawn.iter().zip(LINES) {
        type Pick = fn(&crate::analyse::Outcomes) -> u64;
        let kinds: [(Pick, &str); 3] =
            [(|o| o.ok, ""), (|o| o.info + o.open, "6 3"), (|o| o.fail, "2 3")];
        for (pick, dash) in kinds {
            if series.windows.iter().all(|window| pick(&window.outcomes) == 0) {
                continue;
            }
            let points =
                points(summary, series, |window| Some(pick(&window.outcomes) as f64 / window_s));
            frame.line(&points, colour, dash);
        }
    }
    frame.finish()
}

/// One point for each window, in its middle.
fn points(
    summary: &Summary,
    series: &Series,
    value: impl Fn(&crate::analyse::Window) -> Option<f64>,
) -> Vec<(f64, Option<f64>)> {
    let window_s = summary.window_ns as f64 / 1e9;
    let middle = |i: usize| (i as f64 + 0.5) * window_s;
    series.windows.iter().enumerate().map(|(i, window)| (middle(i), value(window))).collect()
}

/// Powers of ten around positive values.
fn decade_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::MAX, 0.0f64);
    for value in values.filter(|value| *value > 0.0) {
        low = low.min(value);
        high = high.max(value);
    }
    if high == 0.0 {
        return (0.1, 10.0);
    }
    let (floor, ceiling) = (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().ceil()));
    (floor, if ceiling > floor { ceiling } else { floor * 10.0 })
}

fn decades(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().round() as i32, high.log10().round() as i32);
    (first..=last).map(|exponent| 10f64.powi(exponent)).collect()
}

/// At most about `count_max` round numbers in a range.
fn linear_ticks(low: f64, high: f64, count_max: u32) -> Vec<f64> {
    let step = nice_ceiling((high - low) / f64::from(count_max));
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// The next of 1, 2, 5, 10 … that is not less.
fn nice_ceiling(value: f64) -> f64 {
    let decade = 10f64.powf(value.max(1e-9).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * decade >= value * 0.999_999);
    factor.unwrap_or(10.0) * decade
}

/// `0`, `100 ms`, `-10 s`.
fn tick_of_offset(ms: f64) -> String {
    match ms.abs() {
        0.0 => "0".to_owned(),
        ..1000.0 => format!("{} ms", plain(ms)),
        _ => format!("{} s", plain(ms / 1000.0)),
    }
}

/// A tick without noise of floating point.
fn plain(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::{EraSpan, FaultWindow};

    #[test]
    fn ticks_are_round() {
        assert_eq!(linear_ticks(0.0, 23.0, 10), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(decade_range([0.3, 42.0].into_iter()), (0.1, 100.0));
        assert_eq!(decade_range([1.0].into_iter()), (1.0, 10.0));
        assert_eq!(decade_range(std::iter::empty()), (0.1, 10.0));
        assert_eq!(plain(0.1), "0.1");
        assert_eq!(plain(20.0), "20");
        assert_eq!(nice_ceiling(23.0), 50.0);
    }

    #[test]
    fn eras_are_a_strip_in_the_colours_of_their_packages() {
        let era = |packages: &[&str], start_s: u64, end_s: u64| EraSpan {
            packages: packages.iter().map(|name| (*name).to_owned()).collect(),
            start_ns: start_s * 1_000_000_000,
            end_ns: end_s * 1_000_000_000,
        };
        let kill = FaultWindow {
            package: Some("kill:edge".into()),
            applied_ns: Some(2_000_000_000),
            healed_ns: Some(3_000_000_000),
            ..FaultWindow::default()
        };
        let summary = Summary {
            end_ns: 10_000_000_000,
            eras: vec![era(&["kill:edge", "<faults>"], 1, 5), era(&[], 5, 9)],
            faults: vec![kill],
            ..Summary::default()
        };
        let frame = Frame::new(&RunInfo::default(), &summary, "t", (0.1, 10.0), Scale::Logarithmic);
        let drawn: Vec<&str> = frame.out.lines().filter(|line| line.contains("era of")).collect();
        assert_eq!(drawn.len(), 3, "{}", frame.out);
        assert!(drawn[0].contains("fill=\"#E9A4A0\"") && drawn[1].contains(OTHER), "{drawn:?}");
        assert!(drawn[1].contains("era of kill:edge, &lt;faults&gt;, 1.000–5.000 s"), "{drawn:?}");
        assert!(drawn[2].contains(REST) && drawn[2].contains("era of rest"), "{drawn:?}");
        assert!(frame.out.contains("class=\"b\" style=\"fill:#E9A4A0;fill-opacity:.45\""));
    }
}
