defmodule FuzzDist.Test do
  @moduledoc """
  One module that is a whole test: what is done to the system, and under which faults.

      defmodule MyApp.RegisterTest do
        use FuzzDist.Test,
          workload: :register,
          time_limit_s: 30,
          cluster: [net_ticktime_s: 4],
          nemesis: [
            interval_s: 3,
            faults: [
              [kind: :hold, targets: [:halves, :bridge], zones: [:certainly_below, :certainly_above]],
              [kind: :kill, targets: [:one], duration_ms: 2_000]
            ]
          ]

        @impl true
        def read(key, _), do: {:ok, MyApp.KV.get(key)}

        @impl true
        def write(key, value, _), do: MyApp.KV.put(key, value)

        @impl true
        def cas(key, from, to, _), do: MyApp.KV.compare_and_set(key, from, to)
      end

  `mix fuzz_dist.run` finds it, starts a cluster of the project's own application, and runs it. With
  `workload:` the module gets the callbacks of that workload (`FuzzDist.Workload`); with a `generator:`
  of its own it implements `FuzzDist.Client`. The optional callbacks of `FuzzDist.Client` (`setup`,
  `ready`, `primary`, `teardown`) can be added to either.

  ## Options

  | option | default | meaning |
  |---|---|---|
  | `workload` | – | `:register`, `:set`, `:or_set`, `:pn_counter`, `:registry` |
  | `workload_options` | `[]` | options of the workload: how many keys and so on (`doc/generators.md`) |
  | `generator`, `final_generator` | the workload's | operations of one's own, see `FuzzDist.Generator` |
  | `checkers` | the workload's | `[:stats, [name: :linearizable, options: [model: "cas-register"]]]` |
  | `name` | of the module | names the test and its folder in the store |
  | `nodes` | `3` | how many nodes, or their short names |
  | `concurrency` | `"2n"` | logical processes: a number, or `"2n"` for two for each node |
  | `time_limit_s` | `20` | length of the main phase |
  | `op_timeout_ms` | `5000` | an operation without an answer for so long is `info` |
  | `rate` | unlimited | operations a second in total |
  | `warm_up_s` | `1` | time without faults at the start |
  | `recovery_s` | `10` | how long the cluster may take to come together after the last heal; final operations wait all of it |
  | `recovery_check` | `true` | ask everything that worked again after the last heal; what never answers makes the run invalid |
  | `placement` | `:node` | `:node`: operations run in the nodes; `:client`: in client VMs |
  | `seed` | drawn | where every random draw comes from |
  | `client_options` | `[]` | given to callbacks as `context.options` |
  | `client` | `[]` | `module` (this one), `count`, `command`, `code_paths` of client VMs |
  | `cluster` | `[]` | how nodes are started, see below |
  | `nemesis` | a mix | which faults, see below; `:none` for no faults |
  | `roles` | `[]` | what nodes are for, `[storage: ["n3"]]`: faults can be kept to a role |
  | `store` | `"store"` | where runs are stored |

  `cluster:` takes `net_ticktime_s` (60), `net_tickintensity` (4), `prevent_overlapping_partitions`
  (true), `connect` (true: nodes are connected before the test), `restart_crashed` (false: whether nodes that end by
  themselves are started again), `carrier` (nodes with the port driver), `ready_timeout_ms` (30000), `ports` (names
  of TCP ports that faults can touch, `{port:NAME}` in `env`), `network` (`"namespaces"`: nodes in network namespaces, as
  root, for faults of packets), `env`, `cookie`, and `command`, `naming`,
  `code_paths`, which `mix fuzz_dist.run` sets so that nodes run the project.

  Without `nemesis:`, or with neither `packages` nor `faults` in it, a rotating mix of the packages that need nothing is
  injected: `:partition`, `:packet`, `:kill`, `:pause`, `:vm`. It takes `packages` (ready sets of faults, mixed in eras:
  `[:kill, {:partition, :storage}]`, `:all`, or `:none`), `faults`, `interval_s` (mean time between faults, 5), `era_s`
  (mean length of an era, 10), `overlap` (false), `boundaries` (durations in ms at which your system changes its mind,
  by name, or `:mined` from its code), `membership` (the module that changes members), `capture` (false), `schedule` (a
  file). A fault is a kind alone or a keyword list:

  | key | meaning |
  |---|---|
  | `kind` | `:hold`, `:delay` (`latency_ms`, `jitter_ms`), `:throttle` (`bytes_per_s`), `:fin`, `:rst`, `:half_open`, `:ticks_only`, `:no_ticks`, `:refuse_connect`, `:kill`, `:pause`, `:restart`, and all others of `doc/spec.md` with their parameters |
  | `plane` | which way to do it: `:carrier` |
  | `targets` | of `:one`, `:minority`, `:majority`, `:halves`, `:ring`, `:bridge`, `:primaries`, `:all`, `{:named, ["n1"]}`, `{:links, [{"n1", "n2"}]}` |
  | `one_way` | only one direction of each link |
  | `boundary`, `zones` | what the duration is drawn around (`:net_tick`), and where: `:certainly_below`, `:inside`, `:certainly_above` |
  | `duration_ms` | a fixed duration instead |
  | `port` | a name of `cluster: [ports: …]` instead of the distribution |
  | `scope` | a role, or two for the links between them: `{:api, :storage}` |
  | `process` | faults of processes: `{:registered, MyApp.Server}`, `{:global, :leader}`, `{:child, [MyApp.Supervisor, :id]}`, `{:resolver, [:ra_leader, :my_server]}` … |
  | `pattern` | `:flap` or `:overlap`: several faults at once |
  | `after` | what it waits for: `[event: :nodedown, of: "n2", delay_ms: 100]`, `[event: :elected, process: {:global, :leader}]`, `[event: :telemetry, of: [:my_app, :election, :won]]` |
  | `optional` | whether the run goes on without it where it cannot be had |
  | `weight` | how often it is drawn against the others |

  All keys and their meaning in full: `doc/spec.md`.
  """

  @doc "The spec of the test; made from the options, may be overridden (call `super()` and change it)."
  @callback spec() :: FuzzDist.Spec.t()

  @doc false
  defmacro __using__(options) do
    client = client(workload(options), __CALLER__)

    quote do
      @behaviour FuzzDist.Test
      unquote(client)
      @fuzz_dist_options unquote(options)

      @impl FuzzDist.Test
      def spec, do: FuzzDist.Spec.build!(__MODULE__, @fuzz_dist_options)
      defoverridable spec: 0

      @doc false
      def __fuzz_dist_test__, do: true
    end
  end

  defp workload(options) do
    if Keyword.keyword?(options), do: Keyword.get(options, :workload)
  end

  defp client(nil, _caller), do: quote(do: use(FuzzDist.Client))

  defp client(name, caller) do
    case FuzzDist.Workload.modules() do
      %{^name => module} ->
        quote(do: use(unquote(module)))

      modules ->
        raise CompileError,
          file: caller.file,
          line: caller.line,
          description:
            "use FuzzDist.Test: there is no workload #{Macro.to_string(name)}" <>
              if(is_atom(name), do: FuzzDist.Suggest.hint(name, Map.keys(modules)), else: "") <>
              "; there are #{modules |> Map.keys() |> Enum.map_join(", ", &inspect/1)}"
    end
  end

  @doc "Whether `module` is a test."
  @spec test?(module()) :: boolean()
  def test?(module),
    do: Code.ensure_loaded?(module) and function_exported?(module, :__fuzz_dist_test__, 0)
end
