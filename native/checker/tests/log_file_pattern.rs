//! `log-file-pattern` against its definition written out naively, line by line, and examples.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::{Path, PathBuf};

use common::{Builder, Random, cases, check, int, show};
use fuzz_dist_core::{FaultLog, History, Value, Verdict};
use serde_json::json;

/// 2026-11-21T00:00:00Z in nanoseconds since 1970, when the run begins.
const START_NS: i64 = 1_795_219_200_000_000_000;
const MS: i64 = 1_000_000;
const WORDS: [&str; 4] = ["boom", "panic", "fine", "boom again"];

/// A line, and the milliseconds since the start that it tells.
#[derive(Clone)]
struct Line {
    text: String,
    at_ms: Option<i64>,
}

/// A stamp as a logger writes it; none of a time of day alone.
fn stamp(random: &mut Random, at_ms: i64) -> (String, Option<i64>) {
    let (seconds, ms) = (at_ms / 1000, at_ms % 1000);
    let text = match random.below(5) {
        0 => format!("2026-11-21T00:00:{seconds:02}.{ms:03}+00:00 "),
        1 => format!("2026-11-21 02:00:{seconds:02}.{ms:03}000+02:00 [error] "),
        2 => format!("=CRASH REPORT==== 21-Nov-2026::00:00:{seconds:02}.{ms:03} === "),
        3 => return (format!("00:00:{seconds:02}.{ms:03} "), None),
        _ => return ("  ".to_owned(), None),
    };
    (text, Some(at_ms))
}

fn random_file(random: &mut Random) -> Vec<Line> {
    (0..random.below(6))
        .map(|_| {
            let at_ms = random.below(60) as i64;
            let (stamp, at_ms) = stamp(random, at_ms);
            Line { text: stamp + WORDS[random.below(WORDS.len())], at_ms }
        })
        .collect()
}

/// Faults of two kinds, of which some fail and some stay, a millisecond a record.
fn random_history(random: &mut Random) -> History {
    let mut builder = Builder::default();
    for _ in 0..random.below(40) {
        let id = random.below(3);
        match random.below(8) {
            0 => builder.fault("fault-start", id as i64, ["kill", "pause"][id % 2]),
            1 => builder.fault("fault-applied", id as i64, ["kill", "pause"][id % 2]),
            2 => builder.fault("fault-healed", id as i64, ["kill", "pause"][id % 2]),
            3 if random.chance(30) => {
                builder.fault("fault-failed", id as i64, ["kill", "pause"][id % 2]);
            }
            _ => builder.done(0, "read", Value::Nil, int(1)),
        }
    }
    builder.history()
}

/// Windows of the faults of such a kind. That the fold is right is tested where it is.
fn windows(history: &History, allow: &str) -> Vec<(i64, i64)> {
    let log = FaultLog::of(history);
    let allowed = log.intervals().iter().filter(|fault| ["any", &fault.kind].contains(&allow));
    allowed.filter_map(|fault| fault.window()).collect()
}

/// Whether a fault of such a kind, or its grace, covers the moment.
fn is_covered(history: &History, allow: &str, grace_ms: i64, at_ms: i64) -> bool {
    windows(history, allow)
        .iter()
        .any(|(from, to)| (from / MS..=(to / MS).saturating_add(grace_ms)).contains(&at_ms))
}

/// Whether a fault of such a kind ever was in effect.
fn was_any(history: &History, allow: &str) -> bool {
    !windows(history, allow).is_empty()
}

/// What is asked.
#[derive(Debug)]
struct Question {
    words: Vec<&'static str>,
    allow: Option<&'static str>,
    allow_word: Option<&'static str>,
    grace_ms: i64,
    is_timed: bool,
}

impl Question {
    fn random(random: &mut Random) -> Question {
        Question {
            words: if random.chance(50) { vec!["boom"] } else { vec!["panic", "again"] },
            allow: [None, Some("kill"), Some("pause"), Some("any")][random.below(4)],
            allow_word: [None, None, Some("again"), Some("o")][random.below(4)],
            grace_ms: [0, 3, 100][random.below(3)],
            is_timed: random.chance(80),
        }
    }

    fn options(&self, folder: &Path) -> serde_json::Value {
        let mut options = json!({"pattern": self.words, "path": folder, "grace-ms": self.grace_ms});
        if let Some(allow) = self.allow {
            options["allow"] = json!(allow);
        }
        if let Some(word) = self.allow_word {
            options["allow-pattern"] = json!(word);
        }
        if self.is_timed {
            options["start-wall-ns"] = json!(START_NS);
        }
        options
    }

    /// How many lines count, are excused, or have no time.
    fn judge(&self, history: &History, files: &[Vec<Line>]) -> [u64; 3] {
        let mut counts = [0; 3];
        for file in files {
            for (number, line) in file.iter().enumerate() {
                if !self.words.iter().any(|word| line.text.contains(word)) {
                    continue;
                }
                let at_ms = file[..=number].iter().rev().find_map(|line| line.at_ms);
                let may = self.allow.is_some_and(|allow| was_any(history, allow))
                    && self.allow_word.is_none_or(|word| line.text.contains(word));
                let place = match (may, at_ms.filter(|_| self.is_timed)) {
                    (false, _) => 0,
                    (true, None) => 2,
                    (true, Some(at_ms)) => {
                        usize::from(is_covered(history, self.allow.unwrap(), self.grace_ms, at_ms))
                    }
                };
                counts[place] += 1;
            }
        }
        counts
    }
}

/// Removed when the test is over, however it ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("fuzz_dist_{name}_{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn lines_are_judged_one_by_one() {
    let mut random = Random(29);
    let folder = Folder::new("log_oracle");
    // The last one is no log.
    let paths = ["n1/erlang.log", "n1/log/crash", "n2/a/b/c.log", "n2/data.txt"];
    let paths = paths.map(|path| folder.0.join("nodes").join(path));
    for path in &paths {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    let mut seen = [0u64; 3];
    let mut verdicts = [0u64; 3];
    let count = cases(2_000);
    for case in 0..count {
        let files = [(); 4].map(|()| random_file(&mut random));
        for (path, lines) in paths.iter().zip(&files) {
            let text: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            let end = if random.chance(50) { "\n" } else { "" };
            std::fs::write(path, text.join("\n") + end).unwrap();
        }
        let history = random_history(&mut random);
        let question = Question::random(&mut random);
        let result = check("log-file-pattern", question.options(&folder.0), &history);
        let wanted = question.judge(&history, &files[..3]);
        let told = ["count", "excused", "not-in-time"].map(|name| result.counts[name]);
        let context = || {
            let lines = files.iter().flatten().map(|line| line.text.as_str());
            let lines: Vec<&str> = lines.collect();
            format!("case {case}: {question:?}\n{}\n{}", lines.join("\n"), show(&history))
        };
        assert_eq!(told, wanted, "{}", context());
        let verdict = match wanted {
            [0, _, 0] => Verdict::Valid,
            [0, _, _] => Verdict::Unknown,
            _ => Verdict::Invalid,
        };
        assert_eq!(result.verdict, verdict, "{}", context());
        assert_eq!(result.counts["files"], 3);
        assert_eq!(result.anomalies.len() as u64, wanted[0].min(16));
        (0..3).for_each(|i| seen[i] += wanted[i]);
        verdicts[verdict as usize] += 1;
    }
    let rare = seen.iter().chain(&verdicts).filter(|times| **times < count / 100).count();
    assert!(rare == 0, "lines {seen:?}, verdicts {verdicts:?}");
}

#[test]
fn logs_are_searched_and_faults_excuse() {
    let folder = std::env::temp_dir().join(format!("fuzz_dist_logs_{}", std::process::id()));
    let node = folder.join("nodes/n1/log");
    std::fs::create_dir_all(&node).unwrap();
    std::fs::create_dir_all(folder.join("nodes/n2")).unwrap();
    std::fs::write(
        node.join("erlang.log"),
        "1970-01-01T00:00:00.001+00:00 fine\n  panic: index\n1970-01-01T00:00:10Z panic: again\n",
    )
    .unwrap();
    let mut builder = Builder::default();
    builder.fault("fault-applied", 1, "kill");
    builder.done(0, "read", Value::Nil, int(1));
    builder.fault("fault-healed", 1, "kill");
    let history = builder.history();
    let run = |extra: serde_json::Value| {
        let mut options =
            json!({"pattern": "^ *panic|Z panic", "path": folder, "start-wall-ns": 0});
        options.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        check("log-file-pattern", options, &history)
    };
    let result = run(json!({}));
    assert_eq!(
        (result.verdict, result.counts["count"]),
        (Verdict::Invalid, 2),
        "{}",
        result.reason
    );
    assert_eq!(result.anomalies[0].key.as_deref(), Some("n1"));
    assert!(result.anomalies[0].text.contains("log/erlang.log:2"), "{}", result.anomalies[0].text);
    let result = run(json!({"allow": "kill"}));
    assert_eq!((result.counts["count"], result.counts["excused"]), (1, 1), "{}", result.reason);
    assert_eq!(run(json!({"allow": "kill", "grace-ms": 60000})).verdict, Verdict::Valid);
    assert_eq!(run(json!({"allow": "pause", "grace-ms": 60000})).verdict, Verdict::Invalid);
    let picky = json!({"allow": "any", "grace-ms": 60000, "allow-pattern": "again"});
    assert_eq!(run(picky).counts["count"], 1);
    assert_eq!(run(json!({"files": "other.log"})).verdict, Verdict::Unknown);
    assert_eq!(run(json!({"pattern": "assertion"})).verdict, Verdict::Valid);
    std::fs::remove_dir_all(&folder).unwrap();
}
