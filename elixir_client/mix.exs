defmodule Mix.Tasks.Compile.FuzzDistNative do
  # Builds the core (the Rust binary `fuzz_dist`) and installs it into this application's own priv
  # under _build, so that a path dependency and a git dependency with `subdir:` both work. There is no
  # priv in the source tree: mix would link _build's to it, and the binary would land among sources.
  # It is defined here since a compiler must exist before lib/ is compiled.
  @moduledoc false
  use Mix.Task.Compiler

  @impl true
  def run(_arguments) do
    case System.get_env("FUZZ_DIST_BIN") do
      empty when empty in [nil, ""] -> build()
      path -> use_given(path)
    end
  end

  @impl true
  def manifests, do: []

  @impl true
  def clean, do: File.rm(installed())

  defp use_given(path) do
    if File.regular?(path),
      do: {:noop, []},
      else: failed("FUZZ_DIST_BIN names #{path}, which is not a file")
  end

  defp build do
    root = Path.expand("..", __DIR__)

    cond do
      not File.regular?(Path.join(root, "Cargo.toml")) ->
        failed(
          "there is no Cargo.toml in #{root}: as a git dependency fuzz_dist needs " <>
            "`subdir: \"elixir_client\"` (not `sparse:`), so that the Rust sources come along"
        )

      is_nil(System.find_executable("cargo")) ->
        failed(
          "cargo is needed to build the core of fuzz_dist and is not on the PATH. Install Rust " <>
            "(https://rustup.rs), or set FUZZ_DIST_BIN to a fuzz_dist binary that exists"
        )

      true ->
        cargo(root)
    end
  end

  defp cargo(root) do
    arguments = ["build", "--release", "--locked", "-p", "fuzz_dist"]
    target = Path.expand(System.get_env("CARGO_TARGET_DIR") || "target", root)
    options = [cd: root, stderr_to_stdout: true, into: IO.stream(:stdio, :line)]

    case System.cmd("cargo", arguments, options) do
      {_, 0} ->
        install(Path.join(target, "release/fuzz_dist"))

      {_, status} ->
        failed("`cargo #{Enum.join(arguments, " ")}` in #{root} ended with #{status}")
    end
  end

  # A binary that runs must not be overwritten: copy aside, then rename.
  defp install(built) do
    installed = installed()

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

  defp installed, do: Path.join([Mix.Project.app_path(), "priv", "fuzz_dist"])

  defp failed(message) do
    Mix.shell().error("fuzz_dist: " <> message)

    {:error,
     [
       %Mix.Task.Compiler.Diagnostic{
         compiler_name: "fuzz_dist_native",
         file: Path.join(__DIR__, "mix.exs"),
         position: nil,
         severity: :error,
         message: message
       }
     ]}
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
      elixirc_options: [warnings_as_errors: true],
      erlc_options: [:debug_info, :warnings_as_errors],
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
