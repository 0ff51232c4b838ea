%% @doc Finds the Erlang process that a fault is about, when the fault starts.
%%
%% A selector names it by what it is to the system under test, since pids are not known before: a registered
%% name, a name in a registry or in `global', a child of a supervisor, a position in a supervision tree, or
%% what a resolver says. Names and keys come as text: an Erlang term, or where Elixir runs an Elixir one.
%%
%% Whoever is not found is told with what there is instead. A process of another node is told with that node:
%% the fault belongs there. Nothing is asked that could hurt: `which_children' goes to supervisors only.
%%
%% Limits: what lies below a supervisor that does not answer within a second is not seen.
-module(fuzz_dist_selector).

-export([resolve/2, holder/1, children/1, is_supervisor/1, text/1]).

-define(CALL_MS, 1000).
%% How long is waited for somebody to take a lock.
-define(HELD_MS, 200).
%% Of names in a message.
-define(NAMES_MAX, 20).
%% Processes of every VM that belong to no application.
-define(OTP_NAMES, [init, erl_prim_loader, erts_code_purger, application_controller, logger, error_logger,
                    socket_registry, fuzz_dist_agent]).

-type selector() :: {registered | global | below, binary()}
                  | {via | child | position | resolver, [binary()]}.

-export_type([selector/0]).

%% @doc The process, and a selector that finds whoever takes its place. `Draw' decides where several fit.
-spec resolve(selector(), non_neg_integer()) ->
    {ok, pid(), selector()} | {elsewhere, node()} | {error, binary()}.
resolve(Selector, Draw) ->
    try find(Selector, Draw) of
        {Pid, Again} when node(Pid) =:= node() -> {ok, Pid, Again};
        {Pid, _} -> {elsewhere, node(Pid)}
    catch
        throw:{elsewhere, Node} -> {elsewhere, Node};
        throw:{no, Message} -> {error, unicode:characters_to_binary(Message)}
    end.

%% @doc Who is meant now, on whatever node; that node, where no more is known here.
-spec holder(selector()) -> pid() | node() | nobody.
holder(Selector) ->
    try find(Selector, 0) of
        {Pid, _} -> Pid
    catch
        throw:{elsewhere, Node} -> Node;
        %% Also whatever a registry raises while its application starts again.
        _:_ -> nobody
    end.

find({registered, Name} = Selector, _) ->
    {registered(Name), Selector};
find({via, [Registry, Name]} = Selector, _) ->
    case [Module || Module <- atoms(Registry), code:ensure_loaded(Module) =:= {module, Module},
                    erlang:function_exported(Module, whereis_name, 1)] of
        [Module | _] ->
            case Module:whereis_name(term(Name)) of
                Pid when is_pid(Pid) -> {Pid, Selector};
                _ -> no(["the registry ", Registry, " on ", here(), " knows no process as ", Name])
            end;
        [] ->
            no(["there is no module ", Registry, " with whereis_name/1 on ", here(),
                "; a registry is named by its module, as \"Registry\" or \"gproc\""])
    end;
find({global, Name} = Selector, _) ->
    case global:whereis_name(term(Name)) of
        Pid when is_pid(Pid) -> {Pid, Selector};
        undefined ->
            no(["global knows no process as ", Name, " on ", here(), "; its names are: ",
                list(global:registered_names())])
    end;
find({child, [Supervisor, Id]} = Selector, _) ->
    Children = children_of(Supervisor, named(Supervisor)),
    case lists:keyfind(term(Id), 1, Children) of
        {_, Pid, _, _} when is_pid(Pid) -> {Pid, Selector};
        {_, NoPid, _, _} ->
            no(["the child ", Id, " of ", Supervisor, " on ", here(), " does not run (", text(NoPid), ")"]);
        false ->
            no([Supervisor, " on ", here(), " has no child ", Id, "; its children are: ",
                list([Child || {Child, _, _, _} <- Children])])
    end;
find({position, [Root | Steps]} = Selector, _) ->
    {walk(Root, named(Root), Steps), Selector};
find({below, Root}, Draw) ->
    case below(named(Root), [Root]) of
        [] -> no(["no process runs below ", Root, " on ", here()]);
        Found ->
            {Pid, Path} = lists:nth(Draw rem length(Found) + 1, Found),
            {Pid, {position, Path}}
    end;
find({resolver, [Resolver, Argument]} = Selector, _) ->
    {resolver(Resolver, Argument), Selector}.

registered(Name) ->
    case [Pid || Atom <- atoms(Name), Pid <- [whereis(Atom)], is_pid(Pid)] of
        [Pid | _] -> Pid;
        [] -> no(["no process is registered as ", Name, " on ", here(), "; registered are: ", list(names())])
    end.

%% A registered process, or the supervisor at the top of an application.
named(Name) ->
    case [Pid || Atom <- atoms(Name), Pid <- [whereis(Atom), top(Atom)], is_pid(Pid)] of
        [Pid | _] -> Pid;
        [] -> no(["no process is registered as ", Name, " on ", here(), " and no application of this name "
                  "runs; registered are: ", list(names())])
    end.

top(Application) ->
    case application_controller:get_master(Application) of
        Master when is_pid(Master) -> element(1, application_master:get_child(Master));
        _ -> undefined
    end.

%% What is registered but for the parts of OTP itself, which nobody means.
names() ->
    Own = [Name || Name <- registered() -- ?OTP_NAMES, not of_kernel(whereis(Name))],
    lists:sort(case Own of [] -> registered(); _ -> Own end).

of_kernel(Pid) when is_pid(Pid) -> application:get_application(Pid) =:= {ok, kernel};
of_kernel(_) -> true.

dictionary(Pid) ->
    case process_info(Pid, dictionary) of
        {dictionary, Dictionary} -> Dictionary;
        undefined -> []
    end.

%%% Supervision trees

%% @doc Whether it is a supervisor, which may be asked for its children.
-spec is_supervisor(pid()) -> boolean().
is_supervisor(Pid) ->
    case lists:keyfind('$initial_call', 1, dictionary(Pid)) of
        {_, {supervisor, _, _}} -> true;
        _ -> false
    end.

%% @doc The children of a supervisor in the order in which they were started; `error' if it does not answer.
-spec children(pid()) -> {ok, [tuple()]} | error.
children(Supervisor) ->
    try gen_server:call(Supervisor, which_children, ?CALL_MS) of
        Children -> {ok, lists:reverse(Children)}
    catch exit:_ -> error
    end.

children_of(Name, Pid) ->
    case is_supervisor(Pid) andalso children(Pid) of
        {ok, Children} -> Children;
        false -> no([Name, " on ", here(), " is no supervisor"]);
        error -> no([Name, " on ", here(), " did not tell its children within ", text(?CALL_MS), " ms"])
    end.

walk(_, Pid, []) ->
    Pid;
walk(Name, Pid, [Step | Steps]) ->
    Children = children_of(Name, Pid),
    Number = binary_to_integer(Step),
    case Number < length(Children) andalso lists:nth(Number + 1, Children) of
        {_, Child, _, _} when is_pid(Child) -> walk([Name, "/", Step], Child, Steps);
        {Id, NoPid, _, _} ->
            no(["the child ", Step, " (", text(Id), ") of ", Name, " on ", here(), " does not run (",
                text(NoPid), ")"]);
        false ->
            no([Name, " on ", here(), " has no child number ", Step, ", counted from 0; it has ",
                text(length(Children)), ": ", list([Id || {Id, _, _, _} <- Children])])
    end.

%% Every process below with the path to it, in the order of the tree.
below(Pid, [Name | _] = Path) ->
    Numbered = lists:enumerate(0, children_of(Name, Pid)),
    lists:flatmap(
        fun({Number, {_, Child, Kind, _}}) when is_pid(Child) ->
                Below = Path ++ [integer_to_binary(Number)],
                [{Child, Below} | case Kind =:= supervisor andalso is_supervisor(Child) of
                                      true -> below(Child, Below);
                                      false -> []
                                  end];
           (_) -> []
        end, Numbered).

%%% Resolvers

resolver(<<"ra-leader">>, Name) ->
    Members = needs(ra, members, 2),
    case Members({term(Name), node()}, ?CALL_MS) of
        {ok, _, {Leader, Node}} when Node =:= node() -> local(Leader, ["the leader of ", Name]);
        {ok, _, {_, Node}} when is_atom(Node) -> throw({elsewhere, Node});
        Other -> no(["ra knows no leader of ", Name, " on ", here(), ": ", text(Other)])
    end;
resolver(<<"global-lock">>, Resource) ->
    Name = term(Resource),
    Holders = fun() -> [Pid || {_, _, Held} <- ets:lookup(global_locks, Name), {Pid, _} <- Held] end,
    case until_held(Holders) of
        [Pid | _] -> Pid;
        [] -> no(["nobody holds the global lock ", Resource, " on ", here(), "; held are: ",
                  list([Id || {Id, _, _} <- ets:tab2list(global_locks)])])
    end;
resolver(<<"mnesia-lock">>, Table) ->
    Ask = needs(mnesia, system_info, 1),
    Name = term(Table),
    Locks = fun() ->
        try Ask(held_locks) catch exit:Reason -> no(["mnesia does not run on ", here(), ": ", text(Reason)]) end
    end,
    case until_held(fun() -> [Pid || {{Of, _}, _, {tid, _, Pid}} <- Locks(), Of =:= Name] end) of
        [Pid | _] -> Pid;
        [] -> no(["nobody holds a lock of the table ", Table, " on ", here()])
    end;
resolver(Function, Argument) ->
    case binary:split(Function, <<":">>) of
        [Module, Name] ->
            [Atom | _] = [A || A <- atoms(Module), code:ensure_loaded(A) =:= {module, A}] ++ [binary_to_atom(Module)],
            Resolve = needs(Atom, binary_to_atom(Name), 1),
            whom(Function, try Resolve(term(Argument))
                           catch Class:Reason -> no([Function, "/1 failed on ", here(), ": ", text({Class, Reason})])
                           end);
        [_] ->
            no(["there is no resolver ", Function])
    end.

%% A lock is held for moments, with others in between when nobody does.
until_held(Holders) ->
    until_held(Holders, erlang:monotonic_time(millisecond) + ?HELD_MS).

until_held(Holders, Deadline) ->
    Found = Holders(),
    case Found =:= [] andalso erlang:monotonic_time(millisecond) < Deadline of
        true -> timer:sleep(1), until_held(Holders, Deadline);
        false -> Found
    end.

whom(_, Pid) when is_pid(Pid) -> Pid;
whom(Function, Name) when is_atom(Name) -> local(Name, Function);
whom(Function, {Name, Node}) when Node =:= node() -> local(Name, Function);
whom(_, {Name, Node}) when is_atom(Name), is_atom(Node) -> throw({elsewhere, Node});
whom(Function, Other) ->
    no([Function, "/1 gave ", text(Other), " on ", here(), ", which is no process: a pid, a registered name or "
        "{name, node} is needed"]).

local(Name, What) ->
    case is_atom(Name) andalso whereis(Name) of
        Pid when is_pid(Pid) -> Pid;
        _ -> no([What, " is ", text(Name), ", which is not registered on ", here()])
    end.

needs(Module, Function, Arity) ->
    case code:ensure_loaded(Module) =:= {module, Module} andalso erlang:function_exported(Module, Function, Arity) of
        true -> fun Module:Function/Arity;
        false -> no([text(Module), ":", text(Function), "/", text(Arity), " does not exist on ", here()])
    end.

%%% Words

%% Names of Elixir modules are written without their prefix.
atoms(Text) ->
    [binary_to_atom(Prefixed) || Prefixed <- [Text, <<"Elixir.", Text/binary>>], byte_size(Prefixed) < 256].

term(Text) ->
    Written = unicode:characters_to_list(Text),
    Parsed = case erl_scan:string(Written ++ ".") of
        {ok, Tokens, _} -> erl_parse:parse_term(Tokens);
        Wrong -> Wrong
    end,
    case Parsed of
        {ok, Term} -> Term;
        _ -> elixir_term(Text)
    end.

elixir_term(Text) ->
    Elixir = 'Elixir.Code',
    case erlang:module_loaded(Elixir) of
        true ->
            try element(1, Elixir:eval_string(Text))
            catch _:_ -> no([Text, " is a term neither of Erlang nor of Elixir"])
            end;
        false ->
            no([Text, " is no Erlang term (and Elixir does not run on ", here(), ")"])
    end.

list([]) -> "none";
list(Terms) ->
    {Told, Rest} = lists:split(min(?NAMES_MAX, length(Terms)), Terms),
    More = case Rest of [] -> ""; _ -> [" and ", text(length(Rest)), " more"] end,
    [lists:join(", ", [text(Term) || Term <- Told]), More].

here() -> hd(string:split(atom_to_list(node()), "@")).

%% @doc A term as people write it.
-spec text(term()) -> binary().
text(Term) -> unicode:characters_to_binary(io_lib:format("~0tp", [Term])).

-spec no(iodata()) -> no_return().
no(Message) -> throw({no, Message}).
