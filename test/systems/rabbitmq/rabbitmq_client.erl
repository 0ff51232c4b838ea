%% A quorum queue of stock RabbitMQ, as an application outside of the cluster uses it: RabbitMQ's own AMQP client in a
%% client VM, one connection with one channel for each logical process, to the node that the process is about. A process
%% whose connection ended connects again with its next operation, as applications do.
%%
%% `enqueue' publishes (persistent, mandatory) and waits for the confirm. `dequeue' is basic.get and the
%% acknowledgement of what came; it is ok when the message has come, since AMQP answers no acknowledgement: a message
%% may come again. `drain' takes everything, once nobody else holds a message, from any node that lets it.
%%
%% Outcomes: a publication is ok when it is confirmed, fail only when it was never sent (no connection) or the broker
%% returned it as unroutable (it holds no copy). A nack, a time-out, a channel that closes or dies after it was sent are
%% info: some member of the queue may have it. A get that did not come back is info: what it got is not acknowledged
%% and goes back.
-module(rabbitmq_client).

-include_lib("amqp_client/include/amqp_client.hrl").

-export([setup/2, ready/2, open/2, invoke/3, close/2, primary/2]).

-define(QUEUE, <<"fuzz_dist">>).
%% Below op_timeout_ms, so that the client ends an operation rather than being killed with it.
-define(CALL_MS, 5000).
%% A node that boots waits for its peers in steps of 30 s.
-define(BOOT_MS, 150000).
%% After a connection that was refused, so that processes of a node that is down do not use up the operations.
-define(RECONNECT_MS, 500).
%% A drain begins no new attempt after this, and takes the queue for empty when nothing has come for so long.
-define(DRAIN_MS, 4000).
-define(QUIET_MS, 200).
-define(QUERY_MS, 1000).
-define(PLUGINS, "/usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins/").

%%% The cluster

%% The first node begins the cluster, each other joins it; the last declares the queue on all of them. A node that was
%% started again is a member still and only has to come up.
setup(Node, #{nodes := Nodes} = Context) ->
    [{_, First} | _] = Nodes,
    {_, Last} = lists:last(Nodes),
    ok = await_running(Node),
    %% What runs there on our behalf logs there.
    true = group_leader(erpc:call(Node, erlang, whereis, [user]), self()),
    IsMember = lists:member(First, erpc:call(Node, rabbit_nodes, all, [])),
    IsMember orelse join(Node, First),
    case Node =:= Last andalso not IsMember orelse length(Nodes) =:= 1 of
        true -> declare(Node, Context);
        false -> ok
    end.

await_running(Node) ->
    wait_until(fun() -> is_running(Node) end, ?BOOT_MS, {rabbit_did_not_start, Node}).

is_running(Node) ->
    try erpc:call(Node, rabbit, is_running, [], ?CALL_MS)
    catch error:{erpc, _} -> false;
          error:{exception, undef, _} -> false
    end.

%% What `rabbitmqctl stop_app', `join_cluster' and `start_app' do.
join(Node, First) ->
    ok = erpc:call(Node, rabbit, stop, []),
    ok = erpc:call(Node, rabbit_mnesia, join_cluster, [First, disc]),
    ok = erpc:call(Node, rabbit, start, []),
    await_running(Node).

declare(Node, #{nodes := Nodes} = Context) ->
    {ok, {Guardian, Channel}} = connection(Node, Context),
    Declare = #'queue.declare'{
        queue = ?QUEUE, durable = true,
        arguments = [{<<"x-queue-type">>, longstr, <<"quorum">>},
                     {<<"x-quorum-initial-group-size">>, long, length(Nodes)}]},
    #'queue.declare_ok'{} = call(Channel, Declare),
    close({Guardian, Channel}, Context).

ready(Node, _Context) ->
    is_running(Node) andalso members(Node) =/= [].

%% Where the leader of the queue is, in the opinion of a node.
primary(Node, _Context) ->
    case leader(Node) of
        {_Name, Leader} -> Leader;
        nobody -> nil
    end.

members(Node) ->
    case ra_of(Node) of
        {ok, Members, _Leader} -> Members;
        _ -> []
    end.

leader(Node) ->
    case ra_of(Node) of
        {ok, _Members, {_, _} = Leader} -> Leader;
        _ -> nobody
    end.

%% RabbitMQ 3.10 and 4.0 name the Ra server after virtual host and queue.
server(Node) -> {'%2F_fuzz_dist', Node}.

ra_of(Node) ->
    try erpc:call(Node, ra, members, [server(Node), ?CALL_MS], 2 * ?CALL_MS)
    catch error:Reason -> {error, Reason}
    end.

%%% Operations

%% A broker that lets nobody in is no reason to fail here: a drain that could not begin must be told from one that
%% never was asked for, or what nobody drained would count as lost.
open(Node, Context) ->
    case connection(Node, Context) of
        {ok, Connection} -> {ok, Connection};
        {error, _} -> {ok, disconnected}
    end.

connection(Node, Context) ->
    ok = add_code_paths(),
    Params = #amqp_params_network{host = "127.0.0.1", port = port(Node, Context), heartbeat = 5,
                                  connection_timeout = ?CALL_MS},
    Owner = self(),
    Tag = make_ref(),
    {Guardian, Monitor} = spawn_monitor(fun() -> guard(Owner, Tag, Params) end),
    receive
        {Tag, Channel} -> erlang:demonitor(Monitor, [flush]), {ok, {Guardian, Channel}};
        {'DOWN', Monitor, process, Guardian, Reason} -> {error, Reason}
    end.

%% Owns the connection, and ends it with its owner however that ends: what a process had not acknowledged is then
%% given back before the queue is drained.
guard(Owner, Tag, Params) ->
    Monitor = erlang:monitor(process, Owner),
    Connection = connect(Params),
    _ = erlang:monitor(process, Connection),
    {ok, Channel} = amqp_connection:open_channel(Connection),
    #'confirm.select_ok'{} = call(Channel, #'confirm.select'{}),
    ok = amqp_channel:register_return_handler(Channel, Owner),
    Owner ! {Tag, Channel},
    receive
        {close, From} ->
            _ = (catch amqp_connection:close(Connection, ?CALL_MS)),
            From ! {closed, self()};
        {'DOWN', Monitor, process, Owner, _} ->
            exit(Connection, kill);
        {'DOWN', _, process, Connection, _} ->
            ok
    end.

connect(Params) ->
    case amqp_connection:start(Params) of
        {ok, Connection} -> Connection;
        {error, Reason} -> exit(Reason)
    end.

close(disconnected, _Context) ->
    ok;
close({Guardian, _Channel}, _Context) ->
    Monitor = erlang:monitor(process, Guardian),
    Guardian ! {close, self()},
    receive
        {closed, Guardian} -> erlang:demonitor(Monitor, [flush]), ok;
        {'DOWN', Monitor, process, Guardian, _} -> ok
    end.

invoke({drain, _}, Own, Context) ->
    %% A channel whose acknowledgement was lost on the way holds its message as long as it is open.
    ok = close(Own, Context),
    drain(Context);
invoke({_, _} = Operation, disconnected, #{node := Node} = Context) ->
    case connection(Node, Context) of
        {ok, Connection} ->
            with_state(attempt(Operation, Connection), Connection);
        {error, _} ->
            timer:sleep(?RECONNECT_MS),
            {fail, no_connection}
    end;
invoke({_, _} = Operation, {_, Channel} = Connection, Context) ->
    case is_process_alive(Channel) of
        true -> attempt(Operation, Connection);
        false -> invoke(Operation, disconnected, Context)
    end.

attempt({enqueue, Message}, {_, Channel}) ->
    Publish = #'basic.publish'{routing_key = ?QUEUE, mandatory = true},
    Persistent = #amqp_msg{props = #'P_basic'{delivery_mode = 2}, payload = term_to_binary(Message)},
    %% Whatever happens from here on, some of it may have been sent: what the exit says of the channel (that it was
    %% gone already, say) is no reason to call the publication failed.
    try
        ok = amqp_channel:call(Channel, Publish, Persistent),
        amqp_channel:wait_for_confirms(Channel, {?CALL_MS, millisecond})
    of
        true -> returned(Message);
        false -> {info, nacked};
        timeout -> exit(not_confirmed)
    catch
        _:Reason -> exit({not_confirmed, brief(Reason)})
    end;
attempt({dequeue, _}, {_, Channel}) ->
    case get_one(Channel) of
        {Delivery, Message} ->
            %% Whether it is heard is not known, and not claimed.
            _ = (catch amqp_channel:call(Channel, #'basic.ack'{delivery_tag = Delivery})),
            {ok, Message};
        empty ->
            {fail, empty}
    end.

with_state({Type, Value}, State) -> {Type, Value, State}.

%% The broker returns what it could not route before it confirms it.
returned(Message) ->
    receive
        {#'basic.return'{reply_text = Why}, _} -> {fail, {returned, Why}}
    after 0 ->
        {ok, Message}
    end.

get_one(Channel) ->
    case call(Channel, #'basic.get'{queue = ?QUEUE}) of
        {#'basic.get_ok'{delivery_tag = Delivery}, #amqp_msg{payload = Payload}} ->
            {Delivery, binary_to_term(Payload)};
        #'basic.get_empty'{} ->
            empty
    end.

%%% The drain

%% Of the first node that lets us in, our own before the others.
drain(#{node := Own, nodes := Nodes} = Context) ->
    All = [Node || {_, Node} <- Nodes],
    lists:foreach(fun(Node) -> catch close_connections(Node) end, All),
    drain_by([Own | All -- [Own]], Context).

drain_by([], _Context) ->
    {info, no_connection, disconnected};
drain_by([Node | Others], Context) ->
    case connection(Node, Context) of
        {ok, {_, Channel} = Connection} ->
            Tag = subscribe(Channel),
            Drained = collect(Channel, Tag, Node, now_ms() + ?DRAIN_MS, []),
            %% In order, so that acknowledgements are heard before; or else everything goes back.
            ok = close(Connection, Context),
            with_state(Drained, disconnected);
        {error, _} ->
            drain_by(Others, Context)
    end.

close_connections(Node) ->
    Connections = erpc:call(Node, rabbit_networking, local_connections, [], ?QUERY_MS),
    erpc:call(Node, rabbit_networking, close_connections, [Connections, <<"drain">>], ?QUERY_MS).

subscribe(Channel) ->
    #'basic.consume_ok'{consumer_tag = Tag} =
        amqp_channel:subscribe(Channel, #'basic.consume'{queue = ?QUEUE}, self()),
    Tag.

%% Takes without acknowledging until the queue is empty but for what it took, by a consistent query of the queue's
%% Ra cluster, which also counts what other channels hold; then acknowledges all of it.
collect(Channel, Tag, Node, Deadline, Taken) ->
    receive
        {#'basic.deliver'{consumer_tag = Tag, delivery_tag = Delivery}, #amqp_msg{payload = Payload}} ->
            collect(Channel, Tag, Node, Deadline, [{Delivery, binary_to_term(Payload)} | Taken])
    after ?QUIET_MS ->
        case total(Node) of
            Total when Total =:= length(Taken) -> drained(Channel, Taken);
            Total ->
                case now_ms() < Deadline of
                    true -> collect(Channel, Tag, Node, Deadline, Taken);
                    false -> {info, {not_drained, #{in_queue => Total, taken => length(Taken)}}}
                end
        end
    end.

drained(_Channel, []) ->
    {ok, []};
drained(Channel, [{Last, _} | _] = Taken) ->
    ok = amqp_channel:call(Channel, #'basic.ack'{delivery_tag = Last, multiple = true}),
    {ok, lists:reverse([Message || {_, Message} <- Taken])}.

total(Node) ->
    Query = fun rabbit_fifo:query_messages_total/1,
    try erpc:call(Node, ra, consistent_query, [server(Node), Query, ?QUERY_MS], 2 * ?QUERY_MS) of
        {ok, Total, _Leader} -> Total;
        Other -> brief(Other)
    catch
        error:Reason -> brief(Reason)
    end.

%%% Helpers

%% amqp_channel:call/2 waits for more than a minute.
call(Channel, Method) ->
    {Caller, Monitor} = spawn_monitor(fun() -> exit({answer, amqp_channel:call(Channel, Method)}) end),
    receive
        {'DOWN', Monitor, process, Caller, {answer, Answer}} -> Answer;
        {'DOWN', Monitor, process, Caller, Reason} -> exit(brief(Reason))
    after ?CALL_MS ->
        exit(Caller, kill),
        exit({timeout, element(1, Method)})
    end.

%% The port of a node, which fuzz_dist puts into the environment.
port(Node, #{nodes := Nodes}) ->
    {Short, Node} = lists:keyfind(Node, 2, Nodes),
    list_to_integer(os:getenv("FUZZ_DIST_PORT_AMQP_" ++ string:uppercase(binary_to_list(Short)))).

%% RabbitMQ keeps its client among its plugins, in folders named after their versions.
add_code_paths() ->
    case code:which(amqp_connection) of
        non_existing ->
            ok = code:add_pathsz(filelib:wildcard(?PLUGINS ++ "*/ebin")),
            {ok, _} = application:ensure_all_started(amqp_client),
            ok;
        _ ->
            ok
    end.

wait_until(Condition, LeftMs, Otherwise) ->
    case Condition() of
        true -> ok;
        false when LeftMs =< 0 -> {error, Otherwise};
        false -> timer:sleep(100), wait_until(Condition, LeftMs - 100, Otherwise)
    end.

%% Why a call ended, without whom it called: the same for the same cause. That nobody was there to be called stays as
%% it is, since it proves that nothing was sent.
brief({noproc, {gen_server, call, _}} = Reason) -> Reason;
brief({Reason, {gen_server, call, _}}) -> brief(Reason);
brief({shutdown, {connection_closing, {server_initiated_close, Code, _}}}) -> {closed_by_broker, Code};
brief({connection_closing, {server_initiated_close, Code, _}}) -> {closed_by_broker, Code};
brief({Reason, Details}) when is_atom(Reason), not is_atom(Details) -> {Reason, brief(Details)};
brief(Reason) when is_atom(Reason); is_integer(Reason) -> Reason;
brief(Reason) -> iolist_to_binary(io_lib:format("~0P", [Reason, 12])).

now_ms() -> erlang:monotonic_time(millisecond).
