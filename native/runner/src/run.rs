//! One run from request to verdict.
//!
//! Set-up, main phase, heal, recovery, final operations, teardown, analysis. Whatever happens on the way, the
//! processes of the run are gone when [`run`] returns: they are the guard's, the guard's handle is owned
//! here, and its end kills them.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use fuzz_dist_core::Value;
use fuzz_dist_core::clock;
use fuzz_dist_core::clock::RunClock;
use fuzz_dist_core::fault::BoundaryEdges;
use fuzz_dist_core::history_file::{Header, Writer};
use fuzz_dist_core::random;
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::Spec;
use fuzz_dist_core::store::{RunDir, Store, StoreError};
use fuzz_dist_nemesis::guard::{Guard, GuardEvent};
use fuzz_dist_nemesis::leftovers;
use fuzz_dist_nemesis::net::Network;
use nix::sys::stat::{Mode, umask};

use crate::agents::{Agents, EVENTS_MAX};
use crate::analysis::{self, Live};
use crate::cluster::namespaces;
use crate::core_log::CoreLog;
use crate::default_nemesis;
use crate::mined;
use crate::observer::{Observations, observe};
use crate::plan;
use crate::recorder::{Recorder, map};
use crate::request::{Reporter, RunError, RunOutcome, RunRequest};
use crate::session::Session;
use crate::signals;
use crate::stop::{Stop, StopReason};

/// How long a run may take to heal its faults and end in order after it was asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// How often somebody who waits for a wish to stop looks whether the run is over anyway.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs a test and gives its verdict.
pub fn run(request: RunRequest, reporter: Arc<dyn Reporter>) -> Result<RunOutcome, RunError> {
    // Whatever this process, the guard, the plane and the nodes create is for their user alone.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let stop = Stop::default();
    signals::listen(&stop)?;
    if let Some(fd) = request.life_line_fd {
        signals::watch_life_line(fd, &stop)?;
    }
    let mut request = request;
    let mined = mined::edges(&request.spec, request.schedule.as_ref())?;
    let default = default_nemesis::settle(&mut request.spec, request.schedule.as_ref(), &mined)?;
    let seed = Seed(*request.spec.seed.get_or_insert_with(|| Seed::from_entropy().0));
    // Everything that can be refused without starting anything is refused here.
    plan::check(&request.spec, request.schedule.as_ref(), &mined)?;
    let files = prepare_files(&request.spec)?;
    let recorder = open_recorder(&request.spec, seed, &files)?;
    let log = CoreLog::create(&files.core_log(), *recorder.clock(), reporter)?;
    let reporter: Arc<dyn Reporter> = Arc::new(log);
    if let Some(notice) = &default {
        reporter.line(&notice.text);
        notice.record(&recorder)?;
    }
    let ran = perform(&request, seed, &mined, &files, &recorder, &reporter, &stop);
    let early = match (&ran, stop.reason()) {
        (_, Some(reason)) => Some(reason.text().to_owned()),
        (Err(error), None) => Some(error.to_string()),
        (Ok(_), None) => None,
    };
    let mut warnings = Vec::new();
    if let Some(reason) = early {
        let value = map([("reason", Value::str(reason))]);
        let written = recorder.observer(recorder.now_ns(), "interrupted", None, value);
        warnings.extend(written.err().map(|error| error.to_string()));
    }
    // What was committed is readable all the same.
    warnings.extend(recorder.sync().err().map(|error| error.to_string()));
    drop(recorder);
    let versions = match (ran, stop.reason()) {
        // What else went wrong is a consequence.
        (_, Some(StopReason::Broken(text))) => {
            return Err(with_place(RunError::Internal(text), files.path()));
        }
        (Err(error), Some(StopReason::Interrupted(_))) => {
            reporter.line(&error.to_string());
            BTreeMap::new()
        }
        (Err(error), None) => return Err(with_place(error, files.path())),
        (Ok(versions), _) => versions,
    };
    reporter.line("analysing");
    let live = Live { program: request.command.join(" "), versions, warnings };
    analysis::analyze_run(files.path(), live, &stop)
}

/// An error of a run that has a folder says where the rest can be read.
fn with_place(error: RunError, run_dir: &Path) -> RunError {
    let place = format!("what was recorded is in {}", run_dir.display());
    match error {
        RunError::Input(text) => RunError::Input(format!("{text}\n{place}")),
        RunError::Internal(text) => RunError::Internal(format!(
            "{text}\n{place}; `fuzz_dist analyze {}` checks it",
            run_dir.display()
        )),
    }
}

fn prepare_files(spec: &Spec) -> Result<RunDir, RunError> {
    let files = Store::create_run(Path::new(&spec.store), &spec.name, clock::wall_ns());
    let files = files.map_err(|error| {
        let text = format!("cannot create a run in {}: {error}", spec.store);
        match &error {
            // A full disk is no mistake in the spec.
            StoreError::Io { source, .. } if source.kind() == ErrorKind::StorageFull => {
                RunError::Internal(text)
            }
            _ => RunError::Input(text),
        }
    })?;
    write_file(&files.spec(), fuzz_dist_core::spec::to_toml(spec).as_bytes())?;
    Ok(files)
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    fuzz_dist_core::file::replace(path, |out| out.write_all(bytes))
        .map_err(|e| RunError::Internal(format!("cannot write {}: {e}", path.display())))
}

fn open_recorder(spec: &Spec, seed: Seed, files: &RunDir) -> Result<Recorder, RunError> {
    let clock = RunClock::start();
    let header = Header {
        run: files.id(),
        test: spec.name.clone(),
        seed,
        clock,
        spec: fuzz_dist_core::spec::to_toml(spec),
    };
    let writer = Writer::create(files.history(), &header)
        .map_err(|e| RunError::Internal(format!("cannot write the history: {e}")))?;
    Ok(Recorder::new(writer, clock))
}

/// Everything between an open history and the end of the last process.
fn perform(
    request: &RunRequest,
    seed: Seed,
    mined: &[BoundaryEdges],
    files: &RunDir,
    recorder: &Recorder,
    reporter: &Arc<dyn Reporter>,
    stop: &Stop,
) -> Result<BTreeMap<String, String>, RunError> {
    let spec = &request.spec;
    let (worker_sender, worker_inbox) = sync_channel(EVENTS_MAX);
    let (node_sender, node_inbox) = sync_channel(EVENTS_MAX);
    let token = token()?;
    let exe = std::env::current_exe()
        .map_err(|e| RunError::Internal(format!("cannot find my own program: {e}")))?;
    for leftover in leftovers::remove() {
        reporter.line(&format!("removed what a killed run left: {leftover}"));
    }
    let guard = Guard::start(&exe, &files.id()).map_err(|e| RunError::Internal(e.to_string()))?;
    let guard = Arc::new(guard);
    let watching = watch_guard(&guard, stop);
    let network = namespaces::create(spec, &guard)?;
    // On the loopback, or where nodes in namespaces reach it.
    let host = network.as_ref().map_or(Ipv4Addr::LOCALHOST, |network| network.host());
    let agents = Agents::start_at(host, &token, &files.id(), worker_sender, node_sender)
        .map(Arc::new)
        .map_err(|e| RunError::Internal(format!("cannot serve agents: {e}")))?;

    let observations = Observations::default();
    let observer = {
        let (recorder, observations) = (recorder.clone(), observations.clone());
        std::thread::spawn(move || observe(&node_inbox, &recorder, &observations))
    };
    let session = Session {
        spec,
        seed,
        mined,
        files,
        recorder,
        reporter,
        stop,
        agents: &agents,
        guard: &guard,
        network: network.as_ref(),
        observations: &observations,
        token: &token,
        schedule: request.schedule.as_ref(),
    };
    let over = Stop::default();
    let (outcome, hurried) = std::thread::scope(|scope| {
        let hurrying = scope.spawn(|| hurry(stop, &over, &guard, network.as_deref()));
        let outcome = session.perform(&exe, worker_inbox);
        over.ask(StopReason::Interrupted("the run is over".into()));
        (outcome, hurrying.join().unwrap_or_default())
    });
    let shutdown = hurried.unwrap_or_else(|| shut_down(&guard, network.as_deref()));
    if let Some(network) = &network {
        network.remove();
    }
    // It has ended with the guard; what it had to say is said when we go on.
    drop(watching.join());
    drop(agents);
    drop(observer.join());
    let versions = outcome?;
    shutdown?;
    Ok(versions)
}

/// Kills every process of a run that should stop and does not come to its end by itself, since it waits
/// for a callback of the test, for instance. Whatever waits for these processes then fails. `None` if the
/// run came to its end.
fn hurry(
    stop: &Stop,
    over: &Stop,
    guard: &Guard,
    network: Option<&Network>,
) -> Option<Result<(), RunError>> {
    while !stop.wait(LOOK_EVERY) {
        if over.is_set() {
            return None;
        }
    }
    (!over.wait(STOP_PATIENCE)).then(|| shut_down(guard, network))
}

fn watch_guard(guard: &Arc<Guard>, stop: &Stop) -> JoinHandle<()> {
    let events = guard.events();
    let stop = stop.clone();
    std::thread::spawn(move || {
        while let Ok(event) = events.recv() {
            if matches!(event, GuardEvent::Lost(_)) {
                // Plane and nodes died of it, which others may have noticed before.
                stop.insist(StopReason::Broken(
                    "the guard process died; every process of the run was killed".into(),
                ));
            }
        }
    })
}

/// A secret of this run that agents and plane show.
fn token() -> Result<String, RunError> {
    random::secret().map_err(|e| RunError::Internal(format!("no randomness for a secret: {e}")))
}

/// Kills every process of the run and says which could not be.
fn shut_down(guard: &Guard, network: Option<&Network>) -> Result<(), RunError> {
    // Whoever still heals a fault would make tables again that the guard has removed.
    if let Some(network) = network {
        network.close();
    }
    let left = guard.end().map_err(|e| RunError::Internal(e.to_string()));
    match left {
        Ok(left) if !left.remaining.is_empty() => {
            Err(RunError::Internal(format!("processes could not be killed: {:?}", left.remaining)))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}
