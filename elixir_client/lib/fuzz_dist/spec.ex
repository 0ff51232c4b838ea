defmodule FuzzDist.Spec do
  @moduledoc """
  The spec of a test, made from the options of `use FuzzDist.Test`: what the core reads as TOML
  (`doc/spec.md`). Names of options are checked here, values by the core, which knows them.
  """

  import FuzzDist.Spec.Nemesis, only: [dashed: 1, known!: 3]

  alias FuzzDist.{InputError, Suggest, Toml, Workload}
  alias FuzzDist.Spec.Nemesis

  @top ~w(name seed nodes concurrency time_limit_s op_timeout_ms rate warm_up_s recovery_s
          recovery_check placement roles cluster client_options client workload workload_options generator final_generator nemesis
          checkers store)a
  @cluster ~w(command env naming cookie net_ticktime_s net_tickintensity
              prevent_overlapping_partitions time_warp connect restart_crashed ready_timeout_ms ports code_paths
              carrier network)a
  @client ~w(module options count command code_paths)a
  @checker ~w(name options)a
  # The places of tables, which differ from lists only where they have entries.
  @tables [
    [:cluster],
    [:cluster, :env],
    [:client],
    [:client, :options],
    [:workload],
    [:workload, :options],
    [:nemesis],
    [:nemesis, :boundaries],
    [:roles]
  ]
  @plain ~w(name seed nodes concurrency time_limit_s op_timeout_ms rate warm_up_s recovery_s recovery_check
            placement store roles)a

  @doc false
  # The options that there are, by place; the core's own tests compare them with its keys.
  @spec known() :: %{atom() => [atom()]}
  def known,
    do:
      Map.merge(Nemesis.known(), %{
        spec: @top,
        cluster: @cluster,
        client: @client,
        checker: @checker
      })

  @typedoc "A spec: keyword lists, in the order in which they are written."
  @type t :: keyword()

  @doc "The spec of `module` with these options. Raises `FuzzDist.InputError`."
  @spec build!(module(), keyword()) :: t()
  def build!(module, options) do
    where = "use FuzzDist.Test in #{inspect(module)}"
    known!(options, @top, where)
    cluster = section!(options, :cluster, @cluster, where)
    client = section!(options, :client, @client, where)

    options
    |> Keyword.take(@plain)
    |> Keyword.put_new(:name, default_name(module))
    |> Keyword.merge(
      cluster:
        cluster
        |> Keyword.update(:ports, nil, &ports/1)
        |> Keyword.replace_lazy(:carrier, &names/1),
      client: client |> Keyword.merge(client_options(module, options, client)),
      workload: workload(options, Keyword.get(client, :module, module), where),
      nemesis: options |> Keyword.get(:nemesis, []) |> Nemesis.build!(where),
      checkers: checkers(options[:checkers], where)
    )
  end

  @doc """
  The spec as TOML.

  A table without entries is left out: `nemesis: []` means the same as no `nemesis:`. An empty
  keyword list looks like an empty list, so what is a table is known by its place.
  """
  @spec to_toml(t()) :: String.t()
  def to_toml(spec), do: spec |> without_empty_tables([]) |> Toml.encode()

  # Inner tables first: a table may have nothing but empty ones.
  defp without_empty_tables(entries, path) do
    entries
    |> Enum.map(fn {name, value} -> {name, inner_tables(value, path ++ [name])} end)
    |> Enum.reject(fn {name, value} ->
      (path ++ [name]) in @tables and value in [nil, [], %{}]
    end)
  end

  defp inner_tables(value, place) when place in @tables and is_list(value),
    do: without_empty_tables(value, place)

  defp inner_tables(value, _place), do: value

  @doc "Merges keyword list `changes` into the section `name` of a spec."
  @spec update(t(), atom(), keyword()) :: t()
  def update(spec, name, changes) do
    Keyword.update(spec, name, changes, &Keyword.merge(&1, changes))
  end

  defp client_options(module, options, client) do
    given = Keyword.get(options, :client_options) || Keyword.get(client, :options, [])
    [module: inspect(Keyword.get(client, :module, module)), options: Map.new(given)]
  end

  # Names may come as :my_port.
  defp ports(ports),
    do: Enum.map(ports, fn port -> if is_list(port), do: port, else: [name: port] end)

  defp names(names), do: Enum.map(names, &to_string/1)

  defp workload(options, client, where) do
    name = options[:workload]
    generator = options[:generator]

    cond do
      is_nil(name) and is_nil(generator) ->
        names = Workload.modules() |> Map.keys() |> Enum.map_join(", ", &inspect/1)
        raise InputError, "#{where}: give `workload:` (one of #{names}) or a `generator:`"

      is_nil(name) or is_map_key(Workload.modules(), name) ->
        [
          name: name,
          options: workload_options(name, options[:workload_options] || [], client),
          generator: generator,
          final_generator: options[:final_generator]
        ]

      true ->
        hint = Suggest.hint(name, Map.keys(Workload.modules()))
        raise InputError, "#{where}: there is no workload #{inspect(name)}#{hint}"
    end
  end

  # A register without cas/4 is tested without compare-and-set.
  defp workload_options(:register, options, client) do
    has_cas? = not Code.ensure_loaded?(client) or function_exported?(client, :cas, 4)
    if has_cas?, do: Map.new(options), else: options |> Map.new() |> Map.put_new(:cas, false)
  end

  defp workload_options(_name, options, _client), do: Map.new(options)

  defp checkers(nil, _where), do: nil

  defp checkers(checkers, where) do
    Enum.map(checkers, fn
      name when is_atom(name) or is_binary(name) ->
        [name: dashed(name)]

      checker ->
        known!(checker, @checker, "#{where}, checkers")
        options = for {key, value} <- checker[:options] || [], do: {dashed(key), value}
        [name: dashed(checker[:name]), options: Map.new(options)]
    end)
  end

  defp section!(options, name, known, where) do
    section = Keyword.get(options, name, [])
    known!(section, known, "#{where}, #{name}:")
    section
  end

  # MyApp.RegisterTest -> "my_app-register_test"
  defp default_name(module) do
    module |> inspect() |> Macro.underscore() |> String.replace("/", "-")
  end
end
