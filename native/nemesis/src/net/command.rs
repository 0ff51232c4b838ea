//! The programs that change the kernel's network: run, with what they said when they failed.

use std::io::Write;
use std::process::{Command, Stdio};

use super::NetError;

/// The programs, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 3] = [("ip", "iproute2"), ("nft", "nftables"), ("tc", "iproute2")];

/// Why a program cannot be run; `None` if it is there.
pub fn missing(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return None;
    }
    let package = PROGRAMS.iter().find(|(name, _)| *name == program);
    Some(match package {
        Some((_, package)) => {
            format!("`{program}` is not in PATH; the Debian package {package} has it")
        }
        None => format!("`{program}` is not in PATH"),
    })
}

/// A command line as words.
pub fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

/// Runs a command; what it wrote.
pub fn run(command: &str) -> Result<String, NetError> {
    run_with(command, "")
}

/// Runs a command that reads `input`; what it wrote.
pub fn run_with(command: &str, input: &str) -> Result<String, NetError> {
    let failed = |reason: String| NetError::Command { command: command.to_owned(), reason };
    let argv = words(command);
    let Some((program, arguments)) = argv.split_first() else { return Ok(String::new()) };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A command that does not read says why by its status.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(format!("{} ({})", said.trim(), output.status)))
    }
}

/// Runs lines of `tc` in one process, up to the first that fails.
pub fn tc(lines: &[String]) -> Result<(), NetError> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut text = lines.join("\n");
    text.push('\n');
    run_with("tc -batch -", &text).map(drop).map_err(|error| match error {
        // The lines tell more than the name of the standard input.
        NetError::Command { reason, .. } => {
            NetError::Command { command: format!("tc {}", lines.join("; ")), reason }
        }
        other => other,
    })
}
