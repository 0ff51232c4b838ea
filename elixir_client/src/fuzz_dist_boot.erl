%% @doc Boots a node of a test: `erl -noinput -s fuzz_dist_boot start'.
%%
%% The environment says what to start, in this order:
%%
%% <ol>
%% <li>the node agent, always (`FUZZ_DIST_CORE', `_TOKEN', `_NODE', `_RUN');</li>
%% <li>`FUZZ_DIST_APP=name[,name...]': the user's applications with all they depend on;</li>
%% <li>`FUZZ_DIST_WORKER=1' (the core sets it wherever operations run): Elixir and the worker. It
%% connects last, so that a worker means an application that is up.</li>
%% </ol>
%%
%% Whatever cannot be started is told in one readable message on standard error (the run keeps it in
%% the node's `output.log' and quotes it) and the VM halts with status 1.
-module(fuzz_dist_boot).

-export([start/0, start_worker/1, explain/1]).

%% @doc Starts what the environment asks for, or halts the VM.
-spec start() -> ok.
start() ->
    Steps = [fun agent/0, fun applications/0, fun worker/0],
    try lists:foreach(fun(Step) -> Step() end, Steps)
    catch
        throw:{cannot, Message} -> abort(Message);
        Class:Reason:Stack ->
            abort(["unexpected ", format({Class, Reason}), "\n", format(Stack)])
    end.

%% @doc Does the rest of {@link start/0} in a node that was started without it, once the node has booted: the core
%% asks for it over the node agent where operations run inside the nodes. `Folders' are those of our own code and of the
%% code paths of the run; a node in embedded mode, as releases are, loads nothing from them by itself.
-spec start_worker([binary()]) -> ok | {error, binary()}.
start_worker(Folders) ->
    try
        boots_itself() orelse begin
            await_booted(),
            [load_folder(unicode:characters_to_list(Folder)) || embedded(), Folder <- Folders],
            applications(),
            worker()
        end,
        ok
    catch
        throw:{cannot, Message} -> {error, unicode:characters_to_binary(Message)};
        Class:Reason -> {error, unicode:characters_to_binary(["unexpected ", format({Class, Reason})])}
    end.

%% Whether a flag of this node names this module.
boots_itself() ->
    Words = [Word || {_, Values} <- init:get_arguments(), Word <- Values] ++ init:get_plain_arguments(),
    lists:any(fun(Word) -> string:find(Word, ?MODULE_STRING) =/= nomatch end, Words).

%% The applications of a release are up when it has booted, and those of `-s' and `-eval'.
await_booted() ->
    case init:get_status() of
        {started, _} -> ok;
        {starting, _} -> timer:sleep(20), await_booted();
        {stopping, _} -> throw({cannot, "the node is stopping"})
    end.

embedded() -> code:get_mode() =:= embedded.

%% What is loaded already stays. A module that refuses to load is missed where it is needed.
load_folder(Folder) ->
    lists:foreach(fun(File) ->
        Module = list_to_atom(filename:basename(File, ".beam")),
        case code:is_loaded(Module) of
            false ->
                {ok, Code} = file:read_file(File),
                code:load_binary(Module, File, Code);
            _ -> ok
        end
    end, filelib:wildcard(filename:join(Folder, "*.beam"))).

agent() ->
    case fuzz_dist_agent:start() of
        {ok, _} -> ok;
        {error, {missing_variable, Variable}} ->
            throw({cannot, ["the environment variable ", Variable, " is not set; fuzz_dist_boot starts "
                            "nodes of a fuzz_dist run and is not meant to be used outside of one"]})
    end.

applications() ->
    Names = string:lexemes(os:getenv("FUZZ_DIST_APP", ""), ", "),
    lists:foreach(fun(Name) -> application(list_to_atom(Name)) end, Names).

application(Name) ->
    case application:ensure_all_started(Name) of
        {ok, _} -> ok;
        {error, {Failed, Reason}} ->
            throw({cannot, ["the application ", atom_to_list(Failed), needed_by(Name, Failed),
                            " could not be started: ", explain({Failed, Reason})]})
    end.

needed_by(Name, Name) -> "";
needed_by(Name, _) -> [" (needed by ", atom_to_list(Name), ")"].

%% @doc A reason of `application:ensure_all_started/1' in words.
-spec explain({atom(), term()}) -> iodata().
explain({Name, {"no such file or directory", File}}) ->
    [File, " is not in the code path; is ", atom_to_list(Name),
     " compiled, and its ebin directory among cluster.code_paths?"];
explain({_, {bad_return, {{Module, start, _}, {'EXIT', {Reason, _Stack}}}}}) ->
    [module(Module), ":start/2 crashed: ", format(Reason)];
explain({_, {{shutdown, {failed_to_start_child, Child, Reason}}, _}}) ->
    ["its child ", format(Child), " failed to start: ", format(Reason)];
explain({_, Reason}) ->
    format(Reason).

worker() ->
    case os:getenv("FUZZ_DIST_WORKER") of
        "1" ->
            find_elixir(),
            [load_folder(code:lib_dir(Name) ++ "/ebin") || Name <- [elixir, logger], embedded(),
                                                           not is_tuple(code:lib_dir(Name))],
            lists:foreach(fun application/1, [elixir, logger]),
            Worker = 'Elixir.FuzzDist.Worker',
            case code:ensure_loaded(Worker) of
                {module, Worker} -> {ok, _} = Worker:start_from_env(), ok;
                {error, embedded} ->
                    throw({cannot, "the module FuzzDist.Worker is not loaded, and this node runs in embedded mode"});
                {error, Reason} ->
                    throw({cannot, ["the module FuzzDist.Worker cannot be loaded (", format(Reason),
                                    "); the ebin directory of fuzz_dist must be in the code path"]})
            end;
        _ -> ok
    end.

%% A plain `erl' does not know Elixir's libraries: they lie beside the program `elixir'.
find_elixir() ->
    case {code:lib_dir(elixir), os:find_executable("elixir")} of
        {{error, bad_name}, Program} when is_list(Program) ->
            Home = filename:dirname(filename:dirname(real_path(Program, 10))),
            code:add_pathsz(filelib:wildcard(filename:join(Home, "lib/*/ebin")));
        _ -> ok
    end.

real_path(Path, Left) ->
    case file:read_link_all(Path) of
        {ok, Target} when Left > 0 -> real_path(filename:absname(Target, filename:dirname(Path)), Left - 1);
        _ -> Path
    end.

abort(Message) ->
    io:put_chars(standard_error, ["fuzz_dist: cannot boot ", atom_to_list(node()), ": ", Message, "\n"]),
    erlang:halt(1).

module(Module) ->
    Name = atom_to_list(Module),
    case lists:prefix("Elixir.", Name) of
        true -> lists:nthtail(7, Name);
        false -> Name
    end.

%% An exception of Elixir is a map; its message is what people want to read.
format(#{'__exception__' := true, '__struct__' := Module} = Exception) ->
    try [module(Module), ": ", 'Elixir.Exception':message(Exception)]
    catch _:_ -> io_lib:format("~0tp", [Exception])
    end;
format({#{'__exception__' := true} = Exception, Stack}) when is_list(Stack) ->
    format(Exception);
format(Term) ->
    io_lib:format("~0tp", [Term]).
