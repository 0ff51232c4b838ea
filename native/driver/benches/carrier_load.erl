%% Load between two nodes: round trips and throughput of one connection of the distribution.
-module(carrier_load).

-export([round_trips/3, throughput/3, sink/0]).

%% Calls of `erpc` a second, of so many callers.
round_trips(Node, Callers, Milliseconds) ->
    Calls = counters:new(1, []),
    Call = fun Call() -> Node = erpc:call(Node, erlang, node, []), counters:add(Calls, 1, 1), Call() end,
    Pids = [spawn_link(Call) || _ <- lists:seq(1, Callers)],
    timer:sleep(200),
    Rate = rate(fun() -> counters:get(Calls, 1) end, Milliseconds),
    [begin unlink(Pid), exit(Pid, kill) end || Pid <- Pids],
    Rate.

%% Messages of so many bytes a second that have arrived, sent by one process that keeps a few megabytes under way.
throughput(Node, Bytes, Milliseconds) ->
    Sink = spawn_link(Node, ?MODULE, sink, []),
    Message = binary:copy(<<7>>, Bytes),
    Arrived = counters:new(1, []),
    Sender = spawn_link(fun() -> send(Sink, Message, max(1, 4194304 div Bytes), Arrived) end),
    timer:sleep(200),
    Rate = rate(fun() -> counters:get(Arrived, 1) end, Milliseconds),
    [begin unlink(Pid), exit(Pid, kill) end || Pid <- [Sender, Sink]],
    Rate.

send(Sink, Message, Burst, Arrived) ->
    [Sink ! Message || _ <- lists:seq(1, Burst)],
    Sink ! {count, self()},
    [Sink ! Message || _ <- lists:seq(1, Burst)],
    receive {arrived, Count} -> counters:put(Arrived, 1, Count) end,
    send(Sink, Message, Burst, Arrived).

sink() -> sink(0).

sink(Count) ->
    receive
        {count, From} -> From ! {arrived, Count}, sink(Count);
        _ -> sink(Count + 1)
    end.

rate(Count, Milliseconds) ->
    {Before, Start} = {Count(), erlang:monotonic_time(microsecond)},
    timer:sleep(Milliseconds),
    {After, End} = {Count(), erlang:monotonic_time(microsecond)},
    round((After - Before) * 1000000 / (End - Start)).
