//! Why a VM did not come up, as far as its output tells: the last lines, and what they usually mean.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How many lines of output are quoted.
const LINES_MAX: usize = 15;

/// How much of the end of the output is looked at.
const BYTES_MAX: u64 = 64 << 10;

/// Longest quoted line; error terms of the BEAM can be very long.
const LINE_CHARS_MAX: usize = 300;

/// The usual reason is a system with a fixed port, of which every node wants the same.
const PORT_IN_USE: &str = "a TCP port that it listens on is in use. The nodes of a run share this machine, so each \
    needs a port of its own: name it in cluster.ports ({ name = \"http\" }) and pass `{port:http}` to the node, in \
    cluster.env (PORT = \"{port:http}\") or in its command";

/// How the boot module begins its last line.
const CANNOT_BOOT: &str = "fuzz_dist: cannot boot ";

/// Of more use than what the boot module says about it.
const PORT_CAUSES: &[(&str, &str)] =
    &[("eaddrinuse", PORT_IN_USE), ("address already in use", PORT_IN_USE)];

/// What the output contains, and what it means.
const CAUSES: &[(&str, &str)] = &[
    ("seems to be in use by some other Erlang node", "a node of the same name is still registered"),
    ("register/listen error", "it could not register its name at its EPMD port"),
    ("Can't set short node name", "its name is refused; the naming of the cluster needs `-name`"),
    ("Can't set long node name", "its name is refused"),
    ("eacces", "a file or port may not be opened (permission denied)"),
    ("Permission denied", "a file may not be opened or executed"),
    ("enospc", "the disk is full"),
    ("No space left", "the disk is full"),
    ("command not found", "a program of its command is not installed"),
    (": not found", "a program of its command is not installed"),
    ("No such file or directory", "a file that its command names does not exist"),
    ("cannot get bootfile", "the boot file of its command does not exist"),
    ("could not find module", "a module is missing: is it compiled and in cluster.code_paths?"),
    ("is not available", "a module is missing: is it compiled and in cluster.code_paths?"),
    ("{undef,", "a module or function is missing: is it compiled and in cluster.code_paths?"),
    ("undefined function", "a module or function is missing: is it compiled and in the code path?"),
    ("UndefinedFunctionError", "a module or function is missing: is it in cluster.code_paths?"),
    ("{bad_return", "an application failed to start"),
    ("Crash dump", "the VM crashed; its dump is in the node's log folder"),
    ("crash dump", "the VM crashed; its dump is in the node's log folder"),
];

/// What a VM has written since it was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    lines: Vec<String>,
    text: String,
}

impl Output {
    /// Reads the end of the file, from `start` (bytes) on; an unreadable file counts as empty.
    pub fn read(file: &Path, start: u64) -> Output {
        let bytes = read_end(file, start).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<String> = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .map(|line| line.chars().take(LINE_CHARS_MAX).collect())
            .collect();
        let (earlier, last) = lines.split_at(lines.len().saturating_sub(LINES_MAX));
        // What our boot module says is worth more than the crash report that may follow it.
        let boot = earlier.iter().find(|line| line.contains(CANNOT_BOOT));
        let lines = boot.into_iter().chain(last).cloned().collect();
        Output { lines, text }
    }

    /// The end of it, as it is.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it usually means, if anything is recognised.
    pub fn cause(&self) -> Option<&str> {
        let known = |causes: &[(&str, &'static str)]| {
            let found = causes.iter().find(|(pattern, _)| self.text.contains(pattern));
            found.map(|(_, cause)| *cause)
        };
        known(PORT_CAUSES).or_else(|| self.boot_failure()).or_else(|| known(CAUSES))
    }

    /// What our boot module could not start, in its own words.
    fn boot_failure(&self) -> Option<&str> {
        let (_, line) = self.text.lines().find_map(|line| line.split_once(CANNOT_BOOT))?;
        let (_node, reason) = line.split_once(": ")?;
        Some(reason.char_indices().nth(LINE_CHARS_MAX).map_or(reason, |(end, _)| &reason[..end]))
    }

    /// The likely cause and the last lines, for a message; `file` names the output.
    pub fn quote(&self, file: &Path, otherwise: &str) -> String {
        let cause = self.cause().unwrap_or(otherwise).trim_end_matches('.');
        let mut text = format!("\nLikely cause: {cause}.");
        if self.lines.is_empty() {
            text.push_str(&format!("\n{} is empty.", file.display()));
        } else {
            text.push_str(&format!("\nThe end of {}:", file.display()));
            for line in &self.lines {
                text.push_str("\n  | ");
                text.push_str(line);
            }
        }
        text
    }
}

fn read_end(file: &Path, start: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(BYTES_MAX)).min(length)))?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_of_this_start_are_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("output.log");
        let before = "{error,eaddrinuse} of an earlier start\n";
        let after: String = (1..=20).map(|i| format!("line {i}\n\n")).collect();
        std::fs::write(&file, format!("{before}{after}")).unwrap();
        let output = Output::read(&file, before.len() as u64);
        let quoted = output.quote(&file, "unknown");
        assert!(quoted.contains("Likely cause: unknown."), "{quoted}");
        assert!(!quoted.contains("line 5\n") && quoted.contains("  | line 6\n"), "{quoted}");
        assert!(quoted.ends_with("  | line 20"), "{quoted}");
        assert_eq!(Output::read(&file, 0).cause(), Some(PORT_IN_USE));
    }

    #[test]
    fn what_could_not_be_booted_is_the_cause() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("output.log");
        // The report of the crash is written after it.
        let mut text =
            "** crash dump\nfuzz_dist: cannot boot n1@127.0.0.1: kv:start/2 crashed: no database\n"
                .to_owned();
        (0..2 * LINES_MAX).for_each(|line| text += &format!("neighbours: {line}\n"));
        std::fs::write(&file, text).unwrap();
        let output = Output::read(&file, 0);
        assert_eq!(output.cause(), Some("kv:start/2 crashed: no database"));
        let quoted = output.quote(&file, "unknown");
        assert!(quoted.contains("  | fuzz_dist: cannot boot n1@127.0.0.1"), "{quoted}");
    }

    #[test]
    fn output_that_is_not_there_or_not_text_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("output.log");
        assert!(Output::read(&file, 0).quote(&file, "x").contains("output.log is empty"));
        std::fs::write(&file, [0xff, b'a', 0xfe]).unwrap();
        assert!(Output::read(&file, 0).quote(&file, "x").contains("a"));
        assert!(Output::read(&file, 999).quote(&file, "x").contains("is empty"));
    }
}
