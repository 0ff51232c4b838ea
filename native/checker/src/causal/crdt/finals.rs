//! Which reads are final: those by which convergence is judged.
//!
//! Reads marked with the extra key `:final? true` (on either record), or of the function `final-read`. In a
//! history without any, the last read that succeeded of each node (of each process, where nodes are not
//! recorded), if it was invoked after every write had ended, and if there are two of them or more. A node that took part and has none leaves
//! convergence open. Whatever does not converge *later* than these reads is not seen, and what ended with info
//! may still take effect between two of them: that is divergence too, as in Jepsen's suites.

use std::collections::BTreeMap;

use fuzz_dist_core::{History, Op, OpType, Value};

/// The final reads of a history.
#[derive(Debug, Default)]
pub struct Finals {
    /// Positions of their invocations, in order.
    pub reads: Vec<u32>,
    /// How they were chosen, in words.
    pub how: &'static str,
    /// Nodes that took part and have none.
    pub missing: Vec<String>,
    /// Those that were invoked after the last write had succeeded, and so have to agree.
    pub settled: Vec<u32>,
}

/// Finds them; `reads` says whether an operation that succeeded is one that only reads.
pub fn find(history: &History, reads: impl Fn(&Op) -> bool) -> Finals {
    let is_final = |op: &Op| op.extra("final?") == Some(&Value::Bool(true)) || op.f == "final-read";
    let (mut marked, mut last) = (Vec::new(), BTreeMap::new());
    let mut nodes: BTreeMap<String, bool> = BTreeMap::new();
    // Ends of writes: of those that succeeded, and of any.
    let (mut ok_end, mut any_end) = (0, 0);
    for (invoke, done) in crate::budget::client_pairs(history) {
        let node = done.and_then(|done| done.node).or(invoke.node);
        let node = node.map(|node| node.as_str().to_owned());
        nodes.extend(node.clone().map(|node| (node, false)));
        let outcome = done.map_or(OpType::Info, |done| done.op_type);
        let ok = done.filter(|_| outcome == OpType::Ok);
        match ok.filter(|ok| reads(ok)) {
            Some(ok) => {
                let place = node.unwrap_or_else(|| format!("process {}", invoke.process));
                if is_final(invoke) || is_final(ok) {
                    marked.push((invoke.index as u32, place));
                } else {
                    last.insert(place, invoke.index as u32);
                }
            }
            None if outcome != OpType::Fail && !reads(invoke) => {
                let end = done.map_or(invoke.index, |done| done.index) as u32;
                any_end = any_end.max(end);
                ok_end = ok_end.max(ok.map_or(0, |_| end));
            }
            None => {}
        }
    }
    let (chosen, how) = if marked.is_empty() {
        let after = last.into_iter().filter(|(_, read)| *read > any_end);
        let mut after: Vec<(String, u32)> = after.collect();
        if after.len() < 2 {
            after.clear();
        }
        let how = match nodes.is_empty() {
            true => "the last read of each process, after all writes",
            false => "the last read of each node, after all writes",
        };
        (after.into_iter().map(|(place, read)| (read, place)).collect::<Vec<_>>(), how)
    } else {
        (marked, "reads marked as final")
    };
    for (_, place) in &chosen {
        nodes.entry(place.clone()).and_modify(|read| *read = true);
    }
    let mut reads: Vec<u32> = chosen.iter().map(|(read, _)| *read).collect();
    reads.sort_unstable();
    let settled = reads.iter().copied().filter(|read| *read > ok_end).collect();
    let missing = nodes.into_iter().filter(|(_, read)| !read).map(|(node, _)| node).collect();
    Finals { reads, how, missing, settled }
}

impl Finals {
    /// Why convergence was not tested, if it was not.
    pub fn open(&self) -> Option<String> {
        if self.reads.is_empty() {
            return Some("there is no final read, so convergence was not tested".to_owned());
        }
        if !self.missing.is_empty() {
            return Some(format!("no final read succeeded on {}", self.missing.join(", ")));
        }
        self.settled.is_empty().then(|| {
            "every final read began before the last write ended, so convergence was not tested"
                .to_owned()
        })
    }
}
