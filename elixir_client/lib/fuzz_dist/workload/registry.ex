defmodule FuzzDist.Workload.Registry do
  @moduledoc """
  A registry of processes over the cluster (`:global`, Horde, Syn, Swarm, one's own). Checked: a name has
  at most one live owner among nodes that are connected, and exactly one after healing.

      defmodule MyApp.RegistryTest do
        use FuzzDist.Test, workload: :registry

        @impl true
        def register(name, _connection) do
          case MyApp.Registry.start_worker(name) do
            {:ok, pid} -> {:ok, pid}
            {:error, {:already_started, _}} -> {:fail, :taken}
          end
        end

        @impl true
        def whereis(name, _connection), do: {:ok, MyApp.Registry.whereis(name)}
      end

  The registered process must live on when the logical process that registered it ends: start it
  under a supervisor, or unlinked.

  Operations: `{:register, {key, nil}}` completes with `{key, owner}`, or fails with `:taken`;
  `{:whereis, {key, nil}}` completes with `{key, owner}` or `{key, nil}`. An owner is `{node,
  incarnation}`: the short name of its node, and a text that no other process ever has (`owner/2`).
  """

  import FuzzDist.Workload, only: [split: 1, outcome: 2]

  @typedoc "Short name of the node, text of the process; or the pid, from which both are made."
  @type owner :: {node :: String.t(), incarnation :: String.t()} | pid()
  @type failure :: FuzzDist.Workload.Register.failure()

  @doc """
  Starts a process and registers it as `name`; gives its owner. `{:fail, :taken}` when somebody else
  has the name. Runs in the logical process.
  """
  @callback register(name :: term(), connection :: term()) :: {:ok, owner()} | failure()

  @doc "The owner of `name` as this node sees it, `nil` if there is none. Runs in the logical process."
  @callback whereis(name :: term(), connection :: term()) :: {:ok, owner() | nil} | failure()

  @doc false
  defmacro __using__(_options) do
    quote do
      require FuzzDist.Workload
      FuzzDist.Workload.client(FuzzDist.Workload.Registry)
    end
  end

  @doc false
  def invoke(module, {f, argument}, connection) when f in [:register, :whereis] do
    {key, _} = split(argument)

    module
    |> apply(f, [key, connection])
    |> outcome(&{key, owner(&1)})
  end

  @doc """
  The owner that a pid is: the short name of its node (what stands before the `@`), and its number,
  serial and creation. Every node makes the same of the same process, and no later process gets it.
  """
  @spec owner(owner() | nil | :undefined) :: {String.t(), String.t()} | nil
  def owner(nobody) when nobody in [nil, :undefined], do: nil

  def owner(pid) when is_pid(pid) do
    [short | _] = pid |> node() |> Atom.to_string() |> String.split("@")
    # NEW_PID_EXT: the name of the node, then three numbers of 32 bits.
    external = :erlang.term_to_binary(pid)
    <<number::32, serial::32, creation::32>> = binary_part(external, byte_size(external), -12)
    {short, "#{number}.#{serial}.#{creation}"}
  end

  def owner({node, incarnation}), do: {to_string(node), to_string(incarnation)}
end
