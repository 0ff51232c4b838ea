defmodule Mix.Tasks.FuzzDist.Replay do
  @shortdoc "Runs the stored faults of a run again"

  @moduledoc """
  Runs the stored spec, seed and faults of a run again, with the project as it is now.

      mix fuzz_dist.replay RUN

  The project and the file of the test are compiled first, as `mix fuzz_dist.run` does, and the nodes
  get the project's current configuration: after a fix, this is the run whose verdict has to change.
  Options of the test (its time limit, its faults) stay those of the stored run.

  All arguments are given to `fuzz_dist replay`, whose `--help` lists them:

      mix fuzz_dist.replay latest
      mix fuzz_dist.replay --help

  Exit status: 0 valid, 1 invalid, 2 unknown, 254 wrong arguments or input, 255 a failure of fuzz_dist
  itself.
  """

  use Mix.Task

  alias FuzzDist.{Command, Core, StoredRun}

  @impl true
  def run(arguments) do
    Command.exit_with(fn ->
      if Enum.any?(arguments, &(&1 in ["--help", "-h", "--print-spec"])),
        do: Core.run(["replay" | arguments]),
        else: rebuild_and_run(arguments)
    end)
  end

  defp rebuild_and_run(arguments) do
    case StoredRun.rebuild!(arguments) do
      :ok ->
        Core.run(["replay" | arguments], life_line: true)

      {:refused, output, status} ->
        IO.write(output)
        status
    end
  end
end
