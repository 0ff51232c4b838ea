defmodule FuzzDist.Workload.Register do
  @moduledoc """
  Registers: independent keys, each read, written, and compared and set. Checked to be linearizable.

      defmodule MyApp.RegisterTest do
        use FuzzDist.Test, workload: :register

        @impl true
        def read(key, _connection), do: {:ok, MyApp.KV.get(key)}

        @impl true
        def write(key, value, _connection), do: MyApp.KV.put(key, value)

        @impl true
        def cas(key, from, to, _connection) do
          if MyApp.KV.compare_and_set(key, from, to), do: :ok, else: {:fail, :mismatch}
        end
      end

  A key that nobody wrote reads as `nil`. A system without compare-and-set leaves `cas/4` out; the
  workload's option `cas` is then `false`.

  Operations: `{:read, {key, nil}}` completes with `{key, value}`, `{:write, {key, value}}`,
  `{:cas, {key, [from, to]}}`.
  """

  import FuzzDist.Workload, only: [split: 1, join: 3, outcome: 2]

  @typedoc "`{:fail, reason}` certainly had no effect; `{:info, reason}` may have."
  @type failure :: {:fail, reason :: term()} | {:info, reason :: term()}

  @doc "The value at `key`, `nil` if there is none. Runs in the logical process."
  @callback read(key :: term(), connection :: term()) :: {:ok, value :: term()} | failure()

  @doc "Puts `value` at `key`. `:ok` says that it is there now. Runs in the logical process."
  @callback write(key :: term(), value :: term(), connection :: term()) :: :ok | failure()

  @doc """
  Puts `to` at `key` if `from` is there, in one step. `{:fail, :mismatch}`, or `false`, when something
  else is there; `:ok`, or `true`, when it was done. Runs in the logical process.
  """
  @callback cas(key :: term(), from :: term(), to :: term(), connection :: term()) ::
              :ok | boolean() | failure()

  @optional_callbacks cas: 4

  @doc false
  defmacro __using__(_options) do
    quote do
      require FuzzDist.Workload
      FuzzDist.Workload.client(FuzzDist.Workload.Register)
    end
  end

  @doc false
  def invoke(module, {:read, argument}, connection) do
    {key, _} = split(argument)
    key |> module.read(connection) |> outcome(&join(argument, key, &1))
  end

  def invoke(module, {:write, argument}, connection) do
    {key, value} = split(argument)
    key |> module.write(value, connection) |> outcome(fn _ -> argument end)
  end

  def invoke(module, {:cas, argument}, connection) do
    {key, from, to} = exchange(argument)

    case module.cas(key, from, to, connection) do
      true -> {:ok, argument}
      false -> {:fail, :mismatch}
      other -> outcome(other, fn _ -> argument end)
    end
  end

  defp exchange({key, [from, to]}), do: {key, from, to}
  defp exchange({key, {from, to}}), do: {key, from, to}
  defp exchange([from, to]), do: {nil, from, to}
end
