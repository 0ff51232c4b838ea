//! The commands in README.md, doc/ and the guides are run, so that they stay true.
//!
//! Every fenced block marked `sh` or `console` runs in a scratch copy of the documented files, those of one
//! document in order. In a `console` block the lines after `$ ` are commands and the others must appear in
//! the output in this order; `…` in such a line stands for anything. Comments before a block change this:
//!
//! * `<!-- exit: 1 -->`: the block ends with this status and not with 0;
//! * `<!-- run: demo -->`: it takes long, and `test/e2e/demo.sh` runs the same command instead. That this
//!   script exists and has the command is checked here. `test` stands for `make test`, of which this is a part.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{finish, root};

/// What a document may refer to.
const COPIED: [&str; 4] = ["README.md", "doc", "config", "test"];

#[derive(Debug)]
struct Block {
    /// Document and line of the fence.
    place: String,
    console: bool,
    text: String,
    /// The status it ends with.
    exit: i32,
    /// The end-to-end test that runs it.
    run: Option<String>,
}

impl Block {
    fn commands(&self) -> String {
        if !self.console {
            return self.text.clone();
        }
        let commands = self.text.lines().filter_map(|line| line.strip_prefix("$ "));
        commands.collect::<Vec<_>>().join("\n")
    }

    fn expected(&self) -> Vec<&str> {
        let lines = self.text.lines().filter(|line| self.console && !line.starts_with("$ "));
        lines.map(str::trim_end).filter(|line| !line.is_empty()).collect()
    }
}

/// The runnable blocks of a document; a comment that is not understood is an error, not ignored.
fn blocks(name: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut exit, mut run) = (0, None);
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let place = format!("{name}:{}", number + 1);
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("<!--").and_then(|l| l.strip_suffix("-->")) {
            match comment.trim().split_once(": ") {
                Some(("exit", code)) => exit = code.parse().expect(&place),
                Some(("run", test)) => run = Some(test.to_owned()),
                _ => {}
            }
        } else if let Some(language) = line.strip_prefix("```") {
            let body: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| line.trim() != "```")
                .collect();
            if matches!(language, "sh" | "console") {
                let console = language == "console";
                let run = run.take();
                blocks.push(Block { place, console, text: body.join("\n"), exit, run });
            } else {
                let shell = ["bash", "shell", "zsh", "terminal"].contains(&language);
                assert!(!shell, "{place}: mark commands as sh or console, so that they are run");
                assert!(
                    run.is_none() && exit == 0,
                    "{place}: a comment for a block that is not run"
                );
            }
            exit = 0;
        } else if !line.is_empty() {
            assert!(run.is_none() && exit == 0, "{place}: a comment without its block");
        }
    }
    blocks
}

/// Whether the lines appear in the output, in order; `…` within a line stands for anything.
fn missing_line<'a>(expected: &[&'a str], output: &str) -> Option<&'a str> {
    let mut lines = output.lines();
    expected
        .iter()
        .copied()
        .find(|wanted| *wanted != "…" && !lines.any(|line| matches(wanted, line.trim_end())))
}

fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (i, part) in parts.iter().enumerate() {
        if i + 1 == parts.len() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

fn copy(from: &Path, to: &Path) {
    let metadata = fs::symlink_metadata(from).unwrap();
    let build = from.file_name().is_some_and(|name| name == "_build" || name == "deps");
    if metadata.is_file() {
        fs::copy(from, to).unwrap();
    } else if metadata.is_dir() && !build {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    }
}

fn documents() -> Vec<PathBuf> {
    let mut documents = vec![root().join("README.md")];
    for folder in ["doc", "elixir_client/guides"] {
        let Ok(entries) = fs::read_dir(root().join(folder)) else { continue };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
        files.sort();
        documents.extend(files);
    }
    documents
}

fn run_document(document: &Path) -> (usize, Vec<String>) {
    let text = fs::read_to_string(document).unwrap();
    let name = document.strip_prefix(root()).unwrap().display().to_string();
    let blocks = blocks(&name, &text);
    let scratch = tempfile::tempdir().unwrap();
    if blocks.iter().any(|block| block.run.is_none()) {
        for entry in COPIED.iter().filter(|entry| root().join(entry).exists()) {
            copy(&root().join(entry), &scratch.path().join(entry));
        }
        fs::create_dir(scratch.path().join(".bin")).unwrap();
        let binary = scratch.path().join(".bin/fuzz_dist");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fuzz_dist"), binary).unwrap();
    }
    let problems = blocks.iter().filter_map(|block| run_block(block, scratch.path())).collect();
    (blocks.len(), problems)
}

/// What is wrong with a block, if anything.
fn run_block(block: &Block, scratch: &Path) -> Option<String> {
    let place = &block.place;
    let commands = block.commands();
    if commands.trim().is_empty() {
        return Some(format!("{place}: has no command (in a console block they follow `$ `)"));
    }
    // This test is a part of `make test`, so that a block with that command is being run.
    if block.run.as_deref() == Some("test") && commands == "make test" {
        return None;
    }
    if let Some(test) = &block.run {
        let script = root().join(format!("test/e2e/{test}.sh"));
        let Ok(text) = fs::read_to_string(&script) else {
            return Some(format!("{place}: test/e2e/{test}.sh does not exist"));
        };
        let absent = commands.lines().find(|command| !text.contains(command.trim()));
        return absent.map(|line| format!("{place}: test/e2e/{test}.sh does not run `{line}`"));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &format!("exec 2>&1\n{commands}")])
        .current_dir(scratch)
        .env("PATH", format!("{}:{path}", scratch.join(".bin").display()));
    let ended = finish(&mut bash, b"");
    let shown = format!("{place}:\n{commands}\n--\n{}", ended.stdout);
    if ended.code != Some(block.exit) {
        return Some(format!("{shown}\n-- status {:?} and not {}", ended.code, block.exit));
    }
    let missing = missing_line(&block.expected(), &ended.stdout)?;
    Some(format!("{shown}\n-- lacks the line\n{missing}"))
}

#[test]
fn every_documented_command_works() {
    let mut count = 0;
    let mut problems = Vec::new();
    for document in documents() {
        let (found, wrong) = run_document(&document);
        count += found;
        problems.extend(wrong);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
    assert!(count > 0, "no document has a command");
}

#[test]
fn blocks_and_their_comments_are_found() {
    let text = "a\n<!-- exit: 1 -->\n```sh\nfalse\n```\n```toml\nx = 1\n```\n\
                <!-- run: demo -->\n\n```console\n$ make demo\nvalid\n```\n";
    let found = blocks("t", text);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].place.as_str(), found[0].exit, &found[0].run), ("t:3", 1, &None));
    assert_eq!((found[1].exit, found[1].run.as_deref()), (0, Some("demo")));
    assert_eq!((found[1].commands(), found[1].expected()), ("make demo".into(), vec!["valid"]));
}

#[test]
fn a_block_that_is_wrong_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let told = |text: &str| {
        let block = blocks("t", text).remove(0);
        run_block(&block, scratch.path())
    };
    assert_eq!(told("```sh\ntrue\n```"), None);
    assert_eq!(told("<!-- exit: 3 -->\n```sh\nexit 3\n```"), None);
    assert!(told("```sh\nfalse\ntrue\n```").unwrap().contains("status Some(1) and not 0"));
    assert_eq!(told("```console\n$ printf 'a\\nb 7 ms\\n'\nb … ms\n```"), None);
    assert!(told("```console\n$ echo a\nb\n```").unwrap().contains("lacks the line\nb"));
    assert!(told("```sh\n```").unwrap().contains("no command"));
    let absent = told("<!-- run: no_such_test -->\n```sh\nmake demo\n```").unwrap();
    assert!(absent.contains("test/e2e/no_such_test.sh does not exist"), "{absent}");
}
