defmodule FuzzDist.Client do
  @moduledoc """
  What a test does to the system under test: the callbacks that a user writes.

      defmodule MyApp.CacheClient do
        use FuzzDist.Client

        @impl true
        def open(_node, context), do: {:ok, context.options.table}

        @impl true
        def invoke({:read, key}, table, _context), do: {:ok, MyApp.Cache.get(table, key)}
        def invoke({:write, {key, value}}, table, _context) do
          :ok = MyApp.Cache.put(table, key, value)
          {:ok, {key, value}}
        end
      end

  `use FuzzDist.Client` sets the behaviour and defines `c:open/2`, which returns the context as the
  state, and `c:close/2`, which does nothing. Both can be overridden. `@behaviour FuzzDist.Client`
  works too; the module then defines both.

  For common shapes of operations there is less to write: see `FuzzDist.Workload.Register`,
  `FuzzDist.Workload.Set`, `FuzzDist.Workload.PNCounter` and `FuzzDist.Workload.Registry`.

  ## Where callbacks run

  With placement `:node` (the default), in the node under test that the operation is about, as if a
  user were connected to the nearest node; with placement `:client`, in a VM of its own that no fault
  touches, and `node` tells which node to talk to.

  | callback | arguments | process | when |
  |---|---|---|---|
  | `c:setup/2` | node, context | a process of its own for each call | for each node before the first operation, in the order of the nodes; again for a node that was started again |
  | `c:ready/2` | node, context | a process of its own | after `setup`, again and again until it says yes or `ready_timeout_ms` has passed |
  | `c:open/2` | node, context | the logical process | before the first operation of a logical process, and again after one crashed |
  | `c:invoke/3` | operation, state, context | the logical process | for each operation; one at a time |
  | `c:close/2` | state, context | the logical process | at its orderly end; not when it was killed |
  | `c:primary/2` | node, context | a process of its own | when a fault that targets primaries starts |
  | `c:teardown/2` | node, context | a process of its own | once for each node that is up, at the end |

  A logical process is one BEAM process that performs its operations one after the other; links,
  monitors, its dictionary and its mailbox are the client's to use. When something linked to it
  crashes, it dies with it, the operation under way is classified, and the next operation opens anew.

  ## Outcomes

  `ok` says that the operation took place, `fail` that it **certainly did not and never will**, and
  `info` that nobody knows. A wrong `fail` makes the checkers accuse a correct system, a wrong `info`
  only makes them weaker: in doubt return `info`, or do not catch the error at all. Whatever is raised,
  thrown or exits out of `invoke` is classified by `FuzzDist.Outcome.classify/2`. An operation that is
  not answered within `op_timeout_ms` is `info`; its process is killed and replaced by a new one.
  """

  alias FuzzDist.Context

  @typedoc "Whatever `open` returned."
  @type state :: term()

  @typedoc "The function (an atom that the generator chose) and its argument."
  @type operation :: {f :: atom(), value :: term()}

  @typedoc """
  How an operation ended. With a third element, it is the state from now on.

  * `{:ok, value}`: it took place; `value` is what the checkers see (for a read: what was read).
  * `{:fail, reason}`: it certainly did not take place.
  * `{:info, reason}`: it may have.

  Anything else counts as `{:info, {:bad_return, …}}`.
  """
  @type outcome ::
          {:ok, value :: term()}
          | {:ok, value :: term(), state()}
          | {:fail, reason :: term()}
          | {:fail, reason :: term(), state()}
          | {:info, reason :: term()}
          | {:info, reason :: term(), state()}

  @doc """
  Connects a logical process to `node` (full name).

  An `{:error, reason}`, like anything raised, makes the operation `fail` with `{:no_client, reason}`
  (it certainly did not happen), and the next operation tries again.
  """
  @callback open(node(), Context.t()) :: {:ok, state()} | {:error, reason :: term()}

  @doc "Performs one operation; see `t:outcome/0`."
  @callback invoke(operation(), state(), Context.t()) :: outcome()

  @doc "Releases what `open` took; has five seconds. What it returns does not matter."
  @callback close(state(), Context.t()) :: term()

  @doc """
  Prepares one node: creates tables, joins a cluster. Nodes are connected to each other before.

  `:ok`, or anything but `:error` and `{:error, reason}`, is success.
  """
  @callback setup(node(), Context.t()) :: :ok | {:error, reason :: term()}

  @doc "Undoes `setup`. The run's processes and directories are removed without it."
  @callback teardown(node(), Context.t()) :: term()

  @doc """
  Whether the node can serve operations now.

  `true` and `:ok` say yes; `false`, `{:error, reason}` and an exit (a server that is not up yet) say
  not yet. Anything raised ends the run with its message.
  """
  @callback ready(node(), Context.t()) :: boolean() | :ok | {:error, reason :: term()}

  @doc """
  Who is the primary (leader, coordinator), in the opinion of `node`.

  A node name, a list of them, `true` for `node` itself, `nil`, `false` or `[]` for nobody.
  """
  @callback primary(node(), Context.t()) :: node() | [node()] | boolean() | nil

  @doc """
  Whether an operation only reads, so that losing its answer means that it did not happen: a read
  that timed out is a `fail` instead of an `info`. Default: `:read` and `:whereis` do.
  """
  @callback read_only?(f :: atom()) :: boolean()

  @doc false
  defmacro __using__(_options) do
    quote do
      @behaviour FuzzDist.Client

      @impl FuzzDist.Client
      def open(_node, context), do: {:ok, context}

      @impl FuzzDist.Client
      def close(_state, _context), do: :ok

      defoverridable open: 2, close: 2
    end
  end

  @optional_callbacks setup: 2, teardown: 2, ready: 2, primary: 2, read_only?: 1

  @mandatory [open: 2, invoke: 3, close: 2]

  @doc """
  The module that a spec names: `"MyApp.Client"`, `"Elixir.MyApp.Client"`, `"my_erlang_client"`, or
  the atom of any of them.
  """
  @spec module(atom() | String.t()) :: module()
  def module(name) do
    case to_string(name) do
      "Elixir." <> _ = full -> String.to_atom(full)
      <<first, _::binary>> = alias when first in ?A..?Z -> String.to_atom("Elixir." <> alias)
      erlang -> String.to_atom(erlang)
    end
  end

  @doc """
  Checks that `module` exists and has the mandatory callbacks; the error is a sentence for people.
  """
  @spec validate(module()) :: :ok | {:error, String.t()}
  def validate(module) do
    case Code.ensure_loaded(module) do
      {:module, _} -> validate_callbacks(module)
      {:error, reason} -> {:error, no_module(module, reason)}
    end
  end

  defp no_module(module, :nofile) do
    similar = FuzzDist.Suggest.hint(inspect(module), available_modules())
    "there is no module #{inspect(module)} in the code path of #{node()}#{similar}"
  end

  defp no_module(module, reason) do
    "the module #{inspect(module)} cannot be loaded in #{node()}: #{inspect(reason)}"
  end

  defp available_modules do
    for {name, _, _} <- :code.all_available() do
      name |> List.to_string() |> String.replace_prefix("Elixir.", "")
    end
  end

  defp validate_callbacks(module) do
    case missing(module, @mandatory) ++ missing_of_workload(module) do
      [] -> :ok
      lacks -> {:error, "#{inspect(module)} #{Enum.join(lacks, "; ")}"}
    end
  end

  defp missing(module, callbacks, behaviour \\ __MODULE__) do
    for {name, arity} <- callbacks,
        not function_exported?(module, name, arity),
        do: lacks(module, {name, arity}, behaviour)
  end

  # A module names the behaviours it has; those of the ready workloads have callbacks of their own.
  # An optional callback of another arity is a mistake too: it would never be called.
  defp missing_of_workload(module) do
    names = module |> exported() |> Keyword.keys()

    behaviours =
      module.module_info(:attributes) |> Keyword.get_values(:behaviour) |> Enum.concat()

    for behaviour <- behaviours,
        behaviour in Map.values(FuzzDist.Workload.modules()),
        optional = behaviour.behaviour_info(:optional_callbacks),
        wanted =
          Enum.reject(behaviour.behaviour_info(:callbacks), fn {name, _} = callback ->
            callback in optional and name not in names
          end),
        lack <- missing(module, wanted, behaviour),
        do: lack
  end

  defp lacks(module, {name, arity}, behaviour) do
    exported = exported(module)

    case Keyword.get_values(exported, name) do
      [] ->
        names = exported |> Keyword.keys() |> Enum.reject(&String.starts_with?("#{&1}", "_"))

        "lacks the callback #{name}/#{arity} of #{inspect(behaviour)}" <>
          FuzzDist.Suggest.hint(name, names)

      arities ->
        "has #{Enum.map_join(arities, ", ", &"#{name}/#{&1}")}, but the callback of " <>
          "#{inspect(behaviour)} is #{name}/#{arity}"
    end
  end

  defp exported(module) do
    if function_exported?(module, :__info__, 1),
      do: module.__info__(:functions),
      else: module.module_info(:exports)
  end
end
