//! A made-up run that looks like a real one: three nodes, registers by key, faults, `nodedown`, and one key
//! on which a read in the minority returns what the majority had already overwritten.
//!
//! Everything is drawn from a fixed seed. Used by the tests, and by the example that shows the page.

#![allow(dead_code, clippy::unwrap_used)]

pub mod clocks;

use fuzz_dist_core::fault::{
    BoundaryEdges, BoundaryRef, Fault, FaultKind, FaultSchedule, Link, LinkFault, ProcessFault,
    Resolved, Target, Zone,
};
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Process, Sym, Value, Verdict};
use fuzz_dist_report::RunInfo;

pub const SECOND: u64 = 1_000_000_000;
const KEY_COUNT: u64 = 5;

/// SplitMix64: no library, the same everywhere.
pub struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A run of `operation_count` operations on 15 processes.
pub struct Run {
    pub info: RunInfo,
    pub history: History,
    pub schedule: FaultSchedule,
    pub result: CheckResult,
}

pub fn map(pairs: Vec<(&str, Value)>) -> Value {
    Value::map(pairs.into_iter().map(|(name, value)| (Value::sym(name), value)))
}

pub fn record(time_ns: u64, process: Process, f: &str, value: Value) -> Op {
    Op::new(time_ns as i64, process, OpType::Info, Sym::new(f), value)
}

fn links(pairs: &[(&str, &str)]) -> Vec<Link> {
    let both = |(a, b): &(&str, &str)| {
        [
            Link { from: a.to_string(), to: b.to_string() },
            Link { from: b.to_string(), to: a.to_string() },
        ]
    };
    pairs.iter().flat_map(both).collect()
}

fn fault(
    id: u32,
    kind: impl Into<FaultKind>,
    target: Target,
    start_s: f64,
    length_s: f64,
) -> Fault {
    Fault {
        id,
        kind: kind.into(),
        target,
        scope: None,
        one_way: false,
        port: None,
        package: None,
        optional: false,
        after: None,
        part_of: None,
        start_ns: (start_s * 1e9) as u64,
        duration_ns: (length_s * 1e9) as u64,
        boundary: None,
        resolved: None,
    }
}

pub fn schedule() -> FaultSchedule {
    let tick = |zone| Some(BoundaryRef { name: "net-tick".into(), zone });
    let halves = Resolved { nodes: vec![], links: links(&[("n1", "n2"), ("n1", "n3")]) };
    let n1_n2 = Resolved { nodes: vec![], links: links(&[("n1", "n2")]) };
    let one = |name: &str| Some(Resolved { nodes: vec![name.into()], links: vec![] });
    let mut faults = vec![
        fault(1, LinkFault::HOLD, Target::Halves, 3.0, 1.7),
        fault(2, LinkFault::delay(80, 20), Target::One, 7.0, 3.0),
        fault(3, LinkFault::HOLD, Target::Halves, 13.0, 6.4),
        fault(4, LinkFault::Throttle { bytes_per_s: 50_000 }, Target::One, 23.0, 2.0),
        fault(5, ProcessFault::Kill, Target::One, 27.5, 3.0),
        fault(6, ProcessFault::Pause, Target::Named(vec!["n9".into()]), 33.0, 1.0),
        fault(7, LinkFault::Rst, Target::Ring, 90.0, 1.0),
    ];
    faults[0].boundary = tick(Zone::CertainlyBelow);
    faults[0].resolved = Some(halves.clone());
    faults[1].resolved = Some(n1_n2.clone());
    faults[2].boundary = tick(Zone::CertainlyAbove);
    faults[2].resolved = Some(halves);
    faults[3].resolved = Some(n1_n2);
    faults[4].resolved = one("n2");
    faults[5].resolved = one("n9");
    FaultSchedule {
        version: 1,
        seed: 8_214_565_720_323_785_205,
        nodes: ["n1", "n2", "n3"].map(String::from).to_vec(),
        boundaries: vec![BoundaryEdges {
            name: "net-tick".into(),
            certainly_below_ms: 1_900.0,
            certainly_above_ms: 5_100.0,
            source: "live node n1".into(),
        }],
        eras: vec![],
        faults,
    }
}

/// Main phase begins at 1.2 s; faults are scheduled from there.
const MAIN_S: f64 = 1.2;

fn nemesis_records(schedule: &FaultSchedule) -> Vec<Op> {
    let mut ops = Vec::new();
    let nemesis = Process::nemesis();
    for fault in &schedule.faults[..6] {
        let id = ("id", Value::Int(i64::from(fault.id)));
        let kind = ("kind", Value::sym(fault.kind.name()));
        let base = || vec![id.clone(), kind.clone()];
        let due = fault.start_ns + (MAIN_S * 1e9) as u64;
        let end = due + fault.duration_ns;
        let pairs: Vec<Value> = fault
            .resolved
            .iter()
            .flat_map(|resolved| &resolved.links)
            .map(|link| Value::list(vec![Value::str(&*link.from), Value::str(&*link.to)]))
            .collect();
        let mut push = |time_ns, f: &str, more: Vec<(&str, Value)>| {
            let mut fields = base();
            fields.extend(more);
            ops.push(record(time_ns, nemesis, f, map(fields)));
        };
        push(
            due,
            "fault-start",
            vec![("start-ms", Value::Int((fault.start_ns / 1_000_000) as i64))],
        );
        if fault.id == 6 {
            let reason = Value::str("no node n9 in this cluster: nodes are n1 n2 n3");
            push(due + 200_000, "fault-failed", vec![("reason", reason)]);
            continue;
        }
        push(due + 310_000, "fault-applied", vec![("late-us", Value::Int(310))]);
        if fault.id == 4 {
            let reason = Value::str("no more than 9 kB/s passed: the rate was never reached");
            push(end, "fault-no-effect", vec![("reason", reason)]);
        } else {
            let (effect, after_ms) = match fault.id {
                1 => ("links silent in both directions, no nodedown", 12),
                2 => ("round trips n1-n2 rose from 0.2 to 182 ms", 240),
                3 => ("nodedown on n1, n2 and n3", 4_130),
                _ => ("process of n2 gone", 3),
            };
            let evidence = map(vec![("silent-ms", Value::Int(after_ms))]);
            push(
                due + after_ms as u64 * 1_000_000,
                "fault-observed",
                vec![("effect", Value::str(effect)), ("evidence", evidence)],
            );
        }
        if fault.id == 3 {
            push(
                due + 4_200_000_000,
                "connectivity",
                vec![("requested", Value::list(pairs.clone())), ("effective", Value::list(pairs))],
            );
        }
        push(end + 200_000, "fault-healed", vec![]);
        push(
            end + 430_000_000,
            "fault-heal-observed",
            vec![("effect", Value::str("all nodes see all"))],
        );
    }
    ops
}

fn observer_records() -> Vec<Op> {
    let mut ops = Vec::new();
    let observer = Process::observer();
    let mut on = |time_s: f64, node: Option<&str>, f: &str, fields: Vec<(&str, Value)>| {
        let mut op = record((time_s * 1e9) as u64, observer, f, map(fields));
        op.node = node.map(Sym::new);
        ops.push(op);
    };
    for (time_s, name) in
        [(0.0, "setup"), (1.2, "main"), (37.2, "heal"), (37.4, "recovery"), (39.4, "final")]
    {
        on(time_s, None, "phase", vec![("name", Value::sym(name))]);
    }
    for (i, node) in ["n1", "n2", "n3"].into_iter().enumerate() {
        let pid = ("os-pid", Value::Int(4_100 + i as i64));
        on(0.1, Some(node), "node-started", vec![pid]);
        on(0.9 + i as f64 * 0.05, Some(node), "node-ready", vec![]);
    }
    let downs = [
        (18.12, "n1", "n2", "net_tick_timeout", 21.02),
        (18.12, "n2", "n1", "connection_closed", 21.03),
        (18.33, "n1", "n3", "net_tick_timeout", 21.04),
        (18.29, "n3", "n1", "net_tick_timeout", 21.05),
        (28.701, "n1", "n2", "connection_closed", 32.4),
        (28.702, "n3", "n2", "connection_closed", 32.41),
    ];
    for (down_s, node, peer, reason, up_s) in downs {
        let peer = || ("peer", Value::str(peer));
        on(down_s, Some(node), "nodedown", vec![peer(), ("reason", Value::sym(reason))]);
        on(up_s, Some(node), "nodeup", vec![peer()]);
    }
    let exit =
        vec![("os-pid", Value::Int(4_101)), ("status", Value::Nil), ("signal", Value::Int(9))];
    on(28.7, Some("n2"), "node-exited", exit);
    on(31.8, Some("n2"), "node-started", vec![("os-pid", Value::Int(4_177))]);
    on(32.3, Some("n2"), "node-ready", vec![]);
    on(24.4, Some("n1"), "busy-dist-port", vec![]);
    on(24.6, Some("n1"), "busy-dist-port", vec![]);
    on(9.1, Some("n3"), "long-gc", vec![("timeout-ms", Value::Int(61))]);
    ops
}

/// Operations of all processes with the state they would see: one register for each key, and during
/// fault 3 a second one on the side of n1.
fn client_records(operation_count: u64, draw: &mut Draw) -> Vec<(u64, Op)> {
    let end_ns = 39 * SECOND;
    let start_ns = (MAIN_S * 1e9) as u64;
    let mean_gap_ns = (end_ns - start_ns) * 15 / operation_count.max(15);
    let mut ops = Vec::with_capacity(operation_count as usize * 2);
    let mut clock: Vec<(u64, i64)> = (0..15).map(|i| (start_ns + i * 90_000, i as i64)).collect();
    let mut majority = vec![Value::Nil; KEY_COUNT as usize];
    let mut minority = majority.clone();
    let in_fault_3 = 14_200_000_000..20_900_000_000u64;
    let mut split = false;
    for written in 0..operation_count {
        let Some(next) = (0..15).min_by_key(|&i| clock[i].0) else { break };
        let (now, process) = clock[next];
        let node = ["n1", "n2", "n3"][next % 3];
        let now_split = in_fault_3.contains(&now) && now > 18_200_000_000;
        if now_split != split {
            minority.clone_from(&majority);
            split = now_split;
        }
        let key = draw.below(KEY_COUNT);
        let side = if split && node == "n1" { &mut minority } else { &mut majority };
        let slot = &mut side[key as usize];
        let new = Value::Int(written as i64 % 1_000);
        let held = in_fault_3.contains(&now) && !split && node == "n1";
        let dead = node == "n2" && (28_700_000_000..32_300_000_000).contains(&now);
        let slow = node != "n3" && (8_200_000_000..11_200_000_000).contains(&now);
        let base_ns = 150_000.0 * (1.0 / (1.0 - draw.unit() * 0.9995)).powf(0.7);
        let latency_ns = base_ns as u64
            + if slow { 80_000_000 + draw.below(20_000_000) } else { 0 }
            + if held && draw.below(3) > 0 { 2_000_000_000 } else { 0 };
        let (f, argument, outcome, result, error) = match draw.below(5) {
            0 | 1 => ("read", Value::Nil, OpType::Ok, slot.clone(), Value::Nil),
            2 | 3 => {
                *slot = new.clone();
                ("write", new.clone(), OpType::Ok, new, Value::Nil)
            }
            _ => {
                let expected = if draw.below(2) == 0 { slot.clone() } else { Value::Int(-1) };
                let pair = Value::list(vec![expected.clone(), new.clone()]);
                if expected == *slot {
                    *slot = new;
                    ("cas", pair.clone(), OpType::Ok, pair, Value::Nil)
                } else {
                    ("cas", pair.clone(), OpType::Fail, pair, Value::sym("precondition"))
                }
            }
        };
        let (outcome, error) = match (dead, latency_ns > 2_000_000_000) {
            (true, _) => (
                OpType::Fail,
                Value::tuple(vec![Value::sym("no_client"), Value::sym("econnrefused")]),
            ),
            (_, true) => (OpType::Info, Value::sym("timeout")),
            _ => (outcome, error),
        };
        let latency_ns = if outcome == OpType::Info { 2_000_000_000 } else { latency_ns };
        let keyed = |value| Value::tuple(vec![Value::Int(key as i64), value]);
        let record = |time_ns: u64, op_type, value, error| {
            let mut op = Op::new(
                time_ns as i64,
                Process::Client(process),
                op_type,
                Sym::new(f),
                keyed(value),
            );
            op.node = Some(Sym::new(node));
            op.error = error;
            op
        };
        let done_ns = now + latency_ns;
        ops.push((now, record(now, OpType::Invoke, argument.clone(), Value::Nil)));
        let value = if outcome == OpType::Ok { result } else { argument };
        ops.push((done_ns, record(done_ns, outcome, value, error)));
        let gap = (mean_gap_ns as f64 * -(1.0 - draw.unit()).ln()) as u64;
        let process = if outcome == OpType::Info { process + 15 } else { process };
        clock[next] = (done_ns + gap.saturating_sub(latency_ns) + 1_000, process);
    }
    ops
}

pub fn run(operation_count: u64) -> Run {
    let schedule = schedule();
    let mut draw = Draw(7);
    let mut ops = client_records(operation_count, &mut draw);
    let observed = nemesis_records(&schedule).into_iter().chain(observer_records());
    ops.extend(observed.map(|op| (op.time_ns as u64, op)));
    ops.sort_by_key(|(time_ns, _)| *time_ns);
    let history = History::new(ops.into_iter().map(|(_, op)| op).collect()).unwrap();
    let result = result(&history);
    let info = RunInfo {
        name: "mnesia-register".into(),
        run_id: "20261120T115401.123Z".into(),
        seed: schedule.seed,
        workload: "register".into(),
        placement: "node".into(),
        nodes: schedule.nodes.clone(),
        concurrency: 15,
        started_wall_ns: 1_795_175_641_123_000_000,
        duration_ns: 41 * SECOND,
        spec_toml: "name = \"mnesia-register\"\nseed = 8214565720323785205\nnodes = 3\nconcurrency = 15\n\
                    time_limit_s = 36.0\n\n[cluster]\nnet_ticktime_s = 4\n\n[client]\nmodule = \"Bank.Register\"\n\n\
                    [workload]\nname = \"register\"\n\n[[nemesis.faults]]\nkind = \"hold\"\n\
                    targets = [\"halves\"]\nzones = [\"certainly-above\"]\n"
            .into(),
        replay_command: "fuzz_dist replay store/mnesia-register/20261120T115401.123Z".into(),
        capabilities: vec!["link plane: distribution and named ports".into()],
        notes: vec!["Schedule drawn from the seed.".into()],
        versions: [("fuzz_dist", "0.1.0"), ("otp", "25"), ("elixir", "1.14")]
            .map(|(name, version)| (name.to_string(), version.to_string()))
            .into(),
        tested: Some(fuzz_dist_report::Tested {
            git: Some(fuzz_dist_report::Git { revision: "0123456789abcdef".into(), changed_files: 2 }),
            nodes: [("n1".to_owned(), code()), ("n2".to_owned(), code())].into(),
        }),
        prevent_overlapping_partitions: false,
        boundaries: schedule.boundaries.clone(),
        interrupted: None,
        torn: None,
    };
    Run { info, history, schedule, result }
}

fn code() -> fuzz_dist_report::Code {
    let applications = [("bank".to_owned(), "00112233445566778899aabbccddeeff".to_owned())].into();
    fuzz_dist_report::Code { digest: "0011223344556677".into(), applications }
}

/// A stale read on the side of n1, found by looking for what the generator planted: a write that
/// completed on the majority, then a read that begins later on n1 and still returns the older value.
fn stale_read(history: &History) -> Option<(i64, Vec<u64>)> {
    let key_of = |op: &Op| op.value.key_and_value().and_then(|(key, _)| key.as_int());
    let value_of = |op: &Op| op.value.key_and_value().map(|(_, value)| value.clone());
    let ok: Vec<(usize, &Op, &Op)> = (0..history.len())
        .filter(|&i| history.ops()[i].op_type == OpType::Invoke)
        .filter_map(|i| Some((i, &history.ops()[i], history.completion(i)?)))
        .filter(|(_, _, done)| done.op_type == OpType::Ok)
        .filter(|(_, invoked, _)| (13 * SECOND..21 * SECOND).contains(&(invoked.time_ns as u64)))
        .collect();
    let stale = |(read_at, read, read_done): &(usize, &Op, &Op)| {
        let key = key_of(read)?;
        let of_key = |f: &'static str| {
            ok.iter().filter(move |(_, invoked, done)| {
                invoked.f.as_str() == f
                    && key_of(invoked) == Some(key)
                    && done.time_ns < read.time_ns
            })
        };
        let old = of_key("write").rfind(|(_, _, done)| value_of(done) == value_of(read_done))?;
        let new = of_key("write").rfind(|(_, invoked, _)| {
            invoked.node != Some(Sym::new("n1")) && invoked.time_ns > old.2.time_ns
        })?;
        let witness = of_key("read").rfind(|(_, invoked, done)| {
            invoked.time_ns > new.2.time_ns && value_of(done) == value_of(new.2)
        });
        let mut ops = vec![old.0 as u64, new.0 as u64];
        ops.extend(witness.map(|(position, _, _)| *position as u64));
        ops.push(*read_at as u64);
        Some((key, ops))
    };
    ok.iter()
        .filter(|(_, invoked, _)| {
            invoked.f.as_str() == "read"
                && invoked.node == Some(Sym::new("n1"))
                && invoked.time_ns > 19_500_000_000
        })
        .find_map(stale)
}

fn result(history: &History) -> CheckResult {
    let mut linearizable = match stale_read(history) {
        Some((key, ops)) => {
            let mut invalid = CheckResult::new(
                "linearizable",
                Verdict::Invalid,
                format!("key {key} has no linearization (1 of {KEY_COUNT} keys)"),
            );
            invalid.anomalies.push(Anomaly {
                name: "nonlinearizable".into(),
                key: Some(key.to_string()),
                text: "The last read returns a value that a completed write had replaced before the read began:\n\
                       no order of these operations that respects time is one of a register."
                    .into(),
                ops, ..Anomaly::default() });
            invalid
        }
        None => CheckResult::new("linearizable", Verdict::Valid, "every key has a linearization"),
    };
    linearizable.counts =
        [("keys".to_string(), KEY_COUNT), ("configurations".to_string(), 181_220)].into();
    linearizable.elapsed_ms = 212.4;
    for key in 0..KEY_COUNT {
        let mut part = CheckResult::new(&key.to_string(), Verdict::Valid, "has a linearization");
        if linearizable.anomalies.iter().any(|anomaly| anomaly.key == Some(key.to_string())) {
            part.verdict = Verdict::Invalid;
            part.reason = "has no linearization".into();
        }
        linearizable.parts.push(part);
    }
    let mut stats =
        CheckResult::new("stats", Verdict::Valid, "every function succeeded at least once");
    stats.elapsed_ms = 3.1;
    let mut vacuity = CheckResult::new(
        "vacuity",
        Verdict::Valid,
        "4 of 5 faults took effect; without effect: #4 throttle",
    );
    vacuity.details = serde_json::json!({"without_effect": [4], "failed": [6]});
    CheckResult {
        checker: "all".into(),
        verdict: linearizable.verdict.and(stats.verdict).and(vacuity.verdict),
        reason: format!("linearizable: {}", linearizable.reason),
        elapsed_ms: 219.0,
        parts: vec![linearizable, stats, vacuity],
        ..CheckResult::default()
    }
}

pub fn empty_schedule() -> FaultSchedule {
    FaultSchedule {
        version: 1,
        seed: 1,
        nodes: vec![],
        boundaries: vec![],
        eras: vec![],
        faults: vec![],
    }
}

pub fn client(time_ns: u64, process: i64, op_type: OpType, f: &str, value: Value) -> Op {
    Op::new(time_ns as i64, Process::Client(process), op_type, Sym::new(f), value)
}

/// Text that leaves whatever place it is put in unescaped.
pub const HOSTILE: &str = "</script><img src=x onerror=alert(1)><!--<script>\u{2028}\u{1b}[2J\"'&";

/// A run in which every text is hostile.
pub fn hostile() -> Run {
    let value = || Value::str(HOSTILE);
    let mut down = record(
        SECOND,
        Process::observer(),
        "nodedown",
        map(vec![("peer", value()), ("reason", value())]),
    );
    down.node = Some(Sym::new(HOSTILE));
    let mut invoke = client(SECOND, 0, OpType::Invoke, HOSTILE, value());
    invoke.node = Some(Sym::new(HOSTILE));
    let mut done = client(2 * SECOND, 0, OpType::Fail, HOSTILE, value());
    done.error = value();
    let fault = |f: &str| {
        let fields = vec![
            ("id", Value::Int(1)),
            ("kind", value()),
            ("effect", value()),
            ("reason", value()),
        ];
        record(SECOND, Process::nemesis(), f, map(fields))
    };
    let ops = vec![fault("fault-applied"), fault("fault-observed"), down, invoke, done];
    let text = || HOSTILE.to_owned();
    let mut result = CheckResult::new(HOSTILE, Verdict::Invalid, HOSTILE);
    result.anomalies.push(Anomaly {
        name: text(),
        key: Some(text()),
        text: text(),
        // The last two do not exist.
        ops: vec![3, 4_000, u64::MAX],
        ..Anomaly::default()
    });
    result.details = serde_json::json!({ HOSTILE: HOSTILE });
    result.counts.insert(text(), 1);
    Run {
        info: RunInfo {
            name: text(),
            run_id: text(),
            nodes: vec![text()],
            spec_toml: text(),
            replay_command: text(),
            notes: vec![text()],
            versions: [(text(), text())].into(),
            tested: Some(fuzz_dist_report::Tested {
                git: Some(fuzz_dist_report::Git { revision: text(), changed_files: 1 }),
                nodes: [(
                    text(),
                    fuzz_dist_report::Code {
                        digest: text(),
                        applications: [(text(), text())].into(),
                    },
                )]
                .into(),
            }),
            ..RunInfo::default()
        },
        history: History::new(ops).unwrap(),
        schedule: empty_schedule(),
        result,
    }
}
