defmodule NaiveCounter do
  @moduledoc """
  A counter as it is often first written: each node counts for itself and tells the others of each change
  with a message. A message that is lost while nodes are disconnected is never sent again, so the nodes
  end up with different values.
  """

  use FuzzDist.Workload.PNCounter
  use GenServer

  @impl FuzzDist.Client
  def setup(_node, _context) do
    # Not linked to the process of this callback, which ends.
    case GenServer.start(__MODULE__, nil, name: __MODULE__) do
      {:ok, _} -> :ok
      {:error, {:already_started, _}} -> :ok
    end
  end

  @impl FuzzDist.Client
  def ready(_node, _context), do: is_pid(Process.whereis(__MODULE__))

  @impl FuzzDist.Workload.PNCounter
  def increment(key, amount, _connection), do: GenServer.call(__MODULE__, {:add, key, amount})

  @impl FuzzDist.Workload.PNCounter
  def decrement(key, amount, _connection), do: GenServer.call(__MODULE__, {:add, key, -amount})

  @impl FuzzDist.Workload.PNCounter
  def read(key, _connection), do: {:ok, GenServer.call(__MODULE__, {:read, key})}

  @impl GenServer
  def init(nil), do: {:ok, %{}}

  @impl GenServer
  def handle_call({:add, key, amount}, _from, counters) do
    for node <- Node.list(), do: GenServer.cast({__MODULE__, node}, {:add, key, amount})
    {:reply, :ok, add(counters, key, amount)}
  end

  def handle_call({:read, key}, _from, counters),
    do: {:reply, Map.get(counters, key, 0), counters}

  @impl GenServer
  def handle_cast({:add, key, amount}, counters), do: {:noreply, add(counters, key, amount)}

  defp add(counters, key, amount), do: Map.update(counters, key, amount, &(&1 + amount))
end
