//! Nodes that ended by themselves: what the results of a run say of them.
//!
//! A crash that no fault has asked for is a finding, whatever the checkers say, and whether or not the watchdog has
//! started the node again.

use std::collections::BTreeMap;

use fuzz_dist_core::{History, Op, Value};

/// What happened to a node, as far as nobody had asked for it.
#[derive(Debug, Default)]
struct Crashes {
    /// When it ended, and how.
    ends: Vec<(i64, String)>,
    restarts: usize,
    given_up: bool,
}

/// A line for each node that ended by itself.
pub fn notes(history: &History) -> Vec<String> {
    let mut all: BTreeMap<String, Crashes> = BTreeMap::new();
    for op in history.ops().iter().filter(|op| !op.is_client()) {
        let Some(node) = op.node else { continue };
        let crashes = || node.as_str().to_owned();
        match op.f.as_str() {
            "node-exited" if op.value.get("asked") == Some(&Value::Bool(false)) => {
                all.entry(crashes()).or_default().ends.push((op.time_ns, how(op)));
            }
            "node-restarted" => all.entry(crashes()).or_default().restarts += 1,
            "node-given-up" => all.entry(crashes()).or_default().given_up = true,
            _ => {}
        }
    }
    all.iter().filter_map(|(node, crashes)| note(node, crashes)).collect()
}

fn note(node: &str, crashes: &Crashes) -> Option<String> {
    let (first_ns, reason) = crashes.ends.first()?;
    let count = match crashes.ends.len() {
        1 => String::new(),
        count => format!(" {count} times, first"),
    };
    let mut text =
        format!("{node} ended by itself{count} at {:.1} s ({reason})", *first_ns as f64 / 1e9);
    match (crashes.restarts, crashes.given_up) {
        (0, false) => {
            text += "; with cluster.restart_crashed = true it would have been started again"
        }
        (1, false) => text += " and was started again",
        (restarts, false) => text += &format!(" and was started again {restarts} times"),
        (restarts, true) => {
            text += &format!(" and was given up after {restarts} restarts in a row")
        }
    }
    Some(text)
}

fn how(op: &Op) -> String {
    let number = |key: &str| op.value.get(key).and_then(Value::as_int);
    match (number("status"), number("signal")) {
        (Some(status), _) => format!("exit status {status}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "nobody knows how".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::recorder::map;
    use fuzz_dist_core::{OpType, Process, Sym};

    fn record(index: u64, f: &str, node: &str, value: Value) -> Op {
        let time_ns = index as i64 * 1_000_000_000;
        let mut op = Op::new(time_ns, Process::observer(), OpType::Info, Sym::new(f), value);
        (op.index, op.node) = (index, Some(Sym::new(node)));
        op
    }

    fn exit(asked: bool) -> Value {
        map([("status", Value::Int(3)), ("signal", Value::Nil), ("asked", Value::Bool(asked))])
    }

    #[test]
    fn crashes_are_told_and_ends_that_were_asked_for_are_not() {
        let ops = vec![
            record(0, "node-exited", "n1", exit(true)),
            record(1, "node-exited", "n2", exit(false)),
            record(2, "node-exited", "n3", exit(false)),
            record(3, "node-restarted", "n3", Value::Nil),
            record(4, "node-exited", "n3", exit(false)),
            record(5, "node-given-up", "n3", Value::Nil),
            // As histories had it before.
            record(6, "node-exited", "n1", map([("status", Value::Int(1))])),
        ];
        let told = notes(&History::new(ops).unwrap());
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].starts_with("n2 ended by itself at 1.0 s (exit status 3); with"),
            "{told:?}"
        );
        let given_up =
            "n3 ended by itself 2 times, first at 2.0 s (exit status 3) and was given up after 1";
        assert!(told[1].starts_with(given_up), "{told:?}");
    }
}
