//! What is written where: results to standard output, people's text to standard error.
//!
//! A reader that closes its end (`| head`) is not an error: writing stops quietly, and the exit code
//! still is that of the verdict.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

/// Why a command gave no verdict, with the exit code that says whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Arguments, files or the system under test are at fault.
    #[error("{0}")]
    Input(String),
    /// We are.
    #[error("{0}")]
    Internal(String),
}

impl CliError {
    /// 254 or 255.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Input(_) => 254,
            CliError::Internal(_) => 255,
        }
    }

    /// An error of whoever called, in the words of `error`.
    pub fn input(error: impl ToString) -> CliError {
        CliError::Input(error.to_string())
    }
}

impl From<fuzz_dist_runner::RunError> for CliError {
    fn from(error: fuzz_dist_runner::RunError) -> CliError {
        match error {
            fuzz_dist_runner::RunError::Input(text) => CliError::Input(text),
            fuzz_dist_runner::RunError::Internal(text) => CliError::Internal(text),
        }
    }
}

/// Writes to standard output through `write`; a closed pipe is quiet, a full disk is not.
pub fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::Input(format!("cannot write to standard output: {error}")))
        }
        _ => {
            // What could not be flushed into a closed pipe would be tried again on drop.
            let _ = out.into_parts();
            Ok(())
        }
    }
}

/// Prints one JSON object.
pub fn json(object: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(object)
        .map_err(|error| CliError::Internal(format!("cannot encode the result: {error}")))?;
    to_stdout(|out| writeln!(out, "{text}"))
}

/// Prints a line for people. Nobody can be told when standard error is gone.
pub fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What `--json` prints when there is no verdict.
pub fn error_object(error: &CliError) -> serde_json::Value {
    serde_json::json!({ "error": error.to_string(), "exit_code": error.exit_code() })
}
