//! The command `fuzz_dist`.
//!
//! This file turns the command line into calls and what comes back into an exit code: 0 valid, 1 invalid,
//! 2 unknown, 254 bad arguments or input, 255 a fault of our own. [`args`] has the flags, [`commands`]
//! one file for each sub-command, [`terminal`] the status line, [`output`] the rules of what is written
//! where.

mod args;
mod commands;
mod fault_of_ours;
mod output;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command};
use output::CliError;

/// Limits of memory count everything that the program holds.
#[global_allocator]
static ALLOCATOR: fuzz_dist_memory::Counting = fuzz_dist_memory::Counting;

/// The exit code of bad arguments or input.
const EXIT_INPUT: u8 = 254;

fn main() -> ExitCode {
    // With a program to become, whose arguments are none of ours: see the guard.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|word| word == "guard")
        && arguments.next().is_some_and(|word| word == "exec")
    {
        return fuzz_dist_nemesis::guard::main();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    match cli.command {
        // These have their own ways with panics and pipes: they must outlive whoever talks to them.
        Command::Guard => return fuzz_dist_nemesis::guard::main(),
        Command::Plane => return fuzz_dist_nemesis::plane::main(),
        _ => {}
    }
    let json = cli.command.wants_json();
    let outcome = fault_of_ours::catch(|| commands::dispatch(cli));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => failed(&error, json),
    }
}

/// Help and version are what was asked for; everything else clap says is a mistake in the arguments.
fn refused(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // A pipe that was closed cannot be told about.
    let _ = error.print();
    if asked {
        return ExitCode::SUCCESS;
    }
    // The flags are not understood, but who asked for JSON reads nothing else.
    if std::env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text).trim();
        let _ = output::json(&output::error_object(&CliError::input(message)));
    }
    ExitCode::from(EXIT_INPUT)
}

fn failed(error: &CliError, json: bool) -> ExitCode {
    output::tell(&format!("error: {error}"));
    if json && let Err(error) = output::json(&output::error_object(error)) {
        output::tell(&format!("error: {error}"));
    }
    ExitCode::from(error.exit_code())
}
