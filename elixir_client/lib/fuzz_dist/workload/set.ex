defmodule FuzzDist.Workload.Set do
  @moduledoc """
  A set that grows: unique elements are added, the whole set is read. Checked: what was added and
  acknowledged is read from some point on and never disappears, nothing is read that nobody added, and the
  last read on every node, when all faults have healed, holds everything (`set-full`, `final-reads`).

      defmodule MyApp.SetTest do
        use FuzzDist.Test, workload: :set

        @impl true
        def add(element, _connection), do: MyApp.Bag.add(element)

        @impl true
        def read(_connection), do: {:ok, MyApp.Bag.all()}
      end

  Operations: `{:add, element}` and `{:read, nil}`, which completes with the elements as a list.
  """

  import FuzzDist.Workload, only: [outcome: 2]

  @type failure :: FuzzDist.Workload.Register.failure()

  @doc "Adds `element`. `:ok` says that it is in the set. Runs in the logical process."
  @callback add(element :: term(), connection :: term()) :: :ok | failure()

  @doc "All elements, as any enumerable. Runs in the logical process."
  @callback read(connection :: term()) :: {:ok, Enumerable.t()} | failure()

  @doc false
  defmacro __using__(_options) do
    quote do
      require FuzzDist.Workload
      FuzzDist.Workload.client(FuzzDist.Workload.Set)
    end
  end

  @doc false
  def invoke(module, {:add, element}, connection),
    do: element |> module.add(connection) |> outcome(fn _ -> element end)

  def invoke(module, {:read, _}, connection),
    do: connection |> module.read() |> outcome(&Enum.to_list/1)
end
