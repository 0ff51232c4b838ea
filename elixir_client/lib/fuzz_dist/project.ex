defmodule FuzzDist.Project do
  @moduledoc false
  # The mix project that a test runs in: compiles it, finds its tests, and says how its nodes start.

  alias FuzzDist.{InputError, Spec, Suggest, SysConfig}

  @patterns ["fuzz_dist/*.exs", "test/fuzz_dist/*.exs"]

  @doc false
  # Compiles and configures the project; everything that goes wrong there is the user's to mend.
  def load! do
    for task <- ["loadpaths", "app.config"], do: Mix.Task.run(task)
    :ok
  rescue
    error in [Mix.Error, CompileError, SyntaxError, TokenMissingError] ->
      reraise InputError, [message: Exception.message(error)], __STACKTRACE__
  catch
    :exit, {:shutdown, _status} -> raise InputError, "the project does not compile"
  end

  @doc false
  # The test modules that `names` mean (files, modules; all there are when empty). Modules of files
  # are written to `ebin`, from which nodes load them.
  def tests!([], ebin) do
    files = Enum.flat_map(@patterns, &Path.wildcard/1)
    modules = Enum.filter(project_modules(), &FuzzDist.Test.test?/1)

    case modules ++ Enum.flat_map(files, &from_file!(&1, ebin)) do
      [] ->
        raise InputError,
              "there is no test: no module with `use FuzzDist.Test` in the project, and none in " <>
                "#{Enum.join(@patterns, ", ")}. `mix fuzz_dist.new` writes a first one"

      tests ->
        Enum.uniq(tests)
    end
  end

  def tests!(names, ebin), do: names |> Enum.flat_map(&named!(&1, ebin)) |> Enum.uniq()

  defp named!(name, ebin) do
    if Path.extname(name) in [".ex", ".exs"] or String.contains?(name, "/"),
      do: from_file!(name, ebin),
      else: [module!(name, ebin)]
  end

  defp from_file!(path, ebin) do
    unless File.regular?(path) do
      nearby = Enum.flat_map(@patterns, &Path.wildcard/1)
      raise InputError, "there is no file #{path}#{Suggest.hint(path, nearby)}"
    end

    File.mkdir_p!(ebin)
    compiled = compile!(path)

    for {module, binary} <- compiled, do: File.write!(Path.join(ebin, "#{module}.beam"), binary)

    case for({module, _} <- compiled, FuzzDist.Test.test?(module), do: module) do
      [] -> raise InputError, "#{path} defines no module with `use FuzzDist.Test`"
      tests -> tests
    end
  end

  defp compile!(path) do
    Code.compile_file(path)
  rescue
    error ->
      text = Exception.format_banner(:error, error, __STACKTRACE__)
      reraise InputError, [message: "#{path} does not compile: #{text}"], __STACKTRACE__
  end

  defp module!(name, ebin) do
    module = Module.concat([name])

    cond do
      FuzzDist.Test.test?(module) ->
        module

      Code.ensure_loaded?(module) ->
        raise InputError, "#{name} is not a test: it has no `use FuzzDist.Test`"

      true ->
        # It may be in a file that is not part of the project.
        found =
          @patterns |> Enum.flat_map(&Path.wildcard/1) |> Enum.flat_map(&from_file!(&1, ebin))

        candidates =
          Enum.map(found ++ Enum.filter(project_modules(), &FuzzDist.Test.test?/1), &inspect/1)

        if module in found,
          do: module,
          else: raise(InputError, "there is no module #{name}#{Suggest.hint(name, candidates)}")
    end
  end

  defp project_modules do
    Enum.flat_map(apps(), fn app ->
      _ = Application.load(app)
      Application.spec(app, :modules) || []
    end)
  end

  # Of an umbrella, all it has.
  defp apps do
    case Mix.Project.apps_paths() do
      nil -> List.wrap(Mix.Project.config()[:app])
      paths -> paths |> Map.keys() |> Enum.sort()
    end
  end

  @doc false
  # The spec of `module` with what makes plain `erl` nodes run this project; files go to `dir`.
  def spec!(module, dir, ebin) do
    spec = module.spec()
    config = write_config!(dir)
    paths = code_paths(ebin)
    cluster = spec[:cluster] || []

    env =
      for {name, value} <- cluster[:env] || %{},
          into: %{"FUZZ_DIST_APP" => Enum.join(apps(), ",")},
          do: {to_string(name), value}

    spec
    |> Spec.update(:cluster,
      command: cluster[:command] || command(config),
      env: env,
      code_paths: paths ++ (cluster[:code_paths] || [])
    )
    |> Spec.update(:client, code_paths: paths ++ (get_in(spec, [:client, :code_paths]) || []))
  end

  # Several VMs share the machine: schedulers that spin while idle would take it from the others.
  defp command(config) do
    ~w(erl -noinput +sbwt none +sbwtdcpu none +sbwtdio none -config) ++
      [config, "-s", "fuzz_dist_boot", "start"]
  end

  defp write_config!(dir) do
    {text, dropped} = SysConfig.render(applications())

    for {application, key} <- dropped do
      Mix.shell().error(
        "fuzz_dist: the configuration #{inspect(application)}, #{inspect(key)} cannot be given to " <>
          "the nodes (it holds a process, a reference or an anonymous function)"
      )
    end

    File.mkdir_p!(dir)
    path = Path.join(dir, "sys.config")
    File.write!(path, text)
    path
  end

  # Those that the build has; kernel and stdlib get their settings from the spec.
  defp applications do
    built =
      for path <- Path.wildcard(Path.join(Mix.Project.build_path(), "lib/*/ebin/*.app")),
          do: path |> Path.basename(".app") |> String.to_atom()

    Enum.each(built, &Application.load/1)
    Enum.sort(built -- [:fuzz_dist]) ++ [:logger]
  end

  # Consolidated protocols first: they replace those of Elixir and of dependencies.
  defp code_paths(ebin) do
    build = Mix.Project.build_path()
    consolidated = Path.wildcard(Path.join(build, "lib/*/consolidated"))
    project = Path.wildcard(Path.join(build, "lib/*/ebin"))
    own = if File.dir?(ebin), do: [ebin], else: []
    # Mix takes applications that the project does not name out of the code path, but not Elixir.
    libraries = :elixir |> :code.lib_dir() |> Path.dirname()
    elixir = for app <- ["elixir", "logger", "eex"], do: Path.join([libraries, app, "ebin"])
    Enum.uniq(consolidated ++ own ++ project ++ [own_ebin()] ++ elixir)
  end

  defp own_ebin, do: Application.app_dir(:fuzz_dist, "ebin")
end
