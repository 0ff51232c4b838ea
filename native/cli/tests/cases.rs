//! A folder of cases: small histories, each with arguments for `fuzz_dist check` and the right exit codes.
//!
//! The table `EXPECTED.tsv` names the cases; `test/cases/README.md` explains it. Every case runs in a
//! process of its own, with a deadline, and all differences are printed at once. A case that is known to
//! be answered wrongly is listed in `KNOWN.tsv`; one that is listed there and answered correctly fails the
//! test, so the list only shrinks. `FUZZ_DIST_CASES=FOLDER` (or `bin/cases FOLDER`) runs another folder.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than the longest `--time-limit` of a case, with room for a loaded machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// One row of the table.
#[derive(Debug)]
struct Case {
    file: String,
    arguments: Vec<String>,
    expected: Vec<i32>,
    why: String,
}

/// What a case answered: an exit code, or none within the deadline; and the end of its output.
struct Answer {
    code: Option<i32>,
    output: String,
}

/// A case whose answer is not one of those that the table allows.
struct Difference<'a> {
    case: &'a Case,
    answer: &'a Answer,
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected: Vec<String> = self.case.expected.iter().map(i32::to_string).collect();
        let got = self.answer.code.map_or("no exit code".to_owned(), |code| code.to_string());
        writeln!(
            f,
            "{} {}\n    exit code {got}, expected {}: {}",
            self.case.file,
            self.case.arguments.join(" "),
            expected.join(" or "),
            self.case.why
        )?;
        for line in self.answer.output.lines().take(4) {
            writeln!(f, "    | {line}")?;
        }
        Ok(())
    }
}

fn folder() -> PathBuf {
    std::env::var_os("FUZZ_DIST_CASES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/cases"),
        PathBuf::from,
    )
}

/// The columns of each line below the header of a table.
fn rows(path: &Path, columns: usize) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let row = |(number, line): (usize, &str)| {
        let row: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let place = format!("{}:{}", path.display(), number + 1);
        assert_eq!(row.len(), columns, "{place}: a line has {columns} columns, separated by tabs");
        row
    };
    text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty()).map(row).collect()
}

fn cases(folder: &Path) -> Vec<Case> {
    let case = |row: Vec<String>| {
        let [file, arguments, expected, why] = <[String; 4]>::try_from(row).unwrap();
        let code = |code: &str| {
            code.parse().unwrap_or_else(|e| panic!("{file}: {code:?} is no exit code: {e}"))
        };
        let expected = expected.split('/').map(code).collect();
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        Case { arguments, expected, why, file }
    };
    rows(&folder.join("EXPECTED.tsv"), 4).into_iter().map(case).collect()
}

/// The cases that are known to be answered wrongly, with the reason.
fn known(folder: &Path) -> BTreeMap<String, String> {
    let path = folder.join("KNOWN.tsv");
    if !path.exists() {
        return BTreeMap::new();
    }
    let entry = |row: Vec<String>| (row[0].clone(), row[1].clone());
    rows(&path, 2).into_iter().map(entry).collect()
}

fn answer(folder: &Path, case: &Case) -> Answer {
    let mut output = tempfile::tempfile().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_fuzz_dist"))
        .arg("check")
        .args(&case.arguments)
        .arg(folder.join(&case.file))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output.try_clone().unwrap())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if started.elapsed() > DEADLINE {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let mut bytes = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut bytes).unwrap();
    let mut output = String::from_utf8_lossy(&bytes).into_owned();
    if code.is_none() {
        output = format!("killed after {DEADLINE:?}, or ended by a signal\n{output}");
    }
    Answer { code, output }
}

/// All answers, in the order of the cases, from as many processes at once as there are cores.
fn answers(folder: &Path, cases: &[Case]) -> Vec<Answer> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(place) else { return done };
            done.push((place, answer(folder, case)));
        }
    };
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let mut done: Vec<(usize, Answer)> = thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect()
    });
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, answer)| answer).collect()
}

#[test]
fn every_case_is_answered_correctly() {
    let folder = folder();
    let cases = cases(&folder);
    assert!(!cases.is_empty(), "{} lists no cases", folder.join("EXPECTED.tsv").display());
    let mut known = known(&folder);
    let answers = answers(&folder, &cases);
    let mut wrong = Vec::new();
    let mut solved = Vec::new();
    let mut still_known = 0;
    for (case, answer) in cases.iter().zip(&answers) {
        let right = answer.code.is_some_and(|code| case.expected.contains(&code));
        match (right, known.remove(&case.file)) {
            (true, None) => {}
            (true, Some(why)) => solved.push(format!("{}: {why}\n", case.file)),
            (false, Some(_)) => still_known += 1,
            (false, None) => wrong.push(Difference { case, answer }.to_string()),
        }
    }
    println!("{} cases, {} wrong, {still_known} known to be wrong", cases.len(), wrong.len());
    let unused: Vec<String> = known.into_keys().collect();
    assert!(
        wrong.is_empty() && solved.is_empty() && unused.is_empty(),
        "{} of {} cases are answered wrongly:\n{}\n\
         {} cases of KNOWN.tsv are answered correctly; remove their lines:\n{}\n\
         files of KNOWN.tsv that EXPECTED.tsv does not have: {unused:?}",
        wrong.len(),
        cases.len(),
        wrong.concat(),
        solved.len(),
        solved.concat(),
    );
}
