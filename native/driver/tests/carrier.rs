//! The carrier between real nodes: it carries what `inet_tcp_dist` carries, in clusters of both kinds.

// Helpers are outside of test functions, which clippy.toml excepts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{Ground, Node, eventually};

/// Does to node `b` what OTP's own tests of the distribution do, and sums up: big messages both ways, messages from
/// many processes at once, thousands of links that break, more atoms than the cache holds, and order throughout.
const EXERCISE: &str = "
    B = 'b@127.0.0.1',
    Big = [begin X = binary:copy(<<N>>, 1 bsl N), {N, erpc:call(B, erlang, md5, [X]) =:= erlang:md5(X)} end
           || N <- lists:seq(0, 24)],
    Deep = lists:foldl(fun(N, T) -> {N, [T, T]} end, leaf, lists:seq(1, 14)),
    Echo = erpc:call(B, erlang, hd, [[Deep]]) =:= Deep,
    Atoms = [list_to_atom(\"cache_\" ++ integer_to_list(N)) || N <- lists:seq(1, 5000)],
    Cached = erpc:call(B, lists, reverse, [Atoms]) =:= lists:reverse(Atoms),
    One = [erpc:call(B, erlang, atom_to_list, [A]) =:= atom_to_list(A) || A <- lists:sublist(Atoms, 3000)],
    Self = self(),
    Many = [spawn(fun() ->
        Self ! {self(), [erpc:call(B, erlang, '+', [N, M]) || M <- lists:seq(1, 20)] =:=
                        [N + M || M <- lists:seq(1, 20)]} end) || N <- lists:seq(1, 200)],
    Sums = [receive {P, Is} -> Is end || P <- Many],
    Old = process_flag(trap_exit, true),
    Links = [spawn_link(B, timer, sleep, [infinity]) || _ <- lists:seq(1, 2000)],
    [exit(P, kill) || P <- Links],
    Exits = [receive {'EXIT', P, Why} -> Why end || P <- Links],
    process_flag(trap_exit, Old),
    Monitors = [spawn_monitor(B, erlang, exit, [N]) || N <- lists:seq(1, 1000)],
    Downs = [receive {'DOWN', M, process, P, N} -> N end || {P, M} <- Monitors],
    {lists:all(fun({_, Is}) -> Is end, Big), Echo, Cached, lists:usort(One), lists:usort(Sums),
     lists:usort(Exits), Downs =:= lists:seq(1, 1000)}";

/// What [`EXERCISE`] gives when nothing is lost.
const ALL_THERE: &str = "{true,true,true,[true],[true],[killed],true}";

/// Messages of all sizes from one process arrive in order.
fn in_order(a: &mut Node, b: &mut Node) {
    a.eval(
        "[{sink, 'b@127.0.0.1'} ! {N, binary:copy(<<N>>, (N * 7919) rem 200000)} || N <- lists:seq(1, 400)],
         {sink, 'b@127.0.0.1'} ! last",
    );
    eventually("the last message", || {
        let sizes = "R = make_ref(), sink ! {get, self(), R}, receive {R, S} ->
            {length(S), S =:= [{N, binary:copy(<<N>>, (N * 7919) rem 200000)} || N <- lists:seq(1, 400)] ++ [last]}
            end";
        (b.eval(sizes) == "{401,true}").then_some(())
    });
}

#[test]
fn two_nodes_over_the_carrier_do_what_two_stock_nodes_do() {
    let stock = Ground::new();
    let (mut a, _b) = (stock.stock_node("a"), stock.stock_node("b"));
    a.connect("b");
    assert_eq!(a.eval(EXERCISE), ALL_THERE);

    let ground = Ground::new();
    let (mut a, mut b) = (ground.node("a"), ground.node("b"));
    a.connect("b");
    let carrier = "[{_, Port}] = erlang:system_info(dist_ctrl),
        erlang:port_info(Port, name) =:= {name, \"libfuzz_dist_driver\"}";
    assert_eq!(a.eval(carrier), "true");
    assert_eq!(a.eval(EXERCISE), ALL_THERE);
    in_order(&mut a, &mut b);
    assert_eq!(a.seen(), "[{nodeup,'b@127.0.0.1'}]");
}

#[test]
fn nodes_over_the_carrier_and_stock_nodes_are_one_cluster() {
    for carrier_connects in [true, false] {
        let ground = Ground::new();
        let (mut a, mut b) = match carrier_connects {
            true => (ground.node("a"), ground.stock_node("b")),
            false => (ground.stock_node("a"), ground.node("b")),
        };
        a.connect("b");
        assert_eq!(a.eval(EXERCISE), ALL_THERE);
        in_order(&mut a, &mut b);
        assert_eq!(b.eval("erpc:call('a@127.0.0.1', erlang, node, [])"), "'a@127.0.0.1'");
        // Longer than a tick in silence, and each still hears the other.
        b.eval("receive after 6000 -> ok end");
        assert_eq!(a.seen(), "[{nodeup,'b@127.0.0.1'}]");
        drop(a);
        assert_eq!(b.nodedown_reason("a"), "connection_closed");
    }
}

#[test]
fn without_caches_and_fragments_everything_still_arrives() {
    let ground = Ground::new();
    let (mut a, mut b) = (ground.plain_node("a"), ground.stock_node("b"));
    a.connect("b");
    assert_eq!(a.eval(EXERCISE), ALL_THERE);
    in_order(&mut a, &mut b);
}

#[test]
fn options_of_a_connection_are_read_and_set_as_usual() {
    let ground = Ground::new();
    let (mut a, _b) = (ground.node("a"), ground.node("b"));
    a.connect("b");
    assert_eq!(a.eval("net_kernel:getopts('b@127.0.0.1', [nodelay])"), "{ok,[{nodelay,true}]}");
    assert_eq!(a.eval("net_kernel:setopts('b@127.0.0.1', [{nodelay, false}])"), "ok");
    assert_eq!(a.eval("net_kernel:getopts('b@127.0.0.1', [nodelay])"), "{ok,[{nodelay,false}]}");
}

/// Connects and disconnects over and over; with `FUZZ_DIST_LONG` a hundred thousand times (a million times
/// without a handshake is in `port.rs`).
#[test]
fn connecting_and_closing_leaves_nothing_behind() {
    let rounds = if std::env::var_os("FUZZ_DIST_LONG").is_some() { 100_000 } else { 2_000 };
    let ground = Ground::new();
    let (mut a, mut b) = (ground.node("a"), ground.node("b"));
    let cycles = |count: usize| {
        format!(
            "B = 'b@127.0.0.1', F = fun F(0) -> done; F(N) ->
               case net_kernel:connect_node(B) of
                 true -> true = erlang:disconnect_node(B), F(N - 1);
                 false -> F(N)
               end end, F({count})"
        )
    };
    assert_eq!(a.eval(&cycles(500)), "done");
    // The last close is learnt of a moment later, and a process of the kernel may have connected again.
    let descriptors = |a: &mut Node, b: &mut Node| {
        eventually("both are alone", || {
            a.eval("erlang:disconnect_node('b@127.0.0.1')");
            (a.eval("nodes()") == "[]" && b.eval("nodes()") == "[]").then_some(())
        });
        (a.descriptor_count(), b.descriptor_count())
    };
    let before = descriptors(&mut a, &mut b);
    let (a_kib, b_kib) = (a.resident_kib(), b.resident_kib());
    for _ in 0..rounds / 1000 {
        assert_eq!(a.eval(&cycles(1000)), "done");
    }
    eventually("no descriptor more than before", || {
        let now = descriptors(&mut a, &mut b);
        (now.0 <= before.0 && now.1 <= before.1).then_some(())
    });
    // 20 MiB for a hundred thousand are 200 bytes each: less than any leak of a connection.
    assert!(a.resident_kib() < a_kib + 20_480, "{} from {a_kib}", a.resident_kib());
    assert!(b.resident_kib() < b_kib + 20_480, "{} from {b_kib}", b.resident_kib());
    a.connect("b");
}

#[test]
fn the_driver_is_unloaded_with_its_thread_and_socket() {
    let ground = Ground::new();
    let (mut a, _b) = (ground.node("a"), ground.node("b"));
    a.connect("b");
    // Names of threads have 15 bytes.
    let has_thread = |a: &Node| a.threads().iter().any(|name| name == "fuzz_dist_carri");
    assert!(has_thread(&a) && ground.socket("a").exists());
    // A driver is let go of by the process that has loaded it, and unloaded when its last port is closed.
    let unload = "Self = self(),
        sys:replace_state(net_kernel, fun(State) ->
            Self ! {unload, erl_ddll:try_unload(\"libfuzz_dist_driver\", [])}, State end),
        true = erlang:disconnect_node('b@127.0.0.1'),
        receive {unload, {ok, _}} -> ok end";
    assert_eq!(a.eval(unload), "ok");
    eventually("no thread of the driver", || (!has_thread(&a)).then_some(()));
    assert!(!ground.socket("a").exists());
    let loaded = "{ok, Loaded} = erl_ddll:loaded_drivers(),
        lists:member(\"libfuzz_dist_driver\", Loaded)";
    assert_eq!(a.eval(loaded), "false");
}
