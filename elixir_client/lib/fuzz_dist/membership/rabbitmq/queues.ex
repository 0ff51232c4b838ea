defmodule FuzzDist.Membership.RabbitMQ.Queues do
  @moduledoc """
  Membership of the quorum queues of RabbitMQ (3.10): which nodes hold a replica.

  The nodes stay in the cluster and their brokers up; `join` is `rabbitmq-queues add_member` and `leave`
  `rabbitmq-queues delete_member` for each quorum queue, `forget` the same for a node that may be down. Members are
  what the Ra servers on a node say, so a change that only the table of queues has heard of, or only Ra, is seen. A node
  that lost its replicas says nothing.
  """

  @behaviour FuzzDist.Membership

  @call_ms 2_000
  @change_ms 10_000

  # A queue that has just elected a leader refuses changes of its members until the first entry is committed.
  @for_now [:cluster_change_not_permitted, :node_not_running]
  @refused [:last_node, :not_found]
  @tries 20
  @try_every_ms 500

  @impl true
  def members(node) do
    views = for queue <- all(node), do: ra_members(queue.server, node)

    case views do
      [] -> :unknown
      [first | others] -> {:ok, Enum.filter(first, fn one -> Enum.all?(others, &(one in &1)) end)}
    end
  end

  # In its own opinion; raises, and so is unknown, where there is no server.
  defp ra_members(server, node) do
    local = {:local, {server, node}}
    {:ok, members, _leader} = call(node, :ra, :members, [local, @call_ms], 2 * @call_ms)
    for {_server, member} <- members, do: member
  end

  @impl true
  def join(node, via), do: grow(node, via)

  @impl true
  def leave(node, via), do: shrink(node, via)

  @impl true
  def forget(node, via), do: shrink(node, via)

  @typedoc "Its virtual host and name, its Ra server, and who holds a replica as the table of queues has it."
  @type queue :: %{
          vhost: String.t(),
          name: String.t(),
          server: atom(),
          nodes: [node()]
        }

  @doc "The quorum queues, in the opinion of `node`."
  @spec all(node()) :: [queue()]
  def all(node) do
    queues = call(node, :rabbit_amqqueue, :list, [])
    # The record belongs to the node, and so does the module that reads it.
    field = fn name ->
      call(node, :lists, :map, [Function.capture(:amqqueue, name, 1), queues])
    end

    all =
      Enum.zip([
        field.(:get_type),
        field.(:get_name),
        field.(:get_pid),
        field.(:get_type_state)
      ])

    for {:rabbit_quorum_queue, {:resource, vhost, :queue, name}, {server, _leader}, state} <-
          all do
      %{vhost: vhost, name: name, server: server, nodes: state.nodes}
    end
  end

  @doc "Gives `node` a replica of each quorum queue, by asking `via`."
  @spec grow(node(), node()) :: FuzzDist.Membership.result()
  def grow(node, via) do
    each(via, fn %{vhost: vhost, name: name, server: server} = queue ->
      # What Ra has and the table of queues has not is taken out first: see `shrink/2`.
      with :ok <- if(node in queue.nodes, do: :ok, else: take_out_of_ra(server, node, via)),
           do: call(via, :rabbit_quorum_queue, :add_member, [vhost, name, node, @call_ms])
    end)
  end

  @doc """
  Takes the replicas of `node` away, by asking `via`.

  RabbitMQ changes Ra first and its table of queues then. If it is killed in between, Ra has a replica of which the
  table does not know: RabbitMQ refuses to add it (`already_started`), and deletes nothing. So it is taken out of Ra.
  """
  @spec shrink(node(), node()) :: FuzzDist.Membership.result()
  def shrink(node, via) do
    each(via, fn %{vhost: vhost, name: name, server: server} ->
      with :ok <- call(via, :rabbit_quorum_queue, :delete_member, [vhost, name, node]),
           do: take_out_of_ra(server, node, via)
    end)
  end

  defp take_out_of_ra(server, node, via) do
    replica = {server, node}

    with {:ok, members, leader} <- call(via, :ra, :members, [{server, via}, @call_ms]),
         true <- replica in members,
         {:ok, _reply, _leader} <- call(via, :ra, :remove_member, [[leader | members], replica]) do
      _ = call(via, :ra, :force_delete_server, [:quorum_queues, replica])
      :ok
    else
      false -> :ok
      {:error, :not_member} -> :ok
      {:timeout, _server} -> {:error, :timeout}
      {:error, reason} -> {:error, reason}
    end
  end

  defp each(via, change) do
    results = for queue <- all(via), do: retry(fn -> change.(queue) end, @tries)

    case Enum.reject(results, &(&1 == :ok)) do
      [] -> :ok
      # Nothing was done to any queue.
      [first | _] = failed when length(failed) == length(results) -> worst(failed, first)
      [{_, reason} | _] -> {:unknown, reason}
    end
  end

  defp worst(failed, first), do: Enum.find(failed, first, &match?({:unknown, _}, &1))

  defp retry(change, left) do
    case change.() do
      :ok ->
        :ok

      {:error, reason} when left > 1 and reason in @for_now ->
        Process.sleep(@try_every_ms)
        retry(change, left - 1)

      {:error, reason} when reason in @for_now or reason in @refused ->
        {:error, reason}

      {:error, reason} ->
        {:unknown, reason}
    end
  end

  defp call(node, module, function, arguments, timeout_ms \\ @change_ms),
    do: :erpc.call(node, module, function, arguments, timeout_ms)
end
