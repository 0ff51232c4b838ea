%% The callbacks of FuzzDist.Client for `supervised', in a client VM: every operation is a call over the distribution.
-module(supervised_client).

-export([setup/2, ready/2, open/2, invoke/3, close/2]).

-define(CALL_MS, 1500).

%% Refuses nodes that are not stock.
setup(Node, _Context) ->
    case erpc:call(Node, code, where_is_file, ["fuzz_dist_vm.beam"]) of
        non_existing -> ok;
        Path -> {error, {not_a_stock_node, Node, Path}}
    end.

ready(Node, _Context) ->
    is_pid(erpc:call(Node, erlang, whereis, [steady])).

open(Node, _Context) ->
    {ok, Node}.

invoke({look, _}, Node, _Context) ->
    {Version, Pid} = erpc:call(Node, supervised, look, [], ?CALL_MS),
    {ok, [Version, Pid]}.

close(_Node, _Context) ->
    ok.
