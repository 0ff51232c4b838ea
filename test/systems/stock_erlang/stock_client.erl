%% The callbacks of FuzzDist.Client, written in Erlang, in a client VM: every operation is a call over the
%% distribution to the node that it is about. Nothing is caught, so that fuzz_dist classifies what goes wrong.
-module(stock_client).

-export([setup/2, ready/2, open/2, invoke/3, close/2]).

-define(CALL_MS, 2500).

%% Refuses nodes that are not stock: fuzz_dist may be loaded in them, but must not be in their code path.
setup(Node, _Context) ->
    Found = erpc:call(Node, code, where_is_file, ["fuzz_dist_agent.beam"]),
    Loaded = erpc:call(Node, erlang, module_loaded, [fuzz_dist_agent]),
    Elixir = erpc:call(Node, erlang, module_loaded, ['Elixir.Kernel']),
    case {Found, Loaded, Elixir} of
        {non_existing, true, false} -> ok;
        Other -> {error, {not_a_stock_node, Node, Other}}
    end.

ready(Node, _Context) ->
    is_pid(erpc:call(Node, erlang, whereis, [stock_register])).

open(Node, _Context) ->
    {ok, Node}.

invoke({read, {Key, nil}}, Node, _Context) ->
    {ok, {Key, call(Node, {read, Key})}};
invoke({write, {Key, Value}}, Node, _Context) ->
    ok = call(Node, {write, Key, Value}),
    {ok, {Key, Value}};
invoke({cas, {Key, [Old, New]}}, Node, _Context) ->
    case call(Node, {cas, Key, Old, New}) of
        ok -> {ok, {Key, [Old, New]}};
        no -> {fail, not_equal}
    end.

close(_Node, _Context) ->
    ok.

call(Node, Request) ->
    erpc:call(Node, stock_register, call, [Request], ?CALL_MS).
