//! Starts a process that dies with the guard, whatever kills the guard.
//!
//! The kernel sends SIGKILL to a child whose parent thread ends (`PR_SET_PDEATHSIG`), but only a process
//! can ask that for itself. So the guard starts its own program once more, which asks, looks whether the
//! guard still lives, and becomes the program that was wanted. The guard starts everything from its main
//! thread, which lives as long as the guard.
//!
//! Standard input of the intermediate is a pipe to the guard that closes when the program has begun, and
//! carries the error when it could not.
//!
//! Limits: the kernel forgets the wish when a program changes its user (`su`, `setuid`), and it holds for
//! the process itself, not for what it starts: [`super::cgroup`] and [`crate::leftovers`] are for these.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, parent_id};
use std::process::{Child, Command, ExitCode, Stdio};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// The command line of the intermediate, after the program: `guard exec PARENT PROGRAM ARGUMENT …`.
const WORDS: [&str; 2] = ["guard", "exec"];

/// The guard's own program, also when its file has been replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// In place of the parent's id: the program lives on without the guard.
const ALONE: &str = "alone";

/// A command that becomes this program. Environment and folder are set on it as on any other.
pub(super) fn command(program: &str, arguments: &[String], outlives_guard: bool) -> Command {
    let parent = if outlives_guard { ALONE.to_owned() } else { std::process::id().to_string() };
    let mut command = Command::new(OWN_PROGRAM);
    command.args(WORDS).arg(parent).arg(program).args(arguments);
    command
}

/// Starts a command of [`command`], and waits until it has become its program.
pub(super) fn spawn(mut command: Command) -> io::Result<Child> {
    let (mut said, tells) = io::pipe()?;
    let mut child = command.stdin(Stdio::from(tells)).spawn()?;
    // It holds an end of the pipe too.
    drop(command);
    let mut error = String::new();
    said.read_to_string(&mut error)?;
    if error.is_empty() {
        return Ok(child);
    }
    let _ = child.wait();
    Err(error.trim().parse().map_or_else(|_| io::Error::other(error), io::Error::from_raw_os_error))
}

/// Runs the intermediate, if this is one: returns only when its program could not be started.
pub(super) fn become_program() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let is_one = WORDS.iter().all(|word| arguments.next().is_some_and(|given| given == *word));
    if !is_one {
        return None;
    }
    let tells = io::stdin().as_fd().try_clone_to_owned();
    let error = replace_by(arguments);
    let text = error.raw_os_error().map_or_else(|| error.to_string(), |code| code.to_string());
    if let Ok(tells) = tells {
        let _ = std::fs::File::from(tells).write_all(text.as_bytes());
    }
    Some(ExitCode::from(255))
}

fn replace_by(mut arguments: impl Iterator<Item = OsString>) -> io::Error {
    let parent = arguments.next().unwrap_or_default();
    let Some(program) = arguments.next() else { return io::Error::other("no program was named") };
    if parent != ALONE {
        if let Err(error) = set_pdeathsig(Signal::SIGKILL) {
            return error.into();
        }
        if parent != parent_id().to_string().as_str() {
            return io::Error::other("the guard has ended meanwhile");
        }
    }
    // Its own end of the pipe is closed by that: the guard then knows that the program has begun.
    Command::new(program).args(arguments).stdin(Stdio::null()).exec()
}
