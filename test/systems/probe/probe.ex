defmodule Probe do
  @moduledoc """
  A system that has no other purpose than to make fuzz_dist's own promises visible: it names a primary,
  writes every telemetry event that reaches it to `telemetry.log` in the node's data folder, hands out
  ids (option `ids`), and does on request what `system_monitor` reports.
  """

  @behaviour FuzzDist.Client

  alias FuzzDist.{Context, Telemetry}

  @heap_elements 12_000_000
  @message_bytes 8_000_000

  @impl true
  def setup(_node, _context) do
    # The data folder is where the VM was started.
    log = Path.join(File.cwd!(), "telemetry.log")

    case Telemetry.attach_many(__MODULE__, Telemetry.events(), &__MODULE__.write/4, log) do
      :ok -> :ok
      {:error, :already_exists} -> :ok
    end

    # Outlives the process of this callback.
    if :ets.whereis(__MODULE__) == :undefined do
      creator = self()

      spawn(fn ->
        :ets.new(__MODULE__, [:named_table, :public])
        send(creator, :created)
        Process.sleep(:infinity)
      end)

      receive do
        :created -> :ok
      end
    end

    :ok
  end

  @doc "One line: family, moment, measurements with their types, metadata."
  def write([:fuzz_dist, family, moment], measurements, metadata, log) do
    numbers = measurements |> Enum.sort() |> Enum.map_join(",", fn {k, v} -> "#{k}=#{v}" end)
    keys = metadata |> Map.keys() |> Enum.sort() |> Enum.join(",")

    told =
      for k <- [:phase, :id, :kind, :fault, :f, :type], v = metadata[k], do: "#{k}=#{show(v)}"

    now = System.monotonic_time()
    line = "#{family} #{moment} #{numbers} #{keys} #{Enum.join(told, ",")} #{now}\n"
    File.write!(log, line, [:append])
  end

  defp show(value) when is_atom(value) or is_integer(value) or is_binary(value), do: "#{value}"
  defp show(value), do: String.replace(inspect(value), " ", "")

  @impl true
  def primary(_node, context), do: context |> Context.node_names() |> Enum.min()

  @impl true
  def open(_node, context), do: {:ok, context.node}

  @impl true
  # Wrong with "own-count" as soon as there is a second node, since each counts for itself.
  def invoke({:generate, _}, node, context) do
    case context.options.ids do
      "unique" -> {:ok, "#{node} #{count()}"}
      "own-count" -> {:ok, count()}
    end
  end

  def invoke({:echo, value}, _node, _context), do: {:ok, value}
  def invoke({:raise, _}, _node, _context), do: raise(ArgumentError, "on purpose")
  def invoke({:refuse, _}, _node, _context), do: {:fail, :on_purpose}

  # A heap of more than 16 M words, collected while all of it is alive.
  def invoke({:heap, _}, _node, _context) do
    {_pid, monitor} =
      spawn_monitor(fn ->
        list = Enum.to_list(1..@heap_elements)
        :erlang.garbage_collect()
        :erlang.garbage_collect()
        exit({:shutdown, length(list)})
      end)

    receive do
      {:DOWN, ^monitor, :process, _, {:shutdown, count}} -> {:ok, count}
    after
      30_000 -> {:info, :timeout}
    end
  end

  # More than a link that is held takes; the sender waits for as long as the connection lives.
  def invoke({:flood, target}, _node, context) do
    {_short, peer} = List.keyfind(context.nodes, target, 0)
    message = :binary.copy(<<0>>, @message_bytes)
    spawn(fn -> for _ <- 1..8, do: send({:nobody, peer}, message) end)
    {:ok, target}
  end

  @impl true
  def close(_node, _context), do: :ok

  defp count, do: :ets.update_counter(__MODULE__, :count, 1, {:count, 0})
end
