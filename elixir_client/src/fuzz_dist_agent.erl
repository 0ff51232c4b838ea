%% @doc The node agent: lets the core observe and command one BEAM node.
%%
%% One module without dependencies beyond kernel and stdlib, so that the core can load it into any
%% node of OTP 25 or later with `code:load_binary/3' (it uses neither `crypto' nor Elixir). It dials
%% the core over a websocket (never over Erlang distribution, which is what is being broken), says
%% hello, and then answers requests and streams events as `doc/protocol.md' defines them.
%%
%% It is also the websocket client of the worker: `ws_open/3', `ws_send/2', `ws_receive/2'. Only what
%% two trusted ends on one machine need of RFC 6455 is here, binary messages of terms:
%%
%% <ul>
%% <li>The mask is zero. RFC 6455 asks clients to mask so that a script in a browser cannot choose
%% the bytes that a proxy on the way sees. There is no script, no browser and no proxy here, a zero
%% mask is valid on the wire, and masking with it is the identity: a large batch costs nothing.</li>
%% <li>The handshake key is a constant, whose answer is known without SHA-1. The key guards against
%% servers that do not speak websocket, which a constant does as well; who we are is proved by the
%% token.</li>
%% <li>Terms are decoded without `safe': the core may call any function of the VM, so `safe' would
%% protect nothing, and it would refuse calls to modules whose names this VM has not seen yet. What
%% is bounded is the size of a message, and compressed terms are refused.</li>
%% </ul>
%%
%% Limits: `erlang:system_monitor/2' has one subscriber in OTP 25 to 27, so `watch' takes it over
%% from whoever had it. Events that happen while a lost connection is dialled again are sent with
%% the time at which it stood again.
-module(fuzz_dist_agent).

-export([start/0, start/1, stop/0, config_from_env/0]).
-export([ws_open/3, ws_send/2, ws_receive/2, ws_close/1, clocks/0]).

-define(HANDSHAKE_KEY, "ZnV6el9kaXN0IGtleSAwMQ==").
-define(HANDSHAKE_ANSWER, "NJvDSkLpi/q1+jMXAk42uD8Xr0E=").
-define(MESSAGE_BYTES_MAX, (64 bsl 20)).
-define(FIRST_CONNECT_MS, 10000).
-define(LIFE_LINE_MS, 1000).
-define(BACK_OFF_FIRST_MS, 10).
-define(BACK_OFF_MAX_MS, 200).
-define(BATCH_MAX, 1000).
-define(NODE_OPTIONS, [nodedown_reason, {node_type, all}]).
%% Of one kind of system monitor event; a flood would cost the node more than it tells.
-define(EVENTS_PER_SECOND_MAX, 100).
%% Two clocks that were read within this time were read together.
-define(TOGETHER_NS, 50000).
-define(TOGETHER_TRIES, 5).

-record(ws, {socket, chunks = [], size = 0, need = 2, fragments = none}).
%% `faults' is the ledger of the faults in this VM, once there was one.
-record(state, {ws, watched = false, rates = #{}, faults = none}).

-type config() :: #{core := iodata(), token := iodata(), node := iodata(), run := iodata(),
                    lifeline => boolean()}.
-type ws() :: #ws{}.

-export_type([config/0, ws/0]).

%%% Life cycle

%% @doc Starts the agent with what the core put into the environment, with life line.
-spec start() -> {ok, pid()} | {error, {missing_variable, string()}}.
start() ->
    case config_from_env() of
        {ok, Config} -> start(Config#{lifeline => true});
        {error, _} = Error -> Error
    end.

%% @doc Starts the agent; returns at once, it dials in the background. An agent that runs already
%% is replaced. With `lifeline' (default false) the VM halts one second after the connection ended.
-spec start(config()) -> {ok, pid()}.
start(Config) ->
    ok = stop(),
    Caller = self(),
    Pid = spawn(fun() ->
        adopt_group_leader(),
        true = register(?MODULE, self()),
        Caller ! {?MODULE, self()},
        guard(Config, ?FIRST_CONNECT_MS)
    end),
    Monitor = erlang:monitor(process, Pid),
    receive
        {?MODULE, Pid} -> erlang:demonitor(Monitor, [flush]), {ok, Pid};
        {'DOWN', Monitor, process, Pid, _LostTheRace} -> {ok, whereis(?MODULE)}
    end.

%% @doc Stops the agent without halting the VM.
-spec stop() -> ok.
stop() ->
    case whereis(?MODULE) of
        undefined ->
            ok;
        Pid ->
            Monitor = erlang:monitor(process, Pid),
            Pid ! {?MODULE, stop},
            receive {'DOWN', Monitor, process, Pid, _} -> ok end
    end.

%% @doc What `FUZZ_DIST_CORE', `_TOKEN', `_NODE' and `_RUN' say.
-spec config_from_env() -> {ok, config()} | {error, {missing_variable, string()}}.
config_from_env() ->
    Keys = [{core, "FUZZ_DIST_CORE"}, {token, "FUZZ_DIST_TOKEN"}, {node, "FUZZ_DIST_NODE"},
            {run, "FUZZ_DIST_RUN"}],
    lists:foldl(
        fun({Key, Variable}, {ok, Config}) ->
                case os:getenv(Variable) of
                    false -> {error, {missing_variable, Variable}};
                    Value -> {ok, Config#{Key => unicode:characters_to_binary(Value)}}
                end;
           (_, Error) -> Error
        end, {ok, #{}}, Keys).

%% Output of calls must not go to the node that loaded us: it may be gone.
adopt_group_leader() ->
    case whereis(user) of
        undefined -> ok;
        User -> group_leader(User, self())
    end.

%% Starts the connection's process again when something (a fault, say) kills it: with a life line,
%% the VM must not outlive the core whatever happens to that process.
guard(Config, WindowMs) ->
    {Pid, Monitor} = spawn_monitor(fun() -> dial(Config, WindowMs) end),
    guard(Config, Pid, Monitor).

guard(Config, Pid, Monitor) ->
    receive
        {?MODULE, stop} ->
            exit(Pid, kill),
            receive {'DOWN', Monitor, process, Pid, _} -> ok end;
        %% Of handlers in this VM, which know our name only.
        {?MODULE, answer, _} = Answer ->
            Pid ! Answer,
            guard(Config, Pid, Monitor);
        {'DOWN', Monitor, process, Pid, normal} ->
            give_up(Config);
        {'DOWN', Monitor, process, Pid, _Reason} ->
            timer:sleep(?BACK_OFF_MAX_MS),
            guard(Config, ?LIFE_LINE_MS)
    end.

give_up(#{lifeline := true}) -> erlang:halt(0, [{flush, false}]);
give_up(_) -> ok.

dial(Config, WindowMs) ->
    dial(Config, now_ms() + WindowMs, ?BACK_OFF_FIRST_MS).

dial(Config, Deadline, BackOff) ->
    case ws_open(Config, node, max(1, Deadline - now_ms())) of
        {ok, Ws, Messages} ->
            %% The new connection asks for what it wants to watch.
            _ = monitor_nodes(false),
            serve(messages(Messages, #state{ws = Ws}, [])),
            dial(Config, ?LIFE_LINE_MS);
        {error, _} ->
            case now_ms() + BackOff < Deadline of
                true ->
                    timer:sleep(BackOff),
                    dial(Config, Deadline, min(2 * BackOff, ?BACK_OFF_MAX_MS));
                false ->
                    ok
            end
    end.

%%% Serving one connection

serve(State) ->
    receive Message -> batch(Message, State, [], ?BATCH_MAX) end.

%% Everything that is waiting is answered with one frame.
batch(Message, State, Out, Left) ->
    case handle(Message, State, Out) of
        {ok, State1, Out1} when Left > 0 ->
            receive Next -> batch(Next, State1, Out1, Left - 1)
            after 0 -> flush(State1, Out1)
            end;
        {ok, State1, Out1} -> flush(State1, Out1);
        lost -> lost(State)
    end.

flush(State, []) ->
    serve(State);
flush(#state{ws = Ws} = State, Out) ->
    case ws_send(Ws, lists:reverse(Out)) of
        ok -> serve(State);
        {error, _} -> ws_close(Ws), lost(State)
    end.

%% Faults end with the connection that asked for them.
lost(#state{faults = none}) -> ok;
lost(#state{faults = Ledger}) -> fuzz_dist_vm:lost(Ledger).

messages(Messages, State, Out) ->
    {State1, Out1} = requests(Messages, State, Out),
    _ = Out1 =:= [] orelse ws_send(State1#state.ws, lists:reverse(Out1)),
    State1.

requests(Messages, State, Out) ->
    lists:foldl(fun(Message, {S, O}) -> request(Message, S, O) end, {State, Out}, Messages).

handle({?MODULE, answer, Answer}, State, Out) ->
    {ok, State, [Answer | Out]};
handle({nodeup, Node, Info}, State, Out) ->
    {ok, State, [event(nodeup, node_event(Node, Info)) | Out]};
handle({nodedown, Node, Info}, State, Out) ->
    {ok, State, [event(nodedown, node_event(Node, Info)) | Out]};
handle({'CHANGE', _Monitor, time_offset, clock_service, Offset}, State, Out) ->
    OffsetNs = erlang:convert_time_unit(Offset, native, nanosecond),
    {ok, State, [event(time_offset, #{offset_ns => OffsetNs}) | Out]};
handle({monitor, Subject, Kind, Detail}, State, Out) ->
    {State1, Out1} = limited(Kind, Subject, Detail, State, Out),
    {ok, State1, Out1};
handle(Message, #state{ws = Ws} = State, Out) ->
    case ws_receive(Ws, Message) of
        {ok, Messages, Ws1} ->
            {State1, Out1} = requests(Messages, State#state{ws = Ws1}, Out),
            {ok, State1, Out1};
        {closed, _Reason} -> lost;
        ignored -> {ok, State, Out}
    end.

request({ping, Id}, State, Out) ->
    {State, [{pong, Id, mono_ns(), wall_ns()} | Out]};
request({clocks, Id}, State, Out) ->
    {State, [all_clocks(Id) | Out]};
request({watch, Id, Options}, State, Out) ->
    {Answer, State1} = watch(Options, State),
    {State1, [{reply, Id, Answer} | Out]};
request({nodes, Id}, State, Out) ->
    {State, [{nodes, Id, nodes(visible), nodes(hidden), mono_ns(), wall_ns()} | Out]};
request({boundaries, Id}, State, Out) ->
    {State, [{reply, Id, {ok, boundaries()}} | Out]};
request({connect, Id, Nodes}, State, Out) ->
    in_background(fun() -> {reply, Id, {ok, connect(Nodes)}} end),
    {State, Out};
request({call, Id, Module, Function, Arguments, TimeoutMs}, State, Out) ->
    in_background(fun() -> {reply, Id, call(Module, Function, Arguments, TimeoutMs)} end),
    {State, Out};
request({fault, Id, Request}, State, Out) ->
    fault(Id, Request, State, Out);
request({stop, _Id}, State, Out) ->
    init:stop(),
    {State, Out};
request(Unknown, State, Out) when is_tuple(Unknown), tuple_size(Unknown) >= 2 ->
    %% A newer core: it learns that this agent cannot.
    {State, [{reply, element(2, Unknown), {error, {unknown_request, element(1, Unknown)}}} | Out]};
request(_, State, Out) ->
    {State, Out}.

%% The core loads the module before it asks.
fault(Id, Request, #state{faults = none} = State, Out) ->
    case code:ensure_loaded(fuzz_dist_vm) of
        {module, _} -> fault(Id, Request, State#state{faults = fuzz_dist_vm:start(self())}, Out);
        {error, Reason} -> {State, [{reply, Id, {error, {fuzz_dist_vm, Reason}}} | Out]}
    end;
fault(Id, Request, #state{faults = Ledger} = State, Out) ->
    fuzz_dist_vm:request(Ledger, Id, Request),
    {State, Out}.

in_background(Fun) ->
    Agent = self(),
    spawn(fun() -> Agent ! {?MODULE, answer, Fun()} end).

connect(Nodes) ->
    Self = self(),
    Pids = [{Node, spawn(fun() -> Self ! {self(), net_kernel:connect_node(Node)} end)} || Node <- Nodes],
    [receive {Pid, Result} -> {Node, Result} end || {Node, Pid} <- Pids].

%% The caller ends normally, as with rpc: what the call linked to itself lives on.
call(Module, Function, Arguments, TimeoutMs) ->
    Self = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        Result = try {ok, apply(Module, Function, Arguments)}
                 catch Class:Reason -> {error, {Class, Reason}}
                 end,
        Self ! {self(), Result}
    end),
    receive
        {Pid, Result} -> erlang:demonitor(Monitor, [flush]), Result;
        {'DOWN', Monitor, process, Pid, Reason} -> {error, {exit, Reason}}
    after TimeoutMs ->
        exit(Pid, kill),
        {error, timeout}
    end.

%%% Observation

boundaries() ->
    #{net_ticktime_s => tick_time(),
      net_tickintensity => kernel_env(net_tickintensity, 4),
      net_setuptime_ms => kernel_env(net_setuptime, 7) * 1000,
      dist_buf_busy_limit_bytes => erlang:system_info(dist_buf_busy_limit),
      prevent_overlapping_partitions => kernel_env(prevent_overlapping_partitions, true),
      otp_release => list_to_binary(erlang:system_info(otp_release)),
      erts => list_to_binary(erlang:system_info(version))}.

tick_time() ->
    case net_kernel:get_net_ticktime() of
        {ongoing_change_to, Seconds} -> Seconds;
        Seconds when is_integer(Seconds) -> Seconds;
        ignored -> kernel_env(net_ticktime, 60)
    end.

kernel_env(Key, Default) ->
    case application:get_env(kernel, Key) of
        {ok, Value} -> Value;
        undefined -> Default
    end.

watch(Options, #state{watched = Watched} = State) ->
    Thresholds = [{Kind, Value} || {Kind, Key} <- [{long_gc, long_gc_ms}, {long_schedule, long_schedule_ms},
                                                  {large_heap, large_heap_words}],
                                   Value <- [maps:get(Key, Options, 0)], is_integer(Value), Value > 0],
    Busy = [busy_dist_port || maps:get(busy_dist_port, Options, false) =:= true],
    %% A second subscription to node events would deliver each of them twice.
    case Watched orelse monitor_nodes(true) of
        {error, _} = Error -> {Error, State};
        _ -> ok = watch_clock(), {system_monitor(Thresholds ++ Busy), State#state{watched = true}}
    end.

%% Unlike that of nodes, this subscription cannot be taken back without its reference.
watch_clock() ->
    _ = get(clock_monitor) =:= undefined
        andalso put(clock_monitor, erlang:monitor(time_offset, clock_service)),
    ok.

system_monitor(Options) ->
    try erlang:system_monitor(self(), Options) of
        _Previous -> {ok, ok}
    catch
        error:Reason -> {error, {system_monitor, Reason}}
    end.

monitor_nodes(Switch) ->
    try net_kernel:monitor_nodes(Switch, ?NODE_OPTIONS)
    catch Class:Reason -> {error, {Class, Reason}}
    end.

node_event(Node, Info) ->
    #{node => Node,
      reason => proplists:get_value(nodedown_reason, Info, nil),
      node_type => proplists:get_value(node_type, Info, nil)}.

limited(Kind, Subject, Detail, #state{rates = Rates} = State, Out) ->
    Second = erlang:monotonic_time(second),
    {Count, Suppressed} = case Rates of
        #{Kind := {Second, C, S}} -> {C, S};
        #{Kind := {_, _, S}} -> {0, S};
        _ -> {0, 0}
    end,
    case Count < ?EVENTS_PER_SECOND_MAX of
        true ->
            Map = monitor_event(Kind, Subject, Detail),
            Told = case Suppressed of 0 -> Map; _ -> Map#{suppressed => Suppressed} end,
            {State#state{rates = Rates#{Kind => {Second, Count + 1, 0}}}, [event(Kind, Told) | Out]};
        false ->
            {State#state{rates = Rates#{Kind => {Second, Count, Suppressed + 1}}}, Out}
    end.

monitor_event(busy_dist_port, Pid, Port) ->
    #{pid => text(Pid), port => text(Port), registered => registered_name(Pid)};
monitor_event(long_gc, Pid, Info) ->
    #{pid => text(Pid), timeout_ms => proplists:get_value(timeout, Info, nil), registered => registered_name(Pid)};
monitor_event(long_schedule, Subject, Info) ->
    Key = if is_pid(Subject) -> pid; true -> port end,
    #{Key => text(Subject), timeout_ms => proplists:get_value(timeout, Info, nil)};
monitor_event(large_heap, Pid, Info) ->
    %% What is compared with the threshold: the blocks of both generations.
    Blocks = [proplists:get_value(Key, Info, 0) || Key <- [heap_block_size, old_heap_block_size]],
    #{pid => text(Pid), heap_words => lists:sum(Blocks)};
monitor_event(_, Subject, _) ->
    #{pid => text(Subject)}.

registered_name(Pid) when is_pid(Pid), node(Pid) =:= node() ->
    case process_info(Pid, registered_name) of
        {registered_name, Name} -> Name;
        _ -> nil
    end;
registered_name(_) ->
    nil.

text(Term) -> unicode:characters_to_binary(io_lib:format("~p", [Term])).

event(Kind, Map) -> {event, Kind, Map, mono_ns(), wall_ns()}.

mono_ns() -> os:perf_counter(nanosecond).
wall_ns() -> os:system_time(nanosecond).

%% @doc The monotonic clock of the machine and the wall clock, read together.
-spec clocks() -> {MonoNs :: integer(), WallNs :: integer()}.
clocks() -> together(fun wall_ns/0, ?TOGETHER_TRIES).

%% What the VM makes of them as well: its time goes its own way to a wall clock that is off, depending on its
%% time-warp mode.
all_clocks(Id) ->
    {MonoNs, {WallNs, VmNs}} = together(fun() -> {wall_ns(), erlang:monotonic_time(nanosecond)} end, ?TOGETHER_TRIES),
    {clocks, Id, MonoNs, WallNs, VmNs, erlang:time_offset(nanosecond)}.

%% Again if something came in between, such as another thread of the machine.
together(Read, Tries) ->
    Before = mono_ns(),
    Value = Read(),
    After = mono_ns(),
    case After - Before > ?TOGETHER_NS andalso Tries > 1 of
        true -> together(Read, Tries - 1);
        false -> {Before + (After - Before) div 2, Value}
    end.

now_ms() -> erlang:monotonic_time(millisecond).

%%% Websocket client

%% @doc Connects, authenticates, says hello as `Role' and waits for the welcome, all within
%% `TimeoutMs'. The calling process gets the socket's messages: give each to `ws_receive/2'.
%% `Messages' are those that came with the welcome.
-spec ws_open(config(), node | worker, pos_integer()) ->
    {ok, ws(), Messages :: [term()]} | {error, term()}.
ws_open(#{core := Core, token := Token, node := Name, run := Run}, Role, TimeoutMs) ->
    Deadline = now_ms() + TimeoutMs,
    case ws_connect(to_text(Core), to_text(Token), Deadline) of
        {ok, Ws} ->
            case ws_send(Ws, [{hello, hello(Role, to_text(Name))}]) of
                ok -> ws_welcome(Ws, to_text(Run), Deadline);
                {error, _} = Error -> ws_close(Ws), Error
            end;
        {error, _} = Error ->
            Error
    end.

hello(Role, Name) ->
    #{protocol => 1, role => Role, name => Name, node => node(),
      os_pid => list_to_integer(os:getpid()),
      otp => list_to_binary(erlang:system_info(otp_release)),
      mono_ns => mono_ns(), wall_ns => wall_ns()}.

ws_welcome(#ws{socket = Socket} = Ws, Run, Deadline) ->
    receive
        {Tag, Socket, _} = Message when Tag =:= tcp; Tag =:= tcp_error ->
            ws_welcome_message(ws_receive(Ws, Message), Run, Deadline);
        {Tag, Socket} = Message when Tag =:= tcp_closed; Tag =:= tcp_passive ->
            ws_welcome_message(ws_receive(Ws, Message), Run, Deadline)
    after max(0, Deadline - now_ms()) ->
        ws_close(Ws),
        {error, no_welcome}
    end.

ws_welcome_message({ok, [], Ws}, Run, Deadline) ->
    ws_welcome(Ws, Run, Deadline);
ws_welcome_message({ok, [{welcome, #{run := Run}} | Messages], Ws}, Run, _Deadline) ->
    {ok, Ws, Messages};
ws_welcome_message({ok, [Other | _], Ws}, _Run, _Deadline) ->
    ws_close(Ws),
    {error, {not_welcome, Other}};
ws_welcome_message({closed, Reason}, _Run, _Deadline) ->
    {error, {closed, Reason}}.

ws_connect(Core, Token, Deadline) ->
    case address(Core) of
        {ok, Host, Port} ->
            Options = [binary, {active, false}, {packet, raw}, {nodelay, true}, {buffer, 262144},
                       {send_timeout, 10000}, {send_timeout_close, true}],
            case gen_tcp:connect(Host, Port, Options, max(1, Deadline - now_ms())) of
                {ok, Socket} -> ws_upgrade(Socket, Core, Token, Deadline);
                {error, _} = Error -> Error
            end;
        error ->
            {error, {bad_address, Core}}
    end.

address(Core) ->
    case string:split(Core, ":", trailing) of
        [Host, Port] ->
            try {ok, binary_to_list(Host), binary_to_integer(Port)}
            catch error:badarg -> error
            end;
        _ -> error
    end.

ws_upgrade(Socket, Core, Token, Deadline) ->
    Request = ["GET /agent HTTP/1.1\r\nhost: ", Core, "\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
               "sec-websocket-version: 13\r\nsec-websocket-key: ", ?HANDSHAKE_KEY,
               "\r\nauthorization: Bearer ", Token, "\r\n\r\n"],
    case gen_tcp:send(Socket, Request) of
        ok -> ws_upgraded(Socket, <<>>, Deadline);
        {error, _} = Error -> gen_tcp:close(Socket), Error
    end.

ws_upgraded(Socket, Seen, Deadline) ->
    case binary:split(Seen, <<"\r\n\r\n">>) of
        [Head, Rest] ->
            case check_upgrade(Head) of
                %% What came with the answer are the first bytes of the websocket.
                ok -> ws_start(#ws{socket = Socket}, Rest);
                {error, _} = Error -> gen_tcp:close(Socket), Error
            end;
        [_] when byte_size(Seen) > 16384 ->
            gen_tcp:close(Socket),
            {error, {no_websocket, too_long}};
        [_] ->
            case gen_tcp:recv(Socket, 0, max(1, Deadline - now_ms())) of
                {ok, More} -> ws_upgraded(Socket, <<Seen/binary, More/binary>>, Deadline);
                {error, _} = Error -> gen_tcp:close(Socket), Error
            end
    end.

check_upgrade(Head) ->
    [Status | Headers] = binary:split(Head, <<"\r\n">>, [global]),
    Accepts = [string:trim(Value) || Header <- Headers,
                                     [Name, Value] <- [binary:split(Header, <<":">>)],
                                     string:lowercase(string:trim(Name)) =:= <<"sec-websocket-accept">>],
    case {Status, Accepts} of
        {<<"HTTP/1.1 101", _/binary>>, [<<?HANDSHAKE_ANSWER>>]} -> ok;
        {<<"HTTP/1.1 101", _/binary>>, _} -> {error, {no_websocket, bad_accept}};
        _ -> {error, {no_websocket, Status}}
    end.

%% The bytes that came early are handed to the owner as if the socket had sent them.
ws_start(#ws{socket = Socket} = Ws, Early) ->
    _ = Early =:= <<>> orelse (self() ! {tcp, Socket, Early}),
    case inet:setopts(Socket, [{active, 64}]) of
        ok -> {ok, Ws};
        {error, _} = Error -> gen_tcp:close(Socket), Error
    end.

%% @doc Sends a list of messages as one frame.
-spec ws_send(ws(), [term()]) -> ok | {error, term()}.
ws_send(#ws{socket = Socket}, Messages) ->
    gen_tcp:send(Socket, frame(2, term_to_binary(Messages))).

frame(Opcode, Payload) when byte_size(Payload) < 126 ->
    [<<1:1, 0:3, Opcode:4, 1:1, (byte_size(Payload)):7, 0:32>>, Payload];
frame(Opcode, Payload) when byte_size(Payload) < 65536 ->
    [<<1:1, 0:3, Opcode:4, 1:1, 126:7, (byte_size(Payload)):16, 0:32>>, Payload];
frame(Opcode, Payload) ->
    [<<1:1, 0:3, Opcode:4, 1:1, 127:7, (byte_size(Payload)):64, 0:32>>, Payload].

%% @doc Takes a message of the owner's mailbox: `ignored' if it is not of this websocket, otherwise
%% the terms that are complete now. `closed' has closed the socket.
-spec ws_receive(ws(), term()) -> {ok, [term()], ws()} | {closed, term()} | ignored.
ws_receive(#ws{socket = Socket} = Ws, {tcp, Socket, Bytes}) ->
    #ws{chunks = Chunks, size = Size, need = Need} = Ws,
    case Size + byte_size(Bytes) of
        %% A large frame comes in many pieces: put them together once, when it is whole.
        Total when Total < Need ->
            {ok, [], Ws#ws{chunks = [Bytes | Chunks], size = Total}};
        _ ->
            Buffer = case Chunks of
                [] -> Bytes;
                _ -> iolist_to_binary(lists:reverse(Chunks, [Bytes]))
            end,
            try frames(Buffer, Ws, [])
            catch throw:{protocol, Reason} -> ws_fail(Ws, Reason)
            end
    end;
ws_receive(#ws{socket = Socket} = Ws, {tcp_passive, Socket}) ->
    case inet:setopts(Socket, [{active, 64}]) of
        ok -> {ok, [], Ws};
        {error, Reason} -> ws_close(Ws), {closed, Reason}
    end;
ws_receive(#ws{socket = Socket}, {tcp_closed, Socket}) ->
    {closed, tcp_closed};
ws_receive(#ws{socket = Socket} = Ws, {tcp_error, Socket, Reason}) ->
    ws_close(Ws),
    {closed, Reason};
ws_receive(#ws{}, _) ->
    ignored.

ws_fail(#ws{socket = Socket} = Ws, {close, Payload}) ->
    _ = gen_tcp:send(Socket, frame(8, Payload)),
    ws_close(Ws),
    {closed, {close, Payload}};
ws_fail(#ws{socket = Socket} = Ws, Reason) ->
    _ = gen_tcp:send(Socket, frame(8, <<1002:16>>)),
    ws_close(Ws),
    {closed, {protocol, Reason}}.

%% @doc Closes the socket at once.
-spec ws_close(ws()) -> ok.
ws_close(#ws{socket = Socket}) ->
    gen_tcp:close(Socket).

frames(<<_:9, 127:7, Length:64, _/binary>>, _, _) when Length > ?MESSAGE_BYTES_MAX ->
    throw({protocol, {too_long, Length}});
frames(<<_:8, 1:1, _:7, _/binary>>, _, _) ->
    throw({protocol, masked});
frames(<<_:1, Rsv:3, _:4, _/binary>>, _, _) when Rsv =/= 0 ->
    throw({protocol, reserved_bits});
frames(<<Fin:1, 0:3, Opcode:4, 0:1, 127:7, Length:64, Payload:Length/binary, Rest/binary>>, Ws, Terms) ->
    payload(Fin, Opcode, Payload, Rest, Ws, Terms);
frames(<<Fin:1, 0:3, Opcode:4, 0:1, 126:7, Length:16, Payload:Length/binary, Rest/binary>>, Ws, Terms) ->
    payload(Fin, Opcode, Payload, Rest, Ws, Terms);
frames(<<Fin:1, 0:3, Opcode:4, 0:1, Length:7, Payload:Length/binary, Rest/binary>>, Ws, Terms)
  when Length < 126 ->
    payload(Fin, Opcode, Payload, Rest, Ws, Terms);
frames(Partial, Ws, Terms) ->
    {ok, lists:append(lists:reverse(Terms)),
     Ws#ws{chunks = [Partial], size = byte_size(Partial), need = needed(Partial)}}.

needed(<<_:9, 127:7, Length:64, _/binary>>) -> 10 + Length;
needed(<<_:9, 127:7, _/binary>>) -> 10;
needed(<<_:9, 126:7, Length:16, _/binary>>) -> 4 + Length;
needed(<<_:9, 126:7, _/binary>>) -> 4;
needed(<<_:9, Length:7, _/binary>>) -> 2 + Length;
needed(_) -> 2.

payload(1, 2, Payload, Rest, #ws{fragments = none} = Ws, Terms) ->
    frames(Rest, Ws, [terms(Payload) | Terms]);
payload(0, 2, Payload, Rest, #ws{fragments = none} = Ws, Terms) ->
    frames(Rest, Ws#ws{fragments = {byte_size(Payload), [Payload]}}, Terms);
payload(Fin, 0, Payload, Rest, #ws{fragments = {Size, Fragments}} = Ws, Terms) ->
    Total = Size + byte_size(Payload),
    _ = Total > ?MESSAGE_BYTES_MAX andalso throw({protocol, {too_long, Total}}),
    case Fin of
        1 ->
            Message = iolist_to_binary(lists:reverse(Fragments, [Payload])),
            frames(Rest, Ws#ws{fragments = none}, [terms(Message) | Terms]);
        0 ->
            frames(Rest, Ws#ws{fragments = {Total, [Payload | Fragments]}}, Terms)
    end;
payload(1, 8, Payload, _Rest, _Ws, _Terms) ->
    throw({protocol, {close, Payload}});
payload(1, 9, Payload, Rest, #ws{socket = Socket} = Ws, Terms) ->
    _ = gen_tcp:send(Socket, frame(10, Payload)),
    frames(Rest, Ws, Terms);
payload(1, 10, _Pong, Rest, Ws, Terms) ->
    frames(Rest, Ws, Terms);
payload(_, Opcode, _, _, _, _) ->
    throw({protocol, {unexpected_frame, Opcode}}).

terms(<<131, 80, _/binary>>) ->
    throw({protocol, compressed});
terms(Payload) ->
    try binary_to_term(Payload) of
        Terms when is_list(Terms) -> Terms;
        _ -> throw({protocol, not_a_list})
    catch
        error:badarg -> throw({protocol, not_a_term})
    end.

to_text(Text) -> unicode:characters_to_binary(Text).
