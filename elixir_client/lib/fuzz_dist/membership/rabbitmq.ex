defmodule FuzzDist.Membership.RabbitMQ do
  @moduledoc """
  Membership of a RabbitMQ cluster (3.10) with quorum queues, as an operator changes it.

  | change | what `rabbitmqctl` and `rabbitmq-queues` would do |
  |---|---|
  | join | on the node `stop_app`; on a member `delete_member` of what is left of it; on the node `force_reset`, `join_cluster`, `start_app`; then `add_member` of each quorum queue |
  | leave | `delete_member` of each quorum queue, `stop_app` on the node, `forget_cluster_node` on another |
  | forget | `stop_app` on the node if it answers; on another `delete_member` of each quorum queue, `forget_cluster_node` |

  A member is a node of the cluster that holds a replica of every quorum queue: a join of which only the cluster has
  heard is no join yet, and is completed by the next one. So this is for clusters whose quorum queues have a replica
  on every node.

  A node that is wiped must be a member of no queue any more: with an empty log it would vote for leaders that lack
  what the others had confirmed. That is why `join` begins on the others, and gives up if they cannot.

  A node that left or was forgotten keeps running with its data, its broker stopped: started, it would find that the
  others no longer know it. With RabbitMQ's own start script its VM ends then, whenever it is started again; where
  nodes are also killed, let the broker be started in a VM that stays, as
  `test/systems/rabbitmq/membership.toml` does.
  """

  @behaviour FuzzDist.Membership

  alias FuzzDist.Membership.RabbitMQ.Queues

  @call_ms 5_000
  @change_ms 50_000

  @impl true
  def members(node) do
    if running?(node) do
      replicas = for queue <- Queues.all(node), do: queue.nodes
      cluster = call(node, :rabbit_nodes, :all, [], @call_ms)
      {:ok, Enum.filter(cluster, fn one -> Enum.all?(replicas, &(one in &1)) end)}
    else
      :unknown
    end
  end

  @impl true
  def join(node, via) do
    cond do
      node not in call(via, :rabbit_nodes, :all, []) -> join_anew(node, via)
      running?(node) -> Queues.grow(node, via)
      true -> start_and_grow(node, via)
    end
  end

  defp start_and_grow(node, via) do
    log_on(node)
    with :ok <- start(node), do: Queues.grow(node, via)
  end

  defp join_anew(node, via) do
    log_on(node)
    stop(node, @change_ms)

    with :ok <- Queues.shrink(node, via) |> certain(),
         :ok <- call(node, :rabbit_mnesia, :force_reset, []),
         :ok <- joined(call(node, :rabbit_mnesia, :join_cluster, [via, :disc])),
         :ok <- start(node) do
      Queues.grow(node, via)
    end
  end

  # Nothing was done to the node by then, but to stop its broker.
  defp certain({:unknown, reason}), do: {:error, reason}
  defp certain(result), do: result

  defp joined(:ok), do: :ok
  defp joined({:ok, :already_member}), do: :ok
  defp joined({:error, reason}), do: {:error, reason}

  @impl true
  def leave(node, via) do
    log_on(node)

    with :ok <- Queues.shrink(node, via) do
      stop(node, @change_ms)
      forget_cluster_node(node, via)
    end
  end

  @impl true
  def forget(node, via) do
    # One that is down, or does not answer, is removed as well.
    try do
      log_on(node)
      stop(node, @call_ms)
    catch
      _kind, _reason -> :ok
    end

    with :ok <- Queues.shrink(node, via), do: forget_cluster_node(node, via)
  end

  # What it refuses it throws.
  defp forget_cluster_node(node, via) do
    log_on(via)
    call(via, :rabbit_mnesia, :forget_cluster_node, [node, false])
  catch
    :throw, {:error, reason} -> {:unknown, reason}
  end

  # What runs there on our behalf logs there: a callback has a process of its own.
  defp log_on(node),
    do: Process.group_leader(self(), call(node, :erlang, :whereis, [:user], @call_ms))

  defp running?(node), do: call(node, :rabbit, :is_running, [], @call_ms)

  defp stop(node, timeout_ms), do: :ok = call(node, :rabbit, :stop, [], timeout_ms)

  defp start(node) do
    call(node, :rabbit, :start, [])
  catch
    :throw, reason -> {:unknown, reason}
  end

  defp call(node, module, function, arguments, timeout_ms \\ @change_ms),
    do: :erpc.call(node, module, function, arguments, timeout_ms)
end
