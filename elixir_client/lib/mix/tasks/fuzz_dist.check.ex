defmodule Mix.Tasks.FuzzDist.Check do
  @shortdoc "Checks a recorded history against a property"

  @moduledoc """
  Checks a recorded history against a property.

      mix fuzz_dist.check HISTORY --checker NAME [--option k=v ...]

  All arguments are given to `fuzz_dist check`, whose `--help` lists them:

      mix fuzz_dist.check --checker linearizable --model cas-register --independent history.edn
      mix fuzz_dist.check --checker list-append --svg drawings history.edn.gz
      mix fuzz_dist.check --list
      mix fuzz_dist.check --help

  `-` is standard input; it is kept in a temporary file, since this VM reads what stands there first.

  Exit status: 0 valid, 1 invalid, 2 unknown, 254 wrong arguments or input, 255 a failure of fuzz_dist
  itself.
  """

  use Mix.Task

  alias FuzzDist.{Command, Core}

  @chunk_bytes 65_536

  @impl true
  def run(arguments) do
    Command.exit_with(fn ->
      if "-" in arguments, do: with_input(arguments), else: Core.run(["check" | arguments])
    end)
  end

  defp with_input(arguments) do
    name = "fuzz_dist-#{System.pid()}-#{System.unique_integer([:positive])}"
    folder = Path.join(System.tmp_dir!(), name)
    path = Path.join(folder, "standard-input")
    File.mkdir_p!(folder)

    try do
      # As bytes: it may be compressed.
      :ok = :io.setopts(:standard_io, encoding: :latin1)
      IO.binstream(:stdio, @chunk_bytes) |> Stream.into(File.stream!(path)) |> Stream.run()
      Core.run(["check" | Enum.map(arguments, &if(&1 == "-", do: path, else: &1))])
    after
      File.rm_rf!(folder)
    end
  end
end
