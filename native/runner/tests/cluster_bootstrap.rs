//! The hidden visit to a stock node, against a real `erl`.

#![allow(clippy::unwrap_used)]

mod stock;

use std::net::TcpListener;
use std::time::Duration;

use erl_dist::term::{FixInteger, Term};
use fuzz_dist_runner::cluster::bootstrap::{
    AgentArguments, BootstrapError, Visit, atom, load_agent,
};
use stock::{COOKIE, PATIENCE, StockNode};
use tempfile::TempDir;

fn arguments() -> AgentArguments {
    AgentArguments {
        // Nobody listens: the agent dials in vain for a while, which is enough to be seen.
        core: "127.0.0.1:1".into(),
        token: "secret".into(),
        node: "n1".into(),
        run: "r".into(),
        lifeline: false,
    }
}

fn compile_agent(directory: &TempDir) -> Vec<u8> {
    stock::compile(&["fuzz_dist_agent"], directory.path());
    std::fs::read(directory.path().join("fuzz_dist_agent.beam")).unwrap()
}

#[test]
fn the_agent_is_loaded_and_started_and_we_stay_hidden() {
    let node = StockNode::start("boot_load", 60);
    let beam = compile_agent(&TempDir::new().unwrap());
    let mut visit = Visit::open(node.port, &node.name, COOKIE, PATIENCE).unwrap();
    assert!(!visit.contains_agent().unwrap());
    assert_eq!(visit.call("erlang", "nodes", Vec::new()).unwrap().to_string(), "[]");
    let hidden = visit.call("erlang", "nodes", vec![atom("hidden")]).unwrap().to_string();
    assert!(hidden.contains("fuzz_dist_core_"), "{hidden}");
    drop(visit);

    load_agent(node.port, &node.name, COOKIE, &beam, &arguments(), PATIENCE).unwrap();
    let agent = node.call("erlang", "whereis", vec![atom("fuzz_dist_agent")]);
    assert!(matches!(agent, Term::Pid(_)), "{agent}");
}

#[test]
fn ticks_are_answered_while_a_call_lasts() {
    // At a tick time of 1 s a node drops whoever is silent for 1.25 s.
    let node = StockNode::start("boot_tick", 1);
    let slept = node.call("timer", "sleep", vec![Term::from(FixInteger::from(4_000))]);
    assert_eq!(slept, atom("ok"));
}

#[test]
fn what_is_wrong_is_named() {
    let node = StockNode::start("boot_wrong", 60);
    let (port, name) = (node.port, node.name.as_str());
    let short = Duration::from_millis(500);

    let wrong_cookie = Visit::open(port, name, "wrong", PATIENCE).unwrap_err();
    assert!(matches!(wrong_cookie, BootstrapError::Cookie(_)), "{wrong_cookie}");

    let other = Visit::open(port, "n9@127.0.0.1", COOKIE, PATIENCE).unwrap_err().to_string();
    assert!(other.contains(&format!("is {name}, not n9@127.0.0.1")), "{other}");

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let absent = Visit::open(free, name, COOKIE, PATIENCE).unwrap_err().to_string();
    assert!(absent.contains(&format!("does not listen at 127.0.0.1:{free}")), "{absent}");

    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute_port = mute.local_addr().unwrap().port();
    let silent = Visit::open(mute_port, name, COOKIE, short).unwrap_err().to_string();
    assert!(silent.contains("did not answer the handshake within 500 ms"), "{silent}");

    let refused =
        load_agent(port, name, COOKIE, b"no beam", &arguments(), PATIENCE).unwrap_err().to_string();
    assert!(refused.contains("does not load fuzz_dist_agent: 'badfile'"), "{refused}");

    let mut visit = Visit::open(port, name, COOKIE, PATIENCE).unwrap();
    let undefined = visit.call("erlang", "no_such_function", Vec::new()).unwrap_err().to_string();
    assert!(undefined.contains("erlang:no_such_function failed"), "{undefined}");
    assert!(undefined.contains("undef"), "{undefined}");
    // The connection is as good as before.
    assert_eq!(visit.call("erlang", "node", Vec::new()).unwrap(), atom(name));

    let mut visit = Visit::open(port, name, COOKIE, short).unwrap();
    let late = visit.call("timer", "sleep", vec![atom("infinity")]).unwrap_err().to_string();
    assert!(late.contains("timer:sleep within 500 ms"), "{late}");
}
