//! Operations a second of generator and interpreter alone against a perfect client.
//!
//! `cargo bench -p fuzz_dist_schedule`: 100 threads, read, write and compare-and-set; on 1,000 keys drawn
//! for each operation, and on independent keys by groups of threads. The client keeps every thread busy
//! and completes operations in the order of their invocation. Prints the median of five rounds.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::time::Instant;

use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::{OpType, Sym, Value};
use fuzz_dist_schedule::{Env, Expr, Interpreter, Next, compile};
use serde_json::{Value as Json, json};

const THREADS: u32 = 100;
const OPS: u64 = 2_000_000;

fn main() {
    let keyed = |value: Json| json!({"tuple": [{"int": [0, 999]}, value]});
    let value = json!({"int": [0, 4]});
    let mixed = json!({"mix": [
        {"f": "read", "value": keyed(Json::Null)},
        {"f": "write", "value": keyed(value.clone())},
        {"f": "cas", "value": keyed(json!([value, value]))},
    ]});
    let independent = json!({"independent": {"threads-per-key": 5, "ops-per-key": 1000, "generator":
        {"mix": [{"f": "read"}, {"f": "write", "value": value}, {"f": "cas", "value": [value, value]}]}}});
    measure("read/write/cas, 1,000 drawn keys", &mixed);
    measure("the same, independent keys, 5 threads each", &independent);
    measure(
        "the same, time-limit, clients, stagger 1 ns",
        &json!({"time-limit": [3600, {"clients":
        {"stagger": [0.000000001, independent]}}]}),
    );
}

fn measure(name: &str, json: &Json) {
    let mut rates: Vec<f64> = (0..5).map(|round| run(json, round)).collect();
    rates.sort_by(f64::total_cmp);
    println!("{name}: {:.2} M ops/s (median of 5, {:.2} to {:.2})", rates[2], rates[0], rates[4]);
}

fn run(json: &Json, seed: u64) -> f64 {
    let expr = Expr::parse(json).unwrap();
    let env = Env::new(THREADS, &["n1".to_owned(), "n2".to_owned()], Seed(seed));
    let mut interpreter = Interpreter::new(compile(&expr, &env).unwrap(), THREADS);
    let mut flights: VecDeque<(u32, Sym, Value)> = VecDeque::with_capacity(THREADS as usize);
    let start = Instant::now();
    let (mut done, mut now_ns) = (0, 0);
    while done < OPS {
        match interpreter.next(now_ns) {
            Next::Invoke(op) => flights.push_back((op.thread, op.f, op.value)),
            Next::WaitUntil(_) | Next::WaitForCompletion => {
                // Half of what is under way completes together, as batches from agents do.
                for _ in 0..flights.len().div_ceil(2) {
                    let Some((thread, f, value)) = flights.pop_front() else { break };
                    now_ns += 100;
                    interpreter.complete(thread, OpType::Ok, f, &value, now_ns, false);
                    done += 1;
                }
                now_ns += 100;
            }
            Next::Log(text) => panic!("{text}"),
            Next::Done => panic!("the generator ended"),
        }
    }
    done as f64 / start.elapsed().as_secs_f64() / 1e6
}
