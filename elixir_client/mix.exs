defmodule Mix.Tasks.Compile.FuzzDistNative do
  # Builds the core (the Rust binary `fuzz_dist`), the library of its checkers and, on Linux, the port driver that
  # carries distribution with faults (`-proto_dist fuzz`) and the library that is preloaded for faults of clocks and
  # disks, and installs them into this application's own priv under _build, so that a path dependency and a git
  # dependency with `subdir:` both work. There is no priv in the source tree: mix would link _build's to it, and the binary would land
  # among sources. It is defined here since a compiler must exist before lib/ is compiled.
  #
  # FUZZ_DIST_BIN and FUZZ_DIST_NIF name what is built already, and is used where it lies. With a binary
  # given nothing is built; the libraries are then taken from beside it, if they are there. Without the first
  # everything works but FuzzDist.check/3 and FuzzDist.History, without the others everything but faults of the
  # carrier plane, of clocks and of disks, and all say so: none fails a compilation.
  @moduledoc false
  use Mix.Task.Compiler

  @root Path.expand("..", __DIR__)
  @library "fuzz_dist_nif.so"

  # What is loaded into nodes, all of it of Linux: file, package, and what does not work without it.
  @loaded [
    {"libfuzz_dist_driver.so", "fuzz_dist_driver", "faults of the carrier plane"},
    {"libfuzz_dist_shim.so", "fuzz_dist_shim", "faults of clocks and disks"}
  ]

  @impl true
  def run(_arguments) do
    core = given("FUZZ_DIST_BIN")
    first = core_and_library(core, given("FUZZ_DIST_NIF"))
    Enum.reduce(@loaded, first, fn one, before -> both(before, fn -> loaded(core, one) end) end)
  end

  defp core_and_library(nil, nil), do: build_both()

  defp core_and_library(nil, library),
    do: both(use_given("FUZZ_DIST_NIF", library), &build_core/0)

  defp core_and_library(core, nil),
    do:
      both(use_given("FUZZ_DIST_BIN", core), fn -> from_beside(core, library_name(), @library) end)

  defp core_and_library(core, library),
    do: both(use_given("FUZZ_DIST_BIN", core), fn -> use_given("FUZZ_DIST_NIF", library) end)

  defp loaded(core, {file, package, faults}) do
    cond do
      :os.type() != {:unix, :linux} -> {:noop, []}
      core -> from_beside(core, file, file)
      cargo([package]) == :ok -> install_built(file, file)
      true -> without(package, faults <> " will not work")
    end
  end

  @impl true
  def manifests, do: []

  @impl true
  def clean do
    loaded = for {file, _, _} <- @loaded, do: file
    Enum.each(["fuzz_dist", @library | loaded], &File.rm(installed(&1)))
  end

  defp given(variable) do
    case System.get_env(variable) do
      empty when empty in [nil, ""] -> nil
      path -> path
    end
  end

  defp use_given(variable, path) do
    if File.regular?(path),
      do: {:noop, []},
      else: failed("#{variable} names #{path}, which is not a file")
  end

  defp from_beside(core, built, name) do
    library = core |> Path.dirname() |> Path.join(built)
    if File.regular?(library), do: install(library, name), else: {:noop, []}
  end

  # The result of two steps, the second only after the first succeeded.
  defp both({:error, _} = error, _second), do: error

  defp both({status, diagnostics}, second) do
    case second.() do
      {:noop, more} -> {status, diagnostics ++ more}
      {other, more} -> {other, diagnostics ++ more}
    end
  end

  # Together, so that what they share is compiled once.
  defp build_both do
    with :ok <- can_build(),
         :ok <- cargo(["fuzz_dist", "fuzz_dist_nif"]) do
      both(install_built("fuzz_dist", "fuzz_dist"), fn ->
        install_built(library_name(), @library)
      end)
    else
      {:failed, _} ->
        both(build_core(), fn ->
          without("fuzz_dist_nif", "FuzzDist.check/3 and FuzzDist.History will not work")
        end)

      error ->
        error
    end
  end

  defp build_core do
    with :ok <- can_build(),
         :ok <- cargo(["fuzz_dist"]) do
      install_built("fuzz_dist", "fuzz_dist")
    else
      {:failed, message} -> failed(message)
      error -> error
    end
  end

  defp can_build do
    cond do
      not File.regular?(Path.join(@root, "Cargo.toml")) ->
        failed(
          "there is no Cargo.toml in #{@root}: as a git dependency fuzz_dist needs " <>
            "`subdir: \"elixir_client\"` (not `sparse:`), so that the Rust sources come along"
        )

      is_nil(System.find_executable("cargo")) ->
        failed(
          "cargo is needed to build the core of fuzz_dist and is not on the PATH. Install Rust " <>
            "(https://rustup.rs), or set FUZZ_DIST_BIN to a fuzz_dist binary that exists"
        )

      true ->
        :ok
    end
  end

  defp cargo(packages) do
    arguments = ["build", "--release", "--locked" | Enum.flat_map(packages, &["-p", &1])]
    options = [cd: @root, stderr_to_stdout: true, into: IO.stream(:stdio, :line)]

    case System.cmd("cargo", arguments, options) do
      {_, 0} ->
        :ok

      {_, status} ->
        {:failed, "`cargo #{Enum.join(arguments, " ")}` in #{@root} ended with #{status}"}
    end
  end

  # As cargo calls it; the VM wants .so everywhere.
  defp library_name do
    case :os.type() do
      {:unix, :darwin} -> "libfuzz_dist_nif.dylib"
      _ -> "libfuzz_dist_nif.so"
    end
  end

  defp install_built(built, name) do
    target = Path.expand(System.get_env("CARGO_TARGET_DIR") || "target", @root)
    install(Path.join([target, "release", built]), name)
  end

  # What runs or is mapped must not be overwritten: copy aside, then rename.
  defp install(built, name) do
    installed = installed(name)

    if same?(built, installed) do
      {:noop, []}
    else
      File.mkdir_p!(Path.dirname(installed))
      aside = "#{installed}.#{System.pid()}"
      File.cp!(built, aside)
      File.rename!(aside, installed)
      {:ok, []}
    end
  end

  defp same?(built, installed) do
    with {:ok, %{size: size, mtime: built_at}} <- File.stat(built),
         {:ok, %{size: ^size, mtime: installed_at}} <- File.stat(installed),
         do: installed_at >= built_at,
         else: (_ -> false)
  end

  defp installed(name), do: Path.join([Mix.Project.app_path(), "priv", name])

  defp failed(message), do: {:error, [told(message, :error)]}

  defp without(package, consequence),
    do: {:noop, [told("`cargo build -p #{package}` fails: #{consequence}", :warning)]}

  defp told(message, severity) do
    Mix.shell().error("fuzz_dist: " <> message)

    %Mix.Task.Compiler.Diagnostic{
      compiler_name: "fuzz_dist_native",
      file: Path.join(__DIR__, "mix.exs"),
      position: nil,
      severity: severity,
      message: message
    }
  end
end

defmodule FuzzDist.MixProject do
  use Mix.Project

  def project do
    [
      app: :fuzz_dist,
      version: "0.1.0",
      elixir: "~> 1.14",
      description: "Jepsen for the BEAM: real clusters, real faults, checked histories",
      elixirc_paths: if(Mix.env() == :test, do: ["lib", "test/support"], else: ["lib"]),
      compilers: compilers(Mix.env()),
      test_paths: ["test"],
      deps: deps(),
      package: [licenses: ["Apache-2.0"]],
      docs: [main: "FuzzDist"]
    ]
  end

  def application, do: [extra_applications: extra_applications(Mix.env())]

  # The stand-in for the core in tests computes the answer to the handshake as a server does.
  defp extra_applications(:test), do: [:logger, :crypto]
  defp extra_applications(_), do: [:logger]

  # Its own unit tests need no core; whoever depends on it compiles it in :prod.
  defp compilers(:test), do: Mix.compilers()
  defp compilers(_), do: Mix.compilers() ++ [:fuzz_dist_native]

  # Without Hex not even an optional dependency may be declared: mix would stop.
  defp deps do
    if Code.ensure_loaded?(Hex), do: [{:telemetry, "~> 1.0", optional: true}], else: []
  end
end
