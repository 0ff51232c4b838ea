%% A supervision tree of plain OTP for faults inside nodes to hit, in nodes that have never heard of fuzz_dist:
%%
%%   supervised_sup   steady   a gen_server, asked by every operation
%%                    trapper  a gen_server that traps exits
%%                    clinger  a process in the code of `versioned'
%%                    inner_sup (gives up at the second restart in ten seconds)
%%                             fragile   a gen_server
%%
%% On n1 `steady' is also `leader' in `global', and holds its lock of `resource'.
-module(supervised).
-behaviour(gen_server).

-export([start/0, look/0, leader_node/1]).
-export([start_link/2, start_server/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% For `erl -s supervised'.
start() ->
    {ok, Pid} = start_link(supervised_sup, top),
    unlink(Pid).

%% What operations see of a node: which version of the code runs, and who serves.
look() ->
    Pid = gen_server:call(steady, who, 1000),
    {versioned:version(), list_to_binary(pid_to_list(Pid))}.

%% A resolver: the process that serves on the node of the leader.
leader_node(_) ->
    {steady, node(global:whereis_name(leader))}.

start_link(Name, Which) ->
    supervisor:start_link({local, Name}, ?MODULE, {supervisor, Which}).

start_server(Name) ->
    gen_server:start_link({local, Name}, ?MODULE, {server, Name}, []).

init({supervisor, top}) ->
    Children = [server(steady), server(trapper),
                #{id => clinger, start => {versioned, start_link, []}},
                #{id => inner_sup, type => supervisor, start => {?MODULE, start_link, [inner_sup, inner]}}],
    {ok, {#{strategy => one_for_one, intensity => 100, period => 1}, Children}};
init({supervisor, inner}) ->
    {ok, {#{strategy => one_for_one, intensity => 1, period => 10}, [server(fragile)]}};
init({server, Name}) ->
    Name =:= trapper andalso process_flag(trap_exit, true),
    Name =:= steady andalso hd(string:split(atom_to_list(node()), "@")) =:= "n1" andalso lead(),
    {ok, Name}.

lead() ->
    yes = global:register_name(leader, self()),
    true = global:set_lock({resource, self()}).

server(Name) ->
    #{id => Name, start => {?MODULE, start_server, [Name]}}.

handle_call(who, _From, State) -> {reply, self(), State}.
handle_cast(_Message, State) -> {noreply, State}.
handle_info(_Message, State) -> {noreply, State}.
