defmodule Mix.Tasks.FuzzDist.New do
  @shortdoc "Writes a first fuzz_dist test for this project"

  @moduledoc """
  Writes a first test for the project it stands in: `fuzz_dist/NAME.exs`.

      mix fuzz_dist.new [NAME]

  `NAME` (`register`) names the file and its module, `MyApp.RegisterTest`. The test runs as it is, with
  `mix fuzz_dist.run`: it starts three nodes of this project's application, cuts them from each other for
  shorter and longer than the BEAM tolerates, and checks a register that one process holds for the whole
  cluster. Then replace its three functions with calls of your own system.

  A file that exists is never overwritten. Exit status: 0, or 254 when nothing was written.
  """

  use Mix.Task

  alias FuzzDist.{Command, InputError}

  @impl true
  def run(arguments) do
    Command.exit_with(fn ->
      {_options, names} = Command.parse!(arguments, [])
      name = name!(names)
      app = app!()
      path = Path.join("fuzz_dist", "#{name}.exs")
      module = "#{Macro.camelize(app)}.#{Macro.camelize(name)}Test"
      write!(path, template(module, name))
      Mix.shell().info(hints(path, module))
      0
    end)
  end

  defp name!([]), do: "register"

  defp name!([name]) do
    if name =~ ~r/\A[a-z][a-z0-9_]*\z/,
      do: name,
      else:
        raise(
          InputError,
          "a test is named with lower case letters, digits and `_`, not `#{name}`"
        )
  end

  defp name!(names), do: raise(InputError, "expected one name, found #{Enum.join(names, ", ")}")

  defp app! do
    cond do
      app = Mix.Project.config()[:app] ->
        Atom.to_string(app)

      Mix.Project.umbrella?() ->
        apps = Mix.Project.apps_paths() |> Map.values() |> Enum.sort() |> Enum.join(", ")
        raise InputError, "this is the root of an umbrella: run it in an application (#{apps})"

      true ->
        raise InputError, "no mix project in this folder: run it where your mix.exs is"
    end
  end

  # `:exclusive` refuses what exists, in one step.
  defp write!(path, text) do
    File.mkdir_p!(Path.dirname(path))

    case File.write(path, text, [:exclusive]) do
      :ok ->
        :ok

      {:error, :eexist} ->
        raise InputError, "#{path} exists already; give another name, or remove it"

      {:error, reason} ->
        raise InputError, "#{path} cannot be written: #{:file.format_error(reason)}"
    end
  end

  defp hints(path, module) do
    formatter =
      if formatted?(),
        do: "",
        else: "\n  add `import_deps: [:fuzz_dist]` and \"fuzz_dist/*.exs\" to .formatter.exs"

    """
    Wrote #{path} with #{module}. Now:

      mix fuzz_dist.run              three nodes of your application, about half a minute
      mix help fuzz_dist.run         its options

    Then replace `read`, `write` and `cas` with calls of your own system. You may also want to
      add /store, where runs are kept, to .gitignore#{formatter}
    """
  end

  defp formatted? do
    case File.read(".formatter.exs") do
      {:ok, text} -> text =~ "fuzz_dist"
      {:error, _} -> false
    end
  end

  defp template(module, name) do
    """
    defmodule #{module} do
      # Run it with `mix fuzz_dist.run fuzz_dist/#{name}.exs`; `h FuzzDist.Test` explains the options.
      use FuzzDist.Test,
        workload: :register,
        nodes: 3,
        time_limit_s: 20,
        rate: 100,
        # Four seconds instead of OTP's sixty, so that a test sees nodes go down and come back.
        cluster: [net_ticktime_s: 4],
        # Without this a mix of partitions, bad links, killed and paused nodes would be injected, which the system below
        # is not made for. `--nemesis default` tries it, and `nemesis: :none` injects nothing.
        nemesis: [
          interval_s: 2,
          faults: [
            # Partitions that no node may notice, and partitions that every node must.
            [kind: :hold, targets: [:one, :halves], zones: [:certainly_below, :certainly_above]]
          ]
        ]

      # The system under test, for now: one process for the whole cluster, found through :global. What
      # follows runs in each node, beside your application: replace it with calls of your own.
      @register {:global, __MODULE__}

      @impl FuzzDist.Client
      def setup(_node, _context) do
        case Agent.start(fn -> %{} end, name: @register) do
          {:ok, _pid} -> :ok
          {:error, {:already_started, _pid}} -> :ok
        end
      end

      @impl FuzzDist.Client
      def ready(_node, _context), do: is_pid(GenServer.whereis(@register))

      @impl true
      def read(key, _connection), do: {:ok, Agent.get(@register, &Map.get(&1, key))}

      @impl true
      def write(key, value, _connection), do: Agent.update(@register, &Map.put(&1, key, value))

      @impl true
      def cas(key, from, to, _connection) do
        Agent.get_and_update(@register, fn values ->
          if Map.get(values, key) == from,
            do: {:ok, Map.put(values, key, to)},
            else: {{:fail, :mismatch}, values}
        end)
      end
    end
    """
  end
end
