//! What a person sees while a test runs: one rewritten line on a terminal, plain lines otherwise.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fuzz_dist_core::sync::lock;
use fuzz_dist_runner::{Reporter, Status};

/// Where nothing can be rewritten (CI, a file), a status is worth a line this often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Width when the terminal does not tell.
const COLUMNS_DEFAULT: usize = 80;

/// Whether standard error may be coloured.
pub fn colour(no_color: bool) -> bool {
    let asked_not = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !no_color && !asked_not && rewritable()
}

/// Whether standard error is a terminal that can rewrite a line.
fn rewritable() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Tells of a run on standard error.
#[derive(Debug)]
pub struct Terminal {
    live: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The status line that stands on the terminal, without line end.
    shown: Option<String>,
    plain_at: Option<Instant>,
    phase: &'static str,
}

impl Terminal {
    /// For this process's standard error.
    pub fn new() -> Terminal {
        Terminal { live: rewritable(), state: Mutex::default() }
    }

    /// Removes the status line, before other text or at the end.
    pub fn clear(&self) {
        let mut state = self.lock();
        if state.shown.take().is_some() {
            write_all("\r\x1b[2K");
        }
    }

    /// A reporter that panicked while it held the lock has no state worth protecting.
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Reporter for Terminal {
    fn status(&self, status: &Status) {
        let mut state = self.lock();
        if self.live {
            let line = fit(&status_line(status), columns().saturating_sub(1));
            write_all(&format!("\r\x1b[2K{line}"));
            state.shown = Some(line);
            return;
        }
        let due = state.plain_at.is_none_or(|at| at.elapsed() >= PLAIN_INTERVAL);
        if due || state.phase != status.phase {
            state.plain_at = Some(Instant::now());
            state.phase = status.phase;
            write_all(&format!("{}\n", status_line(status)));
        }
    }

    fn line(&self, text: &str) {
        let state = self.lock();
        match &state.shown {
            Some(line) => write_all(&format!("\r\x1b[2K{text}\n{line}")),
            None => write_all(&format!("{text}\n")),
        }
    }
}

/// One write, so that lines of several threads do not mix. Nobody can be told when it fails.
fn write_all(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn columns() -> usize {
    terminal_size::terminal_size_of(io::stderr())
        .map(|(terminal_size::Width(columns), _)| usize::from(columns))
        .filter(|columns| *columns > 0)
        .unwrap_or(COLUMNS_DEFAULT)
}

/// Cuts a line to a width in characters; an ellipsis stands for what is missing.
fn fit(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// The most important first, since the end may be cut.
fn status_line(status: &Status) -> String {
    let mut line = format!(
        "{:>6.1} s  {}  ok {}  fail {}  info {}",
        status.elapsed_s,
        status.phase,
        thousands(status.ok),
        thousands(status.fail),
        thousands(status.info),
    );
    if status.rate > 0.0 {
        line += &format!("  {}/s", thousands(status.rate.round() as u64));
        // Of operations that were ok: there may have been none.
        if status.p99_ms > 0.0 {
            line += &format!("  p50 {} p99 {}", latency(status.p50_ms), latency(status.p99_ms));
        }
    }
    line += &format!("  nodes {}/{}", status.nodes_up, status.node_count);
    if !status.faults.is_empty() {
        line += &format!("  faults: {}", status.faults.join(", "));
    }
    line
}

fn latency(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            phase: "main",
            elapsed_s: 12.34,
            ok: 1_234_567,
            fail: 5,
            info: 0,
            rate: 1203.4,
            p50_ms: 1.234,
            p99_ms: 1500.0,
            faults: vec!["hold halves".into(), "kill n2".into()],
            nodes_up: 2,
            node_count: 3,
        }
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(
            status_line(&status()),
            "  12.3 s  main  ok 1,234,567  fail 5  info 0  1,203/s  p50 1.23 ms p99 1.5 s  \
             nodes 2/3  faults: hold halves, kill n2"
        );
    }

    #[test]
    fn without_an_ok_operation_there_is_no_latency() {
        let line = status_line(&Status { p50_ms: 0.0, p99_ms: 0.0, ..status() });
        assert!(line.contains("  1,203/s  nodes 2/3"), "{line}");
    }

    #[test]
    fn before_the_first_operation_there_is_no_rate() {
        let line = status_line(&Status { phase: "setup", node_count: 3, ..Status::default() });
        assert_eq!(line, "   0.0 s  setup  ok 0  fail 0  info 0  nodes 0/3");
    }

    #[test]
    fn a_long_line_is_cut_with_a_sign() {
        assert_eq!(fit("äöü abc", 7), "äöü abc");
        assert_eq!(fit("äöü abc", 5), "äöü …");
        assert_eq!(fit("abc", 0), "…");
    }

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
