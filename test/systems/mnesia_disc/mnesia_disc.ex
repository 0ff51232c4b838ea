defmodule MnesiaDisc do
  @moduledoc """
  A set in OTP's own Mnesia, on disc: one table of `disc_copies` on every node, every element added by a
  `sync_transaction`.

  What to expect of it: a transaction is acknowledged when every replica that is up has committed it, which means:
  has handed it to its log. The log keeps it in memory for up to two seconds before it is even written, and nobody
  syncs it. So whoever wants to find an element again after all nodes lost their power at once has to call
  `mnesia:sync_log/0` on every replica, which is what the option `durable = "sync_log"` does (the default). With
  `durable = "sync_transaction"` an element is acknowledged without, as the name of the function suggests that one may.

  A node that comes back finds its schema on disc, knows the others by it, and loads the table from them if they are up.
  What Mnesia says to files that it cannot use is the error of `setup`, which the history keeps (`worker-refused`).
  """

  use FuzzDist.Workload.Set

  alias FuzzDist.{Context, Outcome}

  @table :fuzz_dist_set
  @load_ms 20_000
  @sync_ms 2_000

  @impl FuzzDist.Client
  def setup(node, context) do
    case :mnesia.start() do
      :ok -> if known?(), do: loaded(), else: create(node, context)
      {:error, reason} -> {:error, reason}
    end
  end

  # A damaged schema ends Mnesia while it starts.
  defp known? do
    @table in :mnesia.system_info(:tables)
  catch
    :exit, _ -> true
  end

  defp loaded do
    case :mnesia.wait_for_tables([@table], @load_ms) do
      :ok -> :ok
      {:timeout, tables} -> {:error, {:not_loaded, tables}}
      {:error, reason} -> {:error, reason}
    end
  end

  defp create(node, context) do
    others = Context.node_names(context) -- [node]

    # Those that run Mnesia already: none for the first node of a test.
    result =
      case :mnesia.change_config(:extra_db_nodes, others) do
        {:ok, []} -> to_disc(node, fn -> :mnesia.create_table(@table, disc_copies: [node]) end)
        {:ok, _} -> to_disc(node, fn -> :mnesia.add_table_copy(@table, node, :disc_copies) end)
        {:error, reason} -> {:aborted, reason}
      end

    case result do
      {:atomic, :ok} -> keep_files()
      {:aborted, reason} -> {:error, reason}
    end
  end

  defp to_disc(node, table) do
    with {:atomic, :ok} <- :mnesia.change_table_copy_type(:schema, node, :disc_copies),
         do: table.()
  end

  # What a file system would have written by itself long before the test: else a power failure in the first seconds
  # would take the schema as well.
  defp keep_files do
    nodes = :mnesia.system_info(:running_db_nodes)
    answers = :erpc.multicall(nodes, __MODULE__, :sync_files, [])
    Enum.find_value(answers, :ok, &(&1 != {:ok, :ok} && {:error, &1}))
  end

  @doc "Syncs every file of this node's Mnesia."
  @spec sync_files() :: :ok
  def sync_files do
    :dumped = :mnesia.dump_log()
    directory = :mnesia.system_info(:directory)
    for path <- Path.wildcard(Path.join(directory, "*")), do: :ok = sync_file(path)
    :ok
  end

  defp sync_file(path) do
    {:ok, file} = :file.open(path, [:raw, :read, :append])
    :ok = :file.sync(file)
    :file.close(file)
  end

  @impl FuzzDist.Client
  def ready(_node, context) do
    :mnesia.wait_for_tables([@table], 500) == :ok and
      length(:mnesia.table_info(@table, :disc_copies)) == length(context.nodes)
  end

  @impl FuzzDist.Client
  def open(_node, context), do: {:ok, Map.get(context.options, :durable, "sync_log")}

  @impl true
  def add(element, durable) do
    case :mnesia.sync_transaction(fn -> :mnesia.write({@table, element, true}) end) do
      {:atomic, :ok} -> if durable == "sync_log", do: sync_logs(), else: :ok
      aborted -> Outcome.classify(aborted, false)
    end
  end

  # On the replicas that took part. One that goes down meanwhile may have synced or not.
  defp sync_logs do
    nodes = :mnesia.system_info(:running_db_nodes)
    answers = :erpc.multicall(nodes, :mnesia, :sync_log, [], @sync_ms)

    case Enum.reject(answers, &(&1 == {:ok, :ok})) do
      [] -> :ok
      [unsynced | _] -> {:info, unsynced}
    end
  end

  @impl true
  def read(_connection) do
    case :mnesia.transaction(fn -> :mnesia.all_keys(@table) end) do
      {:atomic, elements} -> {:ok, elements}
      aborted -> Outcome.classify(aborted, true)
    end
  end
end
