//! Folders of runs that somebody else made: whatever their files are, commands that read a run neither
//! write outside of it, nor show files of the reader, nor hang, nor take all memory. No cluster is needed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Ended, Scene, assert_refused, finish};
use fuzz_dist_core::clock::RunClock;
use fuzz_dist_core::history_file::{Header, Writer};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::{Op, OpType, Process, Sym, Value};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

const SPEC: &str =
    "name = \"t\"\nnodes = 1\n[client]\nmodule = \"M\"\n[workload]\nname = \"set\"\n";
const SCHEDULE: &str = r#"{"version": 1, "seed": 1, "nodes": ["n1"], "faults": []}"#;
const SECRET: &str = "do-not-tell-anybody-4711";

/// What a command may take, also on a busy machine; a FIFO or a device would take for good.
const TIME_MAX: Duration = Duration::from_secs(60);

/// More memory than reading a small run takes, much less than the files claim.
const MEMORY_MAX_KIB: u32 = 4 << 20;

/// What every run leaves, and what a report consists of.
const INPUTS: [&str; 3] = ["spec.toml", "schedule.json", "history.fdh"];
const OUTPUTS: [&str; 8] = [
    "history.edn",
    "results.json",
    "report.html",
    "timeline.html",
    "junit.xml",
    "latency-raw.svg",
    "latency-quantiles.svg",
    "rate.svg",
];

struct Received {
    scene: Scene,
}

impl Received {
    /// A whole run, and a file of the reader beside it.
    fn new() -> Received {
        let scene = Scene::new();
        let received = Received { scene };
        fs::create_dir_all(received.path("nodes/n1/log")).unwrap();
        fs::write(received.path("spec.toml"), SPEC).unwrap();
        fs::write(received.path("schedule.json"), SCHEDULE).unwrap();
        fs::write(received.path("nodes/n1/output.log"), "fine\n").unwrap();
        let header = Header {
            run: "20261120T115401.123Z".into(),
            test: "t".into(),
            seed: Seed(1),
            clock: RunClock::start(),
            spec: SPEC.into(),
        };
        let mut writer = Writer::create(received.path("history.fdh"), &header).unwrap();
        let op = |time, op_type| {
            Op::new(time, Process::Client(0), op_type, Sym::new("add"), Value::Int(1))
        };
        writer.append(&mut op(1, OpType::Invoke)).unwrap();
        writer.append(&mut op(2, OpType::Ok)).unwrap();
        writer.commit().unwrap();
        received.scene.write("victim", SECRET);
        received
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scene.path("run").join(name)
    }

    fn victim(&self) -> PathBuf {
        self.scene.path("victim")
    }

    /// In place of a file of the run; false if this user cannot make one.
    fn replace(&self, name: &str, kind: &str) -> bool {
        let path = self.path(name);
        let _ = fs::remove_file(&path);
        match kind {
            "link" => symlink(self.victim(), &path).unwrap(),
            "dangling" => symlink(self.scene.path("made_by_the_sender"), &path).unwrap(),
            "fifo" => mkfifo(&path, Mode::S_IRWXU).unwrap(),
            "folder" => fs::create_dir(&path).unwrap(),
            "huge" => fs::File::create(&path).unwrap().set_len(1 << 40).unwrap(),
            _ => {
                // As /dev/zero.
                return mknod(&path, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5)).is_ok();
            }
        }
        true
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let limited = format!("ulimit -v {MEMORY_MAX_KIB}; exec \"$0\" \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_fuzz_dist")]).args(arguments);
        let began = Instant::now();
        let ended = finish(command.current_dir(self.scene.path("")), b"");
        assert!(began.elapsed() < TIME_MAX, "{arguments:?}: {:?}", began.elapsed());
        let told = ended.code.is_some_and(|code| matches!(code, 0..=2 | 254));
        assert!(told && !ended.stderr.contains("panicked"), "{arguments:?}: {ended:?}");
        ended
    }

    /// The file of the reader is as it was, none was made, and nothing of it was shown or copied.
    fn assert_harmless(&self, what: &str, ended: &Ended) {
        assert_eq!(fs::read_to_string(self.victim()).unwrap(), SECRET, "{what}");
        assert!(!self.scene.path("made_by_the_sender").exists(), "{what}");
        let shown = ended.stdout.contains(SECRET) || ended.stderr.contains(SECRET);
        assert!(!shown, "{what}: {ended:?}");
        for name in OUTPUTS {
            let Ok(found) = fs::symlink_metadata(self.path(name)) else { continue };
            if found.is_file() && found.len() < 1 << 30 {
                let text = fs::read_to_string(self.path(name)).unwrap_or_default();
                assert!(!text.contains(SECRET), "{what}: {name}");
            }
        }
    }
}

#[test]
fn a_whole_run_is_analysed() {
    let received = Received::new();
    let ended = received.run(&["analyze", "run"]);
    assert!(ended.stderr.contains("verdict  "), "{ended:?}");
    for name in OUTPUTS {
        assert!(received.path(name).is_file(), "{name}: {ended:?}");
    }
    assert_ne!(received.run(&["report", "run"]).code, Some(254));
    assert_eq!(received.run(&EXPORT).code, Some(0));
    assert_ne!(received.run(&["check", "--checker", "stats", "run"]).code, Some(254));
}

#[test]
fn nothing_is_written_through_what_the_sender_prepared() {
    for name in OUTPUTS.into_iter().chain(["report.html.part", "history.edn.part"]) {
        for kind in ["link", "dangling", "fifo", "folder", "huge", "device"] {
            let received = Received::new();
            if !received.replace(name, kind) {
                continue;
            }
            let what = format!("analyze with {name} as {kind}");
            let ended = received.run(&["analyze", "run"]);
            received.assert_harmless(&what, &ended);
            if matches!(kind, "link" | "dangling") && OUTPUTS.contains(&name) {
                assert!(fs::symlink_metadata(received.path(name)).unwrap().is_file(), "{what}");
            }
        }
    }
    let received = Received::new();
    received.run(&["analyze", "run"]);
    for kind in ["link", "fifo", "device", "folder", "huge"] {
        if received.replace("results.json", kind) {
            let ended = received.run(&["report", "run"]);
            assert_eq!(ended.code, Some(254), "{kind}: {ended:?}");
            received.assert_harmless(kind, &ended);
            let path = received.path("results.json");
            drop(fs::remove_dir(&path).or_else(|_| fs::remove_file(&path)));
        }
    }
}

/// How each command is called, and which files of a run it reads.
const COMMANDS: [(&[&str], &[&str]); 5] = [
    (&["analyze", "run"], &INPUTS),
    (&["report", "run"], &["schedule.json", "history.fdh"]),
    (&EXPORT, &["history.fdh"]),
    (&["check", "--checker", "stats", "run"], &["history.fdh"]),
    (&["replay", "run"], &["spec.toml", "schedule.json"]),
];

const EXPORT: [&str; 4] = ["export", "--format", "edn", "run"];

#[test]
fn only_plain_files_of_a_run_are_read() {
    for (command, inputs) in COMMANDS {
        for name in inputs {
            for kind in ["link", "dangling", "fifo", "folder", "device", "huge"] {
                let received = Received::new();
                if command[0] == "report" {
                    received.run(&["analyze", "run"]);
                }
                if !received.replace(name, kind) {
                    continue;
                }
                let what = format!("{} with {name} as {kind}", command[0]);
                let ended = received.run(command);
                received.assert_harmless(&what, &ended);
                assert_eq!(ended.code, Some(254), "{what}: {ended:?}");
            }
        }
    }
}

#[test]
fn a_history_that_goes_on_for_ever_is_torn() {
    let received = Received::new();
    let history = fs::OpenOptions::new().write(true).open(received.path("history.fdh")).unwrap();
    history.set_len(1 << 40).unwrap();
    let ended = received.run(&["analyze", "run"]);
    assert!(ended.stderr.contains("torn"), "{ended:?}");
    received.assert_harmless("a history with a tail of zeros", &ended);
}

fn log_checker(path: &str) -> String {
    format!(
        "{SPEC}[[checkers]]\nname = \"log-file-pattern\"\noptions = {{ pattern = \".\"{path} }}\n"
    )
}

#[test]
fn logs_of_a_run_are_plain_files_below_it() {
    for kind in ["link", "dangling", "fifo", "device", "folder"] {
        for name in ["nodes/n1/output.log", "nodes/n1/log/app"] {
            let received = Received::new();
            fs::write(received.path("spec.toml"), log_checker("")).unwrap();
            if received.replace(name, kind) {
                let what = format!("{name} as {kind}");
                received.assert_harmless(&what, &received.run(&["analyze", "run"]));
            }
        }
    }
    for folder in ["nodes", "nodes/n1", "nodes/n1/log"] {
        let received = Received::new();
        fs::write(received.path("spec.toml"), log_checker("")).unwrap();
        let elsewhere = received.scene.path("elsewhere");
        fs::create_dir_all(elsewhere.join("n2/log")).unwrap();
        for log in ["a.log", "n2/a.log", "n2/log/a"] {
            fs::write(elsewhere.join(log), SECRET).unwrap();
        }
        fs::remove_dir_all(received.path(folder)).unwrap();
        symlink(&elsewhere, received.path(folder)).unwrap();
        received.assert_harmless(folder, &received.run(&["analyze", "run"]));
    }
}

#[test]
fn a_spec_that_has_logs_elsewhere_read_is_refused() {
    let received = Received::new();
    let home = received.scene.path("home");
    fs::create_dir_all(home.join("n1")).unwrap();
    fs::write(home.join("n1/private.log"), SECRET).unwrap();
    for path in [home.to_str().unwrap(), "home", "run/../home", "/"] {
        let spec = log_checker(&format!(", path = \"{path}\""));
        fs::write(received.path("spec.toml"), spec).unwrap();
        let ended = received.run(&["analyze", "run"]);
        assert_refused(
            &ended,
            &["log-file-pattern", "outside of the folder of the run", "spec.toml"],
        );
        received.assert_harmless(path, &ended);
    }
    let inside = received.path("");
    let spec = log_checker(&format!(", path = \"{}\"", inside.display()));
    fs::write(received.path("spec.toml"), spec).unwrap();
    assert_ne!(received.run(&["analyze", "run"]).code, Some(254));
    assert!(Path::new(&inside).exists());
}
