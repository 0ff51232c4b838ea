defmodule FuzzDist.Membership.RabbitMQ do
  @moduledoc """
  Membership of a RabbitMQ cluster (3.10), as an operator changes it.

  | change | what `rabbitmqctl` and `rabbitmq-queues` would do |
  |---|---|
  | join | on the node `stop_app`, `force_reset`, `join_cluster`, `start_app`; then `add_member` of each quorum queue |
  | leave | `delete_member` of each quorum queue that would keep a majority, `stop_app` on the node, `forget_cluster_node` on another |
  | forget | `forget_cluster_node` on another, which refuses while the node runs |

  A node that left keeps running with its data, its broker stopped: started, it would find that the others no longer
  know it. Killed and started again before it joined, it does not boot, which RabbitMQ means so.
  """

  @behaviour FuzzDist.Membership

  @call_ms 5_000
  @change_ms 60_000

  @impl true
  def members(node) do
    case :erpc.call(node, :rabbit, :is_running, [], @call_ms) do
      true -> {:ok, :erpc.call(node, :rabbit_nodes, :all, [], @call_ms)}
      false -> :unknown
    end
  end

  @impl true
  def join(node, via) do
    :ok = call(node, :rabbit, :stop, [])
    :ok = call(node, :rabbit_mnesia, :force_reset, [])

    case call(node, :rabbit_mnesia, :join_cluster, [via, :disc]) do
      {:error, reason} ->
        {:unknown, reason}

      _joined ->
        :ok = call(node, :rabbit, :start, [])
        grow(node, via)
    end
  end

  defp grow(node, via) do
    results = for queue <- quorum_queues(via), do: member(:add_member, queue, node, via)
    Enum.find(results, :ok, &(&1 != :ok))
  end

  @impl true
  def leave(node, via) do
    for queue <- quorum_queues(via), do: member(:delete_member, queue, node, via)
    :ok = call(node, :rabbit, :stop, [])
    forget(node, via)
  end

  @impl true
  def forget(node, via) do
    case call(via, :rabbit_mnesia, :forget_cluster_node, [node, false]) do
      :ok -> :ok
      {:error, reason} -> {:unknown, reason}
    end
  end

  # {virtual host, name, members}; the record `amqqueue` stays opaque.
  defp quorum_queues(node) do
    for queue <- call(node, :rabbit_amqqueue, :list, []),
        call(node, :amqqueue, :get_type, [queue]) == :rabbit_quorum_queue do
      {:resource, vhost, :queue, name} = call(node, :amqqueue, :get_name, [queue])
      {vhost, name}
    end
  end

  defp member(:add_member, {vhost, name}, node, via) do
    result(call(via, :rabbit_quorum_queue, :add_member, [vhost, name, node, @call_ms]))
  end

  defp member(:delete_member, {vhost, name}, node, via) do
    result(call(via, :rabbit_quorum_queue, :delete_member, [vhost, name, node]))
  end

  defp result(:ok), do: :ok
  defp result({:error, reason}), do: {:unknown, reason}

  defp call(node, module, function, arguments),
    do: :erpc.call(node, module, function, arguments, @change_ms)
end
