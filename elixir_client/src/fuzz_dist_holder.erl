%% @doc Tells the core when another process takes a place in the system under test: an election.
%%
%% The place is a selector of `fuzz_dist_selector': a name in `global' or another registry, a child of a supervisor, the
%% leader that a resolver names. Whoever has it is looked up again and again by a process in the node, which ends with
%% the node agent. Who has it first, and that nobody has it for a time, is no election.
%%
%% Limits: a place that is taken and taken back between two looks, `?EVERY_MS' apart, has not changed. Of the leader of
%% a Ra server that is on another node only the node is known; that node, where this runs as well, sees more.
-module(fuzz_dist_holder).

-export([watch/3]).

-define(EVERY_MS, 20).

%% @doc Has the node agent tell the core of every election; `Id' names the place in what it tells.
-spec watch(Agent :: atom(), Id :: binary(), fuzz_dist_selector:selector()) -> ok.
watch(Agent, Id, Selector) ->
    Look = fun() -> look(Agent, erlang:monitor(process, Agent), Id, Selector, nobody) end,
    spawn(fun() -> keep(Look) end),
    ok.

%% Whatever ends a watch but its agent is no reason to look no more.
keep(Look) ->
    {Pid, Monitor} = spawn_monitor(Look),
    receive
        {'DOWN', Monitor, process, Pid, normal} -> ok;
        {'DOWN', Monitor, process, Pid, _} -> timer:sleep(?EVERY_MS), keep(Look)
    end.

look(Agent, Monitor, Id, Selector, Before) ->
    Holder = case {Before, fuzz_dist_selector:holder(Selector)} of
        {_, nobody} -> Before;
        {nobody, Now} -> Now;
        {Now, Now} -> Now;
        {_, Now} -> tell(Agent, Id, Before, Now), Now
    end,
    receive
        {'DOWN', Monitor, process, _, _} -> ok
    after ?EVERY_MS ->
        look(Agent, Monitor, Id, Selector, Holder)
    end.

tell(Agent, Id, Before, Now) ->
    Detail = #{place => Id, before => text(Before), holder => text(Now)},
    Event = {event, elected, Detail, os:perf_counter(nanosecond), os:system_time(nanosecond)},
    %% One that has just ended is noticed at the next look.
    catch Agent ! {fuzz_dist_agent, answer, Event},
    ok.

text(Node) when is_atom(Node) -> atom_to_binary(Node);
text(Pid) -> iolist_to_binary([atom_to_list(node(Pid)), " ", pid_to_list(Pid)]).
