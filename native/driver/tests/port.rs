//! The port by itself: any peer, any bytes, any pieces, and ports that come and go.
//!
//! A port that carries no distribution gives its owner what it would give the VM, so that framing can be looked at.

// Helpers are outside of test functions, which clippy.toml excepts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Instant;

use support::{Ground, Node};

/// `Pair` makes a connection over loopback and has one end carried by a port.
const PAIR: &str = "
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127,0,0,1}}, {backlog, 64}]),
    {ok, Number} = inet:port(Listen),
    Pair = fun() ->
        {ok, Near} = gen_tcp:connect({127,0,0,1}, Number, [binary, {active, false}, {nodelay, true}], 20000),
        {ok, Far} = gen_tcp:accept(Listen, 20000),
        {ok, Descriptor} = inet:getfd(Near),
        Port = open_port({spawn_driver, \"libfuzz_dist_driver\"}, [binary]),
        [] = port_control(Port, 1, [<<Descriptor:32>>, \"peer\"]),
        {Port, Near, Far}
    end,";

fn ground() -> (Ground, Node) {
    let ground = Ground::new();
    let node = ground.node("a");
    (ground, node)
}

/// The same, where the node has the module `ports`.
fn ground_of_many() -> (Ground, Node) {
    let ground = Ground::new();
    ground.compile(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/ports.erl"));
    let node = ground.node("a");
    (ground, node)
}

fn with_pair(node: &mut Node, body: &str) -> String {
    node.eval(&format!("{PAIR} {body}"))
}

/// Frames of all sizes in pieces of all sizes come out as they went in.
#[test]
fn frames_are_cut_where_they_end() {
    let (_ground, mut a) = ground();
    let body = "
        rand:seed(exsss, 7),
        Size = fun() -> case rand:uniform(10) of
            1 -> 0; 2 -> 1; 10 -> 30000 + rand:uniform(300000); _ -> rand:uniform(3000) end end,
        Round = fun(_) ->
            {Port, Near, Far} = Pair(),
            Frames = [rand:bytes(Size()) || _ <- lists:seq(1, 60)],
            Stream = iolist_to_binary([[<<(byte_size(F)):32>>, F] || F <- Frames]),
            Before = rand:uniform(200),
            <<Early:Before/binary, Rest/binary>> = Stream,
            [] = port_control(Port, 2, Early),
            [] = port_control(Port, 3, []),
            Sender = spawn_link(fun() ->
                Send = fun Send(<<>>) -> ok; Send(Bytes) ->
                    Count = min(byte_size(Bytes), case rand:uniform(3) of
                        1 -> rand:uniform(5); 2 -> rand:uniform(1500); 3 -> rand:uniform(200000) end),
                    <<Now:Count/binary, Later/binary>> = Bytes,
                    ok = gen_tcp:send(Far, Now), Send(Later) end,
                Send(Rest) end),
            true = is_pid(Sender),
            Got = [receive {Port, {data, Data}} -> Data after 20000 -> timeout end || _ <- Frames],
            port_close(Port), gen_tcp:close(Near), gen_tcp:close(Far),
            Got =:= Frames
        end,
        lists:usort(lists:map(Round, lists:seq(1, 40)))";
    assert_eq!(with_pair(&mut a, body), "[true]");
}

/// What is sent is framed, also when the socket takes only a little at a time.
#[test]
fn what_is_sent_has_its_length_before_it() {
    let (_ground, mut a) = ground();
    let body = "
        {Port, _Near, Far} = Pair(),
        [] = port_control(Port, 3, []),
        Frames = [binary:copy(<<N>>, (N * 7919) rem 100000) || N <- lists:seq(1, 300)],
        Self = self(),
        spawn_link(fun() -> Self ! {got, gen_tcp:recv(Far,
            lists:sum([4 + byte_size(F) || F <- Frames]) + 4, 30000)} end),
        [true = port_command(Port, F) || F <- Frames],
        true = port_command(Port, [], [force]),
        {ok, Got} = receive {got, G} -> G end,
        Bytes = iolist_to_binary([[<<(byte_size(F)):32>>, F] || F <- Frames] ++ [<<0:32>>]),
        Got =:= Bytes";
    assert_eq!(with_pair(&mut a, body), "true");
}

/// A length of four gigabytes takes no memory until the bytes come.
#[test]
fn a_length_is_not_believed() {
    let (_ground, mut a) = ground();
    let body = "
        Ports = [begin {Port, _, Far} = Pair(), [] = port_control(Port, 3, []),
            ok = gen_tcp:send(Far, <<16#ffffffff:32, 1, 2, 3>>), Port end || _ <- lists:seq(1, 100)],
        receive after 300 -> ok end,
        [Port ! {self(), close} || Port <- Ports], ok";
    let before_kib = a.resident_kib();
    a.begin(&format!("{PAIR} {body}"));
    let mut most_kib = 0;
    let answer = loop {
        most_kib = most_kib.max(a.resident_kib());
        if let Some(answer) = a.try_finish() {
            break answer;
        }
    };
    assert_eq!(answer, "ok");
    assert!(most_kib < before_kib + 300_000, "{before_kib} KiB grew to {most_kib}");
}

/// A peer that has made the handshake and then sends anything at all ends its connection, not the node.
#[test]
fn a_fuzzed_peer_ends_its_connection_only() {
    let rounds = if std::env::var_os("FUZZ_DIST_LONG").is_some() { 20_000 } else { 150 };
    let ground = Ground::new();
    let (mut a, mut b) = (ground.node("a"), ground.stock_node("b"));
    b.eval("logger:set_primary_config(level, none)");
    a.eval("logger:set_primary_config(level, none)");
    let body = "
        Flags = 16#d07df7fbd,
        Epmd = fun() -> {port, P, _} = erl_epmd:port_please(\"a\", {127,0,0,1}), P end,
        Handshake = fun(Name) ->
            {ok, S} = gen_tcp:connect({127,0,0,1}, Epmd(), [binary, {active, false}, {packet, 2}]),
            ok = gen_tcp:send(S, [<<$N, Flags:64, 1:32, (length(Name)):16>>, Name]),
            {ok, <<$s, _/binary>>} = gen_tcp:recv(S, 0, 5000),
            {ok, <<$N, _:64, Challenge:32, _/binary>>} = gen_tcp:recv(S, 0, 5000),
            Digest = erlang:md5(\"driver_test\" ++ integer_to_list(Challenge)),
            ok = gen_tcp:send(S, [<<$r, 77:32>>, Digest]),
            {ok, <<$a, _/binary>>} = gen_tcp:recv(S, 0, 5000),
            ok = inet:setopts(S, [{packet, raw}]), S
        end,
        rand:seed(exsss, 11),
        Bytes = fun() -> case rand:uniform(4) of
             1 -> rand:bytes(rand:uniform(200));
             2 -> X = rand:bytes(rand:uniform(3000)), [<<(byte_size(X)):32>>, X];
             3 -> X = rand:bytes(rand:uniform(60)), [<<(byte_size(X) + 2):32, 131, 68>>, X];
             4 -> X = rand:bytes(rand:uniform(60)), [<<(byte_size(X) + 1):32, 112>>, X] end end,
        Round = fun(N) ->
            S = Handshake(\"x\" ++ integer_to_list(N rem 50) ++ \"@127.0.0.1\"),
            catch [ok = gen_tcp:send(S, Bytes()) || _ <- lists:seq(1, 30)],
            gen_tcp:close(S) end,";
    let answer = b.eval(&format!("{body} lists:foreach(Round, lists:seq(1, {rounds})), done"));
    assert_eq!(answer, "done");
    // It still does everything, with everybody else.
    b.connect("a");
    assert_eq!(b.eval("erpc:call('a@127.0.0.1', erlang, node, [])"), "'a@127.0.0.1'");
    support::eventually("only b is left", || {
        (a.eval("nodes(connected)") == "['b@127.0.0.1']").then_some(())
    });
}

/// How often, by default and with `FUZZ_DIST_LONG`.
fn times(default: usize, long: usize) -> usize {
    if std::env::var_os("FUZZ_DIST_LONG").is_some() { long } else { default }
}

/// A port that is opened, attached, used and closed leaves nothing; with `FUZZ_DIST_LONG` a million of them.
#[test]
fn ports_come_and_go() {
    let (_ground, mut a) = ground_of_many();
    let thousand = "ports:cycles(1, 1000, cycle)";
    assert_eq!(a.eval(thousand), "[done]");
    let (descriptors, kib) = (a.descriptor_count(), a.resident_kib());
    let began = Instant::now();
    for round in 1..=times(5, 1_000) {
        assert_eq!(a.eval(thousand), "[done]");
        if round % 100 == 0 {
            eprintln!("{round},000 ports in {:.0} s", began.elapsed().as_secs_f64());
        }
    }
    support::eventually("no descriptor more", || {
        (a.descriptor_count() <= descriptors).then_some(())
    });
    // 16 MiB: for a million ports 16 bytes each.
    assert!(a.resident_kib() < kib + 16_384, "{kib} KiB grew to {}", a.resident_kib());
}

/// The same from many processes at once, while faults come and go on all of them: the thread of the driver looks at
/// connections, writes to them and ends them while their ports go. A fault may end a connection, never more than that.
#[test]
fn ports_come_and_go_under_faults() {
    let (ground, mut a) = ground_of_many();
    assert_eq!(a.eval("ports:cycles(20, 5, under_faults)"), "[done]");
    let descriptors = a.descriptor_count();
    let mut control = ground.control("a");
    for _ in 0..times(4, 400) {
        a.begin("ports:cycles(20, 50, under_faults)");
        let answer = loop {
            for fault in FAULTS {
                let id = control.apply_to_all(fault);
                control.heal(id);
            }
            if let Some(answer) = a.try_finish() {
                break answer;
            }
        };
        assert_eq!(answer, "[done]");
    }
    drop(control);
    // Without faults everything is as it was.
    assert_eq!(a.eval("ports:cycles(20, 20, cycle)"), "[done]");
    support::eventually("no descriptor more", || {
        (a.descriptor_count() <= descriptors).then_some(())
    });
}

/// What [`ports_come_and_go_under_faults`] has come and go.
const FAULTS: &[&str] = &[
    r#"{"kind":"hold"}"#,
    r#"{"kind":"delay","latency_ms":2,"jitter_ms":3}"#,
    r#"{"kind":"throttle","bytes_per_s":20000}"#,
    r#"{"kind":"forged-ticks","every_ms":1}"#,
    r#"{"kind":"busy"}"#,
    r#"{"kind":"ticks-only"}"#,
    r#"{"kind":"drop","per_mille":500}"#,
    r#"{"kind":"close"}"#,
];

/// What makes no sense to the port is `badarg` to who asks.
#[test]
fn what_a_port_cannot_do_is_an_error() {
    let (_ground, mut a) = ground();
    let body = "
        Try = fun(Port, Number, Argument) -> try port_control(Port, Number, Argument) catch error:R -> R end end,
        Bare = open_port({spawn_driver, \"libfuzz_dist_driver\"}, []),
        {Port, _, _} = Pair(),
        [Try(Bare, 1, [<<99999:32>>]), Try(Bare, 1, []), Try(Bare, 2, [1]), Try(Bare, 3, []), Try(Bare, 4, []),
         Try(Bare, 5, []), Try(Bare, 77, []), Try(Bare, 5, [0, 0, 0, \"peer\"]), Try(Port, 1, [<<1:32>>, \"again\"]),
         Try(Port, 3, []), length(Try(Port, 4, []))]";
    assert_eq!(
        with_pair(&mut a, body),
        "[badarg,badarg,badarg,badarg,badarg,badarg,badarg,[0],badarg,[],24]"
    );
}
