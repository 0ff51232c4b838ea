//! The kept corpora of the fuzzer, replayed: what reads histories.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

#[path = "../fuzz/bodies/edn.rs"]
mod edn;
#[path = "../fuzz/bodies/fdh.rs"]
mod fdh;
#[path = "../fuzz/bodies/json.rs"]
mod json;
#[path = "../fuzz/bodies/texts.rs"]
mod texts;

/// Checks every input of a corpus; a fault names its file.
fn replay(name: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let inputs = std::fs::read_dir(&corpus).expect("the corpus is there");
    let mut count = 0;
    for input in inputs {
        let path = input.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let done = std::panic::catch_unwind(|| check(&bytes));
        assert!(done.is_ok(), "{} fails", path.display());
        count += 1;
    }
    assert!(count > 0, "{} is empty", corpus.display());
}

#[test]
fn edn_corpus() {
    replay("edn", edn::check);
}

#[test]
fn json_corpus() {
    replay("json", json::check);
}

#[test]
fn fdh_corpus() {
    replay("fdh", fdh::check);
}

#[test]
fn texts_corpus() {
    replay("texts", texts::check);
}
