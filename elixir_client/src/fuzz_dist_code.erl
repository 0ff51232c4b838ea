%% @doc Says which code a node runs: a digest for each application that is neither OTP's nor Elixir's nor ours.
%%
%% Two nodes, or two runs, with the same digests have the same modules, wherever and when they were compiled: the MD5 of
%% a module leaves out its debug information and its compile options, as `Module:module_info(md5)' does. A module
%% that is loaded counts as it is loaded, and any other as its file in the code path is.
%%
%% Limits: modules in archives that are not loaded do not count, nor do files that a module reads.
-module(fuzz_dist_code).

-export([digests/0]).

-define(NOT_UNDER_TEST,
        ["asn1", "common_test", "compiler", "crypto", "debugger", "dialyzer", "diameter", "edoc", "eldap", "erl_docgen",
         "erl_interface", "erts", "et", "eunit", "ftp", "hipe", "inets", "jinterface", "kernel", "megaco", "mnesia",
         "observer", "odbc", "os_mon", "parsetools", "preloaded", "public_key", "reltool", "runtime_tools", "sasl", "snmp",
         "ssh", "ssl", "stdlib", "syntax_tools", "tftp", "tools", "wx", "xmerl",
         "elixir", "eex", "ex_unit", "iex", "logger", "mix", "fuzz_dist"]).

%% @doc For each application (or folder of code that is none): name, number of modules, digest in hexadecimal.
-spec digests() -> [{binary(), pos_integer(), binary()}].
digests() ->
    Loaded = [{Name, Module, File} || {Module, File} <- code:all_loaded(), is_list(File), File =/= [],
                                      Name <- under_test(filename:dirname(File))],
    Files = [{Name, list_to_atom(filename:basename(File, ".beam")), File}
             || Folder <- code:get_path(), Name <- under_test(Folder),
                File <- filelib:wildcard(filename:join(Folder, "*.beam"))],
    Modules = lists:foldl(fun add/2, #{}, Loaded ++ Files),
    Applications = maps:fold(fun(Module, {Name, Md5}, All) ->
        maps:update_with(Name, fun(Others) -> [{Module, Md5} | Others] end, [{Module, Md5}], All)
    end, #{}, Modules),
    [{unicode:characters_to_binary(Name), length(Of), digest(Of)} || {Name, Of} <- lists:sort(maps:to_list(Applications))].

%% The first of a name is the one that the code server takes.
add({Name, Module, File}, Modules) ->
    case is_map_key(Module, Modules) orelse is_ours(Module) of
        true -> Modules;
        false ->
            case md5(Module, File) of
                none -> Modules;
                Md5 -> Modules#{Module => {Name, Md5}}
            end
    end.

%% The core loads single modules of ours, which lie in no folder.
is_ours(Module) ->
    lists:prefix("fuzz_dist", atom_to_list(Module)) orelse lists:prefix("Elixir.FuzzDist", atom_to_list(Module)).

md5(Module, File) ->
    case erlang:module_loaded(Module) of
        true -> Module:module_info(md5);
        false ->
            case beam_lib:md5(File) of
                {ok, {_, Md5}} -> Md5;
                {error, beam_lib, _} -> none
            end
    end.

%% The name, in a list, or none.
under_test(Folder) ->
    Name = application_of(Folder),
    [Name || not lists:member(Name, ?NOT_UNDER_TEST)].

%% `lib/kv-1.0/ebin' is of kv; a folder of code without ebin has its own name.
application_of(Folder) ->
    Name = case {filename:basename(Folder), filename:dirname(Folder)} of
        {"ebin", Above} -> filename:basename(filename:absname(Above));
        {Own, _} -> Own
    end,
    case re:run(Name, "^(.*)-[0-9][0-9.a-z+_-]*$", [{capture, [1], list}]) of
        {match, [WithoutVersion]} -> WithoutVersion;
        nomatch -> Name
    end.

digest(Modules) ->
    Md5 = erlang:md5([[atom_to_binary(Module), 0, One] || {Module, One} <- lists:sort(Modules)]),
    << <<(hex(Nibble))>> || <<Nibble:4>> <= Md5 >>.

hex(Nibble) when Nibble < 10 -> $0 + Nibble;
hex(Nibble) -> $a + Nibble - 10.
