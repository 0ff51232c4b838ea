//! What a run leaves for people and for machines: results, charts, a page, and the last words on the terminal.
//!
//! [`analyse`] reads a history once and counts ([`Summary`]); [`write`] puts `results.json`, `report.html`,
//! `timeline.html`, SVG charts and `junit.xml` into the folder of the run; [`explain`] is the text
//! at the end of a run. Nothing here decides a verdict: that is the [`CheckResult`] given.
//!
//! Reading order: [`info`] (what the caller tells of the run), [`analyse`](mod@analyse) (counts, faults, node
//! events), [`evidence`] (a counter-example with what surrounds it), [`sample`] (which operations a page
//! can hold), [`page`], [`drawing`] (counter-examples as SVG), [`svg`], [`results`], [`junit`], [`explain`](mod@explain).
//!
//! Limits: memory beside the history is bounded by the constants of [`sample`] and [`analyse`](mod@analyse),
//! and so is the size of a page (2 to 5 MB), however long the run was.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use fuzz_dist_core::fault::FaultSchedule;
use fuzz_dist_core::file;
use fuzz_dist_core::{CheckResult, History};

pub mod analyse;
pub mod drawing;
pub mod evidence;
pub mod explain;
pub mod headline;
pub mod info;
pub mod junit;
pub mod page;
pub mod results;
pub mod sample;
pub mod svg;
mod text;

pub use analyse::{Summary, analyse};
pub use drawing::{Drawing, drawings};
pub use explain::explain;
pub use headline::retell;
pub use info::{Code, Git, RunInfo, Tested};

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something could not be put into JSON.
    #[error("cannot encode {what} as JSON: {source}")]
    Encode {
        /// Which part.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

/// What [`write`] wrote.
#[derive(Debug, Clone)]
pub struct Written {
    /// `results.json`.
    pub results: PathBuf,
    /// `report.html`.
    pub report: PathBuf,
    /// Every file that was written, those two included.
    pub files: Vec<PathBuf>,
    /// Why others could not be written: the folder is not ours, or the disk is full.
    pub failed: Vec<String>,
    /// What was counted on the way; [`explain`] wants it.
    pub summary: Summary,
}

/// Writes every file of the report into the folder of the run, which must exist.
///
/// Each file is written beside its place and renamed, so that a reader never sees half of one and an
/// interrupted rewrite leaves the old report. A file that cannot be written is told in [`Written::failed`]
/// and keeps no other from being written.
pub fn write(
    run_dir: &Path,
    info: &RunInfo,
    history: &History,
    schedule: &FaultSchedule,
    result: &CheckResult,
) -> Result<Written, ReportError> {
    let summary = analyse(history, schedule);
    let sample = sample::take(history, result);
    let mut out = Files { run_dir, written: Vec::new(), failed: Vec::new() };
    out.put("results.json", &results::to_json(info, &summary, history, result)?);
    out.put("junit.xml", &junit::to_xml(info, result));
    out.put("latency-raw.svg", &svg::latency_raw(info, &summary, &sample));
    out.put("latency-quantiles.svg", &svg::latency_quantiles(info, &summary));
    out.put("rate.svg", &svg::rate(info, &summary));
    if let Some(chart) = svg::clock_skew(info, &summary) {
        out.put("clock-skew.svg", &chart);
    }
    let data = page::data(info, &summary, history, result, &sample)?;
    out.put("timeline.html", &page::timeline(info, result, &data));
    out.put("report.html", &page::report(info, result, &data));
    let (results, report) = (run_dir.join("results.json"), run_dir.join("report.html"));
    Ok(Written { results, report, files: out.written, failed: out.failed, summary })
}

/// The files of a report. One that cannot be written does not keep the others from being written.
struct Files<'a> {
    run_dir: &'a Path,
    written: Vec<PathBuf>,
    failed: Vec<String>,
}

impl Files<'_> {
    fn put(&mut self, name: &str, content: &str) {
        let path = self.run_dir.join(name);
        match replace(&path, content) {
            Ok(()) => self.written.push(path),
            Err(error) => self.failed.push(error.to_string()),
        }
    }
}

/// Writes a file beside its place and renames it, so that nobody ever sees half of it.
pub fn replace(path: &Path, content: &str) -> Result<(), ReportError> {
    file::replace(path, |out| out.write_all(content.as_bytes()))
        .map_err(|source| ReportError::Write { path: path.to_owned(), source })
}
