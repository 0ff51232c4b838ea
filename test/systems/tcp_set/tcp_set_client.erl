%% Adds to and reads from the set of one node.
-module(tcp_set_client).

-export([ready/2, open/2, invoke/3, close/2]).

ready(Node, _Context) -> is_pid(erpc:call(Node, erlang, whereis, [tcp_set])).

open(Node, _Context) -> {ok, Node}.

invoke({add, Element}, Node, _Context) ->
    ok = erpc:call(Node, tcp_set, add, [Element]),
    {ok, Element};
invoke({read, nil}, Node, _Context) ->
    {ok, erpc:call(Node, tcp_set, read, [])}.

close(_Node, _Context) -> ok.
