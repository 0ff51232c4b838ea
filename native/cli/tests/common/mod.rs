//! Runs the binary as a person would, in a folder of its own, with a deadline.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "every test file uses its own part")]

pub mod live;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// No command of these tests takes longer, however loaded the machine is.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A program file must not be open for writing when it is started, also not in a child of another thread that has
/// not yet become its program ("text file busy"). So nothing is written while something is started.
static FILES: Mutex<()> = Mutex::new(());

fn files() -> MutexGuard<'static, ()> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A folder in which commands run.
pub struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Scene {
        Scene { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let _files = files();
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Runs `fuzz_dist` with these arguments.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with_input(arguments, b"")
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fuzz_dist"));
        command.args(arguments).current_dir(self.folder.path());
        finish(&mut command, input)
    }
}

/// Runs a command to its end, killing it (and failing) past the deadline.
pub fn finish(command: &mut Command, input: &[u8]) -> Ended {
    command.env_remove("NO_COLOR");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = {
        let _files = files();
        command.spawn().unwrap()
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A command that refuses its arguments does not read its input.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let code = wait(&mut child);
    writer.join().unwrap();
    Ended { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child) -> Option<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if started.elapsed() > DEADLINE {
            child.kill().unwrap();
            panic!("the command did not end within {DEADLINE:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asserts an exit code, and that standard error names everything in `names`.
pub fn assert_refused(ended: &Ended, names: &[&str]) {
    assert_eq!(ended.code, Some(254), "{ended:?}");
    for name in names {
        assert!(ended.stderr.contains(name), "{name:?} is not named:\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}
