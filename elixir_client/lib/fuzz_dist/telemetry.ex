defmodule FuzzDist.Telemetry do
  @moduledoc """
  The telemetry events of fuzz_dist: this module is their contract.

  They are executed in the VM of the worker (a node under test with placement `:node`, a client VM
  with placement `:client`), through `:telemetry` if the application has it, else through a small
  dispatcher of this module with the same functions (`attach/4`, `attach_many/4`, `detach/1`). Use this
  module's functions and your handlers work with both.

  ## Spans

  Each family has `:start` and then exactly one of `:stop` and `:exception`. Times are in native
  units, and `monotonic_time` is on the clock of `System.monotonic_time/0` of the VM, also for what happened
  in the core.

  | event | measurements | metadata |
  |---|---|---|
  | `[:fuzz_dist, :run, :start]` | `system_time`, `monotonic_time` | `run`, `test` |
  | `[:fuzz_dist, :run, :stop]` | `duration`, `monotonic_time` | `run`, `test` |
  | `[:fuzz_dist, :phase, :start]`, `[…, :stop]` | as of a run | `run`, `test`, `phase` (`:main`, `:heal`, `:recovery`, `:final`, `:teardown`) |
  | `[:fuzz_dist, :op, :start]` | `system_time`, `monotonic_time` | `test`, `process`, `node`, `f`, `value`, `telemetry_span_context` |
  | `[:fuzz_dist, :op, :stop]` | `duration`, `monotonic_time` | as at the start, and `type` (`:ok`, `:fail`, `:info`), `result`, `error` |
  | `[:fuzz_dist, :op, :exception]` | `duration`, `monotonic_time` | as at the start, and `kind`, `reason`, `stacktrace`, and the `type` that it was classified as |
  | `[:fuzz_dist, :fault, :start]` | as of a run | `run`, `test`, `id`, `kind`, `one_way`, `port`, `nodes` |
  | `[:fuzz_dist, :fault, :stop]` | as of a run | `run`, `test`, `id`, `kind`, `one_way`, `port` |
  | `[:fuzz_dist, :fault, :exception]` | as of a run | `run`, `test`, `id`, `fault` (its kind), `one_way`, `port`, `kind` (`:error`), `reason`, `stacktrace` |

  `[:fuzz_dist, :run, :exception]` and `[:fuzz_dist, :phase, :exception]` are reserved: when the core
  fails, its connection to the workers ends, and nobody is left to execute them.

  Runs, phases and faults happen in the core, which sends these events to every worker that is
  connected; their metadata are what it knows, with names as binaries. An operation whose process is
  killed (deadline, node gone) has a `:start` without end: nobody is left to execute it.

  A `:fail` or `:info` that `invoke` returned is a `:stop` with that `type`; an `:exception` is something
  raised, thrown or an exit. Handlers run in the logical process, between operations of others: a slow
  handler slows the test, and one that raises is detached.

      FuzzDist.Telemetry.attach("slow", [:fuzz_dist, :op, :stop], fn _event, measurements, metadata, _ ->
        IO.inspect({metadata.f, System.convert_time_unit(measurements.duration, :native, :microsecond)})
      end, nil)
  """

  @type event :: [atom(), ...]
  @type handler :: (event(), measurements :: map(), metadata :: map(), config :: term() -> term())

  @table __MODULE__

  @op_start [:fuzz_dist, :op, :start]
  @op_stop [:fuzz_dist, :op, :stop]
  @op_exception [:fuzz_dist, :op, :exception]

  @doc "All events."
  @spec events() :: [event()]
  def events do
    for family <- [:run, :phase, :op, :fault],
        moment <- [:start, :stop, :exception],
        do: [:fuzz_dist, family, moment]
  end

  @doc "Calls `function` at every `event` from now on. `id` names the handler for `detach/1`."
  @spec attach(term(), event(), handler(), term()) :: :ok | {:error, :already_exists}
  def attach(id, event, function, config), do: attach_many(id, [event], function, config)

  @doc "As `attach/4` for several events."
  @spec attach_many(term(), [event()], handler(), term()) :: :ok | {:error, :already_exists}
  def attach_many(id, events, function, config) when is_function(function, 4) do
    if library?(),
      do: apply(:telemetry, :attach_many, [id, events, function, config]),
      else: update(&add(&1, id, events, function, config))
  end

  @doc "Ends what `attach/4` began."
  @spec detach(term()) :: :ok | {:error, :not_found}
  def detach(id) do
    if library?(),
      do: apply(:telemetry, :detach, [id]),
      else: update(&remove(&1, id))
  end

  @doc "Executes an event."
  @spec execute(event(), map(), map()) :: :ok
  def execute(event, measurements, metadata) do
    if library?() do
      apply(:telemetry, :execute, [event, measurements, metadata])
    else
      for {id, function, config} <- Map.get(handlers(), event, []) do
        try do
          function.(event, measurements, metadata, config)
        catch
          kind, reason ->
            detach(id)
            require Logger

            Logger.error(
              "telemetry handler #{inspect(id)} has failed and has been detached: " <>
                Exception.format(kind, reason, __STACKTRACE__)
            )
        end
      end

      :ok
    end
  end

  @doc false
  # Whether anybody listens to operations: asked once for each, so that without handlers an operation
  # pays one lookup instead of building metadata. :telemetry has no cheap question, so with it: always.
  def observed? do
    library?() or handlers() != %{}
  end

  @doc false
  def op_start(metadata) do
    now = System.monotonic_time()
    execute(@op_start, %{system_time: System.system_time(), monotonic_time: now}, metadata)
    now
  end

  @doc false
  def op_stop(started, metadata), do: execute(@op_stop, ended(started), metadata)

  @doc false
  def op_exception(started, metadata), do: execute(@op_exception, ended(started), metadata)

  defp ended(started) do
    now = System.monotonic_time()
    %{duration: now - started, monotonic_time: now}
  end

  # Asked once in each VM: an application does not gain or lose :telemetry while it runs.
  defp library? do
    case :persistent_term.get({@table, :library}, nil) do
      nil ->
        found = Code.ensure_loaded?(:telemetry)
        :persistent_term.put({@table, :library}, found)
        found

      found ->
        found
    end
  end

  # event => [{id, function, config}], in the order of attachment.
  defp handlers, do: :persistent_term.get(@table, %{})

  defp update(change) do
    :global.trans(
      {@table, self()},
      fn ->
        case change.(handlers()) do
          {:ok, handlers} -> :persistent_term.put(@table, handlers)
          {:error, _} = error -> error
        end
      end,
      [node()]
    )
  end

  defp add(handlers, id, events, function, config) do
    if ids(handlers) |> Enum.member?(id) do
      {:error, :already_exists}
    else
      handler = {id, function, config}

      {:ok,
       Enum.reduce(events, handlers, &Map.update(&2, &1, [handler], fn h -> h ++ [handler] end))}
    end
  end

  defp remove(handlers, id) do
    if ids(handlers) |> Enum.member?(id) do
      kept =
        for {event, attached} <- handlers,
            left = Enum.reject(attached, &(elem(&1, 0) == id)),
            left != [],
            into: %{},
            do: {event, left}

      {:ok, kept}
    else
      {:error, :not_found}
    end
  end

  defp ids(handlers), do: handlers |> Map.values() |> List.flatten() |> Enum.map(&elem(&1, 0))
end
