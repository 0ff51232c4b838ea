//! The run of this module's parent with clocks: n1 jumps by an hour and its VM follows at once, n2 flickers and its VM
//! does not follow, n3 drifts.

use super::*;

/// As the clock plane records them, every 50 ms.
fn clock_records() -> Vec<Op> {
    const MS: i64 = 1_000_000;
    let mut ops = Vec::new();
    let mut on = |time_ns: u64, node: &str, f: &str, fields: Vec<(&str, Value)>| {
        let mut op = record(time_ns, Process::observer(), f, map(fields));
        op.node = Some(Sym::new(node));
        ops.push(op);
    };
    for node in ["n1", "n2", "n3"] {
        let mode = if node == "n1" { "multi_time_warp" } else { "no_time_warp" };
        on(SECOND, node, "clock-service", vec![("time-warp-mode", Value::sym(mode))]);
    }
    for step in 20..780u64 {
        let at_ns = step * 50_000_000;
        let within = |from_s: u64, to_s: u64| (from_s * SECOND..to_s * SECOND).contains(&at_ns);
        let n1 = if within(5, 12) { 3_600_000 * MS } else { 0 };
        let n1_vm = if within(8, 20) { 3_600_000 * MS } else { 0 };
        let n2 = if within(15, 22) && step % 4 < 2 { -5_000 * MS } else { 0 };
        let n3 = if within(25, 35) { (step as i64 - 500) * MS } else { 0 };
        for (node, offset_ns, vm_ns) in [("n1", n1, n1_vm), ("n2", n2, 0), ("n3", n3, n3 / 2)] {
            let fields = vec![
                ("offset-ns", Value::Int(offset_ns)),
                ("system-time-offset-ns", Value::Int(vm_ns)),
                ("time-offset-ns", Value::Int(7 + if node == "n1" { n1_vm } else { 0 })),
            ];
            on(at_ns, node, "clock-offset", fields);
        }
    }
    for (at_s, offset_ns) in [(8, 3_600_000 * MS + 7), (20, 7)] {
        on(at_s * SECOND, "n1", "time-offset", vec![("offset_ns", Value::Int(offset_ns))]);
    }
    ops
}

pub fn run_with_clocks(operation_count: u64) -> Run {
    let mut run = run(operation_count);
    let mut ops: Vec<Op> = run.history.ops().to_vec();
    ops.extend(clock_records());
    ops.sort_by_key(|op| op.time_ns);
    run.history = History::new(ops).unwrap();
    run.result.parts.iter_mut().for_each(|part| part.anomalies.clear());
    run
}
