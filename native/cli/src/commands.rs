//! One file for each sub-command; every command returns the exit code.

mod analyze;
mod boundaries;
mod check;
mod doctor;
mod export;
mod outcome;
mod replay;
mod report;
mod run;
mod runs;
mod schedule;
mod schedule_file;

use crate::args::{Cli, Command};
use crate::output::CliError;

/// Runs the sub-command.
pub fn dispatch(cli: Cli) -> Result<u8, CliError> {
    let no_color = cli.no_color;
    match cli.command {
        Command::Run(args) => run::run(&args, no_color),
        Command::Schedule(args) => schedule::run(&args),
        Command::Check(args) => check::run(&args, no_color),
        Command::Analyze(args) => analyze::run(&args, no_color),
        Command::Replay(args) => replay::run(&args, no_color),
        Command::Export(args) => export::run(&args),
        Command::Report(args) => report::run(&args, no_color),
        Command::Doctor(args) => doctor::run(&args),
        Command::Boundaries(args) => boundaries::run(&args),
        Command::Guard | Command::Plane => Err(CliError::Internal(
            "guard and plane are processes of their own and start before this".into(),
        )),
    }
}
