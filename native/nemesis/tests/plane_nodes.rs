//! The link plane between stock BEAM nodes: what they see of each fault. `net_ticktime` is 4 s, so that a
//! silent peer is certainly up before 2 s and certainly down after 5 s.

// Helpers are outside of test functions, which clippy.toml excepts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "plane/support.rs"]
mod support;

use std::thread::sleep;
use std::time::{Duration, Instant};

use fuzz_dist_core::fault::{Link, LinkFault};
use fuzz_dist_nemesis::plane::{Options, PlaneEvent, PlaneEventKind};

use support::{Node, TestPlane, both, connected_pair, connected_pair_of, eventually, link};

const ERPC: &str = "erpc:call('b@127.0.0.1', erlang, node, [], 20000)";

fn apply(plane: &TestPlane, fault: u32, links: &[Link], kind: LinkFault) {
    assert!(plane.client.apply(fault, links, None, &kind, None).unwrap().changed);
}

fn heal(plane: &TestPlane, fault: u32) {
    assert!(plane.client.heal(fault, None).unwrap().changed);
}

/// Waits until every link of an active fault shows its effect.
fn observed(plane: &TestPlane, fault: u32) {
    eventually(&format!("effect of fault {fault}"), || {
        let links = plane.client.observe(fault).unwrap();
        links.iter().all(|link| link.seen).then_some(())
    });
}

/// Waits until `b` has received this from `a`, for as long as bytes of it pass on a link that stays up: a busy machine
/// takes its time, and a message is gone with its connection. When it does not come, tells who has its bytes.
fn arrives(plane: &TestPlane, (a, b): (&mut Node, &mut Node), wanted: &str) {
    let (mut before, mut moved) = (0, Instant::now());
    loop {
        if b.received() == wanted {
            return;
        }
        let counts = plane.stats("a", "b", "dist").counts;
        let (seen_by_a, seen_by_b) = (a.seen(), b.seen());
        let is_down = [&seen_by_a, &seen_by_b].iter().any(|seen| seen.contains("nodedown"));
        if counts.bytes_in + counts.bytes_passed != before {
            (before, moved) = (counts.bytes_in + counts.bytes_passed, Instant::now());
        }
        if is_down || moved.elapsed() > support::PATIENCE {
            let queues =
                "[erlang:port_info(P, queue_size) || {_, P} <- erlang:system_info(dist_ctrl)]";
            panic!(
                "{wanted} did not arrive: nothing has moved for {:?}; a has seen {seen_by_a}, b {seen_by_b}; in the \
                 plane {counts:?}; queued by a {}, by b {}",
                moved.elapsed(),
                a.eval(queues),
                b.eval(queues)
            );
        }
        sleep(Duration::from_millis(10)); // Between two looks.
    }
}

#[test]
fn calls_and_big_messages_pass_and_faults_that_close_are_seen_at_once() {
    let plane = TestPlane::start();
    let events = plane.client.events();
    let ports = ["a", "b"].map(|short| (short, plane.client.add_node(short).unwrap()));
    assert_eq!(plane.client.registered("a").unwrap(), None);
    let mut nodes = Node::start_many(&ports);
    let (mut b, mut a) = (nodes.remove(1), nodes.remove(0));
    assert!(plane.client.registered("a").unwrap().is_some());
    a.connect("b");
    assert_eq!(a.eval(ERPC), "'b@127.0.0.1'");

    // A starved VM may miss its ticks, and the message would be gone with the connection: not what this is about.
    for node in [&mut a, &mut b] {
        node.eval("net_kernel:set_net_ticktime(60, 0)");
    }
    a.eval("{sink, 'b@127.0.0.1'} ! binary:copy(<<7>>, 100000000), ok");
    arrives(&plane, (&mut a, &mut b), "[100000000]");
    let stats = plane.stats("a", "b", "dist").counts;
    assert!(stats.bytes_passed > 100_000_000 && stats.frames_passed > 1_000, "{stats:?}");
    assert_eq!((stats.open, stats.opened, stats.bytes_held), (1, 1, 0), "{stats:?}");

    for (fault, kind) in [(1, LinkFault::Fin), (2, LinkFault::Rst)] {
        a.clear();
        b.clear();
        apply(&plane, fault, &both("a", "b"), kind);
        assert_eq!(a.nodedown_reason("b"), "connection_closed");
        assert_eq!(b.nodedown_reason("a"), "connection_closed");
        observed(&plane, fault);
        heal(&plane, fault);
        a.connect("b");
    }

    // Refused: new connections fail at once, the existing one stays.
    a.clear();
    apply(&plane, 3, &[link("a", "b")], LinkFault::RefuseConnect);
    observed(&plane, 3);
    assert_eq!(a.eval(ERPC), "'b@127.0.0.1'");
    a.eval("erlang:disconnect_node('b@127.0.0.1')");
    a.nodedown_reason("b");
    let start = Instant::now();
    assert_eq!(a.eval("net_adm:ping('b@127.0.0.1')"), "pang");
    assert!(start.elapsed() < Duration::from_secs(3), "a refusal took as long as a black hole");
    assert!(plane.stats("a", "b", "dist").counts.lookups_refused > 0);
    heal(&plane, 3);
    a.connect("b");

    drop(b);
    // The last event to come; those before it are there then.
    let mut events_so_far: Vec<PlaneEvent> = Vec::new();
    let gone = |kind: &PlaneEventKind| matches!(kind, PlaneEventKind::Unregistered { name } if name == "b");
    while !events_so_far.iter().any(|event| gone(&event.kind)) {
        events_so_far.push(events.recv_timeout(support::PATIENCE).unwrap());
    }
    let events = events_so_far;
    let seen = |wanted: &dyn Fn(&PlaneEventKind) -> bool| events.iter().any(|e| wanted(&e.kind));
    assert!(seen(&|kind| matches!(kind, PlaneEventKind::Registered { name, .. } if name == "a")));
    assert!(seen(&|kind| matches!(kind, PlaneEventKind::Opened { source, target, .. }
        if source == "a" && target == "b")));
    let closed = |by: &str, why: &str| {
        seen(&|kind| {
            matches!(kind, PlaneEventKind::Closed { first, cause, .. }
            if first == by && cause == why)
        })
    };
    assert!(closed("plane", "fault 1 (fin)") && closed("plane", "fault 2 (rst)"), "{events:?}");
    assert!(closed("a", "fin"), "a disconnected: {events:?}");
}

#[test]
fn a_slow_link_is_slow_and_stays_up() {
    let (plane, mut a, mut b) = connected_pair();
    let timed = |a: &mut Node| -> u64 {
        a.eval(&format!("element(1, timer:tc(fun() -> {ERPC} end))")).parse().unwrap()
    };
    apply(&plane, 1, &both("a", "b"), LinkFault::delay(100, 20));
    assert!(timed(&mut a) >= 200_000, "100 ms in each direction");
    observed(&plane, 1);
    heal(&plane, 1);

    // 400 kB at 200 kB/s take about two seconds; half of that bounds it from below.
    apply(&plane, 2, &[link("a", "b")], LinkFault::Throttle { bytes_per_s: 200_000 });
    let start = Instant::now();
    a.eval("{sink, 'b@127.0.0.1'} ! binary:copy(<<7>>, 400000), ok");
    eventually("400 kB arrive", || (b.received() == "[400000]").then_some(()));
    assert!(start.elapsed() > Duration::from_secs(1));
    observed(&plane, 2);
    heal(&plane, 2);
    assert_eq!(a.seen(), "[{nodeup,'b@127.0.0.1'}]");
}

/// Holds a link for one second. `None` when a crowded machine made it two: that proves nothing.
fn hold_shortly() -> Option<(TestPlane, Node, Node)> {
    let (plane, mut a, mut b) = connected_pair();
    let start = Instant::now();
    apply(&plane, 1, &both("a", "b"), LinkFault::HOLD);
    a.eval("[{sink, 'b@127.0.0.1'} ! N || N <- lists:seq(1, 6)]");
    observed(&plane, 1);
    let received = b.received();
    sleep(Duration::from_secs(1).saturating_sub(start.elapsed()));
    heal(&plane, 1);
    if start.elapsed() >= Duration::from_secs(2) {
        return None;
    }
    assert_eq!(received, "[]");
    eventually("held messages in order", || (b.received() == "[1,2,3,4,5,6]").then_some(()));
    assert_eq!(a.seen(), "[{nodeup,'b@127.0.0.1'}]");
    assert_eq!(b.seen(), "[{nodeup,'a@127.0.0.1'}]");
    Some((plane, a, b))
}

#[test]
fn a_short_hold_is_not_noticed_and_a_long_one_by_both_sides() {
    let pair = (0..5).find_map(|_| hold_shortly());
    let (plane, mut a, mut b) = pair.expect("a hold of one second lasted less than two");
    let mut c = Node::start("c", plane.client.add_node("c").unwrap());
    c.connect("b");
    apply(&plane, 2, &both("a", "b"), LinkFault::HOLD);
    assert_eq!(a.nodedown_reason("b"), "net_tick_timeout");
    assert_eq!(b.nodedown_reason("a"), "net_tick_timeout");
    observed(&plane, 2);

    // A new connection meets a black hole, which net_setuptime (3 s here) ends.
    let start = Instant::now();
    assert_eq!(a.eval("net_adm:ping('b@127.0.0.1')"), "pang");
    assert!(start.elapsed() > Duration::from_secs(2), "{:?}", start.elapsed());
    heal(&plane, 2);
    a.connect("b");
    assert_eq!(a.eval(ERPC), "'b@127.0.0.1'");
}

#[test]
fn a_one_way_hold_is_a_timeout_for_the_deaf_and_a_close_for_the_other() {
    let (plane, mut a, mut b) = connected_pair();
    apply(&plane, 1, &[link("a", "b")], LinkFault::HOLD);
    assert_eq!(b.nodedown_reason("a"), "net_tick_timeout");
    assert_eq!(a.nodedown_reason("b"), "connection_closed");
    heal(&plane, 1);
    a.connect("b");
}

#[test]
fn ticks_alone_keep_a_connection_that_passes_nothing() {
    let (plane, mut a, mut b) = connected_pair();
    apply(&plane, 1, &both("a", "b"), LinkFault::TicksOnly);
    a.eval("[{sink, 'b@127.0.0.1'} ! N || N <- lists:seq(1, 6)]");
    let call = "erpc:call('b@127.0.0.1', erlang, node, [], 7000)";
    assert_eq!(a.eval(call), "{error,{erpc,timeout}}");
    observed(&plane, 1);
    assert_eq!(b.received(), "[]");
    assert_eq!(a.seen(), "[{nodeup,'b@127.0.0.1'}]");
    assert_eq!(b.seen(), "[{nodeup,'a@127.0.0.1'}]");
    let ticks = plane.stats("a", "b", "dist").counts.ticks_passed;
    assert!(ticks >= 3, "{ticks} ticks in 7 s");
    heal(&plane, 1);
    eventually("held messages in order", || (b.received() == "[1,2,3,4,5,6]").then_some(()));
    assert_eq!(a.eval(ERPC), "'b@127.0.0.1'");
}

/// Policies change while big and small messages, fragments and ticks are under way: a single byte at the
/// wrong place ends the connection.
#[test]
fn changes_of_policy_in_full_traffic_lose_nothing() {
    let (plane, mut a, mut b) = connected_pair();
    a.eval(
        "spawn(fun() -> [begin
            {sink, 'b@127.0.0.1'} ! N,
            {sink, 'b@127.0.0.1'} ! binary:copy(<<1>>, 1 + (N * 7919) rem 300000)
         end || N <- lists:seq(1, 1000)], {sink, 'b@127.0.0.1'} ! last end), ok",
    );
    let kinds = [
        LinkFault::TicksOnly,
        LinkFault::HOLD,
        LinkFault::NoTicks,
        LinkFault::delay(3, 5),
        LinkFault::Throttle { bytes_per_s: 20_000_000 },
    ];
    let mut fault = 0;
    let last =
        "R = make_ref(), sink ! {get, self(), R}, receive {R, S} -> lists:member(last, S) end";
    eventually("the last message", || {
        for kind in &kinds {
            fault += 1;
            apply(&plane, fault, &both("a", "b"), kind.clone());
            sleep(Duration::from_millis(7)); // So that traffic meets the policy; nothing rests on it.
            heal(&plane, fault);
        }
        (b.eval(last) == "true").then_some(())
    });
    let expected =
        "lists:append([[N, 1 + (N * 7919) rem 300000] || N <- lists:seq(1, 1000)]) ++ [last]";
    let received = format!(
        "R = make_ref(), sink ! {{get, self(), R}}, receive {{R, S}} -> S =:= {expected} end"
    );
    assert_eq!(b.eval(&received), "true");
    assert_eq!(a.seen(), "[{nodeup,'b@127.0.0.1'}]", "the connection is the first one");
    assert_eq!(plane.stats("a", "b", "dist").counts.opened, 1);
    println!("{fault} changes of policy under traffic");
}

#[test]
fn without_ticks_an_idle_link_dies() {
    let (plane, mut a, mut b) = connected_pair();
    apply(&plane, 1, &both("a", "b"), LinkFault::NoTicks);
    assert_eq!(a.eval(ERPC), "'b@127.0.0.1'", "data passes");
    // Whoever notices first closes; the other may see that instead.
    let (from_a, from_b) = (a.nodedown_reason("b"), b.nodedown_reason("a"));
    assert!([&from_a, &from_b].iter().any(|reason| *reason == "net_tick_timeout"));
    observed(&plane, 1);
    heal(&plane, 1);
    a.connect("b");
}

#[test]
fn a_half_open_connection_is_closed_for_one_and_silent_for_the_other() {
    let (plane, mut a, mut b) = connected_pair();
    let start = Instant::now();
    apply(&plane, 1, &[link("a", "b")], LinkFault::HalfOpen);
    assert_eq!(a.nodedown_reason("b"), "connection_closed");
    let seen = b.seen();
    if start.elapsed() < Duration::from_secs(2) {
        assert_eq!(seen, "[{nodeup,'a@127.0.0.1'}]", "b hears nothing of it");
    }
    assert_eq!(b.nodedown_reason("a"), "net_tick_timeout");
    observed(&plane, 1);

    // Again, healed before b notices: it sees a close then.
    heal(&plane, 1);
    a.connect("b");
    b.clear();
    apply(&plane, 2, &[link("a", "b")], LinkFault::HalfOpen);
    heal(&plane, 2);
    assert_eq!(b.nodedown_reason("a"), "connection_closed");
}

fn signal(name: &str, node: &Node) {
    let pid = node.os_pid().to_string();
    let status = std::process::Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(status.success());
}

/// Twice the time after which a silent peer is certainly down.
#[test]
fn forged_ticks_keep_the_connection_of_a_paused_peer() {
    let (plane, mut a, mut b) = connected_pair();
    apply(&plane, 1, &both("a", "b"), LinkFault::ForgedTicks);
    signal("-STOP", &b);
    let call = "erpc:call('b@127.0.0.1', erlang, node, [], 10000)";
    assert_eq!(a.eval(call), "{error,{erpc,timeout}}");
    observed(&plane, 1);
    assert_eq!(a.seen(), "[{nodeup,'b@127.0.0.1'}]");
    let counts = plane.stats("b", "a", "dist").counts;
    assert!(counts.ticks_forged >= 10, "{counts:?}");
    signal("-CONT", &b);
    assert_eq!(b.seen(), "[{nodeup,'a@127.0.0.1'}]");
    heal(&plane, 1);
    assert_eq!(a.eval(ERPC), "'b@127.0.0.1'");
    assert_eq!(plane.stats("a", "b", "dist").counts.opened, 1, "the connection is the first one");
}

fn plain_pair() -> (TestPlane, Node, Node) {
    let plane = TestPlane::start();
    let options = Options { plain_messages: true, capture: None };
    plane.client.configure(options.clone()).unwrap();
    let pair = connected_pair_of(plane);
    assert!(pair.0.client.configure(options).is_err(), "there are nodes");
    pair
}

#[test]
fn single_messages_vanish_or_come_late_and_the_connection_lives() {
    let (plane, mut a, mut b) = plain_pair();
    a.eval("{sink, 'b@127.0.0.1'} ! binary:copy(<<7>>, 10000000), ok");
    eventually("10 MB arrive", || (b.received() == "[10000000]").then_some(()));

    // To a name; what goes to a pid passes.
    let operations = |name: &str| vec![name.to_owned()];
    let drop = LinkFault::DropMessages { operations: operations("REG_SEND"), probability: 1.0 };
    let to_b = [link("a", "b")];
    apply(&plane, 1, &to_b, drop);
    a.eval("[{sink, 'b@127.0.0.1'} ! N || N <- lists:seq(1, 6)]");
    a.eval("{sink, 'b@127.0.0.1'} ! binary:copy(<<7>>, 1000000), ok");
    observed(&plane, 1);
    let pid = "erpc:call('b@127.0.0.1', erlang, whereis, [sink])";
    a.eval(&format!("{pid} ! by_pid"));
    eventually("what goes to a pid", || (b.received() == "[10000000,by_pid]").then_some(()));
    heal(&plane, 1);

    let latency_ms = 1_500;
    let late = LinkFault::DelayMessages { operations: operations("REG_SEND"), latency_ms };
    apply(&plane, 2, &to_b, late);
    let start = Instant::now();
    a.eval("{sink, 'b@127.0.0.1'} ! late");
    a.eval(&format!("{pid} ! early"));
    eventually("both", || (b.received() == "[10000000,by_pid,early,late]").then_some(()));
    assert!(start.elapsed() >= Duration::from_millis(latency_ms));
    observed(&plane, 2);
    heal(&plane, 2);
    a.eval("{sink, 'b@127.0.0.1'} ! last");
    eventually("as before", || (b.received() == "[10000000,by_pid,early,late,last]").then_some(()));
    assert_eq!(a.seen(), "[{nodeup,'b@127.0.0.1'}]");
    assert_eq!(plane.stats("a", "b", "dist").counts.opened, 1, "the connection is the first one");
}

#[test]
fn without_plain_messages_none_can_be_told_apart_and_none_is_touched() {
    let (plane, mut a, mut b) = connected_pair();
    let operations = vec!["REG_SEND".to_owned()];
    apply(&plane, 1, &both("a", "b"), LinkFault::DropMessages { operations, probability: 1.0 });
    a.eval("{sink, 'b@127.0.0.1'} ! here");
    eventually("it arrives", || (b.received() == "[here]").then_some(()));
    assert!(plane.client.observe(1).unwrap().iter().all(|link| !link.seen));
    heal(&plane, 1);
}

#[test]
fn a_black_hole_costs_who_connects_the_set_up_time() {
    let (plane, mut a, mut b) = connected_pair();
    apply(&plane, 1, &both("a", "b"), LinkFault::BlackholeConnect);
    observed(&plane, 1);
    assert_eq!(a.eval(ERPC), "'b@127.0.0.1'", "the existing connection stays");
    a.eval("erlang:disconnect_node('b@127.0.0.1')");
    b.nodedown_reason("a");
    let start = Instant::now();
    assert_eq!(a.eval("net_adm:ping('b@127.0.0.1')"), "pang");
    assert!(
        start.elapsed() > Duration::from_secs(2),
        "net_setuptime is 3 s: {:?}",
        start.elapsed()
    );
    heal(&plane, 1);
    a.connect("b");
}

#[test]
fn the_death_of_the_plane_cuts_every_link() {
    let (mut plane, mut a, mut b) = connected_pair();
    let events = plane.client.events();
    plane.process.kill().unwrap();
    assert_eq!(a.nodedown_reason("b"), "connection_closed");
    assert_eq!(b.nodedown_reason("a"), "connection_closed");
    eventually("the client knows", || plane.client.death());
    assert!(plane.client.stats().unwrap_err().to_string().contains("has died"));
    while events.recv_timeout(support::PATIENCE).is_ok() {}
    let late = plane.client.apply(1, &both("a", "b"), None, &LinkFault::HOLD, None);
    assert!(late.is_err());
}

#[test]
fn tools_reach_nodes_past_the_plane() {
    let plane = TestPlane::start();
    let a_port = plane.client.add_node("a").unwrap();
    let tool_port = plane.client.add_tool().unwrap();
    let mut nodes = Node::start_many(&[("a", a_port), ("tool", tool_port)]);
    let mut tool = nodes.remove(1);
    tool.connect("a");
    assert_eq!(plane.client.stats().unwrap().len(), 0, "no link, so nothing was proxied");
    let names = tool.eval("net_adm:names({127,0,0,1})");
    let real = plane.client.registered("a").unwrap().unwrap();
    assert!(names.contains(&real.to_string()), "{names} lists {real}");
}
