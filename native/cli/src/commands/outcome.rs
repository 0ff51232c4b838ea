//! How a run or an analysis ended: the last lines on the terminal, or one JSON object.

use fuzz_dist_core::{Verdict, text};
use fuzz_dist_runner::{MIX, RunOutcome};
use serde::Serialize;

use crate::output::{self, CliError};
use crate::terminal;

#[derive(Serialize)]
struct Object<'a> {
    verdict: Verdict,
    exit_code: u8,
    reason: &'a str,
    seed: u64,
    run_dir: String,
    report: Option<String>,
    replay_command: &'a str,
    warnings: &'a [String],
    result: &'a fuzz_dist_core::CheckResult,
}

/// Tells people, and with `json` also programs; the exit code is that of the verdict.
pub fn tell(outcome: &RunOutcome, json: bool, no_color: bool) -> Result<u8, CliError> {
    let replay_command = as_called(&outcome.replay_command, &super::run::program());
    for warning in &outcome.warnings {
        output::tell(&format!("warning: {warning}"));
    }
    output::tell(&last_lines(outcome, &replay_command, terminal::colour(no_color)));
    let exit_code = outcome.verdict.exit_code();
    if json {
        output::json(&Object {
            verdict: outcome.verdict,
            exit_code,
            reason: &outcome.result.reason,
            seed: outcome.seed,
            run_dir: outcome.run_dir.display().to_string(),
            report: outcome.report.as_ref().map(|report| report.display().to_string()),
            replay_command: &replay_command,
            warnings: &outcome.warnings,
            result: &outcome.result,
        })?;
    }
    Ok(exit_code)
}

/// A stored run names the program only; what is printed here must work where it is printed.
fn as_called(command: &str, program: &str) -> String {
    match command.strip_prefix("fuzz_dist ") {
        Some(rest) if program == MIX => format!("{MIX}.{rest}"),
        Some(rest) => {
            let quoted = shlex::try_quote(program).unwrap_or(program.into());
            format!("{quoted} {rest}")
        }
        None => command.to_owned(),
    }
}

/// The explanation, then what a script or a reader in a hurry looks for at the end.
fn last_lines(outcome: &RunOutcome, replay_command: &str, colour: bool) -> String {
    let mut lines = outcome.explanation.trim_end().to_owned();
    if !lines.is_empty() {
        lines += "\n\n";
    }
    let report = match &outcome.report {
        Some(report) => report.display().to_string(),
        None if !outcome.warnings.is_empty() => "not written, see the warnings above".to_owned(),
        None => format!("left as it is, in {}", outcome.run_dir.display()),
    };
    lines += &format!("verdict  {}\n", painted(outcome.verdict, colour));
    lines += &format!("why      {}\n", text::reason(&outcome.result.reason));
    lines += &format!("report   {report}\n");
    lines += &format!("replay   {replay_command}");
    lines
}

/// The verdict in its colour: green, yellow, red.
pub fn painted(verdict: Verdict, colour: bool) -> String {
    let code = match verdict {
        Verdict::Valid => 32,
        Verdict::Unknown => 33,
        Verdict::Invalid => 31,
    };
    if colour { format!("\x1b[1;{code}m{verdict}\x1b[0m") } else { verdict.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz_dist_core::CheckResult;

    fn outcome() -> RunOutcome {
        RunOutcome {
            run_dir: "store/t/1".into(),
            verdict: Verdict::Invalid,
            result: CheckResult::new("all", Verdict::Invalid, "linearizable: 1 key of 5"),
            explanation: "process 3 read 4\n".into(),
            report: Some("store/t/1/report.html".into()),
            warnings: Vec::new(),
            replay_command: "fuzz_dist replay store/t/1".into(),
            seed: 7,
        }
    }

    #[test]
    fn the_last_lines_are_verdict_why_report_and_replay() {
        let text = last_lines(&outcome(), "./fuzz_dist replay store/t/1", false);
        assert_eq!(
            text,
            "process 3 read 4\n\nverdict  invalid\nwhy      linearizable: 1 key of 5\n\
             report   store/t/1/report.html\nreplay   ./fuzz_dist replay store/t/1"
        );
        assert!(last_lines(&outcome(), "", true).contains("\x1b[1;31minvalid\x1b[0m"));
    }

    #[test]
    fn a_reason_is_one_harmless_line() {
        let mut hostile = outcome();
        hostile.result.reason =
            format!("\u{1b}]0;PWNED\u{7}\nFAKE verdict  valid\u{202e}{}", "x".repeat(30_000));
        let text = last_lines(&hostile, "", false);
        let why = text.lines().find(|line| line.starts_with("why")).unwrap();
        assert!(why.chars().count() <= 9 + fuzz_dist_core::text::REASON_CHAR_COUNT_MAX, "{why}");
        assert!(!why.chars().any(fuzz_dist_core::text::steers), "{why:?}");
        assert!(!text.lines().any(|line| line.starts_with("FAKE")), "{text}");
    }

    #[test]
    fn the_replay_command_names_the_program_as_it_was_called() {
        assert_eq!(
            as_called("fuzz_dist replay r", "target/fuzz_dist"),
            "target/fuzz_dist replay r"
        );
        assert_eq!(as_called("fuzz_dist replay r", "a b/fuzz_dist"), "'a b/fuzz_dist' replay r");
        assert_eq!(as_called("mix fuzz_dist.replay r", "x"), "mix fuzz_dist.replay r");
        assert_eq!(as_called("fuzz_dist replay r", MIX), "mix fuzz_dist.replay r");
    }

    #[test]
    fn a_report_that_was_not_written_again_is_said() {
        let text = last_lines(&RunOutcome { report: None, ..outcome() }, "", false);
        assert!(text.contains("report   left as it is, in store/t/1\n"), "{text}");
    }
}
