defmodule FuzzDist.Membership.Mnesia do
  @moduledoc """
  Membership of a Mnesia cluster: the nodes of its schema, with a copy of every table on each.

  `join` connects with `change_config(:extra_db_nodes, …)` and copies every table that `via` has
  (`add_table_copy`), of the same kind of storage. `leave` drops the copies (`del_table_copy`), stops Mnesia on
  the node, takes the node out of the schema, and starts Mnesia on it again, alone: with a schema on disc it
  starts with what it knew. `forget` takes out a node on which Mnesia does not run; Mnesia refuses others.
  """

  @behaviour FuzzDist.Membership

  @call_ms 5_000
  @change_ms 30_000
  @storage [:ram_copies, :disc_copies, :disc_only_copies]

  @impl true
  def members(node) do
    case :erpc.call(node, :mnesia, :system_info, [:is_running], @call_ms) do
      :yes -> {:ok, :erpc.call(node, :mnesia, :system_info, [:db_nodes], @call_ms)}
      _ -> :unknown
    end
  end

  @impl true
  def join(node, via) do
    :ok = call(node, :start, [])

    case call(node, :change_config, [:extra_db_nodes, [via]]) do
      {:ok, [_ | _]} -> copy_all(node, via)
      {:ok, []} -> {:unknown, "#{via} did not answer"}
      {:error, reason} -> {:unknown, reason}
    end
  end

  defp copy_all(node, via) do
    results = for table <- tables(via), do: copy(node, via, table)
    Enum.find(results, :ok, &(&1 != :ok))
  end

  defp copy(node, via, table) do
    storage = call(via, :table_info, [table, :storage_type])
    kind = if storage in @storage, do: storage, else: :ram_copies

    case call(via, :add_table_copy, [table, node, kind]) do
      {:atomic, :ok} -> :ok
      {:aborted, {:already_exists, ^table, ^node}} -> :ok
      {:aborted, reason} -> {:unknown, reason}
    end
  end

  @impl true
  def leave(node, via) do
    for table <- tables(via), do: call(via, :del_table_copy, [table, node])
    :stopped = call(node, :stop, [])
    left = forget(node, via)
    :ok = call(node, :start, [])
    left
  end

  @impl true
  def forget(node, via) do
    case call(via, :del_table_copy, [:schema, node]) do
      {:atomic, :ok} -> :ok
      {:aborted, {:active, _, _} = reason} -> {:error, reason}
      {:aborted, {:no_exists, _}} -> :ok
      {:aborted, reason} -> {:unknown, reason}
    end
  end

  defp tables(node), do: call(node, :system_info, [:tables]) -- [:schema]

  defp call(node, function, arguments),
    do: :erpc.call(node, :mnesia, function, arguments, @change_ms)
end
