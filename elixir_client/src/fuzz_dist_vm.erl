%% @doc Faults inside this VM, on behalf of the node agent: who holds them, and what heals them.
%%
%% Each fault is held by a process of its own, its lease (`fuzz_dist_vm_faults'). Whatever ends the lease heals the
%% fault: the core that asks for it, its deadline, a crash, or the end of the connection to the core (the core was
%% killed, say). What dies with a process that caused it (a suspension, a flood, garbage) needs nothing more.
%% Everything else (`sys:suspend', a cookie, a deaf connection, a module) is undone by the ledger: one process for
%% each connection, which starts the leases, is told how to undo a step before the step is done, and does so when
%% the lease is gone.
%%
%% An effect is what was measured in this VM: a lease looks for it until it is there, and after the heal a process
%% looks for what shows that. The ledger remembers both and tells them when it is asked.
%%
%% Requests, as they come from the core (answers are `{ok, Map}' or `{error, Text}'):
%%
%% <ul>
%% <li>`{apply, Fault, Map}': `kind', `until_ns' (of `os:perf_counter/1': past it the fault heals by itself), and
%% the parameters of the kind. Answered when it is applied, with `mono_ns' and what was decided.</li>
%% <li>`{go, Fault}': now; not answered. For faults after whose begin nothing could be.</li>
%% <li>`{look, Fault}': `state' (`starting', `active', `healing', `healed' or `unknown'), `seen' (`{Text, Map}' or
%% `nil'), `why_not' (text) and `heal_seen' (text or `nil').</li>
%% <li>`{heal, Fault}': answered when it is healed.</li>
%% <li>`heal_all': `left', the faults that are still being healed.</li>
%% </ul>
-module(fuzz_dist_vm).

-export([start/1, request/3, lost/1]).

%% How often, and how long, what shows a heal is looked for.
-define(LOOK_MS, 20).
-define(LOOKS_MAX, 3000).

-record(fault, {lease, state = starting,
                %% The request that applied it, until it is answered; requests that wait for the heal.
                asked, waiting = [],
                %% Steps back, the last first; the process that takes them.
                undo = [], undoing = none,
                %% What no other fault may do meanwhile.
                exclusive = none,
                seen = nil, why_not = <<"it was just applied">>,
                %% Says what shows the heal, if it can be seen by now.
                healed = fun() -> no end, heal_seen = nil}).
-record(ledger, {agent, faults = #{}}).

%% @doc Starts the ledger of a connection. It ends with the agent, or when the connection is lost.
-spec start(pid()) -> pid().
start(Agent) ->
    spawn(fun() ->
        process_flag(trap_exit, true),
        %% What a fault keeps busy must not keep this process from healing it.
        process_flag(priority, high),
        _ = erlang:monitor(process, Agent),
        ledger(#ledger{agent = Agent})
    end).

%% @doc Passes a request on; the agent gets the answer as it gets those of its own processes.
-spec request(pid(), integer(), term()) -> ok.
request(Ledger, Request, What) ->
    Ledger ! {request, Request, What},
    ok.

%% @doc The connection is lost: everything is healed.
-spec lost(pid()) -> ok.
lost(Ledger) ->
    Ledger ! lost,
    ok.

ledger(#ledger{agent = Agent, faults = Faults} = State) ->
    receive
        {request, Request, What} ->
            ledger(handle(What, Request, State));
        {told, Id, Change} ->
            case Faults of
                #{Id := Fault} -> ledger(State#ledger{faults = Faults#{Id := told(Change, Fault, State)}});
                _ -> ledger(State)
            end;
        {'EXIT', Lease, Reason} ->
            ledger(ended(Lease, Reason, State));
        lost ->
            abandon(Faults);
        {'DOWN', _, process, Agent, _} ->
            abandon(Faults);
        {'DOWN', _, process, Undoing, _} ->
            ledger(undone(Undoing, State))
    end.

%%% Requests

handle({apply, Id, Map}, Request, #ledger{faults = Faults} = State) ->
    Exclusive = fuzz_dist_vm_faults:exclusive(Map),
    Same = [Other || {Other, #fault{exclusive = E, state = S}} <- maps:to_list(Faults),
                     E =:= Exclusive, E =/= none, S =/= healed],
    case {Same, Faults} of
        {[], #{Id := #fault{state = S}}} when S =/= healed ->
            answer(Request, {error, <<"it is applied already">>}, State);
        {[], _} ->
            Ledger = self(),
            Tell = fun(Change) -> Ledger ! {told, Id, Change}, ok end,
            Lease = spawn_link(fun() -> fuzz_dist_vm_faults:lease(Map, Tell) end),
            Fault = #fault{lease = Lease, asked = Request, exclusive = Exclusive},
            State#ledger{faults = Faults#{Id => Fault}};
        {[Other | _], _} ->
            Text = ["fault ", integer_to_list(Other), " does the same here and is not over"],
            answer(Request, {error, unicode:characters_to_binary(Text)}, State)
    end;
handle({go, Id}, _, #ledger{faults = Faults} = State) ->
    case Faults of
        #{Id := #fault{lease = Lease}} -> Lease ! go;
        _ -> ok
    end,
    State;
handle({look, Id}, Request, #ledger{faults = Faults} = State) ->
    answer(Request, {ok, look(maps:get(Id, Faults, unknown))}, State);
handle({heal, Id}, Request, #ledger{faults = Faults} = State) ->
    case Faults of
        #{Id := #fault{state = S} = Fault} when S =/= healed ->
            Fault1 = heal(Fault),
            State#ledger{faults = Faults#{Id := Fault1#fault{waiting = [Request | Fault1#fault.waiting]}}};
        _ ->
            answer(Request, healed(), State)
    end;
handle(heal_all, Request, #ledger{faults = Faults} = State) ->
    Left = [Id || {Id, #fault{state = S}} <- maps:to_list(Faults), S =/= healed],
    answer(Request, {ok, #{left => Left}}, State#ledger{faults = maps:map(fun(_, Fault) -> heal(Fault) end, Faults)});
handle(Unknown, Request, State) ->
    answer(Request, {error, fuzz_dist_selector:text({unknown_request, Unknown})}, State).

heal(#fault{state = S, lease = Lease} = Fault) when S =:= starting; S =:= active ->
    exit(Lease, kill),
    Fault;
heal(Fault) ->
    Fault.

look(unknown) ->
    #{state => unknown, seen => nil, why_not => <<"it is not known to the node any more">>, heal_seen => nil};
look(#fault{state = S, seen = Seen, why_not = WhyNot, heal_seen = HealSeen}) ->
    #{state => S, seen => Seen, why_not => WhyNot, heal_seen => HealSeen}.

healed() -> {ok, #{mono_ns => os:perf_counter(nanosecond)}}.

answer(Request, Answer, #ledger{agent = Agent} = State) ->
    Agent ! {fuzz_dist_agent, answer, {reply, Request, Answer}},
    State.

%%% What leases tell

told({undo, Step}, #fault{undo = Undo} = Fault, _) ->
    Fault#fault{undo = [Step | Undo]};
told({applied, Decided, Healed}, #fault{asked = Request} = Fault, State) ->
    answer(Request, {ok, Decided#{mono_ns => os:perf_counter(nanosecond)}}, State),
    Fault#fault{state = active, asked = none, healed = Healed};
told({seen, Text, Evidence}, #fault{seen = nil} = Fault, _) ->
    Fault#fault{seen = {unicode:characters_to_binary(Text), Evidence}};
told({why_not, Text}, Fault, _) ->
    Fault#fault{why_not = unicode:characters_to_binary(Text)};
told({heal_seen, Text}, Fault, _) ->
    Fault#fault{heal_seen = unicode:characters_to_binary(Text)};
told(_, Fault, _) ->
    Fault.

%%% Healing

ended(Lease, Reason, #ledger{faults = Faults} = State) ->
    case [{Id, Fault} || {Id, #fault{lease = L} = Fault} <- maps:to_list(Faults), L =:= Lease] of
        [{Id, #fault{undo = Undo, state = S} = Fault}] ->
            Undoing = undo(Lease, Undo),
            WhyNot = case {S, Reason} of
                {starting, {refused, Text}} -> Text;
                {starting, killed} -> <<"it was healed before it was applied">>;
                {starting, _} -> fuzz_dist_selector:text(Reason);
                _ -> Fault#fault.why_not
            end,
            Faults1 = Faults#{Id := Fault#fault{state = healing, undoing = Undoing, why_not = WhyNot}},
            State#ledger{faults = Faults1};
        %% Of something that looked for a heal.
        [] -> State
    end.

%% A step that fails does not keep the others from being taken.
undo(Lease, Steps) ->
    {Pid, _} = spawn_monitor(fun() ->
        Monitor = erlang:monitor(process, Lease),
        receive {'DOWN', Monitor, process, Lease, _} -> ok end,
        lists:foreach(fun(Step) -> try Step() catch _:_ -> failed end end, Steps)
    end),
    Pid.

undone(Undoing, #ledger{faults = Faults} = State) ->
    case [{Id, Fault} || {Id, #fault{undoing = U} = Fault} <- maps:to_list(Faults), U =:= Undoing] of
        [{Id, #fault{asked = none, waiting = Waiting, healed = Healed} = Fault}] ->
            lists:foreach(fun(Request) -> answer(Request, healed(), State) end, Waiting),
            Ledger = self(),
            spawn_link(fun() -> look_for_heal(Ledger, Id, Healed, ?LOOKS_MAX) end),
            State#ledger{faults = Faults#{Id := Fault#fault{state = healed, waiting = [], undo = []}}};
        [{Id, #fault{asked = Request, waiting = Waiting, why_not = WhyNot}}] ->
            %% It could not be applied, and nothing is left of it.
            lists:foreach(fun(Other) -> answer(Other, healed(), State) end, Waiting),
            answer(Request, {error, WhyNot}, State#ledger{faults = maps:remove(Id, Faults)});
        [] ->
            State
    end.

look_for_heal(_, _, _, 0) ->
    ok;
look_for_heal(Ledger, Id, Healed, Left) ->
    case try Healed() catch _:_ -> no end of
        {yes, Text} -> Ledger ! {told, Id, {heal_seen, Text}};
        no -> timer:sleep(?LOOK_MS), look_for_heal(Ledger, Id, Healed, Left - 1)
    end.

%% Nobody can ask any more. What is being undone goes on by itself.
abandon(Faults) ->
    maps:foreach(
        fun(_, #fault{lease = Lease, undo = Undo, state = S}) when S =:= starting; S =:= active ->
                exit(Lease, kill),
                undo(Lease, Undo);
           (_, _) -> ok
        end, Faults),
    exit(shutdown).
