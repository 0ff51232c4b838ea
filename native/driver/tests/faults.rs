//! Every fault of the carrier on real nodes: applied, seen from outside, healed, and seen to be healed.
//!
//! `net_ticktime` is 4 s here, so that a silent peer is certainly up for 2 s and certainly down after 5.

// Helpers are outside of test functions, which clippy.toml excepts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use support::{Control, Ground, Node, eventually};

const ERPC: &str = "erpc:call('b@127.0.0.1', erlang, node, [], 1000)";
const ANSWER: &str = "'b@127.0.0.1'";
const NO_ANSWER: &str = "{error,{erpc,timeout}}";

fn pair() -> (Ground, Node, Node, Control) {
    let ground = Ground::new();
    let (mut a, b) = (ground.node("a"), ground.stock_node("b"));
    a.connect("b");
    let control = ground.control("a");
    (ground, a, b, control)
}

#[test]
fn a_short_hold_delays_and_a_long_one_ends_the_connection() {
    let (_ground, mut a, mut b, mut control) = pair();
    let hold = control.apply("b", "both", r#"{"kind":"hold"}"#);
    assert_eq!(a.eval(ERPC), NO_ANSWER);
    a.eval("[{sink, 'b@127.0.0.1'} ! N || N <- lists:seq(1, 3)]");
    assert_eq!(b.received(), "[]");
    assert!(control.count("b", "held_frames") >= 4);
    control.heal(hold);
    eventually("held messages in order", || (b.received() == "[1,2,3]").then_some(()));
    assert_eq!(a.eval(ERPC), ANSWER);
    assert_eq!(a.seen(), "[{nodeup,'b@127.0.0.1'}]");

    let hold = control.apply("b", "both", r#"{"kind":"hold"}"#);
    assert_eq!(a.nodedown_reason("b"), "net_tick_timeout");
    assert_eq!(b.nodedown_reason("a"), "net_tick_timeout");
    // A connect waits as in a black hole, until net_setuptime (3 s here) ends it, from both sides.
    let start = Instant::now();
    assert_eq!(a.ping("b"), "pang");
    assert!(start.elapsed() > Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(b.ping("a"), "pang");
    assert!(control.count("b", "connects_held") >= 2);
    control.heal(hold);
    a.connect("b");
    assert_eq!(a.eval(ERPC), ANSWER);
}

#[test]
fn a_hold_of_one_direction_leaves_the_other() {
    let (_ground, mut a, mut b, mut control) = pair();
    let hold = control.apply("b", "in", r#"{"kind":"hold"}"#);
    a.eval("{sink, 'b@127.0.0.1'} ! out");
    b.eval("{sink, 'a@127.0.0.1'} ! in");
    eventually("what goes out", || (b.received() == "[out]").then_some(()));
    assert_eq!(a.nodedown_reason("b"), "net_tick_timeout");
    assert_eq!(b.nodedown_reason("a"), "connection_closed");
    assert_eq!(a.received(), "[]");
    control.heal(hold);
    a.connect("b");
}

#[test]
fn who_asked_is_gone_and_the_fault_with_it() {
    let (_ground, mut a, _b, mut control) = pair();
    control.apply("b", "out", r#"{"kind":"hold"}"#);
    assert_eq!(a.eval(ERPC), NO_ANSWER);
    drop(control);
    eventually("a call passes", || (a.eval(ERPC) == ANSWER).then_some(()));
}

#[test]
fn a_fault_heals_itself_at_its_deadline_and_begins_at_its_time() {
    let (_ground, mut a, _b, mut control) = pair();
    let now_ns = || {
        let time = std::fs::read_to_string("/proc/uptime").unwrap();
        (time.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e9) as u64
    };
    let at_ns = now_ns() + 300_000_000;
    let until_ns = at_ns + 2_000_000_000;
    let answer = control.ask(&format!(
        r#"{{"op":"apply","id":1,"fault":{{"kind":"hold"}},"at_ns":{at_ns},"until_ns":{until_ns}}}"#
    ));
    let late_ns = answer["monotonic_ns"].as_u64().unwrap().checked_sub(at_ns).unwrap();
    assert!(late_ns < 200_000_000, "{late_ns} ns late");
    assert_eq!(a.eval(ERPC), NO_ANSWER);
    eventually("a call passes", || (a.eval(ERPC) == ANSWER).then_some(()));
    assert!(now_ns() + 20_000_000 >= until_ns);
}

#[test]
fn late_frames_keep_their_order_and_stop_being_late() {
    let (_ground, mut a, mut b, mut control) = pair();
    let milliseconds = "element(1, timer:tc(fun() ->
        erpc:call('b@127.0.0.1', erlang, node, []) end)) div 1000";
    let took = |a: &mut Node| {
        let answer = a.eval(milliseconds);
        answer.parse::<u64>().unwrap_or_else(|_| panic!("{answer}"))
    };
    for direction in ["out", "in"] {
        let delay = r#"{"kind":"delay","latency_ms":300,"jitter_ms":50}"#;
        let delay = control.apply("b", direction, delay);
        let late_ms = took(&mut a);
        assert!((300..5000).contains(&late_ms), "{late_ms} ms {direction}");
        assert!(control.count("b", "delayed_frames") > 0);
        a.eval(
            "[{sink, 'b@127.0.0.1'} ! N || N <- lists:seq(1, 200)], {sink, 'b@127.0.0.1'} ! done",
        );
        control.heal(delay);
        let soon_ms = (0..20).map(|_| took(&mut a)).min().unwrap();
        assert!(soon_ms < 300, "{soon_ms} ms after the heal");
    }
    let in_order = "R = make_ref(), sink ! {get, self(), R},
        receive {R, S} -> S =:= lists:append(lists:duplicate(2, lists:seq(1, 200) ++ [done])) end";
    eventually("all in order", || (b.eval(in_order) == "true").then_some(()));
}

#[test]
fn a_rate_is_kept_in_each_direction() {
    let (_ground, mut a, _b, mut control) = pair();
    for direction in ["out", "in"] {
        let throttle =
            control.apply("b", direction, r#"{"kind":"throttle","bytes_per_s":1000000}"#);
        // Two million bytes take two seconds, less the burst and what a slow test adds.
        let bytes = "binary:copy(<<1>>, 2000000)";
        let call = match direction {
            "out" => format!("erpc:call('b@127.0.0.1', erlang, byte_size, [{bytes}])"),
            _ => "byte_size(erpc:call('b@127.0.0.1', binary, copy, [<<1>>, 2000000]))".to_owned(),
        };
        let start = Instant::now();
        assert_eq!(a.eval(&call), "2000000");
        let took_s = start.elapsed().as_secs_f64();
        assert!((1.8..10.0).contains(&took_s), "{took_s} s {direction}");
        assert!(control.count("b", "throttled") > 0);
        control.heal(throttle);
    }
}

/// Without caches of atoms and fragments a frame is a message, and the connection survives the loss of one.
#[test]
fn dropped_messages_are_lost_and_the_connection_stays() {
    let ground = Ground::new();
    let (mut a, mut b) = (ground.plain_node("a"), ground.stock_node("b"));
    a.connect("b");
    let mut control = ground.control("a");
    let drop_all = control.apply("b", "out", r#"{"kind":"drop"}"#);
    a.eval("[{sink, 'b@127.0.0.1'} ! {lost, N} || N <- lists:seq(1, 10)]");
    eventually("ten were dropped", || (control.count("b", "dropped_frames") >= 10).then_some(()));
    control.heal(drop_all);
    let half = control.apply("b", "in", r#"{"kind":"drop","per_mille":500}"#);
    b.eval("[{sink, 'a@127.0.0.1'} ! N || N <- lists:seq(1, 1000)]");
    let arrived = eventually("some of a thousand", || {
        let so_far =
            a.eval("R = make_ref(), sink ! {get, self(), R}, receive {R, S} -> length(S) end");
        let dropped = control.count("b", "dropped_frames");
        let so_far: u64 = so_far.parse().unwrap();
        (so_far + dropped >= 1010).then_some(so_far)
    });
    assert!((350..650).contains(&arrived), "{arrived} of a thousand");
    control.heal(half);
    assert_eq!(a.eval(ERPC), ANSWER);
    a.eval("{sink, 'b@127.0.0.1'} ! kept");
    eventually("only what was sent after the heal", || (b.received() == "[kept]").then_some(()));
    assert_eq!(a.seen(), "[{nodeup,'b@127.0.0.1'}]");
}

#[test]
fn ticks_alone_keep_a_connection_that_passes_nothing() {
    let (_ground, mut a, mut b, mut control) = pair();
    let gray = control.apply("b", "both", r#"{"kind":"ticks-only"}"#);
    // The messages that wait are no reason not to tick: nothing was written to be heard.
    assert_eq!(a.eval("erpc:call('b@127.0.0.1', erlang, node, [], 7000)"), NO_ANSWER);
    assert_eq!(a.seen(), "[{nodeup,'b@127.0.0.1'}]");
    assert_eq!(b.seen(), "[{nodeup,'a@127.0.0.1'}]");
    assert!(control.count("b", "ticks_passed") >= 3);
    control.heal(gray);
    assert_eq!(a.eval(ERPC), ANSWER);
}

#[test]
fn without_ticks_an_idle_connection_ends() {
    let (_ground, mut a, mut b, mut control) = pair();
    let silent = control.apply("b", "out", r#"{"kind":"no-ticks"}"#);
    assert_eq!(b.nodedown_reason("a"), "net_tick_timeout");
    assert_eq!(a.nodedown_reason("b"), "connection_closed");
    assert!(control.count("b", "ticks_suppressed") >= 1);
    control.heal(silent);
    a.connect("b");
}

/// The thread of the driver goes on while the VM does nothing at all for three tick times.
#[test]
fn forged_ticks_keep_a_node_that_stands_still() {
    let (_ground, mut a, mut b, mut control) = pair();
    let stall = "erts_debug:set_internal_state(available_internal_state, true),
        erts_debug:set_internal_state(block, 12000), stalled";
    let forged = control.apply("b", "out", r#"{"kind":"forged-ticks","every_ms":500}"#);
    let start = Instant::now();
    a.begin(stall);
    eventually("ticks are forged", || (control.count("b", "ticks_forged") >= 20).then_some(()));
    // Faults begin and end meanwhile.
    let hold = control.apply("b", "in", r#"{"kind":"hold"}"#);
    control.heal(hold);
    assert!(start.elapsed() < Duration::from_secs(12), "the VM was to stand still so long");
    assert_eq!(a.finish(), "stalled");
    assert_eq!(b.seen(), "[{nodeup,'a@127.0.0.1'}]");
    control.heal(forged);
    assert_eq!(a.eval(ERPC), ANSWER);

    a.begin(stall);
    assert_eq!(b.nodedown_reason("a"), "net_tick_timeout");
    assert_eq!(a.finish(), "stalled");
}

#[test]
fn a_close_is_seen_at_once_by_both_and_connects_again() {
    let (_ground, mut a, mut b, mut control) = pair();
    control.apply("b", "both", r#"{"kind":"close"}"#);
    assert_eq!(a.nodedown_reason("b"), "connection_closed");
    assert_eq!(b.nodedown_reason("a"), "connection_closed");
    // One connection, once for each direction.
    assert_eq!(control.count("b", "closed"), 2);
    a.connect("b");
    assert_eq!(a.eval(ERPC), ANSWER);
}

#[test]
fn refused_connects_fail_at_once_both_ways() {
    let (_ground, mut a, mut b, mut control) = pair();
    let refuse = control.apply("b", "both", r#"{"kind":"refuse-connect"}"#);
    assert_eq!(a.eval(ERPC), ANSWER, "a connection that exists stays");
    a.eval("erlang:disconnect_node('b@127.0.0.1')");
    let start = Instant::now();
    assert_eq!(a.ping("b"), "pang");
    assert_eq!(b.ping("a"), "pang");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(control.count("b", "connects_refused") >= 2);
    control.heal(refuse);
    a.connect("b");
}

#[test]
fn connects_of_one_side_are_refused_and_the_other_side_connects() {
    let (_ground, mut a, mut b, mut control) = pair();
    for (direction, refused) in [("out", true), ("in", false)] {
        let refuse = control.apply("b", direction, r#"{"kind":"refuse-connect"}"#);
        a.eval("erlang:disconnect_node('b@127.0.0.1')");
        eventually("b is alone", || (b.eval("nodes()") == "[]").then_some(()));
        if refused {
            assert_eq!(a.ping("b"), "pang");
            b.connect("a");
        } else {
            assert_eq!(b.ping("a"), "pang");
            a.connect("b");
        }
        control.heal(refuse);
    }
}

#[test]
fn a_busy_port_suspends_who_sends() {
    let (_ground, mut a, mut b, mut control) = pair();
    let busy = control.apply("b", "out", r#"{"kind":"busy"}"#);
    a.eval(
        "Send = fun Send(N) -> {sink, 'b@127.0.0.1'} ! binary:copy(<<N>>, 100000), Send(N + 1) end,
         register(sender, spawn(fun() -> Send(1) end))",
    );
    eventually("the sender is suspended", || {
        let status = a.eval("process_info(whereis(sender), status)");
        (status == "{status,suspended}").then_some(())
    });
    let try_to_send = "erlang:send({sink, 'b@127.0.0.1'}, x, [nosuspend])";
    assert_eq!(a.eval(try_to_send), "nosuspend");
    assert!(control.count("b", "busy") == 1);
    a.eval("exit(whereis(sender), kill)");
    control.heal(busy);
    eventually("sending goes on", || (a.eval(try_to_send) == "ok").then_some(()));
    eventually("what was sent arrives", || {
        let some = "R = make_ref(), sink ! {get, self(), R}, receive {R, S} -> length(S) > 2 end";
        (b.eval(some) == "true").then_some(())
    });
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    let (_ground, mut a, _b, mut control) = pair();
    for (line, part) in [
        ("{", "not understood"),
        (r#"{"op":"explode"}"#, "unknown variant `explode`"),
        (r#"{"op":"apply","id":1,"fault":{"kind":"melt"}}"#, "unknown variant `melt`"),
        (r#"{"op":"apply","id":1,"fault":{"kind":"hold","x":1}}"#, "unknown field"),
        (r#"{"op":"apply","id":1,"fault":{"kind":"delay","latency_ms":-1}}"#, "invalid value"),
        (
            r#"{"op":"apply","id":1,"fault":{"kind":"throttle","bytes_per_s":0}}"#,
            "bytes_per_s is 0",
        ),
        (r#"{"op":"apply","id":1,"fault":{"kind":"drop","per_mille":1001}}"#, "from 1 to 1000"),
        (r#"{"op":"apply","id":1,"fault":{"kind":"forged-ticks","every_ms":0}}"#, "at least 1"),
    ] {
        let answer = control.ask(line);
        assert!(answer["error"].as_str().unwrap().contains(part), "{line}: {answer}");
    }
    assert_eq!(a.eval(ERPC), ANSWER);
}
