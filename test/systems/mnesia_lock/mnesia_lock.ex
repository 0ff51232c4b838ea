defmodule MnesiaLock do
  @moduledoc """
  A counter in Mnesia on every node, and on the first node a process that holds its lock most of the time: it adds one
  in transactions that take a while. For faults that hit whoever holds a lock.

  `look` reads the counter in a transaction and so waits for the holder; it completes with the count. A holder that is
  killed leaves its transaction to Mnesia, which takes it back and gives the lock to the next; one that is suspended
  makes everybody wait.
  """

  @behaviour FuzzDist.Client

  alias FuzzDist.{Context, Outcome}

  @table :fuzz_dist_counter
  @hold_ms 100
  @rest_ms 20

  @impl true
  def setup(node, context) do
    :ok = :mnesia.start()

    case :mnesia.change_config(:extra_db_nodes, Context.node_names(context) -- [node]) do
      {:ok, []} ->
        {:atomic, :ok} = :mnesia.create_table(@table, ram_copies: [node])
        # Not linked to the process of this callback, which ends.
        spawn(&keep_holding/0)
        :ok

      {:ok, _} ->
        {:atomic, :ok} = :mnesia.add_table_copy(@table, node, :ram_copies)
        :ok
    end
  end

  # Another one takes the place of a holder that was killed.
  defp keep_holding do
    {_pid, monitor} = spawn_monitor(&hold/0)

    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> keep_holding()
    end
  end

  defp hold do
    {:atomic, :ok} =
      :mnesia.transaction(fn ->
        count = count(:write)
        Process.sleep(@hold_ms)
        :mnesia.write({@table, :count, count + 1})
      end)

    Process.sleep(@rest_ms)
    hold()
  end

  @impl true
  def ready(_node, _context), do: :mnesia.wait_for_tables([@table], 500) == :ok

  @impl true
  def open(node, _context), do: {:ok, node}

  @impl true
  def invoke({:look, _}, _node, _context) do
    case :mnesia.transaction(fn -> count(:read) end) do
      {:atomic, count} -> {:ok, count}
      aborted -> Outcome.classify(aborted, true)
    end
  end

  defp count(lock) do
    case :mnesia.read(@table, :count, lock) do
      [{@table, :count, count}] -> count
      [] -> 0
    end
  end

  @impl true
  def close(_node, _context), do: :ok
end
