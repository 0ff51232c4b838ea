//! `log-file-pattern`: no log of any node has a line that matches a pattern.
//!
//! As Jepsen's checker of that name, which etcd's and Redpanda's tests use for panics and failed assertions,
//! without GNU grep. The logs are those of a run (`path`: the run's folder with `nodes/NODE/…`, or any folder
//! with a folder for each node); a file that is missing on a node has no matching line.
//!
//! Faults make nodes complain, so matches can be excused: `allow` names kinds of faults, and a match is
//! excused if such a fault was active at the time of the line, or had been up to `grace-ms` before.
//! `allow-pattern` limits that to lines that match it too. A line has the time of the last time stamp at or
//! before it in its file: those of Erlang's logger and RabbitMQ (with a date; without an offset taken
//! for UTC) and of SASL reports (`=CRASH REPORT==== 21-Nov-2026::13:22:01`). The run says when it
//! began (`start-wall-ns`, or its `history.fdh`). A match that may be excused but cannot be placed in time
//! is `unknown`.
//!
//! Linear in the size of the logs, which are read a line at a time.

mod logs;
mod stamp;

use std::path::PathBuf;

use fuzz_dist_core::history_file::Reader;
use fuzz_dist_core::spec::Options;
use fuzz_dist_core::store::RunDir;
use fuzz_dist_core::{Anomaly, CheckResult, FaultLog, History, Verdict};
use regex::bytes::Regex;
use serde_json::{Value as Json, json};

use crate::budget::Meter;
use crate::log_file_pattern::logs::{Line, LogFile};
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, or_not_checked};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "log-file-pattern",
    about: "Whether any line of the nodes' logs matches a pattern (panics, failed assertions, crash \
            reports). Matches can be excused while faults of given kinds were active.",
    needs: &[],
    options: &[
        OptionInfo {
            name: "pattern",
            default: "none",
            about: "the regular expression (of Rust's regex crate) that no line may match; or a list",
        },
        OptionInfo {
            name: "path",
            default: "the run that is checked",
            about: "the folder of a run, or one with a folder of logs for each node",
        },
        OptionInfo {
            name: "files",
            default: "all *.log and log/*",
            about: "names or paths of log files within a node's folder, as a list or with commas",
        },
        OptionInfo {
            name: "allow",
            default: "none",
            about: "kinds of faults that excuse a match while they are active, or any",
        },
        OptionInfo {
            name: "allow-pattern",
            default: "any line",
            about: "what a line must match as well to be excused",
        },
        OptionInfo {
            name: "grace-ms",
            default: "5000",
            about: "how long after a fault its effects are still excused",
        },
        OptionInfo {
            name: "start-wall-ns",
            default: "that of the run's history.fdh",
            about: "when the history began, in nanoseconds since 1970",
        },
    ],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;
/// How many matches are listed.
const MATCHES_MAX: usize = 64;

/// The checker.
#[derive(Debug)]
pub struct LogFilePattern {
    patterns: Vec<Regex>,
    path: Option<PathBuf>,
    files: Option<Vec<String>>,
    allow: Vec<String>,
    allow_pattern: Option<Regex>,
    grace_ns: i64,
    start_wall_ns: Option<i64>,
}

/// Builds it.
pub fn build(options: &Options) -> Result<LogFilePattern, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let regex = |name: &str, given: &Json| {
        let text = given.as_str().unwrap_or_default();
        match Regex::new(text) {
            Ok(regex) if !text.is_empty() => Ok(regex),
            Ok(_) => Err(reader.bad(name, given, "a regular expression", String::new())),
            Err(error) => {
                let hint = format!(": {error}");
                Err(reader.bad(name, given, "a regular expression", hint))
            }
        }
    };
    let patterns = match reader.raw("pattern") {
        None => Vec::new(),
        Some(Json::Array(items)) => {
            items.iter().map(|item| regex("pattern", item)).collect::<Result<_, _>>()?
        }
        Some(given) => vec![regex("pattern", given)?],
    };
    let path = match reader.raw("path") {
        None => None,
        Some(Json::String(text)) if !text.is_empty() => Some(PathBuf::from(text)),
        Some(given) => return Err(reader.bad("path", given, "a folder", String::new())),
    };
    let start_wall_ns = match reader.raw("start-wall-ns") {
        None => None,
        Some(_) => Some(reader.int("start-wall-ns", 0)?),
    };
    Ok(LogFilePattern {
        patterns,
        path,
        files: reader.words("files")?,
        allow: reader.words("allow")?.unwrap_or_default(),
        allow_pattern: reader
            .raw("allow-pattern")
            .map(|given| regex("allow-pattern", given))
            .transpose()?,
        grace_ns: (reader.number("grace-ms", 5_000.0)?.min(86_400_000.0) * 1e6) as i64,
        start_wall_ns,
    })
}

impl Checker for LogFilePattern {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn only_reports(&self) -> bool {
        true
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        or_not_checked(INFO.name, self.check_logs(history, meter))
    }
}

/// Why a match counts or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Counts,
    Excused,
    /// It might be excused, but nobody knows when it was written.
    Timeless,
}

/// The lines that matched: all are counted, and the first of each judgement are kept.
#[derive(Default)]
struct Matches {
    kept: Vec<Match>,
    counts: [usize; 3],
}

impl Matches {
    fn add(&mut self, found: Match) {
        let count = &mut self.counts[found.judgement as usize];
        *count += 1;
        if *count <= MATCHES_MAX {
            self.kept.push(found);
        }
    }

    fn count(&self, judgement: Judgement) -> usize {
        self.counts[judgement as usize]
    }
}

/// A line that matched.
struct Match {
    line: Line,
    time_ns: Option<i64>,
    judgement: Judgement,
}

impl LogFilePattern {
    fn check_logs(&self, history: &History, meter: &Meter) -> Result<CheckResult, String> {
        if self.patterns.is_empty() {
            return Err("no pattern was given; option pattern takes a regular expression".into());
        }
        let Some(path) = &self.path else {
            return Err("which logs is not known; option path takes the folder of a run".into());
        };
        let files = logs::files(path, self.files.as_deref())?;
        let start_wall_ns = self.start_wall_ns.or_else(|| {
            let reader = Reader::follow(RunDir::at(path).history()).ok()?;
            Some(reader.header().clock.start_wall_ns)
        });
        let faults = faults(history, &self.allow, self.grace_ns);
        let mut matches = Matches::default();
        for (read, file) in files.iter().enumerate() {
            meter.check_time().map_err(|why| {
                format!("{why} after {read} of {} files; a larger budget would help", files.len())
            })?;
            file.lines(meter, &mut |line| {
                if self.patterns.iter().any(|pattern| pattern.is_match(&line.bytes)) {
                    let time_ns = line
                        .wall_ns
                        .zip(start_wall_ns)
                        .map(|(wall, start)| wall.saturating_sub(start));
                    let judgement = self.judge(&line, time_ns, &faults);
                    matches.add(Match { line, time_ns, judgement });
                }
            })?;
        }
        Ok(self.result(history, path, &files, &matches))
    }

    fn judge(&self, line: &Line, time_ns: Option<i64>, faults: &[(i64, i64)]) -> Judgement {
        let may = !faults.is_empty()
            && self.allow_pattern.as_ref().is_none_or(|pattern| pattern.is_match(&line.bytes));
        match time_ns {
            _ if !may => Judgement::Counts,
            None => Judgement::Timeless,
            Some(at) if faults.iter().any(|(from, to)| (*from..=*to).contains(&at)) => {
                Judgement::Excused
            }
            Some(_) => Judgement::Counts,
        }
    }

    fn result(
        &self,
        history: &History,
        path: &std::path::Path,
        files: &[LogFile],
        matches: &Matches,
    ) -> CheckResult {
        let of = |wanted| matches.kept.iter().filter(move |m| m.judgement == wanted);
        let (bad, excused) = (matches.count(Judgement::Counts), matches.count(Judgement::Excused));
        let timeless = matches.count(Judgement::Timeless);
        let excuse = match excused {
            0 => String::new(),
            count => format!("; {count} more are excused by faults"),
        };
        let (verdict, reason) = if let Some(first) = of(Judgement::Counts).next() {
            let text = format!("{bad} lines match, the first of {}{excuse}", first.line.place());
            (Verdict::Invalid, text)
        } else if timeless > 0 {
            let text = format!(
                "{timeless} lines match, and whether a fault excuses them is not known, since the lines have \
                 no time or the run no beginning; option start-wall-ns gives it{excuse}"
            );
            (Verdict::Unknown, text)
        } else if files.is_empty() {
            let text = format!("there is no log file of any node in {}", path.display());
            (Verdict::Unknown, text)
        } else {
            (Verdict::Valid, format!("no line of {} log files matches{excuse}", files.len()))
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        let counts = [
            ("count", bad),
            ("excused", excused),
            ("not-in-time", timeless),
            ("files", files.len()),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n as u64)).collect();
        let listed = matches.kept.iter().take(MATCHES_MAX).map(|found| {
            json!({
                "node": found.line.node,
                "file": found.line.file,
                "line-number": found.line.number,
                "line": found.line.text(),
                "time-ms": found.time_ns.map(|ns| ns as f64 / 1e6),
                "excused": found.judgement == Judgement::Excused,
            })
        });
        result.details = json!({"matches": listed.collect::<Vec<_>>()});
        result.anomalies = of(Judgement::Counts)
            .take(ANOMALIES_MAX)
            .map(|found| Anomaly {
                name: "log-match".into(),
                key: Some(found.line.node.clone()),
                text: format!("{}: {}", found.line.place(), found.line.text()),
                ops: found.time_ns.and_then(|at| record_at(history, at)).into_iter().collect(),
                ..Anomaly::default()
            })
            .collect();
        result
    }
}

/// The last record at or before a time.
fn record_at(history: &History, time_ns: i64) -> Option<u64> {
    let after = history.ops().partition_point(|op| op.time_ns <= time_ns);
    after.checked_sub(1).map(|position| position as u64)
}

/// When faults of the kinds were active, each with the grace after it.
fn faults(history: &History, kinds: &[String], grace_ns: i64) -> Vec<(i64, i64)> {
    let excuses = |kind: &str| kinds.iter().any(|allowed| allowed == "any" || allowed == kind);
    let log = FaultLog::of(history);
    let active = log.intervals().iter().filter(|fault| excuses(&fault.kind));
    active
        .filter_map(|fault| fault.window())
        .map(|(from, to)| (from, to.saturating_add(grace_ns)))
        .collect()
}
