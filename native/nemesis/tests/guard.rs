//! The guard against real deaths: of the core, of the guard, of the nodes, and an orderly end.
//!
//! Whether anything is left is read from `/proc`: every process of a run carries its id in the
//! environment. Each test first makes sure that the processes are there to be found.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use fuzz_dist_nemesis::guard::{
    Exit, Guard, GuardError, GuardEvent, ProcessState, ProcessTable, RUN_VARIABLE, Signal,
    SpawnRequest, state,
};
use nix::sys::signal::{self, Signal as Posix};
use nix::unistd::Pid;
use tempfile::TempDir;

/// For conditions that come about at once unless the machine is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);

/// The guard, both plain nodes, the shells and sleeps of the family, and the shell of the hidden one.
const PROCESSES_OF_CORE: usize = 8;

fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fuzz_dist_guard_test"))
}

fn new_run_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("guard-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn survivors(run_id: &str) -> Vec<i32> {
    let found = ProcessTable::read().unwrap().with_environment(RUN_VARIABLE, run_id);
    found.into_iter().map(|process| process.pid).collect()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

/// Promised within two seconds; a busy machine gets more, and the figure is printed.
fn assert_nothing_left(run_id: &str, after: &str) {
    let took = wait_until(&format!("nothing left after {after}"), || survivors(run_id).is_empty());
    println!("after {after}: nothing left within {} ms", took.as_millis());
}

fn request(directory: &TempDir, key: &str, script: &str) -> SpawnRequest {
    SpawnRequest {
        key: key.into(),
        argv: ["sh", "-c", script].map(String::from).to_vec(),
        output: directory.path().join(format!("{key}.log")),
        ..SpawnRequest::default()
    }
}

fn next_exit(events: &Receiver<GuardEvent>) -> (String, Exit) {
    match events.recv_timeout(PATIENCE).unwrap() {
        GuardEvent::Exited { key, exit, .. } => (key, exit),
        lost @ GuardEvent::Lost(_) => panic!("{lost:?}"),
    }
}

/// A core in a process of its own, its nodes started; with it, the ids of its guard and nodes
/// (`plain`, `stopped`, `family`, `hidden`).
fn start_core(run_id: &str, directory: &TempDir) -> (Child, Vec<i32>) {
    // Descriptor 9 stands for the life line of whoever started the core.
    let script = r#"exec 9</dev/null; exec "$0" core "$1" "$2""#;
    let mut core = Command::new("sh")
        .args(["-c", script])
        .arg(exe())
        .arg(run_id)
        .arg(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(core.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pids: Vec<i32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 5, "{line:?}");
    wait_until("the family is complete", || survivors(run_id).len() >= PROCESSES_OF_CORE);
    wait_until("one is stopped", || state(pids[2]) == ProcessState::Stopped);
    (core, pids)
}

#[test]
fn killing_the_core_leaves_nothing() {
    let (run_id, directory) = (new_run_id(), TempDir::new().unwrap());
    let (mut core, pids) = start_core(&run_id, &directory);
    for pid in &pids {
        let inherited = Path::new(&format!("/proc/{pid}/fd/9")).exists();
        assert!(!inherited, "process {pid} holds a descriptor of the core's parent");
    }
    core.kill().unwrap();
    core.wait().unwrap();
    assert_nothing_left(&run_id, "kill -9 of the core");
}

#[test]
fn the_end_of_the_core_leaves_nothing() {
    let (run_id, directory) = (new_run_id(), TempDir::new().unwrap());
    let (mut core, _) = start_core(&run_id, &directory);
    drop(core.stdin.take());
    assert!(core.wait().unwrap().success());
    assert_eq!(survivors(&run_id), Vec::<i32>::new(), "the end is answered when all are gone");
}

#[test]
fn killing_the_guard_leaves_nothing() {
    let (run_id, directory) = (new_run_id(), TempDir::new().unwrap());
    let (mut core, pids) = start_core(&run_id, &directory);
    signal::kill(Pid::from_raw(pids[0]), Posix::SIGKILL).unwrap();
    assert_nothing_left(&run_id, "kill -9 of the guard");
    drop(core.stdin.take());
    assert!(!core.wait().unwrap().success(), "the core learns that its guard is lost");
}

#[test]
fn a_lost_guard_is_reported_and_refuses() {
    let (run_id, directory) = (new_run_id(), TempDir::new().unwrap());
    let guard = Guard::start(exe(), &run_id).unwrap();
    let events = guard.events();
    // It clears its environment: only its process id tells.
    let node = guard.spawn(request(&directory, "n1", "exec env -i sleep 600")).unwrap();
    wait_until("the environment is cleared", || !survivors(&run_id).contains(&node.pid));
    signal::kill(Pid::from_raw(guard.pid()), Posix::SIGKILL).unwrap();
    match events.recv_timeout(PATIENCE).unwrap() {
        GuardEvent::Lost(left) => {
            // The kernel may have been quicker than the handle.
            assert!(left.remaining.is_empty(), "{left:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(state(node.pid), ProcessState::Zombie | ProcessState::Gone));
    wait_until("requests are refused", || {
        matches!(guard.signal("n1", Signal::Stop), Err(GuardError::Lost))
    });
    assert!(matches!(guard.events().recv_timeout(PATIENCE), Ok(GuardEvent::Lost(_))));
}

/// As the OOM killer, or a cancelled job of CI does it.
#[test]
fn killing_core_and_guard_in_one_instant_leaves_nothing() {
    for moment_ms in [0, 5, 50] {
        let (run_id, directory) = (new_run_id(), TempDir::new().unwrap());
        let (mut core, pids) = start_core(&run_id, &directory);
        let hidden: i32 = {
            let file = directory.path().join("hidden.pid");
            wait_until("the hidden one runs", || {
                std::fs::read_to_string(&file).is_ok_and(|t| t.ends_with('\n'))
            });
            std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
        };
        std::thread::sleep(Duration::from_millis(moment_ms));
        for pid in [core.id() as i32, pids[0]] {
            signal::kill(Pid::from_raw(pid), Posix::SIGKILL).unwrap();
        }
        core.wait().unwrap();
        // What the guard started dies with it, stopped or not; nobody is there to do anything.
        wait_until("the guard's own children are gone", || {
            pids.iter().all(|pid| matches!(state(*pid), ProcessState::Zombie | ProcessState::Gone))
        });
        // What detached itself is ended by the plane of a run, or by the next run.
        fuzz_dist_nemesis::leftovers::remove();
        assert_nothing_left(&run_id, "kill -9 of core and guard, and a clean-up");
        if Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
            wait_until("also what cleared its environment", || state(hidden) == ProcessState::Gone);
        } else {
            let _ = signal::kill(Pid::from_raw(hidden), Posix::SIGKILL);
        }
    }
}

#[test]
fn a_clean_up_leaves_live_runs_alone() {
    let (run_id, directory) = (new_run_id(), TempDir::new().unwrap());
    let (mut core, pids) = start_core(&run_id, &directory);
    let before = survivors(&run_id).len();
    fuzz_dist_nemesis::leftovers::remove();
    assert_eq!(survivors(&run_id).len(), before);
    assert!(pids.iter().all(|pid| state(*pid) != ProcessState::Gone));
    drop(core.stdin.take());
    core.wait().unwrap();
}

#[test]
fn ending_a_guard_that_has_just_been_killed_leaves_nothing() {
    let (run_id, directory) = (new_run_id(), TempDir::new().unwrap());
    let guard = Guard::start(exe(), &run_id).unwrap();
    guard.spawn(request(&directory, "n1", "exec sleep 600")).unwrap();
    signal::kill(Pid::from_raw(guard.pid()), Posix::SIGKILL).unwrap();
    // Before anybody has noticed, or just after.
    assert!(matches!(guard.end(), Err(GuardError::Lost)));
    assert_eq!(survivors(&run_id), Vec::<i32>::new());
}

#[test]
fn signals_that_end_programs_do_not_end_the_guard_but_do_end_nodes() {
    let (run_id, directory) = (new_run_id(), TempDir::new().unwrap());
    let guard = Guard::start(exe(), &run_id).unwrap();
    for signal in [Posix::SIGINT, Posix::SIGTERM, Posix::SIGHUP, Posix::SIGQUIT] {
        signal::kill(Pid::from_raw(guard.pid()), signal).unwrap();
    }
    let events = guard.events();
    for (key, signal, number) in [("a", Signal::Term, 15), ("b", Signal::Int, 2)] {
        guard.spawn(request(&directory, key, "exec sleep 600")).unwrap();
        guard.signal(key, signal).unwrap();
        let exit = Exit { status: None, signal: Some(number) };
        assert_eq!(next_exit(&events), (key.to_owned(), exit));
    }
    let left = guard.end().unwrap();
    assert!(left.killed.is_empty() && left.remaining.is_empty(), "{left:?}");
}

#[test]
fn pause_kill_and_restart_are_observed() {
    let (run_id, directory) = (new_run_id(), TempDir::new().unwrap());
    let guard = Guard::start(exe(), &run_id).unwrap();
    let events = guard.events();
    let first = guard.spawn(request(&directory, "n1", "exec sleep 600")).unwrap();
    assert!(matches!(
        guard.spawn(request(&directory, "n1", "true")),
        Err(GuardError::Refused(reason)) if reason.contains("n1 already runs")
    ));

    let stopped = guard.signal("n1", Signal::Stop).unwrap();
    assert!(stopped.monotonic_ns >= first.monotonic_ns);
    wait_until("n1 stops", || guard.state(first.pid) == ProcessState::Stopped);
    guard.signal("n1", Signal::Cont).unwrap();
    wait_until("n1 runs", || guard.state(first.pid) == ProcessState::Running);

    guard.signal("n1", Signal::Stop).unwrap();
    guard.signal("n1", Signal::Kill).unwrap();
    let killed = Exit { status: None, signal: Some(9) };
    assert_eq!(next_exit(&events), ("n1".to_owned(), killed));
    assert_eq!(guard.state(first.pid), ProcessState::Gone);
    let status = guard.status().unwrap();
    assert_eq!((status[0].pid, status[0].exit), (first.pid, Some(killed)));
    assert!(matches!(
        guard.signal("n1", Signal::Stop),
        Err(GuardError::Refused(reason)) if reason.contains("has ended: killed by SIGKILL")
    ));

    let second = guard.spawn(request(&directory, "n1", "exec sleep 600")).unwrap();
    assert_ne!(first.pid, second.pid);
    let left = guard.end().unwrap();
    assert_eq!(left.killed.iter().map(|p| p.pid).collect::<Vec<_>>(), vec![second.pid]);
    assert_nothing_left(&run_id, "an orderly end");
}

#[test]
fn a_process_gets_its_environment_directory_and_output() {
    let (run_id, directory) = (new_run_id(), TempDir::new().unwrap());
    let guard = Guard::start(exe(), &run_id).unwrap();
    let events = guard.events();
    let mut wanted = request(
        &directory,
        "n1",
        "pwd; echo \"$WORD/$HOME/$FUZZ_DIST_RUN\"; echo problem >&2; cat; exit 3",
    );
    wanted.env = BTreeMap::from([("WORD".into(), "two words".into())]);
    wanted.env_remove = vec!["HOME".into()];
    wanted.cwd = Some(directory.path().to_owned());
    std::fs::write(&wanted.output, "before\n").unwrap();
    let output = wanted.output.clone();
    guard.spawn(wanted).unwrap();
    assert_eq!(next_exit(&events), ("n1".to_owned(), Exit { status: Some(3), signal: None }));
    let here = directory.path().canonicalize().unwrap();
    assert_eq!(
        std::fs::read_to_string(output).unwrap(),
        format!("before\n{}\ntwo words//{run_id}\nproblem\n", here.display())
    );
}

#[test]
fn what_cannot_be_started_is_named() {
    let (run_id, directory) = (new_run_id(), TempDir::new().unwrap());
    let guard = Guard::start(exe(), &run_id).unwrap();
    let refusal = |change: fn(&mut SpawnRequest, &Path)| {
        let mut request = request(&directory, "n1", "true");
        change(&mut request, directory.path());
        match guard.spawn(request) {
            Err(GuardError::Refused(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(refusal(|r, _| r.argv = Vec::new()).contains("command of n1 is empty"));
    assert!(
        refusal(|r, _| r.argv[0] = "no_such_program".into())
            .contains("no_such_program: command not found in PATH")
    );
    assert!(
        refusal(|r, _| r.argv[0] = "/no/such/program".into()).contains("/no/such/program: no such")
    );
    assert!(
        refusal(|r, d| {
            let plain = d.join("plain");
            std::fs::write(&plain, "no program").unwrap();
            r.argv[0] = plain.display().to_string();
        })
        .contains("plain: not executable")
    );
    assert!(refusal(|r, d| r.cwd = Some(d.join("absent"))).contains("absent is not a directory"));
    assert!(refusal(|r, d| r.output = d.join("absent/x.log")).contains("absent/x.log"));
    assert!(matches!(
        guard.signal("n7", Signal::Kill),
        Err(GuardError::Refused(reason)) if reason == "no process was started as n7"
    ));
}

#[test]
fn a_program_that_is_no_guard_is_an_error() {
    let error = Guard::start(Path::new("/no/such/fuzz_dist"), "x").unwrap_err();
    assert!(error.to_string().contains("/no/such/fuzz_dist guard"), "{error}");
    let error = Guard::start(Path::new("/bin/true"), "x").unwrap_err();
    assert!(error.to_string().contains("ended at once"), "{error}");
}
