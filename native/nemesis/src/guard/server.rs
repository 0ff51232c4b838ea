//! The guard's own process: starts, signals and reaps children, and kills everything at the end.
//!
//! Two threads: one answers requests, one reaps. A child is looked at (`WNOWAIT`) before it is
//! reaped, and both the reaping and every signal happen under one lock, so a signal never reaches
//! another process that was given the id of a child that is gone.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fuzz_dist_core::clock::monotonic_ns;
use fuzz_dist_core::sync::lock;
use nix::errno::Errno;
use nix::sys::signal as posix;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::RUN_VARIABLE;
use super::cgroup::Group;
use super::launch;
use super::owner::{OWNER_VARIABLE, Owner};
use super::process_table::{Identity, ProcessTable};
use super::protocol::{
    Action, Exit, KeyStatus, Line, Outcome, ProcessInfo, Reply, Report, Request, Signal,
    SpawnRequest,
};

/// How long killing everything may take before what is left is reported.
const SWEEP_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Between two looks at `/proc` while killing.
const SWEEP_PAUSE: Duration = Duration::from_millis(3);

/// The process `fuzz_dist guard`: serves its standard input until that ends, then kills all
/// descendants. Exit code 0 if none is left, 255 otherwise.
///
/// `fuzz_dist guard exec …` is what the guard starts programs with: see `launch`.
pub fn main() -> ExitCode {
    if let Some(code) = launch::become_program() {
        return code;
    }
    match run() {
        Ok(remaining) if remaining.is_empty() => ExitCode::SUCCESS,
        Ok(remaining) => {
            for process in remaining {
                say(&format!("could not kill process {} ({})", process.pid, process.command));
            }
            ExitCode::from(255)
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(255)
        }
    }
}

/// The core may be gone and standard error closed with it; there is nobody else to tell.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "fuzz_dist guard: {text}");
}

fn run() -> io::Result<Vec<ProcessInfo>> {
    close_inherited_descriptors()?;
    // Refused for the leader of a process group, who is out of the terminal's foreground already.
    let _ = nix::unistd::setsid();
    ignore_signals()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let run_id = std::env::var(RUN_VARIABLE).map_err(|_| {
        io::Error::other(format!("{RUN_VARIABLE} is not set; the core starts this"))
    })?;

    let owner = Owner::of_this_guard()
        .ok_or_else(|| io::Error::other("the core that started this has ended"))?;
    let children = Arc::new(Children {
        run_id,
        group: Group::enter(&owner.text()),
        owner,
        state: Mutex::default(),
        started: Condvar::new(),
        at_end: Mutex::default(),
    });
    let reaping = Arc::clone(&children);
    std::thread::Builder::new().name("reaper".into()).spawn(move || reaping.reap_forever())?;
    send(&Line::Report(Report::Ready));

    for line in io::stdin().lock().lines() {
        // An unreadable pipe is as good as one that ended.
        let Ok(line) = line else { break };
        let request: Request = match serde_json::from_str(&line) {
            Ok(request) => request,
            Err(error) => {
                say(&format!("not a request ({error}): {line}"));
                break;
            }
        };
        let last = request.action == Action::Shutdown;
        let (outcome, remaining) = children.perform(request.action);
        send(&Line::Reply(Reply { id: request.id, outcome }));
        if last {
            return Ok(remaining);
        }
    }
    Ok(children.sweep().1)
}

/// Descriptors of whoever started the core, such as a life line, are none of the nodes' business:
/// a copy of them in a node would keep them open.
fn close_inherited_descriptors() -> io::Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd")?;
    let open: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        // The descriptor of the listing itself is among them and closed already.
        let _: Result<(), Errno> = nix::unistd::close(descriptor);
    }
    Ok(())
}

/// By handlers, not by `SIG_IGN` or a mask: those two would be inherited by every node.
fn ignore_signals() -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

/// A core that is gone hears nothing; the end of standard input tells us the same.
fn send(line: &Line) {
    if let Ok(mut text) = serde_json::to_string(line) {
        text.push('\n');
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

#[derive(Debug)]
struct Child {
    identity: Identity,
    exit: Option<Exit>,
}

#[derive(Debug)]
struct Children {
    run_id: String,
    owner: Owner,
    group: Option<Group>,
    state: Mutex<BTreeMap<String, Child>>,
    started: Condvar,
    /// Commands that undo what outlives processes.
    at_end: Mutex<Vec<Vec<String>>>,
}

impl Children {
    fn state(&self) -> MutexGuard<'_, BTreeMap<String, Child>> {
        lock(&self.state)
    }

    fn perform(&self, action: Action) -> (Outcome, Vec<ProcessInfo>) {
        let refused = |reason| Outcome::Refused { reason };
        let outcome = match action {
            Action::Spawn(request) => self.spawn(&request).unwrap_or_else(refused),
            Action::Signal { key, signal } => self.signal(&key, signal).unwrap_or_else(refused),
            Action::Status => self.status(),
            Action::AtEnd { commands } => {
                lock(&self.at_end).extend(commands);
                Outcome::Noted
            }
            Action::Shutdown => {
                let (killed, remaining) = self.sweep();
                return (Outcome::Swept { killed, remaining: remaining.clone() }, remaining);
            }
        };
        (outcome, Vec::new())
    }

    fn spawn(&self, request: &SpawnRequest) -> Result<Outcome, String> {
        let command = self.command(request)?;
        let mut state = self.state();
        if let Some(child) = state.get(&request.key).filter(|child| child.exit.is_none()) {
            return Err(format!("{} already runs as process {}", request.key, child.identity.pid));
        }
        let child = launch::spawn(command).map_err(|error| spawn_error(request, &error))?;
        let monotonic_ns = monotonic_ns();
        let pid = child.id() as i32;
        // Not reaped before the lock is released, so it is there even if it has ended.
        let identity = Identity::of(pid).ok_or_else(|| format!("process {pid} is not in /proc"))?;
        state.insert(request.key.clone(), Child { identity, exit: None });
        self.started.notify_all();
        Ok(Outcome::Spawned { pid, start_time: identity.start_time, monotonic_ns })
    }

    fn command(&self, request: &SpawnRequest) -> Result<Command, String> {
        let Some((program, arguments)) = request.argv.split_first() else {
            return Err(format!("the command of {} is empty", request.key));
        };
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&request.output);
        let output = output.map_err(|e| format!("{}: {e}", request.output.display()))?;
        let errors =
            output.try_clone().map_err(|e| format!("{}: {e}", request.output.display()))?;
        let mut command = launch::command(program, arguments, request.outlives_guard);
        command.process_group(0).stdout(output).stderr(errors);
        for variable in &request.env_remove {
            command.env_remove(variable);
        }
        command.envs(&request.env).env(RUN_VARIABLE, &self.run_id);
        command.env(OWNER_VARIABLE, self.owner.text());
        if let Some(directory) = &request.cwd {
            // Its absence would look like that of the program.
            if !directory.is_dir() {
                return Err(format!("{} is not a directory", directory.display()));
            }
            command.current_dir(directory);
        }
        Ok(command)
    }

    fn signal(&self, key: &str, signal: Signal) -> Result<Outcome, String> {
        let state = self.state();
        let child = state.get(key).ok_or_else(|| format!("no process was started as {key}"))?;
        if let Some(exit) = child.exit {
            return Err(format!("{key} (process {}) has ended: {exit}", child.identity.pid));
        }
        let pid = Pid::from_raw(child.identity.pid);
        let signal_number = match signal {
            Signal::Stop => posix::Signal::SIGSTOP,
            Signal::Cont => posix::Signal::SIGCONT,
            Signal::Term => posix::Signal::SIGTERM,
            Signal::Int => posix::Signal::SIGINT,
            Signal::Kill => posix::Signal::SIGKILL,
        };
        // The process has a group of its own unless it moved to another; then it alone is meant.
        let sent = match posix::killpg(pid, signal_number) {
            Err(Errno::ESRCH) => posix::kill(pid, signal_number),
            sent => sent,
        };
        let monotonic_ns = monotonic_ns();
        sent.map_err(|error| format!("{signal} to {key} (process {pid}): {}", error.desc()))?;
        Ok(Outcome::Signalled { monotonic_ns })
    }

    fn status(&self) -> Outcome {
        let state = self.state();
        let processes = state
            .iter()
            .map(|(key, child)| KeyStatus {
                key: key.clone(),
                pid: child.identity.pid,
                exit: child.exit,
            })
            .collect();
        Outcome::Status { processes }
    }

    /// Kills all descendants until none is left, then undoes what outlives them: those that were alive, and
    /// those that still are.
    fn sweep(&self) -> (Vec<ProcessInfo>, Vec<ProcessInfo>) {
        let swept = self.kill_all();
        undo(&std::mem::take(&mut *lock(&self.at_end)));
        if let Some(group) = &self.group {
            group.leave();
            group.remove();
        }
        swept
    }

    fn kill_all(&self) -> (Vec<ProcessInfo>, Vec<ProcessInfo>) {
        let me = std::process::id() as i32;
        let deadline = Instant::now() + SWEEP_TIMEOUT;
        let mut killed: BTreeMap<i32, ProcessInfo> = BTreeMap::new();
        loop {
            // Without /proc there is no way to go on; the group leaders at least are known.
            let left: Vec<Identity> = match ProcessTable::read() {
                Ok(table) => {
                    let mut left = table.descendants(&[me]);
                    // Whatever it did to leave its parents, it is in the group.
                    let group = self.group.iter().flat_map(Group::members);
                    left.extend(group.filter(|process| process.pid != me));
                    left.sort_unstable_by_key(|process| process.pid);
                    left.dedup();
                    left.retain(|process| !table.is_zombie(process.pid));
                    left
                }
                Err(_) => self.state().values().map(|child| child.identity).collect(),
            };
            if left.is_empty() {
                return (killed.into_values().collect(), Vec::new());
            }
            for process in &left {
                killed.entry(process.pid).or_insert_with(|| process.info());
                process.kill();
            }
            if Instant::now() >= deadline {
                let remaining = left.iter().filter(|process| process.is_alive());
                return (killed.into_values().collect(), remaining.map(Identity::info).collect());
            }
            std::thread::sleep(SWEEP_PAUSE);
        }
    }

    fn reap_forever(&self) {
        loop {
            match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Ok(status) => {
                    if let Some(pid) = status.pid() {
                        self.reap(pid);
                    }
                }
                Err(Errno::ECHILD) => self.wait_for_child(),
                Err(_) => {}
            }
        }
    }

    /// Without a child there is no descendant either, so nothing can arrive but by a start.
    fn wait_for_child(&self) {
        let mut state = self.state();
        while !state.values().any(|child| child.exit.is_none()) {
            state = match self.started.wait(state) {
                Ok(state) => state,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
    }

    fn reap(&self, pid: Pid) {
        let mut state = self.state();
        let exit = match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, status)) => Exit { status: Some(status), signal: None },
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                Exit { status: None, signal: Some(signal as i32) }
            }
            _ => return,
        };
        let monotonic_ns = monotonic_ns();
        let pid = pid.as_raw();
        let ended = |child: &Child| child.identity.pid == pid && child.exit.is_none();
        // Others are processes that a node left behind.
        if let Some((key, child)) = state.iter_mut().find(|(_, child)| ended(child)) {
            child.exit = Some(exit);
            send(&Line::Report(Report::Exited { key: key.clone(), pid, exit, monotonic_ns }));
        }
    }
}

/// Runs commands one after the other. What they undo may not be there, so nothing is made of their failure.
pub(super) fn undo(commands: &[Vec<String>]) {
    for (program, arguments) in commands.iter().filter_map(|argv| argv.split_first()) {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The reaper may have been told of its end before.
        let _ = command.status();
    }
}

fn spawn_error(request: &SpawnRequest, error: &io::Error) -> String {
    let program = request.argv.first().map(String::as_str).unwrap_or_default();
    match error.kind() {
        io::ErrorKind::NotFound if Path::new(program).components().count() > 1 => {
            format!("{program}: no such program (or the interpreter that its first line names)")
        }
        io::ErrorKind::NotFound => format!("{program}: command not found in PATH"),
        io::ErrorKind::PermissionDenied => format!("{program}: not executable (permission denied)"),
        _ => format!("{program}: {error}"),
    }
}
