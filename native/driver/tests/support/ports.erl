%% Ports of the driver without distribution, over connections of loopback: opened, used and closed by many processes.
%%
%% Compiled, not evaluated like the rest of the tests: an evaluated `receive` (`prim_eval` of OTP 25.2) ends the VM with a
%% segmentation fault when several processes are sent data by ports, also without the driver.
-module(ports).

-export([cycles/3, cycle/0, under_faults/0]).

%% What the processes ended with that each did so many rounds. The processes are not the one that asks: that may trap
%% exits, a port that is closed sends one to its owner, and a mailbox that nobody empties makes every `receive` slower
%% than the last.
cycles(Processes, Count, Round) ->
    Work = fun() -> [?MODULE:Round() || _ <- lists:seq(1, Count)], exit(done) end,
    All = [spawn_monitor(Work) || _ <- lists:seq(1, Processes)],
    lists:usort([receive {'DOWN', Ref, _, _, Why} -> Why end || {_, Ref} <- All]).

%% Opens, attaches, uses and closes a port.
cycle() ->
    {Port, Near, Far} = pair(),
    [] = port_control(Port, 3, []),
    true = port_command(Port, <<1, 2, 3>>),
    ok = gen_tcp:send(Far, <<3:32, 4, 5, 6>>),
    receive {Port, {data, <<4, 5, 6>>}} -> ok after 20000 -> error({nothing_from, Port}) end,
    {ok, <<3:32, 1, 2, 3>>} = gen_tcp:recv(Far, 7, 20000),
    close(Port, Near, Far).

%% The same when a fault may keep what was sent, or end the port, at any moment.
under_faults() ->
    process_flag(trap_exit, true),
    {Port, Near, Far} = pair(),
    catch port_control(Port, 3, []),
    catch [port_command(Port, <<N:8000>>, [nosuspend]) || N <- lists:seq(1, rand:uniform(40))],
    gen_tcp:send(Far, [<<3:32, 4, 5, 6>> || _ <- lists:seq(1, rand:uniform(40))]),
    receive {Port, _} -> ok after rand:uniform(20) -> ok end,
    close(Port, Near, Far),
    empty().

%% Makes a connection and has one end carried by a port. Each process has a listener of its own, so that what it accepts
%% is what it has connected.
pair() ->
    Listen = listener(get(listener)),
    {ok, Number} = inet:port(Listen),
    {ok, Near} = gen_tcp:connect({127, 0, 0, 1}, Number, [binary, {active, false}, {nodelay, true}], 20000),
    {ok, Far} = gen_tcp:accept(Listen, 20000),
    {ok, Descriptor} = inet:getfd(Near),
    Port = open_port({spawn_driver, "libfuzz_dist_driver"}, [binary]),
    [] = port_control(Port, 1, [<<Descriptor:32>>, "peer"]),
    {Port, Near, Far}.

listener(undefined) ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}, {backlog, 64}]),
    put(listener, Listen),
    Listen;
listener(Listen) ->
    Listen.

%% With a reset, so that no port number of the system has to wait.
close(Port, Near, Far) ->
    inet:setopts(Far, [{linger, {true, 0}}]),
    catch port_close(Port),
    gen_tcp:close(Far),
    gen_tcp:close(Near).

empty() ->
    receive _ -> empty() after 0 -> ok end.
