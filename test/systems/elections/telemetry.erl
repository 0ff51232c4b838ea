%% @doc As much of the library of this name as is needed to execute an event: it comes from Hex, which tests do without.
-module(telemetry).

-export([attach/4, execute/3]).

-spec attach(term(), [atom()], fun(), term()) -> ok | {error, already_exists}.
attach(Id, Event, Handler, Config) ->
    Handlers = handlers(),
    case lists:keymember(Id, 1, Handlers) of
        true -> {error, already_exists};
        false -> persistent_term:put(?MODULE, [{Id, Event, Handler, Config} | Handlers])
    end.

-spec execute([atom()], map(), map()) -> ok.
execute(Event, Measurements, Metadata) ->
    [Handler(Event, Measurements, Metadata, Config) || {_, Of, Handler, Config} <- handlers(), Of =:= Event],
    ok.

handlers() -> persistent_term:get(?MODULE, []).
