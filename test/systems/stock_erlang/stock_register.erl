%% A register service of plain OTP, as a node that has never heard of fuzz_dist runs it. The node `n1` keeps all
%% registers, in a table and in a log that it writes before it answers; the others pass what they are asked on to
%% it. A read may be answered by n1 alone, so the register is linearizable; after a kill n1 reads its log.
-module(stock_register).
-behaviour(gen_server).

-export([start/0, call/1]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(CALL_MS, 2000).
-define(LOG, "registers.log").

%% For `erl -s stock_register`.
start() ->
    {ok, _} = gen_server:start({local, ?MODULE}, ?MODULE, [], []).

%% Runs in the node that a client is connected to.
call(Request) ->
    gen_server:call({?MODULE, keeper()}, Request, ?CALL_MS).

keeper() ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    list_to_atom("n1@" ++ Host).

init([]) ->
    Registers = ets:new(registers, [private]),
    {ok, Log} = file:open(?LOG, [raw, binary, read, append]),
    replay(Log, Registers),
    {ok, {Log, Registers}}.

replay(Log, Registers) ->
    case file:read(Log, 4) of
        {ok, <<Size:32>>} ->
            case file:read(Log, Size) of
                {ok, <<Entry:Size/binary>>} ->
                    ets:insert(Registers, binary_to_term(Entry)),
                    replay(Log, Registers);
                _Torn ->
                    ok
            end;
        _End ->
            ok
    end.

handle_call({read, Key}, _From, {_, Registers} = State) ->
    {reply, value(Registers, Key), State};
handle_call({write, Key, Value}, _From, State) ->
    {reply, write(Key, Value, State), State};
handle_call({cas, Key, Old, New}, _From, {_, Registers} = State) ->
    case value(Registers, Key) of
        Old -> {reply, write(Key, New, State), State};
        _Other -> {reply, no, State}
    end.

handle_cast(_Message, State) ->
    {noreply, State}.

value(Registers, Key) ->
    case ets:lookup(Registers, Key) of
        [{Key, Value}] -> Value;
        [] -> nil
    end.

write(Key, Value, {Log, Registers}) ->
    Entry = term_to_binary({Key, Value}),
    ok = file:write(Log, [<<(byte_size(Entry)):32>>, Entry]),
    true = ets:insert(Registers, {Key, Value}),
    ok.
