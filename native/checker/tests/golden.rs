//! Every history in `test/histories/CHECKER/VERDICT/*.edn` gets that verdict from that checker.
//!
//! A file opens with comments that say what it shows; `;; options: {…}` gives the checker's options as
//! JSON. With `FUZZ_DIST_HISTORIES` naming a folder with a `MANIFEST.tsv` (file, model, verdict), the
//! histories of other tools listed there are checked as well.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::{Path, PathBuf};

use common::{check, spec};
use fuzz_dist_checker::{Budget, check_all, sole};
use fuzz_dist_core::{Verdict, interop};
use serde_json::json;

fn verdict(name: &str) -> Verdict {
    match name {
        "valid" => Verdict::Valid,
        "invalid" => Verdict::Invalid,
        "unknown" => Verdict::Unknown,
        other => panic!("{other} is no verdict"),
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn golden_histories_have_their_verdicts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/histories");
    let mut count = 0;
    for checker in children(&root).into_iter().filter(|path| path.is_dir()) {
        for expected in children(&checker) {
            for file in children(&expected) {
                let text = std::fs::read_to_string(&file).unwrap();
                let options = text
                    .lines()
                    .find_map(|line| line.strip_prefix(";; options:"))
                    .map_or(json!({}), |json| serde_json::from_str(json).unwrap());
                let loaded = interop::load(&file, None).unwrap_or_else(|e| panic!("{e}"));
                let specs = [spec(&name(&checker), options)];
                let result = sole(check_all(&loaded.history, &specs, &Budget::UNLIMITED));
                assert_eq!(
                    result.verdict,
                    verdict(&name(&expected)),
                    "{}: {}",
                    file.display(),
                    result.reason
                );
                if result.verdict == Verdict::Invalid {
                    assert!(!result.anomalies.is_empty(), "{}: no evidence", file.display());
                }
                count += 1;
            }
        }
    }
    assert!(count >= 20, "only {count} golden histories were found");
}

/// The checker and options for a model as the manifest names it.
fn checker_for(model: &str) -> Option<(&'static str, serde_json::Value)> {
    let model = model.strip_prefix("jepsen.checker/").unwrap_or(model);
    let first = model.split([' ', '(']).next().unwrap_or(model);
    Some(match first {
        "etcd" => ("linearizable", json!({"failed-cas": "observe"})),
        "cas-register" => ("linearizable", json!({})),
        "mutex" | "multi-register" => ("linearizable", json!({"model": first})),
        "long-fork" => {
            let size = model.rsplit(' ').next().and_then(|n| n.parse::<i64>().ok()).unwrap_or(2);
            ("long-fork", json!({"group-size": size}))
        }
        "set" => ("set", json!({})),
        "set-full" => ("set-full", json!({})),
        "counter" => ("counter", json!({})),
        "queue" => ("queue", json!({})),
        "total-queue" => ("total-queue", json!({})),
        "unique-ids" => ("unique-ids", json!({})),
        "list-append" => {
            // `list-append opts={:consistency-models [:a :b], :anomalies [:c]}`, `--consistency-models a`.
            let between = |name: &str| {
                let (_, rest) = model.split_once(name)?;
                let list = rest
                    .trim_start()
                    .strip_prefix('[')
                    .map_or(rest, |rest| rest.split(']').next().unwrap_or(rest));
                let list = list.split(['}', ',']).next().unwrap_or(list).trim();
                Some(if list == "nil" { "none".to_owned() } else { list.replace(' ', ",") })
            };
            let mut options = serde_json::Map::new();
            if let Some(models) = between("consistency-models") {
                options.insert("consistency-model".into(), models.into());
            }
            if let Some(anomalies) = between(":anomalies") {
                options.insert("anomalies".into(), anomalies.into());
            }
            ("list-append", options.into())
        }
        "bank" => ("bank", json!({})),
        _ => return None,
    })
}

#[test]
fn histories_of_others_have_their_verdicts() {
    let Ok(folder) = std::env::var("FUZZ_DIST_HISTORIES") else { return };
    let folder = PathBuf::from(folder);
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in manifest.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (file, model, expected) = (columns[0], columns[1], columns[2]);
        let expected = match expected.split([';', ' ']).next().unwrap_or_default() {
            "linearizable" | "valid" | "valid?=true" => Verdict::Valid,
            "not-linearizable" | "invalid" | "valid?=false" => Verdict::Invalid,
            "valid?=:unknown" => Verdict::Unknown,
            _ => continue,
        };
        let Some((checker, options)) = checker_for(model) else { continue };
        if fuzz_dist_checker::build(&spec(checker, options.clone())).is_err() {
            println!("skipped {file}: no {checker} {options}");
            continue;
        }
        match interop::load(folder.join(file), None) {
            Err(error) => println!("skipped: {error}"),
            Ok(loaded) => {
                let start = std::time::Instant::now();
                let result = check(checker, options, &loaded.history);
                count += 1;
                println!("{} {file} {:?} {}", result.verdict, start.elapsed(), result.reason);
                println!("    {line}\n    {}", result.details);
                if result.verdict != expected {
                    wrong.push(format!(
                        "{file}: {} not {expected}: {}",
                        result.verdict, result.reason
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
