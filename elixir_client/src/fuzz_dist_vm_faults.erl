%% @doc What faults inside this VM do: the leases of `fuzz_dist_vm'.
%%
%% A lease applies its fault, tells what was decided (the pid that a selector meant), and looks for the effect
%% until it is there. It traps no exits: killing it heals what it holds, and whatever it linked to itself
%% ends with it. What would outlast it is told to the ledger first, as a step back.
%%
%% Limits: `block' of `erts_debug' stalls every scheduler and cannot be ended early, so it never lasts longer than
%% was asked for; what it needs is an internal feature of the emulator, which prints a notice once. A deaf
%% connection must be one of `inet_tcp_dist': others (TLS, a carrier of its own) have no port that could be told
%% not to read. A dirty job cannot be interrupted: dirty schedulers are kept busy with many short ones.
-module(fuzz_dist_vm_faults).

-export([lease/2, exclusive/1]).

-define(LOOK_MS, 20).
%% How long another process may take to answer us.
-define(CALL_MS, 1000).
%% How long the answer of a peer must stay away before a node counts as deaf.
-define(DEAF_MS, 400).
%% How far past its end a fault goes on if nobody heals it.
-define(GRACE_MS, 2000).
%% A message queue that grew by so many is flooded; one that holds the maximum gets no more.
-define(FLOOD_MIN, 10).
-define(FLOOD_MAX, 1000000).
%% So many children are killed before a supervisor counts as one that does not give up.
-define(KILLS_MAX, 10000).
%% Dirty jobs: how long each keeps a scheduler, and how many wait for each scheduler.
-define(DIRTY_MS, 50).
-define(DIRTY_QUEUE, 10).

-type tell() :: fun((term()) -> ok).

%% @doc What only one fault can do at a time, or `none'.
-spec exclusive(map()) -> term().
exclusive(#{kind := 'load-module', module := Module}) -> {'load-module', Module};
exclusive(#{kind := Kind}) when Kind =:= 'set-cookie'; Kind =:= deaf; Kind =:= 'dirty-block';
                                Kind =:= 'stall-schedulers' -> Kind;
exclusive(_) -> none.

%% @doc The life of a lease.
-spec lease(map(), tell()) -> no_return().
lease(#{kind := Kind, until_ns := UntilNs} = Fault, Tell) ->
    _ = erlang:send_after(left_ms(UntilNs) + ?GRACE_MS, self(), over),
    {Decided, Healed, Probe} = apply_fault(Kind, Fault, Tell),
    Tell({applied, Decided, Healed}),
    look(Probe, Tell).

look(Probe, Tell) ->
    case Probe() of
        {seen, Text, Evidence} -> Tell({seen, Text, Evidence}), hold(Probe);
        {wait, Why} -> Tell({why_not, Why}), pause(), look(Probe, Tell);
        %% Somebody else looks.
        elsewhere -> hold(Probe)
    end.

pause() ->
    receive over -> exit(normal) after ?LOOK_MS -> ok end.

hold(Probe) ->
    receive
        over -> exit(normal);
        go -> hold(Probe);
        _ -> hold(Probe)
    end.

left_ms(UntilNs) -> max(0, (UntilNs - os:perf_counter(nanosecond)) div 1000000).

%%% Erlang processes

apply_fault('kill-process', Fault, Tell) ->
    apply_fault('exit-process', Fault#{reason => kill}, Tell);
apply_fault('exit-process', #{reason := Reason} = Fault, Tell) ->
    {Pid, Again} = target(Fault),
    Decided = decided(Pid),
    tell_end(Pid, Fault, Tell),
    Trapped = Reason =/= kill andalso process_info(Pid, trap_exit) =:= {trap_exit, true},
    Trapped andalso trace_exit(Pid, Tell),
    true = exit(Pid, Reason),
    Probe = fun() ->
        receive
            {trace, Pid, 'receive', {'EXIT', _, Reason}} ->
                {seen, [text(Pid), " got the exit signal as a message, since it traps exits"],
                 #{pid => text(Pid), reason => text(Reason), trapped => true}}
        after 0 ->
            case is_process_alive(Pid) of
                true -> {wait, [text(Pid), " lives; ", ignored(Trapped, Reason)]};
                false -> elsewhere
            end
        end
    end,
    {Decided, fun() -> stands(Again) end, Probe};
apply_fault(suspend, Fault, _) ->
    {Pid, Again} = target(Fault),
    try erlang:suspend_process(Pid)
    catch error:Reason -> refuse([text(Pid), " cannot be suspended: ", text(Reason)])
    end,
    Probe = fun() ->
        case process_info(Pid, [status, message_queue_len]) of
            [{status, suspended}, {_, Queue}] ->
                {seen, [text(Pid), " is suspended"], #{pid => text(Pid), message_queue_len => Queue}};
            Other -> {wait, [text(Pid), " is not suspended: ", text(Other)]}
        end
    end,
    Healed = fun() ->
        case process_info(Pid, status) of
            {status, suspended} -> no;
            {status, Status} -> {yes, [text(Pid), " is ", text(Status), " again"]};
            undefined -> stands(Again)
        end
    end,
    {decided(Pid), Healed, Probe};
apply_fault('sys-suspend', Fault, Tell) ->
    {Pid, Again} = target(Fault),
    %% One that is too busy to answer finds the message later.
    Tell({undo, fun() -> sys:resume(Pid, ?CALL_MS) end}),
    try sys:suspend(Pid, ?CALL_MS)
    catch exit:_ ->
        refuse([text(Pid), " did not answer sys:suspend within ", text(?CALL_MS), " ms: is it a process of OTP "
                "(gen_server, gen_statem …), and not busy?"])
    end,
    Probe = fun() ->
        case sys_state(Pid) of
            suspended ->
                {message_queue_len, Queue} = process_info(Pid, message_queue_len),
                {seen, [text(Pid), " handles system messages only"],
                 #{pid => text(Pid), message_queue_len => Queue}};
            Other -> {wait, [text(Pid), " is ", text(Other)]}
        end
    end,
    Healed = fun() ->
        case is_process_alive(Pid) andalso sys_state(Pid) of
            running -> {yes, [text(Pid), " is running again"]};
            false -> stands(Again);
            _ -> no
        end
    end,
    {decided(Pid), Healed, Probe};
apply_fault(flood, #{messages_per_s := PerSecond} = Fault, _) ->
    {Pid, Again} = target(Fault),
    [{_, Before}, {_, Reductions}] = process_info(Pid, [message_queue_len, reductions]),
    Sent = counters:new(1, [write_concurrency]),
    spawn_link(fun() -> flood(Pid, PerSecond, now_ms(), 0, Sent) end),
    Probe = fun() ->
        Count = counters:get(Sent, 1),
        case process_info(Pid, [message_queue_len, reductions]) of
            %% What waits, or what was taken: a message costs at least one reduction.
            [{_, Queue}, {_, Spent}] when Count > 0, Queue - Before >= ?FLOOD_MIN;
                                          Count >= ?FLOOD_MIN, Spent - Reductions >= Count ->
                {seen, [text(Count), " messages sent, ", text(Queue), " of them wait in ", text(Pid)],
                 #{pid => text(Pid), sent => Count, message_queue_len => Queue, reductions => Spent - Reductions}};
            undefined ->
                {seen, [text(Pid), " is gone after ", text(Count), " messages"], #{pid => text(Pid), sent => Count}};
            [{_, Queue}, _] ->
                {wait, [text(Count), " messages sent, and the queue of ", text(Pid), " holds ", text(Queue)]}
        end
    end,
    Healed = fun() ->
        case process_info(Pid, message_queue_len) of
            {_, Queue} when Queue =< Before + ?FLOOD_MIN ->
                {yes, [text(Queue), " messages wait in ", text(Pid)]};
            undefined -> stands(Again);
            _ -> no
        end
    end,
    {decided(Pid), Healed, Probe};
apply_fault('exhaust-restarts', Fault, _) ->
    {Supervisor, Again} = target(Fault),
    fuzz_dist_selector:is_supervisor(Supervisor) orelse refuse([text(Supervisor), " is no supervisor"]),
    running_child(Supervisor) =/= none orelse
        refuse(["the supervisor ", text(Supervisor), " has no running child that could be killed"]),
    Limits = limits(Supervisor),
    Monitor = erlang:monitor(process, Supervisor),
    Kills = counters:new(1, []),
    Probe = fun() -> exhaust(Supervisor, Monitor, Kills, Limits) end,
    {maps:merge(decided(Supervisor), Limits), fun() -> stands(Again) end, Probe};

%%% Schedulers and memory

apply_fault('stall-schedulers', #{until_ns := UntilNs}, Tell) ->
    Tell({undo, fun() -> internal_state(false) end}),
    try internal_state(true)
    catch error:_ -> refuse("erts_debug:set_internal_state is not there: this emulator was built without it")
    end,
    Wanted = left_ms(UntilNs),
    Lease = self(),
    %% Of its own, so that it can tell how long it stood still after the lease has ended.
    spawn(fun() -> lag(erlang:monitor(process, Lease), os:perf_counter(nanosecond), Wanted div 2, Tell) end),
    Probe = fun() ->
        receive
            go -> erts_debug:set_internal_state(block, left_ms(UntilNs)), elsewhere;
            over -> exit(normal)
        end
    end,
    {#{schedulers => erlang:system_info(schedulers_online)}, fun() -> responsive() end, Probe};
apply_fault('dirty-block', _, _) ->
    Kinds = [{dirty_cpu, erlang:system_info(dirty_cpu_schedulers_online)},
             {dirty_io, erlang:system_info(dirty_io_schedulers)}],
    %% What this fault runs, and tells of itself, is loaded before: files are read by the schedulers that it blocks.
    {module, _} = code:ensure_loaded(erts_debug),
    _ = [text(Word) || Word <- [dirty_cpu, 0]],
    _ = [spawn_link(fun() -> keep_busy(Kind) end)
         || {Kind, Schedulers} <- Kinds, _ <- lists:seq(1, Schedulers * ?DIRTY_QUEUE)],
    Lease = self(),
    %% Of their own: who waits for a dirty scheduler cannot be ended before it had one.
    _ = [spawn_link(fun() -> dirty_lag(Lease, Kind) end) || {Kind, _} <- Kinds],
    Probe = fun() -> dirty_lags([Kind || {Kind, _} <- Kinds]) end,
    Healed = fun() ->
        case lists:max([dirty_ms(Kind) || {Kind, _} <- Kinds]) of
            Ms when Ms < ?DIRTY_MS -> {yes, ["a dirty job runs after ", text(Ms), " ms"]};
            _ -> no
        end
    end,
    {maps:from_list(Kinds), Healed, Probe};
apply_fault(garbage, #{megabytes := Megabytes}, _) ->
    Bytes = Megabytes bsl 20,
    Lease = self(),
    Pid = spawn_link(fun() -> garbage(Lease, Bytes, 0, 0) end),
    Probe = fun() ->
        receive
            {collected, Memory, Count, Longest} when Memory >= Bytes ->
                {seen, [text(Pid), " holds ", text(Memory bsr 20), " MB and has collected ", text(Count),
                        " times, for ", text(Longest), " ms at most"],
                 #{memory_bytes => Memory, collections => Count, longest_ms => Longest}};
            {collected, Memory, _, _} -> {wait, [text(Pid), " holds ", text(Memory bsr 20), " MB"]}
        after 0 ->
            {wait, [text(Pid), " has not filled its heap yet"]}
        end
    end,
    Healed = fun() ->
        case is_process_alive(Pid) of
            false -> {yes, [text(Megabytes), " MB are free again"]};
            true -> no
        end
    end,
    {decided(Pid), Healed, Probe};

%%% Connections

apply_fault('set-cookie', #{cookie := Text}, Tell) ->
    Old = erlang:get_cookie(),
    New = binary_to_atom(Text),
    is_alive() orelse refuse("the node is not distributed"),
    Old =/= New orelse refuse(["the cookie is ", Text, " already"]),
    Tell({undo, fun() -> erlang:set_cookie(node(), Old) end}),
    erlang:set_cookie(node(), New),
    Probe = fun() ->
        case erlang:get_cookie() of
            New -> {seen, "the node has another cookie", #{connected => [text(Node) || Node <- nodes()]}};
            _ -> {wait, "the node has its own cookie"}
        end
    end,
    Healed = fun() ->
        case erlang:get_cookie() of
            Old -> {yes, "the node has its own cookie again"};
            _ -> no
        end
    end,
    {#{}, Healed, Probe};
apply_fault(disconnect, #{reconnects := Reconnects}, _) ->
    Peers = nodes(),
    Peers =/= [] orelse refuse("the node is connected to nobody"),
    ok = net_kernel:monitor_nodes(true, [nodedown_reason]),
    lists:foreach(fun erlang:disconnect_node/1, Peers),
    Probe = fun() ->
        case downs(Peers) of
            [] ->
                {seen, ["nodedown of ", names(Peers)], #{nodedown => [text(Peer) || Peer <- Peers]}};
            Left ->
                {wait, ["no nodedown of ", names(Left)]}
        end
    end,
    Healed = fun() ->
        case Peers -- nodes() of
            [] -> {yes, ["connected to ", names(Peers), " again"]};
            Left when Reconnects =:= false ->
                {yes, [names(Left), " may connect again; the run does not connect nodes"]};
            _ -> no
        end
    end,
    {#{peers => [text(Peer) || Peer <- Peers]}, Healed, Probe};
apply_fault(deaf, _, Tell) ->
    Peers = maps:from_list([{Peer, Port} || {Peer, Port} <- connections()]),
    Peers =/= #{} orelse refuse("the node is connected to nobody over plain TCP"),
    Tell({undo, fun() -> [hear(Port) || {_, Port} <- connections()] end}),
    %% An answer to this would have to be read.
    Asking = maps:map(fun(Peer, Port) ->
        Octets = deafen(Port),
        {_, Asked} = spawn_monitor(fun() -> exit({answer, echo(Peer, ?DEAF_MS)}) end),
        {Port, Octets, Asked}
    end, Peers),
    spawn_link(fun() -> keep_deaf() end),
    Probe = fun() ->
        Answers = [deaf_to(Peer, How) || {Peer, How} <- maps:to_list(Asking)],
        case lists:usort([Answer || Answer <- Answers, Answer =/= asking]) of
            [] -> {wait, ["waiting for answers of ", names(maps:keys(Peers)), " that should not come"]};
            _ ->
                case [Peer || {deaf, Peer} <- Answers] of
                    [] -> {wait, "the node was answered"};
                    Deaf -> {seen, ["no answer of ", names(Deaf), " was read for ", text(?DEAF_MS), " ms"],
                             #{peers => [text(Peer) || Peer <- Deaf]}}
                end
        end
    end,
    Healed = fun() ->
        case [Peer || {Peer, _} <- connections(), echo(Peer, ?CALL_MS) =/= ok] of
            [] -> {yes, ["answers of ", names([Peer || {Peer, _} <- connections()]), " are read"]};
            _ -> no
        end
    end,
    {#{peers => [text(Peer) || Peer <- maps:keys(Peers)]}, Healed, Probe};

%%% Code

apply_fault('load-module', #{module := Text, beam := Second}, Tell) ->
    {Module, First, File} = first_version(Text),
    case beam_lib:md5(Second) of
        {ok, {Module, Md5}} -> load(Module, First, File, Second, Md5, Tell);
        {ok, {Other, _}} -> refuse(["the file holds the module ", text(Other), ", not ", Text]);
        {error, beam_lib, Reason} -> refuse(["the file is no compiled module: ", text(Reason)])
    end;
apply_fault(Kind, _, _) ->
    refuse(["no such fault in the node: ", text(Kind)]).

%%% Helpers: processes

target(#{process := Selector, draw := Draw}) ->
    case fuzz_dist_selector:resolve(Selector, Draw) of
        {ok, Pid, Again} ->
            Pid =/= whereis(fuzz_dist_agent) orelse refuse("the node agent must live: it heals"),
            {Pid, Again};
        {elsewhere, Node} -> exit({refused, {elsewhere, Node}});
        {error, Message} -> refuse(Message)
    end.

decided(Pid) ->
    Name = case process_info(Pid, registered_name) of
        {registered_name, Registered} -> Registered;
        _ -> nil
    end,
    #{pid => text(Pid), registered => Name}.

%% By a process of its own: the fault may be over, and its lease gone, before the signal has taken effect.
tell_end(Pid, #{until_ns := UntilNs}, Tell) ->
    Lease = self(),
    Watcher = spawn(fun() ->
        Monitor = erlang:monitor(process, Pid),
        Lease ! {watched, self()},
        receive
            {'DOWN', Monitor, process, Pid, Why} ->
                Tell({seen, [text(Pid), " is gone (", text(Why), ")"], #{pid => text(Pid), reason => text(Why)}})
        after left_ms(UntilNs) + ?GRACE_MS -> ok
        end
    end),
    receive {watched, Watcher} -> ok end.

%% Whoever fits the selector now.
stands(Selector) ->
    case fuzz_dist_selector:resolve(Selector, 0) of
        {ok, Pid, _} -> {yes, [text(Pid), " stands in its place"]};
        {elsewhere, Node} -> {yes, ["a process on ", text(Node), " stands in its place"]};
        {error, _} -> no
    end.

ignored(false, normal) -> "it does not trap exits, and ignores the exit of another process with reason normal";
ignored(_, _) -> "the signal has not reached it yet".

%% A tracer or a pattern that somebody else has keeps us from seeing it, not from doing it.
trace_exit(Pid, Tell) ->
    Clause = {['_', '_', {'EXIT', self(), '_'}], [], []},
    Remove = fun() -> change_pattern(fun(Clauses) -> lists:delete(Clause, Clauses) end) end,
    Tell({undo, Remove}),
    case change_pattern(fun(Clauses) -> [Clause | Clauses] end) of
        ok ->
            try erlang:trace(Pid, true, ['receive'])
            catch error:badarg -> Remove(), false
            end;
        foreign -> false
    end.

%% The pattern of 'receive' is one for the whole node: every fault that overlaps has a clause of its own in it, and it
%% is as it was before when the last of them is over. One of somebody else is left alone. `true' is the default.
change_pattern(Change) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
        lock_pattern(),
        exit({changed, case erlang:trace_info('receive', match_spec) of
            {match_spec, true} -> set_pattern(Change([]));
            {match_spec, [_ | _] = Clauses} ->
                case lists:all(fun is_ours/1, Clauses) of
                    true -> set_pattern(Change(Clauses));
                    false -> foreign
                end;
            _ -> foreign
        end})
    end),
    receive {'DOWN', Monitor, process, Pid, {changed, Outcome}} -> Outcome end.

%% Held by a process that has nothing else to do, until it ends.
lock_pattern() ->
    try true = register(fuzz_dist_trace_pattern, self())
    catch error:badarg -> timer:sleep(1), lock_pattern()
    end.

is_ours({['_', '_', {'EXIT', Pid, '_'}], [], []}) when is_pid(Pid) -> true;
is_ours(_) -> false.

set_pattern([]) -> erlang:trace_pattern('receive', true, []), ok;
set_pattern(Clauses) -> erlang:trace_pattern('receive', Clauses, []), ok.

sys_state(Pid) ->
    try sys:get_status(Pid, ?CALL_MS) of
        {status, _, _, [_, State | _]} -> State
    catch exit:_ -> silent
    end.

flood(Pid, PerSecond, Start, Count, Sent) ->
    Due = (now_ms() - Start) * PerSecond div 1000,
    Room = case process_info(Pid, message_queue_len) of
        {_, Queue} -> max(0, ?FLOOD_MAX - Queue);
        undefined -> 0
    end,
    More = min(Due - Count, Room),
    _ = [Pid ! {fuzz_dist_flood, Number} || Number <- lists:seq(Count + 1, Count + More)],
    counters:add(Sent, 1, More),
    timer:sleep(5),
    flood(Pid, PerSecond, Start, Count + More, Sent).

%% One more child is killed each time this looks, as long as the supervisor lives.
exhaust(Supervisor, Monitor, Kills, Limits) ->
    receive
        {'DOWN', Monitor, process, Supervisor, Reason} ->
            Count = counters:get(Kills, 1),
            {seen, [text(Supervisor), " gave up after ", text(Count), " kills (", text(Reason), ")"],
             Limits#{pid => text(Supervisor), kills => Count, reason => text(Reason)}};
        over -> exit(normal)
    after 0 ->
        Count = counters:get(Kills, 1),
        case Count < ?KILLS_MAX andalso running_child(Supervisor) of
            Child when is_pid(Child) ->
                Gone = erlang:monitor(process, Child),
                exit(Child, kill),
                counters:add(Kills, 1, 1),
                receive {'DOWN', Gone, process, Child, _} -> ok end,
                exhaust(Supervisor, Monitor, Kills, Limits);
            _ -> {wait, [text(Supervisor), " lives after ", text(Count), " kills of its children"]}
        end
    end.

running_child(Supervisor) ->
    case fuzz_dist_selector:children(Supervisor) of
        {ok, Children} ->
            case [Child || {_, Child, _, _} <- Children, is_pid(Child), is_process_alive(Child)] of
                [Child | _] -> Child;
                [] -> none
            end;
        error -> none
    end.

%% Both kinds of supervisor keep them in their state; a newer OTP may keep them elsewhere.
limits(Supervisor) ->
    try sys:get_state(Supervisor, ?CALL_MS) of
        #{max_restarts := Intensity, max_seconds := Period} ->
            #{intensity => Intensity, period_s => Period};
        State when element(1, State) =:= state, is_integer(element(6, State)), is_integer(element(7, State)) ->
            #{intensity => element(6, State), period_s => element(7, State)};
        _ -> #{}
    catch exit:_ -> #{}
    end.

%%% Helpers: schedulers

internal_state(Switch) ->
    erts_debug:set_internal_state(available_internal_state, Switch).

%% Ends when it stood still for long enough, or a little after its lease.
lag(Lease, Last, LongMs, Tell) ->
    Over = receive {'DOWN', Lease, process, _, _} -> true after 2 -> false end,
    Now = os:perf_counter(nanosecond),
    case (Now - Last) div 1000000 of
        Ms when Ms >= LongMs, Ms > 0 ->
            Tell({seen, ["no process ran for ", text(Ms), " ms"], #{lag_ms => Ms}});
        Ms when Over ->
            Tell({why_not, ["processes ran on: the longest pause at the end was ", text(Ms), " ms"]});
        _ -> lag(Lease, Now, LongMs, Tell)
    end.

responsive() ->
    Start = os:perf_counter(nanosecond),
    receive after 1 -> ok end,
    {yes, ["processes run again: a timer of 1 ms took ",
           text((os:perf_counter(nanosecond) - Start) div 1000000), " ms"]}.

keep_busy(Kind) ->
    _ = erts_debug:Kind(wait, ?DIRTY_MS),
    keep_busy(Kind).

dirty_ms(Kind) ->
    Start = os:perf_counter(nanosecond),
    _ = erts_debug:Kind(wait, 0),
    (os:perf_counter(nanosecond) - Start) div 1000000.

dirty_lag(Lease, Kind) ->
    case dirty_ms(Kind) of
        Ms when Ms >= ?DIRTY_MS -> Lease ! {lag, Kind, Ms};
        _ -> dirty_lag(Lease, Kind)
    end.

dirty_lags(Kinds) ->
    receive {lag, Kind, Ms} -> put(Kind, Ms) after 0 -> ok end,
    case [Kind || Kind <- Kinds, get(Kind) =:= undefined] of
        [] ->
            Lags = maps:from_list([{Kind, get(Kind)} || Kind <- Kinds]),
            {seen, ["a dirty job waits ", text(lists:min(maps:values(Lags))), " ms and more"], Lags};
        Left ->
            {wait, ["no job of ", lists:join(" and ", [text(Kind) || Kind <- Left]), " has waited yet"]}
    end.

%% A list cell is two words.
garbage(Lease, Bytes, Count, Longest) ->
    Heap = lists:seq(1, Bytes div (2 * erlang:system_info(wordsize)) + 1),
    garbage(Lease, Bytes, Heap, Count, Longest).

garbage(Lease, Bytes, Heap, Count, Longest) ->
    Start = os:perf_counter(nanosecond),
    true = erlang:garbage_collect(),
    Took = (os:perf_counter(nanosecond) - Start) div 1000000,
    {memory, Memory} = process_info(self(), memory),
    Lease ! {collected, Memory, Count + 1, max(Longest, Took)},
    garbage(Lease, Bytes, Heap, Count + 1, max(Longest, Took)).

%%% Helpers: connections

downs([]) -> [];
downs(Peers) ->
    receive {nodedown, Peer, _} -> downs(lists:delete(Peer, Peers))
    after 0 -> Peers
    end.

%% Of visible peers; what tests connect with stays.
connections() ->
    [{Peer, Port} || {Peer, Port} <- erlang:system_info(dist_ctrl), is_port(Port), lists:member(Peer, nodes())].

deafen(Port) ->
    case inet:setopts(Port, [{active, false}]) of
        ok -> octets(Port);
        {error, Reason} -> refuse(["the connection ", text(Port), " does not stop reading: ", text(Reason),
                                   "; only those of plain TCP do (inet_tcp_dist)"])
    end.

octets(Port) ->
    case inet:getstat(Port, [recv_oct]) of
        {ok, [{recv_oct, Octets}]} -> Octets;
        {error, _} -> closed
    end.

hear(Port) ->
    inet:setopts(Port, [{active, true}, {deliver, port}]).

%% Those that stand up meanwhile become deaf too.
keep_deaf() ->
    _ = [inet:setopts(Port, [{active, false}]) || {_, Port} <- connections()],
    timer:sleep(?LOOK_MS),
    keep_deaf().

%% Deaf is who has read nothing, or lost the connection, when the answer should have come.
deaf_to(Peer, {Port, Octets, Asked}) ->
    case get(Asked) of
        undefined ->
            receive {'DOWN', Asked, process, _, Answer} ->
                Now = octets(Port),
                Deaf = Answer =/= {answer, ok} andalso (Now =:= Octets orelse Now =:= closed),
                put(Asked, if Deaf -> {deaf, Peer}; true -> heard end)
            after 0 -> ok
            end,
            case get(Asked) of undefined -> asking; Answer1 -> Answer1 end;
        Answer -> Answer
    end.

%% What `net_adm:ping/1' asks, of a node that is connected.
echo(Peer, WithinMs) ->
    try gen_server:call({net_kernel, Peer}, {is_auth, node()}, WithinMs) of
        _ -> ok
    catch exit:_ -> silent
    end.

%%% Helpers: code

%% What would be given back must be what runs now.
first_version(Text) ->
    Module = binary_to_atom(Text),
    case code:ensure_loaded(Module) =:= {module, Module} andalso code:get_object_code(Module) of
        {Module, First, File} ->
            Running = Module:module_info(md5),
            case beam_lib:md5(First) of
                {ok, {Module, Running}} -> {Module, First, File};
                _ -> refuse(["the module ", Text, " runs in another version than ", File,
                             ", which could not be given back"])
            end;
        false -> refuse(["there is no module ", Text]);
        error -> refuse(["the file of the module ", Text, " is not in the code path, so it could not be given back"])
    end.

load(Module, First, File, Second, Md5, Tell) ->
    Md5 =/= Module:module_info(md5) orelse refuse(["the file holds the version of ", text(Module), " that runs"]),
    code:soft_purge(Module) orelse refuse(["processes still run an older version of ", text(Module)]),
    {ok, {Module, FirstMd5}} = beam_lib:md5(First),
    Tell({undo, fun() ->
        Module:module_info(md5) =:= FirstMd5 orelse code:load_binary(Module, File, First),
        code:purge(Module)
    end}),
    case code:load_binary(Module, File, Second) of
        {module, Module} -> ok;
        {error, Reason} -> refuse(["the node does not load ", text(Module), ": ", text(Reason)])
    end,
    InFirst = [Pid || Pid <- processes(), erlang:check_process_code(Pid, Module) =:= true],
    Killed = code:purge(Module),
    Told = #{module => text(Module), processes_in_old_code => length(InFirst), killed => Killed},
    Probe = fun() ->
        case Module:module_info(md5) of
            Md5 -> {seen, ["another version of ", text(Module), " runs; ", text(length(InFirst)),
                           " processes were in the old one, which was purged"], Told};
            _ -> {wait, ["the first version of ", text(Module), " runs"]}
        end
    end,
    Healed = fun() ->
        case Module:module_info(md5) =:= FirstMd5 andalso not erlang:check_old_code(Module) of
            true -> {yes, ["the first version of ", text(Module), " runs again, the other is purged"]};
            false -> no
        end
    end,
    {Told, Healed, Probe}.

%%% Words

names(Nodes) -> lists:join(", ", [hd(string:split(atom_to_list(Node), "@")) || Node <- Nodes]).

text(Term) -> fuzz_dist_selector:text(Term).

now_ms() -> erlang:monotonic_time(millisecond).

-spec refuse(iodata()) -> no_return().
refuse(Message) -> exit({refused, unicode:characters_to_binary(Message)}).
