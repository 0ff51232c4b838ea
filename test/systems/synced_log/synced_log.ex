defmodule SyncedLog do
  @moduledoc """
  A log on each node that syncs before it answers: what was acknowledged is on the disk, if the disk does not lie.

  `append` puts a value into the log of the client's node, `contents` reads all of it.
  """

  @behaviour FuzzDist.Client

  @log :synced_log

  @impl true
  def setup(_node, _context) do
    # Not linked to the process of this callback: the log belongs to a process that lives on.
    case Process.whereis(__MODULE__) do
      nil ->
        parent = self()

        spawn(fn ->
          Process.register(self(), __MODULE__)
          opened = :disk_log.open(name: @log, file: ~c"synced.log", quiet: true)
          send(parent, {:opened, elem(opened, 0)})
          Process.sleep(:infinity)
        end)

        receive do
          {:opened, status} when status in [:ok, :repaired] -> :ok
          {:opened, status} -> {:error, status}
        end

      _pid ->
        :ok
    end
  end

  @impl true
  def open(node, _context), do: {:ok, node}

  @impl true
  def invoke({:append, value}, _node, _context) do
    with :ok <- :disk_log.log(@log, value), :ok <- :disk_log.sync(@log) do
      {:ok, value}
    else
      {:error, reason} -> {:info, inspect(reason)}
    end
  end

  def invoke({:contents, _}, _node, _context), do: {:ok, contents(:start)}

  defp contents(continuation) do
    case :disk_log.chunk(@log, continuation) do
      :eof -> []
      {next, values} -> values ++ contents(next)
      {next, values, _bad_bytes} -> values ++ contents(next)
    end
  end

  @impl true
  def close(_node, _context), do: :ok
end
