defmodule DemoApp.Register do
  @moduledoc """
  A register as an application might have it: each node holds all values, a write goes to all nodes that
  are connected, a read asks the nearest.

  Nothing orders two writes that meet, so even without faults it is not linearizable for long, and a
  node that was away keeps its old values.
  """

  use GenServer

  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The value at `key` on this node, `nil` if there is none."
  def read(key), do: GenServer.call(__MODULE__, {:read, key})

  @doc "Puts `value` at `key` on every node that is connected."
  def write(key, value) do
    timeout = Application.fetch_env!(:demo_app, :replication_timeout_ms)

    {_replies, _bad_nodes} =
      GenServer.multi_call([node() | Node.list()], __MODULE__, {:write, key, value}, timeout)

    :ok
  end

  @impl true
  def init(nil), do: {:ok, %{}}

  @impl true
  def handle_call({:read, key}, _from, values), do: {:reply, Map.get(values, key), values}

  def handle_call({:write, key, value}, _from, values),
    do: {:reply, :ok, Map.put(values, key, value)}
end
