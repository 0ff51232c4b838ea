defmodule FuzzDist.Workload.PNCounter do
  @moduledoc """
  Counters that go up and down. Checked: each read is a value that some order of the increments and
  decrements so far makes possible, and after healing all nodes read the same.

      defmodule MyApp.CounterTest do
        use FuzzDist.Test, workload: :pn_counter

        @impl true
        def increment(key, amount, _connection), do: MyApp.Counter.add(key, amount)

        @impl true
        def decrement(key, amount, _connection), do: MyApp.Counter.add(key, -amount)

        @impl true
        def read(key, _connection), do: {:ok, MyApp.Counter.value(key)}
      end

  A counter that nobody touched reads as 0. The key is `nil` if the test has a single counter.

  Operations: `{:increment, {key, amount}}`, `{:decrement, {key, amount}}`, `{:read, {key, nil}}`, which
  completes with `{key, value}`; without keys only what stands at their side.
  """

  import FuzzDist.Workload, only: [split: 1, join: 3, outcome: 2]

  @type failure :: FuzzDist.Workload.Register.failure()

  @doc "Adds `amount` (positive) to the counter. Runs in the logical process."
  @callback increment(key :: term(), amount :: pos_integer(), connection :: term()) ::
              :ok | failure()

  @doc "Takes `amount` (positive) from the counter. Runs in the logical process."
  @callback decrement(key :: term(), amount :: pos_integer(), connection :: term()) ::
              :ok | failure()

  @doc "The value of the counter as this node sees it. Runs in the logical process."
  @callback read(key :: term(), connection :: term()) :: {:ok, integer()} | failure()

  @doc false
  defmacro __using__(_options) do
    quote do
      require FuzzDist.Workload
      FuzzDist.Workload.client(FuzzDist.Workload.PNCounter)
    end
  end

  @doc false
  def invoke(module, {f, argument}, connection) when f in [:increment, :decrement] do
    {key, amount} = split(argument)

    module
    |> apply(f, [key, amount, connection])
    |> outcome(fn _ -> argument end)
  end

  def invoke(module, {:read, argument}, connection) do
    {key, _} = split(argument)
    key |> module.read(connection) |> outcome(&join(argument, key, &1))
  end
end
