//! Panics: a fault of fuzz_dist, told as one, with what a report of it needs.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;

use fuzz_dist_core::sync::lock;

use crate::output::CliError;

/// What the last panic said, and where.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Runs `command`; a panic in it becomes an internal error.
pub fn catch<T>(command: impl FnOnce() -> Result<T, CliError>) -> Result<T, CliError> {
    panic::set_hook(Box::new(|info| {
        let said = info.payload_as_str().unwrap_or("(no words)");
        let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        let text = format!("thread {name} panicked{place}: {said}");
        // A panic of another thread may be caught and lived with, so it is shown when it happens.
        if name != "main" {
            crate::output::tell(&text);
        }
        *lock(&LAST) = Some(text);
    }));
    // What `command` borrowed is not looked at again after a panic.
    panic::catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|_| {
        let last = lock(&LAST).take();
        Err(CliError::Internal(message(&last.unwrap_or_else(|| "a panic without words".into()))))
    })
}

/// Who is at fault, what happened, and what to attach to a report.
fn message(what: &str) -> String {
    let command: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    format!(
        "this is a fault of fuzz_dist, not of the system under test: {what}\n\
         Please report it with: this message, the command `{}`, the version ({}), and of the run's \
         folder, if there is one, spec.toml, schedule.json, core.log and history.fdh.",
        command.join(" "),
        env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_internal_error_that_says_what_to_attach() {
        let before = panic::take_hook();
        let result: Result<(), CliError> = catch(|| panic!("seven {}", 7));
        panic::set_hook(before);
        let error = result.unwrap_err();
        assert_eq!(error.exit_code(), 255);
        let text = error.to_string();
        for part in ["a fault of fuzz_dist", "seven 7", "fault_of_ours.rs", "core.log"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
