//! A cycle in words: its transactions, and why each precedes the next.

use fuzz_dist_core::Anomaly;
use serde_json::{Value as Json, json};

use crate::elle::cycles::{Cycle, Step};
use crate::elle::graph::{PROCESS, REALTIME, RW, WR, WW};
use crate::elle::txns::{Dialect, Txns, shown};
use crate::elle::{list_append, rw_register};

/// The name of a kind of dependency.
fn kind_name(kind: u32) -> &'static str {
    match kind {
        WW => "ww",
        WR => "wr",
        RW => "rw",
        PROCESS => "process",
        _ => "realtime",
    }
}

/// How many transactions of a cycle are shown; the others are in the data.
const STEPS_SHOWN: usize = 24;

/// The evidence of a cycle, for people.
pub fn anomaly(txns: &Txns, dialect: Dialect, name: &str, cycle: &Cycle) -> Anomaly {
    let steps = &cycle.steps;
    let names: Vec<String> = (1..=steps.len()).map(|n| format!("T{n}")).collect();
    let mut text = drawing(steps, &names);
    for (step, name) in steps.iter().zip(&names).take(STEPS_SHOWN) {
        text.push_str(&format!("  {name} = {}\n", transaction(txns, step.from)));
    }
    for (i, step) in steps.iter().enumerate().take(STEPS_SHOWN) {
        let last = i + 1 == steps.len();
        let (a, b) = (&names[i], &names[(i + 1) % names.len()]);
        let why = why(txns, dialect, step, (a, b));
        let (begin, end) = if last { ("However, ", ": a contradiction!") } else { ("", ".") };
        text.push_str(&format!("  - {begin}{a} < {b}, because {why}{end}\n"));
    }
    if steps.len() > STEPS_SHOWN {
        text.push_str(&format!("  … and {} more steps\n", steps.len() - STEPS_SHOWN));
    }
    let about: Vec<u32> = steps.iter().map(|step| step.from).collect();
    Anomaly {
        name: name.to_owned(),
        key: None,
        text,
        ops: txns.records(&about),
        ..Anomaly::default()
    }
}

/// `T1 -ww→ T2 -rw→ T1`.
fn drawing(steps: &[Step], names: &[String]) -> String {
    let mut text = names[0].clone();
    for (i, step) in steps.iter().enumerate() {
        if i >= STEPS_SHOWN {
            return text + " … \n";
        }
        text.push_str(&format!(" -{}→ {}", kind_name(step.kind), names[(i + 1) % names.len()]));
    }
    text + "\n"
}

fn transaction(txns: &Txns, txn: u32) -> String {
    let op = &txns.history.ops()[txns.record(txn) as usize];
    let node = op.node.map(|node| format!(" on {node}")).unwrap_or_default();
    format!(
        "record {}, process {}{node}, {}: {}",
        op.index,
        op.process,
        op.op_type.as_str(),
        shown(&op.value)
    )
}

fn why(txns: &Txns, dialect: Dialect, step: &Step, names: (&str, &str)) -> String {
    let (a, b) = names;
    let ops = txns.history.ops();
    match step.kind {
        PROCESS => {
            let process = ops[txns.record(step.from) as usize].process;
            return format!("process {process} performed {a} before {b}");
        }
        REALTIME => {
            let done = txns.record(step.from);
            let begun = txns.list[step.to as usize].invoke;
            let span_ns = ops[begun as usize].time_ns - ops[done as usize].time_ns;
            let span = match span_ns {
                1.. => format!(" {:.3} seconds", span_ns as f64 / 1e9),
                _ => String::new(),
            };
            return format!(
                "{a} completed at record {done},{span} before the invocation of {b}, at record {begun}"
            );
        }
        _ => {}
    }
    let explained = match dialect {
        Dialect::ListAppend => {
            list_append::explain(txns, step.from, step.to, step.kind, step.key, names)
        }
        Dialect::RwRegister => {
            rw_register::explain(txns, step.from, step.to, step.kind, step.key, names)
        }
    };
    explained.unwrap_or_else(|| format!("of the versions of {}", txns.key(step.key)))
}

/// The cycle as data, for drawing.
pub fn data(txns: &Txns, dialect: Dialect, name: &str, cycle: &Cycle) -> Json {
    let count = cycle.steps.len();
    let names: Vec<String> = (1..=count).map(|n| format!("T{n}")).collect();
    let steps: Vec<Json> = cycle
        .steps
        .iter()
        .enumerate()
        .take(STEPS_SHOWN)
        .map(|(i, step)| {
            let pair = (names[i].as_str(), names[(i + 1) % count].as_str());
            let key = match step.kind {
                PROCESS | REALTIME => Json::Null,
                _ => txns.key(step.key).to_string().into(),
            };
            json!({
                "from": txns.record(step.from),
                "to": txns.record(step.to),
                "kind": kind_name(step.kind),
                "key": key,
                "why": why(txns, dialect, step, pair),
            })
        })
        .collect();
    json!({ "name": name, "length": count, "steps": steps })
}
