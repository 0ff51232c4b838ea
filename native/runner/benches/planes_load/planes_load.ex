defmodule PlanesLoad do
  @moduledoc """
  What faults of every plane show up in: on each node a supervised process that sends to its peers, and writes to a
  file and syncs it, fifty times a second. An operation asks that process.
  """

  @behaviour FuzzDist.Client
  use GenServer

  @every_ms 20

  @impl FuzzDist.Client
  def setup(_node, _context) do
    case Process.whereis(PlanesLoad.Supervisor) do
      nil -> start()
      _pid -> :ok
    end
  end

  # Of a process of its own: that of this callback ends.
  defp start do
    {parent, tag} = {self(), make_ref()}

    spawn(fn ->
      # It is killed again and again, and that is not to end its supervisor.
      options = [strategy: :one_for_one, max_restarts: 1_000_000, name: PlanesLoad.Supervisor]
      send(parent, {tag, Supervisor.start_link([__MODULE__], options)})
      Process.sleep(:infinity)
    end)

    receive do
      {^tag, {:ok, _}} -> :ok
      {^tag, {:error, {:already_started, _}}} -> :ok
      {^tag, other} -> {:error, other}
    end
  end

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl FuzzDist.Client
  def ready(_node, _context), do: is_pid(Process.whereis(__MODULE__))

  @impl FuzzDist.Client
  def open(node, _context), do: {:ok, node}

  @impl FuzzDist.Client
  def invoke({:look, _}, _node, _context), do: {:ok, GenServer.call(__MODULE__, :look, 1000)}

  @impl FuzzDist.Client
  def close(_node, _context), do: :ok

  @impl GenServer
  def init(nil) do
    send(self(), :again)
    {:ok, 0}
  end

  @impl GenServer
  def handle_call(:look, _from, count), do: {:reply, count, count}

  @impl GenServer
  def handle_cast({:from, _node}, count), do: {:noreply, count + 1}

  @impl GenServer
  def handle_info(:again, count) do
    GenServer.abcast(Node.list(), __MODULE__, {:from, node()})
    write()
    Process.send_after(self(), :again, @every_ms)
    {:noreply, count}
  end

  def handle_info(_unasked, count), do: {:noreply, count}

  # A disk that fails is what is measured here.
  defp write do
    with {:ok, file} <- :file.open(~c"planes_load.log", [:raw, :append]) do
      :file.write(file, "look\n")
      :file.sync(file)
      :file.close(file)
    end
  end
end
