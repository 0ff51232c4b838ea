//! Shared by the tests: a small random source, a builder of histories, and a simulator that runs
//! processes against an object that takes effect atomically, so that what it records is correct.

#![allow(dead_code)]

use fuzz_dist_checker::Budget;
use fuzz_dist_core::spec::{CheckerSpec, Options};
use fuzz_dist_core::{CheckResult, History, Op, OpType, Process, Sym, Value};

/// SplitMix64: enough for tests, the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// How many cases an oracle test runs: `FUZZ_DIST_ORACLE_CASES`, else the given few thousand. Tells it, with the
/// name of the test, for the summary of `bin/test-long`.
pub fn cases(default: u64) -> u64 {
    let asked = std::env::var("FUZZ_DIST_ORACLE_CASES").ok();
    let count = asked.and_then(|text| text.parse().ok()).unwrap_or(default);
    let thread = std::thread::current();
    println!("random cases: {count} {}", thread.name().unwrap_or("?"));
    count
}

/// Builds a history record by record; time is the position in milliseconds.
#[derive(Default, Clone)]
pub struct Builder {
    pub ops: Vec<Op>,
}

impl Builder {
    pub fn push(&mut self, process: i64, op_type: OpType, f: &str, value: Value) -> &mut Op {
        let time = self.ops.len() as i64 * 1_000_000;
        self.ops.push(Op::new(time, Process::Client(process), op_type, Sym::new(f), value));
        let last = self.ops.len() - 1;
        &mut self.ops[last]
    }

    pub fn invoke(&mut self, process: i64, f: &str, value: Value) -> &mut Op {
        self.push(process, OpType::Invoke, f, value)
    }

    pub fn ok(&mut self, process: i64, f: &str, value: Value) -> &mut Op {
        self.push(process, OpType::Ok, f, value)
    }

    pub fn fail(&mut self, process: i64, f: &str, value: Value) -> &mut Op {
        self.push(process, OpType::Fail, f, value)
    }

    pub fn info(&mut self, process: i64, f: &str, value: Value) -> &mut Op {
        self.push(process, OpType::Info, f, value)
    }

    /// Invokes and completes at once.
    pub fn done(&mut self, process: i64, f: &str, argument: Value, result: Value) {
        self.invoke(process, f, argument);
        self.ok(process, f, result);
    }

    /// A record of the nemesis.
    pub fn nemesis(&mut self, f: &str, value: Value) {
        let time = self.ops.len() as i64 * 1_000_000;
        self.ops.push(Op::new(time, Process::nemesis(), OpType::Info, Sym::new(f), value));
    }

    /// A record about a fault, as our runs have it.
    pub fn fault(&mut self, f: &str, id: i64, kind: &str) {
        let value = [(Value::sym("id"), int(id)), (Value::sym("kind"), Value::str(kind))];
        self.nemesis(f, Value::map(value));
    }

    pub fn history(&self) -> History {
        History::new(self.ops.clone()).expect("a well-formed history")
    }
}

pub fn int(n: i64) -> Value {
    Value::Int(n)
}

pub fn pair(a: Value, b: Value) -> Value {
    Value::list(vec![a, b])
}

/// A spec from a name and options as JSON.
pub fn spec(name: &str, options: serde_json::Value) -> CheckerSpec {
    let options: Options = serde_json::from_value(options).expect("options are a map");
    CheckerSpec { name: name.into(), options }
}

/// Checks with a named checker, without a budget.
pub fn check(name: &str, options: serde_json::Value, history: &History) -> CheckResult {
    fuzz_dist_checker::build(&spec(name, options))
        .expect("the checker can be built")
        .check(history, &Budget::UNLIMITED)
}

/// The history as text, for messages of failing tests.
pub fn show(history: &History) -> String {
    history.ops().iter().map(|op| format!("{op}\n")).collect()
}
