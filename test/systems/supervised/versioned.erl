%% The first version of a module that a test replaces while it runs: `second/versioned.erl' is the other.
-module(versioned).

-export([version/0, start_link/0]).

version() -> 1.

%% A process that never leaves this version: whoever purges it kills the process.
start_link() ->
    {ok, spawn_link(fun loop/0)}.

loop() ->
    receive never -> loop() end.
