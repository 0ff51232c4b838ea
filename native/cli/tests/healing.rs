//! Whatever ends a run, nothing of it is left: no process (paused or not), no listening socket, no file outside of
//! the store.
//!
//! Every test starts a real run (two BEAMs, guard, plane), waits until a node is paused, every link is held and
//! port programs with orphans are alive, ends it in its way, and measures how long it takes until all of it
//! is gone. These need the compiled client library (`mix compile` in `elixir_client`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::Path;
use std::time::Instant;

use common::live::{CLEAN_MAX, Cast, Live, PATIENCE, Play, Stage, code};
use nix::sys::signal::Signal;

/// Answers at once. Its setup leaves programs behind that try to get away: an orphan in a session of its own,
/// one that knows nothing of the run, and one that does not mind that its port was closed.
const SOURCE: &str = r#"
defmodule Leaving do
  @behaviour FuzzDist.Client
  @script "(setsid sleep 86311 &) ; env -i sleep 86312 & exec sleep 86313"

  @impl true
  def setup(_node, context) do
    Port.open({:spawn_executable, "/bin/sh"}, args: ["-c", @script])
    if context.test == "stuck", do: Process.sleep(:infinity), else: :ok
  end

  @impl true
  def open(_node, _context), do: {:ok, nil}

  @impl true
  def invoke({_f, value}, _state, _context), do: {:ok, value}

  @impl true
  def close(_state, _context), do: :ok
end
"#;

/// Programs left behind by the setup of one node.
const PROGRAMS: usize = 3;

const SPEC: &str = r#"
concurrency = 4
time_limit_s = TIME_LIMIT
rate = 100.0
op_timeout_ms = 2000
warm_up_s = 0.0
recovery_s = 5.0
checkers = [{ name = "stats" }, { name = "log-file-pattern", options = { pattern = "never written" } }]

[workload]
generator = { f = "write", value = { unique = 0 } }
"#;

/// A pause and a hold that outlast any run of these tests.
const SCHEDULE: &str = r#"{
  "version": 1, "seed": 7, "nodes": ["n1", "n2"],
  "faults": [
    {"id": 1, "kind": "hold", "target": "all", "start_ns": 500000000, "duration_ns": DURATION},
    {"id": 2, "kind": "pause", "target": {"named": ["n1"]}, "start_ns": 600000000, "duration_ns": DURATION}
  ]
}"#;

fn start(name: &str, time_limit_s: &str, fault_ns: &str) -> Live {
    let (spec, schedule) =
        (SPEC.replace("TIME_LIMIT", time_limit_s), SCHEDULE.replace("DURATION", fault_ns));
    let play =
        Play { name, module: "Leaving", source: SOURCE, spec: &spec, schedule: Some(&schedule) };
    Stage::set(&play).run()
}

/// A run in which everything that could be left behind is there.
fn in_full_swing() -> (Live, Cast) {
    let mut live = start("swing", "600.0", "600000000000");
    live.await_log(&["fault 1: hold", "fault 2: pause"]);
    live.await_programs("sleep", 2 * PROGRAMS);
    live.await_paused();
    let cast = live.cast();
    (live, cast)
}

/// Ends a run in some way; what its core said, and how it ended.
fn leave(
    way: &str,
    act: impl FnOnce(&mut Live, &Cast),
) -> (Live, Result<i32, Option<i32>>, String) {
    let (mut live, cast) = in_full_swing();
    let began = Instant::now();
    act(&mut live, &cast);
    let clean = live.until_clean(&cast, began);
    let (status, said) = live.end();
    println!("{way}: nothing left after {:.2} s", clean.as_secs_f64());
    live.assert_nothing_left(&cast);
    assert!(clean <= CLEAN_MAX, "{way}: {clean:?}\n{said}");
    (live, code(status), said)
}

fn assert_interrupted(live: &Live, code: Result<i32, Option<i32>>, said: &str, why: &str) {
    assert_eq!(code, Ok(2), "{said}");
    for part in ["interrupted", why, "verdict  unknown", "why      ", "report   ", "replay   "] {
        assert!(said.contains(part), "{part:?} is not said:\n{said}");
    }
    assert!(live.run_dir().join("report.html").exists());
    live.assert_analysable();
}

/// A part of ours died: no verdict by itself, but what was recorded has one.
fn assert_broken(live: &Live, code: Result<i32, Option<i32>>, said: &str, who: &str) {
    assert_eq!(code, Ok(255), "{said}");
    let analyze = format!("fuzz_dist analyze {}", live.run_dir_shown());
    let error = said.rfind("error: ").map(|at| &said[at..]).unwrap_or_default();
    for part in [who, &analyze] {
        assert!(error.contains(part), "{part:?} is not said:\n{said}");
    }
    live.assert_analysable();
}

#[test]
fn success() {
    let mut live = start("short", "2.0", "1000000000");
    live.await_log(&["fault 1: hold", "fault 2: pause"]);
    live.await_programs("sleep", 2 * PROGRAMS);
    let cast = live.cast();
    let (status, said) = live.end();
    assert_eq!(code(status), Ok(0), "{said}");
    live.assert_nothing_left(&cast);
}

#[test]
fn a_file_that_cannot_be_written() {
    // As late as anything can fail. It costs no verdict.
    let (live, code, said) = leave("failed analysis", |live, _| {
        fs::create_dir(live.run_dir().join("history.edn")).unwrap();
        live.kill(live.core_pid(), Signal::SIGINT);
    });
    assert_interrupted(&live, code, &said, "SIGINT");
    assert!(said.contains("warning: cannot write") && said.contains("history.edn"), "{said}");
    fs::remove_dir(live.run_dir().join("history.edn")).unwrap();
    live.assert_analysable();
}

#[test]
fn ctrl_c() {
    let act = |live: &mut Live, _: &Cast| live.kill(live.core_pid(), Signal::SIGINT);
    let (live, code, said) = leave("SIGINT", act);
    assert_interrupted(&live, code, &said, "SIGINT");
}

#[test]
fn sigterm_while_a_callback_never_returns() {
    let mut live = start("stuck", "600.0", "600000000000");
    live.await_programs("sleep", PROGRAMS);
    let cast = live.cast();
    let began = Instant::now();
    live.kill(live.core_pid(), Signal::SIGTERM);
    let clean = live.until_clean(&cast, began);
    println!(
        "SIGTERM in a setup that never returns: nothing left after {:.2} s",
        clean.as_secs_f64()
    );
    let (status, said) = live.end();
    live.assert_nothing_left(&cast);
    assert!(clean <= CLEAN_MAX, "{clean:?}\n{said}");
    assert_interrupted(&live, code(status), &said, "SIGTERM");
}

#[test]
fn sigterm() {
    let act = |live: &mut Live, _: &Cast| live.kill(live.core_pid(), Signal::SIGTERM);
    let (live, code, said) = leave("SIGTERM", act);
    assert_interrupted(&live, code, &said, "SIGTERM");
}

#[test]
fn the_end_of_the_life_line() {
    let (live, code, said) = leave("end of the life line", |live, _| live.cut_life_line());
    assert_interrupted(&live, code, &said, "the process that started the run is gone");
}

/// An analysis that takes longer than anybody waits: a checker reads a log of a terabyte (a hole).
fn let_analysis_hang(live: &Live) {
    let log = fs::File::create(endless_log(live)).unwrap();
    log.set_len(1 << 40).unwrap();
}

fn endless_log(live: &Live) -> std::path::PathBuf {
    live.run_dir().join("nodes/n1/log/endless.log")
}

#[test]
fn the_end_of_the_life_line_and_a_long_analysis() {
    let (live, code, said) = leave("end of the life line, long analysis", |live, _| {
        let_analysis_hang(live);
        live.cut_life_line();
    });
    assert_eq!(code, Ok(2), "{said}");
    assert!(said.contains("interrupted: the process that started the run is gone"), "{said}");
    fs::remove_file(endless_log(&live)).unwrap();
    live.assert_analysable();
}

#[test]
fn ctrl_c_twice() {
    let (live, code, said) = leave("SIGINT, and again while it analyses", |live, _| {
        let_analysis_hang(live);
        live.kill(live.core_pid(), Signal::SIGINT);
        live.await_log(&["analysing"]);
        live.kill(live.core_pid(), Signal::SIGINT);
    });
    assert_eq!(code, Ok(130), "{said}");
    fs::remove_file(endless_log(&live)).unwrap();
    live.assert_analysable();
}

#[test]
fn kill_9_of_the_core() {
    let act = |live: &mut Live, _: &Cast| live.kill(live.core_pid(), Signal::SIGKILL);
    let (live, code, _) = leave("kill -9 of the core", act);
    assert_eq!(code, Err(Some(Signal::SIGKILL as i32)));
    live.assert_analysable();
}

#[test]
fn kill_9_of_the_plane() {
    let act = |live: &mut Live, cast: &Cast| live.kill(cast.plane.pid, Signal::SIGKILL);
    let (live, code, said) = leave("kill -9 of the plane", act);
    assert_broken(&live, code, &said, "plane");
}

#[test]
fn kill_9_of_the_guard() {
    let act = |live: &mut Live, cast: &Cast| live.kill(cast.guard.pid, Signal::SIGKILL);
    let (live, code, said) = leave("kill -9 of the guard", act);
    assert_broken(&live, code, &said, "guard");
}

/// As the OOM killer and cancelled jobs of CI do it: the kernel ends what the guard had started, and the
/// plane what had detached itself from that.
#[test]
fn kill_9_of_core_and_guard_in_one_instant() {
    let (live, code, _) = leave("kill -9 of core and guard", |live, cast| {
        let hidden = programs_without_environment(cast);
        assert!(!hidden.is_empty());
        live.kill(live.core_pid(), Signal::SIGKILL);
        live.kill(cast.guard.pid, Signal::SIGKILL);
        if !Path::new(CGROUPS).exists() {
            // Without control groups nobody finds these: see the README.
            hidden.into_iter().for_each(|pid| live.kill(pid, Signal::SIGKILL));
        }
    });
    assert_eq!(code, Err(Some(Signal::SIGKILL as i32)));
    live.assert_analysable();
}

/// There if cgroups v2 are mounted, in one of the two usual places.
const CGROUPS: &str = "/sys/fs/cgroup/unified/cgroup.procs";

fn programs_without_environment(cast: &Cast) -> Vec<i32> {
    let is_empty = |pid: &i32| fs::read(format!("/proc/{pid}/environ")).is_ok_and(|e| e.is_empty());
    cast.pids().filter(is_empty).collect()
}

/// Stock nodes, whose VMs hold no connection to anybody while they boot.
#[test]
fn kill_9_of_core_and_guard_while_nodes_boot() {
    for after_ms in [0, 100, 300, 700, 1500] {
        let stage = Stage::bare("boot");
        let spec = "name = \"boot\"\nnodes = 3\nplacement = \"client\"\ntime_limit_s = 60\n\
                    [cluster]\nready_timeout_ms = 60000\n[client]\nmodule = \"lists\"\n\
                    [workload]\nname = \"set\"\n[nemesis]\npackages = \"none\"\n";
        fs::write(stage.path("spec.toml"), spec).unwrap();
        let live = stage.run();
        common::live::wait_until("the guard", PATIENCE, || live.child_playing("guard").is_some());
        std::thread::sleep(std::time::Duration::from_millis(after_ms));
        let Some(guard) = live.child_playing("guard") else {
            panic!("the run has ended before anything was killed: {}", live.said());
        };
        let all = live.descendants();
        let began = Instant::now();
        live.kill(live.core_pid(), Signal::SIGKILL);
        live.kill(guard.pid, Signal::SIGKILL);
        common::live::wait_until("nothing is left", CLEAN_MAX, || {
            all.iter().all(|process| !process.is_alive()) && live.carrying().is_empty()
        });
        println!("{after_ms} ms after the guard: nothing left after {:?}", began.elapsed());
    }
}
