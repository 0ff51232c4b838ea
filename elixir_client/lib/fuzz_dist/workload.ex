defmodule FuzzDist.Workload do
  @moduledoc """
  What the ready workloads have in common.

  `use FuzzDist.Workload.Register` (or `Set`, `ORSet`, `PNCounter`, `Registry`) makes a module a
  `FuzzDist.Client` whose `invoke/3` calls one small function for each kind of operation. Those functions
  get as their last argument what `open/2` returned, called the *connection*; unless the module defines
  `open/2` and `close/2` itself, it is the `FuzzDist.Context` of the logical process, so a system that is
  reached by plain calls needs neither.

  | workload | module | functions | checked |
  |---|---|---|---|
  | `register` | `FuzzDist.Workload.Register` | `read/2`, `write/3`, `cas/4` | each key is a linearizable register |
  | `set` | `FuzzDist.Workload.Set` | `add/2`, `read/1` | what was added is read, and stays |
  | `or_set` | `FuzzDist.Workload.ORSet` | `add/2`, `remove/2`, `read/1` | what was added is there until it is removed, on all nodes |
  | `pn_counter` | `FuzzDist.Workload.PNCounter` | `increment/3`, `decrement/3`, `read/2` | each read is a possible value, final reads agree |
  | `registry` | `FuzzDist.Workload.Registry` | `register/2`, `whereis/2` | at most one live owner among connected nodes, exactly one after healing |

  Each of these functions may also return what every `invoke/3` may: `{:fail, reason}` (it certainly did
  not take place) and `{:info, reason}` (nobody knows), and what it raises is classified by
  `FuzzDist.Outcome`.

  A module that needs more (state that changes, operations of its own) defines `invoke/3` and calls
  `super` for the rest.
  """

  @modules %{
    register: FuzzDist.Workload.Register,
    set: FuzzDist.Workload.Set,
    or_set: FuzzDist.Workload.ORSet,
    pn_counter: FuzzDist.Workload.PNCounter,
    registry: FuzzDist.Workload.Registry
  }

  @doc "The modules of the ready workloads by name."
  @spec modules() :: %{atom() => module()}
  def modules, do: @modules

  @doc false
  defmacro client(workload) do
    quote do
      use FuzzDist.Client
      @behaviour unquote(workload)

      @impl FuzzDist.Client
      def invoke(operation, connection, _context),
        do: unquote(workload).invoke(__MODULE__, operation, connection)

      defoverridable invoke: 3
    end
  end

  # The key of an independent operation and its argument; nil is the key of a workload without keys.
  @doc false
  def split({key, argument}), do: {key, argument}
  def split(argument), do: {nil, argument}

  @doc false
  def join({_key, _argument}, key, value), do: {key, value}
  def join(_argument, _key, value), do: value

  # What a function of a workload returned, as an outcome; `done` makes the value of a success.
  @doc false
  def outcome(:ok, done), do: {:ok, done.(nil)}
  def outcome({:ok, value}, done), do: {:ok, done.(value)}
  def outcome({type, _reason} = outcome, _done) when type in [:fail, :info], do: outcome
  def outcome(other, _done), do: {:info, {:bad_return, other}}
end
