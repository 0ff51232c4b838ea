//! What faults that could be cost while there are none: the same load over `inet_tcp_dist`, over `-proto_dist fuzz`, and
//! over `inet_tcp_dist` through the proxies of the link plane, between two nodes of this machine. Rounds of all of them
//! alternate within one run and medians are compared, since other work on the machine changes absolute figures from
//! second to second. The carrier may lose no more than 10 %; two hops more cost what they cost.
//!
//! `bin/bench carrier`; CARRIER_BENCH_ROUNDS (7) and CARRIER_BENCH_MS (1000, for each measurement) change its length. The
//! plane is a process of `target/release/fuzz_dist` (or FUZZ_DIST_BIN), as in a run.

// Helpers are outside of test functions, which clippy.toml excepts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command};

use fuzz_dist_nemesis::plane::{CONTROL_VARIABLE, PlaneClient, TOKEN_VARIABLE};
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

/// The ways to carry a connection; the first is what the others are compared with.
const WAYS: [&str; 3] = ["inet_tcp_dist", "fuzz", "link plane"];
const LINK_PLANE: usize = 2;

/// Two connected nodes; what they need lives as long.
struct Pair {
    _ground: Ground,
    a: Node,
    _b: Node,
    _plane: Option<Plane>,
}

/// A plane of links in a process of its own.
struct Plane {
    client: PlaneClient,
    process: Child,
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Plane {
    fn start() -> Plane {
        let built = || {
            PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/fuzz_dist"))
        };
        let exe = std::env::var_os("FUZZ_DIST_BIN").map_or_else(built, PathBuf::from);
        let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let process = Command::new(&exe)
            .arg("plane")
            .env(CONTROL_VARIABLE, control.local_addr().unwrap().to_string())
            .env(TOKEN_VARIABLE, "bench")
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", exe.display()));
        let client = PlaneClient::new(control.accept().unwrap().0, "bench").unwrap();
        Plane { client, process }
    }
}

impl Pair {
    fn new(way: usize) -> Pair {
        let ground = Ground::new();
        ground.compile(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/carrier_load.erl"));
        let plane = (way == LINK_PLANE).then(Plane::start);
        let start = |short: &str| match &plane {
            Some(plane) => ground.stock_node_at(short, plane.client.add_node(short).unwrap()),
            None if way == 0 => ground.stock_node(short),
            None => ground.node(short),
        };
        let (mut a, b) = (start("a"), start("b"));
        a.connect("b");
        Pair { _ground: ground, a, _b: b, _plane: plane }
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
    let mut pairs = [0, 1, 2].map(Pair::new);
    println!(
        "{rounds} alternating rounds of {length} ms; rates are medians, ratios medians of rounds"
    );
    for (name, unit, call) in LOADS {
        let call = call.replace("MS", &length);
        let mut rates = WAYS.map(|_| Vec::new());
        for round in 0..rounds {
            // Whoever is first in a round is last in the next.
            for turn in 0..WAYS.len() {
                let which = (round + turn) % WAYS.len();
                rates[which].push(pairs[which].measure(&call));
            }
        }
        println!("{name:<20} {:<14}{:>9.0} {unit}", WAYS[0], median(&mut rates[0].clone()));
        for which in 1..WAYS.len() {
            let mut ratios: Vec<f64> =
                rates[which].iter().zip(&rates[0]).map(|(way, stock)| way / stock).collect();
            let ratio = median(&mut ratios);
            let verdict = match which {
                LINK_PLANE => "",
                _ if ratio >= 1.0 - LOSS_MAX => "  within 10 %",
                _ => "  MORE THAN 10 % LOST",
            };
            println!(
                "{:<20} {:<14}{:>9.0} {unit:<8} ratio {ratio:.3} ({:.3} to {:.3}){verdict}",
                "",
                WAYS[which],
                median(&mut rates[which].clone()),
                ratios[0],
                ratios[ratios.len() - 1],
            );
        }
    }
}
