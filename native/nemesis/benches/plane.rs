//! How exact the link plane is by itself: `cargo bench -p fuzz_dist_nemesis --bench plane`.
//!
//! 500 scheduled faults while calls run, heals until bytes flow, and holds on both sides of the tick boundary. What it
//! costs is in the bench `carrier` of the driver, against the same stock connection.

// Helpers are outside of test functions, which clippy.toml excepts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/plane/support.rs"]
mod support;

use std::sync::mpsc;
use std::thread;

use fuzz_dist_core::clock::monotonic_ns;
use fuzz_dist_core::fault::LinkFault;

use support::{Node, TestPlane, both, eventually, full_name, link};

/// Loads compiled loops: interpreted ones would cost as much as a call.
const LOAD: &str = r#"
    Forms = [begin {ok, T, _} = erl_scan:string(S), {ok, F} = erl_parse:parse_form(T), F end || S <- [
        "-module(loops).",
        "-export([calls/2]).",
        "calls(_, 0) -> ok; calls(Node, N) -> Node = erpc:call(Node, erlang, node, []), calls(Node, N - 1)."
    ]],
    {ok, Module, Beam} = compile:forms(Forms),
    {module, _} = code:load_binary(Module, "loops", Beam), ok
"#;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let plane = TestPlane::start();
    let names = ["a", "b"].map(|short| (short, plane.client.add_node(short).unwrap()));
    let mut nodes = Node::start_many(&names);
    assert_eq!(nodes[0].eval(LOAD), "ok");
    nodes[0].connect("b");
    precision(&plane, &mut nodes[0]);
    drop((nodes, plane));
    boundary();
}

/// Holds of a length on both sides of the tick boundary (T = 4 s, I = 4), on four pairs at once: certainly
/// below T - 2T/I and certainly above T + T/I, by 100 ms.
fn boundary() {
    let plane = TestPlane::start();
    let shorts: Vec<String> = (1..=8).map(|n| format!("n{n}")).collect();
    let ports: Vec<(&str, u16)> = shorts
        .iter()
        .map(|short| (short.as_str(), plane.client.add_node(short).unwrap()))
        .collect();
    let mut nodes = Node::start_many(&ports);
    let pairs: Vec<(usize, usize)> = vec![(0, 1), (2, 3), (4, 5), (6, 7)];
    let links: Vec<_> = pairs.iter().flat_map(|&(a, b)| both(&shorts[a], &shorts[b])).collect();
    let mut fault = 0;
    for (name, length_ns) in [("below", 1_900_000_000u64), ("above", 5_100_000_000)] {
        let (mut down, mut longest_ns) = (0, 0);
        for _ in 0..5 {
            for &(a, b) in &pairs {
                nodes[a].connect(&shorts[b]);
                nodes[a].clear();
                nodes[b].clear();
            }
            fault += 1;
            let start_ns = monotonic_ns() + 50_000_000;
            let client = &plane.client;
            let (applied, healed) = thread::scope(|scope| {
                let heal = scope.spawn(move || client.heal(fault, Some(start_ns + length_ns)));
                let apply = client.apply(fault, &links, None, &LinkFault::HOLD, Some(start_ns));
                (apply.unwrap(), heal.join().unwrap().unwrap())
            });
            longest_ns = longest_ns.max(healed.monotonic_ns - applied.monotonic_ns);
            for node in &mut nodes {
                // What the node was to notice by then has reached its watcher.
                node.eval("timer:sleep(50)");
                down += usize::from(node.seen().contains("nodedown"));
            }
        }
        println!(
            "holds certainly {name} the tick boundary (at most {:.3} s): {down} of 40 sides saw a nodedown",
            longest_ns as f64 / 1e9
        );
    }
}

/// 500 faults, 4 ms apart, while calls run on another pair's link.
fn precision(plane: &TestPlane, caller: &mut Node) {
    for short in ["e", "f", "g"] {
        plane.client.add_node(short).unwrap();
    }
    let links: Vec<_> = ["e", "f", "g", "b"].iter().flat_map(|other| both("a", other)).collect();
    caller.eval(&format!("spawn(fun() -> loops:calls('{}', 1000000) end), ok", full_name("b")));
    let client = &plane.client;
    let start_ns = monotonic_ns() + 50_000_000;
    let (sender, late) = mpsc::channel();
    thread::scope(|scope| {
        for fault in 1..=500u32 {
            let at_ns = start_ns + u64::from(fault) * 4_000_000;
            let (sender, links) = (sender.clone(), &links);
            scope.spawn(move || {
                let kind = LinkFault::delay(1, 0);
                let applied = client.apply(fault, links, None, &kind, Some(at_ns)).unwrap();
                sender.send(applied.monotonic_ns - at_ns).unwrap();
                client.heal(fault, None).unwrap();
            });
        }
    });
    let mut late_ns: Vec<u64> = late.try_iter().collect();
    late_ns.sort_unstable();
    let quantile_us = |q: f64| late_ns[((late_ns.len() - 1) as f64 * q) as usize] as f64 / 1e3;
    println!(
        "{} faults of {} links under load, scheduled against applied: p50 {:.1} us, p99 {:.1} us, \
         max {:.1} us",
        late_ns.len(),
        links.len(),
        quantile_us(0.5),
        quantile_us(0.99),
        quantile_us(1.0)
    );

    // From the change of policy until bytes flow again.
    let mut heal_us = Vec::new();
    for fault in 1_000..1_050 {
        client.apply(fault, &both("a", "b"), None, &LinkFault::HOLD, None).unwrap();
        eventually("bytes are held", || {
            (plane.stats("a", "b", "dist").counts.bytes_held > 0
                || plane.stats("b", "a", "dist").counts.bytes_held > 0)
                .then_some(())
        });
        let before = plane.stats("a", "b", "dist").counts.last_data_monotonic_ns;
        let healed_ns = client.heal(fault, None).unwrap().monotonic_ns;
        let after = eventually("bytes flow", || {
            let links = [link("a", "b"), link("b", "a")];
            let last = links.map(|l| plane.stats(&l.from, &l.to, "dist").counts);
            (last[0].last_data_monotonic_ns > before).then_some(last[0].last_data_monotonic_ns)
        });
        heal_us.push(after.saturating_sub(healed_ns) as f64 / 1e3);
    }
    println!(
        "hold healed to bytes seen flowing (upper bound, polled): median {:.0} us",
        median(heal_us)
    );
}
