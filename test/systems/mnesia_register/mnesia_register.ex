defmodule MnesiaRegister do
  @moduledoc """
  Registers in OTP's own Mnesia: one table of `ram_copies` replicated on every node, every operation a
  transaction.

  What to expect of it: a transaction that writes locks and commits on all replicas it knows to be up,
  and one that reads takes a lock on its own replica, which conflicts with a write under way. So while no
  node takes another for dead, the register is linearizable: a link that stalls makes operations wait.
  Once a partition outlives the tick, each side drops the other from its replicas and goes on alone
  (Mnesia's default, `majority` false), both accept writes, and after the heal Mnesia reports
  `inconsistent_database` and leaves the two sides apart.

  The schema is in memory, so that a node that starts again begins empty and copies from the others.
  """

  use FuzzDist.Workload.Register

  alias FuzzDist.{Context, Outcome}

  @table :fuzz_dist_register

  @impl FuzzDist.Client
  def setup(node, context) do
    :ok = :mnesia.start()
    others = Context.node_names(context) -- [node]

    # Those that run Mnesia already: none for the first node of a test, all for one started again.
    case :mnesia.change_config(:extra_db_nodes, others) do
      {:ok, []} -> created(:mnesia.create_table(@table, ram_copies: [node]))
      {:ok, _joined} -> copied(:mnesia.add_table_copy(@table, node, :ram_copies))
      {:error, reason} -> {:error, reason}
    end
  end

  defp created({:atomic, :ok}), do: :ok
  defp created({:aborted, {:already_exists, @table}}), do: :ok
  defp created({:aborted, reason}), do: {:error, reason}

  defp copied({:atomic, :ok}), do: :ok
  defp copied({:aborted, {:already_exists, @table, _node}}), do: :ok
  defp copied({:aborted, reason}), do: {:error, reason}

  @impl FuzzDist.Client
  def ready(node, _context) do
    :mnesia.wait_for_tables([@table], 500) == :ok and
      node in :mnesia.table_info(@table, :ram_copies)
  end

  @impl true
  def read(key, _connection) do
    case :mnesia.transaction(fn -> value(key, :read) end) do
      {:atomic, value} -> {:ok, value}
      aborted -> Outcome.classify(aborted, true)
    end
  end

  @impl true
  def write(key, value, _connection) do
    case :mnesia.transaction(fn -> :mnesia.write({@table, key, value}) end) do
      {:atomic, :ok} -> :ok
      aborted -> Outcome.classify(aborted, false)
    end
  end

  @impl true
  def cas(key, from, to, _connection) do
    exchange = fn ->
      value(key, :write) == from and :mnesia.write({@table, key, to}) == :ok
    end

    case :mnesia.transaction(exchange) do
      {:atomic, exchanged} -> exchanged
      aborted -> Outcome.classify(aborted, false)
    end
  end

  defp value(key, lock) do
    case :mnesia.read(@table, key, lock) do
      [{@table, ^key, value}] -> value
      [] -> nil
    end
  end
end
