//! Runs generators in virtual time against a client that answers as it is told.

#![allow(dead_code)]

use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::{OpType, Sym, Value};
use fuzz_dist_schedule::interpreter::Invocation;
use fuzz_dist_schedule::{Env, Expr, Interpreter, Next, compile};
use serde_json::Value as Json;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

/// How a run is driven.
pub struct Run {
    pub threads: u32,
    pub seed: u64,
    pub nodes: Vec<String>,
    /// Stops after so many invocations.
    pub ops_max: usize,
    /// Stops at this time.
    pub until_ns: u64,
    /// Latency and outcome of the n-th invocation.
    pub answer: fn(usize, &Invocation) -> (u64, OpType),
}

impl Default for Run {
    fn default() -> Run {
        Run {
            threads: 4,
            seed: 1,
            nodes: vec!["n1".into(), "n2".into()],
            ops_max: 1_000,
            until_ns: 1_000 * SECOND,
            answer: |_, _| (MS, OpType::Ok),
        }
    }
}

/// What happened.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Trace {
    pub ops: Vec<Invocation>,
    /// Invocation, time of its completion.
    pub completed: Vec<(usize, u64)>,
    pub logs: Vec<(u64, String)>,
    /// The time of the end, when the generator came to one.
    pub done_ns: Option<u64>,
    /// How often the interpreter was asked.
    pub asks: usize,
}

impl Trace {
    pub fn fs(&self) -> Vec<&'static str> {
        self.ops.iter().map(|op| op.f.as_str()).collect()
    }

    pub fn count(&self, f: &str) -> usize {
        self.ops.iter().filter(|op| op.f.as_str() == f).count()
    }

    pub fn ints(&self) -> Vec<i64> {
        self.ops.iter().filter_map(|op| op.value.as_int()).collect()
    }

    pub fn completion_ns(&self, at: usize) -> u64 {
        self.completed.iter().find(|(i, _)| *i == at).map_or(u64::MAX, |(_, time)| *time)
    }
}

impl Run {
    pub fn of(&self, json: &Json) -> Trace {
        let expr = Expr::parse(json).unwrap_or_else(|e| panic!("{e}: {json}"));
        let env = Env::new(self.threads, &self.nodes, Seed(self.seed));
        let generator = compile(&expr, &env).unwrap_or_else(|e| panic!("{e}: {json}"));
        self.drive(Interpreter::new(generator, self.threads))
    }

    pub fn drive(&self, mut interpreter: Interpreter) -> Trace {
        let mut trace = Trace::default();
        let mut flights: Vec<(u64, usize, u32, OpType, Sym, Value)> = Vec::new();
        let mut now_ns = 0;
        while trace.ops.len() < self.ops_max && now_ns < self.until_ns {
            trace.asks += 1;
            let wait_ns = match interpreter.next(now_ns) {
                Next::Invoke(op) => {
                    let (latency_ns, op_type) = (self.answer)(trace.ops.len(), &op);
                    let (f, value) = (op.f, op.value.clone());
                    assert_eq!(op.time_ns, now_ns);
                    assert!(flights.iter().all(|flight| flight.2 != op.thread), "thread is busy");
                    flights.push((
                        now_ns + latency_ns,
                        trace.ops.len(),
                        op.thread,
                        op_type,
                        f,
                        value,
                    ));
                    trace.ops.push(op);
                    continue;
                }
                Next::Log(text) => {
                    trace.logs.push((now_ns, text));
                    continue;
                }
                Next::WaitUntil(time_ns) => {
                    assert!(time_ns > now_ns, "a wait for the past");
                    time_ns
                }
                Next::WaitForCompletion => u64::MAX,
                Next::Done => {
                    assert!(flights.is_empty(), "done with operations under way");
                    trace.done_ns = Some(now_ns);
                    break;
                }
            };
            let landing = flights.iter().enumerate().min_by_key(|(_, flight)| (flight.0, flight.1));
            match landing.map(|(at, flight)| (at, flight.0)) {
                Some((at, time_ns)) if time_ns <= wait_ns => {
                    now_ns = time_ns;
                    let (_, index, thread, op_type, f, value) = flights.remove(at);
                    trace.completed.push((index, now_ns));
                    interpreter.complete(thread, op_type, f, &value, now_ns, false);
                }
                _ => {
                    assert_ne!(wait_ns, u64::MAX, "waits for a completion, nothing is under way");
                    now_ns = wait_ns;
                }
            }
        }
        trace
    }
}
