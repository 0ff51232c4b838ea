//! What the carrier costs: the same load over `inet_tcp_dist` and over `-proto_dist fuzz` without a fault, between
//! two nodes of this machine. Rounds of both alternate within one run and medians are compared, since other
//! work on the machine changes absolute figures from second to second. No more than 10 % may be lost.
//!
//! `bin/bench carrier`; CARRIER_BENCH_ROUNDS (7) and CARRIER_BENCH_MS (1000, for each measurement) change its length.

// Helpers are outside of test functions, which clippy.toml excepts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::Command;

use support::{Ground, Node};

/// What is measured: a name, the unit, and the call.
const LOADS: &[(&str, &str, &str)] = &[
    ("erpc, 1 caller", "calls/s", "carrier_load:round_trips('b@127.0.0.1', 1, MS)"),
    ("erpc, 32 callers", "calls/s", "carrier_load:round_trips('b@127.0.0.1', 32, MS)"),
    (
        "messages of 64 kB",
        "MB/s",
        "carrier_load:throughput('b@127.0.0.1', 65536, MS) * 65536 div 1000000",
    ),
];

/// What the carrier may lose of a stock connection's rate.
const LOSS_MAX: f64 = 0.10;

/// Two connected nodes; the ground lives as long.
struct Pair {
    _ground: Ground,
    a: Node,
    _b: Node,
}

impl Pair {
    fn new(start: fn(&Ground, &str) -> Node) -> Pair {
        let ground = Ground::new();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/carrier_load.erl");
        let compiled = Command::new("erlc").arg("-o").arg(ground.path()).arg(source).status();
        assert!(compiled.unwrap().success());
        let (mut a, b) = (start(&ground, "a"), start(&ground, "b"));
        a.connect("b");
        Pair { _ground: ground, a, _b: b }
    }

    fn measure(&mut self, call: &str) -> f64 {
        let answer = self.a.eval(call);
        answer.parse().unwrap_or_else(|_| panic!("{call}: {answer}"))
    }
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 {
        figures[middle]
    } else {
        figures[middle - 1..=middle].iter().sum::<f64>() / 2.0
    }
}

fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

fn main() {
    let rounds = setting("CARRIER_BENCH_ROUNDS", 7).max(1);
    let length = setting("CARRIER_BENCH_MS", 1000).to_string();
    let mut pairs = [Pair::new(Ground::stock_node), Pair::new(Ground::node)];
    println!(
        "{rounds} alternating rounds of {length} ms; rates are medians, ratios medians of rounds"
    );
    for (name, unit, call) in LOADS {
        let call = call.replace("MS", &length);
        let mut rates = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            // Whoever is first in a round is second in the next.
            for which in [round % 2, (round + 1) % 2] {
                rates[which].push(pairs[which].measure(&call));
            }
        }
        let mut ratios: Vec<f64> =
            rates[1].iter().zip(&rates[0]).map(|(fuzz, tcp)| fuzz / tcp).collect();
        let ratio = median(&mut ratios);
        let verdict = if ratio >= 1.0 - LOSS_MAX { "within 10 %" } else { "MORE THAN 10 % LOST" };
        println!(
            "{name:<20} inet_tcp_dist {:>8.0} {unit:<8} fuzz {:>8.0} {unit:<8} ratio {ratio:.3} ({:.3} to {:.3})  {verdict}",
            median(&mut rates[0]),
            median(&mut rates[1]),
            ratios[0],
            ratios[ratios.len() - 1],
        );
    }
}
