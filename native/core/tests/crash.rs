//! What a history file promises across the death of its writer, shown with processes that really die.
//!
//! The children are this test binary itself, started again with one of the tests below that only act
//! as a child when the environment says so.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fuzz_dist_core::clock::RunClock;
use fuzz_dist_core::history_file::{Header, HistoryFileError, Reader, Writer};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::{Op, OpType, Process, Sym, Value};

const CHILD: &str = "FUZZ_DIST_TEST_HISTORY_CHILD";

fn header() -> Header {
    Header {
        run: "crash".to_owned(),
        test: "crash".to_owned(),
        seed: Seed(1),
        clock: RunClock { start_monotonic_ns: 0, start_wall_ns: 0 },
        spec: String::new(),
    }
}

fn op(n: i64) -> Op {
    let value = Value::tuple(vec![Value::Int(n), Value::str(format!("value {n}"))]);
    Op::new(n * 10, Process::Client(n), OpType::Invoke, Sym::new("write"), value)
}

/// The file that this process is to write, when it is a child of `role`.
fn child_of(role: &str) -> Option<PathBuf> {
    let (found, path) =
        std::env::var(CHILD).ok()?.split_once(':').map(|(a, b)| (a.to_owned(), b.into()))?;
    (found == role).then_some(path)
}

fn child_command(test: &str, role: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{role}:{}", path.display()));
    command
}

/// Kills the child whatever becomes of the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Commits batches of changing size for ever, and says after each how many records are committed.
fn append_until_killed(path: &Path) {
    let mut writer = Writer::create(path, &header()).unwrap();
    let mut out = std::io::stdout().lock();
    let mut n = 0;
    for round in 0i64.. {
        for _ in 0..(1 + round % 97) {
            writer.append(&mut op(n)).unwrap();
            n += 1;
        }
        writer.commit().unwrap();
        if writeln!(out, "committed {n}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

#[test]
fn a_killed_writer_loses_nothing_acknowledged() {
    if let Some(path) = child_of("killed") {
        return append_until_killed(&path);
    }
    for acknowledged_min in [1, 1_000, 20_000] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.fdh");
        let mut command =
            child_command("a_killed_writer_loses_nothing_acknowledged", "killed", &path);
        let mut child = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        for line in lines {
            // What was in the pipe when the child died was acknowledged too.
            let Some(count) = line.unwrap().strip_prefix("committed ").map(str::to_owned) else {
                continue;
            };
            let before = acknowledged;
            acknowledged = count.parse::<usize>().unwrap();
            if before < acknowledged_min && acknowledged >= acknowledged_min {
                child.0.kill().unwrap();
            }
        }
        child.0.wait().unwrap();
        assert!(acknowledged >= acknowledged_min, "the child ended after {acknowledged}");

        let back = Reader::open(&path).unwrap();
        let found = back.ops.len();
        assert!(found >= acknowledged, "{found} records of {acknowledged} acknowledged");
        for (n, found) in back.ops.iter().enumerate() {
            let mut expected = op(n as i64);
            expected.index = n as u64;
            assert_eq!(*found, expected);
        }
    }
}

/// Commits until the file may not grow any more; a partial write is taken back.
fn append_until_full(path: &Path) {
    let mut writer = Writer::create(path, &header()).unwrap();
    for n in 0.. {
        writer.append(&mut op(n)).unwrap();
        match writer.commit() {
            Ok(()) => {}
            Err(HistoryFileError::Io { .. }) => {
                println!("full {n}");
                // Dropping it tries once more, and must leave the file whole as well.
                return;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_write_that_fails_halfway_leaves_the_file_whole() {
    if let Some(path) = child_of("full") {
        return append_until_full(&path);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.fdh");
    // The size limit of a file stands for a full disk; its signal is ignored so that write fails.
    let test = child_command("a_write_that_fails_halfway_leaves_the_file_whole", "full", &path);
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 20; exec \"$@\"", "sh"])
        .arg(test.get_program())
        .args(test.get_args())
        .env(CHILD, format!("full:{}", path.display()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let committed: usize = text
        .lines()
        .find_map(|line| line.split("full ").nth(1)?.trim().parse().ok())
        .unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let back = Reader::open(&path).unwrap();
    assert_eq!(back.torn, None);
    assert_eq!(back.ops.len(), committed);
    assert!(committed > 10);
}
