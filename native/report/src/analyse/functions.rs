//! Client operations by function: outcomes, latencies, and both over time.
//!
//! Latencies are those of `ok` operations, invocation to completion; an `info` would tell only the
//! time-out. They go into histograms (hdrhistogram) of 3 significant digits for the whole run and 2 for
//! each window. A window holds the operations *invoked* in it, as in Jepsen's plots.

use std::collections::HashMap;

use fuzz_dist_core::{History, Op, OpType, Sym};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::time_ns;
use crate::text;

/// Functions counted apart; the rest together as `other`.
pub const FUNCTION_COUNT_MAX: usize = 12;
/// Windows of a series.
pub const WINDOW_COUNT_MAX: u64 = 150;
/// Longest latency told apart: a day.
const LATENCY_NS_MAX: u64 = 86_400_000_000_000;
/// Distinct errors counted apart.
pub const ERROR_COUNT_MAX: usize = 30;

/// Operations by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Outcomes {
    /// Took place.
    pub ok: u64,
    /// Certainly did not.
    pub fail: u64,
    /// May have.
    pub info: u64,
    /// Had no completion when the history ended.
    pub open: u64,
}

impl Outcomes {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.ok + self.fail + self.info + self.open
    }

    pub(crate) fn count(&mut self, completion: Option<&Op>) {
        *match completion.map(|op| op.op_type) {
            Some(OpType::Ok) => &mut self.ok,
            Some(OpType::Fail) => &mut self.fail,
            Some(OpType::Info) => &mut self.info,
            Some(OpType::Invoke) | None => &mut self.open,
        } += 1;
    }
}

/// Latency of `ok` operations, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

/// One function.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FunctionSummary {
    /// Its name.
    pub f: String,
    /// How its operations ended.
    #[serde(flatten)]
    pub outcomes: Outcomes,
    /// Latency of its `ok` operations, if there were any.
    pub latency: Option<Latency>,
}

/// An error and how often it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorCount {
    /// The function.
    pub f: String,
    /// `fail` or `info`.
    #[serde(rename = "type")]
    pub op_type: OpType,
    /// The error as EDN, cut.
    pub error: String,
    /// How often.
    pub count: u64,
}

/// Rate and latency over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// The function; absent for all together.
    pub f: Option<String>,
    /// Window i covers `[i * window_ns, (i + 1) * window_ns)`.
    pub windows: Vec<Window>,
}

/// Operations invoked in one window.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Window {
    /// How they ended.
    #[serde(flatten)]
    pub outcomes: Outcomes,
    /// `[p50, p95, p99, max]` in milliseconds of the `ok` ones, if any.
    pub latency_ms: Option<[f64; 4]>,
}

/// What a [`Counter`] counted.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub outcomes: Outcomes,
    pub functions: Vec<FunctionSummary>,
    pub errors: Vec<ErrorCount>,
    pub window_ns: u64,
    pub series: Vec<Series>,
}

/// Totals and the open window of one line of the table.
#[derive(Debug)]
struct Track {
    name: Option<String>,
    outcomes: Outcomes,
    total: Option<Histogram<u64>>,
    window: Option<Histogram<u64>>,
    windows: Vec<Window>,
}

impl Track {
    fn new(name: Option<String>, window_count: usize) -> Track {
        // Bounds and digits are constants that hdrhistogram accepts; without a histogram a track still counts.
        Track {
            name,
            outcomes: Outcomes::default(),
            total: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).ok(),
            window: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).ok(),
            windows: vec![Window::default(); window_count],
        }
    }

    fn record(&mut self, window: usize, completion: Option<&Op>, latency_ns: Option<u64>) {
        self.outcomes.count(completion);
        self.windows[window].outcomes.count(completion);
        if let Some(latency_ns) = latency_ns {
            for histogram in [&mut self.total, &mut self.window].into_iter().flatten() {
                histogram.saturating_record(latency_ns);
            }
        }
    }

    fn close_window(&mut self, window: usize) {
        if let Some(histogram) = self.window.as_mut().filter(|histogram| !histogram.is_empty()) {
            let at = |quantile: f64| ms(histogram.value_at_quantile(quantile));
            self.windows[window].latency_ms =
                Some([at(0.5), at(0.95), at(0.99), ms(histogram.max())]);
            histogram.reset();
        }
    }

    fn latency(&self) -> Option<Latency> {
        let total = self.total.as_ref().filter(|total| !total.is_empty())?;
        let at = |quantile: f64| ms(total.value_at_quantile(quantile));
        Some(Latency {
            mean_ms: round3(total.mean() / 1e6),
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(total.max()),
        })
    }
}

/// Counts operations in order of invocation.
#[derive(Debug)]
pub(super) struct Counter {
    /// All, each named function, and at the end `other` when there are too many.
    tracks: Vec<Track>,
    track_of: HashMap<Sym, usize>,
    window_ns: u64,
    window: usize,
    errors: HashMap<(Sym, OpType, String), u64>,
}

impl Counter {
    pub(super) fn new(history: &History, end_ns: u64) -> Counter {
        let mut frequency: HashMap<Sym, u64> = HashMap::new();
        for op in history.client_ops().filter(|op| op.op_type == OpType::Invoke) {
            *frequency.entry(op.f).or_default() += 1;
        }
        let mut by_frequency: Vec<(Sym, u64)> = frequency.into_iter().collect();
        by_frequency.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let window_ns = window_length_ns(end_ns);
        let window_count = (end_ns / window_ns + 1) as usize;
        let mut tracks = vec![Track::new(None, window_count)];
        let mut track_of = HashMap::new();
        let crowded = by_frequency.len() > FUNCTION_COUNT_MAX;
        for (f, _) in by_frequency {
            if !crowded || tracks.len() < FUNCTION_COUNT_MAX {
                track_of.insert(f, tracks.len());
                tracks.push(Track::new(Some(text::clip(&f.as_str(), 60)), window_count));
            }
        }
        if crowded {
            tracks.push(Track::new(Some("other".into()), window_count));
        }
        Counter { tracks, track_of, window_ns, window: 0, errors: HashMap::new() }
    }

    pub(super) fn record(&mut self, history: &History, position: usize, op: &Op) {
        if op.op_type != OpType::Invoke {
            return;
        }
        // Recorded times never go back; in an imported history that does, the window stays.
        let window = ((time_ns(op) / self.window_ns) as usize).max(self.window);
        if window > self.window {
            self.tracks.iter_mut().for_each(|track| track.close_window(self.window));
            self.window = window;
        }
        let completion = history.completion(position);
        let latency_ns = completion
            .filter(|done| done.op_type == OpType::Ok)
            .map(|done| time_ns(done).saturating_sub(time_ns(op)));
        let other = self.tracks.len() - 1;
        let track = self.track_of.get(&op.f).copied().unwrap_or(other);
        self.tracks[0].record(window, completion, latency_ns);
        self.tracks[track].record(window, completion, latency_ns);
        if let Some(done) = completion
            && matches!(done.op_type, OpType::Fail | OpType::Info)
        {
            self.count_error(done);
        }
    }

    fn count_error(&mut self, done: &Op) {
        let error = match done.error.is_nil() {
            true => String::from("none given"),
            false => text::clip(&done.error, 120),
        };
        let key = (done.f, done.op_type, error);
        if let Some(count) = self.errors.get_mut(&key) {
            *count += 1;
        } else if self.errors.len() < 4 * ERROR_COUNT_MAX {
            self.errors.insert(key, 1);
        } else {
            // Errors that carry a number or a pid are each unique: past the bound they share one line.
            *self.errors.entry((done.f, done.op_type, "others".into())).or_default() += 1;
        }
    }

    pub(super) fn finish(mut self) -> Counted {
        self.tracks.iter_mut().for_each(|track| track.close_window(self.window));
        let mut errors: Vec<ErrorCount> = self
            .errors
            .into_iter()
            .map(|((f, op_type, error), count)| ErrorCount {
                f: f.as_str().to_owned(),
                op_type,
                error,
                count,
            })
            .collect();
        errors.sort_by(|a, b| {
            b.count.cmp(&a.count).then_with(|| (&a.f, &a.error).cmp(&(&b.f, &b.error)))
        });
        errors.truncate(ERROR_COUNT_MAX);
        let functions = self.tracks[1..]
            .iter()
            .map(|track| FunctionSummary {
                f: track.name.clone().unwrap_or_default(),
                outcomes: track.outcomes,
                latency: track.latency(),
            })
            .collect();
        Counted {
            outcomes: self.tracks[0].outcomes,
            functions,
            errors,
            window_ns: self.window_ns,
            series: self
                .tracks
                .into_iter()
                .map(|track| Series { f: track.name, windows: track.windows })
                .collect(),
        }
    }
}

/// The shortest length of the series 1, 2, 5, 10 … that gives few enough windows, at least 100 ms.
fn window_length_ns(end_ns: u64) -> u64 {
    let mut decade = 100_000_000u64;
    loop {
        for factor in [1, 2, 5] {
            let length = decade.saturating_mul(factor);
            if end_ns / length < WINDOW_COUNT_MAX {
                return length;
            }
        }
        decade = decade.saturating_mul(10);
    }
}

fn ms(ns: u64) -> f64 {
    round3(ns as f64 / 1e6)
}

/// Microseconds are precise enough for people, and short in JSON.
fn round3(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_round_and_few() {
        assert_eq!(window_length_ns(0), 100_000_000);
        assert_eq!(window_length_ns(20_000_000_000), 200_000_000);
        assert_eq!(window_length_ns(3_600_000_000_000), 50_000_000_000);
        assert!(u64::MAX / window_length_ns(u64::MAX) < WINDOW_COUNT_MAX);
    }
}
