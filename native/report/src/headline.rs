//! The verdict in one line for people: what happened, and which fault was there, before the checker's words.
//!
//! "n1 read 0 from key 0 after n3 had acknowledged 1, while n1 was cut off from n2, n3 (#1)" says what a
//! reader can act on; "not linearizable: read 0 (record 1072) fits nowhere" says what was proved. All parts
//! come from the smallest counter-example, and where it has none of them the checker's words stand alone.

use fuzz_dist_core::{CheckResult, History, OpType, Verdict, text};

use crate::analyse::{FaultWindow, Summary};
use crate::evidence::{CounterExample, Operation, counter_examples};
use crate::text::seconds;

/// Longest value in the line.
const VALUE_CHAR_COUNT_MAX: usize = 40;
/// Kinds of faults that part nodes.
const CUTS: [&str; 4] = ["hold", "drop", "net-drop", "disconnect"];

/// Puts what happened before what was proved, in the reason of the whole and of the part that found it.
pub fn retell(history: &History, result: &mut CheckResult, summary: &Summary) {
    if result.verdict != Verdict::Invalid {
        return;
    }
    let Some(example) = counter_examples(history, result, summary, 1).pop() else { return };
    let Some(told) = headline(&example, summary) else { return };
    let before = |reason: &str| text::reason(&format!("{told}; {reason}"));
    result.reason = before(&result.reason);
    let name = example.checker.split(" / ").next().unwrap_or_default().to_owned();
    for part in result.parts.iter_mut().filter(|part| part.checker == name) {
        part.reason = before(&part.reason);
    }
}

/// What happened, if it is of a kind that can be told.
fn headline(example: &CounterExample, summary: &Summary) -> Option<String> {
    let (what, about) = match example.checker.rsplit(" / ").next()?.split(' ').next()? {
        "linearizable" => of_register(example)?,
        "set" | "set-full" | "final-reads" | "or-set" => of_element(example)?,
        _ => return None,
    };
    let during = fault(about, example, summary).unwrap_or_default();
    Some(format!("{what}{during}"))
}

fn who(op: &Operation) -> String {
    match &op.node {
        Some(node) => node.clone(),
        None => format!("process {}", op.process),
    }
}

fn short(value: &str) -> String {
    text::line(value, VALUE_CHAR_COUNT_MAX)
}

fn is_ok(op: &Operation) -> bool {
    op.op_type == Some(OpType::Ok)
}

/// What a write left behind, and what a cas did.
fn written(op: &Operation) -> Option<String> {
    match op.f.as_str() {
        "write" => Some(op.argument.clone()),
        "cas" => {
            let pair = op.argument.trim_start_matches(['[', '{']).trim_end_matches([']', '}']);
            Some(pair.split_whitespace().nth(1)?.to_owned())
        }
        _ => None,
    }
}

/// A read of a register that fits nowhere: after which write it came, or that nobody had written it.
fn of_register(example: &CounterExample) -> Option<(String, &Operation)> {
    let reads = example.ops.iter().filter(|op| op.f == "read" && is_ok(op));
    let read = reads.max_by_key(|op| op.end_ns)?;
    let seen = read.result.as_deref()?;
    let from = match (&example.key, example.keyed) {
        (Some(key), true) => format!(" from key {}", short(key)),
        _ => String::new(),
    };
    let what = format!("{} read {}{from}", who(read), short(seen));
    let writers = || example.ops.iter().chain(&example.context);
    if seen != "nil" && !writers().any(|op| written(op).as_deref() == Some(seen)) {
        return None;
    }
    // The last write that was acknowledged before: what a reader expects to see.
    let before = example
        .ops
        .iter()
        .filter(|op| is_ok(op) && op.end_ns.is_some_and(|end| end < read.start_ns))
        .filter_map(|op| Some((op, written(op)?)))
        .max_by_key(|(op, _)| op.end_ns);
    if let Some((write, value)) = before
        && value != seen
    {
        let value = short(&value);
        return Some((format!("{what} after {} had acknowledged {value}", who(write)), read));
    }
    // Or what somebody had read before.
    let earlier = example
        .ops
        .iter()
        .filter(|op| op.f == "read" && is_ok(op))
        .filter(|op| op.end_ns.is_some_and(|end| end < read.start_ns))
        .max_by_key(|op| op.end_ns)?;
    let value = earlier.result.as_deref().filter(|value| *value != seen)?;
    Some((format!("{what} after {} had read {}", who(earlier), short(value)), read))
}

/// An element that a read lacks though its add was acknowledged.
fn of_element(example: &CounterExample) -> Option<(String, &Operation)> {
    if !["lost", "missing"].contains(&example.name.as_str()) {
        return None;
    }
    let element = short(example.key.as_deref()?);
    let is_add = |op: &&Operation| matches!(op.f.as_str(), "add" | "join") && is_ok(op);
    let add = example.ops.iter().find(is_add)?;
    let read = example
        .ops
        .iter()
        .filter(|op| !matches!(op.f.as_str(), "add" | "join" | "remove" | "leave"));
    let read = read.max_by_key(|op| op.start_ns)?;
    let what = format!("{}'s read lacks {element}, which {} had acknowledged", who(read), who(add));
    Some((what, add))
}

/// `, while n1 was cut off from n2, n3 (#1)`, `, during #3 pause n2`, or how long after the last heal.
fn fault(about: &Operation, example: &CounterExample, summary: &Summary) -> Option<String> {
    let end_ns = about.end_ns.unwrap_or(about.start_ns);
    let active = |fault: &&FaultWindow| {
        example.faults.contains(&fault.id)
            && fault
                .span(summary.end_ns)
                .is_some_and(|(from, to)| from <= end_ns && about.start_ns <= to)
    };
    let faults: Vec<&FaultWindow> = summary.faults.iter().filter(active).collect();
    let node = about.node.as_deref();
    let cut = faults.iter().find_map(|fault| {
        let others = node.and_then(|node| cut_off(fault, node))?;
        Some((others, fault.id))
    });
    if let Some((others, id)) = cut {
        return Some(format!(", while {} was cut off from {others} (#{id})", node?));
    }
    if let Some(fault) = faults.first() {
        return Some(format!(", during {}", fault.title()));
    }
    let healed = |fault: &FaultWindow| {
        let (_, to) = fault.span(summary.end_ns).filter(|(_, to)| *to < about.start_ns)?;
        Some((to, format!("{} was healed", fault.title())))
    };
    let named = summary.faults.iter().filter(|fault| example.faults.contains(&fault.id));
    let (to, fault) = named.filter_map(healed).max()?;
    Some(format!(", {} s after {fault}", seconds(about.start_ns - to)))
}

/// Whom a fault cuts a node off from, if it parts nodes.
fn cut_off(fault: &FaultWindow, node: &str) -> Option<String> {
    if !CUTS.contains(&fault.kind.as_str()) {
        return None;
    }
    let parts = fault.scope.split_once(" | ").or_else(|| fault.scope.split_once(" ↔ "));
    let (left, right) = parts?;
    let side = |text: &str| -> Vec<String> {
        text.split([' ', ',']).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let (left, right) = (side(left), side(right));
    let is_in = |side: &[String]| side.iter().any(|name| name == node);
    match (is_in(&left), is_in(&right)) {
        (true, false) => Some(right.join(", ")),
        (false, true) => Some(left.join(", ")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz_dist_core::fault::FaultSchedule;
    use fuzz_dist_core::{Anomaly, interop};

    fn told(history: &str, checker: &str, name: &str, key: Option<&str>, ops: &[u64]) -> String {
        let history = interop::load_bytes("h", history.as_bytes(), None).unwrap().history;
        let schedule = FaultSchedule {
            version: 1,
            seed: 0,
            nodes: ["n1", "n2", "n3"].map(str::to_owned).into(),
            boundaries: Vec::new(),
            eras: Vec::new(),
            faults: Vec::new(),
        };
        let anomaly = Anomaly {
            name: name.into(),
            key: key.map(str::to_owned),
            text: "proof".into(),
            ops: ops.to_vec(),
            ..Anomaly::default()
        };
        let part = CheckResult {
            anomalies: vec![anomaly],
            ..CheckResult::new(checker, Verdict::Invalid, "the checker's words")
        };
        let mut all = CheckResult::new("all", Verdict::Invalid, format!("{checker}: its words"));
        all.parts = vec![part];
        retell(&history, &mut all, &super::super::analyse(&history, &schedule));
        assert!(all.parts[0].reason.ends_with("the checker's words"));
        all.reason
    }

    const CUT: &str = r#"
{:process :nemesis, :type :info, :f :fault-start, :value {:id 1, :kind "hold", :links [["n1" "n2"] ["n2" "n1"] ["n1" "n3"] ["n3" "n1"]]}, :time 0}
{:process :nemesis, :type :info, :f :fault-applied, :value {:id 1, :kind "hold"}, :time 1}
"#;

    fn op(process: u8, node: &str, op_type: &str, f: &str, value: &str, time: u64) -> String {
        format!(
            "{{:process {process}, :node \"{node}\", :type :{op_type}, :f :{f}, :value {value}, :time {time}}}\n"
        )
    }

    #[test]
    fn a_stale_read_names_the_write_and_the_cut() {
        let ops = [
            op(0, "n3", "invoke", "write", "[0 1]", 10),
            op(0, "n3", "ok", "write", "[0 1]", 20),
            op(1, "n1", "invoke", "read", "[0 nil]", 30),
            op(1, "n1", "ok", "read", "[0 0]", 40),
        ]
        .concat();
        let before =
            [op(2, "n1", "invoke", "write", "[0 0]", 2), op(2, "n1", "ok", "write", "[0 0]", 3)]
                .concat();
        let history = format!("{CUT}{before}{ops}");
        let line =
            told(&history, "linearizable", "nonlinearizable", Some("0"), &[2, 3, 4, 5, 6, 7]);
        assert_eq!(
            line,
            "n1 read 0 from key 0 after n3 had acknowledged 1, while n1 was cut off from n2, n3 (#1); \
             linearizable: its words"
        );
    }

    #[test]
    fn a_lost_element_names_who_had_it_acknowledged() {
        let history = [
            op(0, "n2", "invoke", "add", "36", 10),
            op(0, "n2", "ok", "add", "36", 20),
            op(1, "n3", "invoke", "read", "nil", 30),
            op(1, "n3", "ok", "read", "[]", 40),
        ]
        .concat();
        let line = told(&history, "set-full", "lost", Some("36"), &[0, 1, 2, 3]);
        assert!(line.starts_with("n3's read lacks 36, which n2 had acknowledged; "), "{line}");
    }

    #[test]
    fn hostile_values_stay_in_one_line() {
        let history = [
            op(0, "n2", "invoke", "write", "1", 10),
            op(0, "n2", "ok", "write", "1", 20),
            op(2, "n2", "invoke", "write", "\"a\u{1b}[2J\\nb\"", 21),
            op(1, "n3", "invoke", "read", "nil", 30),
            op(1, "n3", "ok", "read", "\"a\u{1b}[2J\\nb\"", 40),
        ]
        .concat();
        let line = told(&history, "linearizable", "nonlinearizable", None, &[0, 1, 3, 4]);
        assert!(line.starts_with("n3 read ") && !line.chars().any(text::steers), "{line:?}");
    }
}
