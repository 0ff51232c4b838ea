//! From the files of a run to its verdict and report; the same for a run that has just ended and for one
//! that was torn by `kill -9` a year ago.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fuzz_dist_checker::{Budget, check_all, recovery, vacuity};
use fuzz_dist_core::fault::FaultSchedule;
use fuzz_dist_core::file;
use fuzz_dist_core::history_file::{Header, Reader};
use fuzz_dist_core::spec::{CheckerSpec, Placement, Spec};
use fuzz_dist_core::store::RunDir;
use fuzz_dist_core::{CheckResult, History, Op, Verdict};
use fuzz_dist_report::{RunInfo, Summary};

use crate::crashes;
use crate::default_nemesis;
use crate::plan;
use crate::request::{RunError, RunOutcome};
use crate::signals;
use crate::stop::Stop;
use crate::surprises;
use crate::tested;

/// The longest spec and schedule of a run that are read.
const SPEC_BYTES_MAX: u64 = 4 << 20;
const SCHEDULE_BYTES_MAX: u64 = 64 << 20;

/// Time for all checkers together; past it they answer `unknown`.
const CHECK_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(600);

/// What only the live run knew, for its report.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// How this program was called.
    pub(crate) program: String,
    /// Versions of what ran.
    pub(crate) versions: BTreeMap<String, String>,
    /// What could not be written.
    pub(crate) warnings: Vec<String>,
}

/// Checks a stored run with its own checkers and writes its report anew; or with others, and then leaves
/// its files as they are: they tell the verdict of the run, not of a question about it.
///
/// The first SIGINT, SIGTERM or SIGHUP ends the checkers: the verdict is then `unknown` (or an `invalid`
/// that was found until then), and the files stay as they are.
pub fn analyze(run_dir: &Path, checkers: Option<Vec<CheckerSpec>>) -> Result<RunOutcome, RunError> {
    if checkers.is_none() {
        refuse_other_folders(run_dir)?;
    }
    let stop = Stop::default();
    signals::listen(&stop)?;
    let stored = Stored::read(run_dir)?;
    let is_own = checkers.is_none();
    let result = stored.check(checkers, &stop)?;
    let writes = is_own && !stop.is_set();
    let live = Live { program: "fuzz_dist".into(), ..Live::default() };
    Ok(stored.outcome(result, live, writes))
}

/// Checks a run that has just ended, and writes its report. It was perhaps interrupted before; a signal from now
/// on ends the checkers.
pub(crate) fn analyze_run(run_dir: &Path, live: Live, stop: &Stop) -> Result<RunOutcome, RunError> {
    let stored = Stored::read(run_dir)?;
    let result = stored.check(None, stop)?;
    Ok(stored.outcome(result, live, true))
}

/// The files of a run, read.
struct Stored {
    files: RunDir,
    spec: Spec,
    spec_toml: String,
    schedule: FaultSchedule,
    header: Header,
    history: History,
    /// Why it was asked to end before its time.
    interrupted: Option<String>,
    /// What of the end of its history is damaged.
    torn: Option<String>,
}

impl Stored {
    fn read(run_dir: &Path) -> Result<Stored, RunError> {
        let files = RunDir::at(run_dir);
        let spec_file = files.spec();
        let spec_toml = file::read_text(&spec_file, SPEC_BYTES_MAX).map_err(|e| {
            RunError::Input(format!("{}: {e}; is this the folder of a run?", spec_file.display()))
        })?;
        let spec = fuzz_dist_core::spec::parse(&spec_toml, &spec_file.display().to_string())
            .map_err(|e| RunError::Input(e.to_string()))?;
        let schedule = read_schedule(&files.schedule())?;
        file::open(&files.history())
            .map_err(|e| RunError::Input(format!("{}: {e}", files.history().display())))?;
        let recovered =
            Reader::open(files.history()).map_err(|e| RunError::Input(e.to_string()))?;
        let torn = recovered.torn.as_ref().map(|tail| {
            format!(
                "the last {} bytes of the history, from byte {}, are torn and were left out ({})",
                tail.bytes, tail.offset, tail.reason
            )
        });
        let header = recovered.header;
        let history = History::new(recovered.ops).map_err(|e| RunError::Input(e.to_string()))?;
        let interrupted = interruption(&history);
        Ok(Stored { files, spec, spec_toml, schedule, header, history, interrupted, torn })
    }

    /// Checks it with its own checkers, or with those given.
    fn check(
        &self,
        checkers: Option<Vec<CheckerSpec>>,
        stop: &Stop,
    ) -> Result<CheckResult, RunError> {
        let guard = match &checkers {
            None => recovery_guard(&self.spec, &self.history),
            Some(_) => None,
        };
        let checkers = match checkers {
            Some(given) => given,
            None => plan::checkers(&self.spec)?,
        };
        let run_dir = self.files.path();
        let checkers = tell_place(checkers, run_dir, self.header.clock.start_wall_ns);
        // A run that was interrupted has its stop set; from then on the second signal ends the process.
        let was_stopped = stop.is_set();
        let cancel = (!was_stopped).then(|| stop.flag());
        let budget = Budget { time: Some(CHECK_TIME_MAX), cancel, ..Budget::default() };
        let mut result = check_all(&self.history, &checkers, &budget);
        // What was left out since it cannot be had here is told, but nobody waited for it.
        let left_out = left_out(&self.history).len();
        let mut guards = vec![vacuity(&self.history, self.schedule.faults.len() > left_out)];
        guards.extend(guard);
        guards.extend(self.completeness());
        guards.extend(interrupted_analysis(was_stopped, stop));
        for guard in guards {
            if guard.verdict > result.verdict {
                result.verdict = guard.verdict;
                result.reason = match guard.verdict {
                    Verdict::Invalid => format!("{}: {}", guard.checker, guard.reason),
                    _ => guard.reason.clone(),
                };
            }
            result.anomalies.extend(guard.anomalies.iter().cloned());
            result.parts.push(guard);
        }
        if result.verdict == Verdict::Invalid {
            let summary = fuzz_dist_report::analyse(&self.history, &self.schedule);
            fuzz_dist_report::retell(&self.history, &mut result, &summary);
        }
        Ok(result)
    }

    /// A run that did not reach its end tested less than it says: it does not pass. What it proves stays
    /// proved.
    fn completeness(&self) -> Option<CheckResult> {
        let reason = match (&self.interrupted, heal_failure(&self.history), &self.torn) {
            (Some(reason), ..) => reason.clone(),
            (None, Some(reason), _) => format!("not every fault could be healed: {reason}"),
            (None, None, _) if !completed(&self.history) => format!(
                "the run did not reach its end: it was killed {}",
                last_phase(&self.history)
            ),
            (None, None, Some(torn)) => format!("the run was killed: {torn}"),
            (None, None, None) => return None,
        };
        Some(CheckResult::new("completeness", Verdict::Unknown, reason))
    }

    /// The verdict with its report. What cannot be written costs no verdict.
    fn outcome(self, result: CheckResult, live: Live, writes: bool) -> RunOutcome {
        let run_dir = self.files.path();
        let replay_command = replay_command(&live.program, run_dir);
        let history = &self.history;
        let end_ns = history.ops().iter().map(|op| op.time_ns).max().unwrap_or(0);
        let info = RunInfo {
            run_id: self.header.run.clone(),
            seed: self.header.seed.0,
            started_wall_ns: self.header.clock.start_wall_ns,
            duration_ns: end_ns.max(0) as u64,
            spec_toml: self.spec_toml.clone(),
            replay_command: replay_command.clone(),
            notes: self.notes(result.verdict),
            versions: live.versions,
            tested: tested::of(history),
            boundaries: self.schedule.boundaries.clone(),
            interrupted: self.interrupted.clone(),
            torn: self.torn.clone(),
            ..info_of_spec(&self.spec)
        };
        let mut warnings = live.warnings;
        let (summary, report) = match writes {
            true => self.write(&info, &result, &mut warnings),
            false => (fuzz_dist_report::analyse(history, &self.schedule), None),
        };
        let explanation = fuzz_dist_report::explain(&info, &summary, history, &result, false);
        RunOutcome {
            run_dir: run_dir.to_owned(),
            verdict: result.verdict,
            result,
            explanation,
            report,
            warnings,
            replay_command,
            seed: self.header.seed.0,
        }
    }

    fn notes(&self, verdict: Verdict) -> Vec<String> {
        let mut all = notes(&self.history, self.interrupted.is_some());
        all.extend(surprises::notes(&self.history, verdict));
        all
    }

    /// Writes `history.edn` and the report, as far as possible.
    fn write(
        &self,
        info: &RunInfo,
        result: &CheckResult,
        warnings: &mut Vec<String>,
    ) -> (Summary, Option<PathBuf>) {
        let (run_dir, history) = (self.files.path(), &self.history);
        match fuzz_dist_report::write(run_dir, info, history, &self.schedule, result) {
            Ok(written) => {
                warnings.extend(written.failed);
                warnings.extend(export_edn(&self.files, history).err());
                let report = Some(written.report).filter(|path| written.files.contains(path));
                (written.summary, report)
            }
            Err(error) => {
                warnings.push(format!("the report cannot be written: {error}"));
                (fuzz_dist_report::analyse(history, &self.schedule), None)
            }
        }
    }
}

/// Checkers that were broken off leave the question open.
fn interrupted_analysis(was_stopped: bool, stop: &Stop) -> Option<CheckResult> {
    let reason = stop.reason().filter(|_| !was_stopped)?;
    let text = format!("{}, during the analysis", reason.text());
    Some(CheckResult::new("analysis", Verdict::Unknown, text))
}

/// Whether everything that worked still did at the end, in every run whose spec does not say otherwise.
fn recovery_guard(spec: &Spec, history: &History) -> Option<CheckResult> {
    let name = recovery::INFO.name;
    let is_listed =
        spec.checkers.iter().flatten().any(|checker: &CheckerSpec| checker.name == name);
    if !spec.recovery_check || is_listed {
        return None;
    }
    let options = [("without-faults".to_owned(), "judge".into())];
    let checker = CheckerSpec { name: name.into(), options: options.into_iter().collect() };
    // A checker of ours with options of ours: should it not be built, that is told as for any other.
    let mut result = check_all(history, &[checker], &Budget::default());
    // Where every node was struck by something that nothing heals, there is none to judge.
    result.parts.pop().filter(|result| !are_all_excepted(spec, result))
}

fn are_all_excepted(spec: &Spec, recovery: &CheckResult) -> bool {
    let excepted = recovery.details.get("excepted-nodes").and_then(|nodes| nodes.as_array());
    let is_excepted =
        |node: &String| excepted.is_some_and(|nodes| nodes.iter().any(|one| *one == **node));
    recovery.verdict == Verdict::Unknown && spec.nodes.names().iter().all(is_excepted)
}

/// What the spec says about a run; the rest is as in a run that never began.
fn info_of_spec(spec: &Spec) -> RunInfo {
    RunInfo {
        name: spec.name.clone(),
        workload: spec.workload.name.clone(),
        placement: match spec.placement {
            Placement::Node => "node".into(),
            Placement::Client => "client".into(),
        },
        nodes: spec.nodes.names(),
        concurrency: spec.concurrency.count(spec.nodes.names().len()).unwrap_or_default(),
        prevent_overlapping_partitions: spec.cluster.prevent_overlapping_partitions,
        ..RunInfo::default()
    }
}

fn notes(history: &History, interrupted: bool) -> Vec<String> {
    let default = observer_ops(history, default_nemesis::RECORD);
    let mut notes: Vec<String> =
        default.filter_map(|op| op.value.get("notice")?.as_text().map(str::to_owned)).collect();
    let left_out = left_out(history);
    if !left_out.is_empty() {
        let kinds: BTreeSet<String> = left_out.iter().filter_map(|op| unavailable(op)).collect();
        let kinds: Vec<String> = kinds.into_iter().collect();
        notes.push(format!("{} faults were left out: {}", left_out.len(), kinds.join("; ")));
    }
    notes.extend(thrown_out(history));
    notes.extend(unbounded(history));
    if !interrupted {
        // A run that is broken off ends its nodes.
        notes.extend(crashes::notes(history));
    }
    if completed(history) || interrupted {
        return notes;
    }
    let killed = "the run was killed: the verdict is about what was recorded until then";
    notes.push(killed.to_owned());
    notes
}

/// Agents whose connection the core has closed; every operation that was under way there is `info`.
fn thrown_out(history: &History) -> Vec<String> {
    let mut by_node: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for op in observer_ops(history, "agent-broken") {
        let node = op.node.as_ref().map_or("a node", |node| node.as_str());
        let reason = op.value.get("reason").and_then(|reason| reason.as_text()).unwrap_or_default();
        by_node.entry(node).or_insert((0, reason)).0 += 1;
    }
    let told = by_node.into_iter().map(|(node, (times, reason))| {
        format!("the connection to an agent in {node} was closed {times} times: {reason}")
    });
    told.collect()
}

/// Operations whose result was left out: it nests too deep, or is too large.
fn unbounded(history: &History) -> Option<String> {
    let excess = |op: &&Op| {
        let kind = op.error.items().and_then(|items| items.first()?.as_text());
        op.is_client() && kind.is_some_and(|kind| matches!(kind, "too_deep" | "too_large"))
    };
    let ops: Vec<&Op> = history.ops().iter().filter(excess).collect();
    let first = ops.first()?;
    Some(format!(
        "{} operations are info since their result nests too deep or is too large ({} was the first: {}); \
         return less from `invoke`",
        ops.len(),
        first.f,
        first.error
    ))
}

/// Faults that the run did without, since they could not be had.
fn left_out(history: &History) -> Vec<&Op> {
    observer_ops(history, "fault-unavailable").collect()
}

/// `clock-jump (not built)`.
fn unavailable(op: &Op) -> Option<String> {
    let text = |key: &str| op.value.get(key).and_then(|value| value.as_text());
    Some(format!("{} ({})", text("kind")?, text("reason")?))
}

/// The program of a run that a mix task started: its commands are `mix fuzz_dist.COMMAND`.
pub const MIX: &str = "mix fuzz_dist";

/// What a shell understands: the folder is quoted where it has to be.
fn replay_command(program: &str, run_dir: &Path) -> String {
    let folder = run_dir.display().to_string();
    // Only a NUL cannot be quoted, and no path has one.
    let folder = shlex::try_quote(&folder).map_or(folder.clone(), |quoted| quoted.into_owned());
    // A mix task has the name of the command in its own.
    let space = if program == MIX { '.' } else { ' ' };
    format!("{program}{space}replay {folder}")
}

fn read_schedule(path: &Path) -> Result<FaultSchedule, RunError> {
    match file::read(path, SCHEDULE_BYTES_MAX) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|e| RunError::Input(format!("{}: {e}", path.display()))),
        // A run that died before its cluster was up has none.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(FaultSchedule {
            version: 1,
            seed: 0,
            nodes: Vec::new(),
            boundaries: Vec::new(),
            eras: Vec::new(),
            faults: Vec::new(),
        }),
        Err(e) => Err(RunError::Input(format!("{}: {e}", path.display()))),
    }
}

/// The spec of a run that was sent could otherwise have files of the reader quoted in the report.
fn refuse_other_folders(run_dir: &Path) -> Result<(), RunError> {
    let file = RunDir::at(run_dir).spec();
    // What else is wrong with it is told by the analysis.
    let text = file::read_text(&file, SPEC_BYTES_MAX).unwrap_or_default();
    let Ok(spec) = fuzz_dist_core::spec::parse(&text, &file.display().to_string()) else {
        return Ok(());
    };
    let own = run_dir.canonicalize().ok();
    let is_within = |path: &str| {
        own.as_ref()
            .zip(Path::new(path).canonicalize().ok())
            .is_some_and(|(own, path)| path.starts_with(own))
    };
    let log_checkers = spec.checkers.iter().flatten().filter(|c| c.name == "log-file-pattern");
    for path in log_checkers.filter_map(|checker| checker.options.get("path")?.as_str()) {
        if !is_within(path) {
            return Err(RunError::Input(format!(
                "{}: checkers: log-file-pattern: path = {path:?} is outside of the folder of the run, and \
                 its lines would be copied into the report; if you want that, take the option out of \
                 the file and give it to `fuzz_dist check --checker log-file-pattern`",
                file.display()
            )));
        }
    }
    Ok(())
}

/// Where the logs of this run are, and when it began, for the checker that reads them.
fn tell_place(
    mut checkers: Vec<CheckerSpec>,
    run_dir: &Path,
    start_wall_ns: i64,
) -> Vec<CheckerSpec> {
    for checker in checkers.iter_mut().filter(|checker| checker.name == "log-file-pattern") {
        let own = [
            ("path", run_dir.display().to_string().into()),
            ("start-wall-ns", start_wall_ns.into()),
        ];
        if !checker.options.contains_key("path") {
            checker.options.extend(own.map(|(name, value)| (name.to_owned(), value)));
        }
    }
    checkers
}

fn observer_ops<'a>(history: &'a History, f: &'a str) -> impl Iterator<Item = &'a Op> {
    history.ops().iter().filter(move |op| !op.is_client() && op.f.as_str() == f)
}

/// Why the run was asked to end before its time.
fn interruption(history: &History) -> Option<String> {
    let op = observer_ops(history, "interrupted").next()?;
    let reason =
        op.value.get("reason").and_then(|reason| reason.as_text()).unwrap_or("interrupted");
    Some(format!("{reason} after {:.1} s", op.time_ns as f64 / 1e9))
}

/// Whether the run went through all its phases.
fn completed(history: &History) -> bool {
    observer_ops(history, "phase")
        .any(|op| op.value.get("name").and_then(|name| name.as_text()) == Some("teardown"))
}

/// What could not be healed.
fn heal_failure(history: &History) -> Option<String> {
    let failed = |op: &&Op| op.f == "heal-failed" || op.f == "fault-heal-failed";
    let op = history.ops().iter().filter(|op| !op.is_client()).find(failed)?;
    Some(op.value.get("reason").and_then(|reason| reason.as_text()).unwrap_or("?").to_owned())
}

/// `in its phase main, after 9.1 s`.
fn last_phase(history: &History) -> String {
    let end_ns = history.ops().iter().map(|op| op.time_ns).max().unwrap_or(0);
    let phase = observer_ops(history, "phase").last();
    let name = phase.and_then(|op| op.value.get("name")?.as_text()).unwrap_or("setup");
    format!("in its phase {name}, after {:.1} s", end_ns as f64 / 1e9)
}

fn export_edn(files: &RunDir, history: &History) -> Result<(), String> {
    let path = files.history_edn();
    file::replace(&path, |out| fuzz_dist_core::interop::write_edn(history, out))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
