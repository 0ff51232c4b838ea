%% The carrier `-proto_dist fuzz`: distribution over TCP as with `inet_tcp_dist`, with a port driver (native/driver) that
%% can hold, delay, throttle, drop or close it inside this VM. What goes over the wire is standard, so that nodes with it
%% and stock nodes connect to each other.
%%
%% The handshake is made over an ordinary socket. Before `nodeup` its descriptor is handed to a port of the driver, which
%% then carries the connection; the socket stays open without reading, for `net_kernel:setopts/2`, until the connection's
%% process ends.
%%
%%   erl -proto_dist fuzz -pa EBIN     with FUZZ_DIST_CARRIER_LIBRARY=…/libfuzz_dist_driver.so
%%
%% FUZZ_DIST_CARRIER_SOCKET   where the driver listens for faults; without it there are none
%% FUZZ_DIST_CARRIER_PLAIN    when set, neither atom caches nor fragments are used, so that single messages can be dropped
%%                            without the connection coming apart
%%
%% Built on the OTP it runs on, since `#hs_data{}` changes between releases.
-module(fuzz_dist).

%% What `net_kernel` calls.
-export([listen/1, listen/2, accept/1, accept_connection/5, setup/5, close/1, select/1, address/0, is_node_name/1,
         setopts/2, getopts/2]).
%% What is spawned, and what `dist_util` calls by name.
-export([do_accept/6, do_setup/6, tick/1, getstat/1]).

-include_lib("kernel/include/net_address.hrl").
-include_lib("kernel/include/dist.hrl").
-include_lib("kernel/include/dist_util.hrl").

-define(DRIVER, "libfuzz_dist_driver").

%% The driver's commands; native/driver/src/port.rs has the same.
-define(ATTACH, 1).
-define(PRELOAD, 2).
-define(START, 3).
-define(STATISTICS, 4).
-define(GATE, 5).

%% Where the process of a connection keeps its port.
-define(PORT, '$fuzz_dist_port').
%% The peer's name, as soon as the handshake has told it.
-define(PEER, '$fuzz_dist_peer').

%% Who has begun the connection: `out` if this node has.
-define(INITIATOR, '$fuzz_dist_initiator').

%% How often a connect that a fault holds looks whether it may go on.
-define(GATE_EVERY_MS, 20).

listen(Name) ->
    {ok, Host} = inet:gethostname(),
    listen(Name, Host).

listen(Name, Host) ->
    case load() of
        ok ->
            inet_tcp_dist:gen_listen(inet_tcp, Name, Host);
        {error, Reason} ->
            error_logger:error_msg("fuzz_dist: cannot load the carrier ~ts: ~ts~nSet FUZZ_DIST_CARRIER_LIBRARY to the path "
                                   "of ~ts.so, or start without -proto_dist fuzz.~n",
                                   [library(), describe(Reason), ?DRIVER]),
            {error, Reason}
    end.

load() ->
    Path = library(),
    case erl_ddll:try_load(filename:dirname(Path), filename:basename(Path, ".so"), []) of
        {ok, _} -> ok;
        {error, permanent} -> ok;
        {error, Reason} -> {error, Reason}
    end.

describe(Reason) ->
    try erl_ddll:format_error(Reason) catch _:_ -> io_lib:format("~p", [Reason]) end.

library() ->
    case os:getenv("FUZZ_DIST_CARRIER_LIBRARY") of
        Path when is_list(Path), Path =/= "" -> Path;
        _ -> filename:join([filename:dirname(filename:dirname(code:which(?MODULE))), "priv", ?DRIVER ++ ".so"])
    end.

select(Node) -> inet_tcp_dist:gen_select(inet_tcp, Node).

address() -> inet_tcp_dist:gen_address(inet_tcp).

accept(Listen) -> inet_tcp_dist:gen_accept(inet_tcp, Listen).

close(Socket) -> inet_tcp:close(Socket).

is_node_name(Node) -> inet_tcp_dist:is_node_name(Node).

setopts(Socket, Options) -> inet_tcp_dist:setopts(Socket, Options).

getopts(Socket, Options) -> inet_tcp_dist:getopts(Socket, Options).

%% Another node has connected.

accept_connection(AcceptPid, Socket, MyNode, Allowed, SetupTime) ->
    spawn_opt(?MODULE, do_accept, [self(), AcceptPid, Socket, MyNode, Allowed, SetupTime],
              dist_util:net_ticker_spawn_options()).

do_accept(Kernel, AcceptPid, Socket, MyNode, Allowed, SetupTime) ->
    receive
        {AcceptPid, controller} ->
            Timer = dist_util:start_timer(SetupTime),
            open(in),
            HSData = hs_data(Kernel, MyNode, Socket, Timer),
            dist_util:handshake_other_started(
              HSData#hs_data{allowed = Allowed, f_address = fun(S, Node) -> remote_address(S, Node) end})
    end.

remote_address(Socket, Node) ->
    case {inet:peername(Socket), dist_util:split_node(Node)} of
        {{ok, Address}, {node, _Name, Host}} ->
            #net_address{address = Address, host = Host, protocol = tcp, family = inet};
        _ ->
            ?shutdown(no_node)
    end.

%% We connect to another node.

setup(Node, Type, MyNode, LongOrShortNames, SetupTime) ->
    spawn_opt(?MODULE, do_setup, [self(), Node, Type, MyNode, LongOrShortNames, SetupTime],
              dist_util:net_ticker_spawn_options()).

do_setup(Kernel, Node, Type, MyNode, LongOrShortNames, SetupTime) ->
    {Name, Host} = split(Node, LongOrShortNames),
    Epmd = net_kernel:epmd_module(),
    Timer = dist_util:start_timer(SetupTime),
    case epmd_call(Epmd, address_please, [Name, Host, inet]) of
        {ok, Ip, Port, Version} ->
            connect(Kernel, Node, Host, Ip, Port, Version, Type, MyNode, Timer);
        {ok, Ip} ->
            case Epmd:port_please(Name, Ip) of
                {port, Port, Version} ->
                    connect(Kernel, Node, Host, Ip, Port, Version, Type, MyNode, Timer);
                _ ->
                    ?shutdown(Node)
            end;
        _ ->
            ?shutdown(Node)
    end.

connect(Kernel, Node, Host, Ip, Port, Version, Type, MyNode, Timer) ->
    dist_util:reset_timer(Timer),
    open(out),
    put(?PEER, Node),
    gate(out),
    Options = application:get_env(kernel, inet_dist_connect_options, []),
    case inet_tcp:connect(Ip, Port, Options ++ [{active, false}, {packet, 2}]) of
        {ok, Socket} ->
            Address = #net_address{address = {Ip, Port}, host = Host, protocol = tcp, family = inet},
            HSData = hs_data(Kernel, MyNode, Socket, Timer),
            dist_util:handshake_we_started(
              HSData#hs_data{other_node = Node, other_version = Version, request_type = Type,
                             f_address = fun(_, _) -> Address end});
        _ ->
            ?shutdown(Node)
    end.

split(Node, LongOrShortNames) ->
    case dist_util:split_node(Node) of
        {node, Name, Host} ->
            Dots = length([$. || $. <- Host]),
            IsAddress = element(1, inet_tcp:parse_address(Host)) =:= ok,
            case LongOrShortNames of
                longnames when Dots =:= 0, not IsAddress ->
                    error_logger:error_msg("** System running to use fully qualified hostnames **~n"
                                           "** Hostname ~ts is illegal **~n", [Host]),
                    ?shutdown(Node);
                shortnames when Dots > 0 ->
                    error_logger:error_msg("** System NOT running to use fully qualified hostnames **~n"
                                           "** Hostname ~ts is illegal **~n", [Host]),
                    ?shutdown(Node);
                _ ->
                    {Name, Host}
            end;
        _ ->
            error_logger:error_msg("** Nodename ~p illegal **~n", [Node]),
            ?shutdown(Node)
    end.

epmd_call(Module, Function, Arguments) ->
    case erlang:function_exported(Module, Function, length(Arguments)) of
        true -> apply(Module, Function, Arguments);
        false -> apply(erl_epmd, Function, Arguments)
    end.

%% What both have in common.

hs_data(Kernel, MyNode, Socket, Timer) ->
    #hs_data{kernel_pid = Kernel,
             this_node = MyNode,
             socket = Socket,
             timer = Timer,
             this_flags = 0,
             reject_flags = rejected_flags(),
             f_send = fun send/2,
             f_recv = fun recv/3,
             f_setopts_pre_nodeup = fun hand_over/1,
             f_setopts_post_nodeup = fun start/1,
             f_getll = fun(_) -> {ok, get(?PORT)} end,
             mf_tick = fun ?MODULE:tick/1,
             mf_getstat = fun ?MODULE:getstat/1,
             mf_setopts = fun ?MODULE:setopts/2,
             mf_getopts = fun ?MODULE:getopts/2}.

rejected_flags() ->
    case os:getenv("FUZZ_DIST_CARRIER_PLAIN") of
        Value when is_list(Value), Value =/= "" -> ?DFLAG_DIST_HDR_ATOM_CACHE bor ?DFLAG_FRAGMENTS;
        _ -> 0
    end.

%% The port, which until the handshake is over only tells whether it may go on.
open(Initiator) ->
    put(?INITIATOR, Initiator),
    put(?PORT, open_port({spawn_driver, ?DRIVER}, [])).

send(Socket, Data) ->
    gate(out),
    inet_tcp:send(Socket, Data).

recv(Socket, Length, Timeout) ->
    case inet_tcp:recv(Socket, Length, Timeout) of
        {ok, Data} = Received ->
            learn(Data),
            gate(in),
            Received;
        Error ->
            Error
    end.

%% Who connects says its name in the first message: a node's, or only the host of one that wants to be named.
learn([$N, _, _, _, _, _, _, _, _, _, _, _, _, Length1, Length0 | Name] = _Data) ->
    case get(?PEER) of
        undefined -> put(?PEER, lists:sublist(Name, Length1 * 256 + Length0));
        _ -> known
    end;
learn(_) ->
    other.

%% Waits as long as a fault holds the link; the timer of the handshake ends that.
gate(Direction) ->
    case get(?PEER) of
        undefined -> ok;
        Peer -> gate(Direction, peer_name(Peer), 0)
    end.

gate(Direction, Peer, Again) ->
    Argument = [code(Direction), code(get(?INITIATOR)), Again, Peer],
    case erlang:port_control(get(?PORT), ?GATE, Argument) of
        [0] ->
            ok;
        [1] ->
            receive after ?GATE_EVERY_MS -> gate(Direction, Peer, 1) end;
        [2] ->
            ?shutdown(get(?PEER))
    end.

code(out) -> 0;
code(in) -> 1.

peer_name(Peer) when is_atom(Peer) -> atom_to_list(Peer);
peer_name(Peer) -> Peer.

%% The descriptor goes to the driver, and what the socket has read too much with it.
hand_over(Socket) ->
    Port = get(?PORT),
    case inet:setopts(Socket, [{active, false}, {packet, raw}, {mode, binary}, nodelay()]) of
        ok ->
            {ok, Descriptor} = inet:getfd(Socket),
            [] = erlang:port_control(Port, ?ATTACH, [<<Descriptor:32>>, peer_name(get(?PEER))]),
            preload(Port, Socket);
        Error ->
            Error
    end.

preload(Port, Socket) ->
    case inet_tcp:recv(Socket, 0, 0) of
        {ok, Data} ->
            [] = erlang:port_control(Port, ?PRELOAD, Data),
            preload(Port, Socket);
        {error, timeout} ->
            ok;
        Error ->
            Error
    end.

start(_Socket) ->
    [] = erlang:port_control(get(?PORT), ?START, []),
    ok.

nodelay() ->
    {nodelay, application:get_env(kernel, dist_nodelay, true) =/= false}.

%% A tick is a frame without content.
tick(Socket) ->
    try erlang:port_command(get(?PORT), [], [force]) of
        _ -> ok
    catch
        error:_ ->
            self() ! {tcp_closed, Socket},
            {error, closed}
    end.

getstat(_Socket) ->
    try erlang:port_control(get(?PORT), ?STATISTICS, []) of
        Bytes ->
            <<Received:64, Sent:64, Pending:64>> = list_to_binary(Bytes),
            {ok, Received, Sent, Pending}
    catch
        error:_ -> {error, closed}
    end.
