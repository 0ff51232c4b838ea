defmodule FuzzDist.Workload.ORSet do
  @moduledoc """
  A set from which elements are removed again: presence, process groups, sessions, routing tables.
  Checked: what was added and certainly not removed since is there in the end, what was certainly removed
  is gone, and all nodes show the same.

      defmodule MyApp.PresenceTest do
        use FuzzDist.Test, workload: :or_set

        @impl true
        def add(element, _connection), do: MyApp.Presence.track(element)

        @impl true
        def remove(element, _connection), do: MyApp.Presence.untrack(element)

        @impl true
        def read(_connection), do: {:ok, MyApp.Presence.list()}
      end

  Operations: `{:add, element}`, `{:remove, element}` and `{:read, nil}`, which completes with the elements
  as a list. Elements are integers; each is added and removed many times. `add/2` of what is there and
  `remove/2` of what is not are right, and return `:ok`.

  With `workload_options: [wins: "remove"]` a remove wins over an add at the same time, and with
  `[sees: "session"]` the set may spread in the background even without faults (`doc/checking.md`).
  """

  import FuzzDist.Workload, only: [outcome: 2]

  @type failure :: FuzzDist.Workload.Register.failure()

  @doc "Adds `element`. `:ok` says that it is in the set. Runs in the logical process."
  @callback add(element :: term(), connection :: term()) :: :ok | failure()

  @doc "Removes `element`. `:ok` says that it is gone. Runs in the logical process."
  @callback remove(element :: term(), connection :: term()) :: :ok | failure()

  @doc "All elements, as any enumerable. Runs in the logical process."
  @callback read(connection :: term()) :: {:ok, Enumerable.t()} | failure()

  @doc false
  defmacro __using__(_options) do
    quote do
      require FuzzDist.Workload
      FuzzDist.Workload.client(FuzzDist.Workload.ORSet)
    end
  end

  @doc false
  def invoke(module, {:add, element}, connection),
    do: element |> module.add(connection) |> outcome(fn _ -> element end)

  def invoke(module, {:remove, element}, connection),
    do: element |> module.remove(connection) |> outcome(fn _ -> element end)

  def invoke(module, {:read, _}, connection),
    do: connection |> module.read() |> outcome(&Enum.to_list/1)
end
