defmodule FuzzDist.Membership do
  @moduledoc """
  How a system under test is asked for its members and told to change them: what the faults `join`, `leave`,
  `forget` and `change` need. `nemesis.membership` of a spec names the module.

      defmodule MyApp.Membership do
        @behaviour FuzzDist.Membership

        @impl true
        def members(node), do: {:ok, :erpc.call(node, MyApp.Cluster, :members, [], 2_000)}

        @impl true
        def join(node, via), do: :erpc.call(node, MyApp.Cluster, :join, [via])

        @impl true
        def forget(node, via), do: :erpc.call(via, MyApp.Cluster, :remove, [node])
      end

  Ready ones: `FuzzDist.Membership.Erlang`, `FuzzDist.Membership.Mnesia`, `FuzzDist.Membership.RabbitMQ`.

  Callbacks run, each in a process of its own, in the node under test that acts (placement `:node`: `members`,
  `join` and `leave` in `node`, `forget` in `via`), or in the first client VM (placement `:client`); written with
  `:erpc` to the node that acts they work in both. The core asks every node for its members twice a second, merges
  what they say, and remembers every change until that shows what became of it; it chooses only what is
  possible by then, and what leaves a majority, unless a fault has `allow_unsafe`. So callbacks need not be exact:

  * a change may take as long as it needs, up to a minute; it does not hold up anything else;
  * what raises or exits counts as `{:unknown, reason}`;
  * a node that is removed should keep running, with its data: that is when interesting things happen. It is told
    to `join` again at the end of the fault, perhaps several times, and may be a member already by then.
  """

  @typedoc """
  What came of a change.

  * `:ok`: it took place, or will.
  * `{:error, reason}`: it certainly did not, and never will.
  * `{:unknown, reason}`: nobody knows.
  """
  @type result :: :ok | {:error, reason :: term()} | {:unknown, reason :: term()}

  @doc "Whom `node` takes for members, itself included if it does; `:unknown` while it cannot say."
  @callback members(node()) :: {:ok, [node()]} | :unknown

  @doc "`node`, which is no member, becomes one by asking the member `via`."
  @callback join(node(), via :: node()) :: result()

  @doc "The member `node` leaves in order; `via` is another member."
  @callback leave(node(), via :: node()) :: result()

  @doc "The member `via` removes `node`, which may be down and need not be asked."
  @callback forget(node(), via :: node()) :: result()

  @optional_callbacks leave: 2, forget: 2

  @doc "The changes that a module has callbacks for; asked by the core when a run begins."
  @spec changes(String.t()) :: {:ok, [atom()]} | {:error, String.t()}
  def changes(name) do
    module = module(name)

    with {:module, _} <- Code.ensure_loaded(module),
         true <- function_exported?(module, :members, 1) and function_exported?(module, :join, 2) do
      {:ok,
       for(change <- [:join, :leave, :forget], function_exported?(module, change, 2), do: change)}
    else
      {:error, _} -> {:error, "there is no module #{name} in the code path of #{node()}"}
      false -> {:error, "#{name} lacks members/1 or join/2 of FuzzDist.Membership"}
    end
  end

  @doc "Asks for the members in the opinion of `node`, in a form for the core."
  @spec members(String.t(), node()) :: {:ok, [node()]} | :unknown
  def members(name, node) do
    case module(name).members(node) do
      {:ok, members} when is_list(members) -> {:ok, members}
      _ -> :unknown
    end
  catch
    _kind, _reason -> :unknown
  end

  @doc "Makes a change; the reason as text for the core."
  @spec change(String.t(), :join | :leave | :forget, node(), node()) ::
          {:ok | :error | :unknown, String.t()}
  def change(name, change, node, via) do
    case apply(module(name), change, [node, via]) do
      :ok -> {:ok, ""}
      {kind, reason} when kind in [:error, :unknown] -> {kind, text(reason)}
      other -> {:unknown, "#{change} returned #{text(other)}"}
    end
  catch
    kind, reason -> {:unknown, Exception.format_banner(kind, reason)}
  end

  defp module("Elixir." <> _ = name), do: String.to_atom(name)
  defp module(<<first, _::binary>> = name) when first in ?A..?Z, do: Module.concat([name])
  defp module(name), do: String.to_atom(name)

  defp text(reason) when is_binary(reason), do: reason
  defp text(reason), do: inspect(reason, limit: 20, printable_limit: 300)
end
