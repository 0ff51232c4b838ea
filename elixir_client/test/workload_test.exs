defmodule FuzzDist.WorkloadTest do
  use ExUnit.Case, async: true

  alias FuzzDist.{Client, Context}
  alias FuzzDist.Workload.Registry, as: RegistryWorkload

  defmodule Register do
    use FuzzDist.Workload.Register
    @impl true
    def read(:lost, _), do: {:info, :lost}
    def read(key, {:connection, _}), do: {:ok, {:value_of, key}}
    @impl true
    def write(_key, :taken, _), do: {:fail, :taken}
    def write(_key, :odd, _), do: 17
    def write(_key, _value, _), do: :ok
    @impl true
    def cas(_key, from, to, _), do: if(from == :raw, do: {:info, to}, else: from < to)
    @impl true
    def open(_node, context), do: {:ok, {:connection, context}}
  end

  defmodule Set do
    use FuzzDist.Workload.Set
    @impl true
    def add(_element, %Context{}), do: :ok
    @impl true
    def read(%Context{}), do: {:ok, MapSet.new([2, 1])}
  end

  defmodule Counter do
    use FuzzDist.Workload.PNCounter
    @impl true
    def increment(key, amount, _), do: {:fail, {key, amount}}
    @impl true
    def decrement(_key, _amount, _), do: :ok
    @impl true
    def read(_key, _), do: {:ok, -3}
  end

  defmodule Names do
    use FuzzDist.Workload.Registry
    @impl true
    def register(:taken, _), do: {:fail, :taken}
    def register(_key, _), do: {:ok, self()}
    @impl true
    def whereis(:nobody, _), do: {:ok, :undefined}
    def whereis(_key, _), do: {:ok, {"n1", "1.2.3"}}

    @impl true
    def invoke({:extra, value}, _, _), do: {:ok, {:extra, value}}
    def invoke(operation, connection, context), do: super(operation, connection, context)
  end

  defp invoke(module, operation) do
    context = %Context{}
    {:ok, connection} = module.open(context.node, context)
    module.invoke(operation, connection, context)
  end

  test "all are clients" do
    for module <- [Register, Set, Counter, Names], do: assert(Client.validate(module) == :ok)
  end

  test "register" do
    assert invoke(Register, {:read, {1, nil}}) == {:ok, {1, {:value_of, 1}}}
    assert invoke(Register, {:read, {:lost, nil}}) == {:info, :lost}
    assert invoke(Register, {:write, {1, 2}}) == {:ok, {1, 2}}
    assert invoke(Register, {:write, {1, :taken}}) == {:fail, :taken}
    assert invoke(Register, {:write, {1, :odd}}) == {:info, {:bad_return, 17}}
    assert invoke(Register, {:cas, {1, [2, 3]}}) == {:ok, {1, [2, 3]}}
    assert invoke(Register, {:cas, {1, {3, 2}}}) == {:fail, :mismatch}
    assert invoke(Register, {:cas, {1, [:raw, 1]}}) == {:info, 1}
    assert invoke(Register, {:read, nil}) == {:ok, {:value_of, nil}}
  end

  test "set" do
    assert invoke(Set, {:add, 5}) == {:ok, 5}
    assert {:ok, elements} = invoke(Set, {:read, nil})
    assert Enum.sort(elements) == [1, 2]
  end

  test "counter, with keys and without" do
    assert invoke(Counter, {:read, {:k, nil}}) == {:ok, {:k, -3}}
    assert invoke(Counter, {:read, nil}) == {:ok, -3}
    assert invoke(Counter, {:decrement, {:k, 5}}) == {:ok, {:k, 5}}
    assert invoke(Counter, {:increment, 5}) == {:fail, {nil, 5}}
  end

  test "registry" do
    owner = RegistryWorkload.owner(self())
    assert invoke(Names, {:register, {:a, nil}}) == {:ok, {:a, owner}}
    assert invoke(Names, {:register, {:taken, nil}}) == {:fail, :taken}
    assert invoke(Names, {:whereis, {:nobody, nil}}) == {:ok, {:nobody, nil}}
    assert invoke(Names, {:whereis, {:a, nil}}) == {:ok, {:a, {"n1", "1.2.3"}}}
    assert invoke(Names, {:extra, 1}) == {:ok, {:extra, 1}}
  end

  test "an owner names the node, and no two processes are the same" do
    owners = for _ <- 1..100, do: RegistryWorkload.owner(spawn(fn -> :ok end))
    assert length(Enum.uniq(owners)) == 100
    [short | _] = node() |> to_string() |> String.split("@")
    assert Enum.all?(owners, fn {node, _} -> node == short end)
  end
end
