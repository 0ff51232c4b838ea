defmodule FuzzDist.Membership.Erlang do
  @moduledoc """
  Membership of plain distributed Erlang: who is connected to whom, by name.

  A node leaves by disconnecting from every other; so that nothing connects it again behind its back (a message
  to a registered name is enough), it takes another cookie for each of them, which OTP keeps per peer. It goes on
  running and knows itself as its only member. It joins by taking the cookie of the cluster again and connecting.

  With `prevent_overlapping_partitions`, `global` makes the others let go of each other too when they hear of the
  lost connection at different times. They are connected again, as a cluster library would. There is no `forget`:
  distributed Erlang keeps no list to remove a node from.
  """

  @behaviour FuzzDist.Membership

  @other_cookie :fuzz_dist_not_a_member
  @call_ms 5_000
  @reunite_tries 25
  @reunite_every_ms 200

  @impl true
  def members(node) do
    {:ok, [node | :erpc.call(node, :erlang, :nodes, [], @call_ms)]}
  end

  @impl true
  def join(node, via) do
    accept(node, via)
    others = [via | :erpc.call(via, :erlang, :nodes, [], @call_ms)] -- [node]
    for other <- others, do: accept(node, other)
    reunite([node | others])
  end

  # Called where `node` is, which knows nobody else until it has the right cookie.
  defp accept(node, other) do
    cookie = :erpc.call(node, :erlang, :get_cookie, [], @call_ms)
    :erpc.call(node, :erlang, :set_cookie, [other, cookie], @call_ms)
    :erpc.call(node, :net_kernel, :connect_node, [other])
  end

  @impl true
  def leave(node, via) do
    others = [via | :erpc.call(node, :erlang, :nodes, [], @call_ms)] |> Enum.uniq()
    # From outside the cluster, or by one who stays: nobody in `node` reaches them afterwards.
    if node() == node,
      do: :erpc.cast(via, __MODULE__, :reunite, [others]),
      else: spawn(__MODULE__, :reunite, [others])

    for other <- others, do: refuse(node, other)
    :ok
  end

  defp refuse(node, other) do
    :erpc.call(node, :erlang, :set_cookie, [other, @other_cookie], @call_ms)
    :erpc.call(node, :erlang, :disconnect_node, [other], @call_ms)
  end

  @doc false
  # Connects these with each other until they stay so: `global` may act a moment after the loss.
  @spec reunite([node()]) :: FuzzDist.Membership.result()
  def reunite(nodes), do: reunite(nodes, @reunite_tries, 0)

  defp reunite(_nodes, _left, 5), do: :ok
  defp reunite(_nodes, 0, _whole), do: {:unknown, "not every node let every other in"}

  defp reunite(nodes, left, whole) do
    Process.sleep(@reunite_every_ms)

    connected =
      for one <- nodes, other <- nodes, one != other do
        connect(one, other)
      end

    reunite(nodes, left - 1, if(Enum.all?(connected), do: whole + 1, else: 0))
  end

  defp connect(one, other) do
    other in :erpc.call(one, :erlang, :nodes, [], @call_ms) or
      (:erpc.call(one, :net_kernel, :connect_node, [other], @call_ms) and false)
  catch
    _kind, _reason -> false
  end
end
