defmodule GossipSet do
  @moduledoc """
  A grow-only set that heals: each node adds to its own set at once and sends all of it to every node
  that it sees, again and again. Elements may be late, but none is lost while its node lives.
  """

  use FuzzDist.Workload.Set
  use GenServer

  @gossip_ms 100

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

  @impl FuzzDist.Workload.Set
  def add(element, _connection), do: GenServer.call(__MODULE__, {:add, element})

  @impl FuzzDist.Workload.Set
  def read(_connection), do: {:ok, GenServer.call(__MODULE__, :read)}

  @impl GenServer
  def init(nil) do
    Process.send_after(self(), :gossip, @gossip_ms)
    {:ok, MapSet.new()}
  end

  @impl GenServer
  def handle_call({:add, element}, _from, set), do: {:reply, :ok, MapSet.put(set, element)}
  def handle_call(:read, _from, set), do: {:reply, set, set}

  @impl GenServer
  def handle_cast({:merge, other}, set), do: {:noreply, MapSet.union(set, other)}

  @impl GenServer
  def handle_info(:gossip, set) do
    GenServer.abcast(Node.list(), __MODULE__, {:merge, set})
    Process.send_after(self(), :gossip, @gossip_ms)
    {:noreply, set}
  end
end
