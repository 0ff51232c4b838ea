%% @doc What a live node waits for: calls that take a time, traced for a few seconds with their callers; times in the
%% environments of its applications; the files of its modules.
%%
%% Needs nothing but OTP 25 and is loaded into any node. The calls of functions in `functions/0' are traced for all
%% processes by a process of its own, whose end ends the tracing. Each trace message has the caller and the time only,
%% never the arguments; after `?CALLS_MAX' calls tracing stops early. `receive ... after' cannot be traced.
%% A node in which somebody else traces with the same patterns should be left alone: patterns are global.
-module(fuzz_dist_trace).

-export([observe/1, attach/3, handle_telemetry/4]).

-define(CALLS_MAX, 100000).

%% @doc Lines for the core, fields separated by tabs:
%% `call', kind, function, module of the caller, its function, its arity, time (ms or infinity), how often;
%% `env', application, name, whole number; `file', path of a module; `cut', if tracing stopped early.
-spec observe(Ms :: non_neg_integer()) -> {ok, binary()} | {error, term()}.
observe(Ms) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({traced, trace(Ms)}) end),
    receive
        {'DOWN', Monitor, process, Pid, {traced, {Calls, Cut}}} ->
            Lines = [call_line(Call, Count) || {Call, Count} <- maps:to_list(Calls)],
            {ok, unicode:characters_to_binary([Lines, [<<"cut\n">> || Cut], env_lines(), file_lines()])};
        {'DOWN', Monitor, process, Pid, Reason} ->
            {error, Reason}
    end.

trace(Ms) ->
    Functions = [Function || {_, {Module, _, _}, _} = Function <- functions(), code:ensure_loaded(Module) =/= error],
    [erlang:trace_pattern(MFA, pattern(MFA, Time), [global]) || {_, MFA, Time} <- Functions],
    erlang:trace(all, true, [call, arity]),
    Kinds = maps:from_list([{MFA, Kind} || {Kind, MFA, _} <- Functions]),
    Calls = collect(erlang:monotonic_time(millisecond) + Ms, Kinds, #{}, 0),
    erlang:trace(all, false, [call, arity]),
    [erlang:trace_pattern(MFA, false, [global]) || {_, MFA, _} <- Functions],
    Calls.

%% Of the arguments only the time goes into the message, and the caller. A time that is a moment, as the timers of
%% `timer' are, says nothing of how long is waited.
pattern({erlang, _, 4}, {argument, 1}) ->
    [{['_', '_', '_', [{abs, true}]], [], [{message, false}]} | told(1, 4)];
pattern({_, _, Arity}, {argument, Position}) ->
    told(Position, Arity);
pattern(_, Time) ->
    [{'_', [], [{message, {{{caller}, Time}}}]}].

told(Position, Arity) ->
    Head = [case N of Position -> '$1'; _ -> '_' end || N <- lists:seq(1, Arity)],
    [{Head, [], [{message, {{{caller}, '$1'}}}]}].

collect(_, _, Calls, ?CALLS_MAX) ->
    {Calls, true};
collect(Deadline, Kinds, Calls, Count) ->
    receive
        {trace, _, call, MFA, {Caller, Time}} ->
            case Kinds of
                #{MFA := Kind} when Caller =/= undefined, (is_integer(Time) orelse Time =:= infinity) ->
                    Add = fun(N) -> N + 1 end,
                    Calls1 = maps:update_with({Kind, MFA, Caller, Time}, Add, 1, Calls),
                    collect(Deadline, Kinds, Calls1, Count + 1);
                _ ->
                    collect(Deadline, Kinds, Calls, Count + 1)
            end
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        {Calls, false}
    end.

functions() ->
    [{call, {gen_server, call, 2}, 5000}, {call, {gen_server, call, 3}, {argument, 3}},
     {call, {gen_statem, call, 2}, infinity}, {call, {gen_statem, call, 3}, {argument, 3}},
     {call, {gen_event, call, 3}, 5000}, {call, {gen_event, call, 4}, {argument, 4}},
     {timer, {erlang, send_after, 3}, {argument, 1}}, {timer, {erlang, send_after, 4}, {argument, 1}},
     {timer, {erlang, start_timer, 3}, {argument, 1}}, {timer, {erlang, start_timer, 4}, {argument, 1}},
     {timer, {timer, send_after, 2}, {argument, 1}}, {timer, {timer, send_after, 3}, {argument, 1}},
     {timer, {timer, apply_after, 4}, {argument, 1}},
     {interval, {timer, send_interval, 2}, {argument, 1}}, {interval, {timer, send_interval, 3}, {argument, 1}},
     {interval, {timer, apply_interval, 4}, {argument, 1}},
     {sleep, {timer, sleep, 1}, {argument, 1}},
     {rpc, {rpc, call, 4}, infinity}, {rpc, {rpc, call, 5}, {argument, 5}},
     {rpc, {erpc, call, 4}, infinity}, {rpc, {erpc, call, 5}, {argument, 5}},
     {call, {'Elixir.GenServer', call, 2}, 5000}, {call, {'Elixir.GenServer', call, 3}, {argument, 3}},
     {timer, {'Elixir.Process', send_after, 3}, {argument, 3}},
     {timer, {'Elixir.Process', send_after, 4}, {argument, 3}},
     {task, {'Elixir.Task', await, 1}, 5000}, {task, {'Elixir.Task', await, 2}, {argument, 2}}].

call_line({Kind, {M, F, A}, {CallerM, CallerF, CallerA}, Time}, Count) ->
    io_lib:format("call\t~ts\t~ts:~ts/~w\t~ts\t~ts\t~w\t~w\t~w\n",
                  [Kind, M, F, A, CallerM, CallerF, CallerA, Time, Count]).

env_lines() ->
    [env_lines(App, atom_to_list(Key), Value)
     || {App, _, _} <- application:which_applications(), {Key, Value} <- application:get_all_env(App)].

env_lines(App, Name, Value) when is_integer(Value) ->
    io_lib:format("env\t~ts\t~ts\t~w\n", [App, Name, Value]);
env_lines(App, Name, Value) when is_map(Value) ->
    env_lines(App, Name, maps:to_list(Value));
env_lines(App, Name, [{Key, Value} | Rest]) ->
    Deeper = case is_atom(Key) of
        true -> env_lines(App, Name ++ "." ++ atom_to_list(Key), Value);
        false -> []
    end,
    [Deeper | env_lines(App, Name, Rest)];
env_lines(App, Name, [_ | Rest]) ->
    env_lines(App, Name, Rest);
env_lines(_, _, _) ->
    [].

file_lines() ->
    [["file\t", File, "\n"] || {_, File} <- code:all_loaded(), is_list(File), filename:extension(File) =:= ".beam"].

%% @doc Has the node agent tell the core of every telemetry event of that name.
-spec attach(Agent :: atom(), Id :: term(), Name :: [atom()]) -> ok | {error, term()}.
attach(Agent, Id, Name) ->
    case code:ensure_loaded(telemetry) of
        {module, telemetry} ->
            telemetry:attach({?MODULE, Id}, Name, fun ?MODULE:handle_telemetry/4, Agent);
        {error, Reason} ->
            {error, {no_telemetry, Reason}}
    end.

%% @private
-spec handle_telemetry([atom()], map(), map(), atom()) -> ok.
handle_telemetry(Name, _Measurements, _Metadata, Agent) ->
    Text = unicode:characters_to_binary(lists:join(".", [atom_to_list(Part) || Part <- Name])),
    Event = {event, telemetry, #{event => Text}, os:perf_counter(nanosecond), os:system_time(nanosecond)},
    %% While the agent starts again nobody has its name. A handler that raises is removed for good.
    catch Agent ! {fuzz_dist_agent, answer, Event},
    ok.
