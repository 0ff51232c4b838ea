defmodule FuzzDist.Project do
  @moduledoc false
  # The mix project that a test runs in: compiles it, finds its tests, and says how its nodes start.

  alias FuzzDist.{Client, InputError, Spec, Suggest, SysConfig}

  @folders ["fuzz_dist", "test/fuzz_dist"]

  @doc false
  # Compiles and configures the project. Whatever is raised there comes from the user's own files.
  def load! do
    for task <- ["loadpaths", "compile"], do: Mix.Task.run(task)
    configure!()
  rescue
    error in [Mix.Error, CompileError, SyntaxError, TokenMissingError] ->
      reraise InputError, [message: Exception.message(error)], __STACKTRACE__

    error in InputError ->
      reraise error, __STACKTRACE__

    error ->
      text = Exception.format_banner(:error, error, __STACKTRACE__)
      reraise InputError, [message: "the project does not compile: #{text}"], __STACKTRACE__
  catch
    :exit, {:shutdown, _status} -> raise InputError, "the project does not compile"
  end

  # Evaluates config/runtime.exs, in which anything can be raised.
  defp configure! do
    Mix.Task.run("app.config")
    :ok
  catch
    kind, reason ->
      file = Mix.Project.config()[:config_path] |> Path.dirname() |> Path.join("runtime.exs")
      where = raised_in(__STACKTRACE__) || "#{Path.relative_to_cwd(file)}: "
      text = Exception.format_banner(kind, reason, __STACKTRACE__)
      reraise InputError, [message: where <> text], __STACKTRACE__
  end

  # The file of the project whose code raised, as `config/runtime.exs:7: `.
  defp raised_in(stacktrace) do
    Enum.find_value(stacktrace, fn {_module, _function, _arity, location} ->
      file = Keyword.get(location, :file, ~c"")
      path = file |> to_string() |> Path.relative_to_cwd()
      if Path.extname(path) == ".exs" and File.regular?(path), do: "#{path}:#{location[:line]}: "
    end)
  end

  @doc false
  # The specs of the tests that `names` mean, written to the build folder: their paths.
  @spec specs!([String.t()]) :: [Path.t()]
  def specs!(names) do
    load!()
    ebin = ebin()
    File.rm_rf!(ebin)

    for module <- tests!(names, ebin) do
      path = Path.join(folder(module), "spec.toml")
      header = "# Written by mix fuzz_dist.run from #{inspect(module)}.\n"
      spec = spec!(module, folder(module), ebin)
      File.write!(path, header <> Spec.to_toml(spec))
      path
    end
  end

  @doc false
  # Builds again what the nodes of an earlier run of the test `name` load: the project, the file of
  # the test, the configuration. The paths stay those that the stored spec has.
  @spec rebuild!(String.t()) :: :ok
  def rebuild!(name) do
    load!()

    with {:ok, path} <- name |> source() |> File.read(),
         true <- File.regular?(path),
         do: from_file!(path, ebin())

    module = Client.module(name)

    unless FuzzDist.Test.test?(module) do
      raise InputError, "the run is of the test #{name}, which is not in the project any longer"
    end

    _ = spec!(module, folder(module), ebin())
    :ok
  end

  defp root, do: Path.join(Mix.Project.build_path(), "fuzz_dist")
  defp ebin, do: Path.join(root(), "ebin")
  defp folder(module), do: Path.join(root(), inspect(module))
  # Names the file that defines a test which is not part of the project.
  defp source(name), do: Path.join([root(), name, "source"])

  # The test modules that `names` mean (files, modules; all there are when empty). Modules of files
  # are written to `ebin`, from which nodes load them.
  defp tests!([], ebin) do
    files = files()
    modules = Enum.filter(project_modules(), &FuzzDist.Test.test?/1)

    case modules ++ Enum.flat_map(files, &from_file!(&1, ebin)) do
      [] ->
        raise InputError,
              "there is no test: no module with `use FuzzDist.Test` in the project, and none in " <>
                "#{Enum.join(patterns(), ", ")}. `mix fuzz_dist.new` writes a first one"

      tests ->
        Enum.uniq(tests)
    end
  end

  defp tests!(names, ebin), do: names |> Enum.flat_map(&named!(&1, ebin)) |> Enum.uniq()

  defp named!(name, ebin) do
    if Path.extname(name) in [".ex", ".exs"] or String.contains?(name, "/"),
      do: from_file!(name, ebin),
      else: [module!(name, ebin)]
  end

  defp from_file!(path, ebin) do
    unless File.regular?(path) do
      raise InputError, "there is no file #{path}#{Suggest.hint(path, files())}"
    end

    File.mkdir_p!(ebin)
    compiled = compile!(path)

    for {module, binary} <- compiled, do: File.write!(Path.join(ebin, "#{module}.beam"), binary)

    case for({module, _} <- compiled, FuzzDist.Test.test?(module), do: module) do
      [] -> raise InputError, "#{path} defines no module with `use FuzzDist.Test`"
      tests -> Enum.each(tests, &remember!(&1, path)) && tests
    end
  end

  defp remember!(module, path) do
    source = module |> inspect() |> source()
    File.mkdir_p!(Path.dirname(source))
    File.write!(source, Path.expand(path))
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
        # It may be in a file that is not part of the project, or be the name of a test.
        tests =
          Enum.flat_map(files(), &from_file!(&1, ebin)) ++
            Enum.filter(project_modules(), &FuzzDist.Test.test?/1)

        Enum.find(tests, &(&1 == module or &1.spec()[:name] == name)) ||
          raise InputError, "there is no test #{name}#{Suggest.hint(name, names(tests))}"
    end
  end

  defp names(tests), do: Enum.flat_map(tests, &[inspect(&1), &1.spec()[:name]])

  defp files, do: Enum.flat_map(patterns(), &Path.wildcard/1)

  # In the root of an umbrella, the folders of its applications too.
  defp patterns do
    roots = [""] ++ if(Mix.Project.umbrella?(), do: umbrella_roots(), else: [])
    for root <- roots, folder <- @folders, do: Path.join([root, folder, "*.exs"])
  end

  defp umbrella_roots, do: Mix.Project.apps_paths() |> Map.values() |> Enum.sort()

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

  # The spec of `module` with what makes plain `erl` nodes run this project; files go to `dir`.
  # A client that lacks a callback is refused here, before a node starts.
  defp spec!(module, dir, ebin) do
    spec = module.spec()
    validate!(get_in(spec, [:client, :module]))
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

  # A client that is not of this project is checked where it is loaded.
  defp validate!(nil), do: :ok

  defp validate!(name) do
    client = Client.module(name)

    with true <- Code.ensure_loaded?(client),
         {:error, lacks} <- Client.validate(client),
         do: raise(InputError, lacks),
         else: (_ -> :ok)
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
