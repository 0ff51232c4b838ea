%% The second version of `versioned.erl` beside this folder.
-module(versioned).

-export([version/0, start_link/0]).

version() -> 2.

%% A process that never leaves this version: whoever purges it kills the process.
start_link() ->
    {ok, spawn_link(fun loop/0)}.

loop() ->
    receive never -> loop() end.
