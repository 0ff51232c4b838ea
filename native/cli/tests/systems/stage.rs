//! A run in a folder of its own, and everything that it left, read once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex, PoisonError};

use fuzz_dist_core::{History, Op, Process, Value, interop};
use serde_json::Value as Json;

use super::common::live::client_library;
use super::common::{Ended, Scene, finish, root};

/// Clusters that run at the same time: more of them would only wait for each other's processors.
const CLUSTERS_MAX: usize = 2;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Held while a cluster runs.
struct Turn;

impl Turn {
    fn take() -> Turn {
        let mut running = RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *running >= CLUSTERS_MAX {
            running = RUNNING.1.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        *running += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.1.notify_one();
    }
}

/// A folder with compiled systems, a spec and a store.
pub struct Stage {
    pub scene: Scene,
}

impl Stage {
    /// Compiles the sources (below `test/systems`, Elixir or Erlang) into the folder `code`.
    pub fn set(sources: &[&str]) -> Stage {
        let stage = Stage { scene: Scene::new() };
        stage.compile(sources, "code");
        stage
    }

    /// Compiles more of them into another folder.
    pub fn compile(&self, sources: &[&str], folder: &str) {
        std::fs::create_dir_all(self.scene.path(folder)).unwrap();
        for source in sources {
            let is_erlang = source.ends_with(".erl");
            let mut compiler = Command::new(if is_erlang { "erlc" } else { "elixirc" });
            compiler.arg("-pa").arg(client_library()).arg("-o").arg(self.scene.path(folder));
            compiler.arg(root().join("test/systems").join(source));
            let compiled = finish(&mut compiler, b"");
            assert_eq!(compiled.code, Some(0), "{source}: {compiled:?}");
        }
    }

    /// Writes `t.toml`.
    pub fn spec(&self, spec: &str) {
        self.scene.write("t.toml", spec);
    }

    /// Any command of the binary; with a cluster, when it is this run's turn.
    pub fn fuzz_dist(&self, arguments: &[&str]) -> Ended {
        let _turn = matches!(arguments[0], "run" | "replay").then(Turn::take);
        let mut command = Command::new(env!("CARGO_BIN_EXE_fuzz_dist"));
        // What the clients were compiled with, not another build that lies around.
        command.env("FUZZ_DIST_EBIN", client_library()).current_dir(self.scene.path("."));
        finish(command.args(arguments), b"")
    }

    /// Runs `t.toml`, with a schedule if one is given.
    pub fn run(&self, schedule: Option<&str>) -> Run {
        let mut arguments = vec!["run", "t.toml"];
        if let Some(schedule) = schedule {
            self.scene.write("given.json", schedule);
            arguments.extend(["--schedule", "given.json"]);
        }
        let ended = self.fuzz_dist(&arguments);
        self.read(ended)
    }

    /// The run that has just ended.
    pub fn read(&self, ended: Ended) -> Run {
        let latest = self.scene.path("store/latest");
        assert!(latest.exists(), "no run: {ended:?}");
        let folder = latest.canonicalize().unwrap();
        let text = std::fs::read_to_string(folder.join("results.json"))
            .unwrap_or_else(|error| panic!("no results ({error}): {ended:?}"));
        let history = interop::load(folder.join("history.edn"), None).unwrap().history;
        Run { ended, folder, results: serde_json::from_str(&text).unwrap(), history }
    }
}

/// What a run left.
pub struct Run {
    pub ended: Ended,
    pub folder: PathBuf,
    pub results: Json,
    pub history: History,
}

impl Run {
    /// Exit code and verdict agree and are these; no operation but what the test says failed in a way of its own.
    pub fn assert_verdict(&self, verdict: &str) {
        let code = match verdict {
            "valid" => 0,
            "invalid" => 1,
            _ => 2,
        };
        let said = &self.ended.stderr;
        assert_eq!(self.results["verdict"], verdict, "{}\n{said}", self.results["reason"]);
        assert_eq!(self.ended.code, Some(code), "{said}");
    }

    /// The result of one checker.
    pub fn checker(&self, name: &str) -> &Json {
        let parts = self.results["result"]["parts"].as_array().unwrap();
        let found = parts.iter().find(|part| part["checker"] == name);
        found.unwrap_or_else(|| panic!("no checker {name}: {parts:?}"))
    }

    /// The faults of the results.
    pub fn faults(&self) -> &[Json] {
        self.results["summary"]["faults"].as_array().unwrap()
    }

    /// Every fault was observed, and so was its heal.
    pub fn assert_faults_observed(&self, count_min: usize) {
        assert!(self.faults().len() >= count_min, "{:?}", self.faults());
        for fault in self.faults() {
            assert_eq!(fault["status"], "observed", "{fault:#}\n{}", self.ended.stderr);
            assert!(fault["heal_observed_ns"].is_u64(), "{fault:#}\n{}", self.ended.stderr);
        }
    }

    /// Records of the nemesis or the observer with this function.
    pub fn records(&self, process: &str, f: &str) -> Vec<&Op> {
        let process = match process {
            "nemesis" => Process::nemesis(),
            _ => Process::observer(),
        };
        let ops = self.history.ops().iter();
        ops.filter(|op| op.process == process && op.f.as_str() == f).collect()
    }

    /// When the run entered this phase.
    pub fn phase_ns(&self, name: &str) -> i64 {
        let phases = self.records("observer", "phase");
        let phase = phases.iter().find(|op| text(&op.value, "name") == name);
        phase.unwrap_or_else(|| panic!("no phase {name}")).time_ns
    }

    /// `nodeup` or `nodedown` while the test was under way: nodes that are stopped at the end do not count.
    pub fn sightings(&self, f: &str) -> Vec<&Op> {
        let (from, to) = (self.phase_ns("main"), self.phase_ns("teardown"));
        let all = self.records("observer", f);
        all.into_iter().filter(|op| (from..to).contains(&op.time_ns)).collect()
    }

    /// `schedule.json` of the run.
    pub fn schedule(&self) -> Json {
        read_json(&self.folder.join("schedule.json"))
    }
}

/// A file of JSON.
pub fn read_json(path: &Path) -> Json {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The text of a field of a record's value.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_text).unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The number of a field of a record's value.
pub fn int(value: &Value, key: &str) -> i64 {
    value.get(key).and_then(Value::as_int).unwrap_or_else(|| panic!("no {key} in {value}"))
}
