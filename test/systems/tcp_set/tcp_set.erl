%% A grow-only set that replicates over TCP of its own, not over the distribution: each node listens on the port in
%% FUZZ_DIST_OWN_PORT and sends its whole set, ten times a second, to every peer at the port that
%% FUZZ_DIST_PORT_REPL_<NODE> names.
-module(tcp_set).
-behaviour(gen_server).

-export([start/0, add/1, read/0]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(EVERY_MS, 100).
-define(PORTS, "FUZZ_DIST_PORT_REPL_").

%% For `erl -s tcp_set`.
start() ->
    {ok, _} = gen_server:start({local, ?MODULE}, ?MODULE, [], []),
    Own = list_to_integer(os:getenv("FUZZ_DIST_OWN_PORT")),
    Options = [binary, {packet, 4}, {active, false}, {ip, {127, 0, 0, 1}}, {reuseaddr, true}],
    Parent = self(),
    spawn(fun() ->
        {ok, Listener} = gen_tcp:listen(Own, Options),
        Parent ! listening,
        accept(Listener)
    end),
    receive listening -> ok end,
    Me = ?PORTS ++ string:uppercase(os:getenv("FUZZ_DIST_NODE")),
    [spawn(fun() -> replicate(list_to_integer(Port)) end)
     || {?PORTS ++ _ = Name, Port} <- os:env(), Name =/= Me].

add(Element) -> gen_server:call(?MODULE, {add, Element}).
read() -> gen_server:call(?MODULE, read).

init([]) -> {ok, []}.

handle_call({add, Element}, _From, Set) -> {reply, ok, ordsets:add_element(Element, Set)};
handle_call(read, _From, Set) -> {reply, Set, Set}.

handle_cast({merge, Other}, Set) -> {noreply, ordsets:union(Set, Other)}.

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Receiver = spawn(fun() -> receive go -> merge(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Receiver),
    Receiver ! go,
    accept(Listener).

merge(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Packet} ->
            gen_server:cast(?MODULE, {merge, binary_to_term(Packet)}),
            merge(Socket);
        {error, _} ->
            gen_tcp:close(Socket)
    end.

%% Connects again whenever the connection is lost.
replicate(Port) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {packet, 4}, {active, false}], 1000) of
        {ok, Socket} -> send(Socket);
        {error, _} -> ok
    end,
    timer:sleep(?EVERY_MS),
    replicate(Port).

send(Socket) ->
    case gen_tcp:send(Socket, term_to_binary(read())) of
        ok ->
            timer:sleep(?EVERY_MS),
            send(Socket);
        {error, _} ->
            gen_tcp:close(Socket)
    end.
