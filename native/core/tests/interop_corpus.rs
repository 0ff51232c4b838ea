//! Histories of others: each is read, with as many operations as it has.
//!
//! With `FUZZ_DIST_HISTORIES` naming a folder with a `MANIFEST.tsv` (file, model, verdict), every file that it
//! names is read. Without it nothing is: the corpus is not ours to keep.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use fuzz_dist_core::interop::{Format, load};

/// How many invocations the text of a format shows by other means than reading it.
fn invocations_shown(text: &str, format: Format) -> Option<usize> {
    let count = |part: &str| text.matches(part).count();
    let lines = |is: fn(&str) -> bool| text.lines().filter(|line| is(line)).count();
    Some(match format {
        // Records of the nemesis are `:info`; a process of its own invokes none.
        Format::Edn => match (count(":invoke"), count(":nemesis")) {
            (0, 0) => count(":ok") + count(":fail") + count(":type :info"),
            (invoked, _) => invoked,
        },
        Format::Json => count("\"type\":\"invoke\""),
        Format::JepsenLog => lines(|line| line.contains(":invoke")),
        Format::Dbcop => count("]"),
        Format::Plume => {
            let mut txns: Vec<&str> =
                text.lines().filter_map(|line| line.rsplit(',').next()).collect();
            txns.sort_unstable();
            txns.dedup();
            txns.len()
        }
        Format::Awdit => text
            .split(['=', '-'])
            .filter(|txn| txn.lines().any(|line| line.starts_with(['r', 'w'])))
            .count(),
        Format::Fdh => return None,
    })
}

#[test]
fn every_file_of_the_corpus_is_read() {
    let Ok(folder) = std::env::var("FUZZ_DIST_HISTORIES") else { return };
    let folder = PathBuf::from(folder);
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in manifest.lines().skip(1) {
        let file = line.split('\t').next().unwrap();
        let path = folder.join(file);
        count += 1;
        let loaded = match load(&path, None) {
            Ok(loaded) => loaded,
            Err(error) => {
                wrong.push(error.to_string());
                continue;
            }
        };
        for notice in &loaded.notices {
            println!("{notice}");
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let clients = loaded.history.client_pairs().count();
        if let Some(shown) = invocations_shown(&text, loaded.format).filter(|&n| n != clients) {
            wrong.push(format!("{file}: {clients} invocations, the text shows {shown}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} histories:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 0, "{} names no histories", folder.display());
}
