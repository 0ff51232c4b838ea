defmodule Specimen do
  @moduledoc """
  A node with one of everything that a fault can be about: a supervision tree (`supervised.erl`), a log that syncs
  before it answers (`SyncedLog`) and, if its options ask for them, a peer with whom it never stops talking
  (`gossip`) and a table in Mnesia (`mnesia`).

  `append` writes to the log; `held` says which processes of the node are still at work for a fault.
  """

  @behaviour FuzzDist.Client

  alias FuzzDist.Context

  @gossip_every_ms 20
  @ear :specimen_ear
  @filler :binary.copy(<<0>>, 200)

  @impl true
  def setup(node, context) do
    if Process.whereis(:supervised_sup) == nil, do: :supervised.start()
    # A file that nobody needs: a log with flipped bits may be none any more.
    File.exists?("idle.dat") || File.write!("idle.dat", :binary.copy(<<0>>, 10_000))
    if context.options.gossip, do: gossip(Context.node_names(context) -- [node])

    with :ok <- SyncedLog.setup(node, context) do
      if context.options.mnesia, do: MnesiaRegister.setup(node, context), else: :ok
    end
  end

  defp gossip(peers) do
    if Process.whereis(@ear) == nil do
      ear = spawn(&listen/0)
      Process.register(ear, @ear)
      # One for each peer: who talks to one that does not listen is suspended.
      for peer <- peers, do: spawn(fn -> talk(peer) end)
    end
  end

  defp listen do
    receive do
      _ -> listen()
    end
  end

  defp talk(peer) do
    send({@ear, peer}, {:gossip, @filler})
    Process.sleep(@gossip_every_ms)
    talk(peer)
  end

  @impl true
  def open(node, _context), do: {:ok, node}

  @impl true
  def invoke({:append, _} = operation, node, context), do: SyncedLog.invoke(operation, node, context)
  def invoke({:held, _}, _node, _context), do: {:ok, for(pid <- Process.list(), held?(pid), do: inspect(pid))}

  # Leases, and what they link to themselves, run code of this module.
  defp held?(pid) do
    case Process.info(pid, :current_stacktrace) do
      {_, frames} -> Enum.any?(frames, &match?({:fuzz_dist_vm_faults, _, _, _}, &1))
      nil -> false
    end
  end

  @impl true
  def close(_node, _context), do: :ok
end
