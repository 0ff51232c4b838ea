//! The kept corpora of the fuzzer, replayed: messages of agents and workers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

#[path = "../../core/fuzz/bodies/agent.rs"]
mod agent;

/// Checks every input of a corpus; a fault names its file.
fn replay(name: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/fuzz/corpus").join(name);
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
fn agent_corpus() {
    replay("agent", agent::check);
}
