//! A cycle in words and as data: its transactions, and why each precedes the next.

use fuzz_dist_core::{Anomaly, Edge, Value};

use crate::elle::cycles::{Cycle, Step};
use crate::elle::graph::{PROCESS, REALTIME, RW, WR, WW};
use crate::elle::list_order::{ListOrder, Lookup};
use crate::elle::txns::{Dialect, Mop, Txns, shown};
use crate::elle::{list_append, rw_register};

/// How many transactions of a cycle the text shows, so that it fits a screen; the others are in the data.
const STEPS_SHOWN: usize = 10;
/// How many steps have their own reason; a cycle that long is not read, and reasons take time.
const REASONS_MAX: usize = 512;
/// How many characters of a transaction are shown before it is cut down to what the cycle is about.
const CHARS_SHOWN: usize = 100;
/// Of a long list, how many elements at each end.
const ENDS_SHOWN: usize = 3;

/// The name of a kind of dependency.
pub(crate) fn kind_name(kind: u32) -> &'static str {
    match kind {
        WW => "ww",
        WR => "wr",
        RW => "rw",
        PROCESS => "process",
        _ => "realtime",
    }
}

/// Why a step is one, with names for its transactions, if there is more to say than usual.
pub type Why<'a> = &'a dyn Fn(&Step, (&str, &str)) -> Option<String>;

/// The evidence of a cycle.
pub fn anomaly(txns: &Txns, dialect: Dialect, name: &str, cycle: &Cycle) -> Anomaly {
    anomaly_with(txns, dialect, name, cycle, &|_, _| None)
}

/// The evidence of a cycle some of whose steps have reasons of their own.
pub fn anomaly_with(txns: &Txns, dialect: Dialect, name: &str, cycle: &Cycle, why: Why) -> Anomaly {
    let steps = &cycle.steps;
    let mut reasons = reasons(txns, dialect, steps);
    for (place, step) in steps.iter().enumerate().take(REASONS_MAX) {
        let names = (self::name(place, steps.len()), self::name(place + 1, steps.len()));
        if let Some(reason) = why(step, (&names.0, &names.1)) {
            reasons[place] = reason;
        }
    }
    let about: Vec<u32> = steps.iter().map(|step| step.from).collect();
    let edges = steps.iter().zip(&reasons).map(|(step, why)| Edge {
        from: txns.record(step.from),
        to: txns.record(step.to),
        kind: kind_name(step.kind).into(),
        why: why.clone(),
    });
    Anomaly {
        name: name.to_owned(),
        key: None,
        text: text(txns, steps, &reasons),
        ops: txns.records(&about),
        edges: edges.collect(),
        ..Anomaly::default()
    }
}

/// `T3`, of the transaction at a place of a cycle of `count`.
fn name(place: usize, count: usize) -> String {
    format!("T{}", place % count + 1)
}

/// The cycle in words.
fn text(txns: &Txns, steps: &[Step], reasons: &[String]) -> String {
    let count = steps.len();
    let mut text = drawing(steps);
    for (place, step) in steps.iter().enumerate().take(STEPS_SHOWN) {
        let before = &steps[(place + count - 1) % count];
        let keys: Vec<u32> =
            [before, step].iter().filter(|step| step.kind < PROCESS).map(|step| step.key).collect();
        let told = transaction(txns, step.from, &keys);
        text.push_str(&format!("  {} = {told}\n", name(place, count)));
    }
    for (place, why) in reasons.iter().enumerate().take(STEPS_SHOWN) {
        let (a, b) = (name(place, count), name(place + 1, count));
        let (begin, end) = match place + 1 == count {
            true => ("However, ", ": a contradiction!"),
            false => ("", "."),
        };
        text.push_str(&format!("  - {begin}{a} < {b}, because {why}{end}\n"));
    }
    if count > STEPS_SHOWN {
        text.push_str(&format!("  … and {} more steps\n", count - STEPS_SHOWN));
    }
    text
}

/// `T1 -ww→ T2 -rw→ T1`.
fn drawing(steps: &[Step]) -> String {
    let mut text = name(0, steps.len());
    for (place, step) in steps.iter().enumerate() {
        if place >= STEPS_SHOWN {
            return text + " … \n";
        }
        text.push_str(&format!(" -{}→ {}", kind_name(step.kind), name(place + 1, steps.len())));
    }
    text + "\n"
}

/// A transaction in one line; a long one only as far as it is about some keys.
fn transaction(txns: &Txns, txn: u32, keys: &[u32]) -> String {
    let op = &txns.history.ops()[txns.record(txn) as usize];
    let node = op.node.map(|node| format!(" on {node}")).unwrap_or_default();
    let head =
        format!("record {}, process {}{node}, {}: ", op.index, op.process, op.op_type.as_str());
    // What it says it read is not believed of one that did not end with ok.
    let mops = txns.mops_of(txn);
    let write = txns.dialect.write();
    let told = |mop: &Mop| {
        let f = if mop.is_write() { write } else { "r" };
        format!("[:{f} {} {}]", txns.key(mop.key()), abridged(mop.value))
    };
    let all: Vec<String> = mops.iter().map(told).collect();
    let all = all.join(" ");
    if all.chars().count() <= CHARS_SHOWN {
        return format!("{head}[{all}]");
    }
    let about: Vec<String> =
        mops.iter().filter(|mop| keys.contains(&mop.key())).take(STEPS_SHOWN).map(told).collect();
    format!("{head}[… {} …] of {} reads and writes", about.join(" "), mops.len())
}

/// A value; of a long list, both ends.
fn abridged(value: &Value) -> String {
    let items = match value.items() {
        Some(items) if items.len() > 3 * ENDS_SHOWN => items,
        _ => return shown(value),
    };
    let join = |items: &[Value]| items.iter().map(shown).collect::<Vec<_>>().join(" ");
    let (begin, end) = (&items[..ENDS_SHOWN], &items[items.len() - ENDS_SHOWN..]);
    format!("[{} … {}] ({} elements)", join(begin), join(end), items.len())
}

/// Why each step of a cycle is one. Those of a key are told together, since its order has to be known again.
fn reasons(txns: &Txns, dialect: Dialect, steps: &[Step]) -> Vec<String> {
    let general = |step: &Step| match step.kind {
        PROCESS | REALTIME => "of time".to_owned(),
        _ => format!("of the versions of {}", txns.key(step.key)),
    };
    let mut reasons: Vec<String> = steps.iter().map(general).collect();
    let mut places: Vec<usize> = (0..steps.len().min(REASONS_MAX)).collect();
    places.sort_by_key(|place| (steps[*place].kind >= PROCESS, steps[*place].key));
    let mut lookup = Lookup::default();
    let same = |a: &usize, b: &usize| {
        steps[*a].key == steps[*b].key && (steps[*a].kind >= PROCESS) == (steps[*b].kind >= PROCESS)
    };
    for group in places.chunk_by(same) {
        let first = &steps[group[0]];
        let order = match dialect {
            Dialect::ListAppend if first.kind < PROCESS => {
                ListOrder::new(txns, first.key, &mut lookup).ok()
            }
            _ => None,
        };
        for &place in group {
            let step = &steps[place];
            let names = (name(place, steps.len()), name(place + 1, steps.len()));
            let names = (names.0.as_str(), names.1.as_str());
            let why = match (step.kind, &order) {
                (PROCESS | REALTIME, _) => Some(in_time(txns, step, names)),
                (_, Some(order)) => list_append::explain(txns, order, &lookup, step, names),
                (_, None) => rw_register::explain(txns, step, names),
            };
            if let Some(why) = why {
                reasons[place] = why;
            }
        }
    }
    reasons
}

fn in_time(txns: &Txns, step: &Step, (a, b): (&str, &str)) -> String {
    let ops = txns.history.ops();
    let done = txns.record(step.from);
    if step.kind == PROCESS {
        return format!("process {} performed {a} before {b}", ops[done as usize].process);
    }
    let begun = txns.list[step.to as usize].invoke;
    let span = match ops[begun as usize].time_ns - ops[done as usize].time_ns {
        span_ns @ 1.. => format!(" {:.3} seconds", span_ns as f64 / 1e9),
        _ => String::new(),
    };
    format!("{a} completed at record {done},{span} before the invocation of {b}, at record {begun}")
}
